// What a worker keeps on disk, with real files: what a life writes, the next one finds, however the first one ended.
#include "worker/spool.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <iterator>

namespace souk::worker {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

Held held(std::uint64_t number, std::uint64_t epoch = 1) { return {AttemptId{Epoch{epoch}, number}, TaskId{JobId{7}, TaskNumber{number}}}; }

std::shared_ptr<const Outcome> outcome(std::string out = "out", std::string err = "") {
  Outcome made;
  made.cause = Cause::signaled;
  made.signal = 9;
  made.why = "why";
  made.wall = 12us;
  made.cpu = 11us;
  made.peak_memory_kib = 10;
  made.out_size = out.size() + 1;
  made.err_size = err.size();
  made.out = std::move(out);
  made.err = std::move(err);
  return std::make_shared<const Outcome>(std::move(made));
}

struct Life {
  explicit Life(const fs::path& folder, const std::string& grid = "grid") {
    auto opened = Spool::open(loop, folder, grid, found);
    if (opened) spool = std::move(opened.value());
    else error = opened.error().text();
    if (spool) spool->on_trouble = [this](const std::string& why) { troubles.push_back(why); };
  }
  std::string numbers() const {
    std::string text;
    for (const auto& result : found.restored.results) text += (text.empty() ? "" : ",") + std::to_string(result.held.attempt.number);
    return text;
  }
  bool until(const std::function<bool()>& done, std::chrono::milliseconds patience = 10s) {
    for (const auto end = std::chrono::steady_clock::now() + patience; !done();) {
      if (std::chrono::steady_clock::now() > end) return false;
      loop.restart();
      loop.run_one_for(20ms);
    }
    return true;
  }
  boost::asio::io_context loop;
  Spool::Found found;
  std::unique_ptr<Spool> spool;
  std::string error;
  std::vector<std::string> troubles;
};

class SpoolTest : public ::testing::Test {
 protected:
  SpoolTest() {
    std::string name = (fs::temp_directory_path() / "souk-spool-XXXXXX").string();
    base = ::mkdtemp(name.data());
    folder = base / "state";
  }
  ~SpoolTest() override {
    std::error_code ignored;
    fs::permissions(folder, fs::perms::owner_all, ignored);
    fs::remove_all(base, ignored);
  }
  /// A life that is killed: in a process of its own, without any goodbye.
  void killed_after(const std::function<void(Spool&)>& what) {
    const pid_t pid = ::fork();
    if (pid == 0) {
      Life life(folder);
      if (!life.spool) ::_exit(1);
      what(*life.spool);
      ::kill(::getpid(), SIGKILL);
    }
    int status = 0;
    ::waitpid(pid, &status, 0);
    ASSERT_TRUE(WIFSIGNALED(status)) << status;
  }
  fs::path file() const {
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().extension() == ".sqlite") return entry.path();
    return {};
  }
  std::vector<fs::path> aside() const {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(folder))
      if (entry.path().string().find(".aside-") != std::string::npos) found.push_back(entry.path());
    return found;
  }
  static std::string bytes(const fs::path& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
  }
  static void sql(const fs::path& path, const std::string& text) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path.c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, text.c_str(), nullptr, nullptr, nullptr), SQLITE_OK) << sqlite3_errmsg(db);
    sqlite3_close(db);
  }

  fs::path base, folder;
};

