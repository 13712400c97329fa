#include "protocol/log_format.h"

#include <gtest/gtest.h>
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

namespace souk {
namespace {

using Lines = spdlog::sinks::ringbuffer_sink_mt;

/// JOURNAL_STREAM as systemd sets it for a service whose output is that file.
std::string named(int fd) {
  struct stat status{};
  EXPECT_EQ(::fstat(fd, &status), 0);
  return std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
}

/// A program's logger, first to stderr and then to what its owner asks for, in an environment with that JOURNAL_STREAM.
class Log {
 public:
  explicit Log(const std::string& stream) {
    if (stream.empty()) ::unsetenv("JOURNAL_STREAM");
    else ::setenv("JOURNAL_STREAM", stream.c_str(), 1);
    spdlog::set_default_logger(std::make_shared<spdlog::logger>("program", spdlog::sinks_init_list{to_stderr, kept}));
    set_log_format();
  }
  ~Log() {
    ::unsetenv("JOURNAL_STREAM");
    spdlog::set_default_logger(before_);
  }
  Log(const Log&) = delete;
  Log& operator=(const Log&) = delete;
  std::shared_ptr<Lines> to_stderr = std::make_shared<Lines>(10), kept = std::make_shared<Lines>(10);

 private:
  std::shared_ptr<spdlog::logger> before_ = spdlog::default_logger();
};

TEST(LogFormat, LeavesTheTimeToTheJournalAndTellsItHowBadThingsAre) {
  const Log log(named(STDERR_FILENO));
  spdlog::info("job ended");
  spdlog::warn("disconnected why=\"a\nb\"");
  spdlog::error("cannot write the store");
  const auto lines = log.to_stderr->last_formatted();
  ASSERT_EQ(lines.size(), 3u);
  EXPECT_EQ(lines[0], "<6>info job ended\n");
  EXPECT_TRUE(lines[1].starts_with("<4>warning disconnected why=")) << lines[1];
  EXPECT_EQ(lines[1].find('\n'), lines[1].size() - 1) << "still one line";
  EXPECT_EQ(lines[2], "<3>error cannot write the store\n");
  EXPECT_TRUE(log.kept->last_formatted()[0].starts_with("20")) << "whoever reads it elsewhere has no other clock";
}

TEST(LogFormat, HasTheTimeEverywhereElse) {
  int ends[2];
  ASSERT_EQ(::pipe(ends), 0);
  for (const std::string& stream : {std::string(), named(ends[1]), std::string("nonsense")}) {  // the pipe: of the service that started it, whose stderr is not its own
    const Log log(stream);
    spdlog::info("job ended");
    EXPECT_TRUE(log.to_stderr->last_formatted()[0].starts_with("20")) << stream;
    EXPECT_TRUE(log.to_stderr->last_formatted()[0].ends_with(" info job ended\n"));
  }
  ::close(ends[0]), ::close(ends[1]);
}

}  // namespace
}  // namespace souk
