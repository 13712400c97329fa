// The worker's state machine, told as stories: what happened, and what the worker then did.
#include "worker/agent.h"

#include <gtest/gtest.h>

#include <csignal>
#include <set>

#include "tests/worker/agent_stage.h"

namespace souk::worker {
namespace {

using namespace std::chrono_literals;

TEST(Agent, RunsWhatItIsGivenAndKeepsTheResultUntilTheManagerHasIt) {
  Stage stage;
  EXPECT_EQ(stage.greet(), "hello: free, holds nothing");
  EXPECT_EQ(stage.assign({7}), "took; start 7 in 0; show 'busy: 1 of 1 slot'");
  EXPECT_EQ(stage.finish(0), "report#1 7:exited");  // free again, but shown only a second after the last change
  EXPECT_EQ(stage.greet(), "hello: free, holds 7; report#2 7:exited");
  EXPECT_EQ(stage.taken(2), "");
  EXPECT_EQ(stage.greet(), "hello: free, holds nothing");
}

TEST(Agent, AManagerOfAnOlderEpochIsToldSoAndChangesNothing) {
  Stage stage;
  stage.greet(5);
  stage.assign({7}, 5);
  EXPECT_EQ(stage.greet(4), "stale: obeyed 5, saw job 1");
  EXPECT_EQ(stage.assign({8}, 4), "conflict: this worker was last greeted in epoch 5; send hello first");
  EXPECT_EQ(stage.finish(0), "report#1 7:exited");  // for the newer one, as before
  EXPECT_EQ(stage.greet(5), "hello: free, holds 7; report#2 7:exited");  // which may greet again
}

TEST(Agent, FreeSlotsRunWaitingAttemptsInOrder) {
  Stage stage(2);
  stage.greet();
  EXPECT_EQ(stage.assign({1, 2, 3, 4}), "took; start 1 in 0; start 2 in 1; show 'busy: 2 of 2 slots'");
  EXPECT_EQ(stage.finish(1), "start 3 in 1; report#1 2:exited");
  EXPECT_EQ(stage.finish(0), "start 4 in 0");
  EXPECT_EQ(stage.taken(1), "report#2 1:exited");
  EXPECT_EQ(stage.agent.waiting(), 0u);
}

TEST(Agent, AWideAttemptTakesAsManySlotsAsItAsksCpusButOneRunner) {
  Stage stage(4);
  stage.greet();
  EXPECT_EQ(stage.assign(1, {.cpus = 3}), "took; start 1 in 0");
  EXPECT_EQ(stage.agent.status(), "free: 4 slots");
  EXPECT_EQ(stage.assign(2, {}), "took; start 2 in 1; show 'busy: 4 of 4 slots'");
  EXPECT_EQ(stage.assign(3, {.cpus = 2}), "took");
  EXPECT_EQ(stage.finish(1), "report#1 2:exited");  // one slot is free, and two are asked
  EXPECT_EQ(stage.finish(0), "start 3 in 0");
}

TEST(Agent, NobodyOvertakesAWideAttempt) {
  Stage stage(2);
  stage.greet();
  stage.assign(1, {});
  EXPECT_EQ(stage.assign(2, {.cpus = 2}), "took");
  EXPECT_EQ(stage.assign(3, {}), "took");  // would fit, but came later
  EXPECT_EQ(stage.finish(0).substr(0, 12), "start 2 in 0");
  EXPECT_EQ(stage.finish(0).substr(0, 12), "start 3 in 0");
}

TEST(Agent, AWideAttemptThatCannotStartGoesBackWhenNothingMovesAnyMore) {
  Stage stage(2);
  stage.greet();
  stage.assign(1, {});
  stage.assign(2, {});
  stage.assign(3, {.cpus = 2});
  EXPECT_EQ(stage.after(200ms), "");
  EXPECT_EQ(stage.finish(0), "report#1 1:exited");  // half the way: its place comes closer
  EXPECT_EQ(stage.taken(1), "");
  EXPECT_EQ(stage.after(200ms), "");
  EXPECT_EQ(stage.after(50ms), "report#2 returned 3");
}

TEST(Agent, GpusAndUnitsAreHandedOutByIdentityAndComeBack) {
  Stage stage(Limits{.slots = 4, .capacity = {.gpus = 2, .resources = {{"fpga", {2, {"left", "right"}}}}}});
  stage.greet();
  const Needs needs{.gpus = 1, .resources = {{"fpga", 1}}};
  EXPECT_EQ(stage.assign(1, needs), "took; start 1 in 0 with gpu0 fpga:left");
  EXPECT_EQ(stage.assign(2, needs), "took; start 2 in 1 with gpu1 fpga:right");
  EXPECT_EQ(stage.assign(3, needs), "took");  // slots are free, GPUs are not
  EXPECT_EQ(stage.finish(0).substr(0, 35), "start 3 in 0 with gpu0 fpga:left; r");
}

TEST(Agent, PinnedAttemptsGetProcessorsOfTheirOwn) {
  Stage stage(Limits{.slots = 4, .capacity = {.processors = {2, 3, 6, 7}}});
  stage.greet();
  EXPECT_EQ(stage.assign(1, {.cpus = 2}, true), "took; start 1 in 0 with cpu2 cpu3");
  EXPECT_EQ(stage.assign(2, {}), "took; start 2 in 1");
  EXPECT_EQ(stage.assign(3, {}, true), "took; start 3 in 2 with cpu6; show 'busy: 4 of 4 slots'");
}

TEST(Agent, RefusesWhatItsOwnerDoesNotRunAndTakesTheRest) {
  Stage stage;
  stage.greet();
  Assigned event{Epoch{1}, {Stage::assignment(1), Stage::assignment(2)}};
  event.assignments.front().refusal = "a task of eve would need a sandbox here";
  EXPECT_EQ(stage.tell(std::move(event)), "refused 1 (a task of eve would need a sandbox here); start 2 in 0; show 'busy: 1 of 1 slot'");
}

TEST(Agent, RefusesWhatCanNeverFitHere) {
  Stage stage(Limits{.slots = 2, .capacity = {.memory_bytes = 1u << 30}});
  stage.greet();
  EXPECT_EQ(stage.assign(1, {.cpus = 3}), "refused 1 (asks 3 cpus, this worker has 2)");
  EXPECT_EQ(stage.assign(2, {.memory_bytes = 3ull << 30}), "refused 2 (asks 3 GiB of memory, this worker has 1 GiB)");
  EXPECT_EQ(stage.assign(3, {.gpus = 1}), "refused 3 (asks 1 gpus, this worker has 0)");
  EXPECT_EQ(stage.assign(4, {.cpus = 2, .memory_bytes = 1u << 30}).substr(0, 4), "took");
}

TEST(Agent, LosingTheManagerChangesNothingForWhatRunsAndResultsWaitForHello) {
  Stage stage(1);
  stage.greet(1);
  stage.assign({1, 2});
  stage.after(5ms);
  EXPECT_EQ(stage.tell(ManagerGone{}), "");
  EXPECT_EQ(stage.finish(0), "start 2 in 0");
  EXPECT_EQ(stage.finish(0), "");
  EXPECT_EQ(stage.after(10min), "show 'free: 1 slot'");  // no report, no lease
  EXPECT_EQ(stage.greet(2), "hello: free, holds 1,2; report#1 1:exited 2:exited");
  EXPECT_EQ(stage.taken(1), "");
}

TEST(Agent, ANewEpochAdoptsOlderAttempts) {
  Stage stage(2);
  stage.greet(1);
  stage.assign({9});
  EXPECT_EQ(stage.greet(2), "hello: free, holds 9");
  EXPECT_EQ(stage.assign({1}, 2), "took; start 1 in 1; show 'busy: 2 of 2 slots'");
  EXPECT_EQ(stage.stop({9}, 1), "stop slot 0");
  EXPECT_EQ(stage.assign({2}, 1), "conflict: this worker was last greeted in epoch 2; send hello first");
}

TEST(Agent, AssignBeforeHelloIsAConflict) {
  Stage stage;
  EXPECT_EQ(stage.assign({1}), "conflict: this worker has not been greeted yet; send hello first");
  stage.greet();
  stage.tell(ManagerGone{});
  EXPECT_EQ(stage.assign({1}), "conflict: this worker saw its manager go; send hello first");
}

TEST(Agent, TheSameAttemptTwiceRunsOnce) {
  Stage stage;
  stage.greet();
  EXPECT_EQ(stage.assign({1, 1}), "took; start 1 in 0; show 'busy: 1 of 1 slot'");
  EXPECT_EQ(stage.assign({1, 2}), "took");
  EXPECT_EQ(stage.finish(0), "start 2 in 0; report#1 1:exited");
  EXPECT_EQ(stage.assign({1}), "took");
  EXPECT_EQ(stage.agent.waiting(), 0u);
}

TEST(Agent, StopEndsRunningOnesByTheExecutorAndWaitingOnesAtOnce) {
  Stage stage;
  stage.greet();
  stage.assign({1, 2, 3});
  EXPECT_EQ(stage.stop({1, 2, 99}), "stop slot 0; report#1 2:canceled");
  EXPECT_EQ(stage.stop({1, 2}), "");
  EXPECT_EQ(stage.finish(0, 0, 0, Cause::canceled), "start 3 in 0");
  EXPECT_EQ(stage.taken(1), "report#2 1:canceled");
}

TEST(Agent, WhatCannotRunIsAResult) {
  Stage stage;
  stage.greet();
  Assignment bad = Stage::assignment(1);
  bad.command = nullptr;
  bad.problem = "its command is missing";
  EXPECT_EQ(stage.tell(Assigned{Epoch{1}, {bad}}), "took; report#1 1:not-started");
}

TEST(Agent, ATaskWithoutItsCommandIsRefusedAndTheJobNamed) {
  Stage stage;
  stage.greet();
  Assignment bare = Stage::assignment(1);
  bare.command = nullptr;
  EXPECT_EQ(stage.tell(Assigned{Epoch{1}, {bare, Stage::assignment(2)}}),
            "refused 1 (no command for its job came with it); start 2 in 0; show 'busy: 1 of 1 slot'");
  EXPECT_EQ(std::get<AnswerAssign>(stage.actions.at(0)).missing, std::set<JobId>{JobId{1}});
  EXPECT_EQ(stage.agent.waiting(), 0u);
}

TEST(Agent, DoesNotAskForTheCommandOfATaskThatItsOwnerDoesNotAccept) {
  Stage stage(2);
  stage.greet();
  Assignment foreign = Stage::assignment(1);
  foreign.refusal = "its owner takes tasks of ada@x only, not of eve@x";
  foreign.command = nullptr;
  EXPECT_EQ(stage.tell(Assigned{Epoch{1}, {foreign, Stage::assignment(2)}}), "refused 1 (its owner takes tasks of ada@x only, not of eve@x); start 2 in 0");
}

TEST(Agent, CallsOfAServiceShareASlotAsFarAsTheyAreShort) {
  Stage stage(2);
  stage.greet();
  EXPECT_EQ(stage.call({1, 2, 3, 4}), "took; call 1 in 0; call 2 in 1; show 'busy: 2 of 2 slots'") << "nothing is known yet: one each";
  EXPECT_EQ(stage.answered(0, {1}, 1000us), "call 3 in 0; call 4 in 0; report#1 1:exited") << "two of these are 2 ms";
  EXPECT_EQ(stage.call({5, 6}), "took; call 5 in 1") << "no slot has more than two";
  EXPECT_EQ(stage.answered(1, {2, 5}, 1000us), "call 6 in 1");
  EXPECT_EQ(stage.agent.running(), 3u);
  EXPECT_EQ(stage.agent.slots_used(), 2);
  EXPECT_EQ(stage.answered(0, {3, 4}), "") << "the slot is free; a report is under way";
  EXPECT_EQ(stage.agent.slots_used(), 1);
  EXPECT_EQ(stage.assign({7, 8}), "took; start 7 in 0") << "a process needs a slot of its own";
  EXPECT_EQ(stage.answered(1, {6}), "start 8 in 1");
}

TEST(Agent, OnlyCallsOfTheSameServiceWithTheSameNeedsShareASlot) {
  Stage stage(Limits{.slots = 1, .capacity = Capacity{0, 0, 0, {{"license", {1, {}}}}, {}}});
  stage.greet();
  stage.call({1});
  EXPECT_EQ(stage.answered(0, {1}, 10us), "report#1 1:exited");
  EXPECT_EQ(stage.call({2, 3}), "took; call 2 in 0; call 3 in 0");
  EXPECT_EQ(stage.call({4}, "other"), "took");
  EXPECT_EQ(stage.answered(0, {2, 3}), "call 4 in 0");
  EXPECT_EQ(stage.answered(0, {4}), "");
  EXPECT_EQ(stage.call({5}), "took; call 5 in 0");
  Assigned greedy{Epoch{1}, {Stage::calling(6)}};
  greedy.assignments.front().needs.resources["license"] = 1;
  EXPECT_EQ(stage.tell(std::move(greedy)), "took");
  EXPECT_EQ(stage.answered(0, {5}), "call 6 in 0");
}

TEST(Agent, ACallThatTakesLongKeepsNobodyWaitingBehindIt) {
  Stage stage(1);
  stage.greet();
  stage.call({1});
  stage.answered(0, {1}, 10us);
  stage.taken(1);
  EXPECT_EQ(stage.call({2, 3, 4}), "took; call 2 in 0; call 3 in 0; call 4 in 0");
  EXPECT_EQ(stage.after(249ms), "");
  EXPECT_EQ(stage.after(1ms), "forsake call 3; forsake call 4; report#2 returned 3,4");
  EXPECT_EQ(stage.answered(0, {2, 3}, 300ms), "") << "3 is the manager's again";
  stage.taken(2);
  EXPECT_EQ(stage.after(20ms), "");
  EXPECT_EQ(stage.call({5, 6}), "took; call 5 in 0") << "they are long now";
}

TEST(Agent, StopsCallsOneByOneAndAllOfASlotWhenItsOwnerWantsIt) {
  Stage stage(1);
  stage.greet();
  stage.call({1});
  stage.answered(0, {1}, 10us);
  stage.taken(1);
  stage.call({2, 3, 4});
  EXPECT_EQ(stage.stop({3}), "stop call 3");
  EXPECT_EQ(stage.answered(0, {3}, 0us, Cause::canceled), "report#2 3:canceled");
  EXPECT_EQ(stage.allow(0, 0, 1), "pause slot 0; lease 2,3,4 paused");
  EXPECT_EQ(stage.after(1s), "show 'paused: in use'") << "what is paused is not handed back for that";
  EXPECT_EQ(stage.allow(1, 1, 1), "resume slot 0; lease 2,3,4 busy");
  EXPECT_EQ(stage.allow(0, 0, 0).substr(0, 11), "stop slot 0");
  stage.answered(0, {2, 4}, 0us, Cause::canceled);
  stage.taken(2);
  EXPECT_EQ(std::get<SendReport>(stage.actions.at(0)).results.at(0).outcome->why, "handed back by its owner: in use");
}

TEST(Agent, CallsEmptyTheSlotsThatItsOwnerTakesBack) {
  Stage stage(2);
  stage.greet();
  stage.call({1, 2});
  stage.answered(0, {1}, 100us);
  stage.answered(1, {2}, 100us);
  EXPECT_EQ(stage.call({3, 4, 5}), "took; call 3 in 0; call 4 in 1; call 5 in 0");
  stage.allow(1, 2, 2);
  EXPECT_EQ(stage.call({6}), "took") << "two slots are at work, of which one is to be free";
  EXPECT_EQ(stage.answered(0, {3}, 100us), "");
  EXPECT_EQ(stage.answered(1, {4}, 100us), "call 6 in 0") << "the other goes on";
}

TEST(Agent, ShortCallsAreNotKeptOnDiskAndLongOnesAre) {
  Stage stage(1);
  stage.greet();
  stage.call({1});
  EXPECT_EQ(stage.answered(0, {1}, 999us), "report#1 1:exited");
  EXPECT_EQ(stage.kept(), "nothing");
  stage.call({2});
  stage.answered(0, {2}, 1000us);
  EXPECT_EQ(stage.kept(), "2");
  stage.taken(1);
  stage.taken(2);
  EXPECT_EQ(stage.kept(), "nothing");
}

TEST(Agent, HandsBackWhatWaitsBehindLongTasks) {
  Stage stage(2);
  stage.greet();
  stage.assign({1, 2, 3});
  stage.after(200ms);
  EXPECT_EQ(stage.assign({4}), "took");
  EXPECT_EQ(stage.after(49ms), "");
  EXPECT_EQ(stage.after(1ms), "report#1 returned 3,4");
  EXPECT_EQ(stage.stop({3}), "");
  EXPECT_EQ(stage.taken(1), "");
  EXPECT_EQ(stage.agent.waiting(), 0u);
  EXPECT_EQ(stage.agent.owed(), 0u);
}

TEST(Agent, KeepsWhatWaitsWhileSlotsTurnOverOrNobodyIsThereToTakeIt) {
  Stage stage(2);
  stage.greet();
  stage.assign({1, 2, 3, 4, 5});
  stage.after(200ms);
  stage.finish(0);
  EXPECT_EQ(stage.after(200ms), "report#1 1:exited");
  stage.tell(ManagerGone{});
  EXPECT_EQ(stage.after(10s), "");
  EXPECT_EQ(stage.agent.waiting(), 2u);
}

TEST(Agent, RenewsLeasesSixTimesALeaseWhileItHoldsAnythingAndElseOnce) {
  Stage stage;
  stage.greet();
  EXPECT_EQ(stage.after(29999ms), "");
  EXPECT_EQ(stage.after(1ms), "lease nothing free");
  EXPECT_EQ(stage.after(60s), "lease nothing free; lease nothing free");
  stage.assign({1});
  EXPECT_EQ(stage.after(4999ms), "");
  EXPECT_EQ(stage.after(1ms), "lease 1 busy");
  EXPECT_EQ(stage.after(10s), "lease 1 busy; lease 1 busy");
  EXPECT_EQ(stage.finish(0), "report#1 1:exited");
  EXPECT_EQ(stage.after(5s), "show 'free: 1 slot'; lease 1 free");  // owed is held too
  stage.taken(1);
  EXPECT_EQ(stage.after(29999ms), "");
  EXPECT_EQ(stage.after(1ms), "lease nothing free");
  stage.tell(ManagerGone{});
  EXPECT_EQ(stage.after(10min), "");
}

TEST(Agent, SaysAgainWhatItsManagerMayHaveMissed) {
  Stage stage;
  stage.greet();
  EXPECT_EQ(stage.tell(Pause{}), "lease nothing paused; show 'paused: by its owner'");
  stage.after(2s);
  EXPECT_EQ(stage.tell(Resume{}), "lease nothing free; show 'free: 1 slot'");
  EXPECT_EQ(stage.lost(2), "");
  EXPECT_EQ(stage.after(499ms), "");
  EXPECT_EQ(stage.after(1ms), "lease nothing free");
  EXPECT_EQ(stage.lost(3), "");
  EXPECT_EQ(stage.after(999ms), "");
  EXPECT_EQ(stage.after(1ms), "lease nothing free");
  EXPECT_EQ(stage.tell(LeaseTaken{4}), "");
  EXPECT_EQ(stage.after(29999ms), "");  // it is known now, and nothing else is to be said
  EXPECT_EQ(stage.after(1ms), "lease nothing free");
  stage.lost(5);
  EXPECT_EQ(stage.after(500ms), "lease nothing free");  // patient again only after more failures in a row
}

TEST(Agent, WaitsLongerAndLongerForAManagerThatTakesNoLease) {
  Stage stage;
  stage.greet();
  stage.tell(Pause{});
  std::vector<Duration> pauses;
  for (int failures = 0; failures < 8; ++failures) {
    stage.lost(stage.last_lease);
    pauses.push_back(*stage.agent.wake_at() - stage.now);
    if (failures == 0) stage.after(1s);  // what people see changes too
    else stage.after(pauses.back());
  }
  EXPECT_EQ(pauses, (std::vector<Duration>{500ms, 1s, 2s, 4s, 8s, 15s, 15s, 15s}));
  stage.greet();
  stage.tell(Resume{});
  stage.lost(stage.last_lease);
  EXPECT_EQ(*stage.agent.wake_at() - stage.now, Duration(500ms));
}

TEST(Agent, OnlyTheLastLeaseIsWorthRepeating) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  EXPECT_EQ(stage.after(10s), "lease 1 busy; lease 1 busy");
  EXPECT_EQ(stage.lost(1), "");
  EXPECT_EQ(stage.after(4s), "");
  EXPECT_EQ(stage.after(1s), "lease 1 busy");
}

TEST(Agent, AManagerThatDoesNotKnowItIsToldNothingUntilItGreets) {
  Stage stage;
  stage.greet();
  stage.tell(Pause{});
  EXPECT_EQ(stage.unknown(1), "");
  EXPECT_EQ(stage.assign({1}), "conflict: this worker saw its manager go; send hello first");
  EXPECT_EQ(stage.after(10min).find("lease"), std::string::npos);
  EXPECT_EQ(stage.greet(2), "hello: paused, holds nothing");
  EXPECT_EQ(stage.after(30s), "lease nothing paused");
}

TEST(Agent, ALeaseThatCrossedANewManagersHelloSaysNothingAboutIt) {
  Stage stage;
  stage.greet(1);
  stage.assign({1});
  stage.after(5s);
  stage.greet(2);  // of a manager that read the lease before it knew us
  EXPECT_EQ(stage.unknown(1), "");
  EXPECT_EQ(stage.lost(1), "");
  EXPECT_EQ(stage.assign({2}, 2), "took");
  EXPECT_EQ(stage.after(100ms), "");
  stage.after(5s);
  EXPECT_EQ(stage.unknown(2), "");  // but this one left later
  EXPECT_EQ(stage.assign({3}, 2), "conflict: this worker saw its manager go; send hello first");
}

TEST(Agent, AHostileLeaseIsBroughtIntoRange) {
  Stage stage;
  stage.tell(Greeted{Epoch{1}, Duration{0}});
  stage.assign({1});
  EXPECT_EQ(stage.after(16ms), "");
  stage.tell(Greeted{Epoch{1}, Duration::max()});
  EXPECT_TRUE(stage.agent.wake_at());
}

TEST(Agent, DrainFinishesWhatItHoldsAndThenSaysItIsEmpty) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  stage.after(2s);
  EXPECT_EQ(stage.tell(Drain{}), "lease 1 draining; show 'draining: 1 running'");
  EXPECT_EQ(stage.tell(Drain{}), "");
  EXPECT_EQ(stage.assign({2, 3}), "refused 2 3 (draining)");
  EXPECT_EQ(stage.finish(0), "report#1 1:exited");
  EXPECT_EQ(stage.taken(1), "empty");
}

