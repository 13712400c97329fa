// The whole grid on thousands of seeds. GRID_SEED=17 repeats one run exactly, GRID_SEEDS=1-5000 runs many, GRID_ALOUD=1 tells all of one.
#include <gtest/gtest.h>
#include <tbb/blocked_range.h>
#include <tbb/parallel_for.h>

#include <atomic>
#include <cmath>
#include <cstdlib>
#include <mutex>

#include "tests/simulation/regression_seeds.h"
#include "tests/simulation/simulation.h"

namespace souk::simulation {
namespace {

constexpr std::uint64_t kSeeds = 2000;  // in every run of the tests

struct Range {
  std::uint64_t first = 1, last = kSeeds;
};
std::uint64_t number(const char* text) { return std::strtoull(text, nullptr, 10); }
Range seeds() {
  if (const char* one = std::getenv("GRID_SEED")) return {number(one), number(one)};
  if (const char* many = std::getenv("GRID_SEEDS")) {
    const std::string text = many;
    const auto dash = text.find('-');
    return {number(text.c_str()), dash == std::string::npos ? number(text.c_str()) : number(text.c_str() + dash + 1)};
  }
  return {};
}

TEST(GridSimulation, EveryTaskEndsOnceWhateverTheWeather) {
  const auto [first, last] = seeds();
  const bool aloud = std::getenv("GRID_ALOUD") && first == last;
  std::mutex mutex;
  std::atomic<unsigned> failures = 0;
  std::atomic<std::uint64_t> steps = 0;
  tbb::parallel_for(tbb::blocked_range<std::uint64_t>(first, last + 1, 1), [&](const auto& range) {  // seeds share nothing
    for (std::uint64_t seed = range.begin(); seed < range.end(); ++seed) {
      if (failures > 5) return;
      Simulation grid(seed);
      grid.world.aloud = aloud;
      if (const auto broken = grid.run()) {
        ++failures;
        const std::lock_guard lock(mutex);
        ADD_FAILURE() << "seed " << seed << ": " << *broken;
      }
      steps += grid.world.steps();
    }
  });
  RecordProperty("steps", std::to_string(steps.load()));
}

TEST(GridSimulation, TheSameSeedIsTheSameRun) {
  const std::uint64_t first = seeds().first;
  for (std::uint64_t seed = first; seed < first + 10; ++seed) {
    Simulation one(seed), two(seed);
    one.run(), two.run();
    EXPECT_EQ(one.world.hash(), two.world.hash()) << "seed " << seed;
    EXPECT_EQ(one.world.steps(), two.world.steps());
  }
  Simulation other(first + 10), one(first);
  other.run(), one.run();
  EXPECT_NE(one.world.hash(), other.world.hash());
}

/// Two owners who always have one-slot tasks waiting. Whoever used less goes first, so who is ahead gets nothing more: the lead is at most what was
/// running when it was reached, all slots for the longest task. What runs is counted only when it ended: as much again.
TEST(GridSimulation, OwnersWhoAlwaysWaitShareByTheirWeights) {
  for (const double weight : {1.0, 3.0})
    for (std::uint64_t seed = 1; seed <= 4; ++seed) {
      SCOPED_TRACE("seed " + std::to_string(seed) + ", weight " + std::to_string(weight));
      Dice dice(seed);
      Plan plan;
      plan.lease = std::chrono::seconds(30);
      int slots = 0;
      for (int i = 0; i < 4; ++i) {
        HostPlan host;
        host.offer.slots = host.offer.cpus = static_cast<int>(dice.between(1, 6));
        host.offer.tags["zone"] = "north";
        host.speed_percent = static_cast<int>(dice.between(100, 200));
        slots += host.offer.slots;
        plan.hosts.push_back(host);
      }
      for (const bool rich : {true, false}) {
        JobPlan job;
        job.owner = rich ? "ada@grid" : "bob@grid";
        job.groups = {Group{}};
        job.groups[0].tasks = 5'000;
        job.task_low = std::chrono::milliseconds(rich ? 2'000 : 250);  // up to 4 s and 2 s
        job.task_doublings = rich ? 1 : 3;
        job.submitted = std::chrono::seconds(1);
        plan.jobs.push_back(job);
      }
      plan.owners.push_back({"ada@grid", weight, 0});
      Simulation grid(seed, plan);
      grid.begin();
      const double bound = 2 * slots * 4.0;
      for (int second = 1; second <= 120; ++second) {
        grid.run_until(Instant(std::chrono::seconds(second)));
        ASSERT_FALSE(grid.world.broken()) << grid.report();
        const auto used = [&](const char* owner) { return static_cast<double>(grid.used[owner].count()) / 1e6; };
        ASSERT_LE(std::abs(used("ada@grid") / weight - used("bob@grid")), bound) << "at " << second << " s of " << used("ada@grid") << " and " << used("bob@grid");
      }
      ASSERT_GT(grid.scheduler().counts({1})->waiting, 0u);
      ASSERT_GT(grid.scheduler().counts({2})->waiting, 0u);
      EXPECT_GT(grid.used["bob@grid"], Duration(0));
    }
}

class RegressionSeed : public testing::TestWithParam<Regression> {};
TEST_P(RegressionSeed, Holds) {
  const auto broken = Simulation(GetParam().seed, Plan::draw(GetParam().seed, GetParam().kinds)).run();
  EXPECT_FALSE(broken) << *broken;
}
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RegressionSeed);
INSTANTIATE_TEST_SUITE_P(GridSimulation, RegressionSeed, testing::ValuesIn(kRegressions), [](const auto& seed) { return std::string(seed.param.name); });

}  // namespace
}  // namespace souk::simulation
