// One attempt, ready to run.
#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "protocol/command.h"

namespace souk {

/// What an attempt in a sandbox may take; 0: as much as there is.
struct Bounds {
  std::uint64_t memory = 0;     // bytes: of all of it with control groups, else of each process
  std::uint64_t processes = 512;
  std::uint64_t file = 0;       // bytes of one file
  std::uint64_t disk = 0;       // bytes of all files in its folder, looked at every second
  std::uint64_t tmp = 256u << 20;  // bytes of /tmp and of /dev/shm, each: they are memory
  std::chrono::milliseconds cpu{0};   // processor time of one process
  std::chrono::milliseconds time{0};  // wall time
  friend bool operator==(const Bounds&, const Bounds&) = default;
};

/// The sandbox of an attempt.
struct Boxed {
  std::string key;  // who may use one after another: the job
  bool network = false, gpus = false;
  Bounds bounds{};
  std::string image{};  // whose files are its system; empty: this host's
};

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
  std::optional<Boxed> box{};   // none: bare, as the user of the worker
  struct Streams { int in = -1, out = -1, err = -1; } streams{};  // if given: its standard streams, of which copies are made; nothing is captured, and `input` is not used
};

}  // namespace souk
