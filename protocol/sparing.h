// Which of many log entries of one kind are written. Where anybody with an account can make us write one by a stanza, a thousand a second would fill a disk. Pure.
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "protocol/ids.h"

namespace souk {

class Sparing {
 public:
  explicit Sparing(std::uint32_t most = 30, Duration within = std::chrono::minutes(1)) : most_(most), within_(within) {}
  /// Of one more at `now`: nothing if it is left out; else how many were left out since the last one that was not.
  std::optional<std::uint64_t> take(Instant now) {
    if (!began_ || now - *began_ >= within_) began_ = now, written_ = 0;
    if (written_ >= most_) {
      ++left_out_;
      return std::nullopt;
    }
    ++written_;
    const std::uint64_t missing = left_out_;
    left_out_ = 0;
    return missing;
  }

 private:
  std::uint32_t most_;
  Duration within_;
  std::optional<Instant> began_;
  std::uint32_t written_ = 0;
  std::uint64_t left_out_ = 0;
};

/// For the end of such an entry.
inline std::string also(std::uint64_t left_out) { return left_out == 0 ? std::string() : " left_out=" + std::to_string(left_out); }

}  // namespace souk
