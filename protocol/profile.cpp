#include "protocol/profile.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string_view>

#include "protocol/proxy.h"
#include "protocol/stanza.h"
#include "protocol/toml.h"

namespace souk {
namespace {

namespace fs = std::filesystem;

constexpr std::size_t kProfileMax = 64 << 10, kPasswordMax = 1024;  // bytes of either file
constexpr std::array<std::string_view, 9> kKeys = {"jid", "password_file", "component", "host", "port", "ca_file", "proxy", "manager", "room"};

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

/// Reads a file of at most `bytes_max` bytes. With `secret`, only if nobody but its owner can.
Result<std::string> contents(const fs::path& path, std::size_t bytes_max, bool secret) {
  const Error unreadable{"cannot read " + path.string(), "", ""};
  const auto failed = [&](std::string why, std::string remedy) { return Error{unreadable.what, std::move(why), std::move(remedy)}; };
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};  // a named pipe must not hold us up
  if (file.fd < 0) return failed(std::strerror(errno), errno == ENOENT ? "check its name, or create it" : "make it readable for this user");
  struct stat status{};
  if (::fstat(file.fd, &status) != 0) return failed(std::strerror(errno), "");
  if (!S_ISREG(status.st_mode)) return failed("it is no regular file", "name a file");
  if (secret && (status.st_mode & 077) != 0) return failed("its group or others may access it", "run: chmod 600 " + path.string());
  std::string text(bytes_max + 1, '\0');
  std::size_t size = 0;
  while (size < text.size()) {
    const ssize_t count = ::read(file.fd, text.data() + size, text.size() - size);
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return failed(std::strerror(errno), "");
    if (count == 0) break;
    size += static_cast<std::size_t>(count);
  }
  if (size > bytes_max) return failed("it is over " + std::to_string(bytes_max) + " bytes", "is this the right file?");
  text.resize(size);
  return text;
}

Result<std::string> password_in(const fs::path& path) {
  auto text = contents(path, kPasswordMax, true);
  if (!text) return text.error();
  std::string& password = text.value();
  while (password.ends_with('\n') || password.ends_with('\r')) password.pop_back();
  const Error bad{"cannot use password file " + path.string(), password.empty() ? "it is empty" : "it has more than one line or no plain text", "write the password into it as one line"};
  if (password.empty() || !is_printable(password) || password.find_first_of("\r\n") != std::string::npos) return bad;
  return text;
}

/// Reads one profile; the first fault stays.
class Reader {
 public:
  Reader(fs::path file, const toml::table& table) : file_(std::move(file)), table_(table) {
    for (const auto& [key, value] : table_) {
      bool known = false;
      for (const auto name : kKeys) known = known || name == key.str();
      if (!known) fault("unknown key '" + printable(shortened(key.str(), 64)) + "'", "known are: jid, password_file, component, host, port, ca_file, proxy, manager, room");
    }
  }

  std::string text(const char* key, bool required, const char* example) {
    const auto* node = table_.get(key);
    if (!node) {
      if (required) fault(std::string("key '") + key + "' is missing", std::string("add: ") + key + " = " + example);
      return {};
    }
    const auto* value = node->as_string();
    if (!value || value->get().empty() || value->get().size() > 4096 || !is_printable(value->get())) {
      fault(std::string("'") + key + "' is no text, or empty", std::string("write for example: ") + key + " = " + example);
      return {};
    }
    return value->get();
  }
  bool flag(const char* key) {
    const auto* node = table_.get(key);
    if (node && !node->is_boolean()) fault(std::string("'") + key + "' is not true or false", "write true or false, without quotes");
    return node && node->is_boolean() && node->as_boolean()->get();
  }
  std::uint16_t port(std::uint16_t otherwise) {
    const auto* node = table_.get("port");
    if (!node) return otherwise;
    const auto* value = node->as_integer();
    if (!value || value->get() < 1 || value->get() > 65535) {
      fault("'port' is no whole number from 1 to 65535", "write for example: port = 5222");
      return otherwise;
    }
    return static_cast<std::uint16_t>(value->get());
  }
  fs::path path(const char* key, bool required, const char* example) {
    const std::string name = text(key, required, example);
    return name.empty() ? fs::path() : file_.parent_path() / name;  // an absolute one stays as it is
  }
  void fault(std::string why, std::string remedy) {
    if (!fault_) fault_ = Error{"profile " + file_.string() + " cannot be used", std::move(why), std::move(remedy)};
  }
  const std::optional<Error>& fault() const { return fault_; }

