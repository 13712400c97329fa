// Needs and offers, requirements and ranks, and which worker is best.
#include <gtest/gtest.h>

#include "stage.h"

namespace souk {
namespace {
using namespace std::chrono_literals;

constexpr std::uint64_t GiB = 1ull << 30;

WorkerJoined machine(std::uint64_t id, int slots, std::uint64_t memory = 0, int gpus = 0) {
  auto joined = Stage::simple_worker(id, slots);
  Offer offer = *joined.offer;
  offer.memory_bytes = memory;
  for (int i = 0; i < gpus; ++i) offer.gpus.push_back("A100");
  offer.os = "linux";
  joined.offer = std::make_shared<const Offer>(offer);
  return joined;
}
WorkerJoined with(WorkerJoined joined, const std::function<void(Offer&)>& change) {
  Offer offer = *joined.offer;
  change(offer);
  joined.offer = std::make_shared<const Offer>(offer);
  return joined;
}
JobSubmitted job_of(std::uint64_t id, std::uint64_t tasks, Needs needs, const std::string& require = "", const std::string& rank = "") {
  auto job = Stage::simple_job(id, tasks);
  job.groups[0].needs = std::move(needs), job.groups[0].require = require, job.groups[0].rank = rank;
  return job;
}

TEST(Matching, PacksByResourceAndNeverBeyond) {
  Stage stage;
  stage.tell(machine(1, 4, 8 * GiB));
  EXPECT_EQ(stage.tell(job_of(1, 3, {.cpus = 1, .memory_bytes = 3 * GiB})), "assign 1.1 as 1 to 1; assign 1.2 as 2 to 1");  // 2 GiB are left, and two slots
  EXPECT_EQ(stage.tell(job_of(2, 1, {.cpus = 2})), "assign 2.1 as 3 to 1");
  EXPECT_EQ(stage.done(1, stage.held(3, 2, 1)), "commit 2.1 succeeded; job 2 succeeded");  // slots help nobody now
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded; assign 1.3 as 4 to 1");
}

TEST(Matching, GpusAndNamedResourcesAreCounted) {
  Stage stage;
  stage.tell(with(machine(1, 8, GiB, 2), [](Offer& o) { o.resources["license.matlab"] = {1, {}}; }));
  EXPECT_EQ(stage.tell(job_of(1, 3, {.gpus = 1})), "assign 1.1 as 1 to 1; assign 1.2 as 2 to 1");
  EXPECT_EQ(stage.tell(job_of(2, 2, {.resources = {{"license.matlab", 1}}})), "assign 2.1 as 3 to 1");
  EXPECT_EQ(stage.tell(job_of(3, 1, {.resources = {{"license.other", 1}}})), "");
  EXPECT_EQ(stage.done(1, stage.held(3, 2, 1)), "commit 2.1 succeeded; assign 2.2 as 4 to 1");
}

TEST(Matching, ARequirementMustHoldAndUndefinedDoesNot) {
  Stage stage;
  stage.tell(machine(1, 1, 4 * GiB));
  stage.tell(with(machine(2, 1, 16 * GiB), [](Offer& o) { o.software["python"] = "3.11.2"; }));
  const std::string wanted = "os == \"linux\" && memory >= 8GiB && has(python) && version(python) >= \"3.10\"";
  EXPECT_EQ(stage.tell(job_of(1, 2, {}, wanted)), "assign 1.1 as 1 to 2");
  EXPECT_EQ(stage.tell(job_of(2, 1, {}, "tag.room == \"2.14\"")), "");  // undefined everywhere
  EXPECT_EQ(stage.tell(with(machine(3, 1), [](Offer& o) { o.tags["Room"] = "2.14"; })), "assign 2.1 as 2 to 3");
}

TEST(Matching, ACallGoesToWhoOffersTheService) {
  Stage stage;
  stage.tell(machine(1, 1));
  EXPECT_EQ(stage.tell(job_of(1, 1, {}, offers_service("word-count"))), "");
  const auto why = stage.core.why({{1}, {1}});
  EXPECT_EQ(why.summary, "none of the 1 worker here could run it");
  ASSERT_EQ(why.reasons.size(), 1u);
  EXPECT_EQ(why.reasons[0].why, "no service word-count there");
  ASSERT_EQ(why.changes.size(), 2u);
  EXPECT_EQ(why.changes[0], "start a worker with --service word-count=COMMAND");
  EXPECT_EQ(why.changes[1], "do without service word-count: 1 worker could run it then");
  EXPECT_EQ(stage.tell(with(machine(2, 1), [](Offer& o) { o.services = {"fft", "word-count"}; })), "assign 1.1 as 1 to 2");
}

TEST(Matching, ATaskInAnImageGoesToWhoOffersIt) {
  Stage stage;
  stage.tell(with(machine(1, 1), [](Offer& o) { o.images = {"debian:11"}; }));
  EXPECT_EQ(stage.tell(job_of(1, 1, {}, offers_image("debian:12"))), "");
  const auto why = stage.core.why({{1}, {1}});
  ASSERT_EQ(why.reasons.size(), 1u);
  EXPECT_EQ(why.reasons[0].why, "no image debian:12 there");
  ASSERT_EQ(why.changes.size(), 2u);
  EXPECT_EQ(why.changes[0], "start a worker with --image debian:12");
  EXPECT_EQ(why.changes[1], "do without image debian:12: 1 worker could run it then");
  EXPECT_EQ(stage.tell(with(machine(2, 1), [](Offer& o) { o.images = {"debian:12"}; })), "assign 1.1 as 1 to 2");
}

TEST(Matching, ExpressionsMayAskForTheJob) {
  Stage stage;
  stage.tell(with(machine(1, 4), [](Offer& o) { o.tags["for"] = "study"; }));
  auto study = job_of(1, 1, {}, "tag.for == job.name"), other = job_of(2, 1, {}, "tag.for == job.name");
  study.name = "study", other.name = "other";
  EXPECT_EQ(stage.tell(other), "");
  EXPECT_EQ(stage.tell(study), "assign 1.1 as 1 to 1");
}

TEST(Matching, IsJudgedOncePerPairOfClasses) {
  Stage stage;
  for (std::uint64_t id = 1; id <= 50; ++id) stage.tell(machine(id, 2, (1 + id % 2) * GiB));
  stage.tell(job_of(1, 60, {}, "memory > 1GiB"));
  stage.tell(job_of(2, 60, {}, "memory > 1GiB"));
  EXPECT_EQ(stage.core.totals().running, 50u);
  EXPECT_EQ(stage.core.market().judgements(), 2u);
}

TEST(Matching, RankComesFirstThenSpeedThenLoad) {
  Stage stage;
  stage.tell(with(machine(1, 2), [](Offer& o) { o.speed = 1; }));
  stage.tell(with(machine(2, 2), [](Offer& o) { o.speed = 3; }));
  stage.tell(with(machine(3, 2, 2 * GiB), [](Offer& o) { o.speed = 3; }));
  EXPECT_EQ(stage.tell(job_of(1, 4, {}, "", "-speed")), "assign 1.1 as 1 to 1; assign 1.2 as 2 to 1; assign 1.3 as 3 to 2; assign 1.4 as 4 to 3");
  EXPECT_EQ(stage.submit(2, 1), "assign 2.1 as 5 to 2");
}

TEST(Matching, MeasuredFactsAndIdentityAreAskedOfEachWorker) {
  Stage stage;
  for (std::uint64_t id = 1; id <= 3; ++id) stage.tell(machine(id, 4));
  EXPECT_EQ(stage.tell(job_of(1, 2, {}, "name == \"w3\"")), "assign 1.1 as 1 to 3; assign 1.2 as 2 to 3");
  EXPECT_EQ(stage.tell(job_of(2, 2, {}, "", "load")), "assign 2.1 as 3 to 3; assign 2.2 as 4 to 3");  // the busiest first, for once
  EXPECT_EQ(stage.tell(job_of(3, 1, {}, "name == \"w3\"")), "");
  EXPECT_EQ(stage.done(3, stage.held(1, 1, 1)), "commit 1.1 succeeded; assign 3.1 as 5 to 3");
}

TEST(Matching, LearnsWhoIsFast) {
  Stage stage;
  stage.tell(machine(1, 1)), stage.tell(machine(2, 1));
  stage.submit(1, 20);
  for (int round = 0; round < 8; ++round) {
    const auto attempt = [&](std::uint64_t worker) {
      for (std::uint64_t number = 1; number <= 40; ++number)
        for (std::uint64_t task = 1; task <= 20; ++task)
          if (stage.core.state({{1}, {task}}) == TaskState::running && stage.core.runner({{1}, {task}}) == WorkerId{worker}) return task;
      return std::uint64_t{0};
    };
    for (const std::uint64_t worker : {1, 2}) {
      const std::uint64_t task = attempt(worker);
      ASSERT_NE(task, 0u);
      stage.now += 4s;
      stage.done(worker, stage.held(task, 1, task), worker == 1 ? 4s : 1s);
    }
  }
  stage.tell(JobCanceled{{1}});
  for (std::uint64_t task = 1; task <= 20; ++task)
    if (const auto on = stage.core.runner({{1}, {task}})) stage.failed(on->value, stage.held(task, 1, task), Cause::canceled);
  EXPECT_EQ(stage.submit(2, 1), "assign 2.1 as 19 to 2");
}

TEST(Matching, NothingIsStartedWhereItCannotEndInTime) {
  Stage stage({.lease = 1h});
  auto leaving = machine(1, 2);
  leaving.until = stage.now + 10min;
  stage.tell(leaving);
  auto job = Stage::simple_job(1, 1);
  job.groups[0].time_limit = 20min;
  EXPECT_EQ(stage.tell(job), "");
  EXPECT_EQ(stage.submit(2, 1), "assign 2.1 as 1 to 1");  // nobody knows how long it takes
  EXPECT_EQ(stage.tell(machine(2, 1)), "assign 1.1 as 2 to 2");
  auto late = Stage::simple_job(3, 1);
  late.groups[0].time_limit = 5min;
  late.terms.deadline = stage.now + 4min;
  EXPECT_EQ(stage.tell(late), "");
  EXPECT_EQ(stage.after(4min), "job 3 failed");
}

TEST(Matching, AWideTaskIsNotStarvedByNarrowOnes) {
  Stage stage;
  stage.tell(machine(1, 4)), stage.tell(machine(2, 4));
  stage.submit(1, 1000, 0, "ada");
  auto wide = Stage::simple_job(2, 1, 0, "bob");
  wide.groups[0].needs.cpus = 4;
  stage.tell(wide);
  // Every second one narrow task ends on each worker, so that never four slots of one are free by themselves.
  std::deque<std::pair<std::uint64_t, Held>> running;
  for (std::uint64_t n = 1; n <= 8; ++n) running.push_back({stage.core.runner({{1}, {n}})->value, stage.held(n, 1, n)});
  int seconds = 0;
  for (; stage.core.state({{2}, {1}}) == TaskState::waiting && seconds < 60; ++seconds) {
    stage.now += 1s;
    stage.tell(Tick{});
    for (int i = 0; i < 2 && !running.empty(); ++i) {
      const auto [worker, what] = running.front();
      running.pop_front();
      stage.done(worker, what, 4s);
      for (const Action& action : stage.actions)
        if (const auto* a = std::get_if<Assign>(&action)) running.push_back({a->worker.value, {a->attempt, a->task}});
    }
  }
  EXPECT_LE(seconds, 12);
}

TEST(Matching, AKeptWorkerStartsNothingWhenNobodyKnowsWhenItIsFree) {
  Stage stage({.lease = 1h});
  stage.tell(machine(1, 2));
  stage.submit(1, 1);  // nobody knows how long
  auto wide = Stage::simple_job(2, 1);
  wide.groups[0].needs.cpus = 2;
  stage.tell(wide);
  stage.after(8s);
  auto shorter = Stage::simple_job(3, 1);
  shorter.groups[0].time_limit = 5min;
  EXPECT_EQ(stage.tell(shorter), "");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded; job 1 succeeded; assign 2.1 as 2 to 1");
}

TEST(Matching, WhatIsOverInTimeMayUseAWorkerThatIsKept) {
  Stage stage;
  stage.tell(machine(1, 2));
  auto long_one = Stage::simple_job(1, 1);
  long_one.groups[0].time_limit = 10min;
  stage.tell(long_one);
  auto wide = Stage::simple_job(2, 1);
  wide.groups[0].needs.cpus = 2;
  stage.tell(wide);
  for (int i = 0; i < 8; ++i) stage.now += 1s, stage.tell(Tick{});
  auto longer = Stage::simple_job(3, 1), shorter = Stage::simple_job(4, 1);
  longer.groups[0].time_limit = 20min, shorter.groups[0].time_limit = 5min;
  EXPECT_EQ(stage.tell(longer), "");
  EXPECT_EQ(stage.tell(shorter), "assign 4.1 as 2 to 1");
}

// ---- Whose tasks a worker takes ----------------------------------------------------------------------------------------------------

WorkerJoined picky(std::uint64_t id, const std::vector<std::string>& accept, int slots = 1) {
  return with(machine(id, slots), [&](Offer& offer) {
    for (const auto& text : accept) offer.accept.push_back(Who::parse(text).value());
  });
}
Groups groups(const std::map<std::string, std::vector<std::string>>& named) {
  Groups made;
  for (const auto& [name, members] : named)
    for (const auto& text : members) made.members[name].push_back(Who::parse(text).value());
  return made;
}

TEST(Acceptance, AWorkerGetsTasksOfThoseItsOwnerTakes) {
  Stage stage;
  stage.tell(picky(1, {"ada@x.org", "@uni.edu"}, 4));
  EXPECT_EQ(stage.submit(1, 1, 0, "bob@x.org"), "");
  EXPECT_EQ(stage.submit(2, 1, 0, "ada@x.org"), "assign 2.1 as 1 to 1");
  EXPECT_EQ(stage.submit(3, 1, 0, "eve@uni.edu"), "assign 3.1 as 2 to 1");
  EXPECT_EQ(stage.submit(4, 1, 0, "eve@cs.uni.edu"), "");
  EXPECT_EQ(stage.core.why({{1}, {1}}).reasons.front().why, "their owners take tasks of others, not these");
  EXPECT_EQ(stage.tell(picky(2, {"bob@x.org"})), "assign 1.1 as 3 to 2");  // what came before it joined, too
  EXPECT_EQ(stage.join(3), "assign 4.1 as 4 to 3");                        // who names nobody takes anyone's
}

TEST(Acceptance, WhatStrangersWaitForKeepsNobodyBack) {
  Stage stage;
  stage.tell(picky(1, {"ada@x.org"}));
  for (std::uint64_t job = 1; job <= 50; ++job) stage.submit(job, 10, 0, "bob@x.org");
  EXPECT_EQ(stage.submit(51, 2, 0, "ada@x.org"), "assign 51.1 as 1 to 1");
  EXPECT_EQ(stage.done(1, stage.held(1, 51, 1)), "commit 51.1 succeeded; assign 51.2 as 2 to 1");
  stage.after(10s);
  auto wide = Stage::simple_job(52, 1, 0, "bob@x.org");
  wide.groups[0].needs.cpus = 1, wide.groups[0].needs.memory_bytes = 1;
  stage.tell(wide);
  stage.after(20s);  // no worker is kept for what it never gets
  EXPECT_EQ(stage.submit(53, 1, 0, "ada@x.org"), "");
  EXPECT_EQ(stage.done(1, stage.held(2, 51, 2)), "commit 51.2 succeeded; job 51 succeeded; assign 53.1 as 3 to 1");
}

TEST(Acceptance, GroupsAreThePolicysAndMayChange) {
  Stage stage;
  stage.tell(picky(1, {"group:staff"}, 4));
  EXPECT_EQ(stage.submit(1, 3, 0, "ada@x.org"), "");
  EXPECT_EQ(stage.tell(GroupsSet{groups({{"staff", {"bob@x.org"}}})}), "");
  EXPECT_EQ(stage.tell(GroupsSet{groups({{"staff", {"@x.org"}}})}), "assign 1.1 as 1 to 1; assign 1.2 as 2 to 1; assign 1.3 as 3 to 1");
  EXPECT_EQ(stage.tell(GroupsSet{groups({})}), "");  // what runs there goes on
  EXPECT_EQ(stage.submit(2, 1, 0, "ada@x.org"), "");
  EXPECT_EQ(stage.done(1, stage.held(1, 1, 1)), "commit 1.1 succeeded");
  EXPECT_EQ(stage.failed(1, stage.held(2, 1, 2), Cause::lost), "requeue 1.2: runner-lost");
}

TEST(Acceptance, ExpressionsHoldBesideIt) {
  Stage stage;
  stage.tell(picky(1, {"ada@x.org"}));
  auto of_one = job_of(1, 1, {}, "name == \"w1\"");
  of_one.owner = "bob@x.org";
  EXPECT_EQ(stage.tell(of_one), "");
  of_one.job = {2}, of_one.owner = "ada@x.org";
  EXPECT_EQ(stage.tell(of_one), "assign 2.1 as 1 to 1");
}

}  // namespace
}  // namespace souk
