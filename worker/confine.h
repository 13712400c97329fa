// Which tasks run in a sandbox, which bare, and which not at all: what the owner of this worker, the submitter and the host have to say. Pure.
#pragma once
#include <chrono>
#include <cstdint>
#include <set>
#include <string>
#include <string_view>

#include "protocol/command.h"
#include "protocol/needs.h"
#include "protocol/result.h"
#include "worker/launch.h"

namespace souk::worker {

/// What `--sandbox` says.
enum class SandboxMode : std::uint8_t {
  automatic,  // own tasks bare, others in a sandbox or not at all
  none,       // all tasks bare: whoever may submit is trusted like the owner
  bwrap,      // all tasks in one
};

struct Confining {
  SandboxMode mode = SandboxMode::automatic;
  bool can = false;         // a sandbox works here
  std::string why_not;      // and if not, why
  bool allows_network = false;
  std::string owner;        // bare JID whose tasks are this worker's own
  Bounds bounds{};          // of tasks in a sandbox
  std::set<std::string> images{};  // that this worker's owner offers
};

struct Confinement {
  bool boxed = false, network = false;
  std::chrono::milliseconds grace{0};  // how long it may take to end when it is told to
  std::string refusal;                 // not empty: it is not run here
};

/// Of tasks of others and of those in a sandbox, whatever they ask for: it is no way round the owner's limits, nor to stay when the owner is back.
inline constexpr std::chrono::seconds kStrangersGraceMax{10};

/// submitter: bare JID, as the manager says; empty: nobody's own
Confinement confine(const Confining& with, std::string_view submitter, const Command& command);

/// What a sandboxed attempt may take: what it asked for, where nothing was asked its slots' share of the host, and never more than the owner's bounds.
Bounds bounds_for(const Bounds& owners, const Command& command, const Needs& needs, std::uint64_t memory_of_slot, std::uint64_t disk_of_slot);

/// Reads `memory=2GiB`, `processes=64`, `file=1GiB`, `disk=10GiB`, `tmp=64MiB`, `cpu=1h` or `time=2h` into its field.
Result<Done> read_bound(std::string_view text, Bounds& into);

}  // namespace souk::worker
