#include "manager/journal.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <boost/asio/executor_work_guard.hpp>
#include <cstdlib>
#include <fstream>

namespace souk {
namespace {

class JournalTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string name = (std::filesystem::temp_directory_path() / "souk-journal-XXXXXX").string();
    ASSERT_NE(mkdtemp(name.data()), nullptr);
    folder_ = name;
  }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path file() const { return folder_ / "grid.sqlite"; }
  std::unique_ptr<Journal> open() {
    restored_ = {};
    auto journal = Journal::open(file(), loop_, restored_);
    EXPECT_TRUE(journal) << journal.error().text();
    return std::move(journal.value());
  }
  /// Runs the loop until `done` was called.
  template <class Start>
  void await(Start start) {
    bool called = false;
    start([&] { called = true; });
    loop_.restart();
    auto work = boost::asio::make_work_guard(loop_);
    while (!called) loop_.run_one();
  }
  void commit(Journal& journal) {
    await([&](auto done) { journal.commit(done); });
  }
  static JobRow row(std::uint64_t id, std::uint64_t tasks) {
    JobRow r;
    r.id = {id}, r.owner = "ada@x", r.key = "key", r.name = "na\"me", r.command = "true", r.tasks = tasks, r.retries = 2, r.submitted_ms = 5;
    r.spec = std::string("\0spec", 5);
    return r;
  }
  static OutcomeRow outcome(std::uint64_t job, std::uint64_t task, std::string out = "out") {
    return {{{job}, {task}}, TaskState::succeeded, 1, "w1", "item", "meta", std::move(out), std::string("e\0r", 3)};
  }

  std::filesystem::path folder_;
  boost::asio::io_context loop_;
  Journal::Restored restored_;
};

TEST_F(JournalTest, GivesBackOpenJobsAndTheirOutcomesAndGrowsItsEpoch) {
  {
    auto journal = open();
    EXPECT_EQ(restored_.epoch, Epoch{1});
    journal->add(row(1, 3)), journal->add(row(2, 1));
    journal->add(outcome(1, 2)), journal->add(outcome(1, 2, "again"));
    journal->cancel({1});
    JobRow ended = row(2, 1);
    ended.ended_ms = 9, ended.state = TaskState::failed, ended.failed = 1;
    journal->add(outcome(2, 1)), journal->end(ended);
    commit(*journal);
  }
  auto journal = open();
  EXPECT_EQ(restored_.epoch, Epoch{2});
  ASSERT_EQ(restored_.jobs.size(), 2u);
  EXPECT_EQ(restored_.jobs[0].spec, std::string("\0spec", 5));
  EXPECT_EQ(restored_.jobs[0].name, "na\"me");
  EXPECT_TRUE(restored_.jobs[0].canceled);
  EXPECT_EQ(restored_.jobs[1].state, TaskState::failed);
  EXPECT_EQ(restored_.jobs[1].spec, "");
  ASSERT_EQ(restored_.ended.size(), 1u);  // of the open job only, and once
  EXPECT_EQ(restored_.ended[0].first, (TaskId{{1}, {2}}));
}

TEST_F(JournalTest, ReadsPagesAndStreamsWithBinaryContent) {
  auto journal = open();
  journal->add(row(1, 10));
  for (std::uint64_t task = 1; task <= 10; ++task) journal->add(outcome(1, task, std::string(1000, static_cast<char>('a' + task))));
  std::vector<OutcomeRow> rows;
  await([&](auto done) {
    journal->read({{1}, 3, 9, 5, 2100, true, false}, [&, done](Result<std::vector<OutcomeRow>> got) { rows = std::move(got.value()), done(); });
  });
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[0].task.task, TaskNumber{3});
  EXPECT_EQ(rows[0].out, std::string(1000, 'd'));
  EXPECT_EQ(rows[0].err, std::string("e\0r", 3));
  EXPECT_EQ(rows[2].out, "");  // did not fit any more
  EXPECT_EQ(rows[2].out_kept, 1000u);
  std::string data;
  std::uint64_t size = 0;
  await([&](auto done) {
    journal->read_stream({{1}, {4}}, false, 990, 100, [&, done](Result<Journal::Slice> got) { data = got.value().data, size = got.value().size, done(); });
  });
  EXPECT_EQ(data, std::string(10, 'e'));
  EXPECT_EQ(size, 1000u);
}

TEST_F(JournalTest, IsPrivateAndHasOneUser) {
  auto journal = open();
  struct stat facts {};
  ASSERT_EQ(::stat(file().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
  Journal::Restored other;
  const auto second = Journal::open(file(), loop_, other);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().remedy.find("other manager"), std::string::npos) << second.error().text();
}

TEST_F(JournalTest, RefusesAStoreOfANewerVersionAndADamagedOne) {
  open().reset();
  { SQLite::Database(file().string(), SQLite::OPEN_READWRITE).exec("PRAGMA user_version=99"); }
  Journal::Restored restored;
  const auto newer = Journal::open(file(), loop_, restored);
  ASSERT_FALSE(newer);
  EXPECT_NE(newer.error().why.find("newer version"), std::string::npos);
  { std::ofstream(folder_ / "bad.sqlite") << std::string(5000, 'x'); }
  EXPECT_FALSE(Journal::open(folder_ / "bad.sqlite", loop_, restored));
}

}  // namespace
}  // namespace souk
