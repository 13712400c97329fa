// souk-worker: offers this host's slots in a marketplace and runs what the manager sends.
#include <fcntl.h>
#include <sched.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <optional>
#include <random>

#include "protocol/profile.h"
#include "protocol/standard_streams.h"
#include "protocol/stanza.h"
#include "worker/fill.h"
#include "worker/probe.h"
#include "worker/process.h"
#include "worker/session.h"

namespace souk::worker {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr int kUsage = 2, kFailed = 3;      // exit codes (README)
constexpr auto kGoodbyeMax = 700ms;         // for the server to take our leave, when asked to stop
constexpr int kFoldersMax = 1000;           // default working folders of one user on one host

int failed(const Error& error, int code = kFailed) {
  std::fprintf(stderr, "souk-worker: %s\n", printable(error.text()).c_str());
  return code;
}

struct Options {
  std::string profile, work, name, log_level = "info";
  int slots = 0;
  std::vector<std::string> tags, resources;
  double speed = 0;
  bool no_namespace = false;
};

Result<std::map<std::string, std::string>> tags_of(const std::vector<std::string>& words) {
  std::map<std::string, std::string> tags;
  const auto bad = [](const std::string& word, std::string why) { return Error{"tag '" + word + "' refused", std::move(why), "write --tag key=value"}; };
  for (const std::string& word : words) {
    const auto equals = word.find('=');
    if (equals == std::string::npos || equals == 0) return bad(word, "it has no key and value");
    if (word.size() > 256) return bad(word.substr(0, 32) + "...", "it is over 256 bytes");
    if (!is_printable(word)) return bad(printable(word), "it is no plain text");
    if (!tags.emplace(word.substr(0, equals), word.substr(equals + 1)).second) return bad(word, "its key is there twice");
  }
  if (tags.size() > 64) return Error{"tags refused", std::to_string(tags.size()) + " of them", "at most 64 fit into an offer"};
  return tags;
}

Result<std::map<std::string, OfferedResource>> resources_of(const std::vector<std::string>& words) {
  std::map<std::string, OfferedResource> resources;
  for (const std::string& word : words) {
    const auto read = parse_resource(word);
    if (!read) return read.error();
    if (!resources.insert(read.value()).second) return Error{"resource '" + read.value().first + "' refused", "it is there twice", "name each once"};
  }
  if (resources.size() > kResourcesMax) return Error{"resources refused", std::to_string(resources.size()) + " of them", "at most " + std::to_string(kResourcesMax) + " fit into an offer"};
  return resources;
}

/// Those that this process may use.
std::vector<int> processors() {
  constexpr int kMost = 8192;  // the fixed cpu_set_t fails on larger machines
  std::vector<int> numbers;
  cpu_set_t* set = CPU_ALLOC(kMost);
  if (set != nullptr && ::sched_getaffinity(0, CPU_ALLOC_SIZE(kMost), set) == 0) {
    for (int number = 0; number < kMost; ++number)
      if (CPU_ISSET_S(static_cast<std::size_t>(number), CPU_ALLOC_SIZE(kMost), set)) numbers.push_back(number);
  }
  if (set != nullptr) CPU_FREE(set);
  return numbers;
}

std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 && name[0] != '\0' ? name : "worker";
}

/// The folder that programs of one build share.
fs::path beside_us(const char* program) {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error).parent_path() / program;
}

/// A folder that only this user can use. Somebody else may have made one of that name in /tmp before us.
Result<Done> private_folder(const fs::path& path) {
  const auto bad = [&](std::string why) { return Error{"cannot use " + path.string() + " for work", std::move(why), "choose another with --work"}; };
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return bad(std::strerror(errno));
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return bad(std::strerror(errno));
  if (!S_ISDIR(status.st_mode)) return bad("it is no folder");
  if (status.st_uid != ::geteuid()) return bad("it belongs to somebody else");
  if ((status.st_mode & 077) != 0 && ::chmod(path.c_str(), 0700) != 0) return bad(std::strerror(errno));
  return Done{};
}

/// The first working folder of this user that no other worker uses. The lock on the folder itself lasts as long as this process.
Result<fs::path> default_work() {
  const char* runtime = std::getenv("XDG_RUNTIME_DIR");
  const fs::path base = runtime != nullptr && runtime[0] == '/' ? fs::path(runtime) / "souk" : fs::path("/tmp") / ("souk-" + std::to_string(::geteuid()));
  if (const auto made = private_folder(base); !made) return made.error();
  for (int number = 1; number <= kFoldersMax; ++number) {
    const fs::path path = base / ("worker-" + std::to_string(number));
    if (const auto made = private_folder(path); !made) return made.error();
    const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (folder >= 0 && ::flock(folder, LOCK_EX | LOCK_NB) == 0) return path;
    if (folder >= 0) ::close(folder);
  }
  return Error{"no working folder", "all of " + base.string() + "/worker-1 to " + std::to_string(kFoldersMax) + " are in use", "choose one with --work"};
}

