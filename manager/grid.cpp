#include "manager/grid.h"

#include <gloox/tag.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <tuple>

#include "manager/history.h"
#include "protocol/expression.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"

namespace souk {

using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t kPageMax = 500;         // tasks in one results answer
constexpr std::size_t kPageBytes = 72 << 10;    // of streams in one results answer; the rest of kStanzaMax is for the other fields
constexpr std::uint32_t kJobsMax = 500;         // jobs in one status answer
constexpr auto kGreetMax = 3s;                  // for everybody in the market to answer before tasks are given out
constexpr std::size_t kUnsentMax = 1000;        // messages kept while there is no link; the oldest are dropped

constexpr auto kWakeMin = 20ms;                  // between two ticks: each looks at what runs
constexpr std::size_t kMatchesMax = 100;        // groups told of in a dry run
constexpr std::size_t kWarnedMax = 10;          // different requests that a job is warned of: each looks at every worker
constexpr std::size_t kWarningsMax = 5;
constexpr std::uint32_t kFailedShown = 5;       // tasks named as the reason why a job failed
constexpr std::size_t kNoteMax = 500;           // bytes

std::uint64_t now_ms() { return Clocks::read().now_ms; }
Instant now() { return Clocks::read().now; }

std::string tasks_shown(std::uint64_t tasks) { return std::to_string(tasks) + (tasks == 1 ? " task" : " tasks"); }

void write(const Reason& reason, wire::Reason& message) { message.set_workers(reason.workers), message.set_why(printable(reason.why)); }

}  // namespace

Grid::Grid(boost::asio::io_context& loop, XmppLink& link, std::unique_ptr<Journal> journal, Journal::Restored restored, Scheduler::Rules rules, AllowList workers, Limits limits)
    : loop_(loop), link_(link), journal_(std::move(journal)), epoch_(restored.epoch), scheduler_(restored.epoch, rules),
      pool_(loop, link, book_, restored.epoch, rules.lease, std::move(workers)), limits_(std::move(limits)), started_ms_(now_ms()), tick_(loop), wake_(loop), push_(loop), opening_ends_(loop) {
  pool_.tell = [this](const Event& event) { handle(event); };
  pool_.finished = [this](Pool::Finished finished) {
    const Outcome& o = finished.outcome;
    handle(AttemptFinished{finished.worker, finished.what, o.cause, o.succeeded(), o.wall, o.exit_code}, &finished);
  };
  pool_.commit = [this](std::function<void()> then) { journal_->commit(std::move(then)); };
  pool_.on_answered = [this] { open_when_settled(false); };
  handle(MarketClosed{});
  for (const OwnerSet& event : limits_.events()) handle(event);
  auto ended = restored.ended.begin();
  auto past = restored.past.begin();
  const Clocks clocks = Clocks::read();
  for (JobRow& row : restored.jobs) {
    wire::Job job;
    const bool open = row.ended_ms == 0, readable = !open || (job.ParseFromString(row.spec) && (job.has_command() || job.groups_size() > 0));
    if (!readable) spdlog::error("stored job cannot be read job={}", row.id.value);
    JobEntry& entry = book_.add(std::move(row), std::move(job));
    if (!open) continue;
    JobRestored event{event_of(entry.row.id, entry.row.owner, entry.job, clocks), {}, entry.row.canceled};
    if (!readable) event.job.groups.front().tasks = entry.row.tasks;
    event.job.terms.hold = entry.row.held;
    for (; ended != restored.ended.end() && ended->first.job == event.job.job; ++ended) event.ended.emplace_back(ended->first.task, ended->second);
    for (; past != restored.past.end() && past->task.job == event.job.job; ++past)
      event.past.push_back({past->task.task, past->runs, past->failures, past->losses, past->again_ms > 0 ? std::optional(clocks.at(past->again_ms)) : std::nullopt, past->over});
    for (const JobKnown& known : book_.ended_before(entry.job)) handle(known);
    handle(event);
  }
  spdlog::info("store read epoch={} jobs={} open={}", epoch_.value, book_.all().size(), book_.open().size());
  tick();
}

Grid::~Grid() = default;

void Grid::set_me(std::string me) {
  me_ = std::move(me);
  pool_.set_me(me_);
}

void Grid::market_closed() {
  if (!std::exchange(linked_, false)) return;
  opening_ = false;
  opening_ends_.cancel();
  handle(MarketClosed{});
  pool_.closed();
}

void Grid::market_opened() {
  linked_ = true;
  for (Stanza& message : std::exchange(unsent_, {})) link_.send(std::move(message));
  opening_ = true;
  opening_ends_.expires_after(kGreetMax);
  opening_ends_.async_wait([this](auto error) {
    if (!error) open_when_settled(true);
  });
  open_when_settled(false);
}

void Grid::open_when_settled(bool at_once) {
  if (!opening_ || (!at_once && !pool_.settled())) return;
  opening_ = false;
  opening_ends_.cancel();
  handle(MarketOpened{});
}

// ---- Events in, actions out ------------------------------------------------------------------------------------------------------

void Grid::handle(const Event& event, Pool::Finished* finished) {
  std::vector<Action> actions;
  scheduler_.step(now(), event, actions);
  for (const Action& action : actions) perform(action, finished);
  wake_in_time();
  if (const auto* joined = std::get_if<WorkerJoined>(&event); joined && joined->worker > met_) met_ = joined->worker, on_worker();
}

