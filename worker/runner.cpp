// souk-runner: runs one attempt after another for one slot of a worker, which starts it and talks to it by runner_wire.h.
// It does with blocking code what the worker's loop must not wait for: spawn, capture, time, kill, sweep, reap, clean up.
//
// A program of its own, static and without the C++ library, because a child starts with the peak memory of the process that spawned it: what this
// program occupies is the least that any task is reported to have used (getrusage(2), `ru_maxrss`).
//
// Nothing of an attempt survives it:
//  - in namespaces this is process 1 of its own PID namespace: kill(-1) reaches all that is left, and the kernel kills the rest when this ends;
//  - in a sandbox (sandbox.h) the same holds, and it sees to it that no task leaves anything for the next;
//  - without, it is a subreaper: orphans become its children. Above it a guard, a fork of it, is a subreaper too, and outlives it. If worker, guard and runner are
//    killed together, the attempt's first process dies with the runner (PR_SET_PDEATHSIG), and the worker, or the next one of the folder, kills what else is left (leftovers.h).
// The worker's end of the socket closes when the worker ends, however that happens: that is the signal to kill everything and go. So that one who is stopped
// notices, the kernel wakes it then (PR_SET_PDEATHSIG again, with SIGCONT): a guard with its worker, a runner with its guard or its worker, a runner once more by its guard.
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <initializer_list>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/ipc.h>
#include <sys/mount.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "worker/folder.h"
#include "worker/runner_birth.h"
#include "worker/runner_check.h"
#include "worker/runner_clock.h"
#include "worker/runner_folder.h"
#include "worker/runner_watch.h"
#include "worker/runner_wire.h"

namespace souk::runner {
namespace {

constexpr std::int64_t kTickUs = 1'000'000;  // how often a long attempt is looked at for orphans that ended
constexpr char kScore[] = "500";             // short of memory, the kernel takes a task before a worker (proc(5), oom_score_adj)
constexpr int kSpareMs = 20;                 // how long a kept folder waits for the next attempt
constexpr std::size_t kProcessorsMax = 8192;  // numbers that a bound attempt may name
constexpr std::size_t kStringsKept = 1024;   // pointers to strings kept in place; more are mapped for the attempt

std::int64_t microseconds(timeval t) { return t.tv_sec * 1'000'000LL + t.tv_usec; }

pid_t guard = 0, runner = 0;  // without namespaces
volatile sig_atomic_t guard_gone = 0;

void note_guard(int) {  // a child that shares our memory for a moment must not speak for us, nor whoever else wakes us
  if (getpid() == runner && getppid() != guard) guard_gone = 1;
}

// ---- Killing whatever is left under this process ---------------------------------------------------------------------------

char buffer[64 << 10];  // for output and lists; zero pages until used

/// Kills every child. In a namespace this is atomic, so that no loop of forks outruns it.
void kill_children() {
  if (getpid() == 1) {
    kill(-1, SIGKILL);
    return;
  }
  const int children = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  if (children >= 0) {
    const ssize_t n = read(children, buffer, sizeof buffer - 1);
    close(children);
    buffer[n > 0 ? n : 0] = 0;
    char* at = buffer;
    for (long pid; (pid = strtol(at, &at, 10)) > 0;) kill(static_cast<pid_t>(pid), SIGKILL);
    return;
  }
  DIR* proc = opendir("/proc");  // a kernel without lists of children
  if (proc == nullptr) return;
  while (const dirent* entry = readdir(proc)) {
    const long pid = strtol(entry->d_name, nullptr, 10);
    if (pid <= 1) continue;
    char path[32];
    snprintf(path, sizeof path, "/proc/%ld/stat", pid);
    const int stat = open(path, O_RDONLY | O_CLOEXEC);
    if (stat < 0) continue;
    const ssize_t n = read(stat, buffer, sizeof buffer - 1);
    close(stat);
    buffer[n > 0 ? n : 0] = 0;
    const char* after_name = strrchr(buffer, ')');  // pid (name) state parent
    if (after_name != nullptr && strlen(after_name) > 4 && strtol(after_name + 4, nullptr, 10) == getpid()) kill(static_cast<pid_t>(pid), SIGKILL);
  }
  closedir(proc);
}

/// Waits until a child may have ended, at most 20 ms.
void await_death() {
  sigset_t child;
  sigemptyset(&child);
  sigaddset(&child, SIGCHLD);
  const timespec most{0, 20'000'000};
  sigtimedwait(&child, nullptr, &most);
}

/// While this lives, a child's end is noted instead of ignored, so that await_death() can wait for it.
class NoteDeaths {
 public:
  NoteDeaths() {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    sigprocmask(SIG_BLOCK, &child, &before_);
  }
  ~NoteDeaths() { sigprocmask(SIG_SETMASK, &before_, nullptr); }
  NoteDeaths(const NoteDeaths&) = delete;
  NoteDeaths& operator=(const NoteDeaths&) = delete;

