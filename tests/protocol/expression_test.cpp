#include "protocol/expression.h"

#include <gtest/gtest.h>

#include <array>
#include <functional>

#include "tests/protocol/sample_worker.h"

namespace souk {
namespace {

using test::SampleWorker;
using test::shown;

/// A worker as most tests here see it.
SampleWorker ant() {
  SampleWorker worker;
  worker.has = {{"os", "linux"}, {"arch", "x86_64"}, {"cpu_model", "AMD EPYC 7543"}, {"memory", 64.0 * (1 << 30)}, {"cpus", 16.0}, {"slots", 8.0}, {"gpus", 0.0}, {"speed", 1.5},
      {"load", 0.25}, {"owner", "ada@grid.example"}, {"software.python", Version{"3.11.2"}}, {"software.g++", "12.2.0"}, {"software.perl", ""}, {"tag.room", "B4"}, {"tag.rack", "12"},
      {"tag.my-key", "yes"}, {"resource.license.matlab", 2.0}, {"job.priority", -5.0}};
  return worker;
}

/// The value of an expression on that worker, as text; or why it can't be read.
std::string value(std::string_view text) {
  const auto expression = Expression::parse(text);
  return expression ? shown(expression.value().evaluate(ant())) : expression.error().text();
}
std::string canonical(std::string_view text) {
  const auto expression = Expression::parse(text);
  return expression ? expression.value().text() : expression.error().text();
}

TEST(Expression, PicksWorkersByWhatTheyOffer) {
  EXPECT_EQ(value(R"(os == "linux" && memory >= 8GiB && has(python) && version(python) >= "3.10")"), "true");
  EXPECT_EQ(value(R"(os == "windows" || cpus > 16)"), "false");
  EXPECT_EQ(value("speed * 2 - load"), "2.75");
  EXPECT_EQ(value("resource.license.matlab >= 1"), "true");
  EXPECT_EQ(value(R"(tag["my-key"] == "yes" && attribute("tag.My-Key") == "yes")"), "true");
  EXPECT_EQ(value("tag.my-key"), "undefined") << "the dash is a minus";
}

TEST(Expression, NamesAreTheSameInAnyCase) {
  EXPECT_EQ(value("OS == \"linux\" && Tag.Room == \"B4\" && HAS(Python) && TRUE"), "true");
  EXPECT_EQ(canonical("OS == Tag.Room && HAS(Python) && TRUE"), "os == tag.room && has(python) && true");
}

TEST(Expression, ReadsNumbersSizesAndTimes) {
  const struct {
    const char *text, *value;
  } cases[] = {{"0", "0"}, {"007", "7"}, {"1.5e3", "1500"}, {"2E-2", "0.02"}, {"8G", "8589934592"}, {"8GiB", "8589934592"}, {"1MB", "1000000"}, {"64K", "65536"}, {"1kB", "1000"},
      {"1KB", "1000"}, {"7B", "7"}, {"1.5KiB", "1536"}, {"1T", "1099511627776"}, {"2TB", "2000000000000"}, {"5M", "5242880"}, {"5m", "300"}, {"90s", "90"}, {"1h30m", "5400"},
      {"1h30m15s", "5415"}, {"250ms", "0.25"}, {"1d", "86400"}, {"1.5m", "90"}};
  for (const auto& [text, wanted] : cases) {
    EXPECT_EQ(value(text), wanted) << text;
    EXPECT_EQ(canonical(text), text) << "as it was written";
  }
  for (const auto& [text, why] : {std::pair{"8gb", "column 2: no unit is called 'gb'; did you mean GB?"}, {"5min", "column 2: no unit is called 'min'"}, {"1h30", "column 5: expected a unit"},
           {"1h30K", "column 5: no unit is called 'K'"}, {"8GiB5", "column 5: expected an operator after the number"}, {"5.", "column 2: expected a digit"}, {".5", "found '.'; a number begins with a digit"},
           {"3.10.2", "a version is written as a text"}, {"1e999", "column 1: the number is out of range"}, {"1e308T", "column 1: the number is out of range"},
           {"1e-999", "column 1: the number is out of range"}, {"1_000", "column 2: expected an operator"}, {"0x10", "no unit is called 'x'"}})
    EXPECT_NE(value(text).find(why), std::string::npos) << text << ": " << value(text);
}

TEST(Expression, TextsCompareWithoutCase) {
  EXPECT_EQ(value(R"(os == "Linux" && OS != "linux2" && "ABC" < "abd" && "b" > "A" && "a" < "ab")"), "true");
  EXPECT_EQ(value(R"(exactly(os, "Linux"))"), "false");
  EXPECT_EQ(value(R"(exactly(os, "linux"))"), "true");
  EXPECT_EQ(value(R"(tag.room in ("a1", "b4"))"), "true");
  EXPECT_EQ(value("os == 'linux'"), "true") << "so that the shell may have the double quotes";
}

TEST(Expression, TextsKnowEscapes) {
  EXPECT_EQ(value(R"("a\"b\\c\n\t\r\'")"), "\"a\"b\\c\n\t\r'\"");
  EXPECT_EQ(canonical(R"('say "hi"')"), R"('say "hi"')");
  EXPECT_EQ(canonical(R"('it\'s')"), R"("it's")");
  EXPECT_EQ(canonical(R"('a\n')"), R"("a\n")");
  EXPECT_EQ(value("'Æ' == \"Æ\""), "true");
}

TEST(Expression, VersionsCompareByTheirParts) {
  const std::array order{"3.0.0dev1", "3.0a1", "3.0.beta", "3.0b2", "3.0-rc1", "3.0-rc.2", "3", "3.0.0a", "3.0.0k", "3.0.1", "3.9", "3.10", "3.10.1", "3.010.2", "10.1", "18446744073709551616.1"};
  for (std::size_t i = 0; i < order.size(); ++i) {
    for (std::size_t j = 0; j < order.size(); ++j) {
      SampleWorker worker;
      worker.has = {{"software.x", order[i]}, {"other", order[j]}};
      const auto told = [&](const char* text) { return shown(Expression::parse(text).value().evaluate(worker)); };
      EXPECT_EQ(told("version(x) < other"), i < j ? "true" : "false") << order[i] << ' ' << order[j];
      EXPECT_EQ(told("as_version(other) <= version(x)"), j <= i ? "true" : "false") << order[i] << ' ' << order[j];
    }
  }
  EXPECT_EQ(value("version(python) >= 3.10 && 3.10 < version(python) && version(python) < 3.12 && version(python) > 3"), "true") << "not 3.1: as it was written";
  EXPECT_EQ(value(R"(version(python) == "3.11.2.0" && version(python) == "v3.11.2" && version(python) in (3.9, "3.11.2"))"), "true");
  EXPECT_EQ(value("version(python) == 3.11"), "false");
  EXPECT_EQ(value(R"(as_version("3.0rc1") == "3.0.0-RC1" && as_version("1.0.0") == 1)"), "true");
  EXPECT_EQ(value(R"(matches(version(python), "3.11.*"))"), "true");
  EXPECT_EQ(value("version(python) > 1 + 2"), "undefined") << "a number that was calculated is no version";
  EXPECT_EQ(value("version(python) > 3K"), "undefined");
  EXPECT_EQ(value(R"(version(python) > "new")"), "undefined");
  EXPECT_EQ(value(R"("3.9" < "3.10")"), "false") << "texts are texts";
  EXPECT_EQ(value(R"(as_version("3.9") < "3.10")"), "true");
}

TEST(Expression, KnowsWhatIsThereWithoutItsVersion) {
  EXPECT_EQ(value("has(perl)"), "true");
  EXPECT_EQ(value("version(perl)"), "undefined");
  EXPECT_EQ(value("has(ruby)"), "false");
  EXPECT_EQ(value("version(ruby) > 1"), "undefined");
  EXPECT_EQ(value(R"(has("g++") && version("G++") >= 12)"), "true");
  EXPECT_EQ(value(R"(software["g++"] > 9 && software.python > 3.9 && !defined(software.ruby))"), "true") << "text or not, it is a version";
  EXPECT_EQ(canonical(R"(has("python") && has("g++"))"), R"(has(python) && has("g++"))");
}

TEST(Expression, BindsAsTheDocumentSays) {
  const struct {
    const char *text, *same;
  } cases[] = {{"a || b && c", "a || (b && c)"}, {"a && b == c", "a && (b == c)"}, {"a == b < c", "a == (b < c)"}, {"a < b + c", "a < (b + c)"}, {"a + b * c", "a + (b * c)"}, {"-a * b", "(-a) * b"},
      {"a - b - c", "(a - b) - c"}, {"a / b * c", "(a / b) * c"}, {"a ? b : c ? d : e", "a ? b : (c ? d : e)"}, {"a ? b ? c : d : e", "a ? (b ? c : d) : e"}, {"a || b ? c : d", "(a || b) ? c : d"},
      {"!a == b", "(!a) == b"}, {"!(a == b)", "(!((a == b)))"}, {"a in (b, c) == d", "(a in (b, c)) == d"}, {"a + b in (c)", "(a + b) in ((c))"}, {"- - a", "-(-a)"}, {"(a && b) && c", "a && (b && c)"}};
  for (const auto& [text, same] : cases) EXPECT_EQ(canonical(text), canonical(same));
  for (const char* text : {"a - (b - c)", "a - (b + c)", "a / (b * c)", "(a || b) && c", "(a ? b : c) ? d : e", "(a == b) == c", "(a < b) < c", "!(a && b)", "-(a + b)", "(a ? b : c) + 1", "(a in (b)) in (c)",
           "a + (b + c)", "a * (b * c)", "!!a", "--a", "a - -b", "x in (a ? b : c, d || e)", "min(a, b - 1)", "tag[\"my-key\"]", "attribute(\"true\")", "attribute(\"in\")", "foo[\".b\"]", "attribute(\"9.x\")"})
    EXPECT_EQ(canonical(text), text);
}

TEST(Expression, CalculatesAndIsUndefinedWhereThatMeansNothing) {
  for (const auto& [text, wanted] : {std::pair{"7 % 4 + 2 * 3 - 8 / 4", "7"}, {"-7 % 4", "-3"}, {"1 / 0", "undefined"}, {"1 % 0", "undefined"}, {"0 / 0", "undefined"}, {"1e308 * 10", "undefined"},
           {"1e308 * 10 * 0", "undefined"}, {"(os == 'linux') * 10 + true", "11"}, {"-true", "-1"}, {"os + 1", "undefined"}, {"-os", "undefined"}, {"nothing + 1", "undefined"}, {"!5", "undefined"},
           {"min(3, 1, 2)", "1"}, {"max(3, 1, 2) + min(4)", "7"}, {"min(1, nothing)", "undefined"}, {"max(1, os)", "undefined"}, {"abs(-2.5)", "2.5"}, {"floor(-2.5)", "-3"}, {"ceil(2.1)", "3"}, {"round(2.5)", "3"},
           {"number(tag.rack) / 2", "6"}, {"number(' -8GiB ')", "-8589934592"}, {"number('1h30m')", "5400"}, {"number('12 apples')", "undefined"}, {"number('')", "undefined"}, {"number('-')", "undefined"},
           {"number('inf')", "undefined"}, {"number(true)", "1"}, {"number(version(python))", "undefined"}, {"lower('ABC')", "\"abc\""}, {"lower(5)", "undefined"}, {"default(nothing, 5)", "5"},
           {"default(cpus, 5)", "16"}, {"defined(nothing)", "false"}, {"defined(os)", "true"}, {"defined(1 / 0)", "false"}, {"exactly(nothing, undefined)", "true"}, {"exactly(1, true)", "false"}})
    EXPECT_EQ(value(text), wanted) << text;
}

TEST(Expression, LooksIntoTexts) {
  for (const char* text : {"contains(cpu_model, 'epyc')", "contains(os, '')", "starts(cpu_model, 'amd ')", "ends(cpu_model, '7543')", "matches(cpu_model, 'amd*75?3')", "matches(os, '*')", "matches('', '*')",
           "matches('', '')", "matches('aXbXc', 'a*x?')", "matches('Æ', '?')", "matches('zÆ', '*?')", "!matches(os, 'lin')", "!matches(os, '')", "!matches('', '?')", "!starts('a', 'ab')", "!ends('a', 'ab')",
           "!contains(os, 'linuxx')", "!contains('', 'a')", "matches('a*', 'a*')", "starts(version(python), '3.')"})
    EXPECT_EQ(value(text), "true") << text;
  for (const char* text : {"contains(cpus, '1')", "starts(nothing, 'a')", "matches(os, 5)", "ends(os, nothing)"}) EXPECT_EQ(value(text), "undefined") << text;
}

TEST(Expression, AHostilePatternTakesNoTime) {
  SampleWorker worker;
  worker.has = {{"name", std::string(100'000, 'a')}};
  std::string pattern;
  for (int i = 0; i < 1000; ++i) pattern += "*a";
  EXPECT_EQ(shown(Expression::parse("matches(name, '" + pattern + "b')").value().evaluate(worker)), "false");
}

TEST(Expression, ValuesOfDifferentKindsDoNotCompare) {
  const std::array values{"undefined", "true", "5", "'a'"};
  for (const char* a : values)
    for (const char* b : values)
      for (const char* op : {"<", "<=", ">", ">=", "==", "!="}) {
        const std::string text = std::string(a) + " " + op + " " + b;
        const bool ordered = std::string_view(op).size() == 1 || op[1] != '=' || op[0] == '<' || op[0] == '>';
        const bool defined = std::string_view(a) == b && std::string_view(a) != "undefined" && !(ordered && std::string_view(a) == "true");
        EXPECT_EQ(value(text) != "undefined", defined) << text;
      }
  EXPECT_EQ(value("true == true && true != false"), "true");
}

TEST(Expression, AnInListIsAChainOfComparisons) {
  EXPECT_EQ(value("cpus in (8, 16)"), "true");
  EXPECT_EQ(value("cpus in (8, 12)"), "false");
  EXPECT_EQ(value("cpus in (nothing, 16)"), "true");
  EXPECT_EQ(value("cpus in (8, nothing)"), "undefined");
  EXPECT_EQ(value("nothing in (8, 16)"), "undefined");
  EXPECT_EQ(value("!(cpus in (8))"), "true");
}

TEST(Expression, AChoiceOfTheUndefinedIsUndefined) {
  EXPECT_EQ(value("gpus > 0 ? 'fast' : cpus > 8 ? 'many' : 'few'"), "\"many\"");
  EXPECT_EQ(value("nothing ? 1 : 1"), "undefined");
  EXPECT_EQ(value("5 ? 1 : 2"), "undefined");
  EXPECT_EQ(value("true ? 1 : nothing"), "1") << "what is not chosen does not matter";
}

TEST(Expression, ANumberThatIsNoneIsUndefined) {
  SampleWorker worker;
  worker.has = {{"load", std::nan("")}, {"speed", HUGE_VAL}};
  EXPECT_EQ(shown(Expression::parse("load").value().evaluate(worker)), "undefined");
  EXPECT_EQ(shown(Expression::parse("speed > 1").value().evaluate(worker)), "undefined");
}

TEST(Expression, OnlyTrueHoldsAndOnlyNumbersRank) {
  EXPECT_TRUE(holds(Value(true)));
  for (const Value& value : {Value(), Value(false), Value(1.0), Value(std::string("true")), Value(Version{"1"})}) EXPECT_FALSE(holds(value));
  EXPECT_EQ(rank_of(Value(2.5)), 2.5);
  EXPECT_EQ(rank_of(Value(true)), 1);
  for (const Value& value : {Value(), Value(false), Value(std::string("5")), Value(Version{"1"}), Value(std::nan("")), Value(HUGE_VAL), Value(-HUGE_VAL)}) EXPECT_EQ(rank_of(value), 0);
}

// ---- The three-valued logic

const std::array kTruths{"false", "undefined", "true"};
int rank_of_truth(const std::string& text) { return text == "false" ? 0 : text == "undefined" ? 1 : 2; }

TEST(ThreeValues, AndIsTheLesserOrTheGreaterNotTheOpposite) {
  for (const char* a : kTruths) {
    EXPECT_EQ(value(std::string("!") + a), kTruths[static_cast<std::size_t>(2 - rank_of_truth(a))]);
    for (const char* b : kTruths) {
      EXPECT_EQ(rank_of_truth(value(std::string(a) + " && " + b)), std::min(rank_of_truth(a), rank_of_truth(b))) << a << ' ' << b;
      EXPECT_EQ(rank_of_truth(value(std::string(a) + " || " + b)), std::max(rank_of_truth(a), rank_of_truth(b))) << a << ' ' << b;
    }
  }
}

TEST(ThreeValues, LawsHoldForAllTriples) {
  const struct {
    const char *left, *right;
  } laws[] = {{"!(a && b)", "!a || !b"}, {"!(a || b)", "!a && !b"}, {"!!a", "a"}, {"a && b", "b && a"}, {"a || b", "b || a"}, {"(a && b) && c", "a && (b && c)"}, {"(a || b) || c", "a || (b || c)"},
      {"a && (a || b)", "a"}, {"a || (a && b)", "a"}, {"a && (b || c)", "a && b || a && c"}, {"a || (b && c)", "(a || b) && (a || c)"}, {"a && a", "a"}, {"a || a", "a"}, {"a && true", "a"},
      {"a || false", "a"}, {"a && false", "false"}, {"a || true", "true"}, {"a != b", "!(a == b)"}, {"a == b", "b == a"}, {"a ? b : c", "!a ? c : b"}, {"a in (b, c)", "a == b || a == c"}};
  for (const auto& [left, right] : laws) {
    const auto one = Expression::parse(left), other = Expression::parse(right);
    ASSERT_TRUE(one && other) << left;
    for (const char* a : kTruths)
      for (const char* b : kTruths)
        for (const char* c : kTruths) {
          SampleWorker worker;
          worker.has = {{"a", test::literal(a)}, {"b", test::literal(b)}, {"c", test::literal(c)}};
          EXPECT_EQ(shown(one.value().evaluate(worker)), shown(other.value().evaluate(worker))) << left << " is " << right << " for " << a << ", " << b << ", " << c;
        }
  }
  EXPECT_EQ(value("undefined || !undefined"), "undefined") << "the one law that is lost";
}

TEST(ThreeValues, LawsOfComparingHoldForAllPairs) {
  const std::array values{"undefined", "false", "true", "0", "1", "2.5", "-1", "'a'", "'B'", "''", "'3.9'", "'3.10'", "as_version('3.9')", "as_version('3.10')", "as_version('3.9.0')"};
  const struct {
    const char *left, *right;
  } laws[] = {{"a == b", "b == a"}, {"a != b", "!(a == b)"}, {"a < b", "b > a"}, {"a <= b", "b >= a"}, {"a < b", "!(a >= b)"}, {"a <= b", "!(b < a)"}, {"a <= b", "a < b || (a <= b && a == b)"},
      {"a + b", "b + a"}, {"a - b", "-(b - a)"}, {"a * b", "b * a"}, {"min(a, b)", "min(b, a)"}, {"max(a, b)", "-min(-a, -b)"}, {"defined(a) ? a : b", "default(a, b)"}, {"exactly(a, b)", "exactly(b, a)"}};
  for (const auto& [left, right] : laws) {
    const auto one = Expression::parse(left), other = Expression::parse(right);
    ASSERT_TRUE(one && other) << left;
    for (const char* a : values)
      for (const char* b : values) {
        SampleWorker worker;
        worker.has = {{"a", test::literal(a)}, {"b", test::literal(b)}};
        EXPECT_EQ(shown(one.value().evaluate(worker)), shown(other.value().evaluate(worker))) << left << " is " << right << " for " << a << ", " << b;
      }
  }
}

// ---- What it refuses

TEST(Expression, PointsAtWhatIsWrong) {
  const struct {
    const char *text, *error;
  } cases[] = {
      {"", "cannot read the expression: column 1: it is empty; write a condition such as memory >= 8GiB"},
      {" \n\t", "cannot read the expression: column 1: it is empty; write a condition such as memory >= 8GiB"},
      {"os ==", "cannot read the expression: column 6: expected a value, found the end"},
      {"os == \"linux\" && )", "cannot read the expression: column 18: expected a value, found ')'"},
      {"os = \"linux\"", "cannot read the expression: column 4: expected an operator, found '='; write == to compare"},
      {"os & 1", "cannot read the expression: column 4: expected an operator, found '&'; write &&"},
      {"os == \"linux\" and cpus > 2", "cannot read the expression: column 15: expected an operator or the end, found 'and'; write && for and"},
      {"a or b", "cannot read the expression: column 3: expected an operator or the end, found 'or'; write || for or"},
      {"not a", "cannot read the expression: column 5: expected an operator or the end, found 'a'; write ! for not"},
      {"a not in (b)", "cannot read the expression: column 3: expected an operator or the end, found 'not'; write !(a in (b, c)) for a not in (b, c)"},
      {"(a", "cannot read the expression: column 3: expected ')', found the end; close the parenthesis"},
      {"a)", "cannot read the expression: column 2: expected an operator or the end, found ')'"},
      {"1 < x < 5", "cannot read the expression: column 7: comparisons do not follow each other; join two with &&: 1 < x && x < 5"},
      {"a == b != c", "cannot read the expression: column 8: comparisons do not follow each other; join two with &&: 1 < x && x < 5"},
      {"os =~ \"lin.*\"", "cannot read the expression: column 4: there are no regular expressions; write matches(text, \"pattern*\")"},
      {"os == \"linux", "cannot read the expression: column 7: the text that begins here has no end; close it with \""},
      {"'a\\", "cannot read the expression: column 1: the text that begins here has no end; close it with '"},
      {"'a\\x'", "cannot read the expression: column 3: no such escape; a text knows \\n, \\t, \\r, \\\\, \\\" and \\'"},
      {"'a\nb'", "cannot read the expression: column 3: a text holds a line break or tab; write \\n, \\r or \\t"},
      {"'Æ' == ?", "cannot read the expression: column 8: expected a value, found '?'"},
      {"a == €", "cannot read the expression: column 6: expected a value, found '€'"},
      {"os == “linux”", "cannot read the expression: column 7: expected a value, found '“'; write plain quotes: \"text\""},
      {"verson(python) > 3", "cannot read the expression: column 1: no function is called 'verson'; did you mean version?"},
      {"1 + hsa(x)", "cannot read the expression: column 5: no function is called 'hsa'; did you mean has?"},
      {"min()", "cannot read the expression: column 5: expected a value, found ')'; write min(a, b, ...)"},
      {"abs(1, 2)", "cannot read the expression: column 1: abs() takes 1 value, not 2; write abs(x)"},
      {"default(1)", "cannot read the expression: column 1: default() takes 2 values, not 1; write default(value, instead)"},
      {"has(g++)", "cannot read the expression: column 6: expected ')', found '+'; write has(python); put a name with other characters in quotes: has(\"g++\")"},
      {"has(5)", "cannot read the expression: column 5: expected a name, found '5'; write has(python); put a name with other characters in quotes: has(\"g++\")"},
      {"has(true)", "cannot read the expression: column 5: expected a name, found 'true'; write has(python); put a name with other characters in quotes: has(\"g++\")"},
      {"has('')", "cannot read the expression: column 5: expected a name, found ''''; write has(python); put a name with other characters in quotes: has(\"g++\")"},
      {"attribute(os)", "cannot read the expression: column 11: expected a text, found 'os'; write attribute(\"tag.my-key\")"},
      {"tag[my]", "cannot read the expression: column 5: expected a text, found 'my'; write tag[\"my-key\"]"},
      {"tag['']", "cannot read the expression: column 5: expected a text, found ''''; write tag[\"my-key\"]"},
      {"a in b", "cannot read the expression: column 6: expected '(', found 'b'; write x in (1, 2, 3)"},
      {"a in ()", "cannot read the expression: column 7: expected a value, found ')'"},
      {"a in (1 2)", "cannot read the expression: column 9: expected ',' or ')', found '2'"},
      {"in (1)", "cannot read the expression: column 1: expected a value, found 'in'"},
      {"a ? b", "cannot read the expression: column 6: expected ':', found the end; write condition ? value : otherwise"},
      {"a : b", "cannot read the expression: column 3: expected an operator or the end, found ':'"},
      {"tag.", "cannot read the expression: column 4: expected an operator, found '.'; a number begins with a digit: 0.5"},
      {"\xff", "cannot read the expression: column 1: a byte that is no text; write it in UTF-8, without control characters"},
      {"a == 'b\x01'", "cannot read the expression: column 8: a byte that is no text; write it in UTF-8, without control characters"},
  };
  for (const auto& [text, error] : cases) EXPECT_EQ(canonical(text), error) << text;
  EXPECT_EQ(canonical(std::string_view("a\0b", 3)), "cannot read the expression: column 2: a byte that is no text; write it in UTF-8, without control characters");
  EXPECT_NE(canonical("frobnicate(1)").find("no function is called 'frobnicate'; functions are has, version, "), std::string::npos);
}

std::string times(std::size_t count, std::string_view text) {
  std::string all;
  for (; count > 0; --count) all += text;
  return all;
}

TEST(Expression, RefusesWhatIsAbsurdAtOnce) {
  EXPECT_EQ(canonical(times(500'000, "1+") + "1"), "cannot read the expression: it has 1000001 bytes and is not read past column 4096; write it shorter");
  EXPECT_EQ(canonical(times(10'000, "(")), "cannot read the expression: it has 10000 bytes and is not read past column 4096; write it shorter");
  const std::string deep = "cannot read the expression: column 65: more than 64 things inside each other; write it flatter";
  EXPECT_EQ(canonical(times(4000, "(")), deep);
  EXPECT_EQ(canonical(times(2000, "(") + "1" + times(2000, ")")), deep);
  EXPECT_EQ(canonical(times(4000, "-") + "1"), deep);
  EXPECT_EQ(canonical(times(4000, "!") + "a"), deep);
  EXPECT_NE(canonical(times(800, "a?")).find("things inside each other"), std::string::npos);
  EXPECT_NE(canonical(times(800, "abs(") + "1" + times(800, ")")).find("column 261: more than 64 things"), std::string::npos);
  EXPECT_NE(canonical(times(600, "a in (")).find("things inside each other"), std::string::npos);
}

TEST(Expression, GoesAsDeepAsItSays) {
  EXPECT_EQ(value(times(64, "(") + "5" + times(64, ")")), "5");
  EXPECT_EQ(value(times(64, "-") + "5"), "5");
  EXPECT_EQ(value(times(64, "abs(") + "5" + times(64, ")")), "5");
}

TEST(Expression, LongFlatOnesWork) {
  EXPECT_EQ(value(times(2047, "1+") + "1"), "2048");
  EXPECT_EQ(value("1" + times(800, " && 1")), "undefined");
  EXPECT_EQ(value("true" + times(511, "&&true")), "true");
  EXPECT_EQ(value("nothing" + times(800, "||a") + "||true"), "true");
  EXPECT_EQ(value(times(800, "0?1:").replace(0, 4, "true?7:") + "2"), "7");
  EXPECT_EQ(value("5 in (" + times(2000, "1,") + "5)"), "true");
  EXPECT_EQ(value("max(" + times(2000, "1,") + "5)"), "5");
}

TEST(Expression, WhatJustFitsStillFitsWhenPrinted) {
  for (const std::string& text : {times(2047, "1+") + "12", times(1365, "1+-") + "1", "a" + times(818, "||'\"'"), "\"x\"in(" + times(2000, "1,") + "1)", "a in(" + times(2000, "1,") + "1)", "foo['" + times(680, "-\"\"\"\"\"") + "']", times(800, "a?1:") + "1"}) {
    ASSERT_LE(text.size(), kExpressionMax);
    const auto once = Expression::parse(text);
    ASSERT_TRUE(once) << once.error().text();
    EXPECT_LE(once.value().text().size(), kExpressionMax);
    const auto again = Expression::parse(once.value().text());
    ASSERT_TRUE(again) << again.error().text();
    EXPECT_EQ(again.value(), once.value());
  }
}

// ---- What it tells of itself

TEST(Expression, TellsWhatItAsksFor) {
  const auto expression = Expression::parse(R"(Memory >= 8GiB && has(Python) && version("g++") > 1 && tag["My-Key"] in (tag.x, job.owner) && memory < 1TB)");
  ASSERT_TRUE(expression);
  EXPECT_EQ(expression.value().names(), (std::set<std::string>{"job.owner", "memory", "software.g++", "software.python", "tag.my-key", "tag.x"}));
}

TEST(Expression, ComesApartAtItsOutermostAnds) {
  const auto whole = Expression::parse("os == 'linux' && (memory > 1GiB && (a || b && c)) && !d");
  ASSERT_TRUE(whole);
  std::string parts;
  for (const auto& part : whole.value().conjuncts()) parts += part.text() + "; ";
  EXPECT_EQ(parts, "os == \"linux\"; memory > 1GiB; a || b && c; !d; ");
  EXPECT_EQ(whole.value().conjuncts()[1].names(), (std::set<std::string>{"memory"}));
  EXPECT_EQ(Expression::parse("a || b").value().conjuncts().size(), 1u);
}

TEST(Expression, EqualOnesAreWrittenAlike) {
  EXPECT_EQ(Expression::parse("a&&(b)").value(), Expression::parse(" A && b ").value());
  EXPECT_FALSE(Expression::parse("a && b").value() == Expression::parse("b && a").value());
}

TEST(Expression, WarnsOfNamesNobodyCanHave) {
  const auto expression = Expression::parse("memroy > 1GiB && os == 'linux' && job.onwer == owner && tags.x == tag.y && has(anything) && resource.gpu > 1 && job.nothing == 1 && tag > 1");
  ASSERT_TRUE(expression);
  EXPECT_EQ(unknown_names(expression.value()), (std::vector<std::string>{"job.nothing", "job.onwer", "memroy", "tag", "tags.x"}));
  EXPECT_EQ(nearest_name("memroy"), "memory");
  EXPECT_EQ(nearest_name("job.onwer"), "job.owner");
  EXPECT_EQ(nearest_name("tags.x"), "tag.x");
  EXPECT_EQ(nearest_name("resources.license.x"), "resource.license.x");
  EXPECT_EQ(nearest_name("hostnam"), "hostname");
  EXPECT_EQ(nearest_name("elephants"), "");
  EXPECT_EQ(nearest_name(std::string(4000, 'm')), "");
  EXPECT_EQ(nearest_name(""), "");
}

}  // namespace
}  // namespace souk
