#include "submit/request.h"

#include <gtest/gtest.h>

#include "protocol/grid.pb.h"
#include "protocol/command.h"
#include "protocol/notation.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

std::optional<std::string> environment(const std::string& name) {
  if (name == "LANG") return "C.UTF-8";
  return std::nullopt;
}

/// The error's text, or "" when the job could be made.
std::string refusal(const JobOptions& options, const std::optional<Items>& items = {}) {
  wire::Job job;
  const auto done = job_of(options, items, "", environment, job);
  return done ? "" : done.error().text();
}

wire::Job job_from(const JobOptions& options, const std::optional<Items>& items = {}, std::string input = {}) {
  wire::Job job;
  const auto done = job_of(options, items, std::move(input), environment, job);
  EXPECT_TRUE(done) << done.error().text();
  return job;
}

wire::Job mapped(std::vector<std::string> words, std::vector<std::string> items, bool no_fill = false) {
  JobOptions options;
  options.words = std::move(words);
  options.no_fill = no_fill;
  wire::Job job;
  const auto done = map_job_of(options, Items{std::move(items), "the command line"}, "", environment, job);
  EXPECT_TRUE(done) << done.error().text();
  return job;
}

std::string spelled(const wire::Command& command) {
  std::string text = command.shell() ? "sh:" : "";
  for (const auto& word : command.argv()) text += "[" + word + "]";
  return text;
}

std::string lines_of(const wire::Job& job) {
  std::string text;
  for (const auto& line : job.lines().line()) text += line + ",";
  return text;
}

TEST(Duration, NeedsAUnitAndAddsThemUp) {
  EXPECT_EQ(parse_duration("250ms").value(), 250ms);
  EXPECT_EQ(parse_duration("90s").value(), 90s);
  EXPECT_EQ(parse_duration("1.5m").value(), 90s);
  EXPECT_EQ(parse_duration("1h30m").value(), 90min);
  EXPECT_EQ(parse_duration("2d").value(), 48h);
  EXPECT_EQ(parse_duration("0").value(), 0ms);
  for (const char* wrong : {"", "90", "s", "-5s", "5 s", "5x", "1h30", "inf", "nans", "1e300s", "400d", "0.1ms", "5s!", "+3s"})
    EXPECT_FALSE(parse_duration(wrong)) << wrong;
  EXPECT_EQ(parse_duration("90").error().text(), "cannot read the time '90': it has no unit; write a number and its unit: 250ms, 90s, 5m, 2h, 1h30m");
}

TEST(Size, KnowsBinaryAndDecimalUnits) {
  EXPECT_EQ(parse_size("65536").value(), 65536u);
  EXPECT_EQ(parse_size("64KiB").value(), 65536u);
  EXPECT_EQ(parse_size("1M").value(), 1048576u);
  EXPECT_EQ(parse_size("1MB").value(), 1000000u);
  EXPECT_EQ(parse_size("1.5KiB").value(), 1536u);
  for (const char* wrong : {"", "KiB", "-1", "1XB", "1 MiB", "inf", "1e99", "1MiBs"}) EXPECT_FALSE(parse_size(wrong)) << wrong;
}

TEST(Target, NamesAJobATaskOrARangeOfTasks) {
  const auto all = parse_target("12").value();
  EXPECT_EQ(all.job, 12u);
  EXPECT_TRUE(all.all());
  const auto one = parse_target("12.7").value();
  EXPECT_EQ(one.first, 7u);
  EXPECT_EQ(one.last, 7u);
  const auto some = parse_target("12.3-9").value();
  EXPECT_EQ(some.first, 3u);
  EXPECT_EQ(some.last, 9u);
  for (const char* wrong : {"", "x", "0", "12.", "12.0", "12.9-3", "12.3-", "12.3-9x", "-1", "12.3.4", "99999999999999999999"})
    EXPECT_FALSE(parse_target(wrong)) << wrong;
  EXPECT_FALSE(parse_job("12.7"));
}

