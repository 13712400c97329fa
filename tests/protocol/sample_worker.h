// Attributes from a table, and values as text. For tests of expressions.
#pragma once
#include <cmath>
#include <cstdio>
#include <map>
#include <string>

#include "protocol/expression.h"

namespace souk::test {

struct SampleWorker : Attributes {
  std::map<std::string, Value, std::less<>> has;
  Value attribute(std::string_view name) const override {
    const auto at = has.find(name);
    return at == has.end() ? Value() : at->second;
  }
};

inline std::string shown(const Value& value) {
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? "true" : "false";
  if (const auto* text = std::get_if<std::string>(&value)) return '"' + *text + '"';
  if (const auto* version = std::get_if<Version>(&value)) return "version " + version->text;
  if (const auto* number = std::get_if<double>(&value)) {
    char room[40];
    std::snprintf(room, sizeof room, "%.15g", *number == 0 ? 0.0 : *number);  // -0 is 0
    return room;
  }
  return "undefined";
}

/// The value of an expression that asks for nothing.
inline Value literal(std::string_view text) { return Expression::parse(text).value().evaluate(SampleWorker()); }

}  // namespace souk::test
