#include "manager/audit_lines.h"

#include <gtest/gtest.h>

namespace souk::audit {
namespace {
using namespace std::chrono_literals;

constexpr std::uint64_t kThen = 1795445438123;

TEST(AuditLines, OneFactALine) {
  EXPECT_EQ(line_of(kThen, "submit", {{"by", "ada@cs.edu/desk"}, {"job", "12"}}), "2026-11-23T14:50:38.123Z submit by=ada@cs.edu/desk job=12");
  EXPECT_EQ(line_of(kThen, "refused", {{"why", "no \"room\""}, {"x", ""}}), "2026-11-23T14:50:38.123Z refused why=\"no \\\"room\\\"\" x=\"\"");
}

TEST(AuditLines, NobodyForgesALineOrCommandsATerminal) {
  const std::string line = line_of(kThen, "submit", {{"by", "eve@x\n2026-11-23T14:50:38.123Z ban by=ada"}, {"name", "\x1b[2J\xc2\x9b" "2J\x7f"}});
  for (const char c : line) EXPECT_GE(static_cast<unsigned char>(c), 0x20u);
  EXPECT_EQ(line.find("\xc2\x9b"), line.npos);
  const auto entry = entry_of(line);
  ASSERT_TRUE(entry);
  EXPECT_EQ(entry->verb, "submit");
  EXPECT_EQ(entry->fields.size(), 2u);
  EXPECT_LT(line_of(kThen, "submit", {{"by", std::string(100'000, 'a')}}).size(), 600u);
}

TEST(AuditLines, AreReadAsTheyWereWritten) {
  for (const std::string value : {"", "plain", "with blank", "quote\"s", "back\\slash\\", "a=b", "\\", "\"", "ünïcode"}) {
    const Fields fields{{"by", "ada@cs.edu"}, {"what", value}, {"last", "x"}};
    const auto entry = entry_of(line_of(kThen, "did", fields));
    ASSERT_TRUE(entry) << value;
    EXPECT_EQ(entry->fields, fields);
  }
  const std::string line = line_of(kThen, "refused", {{"by", "ada@cs.edu"}, {"why", "a \"b\" c"}});
  EXPECT_EQ(json_of(*entry_of(line)), R"({"time":"2026-11-23T14:50:38.123Z","did":"refused","by":"ada@cs.edu","why":"a \"b\" c"})");
}

TEST(AuditLines, WhatWasCutOffIsNoEntry) {
  const std::string line = line_of(kThen, "refused", {{"by", "ada@cs.edu"}, {"why", "a \"b\" c"}});
  for (std::size_t at = 0; at < line.size(); ++at) (void)entry_of(std::string_view(line).substr(0, at));
  EXPECT_FALSE(entry_of(""));
  EXPECT_FALSE(entry_of("nonsense"));
  EXPECT_FALSE(entry_of(line.substr(0, line.size() - 1)));
  EXPECT_FALSE(entry_of(line + "x"));
}

TEST(AuditLines, ARequestIsOneLineWhateverItNames) {
  EXPECT_EQ(numbers_text({}), "");
  EXPECT_EQ(numbers_text({7}), "7");
  EXPECT_EQ(numbers_text({1, 2, 3, 5, 9, 10}), "1-3,5,9-10");
  std::set<std::uint64_t> many;
  for (std::uint64_t number = 1; number < 10'000; number += 2) many.insert(number);
  EXPECT_LT(numbers_text(many).size(), 300u);
  EXPECT_TRUE(numbers_text(many).ends_with("...")) << numbers_text(many);
}

TEST(AuditFlood, OneWhoIsRefusedAThousandTimesLeavesRoomForOthers) {
  Flood flood;
  Instant now = Instant{} + 1h;
  unsigned told = 0;
  for (int i = 0; i < 1000; ++i) told += flood.tells("eve", now);
  EXPECT_EQ(told, Flood::kEach);
  EXPECT_TRUE(flood.tells("ada", now));
  EXPECT_TRUE(flood.left_out(now + 59s).empty());
  EXPECT_EQ(flood.left_out(now + 60s), (std::map<std::string, std::uint64_t>{{"eve", 1000 - Flood::kEach}}));
  EXPECT_TRUE(flood.left_out(now + 200s).empty());
  EXPECT_TRUE(flood.tells("eve", now + 61s));
}

TEST(AuditFlood, ManyWhoAreRefusedAreBoundedTogether) {
  Flood flood;
  Instant now = Instant{} + 1h;
  unsigned told = 0;
  for (int i = 0; i < 100'000; ++i) told += flood.tells("eve" + std::to_string(i), now);
  EXPECT_EQ(told, Flood::kAll);
  const auto left = flood.left_out(now + 61s);
  EXPECT_LE(left.size(), 1001u);
  std::uint64_t all = 0;
  for (const auto& [who, times] : left) all += times;
  EXPECT_EQ(all, 100'000 - Flood::kAll);
}

}  // namespace
}  // namespace souk::audit
