// Stores that are fine, damaged, or none, and what `souk-manager --check` finds in them.
#include "manager/check.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "journal_stage.h"
#include "protocol/grid.pb.h"

namespace souk {
namespace {

class CheckTest : public JournalTest {
 protected:
  static std::string spec() {
    wire::Job job;
    job.mutable_command()->add_argv("true");
    return job.SerializeAsString();
  }
  void fill(Journal& journal) {
    JobRow open = row(1, 10), ended = row(2, 2);
    open.spec = ended.spec = spec();
    journal.add(open), journal.add(ended);
    journal.add(outcome(1, 2)), journal.add(outcome(2, 1));
    OutcomeRow failed = outcome(2, 2);
    failed.state = TaskState::failed;
    journal.add(failed), journal.add(attempt(2, 2, 1));
    ended.ended_ms = 9, ended.state = TaskState::failed, ended.succeeded = ended.failed = 1;
    journal.end(ended);
    commit(journal);
  }
  void fill() { fill(*open()); }
  void change(const char* sql) const { SQLite::Database(file().string(), SQLite::OPEN_READWRITE).exec(sql); }
  StoreReport check() const {
    auto report = check_store(file());
    EXPECT_TRUE(report) << report.error().text();
    return report ? report.value() : StoreReport{};
  }
  std::string findings() const {
    std::string all;
    for (const auto& finding : check().findings) all += (all.empty() ? "" : "; ") + finding;
    return all;
  }
  std::string bytes(const char* end = "") const {
    std::ostringstream text;
    text << std::ifstream(file().string() + end, std::ios::binary).rdbuf();
    return text.str();
  }
};

TEST_F(CheckTest, TellsWhatIsInAStore) {
  fill();
  const auto report = check();
  EXPECT_TRUE(report.findings.empty()) << findings();
  EXPECT_FALSE(report.in_use);
  EXPECT_EQ(report.version, 4);
  EXPECT_EQ(report.epoch, 1);
  EXPECT_EQ(report.jobs_open, 1);
  EXPECT_EQ(report.jobs_ended, 1);
  EXPECT_EQ(report.tasks_open, 9);
  EXPECT_EQ(report.outcomes, 3);
  EXPECT_EQ(report.attempts, 1);
  EXPECT_EQ(report.untold, 1);
  EXPECT_EQ(report.last_job, 2);
  const std::string text = text_of(report);
  EXPECT_NE(text.find("Jobs: 1 open with 9 tasks to do, 1 ended; the last number given is 2\n"), std::string::npos) << text;
  EXPECT_NE(text.find("Good: nothing wrong was found\n"), std::string::npos) << text;
  EXPECT_NE(json_of(report).find(R"("good":true,"read":true,"in_use":false,"version":4,)"), std::string::npos) << json_of(report);
}

TEST_F(CheckTest, LooksBesideARunningManagerAndChangesNothing) {
  auto journal = open();
  fill(*journal);
  const auto store = bytes(), log = bytes("-wal");
  EXPECT_GT(log.size(), 0u);
  const auto report = check();
  EXPECT_TRUE(report.in_use);
  EXPECT_TRUE(report.findings.empty()) << findings();
  EXPECT_EQ(report.outcomes, 3);
  EXPECT_TRUE(bytes() == store && bytes("-wal") == log);
  journal->add(outcome(1, 3));
  commit(*journal);  // the manager goes on
  EXPECT_EQ(check().outcomes, 4u);
}

TEST_F(CheckTest, ReadsWhatAKilledManagerLeftInItsLogAndLeavesItThere) {
  const pid_t child = ::fork();
  if (child == 0) {
    const auto journal = open();
    fill(*journal);
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  const auto store = bytes(), log = bytes("-wal");
  EXPECT_GT(log.size(), 0u);
  const auto report = check();
  EXPECT_EQ(report.outcomes, 3);
  EXPECT_TRUE(report.findings.empty()) << findings();
  EXPECT_TRUE(bytes() == store && bytes("-wal") == log);

  // Cut off by a power loss: what was on disk before is whole.
  std::filesystem::resize_file(file().string() + "-wal", log.size() - 3000);
  EXPECT_EQ(findings(), "");
  EXPECT_LE(check().outcomes, 3);
}

TEST_F(CheckTest, FindsRowsThatDoNotFitTogether) {
  fill();
  change("UPDATE jobs SET succeeded=2 WHERE id=2");
  EXPECT_EQ(findings(), "job 2 has ended with 2 succeeded, 1 failed and 0 canceled of 2 tasks; job 2 ended with 2 succeeded and 1 failed, but there are outcomes of 1 and 1");
  change("UPDATE jobs SET succeeded=1,state=1 WHERE id=2");
  EXPECT_EQ(findings(), "job 2 has ended, but its state is 1");
  change("UPDATE jobs SET state=3 WHERE id=2; INSERT INTO outcomes VALUES(1,2,3,1,'w',x'',x'',x'',x'')");
  EXPECT_EQ(findings(), "task 1.2 has 2 outcomes");
  change("DELETE FROM outcomes WHERE job=1 AND state=3; INSERT INTO outcomes VALUES(1,11,2,1,'w',x'',x'',x'',x''),(1,4,7,1,'w',x'',x'',x'',x'')");
  EXPECT_EQ(findings(), "the outcome of task 1.4 has state 7; there is an outcome of task 1.11, but that job has 10 tasks");
  change("DELETE FROM outcomes WHERE job=1; INSERT INTO outcomes VALUES(5,1,2,1,'w',x'',x'',x'',x''),(5,2,2,1,'w',x'',x'',x'',x'')");
  EXPECT_EQ(findings(), "there are 2 outcomes of job 5, which is not in the store");
  change("INSERT INTO forgotten VALUES(5)");
  EXPECT_EQ(findings(), "") << "they are on their way out";
  change("UPDATE specs SET spec=x'ff' WHERE job=1; DELETE FROM specs WHERE job=2");
  EXPECT_EQ(findings(), "the specification of job 1 cannot be read, so that it cannot go on; the specification of job 2 cannot be read, so that it cannot run again");
  change("DELETE FROM meta");
  EXPECT_NE(findings().find("how many lives"), std::string::npos);
  EXPECT_NE(text_of(check()).find("Keep a copy of the folder"), std::string::npos);
}

TEST_F(CheckTest, SaysNoNumberThatItCouldNotReadAndNoneThatIsNotThere) {
  fill();
  change("UPDATE meta SET value=-1 WHERE name='epoch'; UPDATE outcomes SET task=-4 WHERE job=1");
  EXPECT_EQ(findings(), "the number of lives of a manager that it has seen (epoch) is -1: no manager wrote that; there is an outcome of task 1.-4, but that job has 10 tasks");
  EXPECT_NE(text_of(check()).find("Lives: -1 (epoch)\n"), std::string::npos) << text_of(check());
  change("DROP TABLE untold");
  const auto report = check();
  EXPECT_FALSE(report.counted);
  EXPECT_NE(text_of(report).find("Jobs: what it has could not be counted\n"), std::string::npos) << text_of(report);
  EXPECT_EQ(text_of(report).find("Rows: "), std::string::npos) << text_of(report);
  EXPECT_NE(json_of(report).find(R"("epoch":null,"jobs_open":null)"), std::string::npos) << json_of(report);
}

TEST_F(CheckTest, SaysTheFirstOfManyAndHowManyMore) {
  fill();
  std::string many = "INSERT INTO outcomes VALUES";
  for (int task = 20; task < 70; ++task) many += (task > 20 ? ",(1," : "(1,") + std::to_string(task) + ",2,1,'w',x'',x'',x'',x'')";
  change(many.c_str());
  const auto found = check().findings;
  ASSERT_EQ(found.size(), 11u);
  EXPECT_EQ(found.back(), "... and 40 more like this");
}

TEST_F(CheckTest, FindsFlippedBytesWhereverTheyAreAndNeverFails) {
  {
    auto journal = open();
    fill(*journal);
    for (std::uint64_t task = 3; task <= 10; ++task) journal->add(outcome(1, task, std::string(3000, 'x')));
    commit(*journal);
  }
  const std::string whole = bytes();
  ASSERT_GT(whole.size(), 30'000u);
  int found = 0, all = 0;
  for (std::size_t at = 0; at < whole.size(); at += 4096, ++all) {  // the head of every page
    std::string damaged = whole;
    for (std::size_t byte = at; byte < at + 12; ++byte) damaged[byte] = static_cast<char>(damaged[byte] ^ 0x5a);
    std::ofstream(file(), std::ios::binary | std::ios::trunc) << damaged;
    const auto report = check_store(file());
    ASSERT_TRUE(report);
    found += !report.value().findings.empty();
    text_of(report.value()), json_of(report.value());
  }
  EXPECT_GE(found, all - 2) << "of " << all << "; a page may hold nothing but what a task wrote";
}

TEST_F(CheckTest, WhatIsNoStoreIsSaidToBeNone) {
  const auto none = check_store(file());
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().remedy.find("--state"), std::string::npos);
  std::ofstream(file()).close();
  EXPECT_NE(findings().find("it is empty"), std::string::npos);
  std::ofstream(file()) << std::string(9000, 'x');
  EXPECT_NE(findings().find("not a database"), std::string::npos) << findings();
  std::filesystem::remove(file());
  SQLite::Database(file().string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE).exec("CREATE TABLE songs(x)");
  EXPECT_EQ(findings(), "it is a database, but not a store of Souk's");
  change("PRAGMA user_version=99");
  const auto newer = check_store(file());
  ASSERT_FALSE(newer);
  EXPECT_EQ(newer.error().remedy, "use that version");
}

}  // namespace
}  // namespace souk
