#include "submit/render.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <nlohmann/json.hpp>

#include "protocol/grid.pb.h"
#include "protocol/one_line.h"
#include "protocol/payload.h"
#include "protocol/quoting.h"

namespace souk {
namespace {

using Json = nlohmann::ordered_json;

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const auto length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

std::size_t code_points(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

void put_bytes(Json& json, const std::string& name, const std::string& bytes) {
  if (is_utf8(bytes))
    json[name] = bytes;
  else
    json[name + "_base64"] = base64(bytes);
}

Json time_json(std::uint64_t ms) { return ms == 0 ? Json(nullptr) : Json(ms); }

std::string_view cause_name(wire::Outcome::Cause cause) {
  switch (cause) {
    case wire::Outcome::EXITED: return "exited";
    case wire::Outcome::SIGNALED: return "signaled";
    case wire::Outcome::TIMED_OUT: return "timed-out";
    case wire::Outcome::CANCELED: return "canceled";
    case wire::Outcome::NOT_STARTED: return "not-started";
    case wire::Outcome::LOST: return "lost";
    default: return "unknown";
  }
}

std::string_view worker_state_name(wire::WorkerState state) {
  switch (state) {
    case wire::FREE: return "free";
    case wire::BUSY: return "busy";
    case wire::DRAINING: return "draining";
    case wire::PAUSED: return "paused";
    default: return "unknown";
  }
}

std::string signal_text(std::uint32_t number) {
  const char* name = number < NSIG ? sigabbrev_np(static_cast<int>(number)) : nullptr;
  return name ? fmt::format("signal {} ({})", number, name) : fmt::format("signal {}", number);
}

/// With the hold, which is no state of its own: what runs goes on.
std::string state_text(const wire::JobStatus& job) {
  if (!job.held() || ended(job)) return std::string(name_of_state(job));
  return job.state() == wire::WAITING ? "held" : std::string(name_of_state(job)) + ", held";
}

/// From submission to its end, or to now.
std::chrono::milliseconds lasted(const wire::JobStatus& job, WallTime now) {
  const auto end = job.ended_ms() != 0 ? static_cast<std::int64_t>(job.ended_ms()) : now.time_since_epoch().count();
  return std::chrono::milliseconds{std::max<std::int64_t>(0, end - static_cast<std::int64_t>(job.submitted_ms()))};
}

}  // namespace

std::string plain(std::string_view text, std::size_t width_max) {
  std::string shown;
  std::size_t width = 0;
  while (!text.empty()) {
    if (width == width_max) {
      // Takes back what the dots need: the width is a promise to the table.
      for (int dots = 0; dots < 3 && !shown.empty(); ++dots) {
        while (!shown.empty() && (static_cast<unsigned char>(shown.back()) & 0xC0) == 0x80) shown.pop_back();
        if (!shown.empty()) shown.pop_back();
      }
      return shown + "...";
    }
    const auto length = utf8_length(text);
    if (length == 0 || is_control(text.substr(0, length)))
      shown += '?';
    else
      shown += text.substr(0, length);
    text.remove_prefix(std::max<std::size_t>(1, length));
    ++width;
  }
  return shown;
}

std::string duration_text(std::chrono::microseconds duration) {
  const auto us = std::max<std::int64_t>(0, duration.count());
  if (us < 1000) return fmt::format("{}us", us);
  if (us < 100'000) return fmt::format("{:.3g}ms", static_cast<double>(us / 10) / 100.0);
  if (us < 1'000'000) return fmt::format("{}ms", us / 1000);
  if (us < 59'950'000) return fmt::format("{:.1f}s", static_cast<double>(us) / 1e6);
  const auto s = (us + 500'000) / 1'000'000;
  if (s < 3600) return fmt::format("{}m{:02}s", s / 60, s % 60);
  if (s < 86400) return fmt::format("{}h{:02}m", s / 3600, s / 60 % 60);
  return fmt::format("{}d{:02}h", s / 86400, s / 3600 % 24);
}

std::string seconds_text(std::chrono::microseconds duration) {
  const auto s = std::max<std::int64_t>(0, duration.count() / 1'000'000);
  return s < 60 ? fmt::format("{}s", s) : duration_text(std::chrono::seconds{s});
}

std::string size_text(std::uint64_t bytes) {
  if (bytes < 1024) return fmt::format("{} B", bytes);
  static constexpr std::array<const char*, 5> units{"KiB", "MiB", "GiB", "TiB", "PiB"};
  auto value = static_cast<double>(bytes) / 1024;
  std::size_t unit = 0;
  while (value >= 1023.5 && unit + 1 < units.size()) value /= 1024, ++unit;
  return value < 9.95 ? fmt::format("{:.1f} {}", value, units[unit]) : fmt::format("{:.0f} {}", value, units[unit]);
}

std::string time_text(std::uint64_t ms) {
  if (ms == 0 || ms > 253'402'300'799'000) return "-";  // the year 9999: a peer's nonsense must not reach the calendar
  using namespace std::chrono;
  const sys_seconds at{seconds{static_cast<std::int64_t>(ms / 1000)}};
  const auto day = floor<days>(at);
  const year_month_day date{day};
  const hh_mm_ss clock{at - day};
  return fmt::format("{:04}-{:02}-{:02} {:02}:{:02}:{:02} UTC", static_cast<int>(date.year()), static_cast<unsigned>(date.month()),
                     static_cast<unsigned>(date.day()), clock.hours().count(), clock.minutes().count(), clock.seconds().count());
}

std::string ago_text(std::uint64_t ms, WallTime now) {
  if (ms == 0) return "-";
  const auto age = now.time_since_epoch() - std::chrono::milliseconds{static_cast<std::int64_t>(ms)};
  if (age < std::chrono::seconds{1}) return "just now";  // also when the two clocks differ
  return seconds_text(age) + " ago";
}

std::string count_text(std::uint64_t number, std::string_view noun) { return fmt::format("{} {}{}", number, noun, number == 1 ? "" : "s"); }

void Table::add(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text() {
  if (!headed_) {
    std::vector<std::string> header;
    for (const Column& column : columns_) header.push_back(column.name);
    rows_.insert(rows_.begin(), std::move(header));
    headed_ = true;
  }
  for (const auto& row : rows_)
    for (std::size_t i = 0; i < row.size(); ++i) widths_[i] = std::max(widths_[i], code_points(row[i]));
  std::string text;
  for (const auto& row : rows_) {
    std::string line;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string space(widths_[i] - code_points(row[i]), ' ');
      if (i != 0) line += "  ";
      line += columns_[i].align == Align::right ? space + row[i] : row[i] + space;
    }
    line.erase(line.find_last_not_of(' ') + 1);
    text += line + '\n';
  }
  rows_.clear();
  return text;
}

std::string_view name_of_state(wire::State state) {
  switch (state) {
    case wire::WAITING: return "waiting";
    case wire::RUNNING: return "running";
    case wire::SUCCEEDED: return "succeeded";
    case wire::FAILED: return "failed";
    case wire::JOB_CANCELED: return "canceled";
    default: return "unknown";
  }
}
std::string_view name_of_state(const wire::JobStatus& job) { return name_of_state(job.state()); }
std::string_view name_of_state(const wire::TaskResult& result) { return name_of_state(result.state()); }
bool ended(const wire::JobStatus& job) { return job.state() != wire::WAITING && job.state() != wire::RUNNING; }
bool ended(const wire::TaskResult& result) { return result.state() != wire::WAITING && result.state() != wire::RUNNING; }
std::uint64_t ended_tasks(const wire::JobStatus& job) { return job.succeeded() + job.failed() + job.canceled(); }

void JobColumns::see(const wire::JobStatus& job) {
  priority = priority || job.priority() != 0;
  note = note || !job.note().empty();
}

Table jobs_table(JobColumns with) {
  using enum Table::Align;
  std::vector<Table::Column> columns{{"JOB", right}, {"STATE"}, {"TASKS", right}, {"DONE", right}, {"FAILED", right}, {"RUNNING", right}, {"SUBMITTED"}, {"TOOK", right}};
  if (with.priority) columns.push_back({"PRIORITY", right});
  if (with.owner) columns.push_back({"OWNER"});
  columns.push_back({"NAME"});
  columns.push_back({"COMMAND"});
  if (with.note) columns.push_back({"NOTE"});
  return Table(std::move(columns));
}

void add_row(Table& table, const wire::JobStatus& job, JobColumns with, WallTime now) {
  std::vector<std::string> cells{std::to_string(job.job()),
                                 state_text(job),
                                 std::to_string(job.tasks()),
                                 std::to_string(job.succeeded()),
                                 std::to_string(job.failed()),
                                 std::to_string(job.running()),
                                 ago_text(job.submitted_ms(), now),
                                 duration_text(lasted(job, now))};
  if (with.priority) cells.push_back(std::to_string(job.priority()));
  if (with.owner) cells.push_back(plain(job.owner(), 40));
  cells.push_back(job.name().empty() ? "-" : plain(job.name(), 24));
  cells.push_back(plain(job.command(), 48));
  if (with.note) cells.push_back(plain(job.note(), 80));
  table.add(std::move(cells));
}

Table tasks_table(bool with_group) {
  using enum Table::Align;
  std::vector<Table::Column> columns{{"TASK", right}, {"STATE"}, {"ENDED BY"}, {"WALL", right}, {"CPU", right}, {"MEMORY", right}, {"TRIES", right}, {"WORKER"}, {"ITEM"}};
  if (with_group) columns.insert(columns.begin() + 1, {"GROUP"});
  return Table(std::move(columns));
}

void add_row(Table& table, const wire::TaskResult& result, bool with_group) {
  const bool ran = result.has_outcome() && ended(result);
  const auto& outcome = result.outcome();
  std::vector<std::string> cells{std::to_string(result.task()), std::string(name_of_state(result)), ran ? plain(ending(outcome), 40) : "-",
             ran ? duration_text(std::chrono::microseconds(outcome.wall_us())) : "-", ran ? duration_text(std::chrono::microseconds(outcome.cpu_us())) : "-",
             ran && outcome.peak_memory_kib() != 0 ? size_text(outcome.peak_memory_kib() << 10) : "-", std::to_string(result.attempts()),
             result.worker().empty() ? "-" : plain(result.worker(), 32), plain(result.item(), 48)};
  if (with_group) cells.insert(cells.begin() + 1, plain(result.group(), 32));
  table.add(std::move(cells));
}

void WorkerColumns::see(const wire::WorkerStatus& worker) {
  speed = speed || worker.offer().speed() > 0;
  resources = resources || !worker.offer().resources().empty();
  note = note || !worker_note(worker).empty();
}

Table workers_table(WorkerColumns with) {
  using enum Table::Align;
  std::vector<Table::Column> columns{{"WORKER"}, {"STATE"}, {"SLOTS", right}, {"RUNNING", right}, {"DONE", right}, {"FAILED", right}, {"HERE FOR", right}, {"CPUS", right}};
  if (with.speed) columns.push_back({"SPEED", right});
  columns.insert(columns.end(), {{"MEMORY", right}, {"SYSTEM"}, {"HOST"}, {"TAGS"}});
  if (with.resources) columns.push_back({"RESOURCES"});
  if (with.note) columns.push_back({"NOTE"});
  return Table(std::move(columns));
}

std::string worker_note(const wire::WorkerStatus& worker) {
  std::vector<std::string> notes;
  if (!worker.set_aside().empty()) notes.push_back("set aside: " + plain(worker.set_aside(), 100));
  if (worker.trust_found() > 0) notes.push_back(fmt::format("wrong {} time{}, right {} since", worker.trust_found(), worker.trust_found() == 1 ? "" : "s", worker.trust_agreed()));
  else if (worker.trust_agreed() > 0) notes.push_back(fmt::format("right {} time{}", worker.trust_agreed(), worker.trust_agreed() == 1 ? "" : "s"));
  if (!worker.rule().empty()) notes.push_back(plain(worker.rule(), 100));
  if (!worker.offer().accept().empty()) {
    std::vector<std::string> accept;
    for (const auto& who : worker.offer().accept()) accept.push_back(who);
    notes.push_back("tasks of " + plain(fmt::format("{}", fmt::join(accept, ", ")), 60) + " only");
  }
  if (worker.until_ms() != 0) notes.push_back("until " + time_text(worker.until_ms()));
  return fmt::format("{}", fmt::join(notes, "; "));
}

void add_row(Table& table, const wire::WorkerStatus& worker, WorkerColumns with, WallTime now) {
  const auto& offer = worker.offer();
  std::vector<std::string> tags;
  for (const auto& [key, value] : offer.tags()) tags.push_back(key + "=" + value);
  std::sort(tags.begin(), tags.end());  // a protobuf map has no order of its own
  for (const auto& gpu : offer.gpus()) tags.push_back("gpu:" + gpu);
  for (const auto& name : offer.services()) tags.push_back("service:" + name);
  for (const auto& name : offer.images()) tags.push_back("image:" + name);
  if (!offer.sandbox().empty() && offer.sandbox() != "none") tags.push_back("sandbox:" + offer.sandbox());
  const auto here = now.time_since_epoch() - std::chrono::milliseconds{static_cast<std::int64_t>(worker.since_ms())};
  std::vector<std::string> cells{plain(worker.nick(), 40), worker.set_aside().empty() || worker.state() > wire::BUSY ? std::string(worker_state_name(worker.state())) : "set aside", std::to_string(worker.slots()), std::to_string(worker.running()),
             std::to_string(worker.succeeded()), std::to_string(worker.failed()),
             worker.since_ms() == 0 ? "-" : seconds_text(here), std::to_string(offer.cpus())};
  if (with.speed) cells.push_back(offer.speed() > 0 ? fmt::format("{:.1f}", offer.speed()) : "-");
  cells.insert(cells.end(), {size_text(offer.memory_bytes()), plain(offer.os() + "/" + offer.arch(), 24), plain(offer.hostname(), 32), plain(fmt::format("{}", fmt::join(tags, " ")), 60)});
  if (with.resources) {
    std::vector<std::string> resources;
    for (const auto& [key, value] : offer.resources()) resources.push_back(key + "=" + value);
    std::sort(resources.begin(), resources.end());
    cells.push_back(plain(fmt::format("{}", fmt::join(resources, " ")), 60));
  }
  if (with.note) cells.push_back(worker_note(worker));
  table.add(std::move(cells));
}

std::string worker_details(const wire::WorkerStatus& worker, WallTime now) {
  std::string text;
  const auto line = [&text](std::string_view name, const std::string& value) {
    if (!value.empty()) text += fmt::format("{:<11}{}\n", name, value);
  };
  const auto& offer = worker.offer();
  const auto pairs = [](const auto& map) {
    std::vector<std::string> all;
    for (const auto& [key, value] : map) all.push_back(plain(key + "=" + value, 300));
    std::sort(all.begin(), all.end());
    return fmt::format("{}", fmt::join(all, " "));
  };
  std::vector<std::string> accept, gpus, services;
  for (const auto& who : offer.accept()) accept.push_back(plain(who, 300));
  for (const auto& gpu : offer.gpus()) gpus.push_back(plain(gpu, 100));
  for (const auto& name : offer.services()) services.push_back(plain(name, 100));
  line("worker", plain(worker.nick(), 200));
  line("address", plain(worker.jid(), 3072));
  line("state", std::string(worker_state_name(worker.state())));
  line("held back", plain(worker.rule(), 1000));
  line("set aside", plain(worker.set_aside(), 1000));
  if (worker.until_ms() != 0) line("until", time_text(worker.until_ms()));
  line("accepts", accept.empty() ? "tasks of anyone" : fmt::format("tasks of {} only", fmt::join(accept, ", ")));
  line("slots", fmt::format("{}, {} running", worker.slots(), worker.running()));
  line("done", fmt::format("{} succeeded, {} failed", worker.succeeded(), worker.failed()));
  if (worker.since_ms() != 0) line("here for", seconds_text(now.time_since_epoch() - std::chrono::milliseconds{static_cast<std::int64_t>(worker.since_ms())}));
  line("machine", plain(fmt::format("{}, {} cpus, {} memory, {} disk, {}/{}", offer.hostname(), offer.cpus(), size_text(offer.memory_bytes()), size_text(offer.disk_bytes()), offer.os(), offer.arch()), 400));
  line("cpu", plain(offer.cpu_model(), 300));
  if (offer.speed() > 0) line("speed", fmt::format("{:.1f}", offer.speed()));
  line("gpus", fmt::format("{}", fmt::join(gpus, ", ")));
  line("software", pairs(offer.software()));
  line("tags", pairs(offer.tags()));
  line("resources", pairs(offer.resources()));
  line("services", fmt::format("{}", fmt::join(services, ", ")));
  std::vector<std::string> images;
  for (const auto& name : offer.images()) images.push_back(plain(name, 200));
  line("images", fmt::format("{}", fmt::join(images, ", ")));
  line("sandbox", offer.sandbox().empty() ? "" : plain(offer.sandbox()) + (offer.sandbox_note().empty() ? "" : ": " + plain(offer.sandbox_note(), 1000)));
  line("network", offer.sandbox().empty() ? "" : offer.network() ? "for tasks that ask for it" : "for tasks of its owner only");
  line("version", plain(offer.version(), 40));
  return text;
}

std::string tasks_text(const wire::JobStatus& job) {
  std::string tasks = fmt::format("{}: {} succeeded, {} failed, {} running, {} waiting", job.tasks(), job.succeeded(), job.failed(), job.running(), job.waiting());
  if (job.canceled() != 0) tasks += fmt::format(", {} canceled", job.canceled());
  return tasks;
}

std::string job_details(const wire::JobStatus& job, WallTime now) {
  std::string text;
  const auto line = [&text](std::string_view name, const std::string& value) { text += fmt::format("{:<11}{}\n", name, value); };
  line("job", std::to_string(job.job()));
  if (!job.name().empty()) line("name", plain(job.name()));
  line("owner", plain(job.owner()));
  line("command", plain(job.command()));
  line("state", state_text(job));
  if (!job.note().empty()) line("note", plain(job.note(), 1000));
  if (job.priority() != 0) line("priority", std::to_string(job.priority()));
  if (job.deadline_ms() != 0) line("deadline", time_text(job.deadline_ms()));
  line("tasks", tasks_text(job));
  if (job.retried() != 0) line("retried", count_text(job.retried(), "attempt") + " after a failure");
  if (job.requeued() != 0) line("requeued", count_text(job.requeued(), "attempt") + " after the loss of a worker");
  line("submitted", fmt::format("{} ({})", time_text(job.submitted_ms()), ago_text(job.submitted_ms(), now)));
  if (job.started_ms() != 0) line("started", time_text(job.started_ms()));
  if (job.ended_ms() != 0) line("ended", time_text(job.ended_ms()));
  line("took", duration_text(lasted(job, now)));
  return text;
}

std::string job_verdict(const wire::JobStatus& job) {
  std::string text = fmt::format("job {}: ", job.job());
  if (job.state() == wire::JOB_CANCELED)
    text += fmt::format("canceled, {} of {} succeeded before", job.succeeded(), count_text(job.tasks(), "task"));
  else if (job.failed() == 0 && job.canceled() == 0)
    text += job.tasks() == 1 ? "succeeded" : fmt::format("all {} succeeded", count_text(job.tasks(), "task"));
  else
    text += fmt::format("{} of {} succeeded", job.succeeded(), count_text(job.tasks(), "task"));
  if (job.failed() != 0) text += fmt::format(", {} failed", job.failed());
  if (job.ended_ms() != 0 && job.submitted_ms() != 0) text += ", in " + duration_text(lasted(job, WallTime{}));
  return text;
}

std::string ending(const wire::Outcome& outcome) {
  switch (outcome.cause()) {
    case wire::Outcome::EXITED: return fmt::format("exit {}", outcome.exit_code());
    case wire::Outcome::SIGNALED: return signal_text(outcome.signal());
    case wire::Outcome::TIMED_OUT: return "time limit";
    case wire::Outcome::CANCELED: return "canceled";
    case wire::Outcome::NOT_STARTED: return "not started" + (outcome.why().empty() ? "" : ": " + plain(outcome.why()));
    case wire::Outcome::LOST: return "lost" + (outcome.why().empty() ? "" : ": " + plain(outcome.why()));
    default: return "unknown";
  }
}

std::string failure_note(std::uint64_t job, const wire::TaskResult& result) {
  if (!ended(result) || result.state() == wire::SUCCEEDED) return {};
  const auto& outcome = result.outcome();
  if (outcome.cause() == wire::Outcome::EXITED && outcome.exit_code() != 0) return {};
  std::string text = fmt::format("task {}.{}: {}", job, result.task(), result.has_outcome() ? ending(outcome) : std::string(name_of_state(result)));
  if (outcome.cause() == wire::Outcome::TIMED_OUT) text += " of " + duration_text(std::chrono::microseconds(outcome.wall_us())) + " reached";
  return text;
}

std::string truncation_note(std::string_view stream, std::uint64_t kept, std::uint64_t size) {
  if (size <= kept) return {};
  return fmt::format("{} was cut: {} of {} kept; --output-max keeps more", stream, size_text(kept), size_text(size));
}

std::string grid_details(const wire::GridStatus& grid) {
  return fmt::format(
      "Manager: version {}, up {}\n"
      "Workers: {} with {}, {} busy\n"
      "Tasks: {} waiting, {} running\n{}{}",
      plain(grid.version(), 40), seconds_text(std::chrono::milliseconds(grid.up_ms())), grid.workers(), count_text(grid.slots(), "slot"), grid.slots_busy(),
      grid.tasks_waiting(), grid.tasks_running(), grid.trouble().empty() ? "" : "Trouble: " + plain(grid.trouble(), 500) + "\n", grid.lacks().empty() ? "" : "Lacks: " + plain(grid.lacks(), 500) + "\n");
}

std::string json_of(const wire::JobStatus& job) {
  Json json;
  json["job"] = job.job();
  json["name"] = plain(job.name(), 1000);
  json["owner"] = plain(job.owner(), 1000);
  json["state"] = name_of_state(job);
  json["tasks"] = job.tasks();
  json["waiting"] = job.waiting();
  json["running"] = job.running();
  json["succeeded"] = job.succeeded();
  json["failed"] = job.failed();
  json["canceled"] = job.canceled();
  json["requeued"] = job.requeued();
  json["retried"] = job.retried();
  json["submitted_ms"] = time_json(job.submitted_ms());
  json["started_ms"] = time_json(job.started_ms());
  json["ended_ms"] = time_json(job.ended_ms());
  json["command"] = plain(job.command(), 1000);
  json["priority"] = job.priority();
  json["held"] = job.held();
  json["note"] = plain(job.note(), 1000);
  json["deadline_ms"] = time_json(job.deadline_ms());
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string json_of(std::uint64_t job, const wire::TaskResult& result, bool streams) {
  Json json;
  json["job"] = job;
  json["task"] = result.task();
  json["state"] = name_of_state(result);
  json["attempts"] = result.attempts();
  json["worker"] = result.worker().empty() ? Json(nullptr) : Json(plain(result.worker(), 1000));
  put_bytes(json, "item", result.item());
  if (!result.group().empty()) json["group"] = plain(result.group(), 1000);
  if (result.has_outcome() && ended(result)) {
    const auto& outcome = result.outcome();
    json["cause"] = cause_name(outcome.cause());
    json["exit_code"] = outcome.cause() == wire::Outcome::EXITED ? Json(outcome.exit_code()) : Json(nullptr);
    json["signal"] = outcome.signal() != 0 ? Json(outcome.signal()) : Json(nullptr);
    if (!outcome.why().empty()) json["why"] = plain(outcome.why(), 1000);
    json["wall_us"] = outcome.wall_us();
    json["cpu_us"] = outcome.cpu_us();
    json["peak_memory_kib"] = outcome.peak_memory_kib();
    json["stdout_size"] = outcome.out_size();
    json["stderr_size"] = outcome.err_size();
    if (streams) {
      put_bytes(json, "stdout", outcome.out());
      put_bytes(json, "stderr", outcome.err());
    }
  }
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string json_of(const wire::WorkerStatus& worker) {
  const auto& offer = worker.offer();
  const auto sorted = [](const auto& map) {
    std::map<std::string, std::string> ordered;
    for (const auto& [key, value] : map) ordered[plain(key, 1000)] = plain(value, 1000);
    return ordered;
  };
  Json json;
  json["worker"] = plain(worker.nick(), 1000);
  json["jid"] = plain(worker.jid(), 3072);
  json["state"] = worker_state_name(worker.state());
  json["slots"] = worker.slots();
  json["running"] = worker.running();
  json["succeeded"] = worker.succeeded();
  json["failed"] = worker.failed();
  json["since_ms"] = time_json(worker.since_ms());
  json["cpus"] = offer.cpus();
  json["memory_bytes"] = offer.memory_bytes();
  json["disk_bytes"] = offer.disk_bytes();
  json["os"] = plain(offer.os());
  json["arch"] = plain(offer.arch());
  json["hostname"] = plain(offer.hostname(), 1000);
  json["cpu_model"] = plain(offer.cpu_model(), 1000);
  json["version"] = plain(offer.version());
  json["software"] = sorted(offer.software());
  auto gpus = Json::array();
  for (const auto& gpu : offer.gpus()) gpus.push_back(plain(gpu, 1000));
  json["gpus"] = std::move(gpus);
  json["tags"] = sorted(offer.tags());
  json["resources"] = sorted(offer.resources());
  auto services = Json::array();
  for (const auto& name : offer.services()) services.push_back(plain(name));
  json["services"] = std::move(services);
  auto accept = Json::array();
  for (const auto& who : offer.accept()) accept.push_back(plain(who, 1000));
  json["accept"] = std::move(accept);
  json["speed"] = offer.speed() > 0 ? Json(offer.speed()) : Json(nullptr);
  json["sandbox"] = plain(offer.sandbox());
  json["sandbox_note"] = plain(offer.sandbox_note(), 1000);
  json["network"] = offer.network();
  auto images = Json::array();
  for (const auto& name : offer.images()) images.push_back(plain(name, 200));
  json["images"] = std::move(images);
  json["rule"] = plain(worker.rule(), 1000);
  json["set_aside"] = plain(worker.set_aside(), 1000);
  json["trust_agreed"] = worker.trust_agreed();
  json["trust_found"] = worker.trust_found();
  json["until_ms"] = time_json(worker.until_ms());
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string json_of(const wire::GridStatus& grid) {
  Json json;
  json["version"] = plain(grid.version());
  json["epoch"] = grid.epoch();
  json["up_ms"] = grid.up_ms();
  json["workers"] = grid.workers();
  json["slots"] = grid.slots();
  json["slots_busy"] = grid.slots_busy();
  json["tasks_waiting"] = grid.tasks_waiting();
  json["tasks_running"] = grid.tasks_running();
  json["trouble"] = plain(grid.trouble(), 500);
  json["lacks"] = plain(grid.lacks(), 500);
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

int exit_code_of(const wire::TaskResult& result) {
  const auto& outcome = result.outcome();
  if (result.state() == wire::SUCCEEDED) return 0;
  if (result.state() == wire::JOB_CANCELED && !result.has_outcome()) return 130;
  switch (outcome.cause()) {
    case wire::Outcome::EXITED: return outcome.exit_code() == 0 ? 1 : static_cast<int>(outcome.exit_code() & 0xFF);
    case wire::Outcome::SIGNALED: return 128 + static_cast<int>(outcome.signal() & 0x7F);
    case wire::Outcome::TIMED_OUT: return 124;     // as timeout(1)
    case wire::Outcome::NOT_STARTED: return 127;   // as the shell
    case wire::Outcome::CANCELED: return 130;      // as after Ctrl-C
    default: return 125;                           // lost: the grid's failure, not the task's
  }
}

}  // namespace souk
