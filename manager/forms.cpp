#include "manager/forms.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>

#include "protocol/command.h"
#include "protocol/notation.h"

namespace souk {

namespace {

constexpr std::size_t kShownMax = 8 << 10;  // bytes of one task's stream in a form; the CLI has the rest

std::string trimmed(std::string_view text) {
  const auto first = text.find_first_not_of(" \t\r\n");
  if (first == text.npos) return {};
  return std::string(text.substr(first, text.find_last_not_of(" \t\r\n") - first + 1));
}

std::vector<std::string> values_of(const Form& given, const std::string& var, std::string fallback = {}) {
  if (const Field* field = given.find(var)) return field->values;
  if (fallback.empty()) return {};
  return {std::move(fallback)};
}

Form first_stage(std::string title, std::string instructions, const std::string& problem) {
  Form form;
  form.title = std::move(title);
  form.instructions = problem.empty() ? std::move(instructions) : "Not done: " + problem + "\n" + instructions;
  return form;
}

Form answer(std::string title) {
  Form form;
  form.type = "result";
  form.title = std::move(title);
  return form;
}

Result<std::uint64_t> number_in(const Form& form, const std::string& var, const std::string& name, std::uint64_t most, std::uint64_t fallback) {
  const std::string text = trimmed(form.text(var));
  if (text.empty()) return fallback;
  std::uint64_t number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc{} || end != text.data() + text.size() || number > most)
    return Error{name, quoted(text) + " is no whole number from 0 to " + std::to_string(most), "correct it and send the form again"};
  return number;
}

Result<std::uint64_t> job_number_in(const Form& form) {
  auto job = number_in(form, "job", "job", UINT64_MAX, 0);
  if (job && job.value() == 0) return Error{"job", "none was chosen", "name its number"};
  return job;
}

std::string bytes_shown(std::uint64_t bytes) {
  if (bytes >= 1u << 30) return fmt::format("{:.1f} GiB", static_cast<double>(bytes) / (1u << 30));
  if (bytes >= 1u << 20) return fmt::format("{:.0f} MiB", static_cast<double>(bytes) / (1u << 20));
  return fmt::format("{} B", bytes);
}

std::string ending_of(const wire::TaskResult& result) {
  const auto& o = result.outcome();
  switch (result.state()) {
    case wire::WAITING: return "waits";
    case wire::RUNNING: return "runs on " + result.worker();
    case wire::SUCCEEDED: return fmt::format("succeeded in {:.2f} s on {}", static_cast<double>(o.wall_us()) / 1e6, result.worker());
    case wire::JOB_CANCELED: return "canceled";
    default: break;
  }
  switch (o.cause()) {
    case wire::Outcome::EXITED: return fmt::format("failed: exit code {}", o.exit_code());
    case wire::Outcome::SIGNALED: return fmt::format("failed: signal {}", o.signal());
    case wire::Outcome::TIMED_OUT: return "failed: over its time limit";
    case wire::Outcome::NOT_STARTED: return "not started: " + o.why();
    case wire::Outcome::LOST: return "lost: " + o.why();
    default: return "failed";
  }
}

std::vector<std::string> lines_of(std::string_view text) {
  std::vector<std::string> lines;
  const bool cut = text.size() > kShownMax;
  text = text.substr(0, kShownMax);
  while (!text.empty()) {
    const auto end = text.find('\n');
    lines.push_back(printable(text.substr(0, end)));
    if (end == text.npos) break;
    text.remove_prefix(end + 1);
  }
  if (cut) lines.push_back("[more follows: souk cat shows all of it]");
  return lines;
}

}  // namespace

// ---- Questions -----------------------------------------------------------------------------------------------------------------

Form submit_form(const Form& given, const std::string& problem) {
  Form form = first_stage("Submit a job (step 1 of 1)", "Step 1 of 1: what to run on the grid. Only the first field is needed.", problem);
  form.add("command", "text-single", "1. Command line for /bin/sh (required)", values_of(given, "command"));
  form.fields.back().required = true;
  form.add("name", "text-single", "2. Name of the job", values_of(given, "name"));
  form.add("items", "text-multi", "3. One task for each of these lines; {} in the command stands for the line", values_of(given, "items"));
  form.add("array", "text-single", "4. Or one task for each number, such as 1-100 or 1-99:2", values_of(given, "array"));
  form.add("input", "text-multi", "5. Standard input of each task", values_of(given, "input"));
  form.add("env", "text-multi", "6. Environment, NAME=VALUE, one a line", values_of(given, "env"));
  form.add("time_limit", "text-single", "7. Time limit of a task, such as 90s or 2h", values_of(given, "time_limit"));
  form.add("retries", "text-single", "8. More tries for a task that fails", values_of(given, "retries", "0"));
  return form;
}

