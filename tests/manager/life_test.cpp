// The life of jobs: dependencies, holds, retries, limits on failures, deadlines, second attempts, black holes.
#include <gtest/gtest.h>

#include <deque>

#include "stage.h"

namespace souk {
namespace {
using namespace std::chrono_literals;

/// A job of groups, each with the groups it needs.
JobSubmitted graph(std::uint64_t id, std::vector<std::pair<std::uint64_t, std::vector<Group::After>>> groups) {
  JobSubmitted job{{id}, "ada", {}, {}};
  for (auto& [tasks, after] : groups) {
    Group group;
    group.tasks = tasks, group.after = std::move(after);
    job.groups.push_back(std::move(group));
  }
  return job;
}

TEST(Life, GroupsWaitForWhatTheyNeed) {
  Stage stage;
  stage.join(1, 4);
  EXPECT_EQ(stage.tell(graph(1, {{2, {}}, {2, {{0}}}, {1, {{0}, {1}}}})), "assign 1.1 as 1 to 1; assign 1.2 as 2 to 1");
  EXPECT_EQ(stage.core.why({{1}, {5}}).summary, "it waits for 2 groups of its job to end");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded");
  EXPECT_EQ(stage.done(1, stage.held(2, 1, 2)), "commit 1.2 succeeded; assign 1.3 as 3 to 1; assign 1.4 as 4 to 1");
  stage.done(1, stage.held(3, 1, 3));
  EXPECT_EQ(stage.done(1, stage.held(4, 1, 4)), "commit 1.4 succeeded; assign 1.5 as 5 to 1");
  EXPECT_EQ(stage.done(1, stage.held(5, 1, 5)), "commit 1.5 succeeded; job 1 succeeded");
}

TEST(Life, WhatNeedsAFailedGroupIsCanceledButNotWhatTakesAnyEnd) {
  Stage stage;
  stage.join(1);
  stage.tell(graph(1, {{1, {}}, {3, {{0}}}, {1, {{1}}}, {1, {{0, true}}}}));
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1)), "commit 1.1 failed; assign 1.6 as 2 to 1");
  EXPECT_EQ(stage.core.counts({1})->canceled, 4u);
  EXPECT_EQ(stage.done(1, stage.held(2, 1, 6)), "commit 1.6 succeeded; job 1 failed");
}

TEST(Life, AChainOfAHundredThousandGroupsIsCanceledInOneGo) {
  Scheduler core({1}, {});
  std::vector<Action> actions;
  JobSubmitted job{{1}, "ada", {Group{}}, {}};
  for (std::uint32_t i = 1; i < 100'000; ++i) {
    Group group;
    group.after = {{i - 1, false}};
    job.groups.push_back(group);
  }
  core.step(Instant{}, job, actions);
  core.step(Instant{}, Stage::simple_worker(1), actions);
  core.step(Instant{}, AttemptFinished{{1}, {{{1}, 1}, {{1}, {1}}}, Cause::exited, false, 1s, 1}, actions);
  EXPECT_EQ(core.counts({1})->canceled, 99'999u);
}

TEST(Life, AJobWaitsForOthersAndEndsWithThem) {
  Stage stage;
  stage.join(1, 4);
  stage.submit(1), stage.submit(2);
  auto after = Stage::simple_job(3);
  after.terms.after = {{{1}, false}, {{2}, true}};
  EXPECT_EQ(stage.tell(after), "");
  EXPECT_EQ(stage.core.note({3}), "waits for job 1");
  EXPECT_EQ(stage.failed(1, stage.held(2, 2, 1)), "commit 2.1 failed; job 2 failed");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded; job 1 succeeded; assign 3.1 as 3 to 1");
  auto never = Stage::simple_job(4);
  never.terms.after = {{{2}, false}};
  auto chained = Stage::simple_job(6);
  chained.terms.after = {{{5}, false}};
  EXPECT_EQ(stage.tell(never), "job 4 canceled");
  auto held = Stage::simple_job(5);
  held.terms.hold = true;
  stage.tell(held), stage.tell(chained);
  EXPECT_EQ(stage.tell(JobCanceled{{5}}), "job 5 canceled; job 6 canceled");
}

TEST(Life, AHeldJobStartsNothingMore) {
  Stage stage;
  stage.join(1, 2);
  stage.submit(1, 3);
  EXPECT_EQ(stage.tell(JobHeld{{1}}), "");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded");
  EXPECT_EQ(stage.core.note({1}), "held");
  EXPECT_EQ(stage.tell(JobReleased{{1}}), "assign 1.3 as 3 to 1");
}

TEST(Life, RetriesWaitLongerEachTimeAndGoElsewhere) {
  Stage stage;
  auto job = Stage::simple_job(1, 1, 3);
  job.groups[0].retry.delay = 10s;
  stage.join(1), stage.join(2);
  EXPECT_EQ(stage.tell(job), "assign 1.1 as 1 to 1");
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1)), "requeue 1.1: failed");
  const auto first = *stage.core.wake_at() - stage.now;
  EXPECT_GE(first, 7500ms);
  EXPECT_LE(first, 12500ms);
  EXPECT_EQ(stage.after(first - 1ms), "");
  stage.now += 1ms;
  EXPECT_EQ(stage.tell(Tick{}), "assign 1.1 as 2 to 2");  // not where it failed
  stage.failed(2, stage.held(2, 1, 1));
  const auto second = *stage.core.wake_at() - stage.now;
  EXPECT_GE(second, 15s);
  EXPECT_LE(second, 25s);
}

