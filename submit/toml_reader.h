// What reading a job file's TOML has in common: values of the right kind, and refusals that name line and column.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/result.h"
#include "protocol/toml.h"

namespace souk {

bool is_one_of(std::string_view word, const std::vector<std::string>& known);
/// Letters, digits, _, - and dots, at least one.
bool is_name(std::string_view name, std::size_t bytes_max);
/// `a list`, `true or false`.
std::string kind_of(const toml::node& node);
/// Keys in the order of the file: a TOML table has none of its own.
std::vector<std::pair<const toml::key*, const toml::node*>> in_order(const toml::table& table);
/// A line that has a key of `parts_max` parts or more, from 1; 0: none. The parser nests a table a part. Looks past strings and comments.
std::size_t line_of_deep_key(std::string_view text, int parts_max);

class TomlReader {
 public:
  /// name: of the file, for messages
  explicit TomlReader(const std::string& name) : name_(name) {}

  std::string failed() const;
  Error at(const toml::source_position& place, std::string why, std::string remedy) const;
  Error at(const toml::node& node, std::string why, std::string remedy) const { return at(node.source().begin, std::move(why), std::move(remedy)); }
  /// What was said elsewhere, of a value here.
  Error at(const toml::node& node, std::string_view key, const Error& error) const;
  Error wrong(const toml::node& node, std::string_view key, std::string_view expected) const;
  Error unknown(const toml::key& key, const std::vector<std::string>& known, std::string_view of) const;

  Result<std::string> text(const toml::node& node, std::string_view key, std::string_view example) const;
  Result<bool> flag(const toml::node& node, std::string_view key) const;
  Result<std::int64_t> whole(const toml::node& node, std::string_view key, std::int64_t min, std::int64_t max) const;

 private:
  std::string name_;
};

}  // namespace souk
