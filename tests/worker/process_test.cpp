// What an attempt sees, and what is told of it.
#include "worker/process.h"

#include <csignal>
#include <cstring>
#include <sched.h>
#include <sys/stat.h>

#include "executor_stage.h"

namespace souk {
namespace {

INSTANTIATE_TEST_SUITE_P(Executor, ExecutorTest, ::testing::Bool(), mode_name);

// ---- How it ends --------------------------------------------------------------------------------------------------------------

TEST_P(ExecutorTest, ReportsExitCodeAndBothStreams) {
  Stage stage(GetParam());
  const Outcome outcome = stage.run(shell("echo out; echo err >&2; exit 3"));
  EXPECT_EQ(outcome.cause, Cause::exited);
  EXPECT_EQ(outcome.exit_code, 3);
  EXPECT_EQ(outcome.out, "out\n");
  EXPECT_EQ(outcome.err, "err\n");
  EXPECT_EQ(outcome.out_size, 4u);
  EXPECT_TRUE(outcome.why.empty());
}

TEST_P(ExecutorTest, ReportsSignals) {
  Stage stage(GetParam());
  const Outcome outcome = stage.run(shell("kill -SEGV $$"));
  EXPECT_EQ(outcome.cause, Cause::signaled);
  EXPECT_EQ(outcome.signal, SIGSEGV);
  EXPECT_FALSE(outcome.succeeded());
}

TEST_P(ExecutorTest, StopsAtTheTimeLimit) {
  Stage stage(GetParam());
  Launch launch = shell("sleep 60");
  launch.time_limit = 60ms;
  Outcome outcome = stage.run(launch);
  EXPECT_EQ(outcome.cause, Cause::timed_out);
  EXPECT_EQ(outcome.signal, SIGTERM);
  EXPECT_GE(outcome.wall, 60ms);
  EXPECT_LT(outcome.wall, 5s);

  launch = shell("trap 'echo bye; exit 4' TERM; sleep 60 & wait");
  launch.time_limit = 60ms;
  outcome = stage.run(launch);
  EXPECT_EQ(outcome.cause, Cause::timed_out);
  EXPECT_EQ(outcome.exit_code, 4);
  EXPECT_EQ(outcome.out, "bye\n");
}

TEST_P(ExecutorTest, KillsAfterTheGraceWhatIgnoresTerm) {
  Stage stage(GetParam());
  Launch launch = shell("trap '' TERM; while :; do sleep 60; done");
  launch.time_limit = 30ms;
  launch.grace = 50ms;
  const Outcome outcome = stage.run(launch);
  EXPECT_EQ(outcome.cause, Cause::timed_out);
  EXPECT_EQ(outcome.signal, SIGKILL);
  EXPECT_GE(outcome.wall, 80ms);
}

TEST_P(ExecutorTest, StopsAProcessThatIsStoppedItself) {
  Stage stage(GetParam());
  Launch launch = shell("kill -STOP $$");
  launch.time_limit = 30ms;
  launch.grace = 60s;
  EXPECT_EQ(stage.run(launch).signal, SIGTERM);
}

TEST_P(ExecutorTest, StopsOnRequest) {
  Stage stage(GetParam());
  std::optional<Outcome> outcome;
  stage.start("touch here; sleep 60", [&](Outcome o) { outcome = o; });
  stage.executor->stop(0);
  stage.executor->stop(0);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::canceled);
  EXPECT_EQ(outcome->signal, SIGTERM);
}

std::string stat_of(int pid) {  // from the state on, as proc(5) has it: R, S, T, ...; then the parent
  std::ifstream in("/proc/" + std::to_string(pid) + "/stat");
  std::string text;
  std::getline(in, text);
  const auto at = text.rfind(") ");
  return at == std::string::npos ? "? 0" : text.substr(at + 2);
}
char state_of(int pid) { return stat_of(pid)[0]; }
int parent_of(int pid) { return std::atoi(stat_of(pid).c_str() + 2); }

TEST_P(ExecutorTest, PausesAndResumesAllOfAnAttempt) {
  Stage stage(GetParam());
  std::optional<Outcome> outcome;
  const std::string nap = "60." + std::to_string(::getpid());  // nobody else's: another test like this one may run beside it
  stage.start("sleep " + nap + " & touch here; while [ ! -e go ]; do sleep 0.01; done; kill $!; echo went on", [&](Outcome o) { outcome = o; });
  // By its own arguments: between fork and exec any child of the shell has the shell's command line, which names it too.
  const std::string sleeps = std::string("sleep\0", 6) + nap;
  ASSERT_TRUE(stage.until([&] { return processes_with(sleeps).size() == 1; }));
  const int sleeper = processes_with(sleeps).front();
  const std::vector<int> sleepers = {sleeper, parent_of(sleeper)};
  stage.executor->pause(0);
  stage.executor->pause(0);
  // A shell whose child was stopped before it came to its exec waits for that in the kernel (vfork): D.
  for (const int pid : sleepers) EXPECT_TRUE(stage.until([&] { return state_of(pid) == 'T' || (pid != sleeper && state_of(pid) == 'D'); }, 3s)) << state_of(pid);
  std::ofstream(stage.last_folder / "go") << "";
  EXPECT_FALSE(stage.until([&] { return outcome.has_value(); }, 100ms));
  stage.executor->resume(0);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::exited);
  EXPECT_EQ(outcome->out, "went on\n");
  EXPECT_TRUE(stage.work_is_empty());
}

