// What users can do to jobs: submit, cancel, hold, release, run again.
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "manager/grid.h"
#include "manager/history.h"
#include "protocol/expression.h"
#include "protocol/notation.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"

namespace souk {

namespace {

constexpr std::uint32_t kJobsMax = 500;         // jobs in one status answer
constexpr std::size_t kMatchesMax = 100;        // groups told of in a dry run
constexpr std::size_t kWarnedMax = 10;          // different requests that a job is warned of: each looks at every worker
constexpr std::size_t kWarningsMax = 5;
constexpr int kBansAtOnce = 100;

const std::string kLimitOption = "--limit";

Instant now() { return Clocks::read().now; }
std::string mib(std::uint64_t bytes) { return fmt::format("{:.1f} MiB", static_cast<double>(bytes) / (1 << 20)); }

}  // namespace

const JobEntry* Grid::visible(const Asker& asker, std::uint64_t job) const {
  const JobEntry* entry = book_.find({job});
  return entry && (asker.admin || entry->row.owner == asker.owner) ? entry : nullptr;
}

Refusal Grid::no_such(std::uint64_t job) const {
  if (book_.find({job}) || !book_.was_given({job})) return {"item-not-found", fmt::format("there is no job {} of yours", job)};
  return {"item-not-found", fmt::format("job {} is no longer kept{}", job, keep_.count() > 0 ? " (--keep " + keep_shown_ + ")" : "")};
}

/// Why these jobs cannot be changed by the asker, or not now. What changes a job waits for the disk; while that refuses, a clear no is better than no answer.
std::optional<Refusal> Grid::unchangeable(const Asker& asker, const google::protobuf::RepeatedField<std::uint64_t>& jobs, const char* verb) const {
  if (auto refusal = sealed()) return refusal;
  if (jobs.empty()) return Refusal{"bad-request", fmt::format("name the jobs to {}", verb)};
  for (const std::uint64_t id : jobs)
    if (!visible(asker, id)) return no_such(id);
  const std::string why = journal_->refused();
  if (why.empty()) return std::nullopt;
  return Refusal{"resource-constraint", "nothing can be changed for now: " + why + "; what it has is kept"};
}

std::optional<Refusal> Grid::no_room(const std::string& owner, std::uint64_t tasks, std::uint64_t memory) const {
  switch (memory_.room(owner, memory)) {
    case Space::Room::yes: break;
    case Space::Room::later:
      return Refusal{"resource-constraint", fmt::format("the manager's memory is full of jobs that have not ended ({} of {}, {} of it yours), and this one takes {}: wait until some have ended (--memory-max)",
                                                        mib(memory_.used()), mib(memory_.most()), mib(memory_.used_by(owner)), mib(memory))};
    case Space::Room::never:
      return Refusal{"not-acceptable", fmt::format("the job takes {} of the manager's memory, and one owner may have at most {} (--memory-max): split it, or ask who runs the grid", mib(memory), mib(memory_.most_each()))};
  }
  const Entitlement terms = rulebook_.now().terms(owner);
  const std::uint64_t most = terms.queued ? *terms.queued : limits_.queued_max(owner);
  if (most == 0 && !terms.queued) return std::nullopt;
  const std::string& rule = terms.queued ? terms.rule : kLimitOption;
  const std::uint64_t queued = book_.queued(owner, scheduler_);
  if (queued + tasks <= most) return std::nullopt;
  if (tasks > most) return Refusal{"not-acceptable", fmt::format("the job has {}, and you may have {} queued ({}): split it, or ask who runs the grid", tasks_shown(tasks), most, rule)};
  return Refusal{"resource-constraint", fmt::format("you have {} queued, at most {} ({}), and this job has {}: wait until some of them ran", tasks_shown(queued), most, rule, tasks)};
}

/// One more submission, which counts unless this says no.
std::optional<Refusal> Grid::too_fast(const std::string& owner) {
  const Entitlement terms = rulebook_.now().terms(owner);
  if (!terms.per_minute) return std::nullopt;
  if (*terms.per_minute == 0) return Refusal{"not-acceptable", fmt::format("you may submit nothing ({})", terms.rule)};
  const Duration wait = paces_.take(owner, *terms.per_minute, now());
  if (wait == Duration(0)) return std::nullopt;
  return Refusal{"resource-constraint", fmt::format("you submitted {} times in a minute, as often as you may ({}): the next time in {:.0f} s; many tasks fit into one job", *terms.per_minute, terms.rule,
                                                    std::ceil(static_cast<double>(wait.count()) / 1e6))};
}

std::optional<Refusal> Grid::over_bytes(const std::string& owner, std::uint64_t more) const {
  const Entitlement terms = rulebook_.now().terms(owner);
  if (!terms.bytes || kept_.of(owner) + more <= *terms.bytes) return std::nullopt;
  return Refusal{"not-acceptable", fmt::format("your jobs and their results take {} here, this job {}, and they may take {} ({}): old ones go in time (--keep), or ask who runs the grid", mib(kept_.of(owner)), mib(more),
                                               mib(*terms.bytes), terms.rule)};
}

void Grid::opened(JobEntry& entry, std::uint64_t memory) {
  entry.memory = memory;
  memory_.take(entry.row.owner, memory);
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
  if (job.has_quorum() && !pool_.members().empty()) {
    const auto of = job.quorum().by_worker() ? VotesOf::workers : VotesOf::owners;
    if (const std::size_t voters = scheduler_.voters(of); voters < job.quorum().agree())
      answer.add_warnings(fmt::format("{} results of each task must agree, of different {}, and there {} only {} in the market: the job waits for more", job.quorum().agree(),
                                      of == VotesOf::owners ? "owners" : "workers", voters == 1 ? "is" : "are", voters));
  }
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
    if (given.watch && !entry->over()) watches_.add(now(), *known, asker.jid);
    return journal_->commit([answer, reply] { reply(answer); });
  }
  if (!given.dry_run && too_early()) {  // asked first: what comes later is a copy, and a job may be large
    too_early([this, asker, given = std::move(given), reply] { submit(asker, given, reply); });
    return;
  }
  if (auto refusal = sealed(); refusal && !given.dry_run) return reply(std::move(*refusal));
  if (const std::string trouble = journal_->trouble(given.job.ByteSizeLong()); !trouble.empty() && !given.dry_run)
    return reply(Refusal{"resource-constraint", "no new jobs for now: " + trouble + "; what it has is kept"});
  if (!given.dry_run)
    if (auto refusal = too_fast(asker.owner)) return reply(std::move(*refusal));
  wire::Job& job = given.job;
  const Clocks clocks = Clocks::read();
  const auto tasks = check(job, clocks.now_ms);
  if (!tasks) return reply(Refusal{"not-acceptable", tasks.error().text()});
  if (const auto good = book_.check_after(job, asker.owner, asker.admin); !good) return reply(Refusal{"not-acceptable", good.error().text()});
  const std::uint64_t memory = memory_of(job, tasks.value());
  if (auto refusal = no_room(asker.owner, tasks.value(), memory)) return reply(std::move(*refusal));
  if (auto refusal = over_bytes(asker.owner, job.ByteSizeLong())) return reply(std::move(*refusal));
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
  if (counts_bytes_) kept_.add(row.id, row.owner, row.spec.size());
  audit_.asked("submit", asker.jid, asker.admin, {{"job", std::to_string(row.id.value)}, {"tasks", std::to_string(row.tasks)}, {"name", row.name}, {"command", row.command}});
  know(row.owner);
  journal_->add(row);
  auto event = std::make_shared<const JobSubmitted>(event_of(row.id, row.owner, job, clocks));
  spdlog::info("job submitted job={} owner={} tasks={} groups={}", row.id.value, row.owner, row.tasks, event->groups.size());
  answer.set_job(row.id.value);
  match(job, *event, false, answer);
  opened(book_.add(std::move(row), std::move(job), given.items.get()), memory);
  journal_->commit([this, event, answer, watch = given.watch, jid = asker.jid, reply] {
    if (watch) watches_.add(now(), event->job, jid);
    reply(answer);
    if (const JobEntry* entry = book_.find(event->job))
      for (const JobKnown& known : book_.ended_before(entry->job)) handle(known);
    if (const JobEntry* entry = book_.find(event->job)) open_jury(event->job, entry->job);
    handle(*event);
  });
}

