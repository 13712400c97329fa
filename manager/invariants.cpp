// What must hold after every step. Slow; for tests.
#include <algorithm>

#include "manager/scheduler.h"

namespace souk {

std::optional<std::string> Scheduler::broken_invariant() const {
  const auto broken = [](const std::string& what, std::uint64_t id) { return what + ' ' + std::to_string(id); };
  if (circling_) return "what waits was looked at again and again, and nothing started";
  for (const auto& [id, over] : ended_)
    if (job_ix_.contains(id)) return broken("ended and open at the same time: job", id.value);
  std::vector<std::uint64_t> of_owner(shares_.size());
  std::size_t runs = 0;
  for (Ix ix = 0; ix < runs_.size(); ++ix) {
    const Run& run = runs_[ix];
    if (run.job == kNone) continue;
    ++runs;
    const std::uint64_t number = run.attempt.number;
    const Job& job = jobs_[run.job];
    if (const auto at = run_ix_.find(run.attempt); at == run_ix_.end() || at->second != ix) return broken("an attempt cannot be found:", number);
    if (!job.open || job.states.get(run.task) != TaskState::running) return broken("an attempt runs for a task that does not:", number);
    const auto first = job.running.find(run.task);
    if (first == job.running.end() || (first->second != ix && runs_[first->second].other != ix)) return broken("more attempts of a task than it may have:", number);
    if (run.other != kNone && (runs_[run.other].other != ix || runs_[run.other].worker == run.worker)) return broken("two attempts of a task that do not know each other:", number);
    const Worker& worker = workers_[run.worker];
    if (!worker.here || run.position >= worker.held.size() || worker.held[run.position] != ix) return broken("nobody holds attempt", number);
    if (job.groups[run.group].unmet > 0) return broken("it runs before what it needs has ended: attempt", number);
    ++of_owner[job.owner];
  }
  if (run_ix_.size() != runs) return "more attempts are known than run";
  for (OwnerId owner = 0; owner < shares_.size(); ++owner)
    if (shares_[owner].running != of_owner[owner]) return "running tasks miscounted of " + shares_[owner].name;

  std::size_t held = 0;
  int slots = 0;
  for (const auto& [id, ix] : worker_ix_) {
    const Worker& worker = workers_[ix];
    held += worker.held.size();
    slots += worker.slots;
    Room room = market_.worker(worker.worker_class).capacity;
    room.slots = worker.slots;
    std::size_t ahead = 0;
    for (const Ix run : worker.held) {
      const Job& job = jobs_[runs_[run].job];
      const Room& need = market_.task(job.lanes[job.groups[runs_[run].group].lane].task_class).need;
      if (runs_[run].ahead) {
        ++ahead;
        continue;
      }
      if (room.slots >= 0 && (need.memory > room.memory || need.disk > room.disk || need.gpus > room.gpus)) return broken("more is placed than there is: worker", id.value);
      take(room, need);
    }
    if (room.slots < 0 && worker.slots == worker.offer->slots) return broken("more slots are taken than there are: worker", id.value);
    if (room.slots != worker.room.slots || room.memory != worker.room.memory || room.disk != worker.room.disk || room.gpus != worker.room.gpus || room.named != worker.room.named)
      return broken("room miscounted: worker", id.value);
    if (ahead != worker.ahead.size()) return broken("what waits on it is miscounted: worker", id.value);
    const std::uint64_t key = takes_work(worker) && worker.room.slots > 0 && worker.ahead.empty() ? key_of(worker) : 0;
    if (key != worker.key || (key != 0) != class_index_[worker.worker_class].open.contains({key, ix})) return broken("index of worker", id.value);
    if (std::count_if(kept_.begin(), kept_.end(), [&, at = ix](const auto& entry) { return entry.second == at && entry.first.task_class == worker.reserved; }) != (worker.reserved == kNone ? 0 : 1))
      return broken("kept for nobody, or for two: worker", id.value);
  }
  if (held != runs) return "held and running attempts differ";
  if (slots != slots_) return "slots miscounted";

  std::uint64_t waiting = 0, running = 0;
  for (const auto& [id, ix] : job_ix_) {
    const Job& job = jobs_[ix];
    Counts seen;
    std::uint64_t parked = 0;
    for (std::uint64_t task = 0; task < job.states.size(); ++task) {
      const TaskState state = job.states.get(task);
      ++(state == TaskState::waiting ? seen.waiting : state == TaskState::running ? seen.running : state == TaskState::succeeded ? seen.succeeded
         : state == TaskState::failed ? seen.failed : seen.canceled);
      if (state != TaskState::waiting) continue;
      const GroupState& group = job.groups[group_of(job, static_cast<std::uint32_t>(task))];
      const auto offset = static_cast<std::uint32_t>(task - group.first);
      const auto past = job.history.find(static_cast<std::uint32_t>(task));
      const bool aside = past != job.history.end() && past->second.not_before == kParked;
      if (aside && ++parked && (!job.votes_of || !job.voted.contains(static_cast<std::uint32_t>(task)))) return broken("a result is parked that nobody gave, in job", id.value);
      const bool awaits = past != job.history.end() && past->second.not_before == kUnvoted && unvoted_.contains(awaiting(job, static_cast<std::uint32_t>(task))) &&
                          unvoted_.at(awaiting(job, static_cast<std::uint32_t>(task))).tasks.contains({job.id, static_cast<std::uint32_t>(task)});
      const bool delayed = aside || awaits || (past != job.history.end() && delayed_.contains({past->second.not_before, job.id, static_cast<std::uint32_t>(task)}));
      const bool again = group.again && group.again->contains(offset);
      if (offset < group.cursor && !again && !delayed) return broken("a waiting task that nobody will find, in job", id.value);
      if (!delayed && group.unmet == 0 && !group.queued) return broken("a group waits in no lane, in job", id.value);
    }
    if (parked != job.parked || (parked > 0) != parking_.contains(ix)) return broken("parked tasks miscounted: job", id.value);
    for (const auto& [task, who] : job.voted)
      if (who.empty() || std::set(who.begin(), who.end()).size() != who.size()) return broken("somebody voted twice, or nobody did: job", id.value);
    const Counts& c = job.counts;
    if (c.waiting + c.running + c.succeeded + c.failed + c.canceled != c.tasks) return broken("counts do not add up: job", id.value);
    if (seen.waiting != c.waiting || seen.running != c.running || seen.succeeded != c.succeeded || seen.failed != c.failed) return broken("counts and states differ: job", id.value);
    if (job.running.size() != c.running) return broken("running tasks without an attempt: job", id.value);
    if (c.waiting + c.running == 0) return broken("nothing is left to do, and it has not ended: job", id.value);
    waiting += c.waiting, running += c.running;
    for (std::uint32_t number = 0; number < job.lanes.size(); ++number) {
      const Lane& lane = job.lanes[number];
      const auto turns = queues_[lane.task_class].turns.find(job.owner);
      const bool there = turns != queues_[lane.task_class].turns.end() && turns->second.contains({-job.priority, lane.turn, job.id, ix, number});
      if (lane.queued != there) return broken("lane and queue differ: job", id.value);
      const bool startable = job.startable() && !lane.deferred && std::any_of(lane.groups.begin(), lane.groups.end(), [&](std::uint32_t g) {
        const GroupState& group = job.groups[g];
        if (group.again && !group.again->empty()) return true;
        for (std::uint32_t offset = group.cursor; offset < group.tasks; ++offset)
          if (job.states.get(group.first + offset) == TaskState::waiting) return true;
        return false;
      });
      if (lane.queued != startable) return broken("something could start and is in no queue, or the other way round: job", id.value);
    }
  }
  for (const auto& [key, ix] : kept_)
    if (workers_[ix].reserved != key.task_class) return broken("kept, and does not know it: worker", workers_[ix].id.value);
  for (const auto& [key, kind] : unvoted_) {
    const auto& tasks = kind.tasks;
    if (tasks.empty()) return "nobody waits for somebody else";
    for (const auto& [id, task] : tasks) {
      const Job* job = live(id);
      if (!job || job->states.get(task) != TaskState::waiting || job->history.at(task).not_before != kUnvoted) return broken("it waits for somebody else and does not wait: of job", id.value);
      if (!open_ || !job->startable() || shares_[job->owner].limited()) continue;
      const std::uint32_t number = group_of(*job, task);
      const Pick pick{key.task_class, job_ix(id), job->groups[number].lane, number, task};
      for (const auto& [worker, ix] : worker_ix_)
        if (workers_[ix].reserved == kNone && has_room(pick, workers_[ix]) && suits(pick, workers_[ix]) && score(key.task_class, ix)) return broken("it waits for somebody else, who is there: of job", id.value);
    }
  }
  if (waiting != waiting_ || running != running_) return "totals differ";
  for (const auto& [attempt, lost] : lost_)
    if (const Job* job = live(lost.task.job); !job || souk::ended(job->states.get(lost.task.task.value - 1))) return broken("a lost attempt outlived its task: attempt", attempt.number);
  if (!open_) return std::nullopt;
  for (const TaskClassId task_class : queued_) {
    const auto pick = const_cast<Scheduler*>(this)->next(task_class);  // only sorts anew whom it finds in the wrong place
    if (!pick) continue;
    for (const auto& [id, ix] : worker_ix_)
      if (workers_[ix].reserved == kNone && has_room(*pick, workers_[ix]) && suits(*pick, workers_[ix]) && score(task_class, ix))
        return broken("a task waits while there is room for it: job", jobs_[pick->job].id.value);
  }
  return std::nullopt;
}

}  // namespace souk
