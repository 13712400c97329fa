// Workers that are at work, remembered beyond the end of the manager: its next life gives out nothing that they may still run before they are back.
#pragma once
#include <chrono>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "protocol/ids.h"

namespace souk {

class Roster {
 public:
  static constexpr std::chrono::seconds kForgetAfter{10};  // away for so long, with a market to be in: it will not bring back what it ran

  /// Out of the store, at the start, or seen now. True: it was not remembered before.
  bool remember(const std::string& jid, Instant now) { return seen_.insert_or_assign(jid, now).second; }
  /// The market is open again: nobody could be in it before.
  void reopened(Instant now) {
    for (auto& [jid, when] : seen_) when = now;
  }
  /// Who is in the market now. Yields whom to remember (true) and whom to forget (false).
  /// patience: how long somebody may be away
  std::vector<std::pair<std::string, bool>> update(Instant now, const std::set<std::string>& present, Duration patience = kForgetAfter) {
    std::vector<std::pair<std::string, bool>> changes;
    for (const std::string& jid : present)
      if (seen_.insert_or_assign(jid, now).second) changes.emplace_back(jid, true);
    for (auto at = seen_.begin(); at != seen_.end();) {
      if (present.contains(at->first) || now - at->second < patience) {
        ++at;
        continue;
      }
      changes.emplace_back(at->first, false);
      at = seen_.erase(at);
    }
    return changes;
  }

  /// Of two lives of one worker: its address but for what each life adds to it.
  static std::string stem(const std::string& jid) {
    const auto dash = jid.rfind('-'), slash = jid.find('/');  // accounts and domains have dashes, too
    return dash == jid.npos || slash == jid.npos || dash < slash ? jid : jid.substr(0, dash);
  }

 private:
  std::map<std::string, Instant> seen_;
};

}  // namespace souk
