#include "manager/scheduler.h"

#include <gtest/gtest.h>

#include <ctime>

#include "stage.h"

namespace souk {
using namespace std::chrono_literals;

TEST(Scheduler, RunsATaskOnAFreeSlotAndEndsTheJob) {
  Stage stage;
  EXPECT_EQ(stage.submit(1), "");
  EXPECT_EQ(stage.join(1), "assign 1.1 as 1 to 1");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded; job 1 succeeded");
  EXPECT_EQ(stage.core.counts({1})->succeeded, 1u);
}

TEST(Scheduler, PrefersTheWorkerWithMostFreeSlots) {
  Stage stage;
  stage.join(1, 2), stage.join(2, 3);
  EXPECT_EQ(stage.submit(1, 4), "assign 1.1 as 1 to 2; assign 1.2 as 2 to 1; assign 1.3 as 3 to 2; assign 1.4 as 4 to 1");
  EXPECT_EQ(stage.submit(2, 2), "assign 2.1 as 5 to 2");  // the other waits: no slot is free
}

TEST(Scheduler, RequeuesAtOnceWhenAWorkerLeavesAndTakesItsLateSuccess) {
  Stage stage;
  stage.join(1), stage.submit(1);
  EXPECT_EQ(stage.tell(WorkerLost{{1}}), "requeue 1.1: worker-lost");
  EXPECT_EQ(stage.join(2), "assign 1.1 as 2 to 2");
  EXPECT_EQ(stage.join(1), "");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "stop 2 on 2; commit 1.1 succeeded after 2; job 1 succeeded");
  EXPECT_EQ(stage.done(2, stage.held(2, 1, 1)), "drop 1.1: task ended or unknown");
}

TEST(Scheduler, DropsALateFailureSinceANewerAttemptRuns) {
  Stage stage;
  stage.join(1), stage.submit(1), stage.tell(WorkerLost{{1}}), stage.join(2);
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1)), "drop 1.1: given to another worker since");
  EXPECT_EQ(stage.done(2, stage.held(2, 1, 1)), "commit 1.1 succeeded after 2; job 1 succeeded");
}

TEST(Scheduler, EndsALeaseAfterSilenceButNotWhileItIsRenewed) {
  Stage stage;
  stage.join(1), stage.submit(1, 2);
  EXPECT_EQ(stage.after(29s), "");
  EXPECT_EQ(stage.tell(LeaseRenewed{{1}, WorkerState::busy, {stage.held(1, 1, 1)}}), "");
  EXPECT_EQ(stage.after(29s), "");
  EXPECT_EQ(stage.after(2s), "requeue 1.1: lease-ended");  // and nothing for the silent one
  EXPECT_EQ(stage.after(25s), "");
  EXPECT_EQ(stage.tell(LeaseRenewed{{1}, WorkerState::free, {}}), "assign 1.1 as 2 to 1");
}

TEST(Scheduler, TakesBackAnAttemptThatWasGivenUpTooEarly) {
  Stage stage;
  stage.join(1), stage.submit(1), stage.tell(WorkerLost{{1}});
  EXPECT_EQ(stage.join(1, 1, {stage.held(1, 1, 1)}), "");  // it still runs it: adopted, not started again
  EXPECT_EQ(stage.core.state({{1}, {1}}), TaskState::running);
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded; job 1 succeeded");
}

TEST(Scheduler, RequeuesWhatARestartedWorkerForgot) {
  Stage stage;
  stage.join(1), stage.submit(1);
  EXPECT_EQ(stage.join(1), "requeue 1.1: worker-forgot-it; assign 1.1 as 2 to 1");
}

TEST(Scheduler, AdoptsAttemptsOfAnEarlierLifeAndFencesUnknownOnesOfItsOwn) {
  Stage stage({}, {5});
  stage.tell(JobRestored{Stage::simple_job(1, 3), {{{1}, TaskState::succeeded}}, false});
  EXPECT_EQ(stage.core.counts({1})->succeeded, 1u);
  const Held old{{{4}, 70}, {{1}, {2}}}, done{{{4}, 69}, {{1}, {1}}}, invented{{{5}, 9}, {{1}, {3}}};
  EXPECT_EQ(stage.join(1, 2, {old, done, invented}), "stop 69 on 1; stop 9 on 1; assign 1.3 as 1 to 1");
  EXPECT_EQ(stage.done(2, old), "drop 1.2: never given to this worker");
  EXPECT_EQ(stage.done(1, old), "commit 1.2 succeeded");
  EXPECT_EQ(stage.done(1, invented), "drop 1.3: never given to this worker");
  EXPECT_EQ(stage.done(1, done), "drop 1.1: committed already");
}

