#include "manager/hearsay.h"

#include <gtest/gtest.h>

namespace souk {
namespace {

TEST(Hearsay, OneOwnerStopsNoManager) {
  Hearsay heard;
  heard.said("eve", {1'000'000}, {500}, false);
  heard.said("eve", {2'000'000}, {400}, false);
  EXPECT_EQ(heard.epoch(), Epoch{0}) << "however often, and from however many of its machines";
  EXPECT_EQ(heard.jobs(), JobId{0});
  EXPECT_EQ(heard.doubted(), "eve") << "but people should know";
}

TEST(Hearsay, WhatTwoOwnersSayCountsAndNotWhatOneAddsToIt) {
  Hearsay heard;
  heard.said("ada", {9}, {23}, false), heard.said("bob", {8}, {23}, false), heard.said("eve", {1'000'000}, {0}, false);
  EXPECT_EQ(heard.epoch(), Epoch{9}) << "ada and eve say so at least";
  EXPECT_EQ(heard.jobs(), JobId{23});
  EXPECT_EQ(heard.doubted(), "eve");
  heard.forget("eve");
  EXPECT_EQ(heard.epoch(), Epoch{8});
  heard.forget("bob");
  EXPECT_EQ(heard.epoch(), Epoch{0}) << "who is banned said nothing";
}

TEST(Hearsay, TheWordOfWhoseGridItIsIsEnough) {
  Hearsay heard;
  heard.said("admin", {9}, {23}, true), heard.said("eve", {1'000'000}, {1'000'000}, false);
  EXPECT_EQ(heard.epoch(), Epoch{9});
  EXPECT_EQ(heard.jobs(), JobId{23});
}

TEST(Hearsay, IsBoundedAndHearsThoseWhoCountAllTheSame) {
  Hearsay heard;
  for (std::size_t i = 0; i < 10 * Hearsay::kOwnersMax; ++i) heard.said("w-" + std::to_string(i), {}, {}, false);
  heard.said("late", {9}, {}, false);
  EXPECT_FALSE(heard.heard("late"));
  heard.said("admin", {9}, {}, true);
  EXPECT_EQ(heard.epoch(), Epoch{9});
}

}  // namespace
}  // namespace souk
