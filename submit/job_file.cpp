#include "submit/job_file.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <queue>
#include <set>
#include <sstream>
#include <unordered_map>
#include <vector>

#include "protocol/command.h"
#include "protocol/grid.pb.h"
#include "protocol/job_bounds.h"
#include "protocol/nearest.h"
#include "protocol/needs.h"
#include "protocol/notation.h"
#include "submit/job_file_items.h"
#include "submit/render.h"

namespace souk {
namespace {

using Keys = std::map<std::string_view, const toml::node*>;  // of one task, with the defaults it did not replace

const std::vector<std::string> kJobKeys{"name", "priority", "after", "max-fails", "deadline", "hold", "speculate", "crash-limit", "quorum", "adaptive", "quorum-by", "agree-on", "known", "notify", "defaults", "task"};
const std::vector<std::string> kTaskKeys{"run",     "command",     "service",     "needs",           "cpus",     "memory",     "disk",  "gpus",       "resources", "require", "rank",  "pin", "network", "sandbox", "image",   "retries", "retry-delay",
                                         "retry-delay-max", "retry-on", "time-limit", "grace", "output-max", "env",       "stdin",   "array", "items", "lines",   "matrix", "matrix-include", "matrix-exclude", "fill"};
// Of each line a task has one at most; its own replaces the default's, whichever that is.
const std::array<std::vector<std::string_view>, 2> kEither{{{"run", "command"}, {"array", "items", "lines", "matrix"}}};

struct Need {
  std::string task;
  bool any = false;
  toml::source_position place;
};
struct Task {
  std::string name;
  toml::source_position place;
  std::vector<Need> needs;
  wire::Group group;
};

class Reader : public TomlReader {
 public:
  Reader(const std::string& name, const Surroundings& around) : TomlReader(name), around_(around), items_(name) {}

  Result<Done> job(const toml::table& file, wire::Job& job) {
    for (const auto& [key, value] : in_order(file)) {
      if (is_one_of(key->str(), kJobKeys)) continue;
      if (is_one_of(key->str(), kTaskKeys))
        return at(key->source().begin, fmt::format("{} is a key of a task", souk::quoted(key->str())), "write it into [defaults] or into a [task.NAME]");
      return unknown(*key, kJobKeys, "of a job");
    }
    if (auto done = terms(file, job); !done) return done;
    Keys defaults;
    if (const auto* node = file.get("defaults")) {
      const auto* table = node->as_table();
      if (!table) return wrong(*node, "defaults", "a table: [defaults]");
      for (const auto& [key, value] : in_order(*table)) {
        if (!is_one_of(key->str(), kTaskKeys)) return unknown(*key, kTaskKeys, "of a task");
        defaults[key->str()] = value;
      }
      for (const auto& line : kEither)
        if (auto done = one_of(line, defaults); !done) return done;
    }
    std::vector<Task> tasks;
    if (const auto* node = file.get("task")) {
      const auto* table = node->as_table();
      if (!table) return wrong(*node, "task", "a table of named tasks: [task.NAME]");
      if (table->size() > kGroupsMax) return at(node->source().begin, fmt::format("{} named tasks, at most {} are allowed", table->size(), kGroupsMax), "let one task have many items");
      tasks.reserve(table->size());
      for (const auto& [key, value] : in_order(*table))
        if (auto done = task(*key, *value, defaults, tasks.emplace_back()); !done) return done;
    }
    if (tasks.empty()) return Error{failed(), "it has no task", "add one:\n  [task.hello]\n  run = \"echo hello\""};
    return put_in_order(tasks, job);
  }

 private:
  Result<Done> one_of(const std::vector<std::string_view>& line, const Keys& keys) const {
    std::string_view found;
    for (const auto key : line) {
      const auto one = keys.find(key);
      if (one == keys.end()) continue;
      if (!found.empty()) return at(*one->second, fmt::format("there are both {} and {}", found, key), fmt::format("give one of {}", fmt::join(line, ", ")));
      found = key;
    }
    return Done{};
  }

