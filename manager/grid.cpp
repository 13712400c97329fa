#include "manager/grid.h"

#include <gloox/tag.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>

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

std::uint64_t now_ms() {
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count());
}
Instant now() { return Instant(std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())); }

std::vector<Group> groups_of(const JobRow& row) {
  Group group;
  group.tasks = row.tasks, group.retry.times = row.retries;
  return {group};
}

}  // namespace

Grid::Grid(boost::asio::io_context& loop, XmppLink& link, std::unique_ptr<Journal> journal, Journal::Restored restored, Scheduler::Rules rules, AllowList workers)
    : loop_(loop), link_(link), journal_(std::move(journal)), epoch_(restored.epoch), scheduler_(restored.epoch, rules),
      pool_(loop, link, book_, restored.epoch, rules.lease, std::move(workers)), started_ms_(now_ms()), tick_(loop), push_(loop), opening_ends_(loop) {
  pool_.tell = [this](const Event& event) { handle(event); };
  pool_.finished = [this](Pool::Finished finished) {
    const Outcome& o = finished.outcome;
    handle(AttemptFinished{finished.worker, finished.what, o.cause, o.succeeded(), o.wall, o.exit_code}, &finished);
  };
  pool_.commit = [this](std::function<void()> then) { journal_->commit(std::move(then)); };
  pool_.on_answered = [this] { open_when_settled(false); };
  handle(MarketClosed{});
  auto ended = restored.ended.begin();
  std::size_t waiting = 0;
  for (JobRow& row : restored.jobs) {
    wire::Job job;
    if (row.ended_ms == 0 && !job.ParseFromString(row.spec)) spdlog::error("stored job cannot be read job={}", row.id.value);
    JobRestored event{{row.id, row.owner, groups_of(row)}, {}, row.canceled};
    const bool open = row.ended_ms == 0;
    book_.add(std::move(row), std::move(job));
    if (!open) continue;
    ++waiting;
    for (; ended != restored.ended.end() && ended->first.job == event.job.job; ++ended) event.ended.emplace_back(ended->first.task, ended->second);
    handle(event);
  }
  spdlog::info("store read epoch={} jobs={} open={}", epoch_.value, book_.all().size(), waiting);
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
  if (std::holds_alternative<WorkerJoined>(event) && !std::exchange(had_worker_, true)) on_worker();
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
    OutcomeRow row{c->what.task, c->state, c->attempts, pool_.nick(c->worker), entry ? item_of(entry->job, c->what.task.task) : "", {}, {}, {}};
    row.out = std::move(finished->outcome.out), row.err = std::move(finished->outcome.err);
    finished->outcome.out.clear(), finished->outcome.err.clear();
    wire::Outcome outcome;
    write(finished->outcome, outcome);
    row.outcome = outcome.SerializeAsString();
    journal_->add(std::move(row));
    touch(c->what.task.job);
  } else if (const auto* g = std::get_if<GiveUp>(&action)) {
    JobEntry* entry = book_.find(g->task.job);
    OutcomeRow row{g->task, TaskState::failed, g->attempts, "", entry ? item_of(entry->job, g->task.task) : "", {}, {}, {}};
    Outcome lost;
    lost.cause = Cause::lost;
    lost.why = "its worker was lost " + std::to_string(g->attempts) + " times; the task may be what kills it";
    wire::Outcome outcome;
    write(lost, outcome);
    row.outcome = outcome.SerializeAsString();
    journal_->add(std::move(row));
    journal_->commit([] {});
    spdlog::warn("gave up task={}.{} attempts={} why=\"its workers were lost\"", g->task.job.value, g->task.task.value, g->attempts);
    touch(g->task.job);
  } else if (const auto* d = std::get_if<Drop>(&action)) {
    spdlog::info("dropped result task={}.{} attempt={} epoch={} why=\"{}\"", d->what.task.job.value, d->what.task.task.value, d->what.attempt.number, d->what.attempt.epoch.value, d->why);
  } else if (const auto* r = std::get_if<Requeued>(&action)) {
    spdlog::info("requeued task={}.{} attempt={} worker={} why={}", r->task.job.value, r->task.task.value, r->attempt.number, r->worker.value, r->why);
    touch(r->task.job);
  } else if (const auto* e = std::get_if<JobEnded>(&action)) {
    job_ended(e->job, e->state);
  }
}

