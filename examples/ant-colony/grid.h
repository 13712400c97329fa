// Lets a generation walk on the grid, through the same command line people use.
#pragma once
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "protocol/result.h"

namespace souk::ants {

/// SIGINT and SIGTERM from now on only raise a flag, so that nothing is left behind; a call that is waiting passes the signal on.
void catch_interrupts();
bool interrupted();

class Grid {
 public:
  /// souk:    the command line program, a path or a name in PATH
  /// program: what the workers run: the path or name of ant-colony *there*
  Grid(std::string souk, std::string program);
  ~Grid();  // removes its temporary folder
  Grid(const Grid&) = delete;

  /// The slots of all workers in the market now.
  Result<int> slots() const;
  /// One `souk run --array`: `tasks` tasks, all with this text on their stdin. Waits; yields what they wrote.
  Result<std::string> run(const std::string& request, int tasks, const std::string& name) const;

 private:
  struct Ended {
    int code = 0;  // exit code, or 128 + signal
    std::string out, err;
  };
  Result<Ended> call(const std::vector<std::string>& arguments) const;

  std::string souk_, program_;
  std::filesystem::path folder_;  // for the request and the two streams of one call at a time; 0700
};

}  // namespace souk::ants
