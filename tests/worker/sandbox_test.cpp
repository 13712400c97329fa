// Hostile tasks: each tries it for real, in a sandbox. Where none can work there is nothing to test, and that is said.
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <map>

#include "executor_stage.h"
#include "worker/images.h"
#include "worker/sandbox.h"

namespace souk {
namespace {

/// An executor whose attempts run in sandboxes. Beside its working folder lies what belongs to the owner.
class Boxes : public Stage {
 public:
  explicit Boxes(int slots = 1, std::vector<fs::path> shown = {}, bool with_image = false) : Stage(true, slots) {
    if (with_image) make_image(folder / "images" / "lab");
    auto found = Sandbox::find({SOUK_RUNNER, work, std::move(shown), "", with_image ? folder / "images" : fs::path()});
    if (!found) {
      why_not = found.error().text();
      return;
    }
    if (with_image)
      if (const auto added = found.value().add_image("lab:1", folder / "images" / "lab"); !added) why_not = added.error().text();
    note = found.value().note();
    level = found.value().level();
    executor->use(std::move(found.value()));
    std::ofstream(folder / "secret") << "the owner's password";
    fs::create_directory(work / ".souk-state");
    std::ofstream(work / ".souk-state" / "results") << "of another task";
  }
  Outcome task(std::string line, Bounds bounds = {}, std::string job = "job 1", bool network = false) {
    return run(boxed(std::move(line), bounds, std::move(job), network));
  }
  static Launch boxed(std::string line, Bounds bounds = {}, std::string job = "job 1", bool network = false) {
    Launch launch = shell(std::move(line));
    launch.box = Boxed{std::move(job), network, false, bounds};
    return launch;
  }
  /// Some of this host's programs and what they need, under names of its own.
  static void make_image(const fs::path& root) {
    fs::create_directories(root / "opt");
    const std::string copy = "for p in dash cat ls touch; do for f in $(command -v $p) $(ldd $(command -v $p) | grep -o '/[^ ]*'); do mkdir -p '" + root.string() + "'$(dirname $f) && cp -L $f '" + root.string() + "'$f || exit 1; done; done";
    ASSERT_EQ(std::system(copy.c_str()), 0);
    std::ofstream(root / "only-here") << "of the image\n";
    for (const char* name : {"bin", "lib", "lib64"})  // of a system that keeps all in /usr
      if (!fs::exists(fs::symlink_status(root / name))) fs::create_symlink(std::string("usr/") + name, root / name);
    fs::create_symlink("dash", root / "bin" / "sh");
    const auto made = make_system(root);
    ASSERT_TRUE(made) << made.error().text();
  }
  std::string why_not, note;
  SandboxLevel level = SandboxLevel::none;
};

/// Whether bubblewrap by itself works here, so that a sandbox that does not is ours to mend.
bool bwrap_works() {
  static const bool works = std::system("exec bwrap --unshare-user --unshare-pid --unshare-net --ro-bind / / --proc /proc --dev /dev true >/dev/null 2>&1") == 0;
  return works;
}

#define BOXES(name, ...)                                                                        \
  Boxes name{__VA_ARGS__};                                                                      \
  if (!name.why_not.empty() && bwrap_works()) FAIL() << "bwrap works, and no sandbox does: " << name.why_not; \
  if (!name.why_not.empty()) GTEST_SKIP() << "no sandbox works here: " << name.why_not

Bounds of_memory(std::uint64_t bytes) {
  Bounds bounds;
  bounds.memory = bytes;
  return bounds;
}

TEST(SandboxedTask, RunsAsAnyOther) {
  BOXES(stage);
  Launch launch = Boxes::boxed("cat; echo in $PWD; echo oops >&2; exit 3");
  launch.input = "hello\n";
  const std::string folder = launch.folder;
  const Outcome outcome = stage.run(std::move(launch));
  EXPECT_EQ(outcome.out, "hello\nin /work/" + folder + "\n");
  EXPECT_EQ(outcome.err, "oops\n");
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(outcome.cause, Cause::exited);
  EXPECT_GT(outcome.peak_memory_kib, 100u);
  EXPECT_EQ(stage.task("python3 -c 'import os, tempfile, subprocess; print(subprocess.check_output([\"id\", \"-un\"]).decode(), tempfile.gettempdir(), os.cpu_count() > 0)'").err, "");
  EXPECT_EQ(stage.task("echo x > f; mkdir d; cat f").out, "x\n");
}

TEST(SandboxedTask, SeesNothingOfTheOwner) {
  BOXES(stage);
  const std::string secret = (stage.folder / "secret").string(), results = (stage.work / ".souk-state" / "results").string();
  const char* home = getenv("HOME");
  const Outcome outcome = stage.task("cat " + secret + " " + results + " /work/../.souk-state/results; cat /etc/shadow; ls " + (home ? home : "/root") + "; ls /home /root /var/lib /run/user; env; exit 0");
  EXPECT_EQ(outcome.out, "PATH=/usr/bin:/bin\nPWD=" + std::string(kBoxWork) + outcome.out.substr(std::min(outcome.out.size(), std::string("PATH=/usr/bin:/bin\nPWD=/work").size())));
  EXPECT_EQ(outcome.out.find("password"), std::string::npos) << outcome.out;
  EXPECT_EQ(stage.task("ls -A /etc | grep -x -e shadow -e ssh -e hostname -e machine-id; ls -A /work | wc -l").out, "1\n") << "its folder lies alone there";
  EXPECT_EQ(stage.task("find / -xdev \\( -name '*.toml' -o -name '*.sqlite*' -o -name '.souk*' \\) -not -path '/proc/*' -not -path '/usr/*' 2>/dev/null").out, "");
}

TEST(SandboxedTask, CanHaveAnImageAsItsSystem) {
  Boxes stage(1, {"/usr/share/doc"}, true);
  if (!stage.why_not.empty() && bwrap_works()) FAIL() << "bwrap works, and no image does: " << stage.why_not;
  if (!stage.why_not.empty()) GTEST_SKIP() << "no sandbox works here: " << stage.why_not;
  const auto in = [&](const char* image, std::string line) {
    Launch launch = Boxes::boxed(std::move(line));
    launch.box->image = image;
    return stage.run(std::move(launch));
  };
  EXPECT_EQ(in("lab:1", "cat /only-here").out, "of the image\n");
  EXPECT_EQ(in("lab:1", "cat /only-here; test -e /usr/bin/env || echo nothing else; echo x > f; cat f").out, "of the image\nnothing else\nx\n") << "and once more in the one that was kept";
  EXPECT_EQ(in("lab:1", "for d in / /opt /usr /usr/bin /etc /dev /var; do if touch $d/x 2>/dev/null; then echo $d; fi; done; touch /var/tmp/x; ls /tmp").out, "x\n");
  EXPECT_EQ(in("lab:1", "ls /usr/share/doc | while read -r one; do echo shown; break; done").out, "shown\n") << "what its owner shows";
  EXPECT_EQ(in("", "test -e /usr/bin/env && test ! -e /only-here && echo the host").out, "the host\n") << "the same job in none";
  EXPECT_EQ(in("lab:1", "cat /only-here").out, "of the image\n");
  const Outcome other = in("lab:2", "true");
  EXPECT_EQ(other.cause, Cause::not_started);
  EXPECT_EQ(other.why, "this worker does not offer image 'lab:2'");
  Launch lacks = Boxes::boxed("");
  lacks.argv = {"env"}, lacks.box->image = "lab:1";
  EXPECT_NE(stage.run(std::move(lacks)).why.find("not found in PATH in image 'lab:1'"), std::string::npos);
  EXPECT_FALSE(fs::exists(stage.folder / "images" / "lab" / "opt" / "x"));
}

TEST(SandboxedTask, WritesNowhereElse) {
  BOXES(stage);
  EXPECT_EQ(stage.task("for d in / /usr /usr/bin /etc /dev /proc /proc/sys/kernel /run /var /sys; do if touch $d/souk-was-here 2>/dev/null; then echo $d; fi; done; "
                       // Opened only: where it were possible, writing would change this machine.
                       "for f in /proc/sys/kernel/core_pattern /proc/sys/kernel/hostname /proc/sys/vm/drop_caches /proc/sysrq-trigger /proc/irq/default_smp_affinity /proc/mtrr /proc/1/oom_score_adj; do "
                       "if (: >> $f) 2>/dev/null; then echo $f; fi; done; mount -t tmpfs none /usr 2>/dev/null && echo mounted; mount -o remount,rw / 2>/dev/null && echo remounted; exit 0").out, "");
  EXPECT_FALSE(fs::exists("/usr/souk-was-here"));
}

TEST(SandboxedTask, SeesNoOtherProcess) {
  BOXES(stage);
  const std::string seen = stage.task("ls /proc | grep -x '[0-9]*' | wc -l; cat /proc/*/cmdline 2>/dev/null | tr '\\0' ' '").out;
  EXPECT_EQ(seen.find(SOUK_RUNNER), std::string::npos) << seen;
  EXPECT_LE(std::atoi(seen.c_str()), 5) << seen;
  EXPECT_NE(stage.task("kill -0 " + std::to_string(getpid())).exit_code, 0);
}

TEST(SandboxedTask, CannotHarmItsRunner) {
  BOXES(stage);
  // Signals, its memory, its files, its limits, tracing: the runner has the same user.
  const Outcome outcome = stage.task(
      "kill -9 1; kill -STOP 1; kill -TERM 1; kill -CONT 1; for f in mem environ fd/3 fd/4 maps; do if head -c 1 /proc/1/$f >/dev/null 2>&1; then echo read $f; fi; done; "
      "if (: >> /proc/1/mem) 2>/dev/null; then echo wrote; fi; if (: >> /proc/1/oom_score_adj) 2>/dev/null; then echo score; fi; "
      "prlimit --pid 1 --nofile=0:0 2>/dev/null && echo limited; "
      "python3 -c 'import ctypes; c = ctypes.CDLL(None, use_errno=True); print(c.ptrace(16, 1, 0, 0), c.ptrace(0x4206, 1, 0, 0), c.syscall(310, 1, 0, 0, 0, 0, 0))'; exit 0");
  EXPECT_EQ(outcome.out, "-1 -1 -1\n") << outcome.err;
  EXPECT_EQ(outcome.cause, Cause::exited);
  EXPECT_EQ(stage.task("echo next").out, "next\n");
}

TEST(SandboxedTask, GainsNothing) {
  BOXES(stage);
  EXPECT_EQ(stage.task("grep -E '^(CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status | tr -d '\\t'; su -c id root 2>/dev/null; unshare -r id 2>/dev/null; unshare -m true 2>/dev/null && echo space; "
                       "nsenter -t 1 -a id 2>/dev/null; chroot / id 2>/dev/null; setpriv --reuid 0 id 2>/dev/null; cp /usr/bin/id . && chmod 4755 id && ./id -u").out,
            "CapPrm:0000000000000000\nCapEff:0000000000000000\nCapBnd:0000000000000000\nNoNewPrivs:1\nSeccomp:2\n1000\n");
  EXPECT_EQ(stage.task("python3 -c 'import ctypes; c = ctypes.CDLL(None); print(*[c.syscall(n, 0, 0, 0, 0, 0) for n in (321, 298, 323, 425, 250, 435, 272, 165, 175, 246, 304)])'").out,
            "-1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1\n") << "bpf, perf_event_open, userfaultfd, io_uring_setup, keyctl, clone3, unshare, mount, init_module, kexec_load, open_by_handle_at";
}

/// A listener on this host's loopback, and its port.
class Listener {
 public:
  Listener() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (::bind(socket_, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(socket_, 4) != 0 || ::getsockname(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0) std::abort();
    port = ntohs(address.sin_port);
  }
  ~Listener() { ::close(socket_); }
  int port = 0;

 private:
  int socket_;
};

TEST(SandboxedTask, ReachesTheNetworkOnlyWhenItIsGiven) {
  BOXES(stage);
  const Listener listener;
  const std::string connect = "python3 -c 'import socket; socket.create_connection((\"127.0.0.1\", " + std::to_string(listener.port) + "), 5); print(\"connected\")'";
  EXPECT_EQ(stage.task(connect).out, "");
  EXPECT_EQ(stage.task("cat /proc/net/dev | tail -n +3 | cut -d: -f1 | tr -d ' '").out, "lo\n");
  EXPECT_EQ(stage.task(connect, {}, "job 1", true).out, "connected\n");
  EXPECT_EQ(stage.task(connect).out, "") << "the next without it is in another sandbox";
  EXPECT_EQ(stage.task("python3 -c 'import socket\nfor f in (17, 40, 38, 31): \n  try: socket.socket(f, socket.SOCK_RAW if f == 17 else socket.SOCK_STREAM); print(f)\n  except OSError: pass'", {}, "job 1", true).out, "")
      << "packets, virtual machines, ciphers and bluetooth are no network that a namespace holds";
}

TEST(SandboxedTask, FindsNoAbstractSocketsWithTheNetwork) {
  BOXES(stage);
  if (::syscall(444, nullptr, 0, 1) < 6) GTEST_SKIP() << "before Linux 6.12 abstract sockets come with the network (docs/SECURITY.md)";
  const std::string name = "souk-test-" + std::to_string(getpid());
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  name.copy(address.sun_path + 1, sizeof address.sun_path - 1);
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::bind(listener, reinterpret_cast<sockaddr*>(&address), static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size())), 0);
  ASSERT_EQ(::listen(listener, 4), 0);
  const std::string connect = "import socket; s = socket.socket(socket.AF_UNIX); s.connect(chr(0) + \"" + name + "\"); print(\"connected\")";
  EXPECT_EQ(stage.run(shell("python3 -c '" + connect + "'")).out, "connected\n");
  EXPECT_EQ(stage.task("python3 -c '" + connect + "'", {}, "job 1", true).out, "");
  ::close(listener);
}

TEST(SandboxedTask, CannotForkWithoutEnd) {
  BOXES(stage);
  if (stage.level == SandboxLevel::bwrap && geteuid() == 0) GTEST_SKIP() << "root's processes are limited by control groups only: " << stage.note;
  Bounds bounds;
  bounds.processes = 30;
  Launch bomb = Boxes::boxed("python3 -c '\nimport os, time\nn = 0\nwhile True:\n  try: pid = os.fork()\n  except OSError: break\n  if pid == 0: time.sleep(100)\n  n += 1\nprint(n)'", bounds);
  const int made = std::atoi(stage.run(std::move(bomb)).out.c_str());
  EXPECT_GT(made, 10);
  EXPECT_LE(made, 32);
  Launch loop = Boxes::boxed("b() { b | b & b; }; b", bounds);
  loop.time_limit = 1500ms;
  loop.grace = 200ms;
  const Outcome outcome = stage.run(std::move(loop));
  EXPECT_LT(outcome.wall, 10s);
  EXPECT_EQ(stage.task("echo next").out, "next\n");
}

TEST(SandboxedTask, CannotTakeAllMemory) {
  BOXES(stage);
  const std::string eat = "python3 -c 'a = []\nwhile True: a.append(bytearray(1 << 20))'";
  const Outcome outcome = stage.task(eat, of_memory(100 << 20));
  EXPECT_FALSE(outcome.succeeded());
  EXPECT_LT(outcome.peak_memory_kib, 140u << 10);
  if (stage.level == SandboxLevel::cgroup) {
    EXPECT_NE(outcome.why.find("more than 100 MiB of memory"), std::string::npos) << outcome.why;
    // Together, and with what lies in /tmp.
    EXPECT_FALSE(stage.task("for i in 1 2 3 4; do python3 -c 'a = bytearray(40 << 20); import time; time.sleep(3)' & done; wait -n && wait -n && wait -n && wait -n", of_memory(100 << 20)).succeeded());
    // The kernel takes one of them: whoever does not look at how that ended has no whole result either.
    const Outcome one_less = stage.task("python3 -c 'a = bytearray(150 << 20)'; echo the rest; exit 0", of_memory(100 << 20));
    EXPECT_EQ(one_less.cause, Cause::signaled);
    EXPECT_EQ(one_less.signal, SIGKILL);
    EXPECT_EQ(one_less.out, "the rest\n");
    EXPECT_NE(one_less.why.find("more than 100 MiB of memory"), std::string::npos) << one_less.why;
    EXPECT_EQ(stage.task("echo next", of_memory(100 << 20)).out, "next\n") << "is not blamed for it";
    EXPECT_FALSE(stage.task("head -c 90M /dev/zero > /tmp/a && head -c 90M /dev/zero > /dev/shm/b", of_memory(100 << 20)).succeeded());
  }
  EXPECT_EQ(stage.task("python3 -c 'a = bytearray(60 << 20); print(len(a) >> 20)'", of_memory(150 << 20)).out, "60\n");
}

TEST(SandboxedTask, CannotFillTheDisk) {
  BOXES(stage);
  Bounds bounds;
  bounds.file = 1 << 20, bounds.disk = 8 << 20, bounds.tmp = 4 << 20;
  const Outcome file = stage.task("exec head -c 2M /dev/zero > big", bounds);
  EXPECT_EQ(file.signal, SIGXFSZ);
  EXPECT_NE(file.why.find("a file of more than 1 MiB"), std::string::npos) << file.why;
  EXPECT_NE(stage.task("for i in 1 2 3 4 5 6; do head -c 1M /dev/zero > /tmp/$i || exit 9; done", bounds).exit_code, 0);
  // Many small ones, and then in no hurry to end.
  const Outcome many = stage.task("mkdir d; for i in $(seq 40); do head -c 1M /dev/urandom > d/$i; done; sync; sleep 30", bounds);
  EXPECT_EQ(many.signal, SIGKILL);
  EXPECT_NE(many.why.find("more than 8 MiB on disk"), std::string::npos) << many.why;
  EXPECT_LT(many.wall, 15s);
  EXPECT_EQ(stage.task("echo next", bounds).out, "next\n");
}

/// Takes so many files of 1 MiB and keeps them where no folder shows them; the second word says how, the third from when on: what hides is found by what the disk
/// loses since an attempt began, so all begin before any takes, and nothing else may give back to the disk or to memory meanwhile.
constexpr const char* kKeep = R"(
import ctypes, mmap, os, socket, sys, threading, time
size, how, ends, kept = int(sys.argv[1]), sys.argv[2], [], []
libc = ctypes.CDLL(None)
libc.mmap.restype, libc.mmap.argtypes = ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
time.sleep(max(0, float(sys.argv[3]) - time.time()))
def ends_first_thread(what):
    threading.Thread(target=lambda: (kept.append(what()), time.sleep(30))).start()
    libc.pthread_exit(None)
def take():
    for n in range(size):
        f = os.memfd_create("m") if how.startswith("memory") else os.open("f%d" % n, os.O_RDWR | os.O_CREAT)
        os.write(f, os.urandom(1 << 20))
        if not how.startswith("memory") and how != "shut folder": os.unlink("f%d" % n)
        if how.endswith("sent"):
            if n % 100 == 0: ends.append(socket.socketpair())
            socket.send_fds(ends[-1][0], [b"x"], [f])
        if how.endswith("mapped") and libc.mmap(None, 1 << 12, 1, 2 - n % 2, f, 0) == 2 ** 64 - 1: sys.exit("no mapping")  # a page, shared or not; Python's own keeps it open
        if how.endswith("sent") or how.endswith("mapped") or how == "shut folder": os.close(f)
    if how == "unseen": libc.prctl(4, 0)
if how == "thread":
    ends_first_thread(take)
elif how == "dropped":
    at = libc.mmap(None, size << 20, 3, 0x21, -1, 0)
    for n in range(at, at + (size << 20), 1 << 20):
        ctypes.memset(n, 1, 1 << 20)
        libc.madvise(n, 1 << 20, 4)
elif how == "far away and mapped":
    far = "\n" * 250  # four bytes each where it is told
    for n in range(40): os.mkdir(far) or os.chdir(far)
    take()
    for n in range(40): os.chdir("..") or os.rmdir(far)
elif how == "shut folder":
    os.mkdir("d") or os.chdir("d")
    take()
    os.chdir("..") or os.chmod("d", 0)
elif how == "shared":
    kept = mmap.mmap(-1, size << 20)
    for n in range(size): kept.write(os.urandom(1 << 20))
elif how.startswith("many"):
    while size > 0:
        size -= 20
        if os.fork() == 0: break
    if how == "many": kept = os.urandom(20 << 20)
    else: ends_first_thread(lambda: os.urandom(20 << 20))
elif how == "copies":
    kept = os.urandom(size << 20)
    for n in range(8):
        if os.fork() == 0: break
elif how == "several names":
    open("f", "wb").write(os.urandom(4 << 20))
    for n in range(9): os.link("f", "g%d" % n)
elif how == "odd folders":
    for n in range(70): os.mkdir("d") or os.chdir("d")
    os.mkdir("e", 0)
elif how != "nothing":
    take()
honest = {"copies": 1.5, "nothing": 6, "several names": 6, "odd folders": 6}
time.sleep(honest.get(how, 30))
)";
std::string soon() { return std::to_string(std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch() + 2s).count()); }
Launch keeps(int mib, std::string how, Bounds bounds, const std::string& from) {
  Launch launch = program({"python3", "-c", kKeep, std::to_string(mib), std::move(how), from});
  launch.box = Boxed{"job 1", false, false, bounds};
  return launch;
}

