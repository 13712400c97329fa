// What expressions are written with: names, numbers with units, and how texts and versions compare. Pure; for the files of expressions only.
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace souk::expression {

inline bool is_digit(char c) { return c >= '0' && c <= '9'; }
inline bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
inline bool is_word(char c) { return is_letter(c) || is_digit(c) || c == '_'; }
/// Of ASCII only, whatever the locale: a requirement means the same everywhere.
inline char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
inline std::string lower(std::string_view text) {
  std::string small(text);
  for (char& c : small) c = lower(c);
  return small;
}

bool is_reserved(std::string_view word);
/// Length of the name at the start of `text`: words with single dots between, the first not beginning with a digit. 0: there is none.
std::size_t name_length(std::string_view text);
/// Whether `name` may stand as it is, without quotes.
bool is_plain(std::string_view name);

struct Number {
  double value = 0;
  bool plain = false;    // digits, maybe with a dot and more of them: may be meant as a version
  std::size_t size = 0;  // bytes read
  std::string why, remedy;  // of what is wrong, at `size`
};
/// Reads the number that begins with the digit at the start of `text`.
Number scan_number(std::string_view text);

int compare_texts(std::string_view a, std::string_view b);
bool contains_text(std::string_view text, std::string_view part);
/// `*` is any run of characters, `?` any one, at most text × pattern steps.
bool matches_pattern(std::string_view text, std::string_view pattern);
/// Nothing when one of them has no digit, and so is no version.
std::optional<int> compare_versions(std::string_view a, std::string_view b);

}  // namespace souk::expression