  Result<std::chrono::milliseconds> time(const toml::node& node, std::string_view key) const {
    const auto said = text(node, key, "\"90s\"");
    if (!said) return said.error();
    const auto duration = parse_duration(said.value());
    if (!duration) return at(node, key, duration.error());
    return duration.value();
  }
  /// A text, or a list of texts and numbers, as one text with commas.
  Result<std::string> list(const toml::node& node, std::string_view key, std::string_view example) const {
    const auto one = [&](const toml::node& part) -> Result<std::string> {
      if (const auto* number = part.as_integer()) return std::to_string(number->get());
      if (const auto* word = part.as_string()) return word->get();
      return wrong(part, key, fmt::format("text or whole numbers, such as {} = {}", key, example));
    };
    const auto* parts = node.as_array();
    if (!parts) return one(node);
    std::string all;
    for (const auto& part : *parts) {
      const auto said = one(part);
      if (!said) return said.error();
      all += (all.empty() ? "" : ",") + said.value();
    }
    return all;
  }

  Result<Done> terms(const toml::table& file, wire::Job& job) const {
    if (const auto* node = file.get("name")) {
      const auto name = text(*node, "name", "\"study\"");
      if (!name) return name.error();
      if (plain(name.value(), name.value().size()) != name.value()) return at(*node, "the name holds control characters", "choose another one");
      job.set_name(name.value());
    }
    if (const auto* node = file.get("priority")) {
      const auto priority = whole(*node, "priority", -kPriorityMax, kPriorityMax);
      if (!priority) return priority.error();
      job.set_priority(static_cast<std::int32_t>(priority.value()));
    }
    if (const auto* node = file.get("after")) {
      const auto said = list(*node, "after", "[12, \"13:any\"]");
      if (!said) return said.error();
      const auto jobs = said.value().empty() ? Result<std::vector<wire::After>>(std::vector<wire::After>{}) : parse_after(said.value());
      if (!jobs) return at(*node, "after", jobs.error());
      if (jobs.value().size() > kAfterMax) return at(*node, fmt::format("after names {} jobs, at most {} are allowed", jobs.value().size(), kAfterMax), "wait for fewer");
      for (const auto& after : jobs.value()) *job.add_after() = after;
    }
    if (const auto* node = file.get("max-fails")) {
      const auto fails = whole(*node, "max-fails", 0, static_cast<std::int64_t>(kRangeMax));
      if (!fails) return fails.error();
      job.set_max_fails(static_cast<std::uint64_t>(fails.value()));
    }
    if (const auto* node = file.get("crash-limit")) {
      const auto limit = whole(*node, "crash-limit", 1, kCrashLimitMax);
      if (!limit) return limit.error();
      job.set_crash_limit(static_cast<std::uint32_t>(limit.value()));
    }
    if (const auto* node = file.get("deadline")) {
      std::string said;
      if (const auto* at_time = node->as_time()) {
        std::ostringstream shown;
        shown << at_time->get();
        said = shown.str();
      } else if (const auto* at_date = node->as_date_time(); at_date && !at_date->get().is_local()) {
        return at(*node, "deadline has an offset", "leave it out: the deadline is in local time");
      } else if (at_date) {
        std::ostringstream shown;
        shown << at_date->get();
        said = shown.str();
      } else {
        const auto words = text(*node, "deadline", "\"2h\"");
        if (!words) return words.error();
        said = words.value();
      }
      const auto deadline = parse_deadline(said, around_.calendar);
      if (!deadline) return at(*node, "deadline", deadline.error());
      job.set_deadline_ms(deadline.value());
    }
    const auto yes = [&](const char* key) -> Result<bool> {
      const auto* node = file.get(key);
      return node ? flag(*node, key) : Result<bool>(false);
    };
    const auto hold = yes("hold"), speculate = yes("speculate"), notify = yes("notify");
    for (const auto* one : {&hold, &speculate, &notify})
      if (!*one) return one->error();
    job.set_hold(hold.value());
    job.set_speculate(speculate.value());
    job.set_notify(notify.value());
    return quorum(file, job);
  }

