// How people write times, sizes and arrays, on the command line and in forms alike. Pure.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"

namespace souk {

constexpr std::uint64_t kRangeMax = 1'000'000'000;  // numbers in an array; the manager may allow fewer
constexpr std::uint64_t kListMax = 10'000'000;      // numbers that a list like 1,5,9-12 may grow to

/// Reads a time with its unit: `250ms`, `90s`, `1.5m`, `2h`, `1h30m`; at most 365 days. `0` is none.
Result<std::chrono::milliseconds> parse_duration(std::string_view text);

/// Reads a number of bytes: `1048576`, `64KiB`, `1MiB`, `10MB`; K, M and G alone are the binary ones.
Result<std::uint64_t> parse_size(std::string_view text);

/// first, first+step, ... up to last, inclusive.
struct Span {
  std::int64_t first = 0, last = 0;
  std::uint64_t step = 1;
  /// Saturates: all 2^64 numbers are not told from 2^64 - 1.
  std::uint64_t count() const {
    const std::uint64_t steps = (static_cast<std::uint64_t>(last) - static_cast<std::uint64_t>(first)) / step;
    return steps + (steps == ~std::uint64_t{0} ? 0 : 1);
  }
};
/// Reads `1-1000`, `1-1000:2`, `1,5,9-12`. Yields at least one span; at most kRangeMax numbers, kListMax if there are several spans.
Result<std::vector<Span>> parse_array(std::string_view text);

/// `text` for a message: short, quoted, and without what a terminal would obey.
std::string quoted(std::string_view text);

}  // namespace souk