TEST_P(ExecutorTest, APausedAttemptEndsWhenItIsStopped) {
  Stage stage(GetParam());
  std::optional<Outcome> outcome;
  stage.start("touch here; sleep 60", [&](Outcome o) { outcome = o; });
  stage.executor->pause(0);
  stage.executor->stop(0);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::canceled);
  EXPECT_EQ(outcome->signal, SIGTERM);
}

TEST_P(ExecutorTest, ThePauseCountsForNoTimeLimitAndNoWallTime) {
  Stage stage(GetParam());
  std::optional<Outcome> outcome;
  Launch launch = shell("touch here; sleep 60");
  launch.time_limit = 300ms;
  stage.last_folder = stage.work / launch.folder;
  stage.executor->start(0, std::move(launch), [&](Outcome o) { outcome = o; });
  ASSERT_TRUE(stage.until([&] { return fs::exists(stage.last_folder / "here"); }));
  stage.executor->pause(0);
  EXPECT_FALSE(stage.until([&] { return outcome.has_value(); }, 700ms));  // long past its limit
  stage.executor->resume(0);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::timed_out);
  EXPECT_GE(outcome->wall, 290ms);
  EXPECT_LT(outcome->wall, 650ms);
}

TEST_P(ExecutorTest, BindsAnAttemptToItsProcessors) {
  Stage stage(GetParam());
  cpu_set_t ours;
  ASSERT_EQ(sched_getaffinity(0, sizeof ours, &ours), 0);
  int last = 0;
  for (int number = 0; number < CPU_SETSIZE; ++number)
    if (CPU_ISSET(number, &ours)) last = number;
  Launch launch = shell("grep Cpus_allowed_list /proc/self/status");
  launch.processors = {last};
  EXPECT_EQ(stage.run(launch).out, "Cpus_allowed_list:\t" + std::to_string(last) + "\n");
  if (CPU_COUNT(&ours) > 1) {  // and the next one is free again
    EXPECT_NE(stage.run(shell("grep Cpus_allowed_list /proc/self/status")).out, "Cpus_allowed_list:\t" + std::to_string(last) + "\n");
  }
  launch = shell("true");
  launch.processors = {8000, 99999999};  // there are none such: it runs all the same
  EXPECT_TRUE(stage.run(launch).succeeded());
}

TEST_P(ExecutorTest, RunsAttemptsAtTheirNiceLevel) {
  Stage stage(GetParam());
  const int own = std::stoi(stage.run(shell("nice")).out);
  Launch launch = shell("nice");
  launch.nice = 7;
  EXPECT_EQ(stage.run(launch).out, std::to_string(std::min(own + 7, 19)) + "\n");
  EXPECT_EQ(stage.run(shell("nice")).out, std::to_string(own) + "\n");
}

TEST_P(ExecutorTest, StopsAtOnceAfterStart) {
  Stage stage(GetParam());
  std::optional<Outcome> outcome;
  stage.executor->start(0, shell("sleep 60"), [&](Outcome o) { outcome = o; });
  stage.executor->stop(0);
  ASSERT_TRUE(stage.until([&] { return outcome.has_value(); }));
  EXPECT_EQ(outcome->cause, Cause::canceled);
}