TEST(Agent, DrainOfAnIdleWorkerIsEmptyAtOnce) {
  Stage stage;
  EXPECT_EQ(stage.tell(Drain{}), "show 'draining: 0 running'; empty");
}

TEST(Agent, PauseGivesBackWhatWaitsAndResumeOpensAgain) {
  Stage stage;
  stage.greet();
  stage.assign({1, 2});
  stage.after(2s);
  stage.taken(stage.last_report);  // 2 went back, since 1 is long
  stage.assign({3});
  EXPECT_EQ(stage.tell(Pause{}), "report#2 returned 3; lease 1,3 paused; show 'paused: by its owner'");
  EXPECT_EQ(stage.assign({4}), "refused 4 (paused by its owner)");
  stage.after(2s);
  EXPECT_EQ(stage.tell(Resume{}), "lease 1,3 busy; show 'busy: 1 of 1 slot'");
}

TEST(Agent, ItsOwnerComesBackAndWhatRunsIsPausedAndThenHandedBack) {
  Stage stage(2);
  stage.greet();
  stage.assign({1, 2, 3});
  stage.after(100ms);
  EXPECT_EQ(stage.allow(0, 0, 2), "pause slot 0; pause slot 1; report#1 returned 3; lease 1,2,3 paused");
  EXPECT_EQ(stage.after(1s), "show 'paused: in use'");
  stage.taken(1);
  EXPECT_EQ(stage.assign({4}), "refused 4 (held back by its owner: in use)");
  EXPECT_EQ(stage.greet(), "hello: paused, holds 1,2");
  EXPECT_EQ(stage.allow(0, 0, 0), "stop slot 0; stop slot 1");
  EXPECT_EQ(stage.allow(0, 0, 0), "");
  EXPECT_EQ(stage.finish(0, 100, 0, Cause::canceled), "report#2 1:canceled");
  const auto& outcome = *std::get<SendReport>(stage.actions.front()).results.front().outcome;
  EXPECT_EQ(outcome.why, "handed back by its owner: in use");
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(stage.finish(1), "");  // ended by itself before it could be stopped: a result like any other
  EXPECT_EQ(stage.taken(2), "report#3 2:exited");
  EXPECT_EQ(stage.allow(2, 2, 2, ""), "lease 2 free");
  EXPECT_EQ(stage.after(1s), "show 'free: 2 slots'");
}

