#include "submit/up.h"

#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <thread>

#include "protocol/needs.h"
#include "protocol/quoting.h"
#include "submit/grid_state.h"
#include "submit/launch.h"
#include "submit/observe.h"
#include "submit/state_folder.h"
#include "submit/supervisor.h"

namespace souk {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
}

int cores() {
  cpu_set_t mine;
  if (::sched_getaffinity(0, sizeof mine, &mine) == 0) return std::max(1, CPU_COUNT(&mine));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

/// How a user would type `souk` to reach this state folder again.
std::string souk_for(const Layout& at) {
  const auto usual = state_dir({});
  return usual && usual.value() == at.dir ? "souk" : "souk --dir " + shell_word(at.dir.string());
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const auto& word : words) text += (text.empty() ? "" : ", ") + word;
  return text;
}

int print_up(const Common& common, const Layout& at, bool ran_already, const std::vector<std::string>& ignored = {}) {
  const auto state = read_state(at);
  if (!state) return fail(common, state.error(), exit_code::failed);
  if (!ignored.empty())
    std::fprintf(stderr, "souk: the grid runs already, as it was started: %s %s for a new start, after %s down\n", joined(ignored).c_str(), ignored.size() == 1 ? "is" : "are", souk_for(at).c_str());
  const auto seen = observe(at, state.value());
  const auto wrong = problems(state.value(), seen);
  if (common.json) {
    print(render_status_json(state.value(), seen, ""));
  } else {
    print(render_up(state.value(), seen, souk_for(at), ran_already));
    for (const auto& problem : wrong) {
      print("Problem: " + problem.what + "\n");
      for (const auto& line : problem.lines) print("    | " + line + "\n");
    }
  }
  return wrong.empty() ? exit_code::good : exit_code::failed;
}

/// Somebody else holds the lock. Waits until that is a running grid or nothing at all.
enum class Others { running, gone, stuck };
Others wait_for_others(const Layout& at) {
  const auto deadline = Clock::now() + kStopMax + kStartMax;
  while (Clock::now() < deadline) {
    if (!FolderLock::held(at)) return Others::gone;
    const int pid = FolderLock::read_pid(at);
    const auto state = read_state(at);
    if (pid != 0 && state && state.value().supervisor == pid && state.value().phase == Phase::running) return Others::running;
    std::this_thread::sleep_for(20ms);
  }
  return Others::stuck;
}

int report_failure(const Common& common, const StartReport& report) {
  if (common.json || report.lines.empty()) return fail(common, *report.failure, exit_code::failed);
  Error failure = *report.failure;
  const int code = fail(common, failure, exit_code::failed);
  std::fprintf(stderr, "its last lines:\n");
  for (const auto& line : report.lines) std::fprintf(stderr, "    | %s\n", line.c_str());
  return code;
}