  Result<Done> quorum(const toml::table& file, wire::Job& job) const {
    TermOptions options;
    const toml::node* first = nullptr;
    for (const auto& [key, target, example] : {std::tuple{"quorum", &options.quorum, "\"2/3\""}, std::tuple{"quorum-by", &options.quorum_by, "\"worker\""},
                                               std::tuple{"agree-on", &options.agree_on, "\"numbers:1e-6\""}, std::tuple{"known", &options.known, "\"answers.txt\""}})
      if (const auto* node = file.get(key)) {
        const auto said = text(*node, key, example);
        if (!said) return said.error();
        *target = said.value();
        if (!first) first = node;
      }
    if (const auto* node = file.get("adaptive")) {
      const auto said = flag(*node, "adaptive");
      if (!said) return said.error();
      options.adaptive = said.value();
      if (!first) first = node;
    }
    if (!options.known.empty()) {
      auto answers = around_.read(options.known, kKnownBytesMax);
      if (!answers) return at(*first, "known", answers.error());
      options.known_text = std::move(answers.value());
    }
    if (const auto done = fill_quorum(options, job); !done) return at(*first, "quorum", done.error());
    return Done{};
  }

  Result<Done> task(const toml::key& key, const toml::node& node, const Keys& defaults, Task& task) {
    task.name = std::string(key.str());
    task.place = key.source().begin;
    if (!is_name(task.name, kTaskNameMax))
      return at(task.place, fmt::format("{} is no name for a task", souk::quoted(task.name)), fmt::format("use letters, digits, _, - and dots, at most {}", kTaskNameMax));
    const auto* table = node.as_table();
    if (!table) return wrong(node, "task " + souk::quoted(task.name), fmt::format("a table: [task.{}]", task.name));
    Keys keys;
    for (const auto& [own, value] : in_order(*table)) {
      if (!is_one_of(own->str(), kTaskKeys)) return unknown(*own, kTaskKeys, "of a task");
      keys[own->str()] = value;
    }
    for (const auto& line : kEither)
      if (auto done = one_of(line, keys); !done) return done;
    const bool own_items = std::any_of(kEither[1].begin(), kEither[1].end(), [&keys](auto one) { return keys.contains(one); });
    const bool own_run = keys.contains("run") || keys.contains("command"), own_line = keys.contains("run"), own_service = keys.contains("service");
    const toml::table* inherited_env = nullptr;
    const toml::table* inherited_resources = nullptr;
    for (const auto& [name, value] : defaults) {
      if (keys.contains(name)) {
        if (name == "env") inherited_env = value->as_table();
        if (name == "resources") inherited_resources = value->as_table();
        continue;
      }
      if ((own_line && name == "service") || (own_service && (name == "run" || name == "command" || name == "pin" || name == "network" || name == "sandbox" || name == "image"))) continue;
      const auto is_in = [&, word = name](const auto& line) { return std::find(line.begin(), line.end(), word) != line.end(); };
      if ((own_run && is_in(kEither[0])) || (own_items && (is_in(kEither[1]) || name.starts_with("matrix-")))) continue;
      keys[name] = value;
    }
    const auto find = [&keys](std::string_view name) -> const toml::node* {
      const auto found = keys.find(name);
      return found == keys.end() ? nullptr : found->second;
    };
    JobOptions options;
    if (const auto* service = find("service")) {
      const auto name = text(*service, "service", "\"word-count\"");
      if (!name) return name.error();
      if (const auto good = check_service_name(name.value()); !good) return at(*service, "service", good.error());
      for (const char* other : {"run", "env"})
        if (const auto* stray = find(other); stray && (other[0] == 'r' || table->contains("env"))) return at(*stray, fmt::format("there are {} and service", other), "leave it out: a service is no process of the task's own");
      options.service = name.value();
    }
    if (options.service.empty() || find("command"))
      if (auto done = command(task, find("run"), find("command"), options); !done) return done;
    if (auto done = limits(find, options); !done) return done;
    if (auto done = environment(find("env"), inherited_env, options); !done) return done;
    if (!options.service.empty()) options.env.clear();  // of the defaults and the command line: for the others
    if (auto done = needs(find, inherited_resources, task.group); !done) return done;
    std::string input;
    if (const auto* from = find("stdin")) {
      auto read = file(*from, "stdin", kInputMax);
      if (!read) return read.error();
      input = std::move(read.value());
    }
    if (const auto* fill = find("fill")) {
      const auto yes = flag(*fill, "fill");
      if (!yes) return yes.error();
      options.no_fill = !yes.value();
    }
    std::optional<Items> items;
    if (const auto* array = find("array")) {
      const auto said = text(*array, "array", "\"1-100\"");
      if (!said) return said.error();
      if (const auto parsed = parse_array(said.value()); !parsed) return at(*array, "array", parsed.error());
      options.array = said.value();
    } else if (const auto* lines = find("lines")) {
      auto read = file(*lines, "lines", kSubmitMax);
      if (!read) return read.error();
      auto split = split_items(read.value(), '\n', lines->as_string()->get());
      if (!split) return at(*lines, "lines", split.error());
      items = std::move(split.value());
      if (items->values.empty()) return at(*lines, items->from + " is empty", "give it one line a task");
    } else if (const auto* values = find("items")) {
      auto made = items_.listed(*values);
      if (!made) return made.error();
      items = std::move(made.value());
    } else if (const auto* matrix = find("matrix")) {
      auto made = items_.combined(*matrix, find("matrix-include"), find("matrix-exclude"));
      if (!made) return made.error();
      items = std::move(made.value());
    }
    if (!find("matrix"))
      for (const char* also : {"matrix-include", "matrix-exclude"})
        if (const auto* stray = find(also)) return at(*stray, fmt::format("there is {} but no matrix", also), "give a matrix, or write the items themselves: items = [{a = 1}, {a = 2}]");

    wire::Job one;
    if (auto done = job_of(options, items, std::move(input), around_.environment, one); !done) {
      const Error& error = done.error();
      return at(task.place, fmt::format("task {}: {}", souk::quoted(task.name), error.why.empty() ? error.what : error.why), error.remedy);
    }
    auto& group = task.group;
    group.set_name(task.name);
    const bool pin = group.command().pin(), network = group.command().network();
    const auto sandbox = group.command().sandbox();
    std::string image = group.command().image();
    group.mutable_command()->Swap(one.mutable_command());
    group.mutable_command()->set_image(std::move(image));
    group.mutable_command()->set_pin(pin), group.mutable_command()->set_network(network), group.mutable_command()->set_sandbox(sandbox);
    if (one.has_range()) group.mutable_range()->Swap(one.mutable_range());
    if (one.has_lines()) group.mutable_lines()->Swap(one.mutable_lines());
    group.set_retries(one.retries());
    if (const auto* named = find("needs"))
      if (auto done = needed(*named, task); !done) return done;

    // Many tasks that inherit something large would grow without end.
    bytes_ += group.ByteSizeLong();
    if (bytes_ > kSubmitMax) return at(task.place, fmt::format("the job is over {} MiB with task {}", kSubmitMax >> 20, souk::quoted(task.name)), "split it, or use array and let each task find its own input");
    const Span range{group.range().first(), group.range().last(), std::max<std::uint64_t>(1, group.range().step())};
    tasks_ += group.has_range() ? range.count() : group.has_lines() ? static_cast<std::uint64_t>(group.lines().line_size()) : 1;
    if (tasks_ > kTasksMax) return at(task.place, fmt::format("the job has more than {} tasks with task {}", kTasksMax, souk::quoted(task.name)), "split it into several jobs");
    return Done{};
  }

