// How far a job is, for somebody who waits: a bar on a terminal, now and then a line elsewhere; always on stderr.
#pragma once
#include <chrono>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>

#include "protocol/ids.h"

namespace souk::wire {
class JobStatus;
}

namespace souk {

/// Tasks per second over the last while, from counts that come at uneven times.
class Rate {
 public:
  static constexpr Duration kWindow = std::chrono::seconds{15};  // old samples are forgotten: a rate that changed shows soon
  void note(Instant now, std::uint64_t ended);
  /// 0 until two counts are known.
  double per_second(Instant now) const;
  /// Time until `left` more have ended; nothing while no rate is known.
  std::optional<Duration> until(std::uint64_t left, Instant now) const;

 private:
  struct Sample {
    Instant at;
    std::uint64_t ended;
  };
  std::deque<Sample> samples_;  // at most kSamplesMax
  static constexpr std::size_t kSamplesMax = 64;
};

struct Look {
  int width = 80;      // columns; the bar leaves the last one free, as some terminals wrap there
  bool unicode = true;
  bool color = false;
};

/// One line without a newline, at most look.width - 1 columns:
/// `sim [#######-----] 58% 580/1000, 3 failed, 8 running, 120/s, 4s left`. What does not fit is left out, least important first.
std::string progress_bar(const wire::JobStatus& job, const Rate& rate, Instant now, Duration elapsed, Look look);
/// The same in words, for a log: `job 12: 580 of 1000 done, 3 failed, 8 running, 120/s, about 4s left`.
std::string progress_words(const wire::JobStatus& job, const Rate& rate, Instant now);
/// Of the sending of a large job.
std::string upload_bar(std::uint64_t sent, std::uint64_t size, Look look);

/// Draws on a file descriptor. On a terminal one line is drawn over and over; elsewhere there is a line every few seconds.
class Progress {
 public:
  static constexpr Duration kFirst = std::chrono::milliseconds{200};   // what is over by then never flickers
  static constexpr Duration kRedraw = std::chrono::milliseconds{100};
  static constexpr Duration kLine = std::chrono::seconds{5};           // between lines that are no terminal's

  /// wanted: nothing is ever drawn without
  Progress(int fd, bool wanted, Instant now);
  ~Progress() { hide(); }
  Progress(const Progress&) = delete;

  void job(const wire::JobStatus& status, Instant now);
  void upload(std::uint64_t sent, std::uint64_t size, Instant now);
  /// Draws again if it is time to, so that time passes on the bar too.
  void tick(Instant now);
  /// Takes the bar off the screen, before something else is printed on it. The next tick brings it back.
  void hide();
  /// Says how it ended, in place of the bar, if there was one to see.
  void finish(const wire::JobStatus& status, Instant now);
  /// Something was printed on the same terminal; the bar must not be appended to an unfinished line.
  void printed(char last) { mid_line_ = last != '\n'; }
  bool on_terminal() const { return terminal_; }
  bool wanted() const { return wanted_; }

 private:
  void show(const std::string& line, Instant now);
  Look look() const;

  int fd_;
  bool wanted_, terminal_, unicode_, color_;
  bool shown_ = false, mid_line_ = false, ever_ = false;
  Instant began_, drawn_{};
  Rate rate_;
  std::string status_;  // the newest JobStatus, serialized: keeps protobuf out of this header
  std::uint64_t lined_ = ~std::uint64_t{0};
};

}  // namespace souk
