#include "worker/probe.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cmath>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <fstream>
#include <optional>
#include <poll.h>
#include <sched.h>
#include <spawn.h>
#include <sstream>
#include <string_view>
#include <sys/statvfs.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "worker/speed.h"

extern char** environ;

namespace souk {
namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr std::size_t kValueMax = 256, kEntriesMax = 64;  // what an offer may hold (protocol/offer.h)
constexpr milliseconds kGpuPatience{2000};                // nvidia-smi wakes the driver

/// A program tells its version in the first number with a dot that it prints.
struct Software {
  std::string name;                  // in the offer
  std::vector<std::string> command;  // first is looked up in PATH
};
const std::vector<Software>& known_software() {
  static const std::vector<Software> known = {
      {"python", {"python3", "--version"}},
      {"bash", {"bash", "--version"}},
      {"perl", {"perl", "-e", "printf '%vd', $^V"}},
      {"gcc", {"gcc", "-dumpfullversion"}},
      {"g++", {"g++", "-dumpfullversion"}},
      {"gfortran", {"gfortran", "-dumpfullversion"}},
      {"clang", {"clang", "--version"}},
      {"make", {"make", "--version"}},
      {"cmake", {"cmake", "--version"}},
      {"java", {"java", "-version"}},
      {"R", {"R", "--version"}},
      {"octave", {"octave-cli", "--version"}},
      {"julia", {"julia", "--version"}},
      {"node", {"node", "--version"}},
      {"go", {"go", "version"}},
      {"rust", {"rustc", "--version"}},
      {"git", {"git", "--version"}},
      {"ffmpeg", {"ffmpeg", "-version"}},
      {"blender", {"blender", "--version"}},
      {"gromacs", {"gmx", "--version"}},
      {"docker", {"docker", "--version"}},
      {"podman", {"podman", "--version"}},
      {"apptainer", {"apptainer", "--version"}},
      {"singularity", {"singularity", "--version"}},
      {"bubblewrap", {"bwrap", "--version"}},
      {"mpi", {"mpirun", "--version"}},
  };
  return known;
}

std::string start_of(const fs::path& file, std::size_t most = 4096) {
  std::ifstream in(file, std::ios::binary);
  std::string text(most, '\0');
  in.read(text.data(), static_cast<std::streamsize>(most));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  return text;
}

std::string trimmed(std::string_view text) {
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.front()))) text.remove_prefix(1);
  while (!text.empty() && std::isspace(static_cast<unsigned char>(text.back()))) text.remove_suffix(1);
  return std::string(text.substr(0, kValueMax));
}

/// Value of the first line `name : value` (cpuinfo, information) or `name: value`.
std::string value_of(std::string_view text, std::string_view name) {
  while (!text.empty()) {
    const auto end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    const auto colon = line.find(':');
    if (colon != std::string_view::npos && trimmed(line.substr(0, colon)) == name) return trimmed(line.substr(colon + 1));
  }
  return "";
}

/// `3.11.2` in `Python 3.11.2`, `17.0.15` in `openjdk version "17.0.15" 2025-04-15`.
std::string version_in(std::string_view text) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (!std::isdigit(static_cast<unsigned char>(text[i]))) continue;
    std::size_t end = i;
    bool dotted = false;
    while (end < text.size() && (std::isdigit(static_cast<unsigned char>(text[end])) || (text[end] == '.' && end + 1 < text.size() && std::isdigit(static_cast<unsigned char>(text[end + 1]))))) {
      dotted = dotted || text[end] == '.';
      ++end;
    }
    if (dotted) return std::string(text.substr(i, std::min(end - i, kValueMax)));
    i = end - 1;
  }
  return "";
}

std::string find_program(const std::string& name, const std::string& path) {
  std::istringstream folders(path);
  for (std::string folder; std::getline(folders, folder, ':');) {
    if (folder.empty()) continue;
    std::string candidate = folder + "/" + name;
    std::error_code failure;
    if (access(candidate.c_str(), X_OK) == 0 && fs::is_regular_file(candidate, failure)) return candidate;
  }
  return "";
}

