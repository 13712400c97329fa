// XEP-0004 data forms as plain values. stanza.* turns them into XML and back.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace souk {

struct Field {
  std::string var, type, label;  // type as in XEP-0004 §3.3: text-single, text-multi, boolean, list-single, hidden, fixed, ...
  std::vector<std::string> values;
  bool required = false;
  std::vector<std::pair<std::string, std::string>> options;  // label, value
};

struct Form {
  std::string type = "form";  // form, submit, result, cancel (XEP-0004 §3.1)
  std::string title, instructions;
  std::vector<Field> fields;
  std::vector<std::string> columns;                   // `reported`: names, in order; empty for none
  std::vector<std::vector<std::string>> rows;         // `item`s: one value a column
  const Field* find(std::string_view var) const;
  /// The first value of that field, or "" if there is none.
  std::string_view text(std::string_view var) const;
  Form& add(std::string var, std::string type, std::string label, std::vector<std::string> values = {});
};

/// `1`, `true` (XEP-0004 §3.3 boolean; Converse and Gajim send either); all else is false.
bool is_true(std::string_view value);

/// XML 1.0 cannot carry most control characters, nor bytes that are no UTF-8; each such byte becomes U+FFFD. Use for every text of foreign origin.
std::string printable(std::string_view text);
/// Whether printable() would leave it as it is.
bool is_printable(std::string_view text);
/// At most `bytes_max` bytes of it, cut between two UTF-8 characters.
std::string shortened(std::string_view text, std::size_t bytes_max);

}  // namespace souk
