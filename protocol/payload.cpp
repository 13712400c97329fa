#include "protocol/payload.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/message_lite.h>
#include <google/protobuf/stubs/logging.h>
#include <google/protobuf/wire_format_lite.h>
#include <openssl/evp.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <memory>
#include <vector>

#include "protocol/form.h"
#include "protocol/grid.pb.h"

namespace souk {
namespace {

constexpr std::size_t kPlainMax = 512;            // messages up to this size are not worth compressing
constexpr std::size_t kBase64BytesMax = 1u << 30;  // EVP counts in int

Error unreadable(std::string why, std::string remedy = {}) { return Error{"payload refused", std::move(why), std::move(remedy)}; }

/// 0 to 63 for a character of the alphabet of RFC 4648 §4, else -1.
constexpr auto kAlphabet = [] {
  std::array<std::int8_t, 256> values{};
  values.fill(-1);
  constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  for (std::size_t i = 0; i < letters.size(); ++i) values[static_cast<unsigned char>(letters[i])] = static_cast<std::int8_t>(i);
  return values;
}();

/// zlib's states, kept for the next message of this thread: making one clears some 300 KiB, more work than a small batch is itself.
struct Deflater {
  z_stream stream{};
  bool ready = deflateInit(&stream, 1) == Z_OK;
  ~Deflater() {
    if (ready) deflateEnd(&stream);
  }
};
struct Inflater {
  z_stream stream{};
  bool ready = inflateInit(&stream) == Z_OK;
  ~Inflater() {
    if (ready) inflateEnd(&stream);
  }
};

/// zlib only reads its input.
Bytef* input_of(std::string_view bytes) { return reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data())); }

/// Level 1: the server between us pays for each byte, and the higher levels cost more time than they save bytes.
/// Empty when it saves less than a sixteenth.
std::string deflated(std::string_view bytes) {
  thread_local Deflater deflater;
  std::string packed;
  if (!deflater.ready || deflateReset(&deflater.stream) != Z_OK) return packed;
  packed.resize(bytes.size() - bytes.size() / 16);
  deflater.stream.next_in = input_of(bytes);
  deflater.stream.avail_in = static_cast<uInt>(bytes.size());
  deflater.stream.next_out = reinterpret_cast<Bytef*>(packed.data());
  deflater.stream.avail_out = static_cast<uInt>(packed.size());
  const int status = deflate(&deflater.stream, Z_FINISH);
  packed.resize(status == Z_STREAM_END ? packed.size() - deflater.stream.avail_out : 0);
  return packed;
}

/// Images and archives cost milliseconds to find out that nothing is gained, so a piece from the middle of a large message tells first.
bool seems_compressible(std::string_view bytes) {
  constexpr std::size_t kLarge = 16 << 10, kSample = 4 << 10;
  return bytes.size() < kLarge || !deflated(bytes.substr(bytes.size() / 2 - kSample / 2, kSample)).empty();
}

Result<std::string> inflated(const std::string& packed) {
  thread_local Inflater inflater;
  if (!inflater.ready || inflateReset(&inflater.stream) != Z_OK) return unreadable("zlib could not start");
  z_stream& stream = inflater.stream;
  stream.next_in = input_of(packed);
  stream.avail_in = static_cast<uInt>(packed.size());
  std::string bytes;
  int status = Z_OK;
  while (status == Z_OK) {
    const std::size_t have = bytes.size();
    if (have > kInflatedMax) return unreadable("it inflates to more than 8 MiB", "send it in parts");
    // Grows with what really comes out, so that a short lie about its size costs nothing.
    bytes.resize(std::min(kInflatedMax + 1, std::max<std::size_t>(have * 2, 16 << 10)));
    stream.next_out = reinterpret_cast<Bytef*>(bytes.data() + have);
    stream.avail_out = static_cast<uInt>(bytes.size() - have);
    status = inflate(&stream, Z_NO_FLUSH);
    bytes.resize(bytes.size() - stream.avail_out);
    if (status == Z_OK && stream.avail_in == 0 && stream.avail_out != 0) return unreadable("its zlib data ends early");
  }
  if (status == Z_BUF_ERROR) return unreadable("its zlib data ends early");
  if (status != Z_STREAM_END) return unreadable("it is no zlib data");
  if (bytes.size() > kInflatedMax) return unreadable("it inflates to more than 8 MiB", "send it in parts");
  if (stream.avail_in != 0) return unreadable("something follows its zlib data");
  return bytes;
}

