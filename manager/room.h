// How much of each resource there is: what a task takes, what a worker has, and what is left of it. Plain arithmetic.
#pragma once
#include <algorithm>
#include <cstdint>
#include <utility>
#include <vector>

namespace souk {

struct Room {
  int slots = 0, gpus = 0;
  std::uint64_t memory = 0, disk = 0;  // bytes
  std::vector<std::pair<std::uint32_t, std::uint64_t>> named;  // resource number -> amount, by number; see Market

  std::uint64_t amount_of(std::uint32_t resource) const {
    const auto at = std::lower_bound(named.begin(), named.end(), std::pair{resource, std::uint64_t{0}});
    return at != named.end() && at->first == resource ? at->second : 0;
  }
};

inline bool fits(const Room& need, const Room& free) {
  if (need.slots > free.slots || need.gpus > free.gpus || need.memory > free.memory || need.disk > free.disk) return false;
  return std::all_of(need.named.begin(), need.named.end(), [&](const auto& one) { return one.second <= free.amount_of(one.first); });
}

/// fits(need, free) must hold; every resource named in `need` is in `free`.
inline void take(Room& free, const Room& need) {
  free.slots -= need.slots, free.gpus -= need.gpus, free.memory -= need.memory, free.disk -= need.disk;
  for (const auto& [resource, amount] : need.named) std::lower_bound(free.named.begin(), free.named.end(), std::pair{resource, std::uint64_t{0}})->second -= amount;
}
inline void give_back(Room& free, const Room& need) {
  free.slots += need.slots, free.gpus += need.gpus, free.memory += need.memory, free.disk += need.disk;
  for (const auto& [resource, amount] : need.named) std::lower_bound(free.named.begin(), free.named.end(), std::pair{resource, std::uint64_t{0}})->second += amount;
}

}  // namespace souk
