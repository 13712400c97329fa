// Which task next, and on which worker. The formula stands in docs/ARCHITECTURE.md, "Choice of worker".
#include <algorithm>
#include <cmath>
#include <utility>

#include "manager/scheduler.h"

namespace souk {

namespace {
constexpr std::size_t kHintsMax = 64;      // workers that may have room, before all are looked at again
constexpr std::size_t kShortlistMax = 64;  // workers whose measured facts are asked again for each task
constexpr Duration kDefer = std::chrono::seconds(1);
constexpr Duration kUnknown = std::chrono::hours(1);  // how long what nobody knows may take, when a start is foretold
constexpr int kReservesEachTick = 8;
constexpr std::size_t kIdleRounds = 16;  // beside one for each worker
}  // namespace

// ---- The next task -----------------------------------------------------------------------------------------------------------------

/// What comes first in a class: of the owner who used least, their highest priority, the lane served longest ago. Remembered until something of it
/// changes, since with many classes it is asked far more often than it changes.
const Scheduler::Head* Scheduler::head(TaskClassId task_class) {
  Queue& queue = queues_[task_class];
  if (queue.head_known && shares_[queue.head.owner].used == queue.head.used && !shares_[queue.head.owner].limited()) return &queue.head;
  queue.head_known = false;
  while (!queue.owners.empty()) {
    const auto [used, owner] = *queue.owners.begin();
    const auto turns = queue.turns.find(owner);
    const bool gone = turns == queue.turns.end() || shares_[owner].limited();
    if (!gone && used == shares_[owner].used) {
      queue.head = {used, owner, *turns->second.begin()};
      queue.head_known = true;
      return &queue.head;
    }
    auto node = queue.owners.extract(queue.owners.begin());
    if (gone) continue;
    node.value().first = shares_[owner].used;
    queue.owners.insert(std::move(node));
  }
  return nullptr;
}

Scheduler::Pick Scheduler::pick_of(TaskClassId task_class, const Head& head) {
  Job& job = jobs_[head.turn.job];
  const std::uint32_t number = job.lanes[head.turn.lane].groups.front();
  GroupState& group = job.groups[number];
  front(job, group);
  const std::uint32_t offset = group.again && !group.again->empty() ? *group.again->begin() : group.cursor;
  return {task_class, head.turn.job, head.turn.lane, number, group.first + offset};
}

std::optional<Scheduler::Pick> Scheduler::next(TaskClassId task_class) {
  const Head* first = head(task_class);
  if (!first) return std::nullopt;
  return pick_of(task_class, *first);
}

/// Over all classes for which a worker may have room.
std::optional<Scheduler::Pick> Scheduler::next_pick() {
  const Head* best = nullptr;
  TaskClassId of = 0;
  for (const TaskClassId task_class : queued_) {
    if (queues_[task_class].stuck) continue;
    const Head* first = head(task_class);
    if (first && (!best || *first < *best)) best = first, of = task_class;
  }
  if (!best) return std::nullopt;
  return pick_of(of, *best);
}

/// One worker got room, and everything that waits has none elsewhere: what comes next, of all that fits there?
void Scheduler::serve(Ix ix, Actions& actions) {
  const Worker& worker = workers_[ix];
  for (const TaskClassId task_class : queued_)
    if (worker.worker_class >= queues_[task_class].position.size()) refresh(task_class);
  std::vector<TaskClassId> refused;  // of classes judged worker by worker
  while (worker.key != 0) {
    std::optional<Pick> best;
    const Head* best_head = nullptr;
    for (const TaskClassId task_class : queued_) {
      const Head* first = head(task_class);
      if (!first || (best_head && *best_head < *first)) continue;
      if (!fits_class(task_class, worker.worker_class) || !fits(market_.task(task_class).need, worker.room)) continue;
      if (!refused.empty() && std::find(refused.begin(), refused.end(), task_class) != refused.end()) continue;
      if (const Pick pick = pick_of(task_class, *first); has_room(pick, worker)) best = pick, best_head = first;
    }
    if (!best) return;
    if (market_.task(best->task_class).of_each_worker && !score(best->task_class, ix)) refused.push_back(best->task_class);
    else if (!suits(*best, worker)) defer(*best, {ix, has_voted(jobs_[best->job], best->task, worker)});
    else assign(*best, ix, false, false, actions);
  }
}

void Scheduler::dispatch(Actions& actions) {
  circling_ = false;
  if (!open_) return;
  std::size_t idle = 0;  // rounds in a row in which nothing was started
  do {
    // Nothing but a worker that is kept no more brings such a round. Should we be wrong, one task waits for the next event, and not the whole grid for ever.
    if (circling_ = idle > worker_ix_.size() + kIdleRounds; circling_) return;
    const std::uint64_t attempts_before = last_attempt_;
    const auto roomy = std::exchange(roomy_, {});
    for (const Ix ix : roomy) workers_[ix].roomy = false;
    if (!roomy.empty() && !deferred_.empty()) undefer(roomy);
    std::vector<Ix> woken;
    if (!unvoted_.empty())
      for (const Ix ix : roomy)
        if (workers_[ix].key != 0 && wake_unvoted(ix, false)) woken.push_back(ix);
    const bool all_stuck = std::all_of(queued_.begin(), queued_.end(), [this](TaskClassId id) { return queues_[id].stuck; });
    if (roomy.size() == 1 && all_stuck) serve(roomy.front(), actions);
    for (const Ix ix : roomy) hint(ix);  // of one that was served: what is left, for what steps aside for a moment
    while (const auto pick = next_pick()) {
      const Found found = find(*pick);
      if (found.worker != kNone) assign(*pick, found.worker, false, false, actions);
      else if (found.passed_over.worker != kNone) defer(*pick, found.passed_over);
      else queues_[pick->task_class].stuck = true;
    }
    for (std::size_t i = 0; i < hungry_.size(); ++i) {
      Worker& worker = workers_[hungry_[i]];
      worker.hungry = false;
      if (!unvoted_.empty() && takes_work(worker)) wake_unvoted(hungry_[i], true);
      if (!queued_.empty() && takes_work(worker)) prefetch(hungry_[i], actions);
    }
    hungry_.clear();
    idle = last_attempt_ == attempts_before ? idle + 1 : 0;
    if (idle == 0)
      for (const Ix ix : woken)  // what was woken for it may have found another place
        if (workers_[ix].key != 0) more_room(ix);
  } while (!roomy_.empty() || next_pick());  // the last task of a class may have freed a worker that was kept for it
}

/// There is room, but not where this task may run now: it steps aside for a moment.
void Scheduler::defer(const Pick& pick, PassedOver by) {
  Job& job = jobs_[pick.job];
  GroupState& group = job.groups[pick.group];
  if (group.again && group.again->erase(pick.task - group.first) > 0) {
    if (by.voters && job.voted.contains(pick.task)) {
      put_aside(job, pick.task);
    } else {
      Instant& when = job.history[pick.task].not_before;
      when = now_ + kDefer;
      delayed_.insert({when, job.id, pick.task});
    }
  } else {
    job.lanes[pick.lane].deferred = true;
    job.lanes[pick.lane].unsuited = by.worker;
    deferred_.insert({now_ + kDefer, job.id, pick.lane});
  }
  sync_lane(pick.job, pick.lane);
}

/// Another worker got room: maybe it suits.
void Scheduler::undefer(const std::vector<Ix>& roomy) {
  std::erase_if(deferred_, [&](const auto& entry) {
    const auto& [when, id, number] = entry;
    const Ix ix = job_ix(id);
    if (ix == kNone || number >= jobs_[ix].lanes.size()) return true;
    Lane& lane = jobs_[ix].lanes[number];
    if (std::all_of(roomy.begin(), roomy.end(), [&](Ix worker) { return worker == lane.unsuited || !fits_class(lane.task_class, workers_[worker].worker_class); })) return false;
    lane.deferred = false;
    sync_lane(ix, number);
    return true;
  });
}

void Scheduler::assign(const Pick& pick, Ix worker_at, bool ahead, bool speculative, Actions& actions) {
  Job& job = jobs_[pick.job];
  Lane& lane = job.lanes[pick.lane];
  Worker& worker = workers_[worker_at];
  Queue& queue = queues_[pick.task_class];
  shares_.served(job.owner);
  const AttemptId attempt{epoch_, ++last_attempt_};
  place(pick.job, pick.task, pick.group, worker_at, attempt, ahead);
  if (lane.queued) {
    auto& turns = queue.turns.find(job.owner)->second;
    auto node = turns.extract({-job.priority, lane.turn, job.id, pick.job, pick.lane});
    node.value().turn = lane.turn = ++last_turn_;
    turns.insert(std::move(node));
    queue.head_known = false;
  }
  sync_lane(pick.job, pick.lane);
  queue.since = now_;
  if (job.voted.contains(pick.task))
    if (const auto others = unvoted_.find(awaiting(job, pick.task)); others != unvoted_.end()) others->second.since = now_;
  if (worker.reserved == pick.task_class) unreserve(worker_at);
  index(worker_at, false);
  actions.push_back(Assign{worker.id, {job.id, {pick.task + 1ull}}, attempt, speculative});
}

// ---- The best worker ---------------------------------------------------------------------------------------------------------------

/// Times a quarter longer are a step up.
std::int8_t Scheduler::bucket_of(float ratio) { return static_cast<std::int8_t>(std::lround(std::clamp(3 * std::log2(ratio), -60.0f, 60.0f))); }

/// Until something was seen to run there, what the worker says of its speed has to do.
float Scheduler::offered_ratio(WorkerClassId worker_class) const {
  const double speed = market_.worker(worker_class).offer->speed;
  return speed > 0 ? static_cast<float>(std::clamp(1 / speed, 0.01, 100.0)) : 1.0f;
}

/// Judges worker classes that are new to this class of tasks.
void Scheduler::refresh(TaskClassId task_class) {
  Queue& queue = queues_[task_class];
  if (queue.position.size() == market_.worker_classes()) return;
  const auto& fitting = market_.fitting(task_class);
  queue.position.resize(market_.worker_classes(), kNone);
  for (std::size_t i = queue.ratio.size(); i < fitting.size(); ++i) {
    queue.position[fitting[i].worker_class] = static_cast<std::uint32_t>(i);
    queue.ratio.push_back(offered_ratio(fitting[i].worker_class));
    queue.pace.push_back(bucket_of(queue.ratio.back()));
  }
}

/// How long such tasks take there, against the average, in steps of a quarter; by what the worker says of its speed until something was seen.
int Scheduler::pace_of(TaskClassId task_class, WorkerClassId worker_class) const {
  const Queue& queue = queues_[task_class];
  if (worker_class < queue.position.size() && queue.position[worker_class] != kNone) return queue.pace[queue.position[worker_class]];
  return bucket_of(offered_ratio(worker_class));
}

bool Scheduler::fits_class(TaskClassId task_class, WorkerClassId worker_class) const {
  const auto& position = queues_[task_class].position;
  return worker_class < position.size() && position[worker_class] != kNone;
}

/// Among workers of one class, lower is better: pace, then faults, then load, then most free slots. Never 0.
std::uint64_t Scheduler::key_of(const Worker& worker) const {
  const auto pace = static_cast<std::uint64_t>(worker.pace_bucket + 128);
  const auto faults = static_cast<std::uint64_t>(worker.faults * 8);
  const int taken = worker.slots - worker.room.slots;
  const auto load = static_cast<std::uint64_t>(std::clamp(taken * 255 / std::max(1, worker.slots), 0, 255));
  const auto free = static_cast<std::uint64_t>(0xFFFF - std::clamp(worker.room.slots, 0, 0xFFFF));
  return pace << 40 | faults << 32 | load << 16 | free;
}

WorkerFacts Scheduler::facts_of(const Worker& worker) const {
  const int taken = worker.slots - worker.room.slots;
  return {worker.name, worker.owner, static_cast<double>(taken) / std::max(1, worker.slots), 1.0 - static_cast<double>(worker.faults), static_cast<int>(worker.held.size())};
}

/// How good this worker is for such a task; nothing if it does not fit.
std::optional<Scheduler::Score> Scheduler::score(TaskClassId task_class, Ix ix) const {
  const Worker& worker = workers_[ix];
  const Queue& queue = queues_[task_class];
  if (!fits_class(task_class, worker.worker_class)) return std::nullopt;
  const std::uint32_t position = queue.position[worker.worker_class];
  const Market::TaskClass& task = market_.task(task_class);
  Score made{task.fitting[position].rank, key_of(worker) + (static_cast<std::uint64_t>(queue.pace[position] + 128) << 40)};
  if (task.of_each_worker) {
    const auto judged = market_.judge(task, *worker.offer, facts_of(worker));
    if (!judged.fits) return std::nullopt;
    made.rank = judged.rank;
  }
  return made;
}

/// Room for it now, as things stand for every task of its class.
bool Scheduler::has_room(const Pick& pick, const Worker& worker) const {
  const Market::TaskClass& task = market_.task(pick.task_class);
  if (!takes_work(worker) || !worker.ahead.empty() || !fits(task.need, worker.room)) return false;
  if (worker.until && task.time_limit > Duration(0) && now_ + task.time_limit > *worker.until) return false;
  if (worker.reserved == kNone || worker.reserved == pick.task_class) return true;
  // Kept for another: only what is over before that one can start.
  const Duration time = bound(jobs_[pick.job], pick.group, worker);
  return time > Duration(0) && now_ + time <= worker.reserved_at;
}

/// What this very task wishes beside: to be over in time, and not where it failed.
bool Scheduler::suits(const Pick& pick, const Worker& worker) const {
  const Job& job = jobs_[pick.job];
  if (job.deadline || worker.until) {
    const Duration time = bound(job, pick.group, worker);
    if (job.deadline && now_ + time > *job.deadline) return false;
    if (worker.until && (now_ + time > *worker.until || *worker.until <= now_)) return false;
  }
  if (!job.running.empty())
    if (const auto running = job.running.find(pick.task); running != job.running.end())
      if (const Run& run = runs_[running->second]; workers_[run.worker].id == worker.id) return false;
  if (has_voted(job, pick.task, worker)) return false;
  // It failed there again and again, nobody did well since, and others are at it: their results tell whether it is the worker or the job.
  if (!job.failed_on.empty())
    if (const auto streak = job.failed_on.find(worker.id);
        streak != job.failed_on.end() && streak->second.failures >= rules_.strikes_max && job.counts.succeeded == streak->second.succeeded_before &&
        (job.counts.succeeded == 0 ? job.failed_on.size() == 1 : !by_chance(job, streak->second)) && std::any_of(job.running.begin(), job.running.end(), [&](const auto& entry) { return workers_[runs_[entry.second].worker].id != worker.id; }))
      return false;
  if (job.history.empty()) return true;
  const auto past = job.history.find(pick.task);
  if (past == job.history.end() || past->second.avoided == 0 || now_ >= past->second.anywhere) return true;
  const auto& avoid = past->second.avoid;
  if (std::find(avoid, avoid + std::min<int>(3, past->second.avoided), worker.id) == avoid + std::min<int>(3, past->second.avoided)) return true;
  return !fits_elsewhere(pick, past->second);
}

/// Whether there is a worker, busy or not, where it did not fail.
bool Scheduler::fits_elsewhere(const Pick& pick, const History& past) const {
  const auto end = past.avoid + std::min<int>(3, past.avoided);
  return std::any_of(worker_ix_.begin(), worker_ix_.end(), [&](const auto& entry) {
    return std::find(past.avoid, end, entry.first) == end && takes_work(workers_[entry.second]) && score(pick.task_class, entry.second) && !has_voted(jobs_[pick.job], pick.task, workers_[entry.second]);
  });
}

/// The best worker with room for it.
Scheduler::Found Scheduler::find(const Pick& pick) {
  refresh(pick.task_class);
  Queue& queue = queues_[pick.task_class];
  const Market::TaskClass& task = market_.task(pick.task_class);
  Found found;
  Ix& best = found.worker;
  PassedOver& passed_over = found.passed_over;
  Score best_score;
  const auto pass_over = [&](Ix ix) {
    passed_over.worker = passed_over.worker == kNone || passed_over.worker == ix ? ix : kSeveral;
    passed_over.voters = passed_over.voters && has_voted(jobs_[pick.job], pick.task, workers_[ix]);
  };
  const auto consider = [&](Ix ix) {  // false: no room
    const Worker& worker = workers_[ix];
    if (!has_room(pick, worker)) return false;
    const auto made = score(pick.task_class, ix);
    if (!made) return false;
    if (!suits(pick, worker)) pass_over(ix);
    else if (best == kNone || made->better_than(best_score) || (!best_score.better_than(*made) && worker.id < workers_[best].id)) best = ix, best_score = *made;
    return true;
  };
  const auto from = [&](std::vector<Ix>& list) {
    std::erase_if(list, [&](Ix ix) { return !consider(ix); });
    return !list.empty();
  };

  if (queue.narrow) {
    from(queue.hints);
    return found;
  }
  if (task.of_each_worker) {
    if (from(queue.shortlist) && (best != kNone || !passed_over.voters)) return found;
    queue.shortlist.clear();
    std::vector<std::pair<Score, Ix>> all;
    for (const auto& [id, ix] : worker_ix_)
      if (has_room(pick, workers_[ix]))
        if (const auto made = score(pick.task_class, ix)) all.emplace_back(*made, ix);
    const auto most = std::min(all.size(), kShortlistMax);
    std::partial_sort(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(most), all.end(), [&](const auto& a, const auto& b) {
      return a.first.better_than(b.first) || (!b.first.better_than(a.first) && workers_[a.second].id < workers_[b.second].id);
    });
    for (std::size_t i = 0; i < most; ++i) queue.shortlist.push_back(all[i].second);
    if (most > 0 && !from(queue.shortlist)) queue.shortlist.clear();
    // A wish may be met behind the shortlist.
    if (best == kNone && passed_over.worker != kNone)
      for (std::size_t i = most; i < all.size() && best == kNone; ++i) consider(all[i].second);
  } else {
    const auto& fitting = task.fitting;
    for (std::size_t i = 0; i < fitting.size(); ++i) {
      const auto& open = class_index_[fitting[i].worker_class].open;
      if (open.empty()) continue;
      const std::uint64_t offset = static_cast<std::uint64_t>(queue.pace[i] + 128) << 40;
      if (best != kNone && !Score{fitting[i].rank, open.begin()->first + offset}.better_than(best_score)) continue;
      for (const auto& [key, ix] : open) {
        const Score made{fitting[i].rank, key + offset};
        if (best != kNone && !made.better_than(best_score)) break;
        if (!has_room(pick, workers_[ix])) continue;
        if (!suits(pick, workers_[ix])) {
          pass_over(ix);
          continue;
        }
        best = ix, best_score = made;
        break;
      }
    }
  }
  if (best == kNone && passed_over.worker == kNone) queue.narrow = true, queue.hints.clear(), queue.shortlist.clear();
  return found;
}

/// A worker may have room for what had none; dispatch() looks.
void Scheduler::more_room(Ix ix) {
  if ((!queued_.empty() || !deferred_.empty() || !unvoted_.empty()) && !std::exchange(workers_[ix].roomy, true)) roomy_.push_back(ix);
}

/// Every class that waits for a worker like this one looks at it.
void Scheduler::hint(Ix ix) {
  const Worker& worker = workers_[ix];
  if (worker.key == 0) return;
  for (const TaskClassId task_class : queued_) {
    Queue& queue = queues_[task_class];
    const Market::TaskClass& task = market_.task(task_class);
    if (!queue.narrow && !task.of_each_worker) continue;
    if (worker.worker_class >= queue.position.size()) refresh(task_class);
    if (!fits_class(task_class, worker.worker_class) || !fits(task.need, worker.room)) continue;
    if (!queue.narrow) {
      if (std::find(queue.shortlist.begin(), queue.shortlist.end(), ix) == queue.shortlist.end()) queue.shortlist.push_back(ix);
      if (queue.shortlist.size() > kShortlistMax * 4) queue.shortlist.clear();
      continue;
    }
    queue.stuck = false;
    if (std::find(queue.hints.begin(), queue.hints.end(), ix) != queue.hints.end()) continue;
    queue.hints.push_back(ix);
    if (queue.hints.size() > kHintsMax) queue.narrow = false, queue.hints.clear();
  }
}

// ---- Work ahead of the slots -------------------------------------------------------------------------------------------------------

/// Attempts the worker may hold beyond what it runs: `prefetch` of work for each slot, by what such tasks took there.
std::size_t Scheduler::ahead_max(const Pick& pick, const Worker& worker) const {
  const std::uint64_t key = ahead_key(jobs_[pick.job], pick.group);
  const auto known = std::find_if(worker.estimates.begin(), worker.estimates.end(), [&](const Estimate& one) { return one.group == key; });
  if (known == worker.estimates.end()) return 0;
  const double each = std::min(static_cast<double>(rules_.prefetch_max), static_cast<double>(rules_.prefetch.count()) / std::max(1.0, static_cast<double>(known->mean_us)));
  return static_cast<std::size_t>(std::min(static_cast<double>(rules_.prefetch_all), each * worker.slots / market_.task(pick.task_class).need.slots));
}

/// Only for the task whose turn it is: else short ones, always there already, would keep out long ones for ever.
void Scheduler::prefetch(Ix ix, Actions& actions) {
  Worker& worker = workers_[ix];
  if (worker.reserved != kNone) return;
  for (;;) {
    std::optional<Pick> best, voted;
    const Head* best_head = nullptr;
    for (const TaskClassId task_class : queued_) {
      const Head* first = head(task_class);
      if (!first || (best_head && *best_head < *first) || !fits_class(task_class, worker.worker_class)) continue;
      const Pick pick = pick_of(task_class, *first);
      if (market_.task(task_class).need.slots > 1 && worker.ahead.size() >= ahead_max(pick, worker)) continue;  // a worker is kept for such, if need be
      if ((market_.task(task_class).of_each_worker && !score(task_class, ix)) || !suits(pick, worker)) {
        if (!voted && worker.ahead.size() < ahead_max(pick, worker) && has_voted(jobs_[pick.job], pick.task, worker)) voted = pick;
        continue;
      }
      best = pick, best_head = first;
    }
    if (!best && voted) {  // what others are to do steps aside for what this one may
      defer(*voted, {ix, true});
      continue;
    }
    if (!best || worker.ahead.size() >= ahead_max(*best, worker)) return;
    if (const Duration limit = market_.task(best->task_class).time_limit; worker.until && limit > Duration(0) && now_ + limit > *worker.until) return;
    assign(*best, ix, true, false, actions);
  }
}

// ---- Workers kept for what needs much ------------------------------------------------------------------------------------------------

/// When enough of what runs there is over, by time limits and estimates; `known`: all of it has one.
Instant Scheduler::room_at(TaskClassId task_class, const Worker& worker, bool& known) const {
  const Room& need = market_.task(task_class).need;
  std::vector<std::pair<Instant, Ix>> ends;
  for (const Ix ix : worker.held) {
    const Run& run = runs_[ix];
    if (run.ahead) continue;
    const Duration time = bound(jobs_[run.job], run.group, worker);
    ends.emplace_back(std::max(now_, run.placed + (time > Duration(0) ? time : kUnknown)), ix);
  }
  std::sort(ends.begin(), ends.end());
  Room room = worker.room;
  Instant when = now_;
  known = true;
  for (const auto& [end, ix] : ends) {
    if (fits(need, room)) break;
    const Job& job = jobs_[runs_[ix].job];
    known = known && bound(job, runs_[ix].group, worker) > Duration(0) && end > now_;  // one that takes longer than it should may end any time
    give_back(room, market_.task(job.lanes[job.groups[runs_[ix].group].lane].task_class).need);
    when = end;
  }
  return fits(need, room) ? when : Instant::max();
}

/// What of these may start, but for room: its job and number. Of what waits for its turn the first; of what waits for others' votes one of a job that goes on.
std::optional<std::pair<Scheduler::Ix, std::uint32_t>> Scheduler::first_of(const Awaiting& key) {
  if (const auto kind = unvoted_.find(key); kind != unvoted_.end()) {
    const auto& tasks = kind->second.tasks;
    for (auto at = tasks.begin(); at != tasks.end(); at = tasks.lower_bound({{at->first.value + 1}, 0})) {
      const Ix ix = job_ix(at->first);
      const Job& job = jobs_[ix];
      if (job.startable() && !shares_[job.owner].limited() && !job.lanes[job.groups[group_of(job, at->second)].lane].deferred) return std::pair{ix, at->second};
    }
  }
  if (const auto pick = next(key.task_class)) return std::pair{pick->job, pick->task};
  return std::nullopt;
}

/// What needs more than one slot, and has waited, gets a worker kept for it that may run it; nothing else starts there that could not be over before.
void Scheduler::reserve() {
  std::vector<Ix> in_vain;  // nobody may start it now
  for (const auto& [key, ix] : kept_) {
    Worker& worker = workers_[ix];
    if (!takes_work(worker) || !first_of(key)) {
      in_vain.push_back(ix);
      continue;
    }
    // Never later than foretold: what starts meanwhile is over by then.
    bool known = false;
    const Instant at = room_at(worker.reserved, worker, known);
    worker.reserved_at = std::min(worker.reserved_at, known ? at : now_);
  }
  for (const Ix ix : in_vain) unreserve(ix);
  std::vector<std::pair<Instant, Awaiting>> waits;
  const auto much = [&](TaskClassId task_class, Instant since) {
    const Room& need = market_.task(task_class).need;
    return (need.slots > 1 || need.gpus > 0 || need.memory > 0 || need.disk > 0 || !need.named.empty()) && now_ - since >= rules_.reserve_after;
  };
  for (const TaskClassId task_class : queued_)
    if (const Queue& queue = queues_[task_class]; queue.stuck && much(task_class, queue.since))
      if (const auto pick = next(task_class)) waits.emplace_back(queue.since, jobs_[pick->job].voted.contains(pick->task) ? awaiting(jobs_[pick->job], pick->task) : Awaiting{task_class});
  for (const auto& [key, kind] : unvoted_)
    if (much(key.task_class, kind.since)) waits.emplace_back(kind.since, key);
  std::stable_sort(waits.begin(), waits.end(), [](const auto& a, const auto& b) { return a.first < b.first; });  // who waits for longest
  int made = 0;
  for (const auto& [since, key] : waits) {
    const auto first = kept_.contains(key) ? std::nullopt : first_of(key);
    if (!first) continue;
    if (made == kReservesEachTick || kept_.size() + 1 > std::max<std::size_t>(1, worker_ix_.size() / 2)) return;
    const Market::TaskClass& task = market_.task(key.task_class);
    refresh(key.task_class);  // who came with its slots full was not looked at yet
    Ix best = kNone;
    bool best_known = false;
    Instant best_at = Instant::max();
    for (const auto& [id, ix] : worker_ix_) {
      const Worker& worker = workers_[ix];
      if (worker.reserved != kNone || !takes_work(worker) || task.need.slots > worker.slots || !score(key.task_class, ix) || has_voted(jobs_[first->first], first->second, worker)) continue;
      bool known = false;
      const Instant at = room_at(key.task_class, worker, known);
      if (at == Instant::max() || (worker.until && at + task.time_limit > *worker.until)) continue;
      if (at < best_at) best = ix, best_at = at, best_known = known;
    }
    if (best == kNone) continue;
    workers_[best].reserved = key.task_class, workers_[best].reserved_at = best_known ? best_at : now_;
    kept_[key] = best;
    ++made;
  }
}

void Scheduler::unreserve(Ix ix) {
  Worker& worker = workers_[ix];
  std::erase_if(kept_, [ix](const auto& entry) { return entry.second == ix; });
  worker.reserved = kNone;
  if (worker.key != 0) more_room(ix);
}

/// Nothing of that class waits for its turn. What waits for others' votes is kept a worker for all the same, unless `all`.
void Scheduler::unreserve(TaskClassId task_class, bool all) {
  std::vector<Ix> free;
  for (auto at = kept_.lower_bound({task_class}); at != kept_.end() && at->first.task_class == task_class; ++at)
    if (all || !unvoted_.contains(at->first)) free.push_back(at->second);
  for (const Ix ix : free) unreserve(ix);
}

/// What a task counts in fair share, in slots: of whatever it takes most, relative to what the grid has.
double Scheduler::weight_of(TaskClassId task_class) const {
  const Room& need = market_.task(task_class).need;
  double weight = need.slots;
  if (need.memory > 0 && memory_ > 0) weight = std::max(weight, static_cast<double>(need.memory) / static_cast<double>(memory_) * slots_);
  if (need.gpus > 0 && gpus_ > 0) weight = std::max(weight, static_cast<double>(need.gpus) * slots_ / gpus_);
  return weight;
}

}  // namespace souk
