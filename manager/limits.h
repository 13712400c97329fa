// What each owner may have of the grid, as the manager's options say it, and of the manager's memory. Pure.
#pragma once
#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "manager/event.h"
#include "protocol/result.h"

namespace souk {

constexpr std::uint64_t kMemoryMaxMin = 16u << 20, kMemoryMaxDefault = 2ull << 30;

class Limits {
 public:
  /// `ada@example.edu=2`: twice the share of others. Weights from 0.001 to 1000. `*` or no owner: everybody not named.
  Result<Done> add_share(std::string_view text);
  /// `ada@example.edu:running=100,queued=5000`, `*:queued=100000`, `running=20`: tasks at a time, and tasks that wait; 0: no limit.
  Result<Done> add_limit(std::string_view text);
  /// Bytes that the manager may fill with what others send; MemoryShares says for what.
  Result<Done> set_memory_max(std::string_view text);  // `512MiB`, `4GiB`; at least 16MiB
  void set_machine_memory(std::uint64_t bytes);        // a quarter of it, 2 GiB at most
  std::uint64_t memory_max() const { return memory_max_; }
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
  std::uint64_t memory_max_ = kMemoryMaxDefault;
};

/// Something of which there is only so much, such as memory, and which owners share without shutting each other out: each may have three times what
/// all leave free, which is seven tenths of it for one alone. Its last sixteenth is for those who have next to nothing (a thousandth of it).
class Space {
 public:
  enum class Room { yes, later, never };  // later: when others, or the owner's own, gave some back; never: it is more than one may have

  explicit Space(std::uint64_t most) : most_(most) {}
  Room room(const std::string& owner, std::uint64_t amount) const;
  void take(const std::string& owner, std::uint64_t amount);  // also without room: what is there already has to be counted
  void give_back(const std::string& owner, std::uint64_t amount);
  std::uint64_t most() const { return most_; }
  std::uint64_t most_each() const { return std::max(common() / 4 * 3, small()); }
  std::uint64_t used() const { return used_; }
  std::uint64_t used_by(const std::string& owner) const;

 private:
  std::uint64_t common() const { return most_ - most_ / 16; }
  std::uint64_t small() const { return most_ / 1024; }
  std::uint64_t most_, used_ = 0;
  std::map<std::string, std::uint64_t> by_;
};

/// How the manager's memory (--memory-max) is shared out. Each part is a bound of its own, so that none starves another.
struct MemoryShares {
  explicit MemoryShares(std::uint64_t memory_max) : jobs(memory_max / 2), outputs(memory_max / 4), requests(memory_max / 8) {}
  std::uint64_t jobs;      // specifications of jobs that have not ended
  std::uint64_t outputs;   // large outputs on their way from the workers
  std::uint64_t requests;  // what users sent and has no answer yet, jobs in parts among them
};

/// Whose turn it is when many ask at once: owners one after the other, each one's requests in their order.
template <class Request>
class Turns {
 public:
  void push(const std::string& owner, Request request) {
    auto& own = of_[owner];
    if (own.empty()) next_.push_back(owner);
    own.push_back(std::move(request));
  }
  bool empty() const { return next_.empty(); }
  /// Of a queue that is not empty.
  Request pop() {
    const std::string owner = std::move(next_.front());
    next_.pop_front();
    const auto own = of_.find(owner);
    Request request = std::move(own->second.front());
    own->second.pop_front();
    if (own->second.empty()) of_.erase(own);
    else next_.push_back(owner);
    return request;
  }

 private:
  std::map<std::string, std::deque<Request>> of_;
  std::deque<std::string> next_;  // who has something, in their turn
};

}  // namespace souk
