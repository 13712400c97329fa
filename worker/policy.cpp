#include "worker/policy.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>

#include "protocol/needs.h"
#include "protocol/notation.h"
#include "protocol/offer.h"

namespace souk::worker {

namespace {

constexpr int kDayMinutes = 24 * 60;
constexpr std::array<std::string_view, 7> kDays{"mon", "tue", "wed", "thu", "fri", "sat", "sun"};

std::string_view trimmed(std::string_view text) {
  while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
  while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
  return text;
}

std::optional<int> whole(std::string_view text, int low, int high) {
  int value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size() || value < low || value > high) return std::nullopt;
  return value;
}

std::optional<int> day(std::string_view text) {
  std::string lower(text);
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const auto found = std::find(kDays.begin(), kDays.end(), lower);
  return found == kDays.end() ? std::nullopt : std::optional(static_cast<int>(found - kDays.begin()));
}

/// `18:00`, up to 24:00.
std::optional<int> time_of_day(std::string_view text) {
  const auto colon = text.find(':');
  if (colon == std::string_view::npos || colon == 0 || colon > 2 || text.size() != colon + 3) return std::nullopt;
  const auto hours = whole(text.substr(0, colon), 0, 24), minutes = whole(text.substr(colon + 1), 0, 59);
  if (!hours || !minutes || (*hours == 24 && *minutes != 0)) return std::nullopt;
  return *hours * 60 + *minutes;
}

std::string tenths(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f", value);
  return text;
}

std::string gib(std::uint64_t bytes) { return tenths(static_cast<double>(bytes) / (1u << 30)) + " GiB"; }

std::string span(Duration time) {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(time).count();
  if (seconds < 120) return std::to_string(seconds) + " s";
  return seconds < 7200 ? std::to_string(seconds / 60) + " min" : std::to_string(seconds / 3600) + " h";
}

}  // namespace

// ---- Hours ----------------------------------------------------------------------------------------------------------------------

Result<Hours> Hours::parse(std::string_view text) {
  const auto bad = [&](std::string_view part, std::string why) { return Error{"hours " + quoted(part) + " refused", std::move(why), "write for example Mon-Fri 18:00-08:00, Sat-Sun"}; };
  if (text.size() > 1024) return bad(text.substr(0, 40), "they are over 1024 bytes");
  Hours hours;
  hours.text_ = trimmed(text);
  for (std::string_view rest = text;;) {
    const auto comma = std::min(rest.find(','), rest.size());
    const std::string_view part = trimmed(rest.substr(0, comma));
    const auto space = part.find_first_of(" \t");
    std::string_view days = part.substr(0, space), times = space == part.npos ? "" : trimmed(part.substr(space));
    if (times.empty() && days.find(':') != days.npos) std::swap(days, times);
    int first = 0, last = 6;
    if (!days.empty()) {
      const auto dash = days.find('-');
      const auto from = day(days.substr(0, dash)), to = dash == days.npos ? from : day(days.substr(dash + 1));
      if (!from || !to) return bad(part, "it has no days such as Mon or Mon-Fri");
      first = *from;
      last = *to;
    } else if (times.empty()) {
      return bad(text, "there is nothing between two commas");
    }
    int begin = 0, end = kDayMinutes;
    if (!times.empty()) {
      const auto dash = times.find('-');
      const auto from = time_of_day(trimmed(times.substr(0, dash))), to = dash == times.npos ? std::nullopt : time_of_day(trimmed(times.substr(dash + 1)));
      if (!from || !to || *from == kDayMinutes) return bad(part, "it has no times such as 18:00-08:00");
      if (*from == *to) return bad(part, "its times are the same");
      begin = *from;
      end = *to > *from ? *to : *to + kDayMinutes;
    }
    for (int d = first;; d = (d + 1) % 7) {
      for (int minute = begin; minute < end; ++minute) hours.open_.set(static_cast<std::size_t>((d * kDayMinutes + minute) % kWeekMinutes));
      if (d == last) break;
    }
    if (comma == rest.size()) break;
    rest.remove_prefix(comma + 1);
  }
  return hours;
}

