#include "protocol/form.h"

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "protocol/quoting.h"

namespace souk {

const Field* Form::find(std::string_view var) const {
  const auto it = std::find_if(fields.begin(), fields.end(), [&](const Field& field) { return field.var == var; });
  return it == fields.end() ? nullptr : &*it;
}

std::string_view Form::text(std::string_view var) const {
  const Field* field = find(var);
  return field && !field->values.empty() ? std::string_view(field->values.front()) : std::string_view();
}

Form& Form::add(std::string var, std::string field_type, std::string label, std::vector<std::string> values) {
  Field field;
  field.var = std::move(var);
  field.type = std::move(field_type);
  field.label = std::move(label);
  field.values = std::move(values);
  fields.push_back(std::move(field));
  return *this;
}

bool is_true(std::string_view value) { return value == "1" || value == "true"; }

namespace {

/// Length of the UTF-8 sequence at the start of `text` (not empty) if it is well formed and a Char of XML 1.0 §2.2, else 0.
std::size_t xml_char(std::string_view text) {
  const auto lead = static_cast<std::uint8_t>(text[0]);
  if (lead < 0x80) return lead >= 0x20 || lead == '\t' || lead == '\n' || lead == '\r' ? 1 : 0;
  return text.starts_with("\xEF\xBF\xBE") || text.starts_with("\xEF\xBF\xBF") ? 0 : utf8_length(text);  // U+FFFE, U+FFFF
}

/// Where the first character that XML cannot carry begins, or the end.
std::size_t first_unprintable(std::string_view text, std::size_t from) {
  while (from < text.size()) {
    if (from + 8 <= text.size()) {  // eight at a time as long as it is plain ASCII, which base64 always is
      std::uint64_t word;
      std::memcpy(&word, text.data() + from, sizeof word);
      // The top bit of a byte of `low` is set where that byte of `word` is below 0x20 (or follows one that is: then we look closer).
      const std::uint64_t low = (word - 0x2020202020202020u) & ~word;
      if (((word | low) & 0x8080808080808080u) == 0) {
        from += 8;
        continue;
      }
    }
    const std::size_t size = xml_char(text.substr(from, 4));
    if (size == 0) break;
    from += size;
  }
  return from;
}

}  // namespace

bool is_printable(std::string_view text) { return first_unprintable(text, 0) == text.size(); }

std::string printable(std::string_view text) {
  std::string clean;
  clean.reserve(text.size());
  for (std::size_t from = 0; from < text.size();) {
    const std::size_t to = first_unprintable(text, from);
    clean.append(text.substr(from, to - from));
    if (to == text.size()) break;
    clean += "\xEF\xBF\xBD";  // U+FFFD, one for each byte that cannot stay
    from = to + 1;
  }
  return clean;
}

std::string shortened(std::string_view text, std::size_t bytes_max) {
  if (text.size() > bytes_max) {
    while (bytes_max > 0 && (static_cast<std::uint8_t>(text[bytes_max]) & 0xC0) == 0x80) --bytes_max;  // never inside a character
    text = text.substr(0, bytes_max);
  }
  return std::string(text);
}

}  // namespace souk
