// starting ──workers in the market──▶ running ──TERM──▶ stopping ──all gone──▶ stopped
//    └──a program ended, or 20 s passed──▶ failing ──all gone──▶ failed
// The server comes first; manager and workers follow as soon as it listens on both ports. If another program sits on a port, the
// server moves to others and everything that knew the old ones is written and started again.
#include "submit/supervisor.h"

#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/streambuf.hpp>
#include <csignal>
#include <istream>
#include <memory>
#include <nlohmann/json.hpp>
#include <set>
#include <thread>

#include "protocol/quoting.h"
#include "submit/grid_state.h"
#include "submit/launch.h"
#include "submit/proc.h"

namespace souk {
namespace {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kMovesMax = 5;           // to other ports, in one start
constexpr auto kPortLook = 4ms;        // how often we look whether the server listens; it takes about 50 ms
constexpr auto kLogLook = 60s;         // how often the size of the logs is looked at
constexpr int kReplaced = 4;           // a manager's exit code: another one is in its place
constexpr std::size_t kLinesShown = 8;  // of a log, in a report

UnixMs now_ms() { return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string describe_exit(int status) {
  if (WIFSIGNALED(status)) return fmt::format("signal {} ({})", WTERMSIG(status), strsignal(WTERMSIG(status)));
  return fmt::format("exit code {}", WEXITSTATUS(status));
}

class Supervisor {
 public:
  Supervisor(FolderLock lock, EmbeddedGrid grid, ProgramPaths paths, std::function<void(const StartReport&)> reported)
      : lock_(std::move(lock)), grid_(std::move(grid)), at_{grid_.dir}, paths_(std::move(paths)), reported_(std::move(reported)) {
    state_.phase = Phase::starting;
    state_.version = SOUK_VERSION;
    state_.supervisor = ::getpid();
    state_.since_ms = now_ms();
    state_.dir = grid_.dir.string();
    state_.user = grid_.user;
    state_.workers = grid_.workers;
    state_.slots = grid_.slots;
  }

  int run() {
    // What programs of ours leave behind becomes our child instead of init's, and can be ended.
    for (const int pid : children()) not_ours_.insert(pid);
    ::prctl(PR_SET_CHILD_SUBREAPER, 1);
    ::chdir("/");
    wait_for_children();
    wait_for_stop();
    look_at_logs();
    start();
    loop_.run();
    if (failure_) {
      reported_({failure_, failure_lines_});
      return 1;
    }
    return 0;
  }

 private:
  struct Program {
    explicit Program(asio::io_context& loop) : timer(loop), notify(loop) {}
    ProgramPlan plan;
    ProgramState state;
    BackOff back_off;
    Clock::time_point started;
    asio::steady_timer timer;  // until the next start
    asio::posix::stream_descriptor notify;
    asio::streambuf notify_text{256};  // `ready` and `worker`; a longer line ends the reading
    bool replaced = false;  // ended for good
    bool running() const { return state.pid != 0; }
  };

  // --- Starting ---------------------------------------------------------------------------------------------------------

  void start() {
    const auto ports = choose_ports(grid_.ports);
    if (!ports) return fail(ports.error(), {});
    grid_.ports = ports.value();
    for (auto& plan : souk::plan(grid_, paths_)) {
      auto program = std::make_unique<Program>(loop_);
      program->state.name = plan.name;
      program->state.log = plan.log.string();
      program->plan = std::move(plan);
      programs_.push_back(std::move(program));
    }
    write_state();
    lock_.write_pid(::getpid());  // after the state: who reads a pid here finds the state that goes with it
    if (const auto written = write_grid(grid_); !written) return fail(written.error(), {});
    start_deadline_.expires_after(kStartMax);
    start_deadline_.async_wait([this](const boost::system::error_code& stopped) {
      if (!stopped && state_.phase == Phase::starting) start_took_too_long();
    });
    launch(server());
  }

  void start_took_too_long() {
    const std::string why = fmt::format("{} s passed", kStartMax.count());
    if (!others_started_) return fail({"the XMPP server did not listen on its ports", why, "see " + server().state.log}, lines_of(server()));
    const Program& manager = *programs_[1];
    if (!manager_ready_) return fail({"the manager did not become ready", why, "see " + manager.state.log}, lines_of(manager));
    const Program& worker = *programs_[2];
    fail({"no worker came into the market", why, "see " + worker.state.log + " and " + manager.state.log}, lines_of(worker));
  }

  void launch(Program& program) {
    const auto launched = souk::launch(program.plan);
    if (!launched) return could_not_launch(program, launched.error().why);
    program.state.pid = launched.value().pid;
    program.state.since_ms = now_ms();
    program.state.next_start_ms = 0;
    program.started = Clock::now();
    if (launched.value().notices >= 0) {
      program.notify.assign(launched.value().notices);
      program.notify_text.consume(program.notify_text.size());
      read_notices(program);
    }
    spdlog::info("started program={} pid={}", program.state.name, program.state.pid);
    if (&program == &server()) {
      one_port_since_ = program.started;
      look_at_ports();
    }
    write_state();
  }

  void could_not_launch(Program& program, const std::string& why) {
    program.state.last_exit = "no start: " + why;
    program.state.last_exit_ms = now_ms();
    ended(program, 0ms);
  }

  void read_notices(Program& program) {
    asio::async_read_until(program.notify, program.notify_text, '\n', [this, &program, pid = program.state.pid](const boost::system::error_code& failure, std::size_t) {
      if (failure || program.state.pid != pid) {
        if (program.state.pid == pid || program.state.pid == 0) program.notify.close();
        return;
      }
      std::istream in(&program.notify_text);
      std::string line;
      std::getline(in, line);
      if (line == "ready") {
        manager_ready_ = true;
        spdlog::info("manager ready pid={}", pid);
        std::erase(program.plan.argv, kRestored);  // done; a second time would hold again what was released since
      } else if (line == "stale") {
        manager_is_stale(program);
      } else if (line == "worker" && state_.phase != Phase::stopping && !failure_) {
        worker_came();
      }
      read_notices(program);
    });
  }

  /// Its workers have seen more than its store knows.
  void manager_is_stale(const Program& manager) {
    const std::string dir = shell_word(at_.dir.string());
    fail({"the manager's store is older than what its workers have seen", "it was put back from a copy, or another manager took over",
          "to go on with it: souk --dir " + dir + " down, then: souk --dir " + dir + " up --restored; see " + manager.state.log},
         {});
  }

  /// The grid runs when all its workers are in the market: who counts slots next is not to find half of them. One that cannot join holds up nobody for long.
  void worker_came() {
    state_.market = true;
    if (state_.phase != Phase::starting) return write_state();
    spdlog::info("worker in the market workers={}", ++workers_come_);
    if (workers_come_ + 2 >= programs_.size()) return start_is_over();
    if (workers_come_ > 1) return;
    others_deadline_.expires_after(kOthersMax);
    others_deadline_.async_wait([this](const boost::system::error_code& stopped) {
      if (!stopped && state_.phase == Phase::starting) start_is_over();
    });
  }

  void start_is_over() {
    state_.phase = Phase::running;
    start_deadline_.cancel();
    others_deadline_.cancel();
    write_state();  // before the report: whoever hears it reads the state
    reported_({});
  }

  // --- The server's ports -----------------------------------------------------------------------------------------------

  /// Prosody goes on without a port it cannot have, so whether it listens is asked of the kernel.
  void look_at_ports() {
    const int pid = server().state.pid;
    if (pid == 0 || stopping()) return;
    const auto clients = listener(pid, grid_.ports.clients), component = listener(pid, grid_.ports.component);
    if (clients == Listener::ours && component == Listener::ours) return server_listens();
    // It opens one right after the other: one alone for a second means that the other is held, by a socket that does not listen.
    const auto now = Clock::now();
    if (clients == component) one_port_since_ = now;
    const bool held = clients == Listener::other || component == Listener::other || now - one_port_since_ > 1s;
    if (held) return move_server();
    if (now - server().started > kStartMax) {
      spdlog::warn("the server does not listen; killing it pid={} log={}", pid, server().state.log);
      ::kill(pid, SIGKILL);
      return;
    }
    port_timer_.expires_after(kPortLook);
    port_timer_.async_wait([this](const boost::system::error_code& stopped) {
      if (!stopped) look_at_ports();
    });
  }

  void move_server() {
    spdlog::warn("port taken clients={} component={}; moving to others", grid_.ports.clients, grid_.ports.component);
    move_pending_ = ++moves_ <= kMovesMax;
    if (!move_pending_) {
      fail({"cannot start the XMPP server", fmt::format("its ports were taken {} times in a row", kMovesMax), "see what listens: ss -ltnp"}, lines_of(server()));
      if (stopping()) return;  // otherwise it is tried again, after a pause
    }
    ::kill(server().state.pid, SIGKILL);  // it serves nobody yet; the rest is done when it is gone
  }

  /// Called with the server gone: new ports, and all files that name them.
  void finish_move() {
    move_pending_ = false;
    const auto ports = choose_ports({});
    if (ports) grid_.ports = ports.value();
    const auto written = ports ? write_grid(grid_) : Result<Done>(ports.error());
    if (!written) fail(written.error(), {});
    if (stopping()) return;
    if (!written) return launch_later(server(), 0ms);
    others_outdated_ = others_started_;
    launch(server());
  }

  void server_listens() {
    spdlog::info("server listens clients={} component={} after_ms={}", grid_.ports.clients, grid_.ports.component,
                 std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - server().started).count());
    moves_ = 0;
    state_.problem.clear();
    write_state();
    if (!others_started_) {
      others_started_ = true;
      for (std::size_t i = 1; i < programs_.size() && !stopping(); ++i) launch(*programs_[i]);
    } else if (others_outdated_) {
      others_outdated_ = false;
      for (std::size_t i = 1; i < programs_.size(); ++i) {
        if (programs_[i]->running()) ::kill(programs_[i]->state.pid, SIGTERM);  // it comes back with the new ports
      }
    }
  }

  // --- Ends of programs -------------------------------------------------------------------------------------------------

  void wait_for_children() {
    child_signal_.async_wait([this](const boost::system::error_code& failure, int) {
      if (failure) return;
      reap();
      wait_for_children();
    });
  }

  void reap() {
    for (;;) {
      int status = 0;
      const pid_t pid = ::waitpid(-1, &status, WNOHANG);
      if (pid <= 0) return;
      const auto found = std::find_if(programs_.begin(), programs_.end(), [&](const auto& program) { return program->state.pid == pid; });
      if (found == programs_.end()) continue;  // something that a program left behind
      Program& program = **found;
      program.state.pid = 0;
      program.state.last_exit = describe_exit(status);
      program.state.last_exit_ms = now_ms();
      program.replaced = &program == programs_[1].get() && WIFEXITED(status) && WEXITSTATUS(status) == kReplaced;
      ended(program, std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - program.started));
    }
  }