Form results_form(const std::vector<wire::JobStatus>& jobs, const Form& given, const std::string& problem) {
  Form form = first_stage("Results of a job (step 1 of 1)", "Step 1 of 1: whose output to show.", problem);
  form.add("job", "text-single", "1. Job number (required)", values_of(given, "job", jobs.empty() ? "" : std::to_string(jobs.front().job())));
  form.fields.back().required = true;
  form.add("task", "text-single", "2. First task to show", values_of(given, "task", "1"));
  form.add("failed", "boolean", "3. Only tasks that failed", values_of(given, "failed", "0"));
  for (const auto& job : jobs) form.add("", "fixed", "", {line_of(job)});
  return form;
}

Form cancel_form(const std::vector<wire::JobStatus>& jobs, const Form& given, const std::string& problem) {
  Form form = first_stage("Cancel a job (step 1 of 1)", "Step 1 of 1: its running tasks are stopped, waiting ones are not run; what has ended stays.", problem);
  std::vector<wire::JobStatus> open;
  for (const auto& job : jobs)
    if (job.ended_ms() == 0) open.push_back(job);
  form.add("job", "text-single", "1. Job number (required)", values_of(given, "job", open.empty() ? "" : std::to_string(open.front().job())));
  form.fields.back().required = true;
  for (const auto& job : open) form.add("", "fixed", "", {line_of(job)});
  return form;
}

// ---- What was filled in ----------------------------------------------------------------------------------------------------------

Result<wire::Job> job_in(const Form& form) {
  wire::Job job;
  job.set_notify(true);
  auto& command = *job.mutable_command();
  const std::string line = trimmed(form.text("command"));
  if (line.empty()) return Error{"command", "it is empty", "write what to run, such as: hostname"};
  command.add_argv(line);
  command.set_shell(true);
  job.set_name(trimmed(form.text("name")));
  const std::string array = trimmed(form.text("array"));
  std::vector<std::string> items;
  if (const Field* field = form.find("items"))
    for (const auto& value : field->values) {
      // Some clients send one value with line ends in it.
      for (std::string_view rest = value; !rest.empty();) {
        const auto end = rest.find('\n');
        if (const std::string item = trimmed(rest.substr(0, end)); !item.empty()) items.push_back(item);
        rest.remove_prefix(end == rest.npos ? rest.size() : end + 1);
      }
    }
  if (!items.empty() && !array.empty()) return Error{"items and array", "both are given", "leave one of them empty"};
  for (auto& item : items) job.mutable_lines()->add_line(std::move(item));
  if (!array.empty()) {
    const auto spans = parse_array(array);
    if (!spans) return spans.error();
    if (spans.value().size() == 1) {
      const Span& span = spans.value().front();
      job.mutable_range()->set_first(span.first), job.mutable_range()->set_last(span.last), job.mutable_range()->set_step(span.step);
    } else {
      for (const Span& span : spans.value()) {
        auto value = static_cast<std::uint64_t>(span.first);
        for (std::uint64_t i = 0; i < span.count(); ++i, value += span.step) job.mutable_lines()->add_line(std::to_string(static_cast<std::int64_t>(value)));
      }
    }
  }
  command.set_fill(job.has_lines() || job.has_range());
  if (const Field* field = form.find("input"); field && !field->values.empty()) {
    std::string input;
    for (const auto& value : field->values) input += value + '\n';
    if (input != "\n") command.set_input(input);
  }
  if (const Field* field = form.find("env"))
    for (const auto& value : field->values) {
      const std::string setting = trimmed(value);
      if (setting.empty()) continue;
      const auto equals = setting.find('=');
      if (equals == 0 || equals == std::string::npos) return Error{"environment", quoted(setting) + " is not NAME=VALUE", "write one setting a line"};
      auto& variable = *command.add_env();
      variable.set_name(setting.substr(0, equals)), variable.set_value(setting.substr(equals + 1));
    }
  if (const std::string limit = trimmed(form.text("time_limit")); !limit.empty()) {
    const auto time = parse_duration(limit);
    if (!time) return time.error();
    command.set_time_limit_ms(static_cast<std::uint64_t>(time.value().count()));
  }
  const auto retries = number_in(form, "retries", "retries", 1000, 0);
  if (!retries) return retries.error();
  job.set_retries(static_cast<std::uint32_t>(retries.value()));
  return job;
}

Result<wire::ResultsRequest> results_in(const Form& form) {
  wire::ResultsRequest request;
  const auto job = job_number_in(form);
  if (!job) return job.error();
  const auto task = number_in(form, "task", "task", UINT64_MAX, 1);
  if (!task) return task.error();
  request.set_job(job.value()), request.set_from_task(task.value());
  request.set_failed_only(is_true(form.text("failed")));
  request.set_outputs(true), request.set_limit(20);
  return request;
}

