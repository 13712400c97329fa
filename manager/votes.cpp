// Results that are not an outcome yet: who gave one is not asked again, and what is parked waits without being looked for. jury.h says which.
#include <algorithm>
#include <set>
#include <utility>

#include "manager/scheduler.h"

namespace souk {

namespace {
constexpr std::size_t kWakeLooks = 64;  // tasks looked at for a worker that got room; the others wait for the second to be over
}

std::string Scheduler::voter_of(const Worker& worker, VotesOf of) { return of == VotesOf::owners ? worker.owner : worker.owner + "/" + worker.name; }

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

/// A worker has room for some: what waits for one that has not voted may be for it.
void Scheduler::wake_unvoted(Ix ix, int room) {
  const Worker& worker = workers_[ix];
  std::size_t looks = 0;
  for (auto at = unvoted_.begin(); at != unvoted_.end() && room > 0 && looks < kWakeLooks; ++looks) {
    const auto [id, task] = *at;
    const Ix job_at = job_ix(id);
    const auto past = job_at == kNone ? std::map<std::uint32_t, History>::iterator{} : jobs_[job_at].history.find(task);
    const bool waits = job_at != kNone && past != jobs_[job_at].history.end() && jobs_[job_at].voted.contains(task) && delayed_.contains({past->second.not_before, id, task});
    if (!waits) {
      at = unvoted_.erase(at);
      continue;
    }
    Job& job = jobs_[job_at];
    const std::uint32_t group = group_of(job, task);
    const TaskClassId task_class = job.lanes[job.groups[group].lane].task_class;
    if (queues_[task_class].position.size() != market_.worker_classes()) refresh(task_class);
    if (has_voted(job, task, worker) || !fits_class(task_class, worker.worker_class)) {
      ++at;
      continue;
    }
    delayed_.erase({past->second.not_before, id, task});
    past->second.not_before = {};
    at = unvoted_.erase(at);
    set_waiting(job_at, task, group, Duration(0));
    room -= market_.task(task_class).need.slots;
  }
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
