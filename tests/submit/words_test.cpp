#include "submit/words.h"

#include <gtest/gtest.h>

#include <CLI/CLI.hpp>

namespace souk {
namespace {

/// Commands as the program has them, few of each kind.
struct Commands {
  CLI::App app{"", "souk"};
  std::string dir, name, jobs;
  std::vector<std::string> env;
  bool json = false, shell = false, null = false;
  Commands() {
    app.fallthrough();
    app.add_option("--dir", dir, "State folder");
    app.add_flag("--json", json, "Print JSON");
    auto* run = app.add_subcommand("run", "Run a job");
    run->add_option("--name", name, "Name of the job");
    run->add_option("--env", env, "Set a variable")->allow_extra_args(false);
    run->add_flag("--shell,!--no-shell", shell, "A line");
    run->add_flag("-0,--null", null, "NUL");
    run->add_option("-j,--jobs", jobs, "With a letter");
    app.add_subcommand("cat", "Print what tasks wrote");
    app.add_subcommand("cancel", "Cancel jobs");
    app.add_subcommand("status", "What runs");
    app.add_subcommand("supervise", "")->group("");  // hidden
    app.add_subcommand("completion", "Script");
  }
  std::string cut(const std::vector<std::string>& words) const {
    const auto cut = cut_words(app, words);
    if (!cut) return cut.error().text();
    std::string text;
    for (const auto& word : cut.value().ours) text += "[" + word + "]";
    text += " |";
    for (const auto& word : cut.value().words) text += " [" + word + "]";
    return text;
  }
  std::string complete(const std::vector<std::string>& words) const {
    std::string text;
    for (const auto& candidate : souk::complete(app, words)) text += candidate.substr(0, candidate.find('\t')) + " ";
    return text;
  }
};

TEST(Words, OursEndWhereTheCommandBegins) {
  const Commands commands;
  EXPECT_EQ(commands.cut({"run", "ls", "-l", "--json", "--name"}), "[run] | [ls] [-l] [--json] [--name]");
  EXPECT_EQ(commands.cut({"run", "--name", "ls", "cat", "--json"}), "[run][--name][ls] | [cat] [--json]");
  EXPECT_EQ(commands.cut({"run", "--name=x", "--shell", "--json", "--dir", "/d", "status"}), "[run][--name=x][--shell][--json][--dir][/d] | [status]");
  EXPECT_EQ(commands.cut({"--dir", "run", "run", "run"}), "[--dir][run][run] | [run]");
  EXPECT_EQ(commands.cut({"run", "--", "--name", "x"}), "[run] | [--name] [x]");
  EXPECT_EQ(commands.cut({"run", "--env", "--", "ls"}), "[run][--env][--] | [ls]") << "the value of an option, whatever it looks like";
  EXPECT_EQ(commands.cut({"run", "-", "x"}), "[run] | [-] [x]");
  EXPECT_EQ(commands.cut({"run", ""}), "[run] | []");
}

TEST(Words, LettersMayShareAWord) {
  const Commands commands;
  EXPECT_EQ(commands.cut({"run", "-0", "ls"}), "[run][-0] | [ls]");
  EXPECT_EQ(commands.cut({"run", "-0j", "4", "ls"}), "[run][-0j][4] | [ls]");
  EXPECT_EQ(commands.cut({"run", "-j4", "ls"}), "[run][-j4] | [ls]");
  EXPECT_EQ(commands.cut({"run", "-0x", "ls"}), "unknown option '-0x'; `souk run --help` lists them");
}

TEST(Words, OtherCommandsKeepTheirWords) {
  const Commands commands;
  EXPECT_EQ(commands.cut({"cat", "12", "--json", "13"}), "[cat][12][--json][13] |");
  EXPECT_EQ(commands.cut({}), " |");
  EXPECT_EQ(commands.cut({"help"}), "[--help] |");
  EXPECT_EQ(commands.cut({"help", "run"}), "[run][--help] |");
  EXPECT_EQ(commands.cut({"run", "help"}), "[run] | [help]");
}

TEST(Words, WhatIsUnknownIsAnsweredByWhatIsNearest) {
  const Commands commands;
  EXPECT_EQ(commands.cut({"stauts"}), "unknown command 'stauts'; did you mean `souk status`? `souk --help` lists them");
  EXPECT_EQ(commands.cut({"frobnicate", "--x"}), "unknown command 'frobnicate'; `souk --help` lists them");
  EXPECT_EQ(commands.cut({"run", "--nmae=3", "ls"}), "unknown option '--nmae'; did you mean --name? `souk run --help` lists them");
  EXPECT_EQ(commands.cut({"--jsn", "run"}), "unknown option '--jsn'; did you mean --json? `souk --help` lists them");
  EXPECT_EQ(commands.cut({"supervize"}), "unknown command 'supervize'; `souk --help` lists them") << "what is hidden stays so";
  EXPECT_EQ(commands.cut({"\x1b[2J"}), "unknown command '?[2J'; `souk --help` lists them");
}

TEST(Words, CompletionKnowsWhereItIs) {
  const Commands commands;
  EXPECT_EQ(commands.complete({"ca"}), "cat cancel ");
  EXPECT_EQ(commands.complete({"su"}), "") << "supervise is hidden";
  EXPECT_EQ(commands.complete({"--dir", "x", "st"}), "status ");
  EXPECT_EQ(commands.complete({"run", "--na"}), "--name ");
  EXPECT_EQ(commands.complete({"run", "--j"}), "--jobs --json ");
  EXPECT_EQ(commands.complete({"run", "--name", ""}), "") << "a value";
  EXPECT_EQ(commands.complete({"run", "ls", "--na"}), "") << "the user's own command";
  EXPECT_EQ(commands.complete({"run", "--", "--na"}), "");
  EXPECT_EQ(commands.complete({"completion", ""}), "bash zsh fish ");
  EXPECT_EQ(commands.complete({}), "");
  EXPECT_EQ(souk::complete(commands.app, {"stat"}), std::vector<std::string>{"status\tWhat runs"});
}

TEST(Words, ScriptsForTheShellsWeKnow) {
  for (const char* shell : {"bash", "zsh", "fish"}) EXPECT_NE(completion_script(shell).value().find("--complete"), std::string::npos) << shell;
  EXPECT_FALSE(completion_script("tcsh"));
}

}  // namespace
}  // namespace souk
