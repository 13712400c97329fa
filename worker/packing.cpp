#include "worker/packing.h"

#include <algorithm>
#include <cstdio>

namespace souk::worker {

namespace {

std::string size_text(std::uint64_t bytes) {
  static constexpr const char* units[] = {"bytes", "KiB", "MiB", "GiB", "TiB", "PiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < std::size(units); ++unit) value /= 1024;
  char text[48];
  std::snprintf(text, sizeof text, unit == 0 || value == static_cast<double>(static_cast<std::uint64_t>(value)) ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

std::string short_of(std::string_view what, const std::string& asked, const std::string& here) { return "asks " + asked + ' ' + std::string(what) + ", this worker has " + here; }

}  // namespace

Packing::Packing(int slots, const Capacity& capacity)
    : slots_(slots), slots_free_(slots), memory_(capacity.memory_bytes), memory_free_(memory_), disk_(capacity.disk_bytes), disk_free_(disk_), gpus_(capacity.gpus) {
  for (int gpu = 0; gpu < gpus_; ++gpu) gpus_free_.insert(gpu);
  for (const auto& [name, offered] : capacity.resources) {
    Kind& kind = kinds_[name];
    kind.all = kind.free = offered.amount;
    kind.names = offered.names;
    for (std::size_t unit = 0; unit < kind.names.size(); ++unit) kind.free_names.insert(unit);
  }
  for (const int processor : capacity.processors) pinned_[processor] = 0;
}

std::optional<std::string> Packing::never(const Needs& needs) const {
  if (needs.cpus > slots_) return short_of("cpus", std::to_string(needs.cpus), std::to_string(slots_));
  if (needs.memory_bytes > memory_) return short_of("of memory", size_text(needs.memory_bytes), size_text(memory_));
  if (needs.disk_bytes > disk_) return short_of("of disk", size_text(needs.disk_bytes), size_text(disk_));
  if (needs.gpus > gpus_) return short_of("gpus", std::to_string(needs.gpus), std::to_string(gpus_));
  for (const auto& [name, amount] : needs.resources) {
    const auto kind = kinds_.find(name);
    const std::uint64_t all = kind == kinds_.end() ? 0 : kind->second.all;
    if (amount > all) return short_of("of resource " + name, std::to_string(amount), std::to_string(all));
  }
  return std::nullopt;
}

bool Packing::fits(const Needs& needs) const {
  if (needs.cpus > slots_free_ || needs.memory_bytes > memory_free_ || needs.disk_bytes > disk_free_ || needs.gpus > static_cast<int>(gpus_free_.size())) return false;
  return std::all_of(needs.resources.begin(), needs.resources.end(), [this](const auto& need) {
    const auto kind = kinds_.find(need.first);
    return kind != kinds_.end() && need.second <= kind->second.free;
  });
}

void Packing::take_amounts(const Needs& needs) {
  slots_free_ -= needs.cpus;
  memory_free_ -= needs.memory_bytes;
  disk_free_ -= needs.disk_bytes;
  for (const auto& [name, amount] : needs.resources) kinds_.at(name).free -= amount;
}

Granted Packing::take(const Needs& needs, bool pin) {
  take_amounts(needs);
  Granted granted;
  for (int n = 0; n < needs.gpus; ++n) granted.gpus.push_back(gpus_free_.extract(gpus_free_.begin()).value());
  for (const auto& [name, amount] : needs.resources) {
    Kind& kind = kinds_.at(name);
    if (kind.names.empty()) continue;
    auto& units = granted.units[name];
    for (std::uint64_t n = 0; n < amount; ++n) units.push_back(kind.names[kind.free_names.extract(kind.free_names.begin()).value()]);
  }
  if (!pin) return granted;
  std::vector<std::pair<int, int>> by_use;  // attempts, processor
  by_use.reserve(pinned_.size());
  for (const auto& [processor, attempts] : pinned_) by_use.emplace_back(attempts, processor);
  std::sort(by_use.begin(), by_use.end());
  by_use.resize(std::min(by_use.size(), static_cast<std::size_t>(needs.cpus)));
  for (const auto& [attempts, processor] : by_use) {
    ++pinned_[processor];
    granted.processors.push_back(processor);
  }
  std::sort(granted.processors.begin(), granted.processors.end());
  return granted;
}

bool Packing::take_these(const Needs& needs, const Granted& granted) {
  if (!fits(needs) || granted.gpus.size() != static_cast<std::size_t>(needs.gpus)) return false;
  take_amounts(needs);
  for (const int gpu : granted.gpus)
    if (gpus_free_.erase(gpu) == 0) return false;
  for (const auto& [name, units] : granted.units) {
    Kind& kind = kinds_.at(name);
    for (const auto& unit : units) {
      const auto at = std::find(kind.names.begin(), kind.names.end(), unit);
      if (at == kind.names.end() || kind.free_names.erase(static_cast<std::size_t>(at - kind.names.begin())) == 0) return false;
    }
  }
  for (const int processor : granted.processors) ++pinned_[processor];
  return true;
}

void Packing::give_back(const Needs& needs, const Granted& granted) {
  slots_free_ += needs.cpus;
  memory_free_ += needs.memory_bytes;
  disk_free_ += needs.disk_bytes;
  gpus_free_.insert(granted.gpus.begin(), granted.gpus.end());
  for (const auto& [name, amount] : needs.resources) kinds_.at(name).free += amount;
  for (const auto& [name, units] : granted.units) {
    Kind& kind = kinds_.at(name);
    for (const auto& unit : units) kind.free_names.insert(static_cast<std::size_t>(std::find(kind.names.begin(), kind.names.end(), unit) - kind.names.begin()));
  }
  for (const int processor : granted.processors) --pinned_[processor];
}

}  // namespace souk::worker
