#include "worker/sandbox.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <linux/close_range.h>
#include <linux/ioprio.h>
#include <linux/netlink.h>
#include <memory>
#include <set>

#include "protocol/form.h"
#include "worker/runner_wire.h"

namespace souk {

namespace fs = std::filesystem;

namespace {

constexpr std::chrono::seconds kTryMax{20};
constexpr const char* kUser = "1000";  // in a sandbox
constexpr unsigned kNobody = 65534;    // of the host, for workers of root
constexpr const char* kOurs[] = {"dev", "proc", "run", "sys", "tmp", "work"};  // at the top of a sandbox, whatever an image has there
constexpr std::size_t kTopMax = 1024;  // at the top of an image

// ---- System calls -----------------------------------------------------------------------------------------------------------------
// All that this system's libseccomp knows are allowed but those named here; what it does not know gets ENOSYS, as on an older kernel, and programs do without.

/// ENOSYS: programs have another way.
constexpr const char* kMissing[] = {
    "clone3",  // its flags are in memory, which a filter cannot read; C libraries then call clone
    "io_uring_setup", "io_uring_enter", "io_uring_register",  // does by itself what a filter would see otherwise
};
/// EPERM. Most need capabilities that nobody in there has; they are taken from the reach of whoever finds a fault in the kernel.
constexpr const char* kForbidden[] = {
    // other processes, and with them the runner
    "ptrace", "process_vm_readv", "process_vm_writev", "process_madvise", "process_mrelease", "kcmp", "pidfd_getfd", "move_pages", "migrate_pages",
    // namespaces and mounts
    "unshare", "setns", "mount", "umount", "umount2", "pivot_root", "chroot", "open_tree", "open_tree_attr", "move_mount", "fsopen", "fsconfig", "fsmount", "fspick", "mount_setattr",
    "name_to_handle_at", "open_by_handle_at", "quotactl", "quotactl_fd", "fanotify_init", "fanotify_mark",
    // the kernel itself
    "bpf", "perf_event_open", "userfaultfd", "init_module", "finit_module", "delete_module", "create_module", "kexec_load", "kexec_file_load", "reboot", "syslog", "acct", "swapon", "swapoff",
    "iopl", "ioperm", "modify_ldt", "vm86", "vm86old", "lookup_dcookie", "nfsservctl", "_sysctl", "sysfs", "uselib", "ustat", "vhangup",
    // clocks and names of the host
    "settimeofday", "stime", "clock_settime", "clock_settime64", "clock_adjtime", "clock_adjtime64", "adjtimex", "sethostname", "setdomainname",
    // what would outlive a task: keys, message queues
    "add_key", "request_key", "keyctl", "mq_open", "mq_unlink",
};

class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(ENOSYS)), seccomp_release) { good_ = context_ != nullptr; }

  bool build() {
    if (!good_) return false;
    good_ = seccomp_attr_set(context_.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_ERRNO(ENOSYS)) == 0;  // calls of another architecture: a 32-bit program
    seccomp_attr_set(context_.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2);                                   // a tree; not known to old ones
    std::set<int> ruled;
    const auto number = [&](const char* name) {
      const int call = seccomp_syscall_resolve_name(name);
      if (call >= 0) ruled.insert(call);
      return call;
    };
    for (const char* name : kMissing) number(name);
    for (const char* name : kForbidden)
      if (const int call = number(name); call >= 0) add(SCMP_ACT_ERRNO(EPERM), call, {});
    const auto allow_if = [&](const char* name, const std::vector<scmp_arg_cmp>& when) {
      if (const int call = number(name); call >= 0) add(SCMP_ACT_ALLOW, call, when);
    };
    // "Is not" would compare 64 bits: so any bit that 1 does not have, or not the one it has.
    const auto allow_but_for_1 = [&](const char* name, unsigned argument, std::vector<scmp_arg_cmp> when) {
      when.push_back({argument, SCMP_CMP_MASKED_EQ, 1, 0});
      allow_if(name, when);
      for (unsigned bit = 1; bit < 32; ++bit) {
        when.back() = {argument, SCMP_CMP_MASKED_EQ, std::uint64_t{1} << bit, std::uint64_t{1} << bit};
        allow_if(name, when);
      }
    };
    // No new namespaces; and threads of one process have one table of files, so that the runner can see what they hold (runner_watch.h).
    constexpr std::uint64_t kSpaces = CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWCGROUP;
    allow_if("clone", {SCMP_A0(SCMP_CMP_MASKED_EQ, kSpaces | CLONE_THREAD, 0)});
    allow_if("clone", {SCMP_A0(SCMP_CMP_MASKED_EQ, kSpaces | CLONE_THREAD | CLONE_FILES, CLONE_THREAD | CLONE_FILES)});
    allow_if("close_range", {SCMP_A2(SCMP_CMP_MASKED_EQ, CLOSE_RANGE_UNSHARE, 0)});
    // Sockets of families that a network namespace holds: not vsock, not packet, nor what else the kernel has.
    for (const int family : {AF_UNIX, AF_INET, AF_INET6}) allow_if("socket", {is(0, family)});
    allow_if("socket", {is(0, AF_NETLINK), is(2, NETLINK_ROUTE)});  // which addresses there are
    allow_if("socketpair", {is(0, AF_UNIX)});
    // Limits of itself only: the runner has the same user.
    allow_if("prlimit64", {is(0, 0)});
    allow_if("prlimit64", {SCMP_A2(SCMP_CMP_EQ, 0)});  // only asked
    // The runner is process 1, and process group 1, of the same user. Nobody makes it wait.
    for (const char* name : {"sched_setscheduler", "sched_setparam", "sched_setattr", "sched_setaffinity"}) allow_but_for_1(name, 0, {});
    for (const int which : {PRIO_PROCESS, PRIO_PGRP}) allow_but_for_1("setpriority", 1, {is(0, which)});
    for (const int which : {int{IOPRIO_WHO_PROCESS}, int{IOPRIO_WHO_PGRP}}) allow_but_for_1("ioprio_set", 1, {is(0, which)});
    for (const int persona : {int{PER_LINUX}, int{ADDR_NO_RANDOMIZE}, -1}) allow_if("personality", {is(0, persona)});
    for (int call = 0; call < 1024; ++call) {
      if (ruled.contains(call)) continue;
      const std::unique_ptr<char, decltype(&std::free)> name(seccomp_syscall_resolve_num_arch(SCMP_ARCH_NATIVE, call), std::free);
      if (name) add(SCMP_ACT_ALLOW, call, {});
    }
    return good_;
  }
  bool save(int file) const { return seccomp_export_bpf(context_.get(), file) == 0; }

 private:
  /// An argument of 32 bits: what stands above them the kernel does not look at.
  static scmp_arg_cmp is(unsigned argument, int value) { return {argument, SCMP_CMP_MASKED_EQ, 0xffffffffu, static_cast<std::uint32_t>(value)}; }
  void add(std::uint32_t action, int call, const std::vector<scmp_arg_cmp>& when) {
    good_ = good_ && seccomp_rule_add_array(context_.get(), action, call, static_cast<unsigned>(when.size()), when.empty() ? nullptr : when.data()) == 0;
  }

  std::unique_ptr<void, decltype(&seccomp_release)> context_;
  bool good_ = false;
};

