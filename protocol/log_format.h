// How a log looks. One entry is one line, whatever it quotes: who can make us write something must not be able to write entries of their own.
#pragma once
#include <cstddef>

namespace souk {

inline constexpr std::size_t kLogLineMax = 8192;  // bytes of what an entry says; the rest is counted

/// For the default logger and all of its sinks: `2026-11-23T18:40:35.123 info what it says`.
void set_log_format();

}  // namespace souk
