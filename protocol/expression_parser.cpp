#include <algorithm>
#include <utility>

#include "protocol/expression_tree.h"
#include "protocol/expression_words.h"
#include "protocol/nearest.h"
#include "protocol/notation.h"

namespace souk::expression {
namespace {

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

}  // namespace

Result<Tree> parse(std::string_view text) { return Parser(text).all(); }

}  // namespace souk::expression