TEST(AloneSandboxedTask, CannotFillTheDiskWithFilesThatNoFolderShows) {
  const std::vector<std::string> ways{"removed", "thread", "sent", "mapped", "far away and mapped", "unseen", "shut folder"}, honest{"nothing", "several names", "odd folders"};
  BOXES(stage, static_cast<int>(ways.size() + honest.size()));
  Bounds bounds, large;
  bounds.disk = 8 << 20;
  large.disk = std::uint64_t{16} << 30;  // who hides something may be blamed for what others take: here not as much
  std::map<std::string, Outcome> outcomes;
  int slot = 0;
  const std::string from = soon();
  for (const auto& all : {ways, honest})
    for (const auto& way : all) stage.executor->start(slot++, keeps(24, way, way == "odd folders" ? large : bounds, from), [&outcomes, way](Outcome o) { outcomes[way] = std::move(o); });
  ASSERT_TRUE(stage.until([&] { return outcomes.size() == ways.size() + honest.size(); }, 60s));
  for (const auto& way : ways) EXPECT_NE(outcomes[way].why.find("more than 8 MiB on disk"), std::string::npos) << way << ": " << outcomes[way].err << outcomes[way].why;
  for (const auto& way : honest) EXPECT_TRUE(outcomes[way].succeeded()) << "who took little is not blamed for what others took: " << way << ": " << outcomes[way].err << outcomes[way].why;
}

