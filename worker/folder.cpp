#include "worker/folder.h"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/runner_clock.h"

namespace souk {
namespace {

constexpr int kDepthMax = 32;  // open directories at a time; what lies deeper is moved up to the top and removed from there

int open_folder(int parent, const char* name) {
  struct open_how how {};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const long fd = syscall(SYS_openat2, parent, name, &how, sizeof how);
  return static_cast<int>(fd);
}

void allow(int folder, const char* name) {  // chmod follows links; a descriptor of the folder itself does not
  const int fd = openat(folder, name, O_PATH | O_NOFOLLOW | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) return;
  char path[32];
  snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
  chmod(path, 0700);
  close(fd);
}

void detach(int folder, const char* name) {
  char path[300];
  snprintf(path, sizeof path, "/proc/self/fd/%d/%s", folder, name);
  umount2(path, MNT_DETACH | UMOUNT_NOFOLLOW);
}

/// Opens a folder to list it, whatever its permissions; a mount in its place is detached first.
int enter(int folder, const char* name) {
  for (int tries = 0;; ++tries) {
    const int inner = open_folder(folder, name);
    if (inner >= 0 || tries == 3) return inner;
    if (errno == EXDEV) detach(folder, name);
    else if (errno == EACCES) allow(folder, name);
    else return inner;
  }
}

class Remover {
 public:
  Remover(int top, std::int64_t until_us) : top_(top), until_us_(until_us) {}

  /// Removes all entries of the open directory, as far as possible.
  void empty(int folder, int depth) {
    // Entries are removed while they are listed, which some file systems answer by leaving some out: list again until nothing is found.
    for (bool again = true; again;) {
      again = false;
      const unsigned lifted = lifted_;
      lseek(folder, 0, SEEK_SET);
      alignas(8) char list[2048];
      for (long n; (n = syscall(SYS_getdents64, folder, list, sizeof list)) > 0;) {
        for (long at = 0; at < n;) {
          const auto* entry = reinterpret_cast<const struct dirent64*>(list + at);
          at += entry->d_reclen;
          const char* name = entry->d_name;
          if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
          if (is_late()) return;
          if (remove(folder, name, entry->d_type == DT_DIR, depth)) again = true;
        }
      }
      if (folder == top_ && lifted != lifted_) again = true;
    }
  }

  int failure() const { return late_ ? ETIME : failure_; }

 private:
  /// Time is up. The clock is asked now and then only.
  bool is_late() {
    if (late_ || until_us_ == INT64_MAX || ++asked_ % 32 != 1) return late_;
    return late_ = runner::now_us() >= until_us_;
  }

  /// True if the entry is gone from this directory.
  bool remove(int folder, const char* name, bool is_folder, int depth) {
    for (int tries = 0; tries < 4; ++tries) {
      if (unlinkat(folder, name, is_folder ? AT_REMOVEDIR : 0) == 0 || errno == ENOENT) return true;
      switch (errno) {
        case ENOTDIR: is_folder = false; continue;
        case EISDIR: is_folder = true; continue;
        case EBUSY: detach(folder, name); continue;
        case EPERM:  // what unlink says of a directory where the file system does not tell types
        case EACCES:
          if (!is_folder && tries == 1) is_folder = true;
          fchmod(folder, 0700);
          continue;
        case ENOTEMPTY:
        case EEXIST: break;
        default: return keep(errno);
      }
      if (depth >= kDepthMax) return lift(folder, name);
      const int inner = enter(folder, name);
      if (inner < 0) return keep(errno);
      const int before = failure_;
      failure_ = 0;
      empty(inner, depth + 1);
      close(inner);
      const int inside = failure_;
      failure_ = before != 0 ? before : inside;
      if (late_) return false;
      if (unlinkat(folder, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return true;
      if (inside != 0) return false;
    }
    return keep(errno);
  }

  /// Moves a folder to the top, where the next listing finds it.
  bool lift(int folder, const char* name) {
    char to[32];
    for (int tries = 0; tries < 1000; ++tries) {
      snprintf(to, sizeof to, ".lifted-%u", lifted_++);
      if (renameat(folder, name, top_, to) == 0) return true;
      if (errno == EACCES || errno == EPERM) {
        fchmod(folder, 0700);
        fchmod(top_, 0700);
        allow(folder, name);
      } else if (errno == EBUSY) {
        detach(folder, name);
      } else if (errno != EEXIST && errno != ENOTEMPTY) {
        break;
      }
    }
    return keep(errno);
  }

  bool keep(int error) {
    if (failure_ == 0) failure_ = error;
    return false;
  }

  int top_;
  std::int64_t until_us_;
  unsigned asked_ = 0;
  bool late_ = false;
  int failure_ = 0;
  unsigned lifted_ = 0;
};

}  // namespace

int remove_tree(int parent, const char* name, std::int64_t until_us) {
  if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;  // nearly always: the attempt left nothing
  if (errno == ENOTDIR) return unlinkat(parent, name, 0) == 0 || errno == ENOENT ? 0 : errno;
  if (errno == EBUSY) detach(parent, name);
  const int top = enter(parent, name);
  if (top < 0) return errno;
  Remover remover(top, until_us);
  remover.empty(top, 1);
  close(top);
  if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
  return remover.failure() != 0 ? remover.failure() : errno;
}

}  // namespace souk
