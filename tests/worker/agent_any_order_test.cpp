// The worker's state machine under events in any order.
#include "worker/agent.h"

#include <gtest/gtest.h>

#include <csignal>
#include <random>
#include <set>

#include "protocol/payload.h"  // kStanzaMax
#include "tests/worker/agent_stage.h"

namespace souk::worker {
namespace {

using namespace std::chrono_literals;

// Any order of sane and insane events: invariants hold, every accepted attempt is started at most once, and nothing is lost without being taken.
TEST(Agent, SurvivesAnyOrderOfEvents) {
  for (std::uint64_t seed = 1; seed <= 60; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 dice(seed);
    const auto roll = [&](std::uint64_t sides) { return dice() % sides; };
    const int slots = 1 + static_cast<int>(roll(4));
    const Capacity capacity{4ull << 30, 0, 2, {{"fpga", {2, {"a", "b"}}}, {"license", {2, {}}}}, {0, 1, 2}};
    const Limits limits{.slots = slots, .held_max = 24, .owed_bytes_max = 400'000, .capacity = capacity};
    Stage stage(limits);
    std::uint64_t number = 0, epoch = 1;
    std::set<AttemptId> accepted, started, gone;
    std::map<std::uint64_t, SendReport> flights;
    std::vector<bool> busy(static_cast<std::size_t>(slots));
    std::vector<std::optional<AttemptId>> lined(static_cast<std::size_t>(slots));
    std::set<std::size_t> recalls;  // slots
    std::map<AttemptId, int> calls;  // under way, and in which slot
    std::set<AttemptId> may_go;  // from the disk, for the manager has them
    const auto play = [&](Event event) {
      const auto on_disk = stage.disk;
      const auto* assigned = std::get_if<Assigned>(&event);
      const std::vector<Assignment> offered = assigned != nullptr ? assigned->assignments : std::vector<Assignment>{};
      if (std::holds_alternative<Greeted>(event)) flights.clear();
      stage.tell(std::move(event));
      for (const Action& action : stage.actions) {
        if (const auto* a = std::get_if<AnswerAssign>(&action)) {
          const std::set<std::uint64_t> refused(a->refused.begin(), a->refused.end());
          for (const Assignment& o : offered) {
            if (!refused.contains(o.attempt.number)) accepted.insert(o.attempt);
          }
        } else if (const auto* s = std::get_if<Start>(&action)) {
          EXPECT_TRUE(started.insert(s->assignment.attempt).second || gone.contains(s->assignment.attempt));
          EXPECT_FALSE(busy[static_cast<std::size_t>(s->slot)]);
          busy[static_cast<std::size_t>(s->slot)] = true;
        } else if (const auto* l = std::get_if<LineUp>(&action)) {
          EXPECT_TRUE(busy[static_cast<std::size_t>(l->slot)] && !lined[static_cast<std::size_t>(l->slot)]);
          EXPECT_TRUE(l->assignment.command && l->assignment.command->service.empty() && !started.contains(l->assignment.attempt));
          lined[static_cast<std::size_t>(l->slot)] = l->assignment.attempt;
        } else if (const auto* b = std::get_if<Recall>(&action)) {
          EXPECT_TRUE(lined[static_cast<std::size_t>(b->slot)] && recalls.insert(static_cast<std::size_t>(b->slot)).second);
        } else if (const auto* c = std::get_if<Call>(&action)) {
          EXPECT_TRUE(started.insert(c->assignment.attempt).second || gone.contains(c->assignment.attempt));
          EXPECT_FALSE(busy[static_cast<std::size_t>(c->slot)]);
          calls.emplace(c->assignment.attempt, c->slot);
        } else if (const auto* f = std::get_if<ForsakeCall>(&action)) {
          EXPECT_EQ(calls.erase(f->attempt), 1u);
        } else if (const auto* r = std::get_if<SendReport>(&action)) {
          std::size_t bytes = 0;
          for (const Piece& p : r->pieces) bytes += p.size;
          for (const Ended& x : r->results) bytes += (x.out_in_pieces ? 0 : x.outcome->out.size()) + (x.err_in_pieces ? 0 : x.outcome->err.size());
          EXPECT_LE(bytes + 60 * (r->pieces.size() + r->results.size() + r->returned.size()), kStanzaMax);
          flights.emplace(r->report, *r);
        } else if (const auto* g = std::get_if<GiveUp>(&action)) {
          may_go.insert(g->held.attempt);
        }
      }
      for (const auto& [attempt, kept] : on_disk) EXPECT_TRUE(stage.disk.contains(attempt) || may_go.contains(attempt)) << "forgotten before it was taken: " << attempt.number;
      EXPECT_LE(flights.size(), static_cast<std::size_t>(kReportsInFlightMax));
    };
    // What was lined up runs now, whatever was said about it.
    const auto finish = [&](std::size_t slot, Outcome outcome) {
      busy[slot] = lined[slot].has_value();
      if (lined[slot]) {
        EXPECT_TRUE(started.insert(*lined[slot]).second || gone.contains(*lined[slot]));
      }
      lined[slot].reset();
      recalls.erase(slot);
      play(Finished{static_cast<int>(slot), std::move(outcome)});
    };
    for (int turn = 0; turn < 600; ++turn) {
      switch (roll(14)) {
        case 13: {  // killed: what it held is lost but for what is on disk
          if (roll(6) != 0) break;
          for (const AttemptId attempt : accepted) gone.insert(attempt);
          for (const auto& [attempt, kept] : stage.disk) gone.erase(attempt);
          flights.clear();
          calls.clear();
          busy.assign(busy.size(), false);
          lined.assign(lined.size(), {});
          recalls.clear();
          stage.crash(limits);
          EXPECT_EQ(stage.agent.owed(), stage.disk.size());
          break;
        }
        case 0: play(Greeted{Epoch{epoch += roll(4) == 0}, 30s}); break;
        case 1: case 2: case 3: {
          Assigned event{Epoch{epoch - (roll(20) == 0)}, {}};
          for (auto n = roll(6); n > 0; --n) {
            Assignment& one = event.assignments.emplace_back(Stage::assignment(++number - (roll(10) == 0 ? 1 : 0), event.epoch.value));
            one.needs.cpus = 1 + static_cast<int>(roll(4) == 0 ? roll(5) : 0);
            one.needs.gpus = roll(3) == 0 ? static_cast<int>(roll(4)) : 0;
            if (roll(3) == 0) one.needs.memory_bytes = roll(5) << 30;
            if (roll(4) == 0) one.needs.resources[roll(2) == 0 ? "fpga" : "license"] = 1 + roll(3);
            if (roll(3) == 0) one.command = Stage::command(true);
            else if (roll(2) == 0) one.command = Stage::calling(1, roll(3) == 0 ? "other" : "sum").command;
          }
          play(std::move(event));
          break;
        }
        case 4: case 5: case 6: {
          const auto slot = roll(static_cast<std::uint64_t>(slots));
          CallsEnded ended{static_cast<int>(slot), {}};
          for (auto call = calls.begin(); call != calls.end();) {
            if (call->second != ended.slot || roll(4) == 0) {
              ++call;
              continue;
            }
            ended.calls.push_back({call->first, {}});
            ended.calls.back().outcome.wall = std::chrono::microseconds(roll(3) == 0 ? roll(400'000) : roll(900));
            if (roll(9) == 0) ended.calls.back().outcome.out.assign(roll(100'000), 'z');
            if (roll(20) == 0) ended.calls.back().outcome.cause = Cause::canceled;
            call = calls.erase(call);
          }
          if (roll(10) == 0) ended.calls.push_back({AttemptId{Epoch{epoch}, roll(number + 1)}, {}});
          if (!ended.calls.empty()) {
            // One that nobody called, or that runs as a process, is no matter.
            std::erase_if(ended.calls, [&](const CallsEnded::Ended& call) { return calls.contains(call.attempt); });
            play(std::move(ended));
            break;
          }
          if (recalls.contains(slot) && roll(2) == 0) {
            lined[slot].reset();
            recalls.erase(slot);
            play(Recalled{static_cast<int>(slot)});
            break;
          }
          if (!busy[slot]) { play(Finished{static_cast<int>(slot) - (roll(2) == 0 ? 50 : 0), {}}); break; }
          Outcome outcome;
          outcome.wall = std::chrono::microseconds(roll(10) == 0 ? roll(1'000'000) : roll(10'000));
          outcome.out.assign(roll(5) == 0 ? roll(200'000) : roll(100), 'x');
          outcome.err.assign(roll(9) == 0 ? roll(100'000) : 0, 'y');
          finish(slot, std::move(outcome));
          break;
        }
        case 7: case 8: case 9: {
          if (flights.empty()) { play(ReportTaken{roll(1000), {}}); break; }
          auto flight = std::next(flights.begin(), static_cast<std::ptrdiff_t>(roll(flights.size())));
          const SendReport report = flight->second;
          flights.erase(flight);
          if (roll(4) == 0) {
            play(ReportFailed{report.report, static_cast<ReportLoss>(roll(3)), "why"});
          } else {
            ReportTaken event{report.report, {}};
            for (const Ended& r : report.results) {
              if (r.out_in_pieces && roll(5) == 0) event.resend.push_back(r.attempt);
              else gone.insert(r.attempt);
            }
            for (const Held& r : report.returned) gone.insert(r.attempt);
            may_go = gone;
            play(std::move(event));
          }
          break;
        }
        case 10: stage.now += std::chrono::milliseconds(roll(400)); play(Tick{}); break;
        case 11:
          if (roll(3) == 0) play(ManagerGone{});
          else if (roll(2) == 0) play(StopAsked{{AttemptId{Epoch{epoch}, roll(number + 1)}}});
          else if (roll(3) == 0) play(Pause{});
          else if (roll(2) == 0) play(Resume{});
          else play(Allowance{static_cast<int>(roll(6)), static_cast<int>(roll(6)), static_cast<int>(roll(6)), "rule", 0});
          break;
        case 12: {
          const std::uint64_t lease = stage.last_lease + 1 - roll(3);  // also some that never were
          if (roll(2) == 0) play(LeaseTaken{lease});
          else play(LeaseFailed{lease, roll(5) == 0});
          break;
        }
      }
      if (::testing::Test::HasFailure()) return;
    }
    // A quiet end: everything that was accepted reaches the manager.
    play(Resume{});
    play(Allowance{slots, slots, slots, "", 0});
    play(Greeted{Epoch{epoch}, 30s});
    for (int turn = 0; turn < 2000 && stage.agent.waiting() + stage.agent.running() + stage.agent.owed() > 0; ++turn) {
      while (!flights.empty()) {
        const SendReport report = flights.begin()->second;
        flights.erase(flights.begin());
        for (const Ended& r : report.results) gone.insert(r.attempt);
        for (const Held& r : report.returned) gone.insert(r.attempt);
        may_go = gone;
        play(ReportTaken{report.report, {}});
      }
      for (std::size_t slot = 0; slot < busy.size(); ++slot) {
        if (!busy[slot]) continue;
        finish(slot, {});
      }
      for (int slot = 0; slot < slots; ++slot) {
        CallsEnded ended{slot, {}};
        for (const auto& [attempt, where] : calls)
          if (where == slot) ended.calls.push_back({attempt, {}});
        for (const auto& call : ended.calls) calls.erase(call.attempt);
        if (!ended.calls.empty()) play(std::move(ended));
      }
      stage.now += 10ms;
      play(Tick{});
    }
    EXPECT_EQ(stage.agent.waiting() + stage.agent.running() + stage.agent.owed(), 0u);
    EXPECT_TRUE(stage.disk.empty());
  }
}

}  // namespace
}  // namespace souk::worker