TEST(Agent, GoesOnWhenItsOwnerLeavesSoon) {
  Stage stage(2);
  stage.greet();
  stage.assign({1, 2});
  stage.allow(0, 0, 2);
  EXPECT_EQ(stage.allow(2, 2, 2, ""), "resume slot 0; resume slot 1; lease 1,2 busy");
}

TEST(Agent, TheOldestGoOnInTheSlotsThatAreLeft) {
  Stage stage(4);
  stage.greet();
  stage.assign(1, {.cpus = 2});
  stage.assign({2, 3});
  EXPECT_EQ(stage.allow(3, 3, 4), "pause slot 2; lease 1,2,3 busy");
  stage.after(2s);
  EXPECT_EQ(stage.agent.status(), "busy: 4 of 4 slots, in use");
  EXPECT_EQ(stage.assign({4}), "took");
  EXPECT_EQ(stage.finish(1).substr(0, 13), "resume slot 2");  // before anything new
  EXPECT_EQ(stage.agent.waiting(), 1u);
  EXPECT_EQ(stage.assign(5, {.cpus = 4}), "refused 5 (asks 4 cpus, its owner leaves 3 now: in use)");
  EXPECT_EQ(stage.finish(0).substr(0, 12), "start 4 in 0");
  EXPECT_EQ(stage.agent.status(), "free: 3 of 4 slots, in use");
}

