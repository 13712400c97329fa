#include "protocol/log_format.h"

#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/sink.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/one_line.h"

namespace souk {

namespace {

class OneLine final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const std::string line = one_line({message.payload.data(), message.payload.size()}, kLogLineMax);
    out.append(line.data(), line.data() + line.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<OneLine>(); }
};

/// As sd-daemon(3) wants it before a line.
class Priority final : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm&, spdlog::memory_buf_t& out) override {
    const char number = message.level >= spdlog::level::critical ? '2' : message.level == spdlog::level::err ? '3' : message.level == spdlog::level::warn ? '4' : message.level == spdlog::level::info ? '6' : '7';
    const char text[] = {'<', number, '>'};
    out.append(text, text + sizeof text);
  }
  std::unique_ptr<custom_flag_formatter> clone() const override { return std::make_unique<Priority>(); }
};

std::unique_ptr<spdlog::pattern_formatter> formatter(const char* pattern) {
  auto made = std::make_unique<spdlog::pattern_formatter>();
  made->add_flag<OneLine>('*').add_flag<Priority>('j').set_pattern(pattern);
  return made;
}

}  // namespace

bool is_journal(const char* stream, int fd) {
  struct stat status{};
  return stream != nullptr && ::fstat(fd, &status) == 0 && stream == std::to_string(status.st_dev) + ":" + std::to_string(status.st_ino);
}

void set_log_format() {
  spdlog::set_formatter(formatter("%Y-%m-%dT%H:%M:%S.%e %l %*"));
  if (is_journal(std::getenv("JOURNAL_STREAM"), 2)) spdlog::default_logger()->sinks().front()->set_formatter(formatter("%j%l %*"));
}

}  // namespace souk
