// Who was in the market before it was lost, and may come back: its server was restarted, or its link is slower than ours. Plain bookkeeping.
#pragma once
#include <algorithm>
#include <chrono>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "protocol/ids.h"

namespace souk {

class Returning {
 public:
  static constexpr std::chrono::seconds kGrace{10};  // after the market opened again; a worker's back-off is below that
  static constexpr std::chrono::seconds kStill{2};   // and while they keep coming, as thousands do that have to log in, until nobody came for that long
  static constexpr std::chrono::seconds kMost{60};   // but no longer than this

  void lost(const std::string& jid) { away_.insert(jid); }
  /// The market is open again: from now on they can come.
  void opened(Instant now) { opened_ = now, last_ = now; }
  /// The market is lost once more.
  void closed() { opened_.reset(); }
  void back(const std::string& jid, Instant now) {
    if (away_.erase(jid) > 0) last_ = now;
  }
  bool awaits(const std::string& jid) const { return away_.contains(jid); }
  template <class Which>
  std::optional<std::string> find_if(Which&& which) const {
    const auto at = std::find_if(away_.begin(), away_.end(), which);
    return at == away_.end() ? std::nullopt : std::optional(*at);
  }

  /// When to ask given_up() next; nothing: nobody is awaited, or nobody can come.
  std::optional<Instant> due() const {
    if (!opened_ || away_.empty()) return std::nullopt;
    return std::min<Instant>(*opened_ + kMost, std::max<Instant>(*opened_ + kGrace, last_ + kStill));
  }
  /// Those who count as gone now; all that are left, or nobody.
  std::set<std::string> given_up(Instant now) {
    const auto at = due();
    return at && now >= *at ? std::exchange(away_, {}) : std::set<std::string>{};
  }

 private:
  std::set<std::string> away_;  // real JIDs
  std::optional<Instant> opened_;
  Instant last_{};  // somebody came back
};

}  // namespace souk