Result<wire::CancelRequest> cancel_in(const Form& form) {
  wire::CancelRequest request;
  const auto job = job_number_in(form);
  if (!job) return job.error();
  request.add_jobs(job.value());
  return request;
}

// ---- Answers ---------------------------------------------------------------------------------------------------------------------

std::string line_of(const wire::JobStatus& job) {
  static constexpr const char* states[] = {"waiting", "running", "succeeded", "failed", "canceled"};
  const int state = std::clamp(static_cast<int>(job.state()), 0, 4);
  std::string line = fmt::format("{}{} {}: {} of {} done", job.job(), job.name().empty() ? "" : " \"" + job.name() + "\"", states[state],
                                 job.succeeded() + job.failed() + job.canceled(), job.tasks());
  if (job.failed() > 0) line += fmt::format(", {} failed", job.failed());
  if (job.running() > 0) line += fmt::format(", {} running", job.running());
  return line + "  (" + job.command() + ")";
}

Form shown(const wire::SubmitAnswer& given) {
  Form form = answer("Job submitted");
  form.add("job", "text-single", "Job", {std::to_string(given.job())});
  form.add("tasks", "text-single", "Tasks", {std::to_string(given.tasks())});
  for (const auto& warning : given.warnings()) form.add("warning", "text-single", "Note", {warning});
  form.add("next", "text-single", "Next", {"You get a message when it ends; the commands status and results tell more."});
  return form;
}

Form shown(const wire::StatusAnswer& given) {
  Form form = answer("Your jobs");
  const auto& grid = given.grid();
  form.add("grid", "text-single", "Grid", {fmt::format("{} workers, {} of {} slots busy, {} tasks waiting", grid.workers(), grid.slots_busy(), grid.slots(), grid.tasks_waiting())});
  std::vector<std::string> lines;
  for (const auto& job : given.jobs()) lines.push_back(line_of(job));
  if (lines.empty()) lines.push_back("You have no jobs.");
  form.add("jobs", "text-multi", "Jobs, newest first", std::move(lines));
  return form;
}

Form shown(const wire::ResultsAnswer& given) {
  Form form = answer(fmt::format("Results of job {}", given.job().job()));
  form.add("job", "text-single", "Job", {line_of(given.job())});
  for (const auto& result : given.results()) {
    std::vector<std::string> lines = lines_of(result.outcome().out());
    if (result.out_elided()) lines.push_back("[too long for a form: souk cat shows it]");
    if (const auto errors = lines_of(result.outcome().err()); !errors.empty() || result.err_elided()) {
      lines.push_back("[standard error]");
      lines.insert(lines.end(), errors.begin(), errors.end());
      if (result.err_elided()) lines.push_back("[too long for a form: souk cat --stderr shows it]");
    }
    if (lines.empty()) lines.push_back(result.state() >= wire::SUCCEEDED ? "[no output]" : "[not yet]");
    form.add(fmt::format("task-{}", result.task()), "text-multi",
             fmt::format("Task {}{}, {}", result.task(), result.item().empty() ? "" : " [" + printable(shortened(result.item(), 60)) + "]", ending_of(result)), std::move(lines));
  }
  if (given.results_size() == 0) form.add("none", "text-single", "Tasks", {"none to show"});
  if (given.next_task() > 0) form.add("next", "text-single", "More", {fmt::format("from task {} on: run the command again with that number", given.next_task())});
  return form;
}

Form shown(const wire::CancelAnswer& given) {
  Form form = answer("Canceled");
  std::vector<std::string> lines;
  for (const auto& job : given.jobs()) lines.push_back(line_of(job));
  form.add("jobs", "text-multi", "Jobs", std::move(lines));
  return form;
}

Form shown(const wire::WorkersAnswer& given) {
  static constexpr const char* states[] = {"free", "busy", "draining", "paused"};
  Form form = answer("Workers in the market");
  std::vector<std::string> lines;
  for (const auto& worker : given.workers()) {
    const auto& offer = worker.offer();
    lines.push_back(fmt::format("{}: {}, {} of {} slots, {} cpus, {}, {} {}", worker.nick(), states[std::clamp(static_cast<int>(worker.state()), 0, 3)],
                                std::min(worker.running(), worker.slots()), worker.slots(), offer.cpus(), bytes_shown(offer.memory_bytes()), offer.os(), offer.arch()));
  }
  if (lines.empty()) lines.push_back("There are none.");
  form.add("workers", "text-multi", "Workers", std::move(lines));
  return form;
}

}  // namespace souk
