#include "protocol/who.h"

#include <algorithm>

#include "protocol/form.h"
#include "protocol/notation.h"

namespace souk {

namespace {

bool is_group_name(std::string_view name) {
  return !name.empty() && name.size() <= kGroupNameMax && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
}

/// No blank, no control character, none of those that an address cannot hold (RFC 7622 §3.3.1).
bool is_part(std::string_view text) {
  return !text.empty() && is_printable(text) && text.find_first_of(" \t\r\n\"&'/:<>@") == text.npos;
}

std::string lower(std::string_view text) {
  std::string made(text);
  for (char& c : made) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return made;
}

}  // namespace

Result<Who> Who::parse(std::string_view text) {
  const auto bad = [&](std::string why) {
    return Error{quoted(printable(shortened(text, 64))) + " names nobody", std::move(why), "write ada@example.edu, @example.edu for all of a domain, group:NAME, or anyone"};
  };
  if (text.size() > kWhoMax) return bad("it is over 256 bytes");
  if (text == "anyone") return Who{};
  if (text.starts_with("group:")) {
    if (!is_group_name(text.substr(6))) return bad("a group's name has letters, digits, `_`, `-` and dots, at most 64");
    return Who{Kind::group, std::string(text.substr(6))};
  }
  const auto at = text.find('@');
  if (at == text.npos) return bad("it is no address");
  const std::string_view domain = text.substr(at + 1);
  // An IPv6 address in brackets is a domain too.
  const bool bracketed = domain.size() > 2 && domain.front() == '[' && domain.back() == ']' && domain.find_first_not_of("0123456789abcdefABCDEF:.", 1) == domain.size() - 1;
  if (domain.find('/') != domain.npos) return bad("it has a resource: the part from the `/` on");
  if (!bracketed && !is_part(domain)) return bad("its domain cannot be one");
  if (at == 0) return Who{Kind::domain, lower(domain)};
  if (!is_part(text.substr(0, at))) return bad("its name cannot be one");
  return Who{Kind::person, lower(text)};
}

std::string Who::text() const {
  switch (kind) {
    case Kind::anyone: return "anyone";
    case Kind::person: return name;
    case Kind::domain: return '@' + name;
    case Kind::group: return "group:" + name;
  }
  return {};
}

bool Who::means(std::string_view bare_jid, const std::vector<std::string>& groups) const {
  switch (kind) {
    case Kind::anyone: return true;
    case Kind::person: return name == bare_jid;
    case Kind::domain: {
      const auto at = bare_jid.find('@');
      return bare_jid.substr(at == bare_jid.npos ? 0 : at + 1) == name;
    }
    case Kind::group: return std::binary_search(groups.begin(), groups.end(), name);
  }
  return false;
}

bool any_means(const std::vector<Who>& list, std::string_view bare_jid, const std::vector<std::string>& groups) {
  return std::any_of(list.begin(), list.end(), [&](const Who& who) { return who.means(bare_jid, groups); });
}

std::vector<std::string> Groups::of(std::string_view bare_jid) const {
  std::vector<std::string> in;
  for (const auto& [name, list] : members)
    if (any_means(list, bare_jid, {})) in.push_back(name);
  return in;
}

}  // namespace souk
