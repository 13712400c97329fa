// Workers of this user that run on this host: each announces itself in its working folder, for `souk-worker --drain`.
#pragma once
#include <sys/types.h>

#include <filesystem>
#include <string>

#include "protocol/result.h"

namespace souk::worker {

constexpr int kFoldersMax = 1000;  // default working folders of one user on one host: worker-1, worker-2, ...

struct Running {
  pid_t pid = 0;
  std::filesystem::path work;
  std::string name, profile;
};

/// The folder below which workers without --work have theirs: $XDG_CACHE_HOME/souk/HOST or ~/.cache/souk/HOST, since home folders may be shared; where that is on a server,
/// or in memory, /var/tmp/souk-UID. Not $XDG_RUNTIME_DIR, which is small and memory.
std::filesystem::path default_base();

/// Writes down who works in that folder. The lock on that file is the proof: it lasts as long as this process and no longer, and tells its number.
/// fails: if the file cannot be made or locked; then nobody can drain it by name, and it works all the same
Result<Done> announce(const std::filesystem::path& work, const std::string& name, const std::filesystem::path& profile);

/// The one running worker that these words fit; what is empty fits all. Without `work` only the default folders are searched.
Result<Running> find_running(const std::filesystem::path& work, const std::string& name, const std::filesystem::path& profile);

/// Tells it to drain and, if asked, waits until it has ended.
Result<Done> drain(const Running& worker, bool wait);

}  // namespace souk::worker
