// Writes what `souk server init` plans, after a look at the certificate.
#pragma once
#include <string>

#include "submit/server_plan.h"

namespace souk {

struct ServerInit {
  ServerSite site;
  std::string authority;  // PEM file of the authority that issued the certificate; empty: the system's
  bool self_signed = false, force = false;
};
struct Written {
  std::vector<std::filesystem::path> files;
  std::vector<std::string> warnings;
};
/// fails: with nothing written, when a file is there already (without `force`), or the certificate does not do
Result<Written> init_server(ServerInit wished);

}  // namespace souk
