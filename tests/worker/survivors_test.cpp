// Nothing of an attempt survives it, and nothing survives the worker.
#include <csignal>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "executor_stage.h"
#include "worker/folder.h"

namespace souk {
namespace {

using Survivors = ExecutorTest;
INSTANTIATE_TEST_SUITE_P(Executor, Survivors, ::testing::Bool(), mode_name);

/// A number for sleep(1) that no other process has on its command line.
std::string mark() {
  static int number = 0;
  return std::to_string(900000 + getpid()) + "." + std::to_string(100 + ++number);
}

bool eventually(const std::function<bool()>& holds, std::chrono::milliseconds most = 10s) {
  for (const auto end = std::chrono::steady_clock::now() + most; !holds(); usleep(1000))
    if (std::chrono::steady_clock::now() > end) return false;
  return true;
}

/// Those whose working directory is that folder or below it.
std::vector<int> processes_in(const fs::path& folder) {
  std::vector<int> pids;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const int pid = std::atoi(entry.path().filename().c_str());
    std::error_code failure;
    if (pid > 0 && fs::read_symlink(entry.path() / "cwd", failure).string().starts_with(folder.string())) pids.push_back(pid);
  }
  return pids;
}

/// Leaves every kind of process behind, then does what `then` says.
std::string brood(const std::string& mark, const std::string& then) {
  return "sleep " + mark + " & (setsid sh -c 'sleep " + mark + " & trap \"\" TERM; sleep " + mark + "; sleep " + mark + "' & ) ; (setsid setsid sleep " + mark +
         " >/dev/null 2>&1 </dev/null &); while [ $(grep -lsc " + mark + " /proc/[0-9]*/cmdline 2>/dev/null | wc -l) -lt 6 ]; do :; done; touch here; " + then;
}

TEST_P(Survivors, NoneOfAnAttemptThatEnded) {
  Stage stage(GetParam());
  const std::string sleepers = mark();
  const Outcome outcome = stage.run(shell(brood(sleepers, "echo done")));
  EXPECT_EQ(outcome.out, "done\n");
  EXPECT_EQ(outcome.exit_code, 0);
  EXPECT_LT(outcome.wall, 10s) << "a daemon that holds stdout must not hold the slot";
  EXPECT_EQ(processes_with(sleepers), std::vector<int>{});
  EXPECT_EQ(stage.run(shell("echo next")).out, "next\n");
}

TEST_P(Survivors, NoneOfAnAttemptThatWasStopped) {
  Stage stage(GetParam());
  const std::string sleepers = mark();
  std::optional<Outcome> outcome;
  stage.start(brood(sleepers, "sleep " + sleepers), [&](Outcome o) { outcome = o; });
  EXPECT_GE(processes_with(sleepers).size(), 5u);
  stage.executor->stop(0);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::canceled);
  EXPECT_EQ(processes_with(sleepers), std::vector<int>{});
}

TEST_P(Survivors, NoneOfAnExecutorThatIsDestroyed) {
  const std::string sleepers = mark();
  Stage stage(GetParam(), 2);
  bool finished = false;
  for (int slot : {0, 1}) stage.start(brood(sleepers, "sleep " + sleepers), [&](const Outcome&) { finished = true; }, slot);
  stage.executor.reset();
  EXPECT_EQ(processes_with(sleepers), std::vector<int>{});
  EXPECT_TRUE(children_of(getpid()).empty());
  EXPECT_FALSE(finished);
  EXPECT_TRUE(stage.work_is_empty());
}

TEST_P(Survivors, NoneOfAChainOfForksThatKeepsMovingOn) {
  Stage stage(GetParam());
  const std::string chain = mark();
  const Outcome outcome = stage.run(program({"perl", "-MPOSIX", "-e", "for (;;) { my $p = fork; exit 5 if $p; setsid }", chain}));
  EXPECT_EQ(outcome.exit_code, 5);
  EXPECT_EQ(processes_with(chain), std::vector<int>{});
}

TEST_P(Survivors, NoZombiesPileUpUnderALongAttempt) {
  Stage stage(GetParam());
  bool finished = false;
  stage.start("i=0; while [ $i -lt 50 ]; do (true &); i=$((i+1)); done; touch here; sleep 60", [&](const Outcome&) { finished = true; });
  const int runner = stage.runner();
  EXPECT_TRUE(stage.until([&] { return children_of(runner).size() == 1; }, 5s)) << children_of(runner).size();
  EXPECT_FALSE(finished);
}

// ---- A runner that dies -------------------------------------------------------------------------------------------------------