TEST(AloneSandboxedTask, CannotTakeAllMemoryTogether) {
  const std::vector<std::string> ways{"shared", "many", "many of threads", "dropped", "memory", "memory sent", "memory mapped", "copies"};
  BOXES(stage, static_cast<int>(ways.size()));
  std::vector<std::optional<Outcome>> outcomes(ways.size());
  std::size_t ended = 0;
  const std::string from = soon();
  for (std::size_t i = 0; i < ways.size(); ++i)
    stage.executor->start(static_cast<int>(i), keeps(i + 1 == ways.size() ? 40 : 160, ways[i], of_memory(100 << 20), from), [&, i](Outcome o) { outcomes[i] = std::move(o), ++ended; });
  ASSERT_TRUE(stage.until([&] { return ended == ways.size(); }, 60s));
  for (std::size_t i = 0; i + 1 < ways.size(); ++i) {
    EXPECT_FALSE(outcomes[i]->succeeded()) << ways[i] << ": " << outcomes[i]->err;
    EXPECT_TRUE(stage.level == SandboxLevel::cgroup || outcomes[i]->why.find("more than 100 MiB of memory") != std::string::npos) << ways[i] << ": " << outcomes[i]->err << outcomes[i]->why;
  }
  EXPECT_TRUE(outcomes.back()->succeeded()) << "what processes have in common counts once: " << outcomes.back()->err << outcomes.back()->why;
}

