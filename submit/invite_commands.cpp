// invite, join: letting in who has no account.
#include <pwd.h>
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "protocol/invitation.h"
#include "protocol/notation.h"
#include "protocol/proxy.h"
#include "protocol/quoting.h"
#include "protocol/stanza.h"
#include "submit/connect.h"
#include "submit/conversation.h"
#include "submit/embedded.h"
#include "submit/grid_state.h"
#include "submit/grids.h"

namespace souk {
namespace {

std::string dump(const nlohmann::json& value) { return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n"; }

/// Asks the manager of the grid that is meant; prints why not.
int with_manager(const Common& common, const std::string& node, const Form& form, const std::function<void(const Form&, const Account&)>& print) {
  const auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Conversation server(profile.value().account);
  if (const auto done = server.open(); !done) return fail(common, done.error(), exit_code::unreachable);
  const auto answer = command(server, profile.value().manager, node, form);
  if (!answer) return fail(common, answer.error(), exit_code::usage);
  if (answer.value().note_type == "error") return fail(common, {"the manager refuses", answer.value().note, ""}, exit_code::usage);
  print(answer.value().form, profile.value().account);
  return exit_code::good;
}

Form submitted() {
  Form form;
  form.type = "submit";
  return form;
}

int invite(const Common& common, const std::string& role, const std::string& expires, int uses) {
  Form form = submitted();
  form.add("role", "list-single", "", {role}).add("expires", "text-single", "", {expires}).add("uses", "text-single", "", {std::to_string(uses)});
  return with_manager(common, "invite", form, [&](const Form& made, const Account& own) {
    const auto text = [&](const char* var) { return printable(made.text(var)); };
    // The link tells the domain only; how else this server is found, we know.
    std::string command = text("command");
    if (!own.host.empty() && own.host != domain_of(own.jid)) command += " --host " + shell_word(own.host);
    if (own.port != 5222) command += " --port " + std::to_string(own.port);
    if (!own.ca_file.empty()) command += " --ca-file ca.pem";
    if (common.json) std::fputs(dump({{"id", text("id")}, {"role", role}, {"link", text("link")}, {"command", command}, {"expires", text("expires")}, {"uses", uses}}).c_str(), stdout);
    else
      std::fputs(fmt::format("{}\n\nGood until {} for {} {}{}; whoever has the link may use it. On {}:\n  {}\n{}To take it back: souk invite revoke {}\n", text("link"), text("expires"), uses, role, uses == 1 ? "" : "s",
                             role == "worker" ? "the machine" : "the person's machine", command,
                             own.ca_file.empty() ? "" : "with the authority of this server as ca.pem: a copy of " + own.ca_file + "\n", text("id")).c_str(), stdout);
  });
}

int list(const Common& common) {
  Form form = submitted();
  form.add("format", "text-single", "", {common.json ? "json" : "text"});
  return with_manager(common, "invitations", form, [](const Form& answer, const Account&) {
    if (const auto* lines = answer.find("invitations"))
      for (const auto& line : lines->values) std::fputs((printable(line) + "\n").c_str(), stdout);
  });
}

int revoke(const Common& common, const std::string& id, bool accounts) {
  Form form = submitted();
  form.add("id", "text-single", "", {id}).add("accounts", "boolean", "", {accounts ? "1" : "0"});
  return with_manager(common, "revoke", form, [&](const Form& answer, const Account&) {
    const std::string gone = printable(answer.text("accounts"));
    std::fputs(common.json ? dump({{"id", id}, {"accounts", gone}}).c_str() : fmt::format("Revoked {}; {} of its accounts taken away\n", id, gone).c_str(), stdout);
  });
}

struct JoinOptions {
  std::string link, name, host, ca_file, proxy;
  std::uint16_t port = 5222;
};

int join(const Common& common, const JoinOptions& options) {
  const auto link = parse_invitation(options.link);
  if (!link) return fail(common, link.error(), exit_code::usage);
  auto grids = Grids::open();
  if (!grids) return fail(common, grids.error(), exit_code::usage);
  const std::string grid_name = common.grid.empty() ? link.value().domain : common.grid;
  if (const auto checked = check_grid_name(grid_name); !checked) return fail(common, checked.error(), exit_code::usage);
  for (const auto& known : grids.value().all())
    if (known.name == grid_name) return fail(common, {"nothing was done", "there is a grid " + grid_name + " already (`souk grids`)", "give this one another name: --grid NAME"}, exit_code::usage);
  std::string name = options.name;
  if (name.empty()) {
    const passwd* const me = ::getpwuid(::getuid());
    if (me == nullptr || ::getuid() == 0) return fail(common, {"nothing was done", "it is not said who you are", "give the new account a name: --as NAME"}, exit_code::usage);
    name = account_name(me->pw_name);
  }
  Account account;
  account.jid = link.value().account();
  account.password = link.value().secret;
  account.host = options.host, account.port = options.port, account.ca_file = options.ca_file, account.proxy = options.proxy;
  if (!account.proxy.empty())
    if (const auto proxy = parse_proxy(account.proxy); !proxy) return fail(common, proxy.error(), exit_code::usage);
  if (const auto room = grids.value().make_folder(grid_name); !room) return fail(common, room.error(), exit_code::failed);  // before a use of the invitation is spent
  Conversation server(account);
  if (auto done = server.open(); !done) {
    if (done.error().why.find("wrong user name or password") != std::string::npos) return fail(common, {"the invitation is not good", "the server does not know it (any more): it was used up, revoked, or has expired", "ask whoever sent it for another one"}, exit_code::unreachable);
    return fail(common, done.error(), exit_code::unreachable);
  }
  Form form = submitted();
  form.add("name", "text-single", "", {name});
  const auto answer = command(server, link.value().manager, "join", form);
  if (!answer) return fail(common, answer.error(), exit_code::unreachable);
  if (answer.value().note_type == "error") return fail(common, {"the manager refuses", answer.value().note, ""}, exit_code::usage);
  const auto made = credentials_in(answer.value().form, link.value(), "user");
  if (!made) return fail(common, made.error(), exit_code::usage);
  account.jid = made.value().jid, account.password = made.value().password;
  const auto saved = grids.value().save(grid_name, account, {made.value().manager, made.value().room});
  if (!saved) return fail(common, saved.error(), exit_code::failed);
  std::error_code ignored;
  if (grids.value().usual().empty() && !std::filesystem::exists(common.dir / "user.toml", ignored)) (void)!grids.value().set_usual(grid_name);
  if (common.json) std::fputs(dump({{"grid", grid_name}, {"jid", account.jid}, {"profile", saved.value().string()}}).c_str(), stdout);
  else std::fputs(fmt::format("You are {} on the grid {}. Try: souk --grid {} run hostname\n", account.jid, grid_name, grid_name).c_str(), stdout);
  return exit_code::good;
}

}  // namespace

void add_invite_commands(CLI::App& app, Common& common) {
  CLI::App* const invite_command = app.add_subcommand("invite", "Make a link that lets in a worker or a user without an account")->group("Accounts and servers");
  invite_command->require_subcommand(1);
  invite_command->footer(
      "Examples:\n  souk invite worker --expires 7d --uses 30     one link for a room of thirty machines\n  souk invite user\n  souk invite list\n  souk invite revoke invite-k3x9 --with-accounts\n"
      "Only admins of the grid invite, and the server must let the manager make accounts (`souk server init` sets that).");
  const auto expires = std::make_shared<std::string>("7d"), id = std::make_shared<std::string>();
  const auto uses = std::make_shared<int>(1);
  const auto accounts = std::make_shared<bool>(false);
  for (const char* role : {"worker", "user"}) {
    CLI::App* const one = invite_command->add_subcommand(role, std::string(role) == "worker" ? "For machines that work" : "For people who submit");
    one->add_option("--expires", *expires, "Good for how long: 12h, 7d, at most 365d")->capture_default_str()->type_name("TIME");
    one->add_option("--uses", *uses, "For how many accounts")->check(CLI::Range(1, 1000))->capture_default_str()->type_name("N");
    one->callback([&common, role, expires, uses] { common.action = [&common, role, expires, uses] { return invite(common, role, *expires, *uses); }; });
  }
  invite_command->add_subcommand("list", "Invitations, and the accounts that they made")->callback([&common] { common.action = [&common] { return list(common); }; });
  CLI::App* const revoke_command = invite_command->add_subcommand("revoke", "Take an invitation back, at once");
  revoke_command->add_option("id", *id, "Its name")->required()->type_name("");
  revoke_command->add_flag("--with-accounts", *accounts, "Take away the accounts that it made, too: their workers and users are out at once");
  revoke_command->callback([&common, id, accounts] { common.action = [&common, id, accounts] { return revoke(common, *id, *accounts); }; });

  CLI::App* const join_command = app.add_subcommand("join", "Make an account by an invitation for a user, and keep it (for a worker: souk-worker join)")->group("Accounts and servers");
  const auto options = std::make_shared<JoinOptions>();
  join_command->add_option("link", options->link, "The invitation, in quotes")->required()->type_name("");
  join_command->add_option("--as", options->name, "Name of the new account: a-z 0-9 . _ - (default: that of your user on this machine)")->type_name("NAME");
  join_command->add_option("--host", options->host, "Where the server is (default: the domain)")->type_name("HOST");
  join_command->add_option("--port", options->port, "And its port")->check(CLI::Range(1, 65535))->capture_default_str();
  join_command->add_option("--ca-file", options->ca_file, "Authorities to trust instead of the system's, PEM; a copy is kept")->type_name("FILE");
  join_command->add_option("--proxy", options->proxy, "Go through a proxy: http://HOST:PORT or socks5://HOST:PORT")->type_name("URL");
  join_command->footer("Examples:\n  souk join 'xmpp:grid.example.edu?register;preauth=...'\n  souk join 'xmpp:...' --as ada");
  join_command->callback([&common, options] { common.action = [&common, options] { return join(common, *options); }; });
}

}  // namespace souk