// ---- Asking programs ----------------------------------------------------------------------------------------------------------

struct Question {
  std::vector<std::string> command;  // first: a path
  std::string answer;                // what it printed, at most kAnswerMax
  bool in_time = false;              // all of its answer came in time
  bool succeeded = false;            // and it ended with exit code 0
  pid_t pid = -1;
  int from = -1;
};
constexpr std::size_t kAnswerMax = 16 << 10;

void ask(Question& question) {
  int pipe_ends[2];
  if (pipe2(pipe_ends, O_CLOEXEC) != 0) return;
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], 1);
  posix_spawn_file_actions_adddup2(&actions, pipe_ends[1], 2);  // java and mpirun tell it there
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  sigset_t all, none;
  sigfillset(&all);
  sigemptyset(&none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setsigmask(&attributes, &none);
  std::vector<char*> argv;
  for (auto& argument : question.command) argv.push_back(argument.data());
  argv.push_back(nullptr);
  if (posix_spawn(&question.pid, argv[0], &actions, &attributes, argv.data(), environ) != 0) question.pid = -1;
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  close(pipe_ends[1]);
  if (question.pid < 0) close(pipe_ends[0]);
  else question.from = pipe_ends[0];
}

/// Asks all at once; those that have not answered after `patience` are killed, with what they started.
void ask_all(std::vector<Question>& questions, milliseconds patience) {
  const auto until = steady_clock::now() + patience;
  for (auto& question : questions) ask(question);
  for (;;) {
    std::vector<pollfd> open;
    std::vector<Question*> asked;
    for (auto& question : questions)
      if (question.from >= 0) {
        open.push_back({question.from, POLLIN, 0});
        asked.push_back(&question);
      }
    const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now());
    if (open.empty() || left.count() <= 0) break;
    if (poll(open.data(), open.size(), static_cast<int>(left.count())) < 0 && errno != EINTR) break;
    for (std::size_t i = 0; i < open.size(); ++i) {
      if (open[i].revents == 0) continue;
      char text[4096];
      const ssize_t n = read(open[i].fd, text, sizeof text);
      if (n > 0 && asked[i]->answer.size() < kAnswerMax) {
        asked[i]->answer.append(text, static_cast<std::size_t>(n));
      } else if (n <= 0) {
        asked[i]->in_time = true;
        close(std::exchange(asked[i]->from, -1));
      }
    }
  }
  for (auto& question : questions) {
    if (question.pid < 0) continue;
    if (question.from >= 0) close(std::exchange(question.from, -1));
    int status = 0;
    // Its end follows its last word closely; one that closes its output and stays is killed too.
    while (question.in_time && waitpid(question.pid, &status, WNOHANG) == 0) {
      if (steady_clock::now() > until) question.in_time = false;
      else usleep(200);
    }
    if (!question.in_time) {
      kill(-question.pid, SIGKILL);
      while (waitpid(question.pid, &status, 0) < 0 && errno == EINTR) {}
    }
    question.succeeded = question.in_time && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  }
}

// ---- Parts of the offer -------------------------------------------------------------------------------------------------------

/// Folders of this process's control group, from its own up to the root, for a controller ("" for version 2).
std::vector<fs::path> groups_of(const fs::path& root, const std::string& controller) {
  std::vector<fs::path> folders;
  std::istringstream lines(start_of(root / "proc/self/cgroup", 16 << 10));
  for (std::string line; std::getline(lines, line);) {  // number:controllers:path
    const auto first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string names = "," + line.substr(first + 1, second - first - 1) + ",";
    if (controller.empty() ? names != ",," : names.find("," + controller + ",") == std::string::npos) continue;
    const fs::path top = root / "sys/fs/cgroup" / controller;
    for (fs::path path = fs::path(line.substr(second + 1)).relative_path();; path = path.parent_path()) {
      folders.push_back(top / path);
      if (path.empty()) break;
    }
  }
  return folders;
}

double number_in(const fs::path& file) {  // 0 for none, for `max` and for what cannot be read
  return std::strtod(start_of(file, 64).c_str(), nullptr);
}

