#include "submit/grids.h"

#include <fcntl.h>
#include <pwd.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <iostream>

#include "protocol/notation.h"
#include "protocol/quoting.h"
#include "protocol/stanza.h"
#include "submit/embedded.h"
#include "submit/state_folder.h"

namespace souk {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kGridsMax = 1000;

Result<Done> private_folder(const fs::path& folder) {
  std::error_code failure;
  fs::create_directories(folder.parent_path(), failure);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return Error{"cannot make the folder " + folder.string(), std::strerror(errno), "say where: SOUK_CONFIG=FOLDER"};
  struct stat status{};
  if (::lstat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode)) return Error{"cannot use " + folder.string(), "it is no folder", "say where: SOUK_CONFIG=FOLDER"};
  if (status.st_uid != ::geteuid()) return Error{"cannot use " + folder.string(), "it belongs to somebody else", "say where: SOUK_CONFIG=FOLDER"};
  return Done{};
}

std::string first_line(const std::string& text) { return text.substr(0, text.find_first_of("\r\n")); }

}  // namespace

Result<std::string> check_grid_name(const std::string& name) {
  const auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'; };
  const auto bad = [&](const char* why) { return Error{"cannot call a grid " + souk::quoted(name), why, "write one like lab or grid.example.edu: --grid NAME"}; };
  if (name.empty() || name.size() > 64 || !std::all_of(name.begin(), name.end(), good)) return bad("a name is 1 to 64 of a-z 0-9 . _ -");
  if (!((name[0] >= 'a' && name[0] <= 'z') || (name[0] >= '0' && name[0] <= '9'))) return bad("it begins with a letter or digit");
  if (name == kLocalGrid) return bad("that is the one of `souk up`");
  return name;
}

Result<Grids> Grids::open() {
  if (const char* set = std::getenv("SOUK_CONFIG"); set && *set) return Grids(fs::absolute(set));
  if (const char* set = std::getenv("XDG_CONFIG_HOME"); set && *set == '/') return Grids(fs::path(set) / "souk");
  const char* home = std::getenv("HOME");
  if (!home || !*home) {
    const passwd* entry = ::getpwuid(::getuid());
    home = entry ? entry->pw_dir : nullptr;
  }
  if (!home || !*home) return Error{"no folder for accounts", "neither SOUK_CONFIG nor XDG_CONFIG_HOME nor HOME is set", "say where: SOUK_CONFIG=FOLDER"};
  return Grids(fs::path(home) / ".config" / "souk");
}

std::string Grids::usual() const {
  const auto text = read_file(folder_ / "default");
  const std::string name = text ? first_line(text.value()) : "";
  return check_grid_name(name) ? name : "";
}

