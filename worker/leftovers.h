// What a killed worker may leave, if its runners and guards were killed with it: processes that belong to nobody any more.
#pragma once
#include <cstdint>

namespace souk {

/// A number that all processes below a runner carry, whatever they do: their limit of real-time processor time, which nobody uses, and which no process
/// without privileges can raise. It is centuries long, so that it limits nothing. Environment, session, parent and descriptors of a task are its own to change.
/// file:   of the working folder, the same as long as that exists
/// yields: 0 if there is no room for one: more workers within tasks of workers than anybody has
std::uint64_t mark_of(int file);

/// In the child that becomes a runner: system calls only.
void carry_mark(std::uint64_t mark);

/// Kills all processes that carry the mark, and waits a moment until they are gone. For who holds the lock of the folder: then nobody living has any.
void kill_marked(std::uint64_t mark);

}  // namespace souk
