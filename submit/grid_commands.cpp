// up, down, status, user: the grid that `souk up` starts on this machine.
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <spdlog/fmt/fmt.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "protocol/notation.h"
#include "protocol/quoting.h"
#include "submit/common.h"
#include "submit/grid_state.h"
#include "submit/observe.h"
#include "submit/proc.h"
#include "submit/state_folder.h"
#include "submit/supervisor.h"
#include "submit/up.h"

namespace souk {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

std::string dump(const nlohmann::json& value) { return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace); }

void print(const std::string& text) {
  std::fputs(text.c_str(), stdout);
  std::fflush(stdout);
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
      figures = dump({{"error", answer.error().text()}});
    } else {
      figures = "Problem: the manager does not answer: " + answer.error().text() + "\n";
    }
  }
  print(common.json ? render_status_json(state, seen, figures) : render_status(state, seen) + figures);
  if (!seen.supervised) return exit_code::unreachable;
  return answered && problems(state, seen).empty() ? exit_code::good : exit_code::failed;
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
  if (common.json) print(dump({{"dir", at.dir.string()}, {"ran", ran}, {"by_force", by_force}}) + "\n");
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
      const std::string who = "see who holds it: fuser " + shell_word(at.lock().string());
      return fail(common, {"cannot stop the grid in " + at.dir.string(), "its lock is held by a process that is not known", who}, exit_code::failed);
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
    const bool unfinished = state.value().phase != Phase::stopped && state.value().phase != Phase::failed;
    const auto until = Clock::now() + 5s;
    for (const auto& program : state.value().programs) {
      while (unfinished && program.pid > 0 && resident_bytes(program.pid) && Clock::now() < until) std::this_thread::sleep_for(5ms);
    }
    if (unfinished) {
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
  // A grid elsewhere: nothing of it runs here, so its manager tells what there is.
  if (!local && common.grid_figures && (common.elsewhere || (!common.profile.empty() && !std::filesystem::exists(at.state()) && !FolderLock::held(at)))) {
    const auto answer = common.grid_figures();
    if (!answer) return fail(common, answer.error(), exit_code::unreachable);
    print(answer.value() + (answer.value().ends_with('\n') ? "" : "\n"));
    return exit_code::good;
  }
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
    print(dump(line) + "\n");
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
    print(fmt::format("  chat:     server {} port {} (its certificate is self-signed); the commands are on {}\n", kLoopback, settings.value().ports.clients, kGridDomain));
    print("  use:      souk --profile " + shell_word(person.value().profile.string()) + " submit ...\n");
  }
  return exit_code::good;
}

int user_list(const Common& common) {
  const Layout at{common.dir};
  if (!std::filesystem::exists(at.settings())) {
    return fail(common, {"there are no accounts", "there is no grid in " + at.dir.string() + " yet", "start one first: souk up"}, exit_code::usage);
  }
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

/// The manager's program knows how to read it.
int audit_of(const Common& common, const std::string& since) {
  const auto programs = find_programs();
  if (!programs) return fail(common, programs.error(), exit_code::failed);
  std::vector<std::string> words{"souk-manager", "--audit", "--state", (common.dir / "manager").string()};
  if (common.json) words.push_back("--json");
  if (!since.empty()) words.insert(words.end(), {"--since", since});
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(programs.value().manager.c_str(), argv.data());
  return fail(common, {"cannot run " + programs.value().manager.string(), std::strerror(errno), ""}, exit_code::failed);
}

void add_up_options(CLI::App& command, UpOptions& options) {
  command.add_option("--workers", options.workers, "Worker programs to start")->check(CLI::Range(1, kWorkersMax))->capture_default_str();
  command.add_option("--slots", options.slots, "Tasks each worker runs at a time (default: the cores, shared among the workers)")->check(CLI::Range(1, kSlotsMax));
  command.add_option("--lease-s", options.lease_s, "Seconds of silence after which a worker's tasks go to others (default: 30)")->check(CLI::Range(1.0, 86400.0));
  command.add_flag("--restored", options.restored, "The state folder was put back from a copy: jobs that were open then are held, and numbers are left out for what is lost");
  command.add_flag("--hosted", options.hosted, "Let the server's room service keep the marketplace, not the manager itself: slow beyond a hundred workers, but a room with settings");
  command.add_option("--admin", options.admins, "JID that sees and cancels everybody's jobs (may be repeated)")->allow_extra_args(false);
  command.add_option("--sandbox", options.sandbox, "none: tasks run as this user (default); auto: those of other users in a sandbox; bwrap: all in one (docs/SECURITY.md)")
      ->check(CLI::IsMember({"auto", "none", "bwrap"}))->type_name("auto|none|bwrap");
  command.add_option("--service", options.services, "A service of each worker, as souk-worker --service has it: NAME=COMMAND or NAME=json:COMMAND (may be repeated)")
      ->type_name("NAME=COMMAND")->allow_extra_args(false)->delimiter('\0');
  command.add_option("--allow", options.allowed, "JID or domain that may submit, besides you (may be repeated; default: everybody with an account)")
      ->allow_extra_args(false);
  auto* policy = command.add_option("--policy", options.policy, "TOML file that says who may do what, and how much of it (docs/OPERATIONS.md); read again when it changes")
                     ->type_name("FILE")->check(CLI::ExistingFile);
  command.add_option("--share", options.shares, "OWNER=WEIGHT: that JID gets WEIGHT times the share of others (may be repeated)")->allow_extra_args(false)->excludes(policy);
  command.add_option("--limit", options.limits, "OWNER:running=N,queued=N: tasks that JID may have at a time, and waiting; `*`: everybody (may be repeated)")
      ->allow_extra_args(false)->excludes(policy);
  command.add_option("--keep", options.keep, "How long jobs are kept after their end: 12h, 30d; `forever`: all of them (default: 30d)")->check([](const std::string& text) {
    const auto read = parse_duration(text);
    return read || text == "forever" ? std::string() : read.error().why + "; write 12h or 30d, or `forever`";
  });
  command.add_option("--memory-max", options.memory_max, "Memory the manager fills with jobs and what else others send (default: a quarter of the machine's, at most 2GiB)")->type_name("SIZE");
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
      "Returns when the workers are in the market. Exit code: 0 it runs (also if it did already), 1 something is wrong.");
  up_command->callback([&common, options, up_command] {
    for (const auto* option : up_command->get_options())
      if (option->count() > 0 && option->get_name() != "--foreground") options->given.push_back(option->get_name());
    common.action = [&common, options] { return up(common, *options); };
  });

  CLI::App* const audit_command = app.add_subcommand("audit", "Who did what in the grid of this machine, and what was refused to whom");
  const auto audit = std::make_shared<std::string>();
  audit_command->add_option("--since", *audit, "Only of so long ago: 2h, 7d")->type_name("TIME");
  audit_command->footer("It is in DIR/manager/audit.log, for who runs the grid; elsewhere: souk-manager --audit.\n\nExamples:\n  souk audit --since 2h\n  souk audit --json | jq 'select(.did == \"refused\")'");
  audit_command->callback([&common, audit] { common.action = [&common, audit] { return audit_of(common, *audit); }; });

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