TEST(Life, ARetryWaitsALittleForAnotherWorkerButNotForEver) {
  Stage stage;
  stage.join(1), stage.join(2);
  stage.submit(1, 1, 1), stage.submit(2, 1);  // the second keeps the other worker busy
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1)), "requeue 1.1: failed");
  EXPECT_EQ(stage.after(10s), "");
  EXPECT_EQ(stage.core.why({{1}, {1}}).summary, "it failed where there is room now, and waits a little for another worker");
  stage.tell(LeaseRenewed{{2}, WorkerState::busy, {stage.held(2, 2, 1)}});
  EXPECT_EQ(stage.after(22s), "assign 1.1 as 3 to 1");
}

TEST(Life, WhatOneWorkerRefusesAnotherGets) {
  Stage stage;
  stage.join(1, 4), stage.join(2, 1);
  stage.submit(1);  // the larger one says that it has room, and refuses
  EXPECT_EQ(stage.tell(AttemptRefused{{1}, {stage.epoch, 1}}), "requeue 1.1: refused; assign 1.1 as 2 to 2");
}

TEST(Life, AWorkerThatKeepsRefusingIsAskedLessAndLess) {
  Stage stage;
  stage.join(1), stage.submit(1);
  int asked = 0;
  for (int second = 0; second < 120; ++second) {
    for (bool again = true; again;) {
      again = false;
      for (const Action& action : std::vector(stage.actions))
        if (const auto* a = std::get_if<Assign>(&action)) ++asked, stage.tell(AttemptRefused{{1}, a->attempt}), again = true;
    }
    stage.now += 1s;
    stage.tell(Tick{});
  }
  EXPECT_GE(asked, 5);
  EXPECT_LE(asked, 9);
}

TEST(Life, AMachineThatDiesSilentlyCountsAgainstItsTask) {
  Stage stage({.crash_limit = 2});
  stage.join(1), stage.submit(1);
  EXPECT_EQ(stage.after(31s), "requeue 1.1: lease-ended");
  EXPECT_EQ(stage.tell(WorkerLost{{1}}), "");  // only now somebody sees that it is gone
  EXPECT_EQ(stage.join(2), "assign 1.1 as 2 to 2");
  EXPECT_EQ(stage.tell(WorkerLost{{2}}), "give up 1.1 after 2; job 1 failed");
}

TEST(Life, ASilentWorkerIsTriedAgainAfterALeaseThenAfterTwo) {
  Stage stage;
  stage.join(1), stage.submit(1);
  EXPECT_EQ(stage.after(31s), "requeue 1.1: lease-ended");
  EXPECT_EQ(stage.after(31s), "assign 1.1 as 2 to 1");
  EXPECT_EQ(stage.after(31s), "requeue 1.1: lease-ended");
  EXPECT_EQ(stage.after(55s), "");
  EXPECT_EQ(stage.after(6s), "assign 1.1 as 3 to 1");
}

