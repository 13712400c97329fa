#include "examples/ant-colony/message.h"

#include <gtest/gtest.h>

#include "examples/ant-colony/plot.h"

namespace souk::ants {
namespace {

Request request_of_five() {
  auto in = parse_tsplib("NAME: five\nTYPE:TSP\nDIMENSION:5\nEDGE_WEIGHT_TYPE:EUC_2D\nNODE_COORD_SECTION\n1 0.1 0\n2 9 0\n3 9 9.3\n4 5 5\n5 0 9\n");
  Request request{in.value(), {.seed = UINT64_MAX, .ants = 10, .party = 3, .q0 = 0.3, .candidates = 3}, {.generation = 7, .tau0 = 1.0 / 3, .trails = {}}};
  request.snapshot.trails = {{{0, 1}, 0.1 + 0.2}, {{3, 4}, 5e-324}};
  return request;
}

TEST(Request, ReadsBackToTheSameBits) {
  const auto sent = request_of_five();
  const auto got = parse_request(text_of(sent));
  ASSERT_TRUE(got) << got.error().text();
  EXPECT_EQ(got.value().snapshot.trails, sent.snapshot.trails);
  EXPECT_EQ(got.value().snapshot.tau0, sent.snapshot.tau0);
  EXPECT_EQ(got.value().snapshot.generation, 7u);
  EXPECT_EQ(got.value().parameters.seed, UINT64_MAX);
  EXPECT_EQ(got.value().parameters.q0, 0.3);
  EXPECT_EQ(got.value().instance.cities[2].y, 9.3);
  EXPECT_EQ(text_of(got.value()), text_of(sent));
}

TEST(Request, CutOrChangedTextIsRefusedOrReadButNeverCrashes) {
  const auto whole = text_of(request_of_five());
  for (std::size_t size = 0; size + 1 < whole.size(); ++size) EXPECT_FALSE(parse_request(std::string_view(whole).substr(0, size))) << size;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char c : {'\0', ' ', '-', '9', 'e', '\xff'}) {
      auto changed = whole;
      changed[at] = c;
      (void)parse_request(changed);
    }
  }
}

TEST(Request, SaysWhatIsWrong) {
  const auto whole = text_of(request_of_five());
  const auto changed = [&](const std::string& from, const std::string& to) {
    auto text = whole;
    text.replace(text.find(from), from.size(), to);
    return parse_request(text).error().why;
  };
  EXPECT_EQ(parse_request("").error().why, "expected 'souk-ant-colony-1', got the end");
  EXPECT_EQ(changed("souk-ant-colony-1", "souk-ant-colony-2"), "expected 'souk-ant-colony-1', got 'souk-ant-colony-2'");
  EXPECT_EQ(changed("cities 5", "cities 2001"), "expected a number for cities from 5 to 2000, got '2001'");
  EXPECT_EQ(changed("q0 0.3", "q0 nan"), "expected a number for q0 from 0 to 1, got 'nan'");
  EXPECT_EQ(changed("4 5 5e-324", "4 4 0.5"), "expected a number for city from 5 to 5, got '4'");
  EXPECT_EQ(changed("trails 2", "trails 11"), "expected a number for trails from 0 to 10, got '11'");
  EXPECT_EQ(changed("party 3", "party 11"), "party is out of range");
  EXPECT_EQ(changed("end\n", "end\nx"), "text after the end");
  EXPECT_NE(parse_request(std::string(kRequestBytesMax + 1, ' ')).error().why.find("more than"), std::string::npos);
}

TEST(Shares, CoverEveryPartyOnce) {
  for (const int count : {1, 7, 200, 1'000'000}) {
    for (const int tasks : {1, 2, 3, 7}) {
      if (tasks > count) continue;
      int next = 1;
      for (int task = 1; task <= tasks; ++task) {
        const auto share = share_of(task, tasks, count);
        EXPECT_EQ(share.first, next);
        EXPECT_GE(share.last, share.first);
        next = share.last + 1;
      }
      EXPECT_EQ(next, count + 1);
    }
  }
}

/// Replies of two tasks for request_of_five(): ants 1 to 6 and 7 to 10.
std::vector<Reply> two_replies() {
  const auto in = request_of_five().instance;
  const Tour a{0, 1, 2, 3, 4}, b{0, 1, 2, 4, 3};
  return {{1, 6, std::chrono::microseconds(300), std::chrono::microseconds(250), {4, in.length(a), a}}, {7, 10, std::chrono::microseconds(2), std::chrono::microseconds(1), {7, in.length(b), b}}};
}

TEST(Replies, AreTakenInAnyOrder) {
  const auto request = request_of_five();
  const auto sent = two_replies();
  const auto got = parse_replies(text_of(sent[1]) + text_of(sent[0]), request.instance, request.parameters);
  ASSERT_TRUE(got) << got.error().text();
  ASSERT_EQ(got.value().size(), 2u);
  EXPECT_EQ(got.value()[0].best.ant, 4);
  EXPECT_EQ(got.value()[0].best.tour, sent[0].best.tour);
  EXPECT_EQ(got.value()[0].wall, std::chrono::microseconds(300));
  EXPECT_EQ(got.value()[0].cpu, std::chrono::microseconds(250));
  EXPECT_EQ(got.value()[1].first_ant, 7);
}

TEST(Replies, ThatDoNotHoldAreRefused) {
  const auto request = request_of_five();
  const auto why = [&](const std::string& text) {
    const auto got = parse_replies(text, request.instance, request.parameters);
    return got ? "accepted" : got.error().why;
  };
  const auto sent = two_replies();
  const auto one = text_of(sent[0]), two = text_of(sent[1]);
  EXPECT_EQ(why(one + two), "accepted");
  EXPECT_EQ(why(one), "the ants from 7 on did not walk");
  EXPECT_EQ(why(two), "ant 1 walked not once but more often or never");
  EXPECT_EQ(why(one + two + two), "ant 11 walked not once but more often or never");
  EXPECT_EQ(why(""), "the ants from 1 on did not walk");
  EXPECT_EQ(why("Segmentation fault\n"), "expected 'ants', got 'Segmentation'");
  EXPECT_EQ(why(one.substr(0, one.size() - 3) + "\n" + two), "expected a number for a city from 1 to 5, got 'ants'");

  auto shorter = sent[0];
  shorter.best.length -= 1;
  EXPECT_NE(why(text_of(shorter) + two).find("ant 4 claims a length of"), std::string::npos);
  auto lazy = sent[0];
  lazy.best.tour = {0, 1, 2, 3, 3};
  EXPECT_EQ(why(text_of(lazy) + two), "ant 4 does not visit every city once");
  auto stranger = sent[0];
  stranger.best.ant = 8;
  EXPECT_EQ(why(text_of(stranger) + two), "expected a number for best from 1 to 6, got '8'");
}

TEST(Plot, ShowsEveryCityAndEscapesTheCaption) {
  const auto in = request_of_five().instance;
  const auto svg = plot(in, {0, 1, 2, 3, 4}, "a <b> & c");
  EXPECT_EQ(svg.rfind("<svg xmlns=", 0), 0u);
  EXPECT_NE(svg.find("<title>a &lt;b&gt; &amp; c</title>"), std::string::npos);
  std::size_t circles = 0;
  for (std::size_t at = 0; (at = svg.find("<circle", at)) != std::string::npos; ++at) ++circles;
  EXPECT_EQ(circles, 5u);
  EXPECT_EQ(svg.find("nan"), std::string::npos);
}

}  // namespace
}  // namespace souk::ants
