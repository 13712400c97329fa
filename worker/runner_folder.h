// The working folder of the attempt that runs. A part of souk-runner.
#pragma once
#include <climits>
#include <sys/stat.h>

namespace souk::runner {

/// To make and remove a folder costs a journaling file system 60 to 125 us of CPU, to rename one 10. So one that its attempt has not touched is kept, and
/// given to the next under a new name.
class AttemptFolder {
 public:
  /// work: an open directory that outlives this
  explicit AttemptFolder(int work) : work_(work) {}

  /// Makes an empty folder of that name, at most NAME_MAX bytes, by renaming the kept one if there is one. False, and errno, if it cannot.
  bool make(const char* name);
  /// The attempt has ended: removes its folder with all in it, or keeps it if it is as it was made.
  void leave();
  void remove();
  bool is_kept() const { return fd_ >= 0; }
  int fd() const { return fd_; }

 private:
  bool is_untouched() const;

  int work_, fd_ = -1;
  char name_[NAME_MAX + 1];
  struct stat made_{};  // as it was made
};

}  // namespace souk::runner