TEST(Life, ShortTasksOfSmallGroupsAreGivenAheadToo) {
  Stage stage;
  std::vector<std::pair<std::uint64_t, std::vector<Group::After>>> groups(40, {1, {}});
  stage.join(1);
  EXPECT_EQ(stage.tell(graph(1, groups)), "assign 1.1 as 1 to 1");
  stage.now += 1ms;
  stage.done(1, stage.held(1, 1, 1), 1ms);
  EXPECT_GT(stage.core.load({1})->held, 10u);
}

TEST(Life, OneOwnerAtALimitDoesNotKeepOthersFromSecondAttempts) {
  Stage stage({.lease = 1h});
  stage.tell(OwnerSet{"ada", 1, 4});
  stage.join(1, 8), stage.join(2, 8);
  for (const char* owner : {"ada", "bob"}) {
    auto job = Stage::simple_job(owner[0] == 'a' ? 1 : 2, owner[0] == 'a' ? 7 : 4, 0, owner);
    job.terms.speculate = true;
    stage.tell(job);
  }
  stage.now += 1s;
  for (std::uint64_t n : {1, 2, 3}) stage.done(stage.core.runner({{1}, {n}})->value, stage.held(n, 1, n), 1s);
  for (std::uint64_t n : {5, 6, 7}) stage.done(stage.core.runner({{2}, {n - 4}})->value, stage.held(n, 2, n - 4), 1s);
  EXPECT_EQ(stage.core.counts({1})->running, 4u);  // at the limit
  EXPECT_NE(stage.after(4s).find("assign 2.4"), std::string::npos);
}

TEST(Life, WhatARequestWouldFindIsRankedBySpeed) {
  Stage stage;
  for (const std::uint64_t id : {1, 2}) {
    auto joined = Stage::simple_worker(id);
    Offer offer = *joined.offer;
    offer.speed = id == 1 ? 0.2 : 1.1;
    joined.offer = std::make_shared<const Offer>(offer);
    stage.tell(joined);
  }
  EXPECT_EQ(stage.core.fit(Group{}, {"ada", {}}).best, (std::vector{WorkerId{2}, WorkerId{1}}));
}

TEST(Life, WhySaysThatItCouldNotEndBeforeItsDeadline) {
  Stage stage({.lease = 1h});
  stage.join(1);
  auto job = Stage::simple_job(1, 2);
  job.terms.deadline = stage.now + 100s;
  stage.tell(job);
  stage.now += 60s;
  stage.done(1, stage.held(1, 1, 1), 60s);
  const auto why = stage.core.why({{1}, {2}});
  EXPECT_EQ(why.summary, "1 of 1 worker could run it, and none of them takes it now");
  ASSERT_EQ(why.reasons.size(), 1u);
  EXPECT_EQ(why.reasons[0].why, "it could not end there before its deadline");
}

TEST(Life, OnlySomeExitCodesAreWorthARetry) {
  Stage stage;
  auto job = Stage::simple_job(1, 2, 5);
  job.groups[0].retry.codes = {{75, 75}, {100, 110}};
  stage.join(1);
  stage.tell(job);
  const auto fails = [&](std::uint64_t attempt, std::uint64_t task, int code) {
    return stage.tell(AttemptFinished{{1}, stage.held(attempt, 1, task), Cause::exited, false, 1s, code});
  };
  EXPECT_EQ(fails(1, 1, 104), "requeue 1.1: failed; assign 1.1 as 2 to 1");
  EXPECT_EQ(fails(2, 1, 3), "commit 1.1 failed after 2; assign 1.2 as 3 to 1");
}

TEST(Life, TooManyFailuresEndTheJob) {
  Stage stage;
  auto job = Stage::simple_job(1, 100);
  job.terms.max_fails = 1;
  stage.join(1, 3);
  stage.tell(job);
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1)), "commit 1.1 failed; assign 1.4 as 4 to 1");
  EXPECT_EQ(stage.failed(1, stage.held(2, 1, 2)), "commit 1.2 failed; stop 3 on 1; stop 4 on 1");
  EXPECT_EQ(stage.core.note({1}), "more than 1 task failed");
  stage.failed(1, stage.held(3, 1, 3), Cause::canceled);
  EXPECT_EQ(stage.done(1, stage.held(4, 1, 4)), "commit 1.4 succeeded; job 1 failed");
  EXPECT_EQ(stage.core.counts({1})->canceled, 97u);
}

