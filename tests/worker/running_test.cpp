// Where workers without --work have their folders.
#include <gtest/gtest.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>

#include "worker/running.h"

namespace souk::worker {
namespace {

namespace fs = std::filesystem;

fs::path base_with(const char* cache, const char* home) {
  cache ? setenv("XDG_CACHE_HOME", cache, 1) : unsetenv("XDG_CACHE_HOME");
  home ? setenv("HOME", home, 1) : unsetenv("HOME");
  setenv("XDG_RUNTIME_DIR", "/run/user/1", 1);  // small, and memory
  return default_base();
}

TEST(DefaultBase, IsOnADiskOfThisHost) {
  char host[256] = {};
  ASSERT_EQ(gethostname(host, sizeof host - 1), 0);
  const fs::path fallback = "/var/tmp/souk-" + std::to_string(geteuid());
  EXPECT_EQ(base_with(nullptr, nullptr), fallback);
  EXPECT_EQ(base_with("relative", "/"), fallback);
  struct statfs status {};
  if (statfs("/var/tmp", &status) == 0 && status.f_type != 0x01021994) {
    EXPECT_EQ(base_with("/var/tmp/not-there/cache", nullptr), fs::path("/var/tmp/not-there/cache/souk") / host);
    EXPECT_EQ(base_with(nullptr, "/var/tmp"), fs::path("/var/tmp/.cache/souk") / host);
  }
  if (statfs("/dev/shm", &status) == 0 && status.f_type == 0x01021994) {
    EXPECT_EQ(base_with(nullptr, "/dev/shm/home"), fallback);
  }
}

}  // namespace
}  // namespace souk::worker