TEST(Agent, AStopOfTheManagersIsNoHandingBack) {
  Stage stage;
  stage.greet();
  stage.assign({1});
  stage.allow(0, 0, 0);
  EXPECT_EQ(stage.stop({1}), "stop slot 0");
  stage.finish(0, 3, 0, Cause::canceled);
  EXPECT_EQ(std::get<SendReport>(stage.actions.front()).results.front().outcome->why, "");
}

TEST(Agent, SaysAtOnceWhatIsNotAsItSaidWhenItJoined) {
  Stage stage;
  EXPECT_EQ(stage.tell(Greeted{Epoch{1}, 30s, false}), "hello: free, holds nothing");
  stage.tell(ManagerGone{});
  const AnswerHello said = stage.agent.hello();
  EXPECT_EQ(said.state, Availability::free);
  EXPECT_EQ(said.epoch, Epoch{1});
  stage.tell(Pause{});
  EXPECT_EQ(stage.tell(Greeted{Epoch{2}, 30s, true}), "hello: paused, holds nothing; lease nothing paused");
}

TEST(Agent, TellsOfTheRuleInForce) {
  Stage stage(4);
  stage.greet();
  stage.tell(Allowance{1, 4, 4, "in use: input 3 s ago", 1234});
  const auto& lease = std::get<SendLease>(stage.actions.front());
  EXPECT_EQ(lease.offered, 1);
  EXPECT_EQ(lease.rule, "in use: input 3 s ago");
  EXPECT_EQ(lease.until_ms, 1234u);
  EXPECT_EQ(stage.greet(2), "hello: free, holds nothing; lease nothing free");  // the second tells how many slots
  EXPECT_EQ(std::get<AnswerHello>(stage.actions.front()).rule, "in use: input 3 s ago");
  EXPECT_EQ(stage.tell(Allowance{1, 4, 4, "in use: input 3 s ago", 1234}), "");
}