TEST(SandboxedTask, CannotMakeItsRunnerWait) {
  BOXES(stage);
  const Outcome outcome = stage.task(
      "renice -n 10 -p 1; renice -n 10 -g 1; renice -n 10 -u 1000; chrt -i -p 0 1; taskset -p 1 1 >/dev/null; ionice -c 3 -p 1; ionice -c 3 -P 1; "
      "python3 -c 'import ctypes; c = ctypes.CDLL(None); print(c.syscall(141, 0, ctypes.c_ulong(0xffffffff00000001), 10), c.syscall(203, ctypes.c_ulong(1 << 32 | 1), 8, bytes([1] + [0] * 7)))'; "
      "ps -o ni=,cls= -p 1; ionice -p 1; sh -c 'renice -n 5 -p $$ >/dev/null; exec nice'; chrt -i 0 true && taskset 1 true && ionice -c 3 true && echo own");
  EXPECT_EQ(outcome.out.substr(0, 6), "-1 -1\n") << outcome.out;
  const std::string none = stage.task("ps -o ni=,cls= -p 1; ionice -p 1").out;
  EXPECT_NE(outcome.out.find(none), std::string::npos) << "as it was: " << outcome.out << outcome.err;
  EXPECT_NE(none.find(" 0  TS"), std::string::npos) << none;
  EXPECT_NE(outcome.out.find("5\nown\n"), std::string::npos) << "its own are its own: " << outcome.out << outcome.err;
}

