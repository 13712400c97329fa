// What a store lacks because it was put back from a copy: epochs that it knows nothing of. Kept among the store's facts, told to people.
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "protocol/ids.h"

namespace souk {

class Lacks {
 public:
  using Facts = std::map<std::string, std::uint64_t>;
  explicit Lacks(Facts facts) : facts_(std::move(facts)) {}

  /// From the first to the second, both included; ordered.
  std::vector<std::pair<Epoch, Epoch>> epochs() const;
  /// For people; empty when nothing is missing, or that was long ago.
  std::string text(std::uint64_t now_ms) const;

  // Each gives the facts to keep.
  /// The store turns out to be a copy of the time before `from`; what workers may have seen until `to` is lost.
  Facts lost(Epoch from, Epoch to);
  /// The store was put back now; the last that it knows of happened at after_ms (0: nothing did).
  Facts put_back(std::uint64_t now_ms, std::uint64_t after_ms, Epoch from);
  /// A worker has obeyed that epoch.
  Facts named(Epoch epoch);
  /// A result of that task came from a lost epoch.
  Facts set_aside(TaskId task);

 private:
  std::uint64_t fact(const char* name) const;
  Facts keep(Facts facts);

  Facts facts_;
};

constexpr std::uint64_t kEpochLeap = 1000;  // lives of a manager that a copy may lack, and job numbers that are left out for them

}  // namespace souk
