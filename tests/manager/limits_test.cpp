#include "manager/limits.h"

#include <gtest/gtest.h>

#include <sstream>

namespace souk {
namespace {

std::string told(const Limits& limits) {
  std::ostringstream text;
  for (const auto& event : limits.events()) text << (event.owner.empty() ? "*" : event.owner) << ' ' << event.weight << ' ' << event.running_max << ';';
  return text.str();
}

TEST(Limits, WhoIsNamedForOneThingHasWhatEverybodyHasForTheRest) {
  Limits limits;
  EXPECT_EQ(told(limits), "");
  ASSERT_TRUE(limits.add_share("ada@x=2.5"));
  ASSERT_TRUE(limits.add_limit("*:running=20,queued=100"));
  ASSERT_TRUE(limits.add_limit("bob@x:queued=5"));
  ASSERT_TRUE(limits.add_limit("eve@x:queued=0,running=1"));
  EXPECT_EQ(told(limits), "* 1 20;ada@x 2.5 20;bob@x 1 20;eve@x 1 1;");
  EXPECT_EQ(limits.queued_max("ada@x"), 100u);
  EXPECT_EQ(limits.queued_max("bob@x"), 5u);
  EXPECT_EQ(limits.queued_max("eve@x"), 0u);
  EXPECT_EQ(limits.queued_max("somebody@else"), 100u);
}

TEST(Limits, NoOwnerIsEverybody) {
  Limits limits;
  ASSERT_TRUE(limits.add_limit("running=7"));
  ASSERT_TRUE(limits.add_share("*=3"));
  EXPECT_EQ(told(limits), "* 3 7;");
}

TEST(Limits, RefusesWhatItDoesNotUnderstand) {
  Limits limits;
  for (const char* share : {"", "ada@x", "ada@x=", "ada@x=much", "ada@x=0", "ada@x=-1", "ada@x=nan", "ada@x=1e9", "ada@x=1 "}) EXPECT_FALSE(limits.add_share(share)) << share;
  for (const char* limit : {"", "ada@x", "ada@x:", "ada@x:running", "ada@x:running=", "ada@x:running=-1", "ada@x:running=1,", "ada@x:waiting=1", "ada@x:queued=1e3"}) {
    const auto refused = limits.add_limit(limit);
    ASSERT_FALSE(refused) << limit;
    EXPECT_NE(refused.error().remedy.find("running="), std::string::npos);
  }
}

TEST(Limits, ReadsHowMuchMemoryMayBeFilled) {
  Limits limits;
  ASSERT_TRUE(limits.set_memory_max("512MiB"));
  EXPECT_EQ(limits.memory_max(), 512u << 20);
  ASSERT_TRUE(limits.set_memory_max("4GiB"));
  EXPECT_EQ(limits.memory_max(), 4ull << 30);
  for (const char* text : {"", "GiB", "4", "4GB", "15MiB", "-1GiB", "1.5GiB", "9999999GiB", " 1GiB"}) EXPECT_FALSE(limits.set_memory_max(text)) << text;
  limits.set_machine_memory(4ull << 30);
  EXPECT_EQ(limits.memory_max(), 1ull << 30);
  limits.set_machine_memory(64ull << 30);
  EXPECT_EQ(limits.memory_max(), 2ull << 30);
}

TEST(Space, OneAloneFillsMostOfItAndOthersFindWhatIsLeft) {
  Space space(1600);  // 1500 and the last sixteenth
  EXPECT_EQ(space.room("ada", 1126), Space::Room::never);
  ASSERT_EQ(space.room("ada", 1125), Space::Room::yes);
  space.take("ada", 1125);
  EXPECT_EQ(space.room("ada", 2), Space::Room::later);
  EXPECT_EQ(space.room("bob", 280), Space::Room::yes);
  EXPECT_EQ(space.room("bob", 300), Space::Room::later);
  space.give_back("ada", 100);
  EXPECT_EQ(space.room("ada", 100), Space::Room::yes);
}

TEST(Space, WhoComesLateFindsSomeHoweverMuchTheOthersTook) {
  Space space(1 << 20);
  for (int owner = 0; owner < 60; ++owner) {
    const std::string name = "owner" + std::to_string(owner);
    ASSERT_EQ(space.room(name, 1000), Space::Room::yes) << owner << " with " << space.used() << " used";
    while (space.room(name, 1) == Space::Room::yes) space.take(name, 1);
  }
  EXPECT_LE(space.used(), space.most());
}

TEST(Space, WhatWasThereBeforeCountsAndIsGivenBackOnce) {
  Space space(100);
  space.take("ada", 500);  // of a store that was filled under a larger bound
  EXPECT_EQ(space.room("bob", 1), Space::Room::later);
  space.give_back("ada", 900);
  EXPECT_EQ(space.used(), 0u);
  space.give_back("nobody", 1);
  EXPECT_EQ(space.room("bob", 69), Space::Room::yes);
}

TEST(Turns, WhoSendsOneIsNotBehindWhoSendsThousands) {
  Turns<int> turns;
  for (int i = 0; i < 1000; ++i) turns.push("ada", i);
  turns.push("bob", -1);
  turns.push("eve", -2);
  turns.push("bob", -3);
  std::string order;
  for (int i = 0; i < 7; ++i) order += std::to_string(turns.pop()) + ' ';
  EXPECT_EQ(order, "0 -1 -2 1 -3 2 3 ");
  int left = 0, last = 3;
  for (; !turns.empty(); ++left) {
    const int next = turns.pop();
    EXPECT_EQ(next, last + 1);
    last = next;
  }
  EXPECT_EQ(left, 996);
}

}  // namespace
}  // namespace souk
