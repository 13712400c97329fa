// Attempts are placed, adopted, refused, lost and finished; what is learnt from them; what time brings.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "manager/scheduler.h"

namespace souk {

namespace {

constexpr std::size_t kEstimatesMax = 64;               // groups remembered per worker; the oldest is forgotten
constexpr std::size_t kLostMax = 64;  // attempts of a task, given up, whose success would still count
constexpr Duration kTickGap = std::chrono::seconds(3);  // between ticks; a longer one means that we stood still, not the workers
constexpr Duration kRest = std::chrono::milliseconds(900);  // after a refusal, until the next tick of a second; doubles each time, to a minute
constexpr Duration kAsideMax = std::chrono::hours(1);
constexpr Duration kChargedAtOnce = std::chrono::seconds(1);  // at most, of an attempt's expected time; the rest as it runs
constexpr std::uint32_t kSeenMin = 3;                   // results before a mean says something

constexpr std::string_view kRunnerLost = "runner-lost";

/// A number from 0 to 1 that looks random and is always the same for the same attempt: jitter without dice.
double fraction_of(AttemptId attempt, TaskId task) {
  std::uint64_t x = attempt.number * 0x9E3779B97F4A7C15u ^ attempt.epoch.value << 32 ^ task.job.value * 0xBF58476D1CE4E5B9u ^ task.task.value;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return static_cast<double>((x ^ (x >> 31)) >> 11) / static_cast<double>(1ull << 53);
}

}  // namespace

// ---- What workers say of them ---------------------------------------------------------------------------------------------------

bool Scheduler::is_lost(Epoch epoch) const {
  return std::any_of(rules_.lost.begin(), rules_.lost.end(), [&](const auto& range) { return range.first <= epoch && epoch <= range.second; });
}

/// A worker says it holds an attempt. One that we had given up, or of an earlier life of ours, it may keep: see make_way().
/// Attempts of earlier lives are believed only in the answer to our greeting and for jobs that came out of the journal.
void Scheduler::adopt(Ix ix, const Held& held, bool greeted, Actions& actions) {
  Worker& worker = workers_[ix];
  if (const auto at = run_ix_.find(held.attempt); at != run_ix_.end()) {
    Run& run = runs_[at->second];
    if (run.worker == ix && task_id(run) == held.task) {
      run.lease_ends = now_ + rules_.lease;
      if (run.stopping) actions.push_back(Stop{worker.id, held});  // the first one may have been lost on the way
      return;
    }
    actions.push_back(Stop{worker.id, held});  // ours, but not for it
    return;
  }
  if (is_lost(held.attempt.epoch)) {  // its task may be done since
    actions.push_back(Stop{worker.id, held});
    return;
  }
  const Ix job_at = job_ix(held.task.job);
  Job* job = job_at == kNone ? nullptr : &jobs_[job_at];
  const auto lost = lost_.find(held.attempt);
  const bool ours = lost != lost_.end() && lost->second.worker == worker.id && lost->second.task == held.task;
  const bool inherited = greeted && job && job->restored && held.attempt.epoch < epoch_ && held.attempt.epoch.value > 0 && held.attempt.epoch >= job->born;
  if (!job || held.task.task.value < 1 || held.task.task.value > job->states.size() || (!ours && !inherited)) {
    actions.push_back(Stop{worker.id, held});
    return;
  }
  const auto task = static_cast<std::uint32_t>(held.task.task.value - 1);
  const std::uint32_t group = group_of(*job, task);
  const TaskState state = job->states.get(task);
  const auto before = job->history.find(task);
  const bool over = before != job->history.end() && before->second.over == held.attempt;  // its result is known, and was not acknowledged yet
  const bool parked = before != job->history.end() && before->second.not_before == kParked;
  if (souk::ended(state) || job->groups[group].unmet > 0 || over || parked || has_voted(*job, task, worker)) {
    actions.push_back(Stop{worker.id, held});
    return;
  }
  // Nobody was ever given more at a time; of what it refused, or let come to the end of its lease, it could claim any number.
  if (worker.held.size() >= static_cast<std::size_t>(worker.offer->slots) + rules_.prefetch_all) {
    actions.push_back(Stop{worker.id, held});
    return;
  }
  if (state == TaskState::running && !make_way(job_at, task, group, ix, held, actions)) {
    if (!ours) give_up(held.attempt, worker.id, held.task);  // it may have succeeded before it hears of that
    actions.push_back(Stop{worker.id, held});
    return;
  }
  if (ours) {
    auto& old = lost_of_[held.task];
    std::erase(old, held.attempt);
    if (old.empty()) lost_of_.erase(held.task);
    lost_.erase(lost);
  }
  if (const auto past = job->history.find(task); past != job->history.end() && past->second.not_before != Instant{}) {
    delayed_.erase({past->second.not_before, job->id, task});
    drop_unvoted(*job, task);
    past->second.not_before = {};
  }
  const Ix run = place(job_at, task, group, ix, held.attempt, false);
  if (ours && job->history[task].past > 0) --job->history[task].past, runs_[run].run = static_cast<std::uint16_t>(job->history[task].past + 1);
  sync_lane(job_at, job->groups[group].lane);
  if (job->canceled || job->dropped) {
    runs_[run].stopping = true;
    actions.push_back(Stop{worker.id, held});
  }
}

/// Whether a claimed attempt goes on, of a task that runs already; what gives way to it is stopped. Of two of one owner the newer gives way: the other has run for longer.
/// Nobody's word stops what another owner runs: the claimed one was given up because its worker fell silent, maybe by intent, or is of an earlier life, and may have been refused or
/// handed back there, of which nothing is on disk. So both go on, and the first result counts. A third goes, and where results are votes, a second: there a task has one attempt at a time.
bool Scheduler::make_way(Ix job_at, std::uint32_t task, std::uint32_t group, Ix ix, const Held& held, Actions& actions) {
  Job& job = jobs_[job_at];
  std::vector<Ix> runs{job.running.at(task)}, stopped;
  if (const Ix other = runs_[runs.front()].other; other != kNone) runs.push_back(other);
  for (const Ix run : runs)
    if (workers_[runs_[run].worker].owner == workers_[ix].owner) stopped.push_back(run);
  if (stopped.empty() && (job.votes_of || runs.size() > 1)) return false;
  if (std::any_of(stopped.begin(), stopped.end(), [&](Ix run) { return runs_[run].attempt < held.attempt; })) return false;
  for (const Ix run : stopped) {
    const WorkerId there = workers_[runs_[run].worker].id;
    actions.push_back(Stop{there, {runs_[run].attempt, held.task}});
    give_up(runs_[run].attempt, there, held.task);  // the same
    release(run);
    ++job.history[task].past;
  }
  if (!job.running.contains(task)) set_waiting(job_at, task, group, Duration(0));
  return true;
}

void Scheduler::on(const AttemptRefused& e, Actions& actions) {
  const auto at = run_ix_.find(e.attempt);
  if (at == run_ix_.end() || workers_[runs_[at->second].worker].id != e.worker) return;
  const Ix ix = runs_[at->second].worker;
  // Else it would be asked again at once, for ever. Several refusals of one message count once.
  if (!std::exchange(workers_[ix].resting, true)) workers_[ix].resting_until = now_ + kRest * (1 << std::min(workers_[ix].times_refused++, 6u));
  resting_.insert(e.worker);
  // It may say no for good, whatever it offers: others first.
  const Run& run = runs_[at->second];
  avoid(jobs_[run.job].history[run.task], e.worker, false);
  requeue(at->second, "refused", false, actions);
}

/// Not there again soon, if it fits elsewhere.
void Scheduler::avoid(History& past, WorkerId worker, bool failed) {
  past.avoid[past.avoided % 3] = worker;
  past.failed_there[past.avoided % 3] = failed;
  past.avoided = static_cast<std::uint8_t>(past.avoided >= 252 ? 3 : past.avoided + 1);
  past.anywhere = now_ + rules_.elsewhere;
}

void Scheduler::on(const AttemptReturned& e, Actions& actions) {
  const auto at = run_ix_.find(e.attempt);
  if (at == run_ix_.end() || workers_[runs_[at->second].worker].id != e.worker) return;
  heard(runs_[at->second].worker);
  // It was prefetched behind something long: believe no more that this group's tasks are short here.
  const Run& run = runs_[at->second];
  Worker& worker = workers_[run.worker];
  const std::uint64_t key = ahead_key(jobs_[run.job], run.group);
  const float least = static_cast<float>(rules_.prefetch.count()) * 4;
  const auto known = std::find_if(worker.estimates.begin(), worker.estimates.end(), [&](const Estimate& one) { return one.group == key; });
  if (known != worker.estimates.end()) known->mean_us = std::max(known->mean_us, least);
  requeue(at->second, "handed-back", false, actions);
}

// ---- Attempts ----------------------------------------------------------------------------------------------------------------------

Scheduler::Ix Scheduler::place(Ix job_at, std::uint32_t task, std::uint32_t number, Ix worker_at, AttemptId attempt, bool ahead) {
  Ix ix = kNone;
  if (free_runs_.empty()) {
    ix = static_cast<Ix>(runs_.size());
    runs_.emplace_back();
  } else {
    ix = free_runs_.back();
    free_runs_.pop_back();
  }
  Job& job = jobs_[job_at];
  GroupState& group = job.groups[number];
  Worker& worker = workers_[worker_at];
  const TaskClassId task_class = job.lanes[group.lane].task_class;
  const Room& need = market_.task(task_class).need;
  Run& run = runs_[ix];
  run = {};
  run.attempt = attempt;
  run.job = job_at, run.worker = worker_at, run.task = task, run.group = number;
  run.lease_ends = now_ + rules_.lease, run.placed = now_;
  run.slots = static_cast<float>(weight_of(task_class));
  const auto past = job.history.empty() ? job.history.end() : job.history.find(task);
  run.run = static_cast<std::uint16_t>((past == job.history.end() ? 0 : past->second.past) + 1);
  run.position = static_cast<std::uint32_t>(worker.held.size());
  worker.held.push_back(ix);
  run_ix_[attempt] = ix;
  if (ahead || !worker.ahead.empty() || !fits(need, worker.room)) {
    run.ahead = true;
    worker.ahead.push_back(ix);
  } else {
    take(worker.room, need);
  }
  if (job.states.get(task) == TaskState::waiting) {
    if (group.again) group.again->erase(task - group.first);
    if (task - group.first == group.cursor) ++group.cursor;
    --job.counts.waiting, --waiting_, ++job.counts.running, ++running_;
    job.states.set(task, TaskState::running);
    job.running[task] = ix;
  } else {  // a second attempt
    const Ix first = job.running.at(task);
    runs_[first].other = ix, run.other = first;
    run.speculative = true;
    ++run.run;
  }
  Shares::Owner& owner = shares_[job.owner];
  ++owner.running;
  if (owner.running_max > 0 && owner.running == owner.running_max) limit_changed(job.owner);
  const auto mean = estimate(job, number, worker);
  run.charged = mean ? std::min(kChargedAtOnce, Duration(static_cast<std::int64_t>(*mean))) : kChargedAtOnce;
  shares_.charge(job.owner, run.slots, run.charged);
  return ix;
}

/// What it used beyond what was charged already, or less.
void Scheduler::charge(Run& run, Duration whole) {
  shares_.charge(jobs_[run.job].owner, run.slots, whole - run.charged);
  run.charged = whole;
}

/// Forgets the run; the task's state is the caller's business, but for a second attempt, which takes over.
void Scheduler::release(Ix ix) {
  Run& run = runs_[ix];
  Worker& worker = workers_[run.worker];
  Job& job = jobs_[run.job];
  const Ix last = worker.held.back();
  worker.held[run.position] = last;
  runs_[last].position = run.position;
  worker.held.pop_back();
  const bool was_ahead = run.ahead;
  if (was_ahead) worker.ahead.erase(std::find(worker.ahead.begin(), worker.ahead.end(), ix));
  else give_back(worker.room, market_.task(job.lanes[job.groups[run.group].lane].task_class).need);
  run_ix_.erase(run.attempt);
  if (run.other != kNone) {
    runs_[run.other].other = kNone;
    job.running[run.task] = run.other;
  } else {
    job.running.erase(run.task);
  }
  Shares::Owner& owner = shares_[job.owner];
  const bool was_limited = owner.limited();
  --owner.running;
  if (was_limited && !owner.limited()) limit_changed(job.owner);
  const Ix at = run.worker;
  run.job = run.worker = kNone;
  free_runs_.push_back(ix);
  promote(at);
  index(at, !was_ahead || worker.ahead.empty());
  if (!worker.hungry) worker.hungry = true, hungry_.push_back(at);
}

/// What waits on the worker starts there, in order, as soon as there is room: so we count it.
void Scheduler::promote(Ix ix) {
  Worker& worker = workers_[ix];
  while (!worker.ahead.empty()) {
    Run& run = runs_[worker.ahead.front()];
    const Job& job = jobs_[run.job];
    const Room& need = market_.task(job.lanes[job.groups[run.group].lane].task_class).need;
    if (!fits(need, worker.room)) return;
    take(worker.room, need);
    run.ahead = false;
    run.placed = now_;
    worker.ahead.pop_front();
  }
}

/// The attempt counts no more, but a success of it still does while its task has not ended.
void Scheduler::give_up(AttemptId attempt, WorkerId worker, TaskId task) {
  auto& all = lost_of_[task];
  if (all.size() >= kLostMax || !lost_.try_emplace(attempt, Lost{worker, task}).second) return;
  all.push_back(attempt);
}

void Scheduler::requeue(Ix ix, std::string_view why, bool counts_as_loss, Actions& actions) {
  const Run run = runs_[ix];
  Job& job = jobs_[run.job];
  const TaskId id = task_id(run);
  const WorkerId worker = workers_[run.worker].id;
  charge(runs_[ix], run.ahead ? Duration(0) : std::min(now_ - run.placed, rules_.lease * 2));
  if (counts_as_loss) workers_[run.worker].faults += (1 - workers_[run.worker].faults) / 16;
  release(ix);
  const bool other_runs = run.other != kNone;
  const std::uint32_t number = run.group;
  if (counts_as_loss) {
    ++job.counts.requeued;
    History& past = job.history[run.task];
    ++past.past;
    const bool without_runner = why == kRunnerLost;
    if (!without_runner) give_up(run.attempt, worker, id);  // else it is over, and will not come back
    // Only what went away under it speaks against the task; silence has other causes.
    const bool gone = why == "worker-lost" || without_runner;
    if (gone) ++past.losses;
    actions.push_back(Failed{{run.attempt, id}, worker, run.run, why, past.failures, past.losses});
    if (gone && past.losses >= job.crash_limit && !other_runs && !job.canceled && !job.dropped) {
      const unsigned runs = past.past, losses = past.losses;
      end_task(run.job, run.task, TaskState::failed);
      actions.push_back(GiveUp{id, runs, "workers-lost", losses});
      task_failed_for_good(run.job, actions);
      settle(run.job, actions);
      return;
    }
  }  // else it never ran
  if (other_runs) return;
  if (job.canceled || job.dropped) {
    end_task(run.job, run.task, TaskState::canceled);
    settle(run.job, actions);
    return;
  }
  set_waiting(run.job, run.task, number, Duration(0));
  actions.push_back(Requeued{id, run.attempt, worker, why});
}

std::optional<float> Scheduler::estimate(const Job& job, std::uint32_t group, const Worker& worker) const {
  const std::uint64_t key = estimate_key(job, group);
  for (const Estimate& one : worker.estimates)
    if (one.group == key) return one.mean_us;
  const GroupState& state = job.groups[group];
  if (state.seen == 0) return std::nullopt;
  return state.mean_us * worker.pace;
}

/// When an attempt there is over at the latest, as far as one can know; zero: nothing is known.
Duration Scheduler::bound(const Job& job, std::uint32_t group, const Worker& worker) const {
  if (const Duration limit = job.terms[job.groups[group].terms].time_limit; limit > Duration(0)) return limit;
  const auto mean = estimate(job, group, worker);
  return mean ? Duration(static_cast<std::int64_t>(*mean * 1.5f)) : Duration(0);
}

/// How long tasks of this group take, here and everywhere, and so how fast the worker and its class are.
void Scheduler::learn(Ix worker_at, Ix run_at, Duration wall) {
  const Run& run = runs_[run_at];
  Worker& worker = workers_[worker_at];
  Job& job = jobs_[run.job];
  GroupState& group = job.groups[run.group];
  const auto took = std::max(1.0f, static_cast<float>(wall.count()));
  const std::uint64_t key = ahead_key(job, run.group);
  const auto known = std::find_if(worker.estimates.begin(), worker.estimates.end(), [&](const Estimate& one) { return one.group == key; });
  if (known != worker.estimates.end()) {
    known->mean_us += (took - known->mean_us) / 8;
  } else {
    if (worker.estimates.size() >= kEstimatesMax) worker.estimates.erase(worker.estimates.begin());
    worker.estimates.push_back({key, took});
  }
  if (group.seen >= kSeenMin) {
    const TaskClassId task_class = job.lanes[group.lane].task_class;
    Queue& queue = queues_[task_class];
    const auto& fitting = market_.task(task_class).fitting;
    const auto at = std::lower_bound(fitting.begin(), fitting.end(), worker.worker_class, [](const auto& f, WorkerClassId id) { return f.worker_class < id; });
    const float against_all = std::clamp(took / std::max(1.0f, group.mean_us), 0.001f, 1000.0f);
    float of_class = 1;
    if (const auto position = static_cast<std::size_t>(at - fitting.begin()); at != fitting.end() && position < queue.ratio.size()) {
      float& ratio = queue.ratio[position];
      of_class = ratio;
      ratio += (against_all - ratio) / 32;
      queue.pace[position] = bucket_of(ratio);
    }
    worker.pace += (std::clamp(against_all / of_class, 0.01f, 100.0f) - worker.pace) / 8;
    worker.pace_bucket = bucket_of(worker.pace);
  }
  ++group.seen;
  group.mean_us += (took - group.mean_us) / static_cast<float>(std::min(group.seen, 32u));
}

/// Whether so many failures in a row are nothing special, by how often the job fails elsewhere.
bool Scheduler::by_chance(const Job& job, const Streak& streak) const {
  const double elsewhere = std::max(0.0, static_cast<double>(job.counts.failed + job.counts.retried) - streak.failures);
  const double share = (elsewhere + 1) / (elsewhere + static_cast<double>(job.counts.succeeded) + 2);
  return std::pow(share, streak.failures) > 0.001;
}

/// A failure there. So many in a row that chance would do it once in a thousand, by how often the job fails elsewhere, and the worker is set aside.
void Scheduler::failed_there(Ix ix, Ix job_at, TaskClassId task_class, Actions& actions) {
  Worker& worker = workers_[ix];
  Job& job = jobs_[job_at];
  Streak& streak = job.failed_on.try_emplace(worker.id, Streak{0, job.counts.succeeded}).first->second;
  ++streak.failures;
  if (streak.failures < rules_.strikes_max || job.counts.succeeded == streak.succeeded_before) return;  // nobody else did better meanwhile
  if (by_chance(job, streak)) return;
  set_aside(ix, task_class, "its last " + std::to_string(streak.failures) + " attempts of job " + std::to_string(job.id.value) + " failed, and others did them well", actions);
}

/// Not if it is the only one that could do such tasks.
void Scheduler::set_aside(Ix ix, TaskClassId task_class, std::string why, Actions& actions) {
  Worker& worker = workers_[ix];
  const bool replaceable = std::any_of(worker_ix_.begin(), worker_ix_.end(), [&](const auto& entry) {
    return entry.second != ix && takes_work(workers_[entry.second]) && score(task_class, entry.second);
  });
  if (!replaceable || !worker.aside.empty()) return;
  worker.aside_until = now_ + std::min<Duration>(kAsideMax, rules_.set_aside * (1 << std::min(worker.times_aside++, 5u)));
  worker.aside = std::move(why);
  worker.strikes = 0;
  aside_.insert(worker.id);
  actions.push_back(SetAside{worker.id, worker.aside_until, worker.aside});
  index(ix, false);
}

void Scheduler::on(const AttemptFinished& e, Actions& actions) {
  if (is_lost(e.what.attempt.epoch)) return actions.push_back(Drop{e.what, kOfLostEpoch});
  const auto at = run_ix_.find(e.what.attempt);
  const bool current = at != run_ix_.end() && workers_[runs_[at->second].worker].id == e.worker && task_id(runs_[at->second]) == e.what.task;
  const Ix run_at = current ? at->second : kNone;
  const Ix job_at = current ? runs_[run_at].job : job_ix(e.what.task.job);
  Job* job = job_at == kNone ? nullptr : &jobs_[job_at];
  if (!job || e.what.task.task.value < 1 || e.what.task.task.value > job->states.size()) return actions.push_back(Drop{e.what, "task ended or unknown"});
  const auto task = static_cast<std::uint32_t>(e.what.task.task.value - 1);
  Ix worker_at = kNone;
  if (current) {
    worker_at = runs_[run_at].worker;
  } else {
    const auto lost = lost_.find(e.what.attempt);
    if (souk::ended(job->states.get(task))) return actions.push_back(Drop{e.what, "committed already"});
    // What earlier lives gave out was claimed in the answer to our greeting, or is not believed.
    if (lost == lost_.end() || lost->second.worker != e.worker || lost->second.task != e.what.task) return actions.push_back(Drop{e.what, "never given to this worker"});
    if (!e.succeeded || job->canceled || job->dropped || job->votes_of) return actions.push_back(Drop{e.what, "given to another worker since"});
    if (const auto known = worker_ix_.find(e.worker); known != worker_ix_.end()) worker_at = known->second;
  }
  if (current && !e.succeeded && e.cause == Cause::lost) {  // its runner died under it, as all would have with the worker
    heard(worker_at);
    return requeue(run_at, kRunnerLost, true, actions);
  }
  const std::uint32_t group = group_of(*job, task);
  const bool own_fault = !e.succeeded && e.cause != Cause::canceled;
  unsigned run_number = 1;
  Ix other = kNone;
  if (worker_at != kNone) {
    Worker& worker = workers_[worker_at];
    if (worker.resting) worker.resting = false, resting_.erase(worker.id);
    worker.times_refused = 0;
    heard(worker_at);
    if (e.succeeded) ++worker.succeeded;
    else if (own_fault) ++worker.failed;  // what its owner stopped is no failure
    if (current) {
      Run& run = runs_[run_at];
      run_number = run.run;
      other = run.other;
      charge(run, std::clamp(e.wall, Duration(0), std::max(Duration(0), now_ - run.placed) + kTickGap));
      if (e.succeeded) learn(worker_at, run_at, e.wall);
    }
    if (e.succeeded) {
      worker.strikes = 0;
      worker.faults -= worker.faults / 16;
      if (!job->failed_on.empty()) job->failed_on.erase(worker.id);
    } else if (own_fault && current && !job->canceled && !job->dropped) {
      failed_there(worker_at, job_at, job->lanes[job->groups[group].lane].task_class, actions);
    }
    if (!current) index(worker_at, true);
  }
  const WorkerId where = e.worker;
  if (current) release(run_at);

  if (current && !e.succeeded && other != kNone) {  // the other attempt goes on
    History& past = job->history[task];
    ++past.past;
    if (own_fault) ++past.failures;
    if (own_fault) actions.push_back(Failed{e.what, where, run_number, "failed", past.failures, past.losses});
    return;
  }
  const bool over = job->canceled || job->dropped;
  if (current && !e.succeeded && !over) {
    const GroupTerms& terms = job->terms[job->groups[group].terms];
    const auto coded = [&] {
      return terms.retry.codes.empty() || (e.cause == Cause::exited && std::any_of(terms.retry.codes.begin(), terms.retry.codes.end(),
                                                                                    [&](const ExitCodes& c) { return c.first <= e.exit_code && e.exit_code <= c.last; }));
    };
    const auto failures = [&] {
      const auto past = job->history.find(task);
      return past == job->history.end() ? 0u : past->second.failures;
    };
    if (!own_fault || (failures() < terms.retry.times && coded())) {
      History& past = job->history[task];
      ++past.past;
      Duration delay{0};
      if (own_fault) {
        ++past.failures, ++job->counts.retried;
        avoid(past, where, true);
        if (terms.retry.delay > Duration(0)) {
          const double doubled = static_cast<double>(terms.retry.delay.count()) * std::exp2(std::min(40, past.failures - 1));
          const double most = static_cast<double>(std::max(terms.retry.delay, terms.retry.delay_max).count());
          delay = Duration(static_cast<std::int64_t>(std::min(doubled, most) * (0.75 + 0.5 * fraction_of(e.what.attempt, e.what.task))));
        }
        past.anywhere = now_ + delay + rules_.elsewhere;
      }
      if (own_fault) job->voted.erase(task);  // they agreed that it failed; what comes now begins anew
      actions.push_back(Failed{e.what, where, run_number, own_fault ? "failed" : "stopped-by-worker", past.failures, past.losses, delay});
      set_waiting(job_at, task, group, delay);
      actions.push_back(Requeued{e.what.task, e.what.attempt, where, own_fault ? "failed" : "stopped-by-worker"});
      return;
    }
  }
  // The first result wins: what else runs of this task is stopped.
  unsigned stopped = 0;
  if (const auto running = job->running.find(task); running != job->running.end()) {
    const Ix first = running->second, second = runs_[first].other;
    for (const Ix run : {first, second})
      if (run != kNone) {
        actions.push_back(Stop{workers_[runs_[run].worker].id, {runs_[run].attempt, e.what.task}});
        charge(runs_[run], std::max(Duration(0), now_ - runs_[run].placed));
        release(run);
        ++stopped;
      }
  }
  const auto past = job->history.find(task);
  if (e.succeeded && past != job->history.end())
    for (int i = 0; i < std::min<int>(3, past->second.avoided); ++i)
      if (const auto failed = worker_ix_.find(past->second.avoid[i]); past->second.failed_there[i] && failed != worker_ix_.end() && failed->first != where) {
        Worker& worker = workers_[failed->second];
        worker.faults += (1 - worker.faults) / 16;
        if (++worker.strikes >= rules_.strikes_max)
          set_aside(failed->second, job->lanes[job->groups[group].lane].task_class, "its last " + std::to_string(worker.strikes) + " failures were done well by others", actions);
        index(failed->second, false);
      }
  const unsigned runs = std::max(1u, (past == job->history.end() ? 0u : past->second.past) + (current ? 1u : 0u) + stopped);
  const TaskState state = e.succeeded ? TaskState::succeeded : e.cause == Cause::canceled ? TaskState::canceled : TaskState::failed;
  const std::uint32_t lane = job->groups[group].lane;
  end_task(job_at, task, state);
  sync_lane(job_at, lane);
  actions.push_back(Commit{e.what, where, state, runs});
  if (state == TaskState::failed) task_failed_for_good(job_at, actions);
  settle(job_at, actions);
}

void Scheduler::on(const LeaseRenewed& e, Actions& actions) {
  const auto at = worker_ix_.find(e.worker);
  if (at == worker_ix_.end()) return;
  for (const Held& held : e.held) adopt(at->second, held, false, actions);
  on(WorkerChanged{e.worker, e.state, e.slots, e.until}, actions);
}

void Scheduler::on(const Tick&, Actions& actions) {
  const Duration gap = now_ - std::exchange(last_tick_, now_);
  if (shares_.at(now_))
    for (const TaskClassId task_class : queued_) {
      Queue& queue = queues_[task_class];
      queue.owners.clear();
      queue.head_known = false;
      for (const auto& [owner, turns] : queue.turns) list_owner(task_class, owner);
    }
  for (const WorkerId id : std::set(resting_))
    if (const Ix ix = worker_ix_.at(id); workers_[ix].resting_until <= now_) rested(ix);
  for (const WorkerId id : std::set(silent_)) {
    const Ix ix = worker_ix_.at(id);
    if (workers_[ix].silent_until > now_) continue;
    silent_.erase(id);
    workers_[ix].silent = false;
    index(ix, true);
  }
  for (const WorkerId id : std::set(aside_)) {
    const Ix ix = worker_ix_.at(id);
    if (workers_[ix].aside_until > now_) continue;
    aside_.erase(id);
    workers_[ix].aside.clear();
    index(ix, true);
  }
  if (!open_) return;
  if (gap > kTickGap) {
    for (Run& run : runs_) run.lease_ends = std::min(run.lease_ends + gap, now_ + rules_.lease);  // what began since we woke up has its full lease already
    return;
  }
  std::vector<Ix> over;
  for (Ix ix = 0; ix < runs_.size(); ++ix) {
    Run& run = runs_[ix];
    if (run.job == kNone) continue;
    if (run.lease_ends <= now_) over.push_back(ix);
    else if (!run.ahead && now_ - run.placed > run.charged) charge(run, now_ - run.placed);
  }
  std::sort(over.begin(), over.end(), [this](Ix a, Ix b) { return runs_[a].attempt < runs_[b].attempt; });
  // The worker is not told to stop: if it still lives, what it brings or renews first is taken.
  for (const Ix run : over)
    if (runs_[run].job != kNone && runs_[run].lease_ends <= now_) {
      Worker& worker = workers_[runs_[run].worker];
      // Else it would get the same tasks again, lease after lease, until somebody notices that it is gone.
      if (!std::exchange(worker.silent, true)) worker.silent_until = now_ + rules_.lease * (1 << std::min(worker.times_silent++, 5u));
      silent_.insert(worker.id);
      index(runs_[run].worker, false);
      requeue(run, "lease-ended", true, actions);
    }
  while (!deadlines_.empty() && deadlines_.begin()->first <= now_) {
    const Ix ix = job_ix(deadlines_.begin()->second);
    deadlines_.erase(deadlines_.begin());
    if (ix == kNone || jobs_[ix].dropped) continue;
    if (jobs_[ix].counts.waiting > 0) jobs_[ix].why = "its deadline passed with " + std::to_string(jobs_[ix].counts.waiting) + (jobs_[ix].counts.waiting == 1 ? " task" : " tasks") + " not started";
    drop_waiting(ix);
    settle(ix, actions);
  }
  speculate(actions);
  reserve();
}

/// Late tasks at the end of a job get a second attempt where there is room: later than twice what the others took.
void Scheduler::speculate(Actions& actions) {
  for (const Ix ix : std::set(speculative_)) {
    Job& job = jobs_[ix];
    // At its end, or where the rest waits for what runs.
    if (!job.startable() || job.counts.running == 0 || std::any_of(job.lanes.begin(), job.lanes.end(), [](const Lane& lane) { return lane.queued || lane.deferred; })) continue;
    std::vector<Ix> late;
    for (const auto& [task, at] : job.running) {
      const Run& run = runs_[at];
      const GroupState& group = job.groups[run.group];
      if (run.other != kNone || run.stopping || run.ahead || group.seen < kSeenMin) continue;
      // A second attempt helps against a slow worker, not for a task that fails.
      if (const auto past = job.history.find(task); past != job.history.end() && past->second.failures > 0) continue;
      if (static_cast<double>((now_ - run.placed).count()) > 2.0 * group.mean_us) late.push_back(at);
    }
    std::sort(late.begin(), late.end(), [this](Ix a, Ix b) { return runs_[a].placed < runs_[b].placed || (runs_[a].placed == runs_[b].placed && runs_[a].task < runs_[b].task); });
    for (const Ix at : late) {
      const Run run = runs_[at];
      if (shares_[job.owner].limited()) break;
      const Pick pick{job.lanes[job.groups[run.group].lane].task_class, ix, job.groups[run.group].lane, run.group, run.task};
      const Ix worker = find(pick).worker;
      if (worker == kNone || worker == run.worker) continue;
      assign(pick, worker, false, true, actions);
    }
  }
}

void Scheduler::on(const MarketClosed&, Actions&) { open_ = false; }

void Scheduler::on(const MarketOpened&, Actions&) {
  open_ = true;
  last_tick_ = now_;
  for (Run& run : runs_) run.lease_ends = now_ + rules_.lease;  // nobody could renew
}

}  // namespace souk
