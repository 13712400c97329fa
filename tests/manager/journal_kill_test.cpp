// A process with a journal is killed at any instant, again and again: what it promised is there.
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <random>
#include <set>
#include <thread>

#include "journal_stage.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

class JournalKillTest : public JournalTest {
 protected:
  struct Promise {
    char kind;  // j: job accepted, o: outcome taken, e: job ended, f: job no longer kept
    std::uint64_t job = 0, task = 0;
  };
  /// Writes as a manager does, with several commits under way, and tells of each promise when it may be made. Never returns.
  [[noreturn]] void write_on(std::uint64_t first, int pipe) {
    boost::asio::io_context loop;
    Journal::Restored restored;
    auto opened = Journal::open(file(), loop, restored);
    if (!opened) ::_exit(3);
    Journal& journal = *opened.value();
    const auto promise = [pipe](Promise made) {
      if (::write(pipe, &made, sizeof made) < 0) ::_exit(4);
    };
    for (std::uint64_t job = first;; ++job) {
      journal.add(row(job, 5));
      journal.commit([=] { promise({'j', job}); });
      loop.poll();
      for (std::uint64_t task = 1; task <= 5; ++task) {
        journal.add(outcome(job, task, std::string(task * 700, 'x')));
        journal.commit([=] { promise({'o', job, task}); });
        loop.restart(), loop.poll();
      }
      JobRow over = row(job, 5);
      over.ended_ms = 9, over.state = TaskState::succeeded, over.succeeded = 5;
      journal.end(over);
      bool ended = false;
      journal.commit([=, &ended] { promise({'e', job}), ended = true; });
      if (job % 3 == 0) {
        journal.forget({job - 2});
        journal.commit([=] { promise({'f', job - 2}); });
      }
      loop.restart();
      auto work = boost::asio::make_work_guard(loop);
      while (!ended && job % 4 == 0) loop.run_one();
    }
  }
};

TEST_F(JournalKillTest, KilledFiftyTimesItLacksNothingThatItPromised) {
  std::mt19937 random(7);
  std::set<std::uint64_t> accepted, ended, forgotten;
  std::set<std::pair<std::uint64_t, std::uint64_t>> taken;
  std::uint64_t next = 1;
  for (int life = 1; life <= 50; ++life) {
    SCOPED_TRACE("life " + std::to_string(life));
    int ends[2];
    ASSERT_EQ(::pipe(ends), 0);
    const pid_t child = ::fork();
    if (child == 0) ::close(ends[0]), write_on(next, ends[1]);
    ::close(ends[1]);
    // Killed some time after its first promise, or before that.
    Promise made{};
    std::uint64_t read = 0;
    const auto note = [&] {
      ++read;
      next = std::max(next, made.job + 1);
      if (made.kind == 'j') accepted.insert(made.job);
      if (made.kind == 'o') taken.insert({made.job, made.task});
      if (made.kind == 'e') ended.insert(made.job);
      if (made.kind == 'f') forgotten.insert(made.job);
    };
    if (life % 5 != 0 && ::read(ends[0], &made, sizeof made) == sizeof made) note();
    std::this_thread::sleep_for(std::chrono::microseconds(random() % 60'000));
    ASSERT_EQ(::kill(child, SIGKILL), 0);
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status)) << WEXITSTATUS(status);
    while (::read(ends[0], &made, sizeof made) == sizeof made) note();
    ::close(ends[0]);

    const auto journal = open();
    next = std::max(next, restored_.last_job.value + 1);
    std::set<std::uint64_t> found, over;
    for (const JobRow& job : restored_.jobs) {
      found.insert(job.id.value);
      if (job.ended_ms > 0) over.insert(job.id.value);
      next = std::max(next, job.id.value + 1);
      EXPECT_FALSE(forgotten.contains(job.id.value)) << job.id.value;
    }
    // The last kept ones; the earlier lives' were looked at after those.
    for (const std::uint64_t job : accepted) {
      if (job % 3 == 1 && job <= restored_.last_job.value) continue;  // forgotten, and maybe killed before it could say so
      ASSERT_TRUE(found.contains(job)) << job;
      ASSERT_TRUE(over.contains(job) || !ended.contains(job)) << job;
    }
    std::set<std::uint64_t> last;
    for (auto job = accepted.rbegin(); job != accepted.rend() && last.size() < 10; ++job)
      if (found.contains(*job)) last.insert(*job);
    for (const std::uint64_t job : last) {
      std::set<std::uint64_t> tasks;
      for (const OutcomeRow& outcome : outcomes_of(*journal, job)) {
        tasks.insert(outcome.task.task.value);
        EXPECT_EQ(outcome.out, std::string(outcome.task.task.value * 700, 'x'));
      }
      for (std::uint64_t task = 1; task <= 5; ++task) ASSERT_TRUE(tasks.contains(task) || !taken.contains({job, task})) << job << '.' << task;
    }
  }
  std::printf("lives=50 jobs=%zu outcomes=%zu forgotten=%zu\n", accepted.size(), taken.size(), forgotten.size());
  EXPECT_GT(accepted.size(), 100u);
  EXPECT_GT(forgotten.size(), 10u);
  EXPECT_EQ(ask("SELECT count(*) FROM pragma_integrity_check WHERE integrity_check<>'ok'"), 0);
}

}  // namespace
}  // namespace souk
