// What workers say that this manager missed: a later life of it, or jobs that its store does not have. True where the store was put back from a copy or another
// manager took over, and then it has to stop; a lie otherwise, and then who stops it stops the grid. So nobody's word alone is enough, but of those whose
// grid it is: what counts is what two owners say, or one of these. Pure.
#pragma once
#include <algorithm>
#include <cstddef>
#include <map>
#include <string>

#include "protocol/ids.h"

namespace souk {

class Hearsay {
 public:
  static constexpr std::size_t kOwnersMax = 100;  // whose words are remembered; of others only those count whose word is enough

  /// enough: whether its word is. Who says more than before takes nothing back.
  void said(const std::string& owner, Epoch epoch, JobId jobs, bool enough) {
    if (!words_.contains(owner) && !enough && words_.size() >= kOwnersMax) return;
    Word& word = words_[owner];
    word = {std::max(word.epoch, epoch), std::max(word.jobs, jobs), word.enough || enough};
  }
  /// It says nothing any more.
  void forget(const std::string& owner) { words_.erase(owner); }
  bool heard(const std::string& owner) const { return words_.contains(owner); }

  /// The highest that counts; 0: nothing does.
  Epoch epoch() const { return counts(&Word::epoch); }
  JobId jobs() const { return counts(&Word::jobs); }
  /// Who says more than counts, for people; at most three names. Empty: nobody.
  std::string doubted() const {
    std::string text;
    std::size_t named = 0;
    for (const auto& [owner, word] : words_)
      if ((word.epoch > epoch() || word.jobs > jobs()) && ++named <= 3) text += (text.empty() ? "" : ", ") + owner;
    return named > 3 ? text + " and " + std::to_string(named - 3) + " more" : text;
  }

 private:
  struct Word {
    Epoch epoch;
    JobId jobs;
    bool enough = false;
  };
  template <class Id>
  Id counts(Id Word::*what) const {
    Id enough, first, second;
    for (const auto& [owner, word] : words_) {
      if (word.enough) enough = std::max(enough, word.*what);
      if (word.*what > first) second = first, first = word.*what;
      else second = std::max(second, word.*what);
    }
    return std::max(enough, second);
  }
  std::map<std::string, Word> words_;  // by owner
};

}  // namespace souk
