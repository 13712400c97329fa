// Who may do what in this grid, and how much of it: rules of a policy file, and grants of the command line. Pure.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/ids.h"
#include "protocol/result.h"
#include "protocol/who.h"

namespace souk {

enum class Role : std::uint8_t { admin, submitter, worker, watcher };
std::string_view name_of(Role role);

/// What one person may have at a time; nothing: no limit.
struct Entitlement {
  std::optional<double> weight;                             // of their share
  std::optional<std::uint64_t> queued, running;              // tasks
  std::optional<std::uint64_t> bytes;                        // of jobs and results that are kept
  std::optional<std::uint64_t> per_minute;                   // submissions
  std::string rule;                                          // that says so, for people; empty: none does
};

struct Verdict {
  bool allowed = false;
  std::string rule;  // that decided, for people: `rule 'students' (policy.toml line 12)`
};

class Policy {
 public:
  static constexpr std::size_t kFileMax = 1u << 20;  // bytes
  static constexpr std::size_t kRulesMax = 1000, kMembersMax = 100'000;

  Policy() = default;
  /// Reads a policy file. The first rule that names somebody is theirs, and no other. docs/OPERATIONS.md has the format.
  /// name: of the file, for messages. Fails on what is no TOML, on unknown keys, roles and groups, and on values out of range: line and reason are told.
  static Result<Policy> parse(std::string_view text, const std::string& name);
  /// From the command line: `user@domain` or `domain` has that role whatever the file says. option: for messages, as `--admin`.
  Result<Done> grant(Role role, std::string_view who, const std::string& option);

  /// May somebody with this bare JID do what that role does? An admin may do what submitters and watchers do.
  Verdict decide(std::string_view jid, Role role) const;
  /// Whether it is of those whose grid this is: an admin, or a worker that an option or a rule names itself, and not only its domain.
  bool vouches(std::string_view jid) const;
  /// What names this very account, and not only its domain, for people: an option, a rule, a group; empty: nothing does.
  std::string named_by(std::string_view jid) const;
  /// What the file leaves them; nothing is limited without one.
  Entitlement terms(std::string_view jid) const;
  const Groups& groups() const { return groups_; }
  bool from_file() const { return !name_.empty(); }
  bool limits_bytes() const;
  std::size_t rules() const { return rules_.size(); }

 private:
  struct Rule {
    std::string shown;
    std::vector<Who> who;
    std::set<Role> roles;
    Entitlement terms;
  };
  struct Grant {
    Role role;
    Who who;
    std::string option;
  };
  const Rule* rule_of(std::string_view jid) const;

  std::string name_;
  std::vector<Rule> rules_;
  std::vector<Grant> grants_;
  Groups groups_;
};

/// The policy in force, for all who ask; another takes its place while the manager runs.
class Rulebook {
 public:
  explicit Rulebook(Policy policy) : now_(std::make_shared<const Policy>(std::move(policy))) {}
  const Policy& now() const { return *now_; }
  void replace(Policy policy) { now_ = std::make_shared<const Policy>(std::move(policy)); }

 private:
  std::shared_ptr<const Policy> now_;
};

/// How often somebody submits: `per_minute` in a row, and then as many a minute, evenly.
class Paces {
 public:
  /// How long to wait before the next one; zero: it counts.
  Duration take(const std::string& who, std::uint64_t per_minute, Instant now);

 private:
  static constexpr std::size_t kMax = 10'000;  // people remembered; who did nothing for a minute is forgotten
  struct Pace {
    double left;
    Instant at;
  };
  std::map<std::string, Pace> of_;
};

/// Bytes that are kept of everybody's jobs and results, about.
class KeptBytes {
 public:
  void add(JobId job, const std::string& owner, std::uint64_t bytes);
  void forget(JobId job);
  std::uint64_t of(const std::string& owner) const;
  void clear() { jobs_.clear(), owners_.clear(); }

 private:
  struct Job {
    std::string owner;
    std::uint64_t bytes = 0;
  };
  std::map<JobId, Job> jobs_;
  std::map<std::string, std::uint64_t> owners_;
};

}  // namespace souk
