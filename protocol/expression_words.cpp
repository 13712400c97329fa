#include "protocol/expression_words.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <tuple>

#include "protocol/notation.h"

namespace souk::expression {

bool is_reserved(std::string_view word) { return word == "true" || word == "false" || word == "undefined" || word == "in"; }

std::size_t name_length(std::string_view text) {
  if (text.empty() || !is_word(text[0]) || is_digit(text[0])) return 0;
  std::size_t end = 1;
  while (end < text.size() && (is_word(text[end]) || (text[end] == '.' && end + 1 < text.size() && is_word(text[end + 1])))) ++end;
  return end;
}
bool is_plain(std::string_view name) { return !name.empty() && name_length(name) == name.size() && !is_reserved(name); }

// ---- Numbers

namespace {

struct Unit {
  std::string_view name;
  double factor;
  bool time;  // may be followed by another: 1h30m
};
constexpr double kKi = 1024;
constexpr std::array<Unit, 19> kUnits{{{"B", 1, false}, {"K", kKi, false}, {"KiB", kKi, false}, {"kB", 1e3, false}, {"KB", 1e3, false}, {"M", kKi * kKi, false},
    {"MiB", kKi * kKi, false}, {"MB", 1e6, false}, {"G", kKi * kKi * kKi, false}, {"GiB", kKi * kKi * kKi, false}, {"GB", 1e9, false}, {"T", kKi * kKi * kKi * kKi, false},
    {"TiB", kKi * kKi * kKi * kKi, false}, {"TB", 1e12, false}, {"ms", 1e-3, true}, {"s", 1, true}, {"m", 60, true}, {"h", 3600, true}, {"d", 86400, true}}};
constexpr const char* kUnitsRemedy = "sizes are B, KiB (K), kB, MiB (M), MB, GiB (G), GB, TiB (T), TB; times are ms, s, m, h, d";

}  // namespace

Number scan_number(std::string_view text) {
  Number number;
  std::size_t& at = number.size;
  const auto digit_at = [text](std::size_t i) { return i < text.size() && is_digit(text[i]); };
  const auto fail = [&number](std::string why, std::string remedy) {
    number.why = std::move(why), number.remedy = std::move(remedy);
    return number;
  };
  for (bool first = true;; first = false) {
    const std::size_t begin = at;
    bool exponent = false;
    while (digit_at(at)) ++at;
    if (at < text.size() && text[at] == '.') {
      if (!digit_at(at + 1)) return fail("expected a digit after the dot", "");
      for (++at; digit_at(at);) ++at;
    }
    if (at < text.size() && lower(text[at]) == 'e') {
      const std::size_t sign = at + 1 < text.size() && (text[at + 1] == '+' || text[at + 1] == '-') ? 1 : 0;
      if (digit_at(at + 1 + sign)) {
        exponent = true;
        for (at += 1 + sign; digit_at(at);) ++at;
      }
    }
    double value = 0;
    const auto [end, failure] = std::from_chars(text.data() + begin, text.data() + at, value);
    if (failure != std::errc{} || end != text.data() + at) {
      at = begin;
      return fail("the number is out of range", "");
    }
    const std::size_t unit_at = at;
    while (at < text.size() && is_letter(text[at])) ++at;
    const std::string_view name = text.substr(unit_at, at - unit_at);
    if (name.empty()) {
      if (!first) return fail("expected a unit", "write every unit: 1h30m");
      number.value = value, number.plain = !exponent;
      break;
    }
    const auto unit = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& one) { return one.name == name && (first || one.time); });
    if (unit == kUnits.end()) {
      const auto like = std::find_if(kUnits.begin(), kUnits.end(), [&](const Unit& one) { return first && lower(one.name) == lower(name); });
      at = unit_at;
      return fail("no unit is called " + quoted(name), like != kUnits.end() ? "did you mean " + std::string(like->name) + "? " + kUnitsRemedy : kUnitsRemedy);
    }
    number.value += value * unit->factor;
    if (!std::isfinite(number.value)) {
      at = begin;
      return fail("the number is out of range", "");
    }
    if (!unit->time || !digit_at(at)) break;
  }
  if (at < text.size() && text[at] == '.') return fail("a number has one dot", "a version is written as a text: \"3.10.2\"");
  if (at < text.size() && is_word(text[at])) return fail("expected an operator after the number", "");
  return number;
}

// ---- Texts

