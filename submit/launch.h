// Starts one long-lived program of the grid as a child of this process.
#pragma once
#include <filesystem>

#include "protocol/result.h"
#include "submit/embedded.h"

namespace souk {

struct Launched {
  int pid = 0;
  int notices = -1;  // where what the program writes to its --notify-fd is read; -1 if it does not notify
};

/// Starts a program: its output goes to its log, it has no terminal, none of our descriptors, and it is killed when this thread ends
/// (PR_SET_PDEATHSIG): call it on the main thread. Nobody waits for it yet.
Result<Launched> launch(const ProgramPlan& plan);

/// Moves `log` aside as `log.1` when it has grown over 8 MiB, so that logs never take more than twice that for long.
void rotate_log(const std::filesystem::path& log);

}  // namespace souk