TEST(Request, OneCommandIsOneTask) {
  const auto job = job_from({.words = {"echo", "a b", ""}});
  EXPECT_EQ(spelled(job.command()), "[echo][a b][]");
  EXPECT_EQ(job.items_case(), wire::Job::ITEMS_NOT_SET);
  EXPECT_FALSE(job.command().fill());
  EXPECT_EQ(job.command().time_limit_ms(), 0u);
}

TEST(Request, CarriesEveryOption) {
  JobOptions options{.words = {"sim", "--fast"}, .notify = true, .name = "n", .time_limit = "90s", .grace = "0", .output_max = "64KiB", .env = {"A=1=2", "LANG", "EMPTY="}, .retries = 3};
  const auto job = job_from(options, {}, std::string("in\0put", 6));
  EXPECT_EQ(job.name(), "n");
  EXPECT_TRUE(job.notify());
  EXPECT_EQ(job.retries(), 3u);
  EXPECT_EQ(job.command().time_limit_ms(), 90000u);
  EXPECT_EQ(job.command().grace_ms(), 1u) << "0 on the wire would be the default";
  EXPECT_EQ(job.command().output_max(), 65536u);
  EXPECT_EQ(job.command().input(), std::string("in\0put", 6));
  ASSERT_EQ(job.command().env_size(), 3);
  EXPECT_EQ(job.command().env(0).name() + ":" + job.command().env(0).value(), "A:1=2");
  EXPECT_EQ(job.command().env(1).name() + ":" + job.command().env(1).value(), "LANG:C.UTF-8");
  EXPECT_EQ(job.command().env(2).name() + ":" + job.command().env(2).value(), "EMPTY:");
}

TEST(Request, ShellJoinsTheWords) {
  EXPECT_EQ(spelled(job_from({.words = {"ls", "|", "wc -l"}, .shell = true}).command()), "sh:[ls | wc -l]");
}

TEST(Request, RefusesAQuotedLineThatIsNoProgram) {
  EXPECT_EQ(refusal({.words = {"echo hello"}}),
            "nothing to run: there is no program 'echo hello'; leave out the quotes, or add --shell if it is a line for the shell");
  EXPECT_EQ(spelled(job_from({.words = {"/opt/my tools/run"}}).command()), "[/opt/my tools/run]");
}

TEST(Request, ArrayOfOneRangeStaysARange) {
  const auto range = job_from({.words = {"sim", "{}"}, .array = "1-1000:2"});
  EXPECT_EQ(range.range().first(), 1);
  EXPECT_EQ(range.range().last(), 1000);
  EXPECT_EQ(range.range().step(), 2u);
  EXPECT_TRUE(range.command().fill());
  const auto negative = job_from({.words = {"sim"}, .array = "-5--3"});
  EXPECT_EQ(negative.range().first(), -5);
  EXPECT_EQ(negative.range().last(), -3);
  EXPECT_FALSE(negative.command().fill()) << "nothing to fill in";
  EXPECT_EQ(job_from({.words = {"sim"}, .array = "7"}).range().last(), 7);
}

TEST(Request, ArrayOfAListBecomesLines) {
  EXPECT_EQ(lines_of(job_from({.words = {"sim"}, .array = "1,5,9-12,-2--1,0-6:3"})), "1,5,9,10,11,12,-2,-1,0,3,6,");
}

