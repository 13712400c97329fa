// up, down, status, user: the grid that `souk up` starts on this machine.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "submit/common.h"
#include "submit/grid_state.h"
#include "submit/proc.h"
#include "submit/state_folder.h"
#include "submit/supervisor.h"

namespace souk {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

struct UpOptions {
  int workers = 1;
  int slots = 0;  // of each worker; 0: the cores, shared among the workers
  bool foreground = false;
  std::vector<std::string> admins, allowed;
  int lock_fd = -1, report_fd = -1;  // of `supervise`, which `up` starts
};

UnixMs now_ms() { return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count(); }

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

Result<GridState> read_state(const Layout& at) {
  const auto text = read_file(at.state());
  if (!text) return text.error();
  return parse_state(text.value());
}

Observed observe(const Layout& at, const GridState& state) {
  Observed seen;
  seen.now_ms = now_ms();
  seen.supervised = FolderLock::held(at);
  seen.version = SOUK_VERSION;
  std::error_code failure;
  const auto space = std::filesystem::space(at.dir, failure);
  if (!failure) seen.disk_free_bytes = space.available;
  const auto look = [&](int pid) {
    if (pid <= 0) return;
    if (const auto rss = resident_bytes(pid)) seen.rss_bytes[pid] = *rss;
  };
  look(state.supervisor);
  for (const auto& program : state.programs) {
    look(program.pid);
    const bool well = program.pid != 0 && seen.rss_bytes.contains(program.pid) && (program.restarts == 0 || seen.now_ms - program.last_exit_ms > 60000);
    if (!well && seen.supervised) seen.last_lines[program.name] = last_lines(program.log, 5);
  }
  if (!seen.supervised || state.phase == Phase::failed) seen.last_lines["supervisor"] = last_lines(at.log("supervisor"), 5);
  return seen;
}

int print_status(const Common& common, const GridState& state, const Observed& seen, bool local) {
  std::string figures;
  bool answered = true;
  if (!local && seen.supervised && state.phase == Phase::running && common.grid_figures) {
    const auto answer = common.grid_figures();
    answered = static_cast<bool>(answer);
    if (answer) {
      figures = answer.value();
    } else if (common.json) {
      figures = nlohmann::json({{"error", answer.error().text()}}).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    } else {
      figures = "Problem: the manager does not answer: " + answer.error().text() + "\n";
    }
  }
  print(common.json ? render_status_json(state, seen, figures) : render_status(state, seen) + figures);
  if (!seen.supervised) return exit_code::unreachable;
  return answered && problems(state, seen).empty() ? exit_code::good : exit_code::failed;
}

// --- up -----------------------------------------------------------------------------------------------------------------

int print_up(const Common& common, const Layout& at, bool ran_already) {
  const auto state = read_state(at);
  if (!state) return fail(common, state.error(), exit_code::failed);
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
  grid.root = ::geteuid() == 0;
  return grid;
}

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
      case Others::running: return print_up(common, at, true);
      case Others::gone: continue;
      case Others::stuck:
        return fail(common, {"cannot start a grid in " + at.dir.string(), "another `souk up` or `souk down` is at work there and does not end", "see " + at.log("supervisor").string() + ", or: souk down"},
                    exit_code::failed);
    }
  }
  auto grid = grid_of(common, options);
  if (!grid) return fail(common, grid.error(), exit_code::failed);

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

/// The other half of `up`: it has the lock already, and a pipe for its report.
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

// --- down ---------------------------------------------------------------------------------------------------------------

// By syscall(): glibc 2.36 declares the pidfd functions without C linkage.

/// Waits until the process is gone.
bool gone_within(int pidfd, Clock::duration time) {
  const auto deadline = Clock::now() + time;
  for (;;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd wait{pidfd, POLLIN, 0};
    const int got = ::poll(&wait, 1, static_cast<int>(std::max<std::int64_t>(left, 0)));
    if (got > 0) return true;
    if (got == 0 || errno != EINTR) return false;
  }
}

