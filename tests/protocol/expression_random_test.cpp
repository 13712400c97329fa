// Random expressions against a second, slower opinion: trees are made here, written out in three ways, and judged by a plain recursive evaluation
// that shares no code with the product's. Then damage and noise: whatever is accepted prints as something that is read as the same.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <optional>

#include "protocol/expression.h"
#include "tests/protocol/mutate.h"
#include "tests/protocol/sample_worker.h"

namespace souk {
namespace {

using test::Mutator;
using test::SampleWorker;
using test::shown;

struct Tree {
  std::string op;    // an operator, `?`, `in`, a function, or empty: a leaf
  std::string leaf;  // as it is written
  std::vector<Tree> parts;
};

const std::array<std::string, 6> kNames{"a", "b", "c", "d", "tag.e", "resource.license.f"};

class Gardener {
 public:
  explicit Gardener(std::uint64_t seed) : random_(seed) {}

  Tree tree(int depth) {
    static const std::array<std::string, 26> ops{"&&", "&&", "||", "||", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "!", "neg", "?", "in", "min", "max", "abs", "defined", "default", "contains", "exactly"};
    if (depth == 0 || random_.below(5) == 0) return {"", leaf(), {}};
    Tree made{ops[random_.below(ops.size())], "", {}};
    const std::size_t parts = made.op == "!" || made.op == "neg" || made.op == "abs" || made.op == "defined" ? 1 : made.op == "?" ? 3 : made.op == "in" || made.op == "min" || made.op == "max" ? 2 + random_.below(3) : 2;
    for (std::size_t i = 0; i < parts; ++i) made.parts.push_back(tree(depth - 1));
    return made;
  }

  SampleWorker worker() {
    static const std::array<Value, 14> values{Value(), Value(), Value(true), Value(false), Value(true), Value(false), Value(0.0), Value(1.0), Value(3.1), Value(-7.5), Value(std::string("Linux")),
        Value(std::string("3.10")), Value(Version{"3.10"}), Value(Version{"3.9.1"})};
    SampleWorker worker;
    for (const auto& name : kNames) worker.has[name] = values[random_.below(values.size())];
    return worker;
  }

  std::string space() { return std::string(random_.below(3), random_.below(4) == 0 ? '\n' : ' '); }

