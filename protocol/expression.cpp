// Text to tree by operator precedence (Pratt), tree to value, tree to text. What is written beside each other without parentheses
// (a && b && ..., x + y - ..., else after else) is one flat node, so only what really is inside something else costs stack.
#include "protocol/expression.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <utility>

#include "protocol/form.h"
#include "protocol/nearest.h"
#include "protocol/notation.h"

namespace souk {
namespace {

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_word(char c) { return is_letter(c) || is_digit(c) || c == '_'; }
/// Of ASCII only, whatever the locale: a requirement means the same everywhere.
char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
std::string lower(std::string_view text) {
  std::string small(text);
  for (char& c : small) c = lower(c);
  return small;
}

// ---- Functions

enum class Call : std::uint8_t {
  has, version, attribute, defined, otherwise, exactly, number, as_version, lower, contains, starts, ends, matches, min, max, abs, floor, ceil, round
};
constexpr std::size_t kMany = ~std::size_t{0};
struct Function {
  std::string_view name;
  Call call;
  std::size_t least, most;  // arguments
  std::string_view usage;
};
constexpr std::array<Function, 19> kFunctions{{
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

constexpr std::string_view kSoftware = "software.";  // what has() and version() look below
bool takes_a_name(Call call) { return call == Call::has || call == Call::version || call == Call::attribute; }

bool is_reserved(std::string_view word) { return word == "true" || word == "false" || word == "undefined" || word == "in"; }

/// Length of the name at the start of `text`: words with single dots between, the first not beginning with a digit. 0: there is none.
std::size_t name_length(std::string_view text) {
  if (text.empty() || !is_word(text[0]) || is_digit(text[0])) return 0;
  std::size_t end = 1;
  while (end < text.size() && (is_word(text[end]) || (text[end] == '.' && end + 1 < text.size() && is_word(text[end + 1])))) ++end;
  return end;
}
/// Whether `name` may stand as it is, without quotes.
bool is_plain(std::string_view name) { return !name.empty() && name_length(name) == name.size() && !is_reserved(name); }

// ---- Numbers

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

struct Number {
  double value = 0;
  bool plain = false;    // digits, maybe with a dot and more of them: may be meant as a version
  std::size_t size = 0;  // bytes read
  std::string why, remedy;  // of what is wrong, at `size`
};

/// Reads the number that begins with the digit at the start of `text`.
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

/// `*` is any run of characters, `?` any one. Goes back to the last star only, so it takes at most text × pattern steps.
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

/// Nothing when one of them has no digit, and so is no version.
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

// ---- Trees

enum class Kind : std::uint8_t { literal, number, name, call, negative, opposite, product, sum, relation, equality, in, both, either, choice };
enum class Relation : std::uint8_t { less, less_equal, greater, greater_equal, equal, unequal };
constexpr std::array<std::string_view, 6> kRelations{"<", "<=", ">", ">=", "==", "!="};

/// How strongly an operator binds; parentheses are needed around what binds less than its place asks.
enum Level : int { kChoice = 1, kEither, kBoth, kEquality, kRelation, kSum, kProduct, kUnary, kPrimary };

}  // namespace

struct Expression::Node {
  Kind kind = Kind::literal;
  Relation relation = Relation::less;
  bool plain = false;                  // a number that may be meant as a version
  const Function* function = nullptr;  // of a call
  Value value;                         // of a literal or number
  std::string text;                    // of a number as it was written; of a name or of has() and version(): the attribute asked for
  std::string signs;                   // of a sum or product: the operator before parts[i + 1]
  std::vector<std::shared_ptr<const Node>> parts;  // a choice has condition, value, condition, value, ..., otherwise
};

namespace {

using Node = Expression::Node;
using Tree = std::shared_ptr<const Node>;

Level level_of(const Node& node) {
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

// ---- Text to tree

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) { next(); }

  Result<Tree> all() {
    Tree tree = level(kChoice);
    if (tree && token_ != Token::end) tree = unexpected("an operator or the end");
    if (error_) return *error_;
    return tree;
  }

 private:
  enum class Token : std::uint8_t { end, number, text, name, sign };

  /// The first failure is the one told; everything unwinds on the null it returns.
  Tree fail(std::size_t at, std::string why, std::string remedy) {
    if (!error_) {
      const auto column = 1 + std::count_if(text_.begin(), text_.begin() + static_cast<std::ptrdiff_t>(at), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
      error_ = Error{"cannot read the expression", "column " + std::to_string(column) + ": " + std::move(why), std::move(remedy)};
    }
    token_ = Token::end, begin_ = end_ = text_.size();
    return nullptr;
  }

  Tree unexpected(const std::string& expected, std::string remedy = "") {
    const std::string_view found = source();
    if (remedy.empty() && token_ == Token::name) {
      const std::string word = lower(found);
      if (word == "and" || word == "or") remedy = std::string("write ") + (word == "and" ? "&&" : "||") + " for " + word;
      if (word == "is") remedy = "write ==";
      if (word == "not") remedy = "write !(a in (b, c)) for a not in (b, c)";
      if (last_name_ == "not") remedy = "write ! for not";
    }
    return fail(begin_, "expected " + expected + ", found " + (token_ == Token::end ? "the end" : quoted(found)), std::move(remedy));
  }

  std::string_view source() const { return text_.substr(begin_, end_ - begin_); }
  bool is(std::string_view sign) const { return token_ == Token::sign && source() == sign; }
  bool is_in() const { return token_ == Token::name && end_ - begin_ == 2 && lower(source()) == "in"; }

  void next() {
    if (error_) return;
    last_name_ = token_ == Token::name ? lower(source()) : "";
    operand_next_ = token_ == Token::sign && !is(")") && !is("]");
    begin_ = end_;
    while (begin_ < text_.size() && (text_[begin_] == ' ' || text_[begin_] == '\t' || text_[begin_] == '\n' || text_[begin_] == '\r')) ++begin_;
    end_ = begin_;
    if (begin_ == text_.size()) {
      token_ = Token::end;
      return;
    }
    const char c = text_[begin_];
    const std::string_view rest = text_.substr(begin_);
    if (is_digit(c)) {
      number_ = scan_number(rest);
      if (!number_.why.empty()) return void(fail(begin_ + number_.size, number_.why, number_.remedy));
      token_ = Token::number, end_ += number_.size;
    } else if (const auto size = name_length(rest)) {
      token_ = Token::name, end_ += size;
    } else if (c == '"' || c == '\'') {
      scan_text(c);
    } else {
      scan_sign(rest);
    }
  }

  void scan_text(char quote) {
    token_ = Token::text;
    string_.clear();
    for (std::size_t at = begin_ + 1; at < text_.size(); ++at) {
      const char c = text_[at];
      if (c == quote) {
        end_ = at + 1;
        return;
      }
      if (static_cast<unsigned char>(c) < 0x20) return void(fail(at, "a text holds a line break or tab", "write \\n, \\r or \\t"));
      if (c != '\\') {
        string_ += c;
        continue;
      }
      if (++at == text_.size()) break;
      switch (text_[at]) {
        case 'n': string_ += '\n'; break;
        case 't': string_ += '\t'; break;
        case 'r': string_ += '\r'; break;
        case '\\': case '"': case '\'': string_ += text_[at]; break;
        default: return void(fail(at - 1, "no such escape", "a text knows \\n, \\t, \\r, \\\\, \\\" and \\'"));
      }
    }
    fail(begin_, std::string("the text that begins here has no end"), std::string("close it with ") + quote);
  }

  void scan_sign(std::string_view rest) {
    static constexpr std::array<std::string_view, 6> two{"&&", "||", "==", "!=", "<=", ">="};
    static constexpr std::string_view one = "<>!-+*/%?:(),[]";
    token_ = Token::sign;
    if (rest.starts_with("=~") || rest.starts_with("!~")) return void(fail(begin_, "there are no regular expressions", "write matches(text, \"pattern*\")"));
    const bool pair = std::find(two.begin(), two.end(), rest.substr(0, 2)) != two.end();
    if (pair || one.find(rest[0]) != one.npos) {
      end_ += pair ? 2 : 1;
      return;
    }
    std::size_t size = 1;
    while (size < rest.size() && (static_cast<unsigned char>(rest[size]) & 0xC0) == 0x80) ++size;
    const std::string_view character = rest.substr(0, size);
    std::string remedy;
    if (character == "=") remedy = "write == to compare";
    if (character == "&" || character == "|") remedy = "write " + std::string(2, character[0]);
    if (character == ".") remedy = "a number begins with a digit: 0.5";
    if (character.starts_with("\xE2\x80")) remedy = "write plain quotes: \"text\"";
    fail(begin_, "expected " + std::string(operand_next_ ? "a value" : "an operator") + ", found " + quoted(character), remedy);
  }

  bool expect(std::string_view sign, const std::string& remedy = "") {
    if (!is(sign)) {
      unexpected(quoted(sign), remedy);
      return false;
    }
    next();
    return !error_;
  }

  struct Deeper {
    explicit Deeper(int& depth) : depth_(depth) { ++depth_; }
    Deeper(const Deeper&) = delete;
    ~Deeper() { --depth_; }
    int& depth_;
  };
  Tree too_deep() { return fail(begin_, "more than " + std::to_string(kExpressionDepthMax) + " things inside each other", "write it flatter"); }

  static std::shared_ptr<Node> make(Kind kind, std::vector<Tree> parts = {}) {
    auto node = std::make_shared<Node>();
    node->kind = kind, node->parts = std::move(parts);
    return node;
  }

  static Level infix_level(std::string_view sign) {
    if (sign == "?") return kChoice;
    if (sign == "||") return kEither;
    if (sign == "&&") return kBoth;
    if (sign == "==" || sign == "!=") return kEquality;
    if (sign == "<" || sign == "<=" || sign == ">" || sign == ">=") return kRelation;
    if (sign == "+" || sign == "-") return kSum;
    if (sign == "*" || sign == "/" || sign == "%") return kProduct;
    return Level{0};
  }
  Level infix() const {
    if (is_in()) return kRelation;
    return token_ == Token::sign ? infix_level(source()) : Level{0};
  }

  /// What binds at least as strongly as `least`.
  Tree level(Level least) {
    Tree left = prefix();
    while (left) {
      const Level here = infix();
      if (here == 0 || here < least) break;
      switch (here) {
        case kChoice: left = choice(std::move(left)); break;
        case kEither: case kBoth: case kSum: case kProduct: left = chain(here, std::move(left)); break;
        default:
          left = is_in() ? list(std::move(left)) : comparison(here, std::move(left));
          if (left && infix() == here) return fail(begin_, "comparisons do not follow each other", "join two with &&: 1 < x && x < 5");
      }
    }
    return left;
  }

  Tree chain(Level here, Tree first) {
    auto node = make(here == kEither ? Kind::either : here == kBoth ? Kind::both : here == kSum ? Kind::sum : Kind::product);
    const bool logic = here == kEither || here == kBoth;
    // (a && b) && c and a && (b && c) are both a && b && c, since the three-valued tables are associative; rounding is not, so x + (y + z) stays.
    const auto add = [&](const Tree& part, bool may_join) {
      if (part->kind != node->kind || !may_join) return node->parts.push_back(part);
      node->parts.insert(node->parts.end(), part->parts.begin(), part->parts.end());
      node->signs += part->signs;
    };
    add(first, true);
    while (infix() == here) {
      if (!logic) node->signs += source()[0];
      next();
      const Tree part = level(Level{here + 1});
      if (!part) return nullptr;
      add(part, logic);
    }
    return node;
  }

  Tree comparison(Level here, Tree left) {
    auto node = make(here == kEquality ? Kind::equality : Kind::relation);
    node->relation = static_cast<Relation>(std::find(kRelations.begin(), kRelations.end(), source()) - kRelations.begin());
    next();
    Tree right = level(Level{here + 1});
    if (!right) return nullptr;
    node->parts = {std::move(left), std::move(right)};
    return node;
  }

  Tree list(Tree left) {
    next();
    auto node = make(Kind::in, {std::move(left)});
    if (!expect("(", "write x in (1, 2, 3)") || !arguments(node->parts)) return nullptr;
    return node;
  }

  Tree choice(Tree condition) {
    auto node = make(Kind::choice, {std::move(condition)});
    do {
      next();
      const Deeper deeper(depth_);
      if (depth_ > kExpressionDepthMax) return too_deep();
      Tree value = level(kChoice);
      if (!value || !expect(":", "write condition ? value : otherwise")) return nullptr;
      node->parts.push_back(std::move(value));
      Tree otherwise = level(kEither);
      if (!otherwise) return nullptr;
      node->parts.push_back(std::move(otherwise));
    } while (is("?"));
    if (const Tree last = node->parts.back(); last->kind == Kind::choice) {  // a ? b : (c ? d : e) is a ? b : c ? d : e
      node->parts.pop_back();
      node->parts.insert(node->parts.end(), last->parts.begin(), last->parts.end());
    }
    return node;
  }

  /// One or more, up to the closing parenthesis, which is passed.
  bool arguments(std::vector<Tree>& into) {
    const Deeper deeper(depth_);
    if (depth_ > kExpressionDepthMax) return too_deep() != nullptr;
    for (;;) {
      Tree one = level(kChoice);
      if (!one) return false;
      into.push_back(std::move(one));
      if (is(",")) {
        next();
        continue;
      }
      if (is(")")) {
        next();
        return !error_;
      }
      unexpected("',' or ')'");
      return false;
    }
  }

  Tree prefix() {
    if (error_) return nullptr;
    if (is("-") || is("!")) {
      const Deeper deeper(depth_);
      if (depth_ > kExpressionDepthMax) return too_deep();
      const Kind kind = is("-") ? Kind::negative : Kind::opposite;
      next();
      Tree operand = prefix();
      return operand ? Tree(make(kind, {std::move(operand)})) : nullptr;
    }
    if (is("(")) {
      const Deeper deeper(depth_);
      if (depth_ > kExpressionDepthMax) return too_deep();
      next();
      Tree inside = level(kChoice);
      if (!inside || !expect(")", "close the parenthesis")) return nullptr;
      return inside;
    }
    if (token_ == Token::name && !is_in()) return name();
    auto node = make(Kind::literal);
    if (token_ == Token::number) {
      node->kind = Kind::number, node->plain = number_.plain, node->value = number_.value, node->text = source();
    } else if (token_ == Token::text) {
      node->value = string_;
    } else {
      return unexpected("a value", is("=") ? "write == to compare" : "");
    }
    next();
    return error_ ? nullptr : Tree(node);
  }

  Tree name() {
    const std::size_t begin = begin_;
    std::string word = lower(source());
    next();
    if (error_) return nullptr;
    if (is_reserved(word)) {
      auto node = make(Kind::literal);
      if (word != "undefined") node->value = word == "true";
      return node;
    }
    if (is("(")) return call(begin, word);
    auto node = make(Kind::name);
    if (is("[")) {
      next();
      if (token_ != Token::text || string_.empty()) return unexpected("a text", "write " + word.substr(0, 60) + "[\"my-key\"]");
      word += "." + lower(string_);
      next();
      if (!expect("]")) return nullptr;
    }
    node->text = std::move(word);
    return node;
  }

  Tree call(std::size_t begin, const std::string& word) {
    const auto* function = std::find_if(kFunctions.begin(), kFunctions.end(), [&](const Function& one) { return one.name == word; });
    if (function == kFunctions.end()) {
      std::vector<std::string> names;
      std::string all;
      for (const Function& one : kFunctions) names.emplace_back(one.name), all += (all.empty() ? "" : ", ") + names.back();
      const std::string best = nearest(word, names);
      return fail(begin, "no function is called " + quoted(word), best.empty() ? "functions are " + all : "did you mean " + best + "?");
    }
    next();
    if (takes_a_name(function->call)) return call_by_name(*function);
    auto node = make(Kind::call);
    node->function = function;
    if (is(")")) return unexpected("a value", "write " + std::string(function->usage));
    if (!arguments(node->parts)) return nullptr;
    if (node->parts.size() < function->least || node->parts.size() > function->most)
      return fail(begin, word + "() takes " + std::to_string(function->least) + (function->most == kMany ? " or more" : "") + (function->least == 1 ? " value, not " : " values, not ") +
                             std::to_string(node->parts.size()), "write " + std::string(function->usage));
    return node;
  }

  Tree call_by_name(const Function& function) {
    const std::string remedy = "write " + std::string(function.usage) + (function.call == Call::attribute ? "" : "; put a name with other characters in quotes: has(\"g++\")");
    const bool text = token_ == Token::text && !string_.empty();
    const bool bare = function.call != Call::attribute && token_ == Token::name && is_plain(lower(source()));
    if (!text && !bare) return unexpected(function.call == Call::attribute ? "a text" : "a name", remedy);
    std::string name = lower(text ? std::string_view(string_) : source());
    next();
    if (!expect(")", remedy)) return nullptr;
    auto node = make(function.call == Call::attribute ? Kind::name : Kind::call);
    node->function = &function;
    node->text = function.call == Call::attribute ? std::move(name) : std::string(kSoftware) + name;
    return node;
  }

  std::string_view text_;
  Token token_ = Token::sign;
  std::size_t begin_ = 0, end_ = 0;  // of the token
  Number number_;
  std::string string_;
  std::string last_name_;  // the token before, if it was a name
  bool operand_next_ = true;
  int depth_ = 0;
  std::optional<Error> error_;
};

// ---- Tree to text

class Printer {
 public:
  /// spaced: as people write it. Otherwise with no more bytes than any way to write the same tree.
  explicit Printer(bool spaced) : gap_(spaced ? " " : "") {}

  std::string print(const Node& node) {
    put(node, kChoice);
    return std::move(text_);
  }

 private:
  void put(const Node& node, Level least) {
    const bool closed = level_of(node) < least;
    if (closed) text_ += '(';
    inside(node);
    if (closed) text_ += ')';
  }

  void inside(const Node& node) {
    switch (node.kind) {
      case Kind::literal:
        if (const auto* text = std::get_if<std::string>(&node.value)) put_text(*text);
        else if (const auto* truth = std::get_if<bool>(&node.value)) text_ += *truth ? "true" : "false";
        else text_ += "undefined";
        break;
      case Kind::number: text_ += node.text; break;
      case Kind::name: put_name(node.text); break;
      case Kind::call: put_call(node); break;
      case Kind::negative: case Kind::opposite:
        text_ += node.kind == Kind::negative ? '-' : '!';
        put(*node.parts[0], kUnary);
        break;
      case Kind::sum: case Kind::product: case Kind::both: case Kind::either:
        for (std::size_t i = 0; i < node.parts.size(); ++i) {
          if (i > 0) put_sign(node.kind == Kind::both ? "&&" : node.kind == Kind::either ? "||" : std::string_view(&node.signs[i - 1], 1));
          put(*node.parts[i], Level{level_of(node) + (i > 0 ? 1 : 0)});
        }
        break;
      case Kind::relation: case Kind::equality:
        put(*node.parts[0], Level{level_of(node) + 1});
        put_sign(kRelations[static_cast<std::size_t>(node.relation)]);
        put(*node.parts[1], Level{level_of(node) + 1});
        break;
      case Kind::in:
        put(*node.parts[0], Level{kRelation + 1});
        if (!gap_.empty() || is_word(text_.back())) text_ += ' ';
        text_ += "in" + std::string(gap_);
        put_arguments(node, 1);
        break;
      case Kind::choice:
        for (std::size_t i = 0; i < node.parts.size(); ++i) {
          if (i > 0) put_sign(i % 2 == 1 ? "?" : ":");
          put(*node.parts[i], i % 2 == 1 ? kChoice : kEither);
        }
    }
  }

  void put_sign(std::string_view sign) { text_.append(gap_).append(sign).append(gap_); }

  void put_arguments(const Node& node, std::size_t from) {
    text_ += '(';
    for (std::size_t i = from; i < node.parts.size(); ++i) {
      if (i > from) text_.append(",").append(gap_);
      put(*node.parts[i], kChoice);
    }
    text_ += ')';
  }

  void put_call(const Node& node) {
    text_ += node.function->name;
    if (!takes_a_name(node.function->call)) return put_arguments(node, 0);
    const std::string_view name = std::string_view(node.text).substr(kSoftware.size());
    text_ += '(';
    if (is_plain(name)) text_ += name;
    else put_text(name);
    text_ += ')';
  }

  void put_name(const std::string& name) {
    if (is_plain(name)) {
      text_ += name;
      return;
    }
    const auto dot = name.find('.');
    const bool indexed = dot != name.npos && dot + 1 < name.size() && is_plain(std::string_view(name).substr(0, dot));
    text_ += indexed ? name.substr(0, dot) + "[" : "attribute(";
    put_text(indexed ? std::string_view(name).substr(dot + 1) : std::string_view(name));
    text_ += indexed ? ']' : ')';
  }

  void put_text(std::string_view text) {
    const auto doubles = std::count(text.begin(), text.end(), '"'), singles = std::count(text.begin(), text.end(), '\'');
    const char quote = doubles > singles ? '\'' : '"';  // what needs fewer backslashes
    text_ += quote;
    for (const char c : text) {
      if (c == '\n') text_ += "\\n";
      else if (c == '\t') text_ += "\\t";
      else if (c == '\r') text_ += "\\r";
      else if (c == quote || c == '\\') text_.append("\\").append(1, c);
      else text_ += c;
    }
    text_ += quote;
  }

  std::string_view gap_;
  std::string text_;
};

// ---- Tree to value

enum class Truth : std::uint8_t { no, unknown, yes };
Truth truth_of(const Value& value) {
  const bool* truth = std::get_if<bool>(&value);
  return !truth ? Truth::unknown : *truth ? Truth::yes : Truth::no;
}

Value finite(double number) { return std::isfinite(number) ? Value(number) : Value(); }

std::optional<double> number_of(const Value& value) {
  if (const auto* number = std::get_if<double>(&value)) return *number;
  if (const auto* truth = std::get_if<bool>(&value)) return *truth ? 1 : 0;
  return std::nullopt;
}

/// A text or a version as it is spelled.
const std::string* text_of(const Value& value) {
  if (const auto* text = std::get_if<std::string>(&value)) return text;
  const auto* version = std::get_if<Version>(&value);
  return version ? &version->text : nullptr;
}

class Evaluation {
 public:
  explicit Evaluation(const Attributes& attributes) : attributes_(attributes) {}

  Value value(const Node& node) const {
    switch (node.kind) {
      case Kind::literal: case Kind::number: return node.value;
      case Kind::name: return asked(node.text);
      case Kind::call: return called(node);
      case Kind::negative: {
        const auto number = number_of(value(*node.parts[0]));
        return number ? Value(-*number) : Value();
      }
      case Kind::opposite: {
        const Truth truth = truth_of(value(*node.parts[0]));
        return truth == Truth::unknown ? Value() : Value(truth == Truth::no);
      }
      case Kind::both: case Kind::either: {
        const Truth decides = node.kind == Kind::both ? Truth::no : Truth::yes;  // whatever the others are
        bool known = true;
        for (const Tree& part : node.parts) {
          const Truth truth = truth_of(value(*part));
          if (truth == decides) return decides == Truth::yes;
          known &= truth != Truth::unknown;
        }
        return known ? Value(decides == Truth::no) : Value();
      }
      case Kind::sum: case Kind::product: return calculated(node);
      case Kind::relation: case Kind::equality: {
        Value left, right;
        return compared(*node.parts[0], look(*node.parts[0], left), node.relation, *node.parts[1], look(*node.parts[1], right));
      }
      case Kind::in: {
        Value left;
        const Value& wanted = look(*node.parts[0], left);
        bool known = true;
        for (std::size_t i = 1; i < node.parts.size(); ++i) {
          Value right;
          const Truth truth = truth_of(compared(*node.parts[0], wanted, Relation::equal, *node.parts[i], look(*node.parts[i], right)));
          if (truth == Truth::yes) return true;
          known &= truth != Truth::unknown;
        }
        return known ? Value(false) : Value();
      }
      case Kind::choice:
        for (std::size_t i = 0; i + 1 < node.parts.size(); i += 2) {
          const Truth truth = truth_of(value(*node.parts[i]));
          if (truth == Truth::unknown) return {};
          if (truth == Truth::yes) return value(*node.parts[i + 1]);
        }
        return value(*node.parts.back());
    }
    return {};
  }

 private:
  /// Its value without a copy of what the tree itself holds; `room` holds the others.
  const Value& look(const Node& node, Value& room) const {
    if (node.kind == Kind::literal || node.kind == Kind::number) return node.value;
    room = value(node);
    return room;
  }

  Value asked(const std::string& name) const {
    Value value = attributes_.attribute(name);
    if (const auto* number = std::get_if<double>(&value); number && !std::isfinite(*number)) return {};
    if (name.starts_with(kSoftware) && std::holds_alternative<std::string>(value))  // also when it is asked for by its full name
      if (const Value version = version_of(value); std::holds_alternative<Version>(version)) return version;
    return value;
  }

  static Value compared(const Node& left_node, const Value& left, Relation relation, const Node& right_node, const Value& right) {
    const auto told = [relation](int order) -> Value {
      switch (relation) {
        case Relation::less: return order < 0;
        case Relation::less_equal: return order <= 0;
        case Relation::greater: return order > 0;
        case Relation::greater_equal: return order >= 0;
        case Relation::equal: return order == 0;
        case Relation::unequal: return order != 0;
      }
      return {};
    };
    if (const auto *a = std::get_if<double>(&left), *b = std::get_if<double>(&right); a && b) return told(*a < *b ? -1 : *a > *b ? 1 : 0);
    if (std::holds_alternative<Version>(left) || std::holds_alternative<Version>(right)) {
      const std::string* a = left_node.plain ? &left_node.text : text_of(left);  // 3.10 as it was written, which the number has forgotten
      const std::string* b = right_node.plain ? &right_node.text : text_of(right);
      const auto order = a && b ? compare_versions(*a, *b) : std::nullopt;
      return order ? told(*order) : Value();
    }
    if (const auto *a = std::get_if<std::string>(&left), *b = std::get_if<std::string>(&right); a && b) return told(compare_texts(*a, *b));
    if (const auto *a = std::get_if<bool>(&left), *b = std::get_if<bool>(&right); a && b && relation >= Relation::equal) return told(*a == *b ? 0 : 1);
    return {};
  }

  Value calculated(const Node& node) const {
    Value room;
    std::optional<double> total = number_of(look(*node.parts[0], room));
    for (std::size_t i = 1; total && i < node.parts.size(); ++i) {
      const auto next = number_of(look(*node.parts[i], room));
      if (!next) return {};
      switch (node.signs[i - 1]) {
        case '+': *total += *next; break;
        case '-': *total -= *next; break;
        case '*': *total *= *next; break;
        case '/': *total /= *next; break;
        default: *total = std::fmod(*total, *next); break;
      }
      if (!std::isfinite(*total)) return {};  // too large, or divided by zero
    }
    return total ? Value(*total) : Value();
  }

  Value called(const Node& node) const {
    const Call call = node.function->call;
    if (call == Call::has) return !std::holds_alternative<Undefined>(asked(node.text));
    if (call == Call::version) return version_of(asked(node.text));
    Value first_room, second_room;
    const Value& first = look(*node.parts[0], first_room);
    switch (call) {
      case Call::defined: return !std::holds_alternative<Undefined>(first);
      case Call::otherwise: return std::holds_alternative<Undefined>(first) ? value(*node.parts[1]) : first;
      case Call::exactly: return first == look(*node.parts[1], second_room);
      case Call::number: return read_number(first);
      case Call::as_version: return version_of(first);
      case Call::lower: {
        const std::string* text = text_of(first);
        return text ? Value(lower(*text)) : Value();
      }
      case Call::contains: case Call::starts: case Call::ends: case Call::matches: {
        const std::string *text = text_of(first), *part = text_of(look(*node.parts[1], second_room));
        if (!text || !part) return {};
        if (call == Call::contains) return contains_text(*text, *part);
        if (call == Call::matches) return matches_pattern(*text, *part);
        if (part->size() > text->size()) return false;
        return compare_texts(std::string_view(*text).substr(call == Call::starts ? 0 : text->size() - part->size(), part->size()), *part) == 0;
      }
      default: break;
    }
    std::optional<double> number = number_of(first);
    if (!number) return {};
    switch (call) {
      case Call::abs: return std::fabs(*number);
      case Call::floor: return std::floor(*number);
      case Call::ceil: return std::ceil(*number);
      case Call::round: return std::round(*number);
      default: break;
    }
    for (std::size_t i = 1; i < node.parts.size(); ++i) {
      const auto next = number_of(look(*node.parts[i], second_room));
      if (!next) return {};
      number = call == Call::min ? std::min(*number, *next) : std::max(*number, *next);
    }
    return *number;
  }

  static Value version_of(const Value& value) {
    const std::string* text = text_of(value);
    return text && std::any_of(text->begin(), text->end(), is_digit) ? Value(Version{*text}) : Value();
  }

  /// A text with a number in it, which may have a sign, a unit, and spaces around.
  static Value read_number(const Value& value) {
    if (const auto number = number_of(value)) return *number;
    const auto* held = std::get_if<std::string>(&value);
    if (!held) return {};
    std::string_view text = *held;
    while (!text.empty() && text.front() == ' ') text.remove_prefix(1);
    while (!text.empty() && text.back() == ' ') text.remove_suffix(1);
    const bool negative = text.starts_with('-');
    if (negative || text.starts_with('+')) text.remove_prefix(1);
    if (text.empty() || !is_digit(text[0])) return {};
    const Number number = scan_number(text);
    return number.why.empty() && number.size == text.size() ? finite(negative ? -number.value : number.value) : Value();
  }

  const Attributes& attributes_;
};

void collect(const Node& node, std::set<std::string>& names) {
  if (!node.text.empty() && node.kind != Kind::number) names.insert(node.text);
  for (const Tree& part : node.parts) collect(*part, names);
}

const std::vector<std::string>& attribute_names() {
  static const std::vector<std::string> names{"arch", "bwrap", "cgroup", "cpu_model", "cpus", "disk", "gpu", "gpus", "hostname", "load", "memory", "name", "network", "os", "owner", "reliability", "running", "sandbox", "slots",
      "speed", "version", "job.cpus", "job.gpus", "job.memory", "job.name", "job.owner", "job.priority", "job.tasks"};
  return names;
}
const std::vector<std::string>& attribute_families() {
  static const std::vector<std::string> names{"resource", "service", "software", "tag"};
  return names;
}
bool is_known(const std::string& name) {
  const auto in = [](const std::vector<std::string>& names, const std::string& wanted) { return std::find(names.begin(), names.end(), wanted) != names.end(); };
  const auto dot = name.find('.');
  return in(attribute_names(), name) || (dot != name.npos && dot + 1 < name.size() && in(attribute_families(), name.substr(0, dot)));
}

}  // namespace

Expression::Expression(std::shared_ptr<const Node> root) : root_(std::move(root)) { collect(*root_, names_); }

Result<Expression> Expression::parse(std::string_view text) {
  const auto refuse = [](std::string why, std::string remedy) { return Error{"cannot read the expression", std::move(why), std::move(remedy)}; };
  if (text.size() > kExpressionMax)
    return refuse("it has " + std::to_string(text.size()) + " bytes and is not read past column " + std::to_string(kExpressionMax), "write it shorter");
  if (text.find_first_not_of(" \t\r\n") == text.npos) return refuse("column 1: it is empty", "write a condition such as memory >= 8GiB");
  if (!is_printable(text)) {
    const std::string clean = printable(text);
    const auto at = std::mismatch(text.begin(), text.end(), clean.begin(), clean.end()).first;
    const auto column = 1 + std::count_if(text.begin(), at, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
    return refuse("column " + std::to_string(column) + ": a byte that is no text", "write it in UTF-8, without control characters");
  }
  auto tree = Parser(text).all();
  if (!tree) return tree.error();
  return Expression(std::move(tree.value()));
}

Value Expression::evaluate(const Attributes& attributes) const { return Evaluation(attributes).value(*root_); }

std::string Expression::text() const {
  std::string text = Printer(true).print(*root_);
  // What was written without a space may not fit with them.
  return text.size() <= kExpressionMax ? text : Printer(false).print(*root_);
}

std::vector<Expression> Expression::conjuncts() const {
  if (root_->kind != Kind::both) return {*this};
  std::vector<Expression> all;
  for (const Tree& part : root_->parts) all.push_back(Expression(part));
  return all;
}

double rank_of(const Value& value) {
  const auto number = number_of(value);
  return number && std::isfinite(*number) ? *number : 0;
}

std::vector<std::string> unknown_names(const Expression& expression) {
  std::vector<std::string> unknown;
  for (const std::string& name : expression.names())
    if (!is_known(name)) unknown.push_back(name);
  return unknown;
}

std::string nearest_name(std::string_view name) {
  const auto dot = name.find('.');
  if (dot != name.npos) {
    const std::string family = nearest(name.substr(0, dot), attribute_families());
    if (!family.empty() && dot + 1 < name.size() && name.substr(0, dot) != "job") return family + std::string(name.substr(dot));
  }
  return nearest(name, attribute_names());
}

}  // namespace souk