/// The scheduler may want to be woken before the next tick: a retry is due, a deadline passes.
void Grid::wake_in_time() {
  const auto at = scheduler_.wake_at();
  if (at == wake_at_) return;
  wake_at_ = at;
  wake_.cancel();
  if (!at) return;
  wake_.expires_after(std::max<Duration>(*at - now(), kWakeMin));
  wake_.async_wait([this](auto error) {
    if (error) return;
    wake_at_.reset();
    handle(Tick{});
  });
}

void Grid::perform(const Action& action, Pool::Finished* finished) {
  if (const auto* a = std::get_if<Assign>(&action)) {
    if (JobEntry* entry = book_.find(a->task.job); entry && entry->row.started_ms == 0) entry->row.started_ms = now_ms();
    pool_.assign(a->worker, a->task, a->attempt, scheduler_.attempts(a->task));
    touch(a->task.job);
  } else if (const auto* s = std::get_if<Stop>(&action)) {
    pool_.stop(s->worker, s->what);
  } else if (const auto* c = std::get_if<Commit>(&action)) {
    JobEntry* entry = book_.find(c->what.task.job);
    OutcomeRow row{c->what.task, c->state, c->attempts, pool_.nick(c->worker), entry ? item_of(*entry, c->what.task.task) : "", {}, {}, {}};
    if (c->state != TaskState::succeeded) remember(c->worker, attempt_row(c->what.task, c->attempts, finished->outcome));
    row.out = std::move(finished->outcome.out), row.err = std::move(finished->outcome.err);
    finished->outcome.out.clear(), finished->outcome.err.clear();
    wire::Outcome outcome;
    write(finished->outcome, outcome);
    row.outcome = outcome.SerializeAsString();
    journal_->add(std::move(row));
    touch(c->what.task.job);
  } else if (const auto* f = std::get_if<Failed>(&action)) {
    AttemptRow row;
    if (finished && finished->what == f->what) {
      row = attempt_row(f->what.task, f->run, finished->outcome);
      row.over = f->what.attempt;
    } else {
      row.task = f->what.task, row.run = f->run, row.ending = f->why;
      std::replace(row.ending.begin(), row.ending.end(), '-', ' ');
    }
    row.failures = f->failures, row.losses = f->losses;
    if (f->delay > Duration(0)) row.again_ms = now_ms() + static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::milliseconds>(f->delay).count());
    remember(f->worker, std::move(row));
  } else if (const auto* g = std::get_if<GiveUp>(&action)) {
    given_up(*g);
  } else if (const auto* d = std::get_if<Drop>(&action)) {
    spdlog::info("dropped result task={}.{} attempt={} epoch={} why=\"{}\"", d->what.task.job.value, d->what.task.task.value, d->what.attempt.number, d->what.attempt.epoch.value, d->why);
  } else if (const auto* r = std::get_if<Requeued>(&action)) {
    spdlog::info("requeued task={}.{} attempt={} worker={} why={}", r->task.job.value, r->task.task.value, r->attempt.number, r->worker.value, r->why);
    touch(r->task.job);
  } else if (const auto* e = std::get_if<JobEnded>(&action)) {
    job_ended(e->job, e->state, e->why);
  } else if (const auto* w = std::get_if<SetAside>(&action)) {
    set_aside(*w);
  }
}

/// One more line in the history of a task. Losses answer nobody, whose answer would bring them to the disk.
void Grid::remember(WorkerId worker, AttemptRow row) {
  row.worker = pool_.nick(worker), row.host = pool_.host(worker), row.ended_ms = now_ms();
  journal_->add(std::move(row));
  journal_->commit([] {});
}

void Grid::given_up(const GiveUp& given) {
  JobEntry* entry = book_.find(given.task.job);
  OutcomeRow row{given.task, TaskState::failed, given.attempts, "", entry ? item_of(*entry, given.task.task) : "", {}, {}, {}};
  Outcome end;
  const bool late = given.why.find("deadline") != given.why.npos;
  end.cause = late ? Cause::not_started : Cause::lost;
  end.why = late ? std::string(given.why) : fmt::format("its worker was lost {} times; the task may be what kills it", given.losses);
  wire::Outcome outcome;
  write(end, outcome);
  row.outcome = outcome.SerializeAsString();
  journal_->add(std::move(row));
  journal_->commit([] {});
  spdlog::warn("gave up task={}.{} attempts={} why=\"{}\"", given.task.job.value, given.task.task.value, given.attempts, given.why);
  touch(given.task.job);
}

void Grid::set_aside(const SetAside& action) {
  const auto minutes = std::max<std::int64_t>(1, std::chrono::duration_cast<std::chrono::minutes>(action.until - now() + 30s).count());
  const std::string nick = pool_.nick(action.worker), jid = pool_.jid(action.worker);
  spdlog::warn("set aside worker={} nick=\"{}\" jid={} minutes={} why=\"{}\"", action.worker.value, printable(nick), jid, minutes, action.why);
  tell_person(bare(jid), fmt::format("worker-{}-{}-aside-{}", epoch_.value, action.worker.value, now_ms()),
              fmt::format("Your worker {} is given no tasks for {} minutes: {}. Please look at its machine; `souk workers` shows when it is back.", nick, minutes, action.why));
}