TEST(Life, ALateTaskAtTheEndGetsASecondAttemptAndTheFirstResultWins) {
  Stage stage;
  auto job = Stage::simple_job(1, 4);
  job.terms.speculate = true;
  stage.join(1, 4), stage.join(2, 1);
  stage.tell(job);
  std::vector<std::pair<std::uint64_t, Held>> runs;
  for (const Action& action : stage.actions)
    if (const auto* a = std::get_if<Assign>(&action)) runs.push_back({a->worker.value, {a->attempt, a->task}});
  ASSERT_EQ(runs.size(), 4u);
  stage.now += 2s;
  for (int i = 0; i < 3; ++i) stage.done(runs[i].first, runs[i].second, 2s);
  const auto [slow, what] = runs[3];
  const std::uint64_t other = slow == 1 ? 2 : 1;
  EXPECT_EQ(stage.after(2s), "");
  EXPECT_EQ(stage.after(2s), "assign 1.4 as 5 to " + std::to_string(other));
  EXPECT_EQ(stage.core.attempts({{1}, {4}}), 2u);
  EXPECT_EQ(stage.done(other, stage.held(5, 1, 4), 1s), "stop 4 on " + std::to_string(slow) + "; commit 1.4 succeeded after 2; job 1 succeeded");
  EXPECT_EQ(stage.done(slow, what), "drop 1.4: task ended or unknown");
}

TEST(Life, OfTwoAttemptsOneMayFailOrBeLost) {
  Stage stage({.lease = 1h});
  auto job = Stage::simple_job(1, 5);
  job.terms.speculate = true;
  stage.join(1, 5), stage.join(2, 5);
  stage.tell(job);
  std::vector<std::pair<std::uint64_t, Held>> runs;
  for (const Action& action : stage.actions)
    if (const auto* a = std::get_if<Assign>(&action)) runs.push_back({a->worker.value, {a->attempt, a->task}});
  stage.now += 1s;
  for (int i = 0; i < 3; ++i) stage.done(runs[i].first, runs[i].second, 1s);
  stage.after(3s);
  ASSERT_EQ(stage.core.attempts({{1}, {4}}), 2u);
  ASSERT_EQ(stage.core.attempts({{1}, {5}}), 2u);
  EXPECT_EQ(stage.failed(runs[3].first, runs[3].second), "");  // the other goes on
  EXPECT_EQ(stage.tell(WorkerLost{{runs[4].first}}).find("requeue 1.5"), std::string::npos);
  EXPECT_EQ(stage.core.state({{1}, {5}}), TaskState::running);
}

TEST(Life, AWorkerThatFailsWhatOthersDoWellIsSetAside) {
  Stage stage;
  stage.join(1), stage.join(2);
  stage.submit(1, 100);
  Held good{}, bad{};
  const auto take = [&] {
    for (const Action& action : stage.actions)
      if (const auto* a = std::get_if<Assign>(&action)) (a->worker == WorkerId{1} ? good : bad) = {a->attempt, a->task};
  };
  take();
  std::string said;
  for (int i = 0; i < 4; ++i) said = stage.failed(2, bad), take();
  EXPECT_EQ(said.find("set aside"), std::string::npos) << said;
  for (int i = 0; i < 8; ++i) stage.done(1, good), take();  // meanwhile others do them well
  said = stage.failed(2, bad), take();
  EXPECT_NE(said.find("set aside 2: its last 5 attempts of job 1 failed, and others did them well"), std::string::npos) << said;
  EXPECT_FALSE(stage.core.load({2})->set_aside.empty());
  EXPECT_EQ(stage.core.load({2})->held, 0u);
  stage.tell(LeaseRenewed{{2}, WorkerState::free, {}});  // saying hello does not help
  EXPECT_EQ(stage.core.load({2})->held, 0u);
  EXPECT_NE(stage.after(5min).find("to 2"), std::string::npos);  // it gets another chance
}

TEST(Life, AJobThatFailsEverywhereBlamesNobody) {
  Stage stage;
  stage.join(1), stage.join(2);
  stage.submit(1, 40);
  for (int i = 0; i < 20; ++i)
    for (const std::uint64_t worker : {1, 2})
      for (std::uint64_t task = 1; task <= 40; ++task)
        if (stage.core.runner({{1}, {task}}) == WorkerId{worker}) {
          const std::string said = stage.failed(worker, stage.held(task, 1, task));
          EXPECT_EQ(said.find("set aside"), std::string::npos) << said;
          break;
        }
  EXPECT_EQ(stage.core.counts({1})->failed, 40u - stage.core.counts({1})->running - stage.core.counts({1})->waiting);
}