 private:
  sigset_t before_;
};

// ---- The slot ---------------------------------------------------------------------------------------------------------------

class Slot {
 public:
  Slot(int work, bool has_guard, bool boxed) : work_(work), folder_(work), has_guard_(has_guard), boxed_(boxed), null_(open("/dev/null", O_RDONLY | O_CLOEXEC)) {
    if (boxed) seal();
    const int score = open("/proc/self/oom_score_adj", O_RDWR | O_CLOEXEC);
    if (score < 0) return;
    const ssize_t n = read(score, own_score_, sizeof own_score_ - 1);
    if (n > 0 && strtol(own_score_, nullptr, 10) < strtol(kScore, nullptr, 10)) score_ = score;
    else close(score);
  }

  [[noreturn]] void serve() {
    Hello hello;
    if (has_guard_) hello.pid = getpid();
    if (send(kSocket, &hello, sizeof hello, MSG_NOSIGNAL) < 0) _exit(0);
    while (next_request()) {
      if (request_.kind == Kind::run) {
        Report report;
        report.serial = request_.serial;
        run(report);
        if (send(kSocket, &report, sizeof report, MSG_NOSIGNAL) < 0) break;
        if (report.unclean) leave_unclean();
        if (report.touched) leave_touched();
      } else if (request_.kind == Kind::clean && got_ > sizeof request_) {
        remove_tree(work_, strings());
      }  // a Stop that comes too late names an attempt that has ended
    }
    folder_.remove();
    _exit(0);
  }

 private:
  bool next_request() {
    if (ahead_.serial != 0) {
      request_ = ahead_;
      got_ = ahead_got_;
      memcpy(message_, ahead_message_, got_ + 1);
      given_ = ahead_given_;
      ahead_given_ = Given{};
      ahead_ = Request{};
      return true;
    }
    pollfd waiting{kSocket, POLLIN, 0};
    if (folder_.is_kept() && poll(&waiting, 1, kSpareMs) == 0) folder_.remove();
    return receive(0);
  }

  /// Descriptors that came with a request.
  struct Given {
    int large = -1, input = -1, streams[2] = {-1, -1};  // the last: stdout and stderr that were given

    void close_all() {
      for (int* fd : {&large, &input, &streams[0], &streams[1]})
        if (*fd >= 0) close(*fd), *fd = -1;
    }
  };

  /// Next request; false when the worker is gone. Of one that runs only those may come that hold nothing of what receive() writes over.
  bool receive(int flags) {
    char control[CMSG_SPACE(kGivenMax * sizeof(int))];
    iovec part{message_, sizeof message_ - 1};
    msghdr m{};
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    m.msg_control = control;
    m.msg_controllen = sizeof control;
    ssize_t n;
    do {
      n = recvmsg(kSocket, &m, MSG_CMSG_CLOEXEC | flags);
      if (guard_gone) return false;
    } while (n < 0 && errno == EINTR);
    if (n < 0 && errno == EAGAIN) return true;  // nothing new
    if (n < static_cast<ssize_t>(sizeof request_)) return false;
    got_ = static_cast<std::size_t>(n);
    message_[got_] = 0;
    memcpy(&request_, message_, sizeof request_);
    if (const cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr && c->cmsg_type == SCM_RIGHTS) {
      int given[kGivenMax] = {-1, -1, -1, -1};
      memcpy(given, CMSG_DATA(c), c->cmsg_len - CMSG_LEN(0) < sizeof given ? c->cmsg_len - CMSG_LEN(0) : sizeof given);
      const int* next = given;
      given_ = Given{};
      if (request_.large) given_.large = *next++;
      if (request_.input || request_.streams) given_.input = *next++;
      if (request_.streams) given_.streams[0] = next[0], given_.streams[1] = next[1];
    }
    return true;
  }
  char* strings() { return message_ + sizeof request_; }

