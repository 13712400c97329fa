// login, logout, grids: accounts on grids elsewhere, side by side.
#include <spdlog/fmt/fmt.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "protocol/notation.h"
#include "protocol/profile.h"
#include "protocol/proxy.h"
#include "protocol/stanza.h"
#include "submit/grid_state.h"
#include "submit/grids.h"

namespace souk {
namespace {

struct LoginOptions {
  std::string jid, password_file, host, ca_file, proxy, manager;
  std::uint16_t port = 5222;
  bool force = false;
};

std::string dump(const nlohmann::json& value) { return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"; }

int login(const Common& common, const LoginOptions& options) {
  const std::string domain = domain_of(options.jid);
  if (options.jid.find('@') == std::string::npos || options.jid.find('@') == 0 || domain.empty() || options.jid != bare(options.jid))
    return fail(common, {"cannot log in as " + souk::quoted(options.jid), "that is no account", "write USER@DOMAIN"}, exit_code::usage);
  const auto grids = Grids::open();
  if (!grids) return fail(common, grids.error(), exit_code::usage);
  Grids known = grids.value();
  const std::string name = common.grid.empty() ? domain : common.grid;
  if (const auto checked = check_grid_name(name); !checked) return fail(common, checked.error(), exit_code::usage);
  std::string before;  // whose account there is already
  for (const auto& other : known.all())
    if (other.name == name)
      if (const auto profile = load_profile(other.profile)) before = bare(profile.value().account.jid);
  if (before == options.jid) before.clear();
  if (!before.empty() && !options.force)
    return fail(common, {"nothing was done", "on the grid " + name + " you are " + printable(before) + " already", "give this one a name of its own: --grid NAME; or --force, and the other one's password is forgotten here"}, exit_code::usage);
  Account account;
  account.jid = options.jid;
  account.host = options.host;
  account.port = options.port;
  account.ca_file = options.ca_file;
  account.proxy = options.proxy;
  if (!account.proxy.empty())
    if (const auto proxy = parse_proxy(account.proxy); !proxy) return fail(common, proxy.error(), exit_code::usage);
  auto password = get_password(options.password_file, options.jid);
  if (!password) return fail(common, password.error(), exit_code::usage);
  account.password = password.value();

  Conversation server(account);
  if (const auto done = server.open(); !done) return fail(common, done.error(), exit_code::unreachable);
  const auto grid = find_manager(server, domain, options.manager);
  if (!grid) return fail(common, grid.error(), exit_code::unreachable);
  server.close();
  const auto saved = known.save(name, account, grid.value());
  if (!saved) return fail(common, saved.error(), exit_code::failed);
  // Whoever has a grid on this machine goes on meaning that one until told otherwise.
  std::error_code ignored;
  const bool local = std::filesystem::exists(common.dir / "user.toml", ignored);
  if (known.usual().empty() && !local)
    if (const auto set = known.set_usual(name); !set) return fail(common, set.error(), exit_code::failed);
  const bool usual = known.usual() == name;
  if (common.json) {
    std::fputs(dump({{"grid", name}, {"jid", account.jid}, {"manager", grid.value().manager}, {"room", grid.value().room}, {"profile", saved.value().string()}, {"default", usual}}).c_str(), stdout);
    return exit_code::good;
  }
  std::fputs(fmt::format("Logged in as {} on the grid {} ({}){}\n", account.jid, name, grid.value().manager, before.empty() ? "" : ", and no longer as " + printable(before)).c_str(), stdout);
  std::fputs((usual ? "Commands mean this grid from now on; another one: souk grids --use NAME\n"
                    : fmt::format("Name it: souk --grid {0} run hostname; or mean it always: souk grids --use {0}\n", name)).c_str(), stdout);
  return exit_code::good;
}

int logout(const Common& common, bool all) {
  const auto grids = Grids::open();
  if (!grids) return fail(common, grids.error(), exit_code::usage);
  Grids known = grids.value();
  std::vector<std::string> names;
  if (all)
    for (const auto& grid : known.all()) names.push_back(grid.name);
  else names.push_back(common.grid.empty() ? known.usual() : common.grid);
  if (!all && names.front().empty()) return fail(common, {"cannot log out", "it is not said of which grid", "say it: souk logout --grid NAME (`souk grids` lists them)"}, exit_code::usage);
  for (const auto& name : names) {
    if (const auto gone = known.forget(name); !gone) return fail(common, gone.error(), exit_code::usage);
    std::fputs(common.json ? dump({{"grid", name}, {"forgotten", true}}).c_str() : ("Forgot the account on " + name + "; its jobs go on\n").c_str(), stdout);
  }
  return exit_code::good;
}

int list(const Common& common, const std::string& use) {
  const auto grids = Grids::open();
  if (!grids) return fail(common, grids.error(), exit_code::usage);
  Grids known = grids.value();
  if (!use.empty())
    if (const auto set = known.set_usual(use); !set) return fail(common, set.error(), exit_code::usage);
  const bool local_usual = known.usual().empty();
  std::error_code ignored;
  if (!common.json) std::fputs(fmt::format("{}{:24} {}\n", local_usual ? "* " : "  ", kLocalGrid, std::filesystem::exists(common.dir / "user.toml", ignored) ? "the grid of `souk up` in " + common.dir.string() : "none yet: `souk up` starts one").c_str(), stdout);
  else std::fputs(dump({{"grid", kLocalGrid}, {"default", local_usual}, {"profile", (common.dir / "user.toml").string()}}).c_str(), stdout);
  for (const auto& grid : known.all()) {
    const auto profile = load_profile(grid.profile);
    const std::string jid = profile ? bare(profile.value().account.jid) : "", through = profile ? profile.value().account.proxy : "";
    if (common.json) std::fputs(dump({{"grid", grid.name}, {"default", grid.usual}, {"jid", jid}, {"manager", profile ? profile.value().manager : ""}, {"proxy", through}, {"profile", grid.profile.string()}, {"problem", profile ? "" : profile.error().text()}}).c_str(), stdout);
    else std::fputs(fmt::format("{}{:24} {}{}\n", grid.usual ? "* " : "  ", grid.name, profile ? jid : profile.error().text(), through.empty() ? "" : " through " + through).c_str(), stdout);
  }
  return exit_code::good;
}

}  // namespace

void add_login_commands(CLI::App& app, Common& common) {
  CLI::App* const login_command = app.add_subcommand("login", "Use an account on a grid elsewhere: tries it, and keeps it")->group("Accounts and servers");
  const auto options = std::make_shared<LoginOptions>();
  login_command->add_option("account", options->jid, "USER@DOMAIN")->required()->type_name("");
  login_command->add_option("--password-file", options->password_file, "File whose first line is the password, - for stdin (default: asked for)")->type_name("FILE");
  login_command->add_option("--host", options->host, "Where the server is (default: the domain)")->type_name("HOST");
  login_command->add_option("--port", options->port, "And its port")->check(CLI::Range(1, 65535))->capture_default_str();
  login_command->add_option("--ca-file", options->ca_file, "Authorities to trust instead of the system's, PEM; a copy is kept")->type_name("FILE");
  login_command->add_option("--proxy", options->proxy, "Go through a proxy: http://HOST:PORT (CONNECT) or socks5://HOST:PORT")->type_name("URL");
  login_command->add_option("--manager", options->manager, "The manager's address, if the server does not list it")->type_name("JID");
  login_command->add_flag("--force", options->force, "Also in place of another account on that grid");
  login_command->footer(
      "Examples:\n  souk login ada@grid.example.edu\n  souk login ada@grid.example.edu --grid campus --proxy socks5://proxy:1080\n"
      "  souk login bob@lab.example.org --grid lab --ca-file lab-ca.pem --password-file - < secret\n  souk --grid lab run hostname\n"
      "Kept in ~/.config/souk/grids/NAME ($SOUK_CONFIG), readable by you only. NAME: --grid, else the domain.");
  login_command->callback([&common, options] { common.action = [&common, options] { return login(common, *options); }; });

  CLI::App* const logout_command = app.add_subcommand("logout", "Forget an account; its jobs go on")->group("Accounts and servers");
  const auto everywhere = std::make_shared<bool>(false);
  logout_command->add_flag("--all", *everywhere, "All of them");
  logout_command->footer("Examples:\n  souk logout --grid lab\n  souk logout --all");
  logout_command->callback([&common, everywhere] { common.action = [&common, everywhere] { return logout(common, *everywhere); }; });

  CLI::App* const grids_command = app.add_subcommand("grids", "The grids you have an account on; * is what commands mean when nothing is said")->group("Accounts and servers");
  const auto use = std::make_shared<std::string>();
  grids_command->add_option("--use", *use, "Mean that one from now on; local: the one of `souk up`")->type_name("NAME");
  grids_command->footer("Examples:\n  souk grids\n  souk grids --use campus\nFor one command: --grid NAME; for a shell: export SOUK_GRID=NAME");
  grids_command->callback([&common, use] { common.action = [&common, use] { return list(common, *use); }; });
}

}  // namespace souk
