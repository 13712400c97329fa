// The worker's state machine, told as stories: what it owes, on its way to the manager and on disk.
#include "worker/agent.h"

#include <gtest/gtest.h>

#include "protocol/payload.h"  // kStanzaMax
#include "tests/worker/agent_stage.h"

namespace souk::worker {
namespace {

using namespace std::chrono_literals;

TEST(Agent, ResultsThatEndDuringAReportLeaveTogetherInTheNext) {
  Stage stage(4);
  stage.greet();
  stage.assign({1, 2, 3, 4});
  EXPECT_EQ(stage.finish(0), "report#1 1:exited");
  EXPECT_EQ(stage.finish(1), "");
  EXPECT_EQ(stage.finish(2), "");
  EXPECT_EQ(stage.taken(1), "report#2 2:exited 3:exited");
  EXPECT_EQ(stage.finish(3), "");
  EXPECT_EQ(stage.taken(2), "report#3 4:exited");
}

TEST(Agent, ResultsGatherWhileMoreAttemptsWaitHereThanResults) {
  Stage stage;
  stage.greet();
  stage.assign({1, 2, 3, 4, 5, 6, 7, 8, 9, 10});
  EXPECT_EQ(stage.finish(0), "start 2 in 0");
  EXPECT_EQ(stage.finish(0), "start 3 in 0");
  EXPECT_EQ(stage.finish(0), "start 4 in 0");
  EXPECT_EQ(stage.finish(0), "start 5 in 0");
  EXPECT_EQ(stage.finish(0), "start 6 in 0; report#1 1:exited 2:exited 3:exited 4:exited 5:exited");  // half is done: time to send more
  EXPECT_EQ(stage.taken(1), "");
  EXPECT_EQ(stage.finish(0), "start 7 in 0");
  EXPECT_EQ(stage.after(49ms), "");
  EXPECT_EQ(stage.after(1ms), "report#2 6:exited");  // no result waits longer
  EXPECT_EQ(stage.taken(2), "");
  EXPECT_EQ(stage.finish(0), "start 8 in 0");
  EXPECT_EQ(stage.finish(0), "start 9 in 0; report#3 7:exited 8:exited");
}

TEST(Agent, NoReportOutgrowsAStanzaAndAtMostTwoAreInFlight) {
  Stage stage(64);
  stage.greet();
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t n = 1; n <= 64; ++n) numbers.push_back(n);
  stage.assign(numbers);
  int sent = 0;
  std::set<std::uint64_t> arrived;
  const auto count = [&] {
    for (const Action& action : stage.actions) {
      const auto* report = std::get_if<SendReport>(&action);
      if (report == nullptr) continue;
      ++sent;
      std::size_t bytes = 0;
      for (const auto& result : report->results) {
        arrived.insert(result.attempt.number);
        bytes += result.outcome->out.size();
      }
      EXPECT_LE(bytes, kStanzaMax);
    }
  };
  for (int slot = 0; slot < 64; ++slot) {
    stage.finish(slot, 10'000);
    count();
  }
  EXPECT_EQ(sent, 2);
  for (std::uint64_t report = 1; arrived.size() < 64; ++report) {
    ASSERT_LE(report, 64u);
    stage.taken(report);
    count();
  }
  EXPECT_GE(sent, 7);  // 640 kB at 96 KiB each
  EXPECT_LE(sent, 9);
}

TEST(Agent, ALargeStreamTravelsInPiecesBeforeItsResultAndSmallResultsPassIt) {
  Stage stage(2);
  stage.greet();
  stage.assign({1, 2});
  EXPECT_EQ(stage.finish(0, 200'000), "report#1 piece 1:out@0+65536; report#2 piece 1:out@65536+65536");
  EXPECT_EQ(stage.finish(1), "");
  EXPECT_EQ(stage.taken(1), "report#3 piece 1:out@131072+65536 piece 1:out@196608+3392 1:exited(pieces) 2:exited");
  EXPECT_EQ(stage.taken(2), "");
  EXPECT_EQ(stage.agent.owed(), 2u);
  EXPECT_EQ(stage.taken(3), "");
  EXPECT_EQ(stage.agent.owed(), 0u);
}

TEST(Agent, TwoStreamsThatFitAloneButNotTogetherDoNotOutgrowAStanza) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  EXPECT_EQ(stage.finish(0, 60'000, 60'000), "report#1 piece 1:out@0+60000; report#2 1:exited(pieces)");
}

TEST(Agent, BothStreamsInPieces) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  EXPECT_EQ(stage.finish(0, 70'000, 70'000), "report#1 piece 1:out@0+65536 piece 1:out@65536+4464; report#2 piece 1:err@0+65536 piece 1:err@65536+4464 1:exited(pieces)");
}

TEST(Agent, PiecesStartAgainWhenTheManagerAsks) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  EXPECT_EQ(stage.finish(0, 70'000), "report#1 piece 1:out@0+65536 piece 1:out@65536+4464 1:exited(pieces)");
  EXPECT_EQ(stage.taken(1, {1}), "report#2 piece 1:out@0+65536 piece 1:out@65536+4464 1:exited(pieces)");
  EXPECT_EQ(stage.taken(2), "");
  EXPECT_EQ(stage.agent.owed(), 0u);
}

TEST(Agent, PiecesStartAgainWhenOneWasLost) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  stage.finish(0, 200'000);  // reports 1 and 2 carry the first two pieces
  EXPECT_EQ(stage.failed(1), "");
  EXPECT_EQ(stage.taken(2), "report#3 piece 1:out@0+65536; report#4 piece 1:out@65536+65536");  // an answer: the manager is back
}

TEST(Agent, AManagerThatNeverHasEnoughOfPiecesGetsTheResultWithoutThem) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  stage.finish(0, 70'000);
  std::string last;
  for (std::uint64_t report = 1; report < 10 && last.find("gave up") == std::string::npos; ++report) last = stage.taken(report, {1});
  EXPECT_EQ(last, "gave up 1: the manager asked for it again and again; report#5 1:exited");
  EXPECT_EQ(stage.taken(5), "");
  EXPECT_EQ(stage.agent.owed(), 0u);
}

TEST(Agent, AFailedReportIsSentAgainAfterAPauseThatGrows) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  stage.finish(0);
  stage.after(1s);
  EXPECT_EQ(stage.failed(1), "");
  EXPECT_EQ(stage.after(499ms), "");
  EXPECT_EQ(stage.after(1ms), "report#2 1:exited");
  EXPECT_EQ(stage.failed(2), "");
  EXPECT_EQ(stage.after(999ms), "");
  EXPECT_EQ(stage.after(1ms), "report#3 1:exited");
  EXPECT_EQ(stage.taken(3), "");
}

TEST(Agent, OneResultThatTheManagerRefusesHarmsNoOther) {
  Stage stage(3);
  stage.greet();
  stage.assign({1, 2, 3});
  stage.finish(0);
  stage.finish(1, 10);  // the bad one
  stage.finish(2, 20);
  EXPECT_EQ(stage.taken(1), "report#2 2:exited 3:exited");
  EXPECT_EQ(stage.failed(2, ReportLoss::refused), "report#3 2:exited");
  EXPECT_EQ(stage.failed(3, ReportLoss::refused), "gave up 2: the manager refused it: why; report#4 3:exited");
  EXPECT_EQ(stage.taken(4), "report#5 2:exited");  // how it ended, without its output
  EXPECT_EQ(stage.failed(5, ReportLoss::refused), "gave up 2: the manager refused it: why");
  EXPECT_EQ(stage.agent.owed(), 0u);
}

TEST(Agent, AcceptsNothingNewWhileItHoldsTooManyResults) {
  Stage stage(Limits{.slots = 1, .held_max = 4096, .owed_bytes_max = 1000});
  stage.greet();
  stage.assign({1, 2});
  stage.tell(ManagerGone{});
  stage.finish(0, 2000);
  EXPECT_EQ(stage.agent.running(), 0u);  // 2 waits: its result would have no room
  EXPECT_EQ(stage.greet(2), "hello: busy, holds 1,2; report#1 1:exited");
  EXPECT_EQ(stage.assign({3}, 2), "refused 3 (holds 0 MiB of results that the manager has not taken yet)");
  EXPECT_EQ(stage.taken(1), "start 2 in 0");
}

TEST(Agent, AResultIsOnDiskFromItsEndUntilTheManagerHasIt) {
  Stage stage;
  stage.greet();
  stage.assign({1, 2});
  EXPECT_EQ(stage.kept(), "nothing");
  stage.finish(0);
  EXPECT_EQ(stage.kept(), "1");
  stage.failed(stage.last_report);
  EXPECT_EQ(stage.kept(), "1");
  stage.tell(ManagerGone{});
  stage.finish(0);
  EXPECT_EQ(stage.kept(), "1,2");
  EXPECT_EQ(stage.greet(2), "hello: free, holds 1,2; report#2 1:exited 2:exited");
  EXPECT_EQ(stage.kept(), "1,2");
  stage.taken(2);
  EXPECT_EQ(stage.kept(), "nothing");
}

TEST(Agent, WhatIsHandedBackUnstartedIsNotKept) {
  Stage stage;
  stage.greet();
  stage.assign({1, 2});
  EXPECT_EQ(stage.tell(Pause{}), "report#1 returned 2; lease 1,2 paused");
  EXPECT_EQ(stage.kept(), "nothing");
}

TEST(Agent, AfterACrashItHandsOverWhatIsOnDiskToWhomeverGreetsIt) {
  Stage stage(2);
  stage.greet(3);
  stage.assign({1, 2, 3}, 3);
  stage.finish(0);
  EXPECT_EQ(stage.crash(), "");
  EXPECT_EQ(stage.agent.running(), 0u);
  EXPECT_EQ(stage.agent.epoch(), Epoch{3});
  EXPECT_EQ(stage.assign({4}, 3), "conflict: this worker has not been greeted yet; send hello first");
  EXPECT_EQ(stage.greet(5), "hello: free, holds 1; report#1 1:exited");
  EXPECT_EQ(stage.assign({1}, 5), "took; start 1 in 0; show 'busy: 1 of 1 slot'");  // another one, of this epoch
  stage.crash();
  EXPECT_EQ(stage.greet(5), "hello: free, holds 1; report#1 1:exited");
  EXPECT_EQ(stage.taken(1), "");
  EXPECT_EQ(stage.kept(), "nothing");
  EXPECT_EQ(stage.crash(), "");
  EXPECT_EQ(stage.greet(5), "hello: free, holds nothing");
}

TEST(Agent, AResultHalfSentInPiecesStartsAgainAfterACrash) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  const std::string pieces = "report#1 piece 1:out@0+65536; report#2 piece 1:out@65536+65536 piece 1:out@131072+18928 1:exited(pieces)";
  EXPECT_EQ(stage.finish(0, 150'000), pieces);
  stage.taken(1);
  EXPECT_EQ(stage.kept(), "1");
  stage.crash();
  EXPECT_EQ(stage.greet(), "hello: free, holds 1; " + pieces);
  EXPECT_EQ(stage.taken(1), "");
  EXPECT_EQ(stage.kept(), "1");
  stage.taken(2);
  EXPECT_EQ(stage.kept(), "nothing");
}

TEST(Agent, WhatIsLeftOfAResultThatIsNeverTakenReplacesItOnDisk) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  stage.finish(0, 1000);
  EXPECT_EQ(stage.failed(1, ReportLoss::refused), "gave up 1: the manager refused it: why; report#2 1:exited");
  EXPECT_EQ(stage.disk.begin()->second.outcome->out.size(), 0u);
  EXPECT_EQ(stage.failed(2, ReportLoss::refused).substr(0, 9), "gave up 1");
  EXPECT_EQ(stage.kept(), "nothing");
}

TEST(Agent, RemembersTheHighestEpochAndJobOfAllItsLives) {
  Stage stage;
  stage.greet(7);
  Assigned event{Epoch{7}, {Stage::assignment(1, 7), Stage::assignment(2, 7)}};
  event.assignments[0].task.job = JobId{41};
  event.assignments[1].task.job = JobId{17};
  stage.tell(event);
  EXPECT_EQ(stage.remembered.jobs_seen, JobId{41});
  EXPECT_EQ(stage.greet(5), "stale: obeyed 7, saw job 41");
  EXPECT_EQ(stage.agent.epoch(), Epoch{7});
  stage.crash();
  EXPECT_EQ(stage.agent.epoch(), Epoch{7});
  EXPECT_EQ(stage.agent.jobs_seen(), JobId{41});
  EXPECT_EQ(stage.greet(6), "stale: obeyed 7, saw job 41");
  EXPECT_EQ(stage.greet(7).substr(0, 6), "hello:");
}

TEST(Agent, MayFindMoreOnDiskThanItWouldEverTake) {
  Stage stage(Limits{.slots = 1, .held_max = 3});
  Restored found{{}, Epoch{1}, JobId{1}};
  for (std::uint64_t number = 1; number <= 4; ++number) {
    const Held held{AttemptId{Epoch{1}, number}, TaskId{JobId{1}, TaskNumber{number}}};
    auto outcome = std::make_shared<const Outcome>();
    stage.disk[held.attempt] = Keep{held, outcome};
    found.results.push_back({held, outcome});
  }
  stage.remembered = {found.epoch, found.jobs_seen};
  stage.tell(found);
  EXPECT_EQ(stage.greet(), "hello: free, holds 1,2,3,4; report#1 1:exited 2:exited 3:exited 4:exited");
  EXPECT_EQ(stage.assign({5}), "refused 5 (holds 4 attempts, its bound)");
  stage.taken(1);
  EXPECT_EQ(stage.assign({5}), "took; start 5 in 0; show 'busy: 1 of 1 slot'");
}

TEST(Agent, SaysThatItsDiskRefusesAndWorksOn) {
  Stage stage(2);
  stage.greet();
  EXPECT_EQ(stage.tell(DiskRefuses{"results cannot be kept on disk: the disk is full"}), "lease nothing free; show 'free: 2 slots'");
  EXPECT_EQ(std::get<SendLease>(stage.actions.front()).rule, "results cannot be kept on disk: the disk is full");
  EXPECT_EQ(stage.assign({1}), "took; start 1 in 0");
  EXPECT_EQ(stage.finish(0), "report#1 1:exited");
  EXPECT_EQ(stage.tell(DiskRefuses{}), "lease 1 free");
}

}  // namespace
}  // namespace souk::worker
