// Services with real processes: what goes through their pipes, and what is left of it in the worker.
#include "worker/services.h"

#include <boost/asio/post.hpp>

#include "executor_stage.h"

namespace souk::worker {
namespace {

/// One slot with one service. The parameter of a test says whether namespaces may be used.
class ServiceStage : public Stage {
 public:
  ServiceStage(bool namespaces, std::string line, Framing framing) : Stage(namespaces) {
    executor.reset();
    executor = std::make_unique<Executor>(loop, 1, work, SOUK_RUNNER, -1, /*spare=*/1);
    host.env = {{"PATH", "/usr/bin:/bin"}, {"PYTHONDONTWRITEBYTECODE", "1"}};
    host.work = work.string();
    services = std::make_unique<Services>(loop, *executor, 1, std::vector<ServicePlan>{{"sum", std::move(line), framing}}, host);
    services->on_note = [this](bool, const std::string& text) { notes += text + "\n"; };
    services->on_ended = [this](CallsEnded event) {
      for (auto& call : event.calls) {
        if (++ended % 1000 == 0) on_thousand();
        if (call.outcome.exit_code != 0 || call.outcome.cause != Cause::exited) ++failed;
        last = std::move(call.outcome);
      }
      boost::asio::post(loop, [this] { call_more(); });  // not from within
    };
  }
  ~ServiceStage() { services.reset(); }
  /// So many calls, so many of them under way at a time.
  void call(int number, int at_a_time, Command what) {
    what.service = "sum";
    command = std::make_shared<const Command>(std::move(what));
    to_make = number;
    ahead = at_a_time;
    call_more();
  }
  void call_more() {
    for (; to_make > 0 && made - ended < ahead; --to_make) {
      Assignment call;
      call.attempt = {Epoch{1}, static_cast<std::uint64_t>(++made)};
      call.task = {JobId{1}, TaskNumber{static_cast<std::uint64_t>(made)}};
      call.command = command;
      call.item = item;
      services->call(0, std::move(call));
    }
    services->calls_made();
  }
  bool ends(int number) {
    return until([&] { return ended == number; });
  }

  Surroundings host;
  std::unique_ptr<Services> services;
  std::shared_ptr<const Command> command;
  std::string item, notes;
  Outcome last;
  std::function<void()> on_thousand = [] {};
  int to_make = 0, ahead = 0, made = 0, ended = 0, failed = 0;
};

std::string python(const std::string& program) { return "exec python3 -c '" + program + "'"; }

using ServicesTest = ExecutorTest;
INSTANTIATE_TEST_SUITE_P(Executor, ServicesTest, ::testing::Bool(), mode_name);

std::size_t resident_bytes() {
  std::size_t all = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> all >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

TEST_P(ServicesTest, WhatWasWrittenTakesNoMemoryHoweverManyFollow) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  GTEST_SKIP() << "a sanitizer keeps what is freed";
#endif
  // It needs longer for them than they need to be written: the pipe is full all the time, and what waits for it never empty.
  ServiceStage stage(GetParam(), python(R"(
import os
rest = b""
while True:
    more = os.read(0, 1 << 14)
    if not more: break
    sum(range(6000))
    lines = (rest + more).split(b"\n")
    rest = lines.pop()
    os.write(1, b"".join(line[:line.index(b",")] + b"}\n" for line in lines))
)"),
                     Framing::json);
  stage.item.assign(4096, 'x');
  stage.call(1000, 200, {});
  ASSERT_TRUE(stage.ends(1000)) << stage.ended << stage.notes;
  const std::size_t before = resident_bytes();
  std::size_t most = 0;
  stage.on_thousand = [&] { most = std::max(most, resident_bytes()); };  // at its end all is given back
  stage.call(15'000, 200, {});  // 60 MiB
  ASSERT_TRUE(stage.ends(16'000)) << stage.ended << stage.notes;
  EXPECT_EQ(stage.failed, 0);
  EXPECT_LT(most, before + (16u << 20));
}

TEST_P(ServicesTest, WhoWritesNonsenseIsNotListenedToAnyMore) {
  // It will not go before it must, and writes on as long as it can.
  ServiceStage stage(GetParam(), python(R"(
import os, signal, sys
signal.signal(signal.SIGTERM, signal.SIG_IGN)
os.write(1, b"{\"id\":0}\n")
for line in sys.stdin:
    if "body" in line: break
try:
    while True: os.write(1, b"nonsense\n" * 1000)
except BrokenPipeError:
    print("nobody reads this", file=sys.stderr)
)"),
                     Framing::json);
  stage.call(1, 1, {});
  ASSERT_TRUE(stage.ends(1)) << stage.notes;
  EXPECT_EQ(stage.last.exit_code, 1);
  EXPECT_NE(stage.notes.find("nobody reads this"), std::string::npos) << stage.notes;
}

TEST_P(ServicesTest, AnAnswerThatIsCutTakesNoMoreMemoryThanWhatIsKept) {
  ServiceStage stage(GetParam(), python(R"(
import json, sys
for line in sys.stdin:
    print(json.dumps({"id": json.loads(line)["id"], "body": "y" * 4000000}), flush=True)
)"),
                     Framing::json);
  Command command;
  command.output_max = 100;
  stage.call(1, 1, std::move(command));
  ASSERT_TRUE(stage.ends(1)) << stage.notes;
  EXPECT_EQ(stage.last.out, std::string(100, 'y'));
  EXPECT_EQ(stage.last.out_size, 4'000'000u);
  EXPECT_LT(stage.last.out.capacity(), 1000u);
}

TEST_P(ServicesTest, AProgramThatAServiceStartsDoesNotEatItsRequests) {
  const std::string in_python = python("import subprocess, sys\nsys.path.insert(0, \"" SERVICE_FOLDER "\")\nimport souk_service\n"
                                       "def answer(request):\n    subprocess.run([\"cat\"], check=True)\n    return request.body\nsouk_service.serve(answer)\n");
  for (const std::string& service : {std::string("exec '" SERVICE_WITH_CHILD "'"), in_python}) {
    ServiceStage stage(GetParam(), service, Framing::binary);
    stage.item.assign(10'000, 'z');  // more than it reads at once
    stage.call(20, 20, {});
    ASSERT_TRUE(stage.ends(20)) << service << ": " << stage.ended << " ended\n" << stage.notes;
    EXPECT_EQ(stage.failed, 0);
    EXPECT_EQ(stage.last.out, stage.item);
  }
}

}  // namespace
}  // namespace souk::worker
