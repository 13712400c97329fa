#include "manager/book.h"

#include <gtest/gtest.h>

#include <functional>
#include <random>

#include "protocol/expression.h"
#include "protocol/payload.h"

namespace souk {
namespace {

constexpr std::uint64_t kNow = 1'800'000'000'000;  // ms since 1970

wire::Job job_of(const std::string& program = "true") {
  wire::Job job;
  job.mutable_command()->add_argv(program);
  return job;
}
wire::Group& add_group(wire::Job& job, const std::string& name, std::vector<std::uint32_t> after = {}) {
  auto& group = *job.add_groups();
  group.set_name(name);
  group.mutable_command()->add_argv("run-" + name);
  for (const std::uint32_t position : after) group.add_after()->set_group(position);
  return group;
}
template <class Tasks>
void set_range(Tasks& tasks, std::int64_t first, std::int64_t last, std::uint64_t step = 0) {
  tasks.mutable_range()->set_first(first), tasks.mutable_range()->set_last(last), tasks.mutable_range()->set_step(step);
}
const JobEntry& entry_of(JobBook& book, wire::Job job, std::uint64_t id = 1, const std::string& owner = "ada@x") {
  JobRow row;
  row.id = {id}, row.owner = owner, row.layout = layout_of(job);
  return book.add(row, std::move(job));
}

TEST(Book, WhoCallsAServiceNeedsAWorkerThatOffersIt) {
  wire::Job job;
  job.mutable_command()->set_service("word-count");
  ASSERT_TRUE(check(job, kNow)) << check(job, kNow).error().text();
  EXPECT_EQ(event_of({1}, "ada@x", job, {}).groups[0].require, "attribute(\"service.word-count\")");
  EXPECT_EQ(shown(job), "service word-count");
  job.mutable_command()->add_argv("{}");
  EXPECT_EQ(shown(job), "service word-count {}");
  job.set_require("os == \"linux\" || true");
  const auto require = Expression::parse(event_of({1}, "ada@x", job, {}).groups[0].require);
  ASSERT_TRUE(require);
  EXPECT_EQ(require.value().conjuncts().size(), 2u) << require.value().text();
  job.set_require("\"" + std::string(kExpressionMax - 8, 'x') + "\" == os");
  EXPECT_FALSE(check(job, kNow)) << "no room for the service in it";
}

TEST(Book, WhoNamesAnImageNeedsAWorkerThatOffersIt) {
  wire::Job job;
  job.mutable_command()->add_argv("true");
  job.mutable_command()->set_image("localhost/lab:3");
  job.set_require("cpus > 1");
  ASSERT_TRUE(check(job, kNow)) << check(job, kNow).error().text();
  EXPECT_EQ(event_of({1}, "ada@x", job, {}).groups[0].require, "attribute(\"image.localhost/lab:3\") && (cpus > 1)");
  for (const char* name : {"-v", "a b", "a\")||true||(\"", "/etc"}) {
    job.mutable_command()->set_image(name);
    EXPECT_FALSE(check(job, kNow)) << name;
  }
  job.mutable_command()->set_image("debian:12"), job.mutable_command()->set_sandbox(wire::UNBOXED);
  EXPECT_FALSE(check(job, kNow)) << "without a sandbox";
  job.mutable_command()->set_sandbox(wire::BOXED);
  EXPECT_EQ(event_of({1}, "ada@x", job, {}).groups[0].require, "attribute(\"image.debian:12\") && sandbox >= bwrap && (cpus > 1)");
  job.mutable_command()->set_service("word-count");
  EXPECT_FALSE(check(job, kNow)) << "a service has no image";
}

TEST(Book, CountsTasksOfRangesListsAndSingleJobs) {
  JobBook book;
  wire::Job job = job_of();
  EXPECT_EQ(check(job, kNow).value(), 1u);
  set_range(job, 1, 10, 3);
  EXPECT_EQ(check(job, kNow).value(), 4u);
  EXPECT_EQ(item_of(entry_of(book, job), {4}), "10");
  set_range(job, -5, -5);
  EXPECT_EQ(check(job, kNow).value(), 1u);
  EXPECT_EQ(item_of(entry_of(book, job), {1}), "-5");
  job.mutable_lines()->add_line("a b"), job.mutable_lines()->add_line("");
  EXPECT_EQ(check(job, kNow).value(), 2u);
  EXPECT_EQ(item_of(entry_of(book, job), {1}), "a b");
  EXPECT_EQ(item_of(entry_of(book, job), {3}), "");
}

TEST(Book, KeepsLinesOnceAndOnlyUntilTheJobEnds) {
  JobBook book;
  wire::Job job;
  for (const char* line : {"", "one", "", "three"}) add_group(job, line).mutable_lines()->add_line(line), job.mutable_groups(job.groups_size() - 1)->mutable_lines()->add_line("second");
  const JobEntry& entry = entry_of(book, job);
  for (const auto& group : entry.job.groups()) EXPECT_FALSE(group.has_lines()) << group.name();
  EXPECT_EQ(item_of(entry, {1}), "");
  EXPECT_EQ(item_of(entry, {3}), "one");
  EXPECT_EQ(item_of(entry, {7}), "three");
  EXPECT_EQ(item_of(entry, {8}), "second");
  EXPECT_EQ(item_of(entry, {9}), "");
  JobEntry& ended = *book.find({1});
  ended.row.ended_ms = 1;
  book.ended(ended);
  EXPECT_EQ(item_of(ended, {3}), "");
  EXPECT_EQ(ended.places.at(1).lines.size(), 0u);
  book.reopened(ended, job);
  EXPECT_EQ(item_of(ended, {7}), "three");
}

TEST(Book, TakesItemsThatWerePackedElsewhere) {
  const auto same = [](const wire::Job& job, std::uint64_t tasks) {
    JobBook here, elsewhere;
    PackedItems items(job);
    JobRow row;
    row.id = {1}, row.tasks = tasks;
    const JobEntry& there = elsewhere.add(row, job, &items);
    const JobEntry& packed = here.add(row, job);
    for (std::uint64_t task = 0; task <= tasks + 1; ++task) EXPECT_EQ(item_of(there, {task}), item_of(packed, {task})) << task;
    for (const auto& group : there.job.groups()) EXPECT_FALSE(group.has_lines());
    return items.unpacked.size();
  };
  wire::Job job;
  for (const char* line : {"a", "b", "c"}) job.mutable_lines()->add_line(line);
  EXPECT_EQ(same(job, 3), 1u);
  set_range(job, 1, 5);
  EXPECT_EQ(same(job, 5), 0u);
  wire::Job steps;
  add_group(steps, "first").mutable_lines()->add_line("x");
  add_group(steps, "one");
  for (const char* line : {"y", "", "z"}) add_group(steps, line).mutable_lines()->add_line(line);
  EXPECT_EQ(same(steps, 5), 4u);
}

TEST(Book, NumbersTasksThroughTheGroupsInOrder) {
  wire::Job job;
  add_group(job, "prepare");
  set_range(add_group(job, "train", {0}), 10, 30, 10);
  auto& report = add_group(job, "report", {1});
  report.mutable_lines()->add_line("html"), report.mutable_lines()->add_line("pdf");
  EXPECT_EQ(check(job, kNow).value(), 6u);
  JobBook book;
  const JobEntry& entry = entry_of(book, job);
  std::string story;
  for (std::uint64_t task = 1; task <= 6; ++task) story += entry.group_name({task}) + ' ' + item_of(entry, {task}) + ';';
  EXPECT_EQ(story, "prepare ;train 10;train 20;train 30;report html;report pdf;");
  EXPECT_EQ(entry.command_of(2).argv(0), "run-report");
  EXPECT_EQ(shown(job), "prepare, train, report");
  EXPECT_EQ(layout_of(job_of()), "");
}

TEST(Book, AnEndedJobStillKnowsItsGroupsAlsoAfterARestart) {
  wire::Job job;
  add_group(job, "prepare data");
  set_range(add_group(job, "train"), 1, 3);
  JobRow row;
  row.id = {4}, row.layout = layout_of(job), row.ended_ms = 9;
  JobBook book;
  EXPECT_EQ(book.add(row, {}).group_name({1}), "prepare data");
  EXPECT_EQ(book.find({4})->group_name({4}), "train");
  EXPECT_EQ(item_of(*book.find({4}), {4}), "");
  EXPECT_TRUE(book.open().empty());
}

TEST(Book, AnOrdinaryJobAndOneWithASingleGroupAreTheSame) {
  wire::Job job = job_of("prog");
  set_range(job, 1, 7);
  job.mutable_needs()->set_cpus(2), job.set_require("os == \"linux\""), job.set_rank("speed"), job.set_retries(3);
  job.mutable_retry()->set_delay_ms(500);
  wire::Job grouped = job;
  make_grouped(grouped);
  const auto a = event_of({1}, "ada@x", job, {}), b = event_of({1}, "ada@x", grouped, {});
  ASSERT_EQ(b.groups.size(), 1u);
  EXPECT_EQ(check(grouped, kNow).value(), 7u);
  for (const auto& event : {a, b}) {
    const Group& group = event.groups.front();
    EXPECT_EQ(group.tasks, 7u);
    EXPECT_EQ(group.needs.cpus, 2);
    EXPECT_EQ(group.require + group.rank, "os == \"linux\"speed");
    EXPECT_EQ(group.retry.times, 3u);
    EXPECT_EQ(group.retry.delay, std::chrono::milliseconds(500));
  }
}

TEST(Book, TellsTheSchedulerEveryTermOfAJob) {
  wire::Job job = job_of();
  job.mutable_command()->set_time_limit_ms(2000);
  job.set_priority(-7), job.set_max_fails(0), job.set_deadline_ms(kNow + 5000), job.set_hold(true), job.set_speculate(true), job.set_crash_limit(2);
  auto& after = *job.add_after();
  after.set_job(3), after.set_any(true);
  auto& codes = *job.mutable_retry()->add_codes();
  codes.set_first(1), codes.set_last(9);
  ASSERT_TRUE(check(job, kNow));
  const auto event = event_of({5}, "ada@x", job, {Instant(std::chrono::seconds(100)), kNow});
  EXPECT_EQ(event.terms.priority, -7);
  EXPECT_EQ(event.terms.max_fails, 0u);
  EXPECT_EQ(event.terms.deadline, Instant(std::chrono::seconds(105)));  // the wall's time on the scheduler's clock
  EXPECT_TRUE(event.terms.hold && event.terms.speculate);
  EXPECT_EQ(event.terms.crash_limit, 2u);
  EXPECT_EQ(event.terms.after.at(0).job, JobId{3});
  EXPECT_TRUE(event.terms.after.at(0).any);
  EXPECT_EQ(event.groups.at(0).retry.codes, (std::vector<ExitCodes>{{1, 9}}));
  EXPECT_EQ(event.groups.at(0).time_limit, std::chrono::seconds(2));
  EXPECT_FALSE(event_of({5}, "ada@x", job_of(), {}).terms.max_fails);
}

TEST(Book, ReadsTheQuorumOfAJob) {
  EXPECT_FALSE(quorum_of(job_of()));
  EXPECT_FALSE(event_of({5}, "ada@x", job_of(), {}).terms.votes_of);
  wire::Job job = job_of();
  set_range(job, 1, 10);
  auto& asked = *job.mutable_quorum();
  asked.set_agree(2), asked.set_most(4), asked.set_adaptive(true), asked.set_by_worker(true);
  auto& known = *asked.add_known();
  known.set_task(10), known.set_sha256(std::string(32, 'x'));
  ASSERT_TRUE(check(job, kNow));
  const auto quorum = quorum_of(job);
  ASSERT_TRUE(quorum);
  EXPECT_EQ(std::pair(quorum->agree, quorum->most), std::pair(2u, 4u));
  EXPECT_TRUE(quorum->adaptive && quorum->of == VotesOf::workers);
  EXPECT_EQ(quorum->known.at({10}), std::string(32, 'x'));
  EXPECT_EQ(event_of({5}, "ada@x", job, {}).terms.votes_of, VotesOf::workers);
  EXPECT_GE(memory_of(job, 1'000'000), memory_of(job_of(), 1'000'000) + 500'000'000) << "who voted on what takes memory";
  asked.clear_known(), asked.set_agree_on("numbers:0.001");
  EXPECT_EQ(quorum_of(job)->on.tolerance, 0.001);
  const auto refusal = [](auto&& spoil) {
    wire::Job bad = job_of();
    set_range(bad, 1, 10);
    bad.mutable_quorum()->set_agree(2), bad.mutable_quorum()->set_most(3);
    spoil(bad);
    const auto good = check(bad, kNow);
    return good ? std::string() : good.error().text();
  };
  EXPECT_EQ(refusal([](auto&) {}), "");
  EXPECT_NE(refusal([](auto& bad) { bad.mutable_quorum()->Clear(); }).find("0/0"), std::string::npos);
  EXPECT_NE(refusal([](auto& bad) { bad.mutable_quorum()->set_most(4000); }).find("2/4000"), std::string::npos);
  EXPECT_NE(refusal([](auto& bad) { bad.mutable_quorum()->set_agree_on("mostly"); }).find("'mostly'"), std::string::npos);
  EXPECT_NE(refusal([](auto& bad) { bad.set_speculate(true); }).find("speculate"), std::string::npos);
  const auto plant = [](auto& bad, std::uint64_t task, std::size_t size) {
    auto& one = *bad.mutable_quorum()->add_known();
    one.set_task(task), one.set_sha256(std::string(size, 'x'));
  };
  EXPECT_NE(refusal([&](auto& bad) { plant(bad, 11, 32); }).find("task 11"), std::string::npos);
  EXPECT_NE(refusal([&](auto& bad) { plant(bad, 0, 32); }).find("task 0"), std::string::npos);
  EXPECT_NE(refusal([&](auto& bad) { plant(bad, 1, 31); }).find("SHA-256"), std::string::npos);
  EXPECT_NE(refusal([&](auto& bad) { plant(bad, 1, 32), plant(bad, 1, 32); }).find("two known"), std::string::npos);
  EXPECT_NE(refusal([&](auto& bad) { plant(bad, 1, 32), bad.mutable_quorum()->set_agree_on("exit"); }).find("byte by byte"), std::string::npos);
}

TEST(Book, ALongFirstDelayRaisesTheLongest) {
  wire::Job job = job_of();
  job.mutable_retry()->set_delay_ms(20 * 60'000);
  EXPECT_EQ(event_of({1}, "", job, {}).groups[0].retry.delay_max, std::chrono::minutes(20));
  job.mutable_retry()->set_delay_max_ms(1000);
  EXPECT_EQ(event_of({1}, "", job, {}).groups[0].retry.delay_max, std::chrono::seconds(1));
}

TEST(Book, RefusesWhatNoJobMayBeAndSaysWhere) {
  using Spoil = std::function<void(wire::Job&)>;
  const std::vector<std::pair<Spoil, std::string>> table{
      {[](auto& job) { job.Clear(); }, "no program"},
      {[](auto& job) { set_range(job, 2, 1); }, "2-1"},
      {[](auto& job) { set_range(job, INT64_MIN, INT64_MAX); }, "tasks"},
      {[](auto& job) { set_range(job, 1, 1'000'000'000'000); }, "more than 10000000 tasks"},
      {[](auto& job) { set_range(job, 1, static_cast<std::int64_t>(kTasksMax) + 1); }, "tasks"},
      {[](auto& job) { job.mutable_lines(); }, "no items"},
      {[](auto& job) { job.mutable_lines()->add_line(std::string(kItemMax + 1, 'x')); }, "65537 bytes"},
      {[](auto& job) { job.mutable_lines()->add_line(std::string("a\0b", 3)); }, "NUL"},
      {[](auto& job) { job.set_name(std::string(kNameMax + 1, 'x')); }, "its name"},
      {[](auto& job) { job.set_retries(static_cast<std::uint32_t>(kRetriesMax) + 1); }, "1001 retries"},
      {[](auto& job) { job.set_priority(1001); }, "priority"},
      {[](auto& job) { job.set_priority(-1001); }, "priority"},
      {[](auto& job) { job.set_crash_limit(kCrashLimitMax + 1); }, "crash limit"},
      {[](auto& job) { job.set_deadline_ms(kNow); }, "deadline has passed"},
      {[](auto& job) { job.set_deadline_ms(UINT64_MAX); }, "ten years"},
      {[](auto& job) { job.mutable_needs()->set_cpus(5000); }, "5000 cpus"},
      {[](auto& job) { job.mutable_needs()->set_memory_bytes(UINT64_MAX); }, "memory"},
      {[](auto& job) { job.mutable_needs()->add_resources()->set_name("cpus"); }, "option of its own"},
      {[](auto& job) { job.set_require(std::string(1'000'000, '(')); }, "requirement"},
      {[](auto& job) { job.set_require(std::string(3000, '(')); }, "requirement"},
      {[](auto& job) { job.set_require("memory >= "); }, "column"},
      {[](auto& job) { add_group(job, "a").set_rank("speed *"); }, "group 1 'a': its rank: "},
      {[](auto& job) { job.set_rank(std::string(kExpressionMax + 1, '1')); }, "rank"},
      {[](auto& job) { job.mutable_retry()->set_delay_ms(UINT64_MAX); }, "30 days"},
      {[](auto& job) { job.mutable_retry()->add_codes()->set_first(1); }, "1-0"},
      {[](auto& job) { job.mutable_retry()->add_codes()->set_last(256); }, "0-256"},
      {[](auto& job) { for (int i = 0; i <= kCodesMax; ++i) job.mutable_retry()->add_codes(); }, "65 ranges"},
      {[](auto& job) { for (int i = 0; i <= kAfterMax; ++i) job.add_after()->set_job(1); }, "1001 jobs"},
      {[](auto& job) { add_group(job, "a", {1}); }, "group 1 'a' waits for group 2 of 1"},
      {[](auto& job) { add_group(job, "a", {0}); }, "waits for itself"},
      {[](auto& job) { add_group(job, "a"), add_group(job, "b", {0, 3}), add_group(job, "c", {1}), add_group(job, "d", {2}), add_group(job, "e", {3}); }, "waits for itself, by way of group"},
      {[](auto& job) { add_group(job, "a"), add_group(job, "b").mutable_needs()->set_gpus(5000); }, "group 2 'b': 5000 gpus"},
      {[](auto& job) { add_group(job, "a").clear_command(); }, "group 1 'a': it has no program"},
      {[](auto& job) { add_group(job, "two\nlines"); }, "not one printable line"},
      {[](auto& job) { add_group(job, std::string(kNameMax + 1, 'x')); }, "the name of group 1"},
      {[](auto& job) { for (int i = 0; i <= kGroupsMax; ++i) job.add_groups(); }, "100001 groups"},
      {[](auto& job) { for (int i = 0; i < 3; ++i) set_range(add_group(job, "g"), 1, static_cast<std::int64_t>(kTasksMax) / 2); }, "more than 10000000 tasks"},
  };
  for (std::size_t row = 0; row < table.size(); ++row) {
    wire::Job job = job_of();
    ASSERT_TRUE(check(job, kNow));
    table[row].first(job);
    const auto refused = check(job, kNow);
    ASSERT_FALSE(refused) << "row " << row << ": " << table[row].second;
    EXPECT_NE(refused.error().why.find(table[row].second), std::string::npos) << refused.error().text();
  }
}

TEST(Book, DamagedJobsAreRefusedOrSound) {
  wire::Job job;
  job.set_name("study"), job.set_priority(5), job.set_deadline_ms(kNow + 1000), job.add_after()->set_job(2), job.set_crash_limit(3);
  add_group(job, "prepare").mutable_needs()->set_cpus(2);
  auto& train = add_group(job, "train", {0});
  set_range(train, 1, 50, 7), train.set_require("os == \"linux\""), train.set_retries(2), train.mutable_retry()->add_codes()->set_last(9);
  add_group(job, "report", {1, 0}).mutable_lines()->add_line("html");
  const std::string whole = job.SerializeAsString();
  std::mt19937 chance(7);
  int sound = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = whole;
    for (auto hits = 1 + chance() % 3; hits > 0; --hits) bytes[chance() % bytes.size()] = static_cast<char>(chance());
    wire::Job damaged;
    if (!parse(bytes, damaged)) continue;
    const auto tasks = check(damaged, kNow);
    if (!tasks) continue;
    ++sound;
    const JobSubmitted event = event_of({9}, "ada@x", damaged, {{}, kNow});
    std::uint64_t sum = 0;
    for (const Group& group : event.groups) sum += group.tasks;
    ASSERT_EQ(sum, tasks.value());
    JobBook book;
    const JobEntry& entry = entry_of(book, damaged);
    ASSERT_EQ(entry.places.size(), event.groups.size());
    item_of(entry, {1}), item_of(entry, {sum}), item_of(entry, {sum + 1});
    ASSERT_EQ(entry.group_of({sum}), event.groups.size() - 1);
  }
  EXPECT_GT(sound, 100);
}

TEST(Book, ALongChainOfGroupsIsFineAndALongCircleIsNot) {
  wire::Job job;
  for (std::uint32_t at = 0; at < 100'000; ++at) add_group(job, "", at > 0 ? std::vector{at - 1} : std::vector<std::uint32_t>{});
  EXPECT_EQ(check(job, kNow).value(), 100'000u);
  job.mutable_groups(0)->add_after()->set_group(99'999);
  const auto circle = check(job, kNow);
  ASSERT_FALSE(circle);
  EXPECT_NE(circle.error().why.find("waits for itself"), std::string::npos) << circle.error().text();
}

TEST(Book, AJobWaitsForOwnAndEarlierJobsOnly) {
  JobBook book;
  entry_of(book, job_of(), 1), entry_of(book, job_of(), 2, "bob@x"), entry_of(book, job_of(), 3);
  const auto waiting_for = [&](std::uint64_t id, bool admin = false, JobId before = {}) {
    wire::Job job = job_of();
    job.add_after()->set_job(id);
    const auto good = book.check_after(job, "ada@x", admin, before);
    return good ? std::string("good") : good.error().why;
  };
  EXPECT_EQ(waiting_for(1), "good");
  EXPECT_EQ(waiting_for(2), "it waits for job 2, and there is no such job of yours, or it is no longer kept");
  EXPECT_EQ(waiting_for(2, true), "good");
  EXPECT_EQ(waiting_for(9), "it waits for job 9, and there is no such job of yours, or it is no longer kept");
  EXPECT_EQ(waiting_for(9, true), waiting_for(9));
  EXPECT_EQ(waiting_for(3, false, {3}), "it waits for job 3, which came after it");
}

TEST(Book, TellsOfEndedJobsThatOthersWaitForAndWhoWaits) {
  JobBook book;
  JobRow over;
  over.id = {1}, over.ended_ms = 9, over.state = TaskState::failed;
  book.add(over, {});
  entry_of(book, job_of(), 2);
  wire::Job job = job_of();
  job.add_after()->set_job(1), job.add_after()->set_job(2);
  const JobEntry& waits = entry_of(book, job, 3);
  const auto known = book.ended_before(waits.job);
  ASSERT_EQ(known.size(), 1u);
  EXPECT_EQ(known[0].job, JobId{1});
  EXPECT_EQ(known[0].state, TaskState::failed);
  Scheduler scheduler({1}, {});
  std::vector<Action> actions;
  scheduler.step({}, event_of({2}, "ada@x", job_of(), {}), actions);
  scheduler.step({}, known[0], actions);
  job.mutable_after(0)->set_any(true);
  scheduler.step({}, event_of({3}, "ada@x", job, {}), actions);
  EXPECT_EQ(book.status(waits, scheduler).note(), "waits for job 2");
}

TEST(Book, CountsWhatAnOwnerHasQueuedAlsoBeforeTheSchedulerHearsOfIt) {
  JobBook book;
  Scheduler scheduler({1}, {});
  wire::Job job = job_of();
  set_range(job, 1, 5);
  for (const std::uint64_t id : {1, 2, 3}) {
    JobRow row;
    row.id = {id}, row.owner = id == 3 ? "bob@x" : "ada@x", row.tasks = 5;
    book.add(row, job);
  }
  EXPECT_EQ(book.queued("ada@x", scheduler), 10u);
  std::vector<Action> actions;
  scheduler.step({}, event_of({1}, "ada@x", job, {}), actions);
  EXPECT_EQ(book.queued("ada@x", scheduler), 10u);
  book.ended(*book.find({2}));
  EXPECT_EQ(book.queued("ada@x", scheduler), 5u);
}

TEST(Book, ShowsCommandsAsOneCleanShortLine) {
  wire::Command command;
  command.add_argv("/bin/echo"), command.add_argv("a\nb\x1b[31m");
  EXPECT_EQ(shown(command), "/bin/echo a b [31m");
  command.add_argv(std::string(500, 'x'));
  EXPECT_EQ(shown(command).size(), 120u);
  wire::Command bytes;
  bytes.add_argv("\xff\xfe");
  EXPECT_EQ(shown(bytes), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Book, KnowsAJobByItsOwnersKey) {
  JobBook book;
  JobRow row;
  row.id = {7}, row.owner = "ada@x", row.key = "k";
  book.add(row, job_of());
  EXPECT_EQ(book.by_key("ada@x", "k"), JobId{7});
  EXPECT_FALSE(book.by_key("bob@x", "k"));
  EXPECT_FALSE(book.by_key("ada@x", ""));
  EXPECT_EQ(book.next_id(), JobId{8});
  book.remember_key("ada@x", "again", {7});
  EXPECT_EQ(book.by_key("ada@x", "again"), JobId{7});
}

TEST(Book, ForgetsOldJobsOldestFirstButNoneThatAnOpenOneWaitsFor) {
  JobBook book;
  const auto end = [&](std::uint64_t id, std::uint64_t ms) {
    JobEntry& entry = *book.find({id});
    entry.row.ended_ms = ms, entry.row.state = TaskState::succeeded;
    book.ended(entry);
  };
  for (const std::uint64_t id : {1, 2, 3, 4}) entry_of(book, job_of(), id);
  wire::Job waits = job_of();
  waits.add_after()->set_job(2);
  entry_of(book, waits, 5);
  end(1, 30), end(2, 20), end(3, 10);
  using Jobs = std::vector<JobId>;
  EXPECT_EQ(book.forgettable(30, 10), (Jobs{{3}}));
  EXPECT_EQ(book.forgettable(31, 10), (Jobs{{3}, {1}}));
  EXPECT_EQ(book.forgettable(31, 1), (Jobs{{3}}));
  end(5, 40);  // nobody waits for 2 any more
  EXPECT_EQ(book.forgettable(31, 10), (Jobs{{3}, {2}, {1}}));
  JobEntry& again = *book.find({2});
  again.row.ended_ms = 0;
  book.reopened(again, job_of());
  EXPECT_EQ(book.forgettable(100, 10), (Jobs{{3}, {1}, {5}}));
  book.forget({2});  // it is open
  EXPECT_TRUE(book.find({2}));
}

TEST(Book, AForgottenJobLeavesItsKeyAndKeepsItsNumber) {
  JobBook book;
  JobRow row;
  row.id = {7}, row.owner = "ada@x", row.key = "k", row.ended_ms = 1;
  book.add(row, {});
  book.remember_key("ada@x", "again", {7});  // it ran again under another key
  book.forget({7});
  EXPECT_FALSE(book.find({7}));
  EXPECT_FALSE(book.by_key("ada@x", "k"));
  EXPECT_FALSE(book.by_key("ada@x", "again"));
  EXPECT_TRUE(book.was_given({7}));
  EXPECT_FALSE(book.was_given({8}));
  EXPECT_FALSE(book.was_given({}));
  EXPECT_TRUE(book.forgettable(100, 10).empty());
  EXPECT_EQ(book.next_id(), JobId{8});
  book.given({20});  // by an earlier life
  EXPECT_EQ(book.next_id(), JobId{21});
}

TEST(Book, NobodyHearsOfAnEndThatIsNotOnDisk) {
  JobBook book;
  Scheduler scheduler({1}, {});
  entry_of(book, job_of());
  JobEntry& entry = *book.find({1});
  entry.row.started_ms = 5, entry.row.ended_ms = 9, entry.row.state = TaskState::succeeded, entry.row.succeeded = 1;
  entry.end_saved = false;
  book.ended(entry);
  EXPECT_EQ(book.status(entry, scheduler).ended_ms(), 0u);
  EXPECT_NE(book.status(entry, scheduler).state(), wire::SUCCEEDED);
  entry.end_saved = true;
  EXPECT_EQ(book.status(entry, scheduler).ended_ms(), 9u);
  EXPECT_EQ(book.status(entry, scheduler).state(), wire::SUCCEEDED);
}

TEST(Clocks, NoPeerCanMakeATimeThatOverflows) {
  const Clocks clocks{Instant(std::chrono::seconds(50)), kNow};
  EXPECT_EQ(clocks.at(kNow - 1000), Instant(std::chrono::seconds(49)));
  EXPECT_GT(clocks.at(UINT64_MAX), clocks.at(kNow));
  EXPECT_LT(clocks.at(0), clocks.at(kNow));
}

}  // namespace
}  // namespace souk
