#include "manager/claims.h"

#include <algorithm>

#include "manager/roster.h"

namespace souk {

std::uint64_t Claims::hash(const Held& what, const std::string& stem) const {
  std::string of;
  of.reserve(4 * 8 + stem.size());
  for (const std::uint64_t number : {what.attempt.epoch.value, what.attempt.number, what.task.job.value, what.task.task.value})
    for (unsigned shift = 0; shift < 64; shift += 8) of += static_cast<char>(number >> shift);
  return siphash(key_, of += stem);
}

std::uint64_t Claims::sealed(const std::string& jid, const Held& what) const {
  if (what.attempt.epoch < since_) return what.attempt.number;
  return what.attempt.number << kSealBits | hash(what, Roster::stem(jid)) >> (64 - kSealBits);
}

std::optional<Held> Claims::proven(const std::string& jid, const Held& said, bool from_before) {
  if (said.attempt.epoch < since_) return from_before || since_ == now_ ? std::optional(said) : std::nullopt;  // there is nothing to guess
  const std::string stem = Roster::stem(jid);
  const Held what{{said.attempt.epoch, said.attempt.number >> kSealBits}, said.task};
  const bool holds = (said.attempt.number & ((1u << kSealBits) - 1)) == hash(what, stem) >> (64 - kSealBits);
  if (said.attempt.epoch == now_) return holds ? std::optional(what) : std::nullopt;  // the scheduler knows besides whose it is
  const std::string account = jid.substr(0, jid.find('/'));
  auto known = false_.find(account);
  if (known == false_.end()) {
    if (false_.size() >= kAccountsMax) return std::nullopt;
    if (holds) return what;
    known = false_.try_emplace(account).first;
  }
  auto& wrong = known->second;
  const std::uint64_t worker = hash({}, stem);
  const auto of_it = static_cast<std::size_t>(std::count_if(wrong.begin(), wrong.end(), [&](const False& one) { return one.worker == worker; }));
  if (of_it >= kFalseMax || wrong.size() >= kFalseOfAccount) return std::nullopt;
  if (holds) return what;
  // One that brings what it was given under another name says so at each lease: that is one mistake.
  const std::uint64_t it = hash(said, stem);
  if (std::none_of(wrong.begin(), wrong.end(), [&](const False& one) { return one.what == it; })) wrong.push_back({worker, it});
  return std::nullopt;
}

}  // namespace souk
