// Whom a rule means: one person, everybody of a domain, a group that the manager's policy names, or anyone. Pure.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"

namespace souk {

constexpr std::size_t kWhoMax = 256;      // bytes of one
constexpr std::size_t kGroupNameMax = 64;  // letters, digits, `_`, `-` and `.`

struct Who {
  enum class Kind { anyone, person, domain, group };
  Kind kind = Kind::anyone;
  std::string name;  // bare JID, domain or group; of anyone: empty

  /// Reads `ada@example.edu`, `@example.edu`, `group:staff` or `anyone`. Upper case in addresses becomes lower case, as servers write them.
  static Result<Who> parse(std::string_view text);
  /// As parse() takes it.
  std::string text() const;
  /// bare_jid: as the server writes it. `groups`: those that this one is in, ordered
  bool means(std::string_view bare_jid, const std::vector<std::string>& groups) const;
  friend bool operator==(const Who&, const Who&) = default;
};

/// Whether one of them means it; nobody is meant by an empty list.
bool any_means(const std::vector<Who>& list, std::string_view bare_jid, const std::vector<std::string>& groups);

/// Groups as a policy has them: members are people and domains.
struct Groups {
  std::map<std::string, std::vector<Who>> members;
  /// Those that this one is in, ordered.
  std::vector<std::string> of(std::string_view bare_jid) const;
  friend bool operator==(const Groups&, const Groups&) = default;
};

}  // namespace souk
