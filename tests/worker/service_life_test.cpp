// Stories of one service in one slot.
#include "worker/service_life.h"

#include <gtest/gtest.h>

#include <random>
#include <set>

namespace souk::worker {
namespace {
using namespace std::chrono_literals;

class Stage {
 public:
  std::string tell(ServiceLife::Event event) {
    std::string text;
    for (const auto& action : life.step(now, std::move(event))) {
      const std::string told = std::visit(Teller{*this}, action);
      if (!told.empty()) text += (text.empty() ? "" : "; ") + told;
    }
    const auto broken = life.broken_invariant();
    EXPECT_FALSE(broken) << *broken;
    return text;
  }
  std::string after(Duration span) {
    const Instant end = now + span;
    std::string text;
    for (auto at = life.wake_at(); at && *at <= end; at = life.wake_at()) {
      now = *at;
      const std::string told = tell(ServiceLife::Tick{});
      if (!told.empty()) text += (text.empty() ? "" : "; ") + told;
    }
    now = end;
    return text;
  }
  std::string call(std::vector<std::uint64_t> calls, Duration limit = 0s, Duration grace = 2s) {
    ServiceLife::Called event;
    for (const auto call : calls) event.calls.push_back({call, limit, grace});
    return tell(std::move(event));
  }
  std::string answer(std::vector<std::uint64_t> ids) { return tell(ServiceLife::Answered{std::move(ids)}); }
  std::string die(std::string how = "was killed by signal 9") { return tell(ServiceLife::Died{std::move(how)}); }
  /// Called, started and answering, with calls 1 and 2 answered.
  static Stage warm() {
    Stage stage;
    stage.call({1, 2});
    stage.answer({0});
    stage.answer({1, 2});
    return stage;
  }

  ServiceLife life{"sum"};
  Instant now{};

