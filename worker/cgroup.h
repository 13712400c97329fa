// Control groups for sandboxes: the kernel limits memory and processes of an attempt as a whole. Where this process may make none, there are none.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "worker/runner_start.h"

namespace souk {

class ControlGroups {
 public:
  enum class Kind : std::uint8_t { none, v1, v2 };

  /// Looks for a place below which this process may make groups, and makes and removes one to be sure.
  ///  v2: its own group, if it was delegated (systemd: Delegate=yes), with controllers memory and pids. This process and its runners move into a group of their own
  ///      below, since one that has groups with limits may have no processes itself.
  ///  v1: its own groups of the controllers memory and pids.
  /// name: begins the names of all groups, the same in each life of a worker: what an earlier one left is used again
  static ControlGroups find(std::string name, const std::filesystem::path& root = "/sys/fs/cgroup", const std::filesystem::path& self = "/proc/self/cgroup");

  Kind kind() const { return kind_; }
  const std::string& why_not() const { return why_not_; }  // of `none`, for people

  /// A group of one slot.
  class Group {
   public:
    Group() = default;
    /// Whoever writes `0` into these is in it.
    const std::vector<Fd>& doors() const { return doors_; }
    /// Of what is in it together. Memory counts what its /tmp holds. fails: false
    bool limit(std::uint64_t memory, std::uint64_t processes);
    std::uint64_t killed_for_memory() const;  // processes, since the group was made, by whichever life of the worker
    bool exists() const { return !doors_.empty(); }

   private:
    friend class ControlGroups;
    std::filesystem::path memory_, pids_;
    Kind kind_ = Kind::none;
    std::vector<Fd> doors_;
    Fd events_;  // of memory
    std::uint64_t memory_limit_ = ~0ull, pids_limit_ = ~0ull;
  };
  Group make(int slot) const;
  /// Removes all that were made. What is not empty stays.
  void remove_all(int slots) const;

 private:
  std::filesystem::path folder_of(const std::filesystem::path& base, int slot) const;

  Kind kind_ = Kind::none;
  std::string name_, why_not_;
  std::filesystem::path memory_, pids_;  // v2: the same
};

}  // namespace souk
