// Who wants to hear of which job, and when it is time to say something. Pure.
#pragma once
#include <map>
#include <set>
#include <string>
#include <vector>

#include "protocol/ids.h"

namespace souk {

class Watches {
 public:
  static constexpr Duration kLasts = std::chrono::seconds(60);    // asking again renews
  static constexpr Duration kGap = std::chrono::milliseconds(100);  // between two events of one job
  static constexpr std::size_t kMost = 10000;                     // watches in all; more are not taken

  bool add(Instant now, JobId job, const std::string& jid);  // false: too many
  void remove(JobId job, const std::string& jid);
  void changed(JobId job) { if (watches_.contains(job)) changed_.insert(job); }
  /// The jobs to tell of now, with their watchers. A job that ended is told of at once, and its watches end.
  std::vector<std::pair<JobId, std::vector<std::string>>> due(Instant now);
  std::vector<std::string> ended(Instant now, JobId job);
  bool pending() const { return !changed_.empty(); }

 private:
  std::map<JobId, std::map<std::string, Instant>> watches_;  // full JID -> until
  std::map<JobId, Instant> told_;
  std::set<JobId> changed_;
  std::size_t count_ = 0;
};

}  // namespace souk
