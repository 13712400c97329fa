// Tells an agent events and writes down, in one line, what it then did.
#pragma once
#include <gtest/gtest.h>

#include <chrono>
#include <map>
#include <memory>
#include <new>
#include <set>
#include <string>
#include <vector>

#include "worker/agent.h"

namespace souk::worker {
using namespace std::chrono_literals;

inline std::string names(const std::vector<Held>& held) {
  std::string text;
  for (const Held& h : held) text += (text.empty() ? "" : ",") + std::to_string(h.attempt.number);
  return text.empty() ? "nothing" : text;
}

inline std::string told(const Action& action) {
  struct Teller {
    std::string operator()(const AnswerHello& a) { return "hello: " + std::string(name_of(a.state)) + ", holds " + names(a.held); }
    std::string operator()(const AnswerAssign& a) {
      if (a.refused.empty()) return "took";
      std::string text = "refused";
      for (const auto number : a.refused) text += " " + std::to_string(number);
      return text + " (" + a.why + ")";
    }
    std::string operator()(const RefuseEpoch& a) { return "conflict: " + a.why; }
    std::string operator()(const RefuseStale& a) { return "stale: obeyed " + std::to_string(a.epoch.value) + ", saw job " + std::to_string(a.jobs.value); }
    std::string operator()(const Start& a) {
      std::string text = "start " + std::to_string(a.assignment.attempt.number) + " in " + std::to_string(a.slot), with;
      for (const int gpu : a.granted.gpus) with += " gpu" + std::to_string(gpu);
      for (const auto& [name, units] : a.granted.units)
        for (const auto& unit : units) with += ' ' + name + ':' + unit;
      for (const int processor : a.granted.processors) with += " cpu" + std::to_string(processor);
      return with.empty() ? text : text + " with" + with;
    }
    std::string operator()(const LineUp& a) { return "line up " + std::to_string(a.assignment.attempt.number) + " in " + std::to_string(a.slot); }
    std::string operator()(const Recall& a) { return "recall in " + std::to_string(a.slot); }
    std::string operator()(const Call& a) { return "call " + std::to_string(a.assignment.attempt.number) + " in " + std::to_string(a.slot); }
    std::string operator()(const StopCall& a) { return "stop call " + std::to_string(a.attempt.number); }
    std::string operator()(const ForsakeCall& a) { return "forsake call " + std::to_string(a.attempt.number); }
    std::string operator()(const StopSlot& a) { return "stop slot " + std::to_string(a.slot); }
    std::string operator()(const PauseSlot& a) { return "pause slot " + std::to_string(a.slot); }
    std::string operator()(const ResumeSlot& a) { return "resume slot " + std::to_string(a.slot); }
    std::string operator()(const SendReport& a) {
      std::string text = "report#" + std::to_string(a.report);
      for (const Piece& p : a.pieces) {
        text += " piece " + std::to_string(p.attempt.number) + (p.err ? ":err@" : ":out@") + std::to_string(p.offset) + "+" + std::to_string(p.size);
      }
      for (const Ended& r : a.results) {
        text += " " + std::to_string(r.attempt.number) + ":" + std::string(name_of(r.outcome->cause));
        if (r.out_in_pieces || r.err_in_pieces) text += "(pieces)";
      }
      if (!a.returned.empty()) text += " returned " + names(a.returned);
      return text;
    }
    std::string operator()(const SendLease& a) { return "lease " + names(a.held) + " " + std::string(name_of(a.state)); }
    std::string operator()(const Show& a) { return "show '" + a.status + "'"; }
    std::string operator()(const GiveUp& a) { return "gave up " + std::to_string(a.held.attempt.number) + ": " + a.why; }
    std::string operator()(const Emptied&) { return "empty"; }
    std::string operator()(const Keep&) { return ""; }  // Stage has a disk for these
    std::string operator()(const Forget&) { return ""; }
    std::string operator()(const Remember&) { return ""; }
  };
  return std::visit(Teller{}, action);
}

/// Owns an agent and a clock; asks for the invariants after each step.
class Stage {
 public:
  explicit Stage(int slots = 1) : Stage(Limits{.slots = slots}) {}
  explicit Stage(Limits limits) : agent(limits) {}