  void run(Report& report) {
    const Request request = request_;  // all of it, the strings and the descriptors are written over when something comes while it runs
    with_ = given_;
    given_ = Given{};
    char* text = strings();
    std::size_t mapped = 0, pointers_mapped = 0;
    char** pointers = few_;
    const auto release = [&] {
      with_.close_all();
      if (mapped != 0) munmap(text, mapped);
      if (pointers_mapped != 0) munmap(pointers, pointers_mapped);
      if (mapped != 0 || pointers_mapped != 0) forget_peak();
    };
    if (with_.large >= 0) {
      mapped = request.size;
      void* at = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE, with_.large, 0);
      if (at == MAP_FAILED) {
        mapped = 0;
        fail(report, Failed::message, errno);
        return release();
      }
      text = static_cast<char*>(at);
    }
    const std::size_t count = std::size_t{request.argc} + request.envc + 4;  // one before argv for the shell of a script, one after each list
    if (count > kStringsKept) {
      pointers_mapped = count * sizeof(char*);
      void* at = mmap(nullptr, pointers_mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
      if (at == MAP_FAILED) {
        pointers_mapped = 0;
        fail(report, Failed::message, errno);
        return release();
      }
      pointers = static_cast<char**>(at);
    }
    const bool whole = request.size != 0 && (with_.large >= 0 || (!request.large && got_ == sizeof request + request.size)) && text[request.size - 1] == 0;
    if (!whole || request.argc == 0 || (request.input && with_.input < 0) || (request.streams && with_.streams[1] < 0)) {
      fail(report, Failed::message, EPROTO);
      return release();
    }
    char* const end = text + request.size;
    char* at = text;
    const auto next = [&]() -> char* {
      if (at >= end) return end - 1;  // the NUL byte that ends the last: cannot happen between two halves of one build
      char* one = at;
      at += strlen(at) + 1;
      return one;
    };
    const char* name = next();
    const std::size_t length = strlen(name);  // checked before it is copied
    if (length == 0 || length > NAME_MAX) {
      fail(report, Failed::folder, length == 0 ? EINVAL : ENAMETOOLONG);
      return release();
    }
    read_processors(next());
    argv_ = pointers + 1;
    for (std::uint32_t i = 0; i < request.argc; ++i) argv_[i] = next();
    argv_[request.argc] = nullptr;
    env_ = argv_ + request.argc + 1;
    for (std::uint32_t i = 0; i < request.envc; ++i) env_[i] = next();
    env_[request.envc] = nullptr;

    if (!folder_.make(name)) {
      fail(report, Failed::folder, errno);
    } else {
      attempt(request, report);
      folder_.leave();
      if (boxed_ && !is_untouched()) report.touched = 1;
    }
    release();
  }

  /// `0,2`; nothing: not bound.
  void read_processors(const char* list) {
    pinned_ = *list != 0;
    if (!pinned_) return;
    memset(processors_, 0, sizeof processors_);
    for (char* at; *list != 0; list = *at == ',' ? at + 1 : at) {
      const unsigned long number = strtoul(list, &at, 10);
      if (at == list) break;
      if (number < kProcessorsMax) CPU_SET_S(number, sizeof processors_, processors_);
    }
  }

