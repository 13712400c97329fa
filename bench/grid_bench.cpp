// A grid at its size: thousands of light workers in this process, on one thread and each with a connection of its own, against the server and the manager of
// `souk up`. A light worker is the session, the room and the agent of souk-worker without its runners: a task takes as long as a timer says.
//   G  how many workers one market holds, what they cost the server to come in, and how busy many of them are with short tasks
//   I  what a task costs when a thousand of them wait and when a million do
//   soak  rounds of coming in, working and leaving: does the server's memory stay flat?
#include <fcntl.h>
#include <spawn.h>
#include <spdlog/sinks/null_sink.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <numeric>
#include <stdexcept>

#include "worker/session.h"

extern char** environ;

namespace {

using namespace std::chrono_literals;
namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Json = nlohmann::ordered_json;

volatile std::sig_atomic_t stopped = 0;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// User and system, of all its threads.
double cpu_of(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string line;
  std::getline(file, line);
  std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 1)));
  std::string word;
  double ticks = 0;
  for (int field = 3; field <= 15 && fields >> word; ++field)
    if (field >= 14) ticks += std::atof(word.c_str());
  return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

double memory_mib(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("VmRSS")) return std::atof(line.substr(line.find_first_of("0123456789")).c_str()) / 1024;
  return 0;
}

