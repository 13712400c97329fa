#include <algorithm>
#include <cmath>
#include <utility>

#include "protocol/expression_tree.h"
#include "protocol/expression_words.h"

namespace souk {
namespace expression {
namespace {

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

}  // namespace

Value value_of(const Node& node, const Attributes& attributes) { return Evaluation(attributes).value(node); }

}  // namespace expression

double rank_of(const Value& value) {
  const auto number = expression::number_of(value);
  return number && std::isfinite(*number) ? *number : 0;
}

}  // namespace souk
