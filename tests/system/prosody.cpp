#include "tests/system/prosody.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace souk::test {
namespace fs = std::filesystem;
using namespace std::chrono_literals;
namespace {

constexpr auto kReadyMax = 20s;  // 0.1 s on an idle machine
constexpr int kTries = 5;        // somebody may take a port between our look and Prosody's bind

// Prosody's own escaping of names in its data folder.
std::string escaped(const std::string& name) {
  std::string text;
  for (const char raw : name) {
    const auto c = static_cast<unsigned char>(raw);
    char code[4];
    std::snprintf(code, sizeof code, "%%%02x", c);
    if (std::isalnum(c)) text += raw;
    else text += code;
  }
  return text;
}

std::string contents(const fs::path& path) {
  std::ifstream file(path);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

void write(const fs::path& path, const std::string& text) {
  fs::create_directories(path.parent_path());
  std::ofstream file(path);
  file << text;
  if (!file.flush()) throw std::runtime_error("cannot write " + path.string());
}

}  // namespace

TemporaryFolder::TemporaryFolder() {
  std::string pattern = (fs::temp_directory_path() / "souk-test-XXXXXX").string();
  if (!::mkdtemp(pattern.data())) throw std::runtime_error("cannot make a folder like " + pattern + ": " + std::strerror(errno));
  path_ = pattern;
}
TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  fs::remove_all(path_, ignored);
}

std::vector<std::uint16_t> free_ports(int count) {
  std::vector<std::uint16_t> ports;
  std::vector<int> sockets;  // all open at once, so that no port comes twice
  for (int i = 0; i < count; ++i) {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    if (fd < 0 || ::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 ||
        ::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0)
      throw std::runtime_error(std::string("no free port: ") + std::strerror(errno));
    sockets.push_back(fd);
    ports.push_back(ntohs(address.sin_port));
  }
  for (const int fd : sockets) ::close(fd);
  return ports;
}

Prosody::Prosody() : Prosody(Options{}) {}

Prosody::Prosody(Options options) : options_(std::move(options)) {
  if (options_.tls) {
    authority_ = std::make_unique<Authority>(folder(), "ca");
    certificate_ = authority_->issue(options_.certified.empty() ? options_.domain : options_.certified, options_.certificate_valid_for);
  }
  for (const auto& [name, password] : options_.accounts)
    write(folder() / "data" / escaped(options_.domain) / "accounts" / (escaped(name) + ".dat"),
          "return { [\"password\"] = \"" + password + "\"; };\n");
  for (int i = 0; i < kTries; ++i) {
    const auto ports = free_ports(2);
    c2s_port_ = ports[0];
    component_port_ = ports[1];
    write_configuration();
    if (launch()) return;
  }
  throw std::runtime_error("Prosody does not start; its log:\n" + log());
}
Prosody::~Prosody() { kill(); }

fs::path Prosody::ca_file() const { return authority_ ? authority_->ca_file() : fs::path(); }
std::string Prosody::log() const { return contents(folder() / "log") + contents(folder() / "output"); }

Account Prosody::account(const std::string& user, const std::string& resource) const {
  Account account;
  account.jid = user + "@" + options_.domain + (resource.empty() ? "" : "/" + resource);
  account.password = "unknown";
  for (const auto& [name, password] : options_.accounts)
    if (name == user) account.password = password;
  account.host = "127.0.0.1";
  account.port = c2s_port_;
  account.ca_file = ca_file().string();
  return account;
}

Account Prosody::component_account() const {
  Account account;
  account.jid = options_.component;
  account.password = options_.secret;
  account.component = true;
  account.host = "127.0.0.1";
  account.port = component_port_;
  return account;
}

void Prosody::write_configuration() {
  std::ostringstream text;
  text << "data_path = '" << (folder() / "data").string() << "'\n"
       << "run_as_root = true\n"
       << "pidfile = '" << (folder() / "pid").string() << "'\n"
       << "log = { { levels = { min = 'info' }, to = 'file', filename = '" << (folder() / "log").string() << "' } }\n"
       << "network_settings = { nagle = false; min_wait = 0; read_retry_delay = 0; tcp_backlog = 1024 }\n"
       << "interfaces = { '127.0.0.1' }; local_interfaces = { '127.0.0.1' }; component_interfaces = { '127.0.0.1' }\n"
       << "c2s_ports = { " << c2s_port_ << " }; c2s_direct_tls_ports = {}; legacy_ssl_ports = {}\n"
       << "component_ports = { " << component_port_ << " }\n"
       << "s2s_ports = {}; s2s_direct_tls_ports = {}; http_ports = {}; https_ports = {}\n"
       << "modules_enabled = { 'saslauth', 'disco', 'ping', 'posix', 'tls', 'presence', 'message', 'iq', 'roster' }\n"
       << "modules_disabled = { 's2s', 'offline', 'carbons' }\n"
       << "authentication = 'internal_plain'\n"
       << "c2s_require_encryption = " << (options_.tls ? "true" : "false") << "\n"
       << "allow_unencrypted_plain_auth = true\n";
  if (options_.tls)
    text << "ssl = { key = '" << certificate_.key.string() << "'; certificate = '" << certificate_.certificate.string() << "' }\n";
  text << options_.more << "\nVirtualHost '" << options_.domain << "'\n";
  if (!options_.component.empty()) text << "Component '" << options_.component << "'\n  component_secret = '" << options_.secret << "'\n";
  if (!options_.muc.empty()) text << "Component '" << options_.muc << "' 'muc'\n  muc_room_locking = false\n";
  text << options_.more_hosts << "\n";
  write(folder() / "prosody.cfg.lua", text.str());
}

void Prosody::start() {
  if (pid_ > 0) return;
  if (!launch()) throw std::runtime_error("Prosody does not start again; its log:\n" + log());
}

// Whether it now serves both ports. The log tells; a connect might reach somebody else's server.
bool Prosody::launch() {
  const auto log_before = contents(folder() / "log").size();
  const auto configuration = (folder() / "prosody.cfg.lua").string(), output = (folder() / "output").string();
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0) throw std::runtime_error(std::string("cannot fork: ") + std::strerror(errno));
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int fd = ::open(output.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
    ::dup2(fd, 1), ::dup2(fd, 2);
    ::close_range(3, ~0U, 0);
    sigset_t none;
    ::sigemptyset(&none);
    ::sigprocmask(SIG_SETMASK, &none, nullptr);
    if (::getppid() == parent) ::execlp("prosody", "prosody", "-F", "--config", configuration.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  const auto activated = [](const char* service, std::uint16_t port) {
    return std::string("Activated service '") + service + "' on [127.0.0.1]:" + std::to_string(port);
  };
  for (const auto end = std::chrono::steady_clock::now() + kReadyMax; std::chrono::steady_clock::now() < end;) {
    const auto text = contents(folder() / "log");
    const auto fresh = text.substr(std::min(log_before, text.size()));
    const bool component = options_.component.empty() || fresh.find(activated("component", component_port_)) != fresh.npos;
    if (component && fresh.find(activated("c2s", c2s_port_)) != fresh.npos) return true;
    if (fresh.find("Failed to open server port") != fresh.npos) break;
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      return false;
    }
    std::this_thread::sleep_for(5ms);  // a file that grows has no event worth the code
  }
  kill();
  return false;
}

void Prosody::kill() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

void Prosody::stop() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGTERM);
  for (const auto end = std::chrono::steady_clock::now() + 5s; std::chrono::steady_clock::now() < end;) {
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return;
    }
    std::this_thread::sleep_for(5ms);
  }
  kill();
}

}  // namespace souk::test
