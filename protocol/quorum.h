// When results of the same task count as the same, and how many of them a job asks for. Plain values; docs/TRUST.md has the rules.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "protocol/command.h"
#include "protocol/ids.h"
#include "protocol/result.h"

namespace souk {

constexpr unsigned kQuorumMax = 9;             // results of one task
constexpr std::size_t kKnownMax = 100'000;     // known answers of a job
constexpr std::size_t kComparedMax = 64 << 10;  // bytes of stdout that are compared number by number; longer ones are compared as they are

/// What of two results must be the same.
struct AgreeOn {
  enum class What : std::uint8_t { all, exit, numbers };  // all: how it ended and the whole of stdout
  What what = What::all;
  double tolerance = 0;  // of `numbers`: relative
  friend bool operator==(const AgreeOn&, const AgreeOn&) = default;
};
/// Whose results may count side by side.
enum class VotesOf : std::uint8_t { owners, workers };

/// Of a job whose results are not believed at once.
struct Quorum {
  unsigned agree = 2, most = 3;  // so many results must agree; after so many without that the task fails
  bool adaptive = false;         // who has earned it is checked now and then only
  VotesOf of = VotesOf::owners;
  AgreeOn on{};
  std::map<TaskNumber, std::string> known{};  // SHA-256 of stdout, 32 bytes, of tasks whose answers the submitter knows
};

/// Reads `2/3`: two must agree, of three at most; `2` alone is `2/3`, `3` is `3/5`. yields: agree and most
Result<std::pair<unsigned, unsigned>> parse_quorum(std::string_view text);
/// fails: unless 2 <= agree <= most <= kQuorumMax
Result<Done> check_quorum(unsigned agree, unsigned most);
/// Reads `all`, `exit`, `numbers:1e-6`; empty is `all`.
Result<AgreeOn> parse_agree_on(std::string_view text);
/// Reads 64 hexadecimal digits. yields: 32 bytes
std::optional<std::string> parse_sha256(std::string_view hex);

/// 32 bytes.
std::string sha256(std::string_view bytes);
/// What is compared of a result, in 32 bytes: equal for results that are the same under `all`, or under `exit`.
std::string digest_of(const Outcome& outcome, AgreeOn::What what);
/// Whether two texts are the same word for word, and number for number within the tolerance. Words are divided by white space and , ; : = ( ) [ ] { } ".
bool same_numbers(std::string_view a, std::string_view b, double tolerance);

}  // namespace souk
