// Large commands that the manager sent ahead of the assignments that need them (docs/PROTOCOL.md §5.6).
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/command.h"
#include "protocol/ids.h"
#include "protocol/needs.h"
#include "protocol/result.h"

namespace souk::worker {

/// One of a job's commands: that of its group.
struct CommandId {
  JobId job;
  std::uint32_t group = 0;
  friend auto operator<=>(const CommandId&, const CommandId&) = default;
};

/// A command as it came: ready to run, or with the reason why it cannot be.
struct Received {
  std::shared_ptr<const Command> command;
  std::string problem;
  Needs needs;  // of its tasks; those of one cpu until told otherwise
  std::string owner{};  // of the job
};

class CommandStore {
 public:
  /// bytes_max: of all that is kept, whole or in the making; the least recently used goes first, and what runs keeps its own.
  explicit CommandStore(std::size_t bytes_max = 64u << 20) : bytes_max_(bytes_max) {}

  /// Takes the part of that serialized wire::Command at `offset`; at 0 the command begins anew.
  /// Fails on parts that do not follow each other or do not fit their stated size: the rest of that command is dropped and reported as missing later.
  Result<Done> take(CommandId id, std::uint64_t offset, std::uint64_t size, std::string_view part);

  /// Remembers with the command what its tasks need, and whose job it is; without a whole command there is nothing to remember it with.
  void tell_needs(CommandId id, const Needs& needs, const std::string& owner = {});

  /// What came for that group of the job, or null when nothing whole did.
  const Received* find(CommandId id);
  std::size_t bytes() const { return bytes_; }

 private:
  struct Kept {
    std::unique_ptr<Received> whole;
    std::size_t whole_bytes = 0;
    std::string part;
    std::uint64_t used = 0;
    std::size_t bytes() const { return whole_bytes + part.size(); }
  };
  void make_room(CommandId except);

  const std::size_t bytes_max_;
  std::map<CommandId, Kept> kept_;
  std::size_t bytes_ = 0;
  std::uint64_t uses_ = 0;
};

}  // namespace souk::worker
