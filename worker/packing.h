// What of this worker is free, and who gets which of what is handed out one by one. Pure.
#pragma once
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "protocol/needs.h"
#include "protocol/offer.h"

namespace souk::worker {

/// What there is beside slots. Nothing of a kind: whoever asks for it is refused.
struct Capacity {
  std::uint64_t memory_bytes = 0, disk_bytes = 0;
  int gpus = 0;
  std::map<std::string, OfferedResource> resources{};
  std::vector<int> processors{};  // that pinned attempts are bound to, as the kernel numbers them
};

/// What an attempt got of what is handed out one by one.
struct Granted {
  std::vector<int> gpus;                                 // indexes
  std::map<std::string, std::vector<std::string>> units;  // of resources with named ones
  std::vector<int> processors;                           // it is bound to these; none: to no processor
  friend bool operator==(const Granted&, const Granted&) = default;
};

/// Slots are the worker's cpus: an attempt takes as many as it asks. GPUs and named units go lowest first. Processors are not scarce: each pinned
/// attempt gets those that the fewest other pinned ones have, lowest first; so none is shared until slots outnumber processors, and then evenly.
class Packing {
 public:
  Packing(int slots, const Capacity& capacity);

  /// Why this worker could not run it even with nothing else to do; nothing: it could.
  std::optional<std::string> never(const Needs& needs) const;
  bool fits(const Needs& needs) const;
  Granted take(const Needs& needs, bool pin);  // which fit
  /// The same with what was granted before; false if some of it is not free.
  bool take_these(const Needs& needs, const Granted& granted);
  void give_back(const Needs& needs, const Granted& granted);
  int slots_free() const { return slots_free_; }
  friend bool operator==(const Packing&, const Packing&) = default;

 private:
  struct Kind {
    std::uint64_t all = 0, free = 0;
    std::vector<std::string> names;
    std::set<std::size_t> free_names;  // positions in names
    friend bool operator==(const Kind&, const Kind&) = default;
  };
  void take_amounts(const Needs& needs);

  int slots_ = 1, slots_free_ = 1;
  std::uint64_t memory_ = 0, memory_free_ = 0, disk_ = 0, disk_free_ = 0;
  int gpus_ = 0;
  std::set<int> gpus_free_;
  std::map<std::string, Kind> kinds_;
  std::map<int, int> pinned_;  // processor -> attempts bound to it
};

}  // namespace souk::worker