 private:
  std::string leaf() {
    static const std::array<std::string, 14> leaves{"true", "false", "undefined", "0", "1", "3.10", "3.9", "2.5e1", "2KiB", "1h30m", "\"linux\"", "\"LIN\"", "\"3.10\"", "\"say \\\"hi\\\"\\n\""};
    return random_.below(2) == 0 ? kNames[random_.below(kNames.size())] : leaves[random_.below(leaves.size())];
  }
  Mutator random_;
};

// ---- Written out

int level(const std::string& op) {
  static const std::vector<std::vector<std::string>> levels{{"?"}, {"||"}, {"&&"}, {"==", "!="}, {"<", "<=", ">", ">=", "in"}, {"+", "-"}, {"*", "/", "%"}, {"!", "neg"}};
  for (std::size_t i = 0; i < levels.size(); ++i)
    if (std::find(levels[i].begin(), levels[i].end(), op) != levels[i].end()) return static_cast<int>(i);
  return static_cast<int>(levels.size());
}

/// With parentheses around everything, or (full = false) only where the table of precedence in docs/EXPRESSIONS.md wants them.
std::string written(const Tree& tree, Gardener& gardener, bool full) {
  const auto gap = [&] { return full ? gardener.space() : std::string(" "); };
  const auto part = [&](const Tree& one, int least) {
    const std::string text = written(one, gardener, full);
    return (full && level(one.op) < 8) || level(one.op) < least ? "(" + gap() + text + gap() + ")" : text;
  };
  const auto list = [&](std::size_t from) {
    std::string all;
    for (std::size_t i = from; i < tree.parts.size(); ++i) all += (i > from ? "," : "") + gap() + part(tree.parts[i], 0);
    return "(" + all + gap() + ")";
  };
  const int here = level(tree.op);
  if (tree.op.empty()) return tree.leaf;
  if (tree.op == "?") return part(tree.parts[0], 1) + gap() + "?" + gap() + part(tree.parts[1], 0) + gap() + ":" + gap() + part(tree.parts[2], 0);
  if (tree.op == "!") return "!" + gap() + part(tree.parts[0], here);
  if (tree.op == "neg") return "-" + gap() + part(tree.parts[0], here);
  if (tree.op == "in") return part(tree.parts[0], here + 1) + " in" + gap() + list(1);
  if (here == 8) return tree.op + gap() + list(0);
  const bool chains = here != 3 && here != 4;  // comparisons do not follow each other
  return part(tree.parts[0], chains ? here : here + 1) + gap() + tree.op + gap() + part(tree.parts[1], here + 1);
}

// ---- Judged

std::string small(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

Value leaf_value(const std::string& leaf, const SampleWorker& worker) {
  static const std::map<std::string, Value> known{{"true", true}, {"false", false}, {"undefined", {}}, {"2.5e1", 25.0}, {"2KiB", 2048.0}, {"1h30m", 5400.0}, {"\"linux\"", std::string("linux")},
      {"\"LIN\"", std::string("LIN")}, {"\"3.10\"", std::string("3.10")}, {"\"say \\\"hi\\\"\\n\"", std::string("say \"hi\"\n")}};
  if (const auto at = known.find(leaf); at != known.end()) return at->second;
  return std::isdigit(static_cast<unsigned char>(leaf[0])) ? Value(std::stod(leaf)) : worker.attribute(leaf);
}

std::optional<double> as_number(const Value& value) {
  if (const auto* truth = std::get_if<bool>(&value)) return *truth;
  const auto* number = std::get_if<double>(&value);
  return number ? std::optional(*number) : std::nullopt;
}
std::optional<bool> as_truth(const Value& value) {
  const auto* truth = std::get_if<bool>(&value);
  return truth ? std::optional(*truth) : std::nullopt;
}
std::optional<std::string> as_text(const Value& value) {
  if (const auto* version = std::get_if<Version>(&value)) return version->text;
  const auto* text = std::get_if<std::string>(&value);
  return text ? std::optional(*text) : std::nullopt;
}
Value number_value(double number) { return std::isfinite(number) ? Value(number) : Value(); }

std::optional<std::vector<int>> version_parts(const std::string& text) {  // of the few kinds that stand above
  if (!std::isdigit(static_cast<unsigned char>(text[0]))) return std::nullopt;
  std::vector<int> parts(3, 0);
  std::sscanf(text.c_str(), "%d.%d.%d", &parts[0], &parts[1], &parts[2]);
  return parts;
}

Value judged(const Tree& tree, const SampleWorker& worker);

Value compared(const std::string& op, const Tree& left, const Tree& right, const SampleWorker& worker) {
  const Value a = judged(left, worker), b = judged(right, worker);
  std::optional<int> order;
  const auto by = [&order](const auto& x, const auto& y) { order = x < y ? -1 : y < x ? 1 : 0; };
  const auto *x = std::get_if<double>(&a), *y = std::get_if<double>(&b);
  if (x && y) by(*x, *y);
  if (std::holds_alternative<std::string>(a) && std::holds_alternative<std::string>(b)) by(small(*as_text(a)), small(*as_text(b)));
  if (std::holds_alternative<bool>(a) && std::holds_alternative<bool>(b)) {
    if (op != "==" && op != "!=") return {};
    by(std::get<bool>(a), std::get<bool>(b));
  }
  if (std::holds_alternative<Version>(a) || std::holds_alternative<Version>(b)) {
    const auto spelled = [](const Tree& one, const Value& value) {
      const bool plain = one.op.empty() && !one.leaf.empty() && one.leaf.find_first_not_of("0123456789.") == std::string::npos;
      return plain ? std::optional(one.leaf) : as_text(value);
    };
    const auto one = spelled(left, a), other = spelled(right, b);
    if (one && other) {
      const auto p = version_parts(*one), q = version_parts(*other);
      if (p && q) by(*p, *q);
    }
  }
  if (!order) return {};
  return op == "==" ? *order == 0 : op == "!=" ? *order != 0 : op == "<" ? *order < 0 : op == "<=" ? *order <= 0 : op == ">" ? *order > 0 : *order >= 0;
}

Value judged(const Tree& tree, const SampleWorker& worker) {
  const std::string& op = tree.op;
  if (op.empty()) return leaf_value(tree.leaf, worker);
  std::vector<Value> of;
  for (const Tree& part : tree.parts) of.push_back(judged(part, worker));
  const auto number = [&](std::size_t i) { return as_number(of[i]); };
  const auto truth = [&](std::size_t i) { return as_truth(of[i]); };
  if (op == "&&") return truth(0) == false || truth(1) == false ? Value(false) : truth(0) && truth(1) ? Value(true) : Value();
  if (op == "||") return truth(0) == true || truth(1) == true ? Value(true) : truth(0) && truth(1) ? Value(false) : Value();
  if (op == "!") return truth(0) ? Value(!*truth(0)) : Value();
  if (op == "?") return !truth(0) ? Value() : *truth(0) ? of[1] : of[2];
  if (op == "in") {
    Value found = false;
    for (std::size_t i = 1; i < of.size(); ++i) {
      const Value same = compared("==", tree.parts[0], tree.parts[i], worker);
      if (as_truth(same) == true) return true;
      if (!as_truth(same)) found = Value();
    }
    return found;
  }
  if (op == "defined") return !std::holds_alternative<Undefined>(of[0]);
  if (op == "default") return std::holds_alternative<Undefined>(of[0]) ? of[1] : of[0];
  if (op == "exactly") return of[0] == of[1];
  if (op == "contains") return as_text(of[0]) && as_text(of[1]) ? Value(small(*as_text(of[0])).find(small(*as_text(of[1]))) != std::string::npos) : Value();
  if (level(op) == 3 || level(op) == 4) return compared(op, tree.parts[0], tree.parts[1], worker);
  for (std::size_t i = 0; i < of.size(); ++i)
    if (!number(i)) return {};
  const double x = *number(0), y = of.size() > 1 ? *number(1) : 0;
  if (op == "neg") return -x;
  if (op == "abs") return std::fabs(x);
  if (op == "min" || op == "max") {
    double best = x;
    for (std::size_t i = 1; i < of.size(); ++i) best = op == "min" ? std::min(best, *number(i)) : std::max(best, *number(i));
    return best;
  }
  return number_value(op == "+" ? x + y : op == "-" ? x - y : op == "*" ? x * y : op == "/" ? x / y : std::fmod(x, y));
}

// ---- The tests

TEST(RandomExpression, MeansWhatItsTreeMeansHoweverItIsWritten) {
  int decided = 0;
  for (std::uint64_t seed = 1; seed <= 4000; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    Gardener gardener(seed);
    const Tree tree = gardener.tree(static_cast<int>(1 + seed % 4));
    const std::string full = written(tree, gardener, true), minimal = written(tree, gardener, false);
    if (full.size() > kExpressionMax) continue;
    const auto one = Expression::parse(full), other = Expression::parse(minimal);
    ASSERT_TRUE(one) << full << '\n' << one.error().text();
    ASSERT_TRUE(other) << minimal << '\n' << other.error().text();
    const std::string text = one.value().text();
    ASSERT_EQ(other.value().text(), text) << full << '\n' << minimal;
    ASSERT_LE(text.size(), minimal.size()) << "no parentheses but the needed ones";
    const auto again = Expression::parse(text);
    ASSERT_TRUE(again) << text << '\n' << again.error().text();
    ASSERT_EQ(again.value(), one.value());
    for (int i = 0; i < 8; ++i) {
      const SampleWorker worker = gardener.worker();
      const std::string wanted = shown(judged(tree, worker));
      ASSERT_EQ(shown(one.value().evaluate(worker)), wanted) << full;
      ASSERT_EQ(shown(again.value().evaluate(worker)), wanted) << full << '\n' << text;
      decided += wanted != "undefined";
    }
  }
  EXPECT_GT(decided, 8000) << "most would be undefined, and prove little";
}

const std::array<std::string, 12> kCorpus{
    R"(os == "linux" && memory >= 8GiB && has(python) && version(python) >= "3.10")",
    "speed * 2 - load",
    R"(tag["my-key"] in ("a", 'b', 5, 1.5e3) || !defined(tag.room) ? -1 : 1h30m)",
    R"(matches(lower(cpu_model), "*epyc*7?43") && attribute("tag.x y") != undefined)",
    "((a + b) * c - -d) / (e % 7) < 1 != true",
    R"(min(1, 2, max(x, floor(-2.5), ceil(y))) + abs(round(number("8GiB"))))",
    R"(version("g++") < 3.10 && as_version(tag.v) == "1.0rc1" && exactly(a, "\"\\\n"))",
    "a ? b : c ? d : e ? f : (g ? h : i)",
    "default(resource.license.matlab, 0) >= 1 && !(a && b) && (c || (d && e))",
    "!-!-!-a && (((((b)))))",
    "starts(owner, 'ada@') || ends(hostname, \".example\") || contains(name, \"Æ\")",
    "1 + (2 + (3 - (4 - 5))) - (a - b - (c - d))"};
constexpr std::string_view kWords = "true false undefined in (1, 2) && || == != <= >= ? : ! - + * / % has(python) version(x) min(a,b) \"text\" 'text' \\\" 8GiB 1h30m 3.10 1e5 tag.x tag[\"y-z\"] attribute(\"q\") ((( ))) ,,";

/// What must hold of any text whatever: a refusal with a place, or something that prints as what is read as the same.
void examine(const std::string& text, const std::vector<SampleWorker>& workers, int& accepted) {
  const auto expression = Expression::parse(text);
  if (!expression) {
    const Error& error = expression.error();
    ASSERT_EQ(error.what, "cannot read the expression");
    const auto at = error.why.find("column ");
    ASSERT_NE(at, std::string::npos) << error.text();
    const auto column = std::stoul(error.why.substr(at + 7));
    ASSERT_GE(column, 1u);
    ASSERT_LE(column, text.size() + 1) << error.text();
    ASSERT_LT(error.text().size(), 500u);
    return;
  }
  ++accepted;
  const std::string canonical = expression.value().text();
  ASSERT_LE(canonical.size(), kExpressionMax);
  const auto again = Expression::parse(canonical);
  ASSERT_TRUE(again) << text << '\n' << canonical << '\n' << again.error().text();
  ASSERT_EQ(again.value().text(), canonical) << text;
  ASSERT_EQ(again.value().names(), expression.value().names());
  for (const auto& worker : workers) {
    const Value value = expression.value().evaluate(worker);
    ASSERT_EQ(shown(again.value().evaluate(worker)), shown(value)) << text << '\n' << canonical;
    bool all_hold = true;
    for (const auto& part : expression.value().conjuncts()) {
      const auto alone = Expression::parse(part.text());
      ASSERT_TRUE(alone) << part.text();
      all_hold &= holds(alone.value().evaluate(worker));
    }
    ASSERT_EQ(all_hold, holds(value)) << canonical;
  }
}

std::vector<SampleWorker> few_workers() {
  std::vector<SampleWorker> workers(2);
  for (const char* name : {"a", "b", "c", "d", "e", "memory", "speed", "tag.x"}) workers[1].has[name] = 5.0;
  for (const char* name : {"os", "cpu_model", "software.python", "tag.room"}) workers[1].has[name] = std::string("linux 3.10");
  return workers;
}

TEST(RandomExpression, DamagedOnesAreRefusedOrPrintWhatTheyAre) {
  Mutator mutator(31);
  int accepted = 0;
  for (int round = 0; round < test::kRounds; ++round) {
    SCOPED_TRACE(round);
    examine(mutator.damaged(kCorpus[mutator.below(kCorpus.size())], kWords), few_workers(), accepted);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(accepted, test::kRounds / 20) << "some damage leaves a valid expression";
  EXPECT_LT(accepted, test::kRounds / 2);
}

TEST(RandomExpression, PilesOfTokensAreRefusedOrPrintWhatTheyAre) {
  static const std::array<std::string, 48> tokens{"a", "b", "tag.x", "1", "3.10", "8GiB", "5m", "\"t\"", "'\"'", "true", "undefined", "in", "(", ")", "(", ")", "[", "]", ",", "?", ":", "&&", "||", "!", "-", "+", "*", "/", "%", "==", "!=", "<",
      "<=", ">", ">=", "has(", "version(", "min(", "default(", "attribute(", "matches(", "=", "&", ".", "\n", "in (", "a", "2"};
  Mutator mutator(32);
  int accepted = 0;
  for (int round = 0; round < 2 * test::kRounds; ++round) {
    SCOPED_TRACE(round);
    std::string text;
    for (std::size_t count = 1 + mutator.below(9); count > 0; --count) text += tokens[mutator.below(tokens.size())] + (mutator.below(3) == 0 ? "" : " ");
    examine(text, few_workers(), accepted);
    if (HasFatalFailure()) return;
  }
  EXPECT_GT(accepted, test::kRounds / 20);
}

TEST(RandomExpression, NoiseIsRefused) {
  Mutator mutator(33);
  int accepted = 0;
  for (int round = 0; round < test::kRounds; ++round) {
    SCOPED_TRACE(round);
    examine(mutator.bytes(mutator.below(64)), few_workers(), accepted);
    if (HasFatalFailure()) return;
  }
  EXPECT_LT(accepted, test::kRounds / 10);
}

TEST(RandomExpression, LongOnesTakeNoLongTime) {
  Mutator mutator(34);
  int accepted = 0;
  for (int round = 0; round < 200; ++round) {
    SCOPED_TRACE(round);
    std::string text;
    while (text.size() < kExpressionMax) text += std::string(kWords.substr(mutator.below(kWords.size()), mutator.below(6)));
    examine(text.substr(0, kExpressionMax), few_workers(), accepted);
    std::string valid = kCorpus[mutator.below(kCorpus.size())];
    while (valid.size() + 100 < kExpressionMax) valid = "(" + valid + ") && " + kCorpus[mutator.below(kCorpus.size())];
    examine(valid, few_workers(), accepted);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace souk
