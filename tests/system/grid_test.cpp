// `souk up`, `down`, `status` and `user`, with a real Prosody and stand-ins for manager and workers (fakes/).
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <fstream>

#include "submit/embedded.h"
#include "submit/proc.h"
#include "tests/system/grid_stage.h"

namespace souk::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

const fs::path kFakes = SOUK_FAKES;
const std::vector<std::string> kPrograms{"server", "manager", "worker-1"};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

/// A TCP socket that listens on the loopback address.
class Listening {
 public:
  explicit Listening(std::uint16_t port) : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int on = 1;
    ::setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    listens_ = ::bind(socket_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0 && ::listen(socket_, 1) == 0;
  }
  ~Listening() { ::close(socket_); }
  bool listens() const { return listens_; }

 private:
  int socket_;
  bool listens_ = false;
};

TEST(Grid, UpReturnsWithAWorkerInTheMarketAndDownLeavesNoProcess) {
  GridStage stage(kFakes, "it's a \"grid\" \xC3\xA9 $x\n2");
  const auto up = stage.souk({"up", "--slots", "2"});
  ASSERT_EQ(up.code, 0) << up.out << up.err;
  EXPECT_LT(up.took, 2s);
  EXPECT_TRUE(contains(up.out, "server")) << up.out;
  EXPECT_TRUE(contains(up.out, "user.password")) << up.out;

  const auto status = stage.status();
  EXPECT_EQ(status["phase"], "running") << status.dump(2);
  EXPECT_EQ(status["problems"].size(), 0u) << status.dump(2);
  for (const auto& program : kPrograms) EXPECT_NE(stage.pid_of(program), 0) << program;
  EXPECT_TRUE(contains(stage.file("log/worker-1.log"), "--slots 2")) << stage.file("log/worker-1.log");
  EXPECT_EQ(listener(stage.pid_of("server"), status["port"]), Listener::ours);

  const auto down = stage.souk({"down"});
  EXPECT_EQ(down.code, 0) << down.err;
  EXPECT_TRUE(stage.processes().empty());
  EXPECT_EQ(stage.status()["running"], false);
  EXPECT_EQ(stage.souk({"status", "--local"}).code, 3);
  const auto again = stage.souk({"down"});
  EXPECT_EQ(again.code, 0);
  EXPECT_TRUE(contains(again.out, "No grid runs")) << again.out;
}

TEST(Grid, KeepsItsSecretsToItsOwner) {
  GridStage stage(kFakes);
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  std::vector<std::string> secrets;
  for (const auto& entry : fs::recursive_directory_iterator(stage.dir())) {
    struct stat facts {};
    ASSERT_EQ(::lstat(entry.path().c_str(), &facts), 0);
    EXPECT_EQ(facts.st_mode & 077, 0u) << entry.path();
    if (entry.path().extension() != ".password") continue;
    std::ifstream in(entry.path());
    std::string secret;
    std::getline(in, secret);
    EXPECT_EQ(secret.size(), 32u) << entry.path();
    secrets.push_back(secret);
  }
  EXPECT_EQ(fs::status(stage.dir()).permissions(), fs::perms::owner_all);
  ASSERT_EQ(secrets.size(), 3u);
  EXPECT_NE(secrets[0], secrets[1]);
  std::string said;
  for (const pid_t pid : stage.processes()) said += GridStage::command_line(pid);
  for (const auto& entry : fs::directory_iterator(stage.dir() / "log")) said += stage.file(entry.path());
  said += stage.file("state.json") + stage.file("user.toml");
  for (const auto& secret : secrets) EXPECT_FALSE(contains(said, secret));
}

TEST(Grid, ASecondUpSaysThatItRuns) {
  GridStage stage(kFakes);
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  const int server = stage.pid_of("server");
  const auto second = stage.souk({"up", "--workers", "3"});
  EXPECT_EQ(second.code, 0);
  EXPECT_TRUE(contains(second.out, "runs already")) << second.out;
  EXPECT_EQ(stage.pid_of("server"), server);
  EXPECT_EQ(stage.pid_of("worker-2"), 0);
}