TEST(Agent, HoldsABoundedNumberOfAttempts) {
  Stage stage(Limits{.slots = 1, .held_max = 3});
  stage.greet();
  EXPECT_EQ(stage.assign({1, 2, 3, 4, 5}), "refused 4 5 (holds 3 attempts, its bound); start 1 in 0; show 'busy: 1 of 1 slot'");
}

// ---- What is on disk -------------------------------------------------------------------------------------------------------------

// ---- Being stopped ---------------------------------------------------------------------------------------------------------------

TEST(Agent, LeavingHandsBackWhatWaitsAndWhatRunsAndThenIsEmpty) {
  Stage stage(2);
  stage.greet();
  stage.assign({1, 2, 3});
  EXPECT_EQ(stage.tell(Leave{}), "stop slot 0; stop slot 1; report#1 returned 3; lease 1,2,3 draining");
  stage.taken(1);
  EXPECT_EQ(stage.finish(0, 5, 5, Cause::canceled), "report#2 1:canceled");
  const auto& outcome = *std::get<SendReport>(stage.actions.front()).results.front().outcome;
  EXPECT_EQ(outcome.why, "handed back: its worker was stopped");
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(stage.finish(1), "");  // ended by itself: a result like any other
  EXPECT_EQ(stage.taken(2), "report#3 2:exited");
  EXPECT_EQ(stage.assign({4}), "refused 4 (draining)");
  EXPECT_EQ(stage.taken(3), "empty");
}