TEST_P(Survivors, ARunnerThatDiesTakesOnlyItsAttemptWithIt) {
  Stage stage(GetParam(), 2);
  const auto other_children = children_of(getpid());
  ASSERT_EQ(other_children.size(), 2u);
  for (const bool guard_too : {false, true}) {
    const std::string sleepers = mark(), neighbours = mark();
    std::optional<Outcome> outcome, other;
    stage.start(brood(sleepers, "sleep " + sleepers), [&](Outcome o) { outcome = o; }, 0);
    const fs::path folder = stage.last_folder;
    stage.start("touch here; sleep " + neighbours, [&](Outcome o) { other = o; }, 1);
    // The runner is what has the sleepers below it; without namespaces a guard is above it.
    int runner = 0;
    for (const int child : children_of(getpid())) {
      int candidate = child;
      if (!stage.executor->has_namespaces()) candidate = children_of(child).front();
      if (children_of(candidate).size() > 1) runner = guard_too ? child : candidate;
    }
    ASSERT_NE(runner, 0);
    kill(runner, SIGKILL);
    ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
    EXPECT_EQ(outcome->cause, Cause::lost);
    EXPECT_NE(outcome->why.find("its runner died under it"), std::string::npos) << outcome->why;
    EXPECT_TRUE(stage.until([&] { return processes_with(sleepers).empty(); }, 3s));
    EXPECT_EQ(stage.run(shell("echo again")).out, "again\n");
    EXPECT_FALSE(fs::exists(folder)) << "the next runner removes what it left";
    EXPECT_FALSE(other);
    EXPECT_EQ(processes_with(neighbours).size(), 2u);
    stage.executor->stop(1);
    EXPECT_TRUE(stage.until([&] { return other.has_value(); }));
  }
}

TEST_P(Survivors, AnIdleRunnerThatDiesIsReplaced) {
  Stage stage(GetParam());
  for (int i = 0; i < 10; ++i) {
    const int runner = stage.runner();
    ASSERT_GT(runner, 1);
    kill(runner, SIGKILL);
    while (kill(runner, 0) == 0 && !(stage.executor->has_namespaces() && [&] {
      siginfo_t ended{};  // our child: a zombie until the loop runs
      return waitid(P_PID, static_cast<id_t>(runner), &ended, WEXITED | WNOHANG | WNOWAIT) == 0 && ended.si_pid == runner;
    }())) {}
    const Outcome outcome = stage.run(shell("echo again"));  // the worker does not know it yet when it sends this
    EXPECT_EQ(outcome.out, "again\n") << outcome.why;
  }
  EXPECT_TRUE(stage.until([] { return children_of(getpid()).size() == 1; }));
}

TEST_P(Survivors, ALaunchThatADeadRunnerNeverReadGoesToTheNext) {
  Stage stage(GetParam());
  for (int i = 0; i < 10; ++i) {
    const int runner = stage.runner();
    ASSERT_GT(runner, 1);
    kill(runner, SIGSTOP);
    for (std::string stat; stat.find(") T ") == std::string::npos;) std::getline(std::ifstream("/proc/" + std::to_string(runner) + "/stat"), stat);
    std::optional<Outcome> outcome;
    stage.executor->start(0, shell("echo again"), [&](Outcome o) { outcome = o; });
    kill(runner, SIGKILL);
    ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
    EXPECT_EQ(outcome->out, "again\n") << outcome->why;
  }
}

TEST_P(Survivors, AnAttemptWhoseRunnerDiedWithoutReadingAPauseDoesNotBeginAgain) {
  Stage stage(GetParam());
  const int runner = stage.runner();
  ASSERT_GT(runner, 1);
  const fs::path marks = stage.folder / "marks";
  std::optional<Outcome> outcome;
  stage.start("echo began >> '" + marks.string() + "'; touch here; exec sleep 30", [&](Outcome o) { outcome = o; });
  kill(runner, SIGSTOP);
  for (std::string stat; stat.find(") T ") == std::string::npos;) std::getline(std::ifstream("/proc/" + std::to_string(runner) + "/stat"), stat);
  stage.executor->pause(0);
  kill(runner, SIGKILL);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::lost) << outcome->why;
  EXPECT_EQ(fs::file_size(marks), 6u);
}

