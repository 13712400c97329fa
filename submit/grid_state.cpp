#include "submit/grid_state.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <nlohmann/json.hpp>

namespace souk {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 5> kPhases{"starting", "running", "stopping", "stopped", "failed"};

std::string dump(const json& value) { return value.dump(-1, ' ', false, json::error_handler_t::replace); }  // folders need not be UTF-8

std::string ago(UnixMs ms) {
  const auto s = std::max<UnixMs>(ms, 0) / 1000;
  if (s < 60) return fmt::format("{} s", s);
  if (s < 3600) return fmt::format("{} min", s / 60);
  if (s < 48 * 3600) return fmt::format("{} h {} min", s / 3600, s / 60 % 60);
  return fmt::format("{} days", s / 86400);
}

std::string mebibytes(std::uint64_t bytes) { return fmt::format("{:.0f} MiB", static_cast<double>(bytes) / (1 << 20)); }

json program_json(const ProgramState& program) {
  return {{"name", program.name},           {"pid", program.pid},
          {"since_ms", program.since_ms},   {"restarts", program.restarts},
          {"last_exit", program.last_exit}, {"last_exit_ms", program.last_exit_ms},
          {"log", program.log},             {"next_start_ms", program.next_start_ms}};
}

json state_json(const GridState& state) {
  json programs = json::array();
  for (const auto& program : state.programs) programs.push_back(program_json(program));
  return {{"format", 1},
          {"phase", kPhases[static_cast<std::size_t>(state.phase)]},
          {"version", state.version},
          {"supervisor", state.supervisor},
          {"since_ms", state.since_ms},
          {"dir", state.dir},
          {"user", state.user},
          {"host", kLoopback},
          {"port", state.ports.clients},
          {"component_port", state.ports.component},
          {"workers", state.workers},
          {"slots", state.slots},
          {"market", state.market},
          {"problem", state.problem},
          {"programs", std::move(programs)}};
}

bool alive(const ProgramState& program, const Observed& seen) { return program.pid != 0 && seen.rss_bytes.contains(program.pid); }

/// What a program does, in a few words.
std::string condition(const ProgramState& program, const Observed& seen) {
  if (alive(program, seen)) return "up " + ago(seen.now_ms - program.since_ms);
  if (program.next_start_ms > 0 && seen.supervised) {
    const auto left = std::max<UnixMs>(program.next_start_ms - seen.now_ms, 0);
    return fmt::format("starts again in {:.1f} s", static_cast<double>(left) / 1000);
  }
  return "not running";
}

}  // namespace

std::string to_json(const GridState& state) { return dump(state_json(state)) + "\n"; }

Result<GridState> parse_state(std::string_view text) {
  const auto refuse = [](const std::string& why) -> Result<GridState> {
    return Error{"cannot read the grid's state", why, "stop it and start again: souk down; souk up"};
  };
  const json value = json::parse(text, nullptr, false);
  if (!value.is_object()) return refuse("state.json is not a JSON object");
  try {
    GridState state;
    const std::string phase = value.at("phase");
    const auto found = std::find(kPhases.begin(), kPhases.end(), phase);
    if (found == kPhases.end()) return refuse("phase is '" + phase + "'");
    state.phase = static_cast<Phase>(found - kPhases.begin());
    state.version = value.value("version", "");
    state.supervisor = value.value("supervisor", 0);
    state.since_ms = value.value("since_ms", UnixMs{0});
    state.dir = value.value("dir", "");
    state.user = value.value("user", "");
    const auto port = [&](const char* key) {
      const int number = value.value(key, 0);
      return number < 0 || number > 65535 ? std::uint16_t{0} : static_cast<std::uint16_t>(number);
    };
    state.ports = {port("port"), port("component_port")};
    state.workers = value.value("workers", 0);
    state.slots = value.value("slots", 0);
    state.market = value.value("market", false);
    state.problem = value.value("problem", "");
    for (const auto& entry : value.value("programs", json::array())) {
      ProgramState program;
      program.name = entry.at("name");
      program.pid = entry.value("pid", 0);
      program.since_ms = entry.value("since_ms", UnixMs{0});
      program.restarts = entry.value("restarts", 0);
      program.last_exit = entry.value("last_exit", "");
      program.last_exit_ms = entry.value("last_exit_ms", UnixMs{0});
      program.next_start_ms = entry.value("next_start_ms", UnixMs{0});
      program.log = entry.value("log", "");
      state.programs.push_back(std::move(program));
    }
    return state;
  } catch (const json::exception& failure) {
    return refuse(failure.what());
  }
}

