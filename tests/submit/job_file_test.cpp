#include "submit/job_file.h"

#include <gtest/gtest.h>

#include <chrono>

#include "protocol/grid.pb.h"
#include "protocol/job_bounds.h"
#include "protocol/notation.h"

namespace souk {
namespace {

Surroundings around() {
  Surroundings all;
  all.environment = [](const std::string&) { return std::optional<std::string>("from here"); };
  all.calendar = {.now_ms = 1'795'424'400'000,  // 2026-11-23 09:00:00 UTC
                  .local = [](std::time_t at) {
                    std::tm parts{};
                    gmtime_r(&at, &parts);
                    return parts;
                  },
                  .instant = [](std::tm parts) { return timegm(&parts); }};
  all.read = [](const std::string& name, std::size_t) -> Result<std::string> {
    if (name == "list.txt") return std::string("one\ntwo\n");
    if (name == "empty.txt") return std::string();
    if (name == "large.txt") return std::string(32u << 20, '\n');
    return Error{"cannot read '" + name + "'", "No such file or directory", "name a readable file"};
  };
  return all;
}

wire::Job read(std::string_view text) {
  wire::Job job;
  const auto done = job_file_of(text, "job.toml", around(), job);
  EXPECT_TRUE(done) << done.error().text();
  return job;
}
/// The error's text without what all have in common.
std::string refusal(std::string_view text) {
  wire::Job job;
  const auto done = job_file_of(text, "job.toml", around(), job);
  if (done) return "";
  const std::string common = "cannot use the job file 'job.toml': ";
  const auto said = done.error().text();
  EXPECT_TRUE(said.starts_with(common)) << said;
  return said.substr(std::min(said.size(), common.size()));
}

std::string items_of(const wire::Group& group) {
  std::string all;
  for (const auto& line : group.lines().line()) all += line + "|";
  return all;
}
/// The groups in order, each with the positions it comes after.
std::string order_of(const wire::Job& job) {
  std::string all;
  for (const auto& group : job.groups()) {
    all += (all.empty() ? "" : " ") + group.name();
    for (const auto& after : group.after()) all += "<" + job.groups(static_cast<int>(after.group())).name() + (after.any() ? ":any" : "");
  }
  return all;
}

TEST(JobFile, OfOneTask) {
  const auto job = read("[task.hello]\nrun = \"echo hello | wc\"\n");
  ASSERT_EQ(job.groups_size(), 1);
  EXPECT_EQ(job.groups(0).name(), "hello");
  EXPECT_EQ(job.groups(0).command().argv(0), "echo hello | wc");
  EXPECT_TRUE(job.groups(0).command().shell());
  EXPECT_FALSE(job.groups(0).command().fill());
  EXPECT_EQ(job.groups(0).items_case(), wire::Group::ITEMS_NOT_SET);
  EXPECT_FALSE(job.groups(0).has_needs());
}

TEST(JobFile, SaysEverythingOfAJobAndATask) {
  const auto job = read(R"(
name = "study"
priority = 5
after = [12, "13:any"]
max-fails = 3
deadline = "2h"
hold = true
speculate = true
crash-limit = 2
notify = true

[task.all]
command = ["prog", "{}", "a b"]
cpus = 2
memory = "2GiB"
disk = "10GiB"
gpus = 1
resources = { license.matlab = 1, scanner = 2 }
require = 'os == "linux"'
rank = "speed"
pin = true
retries = 4
retry-delay = "10s"
retry-delay-max = "5m"
retry-on = [1, "75-99"]
time-limit = "90s"
grace = "5s"
output-max = "64KiB"
env = { A = "x", N = 3 }
stdin = "list.txt"
array = "1-100:2"
)");
  EXPECT_EQ(job.name(), "study");
  EXPECT_EQ(job.priority(), 5);
  ASSERT_EQ(job.after_size(), 2);
  EXPECT_TRUE(job.after(1).any());
  EXPECT_EQ(job.max_fails(), 3u);
  EXPECT_EQ(job.deadline_ms(), 1'795'424'400'000u + 7'200'000u);
  EXPECT_TRUE(job.hold() && job.speculate() && job.notify());
  EXPECT_EQ(job.crash_limit(), 2u);
  const auto& group = job.groups(0);
  EXPECT_EQ(group.command().argv_size(), 3);
  EXPECT_FALSE(group.command().shell());
  EXPECT_TRUE(group.command().fill());
  EXPECT_FALSE(group.command().json());
  EXPECT_TRUE(group.command().pin());
  EXPECT_EQ(group.needs().cpus(), 2u);
  EXPECT_EQ(group.needs().memory_bytes(), 2ull << 30);
  EXPECT_EQ(group.needs().disk_bytes(), 10ull << 30);
  EXPECT_EQ(group.needs().gpus(), 1u);
  ASSERT_EQ(group.needs().resources_size(), 2);
  EXPECT_EQ(group.needs().resources(0).name(), "license.matlab") << "a dotted name needs no quotes";
  EXPECT_EQ(group.needs().resources(1).amount(), 2u);
  EXPECT_EQ(group.require(), "os == \"linux\"");
  EXPECT_EQ(group.rank(), "speed");
  EXPECT_EQ(group.retries(), 4u);
  EXPECT_EQ(group.retry().delay_ms(), 10'000u);
  EXPECT_EQ(group.retry().delay_max_ms(), 300'000u);
  EXPECT_EQ(group.retry().codes_size(), 2);
  EXPECT_EQ(group.command().time_limit_ms(), 90'000u);
  EXPECT_EQ(group.command().grace_ms(), 5'000u);
  EXPECT_EQ(group.command().output_max(), 65'536u);
  ASSERT_EQ(group.command().env_size(), 2);
  EXPECT_EQ(group.command().env(1).value(), "3");
  EXPECT_EQ(group.command().input(), "one\ntwo\n");
  EXPECT_EQ(group.range().last(), 100);
  EXPECT_EQ(group.range().step(), 2u);
}

TEST(JobFile, NamesImages) {
  const auto job = read("[defaults]\nimage = 'debian:12'\n[task.a]\nrun = 'x'\n[task.b]\nrun = 'x'\nimage = 'localhost/lab:3'\n[task.c]\nservice = 'word-count'\n");
  ASSERT_EQ(job.groups_size(), 3);
  EXPECT_EQ(job.groups(0).command().image(), "debian:12");
  EXPECT_EQ(job.groups(1).command().image(), "localhost/lab:3");
  EXPECT_EQ(job.groups(2).command().image(), "") << "a service has none";
  EXPECT_NE(refusal("[task.a]\nrun = 'x'\nimage = '-v'").find("line 3, column 9: "), std::string::npos);
  EXPECT_NE(refusal("[task.a]\nrun = 'x'\nimage = 7"), "");
  EXPECT_NE(refusal("[task.a]\nrun = 'x'\nimage = 'debian:12'\nsandbox = 'none'").find("an image is the system of a sandbox"), std::string::npos);
}

TEST(JobFile, ATasksOwnWordGoesBeforeTheDefault) {
  const auto job = read(R"(
[defaults]
run = "default {}"
cpus = 2
retries = 1
env = { A = "default", B = "default" }
resources = { x = 1, y = 1 }
matrix = { a = [1, 2] }
matrix-exclude = [{ a = 1 }]
[task.first]
[task.second]
command = ["own"]
cpus = 3
env = { B = "own" }
resources = { y = 2 }
array = "1-9"
)");
  const auto& first = job.groups(0);
  EXPECT_EQ(first.command().argv(0), "default {}");
  EXPECT_EQ(first.needs().cpus(), 2u);
  EXPECT_EQ(items_of(first), "{\"a\":2}|");
  const auto& second = job.groups(1);
  EXPECT_EQ(second.command().argv(0), "own");
  EXPECT_FALSE(second.command().shell());
  EXPECT_EQ(second.needs().cpus(), 3u);
  EXPECT_EQ(second.retries(), 1u);
  EXPECT_TRUE(second.has_range()) << "not the matrix of the defaults";
  std::string env;
  for (const auto& one : second.command().env()) env += one.name() + "=" + one.value() + " ";
  EXPECT_EQ(env, "A=default B=own ");
  ASSERT_EQ(second.needs().resources_size(), 2);
  EXPECT_EQ(second.needs().resources(1).amount(), 2u);
}

TEST(JobFile, VariablesOfTheCommandLineGoBeforeThoseOfTheFile) {
  auto surroundings = around();
  surroundings.env = {"A=given", "COPIED"};
  wire::Job job;
  const auto done = job_file_of("[defaults]\nenv = { A = 'file', B = 'file' }\n[task.t]\nrun='x'\n[task.u]\nrun='x'\nenv = { COPIED = 'own' }", "job.toml", surroundings, job);
  ASSERT_TRUE(done) << done.error().text();
  for (const auto& group : job.groups()) {
    std::string env;
    for (const auto& one : group.command().env()) env += one.name() + "=" + one.value() + " ";
    EXPECT_EQ(env, "A=given COPIED=from here B=file ") << group.name();
  }
}

TEST(JobFile, TasksComeBehindWhatTheyNeedElseAsInTheFile) {
  EXPECT_EQ(order_of(read("[task.zeta]\nrun='x'\n[task.alpha]\nrun='x'\n[task.beta]\nrun='x'")), "zeta alpha beta");
  EXPECT_EQ(order_of(read("[task.report]\nrun='x'\nneeds=['train:any', 'prepare']\n[task.train]\nrun='x'\nneeds='prepare:ok'\n[task.prepare]\nrun='x'\n[task.other]\nrun='x'")),
            "prepare train<prepare report<train:any<prepare other");
}

TEST(JobFile, AMatrixIsEveryCombination) {
  const auto matrix = [](std::string_view more) { return items_of(read("[task.t]\nrun='{a}'\n" + std::string(more)).groups(0)); };
  EXPECT_EQ(matrix("matrix = { lr = [0.1, 0.01], a = [2, \"x\"] }"), "{\"lr\":0.1,\"a\":2}|{\"lr\":0.1,\"a\":\"x\"}|{\"lr\":0.01,\"a\":2}|{\"lr\":0.01,\"a\":\"x\"}|") << "in the order of the file";
  EXPECT_EQ(matrix("matrix.b = [1, 2]\nmatrix.a = [3, 4]\nmatrix-exclude = [{b = 1, a = 4}, {b = 2, a = 3}]\nmatrix-include = [{a = 9, b = 8}]"), "{\"b\":1,\"a\":3}|{\"b\":2,\"a\":4}|{\"b\":8,\"a\":9}|");
  EXPECT_EQ(matrix("matrix = { a = { from = 1, to = 7, step = 3 } }"), "{\"a\":1}|{\"a\":4}|{\"a\":7}|");
  EXPECT_EQ(matrix("matrix = { a = { from = 0.1, to = 0.5, step = 0.1 } }"), "{\"a\":0.1}|{\"a\":0.2}|{\"a\":0.3}|{\"a\":0.4}|{\"a\":0.5}|");
  EXPECT_EQ(matrix("matrix = { a = [[1, 2], {x = true}, 1979-05-27] }"), "{\"a\":[1,2]}|{\"a\":{\"x\":true}}|{\"a\":\"1979-05-27\"}|");
  const auto job = read("[task.t]\nrun='{a}'\nmatrix = { a = [1] }");
  EXPECT_TRUE(job.groups(0).command().json());
  EXPECT_TRUE(job.groups(0).command().fill());
  EXPECT_FALSE(read("[task.t]\nrun='{a}'\nfill=false\nmatrix = { a = [1] }").groups(0).command().fill());
}

TEST(JobFile, ItemsAreTextsOrTables) {
  const auto texts = read("[task.t]\nrun='x {}'\nitems = ['a b', 2, 0.5, true]").groups(0);
  EXPECT_EQ(items_of(texts), "a b|2|0.5|true|");
  EXPECT_FALSE(texts.command().json());
  const auto tables = read("[task.t]\nrun='x {lr}'\nitems = [{lr = 0.1, name = \"caf\\u00e9\"}, {}]").groups(0);
  EXPECT_EQ(items_of(tables), "{\"lr\":0.1,\"name\":\"caf\xc3\xa9\"}|{}|");
  EXPECT_TRUE(tables.command().json());
  EXPECT_EQ(items_of(read("[task.t]\nrun='x {}'\nlines = 'list.txt'").groups(0)), "one|two|");
  EXPECT_EQ(items_of(read("[task.t]\nrun='x {}'\narray = '1,5,9-11'").groups(0)), "1|5|9|10|11|");
}

TEST(JobFile, DeadlinesMayBeTomlTimes) {
  EXPECT_EQ(read("deadline = 2026-11-24T09:00:00\n[task.t]\nrun='x'").deadline_ms(), 1'795'424'400'000u + 86'400'000u);
  EXPECT_EQ(read("deadline = 10:00:00\n[task.t]\nrun='x'").deadline_ms(), 1'795'424'400'000u + 3'600'000u);
}

TEST(JobFile, RefusalsHaveAPlaceAReasonAndARemedy) {
  const std::string t = "[task.t]\nrun='x'\n";
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"", "it has no task; add one:\n  [task.hello]\n  run = \"echo hello\""},
      {"name = 'x\n", "line 1, column 10: "},
      {"[=]\n" + t, "line 1, column 2: "},  // on which the parser's own assertions would end the program
      {"prioritty = 5\n" + t, "line 1, column 1: 'prioritty' is no key of a job; did you mean priority?"},
      {"xyzzy = 5\n" + t, "line 1, column 1: 'xyzzy' is no key of a job; known are name, priority, after, max-fails, deadline, hold, speculate, crash-limit, quorum, adaptive, quorum-by, agree-on, known, notify, defaults, task"},
      {"memory = '2GiB'\n" + t, "line 1, column 1: 'memory' is a key of a task; write it into [defaults] or into a [task.NAME]"},
      {t + "  memry = '2GiB'", "line 3, column 3: 'memry' is no key of a task; did you mean memory?"},
      {t + "retry_delay = '2s'", "line 3, column 1: 'retry_delay' is no key of a task; did you mean retry-delay?"},
      {"[defaults]\ntime-limits = '1s'\n" + t, "line 2, column 1: 'time-limits' is no key of a task; did you mean time-limit?"},
      {"defaults = 1\n" + t, "line 1, column 12: defaults is a whole number; it should be a table: [defaults]"},
      {"task = 1", "line 1, column 8: task is a whole number; it should be a table of named tasks: [task.NAME]"},
      {"[[task]]\nrun = 'x'", "line 1, column 1: task is a list; it should be a table of named tasks: [task.NAME]"},
      {"[task]\nrun = 'x'", "line 2, column 7: task 'run' is text; it should be a table: [task.run]"},
      {"[task.\"a b\"]\nrun = 'x'", "line 1, column 7: 'a b' is no name for a task; use letters, digits, _, - and dots, at most 64"},
      {"[task.a]\nneeds = []", "line 1, column 7: task 'a' has nothing to run; add run = \"a line for the shell\", or command = [\"program\", \"argument\"]"},
      {t + "command = ['x']", "line 3, column 11: there are both run and command; give one of run, command"},
      {"[task.t]\nrun = 5", "line 2, column 7: run is a whole number; it should be text, such as run = \"./prepare.sh > result\""},
      {"[task.t]\nrun = ' '", "line 2, column 7: run is empty; write a line for /bin/sh"},
      {"[task.t]\ncommand = 'x'", "line 2, column 11: command is text; it should be a list: command = [\"program\", \"argument\"]; run = \"...\" takes a line for the shell"},
      {"[task.t]\ncommand = ['x', 5]", "line 2, column 17: a word of command is a whole number; put each into quotes: command = [\"program\", \"10\"]"},
      {"[task.t]\ncommand = []", "line 2, column 11: command is empty; write command = [\"program\", \"argument\"]"},
      {"[task.t]\ncommand = ['echo hello']", "line 2, column 11: there is no program 'echo hello'; write each word for itself, or run = \"...\" for a line of the shell"},
      {t + "cpus = 0", "line 3, column 8: cpus is 0; give a number from 1 to 4096"},
      {t + "cpus = '2'", "line 3, column 8: cpus is text; it should be a whole number from 1 to 4096"},
      {t + "cpus = 1.5", "line 3, column 8: cpus is a number with a fraction; it should be a whole number from 1 to 4096"},
      {t + "gpus = 99999", "line 3, column 8: gpus is 99999; give a number from 0 to 1024"},
      {t + "memory = 512", "line 3, column 10: memory has no unit; write a unit, such as memory = \"512MiB\""},
      {t + "memory = '512'", "line 3, column 10: memory: it has no unit; write a unit, such as 512MiB"},
      {t + "memory = '1e99GiB'", "line 3, column 10: memory: it is no number of bytes; write a number and its unit: 512MiB, 1.5GiB, 2TiB"},
      {t + "disk = true", "line 3, column 8: disk is true or false; it should be text, such as disk = \"512MiB\""},
      {t + "resources = { cpus = 2 }", "line 3, column 15: resource 'cpus' refused: that one has an option of its own; write --cpus"},
      {t + "resources = { a = 0 }", "line 3, column 19: resource a is 0; give a number from 1 to 1000000000"},
      {t + "pin = 'yes'", "line 3, column 7: pin is text; it should be true or false, without quotes"},
      {t + "retries = 1001", "line 3, column 11: retries is 1001; give a number from 0 to 1000"},
      {t + "retry-delay = 10", "line 3, column 15: retry-delay is a whole number; it should be text, such as retry-delay = \"90s\""},
      {t + "retry-delay = '10'", "line 3, column 15: retry-delay: it has no unit; write a number and its unit: 250ms, 90s, 5m, 2h, 1h30m"},
      {t + "retry-delay = '10s'\nretry-delay-max = '5s'", "line 4, column 19: retry-delay-max is less than retry-delay; give the longer one as the most"},
      {t + "retry-on = [1, 300]", "line 3, column 12: retry-on: '300' is none from 1 to 255, and no span of them; write 1 or 75-99 or 1,75-99"},
      {t + "output-max = '1GiB'", "line 3, column 14: output-max 1GiB is over 16 MiB; let the task write to a file"},
      {t + "env = { SOUK_TASK = '1' }", "line 3, column 9: SOUK_TASK is set by the worker for each task; choose another name"},
      {t + "env = { A = [1] }", "line 3, column 13: env.A is a list; it should be text, such as env.A = \"value\""},
      {t + "env = { \"A=B\" = '1' }", "line 3, column 9: 'A=B' is no name for a variable; write env = { NAME = \"value\" }"},
      {t + "stdin = 'no.txt'", "line 3, column 9: stdin: cannot read 'no.txt': No such file or directory; name a readable file"},
      {t + "lines = '-'", "line 3, column 9: lines names no file; a job file names files relative to its own folder"},
      {t + "lines = 'empty.txt'", "line 3, column 9: empty.txt is empty; give it one line a task"},
      {t + "array = '1-2'\nitems = ['a']", "line 4, column 9: there are both array and items; give one of array, items, lines, matrix"},
      {t + "array = '5-1'", "line 3, column 9: array: '5-1' ends before it begins; write 1-1000, 1-1000:2 (every second) or 1,5,9-12"},
      {t + "array = '1-1000000000000'", "line 3, column 9: array: '1-1000000000000' is more than 1000000000 tasks; submit it in several jobs"},
      {t + "items = []", "line 3, column 9: items is empty; give it one item a task"},
      {t + "items = [{a = 1}, 2]", "line 3, column 19: items mixes tables with other values; let all be tables, or none"},
      {t + "items = [nan]", "line 3, column 10: infinities and NaN cannot stand in JSON; write it as text"},
      {t + "matrix = [1]", "line 3, column 10: matrix is a list; it should be a table: matrix = { lr = [0.1, 0.01], layers = [2, 4] }"},
      {t + "matrix = {}", "line 3, column 10: the matrix is empty; write matrix = { lr = [0.1, 0.01], layers = [2, 4] }"},
      {t + "matrix = { a = 1 }", "line 3, column 16: a is a whole number; it should be a list: a = [1, 2, 3]; or a = { from = 1, to = 10, step = 3 }"},
      {t + "matrix = { a = [] }", "line 3, column 16: a has no value; give it at least one"},
      {t + "matrix = { a = {from = 1} }", "line 3, column 16: a is a table without from and to; write a = [1, 2, 3], or a = { from = 1, to = 10, step = 3 }"},
      {t + "matrix = { a = {from = 1, to = 5, stop = 2} }", "line 3, column 35: 'stop' is no key of a sweep; did you mean step?"},
      {t + "matrix = { a = {from = 1, to = 5, step = 0} }", "line 3, column 42: step is 0; give a number above 0"},
      {t + "matrix = { a = {from = 5, to = 1} }", "line 3, column 32: a ends before it begins; let to be at least from"},
      {t + "matrix = { a = {from = 0.0, to = 1.0, step = 1e-9} }", "line 3, column 16: the matrix has 1000000001 combinations, at most 1000000 are allowed; split it into several jobs, or let each task work through a part"},
      {t + "matrix = { a = [1] }\nmatrix-exclude = [{ b = 1 }]", "line 4, column 21: 'b' is no key of this matrix; did you mean a?"},
      {t + "matrix = { a = [1] }\nmatrix-exclude = [{ a = 2 }]", "line 4, column 25: a = 2 is not in the matrix; write a value as the matrix has it"},
      {t + "matrix = { a = [1] }\nmatrix-exclude = [{ a = 1 }]", "line 3, column 10: every combination of the matrix is excluded; leave at least one"},
      {t + "matrix = { a = [1], b = [1] }\nmatrix-include = [{ a = 2 }]", "line 4, column 19: an entry of matrix-include lacks b; name each parameter of the matrix"},
      {t + "matrix-include = [{ a = 2 }]", "line 3, column 18: there is matrix-include but no matrix; give a matrix, or write the items themselves: items = [{a = 1}, {a = 2}]"},
      {t + "needs = 'u'\n[task.us]\nrun='x'", "line 3, column 9: task 't' needs 'u', which is not in this file; did you mean t?"},
      {t + "needs = ['prepare']", "line 3, column 10: task 't' needs 'prepare', which is not in this file; name a task of this file; for another job, write after = [NUMBER] at the top"},
      {t + "needs = ['a', 'a:any']\n[task.a]\nrun='x'", "line 3, column 15: 'a' is needed twice; name it once"},
      {t + "needs = ['t']", "line 3, column 10: tasks need each other in a circle: t -> t; take one of these needs away"},
      {t + "needs = [5]", "line 3, column 10: needs is a whole number; it should be text, such as needs = [\"prepare\"]"},
      {"[task.c]\nrun='x'\nneeds=['d']\n[task.a]\nrun='x'\nneeds=['b']\n[task.b]\nrun='x'\nneeds=['a']\n[task.d]\nrun='x'\nneeds=['a']",
       "line 6, column 8: tasks need each other in a circle: a -> b -> a; take one of these needs away"},
      {"after = ['x']\n" + t, "line 1, column 9: after: 'x' is none; write the number of a job, and :any if it may fail: 12, 12:any, 12,13:any"},
      {"deadline = 2020-01-01T00:00:00\n" + t, "line 1, column 12: deadline: it is not in the future; write a time from now, such as 2h, or a local time: 18:30, 2026-12-24T18:30"},
      {"deadline = 2030-01-01T00:00:00Z\n" + t, "line 1, column 12: deadline has an offset; leave it out: the deadline is in local time"},
      {"priority = 5000\n" + t, "line 1, column 12: priority is 5000; give a number from -1000 to 1000"},
      {"a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a.a = 1", "line 1: a key of more than 16 parts; keys are short here: task.NAME.KEY"},
  };
  for (const auto& [text, message] : wrong) {
    if (message.ends_with(": "))
      EXPECT_TRUE(refusal(text).starts_with(message)) << refusal(text);  // the parser's own words
    else
      EXPECT_EQ(refusal(text), message) << text;
  }
}

TEST(JobFile, ATaskThatIsThereTwiceIsRefusedByLineAndColumn) {
  const auto said = refusal("[task.a]\nrun='x'\n[task.a]\nrun='y'\n");
  EXPECT_TRUE(said.starts_with("line 3, column ")) << said;
  EXPECT_NE(said.find("task.a"), std::string::npos) << said;
}

TEST(JobFile, ExpressionsAreReadHere) {
  const auto said = refusal("[task.a]\nrun='x'\nrequire = 'memory >='\n");
  EXPECT_TRUE(said.starts_with("line 3, column 11: require: column 10: ")) << said;
  EXPECT_NE(said.find("\n  memory >=\n           ^"), std::string::npos) << said;
}

TEST(JobFile, WhatWouldGrowIsRefusedBeforeItDoes) {
  std::string ten;  // 10^12 combinations
  for (int i = 0; i < 12; ++i) ten += (i == 0 ? "" : ", ") + std::string(1, static_cast<char>('a' + i)) + " = [0,1,2,3,4,5,6,7,8,9]";
  const auto began = std::chrono::steady_clock::now();
  EXPECT_EQ(refusal("[task.t]\nrun='x'\nmatrix = { " + ten + " }"),
            "line 3, column 10: the matrix has 1000000000000 combinations, at most 1000000 are allowed; split it into several jobs, or let each task work through a part");
  EXPECT_NE(refusal("[task.t]\nrun='x'\nmatrix = { a = { from = 0, to = 9000000000000000000 } }").find("combinations"), std::string::npos);
  EXPECT_NE(refusal("[task.t]\nrun='x'\nmatrix = { a = { from = -9000000000000000000, to = 9000000000000000000, step = 1 } }").find("combinations"), std::string::npos);
  EXPECT_EQ(refusal("[task.t]\nrun='x'\nmatrix = { a = { from = 1, to = 1000000 }, b = ['" + std::string(100, 'x') + "'] }"),
            "line 3, column 10: the matrix makes items of 116 MiB in all, at most 64 MiB are allowed; split it into several jobs");
  EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(2));
}

TEST(JobFile, DefaultsThatAllInheritAreCounted) {
  std::string text = "[defaults]\nrun='x'\nitems = [";  // 6 MiB, which every task has again
  for (int i = 0; i < 100; ++i) text += "'" + std::string(60'000, 'x') + "',";
  text += "]\n";
  for (int i = 0; i < 100; ++i) text += "[task.t" + std::to_string(i) + "]\n";
  EXPECT_NE(refusal(text).find("the job is over 64 MiB with task 't"), std::string::npos) << refusal(text);
  std::string arrays = "[defaults]\nrun='x'\narray = '1-10000000'\n[task.a]\n[task.b]\n";
  EXPECT_EQ(refusal(arrays), "line 5, column 7: the job has more than 10000000 tasks with task 'b'; split it into several jobs");
  EXPECT_EQ(refusal("[task.a]\nrun='x'\narray = '1-20000000'\n"), "line 1, column 7: task 'a': it has more than 10000000 tasks; submit it as several jobs");
  EXPECT_EQ(refusal(std::string(kJobFileMax + 1, '\n')), "it has 8.0 MiB, at most 8 MiB are allowed; put lists into files of their own: lines = \"list.txt\"");
}

/// Reads it, whatever it is; fails only by taking too long or by dying.
void survives(const std::string& text) {
  const auto began = std::chrono::steady_clock::now();
  wire::Job job;
  [[maybe_unused]] const auto done = job_file_of(text, "job.toml", around(), job);
  const auto took = std::chrono::steady_clock::now() - began;
  EXPECT_LT(took, std::chrono::seconds(20)) << text.substr(0, 40);
}
std::string times(std::size_t count, const std::string& part) {
  std::string all;
  while (all.size() + part.size() <= count) all += part;
  return all;
}

TEST(JobFile, HostileTextsEndInBoundedTime) {
  constexpr std::size_t size = 2u << 20;
  survives(times(size, "a."));
  survives("[" + times(size, "a.") + "a]");
  survives("x = " + times(size, "["));
  survives("x = " + times(size, "{a="));
  survives("x = [" + times(size, "1,") + "]");
  survives("x = \"" + times(size, "a.") + "\"");
  survives("x = '''" + times(size, "''\n"));
  survives(times(size, "'"));
  survives(times(size, "\"\\"));
  survives(times(size, "#"));
  survives(std::string(size, '\0'));
  survives(times(size, "\xff"));
  survives("[task.t]\nrun = '" + times(size, "x") + "'");
  survives("[task.t]\nrun='x'\nitems=[" + times(size, "{},") + "]");
  survives("[task.t]\nrun='x'\nneeds=[" + times(size, "'a',") + "]");
}

TEST(JobFile, DamagedFilesAreReadOrRefusedWithAPlace) {
  const std::string whole = R"(name = "study"
after = [12, "13:any"]
deadline = 2030-01-01T00:00:00
[defaults]
cpus = 2
env = { A = "x" }
[task.prepare]
run = "./prepare > data"
[task.train]
needs = ["prepare", "other:any"]
run = "train {lr} {layers}"
memory = "2GiB"
require = 'os == "linux"'
resources = { license.matlab = 1 }
matrix = { lr = [0.1, 0.01], layers = { from = 2, to = 8, step = 2 } }
matrix-exclude = [{ lr = 0.1, layers = 8 }]
matrix-include = [{ lr = 1.0, layers = 1 }]
[task.other]
command = ["a", "b c"]
items = ["a", 2, [3]]
retries = 3
retry-delay = "10s"
retry-on = [1, "75-99"]
)";
  std::uint64_t state = 17;  // splitmix64: the same damage each time
  const auto random = [&state](std::size_t below) {
    std::uint64_t mixed = state += 0x9e3779b97f4a7c15ull;
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ull;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebull;
    return static_cast<std::size_t>((mixed ^ (mixed >> 31)) % below);
  };
  const std::string letters = "[]{}=\"'.,#\n-+:019aeT_ \\\xff";
  int good = 0;
  for (int round = 0; round < 3000; ++round) {
    std::string text = whole;
    for (std::size_t i = 0, count = 1 + random(3); i < count; ++i) {
      const auto at = random(text.size());
      switch (random(4)) {
        case 0: text[at] = letters[random(letters.size())]; break;
        case 1: text.erase(at, 1 + random(12)); break;
        case 2: text.insert(at, 1, letters[random(letters.size())]); break;
        default: text.insert(at, text.substr(random(text.size()), 1 + random(30)));
      }
    }
    wire::Job job;
    const auto done = job_file_of(text, "job.toml", around(), job);
    if (done) {
      ++good;
      EXPECT_GT(job.groups_size(), 0) << text;
    } else {
      EXPECT_NE(done.error().why.find("line "), std::string::npos) << done.error().text() << "\n" << text;
    }
  }
  EXPECT_GT(good, 100) << "some damage is none";
  EXPECT_LT(good, 2900);
}

TEST(JobFile, TwentyThousandTasksInARowAreRead) {
  std::string chain, circle;
  for (int i = 0; i < 20'000; ++i) chain += "[task.t" + std::to_string(i) + "]\nrun='x'\nneeds=['t" + std::to_string(i + 1) + "']\n";
  circle = chain + "[task.t20000]\nrun='x'\nneeds=['t0']\n";
  chain += "[task.t20000]\nrun='x'\n";
  const auto job = read(chain);
  ASSERT_EQ(job.groups_size(), 20'001);
  EXPECT_EQ(job.groups(0).name(), "t20000");
  EXPECT_EQ(refusal(circle), "line 3, column 8: tasks need each other in a circle: t0 -> t1 -> t2 -> t3 -> t4 -> t5 -> t6 -> t7 -> t8 -> t9 -> ... 19991 more -> t0; take one of these needs away");
  std::string many;
  for (int i = 0; i <= kGroupsMax; ++i) many += "[task.t" + std::to_string(i) + "]\n";
  EXPECT_EQ(refusal(many), "line 1, column 1: 100001 named tasks, at most 100000 are allowed; let one task have many items");
}

}  // namespace
}  // namespace souk
