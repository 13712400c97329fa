#include "worker/space.h"

#include <cerrno>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace souk {
namespace {

constexpr int kDepthMax = 64;                             // open directories at a time
constexpr unsigned kKeyBits = 17, kKeys = 1 << kKeyBits;  // of files with several names
constexpr unsigned kKeysMax = 100'000;                    // more hide something

struct Level {
  int folder;
  long size, at;
  alignas(8) char list[2048];
};

Level levels[kDepthMax];  // zero pages until used, as the next
alignas(4096) std::uint64_t keys[kKeys];

}  // namespace

void SpaceWalk::begin(int folder) {
  end();
  bytes = entries = 0;
  hides = false;
  open(folder, ".");
}

void SpaceWalk::end() {
  for (; depth_ >= 0; --depth_) close(levels[depth_].folder);
  if (known_ != 0) madvise(keys, sizeof keys, MADV_DONTNEED);
  known_ = 0;
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
    if (!S_ISDIR(status.st_mode) && status.st_nlink > 1 && !is_new(status.st_ino)) continue;
    bytes += static_cast<std::uint64_t>(status.st_blocks) * 512;
    if (S_ISDIR(status.st_mode)) open(level.folder, name);
  }
  if (depth_ >= 0) return false;
  end();
  return true;
}

bool SpaceWalk::is_new(std::uint64_t inode) {
  for (std::uint64_t at = inode * 0x9E3779B97F4A7C15u >> (64 - kKeyBits);; ++at) {
    std::uint64_t& place = keys[at % kKeys];
    if (place == inode + 1) return false;  // 0: nothing
    if (place != 0) continue;
    if (known_ == kKeysMax) {
      hides = true;
      return false;
    }
    ++known_;
    place = inode + 1;
    return true;
  }
}

}  // namespace souk
