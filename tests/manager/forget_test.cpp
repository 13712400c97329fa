// Jobs that are no longer kept, and owners that are still to be told.
#include <algorithm>
#include <thread>

#include "journal_stage.h"
#include "manager/schema.h"
#include "manager/store_rows.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

class ForgetTest : public JournalTest {
 protected:
  static JobRow ended(std::uint64_t id, std::uint64_t tasks) {
    JobRow r = row(id, tasks);
    r.ended_ms = 9, r.state = TaskState::succeeded, r.succeeded = tasks;
    return r;
  }
  void fill(Journal& journal, std::uint64_t job, std::uint64_t tasks, const std::string& out) {
    journal.add(row(job, tasks));
    for (std::uint64_t task = 1; task <= tasks; ++task) journal.add(outcome(job, task, out));
    journal.add(attempt(job, 1, 1));
    journal.end(ended(job, tasks));
    commit(journal);
  }
  void swept(Journal& journal) {
    while (journal.forgetting() > 0) std::this_thread::sleep_for(1ms);  // on the journal's own thread
  }
};

TEST_F(ForgetTest, AForgottenJobLeavesNothingAndItsNumberIsNeverGivenAgain) {
  {
    auto journal = open();
    fill(*journal, 1, 3, "a"), fill(*journal, 2, 3, "b");
    journal->forget({2});
    commit(*journal);
    swept(*journal);
    EXPECT_EQ(outcomes_of(*journal, 1).size(), 3u);
    EXPECT_TRUE(outcomes_of(*journal, 2).empty());
    for (const char* table : {"outcomes", "attempts", "specs", "forgotten", "untold"})
      EXPECT_EQ(ask(std::string("SELECT count(*) FROM ") + table + " WHERE job=2"), 0) << table;
  }
  open();
  ASSERT_EQ(restored_.jobs.size(), 1u);
  EXPECT_EQ(restored_.jobs[0].id, JobId{1});
  EXPECT_EQ(restored_.last_job, JobId{2});
}

TEST_F(ForgetTest, TheDiskGetsBackWhatIsNoLongerKept) {
  auto journal = open();
  for (std::uint64_t job = 1; job <= 4; ++job) fill(*journal, job, 100, std::string(100'000, 'x'));
  for (std::uint64_t job = 1; job <= 3; ++job) journal->forget({job});
  commit(*journal);
  swept(*journal);
  EXPECT_GT(ask("PRAGMA page_count"), 5000);
  const auto began = std::chrono::steady_clock::now();
  const auto pages = [&] { return ask("PRAGMA page_count"); };
  while (pages() > 5000 && std::chrono::steady_clock::now() - began < 10s) std::this_thread::sleep_for(5ms);
  EXPECT_LT(pages(), 5000) << "of 40 MB in over 10,000 pages, 10 MB are kept and some MB stay free";
  EXPECT_EQ(ask("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check<>'ok'"), 0);
  EXPECT_EQ(outcomes_of(*journal, 4).size(), 100u);
}

TEST_F(ForgetTest, ForgettingGoesOnWhereItWasInTheNextLife) {
  {
    auto journal = open();
    fill(*journal, 1, 5000, "a");
    journal->forget({1});
    commit(*journal);
  }  // at once: most is still there
  const auto left = ask("SELECT count(*) FROM outcomes");
  EXPECT_GT(left, 0);
  auto journal = open();
  EXPECT_TRUE(restored_.jobs.empty());
  swept(*journal);
  EXPECT_EQ(ask("SELECT count(*) FROM outcomes"), 0);
}

TEST_F(ForgetTest, OwnersThatWereNotToldAreToldByTheNextLife) {
  {
    auto journal = open();
    fill(*journal, 1, 1, "a"), fill(*journal, 2, 1, "b"), fill(*journal, 3, 1, "c"), fill(*journal, 4, 1, "d");
    journal->told({1});
    journal->reopen(row(3, 1));
    journal->forget({4});
    commit(*journal);
  }
  open();
  EXPECT_EQ(restored_.untold, std::vector<JobId>{{2}});
}

TEST_F(ForgetTest, AfterOldRowsWentACommitIsOnDiskAsBefore) {
  {
    auto journal = open();
    fill(*journal, 1, 50, "a");
    journal->forget({1});
    commit(*journal);
  }
  const auto store = open_store(file());
  Statements statements(*store);
  StoreSweeper sweeper(statements);
  while (!sweeper.idle()) sweeper.sweep(2ms);
  EXPECT_EQ(store->execAndGet("SELECT count(*) FROM outcomes").getInt(), 0);
  EXPECT_EQ(store->execAndGet("PRAGMA synchronous").getInt(), 2);
}

/// Commits must not wait for old rows to go. Prints what it measured; docs/PERFORMANCE.md has the figures of a million rows.
TEST_F(ForgetTest, CommitsGoOnWhileManyRowsAreTakenAway) {
  const char* rows = std::getenv("SOUK_FORGET_ROWS");
  const std::uint64_t all = rows ? std::strtoull(rows, nullptr, 10) : 60'000, jobs = 20;
  auto journal = open();
  for (std::uint64_t job = 1; job <= jobs; ++job) fill(*journal, job, all / jobs, std::string(40, 'x'));
  journal->add(row(jobs + 1, all));
  commit(*journal);
  const auto measure = [&](std::uint64_t first, auto more) {
    std::vector<double> ms;
    for (std::uint64_t task = first; more() || ms.size() < 50; ++task) {
      const auto began = std::chrono::steady_clock::now();
      for (std::uint64_t at = 0; at < 10; ++at) journal->add(outcome(jobs + 1, task * 10 + at));
      commit(*journal);
      ms.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - began).count());
      std::this_thread::sleep_for(1ms);  // a grid at work, and no flood: the rows go between its commits
    }
    std::sort(ms.begin(), ms.end());
    return ms;
  };
  int quiet = 300;
  const auto before = measure(1, [&] { return --quiet > 0; });
  for (std::uint64_t job = 1; job <= jobs; ++job) journal->forget({job});
  const auto began = std::chrono::steady_clock::now();
  const auto during = measure(100'000, [&] { return journal->forgetting() > 0; });
  const double s = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
  const auto at = [](const std::vector<double>& ms, double part) { return ms[static_cast<std::size_t>(part * static_cast<double>(ms.size() - 1))]; };
  std::printf("rows=%llu s=%.1f commits=%zu | before: p50 %.2f p99 %.2f max %.2f ms | during: p50 %.2f p99 %.2f max %.2f ms\n", static_cast<unsigned long long>(all), s, during.size(),
              at(before, .5), at(before, .99), before.back(), at(during, .5), at(during, .99), during.back());
  EXPECT_LT(at(during, .5), at(before, .5) + 15);
  EXPECT_EQ(ask("SELECT count(*) FROM outcomes WHERE job<=" + std::to_string(jobs)), 0);
}

}  // namespace
}  // namespace souk
