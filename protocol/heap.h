// How a program that works in batches keeps its memory.
#pragma once
#include <malloc.h>

namespace souk {

/// A batch takes some hundred KiB and gives them back: up to 4 MiB stay for the next one, instead of going back to the system and being faulted in anew.
/// First thing in main().
inline void keep_freed_memory() {
  constexpr int kept = 4 << 20;
  ::mallopt(M_TRIM_THRESHOLD, kept);
  ::mallopt(M_MMAP_THRESHOLD, kept);
}

}  // namespace souk