TEST_F(SpoolTest, TheNextLifeFindsWhatWasWrittenBeforeAKill) {
  killed_after([](Spool& spool) {
    spool.remember(Epoch{4}, JobId{23});
    spool.keep(held(1), outcome("first", "error"));
    spool.keep(held(2, 4), outcome(std::string("\0binary\xff", 8)));
    spool.keep(held(3), outcome());
    if (!spool.write()) ::_exit(2);
    spool.forget(held(3).attempt);
    spool.keep(held(4), outcome());  // nothing asked for this one to be written yet
    if (!spool.write()) ::_exit(2);
    spool.keep(held(5), outcome());
  });
  Life life(folder);
  EXPECT_EQ(life.numbers(), "1,2,4");
  EXPECT_EQ(life.found.restored.epoch, Epoch{4});
  EXPECT_EQ(life.found.restored.jobs_seen, JobId{23});
  const auto& first = life.found.restored.results[0];
  EXPECT_EQ(first.held, held(1));
  EXPECT_EQ(first.outcome->out, "first");
  EXPECT_EQ(first.outcome->err, "error");
  EXPECT_EQ(first.outcome->out_size, 6u);
  EXPECT_EQ(first.outcome->cause, Cause::signaled);
  EXPECT_EQ(first.outcome->signal, 9);
  EXPECT_EQ(first.outcome->why, "why");
  EXPECT_EQ(first.outcome->wall, 12us);
  EXPECT_EQ(first.outcome->cpu, 11us);
  EXPECT_EQ(first.outcome->peak_memory_kib, 10u);
  EXPECT_EQ(life.found.restored.results[1].outcome->out, std::string("\0binary\xff", 8));
}

TEST_F(SpoolTest, WhatNobodyAsksForIsWrittenSoonAndWhatIsForgottenIsGoneSoon) {
  {
    Life life(folder);
    life.spool->keep(held(1), outcome());
    life.spool->keep(held(2), outcome());
    life.until([] { return false; }, Spool::kWriteWithin + 100ms);
    life.spool->forget(held(1).attempt);
    life.until([] { return false; }, Spool::kTidyWithin + 100ms);
    const fs::path copy = base / "copy";  // as it would be after a kill now
    fs::copy(folder, copy);
    Life next(copy);
    EXPECT_EQ(next.numbers(), "2");
  }
  EXPECT_EQ(Life(folder).numbers(), "2");
}

TEST_F(SpoolTest, ALaterResultOfAnAttemptReplacesTheFirst) {
  killed_after([](Spool& spool) {
    spool.keep(held(1), outcome("large"));
    if (!spool.write()) ::_exit(2);
    spool.keep(held(1), outcome("small"));
    if (!spool.write()) ::_exit(2);
  });
  Life life(folder);
  ASSERT_EQ(life.numbers(), "1");
  EXPECT_EQ(life.found.restored.results[0].outcome->out, "small");
}

TEST_F(SpoolTest, LargeStreamsAreKeptWholeAndTheirRoomIsGivenBack) {
  const std::string large(16u << 20, 'x');
  killed_after([&](Spool& spool) {
    for (std::uint64_t n = 1; n <= 2; ++n) spool.keep(held(n), outcome(large, n == 1 ? "" : large));
    if (!spool.write()) ::_exit(2);
  });
  Life life(folder);
  ASSERT_EQ(life.numbers(), "1,2");
  EXPECT_EQ(life.found.restored.results[1].outcome->err, large);
  for (std::uint64_t n = 1; n <= 2; ++n) life.spool->forget(held(n).attempt);
  const auto size = [&] {
    std::uintmax_t sum = 0;
    for (const auto& entry : fs::directory_iterator(folder)) sum += fs::file_size(entry.path());
    return sum;
  };
  EXPECT_TRUE(life.until([&] { return size() < 1u << 20; })) << size();
}

TEST_F(SpoolTest, IsForItsOwnerAndForOneWorkerAtATime) {
  Life life(folder);
  life.spool->keep(held(1), outcome());
  life.spool->write();
  EXPECT_EQ(fs::status(folder).permissions(), fs::perms::owner_all);
  for (const auto& entry : fs::directory_iterator(folder))
    EXPECT_EQ(fs::status(entry.path()).permissions() & (fs::perms::group_all | fs::perms::others_all), fs::perms::none) << entry.path();
  const std::string why = Life(folder).error;
  EXPECT_NE(why.find("another worker uses it"), std::string::npos) << why;
  life.spool.reset();
  EXPECT_EQ(Life(folder).error, "");
}

