#include "worker/command_store.h"

#include <algorithm>

#include "grid.pb.h"
#include "protocol/payload.h"

namespace souk::worker {

namespace {
constexpr std::size_t kCommandBytesMax = kCommandMax + kInputMax + (1 << 20);  // serialized: with tags and lengths of 8192 strings
constexpr std::size_t kCommandsMax = 1024;
}  // namespace

Result<Done> CommandStore::take(CommandId id, std::uint64_t offset, std::uint64_t size, std::string_view part) {
  const auto bad = [](std::string why) { return Error{"command part refused", std::move(why), "send the command again from offset 0"}; };
  if (size == 0 || size > kCommandBytesMax) return bad("a command of " + std::to_string(size) + " bytes; at most " + std::to_string(kCommandBytesMax));
  Kept& kept = kept_[id];
  kept.used = ++uses_;
  if (offset == 0) {
    bytes_ -= kept.part.size();
    kept.part.clear();
  }
  if (part.empty() || offset != kept.part.size() || part.size() > size - offset) {
    bytes_ -= kept.part.size();
    kept.part = {};
    if (!kept.whole) kept_.erase(id);
    return bad("a part of " + std::to_string(part.size()) + " bytes at offset " + std::to_string(offset) + " of " + std::to_string(size) + " does not follow what came before");
  }
  kept.part += part;
  bytes_ += part.size();
  if (kept.part.size() == size) {
    wire::Command message;
    auto received = std::make_unique<Received>();
    if (const auto parsed = parse(kept.part, message); !parsed) {
      received->problem = parsed.error().text();
    } else if (auto command = read(message); !command) {
      received->problem = command.error().text();
    } else {
      received->command = std::make_shared<const Command>(std::move(command.value()));
    }
    if (kept.whole) received->needs = kept.whole->needs, received->owner = kept.whole->owner;  // those of a job's group never change
    bytes_ -= kept.whole_bytes;  // those of the part stay: they now count for the whole
    kept.whole = std::move(received);
    kept.whole_bytes = kept.part.size();
    kept.part = {};
  }
  make_room(id);
  return Done{};
}

void CommandStore::tell_needs(CommandId id, const Needs& needs, const std::string& owner) {
  const auto found = kept_.find(id);
  if (found == kept_.end() || !found->second.whole) return;
  found->second.whole->needs = needs;
  found->second.whole->owner = owner;
}

const Received* CommandStore::find(CommandId id) {
  const auto found = kept_.find(id);
  if (found == kept_.end() || !found->second.whole) return nullptr;
  found->second.used = ++uses_;
  return found->second.whole.get();
}

void CommandStore::make_room(CommandId except) {
  while ((bytes_ > bytes_max_ || kept_.size() > kCommandsMax) && kept_.size() > 1) {
    auto oldest = kept_.end();
    for (auto at = kept_.begin(); at != kept_.end(); ++at) {
      if (at->first != except && (oldest == kept_.end() || at->second.used < oldest->second.used)) oldest = at;
    }
    bytes_ -= oldest->second.bytes();
    kept_.erase(oldest);
  }
}

}  // namespace souk::worker
