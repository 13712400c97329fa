#include "protocol/quoting.h"

#include <gtest/gtest.h>

namespace souk {
namespace {

TEST(Quoting, OneWordOfAShellWhateverIsInIt) {
  EXPECT_EQ(shell_word("plain-1.2/x_y"), "plain-1.2/x_y");
  EXPECT_EQ(shell_word(""), "''");
  EXPECT_EQ(shell_word("two words"), "'two words'");
  EXPECT_EQ(shell_word("it's $(rm -rf /); `x` \\ \"\n"), "'it'\\''s $(rm -rf /); `x` \\ \"\n'");
  EXPECT_EQ(shell_word("~"), "'~'");
  EXPECT_EQ(shell_word("A=b"), "'A=b'");
  EXPECT_EQ(shell_word("\xff"), "'\xff'");
}

TEST(Quoting, OneStringOfTomlWhateverIsInIt) {
  EXPECT_EQ(toml_string("it's \"x\" \\ \n \xC3\xA9"), "\"it's \\\"x\\\" \\\\ \\u000A \xC3\xA9\"");
  EXPECT_EQ(toml_string("\xFF\xC3"), "\"??\"") << "TOML is UTF-8";
}

}  // namespace
}  // namespace souk