/// One line a request, whatever it names.
void Grid::audit_jobs(const char* verb, const Asker& asker, const std::vector<JobId>& jobs) {
  if (jobs.empty()) return;
  std::set<std::uint64_t> numbers;
  std::set<std::string> owners;
  for (const JobId job : jobs) numbers.insert(job.value), owners.insert(book_.find(job)->row.owner);
  std::string text;
  for (const std::string& owner : owners) text += (text.empty() ? "" : ",") + owner;
  audit_.asked(verb, asker.jid, asker.admin, {{"job", audit::numbers_text(numbers)}, {"owner", text}});
}

void Grid::cancel(const Asker& asker, const wire::CancelRequest& request, Reply<wire::CancelAnswer> reply) {
  if (too_early([=, this] { cancel(asker, request, reply); })) return;
  if (auto refusal = unchangeable(asker, request.jobs(), "cancel")) return reply(std::move(*refusal));
  std::vector<JobId> jobs;
  for (const std::uint64_t id : request.jobs()) {
    JobEntry* entry = book_.find({id});
    if (entry->row.ended_ms > 0 || entry->row.canceled) continue;
    entry->row.canceled = true;
    journal_->cancel({id});
    jobs.push_back({id});
    spdlog::info("job canceled job={} by={}", id, asker.owner);
  }
  audit_jobs("cancel", asker, jobs);
  journal_->commit([this, jobs, request, reply] {
    for (const JobId job : jobs) handle(JobCanceled{job});
    wire::CancelAnswer answer;
    for (const std::uint64_t id : request.jobs())
      if (const JobEntry* entry = book_.find({id})) *answer.add_jobs() = book_.status(*entry, scheduler_);
    reply(answer);
  });
}