void Grid::job_ended(JobId job, TaskState state, const std::string& why) {
  JobEntry* entry = book_.find(job);
  const auto* counts = scheduler_.counts(job);
  if (!entry || !counts) return;
  JobRow& row = entry->row;
  row.ended_ms = now_ms();
  if (row.started_ms == 0) row.started_ms = row.ended_ms;
  row.state = state;
  row.succeeded = counts->succeeded, row.failed = counts->failed, row.canceled_tasks = counts->canceled, row.requeued = counts->requeued, row.retried = counts->retried;
  row.note = shortened(printable(why), kNoteMax);
  book_.ended(*entry);
  spdlog::info("job ended job={} state={} tasks={} succeeded={} failed={} canceled={} requeued={} ms={} why=\"{}\"", job.value, name_of(state), row.tasks, row.succeeded, row.failed, row.canceled_tasks,
               row.requeued, row.ended_ms - row.submitted_ms, row.note);
  journal_->end(row);
  journal_->commit([this, job] {
    const JobEntry& over = *book_.find(job);
    const auto watchers = watches_.ended(now(), job);
    push(watchers, over);
    tell_owner(over, std::any_of(watchers.begin(), watchers.end(), [&](const std::string& jid) { return bare(jid) == over.row.owner; }));
  });
}

/// A chat message that waits for owners who are offline (XEP-0160). Nothing when the owner's own program sees the end anyway, unless asked for.
void Grid::tell_owner(const JobEntry& entry, bool watched) {
  const JobRow& row = entry.row;
  if (watched && !row.notify) return;
  std::string text = fmt::format("Job {}{} {}: {} of {} task{} succeeded", row.id.value, row.name.empty() ? "" : " \"" + row.name + "\"", name_of(row.state), row.succeeded, row.tasks, row.tasks == 1 ? "" : "s");
  if (row.failed > 0) text += fmt::format(", {} failed", row.failed);
  if (row.canceled_tasks > 0) text += fmt::format(", {} canceled", row.canceled_tasks);
  text += fmt::format(", in {:.1f} s", static_cast<double>(row.ended_ms - row.submitted_ms) / 1000);
  if (!row.note.empty()) text += fmt::format(": {}", row.note);
  text += fmt::format(". Its output: command `results` here, or `souk cat {}`.", row.id.value);
  tell_person(row.owner, fmt::format("job-{}-{}-ended", epoch_.value, row.id.value), text);
}

void Grid::tell_person(const std::string& jid, const std::string& id, const std::string& text) {
  auto message = element("message", {}, {{"type", "chat"}, {"to", jid}, {"from", bare(me_)}, {"id", id}});
  child(*message, "body", {}, {}, printable(text));
  if (linked_) return link_.send(std::move(message));
  if (unsent_.size() >= kUnsentMax) unsent_.pop_front();
  unsent_.push_back(std::move(message));
}

void Grid::push(const std::vector<std::string>& jids, const JobEntry& entry) {
  if (jids.empty()) return;
  wire::Event event;
  *event.mutable_job() = book_.status(entry, scheduler_);
  for (const std::string& jid : jids) {
    auto message = element("message", {}, {{"type", "headline"}, {"to", jid}, {"from", me_}});
    add_payload(*message, "event", ns::job, event, {{"job", std::to_string(entry.row.id.value)}});
    link_.send(std::move(message));
  }
}

void Grid::touch(JobId job) {
  watches_.changed(job);
  if (!watches_.pending() || std::exchange(push_due_, true)) return;
  push_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(Watches::kGap));
  push_.async_wait([this](auto error) {
    push_due_ = false;
    if (error) return;
    for (const auto& [id, jids] : watches_.due(now()))
      if (const JobEntry* entry = book_.find(id); entry && entry->row.ended_ms == 0) push(jids, *entry);
    if (watches_.pending()) touch({});
  });
}

void Grid::tick() {
  tick_.expires_after(1s);
  tick_.async_wait([this](auto error) {
    if (error) return;
    handle(Tick{});
    if (linked_) pool_.tick();
    tick();
  });
}

// ---- What users can do ------------------------------------------------------------------------------------------------------------

JobEntry* Grid::visible(const Asker& asker, std::uint64_t job) {
  JobEntry* entry = book_.find({job});
  return entry && (asker.admin || entry->row.owner == asker.owner) ? entry : nullptr;
}

std::optional<Refusal> Grid::no_room(const std::string& owner, std::uint64_t tasks) const {
  const std::uint64_t most = limits_.queued_max(owner);
  if (most == 0) return std::nullopt;
  const std::uint64_t queued = book_.queued(owner, scheduler_);
  if (queued + tasks <= most) return std::nullopt;
  if (tasks > most) return Refusal{"not-acceptable", fmt::format("the job has {}, and you may have {} queued (--limit): split it, or ask who runs the grid", tasks_shown(tasks), most)};
  return Refusal{"resource-constraint", fmt::format("you have {} queued, at most {} (--limit), and this job has {}: wait until some of them ran", tasks_shown(queued), most, tasks)};
}

/// Names in expressions that nobody has: the requirement never holds, which its author should hear now and not after waiting.
static void warn_of_names(const std::string& text, const char* what, wire::SubmitAnswer& answer) {
  const auto expression = Expression::parse(text);
  if (text.empty() || !expression) return;
  for (const std::string& name : unknown_names(expression.value())) {
    if (static_cast<std::size_t>(answer.warnings_size()) >= kWarningsMax) return;
    const std::string near = nearest_name(name);
    answer.add_warnings(printable(fmt::format("the {} asks for '{}', which no worker has{}", what, name, near.empty() ? "" : ": did you mean " + near + "?")));
  }
}

