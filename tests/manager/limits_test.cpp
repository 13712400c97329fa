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

}  // namespace
}  // namespace souk
