#include "submit/state_folder.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/sha.h>
#include <pwd.h>
#include <spdlog/fmt/fmt.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <random>

#include "submit/certificate.h"

namespace souk {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

std::string reason(int code) { return std::strerror(code); }

Result<Done> make_folder(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST) return Done{};
  const int code = errno;
  return Error{"cannot make the folder " + folder.string(), reason(code), code == ENOSPC ? "make room on that disk" : "choose another state folder: --dir FOLDER"};
}

/// The first line of a password file.
Result<std::string> read_password(const fs::path& file) {
  auto text = read_file(file);
  if (!text) return text;
  std::string password = text.value().substr(0, text.value().find_first_of("\r\n"));
  if (password.empty()) return Error{"cannot use the password in " + file.string(), "its first line is empty", "write one there, or remove the file to get a new one"};
  return password;
}

// A random password needs no stretching; 4096 is the least clients accept (RFC 5802 §5.1), and each login computes it. People's own words get more.
constexpr int kIterationsRandom = 4096, kIterationsChosen = 10000;

Result<std::string> ensure_password(const fs::path& file) {
  if (fs::exists(file)) return read_password(file);
  auto fresh = new_password();
  if (!fresh) return fresh;
  if (auto written = write_file(file, fresh.value() + "\n"); !written) return written.error();
  return fresh;
}

Result<Done> write_account(const Layout& at, std::string_view name, std::string_view password, int iterations) {
  const auto file = at.account(name);
  const std::array folders{at.server(), at.server_data(), file.parent_path().parent_path(), file.parent_path()};
  for (const auto& folder : folders) {
    if (auto made = make_folder(folder); !made) return made;
  }
  const auto keys = scram_keys(password, iterations);
  if (!keys) return keys.error();
  return write_file(file, render_account(keys.value()));
}

bool port_free(std::uint16_t port) {
  const int tried = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (tried < 0) return false;
  const int on = 1;
  ::setsockopt(tried, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);  // as Prosody does, so that our own closed connections do not count
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(port);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool free = ::bind(tried, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 && ::listen(tried, 1) == 0;
  ::close(tried);
  return free;
}

bool executable(const fs::path& file) {
  std::error_code ignored;
  return fs::is_regular_file(file, ignored) && ::access(file.c_str(), X_OK) == 0;
}

}  // namespace

std::string search_path(const std::string& name, std::string_view path) {
  while (!path.empty()) {
    const auto colon = path.find(':');
    const fs::path candidate = fs::path(path.substr(0, colon)) / name;
    if (candidate.is_absolute() && executable(candidate)) return candidate.string();
    path.remove_prefix(colon == std::string_view::npos ? path.size() : colon + 1);
  }
  return "";
}

Result<Done> write_file(const fs::path& file, std::string_view text) {
  const std::string fresh = file.string() + ".new";
  const auto refuse = [&](int code) -> Result<Done> {
    ::unlink(fresh.c_str());
    return Error{"cannot write " + file.string(), reason(code), code == ENOSPC || code == EDQUOT ? "make room on that disk" : "see that this user may write there"};
  };
  const int out = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (out < 0) return refuse(errno);
  ::fchmod(out, 0600);  // whatever the umask
  while (!text.empty()) {
    const ssize_t written = ::write(out, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) {
      const int code = errno;
      ::close(out);
      return refuse(code);
    }
    text.remove_prefix(static_cast<std::size_t>(written));
  }
  if (::close(out) != 0) return refuse(errno);
  if (::rename(fresh.c_str(), file.c_str()) != 0) return refuse(errno);
  return Done{};
}