/// Which fields of a message hold messages with repeated fields of their own. What is not named holds none, and what is unknown
/// costs no more in memory than on the wire.
struct Shape {
  int field;
  std::vector<Shape> inside;
};

const std::vector<Shape>& shape_of(const google::protobuf::MessageLite& message) {
  static const std::vector<Shape> none,
      group{{wire::Group::kCommandFieldNumber, {}}, {wire::Group::kLinesFieldNumber, {}}, {wire::Group::kNeedsFieldNumber, {}}, {wire::Group::kRetryFieldNumber, {}}},
      job{{wire::Job::kCommandFieldNumber, {}}, {wire::Job::kLinesFieldNumber, {}}, {wire::Job::kNeedsFieldNumber, {}}, {wire::Job::kRetryFieldNumber, {}}, {wire::Job::kGroupsFieldNumber, group}},
      submit{{wire::SubmitRequest::kJobFieldNumber, job}},
      assign{{wire::Assign::kCommandsFieldNumber, {{wire::JobCommand::kCommandFieldNumber, {}}, {wire::JobCommand::kNeedsFieldNumber, {}}}}},
      submitted{{wire::SubmitAnswer::kMatchesFieldNumber, {}}}, workers{{wire::WorkersAnswer::kWorkersFieldNumber, {{wire::WorkerStatus::kOfferFieldNumber, {}}}}};
  if (dynamic_cast<const wire::Job*>(&message)) return job;
  if (dynamic_cast<const wire::SubmitRequest*>(&message)) return submit;
  if (dynamic_cast<const wire::Assign*>(&message)) return assign;
  if (dynamic_cast<const wire::SubmitAnswer*>(&message)) return submitted;
  if (dynamic_cast<const wire::WorkersAnswer*>(&message)) return workers;
  return none;
}

using google::protobuf::io::CodedInputStream;
using google::protobuf::internal::WireFormatLite;

/// Adds the fields up to the limit of `stream`, at each level of `shape`. False on bytes that are no message, or past kElementsMax.
bool count_elements(CodedInputStream& stream, const std::vector<Shape>& shape, std::size_t& elements) {
  while (const std::uint32_t tag = stream.ReadTag()) {
    if (++elements > kElementsMax) return false;
    const auto inside = std::find_if(shape.begin(), shape.end(), [&](const Shape& s) { return s.field == WireFormatLite::GetTagFieldNumber(tag); });
    if (inside == shape.end() || WireFormatLite::GetTagWireType(tag) != WireFormatLite::WIRETYPE_LENGTH_DELIMITED) {
      if (!WireFormatLite::SkipField(&stream, tag)) return false;
      continue;
    }
    int size = 0;
    if (!stream.ReadVarintSizeAsInt(&size)) return false;
    const auto outer = stream.PushLimit(size);
    if (!count_elements(stream, inside->inside, elements)) return false;
    stream.PopLimit(outer);
  }
  return stream.ConsumedEntireMessage();
}

bool has_nul(const std::string& text) { return text.find('\0') != std::string::npos; }

/// Milliseconds or microseconds from the wire; nothing we measure lasts a century, and a sum of two stays in range.
template <class Time>
bool take(std::uint64_t wire, Time& into) {
  constexpr auto kCentury = std::chrono::duration_cast<Time>(std::chrono::hours(24 * 36525));
  if (wire > static_cast<std::uint64_t>(kCentury.count())) return false;
  into = Time(static_cast<typename Time::rep>(wire));
  return true;
}

template <class Time>
std::uint64_t count(Time time) {
  return time.count() > 0 ? static_cast<std::uint64_t>(time.count()) : 0;
}

}  // namespace

std::string base64(std::string_view bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');  // EVP_EncodeBlock ends it with a NUL
  // In pieces divisible by three: EVP counts in int.
  constexpr std::size_t kPiece = 3u << 20;
  std::size_t size = 0;
  for (; !bytes.empty(); bytes.remove_prefix(std::min(kPiece, bytes.size())))
    size += static_cast<std::size_t>(EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data() + size), reinterpret_cast<const unsigned char*>(bytes.data()),
                                                     static_cast<int>(std::min(kPiece, bytes.size()))));
  text.resize(size);
  return text;
}