  Result<Done> command(const Task& task, const toml::node* run, const toml::node* words, JobOptions& options) const {
    if (run) {
      const auto line = text(*run, "run", "\"./prepare.sh > result\"");
      if (!line) return line.error();
      if (line.value().find_first_not_of(" \t\n") == std::string::npos) return at(*run, "run is empty", "write a line for /bin/sh");
      options.words = {line.value()};
      options.shell = true;
      return Done{};
    }
    if (!words) return at(task.place, fmt::format("task {} has nothing to run", souk::quoted(task.name)), "add run = \"a line for the shell\", or command = [\"program\", \"argument\"]");
    const auto* list = words->as_array();
    if (!list) return wrong(*words, "command", "a list: command = [\"program\", \"argument\"]; run = \"...\" takes a line for the shell");
    for (const auto& node : *list) {
      const auto word = text(node, "a word of command", "[\"program\", \"argument\"]");
      if (!word) return at(node, fmt::format("a word of command is {}", kind_of(node)), "put each into quotes: command = [\"program\", \"10\"]");
      options.words.push_back(word.value());
    }
    if (options.words.empty() || (options.words[0].empty() && options.service.empty())) return at(*words, "command is empty", "write command = [\"program\", \"argument\"]");
    if (options.service.empty() && options.words.size() == 1 && options.words[0].find_first_of(" \t\n") != std::string::npos && options.words[0].find('/') == std::string::npos)
      return at(*words, fmt::format("there is no program {}", souk::quoted(options.words[0])), "write each word for itself, or run = \"...\" for a line of the shell");
    return Done{};
  }

