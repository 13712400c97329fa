#include "submit/toml_reader.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

#include "protocol/nearest.h"
#include "protocol/notation.h"

namespace souk {

bool is_one_of(std::string_view word, const std::vector<std::string>& known) { return std::find(known.begin(), known.end(), word) != known.end(); }

std::size_t line_of_deep_key(std::string_view text, int parts_max) {
  std::size_t line = 1;
  int dots = 0;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '\n') {
      ++line;
      dots = 0;
    } else if (c == '#') {
      i = std::min(text.find('\n', i), text.size()) - 1;
    } else if (c == '"' || c == '\'') {
      const bool many = text.substr(i, 3) == std::string(3, c);  // a text of several lines
      std::size_t at = i + (many ? 3 : 1);
      for (; at < text.size(); ++at) {
        if (text[at] == '\\' && c == '"') {
          ++at;
          if (at < text.size() && text[at] == '\n') ++line;
        } else if (many ? text.substr(at, 3) == std::string(3, c) : text[at] == c) {
          break;
        } else if (text[at] == '\n') {
          if (!many) break;  // never closed; the parser will say so
          ++line;
        }
      }
      i = many ? at + 2 : at;
      if (!many && at < text.size() && text[at] == '\n') --i;
    } else if (c == '.') {
      if (++dots >= parts_max) return line;
    } else if (std::string_view("=,[]{}").find(c) != std::string_view::npos) {
      dots = 0;
    }
  }
  return 0;
}

bool is_name(std::string_view name, std::size_t bytes_max) {
  return !name.empty() && name.size() <= bytes_max && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
}

std::string kind_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table: return "a table";
    case toml::node_type::array: return "a list";
    case toml::node_type::string: return "text";
    case toml::node_type::integer: return "a whole number";
    case toml::node_type::floating_point: return "a number with a fraction";
    case toml::node_type::boolean: return "true or false";
    default: return "a date or time";
  }
}

std::vector<std::pair<const toml::key*, const toml::node*>> in_order(const toml::table& table) {
  std::vector<std::pair<const toml::key*, const toml::node*>> all;
  for (const auto& [key, value] : table) all.emplace_back(&key, &value);
  const auto place = [](const auto& entry) { return std::pair(entry.first->source().begin.line, entry.first->source().begin.column); };
  std::stable_sort(all.begin(), all.end(), [&place](const auto& a, const auto& b) { return place(a) < place(b); });
  return all;
}

std::string TomlReader::failed() const { return "cannot use the job file " + souk::quoted(name_); }

Error TomlReader::at(const toml::source_position& place, std::string why, std::string remedy) const {
  return {failed(), fmt::format("line {}, column {}: {}", place.line, place.column, why), std::move(remedy)};
}

Error TomlReader::at(const toml::node& node, std::string_view key, const Error& error) const {
  return at(node.source().begin, fmt::format("{}: {}", key, error.why.empty() ? error.what : error.why), error.remedy);
}

Error TomlReader::wrong(const toml::node& node, std::string_view key, std::string_view expected) const {
  return at(node, fmt::format("{} is {}", key, kind_of(node)), fmt::format("it should be {}", expected));
}

Error TomlReader::unknown(const toml::key& key, const std::vector<std::string>& known, std::string_view of) const {
  const auto best = nearest(key.str(), known);
  return at(key.source().begin, fmt::format("{} is no key {}", souk::quoted(key.str()), of),
            best.empty() ? fmt::format("known are {}", fmt::join(known, ", ")) : fmt::format("did you mean {}?", best));
}

Result<std::string> TomlReader::text(const toml::node& node, std::string_view key, std::string_view example) const {
  const auto* value = node.as_string();
  if (!value) return wrong(node, key, fmt::format("text, such as {} = {}", key, example));
  if (value->get().find('\0') != std::string::npos) return at(node, fmt::format("{} holds a NUL byte", key), "no command can be given one");
  return value->get();
}

Result<bool> TomlReader::flag(const toml::node& node, std::string_view key) const {
  const auto* value = node.as_boolean();
  if (!value) return wrong(node, key, "true or false, without quotes");
  return value->get();
}

Result<std::int64_t> TomlReader::whole(const toml::node& node, std::string_view key, std::int64_t min, std::int64_t max) const {
  const auto* value = node.as_integer();
  if (!value) return wrong(node, key, fmt::format("a whole number from {} to {}", min, max));
  if (value->get() < min || value->get() > max) return at(node, fmt::format("{} is {}", key, value->get()), fmt::format("give a number from {} to {}", min, max));
  return value->get();
}

}  // namespace souk
