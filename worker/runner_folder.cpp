#include "worker/runner_folder.h"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/folder.h"

namespace souk::runner {

bool AttemptFolder::make(const char* name) {
  const bool renamed = fd_ >= 0 && renameat2(work_, name_, work_, name, RENAME_NOREPLACE) == 0;
  if (!renamed) {
    remove();
    if (mkdirat(work_, name, 0700) != 0 && !(errno == EEXIST && remove_tree(work_, name) == 0 && mkdirat(work_, name, 0700) == 0)) return false;
    fd_ = openat(work_, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  }
  strcpy(name_, name);
  if (fd_ >= 0 && fstat(fd_, &made_) == 0) return true;
  const int error = errno;
  remove();
  errno = error;
  return false;
}

/// Never written to, and still as it was made. Both looks are needed: the clock of change times is coarse.
bool AttemptFolder::is_untouched() const {
  struct stat now;
  if (fstat(fd_, &now) != 0 || now.st_ctim.tv_sec != made_.st_ctim.tv_sec || now.st_ctim.tv_nsec != made_.st_ctim.tv_nsec ||
      now.st_mode != made_.st_mode || now.st_uid != made_.st_uid || now.st_gid != made_.st_gid || now.st_nlink != made_.st_nlink)
    return false;
  alignas(8) char list[512];
  lseek(fd_, 0, SEEK_SET);
  const long n = syscall(SYS_getdents64, fd_, list, sizeof list);
  for (long at = 0; at < n;) {
    const auto* entry = reinterpret_cast<const dirent64*>(list + at);
    at += entry->d_reclen;
    if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) return false;
  }
  return n > 0;
}

void AttemptFolder::leave() {
  if (!is_untouched()) remove();
}

void AttemptFolder::remove() {
  if (fd_ < 0) return;
  close(fd_);
  fd_ = -1;
  // What stays here (a file made immutable, a mount busy elsewhere) is tried again when the next worker starts.
  remove_tree(work_, name_);
}

}  // namespace souk::runner
