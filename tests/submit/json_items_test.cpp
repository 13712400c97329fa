#include "submit/json_items.h"

#include <gtest/gtest.h>

#include "protocol/command.h"
#include "protocol/grid.pb.h"
#include "submit/request.h"

namespace souk {
namespace {

std::string joined(std::string_view text) {
  const auto items = split_json(text, "runs.json");
  if (!items) return "error: " + items.error().text();
  EXPECT_TRUE(items.value().json);
  std::string all;
  for (const auto& item : items.value().values) all += item + "|";
  return all;
}

TEST(JsonItems, AreTheElementsOfAnArray) {
  EXPECT_EQ(joined("[1, \"a\", {\"b\" : [1, {}], \"c\": null}, [], true]"), "1|\"a\"|{\"b\":[1,{}],\"c\":null}|[]|true|");
  EXPECT_EQ(joined("\n [\n  {\"a\": 1},\n  {\"a\": 2}\n]\n"), "{\"a\":1}|{\"a\":2}|");
  EXPECT_EQ(joined("[]"), "");
  EXPECT_EQ(joined("[[1,2],[3]]"), "[1,2]|[3]|");
}

TEST(JsonItems, AreTheLinesOfAnythingElse) {
  EXPECT_EQ(joined("{\"a\":1}\n\n{\"a\": 2}"), "{\"a\":1}|{\"a\":2}|");
  EXPECT_EQ(joined("1\r\n\"x\"\r\n"), "1|\"x\"|");
  EXPECT_EQ(joined("[1,2]\n[3]\n"), "[1,2]|[3]|") << "arrays, one a line";
  EXPECT_EQ(joined(""), "");
  EXPECT_EQ(joined(" \n \n"), "");
}

TEST(JsonItems, KeepWhatWasWritten) {
  EXPECT_EQ(joined("[1.10, 123456789012345678901234567890, 1e3, -0.0]"), "1.10|123456789012345678901234567890|1e3|-0.0|");
  EXPECT_EQ(joined("{\"z\":1,\"a\":\"caf\xc3\xa9 \\u0000 \\n\"}"), "{\"z\":1,\"a\":\"caf\xc3\xa9 \\u0000 \\n\"}|") << "order and letters; no bytes that an argument cannot hold";
}

TEST(JsonItems, SayWhereTheyAreNoJson) {
  const std::vector<std::pair<std::string, std::string>> wrong{
      {"{\"a\":1}\n{\"a\":}\n", "error: cannot read the items: line 2, column 6 of runs.json: while parsing value: unexpected '}'; expected '[', '{', or a literal; write one JSON array, or one JSON value a line"},
      {"[1,\n 2,,\n 3]", "error: cannot read the items: line 2, column 4 of runs.json: while parsing value: unexpected ','; expected '[', '{', or a literal; write one JSON array, or one JSON value a line"},
      {"[1, 2", "error: cannot read the items: line 1, column 6 of runs.json: while parsing array: unexpected end of input; expected ']'; write one JSON array, or one JSON value a line"},
      {"{\"a\":1} {\"a\":2}", "error: cannot read the items: line 1, column 9 of runs.json: while parsing value: unexpected '{'; expected end of input; write one JSON array, or one JSON value a line"},
      {"one\n", "error: cannot read the items: line 1, column 1 of runs.json: while parsing value: invalid literal; last read: 'o'; write one JSON array, or one JSON value a line"},
  };
  for (const auto& [text, message] : wrong) EXPECT_EQ(joined(text), message);
  for (const std::string text : {"{\n\"a\":1}", "NaN", "[1]x", "\"\xff\"", "[\"a\" \"b\"]", "'a'", "{a:1}", "\xEF\xBB"}) EXPECT_TRUE(joined(text).starts_with("error: ")) << text;
}

TEST(JsonItems, HaveBounds) {
  EXPECT_EQ(joined("[1, \"" + std::string(kItemMax, 'x') + "\"]"), "error: cannot read the items: item 2 of runs.json: an item of over 65536 bytes; put it into a file, and its name here");
  EXPECT_EQ(joined("1\n\"" + std::string(kItemMax, 'x') + "\""), "error: cannot read the items: line 2 of runs.json: an item of over 65536 bytes; put it into a file, and its name here");
  EXPECT_EQ(joined(std::string(1'000'000, '[')), "error: cannot read the items: item 1 of runs.json: values are more than 100 deep inside each other; make it flatter");
  EXPECT_EQ(joined("1\n" + std::string(1'000'000, '[')), "error: cannot read the items: line 2 of runs.json: values are more than 100 deep inside each other; make it flatter");
}

TEST(JsonItems, FillTheirFieldsIntoTheCommand) {
  wire::Job job;
  ASSERT_TRUE(job_of({.words = {"train", "--lr", "{lr}"}}, split_json("[{\"lr\":0.1}]", "f").value(), "", {}, job));
  EXPECT_TRUE(job.command().json());
  EXPECT_TRUE(job.command().fill());
  EXPECT_EQ(job.lines().line(0), "{\"lr\":0.1}");
  wire::Job plain_job;
  ASSERT_TRUE(job_of({.words = {"train"}}, split_json("[{\"lr\":0.1}]", "f").value(), "", {}, plain_job));
  EXPECT_TRUE(plain_job.command().json()) << "it finds SOUK_PARAM_LR";
  EXPECT_FALSE(plain_job.command().fill());
  wire::Job mapped;
  ASSERT_TRUE(map_job_of({.words = {"train", "{lr}"}}, split_json("[{\"lr\":0.1}]", "f").value(), "", {}, mapped));
  EXPECT_EQ(mapped.command().argv_size(), 2) << "nothing is added where a field stands";
  wire::Job none;
  EXPECT_EQ(job_of({.words = {"train"}}, split_json("[]", "f.json").value(), "", {}, none).error().text(), "nothing to submit: f.json has no item; give it one JSON value a task");
}

}  // namespace
}  // namespace souk