TEST(Agent, LeavingMayLetWhatRunsEndButStartsNothing) {
  Stage stage;
  stage.greet();
  stage.assign({1, 2});
  EXPECT_EQ(stage.tell(Leave{.let_end = true}), "report#1 returned 2; lease 1,2 draining");
  stage.taken(1);
  EXPECT_EQ(stage.tell(Leave{}), "stop slot 0");  // its time is over
  EXPECT_EQ(stage.finish(0, 0, 0, Cause::canceled), "report#2 1:canceled");
  EXPECT_EQ(stage.taken(2), "empty");
}

TEST(Agent, LeavingWaitsForNoManagerThatIsNotThere) {
  Stage stage;
  stage.greet();
  stage.assign({1, 2});
  stage.finish(0);
  stage.tell(ManagerGone{});
  EXPECT_EQ(stage.tell(Leave{}).substr(0, 11), "stop slot 0");
  EXPECT_EQ(stage.finish(0, 0, 0, Cause::canceled), "empty");
  EXPECT_EQ(stage.kept(), "1,2");  // for its next life
}

TEST(Agent, ATermToAllProcessesOfItsServiceIsNoFailureOfTheTask) {
  Stage stage(2);
  stage.greet();
  stage.assign({1, 2});
  stage.tell(Leave{});
  Outcome outcome;
  outcome.cause = Cause::signaled;
  outcome.signal = SIGTERM;
  EXPECT_EQ(stage.tell(Finished{0, outcome}), "report#1 1:canceled");
  outcome.signal = SIGSEGV;
  EXPECT_EQ(stage.tell(Finished{1, outcome}), "");
  EXPECT_EQ(stage.taken(1), "report#2 2:signaled");
}

