// One attempt, ready to run.
#pragma once
#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "protocol/command.h"

namespace souk {

/// argv is filled in, `env` is all of its environment. No string may hold a NUL byte, but `input` may.
struct Launch {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> env;
  std::string input;
  std::string folder;  // name of its own working folder below the executor's; made before, removed with all in it after; if it stayed empty, up to 20 ms later
  std::chrono::milliseconds time_limit{0}, grace{kGraceDefault};
  std::size_t output_max = kOutputDefault;  // of stdout and of stderr, each; at most kOutputMax
  std::vector<int> processors;  // it is bound to these, as far as there are such; none: to those of the worker
  int nice = 0;                 // above the worker's own
  struct Streams { int in = -1, out = -1, err = -1; } streams{};  // if given: its standard streams, of which copies are made; nothing is captured, and `input` is not used
};

}  // namespace souk
