// What the audit log says: lines of `verb name=value ...`, and how they are read again. Pure.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/ids.h"
#include "protocol/result.h"

namespace souk::audit {

using Fields = std::vector<std::pair<std::string, std::string>>;
constexpr std::size_t kValueMax = 500;  // bytes of one value; the rest is cut off

/// `2026-11-23T15:20:38.123Z submit by=ada@example.edu/desk job=12 tasks=100`, without the line's end. Values with blanks and the like are quoted; what a
/// terminal could obey is gone.
std::string line_of(std::uint64_t now_ms, std::string_view verb, const Fields& fields);

struct Entry {
  std::string time, verb;
  Fields fields;
};
/// A line as line_of() makes it; nothing: it is none.
std::optional<Entry> entry_of(std::string_view line);
/// {"time":"...","did":"submit","by":"...","job":"12",...}
std::string json_of(const Entry& entry);
/// As line_of() has it.
std::string time_of(std::uint64_t ms);

/// Numbers in few words, `3-7,9`; too many of them are cut off: `1-3,9,...`.
std::string numbers_text(const std::set<std::uint64_t>& numbers);

/// So that nobody can fill the log, and push out what others did: of one person's lines in a minute so many are told, the others counted.
class Flood {
 public:
  static constexpr unsigned kEach = 30, kAll = 300;  // a minute
  explicit Flood(unsigned each = kEach, unsigned all = kAll) : each_(each), all_max_(all) {}
  /// Whether this one is told.
  bool tells(const std::string& who, Instant now);
  /// Those that were left out, by who; once, a minute after the first of them. Of more people than kPeople: together, under `others`.
  std::map<std::string, std::uint64_t> left_out(Instant now);

 private:
  static constexpr std::size_t kPeople = 1000;
  unsigned each_, all_max_;
  Instant since_{};
  unsigned all_ = 0;
  std::map<std::string, unsigned> told_;
  std::map<std::string, std::uint64_t> left_;
};

}  // namespace souk::audit
