// Jobs: how they begin, wait for each other, and end; the queues of what may start.
#include "manager/scheduler.h"

#include <algorithm>
#include <utility>

namespace souk {

Scheduler::Scheduler(Epoch epoch, Rules rules) : epoch_(epoch), rules_(rules), shares_(rules.half_life) {}

void Scheduler::step(Instant now, const Event& event, Actions& actions) {
  now_ = now;
  std::visit([&](const auto& e) { on(e, actions); }, event);
  if (!delayed_.empty() || !deferred_.empty()) release_delayed();
  dispatch(actions);
  if (!parking_.empty()) tell_parked(actions);
}

std::optional<Instant> Scheduler::wake_at() const {
  std::optional<Instant> at;
  if (!delayed_.empty()) at = std::get<0>(*delayed_.begin());
  if (!deferred_.empty()) at = std::min(at.value_or(Instant::max()), std::get<0>(*deferred_.begin()));
  return at;
}

const Scheduler::Job* Scheduler::live(JobId id) const {
  const auto at = job_ix_.find(id);
  return at == job_ix_.end() ? nullptr : &jobs_[at->second];
}
Scheduler::Job* Scheduler::live(JobId id) { return const_cast<Job*>(std::as_const(*this).live(id)); }
Scheduler::Ix Scheduler::job_ix(JobId id) const {
  const auto at = job_ix_.find(id);
  return at == job_ix_.end() ? kNone : at->second;
}

// ---- How a job begins ------------------------------------------------------------------------------------------------------------

Scheduler::Ix Scheduler::add_job(const JobSubmitted& e) {
  Ix ix = kNone;
  if (free_jobs_.empty()) {
    ix = static_cast<Ix>(jobs_.size());
    jobs_.emplace_back();
  } else {
    ix = free_jobs_.back();
    free_jobs_.pop_back();
  }
  job_ix_[e.job] = ix;
  Job& job = jobs_[ix];
  job = {};
  job.id = e.job;
  job.open = true;
  job.owner = shares_.id_of(e.owner);
  job.priority = e.terms.priority;
  job.held = e.terms.hold;
  job.speculate = e.terms.speculate && !e.terms.votes_of;  // its copies are made one after the other
  job.crash_limit = e.terms.crash_limit == 0 ? rules_.crash_limit : e.terms.crash_limit;
  job.max_fails = e.terms.max_fails;
  job.deadline = e.terms.deadline;
  job.votes_of = e.terms.votes_of;
  std::uint64_t tasks = 0;
  for (const Group& group : e.groups) tasks += group.tasks;
  job.counts.tasks = job.counts.waiting = tasks;
  waiting_ += tasks;
  job.states = TaskStates(tasks);
  job.groups.reserve(e.groups.size());
  const JobFacts facts{e.owner, e.name, job.priority, tasks};
  std::map<TaskClassId, std::uint32_t> lanes;
  std::uint32_t first = 0;
  const Group* before = nullptr;
  for (const Group& group : e.groups) {
    GroupState& state = job.groups.emplace_back();
    state.first = first;
    state.tasks = static_cast<std::uint32_t>(group.tasks);
    first += state.tasks;
    state.unmet = static_cast<std::uint32_t>(group.after.size());
    const auto number = static_cast<std::uint32_t>(job.groups.size() - 1);
    for (const Group::After& after : group.after) job.edges.push_back({after.group, number, after.any});
    // Most groups of a long job are like the one before.
    const bool same_terms = before && before->time_limit == group.time_limit && before->retry.times == group.retry.times && before->retry.delay == group.retry.delay &&
                            before->retry.delay_max == group.retry.delay_max && before->retry.codes == group.retry.codes;
    if (!same_terms && job.terms.size() < 0xFFFF) job.terms.push_back({group.retry, group.time_limit});
    state.terms = static_cast<std::uint16_t>(job.terms.size() - 1);
    const TaskClassId task_class = market_.task_class(group, facts);
    if (task_class >= queues_.size()) queues_.resize(task_class + 1);
    const auto [lane, fresh] = lanes.try_emplace(task_class, static_cast<std::uint32_t>(job.lanes.size()));
    if (fresh) job.lanes.push_back({task_class, {}, last_turn_, false, false, kNone});  // after those that wait for their turn
    else market_.give_up(task_class);  // one reference a lane
    state.lane = lane->second;
    before = &group;
  }
  std::sort(job.edges.begin(), job.edges.end());
  if (job.deadline) deadlines_.insert({*job.deadline, job.id});
  if (job.speculate) speculative_.insert(ix);
  for (const JobAfter& after : e.terms.after) {
    if (Job* other = live(after.job)) {
      job.waits_for.push_back(after.job);
      other->dependents.emplace_back(e.job, after.any);
    } else if (const auto over = ended_.find(after.job); over == ended_.end() || (!after.any && over->second.state != TaskState::succeeded)) {
      job.dropped = true;
      job.canceled = true;
      job.why = "job " + std::to_string(after.job.value) + (over == ended_.end() ? " is not known" : over->second.state == TaskState::failed ? " failed" : " was canceled") + ", and this one was to run after its success";
    }
  }
  return ix;
}

/// Queues what can start; a job whose outcome is clear ends.
void Scheduler::begin(Ix ix, Actions& actions) {
  Job& job = jobs_[ix];
  for (std::uint32_t group = 0; group < job.groups.size(); ++group) {
    GroupState& state = job.groups[group];
    if (state.tasks == 0 && state.unmet == 0) group_ended(ix, group);
    else if (state.unmet == 0 && !job.canceled) queue_group(ix, group);
  }
  if (job.canceled) drop_waiting(ix);
  sync_lanes(ix);
  settle(ix, actions);
}

void Scheduler::on(const JobSubmitted& e, Actions& actions) {
  if (job_ix_.contains(e.job) || ended_.contains(e.job)) return;
  begin(add_job(e), actions);
}

void Scheduler::on(const JobRestored& e, Actions& actions) {
  if (job_ix_.contains(e.job.job)) return;
  ended_.erase(e.job.job);
  const Ix ix = add_job(e.job);
  Job& job = jobs_[ix];
  job.restored = true;
  job.born = e.born;
  for (const Past& past : e.past) recall(ix, past);
  for (const auto& [task, state] : e.ended)
    if (task.value >= 1 && task.value <= job.counts.tasks && souk::ended(state) && !souk::ended(job.states.get(task.value - 1)))
      end_task(ix, static_cast<std::uint32_t>(task.value - 1), state);
  if (e.canceled) job.canceled = true;
  task_failed_for_good(ix, actions);
  begin(ix, actions);
}

/// A task goes on from what an earlier life knew of it.
void Scheduler::recall(Ix ix, const Past& known) {
  Job& job = jobs_[ix];
  if (known.task.value < 1 || known.task.value > job.counts.tasks) return;
  const auto bounded = [](unsigned count) { return static_cast<std::uint16_t>(std::min(count, 0x7FFFu)); };
  const auto task = static_cast<std::uint32_t>(known.task.value - 1);
  History& history = job.history[task];
  history.past = bounded(known.runs), history.failures = bounded(known.failures), history.losses = bounded(known.losses), history.over = known.over;
  job.counts.retried += history.failures;
  if (job.votes_of)
    for (const std::string& voter : known.voted)
      if (auto& voted = job.voted[task]; std::find(voted.begin(), voted.end(), voter) == voted.end()) voted.push_back(voter);
  if (!known.not_before || *known.not_before <= now_) {
    // It is for some only, and so may have to step aside alone: a task that was never started does with all that come after it.
    if (GroupState& group = job.groups[group_of(job, task)]; job.voted.contains(task)) {
      if (!group.again) group.again = std::make_unique<std::set<std::uint32_t>>();
      group.again->insert(task - group.first);
    }
    return;
  }
  // The wall's clock may have been set since: no retry waits longer than it was asked to, with its jitter.
  const Retry& retry = job.terms[job.groups[group_of(job, task)].terms].retry;
  history.not_before = std::min(*known.not_before, now_ + std::max(retry.delay, retry.delay_max) * 5 / 4);
  delayed_.insert({history.not_before, job.id, task});
}

void Scheduler::on(const JobKnown& e, Actions&) {
  if (!job_ix_.contains(e.job)) ended_.try_emplace(e.job, Ended{{}, e.state});
}

void Scheduler::on(const JobForgotten& e, Actions&) { ended_.erase(e.job); }

void Scheduler::on(const JobHeld& e, Actions&) {
  const Ix ix = job_ix(e.job);
  if (ix == kNone || std::exchange(jobs_[ix].held, true)) return;
  sync_lanes(ix);
}

void Scheduler::on(const JobReleased& e, Actions&) {
  const Ix ix = job_ix(e.job);
  if (ix == kNone || !std::exchange(jobs_[ix].held, false)) return;
  sync_lanes(ix);
}

void Scheduler::on(const OwnerSet& e, Actions&) {
  shares_.set(e.owner, e.weight > 0 ? e.weight : 1, e.running_max);
  for (OwnerId owner = 0; owner < shares_.size(); ++owner) limit_changed(owner);
}

void Scheduler::on(const GroupsSet& e, Actions&) {
  market_.set_groups(e.groups);
  reclass();
}

/// Workers take tasks of other people than was known when these jobs came: tasks of some owners are of another class now. What runs goes on.
void Scheduler::reclass() {
  std::vector<std::optional<std::vector<AcceptanceId>>> by_owner(shares_.size());
  for (const auto& [id, ix] : job_ix_) {
    Job& job = jobs_[ix];
    auto& accepted = by_owner[job.owner];
    if (!accepted) accepted = market_.accepted(shares_[job.owner].name);
    for (std::uint32_t number = 0; number < job.lanes.size(); ++number) {
      Lane& lane = job.lanes[number];
      if (market_.task(lane.task_class).accepted == *accepted) continue;
      ++shares_[job.owner].queues;  // so that nobody looks as if away for a moment
      release_unvoted(ix, number);
      if (lane.queued) dequeue(ix, number);
      const TaskClassId now_of = market_.reclassed(lane.task_class, *accepted);
      if (now_of >= queues_.size()) queues_.resize(now_of + 1);
      give_up(lane.task_class);
      lane.task_class = now_of;
      sync_lane(ix, number);
      --shares_[job.owner].queues;
    }
  }
}

// ---- How it ends -----------------------------------------------------------------------------------------------------------------

void Scheduler::on(const JobCanceled& e, Actions& actions) {
  const Ix ix = job_ix(e.job);
  if (ix == kNone || jobs_[ix].canceled) return;
  jobs_[ix].canceled = true;
  drop_waiting(ix);
  stop_running(ix, actions);
  settle(ix, actions);
}

/// Whatever waits ends as canceled; the job starts nothing more. Tasks never started keep no state of their own: one number says it of all.
void Scheduler::drop_waiting(Ix ix) {
  Job& job = jobs_[ix];
  job.dropped = true;
  sync_lanes(ix);
  for (std::uint32_t group = 0; group < job.groups.size(); ++group) cancel_group(job, group);
}

void Scheduler::cancel_group(Job& job, std::uint32_t number) {
  GroupState& group = job.groups[number];
  const Ix ix = job_ix_.at(job.id);
  // Of ten million tasks that never ran nearly all have no past: they end page by page, not one by one.
  const std::uint32_t first = group.first + group.cursor, last = group.first + group.tasks;
  if (group.again) group.again->erase(group.again->lower_bound(group.cursor), group.again->end());
  group.cursor = group.tasks;
  std::set<std::uint32_t> with_past;
  for (auto at = job.history.lower_bound(first); at != job.history.end() && at->first < last; ++at) with_past.insert(at->first);
  for (auto at = lost_of_.lower_bound({job.id, {first + 1ull}}); at != lost_of_.end() && at->first.job == job.id && at->first.task.value <= last; ++at)
    with_past.insert(static_cast<std::uint32_t>(at->first.task.value - 1));
  for (const std::uint32_t task : with_past)
    if (job.states.get(task) == TaskState::waiting) end_task(ix, task, TaskState::canceled);
  if (const auto ended = static_cast<std::uint32_t>(job.states.end_waiting(first, last, TaskState::canceled)); ended > 0) {
    job.counts.waiting -= ended, waiting_ -= ended, job.counts.canceled += ended;
    group.failed = true;
    if ((group.ended += ended) == group.tasks) group_ended(ix, number);
  }
  if (group.again)
    for (const std::uint32_t offset : std::exchange(*group.again, {})) end_task(ix, group.first + offset, TaskState::canceled);
  std::vector<std::uint32_t> delayed;
  for (auto at = job.history.lower_bound(group.first); at != job.history.end() && at->first < group.first + group.tasks; ++at)
    if (job.states.get(at->first) == TaskState::waiting) delayed.push_back(at->first);
  for (const std::uint32_t task : delayed) end_task(ix, task, TaskState::canceled);
}

void Scheduler::stop_running(Ix ix, Actions& actions) {
  Job& job = jobs_[ix];
  std::vector<Ix> runs;
  for (const auto& [task, run] : job.running) runs.push_back(run);
  std::sort(runs.begin(), runs.end(), [this](Ix a, Ix b) { return runs_[a].task < runs_[b].task; });
  for (const Ix first : runs)
    for (Ix run = first; run != kNone; run = runs_[run].other == first ? kNone : runs_[run].other) {
      if (!std::exchange(runs_[run].stopping, true)) actions.push_back(Stop{workers_[runs_[run].worker].id, {runs_[run].attempt, task_id(runs_[run])}});
    }
}

void Scheduler::end_task(Ix ix, std::uint32_t task, TaskState state) {
  Job& job = jobs_[ix];
  const TaskState before = job.states.get(task);
  const std::uint32_t number = group_of(job, task);
  GroupState& group = job.groups[number];
  if (before == TaskState::waiting) {
    --job.counts.waiting, --waiting_;
    if (group.again) group.again->erase(task - group.first);
  }
  if (before == TaskState::running) --job.counts.running, --running_;
  job.states.set(task, state);
  ++(state == TaskState::succeeded ? job.counts.succeeded : state == TaskState::failed ? job.counts.failed : job.counts.canceled);
  if (!lost_of_.empty())
    if (const auto old = lost_of_.find({job.id, {task + 1ull}}); old != lost_of_.end()) {
      for (const AttemptId attempt : old->second) lost_.erase(attempt);
      lost_of_.erase(old);
    }
  if (const auto past = job.history.find(task); past != job.history.end()) {
    if (past->second.not_before == kParked && --job.parked == 0) parking_.erase(ix);
    if (past->second.not_before != Instant{}) delayed_.erase({past->second.not_before, job.id, task});
    drop_unvoted(job, task);
    job.history.erase(past);
  }
  if (!job.voted.empty()) job.voted.erase(task);
  if (state != TaskState::succeeded) group.failed = true;
  if (++group.ended == group.tasks) group_ended(ix, number);
}

/// Those that waited for it may start, or never will. A chain of groups is gone through in a loop, however long it is.
void Scheduler::group_ended(Ix ix, std::uint32_t number) {
  ended_groups_.push_back(number);
  if (std::exchange(ending_groups_, true)) return;
  Job& job = jobs_[ix];
  while (!ended_groups_.empty()) {
    const std::uint32_t from = ended_groups_.back();
    ended_groups_.pop_back();
    const bool failed = job.groups[from].failed;
    for (auto edge = std::lower_bound(job.edges.begin(), job.edges.end(), Edge{from, 0, false}); edge != job.edges.end() && edge->from == from; ++edge) {
      GroupState& group = job.groups[edge->to];
      --group.unmet;
      if (job.dropped) continue;
      if (failed && !edge->any && group.ended < group.tasks) {
        if (job.why.empty()) job.why = "tasks that others need did not succeed";
        cancel_group(job, edge->to);
      } else if (failed && !edge->any) {
        group.failed = true;  // of no tasks: what needs it needs them
        if (group.unmet == 0 && group.tasks == 0) ended_groups_.push_back(edge->to);
      } else if (group.unmet == 0) {
        if (group.tasks == 0) ended_groups_.push_back(edge->to);
        else if (group.ended < group.tasks) queue_group(ix, edge->to), sync_lane(ix, group.lane);
      }
    }
  }
  ending_groups_ = false;
}

/// Ends a job with nothing left to do, and with it those that waited for its success in vain.
void Scheduler::settle(Ix first, Actions& actions) {
  std::deque<Ix> ending{first};
  for (; !ending.empty(); ending.pop_front()) {
    const Ix ix = ending.front();
    Job& job = jobs_[ix];
    if (!job.open || job.counts.waiting + job.counts.running > 0) continue;
    const Counts& c = job.counts;
    // Canceled too late, when all had succeeded, is a success. What was dropped for its failures has failed.
    const TaskState state = job.canceled && c.canceled > 0 ? TaskState::canceled : c.failed > 0 || c.canceled > 0 ? TaskState::failed : TaskState::succeeded;
    const JobId id = job.id;
    const std::string why = state == TaskState::succeeded ? std::string() : job.why;
    const auto dependents = std::exchange(job.dependents, {});
    ended_[id] = {job.counts, state};
    close(ix);
    actions.push_back(JobEnded{id, state, why});
    for (const auto& [other, any] : dependents) {
      const Ix next = job_ix(other);
      if (next == kNone) continue;
      Job& waits = jobs_[next];
      std::erase(waits.waits_for, id);
      if (!any && state != TaskState::succeeded && !waits.dropped) {
        waits.canceled = true;
        waits.why = "job " + std::to_string(id.value) + " " + (state == TaskState::failed ? "failed" : "was canceled") + ", and this one was to run after its success";
        drop_waiting(next);
        ending.push_back(next);
      } else {
        sync_lanes(next);
      }
    }
  }
}

/// One lane less is of that class.
void Scheduler::give_up(TaskClassId task_class) {
  const bool last = market_.task(task_class).users == 1;
  market_.give_up(task_class);
  if (!last) return;
  unreserve(task_class, true);
  std::erase(queued_, task_class);
  queues_[task_class] = {};
}

void Scheduler::close(Ix ix) {
  Job& job = jobs_[ix];
  for (const Lane& lane : job.lanes)
    if (lane.queued) dequeue(ix, static_cast<std::uint32_t>(&lane - job.lanes.data()));
  if (job.deadline) deadlines_.erase({*job.deadline, job.id});
  speculative_.erase(ix), parking_.erase(ix);
  for (const Lane& lane : job.lanes) give_up(lane.task_class);
  job_ix_.erase(job.id);
  job = {};
  free_jobs_.push_back(ix);
}

/// More than max_fails tasks failed: the rest is not worth it.
void Scheduler::task_failed_for_good(Ix ix, Actions& actions) {
  Job& job = jobs_[ix];
  if (!job.max_fails || job.counts.failed <= *job.max_fails || job.dropped) return;
  job.why = "more than " + std::to_string(*job.max_fails) + (*job.max_fails == 1 ? " task" : " tasks") + " failed";
  if (*job.max_fails == 0) job.why = "a task failed, and none may";
  drop_waiting(ix);
  stop_running(ix, actions);
}

// ---- Queues ----------------------------------------------------------------------------------------------------------------------

std::uint32_t Scheduler::group_of(const Job& job, std::uint32_t task) const {
  if (job.groups.size() == 1) return 0;
  const auto after = std::upper_bound(job.groups.begin(), job.groups.end(), task, [](std::uint32_t t, const GroupState& g) { return t < g.first; });
  auto at = after - 1;
  while (at->tasks == 0) --at;  // groups of no tasks share their first with the next
  return static_cast<std::uint32_t>(at - job.groups.begin());
}

/// Whether the group has something to start; brings its cursor to it.
bool Scheduler::front(Job& job, GroupState& group) {
  if (group.again && !group.again->empty()) return true;
  // Over those that ended in an earlier life, were adopted, or wait for the time of their retry.
  const auto not_now = [&](std::uint32_t task) {
    if (job.states.get(task) != TaskState::waiting) return true;
    const auto past = job.history.empty() ? job.history.end() : job.history.find(task);
    return past != job.history.end() && past->second.not_before != Instant{};
  };
  while (group.cursor < group.tasks && not_now(group.first + group.cursor)) ++group.cursor;
  return group.cursor < group.tasks;
}

void Scheduler::queue_group(Ix ix, std::uint32_t number) {
  Job& job = jobs_[ix];
  GroupState& group = job.groups[number];
  if (group.unmet > 0 || std::exchange(group.queued, true)) return;
  auto& heap = job.lanes[group.lane].groups;
  heap.push_back(number);
  std::push_heap(heap.begin(), heap.end(), std::greater<>());
}

/// Puts the lane into its class's queue if it has something to start, and takes it out if not.
void Scheduler::sync_lane(Ix ix, std::uint32_t number) {
  Job& job = jobs_[ix];
  Lane& lane = job.lanes[number];
  while (!lane.groups.empty() && !front(job, job.groups[lane.groups.front()])) {
    job.groups[lane.groups.front()].queued = false;
    std::pop_heap(lane.groups.begin(), lane.groups.end(), std::greater<>());
    lane.groups.pop_back();
  }
  const bool wanted = job.startable() && !lane.groups.empty() && !lane.deferred;
  if (wanted == lane.queued) return;
  if (wanted) enqueue(ix, number);
  else dequeue(ix, number);
}

void Scheduler::sync_lanes(Ix ix) {
  for (std::uint32_t lane = 0; lane < jobs_[ix].lanes.size(); ++lane) sync_lane(ix, lane);
}

void Scheduler::enqueue(Ix ix, std::uint32_t number) {
  Job& job = jobs_[ix];
  Lane& lane = job.lanes[number];
  Queue& queue = queues_[lane.task_class];
  lane.queued = true;
  if (!std::exchange(queue.listed, true)) {
    queued_.push_back(lane.task_class);
    queue.since = now_;
    queue.stuck = queue.narrow = false;
    queue.hints.clear(), queue.shortlist.clear();
  }
  auto& turns = queue.turns[job.owner];
  const bool first = turns.empty();
  turns.insert({-job.priority, lane.turn, job.id, ix, number});
  queue.head_known = false;
  if (!first) return;
  Shares::Owner& owner = shares_[job.owner];
  if (owner.queues++ == 0) shares_.lift(job.owner, rules_.credit * std::max(1, slots_));
  list_owner(lane.task_class, job.owner);
}

void Scheduler::dequeue(Ix ix, std::uint32_t number) {
  Job& job = jobs_[ix];
  Lane& lane = job.lanes[number];
  Queue& queue = queues_[lane.task_class];
  lane.queued = false;
  const auto turns = queue.turns.find(job.owner);
  turns->second.erase({-job.priority, lane.turn, job.id, ix, number});
  queue.head_known = false;
  if (!turns->second.empty()) return;
  queue.turns.erase(turns);  // its entry in `owners` goes when it comes to the front
  --shares_[job.owner].queues;
  if (!queue.turns.empty()) return;
  queue.owners.clear();
  queue.listed = false;
  queue.stuck = queue.narrow = false;
  queue.hints.clear(), queue.shortlist.clear();
  std::erase(queued_, lane.task_class);
  unreserve(lane.task_class, false);
}

void Scheduler::list_owner(TaskClassId task_class, OwnerId owner) {
  queues_[task_class].head_known = false;
  if (!shares_[owner].limited()) queues_[task_class].owners.insert({shares_[owner].used, owner});
}

/// Its limit was reached, or is no more. Those at their limit are in no queue's `owners`.
void Scheduler::limit_changed(OwnerId owner) {
  if (shares_[owner].running_max == 0 && shares_[owner].queues == 0) return;
  for (const TaskClassId task_class : queued_) {
    Queue& queue = queues_[task_class];
    if (!queue.turns.contains(owner)) continue;
    queue.head_known = false;
    if (shares_[owner].limited()) std::erase_if(queue.owners, [&](const auto& entry) { return entry.second == owner; });
    else if (std::none_of(queue.owners.begin(), queue.owners.end(), [&](const auto& entry) { return entry.second == owner; })) list_owner(task_class, owner);
  }
}

/// Back to waiting, at once or after a delay.
void Scheduler::set_waiting(Ix ix, std::uint32_t task, std::uint32_t number, Duration delay) {
  Job& job = jobs_[ix];
  GroupState& group = job.groups[number];
  if (job.states.get(task) == TaskState::running) --job.counts.running, --running_, ++job.counts.waiting, ++waiting_;
  job.states.set(task, TaskState::waiting);
  if (delay > Duration(0)) {
    Instant& when = job.history[task].not_before;
    when = now_ + delay;
    delayed_.insert({when, job.id, task});
    return;
  }
  if (!group.again) group.again = std::make_unique<std::set<std::uint32_t>>();
  group.again->insert(task - group.first);
  queue_group(ix, number);
  sync_lane(ix, group.lane);
}

void Scheduler::release_delayed() {
  while (!delayed_.empty() && std::get<0>(*delayed_.begin()) <= now_) {
    const auto [when, id, task] = *delayed_.begin();
    delayed_.erase(delayed_.begin());
    const Ix ix = job_ix(id);
    if (ix == kNone) continue;
    jobs_[ix].history[task].not_before = {};
    set_waiting(ix, task, group_of(jobs_[ix], task), Duration(0));
  }
  while (!deferred_.empty() && std::get<0>(*deferred_.begin()) <= now_) {
    const auto [when, id, lane] = *deferred_.begin();
    deferred_.erase(deferred_.begin());
    const Ix ix = job_ix(id);
    if (ix == kNone || lane >= jobs_[ix].lanes.size()) continue;
    jobs_[ix].lanes[lane].deferred = false;
    sync_lane(ix, lane);
  }
}

// ---- Questions -------------------------------------------------------------------------------------------------------------------

const Scheduler::Counts* Scheduler::counts(JobId id) const {
  if (const Job* job = live(id)) return &job->counts;
  const auto over = ended_.find(id);
  return over == ended_.end() ? nullptr : &over->second.counts;
}

TaskState Scheduler::state(TaskId task) const {
  const Job* job = live(task.job);
  if (!job || task.task.value < 1 || task.task.value > job->states.size()) return TaskState::waiting;
  return job->states.get(task.task.value - 1);
}

std::optional<WorkerId> Scheduler::runner(TaskId task) const {
  const Job* job = live(task.job);
  if (!job || task.task.value < 1 || task.task.value > job->states.size()) return std::nullopt;
  const auto at = job->running.find(static_cast<std::uint32_t>(task.task.value - 1));
  if (at == job->running.end()) return std::nullopt;
  return workers_[runs_[at->second].worker].id;
}

unsigned Scheduler::attempts(TaskId task) const {
  const Job* job = live(task.job);
  if (!job || task.task.value < 1 || task.task.value > job->states.size()) return 0;
  const auto offset = static_cast<std::uint32_t>(task.task.value - 1);
  const auto past = job->history.find(offset);
  unsigned runs = past == job->history.end() ? 0 : past->second.past;
  if (const auto at = job->running.find(offset); at != job->running.end()) runs += runs_[at->second].other == kNone ? 1 : 2;
  return runs;
}

std::optional<Scheduler::Load> Scheduler::load(WorkerId id) const {
  const auto at = worker_ix_.find(id);
  if (at == worker_ix_.end()) return std::nullopt;
  const Worker& worker = workers_[at->second];
  std::string aside = worker.aside;
  if (!aside.empty()) aside += "; it is tried again in " + std::to_string(std::max<std::int64_t>(1, (worker.aside_until - now_) / std::chrono::seconds(60) + 1)) + " min";
  else if (worker.silent) aside = "it was silent for longer than a lease";
  return Load{worker.slots, worker.slots - worker.room.slots, worker.state, worker.held.size(), worker.succeeded, worker.failed, std::move(aside)};
}

Scheduler::Totals Scheduler::totals() const { return {waiting_, running_}; }

std::uint64_t Scheduler::open_tasks(const std::string& owner) const {
  std::uint64_t tasks = 0;
  for (const auto& [id, ix] : job_ix_)
    if (shares_[jobs_[ix].owner].name == owner) tasks += jobs_[ix].counts.waiting + jobs_[ix].counts.running;
  return tasks;
}

std::string Scheduler::note(JobId id) const {
  const Job* job = live(id);
  if (!job) return {};
  if (job->dropped) return job->why;
  if (job->held) return "held";
  if (!job->waits_for.empty()) return "waits for job " + std::to_string(job->waits_for.front().value);
  return {};
}

}  // namespace souk