/// What is lined up begins before anybody looks what became of the one before it.
TEST(SandboxedTask, IsNotBlamedForTheOneBeforeItInItsSlot) {
  BOXES(stage);
  if (stage.level != SandboxLevel::cgroup) GTEST_SKIP() << "only control groups count kills: " << stage.note;
  const auto boxed = [](std::string line) {
    Bounds bounds = of_memory(100 << 20);
    bounds.file = 1 << 20;
    return Boxes::boxed(std::move(line), bounds);
  };
  const std::string greedy = "python3 -c 'a = bytearray(150 << 20)'; ";
  for (const std::string end : {"exec head -c 2M /dev/zero > big", "exit 0"}) {
    SCOPED_TRACE(end);
    std::vector<Outcome> outcomes;
    const auto ended = [&](Outcome outcome) { outcomes.push_back(std::move(outcome)); };
    stage.executor->start(0, boxed(greedy + end), ended);
    stage.executor->line_up(0, boxed("echo honest"), ended, [] { ADD_FAILURE() << "nobody recalled it"; });
    ASSERT_TRUE(stage.until([&] { return outcomes.size() == 2; }));
    EXPECT_FALSE(outcomes[0].succeeded());
    EXPECT_TRUE(outcomes[1].succeeded() || outcomes[1].cause == Cause::lost) << outcomes[1].why;  // the second: it runs again
    EXPECT_EQ(outcomes[1].out, "honest\n");
    EXPECT_EQ(stage.run(boxed("echo next")).out, "next\n");
    outcomes.clear();
    stage.executor->start(0, boxed("echo honest"), ended);
    stage.executor->line_up(0, boxed(greedy + "touch killed; until [ -e go ]; do sleep 0.01; done"), ended, [] { ADD_FAILURE() << "nobody recalled it"; });
    fs::path there;  // the loop is late: it looks when the second one has lost its child already
    for (const auto until = std::chrono::steady_clock::now() + 30s; there.empty() && std::chrono::steady_clock::now() < until;) {
      std::error_code gone;
      for (fs::recursive_directory_iterator at(stage.work, gone), last; !gone && at != last; at.increment(gone))
        if (at->path().filename() == "killed") there = at->path().parent_path();
    }
    ASSERT_FALSE(there.empty());
    ASSERT_TRUE(stage.until([&] { return outcomes.size() == 1; }));
    std::ofstream(there / "go");
    ASSERT_TRUE(stage.until([&] { return outcomes.size() == 2; }));
    EXPECT_TRUE(outcomes[0].succeeded() || outcomes[0].cause == Cause::lost) << outcomes[0].why;
    EXPECT_FALSE(outcomes[1].succeeded()) << outcomes[1].why;
  }
}