/// Waits for it; what it writes to stdout is dropped, to stderr not.
int run(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
  pid_t pid = -1;
  const int failure = ::posix_spawn(&pid, argv[0], &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  int status = 0;
  if (failure != 0 || ::waitpid(pid, &status, 0) != pid) return 127;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128;
}

struct Options {
  std::vector<std::string> cases{"G", "I"};
  int workers = 2000, wave = 2000, busy = 4000, warm = 0;
  double task_s = 2, busy_s = 30, soak_s = 0;
  std::uint64_t queued = 1'000'000;
  std::string gc, server, bin;
  bool json = false, comes_back = false;
};

/// `souk up` in a folder of its own, with its one worker paused.
class Grid {
 public:
  explicit Grid(const Options& options) : souk_(options.bin + "/souk") {
    std::string pattern = (fs::temp_directory_path() / "souk-grid-XXXXXX").string();
    if (!::mkdtemp(pattern.data())) throw std::runtime_error("cannot make a folder like " + pattern);
    folder_ = pattern;
    ::setenv("SOUK_DIR", (folder_ / "grid").c_str(), 1);
    if (options.server == "ejabberd") ::setenv("SOUK_PROSODY", (fs::path(SOUK_SOURCE) / "bench/ejabberd").c_str(), 1);
    if (!options.gc.empty()) {
      // Prosody with another collection of garbage than `souk up` gives it.
      const auto program = folder_ / "prosody";
      std::ofstream(program) << "#!/bin/sh\nsed 's/^gc = .*/gc = { mode = \"" << options.gc << "\" }/' \"$3\" > \"${3%/*}/gc.cfg.lua\"\nexec prosody -F --config \"${3%/*}/gc.cfg.lua\"\n";
      ::chmod(program.c_str(), 0755);
      ::setenv("SOUK_PROSODY", program.c_str(), 1);
    }
    if (run({souk_, "up", "--workers", "1", "--slots", "1"}) != 0) {
      std::error_code ignored;
      fs::remove_all(folder_, ignored);
      throw std::runtime_error("`souk up` failed");
    }
    const auto state = Json::parse(std::ifstream(folder_ / "grid/state.json"));
    for (const auto& program : state.at("programs")) pids_[program.at("name")] = program.at("pid");
    ::kill(pids_.at("worker-1"), SIGUSR2);
  }
  ~Grid() {
    run({souk_, "down"});
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
  }
  Grid(const Grid&) = delete;

  pid_t server() const { return pids_.at("server"); }
  pid_t manager() const { return pids_.at("manager"); }
  souk::Profile worker_profile() const {
    const auto loaded = souk::load_profile(folder_ / "grid/worker.toml");
    if (!loaded) throw std::runtime_error(loaded.error().text());
    return loaded.value();
  }
  void submit(std::uint64_t tasks) const {
    if (run({souk_, "submit", "--array", "1-" + std::to_string(tasks), "--output-max", "0", "--", "/bin/true"}) != 0) throw std::runtime_error("`souk submit` failed");
  }
  /// The manager ends by force, and the supervisor starts it again.
  void kill_manager() {
    const pid_t old = manager();
    ::kill(old, SIGKILL);
    for (const auto until = Clock::now() + 30s; Clock::now() < until; ::usleep(20'000)) {
      const auto state = Json::parse(std::ifstream(folder_ / "grid/state.json"), nullptr, false);
      if (state.is_discarded()) continue;
      for (const auto& program : state.at("programs"))
        if (program.at("name") == "manager" && program.at("pid") != old && program.at("pid") > 0) return void(pids_["manager"] = program.at("pid"));
    }
    throw std::runtime_error("nobody started the manager again");
  }

 private:
  const std::string souk_;
  fs::path folder_;
  std::map<std::string, pid_t> pids_;
};

/// What a stretch of time cost.
class Spent {
 public:
  explicit Spent(const Grid& grid) : grid_(grid), server_(cpu_of(grid.server())), manager_(cpu_of(grid.manager())), own_(cpu_of(::getpid())) {}
  void manager_is_new() { manager_ = 0; }
  double server() const { return cpu_of(grid_.server()) - server_; }
  double manager() const { return cpu_of(grid_.manager()) - manager_; }
  double own() const { return cpu_of(::getpid()) - own_; }
  double wall() const { return seconds_since(start_); }

 private:
  const Grid& grid_;
  double server_, manager_, own_;
  const Clock::time_point start_ = Clock::now();
};

/// The light workers, and what they did.
class Swarm {
 public:
  Swarm(boost::asio::io_context& loop, const Grid& grid) : loop_(loop), profile_(grid.worker_profile()) {}

  /// More of them log in, and stay outside of the market. Not too many at a time: the checks of their passwords are work for this one thread.
  void log_in(int more, int slots) {
    const std::size_t before = all_.size();
    for (int i = 0; i < more; ++i) {
      souk::worker::Session::Setup setup;
      setup.profile = profile_;
      setup.nick = "light-" + std::to_string(++names_);
      const std::string& jid = setup.profile.account.jid;
      setup.profile.account.jid = jid.substr(0, jid.find('/')) + '/' + setup.nick;
      setup.offer.slots = setup.offer.cpus = slots, setup.offer.hostname = "bench";
      setup.enters = false;
      // This thread checks the passwords of all. When thousands come back at once that takes longer than one may take to log in, and whoever is given up then begins anew, for ever.
      setup.link.login_max = setup.link.silence_max = 10min;
      const std::size_t index = all_.size();
      souk::worker::Session::Slots does;
      does.start = [this, index](int slot, souk::worker::Assignment, souk::worker::Granted, std::function<void(souk::Outcome)> finished) { start(index, slot, std::move(finished)); };
      does.stop = [this, index](int slot) { stop(index, slot); };
      does.pause = does.resume = [](int) {};
      does.line_up = [this, index](int slot, souk::worker::Assignment, std::function<void(souk::Outcome)> finished, std::function<void()> recalled) {
        Slot& one = slot_of(index, slot);
        one.next = std::move(finished), one.recalled = std::move(recalled), ++one.lines;
      };
      does.recall = [this, index](int slot) {
        boost::asio::post(loop_, [this, index, slot, line = slot_of(index, slot).lines] {
          if (index >= all_.size()) return;
          Slot& one = slot_of(index, slot);
          if (one.lines == line && std::exchange(one.next, nullptr)) std::exchange(one.recalled, nullptr)();
        });
      };
      auto one = std::make_unique<Light>();
      one->slots.resize(static_cast<std::size_t>(slots));
      one->session = std::make_unique<souk::worker::Session>(loop_, std::move(setup), std::move(does));
      all_.push_back(std::move(one));
    }
    for (std::size_t begun = before; begun < all_.size();) {
      const auto logged_in = [&] { return static_cast<std::size_t>(std::count_if(all_.begin() + static_cast<std::ptrdiff_t>(before), all_.begin() + static_cast<std::ptrdiff_t>(begun), [](const auto& one) { return one->session->up(); })); };
      for (auto open = begun - before - logged_in(); open < 100 && begun < all_.size(); ++open) all_[begun++]->session->start();
      turn();
    }
    until([](const souk::worker::Session& one) { return one.up(); }, "logged in");
  }
  void enter(int from, int to) {
    for (int i = from; i < to; ++i) all_[static_cast<std::size_t>(i)]->session->enter();
  }
  void until_greeted() {
    until([](const souk::worker::Session& one) { return one.room().inside() && one.agent().greeted(); }, "greeted");
  }
  void until(const std::function<bool(const souk::worker::Session&)>& holds, const char* what) {
    auto told = Clock::now();
    for (const auto start = told;;) {
      turn();
      const auto there = static_cast<std::size_t>(std::count_if(all_.begin(), all_.end(), [&](const auto& one) { return holds(*one->session); }));
      if (there == all_.size()) return;
      if (Clock::now() - told > 5s) std::fprintf(stderr, "  %zu of %zu %s\n", there, all_.size(), what), told = Clock::now();
      if (Clock::now() - start > 10min) throw std::runtime_error(std::to_string(all_.size() - there) + " are not " + what + " after 10 minutes");
    }
  }
  bool until_done(std::uint64_t tasks, std::chrono::seconds limit) {
    for (const auto start = Clock::now(); ended_ < tasks; turn())
      if (Clock::now() - start > limit) return false;
    return true;
  }
  void rest(std::chrono::milliseconds time) {
    for (const auto start = Clock::now(); Clock::now() - start < time;) turn();
  }
  souk::Epoch epoch() const { return all_.front()->session->agent().epoch(); }
  void leave() {
    std::size_t left = 0;
    for (auto& one : all_) one->session->stop([&left] { ++left; });
    for (const auto start = Clock::now(); left < all_.size() && Clock::now() - start < 60s;) turn();
    all_.clear();
  }

  std::chrono::microseconds takes{0};  // each task
  std::uint64_t ended() const { return ended_; }
  std::size_t size() const { return all_.size(); }
  std::size_t busy_now() const { return running_; }
  /// Seconds of slots in which a task ran since then.
  void count_from_now() { counted_from_ = Clock::now(), slot_seconds_ = 0, ended_ = 0; }
  double slot_seconds() const {
    double now = slot_seconds_;
    for (const auto& one : all_)
      for (const auto& slot : one->slots)
        if (slot.finished) now += std::chrono::duration<double>(Clock::now() - std::max(slot.since, counted_from_)).count();
    return now;
  }

 private:
  struct Slot {
    std::function<void(souk::Outcome)> finished;  // null: it is free
    std::function<void(souk::Outcome)> next;      // lined up
    std::function<void()> recalled;
    int lines = 0;  // how often something was lined up: a recall is of one
    Clock::time_point since{};
    std::unique_ptr<boost::asio::steady_timer> timer;
  };
  struct Light {
    std::vector<Slot> slots;
    std::unique_ptr<souk::worker::Session> session;
  };

  void turn() {
    if (stopped) throw std::runtime_error("stopped");  // so that the grid ends with us
    loop_.restart();
    loop_.run_for(20ms);
  }
  Slot& slot_of(std::size_t index, int number) { return all_[index]->slots.at(static_cast<std::size_t>(number)); }
  void start(std::size_t index, int number, std::function<void(souk::Outcome)> finished) {
    Slot& slot = slot_of(index, number);
    slot.finished = std::move(finished), slot.since = Clock::now();
    ++running_;
    if (takes == 0us) return boost::asio::post(loop_, [this, index, number] { end(index, number, souk::Cause::exited); });
    if (!slot.timer) slot.timer = std::make_unique<boost::asio::steady_timer>(loop_);
    slot.timer->expires_after(takes);
    slot.timer->async_wait([this, index, number](auto error) {
      if (!error) end(index, number, souk::Cause::exited);
    });
  }
  void stop(std::size_t index, int number) {
    boost::asio::post(loop_, [this, index, number] { end(index, number, souk::Cause::canceled); });
  }
  void end(std::size_t index, int number, souk::Cause cause) {
    if (index >= all_.size()) return;
    Slot& slot = slot_of(index, number);
    if (!slot.finished) return;
    if (slot.timer) slot.timer->cancel();
    souk::Outcome outcome;
    outcome.cause = cause;
    outcome.wall = std::chrono::duration_cast<decltype(outcome.wall)>(Clock::now() - slot.since);
    slot_seconds_ += std::chrono::duration<double>(Clock::now() - std::max(slot.since, counted_from_)).count();
    --running_, ++ended_;
    const auto finished = std::exchange(slot.finished, nullptr);
    if (slot.next) start(index, number, std::exchange(slot.next, nullptr));
    finished(std::move(outcome));
  }

  boost::asio::io_context& loop_;
  const souk::Profile profile_;
  std::vector<std::unique_ptr<Light>> all_;
  int names_ = 0;
  std::uint64_t ended_ = 0;
  std::size_t running_ = 0;
  double slot_seconds_ = 0;
  Clock::time_point counted_from_{};
};

// ---- Cases -----------------------------------------------------------------------------------------------------------------------

Json row(const char* letter, const std::string& what, double figure, const char* unit, const std::string& target = "") {
  Json one{{"case", letter}, {"what", what}, {"figure", figure}, {"unit", unit}};
  if (!target.empty()) one["target"] = target;
  std::fprintf(stderr, "  %s: %s: %.4g %s\n", letter, what.c_str(), figure, unit);
  return one;
}

std::string number(double value) {
  std::string text = std::to_string(static_cast<long long>(value));
  for (auto at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

/// They log in; then they come in, wave by wave; then, maybe, the manager dies and all come back.
void joins(const Options& options, Json& rows) {
  Grid grid(options);
  boost::asio::io_context loop(1);
  Swarm swarm(loop, grid);
  // One that is there already: what they offer is known, as in any market but the first minute's.
  swarm.log_in(1, 1);
  swarm.enter(0, 1);
  swarm.until_greeted();
  double login = 0;
  for (int there = 0; there < options.workers;) {
    const int more = std::min(options.wave, options.workers - there);
    {
      const Spent spent(grid);
      swarm.log_in(more, 1);
      login = spent.server();
      rows.push_back(row("G", number(more) + " log in, behind " + number(there) + ": server", login, "s"));
    }
    const Spent spent(grid);
    swarm.enter(1 + there, 1 + there + more);
    swarm.until_greeted();
    const std::string who = number(more) + " join and are greeted, behind " + number(there);
    rows.push_back(row("G", who + ": server", spent.server(), "s", more == 2000 ? "< 1" : ""));
    rows.push_back(row("G", who + ": manager", spent.manager(), "s"));
    rows.push_back(row("G", who + ": time", spent.wall(), "s"));
    there += more;
  }
  rows.push_back(row("G", number(options.workers) + " in one market: memory of the server", memory_mib(grid.server()), "MiB"));
  rows.push_back(row("G", number(options.workers) + " in one market: memory of the manager", memory_mib(grid.manager()), "MiB"));
  if (!options.comes_back) return;
  const auto before = swarm.epoch();
  Spent spent(grid);
  grid.kill_manager();
  spent.manager_is_new();
  swarm.until([before](const souk::worker::Session& one) { return one.room().inside() && one.agent().greeted() && one.agent().epoch() > before; }, "greeted again");
  rows.push_back(row("G", number(options.workers) + " come back after kill -9 of the manager: server", spent.server(), "s"));
  rows.push_back(row("G", number(options.workers) + " come back after kill -9 of the manager: manager", spent.manager(), "s"));
}

/// Many workers with one slot and short tasks: which share of their time a task runs.
void busy(const Options& options, Json& rows) {
  Grid grid(options);
  boost::asio::io_context loop(1);
  Swarm swarm(loop, grid);
  swarm.takes = std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::duration<double>(options.task_s));
  swarm.log_in(options.busy, 1);
  swarm.enter(0, options.busy);
  swarm.until_greeted();
  // Twice as much as they can do, so that the queue never runs empty.
  grid.submit(static_cast<std::uint64_t>(2 * options.busy * (options.busy_s / options.task_s + 3)));
  const auto patience = Clock::now();
  while (swarm.busy_now() < swarm.size() && Clock::now() - patience < 60s) swarm.rest(50ms);
  rows.push_back(row("G", number(options.busy) + " workers: until all of them work", seconds_since(patience), "s"));
  swarm.count_from_now();
  const Spent spent(grid);
  swarm.rest(std::chrono::milliseconds(static_cast<long>(options.busy_s * 1000)));
  const double wall = spent.wall(), share = swarm.slot_seconds() / (wall * options.busy), tasks = static_cast<double>(swarm.ended());
  char with[64];
  std::snprintf(with, sizeof with, " workers, tasks of %g s: ", options.task_s);
  const std::string who = number(options.busy) + with;
  rows.push_back(row("G", who + "busy", share, "", "at least 0.95"));
  rows.push_back(row("G", who + "tasks/s", tasks / wall, "/s"));
  rows.push_back(row("G", who + "server, of one core", spent.server() / wall, ""));
  rows.push_back(row("G", who + "manager", spent.manager() / wall, ""));
  rows.push_back(row("G", who + "all light workers", spent.own() / wall, ""));
  rows.push_back(row("G", who + "server and manager a task", (spent.server() + spent.manager()) / tasks * 1e6, "us"));
}

/// What tasks that take no time cost: jobs of a thousand one after the other, and one of a million.
void growth(const Options& options, Json& rows) {
  Grid grid(options);
  boost::asio::io_context loop(1);
  Swarm swarm(loop, grid);
  swarm.log_in(8, 4);
  swarm.enter(0, 8);
  swarm.until_greeted();
  const auto cost = [&](std::uint64_t jobs, std::uint64_t tasks, std::uint64_t counted) {
    double cpu = 0;
    for (std::uint64_t i = 0; i < jobs; ++i) {
      swarm.count_from_now();
      const Spent spent(grid);
      grid.submit(tasks);
      if (!swarm.until_done(counted, 10min)) throw std::runtime_error("tasks are not done after 10 minutes");
      if (counted == tasks) swarm.rest(100ms);  // the last reports
      cpu += spent.server() + spent.manager();
    }
    return cpu / static_cast<double>(jobs * counted) * 1e6;
  };
  cost(5, 1000, 1000);
  const double few = cost(100, 1000, 1000);
  // Of the large job its first tenth, while all of it waits, its last, and the whole.
  swarm.count_from_now();
  const Spent spent(grid);
  grid.submit(options.queued);
  const auto reach = [&](std::uint64_t tasks) {
    if (!swarm.until_done(tasks, 10min)) throw std::runtime_error("tasks are not done after 10 minutes");
    return spent.server() + spent.manager();
  };
  const double tenth = static_cast<double>(options.queued) / 10, first = reach(options.queued / 10) / tenth * 1e6;
  const double before_last = reach(options.queued - options.queued / 10), all = reach(options.queued);
  const double last = (all - before_last) / tenth * 1e6, many = all / static_cast<double>(options.queued) * 1e6;
  swarm.rest(500ms);
  const double again = cost(100, 1000, 1000);
  rows.push_back(row("I", "100 jobs of 1,000 tasks, one after the other: server and manager a task", few, "us"));
  rows.push_back(row("I", "one job of " + number(static_cast<double>(options.queued)) + " tasks: server and manager a task", many, "us"));
  rows.push_back(row("I", "its first tenth", first, "us"));
  rows.push_back(row("I", "its last tenth", last, "us"));
  rows.push_back(row("I", "100 jobs of 1,000 tasks again", again, "us"));
  rows.push_back(row("I", "one job, against those of 1,000 with what their submission costs", many / ((few + again) / 2), "", "at most 1.2"));
  rows.push_back(row("I", "its first tenth against its last", first / last, "", "at most 1.2"));
}

void soak(const Options& options, Json& rows) {
  Grid grid(options);
  boost::asio::io_context loop(1);
  int round = 0;
  for (const auto start = Clock::now(); seconds_since(start) < options.soak_s; ++round) {
    Swarm swarm(loop, grid);
    swarm.takes = 100ms;
    const Spent spent(grid);
    swarm.log_in(options.workers, 1);
    swarm.enter(0, options.workers);
    swarm.until_greeted();
    const double full = memory_mib(grid.server());
    swarm.count_from_now();
    const std::uint64_t tasks = static_cast<std::uint64_t>(options.workers) * 10;
    grid.submit(tasks);
    swarm.until_done(tasks, 2min);
    swarm.rest(200ms);
    swarm.leave();
    swarm.rest(500ms);
    const double left = memory_mib(grid.server());
    std::fprintf(stderr, "  %6.1f s, round %d of %d workers: server %.0f MiB with all in, %.0f after they left, %.2f s of cpu; manager %.0f MiB\n", seconds_since(start), round + 1, options.workers, full, left,
                 spent.server(), memory_mib(grid.manager()));
    rows.push_back({{"case", "soak"}, {"what", "round " + std::to_string(round + 1) + ": server with all in"}, {"figure", full}, {"unit", "MiB"}});
    rows.push_back({{"case", "soak"}, {"what", "round " + std::to_string(round + 1) + ": server after they left"}, {"figure", left}, {"unit", "MiB"}});
  }
}

std::string first_line(const char* command) {
  char text[256] = "";
  if (FILE* pipe = ::popen(command, "r")) {
    if (!std::fgets(text, sizeof text, pipe)) text[0] = 0;
    ::pclose(pipe);
  }
  std::string line(text);
  while (!line.empty() && line.back() == '\n') line.pop_back();
  return line;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  CLI::App app("A grid at its size: thousands of light workers in this one process, against the server and the manager of `souk up`.");
  app.footer(R"(Cases:
  G     workers log in, and come into one market in waves: processor time of the server and of the manager for each; then another grid of --busy workers
        with tasks of --task-s: the share of their time that they work
  I     processor time of server and manager a task, in jobs of 1,000 tasks and in one of --queued
  soak  for --soak-s seconds, --workers come in, work and leave: the server's memory after each round

A light worker is all of souk-worker but its runners; tasks are timers. All are in one thread, so on two cores they take one of them.
Processor time is user and system of each process. Progress goes to stderr.

Examples:
  bench/grid_bench --cases G --workers 10000 --comes-back     10,000 in one market, in waves of 2,000
  bench/grid_bench --cases G --server ejabberd                the same on ejabberd
  bench/grid_bench --cases I
  bench/grid_bench --cases soak --soak-s 300 --gc generational)");
  app.add_option("--cases", options.cases, "G, I, soak (default: G,I)")->delimiter(',')->check(CLI::IsMember({"G", "I", "soak"}));
  app.add_option("--workers", options.workers, "In one market (default: 2000)")->check(CLI::Range(1, 50'000));
  app.add_option("--wave", options.wave, "So many of them join at once (default: 2000)")->check(CLI::Range(1, 50'000));
  app.add_flag("--comes-back", options.comes_back, "At the end of the joins the manager is killed, and all come back");
  app.add_option("--busy", options.busy, "Workers with short tasks; 0: leave that out (default: 4000)")->check(CLI::Range(0, 50'000));
  app.add_option("--task-s", options.task_s, "How long each of these tasks takes (default: 2)")->check(CLI::Range(0.01, 3600.0));
  app.add_option("--busy-s", options.busy_s, "How long their work is watched (default: 30)")->check(CLI::Range(1.0, 3600.0));
  app.add_option("--queued", options.queued, "Tasks of the large job in I (default: 1000000)")->check(CLI::Range(1000, 10'000'000));
  app.add_option("--soak-s", options.soak_s, "Default: 300")->check(CLI::Range(1.0, 86400.0));
  app.add_option("--server", options.server, "prosody or ejabberd (default: prosody)")->check(CLI::IsMember({"prosody", "ejabberd"}));
  app.add_option("--gc", options.gc, "Prosody's collection of garbage (default: that of `souk up`)")->check(CLI::IsMember({"incremental", "generational"}));
  app.add_flag("--json", options.json, "Print JSON instead of a table");
  CLI11_PARSE(app, argc, argv);
  if (options.soak_s == 0) options.soak_s = 300;
  options.bin = fs::read_symlink("/proc/self/exe").parent_path().string();
  for (const int one : {SIGINT, SIGTERM, SIGHUP}) ::signal(one, [](int) { stopped = 1; });
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("light", std::make_shared<spdlog::sinks::null_sink_st>()));

  double load = 0;
  ::getloadavg(&load, 1);
  utsname system{};
  ::uname(&system);
  Json result{{"cpu", first_line("sed -n 's/^model name.*: //p' /proc/cpuinfo | head -n 1")}, {"cores", ::sysconf(_SC_NPROCESSORS_ONLN)}, {"kernel", system.release},
              {"server", options.server.empty() ? "prosody" : options.server}, {"gc", options.gc}, {"build", SOUK_BUILD}, {"load", load}, {"rows", Json::array()}};
  result["commit"] = first_line(("git -C '" + std::string(SOUK_SOURCE) + "' rev-parse --short HEAD 2>/dev/null").c_str());
  try {
    for (const std::string& one : options.cases) {
      if (one == "G") joins(options, result["rows"]);
      if (one == "G" && options.busy > 0) busy(options, result["rows"]);
      if (one == "I") growth(options, result["rows"]);
      if (one == "soak") soak(options, result["rows"]);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "grid_bench: %s\n", error.what());
    return 1;
  }
  if (options.json) return std::printf("%s\n", result.dump().c_str()), 0;
  std::printf("%s, %ld cores, kernel %s, %s build, commit %s, %s%s%s, load %.1f before\n\n| case | what | figure | target |\n| --- | --- | --- | --- |\n", result["cpu"].get<std::string>().c_str(),
              ::sysconf(_SC_NPROCESSORS_ONLN), system.release, SOUK_BUILD, result["commit"].get<std::string>().c_str(), result["server"].get<std::string>().c_str(), options.gc.empty() ? "" : ", gc ",
              options.gc.c_str(), load);
  for (const auto& one : result["rows"])
    std::printf("| %s | %s | %.4g %s | %s |\n", one["case"].get<std::string>().c_str(), one["what"].get<std::string>().c_str(), one["figure"].get<double>(), one["unit"].get<std::string>().c_str(),
                one.value("target", "").c_str());
}
