// Runs the real `souk` in a state folder of its own, and knows every process that came of it.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace souk::test {

struct Ended {
  int code = -1;  // exit code; 128 + number for a signal
  std::string out, err;
  std::chrono::milliseconds took{0};
};

class GridStage {
 public:
  /// programs: the folder of souk-manager and souk-worker; empty: the real ones, beside souk
  /// name:     of the state folder, which lies below a temporary one
  explicit GridStage(std::filesystem::path programs, const std::string& name = "grid");
  ~GridStage();  // stops the grid, and kills what is left; a guard does so if this process ends without it
  GridStage(const GridStage&) = delete;

  std::filesystem::path dir() const { return folder_ / name_; }
  const std::filesystem::path& folder() const { return folder_; }

  /// `souk --dir DIR ARGUMENTS`, to its end; killed after a minute.
  Ended souk(std::vector<std::string> arguments);
  /// The same without waiting. All descriptors but its own output are closed in it.
  pid_t start(std::vector<std::string> arguments, const std::filesystem::path& output);
  Ended wait(pid_t pid);

  nlohmann::json status();  // of this machine: a stand-in for the manager answers nobody
  int pid_of(const std::string& program);  // as status tells; 0 if it does not run

  /// Sends a signal to a program of the grid; false if it does not run.
  bool signal(const std::string& program, int number);

  /// Pids of all processes that were started through this stage, found by a mark in their environment.
  std::vector<pid_t> processes() const;
  static std::string command_line(pid_t pid);
  /// Looks until it holds; false if it did not within ten seconds. For what happens in other processes.
  static bool eventually(const std::function<bool()>& holds);
  std::string file(const std::filesystem::path& relative) const;  // its text; empty if there is none
  /// A file in the folder from which the stand-ins take orders.
  void order(const std::string& name, const std::string& text = "") const;
  void recall(const std::string& name) const;

  std::map<std::string, std::string> environment;  // beside the inherited one

 private:
  std::filesystem::path folder_;
  std::string name_, mark_;
  int guard_pipe_ = -1;
  pid_t guard_ = -1;
  void kill_all() const;
};

}  // namespace souk::test
