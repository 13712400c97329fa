// What each owner may have of the grid, as the manager's options say it. Pure.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manager/event.h"
#include "protocol/result.h"

namespace souk {

class Limits {
 public:
  /// `ada@example.edu=2`: twice the share of others. Weights from 0.001 to 1000. `*` or no owner: everybody not named.
  Result<Done> add_share(std::string_view text);
  /// `ada@example.edu:running=100,queued=5000`, `*:queued=100000`, `running=20`: tasks at a time, and tasks that wait; 0: no limit.
  Result<Done> add_limit(std::string_view text);
  /// For the scheduler, everybody not named first.
  std::vector<OwnerSet> events() const;
  /// Tasks that may wait; 0: no limit.
  std::uint64_t queued_max(const std::string& owner) const;

 private:
  struct Limit {
    std::optional<double> weight;
    std::optional<std::uint64_t> running, queued;
  };
  std::map<std::string, Limit> of_;  // "": everybody not named
};

}  // namespace souk