TEST_P(Survivors, ALaunchWithStreamsOfItsOwnIsLostInstead) {
  Stage stage(GetParam());
  const int runner = stage.runner();
  ASSERT_GT(runner, 1);
  kill(runner, SIGSTOP);
  for (std::string stat; stat.find(") T ") == std::string::npos;) std::getline(std::ifstream("/proc/" + std::to_string(runner) + "/stat"), stat);
  Launch launch = shell("echo to whom");
  int ends[2];
  ASSERT_EQ(pipe(ends), 0);
  launch.streams = {ends[0], ends[1], ends[1]};
  std::optional<Outcome> outcome;
  stage.executor->start(0, std::move(launch), [&](Outcome o) { outcome = o; });
  int others[2];  // take the numbers that are free now
  ASSERT_EQ((close(ends[0]), close(ends[1]), pipe(others)), 0);
  ASSERT_EQ(others[1], ends[1]);
  fcntl(others[0], F_SETFL, O_NONBLOCK);
  kill(runner, SIGKILL);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::lost) << outcome->why;
  char byte = 0;
  EXPECT_EQ(read(others[0], &byte, 1), -1) << "it wrote into what is not its own";
  EXPECT_EQ(errno, EAGAIN);
  close(others[0]), close(others[1]);
}

TEST_P(Survivors, ATaskCannotEndItsRunnerByPlainSignals) {
  Stage stage(GetParam());
  const Outcome outcome = stage.run(shell("for s in TERM HUP INT QUIT USR1 USR2 PIPE ALRM TSTP; do kill -$s $PPID; done; sleep 0.05; echo alive"));
  EXPECT_EQ(outcome.out, "alive\n");
  EXPECT_EQ(stage.run(shell("echo next")).out, "next\n");
}

/// Both at one instant: nobody is left above what the attempt started in sessions of their own, but the worker.
TEST_P(Survivors, NoneOfAnAttemptWhoseRunnerIsKilledWithItsGuard) {
  Stage stage(GetParam(), 2);
  const std::string sleepers = mark(), neighbours = mark();
  std::optional<Outcome> outcome, other;
  stage.start("touch here; setsid sleep " + neighbours + " & wait", [&](Outcome o) { other = o; }, 1);
  ASSERT_TRUE(eventually([&] { return processes_with(std::string("sleep\0", 6) + neighbours).size() == 1; }));
  stage.start(brood(sleepers, "sleep " + sleepers), [&](Outcome o) { outcome = o; }, 0);
  std::vector<int> doomed;
  for (const int child : children_of(getpid())) {
    const int runner = stage.executor->has_namespaces() ? child : children_of(child).front();
    if (children_of(runner).size() > 2) doomed = {child, runner};
  }
  ASSERT_FALSE(doomed.empty());
  for (const int signal : {SIGSTOP, SIGKILL})  // stopped first, else one would begin to sweep
    for (const int pid : doomed) kill(pid, signal);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::lost);
  EXPECT_EQ(processes_with(sleepers), std::vector<int>{});
  EXPECT_EQ(processes_with(std::string("sleep\0", 6) + neighbours).size(), 1u) << "the other slot's are none of these";
  EXPECT_FALSE(other);
}

// ---- A runner that is stopped -------------------------------------------------------------------------------------------------

TEST_P(Survivors, ATaskThatStopsItsRunnerIsReportedAllTheSame) {
  Stage stage(GetParam());
  EXPECT_EQ(stage.run(shell("kill -STOP $PPID; echo went on")).out, "went on\n");
  if (stage.executor->has_namespaces()) return;  // above is nobody whom it could see
  const Outcome outcome = stage.run(shell("kill -STOP $(cut -d' ' -f4 /proc/$PPID/stat) $PPID; echo both"));  // the guard too
  EXPECT_EQ(outcome.out, "both\n");
  EXPECT_EQ(outcome.exit_code, 0);
}

TEST_P(Survivors, ATaskThatStopsItsRunnerStillHasItsTimeLimit) {
  Stage stage(GetParam());
  Launch launch = shell("kill -STOP $PPID; sleep 60");
  launch.time_limit = 100ms;
  const Outcome outcome = stage.run(launch);
  EXPECT_EQ(outcome.cause, Cause::timed_out);
  EXPECT_LT(outcome.wall, 10s);
}

TEST_P(Survivors, ATaskThatStopsItsRunnerIsStoppedWhenAsked) {
  Stage stage(GetParam());
  std::optional<Outcome> outcome;
  stage.start("kill -STOP $PPID; touch here; sleep 60", [&](Outcome o) { outcome = o; });
  stage.executor->stop(0);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::canceled);
  EXPECT_LT(outcome->wall, 5s);
}

TEST_P(Survivors, ARunnerThatIsStoppedAgainAndAgainIsReplaced) {
  Stage stage(GetParam());
  if (stage.executor->has_namespaces()) GTEST_SKIP() << "nobody can stop the first process of a namespace from inside";
  const std::string stopper = mark();
  const Launch launch = program({"perl", "-e", "open F, '/proc/' . getppid . '/stat'; $guard = (split ' ', <F>)[3]; "
                                 "for (;;) { kill STOP => $guard, getppid; select undef, undef, undef, 0.001 }", stopper});
  const Outcome outcome = stage.run(launch);
  EXPECT_EQ(outcome.cause, Cause::lost);
  EXPECT_NE(outcome.why.find("was stopped (SIGSTOP) again and again"), std::string::npos) << outcome.why;
  EXPECT_TRUE(eventually([&] { return processes_with(stopper).empty(); }));
  EXPECT_EQ(stage.run(shell("echo next")).out, "next\n");
  EXPECT_TRUE(stage.until([] { return children_of(getpid()).size() == 1; })) << "its guard is gone";
}