Result<std::string> read_file(const fs::path& file) {
  constexpr std::size_t kFileMax = 1 << 20;  // all we read is far smaller; more is not ours
  const int in = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (in < 0) return Error{"cannot read " + file.string(), reason(errno), ""};
  std::string text;
  std::array<char, 8192> block;
  for (;;) {
    const ssize_t got = ::read(in, block.data(), block.size());
    if (got < 0 && errno == EINTR) continue;
    const int code = errno;
    if (got > 0) text.append(block.data(), static_cast<std::size_t>(got));
    if (got > 0 && text.size() <= kFileMax) continue;
    ::close(in);
    if (got < 0) return Error{"cannot read " + file.string(), reason(code), ""};
    if (text.size() > kFileMax) return Error{"cannot read " + file.string(), "it is larger than 1 MiB", ""};
    return text;
  }
}

std::vector<std::string> last_lines(const fs::path& log, std::size_t lines) {
  constexpr off_t kTail = 8192;
  const int in = ::open(log.c_str(), O_RDONLY | O_CLOEXEC);
  if (in < 0) return {};
  struct stat facts {};
  std::string text(kTail, '\0');
  ssize_t got = 0;
  if (::fstat(in, &facts) == 0) got = ::pread(in, text.data(), text.size(), std::max<off_t>(facts.st_size - kTail, 0));
  ::close(in);
  text.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
  std::vector<std::string> all;
  std::string line;
  text += '\n';
  for (const char c : text) {
    if (c == '\n') {
      if (line.find_first_not_of(' ') != std::string::npos) all.push_back(line);
      line.clear();
    } else {
      line += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
    }
  }
  if (all.size() > lines) all.erase(all.begin(), all.end() - static_cast<std::ptrdiff_t>(lines));
  return all;
}

FolderLock::~FolderLock() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

Result<FolderLock> FolderLock::take(const Layout& at) {
  const int file = ::open(at.lock().c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0) return Error{"cannot open " + at.lock().string(), reason(errno), "see that this user may write there"};
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  if (::fcntl(file, F_OFD_SETLK, &whole) != 0) {
    const int code = errno;
    ::close(file);
    if (code == EAGAIN || code == EACCES) return FolderLock{};
    return Error{"cannot lock " + at.lock().string(), reason(code), "keep the state folder on a disk that can lock files: --dir FOLDER"};
  }
  if (::ftruncate(file, 0) != 0) return Error{"cannot write " + at.lock().string(), reason(errno), ""};
  return FolderLock{file};
}

bool FolderLock::held(const Layout& at) {
  const int file = ::open(at.lock().c_str(), O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0) return false;
  struct flock whole {};
  whole.l_type = F_WRLCK;
  whole.l_whence = SEEK_SET;
  const bool somebody = ::fcntl(file, F_OFD_GETLK, &whole) == 0 && whole.l_type != F_UNLCK;
  ::close(file);
  return somebody;
}

void FolderLock::write_pid(int pid) {
  const std::string text = std::to_string(pid) + "\n";
  if (::pwrite(descriptor_, text.data(), text.size(), 0) < 0) return;  // a full disk: `down` then waits for the lock only
}

int FolderLock::read_pid(const Layout& at) {
  const auto text = read_file(at.lock());
  return text ? std::atoi(text.value().c_str()) : 0;
}

Result<Done> open_state_folder(const Layout& at) {
  const auto refuse = [&](const std::string& why) -> Result<Done> {
    return Error{"cannot use " + at.dir.string() + " as the state folder", why, "choose another one: --dir FOLDER"};
  };
  std::error_code failure;
  if (at.dir.has_parent_path()) fs::create_directories(at.dir.parent_path(), failure);
  if (failure) return refuse(failure.message());
  if (auto made = make_folder(at.dir); !made) return made;
  struct stat facts {};
  if (::stat(at.dir.c_str(), &facts) != 0) return refuse(reason(errno));
  if (!S_ISDIR(facts.st_mode)) return refuse("it is not a folder");
  if (facts.st_uid != ::getuid()) return refuse("it belongs to another user");
  // The lock file is the first thing in the folder and marks it as ours; asked in this order, since another `up` may be making it right now.
  const bool empty = fs::is_empty(at.dir, failure);
  if (failure) return refuse(failure.message());
  if (!empty && !fs::exists(at.lock(), failure)) return refuse("it holds other files");  // its mode is about to change: not that of a home folder
  const int lock = ::open(at.lock().c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock < 0) return refuse(reason(errno));
  ::close(lock);
  if ((facts.st_mode & 077) != 0 && ::chmod(at.dir.c_str(), 0700) != 0) return refuse(reason(errno));
  for (const auto& folder : {at.logs(), at.users(), at.server(), at.server() / "certs", at.server_data()}) {
    if (auto made = make_folder(folder); !made) return made;
  }
  return Done{};
}