int Hours::minutes_left(int minute) const {
  int left = 0;
  while (left < kWeekMinutes && open((minute + left) % kWeekMinutes)) ++left;
  return left;
}

// ---- Rules ----------------------------------------------------------------------------------------------------------------------

Result<Rules> rules_from(const std::map<std::string, std::string>& texts) {
  Rules rules;
  for (const auto& [key, text] : texts) {
    const auto bad = [&key = key, &text = text](std::string why, std::string remedy) { return Error{"rule " + key + " = " + quoted(text) + " refused", std::move(why), std::move(remedy)}; };
    if (key == "only-idle" || key == "grace") {
      const auto time = parse_duration(text);
      if (!time) return bad(time.error().why, time.error().remedy);
      (key == "grace" ? rules.grace : rules.only_idle) = time.value();
    } else if (key == "max-load") {
      double load = 0;
      const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), load, std::chars_format::fixed);
      if (failure != std::errc{} || end != text.data() + text.size() || !(load > 0 && load <= 65536)) return bad("it is no number of processors", "write for example 1.5");
      rules.load_max = load;
    } else if (key == "hours") {
      auto hours = Hours::parse(text);
      if (!hours) return hours.error();
      rules.hours = std::move(hours.value());
    } else if (key == "on-mains") {
      if (text != "true" && text != "false") return bad("it is neither true nor false", "write true");
      rules.on_mains = text == "true";
    } else if (key == "slots") {
      const auto slots = whole(text, 0, kSlotsMax);
      if (!slots) return bad("it is no number of slots", "write 0 to " + std::to_string(kSlotsMax));
      rules.slots = *slots;
    } else if (key == "slots-in-use") {
      const auto slots = whole(text, 0, kSlotsMax);
      if (!slots) return bad("it is no number of slots", "write 0 to " + std::to_string(kSlotsMax));
      rules.slots_in_use = *slots;
    } else if (key == "nice") {
      const auto nice = whole(text, 0, 19);
      if (!nice) return bad("it is no nice level", "write 0 to 19");
      rules.nice = *nice;
    } else if (key == "leave-memory") {
      const auto size = parse_size(text);
      if (!size) return bad(size.error().why, size.error().remedy);
      if (size.value() > kBytesMax) return bad("no machine has so much", "ask for less");
      if (size.value() > 0 && text.back() >= '0' && text.back() <= '9') return bad("it has no unit", "write a unit, such as " + text + "MiB");
      rules.leave_memory = size.value();
    } else if (key == "until") {
      if (const auto time = parse_duration(text); !time_of_day(text) && (!time || time.value().count() == 0)) return bad("it is no time", "write a time of day or how long, such as 18:00 or 8h");
      rules.until = text;
    } else if (key == "when-back") {
      if (text == "pause") rules.when_back = WhenBack::pause;
      else if (text == "hand-back") rules.when_back = WhenBack::hand_back;
      else if (text == "finish") rules.when_back = WhenBack::finish;
      else return bad("it says nothing", "write pause, hand-back or finish");
    } else {
      return Error{"rule " + quoted(key) + " refused", "there is no such rule",
                   "known are: only-idle, max-load, hours, on-mains, slots, slots-in-use, nice, leave-memory, until, grace, when-back"};
    }
  }
  if (rules.slots_in_use && rules.only_idle.count() == 0) rules.only_idle = kIdleDefault;
  return rules;
}

// ---- Policy ---------------------------------------------------------------------------------------------------------------------

void Policy::look_at_load(Instant now, const Facts& facts) {
  if (!facts.others_load) return;
  const double weight = load_known_ && last_ ? 1 - std::exp(-std::chrono::duration<double>(now - *last_).count() / static_cast<double>(kLoadOver.count())) : 1;
  load_ += (*facts.others_load - load_) * weight;
  load_known_ = true;
  const double most = rules_.load_max.value_or(kLoadIdle);
  load_over_ = load_ > (load_over_ ? most * 0.8 : most);  // a load that stays near the bound does not make it flap
  if (load_over_) load_seen_ = now;
}