TEST_P(Survivors, AnAttemptThatCannotBeKilledDoesNotHoldTheSlot) {
  Stage stage(GetParam());
  std::optional<Outcome> outcome;
  stage.start("echo said; touch here; sleep 60 & wait", [&](Outcome o) { outcome = o; });
  const int runner = stage.runner();
  // As good as a process that sleeps in the kernel: what a tracer holds cannot be reaped by its parent.
  const int task = children_of(runner).front();
  if (ptrace(PTRACE_SEIZE, task, nullptr, nullptr) != 0) GTEST_SKIP() << "no ptrace here";
  stage.executor->stop(0);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value() || waitid(P_PID, static_cast<id_t>(task), nullptr, WSTOPPED | WNOHANG) != 0 || [&] {
    siginfo_t stopped{};
    if (waitid(P_PID, static_cast<id_t>(task), &stopped, WSTOPPED | WNOHANG) == 0 && stopped.si_pid == task) ptrace(PTRACE_CONT, task, nullptr, static_cast<long>(stopped.si_status & 0xff));
    return false;
  }(); }));
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::canceled);
  EXPECT_EQ(outcome->out, "said\n");
  EXPECT_NE(outcome->why.find("cannot be killed"), std::string::npos);
  EXPECT_EQ(stage.run(shell("echo next")).out, "next\n");
  EXPECT_EQ(waitpid(task, nullptr, __WALL), task);  // let it go
  EXPECT_TRUE(stage.until([] { return children_of(getpid()).size() == 1; }));
}

// ---- A worker that is killed --------------------------------------------------------------------------------------------------

class KilledWorker {
 public:
  KilledWorker(bool namespaces, const std::string& line) : folder(new_folder()) {
    setenv("SOUK_NAMESPACES", namespaces ? "1" : "0", 1);
    std::string program = EXECUTOR_HOST, work = (folder / "work").string(), slots = "2", text = line;
    char* argv[] = {program.data(), work.data(), slots.data(), text.data(), nullptr};
    if (posix_spawn(&pid, program.c_str(), nullptr, nullptr, argv, environ) != 0) pid = -1;
  }
  ~KilledWorker() {
    if (waitpid(pid, nullptr, WNOHANG) == 0) {  // a test that failed before it killed it
      kill(pid, SIGKILL);
      waitpid(pid, nullptr, 0);
    }
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }
  bool runs_both() {
    for (const auto end = std::chrono::steady_clock::now() + 20s; std::chrono::steady_clock::now() < end; usleep(2000))
      if (fs::exists(folder / "work/slot-0/here") && fs::exists(folder / "work/slot-1/here")) return true;
    return false;
  }
  /// The lock of the folder is free when the last runner and guard are gone.
  bool all_gone() {
    const int lock = open((folder / "work/.souk-work").c_str(), O_RDWR | O_CLOEXEC);
    bool free = false;
    for (const auto end = std::chrono::steady_clock::now() + 10s; !free && std::chrono::steady_clock::now() < end; usleep(1000)) free = flock(lock, LOCK_EX | LOCK_NB) == 0;
    close(lock);
    return free;
  }
  fs::path folder;
  pid_t pid = -1;
};

TEST_P(Survivors, NoneOfAWorkerThatIsKilled) {
  const std::string sleepers = mark();
  KilledWorker worker(GetParam(), brood(sleepers, "sleep " + sleepers));
  ASSERT_TRUE(worker.runs_both());
  EXPECT_GE(processes_with(sleepers).size(), 10u);
  kill(worker.pid, SIGKILL);
  waitpid(worker.pid, nullptr, 0);
  EXPECT_TRUE(worker.all_gone());
  EXPECT_EQ(processes_with(sleepers), std::vector<int>{});
}

