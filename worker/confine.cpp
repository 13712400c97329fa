#include "worker/confine.h"

#include <algorithm>
#include <charconv>

#include "protocol/notation.h"

namespace souk::worker {

Confinement confine(const Confining& with, std::string_view submitter, const Command& command) {
  Confinement answer;
  answer.grace = command.grace;
  if (!command.service.empty()) return answer;  // the owner's own program answers; nothing of the submitter's runs
  const bool own = !submitter.empty() && submitter == with.owner;
  answer.boxed = with.mode == SandboxMode::bwrap || command.sandbox == Sandboxing::required || !command.image.empty() || (with.mode == SandboxMode::automatic && !own);
  if (answer.boxed || !own) answer.grace = std::min<std::chrono::milliseconds>(answer.grace, kStrangersGraceMax);
  if (!answer.boxed) return answer;
  const std::string whose = own ? "" : "a task of " + (submitter.empty() ? std::string("somebody unknown") : std::string(submitter)) + " would need a sandbox here";
  if (command.sandbox == Sandboxing::none) {
    answer.refusal = "asks to run without a sandbox, which " + (with.mode == SandboxMode::bwrap ? std::string("no task does here") : "only tasks of " + with.owner + " do here");
  } else if (!with.can) {
    answer.refusal = (whose.empty() ? std::string("asks for a sandbox") : whose) + ", and none works: " + with.why_not;
  } else if (!command.image.empty() && !with.images.contains(command.image)) {
    answer.refusal = "asks for image " + command.image + ", which is not offered here";
  } else if (command.network && !with.allows_network && !own) {
    answer.refusal = "asks for the network, which its owner does not allow to tasks of others (--allow-network)";
  }
  answer.network = command.network;
  return answer;
}

Bounds bounds_for(const Bounds& owners, const Command& command, const Needs& needs, std::uint64_t memory_of_slot, std::uint64_t disk_of_slot) {
  const auto cpus = static_cast<std::uint64_t>(std::max(1, needs.cpus));
  const auto least = [](std::uint64_t a, std::uint64_t b) { return a == 0 ? b : b == 0 ? a : std::min(a, b); };  // 0: no bound
  Bounds bounds = owners;
  bounds.memory = least(owners.memory, needs.memory_bytes > 0 ? needs.memory_bytes : memory_of_slot * cpus);
  bounds.disk = least(owners.disk, needs.disk_bytes > 0 ? needs.disk_bytes : disk_of_slot * cpus);
  bounds.file = least(owners.file, bounds.disk);
  if (bounds.memory > 0) bounds.tmp = std::min(bounds.tmp, std::max<std::uint64_t>(bounds.memory / 2, 1 << 20));  // it is memory
  if (owners.time.count() > 0) bounds.time = command.time_limit.count() > 0 ? std::min(owners.time, command.time_limit) : owners.time;
  else bounds.time = command.time_limit;
  return bounds;
}

Result<Done> read_bound(std::string_view text, Bounds& into) {
  const auto bad = [&](std::string why) {
    return Error{"bound " + quoted(text) + " refused", std::move(why), "write memory=2GiB, processes=64, file=1GiB, disk=10GiB, tmp=64MiB, cpu=1h or time=2h"};
  };
  const auto equals = text.find('=');
  if (equals == std::string_view::npos) return bad("it has no name and amount");
  const std::string_view name = text.substr(0, equals), value = text.substr(equals + 1);
  if (name == "processes") {
    std::uint64_t number = 0;
    const auto [end, failure] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (failure != std::errc{} || end != value.data() + value.size() || number < 1 || number > 1'000'000) return bad("that is no number from 1 to 1000000");
    into.processes = number;
    return Done{};
  }
  if (name == "cpu" || name == "time") {
    const auto time = parse_duration(value);
    if (!time) return bad(time.error().why);
    if (time.value().count() < 1000) return bad("that is less than a second");
    (name == "cpu" ? into.cpu : into.time) = time.value();
    return Done{};
  }
  std::uint64_t* const size = name == "memory" ? &into.memory : name == "file" ? &into.file : name == "disk" ? &into.disk : name == "tmp" ? &into.tmp : nullptr;
  if (size == nullptr) return bad("there is no bound of that name");
  const auto read = parse_size(value);
  if (!read) return bad(read.error().why);
  if (read.value() < 1 << 20) return bad("that is less than 1 MiB");
  *size = read.value();
  return Done{};
}

}  // namespace souk::worker