  template <class Find>
  Result<Done> limits(const Find& find, JobOptions& options) const {
    if (const auto* node = find("time-limit")) {
      if (const auto limit = time(*node, "time-limit"); !limit) return limit.error();
      options.time_limit = node->as_string()->get();
    }
    if (const auto* node = find("grace")) {
      if (const auto grace = time(*node, "grace"); !grace) return grace.error();
      options.grace = node->as_string()->get();
    }
    if (const auto* node = find("output-max")) {
      const auto said = text(*node, "output-max", "\"64KiB\"");
      if (!said) return said.error();
      const auto size = parse_size(said.value());
      if (!size) return at(*node, "output-max", size.error());
      if (size.value() > kOutputMax) return at(*node, fmt::format("output-max {} is over {} MiB", said.value(), kOutputMax >> 20), "let the task write to a file");
      options.output_max = said.value();
    }
    if (const auto* node = find("retries")) {
      const auto retries = whole(*node, "retries", 0, kRetriesMax);
      if (!retries) return retries.error();
      options.retries = static_cast<int>(retries.value());
    }
    return Done{};
  }

  Result<Done> environment(const toml::node* node, const toml::table* inherited, JobOptions& options) const {
    std::set<std::string_view> given;  // on the command line, which goes before the file
    for (const std::string& setting : around_.env) {
      given.insert(std::string_view(setting).substr(0, setting.find('=')));
      options.env.push_back(setting);
    }
    if (!node) return Done{};
    const auto* table = node->as_table();
    if (!table) return wrong(*node, "env", "a table: env = { NAME = \"value\" }");
    const auto add = [&](const toml::table& from, const toml::table* unless) -> Result<Done> {
      for (const auto& [key, value] : in_order(from)) {
        const std::string name(key->str());
        if (unless && unless->contains(name)) continue;
        if (name.empty() || name.find_first_of(std::string_view("=\0", 2)) != std::string::npos)
          return at(key->source().begin, fmt::format("{} is no name for a variable", souk::quoted(name)), "write env = { NAME = \"value\" }");
        if (is_own_variable(name)) return at(key->source().begin, name + " is set by the worker for each task", "choose another name");
        if (given.contains(name)) continue;
        if (const auto* number = value->as_integer()) {
          options.env.push_back(fmt::format("{}={}", name, number->get()));
          continue;
        }
        const auto said = text(*value, "env." + name, "\"value\"");
        if (!said) return said.error();
        options.env.push_back(name + "=" + said.value());
      }
      return Done{};
    };
    if (inherited)
      if (auto done = add(*inherited, table); !done) return done;
    return add(*table, nullptr);
  }