TEST_P(Survivors, NoneOfAWorkerThatIsKilledWithItsRunners) {
  const std::string sleepers = mark();
  KilledWorker worker(GetParam(), brood(sleepers, "sleep " + sleepers));
  ASSERT_TRUE(worker.runs_both());
  std::vector<int> doomed{worker.pid};
  for (const int child : children_of(worker.pid)) {
    const auto below = children_of(child);
    doomed.push_back(below.size() == 1 ? below.front() : child);  // below a guard
  }
  for (const int pid : doomed) kill(pid, SIGKILL);
  waitpid(worker.pid, nullptr, 0);
  EXPECT_TRUE(worker.all_gone());
  // The first process of a namespace closes its files, and the lock with them, a moment before the kernel kills the others.
  for (const auto end = std::chrono::steady_clock::now() + 5s; !processes_with(sleepers).empty() && std::chrono::steady_clock::now() < end;) usleep(1000);
  EXPECT_EQ(processes_with(sleepers), std::vector<int>{});
}

/// All of our own processes at one instant: nobody is left who could sweep. What lives then hides as well as it can.
TEST_P(Survivors, NoneOfAWorkerThatIsKilledWithEverythingThatWouldSweep) {
  const std::string sleepers = mark();
  KilledWorker worker(GetParam(), "(setsid env -i sh -c 'cd /; exec >/dev/null 2>&1 </dev/null; sleep " + sleepers + " & sleep " + sleepers + " & wait' &); trap '' TERM; touch here; sleep " + sleepers);
  ASSERT_TRUE(worker.runs_both());
  ASSERT_TRUE(eventually([&] { return processes_with(std::string("sleep\0", 6) + sleepers).size() == 6; }));
  std::vector<int> doomed{worker.pid};
  for (const int child : children_of(worker.pid)) {
    doomed.push_back(child);
    const auto below = children_of(child);
    if (!GetParam() || below.size() == 1) doomed.push_back(below.front());  // below a guard
  }
  for (const int pid : doomed) kill(pid, SIGSTOP);  // else the first of them would begin to sweep
  for (const int pid : doomed) kill(pid, SIGKILL);
  waitpid(worker.pid, nullptr, 0);
  boost::asio::io_context loop;
  Executor next(loop, 1, worker.folder / "work", SOUK_RUNNER);
  EXPECT_TRUE(eventually([&] { return processes_with(sleepers).empty(); })) << processes_with(sleepers).size();
  EXPECT_EQ(std::distance(fs::directory_iterator(worker.folder / "work"), fs::directory_iterator()), 1);
}

/// Nor may one that kills all that would sweep, and has shed what it is known by.
TEST_P(Survivors, NoneOfAnAttemptThatKillsThoseAboveIt) {
  Stage stage(GetParam());
  const std::string sleepers = mark();
  const std::string leave = "setsid prlimit --rttime=1000000:1000000 sleep " + sleepers + " >/dev/null 2>&1 </dev/null & (setsid setsid prlimit --rttime=1000000:1000000 sh -c 'sleep " + sleepers + "; sleep " +
                            sleepers + "' >/dev/null 2>&1 </dev/null &); while [ $(grep -lsc " + sleepers + " /proc/[0-9]*/cmdline | wc -l) -lt 4 ]; do :; done; ";
  for (const char* then : {"trap '' TERM; guard=$(cut -d' ' -f4 /proc/$PPID/stat); touch here; kill -STOP $guard; kill -9 $PPID $guard; sleep 100",
                           "guard=$(cut -d' ' -f4 /proc/$PPID/stat); trap 'kill -9 $PPID $guard' TERM; touch here; while :; do sleep 0.01; done"}) {
    if (GetParam()) continue;  // the kernel sees to that
    std::optional<Outcome> outcome;
    stage.start(leave + then, [&](Outcome o) { outcome = std::move(o); });
    stage.executor->stop(0);
    ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
    EXPECT_EQ(outcome->cause, Cause::canceled) << outcome->why;
    EXPECT_TRUE(eventually([&] { return processes_with(sleepers).empty(); })) << processes_with(sleepers).size() << ": " << then;
    EXPECT_TRUE(stage.until([&] { return children_of(getpid()).empty(); })) << "and nothing is left to be reaped";
    EXPECT_EQ(stage.run(shell("echo next")).out, "next\n");
  }
}

TEST_P(Survivors, NoneOfAStoppedAttemptOfAWorkerThatIsKilled) {
  const std::string sleepers = mark();
  KilledWorker worker(GetParam(), "sleep " + sleepers + " & touch here; kill -STOP $$; wait");
  ASSERT_TRUE(worker.runs_both());
  ASSERT_TRUE(eventually([&] { return processes_with(std::string("sleep\0", 6) + sleepers).size() == 2; }));
  kill(worker.pid, SIGKILL);
  waitpid(worker.pid, nullptr, 0);
  EXPECT_TRUE(worker.all_gone());
  EXPECT_TRUE(eventually([&] { return processes_with(sleepers).empty(); }));
}