/// Whatever keeps a runner from its work: here one that never answers.
TEST(SandboxedTask, EndsThoughItsRunnerDoesNotEndIt) {
  Stage stage(true, 1);
  auto found = Sandbox::find({DEAF_RUNNER, stage.work, {}, ""});
  if (!found && bwrap_works()) FAIL() << found.error().text();
  if (!found) GTEST_SKIP() << "no sandbox works here: " << found.error().text();
  stage.executor->use(std::move(found.value()));
  Launch launch = Boxes::boxed("true");
  launch.time_limit = 300ms;
  launch.grace = 100ms;
  const Outcome outcome = stage.run(std::move(launch));
  EXPECT_EQ(outcome.cause, Cause::timed_out) << outcome.why;
  EXPECT_NE(outcome.why.find("did not end it at its time limit"), std::string::npos) << outcome.why;
  EXPECT_EQ(stage.run(shell("echo next")).out, "next\n");
}

TEST(SandboxedTask, CannotOutliveItsLimits) {
  BOXES(stage);
  Launch sleeper = Boxes::boxed("trap '' TERM; setsid sh -c 'trap \"\" TERM HUP; sleep 100' & sleep 100");
  sleeper.box->bounds.time = 300ms;
  sleeper.grace = 200ms;
  const Outcome outcome = stage.run(std::move(sleeper));
  EXPECT_EQ(outcome.cause, Cause::timed_out);
  EXPECT_LT(outcome.wall, 5s);
  Bounds bounds;
  bounds.cpu = 1s;
  const Outcome loop = stage.task("while :; do :; done", bounds);
  EXPECT_EQ(loop.signal, SIGXCPU);
  EXPECT_LT(loop.cpu, 3s);
}

TEST(SandboxedTask, LeavesNothingForTheNext) {
  BOXES(stage);
  for (const char* leave : {"echo x > /tmp/left", "echo x > /dev/shm/left", "echo x > /work/left; echo x > ../left2", "ipcmk -M 100 >/dev/null", "ipcmk -S 1 >/dev/null", "ipcmk -Q >/dev/null", "echo x > left",
                            "chmod 777 /work", "setsid sleep 1000 >/dev/null 2>&1 &", "rm -rf ../*", "cd ..; mv * .hidden; mkdir x", "mkdir -p /tmp/.X11-unix"}) {
    SCOPED_TRACE(leave);
    const Outcome outcome = stage.task(std::string(leave) + "; exit 0");
    ASSERT_EQ(outcome.cause, Cause::exited) << outcome.why;
    const Outcome next = stage.task("ls -A /tmp /dev/shm . | grep -v : ; ls -A /work | wc -l; stat -c %a /work; ipcs | grep -c '^0x'; grep -l -x sleep /proc/[0-9]*/comm | wc -l");
    EXPECT_EQ(next.out, "\n\n1\n700\n0\n0\n") << next.err << next.why;
  }
  const auto boxes = [&] {
    int number = 0;
    for (const auto& entry : fs::directory_iterator(stage.work / ".souk-sandbox")) number += entry.path().filename().string().starts_with("box");
    return number;
  };
  EXPECT_TRUE(stage.until([&] { return boxes() == 1; })) << "nor on the disk: " << boxes();
}

