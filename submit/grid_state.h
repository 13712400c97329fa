// What the supervisor tells about the grid it runs (state.json), and what that means to a person who asks.
#pragma once
#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "submit/embedded.h"

namespace souk {

using UnixMs = std::int64_t;  // milliseconds since 1970

enum class Phase { starting, running, stopping, stopped, failed };

struct ProgramState {
  std::string name;
  int pid = 0;  // 0: not running
  UnixMs since_ms = 0;          // when it was started, or when it died
  int restarts = 0;             // starts after the first
  std::string last_exit{};      // why it ended the last time: `exit code 1`, `signal 9 (Killed)`; empty: never did
  UnixMs last_exit_ms = 0;
  UnixMs next_start_ms = 0;     // while it waits to be started again
  std::string log{};            // path
};

struct GridState {
  Phase phase = Phase::stopped;
  std::string version;  // of the supervisor
  int supervisor = 0;   // pid
  UnixMs since_ms = 0;
  std::string dir, user;
  Ports ports;
  int workers = 0, slots = 0;
  bool market = false;  // a worker was in the market since the last start
  std::string problem;  // what the supervisor itself cannot repair; empty: nothing
  std::vector<ProgramState> programs;
};

/// Died and was started again within the last minute: worth telling a person who asks.
inline bool came_back_lately(const ProgramState& program, UnixMs now_ms) { return program.restarts > 0 && now_ms - program.last_exit_ms < 60000; }

std::string to_json(const GridState& state);
/// fails: on text that is no state of this or an older version; unknown keys are passed over
Result<GridState> parse_state(std::string_view json);

inline constexpr std::uint64_t kUnknown = ~0ull;
/// What this machine says beside the state file.
struct Observed {
  UnixMs now_ms = 0;
  bool supervised = false;                       // somebody holds the lock
  std::map<int, std::uint64_t> rss_bytes;        // of each pid that is alive
  std::uint64_t disk_free_bytes = kUnknown;        // where the state folder is
  std::string version;                           // of the program that asks
  std::map<std::string, std::vector<std::string>> last_lines;  // of the log of each program that is not well
};
inline constexpr std::uint64_t kDiskLow = 64u << 20;

/// One thing that is wrong, with what to do about it.
struct Problem {
  std::string what;                // one line
  std::vector<std::string> lines;  // last lines of a log, if they help
};
std::vector<Problem> problems(const GridState& state, const Observed& seen);

/// The answer of `souk status` about this machine.
std::string render_status(const GridState& state, const Observed& seen);
std::string render_status_json(const GridState& state, const Observed& seen, const std::string& grid_json);

/// What `souk up` prints once the grid runs. `souk` is the command a user would type to reach this grid again, e.g. `souk --dir /tmp/g`.
std::string render_up(const GridState& state, const Observed& seen, const std::string& souk, bool ran_already);

}  // namespace souk