/// A life after the one that gave out what workers claim.
struct NextLife : Stage {
  explicit NextLife(std::uint64_t tasks = 1, Scheduler::Rules rules = {}, std::optional<VotesOf> votes_of = {}) : Stage(rules, {5}) {
    JobRestored restored{simple_job(1, tasks), {}, false};
    restored.job.terms.votes_of = votes_of;
    tell(restored);
  }
  static Held old(std::uint64_t attempt, std::uint64_t task = 1) { return {{{4}, attempt}, {{1}, {task}}}; }
};

TEST(Scheduler, AClaimOfAnEarlierLifeStopsNothingOfAnotherOwners) {
  for (const bool claim_first : {true, false}) {
    NextLife stage;
    // Worker 1 may have refused attempt 2, of which nothing is on disk; worker 2 has worked on attempt 3 since.
    EXPECT_EQ(claim_first ? stage.join(1, 1, {stage.old(2)}) : stage.join(2, 1, {stage.old(3)}), "");
    EXPECT_EQ(claim_first ? stage.join(2, 1, {stage.old(3)}) : stage.join(1, 1, {stage.old(2)}), "") << "both go on";
    EXPECT_EQ(stage.tell(LeaseRenewed{{1}, WorkerState::busy, {stage.old(2)}}), "");
    EXPECT_EQ(stage.join(3, 1, {stage.old(1)}), "stop 1 on 3") << "a third goes, older";
    EXPECT_EQ(stage.join(4, 1, {stage.old(4)}), "stop 4 on 4") << "or newer";
    for (const std::uint64_t worker : {3, 4}) {  // they do not stop, and say so again
      const std::uint64_t attempt = worker == 3 ? 1 : 4;
      EXPECT_EQ(stage.tell(LeaseRenewed{{worker}, WorkerState::busy, {stage.old(attempt)}}), "stop " + std::to_string(attempt) + " on " + std::to_string(worker));
    }
    if (claim_first) EXPECT_EQ(stage.done(2, stage.old(3)), "stop 2 on 1; commit 1.1 succeeded after 2; job 1 succeeded");
    else EXPECT_EQ(stage.done(3, stage.old(1)).substr(0, 8), "stop 3 o") << "its result may be on its disk already, and counts";
  }
}

TEST(Scheduler, BothThatClaimATaskCountAndEitherMayBeLost) {
  NextLife stage;
  stage.join(1, 1, {stage.old(2)}), stage.join(2, 1, {stage.old(3)});
  EXPECT_EQ(stage.tell(WorkerLost{{1}}), "");
  EXPECT_EQ(stage.core.runner({{1}, {1}}), WorkerId{2});
  EXPECT_EQ(stage.tell(WorkerLost{{2}}), "requeue 1.1: worker-lost");
  EXPECT_EQ(stage.join(3), "assign 1.1 as 1 to 3");
  EXPECT_EQ(stage.join(1, 1, {stage.old(2)}), "") << "nor does one that this life has adopted and given up";
  EXPECT_EQ(stage.done(1, stage.old(2)), "stop 1 on 3; commit 1.1 succeeded after 3; job 1 succeeded");
}

TEST(Scheduler, AClaimThatComesWhileAWorkerIsSilentDoesNotEndItsRun) {
  NextLife stage;
  EXPECT_EQ(stage.join(2), "assign 1.1 as 1 to 2");
  EXPECT_EQ(stage.after(31s), "requeue 1.1: lease-ended");
  EXPECT_EQ(stage.join(1, 1, {stage.old(2)}), "");
  EXPECT_EQ(stage.tell(LeaseRenewed{{2}, WorkerState::busy, {stage.held(1, 1, 1)}}), "") << "both go on";
}