// EVP_DecodeBlock forgives white space, bits set under the padding and '=' in the middle; two texts for the same bytes would
// make payloads hard to compare, so all of it is refused first (RFC 4648 §3.3, §3.5).
Result<std::string> from_base64(std::string_view text) {
  if (text.empty()) return std::string();
  if (text.size() % 4 != 0) return unreadable("it is no base64: its length is " + std::to_string(text.size()) + ", not a multiple of 4");
  if (text.size() > kBase64BytesMax) return unreadable("its base64 text is over 1 GiB", "send it in parts");
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with('=') ? 1 : 0;
  const std::string_view letters = text.substr(0, text.size() - padding);
  const auto bad = std::find_if(letters.begin(), letters.end(), [](char c) { return kAlphabet[static_cast<unsigned char>(c)] < 0; });
  if (bad != letters.end()) return unreadable("it is no base64 at character " + std::to_string(bad - letters.begin() + 1), "use the alphabet of RFC 4648 §4 without white space");
  const int last = kAlphabet[static_cast<unsigned char>(letters.back())];
  if ((padding == 1 && (last & 3) != 0) || (padding == 2 && (last & 15) != 0)) return unreadable("the last bits of its base64 are not zero");
  std::string bytes(text.size() / 4 * 3, '\0');
  const int size = EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()), reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (size != static_cast<int>(bytes.size())) return unreadable("it is no base64");
  bytes.resize(bytes.size() - padding);
  return bytes;
}

Encoded encode(const google::protobuf::MessageLite& message) {
  const std::string bytes = message.SerializeAsString();
  if (bytes.size() > kPlainMax && seems_compressible(bytes))
    if (const std::string packed = deflated(bytes); !packed.empty()) return {base64(packed), true};
  return {base64(bytes), false};
}

Result<Done> decode(std::string_view text, bool zlib, google::protobuf::MessageLite& message) {
  if (text.size() > kTextMax) return unreadable("its text is over 512 KiB", "send it in parts");
  auto bytes = from_base64(text);
  if (!bytes) return bytes.error();
  if (zlib) {
    bytes = inflated(bytes.value());
    if (!bytes) return bytes.error();
  }
  return parse(bytes.value(), message);
}

Result<Done> parse(std::string_view bytes, google::protobuf::MessageLite& message) {
  // protobuf prints to stderr what our Error says as well; a hostile peer must not fill a log.
  [[maybe_unused]] static const auto before = google::protobuf::SetLogHandler(nullptr);
  const Error unknown = unreadable("it is no " + message.GetTypeName(), "see protocol/grid.proto");
  if (bytes.size() > static_cast<std::size_t>(std::numeric_limits<int>::max())) return unknown;  // protobuf counts in int
  const auto size = static_cast<int>(bytes.size());
  if (bytes.size() > kElementsMax) {  // an element takes two bytes or more: below that there is nothing to count
    CodedInputStream stream(reinterpret_cast<const std::uint8_t*>(bytes.data()), size);
    std::size_t elements = 0;
    if (!count_elements(stream, shape_of(message), elements))
      return elements > kElementsMax ? unreadable("it has more than " + std::to_string(kElementsMax) + " elements", "send less at once") : unknown;
  }
  if (!message.ParseFromArray(bytes.data(), size)) return unknown;
  return Done{};
}

