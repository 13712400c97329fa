// What of a worker is free, and who gets which.
#include "worker/packing.h"

#include <gtest/gtest.h>

namespace souk::worker {
namespace {

Capacity lab() { return {8ull << 30, 100ull << 30, 3, {{"license", {2, {}}}, {"fpga", {3, {"a", "b", "c"}}}}, {0, 1, 4, 5}}; }

TEST(Packing, HandsOutTheLowestFreeGpuAndUnit) {
  Packing packing(8, lab());
  const Needs one{.gpus = 1, .resources = {{"fpga", 1}}}, two{.gpus = 2, .resources = {{"fpga", 2}}};
  const Granted first = packing.take(one, false), second = packing.take(two, false);
  EXPECT_EQ(first.gpus, (std::vector<int>{0}));
  EXPECT_EQ(first.units.at("fpga"), (std::vector<std::string>{"a"}));
  EXPECT_EQ(second.gpus, (std::vector<int>{1, 2}));
  EXPECT_EQ(second.units.at("fpga"), (std::vector<std::string>{"b", "c"}));
  EXPECT_FALSE(packing.fits(one));
  packing.give_back(one, first);
  EXPECT_TRUE(packing.fits(one));
  EXPECT_EQ(packing.take(one, false), first);
}

TEST(Packing, CountsWhatHasNoNames) {
  Packing packing(8, lab());
  const Needs needs{.cpus = 2, .memory_bytes = 3ull << 30, .disk_bytes = 1, .resources = {{"license", 1}}};
  const Granted first = packing.take(needs, false);
  EXPECT_TRUE(first.units.empty());
  EXPECT_TRUE(first.processors.empty());
  packing.take(needs, false);
  EXPECT_EQ(packing.slots_free(), 4);
  EXPECT_FALSE(packing.fits(Needs{.resources = {{"license", 1}}}));
  EXPECT_FALSE(packing.fits(Needs{.memory_bytes = 3ull << 30}));
  EXPECT_TRUE(packing.fits(Needs{.memory_bytes = 2ull << 30}));
  packing.give_back(needs, first);
  EXPECT_TRUE(packing.fits(needs));
}

TEST(Packing, SaysWhatThisWorkerNeverHas) {
  const Packing packing(2, lab());
  EXPECT_EQ(packing.never(Needs{.cpus = 3}), "asks 3 cpus, this worker has 2");
  EXPECT_EQ(packing.never(Needs{.memory_bytes = 3ull << 32}), "asks 12 GiB of memory, this worker has 8 GiB");
  EXPECT_EQ(packing.never(Needs{.memory_bytes = (8ull << 30) + (1u << 29)}), "asks 8.5 GiB of memory, this worker has 8 GiB");
  EXPECT_EQ(packing.never(Needs{.disk_bytes = 1ull << 50}), "asks 1 PiB of disk, this worker has 100 GiB");
  EXPECT_EQ(packing.never(Needs{.gpus = 4}), "asks 4 gpus, this worker has 3");
  EXPECT_EQ(packing.never(Needs{.resources = {{"fpga", 4}}}), "asks 4 of resource fpga, this worker has 3");
  EXPECT_EQ(packing.never(Needs{.resources = {{"plotter", 1}}}), "asks 1 of resource plotter, this worker has 0");
  EXPECT_EQ(packing.never(Needs{.cpus = 2, .memory_bytes = 8ull << 30, .gpus = 3, .resources = {{"fpga", 3}}}), std::nullopt);
}

TEST(Packing, PinnedAttemptsShareProcessorsOnlyWhenTheyMustAndThenEvenly) {
  Packing packing(8, lab());
  const Needs two{.cpus = 2};
  EXPECT_EQ(packing.take(two, true).processors, (std::vector<int>{0, 1}));
  const Granted second = packing.take(two, true);
  EXPECT_EQ(second.processors, (std::vector<int>{4, 5}));
  EXPECT_EQ(packing.take(two, true).processors, (std::vector<int>{0, 1}));
  packing.give_back(two, second);
  EXPECT_EQ(packing.take(two, true).processors, (std::vector<int>{4, 5}));
  EXPECT_EQ(Packing(8, lab()).take(Needs{.cpus = 6}, true).processors, (std::vector<int>{0, 1, 4, 5}));  // all there are
}

TEST(Packing, TakesNothingTwice) {
  Packing packing(8, lab());
  const Needs one{.gpus = 1, .resources = {{"fpga", 1}}};
  const Granted granted = packing.take(one, false);
  EXPECT_FALSE(Packing(packing).take_these(one, granted));
  Packing other(8, lab());
  EXPECT_TRUE(other.take_these(one, granted));
  EXPECT_EQ(other, packing);
}

}  // namespace
}  // namespace souk::worker
