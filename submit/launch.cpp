#include "submit/launch.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <boost/process/args.hpp>
#include <boost/process/child.hpp>
#include <boost/process/exe.hpp>
#include <boost/process/extend.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace souk {
namespace {

namespace process = boost::process;

constexpr off_t kLogMax = 8 << 20;

/// What a child does between fork and exec: system calls only.
struct ChildSetup {
  int log, notify;
  pid_t parent;
  bool many_connections;
  template <class Executor>
  void operator()(Executor&) const {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) ::_exit(127);  // it ended before the line above took hold
    ::setsid();                               // no terminal, and no signal that is meant for our group
    for (const int number : {SIGPIPE, SIGINT, SIGTERM, SIGHUP, SIGCHLD}) ::signal(number, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    const int nothing = ::open("/dev/null", O_RDONLY);
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::syscall(SYS_close_range, 3u, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */);
    if (notify >= 0) ::fcntl(notify, F_SETFD, 0);
    if (many_connections) {
      rlimit limit{};
      if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &limit);
      }
    }
  }
};

}  // namespace

Result<Launched> launch(const ProgramPlan& plan) {
  const std::string what = "cannot start " + plan.argv.front();
  rotate_log(plan.log);
  const int log = ::open(plan.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (log < 0) return Error{what, "cannot write " + plan.log.string() + ": " + std::strerror(errno), ""};
  int ends[2] = {-1, -1};
  if (plan.notifies && ::pipe2(ends, O_CLOEXEC) != 0) {
    const int code = errno;
    ::close(log);
    return Error{what, std::strerror(code), ""};
  }
  std::vector<std::string> arguments(plan.argv.begin() + 1, plan.argv.end());
  if (plan.notifies) arguments.insert(arguments.end(), {"--notify-fd", std::to_string(ends[1])});
  std::error_code failure;
  process::child child(process::exe = plan.argv.front(), process::args = arguments, failure,
                       process::extend::on_exec_setup = ChildSetup{log, ends[1], ::getpid(), plan.many_connections});
  ::close(log);
  if (ends[1] >= 0) ::close(ends[1]);
  if (failure) {
    if (ends[0] >= 0) ::close(ends[0]);
    return Error{what, failure.message(), ""};
  }
  const Launched launched{child.id(), ends[0]};
  child.detach();
  return launched;
}

void rotate_log(const std::filesystem::path& log) {
  struct stat facts {};
  if (::stat(log.c_str(), &facts) != 0 || facts.st_size <= kLogMax) return;
  // Copy and cut: its writer keeps the file open, and appends. A line written in between is lost.
  std::error_code failure;
  std::filesystem::copy_file(log, log.string() + ".1", std::filesystem::copy_options::overwrite_existing, failure);
  if (::truncate(log.c_str(), 0) != 0) spdlog::warn("cannot cut log={} why={}", log.string(), std::strerror(errno));
}

}  // namespace souk
