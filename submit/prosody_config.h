// Prosody's configuration, the one place where Souk writes any: of the private grid of `souk up`, and of `souk server init`, which the containers use as well. Pure.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

namespace souk {

struct ProsodySettings {
  std::string about;                                          // for the first line; what wrote it and whose it is
  std::filesystem::path data, certificates, certificate, key;  // certificates: a folder
  std::filesystem::path pidfile;                              // empty: none
  std::string domain, component_domain, component_secret;
  std::string manager;                                        // bare JID
  std::uint16_t clients = 5222, component = 5347;
  std::uint16_t uploads = 0;  // port of HTTP upload; 0: there is none
  bool loopback = false;      // for this machine alone: nothing else is listened on, and encryption is offered, not required
  bool accounts = false;      // the manager may make accounts and take them away
  bool rooms = false;         // a room service, in which the manager alone makes rooms
  bool root = false;          // Prosody refuses to run as root unless told
};

inline constexpr std::uint64_t kUploadMax = 1ull << 30;  // bytes a file; four times that a person and day

/// The whole file. It contains the component's secret: 0600.
std::string render_prosody(const ProsodySettings& settings);

/// A Lua string literal, quotes included, that reads back as exactly these bytes.
std::string lua_string(std::string_view bytes);

}  // namespace souk