TEST(Scheduler, OfTwoClaimsOfOneOwnerTheOlderStays) {
  for (const bool older_first : {true, false}) {
    NextLife stage;
    older_first ? stage.join_of(1, "ada", {stage.old(2)}) : stage.join_of(2, "ada", {stage.old(3)});
    EXPECT_EQ(older_first ? stage.join_of(2, "ada", {stage.old(3)}) : stage.join_of(1, "ada", {stage.old(2)}), "stop 3 on 2");
  }
}

TEST(Scheduler, OfTwoClaimsOfATaskWithVotesTheFirstStays) {
  for (const bool older_first : {true, false}) {
    NextLife stage(1, {}, VotesOf::owners);
    older_first ? stage.join(1, 1, {stage.old(2)}) : stage.join(2, 1, {stage.old(3)});
    EXPECT_EQ(older_first ? stage.join(2, 1, {stage.old(3)}) : stage.join(1, 1, {stage.old(2)}), older_first ? "stop 3 on 2" : "stop 2 on 1");
  }
}

TEST(Scheduler, WhoGoesWithoutAWordAgainAndAgainTakesATaskWithItOnce) {
  Stage stage;
  stage.join(1), stage.submit(1);
  EXPECT_EQ(stage.after(31s), "requeue 1.1: lease-ended");
  EXPECT_EQ(stage.join(2), "assign 1.1 as 2 to 2");
  stage.tell(WorkerLost{{1}});
  for (std::uint64_t n = 2; n <= 7; ++n) {
    stage.join(1);
    const std::string own = std::to_string(n) + ".1";
    EXPECT_EQ(stage.submit(n).substr(0, 10), "assign " + own);
    EXPECT_EQ(stage.tell(LeaseRenewed{{2}, WorkerState::busy, {stage.held(2, 1, 1)}}), "");
    for (int s = 0; s < 4; ++s) stage.after(8s), stage.tell(LeaseRenewed{{2}, WorkerState::busy, {stage.held(2, 1, 1)}});  // who is there speaks, the other does not
    stage.tell(JobHeld{{n}}), stage.tell(WorkerLost{{1}});
  }
  EXPECT_EQ(stage.tell(WorkerLost{{2}}), "requeue 1.1: worker-lost");
}

TEST(Scheduler, WhoRenewsWhatItGaveUpStopsNothingOfTwoOthers) {
  Stage stage;
  stage.join(1), stage.submit(1);
  EXPECT_EQ(stage.after(31s), "requeue 1.1: lease-ended");
  EXPECT_EQ(stage.join(2), "assign 1.1 as 2 to 2");
  EXPECT_EQ(stage.tell(WorkerLost{{1}}), "");
  EXPECT_EQ(stage.after(31s), "requeue 1.1: lease-ended");
  EXPECT_EQ(stage.join(3), "assign 1.1 as 3 to 3");
  EXPECT_EQ(stage.join(1, 1, {stage.held(1, 1, 1)}), "") << "both go on";
  EXPECT_EQ(stage.tell(LeaseRenewed{{2}, WorkerState::busy, {stage.held(2, 1, 1)}}), "stop 2 on 2") << "newer than the first, and yet nothing goes for it";
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)).substr(0, 9), "stop 3 on");
}

TEST(Scheduler, WhoLetsALeaseEndAndGoesOnStopsNothingOfAnotherOwners) {
  for (const bool older_first : {true, false}) {
    Stage stage;
    stage.join(1), stage.submit(1);
    EXPECT_EQ(stage.after(31s), "requeue 1.1: lease-ended");
    EXPECT_EQ(stage.join(2), "assign 1.1 as 2 to 2");
    EXPECT_EQ(stage.tell(LeaseRenewed{{1}, WorkerState::busy, {stage.held(1, 1, 1)}}), "") << "both go on";
    EXPECT_EQ(stage.join(1, 1, {stage.held(1, 1, 1)}), "");
    EXPECT_EQ(stage.core.attempts({{1}, {1}}), 2u);
    if (older_first) EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "stop 2 on 2; commit 1.1 succeeded after 2; job 1 succeeded");
    else EXPECT_EQ(stage.done(2, stage.held(2, 1, 1)), "stop 1 on 1; commit 1.1 succeeded after 2; job 1 succeeded");
  }
}

