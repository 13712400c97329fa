#include <algorithm>
#include <utility>

#include "protocol/expression_tree.h"
#include "protocol/expression_words.h"

namespace souk::expression {
namespace {

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

}  // namespace

std::string print(const Node& node, bool spaced) { return Printer(spaced).print(node); }

}  // namespace souk::expression
