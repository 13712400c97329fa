#include "manager/invitation_book.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "protocol/invitation.h"

namespace souk {
namespace {

using nlohmann::json;

bool spent(const Invitation& i) { return static_cast<int>(i.accounts.size() + i.pending.size()) >= i.uses; }

}  // namespace

const char* role_name(Invitation::Role role) { return role == Invitation::Role::worker ? "worker" : "user"; }

Result<Done> InvitationBook::add(std::string id, Invitation invitation) {
  const Error bad{"cannot invite", "", ""};
  if (invitation.uses < 1 || invitation.uses > kUsesMax) return Error{bad.what, "an invitation is for 1 to " + std::to_string(kUsesMax) + " accounts", "say --uses 30"};
  if (invitation.expires_ms <= invitation.made_ms || invitation.expires_ms - invitation.made_ms > kLongest) return Error{bad.what, "an invitation is good for up to 365 days", "say --expires 7d"};
  const auto open_now = std::count_if(all_.begin(), all_.end(), [&](const auto& one) { return open(one.first, invitation.made_ms); });
  if (static_cast<std::size_t>(open_now) >= kOpenMax) return Error{bad.what, std::to_string(open_now) + " are open already", "revoke some: souk invite revoke ID"};
  all_.emplace(std::move(id), std::move(invitation));
  return Done{};
}

Result<Invitation::Role> InvitationBook::check(const std::string& id, std::int64_t now_ms) const {
  const auto found = all_.find(id);
  const auto bad = [](const char* why) { return Error{"the invitation is not good", why, "ask whoever sent it for another one"}; };
  if (found == all_.end()) return bad("this grid does not know it");
  const Invitation& one = found->second;
  if (one.revoked) return bad("it was revoked");
  if (now_ms >= one.expires_ms) return bad("it has expired");
  if (spent(one)) return bad("it was used as often as it may be");
  return one.role;
}

Result<Invitation::Role> InvitationBook::use(const std::string& id, const std::string& account, std::int64_t now_ms) {
  const auto good = check(id, now_ms);
  if (good) all_.at(id).pending.push_back(account);
  return good;
}

void InvitationBook::made(const std::string& id, const std::string& account) {
  const auto found = all_.find(id);
  if (found == all_.end() || std::erase(found->second.pending, account) == 0) return;
  found->second.accounts.push_back(account);
}

std::string InvitationBook::maker(const std::string& account) const {
  const auto found = std::find_if(all_.begin(), all_.end(), [&](const auto& one) { return std::find(one.second.accounts.begin(), one.second.accounts.end(), account) != one.second.accounts.end(); });
  return found == all_.end() ? "" : found->first;
}

void InvitationBook::give_back(const std::string& id, const std::string& account) {
  const auto found = all_.find(id);
  if (found == all_.end()) return;
  std::erase(found->second.pending, account);
  std::erase(found->second.accounts, account);
}

Result<Done> InvitationBook::revoke(const std::string& id) {
  const auto found = all_.find(id);
  if (found == all_.end()) return Error{"cannot revoke", "there is no invitation " + id.substr(0, 80), "`souk invite list` has those there are"};
  found->second.revoked = true;
  return Done{};
}

std::vector<std::string> InvitationBook::to_remove(std::int64_t now_ms) const {
  std::vector<std::string> ids;
  for (const auto& [id, one] : all_)
    if (!one.removed && !open(id, now_ms)) ids.push_back(id);
  return ids;
}

void InvitationBook::removed(const std::string& id) {
  if (const auto found = all_.find(id); found != all_.end()) found->second.removed = true;
}

void InvitationBook::forget(std::int64_t now_ms) {
  std::erase_if(all_, [&](const auto& one) { return one.second.removed && one.second.accounts.empty() && now_ms - one.second.expires_ms > kRemembered; });
}

std::string InvitationBook::text() const {
  json list = json::object();
  for (const auto& [id, one] : all_)
    list[id] = {{"role", role_name(one.role)}, {"by", one.by}, {"made_ms", one.made_ms}, {"expires_ms", one.expires_ms}, {"uses", one.uses}, {"accounts", one.accounts}, {"pending", one.pending}, {"revoked", one.revoked}, {"removed", one.removed}};
  return json{{"version", 1}, {"invitations", list}}.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

Result<InvitationBook> InvitationBook::read(std::string_view text) {
  InvitationBook book;
  try {
    const json all = json::parse(text);
    if (all.at("version").get<int>() != 1) return Error{"cannot read the invitations", "they are of a newer version", "start the version that wrote them"};
    for (const auto& [id, one] : all.at("invitations").items()) {
      Invitation read;
      const auto role = one.at("role").get<std::string>();
      if (role != "worker" && role != "user") return Error{"cannot read the invitations", "one is for a '" + role + "'", ""};
      read.role = role == "worker" ? Invitation::Role::worker : Invitation::Role::user;
      read.by = one.at("by").get<std::string>();
      read.made_ms = one.at("made_ms").get<std::int64_t>(), read.expires_ms = one.at("expires_ms").get<std::int64_t>();
      read.uses = one.at("uses").get<int>();
      read.accounts = one.at("accounts").get<std::vector<std::string>>();
      read.revoked = one.at("revoked").get<bool>(), read.removed = one.at("removed").get<bool>();
      // Whether these were made is not known. A worker's name was drawn by lot and is nobody else's; another may be that of somebody who was there before, and its
      // password reached nobody.
      if (one.contains("pending"))
        for (auto& account : one.at("pending").get<std::vector<std::string>>())
          if (account.starts_with(kWorkerPrefix)) read.accounts.push_back(std::move(account));
      book.all_.emplace(id, std::move(read));
    }
  } catch (const json::exception& failure) {
    return Error{"cannot read the invitations", failure.what(), "the file is damaged: put it back from a copy, or move it away (accounts stay)"};
  }
  return book;
}

}  // namespace souk