TEST_P(ExecutorTest, NeverStopsTheNextAttemptByALateStop) {
  Stage stage(GetParam());
  stage.executor->stop(0);
  stage.executor->stop(17);
  for (int i = 0; i < 100; ++i) {
    int ended = 0;
    // The first has ended, the loop does not know it yet: its stop is on the way while the second starts.
    stage.executor->start(0, shell("exit 0"), [&](const Outcome&) {
      ++ended;
      stage.executor->start(0, shell("echo done"), [&](const Outcome& o) {
        ++ended;
        EXPECT_EQ(o.cause, Cause::exited);
        EXPECT_EQ(o.out, "done\n");
      });
    });
    usleep(static_cast<useconds_t>(i * 40));
    stage.executor->stop(0);
    ASSERT_TRUE(stage.until([&] { return ended == 2; }));
  }
}

// ---- What it sees -------------------------------------------------------------------------------------------------------------

TEST_P(ExecutorTest, GivesExactlyThatEnvironmentAndItsOwnFolder) {
  Stage stage(GetParam());
  Launch launch = program({"env"});
  launch.env = {{"PATH", "/usr/bin:/bin"}, {"K", "a=b c"}, {"EMPTY", ""}};
  EXPECT_EQ(stage.run(launch).out, "PATH=/usr/bin:/bin\nK=a=b c\nEMPTY=\n");
  launch = shell("pwd; stat -c %a .; ls -A");
  EXPECT_EQ(stage.run(launch).out, (fs::canonical(stage.work) / launch.folder).string() + "\n700\n");
}