  void ended(Program& program, std::chrono::milliseconds lived) {
    program.notify.close();
    program.state.since_ms = now_ms();
    spdlog::log(stopping() ? spdlog::level::info : spdlog::level::warn, "ended program={} why=\"{}\" lived_ms={}", program.state.name,
                program.state.last_exit, lived.count());
    if (stopping()) return next_stop_stage();
    sweep_soon();
    if (&program == &server() && move_pending_) return finish_move();
    if (state_.phase == Phase::starting) return start_failed_at(program);
    if (program.replaced)  // started again it would only disturb the other
      return fail({"the manager ended for good", "another manager is in its place", "see " + program.state.log + "; when the other one is stopped: souk down, souk up"}, {});
    launch_later(program, lived);
  }

  void launch_later(Program& program, std::chrono::milliseconds lived) {
    const auto delay = program.back_off.next(lived);
    program.state.next_start_ms = now_ms() + delay.count();
    write_state();
    program.timer.expires_after(delay);
    program.timer.async_wait([this, &program](const boost::system::error_code& stopped) {
      if (stopped || stopping()) return;
      ++program.state.restarts;
      launch(program);
    });
  }

  void start_failed_at(const Program& program) {
    const std::string what = program.state.name == "server" ? "the XMPP server (Prosody)" : "the program " + program.plan.argv.front();
    fail({fmt::format("cannot start {}", what), "it ended with " + program.state.last_exit, "the whole log: " + program.state.log}, lines_of(program));
  }