int print_down(const Common& common, const Layout& at, bool ran, bool by_force) {
  if (common.json) print(nlohmann::json({{"dir", at.dir.string()}, {"ran", ran}, {"by_force", by_force}}).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  else if (!ran) print("No grid runs in " + at.dir.string() + "\n");
  else print("Stopped the grid in " + at.dir.string() + (by_force ? " by force: its supervisor did not answer\n" : "\n"));
  return exit_code::good;
}

int down(const Common& common) {
  const Layout at{common.dir};
  const auto deadline = Clock::now() + kStopMax;
  bool ran = false, by_force = false;
  while (FolderLock::held(at)) {
    if (Clock::now() > deadline) {
      return fail(common, {"cannot stop the grid in " + at.dir.string(), "its lock is held by a process that is not known", "see who holds it: fuser " + shell_word(at.lock().string())}, exit_code::failed);
    }
    const int pid = FolderLock::read_pid(at);
    const int process = pid > 0 ? static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)) : -1;
    // The pid was read while the lock was held, and is written by its holder only: it is the holder, or has just ended.
    if (process < 0 || !FolderLock::held(at) || FolderLock::read_pid(at) != pid) {
      if (process >= 0) ::close(process);
      std::this_thread::sleep_for(5ms);  // `up` has just begun, or it has just ended
      continue;
    }
    ran = true;
    if (::syscall(SYS_pidfd_send_signal, process, SIGTERM, nullptr, 0) != 0 && errno == EPERM) {
      ::close(process);
      return fail(common, {"cannot stop the grid in " + at.dir.string(), "it belongs to another user", "run this as its user"}, exit_code::failed);
    }
    if (!gone_within(process, kStopMax)) {
      by_force = true;
      ::syscall(SYS_pidfd_send_signal, process, SIGKILL, nullptr, 0);  // its programs go with it (PR_SET_PDEATHSIG)
      gone_within(process, 5s);
    }
    ::close(process);
  }
  // After a supervisor that was killed, its programs are dying: be the one who waits.
  if (auto state = read_state(at)) {
    const auto until = Clock::now() + 5s;
    for (const auto& program : state.value().programs) {
      while (state.value().phase != Phase::stopped && state.value().phase != Phase::failed && program.pid > 0 && resident_bytes(program.pid) && Clock::now() < until) std::this_thread::sleep_for(5ms);
    }
    if (state.value().phase != Phase::stopped && state.value().phase != Phase::failed) {
      state.value().phase = Phase::stopped;
      for (auto& program : state.value().programs) program.pid = 0;
      if (!FolderLock::held(at)) (void)!write_file(at.state(), to_json(state.value()));
    }
  }
  return print_down(common, at, ran, by_force);
}

// --- status and user ----------------------------------------------------------------------------------------------------

int status(const Common& common, bool local) {
  const Layout at{common.dir};
  if (!std::filesystem::exists(at.state())) {
    GridState nothing;
    nothing.dir = at.dir.string();
    Observed seen;
    seen.supervised = FolderLock::held(at);
    if (seen.supervised) nothing.phase = Phase::starting;
    return print_status(common, nothing, seen, true);
  }
  const auto state = read_state(at);
  if (!state) return fail(common, state.error(), exit_code::failed);
  return print_status(common, state.value(), observe(at, state.value()), local);
}

void print_person(const Common& common, const Person& person) {
  const std::string jid = person.name + "@" + std::string(kDomain);
  if (common.json) {
    const nlohmann::json line = {{"jid", jid}, {"profile", person.profile.string()}, {"password_file", person.password.string()}, {"owner", person.owner}};
    print(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  } else {
    print(jid + (person.owner ? " (owner)" : "") + "\n  profile:  " + person.profile.string() + "\n  password: " + person.password.string() + "\n");
  }
}

Result<std::string> first_line(const std::string& file) {
  std::string text;
  if (file == "-") {
    std::getline(std::cin, text);
  } else {
    auto read = read_file(file);
    if (!read) return read;
    text = read.value();
  }
  text = text.substr(0, text.find_first_of("\r\n"));
  if (text.empty()) return Error{"cannot use the password in " + file, "its first line is empty", "write the password there"};
  return text;
}

int user_add(const Common& common, const std::string& name, const std::string& password_file) {
  const Layout at{common.dir};
  const auto settings = load_settings(at);
  if (!settings) return fail(common, settings.error(), exit_code::failed);
  std::string password;
  if (!password_file.empty()) {
    const auto read = first_line(password_file);
    if (!read) return fail(common, read.error(), exit_code::usage);
    password = read.value();
  }
  const auto person = add_person(at, settings.value(), name, password);
  if (!person) return fail(common, person.error(), exit_code::usage);
  print_person(common, person.value());
  if (!common.json) {
    print("  chat:     server " + std::string(kLoopback) + " port " + std::to_string(settings.value().ports.clients) + " (its certificate is self-signed); the commands are on " + std::string(kGridDomain) + "\n");
    print("  use:      souk --profile " + shell_word(person.value().profile.string()) + " submit ...\n");
  }
  return exit_code::good;
}

int user_list(const Common& common) {
  const Layout at{common.dir};
  if (!std::filesystem::exists(at.settings())) return fail(common, {"there are no accounts", "there is no grid in " + at.dir.string() + " yet", "start one first: souk up"}, exit_code::usage);
  const auto settings = load_settings(at);
  if (!settings) return fail(common, settings.error(), exit_code::failed);
  for (const auto& person : people(at, settings.value())) print_person(common, person);
  return exit_code::good;
}

int user_remove(const Common& common, const std::string& name) {
  const Layout at{common.dir};
  const auto settings = load_settings(at);
  if (!settings) return fail(common, settings.error(), exit_code::failed);
  if (const auto removed = remove_person(at, settings.value(), name); !removed) return fail(common, removed.error(), exit_code::usage);
  if (!common.json) print("Removed " + name + "@" + std::string(kDomain) + "; jobs of that account stay\n");
  return exit_code::good;
}

void add_up_options(CLI::App& command, UpOptions& options) {
  command.add_option("--workers", options.workers, "Worker programs to start")->check(CLI::Range(1, kWorkersMax))->capture_default_str();
  command.add_option("--slots", options.slots, "Tasks each worker runs at a time (default: the cores, shared among the workers)")->check(CLI::Range(1, kSlotsMax));
  command.add_option("--admin", options.admins, "JID that sees and cancels everybody's jobs (may be repeated)")->allow_extra_args(false);
  command.add_option("--allow", options.allowed, "JID or domain that may submit, besides you (may be repeated; default: everybody with an account)")->allow_extra_args(false);
}

}  // namespace