std::string random_suffix() {
  std::random_device random;
  char text[9];
  std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(random()));
  return text;
}

class Program {
 public:
  Program(boost::asio::io_context& loop, Executor& executor, Session::Setup setup, Surroundings host)
      : loop_(loop), signals_(loop, SIGTERM, SIGINT, SIGHUP), settings_(loop, SIGUSR1, SIGUSR2), goodbye_(loop), host_(std::move(host)),
        session_(loop, std::move(setup),
                 {[this, &executor](int slot, Assignment a, Granted granted, std::function<void(Outcome)> finished) {
                    host_.worker = session_.room().nick();
                    executor.start(slot, launch_of(*a.command, a.item, a.task, a.attempt, host_, a.run, {std::move(a.needs), std::move(granted)}), std::move(finished));
                  },
                  [&executor](int slot) { executor.stop(slot); }}) {
    session_.on_end = [this](const Error& why) { end(failed(why)); };
    session_.on_empty = [this] {
      spdlog::info("drained");
      stop("drained");
    };
    wait_for_signal();
    wait_for_setting();
  }

  void start() { session_.start(); }
  int code() const { return code_; }

 private:
  void wait_for_signal() {
    signals_.async_wait([this](auto error, int signal) {
      if (error) return;
      if (stopping_) std::_Exit(1);  // asked twice: at once. Runners die with us, and their tasks with them
      stop(::strsignal(signal));
      wait_for_signal();
    });
  }
  void wait_for_setting() {
    settings_.async_wait([this](auto error, int signal) {
      if (error) return;
      if (signal == SIGUSR1) {
        spdlog::info("draining held={}", session_.agent().waiting() + session_.agent().running() + session_.agent().owed());
        session_.drain();
      } else if ((paused_ = !paused_)) {
        spdlog::info("paused");
        session_.pause();
      } else {
        spdlog::info("resumed");
        session_.resume();
      }
      wait_for_setting();
    });
  }
  void stop(const char* why) {
    if (std::exchange(stopping_, true)) return;
    spdlog::info("stopping why=\"{}\" running={}", why, session_.agent().running());
    goodbye_.expires_after(kGoodbyeMax);
    goodbye_.async_wait([this](auto error) {
      if (!error) end(code_);
    });
    session_.stop([this] { end(code_); });
  }
  void end(int code) {
    code_ = code;
    loop_.stop();
  }

  boost::asio::io_context& loop_;
  boost::asio::signal_set signals_, settings_;
  boost::asio::steady_timer goodbye_;
  Surroundings host_;
  Session session_;
  bool stopping_ = false, paused_ = false;
  int code_ = 0;
};

int run(const Options& options) {
  const auto tags = tags_of(options.tags);
  if (!tags) return failed(tags.error(), kUsage);
  const auto resources = resources_of(options.resources);
  if (!resources) return failed(resources.error(), kUsage);
  auto profile = load_profile(options.profile);
  if (!profile) return failed(profile.error());
  if (profile.value().account.component) return failed({"profile " + options.profile + " cannot be used", "it is of a component", "a worker logs in as an account: give it a profile of its own"});
  if (profile.value().manager.empty() || profile.value().room.empty())
    return failed({"profile " + options.profile + " cannot be used", "it does not say `manager` and `room`", "add both, as the manager's profile has them"});

  fs::path work = options.work;
  if (work.empty()) {
    auto chosen = default_work();
    if (!chosen) return failed(chosen.error());
    work = chosen.value();
  }
  const fs::path runner = beside_us("souk-runner");
  if (::access(runner.c_str(), X_OK) != 0) return failed({"cannot run " + runner.string(), std::strerror(errno), "install souk-runner beside souk-worker"});
  if (options.no_namespace) ::setenv("SOUK_NAMESPACES", "0", 1);

  const std::vector<int> cpus = processors();
  const int slots = options.slots > 0 ? options.slots : std::clamp(static_cast<int>(cpus.size()), 1, kSlotsMax);
  boost::asio::io_context loop(1);
  std::signal(SIGPIPE, SIG_IGN);
  Executor executor(loop, slots, work, runner);  // runners first, while this process is small and has one thread
  ProbeOptions probing;
  probing.work = work;
  probing.slots = slots;
  probing.tags = tags.value();
  probing.resources = resources.value();
  probing.speed = options.speed;
  Session::Setup setup;
  setup.offer = probe(probing);
  setup.offer.version = SOUK_VERSION;
  setup.processors = cpus;
  setup.nick = options.name.empty() ? host_name() : options.name;
  setup.profile = std::move(profile.value());
  // Each life has a resource of its own: two workers of one account would else throw each other out, again and again.
  setup.profile.account.jid = bare(setup.profile.account.jid) + '/' + setup.nick + '-' + random_suffix();
  std::error_code error;
  Surroundings host{task_environment(), fs::absolute(work, error).string(), setup.nick, !setup.offer.gpus.empty()};
  spdlog::info("worker name=\"{}\" version={} slots={} work=\"{}\" namespaces={} manager={} room={}", setup.nick, SOUK_VERSION, slots, host.work,
               executor.has_namespaces(), setup.profile.manager, setup.profile.room);

  Program program(loop, executor, std::move(setup), std::move(host));
  program.start();
  for (;;) {
    try {
      loop.run();
      break;
    } catch (const std::exception& fault) {  // of one handler; the loop goes on with the next
      spdlog::error("fault why=\"{}\"", printable(fault.what()));
    }
  }
  return program.code();
}

}  // namespace
}  // namespace souk::worker

