#include "protocol/notation.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <optional>
#include <string>

#include "protocol/one_line.h"
#include "protocol/quoting.h"

namespace souk {
namespace {

/// A whole number at the front of `text`, which is then shortened by it.
template <class Number>
std::optional<Number> take_number(std::string_view& text) {
  Number number{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (failure != std::errc{}) return std::nullopt;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return number;
}

constexpr const char* kArrayRemedy = "write 1-1000, 1-1000:2 (every second) or 1,5,9-12";

Result<Span> parse_span(std::string_view text) {
  const auto refuse = [whole = text](const char* why) { return Error{"cannot read the array", quoted(whole) + " " + why, kArrayRemedy}; };
  Span span;
  const auto first = take_number<std::int64_t>(text);
  if (!first) return refuse("is no range of whole numbers");
  span.first = span.last = *first;
  if (!text.empty() && text.front() == '-') {
    text.remove_prefix(1);
    const auto last = take_number<std::int64_t>(text);
    if (!last) return refuse("has no whole number after the dash");
    span.last = *last;
  }
  if (!text.empty() && text.front() == ':') {
    text.remove_prefix(1);
    const auto step = take_number<std::uint64_t>(text);
    if (!step || *step == 0) return refuse("has a step that is no positive whole number");
    span.step = *step;
  }
  if (!text.empty()) return refuse("is no range of whole numbers");
  if (span.last < span.first) return refuse("ends before it begins");
  return span;
}

}  // namespace

std::string quoted(std::string_view text) {
  std::string shown;
  for (std::string_view left = text.substr(0, 60); !left.empty();) {
    const std::string_view character = left.substr(0, std::max<std::size_t>(1, utf8_length(left)));
    shown += is_control(character) ? "?" : character;
    left.remove_prefix(character.size());
  }
  if (text.size() > 60) shown += "...";
  return "'" + shown + "'";
}

Result<std::chrono::milliseconds> parse_duration(std::string_view text) {
  constexpr double year_ms = 365.0 * 24 * 3600 * 1000;
  static constexpr std::array<std::pair<std::string_view, double>, 5> units{{{"ms", 1}, {"s", 1e3}, {"m", 60e3}, {"h", 3600e3}, {"d", 86400e3}}};
  const auto refuse = [whole = text](const char* why) {
    return Error{"cannot read the time " + quoted(whole), why, "write a number and its unit: 250ms, 90s, 5m, 2h, 1h30m"};
  };
  if (text == "0") return std::chrono::milliseconds{0};
  if (text.empty()) return refuse("it is empty");
  double total = 0;
  while (!text.empty()) {
    if (text.front() == '-' || text.front() == '+') return refuse("it must be positive");
    const auto number = take_number<double>(text);
    if (!number || !std::isfinite(*number)) return refuse("there is no number where one should be");
    const auto length = std::min(text.find_first_of("0123456789.+-"), text.size());
    const auto unit = text.substr(0, length);
    const auto known = std::find_if(units.begin(), units.end(), [unit](const auto& entry) { return entry.first == unit; });
    if (known == units.end()) return refuse(unit.empty() ? "it has no unit" : "its unit is none of ms, s, m, h, d");
    text.remove_prefix(length);
    total += *number * known->second;
    if (total > year_ms) return refuse("it is over 365 days");
  }
  if (total > 0 && total < 1) return refuse("it is less than 1 ms");
  return std::chrono::milliseconds{std::llround(total)};
}

Result<std::uint64_t> parse_size(std::string_view text) {
  static constexpr std::array<std::pair<std::string_view, double>, 15> units{{{"", 1}, {"B", 1}, {"K", 1024}, {"KiB", 1024}, {"kB", 1e3}, {"KB", 1e3},
      {"M", 1 << 20}, {"MiB", 1 << 20}, {"MB", 1e6}, {"G", 1 << 30}, {"GiB", 1 << 30}, {"GB", 1e9},
      {"T", 1ull << 40}, {"TiB", 1ull << 40}, {"TB", 1e12}}};
  const Error refusal{"cannot read the size " + quoted(text), "it is no number of bytes", "write 65536, 64KiB, 1MiB or 10MB"};
  std::string_view rest = text;
  if (rest.empty() || rest.front() < '0' || rest.front() > '9') return refusal;
  const auto number = take_number<double>(rest);
  const auto known = std::find_if(units.begin(), units.end(), [rest](const auto& entry) { return entry.first == rest; });
  if (!number || known == units.end() || !(*number * known->second < 1e15)) return refusal;
  return static_cast<std::uint64_t>(*number * known->second);
}

Result<std::vector<Span>> parse_array(std::string_view text) {
  std::vector<Span> spans;
  std::uint64_t count = 0;
  for (std::string_view rest = text;;) {
    const auto comma = rest.find(',');
    const auto span = parse_span(rest.substr(0, comma));
    if (!span) return span.error();
    spans.push_back(span.value());
    if (span.value().count() > kRangeMax || (count += span.value().count()) > kRangeMax)
      return Error{"cannot read the array", quoted(text) + " is more than " + std::to_string(kRangeMax) + " tasks", "submit it in several jobs"};
    if (comma == std::string_view::npos) break;
    rest.remove_prefix(comma + 1);
  }
  if (spans.size() > 1 && count > kListMax)
    return Error{"cannot read the array", "a list of " + std::to_string(count) + " numbers; at most " + std::to_string(kListMax) + " when it is not one range", "submit each range as its own job"};
  return spans;
}

}  // namespace souk