/// What the job's groups would find now: all of it for a dry run, else a warning for those that no worker ever seen could run.
void Grid::match(const wire::Job& job, const JobSubmitted& event, bool in_full, wire::SubmitAnswer& answer) {
  if (pool_.members().empty()) answer.add_warnings("no worker is in the market yet: the job waits for one");
  // A job file makes many groups that ask for the same; each request is looked up once.
  std::map<std::tuple<Needs, std::string, std::string, Duration>, Fit> fits;
  std::uint64_t all_tasks = 0;
  for (const Group& group : event.groups) all_tasks += group.tasks;
  for (std::size_t at = 0; at < event.groups.size(); ++at) {
    const Group& group = event.groups[at];
    const bool known = fits.contains({group.needs, group.require, group.rank, group.time_limit});
    if (!known && fits.size() >= (in_full ? kMatchesMax : kWarnedMax)) continue;
    Fit& fit = fits[{group.needs, group.require, group.rank, group.time_limit}];
    if (!known) {
      fit = scheduler_.fit(group, {event.owner, event.name, event.terms.priority, all_tasks});
      warn_of_names(group.require, "requirement", answer), warn_of_names(group.rank, "rank", answer);
    }
    const std::string name = job.groups_size() > 0 ? job.groups(static_cast<int>(at)).name() : "";
    if (!known && !fit.seen && fit.fitting == 0 && !fit.reasons.empty() && static_cast<std::size_t>(answer.warnings_size()) < kWarningsMax) {
      std::string text = (name.empty() ? "no worker seen so far could run it" : "no worker seen so far could run " + name) + ": " +
                         fmt::format("{} {}", fit.reasons.front().workers, fit.reasons.front().workers == 1 ? "worker: " : "workers: ") + fit.reasons.front().why;
      if (!fit.changes.empty()) text += "; " + fit.changes.front();
      answer.add_warnings(printable(text));
    }
    if (!in_full || static_cast<std::size_t>(answer.matches_size()) >= kMatchesMax) continue;
    auto& one = *answer.add_matches();
    one.set_group(name), one.set_tasks(group.tasks), one.set_fitting(fit.fitting);
    one.set_room(static_cast<std::uint32_t>(std::min<std::uint64_t>(fit.room, UINT32_MAX)));
    for (const WorkerId worker : fit.best) one.add_best(printable(pool_.nick(worker)));
    for (const Reason& reason : fit.reasons) write(reason, *one.add_reasons());
    for (const std::string& change : fit.changes) one.add_changes(printable(change));
  }
  if (in_full && event.groups.size() > kMatchesMax) answer.add_warnings(fmt::format("only the first {} of {} groups are told of", kMatchesMax, event.groups.size()));
}

void Grid::submit(const Asker& asker, Submission given, Reply<wire::SubmitAnswer> reply) {
  wire::SubmitAnswer answer;
  if (const auto known = given.dry_run ? std::nullopt : book_.by_key(asker.owner, given.key)) {
    const JobEntry* entry = book_.find(*known);
    answer.set_job(known->value), answer.set_tasks(entry->row.tasks);
    if (given.watch && entry->row.ended_ms == 0) watches_.add(now(), *known, asker.jid);
    return journal_->commit([answer, reply] { reply(answer); });
  }
  if (const std::string trouble = journal_->trouble(); !trouble.empty() && !given.dry_run)
    return reply(Refusal{"resource-constraint", "no new jobs for now: the manager cannot write its store (" + trouble + "); what it has is kept"});
  wire::Job& job = given.job;
  const Clocks clocks = Clocks::read();
  const auto tasks = check(job, clocks.now_ms);
  if (!tasks) return reply(Refusal{"not-acceptable", tasks.error().text()});
  if (const auto good = book_.check_after(job, asker.owner, asker.admin); !good) return reply(Refusal{"not-acceptable", good.error().text()});
  if (auto refusal = no_room(asker.owner, tasks.value())) return reply(std::move(*refusal));
  answer.set_tasks(tasks.value());
  if (given.dry_run) {
    match(job, event_of({}, asker.owner, job, clocks), true, answer);
    return reply(answer);
  }
  JobRow row;
  row.id = book_.next_id();
  row.owner = asker.owner, row.key = given.key, row.name = job.name(), row.command = shown(job);
  row.tasks = tasks.value(), row.retries = job.retries(), row.notify = job.notify(), row.submitted_ms = clocks.now_ms;
  row.priority = job.priority(), row.held = job.hold(), row.deadline_ms = job.deadline_ms(), row.layout = layout_of(job);
  row.spec = job.SerializeAsString();
  journal_->add(row);
  auto event = std::make_shared<const JobSubmitted>(event_of(row.id, row.owner, job, clocks));
  spdlog::info("job submitted job={} owner={} tasks={} groups={}", row.id.value, row.owner, row.tasks, event->groups.size());
  answer.set_job(row.id.value);
  match(job, *event, false, answer);
  book_.add(std::move(row), std::move(job));
  journal_->commit([this, event, answer, watch = given.watch, jid = asker.jid, reply] {
    if (watch) watches_.add(now(), event->job, jid);
    reply(answer);
    for (const JobKnown& known : book_.ended_before(book_.find(event->job)->job)) handle(known);
    handle(*event);
  });
}

