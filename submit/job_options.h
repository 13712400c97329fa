// The options of the job commands, as CLI11 fills them in.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "submit/common.h"
#include "submit/request.h"
#include "submit/terms.h"

namespace CLI {
class App;
}

namespace souk {

/// submit, run and map
struct MakeOptions {
  JobOptions job;
  TermOptions terms;
  std::string file;        // a job file
  std::string each_line;   // FILE, or - for standard input
  std::string each_json;
  std::string input_file;  // --stdin
  bool null_separated = false;
  bool unordered = false;
  bool dry_run = false;
  std::string submit_wait;
  int progress = 0;        // 1 --progress, -1 --no-progress, 0 as it fits
};
struct WaitOptions {
  std::vector<std::string> jobs;
  bool progress = false;
};
struct ListOptions {
  std::uint32_t limit = 0;
  bool all = false;
};
struct TasksOptions {
  std::vector<std::string> targets;
  bool failed = false;
};
struct CatOptions {
  std::vector<std::string> targets;
  bool err = false, both = false;
};
struct CancelOptions {
  std::vector<std::string> jobs;
  bool all = false;
};

struct RerunOptions {
  std::string job;
  bool all = false, failed = false, wait = false, progress = false;
  std::string submit_wait;
};

/// --submit-wait; ten minutes if not said.
Result<std::chrono::milliseconds> submit_wait_of(const std::string& text);  // run_commands.cpp

/// Those of TermOptions, in groups of their own in the help.
void add_term_options(CLI::App& command, TermOptions& terms);  // term_options.cpp

// run_commands.cpp
int submit_command(const Common& common, MakeOptions options);
int run_command(const Common& common, MakeOptions options);
int map_command(const Common& common, MakeOptions options);
int wait_command(const Common& common, const WaitOptions& options);
// query_commands.cpp
int jobs_command(const Common& common, const ListOptions& options);
int job_command(const Common& common, const std::vector<std::string>& jobs);
int tasks_command(const Common& common, const TasksOptions& options);
int cat_command(const Common& common, const CatOptions& options);
int cancel_command(const Common& common, const CancelOptions& options);
int workers_command(const Common& common, const std::vector<std::string>& names);
// control_commands.cpp
int why_command(const Common& common, const std::vector<std::string>& targets);
int hold_command(const Common& common, const std::vector<std::string>& jobs, bool hold);
int rerun_command(const Common& common, const RerunOptions& options);
struct BanOptions {
  std::vector<std::string> who;  // none: list them
  std::string reason;
  bool lift = false;
};
int ban_command(const Common& common, const BanOptions& options);
Result<std::string> grid_figures(const Common& common);

}  // namespace souk