void Grid::job_ended(JobId job, TaskState state) {
  JobEntry* entry = book_.find(job);
  const auto* counts = scheduler_.counts(job);
  if (!entry || !counts) return;
  JobRow& row = entry->row;
  row.ended_ms = now_ms();
  if (row.started_ms == 0) row.started_ms = row.ended_ms;
  row.state = state;
  row.succeeded = counts->succeeded, row.failed = counts->failed, row.canceled_tasks = counts->canceled, row.requeued = counts->requeued, row.retried = counts->retried;
  row.spec.clear();
  entry->job.Clear();
  spdlog::info("job ended job={} state={} tasks={} succeeded={} failed={} canceled={} requeued={} ms={}", job.value, name_of(state), row.tasks, row.succeeded, row.failed, row.canceled_tasks,
               row.requeued, row.ended_ms - row.submitted_ms);
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
  text += fmt::format(", in {:.1f} s. Its output: command `results` here, or `souk cat {}`.", static_cast<double>(row.ended_ms - row.submitted_ms) / 1000, row.id.value);
  auto message = element("message", {}, {{"type", "chat"}, {"to", row.owner}, {"from", bare(me_)}, {"id", fmt::format("job-{}-{}-ended", epoch_.value, row.id.value)}});
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

void Grid::submit(const Asker& asker, wire::Job job, const std::string& key, bool watch, Reply<wire::SubmitAnswer> reply) {
  wire::SubmitAnswer answer;
  if (const auto known = book_.by_key(asker.owner, key)) {
    const JobEntry* entry = book_.find(*known);
    answer.set_job(known->value), answer.set_tasks(entry->row.tasks);
    if (watch && entry->row.ended_ms == 0) watches_.add(now(), *known, asker.jid);
    return journal_->commit([answer, reply] { reply(answer); });
  }
  if (const std::string trouble = journal_->trouble(); !trouble.empty())
    return reply(Refusal{"resource-constraint", "no new jobs for now: the manager cannot write its store (" + trouble + "); what it has is kept"});
  const auto tasks = check(job);
  if (!tasks) return reply(Refusal{"not-acceptable", tasks.error().text()});
  JobRow row;
  row.id = book_.next_id();
  row.owner = asker.owner, row.key = key, row.name = job.name(), row.command = shown(job.command());
  row.tasks = tasks.value(), row.retries = job.retries(), row.notify = job.notify(), row.submitted_ms = now_ms();
  row.spec = job.SerializeAsString();
  journal_->add(row);
  row.spec.clear();  // book_ holds it parsed
  const JobSubmitted event{row.id, row.owner, groups_of(row)};
  spdlog::info("job submitted job={} owner={} tasks={}", row.id.value, row.owner, row.tasks);
  book_.add(std::move(row), std::move(job));
  answer.set_job(event.job.value), answer.set_tasks(tasks.value());
  if (pool_.members().empty()) answer.add_warnings("no worker is in the market yet: the job waits for one");
  journal_->commit([this, event, answer, watch, jid = asker.jid, reply] {
    if (watch) watches_.add(now(), event.job, jid);
    reply(answer);
    handle(event);
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
        result.set_item(item_of(entry->job, {task}));
        bytes += result.item().size() + 32;
      }
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
      busy += static_cast<std::uint32_t>(std::min<std::size_t>(load->held, static_cast<std::size_t>(load->slots)));
    }
  status.set_workers(static_cast<std::uint32_t>(pool_.members().size())), status.set_slots(slots), status.set_slots_busy(busy);
  const auto totals = scheduler_.totals();
  status.set_tasks_waiting(totals.waiting), status.set_tasks_running(totals.running);
  return status;
}

}  // namespace souk