/// The program that `up` leaves running: this one again, so that nothing of the starting process lives on in it.
/// yields: its pid
Result<int> spawn_supervisor(const Layout& at, const EmbeddedGrid& grid, int lock, int report) {
  std::vector<std::string> words{"souk", "--dir", at.dir.string(), "supervise", "--lock-fd", std::to_string(lock), "--report-fd", std::to_string(report)};
  words.insert(words.end(), {"--workers", std::to_string(grid.workers), "--slots", std::to_string(grid.slots)});
  for (const auto& jid : grid.admins) words.insert(words.end(), {"--admin", jid});
  for (const auto& who : grid.allowed) words.insert(words.end(), {"--allow", who});
  for (const auto& share : grid.shares) words.insert(words.end(), {"--share", share});
  for (const auto& limit : grid.limits) words.insert(words.end(), {"--limit", limit});
  for (const auto& service : grid.services) words.insert(words.end(), {"--service", service});
  if (!grid.policy.empty()) words.insert(words.end(), {"--policy", grid.policy});
  if (!grid.memory_max.empty()) words.insert(words.end(), {"--memory-max", grid.memory_max});
  if (grid.lease_s > 0) words.insert(words.end(), {"--lease-s", fmt::format("{}", grid.lease_s)});
  if (grid.restored) words.push_back("--restored");
  if (grid.hosted) words.push_back("--hosted");
  if (grid.sandbox != "none") words.insert(words.end(), {"--sandbox", grid.sandbox});
  if (!grid.keep.empty()) words.insert(words.end(), {"--keep", grid.keep});
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);

  rotate_log(at.log("supervisor"));
  const int log = ::open(at.log("supervisor").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (log < 0) return Error{"cannot write " + at.log("supervisor").string(), std::strerror(errno), "see that this user may write there"};
  const int nothing = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  const pid_t pid = ::fork();  // this process has one thread and is small
  if (pid == 0) {
    ::setsid();  // of no terminal
    sigset_t none;
    sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    ::dup2(nothing, STDIN_FILENO);
    ::dup2(log, STDOUT_FILENO);
    ::dup2(log, STDERR_FILENO);
    ::syscall(SYS_close_range, 3u, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC: a caller's descriptors are not ours to keep */);
    ::fcntl(lock, F_SETFD, 0);
    ::fcntl(report, F_SETFD, 0);
    ::execv("/proc/self/exe", argv.data());
    ::_exit(127);
  }
  const int code = errno;
  ::close(log);
  ::close(nothing);
  if (pid < 0) return Error{"cannot start the supervisor", std::strerror(code), ""};
  return pid;
}

/// Waits for the supervisor's report, or for Ctrl-C, which stops what was started.
int wait_for_report(const Common& common, const Layout& at, int supervisor, int report, int signals) {
  std::string text;
  bool told = false;
  for (;;) {
    std::array<pollfd, 2> waits{{{report, POLLIN, 0}, {signals, POLLIN, 0}}};
    if (::poll(waits.data(), waits.size(), -1) < 0 && errno != EINTR) break;
    if (waits[1].revents & POLLIN) {
      signalfd_siginfo which{};
      if (::read(signals, &which, sizeof which) < 0) continue;
      if (!told) std::fprintf(stderr, "\nsouk: stopping what was started\n");
      told = true;
      ::kill(supervisor, SIGTERM);
    }
    if (waits[0].revents == 0) continue;
    std::array<char, 4096> block;
    const ssize_t got = ::read(report, block.data(), block.size());
    if (got > 0) text.append(block.data(), static_cast<std::size_t>(got));
    if (got <= 0) break;
    if (!text.empty() && text.back() == '\n' && !parse_start_report(text).failure) break;  // it runs; a failed one ends first
  }
  const StartReport answer = parse_start_report(text);
  if (!answer.failure) {
    if (!told) return print_up(common, at, false);
    ::waitpid(supervisor, nullptr, 0);  // Ctrl-C came together with the good news
    return fail(common, {"the start was broken off", "it was interrupted", ""}, 130);
  }
  ::waitpid(supervisor, nullptr, 0);
  if (told) return fail(common, *answer.failure, 130);
  StartReport shown = answer;
  if (shown.lines.empty() && text.empty()) shown.lines = last_lines(at.log("supervisor"), 8);
  return report_failure(common, shown);
}

Result<EmbeddedGrid> grid_of(const Common& common, const UpOptions& options) {
  const Layout at{common.dir};
  const auto settings = load_settings(at);
  if (!settings) return settings.error();
  EmbeddedGrid grid;
  grid.dir = common.dir;
  grid.user = settings.value().user;
  grid.ports = settings.value().ports;
  grid.workers = options.workers;
  grid.slots = options.slots > 0 ? options.slots : std::max(1, cores() / options.workers);
  grid.admins = options.admins;
  grid.allowed = options.allowed;
  grid.services = options.services, grid.shares = options.shares, grid.limits = options.limits, grid.keep = options.keep, grid.memory_max = options.memory_max;
  grid.hosted = options.hosted, grid.sandbox = options.sandbox;
  grid.policy = options.policy.empty() ? "" : std::filesystem::absolute(options.policy).string();
  grid.restored = options.restored, grid.lease_s = options.lease_s;
  grid.root = ::geteuid() == 0;
  return grid;
}

/// Services run in the folder where `souk up` was typed; the workers are in /.
Result<Done> place_services(std::vector<std::string>& services) {
  std::error_code failure;
  const std::string here = std::filesystem::current_path(failure).string();
  for (std::string& service : services) {
    const auto equals = service.find('=');
    const Error bad{"cannot use --service " + shell_word(service), "it has no name and command", "write NAME=COMMAND, or NAME=json:COMMAND where it speaks JSON lines"};
    if (equals == std::string::npos) return bad;
    if (const auto good = check_service_name(std::string_view(service).substr(0, equals)); !good) return good.error();
    const std::size_t command = equals + 1 + (service.compare(equals + 1, 5, "json:") == 0 ? 5 : 0);
    if (service.find_first_not_of(" \t\n", command) == std::string::npos) return bad;
    service.insert(command, "cd " + shell_word(here) + " || exit 126\n");
  }
  return Done{};
}

}  // namespace

