// The clock, the dice and the chronicle of one simulated run. Everything that happens is an event at an instant; nothing here waits.
#pragma once
#include <array>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <optional>
#include <queue>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/ids.h"

namespace souk::simulation {

/// Splitmix64: the same numbers with every library, so that a seed means the same run everywhere.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t x = state_ += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }
  std::uint64_t pick(std::uint64_t n) { return next() % n; }  // 0 to n - 1
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + pick(high - low + 1); }
  Duration between(Duration low, Duration high) {
    return Duration(static_cast<std::int64_t>(between(static_cast<std::uint64_t>(low.count()), static_cast<std::uint64_t>(high.count()))));
  }
  double share() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // 0 to 1
  bool chance(double p) { return share() < p; }
  /// As likely between 1 and 2 as between 32 and 64: from `low` to `low` * 2^doublings.
  Duration skewed(Duration low, unsigned doublings) {
    const Duration floor = low * static_cast<std::int64_t>(std::uint64_t{1} << pick(doublings));
    return between(floor, floor * 2);
  }
  Dice fork() { return Dice(next()); }

 private:
  std::uint64_t state_;
};

class World {
 public:
  explicit World(std::uint64_t seed) : dice(seed) {}
  World(const World&) = delete;

  Instant now() const { return now_; }
  void at(Instant when, std::function<void()> what) { queue_.push({std::max(when, now_), ++last_, std::move(what)}); }
  void after(Duration pause, std::function<void()> what) { at(now_ + pause, std::move(what)); }
  /// Runs the next event; false: there is none, or a law was broken.
  bool step() {
    if (queue_.empty() || broken_) return false;
    const auto next = std::move(const_cast<Entry&>(queue_.top()));  // NOLINT: popped at once
    queue_.pop();
    now_ = next.when;
    ++steps_;
    next.what();
    return true;
  }

  /// One line of the chronicle; each `{}` stands for a number, `{s}` for the word.
  void note(const char* format, std::initializer_list<std::uint64_t> numbers, std::string_view word = {}) {
    mix(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
    for (const char* c = format; *c != 0; ++c) mix(static_cast<unsigned char>(*c));
    for (const std::uint64_t n : numbers) mix(n);
    for (const char c : word) mix(static_cast<unsigned char>(c));
    Line line{now_, format, {}, std::string(word)};
    std::size_t i = 0;
    for (const std::uint64_t n : numbers)
      if (i < line.numbers.size()) line.numbers[i++] = n;
    if (lines_.size() == kLines) lines_.pop_front();
    if (aloud) std::fprintf(stderr, "%s\n", text(line).c_str());
    lines_.push_back(std::move(line));
  }
  /// A law is broken; the first one stays, and the run ends.
  void blame(const std::string& what) {
    if (!broken_) broken_ = what;
  }
  const std::optional<std::string>& broken() const { return broken_; }
  std::uint64_t hash() const { return hash_; }
  std::uint64_t steps() const { return steps_; }
  std::string last_lines() const {
    std::string all;
    for (const Line& line : lines_) all += text(line) + '\n';
    return all;
  }

  Dice dice;
  bool aloud = false;  // the whole chronicle to stderr

 private:
  static constexpr std::size_t kLines = 40;
  struct Entry {
    Instant when;
    std::uint64_t number;
    std::function<void()> what;
    bool operator<(const Entry& other) const { return std::pair(other.when, other.number) < std::pair(when, number); }  // the queue's top is the earliest
  };
  struct Line {
    Instant at;
    const char* format;
    std::array<std::uint64_t, 6> numbers;
    std::string word;
  };
  void mix(std::uint64_t value) { hash_ = (hash_ ^ value) * 0x100000001B3u; }
  static std::string text(const Line& line) {
    char stamp[32];
    std::snprintf(stamp, sizeof stamp, "%11.6f s  ", static_cast<double>(line.at.time_since_epoch().count()) / 1e6);
    std::string text = stamp;
    std::size_t number = 0;
    for (const char* c = line.format; *c != 0; ++c) {
      if (*c == '{' && c[1] == '}') text += std::to_string(line.numbers[number++]), ++c;
      else if (*c == '{' && c[1] == 's') text += line.word, c += 2;
      else text += *c;
    }
    return text;
  }

  Instant now_{};
  std::priority_queue<Entry> queue_;
  std::uint64_t last_ = 0, steps_ = 0, hash_ = 0xCBF29CE484222325u;
  std::deque<Line> lines_;
  std::optional<std::string> broken_;
};

}  // namespace souk::simulation
