// What a service and its worker write to each other through a pipe. Pure; docs/SERVICES.md has the format.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"

namespace souk::worker {

enum class Framing : std::uint8_t {
  binary,  // messages of service/service.proto, each behind its length as a varint
  json,    // one JSON object a line
};

constexpr std::uint64_t kPing = 0;                        // the id of requests that only ask for a sign of life
constexpr std::size_t kAnswerMax = (16u << 20) + 1024;    // bytes of one binary answer: as much as the most that is kept of a task's output
constexpr std::size_t kAnswerLineMax = 2 * kAnswerMax;    // of one in JSON: text with escapes, or base64

struct ServiceRequest {
  std::uint64_t id = kPing;
  std::string_view body;
  std::string_view item;  // beside a body that is not the item itself
  std::uint64_t job = 0, task = 0;
  unsigned run = 1;       // which run of the task this is
};
/// Appends it. In JSON, a body or item that is no UTF-8 travels as base64, in `body_base64` or `item_base64`.
void append(std::string& to, Framing framing, const ServiceRequest& request);

struct ServiceAnswer {
  std::uint64_t id = kPing;
  bool failed = false;
  std::string body;  // of a failed one, its error text
};

/// Cuts what comes from a service into answers. Needs no more memory than the answers themselves and one that is not whole yet.
class AnswerReader {
 public:
  explicit AnswerReader(Framing framing) : framing_(framing) {}
  /// Takes the next bytes, however they are cut, and appends the answers that are whole now.
  /// fails: on what is no answer; nothing that comes after can be read then. Answers before it were appended.
  Result<Done> take(std::string_view bytes, std::vector<ServiceAnswer>& answers);

 private:
  Result<std::size_t> take_binary(std::string_view bytes, std::vector<ServiceAnswer>& answers);
  Result<std::size_t> take_json(std::string_view bytes, std::vector<ServiceAnswer>& answers);

  Framing framing_;
  std::string rest_;          // of an answer that is not whole yet
  std::size_t needed_ = 0;    // binary: bytes of that answer, as far as known
  std::size_t searched_ = 0;  // json: as far there is no end of line in it
};

}  // namespace souk::worker
