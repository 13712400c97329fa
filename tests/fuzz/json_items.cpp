// Items that are JSON, from where they are read (submit) to where they fill a command (worker). Input: a byte for the separator, the text.
#include "submit/json_items.h"

#include <nlohmann/json.hpp>

#include "protocol/command.h"
#include "protocol/quoting.h"
#include "tests/fuzz/fuzz.h"
#include "worker/fill.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  using fuzz::must;
  if (size > fuzz::kInputMax) return 0;
  auto text = fuzz::text_of(bytes, size);
  const auto items = split_json(text, "items.json");
  if (!items) {
    must(fuzz::is_safe_for_a_terminal(items.error().text()), "a refusal is safe for a terminal", items.error().text());
  } else {
    std::size_t sum = 0;
    for (const std::string& item : items.value().values) {
      sum += item.size();
      must(item.size() <= kItemMax, "items are bounded");
      must(nlohmann::json::accept(item), "an item is JSON", item);
      const auto again = split_json(item, "item");
      must(bool(again), "an item can be read again", item);
      if (item.front() != '[') must(again.value().values.size() == 1 && again.value().values[0] == item, "an item is compact already", item);
      // On the worker.
      const Fields fields = fields_of(item);
      const auto json = nlohmann::json::parse(item);
      must(!json.is_object() || json.size() == fields.size() + json.count(""), "an object has its fields", item);
      must(json.is_object() || fields.empty(), "nothing else has any", item);
      const std::string filled = fill_in("a {} {a} {/} {.} {#} {name} {", item, TaskNumber{3}, false, fields);
      must(filled.size() <= 64 + 8 * kItemMax, "what is filled in is bounded");
    }
    must(sum <= 2 * size + 16, "items are not larger than their text");
  }
  const char separator = static_cast<char>(fuzz::byte_off(text));
  if (const auto lines = split_items(text, separator, "list")) {
    std::string joined;
    for (const std::string& line : lines.value().values) {
      joined += line + separator;
      must(line.size() <= kItemMax && line.find('\0') == std::string::npos, "an item can be an argument");
      const std::string quoted = shell_word(line);
      must(!quoted.empty() && (quoted == line || quoted.front() == '\'' || quoted.find('\'') != std::string::npos), "what is not plain is quoted", quoted);
    }
    must(joined == text || joined == std::string(text) + separator, "no line is lost", joined);
  }
  return 0;
}
