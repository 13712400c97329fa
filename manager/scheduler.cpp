#include "manager/scheduler.h"

#include <algorithm>
#include <iterator>
#include <utility>

namespace souk {

namespace {
std::uint64_t tasks_of(const JobSubmitted& job) {
  std::uint64_t tasks = 0;
  for (const Group& group : job.groups) tasks += group.tasks;
  return tasks;
}
constexpr std::size_t kEstimatesMax = 256;  // jobs remembered per worker; the oldest is forgotten
constexpr Duration kTickGap = std::chrono::seconds(3);  // between ticks; a longer one means that we stood still, not the workers
bool takes_work(WorkerState state) { return state == WorkerState::free || state == WorkerState::busy; }
}  // namespace

Scheduler::Scheduler(Epoch epoch, Rules rules) : epoch_(epoch), rules_(rules) {}

void Scheduler::step(Instant now, const Event& event, Actions& actions) {
  now_ = now;
  std::visit([&](const auto& e) { on(e, actions); }, event);
  dispatch(actions);
}

// ---- Jobs ----------------------------------------------------------------------------------------------------------------------

void Scheduler::on(const JobSubmitted& e, Actions& actions) {
  const auto [at, fresh] = jobs_.try_emplace(e.job);
  if (!fresh) return;
  Job& job = at->second;
  job.owner = e.owner;
  job.retries = e.groups.front().retry.times;
  job.counts.tasks = job.counts.waiting = tasks_of(e);
  job.states.assign(tasks_of(e), TaskState::waiting);
  index_job(e.job, job);
  settle(e.job, job, actions);  // a job of no tasks ends at once
}

void Scheduler::on(const JobRestored& e, Actions& actions) {
  const auto [at, fresh] = jobs_.try_emplace(e.job.job);
  if (!fresh) return;
  Job& job = at->second;
  job.owner = e.job.owner;
  job.restored = true;
  job.retries = e.job.groups.front().retry.times;
  job.counts.tasks = job.counts.waiting = tasks_of(e.job);
  job.states.assign(tasks_of(e.job), TaskState::waiting);
  for (const auto& [task, state] : e.ended)
    if (task.value >= 1 && task.value <= tasks_of(e.job) && souk::ended(state) && !souk::ended(job.states[task.value - 1]))
      end_task(e.job.job, job, task.value, state);
  index_job(e.job.job, job);
  if (e.canceled) return on(JobCanceled{e.job.job}, actions);
  settle(e.job.job, job, actions);
}

void Scheduler::on(const JobCanceled& e, Actions& actions) {
  const auto at = jobs_.find(e.job);
  if (at == jobs_.end() || at->second.states.empty() || at->second.canceled) return;
  Job& job = at->second;
  job.canceled = true;
  for (std::uint64_t task = 1; task <= job.counts.tasks; ++task) {
    const TaskState state = job.states[task - 1];
    if (state == TaskState::waiting) end_task(e.job, job, task, TaskState::canceled);
    if (state != TaskState::running) continue;
    const AttemptId attempt = running_.at({e.job, {task}});
    Run& run = runs_.at(attempt);
    run.stopping = true;
    actions.push_back(Stop{run.worker, {attempt, run.task}});
  }
  job.again.clear();
  job.cursor = job.counts.tasks + 1;
  index_job(e.job, job);
  settle(e.job, job, actions);
}

void Scheduler::end_task(JobId id, Job& job, std::uint64_t task, TaskState state) {
  TaskState& now = job.states[task - 1];
  if (now == TaskState::waiting) --job.counts.waiting, job.again.erase(task);
  if (now == TaskState::running) --job.counts.running;
  now = state;
  ++(state == TaskState::succeeded ? job.counts.succeeded : state == TaskState::failed ? job.counts.failed : job.counts.canceled);
  if (const auto old = lost_of_.find({id, {task}}); old != lost_of_.end()) {
    for (const AttemptId attempt : old->second) lost_.erase(attempt);
    lost_of_.erase(old);
  }
  job.failures.erase(task), job.losses.erase(task), job.past.erase(task);
}

void Scheduler::set_waiting(JobId id, Job& job, std::uint64_t task) {
  job.states[task - 1] = TaskState::waiting;
  --job.counts.running, ++job.counts.waiting;
  job.again.insert(task);
  index_job(id, job);
}

void Scheduler::settle(JobId id, Job& job, Actions& actions) {
  if (job.counts.waiting + job.counts.running > 0 || (job.states.empty() && job.counts.tasks > 0)) return;
  job.states = {};
  job.again.clear(), job.failures.clear(), job.losses.clear(), job.past.clear();
  index_job(id, job);
  // Canceled too late, when all had succeeded, is a success.
  const TaskState state = job.counts.canceled > 0 ? TaskState::canceled : job.counts.failed > 0 ? TaskState::failed : TaskState::succeeded;
  actions.push_back(JobEnded{id, state, {}});
}

bool Scheduler::has_waiting(const Job& job) const { return !job.states.empty() && job.counts.waiting > 0; }

void Scheduler::index_job(JobId id, const Job& job) {
  if (has_waiting(job)) {
    ready_[job.owner].insert(id);
  } else if (const auto owner = ready_.find(job.owner); owner != ready_.end()) {
    owner->second.erase(id);
    if (owner->second.empty()) last_job_.erase(owner->first), ready_.erase(owner);
  }
}

Scheduler::Job* Scheduler::live(TaskId task) {
  const auto at = jobs_.find(task.job);
  if (at == jobs_.end() || task.task.value < 1 || task.task.value > at->second.states.size()) return nullptr;
  return &at->second;
}

// ---- Workers -------------------------------------------------------------------------------------------------------------------

void Scheduler::on(const WorkerJoined& e, Actions& actions) {
  Worker& worker = workers_[e.worker];
  worker.load.slots = std::max(1, e.slots);
  worker.load.state = e.state;
  rested(e.worker, worker);
  // What we believed it had and it has not, it lost: it was restarted, or an assignment never arrived.
  std::set<AttemptId> has;
  for (const Held& held : e.held) has.insert(held.attempt);
  std::vector<AttemptId> missing;
  std::set_difference(worker.held.begin(), worker.held.end(), has.begin(), has.end(), std::back_inserter(missing));
  for (const AttemptId attempt : missing) requeue(attempt, "worker-forgot-it", true, actions);
  for (const Held& held : e.held) adopt(e.worker, worker, held, true, actions);
  index(e.worker, worker);
}

/// A worker says it holds an attempt. One that we had given up, or of an earlier life of ours, it may keep: it has run for longer than any newer one.
/// Attempts of earlier lives are believed only in the answer to our greeting and for jobs that came out of the journal.
void Scheduler::adopt(WorkerId id, Worker& worker, const Held& held, bool greeted, Actions& actions) {
  if (const auto run = runs_.find(held.attempt); run != runs_.end()) {
    const bool its = run->second.worker == id && run->second.task == held.task;
    if (its) run->second.lease_ends = now_ + rules_.lease;
    if (!its || run->second.stopping) actions.push_back(Stop{id, held});  // said again: the first may have been lost
    return;
  }
  Job* job = live(held.task);
  const auto lost = lost_.find(held.attempt);
  const bool earlier = greeted && job && job->restored && held.attempt.epoch < epoch_ && held.attempt.epoch.value > 0;
  const bool ours = lost != lost_.end() ? lost->second == std::pair{id, held.task} : earlier;
  if (!job || !ours || job->canceled || souk::ended(job->states[held.task.task.value - 1])) {
    actions.push_back(Stop{id, held});
    return;
  }
  const std::uint64_t task = held.task.task.value;
  if (const auto other = running_.find(held.task); other != running_.end()) {
    const AttemptId newer = other->second;
    if (newer < held.attempt) {  // two claims of earlier lives: the later attempt stays
      actions.push_back(Stop{id, held});
      return;
    }
    actions.push_back(Stop{runs_.at(newer).worker, {newer, held.task}});
    release(newer);
  } else {
    job->again.erase(task);
    job->states[task - 1] = TaskState::running;
    --job->counts.waiting, ++job->counts.running;
    index_job(held.task.job, *job);
  }
  if (lost != lost_.end()) {
    std::erase(lost_of_[held.task], held.attempt);
    lost_.erase(lost);
  }
  runs_[held.attempt] = {held.task, id, now_ + rules_.lease};
  running_[held.task] = held.attempt;
  worker.held.insert(held.attempt);
  worker.load.held = worker.held.size();
}

void Scheduler::on(const WorkerChanged& e, Actions&) {
  const auto at = workers_.find(e.worker);
  if (at == workers_.end()) return;
  at->second.load.state = e.state;
  rested(e.worker, at->second);
  index(e.worker, at->second);
}

void Scheduler::on(const WorkerLost& e, Actions& actions) {
  const auto at = workers_.find(e.worker);
  if (at == workers_.end()) return;
  const std::set<AttemptId> held = at->second.held;
  for (const AttemptId attempt : held) requeue(attempt, "worker-lost", true, actions);
  if (at->second.free_indexed > 0) idle_.erase({-at->second.free_indexed, e.worker});
  resting_.erase(e.worker);
  workers_.erase(at);
}

/// Keeps idle_ in step with the worker.
void Scheduler::index(WorkerId id, Worker& worker) {
  if (worker.free_indexed > 0) idle_.erase({-worker.free_indexed, id});
  const int free = worker.load.slots - static_cast<int>(worker.held.size());
  worker.free_indexed = takes_work(worker.load.state) && !worker.resting ? std::max(0, free) : 0;
  if (worker.free_indexed > 0) idle_.insert({-worker.free_indexed, id});
}

void Scheduler::on(const AttemptRefused& e, Actions& actions) {
  const auto run = runs_.find(e.attempt);
  if (run == runs_.end() || run->second.worker != e.worker) return;
  if (const auto at = workers_.find(e.worker); at != workers_.end()) {
    at->second.resting = true;  // else it would be asked again at once, for ever
    resting_.insert(e.worker);
  }
  requeue(e.attempt, "refused", false, actions);
}

void Scheduler::rested(WorkerId id, Worker& worker) {
  worker.resting = false;
  resting_.erase(id);
}

void Scheduler::on(const AttemptReturned& e, Actions& actions) {
  const auto run = runs_.find(e.attempt);
  if (run == runs_.end() || run->second.worker != e.worker) return;
  // It was prefetched behind something long: believe no more that this job's tasks are short here.
  if (const auto at = workers_.find(e.worker); at != workers_.end()) {
    double& mean = at->second.mean_us[run->second.task.job];
    mean = std::max(mean, static_cast<double>(rules_.prefetch.count()) * 4);
    if (at->second.mean_us.size() > kEstimatesMax) at->second.mean_us.erase(at->second.mean_us.begin());
  }
  requeue(e.attempt, "handed-back", false, actions);
}

// ---- Attempts ------------------------------------------------------------------------------------------------------------------

/// Forgets the run; the task's state is the caller's business.
void Scheduler::release(AttemptId attempt) {
  const auto run = runs_.find(attempt);
  if (const auto worker = workers_.find(run->second.worker); worker != workers_.end()) {
    worker->second.held.erase(attempt);
    worker->second.load.held = worker->second.held.size();
    index(run->second.worker, worker->second);
    hungry_.insert(run->second.worker);
  }
  running_.erase(run->second.task);
  runs_.erase(run);
}

void Scheduler::requeue(AttemptId attempt, std::string_view why, bool counts_as_loss, Actions& actions) {
  const Run run = runs_.at(attempt);
  release(attempt);
  Job& job = jobs_.at(run.task.job);
  const std::uint64_t task = run.task.task.value;
  if (job.canceled) {
    end_task(run.task.job, job, task, TaskState::canceled);
    settle(run.task.job, job, actions);
    return;
  }
  if (counts_as_loss) {
    ++job.counts.requeued;
    ++job.past[task];
    lost_[attempt] = {run.worker, run.task};
    lost_of_[run.task].push_back(attempt);
    // Only a worker that went away speaks against the task; silence has other causes.
    if (why == "worker-lost" && ++job.losses[task] >= rules_.losses_max) {
      const unsigned runs = job.past[task];
      end_task(run.task.job, job, task, TaskState::failed);
      actions.push_back(GiveUp{run.task, runs, "workers-lost"});
      settle(run.task.job, job, actions);
      return;
    }
  }  // else it never ran
  set_waiting(run.task.job, job, task);
  actions.push_back(Requeued{run.task, attempt, run.worker, why});
}

void Scheduler::on(const AttemptFinished& e, Actions& actions) {
  const auto run = runs_.find(e.what.attempt);
  Job* job = live(e.what.task);
  const bool current = run != runs_.end() && run->second.worker == e.worker && run->second.task == e.what.task;
  if (!current) {
    const auto lost = lost_.find(e.what.attempt);
    if (!job) return actions.push_back(Drop{e.what, "task ended or unknown"});
    if (souk::ended(job->states[e.what.task.task.value - 1])) return actions.push_back(Drop{e.what, "committed already"});
    // What earlier lives gave out was claimed in the answer to our greeting, or is not believed.
    if (lost == lost_.end() || lost->second != std::pair{e.worker, e.what.task}) return actions.push_back(Drop{e.what, "never given to this worker"});
    if (!e.succeeded || job->canceled) return actions.push_back(Drop{e.what, "given to another worker since"});
  }
  const std::uint64_t task = e.what.task.task.value;
  const JobId id = e.what.task.job;
  if (const auto at = workers_.find(e.worker); at != workers_.end()) {
    Worker& worker = at->second;
    if (worker.resting) rested(e.worker, worker), index(e.worker, worker);
    ++(e.succeeded ? worker.load.succeeded : worker.load.failed);
    const auto [mean, first] = worker.mean_us.try_emplace(id, static_cast<double>(e.wall.count()));
    if (!first) mean->second += (static_cast<double>(e.wall.count()) - mean->second) / 8;
    if (worker.mean_us.size() > kEstimatesMax) worker.mean_us.erase(worker.mean_us.begin());
  }
  if (current) release(e.what.attempt);

  if (current && !e.succeeded && !job->canceled) {
    const bool own_fault = e.cause != Cause::canceled;
    if (!own_fault || ++job->failures[task] <= job->retries) {
      if (own_fault) ++job->counts.retried;
      ++job->past[task];
      set_waiting(id, *job, task);
      actions.push_back(Requeued{e.what.task, e.what.attempt, e.worker, own_fault ? "failed" : "stopped-by-worker"});
      return;
    }
  }
  // A late success overtakes the attempt that runs elsewhere.
  if (!current)
    if (const auto other = running_.find(e.what.task); other != running_.end()) {
      const AttemptId attempt = other->second;
      actions.push_back(Stop{runs_.at(attempt).worker, {attempt, e.what.task}});
      release(attempt);
    }
  const unsigned runs = std::max(1u, attempts(e.what.task));
  const TaskState state = e.succeeded ? TaskState::succeeded : e.cause == Cause::canceled ? TaskState::canceled : TaskState::failed;
  end_task(id, *job, task, state);
  index_job(id, *job);
  actions.push_back(Commit{e.what, e.worker, state, runs});
  settle(id, *job, actions);
}

void Scheduler::on(const LeaseRenewed& e, Actions& actions) {
  const auto at = workers_.find(e.worker);
  if (at == workers_.end()) return;
  for (const Held& held : e.held) adopt(e.worker, at->second, held, false, actions);
  at->second.load.state = e.state;
  rested(e.worker, at->second);
  index(e.worker, at->second);
}

void Scheduler::on(const Tick&, Actions& actions) {
  const Duration gap = now_ - std::exchange(last_tick_, now_);
  for (const WorkerId id : std::set(resting_)) rested(id, workers_.at(id)), index(id, workers_.at(id));
  if (!open_) return;
  if (gap > kTickGap) {
    for (auto& [attempt, run] : runs_) run.lease_ends += gap;
    return;
  }
  std::vector<AttemptId> over;
  for (const auto& [attempt, run] : runs_)
    if (run.lease_ends <= now_) over.push_back(attempt);
  // The worker is not told to stop: if it still lives, what it brings or renews first is taken.
  for (const AttemptId attempt : over) requeue(attempt, "lease-ended", true, actions);
}

void Scheduler::on(const MarketClosed&, Actions&) { open_ = false; }

void Scheduler::on(const MarketOpened&, Actions&) {
  open_ = true;
  last_tick_ = now_;
  for (auto& [attempt, run] : runs_) run.lease_ends = now_ + rules_.lease;  // nobody could renew
}

// ---- Dispatch ------------------------------------------------------------------------------------------------------------------

/// Owners take turns, and so do the jobs of each: a small job does not wait behind a large one.
std::optional<JobId> Scheduler::next_job() const {
  if (ready_.empty()) return std::nullopt;
  auto owner = ready_.upper_bound(last_owner_);
  if (owner == ready_.end()) owner = ready_.begin();
  const auto last = last_job_.find(owner->first);
  const auto job = last == last_job_.end() ? owner->second.begin() : owner->second.upper_bound(last->second);
  return job == owner->second.end() ? *owner->second.begin() : *job;
}

std::optional<TaskId> Scheduler::next_task() {
  const auto id = next_job();
  if (!id) return std::nullopt;
  Job& job = jobs_.at(*id);
  last_owner_ = job.owner;
  last_job_[job.owner] = *id;
  if (!job.again.empty()) return TaskId{*id, {*job.again.begin()}};
  while (job.states[job.cursor - 1] != TaskState::waiting) ++job.cursor;  // ended in an earlier life, or adopted
  return TaskId{*id, {job.cursor}};
}

void Scheduler::assign(WorkerId id, Worker& worker, TaskId task, Actions& actions) {
  Job& job = jobs_.at(task.job);
  const std::uint64_t number = task.task.value;
  job.again.erase(number);
  if (number == job.cursor) ++job.cursor;
  job.states[number - 1] = TaskState::running;
  --job.counts.waiting, ++job.counts.running;
  if (job.counts.waiting == 0) index_job(task.job, job);
  const AttemptId attempt{epoch_, ++last_attempt_};
  runs_[attempt] = {task, id, now_ + rules_.lease};
  running_[task] = attempt;
  worker.held.insert(attempt);
  worker.load.held = worker.held.size();
  actions.push_back(Assign{id, task, attempt});
}

/// Attempts of that job the worker may hold in all: its slots, and `prefetch` of work beyond.
int Scheduler::depth(const Worker& worker, JobId job) const {
  const auto mean = worker.mean_us.find(job);
  if (mean == worker.mean_us.end()) return worker.load.slots;
  const double ahead = std::min(static_cast<double>(rules_.prefetch_max), static_cast<double>(rules_.prefetch.count()) / std::max(1.0, mean->second));
  return worker.load.slots + static_cast<int>(ahead * worker.load.slots);
}

void Scheduler::dispatch(Actions& actions) {
  if (!open_) return;
  while (!idle_.empty() && !ready_.empty()) {
    const WorkerId id = idle_.begin()->second;
    Worker& worker = workers_.at(id);
    assign(id, worker, *next_task(), actions);
    index(id, worker);
  }
  for (const WorkerId id : std::exchange(hungry_, {})) {
    const auto at = workers_.find(id);
    if (at == workers_.end() || !takes_work(at->second.load.state) || at->second.resting) continue;
    for (auto job = next_job(); job && static_cast<int>(at->second.held.size()) < depth(at->second, *job); job = next_job())
      assign(id, at->second, *next_task(), actions);
  }
}

// ---- Questions -----------------------------------------------------------------------------------------------------------------

const Scheduler::Counts* Scheduler::counts(JobId job) const {
  const auto at = jobs_.find(job);
  return at == jobs_.end() ? nullptr : &at->second.counts;
}

TaskState Scheduler::state(TaskId task) const {
  const auto at = jobs_.find(task.job);
  if (at == jobs_.end() || task.task.value < 1 || task.task.value > at->second.states.size()) return TaskState::waiting;
  return at->second.states[task.task.value - 1];
}

std::optional<WorkerId> Scheduler::runner(TaskId task) const {
  const auto at = running_.find(task);
  if (at == running_.end()) return std::nullopt;
  return runs_.at(at->second).worker;
}

unsigned Scheduler::attempts(TaskId task) const {
  const auto at = jobs_.find(task.job);
  if (at == jobs_.end() || task.task.value < 1 || task.task.value > at->second.states.size()) return 0;
  const Job& job = at->second;
  const auto past = job.past.find(task.task.value);
  return (past == job.past.end() ? 0 : past->second) + (job.states[task.task.value - 1] == TaskState::running ? 1 : 0);
}

const Scheduler::Load* Scheduler::load(WorkerId worker) const {
  const auto at = workers_.find(worker);
  return at == workers_.end() ? nullptr : &at->second.load;
}

Scheduler::Totals Scheduler::totals() const {
  Totals sum;
  for (const auto& [owner, jobs] : ready_)
    for (const JobId id : jobs) sum.waiting += jobs_.at(id).counts.waiting;
  sum.running = runs_.size();
  return sum;
}

std::optional<std::string> Scheduler::broken_invariant() const {
  auto broken = [](const std::string& what, std::uint64_t id) { return what + ' ' + std::to_string(id); };
  std::map<JobId, std::uint64_t> running;
  for (const auto& [attempt, run] : runs_) {
    ++running[run.task.job];
    if (const auto at = running_.find(run.task); at == running_.end() || at->second != attempt) return broken("two attempts count for one task: attempt", attempt.number);
    if (state(run.task) != TaskState::running) return broken("an attempt runs for a task that does not: attempt", attempt.number);
    const auto worker = workers_.find(run.worker);
    if (worker == workers_.end() || !worker->second.held.contains(attempt)) return broken("nobody holds attempt", attempt.number);
  }
  std::size_t held = 0;
  for (const auto& [id, worker] : workers_) {
    held += worker.held.size();
    if (worker.load.held != worker.held.size()) return broken("load of worker", id.value);
    if ((worker.free_indexed > 0) != idle_.contains({-worker.free_indexed, id})) return broken("index of worker", id.value);
  }
  if (held != runs_.size() || running_.size() != runs_.size()) return "held, running and runs differ";
  for (const auto& [id, job] : jobs_) {
    Counts seen;
    for (std::size_t i = 0; i < job.states.size(); ++i) {
      const TaskState state = job.states[i];
      ++(state == TaskState::waiting ? seen.waiting : state == TaskState::running ? seen.running : state == TaskState::succeeded ? seen.succeeded
         : state == TaskState::failed ? seen.failed : seen.canceled);
      if (state == TaskState::waiting && i + 1 < job.cursor && !job.again.contains(i + 1)) return broken("a waiting task that nobody will find, in job", id.value);
    }
    const Counts& c = job.counts;
    if (c.waiting + c.running + c.succeeded + c.failed + c.canceled != c.tasks) return broken("counts do not add up: job", id.value);
    if (!job.states.empty() && (seen.waiting != c.waiting || seen.running != c.running || seen.succeeded != c.succeeded || seen.failed != c.failed))
      return broken("counts and states differ: job", id.value);
    if (c.running != running[id]) return broken("running tasks without an attempt: job", id.value);
    const auto owner = ready_.find(job.owner);
    if (has_waiting(job) != (owner != ready_.end() && owner->second.contains(id))) return broken("queue and job differ: job", id.value);
  }
  for (const auto& [attempt, who] : lost_)
    if (ended(state(who.second)) || jobs_.at(who.second.job).states.empty()) return broken("a lost attempt outlived its task: attempt", attempt.number);
  if (open_ && !ready_.empty() && !idle_.empty()) return "a task waits while a slot is free";
  return std::nullopt;
}

}  // namespace souk
