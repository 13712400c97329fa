// Who was invited, by whom, for how long, and who came. Pure; what it knows is one text, which the shell keeps on disk before it says anything.
//
//   open --use--> open ... --last use, expiry or revocation--> ended --its account is removed--> done (kept for 30 days, for people who ask)
#pragma once
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"

namespace souk {

struct Invitation {
  enum class Role { worker, user } role = Role::worker;
  std::string by;                     // bare JID of who invited
  std::int64_t made_ms = 0, expires_ms = 0;
  int uses = 1;                       // accounts it may make
  std::vector<std::string> accounts;  // that it made
  std::vector<std::string> pending;   // being made just now: may be somebody's that was there before, as nobody knows yet
  bool revoked = false, removed = false;  // removed: its own account is gone from the server
};

class InvitationBook {
 public:
  static constexpr int kUsesMax = 1000;
  static constexpr std::size_t kOpenMax = 1000;
  static constexpr std::int64_t kLongest = 365LL * 24 * 3600 * 1000, kRemembered = 30LL * 24 * 3600 * 1000;  // ms

  /// id: of the account that stands for it (its local part)
  Result<Done> add(std::string id, Invitation invitation);
  /// For whom it is good. fails: unknown, revoked, expired, used up; in words for who came
  Result<Invitation::Role> check(const std::string& id, std::int64_t now_ms) const;
  /// Takes one use for an account that is to be made. fails: as check()
  Result<Invitation::Role> use(const std::string& id, const std::string& account, std::int64_t now_ms);
  /// The account is made, and it is this invitation that made it.
  void made(const std::string& id, const std::string& account);
  /// The account could not be made, or was taken away again.
  void give_back(const std::string& id, const std::string& account);
  /// fails: unknown
  Result<Done> revoke(const std::string& id);
  /// Accounts of the server that stand for invitations that have ended, and are still there.
  std::vector<std::string> to_remove(std::int64_t now_ms) const;
  void removed(const std::string& id);
  /// Forgets what ended long ago, unless it made accounts, which can be taken away by it.
  void forget(std::int64_t now_ms);

  bool open(const std::string& id, std::int64_t now_ms) const { return static_cast<bool>(check(id, now_ms)); }
  /// By which invitation the account was made; empty: by none.
  std::string maker(const std::string& account) const;
  bool stands_for_one(const std::string& account) const { return all_.contains(account); }
  const std::map<std::string, Invitation>& all() const { return all_; }

  std::string text() const;
  static Result<InvitationBook> read(std::string_view text);

 private:
  std::map<std::string, Invitation> all_;
};

/// `worker` or `user`.
const char* role_name(Invitation::Role role);

}  // namespace souk
