#include "manager/roster.h"

#include <gtest/gtest.h>

using namespace souk;
using namespace std::chrono_literals;

namespace {

using Changes = std::vector<std::pair<std::string, bool>>;

TEST(Roster, RemembersOnceAndForgetsWhoIsAwayForLong) {
  Roster roster;
  const Instant start{};
  EXPECT_EQ(roster.update(start, {"a", "b"}), (Changes{{"a", true}, {"b", true}}));
  EXPECT_EQ(roster.update(start + 1s, {"a", "b"}), Changes{});
  EXPECT_EQ(roster.update(start + 10s, {"b"}), Changes{}) << "it was seen nine seconds ago";
  EXPECT_EQ(roster.update(start + 11s, {"b"}), (Changes{{"a", false}}));
  EXPECT_EQ(roster.update(start + 12s, {"a", "b"}), (Changes{{"a", true}}));
}

TEST(Roster, ForgetsNobodyForBeingAwayWhileThereWasNoMarket) {
  Roster roster;
  const Instant start{};
  roster.remember("a", start);
  roster.reopened(start + 60s);
  EXPECT_EQ(roster.update(start + 61s, {}), Changes{});
  EXPECT_EQ(roster.update(start + 70s, {}), (Changes{{"a", false}}));
}

TEST(Roster, AtAnOrderlyEndOnlyThoseStayThatAreThere) {
  Roster roster;
  const Instant start{};
  roster.update(start, {"a", "b"});
  EXPECT_EQ(roster.update(start + 1s, {"b"}, 0s), (Changes{{"a", false}}));
}

TEST(Roster, KnowsTheNextLifeOfAWorker) {
  EXPECT_EQ(Roster::stem("worker@example.org/lab-7-0a1b2c3d"), Roster::stem("worker@example.org/lab-7-99999999"));
  EXPECT_NE(Roster::stem("worker@example.org/lab-7-0a1b2c3d"), Roster::stem("worker@example.org/lab-8-0a1b2c3d"));
  EXPECT_NE(Roster::stem("w-ada@my-grid.org/lab"), Roster::stem("w-eve@my-grid.org/lab")) << "an account is nobody else's";
}

}  // namespace
