// A link that lets somebody in who has no account: xmpp:DOMAIN?register;preauth=TOKEN (the shape of XEP-0401 §3), with the manager's address. Pure.
#pragma once
#include <string>
#include <string_view>

#include "protocol/form.h"
#include "protocol/result.h"

namespace souk {

/// The token is the name of an account that can do nothing but join, a dot, and its password (docs/PROTOCOL.md §6.16).
struct InvitationLink {
  std::string domain, name, secret, manager;
  std::string text() const;
  std::string token() const { return name + "." + secret; }
  std::string account() const { return name + "@" + domain; }
};

inline constexpr std::string_view kInvitedPrefix = "invite-";
inline constexpr std::string_view kWorkerPrefix = "w-";  // of accounts made for workers

/// fails: on anything that is not exactly such a link; over 2,048 bytes; unknown parameters are passed over
Result<InvitationLink> parse_invitation(std::string_view link);

/// What the manager made for who came with an invitation.
struct Credentials {
  std::string jid, password, manager, room;
};

/// Out of the manager's answer to `join` (docs/PROTOCOL.md §6.16). fails: on what cannot be kept in files that are read by lines, on an account of another server
/// wanted: `worker` or `user`
Result<Credentials> credentials_in(const Form& answer, const InvitationLink& link, std::string_view wanted);

}  // namespace souk