  std::string tell(Event event) {
    if (const auto* ended = std::get_if<CallsEnded>(&event))
      for (const auto& call : ended->calls)
        if (call.outcome.wall < kKeptFrom) quick.insert(call.attempt);
    actions = agent.step(now, std::move(event));
    const auto broken = agent.broken_invariant();
    EXPECT_FALSE(broken) << *broken;
    std::string text;
    for (const Action& action : actions) keep_books(action);
    std::erase_if(actions, [](const Action& a) { return std::holds_alternative<Keep>(a) || std::holds_alternative<Forget>(a) || std::holds_alternative<Remember>(a); });
    EXPECT_LE(disk.size(), agent.owed()) << "kept and not owed";
    for (const Action& action : actions) {
      text += (text.empty() ? "" : "; ") + told(action);
      if (const auto* report = std::get_if<SendReport>(&action)) last_report = report->report;
      if (const auto* lease = std::get_if<SendLease>(&action)) last_lease = lease->lease;
    }
    return text;
  }
  /// Lets time pass, waking the agent when it asked for it.
  std::string after(Duration span) {
    const Instant end = now + span;
    std::string text;
    for (auto at = agent.wake_at(); at && *at <= end; at = agent.wake_at()) {
      now = *at;
      const std::string what = tell(Tick{});
      text += (text.empty() || what.empty() ? "" : "; ") + what;
    }
    now = end;
    return text;
  }
  std::string greet(std::uint64_t epoch = 1) { return tell(Greeted{Epoch{epoch}, std::chrono::seconds{30}}); }
  std::string assign(std::vector<std::uint64_t> numbers, std::uint64_t epoch = 1) {
    Assigned event{Epoch{epoch}, {}};
    for (const auto number : numbers) event.assignments.push_back(assignment(number, epoch));
    return tell(std::move(event));
  }
  /// One attempt with needs of its own.
  std::string assign(std::uint64_t number, const Needs& needs, bool pin = false) {
    Assigned event{Epoch{1}, {assignment(number)}};
    event.assignments.front().needs = needs;
    event.assignments.front().command = command(pin);
    return tell(std::move(event));
  }
  static std::shared_ptr<const Command> command(bool pin = false) {
    Command made;
    made.argv = {"true"};
    made.pin = pin;
    return std::make_shared<const Command>(std::move(made));
  }
  static Assignment assignment(std::uint64_t number, std::uint64_t epoch = 1) {
    static const auto plain = command();
    Assignment made;
    made.attempt = {Epoch{epoch}, number};
    made.task = {JobId{1}, TaskNumber{number}};
    made.item = "item";
    made.command = plain;
    return made;
  }
  /// Calls of a service, each a microsecond's work if nothing else is said.
  std::string call(std::vector<std::uint64_t> numbers, const std::string& service = "sum") {
    Assigned event{Epoch{1}, {}};
    for (const auto number : numbers) event.assignments.push_back(calling(number, service));
    return tell(std::move(event));
  }
  static Assignment calling(std::uint64_t number, const std::string& service = "sum", std::uint64_t epoch = 1) {
    Assignment made = assignment(number, epoch);
    Command command;
    command.service = service;
    made.command = std::make_shared<const Command>(std::move(command));
    return made;
  }
  std::string answered(int slot, std::vector<std::uint64_t> numbers, Duration took = 1us, Cause cause = Cause::exited) {
    CallsEnded event{slot, {}};
    for (const auto number : numbers) {
      event.calls.push_back({AttemptId{Epoch{1}, number}, {}});
      event.calls.back().outcome.wall = took;
      event.calls.back().outcome.cause = cause;
    }
    return tell(std::move(event));
  }
  /// Its owner's rules leave it so many slots for new attempts, to go on, and to keep.
  std::string allow(int offered, int running, int kept, std::string rule = "in use") { return tell(Allowance{offered, running, kept, std::move(rule), 0}); }
  std::string finish(int slot, std::size_t out = 0, std::size_t err = 0, Cause cause = Cause::exited) {
    Outcome outcome;
    outcome.cause = cause;
    outcome.wall = each;
    outcome.out.assign(out, 'o');
    outcome.err.assign(err, 'e');
    outcome.out_size = out;
    outcome.err_size = err;
    return tell(Finished{slot, std::move(outcome)});
  }
  std::string stop(std::vector<std::uint64_t> numbers, std::uint64_t epoch = 1) {
    StopAsked event;
    for (const auto number : numbers) event.attempts.push_back(AttemptId{Epoch{epoch}, number});
    return tell(std::move(event));
  }
  std::string taken(std::uint64_t report, std::vector<std::uint64_t> resend = {}) {
    ReportTaken event{report, {}};
    for (const auto number : resend) event.resend.push_back(AttemptId{Epoch{1}, number});
    return tell(std::move(event));
  }
  std::string failed(std::uint64_t report, ReportLoss loss = ReportLoss::unanswered) { return tell(ReportFailed{report, loss, "why"}); }