TEST(Life, AWorkerThatFailsEverythingAtOnceWaitsForTheVerdictOfOthers) {
  Stage stage;
  stage.join(1), stage.join(2);
  stage.submit(1, 100);
  Held bad{};
  const auto take = [&] {
    bad = {};
    for (const Action& action : stage.actions)
      if (const auto* a = std::get_if<Assign>(&action); a && a->worker == WorkerId{2}) bad = {a->attempt, a->task};
  };
  take();
  int failures = 0;
  for (; bad.attempt.number != 0 && failures < 50; ++failures) stage.failed(2, bad), take();
  EXPECT_EQ(failures, 5);  // and not the whole job, while the other is still at its first task
}

TEST(Life, AWorkerThatFailsSingleTasksOfManyJobsIsFoundOut) {
  Stage stage;
  stage.join(1, 4), stage.join(2, 4);
  std::deque<std::pair<std::uint64_t, Held>> running;
  std::string all;
  const auto take = [&](const std::string& said) {
    all += said;
    for (const Action& action : stage.actions)
      if (const auto* a = std::get_if<Assign>(&action)) running.push_back({a->worker.value, {a->attempt, a->task}});
  };
  for (std::uint64_t job = 1; job <= 20; ++job) take(stage.submit(job, 1, 1));
  int failures = 0;
  while (!running.empty()) {
    const auto [worker, what] = running.front();
    running.pop_front();
    failures += worker == 2;
    take(worker == 2 ? stage.failed(2, what) : stage.done(1, what));
    if (running.empty()) stage.now += 1s, take(stage.tell(Tick{}));
  }
  EXPECT_NE(all.find("set aside 2: its last 5 failures were done well by others"), std::string::npos);
  for (std::uint64_t job = 1; job <= 20; ++job) EXPECT_EQ(stage.core.counts({job})->succeeded, 1u) << job;  // each had its retry elsewhere
  EXPECT_LE(failures, 12);
}

TEST(Life, ABadWorkerThatJoinsLateDoesNotEatTheJob) {
  Stage stage;
  stage.join(1);
  stage.submit(1, 300);
  Held good = {{stage.epoch, 1}, {{1}, {1}}}, bad{};
  const auto take = [&] {
    for (const Action& action : stage.actions)
      if (const auto* a = std::get_if<Assign>(&action)) (a->worker == WorkerId{1} ? good : bad) = {a->attempt, a->task};
  };
  for (int i = 0; i < 20; ++i) stage.now += 3s, stage.done(1, good, 3s), take();
  stage.join(2), take();
  int failures = 0;
  for (; bad.attempt.number != 0 && failures < 100; ++failures) {
    const Held what = std::exchange(bad, {});
    stage.failed(2, what), take();
  }
  EXPECT_EQ(failures, 5);
  stage.now += 3s, stage.done(1, good, 3s), take();  // the verdict
  stage.after(2s), take();
  if (bad.attempt.number != 0) stage.failed(2, std::exchange(bad, {}));
  EXPECT_FALSE(stage.core.load({2})->set_aside.empty());
}

TEST(Life, AWorkerThatCannotMakeTheDeadlineDoesNotHoldUpOneThatCan) {
  Stage stage({.lease = 1h, .prefetch = 0s});
  stage.join(1), stage.join(2);
  auto job = Stage::simple_job(1, 1000);
  job.terms.deadline = stage.now + 100s;
  stage.tell(job);
  Held fast = {{stage.epoch, 1}, {{1}, {1}}};
  stage.now += 80s;
  stage.done(2, {{stage.epoch, 2}, {{1}, {2}}}, 80s);  // it takes 80 s: too long now
  int done = 0;
  for (; done < 50; ++done) {
    stage.now += 100ms;
    stage.done(1, fast, 100ms);
    const auto* next = [&]() -> const Assign* {
      for (const Action& action : stage.actions)
        if (const auto* a = std::get_if<Assign>(&action); a && a->worker == WorkerId{1}) return a;
      return nullptr;
    }();
    if (!next) break;
    fast = {next->attempt, next->task};
  }
  EXPECT_EQ(done, 50);
}

