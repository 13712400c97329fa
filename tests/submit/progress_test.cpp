#include "submit/progress.h"

#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <fcntl.h>

#include "protocol/grid.pb.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

constexpr Instant at(Duration time) { return Instant{1000s + time}; }

wire::JobStatus status(std::uint64_t tasks, std::uint64_t succeeded, std::uint64_t failed = 0, std::uint64_t running = 2) {
  wire::JobStatus job;
  job.set_job(12);
  job.set_tasks(tasks);
  job.set_succeeded(succeeded);
  job.set_failed(failed);
  job.set_running(running);
  job.set_state(succeeded + failed == tasks ? (failed ? wire::FAILED : wire::SUCCEEDED) : wire::RUNNING);
  return job;
}

std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

TEST(Rate, IsUnknownUntilTwoCounts) {
  Rate rate;
  EXPECT_EQ(rate.per_second(at(0s)), 0);
  rate.note(at(0s), 0);
  EXPECT_EQ(rate.until(100, at(1s)), std::nullopt);
  rate.note(at(2s), 20);
  EXPECT_DOUBLE_EQ(rate.per_second(at(2s)), 10);
  EXPECT_EQ(rate.until(50, at(2s)), Duration(5s));
}

TEST(Rate, ForgetsHowFastItOnceWas) {
  Rate rate;
  for (int s = 0; s <= 20; ++s) rate.note(at(s * 1s), static_cast<std::uint64_t>(s) * 100);
  for (int s = 21; s <= 60; ++s) rate.note(at(s * 1s), 2000 + static_cast<std::uint64_t>(s - 20));
  EXPECT_NEAR(rate.per_second(at(60s)), 1.0, 0.1);
}

TEST(Rate, FallsWhileNothingEnds) {
  Rate rate;
  rate.note(at(0s), 0);
  rate.note(at(1s), 10);
  rate.note(at(5s), 10);
  EXPECT_DOUBLE_EQ(rate.per_second(at(10s)), 1.0);
}

TEST(Rate, OfASlowJobSurvivesTheWindow) {
  Rate rate;
  rate.note(at(0s), 0);
  rate.note(at(100s), 1);
  rate.note(at(200s), 2);
  EXPECT_GT(rate.per_second(at(200s)), 0);
}

TEST(Progress, BarTellsEverythingWhereThereIsRoom) {
  Rate rate;
  rate.note(at(0s), 0);
  rate.note(at(5s), 600);
  auto job = status(1000, 597, 3, 8);
  job.set_name("sim");
  const auto wide = progress_bar(job, rate, at(5s), 5s, {.width = 120, .unicode = false});
  EXPECT_EQ(wide, "sim [########################----------------] 60% 600/1000, 3 failed, 8 running, 4s left, 120/s");
}

TEST(Progress, BarFitsEveryWidth) {
  Rate rate;
  rate.note(at(0s), 0);
  rate.note(at(5s), 600);
  auto job = status(1'000'000, 600'000, 12'345, 4096);
  job.set_name("a name that is quite long, \xc3\xa9ven");
  for (const bool unicode : {false, true})
    for (int width = 1; width < 200; ++width) {
      const auto bar = progress_bar(job, rate, at(5s), 5s, {.width = width, .unicode = unicode});
      EXPECT_LE(columns(bar), static_cast<std::size_t>(std::max(width - 1, 1))) << width << " " << bar;
      EXPECT_LE(columns(upload_bar(1 << 20, 64 << 20, {.width = width, .unicode = unicode})), static_cast<std::size_t>(std::max(width - 1, 1)));
    }
}

TEST(Progress, BarIsNeverFullBeforeTheEnd) {
  EXPECT_NE(progress_bar(status(100'000, 99'999), {}, at(0s), 1s, {}).find("99%"), std::string::npos);
  EXPECT_NE(progress_bar(status(100'000, 100'000), {}, at(0s), 1s, {}).find("100%"), std::string::npos);
}

TEST(Progress, WhatDoesNotRunSaysWhy) {
  auto one = status(1, 0, 0, 0), many = status(10, 3, 0, 0);
  one.set_note("waits for job 7"), many.set_note("waits for job 7");
  EXPECT_EQ(progress_bar(one, {}, at(0s), 12s, {}), "job 12 waits for job 7, 12s");
  EXPECT_NE(progress_bar(many, {}, at(0s), 12s, {.width = 120}).find("3/10, waits for job 7, 12s"), std::string::npos);
  EXPECT_EQ(progress_words(many, {}, at(0s)), "job 12: 3 of 10 done, waits for job 7");
  many.set_held(true);
  EXPECT_EQ(progress_words(many, {}, at(0s)), "job 12: 3 of 10 done, held");
  EXPECT_EQ(progress_words(status(10, 3, 0, 0), {}, at(0s)), "job 12: 3 of 10 done, 0 running");
}