  std::string lost(std::uint64_t lease) { return tell(LeaseFailed{lease, false}); }
  std::string unknown(std::uint64_t lease) { return tell(LeaseFailed{lease, true}); }

  /// As after a crash: all is gone but what is on disk, which a new agent finds. The rest of the line is what it did with that.
  std::string crash(Limits limits = Limits{.slots = 1}) {
    agent.~Agent();
    new (&agent) Agent(limits);
    return tell(Restored{on_disk(), remembered.epoch, remembered.jobs_seen});
  }
  std::vector<Restored::Result> on_disk() const {
    std::vector<Restored::Result> results;
    for (const auto& [attempt, kept] : disk) results.push_back({kept.held, kept.outcome});
    return results;
  }
  /// The numbers of the attempts whose results are on disk.
  std::string kept() const {
    std::vector<Held> all;
    for (const auto& [attempt, kept] : disk) all.push_back(kept.held);
    return names(all);
  }

  Agent agent;
  Instant now{};
  Duration each = 1s;  // what a process takes: so much that nothing is lined up behind it
  std::vector<Action> actions;
  std::map<AttemptId, Keep> disk;
  Remember remembered{};
  std::set<AttemptId> quick;  // calls that took no time: they are not kept
  std::uint64_t last_report = 0, last_lease = 0;

 private:
  /// No result is reported that is not on disk as it is reported, and nothing is forgotten that is not there.
  void keep_books(const Action& action) {
    if (const auto* keep = std::get_if<Keep>(&action)) disk[keep->held.attempt] = *keep;
    if (const auto* forget = std::get_if<Forget>(&action)) {
      EXPECT_EQ(disk.erase(forget->attempt), 1u) << forget->attempt.number;
    }
    if (const auto* remember = std::get_if<Remember>(&action)) remembered = *remember;
    const auto must_be_there = [this](AttemptId attempt, const std::shared_ptr<const Outcome>& outcome) {
      if (quick.contains(attempt)) return;
      const auto kept = disk.find(attempt);
      EXPECT_TRUE(kept != disk.end() && kept->second.outcome == outcome) << "reported before it was kept: " << attempt.number;
    };
    if (const auto* report = std::get_if<SendReport>(&action)) {
      for (const Ended& ended : report->results) must_be_there(ended.attempt, ended.outcome);
      for (const Piece& piece : report->pieces) must_be_there(piece.attempt, piece.of);
    }
    if (std::holds_alternative<AnswerHello>(action)) {
      EXPECT_EQ(remembered.epoch, agent.epoch()) << "obeyed before it was written down";
    }
  }
};

}  // namespace souk::worker