  std::vector<std::string> lines_of(const Program& program) const { return last_lines(program.plan.log, kLinesShown); }

  void fail(Error failure, std::vector<std::string> lines) {
    if (failure_ || state_.phase == Phase::stopping) return;
    spdlog::error("{}", failure.text());
    state_.problem = failure.text();
    const bool starting = state_.phase == Phase::starting;
    if (!starting) return write_state();  // the grid goes on as well as it can; `souk status` shows it
    failure_ = std::move(failure);
    failure_lines_ = std::move(lines);
    stop();
  }

  /// Ends what programs that died left behind: any child of ours that we did not start.
  std::size_t kill_strays() {
    std::set<int> known = not_ours_;
    for (const auto& program : programs_) known.insert(program->state.pid);
    std::size_t killed = 0;
    for (const int pid : children()) {
      if (known.contains(pid)) continue;
      ::kill(pid, SIGKILL);
      ++killed;
    }
    return killed;
  }

  /// Strays appear when their own parents end, so look at once and a little later.
  void sweep_soon() {
    kill_strays();
    sweep_timer_.expires_after(200ms);
    sweep_timer_.async_wait([this](const boost::system::error_code& stopped) {
      if (!stopped && kill_strays() > 0) sweep_soon();
    });
  }

  // --- Stopping ---------------------------------------------------------------------------------------------------------

