// Which results count: votes, records, parked results, known answers, as stories.
#include <gtest/gtest.h>

#include <set>

#include "court.h"

namespace souk {
namespace {

using namespace std::chrono_literals;
using testing::Test;

Quorum adaptive(unsigned agree = 2, unsigned most = 3) { return {.agree = agree, .most = most, .adaptive = true}; }

/// One owner with a record, who runs as worker 1, and another as worker 2.
struct Trusting : Court {
  explicit Trusting(Jury::Rules rules = {.seed = {1, 2}}) : Court(rules) {
    join(1, "ada"), join(2, "bob");
    earn(100, 10, 1, 2);
    EXPECT_TRUE(jury.trusted("ada"));
    hear(WorkerLost{{2}});
  }
};

TEST(Jury, TakesWhatTwoOwnersSay) {
  Court court;
  court.join(1, "ada"), court.join(2, "bob");
  EXPECT_EQ(court.open(1, 1, {}), "assign 1.1 as 1 to 1");
  EXPECT_EQ(court.says(1, 1, 1, "42"), "assign 1.1 as 2 to 2");
  EXPECT_EQ(court.says(2, 1, 1, "42"), "commit 1.1 succeeded after 2; job 1 succeeded");
  EXPECT_EQ(court.committed.at({{1}, {1}}), "42");
  EXPECT_EQ(court.jury.record("ada").agreed, 1u);
  EXPECT_EQ(court.jury.record("bob").agreed, 1u);
}

TEST(Jury, AsksAnotherOwnerNotAnotherWorker) {
  Court court;
  court.join(1, "ada"), court.join(2, "ada");
  court.open(1, 1, {});
  EXPECT_EQ(court.says(1, 1, 1, "42"), "") << "the other worker is of the same owner";
  EXPECT_EQ(court.core.why({{1}, {1}}).summary, "1 result of it is in, and the next is to come from a worker of another owner, of which there is none in the market");
  EXPECT_EQ(court.wait(5s), "");
  EXPECT_EQ(court.join(3, "bob"), "assign 1.1 as 2 to 3");
  EXPECT_EQ(court.says(3, 1, 1, "42"), "commit 1.1 succeeded after 2; job 1 succeeded");
}

TEST(Jury, TakesWorkersForVotersWhereTheGridHasOneAccount) {
  Court court;
  court.join(1, "ada"), court.join(2, "ada");
  court.open(1, 1, {.of = VotesOf::workers});
  EXPECT_EQ(court.says(1, 1, 1, "42"), "assign 1.1 as 2 to 2");
  EXPECT_EQ(court.says(2, 1, 1, "42"), "commit 1.1 succeeded after 2; job 1 succeeded");
}

TEST(Jury, LeavesATaskAsideWhileTheOtherWorkerHasTooLittleRoomForIt) {
  Court court;
  court.join(2, "bob", 2);
  court.hear(Stage::simple_job(2)), court.hear(Stage::simple_job(3));
  court.join(1, "ada", 2);
  EXPECT_EQ(court.open_needing(4, 1, {}, 2), "assign 4.1 as 3 to 1");
  EXPECT_EQ(court.says(1, 4, 1, "42"), "") << "ada has two slots free and a say on it; bob has none";
  EXPECT_EQ(court.says(2, 2, 1, ""), "commit 2.1 succeeded; job 2 succeeded") << "one slot of bob's is not enough";
  EXPECT_EQ(court.says(2, 3, 1, ""), "commit 3.1 succeeded; job 3 succeeded; assign 4.1 as 4 to 2");
  EXPECT_EQ(court.says(2, 4, 1, "42"), "commit 4.1 succeeded after 2; job 4 succeeded");
}

TEST(Jury, WakesWhatFitsBehindWhatNeedsMoreMemoryThanIsLeft) {
  Court court;
  const auto join = [&](std::uint64_t id, const char* owner) {
    Offer offer;
    offer.slots = offer.cpus = 3, offer.memory_bytes = 4000;
    WorkerJoined joined = Stage::simple_worker(id, 3);
    joined.offer = std::make_shared<const Offer>(offer), joined.owner = owner;
    return court.hear(joined);
  };
  join(1, "ada");
  court.open_needing(1, 1, {}, 1, 3000), court.open_needing(2, 1, {}, 1, 3500), court.open_needing(3, 1, {}, 1, 1000);
  for (const std::uint64_t job : {1, 3, 2}) court.says(1, job, 1, "42");
  EXPECT_EQ(join(2, "bob"), "assign 1.1 as 4 to 2; assign 3.1 as 5 to 2");
  EXPECT_EQ(court.says(2, 1, 1, "42"), "commit 1.1 succeeded after 2; job 1 succeeded");
  EXPECT_EQ(court.says(2, 3, 1, "42"), "commit 3.1 succeeded after 2; job 3 succeeded; assign 2.1 as 6 to 2");
}

TEST(Jury, WhatNeedsMuchGetsAWorkerKeptThatMayVote) {
  Court court;
  court.join(1, "ada", 2);
  EXPECT_EQ(court.open_needing(1, 1, {}, 2), "assign 1.1 as 1 to 1");
  court.hear(Stage::simple_job(2, 1000, 0, "bob"));
  court.join(2, "eve", 2);
  court.says(1, 1, 1, "42");  // and so ada's worker is busy with small tasks too
  std::deque<std::pair<std::uint64_t, Held>> small;
  for (const auto& [attempt, at] : court.running) small.push_back({at.first.value, {attempt, at.second}});
  ASSERT_EQ(small.size(), 4u);
  // Every second one of them ends, so that never two slots of one worker are free by themselves.
  int seconds = 0;
  std::string told;
  for (; court.core.state({{1}, {1}}) == TaskState::waiting && seconds < 60; ++seconds) {
    court.wait(1s);
    const auto [worker, what] = small.front();
    small.pop_front();
    auto said = Court::outcome("");
    said.wall = 4s;
    court.says(worker, what, said);
    for (const auto& [attempt, at] : court.running)
      if (at.second.job == JobId{2} && std::none_of(small.begin(), small.end(), [&, id = attempt](const auto& one) { return one.second.attempt == id; })) small.push_back({at.first.value, {attempt, at.second}});
    if (const std::string why = court.core.why({{1}, {1}}).summary; why.find("kept") != std::string::npos) told = why;
  }
  EXPECT_LE(seconds, 10);
  EXPECT_NE(told.find("w2 is kept for it"), std::string::npos) << told;
  EXPECT_EQ(court.core.runner({{1}, {1}}), WorkerId{2});
  EXPECT_EQ(court.says(2, 1, 1, "42").substr(0, 29), "commit 1.1 succeeded after 2;");
}

TEST(Jury, WhatIsPassedOverAgainAndAgainGetsAWorkerKept) {
  Court court;
  court.join(1, "ada", 2);
  EXPECT_EQ(court.open_needing(1, 1, {}, 2), "assign 1.1 as 1 to 1");
  JobSubmitted small = Stage::simple_job(2, 1000);
  small.terms.priority = 1;
  court.hear(Stage::simple_job(3, 2)), court.join(2, "eve", 2);
  court.says(1, 1, 1, "42");
  court.hear(small);
  int rounds = 0;
  for (; court.core.state({{1}, {1}}) == TaskState::waiting && rounds < 8; ++rounds) {
    court.wait(3s);
    court.hear(WorkerChanged{{2}, WorkerState::draining});
    while (const auto task = court.task_of(2)) court.says(2, task->job.value, task->task.value, "");
    court.hear(WorkerChanged{{2}, WorkerState::free});  // there is room for it, and what has more priority takes that
  }
  EXPECT_EQ(rounds, 2) << "five seconds after it began to wait, and not after it was looked at";
}

TEST(Jury, KeepsNoWorkerForWhatItHasASayOn) {
  Stage stage({}, {5});
  stage.tell(JobRestored{Stage::simple_job(1, 4), {}, false});
  JobRestored wide{Stage::simple_job(2, 1), {}, false};
  wide.job.groups[0].needs.cpus = 2, wide.job.terms.votes_of = VotesOf::owners;
  Past past;
  past.task = {1}, past.runs = 1, past.voted = {"owner-1"};
  wide.past.push_back(past);
  stage.tell(wide);
  const auto old = [](std::uint64_t task) { return Held{{{4}, task}, {{1}, {task}}}; };
  stage.join(1, 2, {old(1), old(2)}), stage.join(2, 2, {old(3), old(4)});
  stage.after(10s);
  EXPECT_NE(stage.core.why({{2}, {1}}).summary.find("w2 is kept for it"), std::string::npos) << stage.core.why({{2}, {1}}).summary;
  stage.done(1, old(1));
  EXPECT_EQ(stage.done(1, old(2)), "commit 1.2 succeeded");
  EXPECT_NE(stage.core.why({{2}, {1}}).summary.find("w2 is kept for it"), std::string::npos) << "also when it was looked at where it has a say";
  stage.done(2, old(3));
  EXPECT_EQ(stage.done(2, old(4)), "commit 1.4 succeeded; job 1 succeeded; assign 2.1 as 1 to 2");
}

TEST(Jury, FindsWhoIsOutvoted) {
  Court court;
  court.join(1, "ada"), court.join(2, "bob"), court.join(3, "eve");
  court.open(1, 1, {});
  EXPECT_EQ(court.says(1, 1, 1, "42"), "assign 1.1 as 2 to 2");
  EXPECT_EQ(court.says(2, 1, 1, "41"), "assign 1.1 as 3 to 3");
  EXPECT_EQ(court.says(3, 1, 1, "42"), "commit 1.1 succeeded after 3; job 1 succeeded; caught bob (1)");
  EXPECT_EQ(court.jury.record("bob"), (TrustRecord{0, 1}));
  EXPECT_EQ(court.jury.record("eve"), (TrustRecord{1, 0}));
  ASSERT_FALSE(court.records.empty());
  EXPECT_EQ(court.records.back().voter, "bob") << "it is to be kept";
}

TEST(Jury, FailsATaskOfWhichNobodyKnowsWhatIsRight) {
  Court court;
  court.join(1, "ada"), court.join(2, "bob"), court.join(3, "eve");
  court.open(1, 1, {});
  court.says(1, 1, 1, "1"), court.says(2, 1, 1, "2");
  EXPECT_EQ(court.says(3, 1, 1, "3"), "give up 1.1 after 3; job 1 failed; (no quorum: 3 results, no 2 agree)");
  for (const char* voter : {"ada", "bob", "eve"}) EXPECT_EQ(court.jury.record(voter), TrustRecord{}) << "nobody is known to be wrong";
}

TEST(Jury, BelievesAFailureThatTwoSeeAndRetriesIt) {
  Court court;
  court.join(1, "ada"), court.join(2, "bob");
  court.open(1, 1, {}, /*retries=*/1);
  court.says(1, 1, 1, "no", 3);
  EXPECT_EQ(court.says(2, 1, 1, "no", 3).substr(0, 19), "requeue 1.1: failed") << "they agree that it failed: a retry, as of any task";
  court.wait(31s);
  for (const std::uint64_t worker : {1, 2})
    if (court.task_of(worker)) court.says(worker, 1, 1, "42");
  court.wait(31s);
  for (const std::uint64_t worker : {1, 2})
    if (court.task_of(worker)) court.says(worker, 1, 1, "42");
  EXPECT_EQ(court.committed.at({{1}, {1}}), "42") << "the votes began anew, for both of them";
}

TEST(Jury, HoldsAFailureOnOneWorkerAgainstNobody) {
  Court court;
  court.join(1, "ada"), court.join(2, "bob"), court.join(3, "eve");
  court.open(1, 1, {});
  court.says(1, 1, 1, "", 1), court.says(2, 1, 1, "42");
  EXPECT_EQ(court.says(3, 1, 1, "42"), "commit 1.1 succeeded after 3; job 1 succeeded");
  EXPECT_EQ(court.jury.record("ada"), TrustRecord{}) << "its disk may have been full; it told nobody a wrong result";
}

TEST(Jury, TakesNoLateResultOfALostAttempt) {
  Court court;
  court.join(1, "ada"), court.open(1, 1, {});
  const Held lost = court.held(1, 1, 1);
  court.hear(WorkerLost{{1}});
  court.join(2, "bob");
  EXPECT_EQ(court.says(1, lost, Court::outcome("42")), "drop 1.1: given to another worker since") << "one result alone decides nothing here";
  EXPECT_EQ(court.core.state({{1}, {1}}), TaskState::running);
}

TEST(Jury, CountsOneVoteForAnOwnerWhoseLostAttemptComesBack) {
  Court court;
  court.join(1, "ada"), court.open(1, 1, {});
  const Held first = court.held_by(1, {{1}, {1}});
  court.hear(WorkerLost{{1}});
  court.join(2, "ada");
  court.says(2, 1, 1, "42");
  WorkerJoined back = Stage::simple_worker(1, 1, {first});
  back.owner = "ada";
  EXPECT_EQ(court.hear(back), "stop 1 on 1") << "ada has given a result of it";
}

// ---- Adaptive

TEST(Jury, ChecksOneOfSeveralResultsOfWhoHasARecord) {
  Trusting court;
  court.open(1, 2, adaptive());
  EXPECT_EQ(court.says(1, 1, 1, "a"), "assign 1.2 as " + std::to_string(22) + " to 1; parked");
  EXPECT_EQ(court.says(1, 1, 2, "b"), "parked") << "two wait, and one of them is drawn";
  EXPECT_EQ(court.jury.parked({1}), 1u);
  const std::string assigned = court.join(3, "cid");
  const TaskId drawn = *court.task_of(3);
  EXPECT_EQ(court.says(3, 1, drawn.task.value, drawn.task.value == 1 ? "a" : "b"),
            "commit " + Stage::name(drawn) + " succeeded after 2; commit 1." + std::to_string(3 - drawn.task.value) + " succeeded; job 1 succeeded");
  EXPECT_EQ(court.committed.at({{1}, {1}}), "a");
  EXPECT_EQ(court.committed.at({{1}, {2}}), "b") << "each task has its own result, whichever was checked";
}

TEST(Jury, AsksForMoreResultsOfWhoHasNoRecord) {
  Court court;
  court.join(1, "ada");
  court.open(1, 2, adaptive());
  court.says(1, 1, 1, "a"), court.says(1, 1, 2, "b");
  EXPECT_EQ(court.jury.parked({1}), 0u);
  EXPECT_EQ(court.jury.standing({{1}, {1}}).votes, 1u);
}

TEST(Jury, ChecksWhatIsParkedWhenNothingElseIsLeftToDo) {
  Trusting court;
  court.open(1, 1, adaptive());
  EXPECT_EQ(court.says(1, 1, 1, "a"), "parked; nothing else to do") << "one alone is checked as well";
  EXPECT_EQ(court.join(3, "cid").substr(0, 10), "assign 1.1");
  EXPECT_EQ(court.says(3, 1, 1, "a"), "commit 1.1 succeeded after 2; job 1 succeeded");
}

TEST(Jury, TakesBackAllOfWhoIsFoundWrong) {
  Trusting court;
  court.open(1, 3, adaptive());
  court.open(2, 1, adaptive());
  for (int i = 0; i < 4; ++i)
    if (const auto task = court.task_of(1)) court.says(1, task->job.value, task->task.value, "a lie");
  const std::size_t kept = court.jury.parked({1}) + court.jury.parked({2});
  EXPECT_GE(kept, 1u);
  court.join(3, "cid"), court.join(4, "dan"), court.join(5, "eve");
  std::string words;
  for (int i = 0; i < 60 && court.ended.size() < 3; ++i) {
    for (const std::uint64_t worker : {3, 4, 5})
      if (const auto task = court.task_of(worker)) words += court.says(worker, task->job.value, task->task.value, "true") + "; ";
    words += court.wait(1s);
  }
  EXPECT_NE(words.find("caught ada (1)"), std::string::npos) << words;
  ASSERT_EQ(court.committed.size(), 10u + 4u);
  for (const auto& [task, out] : court.committed) EXPECT_EQ(out, task.job.value < 100 ? "true" : "right") << Stage::name(task);
  EXPECT_EQ(court.jury.record("ada").agreed, 0u);
  EXPECT_GE(court.jury.record("ada").found, 1u);
  EXPECT_EQ(court.jury.bytes(), 0u);
}

TEST(Jury, AsksTwiceTheRecordOfWhoWasFoundBefore) {
  Court court;
  court.jury.recall("ada", {19, 1});
  EXPECT_FALSE(court.jury.trusted("ada"));
  court.jury.recall("ada", {20, 1});
  EXPECT_TRUE(court.jury.trusted("ada"));
}

TEST(Jury, DrawsAnewWhenTheCheckEndsWithoutAResult) {
  Trusting court;
  court.open(1, 3, adaptive());
  court.says(1, 1, 1, "a"), court.says(1, 1, 2, "b"), court.says(1, 1, 3, "c");
  for (std::uint64_t worker = 10; worker < 15; ++worker) {  // the task that is drawn takes five workers with it
    court.join(worker, "owner" + std::to_string(worker));
    court.hear(WorkerLost{{worker}});
  }
  EXPECT_EQ(court.core.counts({1})->failed, 1u);
  court.join(3, "cid");
  for (int i = 0; i < 5 && court.task_of(3); ++i) {
    const TaskId task = *court.task_of(3);
    court.says(3, 1, task.task.value, std::string(1, static_cast<char>('a' + task.task.value - 1)));
  }
  EXPECT_EQ(court.core.counts({1})->succeeded, 2u);
  EXPECT_TRUE(court.ended.contains({1}));
}

TEST(Jury, FreesOfACanceledJobWhatItKept) {
  Trusting court;
  court.open(1, 5, adaptive());
  court.says(1, 1, 1, "a");
  EXPECT_GT(court.jury.bytes(), 0u);
  const Held second = court.held_by(1, {{1}, {2}});
  court.hear(JobCanceled{{1}});
  court.says(1, second, Court::outcome("b"));
  EXPECT_TRUE(court.ended.contains({1}));
  EXPECT_TRUE(court.committed.size() == 10u) << "nothing unchecked is taken, canceled or not";
  EXPECT_EQ(court.jury.bytes(), 0u);
}

TEST(Jury, ParksNothingWithoutRoom) {
  Trusting court(Jury::Rules{.seed = {1, 2}, .bytes_max = 1000});
  court.open(1, 2, adaptive());
  court.says(1, 1, 1, std::string(2000, 'x'));
  EXPECT_EQ(court.jury.standing({{1}, {1}}).votes, 1u);
  EXPECT_FALSE(court.jury.standing({{1}, {1}}).parked);
}

TEST(Jury, DrawsByItsSecret) {
  const auto drawn = [](std::uint64_t secret) {
    Trusting court(Jury::Rules{.seed = {secret, 7}, .parked_min = 16});
    std::string all;
    for (std::uint64_t job = 1; job <= 8; ++job) {
      court.open(job, 16, adaptive());
      for (std::uint64_t task = 1; task <= 16; ++task) court.says(1, job, task, "a");
      for (std::uint64_t task = 1; task <= 16; ++task)
        if (!court.jury.standing({{job}, {task}}).parked) all += std::to_string(task) + " ";
    }
    return all;
  };
  EXPECT_EQ(drawn(1), drawn(1));
  EXPECT_NE(drawn(1), drawn(2));
}

// ---- Known answers

TEST(Jury, TakesAKnownAnswerAtOnce) {
  Court court;
  court.join(1, "ada");
  court.open(1, 1, {.known = {{{1}, sha256("42")}}});
  EXPECT_EQ(court.says(1, 1, 1, "42"), "commit 1.1 succeeded; job 1 succeeded");
  EXPECT_EQ(court.jury.record("ada").agreed, 1u);
}

TEST(Jury, CatchesWhoDoesNotFindAKnownAnswerThatAnotherFinds) {
  Court court;
  court.join(1, "ada"), court.join(2, "bob");
  court.open(1, 1, {.known = {{{1}, sha256("42")}}});
  EXPECT_EQ(court.says(1, 1, 1, "41"), "assign 1.1 as 2 to 2") << "or is the known answer wrong? nobody is caught yet";
  EXPECT_EQ(court.says(2, 1, 1, "42"), "commit 1.1 succeeded after 2; job 1 succeeded; caught ada (1)");
  EXPECT_EQ(court.jury.record("bob"), (TrustRecord{1, 0}));
}

TEST(Jury, DoubtsAKnownAnswerThatEverybodyContradicts) {
  Court court;
  court.join(1, "ada"), court.join(2, "bob");
  court.open(1, 1, {.known = {{{1}, sha256("wrong")}}});
  court.says(1, 1, 1, "42");
  EXPECT_EQ(court.says(2, 1, 1, "42"), "give up 1.1 after 2; job 1 failed; (2 results agree and are not the known answer)");
  EXPECT_EQ(court.jury.record("ada").found, 0u) << "its submitter planted a wrong one";
}

TEST(Jury, AKnownAnswerFoundSettlesWhatIsParked) {
  Trusting court(Jury::Rules{.seed = {1, 2}, .parked_min = 10});
  Quorum quorum = adaptive();
  quorum.known = {{{3}, sha256("c")}};
  court.open(1, 3, quorum);
  court.says(1, 1, 1, "a"), court.says(1, 1, 2, "b");
  EXPECT_EQ(court.says(1, 1, 3, "c"), "commit 1.3 succeeded; commit 1.1 succeeded; commit 1.2 succeeded; job 1 succeeded") << "it could not know which was the check";
}

// ---- What agrees

TEST(Jury, ComparesNumbersWithinATolerance) {
  Court court;
  court.join(1, "ada"), court.join(2, "bob");
  court.open(1, 1, {.on = {AgreeOn::What::numbers, 1e-6}});
  court.says(1, 1, 1, "energy=-1.00000001 steps 7\n");
  EXPECT_EQ(court.says(2, 1, 1, "energy = -1.00000002  steps 7"), "commit 1.1 succeeded after 2; job 1 succeeded");
}

TEST(Jury, ComparesOnlyHowItEndedIfAskedTo) {
  Court court;
  court.join(1, "ada"), court.join(2, "bob");
  court.open(1, 1, {.on = {AgreeOn::What::exit, 0}});
  court.says(1, 1, 1, "at 12:00");
  EXPECT_EQ(court.says(2, 1, 1, "at 12:01"), "commit 1.1 succeeded after 2; job 1 succeeded");
}

TEST(Jury, SetsAsideFromTheThirdTimeOnAndLonger) {
  Court court;
  court.join(1, "ada"), court.join(2, "bob"), court.join(3, "eve");
  std::string words;
  for (std::uint64_t job = 1; job <= 3; ++job) {
    court.open(job, 1, {});
    for (int i = 0; i < 40 && !court.ended.contains({job}); ++i) {
      for (const std::uint64_t worker : {1, 2, 3})
        if (const auto task = court.task_of(worker)) words += court.says(worker, task->job.value, 1, worker == 2 ? "lie" + std::to_string(job) : "truth") + "; ";
      court.wait(1s);
    }
    if (court.jury.record("bob").found < job) court.jury.recall("bob", {0, static_cast<std::uint32_t>(job)});  // where two were enough without it
  }
  court.jury.recall("bob", {0, 2});
  court.open(9, 2, {});
  for (int i = 0; i < 60 && !court.ended.contains({9}); ++i) {
    for (const std::uint64_t worker : {2, 1, 3})
      if (const auto task = court.task_of(worker)) words += court.says(worker, 9, task->task.value, worker == 2 ? "lie" : "truth") + "; ";
    court.wait(1s);
  }
  EXPECT_NE(words.find("set aside 2: what it said was not what others found"), std::string::npos) << words;
  EXPECT_EQ(court.jury.aside("bob", court.now + 1h), std::nullopt);
  EXPECT_NE(court.jury.aside("bob", court.now - 60s), std::nullopt);
}

TEST(Jury, GivesNothingToWhoComesBackBeforeItsTimeIsOver) {
  Court court;
  WorkerJoined back = Stage::simple_worker(1);
  back.aside = court.now + 10min;
  court.hear(back);
  EXPECT_EQ(court.submit(1), "");
  EXPECT_EQ(court.wait(9min), "");
  EXPECT_EQ(court.wait(61s).substr(0, 20), "assign 1.1 as 1 to 1");
}

// ---- Text

TEST(Jury, AHundredThousandTasksWaitForAnotherOwnerAndCostNothing) {
  constexpr std::uint64_t tasks = 100'000;
  Scheduler core({1}, {.prefetch = 0ms});
  Instant now{};
  std::vector<Action> actions;
  std::deque<Held> running;
  const auto tell = [&](const Event& event) {
    actions.clear();
    core.step(now, event, actions);
    for (const Action& action : actions)
      if (const auto* a = std::get_if<Assign>(&action)) running.push_back({a->attempt, a->task});
  };
  const auto join = [&](std::uint64_t worker) { tell(Stage::simple_worker(worker, 16)); };
  JobSubmitted job = Stage::simple_job(1, tasks);
  job.terms.votes_of = VotesOf::owners;
  join(1);
  tell(job);
  while (!running.empty()) {
    const Held what = running.front();
    running.pop_front();
    tell(AttemptSetBy{{1}, what, AttemptSetBy::Then::again, true, 1s});
  }
  EXPECT_EQ(core.totals().waiting, tasks) << "each has a result of the one owner";
  EXPECT_FALSE(core.wake_at()) << "nobody looks at them while nobody else is there";
  tell(JobSubmitted{{2}, "bob"});
  ASSERT_EQ(running.size(), 1u) << "they keep nobody out";
  tell(AttemptFinished{{1}, running.front(), Cause::exited, true, 1s});
  running.clear();
  join(2);
  EXPECT_EQ(running.size(), 16u) << "another owner comes, and has room for so many";
  for (std::uint64_t done = 0; done < tasks; ++done) {
    ASSERT_FALSE(running.empty()) << "after " << done;
    const Held what = running.front();
    running.pop_front();
    tell(AttemptFinished{{2}, what, Cause::exited, true, 1s});
  }
  EXPECT_EQ(core.totals().waiting, 0u);
}

TEST(Jury, WhatWaitsForAnotherOwnerComesInTurnWithThatOfOthers) {
  Court court;
  court.join(1, "ada", 2);
  court.open(1, 6, {});
  for (std::uint64_t task = 1; task <= 6; ++task) court.says(1, 1, task, "42");
  JobSubmitted second = Stage::simple_job(2, 6, 0, "bob");
  second.groups.front().time_limit = 1h;  // of another class
  second.terms.votes_of = VotesOf::owners;
  court.jury.open({2}, {});
  court.hear(second);
  for (std::uint64_t task = 1; task <= 6; ++task) court.says(1, 2, task, "42");
  EXPECT_FALSE(court.core.wake_at());
  court.join(2, "eve");
  std::set<JobId> of;
  for (int times = 0; times < 4; ++times) {
    const auto task = court.task_of(2);
    ASSERT_TRUE(task);
    of.insert(task->job);
    court.says(2, task->job.value, task->task.value, "42");
  }
  EXPECT_EQ(of.size(), 2u) << "of the one not all before the other";
}

TEST(Jury, WhatWaitsForAnotherOwnerFindsOneWhenGroupsChange) {
  Court court;
  court.join(1, "ada");
  WorkerJoined picky = Stage::simple_worker(2);
  picky.owner = "bob";
  Offer offer = *picky.offer;
  offer.accept = {Who::parse("group:friends").value()};
  picky.offer = std::make_shared<const Offer>(offer);
  court.hear(picky);
  court.open(1, 3, {});
  for (std::uint64_t task = 1; task <= 3; ++task) court.says(1, 1, task, "42");
  EXPECT_EQ(court.wait(5s), "") << "bob's worker takes tasks of friends only";
  Groups groups;
  groups.members["friends"] = {Who::parse("ada@grid").value()};
  court.hear(GroupsSet{groups});
  EXPECT_EQ(court.wait(2s), "");
  groups.members["friends"].push_back({Who::Kind::person, "ada"});  // who submitted it
  EXPECT_EQ(court.hear(GroupsSet{groups}), "assign 1.1 as 4 to 2") << "the policy changed, in the middle of it";
  EXPECT_EQ(court.says(2, 1, 1, "42"), "commit 1.1 succeeded after 2; assign 1.2 as 5 to 2");
  court.hear(GroupsSet{Groups{}});
  EXPECT_EQ(court.says(2, 1, 2, "42"), "commit 1.2 succeeded after 2") << "what runs goes on; no more comes";
}

TEST(Jury, DiscardsWhatABannedAccountSaid) {
  Court court;
  court.join(1, "eve"), court.open(1, 1, {});
  court.says(1, 1, 1, "42");
  Jury::Actions said;
  court.jury.discard("eve", said);
  court.hear(WorkerLost{{1}});
  court.join(2, "ada");
  EXPECT_EQ(court.says(2, 1, 1, "42"), "") << "eve's vote is gone, so this one is alone";
  court.join(3, "bob");
  EXPECT_EQ(court.says(3, 1, 1, "42"), "commit 1.1 succeeded after 3; job 1 succeeded");
}

TEST(Jury, RunsAgainWhatABannedAccountHasParked) {
  Trusting court;
  court.open(1, 3, adaptive());
  EXPECT_EQ(court.says(1, 1, 1, "x"), "assign 1.2 as 22 to 1; parked");
  Jury::Actions said;
  court.jury.discard("ad", said);
  EXPECT_TRUE(said.empty()) << "who only begins with that name is somebody else";
  court.jury.discard("ada", said);
  EXPECT_EQ(court.jury.parked({1}), 0u);
  EXPECT_FALSE(court.jury.trusted("ada")) << "also if the ban is lifted";
  EXPECT_EQ(court.jury.bytes(), 0u);
  EXPECT_FALSE(court.jury.broken_invariant());
  ASSERT_EQ(said.size(), 2u);
  EXPECT_EQ(std::get<Jury::Recorded>(said[0]).record, TrustRecord{});
  EXPECT_EQ(std::get<TaskReopened>(std::get<Jury::Tell>(said[1]).event).task, (TaskId{{1}, {1}}));
}

TEST(Jury, GoesOnInTheNextLifeFromTheVotesThatAreOnDisk) {
  Court court;
  court.jury.open({1}, {});
  const Jury::Vote of_ada{{{1}, 1}, "ada", digest_of(Court::outcome("42"), AgreeOn::What::all), true};
  court.jury.recall({{1}, {1}}, of_ada);
  court.jury.recall({{1}, {1}}, of_ada);  // once is enough
  for (const char* voter : {"x", "y", "z"}) court.jury.recall({{1}, {2}}, {{{1}, 2}, voter, voter, true});
  EXPECT_EQ(court.jury.standing({{1}, {1}}).votes, 1u);
  EXPECT_EQ(court.jury.standing({{1}, {2}}).votes, 2u) << "three of three would have decided";
  JobRestored restored;
  restored.job = Stage::simple_job(1, 1);
  restored.job.terms.votes_of = VotesOf::owners;
  restored.past.push_back({{1}, 1, 0, 0, {}, {{1}, 1}, {"ada", "ada"}});
  court.hear(restored);
  EXPECT_EQ(court.join(2, "ada"), "") << "ada has said what she thinks of it";
  EXPECT_EQ(court.join(3, "bob"), "assign 1.1 as 1 to 3");
  EXPECT_EQ(court.says(3, 1, 1, "42"), "commit 1.1 succeeded after 2; job 1 succeeded");
  EXPECT_EQ(court.jury.record("ada").agreed, 1u);
}

/// A job of an earlier life: of its first four tasks ada had a say, and one of them has ended.
struct Recalled : Court {
  Recalled() {
    jury.open({1}, {});
    JobRestored restored;
    restored.job = simple_job(1, 6);
    restored.job.terms.votes_of = VotesOf::owners;
    for (std::uint64_t task = 1; task <= 4; ++task) {
      jury.recall({{1}, {task}}, {{{1}, task}, "ada", digest_of(outcome("42"), AgreeOn::What::all), true});
      restored.past.push_back({{task}, 1, 0, 0, {}, {{1}, task}, {"ada"}});
    }
    restored.ended = {{{2}, TaskState::failed}};
    hear(restored);
  }
};

TEST(Jury, WhatHasAVoteInTheNextLifeDoesNotHoldUpTheRestOfItsJob) {
  Recalled court;
  EXPECT_EQ(court.join(1, "ada"), "assign 1.5 as 1 to 1") << "the first ones are for others";
  EXPECT_EQ(court.says(1, 1, 5, "42"), "assign 1.6 as 2 to 1");
  EXPECT_EQ(court.join(2, "bob", 2), "assign 1.1 as 3 to 2; assign 1.3 as 4 to 2") << "what has a vote already comes first";
  for (const std::uint64_t task : {1, 3, 4, 5}) court.says(2, 1, task, "42");
  court.says(1, 1, 6, "42");
  EXPECT_EQ(court.says(2, 1, 6, "42"), "commit 1.6 succeeded after 2; job 1 failed") << "of the second";
  EXPECT_EQ(court.core.counts({1})->succeeded, 5u);
}

TEST(Jury, WhatHasAVoteInTheNextLifeEndsWithItsJobOnce) {
  Recalled court;
  EXPECT_EQ(court.hear(JobCanceled{{1}}), "job 1 canceled");
  EXPECT_EQ(court.core.counts({1})->canceled, 5u);
}

TEST(Jury, RemembersAWorkerByItsAddressWhateverItCallsItself) {
  Court court;
  for (std::uint64_t worker : {1, 2}) {
    WorkerJoined joined = Stage::simple_worker(worker);
    joined.owner = "ada@grid", joined.name = "nick" + std::to_string(worker), joined.stem = "ada@grid/ant";
    court.hear(joined);
  }
  court.open(1, 1, {.of = VotesOf::workers});
  EXPECT_EQ(court.says(1, 1, 1, "42"), "") << "the other is the same one, under another name";
  EXPECT_EQ(court.core.voter({2}, VotesOf::workers), "ada@grid/ant");
}

TEST(Jury, KeepsSoManyRecordsAndThoseThatSayMost) {
  Court court({.seed = {1, 2}, .voters_max = 20});
  court.jury.recall("liar", {0, 1}), court.jury.recall("old", {50, 0});
  for (std::uint64_t worker = 1; worker <= 60; worker += 2) {
    court.join(worker, "o" + std::to_string(worker)), court.join(worker + 1, "o" + std::to_string(worker + 1));
    court.open(worker, 1, {});
    for (const std::uint64_t voter : {worker, worker + 1, worker})
      if (court.task_of(voter)) court.says(voter, worker, 1, "42");
    court.hear(WorkerLost{{worker}}), court.hear(WorkerLost{{worker + 1}});
  }
  EXPECT_EQ(court.jury.record("liar").found, 1u);
  EXPECT_EQ(court.jury.record("old").agreed, 50u);
  std::set<std::string> known;
  for (const auto& [voter, record] : court.records) record == TrustRecord{} ? known.erase(voter) : known.insert(voter).second;
  EXPECT_LE(known.size(), 20u) << "in the store too";
}

TEST(Quorum, ReadsWhatIsAskedFor) {
  EXPECT_EQ(parse_quorum("2/3").value(), (std::pair{2u, 3u}));
  EXPECT_EQ(parse_quorum("2").value(), (std::pair{2u, 3u}));
  EXPECT_EQ(parse_quorum("3").value(), (std::pair{3u, 5u}));
  for (const char* bad : {"", "/", "2/", "/3", "a", "2/3/4", "-2/3", "2 /3", "99999999999"}) EXPECT_FALSE(parse_quorum(bad)) << bad;
  EXPECT_TRUE(check_quorum(2, 2));
  EXPECT_FALSE(check_quorum(1, 3));
  EXPECT_FALSE(check_quorum(3, 2));
  EXPECT_FALSE(check_quorum(2, 10));
  EXPECT_EQ(parse_agree_on("numbers:1e-6").value(), (AgreeOn{AgreeOn::What::numbers, 1e-6}));
  for (const char* bad : {"numbers", "numbers:", "numbers:-1", "numbers:2", "numbers:nan", "exit "}) EXPECT_FALSE(parse_agree_on(bad)) << bad;
}

TEST(Quorum, TellsNumbersFromWords) {
  EXPECT_TRUE(same_numbers("[1, 2.0, 3e0]", "[1.0,2,3]", 0));
  EXPECT_TRUE(same_numbers("", " \n", 0));
  EXPECT_TRUE(same_numbers("0.1", "0.10000001", 1e-6));
  EXPECT_FALSE(same_numbers("0.1", "0.1001", 1e-6));
  EXPECT_FALSE(same_numbers("1 2", "1", 0.5)) << "one number more";
  EXPECT_FALSE(same_numbers("energy 1", "entropy 1", 0.5));
  EXPECT_FALSE(same_numbers("1", "-1", 0.5));
  EXPECT_FALSE(same_numbers("0", "1e-300", 0.5)) << "relative: nothing is near nothing";
  EXPECT_FALSE(same_numbers("nan", "1", 0.5));
  EXPECT_FALSE(same_numbers("inf", "1e308", 0.9));
}

TEST(Quorum, TakesAllOfStdoutIntoTheDigest) {
  Outcome a = Court::outcome("same"), b = a;
  EXPECT_EQ(digest_of(a, AgreeOn::What::all), digest_of(b, AgreeOn::What::all));
  b.out_size = 1'000'000;  // of which only the beginning was kept
  EXPECT_NE(digest_of(a, AgreeOn::What::all), digest_of(b, AgreeOn::What::all));
  b = a, b.err = "a warning of that machine";
  EXPECT_EQ(digest_of(a, AgreeOn::What::all), digest_of(b, AgreeOn::What::all));
  b = a, b.exit_code = 1;
  EXPECT_NE(digest_of(a, AgreeOn::What::exit), digest_of(b, AgreeOn::What::exit));
}

}  // namespace
}  // namespace souk
