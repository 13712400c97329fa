// A store that was put back from a copy is told so, once, before a manager goes on with it.
#pragma once
#include <cstdint>
#include <filesystem>

#include "protocol/result.h"

namespace souk {

/// Leaps over the epochs and job numbers that may have been used since the copy was made, and holds every open job: some of its tasks may be done.
/// fails: if there is no store, or it is in use, damaged, or of a newer version
Result<Done> mark_put_back(const std::filesystem::path& store, std::uint64_t now_ms);

}  // namespace souk
