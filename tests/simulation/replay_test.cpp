#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "bench/workload.h"

namespace souk::bench {
namespace {

std::vector<TraceJob> read(const std::string& text) {
  std::istringstream from(text);
  std::uint64_t left_out = 0;
  auto jobs = read_swf(from, left_out);
  EXPECT_TRUE(jobs) << jobs.error().text();
  return jobs ? jobs.value() : std::vector<TraceJob>{};
}
std::vector<TraceJob> sample() {
  std::ifstream from(SAMPLE);
  EXPECT_TRUE(from);
  std::uint64_t left_out = 0;
  return read_swf(from, left_out).value();
}
Grid small() {
  Grid grid;
  grid.workers = 500, grid.scale = 0.05;
  return grid;
}
/// All of it but the one figure that is measured in CPU time.
std::string figures(std::vector<Replay> replays) {
  for (Replay& replay : replays) replay.decisions_per_s = 0;
  return as_json(replays) + as_svg(replays);
}

TEST(Replay, ReadsTheStandardWorkloadFormat) {
  const auto jobs = read("; UnixStartTime: 0\n"
                         "1 100 5 60 4 -1 1024 4 3600 -1 1 7 -1 -1 -1 -1 -1 -1\n"
                         "\n"
                         "2 90 -1 30 -1 -1 -1 2 -1 -1 1 -1 -1 -1 -1 -1 -1 -1\n");
  ASSERT_EQ(jobs.size(), 2u);
  EXPECT_EQ(jobs[0].number, 2u);  // by time of submission, from the first
  EXPECT_EQ(jobs[0].submitted, std::chrono::seconds(0));
  EXPECT_EQ(jobs[0].processors, 2u);  // asked, as what it had is unknown
  EXPECT_EQ(jobs[1].submitted, std::chrono::seconds(10));
  EXPECT_EQ(jobs[1].run, std::chrono::seconds(60));
  EXPECT_EQ(jobs[1].asked, std::chrono::seconds(3600));
  EXPECT_EQ(jobs[1].memory_kib, 1024u);
  EXPECT_EQ(jobs[1].user, 7u);
}

TEST(Replay, LeavesOutJobsThatNeverRanAndRefusesWhatIsNoTrace) {
  std::uint64_t left_out = 0;
  std::istringstream never_ran("1 0 -1 -1 4 -1 -1 4 -1 -1 5 1 -1 -1 -1 -1 -1 -1\n");
  EXPECT_TRUE(read_swf(never_ran, left_out).value().empty());
  EXPECT_EQ(left_out, 1u);
  for (const char* bad : {"1 2 3\n", "a b c\n", "1 0 -1 60 4 -1 -1 4 -1 -1 1 1 -1 -1 -1 -1 -1 x\n", "1 0 -1 1e300 4 -1 -1 4 -1 -1 1 1 -1 -1 -1 -1 -1 -1\n"}) {
    std::istringstream from(std::string("; fine\n") + bad);
    const auto jobs = read_swf(from, left_out);
    ASSERT_FALSE(jobs) << bad;
    EXPECT_NE(jobs.error().text().find("line 2"), std::string::npos) << jobs.error().text();
  }
}

TEST(Replay, TheSampleIsWhatItsSeedMakes) {
  std::ostringstream made;
  write_swf(made, make_sample(1, 2000), "made by souk_replay --make-sample 2000 --seed 1");
  std::ifstream from(SAMPLE);
  std::ostringstream stored;
  stored << from.rdbuf();
  EXPECT_EQ(made.str(), stored.str());
}

TEST(Replay, IsTheSameEachTime) {
  const auto trace = sample();
  const Grid grid = small();
  const auto all = [&] { return figures({replay_fifo(trace, grid, false), replay_fifo(trace, grid, true), replay_souk(trace, grid)}); };
  EXPECT_EQ(all(), all());
}

TEST(Replay, EveryTaskRunsOnceWhateverThePolicy) {
  const auto trace = sample();
  const Grid grid = small();
  const Replay fifo = replay_fifo(trace, grid, false), souk = replay_souk(trace, grid);
  EXPECT_EQ(fifo.tasks, souk.tasks);
  EXPECT_EQ(souk.waits.size(), trace.size());
  EXPECT_EQ(fifo.waits.size(), trace.size());
}

TEST(Replay, SoukServesUsersBetterThanFirstComeFirstServed) {
  const auto trace = sample();
  const Grid grid = small();
  const Replay fastest = replay_fifo(trace, grid, true), souk = replay_souk(trace, grid);
  EXPECT_LT(souk.slowdown_mean, fastest.slowdown_mean);
  EXPECT_LT(souk.wait_mean_s, fastest.wait_mean_s);
  EXPECT_LT(souk.worst_user, fastest.worst_user);
  EXPECT_GT(souk.fairness, fastest.fairness);
}

}  // namespace
}  // namespace souk::bench
