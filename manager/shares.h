// Fair share: whose turn it is. Owners are served in the order of what they have used, over their weight; what lies long ago counts less.
// Pure. Use is counted in slot-seconds; instead of letting all old use decay, new use counts more as time goes on, so that order never changes by itself.
#pragma once
#include <cmath>
#include <cstdint>
#include <string>
#include <unordered_map>
#include <vector>

#include "protocol/ids.h"

namespace souk {

using OwnerId = std::uint32_t;

class Shares {
 public:
  struct Owner {
    std::string name;
    double weight = 1;
    std::uint64_t running_max = 0;  // 0: no limit
    std::uint64_t running = 0;
    std::uint64_t queues = 0;       // of waiting tasks
    double used = 0;                // in units of now, over weight; only grows but for scale()
    double refund = 0;              // charged too much; consumed before the next charge counts
    bool own_terms = false;         // not as everybody
    bool limited() const { return running_max > 0 && running >= running_max; }
  };

  explicit Shares(Duration half_life) : half_life_(half_life) {}

  OwnerId id_of(const std::string& name) {
    const auto [at, fresh] = ids_.try_emplace(name, static_cast<OwnerId>(owners_.size()));
    if (fresh) owners_.push_back({name, everybody_.weight, everybody_.running_max, 0, 0, 0, 0, false});
    return at->second;
  }
  Owner& operator[](OwnerId id) { return owners_[id]; }
  const Owner& operator[](OwnerId id) const { return owners_[id]; }
  std::size_t size() const { return owners_.size(); }
  const std::string* known(const std::string& name) const { return ids_.contains(name) ? &ids_.find(name)->first : nullptr; }

  void set(const std::string& name, double weight, std::uint64_t running_max) {
    if (name.empty()) {
      everybody_.weight = weight, everybody_.running_max = running_max;
      for (Owner& owner : owners_)
        if (!owner.own_terms) owner.weight = weight, owner.running_max = running_max;
      return;
    }
    Owner& owner = owners_[id_of(name)];
    owner.weight = weight, owner.running_max = running_max, owner.own_terms = true;
  }

  /// Counts the use of so many slots for so long, at `now`. Negative times are a refund.
  void charge(OwnerId id, double slots, Duration time) {
    Owner& owner = owners_[id];
    double use = slots * std::chrono::duration<double>(time).count() / owner.weight * unit_;
    if (use < 0) {
      owner.refund -= use;
      return;
    }
    const double paid = std::min(use, owner.refund);
    owner.refund -= paid;
    owner.used += use - paid;
  }

  /// Somebody who had nothing waiting does again: at most `credit` slot-seconds behind those who are being served, however long they were away.
  void lift(OwnerId id, double credit) {
    Owner& owner = owners_[id];
    owner.used = std::max(owner.used, served_ - credit / owner.weight * unit_);
  }
  void served(OwnerId id) { served_ = std::max(served_, owners_[id].used); }

  /// Brings the unit of use to `now`. True: every `used` was scaled, and what is sorted by it must be sorted again.
  bool at(Instant now) {
    if (!started_) zero_ = now, started_ = true;
    const double halves = std::chrono::duration<double>(now - zero_) / std::chrono::duration<double>(half_life_);
    unit_ = std::exp2(halves);
    if (halves < 100) return false;
    zero_ = now;
    for (Owner& owner : owners_) owner.used /= unit_, owner.refund /= unit_;
    served_ /= unit_;
    unit_ = 1;
    return true;
  }
  double unit() const { return unit_; }

 private:
  Duration half_life_;
  Owner everybody_;
  std::vector<Owner> owners_;
  std::unordered_map<std::string, OwnerId> ids_;
  double served_ = 0, unit_ = 1;
  Instant zero_{};
  bool started_ = false;
};

}  // namespace souk
