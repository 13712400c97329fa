// What every command of `souk` shares: the options that come before or after any command, and how a command ends.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace CLI {
class App;
}

namespace souk {

/// Exit codes. A `run` of one task passes the task's own code through instead (docs: `souk run --help`).
namespace exit_code {
constexpr int good = 0;         // done; of run, map and wait: all tasks succeeded
constexpr int failed = 1;       // some task failed; of up, down and status: something is not as it should be
constexpr int usage = 2;        // cannot be done as asked: unknown option, unknown job, unreadable file, refused by the manager
constexpr int unreachable = 3;  // no grid, no server, no login
}  // namespace exit_code

struct Common {
  std::filesystem::path dir;  // state folder: --dir, else $SOUK_DIR, else ~/.souk
  std::string profile;        // --profile FILE; empty: the user's profile in `dir`
  bool json = false;

  // The words after the options of submit, run and map. CLI11 never sees them, so that nothing in them is taken for our own.
  std::vector<std::string> words;
  // What the parsed command does; its value is the exit code. Set by a subcommand's callback, run by main once parsing has succeeded.
  std::function<int()> action;
};

/// Where the user's profile is: `common.profile`, else `user.toml` in the state folder.
inline std::filesystem::path user_profile(const Common& common) {
  return common.profile.empty() ? common.dir / "user.toml" : std::filesystem::path(common.profile);
}

void add_grid_commands(CLI::App& app, Common& common);  // up, down, status
void add_job_commands(CLI::App& app, Common& common);   // submit, run, map, wait, jobs, job, tasks, cat, cancel, workers

}  // namespace souk