void Grid::set_held(const Asker& asker, const wire::JobsRequest& request, bool held, Reply<wire::JobsAnswer> reply) {
  if (too_early([=, this] { set_held(asker, request, held, reply); })) return;
  if (static_cast<std::uint32_t>(request.jobs_size()) > kJobsMax) return reply(Refusal{"bad-request", fmt::format("name at most {} jobs", kJobsMax)});
  if (auto refusal = unchangeable(asker, request.jobs(), held ? "hold" : "release")) return reply(std::move(*refusal));
  std::vector<JobId> jobs;
  for (const std::uint64_t id : request.jobs()) {
    JobEntry* entry = book_.find({id});
    if (entry->row.ended_ms > 0 || entry->row.held == held) continue;
    entry->row.held = held, entry->row.note.clear();
    journal_->hold({id}, held);
    jobs.push_back({id});
    spdlog::info("job {} job={} by={}", held ? "held" : "released", id, asker.owner);
  }
  audit_jobs(held ? "hold" : "release", asker, jobs);
  journal_->commit([this, held, jobs, request, reply] {
    for (const JobId job : jobs) {
      handle(held ? Event(JobHeld{job}) : Event(JobReleased{job}));
      touch(job);
    }
    wire::JobsAnswer answer;
    for (const std::uint64_t id : request.jobs())
      if (const JobEntry* entry = book_.find({id})) *answer.add_jobs() = book_.status(*entry, scheduler_);
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
  if (!entry) return reply(no_such(id.value));
  if (too_early([=, this] { rerun(asker, request, reply); })) return;
  if (auto refusal = sealed()) return reply(std::move(*refusal));
  if (const std::string trouble = journal_->trouble(); !trouble.empty())
    return reply(Refusal{"resource-constraint", "nothing is run again for now: " + trouble});
  if (!request.all() && !entry->over()) return reply(Refusal{"not-acceptable", fmt::format("job {} has not ended: wait for its end, or cancel it, before it runs again", id.value)});
  if (!request.all() && entry->row.succeeded == entry->row.tasks)
    return reply(Refusal{"not-acceptable", fmt::format("every task of job {} succeeded: with --all a new job is made of it", id.value)});
  if (!request.all())
    if (auto refusal = too_fast(asker.owner)) return reply(std::move(*refusal));
  if (!reopening_.insert(id).second) return reply(Refusal{"resource-constraint", fmt::format("job {} is being made ready to run again", id.value)});
  journal_->read_kept(id, [this, asker, request, id, reply](Result<Journal::Kept> kept) {
    reopening_.erase(id);
    if (!kept) return reply(Refusal{"resource-constraint", kept.error().text()});
    again(asker, request, std::move(kept.value()), reply);
  });
}

void Grid::again(const Asker& asker, const wire::RerunRequest& request, Journal::Kept kept, Reply<wire::SubmitAnswer> reply) {
  const JobId id{request.job()};
  JobEntry& entry = *book_.find(id);  // not forgotten while it is in reopening_, nor in the turn that takes it out
  const Clocks clocks = Clocks::read();
  Submission given{{}, request.key(), request.watch(), false};
  wire::Job& job = given.job;
  if (!job.ParseFromString(kept.spec)) return reply(Refusal{"internal-server-error", fmt::format("job {} cannot be read from the store", id.value)});
  job.set_hold(false);
  if (job.deadline_ms() <= clocks.now_ms) job.set_deadline_ms(0);  // nothing could run by a deadline that has passed
  // What it waited for and is no longer kept ended long ago: its owner wants it to run all the same.
  auto* after = job.mutable_after();
  after->erase(std::remove_if(after->begin(), after->end(), [&](const auto& a) { return !book_.find({a.job()}) && book_.was_given({a.job()}); }), after->end());
  if (request.all()) return submit(asker, std::move(given), reply);
  JobRow& row = entry.row;
  const std::uint64_t tasks = row.tasks - std::min<std::uint64_t>(row.tasks, kept.succeeded.size());
  const std::uint64_t memory = memory_of(job, row.tasks);
  if (auto refusal = no_room(row.owner, tasks, memory)) return reply(std::move(*refusal));
  if (!request.key().empty()) row.key = request.key();
  book_.remember_key(asker.owner, request.key(), id);
  row.spec = job.SerializeAsString();
  row.deadline_ms = job.deadline_ms(), row.held = row.canceled = false, row.note.clear(), row.started_ms = row.ended_ms = 0, row.state = TaskState::waiting;
  row.succeeded = row.failed = row.canceled_tasks = row.requeued = row.retried = 0;
  journal_->reopen(row);
  auto event = std::make_shared<JobRestored>(JobRestored{event_of(id, row.owner, job, clocks), std::move(kept.succeeded), false, {}, born(id)});
  for (const auto& [task, runs] : kept.runs) event->past.push_back({task, runs});  // only their numbers go on: it may fail as often as at first
  audit_.asked("rerun", asker.jid, asker.admin, {{"job", std::to_string(id.value)}, {"owner", row.owner}, {"tasks", std::to_string(tasks)}});
  know(row.owner);
  spdlog::info("job runs again job={} by={} tasks={}", id.value, asker.owner, tasks);
  wire::SubmitAnswer answer;
  answer.set_job(id.value), answer.set_tasks(tasks);
  match(job, event->job, false, answer);
  book_.reopened(entry, std::move(job));
  opened(entry, memory);
  journal_->commit([this, event, answer, id, watch = request.watch(), jid = asker.jid, reply] {
    if (watch) watches_.add(now(), id, jid);
    reply(answer);
    if (const JobEntry* again = book_.find(id))
      for (const JobKnown& known : book_.ended_before(again->job)) handle(known);
    if (const JobEntry* again = book_.find(id)) open_jury(id, again->job);
    handle(*event);
    touch(id);
  });
}

/// Accounts, not single workers: who was put out would be back under another name of the same account.
void Grid::ban(const Asker& asker, const wire::BanRequest& request, Reply<wire::BanAnswer> reply) {
  if (request.who_size() == 0)
    return banned_accounts([reply](const Result<std::vector<std::string>>& all) {
      if (!all) return reply(Refusal{"resource-constraint", all.error().text()});
      wire::BanAnswer told;
      for (const std::string& jid : all.value()) told.add_jids(printable(jid));
      reply(told);
    });
  if (request.who_size() > kBansAtOnce) return reply(Refusal{"bad-request", fmt::format("name at most {} at a time", kBansAtOnce)});
  // Also of a manager that takes nothing else: what stopped it may be who is to be put out.
  auto accounts = std::make_shared<std::set<std::string>>();
  for (const std::string& who : request.who()) {
    // An address is an address: whoever takes somebody's for a name would choose whom the ban hits.
    const auto read = Who::parse(who.substr(0, who.find('/')));
    if (read && read.value().kind == Who::Kind::person) {
      accounts->insert(read.value().name);
    } else if (const std::string named = pool_.jid_of(who); !named.empty()) {
      accounts->insert(bare(named));
    } else {
      return reply(Refusal{"item-not-found", fmt::format("no worker in the market has the name {}, and it is no JID", souk::quoted(printable(shortened(who, 100))))});
    }
  }
  ban_next(asker, shortened(printable(request.reason()), 200), request.lift(), accounts, wire::BanAnswer(), std::move(reply));
}

/// One account after the other, each when the room has it.
void Grid::ban_next(const Asker& asker, const std::string& reason, bool lift, const std::shared_ptr<std::set<std::string>>& left, wire::BanAnswer answer, Reply<wire::BanAnswer> reply) {
  if (left->empty()) return journal_->commit([answer, reply] { reply(answer); });  // a ban that was confirmed outlives us
  const std::string jid = left->extract(left->begin()).value();
  std::uint32_t workers = 0;
  for (const auto& [id, member] : pool_.members()) workers += bare(member.jid) == jid;
  ban_account(asker.jid, jid, reason, lift, [this, asker, reason, lift, left, answer, reply, jid, workers](const Result<Done>& done) mutable {
    if (!done) return reply(Refusal{"not-allowed", done.error().text()});
    audit_.did(lift ? "unban" : "ban", asker.jid, {{"whom", jid}, {"workers", std::to_string(workers)}, {"reason", reason}});
    spdlog::info("{} jid={} by={} workers={}", lift ? "ban lifted" : "banned", jid, asker.owner, workers);
    answer.add_jids(jid);
    if (!lift) answer.set_workers(answer.workers() + workers);
    if (!lift) banned(jid);
    ban_next(asker, reason, lift, left, std::move(answer), std::move(reply));
  });
}

}  // namespace souk