TEST_P(ExecutorTest, GivesInputAsStandardInput) {
  Stage stage(GetParam());
  Launch launch = program({"cat"});
  for (const std::size_t size : {1u, 70'000u, 2'000'000u}) {
    launch.input.clear();
    for (std::size_t i = 0; i < size; ++i) launch.input += static_cast<char>(i * 7);
    launch.output_max = size;
    launch.folder += "x";
    EXPECT_EQ(stage.run(launch).out, launch.input);
  }
  launch.input.clear();
  EXPECT_EQ(stage.run(launch).out_size, 0u);
  EXPECT_EQ(stage.run(shell("readlink /proc/self/fd/0")).out, "/dev/null\n");
}

TEST_P(ExecutorTest, PassesNoOtherDescriptors) {
  Stage stage(GetParam());
  const int leaky = open("/dev/null", O_RDONLY);  // as a library of the worker might
  Launch look = program({"readlink"});
  for (int fd = 3; fd < 100; ++fd) look.argv.push_back("/proc/self/fd/" + std::to_string(fd));
  EXPECT_EQ(stage.run(look).out, "");
  stage.kill_runner();  // also of a runner that was started later
  stage.run(shell("true"));
  EXPECT_EQ(stage.run(look).out, "");
  close(leaky);
}

TEST_P(ExecutorTest, GivesCleanSignalsNoTerminalAndNoCores) {
  sigset_t blocked, before;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGUSR1);
  sigprocmask(SIG_BLOCK, &blocked, &before);
  const auto pipe_before = signal(SIGPIPE, SIG_IGN);
  Stage stage(GetParam());
  EXPECT_EQ(stage.run(program({"grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"})).out, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
  signal(SIGPIPE, pipe_before);
  sigprocmask(SIG_SETMASK, &before, nullptr);
  EXPECT_EQ(stage.run(shell("ulimit -c; (: < /dev/tty) 2>/dev/null || echo none")).out, "0\nnone\n");
  // Its session is not ours: fields of stat after the name are state, parent, group, session.
  const Outcome outcome = stage.run(shell("sed 's/.*) //' /proc/$$/stat | cut -d' ' -f4"));
  EXPECT_NE(std::atoi(outcome.out.c_str()), getsid(0));
  EXPECT_EQ(stage.run(shell("cat /proc/self/oom_score_adj")).out, "500\n");
}

TEST_P(ExecutorTest, ResetsWhatTheLastTaskDidToThePipes) {
  Stage stage(GetParam());
  EXPECT_TRUE(stage.run(program({"/usr/bin/perl", "-e", "use Fcntl; fcntl(STDOUT, F_SETFL, O_NONBLOCK) or die; fcntl(STDERR, F_SETFL, O_NONBLOCK) or die"})).succeeded());
  EXPECT_EQ(stage.run(program({"/usr/bin/perl", "-e", "use Fcntl; printf '%o', fcntl(STDOUT, F_GETFL, 0)"})).out, "1");  // O_WRONLY
}

// ---- Output -------------------------------------------------------------------------------------------------------------------

TEST_P(ExecutorTest, KeepsTheFirstBytesAndCountsTheRest) {
  Stage stage(GetParam());
  Launch launch = shell("head -c 3000000 /dev/zero; echo x; yes | head -c 100000 >&2");
  launch.output_max = 1000;
  const Outcome outcome = stage.run(launch);
  EXPECT_EQ(outcome.out, std::string(1000, '\0'));
  EXPECT_EQ(outcome.out_size, 3000002u);
  EXPECT_EQ(outcome.err.size(), 1000u);
  EXPECT_EQ(outcome.err.substr(0, 4), "y\ny\n");
  EXPECT_EQ(outcome.err_size, 100000u);
}

TEST_P(ExecutorTest, KeepsEveryByteUpToTheBoundAndNothingOfTheLastTask) {
  Stage stage(GetParam());
  Launch launch = shell("seq 1 2000000; seq 1 1000000 >&2");
  launch.output_max = kOutputMax;
  Outcome outcome = stage.run(launch);
  std::string wanted;
  for (int i = 1; i <= 2000000; ++i) wanted += std::to_string(i) + "\n";
  EXPECT_EQ(outcome.out_size, wanted.size());
  EXPECT_TRUE(outcome.out == wanted);
  EXPECT_TRUE(outcome.err == wanted.substr(0, outcome.err.size()));
  EXPECT_EQ(outcome.err_size, outcome.err.size());
  outcome = stage.run(shell("echo short"));
  EXPECT_EQ(outcome.out, "short\n");
  EXPECT_EQ(outcome.err, "");
  launch = shell("echo lost");
  launch.output_max = 0;
  outcome = stage.run(launch);
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(outcome.out_size, 5u);
}

// ---- Measures -----------------------------------------------------------------------------------------------------------------

TEST_P(ExecutorTest, MeasuresTimeAndMemoryOfTheTaskAlone) {
  std::vector<char> large(200 << 20, 'x');  // of the worker: must not count
  asm volatile("" : : "r"(large.data()) : "memory");
  Stage stage(GetParam());
  Outcome outcome = stage.run(program({"/bin/true"}));
  EXPECT_GT(outcome.peak_memory_kib, 200u);
  EXPECT_LT(outcome.peak_memory_kib, 8u << 10);
  EXPECT_GT(outcome.wall, 0us);

  outcome = stage.run(shell("head -c 60000000 /dev/zero | tail -c 60000000 > /dev/null"));
  EXPECT_GT(outcome.peak_memory_kib, 58'000u);
  EXPECT_LT(outcome.peak_memory_kib, 90'000u);

  outcome = stage.run(shell("i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done"));
  EXPECT_GT(outcome.cpu, 10ms);
  outcome = stage.run(program({"sleep", "0.2"}));
  EXPECT_GE(outcome.wall, 200ms);
  EXPECT_LT(outcome.cpu, 150ms);

  Launch launch = program({"/bin/true"});  // large arguments must not raise the floor for those that follow
  for (int i = 0; i < 15; ++i) launch.argv.push_back(std::string(100'000, 'x'));
  EXPECT_TRUE(stage.run(launch).succeeded());
  launch.output_max = kOutputMax;
  launch.argv = {"head", "-c", "16000000", "/dev/zero"};
  EXPECT_EQ(stage.run(launch).out.size(), 16'000'000u);
  EXPECT_LT(stage.run(program({"/bin/true"})).peak_memory_kib, 8u << 10);
}

// ---- What cannot start ------------------------------------------------------------------------------------------------------

TEST_P(ExecutorTest, SaysWhyItCouldNotStart) {
  Stage stage(GetParam());
  const auto why = [&](Launch launch) {
    const Outcome outcome = stage.run(std::move(launch));
    EXPECT_EQ(outcome.cause, Cause::not_started);
    EXPECT_FALSE(outcome.succeeded());
    return outcome.why;
  };
  EXPECT_EQ(why(program({"no-such-program"})), "program 'no-such-program' not found in PATH of the worker (/usr/bin:/bin)");
  EXPECT_EQ(why(program({"/no/such"})), "program '/no/such' not found on the worker");
  EXPECT_EQ(why(program({"gr\xc3\xbc\xc3\x9f\xff\n\xed\xa0\x80"})), "program 'gr\xc3\xbc\xc3\x9f?\?\?\?\?' not found in PATH of the worker (/usr/bin:/bin)");
  EXPECT_NE(why(program({"./such"})).find("looked up in the empty working folder"), std::string::npos);
  EXPECT_NE(why(program({""})).find("program '' not found"), std::string::npos);

  const fs::path file = stage.folder / "file";
  std::ofstream(file) << "#!/bin/sh\necho hi\n";
  chmod(stage.folder.c_str(), 0755);
  EXPECT_EQ(why(program({file})), "permission denied: program '" + file.string() + "' is not executable for the user of the worker");
  Launch in_path = program({"file"});
  in_path.env = {{"PATH", "/usr/bin:" + stage.folder.string()}};
  in_path.argv = {"file"};
  if (!fs::exists("/usr/bin/file")) {
    EXPECT_NE(why(in_path).find("permission denied"), std::string::npos);
  }
  EXPECT_NE(why(program({stage.folder})).find("permission denied"), std::string::npos);

  std::ofstream(file) << "#!/no/interpreter\n";
  chmod(file.c_str(), 0755);
  EXPECT_NE(why(program({file})).find("the interpreter in its '#!' line"), std::string::npos);
  std::ofstream(file) << std::string("\x7f""ELF\x02\x01\x01\0\0\0", 10) << std::string(100, '\0');
  EXPECT_NE(why(program({file})).find("not made for this machine"), std::string::npos);

  Launch launch = program({"/bin/true", std::string(200'000, 'x')});
  EXPECT_EQ(why(launch).substr(0, 59), "argument list too long: arguments and environment take 2000");
  launch.argv.assign(200, std::string(50'000, 'x'));
  launch.argv[0] = "/bin/true";
  EXPECT_NE(why(launch).find("argument list too long"), std::string::npos);
  EXPECT_NE(why(program({"echo", std::string("a\0b", 3)})).find("argument 1 holds a NUL byte"), std::string::npos);
  EXPECT_NE(why(program({})).find("no program"), std::string::npos);
  launch = program({"env"});
  launch.env.push_back({"A=B", "c"});
  EXPECT_NE(why(launch).find("variable 'A=B'"), std::string::npos);
  for (const char* folder : {"", ".", "..", "a/b", "/tmp", ".souk-work"}) {
    launch = program({"true"});
    launch.folder = folder;
    EXPECT_NE(why(launch).find("is not a plain file name"), std::string::npos);
  }
  EXPECT_TRUE(stage.run(shell("true")).succeeded()) << "and the slot goes on";
}

TEST_P(ExecutorTest, FindsProgramsInThePathOfTheTask) {
  Stage stage(GetParam());
  fs::create_directories(stage.folder / "bin");
  chmod(stage.folder.c_str(), 0755);
  std::ofstream(stage.folder / "bin/tool") << "echo \"$0 $*\"\n";  // without #!: as a shell would run it
  chmod((stage.folder / "bin/tool").c_str(), 0755);
  Launch launch = program({"tool", "a", "b"});
  launch.env = {{"PATH", "/nowhere:" + (stage.folder / "bin").string()}};
  EXPECT_EQ(stage.run(launch).out, (stage.folder / "bin/tool").string() + " a b\n");
}

TEST_P(ExecutorTest, TakesLaunchesOfAnySizeTheKernelTakes) {
  Stage stage(GetParam());
  Launch launch = shell("echo $#; for a; do echo ${#a}; done | sort | uniq -c | tr -s ' '");
  launch.argv.push_back("sh");
  for (int i = 0; i < 15; ++i) launch.argv.push_back(std::string(100'000, static_cast<char>('a' + i)));
  launch.input = std::string(5, 'i');
  EXPECT_EQ(stage.run(launch).out, "15\n 15 100000\n");
  launch = shell("echo $#; wc -c");
  for (int i = 0; i < 20'001; ++i) launch.argv.push_back("x");  // many short ones
  launch.input = "12345";
  EXPECT_EQ(stage.run(launch).out, "20000\n5\n");
  for (std::size_t size = 61'000; size < 61'600; size += 7) {  // around the bound of a message
    launch = program({"/bin/echo", std::string(size, 'y')});
    EXPECT_EQ(stage.run(launch).out_size, size + 1);
  }
}

TEST_P(ExecutorTest, RefusesABusySlotAndOneThatIsNotThere) {
  Stage stage(GetParam());
  std::optional<Outcome> first, second, third;
  stage.start("touch here; sleep 60", [&](Outcome o) { first = o; });
  stage.executor->start(0, shell("true"), [&](Outcome o) { second = o; });
  stage.executor->start(1, shell("true"), [&](Outcome o) { third = o; });
  ASSERT_TRUE(stage.until([&] { return second && third; }));
  EXPECT_EQ(second->cause, Cause::not_started);
  EXPECT_EQ(third->cause, Cause::not_started);
  EXPECT_FALSE(first);
}

// ---- Many ---------------------------------------------------------------------------------------------------------------------

TEST_P(ExecutorTest, RunsManyInSlotsSideBySide) {
  Stage stage(GetParam(), 4);
  int left = 400, ended = 0;
  std::function<void(int)> next = [&](int slot) {
    if (left == 0) return;
    const int number = left--;
    stage.executor->start(slot, shell("echo " + std::to_string(number)), [&, slot, number](const Outcome& outcome) {
      ++ended;
      EXPECT_EQ(outcome.out, std::to_string(number) + "\n");
      next(slot);
    });
  };
  for (int slot = 0; slot < 4; ++slot) next(slot);
  EXPECT_TRUE(stage.until([&] { return ended == 400; }, 50s));
  EXPECT_TRUE(stage.work_is_empty());
}

TEST_P(ExecutorTest, LeaksNoDescriptorsAndLeavesNoZombies) {
  Stage stage(GetParam(), 2);
  const auto descriptors = [](const std::string& pid) { return std::distance(fs::directory_iterator("/proc/" + pid + "/fd"), fs::directory_iterator()); };
  const int runner = stage.runner();
  Launch with_input = program({"cat"});
  with_input.input = "x";
  Launch large = program({"true", std::string(70'000, 'x')});
  const auto some = [&](int count) {
    for (int i = 0; i < count; ++i) {
      const int kind = i % 10;
      EXPECT_EQ(stage.run(kind == 0 ? with_input : kind == 1 ? large : kind == 2 ? program({"no-such"}) : program({"/bin/true"})).cause, kind == 2 ? Cause::not_started : Cause::exited);
    }
    stage.until([] { return false; }, 60ms);  // the spare folder is closed
  };
  some(10);
  const auto own = descriptors("self"), its = descriptors(std::to_string(runner));
  some(990);
  EXPECT_EQ(descriptors("self"), own);
  EXPECT_EQ(descriptors(std::to_string(runner)), its);
  EXPECT_EQ(children_of(getpid()).size(), 2u);
  EXPECT_TRUE(children_of(runner).empty());
}

TEST_P(ExecutorTest, MayBeDestroyedByItsOwnCallback) {
  Stage stage(GetParam(), 2);
  bool other = false, ended = false;
  stage.start("touch here; sleep 60", [&](const Outcome&) { other = true; }, 1);
  stage.executor->start(0, shell("true"), [&](const Outcome&) {
    stage.executor.reset();
    ended = true;
  });
  EXPECT_TRUE(stage.until([&] { return ended; }));
  stage.until([] { return false; }, 50ms);
  EXPECT_FALSE(other) << "no callback comes after the end";
  EXPECT_TRUE(children_of(getpid()).empty());
}

TEST(Executor, GoesWithoutNamespacesWhereTheyHaveNoProc) {
  Stage stage(true);
  stage.executor = nullptr;
  stage.executor = std::make_unique<Executor>(stage.loop, 2, stage.work, EXECUTOR_HOST);
  EXPECT_FALSE(stage.executor->has_namespaces());
  EXPECT_EQ(stage.run(shell("echo hi"), 1).out, "hi\n");
}

TEST(Executor, SaysWhatIsWrongWithTheRunner) {
  const fs::path folder = new_folder();
  boost::asio::io_context loop;
  const auto failure = [&](const fs::path& runner) {
    try {
      Executor executor(loop, 2, folder, runner);
    } catch (const std::runtime_error& e) {
      return std::string(e.what());
    }
    return std::string("none");
  };
  EXPECT_NE(failure("/no/such/souk-runner").find("cannot start runner '/no/such/souk-runner': "), std::string::npos);
  EXPECT_NE(failure("/bin/true").find("it ended at once"), std::string::npos);
  EXPECT_TRUE(children_of(getpid()).empty());
  fs::remove_all(folder);
}

}  // namespace
}  // namespace souk
