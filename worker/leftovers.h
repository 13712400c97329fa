// What a killed worker may leave, if its runners and guards were killed with it: processes that belong to nobody any more.
#pragma once
#include <sys/types.h>

#include <cstdint>
#include <vector>

namespace souk {

/// A number that all processes below a runner carry, whatever they do: their limit of real-time processor time, which nobody uses, and which no process
/// without privileges can raise. It is centuries long, so that it limits nothing. Environment, session, parent and descriptors of a task are its own to change.
/// file:   of the working folder, the same as long as that exists
/// yields: 0 if there is no room for one: more workers within tasks of workers than anybody has. Its last bits are free, for the number of a runner
std::uint64_t mark_of(int file);

/// The mark of one of the folder's runners: 1, 2, 3, ... It comes again after 65,535 others.
std::uint64_t mark_of_runner(std::uint64_t mark, std::uint64_t number);

/// In the child that becomes a runner: system calls only.
void carry_mark(std::uint64_t mark);

/// Kills all processes that carry the mark, of one runner or of all that a folder ever had, and waits until they are gone: `rounds` times 5 ms at most.
/// For who knows that nobody living is in charge of them: the runner has ended, or no worker has the folder.
/// yields: those that will not go
std::vector<pid_t> kill_marked(std::uint64_t mark, int rounds = 200);

/// This process, instead of the system's first, becomes the parent of those below it whose own has ended; or no more.
void adopt_orphans(bool adopt);

/// Kills and reaps what was adopted, whatever it did to hide: children of this process in sessions of others, but for these.
/// yields: whether none is left
bool kill_adopted(const std::vector<pid_t>& ours, int rounds);

}  // namespace souk