int up(const Common& common, const UpOptions& options) {
  // Before anything runs, so that no Ctrl-C finds us between starting something and knowing of it.
  sigset_t stops;
  sigemptyset(&stops);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&stops, number);

  const Layout at{common.dir};
  const auto programs = find_programs();
  if (!programs) return fail(common, programs.error(), exit_code::failed);
  if (const auto opened = open_state_folder(at); !opened) return fail(common, opened.error(), exit_code::usage);
  FolderLock lock;
  for (;;) {
    auto taken = FolderLock::take(at);
    if (!taken) return fail(common, taken.error(), exit_code::failed);
    if (taken.value().holds()) {
      lock = std::move(taken.value());
      break;
    }
    switch (wait_for_others(at)) {
      case Others::running:
        if (options.restored) return fail(common, {"cannot go on with a copy in " + at.dir.string(), "a grid runs there", "souk down, put the copy there, then: souk up --restored"}, exit_code::usage);
        return print_up(common, at, true, options.given);
      case Others::gone: continue;
      case Others::stuck:
        return fail(common,
                    {"cannot start a grid in " + at.dir.string(), "another `souk up` or `souk down` is at work there and does not end",
                     "see " + at.log("supervisor").string() + ", or: souk down"},
                    exit_code::failed);
    }
  }
  auto grid = grid_of(common, options);
  if (!grid) return fail(common, grid.error(), exit_code::failed);
  if (const auto placed = place_services(grid.value().services); !placed) return fail(common, placed.error(), exit_code::usage);

  if (options.foreground) {
    return supervise(std::move(lock), grid.value(), programs.value(), [&](const StartReport& report) {
      if (report.failure) report_failure(common, report);
      else print_up(common, at, false);
    });
  }
  ::sigprocmask(SIG_BLOCK, &stops, nullptr);
  const int signals = ::signalfd(-1, &stops, SFD_CLOEXEC);
  int ends[2];
  if (signals < 0 || ::pipe2(ends, O_CLOEXEC) != 0) return fail(common, {"cannot start the supervisor", std::strerror(errno), ""}, exit_code::failed);
  const auto pid = spawn_supervisor(at, grid.value(), lock.descriptor(), ends[1]);
  ::close(ends[1]);
  lock = FolderLock{};  // the supervisor's copy holds it
  if (!pid) return fail(common, pid.error(), exit_code::failed);
  return wait_for_report(common, at, pid.value(), ends[0], signals);
}

int supervise_command(const Common& common, const UpOptions& options) {
  for (const int inherited : {options.lock_fd, options.report_fd}) {
    if (::fcntl(inherited, F_SETFD, FD_CLOEXEC) != 0) return fail(common, {"`supervise` cannot be run by hand", "", "use: souk up --foreground"}, exit_code::usage);
  }
  FolderLock lock{options.lock_fd};
  spdlog::flush_on(spdlog::level::trace);
  const auto report = [&](const StartReport& told) {
    const std::string text = to_json(told);
    if (::write(options.report_fd, text.data(), text.size()) < 0) spdlog::info("nobody waits for the report any more");
    ::close(options.report_fd);
  };
  const auto programs = find_programs();
  auto grid = grid_of(common, options);
  if (!programs || !grid) {
    report({programs ? grid.error() : programs.error(), {}});
    return exit_code::failed;
  }
  return supervise(std::move(lock), grid.value(), programs.value(), report);
}

}  // namespace souk