TEST(Grid, OfManyUpsAtOnceOneStartsTheGridAndAllSeeItRun) {
  GridStage stage(kFakes);
  std::vector<pid_t> ups;
  for (int i = 0; i < 5; ++i) ups.push_back(stage.start({"up"}, stage.folder() / ("up-" + std::to_string(i))));
  for (const pid_t pid : ups) EXPECT_EQ(stage.wait(pid).code, 0);
  int servers = 0;
  for (const pid_t pid : stage.processes()) servers += contains(GridStage::command_line(pid), "prosody");
  EXPECT_EQ(servers, 1);
}

TEST(Grid, TwoGridsLiveSideBySide) {
  GridStage one(kFakes), other(kFakes);
  ASSERT_EQ(one.souk({"up"}).code, 0);
  ASSERT_EQ(other.souk({"up", "--workers", "2"}).code, 0);
  EXPECT_NE(one.status()["port"], other.status()["port"]);
  ASSERT_EQ(one.souk({"down"}).code, 0);
  EXPECT_EQ(other.souk({"status", "--local"}).code, 0);
  EXPECT_NE(other.pid_of("worker-2"), 0);
}

TEST(Grid, RemembersItsPortsAndMovesWhenTheyAreTaken) {
  GridStage stage(kFakes);
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  const std::uint16_t port = stage.status()["port"], component = stage.status()["component_port"];
  ASSERT_EQ(stage.souk({"down"}).code, 0);
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  EXPECT_EQ(stage.status()["port"], port);
  ASSERT_EQ(stage.souk({"down"}).code, 0);
  {
    const Listening somebody(port);
    ASSERT_TRUE(somebody.listens());
    ASSERT_EQ(stage.souk({"up"}).code, 0);
    const std::uint16_t moved = stage.status()["port"];
    EXPECT_NE(moved, port);
    EXPECT_EQ(stage.status()["component_port"], component);
    EXPECT_TRUE(contains(stage.file("user.toml"), "port = " + std::to_string(moved) + "\n"));
  }
}