TEST(Agent, DoesNotShowThatItIsFreeForABlinkBetweenTwoTasks) {
  Stage stage;
  stage.greet();
  EXPECT_EQ(stage.assign({1}), "took; start 1 in 0; show 'busy: 1 of 1 slot'");
  for (std::uint64_t n = 2; n < 20; ++n) {  // tasks of two seconds, one after the other
    EXPECT_EQ(stage.after(2s).find("show"), std::string::npos);
    EXPECT_EQ(stage.finish(0).find("show"), std::string::npos);
    stage.taken(n - 1);
    EXPECT_EQ(stage.after(400ms), "");
    EXPECT_EQ(stage.assign({n}), "took; start " + std::to_string(n) + " in 0");
  }
  stage.finish(0);
  EXPECT_EQ(stage.after(499ms).find("show"), std::string::npos);
  EXPECT_EQ(stage.after(1ms), "show 'free: 1 slot'");
  EXPECT_EQ(stage.after(500ms), "");
  EXPECT_EQ(stage.assign({20}), "took; start 20 in 0");  // busy at once, but for the second between two
  EXPECT_EQ(stage.after(500ms), "show 'busy: 1 of 1 slot'");
}

TEST(Agent, ShowsTheLastStateAtMostOnceASecond) {
  Stage stage;
  stage.greet();
  EXPECT_EQ(stage.assign({1}), "took; start 1 in 0; show 'busy: 1 of 1 slot'");
  for (std::uint64_t n = 2; n < 20; ++n) {
    EXPECT_EQ(stage.finish(0).find("show"), std::string::npos);
    EXPECT_EQ(stage.assign({n}).find("show"), std::string::npos);
    stage.after(10ms);
  }
  EXPECT_EQ(stage.after(2s).find("show"), std::string::npos);  // it is busy, and that is what everybody sees
  EXPECT_EQ(stage.finish(0).find("show"), std::string::npos);
  EXPECT_NE(stage.after(500ms).find("show 'free: 1 slot'"), std::string::npos);
}

