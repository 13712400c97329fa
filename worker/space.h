// What a folder takes on disk, found out a little at a time. Used by souk-runner, and so without the C++ library.
#pragma once
#include <cstdint>

namespace souk {

/// One walk through a folder and all in it, without following links or entering mounts. A process has one at a time: what it needs for it is static.
class SpaceWalk {
 public:
  SpaceWalk() = default;
  SpaceWalk(const SpaceWalk&) = delete;
  ~SpaceWalk() { end(); }

  /// Begins anew with what lies in the open directory.
  void begin(int folder);
  bool is_under_way() const { return depth_ >= 0; }
  /// Looks at so many entries more. yields: true when the walk has ended, as it has before any begin()
  bool step(std::uint64_t entries_max);
  /// Gives up, and closes what it has open.
  void end();

  std::uint64_t bytes = 0;    // so far; a file with several names counts once
  std::uint64_t entries = 0;  // so far; each name
  /// There are folders that it could not look into, or that lie deeper than 64, or more files with several names than it knows apart: not counted.
  bool hides = false;

 private:
  void open(int parent, const char* name);

  int depth_ = -1;
};

}  // namespace souk
