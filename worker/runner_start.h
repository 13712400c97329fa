// Starts the runner process of a slot. A part of process.cpp.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <sys/types.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "protocol/result.h"

namespace souk {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  ~Fd() { reset(); }
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// The system's words for an errno.
std::string text_of(int error);

/// A memfd with these bytes, read from its start; none, and errno, on failure.
Fd memory_file(const char* name, std::string_view bytes);

/// A runner process and our end of its socket.
struct Runner {
  explicit Runner(boost::asio::io_context& loop) : socket(loop), ended(loop), patience(loop) {}
  ~Runner();
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;
  /// Its Hello has come, with the number of the runner below a guard: takes hold of that.
  void greeted(pid_t below);
  /// Whether it, or its guard, is stopped (SIGSTOP) or held by a tracer, so that it does nothing of what it is for.
  bool is_stopped() const;
  void wake() const;
  /// Kills the runner. A guard lives on, and kills and reaps all that the runner leaves.
  void kill_runner() const;

  boost::asio::posix::stream_descriptor socket, ended;  // the second is its pidfd
  boost::asio::steady_timer patience;                   // how long its end is waited for
  pid_t pid = -1;                                       // -1: reaped
  bool boxed = false;                                   // in a sandbox: `pid` is bwrap, and below it the runner is process 1 of a PID namespace
  std::string folder;                                   // of a sandbox, in the executor's working folder: goes with it
  bool namespaces = false;                              // it is process 1 of its own PID namespace
  bool ready = false;                                   // its Hello has come
  bool only_cleans = false;                             // it runs nothing any more, and removes what others left
  std::uint64_t mark = 0;                               // of it and all below it (leftovers.h)

 private:
  pid_t below_ = -1;  // in a sandbox, or without namespaces: the runner, above which is bwrap or its guard
  Fd below_fd_;       // its pidfd
};

struct Gate;

struct RunnerPlace {
  std::string program, work;  // absolute paths
  int output, lock;           // descriptors that it gets
  const std::vector<std::string>* box = nullptr;  // bwrap with its arguments, up to the runner's: it is started in a sandbox
  int filter = -1;                                // for that
  const Gate* gate = nullptr;
  std::vector<int> doors{};                       // descriptors of control groups that it enters
  std::uint64_t mark = 0;     // that it and all below it carry: of one runner (leftovers.h)
};

/// Starts a runner; it will send a Hello. `namespaces` becomes false if they are not allowed here.
Result<std::shared_ptr<Runner>> start_runner(boost::asio::io_context& loop, const RunnerPlace& place, bool& namespaces);

}  // namespace souk
