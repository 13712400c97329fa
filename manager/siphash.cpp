#include "manager/siphash.h"

#include <bit>

namespace souk {

std::uint64_t siphash(const SipKey& key, std::string_view bytes) {
  std::uint64_t v0 = key[0] ^ 0x736f6d6570736575u, v1 = key[1] ^ 0x646f72616e646f6du, v2 = key[0] ^ 0x6c7967656e657261u, v3 = key[1] ^ 0x7465646279746573u;
  const auto rounds = [&](int count) {
    for (; count > 0; --count) {
      v0 += v1, v1 = std::rotl(v1, 13), v1 ^= v0, v0 = std::rotl(v0, 32);
      v2 += v3, v3 = std::rotl(v3, 16), v3 ^= v2;
      v0 += v3, v3 = std::rotl(v3, 21), v3 ^= v0;
      v2 += v1, v1 = std::rotl(v1, 17), v1 ^= v2, v2 = std::rotl(v2, 32);
    }
  };
  const auto word = [&](std::size_t at, std::size_t size) {
    std::uint64_t all = 0;
    for (std::size_t i = 0; i < size; ++i) all |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[at + i])) << (8 * i);
    return all;
  };
  std::size_t at = 0;
  for (; at + 8 <= bytes.size(); at += 8) {
    const std::uint64_t m = word(at, 8);
    v3 ^= m, rounds(2), v0 ^= m;
  }
  const std::uint64_t last = word(at, bytes.size() - at) | static_cast<std::uint64_t>(bytes.size()) << 56;
  v3 ^= last, rounds(2), v0 ^= last;
  v2 ^= 0xff, rounds(4);
  return v0 ^ v1 ^ v2 ^ v3;
}

}  // namespace souk
