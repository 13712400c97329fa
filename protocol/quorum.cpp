#include "protocol/quorum.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <stdexcept>

#include "protocol/notation.h"

namespace souk {

namespace {

std::optional<unsigned> number_in(std::string_view text) {
  unsigned number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

std::optional<double> real_in(std::string_view text) {
  if (text.starts_with('+')) text.remove_prefix(1);
  double number = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || failure != std::errc{} || end != text.data() + text.size() || !std::isfinite(number)) return std::nullopt;
  return number;
}

/// The next word, which is taken off; punctuation is a word of its own. Empty: there is none.
std::string_view take_word(std::string_view& text) {
  constexpr std::string_view space = " \t\r\n\v\f", marks = ",;:=()[]{}\"";
  const auto begin = text.find_first_not_of(space);
  if (begin == text.npos) return text = {};
  text.remove_prefix(begin);
  std::size_t size = 1;
  if (marks.find(text.front()) == marks.npos)
    while (size < text.size() && space.find(text[size]) == space.npos && marks.find(text[size]) == marks.npos) ++size;
  const std::string_view word = text.substr(0, size);
  text.remove_prefix(size);
  return word;
}

}  // namespace

Result<std::pair<unsigned, unsigned>> parse_quorum(std::string_view text) {
  const auto slash = text.find('/');
  const auto agree = number_in(text.substr(0, slash));
  auto most = slash == text.npos ? agree : number_in(text.substr(slash + 1));
  if (slash == text.npos && agree && *agree >= 1 && *agree <= kQuorumMax) most = std::min(2 * *agree - 1, kQuorumMax);  // so many cannot all agree with too few
  if (!agree || !most) return Error{"cannot read the quorum " + quoted(text), "it is not M/N", "write 2/3: two results must agree, of three at most"};
  return std::pair{*agree, *most};
}

Result<Done> check_quorum(unsigned agree, unsigned most) {
  if (agree >= 2 && agree <= most && most <= kQuorumMax) return Done{};
  return Error{"quorum refused", "it is " + std::to_string(agree) + "/" + std::to_string(most), "ask for 2 to " + std::to_string(kQuorumMax) + " results that agree, and for no fewer in all: 2/3"};
}

Result<AgreeOn> parse_agree_on(std::string_view text) {
  if (text.empty() || text == "all") return AgreeOn{};
  if (text == "exit") return AgreeOn{AgreeOn::What::exit, 0};
  if (text.starts_with("numbers:"))
    if (const auto tolerance = real_in(text.substr(8)); tolerance && *tolerance >= 0 && *tolerance < 1) return AgreeOn{AgreeOn::What::numbers, *tolerance};
  return Error{"cannot read on what results must agree", quoted(text) + " is none of all, exit and numbers:TOLERANCE", "write all, exit, or numbers:1e-6"};
}

std::optional<std::string> parse_sha256(std::string_view hex) {
  if (hex.size() != 64) return std::nullopt;
  std::string bytes;
  for (std::size_t at = 0; at < hex.size(); at += 2) {
    unsigned byte = 0;
    const auto [end, failure] = std::from_chars(hex.data() + at, hex.data() + at + 2, byte, 16);
    if (failure != std::errc{} || end != hex.data() + at + 2) return std::nullopt;
    bytes.push_back(static_cast<char>(byte));
  }
  return bytes;
}

std::string sha256(std::string_view bytes) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), digest.data(), &size, EVP_sha256(), nullptr) != 1) throw std::runtime_error("OpenSSL has no SHA-256");
  return {digest.begin(), digest.begin() + size};
}

std::string digest_of(const Outcome& outcome, AgreeOn::What what) {
  std::string said = std::string(name_of(outcome.cause)) + ' ' + std::to_string(outcome.exit_code) + ' ' + std::to_string(outcome.signal);
  // A program that is missing there, or killed there, says nothing by what it wrote before.
  if (what != AgreeOn::What::exit && outcome.cause == Cause::exited) said += ' ' + std::to_string(outcome.out_size) + ' ' + sha256(outcome.out);
  return sha256(said);
}

bool same_numbers(std::string_view a, std::string_view b, double tolerance) {
  while (true) {
    const std::string_view one = take_word(a), other = take_word(b);
    if (one.empty() && other.empty()) return true;
    if (one == other) continue;
    const auto x = real_in(one), y = real_in(other);
    if (!x || !y || std::abs(*x - *y) > tolerance * std::max(std::abs(*x), std::abs(*y))) return false;
  }
}

}  // namespace souk