void Grid::status(const Asker& asker, const wire::StatusRequest& request, Reply<wire::StatusAnswer> reply) {
  wire::StatusAnswer answer;
  *answer.mutable_grid() = grid_status();
  if (request.jobs_size() > 0) {
    for (const std::uint64_t id : request.jobs()) {
      const JobEntry* entry = visible(asker, id);
      if (!entry) return reply(Refusal{"item-not-found", fmt::format("there is no job {} of yours", id)});
      if (request.unwatch()) watches_.remove({id}, asker.jid);
      else if (request.watch() && entry->row.ended_ms == 0 && !watches_.add(now(), {id}, asker.jid))
        return reply(Refusal{"resource-constraint", "too many watchers for now: ask again without watch"});
      *answer.add_jobs() = book_.status(*entry, scheduler_);
      if (static_cast<std::uint32_t>(answer.jobs_size()) >= kJobsMax) break;
    }
    return reply(answer);
  }
  const std::uint32_t limit = request.limit() == 0 ? 100 : std::min(request.limit(), kJobsMax);
  for (auto entry = book_.all().rbegin(); entry != book_.all().rend() && static_cast<std::uint32_t>(answer.jobs_size()) < limit; ++entry)
    if (entry->second.row.owner == asker.owner || (asker.admin && request.everybody())) *answer.add_jobs() = book_.status(entry->second, scheduler_);
  reply(answer);
}

void Grid::results(const Asker& asker, const wire::ResultsRequest& request, Reply<wire::ResultsAnswer> reply) {
  const JobEntry* asked = visible(asker, request.job());
  if (!asked) return reply(Refusal{"item-not-found", fmt::format("there is no job {} of yours", request.job())});
  const std::uint64_t from = std::max<std::uint64_t>(1, request.from_task());
  if (from > asked->row.tasks) return reply(Refusal{"item-not-found", fmt::format("job {} has {} tasks, not {}", request.job(), asked->row.tasks, from)});
  const JobId job{request.job()};
  if (request.stream())
    return journal_->read_stream({job, {from}}, request.err(), request.offset(), kPageBytes, [this, job, reply](Result<Journal::Slice> slice) {
      if (!slice) return reply(Refusal{"resource-constraint", slice.error().text()});
      wire::ResultsAnswer answer;
      answer.set_data(std::move(slice.value().data)), answer.set_size(slice.value().size);
      *answer.mutable_job() = book_.status(*book_.find(job), scheduler_);
      reply(answer);
    });
  const std::uint64_t to = request.to_task() == 0 ? asked->row.tasks : std::min(request.to_task(), asked->row.tasks);
  const std::uint32_t limit = request.limit() == 0 ? kPageMax : std::min(request.limit(), kPageMax);
  Journal::Page page{job, from, to, limit, kPageBytes, request.outputs(), request.failed_only()};
  // Asked now and not when the rows are here: a job that ended in between has outcomes that they lack.
  const bool over = asked->row.ended_ms > 0;
  journal_->read(page, [this, job, from, to, limit, over, request, reply](Result<std::vector<OutcomeRow>> read) {
    if (!read) return reply(Refusal{"resource-constraint", read.error().text()});
    std::vector<OutcomeRow>& rows = read.value();
    const JobEntry* entry = book_.find(job);
    wire::ResultsAnswer answer;
    *answer.mutable_job() = book_.status(*entry, scheduler_);
    std::size_t bytes = 0;
    std::size_t next_row = 0;
    std::uint64_t task = from;
    for (; task <= to && static_cast<std::uint32_t>(answer.results_size()) < limit && bytes < kPageBytes; ++task) {
      if (request.failed_only()) {
        if (next_row == rows.size()) {
          task = rows.size() < limit ? to + 1 : task;  // else there may be more of them behind the last row
          break;
        }
        task = rows[next_row].task.task.value;
      }
      const bool has_row = next_row < rows.size() && rows[next_row].task.task.value == task;
      // Behind a full page of rows nothing is known.
      if (!has_row && next_row == rows.size() && rows.size() >= limit) break;
      if (request.ended_only() && !has_row && !over) break;
      const TaskState state = has_row ? rows[next_row].state : over ? TaskState::canceled : entry->row.ended_ms > 0 ? TaskState::running : scheduler_.state({job, {task}});
      wire::TaskResult result;
      result.set_task(task);
      if (has_row) {
        OutcomeRow& row = rows[next_row];
        const std::size_t adds = row.out.size() + row.err.size() + row.outcome.size() + row.item.size() + 64;
        if (bytes > 0 && bytes + adds > kPageBytes + 8192) break;
        bytes += adds;
        ++next_row;
        result.set_attempts(row.attempts), result.set_worker(row.worker), result.set_item(row.item);
        result.mutable_outcome()->ParseFromString(row.outcome);
        if (request.outputs()) {
          const bool whole = row.out.size() == row.out_kept && row.err.size() == row.err_kept;
          result.set_out_elided(!whole && row.out_kept > 0), result.set_err_elided(!whole && row.err_kept > 0);
          if (whole) result.mutable_outcome()->set_out(std::move(row.out)), result.mutable_outcome()->set_err(std::move(row.err));
        }
        result.set_state(static_cast<wire::State>(row.state));
      } else {
        // Committed in this very moment and not on disk yet: it is as good as running.
        result.set_state(static_cast<wire::State>(!over && ended(state) && state != TaskState::canceled ? TaskState::running : state));
        result.set_attempts(scheduler_.attempts({job, {task}}));
        if (const auto worker = scheduler_.runner({job, {task}})) result.set_worker(pool_.nick(*worker));
        result.set_item(item_of(*entry, {task}));
        bytes += result.item().size() + 32;
      }
      result.set_group(entry->group_name({task}));
      bytes += result.group().size();
      *answer.add_results() = std::move(result);
    }
    if (task <= to) answer.set_next_task(task);
    reply(answer);
  });
}

