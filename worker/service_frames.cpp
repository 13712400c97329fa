#include "worker/service_frames.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "protocol/payload.h"

namespace souk::worker {

namespace {

using Json = nlohmann::json;

Error bad(std::string why) { return Error{"no answer of a service", std::move(why), ""}; }

// ---- Protocol Buffers by hand: a request of three small fields is 50 ns this way, and no service needs a library of ours ------------

// Numbers of fields in service/service.proto.
enum RequestField : std::uint32_t { kRequestId = 1, kRequestBody = 2, kRequestJob = 3, kRequestTask = 4, kRequestRun = 5, kRequestItem = 6 };
enum AnswerField : std::uint32_t { kAnswerId = 1, kAnswerBody = 2, kAnswerError = 3 };
enum WireType : std::uint32_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::size_t varint_size(std::uint64_t value) {
  std::size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}
void append_varint(std::string& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to.push_back(static_cast<char>(value | 0x80));
  to.push_back(static_cast<char>(value));
}

/// Every field's tag is one byte: all numbers are below 16.
std::size_t number_size(std::uint64_t value) { return value == 0 ? 0 : 1 + varint_size(value); }
std::size_t bytes_size(std::string_view value) { return value.empty() ? 0 : 1 + varint_size(value.size()) + value.size(); }
void append_number(std::string& to, std::uint32_t field, std::uint64_t value) {
  if (value == 0) return;
  to.push_back(static_cast<char>(field << 3 | kVarint));
  append_varint(to, value);
}
void append_bytes(std::string& to, std::uint32_t field, std::string_view value) {
  if (value.empty()) return;
  to.push_back(static_cast<char>(field << 3 | kBytes));
  append_varint(to, value.size());
  to += value;
}

/// Takes a varint of at most ten bytes off the front.
enum class Took : std::uint8_t { yes, short_of_bytes, no };
Took take_varint(std::string_view& bytes, std::uint64_t& value) {
  value = 0;
  for (std::size_t i = 0; i < 10; ++i) {
    if (i == bytes.size()) return Took::short_of_bytes;
    const auto byte = static_cast<unsigned char>(bytes[i]);
    if (i == 9 && byte > 1) return Took::no;  // past 64 bits
    value |= static_cast<std::uint64_t>(byte & 0x7f) << (7 * i);
    if (byte < 0x80) {
      bytes.remove_prefix(i + 1);
      return Took::yes;
    }
  }
  return Took::no;
}

/// One whole message.
bool read(std::string_view bytes, ServiceAnswer& answer) {
  while (!bytes.empty()) {
    std::uint64_t tag = 0, value = 0;
    if (take_varint(bytes, tag) != Took::yes || tag >> 3 == 0 || tag > UINT32_MAX) return false;
    const auto field = static_cast<std::uint32_t>(tag >> 3);
    switch (tag & 7) {
      case kVarint:
        if (take_varint(bytes, value) != Took::yes) return false;
        if (field == kAnswerId) answer.id = value;
        break;
      case kBytes: {
        if (take_varint(bytes, value) != Took::yes || value > bytes.size()) return false;
        const std::string_view part = bytes.substr(0, value);
        bytes.remove_prefix(value);
        if (field == kAnswerError) answer.failed = true, answer.body = part;
        if (field == kAnswerBody && !answer.failed) answer.body = part;
        break;
      }
      case kFixed64:
      case kFixed32: {
        const std::size_t size = (tag & 7) == kFixed64 ? 8 : 4;
        if (bytes.size() < size) return false;
        bytes.remove_prefix(size);
        break;
      }
      default: return false;  // groups
    }
  }
  return true;
}

// ---- JSON -----------------------------------------------------------------------------------------------------------------------

void append_text(std::string& to, const char* name, std::string_view value) {
  to.append(",\"").append(name);
  const std::string text(value);
  try {
    const std::string quoted = Json(text).dump();
    to.append("\":").append(quoted);
  } catch (const Json::type_error&) {  // no UTF-8
    to.append("_base64\":\"").append(base64(value)).push_back('"');
  }
}

/// Reads the members of one object as they come and builds no tree: nothing in a line can make it need more memory than the line.
class AnswerHandler : public nlohmann::json_sax<Json> {
 public:
  explicit AnswerHandler(ServiceAnswer& answer) : answer_(answer) {}
  std::string why;
  bool has_id = false;

  bool null() override { return text("null", false); }
  bool boolean(bool value) override { return text(value ? "true" : "false", false); }
  bool number_integer(number_integer_t value) override {
    if (depth_ == 1 && key_ == "id") return refuse("its id is " + std::to_string(value));
    return text(std::to_string(value), false);
  }
  bool number_unsigned(number_unsigned_t value) override {
    if (depth_ == 1 && key_ == "id") {
      answer_.id = value;
      return has_id = true;
    }
    return text(std::to_string(value), false);
  }
  bool number_float(number_float_t, const string_t& written) override { return text(written, false); }
  bool string(string_t& value) override { return text(std::move(value), true); }
  bool binary(binary_t&) override { return false; }
  bool start_object(std::size_t) override { return enter(); }
  bool start_array(std::size_t) override { return depth_ > 0 ? enter() : refuse("it is a list"); }
  bool end_object() override { return --depth_, true; }
  bool end_array() override { return --depth_, true; }
  bool key(string_t& name) override {
    if (depth_ == 1) key_ = std::move(name);
    return true;
  }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception&) override { return refuse("it is no JSON"); }

