#include "worker/fill.h"

#include <gtest/gtest.h>

#include <map>

namespace souk {
namespace {

std::string filled(std::string_view text, std::string_view item) { return fill_in(text, item, TaskNumber{7}, false); }

TEST(Fill, PutsTheItemAndItsPartsWhereBracesStand) {
  EXPECT_EQ(filled("{}", "in/a.tar.gz"), "in/a.tar.gz");
  EXPECT_EQ(filled("x{}y{}", "1"), "x1y1");
  EXPECT_EQ(filled("{.}.out", "in/a.tar.gz"), "in/a.tar.out");
  EXPECT_EQ(filled("{/}", "in/a.tar.gz"), "a.tar.gz");
  EXPECT_EQ(filled("{//}", "in/deep/a.tar.gz"), "in/deep");
  EXPECT_EQ(filled("{/.}", "in/a.tar.gz"), "a.tar");
  EXPECT_EQ(filled("out-{#}.txt", "anything"), "out-7.txt");
}

TEST(Fill, AnswersLikeParallelAtTheEdges) {
  EXPECT_EQ(filled("{.}", "a.b/c"), "a.b/c");   // a dot in a folder is no extension
  EXPECT_EQ(filled("{.}", "name."), "name.");   // nor is one at the end
  EXPECT_EQ(filled("{.}", ".bashrc"), "");      // s:\.[^/.]+$::
  EXPECT_EQ(filled("{/}", "in/"), "");
  EXPECT_EQ(filled("{//}", "file"), ".");
  EXPECT_EQ(filled("{//}", "/file"), "/");
  EXPECT_EQ(filled("{//}", "a//b"), "a");
  EXPECT_EQ(filled("{//}", "a/b/"), "a");
  EXPECT_EQ(filled("{//}", "/"), "/");
  EXPECT_EQ(filled("{}{.}{/}{//}{/.}", ""), ".");
}

TEST(Fill, LeavesOtherBracesAlone) {
  EXPECT_EQ(filled("awk '{print $1}' {x} ${HOME} { } {", "i"), "awk '{print $1}' {x} ${HOME} { } {");
  EXPECT_EQ(filled("{{}}", "i"), "{i}");
  EXPECT_EQ(filled("{}", "{}{#}"), "{}{#}");  // what is put in is not looked at again
}

TEST(Fill, QuotesForTheShell) {
  EXPECT_EQ(quote_for_sh("plain-1.2/x_y"), "plain-1.2/x_y");
  EXPECT_EQ(quote_for_sh(""), "''");
  EXPECT_EQ(quote_for_sh("two words"), "'two words'");
  EXPECT_EQ(quote_for_sh("it's $(rm -rf /); `x` \\ \"\n"), "'it'\\''s $(rm -rf /); `x` \\ \"\n'");
  EXPECT_EQ(quote_for_sh("~"), "'~'");
  EXPECT_EQ(quote_for_sh("A=b"), "'A=b'");
  EXPECT_EQ(quote_for_sh("\xff"), "'\xff'");
  EXPECT_EQ(fill_in("wc -l {} > {/.}-{#}", "my data/it's.txt", TaskNumber{2}, true), "wc -l 'my data/it'\\''s.txt' > 'it'\\''s'-2");
}

class LaunchOf : public ::testing::Test {
 protected:
  Launch made(const Command& command, std::string_view item = "in.txt") { return launch_of(command, item, TaskId{JobId{12}, TaskNumber{7}}, AttemptId{Epoch{3}, 41}, host_, 2); }
  static Command plain() {
    Command command;
    command.argv = {"true"};
    return command;
  }
  static std::map<std::string, std::string> env_of(const Launch& launch) {
    std::map<std::string, std::string> env(launch.env.begin(), launch.env.end());
    EXPECT_EQ(env.size(), launch.env.size()) << "a variable stands there twice";
    return env;
  }
  Surroundings host_{{{"PATH", "/usr/bin:/bin"}, {"LANG", "C.UTF-8"}}, "/var/souk/work"};
};

TEST_F(LaunchOf, FillsEachArgumentOnlyWhenAsked) {
  Command command;
  command.argv = {"convert", "{}", "{.}.png"};
  EXPECT_EQ(made(command).argv, (std::vector<std::string>{"convert", "{}", "{.}.png"}));
  command.fill = true;
  EXPECT_EQ(made(command, "a b.gif").argv, (std::vector<std::string>{"convert", "a b.gif", "a b.png"}));  // no shell, no quotes
}

TEST_F(LaunchOf, GivesAShellOneLineWithQuotedItems) {
  Command command;
  command.shell = command.fill = true;
  command.argv = {"wc -l < {}"};
  EXPECT_EQ(made(command, "a b").argv, (std::vector<std::string>{"/bin/sh", "-c", "wc -l < 'a b'"}));
}

TEST_F(LaunchOf, TellsTheTaskWhoItIs) {
  const Launch launch = made(plain());
  EXPECT_EQ(launch.folder, "12.7-3.41");
  EXPECT_EQ(env_of(launch), (std::map<std::string, std::string>{{"PATH", "/usr/bin:/bin"}, {"LANG", "C.UTF-8"}, {"TMPDIR", "/var/souk/work/12.7-3.41"},
                                                                {"SOUK_JOB", "12"}, {"SOUK_TASK", "7"}, {"SOUK_ATTEMPT", "2"}, {"SOUK_ITEM", "in.txt"}}));
}

TEST_F(LaunchOf, LetsTheJobsOwnVariablesWin) {
  Command command = plain();
  command.env = {{"LANG", "de_DE.UTF-8"}, {"MODE", "fast"}, {"TMPDIR", "/scratch"}, {"MODE", "slow"}};
  const auto env = env_of(made(command));
  EXPECT_EQ(env.at("LANG"), "de_DE.UTF-8");
  EXPECT_EQ(env.at("TMPDIR"), "/scratch");
  EXPECT_EQ(env.at("MODE"), "slow");
}

TEST_F(LaunchOf, LeavesOutAnItemTooLongForAVariable) {
  EXPECT_EQ(env_of(made(plain(), std::string(kItemVariableMax + 1, 'x'))).count("SOUK_ITEM"), 0u);
  EXPECT_EQ(env_of(made(plain(), std::string(kItemVariableMax, 'x'))).count("SOUK_ITEM"), 1u);
}

TEST_F(LaunchOf, PassesLimitsAndInputOn) {
  Command command = plain();
  command.input = "data";
  command.time_limit = std::chrono::seconds(9);
  command.grace = std::chrono::milliseconds(3);
  command.output_max = 5;
  const Launch launch = made(command);
  EXPECT_EQ(launch.input, "data");
  EXPECT_EQ(launch.time_limit, std::chrono::seconds(9));
  EXPECT_EQ(launch.grace, std::chrono::milliseconds(3));
  EXPECT_EQ(launch.output_max, 5u);
}

}  // namespace
}  // namespace souk
