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

TEST(Forms, ASubmitFormBecomesAJob) {
  const auto job = job_in(filled({{"command", {" convert {} "}}, {"name", {"render"}}, {"items", {"a.png", "", "b c.png\nd.png"}}, {"env", {"A=1", " B=x=y "}},
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
  EXPECT_TRUE(check(j));
}

TEST(Forms, AnArrayStaysARange) {
  const auto job = job_in(filled({{"command", {"echo {}"}}, {"array", {"1-1000:2"}}}));
  ASSERT_TRUE(job);
  EXPECT_EQ(check(job.value()).value(), 500u);
  EXPECT_TRUE(job.value().has_range());
}

TEST(Forms, EveryFieldIsChecked) {
  for (const auto& form : {filled({}), filled({{"command", {"  "}}}), filled({{"command", {"x"}}, {"retries", {"many"}}}), filled({{"command", {"x"}}, {"retries", {"-1"}}}),
                           filled({{"command", {"x"}}, {"retries", {"99999999999999999999"}}}), filled({{"command", {"x"}}, {"time_limit", {"90"}}}), filled({{"command", {"x"}}, {"array", {"5-1"}}}),
                           filled({{"command", {"x"}}, {"array", {"1-2"}}, {"items", {"a"}}}), filled({{"command", {"x"}}, {"env", {"=1"}}}), filled({{"command", {"x"}}, {"env", {"A"}}})}) {
    const auto job = job_in(form);
    ASSERT_FALSE(job);
    EXPECT_FALSE(job.error().why.empty());
  }
  EXPECT_FALSE(results_in(filled({{"job", {"x"}}})));
  EXPECT_FALSE(results_in(filled({{"job", {""}}})));
  EXPECT_FALSE(cancel_in(filled({})));
}

TEST(Forms, AProblemStandsFirstAndTheValuesStay) {
  const Form form = submit_form(filled({{"command", {"x"}}, {"retries", {"many"}}}), "retries: 'many' is no number");
  EXPECT_EQ(form.instructions.rfind("Not done: retries", 0), 0u);
  EXPECT_EQ(form.text("command"), "x");
  EXPECT_EQ(form.text("retries"), "many");
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