std::vector<KnownGrid> Grids::all() const {
  std::vector<KnownGrid> found;
  std::error_code failure;
  const std::string usual_name = usual();
  for (fs::directory_iterator at(folder_ / "grids", failure), end; !failure && at != end && found.size() < kGridsMax; at.increment(failure)) {
    const std::string name = at->path().filename().string();
    std::error_code ignored;
    if (check_grid_name(name) && fs::exists(at->path() / "profile.toml", ignored)) found.push_back({name, at->path() / "profile.toml", name == usual_name});
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return found;
}

Result<fs::path> Grids::profile(const std::string& name) const {
  std::string names;
  for (const auto& grid : all()) {
    if (grid.name == name) return grid.profile;
    names += (names.empty() ? "" : ", ") + grid.name;
  }
  return Error{"there is no grid " + souk::quoted(name), names.empty() ? "no account is known here" : "known are " + names, "log in first: souk login USER@DOMAIN --grid " + (check_grid_name(name) ? name : "NAME")};
}

Result<Done> Grids::set_usual(const std::string& name) {
  std::error_code ignored;
  if (name == kLocalGrid) {
    fs::remove(folder_ / "default", ignored);
    return Done{};
  }
  if (const auto known = profile(name); !known) return known.error();
  return write_file(folder_ / "default", name + "\n");
}

std::string render_grid_profile(const Account& account, const GridAddress& grid) {
  std::string text = fmt::format("# An account on a grid, written by `souk login`.\njid = {}\npassword_file = \"password\"\n", toml_string(bare(account.jid)));
  if (!account.host.empty()) text += fmt::format("host = {}\n", toml_string(account.host));
  if (account.port != 5222) text += fmt::format("port = {}\n", account.port);
  if (!account.ca_file.empty()) text += "ca_file = \"ca.pem\"\n";
  if (!account.proxy.empty()) text += fmt::format("proxy = {}\n", toml_string(account.proxy));
  return text + fmt::format("manager = {}\nroom = {}\n", toml_string(grid.manager), toml_string(grid.room));
}

Result<Done> Grids::make_folder(const std::string& name) const {
  if (const auto checked = check_grid_name(name); !checked) return checked.error();
  for (const auto& folder : {folder_, folder_ / "grids", folder_ / "grids" / name})
    if (const auto made = private_folder(folder); !made) return made.error();
  return Done{};
}

Result<fs::path> Grids::save(const std::string& name, const Account& account, const GridAddress& grid) {
  if (const auto made = make_folder(name); !made) return made.error();
  const fs::path at = folder_ / "grids" / name;
  if (!account.ca_file.empty()) {
    const auto authority = read_file(account.ca_file);
    if (!authority) return authority.error();
    if (const auto done = write_file(at / "ca.pem", authority.value()); !done) return done.error();
  }
  if (const auto done = write_file(at / "password", account.password + "\n"); !done) return done.error();
  if (const auto done = write_file(at / "profile.toml", render_grid_profile(account, grid)); !done) return done.error();
  return at / "profile.toml";
}

Result<Done> Grids::forget(const std::string& name) {
  const auto known = profile(name);
  if (!known) return known.error();
  std::error_code failure, ignored;
  if (usual() == name) fs::remove(folder_ / "default", ignored);
  fs::remove(known.value().parent_path() / "password", failure);  // the secret first
  if (!failure) fs::remove_all(known.value().parent_path(), failure);
  if (failure) return Error{"cannot remove " + known.value().parent_path().string(), failure.message(), "remove it by hand: it has your password"};
  return Done{};
}

Result<Done> choose_grid(Common& common, bool folder_given) {
  if (!common.profile.empty()) return Done{};
  std::string name = common.grid;
  if (name.empty())
    if (const char* set = std::getenv("SOUK_GRID"); set && *set) name = set;
  const bool asked = !name.empty();
  if (!asked && folder_given) return Done{};
  if (name == kLocalGrid) return Done{};
  const auto grids = Grids::open();
  if (!grids) return asked ? Result<Done>(grids.error()) : Result<Done>(Done{});
  if (!asked) name = grids.value().usual();
  if (name.empty()) return Done{};
  const auto profile = grids.value().profile(name);
  if (!profile) return profile.error();
  common.profile = profile.value().string();
  common.elsewhere = true;
  return Done{};
}

Result<std::string> get_password(const std::string& file, const std::string& whose) {
  std::string text;
  if (file == "-") {
    std::getline(std::cin, text);
  } else if (!file.empty()) {
    auto read = read_file(file);
    if (!read) return read;
    text = read.value();
  } else {
    const int terminal = ::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY);
    if (terminal < 0) return Error{"cannot ask for the password of " + whose, "there is no terminal", "give a file that has it: --password-file FILE, or - for stdin"};
    termios before{};
    const bool known = ::tcgetattr(terminal, &before) == 0;
    termios silent = before;
    silent.c_lflag &= ~static_cast<tcflag_t>(ECHO | ISIG);  // Ctrl-C comes as a byte, or it would leave a terminal that shows nothing
    if (!known || ::tcsetattr(terminal, TCSAFLUSH, &silent) != 0) {  // rather not at all than for everybody to see
      ::close(terminal);
      return Error{"cannot ask for the password of " + whose, "the terminal would show it", "give a file that has it: --password-file FILE, or - for stdin"};
    }
    const auto say = [&](const std::string& words) { return ::write(terminal, words.data(), words.size()) >= 0; };
    (void)!say("Password of " + whose + ": ");
    char c = 0;
    bool stopped = false;
    while (!stopped && text.size() < 1024 && ::read(terminal, &c, 1) == 1 && c != '\n') stopped = c == 3 || c == 28, text += c;
    ::tcsetattr(terminal, TCSAFLUSH, &before);
    (void)!say("\n");
    ::close(terminal);
    if (stopped) ::raise(SIGINT);
  }
  text = first_line(text);
  if (text.empty() || text.size() > 1024 || !is_printable(text)) return Error{"cannot use this password", text.empty() ? "it is empty" : "it is over 1024 bytes or no plain text", ""};
  return text;
}

}  // namespace souk
