// What all fuzz targets share. A target is one file with LLVMFuzzerTestOneInput: libFuzzer drives it when built with clang (scripts/fuzz),
// replay.cpp when built with gcc. It runs what the product runs on bytes from outside, and says which laws must hold beside "does not crash".
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

namespace souk::fuzz {

constexpr std::size_t kInputMax = 64u << 10;  // larger inputs find nothing that smaller ones do not, and slow all others down

/// Ends the process when a law is broken: that is what makes the driver keep the input.
inline void must(bool holds, const char* law, std::string_view about = {}) {
  if (holds) return;
  std::fprintf(stderr, "\nbroken: %s\n", law);
  if (!about.empty()) std::fwrite(about.data(), 1, about.size(), stderr), std::fputc('\n', stderr);
  std::abort();
}

inline std::string_view text_of(const std::uint8_t* bytes, std::size_t size) { return {reinterpret_cast<const char*>(bytes), size}; }

/// Takes the first line off, without its end; what is left may be empty.
inline std::string_view line_off(std::string_view& rest) {
  const auto end = rest.find('\n');
  const auto line = rest.substr(0, end);
  rest.remove_prefix(end == std::string_view::npos ? rest.size() : end + 1);
  return line;
}
/// Takes the first byte off; 0 when there is none.
inline unsigned char byte_off(std::string_view& rest) {
  if (rest.empty()) return 0;
  const auto first = static_cast<unsigned char>(rest.front());
  rest.remove_prefix(1);
  return first;
}

/// Whether a terminal could take it for a command: control characters but newline and tab, and what is no UTF-8.
inline bool is_safe_for_a_terminal(std::string_view text) {
  for (std::size_t at = 0; at < text.size(); ++at) {
    const auto c = static_cast<unsigned char>(text[at]);
    if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f) return false;
    if (c == 0xC2 && at + 1 < text.size() && static_cast<unsigned char>(text[at + 1]) >= 0x80 && static_cast<unsigned char>(text[at + 1]) < 0xA0) return false;  // C1: 0x9B begins a sequence too
  }
  return true;
}

}  // namespace souk::fuzz
