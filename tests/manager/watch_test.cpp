#include "manager/watch.h"

#include <gtest/gtest.h>

namespace souk {
using namespace std::chrono_literals;

TEST(Watches, TellsAtMostOncePerGapAndAlwaysTheLastChange) {
  Watches watches;
  Instant now{};
  watches.add(now, {1}, "ada@x/cli");
  watches.changed({1});
  ASSERT_EQ(watches.due(now).size(), 1u);
  watches.changed({1});
  EXPECT_TRUE(watches.due(now + 50ms).empty());
  EXPECT_TRUE(watches.pending());
  const auto due = watches.due(now + 100ms);
  ASSERT_EQ(due.size(), 1u);
  EXPECT_EQ(due[0].second, std::vector<std::string>{"ada@x/cli"});
  EXPECT_FALSE(watches.pending());
}

TEST(Watches, EndWithTheJobOrWithTheirTime) {
  Watches watches;
  Instant now{};
  watches.add(now, {1}, "a"), watches.add(now + 50s, {1}, "b");
  watches.changed({1});
  EXPECT_EQ(watches.due(now + 61s).at(0).second, std::vector<std::string>{"b"});
  EXPECT_EQ(watches.ended(now + 62s, {1}), std::vector<std::string>{"b"});
  EXPECT_TRUE(watches.ended(now + 62s, {1}).empty());
  watches.changed({1});
  EXPECT_FALSE(watches.pending());
}

TEST(Watches, AreBounded) {
  Watches watches;
  for (std::size_t i = 0; i < Watches::kMost; ++i) ASSERT_TRUE(watches.add({}, {i / 100}, std::to_string(i)));
  EXPECT_FALSE(watches.add({}, {1}, "one too many"));
  EXPECT_TRUE(watches.add({}, {0}, "5"));  // a renewal is no new one
  watches.remove({0}, "5");
  EXPECT_TRUE(watches.add({}, {7777}, "now there is room"));
}

}  // namespace souk
