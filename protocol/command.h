// What a task runs and what came of it, as plain values: no protobuf, no gloox.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace souk {

constexpr std::size_t kOutputDefault = 1 << 20;   // bytes kept of stdout and of stderr, each; the rest is counted and dropped
constexpr std::size_t kOutputMax = 16 << 20;      // the most a job may ask for
constexpr std::size_t kInputMax = 8 << 20;        // stdin of a task
constexpr std::size_t kItemMax = 64u << 10;       // bytes of one item: it must fit an argument of execve (128 KiB) and a stanza
constexpr std::size_t kSubmitMax = 64u << 20;     // bytes of a serialized job
constexpr int kRetriesMax = 1000;
constexpr std::chrono::milliseconds kGraceDefault{2000};

/// What a job says about the sandbox of its tasks; the worker's owner decides what it may have.
enum class Sandboxing : std::uint8_t { by_owner, none, required };

/// What one attempt executes. Strings are bytes, not text: a file name need not be UTF-8. None may hold a NUL byte, but `input` may.
struct Command {
  std::vector<std::string> argv;  // never empty; with `shell`, one line handed to /bin/sh -c
  bool shell = false;
  std::vector<std::pair<std::string, std::string>> env;  // added to the worker's own small environment
  std::string input;                                     // stdin
  std::chrono::milliseconds time_limit{0};               // wall time, 0: none
  std::chrono::milliseconds grace = kGraceDefault;       // between TERM and KILL
  std::size_t output_max = kOutputDefault;
  bool fill = false;  // `{}` and `{#}` in argv stand for the item and the task's number; with `shell`, quoted for sh
  bool json = false;  // the item is a JSON object: `{key}` stands for its field too
  bool pin = false;   // bound to processors of its own, as many as it asks cpus
  bool network = false;  // in a sandbox: with the host's network
  Sandboxing sandbox = Sandboxing::by_owner;
  std::string image{};    // not empty: in a sandbox whose system is this image, of those its worker's owner offers
  std::string service{};  // not empty: this service of the worker answers, and nothing is started; argv may be empty then
};

enum class Cause : std::uint8_t {
  exited,       // by itself, with exit_code
  signaled,     // by `signal`
  timed_out,    // stopped at its time limit
  canceled,     // stopped because the job was canceled, or another attempt committed first
  not_started,  // `why` says it: no such program, no working folder, ...
  lost,         // its worker died too often under it; of one attempt: its runner did, which is no failure of the task
};

/// How an attempt ended.
struct Outcome {
  Cause cause = Cause::exited;
  int exit_code = 0;  // for `exited`
  int signal = 0;     // for `signaled`, and for `timed_out` and `canceled` when a signal ended it
  std::string why;    // for `not_started` and `lost`; for people
  std::chrono::microseconds wall{0}, cpu{0};
  std::uint64_t peak_memory_kib = 0;
  std::string out, err;                  // at most output_max bytes each
  std::uint64_t out_size = 0, err_size = 0;  // what the task really wrote, in bytes; larger than kept: truncated
  bool succeeded() const { return cause == Cause::exited && exit_code == 0; }
};

constexpr std::string_view name_of(Cause cause) {
  switch (cause) {
    case Cause::exited: return "exited";
    case Cause::signaled: return "signaled";
    case Cause::timed_out: return "timed-out";
    case Cause::canceled: return "canceled";
    case Cause::not_started: return "not-started";
    case Cause::lost: return "lost";
  }
  return "?";
}

}  // namespace souk