// ---- Files ------------------------------------------------------------------------------------------------------------------------

std::string found_in(const std::string& path, const char* program) {
  for (std::size_t from = 0; from <= path.size();) {
    const std::size_t to = std::min(path.find(':', from), path.size());
    const fs::path file = fs::path(path.substr(from, to - from)) / program;
    if (to > from && file.is_absolute() && ::access(file.c_str(), X_OK) == 0) return file.string();
    from = to + 1;
  }
  return "";
}

bool write_file(const fs::path& file, std::string_view text) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << text;
  out.close();
  return !out.fail();
}

/// What it says, at most 4 KiB, and how it ended; below 0: not at all.
int run(const std::vector<std::string>& command, int filter, const Gate& gate, std::string& said) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
  Fd from(ends[0]), to(ends[1]);
  const Fd high(filter < 0 ? -1 : ::fcntl(filter, F_DUPFD_CLOEXEC, 10));
  std::vector<char*> argv;
  for (const auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  char* env[] = {nullptr};
  const pid_t pid = ::fork();
  if (pid < 0) return -1;
  if (pid == 0) {
    const int null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
    if (::dup2(null, 0) < 0 || ::dup2(to.get(), 1) < 0 || ::dup2(to.get(), 2) < 0 || (high.get() >= 0 && ::dup2(high.get(), kFilterFd) < 0)) ::_exit(127);
    if (const int failure = pass(gate); failure != 0) {
      ::dprintf(2, "cannot become another user: %s", std::strerror(failure));
      ::_exit(127);
    }
    ::execve(argv[0], argv.data(), env);
    ::dprintf(2, "%s: %s", argv[0], std::strerror(errno));
    ::_exit(127);
  }
  to.reset();
  const auto until = std::chrono::steady_clock::now() + kTryMax;
  for (char text[512];;) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - std::chrono::steady_clock::now()).count();
    pollfd ready{from.get(), POLLIN, 0};
    if (left <= 0 || ::poll(&ready, 1, static_cast<int>(left)) == 0) {
      ::kill(pid, SIGKILL);
      said += " (it did not end in " + std::to_string(kTryMax.count()) + " s)";
      break;
    }
    const ssize_t n = ::read(from.get(), text, sizeof text);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) break;
    if (said.size() < 4096) said.append(text, static_cast<std::size_t>(n));
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