TEST(Request, RefusesArraysItCannotRead) {
  for (const char* wrong : {"x", "1-", "1-x", "5-1", "1-10:0", "1-10:-1", "1,,2", "1,", "1-2-3", " 1", "1-99999999999999999999", "1-10:2x"})
    EXPECT_NE(refusal({.words = {"sim"}, .array = wrong}), "") << wrong;
  EXPECT_EQ(refusal({.words = {"sim"}, .array = "9-1"}),
            "cannot read the array: '9-1' ends before it begins; write 1-1000, 1-1000:2 (every second) or 1,5,9-12");
  EXPECT_EQ(refusal({.words = {"sim"}, .array = "1-20000000"}), "cannot submit: it has more than 10000000 tasks; submit it as several jobs");
  EXPECT_EQ(job_from({.words = {"sim"}, .array = "1-20000000:2"}).range().step(), 2u) << "just as many as are allowed";
  EXPECT_NE(refusal({.words = {"sim"}, .array = "1-2000000000"}).find("more than 1000000000 tasks"), std::string::npos);
  EXPECT_NE(refusal({.words = {"sim"}, .array = "-9223372036854775808-9223372036854775807"}).find("more than"), std::string::npos);
  EXPECT_NE(refusal({.words = {"sim"}, .array = "1,1-20000000"}).find("at most 10000000"), std::string::npos);
}

TEST(Request, LinesOfAFileAreTasks) {
  const auto items = split_items("one\ntwo words\n\nlast", '\n', "list.txt").value();
  const auto job = job_from({.words = {"wc", "{}"}}, items);
  EXPECT_EQ(lines_of(job), "one,two words,,last,");
  EXPECT_TRUE(job.command().fill());
  EXPECT_FALSE(job_from({.words = {"find", "{}"}, .no_fill = true}, items).command().fill());
}

TEST(Request, ItemsKeepTheirBytes) {
  const std::string odd = "caf\xe9\r";
  EXPECT_EQ(split_items(odd + "\n", '\n', "f").value().values, std::vector<std::string>{odd});
  EXPECT_EQ(split_items(std::string("a\nb\0c\0", 6), '\0', "f").value().values, (std::vector<std::string>{"a\nb", "c"}));
  EXPECT_EQ(split_items(std::string("ok\nb\0c\n", 7), '\n', "f").error().text(),
            "cannot read the items: line 2 of f holds a NUL byte; use -0 for a list that NUL bytes separate");
  EXPECT_TRUE(split_items(std::string(kItemMax, 'x'), '\n', "f"));
  EXPECT_FALSE(split_items(std::string(kItemMax + 1, 'x'), '\n', "f"));
}

TEST(Request, EmptyInputIsAnErrorForSubmitAndNothingToDoForMap) {
  EXPECT_EQ(refusal({.words = {"wc"}}, split_items("", '\n', "list.txt").value()), "nothing to submit: list.txt is empty; give it one line a task");
  EXPECT_EQ(mapped({"wc"}, {}).lines().line_size(), 0);
}

TEST(Request, SaysWhichOptionIsWrong) {
  EXPECT_NE(refusal({}).find("nothing to run"), std::string::npos);
  EXPECT_NE(refusal({.words = {""}}).find("nothing to run"), std::string::npos);
  EXPECT_NE(refusal({.words = {"a"}, .time_limit = "9"}).find("no unit"), std::string::npos);
  EXPECT_NE(refusal({.words = {"a"}, .name = "caf\xe9"}).find("no UTF-8"), std::string::npos);
  EXPECT_EQ(refusal({.words = {"a"}, .name = "caf\xc3\xa9"}), "");
  EXPECT_NE(refusal({.words = {"a"}, .output_max = "1GiB"}).find("over 16 MiB"), std::string::npos);
  EXPECT_NE(refusal({.words = {"a"}, .env = {"=x"}}).find("has no name"), std::string::npos);
  EXPECT_NE(refusal({.words = {"a"}, .env = {"NOT_SET_HERE"}}).find("not set here"), std::string::npos);
  for (const std::string name : {"SOUK_TASK", "SOUK_CPUS", "SOUK_MEMORY", "SOUK_GPUS", "SOUK_WORKER", "SOUK_RESOURCE_FPGA", "SOUK_PARAM_ALPHA"})
    EXPECT_NE(refusal({.words = {"a"}, .env = {name + "=3"}}).find(name + " is set by the worker"), std::string::npos) << name;
  EXPECT_NE(refusal({.words = {"a"}, .retries = -1}).find("--retries -1"), std::string::npos);
  EXPECT_NE(refusal({.words = {"a", std::string(kWordsMax, 'x')}}).find("at most 65536"), std::string::npos);
  EXPECT_NE(refusal({.words = {"a"}, .array = "1-2"}, Items{{"x"}, "f"}).find("both --array and --each-line"), std::string::npos);
}

