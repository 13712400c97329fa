#include "manager/forms.h"

#include <gtest/gtest.h>

#include "manager/book.h"

namespace souk {
namespace {

Form filled(std::vector<std::pair<std::string, std::vector<std::string>>> fields) {
  Form form;
  form.type = "submit";
  for (auto& [var, values] : fields) form.add(var, "", "", values);
  return form;
}

constexpr std::uint64_t kNow = 1'800'000'000'000;
Result<wire::Job> submitted(const Form& form) { return job_in(form, kNow); }

TEST(Forms, ASubmitFormBecomesAJob) {
  const auto job = submitted(filled({{"command", {" convert {} "}}, {"name", {"render"}}, {"items", {"a.png", "", "b c.png\nd.png"}}, {"env", {"A=1", " B=x=y "}},
                                  {"time_limit", {"90s"}}, {"retries", {"2"}}, {"input", {"one", "two"}}}));
  ASSERT_TRUE(job) << job.error().text();
  const wire::Job& j = job.value();
  EXPECT_EQ(j.command().argv(0), "convert {}");
  EXPECT_TRUE(j.command().shell());
  EXPECT_TRUE(j.command().fill());
  ASSERT_EQ(j.lines().line_size(), 3);
  EXPECT_EQ(j.lines().line(1), "b c.png");
  EXPECT_EQ(j.command().env(1).value(), "x=y");
  EXPECT_EQ(j.command().time_limit_ms(), 90000u);
  EXPECT_EQ(j.command().input(), "one\ntwo\n");
  EXPECT_EQ(j.retries(), 2u);
  EXPECT_FALSE(j.has_needs());
  EXPECT_TRUE(check(j, kNow));
}

TEST(Forms, NeedsAndTermsAreRead) {
  const auto job = submitted(filled({{"command", {"train"}}, {"cpus", {"4"}}, {"memory", {"1.5GiB"}}, {"disk", {"10GiB"}}, {"gpus", {"1"}}, {"resources", {"license.matlab=1", ""}},
                                     {"requirement", {" os == \"linux\" "}}, {"rank", {"speed"}}, {"priority", {"-5"}}, {"after", {"12, 13:any 14:ok"}}, {"deadline", {"2h"}},
                                     {"max_fails", {"0"}}, {"hold", {"1"}}}));
  ASSERT_TRUE(job) << job.error().text();
  const wire::Job& j = job.value();
  EXPECT_EQ(j.needs().cpus(), 4u);
  EXPECT_EQ(j.needs().memory_bytes(), 3ull << 29);
  EXPECT_EQ(j.needs().disk_bytes(), 10ull << 30);
  EXPECT_EQ(j.needs().gpus(), 1u);
  EXPECT_EQ(j.needs().resources(0).name(), "license.matlab");
  EXPECT_EQ(j.require() + j.rank(), "os == \"linux\"speed");
  EXPECT_EQ(j.priority(), -5);
  ASSERT_EQ(j.after_size(), 3);
  EXPECT_TRUE(j.after(1).any() && !j.after(0).any() && !j.after(2).any());
  EXPECT_EQ(j.deadline_ms(), kNow + 7'200'000);
  EXPECT_TRUE(j.has_max_fails() && j.hold());
  EXPECT_TRUE(check(j, kNow));
}

TEST(Forms, EveryQuestionOfTheSubmitFormIsNumberedAndOnlyTheFirstNeeded) {
  const Form form = submit_form();
  for (std::size_t i = 0; i < form.fields.size(); ++i) {
    EXPECT_EQ(form.fields[i].label.rfind(std::to_string(i + 1) + ". ", 0), 0u) << form.fields[i].label;
    EXPECT_EQ(form.fields[i].required, i == 0);
  }
  Form sent = form;  // as a client sends it back with only the command filled in
  sent.fields[0].values = {"hostname"};
  const auto job = submitted(sent);
  ASSERT_TRUE(job) << job.error().text();
  EXPECT_FALSE(job.value().has_needs() || job.value().has_max_fails() || job.value().hold());
}

TEST(Forms, AnArrayStaysARange) {
  const auto job = submitted(filled({{"command", {"echo {}"}}, {"array", {"1-1000:2"}}}));
  ASSERT_TRUE(job);
  EXPECT_EQ(check(job.value(), kNow).value(), 500u);
  EXPECT_TRUE(job.value().has_range());
}

TEST(Forms, EveryFieldIsChecked) {
  for (const auto& form : {filled({}), filled({{"command", {"  "}}}), filled({{"command", {"x"}}, {"retries", {"many"}}}), filled({{"command", {"x"}}, {"retries", {"-1"}}}),
                           filled({{"command", {"x"}}, {"retries", {"99999999999999999999"}}}), filled({{"command", {"x"}}, {"time_limit", {"90"}}}), filled({{"command", {"x"}}, {"array", {"5-1"}}}),
                           filled({{"command", {"x"}}, {"array", {"1-2"}}, {"items", {"a"}}}), filled({{"command", {"x"}}, {"env", {"=1"}}}), filled({{"command", {"x"}}, {"env", {"A"}}}), filled({{"command", {"x"}}, {"memory", {"512"}}}),
                           filled({{"command", {"x"}}, {"cpus", {"two"}}}), filled({{"command", {"x"}}, {"resources", {"a"}}}), filled({{"command", {"x"}}, {"resources", {"a=1x"}}}),
                           filled({{"command", {"x"}}, {"resources", {"=1"}}}), filled({{"command", {"x"}}, {"priority", {"high"}}}), filled({{"command", {"x"}}, {"after", {"12:done"}}}),
                           filled({{"command", {"x"}}, {"after", {"job"}}}), filled({{"command", {"x"}}, {"deadline", {"tomorrow"}}}), filled({{"command", {"x"}}, {"max_fails", {"-1"}}})}) {
    const auto job = submitted(form);
    ASSERT_FALSE(job);
    EXPECT_FALSE(job.error().why.empty());
  }
  EXPECT_FALSE(results_in(filled({{"job", {"x"}}})));
  EXPECT_FALSE(results_in(filled({{"job", {""}}})));
  EXPECT_FALSE(cancel_in(filled({})));
  EXPECT_FALSE(jobs_in(filled({})));
  EXPECT_FALSE(rerun_in(filled({{"job", {"0"}}})));
  EXPECT_FALSE(why_in(filled({{"job", {"1"}}, {"task", {"one"}}})));
  EXPECT_EQ(why_in(filled({{"job", {"1"}}, {"task", {""}}})).value().task(), 0u);
  EXPECT_TRUE(rerun_in(filled({{"job", {"1"}}, {"all", {"true"}}})).value().all());
}

TEST(Forms, AProblemStandsFirstAndTheValuesStay) {
  const Form form = submit_form(filled({{"command", {"x"}}, {"retries", {"many"}}}), "retries: 'many' is no number");
  EXPECT_EQ(form.instructions.rfind("Not done: retries", 0), 0u);
  EXPECT_EQ(form.text("command"), "x");
  EXPECT_EQ(form.text("retries"), "many");
}

TEST(Forms, AJobFormProposesTheNewestJobThatFits) {
  std::vector<wire::JobStatus> jobs(4);
  for (std::size_t i = 0; i < jobs.size(); ++i) jobs[i].set_job(9 - i), jobs[i].set_tasks(2);
  jobs[0].set_held(true);                             // 9
  jobs[2].set_ended_ms(5), jobs[2].set_succeeded(2);  // 7
  jobs[3].set_ended_ms(5), jobs[3].set_failed(2);     // 6
  EXPECT_EQ(job_form("cancel", jobs).text("job"), "9");
  EXPECT_EQ(job_form("hold", jobs).text("job"), "8");
  EXPECT_EQ(job_form("release", jobs).text("job"), "9");
  EXPECT_EQ(job_form("rerun", jobs).text("job"), "6");
  EXPECT_EQ(job_form("rerun", {}, {}, "no such job").instructions.rfind("Not done: no such job", 0), 0u);
}

TEST(Forms, AnExplanationIsReadFromTopToBottom) {
  wire::WhyAnswer answer;
  answer.mutable_job()->set_job(3);
  answer.set_task(2), answer.set_group("train"), answer.set_summary("it waits for memory");
  auto& reason = *answer.add_reasons();
  reason.set_workers(12), reason.set_why("memory 8 GiB < 64 GiB asked");
  answer.add_changes("--memory 32GiB");
  answer.set_owner_place(1), answer.set_owners_waiting(2), answer.set_tasks_ahead(4);
  auto& past = *answer.add_attempts();
  past.set_run(1), past.set_worker("ant-7"), past.set_host("lab7"), past.set_ending("exit code 3"), past.set_last_lines("no such file\xff");
  const Form form = shown(answer);
  EXPECT_EQ(form.title, "Task 3.2 (train)");
  EXPECT_EQ(form.fields[0].values, std::vector<std::string>{"it waits for memory"});
  EXPECT_EQ(form.text("reasons"), "12 workers: memory 8 GiB < 64 GiB asked");
  EXPECT_EQ(form.text("changes"), "--memory 32GiB");
  EXPECT_EQ(form.text("place"), "4 of your tasks first; your turn is 1 of 2");
  EXPECT_EQ(form.find("attempts")->values, (std::vector<std::string>{"run 1 on ant-7 (lab7): exit code 3", "  no such file\xEF\xBF\xBD"}));
}

TEST(Forms, ADryRunSaysThatNothingWasSubmitted) {
  wire::SubmitAnswer answer;
  answer.set_tasks(3);
  auto& match = *answer.add_matches();
  match.set_tasks(3), match.set_fitting(1), match.set_room(2), match.add_best("ant-7");
  const Form form = shown(answer);
  EXPECT_EQ(form.title.rfind("Nothing was submitted", 0), 0u);
  EXPECT_EQ(form.find("match-1")->values, (std::vector<std::string>{"1 worker could run it, room for 2 now", "best: ant-7"}));
}

TEST(Forms, AnswersArePlainFieldsWithoutTables) {
  wire::ResultsAnswer answer;
  answer.mutable_job()->set_job(3);
  auto& result = *answer.add_results();
  result.set_task(1), result.set_state(wire::SUCCEEDED), result.set_worker("w");
  result.mutable_outcome()->set_out("one\ntwo\xff\n");
  result.mutable_outcome()->set_err(std::string(100000, 'e'));
  const Form form = shown(answer);
  EXPECT_TRUE(form.columns.empty());
  const Field* field = form.find("task-1");
  ASSERT_TRUE(field);
  EXPECT_EQ(field->values[0], "one");
  EXPECT_EQ(field->values[1], "two\xEF\xBF\xBD");
  std::size_t bytes = 0;
  for (const auto& value : field->values) bytes += value.size();
  EXPECT_LT(bytes, 20000u);
}

}  // namespace
}  // namespace souk