void Grid::cancel(const Asker& asker, const wire::CancelRequest& request, Reply<wire::CancelAnswer> reply) {
  if (request.jobs_size() == 0) return reply(Refusal{"bad-request", "name the jobs to cancel"});
  for (const std::uint64_t id : request.jobs())
    if (!visible(asker, id)) return reply(Refusal{"item-not-found", fmt::format("there is no job {} of yours", id)});
  std::vector<JobId> jobs;
  for (const std::uint64_t id : request.jobs()) {
    JobEntry* entry = book_.find({id});
    if (entry->row.ended_ms > 0 || entry->row.canceled) continue;
    entry->row.canceled = true;
    journal_->cancel({id});
    jobs.push_back({id});
    spdlog::info("job canceled job={} by={}", id, asker.owner);
  }
  journal_->commit([this, jobs, request, reply] {
    for (const JobId job : jobs) handle(JobCanceled{job});
    wire::CancelAnswer answer;
    for (const std::uint64_t id : request.jobs()) *answer.add_jobs() = book_.status(*book_.find({id}), scheduler_);
    reply(answer);
  });
}

void Grid::set_held(const Asker& asker, const wire::JobsRequest& request, bool held, Reply<wire::JobsAnswer> reply) {
  if (request.jobs_size() == 0) return reply(Refusal{"bad-request", held ? "name the jobs to hold" : "name the jobs to release"});
  if (static_cast<std::uint32_t>(request.jobs_size()) > kJobsMax) return reply(Refusal{"bad-request", fmt::format("name at most {} jobs", kJobsMax)});
  for (const std::uint64_t id : request.jobs())
    if (!visible(asker, id)) return reply(Refusal{"item-not-found", fmt::format("there is no job {} of yours", id)});
  std::vector<JobId> jobs;
  for (const std::uint64_t id : request.jobs()) {
    JobEntry* entry = book_.find({id});
    if (entry->row.ended_ms > 0 || entry->row.held == held) continue;
    entry->row.held = held;
    journal_->hold({id}, held);
    jobs.push_back({id});
    spdlog::info("job {} job={} by={}", held ? "held" : "released", id, asker.owner);
  }
  journal_->commit([this, held, jobs, request, reply] {
    for (const JobId job : jobs) {
      handle(held ? Event(JobHeld{job}) : Event(JobReleased{job}));
      touch(job);
    }
    wire::JobsAnswer answer;
    for (const std::uint64_t id : request.jobs()) *answer.add_jobs() = book_.status(*book_.find({id}), scheduler_);
    reply(answer);
  });
}

void Grid::rerun(const Asker& asker, const wire::RerunRequest& request, Reply<wire::SubmitAnswer> reply) {
  if (const auto known = book_.by_key(asker.owner, request.key())) {
    wire::SubmitAnswer answer;
    answer.set_job(known->value), answer.set_tasks(book_.find(*known)->row.tasks);
    return journal_->commit([answer, reply] { reply(answer); });
  }
  const JobEntry* entry = visible(asker, request.job());
  const JobId id{request.job()};
  if (!entry) return reply(Refusal{"item-not-found", fmt::format("there is no job {} of yours", id.value)});
  if (const std::string trouble = journal_->trouble(); !trouble.empty())
    return reply(Refusal{"resource-constraint", "nothing is run again for now: the manager cannot write its store (" + trouble + ")"});
  if (!request.all() && entry->row.ended_ms == 0) return reply(Refusal{"not-acceptable", fmt::format("job {} has not ended: wait for its end, or cancel it, before it runs again", id.value)});
  if (!request.all() && entry->row.succeeded == entry->row.tasks)
    return reply(Refusal{"not-acceptable", fmt::format("every task of job {} succeeded: with --all a new job is made of it", id.value)});
  if (!reopening_.insert(id).second) return reply(Refusal{"resource-constraint", fmt::format("job {} is being made ready to run again", id.value)});
  journal_->read_kept(id, [this, asker, request, id, reply](Result<Journal::Kept> kept) {
    reopening_.erase(id);
    if (!kept) return reply(Refusal{"resource-constraint", kept.error().text()});
    again(asker, request, std::move(kept.value()), reply);
  });
}

