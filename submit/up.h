// `souk up`: starts the supervisor of a state folder, or becomes it, and waits until the grid runs.
#pragma once
#include <string>
#include <vector>

#include "submit/common.h"

namespace souk {

struct UpOptions {
  int workers = 1;
  int slots = 0;  // of each worker; 0: the cores, shared among the workers
  bool foreground = false, restored = false, hosted = false;
  double lease_s = 0;
  std::vector<std::string> admins, allowed, shares, limits, services;
  std::string keep;
  std::string memory_max, policy, sandbox = "none";
  std::vector<std::string> given;  // options said on the command line, for whom a running grid is told that they come too late
  int lock_fd = -1, report_fd = -1;  // of `supervise`, which `up` starts
};

/// yields: the exit code
int up(const Common& common, const UpOptions& options);

/// The other half of `up`, in a process of its own: it inherits the lock, and a pipe for its report.
int supervise_command(const Common& common, const UpOptions& options);

}  // namespace souk