 private:
  fs::path file_;
  const toml::table& table_;
  std::optional<Error> fault_;
};

/// node@domain, with a resource, without one, or either.
enum class Shape { bare, full, either };
bool is_jid(const std::string& jid, Shape shape) {
  const std::string address = bare(jid);
  const auto at = address.find('@');
  const bool has_resource = !resource_of(jid).empty();
  if (jid.size() > 3071 || jid.find_first_of(" \t\r\n") < address.size()) return false;  // RFC 7622 §3.1
  if (at == 0 || at == std::string::npos || at + 1 == address.size() || address.find('@', at + 1) != std::string::npos) return false;
  return shape == Shape::either ? has_resource || jid == address : shape == Shape::full ? has_resource : jid == address;
}

Result<Profile> profile_from(const fs::path& file, const toml::table& table) {
  Reader reader(file, table);
  Profile profile;
  profile.file = file;
  Account& account = profile.account;
  account.component = reader.flag("component");
  account.jid = reader.text("jid", true, "\"ada@souk.localhost\"");
  account.host = reader.text("host", false, "\"127.0.0.1\"");
  account.port = reader.port(account.component ? 5347 : 5222);
  account.ca_file = reader.path("ca_file", false, "\"ca.pem\"").string();
  account.proxy = reader.text("proxy", false, "\"socks5://proxy.example.edu:1080\"");
  if (!account.proxy.empty())
    if (const auto proxy = parse_proxy(account.proxy); !proxy) reader.fault("'proxy': " + proxy.error().why, proxy.error().remedy);
  const fs::path password_file = reader.path("password_file", true, "\"user.password\"");
  profile.manager = reader.text("manager", true, "\"manager@grid.souk.localhost/souk\"");
  profile.room = reader.text("room", true, "\"market@rooms.souk.localhost\"");
  if (!reader.fault()) {
    if (account.component ? account.jid.find_first_of("@/ ") != std::string::npos : !is_jid(account.jid, Shape::either))
      reader.fault("'jid' is '" + account.jid + "'", account.component ? "a component has a domain only: jid = \"grid.souk.localhost\"" : "write for example: jid = \"ada@souk.localhost\"");
    if (!is_jid(profile.manager, Shape::full))
      reader.fault("'manager' is '" + profile.manager + "'", "write the full address: manager = \"manager@grid.souk.localhost/souk\"");
    if (!is_jid(profile.room, Shape::bare)) reader.fault("'room' is '" + profile.room + "'", "write for example: room = \"market@rooms.souk.localhost\"");
    if (!account.ca_file.empty() && ::access(account.ca_file.c_str(), R_OK) != 0)
      reader.fault("cannot read 'ca_file' " + account.ca_file + ": " + std::strerror(errno), "name a PEM file with the certificates of trusted authorities");
  }
  if (reader.fault()) return *reader.fault();
  auto password = password_in(password_file);
  if (!password) return password.error();
  account.password = std::move(password.value());
  return profile;
}

}  // namespace

Result<Profile> load_profile(const fs::path& file) {
  const auto text = contents(file, kProfileMax, false);
  if (!text) return text.error();
  try {
    return profile_from(file, toml::parse(text.value(), file.string()));
  } catch (const toml::parse_error& failure) {
    return Error{"profile " + file.string() + " cannot be used",
                 "line " + std::to_string(failure.source().begin.line) + ": " + std::string(failure.description()), "write TOML: key = \"value\", one a line"};
  }
}

}  // namespace souk