  bool stopping() const { return state_.phase == Phase::stopping; }

  void wait_for_stop() {
    stop_signal_.async_wait([this](const boost::system::error_code& failure, int number) {
      if (failure) return;
      spdlog::info("stopping why=signal-{}", number);
      if (stopping()) {
        for (const auto& program : programs_) {
          if (program->running()) ::kill(program->state.pid, SIGKILL);  // asked twice: no more patience
        }
      } else {
        if (state_.phase == Phase::starting) {
          failure_ = Error{"the start was broken off", "it was told to stop", ""};
        }
        stop();
      }
      wait_for_stop();
    });
  }

  void stop() {
    state_.phase = Phase::stopping;
    start_deadline_.cancel();
    others_deadline_.cancel();
    port_timer_.cancel();
    sweep_timer_.cancel();
    log_timer_.cancel();
    for (const auto& program : programs_) {
      program->timer.cancel();
      program->state.next_start_ms = 0;
    }
    write_state();
    stop_stage_ = 0;
    stage_told_ = false;
    asio::post(loop_, [this] { next_stop_stage(); });
  }

  /// Workers first, so that the manager hears how their tasks ended; then the manager; the server last.
  std::vector<Program*> stage(int number) {
    std::vector<Program*> all;
    for (std::size_t i = 0; i < programs_.size(); ++i) {
      const int of = i == 0 ? 2 : i == 1 ? 1 : 0;
      if (of == number && programs_[i]->running()) all.push_back(programs_[i].get());
    }
    return all;
  }

  void next_stop_stage() {
    if (finished_) return;
    for (; stop_stage_ <= 2; ++stop_stage_, stage_told_ = false) {
      const auto left = stage(stop_stage_);
      if (left.empty()) continue;
      if (stage_told_) return;
      stage_told_ = true;
      for (Program* program : left) ::kill(program->state.pid, SIGTERM);
      stop_timer_.expires_after(kStopGrace);
      stop_timer_.async_wait([this, number = stop_stage_](const boost::system::error_code& stopped) {
        if (stopped || number != stop_stage_) return;
        for (Program* program : stage(number)) {
          spdlog::warn("killing program={} pid={} why=it-did-not-stop-in-{}-s", program->state.name, program->state.pid, kStopGrace.count());
          ::kill(program->state.pid, SIGKILL);
        }
      });
      return;
    }
    finish();
  }

