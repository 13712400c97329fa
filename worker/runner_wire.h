// Messages between the worker's Executor and its runners: one SOCK_SEQPACKET message each way per attempt. While one runs the next may come already,
// and begins as soon as the report of the first has left; until then it can be taken back.
// Both ends come from one build and run on one host, so these are plain structs; kBuild guards against a mix.
#pragma once
#include <cstddef>
#include <cstdint>

namespace souk::runner {

constexpr std::uint32_t kBuild = 0x534b0009;        // changes with every change here
constexpr std::size_t kMessageMax = 60 << 10;       // bytes of a Run with its strings; more comes in a memfd
constexpr std::size_t kLaunchMax = 8 << 20;         // the kernel takes about 2 MiB of arguments and environment at most
constexpr std::int64_t kGiveUpUs = 3'000'000;       // after KILL; what still lives then sleeps in the kernel or is not ours to kill
constexpr int kSocket = 3, kOutput = 4, kLock = 5;  // descriptors of a runner: messages, memfd for outputs, lock of the working folder

constexpr const char* kSandboxFolder = ".souk-sandbox";  // in the working folder: what sandboxes are made of
constexpr const char* kBoxFolder = ".souk-sandbox/box-";  // and, with a number, what one has as its own
constexpr std::uint64_t kFilesMax = 1'000'000;            // that an attempt in a sandbox may have at a time

constexpr int kGivenMax = 4;                        // descriptors that come with a request

enum class Kind : std::uint32_t { hello, run, stop, pause, resume, recall, clean, report };

/// First message of a runner. Its working directory is the executor's `work`.
struct Hello {
  Kind kind = Kind::hello;
  std::uint32_t build = kBuild;
  std::int32_t failure = 0;  // errno of mounting /proc in the new namespaces; then the runner ends
  std::int32_t pid = 0;      // its own; in namespaces 0: the worker's child is the runner itself
};

/// Run: followed by NUL-terminated strings: the folder, processors as `0,2` or nothing, argc arguments, envc variables. If `large`, those are in a memfd that comes with it,
/// if `input`, stdin is another one, which comes after that; if `streams`, three more are its standard streams, and nothing is captured. Stop, pause, resume: of attempt `serial` if it is the one running.
/// Recall: of `serial`, if that waits and has not begun: a Report says that it was `recalled`; else nothing. Clean: followed by a folder to remove.
struct Request {
  Kind kind = Kind::run;
  std::uint32_t argc = 0, envc = 0;
  std::uint8_t large = 0, input = 0, streams = 0;
  std::uint64_t serial = 0;  // of the attempt, in the life of this Executor: a late Stop must not hit the next
  std::uint64_t size = 0;    // of the strings, in bytes
  std::int64_t limit_us = 0, grace_us = 0;
  std::int32_t nice = 0;  // above the runner's own
  std::uint64_t memory = 0, processes = 0, file = 0, cpu_s = 0, disk = 0;  // bounds of an attempt in a sandbox; 0: none
  std::uint64_t output_max = 0;  // bytes kept of each stream: stdout at output_at of the shared memfd, stderr output_max behind it
  std::uint64_t output_at = 0;   // another place than that of the attempt before, which the executor may be reading
};

enum class Failed : std::uint32_t { nothing, message, folder, pipes, clone, descriptors, chdir, not_found, interpreter, exec };

struct Report {
  Kind kind = Kind::report;
  Failed failed = Failed::nothing;  // what kept the attempt from starting
  std::int32_t error = 0;           // its errno
  std::int32_t exit_code = -1, signal = 0;
  std::uint8_t timed_out = 0, canceled = 0;
  std::uint8_t unclean = 0;  // something of it could not be killed: this runner takes no other attempt
  std::uint8_t touched = 0;  // it left something in the sandbox, which nobody else may find: this runner takes no other attempt
  std::uint8_t over_disk = 0, over_memory = 0;  // it was killed for what it took
  std::uint8_t recalled = 0;                    // it never began
  std::uint32_t strays = 0;  // processes killed after the attempt's first one had ended
  std::uint64_t serial = 0;
  std::int64_t wall_us = 0;  // without the time it was paused
  std::int64_t cpu_us = 0, peak_kib = 0;
  std::uint64_t kept[2] = {0, 0}, seen[2] = {0, 0};  // bytes of stdout and stderr
};

}  // namespace souk::runner
