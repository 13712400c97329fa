#include "submit/json_items.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "protocol/command.h"
#include "submit/render.h"

namespace souk {
namespace {

using Json = nlohmann::json;

/// Writes compact text as the parser goes, without a tree in between: what is refused is refused at once, and numbers stay as they were.
class Writer : public nlohmann::json_sax<Json> {
 public:
  /// elements: an array at the top gives its elements as items; else the value is the one item
  Writer(bool elements, std::vector<std::string>& items) : elements_(elements), items_(items) {}

  bool null() override { return value("null"); }
  bool boolean(bool yes) override { return value(yes ? "true" : "false"); }
  bool number_integer(number_integer_t number) override { return value(std::to_string(number)); }
  bool number_unsigned(number_unsigned_t number) override { return value(std::to_string(number)); }
  bool number_float(number_float_t, const string_t& digits) override { return value(digits); }  // also integers of any length
  bool string(string_t& text) override { return value(Json(text).dump()); }
  bool binary(binary_t&) override { return false; }  // not in JSON text
  bool key(string_t& name) override {
    separate();
    text_ += Json(name).dump();
    text_ += ':';
    first_ = true;  // no comma between a key and its value
    return text_.size() <= kItemMax || stop(fmt::format("an item of over {} bytes", kItemMax), "put it into a file, and its name here");
  }
  bool start_object(std::size_t) override { return open('{'); }
  bool end_object() override { return close('}'); }
  bool start_array(std::size_t) override {
    if (elements_ && depth_ == 0 && !inside_) return inside_ = true;
    return open('[');
  }
  bool end_array() override {
    if (elements_ && depth_ == 0) return true;  // the one around the items
    return close(']');
  }
  bool parse_error(std::size_t position, const std::string&, const nlohmann::detail::exception& failure) override {
    position_ = position == 0 ? 0 : position - 1;
    // `[json.exception.parse_error.101] parse error at line 1, column 3: syntax error while parsing value - unexpected ...`
    why_ = failure.what();
    if (const auto at = why_.find("syntax error "); at != std::string::npos) why_.erase(0, at + 13);
    if (const auto at = why_.find(" - "); at != std::string::npos) why_.replace(at, 3, ": ");
    return false;
  }

  const std::string& why() const { return why_; }
  const std::string& remedy() const { return remedy_; }
  std::size_t position() const { return position_; }

 private:
  bool value(std::string_view text) {
    separate();
    text_ += text;
    return item_done();
  }
  bool open(char bracket) {
    separate();
    text_ += bracket;
    first_ = true;
    if (++depth_ > kJsonDepthMax) return stop(fmt::format("values are more than {} deep inside each other", kJsonDepthMax), "make it flatter");
    return true;
  }
  bool close(char bracket) {
    text_ += bracket;
    first_ = false;
    --depth_;
    return item_done();
  }
  void separate() {
    if (depth_ != 0 && !first_) text_ += ',';
    first_ = false;
  }
  bool item_done() {
    if (text_.size() > kItemMax) return stop(fmt::format("an item of over {} bytes", kItemMax), "put it into a file, and its name here");
    if (depth_ != 0) return true;
    items_.push_back(std::move(text_));
    text_.clear();
    first_ = false;
    return true;
  }
  bool stop(std::string why, std::string remedy) {
    why_ = std::move(why);
    remedy_ = std::move(remedy);
    return false;
  }

  bool elements_, inside_ = false, first_ = false;
  std::size_t depth_ = 0, position_ = std::string::npos;
  std::string text_, why_, remedy_;
  std::vector<std::string>& items_;
};

struct Place {
  std::size_t line = 1, column = 1;
};
Place place_of(std::string_view text, std::size_t position) {
  const auto before = text.substr(0, std::min(position, text.size()));
  const auto newline = before.rfind('\n');
  return {static_cast<std::size_t>(std::count(before.begin(), before.end(), '\n')) + 1, before.size() - (newline == std::string_view::npos ? 0 : newline + 1) + 1};
}

constexpr std::string_view kBlank = " \t\r\n";

bool is_blank(std::string_view text) { return text.find_first_not_of(kBlank) == std::string_view::npos; }

/// Whether each line is a value of its own: unless the text begins an array that its first line does not end.
bool is_lines(std::string_view text) {
  const auto begin = text.find_first_not_of(kBlank);
  if (begin == std::string_view::npos || text[begin] != '[') return true;
  const auto newline = text.find('\n', begin);
  if (newline == std::string_view::npos || is_blank(text.substr(newline))) return false;
  return Json::accept(text.substr(begin, newline - begin));
}

}  // namespace

Result<Items> split_json(std::string_view text, std::string from) {
  Items items{{}, std::move(from)};
  items.json = true;
  const auto refuse = [&](const Writer& writer, std::size_t offset, std::size_t item) {
    const bool known = writer.position() != std::string::npos;
    const auto place = place_of(text, offset + (known ? writer.position() : 0));
    const std::string where = known ? fmt::format("line {}, column {} of {}", place.line, place.column, items.from)
                                    : item == 0 ? fmt::format("line {} of {}", place.line, items.from) : fmt::format("item {} of {}", item, items.from);
    return Error{"cannot read the items", where + ": " + plain(writer.why(), 300), writer.remedy().empty() ? "write one JSON array, or one JSON value a line" : writer.remedy()};
  };
  if (!is_lines(text)) {
    Writer writer(true, items.values);
    if (!Json::sax_parse(text, &writer)) return refuse(writer, 0, items.values.size() + 1);
    return items;
  }
  for (std::size_t offset = 0; offset < text.size();) {
    const auto end = std::min(text.find('\n', offset), text.size());
    const auto line = text.substr(offset, end - offset);
    if (!is_blank(line)) {
      Writer writer(false, items.values);
      if (!Json::sax_parse(line, &writer)) return refuse(writer, offset, 0);
    }
    offset = end + 1;
  }
  return items;
}

}  // namespace souk