/// A killed process gives its files away before the kernel closes them: for a moment its port is nobody's.
TEST(Grid, WhoIsAtItsEndHasNotLostItsPortToAnother) {
  sockaddr_in address{};
  socklen_t size = sizeof address;
  const int socket = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  ASSERT_EQ(::listen(socket, 1), 0);
  ASSERT_EQ(::getsockname(socket, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::uint16_t port = ntohs(address.sin_port);
  const int ended = ::fork();
  if (ended == 0) ::_exit(0);
  siginfo_t what{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(ended), &what, WEXITED | WNOWAIT), 0);
  EXPECT_EQ(listener(ended, port), Listener::nobody);
  EXPECT_EQ(listener(::getpid(), port), Listener::ours);
  EXPECT_EQ(listener(::getppid(), port), Listener::other);
  ::waitpid(ended, nullptr, 0);
  ::close(socket);
}

TEST(Grid, MovesWhenAPortIsTakenWhileTheServerStarts) {
  GridStage stage(kFakes);
  // The first server finds its port in use: somebody takes it between our look and its own.
  const fs::path thief = stage.folder() / "prosody-too-late";
  std::ofstream(thief) << "#!/bin/bash\n"
                          "if mkdir \"$FAKE_DIR/stolen\" 2>/dev/null; then\n"
                          "  port=$(grep -o 'c2s_ports = { [0-9]*' \"$3\" | grep -o '[0-9]*$')\n"
                          "  exec 9< <(exec /usr/bin/python3 -c \"\n"
                          "import socket, sys, time\n"
                          "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)\n"
                          "s.bind(('127.0.0.1', $port)); s.listen(1); print('taken', flush=True); time.sleep(600)\")\n"
                          "  read -r -u 9 taken\n"
                          "fi\n"
                          "exec prosody \"$@\"\n";
  fs::permissions(thief, fs::perms::owner_all);
  stage.environment["SOUK_PROSODY"] = thief.string();
  const auto up = stage.souk({"up"});
  ASSERT_EQ(up.code, 0) << up.err << stage.file("log/supervisor.log");
  EXPECT_TRUE(contains(stage.file("log/supervisor.log"), "port taken")) << stage.file("log/supervisor.log");
  EXPECT_EQ(listener(stage.pid_of("server"), stage.status()["port"]), Listener::ours);
  EXPECT_TRUE(contains(stage.file("manager.toml"), "port = " + std::to_string(stage.status()["component_port"].get<int>()) + "\n"));
}

TEST(Grid, WhatDiesIsStartedAgainAndItsLeftoversEnd) {
  GridStage stage(kFakes);
  stage.order("worker.stray");
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  const auto strays = [&] {
    std::vector<pid_t> all;
    for (const pid_t pid : stage.processes()) {
      if (contains(GridStage::command_line(pid), "sleep 1000001")) all.push_back(pid);
    }
    return all;
  };
  ASSERT_TRUE(GridStage::eventually([&] { return strays().size() == 1; }));
  ASSERT_TRUE(GridStage::eventually([&] { return contains(stage.file("log/worker-1.log"), "at work"); }));
  stage.recall("worker.stray");
  for (const auto& program : kPrograms) {
    const int before = stage.pid_of(program);
    ASSERT_NE(before, 0) << program;
    ASSERT_TRUE(stage.signal(program, SIGKILL)) << stage.status().dump(2);
    EXPECT_TRUE(GridStage::eventually([&] {
      const int now = stage.pid_of(program);
      return now != 0 && now != before;
    })) << program;
  }
  EXPECT_TRUE(GridStage::eventually([&] { return strays().empty(); }));
  const auto status = stage.status();
  for (const auto& program : status["programs"]) {
    EXPECT_EQ(program["restarts"], 1) << program;
    EXPECT_EQ(program["last_exit"], "signal 9 (Killed)") << program;
  }
  EXPECT_EQ(status["problems"].size(), 3u) << "each is told for a minute";
  EXPECT_EQ(stage.souk({"status", "--local"}).code, 1);
}

TEST(Grid, StatusNamesAProgramThatKeepsDyingAndWhatItSaid) {
  GridStage stage(kFakes);
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  ASSERT_TRUE(GridStage::eventually([&] { return contains(stage.file("log/worker-1.log"), "at work"); }));  // it reads its orders once
  stage.order("worker.exit", "9");
  ASSERT_TRUE(stage.signal("worker-1", SIGTERM)) << stage.status().dump(2);
  ASSERT_TRUE(GridStage::eventually([&] {
    const auto programs = stage.status()["programs"];
    return std::any_of(programs.begin(), programs.end(), [](const auto& program) { return program["last_exit"] == "exit code 9"; });
  }));
  const auto status = stage.souk({"status", "--local"});
  EXPECT_EQ(status.code, 1);
  EXPECT_TRUE(contains(status.out, "worker-1")) << status.out;
  EXPECT_TRUE(contains(status.out, "the worker is told to fail")) << status.out;
}

TEST(Grid, NothingSurvivesAKilledSupervisor) {
  GridStage stage(kFakes);
  ASSERT_EQ(stage.souk({"up", "--workers", "2"}).code, 0);
  ASSERT_TRUE(stage.signal("supervisor", SIGKILL)) << stage.status().dump(2);
  EXPECT_TRUE(GridStage::eventually([&] {
    const auto left = stage.processes();
    return std::none_of(left.begin(), left.end(), [](pid_t pid) { return contains(GridStage::command_line(pid), "souk") || contains(GridStage::command_line(pid), "prosody"); });
  }));
  const auto status = stage.souk({"status", "--local"});
  EXPECT_EQ(status.code, 3);
  EXPECT_TRUE(contains(status.out, "ended without stopping the grid")) << status.out;
  EXPECT_EQ(stage.souk({"up"}).code, 0);
  EXPECT_EQ(stage.souk({"status", "--local"}).code, 0);
}

TEST(Grid, AStartThatFailsSaysWhyAndStopsTheRest) {
  GridStage stage(kFakes);
  stage.order("manager.exit", "7");
  const auto up = stage.souk({"up"});
  EXPECT_EQ(up.code, 1);
  EXPECT_TRUE(contains(up.err, "exit code 7")) << up.err;
  EXPECT_TRUE(contains(up.err, "the manager is told to fail")) << up.err;
  EXPECT_TRUE(contains(up.err, "log/manager.log")) << up.err;
  EXPECT_TRUE(stage.processes().empty());
  const auto status = stage.souk({"status", "--local"});
  EXPECT_EQ(status.code, 3);
  EXPECT_TRUE(contains(status.out, "last start failed")) << status.out;
  const auto json = nlohmann::json::parse(stage.souk({"--json", "up"}).out, nullptr, false);
  EXPECT_TRUE(json.is_object() && contains(json["error"]["why"], "exit code 7")) << json;
  stage.recall("manager.exit");
  EXPECT_EQ(stage.souk({"up"}).code, 0);
  EXPECT_EQ(stage.souk({"status", "--local"}).code, 0);
}

TEST(Grid, CtrlCDuringUpStopsWhatItStarted) {
  GridStage stage(kFakes);
  stage.order("manager.mute");
  const pid_t up = stage.start({"up"}, stage.folder() / "up");
  ASSERT_TRUE(GridStage::eventually([&] { return stage.pid_of("worker-1") != 0; }));
  ASSERT_EQ(::kill(up, SIGINT), 0);
  EXPECT_EQ(stage.wait(up).code, 130);
  EXPECT_TRUE(stage.processes().empty());
}

TEST(Grid, DownDuringUpStopsItToo) {
  GridStage stage(kFakes);
  stage.order("manager.mute");
  const pid_t up = stage.start({"up"}, stage.folder() / "up");
  ASSERT_TRUE(GridStage::eventually([&] { return stage.pid_of("worker-1") != 0; }));
  EXPECT_EQ(stage.souk({"down"}).code, 0);
  EXPECT_EQ(stage.wait(up).code, 1);
  EXPECT_TRUE(stage.processes().empty());
}

TEST(Grid, DownKillsWhatDoesNotStop) {
  GridStage stage(kFakes);
  stage.order("manager.deaf");
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  EXPECT_EQ(stage.souk({"down"}).code, 0);
  EXPECT_TRUE(stage.processes().empty());
  EXPECT_TRUE(contains(stage.file("log/supervisor.log"), "killing program=manager"));
}

TEST(Grid, ForegroundStaysUntilItIsToldToStop) {
  GridStage stage(kFakes);
  const pid_t up = stage.start({"up", "--foreground"}, stage.folder() / "up");
  ASSERT_TRUE(GridStage::eventually([&] { return stage.status()["phase"] == "running"; }));
  EXPECT_EQ(stage.pid_of("supervisor"), up);
  ASSERT_EQ(::kill(up, SIGTERM), 0);
  EXPECT_EQ(stage.wait(up).code, 0);
  EXPECT_TRUE(stage.processes().empty());
}

TEST(Grid, SaysWhichPackageIsMissing) {
  GridStage stage(kFakes);
  stage.environment["SOUK_PROSODY"] = "/nonexistent/prosody";
  const auto up = stage.souk({"up"});
  EXPECT_EQ(up.code, 1);
  EXPECT_TRUE(contains(up.err, "Prosody")) << up.err;
  stage.environment.erase("SOUK_PROSODY");
  stage.environment["SOUK_PROGRAMS"] = stage.folder().string();
  EXPECT_TRUE(contains(stage.souk({"up"}).err, "souk-manager"));
}

TEST(Grid, RefusesFoldersThatAreNotItsOwn) {
  GridStage stage(kFakes);
  fs::create_directory(stage.dir());
  fs::permissions(stage.dir(), fs::perms(0755));
  std::ofstream(stage.dir() / "thesis.tex") << "precious";
  const auto up = stage.souk({"up"});
  EXPECT_EQ(up.code, 2);
  EXPECT_TRUE(contains(up.err, "it holds other files")) << up.err;
  EXPECT_EQ(fs::status(stage.dir()).permissions(), fs::perms(0755));
  EXPECT_TRUE(stage.processes().empty());
}

TEST(Grid, RefusesBadOptionsBeforeAnythingStarts) {
  GridStage stage(kFakes);
  EXPECT_EQ(stage.souk({"up", "--workers", "0"}).code, 2);
  EXPECT_EQ(stage.souk({"up", "--slots", "-3"}).code, 2);
  EXPECT_EQ(stage.souk({"up", "--wrokers", "2"}).code, 2);
  EXPECT_EQ(stage.souk({"supervise", "--lock-fd", "77", "--report-fd", "78"}).code, 2);
  EXPECT_FALSE(fs::exists(stage.dir()));
}

TEST(Grid, KeepsLogsBounded) {
  GridStage stage(kFakes);
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  ASSERT_EQ(stage.souk({"down"}).code, 0);
  fs::resize_file(stage.dir() / "log/manager.log", 9u << 20);
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  EXPECT_LT(fs::file_size(stage.dir() / "log/manager.log"), 1u << 20);
  EXPECT_EQ(fs::file_size(stage.dir() / "log/manager.log.1"), 9u << 20);
}

}  // namespace
}  // namespace souk::test
