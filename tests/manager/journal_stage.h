// A journal in a folder of its own, and a loop that runs until it answers.
#pragma once
#include <SQLiteCpp/SQLiteCpp.h>
#include <gtest/gtest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <cstdlib>

#include "manager/journal.h"

namespace souk {

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
  template <class T, class Ask>
  T answer(Ask ask) {
    T answer;
    await([&](auto done) {
      ask([&answer, done](Result<T> got) {
        EXPECT_TRUE(got) << got.error().text();
        answer = std::move(got.value()), done();
      });
    });
    return answer;
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

  static AttemptRow attempt(std::uint64_t job, std::uint64_t task, unsigned run) {
    return {{{job}, {task}}, run, "w1", "lab7", "exit code 3", std::string("b\0ad\n", 5), 77, 1000, 0, 0, 0, {}};
  }
  Journal::History history_of(Journal& journal, TaskId task) {
    return answer<Journal::History>([&](auto then) { journal.read_history(task, then); });
  }
  std::vector<OutcomeRow> outcomes_of(Journal& journal, std::uint64_t job) {
    return answer<std::vector<OutcomeRow>>([&](auto then) { journal.read({{job}, 1, 0, 100, 64 << 10, true, false}, then); });
  }
  /// Of the file on disk, read beside whoever has it open.
  std::int64_t ask(const std::string& sql) const { return SQLite::Database(file().string(), SQLite::OPEN_READONLY, 1000).execAndGet(sql).getInt64(); }

  std::filesystem::path folder_;
  boost::asio::io_context loop_;
  Journal::Restored restored_;
};

}  // namespace souk