void Grid::again(const Asker& asker, const wire::RerunRequest& request, Journal::Kept kept, Reply<wire::SubmitAnswer> reply) {
  const JobId id{request.job()};
  JobEntry& entry = *book_.find(id);
  const Clocks clocks = Clocks::read();
  Submission given{{}, request.key(), request.watch(), false};
  wire::Job& job = given.job;
  if (!job.ParseFromString(kept.spec)) return reply(Refusal{"resource-constraint", fmt::format("job {} cannot be read from the store", id.value)});
  job.set_hold(false);
  if (job.deadline_ms() <= clocks.now_ms) job.set_deadline_ms(0);  // nothing could run by a deadline that has passed
  if (request.all()) return submit(asker, std::move(given), reply);
  JobRow& row = entry.row;
  const std::uint64_t tasks = row.tasks - std::min<std::uint64_t>(row.tasks, kept.succeeded.size());
  if (auto refusal = no_room(row.owner, tasks)) return reply(std::move(*refusal));
  if (!request.key().empty()) row.key = request.key();
  book_.remember_key(asker.owner, request.key(), id);
  row.spec = job.SerializeAsString();
  row.deadline_ms = job.deadline_ms(), row.held = row.canceled = false, row.note.clear(), row.started_ms = row.ended_ms = 0, row.state = TaskState::waiting;
  row.succeeded = row.failed = row.canceled_tasks = row.requeued = row.retried = 0;
  journal_->reopen(row);
  auto event = std::make_shared<JobRestored>(JobRestored{event_of(id, row.owner, job, clocks), std::move(kept.succeeded), false});
  for (const auto& [task, runs] : kept.runs) event->past.push_back({task, runs});  // only their numbers go on: it may fail as often as at first
  spdlog::info("job runs again job={} by={} tasks={}", id.value, asker.owner, tasks);
  wire::SubmitAnswer answer;
  answer.set_job(id.value), answer.set_tasks(tasks);
  match(job, event->job, false, answer);
  book_.reopened(entry, std::move(job));
  journal_->commit([this, event, answer, id, watch = request.watch(), jid = asker.jid, reply] {
    if (watch) watches_.add(now(), id, jid);
    reply(answer);
    for (const JobKnown& known : book_.ended_before(book_.find(id)->job)) handle(known);
    handle(*event);
    touch(id);
  });
}

void Grid::why(const Asker& asker, const wire::WhyRequest& request, Reply<wire::WhyAnswer> reply) {
  const JobEntry* asked = visible(asker, request.job());
  if (!asked) return reply(Refusal{"item-not-found", fmt::format("there is no job {} of yours", request.job())});
  const TaskId task{{request.job()}, {request.task()}};
  if (task.task.value > asked->row.tasks) return reply(Refusal{"item-not-found", fmt::format("job {} has {}, not {}", request.job(), tasks_shown(asked->row.tasks), request.task())});
  if (task.task.value == 0 && asked->row.ended_ms > 0) return why_job_ended(*asked, reply);
  journal_->read_history(task, [this, task, reply](Result<Journal::History> read) {
    if (!read) return reply(Refusal{"resource-constraint", read.error().text()});
    const JobEntry& entry = *book_.find(task.job);
    Journal::History& history = read.value();
    wire::WhyAnswer answer;
    *answer.mutable_job() = book_.status(entry, scheduler_);
    answer.set_task(task.task.value);
    if (task.task.value > 0) answer.set_group(entry.group_name(task.task));
    for (const AttemptRow& row : history.attempts) write(row, *answer.add_attempts());
    if (history.outcome) {
      const OutcomeRow& row = *history.outcome;
      wire::Outcome message;
      message.ParseFromString(row.outcome);
      message.set_out_size(std::max<std::uint64_t>(message.out_size(), message.out().size()));
      const auto outcome = souk::read(message);
      const std::string ending = outcome ? ending_of(outcome.value()) : "";
      answer.set_state(static_cast<wire::State>(row.state));
      // One that did not succeed has its row already, unless it never ran, or was stored by an earlier version.
      const bool told = row.state != TaskState::succeeded && answer.attempts_size() > 0 && answer.attempts(answer.attempts_size() - 1).run() >= row.attempts;
      if (!told && row.attempts > 0 && !row.worker.empty()) {
        auto& last = *answer.add_attempts();
        last.set_run(row.attempts), last.set_worker(printable(row.worker)), last.set_ending(ending), last.set_wall_us(message.wall_us());
      }
      const std::string where = row.worker.empty() ? "" : " on " + row.worker;
      answer.set_summary(printable(row.state == TaskState::succeeded ? fmt::format("it succeeded{} in {:.2f} s, run {}", where, static_cast<double>(message.wall_us()) / 1e6, row.attempts)
                                   : row.state == TaskState::failed  ? fmt::format("it failed{}: {}", where, ending)
                                                                     : "it was canceled" + where));
      return reply(answer);
    }
    if (entry.row.ended_ms > 0) {
      answer.set_state(wire::JOB_CANCELED);
      answer.set_summary(entry.row.note.empty() ? "it was canceled before it ran" : "it was canceled before it ran: " + entry.row.note);
      return reply(answer);
    }
    const Explanation why = scheduler_.why(task);
    answer.set_state(task.task.value == 0 ? answer.job().state() : static_cast<wire::State>(why.state));
    std::string summary = why.summary;
    if (why.next.value > 0) {
      const std::string& group = entry.group_name(why.next);
      summary = fmt::format("task {}.{}{} is next: {}", task.job.value, why.next.value, group.empty() ? "" : " (" + group + ")", why.summary);
    }
    std::string waits_for;
    for (const std::uint32_t at : why.waits_for_groups)
      if (at < entry.places.size() && !entry.places[at].name.empty()) waits_for += (waits_for.empty() ? ": " : ", ") + entry.places[at].name;
    answer.set_summary(printable(summary + waits_for));
    for (const Reason& reason : why.reasons) write(reason, *answer.add_reasons());
    for (const std::string& change : why.changes) answer.add_changes(printable(change));
    answer.set_tasks_ahead(why.tasks_ahead), answer.set_owner_place(why.owner_place), answer.set_owners_waiting(why.owners_waiting);
    if (const auto worker = task.task.value > 0 ? scheduler_.runner(task) : std::nullopt) {
      answer.set_state(wire::RUNNING);
      auto& running = *answer.add_attempts();
      running.set_run(scheduler_.attempts(task)), running.set_worker(printable(pool_.nick(*worker))), running.set_host(printable(pool_.host(*worker))), running.set_ending("running");
    }
    if (answer.summary().empty()) answer.set_summary(answer.state() == wire::RUNNING ? "it runs" : entry.row.held ? "its job is held" : answer.job().note().empty() ? "it waits" : "it " + answer.job().note());
    reply(answer);
  });
}

