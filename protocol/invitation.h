// A link that lets somebody in who has no account: xmpp:DOMAIN?register;preauth=TOKEN (the shape of XEP-0401 §3), with the manager's address. Pure.
#pragma once
#include <string>
#include <string_view>

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

/// fails: on anything that is not exactly such a link; over 2,048 bytes; unknown parameters are passed over
Result<InvitationLink> parse_invitation(std::string_view link);

}  // namespace souk