TEST(Progress, OneTaskHasNoShare) {
  EXPECT_EQ(progress_bar(status(1, 0, 0, 1), {}, at(0s), 12s, {}), "job 12 running, 12s");
  EXPECT_EQ(progress_bar(status(1, 0, 0, 0), {}, at(0s), 12s, {}), "job 12 waiting, 12s");
}

TEST(Progress, WordsForALog) {
  Rate rate;
  rate.note(at(0s), 0);
  rate.note(at(5s), 600);
  EXPECT_EQ(progress_words(status(1000, 597, 3, 8), rate, at(5s)), "job 12: 600 of 1000 done, 3 failed, 8 running, 120/s, about 4s left");
  EXPECT_EQ(progress_words(status(10, 0, 0, 0), {}, at(0s)), "job 12: 0 of 10 done, 0 running");
}

/// What a Progress wrote, read back from the other end.
class Screen {
 public:
  static Screen pipe() {
    int ends[2];
    EXPECT_EQ(::pipe2(ends, O_NONBLOCK), 0);
    return Screen(ends[0], ends[1]);
  }
  static Screen terminal(unsigned short width) {
    const int master = ::posix_openpt(O_RDWR | O_NOCTTY | O_NONBLOCK);
    EXPECT_EQ(::grantpt(master), 0);
    EXPECT_EQ(::unlockpt(master), 0);
    const int slave = ::open(::ptsname(master), O_RDWR | O_NOCTTY);
    winsize size{24, width, 0, 0};
    EXPECT_EQ(::ioctl(slave, TIOCSWINSZ, &size), 0);
    return Screen(master, slave);
  }
  Screen(int read_end, int write_end) : read_(read_end), fd(write_end) {}
  Screen(const Screen&) = delete;
  ~Screen() { ::close(read_); ::close(fd); }
  std::string text() const {
    std::string all;
    char some[4096];
    for (ssize_t n; (n = ::read(read_, some, sizeof some)) > 0;) all.append(some, static_cast<std::size_t>(n));
    return all;
  }

 private:
  int read_;

 public:
  const int fd;
};

TEST(Progress, IsSilentWhenNotWanted) {
  const auto screen = Screen::pipe();
  Progress progress(screen.fd, false, at(0s));
  progress.job(status(10, 5), at(10s));
  progress.finish(status(10, 10), at(11s));
  EXPECT_EQ(screen.text(), "");
}

TEST(Progress, WritesALineNowAndThenWhereThereIsNoTerminal) {
  const auto screen = Screen::pipe();
  Progress progress(screen.fd, true, at(0s));
  for (int tenth = 0; tenth <= 120; ++tenth) progress.job(status(1000, static_cast<std::uint64_t>(tenth)), at(tenth * 100ms));
  const auto text = screen.text();
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2) << text;  // after 5 s and 10 s
  EXPECT_EQ(text.find('\r'), std::string::npos);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  progress.finish(status(1000, 1000), at(13s));
  EXPECT_EQ(screen.text(), "souk: job 12: all 1000 tasks succeeded\n");
}

TEST(Progress, DrawsOverItselfOnATerminal) {
  ::setenv("TERM", "xterm", 1);
  const auto screen = Screen::terminal(60);
  Progress progress(screen.fd, true, at(0s));
  EXPECT_TRUE(progress.on_terminal());
  progress.job(status(10, 1), at(50ms));
  EXPECT_EQ(screen.text(), "") << "too early: a quick job must not flicker";
  progress.job(status(10, 5), at(300ms));
  const auto drawn = screen.text();
  EXPECT_TRUE(drawn.starts_with("\r")) << drawn;
  EXPECT_NE(drawn.find("50%"), std::string::npos);
  EXPECT_EQ(drawn.find('\n'), std::string::npos);
  progress.job(status(10, 6), at(350ms));
  EXPECT_EQ(screen.text(), "") << "at most every 100 ms";
  progress.hide();
  EXPECT_EQ(screen.text(), "\r\x1b[K");
  progress.printed('x');
  progress.tick(at(500ms));
  EXPECT_TRUE(screen.text().starts_with("\r\n\r")) << "a task's line without its end keeps its place";
  progress.finish(status(10, 10), at(900ms));
  EXPECT_TRUE(screen.text().ends_with("\n"));
}

TEST(Progress, OfAQuickJobLeavesNoTrace) {
  ::setenv("TERM", "xterm", 1);
  const auto screen = Screen::terminal(60);
  Progress progress(screen.fd, true, at(0s));
  progress.job(status(1, 0), at(10ms));
  progress.finish(status(1, 1), at(20ms));
  EXPECT_EQ(screen.text(), "");
}

}  // namespace
}  // namespace souk