TEST(Life, SpeculatesOnAGroupWhileLaterOnesWaitForIt) {
  Stage stage({.lease = 1h});
  auto job = graph(1, {{4, {}}, {1, {{0}}}});
  job.terms.speculate = true;
  stage.join(1, 4), stage.join(2, 4);
  stage.tell(job);
  std::vector<std::pair<std::uint64_t, Held>> runs;
  for (const Action& action : stage.actions)
    if (const auto* a = std::get_if<Assign>(&action)) runs.push_back({a->worker.value, {a->attempt, a->task}});
  stage.now += 1s;
  for (int i = 0; i < 3; ++i) stage.done(runs[i].first, runs[i].second, 1s);
  EXPECT_NE(stage.after(3s).find("assign 1.4 as 5"), std::string::npos);
}

TEST(Life, AJobRunsAgainAndKeepsWhatSucceeded) {
  Stage stage;
  stage.join(1);
  stage.submit(1, 2);
  stage.done(1, stage.held(1, 1, 1));
  EXPECT_EQ(stage.failed(1, stage.held(2, 1, 2)), "commit 1.2 failed; job 1 failed");
  EXPECT_EQ(stage.tell(JobRestored{Stage::simple_job(1, 2), {{{1}, TaskState::succeeded}}, false, {{{2}, 1}}}), "assign 1.2 as 3 to 1");
  EXPECT_EQ(stage.done(1, stage.held(3, 1, 2)), "commit 1.2 succeeded after 2; job 1 succeeded");  // runs are numbered on
}

/// A job whose tasks may fail twice, 10 s apart, and take two workers with them.
JobSubmitted delicate(std::uint64_t tasks) {
  auto job = Stage::simple_job(1, tasks, 2);
  job.groups[0].retry.delay = 10s;
  job.terms.crash_limit = 2;
  return job;
}

TEST(Life, ATaskGoesOnInTheNextLifeFromWhatItWentThrough) {
  Stage stage({}, Epoch{3});
  stage.now += 1h;
  EXPECT_EQ(stage.tell(JobRestored{delicate(4), {{{4}, TaskState::succeeded}}, false, {{{1}, 1, 1, 0, stage.now + 5s}, {{2}, 4, 2, 1}, {{4}, 2, 1}, {{9}, 1}}}), "");
  EXPECT_EQ(stage.core.attempts({{1}, {1}}), 1u);
  EXPECT_EQ(stage.core.counts({1})->retried, 4u);
  EXPECT_EQ(stage.join(1), "assign 1.2 as 1 to 1");  // not the first one, whose time has not come
  EXPECT_EQ(stage.core.why({{1}, {1}}).summary, "it failed and runs again in 5 s");
  EXPECT_EQ(stage.core.attempts({{1}, {2}}), 5u);
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 2)), "commit 1.2 failed after 5; assign 1.3 as 2 to 1");  // both its retries were before
  EXPECT_EQ(stage.done(1, stage.held(2, 1, 3)), "commit 1.3 succeeded");
  EXPECT_EQ(stage.after(4s), "");
  EXPECT_EQ(stage.after(1s), "assign 1.1 as 3 to 1");
  EXPECT_EQ(stage.failed(1, stage.held(3, 1, 1)), "requeue 1.1: failed");
  const auto& failed = std::get<Failed>(stage.actions.at(0));
  EXPECT_EQ(failed.run, 2u);
  EXPECT_EQ(failed.failures, 2u);
  EXPECT_EQ(failed.delay, *stage.core.wake_at() - stage.now);
  EXPECT_GE(failed.delay, 15s);  // the second one
  EXPECT_EQ(stage.after(26s), "assign 1.1 as 4 to 1");
  EXPECT_EQ(stage.failed(1, stage.held(4, 1, 1)), "commit 1.1 failed after 3; job 1 failed");
}

TEST(Life, WorkersLostInAnEarlierLifeCountAgainstTheirTask) {
  Stage stage({}, Epoch{2});
  stage.join(1);
  EXPECT_EQ(stage.tell(JobRestored{delicate(1), {}, false, {{{1}, 3, 0, 1}}}), "assign 1.1 as 1 to 1");
  EXPECT_EQ(stage.tell(WorkerLost{{1}}), "give up 1.1 after 4; job 1 failed");
  EXPECT_EQ(std::get<Failed>(stage.actions.at(0)).losses, 2u);
}

