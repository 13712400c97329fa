#include "submit/page_plan.h"

#include <gtest/gtest.h>

namespace souk {
namespace {

using Span = PagePlan::Span;
using Spans = std::vector<Span>;

TEST(PagePlan, AsksForWholePagesAheadOnceOneWasSeen) {
  PagePlan plan({1, 10'000});
  EXPECT_EQ(plan.ahead(10'000), Spans{});  // nobody knows how large a page is
  EXPECT_EQ(plan.awaited(), (Span{1, 10'000}));
  plan.came(400, 401);
  EXPECT_EQ(plan.ahead(1'700), (Spans{{401, 800}, {801, 1'200}, {1'201, 1'600}}));
  EXPECT_EQ(plan.ahead(1'700), Spans{});
  EXPECT_EQ(plan.awaited(), (Span{401, 800}));
  plan.came(400, 0);
  EXPECT_EQ(plan.ahead(10'000), (Spans{{1'601, 2'000}, {2'001, 2'400}}));
}

TEST(PagePlan, FillsTheGapOfAShortPageFirst) {
  PagePlan plan({1, 3'000});
  plan.awaited();
  plan.came(100, 101);
  ASSERT_EQ(plan.ahead(3'000).size(), 4u);
  plan.awaited();
  plan.came(30, 131);  // longer outputs
  EXPECT_EQ(plan.awaited(), (Span{131, 200}));
  plan.came(70, 0);
  EXPECT_EQ(plan.awaited(), (Span{201, 300}));
  EXPECT_EQ(plan.ahead(3'000), (Spans{{501, 530}}));
}

TEST(PagePlan, BeginsAgainAtATaskThatWasNotOver) {
  PagePlan plan({1, 2'000});
  plan.awaited();
  plan.came(500, 501);
  plan.ahead(2'000);
  plan.awaited();
  plan.wait_at(640);
  EXPECT_FALSE(plan.done());
  EXPECT_EQ(plan.ahead(700), Spans{});
  EXPECT_EQ(plan.awaited(), (Span{640, 2'000}));
}

/// Whatever fits into a page, and however far one may ask ahead, each task comes once and in order.
TEST(PagePlan, ReadsEachTaskOnce) {
  for (const std::uint64_t last : {1u, 7u, 499u, 500u, 501u, 1'000u, 1'503u}) {
    for (const std::uint64_t meant : {std::uint64_t{0}, last, last + 1, 2 * last, 10 * last}) {
      PagePlan plan({1, meant});
      std::uint64_t next = 1;
      for (std::size_t turn = 0; !plan.done(); ++turn) {
        ASSERT_LT(turn, 3'000u);
        for (const Span span : plan.ahead(turn % 3 == 0 ? next : last)) ASSERT_LE(span.last, last);
        const Span span = plan.awaited();
        ASSERT_EQ(span.first, next);
        plan.bound(last);
        const std::uint64_t fits = turn < 20 ? 500 : 1 + turn * 7 % 500, to = span.last == 0 ? last : std::min(span.last, last);
        ASSERT_LE(span.first, last);
        next = std::min(to, next + fits - 1) + 1;
        plan.came(static_cast<std::size_t>(next - span.first), next <= to ? next : 0);
      }
      EXPECT_EQ(next, last + 1);
    }
  }
}

TEST(PagePlan, LeavesAManagerThatDoesNotMoveOn) {
  PagePlan plan({5, 100});
  plan.awaited();
  plan.came(0, 5);
  EXPECT_TRUE(plan.done());
}

}  // namespace
}  // namespace souk
