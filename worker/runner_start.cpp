#include "worker/runner_start.h"

#include <cerrno>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <system_error>
#include <vector>

#include "worker/leftovers.h"
#include "worker/runner_wire.h"
#include "worker/sandbox.h"

namespace souk {
namespace {

// ---- The child, in our memory until it has called exec: only system calls ---------------------------------------------------

struct Birth {
  const char* program;
  const char* work;
  char* const* argv;
  int filter;                // in a sandbox
  const Gate* gate;
  const int* doors;
  std::size_t doors_count;
  int socket, output, lock;  // above all numbers that the child writes to
  std::uint64_t mark;
  volatile int error;
};

#if defined(__clang__) || defined(__GNUC__)
__attribute__((no_sanitize("address", "thread", "undefined")))
#endif
int be_runner(void* p) {
  auto& birth = *static_cast<Birth*>(p);
  const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  if (null < 0 || dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0 || dup2(birth.socket, runner::kSocket) < 0 ||
      dup2(birth.output, runner::kOutput) < 0 || dup2(birth.lock, runner::kLock) < 0 ||
      (birth.filter >= 0 && dup2(birth.filter, kFilterFd) < 0) || chdir(birth.work) != 0) {
    birth.error = errno;
    _exit(127);
  }
  for (std::size_t i = 0; i < birth.doors_count; ++i) {
    if (write(birth.doors[i], "0", 1) == 1) continue;
    birth.error = errno;
    _exit(127);
  }
  carry_mark(birth.mark);
  if (birth.gate != nullptr)
    if (const int failure = pass(*birth.gate); failure != 0) {
      birth.error = failure;
      _exit(127);
    }
  char* none[] = {nullptr};
  execve(birth.program, birth.argv, none);
  birth.error = errno;
  _exit(127);
}

}  // namespace

std::string text_of(int error) { return std::error_code(error, std::system_category()).message(); }

Fd memory_file(const char* name, std::string_view bytes) {
  Fd file(memfd_create(name, MFD_CLOEXEC));
  while (file.get() >= 0 && !bytes.empty()) {
    const ssize_t n = write(file.get(), bytes.data(), bytes.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) {
      const int error = errno;
      file.reset();
      errno = error;
      break;
    }
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  if (file.get() >= 0) lseek(file.get(), 0, SEEK_SET);
  return file;
}

Runner::~Runner() {
  // Not reaped by now means that nothing can kill it: nothing to wait for.
  if (pid > 0) waitpid(pid, nullptr, WNOHANG | __WALL);
}

namespace {

struct ProcessState {
  char letter = 0;  // R, S, D, Z, T, t ... (proc(5)); 0: there is no such process
  pid_t parent = -1;
};

ProcessState state_of(pid_t pid) {
  char path[32], text[512];
  snprintf(path, sizeof path, "/proc/%d/stat", pid);
  const Fd stat(open(path, O_RDONLY | O_CLOEXEC));
  const ssize_t n = stat.get() < 0 ? -1 : read(stat.get(), text, sizeof text - 1);
  text[n > 0 ? n : 0] = 0;
  ProcessState state;
  if (const char* after_name = strrchr(text, ')')) sscanf(after_name + 1, " %c %d", &state.letter, &state.parent);
  return state;
}

}  // namespace

void Runner::greeted(pid_t below) {
  ready = true;
  if (boxed) {  // its own number is 1; ours for it is the only child of bwrap
    char path[64], text[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    const Fd children(open(path, O_RDONLY | O_CLOEXEC));
    const ssize_t n = children.get() < 0 ? -1 : read(children.get(), text, sizeof text - 1);
    text[n > 0 ? n : 0] = 0;
    below = static_cast<pid_t>(strtol(text, nullptr, 10));
  }
  if (namespaces || below <= 0) return;
  Fd process(static_cast<int>(syscall(SYS_pidfd_open, below, 0)));
  if (process.get() < 0 || state_of(below).parent != pid) return;  // it has ended since
  below_ = below;
  below_fd_ = std::move(process);
}

bool Runner::is_stopped() const {
  const auto stopped = [](ProcessState state) { return state.letter == 'T' || state.letter == 't'; };
  if (pid > 0 && stopped(state_of(pid))) return true;
  if (below_ <= 0) return false;
  const ProcessState state = state_of(below_);
  return state.parent == pid && stopped(state);
}

void Runner::wake() const {
  if (pid > 0) kill(pid, SIGCONT);
  if (below_fd_.get() >= 0) syscall(SYS_pidfd_send_signal, below_fd_.get(), SIGCONT, nullptr, 0);
}

void Runner::kill_runner() const {
  if (below_fd_.get() >= 0) syscall(SYS_pidfd_send_signal, below_fd_.get(), SIGKILL, nullptr, 0);
  else if (pid > 0) kill(pid, SIGKILL);
}

Result<std::shared_ptr<Runner>> start_runner(boost::asio::io_context& loop, const RunnerPlace& place, bool& namespaces) {
  const auto failed = [&](int error) { return Error{"cannot start runner '" + place.program + "'", text_of(error), error == EMFILE ? "raise the limit of open files (ulimit -n)" : error == ENOENT ? "install souk-runner beside souk-worker" : ""}; };
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0) return failed(errno);
  Fd ours(pair[0]), theirs(pair[1]);
  // Numbers above those that the child writes to, so that none is overwritten before it was copied.
  const Fd filter(place.filter < 0 ? -1 : fcntl(place.filter, F_DUPFD_CLOEXEC, 10));
  if (place.filter >= 0 && filter.get() < 0) return failed(errno);
  std::vector<char*> boxed;
  char in_sandbox[] = "sandbox";
  if (place.box != nullptr) {
    for (const auto& word : *place.box) boxed.push_back(const_cast<char*>(word.c_str()));
    boxed.insert(boxed.end(), {in_sandbox, nullptr});
  }
  const bool spaces = place.box == nullptr && namespaces;
  Fd socket(fcntl(theirs.get(), F_DUPFD_CLOEXEC, 10)), output(fcntl(place.output, F_DUPFD_CLOEXEC, 10)), lock(fcntl(place.lock, F_DUPFD_CLOEXEC, 10));
  if (socket.get() < 0 || output.get() < 0 || lock.get() < 0) return failed(errno);
  auto started = std::make_shared<Runner>(loop);
  std::vector<char> stack(64 << 10);
  char* top = stack.data() + stack.size();
  top -= reinterpret_cast<std::uintptr_t>(top) % 64;
  char name[] = "souk-runner", in_namespaces[] = "namespaces", as_subreaper[] = "subreaper";
  for (;;) {
    char* argv[] = {name, namespaces ? in_namespaces : as_subreaper, nullptr};
    Birth birth{place.box ? boxed.front() : place.program.c_str(), place.work.c_str(), place.box ? boxed.data() : argv, filter.get(), place.box ? place.gate : nullptr, place.doors.data(), place.doors.size(), socket.get(), output.get(), lock.get(), place.mark, 0};
    // No handler of ours may run in the child; the runner sets a mask of its own.
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int pidfd = -1;
    const pid_t pid = clone(be_runner, top, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | (spaces && namespaces ? CLONE_NEWPID | CLONE_NEWNS : 0) | SIGCHLD, &birth, &pidfd);
    const int error = errno;
    pthread_sigmask(SIG_SETMASK, &before, nullptr);
    if (pid < 0 && spaces && namespaces && error != EAGAIN && error != ENOMEM) {
      namespaces = false;  // not allowed here, or not known
      continue;
    }
    if (pid < 0) return failed(error);
    started->ended.assign(pidfd);
    if (birth.error != 0) {
      waitpid(pid, nullptr, __WALL);
      return failed(birth.error);
    }
    started->pid = pid;
    started->namespaces = spaces && namespaces;
    started->boxed = place.box != nullptr;
    started->mark = place.mark;
    started->socket.assign(ours.release());
    return started;
  }
}

}  // namespace souk