Result<Settings> load_settings(const Layout& at) {
  if (!fs::exists(at.settings())) {
    const passwd* entry = ::getpwuid(::getuid());
    return Settings{account_name(entry ? entry->pw_name : ""), {}};
  }
  const auto text = read_file(at.settings());
  if (!text) return text.error();
  const json value = json::parse(text.value(), nullptr, false);
  const Error damaged{"cannot use " + at.settings().string(), "it is damaged", "remove it; the next `souk up` writes it again"};
  if (!value.is_object()) return damaged;
  try {
    const int clients = value.value("port", 0), component = value.value("component_port", 0);
    if (std::min(clients, component) < 0 || std::max(clients, component) > 65535) return damaged;
    Settings settings{value.at("user"), {static_cast<std::uint16_t>(clients), static_cast<std::uint16_t>(component)}, value.value("hosted", false)};
    if (!check_account_name(settings.user)) return damaged;  // it becomes part of paths
    return settings;
  } catch (const json::exception&) {
    return damaged;
  }
}

Result<Ports> choose_ports(Ports wished) {
  // Below the range from which the kernel takes ports for outgoing connections (32768), so that none of those sits on ours when the server comes back.
  std::random_device seed;
  std::uniform_int_distribution<int> any(20000, 32000);
  const auto pick = [&](std::uint16_t wish, std::uint16_t other) -> std::uint16_t {
    if (wish != 0 && wish != other && port_free(wish)) return wish;
    for (int tries = 0; tries < 200; ++tries) {
      const auto port = static_cast<std::uint16_t>(any(seed));
      if (port != other && port_free(port)) return port;
    }
    return 0;
  };
  Ports ports;
  ports.clients = pick(wished.clients, 0);
  ports.component = pick(wished.component, ports.clients);
  if (ports.clients == 0 || ports.component == 0) {
    return Error{"cannot find a free port on 127.0.0.1", "200 ports from 20000 to 32000 were all taken", "see what listens: ss -ltn"};
  }
  return ports;
}

Result<Done> write_grid(const EmbeddedGrid& grid) {
  const Layout at{grid.dir};
  if (auto opened = open_state_folder(at); !opened) return opened;
  for (const auto& folder : {grid.dir / "manager", grid.dir / "work", grid.dir / "results"}) {
    if (auto made = make_folder(folder); !made) return made;
  }
  const auto owner = ensure_password(at.password("user"));
  if (!owner) return owner.error();
  const auto worker = ensure_password(at.password("worker"));
  if (!worker) return worker.error();
  const auto manager = ensure_password(at.password("manager"));
  if (!manager) return manager.error();
  if (!fs::exists(at.certificate()) || !fs::exists(at.certificate_key())) {
    const auto made = self_signed({std::string(kDomain), std::string(kGridDomain), std::string(kRoomsDomain)});
    if (!made) return made.error();
    if (auto written = write_file(at.certificate_key(), made.value().key); !written) return written;
    if (auto written = write_file(at.certificate(), made.value().certificate); !written) return written;
  }
  if (auto written = write_account(at, grid.user, owner.value(), kIterationsRandom); !written) return written;
  if (auto written = write_account(at, kWorkerAccount, worker.value(), kIterationsRandom); !written) return written;
  if (auto written = write_file(at.server_config(), render_server_config(grid, manager.value())); !written) return written;
  if (auto written = write_file(at.profile("user"), render_person_profile(grid, grid.user, "user.password")); !written) return written;
  if (auto written = write_file(at.profile("worker"), render_worker_profile(grid)); !written) return written;
  if (auto written = write_file(at.profile("manager"), render_manager_profile(grid)); !written) return written;
  for (const auto& person : people(at, {grid.user, grid.ports})) {
    if (person.owner) continue;
    if (auto written = write_file(person.profile, render_person_profile(grid, person.name, person.password.filename().string())); !written) return written;
  }
  const json settings = {{"format", 1}, {"user", grid.user}, {"port", grid.ports.clients}, {"component_port", grid.ports.component}, {"hosted", grid.hosted}};
  return write_file(at.settings(), settings.dump() + "\n");
}

