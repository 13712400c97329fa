// Whose host this is: its name, and where its user keeps things.
#pragma once
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <optional>
#include <string>

namespace souk::worker {

inline std::string host_name() {
  char name[256] = {};
  return ::gethostname(name, sizeof name - 1) == 0 && name[0] != 0 ? name : "worker";
}

/// $NAME, else ~/REST; nothing without either. A home that is the root folder is none: daemons and containers have that.
inline std::optional<std::filesystem::path> below_home(const char* name, const char* rest) {
  if (const char* set = std::getenv(name); set != nullptr && set[0] == '/') return set;
  if (const char* home = std::getenv("HOME"); home != nullptr && home[0] == '/' && home[1] != 0) return std::filesystem::path(home) / rest;
  return std::nullopt;
}

}  // namespace souk::worker
