#include "submit/observe.h"

#include <chrono>
#include <filesystem>

#include "submit/proc.h"
#include "submit/state_folder.h"

namespace souk {

UnixMs unix_ms_now() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

Result<GridState> read_state(const Layout& at) {
  const auto text = read_file(at.state());
  if (!text) return text.error();
  return parse_state(text.value());
}

Observed observe(const Layout& at, const GridState& state) {
  Observed seen;
  seen.now_ms = unix_ms_now();
  seen.supervised = FolderLock::held(at);
  seen.version = SOUK_VERSION;
  std::error_code failure;
  const auto space = std::filesystem::space(at.dir, failure);
  if (!failure) seen.disk_free_bytes = space.available;
  const auto look = [&](int pid) {
    if (pid <= 0) return;
    if (const auto rss = resident_bytes(pid)) seen.rss_bytes[pid] = *rss;
  };
  look(state.supervisor);
  for (const auto& program : state.programs) {
    look(program.pid);
    const bool alive = program.pid != 0 && seen.rss_bytes.contains(program.pid);
    const bool well = alive && !came_back_lately(program, seen.now_ms);
    if (!well && seen.supervised) seen.last_lines[program.name] = last_lines(program.log, 5);
  }
  if (!seen.supervised || state.phase == Phase::failed) seen.last_lines["supervisor"] = last_lines(at.log("supervisor"), 5);
  return seen;
}

}  // namespace souk
