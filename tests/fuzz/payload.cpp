// What comes in the elements of urn:souk:task:1 and urn:souk:job:1: base64, zlib, messages, and what is read of them into core types.
// Input: a letter for the message, a letter for how it comes (b base64, z base64 of zlib, d bytes to be deflated first, else the bytes of a message), the rest.
#include <zlib.h>

#include "protocol/form.h"
#include "protocol/grid.pb.h"
#include "protocol/payload.h"
#include "tests/fuzz/fuzz.h"

namespace souk {
namespace {

using fuzz::must;

std::string deflated(std::string_view bytes) {
  uLongf size = compressBound(static_cast<uLong>(bytes.size()));
  std::string out(size, '\0');
  compress2(reinterpret_cast<Bytef*>(out.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()), static_cast<uLong>(bytes.size()), 1);
  out.resize(size);
  return out;
}

bool same(const Command& a, const Command& b) {
  return a.argv == b.argv && a.shell == b.shell && a.env == b.env && a.input == b.input && a.time_limit == b.time_limit && a.grace == b.grace && a.output_max == b.output_max &&
         a.fill == b.fill && a.json == b.json && a.pin == b.pin && a.network == b.network && a.sandbox == b.sandbox && a.service == b.service && a.image == b.image;
}
bool same(const Outcome& a, const Outcome& b) {
  return a.cause == b.cause && a.exit_code == b.exit_code && a.signal == b.signal && a.why == b.why && a.wall == b.wall && a.cpu == b.cpu && a.peak_memory_kib == b.peak_memory_kib &&
         a.out == b.out && a.err == b.err && a.out_size == b.out_size && a.err_size == b.err_size;
}

void examine(const wire::Command& message) {
  const auto command = read(message);
  if (!command) return;
  must(bool(check(command.value())), "a command that was read is one that may be sent");
  wire::Command again;
  write(command.value(), again);
  const auto back = read(again);
  must(back && same(back.value(), command.value()), "a command is the same after a journey");
}
void examine(const wire::Outcome& message) {
  const auto outcome = read(message);
  if (!outcome) return;
  must(outcome.value().out.size() <= kOutputMax && outcome.value().out_size >= outcome.value().out.size(), "streams are bounded and not longer than said");
  wire::Outcome again;
  write(outcome.value(), again);
  const auto back = read(again);
  must(bool(back), "an outcome that was read can be told on");
  Outcome expected = outcome.value();
  expected.why = back.value().why;  // made printable, and cut
  must(back.value().why.size() <= kWhyMax && is_printable(back.value().why) && same(back.value(), expected), "an outcome is the same after a journey");
}
void examine(const wire::Needs& message) {
  const auto needs = read(message);
  if (!needs) return;
  must(bool(check(needs.value())), "needs that were read are in range");
  wire::Needs again;
  write(needs.value(), again);
  const auto back = read(again);
  must(back && back.value() == needs.value(), "needs are the same after a journey");
}
void examine(const wire::Report& message) {
  for (const auto& result : message.results()) examine(result.outcome());
}
void examine(const wire::Assign& message) {
  for (const auto& command : message.commands()) examine(command.command()), examine(command.needs());
}
void examine(const wire::ResultsAnswer& message) {
  for (const auto& result : message.results()) examine(result.outcome());
}
template <class Other>
void examine(const Other&) {}

template <class Message>
void take(char how, std::string_view bytes) {
  Message message;
  const auto read = how == 'b'   ? decode(bytes, false, message)
                    : how == 'z' ? decode(bytes, true, message)
                    : how == 'd' ? decode(base64(deflated(bytes)), true, message)
                                 : parse(bytes, message);
  if (!read) return must(!read.error().why.empty(), "a refusal says why");
  must(message.ByteSizeLong() <= kInflatedMax * 2, "a message is bounded");
  examine(message);
  // What was understood can be told on, in the same words.
  const Encoded encoded = encode(message);
  Message again;
  must(bool(decode(encoded.text, encoded.zlib, again)), "what was read can be sent on");
  must(again.ByteSizeLong() == message.ByteSizeLong(), "a message is the same after a journey");
}

}  // namespace
}  // namespace souk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  if (size > fuzz::kInputMax) return 0;
  auto rest = fuzz::text_of(bytes, size);
  const char what = static_cast<char>(fuzz::byte_off(rest)), how = static_cast<char>(fuzz::byte_off(rest));
  switch (what) {
    case 'h': take<wire::Hello>(how, rest); break;
    case 'H': take<wire::HelloAnswer>(how, rest); break;
    case 'a': take<wire::Assign>(how, rest); break;
    case 'A': take<wire::AssignAnswer>(how, rest); break;
    case 'c': take<wire::Command>(how, rest); break;
    case 'p': take<wire::CommandPart>(how, rest); break;
    case 's': take<wire::Stop>(how, rest); break;
    case 'r': take<wire::Report>(how, rest); break;
    case 'R': take<wire::ReportAnswer>(how, rest); break;
    case 'l': take<wire::Lease>(how, rest); break;
    case 'n': take<wire::Needs>(how, rest); break;
    case 'o': take<wire::Outcome>(how, rest); break;
    case 'j': take<wire::SubmitRequest>(how, rest); break;
    case 'q': take<wire::StatusRequest>(how, rest); break;
    case 'Q': take<wire::StatusAnswer>(how, rest); break;
    case 't': take<wire::ResultsRequest>(how, rest); break;
    case 'T': take<wire::ResultsAnswer>(how, rest); break;
    case 'y': take<wire::WhyAnswer>(how, rest); break;
    case 'w': take<wire::WorkersAnswer>(how, rest); break;
    case 'e': take<wire::Event>(how, rest); break;
    default: {  // base64 alone: what is accepted is written in one way only
      const auto raw = from_base64(rest);
      if (raw) fuzz::must(base64(raw.value()) == rest, "base64 has one way to write a value", rest);
      fuzz::must(from_base64(base64(rest)).value() == rest, "base64 keeps every byte");
    }
  }
  return 0;
}