Policy::Broken Policy::broken(Instant now, const Facts& facts, std::string& why) {
  if (rules_.until_ms > 0 && facts.now_ms >= rules_.until_ms) {
    why = "its time is over (" + rules_.until + ")";
    return Broken::until;
  }
  if (rules_.hours && !rules_.hours->open(facts.week_minute)) {
    why = "outside its hours (" + rules_.hours->text() + ")";
    return Broken::hours;
  }
  if (rules_.on_mains && facts.on_mains == false) {
    why = "on battery";
    return Broken::mains;
  }
  const std::string load = "load of others " + tenths(load_) + " > " + tenths(rules_.load_max.value_or(kLoadIdle));
  if (rules_.load_max && load_over_) {
    why = load;
    return Broken::load;
  }
  if (rules_.needs_input()) {
    if (facts.since_input && *facts.since_input < rules_.only_idle) {
      why = "in use: input " + span(*facts.since_input) + " ago";
      return Broken::in_use;
    }
    if (load_seen_ && now - *load_seen_ < rules_.only_idle) {
      why = "in use: " + load;
      return Broken::in_use;
    }
  }
  return Broken::none;
}

Decision Policy::step(Instant now, const Facts& facts) {
  look_at_load(now, facts);
  last_ = now;
  std::string why;
  Broken found = broken(now, facts, why);
  if (found == Broken::none && (held_ == Broken::mains || held_ == Broken::load)) {
    if (!clear_since_) clear_since_ = now;
    if (now - *clear_since_ < kCalm) found = held_;
  } else {
    clear_since_.reset();
  }
  if (found != held_) {
    held_ = found;
    rule_ = why;
  }
  const int most = std::min(slots_, rules_.slots.value_or(slots_));
  const int allowed = held_ == Broken::none ? most : held_ == Broken::in_use ? std::min(most, rules_.slots_in_use.value_or(0)) : 0;
  if (allowed_ < 0 || allowed < allowed_) held_since_ = now;  // another grace for what ran until now
  allowed_ = allowed;

  Decision decision{allowed, slots_, slots_, held_ == Broken::until, rule_, until(facts)};
  if (rules_.when_back == WhenBack::pause) decision.running = allowed;
  if (rules_.when_back != WhenBack::finish && now - held_since_ >= rules_.grace) decision.kept = allowed;
  look_at_memory(now, facts, decision);
  if (decision.rule.empty() && most < slots_) decision.rule = "its owner leaves " + std::to_string(most) + (most == 1 ? " slot" : " slots");
  return decision;
}

/// Pausing frees no memory, so what runs goes on; if it stays short for the grace, the youngest goes back, and the next one after another grace.
void Policy::look_at_memory(Instant now, const Facts& facts, Decision& decision) {
  const std::uint64_t leave = rules_.leave_memory;
  if (leave == 0 || !facts.memory_available || *facts.memory_available >= (short_since_ ? leave + leave / 8 : leave)) {
    short_since_.reset();
    return;
  }
  if (!short_since_) {
    short_since_ = now;
    short_rule_ = "memory available " + gib(*facts.memory_available) + " < " + gib(leave) + " to leave";
  }
  decision.offered = 0;
  if (decision.rule.empty()) decision.rule = short_rule_;
  if (rules_.when_back == WhenBack::finish || facts.slots_used == 0 || now - *short_since_ < rules_.grace) return;
  decision.kept = std::min(decision.kept, facts.slots_used - 1);
  short_since_ = now;
}

std::uint64_t Policy::until(const Facts& facts) const {
  std::uint64_t until = rules_.until_ms;
  if (rules_.hours && rules_.when_back != WhenBack::finish && rules_.hours->open(facts.week_minute)) {
    if (const int left = rules_.hours->minutes_left(facts.week_minute); left < kWeekMinutes) {
      const std::uint64_t closes = facts.now_ms / 60'000 * 60'000 + static_cast<std::uint64_t>(left) * 60'000;
      until = until == 0 ? closes : std::min(until, closes);
    }
  }
  return until;
}

}  // namespace souk::worker
