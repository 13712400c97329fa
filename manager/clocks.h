// The shell's two clocks at one moment: one that only goes forward, which the scheduler lives by, and that of the wall, which people and peers mean.
#pragma once
#include <algorithm>
#include <chrono>
#include <cstdint>

#include "protocol/ids.h"

namespace souk {

struct Clocks {
  Instant now{};
  std::uint64_t now_ms = 0;  // since 1970, UTC
  static Clocks read() {
    using namespace std::chrono;
    return {Instant(duration_cast<Duration>(steady_clock::now().time_since_epoch())),
            static_cast<std::uint64_t>(duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count())};
  }
  /// When the wall's clock will show that, or showed it; at most a century away, whatever a peer says.
  Instant at(std::uint64_t wall_ms) const {
    constexpr std::int64_t century = 36525ll * 24 * 3600 * 1000;
    const std::int64_t ahead = wall_ms >= now_ms ? static_cast<std::int64_t>(std::min<std::uint64_t>(wall_ms - now_ms, century))
                                                 : -static_cast<std::int64_t>(std::min<std::uint64_t>(now_ms - wall_ms, century));
    return now + std::chrono::milliseconds(ahead);
  }
};

}  // namespace souk
