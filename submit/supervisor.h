// The supervisor: starts server, manager and workers of one state folder, restarts what dies, and leaves nothing behind.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "protocol/result.h"
#include "submit/embedded.h"
#include "submit/state_folder.h"

namespace souk {

/// How a start ended. A failed one comes with the last lines of the log that tells why, and is reported after all is stopped again.
struct StartReport {
  std::optional<Error> failure;
  std::vector<std::string> lines;
};
std::string to_json(const StartReport& report);
StartReport parse_start_report(std::string_view json);

/// Runs the grid until TERM, INT or HUP; then stops it. Call it on the main thread of a process without other threads: the
/// programs get a signal when that thread ends (PR_SET_PDEATHSIG), so that nothing survives the supervisor, however it ends.
/// grid:     its ports are wishes; others are taken if these are not free
/// reported: called once, when its workers are in the market, or the first of them for 3 s, or the start has failed
/// yields:   the exit code: 0 after a stop that was asked for, 1 after a failed start
int supervise(FolderLock lock, EmbeddedGrid grid, const ProgramPaths& programs, std::function<void(const StartReport&)> reported);

/// The longest an orderly stop takes: three groups one after the other, each of which gets 5 s before it is killed, and what is left after them.
inline constexpr std::chrono::seconds kStopGrace{5}, kStopMax{20};
/// The longest a start takes before it has failed.
inline constexpr std::chrono::seconds kStartMax{20};
/// The longest a start waits for other workers after the first.
inline constexpr std::chrono::seconds kOthersMax{3};

}  // namespace souk
