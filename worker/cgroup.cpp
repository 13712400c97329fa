#include "worker/cgroup.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

namespace souk {

namespace fs = std::filesystem;

namespace {

bool write_to(const fs::path& file, const std::string& text) {
  const Fd fd(::open(file.c_str(), O_WRONLY | O_CLOEXEC));
  return fd.get() >= 0 && ::write(fd.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

std::string read_from(const fs::path& file) {
  std::ifstream in(file);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

bool has_word(const std::string& text, const std::string& word, char between) {
  std::istringstream words(text);
  for (std::string one; std::getline(words, one, between);)
    if (one == word || one == word + "\n") return true;
  return false;
}

/// Whether that process is this one or somewhere below it.
bool is_ours(long pid) {
  for (int steps = 0; pid > 1 && steps < 100; ++steps) {
    if (pid == ::getpid()) return true;
    const std::string stat = read_from("/proc/" + std::to_string(pid) + "/stat");
    const auto after_name = stat.rfind(')');
    if (after_name == stat.npos || after_name + 4 >= stat.size()) return false;
    pid = std::strtol(stat.c_str() + after_name + 4, nullptr, 10);
  }
  return false;
}

/// This process and all below it, as far as they are there: runners are started before anybody looks for a sandbox.
bool move_us(const fs::path& from, const fs::path& to) {
  std::istringstream pids(read_from(from / "cgroup.procs"));
  bool good = true;
  for (long pid; pids >> pid;)
    if (is_ours(pid) && !write_to(to / "cgroup.procs", std::to_string(pid))) good = good && errno == ESRCH;
  return good;
}

bool make_folder(const fs::path& path) { return ::mkdir(path.c_str(), 0755) == 0 || errno == EEXIST; }

}  // namespace

ControlGroups ControlGroups::find(std::string name, const fs::path& root, const fs::path& self) {
  ControlGroups groups;
  groups.name_ = std::move(name);
  fs::path memory, pids, unified;
  std::istringstream lines(read_from(self));
  for (std::string line; std::getline(lines, line);) {  // `4:memory:/path`, of v2 `0::/path`
    const auto first = line.find(':'), second = first == line.npos ? line.npos : line.find(':', first + 1);
    if (second == line.npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1), path = line.substr(second + 1);
    if (controllers.empty()) unified = root / fs::path(path).relative_path();
    if (has_word(controllers, "memory", ',')) memory = root / "memory" / fs::path(path).relative_path();
    if (has_word(controllers, "pids", ',')) pids = root / "pids" / fs::path(path).relative_path();
  }
  if (!memory.empty() && !pids.empty()) {
    groups.memory_ = memory, groups.pids_ = pids;
    groups.kind_ = Kind::v1;
    Group tried = groups.make(0);
    const bool good = tried.exists() && tried.limit(1ull << 40, 1000);
    tried = {};
    groups.remove_all(1);
    if (good) return groups;
    groups.why_not_ = "this user may make no control groups below " + memory.string();
  } else if (!unified.empty() && has_word(read_from(unified / "cgroup.controllers"), "memory", ' ')) {
    const fs::path own = unified / "souk-worker";
    // Only from a group that was given to us: else we would take others' processes along.
    const bool moved = make_folder(own) && move_us(unified, own);
    if (moved && write_to(unified / "cgroup.subtree_control", "+memory +pids")) {
      groups.memory_ = groups.pids_ = unified;
      groups.kind_ = Kind::v2;
      Group tried = groups.make(0);
      const bool good = tried.exists() && tried.limit(1ull << 40, 1000);
      tried = {};
      groups.remove_all(1);
      if (good) return groups;
    }
    move_us(own, unified);
    ::rmdir(own.c_str());
    groups.why_not_ = "its control group is not delegated to this user, or others are in it (systemd: Delegate=yes)";
  } else {
    groups.why_not_ = "there are no control groups of memory and processes";
  }
  groups.kind_ = Kind::none;
  return groups;
}

fs::path ControlGroups::folder_of(const fs::path& base, int slot) const { return base / (name_ + "-" + std::to_string(slot)); }

ControlGroups::Group ControlGroups::make(int slot) const {
  Group group;
  group.kind_ = kind_;
  if (kind_ == Kind::none) return group;
  group.memory_ = folder_of(memory_, slot), group.pids_ = folder_of(pids_, slot);
  if (!make_folder(group.memory_) || !make_folder(group.pids_)) return group;
  std::vector<Fd> doors;
  doors.emplace_back(::open((group.memory_ / "cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  if (kind_ == Kind::v1) doors.emplace_back(::open((group.pids_ / "cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC));
  for (const Fd& door : doors)
    if (door.get() < 0) return group;
  group.doors_ = std::move(doors);
  group.events_.reset(::open((group.memory_ / (kind_ == Kind::v2 ? "memory.events" : "memory.oom_control")).c_str(), O_RDONLY | O_CLOEXEC));
  return group;
}

bool ControlGroups::Group::limit(std::uint64_t memory, std::uint64_t processes) {
  constexpr std::uint64_t kOurs = 3;  // bwrap, the runner and a spare one
  if (memory != memory_limit_) {
    const std::string text = memory == 0 ? kind_ == Kind::v2 ? "max" : "-1" : std::to_string(memory);
    const bool v2 = kind_ == Kind::v2;
    // Memory and swap together may not be below memory, and so must go up first and down last. That there is no swap to limit is no failure.
    if (!v2) write_to(memory_ / "memory.memsw.limit_in_bytes", "-1");
    // What the sandbox before had in its /tmp is given back a moment after it ended, and v1 goes no lower than what is taken.
    for (int tries = 0; !write_to(memory_ / (v2 ? "memory.max" : "memory.limit_in_bytes"), text); ::usleep(2000))
      if (errno != EBUSY || ++tries == 10) return false;
    write_to(memory_ / (v2 ? "memory.swap.max" : "memory.memsw.limit_in_bytes"), v2 && memory != 0 ? "0" : text);
    memory_limit_ = memory;
  }
  if (processes != pids_limit_) {
    if (!write_to(pids_ / "pids.max", processes == 0 ? "max" : std::to_string(processes + kOurs))) return false;
    pids_limit_ = processes;
  }
  return true;
}

std::uint64_t ControlGroups::Group::killed_for_memory() const {
  char text[512];
  const ssize_t size = ::pread(events_.get(), text, sizeof text - 1, 0);
  text[size > 0 ? size : 0] = 0;
  const char* const at = std::strstr(text, "oom_kill ");
  return at == nullptr ? 0 : std::strtoull(at + 9, nullptr, 10);
}

void ControlGroups::remove_all(int slots) const {
  if (kind_ == Kind::none) return;
  // Who was killed and reaped is in its group for a moment yet.
  int tries = 250;
  const auto remove = [&](const fs::path& group) {
    while (::rmdir(group.c_str()) != 0 && errno == EBUSY && --tries > 0) ::usleep(2000);
  };
  for (int slot = 0; slot < slots; ++slot) {
    remove(folder_of(memory_, slot));
    if (pids_ != memory_) remove(folder_of(pids_, slot));
  }
}

}  // namespace souk
