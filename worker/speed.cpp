#include "worker/speed.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <ctime>
#include <memory>

#include "protocol/offer.h"

namespace souk {
namespace {

constexpr double kReferenceUs = 5000;
constexpr int kSteps = 800'000;

/// Time this thread had a processor: what others run meanwhile does not count.
double thread_us() {
  timespec t{};
  return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) == 0 ? static_cast<double>(t.tv_sec) * 1e6 + static_cast<double>(t.tv_nsec) / 1e3 : -1;
}

}  // namespace

double measure_speed() {
  const auto table = std::make_unique<std::array<std::uint64_t, 8192>>();
  std::uint64_t state = 0x9E3779B97F4A7C15u;
  for (auto& entry : *table) entry = state = state * 6364136223846793005u + 1442695040888963407u;
  double best = 0, wave = 0.5;
  for (int run = 0; run < 3; ++run) {
    const double began = thread_us();
    for (int step = 0; step < kSteps; ++step) {
      state ^= state << 13, state ^= state >> 7, state ^= state << 17;  // each step needs the one before
      state += (*table)[state & 8191];
      wave = 3.7 * wave * (1 - wave) + 1e-9 * static_cast<double>(state & 1);
    }
    const double took = thread_us() - began;
    if (took > 0 && (best == 0 || took < best)) best = took;
  }
  volatile double kept = wave + static_cast<double>(state);  // or the compiler would leave it all out
  (void)kept;
  return best > 0 ? std::clamp(std::round(kReferenceUs / best * 10) / 10, 0.1, kSpeedMax) : 0;
}

}  // namespace souk
