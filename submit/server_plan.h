// A grid on a server of its own, for more than one machine, as facts: every file that `souk server init` writes, worked out without touching anything.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"
#include "submit/embedded.h"

namespace souk {

enum class ServerKind { prosody, ejabberd };

struct ServerSite {
  std::string domain;                      // of people and workers; the manager is grid.DOMAIN
  ServerKind kind = ServerKind::prosody;
  std::filesystem::path dir;               // where everything goes, absolute
  std::filesystem::path certificate, key;  // absolute; as the server reads them
  // Where they come from, if the server's user cannot read them there and gets copies, made anew whenever its unit starts; empty: they are read where they are.
  std::filesystem::path certificate_source, key_source;
  std::string host;                        // how others reach the server; empty: by its domain
  std::uint16_t clients = 5222, component = 5347, uploads = 5443;
  std::string admin = "admin";             // account that may do everything on the grid
  std::string run_as = "souk";             // unix user of the units
  std::filesystem::path server, manager;  // programs
  std::string souk = "souk";               // how the printed commands name it
  bool own_authority = false;              // dir/ca.pem is the authority to trust; else the system's
  bool hosted = false;                     // the marketplace is a room of the server's room service
  bool root = false;                       // the server runs as root
  bool for_another = false;                // made by root for `run_as`, whose files others cannot read
};

/// Where things are. One folder for each part, with the secrets of that part alone: `worker` is what goes to workers' machines.
struct ServerLayout {
  std::filesystem::path dir;
  std::filesystem::path server() const { return dir / "server"; }
  std::filesystem::path config(ServerKind kind) const { return server() / (kind == ServerKind::prosody ? "prosody.cfg.lua" : "ejabberd.yml"); }
  std::filesystem::path data() const { return server() / "data"; }
  std::filesystem::path uploads() const { return server() / "uploads"; }
  std::filesystem::path start() const { return server() / "start"; }        // ejabberd
  std::filesystem::path accounts() const { return server() / "accounts"; }  // ejabberd: made at its first start
  std::filesystem::path profile(std::string_view part) const { return dir / part / (std::string(part) + ".toml"); }
  std::filesystem::path policy() const { return dir / "manager" / "policy.toml"; }
  std::filesystem::path password(std::string_view part) const { return dir / part / (std::string(part) + ".password"); }
  std::filesystem::path unit(std::string_view part) const { return dir / ("souk-" + std::string(part) + ".service"); }
};

struct ServerSecrets {
  std::string component, admin, worker;  // passwords
};

struct PlannedFile {
  std::filesystem::path path;
  std::string text;
  bool executable = false;
};

/// All files but what Prosody keeps of accounts, which is salted, and the copy of the authority.
std::vector<PlannedFile> plan_server(const ServerSite& site, const ServerSecrets& secrets);

/// A domain as it may stand in a configuration: letters, digits, dots and dashes, with a dot, at most 200 bytes, no empty label.
Result<std::string> check_domain(std::string_view domain);

/// What remains to be done: exactly three commands.
std::vector<std::string> remaining_commands(const ServerSite& site);

}  // namespace souk
