#include "tests/simulation/host.h"

#include "tests/simulation/market.h"
#include "tests/simulation/simulation.h"

namespace souk::simulation {

using namespace std::chrono_literals;

namespace {
std::optional<Instant> until_of(std::uint64_t ms) { return ms == 0 ? std::nullopt : std::optional(Instant(std::chrono::milliseconds(ms))); }

const std::shared_ptr<const Command> kCommand = std::make_shared<const Command>(Command{{"task"}, false, {}, {}, {}, {}, {}, {}, {}, {}});
}

Host::Host(Simulation& simulation, std::size_t index) : simulation_(simulation), index_(index) {}

bool Host::frozen() const { return frozen_until_ && simulation_.world.now() < *frozen_until_; }

void Host::boot() {
  if (up()) return;
  ++life_;
  simulation_.world.note("worker {} starts", {index_});
  worker::Limits limits;
  const Offer& has = simulation_.plan.hosts[index_].offer;
  limits.slots = has.slots;
  limits.capacity = {has.memory_bytes, has.disk_bytes, static_cast<int>(has.gpus.size()), has.resources, {}};
  ending_ = false;
  agent_ = std::make_unique<worker::Agent>(limits);
  if (spool_.epoch.value > 0 || !spool_.results.empty()) {
    worker::Restored found{{}, spool_.epoch, spool_.jobs_seen};
    for (const auto& [attempt, result] : spool_.results) found.results.push_back(result);
    tell(std::move(found));
    if (agent_->owed() != spool_.results.size()) simulation_.world.blame("worker " + std::to_string(index_) + " forgot what its disk remembers");
  }
  simulation_.enters_room(index_);
}

void Host::crash(bool quiet) {
  if (!up()) return;
  simulation_.world.note(quiet ? "worker {} dies unheard" : "worker {} dies", {index_});
  ++life_;
  agent_.reset();
  frozen_until_.reset(), wakes_at_.reset();
  while_frozen_.clear(), running_.clear(), reports_.clear(), leases_.clear(), commands_.clear(), parts_.clear();
  until_.reset(), allowance_ = {};
  const double kept = simulation_.plan.weather.spool_kept;
  if (kept <= 0 || !simulation_.world.dice.chance(kept)) spool_ = {}, obeyed_ = {};
  else if (!spool_.results.empty()) simulation_.world.note("its disk keeps {} results", {spool_.results.size()});
  simulation_.leaves_room(index_, quiet);
}

void Host::end() {
  if (!up() || std::exchange(ending_, true)) return;
  simulation_.world.note("worker {} is told to end", {index_});
  const Duration patience = simulation_.world.dice.skewed(1s, 6);
  simulation_.world.after(patience, [this, life = life_] {
    if (life == life_) crash(false), simulation_.boots_later(index_);  // whoever told it kills what does not end
  });
  run([this] {
    if (simulation_.world.dice.chance(0.3)) tell(worker::Drain{});
    else tell(worker::Leave{simulation_.world.dice.chance(0.5)});
  });
}

void Host::perform(worker::Emptied&) {
  simulation_.world.after(Duration(0), [this, life = life_] {  // not while its core is at work
    if (life != life_ || !ending_) return;
    simulation_.world.note("worker {} has ended", {index_});
    crash(false);
    simulation_.boots_later(index_);
  });
}

void Host::freeze(Duration how_long) {
  if (!up() || frozen()) return;
  simulation_.world.note("worker {} stands still for {} ms", {index_, static_cast<std::uint64_t>(how_long / 1ms)});
  frozen_until_ = simulation_.world.now() + how_long;
  simulation_.world.at(*frozen_until_, [this, life = life_] {
    if (life != life_) return;
    simulation_.world.note("worker {} goes on", {index_});
    frozen_until_.reset();
    for (const auto& what : std::exchange(while_frozen_, {}))
      if (life == life_) run(what);
  });
}

void Host::run(std::function<void()> what) {
  if (!up()) return;
  if (frozen()) while_frozen_.push_back(std::move(what));
  else what();
}

void Host::later(Duration pause, std::function<void()> what) {
  simulation_.world.after(pause, [this, life = life_, what = std::move(what)] {
    if (life == life_) run(what);
  });
}

void Host::owner_wants(bool away) {
  Dice& dice = simulation_.world.dice;
  const int slots = simulation_.plan.hosts[index_].offer.slots;
  worker::Allowance allowance{slots, slots, slots, {}, until_ms()};
  if (away) {
    allowance.offered = static_cast<int>(dice.between(0, static_cast<std::uint64_t>(slots)));
    allowance.running = static_cast<int>(dice.between(static_cast<std::uint64_t>(allowance.offered), static_cast<std::uint64_t>(slots)));
    allowance.kept = static_cast<int>(dice.between(static_cast<std::uint64_t>(allowance.running), static_cast<std::uint64_t>(slots)));
    allowance.rule = "at work";
  }
  simulation_.world.note("owner of worker {} leaves {} slots, runs {}, keeps {}", {index_, static_cast<std::uint64_t>(allowance.offered), static_cast<std::uint64_t>(allowance.running), static_cast<std::uint64_t>(allowance.kept)});
  allowance_ = allowance;
  tell(allowance);
  if (away && dice.chance(0.3)) tell(worker::Pause{});
  else tell(worker::Resume{});
}

std::uint64_t Host::until_ms() const { return until_ ? static_cast<std::uint64_t>(until_->time_since_epoch() / 1ms) : 0; }

void Host::owner_wants_back_in(Duration time) {
  if (until_ || ending_) return;
  const int slots = simulation_.plan.hosts[index_].offer.slots;
  if (allowance_.rule.empty()) allowance_ = {slots, slots, slots, {}, 0};
  until_ = Instant(std::chrono::duration_cast<std::chrono::milliseconds>((simulation_.world.now() + time).time_since_epoch()));
  allowance_.until_ms = until_ms();
  simulation_.world.note("owner of worker {} wants it back in {} ms", {index_, static_cast<std::uint64_t>(time / 1ms)});
  tell(allowance_);
  simulation_.world.at(*until_, [this, life = life_] {
    if (life == life_) end();
  });
}

void Host::command(JobId job, unsigned part, unsigned parts) {
  unsigned& came = parts_[job];
  if (part == 0) came = 0;
  if (part != came) came = 0;
  else if (++came == parts) commands_.insert(job);
}

// ---- Messages to events ---------------------------------------------------------------------------------------------------------

void Host::tell(worker::Event event, std::uint64_t request) {
  request_ = request;
  for (worker::Action& action : agent_->step(simulation_.world.now(), std::move(event))) std::visit([this](auto& what) { perform(what); }, action);
  if (const auto broken = agent_->broken_invariant()) simulation_.world.blame("worker " + std::to_string(index_) + ": " + *broken);
  wake_in_time();
}

void Host::wake_in_time() {
  const auto at = agent_->wake_at();
  if (!at || (wakes_at_ && *wakes_at_ <= *at)) return;
  wakes_at_ = at;
  later(std::max(Duration(0), *at - simulation_.world.now()), [this] {
    wakes_at_.reset();
    tell(worker::Tick{});
  });
}

void Host::hello(std::uint64_t request, Epoch epoch, Duration lease) { ++hellos_, of_ = epoch, tell(worker::Greeted{epoch, lease}, request); }

void Host::assign(std::uint64_t request, Epoch epoch, const std::vector<Given>& given) {
  of_ = epoch;
  worker::Assigned event{epoch, {}};
  for (const Given& one : given) {
    worker::Assignment assignment;
    assignment.attempt = one.attempt, assignment.task = one.task, assignment.run = one.run;
    if (one.command_inside || commands_.contains(one.task.job)) assignment.command = kCommand;
    if (const Group* group = simulation_.group_of(one.task)) assignment.needs = group->needs;
    event.assignments.push_back(std::move(assignment));
  }
  tell(std::move(event), request);
}

void Host::stop(std::vector<AttemptId> attempts) { tell(worker::StopAsked{std::move(attempts)}); }
void Host::manager_gone() { tell(worker::ManagerGone{}); }

void Host::answer_report(std::uint64_t report, Reply reply) {
  if (reports_.erase(report) == 0) return;
  if (reply == Reply::taken) tell(worker::ReportTaken{report, {}});
  else tell(worker::ReportFailed{report, reply == Reply::unknown_worker ? worker::ReportLoss::unknown : worker::ReportLoss::unanswered, "no answer"});
}

void Host::answer_lease(Reply reply, std::uint64_t lease) {
  if (leases_.erase(lease) == 0) return;
  if (reply == Reply::taken) tell(worker::LeaseTaken{lease});
  else tell(worker::LeaseFailed{lease, reply == Reply::unknown_worker});
}

// ---- Actions to messages --------------------------------------------------------------------------------------------------------

void Host::perform(worker::AnswerHello& action) {
  if (of_ < obeyed_) simulation_.world.blame("worker " + std::to_string(index_) + " greets a manager that was replaced");
  obeyed_ = of_;
  HelloAnswer answer;
  answer.slots = simulation_.claimed(index_).slots;
  answer.state = state(action.state);
  answer.until = until_of(action.until_ms);
  for (const auto& held : action.held) answer.held.push_back({held.attempt, held.task});
  simulation_.to_market(index_, [request = request_, answer](Market& market) { market.answered(request, answer); }, Care::fence);
}

void Host::perform(worker::AnswerAssign& action) {
  if (of_ < obeyed_) simulation_.world.blame("worker " + std::to_string(index_) + " obeys a manager that was replaced");
  AssignAnswer answer{AssignAnswer::taken, std::move(action.refused), std::move(action.missing)};
  simulation_.to_market(index_, [request = request_, answer](Market& market) { market.answered(request, answer); });
}

void Host::perform(worker::RefuseEpoch&) {
  simulation_.to_market(index_, [request = request_](Market& market) { market.answered(request, AssignAnswer{AssignAnswer::conflict, {}, {}}); });
}

void Host::perform(worker::RefuseStale& action) {
  simulation_.world.note("worker {} tells a manager of epoch {} that there is one of {}", {index_, of_.value, action.epoch.value});
  if (action.epoch < of_ || action.epoch == of_) simulation_.world.blame("a worker takes a manager for an old one that is none");
  simulation_.to_market(index_, [request = request_](Market& market) { market.answered(request, AssignAnswer{AssignAnswer::stale, {}, {}}); });
}

void Host::perform(worker::Start& action) { begin(action.slot, std::move(action.assignment), std::move(action.granted)); }

void Host::perform(worker::LineUp& action) {
  const auto at = running_.find(action.slot);
  if (at == running_.end() || at->second.next) return simulation_.world.blame("a worker lines up behind nothing, or behind another");
  at->second.next = std::move(action.assignment);
}

/// Its runner hears of it a little later. What has begun by then does not come back.
void Host::perform(worker::Recall& action) {
  const auto at = running_.find(action.slot);
  if (at == running_.end() || !at->second.next) return simulation_.world.blame("a worker recalls what is not lined up");
  later(simulation_.world.dice.skewed(Duration(10), 14), [this, slot = action.slot, attempt = at->second.next->attempt] {
    const auto then = running_.find(slot);
    if (then == running_.end() || !then->second.next || then->second.next->attempt != attempt) return;
    then->second.next.reset();
    simulation_.world.note("worker {} takes back {}.{} from slot {}", {index_, attempt.epoch.value, attempt.number, static_cast<std::uint64_t>(slot)});
    tell(worker::Recalled{slot});
  });
}

void Host::begin(int slot, worker::Assignment assignment, worker::Granted granted) {
  const TaskId task = assignment.task;
  const Group* group = simulation_.group_of(task);
  if (group == nullptr) return simulation_.world.blame("a worker starts a task that was never submitted");
  const Fate fate = simulation_.fate_of(task);
  const HostPlan& plan = simulation_.plan.hosts[index_];
  simulation_.world.note("worker {} starts {}.{} as {}.{} in slot {}", {index_, task.job.value, task.task.value, assignment.attempt.epoch.value, assignment.attempt.number,
                                                                       static_cast<std::uint64_t>(slot)});
  Outcome outcome;
  Duration wall = std::max(Duration(1), fate.work * 100 / plan.speed_percent);
  if (group->time_limit > Duration(0) && wall > group->time_limit) {
    wall = group->time_limit;
    outcome.cause = Cause::timed_out;
  } else if (assignment.run <= fate.fails) {
    outcome.exit_code = fate.exit_code;
  }
  outcome.wall = wall;
  if (fate.kills_worker)
    later(std::min(wall, Duration(1s)), [this, slot, attempt = assignment.attempt] {
      const auto at = running_.find(slot);
      if (at != running_.end() && at->second.assignment.attempt == attempt) crash(false), simulation_.boots_later(index_);
    });
  running_[slot] = Running{std::move(assignment), std::move(granted), 0, simulation_.world.now(), {}, {}, false, false, {}, {}};
  end_later(slot, wall, outcome);
  ++simulation_.starts;
  check_room();
}

/// What runs here never takes more than there is, whatever the manager thought.
void Host::check_room() const {
  const Offer& has = simulation_.plan.hosts[index_].offer;
  Needs sum{0, 0, 0, 0, {}};
  std::set<std::string> units;
  std::size_t granted = 0;
  for (const auto& [slot, running] : running_) {
    const Needs& needs = simulation_.group_of(running.assignment.task)->needs;
    sum.cpus += needs.cpus, sum.memory_bytes += needs.memory_bytes, sum.disk_bytes += needs.disk_bytes, sum.gpus += needs.gpus;
    for (const auto& [name, amount] : needs.resources) sum.resources[name] += amount;
    if (running.granted.gpus.size() != static_cast<std::size_t>(needs.gpus)) simulation_.world.blame("an attempt got other than the GPUs it asked for");
    for (const int gpu : running.granted.gpus) units.insert("gpu " + std::to_string(gpu)), ++granted;
    for (const auto& [name, all] : running.granted.units)
      for (const std::string& unit : all) units.insert(name + ' ' + unit), ++granted;
  }
  if (units.size() != granted) simulation_.world.blame("worker " + std::to_string(index_) + " gave the same thing to two attempts");
  Group all;
  all.needs = sum;
  if (!could_run(has, all)) simulation_.world.blame("worker " + std::to_string(index_) + " runs more than it has room for");
}

void Host::end_later(int slot, Duration pause, const Outcome& outcome) {
  Running& running = running_.at(slot);
  running.outcome = outcome;
  running.ends = simulation_.world.now() + pause;
  running.serial = ++serial_;
  later(pause, [this, slot, serial = running.serial] { finish(slot, serial); });
}

void Host::perform(worker::StopSlot& action) {
  const auto at = running_.find(action.slot);
  if (at == running_.end() || std::exchange(at->second.stopping, true)) return;
  Outcome outcome;
  outcome.cause = Cause::canceled;
  const Duration grace = simulation_.world.dice.between(1ms, 2s);
  if (!at->second.paused && at->second.ends <= simulation_.world.now() + grace) return;  // over before that
  at->second.paused = false;  // what is killed is woken for it
  end_later(action.slot, grace, outcome);
}

void Host::perform(worker::PauseSlot& action) {
  const auto at = running_.find(action.slot);
  if (at == running_.end() || at->second.paused || at->second.stopping) return;
  simulation_.world.note("worker {} pauses slot {}", {index_, static_cast<std::uint64_t>(action.slot)});
  at->second.paused = true;
  at->second.left = std::max(Duration(1), at->second.ends - simulation_.world.now());
  at->second.serial = ++serial_;  // its end as planned is off
}

void Host::perform(worker::ResumeSlot& action) {
  const auto at = running_.find(action.slot);
  if (at == running_.end() || !std::exchange(at->second.paused, false)) return;
  simulation_.world.note("worker {} resumes slot {}", {index_, static_cast<std::uint64_t>(action.slot)});
  end_later(action.slot, at->second.left, Outcome(at->second.outcome));
}

void Host::finish(int slot, std::uint64_t serial) {
  const auto at = running_.find(slot);
  if (at == running_.end() || at->second.serial != serial) return;
  Running running = std::move(at->second);
  running_.erase(at);
  Outcome& outcome = running.outcome;
  outcome.wall = simulation_.world.now() - running.started;
  simulation_.world.note("worker {} ends {}.{} as {}.{}: {s}", {index_, running.assignment.task.job.value, running.assignment.task.task.value, running.assignment.attempt.epoch.value,
                                                               running.assignment.attempt.number}, outcome.succeeded() ? "success" : name_of(outcome.cause));
  simulation_.truths[running.assignment.attempt] = {running.assignment.task, index_, outcome.succeeded()};
  simulation_.used[simulation_.plan_of(running.assignment.task.job).owner] += outcome.wall * running.assignment.needs.cpus;
  if (running.next) begin(slot, std::move(*running.next), {});  // before the worker hears of it
  tell(worker::Finished{slot, std::move(outcome)});
}

void Host::perform(worker::SendReport& action) {
  Report report;
  for (const auto& ended : action.results) {
    const Outcome& o = *ended.outcome;
    // What was stopped before it began, or could not begin, is no success either.
    simulation_.truths.try_emplace(ended.attempt, Simulation::Truth{ended.task, index_, o.succeeded()});
    report.results.push_back({{ended.attempt, ended.task}, o.cause, o.succeeded(), o.wall, o.exit_code});
  }
  for (const auto& held : action.returned) report.returned.push_back(held.attempt);
  const std::uint64_t number = action.report;
  reports_.insert(number);
  simulation_.to_market(index_, [from = index_, life = life_, number, report](Market& market) { market.report(from, life, number, report); });
  later(20s, [this, number] { answer_report(number, Reply::unanswered); });
}

void Host::perform(worker::SendLease& action) {
  // Never overtaken by an older one: a stream keeps its order, and the older state would stay until the next.
  std::vector<Held> held;
  for (const auto& one : action.held) held.push_back({one.attempt, one.task});
  const int slots = simulation_.plan.hosts[index_].liar ? action.offered * 4 : action.offered;
  simulation_.to_market(index_, [from = index_, lease = action.lease, held, state = state(action.state), slots, until = until_of(action.until_ms)](Market& market) { market.lease(from, lease, held, state, slots, until); }, Care::in_order);
  leases_.insert(action.lease);
  later(std::min<Duration>(10s, simulation_.plan.lease), [this, lease = action.lease] { answer_lease(Reply::unanswered, lease); });
}

void Host::perform(worker::GiveUp& action) {
  simulation_.world.blame("worker " + std::to_string(index_) + " gave up a result: " + action.why);  // nothing here refuses one
}

void Host::lie() {
  auto& dice = simulation_.world.dice;
  const auto invented = [&] {
    if (!simulation_.given.empty() && dice.chance(0.7)) {  // somebody else's, mostly
      const auto& [attempt, to] = *std::next(simulation_.given.begin(), static_cast<long>(dice.pick(simulation_.given.size())));
      if (!to.hosts.contains(index_)) return Held{attempt, to.task};
    }
    return Held{{{dice.pick(4)}, 1'000'000 + dice.pick(1000)}, {{1 + dice.pick(6)}, {1 + dice.pick(80)}}};
  };
  simulation_.world.note("worker {} lies", {index_});
  if (dice.chance(0.5)) {
    Report report;
    report.results.push_back({invented(), Cause::exited, true, 1ms, 0});
    report.returned.push_back(invented().attempt);
    simulation_.to_market(index_, [from = index_, life = life_, report](Market& market) { market.report(from, life, 0, report); });
  } else {
    simulation_.to_market(index_, [from = index_, held = std::vector{invented(), invented()}](Market& market) { market.lease(from, 0, held, WorkerState::free, 0); });
  }
}

}  // namespace souk::simulation
