#include "manager/watch.h"

namespace souk {

bool Watches::add(Instant now, JobId job, const std::string& jid) {
  auto& watchers = watches_[job];
  if (count_ >= kMost && !watchers.contains(jid)) {
    if (watchers.empty()) watches_.erase(job);
    return false;
  }
  count_ += watchers.insert_or_assign(jid, now + kLasts).second;
  return true;
}

void Watches::remove(JobId job, const std::string& jid) {
  const auto at = watches_.find(job);
  if (at == watches_.end()) return;
  count_ -= at->second.erase(jid);
  if (at->second.empty()) watches_.erase(at), told_.erase(job), changed_.erase(job);
}

std::vector<std::pair<JobId, std::vector<std::string>>> Watches::due(Instant now) {
  std::vector<std::pair<JobId, std::vector<std::string>>> due;
  for (auto job = changed_.begin(); job != changed_.end();) {
    const auto at = watches_.find(*job);
    const auto told = told_.find(*job);
    if (told != told_.end() && now - told->second < kGap) {
      ++job;
      continue;
    }
    std::vector<std::string> jids;
    if (at != watches_.end()) {
      std::erase_if(at->second, [&](const auto& watch) {
        if (watch.second > now) return false;
        --count_;
        return true;
      });
      for (const auto& [jid, until] : at->second) jids.push_back(jid);
    }
    if (jids.empty()) {
      if (at != watches_.end()) watches_.erase(at);
      told_.erase(*job);
    } else {
      told_[*job] = now;
      due.emplace_back(*job, std::move(jids));
    }
    job = changed_.erase(job);
  }
  return due;
}

std::vector<std::string> Watches::ended(Instant now, JobId job) {
  std::vector<std::string> jids;
  if (const auto at = watches_.find(job); at != watches_.end()) {
    for (const auto& [jid, until] : at->second)
      if (until > now) jids.push_back(jid);
    count_ -= at->second.size();
    watches_.erase(at);
  }
  told_.erase(job), changed_.erase(job);
  return jids;
}

}  // namespace souk
