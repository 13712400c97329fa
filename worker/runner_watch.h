// What an attempt in a sandbox takes of disk and memory in all, which no limit of the kernel's says there. A part of souk-runner.
//
// Counted is also what no folder shows: files that were removed and are still open, memory files, shared memory. What it could hide in (processes that nobody may look
// into, descriptors on their way through a socket, files that are mapped only) is no offence by itself. It is one when it lasts, and this host has lost more
// meanwhile than the attempt may have: of its disk, or of memory to files.
#pragma once
#include <climits>
#include <cstdint>
#include <sys/types.h>

#include "worker/space.h"

namespace souk::runner {

enum class Over : std::uint8_t { nothing, disk, memory };

class Watch {
 public:
  /// work:   the folder that holds all that it may have on disk
  /// shared: its /tmp and /dev/shm
  /// memory_file: one that this process has, to know others by
  void settle(int work, const int (&shared)[2], int memory_file);

  /// An attempt begins, which may have so many bytes; 0: any number, or a control group sees to it.
  void begin(std::uint64_t disk, std::uint64_t memory);
  /// When it is to be looked at next (now_us).
  std::int64_t due() const { return disk_due_ < memory_due_ ? disk_due_ : memory_due_; }
  /// What it has too much of. Takes some milliseconds at most for files of folders: of more it looks at some, and is due again at once.
  Over look();
  /// It has ended: nothing is due, and nothing of its folders is open any more.
  void end();

 private:
  struct Held;
  struct Mapping;
  bool fills_disk(std::int64_t now);
  bool fills_memory(std::int64_t now);
  std::uint64_t shared_memory() const;
  void look_at_all(Held& held, bool at_memory);
  void look_at(int proc, long pid, Held& held, bool at_memory);
  void look_at_file(int files, int about, long number, Held& held);
  bool is_hidden(const Mapping& mapping, bool at_memory) const;
  bool may_hide_much(const Held& held) const;

  int work_ = -1, shared_[2] = {-1, -1};
  dev_t memory_files_ = 0, shared_on_[2] = {0, 0};
  SpaceWalk walk_;
  std::int64_t walked_us_ = 0;  // so far
  std::uint64_t disk_ = 0, memory_ = 0;
  std::uint64_t free_ = 0, files_free_ = 0;  // most that the file system had free since it began
  std::uint64_t in_files_ = 0;               // memory in files that this host had when it began
  std::int64_t disk_due_ = INT64_MAX, memory_due_ = INT64_MAX, full_due_ = 0;
  std::int64_t hides_disk_ = 0, hides_memory_ = 0;  // since when
};

}  // namespace souk::runner