/// Processors we may run on; a container's share counts as that many, rounded up.
int count_cpus(const fs::path& root) {
  int cpus = 0;
  // Room for 8192: the fixed cpu_set_t fails on larger machines.
  constexpr int kCpusMax = 8192;
  if (cpu_set_t* set = CPU_ALLOC(kCpusMax); set != nullptr) {
    if (sched_getaffinity(0, CPU_ALLOC_SIZE(kCpusMax), set) == 0) cpus = CPU_COUNT_S(CPU_ALLOC_SIZE(kCpusMax), set);
    CPU_FREE(set);
  }
  if (cpus <= 0) cpus = static_cast<int>(std::max(1L, sysconf(_SC_NPROCESSORS_ONLN)));
  const auto limit = [&](double quota, double period) {
    if (quota > 0 && period > 0) cpus = std::min(cpus, std::max(1, static_cast<int>(std::ceil(quota / period))));
  };
  for (const auto& group : groups_of(root, "")) {
    std::istringstream text(start_of(group / "cpu.max", 64));
    double quota = 0, period = 0;
    if (text >> quota >> period) limit(quota, period);
  }
  for (const auto& group : groups_of(root, "cpu")) limit(number_in(group / "cpu.cfs_quota_us"), number_in(group / "cpu.cfs_period_us"));
  return cpus;
}

std::uint64_t memory_bytes(const fs::path& root) {
  std::uint64_t bytes = std::strtoull(value_of(start_of(root / "proc/meminfo"), "MemTotal").c_str(), nullptr, 10) * 1024;
  const auto limit = [&](double most) {
    if (most >= 1 && most < static_cast<double>(bytes)) bytes = static_cast<std::uint64_t>(most);
  };
  for (const auto& group : groups_of(root, "")) limit(number_in(group / "memory.max"));
  for (const auto& group : groups_of(root, "memory")) limit(number_in(group / "memory.limit_in_bytes"));
  return bytes;
}

std::string cpu_model(const fs::path& root) {
  const std::string info = start_of(root / "proc/cpuinfo");  // the first processor stands for all
  for (const char* name : {"model name", "Model", "cpu model", "cpu"})
    if (std::string model = value_of(info, name); !model.empty()) return model;
  const std::string board = start_of(root / "proc/device-tree/model", kValueMax);  // ARM boards, with a NUL at the end
  return trimmed(board.c_str());
}

/// Version from a file beside the program, where asking takes long: a Java machine starts in 40 to 300 ms.
std::string version_beside(const std::string& name, const std::string& program) {
  std::error_code failure;
  const fs::path real = fs::canonical(program, failure);
  if (failure) return "";
  if (name == "java") {  // JAVA_VERSION="17.0.15"
    const std::string release = start_of(real.parent_path().parent_path() / "release");
    const auto at = release.find("JAVA_VERSION=");
    return at == std::string::npos ? "" : version_in(std::string_view(release).substr(at, 60));
  }
  if (name == "go") return version_in(start_of(real.parent_path().parent_path() / "VERSION", 64));  // go1.22.1
  if (name == "julia") return version_in(real.parent_path().parent_path().filename().string());  // .../julia-1.9.4/bin/julia
  return "";
}

std::map<std::string, std::string> find_software(const std::string& path, milliseconds patience) {
  std::map<std::string, std::string> found;
  std::vector<Question> questions;
  std::vector<std::string> names;
  for (const auto& software : known_software()) {
    const std::string program = find_program(software.command.front(), path);
    if (program.empty()) continue;
    std::string& version = found[software.name];
    version = version_beside(software.name, program);
    if (!version.empty()) continue;
    Question& question = questions.emplace_back();
    question.command = software.command;
    question.command.front() = program;
    names.push_back(software.name);
  }
  ask_all(questions, patience);
  for (std::size_t i = 0; i < questions.size(); ++i) {
    if (questions[i].succeeded) found[names[i]] = version_in(questions[i].answer);
    // A program that fails even at that (a library missing, a stub that only says what to install) is not offered; one that is only slow is.
    else if (questions[i].pid < 0 || questions[i].in_time) found.erase(names[i]);
  }
  return found;
}