TEST(Life, ARetryOfAnEarlierLifeIsAdoptedButAFailureIsCountedOnce) {
  Stage stage({}, Epoch{2});
  stage.now += 1h;
  stage.tell(JobRestored{delicate(2), {}, false, {{{1}, 1, 1, 0, stage.now + 5s, {{1}, 7}}, {{2}, 1, 1, 0, stage.now + 5s, {{1}, 8}}}});
  // Task 1: its result is known, only the worker was not told. Task 2: an attempt that was lost before the other one failed.
  EXPECT_EQ(stage.join(1, 2, {{{{1}, 7}, {{1}, {1}}}, {{{1}, 6}, {{1}, {2}}}}), "stop 7 on 1");
  EXPECT_EQ(stage.core.state({{1}, {2}}), TaskState::running);
  EXPECT_EQ(stage.failed(1, {{{1}, 7}, {{1}, {1}}}), "drop 1.1: never given to this worker");
  EXPECT_EQ(stage.after(5s), "assign 1.1 as 1 to 1");
  EXPECT_EQ(stage.failed(1, stage.held(1, 1, 1)), "requeue 1.1: failed");
}

TEST(Life, ARetryOfAnEarlierLifeWaitsNoLongerThanAskedWhateverTheClockWas) {
  Stage stage({}, Epoch{2});
  auto job = delicate(1);
  job.groups[0].retry.delay_max = 20s;
  stage.join(1);
  stage.tell(JobRestored{job, {}, false, {{{1}, 1, 1, 0, stage.now + 24h}}});
  EXPECT_EQ(*stage.core.wake_at() - stage.now, 25s);
  EXPECT_EQ(stage.tell(JobCanceled{{1}}), "job 1 canceled");
  EXPECT_FALSE(stage.core.wake_at());
}

TEST(Life, WhyCountsReasonsOverWorkersAndNamesTheSmallestChange) {
  Stage stage;
  for (std::uint64_t id = 1; id <= 12; ++id) {
    auto joined = Stage::simple_worker(id, 4);
    Offer offer = *joined.offer;
    offer.memory_bytes = id == 12 ? 32ull << 30 : 8ull << 30;
    joined.offer = std::make_shared<const Offer>(offer);
    stage.tell(joined);
  }
  stage.tell(WorkerLost{{12}});
  auto job = Stage::simple_job(1);
  job.groups[0].needs.memory_bytes = 64ull << 30;
  stage.tell(job);
  const auto why = stage.core.why({{1}, {1}});
  EXPECT_EQ(why.summary, "none of the 11 workers here could run it");
  ASSERT_EQ(why.reasons.size(), 1u);
  EXPECT_EQ(why.reasons[0].workers, 11u);
  EXPECT_EQ(why.reasons[0].why, "memory 8 GiB < 64 GiB asked; largest seen 32 GiB");
  ASSERT_EQ(why.changes.size(), 1u);
  EXPECT_EQ(why.changes[0], "ask for 8 GiB of memory instead of 64 GiB");
  EXPECT_FALSE(stage.core.fit(job.groups[0], {"ada", {}}).seen);
  job.groups[0].needs.memory_bytes = 16ull << 30;
  EXPECT_TRUE(stage.core.fit(job.groups[0], {"ada", {}}).seen);
}

TEST(Life, WhyNamesTheSmallestChangeWhateverDoesNotFit) {
  Stage stage;
  for (std::uint64_t id = 1; id <= 3; ++id) {
    auto joined = Stage::simple_worker(id, id == 3 ? 2 : 1);
    Offer offer = *joined.offer;
    offer.os = "linux";
    joined.offer = std::make_shared<const Offer>(offer);
    stage.tell(joined);
  }
  Group group;
  const auto changes = [&] {
    const Fit fit = stage.core.fit(group, {"ada", {}});
    std::string all = std::to_string(fit.fitting);
    for (const std::string& change : fit.changes) all += " | " + change;
    return all;
  };
  EXPECT_EQ(changes(), "3");
  group.needs.cpus = 4;
  EXPECT_EQ(changes(), "0 | ask for 2 slots instead of 4");
  group.require = "os == \"beos\"";
  EXPECT_EQ(changes(), "0 | ask for 2 slots instead of 4, and do without `os == \"beos\"`");
  group.needs.cpus = 2;
  EXPECT_EQ(changes(), "0 | do without `os == \"beos\"`: 1 worker could run it then | ask for 1 slot instead of 2, and do without `os == \"beos\"`");
  group.needs.cpus = 1, group.require = "os == \"beos\" && cpus >= 2";
  EXPECT_EQ(changes(), "0 | do without `os == \"beos\"`: 1 worker could run it then | do without `os == \"beos\"` and `cpus >= 2`: 2 workers could run it then");
  group.require = "os == \"linux\"", group.needs.gpus = 1;
  EXPECT_EQ(changes(), "0 | do without gpus: 3 workers could run it then");
}