/// Lined up behind one of its job it waits at the runner; where that leaves something, or is of another job, it is in another sandbox all the same.
TEST(SandboxedTask, FollowsAnotherOfItsJobAtOnce) {
  BOXES(stage);
  constexpr int kMany = 40;
  std::map<int, Outcome> outcomes;
  int next = 0;
  std::function<void()> give = [&] {
    const int number = next++;
    Launch launch = Boxes::boxed("readlink /proc/self/ns/pid; ls -A /tmp; cat" + std::string(number % 10 == 5 ? "; echo x > /tmp/left" : ""), number % 7 == 3 ? of_memory(64 << 20) : Bounds{}, number < 30 ? "job 1" : "job 2");
    launch.input = std::to_string(number);
    stage.executor->line_up(0, std::move(launch), [&, number](Outcome outcome) {
      EXPECT_EQ(outcomes.size(), static_cast<std::size_t>(number)) << "out of order";
      outcomes[number] = std::move(outcome);
      if (next < kMany) give();
    }, [] { ADD_FAILURE() << "nobody recalled it"; });
  };
  give();
  give();
  ASSERT_TRUE(stage.until([&] { return outcomes.size() == kMany; }, 60s));
  std::string before;
  for (const auto& [number, outcome] : outcomes) {
    SCOPED_TRACE(number);
    const std::string space = outcome.out.substr(0, outcome.out.find('\n') + 1);
    EXPECT_EQ(outcome.out, space + std::to_string(number)) << outcome.why;
    EXPECT_EQ(space == before, number != 0 && number % 10 != 6 && number != 30) << "one that nothing was left in serves the next of its job";
    before = space;
  }
}

TEST(SandboxedTask, SharesItsSandboxWithItsOwnJobOnly) {
  BOXES(stage);
  const auto space = [&](const std::string& job) { return stage.task("readlink /proc/self/ns/pid", {}, job).out; };
  const std::string first = space("job 1");
  EXPECT_EQ(space("job 1"), first) << "one that nothing was left in serves the next";
  EXPECT_NE(space("job 2"), first);
  EXPECT_EQ(stage.run(shell("cat " + (stage.folder / "secret").string())).out, "the owner's password") << "a bare one runs in the same slot as ever";
  EXPECT_TRUE(stage.until([&] { return children_of(getpid()).size() == 1; })) << "sandboxes that nobody needs are gone";
}

TEST(SandboxedTask, IsStoppedAndPausedAsAnyOther) {
  BOXES(stage);
  std::optional<Outcome> outcome;
  stage.executor->start(0, Boxes::boxed("setsid sleep 1000 & sleep 1000"), [&](Outcome o) { outcome = std::move(o); });
  stage.executor->pause(0);
  stage.executor->resume(0);
  stage.executor->stop(0);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::canceled);
}

TEST(SandboxedTask, EndsWithItsWorker) {
  const std::string sleepers = std::to_string(800000 + getpid());
  {
    BOXES(stage);
    std::optional<Outcome> outcome;
    stage.executor->start(0, Boxes::boxed("setsid sleep " + sleepers + " & sleep " + sleepers), [&](Outcome o) { outcome = std::move(o); });
    ASSERT_TRUE(stage.until([&] { return processes_with("sleep").size() >= 2 && processes_with(sleepers).size() >= 2; }));
    stage.executor.reset();
    EXPECT_EQ(processes_with(sleepers), std::vector<int>{});
    EXPECT_FALSE(outcome);
    for (const auto& entry : fs::directory_iterator(stage.work / ".souk-sandbox")) EXPECT_FALSE(entry.path().filename().string().starts_with("box")) << entry.path();
  }
}

TEST(SandboxedTask, LosesItsRunnerWithoutATrace) {
  BOXES(stage);
  const std::string sleepers = std::to_string(700000 + getpid());
  for (const bool bwrap : {true, false}) {  // the one above, or process 1 itself
    std::optional<Outcome> outcome;
    stage.executor->start(0, Boxes::boxed("echo x > f; setsid sleep " + sleepers + " & sleep " + sleepers), [&](Outcome o) { outcome = std::move(o); });
    ASSERT_TRUE(stage.until([&] { return processes_with(sleepers).size() >= 2; }));
    const int above = children_of(getpid()).back();
    const auto below = children_of(above);
    ASSERT_EQ(below.size(), 1u);
    ::kill(bwrap ? above : below.front(), SIGKILL);
    ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
    EXPECT_EQ(outcome->cause, Cause::lost) << outcome->why;
    EXPECT_TRUE(stage.until([&] { return processes_with(sleepers).empty(); }, 3s));
    EXPECT_EQ(stage.task("echo next").out, "next\n");
  }
}

TEST(SandboxedTask, ReadsWhatItsOwnerShows) {
  const fs::path shown = new_folder();
  std::ofstream(shown / "model") << "weights";
  fs::permissions(shown, fs::perms(0755));  // a worker of root shows it to another user
  {
    BOXES(stage, 1, {shown});
    EXPECT_EQ(stage.task("cat " + (shown / "model").string() + "; echo x > " + (shown / "model").string() + " 2>/dev/null; exit 0").out, "weights");
  }
  fs::remove_all(shown);
}

