#include "manager/forms.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>
#include <utility>

#include "protocol/command.h"
#include "protocol/needs.h"
#include "protocol/notation.h"
#include "protocol/payload.h"

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
  form.add("cpus", "text-single", "9. Processors for each task", values_of(given, "cpus", "1"));
  form.add("memory", "text-single", "10. Memory for each task, such as 2GiB", values_of(given, "memory"));
  form.add("gpus", "text-single", "11. GPUs for each task", values_of(given, "gpus"));
  form.add("requirement", "text-single", "12. Only on workers where this holds, such as os == \"linux\" && has(python)", values_of(given, "requirement"));
  form.add("rank", "text-single", "13. Rather where this is more, such as speed", values_of(given, "rank"));
  form.add("disk", "text-single", "14. Disk for each task, such as 10GiB", values_of(given, "disk"));
  form.add("resources", "text-multi", "15. Other resources of workers, NAME=N, one a line", values_of(given, "resources"));
  form.add("priority", "text-single", "16. Priority among your jobs, -1000 to 1000", values_of(given, "priority", "0"));
  form.add("after", "text-single", "17. Wait for jobs, such as 12 13:any (any: however it ends)", values_of(given, "after"));
  form.add("deadline", "text-single", "18. Start nothing that cannot end within, such as 8h", values_of(given, "deadline"));
  form.add("max_fails", "text-single", "19. Cancel the rest after more failed tasks than", values_of(given, "max_fails"));
  form.add("hold", "boolean", "20. Hold it back until it is released", values_of(given, "hold", "0"));
  form.add("dry_run", "boolean", "21. Only say which workers could run it", values_of(given, "dry_run", "0"));
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

Form why_form(const std::vector<wire::JobStatus>& jobs, const Form& given, const std::string& problem) {
  Form form = first_stage("Why a job or task waits or failed (step 1 of 1)", "Step 1 of 1: what to explain.", problem);
  form.add("job", "text-single", "1. Job number (required)", values_of(given, "job", jobs.empty() ? "" : std::to_string(jobs.front().job())));
  form.fields.back().required = true;
  form.add("task", "text-single", "2. Task number; empty: the job", values_of(given, "task"));
  for (const auto& job : jobs) form.add("", "fixed", "", {line_of(job)});
  return form;
}

Form job_form(const std::string& node, const std::vector<wire::JobStatus>& jobs, const Form& given, const std::string& problem) {
  struct Words {
    const char *title, *question;
    bool (*fits)(const wire::JobStatus&);
  };
  static constexpr auto open = [](const wire::JobStatus& job) { return job.ended_ms() == 0; };
  const Words words = node == "hold"      ? Words{"Hold a job back", "of which job nothing more starts until it is released.", [](const wire::JobStatus& job) { return open(job) && !job.held(); }}
                      : node == "release" ? Words{"Release a held job", "which job may start again.", [](const wire::JobStatus& job) { return open(job) && job.held(); }}
                      : node == "rerun"   ? Words{"Run again what failed of a job", "which job; what succeeded is kept.", [](const wire::JobStatus& job) { return !open(job) && job.succeeded() < job.tasks(); }}
                                          : Words{"Cancel a job", "which job to stop.", [](const wire::JobStatus& job) { return open(job); }};
  std::string first;
  for (const auto& job : jobs)
    if (first.empty() && words.fits(job)) first = std::to_string(job.job());
  Form form = first_stage(std::string(words.title) + " (step 1 of 1)", std::string("Step 1 of 1: ") + words.question, problem);
  form.add("job", "text-single", "1. Job number (required)", values_of(given, "job", first));
  form.fields.back().required = true;
  if (node == "rerun") form.add("all", "boolean", "2. Rather make a new job of it and run everything", values_of(given, "all", "0"));
  for (const auto& job : jobs)
    if (words.fits(job)) form.add("", "fixed", "", {line_of(job)});
  return form;
}

// ---- What was filled in ----------------------------------------------------------------------------------------------------------

