#include "worker/leftovers.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace souk {

namespace {

constexpr int kExponentMax = 61, kExponentMin = 48;  // microseconds: 73,000 years to 9
constexpr std::uint64_t kNumbers = 0xffff;           // bits for the number of a runner; none: any of the folder

std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

/// What `/proc/PID/NAME` holds, as far as `size` goes.
std::size_t read_of(long pid, const char* name, char* text, std::size_t size) {
  char path[48];
  snprintf(path, sizeof path, "/proc/%ld/%s", pid, name);
  const int file = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t n = file < 0 ? 0 : read(file, text, size - 1);
  if (file >= 0) close(file);
  if (n < 0) n = 0;
  text[n] = 0;
  return static_cast<std::size_t>(n);
}

bool lives_and_carries(long pid, std::uint64_t mark) {
  const std::uint64_t ignored = (mark & kNumbers) == 0 ? kNumbers : 0;
  char text[4096];
  read_of(pid, "limits", text, sizeof text);
  const char* line = strstr(text, "Max realtime timeout");
  if (line == nullptr) return false;
  char* end = nullptr;
  const auto soft = std::strtoull(line + strlen("Max realtime timeout"), &end, 10);
  if ((soft & ~ignored) != mark && (std::strtoull(end, nullptr, 10) & ~ignored) != mark) return false;  // the soft limit is a task's to lower
  read_of(pid, "stat", text, sizeof text);
  const char* after_name = strrchr(text, ')');
  return after_name == nullptr || (after_name[1] != 0 && after_name[2] != 'Z');
}

}  // namespace

std::uint64_t mark_of(int file) {
  struct stat status {};
  rlimit now{};
  if (fstat(file, &status) != 0 || getrlimit(RLIMIT_RTTIME, &now) != 0) return 0;
  // A worker that is itself a task of a worker has a limit, and can only go below it.
  int exponent = kExponentMax;
  while (exponent >= kExponentMin && now.rlim_max != RLIM_INFINITY && (std::uint64_t{2} << exponent) > now.rlim_max) --exponent;
  if (exponent < kExponentMin) return 0;
  const std::uint64_t hash = mixed(static_cast<std::uint64_t>(status.st_ino) ^ mixed(static_cast<std::uint64_t>(status.st_dev)));
  return (std::uint64_t{1} << exponent) | (hash & ((std::uint64_t{1} << exponent) - 1) & ~kNumbers);
}

std::uint64_t mark_of_runner(std::uint64_t mark, std::uint64_t number) { return mark == 0 ? 0 : mark | (1 + (number - 1) % kNumbers); }

void carry_mark(std::uint64_t mark) {
  if (mark == 0) return;
  const rlimit limit{mark, mark};
  setrlimit(RLIMIT_RTTIME, &limit);
}

std::vector<pid_t> kill_marked(std::uint64_t mark, int rounds) {
  std::vector<pid_t> living;
  for (int round = 0; mark != 0 && round < rounds; ++round) {
    living.clear();
    DIR* const proc = opendir("/proc");
    if (proc == nullptr) break;
    while (const dirent* entry = readdir(proc)) {
      const long pid = std::strtol(entry->d_name, nullptr, 10);
      if (pid <= 1 || pid == getpid() || !lives_and_carries(pid, mark)) continue;
      const int process = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
      if (process < 0) continue;
      if (lives_and_carries(pid, mark)) {  // the number is still its own
        syscall(SYS_pidfd_send_signal, process, SIGKILL, nullptr, 0);
        living.push_back(static_cast<pid_t>(pid));
      }
      close(process);
    }
    closedir(proc);
    if (living.empty()) break;
    usleep(5000);  // what forks faster than it dies is left to the kernel's mercy
  }
  return living;
}

void adopt_orphans(bool adopt) { prctl(PR_SET_CHILD_SUBREAPER, adopt ? 1 : 0); }

bool kill_adopted(const std::vector<pid_t>& ours, int rounds) {
  for (int round = 0; round < rounds; ++round) {
    bool found = false;
    DIR* const threads = opendir("/proc/self/task");  // the kernel gives them to any thread
    if (threads == nullptr) return true;
    while (const dirent* entry = readdir(threads)) {
      const long thread = std::strtol(entry->d_name, nullptr, 10);
      char name[64], text[16 << 10];
      snprintf(name, sizeof name, "task/%ld/children", thread);
      if (thread <= 0 || read_of(getpid(), name, text, sizeof text) == 0) continue;
      char* at = text;
      for (long pid; (pid = std::strtol(at, &at, 10)) > 0;) {
        const auto child = static_cast<pid_t>(pid);
        if (std::find(ours.begin(), ours.end(), child) != ours.end() || getsid(child) == getsid(0)) continue;  // what this program started itself has its session, but for runners
        found = true;
        kill(child, SIGKILL);
        waitpid(child, nullptr, WNOHANG | __WALL);
      }
    }
    closedir(threads);
    if (!found) return true;
    usleep(5000);
  }
  return false;
}

}  // namespace souk
