// Bytes to messages and back, with every bound checked: the one parser that everything from the wire passes.
// The text of an element is base64 of a serialized message, of zlib data if the element says encoding='zlib' (docs/PROTOCOL.md §7).
#pragma once
#include <string>
#include <string_view>

#include "protocol/command.h"
#include "protocol/ids.h"
#include "protocol/result.h"

namespace google::protobuf {
class MessageLite;
}
namespace souk::wire {
class Command;
class Outcome;
class Attempt;
}  // namespace souk::wire

namespace souk {

constexpr std::size_t kStanzaMax = 96 << 10;    // raw payload bytes we put into one stanza, before base64
constexpr std::size_t kTextMax = 512 << 10;     // base64 text we accept in one element
constexpr std::size_t kInflatedMax = 8 << 20;   // what it may grow to

struct Encoded {
  std::string text;  // base64
  bool zlib = false;
};
/// Compresses when the message is over 512 bytes and it helps.
Encoded encode(const google::protobuf::MessageLite& message);
/// Fails on text that is no base64, on data that does not inflate or grows past kInflatedMax, and on what is no such message.
Result<Done> decode(std::string_view text, bool zlib, google::protobuf::MessageLite& message);

std::string base64(std::string_view bytes);
Result<std::string> from_base64(std::string_view text);

/// Plain values to messages and back. Reading checks what command.h promises.
void write(const Command& command, wire::Command& message);
Result<Command> read(const wire::Command& message);
void write(const Outcome& outcome, wire::Outcome& message);
Result<Outcome> read(const wire::Outcome& message);

}  // namespace souk
