// Workers come, change, fall silent and go; their place among those with room.
#include <algorithm>
#include <set>
#include <utility>

#include "manager/scheduler.h"

namespace souk {

void Scheduler::on(const WorkerJoined& e, Actions& actions) {
  const auto [at, fresh] = worker_ix_.try_emplace(e.worker, kNone);
  if (fresh) {
    if (free_workers_.empty()) {
      at->second = static_cast<Ix>(workers_.size());
      workers_.emplace_back();
    } else {
      at->second = free_workers_.back();
      free_workers_.pop_back();
    }
    workers_[at->second] = {};
    workers_[at->second].id = e.worker;
  }
  const Ix ix = at->second;
  Worker& worker = workers_[ix];
  if (worker.here) {
    slots_ -= worker.slots, gpus_ -= static_cast<int>(worker.offer->gpus.size()), memory_ -= worker.offer->memory_bytes;
    if (worker.key != 0) class_index_[worker.worker_class].open.erase({worker.key, ix}), worker.key = 0;
  }
  worker.here = true;
  worker.offer = e.offer;
  worker.name = e.name, worker.owner = e.owner, worker.stem = e.stem.empty() ? e.owner + '/' + e.name : e.stem;
  const std::size_t acceptances = market_.acceptances();
  worker.worker_class = market_.worker_class(*e.offer);
  if (market_.acceptances() != acceptances) reclass();
  if (worker.worker_class >= class_index_.size()) class_index_.resize(worker.worker_class + 1);
  worker.slots = std::clamp(e.slots, 1, std::max(1, e.offer->slots));
  worker.state = e.state;
  worker.until = e.until;
  slots_ += worker.slots, gpus_ += static_cast<int>(e.offer->gpus.size()), memory_ += e.offer->memory_bytes;
  worker.resting = worker.silent = false;
  worker.times_silent = 0;
  resting_.erase(worker.id), silent_.erase(worker.id);
  if (e.aside && *e.aside > now_) {
    worker.aside = kDistrusted, worker.aside_until = *e.aside;
    aside_.insert(worker.id);
  }
  // What we believed it had and it has not, it lost: it was restarted, or an assignment never arrived.
  std::set<AttemptId> has;
  for (const Held& held : e.held) has.insert(held.attempt);
  std::vector<Ix> missing;
  for (const Ix run : worker.held)
    if (!has.contains(runs_[run].attempt)) missing.push_back(run);
  std::sort(missing.begin(), missing.end(), [this](Ix a, Ix b) { return runs_[a].attempt < runs_[b].attempt; });
  for (const Ix run : missing) requeue(run, "worker-forgot-it", true, actions);
  reroom(ix);
  for (const Held& held : e.held) adopt(ix, held, true, actions);
  index(ix, true);
}

/// Counts anew what is free, after its offer changed.
void Scheduler::reroom(Ix ix) {
  Worker& worker = workers_[ix];
  worker.room = market_.worker(worker.worker_class).capacity;
  worker.room.slots = worker.slots;
  worker.ahead.clear();
  auto runs = worker.held;
  std::sort(runs.begin(), runs.end(), [this](Ix a, Ix b) { return runs_[a].attempt < runs_[b].attempt; });
  for (const Ix run : runs) {
    const Room& need = market_.task(jobs_[runs_[run].job].lanes[jobs_[runs_[run].job].groups[runs_[run].group].lane].task_class).need;
    runs_[run].ahead = !worker.ahead.empty() || !fits(need, worker.room);
    if (runs_[run].ahead) worker.ahead.push_back(run);
    else take(worker.room, need);
  }
}

void Scheduler::on(const WorkerChanged& e, Actions&) {
  const auto at = worker_ix_.find(e.worker);
  if (at == worker_ix_.end()) return;
  Worker& worker = workers_[at->second];
  worker.state = e.state;
  heard(at->second);
  if (e.until) worker.until = *e.until;
  if (e.slots > 0) {
    const int slots = std::min(e.slots, worker.offer->slots);
    slots_ += slots - worker.slots, worker.room.slots += slots - worker.slots, worker.slots = slots;
  }
  rested(at->second);
}

void Scheduler::on(const WorkerLost& e, Actions& actions) {
  const auto at = worker_ix_.find(e.worker);
  if (at == worker_ix_.end()) return;
  const Ix ix = at->second;
  Worker& worker = workers_[ix];
  worker.state = WorkerState::paused;  // nothing is given to it while we go through what it had
  index(ix, false);
  auto held = worker.held;
  std::sort(held.begin(), held.end(), [this](Ix a, Ix b) { return runs_[a].attempt < runs_[b].attempt; });
  for (const Ix run : held) requeue(run, "worker-lost", true, actions);
  // Whose leases had ended before it was seen to be gone, it took with it all the same.
  if (worker.silent)
    for (auto& [attempt, lost] : lost_)
      if (lost.worker == e.worker && !std::exchange(lost.counted, true))
        if (Job* job = live(lost.task.job)) ++job->history[static_cast<std::uint32_t>(lost.task.task.value - 1)].losses;
  if (worker.reserved != kNone) unreserve(ix);
  slots_ -= worker.slots, gpus_ -= static_cast<int>(worker.offer->gpus.size()), memory_ -= worker.offer->memory_bytes;
  resting_.erase(worker.id), aside_.erase(worker.id), silent_.erase(worker.id);
  for (const TaskClassId task_class : queued_) std::erase(queues_[task_class].hints, ix), std::erase(queues_[task_class].shortlist, ix);
  std::erase(hungry_, ix), std::erase(roomy_, ix);
  worker = {};
  worker_ix_.erase(at);
  free_workers_.push_back(ix);
}

bool Scheduler::takes_work(const Worker& worker) const {
  return worker.here && (worker.state == WorkerState::free || worker.state == WorkerState::busy) && !worker.resting && !worker.silent && worker.aside.empty();
}

/// Keeps its place among those of its class that have a free slot.
void Scheduler::index(Ix ix, bool more) {
  Worker& worker = workers_[ix];
  auto& open = class_index_[worker.worker_class].open;
  const std::uint64_t key = takes_work(worker) && worker.room.slots > 0 && worker.ahead.empty() ? key_of(worker) : 0;
  if (key != worker.key) {
    if (worker.key != 0 && key != 0) {
      auto node = open.extract({worker.key, ix});
      node.value().first = key;
      open.insert(std::move(node));
    } else if (worker.key != 0) {
      open.erase({worker.key, ix});
    } else {
      open.insert({key, ix});
    }
    worker.key = key;
  }
  if (more && key != 0) more_room(ix);
}

void Scheduler::rested(Ix ix) {
  Worker& worker = workers_[ix];
  if (worker.resting) worker.resting = false, resting_.erase(worker.id);
  index(ix, true);
}

void Scheduler::heard(Ix ix) {
  Worker& worker = workers_[ix];
  worker.times_silent = 0;
  if (std::exchange(worker.silent, false)) silent_.erase(worker.id), index(ix, true);
}

}  // namespace souk
