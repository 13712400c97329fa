// The items of a task in a job file: a list of values, or a matrix of parameters and sweeps. Pure; job_file.h has the bounds.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "submit/request.h"
#include "submit/toml_reader.h"

namespace souk {

class ItemsReader : public TomlReader {
 public:
  using TomlReader::TomlReader;

  /// items = [...]: tables become JSON objects; texts and numbers are themselves.
  Result<Items> listed(const toml::node& node) const;
  /// matrix = {...}: each combination of its parameters' values a JSON object, but for what is excluded; then what is included.
  /// fails: before anything large is made; the work of comparing is bounded over all matrices of a file
  Result<Items> combined(const toml::node& node, const toml::node* include, const toml::node* exclude);

 private:
  /// One dimension of a matrix.
  struct Axis {
    std::string key;                  // as JSON text
    std::vector<std::string> values;  // as JSON text
  };
  /// A TOML value as compact JSON text, at the end of `out`.
  Result<Done> json(const toml::node& node, std::string& out, std::size_t depth = 0) const;
  Error too_many(const toml::node& node, double count) const;
  /// { from = 1, to = 10, step = 3 }
  Result<Done> sweep(const toml::table& table, const std::string& name, Axis& axis) const;
  /// Which value of each dimension a table names, by position; -1: any.
  Result<std::vector<std::int64_t>> pick(const toml::node& node, const std::vector<Axis>& axes, std::string_view key) const;
  static std::vector<std::string> names_of(const std::vector<Axis>& axes);

  std::uint64_t work_ = 0;  // comparisons with what is excluded
};

}  // namespace souk
