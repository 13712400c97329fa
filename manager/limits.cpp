#include "manager/limits.h"

#include <algorithm>
#include <charconv>

#include "protocol/notation.h"

namespace souk {

namespace {

constexpr double kWeightMin = 0.001, kWeightMax = 1000;

template <class Number>
bool read(std::string_view text, Number& into) {
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), into);
  return !text.empty() && failure == std::errc{} && end == text.data() + text.size();
}
std::string owner_of(std::string_view text) { return text == "*" ? std::string() : std::string(text); }

}  // namespace

Result<Done> Limits::add_share(std::string_view text) {
  const auto equals = text.rfind('=');
  double weight = 0;
  if (equals == text.npos || !read(text.substr(equals + 1), weight) || !(weight >= kWeightMin && weight <= kWeightMax))
    return Error{"--share " + quoted(text), "that is not OWNER=WEIGHT with a weight from 0.001 to 1000", "write it as ada@example.edu=2"};
  of_[owner_of(text.substr(0, equals))].weight = weight;
  return Done{};
}

Result<Done> Limits::add_limit(std::string_view text) {
  const auto bad = [&](std::string why) { return Error{"--limit " + quoted(text), std::move(why), "write it as ada@example.edu:running=100,queued=5000"}; };
  const auto colon = text.rfind(':');
  Limit& limit = of_[colon == text.npos ? std::string() : owner_of(text.substr(0, colon))];
  for (std::string_view rest = colon == text.npos ? text : text.substr(colon + 1);;) {
    const std::string_view part = rest.substr(0, rest.find(','));
    const auto equals = part.find('=');
    const std::string_view name = part.substr(0, equals);
    std::uint64_t most = 0;
    if (name != "running" && name != "queued") return bad("it limits " + quoted(name) + ", not running or queued");
    if (equals == part.npos || !read(part.substr(equals + 1), most)) return bad("a limit is no whole number");
    (name == "running" ? limit.running : limit.queued) = most;
    if (part.size() == rest.size()) return Done{};
    rest.remove_prefix(part.size() + 1);
  }
}

std::vector<OwnerSet> Limits::events() const {
  std::vector<OwnerSet> events;
  const auto all = of_.find("");
  const Limit everybody = all == of_.end() ? Limit{} : all->second;
  // Who is named for one thing has what everybody has for the other.
  for (const auto& [owner, limit] : of_)
    events.push_back({owner, limit.weight.value_or(everybody.weight.value_or(1)), limit.running.value_or(everybody.running.value_or(0))});
  return events;
}

std::uint64_t Limits::queued_max(const std::string& owner) const {
  for (const auto& name : {owner, std::string()})
    if (const auto at = of_.find(name); at != of_.end() && at->second.queued) return *at->second.queued;
  return 0;
}

Result<Done> Limits::set_memory_max(std::string_view text) {
  const auto bad = [&](std::string why) { return Error{"--memory-max " + quoted(text), std::move(why), "write it as 512MiB or 4GiB"}; };
  const bool gib = text.ends_with("GiB");
  std::uint64_t number = 0;
  if (!(gib || text.ends_with("MiB")) || !read(text.substr(0, text.size() - 3), number)) return bad("that is no whole number of MiB or GiB");
  if (number > 1u << 20) return bad("that is more than a machine has");
  const std::uint64_t bytes = number << (gib ? 30 : 20);
  if (bytes < kMemoryMaxMin) return bad("that is under 16MiB");
  memory_max_ = bytes;
  return Done{};
}

void Limits::set_machine_memory(std::uint64_t bytes) { memory_max_ = std::clamp(bytes / 4, kMemoryMaxMin, kMemoryMaxDefault); }

Space::Room Space::room(const std::string& owner, std::uint64_t amount) const {
  if (amount > most_each()) return Room::never;
  const std::uint64_t own = used_by(owner) + amount, all = used_ + amount;
  if (all <= most_ && own <= small()) return Room::yes;
  return all <= common() && own <= 3 * (common() - all) ? Room::yes : Room::later;
}

void Space::take(const std::string& owner, std::uint64_t amount) {
  used_ += amount;
  by_[owner] += amount;
}

void Space::give_back(const std::string& owner, std::uint64_t amount) {
  const auto at = by_.find(owner);
  if (at == by_.end()) return;
  const std::uint64_t given = std::min(amount, at->second);
  used_ -= given;
  if ((at->second -= given) == 0) by_.erase(at);
}

std::uint64_t Space::used_by(const std::string& owner) const {
  const auto at = by_.find(owner);
  return at == by_.end() ? 0 : at->second;
}

}  // namespace souk
