#include "worker/images.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

#include "protocol/form.h"
#include "protocol/needs.h"
#include "worker/folder.h"

namespace souk {

namespace fs = std::filesystem;
using std::chrono::steady_clock;

namespace {

constexpr std::chrono::seconds kAskMax{60};
constexpr std::chrono::minutes kUnpackMax{15}, kPullMax{60}, kWaitMax{20};  // the last: for another worker that unpacks
constexpr std::size_t kSaidMax = 4096, kAnswerMax = 4 << 20;
constexpr std::size_t kVariablesMax = 256, kEnvironmentMax = 64 << 10;
constexpr const char* kNew = ".new";  // at the end of the name of what is not complete

struct Ran {
  bool good = false;
  std::string answer, said;  // of the last one, of all
};

std::string start_of(const Fd& file, std::size_t most) {
  std::string text(most, '\0');
  const ssize_t size = ::pread(file.get(), text.data(), text.size(), 0);
  text.resize(size > 0 ? static_cast<std::size_t>(size) : 0);
  return text;
}

/// Runs programs, each one's output the input of the next. What the last one answers, and what all of them say, is in memory, not in pipes: something that podman leaves behind may hold
/// those, so the programs' ends count.
Ran run(const std::vector<std::vector<std::string>>& programs, std::chrono::seconds most) {
  struct Running {
    pid_t pid;
    Fd ended;
  };
  Ran ran;
  std::vector<Running> running;
  const auto end_from = [&](std::size_t first) {
    for (std::size_t i = first; i < running.size(); ++i) ::kill(-running[i].pid, SIGKILL);
    for (std::size_t i = first; i < running.size(); ++i)
      while (::waitpid(running[i].pid, nullptr, 0) < 0 && errno == EINTR) {}
  };
  const auto failed = [&](const std::string& what) {
    ran = {false, "", what + ": " + std::strerror(errno)};
    end_from(0);
    return ran;
  };
  const Fd say(::memfd_create("souk-said", MFD_CLOEXEC)), answer(::memfd_create("souk-answer", MFD_CLOEXEC));
  Fd input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (say.get() < 0 || answer.get() < 0 || input.get() < 0) return failed("no file for what it says");
  const pid_t parent = ::getpid();
  for (const auto& words : programs) {
    int ends[2] = {-1, -1};
    if (&words != &programs.back() && ::pipe2(ends, O_CLOEXEC) != 0) return failed("pipe");
    Fd next(ends[0]);
    const Fd between(ends[1]);
    const int output = between.get() < 0 ? answer.get() : between.get();
    std::vector<char*> argv;
    for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
    argv.push_back(nullptr);
    const pid_t pid = ::fork();
    if (pid < 0) return failed("fork");
    if (pid == 0) {
      ::setpgid(0, 0);
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      ::umask(022);
      std::signal(SIGPIPE, SIG_DFL);
      if (::getppid() != parent || ::dup2(input.get(), 0) < 0 || ::dup2(output, 1) < 0 || ::dup2(say.get(), 2) < 0) ::_exit(127);
      ::execvp(argv[0], argv.data());
      ::dprintf(2, "%s: %s", argv[0], std::strerror(errno));
      ::_exit(127);
    }
    ::setpgid(pid, pid);
    running.push_back({pid, Fd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)))});
    if (running.back().ended.get() < 0) return failed("pidfd");
    input = std::move(next);
  }
  input.reset();
  ran.good = true;
  const auto until = steady_clock::now() + most;
  bool late = false;
  for (std::size_t i = 0; i < running.size() && !late; ++i) {
    pollfd ended{running[i].ended.get(), POLLIN, 0};
    int there = 0;
    do {
      const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - steady_clock::now()).count();
      there = ::poll(&ended, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    } while (there < 0 && errno == EINTR);
    late = there <= 0;
    int status = 0;
    if (late) end_from(i);
    else while (::waitpid(running[i].pid, &status, 0) < 0 && errno == EINTR) {}
    ran.good = ran.good && !late && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
  ran.answer = start_of(answer, kAnswerMax), ran.said = start_of(say, kSaidMax);
  if (late) ran.said += " (it did not end in " + std::to_string(most.count()) + " s)";
  return ran;
}

std::string in_a_line(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' ')) text.pop_back();
  std::replace(text.begin(), text.end(), '\n', ' ');
  return text.empty() ? "it does not say why" : shortened(printable(text), 400);
}

Error refused(const std::string& name, std::string why, std::string remedy) { return {"cannot offer image " + name, std::move(why), std::move(remedy)}; }