  /// With a terminal session for each runner, a kernel that groups by session weighs the session, and the level of a process only within it.
  void set_session_nice(int level) {
    if (level == session_nice_) return;
    session_nice_ = level;
    const int group = boxed_ ? autogroup_ : open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    if (group < 0) return;
    char text[16];
    (void)!pwrite(group, text, static_cast<std::size_t>(snprintf(text, sizeof text, "%d", level)), 0);
    if (!boxed_) close(group);
  }

  void set_score(const char* score) const {
    if (score_ >= 0) (void)!pwrite(score_, score, strlen(score), 0);
  }

  static void fail(Report& report, Failed failed, int error) {
    report.failed = failed;
    report.error = error;
  }

  void attempt(const Request& request, Report& report) {
    if (!ready_pipes()) return fail(report, Failed::pipes, errno);
    const int* const out = request.streams ? with_.streams : write_;
    Birth birth{argv_, env_, with_.input >= 0 ? with_.input : null_, out[0], out[1], folder_.fd(), has_guard_ ? getpid() : 0, pinned_ ? processors_ : nullptr, sizeof processors_, boxed_ ? &request : nullptr, request.nice, candidate_, sizeof candidate_, Failed::nothing, 0};
    set_session_nice(request.nice);
    int pidfd = -1;
    paused_us_ = 0;
    const std::int64_t born = now_us();
    watch_.begin(request.disk, request.memory);
    // The child shares our memory until it has called exec, and we sleep that long: no copy of page tables, and its failure is just a variable.
    set_score(kScore);  // inherited
    const pid_t pid = clone(be_born, stack_ + sizeof stack_, CLONE_VM | CLONE_VFORK | CLONE_PIDFD | SIGCHLD, &birth, &pidfd);
    set_score(own_score_);
    if (pid < 0) return fail(report, Failed::clone, errno);
    for (int* fd : {&with_.input, &with_.streams[0], &with_.streams[1]})  // so that their other ends see when it and all below it are gone
      if (request.streams && *fd >= 0) close(*fd), *fd = -1;

    await_end(request, report, pid, pidfd, born);
    watch_.end();
    report.wall_us = now_us() - born - paused_us_;
    close(pidfd);
    kill(-pid, SIGKILL);  // the rest of its group, while the zombie still holds the number
    int status = SIGKILL;  // as wait(2) has it; stays if even that does not end it
    report.unclean = !sweep(pid, &status, report);
    for (int i : {0, 1})  // 64: what could not be killed may write for ever
      for (int n = 0; drain(i, report, request) && !(report.unclean && n == 64); ++n) {}
    if (birth.failed != Failed::nothing) return fail(report, birth.failed, birth.error);
    if (WIFEXITED(status)) report.exit_code = WEXITSTATUS(status);
    else report.signal = WTERMSIG(status);
  }

  // ---- What waits for the end of the attempt that runs
  void put_ahead() {
    ahead_ = request_;
    ahead_got_ = got_;
    memcpy(ahead_message_, message_, got_ + 1);
    ahead_given_ = given_;
    given_ = Given{};
  }

  /// False: the worker is gone.
  bool give_back_ahead() {
    Report report;
    report.serial = ahead_.serial;
    report.recalled = 1;
    ahead_given_.close_all();
    ahead_ = Request{};
    return send(kSocket, &report, sizeof report, MSG_NOSIGNAL) >= 0;
  }

