// What a worker says it was given. Attempts leave under a number that says by itself to whom: the manager's own number, and behind it some bits that only who has
// the store's key can tell from chance, over the life, the task and the worker. So whoever names an attempt, also of an earlier life of which nothing but the store
// is left, was given it, and no worker can name those of others. Workers need not know: to them it is a number that grows.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "manager/event.h"
#include "manager/siphash.h"

namespace souk {

class Claims {
 public:
  static constexpr unsigned kSealBits = 24;   // behind the number, which has 39: 5 * 10^11 attempts in one life
  static constexpr unsigned kFalseMax = 16;   // of one account in a life: so many may be guessed wrong. Then nothing is believed that it says of earlier ones
  static constexpr std::size_t kAccountsMax = 10'000;  // of whom that is counted; beyond, each counts as one that guessed too often

  Claims(SipKey key, Epoch now) : key_(key), now_(now) {}
  /// The number under which the attempt goes to that worker. jid: its full, real one; what each life adds to it (Roster::stem) does not count
  std::uint64_t sealed(const std::string& jid, const Held& what) const;
  /// Of this life, where the scheduler knows besides whose it is.
  static std::uint64_t number_of(std::uint64_t sealed) { return sealed >> kSealBits; }
  /// What it means by an attempt that it names. Nothing: it was never given that.
  std::optional<Held> proven(const std::string& jid, const Held& said);

 private:
  std::uint64_t seal_of(const std::string& jid, const Held& what) const;

  SipKey key_;
  Epoch now_;
  std::map<std::string, unsigned> false_;  // by bare JID
};

}  // namespace souk
