// What services and workers write to each other: whole, cut anywhere, damaged, and as the helpers of service/ have it.
#include "worker/service_frames.h"

#include <gtest/gtest.h>

#include <random>

#include "protocol/payload.h"
#include "tests/protocol/mutate.h"

namespace souk::worker {
namespace {

std::string varint(std::uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes.push_back(static_cast<char>(value | 0x80));
  return bytes + static_cast<char>(value);
}
std::string framed(const std::string& message) { return varint(message.size()) + message; }
/// As service.proto's Answer.
std::string answer(std::uint64_t id, const std::string& body) { return framed("\x08" + varint(id) + "\x12" + varint(body.size()) + body); }
std::string failure(std::uint64_t id, const std::string& text) { return framed("\x08" + varint(id) + "\x1a" + varint(text.size()) + text); }

std::string shown(const std::vector<ServiceAnswer>& answers) {
  std::string text;
  for (const auto& a : answers) text += std::to_string(a.id) + (a.failed ? "!" : "=") + a.body + ";";
  return text;
}
/// All answers, or the reason why not; cut into pieces of that size.
std::string read(Framing framing, const std::string& bytes, std::size_t piece = std::string::npos) {
  AnswerReader reader(framing);
  std::vector<ServiceAnswer> answers;
  for (std::size_t at = 0; at < bytes.size(); at += std::min(piece, bytes.size() - at))
    if (const auto taken = reader.take(std::string_view(bytes).substr(at, piece), answers); !taken) return shown(answers) + " " + taken.error().why;
  return shown(answers);
}

TEST(ServiceFrames, RequestsAreTheMessagesOfTheProtoFile) {
  std::string bytes;
  append(bytes, Framing::binary, {7, "a b", "", 3, 300, 1});
  EXPECT_EQ(bytes, std::string("\x0c\x08\x07\x12\x03" "a b\x18\x03\x20\xac\x02"));
  bytes.clear();
  append(bytes, Framing::binary, {1, "in", "item", 0, 0, 2});
  EXPECT_EQ(bytes, std::string("\x0e\x08\x01\x12\x02" "in\x28\x02\x32\x04" "item"));
  bytes.clear();
  append(bytes, Framing::binary, {});
  EXPECT_EQ(bytes, std::string("\0", 1)) << "a ping is an empty message";
}

TEST(ServiceFrames, RequestsInJsonAreOneLineEach) {
  std::string line;
  append(line, Framing::json, {7, "a\n\"b\"", "", 3, 4, 1});
  EXPECT_EQ(line, "{\"id\":7,\"body\":\"a\\n\\\"b\\\"\",\"job\":3,\"task\":4,\"run\":1}\n");
  line.clear();
  append(line, Framing::json, {8, "\xff", "x", 3, 4, 2});
  EXPECT_EQ(line, "{\"id\":8,\"body_base64\":\"/w==\",\"item\":\"x\",\"job\":3,\"task\":4,\"run\":2}\n");
  line.clear();
  append(line, Framing::json, {});
  EXPECT_EQ(line, "{\"id\":0,\"ping\":true}\n");
}

TEST(ServiceFrames, AnswersAreReadHoweverTheyAreCut) {
  const std::string bytes = answer(1, "one") + answer(0, "") + failure(200, "it broke") + answer(3, std::string(300, 'x')) + framed("") + failure(4, "");
  const std::string lines = "{\"id\":1,\"body\":\"one\"}\n\n{\"id\":2,\"error\":\"it broke\",\"body\":\"no\"}\r\n{\"body\":42,\"id\":3}\n {\"id\":4,\"body_base64\":\"AP8=\", \"other\":[{\"id\":9}]} \n";
  const std::string said = "1=one;0=;200!it broke;3=" + std::string(300, 'x') + ";0=;4!;", told = std::string("1=one;2!it broke;3=42;4=\0\xff;", 27);
  for (const std::size_t piece : {std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{7}, std::size_t{64}, std::string::npos}) {
    EXPECT_EQ(read(Framing::binary, bytes, piece), said) << piece;
    EXPECT_EQ(read(Framing::json, lines, piece), told) << piece;
  }
}

TEST(ServiceFrames, FieldsThatAreNotKnownAreNoMatter) {
  EXPECT_EQ(read(Framing::binary, framed("\x08\x05\x48\x01\x52\x02xx\x59\x31\x32\x33\x34\x35\x36\x37\x38\x65\x31\x32\x33\x34\x12\x01y")), "5=y;");
}

TEST(ServiceFrames, WhatIsNoAnswerIsSaidAndEndsIt) {
  const std::string good = answer(1, "ok");
  for (const auto& [bytes, said] : std::vector<std::pair<std::string, std::string>>{
           {"\x0b\x1f\x8b", "no message"},                                  // group, then short
           {varint(kAnswerMax + 1), "at most"},
           {std::string(10, '\xff'), "does not begin with its length"},
           {framed("\x12\x05" "abc"), "no message"},
           {framed("\x08"), "no message"},
           {framed(std::string("\x00\x01", 2)), "no message"},
           {"Traceback (most recent call last):\n" + std::string(100, ' '), ""}}) {
    const std::string told = read(Framing::binary, good + bytes + std::string(40, '\x0b'));
    EXPECT_TRUE(told.starts_with("1=ok; ") || said.empty()) << told;
    EXPECT_NE(told.find(said), told.npos) << told;
  }
  for (const auto& [line, said] : std::vector<std::pair<std::string, std::string>>{{"hello", "no JSON"}, {"[1]", "list"}, {"7", "no object"}, {"{}", "no id"}, {"{\"id\":-1}", "its id is -1"}, {"{\"id\":\"1\"}", "no whole number"},
                                                                                  {"{\"id\":1.5}", "no whole number"}, {"{\"id\":1,\"body\":{}}", "neither text"}, {"{\"id\":1,\"body_base64\":\"%\"}", "no base64"}, {"{\"id\":1", "no JSON"},
                                                                                  {"{\"id\":1,\"x\":" + std::string(200, '[') + std::string(200, ']') + "}", "nested"}}) {
    const std::string told = read(Framing::json, "{\"id\":1,\"body\":\"ok\"}\n" + line + "\n");
    EXPECT_TRUE(told.starts_with("1=ok; ")) << told;
    EXPECT_NE(told.find(said), told.npos) << told;
  }
}

TEST(ServiceFrames, HugeAnswersAreTakenAndLargerOnesRefused) {
  const std::string large(16u << 20, 'x');
  EXPECT_EQ(read(Framing::binary, answer(1, large), 64 << 10).size(), large.size() + 3);
  EXPECT_EQ(read(Framing::json, "{\"id\":1,\"body\":\"" + large + "\"}\n", 64 << 10).size(), large.size() + 3);
  EXPECT_NE(read(Framing::json, "{\"id\":1,\"body\":\"" + std::string(kAnswerLineMax, 'x'), 64 << 10).find("a line of over"), std::string::npos);
}

TEST(ServiceFrames, DamageIsAnAnswerOrARefusalButAlwaysTheSameHoweverCut) {
  std::minstd_rand random(7);
  const std::string bytes = answer(1, "one") + failure(2, "broke") + answer(300, std::string(40, 'y'));
  const std::string lines = "{\"id\":1,\"body\":\"one\"}\n{\"id\":2,\"error\":\"broke\"}\n{\"id\":3,\"body_base64\":\"AP8=\"}\n";
  for (int round = 0; round < 20'000; ++round) {
    for (const bool json : {false, true}) {
      std::string damaged = json ? lines : bytes;
      for (auto n = 1 + random() % 3; n > 0; --n) {
        const std::size_t at = random() % damaged.size();
        if (random() % 3 == 0) damaged.erase(at, 1 + random() % 4);
        else damaged[at] = static_cast<char>(random());
        if (damaged.empty()) damaged = "x";
      }
      const Framing framing = json ? Framing::json : Framing::binary;
      EXPECT_EQ(read(framing, damaged), read(framing, damaged, 1 + random() % 5));
    }
  }
}

}  // namespace
}  // namespace souk::worker
