#include "worker/space.h"

#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "worker/number_set.h"

namespace souk {
namespace {

constexpr int kDepthMax = 64;  // open directories at a time

struct Level {
  int folder;
  long size, at;
  alignas(8) char list[2048];
};

Level levels[kDepthMax];              // zero pages until used
NumberSet<17, 100'000> several_names;  // inodes; more hide something

}  // namespace

void SpaceWalk::begin(int folder) {
  end();
  bytes = entries = 0;
  hides = false;
  open(folder, ".");
}

void SpaceWalk::end() {
  for (; depth_ >= 0; --depth_) close(levels[depth_].folder);
  several_names.clear();
}

void SpaceWalk::open(int parent, const char* name) {
  if (depth_ + 1 == kDepthMax) {
    hides = true;
    return;
  }
  struct open_how how {};
  how.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
  how.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
  const int folder = static_cast<int>(syscall(SYS_openat2, parent, name, &how, sizeof how));
  if (folder >= 0) {
    Level& level = levels[++depth_];
    level.folder = folder, level.size = level.at = 0;
  } else if (errno != ENOENT && errno != ELOOP && errno != ENOTDIR && errno != EXDEV) {  // else it is gone since, or something else stands there, or a mount
    hides = true;
  }
}

bool SpaceWalk::step(std::uint64_t entries_max) {
  while (depth_ >= 0 && entries_max > 0) {
    Level& level = levels[depth_];
    if (level.at == level.size) {
      level.size = syscall(SYS_getdents64, level.folder, level.list, sizeof level.list);
      level.at = 0;
      if (level.size > 0) continue;
      close(level.folder);
      --depth_;
      continue;
    }
    const auto* entry = reinterpret_cast<const struct dirent64*>(level.list + level.at);
    level.at += entry->d_reclen;
    const char* const name = entry->d_name;
    if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) continue;
    ++entries, --entries_max;
    struct stat status;
    if (fstatat(level.folder, name, &status, AT_SYMLINK_NOFOLLOW) != 0) {
      if (errno != ENOENT) hides = true;  // in a folder that may be listed and not entered
      continue;
    }
    if (!S_ISDIR(status.st_mode) && status.st_nlink > 1) {
      if (several_names.has(status.st_ino)) continue;
      if (!several_names.add(status.st_ino)) {
        hides = true;
        continue;
      }
    }
    bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
    if (S_ISDIR(status.st_mode)) open(level.folder, name);
  }
  if (depth_ >= 0) return false;
  end();
  return true;
}

}  // namespace souk