  // ---- Life
  void await_end(const Request& request, Report& report, pid_t pid, int pidfd, std::int64_t born) {
    std::int64_t due = request.limit_us > 0 ? born + request.limit_us : INT64_MAX;
    std::int64_t paused = 0, left_then = INT64_MAX;  // since when, and what was left of its time; a limit counts the time it could run
    bool termed = false;
    const auto signal_all = [pid](int number) { kill(getpid() == 1 ? -1 : -pid, number); };  // in a namespace also what left the group
    const auto resume = [&] {
      if (paused == 0) return;
      signal_all(SIGCONT);
      paused_us_ += now_us() - paused;
      paused = 0;
      if (left_then != INT64_MAX) due = now_us() + left_then;
    };
    const auto end_it = [&](std::uint8_t& why) {
      if (termed) return;
      why = 1;
      termed = true;
      left_then = INT64_MAX;
      if (kill(-pid, SIGTERM) != 0) kill(pid, SIGTERM);  // it may have moved to another group
      resume();
      kill(-pid, SIGCONT);                               // a stopped process would sleep through it
      due = now_us() + request.grace_us;
    };
    pollfd watched[4] = {{pidfd, POLLIN, 0}, {kSocket, POLLIN, 0}, {read_[0], POLLIN, 0}, {read_[1], POLLIN, 0}};
    for (;;) {
      const std::int64_t next = watch_.due() < due ? watch_.due() : due;
      const std::int64_t left = next == INT64_MAX ? kTickUs : next - now_us();
      const int n = poll(watched, 4, left <= 0 ? 0 : static_cast<int>((left < kTickUs ? left + 999 : kTickUs) / 1000));
      if (n > 0 && watched[0].revents != 0) {
        if (paused != 0) paused_us_ += now_us() - paused;
        return;
      }
      if (guard_gone) vanish(pid);
      if (n > 0 && watched[1].revents != 0) {
        if (!receive(MSG_DONTWAIT)) vanish(pid);
        if (request_.kind == Kind::run && request_.serial != 0 && request_.serial != request.serial) put_ahead();
        if (request_.kind == Kind::recall && request_.serial != 0 && request_.serial == ahead_.serial && !give_back_ahead()) vanish(pid);
        if (request_.serial == request.serial) {
          if (request_.kind == Kind::stop) end_it(report.canceled);
          if (request_.kind == Kind::resume) resume();
          if (request_.kind == Kind::pause && !termed && paused == 0) {
            signal_all(SIGSTOP);
            paused = now_us();
            left_then = due == INT64_MAX ? INT64_MAX : due - paused;
            due = INT64_MAX;
          }
        }
        request_.serial = 0;  // done: it is not there again when nothing new came
      }
      for (int i : {0, 1})
        if (n > 0 && watched[2 + i].revents != 0) drain(i, report, request);
      if (n == 0) reap_ended_orphans(pid, report);
      if (watch_.due() != INT64_MAX && now_us() >= watch_.due())
        if (const Over over = watch_.look(); over != Over::nothing) {
          (over == Over::disk ? report.over_disk : report.over_memory) = 1;
          return;  // for sweep() to kill
        }
      if (due != INT64_MAX && now_us() >= due) {
        if (termed) return;  // for sweep() to kill
        end_it(report.timed_out);
      }
    }
  }

  // ---- In a sandbox: what a task could leave for the next one of its job. All else in there cannot be written to, or ends with its processes.

