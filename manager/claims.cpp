#include "manager/claims.h"

#include "manager/roster.h"

namespace souk {

std::uint64_t Claims::seal_of(const std::string& jid, const Held& what) const {
  std::string of;
  of.reserve(4 * 8 + jid.size());
  for (const std::uint64_t number : {what.attempt.epoch.value, what.attempt.number, what.task.job.value, what.task.task.value})
    for (unsigned shift = 0; shift < 64; shift += 8) of += static_cast<char>(number >> shift);
  return siphash(key_, of += Roster::stem(jid)) >> (64 - kSealBits);
}

std::uint64_t Claims::sealed(const std::string& jid, const Held& what) const { return what.attempt.number << kSealBits | seal_of(jid, what); }

std::optional<Held> Claims::proven(const std::string& jid, const Held& said) {
  const bool earlier = said.attempt.epoch != now_;  // of this life the scheduler knows besides whose it is
  const std::string account = jid.substr(0, jid.find('/'));
  if (earlier) {
    const auto known = false_.find(account);
    if (known == false_.end() ? false_.size() >= kAccountsMax : known->second >= kFalseMax) return std::nullopt;
  }
  const Held what{{said.attempt.epoch, said.attempt.number >> kSealBits}, said.task};
  if ((said.attempt.number & ((1u << kSealBits) - 1)) == seal_of(jid, what)) return what;
  if (earlier) ++false_[account];
  return std::nullopt;
}

}  // namespace souk