 private:
  static constexpr int kDepthMax = 100;
  bool refuse(std::string reason) {
    if (why.empty()) why = std::move(reason);
    return false;
  }
  bool enter() {
    if (depth_ == 1 && (key_ == "id" || key_ == "body" || key_ == "body_base64" || key_ == "error")) return refuse("its " + key_ + " is neither text nor a number");
    return ++depth_ <= kDepthMax || refuse("it is nested over " + std::to_string(kDepthMax) + " levels");
  }
  bool text(std::string value, bool quoted) {
    if (depth_ == 0) return refuse("it is no object");
    if (depth_ > 1) return true;
    if (key_ == "id") return refuse("its id is no whole number");
    if (key_ == "error" && (quoted || value != "null")) {
      answer_.failed = true;
      answer_.body = std::move(value);
    } else if (key_ == "body" && !answer_.failed && (quoted || value != "null")) {
      answer_.body = std::move(value);
    } else if (key_ == "body_base64" && !answer_.failed) {
      auto bytes = from_base64(value);
      if (!bytes || !quoted) return refuse("its body_base64 is no base64");
      answer_.body = std::move(bytes.value());
    }
    return true;
  }

  ServiceAnswer& answer_;
  std::string key_;
  int depth_ = 0;
};

}  // namespace

void append(std::string& to, Framing framing, const ServiceRequest& request) {
  if (framing == Framing::json) {
    to.append("{\"id\":").append(std::to_string(request.id));
    if (request.id == kPing) {
      to.append(",\"ping\":true}\n");
      return;
    }
    append_text(to, "body", request.body);
    if (!request.item.empty()) append_text(to, "item", request.item);
    to.append(",\"job\":").append(std::to_string(request.job)).append(",\"task\":").append(std::to_string(request.task));
    to.append(",\"run\":").append(std::to_string(request.run)).append("}\n");
    return;
  }
  append_varint(to, number_size(request.id) + bytes_size(request.body) + number_size(request.job) + number_size(request.task) + number_size(request.run > 1 ? request.run : 0) +
                        bytes_size(request.item));
  append_number(to, kRequestId, request.id);
  append_bytes(to, kRequestBody, request.body);
  append_number(to, kRequestJob, request.job);
  append_number(to, kRequestTask, request.task);
  append_number(to, kRequestRun, request.run > 1 ? request.run : 0);
  append_bytes(to, kRequestItem, request.item);
}

Result<Done> AnswerReader::take(std::string_view bytes, std::vector<ServiceAnswer>& answers) {
  if (!rest_.empty()) {
    rest_ += bytes;
    if (rest_.size() < needed_) return Done{};
    bytes = rest_;
  }
  const auto taken = framing_ == Framing::binary ? take_binary(bytes, answers) : take_json(bytes, answers);
  if (!taken) return taken.error();
  if (rest_.empty()) rest_ = bytes.substr(taken.value());
  else rest_.erase(0, taken.value());
  if (rest_.empty() && rest_.capacity() > (1u << 20)) std::string().swap(rest_);  // one large answer must not cost its memory for ever
  return Done{};
}

Result<std::size_t> AnswerReader::take_binary(std::string_view bytes, std::vector<ServiceAnswer>& answers) {
  const std::size_t all = bytes.size();
  needed_ = 0;
  for (;;) {
    const std::size_t before = bytes.size();
    if (before == 0) return all;
    std::uint64_t size = 0;
    const Took took = take_varint(bytes, size);
    if (took == Took::no) return bad("it does not begin with its length");
    if (took == Took::short_of_bytes) return all - before;
    if (size > kAnswerMax) return bad("its length is said to be " + std::to_string(size) + " bytes, at most " + std::to_string(kAnswerMax) + " are allowed");
    if (size > bytes.size()) {
      needed_ = before - bytes.size() + size;
      return all - before;
    }
    if (!read(bytes.substr(0, size), answers.emplace_back())) {
      answers.pop_back();
      return bad("its " + std::to_string(size) + " bytes are no message of service.proto");
    }
    bytes.remove_prefix(size);
  }
}

Result<std::size_t> AnswerReader::take_json(std::string_view bytes, std::vector<ServiceAnswer>& answers) {
  std::size_t begin = 0;
  for (;;) {
    const std::size_t end = bytes.find('\n', std::max(begin, std::exchange(searched_, 0)));
    if (end == bytes.npos) {
      if (bytes.size() - begin > kAnswerLineMax) return bad("a line of over " + std::to_string(kAnswerLineMax) + " bytes");
      searched_ = bytes.size() - begin;
      return begin;
    }
    std::string_view line = bytes.substr(begin, end - begin);
    begin = end + 1;
    if (line.find_first_not_of(" \t\r") == line.npos) continue;
    AnswerHandler handler(answers.emplace_back());
    bool good = Json::sax_parse(line.begin(), line.end(), &handler) && handler.has_id;
    if (good && answers.back().body.size() > kAnswerMax) good = false, handler.why = "it is over " + std::to_string(kAnswerMax) + " bytes";
    if (good) continue;
    answers.pop_back();
    std::string shown(line.substr(0, 80));
    for (char& c : shown)
      if (c < 0x20 || c > 0x7e) c = '?';  // it goes to logs and terminals
    return bad((handler.why.empty() ? "it has no id" : handler.why) + ": '" + shown + "'");
  }
}

}  // namespace souk::worker