/// The worker's runners, below their guards if they have some; and these.
struct Ours {
  std::vector<int> runners, guards;
  explicit Ours(int worker) {
    for (const int child : children_of(worker)) {
      std::ifstream words("/proc/" + std::to_string(child) + "/cmdline");
      std::string mode;
      std::getline(std::getline(words, mode, '\0'), mode, '\0');
      if (mode == "namespaces") runners.push_back(child);
      else guards.push_back(child), runners.push_back(children_of(child).front());
    }
  }
};

bool is_stopped(int pid) {
  std::string stat;
  std::getline(std::ifstream("/proc/" + std::to_string(pid) + "/stat"), stat);
  return stat.find(") T ") != stat.npos || stat.find(") t ") != stat.npos;
}

/// Stopped from outside, one does not see that its socket closes.
TEST_P(Survivors, NoneOfAWorkerThatIsKilledWhileItsRunnersAreStopped) {
  for (const bool runners_stop : {true, false}) {
    for (const bool guards_stop : {true, false}) {
      const std::string sleepers = mark();
      KilledWorker worker(GetParam(), "setsid sleep " + sleepers + " & touch here; sleep " + sleepers);
      ASSERT_TRUE(worker.runs_both());
      ASSERT_TRUE(eventually([&] { return processes_with(std::string("sleep\0", 6) + sleepers).size() == 4; }));
      const Ours ours(worker.pid);
      std::vector<int> stopped;
      if (runners_stop) stopped.insert(stopped.end(), ours.runners.begin(), ours.runners.end());
      if (guards_stop) stopped.insert(stopped.end(), ours.guards.begin(), ours.guards.end());
      for (const int pid : stopped) kill(pid, SIGSTOP);
      for (const int pid : stopped) ASSERT_TRUE(eventually([&] { return is_stopped(pid); }));
      kill(worker.pid, SIGKILL);
      waitpid(worker.pid, nullptr, 0);
      EXPECT_TRUE(worker.all_gone()) << runners_stop << guards_stop;
      EXPECT_TRUE(eventually([&] { return processes_with(sleepers).empty(); })) << runners_stop << guards_stop;
    }
  }
}

TEST_P(Survivors, TheNextWorkerKillsRunnersThatNothingWakes) {
  const std::string sleepers = mark();
  KilledWorker worker(GetParam(), "setsid sleep " + sleepers + " & touch here; sleep " + sleepers);
  ASSERT_TRUE(worker.runs_both());
  const Ours ours(worker.pid);
  std::vector<int> held = ours.runners;
  held.insert(held.end(), ours.guards.begin(), ours.guards.end());
  for (const int pid : held) {  // a tracer's hold is one that SIGCONT does not end
    if (ptrace(PTRACE_SEIZE, pid, nullptr, nullptr) != 0) GTEST_SKIP() << "no ptrace here";
    ASSERT_EQ(ptrace(PTRACE_INTERRUPT, pid, nullptr, nullptr), 0);
    waitpid(pid, nullptr, __WALL);
  }
  kill(worker.pid, SIGKILL);
  waitpid(worker.pid, nullptr, 0);
  boost::asio::io_context loop;
  Executor next(loop, 1, worker.folder / "work", SOUK_RUNNER);
  for (const int pid : held) {
    int status = 0;
    EXPECT_EQ(waitpid(pid, &status, __WALL), pid);
    EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  }
  EXPECT_TRUE(eventually([&] { return processes_with(sleepers).empty(); }));
}

TEST(Executor, SaysWhoKeepsItFromAFolderThatNoWorkerUses) {
  const fs::path folder = new_folder();
  boost::asio::io_context loop;
  { Executor first(loop, 1, folder, SOUK_RUNNER); }
  const int lock = open((folder / ".souk-work").c_str(), O_RDWR | O_CLOEXEC);
  ASSERT_EQ(flock(lock, LOCK_EX), 0);
  try {
    Executor executor(loop, 1, folder, SOUK_RUNNER);
    FAIL() << "took it";
  } catch (const std::runtime_error& failure) {
    EXPECT_NE(std::string(failure.what()).find("no worker uses it, but some process holds its lock"), std::string::npos) << failure.what();
  }
  close(lock);
  { Executor executor(loop, 1, folder, SOUK_RUNNER); }
  fs::remove_all(folder);
}

/// At any moment of starting its runners and its tasks.
TEST_P(Survivors, NoneOfAWorkerThatIsKilledWhileItStarts) {
  const std::string sleepers = mark();
  for (int us = 0; us <= 12000; us += 600) {
    KilledWorker worker(GetParam(), "setsid sleep " + sleepers + " & sleep " + sleepers);
    usleep(static_cast<useconds_t>(us));
    kill(worker.pid, SIGKILL);
    waitpid(worker.pid, nullptr, 0);
    if (fs::exists(worker.folder / "work/.souk-work")) {
      EXPECT_TRUE(worker.all_gone()) << us;
    }
    EXPECT_TRUE(eventually([&] { return processes_with(sleepers).empty() && processes_in(worker.folder).empty(); })) << us;
  }
}

