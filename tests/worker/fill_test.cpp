#include "worker/fill.h"

#include <gtest/gtest.h>

#include <map>
#include <random>

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

TEST(Fill, PutsFieldsOfAJsonItemWhereTheirNamesStand) {
  const std::string item = R"({"lr":1e-5,"layers":4,"name":"it's","on":true,"none":null,"list":[1, 2.50,"x"],"deep":{"a":{"b":[]}},"a.b":"c"})";
  const Fields fields = fields_of(item);
  const auto put = [&](std::string_view text, bool for_sh = false) { return fill_in(text, item, TaskNumber{7}, for_sh, fields); };
  EXPECT_EQ(put("--lr {lr} --layers={layers}"), "--lr 1e-5 --layers=4");  // as they were written
  EXPECT_EQ(put("{name} {on} {none} {a.b}"), "it's true null c");
  EXPECT_EQ(put("{list} {deep}"), R"([1,2.50,"x"] {"a":{"b":[]}})");
  EXPECT_EQ(put("{name}", true), "'it'\\''s'");
  EXPECT_EQ(put("{lr"), "{lr");
  EXPECT_EQ(put("{lrs} {} {#}"), "{lrs} " + item + " 7");
}

TEST(Fill, FindsNoFieldsInWhatIsNoJsonObject) {
  for (const char* item : {"", "text", "[1,2]", "12", "\"a\"", "{\"a\":1", "{\"a\":1} x", "{a:1}", "{\"a\":\"\xff\"}", "null", "{\"a\":01}"}) EXPECT_TRUE(fields_of(item).empty()) << item;
  EXPECT_TRUE(fields_of("{}").empty());
  EXPECT_EQ(fields_of(R"({"a":1,"a":2})"), (Fields{{"a", "2"}}));
  EXPECT_EQ(fields_of(R"({"a":123456789012345678901234567890,"b":-0,"c":"\u00e4\n"})"), (Fields{{"a", "123456789012345678901234567890"}, {"b", "0"}, {"c", "\u00e4\n"}}));
}

TEST(Fill, BoundsTheDepthOfAnItem) {
  const auto deep = [](int levels) {
    std::string text = "{\"a\":";
    for (int n = 1; n < levels; ++n) text += '[';
    for (int n = 1; n < levels; ++n) text += ']';
    return text + "}";
  };
  EXPECT_EQ(fields_of(deep(kItemDepthMax)).size(), 1u);
  EXPECT_TRUE(fields_of(deep(kItemDepthMax + 1)).empty());
  EXPECT_TRUE(fields_of(std::string(60'000, '[')).empty());
  std::string objects;
  for (int n = 0; n < 10'000; ++n) objects += "{\"a\":";
  EXPECT_TRUE(fields_of(objects).empty());
}

TEST(Fill, SurvivesDamagedItems) {
  const std::string good = R"({"lr":1e-5,"list":[1,{"a":"b\u00e4"},[]],"deep":{"x":{"y":null}},"t":true})";
  std::mt19937 dice(11);
  for (int turn = 0; turn < 20'000; ++turn) {
    std::string item = good;
    for (int hits = 1 + static_cast<int>(dice() % 3); hits > 0; --hits) item[dice() % item.size()] = "{}[]\",:01-e\\ x\xc3"[dice() % 17];
    const Fields fields = fields_of(item);
    EXPECT_EQ(fields.count(""), 0u);
    fill_in("{lr} {list} {deep} {", item, TaskNumber{1}, true, fields);
  }
}

TEST(Fill, QuotesForTheShell) {
  EXPECT_EQ(fill_in("wc -l {} > {/.}-{#}", "my data/it's.txt", TaskNumber{2}, true), "wc -l 'my data/it'\\''s.txt' > 'it'\\''s'-2");
}

class LaunchOf : public ::testing::Test {
 protected:
  Launch made(const Command& command, std::string_view item = "in.txt") { return launch_of(command, item, TaskId{JobId{12}, TaskNumber{7}}, AttemptId{Epoch{3}, 41}, host_, 2, share_); }
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
  Surroundings host_{{{"PATH", "/usr/bin:/bin"}, {"LANG", "C.UTF-8"}}, "/var/souk/work", "anvil"};
  Share share_;
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
                                                                {"SOUK_JOB", "12"}, {"SOUK_TASK", "7"}, {"SOUK_ATTEMPT", "2"}, {"SOUK_ITEM", "in.txt"},
                                                                {"SOUK_WORKER", "anvil"}, {"SOUK_CPUS", "1"}, {"OMP_NUM_THREADS", "1"}}));
}

TEST_F(LaunchOf, TellsTheTaskWhatItGot) {
  host_.has_gpus = true;
  share_.needs = {.cpus = 4, .memory_bytes = 1u << 30, .gpus = 2, .resources = {{"fpga", 2}, {"license.mat-lab", 3}}};
  share_.granted = {{0, 2}, {{"fpga", {"left", "right"}}}, {4, 5}};
  const Launch launch = made(plain());
  const auto env = env_of(launch);
  EXPECT_EQ(env.at("SOUK_CPUS"), "4");
  EXPECT_EQ(env.at("OMP_NUM_THREADS"), "4");
  EXPECT_EQ(env.at("SOUK_MEMORY"), "1073741824");
  EXPECT_EQ(env.at("SOUK_GPUS"), "0,2");
  EXPECT_EQ(env.at("CUDA_VISIBLE_DEVICES"), "0,2");
  EXPECT_EQ(env.at("SOUK_RESOURCE_FPGA"), "left,right");
  EXPECT_EQ(env.at("SOUK_RESOURCE_LICENSE_MAT_LAB"), "3");
  EXPECT_EQ(launch.processors, (std::vector<int>{4, 5}));
}

TEST_F(LaunchOf, HidesGpusFromWhoAskedForNone) {
  EXPECT_EQ(env_of(made(plain())).count("CUDA_VISIBLE_DEVICES"), 0u);  // no GPUs here
  host_.has_gpus = true;
  EXPECT_EQ(env_of(made(plain())).at("CUDA_VISIBLE_DEVICES"), "");
  EXPECT_EQ(env_of(made(plain())).count("SOUK_GPUS"), 0u);
}

TEST_F(LaunchOf, GivesAJsonItemsFieldsAsVariables) {
  Command command = plain();
  command.argv = {"train", "{lr}"};
  command.fill = true;
  const std::string item = R"({"lr":0.10,"batch-size":8,"nul":"a\u0000b"})";
  EXPECT_EQ(made(command, item).argv[1], "{lr}");  // its items are no JSON
  EXPECT_EQ(env_of(made(command, item)).count("SOUK_PARAM_LR"), 0u);
  command.json = true;
  command.env = {{"SOUK_PARAM_BATCH_SIZE", "mine"}};
  const Launch launch = made(command, item);
  EXPECT_EQ(launch.argv[1], "0.10");
  EXPECT_EQ(env_of(launch).at("SOUK_PARAM_LR"), "0.10");
  EXPECT_EQ(env_of(launch).at("SOUK_PARAM_BATCH_SIZE"), "mine");
  EXPECT_EQ(env_of(launch).count("SOUK_PARAM_NUL"), 0u);
  command.fill = false;
  EXPECT_EQ(made(command, item).argv[1], "{lr}");
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
