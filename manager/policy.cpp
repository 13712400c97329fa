#include "manager/policy.h"

#include <algorithm>
#include <array>

#include "protocol/form.h"
#include "protocol/invitation.h"
#include "protocol/nearest.h"
#include "protocol/notation.h"
#include "protocol/toml.h"

namespace souk {

namespace {

constexpr std::array<std::pair<std::string_view, Role>, 4> kRoles{{{"admin", Role::admin}, {"submitter", Role::submitter}, {"worker", Role::worker}, {"watcher", Role::watcher}}};
constexpr std::int64_t kTasksMax = 1'000'000'000'000, kPerMinuteMax = 1'000'000;
constexpr std::size_t kRuleNameMax = 64;

bool role_covers(Role has, Role wanted) { return has == wanted || (has == Role::admin && (wanted == Role::submitter || wanted == Role::watcher)); }

/// Of one file, whose name its refusals tell.
struct Reader {
  std::string name;

  Error at(const toml::source_region& where, std::string why, std::string remedy) const {
    return {"policy " + quoted(name) + " refused", "line " + std::to_string(where.begin.line) + ": " + why, std::move(remedy)};
  }

  Error unknown(const toml::key& key, const std::vector<std::string>& known, const std::string& of) const {
    std::string list;
    for (const auto& one : known) list += (list.empty() ? "" : ", ") + one;
    const std::string near = nearest(key.str(), known);
    return at(key.source(), quoted(key.str()) + " is no key of " + of, near.empty() ? "known are " + list : "did you mean " + near + "?");
  }

  /// A text, or a list of texts.
  Result<std::vector<std::pair<std::string, toml::source_region>>> texts(const toml::node& node, const std::string& key) const {
    std::vector<std::pair<std::string, toml::source_region>> all;
    const auto wrong = [&](const toml::node& what) { return at(what.source(), key + " is neither a text nor a list of texts", "write " + key + " = [\"...\", \"...\"]"); };
    if (const auto* text = node.as_string()) {
      all.emplace_back(text->get(), node.source());
      return all;
    }
    const auto* array = node.as_array();
    if (!array) return wrong(node);
    for (const toml::node& one : *array) {
      const auto* text = one.as_string();
      if (!text) return wrong(one);
      all.emplace_back(text->get(), one.source());
    }
    return all;
  }

  Result<std::uint64_t> whole(const toml::node& node, const std::string& key, std::int64_t least, std::int64_t most) const {
    const auto* number = node.as_integer();
    if (!number || number->get() < least || number->get() > most)
      return at(node.source(), key + " is no whole number from " + std::to_string(least) + " to " + std::to_string(most), "leave it out for no limit");
    return static_cast<std::uint64_t>(number->get());
  }

  Result<double> weight(const toml::node& node) const {
    const auto number = node.value<double>();
    if ((!node.is_integer() && !node.is_floating_point()) || !number || !(*number >= 0.001 && *number <= 1000)) return at(node.source(), "weight is no number from 0.001 to 1000", "2 gives twice the share of others");
    return *number;
  }