TEST(Request, RefusesAJobOverTheLimitOfASubmission) {
  Items items{{}, "big.txt"};
  items.values.assign(1100, std::string(kItemMax, 'x'));
  EXPECT_EQ(refusal({.words = {"wc"}}, items),
            "cannot submit: the job is 68.8 MiB, at most 64 MiB are allowed; split the list, or use --array and let each task find its own input");
  JobOptions options{.words = {"wc"}};
  wire::Job job;
  EXPECT_FALSE(job_of(options, std::nullopt, std::string(kInputMax + 1, 'x'), environment, job));
}

TEST(Request, AMillionLinesFit) {
  std::string text;
  for (int i = 1; i <= 1'000'000; ++i) text += std::to_string(i) + "\n";
  const auto job = job_from({.words = {"wc", "{}"}}, split_items(text, '\n', "f").value());
  EXPECT_EQ(job.lines().line_size(), 1'000'000);
  EXPECT_EQ(job.lines().line(999'999), "1000000");
}

TEST(Map, AppendsThePlaceholderWhereThereIsNone) {
  EXPECT_EQ(spelled(mapped({"gzip"}, {"a"}).command()), "[gzip][{}]");
  EXPECT_EQ(spelled(mapped({"gzip", "-k", "{}"}, {"a"}).command()), "[gzip][-k][{}]");
  EXPECT_EQ(spelled(mapped({"cc", "-o{.}"}, {"a"}).command()), "[cc][-o{.}]");
  EXPECT_EQ(spelled(mapped({"cc", "x"}, {"a"}, /*no_fill=*/true).command()), "[cc][x]");
  EXPECT_TRUE(mapped({"gzip"}, {"a"}).command().fill());
}

TEST(Map, OneWordThatIsALineGoesToTheShell) {
  EXPECT_EQ(spelled(mapped({"gzip -c {} > {}.gz"}, {"a"}).command()), "sh:[gzip -c {} > {}.gz]");
  EXPECT_EQ(spelled(mapped({"echo hello"}, {"a"}).command()), "sh:[echo hello {}]");
  EXPECT_EQ(spelled(mapped({"cat|wc"}, {"a"}).command()), "sh:[cat|wc {}]");
  EXPECT_EQ(spelled(mapped({"./sim-{}"}, {"a"}).command()), "[./sim-{}]");
  EXPECT_EQ(spelled(mapped({"echo", "a b"}, {"a"}).command()), "[echo][a b][{}]");
}

TEST(Map, SplitsItsWords) {
  const auto inline_list = split_map({"echo", "{}", ":::", "a", "b c"}).value();
  EXPECT_EQ(inline_list.command, (std::vector<std::string>{"echo", "{}"}));
  EXPECT_EQ(inline_list.arguments, (std::vector<std::string>{"a", "b c"}));
  EXPECT_FALSE(split_map({"echo"}).value().arguments) << "lines of standard input";
  EXPECT_EQ(split_map({"echo", "::::", "x", "-"}).value().files, (std::vector<std::string>{"x", "-"}));
  EXPECT_TRUE(split_map({"echo", ":::"}).value().arguments->empty());
  EXPECT_FALSE(split_map({"echo", ":::", "a", ":::", "b"}));
  EXPECT_FALSE(split_map({"echo", "::::"}));
  EXPECT_FALSE(split_map({"echo", ":::", "a", ":::+", "b"}));
  EXPECT_FALSE(split_map({"echo", ":::+", "a"}));
}

}  // namespace
}  // namespace souk