TEST(Scheduler, OfATaskWithVotesWhoLetsALeaseEndIsStopped) {
  Stage stage;
  stage.join(1);
  JobSubmitted job = Stage::simple_job(1);
  job.terms.votes_of = VotesOf::owners;
  stage.tell(job), stage.after(31s);
  EXPECT_EQ(stage.join(2), "assign 1.1 as 2 to 2");
  EXPECT_EQ(stage.tell(LeaseRenewed{{1}, WorkerState::busy, {stage.held(1, 1, 1)}}), "stop 1 on 1");
}

TEST(Scheduler, NobodyGathersAttemptsByLettingLeasesEnd) {
  Stage stage({.prefetch_all = 1});
  stage.join(1);
  std::vector<Held> all;
  for (std::uint64_t n = 1; n <= 3; ++n) {
    EXPECT_EQ(stage.submit(n), Stage::in_words(Assign{{1}, {{n}, {1}}, {stage.epoch, n}}));
    all.push_back(stage.held(n, n, 1));
    stage.after(31s), stage.tell(JobHeld{{n}});
    EXPECT_EQ(stage.tell(LeaseRenewed{{1}, WorkerState::free, {}}), "");
  }
  EXPECT_EQ(stage.tell(LeaseRenewed{{1}, WorkerState::busy, all}), "stop 3 on 1");
  EXPECT_EQ(stage.core.load({1})->held, 2u);
}

TEST(Scheduler, NobodyClaimsMoreOfAnEarlierLifeThanItMayHold) {
  NextLife stage(7, {.prefetch_all = 3});
  std::vector<Held> claims;
  for (std::uint64_t task = 1; task <= 7; ++task) claims.push_back(stage.old(10 + task, task));
  EXPECT_EQ(stage.join(1, 2, claims), "stop 16 on 1; stop 17 on 1");
  EXPECT_EQ(stage.core.load({1})->held, 5u);
  EXPECT_EQ(stage.join(1, 2, claims), "stop 16 on 1; stop 17 on 1") << "nor by saying it twice";
}

TEST(Scheduler, AnAttemptOlderThanItsJobIsOfAnotherJobThatHadTheNumber) {
  Stage stage({}, {5});
  stage.tell(JobRestored{Stage::simple_job(2, 2), {}, false, {}, {4}});
  const Held stranger{{{3}, 70}, {{2}, {1}}}, own{{{4}, 71}, {{2}, {2}}};
  EXPECT_EQ(stage.join(1, 2, {stranger, own}), "stop 70 on 1; assign 2.1 as 1 to 1");
  EXPECT_EQ(stage.done(1, stranger), "drop 2.1: never given to this worker");
  EXPECT_EQ(stage.done(1, own), "commit 2.2 succeeded");
}

TEST(Scheduler, BelievesNothingOfEpochsThatItsStoreLacks) {
  Stage stage({.lost = {{{5}, {8}}, {{20}, {20}}}}, {21});
  stage.tell(JobRestored{Stage::simple_job(1, 5), {}, false});
  const Held before{{{4}, 70}, {{1}, {1}}}, first{{{5}, 1}, {{1}, {2}}}, last{{{8}, 1}, {{1}, {3}}}, between{{{9}, 1}, {{1}, {4}}}, other{{{20}, 1}, {{1}, {5}}};
  EXPECT_EQ(stage.join(1, 5, {before, first, last, between, other}), "stop 1 on 1; stop 1 on 1; stop 1 on 1; assign 1.2 as 1 to 1; assign 1.3 as 2 to 1; assign 1.5 as 3 to 1");
  for (const Held& lost : {first, last, other}) EXPECT_EQ(stage.done(1, lost), "drop " + Stage::name(lost.task) + ": " + std::string(kOfLostEpoch));
  EXPECT_EQ(stage.done(1, before), "commit 1.1 succeeded");
  EXPECT_EQ(stage.done(1, between), "commit 1.4 succeeded");
}

TEST(Scheduler, TakesAResultOnlyFromTheWorkerItGaveTheAttemptTo) {
  Stage stage;
  stage.join(1), stage.submit(1), stage.join(2);
  EXPECT_EQ(stage.done(2, stage.held(1, 1, 1)), "drop 1.1: never given to this worker");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 2)), "drop 1.2: task ended or unknown");
  EXPECT_EQ(stage.done(1, stage.held(1, 7, 1)), "drop 7.1: task ended or unknown");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded; job 1 succeeded");
}

