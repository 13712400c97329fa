// docs/EXPRESSIONS.md is part of the contract: its examples are read and judged here, its tables compared with what the language does.
#include <gtest/gtest.h>

#include <fstream>
#include <set>
#include <sstream>

#include "protocol/expression.h"
#include "tests/protocol/sample_worker.h"

namespace souk {
namespace {

using test::SampleWorker;
using test::shown;

struct Line {
  std::string text;
  int number;  // in the document
};

std::vector<Line> document() {
  std::ifstream file(SOUK_SOURCE_DIR "/docs/EXPRESSIONS.md");
  EXPECT_TRUE(file);
  std::vector<Line> lines;
  for (std::string line; std::getline(file, line);) lines.push_back({line, static_cast<int>(lines.size()) + 1});
  return lines;
}

/// The lines of all blocks in that language.
std::vector<Line> blocks(const std::string& language) {
  std::vector<Line> inside;
  std::string open;
  for (const Line& line : document()) {
    if (line.text.starts_with("```")) open = open.empty() ? line.text : "";
    else if (open == "```" + language) inside.push_back(line);
  }
  return inside;
}

/// The first column of the table below that heading, its words in backquotes.
std::set<std::string> first_column(const std::string& heading) {
  std::set<std::string> words;
  bool below = false;
  for (const Line& line : document()) {
    if (line.text.starts_with("## ")) below = line.text == "## " + heading;
    if (!below || !line.text.starts_with("| `")) continue;
    std::istringstream column(line.text.substr(1, line.text.find(" | ", 1)));
    for (std::string between, word; std::getline(column, between, '`') && std::getline(column, word, '`');) words.insert(word);
  }
  return words;
}

std::string trimmed(std::string text) {
  text.erase(text.find_last_not_of(' ') + 1);
  return text.erase(0, text.find_first_not_of(' '));
}

SampleWorker sample() {
  SampleWorker worker;
  for (const Line& line : blocks("worker")) {
    const auto sign = line.text.find(" = ");
    EXPECT_NE(sign, std::string::npos) << line.number;
    worker.has[line.text.substr(0, sign)] = test::literal(line.text.substr(sign + 3));
  }
  return worker;
}

TEST(ExpressionDocument, EveryExampleHasTheValueBesideIt) {
  const auto examples = blocks("values");
  EXPECT_GT(examples.size(), 40u);
  for (const Line& line : examples) {
    SCOPED_TRACE("docs/EXPRESSIONS.md, line " + std::to_string(line.number));
    const auto arrow = line.text.find(" -> ");
    ASSERT_NE(arrow, std::string::npos);
    const auto expression = Expression::parse(line.text.substr(0, arrow));
    ASSERT_TRUE(expression) << expression.error().text();
    EXPECT_EQ(shown(expression.value().evaluate(sample())), line.text.substr(arrow + 4));
  }
}

TEST(ExpressionDocument, WhatItRefusesIsRefusedSo) {
  const auto lines = blocks("refused");
  EXPECT_GT(lines.size(), 10u);
  for (std::size_t i = 0; i + 1 < lines.size(); i += 2) {
    const auto expression = Expression::parse(lines[i].text);
    ASSERT_FALSE(expression) << lines[i].number;
    EXPECT_EQ(expression.error().text(), lines[i + 1].text) << lines[i].number;
  }
}

TEST(ExpressionDocument, TheTablesOfThreeValuesAreTrue) {
  std::string op;
  std::vector<std::string> columns;
  int cells = 0;
  for (const Line& line : blocks("truth")) {
    std::vector<std::string> row;
    std::istringstream all(line.text);
    for (std::string cell; std::getline(all, cell, '|');) row.push_back(trimmed(cell));
    if (line.text.starts_with("||")) row.erase(row.begin(), row.begin() + 2), row[0] = "||";
    if (row[0] == "&&" || row[0] == "||" || row[0] == "!") {
      op = row[0], columns = row;
      continue;
    }
    for (std::size_t i = 1; i < row.size(); ++i, ++cells)
      EXPECT_EQ(shown(test::literal(op == "!" ? "!" + row[0] : row[0] + op + columns[i])), row[i]) << "docs/EXPRESSIONS.md, line " << line.number;
  }
  EXPECT_EQ(cells, 9 + 9 + 3);
}

TEST(ExpressionDocument, NamesEveryFunctionAndNoOther) {
  std::set<std::string> told;
  for (const std::string& usage : first_column("Functions")) told.insert(usage.substr(0, usage.find('(')));
  const std::string remedy = Expression::parse("frobnicate(1)").error().remedy;
  std::set<std::string> known;
  std::istringstream names(remedy.substr(remedy.find("are ") + 4));
  for (std::string name; std::getline(names, name, ',');) known.insert(trimmed(name));
  EXPECT_EQ(told, known);
}

TEST(ExpressionDocument, NamesEveryAttributeAWorkerCanHave) {
  const auto told = first_column("Attributes");
  EXPECT_GT(told.size(), 20u);
  for (const std::string& name : told) {
    const auto expression = Expression::parse(name);
    ASSERT_TRUE(expression) << name;
    EXPECT_TRUE(unknown_names(expression.value()).empty()) << name;
    const auto dot = name.find(".");
    const bool family = name.find("KEY") != name.npos || name.find("NAME") != name.npos;
    const auto worker = sample();
    const bool shown_above = std::any_of(worker.has.begin(), worker.has.end(), [&](const auto& one) { return family ? one.first.starts_with(name.substr(0, dot + 1)) : one.first == name; });
    EXPECT_TRUE(shown_above) << name << " is not in the sample";
  }
  for (const auto& [name, value] : sample().has) {
    const auto dot = name.find('.');
    const bool family = dot != name.npos && !name.starts_with("job.");
    EXPECT_TRUE(told.contains(name) || (family && (told.contains(name.substr(0, dot) + ".KEY") || told.contains(name.substr(0, dot) + ".NAME")))) << name;
  }
}

TEST(ExpressionDocument, ItsBoundsAreThoseOfTheCode) {
  std::string all;
  for (const Line& line : document()) all += line.text + ' ';
  EXPECT_NE(all.find("at most " + std::to_string(kExpressionMax) + " bytes"), all.npos);
  EXPECT_NE(all.find("at most " + std::to_string(kExpressionDepthMax) + " things inside each other"), all.npos);
}

}  // namespace
}  // namespace souk
