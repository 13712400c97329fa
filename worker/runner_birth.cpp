#include "worker/runner_birth.h"

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

namespace souk::runner {
namespace {

/// Returns why it could not. A text without `#!` is run by /bin/sh, as shells do.
int execute(const Birth& birth, const char* program) {
  execve(program, birth.argv, birth.env);
  if (errno != ENOEXEC) return errno;
  const int file = open(program, O_RDONLY | O_CLOEXEC);
  if (file < 0) return errno;
  char start[128];
  const ssize_t n = read(file, start, sizeof start);
  close(file);
  if (n < 0 || memchr(start, 0, static_cast<std::size_t>(n)) != nullptr) return ENOEXEC;  // a program for another machine
  char* const first = birth.argv[0];
  static char shell[] = "/bin/sh";
  birth.argv[0] = const_cast<char*>(program);
  birth.argv[-1] = shell;
  execve(shell, birth.argv - 1, birth.env);
  const int error = errno;
  birth.argv[0] = first;
  return error;
}

[[noreturn]] void become_attempt(Birth& birth) {
  const auto give_up = [&](Failed why, int errno_then) {
    birth.failed = why;
    birth.error = errno_then;
    _exit(127);
  };
  setpgid(0, 0);
  // Both are wishes: a processor that went away, or a level that is not allowed, is no reason not to run.
  if (birth.processors != nullptr) sched_setaffinity(0, birth.processors_size, birth.processors);
  if (birth.nice != 0) setpriority(PRIO_PROCESS, 0, getpriority(PRIO_PROCESS, 0) + birth.nice);
  if (birth.die_with != 0) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != birth.die_with) _exit(127);  // it died before that was set, and nobody would tell us
  }
  if (birth.bounds != nullptr) {
    const auto limit = [](auto what, std::uint64_t most) {
      if (most == 0) return;
      rlimit now{};
      getrlimit(what, &now);
      now.rlim_cur = now.rlim_max = now.rlim_max == RLIM_INFINITY || most < now.rlim_max ? most : now.rlim_max;
      setrlimit(what, &now);
    };
    limit(RLIMIT_DATA, birth.bounds->memory);
    limit(RLIMIT_NPROC, birth.bounds->processes);
    limit(RLIMIT_FSIZE, birth.bounds->file);
    if (birth.bounds->cpu_s != 0) {  // a signal first, then the end
      const rlimit cpu{birth.bounds->cpu_s, birth.bounds->cpu_s + 5};
      setrlimit(RLIMIT_CPU, &cpu);
    }
  }
  if (dup2(birth.input, 0) < 0 || dup2(birth.out, 1) < 0 || dup2(birth.err, 2) < 0) give_up(Failed::descriptors, errno);
  if (fchdir(birth.folder) != 0) give_up(Failed::chdir, errno);
  const char* program = birth.argv[0];
  if (strchr(program, '/') != nullptr) {
    const int error = execute(birth, program);
    give_up(error == ENOENT && access(program, F_OK) == 0 ? Failed::interpreter : error == ENOENT || error == ENOTDIR ? Failed::not_found : Failed::exec, error);
  }
  // The PATH of the task, not of the runner: so not execvpe().
  const char* path = "/usr/local/bin:/usr/bin:/bin";
  for (char** v = birth.env; *v != nullptr; ++v)
    if (strncmp(*v, "PATH=", 5) == 0) path = *v + 5;
  Failed failed = Failed::not_found;
  int error = ENOENT;
  for (const char* from = path;;) {
    const char* to = strchrnul(from, ':');
    const std::size_t folder = static_cast<std::size_t>(to - from), name = strlen(program);
    if (name != 0 && folder + name + 2 <= birth.candidate_size) {
      memcpy(birth.candidate, from, folder);
      std::size_t n = folder;
      if (n != 0) birth.candidate[n++] = '/';  // an empty entry is the current folder
      memcpy(birth.candidate + n, program, name + 1);
      const int found = execute(birth, birth.candidate);
      if (found == ENOENT) {
        if (failed == Failed::not_found && access(birth.candidate, F_OK) == 0) failed = Failed::interpreter, error = found;
      } else if (found == EACCES) {
        if (struct stat s; stat(birth.candidate, &s) == 0 && S_ISREG(s.st_mode)) failed = Failed::exec, error = found;
      } else if (found != ENOTDIR && found != ENAMETOOLONG && found != ELOOP) {
        give_up(Failed::exec, found);
      }
    }
    if (*to == 0) break;
    from = to + 1;
  }
  give_up(failed, error);
  _exit(127);
}

}  // namespace

int be_born(void* birth) { become_attempt(*static_cast<Birth*>(birth)); }

}  // namespace souk::runner