namespace {

/// A size for which the unit must be written: 512 is too easily meant as MiB.
Result<std::uint64_t> size_in(const Form& form, const std::string& var) {
  const std::string text = trimmed(form.text(var));
  if (text.empty()) return std::uint64_t{0};
  if (text.back() >= '0' && text.back() <= '9' && text != "0") return Error{var, quoted(text) + " has no unit", "write a unit, such as " + shortened(text, 20) + "MiB"};
  return parse_size(text);
}

Result<Done> needs_in(const Form& form, wire::Needs& needs) {
  const auto cpus = number_in(form, "cpus", "processors", kCpusMax, 1);
  if (!cpus) return cpus.error();
  const auto gpus = number_in(form, "gpus", "GPUs", kGpusMax, 0);
  if (!gpus) return gpus.error();
  const auto memory = size_in(form, "memory");
  if (!memory) return memory.error();
  const auto disk = size_in(form, "disk");
  if (!disk) return disk.error();
  if (cpus.value() != 1) needs.set_cpus(static_cast<std::uint32_t>(cpus.value()));
  needs.set_gpus(static_cast<std::uint32_t>(gpus.value()));
  needs.set_memory_bytes(memory.value()), needs.set_disk_bytes(disk.value());
  const Field* field = form.find("resources");
  for (const auto& value : field ? field->values : std::vector<std::string>{}) {
    const std::string line = trimmed(value);
    if (line.empty()) continue;
    const auto equals = line.find('=');
    std::uint64_t amount = 0;
    const char *from = line.data() + (equals == line.npos ? line.size() : equals + 1), *to = line.data() + line.size();
    if (const auto [end, failure] = std::from_chars(from, to, amount); failure != std::errc{} || end != to) return Error{"resources", quoted(line) + " is not NAME=N", "write one a line, such as license.matlab=1"};
    auto& one = *needs.add_resources();
    one.set_name(trimmed(line.substr(0, equals))), one.set_amount(amount);
  }
  if (const auto read = souk::read(needs); !read) return read.error();
  return Done{};
}

/// `12`, `12:any`, several with blanks or commas between.
Result<Done> after_in(std::string_view text, wire::Job& job) {
  while (!text.empty()) {
    const auto end = text.find_first_of(" ,;\n\t");
    const std::string_view part = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    if (part.empty()) continue;
    const auto colon = part.find(':');
    const std::string_view digits = part.substr(0, colon), how = colon == part.npos ? "ok" : part.substr(colon + 1);
    std::uint64_t id = 0;
    const auto [stop, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
    if (failure != std::errc{} || stop != digits.data() + digits.size() || (how != "ok" && how != "any"))
      return Error{"wait for jobs", quoted(part) + " is no job number, with :any or without", "write them as 12 13:any"};
    auto& after = *job.add_after();
    after.set_job(id), after.set_any(how == "any");
  }
  return Done{};
}

Result<Done> terms_in(const Form& form, std::uint64_t now_ms, wire::Job& job) {
  if (const std::string text = trimmed(form.text("priority")); !text.empty()) {
    int priority = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), priority);
    if (failure != std::errc{} || end != text.data() + text.size()) return Error{"priority", quoted(text) + " is no whole number", "use -1000 to 1000"};
    job.set_priority(priority);
  }
  if (const auto after = after_in(form.text("after"), job); !after) return after.error();
  if (const std::string text = trimmed(form.text("deadline")); !text.empty()) {
    const auto time = parse_duration(text);
    if (!time) return time.error();
    if (time.value().count() > 0) job.set_deadline_ms(now_ms + static_cast<std::uint64_t>(time.value().count()));
  }
  if (!trimmed(form.text("max_fails")).empty()) {
    const auto fails = number_in(form, "max_fails", "failed tasks", UINT64_MAX, 0);
    if (!fails) return fails.error();
    job.set_max_fails(fails.value());
  }
  job.set_require(trimmed(form.text("requirement"))), job.set_rank(trimmed(form.text("rank")));
  job.set_hold(is_true(form.text("hold")));
  return Done{};
}

}  // namespace

