#include "manager/returning.h"

#include <gtest/gtest.h>

using namespace souk;
using namespace std::chrono_literals;

namespace {

using Names = std::set<std::string>;

TEST(Returning, GivesUpThoseWhoAreNotBackInTenSeconds) {
  Returning returning;
  const Instant start{};
  returning.lost("a"), returning.lost("b");
  EXPECT_FALSE(returning.due()) << "there is no market to be back in";
  returning.opened(start);
  returning.back("a", start + 1s);
  EXPECT_EQ(returning.given_up(start + 9s), Names{});
  EXPECT_EQ(returning.given_up(start + 10s), Names{"b"});
  EXPECT_EQ(returning.given_up(start + 11s), Names{});
}

TEST(Returning, WaitsWhileTheyKeepComingButNotForEver) {
  Returning returning;
  const Instant start{};
  for (int i = 0; i < 100; ++i) returning.lost(std::to_string(i));
  returning.opened(start);
  for (int i = 0; i < 65; ++i) {
    const Instant now = start + std::chrono::seconds(i);
    EXPECT_EQ(returning.given_up(now).size(), i == 60 ? 40u : 0u) << i;
    returning.back(std::to_string(i), now);
  }
}

TEST(Returning, AMarketThatIsLostAgainGivesUpNobody) {
  Returning returning;
  const Instant start{};
  returning.lost("a");
  returning.opened(start);
  returning.closed();
  EXPECT_EQ(returning.given_up(start + 1h), Names{});
  returning.opened(start + 1h);
  EXPECT_EQ(returning.given_up(start + 1h + 9s), Names{});
  EXPECT_EQ(returning.given_up(start + 1h + 10s), Names{"a"});
}

}  // namespace