Result<std::string> new_password() {
  std::array<unsigned char, 24> bytes;
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) return Error{"cannot make a password", "the kernel gave no random bytes", ""};
  constexpr std::string_view letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
  std::string password;
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const unsigned three = static_cast<unsigned>(bytes[i] << 16 | bytes[i + 1] << 8 | bytes[i + 2]);
    for (int shift = 18; shift >= 0; shift -= 6) password += letters[three >> shift & 63];
  }
  return password;
}

Result<ScramKeys> scram_keys(std::string_view password, int iterations) {
  constexpr std::size_t kPasswordMax = 512;
  const auto printable = [](char c) { return c >= 0x20 && c <= 0x7e; };
  if (password.empty() || password.size() > kPasswordMax || !std::all_of(password.begin(), password.end(), printable)) {
    return Error{"cannot use this password", "it is empty, longer than 512 characters, or has characters other than printable ASCII", "choose another one"};
  }
  auto salt = new_password();
  if (!salt) return salt.error();
  ScramKeys keys{.salt = salt.value(), .stored_key = {}, .server_key = {}, .iterations = iterations};
  std::array<unsigned char, SHA_DIGEST_LENGTH> salted, client, server, stored;
  unsigned length = 0;
  const auto bytes = [](std::string_view text) { return reinterpret_cast<const unsigned char*>(text.data()); };
  const auto hmac = [&](std::string_view text, unsigned char* out) {
    return HMAC(EVP_sha1(), salted.data(), SHA_DIGEST_LENGTH, bytes(text), text.size(), out, &length) != nullptr;
  };
  const bool made = PKCS5_PBKDF2_HMAC(password.data(), static_cast<int>(password.size()), bytes(keys.salt), static_cast<int>(keys.salt.size()), iterations,
                                      EVP_sha1(), SHA_DIGEST_LENGTH, salted.data()) == 1 &&
                    hmac("Client Key", client.data()) && hmac("Server Key", server.data()) &&
                    SHA1(client.data(), client.size(), stored.data()) != nullptr;
  if (!made) return Error{"cannot make an account", "OpenSSL refused to compute its keys", ""};
  keys.stored_key.assign(stored.begin(), stored.end());
  keys.server_key.assign(server.begin(), server.end());
  return keys;
}

Result<Person> add_person(const Layout& at, const Settings& settings, std::string_view name, std::string password) {
  const auto checked = check_account_name(name);
  if (!checked) return checked.error();
  if (settings.ports.clients == 0) return Error{"cannot add an account", "there is no grid in " + at.dir.string() + " yet", "start one first: souk up"};
  const Error taken{fmt::format("cannot add the account '{}'", name), "it exists already", fmt::format("choose another name, or first: souk user remove {}", name)};
  if (name == settings.user) return Error{taken.what, "it is the owner's", "choose another name"};
  if (fs::exists(at.account(name))) return taken;
  const bool chosen = !password.empty();
  if (!chosen) {
    auto fresh = new_password();
    if (!fresh) return fresh.error();
    password = fresh.value();
  }
  Person person{.name = std::string(name), .profile = at.users() / fmt::format("{}.toml", name), .password = at.users() / fmt::format("{}.password", name)};
  EmbeddedGrid grid;
  grid.dir = at.dir;
  grid.ports = settings.ports;
  grid.hosted = settings.hosted;
  if (auto written = write_file(person.password, password + "\n"); !written) return written.error();
  if (auto written = write_file(person.profile, render_person_profile(grid, name, person.password.filename().string())); !written) return written.error();
  if (auto written = write_account(at, name, password, chosen ? kIterationsChosen : kIterationsRandom); !written) {
    ::unlink(person.password.c_str());
    ::unlink(person.profile.c_str());
    return written.error();
  }
  return person;
}

