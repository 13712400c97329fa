// A disk that refuses SQLite's writes, or under which the process dies in the middle of them.
#pragma once
#include <sqlite3.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>

namespace souk {

class WeakDisk {
 public:
  WeakDisk() {
    set("pwrite64", reinterpret_cast<sqlite3_syscall_ptr>(&pwrite_or_not));
    set("pwrite", reinterpret_cast<sqlite3_syscall_ptr>(&pwrite_or_not));
    set("write", reinterpret_cast<sqlite3_syscall_ptr>(&write_or_not));
  }
  ~WeakDisk() {
    for (const char* name : {"pwrite64", "pwrite", "write"}) set(name, nullptr);
    refuses = 0, writes_left = -1;
  }
  static inline std::atomic<int> refuses = 0;       // every write, with this errno; 0: none
  static inline std::atomic<int> writes_left = -1;  // then the process ends as by kill -9; below 0: never

 private:
  static void set(const char* name, sqlite3_syscall_ptr call) {
    sqlite3_vfs* disk = sqlite3_vfs_find(nullptr);
    disk->xSetSystemCall(disk, name, call);
  }
  static bool refused() {
    if (writes_left == 0) ::_exit(9);
    if (writes_left > 0) --writes_left;
    if (refuses == 0) return false;
    errno = refuses;
    return true;
  }
  static ssize_t pwrite_or_not(int file, const void* bytes, size_t size, off_t at) { return refused() ? -1 : ::pwrite(file, bytes, size, at); }
  static ssize_t write_or_not(int file, const void* bytes, size_t size) { return refused() ? -1 : ::write(file, bytes, size); }
};

}  // namespace souk