Result<wire::Job> job_in(const Form& form, std::uint64_t now_ms) {
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
  wire::Needs needs;
  if (const auto good = needs_in(form, needs); !good) return good.error();
  if (needs.ByteSizeLong() > 0) *job.mutable_needs() = std::move(needs);
  if (const auto good = terms_in(form, now_ms, job); !good) return good.error();
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

Result<wire::JobsRequest> jobs_in(const Form& form) {
  wire::JobsRequest request;
  const auto job = job_number_in(form);
  if (!job) return job.error();
  request.add_jobs(job.value());
  return request;
}

Result<wire::RerunRequest> rerun_in(const Form& form) {
  wire::RerunRequest request;
  const auto job = job_number_in(form);
  if (!job) return job.error();
  request.set_job(job.value()), request.set_all(is_true(form.text("all")));
  return request;
}

Result<wire::WhyRequest> why_in(const Form& form) {
  wire::WhyRequest request;
  const auto job = job_number_in(form);
  if (!job) return job.error();
  const auto task = number_in(form, "task", "task", UINT64_MAX, 0);
  if (!task) return task.error();
  request.set_job(job.value()), request.set_task(task.value());
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
  if (job.held()) line += ", held";
  if (!job.note().empty()) line += ", " + job.note();
  return line + "  (" + job.command() + ")";
}

namespace {

std::string reason_shown(const wire::Reason& reason) {
  if (reason.workers() == 0) return reason.why();
  return fmt::format("{} {}: {}", reason.workers(), reason.workers() == 1 ? "worker" : "workers", reason.why());
}

/// What a dry run found: one field a group.
Form shown_dry(const wire::SubmitAnswer& given) {
  Form form = answer("Nothing was submitted; this is what it would find");
  form.add("tasks", "text-single", "Tasks", {std::to_string(given.tasks())});
  if (given.warnings_size() > 0) form.add("warning", "text-multi", "Note", {given.warnings().begin(), given.warnings().end()});
  int at = 0;
  for (const auto& match : given.matches()) {
    std::vector<std::string> lines{fmt::format("{} {} could run it, room for {} now", match.fitting(), match.fitting() == 1 ? "worker" : "workers", match.room())};
    std::string best;
    for (const auto& nick : match.best()) best += (best.empty() ? "best: " : ", ") + nick;
    if (!best.empty()) lines.push_back(best);
    for (const auto& reason : match.reasons()) lines.push_back("not " + reason_shown(reason));
    for (const auto& change : match.changes()) lines.push_back(change);
    form.add(fmt::format("match-{}", ++at), "text-multi", fmt::format("{}{} tasks", match.group().empty() ? "" : match.group() + ", ", match.tasks()), std::move(lines));
  }
  return form;
}

}  // namespace

Form shown(const wire::SubmitAnswer& given) {
  if (given.job() == 0) return shown_dry(given);
  Form form = answer("Job submitted");
  form.add("job", "text-single", "Job", {std::to_string(given.job())});
  form.add("tasks", "text-single", "Tasks", {std::to_string(given.tasks())});
  if (given.warnings_size() > 0) form.add("warning", "text-multi", "Note", {given.warnings().begin(), given.warnings().end()});
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

Form shown(const wire::JobsAnswer& given) {
  Form form = answer("Done");
  std::vector<std::string> lines;
  for (const auto& job : given.jobs()) lines.push_back(line_of(job));
  form.add("jobs", "text-multi", "Jobs", std::move(lines));
  return form;
}

Form shown(const wire::WhyAnswer& given) {
  Form form = answer(given.task() > 0 ? fmt::format("Task {}.{}{}", given.job().job(), given.task(), given.group().empty() ? "" : " (" + given.group() + ")") : fmt::format("Job {}", given.job().job()));
  form.add("why", "text-single", "Why", {given.summary()});
  form.add("job", "text-single", "Job", {line_of(given.job())});
  std::vector<std::string> lines;
  for (const auto& reason : given.reasons()) lines.push_back(reason_shown(reason));
  if (!lines.empty()) form.add("reasons", "text-multi", "Reasons", std::exchange(lines, {}));
  for (const auto& change : given.changes()) lines.push_back(change);
  if (!lines.empty()) form.add("changes", "text-multi", "What would make it run", std::exchange(lines, {}));
  if (given.owner_place() > 0)
    form.add("place", "text-single", "Place in the queue", {fmt::format("{} of your tasks first; your turn is {} of {}", given.tasks_ahead(), given.owner_place(), given.owners_waiting())});
  for (const auto& past : given.attempts()) {
    std::string line = fmt::format("run {} on {}{}: {}", past.run(), past.worker(), past.host().empty() || past.host() == past.worker() ? "" : " (" + past.host() + ")", past.ending());
    if (past.wall_us() > 0) line += fmt::format(", after {:.2f} s", static_cast<double>(past.wall_us()) / 1e6);
    lines.push_back(printable(line));
    for (const auto& said : lines_of(past.last_lines())) lines.push_back("  " + said);
  }
  if (!lines.empty()) form.add("attempts", "text-multi", "Attempts, oldest first", std::move(lines));
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
    if (!worker.rule().empty()) lines.back() += " (" + worker.rule() + ")";
    if (worker.trust_found() > 0) lines.back() += " (wrong " + std::to_string(worker.trust_found()) + (worker.trust_found() == 1 ? " time)" : " times)");
    if (!worker.set_aside().empty()) lines.back() += " (set aside: " + worker.set_aside() + ")";
  }
  if (lines.empty()) lines.push_back("There are none.");
  form.add("workers", "text-multi", "Workers", std::move(lines));
  return form;
}

}  // namespace souk