Result<Done> check(const Command& command) {
  const auto bad = [](std::string why, std::string remedy) { return Error{"command refused", std::move(why), std::move(remedy)}; };
  if (!command.service.empty()) {
    if (const auto good = check_service_name(command.service); !good) return good.error();
    if (command.shell || !command.env.empty() || command.pin) return bad("it calls service " + command.service + ", which has no shell line, environment or processors of a task's own", "leave them out");
  } else if (command.argv.empty()) {
    return bad("it has no program", "name one");
  }
  if (!command.image.empty()) {
    if (const auto good = check_image_name(command.image); !good) return good.error();
    if (!command.service.empty()) return bad("it calls service " + command.service + " and names an image, and services run as their workers' owners have them", "leave one of them out");
    if (command.sandbox == Sandboxing::none) return bad("it names an image and asks to run without a sandbox, and an image is the system of a sandbox", "leave one of them out");
  }
  if (command.argv.size() > kArgumentsMax) return bad("it has " + std::to_string(command.argv.size()) + " arguments", "send at most 4096, or an input");
  if (command.service.empty() && command.argv.front().empty()) return bad("the name of its program is empty", "name one");
  if (command.shell && command.argv.size() != 1) return bad("a shell command has " + std::to_string(command.argv.size()) + " lines", "send one");
  if (command.env.size() > kArgumentsMax) return bad("it has " + std::to_string(command.env.size()) + " environment variables", "send at most 4096");
  std::size_t total = 0;
  for (const auto& argument : command.argv) {
    if (has_nul(argument)) return bad("an argument holds a NUL byte", "no program could read it; send it as input");
    total += argument.size() + 1;
  }
  for (const auto& [name, value] : command.env) {
    if (name.empty() || name.find('=') != std::string::npos) return bad("an environment variable is named '" + printable(shortened(name, 64)) + "'", "use a name without '='");
    if (has_nul(name) || has_nul(value)) return bad("an environment variable holds a NUL byte", "no program could read it; send it as input");
    total += name.size() + value.size() + 2;
  }
  if (total > kCommandMax) return bad("arguments and environment are " + std::to_string(total) + " bytes", "send at most 1 MiB, the rest as input");
  if (command.input.size() > kInputMax) return bad("its input is " + std::to_string(command.input.size()) + " bytes", "send at most 8 MiB");
  if (command.output_max > kOutputMax) return bad("it asks to keep " + std::to_string(command.output_max) + " bytes of output", "ask for at most 16 MiB");
  if (command.time_limit.count() < 0 || command.time_limit > kTimeLimitMax) return bad("its time limit is " + std::to_string(command.time_limit.count()) + " ms", "ask for at most 366 days, or 0 for none");
  if (command.grace.count() < 0 || command.grace > kGraceMax) return bad("its grace is " + std::to_string(command.grace.count()) + " ms", "ask for at most one hour");
  return Done{};
}

void write(const Command& command, wire::Command& message) {
  message.Clear();
  for (const auto& argument : command.argv) message.add_argv(argument);
  message.set_shell(command.shell);
  for (const auto& [name, value] : command.env) {
    auto* variable = message.add_env();
    variable->set_name(name);
    variable->set_value(value);
  }
  message.set_input(command.input);
  message.set_time_limit_ms(count(command.time_limit));
  message.set_grace_ms(std::max<std::uint64_t>(1, count(command.grace)));
  message.set_output_max(std::max<std::size_t>(1, command.output_max));
  message.set_fill(command.fill), message.set_json(command.json), message.set_pin(command.pin);
  message.set_network(command.network), message.set_sandbox(static_cast<wire::Sandbox>(command.sandbox));
  message.set_service(command.service);
  message.set_image(command.image);
}

Result<Command> read(const wire::Command& message) {
  Command command;
  command.argv.assign(message.argv().begin(), message.argv().end());
  command.shell = message.shell();
  for (const auto& variable : message.env()) command.env.emplace_back(variable.name(), variable.value());
  command.input = message.input();
  command.fill = message.fill(), command.json = message.json(), command.pin = message.pin();
  command.network = message.network();
  command.sandbox = message.sandbox() == wire::UNBOXED ? Sandboxing::none : message.sandbox() == wire::BY_OWNER ? Sandboxing::by_owner : Sandboxing::required;
  command.service = message.service();
  command.image = message.image();
  if (message.output_max() != 0) command.output_max = message.output_max();
  if (!take(message.time_limit_ms(), command.time_limit)) command.time_limit = std::chrono::milliseconds::max();  // check() names it
  if (message.grace_ms() != 0 && !take(message.grace_ms(), command.grace)) command.grace = std::chrono::milliseconds::max();
  if (const auto checked = check(command); !checked) return checked.error();
  return command;
}

void write(const Needs& needs, wire::Needs& message) {
  message.set_cpus(static_cast<std::uint32_t>(needs.cpus)), message.set_memory_bytes(needs.memory_bytes), message.set_disk_bytes(needs.disk_bytes);
  message.set_gpus(static_cast<std::uint32_t>(needs.gpus));
  for (const auto& [name, amount] : needs.resources) {
    auto& one = *message.add_resources();
    one.set_name(name), one.set_amount(amount);
  }
}

