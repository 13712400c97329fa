// Requirements and ranks: small expressions over what workers offer, in the spirit of ClassAds. Pure.
//
//   os == "linux" && memory >= 8GiB && has(python) && version(python) >= "3.10"
//   speed * 2 - load
//
// Grammar, operators, functions and the three-valued tables are in docs/EXPRESSIONS.md.
#pragma once
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocol/result.h"

namespace souk {

constexpr std::size_t kExpressionMax = 4096;  // bytes of one expression; longer is refused unread
constexpr int kExpressionDepthMax = 64;       // parentheses and operators inside each other

struct Undefined {
  friend bool operator==(Undefined, Undefined) = default;
};
/// Numbers are doubles; sizes are numbers of bytes, durations numbers of seconds. A text that is a version compares by its parts.
struct Version {
  std::string text;
  friend bool operator==(const Version&, const Version&) = default;
};
using Value = std::variant<Undefined, bool, double, std::string, Version>;

/// Where attributes come from. Unknown names are undefined.
class Attributes {
 public:
  virtual ~Attributes() = default;
  /// name: as written, in lower case, maybe with dots: `memory`, `tag.room`, `resource.license.matlab`, `job.owner`; `has(x)` and `version(x)` ask
  /// for `software.x`, whose value is the version as text (empty: there, but of unknown version).
  virtual Value attribute(std::string_view name) const = 0;
};

class Expression {
 public:
  /// Fails with the column (from 1) and what was expected there; in bounded time and memory whatever comes.
  static Result<Expression> parse(std::string_view text);

  Value evaluate(const Attributes& attributes) const;
  /// Canonical text: parse(text()) gives an equal expression.
  std::string text() const;
  /// The attributes it may ask for, `software.x` included.
  const std::set<std::string>& names() const { return names_; }
  /// The terms of its outermost &&; itself when there is none. For telling which part does not hold.
  std::vector<Expression> conjuncts() const;
  friend bool operator==(const Expression& a, const Expression& b) { return a.text() == b.text(); }

  struct Node;  // protocol/expression_tree.h

 private:
  explicit Expression(std::shared_ptr<const Node> root);
  std::shared_ptr<const Node> root_;
  std::set<std::string> names_;
};

/// A requirement holds only when it is true: undefined, numbers and texts do not hold.
inline bool holds(const Value& value) { return std::holds_alternative<bool>(value) && std::get<bool>(value); }
/// A rank: a number; true is 1, everything else 0, as are infinities and NaN.
double rank_of(const Value& value);

/// The attributes it asks for that no worker and no job can ever have, in order; each is undefined everywhere. Most are typing errors: `memroy`.
std::vector<std::string> unknown_names(const Expression& expression);
/// What somebody who wrote that unknown name may have meant: `memroy` -> `memory`. Empty when nothing is near.
std::string nearest_name(std::string_view name);

}  // namespace souk
