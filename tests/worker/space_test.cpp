// How much a folder takes, found out a little at a time.
#include "worker/space.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <linux/fs.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>

#include "worker/number_set.h"

namespace souk {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr std::uint64_t kAll = ~std::uint64_t{0}, kMiB = 1 << 20;

/// A folder to walk through. Where root runs the test, who may do everything, an ordinary user walks.
class Space : public testing::Test {
 protected:
  Space() {
    std::string name = (fs::temp_directory_path() / "souk-space-XXXXXX").string();
    if (::mkdtemp(name.data()) == nullptr) std::abort();
    top = name;
    if (::geteuid() == 0 && (::chown(name.c_str(), 65534, 65534) != 0 || ::seteuid(65534) != 0)) std::abort();
    opened = ::open(name.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  }
  ~Space() override {
    ::close(opened);
    for (const char* closed : {"closed", "listed"}) ::chmod((top / closed).c_str(), 0700);
    (void)::seteuid(::getuid());
    fs::remove_all(top);
  }
  void write(const std::string& name, std::uint64_t bytes) { std::ofstream(top / name) << std::string(bytes, 'x'); }

  fs::path top;
  int opened = -1;
  SpaceWalk walk;
};

TEST(NumberSet, KnowsSoManyApart) {
  static NumberSet<4, 10> set;
  for (int time = 0; time < 2; ++time) {
    for (std::uint64_t n = 0; n < 10; ++n) {
      EXPECT_FALSE(set.has(n * n));
      EXPECT_TRUE(set.add(n * n) && set.add(n * n));
    }
    EXPECT_FALSE(set.add(99));
    int had = 0;
    for (std::uint64_t n = 0; n < 100; ++n) had += set.has(n);
    EXPECT_EQ(had, 10);
    set.clear();
  }
}

TEST_F(Space, CountsAFileWithSeveralNamesOnce) {
  write("a", kMiB);
  fs::create_directory(top / "d");
  for (int n = 0; n < 20; ++n) fs::create_hard_link(top / "a", top / "d" / std::to_string(n));
  for (int time = 0; time < 2; ++time) {  // each walk for itself
    walk.begin(opened);
    ASSERT_TRUE(walk.step(kAll));
    EXPECT_GE(walk.bytes, kMiB);
    EXPECT_LT(walk.bytes, 2 * kMiB);
    EXPECT_EQ(walk.entries, 22u);
    EXPECT_FALSE(walk.hides);
  }
}

TEST_F(Space, WhatItMayNotLookIntoIsHiddenAndTakesNothing) {
  std::uint64_t others = 0;
  for (const auto& [name, mode] : {std::pair{"closed", 0}, std::pair{"listed", 0444}}) {
    SCOPED_TRACE(name);
    fs::create_directory(top / name);
    write(std::string(name) + "/a", kMiB);
    ASSERT_EQ(::chmod((top / name).c_str(), static_cast<mode_t>(mode)), 0);
    walk.begin(opened);
    ASSERT_TRUE(walk.step(kAll));
    EXPECT_TRUE(walk.hides);
    EXPECT_LT(walk.bytes, others++ * kMiB + kMiB / 2);
    ::chmod((top / name).c_str(), 0700);
  }
  walk.begin(opened);
  ASSERT_TRUE(walk.step(kAll));
  EXPECT_FALSE(walk.hides) << "forgotten with the walk that met it";
  EXPECT_GE(walk.bytes, 2 * kMiB);
}

TEST_F(Space, OfAVeryDeepTreeTheDepthsAreHidden) {
  fs::path deep = top;
  for (int n = 0; n < 70; ++n) deep /= "d";
  fs::create_directories(deep);
  walk.begin(opened);
  ASSERT_TRUE(walk.step(kAll));
  EXPECT_TRUE(walk.hides);
  EXPECT_LT(walk.bytes, kMiB);
  fs::rename(top / "d/d/d/d/d/d/d/d/d/d", top / "e");
  walk.begin(opened);
  ASSERT_TRUE(walk.step(kAll));
  EXPECT_FALSE(walk.hides);
  EXPECT_EQ(walk.entries, 70u);
}

TEST_F(Space, GoesOnWhereItStopped) {
  for (const char* folder : {"a", "b", "b/c"}) {
    fs::create_directory(top / folder);
    for (int n = 0; n < 300; ++n) write(std::string(folder) + "/" + std::to_string(n), 4096);
  }
  walk.begin(opened);
  ASSERT_TRUE(walk.step(kAll));
  EXPECT_EQ(walk.entries, 903u);
  const std::uint64_t bytes = walk.bytes;
  walk.begin(opened);
  int turns = 0;
  for (bool ended = false; !ended; ++turns) {
    const std::uint64_t before = walk.entries;
    ended = walk.step(7);
    ASSERT_LE(walk.entries, before + 7);
    ASSERT_EQ(walk.is_under_way(), !ended);
  }
  EXPECT_GE(turns, 903 / 7);
  EXPECT_EQ(walk.entries, 903u);
  EXPECT_EQ(walk.bytes, bytes);
  walk.begin(opened);
  EXPECT_FALSE(walk.step(7));
  walk.begin(opened);  // in the middle
  EXPECT_TRUE(walk.step(kAll));
  EXPECT_EQ(walk.bytes, bytes);
}

TEST_F(Space, AFolderThatIsExchangedForALinkIsNotHidden) {
  fs::create_directory(top / "d");
  fs::create_symlink("/", top / "l");
  std::atomic<bool> enough = false;
  std::thread exchanger([&] {
    while (!enough) ::renameat2(opened, "d", opened, "l", RENAME_EXCHANGE);
  });
  const auto until = std::chrono::steady_clock::now() + 1s;
  for (int n = 0; n < 20'000 && std::chrono::steady_clock::now() < until && !walk.hides; ++n) {
    walk.begin(opened);
    walk.step(kAll);
    EXPECT_LE(walk.entries, 3u) << "a link is not followed";
  }
  enough = true;
  exchanger.join();
  EXPECT_FALSE(walk.hides);
}

}  // namespace
}  // namespace souk