TEST_F(SpoolTest, TheWorkerOfAFolderKeepsItsSuffixAndCopiesElsewhereGetTheirOwn) {
  const std::string suffix = Life(folder).found.suffix;
  EXPECT_EQ(suffix.size(), 8u);
  EXPECT_EQ(Life(folder).found.suffix, suffix);
  EXPECT_NE(Life(base / "other").found.suffix, suffix);
  sql(file(), "UPDATE meta SET value='another host' WHERE name='host'");
  EXPECT_NE(Life(folder).found.suffix, suffix);
}

TEST_F(SpoolTest, ACopyOnTheSameHostIsKnownAsOneAndTakesAnotherSuffixWhenTold) {
  const auto first = [this] {
    Life life(folder);
    life.spool->keep(held(1), outcome());
    return life.found;
  }();
  EXPECT_FALSE(first.copied);
  fs::copy(folder, base / "copy");
  EXPECT_FALSE(Life(folder).found.copied);
  std::string renamed;
  {
    Life copy(base / "copy");
    EXPECT_TRUE(copy.found.copied);
    EXPECT_EQ(copy.found.suffix, first.suffix) << "it may be all that is left of it";
    EXPECT_EQ(copy.numbers(), "1");
    renamed = copy.spool->rename();
  }
  EXPECT_NE(renamed, first.suffix);
  Life next(base / "copy");
  EXPECT_EQ(next.found.suffix, renamed);
  EXPECT_FALSE(next.found.copied);
  EXPECT_EQ(next.numbers(), "1");
  fs::rename(folder, base / "moved");
  EXPECT_FALSE(Life(base / "moved").found.copied);
}

TEST_F(SpoolTest, ResultsOfAnotherGridStayUntilThatIsServedAgain) {
  {
    Life life(folder, "one");
    life.spool->keep(held(1), outcome());
  }
  EXPECT_EQ(Life(folder, "two").numbers(), "");
  EXPECT_EQ(Life(folder, "one").numbers(), "1");
}

TEST_F(SpoolTest, OneOfANewerVersionIsMovedAsideAsItIs) {
  killed_after([](Spool& spool) {
    spool.keep(held(1), outcome());
    if (!spool.write()) ::_exit(2);
  });
  sql(file(), "PRAGMA wal_checkpoint; PRAGMA user_version=99");
  const std::string before = bytes(file());
  ::testing::internal::CaptureStdout();
  Life life(folder);
  EXPECT_NE(::testing::internal::GetCapturedStdout().find("newer version of Souk (format 99, known here 1)"), std::string::npos);
  EXPECT_EQ(life.error, "");
  EXPECT_EQ(life.numbers(), "");
  ASSERT_FALSE(aside().empty());
  const auto moved = aside();
  EXPECT_TRUE(std::any_of(moved.begin(), moved.end(), [&](const fs::path& path) { return bytes(path) == before; }));
  life.spool->keep(held(2), outcome());
  life.spool->write();
  life.spool.reset();
  EXPECT_EQ(Life(folder).numbers(), "2");
}

TEST_F(SpoolTest, ADamagedOneIsMovedAside) {
  const auto fill = [&] {
    killed_after([](Spool& spool) {
      for (std::uint64_t n = 1; n <= 200; ++n) spool.keep(held(n), outcome(std::string(1000, 'x')));
      if (!spool.write()) ::_exit(2);
    });
    sql(file(), "PRAGMA wal_checkpoint");
  };
  const auto overwrite = [&](std::streamoff at, std::size_t count) {
    std::fstream out(file(), std::ios::in | std::ios::out | std::ios::binary);
    out.seekp(at).write(std::string(count, '\x5a').data(), static_cast<std::streamsize>(count));
  };
  const std::vector<std::function<void()>> damages = {
      [&] { overwrite(0, 100); },
      [&] { overwrite(20000, 40000); },
      [&] { fs::resize_file(file(), 30000); },
      [&] { sql(file(), "UPDATE results SET outcome=x'ffff' WHERE number=50"); },
      [&] { sql(file(), "DROP TABLE results"); },
  };
  for (std::size_t which = 0; which < damages.size(); ++which) {
    SCOPED_TRACE(which);
    fill();
    damages[which]();
    Life life(folder);
    EXPECT_EQ(life.error, "");
    EXPECT_EQ(life.numbers(), "");
    EXPECT_FALSE(aside().empty());
    life.spool.reset();
    fs::remove_all(folder);
  }
}