void add_grid_commands(CLI::App& app, Common& common) {
  const auto options = std::make_shared<UpOptions>();

  CLI::App* const up_command = app.add_subcommand("up", "Start a grid on this machine: a private XMPP server, a manager and workers");
  add_up_options(*up_command, *options);
  up_command->add_flag("--foreground", options->foreground, "Stay, log to the terminal, stop on Ctrl-C or TERM (for service managers)");
  up_command->footer(
      "Examples:\n  souk up                          one worker with a slot for each core\n  souk up --workers 4 --slots 1    four workers\n"
      "  souk up --dir /tmp/other         a second grid beside the first\n"
      "Returns when the first worker is in the market. Exit code: 0 it runs (also if it did already), 1 something is wrong.");
  up_command->callback([&common, options] { common.action = [&common, options] { return up(common, *options); }; });

  CLI::App* const hidden = app.add_subcommand("supervise", "")->group("");
  add_up_options(*hidden, *options);
  hidden->add_option("--lock-fd", options->lock_fd)->required();
  hidden->add_option("--report-fd", options->report_fd)->required();
  hidden->callback([&common, options] { common.action = [&common, options] { return supervise_command(common, *options); }; });

  CLI::App* const down_command = app.add_subcommand("down", "Stop the grid on this machine; running tasks are stopped, jobs are kept");
  down_command->footer("Examples:\n  souk down\n  souk down --dir /tmp/other\nExit code: 0 nothing runs any more (also if nothing did).");
  down_command->callback([&common] { common.action = [&common] { return down(common); }; });

  CLI::App* const status_command = app.add_subcommand("status", "What runs, where the logs are, what is wrong");
  status_command->footer("Examples:\n  souk status\n  souk status --json | jq .problems\nExit code: 0 all well, 1 something is wrong, 3 no grid runs.");
  const auto local = std::make_shared<bool>(false);
  status_command->add_flag("--local", *local, "Tell of this machine only; the manager is not asked");
  status_command->callback([&common, local] { common.action = [&common, local] { return status(common, *local); }; });

  CLI::App* const user = app.add_subcommand("user", "Accounts on the grid's own server, for chat clients and other people");
  user->require_subcommand(1);
  user->footer("Examples:\n  souk user add bob\n  souk user add bob --password-file secret.txt\n  souk user list\n  souk user remove bob");
  const auto name = std::make_shared<std::string>(), password_file = std::make_shared<std::string>();
  CLI::App* const add = user->add_subcommand("add", "Make an account and a profile for it");
  add->add_option("name", *name, "Account name: a-z 0-9 . _ -")->required();
  add->add_option("--password-file", *password_file, "File whose first line is the password, - for stdin (default: a random one)");
  add->callback([&common, name, password_file] { common.action = [&common, name, password_file] { return user_add(common, *name, *password_file); }; });
  CLI::App* const list = user->add_subcommand("list", "List the accounts");
  list->callback([&common] { common.action = [&common] { return user_list(common); }; });
  CLI::App* const remove = user->add_subcommand("remove", "Remove an account; its jobs stay");
  remove->add_option("name", *name, "Account name")->required();
  remove->callback([&common, name] { common.action = [&common, name] { return user_remove(common, *name); }; });
}

}  // namespace souk