  Result<std::uint64_t> bytes(const toml::node& node) const {
    const auto* text = node.as_string();
    const auto size = text ? parse_size(text->get()) : Result<std::uint64_t>(Error{"", "it is no text with a unit", ""});
    if (!size) return at(node.source(), "bytes: " + size.error().why, "write bytes = \"10GiB\"");
    return size.value();
  }
};

}  // namespace

std::string_view name_of(Role role) {
  for (const auto& [name, one] : kRoles)
    if (one == role) return name;
  return "?";
}

Result<Policy> Policy::parse(std::string_view text, const std::string& name) {
  const Reader reader{name};
  if (text.size() > kFileMax) return Error{"policy " + quoted(name) + " refused", "it is over 1 MiB", "name domains in place of single people"};
  toml::table file;
  try {
    file = toml::parse(text);
  } catch (const toml::parse_error& error) {
    return reader.at(error.source(), std::string(printable(error.description())), "it is to be TOML");
  }
  Policy policy;
  policy.name_ = name;
  std::size_t members = 0;
  for (const auto& [key, node] : file)
    if (key != "groups" && key != "rule") return reader.unknown(key, {"groups", "rule"}, "a policy");
  if (const toml::node* groups = file.get("groups")) {
    if (!groups->is_table()) return reader.at(groups->source(), "groups is no table", "write [groups] and below it staff = [\"ada@example.edu\", \"@cs.example.edu\"]");
    for (const auto& [key, node] : *groups->as_table()) {
      const std::string group(key.str());
      if (const auto good = Who::parse("group:" + group); !good) return reader.at(key.source(), quoted(group) + " is no name of a group: " + good.error().why, "choose another");
      const auto list = reader.texts(node, group);
      if (!list) return list.error();
      auto& in = policy.groups_.members[group];
      for (const auto& [one, where] : list.value()) {
        auto who = Who::parse(one);
        if (!who) return reader.at(where, who.error().what + ": " + who.error().why, who.error().remedy);
        if (who.value().kind == Who::Kind::group || who.value().kind == Who::Kind::anyone) return reader.at(where, "members of a group are people and domains, not " + quoted(one), "name them");
        if (++members > kMembersMax) return reader.at(where, "the groups have over 100,000 members", "name domains in place of single people");
        in.push_back(std::move(who.value()));
      }
    }
  }
  const toml::node* rules = file.get("rule");
  if (!rules) return Error{"policy " + quoted(name) + " refused", "it has no rule, so nobody could do anything", "begin with [[rule]], who = \"@example.edu\", roles = [\"submitter\"]"};
  if (!rules->is_array_of_tables()) return reader.at(rules->source(), "rule is no list of tables", "begin each rule with [[rule]]");
  for (const toml::node& entry : *rules->as_array()) {
    const toml::table& table = *entry.as_table();
    if (policy.rules_.size() == kRulesMax) return reader.at(entry.source(), "there are over 1000 rules", "put people into groups");
    Rule rule;
    std::string called;
    bool has_roles = false;
    for (const auto& [key, node] : table) {
      if (key == "name") {
        const auto* text_of = node.as_string();
        if (!text_of || text_of->get().empty() || text_of->get().size() > kRuleNameMax || !is_printable(text_of->get()) || text_of->get().find_first_of("\r\n\t'\"") != std::string::npos)
          return reader.at(node.source(), "name is no short plain text", "write name = \"students\"");
        called = text_of->get();
      } else if (key == "who") {
        const auto list = reader.texts(node, "who");
        if (!list) return list.error();
        for (const auto& [one, where] : list.value()) {
          auto who = Who::parse(one);
          if (!who) return reader.at(where, who.error().what + ": " + who.error().why, who.error().remedy);
          if (who.value().kind == Who::Kind::group && !policy.groups_.members.contains(who.value().name)) {
            std::vector<std::string> known;
            for (const auto& [group, list_of] : policy.groups_.members) known.push_back(group);
            const std::string near = nearest(who.value().name, known);
            return reader.at(where, "there is no group " + quoted(who.value().name), near.empty() ? "add it below [groups]" : "did you mean group:" + near + "?");
          }
          if (++members > kMembersMax) return reader.at(where, "over 100,000 people are named", "name domains in place of single people");
          rule.who.push_back(std::move(who.value()));
        }
      } else if (key == "roles") {
        has_roles = true;
        const auto list = reader.texts(node, "roles");
        if (!list) return list.error();
        for (const auto& [one, where] : list.value()) {
          const auto found = std::find_if(kRoles.begin(), kRoles.end(), [&, role = one](const auto& known) { return known.first == role; });
          if (found == kRoles.end()) return reader.at(where, quoted(one) + " is no role", "roles are admin, submitter, worker and watcher");
          rule.roles.insert(found->second);
        }
      } else if (key == "queued" || key == "running" || key == "per-minute") {
        const auto number = reader.whole(node, std::string(key.str()), key == "running" ? 1 : 0, key == "per-minute" ? kPerMinuteMax : kTasksMax);
        if (!number) return number.error();
        (key == "queued" ? rule.terms.queued : key == "running" ? rule.terms.running : rule.terms.per_minute) = number.value();
      } else if (key == "bytes") {
        const auto size = reader.bytes(node);
        if (!size) return size.error();
        rule.terms.bytes = size.value();
      } else if (key == "weight") {
        const auto weight = reader.weight(node);
        if (!weight) return weight.error();
        rule.terms.weight = weight.value();
      } else {
        return reader.unknown(key, {"name", "who", "roles", "queued", "running", "bytes", "per-minute", "weight"}, "a rule");
      }
    }
    if (rule.who.empty()) return reader.at(entry.source(), "the rule names nobody", "add who = \"@example.edu\"");
    if (!has_roles) return reader.at(entry.source(), "the rule gives no roles", "add roles = [\"submitter\"], or roles = [] to shut somebody out");
    const std::string file_name = name.substr(name.rfind('/') == name.npos ? 0 : name.rfind('/') + 1);
    const std::string place = printable(shortened(file_name, 80)) + " line " + std::to_string(entry.source().begin.line);
    rule.shown = rule.terms.rule = called.empty() ? "the rule in " + place : "rule '" + called + "' (" + place + ")";
    policy.rules_.push_back(std::move(rule));
  }
  return policy;
}

Result<Done> Policy::grant(Role role, std::string_view who, const std::string& option) {
  auto read = Who::parse(who.find('@') == who.npos ? "@" + std::string(who) : std::string(who));
  if (!read || read.value().kind == Who::Kind::group || read.value().kind == Who::Kind::anyone)
    return Error{option + " " + quoted(who) + " refused", read ? "it is no address" : read.error().why, "write a JID such as ada@example.edu, or a domain"};
  grants_.push_back({role, std::move(read.value()), option});
  return Done{};
}

const Policy::Rule* Policy::rule_of(std::string_view jid) const {
  if (rules_.empty()) return nullptr;
  const std::vector<std::string> groups = groups_.of(jid);
  const auto found = std::find_if(rules_.begin(), rules_.end(), [&](const Rule& rule) { return any_means(rule.who, jid, groups); });
  return found == rules_.end() ? nullptr : &*found;
}

Verdict Policy::decide(std::string_view jid, Role role) const {
  if (jid.starts_with(kInvitedPrefix)) return {false, "an account that stands for an invitation can do nothing but join"};  // else its uses and its end would bound nothing
  for (const Grant& grant : grants_)
    if (role_covers(grant.role, role) && grant.who.means(jid, {})) return {true, grant.option};
  const std::string someone = printable(shortened(jid, 200));
  if (!from_file())
    return {false, "its owner can start the manager with " + std::string(role == Role::admin ? "--admin " : role == Role::worker ? "--allow-worker " : "--allow ") + someone};
  const Rule* rule = rule_of(jid);
  if (!rule) return {false, "no rule of " + quoted(name_.substr(name_.rfind('/') == name_.npos ? 0 : name_.rfind('/') + 1)) + " names " + someone};
  const bool allowed = std::any_of(rule->roles.begin(), rule->roles.end(), [&](Role has) { return role_covers(has, role); });
  return {allowed, rule->shown + (allowed ? "" : rule->roles.empty() ? " gives no role at all" : " does not make " + someone + " a" + (role == Role::admin ? "n " : " ") + std::string(name_of(role)))};
}

bool Policy::vouches(std::string_view jid) const {
  const auto is = [&](const Who& who) { return who.kind == Who::Kind::person && who.name == jid; };
  const Rule* rule = rule_of(jid);
  return decide(jid, Role::admin).allowed || std::any_of(grants_.begin(), grants_.end(), [&](const Grant& grant) { return grant.role == Role::worker && is(grant.who); }) ||
         (rule && rule->roles.contains(Role::worker) && std::any_of(rule->who.begin(), rule->who.end(), is));
}

std::string Policy::named_by(std::string_view jid) const {
  const auto is = [&](const Who& who) { return who.kind == Who::Kind::person && who.name == jid; };
  for (const Grant& grant : grants_)
    if (is(grant.who)) return grant.option;
  for (const Rule& rule : rules_)
    if (std::any_of(rule.who.begin(), rule.who.end(), is)) return rule.shown;
  for (const auto& [group, members] : groups_.members)
    if (std::any_of(members.begin(), members.end(), is)) return "group '" + group + "'";
  return {};
}

Entitlement Policy::terms(std::string_view jid) const {
  const Rule* rule = rule_of(jid);
  return rule ? rule->terms : Entitlement{};
}

bool Policy::limits_bytes() const {
  return std::any_of(rules_.begin(), rules_.end(), [](const Rule& rule) { return rule.terms.bytes.has_value(); });
}

Duration Paces::take(const std::string& who, std::uint64_t per_minute, Instant now) {
  constexpr double minute = 60e6;  // microseconds
  const auto most = static_cast<double>(per_minute);
  if (of_.size() >= kMax && !of_.contains(who)) std::erase_if(of_, [&](const auto& one) { return now - one.second.at >= std::chrono::minutes(1); });
  Pace& pace = of_.try_emplace(who, Pace{most, now}).first->second;
  const auto passed = std::chrono::duration<double, std::micro>(now - pace.at).count();
  pace.left = std::min(most, pace.left + passed * most / minute);
  pace.at = now;
  if (pace.left >= 1) {
    pace.left -= 1;
    return Duration(0);
  }
  if (per_minute == 0) return std::chrono::minutes(1);
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double, std::micro>((1 - pace.left) * minute / most)) + Duration(1);
}

void KeptBytes::add(JobId job, const std::string& owner, std::uint64_t bytes) {
  Job& entry = jobs_[job];
  if (entry.owner.empty()) entry.owner = owner;
  entry.bytes += bytes;
  owners_[entry.owner] += bytes;
}

void KeptBytes::forget(JobId job) {
  const auto at = jobs_.find(job);
  if (at == jobs_.end()) return;
  if (const auto owner = owners_.find(at->second.owner); owner != owners_.end() && (owner->second -= std::min(owner->second, at->second.bytes)) == 0) owners_.erase(owner);
  jobs_.erase(at);
}

std::uint64_t KeptBytes::of(const std::string& owner) const {
  const auto at = owners_.find(owner);
  return at == owners_.end() ? 0 : at->second;
}

}  // namespace souk