TEST_P(Survivors, SomebodyElsesProcessesAreLeftAlone) {
  const std::string sleepers = mark(), others = mark();
  KilledWorker worker(GetParam(), "touch here; sleep " + sleepers), other(GetParam(), "touch here; sleep " + others);
  ASSERT_TRUE(worker.runs_both());
  ASSERT_TRUE(other.runs_both());
  const std::string sleeps = std::string("sleep\0", 6) + others;
  ASSERT_TRUE(eventually([&] { return processes_with(sleeps).size() == 2; }));
  const auto neighbours = processes_with(sleeps);
  kill(worker.pid, SIGKILL);
  waitpid(worker.pid, nullptr, 0);
  boost::asio::io_context loop;
  Executor next(loop, 1, worker.folder / "work", SOUK_RUNNER);
  EXPECT_EQ(processes_with(sleeps), neighbours);
  EXPECT_TRUE(fs::exists(other.folder / "work/slot-0/here"));
  kill(other.pid, SIGKILL);
  waitpid(other.pid, nullptr, 0);
  EXPECT_TRUE(other.all_gone());
}

TEST_P(Survivors, TheNextWorkerWaitsForThemAndSweepsTheirFolders) {
  const std::string sleepers = mark();
  KilledWorker worker(GetParam(), brood(sleepers, "sleep " + sleepers));
  ASSERT_TRUE(worker.runs_both());
  kill(worker.pid, SIGKILL);
  boost::asio::io_context loop;
  Executor next(loop, 1, worker.folder / "work", SOUK_RUNNER);
  EXPECT_EQ(processes_with(sleepers), std::vector<int>{});
  EXPECT_EQ(std::distance(fs::directory_iterator(worker.folder / "work"), fs::directory_iterator()), 1);
  waitpid(worker.pid, nullptr, 0);
}

TEST_P(Survivors, ServiceManagersTermToAllProcessesLetsTasksOfTheWorkerEndFirst) {
  Stage stage(GetParam());
  std::optional<Outcome> outcome;
  stage.start("trap 'exit 7' TERM; touch here; while :; do sleep 0.01; done", [&](Outcome o) { outcome = o; });
  std::vector<int> all = children_of(getpid());
  for (std::size_t i = 0; i < all.size(); ++i)
    for (const int pid : children_of(all[i])) all.push_back(pid);
  for (const int pid : all) kill(pid, SIGTERM);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::exited);
  EXPECT_EQ(outcome->exit_code, 7) << "the runner lived to tell";
}

// ---- Folders ------------------------------------------------------------------------------------------------------------------

TEST_P(Survivors, NoFileOfAnAttempt) {
  Stage stage(GetParam());
  std::ofstream(stage.folder / "precious") << "text";
  chmod(stage.folder.c_str(), 0755);
  const std::string outside = stage.folder.string();
  for (const std::string& line : std::vector<std::string>{
           "touch a; mkdir b; echo x > b/c; mkfifo p; ln -s nowhere d",
           "mkdir -p a/b; touch a/b/c; chmod 000 a/b; chmod 500 a; chmod 000 .",
           "ln -s " + outside + " link; mkdir x; ln -s " + outside + " x/link; ln " + outside + "/precious hard 2>/dev/null; true",
           "perl -e '$d = q(d) x 50; for (1..200) { mkdir($d) && open(F, q(>f)) && chdir($d) or exit 9 }'",  // deeper than a path may be long
           "mkdir many; cd many; seq 1 500 | xargs touch",
           "cd ..; mv $OLDPWD away; ln -s " + outside + " $OLDPWD; rm -rf away",
           "touch -- '-rf' 'a b' '\n' '*'; mkdir '...'",
       }) {
    Launch launch = shell(line);
    EXPECT_EQ(stage.run(launch).exit_code, 0) << line;
    EXPECT_FALSE(fs::exists(fs::symlink_status(stage.work / launch.folder))) << line;
    EXPECT_TRUE(fs::exists(stage.folder / "precious")) << line;
  }
  EXPECT_TRUE(stage.work_is_empty());
}

