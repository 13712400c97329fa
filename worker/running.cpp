#include "worker/running.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <sstream>
#include <vector>

#include "protocol/form.h"
#include "worker/home.h"

namespace souk::worker {

namespace fs = std::filesystem;

namespace {

constexpr const char* kFile = ".souk-worker";

struct flock whole_file(short type) {
  struct flock lock {};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  return lock;
}

std::string real_path(const fs::path& path) {
  std::error_code failure;
  const fs::path real = fs::weakly_canonical(path, failure);
  return failure ? path.string() : real.string();
}

std::optional<Running> running_in(const fs::path& work) {
  const int file = ::open((work / kFile).c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
  if (file < 0) return std::nullopt;
  struct flock lock = whole_file(F_WRLCK);
  std::optional<Running> found;
  if (::fcntl(file, F_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && lock.l_pid > 1) {
    char text[8192];
    const ssize_t size = ::read(file, text, sizeof text);
    std::istringstream lines(std::string(text, static_cast<std::size_t>(std::max<ssize_t>(size, 0))));
    found = Running{lock.l_pid, work, "", ""};
    std::getline(lines, found->name);
    std::getline(lines, found->profile);
  }
  ::close(file);
  return found;
}

}  // namespace

namespace {

/// Whether that folder, or what there is of its path, is on a disk of this host. Servers are slow at what tasks leave, and do not let every user in.
bool is_on_disk(fs::path folder) {
  std::error_code failure;
  while (!fs::exists(folder, failure) && folder.has_relative_path()) folder = folder.parent_path();
  struct statfs status{};
  if (::statfs(folder.c_str(), &status) != 0) return false;
  switch (static_cast<std::uint32_t>(status.f_type)) {
    case 0x6969: case 0x517B: case 0xFF534D42: case 0xFE534D42: case 0x5346414F: case 0x01021997: case 0x65735546: case 0x0BD00BD0: case 0x00C36400: case 0x47504653:  // NFS, SMB, AFS, 9p, FUSE, Lustre, Ceph, GPFS
    case 0x01021994: case 0x858458F6:                                                                                                                                  // tmpfs, ramfs
      return false;
    default: return true;
  }
}

}  // namespace

fs::path default_base() {
  if (const auto base = below_home("XDG_CACHE_HOME", ".cache"); base && is_on_disk(*base)) return *base / "souk" / host_name();
  return fs::path("/var/tmp") / ("souk-" + std::to_string(::geteuid()));
}

Result<Done> announce(const fs::path& work, const std::string& name, const fs::path& profile) {
  const auto bad = [&] { return Error{"cannot announce this worker in " + work.string(), std::strerror(errno), "without that, --drain does not find it; kill -USR1 does the same"}; };
  const int file = ::open((work / kFile).c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);  // stays open, for the lock
  if (file < 0) return bad();
  struct flock lock = whole_file(F_WRLCK);
  const std::string text = name + "\n" + real_path(profile) + "\n";
  if (::fcntl(file, F_SETLK, &lock) != 0 || ::ftruncate(file, 0) != 0 || ::write(file, text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
    const Error error = bad();
    ::close(file);
    return error;
  }
  return Done{};
}

Result<Running> find_running(const fs::path& work, const std::string& name, const fs::path& profile) {
  std::vector<fs::path> folders;
  if (!work.empty()) {
    folders.push_back(work);
  } else {
    for (int number = 1; number <= kFoldersMax; ++number) {
      std::error_code failure;
      fs::path folder = default_base() / ("worker-" + std::to_string(number));
      if (!fs::exists(folder, failure)) break;  // they are made in order, and stay
      folders.push_back(std::move(folder));
    }
  }
  std::vector<Running> fitting;
  std::string seen;
  for (const auto& folder : folders) {
    const auto running = running_in(folder);
    if (!running) continue;
    seen += (seen.empty() ? "" : ", ") + printable(running->name) + " in " + running->work.string();
    if ((name.empty() || running->name == name) && (profile.empty() || running->profile == real_path(profile))) fitting.push_back(*running);
  }
  if (fitting.size() == 1) return fitting.front();
  const std::string where = work.empty() ? "below " + default_base().string() : "in " + work.string();
  if (seen.empty()) return Error{"no worker to drain", "none runs " + where, work.empty() ? "if it has a folder of its own, name that with --work" : "is that the folder it was started with?"};
  if (fitting.empty()) return Error{"no worker to drain", "none of those that run " + where + " fits: " + seen, "choose one of these with --name, --profile or --work"};
  return Error{"several workers could be meant", seen, "choose one with --name, --profile or --work"};
}

Result<Done> drain(const Running& worker, bool wait) {
  const Error gone{"worker '" + printable(worker.name) + "' cannot be told to drain", "", "does it run as another user? Then ask as that user"};
  const int process = static_cast<int>(::syscall(SYS_pidfd_open, worker.pid, 0));  // from here on the number cannot be somebody else's
  if (process < 0 || !running_in(worker.work) || ::syscall(SYS_pidfd_send_signal, process, SIGUSR1, nullptr, 0) != 0) {
    const Error error{gone.what, std::strerror(errno), gone.remedy};
    if (process >= 0) ::close(process);
    return error;
  }
  pollfd ended{process, POLLIN, 0};
  while (wait && ::poll(&ended, 1, -1) < 0 && errno == EINTR) {}
  ::close(process);
  return Done{};
}

}  // namespace souk::worker