Result<Needs> read(const wire::Needs& message) {
  const auto bad = [](std::string why) { return Error{"needs refused", std::move(why), ""}; };
  if (message.cpus() > static_cast<std::uint32_t>(kCpusMax)) return bad(std::to_string(message.cpus()) + " cpus, at most " + std::to_string(kCpusMax) + " can be asked");
  if (message.gpus() > static_cast<std::uint32_t>(kGpusMax)) return bad(std::to_string(message.gpus()) + " gpus, at most " + std::to_string(kGpusMax) + " can be asked");
  if (message.resources_size() > static_cast<int>(kResourcesMax)) return bad("over " + std::to_string(kResourcesMax) + " kinds of resources");
  Needs needs;
  needs.cpus = std::max(1, static_cast<int>(message.cpus()));
  needs.memory_bytes = message.memory_bytes(), needs.disk_bytes = message.disk_bytes();
  needs.gpus = static_cast<int>(message.gpus());
  for (const auto& one : message.resources())
    if (!needs.resources.emplace(one.name(), one.amount()).second) return bad("resource " + one.name().substr(0, kResourceNameMax) + " is there twice");
  if (auto good = check(needs); !good) return good.error();
  return needs;
}

void write(const Outcome& outcome, wire::Outcome& message) {
  message.Clear();
  message.set_cause(static_cast<wire::Outcome::Cause>(outcome.cause));
  message.set_exit_code(static_cast<std::uint32_t>(std::max(0, outcome.exit_code)));
  message.set_signal(static_cast<std::uint32_t>(std::max(0, outcome.signal)));
  // An empty string that is set takes memory of its own, one that is not takes none.
  if (!outcome.why.empty()) message.set_why(shortened(printable(shortened(outcome.why, kWhyMax)), kWhyMax));
  message.set_wall_us(count(outcome.wall));
  message.set_cpu_us(count(outcome.cpu));
  message.set_peak_memory_kib(outcome.peak_memory_kib);
  if (!outcome.out.empty()) message.set_out(outcome.out);
  if (!outcome.err.empty()) message.set_err(outcome.err);
  message.set_out_size(outcome.out_size);
  message.set_err_size(outcome.err_size);
}

Result<Outcome> read(const wire::Outcome& message) {
  const auto bad = [](std::string why) { return Error{"outcome refused", std::move(why), "see protocol/grid.proto"}; };
  if (!wire::Outcome::Cause_IsValid(message.cause())) return bad("cause " + std::to_string(message.cause()) + " is not known");
  static_assert(static_cast<int>(Cause::exited) == wire::Outcome::EXITED && static_cast<int>(Cause::signaled) == wire::Outcome::SIGNALED &&
                static_cast<int>(Cause::timed_out) == wire::Outcome::TIMED_OUT && static_cast<int>(Cause::canceled) == wire::Outcome::CANCELED &&
                static_cast<int>(Cause::not_started) == wire::Outcome::NOT_STARTED && static_cast<int>(Cause::lost) == wire::Outcome::LOST);
  if (message.exit_code() > static_cast<std::uint32_t>(std::numeric_limits<std::int32_t>::max())) return bad("exit code " + std::to_string(message.exit_code()) + " is out of range");
  if (message.signal() > 255) return bad("signal " + std::to_string(message.signal()) + " is out of range");
  if (message.out().size() > kOutputMax || message.err().size() > kOutputMax) return bad("a stream is over 16 MiB");
  if (message.out_size() < message.out().size() || message.err_size() < message.err().size()) return bad("a stream is longer than its stated size");
  Outcome outcome;
  if (!take(message.wall_us(), outcome.wall) || !take(message.cpu_us(), outcome.cpu)) return bad("a time is over a century");
  outcome.cause = static_cast<Cause>(message.cause());
  outcome.exit_code = static_cast<int>(message.exit_code());
  outcome.signal = static_cast<int>(message.signal());
  outcome.why = shortened(message.why(), kWhyMax);
  outcome.peak_memory_kib = message.peak_memory_kib();
  outcome.out = message.out();
  outcome.err = message.err();
  outcome.out_size = message.out_size();
  outcome.err_size = message.err_size();
  return outcome;
}

}  // namespace souk