/// A worker of root hands files over in a folder that it covers: not in one that is shown, or holds what is.
TEST(SandboxedTask, ReadsWhatItsOwnerShowsWhereverItIs) {
  if (geteuid() != 0) GTEST_SKIP() << "only a worker of root covers anything";
  for (const std::string below : {"/mnt", "/media", "/srv"}) {
    std::string name = below + "/souk-test-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) continue;
    const fs::path shown = name;
    std::ofstream(shown / "model") << "weights";
    fs::permissions(shown, fs::perms(0755));
    {
      BOXES(stage, 1, {shown});
      EXPECT_EQ(stage.task("cat " + (shown / "model").string()).out, "weights");
      EXPECT_EQ(stage.task("ls " + below).out, shown.filename().string() + "\n");
    }
    fs::remove_all(shown);
  }
}

/// Whoever was killed is in its group for a moment yet.
TEST(ControlGroups, GoWithThoseThatWereKilledInThem) {
  const std::string name = "souk-test-" + std::to_string(getpid());
  const auto groups = ControlGroups::find(name);
  if (groups.kind() == ControlGroups::Kind::none) GTEST_SKIP() << groups.why_not();
  std::vector<int> inside;
  {
    const auto group = groups.make(0);
    ASSERT_TRUE(group.exists());
    for (int n = 0; n < 6; ++n) {
      inside.push_back(::fork());
      if (inside.back() != 0) continue;
      bool good = true;
      for (const Fd& door : group.doors()) good = good && ::write(door.get(), "0", 1) == 1;
      const std::vector<char> much(64 << 20, 'x');  // which takes a moment to be given back
      if (good) ::kill(getpid(), SIGSTOP);
      ::_exit(1);
    }
  }
  int status = 0;
  for (const int pid : inside) ASSERT_TRUE(::waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status));
  for (const int pid : inside) ::kill(pid, SIGKILL);
  groups.remove_all(1);
  for (const int pid : inside) ::waitpid(pid, nullptr, 0);
  std::error_code failure;
  for (auto entry = fs::recursive_directory_iterator("/sys/fs/cgroup", fs::directory_options::skip_permission_denied, failure); entry != fs::recursive_directory_iterator(); entry.increment(failure))
    EXPECT_FALSE(entry->path().filename().string().starts_with(name)) << entry->path();
}

/// v2, in files: a group that is given to us has our runners in it as well, and none with processes may have groups with limits.
TEST(ControlGroups, TakeRunnersAlongAndNobodyElse) {
  const fs::path root = new_folder(), group = root / "user.slice/worker.service";
  const auto write = [](const fs::path& file, const std::string& text) {
    fs::create_directories(file.parent_path());
    std::ofstream(file) << text;
  };
  const int runner = ::fork();
  if (runner == 0) {
    ::pause();
    ::_exit(0);
  }
  write(root / "self", "0::/user.slice/worker.service\n");
  write(group / "cgroup.controllers", "cpu io memory pids\n");
  write(group / "cgroup.subtree_control", "");
  write(group / "cgroup.procs", "1\n" + std::to_string(runner) + "\n");
  write(group / "souk-worker/cgroup.procs", "");
  for (const char* file : {"memory.max", "pids.max", "cgroup.procs"}) write(group / "souk-x-0" / file, "");
  const auto groups = ControlGroups::find("souk-x", root, root / "self");
  EXPECT_EQ(groups.kind(), ControlGroups::Kind::v2) << groups.why_not();
  std::string moved, enabled;
  std::getline(std::ifstream(group / "souk-worker/cgroup.procs"), moved);
  std::getline(std::ifstream(group / "cgroup.subtree_control"), enabled);
  EXPECT_EQ(moved, std::to_string(runner));
  EXPECT_EQ(enabled, "+memory +pids");
  ::kill(runner, SIGKILL);
  ::waitpid(runner, nullptr, 0);
  fs::remove_all(root);
}

TEST(Sandbox, SaysWhyNoneWorks) {
  Stage stage(true);
  const auto without = Sandbox::find({SOUK_RUNNER, stage.work, {}, stage.folder.string()});
  ASSERT_FALSE(without);
  EXPECT_NE(without.error().text().find("bwrap is not installed; install the package bubblewrap"), std::string::npos) << without.error().text();
  const fs::path broken = stage.folder / "bwrap";
  std::ofstream(broken) << "#!/bin/sh\necho 'bwrap: No permissions to create new namespace' >&2\nexit 1\n";
  for (const auto& path : {broken, stage.folder}) fs::permissions(path, fs::perms(0755));
  const auto container = Sandbox::find({SOUK_RUNNER, stage.work, {}, stage.folder.string()});
  ASSERT_FALSE(container);
  EXPECT_NE(container.error().text().find("No permissions to create new namespace; this user may make no user namespaces"), std::string::npos) << container.error().text();
  Launch launch = Boxes::boxed("echo x");
  const Outcome outcome = stage.run(std::move(launch));
  EXPECT_EQ(outcome.cause, Cause::not_started) << "never bare instead";
}

}  // namespace
}  // namespace souk
