// The embedded grid as facts: what is written into the state folder and what is started, worked out without touching either.
#pragma once
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"

namespace souk {

// Addresses of every embedded grid. `.localhost` never leaves the machine (RFC 6761 §6.3).
inline constexpr std::string_view kDomain = "souk.localhost";
inline constexpr std::string_view kGridDomain = "grid.souk.localhost";
inline constexpr std::string_view kRoomsDomain = "rooms.souk.localhost";
inline constexpr std::string_view kManagerJid = "manager@grid.souk.localhost/souk";
inline constexpr std::string_view kRoom = "market@grid.souk.localhost";           // served by the manager itself
inline constexpr std::string_view kHostedRoom = "market@rooms.souk.localhost";  // of the server's room service
inline constexpr std::string_view kWorkerAccount = "worker";
inline constexpr std::string_view kLoopback = "127.0.0.1";

struct Ports {
  std::uint16_t clients = 0, component = 0;  // 0: not chosen yet
  friend bool operator==(const Ports&, const Ports&) = default;
};

struct EmbeddedGrid {
  std::filesystem::path dir;  // the state folder, absolute
  std::string user;           // local part of the owner's account
  Ports ports;
  int workers = 1;                     // programs, 1 to kWorkersMax
  int slots = 1;                       // of each worker, 1 to kSlotsMax
  std::vector<std::string> admins;     // JIDs that see and cancel everybody's jobs
  std::vector<std::string> allowed;    // JIDs or domains that may submit besides the owner; empty: everybody with an account
  std::string sandbox = "none";             // as the workers' --sandbox has it: who has an account here is trusted, unless told otherwise
  std::vector<std::string> services;        // as the workers' --service has them
  std::vector<std::string> shares, limits;  // as the manager's --share and --limit have them
  std::string memory_max;                   // and its --memory-max; empty: its default
  std::string policy;                       // and its --policy, an absolute path; empty: none
  bool restored = false;               // the manager's store was put back from a copy
  double lease_s = 0;                  // of the manager; 0: its default
  std::string keep;                    // as the manager's --keep has it; empty: its default
  bool hosted = false;                 // the marketplace is a room of the server's room service
  bool root = false;                   // Prosody refuses to run as root unless told
};
inline constexpr int kWorkersMax = 256;  // more workers belong on more machines
inline constexpr int kSlotsMax = 4096;   // as offers allow (protocol/offer.h)

/// Where things are in the state folder.
struct Layout {
  std::filesystem::path dir;
  std::filesystem::path lock() const { return dir / "lock"; }              // held while a supervisor lives; holds its pid
  std::filesystem::path state() const { return dir / "state.json"; }       // what runs now
  std::filesystem::path settings() const { return dir / "grid.json"; }     // what the next `up` should find as it was
  std::filesystem::path logs() const { return dir / "log"; }
  std::filesystem::path log(std::string_view program) const { return logs() / (std::string(program) + ".log"); }
  std::filesystem::path server() const { return dir / "server"; }
  std::filesystem::path server_data() const { return server() / "data"; }
  std::filesystem::path server_config() const { return server() / "prosody.cfg.lua"; }
  std::filesystem::path certificate() const { return server() / "certs" / (std::string(kDomain) + ".crt"); }
  std::filesystem::path certificate_key() const { return server() / "certs" / (std::string(kDomain) + ".key"); }
  std::filesystem::path users() const { return dir / "users"; }
  std::filesystem::path password(std::string_view who) const { return dir / (std::string(who) + ".password"); }
  std::filesystem::path profile(std::string_view who) const { return dir / (std::string(who) + ".toml"); }
  std::filesystem::path account(std::string_view user) const;  // Prosody's file for a person or worker
};

/// One program of the grid, as the supervisor starts it.
struct ProgramPlan {
  std::string name;  // server, manager, worker-1, worker-2, ...
  std::vector<std::string> argv;
  std::filesystem::path log;
  bool notifies = false;          // is told `--notify-fd N` besides: writes `ready` and `worker` there, one a line
  bool many_connections = false;  // gets as many descriptors as the system lets it have
};

/// The manager's option that its store was put back from a copy.
inline constexpr std::string_view kRestored = "--restored";

struct ProgramPaths {
  std::filesystem::path server, manager, worker;
};

/// All programs in the order they start; they stop in the opposite order.
std::vector<ProgramPlan> plan(const EmbeddedGrid& grid, const ProgramPaths& programs);

/// Prosody's whole configuration. It contains the component's secret: the file is 0600.
std::string render_server_config(const EmbeddedGrid& grid, std::string_view component_secret);

std::string render_person_profile(const EmbeddedGrid& grid, std::string_view user, std::string_view password_file);
std::string render_worker_profile(const EmbeddedGrid& grid);
std::string render_manager_profile(const EmbeddedGrid& grid);

/// What Prosody's `internal_hashed` keeps of a password (RFC 5802 §3); keys are raw bytes.
struct ScramKeys {
  std::string salt, stored_key, server_key;
  int iterations = 0;
};
std::string render_account(const ScramKeys& keys);

/// A file name as Prosody's storage writes it: all but letters and digits of ASCII as `%xx`.
std::string server_file_name(std::string_view text);

/// The account name of a unix user: lower case, of `a-z 0-9 . _ -`, never empty and never one the grid itself uses.
std::string account_name(std::string_view unix_user);

/// Checks a name given for an account: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or digit, not one the grid uses.
/// fails: with a name that would do in the remedy, where one can be made
Result<std::string> check_account_name(std::string_view name);

/// How long a program that died waits for its next start: 100 ms, doubling to 10 s; short again after 30 s of health.
class BackOff {
 public:
  static constexpr std::chrono::milliseconds kMin{100}, kMax{10000}, kHealthy{30000};
  std::chrono::milliseconds next(std::chrono::milliseconds lived) {
    if (lived >= kHealthy) delay_ = kMin;
    const auto now = delay_;
    delay_ = std::min(delay_ * 2, kMax);
    return now;
  }

 private:
  std::chrono::milliseconds delay_ = kMin;
};

}  // namespace souk