int compare_texts(std::string_view a, std::string_view b) {
  const std::size_t both = std::min(a.size(), b.size());
  for (std::size_t i = 0; i < both; ++i) {
    const auto x = static_cast<unsigned char>(lower(a[i])), y = static_cast<unsigned char>(lower(b[i]));
    if (x != y) return x < y ? -1 : 1;
  }
  return a.size() == b.size() ? 0 : a.size() < b.size() ? -1 : 1;
}

bool contains_text(std::string_view text, std::string_view part) {
  return std::search(text.begin(), text.end(), part.begin(), part.end(), [](char a, char b) { return lower(a) == lower(b); }) != text.end() || part.empty();
}

// Goes back to the last star only.
bool matches_pattern(std::string_view text, std::string_view pattern) {
  const auto character = [text](std::size_t at) {  // its length in UTF-8
    std::size_t size = 1;
    while (at + size < text.size() && (static_cast<unsigned char>(text[at + size]) & 0xC0) == 0x80) ++size;
    return size;
  };
  std::size_t at = 0, step = 0, star = std::string_view::npos, kept = 0;
  while (at < text.size()) {
    if (step < pattern.size() && pattern[step] == '*') {
      star = step++, kept = at;
    } else if (step < pattern.size() && pattern[step] == '?') {
      at += character(at), ++step;
    } else if (step < pattern.size() && lower(pattern[step]) == lower(text[at])) {
      ++at, ++step;
    } else if (star != std::string_view::npos) {
      kept += character(kept);
      at = kept, step = star + 1;
    } else {
      return false;
    }
  }
  while (step < pattern.size() && pattern[step] == '*') ++step;
  return step == pattern.size();
}

// ---- Versions

namespace {

/// One part of a version. Parts are ordered by rank, numbers and words of the same rank by `text`. What is missing is a zero, and zeros in
/// front of what comes before a release do not count: 3.10 is 3.10.0, 3.0rc1 is 3.0.0-rc1.
struct Part {
  int rank = 0;  // below 0: before a release; 0: zero or nothing; 1: a word, as in 1.1.1k; 2: a number
  std::string_view text;
};

Part take_one_part(std::string_view& rest) {
  while (!rest.empty() && !is_digit(rest[0]) && !is_letter(rest[0])) rest.remove_prefix(1);
  std::size_t end = 0;
  if (rest.empty()) return {};
  if (is_digit(rest[0])) {
    while (end < rest.size() && is_digit(rest[end])) ++end;
    std::string_view digits = rest.substr(0, end);
    rest.remove_prefix(end);
    while (!digits.empty() && digits[0] == '0') digits.remove_prefix(1);
    return {digits.empty() ? 0 : 2, digits};
  }
  while (end < rest.size() && is_letter(rest[end])) ++end;
  const std::string_view word = rest.substr(0, end);
  rest.remove_prefix(end);
  const bool counted = !rest.empty() && is_digit(rest[0]);  // 3.12.0b1 comes before 3.12.0, but 1.0b after 1.0
  static constexpr std::array<std::tuple<std::string_view, int, bool>, 9> before{{{"dev", -4, false}, {"alpha", -3, false}, {"a", -3, true}, {"beta", -2, false},
      {"b", -2, true}, {"pre", -1, false}, {"preview", -1, false}, {"rc", -1, false}, {"c", -1, true}}};
  for (const auto& [name, rank, must_count] : before)
    if (compare_texts(word, name) == 0 && (counted || !must_count)) return {rank, {}};
  return {1, word};
}

Part take_part(std::string_view& rest) {
  const Part part = take_one_part(rest);
  if (part.rank != 0) return part;
  for (std::string_view ahead = rest; !ahead.empty();) {
    const Part next = take_one_part(ahead);
    if (next.rank > 0) break;
    if (next.rank < 0) {
      rest = ahead;
      return next;
    }
  }
  return part;
}

}  // namespace

std::optional<int> compare_versions(std::string_view a, std::string_view b) {
  for (std::string_view* text : {&a, &b}) {
    if (std::none_of(text->begin(), text->end(), is_digit)) return std::nullopt;
    if (text->size() > 1 && lower((*text)[0]) == 'v' && is_digit((*text)[1])) text->remove_prefix(1);
  }
  while (!a.empty() || !b.empty()) {
    const Part x = take_part(a), y = take_part(b);
    if (x.rank != y.rank) return x.rank < y.rank ? -1 : 1;
    if (x.rank == 2 && x.text.size() != y.text.size()) return x.text.size() < y.text.size() ? -1 : 1;
    if (const int order = x.rank > 0 ? compare_texts(x.text, y.text) : 0; order != 0) return order;
  }
  return 0;
}

}  // namespace souk::expression