TEST(Life, WhyOfAJobTellsOfItsNextTask) {
  Stage stage;
  const auto why = [&stage](std::uint64_t job) {
    const auto told = stage.core.why({{job}, {}});
    return std::string(name_of(told.state)) + ", " + std::to_string(told.next.value) + ": " + told.summary;
  };
  stage.join(1, 2);
  stage.tell(graph(1, {{2, {}}, {1, {{0}}}, {1, {{1}}}}));
  EXPECT_EQ(why(1), "running, 3: it waits for 1 group of its job to end") << "not that its first task runs";
  stage.submit(2, 3);
  EXPECT_EQ(why(2), "waiting, 1: it waits for room: 1 of 1 worker could run it");
  stage.done(1, stage.held(1, 1, 1));
  EXPECT_EQ(why(2), "running, 2: it waits for room: 1 of 1 worker could run it");
  stage.tell(JobHeld{{2}});
  EXPECT_EQ(why(2), "running, 0: it is held");
  stage.done(1, stage.held(2, 1, 2));
  EXPECT_EQ(why(1), "running, 4: it waits for 1 group of its job to end");
  stage.tell(JobCanceled{{1}});
  EXPECT_EQ(why(1), "running, 0: 1 task of it runs, none waits; it is being canceled");
}

TEST(Life, WhyOfAJobOfOneTaskIsThatOfTheTask) {
  Stage stage;
  stage.join(1);
  stage.submit(1, 1);
  EXPECT_EQ(stage.core.why({{1}, {}}).summary, "it runs on w1 since 0 ms");
}

TEST(Life, WhyOfAJobNamesTheRetryThatIsNext) {
  Stage stage;
  stage.join(1);
  auto job = Stage::simple_job(1, 2, 1);
  job.groups[0].retry.delay = 10s;
  stage.tell(job);
  stage.failed(1, stage.held(1, 1, 1));
  stage.failed(1, stage.held(2, 1, 2));
  const auto told = stage.core.why({{1}, {}});
  EXPECT_EQ(told.next.value, 1u);
  EXPECT_EQ(told.summary.substr(0, 25), "it failed and runs again ");
}

TEST(Life, WhyTellsThePlaceInTheQueue) {
  Stage stage;
  stage.join(1, 1);
  stage.submit(1, 1, 0, "bob");
  stage.submit(2, 10);
  auto urgent = Stage::simple_job(3, 5);
  urgent.terms.priority = 1;
  stage.tell(urgent);
  const auto why = stage.core.why({{2}, {4}});
  EXPECT_EQ(why.summary, "it waits for room: 1 of 1 worker could run it");
  EXPECT_EQ(why.tasks_ahead, 8u);
  EXPECT_EQ(why.owners_waiting, 1u);
  EXPECT_EQ(why.owner_place, 1u);
  EXPECT_EQ(stage.core.why({{1}, {1}}).summary, "it runs on w1 since 0 ms");
}

TEST(Life, OfAForgottenJobNothingIsKnownAndAnOpenOneCannotBeForgotten) {
  Stage stage;
  stage.join(1);
  stage.submit(1), stage.submit(2);
  stage.done(1, stage.held(1, 1, 1));
  ASSERT_TRUE(stage.core.counts({1}));
  EXPECT_EQ(stage.tell(JobForgotten{{1}}), "");
  EXPECT_FALSE(stage.core.counts({1}));
  EXPECT_EQ(stage.tell(JobForgotten{{1}}), "");  // once more, or never known
  EXPECT_EQ(stage.tell(JobForgotten{{2}}), "");
  ASSERT_TRUE(stage.core.counts({2}));
  EXPECT_EQ(stage.done(1, stage.held(2, 2, 1)), "commit 2.1 succeeded; job 2 succeeded");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)).substr(0, 8), "drop 1.1");  // a late repeat
}

}  // namespace
}  // namespace souk
