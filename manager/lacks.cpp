#include "manager/lacks.h"

#include <spdlog/fmt/chrono.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>

namespace souk {

namespace {

constexpr std::uint64_t kToldMs = 30ull * 24 * 3600 * 1000;  // as long as ended jobs are kept by default
const std::string kLost = "lost-from-";

}  // namespace

std::uint64_t Lacks::fact(const char* name) const {
  const auto at = facts_.find(name);
  return at == facts_.end() ? 0 : at->second;
}

Lacks::Facts Lacks::keep(Facts facts) {
  for (const auto& [name, value] : facts) facts_[name] = value;
  return facts;
}

std::vector<std::pair<Epoch, Epoch>> Lacks::epochs() const {
  std::vector<std::pair<Epoch, Epoch>> all;
  for (auto at = facts_.lower_bound(kLost); at != facts_.end() && at->first.starts_with(kLost); ++at) {
    std::uint64_t from = 0;
    const char* const end = at->first.data() + at->first.size();
    if (std::from_chars(at->first.data() + kLost.size(), end, from).ptr == end && from > 0) all.push_back({{from}, {at->second}});
  }
  std::sort(all.begin(), all.end());
  return all;
}

Lacks::Facts Lacks::lost(Epoch from, Epoch to) { return keep({{kLost + std::to_string(from.value), to.value}}); }

Lacks::Facts Lacks::put_back(std::uint64_t now_ms, std::uint64_t after_ms, Epoch from) {
  return keep({{"lacks-since-ms", now_ms}, {"lacks-after-ms", after_ms}, {"lacks-from", from.value}, {"lacks-named", 0}, {"lacks-results", 0}, {"lacks-job-first", 0}, {"lacks-job-last", 0}});
}

Lacks::Facts Lacks::named(Epoch epoch) {
  const bool lost = epoch.value >= fact("lacks-from") && fact("lacks-from") > 0;
  return lost && epoch.value > fact("lacks-named") ? keep({{"lacks-named", epoch.value}}) : Facts{};
}

Lacks::Facts Lacks::set_aside(TaskId task) {
  const std::uint64_t job = task.job.value, first = fact("lacks-job-first");
  return keep({{"lacks-results", fact("lacks-results") + 1}, {"lacks-job-first", first == 0 ? job : std::min(first, job)}, {"lacks-job-last", std::max(fact("lacks-job-last"), job)}});
}

std::string Lacks::text(std::uint64_t now_ms) const {
  const std::uint64_t since = fact("lacks-since-ms"), after = fact("lacks-after-ms");
  if (since == 0 || now_ms > since + kToldMs) return {};
  std::string text = "the store was put back from a copy and lacks what happened";
  if (after > 0) text += fmt::format(" after {:%Y-%m-%d %H:%M:%S} UTC", fmt::gmtime(static_cast<std::time_t>(after / 1000)));
  else text += " since";
  if (const std::uint64_t named = fact("lacks-named"); named > 0) {
    const std::uint64_t lives = named - fact("lacks-from") + 1;
    text += fmt::format(": {} {} of the manager", lives, lives == 1 ? "life" : "lives");
  }
  if (const std::uint64_t results = fact("lacks-results"); results > 0) {
    const std::uint64_t first = fact("lacks-job-first"), last = fact("lacks-job-last");
    text += fmt::format("; {} of {} came back and {} set aside", results == 1 ? "a result" : fmt::format("{} results", results), first == last ? fmt::format("job {}", first) : fmt::format("jobs {} to {}", first, last),
                        results == 1 ? "was" : "were");
  }
  return text + "; jobs that were open then are held until `souk release`";
}

}  // namespace souk