  /// Other processes in here have the same user: they may not look into this one, or write to it. What that forbids to this one too is opened before.
  void seal() {
    refs_ = open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    autogroup_ = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    prctl(PR_SET_DUMPABLE, 0);
    // With the host's network come its abstract sockets, behind which a desktop takes whoever has its user for its owner. Landlock keeps them out, from Linux 6.12 on.
    struct {
      std::uint64_t files, network, scoped;
    } rules{0, 0, 1 /* LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET */};
    const long landlock = syscall(444 /* landlock_create_ruleset */, &rules, sizeof rules, 0);
    if (landlock >= 0) {
      (void)!syscall(446 /* landlock_restrict_self */, landlock, 0);
      close(static_cast<int>(landlock));
    }
    for (int i : {0, 1}) {
      shared_[i] = open(i == 0 ? "/tmp" : "/dev/shm", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
      if (shared_[i] < 0 || fstat(shared_[i], &shared_as_made_[i]) != 0) _exit(1);
    }
    if (fstat(work_, &work_as_made_) != 0) _exit(1);
    watch_.settle(work_, shared_, kOutput);
  }

  /// Nothing in the shared folders was written to, or is there now; the folder of attempts is as it was; no memory, semaphores or messages of System V are left.
  bool is_untouched() const {
    struct stat now;
    for (int i : {0, 1}) {
      const struct stat& then = shared_as_made_[i];
      if (fstat(shared_[i], &now) != 0 || now.st_ctim.tv_sec != then.st_ctim.tv_sec || now.st_ctim.tv_nsec != then.st_ctim.tv_nsec || now.st_size != then.st_size || now.st_nlink != then.st_nlink || now.st_mode != then.st_mode)
        return false;
    }
    if (fstat(work_, &now) != 0 || now.st_mode != work_as_made_.st_mode || now.st_uid != work_as_made_.st_uid || now.st_gid != work_as_made_.st_gid || flistxattr(work_, nullptr, 0) > 0) return false;
    int entries = 0;
    alignas(8) char list[512];
    lseek(work_, 0, SEEK_SET);
    for (long n; (n = syscall(SYS_getdents64, work_, list, sizeof list)) > 0;)
      for (long at = 0; at < n; ++entries) at += reinterpret_cast<const dirent64*>(list + at)->d_reclen;
    if (entries != (folder_.is_kept() ? 3 : 2)) return false;  // with . and ..
    shm_info memory{};
    seminfo semaphores{};
    msginfo messages{};
    shmctl(0, SHM_INFO, reinterpret_cast<shmid_ds*>(&memory));
    semctl(0, 0, SEM_INFO, &semaphores);
    msgctl(0, MSG_INFO, reinterpret_cast<msqid_ds*>(&messages));
    return memory.used_ids == 0 && semaphores.semusz == 0 && messages.msgpool == 0;
  }

  /// The executor makes another sandbox, and takes this one away.
  [[noreturn]] void leave_touched() {
    char end;
    for (ssize_t n = 1; n > 0 || (n < 0 && errno == EINTR);) n = recv(kSocket, &end, 1, 0);
    _exit(0);
  }

  /// Orphans of a long attempt that end while it runs must not pile up as zombies.
  void reap_ended_orphans(pid_t pid, Report& report) {
    for (;;) {
      siginfo_t ended{};
      if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT | __WALL) != 0 || ended.si_pid == 0 || ended.si_pid == pid) return;
      rusage used;
      if (wait4(ended.si_pid, nullptr, __WALL, &used) > 0) account(used, report);
    }
  }

  static void account(const rusage& used, Report& report) {
    report.cpu_us += microseconds(used.ru_utime) + microseconds(used.ru_stime);
    if (used.ru_maxrss > report.peak_kib) report.peak_kib = used.ru_maxrss;
  }

  /// Reaps the first process and kills and reaps all that it left; false if some would not die. Usually two system calls.
  bool sweep(pid_t pid, int* status, Report& report) {
    std::int64_t give_up = 0;
    sigset_t before;
    const auto finish = [&](bool clean) {
      if (give_up != 0) sigprocmask(SIG_SETMASK, &before, nullptr);
      return clean;
    };
    for (;;) {
      rusage used;
      int how;
      const pid_t ended = wait4(-1, &how, WNOHANG | __WALL, &used);
      if (ended > 0) {
        account(used, report);
        if (ended == pid) *status = how;
        else ++report.strays;
      } else if (ended < 0) {
        if (errno != EINTR) return finish(true);
      } else {
        if (give_up == 0) {
          give_up = now_us() + kGiveUpUs;
          sigset_t child_ended;
          sigemptyset(&child_ended);
          sigaddset(&child_ended, SIGCHLD);
          sigprocmask(SIG_BLOCK, &child_ended, &before);
          kill_children();
          continue;  // what ended before SIGCHLD was noted
        }
        if (now_us() > give_up) return finish(false);
        await_death();
        kill_children();  // the children of those that died are ours now
      }
    }
  }

  /// The worker is gone, or the guard above us: so is the attempt.
  [[noreturn]] void vanish(pid_t pid) {
    kill(-pid, SIGKILL);
    Report report;
    int status;
    if (sweep(pid, &status, report)) folder_.remove();
    _exit(0);
  }