TEST_P(Survivors, AnUntouchedFolderIsGoneSoonAndATouchedOneIsNeverReused) {
  Stage stage(GetParam());
  for (int i = 0; i < 20; ++i) {
    const Launch launch = shell(i % 3 == 0 ? "chmod 755 ." : i % 3 == 1 ? "touch x; rm x" : "true");
    stage.run(launch);
    EXPECT_EQ(stage.run(shell("stat -c %a .; ls -A | wc -l")).out, "700\n0\n");
    EXPECT_FALSE(fs::exists(stage.work / launch.folder));
  }
  EXPECT_TRUE(stage.work_is_empty());
}

TEST_P(Survivors, AFolderMountedIntoAnAttemptsIsOnlyDetached) {
  if (geteuid() != 0) GTEST_SKIP() << "only root mounts";
  Stage stage(GetParam());
  fs::create_directories(stage.folder / "data/deep");
  std::ofstream(stage.folder / "data/deep/precious") << "text";
  Launch launch = shell("mkdir -p a/m; mount --bind " + (stage.folder / "data").string() + " a/m && ls a/m; touch f; mount --bind " + (stage.folder / "data/deep/precious").string() + " f");
  const Outcome outcome = stage.run(launch);
  if (outcome.out != "deep\n") GTEST_SKIP() << "mounting is not allowed: " << outcome.err;
  EXPECT_TRUE(fs::exists(stage.folder / "data/deep/precious"));
  EXPECT_FALSE(fs::exists(stage.work / launch.folder));
}

TEST_P(Survivors, FoldersOfEarlierLivesAreSwept) {
  Stage stage(GetParam());
  stage.executor.reset();
  fs::create_directories(stage.work / "12.7-3.41/a/b");
  std::ofstream(stage.work / "12.7-3.41/a/b/c") << "x";
  fs::create_symlink("/tmp", stage.work / "link");
  stage.executor = std::make_unique<Executor>(stage.loop, 1, stage.work, SOUK_RUNNER);
  EXPECT_TRUE(stage.work_is_empty());
  Launch launch = shell("ls -A");
  fs::create_directories(stage.work / launch.folder / "left");  // appears after the sweep: the attempt still starts with an empty one
  EXPECT_EQ(stage.run(launch).out, "");
}

TEST(Executor, RemovesNoLongerThanItHasTime) {
  const fs::path folder = new_folder();
  fs::create_directories(folder / "left/a/b");
  for (int n = 0; n < 1000; ++n) std::ofstream(folder / "left/a/b" / std::to_string(n)) << "";
  const int parent = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  EXPECT_EQ(remove_tree(parent, "left", 1), ETIME) << "which has long passed";
  EXPECT_TRUE(fs::exists(folder / "left/a/b"));
  EXPECT_EQ(remove_tree(parent, "left"), 0);
  EXPECT_FALSE(fs::exists(folder / "left"));
  close(parent);
  fs::remove_all(folder);
}

/// More than a worker has the time for at its start: it works, and what was left goes meanwhile.
TEST_P(Survivors, WhatAnEarlierLifeLeftKeepsNobodyWaiting) {
  Stage stage(GetParam());
  stage.executor.reset();
  const fs::path deep = stage.work / "12.7-3.41";
  fs::create_directories(deep);
  const std::string fill = "cd " + deep.string() + " && seq -f %.0f 1 30000 | xargs -n 5000 touch";
  ASSERT_EQ(std::system(fill.c_str()), 0);
  stage.executor = std::make_unique<Executor>(stage.loop, 1, stage.work, SOUK_RUNNER);
  EXPECT_FALSE(fs::exists(deep)) << "its name is free";
  EXPECT_EQ(stage.run(shell("echo here")).out, "here\n");
  EXPECT_TRUE(stage.until([&] { return std::distance(fs::directory_iterator(stage.work), fs::directory_iterator()) == 1; }, 60s));
}

TEST(Executor, RefusesAFolderThatIsNotItsOwn) {
  const fs::path folder = new_folder();
  std::ofstream(folder / "thesis.tex") << "text";
  boost::asio::io_context loop;
  try {
    Executor executor(loop, 1, folder, SOUK_RUNNER);
    FAIL() << "took it";
  } catch (const std::runtime_error& failure) {
    EXPECT_NE(std::string(failure.what()).find("it holds files that no worker made; give an empty or a new folder"), std::string::npos) << failure.what();
  }
  EXPECT_TRUE(fs::exists(folder / "thesis.tex"));
  fs::remove(folder / "thesis.tex");
  Executor first(loop, 1, folder, SOUK_RUNNER);
  try {
    Executor second(loop, 1, folder, SOUK_RUNNER);
    FAIL() << "took it";
  } catch (const std::runtime_error& failure) {
    EXPECT_NE(std::string(failure.what()).find("another worker uses it"), std::string::npos) << failure.what();
  }
  fs::remove_all(folder);
}

}  // namespace
}  // namespace souk
