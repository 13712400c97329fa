// Reads what a policy wants to know about this host.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "worker/policy.h"

namespace souk::worker {

/// Where facts come from, and what they cannot know:
///  - input: the newest access time of terminals, /dev/pts/N and /dev/ttyN, which the kernel sets in steps of 8 s when somebody types; and the counters of
///    the i8042 keyboard controller in /proc/interrupts, which grow with every key and movement of a built-in keyboard or pad, under any desktop. Keys of a
///    USB keyboard under a desktop without a terminal are not seen.
///  - load of others: processors in use as /proc/stat has them, without those of this process and everything below it
///  - mains: a supply of type Mains or USB that is online, else a battery that discharges; none of either: not known
///  - memory: MemAvailable of /proc/meminfo
class FactReader {
 public:
  explicit FactReader(std::filesystem::path root = "/", pid_t self = 0);

  /// Reads what these rules need; microseconds, and some for each process of ours where load counts.
  Facts read(const Rules& rules, std::chrono::steady_clock::time_point now, std::chrono::system_clock::time_point wall);

 private:
  std::optional<Duration> since_input(std::chrono::steady_clock::time_point now, std::chrono::system_clock::time_point wall);
  std::optional<double> others_load(std::chrono::steady_clock::time_point now);
  std::optional<bool> on_mains() const;
  std::optional<std::uint64_t> memory_available() const;
  double ours(pid_t pid, int depth) const;  // ticks

  const std::filesystem::path root_;
  const pid_t self_;
  std::optional<std::uint64_t> keys_;  // interrupts so far
  std::optional<std::chrono::steady_clock::time_point> last_key_;
  struct Ticks {
    std::chrono::steady_clock::time_point at;
    double all = 0, ours = 0;
  };
  std::optional<Ticks> ticks_;
};

/// The minute of the week by the host's clock and time zone; 0: Monday 00:00.
int week_minute(std::chrono::system_clock::time_point wall);

/// When `18:00` comes next, or `8h` from then is over, in ms since 1970; 0: it is no time.
std::uint64_t until_ms(const std::string& text, std::chrono::system_clock::time_point began);

/// A policy file: the rules' names and values as TOML, `only-idle = "10m"`, `on-mains = true`, `nice = 10`.
Result<std::map<std::string, std::string>> rule_texts_in(const std::filesystem::path& file);

}  // namespace souk::worker
