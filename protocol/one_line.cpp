#include "protocol/one_line.h"

#include <algorithm>

#include "protocol/quoting.h"

namespace souk {

bool is_control(std::string_view character) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(character[i]); };
  if (character.size() == 1) return at(0) < 0x20 || at(0) == 0x7F;
  if (character.size() == 2) return at(0) == 0xC2 && at(1) < 0xA0;  // C1
  if (character.size() != 3 || at(0) != 0xE2) return false;
  if (at(1) == 0x80) return at(2) >= 0xA8 && at(2) <= 0xAE;  // U+2028, U+2029, U+202A to U+202E
  return at(1) == 0x81 && at(2) >= 0xA6 && at(2) <= 0xA9;    // U+2066 to U+2069
}

std::string one_line(std::string_view text, std::size_t bytes_max) {
  if (text.size() <= bytes_max && std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7F; })) return std::string(text);
  std::string line;
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    const std::string_view character = text.substr(0, std::max<std::size_t>(1, length));
    if (line.size() + std::max<std::size_t>(2, character.size()) > bytes_max) return line + "... (" + std::to_string(text.size()) + " more bytes)";
    if (length == 0 || is_control(character)) {
      const char c = character.front();
      line += c == '\n' ? "\\n" : c == '\r' ? "\\r" : c == '\t' ? "\\t" : "?";
    } else {
      line += character;
    }
    text.remove_prefix(character.size());
  }
  return line;
}

}  // namespace souk
