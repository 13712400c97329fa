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
#include <unistd.h>

#include "worker/folder.h"
#include "worker/runner_clock.h"
#include "worker/runner_wire.h"

namespace souk::runner {
namespace {

constexpr std::int64_t kDiskUs = 1'000'000, kMemoryUs = 250'000;  // how often it is looked at
constexpr std::int64_t kFullUs = 5'000'000;                       // how often all files are, though the file system has lost nothing: somebody else may have given back what this one took
constexpr std::int64_t kHiddenUs = 3'000'000;                     // how long it may hide something while this host loses more than the attempt may have
constexpr int kAtEase = 50, kInHurry = 4;                         // a look that took long is not repeated before so many times as long
constexpr unsigned kDescriptorsMax = 200'000;                     // looked at; more hide something
constexpr unsigned kKeys = 8192, kKeysMax = 6000;                 // removed files that are known apart

std::uint64_t keys[kKeys];  // zero pages until used
char text[24 << 10];        // a line of /proc/PID/maps and more: a path, each byte of it as \ooo

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

std::uint64_t available_memory() { return read_whole(open("/proc/meminfo", O_RDONLY | O_CLOEXEC)) ? number_of("\nMemAvailable:") : 0; }

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
  bool exactly = false;                   // what several have in common counts once
  bool hides = false;
  unsigned looked = 0, known = 0;
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

void Watch::begin(std::uint64_t disk, std::uint64_t memory) {
  disk_ = disk, memory_ = memory;
  const std::int64_t now = now_us();
  disk_due_ = memory_due_ = INT64_MAX;
  hides_disk_ = hides_memory_ = 0;
  available_ = 0;
  if (memory != 0) memory_due_ = now + kMemoryUs;
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
    disk_due_ = now + took + (took * kInHurry > kDiskUs ? took * kInHurry : kDiskUs);
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
  if (!gone && now < full_due_) return false;
  std::uint64_t entries = 0;
  const std::uint64_t taken = space_taken(work_, ".", kFilesMax, entries);
  if (taken > disk_ || entries > kFilesMax) return true;
  Held held;
  look_at_all(held, false);
  if (taken + held.disk > disk_ || entries + held.files > kFilesMax) return true;
  const std::int64_t took = now_us() - now;
  full_due_ = now + took + (took * kAtEase > kFullUs ? took * kAtEase : kFullUs);
  if (!gone || !held.hides) hides_disk_ = 0;
  else if (hides_disk_ == 0) hides_disk_ = now;
  return hides_disk_ != 0 && now - hides_disk_ >= kHiddenUs;
}

/// Of memory in files and that of processes what is more: what is in both is not counted twice.
bool Watch::fills_memory(std::int64_t now) {
  if (available_ == 0) available_ = available_memory();
  bool hides = false;
  for (const bool exactly : {false, true}) {
    Held held;
    held.exactly = exactly;
    look_at_all(held, true);
    const std::uint64_t in_files = held.memory_files + shared_memory();
    hides = held.hides;
    if (held.own + (held.shared > in_files ? held.shared : in_files) <= memory_) break;
    if (exactly) return true;
  }
  const std::uint64_t available = hides ? available_memory() : available_;
  if (available >= available_ || available_ - available <= memory_) hides_memory_ = 0;
  else if (hides_memory_ == 0) hides_memory_ = now;
  return hides_memory_ != 0 && now - hides_memory_ >= kHiddenUs;
}

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
  // When all descriptors are known: mapped files that none of them is of.
  if (!at_memory && !held.hides) {
    lseek(proc, 0, SEEK_SET);
    for_numbers(proc, [&](long pid) {
      if (pid != 1 && !held.hides) held.hides = is_hidden_file_mapped(proc, pid);
    });
  }
  close(proc);
  if (held.known != 0) memset(keys, 0, sizeof keys);
}

void Watch::look_at(int proc, long pid, Held& held, bool at_memory) {
  if (at_memory) {
    if (held.exactly && read_whole(open_below(proc, pid, "smaps_rollup", 0)) && strstr(text, "\nPss_Anon:") != nullptr) {
      held.own += number_of("\nPss_Anon:") + number_of("\nSwapPss:");
      held.shared += number_of("\nPss_Shmem:");
    } else if (read_whole(open_below(proc, pid, "status", 0))) {  // also of those that nobody may look into
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
  if (!is_new(static_cast<std::uint64_t>(status.st_ino) * 2 + in_memory, held)) return;
  const std::uint64_t bytes = static_cast<std::uint64_t>(status.st_blocks) * 512;
  if (in_memory) {
    held.memory_files += bytes;
  } else {
    held.disk += bytes;
    ++held.files;
  }
}

bool Watch::is_new(std::uint64_t key, Held& held) {
  for (std::uint64_t at = key * 0x9E3779B97F4A7C15u >> 51;; ++at) {
    std::uint64_t& place = keys[at % kKeys];
    if (place == key + 2) return false;  // 0: nothing
    if (place != 0) continue;
    if (held.known == kKeysMax) {
      held.hides = true;
      return false;
    }
    ++held.known;
    place = key + 2;
    return true;
  }
}

/// A removed file of its own, which is mapped and not open any more: nobody can tell how large it is.
bool Watch::is_hidden_file_mapped(int proc, long pid) {
  const int maps = open_below(proc, pid, "maps", 0);
  if (maps < 0) return false;
  bool found = false;
  std::size_t size = 0;
  for (ssize_t n; !found && (n = read(maps, text + size, sizeof text - 1 - size)) > 0;) {
    size += static_cast<std::size_t>(n);
    char* line = text;
    for (char* end; !found && (end = static_cast<char*>(memchr(line, '\n', static_cast<std::size_t>(text + size - line)))) != nullptr; line = end + 1) {
      constexpr char kRemoved[] = " (deleted)";
      constexpr std::size_t kLength = sizeof kRemoved - 1;
      *end = 0;
      if (end - line <= static_cast<std::ptrdiff_t>(kLength) || strcmp(end - kLength, kRemoved) != 0) continue;
      unsigned long inode = 0;
      int path = 0;
      if (sscanf(line, "%*s %*s %*s %*s %lu %n", &inode, &path) != 1 || path == 0 || strncmp(line + path, "/work/", 6) != 0) continue;
      found = true;
      for (std::uint64_t at = std::uint64_t{inode} * 2 * 0x9E3779B97F4A7C15u >> 51; keys[at % kKeys] != 0; ++at)
        if (keys[at % kKeys] == std::uint64_t{inode} * 2 + 2) found = false;
    }
    size = static_cast<std::size_t>(text + size - line);
    memmove(text, line, size);
    if (size == sizeof text - 1) size = 0;  // no line is so long
  }
  close(maps);
  return found;
}

}  // namespace souk::runner
