#include "submit/render.h"
#include "submit/render_why.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "protocol/grid.pb.h"
#include "protocol/nearest.h"

namespace souk {
namespace {

using namespace std::chrono_literals;
using Json = nlohmann::json;

const WallTime kNow{std::chrono::milliseconds{1'795'396'930'000}};  // 2026-11-23 01:22:10 UTC

wire::JobStatus sample_job() {
  wire::JobStatus job;
  job.set_job(12);
  job.set_name("sim");
  job.set_owner("ada@souk.localhost");
  job.set_state(wire::FAILED);
  job.set_tasks(1000);
  job.set_succeeded(997);
  job.set_failed(3);
  job.set_retried(4);
  job.set_submitted_ms(1'795'396'920'000);
  job.set_started_ms(1'795'396'920'010);
  job.set_ended_ms(1'795'396'924'200);
  job.set_command("./sim {}");
  return job;
}

wire::TaskResult sample_task(wire::State state, wire::Outcome::Cause cause, std::uint32_t exit_code, std::uint32_t signal = 0) {
  wire::TaskResult result;
  result.set_task(7);
  result.set_state(state);
  result.set_attempts(2);
  result.set_worker("w1");
  result.set_item("seven");
  auto& outcome = *result.mutable_outcome();
  outcome.set_cause(cause);
  outcome.set_exit_code(exit_code);
  outcome.set_signal(signal);
  outcome.set_wall_us(1'234'000);
  outcome.set_cpu_us(99'000);
  outcome.set_peak_memory_kib(1536);
  return result;
}

TEST(Render, DurationsFitTheirSize) {
  EXPECT_EQ(duration_text(350us), "350us");
  EXPECT_EQ(duration_text(12'340us), "12.3ms");
  EXPECT_EQ(duration_text(350ms), "350ms");
  EXPECT_EQ(duration_text(1234ms), "1.2s");
  EXPECT_EQ(duration_text(59'900ms), "59.9s");
  EXPECT_EQ(duration_text(59'990ms), "1m00s");
  EXPECT_EQ(duration_text(123s), "2m03s");
  EXPECT_EQ(duration_text(3720s), "1h02m");
  EXPECT_EQ(duration_text(76h), "3d04h");
  EXPECT_EQ(duration_text(-5s), "0us");
  EXPECT_EQ(seconds_text(5900ms), "5s");
  EXPECT_EQ(seconds_text(123s), "2m03s");
}

TEST(Render, SizesFitTheirSize) {
  EXPECT_EQ(size_text(812), "812 B");
  EXPECT_EQ(size_text(1536), "1.5 KiB");
  EXPECT_EQ(size_text(12u << 20), "12 MiB");
  EXPECT_EQ(size_text((1u << 20) - 1), "1.0 MiB");
}

TEST(Render, TimesAreUtcAndNonsenseIsNotATime) {
  EXPECT_EQ(time_text(1'795'396'930'000), "2026-11-23 01:22:10 UTC");
  EXPECT_EQ(time_text(0), "-");
  EXPECT_EQ(time_text(~0ull), "-");
  EXPECT_EQ(ago_text(1'795'396'745'000, kNow), "3m05s ago");
  EXPECT_EQ(ago_text(1'795'396'931'000, kNow), "just now") << "the manager's clock is ahead";
}

TEST(Render, WhatOthersWroteCannotSteerTheTerminal) {
  EXPECT_EQ(plain("a\x1b[2Jb\n\tc\x7f"), "a?[2Jb??c?");
  EXPECT_EQ(plain("caf\xe9 caf\xc3\xa9"), "caf? caf\xc3\xa9");
  EXPECT_EQ(plain("x\xc2\x9b" "31m"), "x?31m") << "C1 control in UTF-8";
  EXPECT_EQ(plain("\xe2\x80\xaetxt.exe"), "?txt.exe") << "text that turns around";
  EXPECT_EQ(plain("\xed\xa0\x80"), "???") << "a surrogate is no UTF-8";
  EXPECT_EQ(plain("abcdefghij", 6), "abc...");
  EXPECT_EQ(plain("abcdef", 6), "abcdef");
  EXPECT_EQ(plain("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9", 4), "\xc3\xa9...");
}

TEST(Render, TablesAlignAlsoOverPages) {
  Table table({{"N", Table::Align::right}, {"NAME"}});
  table.add({"1", "caf\xc3\xa9"});
  table.add({"100", "x"});
  EXPECT_EQ(table.text(), "  N  NAME\n  1  caf\xc3\xa9\n100  x\n");
  table.add({"2", "y"});
  EXPECT_EQ(table.text(), "  2  y\n") << "no second header";
  Table empty({{"N"}, {"NAME"}});
  EXPECT_EQ(empty.text(), "N  NAME\n");
}

TEST(Render, AGridInTroubleSaysSo) {
  wire::GridStatus grid;
  grid.set_version("1.2");
  EXPECT_EQ(grid_details(grid).find("Trouble"), std::string::npos);
  grid.set_trouble("the manager's disk is full\x1b[2J"), grid.set_lacks("2 epochs");
  EXPECT_NE(grid_details(grid).find("\nTrouble: the manager's disk is full?[2J\nLacks: 2 epochs\n"), std::string::npos) << grid_details(grid);
  EXPECT_NE(json_of(grid).find(R"("trouble":"the manager's disk is full?[2J","lacks":"2 epochs")"), std::string::npos) << json_of(grid);
}

TEST(Render, JobsTable) {
  auto table = jobs_table({});
  add_row(table, sample_job(), {}, kNow);
  EXPECT_EQ(table.text(),
            "JOB  STATE   TASKS  DONE  FAILED  RUNNING  SUBMITTED  TOOK  NAME  COMMAND\n"
            " 12  failed   1000   997       3        0  10s ago    4.2s  sim   ./sim {}\n");
  auto owned = jobs_table({.owner = true});
  add_row(owned, sample_job(), {.owner = true}, kNow);
  EXPECT_NE(owned.text().find("ada@souk.localhost"), std::string::npos);
}

TEST(Render, TasksTable) {
  auto table = tasks_table(false);
  add_row(table, sample_task(wire::FAILED, wire::Outcome::SIGNALED, 0, 9), false);
  wire::TaskResult waiting;
  waiting.set_task(8);
  waiting.set_item("eight");
  add_row(table, waiting, false);
  EXPECT_EQ(table.text(),
            "TASK  STATE    ENDED BY         WALL   CPU   MEMORY  TRIES  WORKER  ITEM\n"
            "   7  failed   signal 9 (KILL)  1.2s  99ms  1.5 MiB      2  w1      seven\n"
            "   8  waiting  -                   -     -        -      0  -       eight\n");
}

TEST(Render, WorkersTable) {
  wire::WorkerStatus worker;
  worker.set_nick("lab-3");
  worker.set_state(wire::DRAINING);
  worker.set_slots(8);
  worker.set_running(2);
  worker.set_since_ms(1'795'396'870'000);
  worker.mutable_offer()->set_cpus(8);
  worker.mutable_offer()->set_memory_bytes(16ull << 30);
  worker.mutable_offer()->set_os("linux");
  worker.mutable_offer()->set_arch("x86_64");
  worker.mutable_offer()->set_hostname("lab");
  (*worker.mutable_offer()->mutable_tags())["site"] = "north";
  (*worker.mutable_offer()->mutable_tags())["gpu"] = "no";
  auto table = workers_table({});
  add_row(table, worker, {}, kNow);
  EXPECT_EQ(table.text(),
            "WORKER  STATE     SLOTS  RUNNING  DONE  FAILED  HERE FOR  CPUS  MEMORY  SYSTEM        HOST  TAGS\n"
            "lab-3   draining      8        2     0       0     1m00s     8  16 GiB  linux/x86_64  lab   gpu=no site=north\n");
  const auto json = Json::parse(json_of(worker));
  EXPECT_EQ(json["state"], "draining");
  EXPECT_EQ(json["tags"]["site"], "north");
}

TEST(Render, ColumnsAppearWhereThereIsSomethingToShow) {
  auto job = sample_job();
  job.set_state(wire::WAITING);
  job.set_ended_ms(0);
  job.set_held(true);
  job.set_priority(-3);
  job.set_note("waits for job 11\x1b");
  JobColumns columns;
  columns.see(sample_job());
  EXPECT_FALSE(columns.priority || columns.note);
  columns.see(job);
  auto table = jobs_table(columns);
  add_row(table, job, columns, kNow);
  EXPECT_EQ(table.text(),
            "JOB  STATE  TASKS  DONE  FAILED  RUNNING  SUBMITTED   TOOK  PRIORITY  NAME  COMMAND   NOTE\n"
            " 12  held    1000   997       3        0  10s ago    10.0s        -3  sim   ./sim {}  waits for job 11?\n");
  job.set_state(wire::RUNNING);
  job.set_deadline_ms(1'795'397'000'000);
  EXPECT_NE(job_details(job, kNow).find("state      running, held\nnote       waits for job 11?\npriority   -3\ndeadline   2026-11-23 01:23:20 UTC\n"), std::string::npos) << job_details(job, kNow);
  const auto json = Json::parse(json_of(job));
  EXPECT_EQ(json["priority"], -3);
  EXPECT_EQ(json["held"], true);
  EXPECT_EQ(json["note"], "waits for job 11?");
  EXPECT_EQ(json["deadline_ms"], 1'795'397'000'000);

  auto task = sample_task(wire::SUCCEEDED, wire::Outcome::EXITED, 0);
  task.set_group("train");
  auto tasks = tasks_table(true);
  add_row(tasks, task, true);
  EXPECT_EQ(tasks.text(), "TASK  GROUP  STATE      ENDED BY  WALL   CPU   MEMORY  TRIES  WORKER  ITEM\n   7  train  succeeded  exit 0    1.2s  99ms  1.5 MiB      2  w1      seven\n");
  EXPECT_EQ(Json::parse(json_of(12, task, false))["group"], "train");
}

TEST(Render, WorkersSayWhatHoldsThemBack) {
  wire::WorkerStatus worker;
  worker.set_nick("w");
  worker.set_state(wire::PAUSED);
  worker.set_rule("in use: input 12 s ago");
  worker.set_set_aside("5 failures in a row");
  worker.set_until_ms(1'795'397'000'000);
  worker.mutable_offer()->set_speed(1.25);
  (*worker.mutable_offer()->mutable_resources())["scanner"] = "[a,b]";
  (*worker.mutable_offer()->mutable_resources())["license"] = "2";
  WorkerColumns columns;
  columns.see(worker);
  auto table = workers_table(columns);
  add_row(table, worker, columns, kNow);
  EXPECT_EQ(table.text(),
            "WORKER  STATE   SLOTS  RUNNING  DONE  FAILED  HERE FOR  CPUS  SPEED  MEMORY  SYSTEM  HOST  TAGS  RESOURCES                NOTE\n"
            "w       paused      0        0     0       0         -     0    1.2     0 B  /                   license=2 scanner=[a,b]  "
            "set aside: 5 failures in a row; in use: input 12 s ago; until 2026-11-23 01:23:20 UTC\n");
  const auto json = Json::parse(json_of(worker));
  EXPECT_EQ(json["rule"], "in use: input 12 s ago");
  EXPECT_EQ(json["set_aside"], "5 failures in a row");
  EXPECT_EQ(json["until_ms"], 1'795'397'000'000);
  EXPECT_EQ(json["resources"]["scanner"], "[a,b]");
  EXPECT_EQ(json["speed"], 1.25);
}

TEST(Render, WhatOneWorkerOffers) {
  wire::WorkerStatus worker;
  worker.set_nick("ant\x1b-7");
  worker.mutable_offer()->set_sandbox("bwrap");
  worker.mutable_offer()->set_sandbox_note("bwrap 0.8.0, seccomp");
  const std::string text = worker_details(worker, kNow);
  EXPECT_NE(text.find("worker     ant?-7\n"), std::string::npos) << text;
  EXPECT_NE(text.find("sandbox    bwrap: bwrap 0.8.0, seccomp\n"), std::string::npos) << text;
  EXPECT_NE(text.find("network    for tasks of its owner only\n"), std::string::npos) << text;
}

TEST(Render, WhyATaskWaits) {
  wire::WhyAnswer why;
  *why.mutable_job() = sample_job();
  why.set_task(7);
  why.set_group("train");
  why.set_state(wire::WAITING);
  why.set_summary("no worker has the memory it asks");
  auto& reason = *why.add_reasons();
  reason.set_workers(12);
  reason.set_why("memory 8 GiB < 64 GiB asked; largest seen 32 GiB");
  why.add_reasons()->set_why("the job is held");
  why.add_changes("--memory 32GiB");
  why.set_tasks_ahead(40);
  why.set_owner_place(2);
  why.set_owners_waiting(3);
  EXPECT_EQ(why_text(why, kNow),
            "task       12.7 sim, of train\n"
            "state      waiting\n"
            "why        no worker has the memory it asks\n"
            "           12 workers: memory 8 GiB < 64 GiB asked; largest seen 32 GiB\n"
            "           the job is held\n"
            "to run it  --memory 32GiB\n"
            "place      turn 2 of 3 users who wait; 40 tasks of the same owner go first\n");
  const auto json = Json::parse(json_of(why));
  EXPECT_EQ(json["reasons"][0]["workers"], 12);
  EXPECT_EQ(json["changes"][0], "--memory 32GiB");
  EXPECT_EQ(json["owner_place"], 2);
  EXPECT_EQ(json["state"], "waiting");
}

TEST(Render, WhyAJobGoesOnAsItDoes) {
  wire::WhyAnswer why;
  *why.mutable_job() = sample_job();
  why.mutable_job()->set_state(wire::RUNNING);
  why.mutable_job()->set_ended_ms(0);
  why.set_state(wire::RUNNING);
  why.set_summary("task 12.4 (train) is next: it waits for 1 group of its job to end");
  const std::string text = why_text(why, kNow);
  EXPECT_NE(text.find("state      running\ntasks      " + tasks_text(why.job()) + "\nwhy        task 12.4 (train) is next: it waits"), std::string::npos) << text;
  EXPECT_EQ(Json::parse(json_of(why))["tasks"], why.job().tasks());
}

TEST(Render, WhyATaskEndedSo) {
  wire::WhyAnswer why;
  why.mutable_job()->set_job(12);
  why.set_task(7);
  why.set_state(wire::FAILED);
  why.set_summary("it failed 2 times, and may not run again");
  auto& first = *why.add_attempts();
  first.set_run(1);
  first.set_worker("w1");
  first.set_host("lab-3");
  first.set_ending("exit code 3");
  first.set_wall_us(1'234'000);
  first.set_ended_ms(1'795'396'745'000);
  first.set_last_lines("cannot open\x1b[2J\nbye\n");
  auto& second = *why.add_attempts();
  second.set_run(2);
  second.set_worker("w2");
  second.set_host("w2");
  second.set_last_lines("\xff");
  EXPECT_EQ(why_text(why, kNow),
            "task       12.7\n"
            "state      failed\n"
            "why        it failed 2 times, and may not run again\n"
            "attempts   1: exit code 3 on w1 (lab-3), took 1.2s, 3m05s ago\n"
            "              | cannot open?[2J\n"
            "              | bye\n"
            "           2: running on w2\n"
            "              | ?\n");
  const auto json = Json::parse(json_of(why));
  EXPECT_EQ(json["attempts"][0]["last_lines"], "cannot open\x1b[2J\nbye\n");
  EXPECT_EQ(json["attempts"][1]["last_lines_base64"], "/w==");
  EXPECT_EQ(json["attempts"][1]["ending"], nullptr);
}

TEST(Render, WhatADryRunFound) {
  wire::SubmitAnswer answer;
  answer.set_tasks(101);
  auto& good = *answer.add_matches();
  good.set_group("train");
  good.set_tasks(100);
  good.set_fitting(3);
  good.set_room(12);
  good.add_best("w1");
  good.add_best("w2");
  auto& others = *good.add_reasons();
  others.set_workers(1);
  others.set_why("gpus 0 < 1 asked");
  EXPECT_TRUE(all_fit(answer));
  auto& bad = *answer.add_matches();
  bad.set_group("report");
  bad.set_tasks(1);
  bad.add_changes("--memory 32GiB");
  EXPECT_FALSE(all_fit(answer));
  EXPECT_EQ(matches_text(answer),
            "train: 100 tasks; 3 workers fit, 12 could start now\n"
            "  best       w1, w2\n"
            "  others     1 worker: gpus 0 < 1 asked\n"
            "report: 1 task; no worker fits\n"
            "  to run it  --memory 32GiB\n");
  const auto json = Json::parse(matches_json(answer));
  EXPECT_EQ(json["matches"][0]["best"][1], "w2");
  EXPECT_EQ(json["matches"][1]["fitting"], 0);
}

TEST(Render, JobDetailsAndVerdict) {
  EXPECT_EQ(job_details(sample_job(), kNow),
            "job        12\n"
            "name       sim\n"
            "owner      ada@souk.localhost\n"
            "command    ./sim {}\n"
            "state      failed\n"
            "tasks      1000: 997 succeeded, 3 failed, 0 running, 0 waiting\n"
            "retried    4 attempts after a failure\n"
            "submitted  2026-11-23 01:22:00 UTC (10s ago)\n"
            "started    2026-11-23 01:22:00 UTC\n"
            "ended      2026-11-23 01:22:04 UTC\n"
            "took       4.2s\n");
  EXPECT_EQ(job_verdict(sample_job()), "job 12: 997 of 1000 tasks succeeded, 3 failed, in 4.2s");
  auto job = sample_job();
  job.set_failed(0);
  job.set_succeeded(1000);
  EXPECT_EQ(job_verdict(job), "job 12: all 1000 tasks succeeded, in 4.2s");
  job.set_state(wire::JOB_CANCELED);
  job.set_succeeded(10);
  job.set_canceled(990);
  EXPECT_EQ(job_verdict(job), "job 12: canceled, 10 of 1000 tasks succeeded before, in 4.2s");
}

TEST(Render, FailureNotesSpeakOnlyWhereTheTaskCouldNot) {
  EXPECT_EQ(failure_note(12, sample_task(wire::SUCCEEDED, wire::Outcome::EXITED, 0)), "");
  EXPECT_EQ(failure_note(12, sample_task(wire::FAILED, wire::Outcome::EXITED, 3)), "");
  EXPECT_EQ(failure_note(12, sample_task(wire::FAILED, wire::Outcome::SIGNALED, 0, 11)), "task 12.7: signal 11 (SEGV)");
  EXPECT_EQ(failure_note(12, sample_task(wire::FAILED, wire::Outcome::TIMED_OUT, 0)), "task 12.7: time limit of 1.2s reached");
  auto missing = sample_task(wire::FAILED, wire::Outcome::NOT_STARTED, 0);
  missing.mutable_outcome()->set_why("no such program: nope\x1b");
  EXPECT_EQ(failure_note(12, missing), "task 12.7: not started: no such program: nope?");
  EXPECT_EQ(truncation_note("stdout", 1 << 20, 5 << 20), "stdout was cut: 1.0 MiB of 5.0 MiB kept; --output-max keeps more");
  EXPECT_EQ(truncation_note("stdout", 10, 10), "");
}

TEST(Render, JsonOfATaskKeepsBytes) {
  auto result = sample_task(wire::FAILED, wire::Outcome::EXITED, 3);
  result.mutable_outcome()->set_out("caf\xc3\xa9\n");
  result.mutable_outcome()->set_err(std::string("\xff\0", 2));
  const auto text = json_of(12, result, true);
  EXPECT_EQ(text.find('\n'), std::string::npos) << "one object per line";
  const auto json = Json::parse(text);
  EXPECT_EQ(json["job"], 12);
  EXPECT_EQ(json["task"], 7);
  EXPECT_EQ(json["exit_code"], 3);
  EXPECT_EQ(json["signal"], nullptr);
  EXPECT_EQ(json["stdout"], "caf\xc3\xa9\n");
  EXPECT_EQ(json["stderr_base64"], "/wA=");
  EXPECT_FALSE(json.contains("stderr"));
  EXPECT_FALSE(Json::parse(json_of(12, result, false)).contains("stdout"));
}

TEST(Render, JsonOfAJob) {
  auto job = sample_job();
  job.set_name("bad \xff name");
  const auto json = Json::parse(json_of(job));
  EXPECT_EQ(json["name"], "bad ? name");
  EXPECT_EQ(json["state"], "failed");
  EXPECT_EQ(json["succeeded"], 997);
  job.set_ended_ms(0);
  EXPECT_EQ(Json::parse(json_of(job))["ended_ms"], nullptr);
}

TEST(Render, ExitCodesOfASingleTask) {
  EXPECT_EQ(exit_code_of(sample_task(wire::SUCCEEDED, wire::Outcome::EXITED, 0)), 0);
  EXPECT_EQ(exit_code_of(sample_task(wire::FAILED, wire::Outcome::EXITED, 42)), 42);
  EXPECT_EQ(exit_code_of(sample_task(wire::FAILED, wire::Outcome::SIGNALED, 0, 15)), 143);
  EXPECT_EQ(exit_code_of(sample_task(wire::FAILED, wire::Outcome::TIMED_OUT, 0, 15)), 124);
  EXPECT_EQ(exit_code_of(sample_task(wire::FAILED, wire::Outcome::NOT_STARTED, 0)), 127);
  EXPECT_EQ(exit_code_of(sample_task(wire::FAILED, wire::Outcome::LOST, 0)), 125);
  EXPECT_EQ(exit_code_of(sample_task(wire::JOB_CANCELED, wire::Outcome::CANCELED, 0)), 130);
}

TEST(Nearest, FindsTheCommandMeant) {
  const std::vector<std::string> commands{"up", "down", "status", "submit", "run", "map", "wait", "jobs", "job", "tasks", "cat", "cancel", "workers"};
  EXPECT_EQ(nearest("stauts", commands), "status");
  EXPECT_EQ(nearest("sumbit", commands), "submit");
  EXPECT_EQ(nearest("worker", commands), "workers");
  EXPECT_EQ(nearest("cancle", commands), "cancel");
  EXPECT_EQ(nearest("stat", commands), "status");
  EXPECT_EQ(nearest("frobnicate", commands), "");
  EXPECT_EQ(nearest("", commands), "");
}

}  // namespace
}  // namespace souk