/// How a job ended, and the first of its tasks that failed.
void Grid::why_job_ended(const JobEntry& ended, Reply<wire::WhyAnswer> reply) {
  journal_->read({ended.row.id, 1, 0, kFailedShown, 0, false, true}, [this, id = ended.row.id, reply](Result<std::vector<OutcomeRow>> read) {
    if (!read) return reply(Refusal{"resource-constraint", read.error().text()});
    const JobEntry& entry = *book_.find(id);
    const JobRow& row = entry.row;
    wire::WhyAnswer answer;
    *answer.mutable_job() = book_.status(entry, scheduler_);
    answer.set_state(static_cast<wire::State>(row.state));
    std::string summary = fmt::format("job {} {}: {} of {} succeeded", id.value, name_of(row.state), row.succeeded, tasks_shown(row.tasks));
    if (row.failed > 0) summary += fmt::format(", {} failed", row.failed);
    if (row.canceled_tasks > 0) summary += fmt::format(", {} canceled", row.canceled_tasks);
    if (!row.note.empty()) summary += "; " + row.note;
    answer.set_summary(printable(summary));
    for (const OutcomeRow& failed : read.value()) {
      wire::Outcome message;
      message.ParseFromString(failed.outcome);
      const auto outcome = souk::read(message);
      const std::string& group = entry.group_name(failed.task.task);
      answer.add_reasons()->set_why(printable(fmt::format("task {}.{}{}{}: {}", id.value, failed.task.task.value, group.empty() ? "" : " (" + group + ")",
                                                         failed.worker.empty() ? "" : " on " + failed.worker, outcome ? ending_of(outcome.value()) : "failed")));
    }
    reply(answer);
  });
}

void Grid::workers(const Asker&, Reply<wire::WorkersAnswer> reply) {
  wire::WorkersAnswer answer;
  for (const auto& [id, member] : pool_.members()) {
    const auto load = scheduler_.load(id);
    if (!load) continue;
    auto& w = *answer.add_workers();
    w.set_nick(printable(member.nick)), w.set_jid(printable(member.jid)), w.set_since_ms(member.since_ms);
    w.set_slots(static_cast<std::uint32_t>(load->slots)), w.set_running(static_cast<std::uint32_t>(load->held));
    w.set_succeeded(load->succeeded), w.set_failed(load->failed);
    const bool open = load->state == WorkerState::free || load->state == WorkerState::busy;
    w.set_state(static_cast<wire::WorkerState>(open ? (load->held > 0 ? WorkerState::busy : WorkerState::free) : load->state));
    auto& o = *w.mutable_offer();
    const Offer& offer = member.offer;
    o.set_cpus(static_cast<std::uint32_t>(offer.cpus)), o.set_memory_bytes(offer.memory_bytes), o.set_disk_bytes(offer.disk_bytes);
    o.set_os(offer.os), o.set_arch(offer.arch), o.set_hostname(offer.hostname), o.set_cpu_model(offer.cpu_model), o.set_version(offer.version);
    for (const auto& [name, version] : offer.software) (*o.mutable_software())[name] = version;
    for (const auto& gpu : offer.gpus) o.add_gpus(gpu);
    for (const auto& [name, value] : offer.tags) (*o.mutable_tags())[name] = value;
    for (const auto& [name, resource] : offer.resources) (*o.mutable_resources())[name] = written(resource);
    o.set_speed(offer.speed);
    w.set_rule(member.rule), w.set_until_ms(member.until_ms);
    w.set_set_aside(printable(load->set_aside));
  }
  reply(answer);
}

wire::GridStatus Grid::grid_status() const {
  wire::GridStatus status;
  status.set_version(SOUK_VERSION), status.set_epoch(epoch_.value), status.set_up_ms(now_ms() - started_ms_);
  std::uint32_t slots = 0, busy = 0;
  for (const auto& [id, member] : pool_.members())
    if (const auto load = scheduler_.load(id)) {
      slots += static_cast<std::uint32_t>(load->slots);
      busy += static_cast<std::uint32_t>(std::min(load->slots_taken, load->slots));
    }
  status.set_workers(static_cast<std::uint32_t>(pool_.members().size())), status.set_slots(slots), status.set_slots_busy(busy);
  const auto totals = scheduler_.totals();
  status.set_tasks_waiting(totals.waiting), status.set_tasks_running(totals.running);
  return status;
}

}  // namespace souk
