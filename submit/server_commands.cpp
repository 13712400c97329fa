// server init, server check: a server of one's own, for more than one machine.
#include <pwd.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "protocol/profile.h"
#include "protocol/stanza.h"
#include "submit/common.h"
#include "submit/grids.h"
#include "submit/server_check.h"
#include "submit/server_init.h"
#include "submit/state_folder.h"

namespace souk {
namespace {

namespace fs = std::filesystem;

struct InitOptions {
  ServerInit init;
  std::string domain, kind = "prosody", out, certificate, key, authority;
};

/// How the commands that we print name this program: by its name alone where it is found; sudo looks in folders of its own.
std::string own_name(bool by_sudo) {
  std::error_code ignored;
  const fs::path self = fs::read_symlink("/proc/self/exe", ignored);
  const char* const path = by_sudo ? "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" : std::getenv("PATH");
  return fs::equivalent(search_path("souk", path ? path : ""), self, ignored) ? "souk" : self.string();
}

int server_init(const Common& common, InitOptions options) {
  const auto domain = check_domain(options.domain);
  if (!domain) return fail(common, domain.error(), exit_code::usage);
  ServerSite& site = options.init.site;
  site.domain = domain.value();
  site.kind = options.kind == "ejabberd" ? ServerKind::ejabberd : ServerKind::prosody;
  site.dir = fs::absolute(options.out.empty() ? site.domain : options.out).lexically_normal();
  if (!site.dir.has_filename()) site.dir = site.dir.parent_path();
  if (site.dir.string().find_first_of("\n\r") != std::string::npos) return fail(common, {"cannot use that folder", "its name has a line break", "choose another one: --out DIR"}, exit_code::usage);
  if (const auto name = check_account_name(site.admin); !name) return fail(common, name.error(), exit_code::usage);
  if (!options.init.self_signed) {
    if (options.certificate.empty() || options.key.empty())
      return fail(common, {"no certificate", "a server that others reach needs one for " + site.domain, "give it: --cert FILE --key FILE; for a trial: --self-signed"}, exit_code::usage);
    site.certificate = fs::absolute(options.certificate);
    site.key = fs::absolute(options.key);
  }
  if (!options.authority.empty()) options.init.authority = fs::absolute(options.authority).string();
  const passwd* const entry = ::getpwuid(::geteuid());
  const std::string me = entry ? entry->pw_name : ::geteuid() == 0 ? "root" : std::to_string(::geteuid());
  if (site.run_as.empty()) site.run_as = me;
  site.root = site.run_as == "root";
  site.for_another = ::geteuid() == 0 && !site.root;
  if (!site.for_another && site.run_as != me) return fail(common, {"cannot write for " + site.run_as, "only root can give files to another user", "run it by sudo, or as that user"}, exit_code::usage);
  site.souk = own_name(site.for_another);
  auto programs = find_programs();
  if (!programs && site.kind == ServerKind::prosody) return fail(common, programs.error(), exit_code::failed);
  if (programs) site.server = programs.value().server, site.manager = programs.value().manager;
  else {  // ejabberd needs no Prosody
    std::error_code ignored;
    const fs::path beside = fs::read_symlink("/proc/self/exe", ignored).parent_path();
    site.manager = beside / "souk-manager";
  }
  const auto written = init_server(options.init);
  if (!written) return fail(common, written.error(), exit_code::usage);
  site.own_authority = options.init.self_signed || !options.init.authority.empty();
  const auto remaining = remaining_commands(site);
  if (common.json) {
    nlohmann::json files = nlohmann::json::array();
    for (const auto& file : written.value().files) files.push_back(file.string());
    const nlohmann::json line = {{"domain", site.domain}, {"server", options.kind}, {"dir", site.dir.string()}, {"files", files}, {"warnings", written.value().warnings}, {"remaining", remaining}};
    std::fputs((line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n").c_str(), stdout);
    return exit_code::good;
  }
  std::string text = fmt::format("Wrote a grid on {} ({}) into {}\n", site.domain, options.kind, site.dir.string());
  for (const auto& file : written.value().files) text += "  " + file.lexically_relative(site.dir).string() + "\n";
  for (const auto& warning : written.value().warnings) text += "warning: " + warning + "\n";
  if (site.run_as == "root") text += "warning: server and manager would run as root; rather make a user for them and say --run-as USER\n";
  if (site.for_another && !options.init.self_signed) text += fmt::format("{} got a copy of certificate and key; renewed ones are taken by `systemctl restart souk-server`\n", site.run_as);
  text += fmt::format("Ports for others: {} (XMPP), {} (files). What remains:\n", site.clients, site.uploads);
  for (std::size_t i = 0; i < remaining.size(); ++i) text += fmt::format("  {}. {}\n", i + 1, remaining[i]);
  std::fputs(text.c_str(), stdout);
  return exit_code::good;
}

struct CheckOptions {
  ServerToCheck server;
  std::vector<std::string> as, password_files;
};

int server_check(const Common& common, CheckOptions options) {
  ServerToCheck& server = options.server;
  std::error_code ignored;
  std::optional<Profile> profile;
  if (!common.profile.empty() || (server.domain.empty() && fs::exists(user_profile(common), ignored))) {
    auto read = load_profile(user_profile(common));
    if (!read) return fail(common, read.error(), exit_code::usage);
    profile = std::move(read.value());
    // Another domain was asked for: the account of the usual grid has no business there.
    if (!server.domain.empty() && domain_of(profile->account.jid) != server.domain) profile.reset();
  }
  if (profile && profile->account.component) return fail(common, {"profile " + profile->file.string() + " is of a component", "a server is looked at from outside", "name the profile of a person, or --domain"}, exit_code::usage);
  if (profile) {
    if (server.domain.empty()) server.domain = domain_of(profile->account.jid);
    if (server.host.empty()) server.host = profile->account.host;
    if (server.port == 0) server.port = profile->account.port;
    if (server.ca_file.empty()) server.ca_file = profile->account.ca_file;
    if (server.proxy.empty()) server.proxy = profile->account.proxy;
    if (server.manager.empty()) server.manager = profile->manager;
  }
  if (server.domain.empty()) return fail(common, {"no domain", "it is not said which server to look at", "say it: --domain grid.example.edu"}, exit_code::usage);
  if (server.port == 0) server.port = 5222;
  if (options.as.size() != options.password_files.size() && !(options.as.size() == 1 && options.password_files.empty()))
    return fail(common, {"cannot log in", fmt::format("there are {} accounts and {} password files", options.as.size(), options.password_files.size()), "give one --password-file for each --as, in the same order"}, exit_code::usage);
  for (std::size_t i = 0; i < options.as.size(); ++i) {
    auto password = get_password(i < options.password_files.size() ? options.password_files[i] : "", options.as[i]);
    if (!password) return fail(common, password.error(), exit_code::usage);
    Account account;
    account.jid = options.as[i];
    account.password = password.value();
    server.accounts.push_back(account);
  }
  if (server.accounts.empty() && profile) server.accounts.push_back(profile->account);
  const auto findings = check_server(server);
  std::fputs(render_findings(findings, common.json).c_str(), stdout);
  const bool wrong = std::any_of(findings.begin(), findings.end(), [](const Finding& f) { return f.level == Finding::Level::wrong; });
  return wrong ? exit_code::failed : exit_code::good;
}

}  // namespace

void add_server_commands(CLI::App& app, Common& common) {
  CLI::App* const server = app.add_subcommand("server", "A server of your own, for more than one machine: write its configuration, test it")->group("Accounts and servers");
  server->require_subcommand(1);
  server->footer("Examples:\n  souk server init --domain grid.example.edu --cert fullchain.pem --key privkey.pem\n  souk server check --domain grid.example.edu\ndocs/OPERATIONS.md tells the whole way.");

  const auto init = std::make_shared<InitOptions>();
  init->init.site.run_as.clear();
  ServerSite& site = init->init.site;
  CLI::App* const init_command = server->add_subcommand("init", "Write a complete configuration: server, manager, worker, units of systemd");
  init_command->add_option("--domain", init->domain, "Of people and workers; the manager will be grid.DOMAIN")->required()->type_name("DOMAIN");
  init_command->add_option("--server", init->kind, "Which server")->check(CLI::IsMember({"prosody", "ejabberd"}))->capture_default_str()->type_name("prosody|ejabberd");
  init_command->add_option("--cert", init->certificate, "PEM certificate for DOMAIN, and all between it and its authority")->check(CLI::ExistingFile)->type_name("FILE");
  init_command->add_option("--key", init->key, "Its key, PEM, without a passphrase")->check(CLI::ExistingFile)->type_name("FILE");
  init_command->add_option("--ca-file", init->authority, "The authority that issued it, if systems do not know it: goes to workers and users")->check(CLI::ExistingFile)->type_name("FILE");
  init_command->add_flag("--self-signed", init->init.self_signed, "Make a certificate that only profiles written here trust; for a trial");
  init_command->add_option("--out", init->out, "Folder to write (default: ./DOMAIN)")->type_name("DIR");
  init_command->add_flag("--force", init->init.force, "Write again what is there; passwords and accounts stay");
  init_command->add_option("--host", site.host, "How others reach the server (default: by DOMAIN)")->type_name("HOST");
  init_command->add_option("--port", site.clients, "Of XMPP")->check(CLI::Range(1, 65535))->capture_default_str();
  init_command->add_option("--component-port", site.component, "Of the manager, on this machine only")->check(CLI::Range(1, 65535))->capture_default_str();
  init_command->add_option("--upload-port", site.uploads, "Of HTTP upload")->check(CLI::Range(1, 65535))->capture_default_str();
  init_command->add_option("--admin", site.admin, "Account that sees everything and may invite")->capture_default_str()->type_name("NAME");
  init_command->add_option("--run-as", site.run_as, "Unix user of server and manager (default: you); by root for that user, who need not be able to read the key")->type_name("USER");
  init_command->add_flag("--hosted", site.hosted, "Keep the marketplace in the server's room service, not in the manager: for up to a hundred workers");
  init_command->footer(
      "Examples:\n  sudo souk server init --domain grid.example.edu --cert /etc/letsencrypt/live/grid.example.edu/fullchain.pem --key .../privkey.pem --run-as souk --out /srv/grid\n"
      "  souk server init --domain grid.lab --cert grid.crt --key grid.key --ca-file lab-ca.pem --server ejabberd --out /srv/grid\n"
      "Writes nothing when a file is there already, unless --force. All files are 0600. Tells the three commands that remain.");
  init_command->callback([&common, init] { common.action = [&common, init] { return server_init(common, *init); }; });

  const auto check = std::make_shared<CheckOptions>();
  check->server.port = 0;
  CLI::App* const check_command = server->add_subcommand("check", "Test a server from outside, and explain what is found");
  check_command->add_option("--domain", check->server.domain, "Which (default: that of your profile)")->type_name("DOMAIN");
  check_command->add_option("--host", check->server.host, "Where it is (default: the domain)")->type_name("HOST");
  check_command->add_option("--port", check->server.port, "And its port (default: 5222)")->check(CLI::Range(1, 65535));
  check_command->add_option("--ca-file", check->server.ca_file, "Authorities to trust instead of the system's, PEM")->check(CLI::ExistingFile)->type_name("FILE");
  check_command->add_option("--proxy", check->server.proxy, "Go through a proxy: http://HOST:PORT or socks5://HOST:PORT")->type_name("URL");
  check_command->add_option("--as", check->as, "Log in, and look at limits, rooms, manager and clock too (may be repeated)")->type_name("JID")->allow_extra_args(false);
  check_command->add_option("--password-file", check->password_files, "Its password, - for stdin (default: asked for)")->type_name("FILE")->allow_extra_args(false);
  check_command->add_option("--manager", check->server.manager, "The manager's address, if the server does not list it")->type_name("JID");
  check_command->footer(
      "Examples:\n  souk server check --domain grid.example.edu\n  souk --profile grid.example.edu/admin/admin.toml server check\n"
      "  souk server check --domain grid.example.edu --as ada@grid.example.edu --json | jq 'select(.level != \"ok\")'\n"
      "Each finding is ok, warning or wrong, with what to do. Exit code: 0 nothing is wrong, 1 something is.");
  check_command->callback([&common, check] { common.action = [&common, check] { return server_check(common, *check); }; });
}

}  // namespace souk