// ---- Lined up: sent to a slot while another attempt runs there ------------------------------------------------------------------

/// One slot, or more, where a process takes a moment.
struct Line : Stage {
  explicit Line(int slots = 1) : Stage(slots) {
    each = 1ms;
    greet();
    assign({1});
    finish(0);
    taken(1);
    after(2s);
  }
};

TEST(Agent, LinesUpOneBehindEachProcessOnceProcessesAreKnownToBeShort) {
  Line stage(2);
  EXPECT_EQ(stage.assign({11, 12, 13, 14, 15}), "took; start 11 in 0; start 12 in 1; line up 13 in 0; line up 14 in 1; show 'busy: 2 of 2 slots'");
  EXPECT_EQ(stage.agent.waiting(), 1u);
  EXPECT_EQ(stage.finish(0), "line up 15 in 0");  // 13 runs there now; its result gathers, for there is work ahead
  EXPECT_EQ(stage.agent.running(), 4u);
  EXPECT_EQ(stage.finish(1), "report#2 11:exited 12:exited");
  EXPECT_EQ(stage.finish(0), "");
  EXPECT_EQ(stage.finish(0), "");
  EXPECT_EQ(stage.taken(2), "report#3 13:exited 15:exited");
  EXPECT_EQ(stage.greet(), "hello: free, holds 13,14,15; report#4 13:exited 15:exited");

  Stage unknown;
  unknown.greet();
  EXPECT_EQ(unknown.assign({1, 2}), "took; start 1 in 0; show 'busy: 1 of 1 slot'");
  Outcome long_one;
  long_one.wall = 1s;
  EXPECT_EQ(unknown.tell(Finished{0, long_one}), "start 2 in 0; report#1 1:exited");
  EXPECT_EQ(unknown.assign({3}), "took");
}

TEST(Agent, WhatIsLinedUpBehindALongOneIsRecalledAndHandedBack) {
  Line stage;
  EXPECT_EQ(stage.assign({11, 12, 13}), "took; start 11 in 0; line up 12 in 0; show 'busy: 1 of 1 slot'");
  EXPECT_EQ(stage.after(249ms), "");
  EXPECT_EQ(stage.after(1ms), "recall in 0; report#2 returned 13");
  EXPECT_EQ(stage.taken(2), "");
  EXPECT_EQ(stage.tell(Recalled{0}), "report#3 returned 12");
  EXPECT_EQ(stage.finish(0), "");
  EXPECT_EQ(stage.agent.running(), 0u);
}

TEST(Agent, WhatIsLinedUpElsewhereComesToASlotThatHasNothingToDo) {
  Line stage(2);
  EXPECT_EQ(stage.assign({11, 12, 13}), "took; start 11 in 0; start 12 in 1; line up 13 in 0; show 'busy: 2 of 2 slots'");
  EXPECT_EQ(stage.finish(1), "recall in 0; report#2 12:exited");
  EXPECT_EQ(stage.tell(Recalled{0}), "start 13 in 1");
}

TEST(Agent, AStopOfWhatIsLinedUpNeverHitsWhatRunsBeforeIt) {
  Line stage;
  EXPECT_EQ(stage.assign({11, 12}), "took; start 11 in 0; line up 12 in 0; show 'busy: 1 of 1 slot'");
  EXPECT_EQ(stage.stop({12}), "recall in 0");
  EXPECT_EQ(stage.tell(Recalled{0}), "report#2 12:canceled");
  stage.taken(2);
  EXPECT_EQ(stage.finish(0), "report#3 11:exited");
  stage.taken(3);

  EXPECT_EQ(stage.assign({21, 22}), "took; start 21 in 0; line up 22 in 0");
  EXPECT_EQ(stage.stop({22}), "recall in 0");
  EXPECT_EQ(stage.finish(0), "stop slot 0; report#4 21:exited");  // too late: it had begun
  EXPECT_EQ(stage.tell(Recalled{0}), "");
  EXPECT_EQ(stage.agent.running(), 1u);
}

TEST(Agent, AnOwnerWhoWantsTheMachineGetsBackWhatIsLinedUpToo) {
  Line stage;
  EXPECT_EQ(stage.assign({11, 12}), "took; start 11 in 0; line up 12 in 0; show 'busy: 1 of 1 slot'");
  EXPECT_EQ(stage.allow(0, 0, 1), "pause slot 0; recall in 0; lease 11,12 paused");
  EXPECT_EQ(stage.tell(Recalled{0}), "report#2 returned 12");
}

}  // namespace
}  // namespace souk::worker