Result<Done> remove_person(const Layout& at, const Settings& settings, std::string_view name) {
  const std::string what = fmt::format("cannot remove the account '{}'", name);
  if (!check_account_name(name)) return Error{what, "there is none of that name", "see: souk user list"};
  if (name == settings.user) return Error{what, "it is the owner's", "remove the whole state folder instead, after `souk down`"};
  if (!fs::exists(at.account(name))) return Error{what, "there is none of that name", "see: souk user list"};
  std::error_code failure;
  fs::remove(at.account(name), failure);
  if (failure) return Error{what, failure.message(), ""};
  fs::remove(at.users() / fmt::format("{}.toml", name), failure);
  fs::remove(at.users() / fmt::format("{}.password", name), failure);
  return Done{};
}

std::vector<Person> people(const Layout& at, const Settings& settings) {
  std::vector<Person> all;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(at.users(), ignored)) {
    if (entry.path().extension() != ".password") continue;
    const std::string name = entry.path().stem().string();
    if (check_account_name(name)) all.push_back({.name = name, .profile = at.users() / (name + ".toml"), .password = entry.path()});
  }
  std::sort(all.begin(), all.end(), [](const Person& a, const Person& b) { return a.name < b.name; });
  all.insert(all.begin(), {.name = settings.user, .profile = at.profile("user"), .password = at.password("user"), .owner = true});
  return all;
}

Result<ProgramPaths> find_programs() {
  const char* const path_variable = std::getenv("PATH");
  const std::string path = std::string(path_variable ? path_variable : "") + ":/usr/local/bin:/usr/bin:/bin:/usr/sbin";
  std::error_code ignored;
  const fs::path self = fs::read_symlink("/proc/self/exe", ignored);
  const auto ours = [&](const std::string& name) -> Result<fs::path> {
    if (const char* set = std::getenv("SOUK_PROGRAMS"); set && *set) {
      const fs::path file = fs::absolute(set) / name;
      if (executable(file)) return file;
      return Error{"cannot find " + name, "there is no such program in SOUK_PROGRAMS=" + std::string(set), "unset SOUK_PROGRAMS, or name the folder that has it"};
    }
    if (executable(self.parent_path() / name)) return self.parent_path() / name;
    if (const std::string found = search_path(name, path); !found.empty()) return fs::path(found);
    return Error{"cannot find " + name, "it is neither beside " + self.string() + " nor in PATH", "build it: cmake --preset release && cmake --build --preset release"};
  };
  ProgramPaths all;
  const auto manager = ours("souk-manager");
  if (!manager) return manager.error();
  const auto worker = ours("souk-worker");
  if (!worker) return worker.error();
  all.manager = manager.value();
  all.worker = worker.value();
  const std::string what = "cannot find the XMPP server Prosody";
  if (const char* set = std::getenv("SOUK_PROSODY"); set && *set) {
    all.server = fs::absolute(set);
    if (!executable(all.server)) return Error{what, "SOUK_PROSODY=" + std::string(set) + " is no program", "unset SOUK_PROSODY, or correct it"};
  } else {
    all.server = search_path("prosody", path);
    if (all.server.empty()) return Error{what, "there is no `prosody` in PATH", "install the package prosody: sudo apt install prosody, or run scripts/install-deps"};
  }
  return all;
}

}  // namespace souk