  template <class Find>
  Result<Done> needs(const Find& find, const toml::table* inherited, wire::Group& group) const {
    Needs needs;
    bool said_any = false;
    const auto number = [&](const char* key, std::int64_t min, std::int64_t max, int& target) -> Result<Done> {
      const auto* node = find(key);
      if (!node) return Done{};
      const auto count = whole(*node, key, min, max);
      if (!count) return count.error();
      target = static_cast<int>(count.value());
      said_any = true;
      return Done{};
    };
    const auto size = [&](const char* key, std::uint64_t& target) -> Result<Done> {
      const auto* node = find(key);
      if (!node) return Done{};
      const auto* bare = node->as_integer();
      if (bare) return at(*node, fmt::format("{} has no unit", key), fmt::format("write a unit, such as {} = \"{}MiB\"", key, bare->get()));
      const auto said = text(*node, key, "\"512MiB\"");
      if (!said) return said.error();
      const auto bytes = parse_needed_size(said.value());
      if (!bytes) return at(*node, key, bytes.error());
      target = bytes.value();
      said_any = true;
      return Done{};
    };
    if (auto done = number("cpus", 1, kCpusMax, needs.cpus); !done) return done;
    if (auto done = number("gpus", 0, kGpusMax, needs.gpus); !done) return done;
    if (auto done = size("memory", needs.memory_bytes); !done) return done;
    if (auto done = size("disk", needs.disk_bytes); !done) return done;
    if (const auto* node = find("resources")) {
      const auto* table = node->as_table();
      if (!table) return wrong(*node, "resources", "a table: resources = { license = 1 }");
      const auto add = [&](const toml::table& from, const toml::table* unless) -> Result<Done> {
        // `license.matlab = 1` without quotes is a table in a table; no resource is one, so it is read as the name it looks like.
        std::vector<std::pair<std::string, const toml::table*>> open{{"", &from}};
        while (!open.empty()) {
          const auto [prefix, part] = open.back();
          open.pop_back();
          for (const auto& [key, value] : in_order(*part)) {
            const std::string name = prefix + std::string(key->str());
            if (const auto* inner = value->as_table()) {
              open.emplace_back(name + ".", inner);
              continue;
            }
            if (unless && prefix.empty() && unless->contains(name)) continue;
            if (const auto good = check_resource_name(name); !good) return at(key->source().begin, fmt::format("{}: {}", good.error().what, good.error().why), good.error().remedy);
            const auto amount = whole(*value, "resource " + name, 1, static_cast<std::int64_t>(kAmountMax));
            if (!amount) return amount.error();
            needs.resources[name] = static_cast<std::uint64_t>(amount.value());
          }
        }
        return Done{};
      };
      if (inherited)
        if (auto done = add(*inherited, table); !done) return done;
      if (auto done = add(*table, nullptr); !done) return done;
      said_any = said_any || !needs.resources.empty();
      if (const auto good = check(needs); !good) return at(*node, "resources", good.error());
    }
    if (said_any)
      if (auto done = fill_needs(needs, *group.mutable_needs()); !done) return done;
    for (const char* key : {"require", "rank"}) {
      const auto* node = find(key);
      if (!node) continue;
      const auto said = text(*node, key, "'os == \"linux\" && memory >= 8GiB'");
      if (!said) return said.error();
      if (const auto good = check_expression(key, said.value()); !good) return at(*node, key, good.error());
      (std::string_view(key) == "require" ? *group.mutable_require() : *group.mutable_rank()) = said.value();
    }
    if (const auto* node = find("pin")) {
      const auto pin = flag(*node, "pin");
      if (!pin) return pin.error();
      group.mutable_command()->set_pin(pin.value());
    }
    if (const auto* node = find("network")) {
      const auto network = flag(*node, "network");
      if (!network) return network.error();
      group.mutable_command()->set_network(network.value());
    }
    if (const auto* node = find("sandbox")) {
      const auto said = text(*node, "sandbox", "'required' or 'none'");
      if (!said) return said.error();
      if (said.value() != "required" && said.value() != "none") return at(*node, "sandbox is '" + said.value() + "'", "write 'required' or 'none'");
      group.mutable_command()->set_sandbox(said.value() == "none" ? wire::UNBOXED : wire::BOXED);
    }
    if (const auto* node = find("image")) {
      const auto said = text(*node, "image", "\"debian:12\"");
      if (!said) return said.error();
      if (const auto good = check_image_name(said.value()); !good) return at(*node, "image", good.error());
      if (group.command().sandbox() == wire::UNBOXED) return at(*node, "an image is the system of a sandbox, and sandbox = 'none' asks for none", "leave one of them out");
      group.mutable_command()->set_image(said.value());
    }
    std::chrono::milliseconds delay{0}, most{0};
    if (const auto* node = find("retry-delay")) {
      const auto said = time(*node, "retry-delay");
      if (!said) return said.error();
      delay = said.value();
      group.mutable_retry()->set_delay_ms(static_cast<std::uint64_t>(delay.count()));
    }
    if (const auto* node = find("retry-delay-max")) {
      const auto said = time(*node, "retry-delay-max");
      if (!said) return said.error();
      most = said.value();
      if (most < delay) return at(*node, "retry-delay-max is less than retry-delay", "give the longer one as the most");
      group.mutable_retry()->set_delay_max_ms(static_cast<std::uint64_t>(most.count()));
    }
    if (const auto* node = find("retry-on")) {
      const auto said = list(*node, "retry-on", "\"1,75-99\"");
      if (!said) return said.error();
      const auto codes = parse_codes(said.value());
      if (!codes) return at(*node, "retry-on", codes.error());
      for (const auto& span : codes.value()) *group.mutable_retry()->add_codes() = span;
    }
    return Done{};
  }

