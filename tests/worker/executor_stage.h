// Stages for tests of the executor: real processes in a folder of their own.
#pragma once
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <unistd.h>
#include <vector>

#include "worker/process.h"

namespace souk {

using namespace std::chrono_literals;
namespace fs = std::filesystem;

inline fs::path new_folder() {
  std::string name = (fs::temp_directory_path() / "souk-executor-XXXXXX").string();
  if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("mkdtemp");
  return name;
}

inline std::vector<int> children_of(int pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/task/" + std::to_string(pid) + "/children");
  std::vector<int> pids;
  for (int child; in >> child;) pids.push_back(child);
  return pids;
}

/// Processes, other than this one, whose command line holds that text.
inline std::vector<int> processes_with(const std::string& text) {
  std::vector<int> pids;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const int pid = std::atoi(entry.path().filename().c_str());
    if (pid <= 0 || pid == getpid()) continue;
    std::ifstream in(entry.path() / "cmdline", std::ios::binary);
    std::string line(4096, '\0');
    in.read(line.data(), static_cast<std::streamsize>(line.size()));  // of one that ends meanwhile: nothing
    if (line.find(text) != std::string::npos) pids.push_back(pid);
  }
  return pids;
}

inline Launch program(std::vector<std::string> argv) {
  static int number = 0;
  Launch launch;
  launch.argv = std::move(argv);
  launch.env = {{"PATH", "/usr/bin:/bin"}};
  launch.folder = "attempt-" + std::to_string(++number);
  launch.grace = 2s;
  return launch;
}
inline Launch shell(std::string line) { return program({"/bin/sh", "-c", std::move(line)}); }

/// An executor with its loop. The parameter of a test says whether namespaces may be used.
class Stage {
 public:
  explicit Stage(bool namespaces, int slots = 1) : folder(new_folder()), work(folder / "work") {
    setenv("SOUK_NAMESPACES", namespaces ? "1" : "0", 1);
    executor = std::make_unique<Executor>(loop, slots, work, SOUK_RUNNER);
  }
  ~Stage() {
    executor.reset();
    std::error_code ignored;
    fs::remove_all(folder, ignored);
  }
  /// Runs the loop until that holds; false after `most`.
  bool until(const std::function<bool()>& holds, std::chrono::milliseconds most = 20s) {
    const auto end = std::chrono::steady_clock::now() + most;
    loop.restart();
    while (!holds() && std::chrono::steady_clock::now() < end) loop.run_one_for(10ms);
    return holds();
  }
  Outcome run(Launch launch, int slot = 0) {
    std::optional<Outcome> outcome;
    executor->start(slot, std::move(launch), [&](Outcome o) { outcome = std::move(o); });
    EXPECT_FALSE(outcome) << "finished from inside start()";
    if (!until([&] { return outcome.has_value(); })) ADD_FAILURE() << "no outcome";
    return outcome.value_or(Outcome{});
  }
  /// Starts a shell line and returns once it has made the file `here` in its folder.
  void start(const std::string& line, std::function<void(Outcome)> finished, int slot = 0) {
    Launch launch = shell(line);
    last_folder = work / launch.folder;
    executor->start(slot, std::move(launch), std::move(finished));
    if (!until([&] { return fs::exists(last_folder / "here"); })) ADD_FAILURE() << "not started: " << line;
  }
  /// The process that has the attempts of the newest runner below it; without namespaces a guard is above it.
  int runner() const {
    const auto runners = children_of(getpid());
    if (runners.empty() || executor->has_namespaces()) return runners.empty() ? 0 : runners.back();
    const auto below = children_of(runners.back());
    return below.empty() ? 0 : below.front();
  }
  void kill_runner() const {
    const int pid = runner();
    ASSERT_NE(pid, 0);
    ::kill(pid, SIGKILL);
  }
  bool work_is_empty() {  // but for the lock
    return until([&] { return std::distance(fs::directory_iterator(work), fs::directory_iterator()) == 1; }, 3s);
  }

  fs::path folder, work, last_folder;
  boost::asio::io_context loop{1};
  std::unique_ptr<Executor> executor;
};

class ExecutorTest : public ::testing::TestWithParam<bool> {};
inline std::string mode_name(const ::testing::TestParamInfo<bool>& mode) { return mode.param ? "Namespaces" : "Subreaper"; }

}  // namespace souk