  [[noreturn]] void leave_unclean() {
    close(kSocket);
    close(kLock);  // the next worker need not wait for what may never end
    if (getpid() == 1) _exit(0);
    for (;;) {
      int status;
      Report report;
      if (sweep(0, &status, report)) _exit(0);
    }
  }

  // ---- Output
  /// Kept from attempt to attempt: nobody waits for an end of file, and nothing is set up each time. Only after a clean sweep, so nobody else holds them.
  bool ready_pipes() {
    for (int i : {0, 1}) {
      if (read_[i] < 0) {
        int ends[2];
        if (pipe2(ends, O_CLOEXEC) != 0) return false;
        read_[i] = ends[0];
        write_[i] = ends[1];
        fcntl(read_[i], F_SETFL, O_NONBLOCK);
      }
      fcntl(write_[i], F_SETFL, 0);  // the last task may have set flags of the open file, which the next would find
    }
    return true;
  }

  /// Takes what is in the pipe, 64 KiB at most; true if there may be more. Written, not mapped: mapped pages would count as our peak memory.
  bool drain(int i, Report& report, const Request& request) {
    const std::uint64_t most = request.output_max;
    const ssize_t n = read(read_[i], buffer, sizeof buffer);
    if (n <= 0) return false;
    const auto size = static_cast<std::uint64_t>(n);
    report.seen[i] += size;
    const std::uint64_t room = most - report.kept[i], keep = size < room ? size : room;
    if (keep != 0) {
      const ssize_t kept = pwrite(kOutput, buffer, keep, static_cast<off_t>(request.output_at + (i != 0 ? most : 0) + report.kept[i]));
      if (kept > 0) report.kept[i] += static_cast<std::uint64_t>(kept);
    }
    return true;
  }

  /// After large arguments our own peak memory would be the floor of all later tasks.
  void forget_peak() const {
    const int refs = boxed_ ? refs_ : open("/proc/self/clear_refs", O_WRONLY | O_CLOEXEC);
    if (refs < 0) return;
    (void)!pwrite(refs, "5", 1, 0);
    if (!boxed_) close(refs);
  }

