#include "tests/simulation/laws.h"

#include <algorithm>

#include "tests/simulation/simulation.h"

namespace souk::simulation {

using namespace std::chrono_literals;

namespace {

constexpr auto kTickSlack = 1100ms;  // leases end on ticks, and a tick is a second

std::string name(TaskId task) { return std::to_string(task.job.value) + '.' + std::to_string(task.task.value); }

void write(World& world, const Action& action) {
  if (const auto* a = std::get_if<Assign>(&action))
    world.note(a->speculative ? "  assign a second {}.{} as {} to #{}" : "  assign {}.{} as {} to #{}", {a->task.job.value, a->task.task.value, a->attempt.number, a->worker.value});
  else if (const auto* s = std::get_if<Stop>(&action))
    world.note("  stop {}.{} of {}.{} on #{}", {s->what.attempt.epoch.value, s->what.attempt.number, s->what.task.job.value, s->what.task.task.value, s->worker.value});
  else if (const auto* c = std::get_if<Commit>(&action))
    world.note("  commit {}.{} of {}.{} from #{}: {s}", {c->what.task.job.value, c->what.task.task.value, c->what.attempt.epoch.value, c->what.attempt.number, c->worker.value}, name_of(c->state));
  else if (const auto* f = std::get_if<Failed>(&action))
    world.note("  run {} of {}.{} failed on #{}: {s}", {f->run, f->what.task.job.value, f->what.task.task.value, f->worker.value}, f->why);
  else if (const auto* g = std::get_if<GiveUp>(&action))
    world.note("  give up {}.{} after {}: {s}", {g->task.job.value, g->task.task.value, g->attempts}, g->why);
  else if (const auto* d = std::get_if<Drop>(&action))
    world.note("  drop {}.{} of {}.{}: {s}", {d->what.task.job.value, d->what.task.task.value, d->what.attempt.epoch.value, d->what.attempt.number}, d->why);
  else if (const auto* r = std::get_if<Requeued>(&action))
    world.note("  requeue {}.{} of #{}, was {}.{}: {s}", {r->task.job.value, r->task.task.value, r->worker.value, r->attempt.epoch.value, r->attempt.number}, r->why);
  else if (const auto* e = std::get_if<JobEnded>(&action))
    world.note("  job {} ended: {s}", {e->job.value}, std::string(name_of(e->state)) + (e->why.empty() ? "" : ", " + e->why));
  else if (const auto* a2 = std::get_if<SetAside>(&action))
    world.note("  set aside #{}: {s}", {a2->worker.value}, a2->why);
}

void write(World& world, const Event& event) {
  const auto held = [](const std::vector<Held>& all) {
    std::string text;
    for (const Held& one : all) text += ' ' + std::to_string(one.attempt.epoch.value) + '.' + std::to_string(one.attempt.number) + "=" + name(one.task);
    return text;
  };
  if (std::holds_alternative<MarketClosed>(event)) world.note("> market closed", {});
  else if (std::holds_alternative<MarketOpened>(event)) world.note("> market opened", {});
  else if (const auto* s = std::get_if<JobSubmitted>(&event)) world.note("> job {} submitted by {s}", {s->job.value}, s->owner);
  else if (const auto* r = std::get_if<JobRestored>(&event)) world.note(r->canceled ? "> job {} restored, canceled, with {} outcomes" : "> job {} restored with {} outcomes", {r->job.job.value, r->ended.size()});
  else if (const auto* k = std::get_if<JobKnown>(&event)) world.note("> job {} known: {s}", {k->job.value}, name_of(k->state));
  else if (const auto* c = std::get_if<JobCanceled>(&event)) world.note("> job {} canceled", {c->job.value});
  else if (const auto* h = std::get_if<JobHeld>(&event)) world.note("> job {} held", {h->job.value});
  else if (const auto* u = std::get_if<JobReleased>(&event)) world.note("> job {} released", {u->job.value});
  else if (const auto* o = std::get_if<OwnerSet>(&event)) world.note("> owner {s}: weight {} %, at most {}", {static_cast<std::uint64_t>(o->weight * 100), o->running_max}, o->owner);
  else if (const auto* j = std::get_if<WorkerJoined>(&event))
    world.note("> #{} joined, {} slots,{s}", {j->worker.value, static_cast<std::uint64_t>(j->slots)}, ' ' + std::string(name_of(j->state)) + held(j->held));
  else if (const auto* w = std::get_if<WorkerChanged>(&event)) world.note("> #{} is {s}", {w->worker.value}, name_of(w->state));
  else if (const auto* l = std::get_if<WorkerLost>(&event)) world.note("> #{} lost", {l->worker.value});
  else if (const auto* f = std::get_if<AttemptRefused>(&event)) world.note("> #{} refused {}.{}", {f->worker.value, f->attempt.epoch.value, f->attempt.number});
  else if (const auto* b = std::get_if<AttemptReturned>(&event)) world.note("> #{} returned {}.{}", {b->worker.value, b->attempt.epoch.value, b->attempt.number});
  else if (const auto* e = std::get_if<AttemptFinished>(&event))
    world.note("> #{} finished {}.{} of {}.{}: {s}", {e->worker.value, e->what.attempt.epoch.value, e->what.attempt.number, e->what.task.job.value, e->what.task.task.value}, e->succeeded ? "success" : name_of(e->cause));
  else if (const auto* n = std::get_if<LeaseRenewed>(&event)) world.note("> #{} renews{s}", {n->worker.value}, held(n->held) + ' ' + std::string(name_of(n->state)));
}

}  // namespace

void Laws::blame(const std::string& what) const { simulation_.world.blame(what); }

std::size_t Laws::Job::group_of(std::uint64_t task) const {
  return static_cast<std::size_t>(std::upper_bound(first.begin(), first.end(), task) - first.begin()) - 1;
}

void Laws::new_life() {
  jobs_.clear(), over_.clear(), ever_over_.clear(), owners_.clear(), workers_.clear(), leases_.clear(), aside_.clear(), until_.clear();
  open_ = false;
}

void Laws::stood_still(Duration how_long) {
  for (auto& [what, until] : leases_) until = std::min(until + how_long + kTickSlack, simulation_.world.now() + simulation_.plan.lease);  // it reckons from its last tick
  forgives_until_ = simulation_.world.now() + 2 * kTickSlack;
}

void Laws::learn(const JobSubmitted& spec) {
  Job& job = jobs_[spec.job];
  job = {};
  job.spec = spec;
  job.held = spec.terms.hold;
  std::uint64_t next = 1;
  for (const Group& group : spec.groups) job.first.push_back(next), next += group.tasks;
  job.succeeded.assign(spec.groups.size(), 0);
}

void Laws::ended(Job& job, std::uint64_t task, TaskState state) {
  if (!job.outcomes.emplace(task, state).second) return blame("a second outcome for " + name({job.spec.job, {task}}));
  if (state == TaskState::succeeded) ++job.succeeded[job.group_of(task)];
  if (state == TaskState::failed) ++job.failed;
}

void Laws::told(const Event& event, const std::vector<Action>& actions, const Market& market) {
  World& world = simulation_.world;
  const Instant now = world.now();
  if (!std::holds_alternative<Tick>(event) || !actions.empty()) write(world, event);
  for (const Action& action : actions) write(world, action);

  const auto hold = [&](WorkerId worker, const std::vector<Held>& held) {
    for (const Held& one : held) {
      leases_[{one.task, worker}] = now + simulation_.plan.lease;
      // Who still has an earlier attempt of a failed task keeps it, and may hand it back: that is no retry.
      if (const auto job = jobs_.find(one.task.job); job != jobs_.end())
        if (const auto failure = job->second.failures.find(one.task.task.value); failure != job->second.failures.end()) failure->second.earliest = {};
    }
  };
  const auto wanted_back = [&](WorkerId worker, std::optional<Instant> until) {
    if (until) until_[worker] = *until;
    else until_.erase(worker);
  };
  if (const auto* s = std::get_if<JobSubmitted>(&event)) learn(*s);
  else if (const auto* r = std::get_if<JobRestored>(&event)) {
    learn(r->job);
    over_.erase(r->job.job);
    for (const auto& [task, state] : r->ended) ended(jobs_[r->job.job], task.value, state);
    jobs_[r->job.job].canceled = r->canceled;
    for (const Past& past : r->past) jobs_[r->job.job].failures[past.task.value] = {past.failures, past.not_before.value_or(Instant{})};
  } else if (const auto* k = std::get_if<JobKnown>(&event)) over_[k->job] = ever_over_[k->job] = k->state;
  else if (const auto* g = std::get_if<JobForgotten>(&event)) jobs_.erase(g->job), over_.erase(g->job);
  else if (const auto* c = std::get_if<JobCanceled>(&event)) jobs_[c->job].canceled = true;
  else if (const auto* h = std::get_if<JobHeld>(&event)) jobs_[h->job].held = true;
  else if (const auto* u = std::get_if<JobReleased>(&event)) jobs_[u->job].held = false;
  else if (const auto* o = std::get_if<OwnerSet>(&event)) owners_[o->owner] = *o;
  else if (const auto* j = std::get_if<WorkerJoined>(&event)) workers_[j->worker] = *j, wanted_back(j->worker, j->until), hold(j->worker, j->held);
  else if (const auto* w = std::get_if<WorkerChanged>(&event)) {
    if (const auto at = workers_.find(w->worker); at != workers_.end()) at->second.state = w->state;
  } else if (const auto* l = std::get_if<WorkerLost>(&event)) workers_.erase(l->worker), aside_.erase(l->worker), until_.erase(l->worker);
  else if (const auto* n = std::get_if<LeaseRenewed>(&event)) {
    hold(n->worker, n->held);
    if (n->until) wanted_back(n->worker, *n->until);
    if (const auto at = workers_.find(n->worker); at != workers_.end()) at->second.state = n->state;
  } else if (std::holds_alternative<MarketClosed>(event)) open_ = false;
  else if (std::holds_alternative<MarketOpened>(event)) {
    open_ = true;
    for (auto& [what, until] : leases_) until = now + simulation_.plan.lease;
  }

  const Scheduler& scheduler = market.scheduler();
  std::set<std::string> given_to;
  for (const Action& action : actions) {
    if (const auto* a = std::get_if<Assign>(&action)) {
      on(*a, scheduler);
      leases_[{a->task, a->worker}] = now + simulation_.plan.lease;
      if (const auto job = jobs_.find(a->task.job); job != jobs_.end()) given_to.insert(job->second.spec.owner);
    } else if (const auto* commit = std::get_if<Commit>(&action)) {
      on(*commit, market);
    } else if (const auto* g = std::get_if<GiveUp>(&action)) {
      if (const auto job = jobs_.find(g->task.job); job == jobs_.end()) blame("gives up a task of no job");
      else ended(job->second, g->task.task.value, TaskState::failed);
    } else if (const auto* q = std::get_if<Requeued>(&action)) {
      const auto* finished = std::get_if<AttemptFinished>(&event);
      if (finished && finished->what.task == q->task && finished->what.attempt == q->attempt && finished->cause != Cause::canceled && jobs_.contains(q->task.job)) {
        Job& job = jobs_[q->task.job];
        const Retry& retry = job.spec.groups[job.group_of(q->task.task.value)].retry;
        Failure& failure = job.failures[q->task.task.value];
        const auto doubled = std::min<Duration>(retry.delay_max, retry.delay * (1 << std::min(20u, failure.times)));
        failure.earliest = now + doubled * 3 / 4;
        if (++failure.times > retry.times) blame("more retries than asked for: " + name(q->task));
        if (!retry.codes.empty() && finished->cause == Cause::exited &&
            std::none_of(retry.codes.begin(), retry.codes.end(), [&](const ExitCodes& codes) { return codes.first <= finished->exit_code && finished->exit_code <= codes.last; }))
          blame("a retry after an exit code it was not asked for: " + name(q->task));
      }
    } else if (const auto* e = std::get_if<JobEnded>(&action)) {
      ever_over_[e->job] = e->state;
      if (!over_.emplace(e->job, e->state).second) blame("job " + std::to_string(e->job.value) + " ended twice");
      const Job& job = jobs_[e->job];
      const bool all = std::all_of(job.spec.groups.begin(), job.spec.groups.end(), [&, g = std::size_t{0}](const Group& group) mutable { return job.succeeded[g++] == group.tasks; });
      if (all != (e->state == TaskState::succeeded)) blame("job " + std::to_string(e->job.value) + " ended with the wrong state");
      if (const auto* counts = scheduler.counts(e->job); !counts || counts->waiting + counts->running > 0) blame("a job ended with tasks to do");
    } else if (const auto* aside = std::get_if<SetAside>(&action)) {
      aside_[aside->worker] = aside->until;
    }
  }
  for (const std::string& owner : given_to) {
    const auto own = owners_.find(owner);
    const auto everybody = owners_.find("");
    const std::uint64_t most = own != owners_.end() ? own->second.running_max : everybody != owners_.end() ? everybody->second.running_max : 0;
    std::uint64_t running = 0;
    for (const auto& [id, job] : jobs_)
      if (job.spec.owner == owner)
        if (const auto* counts = scheduler.counts(id)) running += counts->running;
    if (most > 0 && running > most) blame("more tasks of " + owner + " run than allowed: " + std::to_string(running) + " > " + std::to_string(most));
  }
  if (const auto broken = scheduler.broken_invariant()) blame("scheduler: " + *broken);
  if (std::holds_alternative<Tick>(event)) {
    check_leases(market);
    check_deadlines(scheduler);
  }
}

void Laws::on(const Assign& action, const Scheduler& scheduler) {
  const std::string task = name(action.task);
  if (!open_) blame("given out while the market is closed: " + task);
  const auto at = jobs_.find(action.task.job);
  if (at == jobs_.end() || over_.contains(action.task.job)) return blame("a task of no open job is given out: " + task);
  const Job& job = at->second;
  const std::uint64_t number = action.task.task.value;
  if (job.outcomes.contains(number)) blame("given out though it ended: " + task);
  if (job.canceled) blame("given out though its job was canceled: " + task);
  if (job.held && !action.speculative) blame("given out though its job is held: " + task);
  if (job.spec.terms.max_fails && job.failed > *job.spec.terms.max_fails) blame("given out though too many failed: " + task);
  const Group& group = job.spec.groups[job.group_of(number)];
  // What it needs has ended.
  for (const Group::After& after : group.after) {
    const std::uint64_t first = job.first[after.group], tasks = job.spec.groups[after.group].tasks;
    if (!after.any && job.succeeded[after.group] != tasks) blame("given out before what it needs succeeded: " + task);
    for (std::uint64_t other = first; after.any && other < first + tasks; ++other)
      if (!souk::ended(scheduler.state({action.task.job, {other}}))) blame("given out before what it needs ended: " + task);
  }
  for (const JobAfter& after : job.spec.terms.after) {
    const auto over = ever_over_.find(after.job);
    if (over == ever_over_.end()) blame("given out before job " + std::to_string(after.job.value) + " ended: " + task);
    else if (!after.any && over->second != TaskState::succeeded) blame("given out though job " + std::to_string(after.job.value) + " did not succeed: " + task);
  }
  // The worker is there, takes work, and could run it.
  const auto worker = workers_.find(action.worker);
  if (worker == workers_.end()) return blame("given to a worker that is not there: " + task);
  if (worker->second.state == WorkerState::draining || worker->second.state == WorkerState::paused) blame("given to a worker that takes nothing: " + task);
  if (!could_run(*worker->second.offer, group)) blame("given to a worker that cannot run it: " + task);
  if (const auto aside = aside_.find(action.worker); aside != aside_.end() && simulation_.world.now() < aside->second) blame("given to a worker that is set aside: " + task);
  // In time.
  const Instant now = simulation_.world.now();
  if (const auto until = until_.find(action.worker); until != until_.end() && (until->second <= now || now + group.time_limit > until->second))
    blame("given to a worker whose owner wants it back before it can end: " + task);
  if (const auto deadline = job.spec.terms.deadline; deadline && now + group.time_limit > *deadline) blame("given out though it cannot end by its deadline: " + task);
  if (const auto failure = job.failures.find(number); failure != job.failures.end() && now < failure->second.earliest) blame("retried too soon: " + task);
}

void Laws::on(const Commit& action, const Market& market) {
  const std::string task = name(action.what.task);
  const auto at = jobs_.find(action.what.task.job);
  if (at == jobs_.end()) return blame("commits a task of no job: " + task);
  ended(at->second, action.what.task.task.value, action.state);
  // It is the result of an attempt that was given to that worker, in this life or another, and that ended so.
  const auto truth = simulation_.truths.find(action.what.attempt);
  const auto host = market.host_of(action.worker);
  if (truth == simulation_.truths.end() || truth->second.task != action.what.task || !host || truth->second.host != *host) return blame("commits what no worker brought: " + task);
  if (truth->second.succeeded != (action.state == TaskState::succeeded)) blame("commits another outcome than there was: " + task);
}

/// No worker counts as running what it was silent about for longer than a lease.
void Laws::check_leases(const Market& market) {
  if (!open_) return;
  const Instant now = simulation_.world.now();
  for (auto lease = leases_.begin(); lease != leases_.end();) {
    const auto& [task, worker] = lease->first;
    if (now <= lease->second + kTickSlack) {
      ++lease;
      continue;
    }
    if (market.scheduler().runner(task) == worker && market.scheduler().state(task) == TaskState::running)
      blame("task " + name(task) + " still counts as running on #" + std::to_string(worker.value) + ", which was silent about it for a lease");
    lease = leases_.erase(lease);
  }
}

void Laws::check_deadlines(const Scheduler& scheduler) {
  if (!open_ || simulation_.world.now() < forgives_until_) return;
  for (const auto& [id, job] : jobs_) {
    if (!job.spec.terms.deadline || over_.contains(id) || simulation_.world.now() < *job.spec.terms.deadline + kTickSlack) continue;
    if (const auto* counts = scheduler.counts(id); counts && counts->waiting > 0) blame("tasks of job " + std::to_string(id.value) + " wait past its deadline");
  }
}

void Laws::on_disk(Journal& journal, TaskId task, TaskState state) {
  Journal::Job& job = journal.jobs.at(task.job);
  if (!job.outcomes.emplace(task.task, state).second) blame("committed twice: " + name(task));
}

void Laws::at_the_end(const Journal& journal) {
  for (std::size_t number = 0; number < simulation_.plan.jobs.size(); ++number) {
    const auto id = simulation_.id_of(number);
    if (id && simulation_.is_forgotten(std::to_string(number))) continue;
    if (!id || !journal.jobs.contains(*id)) blame("a job was never accepted");
    else at_its_end(simulation_.plan.jobs[number], *id, journal.jobs.at(*id));
  }
}

void Laws::at_its_end(const JobPlan& plan, JobId id, const Journal::Job& job) {
  const bool anybody_kills = std::any_of(simulation_.plan.jobs.begin(), simulation_.plan.jobs.end(), [](const JobPlan& other) { return other.kill > 0; });
  const std::string who = "job " + std::to_string(id.value);
  if (!job.over) blame(who + " never ended");
  std::uint64_t outcomes[5] = {};
  for (const auto& [task, state] : job.outcomes) ++outcomes[static_cast<int>(state)];
  const std::uint64_t canceled = plan.tasks() - outcomes[2] - outcomes[3];
  // Nothing is canceled, and nothing fails, without a reason that the plan has.
  bool may_cancel = job.canceled || plan.terms.max_fails || !plan.after.empty() || plan.deadline > Duration(0);
  bool may_fail = plan.fail > 0 || anybody_kills || plan.deadline > Duration(0) || !simulation_.plan.calm();
  for (const Group& group : plan.groups) may_cancel |= !group.after.empty(), may_fail |= group.time_limit > Duration(0);
  if (canceled > 0 && !may_cancel) blame(who + ": " + std::to_string(canceled) + " tasks canceled by nobody");
  if (outcomes[3] > 0 && !may_fail) blame(who + ": " + std::to_string(outcomes[3]) + " tasks failed that could not");
  if ((job.state == TaskState::succeeded) != (outcomes[2] == plan.tasks())) blame(who + " ended with the wrong state");
}

}  // namespace souk::simulation