std::string one_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  for (char& c : text)
    if (c == '\n') c = ' ';
  return shortened(printable(text), 300);
}

}  // namespace

int pass(const Gate& gate) {
  if (!gate.closed()) return 0;
  if (::unshare(CLONE_NEWNS) != 0 || ::mount("none", "/", nullptr, MS_REC | MS_SLAVE, nullptr) != 0 || ::mount(gate.from.c_str(), gate.to.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
      ::mount(gate.runner.c_str(), gate.runner_at.c_str(), nullptr, MS_BIND, nullptr) != 0 ||
      (!gate.images.empty() && ::mount(gate.images.c_str(), gate.images_at.c_str(), nullptr, MS_BIND, nullptr) != 0))
    return errno;
  // The library's functions would ask all threads of the parent, whose memory this may share.
  if (::syscall(SYS_setgroups, 0, nullptr) != 0 || ::syscall(SYS_setresgid, gate.user, gate.user, gate.user) != 0 || ::syscall(SYS_setresuid, gate.user, gate.user, gate.user) != 0) return errno;
  return 0;
}

Result<Sandbox> Sandbox::find(Setup setup) {
  Sandbox box;
  box.setup_ = std::move(setup);
  std::string path = box.setup_.path;
  if (path.empty()) {
    const char* const ours = std::getenv("PATH");
    path = std::string(ours ? ours : "") + ":/usr/bin:/bin";
  }
  box.bwrap_ = found_in(path, "bwrap");
  if (box.bwrap_.empty()) return Error{"no sandbox", "bwrap is not installed", "install the package bubblewrap"};
  std::string version;
  run({box.bwrap_, "--version"}, -1, Gate{}, version);
  box.version_ = one_line(version.starts_with("bubblewrap ") ? version.substr(11) : version);
  std::error_code failure;
  box.setup_.work = fs::absolute(box.setup_.work, failure);
  box.setup_.runner = fs::absolute(box.setup_.runner, failure);
  if (!box.setup_.images.empty()) box.setup_.images = fs::absolute(box.setup_.images, failure);
  box.files_ = box.setup_.work / runner::kSandboxFolder;
  if (::geteuid() == 0) {
    // What lies below it is covered for the sandbox: nothing that it needs. Nor may a task see it.
    const auto is_in_the_way = [&](const fs::path& to) {
      const auto holds = [&](const fs::path& upper, const fs::path& lower) { return std::mismatch(upper.begin(), upper.end(), lower.begin(), lower.end()).first == upper.end(); };
      const auto real = [&](const fs::path& one) { return fs::weakly_canonical(one, failure); };
      return holds(to, real(box.setup_.runner)) || holds(to, real(box.bwrap_)) || (!box.setup_.images.empty() && holds(to, real(box.setup_.images))) ||
             std::any_of(box.setup_.shown.begin(), box.setup_.shown.end(), [&](const fs::path& shown) { return holds(to, real(shown)) || holds(real(shown), to); });
    };
    for (const char* to : {"/mnt", "/media", "/srv", "/opt", "/var/tmp", "/tmp", "/home"})
      if (box.gate_.to.empty() && fs::is_directory(to, failure) && !fs::is_symlink(to, failure) && !is_in_the_way(to)) box.gate_.to = to;
    if (box.gate_.to.empty()) return Error{"no sandbox", "a worker of root needs a folder to hand files over, and /mnt, /media, /srv, /opt, /var/tmp, /tmp and /home are all shown to tasks", "show less (--sandbox-show), or run it as another user"};
    box.gate_.from = box.files_.string(), box.gate_.runner = box.setup_.runner.string(), box.gate_.runner_at = box.gate_.to + "/runner";
    if (!box.setup_.images.empty()) box.gate_.images = box.setup_.images.string(), box.gate_.images_at = box.gate_.to + "/images";
    box.gate_.user = kNobody;
  }
  if (const auto written = box.write_files(); !written) return written.error();
  if (const auto tried = box.try_out(); !tried) return tried.error();
  struct stat status{};
  ::stat(box.setup_.work.c_str(), &status);
  box.groups_ = ControlGroups::find("souk-" + std::to_string(status.st_dev) + "-" + std::to_string(status.st_ino));
  return box;
}

Result<Done> Sandbox::write_files() {
  const auto bad = [&](const char* what) { return Error{"no sandbox", std::string("cannot write ") + what + " in " + files_.string() + ": " + std::strerror(errno), ""}; };
  const bool shared = gate_.closed();
  if ((::mkdir(files_.c_str(), 0700) != 0 && errno != EEXIST) || ::chmod(files_.c_str(), shared ? 0755 : 0700) != 0) return bad("anything");
  Filter filter;
  const Fd file(::open((files_ / "filter").c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
  if (file.get() < 0) return bad("the filter");
  if (!filter.build() || !filter.save(file.get())) return Error{"no sandbox", "libseccomp of this system cannot make the filter of system calls", "update libseccomp2"};
  const std::string user = kUser;
  if (!write_file(files_ / "passwd", "souk:x:" + user + ":" + user + ":Souk task:" + kBoxWork + ":/bin/sh\n") || !write_file(files_ / "group", "souk:x:" + user + ":\n") ||
      !write_file(files_ / "hosts", "127.0.0.1 localhost souk\n::1 localhost\n") || !write_file(files_ / "nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"))
    return bad("its files");
  for (const char* name : {"passwd", "group", "hosts", "nsswitch.conf"}) ::chmod((files_ / name).c_str(), 0644);
  if (shared && !write_file(files_ / "runner", "")) return bad("its files");
  if (shared && ::mkdir((files_ / "images").c_str(), 0755) != 0 && errno != EEXIST) return bad("its files");
  return Done{};
}

Result<Done> Sandbox::try_out(const std::string& image) {
  const fs::path folder = files_ / "try";
  if ((::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) || (gate_.closed() && ::chown(folder.c_str(), gate_.user, gate_.user) != 0)) return Error{"no sandbox", "cannot make " + folder.string() + ": " + std::strerror(errno), ""};
  Boxed box;
  box.image = image;
  auto words = command("try", box);
  words.emplace_back("sandbox-check");
  std::string said;
  const int code = run(words, filter().get(), gate_, said);
  ::rmdir(folder.c_str());
  if (code == 0) return Done{};
  said = one_line(said);
  const bool spaces = said.find("namespace") != std::string::npos || said.find("uid map") != std::string::npos || said.find("loopback") != std::string::npos || said.find("mount") != std::string::npos ||
                      said.find("proc") != std::string::npos;
  return Error{"no sandbox", "bwrap does not work here: " + (said.empty() ? "it ended with exit code " + std::to_string(code) : said),
               spaces ? "this user may make no user namespaces, as in many containers: allow them (sysctl kernel.unprivileged_userns_clone=1, user.max_user_namespaces; AppArmor: "
                        "kernel.apparmor_restrict_unprivileged_userns=0; docker run --security-opt seccomp=unconfined --security-opt systempaths=unconfined)"
                      : ""};
}

Result<Done> Sandbox::add_image(const std::string& name, const fs::path& root) {
  const auto bad = [&](std::string why, std::string remedy) { return Error{"cannot offer image " + name, std::move(why), std::move(remedy)}; };
  const auto is_ours = [](const std::string& one) { return std::find(std::begin(kOurs), std::end(kOurs), one) != std::end(kOurs); };
  std::error_code failure;
  for (const auto& shown : setup_.shown) {  // mounted into it, where nothing can be made any more then
    fs::path at = root;
    const fs::path inside = shown.lexically_normal().relative_path();
    if (inside.empty() || is_ours(inside.begin()->string())) continue;
    for (const auto& part : inside) {
      if (part.empty()) continue;
      at /= part;
      const auto status = fs::symlink_status(at, failure);
      if (fs::is_directory(status)) continue;
      if (fs::exists(status) || !fs::create_directory(at, failure)) return bad("it has no room for " + shown.string() + ", which is to be shown to tasks", "show less (--sandbox-show), or leave this image out");
    }
  }
  ImageRoot image{root.filename().string(), {}, {}};
  for (fs::directory_iterator at(root, failure), end; !failure && at != end; at.increment(failure)) {
    const std::string entry = at->path().filename().string();
    if (is_ours(entry)) continue;
    if (image.names.size() + image.links.size() == kTopMax) return bad("over " + std::to_string(kTopMax) + " files and folders lie at its top", "");
    if (at->is_symlink(failure)) image.links.emplace_back(fs::read_symlink(at->path(), failure).string(), entry);
    else image.names.push_back(entry);
  }
  if (failure) return bad("cannot read " + root.string() + ": " + failure.message(), "");
  std::sort(image.names.begin(), image.names.end());
  images_[name] = std::move(image);
  if (const auto tried = try_out(name); !tried) {
    images_.erase(name);
    return bad(tried.error().why, tried.error().remedy);
  }
  return Done{};
}

Fd Sandbox::filter() const { return Fd(::open((files_ / "filter").c_str(), O_RDONLY | O_CLOEXEC)); }

/// The programs and libraries of this host, and of its settings what programs look for, and no secrets: not all of /etc.
void Sandbox::add_host(std::vector<std::string>& words) const {
  const auto add = [&](std::initializer_list<std::string> more) { words.insert(words.end(), more); };
  add({"--ro-bind", "/usr", "/usr"});
  std::error_code failure;
  for (const char* name : {"bin", "sbin", "lib", "lib32", "lib64", "libx32"}) {
    const fs::path path = fs::path("/") / name;
    if (fs::is_symlink(path, failure)) add({"--symlink", fs::read_symlink(path, failure).string(), path.string()});
    else if (fs::is_directory(path, failure)) add({"--ro-bind", path.string(), path.string()});
  }
  add({"--symlink", "/tmp", "/var/tmp"});
  for (const char* name : {"alternatives", "ca-certificates.conf", "fonts", "gai.conf", "host.conf", "java-11-openjdk", "java-17-openjdk", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime",
                           "magic", "mime.types", "openmpi", "perl", "pki/tls/certs", "protocols", "python3", "python3.11", "R", "services", "ssl/certs", "ssl/openssl.cnf", "terminfo", "timezone"}) {
    const std::string path = std::string("/etc/") + name;
    if (fs::exists(path, failure)) add({"--ro-bind-try", path, path});
  }
}

std::vector<std::string> Sandbox::command(const std::string& folder, const Boxed& box) const {
  const fs::path files = gate_.closed() ? fs::path(gate_.to) : files_;
  std::vector<std::string> words{bwrap_, "--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"};
  const auto add = [&](std::initializer_list<std::string> more) { words.insert(words.end(), more); };
  if (!box.network) add({"--unshare-net"});
  add({"--die-with-parent", "--as-pid-1", "--clearenv", "--hostname", "souk", "--uid", kUser, "--gid", kUser, "--cap-drop", "ALL", "--seccomp", std::to_string(kFilterFd)});
  std::error_code failure;
  if (const auto image = images_.find(box.image); image != images_.end()) {
    const fs::path root = (gate_.closed() ? fs::path(gate_.images_at) : setup_.images) / image->second.folder;
    for (const auto& name : image->second.names) add({"--ro-bind", (root / name).string(), "/" + name});
    for (const auto& [to, name] : image->second.links) add({"--symlink", to, "/" + name});
  } else {
    add_host(words);
  }
  add({"--proc", "/proc", "--dev", "/dev"});
  if (box.gpus) {
    for (const auto& entry : fs::directory_iterator("/dev", failure))
      if (const std::string name = entry.path().filename().string(); name.starts_with("nvidia") || name == "dri" || name == "kfd") add({"--dev-bind-try", entry.path().string(), entry.path().string()});
    add({"--ro-bind-try", "/sys", "/sys"});  // where drivers look for them
  }
  const std::string tmp = std::to_string(std::max<std::uint64_t>(box.bounds.tmp, 1 << 20));
  add({"--perms", "1777", "--size", tmp, "--tmpfs", "/dev/shm", "--remount-ro", "/dev", "--perms", "1777", "--size", tmp, "--tmpfs", "/tmp"});
  for (const char* name : {"passwd", "group", "nsswitch.conf"}) add({"--ro-bind", (files / name).string(), std::string("/etc/") + name});
  add({"--ro-bind", box.network && fs::exists("/etc/hosts", failure) ? std::string("/etc/hosts") : (files / "hosts").string(), "/etc/hosts"});
  if (box.network) add({"--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf"});
  for (const auto& shown : setup_.shown) add({"--ro-bind-try", shown.string(), shown.string()});
  add({"--ro-bind", gate_.closed() ? gate_.runner_at : setup_.runner.string(), "/run/souk-runner", "--bind", (files / folder).string(), kBoxWork, "--chdir", kBoxWork, "--remount-ro", "/", "--", "/run/souk-runner"});
  return words;
}

std::string Sandbox::note() const {
  const std::string what = "bwrap " + version_ + ", seccomp";
  switch (groups_.kind()) {
    case ControlGroups::Kind::v1: return what + ", memory and processes limited by control groups (v1)";
    case ControlGroups::Kind::v2: return what + ", memory and processes limited by control groups (v2)";
    case ControlGroups::Kind::none: break;
  }
  return what + ", memory limited for each process and watched for the whole sandbox, processes limited (" + groups_.why_not() + ")";
}

}  // namespace souk
