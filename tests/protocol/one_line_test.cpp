#include "protocol/one_line.h"

#include <gtest/gtest.h>

namespace souk {
namespace {

TEST(OneLine, ShowsWhatPeopleWriteAsItIs) {
  for (const std::string text : {"", "plain", "Grüße, 東京 \xF0\x9F\x90\x9C", "\xD7\xA9\xD7\x9C\xD7\x95\xD7\x9D\xE2\x80\x8E ok"}) EXPECT_EQ(one_line(text, 1000), text);
}

TEST(OneLine, NothingInItIsObeyed) {
  EXPECT_EQ(one_line("a\nb\r\nc\td", 100), "a\\nb\\r\\nc\\td");
  EXPECT_EQ(one_line(std::string("nul\0 esc\x1b[31m del\x7f", 18), 100), "nul? esc?[31m del?");
  EXPECT_EQ(one_line("csi\xC2\x9B" "2J", 100), "csi?2J");
  EXPECT_EQ(one_line("bad \xFF\xC0\x80 \xE2\x80", 100), "bad ??? ??");
  // Text that would be read from right to left: `txt.exe` shown as `exe.txt`.
  EXPECT_EQ(one_line("\xE2\x80\xAEtxt.exe\xE2\x80\xAC \xE2\x81\xA6x\xE2\x81\xA9", 100), "?txt.exe? ?x?");
  EXPECT_EQ(one_line("one\xE2\x80\xA8two\xE2\x80\xA9three", 100), "one?two?three");
}

TEST(OneLine, IsBoundedAndSaysSo) {
  EXPECT_EQ(one_line(std::string(1'000'000, 'x'), 10), "xxxxxxxxx... (999991 more bytes)");
  const std::string many = one_line("ab\xC3\xA4\xC3\xA4\xC3\xA4", 5);
  EXPECT_EQ(many, "ab\xC3\xA4... (4 more bytes)") << "never half a character";
}

}  // namespace
}  // namespace souk
