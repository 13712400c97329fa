#include "worker/runner_watch.h"

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <initializer_list>
#include <sys/ipc.h>
#include <sys/shm.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/sysinfo.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "worker/number_set.h"
#include "worker/runner_clock.h"
#include "worker/runner_wire.h"

namespace souk::runner {

struct Watch::Mapping {
  dev_t device;
  unsigned long inode;
  const char* path;  // its start
  bool removed;      // true also where the path is too long to see
};

namespace {

constexpr std::int64_t kDiskUs = 1'000'000, kMemoryUs = 250'000;  // how often it is looked at
constexpr std::int64_t kFullUs = 5'000'000;                       // how often all files are, though the file system has lost nothing: somebody else may have given back what this one took
constexpr std::int64_t kHiddenUs = 3'000'000;                     // how long it may hide something while this host loses more than the attempt may have
constexpr std::uint64_t kOthersPart = 8;                          // of what it may have in memory: so little of shared memory comes and goes with others
constexpr int kAtEase = 50, kInHurry = 4;                         // a look that took long is not repeated before so many times as long
constexpr std::uint64_t kEntriesAtOnce = 4096;                    // of folders, some milliseconds: its runner has other things to do
constexpr unsigned kDescriptorsMax = 200'000;                     // looked at; more hide something

NumberSet<13, 6000> removed;  // files, known apart; more hide something
char text[24 << 10];          // more than most lines of /proc/PID/maps: a path, each byte of it as \ooo

/// Calls it with each number that the folder lists.
template <class Each>
void for_numbers(int folder, Each each) {
  alignas(8) char list[2048];
  for (long n; (n = syscall(SYS_getdents64, folder, list, sizeof list)) > 0;)
    for (long at = 0; at < n;) {
      const auto* entry = reinterpret_cast<const dirent64*>(list + at);
      at += entry->d_reclen;
      if (entry->d_name[0] >= '0' && entry->d_name[0] <= '9') each(strtol(entry->d_name, nullptr, 10));
    }
}

int open_below(int folder, long number, const char* what, int flags) {
  char path[64];
  snprintf(path, sizeof path, "%ld/%s", number, what);
  return openat(folder, path, flags | O_RDONLY | O_CLOEXEC);
}

/// The start of a file of /proc, in `text`.
bool read_whole(int file) {
  if (file < 0) return false;
  std::size_t size = 0;
  for (ssize_t n; size < sizeof text - 1 && (n = read(file, text + size, sizeof text - 1 - size)) > 0;) size += static_cast<std::size_t>(n);
  close(file);
  text[size] = 0;
  return size != 0;
}

/// Of a line `NAME   123 kB`, in bytes.
std::uint64_t number_of(const char* name) {
  const char* const at = strstr(text, name);
  return at == nullptr ? 0 : strtoull(at + strlen(name), nullptr, 10) * 1024;
}

/// Memory of this host in files: also of files that only a mapping holds, and of such mappings, whose pages need not be in any process. What of it is in swap cannot be told
/// from the rest there.
std::uint64_t memory_in_files() {
  struct sysinfo host;
  if (sysinfo(&host) != 0) return 0;
  return (static_cast<std::uint64_t>(host.sharedram) + host.totalswap - host.freeswap) * host.mem_unit;
}

/// A file of a process. Where its first thread has ended, that of another one says what the process has.
template <class Tells>
bool tells(int proc, long pid, const char* what, Tells does) {
  if (does(open_below(proc, pid, what, 0))) return true;
  const int tasks = open_below(proc, pid, "task", O_DIRECTORY);
  if (tasks < 0) return false;
  bool done = false;
  for_numbers(tasks, [&](long thread) {
    if (!done && thread != pid) done = does(open_below(tasks, thread, what, 0));
  });
  close(tasks);
  return done;
}

bool read_with(int proc, long pid, const char* what, const char* line) {
  return tells(proc, pid, what, [&](int file) { return read_whole(file) && strstr(text, line) != nullptr; });
}

/// Calls it with each mapped file that the lines of /proc/PID/maps tell. yields: whether there were any lines
template <class Each>
bool for_mappings(int maps, Each each) {
  if (maps < 0) return false;
  const auto tell = [&](const char* line, const char* end, bool whole) {
    constexpr char kRemoved[] = " (deleted)";
    constexpr std::ptrdiff_t kLength = sizeof kRemoved - 1;
    unsigned major = 0, minor = 0;
    unsigned long inode = 0;
    int path = 0;
    if (sscanf(line, "%*s %*s %*s %x:%x %lu %n", &major, &minor, &inode, &path) != 3 || inode == 0 || path == 0) return;
    each({makedev(major, minor), inode, line + path, !whole || (end - line > kLength && strcmp(end - kLength, kRemoved) == 0)});
  };
  bool any = false, told = false;
  std::size_t size = 0;
  for (ssize_t n; (n = read(maps, text + size, sizeof text - 1 - size)) > 0;) {
    any = true;
    size += static_cast<std::size_t>(n);
    char* line = text;
    for (char* end; (end = static_cast<char*>(memchr(line, '\n', static_cast<std::size_t>(text + size - line)))) != nullptr; line = end + 1) {
      *end = 0;
      if (!told) tell(line, end, true);
      told = false;
    }
    size = static_cast<std::size_t>(text + size - line);
    memmove(text, line, size);
    if (size < sizeof text - 1) continue;
    text[size] = 0;
    if (!told) tell(text, text + size, false);
    told = true;
    size = 0;
  }
  close(maps);
  return any;
}

bool is_zombie(int tasks, long thread) {
  if (!read_whole(open_below(tasks, thread, "stat", 0))) return true;
  const char* const after_name = strrchr(text, ')');
  return after_name == nullptr || after_name[1] == 0 || after_name[2] == 'Z' || after_name[2] == 'X';
}

}  // namespace

struct Watch::Held {
  std::uint64_t disk = 0, files = 0;      // of removed files
  std::uint64_t memory_files = 0;
  std::uint64_t own = 0, shared = 0;      // memory of processes
  std::uint64_t grown = 0;                // what this host has more in memory files since it began
  bool exactly = false;                   // what several have in common counts once
  bool hides = false;
  unsigned looked = 0;
};

void Watch::settle(int work, const int (&shared)[2], int memory_file) {
  work_ = work;
  struct stat status{};
  for (int i : {0, 1}) {
    shared_[i] = shared[i];
    if (fstat(shared[i], &status) == 0) shared_on_[i] = status.st_dev;
  }
  if (fstat(memory_file, &status) == 0) memory_files_ = status.st_dev;
}

void Watch::end() {
  walk_.end();
  disk_due_ = memory_due_ = INT64_MAX;
}

void Watch::begin(std::uint64_t disk, std::uint64_t memory) {
  disk_ = disk, memory_ = memory;
  const std::int64_t now = now_us();
  disk_due_ = memory_due_ = INT64_MAX;
  hides_disk_ = hides_memory_ = 0;
  if (memory != 0) memory_due_ = now + kMemoryUs, in_files_ = memory_in_files();
  struct statvfs room;
  if (disk == 0 || fstatvfs(work_, &room) != 0) return;
  free_ = room.f_bfree, files_free_ = room.f_ffree;
  disk_due_ = now + kDiskUs, full_due_ = now + kFullUs;
}

Over Watch::look() {
  std::int64_t now = now_us();
  if (now >= memory_due_) {
    if (fills_memory(now)) return Over::memory;
    const std::int64_t took = now_us() - now;
    memory_due_ = now + took + (took * kInHurry > kMemoryUs ? took * kInHurry : kMemoryUs);
  }
  now = now_us();
  if (now >= disk_due_) {
    if (fills_disk(now)) return Over::disk;
    const std::int64_t took = now_us() - now;
    const std::int64_t pause = walk_.is_under_way() ? 0 : kDiskUs;
    disk_due_ = now + took + (took * kInHurry > pause ? took * kInHurry : pause);
  }
  return Over::nothing;
}

/// First it is asked of the file system, which knows at once whether there was so much since it began.
bool Watch::fills_disk(std::int64_t now) {
  struct statvfs room;
  if (fstatvfs(work_, &room) != 0) return false;
  if (room.f_bfree > free_) free_ = room.f_bfree;
  if (room.f_ffree > files_free_) files_free_ = room.f_ffree;
  const bool gone = (free_ - room.f_bfree) * room.f_frsize > disk_ || files_free_ - room.f_ffree > kFilesMax;
  if (!gone) hides_disk_ = 0;
  if (!gone && now < full_due_ && !walk_.is_under_way()) return false;
  if (!walk_.is_under_way()) walk_.begin(work_), walked_us_ = 0;
  const bool walked = walk_.step(kEntriesAtOnce);
  if (walk_.bytes > disk_ || walk_.entries > kFilesMax) return true;
  if (!walked) {
    walked_us_ += now_us() - now;
    return false;
  }
  Held held;
  look_at_all(held, false);
  held.hides |= walk_.hides;
  if (walk_.bytes + held.disk > disk_ || walk_.entries + held.files > kFilesMax) return true;
  const std::int64_t ended = now_us(), took = walked_us_ + ended - now;
  full_due_ = ended + (took * kAtEase > kFullUs ? took * kAtEase : kFullUs);
  if (!gone || !held.hides) hides_disk_ = 0;
  else if (hides_disk_ == 0) hides_disk_ = now;
  return hides_disk_ != 0 && now - hides_disk_ >= kHiddenUs;
}

/// Of memory in files and that of processes what is more: what is in both is not counted twice. What it hides can only be in files.
bool Watch::fills_memory(std::int64_t now) {
  const std::uint64_t in_files_now = memory_in_files();
  bool hides = false;
  for (const bool exactly : {false, true}) {
    Held held;
    held.exactly = exactly;
    held.grown = in_files_now > in_files_ ? in_files_now - in_files_ : 0;
    look_at_all(held, true);
    const std::uint64_t in_files = held.memory_files + shared_memory();
    hides = held.hides && may_hide_much(held);
    if (held.own + (held.shared > in_files ? held.shared : in_files) <= memory_) break;
    if (exactly) return true;
  }
  if (!hides) hides_memory_ = 0;
  else if (hides_memory_ == 0) hides_memory_ = now;
  return hides_memory_ != 0 && now - hides_memory_ >= kHiddenUs;
}

bool Watch::may_hide_much(const Held& held) const { return held.own + held.grown > memory_ && held.grown > memory_ / kOthersPart; }

/// In /tmp and /dev/shm, and of System V.
std::uint64_t Watch::shared_memory() const {
  std::uint64_t bytes = 0;
  for (int folder : shared_)
    if (struct statvfs room; fstatvfs(folder, &room) == 0) bytes += (room.f_blocks - room.f_bfree) * room.f_frsize;
  shm_info system_v{};
  if (shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&system_v)) >= 0) bytes += (system_v.shm_rss + system_v.shm_swp) * static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