TEST(Scheduler, RetriesAFailureAsOftenAsAsked) {
  Stage stage;
  stage.join(1), stage.submit(1, 1, /*retries=*/1);
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1)), "requeue 1.1: failed; assign 1.1 as 2 to 1");
  EXPECT_EQ(stage.failed(1, stage.held(2, 1, 1), Cause::timed_out), "commit 1.1 failed after 2; job 1 failed");
  EXPECT_EQ(stage.core.counts({1})->retried, 1u);
}

TEST(Scheduler, DoesNotCountAgainstATaskThatItsWorkerWasStopped) {
  Stage stage;
  stage.join(1), stage.submit(1);
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1), Cause::canceled), "requeue 1.1: stopped-by-worker; assign 1.1 as 2 to 1");
  EXPECT_EQ(stage.done(1, stage.held(2, 1, 1)), "commit 1.1 succeeded after 2; job 1 succeeded");
}

TEST(Scheduler, GivesUpATaskThatTakesItsWorkersWithIt) {
  Stage stage({.crash_limit = 3});
  stage.submit(1);
  for (std::uint64_t worker = 1; worker <= 2; ++worker) {
    stage.join(worker);
    EXPECT_EQ(stage.tell(WorkerLost{{worker}}), "requeue 1.1: worker-lost");
  }
  stage.join(3);
  EXPECT_EQ(stage.tell(WorkerLost{{3}}), "give up 1.1 after 3; job 1 failed");
}

TEST(Scheduler, ARunnerThatDiesUnderATaskCountsLikeALostWorkerNotLikeAFailure) {
  Stage stage({.crash_limit = 2});
  stage.join(1), stage.submit(1);  // no retries
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1), Cause::lost), "requeue 1.1: runner-lost; assign 1.1 as 2 to 1");
  EXPECT_EQ(stage.core.counts({1})->requeued, 1u);
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1), Cause::lost), "drop 1.1: never given to this worker");  // said again
  EXPECT_EQ(stage.failed(1, stage.held(2, 1, 1), Cause::lost), "give up 1.1 after 2; job 1 failed");
}

TEST(Scheduler, CancelsWaitingTasksAtOnceAndRunningOnesByStoppingThem) {
  Stage stage;
  stage.join(1), stage.submit(1, 3);
  EXPECT_EQ(stage.tell(JobCanceled{{1}}), "stop 1 on 1");
  EXPECT_EQ(stage.core.counts({1})->canceled, 2u);
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1), Cause::canceled), "commit 1.1 canceled; job 1 canceled");
  EXPECT_EQ(stage.tell(JobCanceled{{1}}), "");
}

