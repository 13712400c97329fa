// A scheduler and a clock, and what it did in words. Asks for the invariants after each step.
#pragma once
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "manager/scheduler.h"

namespace souk {

class Stage {
 public:
  explicit Stage(Scheduler::Rules rules = {}, Epoch life = {1}) : epoch(life), core(life, rules) {}

  std::string tell(const Event& event) {
    actions.clear();
    core.step(now, event, actions);
    const auto broken = core.broken_invariant();
    EXPECT_FALSE(broken) << *broken;
    std::string words;
    for (const Action& action : actions)
      if (const std::string said = std::visit([](const auto& a) { return in_words(a); }, action); !said.empty()) words += (words.empty() ? "" : "; ") + said;
    return words;
  }
  /// Ticks every second, as the shell does; what happened at the last tick, or at the one that did something.
  std::string after(Duration pause) {
    std::string words;
    for (const Instant end = now + pause; now < end;) {
      now = std::min(end, now + std::chrono::seconds(1));
      if (const std::string said = tell(Tick{}); !said.empty()) words += (words.empty() ? "" : "; ") + said;
    }
    return words;
  }

  static JobSubmitted simple_job(std::uint64_t job, std::uint64_t tasks = 1, unsigned retries = 0, const std::string& owner = "ada") {
    Group group;
    group.tasks = tasks, group.retry.times = retries;
    return {{job}, owner, {group}};
  }
  static WorkerJoined simple_worker(std::uint64_t worker, int slots = 1, std::vector<Held> held = {}) {
    Offer offer;
    offer.slots = offer.cpus = slots;
    return {{worker}, std::make_shared<const Offer>(offer), "w" + std::to_string(worker), "owner-" + std::to_string(worker), slots, WorkerState::free, std::move(held)};
  }
  // Short names for what tests say often.
  std::string submit(std::uint64_t job, std::uint64_t tasks = 1, unsigned retries = 0, const std::string& owner = "ada") { return tell(simple_job(job, tasks, retries, owner)); }
  std::string join(std::uint64_t worker, int slots = 1, std::vector<Held> held = {}) { return tell(simple_worker(worker, slots, std::move(held))); }
  std::string join_of(std::uint64_t worker, const std::string& owner, std::vector<Held> held = {}) {
    WorkerJoined joined = simple_worker(worker, 1, std::move(held));
    joined.owner = owner;
    return tell(joined);
  }
  Held held(std::uint64_t attempt, std::uint64_t job, std::uint64_t task) const { return {{epoch, attempt}, {{job}, {task}}}; }
  std::string done(std::uint64_t worker, const Held& what, Duration wall = std::chrono::seconds(1)) { return tell(AttemptFinished{{worker}, what, Cause::exited, true, wall}); }
  std::string failed(std::uint64_t worker, const Held& what, Cause cause = Cause::exited) { return tell(AttemptFinished{{worker}, what, cause, false, std::chrono::seconds(1)}); }

  static std::string name(TaskId task) { return std::to_string(task.job.value) + "." + std::to_string(task.task.value); }
  static std::string in_words(const Assign& a) { return "assign " + name(a.task) + " as " + std::to_string(a.attempt.number) + " to " + std::to_string(a.worker.value); }
  static std::string in_words(const Stop& a) { return "stop " + std::to_string(a.what.attempt.number) + " on " + std::to_string(a.worker.value); }
  static std::string in_words(const Commit& a) { return "commit " + name(a.what.task) + " " + std::string(name_of(a.state)) + (a.attempts > 1 ? " after " + std::to_string(a.attempts) : ""); }
  static std::string in_words(const GiveUp& a) { return "give up " + name(a.task) + " after " + std::to_string(a.attempts); }
  static std::string in_words(const Failed&) { return {}; }  // goes along with a requeue
  static std::string in_words(const SetAside& a) { return "set aside " + std::to_string(a.worker.value) + ": " + a.why; }
  static std::string in_words(const Drop& a) { return "drop " + name(a.what.task) + ": " + std::string(a.why); }
  static std::string in_words(const Requeued& a) { return "requeue " + name(a.task) + ": " + std::string(a.why); }
  static std::string in_words(const OnlyParked&) { return {}; }  // a question to the jury
  static std::string in_words(const JobEnded& a) { return "job " + std::to_string(a.job.value) + " " + std::string(name_of(a.state)); }

  Epoch epoch;
  Scheduler core;
  Instant now{};
  std::vector<Action> actions;
};

}  // namespace souk
