#include "submit/output.h"

#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace souk {

Instant now_instant() { return Instant{std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch())}; }

Output::Output(Progress& progress, std::function<bool()> stop)
    : progress_(progress), stop_(std::move(stop)), out_seen_(::isatty(STDOUT_FILENO) == 1), err_seen_(::isatty(STDERR_FILENO) == 1) {}

bool Output::write(int fd, std::string_view bytes) {
  if (bytes.empty()) return true;
  if (fd == STDOUT_FILENO ? out_seen_ : err_seen_) {
    progress_.hide();
    progress_.printed(bytes.back());
  }
  while (!bytes.empty()) {
    const auto sent = ::write(fd, bytes.data(), bytes.size());
    if (sent >= 0) {
      bytes.remove_prefix(static_cast<std::size_t>(sent));
      continue;
    }
    if (errno == EINTR && !stop_()) continue;
    return false;
  }
  return true;
}

void Output::out(std::string_view bytes) {
  buffer_ += bytes;
  if (buffer_.size() >= kBufferMax) flush();
}

void Output::flush() {
  if (buffer_.empty()) return;
  if (!closed_ && !broken() && !write(STDOUT_FILENO, buffer_)) {
    const int code = errno;
    if (code == EPIPE)
      closed_ = true;
    else if (code != EINTR)
      failure_ = {"cannot write the output", std::strerror(code), ""};
  }
  buffer_.clear();
}

void Output::err(std::string_view bytes) {
  flush();
  write(STDERR_FILENO, bytes);  // whoever closed it does not want to know
}

void Output::note(std::string_view text) {
  flush();
  if (!closed_) err("souk: " + std::string(text) + "\n");  // who went away wants no comment either
}

}  // namespace souk
