#include "manager/book.h"

#include <gtest/gtest.h>

namespace souk {
namespace {

wire::Job job_of(const std::string& program = "true") {
  wire::Job job;
  job.mutable_command()->add_argv(program);
  return job;
}

TEST(Book, CountsTasksOfRangesListsAndSingleJobs) {
  wire::Job job = job_of();
  EXPECT_EQ(check(job).value(), 1u);
  job.mutable_range()->set_first(1), job.mutable_range()->set_last(10), job.mutable_range()->set_step(3);
  EXPECT_EQ(check(job).value(), 4u);
  EXPECT_EQ(item_of(job, {4}), "10");
  job.mutable_range()->set_first(-5), job.mutable_range()->set_last(-5), job.mutable_range()->set_step(0);
  EXPECT_EQ(check(job).value(), 1u);
  EXPECT_EQ(item_of(job, {1}), "-5");
  job.mutable_lines()->add_line("a b"), job.mutable_lines()->add_line("");
  EXPECT_EQ(check(job).value(), 2u);
  EXPECT_EQ(item_of(job, {1}), "a b");
  EXPECT_EQ(item_of(job, {3}), "");
}

TEST(Book, RefusesWhatNoJobMayBe) {
  EXPECT_FALSE(check(wire::Job()));
  wire::Job job = job_of();
  job.mutable_range()->set_first(2), job.mutable_range()->set_last(1);
  EXPECT_FALSE(check(job));
  job.mutable_range()->set_first(INT64_MIN), job.mutable_range()->set_last(INT64_MAX);
  EXPECT_FALSE(check(job));
  job.mutable_range()->set_first(1), job.mutable_range()->set_last(static_cast<std::int64_t>(kTasksMax) + 1);
  EXPECT_FALSE(check(job));
  job.mutable_lines();
  EXPECT_FALSE(check(job));
  job.mutable_lines()->add_line(std::string(kItemMax + 1, 'x'));
  EXPECT_FALSE(check(job));
  job = job_of();
  job.set_name(std::string(kNameMax + 1, 'x'));
  EXPECT_FALSE(check(job));
  job = job_of();
  job.set_retries(static_cast<std::uint32_t>(kRetriesMax) + 1);
  EXPECT_FALSE(check(job));
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
}

}  // namespace
}  // namespace souk
