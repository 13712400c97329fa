// What every command of `souk` shares: the options that come before or after any command, and how a command ends.
#pragma once
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

#include "protocol/result.h"

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
  std::filesystem::path dir;  // state folder: --dir, else $SOUK_DIR, else ~/.souk; main makes it absolute before the action runs
  std::string profile;        // --profile FILE; empty: the user's profile in `dir`
  std::string grid;           // --grid NAME: one of those that were logged in to (submit/grids.h)
  bool elsewhere = false;     // `profile` is one of those: what runs on this machine is no part of it
  bool json = false;

  // The words after the options of submit, run and map. CLI11 never sees them, so that nothing in them is taken for our own.
  std::vector<std::string> words;
  // What the parsed command does; its value is the exit code. Set by a subcommand's callback, run by main once parsing has succeeded.
  std::function<int()> action;
  // The grid's own figures (workers, slots, tasks) for `souk status`: whole lines for people, or one JSON object when `json` is set.
  // Asked only while a grid runs; answers or fails within about 2 s. Set by add_job_commands; empty: status tells of this machine only.
  std::function<Result<std::string>()> grid_figures;
};

/// The state folder, absolute: `given`, else $SOUK_DIR, else ~/.souk. Fails if there is no home to put it in.
Result<std::filesystem::path> state_dir(const std::filesystem::path& given);

/// Prints an error: for people on stderr, or with `json` as {"error":{"what","why","remedy"}} on stdout. Yields `code`, to return it.
int fail(const Common& common, const Error& error, int code);

/// Where the user's profile is: `common.profile`, else `user.toml` in the state folder.
inline std::filesystem::path user_profile(const Common& common) {
  return common.profile.empty() ? common.dir / "user.toml" : std::filesystem::path(common.profile);
}

void add_server_commands(CLI::App& app, Common& common);  // server
void add_login_commands(CLI::App& app, Common& common);   // login, logout, grids
void add_grid_commands(CLI::App& app, Common& common);  // up, down, status, user
void add_job_commands(CLI::App& app, Common& common);   // submit, run, map, wait, jobs, job, tasks, cat, cancel, workers

}  // namespace souk
