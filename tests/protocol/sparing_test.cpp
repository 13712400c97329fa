#include "protocol/sparing.h"

#include <gtest/gtest.h>

namespace souk {
namespace {

using namespace std::chrono_literals;

TEST(Sparing, WritesTheFirstOfAMinuteAndThenHowManyThereWere) {
  Sparing sparing(2, 1min);
  const Instant begin{1h};
  EXPECT_EQ(sparing.take(begin), 0u);
  EXPECT_EQ(sparing.take(begin + 1s), 0u);
  for (int n = 0; n < 1000; ++n) EXPECT_EQ(sparing.take(begin + 2s), std::nullopt);
  EXPECT_EQ(sparing.take(begin + 59s), std::nullopt);
  EXPECT_EQ(sparing.take(begin + 60s), 1001u);
  EXPECT_EQ(sparing.take(begin + 61s), 0u) << "said once";
  EXPECT_EQ(sparing.take(begin + 62s), std::nullopt);
  EXPECT_EQ(also(0), "");
  EXPECT_EQ(also(7), " left_out=7");
}

}  // namespace
}  // namespace souk
