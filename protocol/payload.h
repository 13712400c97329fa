// Bytes to messages and back, with every bound checked: the one parser that everything from the wire passes.
// The text of an element is base64 of a serialized message, of zlib data if the element says encoding='zlib' (docs/PROTOCOL.md §7).
#pragma once
#include <chrono>
#include <string>
#include <string_view>

#include "protocol/command.h"
#include "protocol/ids.h"
#include "protocol/needs.h"
#include "protocol/result.h"

namespace google::protobuf {
class MessageLite;
}
namespace souk::wire {
class Command;
class Outcome;
class Attempt;
class Needs;
}  // namespace souk::wire

namespace souk {

constexpr std::size_t kStanzaMax = 96 << 10;    // raw payload bytes we put into one stanza, before base64
constexpr std::size_t kTextMax = 512 << 10;     // base64 text we accept in one element
constexpr std::size_t kInflatedMax = 8 << 20;   // what it may grow to

constexpr std::size_t kElementsMax = 1 << 20;   // lines, arguments, attempts, ... in one message

constexpr std::size_t kArgumentsMax = 4096;     // entries of argv, and of env
constexpr std::size_t kCommandMax = 1 << 20;    // bytes of argv and env together, with a NUL after each as exec counts them
constexpr std::size_t kWhyMax = 1024;           // bytes of Outcome::why; longer is cut
constexpr std::chrono::milliseconds kTimeLimitMax = std::chrono::hours(24 * 366);
constexpr std::chrono::milliseconds kGraceMax = std::chrono::hours(1);

struct Encoded {
  std::string text;  // base64
  bool zlib = false;
};
/// Compresses when the message is over 512 bytes and it helps. Fields of type `string` must hold printable() text: a peer refuses a
/// message with one that is no UTF-8.
Encoded encode(const google::protobuf::MessageLite& message);
/// Fails on text that is no base64, on data that does not inflate or grows past kInflatedMax, and on what parse() refuses.
Result<Done> decode(std::string_view text, bool zlib, google::protobuf::MessageLite& message);
/// The same for bytes that came in another way: the parts of a job put together. Fails on what is no such message, and on more than
/// kElementsMax elements in it: two bytes on the wire can make a string of 60 in memory, so bytes alone bound nothing.
Result<Done> parse(std::string_view bytes, google::protobuf::MessageLite& message);

std::string base64(std::string_view bytes);
Result<std::string> from_base64(std::string_view text);

/// What command.h promises, and the bounds above: argv of 1 to kArgumentsMax entries (exactly one with `shell`), the first not empty, but for a
/// service, which needs none and takes no shell, env and pin; no NUL in argv, names and values; names not empty and without '='; input, output_max, time limit and grace in range.
/// Fails with what is wrong, for the peer; a submitter asks before it sends.
Result<Done> check(const Command& command);

/// Plain values to messages and back. Reading checks: a Command as check() does, an Outcome for a known cause, streams of at most kOutputMax
/// bytes and not longer than the size stated beside them, and times and codes in range. Writing makes `why` UTF-8 of at most kWhyMax bytes,
/// and raises an output_max or grace of zero to one, since zero on the wire stands for the default.
void write(const Command& command, wire::Command& message);
Result<Command> read(const wire::Command& message);
void write(const Outcome& outcome, wire::Outcome& message);
Result<Outcome> read(const wire::Outcome& message);
void write(const Needs& needs, wire::Needs& message);
Result<Needs> read(const wire::Needs& message);

}  // namespace souk
