#include "protocol/form.h"

#include <gtest/gtest.h>

#include "tests/protocol/mutate.h"

namespace souk {
namespace {

constexpr const char* kMark = "\xEF\xBF\xBD";  // U+FFFD

TEST(Form, FindsFieldsAndTheirFirstText) {
  Form form;
  form.add("name", "text-single", "Name", {"ants"}).add("lines", "text-multi", "", {"a", "b"}).add("empty", "text-single", "");
  ASSERT_NE(form.find("lines"), nullptr);
  EXPECT_EQ(form.find("lines")->values.size(), 2u);
  EXPECT_EQ(form.find("name")->label, "Name");
  EXPECT_EQ(form.text("lines"), "a");
  EXPECT_EQ(form.text("empty"), "");
  EXPECT_EQ(form.text("absent"), "");
  EXPECT_EQ(form.find("absent"), nullptr);
}

TEST(Form, BooleansAreOneOrTrueAndNothingElse) {
  EXPECT_TRUE(is_true("1"));
  EXPECT_TRUE(is_true("true"));
  for (const char* other : {"0", "false", "", "TRUE", "yes", " 1", "11"}) EXPECT_FALSE(is_true(other)) << other;
}

TEST(Printable, KeepsEveryCharacterOfXml) {
  for (const char* text : {"", "plain", "tab\t and\nlines\r\n", "grüße", "\xE6\xBC\xA2", "\xF0\x9F\x90\x9C", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBD",
                           "\xF4\x8F\xBF\xBF", "\x7F"}) {
    EXPECT_EQ(printable(text), text);
    EXPECT_TRUE(is_printable(text)) << text;
  }
}

TEST(Printable, MarksEachByteThatXmlCannotCarry) {
  const struct {
    std::string_view text;
    int marks;
  } cases[] = {
      {std::string_view("\0", 1), 1}, {"\x01", 1}, {"\x1F", 1}, {"\x0B", 1},
      {"\x80", 1},                     // no lead before it
      {"\xC3", 1},                     // cut off
      {"\xC0\xAF", 2},                 // overlong '/'
      {"\xE0\x80\xAF", 3},             // overlong
      {"\xF0\x80\x80\xAF", 4},         // overlong
      {"\xED\xA0\x80", 3},             // a surrogate
      {"\xF4\x90\x80\x80", 4},         // beyond U+10FFFF
      {"\xF8\x88\x80\x80\x80", 5},     // five bytes were never Unicode
      {"\xEF\xBF\xBE", 3}, {"\xEF\xBF\xBF", 3},  // U+FFFE, U+FFFF: no Char of XML 1.0 §2.2
      {"\xFF", 1}, {"\xE2\x82", 2},
  };
  for (const auto& [text, marks] : cases) {
    std::string expected = "<";
    for (int i = 0; i < marks; ++i) expected += kMark;
    EXPECT_EQ(printable("<" + std::string(text) + ">"), expected + ">");
    EXPECT_FALSE(is_printable(text));
  }
}

TEST(Printable, FindsTheOneBadByteAnywhereInALongText) {
  for (std::size_t at = 0; at < 40; ++at) {
    std::string text(40, 'x');
    for (const char bad : {'\x00', '\x1F', '\x80', '\xFF'}) {
      text[at] = bad;
      EXPECT_FALSE(is_printable(text)) << at;
    }
    for (const char good : {'\t', '\n', ' ', '~', '\x7F'}) {
      text[at] = good;
      EXPECT_TRUE(is_printable(text)) << at;
    }
  }
}

TEST(Printable, WhateverComesInIsCarriedAfterOnePass) {
  test::Mutator mutator(1);
  for (int i = 0; i < test::kRounds; ++i) {
    const std::string text = mutator.damaged("a\xC3\xA9 \xE6\xBC\xA2 \xF0\x9F\x90\x9C z") + mutator.bytes(mutator.below(8));
    const std::string clean = printable(text);
    ASSERT_TRUE(is_printable(clean));
    ASSERT_EQ(printable(clean), clean);
    ASSERT_LE(clean.size(), 3 * text.size());
    ASSERT_EQ(clean == text, is_printable(text));
  }
}

TEST(Shortened, CutsBetweenCharacters) {
  EXPECT_EQ(shortened("grüße", 99), "grüße");
  EXPECT_EQ(shortened("grüße", 4), "grü");
  EXPECT_EQ(shortened("grüße", 3), "gr");
  EXPECT_EQ(shortened("\xF0\x9F\x90\x9C", 3), "");
  EXPECT_EQ(shortened("abc", 0), "");
}

}  // namespace
}  // namespace souk