void Watch::look_at_all(Held& held, bool at_memory) {
  const int proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (proc < 0) return;
  for_numbers(proc, [&](long pid) {
    if (pid != 1) look_at(proc, pid, held, at_memory);
  });
  // When all descriptors are known: mapped files that none of them is of. Nobody can tell how large those are.
  if (!held.hides && (!at_memory || may_hide_much(held))) {
    lseek(proc, 0, SEEK_SET);
    for_numbers(proc, [&](long pid) {
      if (pid != 1 && !held.hides) tells(proc, pid, "maps", [&](int maps) { return for_mappings(maps, [&](const Mapping& mapping) { held.hides |= is_hidden(mapping, at_memory); }); });
    });
  }
  close(proc);
  removed.clear();
}

void Watch::look_at(int proc, long pid, Held& held, bool at_memory) {
  if (at_memory) {
    if (held.exactly && read_with(proc, pid, "smaps_rollup", "\nPss_Anon:")) {
      held.own += number_of("\nPss_Anon:") + number_of("\nSwapPss:");
      held.shared += number_of("\nPss_Shmem:");
    } else if (read_with(proc, pid, "status", "\nRssAnon:")) {  // also of those that nobody may look into
      held.own += number_of("\nRssAnon:") + number_of("\nVmSwap:");
      held.shared += number_of("\nRssShmem:");
    }
  }
  const int tasks = open_below(proc, pid, "task", O_DIRECTORY);
  if (tasks < 0) return;
  bool seen = false;
  for_numbers(tasks, [&](long thread) {
    if (seen) return;  // threads have one table of descriptors (sandbox.cpp); that of one that ended is empty
    const int files = open_below(tasks, thread, "fd", O_DIRECTORY);
    if (files < 0) {
      if (errno != ENOENT && errno != ESRCH && !is_zombie(tasks, thread)) held.hides = true;
      return;
    }
    const int about = open_below(tasks, thread, "fdinfo", O_DIRECTORY);
    for_numbers(files, [&](long number) {
      seen = true;
      if (++held.looked > kDescriptorsMax) held.hides = true;
      else look_at_file(files, about, number, held);
    });
    close(files);
    if (about >= 0) close(about);
  });
  close(tasks);
}