/// Locked as asked, waiting so long; -1: somebody has it, or there is none.
Fd locked(const fs::path& folder, int how, std::chrono::seconds most = std::chrono::seconds(0)) {
  Fd file(::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
  for (const auto until = steady_clock::now() + most; file.get() >= 0 && ::flock(file.get(), how | LOCK_NB) != 0; ::usleep(50'000))
    if (errno != EWOULDBLOCK || steady_clock::now() >= until) file.reset();
  return file;
}

void remove_folder(const fs::path& folder) {
  const Fd parent(::open(folder.parent_path().c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (parent.get() >= 0) remove_tree(parent.get(), folder.filename().c_str());
}

class Store {
 public:
  Store(const ImageOptions& options, const std::function<void(const std::string&)>& note) : options_(options), note_(note) {}

  Result<Image> get(const std::string& name) {
    Ran asked = ask(name);
    if (!asked.good && options_.pull) {
      note_("pulling image " + name);
      if (Ran pulled = run({{"podman", "pull", "--quiet", name}}, kPullMax); !pulled.good) return refused(name, "podman cannot pull it: " + in_a_line(pulled.said), "try `podman pull " + name + "` by hand");
      asked = ask(name);
    }
    if (!asked.good) {
      if (asked.said.starts_with("podman: ")) return refused(name, in_a_line(asked.said), "install podman (Debian: apt install podman), or leave --image out");
      return refused(name, "podman does not have it: " + in_a_line(asked.said), "fetch it with `podman pull " + name + "`, as the user of this worker, or let the worker do it (--image-pull)");
    }
    auto read = read_inspection(asked.answer);
    if (!read) return refused(name, read.error().why, read.error().remedy);
    auto& [id, env] = read.value();
    Image image{name, options_.folder / id, std::move(env), nullptr};
    Fd held = locked(image.root, LOCK_SH);
    if (held.get() < 0) {
      note_("unpacking image " + name + " id=" + id.substr(0, 12));
      if (auto done = unpack(name, id); !done) return done.error();
      held = locked(image.root, LOCK_SH);
      if (held.get() < 0) return refused(name, "its folder " + image.root.string() + " cannot be opened: " + std::strerror(errno), "");
    }
    image.held = std::make_shared<const Fd>(std::move(held));
    return image;
  }

 private:
  static Ran ask(const std::string& name) { return run({{"podman", "image", "inspect", name}}, kAskMax); }

  Result<Done> unpack(const std::string& name, const std::string& id) {
    const fs::path fresh = options_.folder / (id + kNew);
    remove_folder(fresh);
    if (::mkdir(fresh.c_str(), 0755) != 0) return refused(name, "cannot make " + fresh.string() + ": " + std::strerror(errno), "");
    // One container of this name at a time, of whoever has the folder: so one that was left is of somebody who was killed.
    struct stat status{};
    ::stat(options_.folder.c_str(), &status);
    const std::string container = "souk-unpack-" + std::to_string(status.st_dev) + "-" + std::to_string(status.st_ino);
    const auto remove_container = [&] { run({{"podman", "rm", "--force", "--ignore", container}}, kAskMax); };
    remove_container();
    Ran ran = run({{"podman", "create", "--pull=never", "--network=none", "--name", container, id, "none"}}, kUnpackMax);
    if (ran.good) ran = run({{"podman", "export", container}, {"tar", "-x", "-C", fresh.string(), "--anchored", "--exclude=dev/*", "--exclude=proc/*", "--exclude=sys/*", "--no-same-owner", "--no-same-permissions", "-f", "-"}}, kUnpackMax);
    remove_container();
    Result<Done> made = ran.good ? make_system(fresh) : Result<Done>(refused(name, "it cannot be unpacked into " + options_.folder.string() + ": " + in_a_line(ran.said), "is there room on that disk?"));
    if (made) {
      const Fd disk(::open(fresh.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
      if (::syncfs(disk.get()) != 0 || ::rename(fresh.c_str(), (options_.folder / id).c_str()) != 0) made = refused(name, "cannot keep it in " + options_.folder.string() + ": " + std::strerror(errno), "");
    }
    if (!made) remove_folder(fresh);
    return made;
  }

  const ImageOptions& options_;
  const std::function<void(const std::string&)>& note_;
};

bool is_hex(const std::string& text, std::size_t length) {
  return text.size() == length && std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
}

}  // namespace

Result<std::pair<std::string, std::vector<std::pair<std::string, std::string>>>> read_inspection(const std::string& json) {
  const auto bad = [](std::string why) { return Error{"image refused", "what podman tells of it cannot be read: " + std::move(why), "try `podman image inspect` by hand"}; };
  const auto read = nlohmann::json::parse(json, nullptr, false);
  if (!read.is_array() || read.size() != 1 || !read[0].is_object()) return bad("it is no list of one image");
  const auto& one = read[0];
  const auto id = one.find("Id");
  if (id == one.end() || !id->is_string() || !is_hex(id->get<std::string>(), 64)) return bad("it has no id");
  std::vector<std::pair<std::string, std::string>> env;
  std::size_t bytes = 0;
  if (const auto config = one.find("Config"); config != one.end() && config->is_object())
    if (const auto list = config->find("Env"); list != config->end() && list->is_array())
      for (const auto& entry : *list) {
        if (!entry.is_string()) continue;
        const std::string text = entry.get<std::string>();
        const auto equals = text.find('=');
        if (equals == std::string::npos || equals == 0 || text.find('\0') != std::string::npos) continue;
        bytes += text.size();
        if (env.size() == kVariablesMax || bytes > kEnvironmentMax) break;
        env.emplace_back(text.substr(0, equals), text.substr(equals + 1));
      }
  return std::pair{id->get<std::string>(), std::move(env)};
}

Result<Done> make_system(const fs::path& root) {
  const auto bad = [&](const fs::path& what, const std::error_code& failure) {
    return Error{"cannot offer an image", "cannot prepare " + what.string() + ": " + (failure ? failure.message() : std::strerror(errno)), ""};
  };
  std::error_code failure;
  std::vector<fs::path> strange;  // devices, sockets, pipes
  if (::chmod(root.c_str(), 0755) != 0) return bad(root, failure);
  for (fs::recursive_directory_iterator at(root, failure), end; at != end; at.increment(failure)) {
    if (failure) return bad(root, failure);
    struct stat status{};
    const fs::path& path = at->path();
    if (::lstat(path.c_str(), &status) != 0) return bad(path, failure);
    if (S_ISLNK(status.st_mode)) continue;
    if (!S_ISDIR(status.st_mode) && !S_ISREG(status.st_mode)) {
      strange.push_back(path);
      continue;
    }
    const bool runs = S_ISDIR(status.st_mode) || (status.st_mode & 0111) != 0;
    if (::chmod(path.c_str(), runs ? 0755 : 0644) != 0) return bad(path, failure);  // no link: looked at above, and nobody else is here
  }
  if (failure) return bad(root, failure);
  for (const auto& path : strange)
    if (::unlink(path.c_str()) != 0) return bad(path, failure);
  const auto folder = [&](const fs::path& path) {
    if (fs::is_directory(fs::symlink_status(path, failure))) return true;
    fs::remove(path, failure);
    return ::mkdir(path.c_str(), 0755) == 0;
  };
  // A sandbox mounts its own onto these, and cannot make what is not there.
  if (!folder(root / "etc")) return bad(root / "etc", failure);
  for (const char* name : {"passwd", "group", "nsswitch.conf", "hosts", "resolv.conf"}) {
    const fs::path path = root / "etc" / name;
    if (fs::is_regular_file(fs::symlink_status(path, failure))) continue;
    fs::remove_all(path, failure);
    const Fd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    if (file.get() < 0) return bad(path, failure);
  }
  if (!folder(root / "var")) return bad(root / "var", failure);
  fs::remove_all(root / "var" / "tmp", failure);
  if (::symlink("/tmp", (root / "var" / "tmp").c_str()) != 0) return bad(root / "var/tmp", failure);
  return Done{};
}

Result<std::vector<Image>> get_images(const ImageOptions& options, const std::function<void(const std::string&)>& note) {
  std::error_code failure;
  fs::create_directories(options.folder, failure);
  if (failure || ::chmod(options.folder.c_str(), options.for_all ? 0755 : 0700) != 0)
    return Error{"cannot keep images in " + options.folder.string(), failure ? failure.message() : std::strerror(errno), "set XDG_CACHE_HOME to a folder of this user's"};
  const Fd alone = locked(options.folder, LOCK_EX, kWaitMax);
  if (alone.get() < 0) return Error{"cannot keep images in " + options.folder.string(), "another worker unpacks one there and does not come to an end", "try again later"};
  Store store(options, note);
  std::vector<Image> images;
  for (const std::string& name : options.names) {
    auto image = store.get(name);
    if (!image) return image.error();
    images.push_back(std::move(image.value()));
  }
  // What no worker holds: older ones of a name, and what was not unpacked to its end.
  for (fs::directory_iterator at(options.folder, failure), end; !failure && at != end; at.increment(failure)) {
    std::string name = at->path().filename().string();
    if (name.ends_with(kNew)) name.resize(name.size() - std::strlen(kNew));
    if (!is_hex(name, 64)) continue;  // not ours
    if (const Fd unused = locked(at->path(), LOCK_EX); unused.get() >= 0) remove_folder(at->path());
  }
  return images;
}

}  // namespace souk
