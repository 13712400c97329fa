#include "worker/fill.h"

#include <algorithm>

namespace souk {
namespace {

bool is_plain(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("_-./,:@%+").find(c) != std::string_view::npos;
}

std::string_view basename_of(std::string_view path) {
  const auto slash = path.rfind('/');
  return slash == std::string_view::npos ? path : path.substr(slash + 1);
}

/// As parallel's s:\.[^/.]+$::
std::string_view without_extension(std::string_view path) {
  const auto dot = path.find_last_of("./");
  return dot == std::string_view::npos || path[dot] == '/' || dot + 1 == path.size() ? path : path.substr(0, dot);
}

/// As dirname(1).
std::string_view folder_part(std::string_view path) {
  const auto trimmed = [](std::string_view text) {
    while (text.size() > 1 && text.back() == '/') text.remove_suffix(1);
    return text;
  };
  path = trimmed(path);
  const auto slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return slash == 0 ? "/" : trimmed(path.substr(0, slash));
}

}  // namespace

std::string quote_for_sh(std::string_view text) {
  if (!text.empty() && std::all_of(text.begin(), text.end(), is_plain)) return std::string(text);
  std::string quoted = "'";
  for (const char c : text) {
    if (c == '\'') quoted += "'\\''";
    else quoted += c;
  }
  return quoted + "'";
}

std::string fill_in(std::string_view text, std::string_view item, TaskNumber task, bool for_sh) {
  std::string filled;
  filled.reserve(text.size() + item.size());
  const auto put = [&](std::string_view value) { for_sh ? filled.append(quote_for_sh(value)) : filled.append(value); };
  while (!text.empty()) {
    const auto brace = text.find('{');
    filled.append(text.substr(0, brace));
    if (brace == std::string_view::npos) break;
    text.remove_prefix(brace);
    const auto is = [&](std::string_view placeholder) {
      if (!text.starts_with(placeholder)) return false;
      text.remove_prefix(placeholder.size());
      return true;
    };
    if (is("{}")) put(item);
    else if (is("{#}")) filled += std::to_string(task.value);
    else if (is("{.}")) put(without_extension(item));
    else if (is("{/}")) put(basename_of(item));
    else if (is("{//}")) put(folder_part(item));
    else if (is("{/.}")) put(without_extension(basename_of(item)));
    else filled += '{', text.remove_prefix(1);
  }
  return filled;
}

std::string folder_of(TaskId task, AttemptId attempt) {
  return std::to_string(task.job.value) + "." + std::to_string(task.task.value) + "-" + std::to_string(attempt.epoch.value) + "." + std::to_string(attempt.number);
}

Launch launch_of(const Command& command, std::string_view item, TaskId task, AttemptId attempt, const Surroundings& host, unsigned run) {
  Launch launch;
  launch.folder = folder_of(task, attempt);
  if (command.shell) launch.argv = {"/bin/sh", "-c"};
  for (const auto& argument : command.argv) launch.argv.push_back(command.fill ? fill_in(argument, item, task.task, command.shell) : argument);
  launch.env.reserve(host.env.size() + command.env.size() + 5);
  const auto set = [&](const std::string& name, std::string value) {  // a name twice would leave it to each program which one it sees
    const auto same = std::find_if(launch.env.begin(), launch.env.end(), [&](const auto& v) { return v.first == name; });
    if (same != launch.env.end()) same->second = std::move(value);
    else launch.env.emplace_back(name, std::move(value));
  };
  for (const auto& [name, value] : host.env) set(name, value);
  set("TMPDIR", host.work + "/" + launch.folder);
  set("SOUK_JOB", std::to_string(task.job.value));
  set("SOUK_TASK", std::to_string(task.task.value));
  set("SOUK_ATTEMPT", std::to_string(run));
  if (item.size() <= kItemVariableMax) set("SOUK_ITEM", std::string(item));
  for (const auto& [name, value] : command.env) set(name, value);
  launch.input = command.input;
  launch.time_limit = command.time_limit;
  launch.grace = command.grace;
  launch.output_max = command.output_max;
  return launch;
}

}  // namespace souk
