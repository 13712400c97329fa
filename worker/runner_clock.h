// The clock of souk-runner, and of whoever tells what it shares with the worker how long it may take.
#pragma once
#include <cstdint>
#include <ctime>

namespace souk::runner {

inline std::int64_t now_us() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1'000'000LL + t.tv_nsec / 1000;
}

}  // namespace souk::runner