  void finish() {
    finished_ = true;
    const auto deadline = Clock::now() + 2s;
    while (Clock::now() < deadline) {  // only now may we block: there is nothing left to supervise
      const auto left = kill_strays();
      while (::waitpid(-1, nullptr, WNOHANG) > 0) {}
      if (left == 0) break;
      std::this_thread::sleep_for(2ms);
    }
    state_.phase = failure_ && !state_.problem.empty() ? Phase::failed : Phase::stopped;
    write_state();
    spdlog::info("all stopped");
    loop_.stop();
  }

  // --- The rest ---------------------------------------------------------------------------------------------------------

  void write_state() {
    state_.ports = grid_.ports;
    state_.programs.clear();
    for (const auto& program : programs_) state_.programs.push_back(program->state);
    const auto written = write_file(at_.state(), souk::to_json(state_));
    if (!written && !state_write_failed_) spdlog::error("{}", written.error().text());  // once: the disk is probably full, and so is the log's
    state_write_failed_ = !written;
  }

  void look_at_logs() {
    log_timer_.expires_after(kLogLook);
    log_timer_.async_wait([this](const boost::system::error_code& stopped) {
      if (stopped) return;
      for (const auto& program : programs_) rotate_log(program->plan.log);
      rotate_log(at_.log("supervisor"));
      look_at_logs();
    });
  }

  Program& server() { return *programs_.front(); }

  FolderLock lock_;
  EmbeddedGrid grid_;
  Layout at_;
  ProgramPaths paths_;
  std::function<void(const StartReport&)> reported_;
  GridState state_;
  asio::io_context loop_{1};
  asio::signal_set child_signal_{loop_, SIGCHLD};
  asio::signal_set stop_signal_{loop_, SIGTERM, SIGINT, SIGHUP};
  asio::steady_timer start_deadline_{loop_}, others_deadline_{loop_}, port_timer_{loop_}, sweep_timer_{loop_}, stop_timer_{loop_}, log_timer_{loop_};
  std::vector<std::unique_ptr<Program>> programs_;  // server, manager, workers
  std::optional<Error> failure_;
  std::vector<std::string> failure_lines_;
  std::set<int> not_ours_;                          // children this process had before: whoever started it may have given it some
  Clock::time_point one_port_since_;
  bool others_started_ = false, others_outdated_ = false, manager_ready_ = false;
  std::size_t workers_come_ = 0;
  bool move_pending_ = false, stage_told_ = false, finished_ = false, state_write_failed_ = false;
  int moves_ = 0, stop_stage_ = 0;
};

}  // namespace

std::string to_json(const StartReport& report) {
  nlohmann::json value = {{"lines", report.lines}};
  if (report.failure) value["failure"] = {{"what", report.failure->what}, {"why", report.failure->why}, {"remedy", report.failure->remedy}};
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

StartReport parse_start_report(std::string_view text) {
  const auto value = nlohmann::json::parse(text, nullptr, false);
  if (!value.is_object()) return {Error{"the supervisor ended", "it did not say why", ""}, {}};
  StartReport report;
  report.lines = value.value("lines", std::vector<std::string>{});
  if (value.contains("failure")) report.failure = Error{value["failure"].value("what", ""), value["failure"].value("why", ""), value["failure"].value("remedy", "")};
  return report;
}

int supervise(FolderLock lock, EmbeddedGrid grid, const ProgramPaths& programs, std::function<void(const StartReport&)> reported) {
  return Supervisor(std::move(lock), std::move(grid), programs, std::move(reported)).run();
}

}  // namespace souk