  int work_;
  AttemptFolder folder_;
  bool has_guard_, boxed_;
  int shared_[2] = {-1, -1}, refs_ = -1, autogroup_ = -1;  // in a sandbox
  struct stat shared_as_made_[2]{}, work_as_made_{};
  Watch watch_;
  int null_, score_ = -1;
  Given given_, with_, ahead_given_;  // of the request that came last, of the attempt that runs, of the one that waits
  char own_score_[16] = {};
  int read_[2] = {-1, -1}, write_[2] = {-1, -1};
  Request request_{}, ahead_{};  // the second: waits for the end of the attempt that runs; serial 0: none does
  std::size_t got_ = 0, ahead_got_ = 0;
  char **argv_ = nullptr, **env_ = nullptr;
  char* few_[kStringsKept];
  char candidate_[PATH_MAX];
  char message_[kMessageMax + 1], ahead_message_[kMessageMax + 1];
  bool pinned_ = false;
  cpu_set_t processors_[kProcessorsMax / CPU_SETSIZE];
  int session_nice_ = 0;
  std::int64_t paused_us_ = 0;  // of the attempt
  alignas(64) char stack_[32 << 10];
};

// ---- Start ------------------------------------------------------------------------------------------------------------------

/// Signals are as a program expects them: nothing blocked, nothing ignored. A handler that does nothing, unlike SIG_IGN, is not inherited through exec,
/// and keeps this alive when a service manager sends TERM to every process at once, or a task kills its parent.
void settle_signals() {
  for (int s = 1; s < NSIG; ++s) signal(s, SIG_DFL);
  struct sigaction nothing {};
  nothing.sa_handler = [](int) {};
  nothing.sa_flags = SA_RESTART;
  for (int s = 1; s < NSIG; ++s)
    if (s != SIGKILL && s != SIGSTOP && s != SIGCHLD && s != SIGSEGV && s != SIGBUS && s != SIGILL && s != SIGFPE && s != SIGABRT && s != SIGSYS && s != SIGTRAP)
      sigaction(s, &nothing, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

/// Waits until the runner has ended, then until all that it left has. A runner that does not go when the worker has gone is killed.
[[noreturn]] void be_guard(pid_t child, pid_t worker) {
  close(kSocket);
  close(kOutput);
  NoteDeaths noted;
  sigset_t news;  // a child ended, or the worker (settle_signals: nobody stops waiting by another signal)
  sigemptyset(&news);
  for (int s : {SIGCHLD, SIGCONT}) sigaddset(&news, s);
  sigprocmask(SIG_BLOCK, &news, nullptr);
  std::int64_t unlock = 0, patience = 0;
  for (bool runs = true;;) {
    const pid_t ended = waitpid(-1, nullptr, __WALL | WNOHANG);
    if (ended == child) runs = false;
    if (ended < 0 && errno == ECHILD) _exit(0);
    if (ended > 0) continue;
    if (runs && getppid() == worker) {
      sigwaitinfo(&news, nullptr);
      continue;
    }
    if (runs) {
      if (patience == 0) patience = now_us() + kGiveUpUs + kTickUs;  // it needs the first itself, for what does not die
      kill(child, now_us() > patience ? SIGKILL : SIGCONT);
      await_death();
      continue;
    }
    kill_children();
    await_death();
    if (unlock == 0) unlock = now_us() + kGiveUpUs;
    if (now_us() > unlock) close(kLock);
  }
}

enum class Mode { namespaces, subreaper, sandbox };

[[noreturn]] void start(Mode mode) {
  settle_signals();
  setsid();  // no terminal: Ctrl-C at the worker reaches no task, and no task writes over it
  for (int fd : {kSocket, kOutput, kLock}) fcntl(fd, F_SETFD, FD_CLOEXEC);
  close_range(kLock + 1, ~0U, 0);
  rlimit core{};
  getrlimit(RLIMIT_CORE, &core);
  core.rlim_cur = 0;  // a dump would go to a folder that is removed
  setrlimit(RLIMIT_CORE, &core);
  const int work = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  // Whoever ended before this was set has closed its end of the socket: no Hello can be sent then.
  const pid_t worker = getppid();
  if (mode != Mode::sandbox) prctl(PR_SET_PDEATHSIG, SIGCONT);  // else bwrap has set that it is killed
  if (mode == Mode::sandbox) {
    if (getpid() != 1) _exit(1);
  } else if (mode == Mode::namespaces) {
    Hello hello;
    // Mounts of the host keep arriving, ours do not leave.
    if (mount("none", "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0 || mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, nullptr) != 0) {
      hello.failure = errno;
      (void)!send(kSocket, &hello, sizeof hello, MSG_NOSIGNAL);
      _exit(1);
    }
  } else {
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    struct sigaction note {};
    note.sa_handler = note_guard;
    sigaction(SIGCONT, &note, nullptr);
    guard = getpid();
    if (const pid_t child = fork(); child != 0) be_guard(child, worker);
    runner = getpid();
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    prctl(PR_SET_PDEATHSIG, SIGCONT);
    if (getppid() != guard) _exit(0);
  }
  static Slot slot(work, mode == Mode::subreaper, mode == Mode::sandbox);
  slot.serve();
}

}  // namespace
}  // namespace souk::runner

int main(int argc, char** argv) {
  using souk::runner::Mode;
  const char* const mode = argc == 2 ? argv[1] : "";
  if (strcmp(mode, "namespaces") == 0) souk::runner::start(Mode::namespaces);
  if (strcmp(mode, "subreaper") == 0) souk::runner::start(Mode::subreaper);
  if (strcmp(mode, "sandbox") == 0) souk::runner::start(Mode::sandbox);
  if (strcmp(mode, "sandbox-check") == 0) return souk::runner::check_sandbox();
  constexpr char text[] = "souk-runner is started by souk-worker, once a slot; it has no use of its own\n";
  (void)!write(2, text, sizeof text - 1);
  return 2;
}
