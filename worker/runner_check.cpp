#include "worker/runner_check.h"

#include <cerrno>
#include <cstdio>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace souk::runner {
namespace {

bool can_make(const char* file) {
  const int fd = open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd < 0) return false;
  close(fd);
  unlink(file);
  return true;
}

bool has_capabilities() {
  __user_cap_header_struct head{_LINUX_CAPABILITY_VERSION_3, 0};
  __user_cap_data_struct sets[2]{};
  return syscall(SYS_capget, &head, sets) != 0 || (sets[0].effective | sets[0].permitted | sets[1].effective | sets[1].permitted) != 0;
}

}  // namespace

int check_sandbox() {
  struct Promise {
    bool holds;
    const char* text;
  };
  const Promise promises[] = {
      {getpid() == 1, "no PID namespace of its own"},
      {prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1, "programs may gain privileges"},
      {prctl(PR_GET_SECCOMP, 0, 0, 0, 0) == 2, "system calls are not filtered"},
      {!has_capabilities(), "it has capabilities"},
      {unshare(CLONE_NEWUSER) != 0, "it can make namespaces"},
      {ptrace(PTRACE_TRACEME, 0, 0, 0) != 0, "it can trace processes"},
      {socket(AF_PACKET, SOCK_DGRAM, 0) < 0 && socket(40 /* AF_VSOCK */, SOCK_STREAM, 0) < 0, "it can open sockets of any kind"},
      {!can_make("/souk-check") && !can_make("/usr/souk-check") && !can_make("/etc/souk-check") && !can_make("/dev/souk-check"), "the system is not read-only"},
      {can_make("./souk-check"), "its folder cannot be written to"},
      {can_make("/tmp/souk-check") && can_make("/dev/shm/souk-check"), "its /tmp cannot be written to"},
      {access("/proc/self/stat", R_OK) == 0, "it has no /proc"},
  };
  int number = 0;
  for (const Promise& promise : promises) {
    ++number;
    if (promise.holds) continue;
    fprintf(stderr, "in the sandbox %s\n", promise.text);
    return number + 10;
  }
  return 0;
}

}  // namespace souk::runner