std::vector<Problem> problems(const GridState& state, const Observed& seen) {
  std::vector<Problem> all;
  const bool should_run = state.phase == Phase::running || state.phase == Phase::starting;
  const auto lines_of = [&](const std::string& name) {
    const auto found = seen.last_lines.find(name);
    return found == seen.last_lines.end() ? std::vector<std::string>{} : found->second;
  };
  if (should_run && !seen.supervised) {
    all.push_back({fmt::format("the supervisor (pid {}) ended without stopping the grid, so it was killed or crashed; start again: souk up", state.supervisor),
                   lines_of("supervisor")});
  }
  if (state.phase == Phase::failed) {
    all.push_back({"the last start failed: " + (state.problem.empty() ? "see the supervisor's log" : state.problem), lines_of("supervisor")});
  } else if (!state.problem.empty()) {
    all.push_back({state.problem, {}});
  }
  if (should_run && seen.supervised) {
    for (const auto& program : state.programs) {
      const std::string log = program.log.empty() ? "" : "; log: " + program.log;
      if (!alive(program, seen)) {
        const std::string ended = program.last_exit.empty() ? "" : ": it ended with " + program.last_exit;
        const std::string next = program.next_start_ms > 0 ? condition(program, seen) : "it is about to be started";
        all.push_back({fmt::format("{} is down{}; {}{}", program.name, ended, next, log), lines_of(program.name)});
      } else if (came_back_lately(program, seen.now_ms)) {
        all.push_back({fmt::format("{} was started again {} ago: it ended with {}{}", program.name, ago(seen.now_ms - program.last_exit_ms), program.last_exit, log),
                       lines_of(program.name)});
      }
    }
    if (state.phase == Phase::running && !state.market) {
      all.push_back({"no worker has been in the market yet; see the logs of the manager and the workers", {}});
    }
    if (!seen.version.empty() && seen.version != state.version) {
      all.push_back({fmt::format("the grid was started by version {}, this program is {}; to change over: souk down; souk up", state.version, seen.version), {}});
    }
  }
  if (seen.disk_free_bytes < kDiskLow) {
    all.push_back(
        {fmt::format("the disk is nearly full: {} free at {}, where jobs and results are kept; make room", mebibytes(seen.disk_free_bytes), state.dir), {}});
  }
  return all;
}

std::string render_status(const GridState& state, const Observed& seen) {
  std::string text;
  if (!seen.supervised) {
    text += fmt::format("No grid runs in {}. To start one: souk up\n", state.dir);
  } else {
    text += fmt::format("Grid in {}: {} for {}, {}@{} at {}:{}\n", state.dir, kPhases[static_cast<std::size_t>(state.phase)],
                        ago(seen.now_ms - state.since_ms), state.user, kDomain, kLoopback, state.ports.clients);
    text += fmt::format("  {:<12} {:>8}  {:<22} {:>9}  {:>8}\n", "program", "pid", "state", "memory", "restarts");
    const auto row = [&](const std::string& name, int pid, const std::string& how, int restarts) {
      const auto rss = seen.rss_bytes.find(pid);
      const std::string memory = rss == seen.rss_bytes.end() ? "-" : mebibytes(rss->second);
      text += fmt::format("  {:<12} {:>8}  {:<22} {:>9}  {:>8}\n", name, pid ? std::to_string(pid) : "-", how, memory, restarts);
    };
    row("supervisor", state.supervisor, "up " + ago(seen.now_ms - state.since_ms), 0);
    for (const auto& program : state.programs) row(program.name, alive(program, seen) ? program.pid : 0, condition(program, seen), program.restarts);
    text += fmt::format("Logs: {}\n", (Layout{state.dir}.logs() / "*.log").string());
  }
  const auto wrong = problems(state, seen);
  if (wrong.empty() && seen.supervised) text += "Nothing is wrong.\n";
  for (const auto& problem : wrong) {
    text += "Problem: " + problem.what + "\n";
    for (const auto& line : problem.lines) text += "    | " + line + "\n";
  }
  return text;
}

std::string render_status_json(const GridState& state, const Observed& seen, const std::string& grid_json) {
  json value = state_json(state);
  value["running"] = seen.supervised;
  for (auto& program : value["programs"]) {
    const auto rss = seen.rss_bytes.find(program["pid"].get<int>());
    program["alive"] = rss != seen.rss_bytes.end();
    program["rss_bytes"] = rss == seen.rss_bytes.end() ? json(nullptr) : json(rss->second);
    program["uptime_ms"] = rss == seen.rss_bytes.end() ? json(nullptr) : json(seen.now_ms - program["since_ms"].get<UnixMs>());
  }
  value["disk_free_bytes"] = seen.disk_free_bytes == kUnknown ? json(nullptr) : json(seen.disk_free_bytes);
  value["problems"] = json::array();
  for (const auto& problem : problems(state, seen)) value["problems"].push_back({{"what", problem.what}, {"lines", problem.lines}});
  if (!grid_json.empty()) {
    json grid = json::parse(grid_json, nullptr, false);
    value["grid"] = grid.is_discarded() ? json(grid_json) : std::move(grid);
  }
  return dump(value) + "\n";
}

std::string render_up(const GridState& state, const Observed& seen, const std::string& souk, bool ran_already) {
  const Layout at{state.dir};
  std::string text = fmt::format("A grid {} in {}\n", ran_already ? "runs already" : "runs", state.dir);
  for (const auto& program : state.programs) {
    std::string what;
    if (program.name == "server") what = fmt::format("Prosody on {}:{}", kLoopback, state.ports.clients);
    else if (program.name != "manager") what = fmt::format("{} slot{}", state.slots, state.slots == 1 ? "" : "s");
    if (!alive(program, seen)) what = condition(program, seen);
    text += fmt::format("  {:<10} pid {:<8} {}", program.name, program.pid, what);
    text.erase(text.find_last_not_of(' ') + 1);
    text += '\n';
  }
  text += fmt::format("Submit:  {} map 'echo hello {{}}' ::: world grid\n", souk);
  text += fmt::format("Look:    {} status, logs in {}\n", souk, at.logs().string());
  text += fmt::format("Chat:    {}@{}, server {} port {} (its certificate is self-signed); password in {}; the commands are on {}\n", state.user, kDomain,
                      kLoopback, state.ports.clients, at.password("user").string(), kGridDomain);
  text += fmt::format("Stop:    {} down\n", souk);
  return text;
}

}  // namespace souk
