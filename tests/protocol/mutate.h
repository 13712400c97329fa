// Random damage to a text, the same for the same seed. For tests that throw it at a parser.
#pragma once
#include <cstdint>
#include <random>
#include <string>
#include <string_view>

namespace souk::test {

/// Rounds of each fuzz test. Enough to reach every branch of our parsers within a second or two, also under AddressSanitizer.
constexpr int kRounds = 20'000;

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : random_(seed) {}

  std::size_t below(std::size_t end) { return end == 0 ? 0 : random_() % end; }

  std::string bytes(std::size_t size) {
    std::string text(size, '\0');
    for (char& c : text) c = static_cast<char>(random_());
    return text;
  }

  /// One to four changes: a byte flipped, set, inserted, removed; a run doubled or cut; the end cut off; a piece of `words` put in.
  std::string damaged(std::string text, std::string_view words = {}) {
    for (std::size_t changes = 1 + below(4); changes > 0; --changes) {
      const std::size_t at = below(text.size() + 1), run = below(17);
      switch (below(words.empty() ? 7 : 9)) {
        case 0: if (at < text.size()) text[at] = static_cast<char>(static_cast<unsigned char>(text[at]) ^ (1u << below(8))); break;
        case 1: if (at < text.size()) text[at] = static_cast<char>(random_()); break;
        case 2: text.insert(at, 1, static_cast<char>(random_())); break;
        case 3: if (at < text.size()) text.erase(at, 1); break;
        case 4: text.insert(at, text.substr(at, run)); break;
        case 5: text.erase(at, run); break;
        case 6: text.resize(at); break;
        default: text.insert(at, words.substr(below(words.size()), run)); break;
      }
    }
    return text;
  }

 private:
  std::mt19937_64 random_;
};

}  // namespace souk::test