 private:
  struct Teller {
    Stage& stage;
    std::string operator()(const ServiceLife::Start&) { return "start"; }
    std::string operator()(const ServiceLife::Ping&) { return "ping"; }
    std::string operator()(const ServiceLife::Send& a) { return "send " + std::to_string(a.call) + " as " + std::to_string(a.id); }
    std::string operator()(const ServiceLife::Hang&) { return "hang up"; }
    std::string operator()(const ServiceLife::Kill&) { return "kill"; }
    std::string operator()(const ServiceLife::Note&) { return ""; }
    std::string operator()(const ServiceLife::Over& a) {
      static constexpr const char* names[] = {"answered", "lost", "broken", "timed out", "canceled", "not started"};
      return std::to_string(a.call) + " " + names[static_cast<int>(a.end)] + (a.why.empty() ? "" : " (" + a.why + ")");
    }
  };
};

TEST(ServiceLife, StartsOnDemandAndIsAskedWhenItAnswersAPing) {
  Stage stage;
  EXPECT_EQ(stage.call({1, 2}), "start; ping");
  EXPECT_EQ(stage.call({3}), "");
  EXPECT_EQ(stage.answer({0}), "send 1 as 1; send 2 as 2; send 3 as 3");
  EXPECT_EQ(stage.answer({1}), "1 answered");
  EXPECT_EQ(stage.call({4}), "send 4 as 4");
  EXPECT_EQ(stage.answer({3, 2}), "3 answered; 2 answered") << "in any order";
  EXPECT_EQ(stage.answer({4}), "4 answered");
  EXPECT_EQ(stage.life.calls(), 0u);
}

TEST(ServiceLife, KeepsWarmIsPingedAndStoppedWhenUnused) {
  Stage stage = Stage::warm();
  EXPECT_EQ(stage.after(30s), "ping");
  EXPECT_EQ(stage.answer({0}), "");
  EXPECT_EQ(stage.after(30s), "ping");
  EXPECT_EQ(stage.answer({0}), "");
  std::string all;
  for (int i = 0; i < 8; ++i) all += stage.after(30s), all += stage.answer({0});
  EXPECT_EQ(all, "pingpingpingpingpingpingpinghang up");
  EXPECT_EQ(stage.after(1s), "");
  EXPECT_EQ(stage.die("ended with exit code 0"), "");
  EXPECT_EQ(stage.after(1h), "");
  EXPECT_EQ(stage.call({3}), "start; ping") << "without a pause";
}

TEST(ServiceLife, WhoDoesNotLeaveIsKilledAndWhoIsSilentToo) {
  Stage leaves = Stage::warm();
  for (int i = 0; i < 9; ++i) leaves.after(30s), leaves.answer({0});
  EXPECT_EQ(leaves.after(30s), "hang up");
  EXPECT_EQ(leaves.call({3}), "") << "it comes too late";
  EXPECT_EQ(leaves.after(2s), "kill");
  EXPECT_EQ(leaves.die(), "start; ping");
  Stage silent = Stage::warm();
  EXPECT_EQ(silent.after(40s), "ping; kill");
  EXPECT_EQ(silent.die(), "");
  Stage slow;
  slow.call({1});
  EXPECT_EQ(slow.after(60s), "kill");
  EXPECT_EQ(slow.die(), "start; ping");
}

TEST(ServiceLife, TheHeadIsLostWithTheProcessAndTheOthersAreSentAgain) {
  Stage stage = Stage::warm();
  EXPECT_EQ(stage.call({3, 4, 5}), "send 3 as 3; send 4 as 4; send 5 as 5");
  EXPECT_EQ(stage.answer({3}), "3 answered");
  EXPECT_EQ(stage.die(), "4 lost (service sum was gone before it answered: it was killed by signal 9); start; ping");
  EXPECT_EQ(stage.answer({0}), "send 5 as 1");
  EXPECT_EQ(stage.answer({1}), "5 answered");
}

TEST(ServiceLife, OneThatNeverComesUpIsTriedThreeTimesAndThenItsCallsEnd) {
  Stage stage;
  EXPECT_EQ(stage.call({1, 2}), "start; ping");
  EXPECT_EQ(stage.die("ended with exit code 127"), "start; ping");
  EXPECT_EQ(stage.die("ended with exit code 127"), "");
  EXPECT_EQ(stage.after(99ms), "");
  EXPECT_EQ(stage.after(1ms), "start; ping");
  EXPECT_EQ(stage.die("ended with exit code 127"), "1 not started (service sum does not start: it ended with exit code 127); 2 not started (service sum does not start: it ended with exit code 127)");
  EXPECT_EQ(stage.call({3}), "3 not started (service sum does not start: it ended with exit code 127)") << "it rests: nobody waits for that";
  EXPECT_EQ(stage.after(200ms), "");
  EXPECT_EQ(stage.call({4}), "start; ping") << "the first after the rest tries";
  EXPECT_EQ(stage.call({5}), "") << "as it may come up";
  EXPECT_EQ(stage.die("ended with exit code 1"), "4 not started (service sum does not start: it ended with exit code 1); 5 not started (service sum does not start: it ended with exit code 1)")
      << "one try is enough now";
  EXPECT_EQ(stage.after(399ms), "");
  EXPECT_EQ(stage.call({6}), "6 not started (service sum does not start: it ended with exit code 1)");
  EXPECT_EQ(stage.after(1ms), "");
  EXPECT_EQ(stage.call({7}), "start; ping");
  stage.answer({0});
  EXPECT_EQ(stage.answer({1}), "7 answered");
  EXPECT_EQ(stage.die(), "") << "and all is forgotten";
  EXPECT_EQ(stage.call({8}), "start; ping");
}

TEST(ServiceLife, OneThatDiesOfEveryCallRestsLongerAndLonger) {
  Stage stage;
  stage.call({1, 2, 3, 4});
  stage.answer({0});
  EXPECT_EQ(stage.die(), "1 lost (service sum was gone before it answered: it was killed by signal 9); start; ping");
  stage.answer({0});
  EXPECT_EQ(stage.die(), "2 lost (service sum was gone before it answered: it was killed by signal 9)");
  EXPECT_EQ(stage.after(100ms), "start; ping");
  stage.answer({0});
  stage.die();
  EXPECT_EQ(stage.after(199ms), "");
  EXPECT_EQ(stage.after(1ms), "start; ping");
}

TEST(ServiceLife, WhatIsNoAnswerEndsTheHeadAndTheProcess) {
  Stage stage = Stage::warm();
  stage.call({3, 4});
  EXPECT_EQ(stage.tell(ServiceLife::Spoiled{"nonsense"}), "kill");
  EXPECT_EQ(stage.answer({3}), "") << "too late";
  EXPECT_EQ(stage.die(), "3 broken (service sum was stopped at it: nonsense); start; ping");
  EXPECT_EQ(stage.answer({0}), "send 4 as 1");
  EXPECT_EQ(stage.answer({2}), "kill") << "nobody asked that";
  EXPECT_EQ(stage.die(), "4 broken (service sum was stopped at it: it answered request 2, which it was not asked)");
  Stage twice = Stage::warm();
  twice.call({3, 4});
  EXPECT_EQ(twice.answer({4, 4}), "4 answered; kill");
}

TEST(ServiceLife, ACallOverItsTimeIsStoppedAndCountsFromWhenItIsTheHead) {
  Stage stage = Stage::warm();
  EXPECT_EQ(stage.call({3, 4, 5}, 10s), "send 3 as 3; send 4 as 4; send 5 as 5");
  EXPECT_EQ(stage.after(9s), "");
  EXPECT_EQ(stage.answer({3}), "3 answered");
  EXPECT_EQ(stage.after(9s), "") << "of 4";
  EXPECT_EQ(stage.after(1s), "kill");
  EXPECT_EQ(stage.after(1h), "");
  EXPECT_EQ(stage.die(), "4 timed out; start; ping");
  EXPECT_EQ(stage.answer({0}), "send 5 as 1");
}

TEST(ServiceLife, WhileItIsPausedItsTimeStands) {
  Stage stage = Stage::warm();
  stage.call({3}, 10s);
  stage.after(4s);
  stage.tell(ServiceLife::Paused{});
  EXPECT_EQ(stage.after(1h), "");
  EXPECT_EQ(stage.call({4}, 10s), "");
  EXPECT_EQ(stage.tell(ServiceLife::Resumed{}), "send 4 as 4");
  EXPECT_EQ(stage.after(5s), "");
  EXPECT_EQ(stage.after(1s), "kill");
}

TEST(ServiceLife, ACallThatIsStoppedWhileItIsPausedEndsAndTheNextProcessWaits) {
  Stage stage = Stage::warm();
  stage.call({3, 4});
  stage.tell(ServiceLife::Paused{});
  EXPECT_EQ(stage.tell(ServiceLife::Unwanted{3}), "kill");
  EXPECT_EQ(stage.die(), "3 canceled");
  EXPECT_EQ(stage.call({5}), "");
  EXPECT_EQ(stage.after(1h), "");
  EXPECT_EQ(stage.tell(ServiceLife::Resumed{}), "start; ping");
  EXPECT_EQ(stage.answer({0}), "send 4 as 1; send 5 as 2");
}

TEST(ServiceLife, ACallInItsGraceDoesNotOutliveAPause) {
  Stage stage = Stage::warm();
  stage.call({3, 4});
  EXPECT_EQ(stage.tell(ServiceLife::Unwanted{3}), "");
  EXPECT_EQ(stage.after(1s), "");
  EXPECT_EQ(stage.tell(ServiceLife::Paused{}), "kill");
  EXPECT_EQ(stage.tell(ServiceLife::Unwanted{3}), "");
  EXPECT_EQ(stage.die(), "3 canceled");
  EXPECT_EQ(stage.tell(ServiceLife::Resumed{}), "start; ping") << "that was no fault of it";
  EXPECT_EQ(stage.answer({0}), "send 4 as 1");
}

TEST(ServiceLife, APingThatWasNotSentIsNotAnswered) {
  Stage stage = Stage::warm();
  EXPECT_EQ(stage.after(30s), "ping");
  EXPECT_EQ(stage.answer({0}), "");
  stage.call({3});
  EXPECT_EQ(stage.answer({0}), "kill") << "else it could write them for ever, and look alive";
  EXPECT_EQ(stage.die(), "3 broken (service sum was stopped at it: it answered a ping, which it was not sent)");
  EXPECT_EQ(stage.call({4}), "start; ping");
  EXPECT_EQ(stage.answer({0, 0}), "kill");
}

TEST(ServiceLife, StoppedCallsEndAtOnceButForTheHeadWhichMayTakeItsGrace) {
  Stage stage = Stage::warm();
  stage.call({3, 4, 5});
  EXPECT_EQ(stage.tell(ServiceLife::Unwanted{4}), "4 canceled");
  EXPECT_EQ(stage.tell(ServiceLife::Unwanted{4}), "");
  EXPECT_EQ(stage.tell(ServiceLife::Unwanted{3}), "") << "it is at that";
  EXPECT_EQ(stage.after(1s), "");
  EXPECT_EQ(stage.answer({3, 4}), "3 canceled") << "its answer is of no interest";
  EXPECT_EQ(stage.tell(ServiceLife::Unwanted{5}), "");
  EXPECT_EQ(stage.after(2s), "kill");
  EXPECT_EQ(stage.die(), "5 canceled");
  EXPECT_EQ(stage.call({6, 7}), "start; ping") << "that was no fault of it";
  EXPECT_EQ(stage.tell(ServiceLife::Unwanted{6}), "6 canceled") << "not sent yet";
  EXPECT_EQ(stage.answer({0}), "send 7 as 1");
}

TEST(ServiceLife, AForsakenCallIsNeverToldOf) {
  Stage stage = Stage::warm();
  stage.call({3, 4, 5});
  EXPECT_EQ(stage.tell(ServiceLife::Forsaken{4}), "");
  EXPECT_EQ(stage.life.calls(), 2u);
  EXPECT_EQ(stage.answer({3, 4}), "3 answered");
  EXPECT_EQ(stage.tell(ServiceLife::Forsaken{5}), "");
  EXPECT_EQ(stage.after(2s), "kill") << "and holds nothing up for longer than its grace";
  EXPECT_EQ(stage.die(), "");
}

/// Whatever happens in whatever order: every call has exactly one end unless it was forsaken, and none is forgotten.
TEST(ServiceLife, EveryCallEndsOnce) {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    std::mt19937 random(seed);
    ServiceLife life("sum");
    Instant now{};
    std::set<std::uint64_t> open, forsaken;
    std::vector<std::uint64_t> asked;  // ids of the living process
    bool runs = false, answers = true;
    std::uint64_t last = 0;
    const auto tell = [&](ServiceLife::Event event) {
      for (const auto& action : life.step(now, std::move(event))) {
        if (std::holds_alternative<ServiceLife::Start>(action)) {
          ASSERT_FALSE(runs);
          runs = true, asked.clear();
        }
        if (std::holds_alternative<ServiceLife::Ping>(action)) asked.push_back(0);
        if (const auto* send = std::get_if<ServiceLife::Send>(&action)) {
          ASSERT_TRUE(runs);
          asked.push_back(send->id);
        }
        if (const auto* over = std::get_if<ServiceLife::Over>(&action)) {
          ASSERT_EQ(open.erase(over->call), 1u) << "seed " << seed << " call " << over->call;
        }
      }
      ASSERT_FALSE(life.broken_invariant()) << "seed " << seed << ": " << *life.broken_invariant();
    };
    for (int step = 0; step < 400; ++step) {
      now += std::chrono::milliseconds(random() % 40);
      switch (random() % 12) {
        case 0:
        case 1:
        case 2: {
          ServiceLife::Called event;
          for (auto n = 1 + random() % 3; n > 0; --n) {
            event.calls.push_back({++last, random() % 3 == 0 ? Duration(random() % 100'000) : 0s, std::chrono::milliseconds(random() % 50)});
            open.insert(last);
          }
          tell(std::move(event));
          break;
        }
        case 3:
        case 4:
        case 5:
        case 6: {
          if (!runs || !answers || asked.empty()) break;
          ServiceLife::Answered event;
          for (auto n = 1 + random() % 3; n > 0 && !asked.empty(); --n) {
            const std::size_t at = random() % 4 == 0 ? random() % asked.size() : 0;
            event.ids.push_back(asked[at]);
            asked.erase(asked.begin() + static_cast<std::ptrdiff_t>(at));
          }
          tell(std::move(event));
          break;
        }
        case 7:
          if (runs && random() % 3 == 0) runs = false, tell(ServiceLife::Died{"ended"});
          break;
        case 8:
          if (last > 0) tell(ServiceLife::Unwanted{1 + random() % last});
          break;
        case 9: {
          const std::uint64_t call = last > 0 ? 1 + random() % last : 0;
          if (open.erase(call) > 0) tell(ServiceLife::Forsaken{call});
          break;
        }
        case 10: tell(random() % 2 == 0 ? ServiceLife::Event(ServiceLife::Paused{}) : ServiceLife::Event(ServiceLife::Resumed{})); break;
        case 11:
          if (runs && random() % 8 == 0) tell(ServiceLife::Spoiled{"nonsense"});
          break;
      }
      if (const auto at = life.wake_at(); at && *at <= now) tell(ServiceLife::Tick{});
      if (HasFatalFailure()) return;
    }
    tell(ServiceLife::Resumed{});
    for (int round = 0; round < 200 && !open.empty(); ++round) {  // it becomes well again
      now += 100ms;
      tell(ServiceLife::Tick{});
      if (runs && life.wake_at() == std::nullopt && asked.empty()) runs = false, tell(ServiceLife::Died{"ended"});
      if (!runs) continue;
      const std::size_t before = open.size();
      if (!asked.empty()) tell(ServiceLife::Answered{std::exchange(asked, {})});
      if (open.size() == before && asked.empty()) runs = false, tell(ServiceLife::Died{"ended"});
      if (HasFatalFailure()) return;
    }
    EXPECT_TRUE(open.empty()) << "seed " << seed;
  }
}

}  // namespace
}  // namespace souk::worker
