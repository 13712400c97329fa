// What a worker says it was given. Attempts leave under a number that says by itself to whom: the manager's own number, and behind it some bits that only who has
// the store's key can tell from chance, over the life, the task and the worker. So whoever names an attempt, also of an earlier life of which nothing but the store
// is left, was given it, and no worker can name those of others. Workers need not know: to them it is a number that grows. Of the lives before the key there is no
// such proof: what ran and was done when a manager that knows it took over is not thrown away for that.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "manager/event.h"
#include "manager/siphash.h"

namespace souk {

struct ClaimsKey {
  SipKey key{};
  Epoch since{};  // the life in which it began: what earlier ones gave out left under its own number
};

class Claims {
 public:
  static constexpr unsigned kSealBits = 24;   // behind the number, which has 39: 5 * 10^11 attempts in one life
  // In a life so many claims may be wrong, each counted once, of one worker, and of all workers of an account. Then nothing is believed that it says of earlier lives.
  static constexpr std::size_t kFalseMax = 16, kFalseOfAccount = 64;
  static constexpr std::size_t kAccountsMax = 10'000;  // of whom that is counted; beyond, each counts as one that guessed too often

  Claims(ClaimsKey key, Epoch now) : key_(key.key), since_(key.since), now_(now) {}
  /// The number under which the attempt goes to that worker. jid: its full, real one; what each life adds to it (Roster::stem) does not count
  std::uint64_t sealed(const std::string& jid, const Held& what) const;
  /// Of this life, where the scheduler knows besides whose it is.
  static std::uint64_t number_of(std::uint64_t sealed) { return sealed >> kSealBits; }
  /// What it means by an attempt that it names. Nothing: it was never given that.
  /// from_before: its account worked here when the key began, or before. In the life in which it began all are believed of those before it.
  std::optional<Held> proven(const std::string& jid, const Held& said, bool from_before = false);

 private:
  struct False {
    std::uint64_t worker, what;  // hashes
  };
  std::uint64_t hash(const Held& what, const std::string& stem) const;

  SipKey key_;
  Epoch since_, now_;
  std::map<std::string, std::vector<False>> false_;  // by bare JID
};

}  // namespace souk