void Watch::look_at_file(int files, int about, long number, Held& held) {
  char name[24];
  snprintf(name, sizeof name, "%ld", number);
  struct stat status;
  if (fstatat(files, name, &status, 0) != 0) return;
  if (S_ISSOCK(status.st_mode)) {  // whether there are descriptors in what it has received
    if (!read_whole(openat(about, name, O_RDONLY | O_CLOEXEC))) return;
    const char* const at = strstr(text, "scm_fds:");
    if (at != nullptr && strtol(at + 8, nullptr, 10) > 0) held.hides = true;
    return;
  }
  if (!S_ISREG(status.st_mode) || status.st_nlink != 0 || status.st_dev == shared_on_[0] || status.st_dev == shared_on_[1]) return;
  const bool in_memory = status.st_dev == memory_files_;
  const std::uint64_t file = static_cast<std::uint64_t>(status.st_ino) * 2 + in_memory;
  if (removed.has(file)) return;
  if (!removed.add(file)) {
    held.hides = true;
    return;
  }
  const std::uint64_t bytes = static_cast<std::uint64_t>(status.st_blocks) * 512;
  if (in_memory) {
    held.memory_files += bytes;
  } else {
    held.disk += bytes;
    ++held.files;
  }
}

/// Not of System V: what that has is counted by itself, and no other name of a file in memory starts so.
bool Watch::is_hidden(const Mapping& mapping, bool at_memory) const {
  const bool looks_so = at_memory ? mapping.device == memory_files_ && strncmp(mapping.path, "/SYSV", 5) != 0 : mapping.removed && strncmp(mapping.path, "/work/", 6) == 0;
  return looks_so && !removed.has(std::uint64_t{mapping.inode} * 2 + at_memory);
}

}  // namespace souk::runner
