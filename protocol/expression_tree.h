// Expressions as trees. What is written beside each other without parentheses (a && b && ..., x + y - ..., else after else) is one flat node, so only what
// really is inside something else costs stack. For the files of expressions only.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/expression.h"

namespace souk {
namespace expression {

enum class Call : std::uint8_t {
  has, version, attribute, defined, otherwise, exactly, number, as_version, lower, contains, starts, ends, matches, min, max, abs, floor, ceil, round
};
inline constexpr std::size_t kMany = ~std::size_t{0};
struct Function {
  std::string_view name;
  Call call;
  std::size_t least, most;  // arguments
  std::string_view usage;
};
inline constexpr std::array<Function, 19> kFunctions{{
    {"has", Call::has, 1, 1, "has(python)"},
    {"version", Call::version, 1, 1, "version(python)"},
    {"attribute", Call::attribute, 1, 1, "attribute(\"tag.my-key\")"},
    {"defined", Call::defined, 1, 1, "defined(value)"},
    {"default", Call::otherwise, 2, 2, "default(value, instead)"},
    {"exactly", Call::exactly, 2, 2, "exactly(a, b)"},
    {"number", Call::number, 1, 1, "number(text)"},
    {"as_version", Call::as_version, 1, 1, "as_version(text)"},
    {"lower", Call::lower, 1, 1, "lower(text)"},
    {"contains", Call::contains, 2, 2, "contains(text, part)"},
    {"starts", Call::starts, 2, 2, "starts(text, beginning)"},
    {"ends", Call::ends, 2, 2, "ends(text, end)"},
    {"matches", Call::matches, 2, 2, "matches(text, \"pattern*\")"},
    {"min", Call::min, 1, kMany, "min(a, b, ...)"},
    {"max", Call::max, 1, kMany, "max(a, b, ...)"},
    {"abs", Call::abs, 1, 1, "abs(x)"},
    {"floor", Call::floor, 1, 1, "floor(x)"},
    {"ceil", Call::ceil, 1, 1, "ceil(x)"},
    {"round", Call::round, 1, 1, "round(x)"},
}};

inline constexpr std::string_view kSoftware = "software.";  // what has() and version() look below
inline bool takes_a_name(Call call) { return call == Call::has || call == Call::version || call == Call::attribute; }

enum class Kind : std::uint8_t { literal, number, name, call, negative, opposite, product, sum, relation, equality, in, both, either, choice };
enum class Relation : std::uint8_t { less, less_equal, greater, greater_equal, equal, unequal };
inline constexpr std::array<std::string_view, 6> kRelations{"<", "<=", ">", ">=", "==", "!="};

/// How strongly an operator binds; parentheses are needed around what binds less than its place asks.
enum Level : int { kChoice = 1, kEither, kBoth, kEquality, kRelation, kSum, kProduct, kUnary, kPrimary };

}  // namespace expression

struct Expression::Node {
  expression::Kind kind = expression::Kind::literal;
  expression::Relation relation = expression::Relation::less;
  bool plain = false;                  // a number that may be meant as a version
  const expression::Function* function = nullptr;  // of a call
  Value value;                         // of a literal or number
  std::string text;                    // of a number as it was written; of a name or of has() and version(): the attribute asked for
  std::string signs;                   // of a sum or product: the operator before parts[i + 1]
  std::vector<std::shared_ptr<const Node>> parts;  // a choice has condition, value, condition, value, ..., otherwise
};

namespace expression {

using Node = Expression::Node;
using Tree = std::shared_ptr<const Node>;

inline Level level_of(const Node& node) {
  switch (node.kind) {
    case Kind::choice: return kChoice;
    case Kind::either: return kEither;
    case Kind::both: return kBoth;
    case Kind::equality: return kEquality;
    case Kind::relation: case Kind::in: return kRelation;
    case Kind::sum: return kSum;
    case Kind::product: return kProduct;
    case Kind::negative: case Kind::opposite: return kUnary;
    default: return kPrimary;
  }
}

/// Text to tree, by operator precedence (Pratt); never null.
Result<Tree> parse(std::string_view text);
/// Tree to text. spaced: as people write it. Otherwise with no more bytes than any way to write the same tree.
std::string print(const Node& node, bool spaced);
Value value_of(const Node& node, const Attributes& attributes);

}  // namespace expression
}  // namespace souk
