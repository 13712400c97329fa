#include "worker/fill.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "protocol/quoting.h"

namespace souk {
namespace {

constexpr std::size_t kFieldNameMax = 256;  // bytes; a longer one has no placeholder

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

/// Writes compact JSON again while it is read, numbers as they were written; the values at the top separately. Not recursive, whatever the depth.
class FieldReader : public nlohmann::json_sax<nlohmann::json> {
 public:
  bool null() override { return scalar("null"); }
  bool boolean(bool value) override { return scalar(value ? "true" : "false"); }
  bool number_integer(number_integer_t value) override { return scalar(std::to_string(value)); }
  bool number_unsigned(number_unsigned_t value) override { return scalar(std::to_string(value)); }
  bool number_float(number_float_t, const string_t& written) override { return scalar(written); }
  bool string(string_t& value) override { return depth_ == 1 ? scalar(value) : scalar(quoted(value)); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return begin('{'); }
  bool end_object() override { return end('}'); }
  bool start_array(std::size_t) override { return depth_ > 0 && begin('['); }
  bool end_array() override { return end(']'); }
  bool key(string_t& name) override {
    if (depth_ == 1) {
      name_ = name;
      return true;
    }
    separate();
    value_ += quoted(name);
    value_ += ':';
    after_key_ = true;
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return false; }

  Fields fields;

 private:
  static std::string quoted(const std::string& text) { return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }
  void separate() {
    if (!std::exchange(after_key_, false) && !value_.empty() && value_.back() != '[' && value_.back() != '{') value_ += ',';
  }
  bool scalar(std::string_view text) {
    if (depth_ == 0) return false;  // no object
    if (depth_ == 1) {
      if (!name_.empty()) fields[name_] = text;
    } else {
      separate();
      value_ += text;
    }
    return true;
  }
  bool begin(char bracket) {
    if (++depth_ > kItemDepthMax) return false;
    if (depth_ == 1) return true;
    if (depth_ == 2) value_.clear();
    else separate();
    value_ += bracket;
    return true;
  }
  bool end(char bracket) {
    if (--depth_ == 0) return true;
    value_ += bracket;
    if (depth_ == 1 && !name_.empty()) fields[name_] = value_;
    return true;
  }

  int depth_ = 0;
  bool after_key_ = false;
  std::string name_, value_;  // of the field being read
};

/// Empty if the brace does not close soon. No field has an empty name: {} is the item.
std::string name_in_braces(std::string_view text) {
  const auto close = text.substr(0, kFieldNameMax + 2).find('}');
  return close == std::string_view::npos ? "" : std::string(text.substr(1, close - 1));
}

/// What an environment variable may be called: upper case, and _ for what is no letter or digit.
std::string variable(std::string_view prefix, std::string_view name) {
  std::string text(prefix);
  for (const char c : name) text += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ? c : '_';
  return text;
}

template <class List>
std::string joined(const List& list) {
  std::string text;
  for (const auto& one : list) {
    if (!text.empty()) text += ',';
    if constexpr (std::is_same_v<typename List::value_type, int>) text += std::to_string(one);
    else text += one;
  }
  return text;
}

}  // namespace

Fields fields_of(std::string_view item) {
  FieldReader reader;
  if (!nlohmann::json::sax_parse(item.begin(), item.end(), &reader)) return {};
  return std::move(reader.fields);
}

std::string fill_in(std::string_view text, std::string_view item, TaskNumber task, bool for_sh, const Fields& fields) {
  std::string filled;
  filled.reserve(text.size() + item.size());
  const auto put = [&](std::string_view value) { for_sh ? filled.append(shell_word(value)) : filled.append(value); };
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
    else if (const auto field = fields.empty() ? fields.end() : fields.find(name_in_braces(text)); field != fields.end()) {
      put(field->second);
      text.remove_prefix(field->first.size() + 2);
    } else {
      filled += '{';
      text.remove_prefix(1);
    }
  }
  return filled;
}

std::string folder_of(TaskId task, AttemptId attempt) {
  return std::to_string(task.job.value) + "." + std::to_string(task.task.value) + "-" + std::to_string(attempt.epoch.value) + "." + std::to_string(attempt.number);
}

Launch launch_of(const Command& command, std::string_view item, TaskId task, AttemptId attempt, const Surroundings& host, unsigned run, const Share& share) {
  Launch launch;
  launch.folder = folder_of(task, attempt);
  const Fields fields = command.json ? fields_of(item) : Fields{};
  if (command.shell) launch.argv = {"/bin/sh", "-c"};
  for (const auto& argument : command.argv) launch.argv.push_back(command.fill ? fill_in(argument, item, task.task, command.shell, fields) : argument);
  launch.env.reserve(host.env.size() + command.env.size() + 12);
  const auto set = [&](const std::string& name, std::string value) {  // a name twice would leave it to each program which one it sees
    const auto same = std::find_if(launch.env.begin(), launch.env.end(), [&](const auto& v) { return v.first == name; });
    if (same != launch.env.end()) same->second = std::move(value);
    else launch.env.emplace_back(name, std::move(value));
  };
  for (const auto& [name, value] : host.env) set(name, value);
  set("TMPDIR", host.work + "/" + launch.folder);
  if (!host.worker.empty()) set("SOUK_WORKER", host.worker);
  set("SOUK_JOB", std::to_string(task.job.value));
  set("SOUK_TASK", std::to_string(task.task.value));
  set("SOUK_ATTEMPT", std::to_string(run));
  if (item.size() <= kItemVariableMax) set("SOUK_ITEM", std::string(item));
  set("SOUK_CPUS", std::to_string(share.needs.cpus));
  set("OMP_NUM_THREADS", std::to_string(share.needs.cpus));
  if (share.needs.memory_bytes > 0) set("SOUK_MEMORY", std::to_string(share.needs.memory_bytes));
  if (!share.granted.gpus.empty()) set("SOUK_GPUS", joined(share.granted.gpus));
  if (host.has_gpus || !share.granted.gpus.empty()) {
    set("CUDA_DEVICE_ORDER", "PCI_BUS_ID");  // numbered as the probe found them
    set("CUDA_VISIBLE_DEVICES", joined(share.granted.gpus));
  }
  for (const auto& [name, amount] : share.needs.resources) {
    const auto units = share.granted.units.find(name);
    set(variable("SOUK_RESOURCE_", name), units == share.granted.units.end() ? std::to_string(amount) : joined(units->second));
  }
  std::size_t params = 0;
  for (const auto& [name, value] : fields) {
    if (++params > kParamsMax) break;
    if (value.find('\0') == std::string::npos) set(variable("SOUK_PARAM_", name), value);  // such a value fits no variable
  }
  for (const auto& [name, value] : command.env) set(name, value);
  launch.input = command.input;
  launch.time_limit = command.time_limit;
  launch.grace = command.grace;
  launch.output_max = command.output_max;
  launch.processors = share.granted.processors;
  return launch;
}

}  // namespace souk
