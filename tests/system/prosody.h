// A private Prosody for one test: own folder, loopback only, free ports; gone with the object, and with the test should it crash.
#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "protocol/xmpp_link.h"
#include "tests/system/certificates.h"

namespace souk::test {

/// A folder below the system's for temporary files; removed with the object.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

class Prosody {
 public:
  struct Options {
    std::string domain = "souk.localhost";
    std::vector<std::pair<std::string, std::string>> accounts = {{"ada", "ada-pw"}, {"bob", "bob-pw"}, {"worker", "worker-pw"}};
    std::string component = "grid.souk.localhost", secret = "grid-secret";
    std::string muc = "rooms.souk.localhost";  // empty: none
    bool tls = false;                          // offers STARTTLS with a certificate of its own authority, see ca_file()
    std::string certified;                     // the domain in that certificate, if not `domain`
    std::chrono::seconds certificate_valid_for{86400};
    std::string more;        // lines for the global part of the configuration
    std::string more_hosts;  // lines at the end: further hosts and components
  };
  /// Starts it and returns when it accepts clients and components. Throws std::runtime_error with the log when it does not.
  Prosody();
  explicit Prosody(Options options);
  ~Prosody();
  Prosody(const Prosody&) = delete;

  std::uint16_t c2s_port() const { return c2s_port_; }
  std::uint16_t component_port() const { return component_port_; }
  const Options& options() const { return options_; }
  const std::filesystem::path& folder() const { return folder_.path(); }
  std::filesystem::path ca_file() const;
  std::string log() const;
  pid_t pid() const { return pid_; }

  /// Ready to log in, over TLS if the server has it. Unknown users get a wrong password.
  Account account(const std::string& user, const std::string& resource = {}) const;
  Account component_account() const;

  /// SIGKILL; connected clients see their connections end.
  void kill();
  /// Stops it politely.
  void stop();
  /// Again, on the same ports and with the same data.
  void start();

 private:
  void write_configuration();
  bool launch();

  Options options_;
  TemporaryFolder folder_;
  std::unique_ptr<Authority> authority_;
  CertificateFiles certificate_;
  std::uint16_t c2s_port_ = 0, component_port_ = 0;
  pid_t pid_ = -1;
};

/// Ports that were free a moment ago.
std::vector<std::uint16_t> free_ports(int count);

}  // namespace souk::test
