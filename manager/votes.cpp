// Results that are not an outcome yet: who gave one is not asked again, and what is parked waits without being looked for. jury.h says which.
#include <algorithm>
#include <set>
#include <utility>

#include "manager/scheduler.h"

namespace souk {

const std::string& Scheduler::voter_of(const Worker& worker, VotesOf of) { return of == VotesOf::owners ? worker.owner : worker.stem; }

std::string Scheduler::voter(WorkerId id, VotesOf of) const {
  const auto at = worker_ix_.find(id);
  return at == worker_ix_.end() ? std::string() : voter_of(workers_[at->second], of);
}

std::size_t Scheduler::voters(VotesOf of) const {
  std::set<std::string> all;
  for (const auto& [id, ix] : worker_ix_) all.insert(voter_of(workers_[ix], of));
  return all.size();
}

bool Scheduler::runs(WorkerId worker, const Held& what) const {
  const auto at = run_ix_.find(what.attempt);
  return at != run_ix_.end() && workers_[runs_[at->second].worker].id == worker && task_id(runs_[at->second]) == what.task;
}

bool Scheduler::has_voted(const Job& job, std::uint32_t task, const Worker& worker) const {
  if (job.voted.empty()) return false;
  const auto voted = job.voted.find(task);
  return voted != job.voted.end() && std::find(voted->second.begin(), voted->second.end(), voter_of(worker, *job.votes_of)) != voted->second.end();
}

void Scheduler::on(const AttemptSetBy& e, Actions& actions) {
  if (!runs(e.worker, e.what)) return actions.push_back(Drop{e.what, "given to another worker since"});
  const Ix at = run_ix_.at(e.what.attempt);
  const Ix job_at = runs_[at].job, worker_at = runs_[at].worker;
  const std::uint32_t task = runs_[at].task, group = runs_[at].group;
  const unsigned run_number = runs_[at].run;
  Job& job = jobs_[job_at];
  Worker& worker = workers_[worker_at];
  if (!job.votes_of) return actions.push_back(Drop{e.what, "its job takes no votes"});
  if (worker.resting) worker.resting = false, resting_.erase(worker.id);
  worker.times_refused = 0;
  heard(worker_at);
  ++(e.succeeded ? worker.succeeded : worker.failed);
  charge(runs_[at], std::clamp(e.wall, Duration(0), std::max(Duration(0), now_ - runs_[at].placed)));
  if (e.succeeded) learn(worker_at, at, e.wall);
  auto& voted = job.voted[task];
  if (const std::string voter = voter_of(worker, *job.votes_of); std::find(voted.begin(), voted.end(), voter) == voted.end()) voted.push_back(voter);
  release(at);
  History& past = job.history[task];
  const unsigned runs = ++past.past;
  if (e.then != AttemptSetBy::Then::park) actions.push_back(Failed{e.what, e.worker, run_number, kVote, past.failures, past.losses});
  if (job.running.contains(task)) return;  // another attempt goes on
  if (job.canceled || job.dropped) {
    end_task(job_at, task, TaskState::canceled);
    return settle(job_at, actions);
  }
  if (e.then == AttemptSetBy::Then::fail) {
    end_task(job_at, task, TaskState::failed);
    sync_lane(job_at, job.groups[group].lane);
    actions.push_back(GiveUp{e.what.task, runs, kNoQuorum, 0, e.why});
    task_failed_for_good(job_at, actions);
    return settle(job_at, actions);
  }
  if (e.then == AttemptSetBy::Then::again) return set_waiting(job_at, task, group, Duration(0));
  --job.counts.running, --running_, ++job.counts.waiting, ++waiting_;
  job.states.set(task, TaskState::waiting);
  job.history[task].not_before = kParked;
  ++job.parked;
  parking_.insert(job_at);
  sync_lane(job_at, job.groups[group].lane);
}

void Scheduler::on(const TaskReopened& e, Actions&) {
  const Ix job_at = job_ix(e.task.job);
  if (job_at == kNone || e.task.task.value < 1) return;
  Job& job = jobs_[job_at];
  const auto task = static_cast<std::uint32_t>(e.task.task.value - 1);
  const auto past = job.history.find(task);
  if (past == job.history.end() || past->second.not_before != kParked) return;
  past->second.not_before = {};
  if (--job.parked == 0) parking_.erase(job_at);
  set_waiting(job_at, task, group_of(job, task), Duration(0));
}

void Scheduler::on(const TaskSettled& e, Actions& actions) {
  const Ix job_at = job_ix(e.what.task.job);
  if (job_at == kNone || e.what.task.task.value < 1) return;
  Job& job = jobs_[job_at];
  const auto task = static_cast<std::uint32_t>(e.what.task.task.value - 1);
  const auto past = job.history.find(task);
  if (past == job.history.end() || past->second.not_before != kParked) return;
  const unsigned runs = past->second.past;
  const std::uint32_t lane = job.groups[group_of(job, task)].lane;
  end_task(job_at, task, TaskState::succeeded);
  sync_lane(job_at, lane);
  actions.push_back(Commit{e.what, e.worker, TaskState::succeeded, runs});
  settle(job_at, actions);
}

void Scheduler::on(const WorkerDistrusted& e, Actions& actions) {
  const auto at = worker_ix_.find(e.worker);
  if (at == worker_ix_.end()) return;
  Worker& worker = workers_[at->second];
  worker.faults += (1 - worker.faults) / 4;
  if (e.aside > Duration(0)) {  // also if it is the only one: better nothing than what is wrong
    worker.aside_until = std::max(worker.aside.empty() ? Instant{} : worker.aside_until, now_ + e.aside);
    worker.aside = kDistrusted;
    aside_.insert(worker.id);
    actions.push_back(SetAside{worker.id, worker.aside_until, worker.aside});
  }
  index(at->second, false);
}

// ---- Tasks that wait for somebody else ---------------------------------------------------------------------------------------------

Scheduler::Awaiting Scheduler::awaiting(const Job& job, std::uint32_t task) const {
  Awaiting key{job.lanes[job.groups[group_of(job, task)].lane].task_class, *job.votes_of, job.voted.at(task)};
  std::sort(key.voted.begin(), key.voted.end());
  return key;
}

/// Nobody is asked again before a worker of somebody else has room: with a hundred thousand such tasks even a look at each of them a second is too much.
void Scheduler::put_aside(Job& job, std::uint32_t task) {
  job.history[task].not_before = kUnvoted;
  const auto [at, fresh] = unvoted_.try_emplace(awaiting(job, task));
  if (fresh) at->second.since = queues_[at->first.task_class].since;
  at->second.tasks.insert({job.id, task});
}

void Scheduler::drop_unvoted(Job& job, std::uint32_t task) {
  const auto past = job.history.find(task);
  if (past == job.history.end() || past->second.not_before != kUnvoted) return;
  past->second.not_before = {};
  const auto at = unvoted_.find(awaiting(job, task));
  at->second.tasks.erase({job.id, task});
  if (at->second.tasks.empty()) unvoted_.erase(at);
}

/// Its tasks are about to be of another class, which others may run.
void Scheduler::release_unvoted(Ix job_at, std::uint32_t lane) {
  Job& job = jobs_[job_at];
  if (job.voted.empty()) return;
  std::vector<std::uint32_t> tasks;
  for (const auto& [task, past] : job.history)
    if (past.not_before == kUnvoted && job.groups[group_of(job, task)].lane == lane) tasks.push_back(task);
  for (const std::uint32_t task : tasks) {
    drop_unvoted(job, task);
    set_waiting(job_at, task, group_of(job, task), Duration(0));
  }
}

/// A worker has room: what waits for one that has not voted may be for it. Of that only what finds room there, in slots, memory and all else: whatever is woken in vain
/// steps aside again, and so would be woken for ever. One of each kind in turn, going on where the last look ended, so that the many tasks of one job keep out nobody.
/// ahead: to be held beyond what it runs. True: something may start.
bool Scheduler::wake_unvoted(Ix ix, bool ahead) {
  const Worker& worker = workers_[ix];
  int room = ahead ? worker.slots : worker.room.slots;
  const std::string of_owner = voter_of(worker, VotesOf::owners), of_worker = voter_of(worker, VotesOf::workers);
  bool any = false, more = true;
  while (more && room > 0) {
    more = false;
    auto at = unvoted_.upper_bound(unvoted_turn_);
    for (std::size_t left = unvoted_.size(); left > 0 && room > 0; --left) {
      if (at == unvoted_.end()) at = unvoted_.begin();
      const auto here = at++;
      const Awaiting& key = here->first;
      if (std::binary_search(key.voted.begin(), key.voted.end(), key.of == VotesOf::owners ? of_owner : of_worker)) continue;
      if (queues_[key.task_class].position.size() != market_.worker_classes()) refresh(key.task_class);
      if (!fits_class(key.task_class, worker.worker_class) || !score(key.task_class, ix)) continue;
      const auto [id, task] = *here->second.tasks.begin();
      const Ix job_at = job_ix(id);
      Job& job = jobs_[job_at];
      const std::uint32_t group = group_of(job, task), lane = job.groups[group].lane;
      const Pick pick{key.task_class, job_at, lane, group, task};
      if (ahead ? worker.ahead.size() >= ahead_max(pick, worker) : !has_room(pick, worker)) continue;
      const bool starts = job.startable() && !shares_[job.owner].limited() && !job.lanes[lane].deferred && suits(pick, worker);
      if (starts) room -= market_.task(key.task_class).need.slots;  // else it waits for something else now, and keeps nobody out
      unvoted_turn_ = key;
      const Instant since = here->second.since;
      drop_unvoted(job, task);  // and `here` with it, if it was the last
      set_waiting(job_at, task, group, Duration(0));
      queues_[pick.task_class].since = std::min(queues_[pick.task_class].since, since);  // to be woken is not to start
      any = more = true;
    }
  }
  return any;
}

/// Jobs of which nothing is left to do but to check what is parked. What waits for somebody who has not voted runs when such a one comes.
void Scheduler::tell_parked(Actions& actions) {
  for (const Ix ix : parking_) {
    Job& job = jobs_[ix];
    const bool idle = job.counts.running == 0 && job.startable() && std::none_of(job.lanes.begin(), job.lanes.end(), [](const Lane& lane) { return lane.queued || lane.deferred; });
    if (!idle) job.told_parked = false;
    else if (!std::exchange(job.told_parked, true)) actions.push_back(OnlyParked{job.id});
  }
}

}  // namespace souk