TEST_F(SpoolTest, IsMadeAnewWhenSomebodyRemovesItMeanwhile) {
  Life life(folder);
  life.spool->remember(Epoch{3}, JobId{1});
  life.spool->keep(held(1), outcome());
  life.spool->write();
  fs::remove_all(folder);
  life.spool->keep(held(2), outcome());
  EXPECT_TRUE(life.spool->write());
  life.spool.reset();
  Life next(folder);
  EXPECT_EQ(next.numbers(), "1,2");  // what was still known went along
  EXPECT_EQ(next.found.restored.epoch, Epoch{3});
  EXPECT_EQ(next.found.suffix, life.found.suffix);
}

TEST_F(SpoolTest, AFolderThatCannotBeWrittenToIsRefusedWithWhatToDo) {
  std::ofstream(base / "file") << "x";
  EXPECT_EQ(Life(base / "file").error.find("cannot keep results in"), 0u);
  const std::string why = Life(base / "file" / "below").error;
  EXPECT_NE(why.find("choose another folder with --state, or --state none"), std::string::npos) << why;
  if (::geteuid() == 0) return;  // root may write everywhere
  fs::create_directories(folder);
  fs::permissions(folder, fs::perms::owner_read | fs::perms::owner_exec);
  EXPECT_NE(Life(folder).error.find("Permission denied"), std::string::npos);
}

TEST_F(SpoolTest, AFullDiskLosesNothingThatIsInMemoryAndGoesOnWhenThereIsSpace) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root mounts";
  fs::create_directories(folder);
  if (::mount("none", folder.c_str(), "tmpfs", 0, "size=1m,mode=700") != 0) GTEST_SKIP() << "mounting is not allowed";
  {
    Life life(folder);
    life.spool->keep(held(1), outcome());
    EXPECT_TRUE(life.spool->write());
    life.spool->keep(held(2), outcome(std::string(2u << 20, 'x')));
    EXPECT_FALSE(life.spool->write());
    ASSERT_EQ(life.troubles.size(), 1u);
    EXPECT_EQ(life.troubles[0], "results cannot be kept on disk: the disk is full");
    life.spool->keep(held(3), outcome());
    EXPECT_FALSE(life.spool->write()) << "not tried at every result";
    life.spool->forget(held(2).attempt);  // the manager has it from memory
    EXPECT_TRUE(life.until([&] { return life.troubles.size() == 2; }));
    EXPECT_EQ(life.troubles.back(), "");
    // And when somebody makes room.
    life.spool->keep(held(4), outcome(std::string(2u << 20, 'x')));
    EXPECT_FALSE(life.spool->write());
    EXPECT_EQ(::mount("none", folder.c_str(), "tmpfs", MS_REMOUNT, "size=16m"), 0);
    EXPECT_TRUE(life.until([&] { return life.troubles.size() == 4; }));
    EXPECT_EQ(life.troubles.back(), "");
  }
  EXPECT_EQ(Life(folder).numbers(), "1,3,4");
  ::umount2(folder.c_str(), MNT_DETACH);
}

TEST_F(SpoolTest, ABatchCostsWellUnderAMillisecond) {
  Life life(folder);
  std::vector<double> took;
  std::uint64_t number = 0;
  for (int batch = 0; batch < 300; ++batch) {
    const std::uint64_t first = number + 1;
    const auto began = std::chrono::steady_clock::now();
    for (int n = 0; n < 10; ++n) life.spool->keep(held(++number), outcome());
    ASSERT_TRUE(life.spool->write());
    for (std::uint64_t n = first; n <= number; ++n) life.spool->forget(held(n).attempt);
    took.push_back(std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count());
  }
  std::sort(took.begin(), took.end());
  std::printf("10 results kept and forgotten: median %.0f us, 99th of 100 %.0f us\n", took[150], took[297]);
  EXPECT_LT(took[150], 1000);
}

}  // namespace
}  // namespace souk::worker
