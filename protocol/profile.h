// A profile file: who a program is and where it finds the grid. TOML, readable by its owner only.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "protocol/result.h"
#include "protocol/xmpp_link.h"

namespace souk {

/// jid = "ada@souk.localhost"         # component manager: "grid.souk.localhost"
/// password_file = "user.password"    # beside the profile unless absolute; 0600
/// component = false                  # the manager: true for an XEP-0114 component
/// host = "127.0.0.1"                 # where to connect; default: the domain of `jid`
/// port = 5222
/// ca_file = "ca.pem"                 # trusted authorities; default: the system's
/// proxy = "socks5://proxy:1080"      # or "http://proxy:3128" (CONNECT); default: none
/// manager = "manager@grid.souk.localhost/souk"
/// room = "market@grid.souk.localhost"  # on the manager's own domain: served by it; elsewhere: by a room service
struct Profile {
  Account account;
  std::string manager;  // full JID of the manager; a worker obeys nobody else
  std::string room;     // bare JID of the marketplace
  std::filesystem::path file;
};

/// Reads a profile and its password. Fails on unknown keys, on missing ones, and when others can read the password file.
Result<Profile> load_profile(const std::filesystem::path& file);

}  // namespace souk
