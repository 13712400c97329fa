// When, and how much, its owner lets this worker work: facts about the host in, a decision out. Pure.
//
//   works ──a rule is broken──► held back: nothing new, but for --slots-in-use ──the grace is over──► and what runs goes back
//     ▲                                    │                                                                   │
//     └──── all rules hold again, load and power for kCalm ────────────────────────────────────────────────────┘
//
// What runs when a rule is broken: `pause` stops it at once and hands it back after the grace, `hand-back` lets it go on for the grace, `finish` to its end.
// A fact that is not known breaks no rule.
#pragma once
#include <bitset>
#include <chrono>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/ids.h"
#include "protocol/result.h"

namespace souk::worker {

constexpr int kWeekMinutes = 7 * 24 * 60;
constexpr std::chrono::seconds kCalm{10};             // so long must load and power have been fine before it works again
constexpr double kLoadIdle = 0.5;                     // processors that others use on a host that counts as idle, without --max-load
constexpr std::chrono::seconds kLoadOver{10};         // load is averaged over about so long; one short burst breaks no rule
constexpr std::chrono::minutes kIdleDefault{10};      // for --slots-in-use without --only-idle

/// Times of the week, by the host's clock: `Mon-Fri 18:00-08:00, Sat-Sun`. A span that ends the next morning belongs to the day it begins on.
class Hours {
 public:
  static Result<Hours> parse(std::string_view text);
  bool open(int minute) const { return open_[static_cast<std::size_t>(minute)]; }  // of the week; 0: Monday 00:00
  int minutes_left(int minute) const;                                              // until they end; kWeekMinutes: never
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  std::bitset<kWeekMinutes> open_;
};

enum class WhenBack : std::uint8_t { pause, hand_back, finish };

struct Rules {
  std::optional<int> slots;      // at most so many in use, whatever else
  std::chrono::milliseconds only_idle{0};  // 0: no such rule
  std::optional<double> load_max;          // processors that others use
  std::optional<Hours> hours;
  bool on_mains = false;
  std::optional<int> slots_in_use;         // while somebody is using it; none: 0
  int nice = 0;
  std::uint64_t leave_memory = 0;          // bytes
  std::string until;                       // `18:00` or `8h`, as written; the shell makes until_ms of it
  std::uint64_t until_ms = 0;              // ms since 1970; 0: for ever
  std::chrono::milliseconds grace{30'000};
  WhenBack when_back = WhenBack::pause;
  bool any() const { return slots || needs_input() || load_max || hours || on_mains || leave_memory > 0 || until_ms > 0; }
  bool needs_input() const { return only_idle.count() > 0 || slots_in_use; }
  bool needs_load() const { return needs_input() || load_max; }
};

/// Rules as people write them, on the command line and in a policy file alike: `only-idle` -> `10m`.
/// Keys: slots only-idle max-load hours on-mains slots-in-use nice leave-memory until grace when-back.
Result<Rules> rules_from(const std::map<std::string, std::string>& texts);

struct Facts {
  std::uint64_t now_ms = 0;                        // since 1970
  int week_minute = 0;                             // local time; 0: Monday 00:00
  std::optional<Duration> since_input{};             // since somebody typed something
  std::optional<double> others_load{};             // processors in use, without ours, since the last look
  std::optional<bool> on_mains{};
  std::optional<std::uint64_t> memory_available{}; // bytes
  int slots_used = 0;
};

struct Decision {
  int offered = 1;  // slots for what starts from now on
  int running = 1;  // what the youngest take beyond these is paused
  int kept = 1;     // and beyond these handed back
  bool over = false;         // its time is over, for good
  std::string rule;          // that holds it back, with the fact that broke it; it stays the same as long as the rule does. Empty: none
  std::uint64_t until_ms = 0;  // when its owner will want it back; 0: not known
  friend bool operator==(const Decision&, const Decision&) = default;
};

class Policy {
 public:
  Policy(Rules rules, int slots) : rules_(std::move(rules)), slots_(slots) {}
  /// To be told every few seconds. The same facts at the same times give the same decisions.
  Decision step(Instant now, const Facts& facts);
  /// Other rules from now on; what was seen of load and time so far stays.
  void change(Rules rules) { rules_ = std::move(rules); }
  const Rules& rules() const { return rules_; }

 private:
  enum class Broken : std::uint8_t { none, until, hours, mains, load, in_use };
  Broken broken(Instant now, const Facts& facts, std::string& why);
  void look_at_load(Instant now, const Facts& facts);
  void look_at_memory(Instant now, const Facts& facts, Decision& decision);
  std::uint64_t until(const Facts& facts) const;

  Rules rules_;
  int slots_;
  std::optional<Instant> last_;
  double load_ = 0;             // averaged
  bool load_known_ = false, load_over_ = false;
  std::optional<Instant> load_seen_;  // when it was over last
  Broken held_ = Broken::none;
  std::string rule_;
  int allowed_ = -1;            // slots, by the rule in force; -1: not asked yet
  Instant held_since_{};
  std::optional<Instant> clear_since_;
  std::optional<Instant> short_since_;  // of memory
  std::string short_rule_;
};

}  // namespace souk::worker
