// SipHash-2-4 (Aumasson, Bernstein): who does not have the key cannot tell its values from chance. Pure.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

namespace souk {

using SipKey = std::array<std::uint64_t, 2>;
std::uint64_t siphash(const SipKey& key, std::string_view bytes);

}  // namespace souk
