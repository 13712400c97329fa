// Removes what attempts leave on disk. Shared by the runner and the executor, and so without the C++ library.
#pragma once
#include <cstdint>

namespace souk {

/// Removes the entry `name` of the open directory `parent` with everything in it: also folders without permissions, and trees deeper than a path may be
/// long. Follows no symbolic link and enters no mount; it detaches mounts instead, so that a folder bound into an attempt's survives.
/// until_us: of runner_clock.h; what is not removed by then stays
/// yields: 0, also if there was nothing; else the errno of the first thing that stayed, ETIME for want of time
int remove_tree(int parent, const char* name, std::int64_t until_us = INT64_MAX);

}  // namespace souk