std::vector<std::string> find_gpus(const fs::path& root, const std::string& path) {
  std::vector<std::string> gpus;
  std::error_code failure;
  // The driver's own files, one folder a GPU, named by PCI address: the order of nvidia-smi and, with CUDA_DEVICE_ORDER=PCI_BUS_ID, of programs.
  std::vector<fs::path> devices;
  for (const auto& device : fs::directory_iterator(root / "proc/driver/nvidia/gpus", failure)) devices.push_back(device.path());
  std::sort(devices.begin(), devices.end());
  for (const auto& device : devices)
    if (std::string model = value_of(start_of(device / "information"), "Model"); !model.empty()) gpus.push_back(std::move(model));
  if (!gpus.empty()) return gpus;
  const std::string program = find_program("nvidia-smi", path);
  if (program.empty()) return gpus;
  std::vector<Question> question(1);
  question[0].command = {program, "--query-gpu=name", "--format=csv,noheader"};
  ask_all(question, kGpuPatience);
  if (!question[0].succeeded) return gpus;
  std::istringstream lines(question[0].answer);
  for (std::string line; std::getline(lines, line) && gpus.size() < kEntriesMax;)
    if (std::string model = trimmed(line); !model.empty()) gpus.push_back(std::move(model));
  return gpus;
}

}  // namespace

std::uint64_t offered_disk(std::uint64_t free, std::uint64_t size) { return free - std::min(free / 2, std::max(std::uint64_t{2} << 30, size / 20)); }

Offer probe(const ProbeOptions& options) {
  Offer offer;
  offer.version = SOUK_VERSION;
  offer.cpus = count_cpus(options.root);
  offer.slots = std::clamp(options.slots > 0 ? options.slots : offer.cpus, 1, kSlotsMax);
  offer.memory_bytes = memory_bytes(options.root);
  if (struct statvfs disk; statvfs(options.work.c_str(), &disk) == 0) offer.disk_bytes = offered_disk(static_cast<std::uint64_t>(disk.f_bavail) * disk.f_frsize, static_cast<std::uint64_t>(disk.f_blocks) * disk.f_frsize);
  if (utsname names; uname(&names) == 0) {
    offer.os = names.sysname;
    std::transform(offer.os.begin(), offer.os.end(), offer.os.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    offer.arch = names.machine;
    offer.hostname = names.nodename;
  }
  offer.cpu_model = cpu_model(options.root);
  const char* own_path = std::getenv("PATH");
  const std::string path = !options.path.empty() ? options.path : own_path != nullptr ? own_path : "/usr/local/bin:/usr/bin:/bin";
  offer.software = find_software(path, options.patience);
  offer.gpus = find_gpus(options.root, path);
  offer.tags = options.tags;
  offer.resources = options.resources;
  offer.speed = options.speed > 0 ? options.speed : measure_speed();
  return offer;
}

std::vector<std::pair<std::string, std::string>> task_environment() {
  std::vector<std::pair<std::string, std::string>> env;
  for (char** v = environ; v != nullptr && *v != nullptr; ++v) {
    const std::string_view variable(*v);
    const auto equals = variable.find('=');
    if (equals == std::string_view::npos) continue;
    const std::string_view name = variable.substr(0, equals);
    constexpr std::array<std::string_view, 7> kept{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "TZ"};
    if (std::find(kept.begin(), kept.end(), name) != kept.end() || name.starts_with("LC_")) env.emplace_back(name, variable.substr(equals + 1));
  }
  const auto fall_back = [&](const char* name, const char* value) {
    if (std::none_of(env.begin(), env.end(), [&](const auto& v) { return v.first == name; })) env.emplace_back(name, value);
  };
  fall_back("PATH", "/usr/local/bin:/usr/bin:/bin");
  fall_back("HOME", "/");
  fall_back("LANG", "C.UTF-8");
  std::sort(env.begin(), env.end());
  return env;
}

}  // namespace souk