TEST(Scheduler, CancelsStretchesThatNeverRanAroundTasksThatDid) {
  Stage stage;
  JobRestored restored{Stage::simple_job(1, 10'000, 5), {{{2}, TaskState::succeeded}, {{3000}, TaskState::failed}, {{9999}, TaskState::succeeded}}, false};
  restored.past.push_back({{5000}, 3, 1, 2});  // it waits, with a past
  stage.tell(restored);
  stage.join(1, 3);                             // runs 1.1, 1.3 and 1.4
  stage.failed(1, stage.held(1, 1, 1));         // to run again
  EXPECT_EQ(stage.core.counts({1})->running, 3u);
  stage.tell(JobCanceled{{1}});
  const auto counts = *stage.core.counts({1});
  EXPECT_EQ(counts.waiting, 0u);
  EXPECT_EQ(counts.running, 3u);
  EXPECT_EQ(counts.succeeded, 2u);
  EXPECT_EQ(counts.failed, 1u);
  EXPECT_EQ(counts.canceled, 10'000u - 6);
  for (const std::uint64_t task : {6ull, 2047ull, 2048ull, 2049ull, 5000ull, 10'000ull}) EXPECT_EQ(stage.core.state({{1}, {task}}), TaskState::canceled) << task;
  EXPECT_EQ(stage.core.state({{1}, {2}}), TaskState::succeeded);
  EXPECT_EQ(stage.core.state({{1}, {3000}}), TaskState::failed);
  EXPECT_EQ(stage.tell(WorkerLost{{1}}), "job 1 canceled");
  EXPECT_EQ(stage.core.counts({1})->canceled, 10'000u - 3);
}

TEST(Scheduler, CancelingTenMillionTasksKeepsNobodyWaiting) {
  Stage stage;
  stage.join(1), stage.submit(1, 10'000'000);
  const std::clock_t before = std::clock();
  std::vector<Action> actions;
  stage.core.step(stage.now, JobCanceled{{1}}, actions);
  EXPECT_LT(static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC, 0.02);
  EXPECT_EQ(stage.core.counts({1})->canceled, 9'999'999u);
}

TEST(Scheduler, ACanceledTaskWhoseWorkerVanishesIsCanceledNotRequeued) {
  Stage stage;
  stage.join(1), stage.submit(1), stage.tell(JobCanceled{{1}});
  EXPECT_EQ(stage.tell(WorkerLost{{1}}), "job 1 canceled");
}

TEST(Scheduler, OwnersTakeTurns) {
  Stage stage;
  stage.submit(1, 100, 0, "ada"), stage.submit(2, 2, 0, "bob");
  EXPECT_EQ(stage.join(1, 4), "assign 1.1 as 1 to 1; assign 2.1 as 2 to 1; assign 1.2 as 3 to 1; assign 2.2 as 4 to 1");
}

TEST(Scheduler, DrainingAndPausedWorkersGetNothing) {
  Stage stage;
  auto paused = Stage::simple_worker(1);
  paused.state = WorkerState::paused;
  stage.tell(paused);
  EXPECT_EQ(stage.submit(1), "");
  EXPECT_EQ(stage.tell(WorkerChanged{{1}, WorkerState::free}), "assign 1.1 as 1 to 1");
  stage.submit(2);
  EXPECT_EQ(stage.tell(LeaseRenewed{{1}, WorkerState::draining, {stage.held(1, 1, 1)}}), "");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded; job 1 succeeded");
}

TEST(Scheduler, GivesShortTasksAheadOfTheSlotsAndLongOnesNot) {
  Stage stage;
  stage.join(1, 1), stage.submit(1, 200);
  EXPECT_EQ(stage.core.load({1})->held, 1u);
  stage.done(1, stage.held(1, 1, 1), 5ms);  // 100 ms ahead: twenty more
  EXPECT_EQ(stage.core.load({1})->held, 21u);
  // Handed back behind something long: from then on as many as slots.
  for (std::uint64_t attempt = 3; attempt <= 22; ++attempt) stage.tell(AttemptReturned{{1}, {{1}, attempt}});
  EXPECT_EQ(stage.core.load({1})->held, 1u);
  EXPECT_EQ(stage.core.counts({1})->waiting, 198u);
}

TEST(Scheduler, NoWorkerHoldsMoreAheadThanItsBound) {
  Stage stage;
  stage.join(1, 4), stage.submit(1, 10'000);
  stage.done(1, stage.held(1, 1, 1), 1us);
  EXPECT_EQ(stage.core.load({1})->held, 4u + 2048u);
}

TEST(Scheduler, WhatWasRefusedRunsElsewhere) {
  Stage stage;
  stage.join(1), stage.submit(1), stage.tell(WorkerChanged{{1}, WorkerState::draining}), stage.join(2);
  EXPECT_EQ(stage.tell(AttemptRefused{{1}, {{1}, 1}}), "requeue 1.1: refused; assign 1.1 as 2 to 2");
  EXPECT_EQ(stage.done(2, stage.held(2, 1, 1)), "commit 1.1 succeeded; job 1 succeeded");  // one attempt: the first never ran
}

TEST(Scheduler, AJobOfNoTasksEndsAtOnce) {
  Stage stage;
  EXPECT_EQ(stage.submit(1, 0), "job 1 succeeded");
}

TEST(Scheduler, ARestoredCanceledJobEnds) {
  Stage stage;
  EXPECT_EQ(stage.tell(JobRestored{Stage::simple_job(1, 2), {{{1}, TaskState::succeeded}}, true}), "job 1 canceled");
}

TEST(Scheduler, GivesNothingOutWhileWorkersMayStillClaimWhatTheyRun) {
  Stage stage({}, {5});
  stage.tell(MarketClosed{});
  stage.tell(JobRestored{Stage::simple_job(1, 2), {}, false});
  EXPECT_EQ(stage.join(1, 4), "");  // has nothing; would otherwise be given what the other one runs
  EXPECT_EQ(stage.join(2, 4, {{{{4}, 7}, {{1}, {1}}}}), "");
  EXPECT_EQ(stage.tell(MarketOpened{}), "assign 1.2 as 1 to 1");
}

TEST(Scheduler, SilenceOfAClosedMarketEndsNoLease) {
  Stage stage;
  stage.join(1), stage.submit(1);
  stage.tell(MarketClosed{});
  EXPECT_EQ(stage.after(600s), "");
  EXPECT_EQ(stage.tell(MarketOpened{}), "");
  EXPECT_EQ(stage.after(29s), "");
  EXPECT_EQ(stage.after(2s), "requeue 1.1: lease-ended");
}

TEST(Scheduler, ANewerAttemptThatSucceedsBeforeItIsStoppedCounts) {
  Stage stage;
  stage.join_of(1, "eve"), stage.submit(1), stage.tell(WorkerLost{{1}}), stage.join_of(2, "eve");
  EXPECT_EQ(stage.join_of(1, "eve", {stage.held(1, 1, 1)}), "stop 2 on 2");  // the older one was running all the time
  EXPECT_EQ(stage.done(2, stage.held(2, 1, 1)), "stop 1 on 1; commit 1.1 succeeded after 2; job 1 succeeded");
}

TEST(Scheduler, WhatIsGivenOutAfterAStandstillHasNoLongerLease) {
  Stage stage;
  stage.join(1, 1), stage.after(5s);
  stage.now += 100s;  // the manager stood still; what came meanwhile is read before its timer fires
  EXPECT_EQ(stage.submit(1), "assign 1.1 as 1 to 1");
  EXPECT_EQ(stage.after(30s), "");
  EXPECT_EQ(stage.after(2s), "requeue 1.1: lease-ended");
}

TEST(Scheduler, AManagerThatStoodStillBlamesNobody) {
  Stage stage;
  stage.join(1), stage.submit(1), stage.after(1s);
  stage.now += 100s;
  EXPECT_EQ(stage.tell(Tick{}), "");
  EXPECT_EQ(stage.after(20s), "");
}

TEST(Scheduler, SilenceNeverGivesUpATask) {
  Stage stage({.crash_limit = 2});
  stage.join(1), stage.submit(1);
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(stage.after(31s), "requeue 1.1: lease-ended");
    EXPECT_NE(stage.tell(LeaseRenewed{{1}, WorkerState::free, {}}), "");
  }
}

TEST(Scheduler, OfTwoAttemptsOfOneOwnerTheOneThatRanLongerIsKept) {
  Stage stage;
  stage.join_of(1, "eve"), stage.submit(1), stage.tell(WorkerLost{{1}}), stage.join_of(2, "eve");
  EXPECT_EQ(stage.join_of(1, "eve", {stage.held(1, 1, 1)}), "stop 2 on 2");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded after 2; job 1 succeeded");
}

TEST(Scheduler, SaysStopAgainToAWorkerThatGoesOn) {
  Stage stage;
  stage.join(1), stage.submit(1);
  EXPECT_EQ(stage.tell(JobCanceled{{1}}), "stop 1 on 1");
  EXPECT_EQ(stage.tell(LeaseRenewed{{1}, WorkerState::busy, {stage.held(1, 1, 1)}}), "stop 1 on 1");
}

TEST(Scheduler, AWorkerThatRefusedIsNotAskedAgainAtOnce) {
  Stage stage;
  stage.join(1), stage.submit(1);
  EXPECT_EQ(stage.tell(AttemptRefused{{1}, {{1}, 1}}), "requeue 1.1: refused");
  EXPECT_EQ(stage.after(1s), "assign 1.1 as 2 to 1");
}

TEST(Scheduler, ASmallJobDoesNotWaitBehindALargeOneOfItsOwner) {
  Stage stage;
  stage.submit(1, 1000), stage.submit(2, 1);
  EXPECT_EQ(stage.join(1, 3), "assign 1.1 as 1 to 1; assign 2.1 as 2 to 1; assign 1.2 as 3 to 1");
}

}  // namespace souk