int main(int argc, char** argv) {
  souk::keep_standard_streams();
  souk::worker::Options options;
  CLI::App app{"Offers this host's slots in a Souk marketplace and runs what the manager sends.", "souk-worker"};
  app.set_version_flag("--version", "souk-worker " SOUK_VERSION);
  app.add_option("--profile", options.profile, "Profile file: who this worker is and which grid")->required()->type_name("FILE");
  app.add_option("--slots", options.slots, "Tasks run at a time (default: one for each processor)")->check(CLI::Range(1, souk::kSlotsMax))->type_name("K");
  app.add_option("--work", options.work, "Working folder, used by this worker alone (default: a private one below $XDG_RUNTIME_DIR or /tmp)")->type_name("DIR");
  app.add_option("--name", options.name, "Name in the marketplace (default: the host's name)")->check(CLI::Validator(
      [](std::string& name) { return name.empty() || name.size() > 128 || !souk::is_printable(name) || name.find_first_of("\t\r\n") != name.npos ? std::string("1 to 128 bytes of plain text") : std::string(); }, ""))
      ->type_name("NAME");
  app.add_option("--tag", options.tags, "Says something more about this host; jobs can ask for it. May be repeated")->type_name("KEY=VALUE")->take_all()->allow_extra_args(false);
  app.add_option("--resource", options.resources, "Something else that tasks can ask for: so many of it, or things with names, handed out one by one. May be repeated")
      ->type_name("NAME=N|NAME=[A,B]")->take_all()->allow_extra_args(false)->delimiter('\0');
  app.add_option("--speed", options.speed, "Speed of one processor, 1.0 as the reference (default: measured, 15 ms)")->check(CLI::Range(0.1, souk::kSpeedMax))->type_name("X");
  app.add_flag("--no-namespace", options.no_namespace, "Run tasks without PID namespaces even where they are allowed");
  app.add_option("--log-level", options.log_level, "trace, debug, info, warn, error or off (default: info)")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))->type_name("LEVEL");
  app.footer(
      "Signals: TERM, INT stop at once and give running tasks back. USR1 drains: finish, accept nothing new, then exit. USR2 pauses and resumes.\n"
      "Exit code: 0 stopped or drained, 2 usage, 3 cannot work (profile, login, folder).\n"
      "Examples:\n"
      "  souk-worker --profile ~/.souk/worker.toml\n"
      "  souk-worker --profile lab.toml --slots 4 --name lab-7 --tag gpu=a100 --tag room=2.14\n"
      "  souk-worker --profile lab.toml --resource license.matlab=2 --resource fpga=[left,right]\n"
      "  kill -USR1 PID      leave when what runs has ended");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : souk::worker::kUsage;
  }
  try {
    spdlog::set_default_logger(spdlog::stderr_logger_st("souk-worker"));
    spdlog::set_pattern("%Y-%m-%dT%H:%M:%S.%e %l %v");
    spdlog::set_level(spdlog::level::from_str(options.log_level));
    return souk::worker::run(options);
  } catch (const std::exception& error) {  // its text is for people already: Executor
    return souk::worker::failed({"cannot start", error.what(), ""});
  }
}
