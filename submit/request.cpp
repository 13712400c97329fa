#include "submit/request.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <charconv>

#include "protocol/command.h"
#include "protocol/grid.pb.h"
#include "protocol/job_bounds.h"
#include "protocol/needs.h"
#include "protocol/notation.h"
#include "submit/render.h"

namespace souk {
namespace {

/// A whole number at the front of `text`, which is then shortened by it.
template <class Number>
std::optional<Number> take_number(std::string_view& text) {
  Number number{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

Result<Done> fill_array(const std::string& text, wire::Job& job) {
  const auto parsed = parse_array(text);
  if (!parsed) return parsed.error();
  const auto& spans = parsed.value();
  if (spans.size() == 1) {  // travels and is kept as three numbers
    auto& range = *job.mutable_range();
    range.set_first(spans[0].first);
    range.set_last(spans[0].last);
    range.set_step(spans[0].step);
    return Done{};
  }
  auto& lines = *job.mutable_lines();
  for (const Span& span : spans) {
    auto value = static_cast<std::uint64_t>(span.first);
    for (std::uint64_t i = 0; i < span.count(); ++i, value += span.step) lines.add_line(std::to_string(static_cast<std::int64_t>(value)));
  }
  return Done{};
}

bool has_nul(std::string_view text) { return text.find('\0') != std::string_view::npos; }

Result<Done> fill_env(const std::vector<std::string>& settings, const Environment& environment, wire::Command& command) {
  for (const std::string& setting : settings) {
    const auto equals = setting.find('=');
    const std::string name = setting.substr(0, equals);
    if (name.empty())
      return Error{"cannot set the environment", souk::quoted(setting) + " has no name", "write --env NAME=VALUE, or --env NAME to copy your own"};
    if (is_own_variable(name))
      return Error{"cannot set the environment", name + " is set by the worker for each task", "choose another name"};
    std::string value;
    if (equals != std::string::npos) {
      value = setting.substr(equals + 1);
    } else if (auto own = environment(name)) {
      value = std::move(*own);
    } else {
      return Error{"cannot copy the environment variable " + name, "it is not set here", "write --env " + name + "=VALUE"};
    }
    auto& variable = *command.add_env();
    variable.set_name(name);
    variable.set_value(value);
  }
  return Done{};
}

/// Everything but the items.
Result<Done> fill_command(const JobOptions& options, std::string input, const Environment& environment, wire::Job& job) {
  if (auto something = check_words(options); !something) return something;
  auto& command = *job.mutable_command();
  if (!options.service.empty()) {
    if (options.shell || !options.env.empty())
      return Error{"cannot submit", std::string("a service is called, and there is ") + (options.shell ? "--shell" : "--env") + " too", "leave it out: it is for tasks that are processes of their own"};
    command.set_service(options.service);
  }
  std::size_t bytes = 0;
  if (options.shell) {
    std::string line;
    for (const std::string& word : options.words) line += (line.empty() ? "" : " ") + word;
    bytes += line.size();
    command.add_argv(std::move(line));
    command.set_shell(true);
  } else {
    for (const std::string& word : options.words) {
      bytes += word.size();
      command.add_argv(word);
    }
  }
  for (const std::string& word : options.words)
    if (has_nul(word)) return Error{"cannot run the command", "it holds a NUL byte", "pass such bytes by --stdin FILE"};
  if (auto done = fill_env(options.env, environment, command); !done) return done;
  for (const auto& variable : command.env()) bytes += variable.name().size() + variable.value().size();
  if (bytes > kWordsMax)
    return Error{"cannot submit", fmt::format("command and environment are {} bytes, at most {} are allowed", bytes, kWordsMax),
                 "pass more by --stdin FILE (up to 8 MiB)"};
  if (input.size() > kInputMax)
    return Error{"cannot submit", fmt::format("standard input of the tasks is {} bytes, at most {} are allowed", input.size(), kInputMax),
                 "put it where the workers can read it"};
  command.set_input(std::move(input));

  if (!options.time_limit.empty()) {
    const auto limit = parse_duration(options.time_limit);
    if (!limit) return limit.error();
    command.set_time_limit_ms(static_cast<std::uint64_t>(limit.value().count()));
  }
  if (!options.grace.empty()) {
    const auto grace = parse_duration(options.grace);
    if (!grace) return grace.error();
    // On the wire 0 is the default; who asks for none gets the shortest there is.
    command.set_grace_ms(std::max<std::uint64_t>(1, static_cast<std::uint64_t>(grace.value().count())));
  }
  if (!options.output_max.empty()) {
    const auto size = parse_size(options.output_max);
    if (!size) return size.error();
    if (size.value() > kOutputMax)
      return Error{"cannot submit", fmt::format("--output-max {} is over {} MiB", options.output_max, kOutputMax >> 20), "let the task write to a file"};
    command.set_output_max(std::max<std::uint64_t>(1, size.value()));  // 0 is the default on the wire
  }
  if (options.retries < 0 || options.retries > kRetriesMax)
    return Error{"cannot submit", fmt::format("--retries {}", options.retries), fmt::format("give a number from 0 to {}", kRetriesMax)};
  job.set_retries(static_cast<std::uint32_t>(options.retries));
  if (plain(options.name, options.name.size()) != options.name)
    return Error{"cannot submit", "the name " + souk::quoted(options.name) + " holds control characters or is no UTF-8", "choose another one"};
  job.set_name(options.name);
  job.set_notify(options.notify);
  return Done{};
}

Result<Done> fill_items(const Items& items, wire::Job& job) {
  auto& lines = *job.mutable_lines();
  lines.mutable_line()->Reserve(static_cast<int>(items.values.size()));
  for (const std::string& value : items.values) {
    if (value.size() > kItemMax)
      return Error{"cannot submit", fmt::format("an argument of {} bytes, at most {} are allowed", value.size(), kItemMax), "pass a file name instead"};
    if (has_nul(value)) return Error{"cannot submit", "an argument holds a NUL byte", ""};
    lines.add_line(value);
  }
  return Done{};
}

Result<Done> check_size(const wire::Job& job) {
  std::uint64_t tasks = static_cast<std::uint64_t>(job.lines().line_size());
  if (job.has_range()) tasks = Span{job.range().first(), job.range().last(), std::max<std::uint64_t>(1, job.range().step())}.count();
  if (tasks > kTasksMax) return too_many_tasks("cannot submit");
  const std::size_t size = job.ByteSizeLong();
  if (size <= kSubmitMax) return Done{};
  return Error{"cannot submit", fmt::format("the job is {:.1f} MiB, at most {} MiB are allowed", static_cast<double>(size) / (1 << 20), kSubmitMax >> 20),
               "split the list, or use --array and let each task find its own input"};
}

/// A program's name, and no more: what a shell would not touch.
bool is_plain_word(std::string_view word) { return word.find_first_of(" \t\n|&;<>()$`\\\"'*?[]#~=%") == std::string_view::npos; }

}  // namespace

Result<Done> check_words(const JobOptions& options) {
  if (!options.service.empty()) return check_service_name(options.service);
  if (!options.words.empty() && !(options.words.size() == 1 && options.words[0].empty())) return Done{};
  return Error{"nothing to run", "there is no command", "write the program and its arguments after the options: souk run hostname -f"};
}

Result<std::uint64_t> parse_job(std::string_view text) {
  std::string_view rest = text;
  const auto number = take_number<std::uint64_t>(rest);
  if (!number || !rest.empty() || *number == 0)
    return Error{"cannot read the job number", souk::quoted(text) + " is none", "write a number as `souk jobs` shows it, such as 12"};
  return *number;
}

Result<Target> parse_target(std::string_view text) {
  const Error refusal{"cannot read which task", souk::quoted(text) + " is none", "write JOB, JOB.TASK or JOB.FIRST-LAST: 12, 12.7, 12.3-9"};
  const auto dot = text.find('.');
  const auto job = parse_job(text.substr(0, dot));
  if (!job) return refusal;
  Target target{job.value()};
  if (dot == std::string_view::npos) return target;
  std::string_view rest = text.substr(dot + 1);
  const auto first = take_number<std::uint64_t>(rest);
  if (!first || *first == 0) return refusal;
  target.first = target.last = *first;
  if (rest.empty()) return target;
  if (rest.front() != '-') return refusal;
  rest.remove_prefix(1);
  const auto last = take_number<std::uint64_t>(rest);
  if (!last || !rest.empty() || *last < *first) return refusal;
  target.last = *last;
  return target;
}

Result<Items> split_items(std::string_view text, char separator, std::string from) {
  Items items{{}, std::move(from)};
  items.values.reserve(static_cast<std::size_t>(std::count(text.begin(), text.end(), separator)) + 1);
  while (!text.empty()) {
    const auto end = text.find(separator);
    const auto line = text.substr(0, end);
    const auto place = [&] { return fmt::format("line {} of {}", items.values.size() + 1, items.from); };
    if (line.size() > kItemMax)
      return Error{"cannot read the items", fmt::format("{} has {} bytes, at most {} are allowed", place(), line.size(), kItemMax),
                   "give each task a file name instead"};
    if (has_nul(line)) return Error{"cannot read the items", place() + " holds a NUL byte", "use -0 for a list that NUL bytes separate"};
    items.values.emplace_back(line);
    if (end == std::string_view::npos) break;
    text.remove_prefix(end + 1);
  }
  return items;
}

bool has_placeholder(std::string_view word) {
  static constexpr std::array<std::string_view, 6> known{"{}", "{#}", "{.}", "{/}", "{//}", "{/.}"};
  return std::any_of(known.begin(), known.end(), [word](std::string_view one) { return word.find(one) != std::string_view::npos; });
}

bool has_field(std::string_view word) {
  for (auto open = word.find('{'); open != std::string_view::npos; open = word.find('{', open + 1)) {
    const auto next = word.find_first_of("{}", open + 1);
    if (next != std::string_view::npos && word[next] == '}' && next > open + 1) return true;
  }
  return false;
}

bool is_own_variable(std::string_view name) {
  static constexpr std::array<std::string_view, 8> ours{"SOUK_JOB", "SOUK_TASK", "SOUK_ATTEMPT", "SOUK_ITEM", "SOUK_CPUS", "SOUK_MEMORY", "SOUK_GPUS", "SOUK_WORKER"};
  return std::find(ours.begin(), ours.end(), name) != ours.end() || name.starts_with("SOUK_RESOURCE_") || name.starts_with("SOUK_PARAM_");
}

Result<Done> job_of(const JobOptions& options, const std::optional<Items>& items, std::string input, const Environment& environment, wire::Job& job) {
  if (items && !options.array.empty())
    return Error{"cannot submit", std::string("both --array and ") + (items->json ? "--each-json" : "--each-line") + " are given", "give one of them: each says what the tasks are"};
  // `souk run 'echo hello'` would look for a program with a space in its name: nobody means that.
  if (!options.shell && options.service.empty() && options.words.size() == 1) {
    const std::string& word = options.words[0];
    const auto space = word.find_first_of(" \t\n");
    if (space != std::string::npos && word.substr(0, space).find('/') == std::string::npos)
      return Error{"nothing to run", "there is no program " + souk::quoted(word), "leave out the quotes, or add --shell if it is a line for the shell"};
  }
  if (auto done = fill_command(options, std::move(input), environment, job); !done) return done;
  if (!options.array.empty()) {
    if (auto done = fill_array(options.array, job); !done) return done;
  } else if (items) {
    if (items->values.empty())
      return Error{"nothing to submit", items->from + (items->json ? " has no item" : " is empty"), items->json ? "give it one JSON value a task" : "give it one line a task"};
    if (auto done = fill_items(*items, job); !done) return done;
  }
  const bool json = items && items->json;
  job.mutable_command()->set_json(json);
  if (items || !options.array.empty()) {
    const auto filled = [json](std::string_view word) { return has_placeholder(word) || (json && has_field(word)); };
    job.mutable_command()->set_fill(!options.no_fill && std::any_of(options.words.begin(), options.words.end(), filled));
  }
  return check_size(job);
}

Result<MapWords> split_map(const std::vector<std::string>& words) {
  MapWords split;
  if (std::any_of(words.begin(), words.end(), [](const auto& one) { return one == ":::+" || one == "::::+"; }))
    return Error{"cannot map", "lists that are linked by :::+ are not known here", "write one list, each line holding what one task needs"};
  auto word = words.begin();
  for (; word != words.end() && *word != ":::" && *word != "::::"; ++word) split.command.push_back(*word);
  if (word == words.end()) return split;
  const bool files = *word == "::::";
  std::vector<std::string> rest(word + 1, words.end());
  if (std::find_if(rest.begin(), rest.end(), [](const auto& one) { return one == ":::" || one == "::::"; }) != rest.end())
    return Error{"cannot map", "there is more than one ::: or ::::", "write one list; combine several beforehand"};
  if (!files) {
    split.arguments = std::move(rest);
  } else if (rest.empty()) {
    return Error{"cannot map", "no file after ::::", "write :::: FILE, or - for standard input"};
  } else {
    split.files = std::move(rest);
  }
  return split;
}

Result<Done> map_job_of(JobOptions options, const Items& items, std::string input, const Environment& environment, wire::Job& job) {
  if (options.service.empty() && options.words.size() == 1 && !is_plain_word(options.words[0])) options.shell = true;
  const auto holds_one = [&items](std::string_view word) { return has_placeholder(word) || (items.json && has_field(word)); };
  const bool filled = std::any_of(options.words.begin(), options.words.end(), holds_one);
  if (!filled && !options.no_fill && !options.words.empty()) {
    options.words.emplace_back("{}");  // of a shell line too: it is joined by a space
  }
  if (auto done = fill_command(options, std::move(input), environment, job); !done) return done;
  job.mutable_command()->set_fill(!options.no_fill && !options.words.empty());
  job.mutable_command()->set_json(items.json);
  if (auto done = fill_items(items, job); !done) return done;
  return check_size(job);
}

}  // namespace souk