  Result<std::string> file(const toml::node& node, std::string_view key, std::size_t bytes_max) const {
    const auto name = text(node, key, "\"list.txt\"");
    if (!name) return name.error();
    if (name.value().empty() || name.value() == "-") return at(node, fmt::format("{} names no file", key), "a job file names files relative to its own folder");
    auto read = around_.read(name.value(), bytes_max);
    if (!read) return at(node, fmt::format("{}: {}{}", key, read.error().what, read.error().why.empty() ? "" : ": " + read.error().why), read.error().remedy);
    return read;
  }

  Result<Done> needed(const toml::node& node, Task& task) {
    std::set<std::string> seen;
    const auto add = [&](const toml::node& part) -> Result<Done> {
      const auto said = text(part, "needs", "[\"prepare\"]");
      if (!said) return said.error();
      std::string name = said.value();
      const auto colon = name.find(':');
      const bool any = colon != std::string::npos && name.substr(colon) == ":any";
      if (any || (colon != std::string::npos && name.substr(colon) == ":ok")) name.erase(colon);
      if (!seen.insert(name).second) return at(part, fmt::format("{} is needed twice", souk::quoted(name)), "name it once");
      task.needs.push_back({std::move(name), any, part.source().begin});
      if (++needs_ > kNeedsMax) return at(part, fmt::format("the file has more than {} needs", kNeedsMax), "let a task between gather them");
      return Done{};
    };
    const auto* list = node.as_array();
    if (!list) return add(node);
    for (const auto& part : *list)
      if (auto done = add(part); !done) return done;
    return Done{};
  }

