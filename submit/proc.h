// What the kernel tells about processes and ports of this machine.
#pragma once
#include <cstdint>
#include <optional>
#include <vector>

namespace souk {

/// Memory a process has in use; nothing if it is gone or a zombie.
std::optional<std::uint64_t> resident_bytes(int pid);

/// Direct children of this process, zombies too.
std::vector<int> children();

enum class Listener { nobody, ours, other };
/// Who listens on a port of the loopback (or every) address: `pid`, somebody else, or nobody.
Listener listener(int pid, std::uint16_t port);

}  // namespace souk
