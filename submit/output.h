// What a command prints: bytes of tasks unchanged on stdout and stderr, and notes of our own, never on top of a progress bar.
#pragma once
#include <functional>
#include <string>
#include <string_view>

#include "protocol/result.h"
#include "submit/progress.h"

namespace souk {

/// Monotonic time for progress.
Instant now_instant();

class Output {
 public:
  /// `stop` is asked when a signal meets a blocked write: true gives the write up.
  explicit Output(Progress& progress, std::function<bool()> stop = [] { return false; });

  /// Bytes for stdout; they leave with flush(), or by themselves when there are many.
  void out(std::string_view bytes);
  /// Bytes for stderr, after what stdout still holds.
  void err(std::string_view bytes);
  /// A note of our own, as `souk: note`.
  void note(std::string_view text);
  void flush();

  /// The reader of stdout has gone (`souk cat 1 | head`): nothing more need be printed, and nothing need be said.
  bool closed() const { return closed_; }
  /// Why stdout could not be written, other than by closed().
  bool broken() const { return !failure_.what.empty(); }
  const Error& failure() const { return failure_; }

 private:
  bool write(int fd, std::string_view bytes);

  static constexpr std::size_t kBufferMax = 256 << 10;
  Progress& progress_;
  std::function<bool()> stop_;
  std::string buffer_;
  bool out_seen_, err_seen_;  // on a terminal, where a bar may be in the way
  bool closed_ = false;
  Error failure_;
};

/// What a command that printed exits with when its reader went away: as if SIGPIPE had ended it.
inline constexpr int kExitPipe = 141;

}  // namespace souk