  /// Each task behind what it needs, else as in the file.
  Result<Done> put_in_order(std::vector<Task>& tasks, wire::Job& job) const {
    std::unordered_map<std::string_view, std::size_t> by_name;
    for (std::size_t i = 0; i < tasks.size(); ++i) by_name[tasks[i].name] = i;
    std::vector<std::vector<std::size_t>> needed_by(tasks.size());
    std::vector<std::size_t> open(tasks.size(), 0);
    for (std::size_t i = 0; i < tasks.size(); ++i) {
      for (const Need& need : tasks[i].needs) {
        const auto found = by_name.find(need.task);
        if (found == by_name.end()) {
          std::vector<std::string> names;
          if (tasks.size() <= 10'000)  // looking for a likely name among more would take seconds
            for (const auto& task : tasks) names.push_back(task.name);
          const auto best = nearest(need.task, names);
          return at(need.place, fmt::format("task {} needs {}, which is not in this file", souk::quoted(tasks[i].name), souk::quoted(need.task)),
                    best.empty() ? "name a task of this file; for another job, write after = [NUMBER] at the top" : fmt::format("did you mean {}?", best));
        }
        needed_by[found->second].push_back(i);
        ++open[i];
      }
    }
    std::priority_queue<std::size_t, std::vector<std::size_t>, std::greater<>> ready;
    for (std::size_t i = 0; i < tasks.size(); ++i)
      if (open[i] == 0) ready.push(i);
    std::vector<std::size_t> order;
    while (!ready.empty()) {
      const auto next = ready.top();
      ready.pop();
      order.push_back(next);
      for (const auto one : needed_by[next])
        if (--open[one] == 0) ready.push(one);
    }
    if (order.size() != tasks.size()) return cycle(tasks, by_name, open);
    std::vector<std::uint32_t> position(tasks.size());
    for (std::size_t i = 0; i < order.size(); ++i) position[order[i]] = static_cast<std::uint32_t>(i);
    for (const auto i : order) {
      for (const Need& need : tasks[i].needs) {
        auto& after = *tasks[i].group.add_after();
        after.set_group(position[by_name[need.task]]);
        after.set_any(need.any);
      }
      job.add_groups()->Swap(&tasks[i].group);
    }
    if (const auto size = job.ByteSizeLong(); size > kSubmitMax)
      return Error{failed(), fmt::format("the job is {}, at most {} MiB are allowed", size_text(size), kSubmitMax >> 20), "split it into several jobs"};
    return Done{};
  }

  /// Who is still open needs somebody who is: following that leads round.
  Error cycle(const std::vector<Task>& tasks, const std::unordered_map<std::string_view, std::size_t>& by_name, const std::vector<std::size_t>& open) const {
    const auto next = [&](std::size_t i) -> const Need& {
      return *std::find_if(tasks[i].needs.begin(), tasks[i].needs.end(), [&](const Need& need) { return open[by_name.at(need.task)] != 0; });
    };
    std::size_t at_task = static_cast<std::size_t>(std::find_if(open.begin(), open.end(), [](std::size_t count) { return count != 0; }) - open.begin());
    std::vector<std::size_t> way;
    std::vector<std::ptrdiff_t> seen(tasks.size(), -1);
    while (seen[at_task] < 0) {
      seen[at_task] = static_cast<std::ptrdiff_t>(way.size());
      way.push_back(at_task);
      at_task = by_name.at(next(at_task).task);
    }
    way.erase(way.begin(), way.begin() + seen[at_task]);
    std::rotate(way.begin(), std::min_element(way.begin(), way.end()), way.end());
    std::string shown;
    constexpr std::size_t shown_max = 10;
    for (std::size_t i = 0; i < std::min(way.size(), shown_max); ++i) shown += tasks[way[i]].name + " -> ";
    if (way.size() > shown_max) shown += fmt::format("... {} more -> ", way.size() - shown_max);
    shown += tasks[way[0]].name;
    return at(next(way[0]).place, "tasks need each other in a circle: " + shown, "take one of these needs away");
  }

  const Surroundings& around_;
  ItemsReader items_;
  std::uint64_t tasks_ = 0;
  std::size_t bytes_ = 0, needs_ = 0;
};

}  // namespace

Result<Done> job_file_of(std::string_view text, const std::string& name, const Surroundings& surroundings, wire::Job& job) {
  Reader reader(name, surroundings);
  const std::string failed = "cannot use the job file " + souk::quoted(name);
  if (text.size() > kJobFileMax) return Error{failed, fmt::format("it has {}, at most {} MiB are allowed", size_text(text.size()), kJobFileMax >> 20), "put lists into files of their own: lines = \"list.txt\""};
  if (const auto line = line_of_deep_key(text, kKeyPartsMax); line != 0) return Error{failed, fmt::format("line {}: a key of more than {} parts", line, kKeyPartsMax), "keys are short here: task.NAME.KEY"};
  try {
    return reader.job(toml::parse(text, name), job);
  } catch (const toml::parse_error& failure) {
    return reader.at(failure.source().begin, plain(failure.description(), 300), "write TOML: key = \"value\", one a line, under [task.NAME]");
  }
}

}  // namespace souk
