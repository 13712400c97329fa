#include "submit/server_plan.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <tuple>

#include "protocol/quoting.h"
#include "submit/ejabberd_start.h"
#include "submit/prosody_config.h"

namespace souk {
namespace {

std::string manager_jid(const ServerSite& site) { return fmt::format("manager@grid.{}", site.domain); }

std::string prosody_config(const ServerSite& site, const ServerSecrets& secrets) {
  const ServerLayout at{site.dir};
  ProsodySettings settings;
  settings.about = fmt::format("Prosody 0.12 for the grid {}. Written by `souk server init`; yours from now on. It contains a secret: keep it 0600.", site.domain);
  settings.data = at.data(), settings.pidfile = at.server() / "prosody.pid", settings.certificates = at.server(), settings.certificate = site.certificate, settings.key = site.key;
  settings.domain = site.domain, settings.component_domain = "grid." + site.domain, settings.component_secret = secrets.component, settings.manager = manager_jid(site);
  settings.clients = site.clients, settings.component = site.component, settings.uploads = site.uploads;
  settings.accounts = settings.rooms = true, settings.root = site.root;
  return render_prosody(settings);
}

std::string ejabberd_config(const ServerSite& site, const ServerSecrets& secrets) {
  const ServerLayout at{site.dir};
  const auto text = [](const auto& value) { return toml_string(std::string_view(value)); };  // as YAML reads it too: quotes and backslashes escaped
  return fmt::format(
      R"(# ejabberd 23.01 for the grid {domain}. Written by `souk server init`; yours from now on. It contains a secret: keep it 0600.
# What is not its default, and why:
#   shaper: none         Debian's file lets a client send 3,000 bytes a second: 8 stanzas
#   max_stanza_size      four times what one stanza of a grid holds, so that no batch ever costs a stream
#   max_user_sessions    all workers may share one account; 10 would be allowed
#   backlog              1,000 workers that come back at once; 5 would be kept waiting
#   max_users            of a hosted marketplace; 200 would get in
#   no s2s               nobody but this grid
loglevel: warning
hosts: [{domain_text}]
certfiles: [{certificate}, {key}]
auth_method: [internal]
auth_password_format: scram
disable_sasl_mechanisms: ["digest-md5", "X-OAUTH2"]

listen:
  - port: {clients}
    ip: "::"
    module: ejabberd_c2s
    max_stanza_size: 1048576
    max_fsm_queue: 100000
    backlog: 1024
    shaper: none
    access: all
    starttls_required: true
  # A component's stream knows no encryption (XEP-0114), so it is taken from this machine alone.
  - port: {component}
    ip: "127.0.0.1"
    module: ejabberd_service
    max_stanza_size: 1048576
    max_fsm_queue: 100000
    shaper: none
    hosts:
      {grid}:
        password: {secret}
  - port: {uploads}
    ip: "::"
    module: ejabberd_http
    tls: true
    request_handlers:
      /upload: mod_http_upload

s2s_access: none

acl:
  manager:
    user:
      - {manager}
  # Accounts that stand for an invitation: who has the link may join with it, and do nothing else.
  invitation:
    user_regexp: "^invite-"

access_rules:
  manager:
    - allow: manager
  upload:
    - deny: invitation
    - allow
  # The manager makes the accounts of those who come with an invitation, and takes them away (XEP-0133).
  configure:
    - allow: manager
  register:
    - allow

shaper_rules:
  max_user_sessions: 100000
  max_user_offline_messages: 1000
  # MiB of files of one account: over the second, its oldest go until the first is reached.
  upload_soft: {upload_soft}
  upload_hard: {upload_hard}

modules:
  mod_adhoc: {{}}
  mod_configure: {{}}
  mod_disco: {{}}
  mod_time: {{}}
  mod_last: {{}}
  mod_ping: {{}}
  mod_roster: {{}}
  mod_offline: {{}}
  mod_http_upload:
    host: {upload_host}
    put_url: "https://{domain}:{uploads}/upload"
    docroot: {upload_folder}
    max_size: {upload_max}
    access: upload  # its default is a rule that nobody has made: then nobody may
  mod_http_upload_quota:
    access_soft_quota: upload_soft
    access_hard_quota: upload_hard
    max_days: 7
  # Only the manager makes rooms, or somebody else could own the marketplace before it does.
  mod_muc:
    host: {rooms}
    access: all
    access_create: manager
    access_admin: manager
    max_users: 100000
    max_user_conferences: 100
    default_room_options:
      max_users: 100000
)",
      fmt::arg("domain", site.domain), fmt::arg("domain_text", text(site.domain)), fmt::arg("certificate", text(site.certificate.string())),
      fmt::arg("key", text(site.key.string())), fmt::arg("clients", site.clients), fmt::arg("component", site.component), fmt::arg("uploads", site.uploads),
      fmt::arg("grid", text("grid." + site.domain)), fmt::arg("secret", text(secrets.component)), fmt::arg("manager", text(manager_jid(site))),
      fmt::arg("upload_host", text("upload." + site.domain)), fmt::arg("upload_folder", text(at.uploads().string())), fmt::arg("upload_max", kUploadMax), fmt::arg("upload_soft", (kUploadMax * 3) >> 20),
      fmt::arg("upload_hard", (kUploadMax * 4) >> 20),
      fmt::arg("rooms", text("rooms." + site.domain)));
}

std::string profile(const ServerSite& site, std::string_view comment, std::string_view jid, std::string_view part, bool component) {
  std::string text = fmt::format("# {}. Written by `souk server init`.\njid = {}\npassword_file = {}\n", comment, toml_string(jid), toml_string(std::string(part) + ".password"));
  if (component) text += fmt::format("component = true\nhost = \"127.0.0.1\"\nport = {}\n", site.component);
  else {
    if (!site.host.empty()) text += fmt::format("host = {}\n", toml_string(site.host));
    text += fmt::format("port = {}\n", site.clients);
    if (site.own_authority) text += "ca_file = \"ca.pem\"\n";
  }
  text += fmt::format("manager = {}\nroom = {}\n", toml_string(manager_jid(site) + "/souk"), toml_string(fmt::format("market@{}.{}", site.hosted ? "rooms" : "grid", site.domain)));
  return text;
}

std::string policy(const ServerSite& site) {
  return fmt::format(
      "# Who may do what on the grid {0}, and how much of it; read again when it changes. docs/OPERATIONS.md tells what else there is. The first rule that\n"
      "# names somebody counts. Written by `souk server init`; yours from now on. The admin, {1}@{0}, is named by the manager's unit.\n\n"
      "[[rule]]\nname = \"machines of the grid\"  # their account is on each of them, so it does nothing else\nwho = \"worker@{0}\"\nroles = [\"worker\"]\n\n"
      "[[rule]]\nname = \"everybody here\"\nwho = \"@{0}\"\nroles = [\"submitter\", \"worker\"]\n",
      site.domain, site.admin);
}

std::string unit_line(const std::vector<std::string>& words) {
  std::string line;
  for (const auto& word : words) line += (line.empty() ? "" : " ") + unit_word(word);
  return line;
}

/// comment: whole lines, of what is to be done with it
std::string unit(const ServerSite& site, const std::string& comment, const std::string& about, const std::vector<std::string>& command, const std::string& unit_lines, const std::string& service_lines,
                 const std::string& run_as) {
  return fmt::format(
      "# Written by `souk server init` for {}.\n{}[Unit]\nDescription={}\nAfter=network-online.target\nWants=network-online.target\n{}\n[Service]\nUser={}\nExecStart={}\n{}"
      "Restart=on-failure\nNoNewPrivileges=true\nUMask=0077\n\n[Install]\nWantedBy=multi-user.target\n",
      site.domain, comment, about, unit_lines, run_as, unit_line(command), service_lines);
}

/// systemd, which is root, hands certificate and key to the server's user at each start, and that user copies them: so what was renewed is taken by a restart, and
/// root writes into no folder of somebody else.
std::string certificate_lines(const ServerSite& site) {
  if (site.key_source.empty()) return {};
  const auto plain = [](std::string path) {  // not in quotes, up to the end of the line (systemd.exec(5))
    for (std::size_t at = 0; (at = path.find('%', at)) != path.npos; at += 2) path.insert(at, "%");
    return path;
  };
  std::string lines;
  for (const auto& [name, source, target] : {std::tuple{"tls.crt", site.certificate_source, site.certificate}, {"tls.key", site.key_source, site.key}})
    lines += fmt::format("LoadCredential={}:{}\nExecStartPre=/usr/bin/install -m 0600 ${{CREDENTIALS_DIRECTORY}}/{} {}\n", name, plain(source.string()), name, unit_word(target.string()));
  return lines;
}

}  // namespace

Result<std::string> check_domain(std::string_view domain) {
  const auto bad = [&](std::string why) { return Error{"cannot use the domain '" + std::string(domain.substr(0, 80)) + "'", std::move(why), "write one like grid.example.edu"}; };
  std::string lower(domain);
  for (char& c : lower)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  if (lower.empty() || lower.size() > 200) return bad("it has " + std::to_string(lower.size()) + " bytes");
  if (lower.find('.') == std::string::npos) return bad("it has no dot");
  std::string_view rest = lower;
  while (true) {
    const auto dot = rest.find('.');
    const std::string_view label = rest.substr(0, dot);
    if (label.empty() || label.size() > 63) return bad("a part between dots is empty or too long");
    if (label.front() == '-' || label.back() == '-') return bad("a part begins or ends with a dash");
    if (!std::all_of(label.begin(), label.end(), [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; }))
      return bad("it has characters other than letters, digits, dots and dashes (an international name is written as xn--...)");
    if (dot == std::string_view::npos) return lower;
    rest.remove_prefix(dot + 1);
  }
}

std::vector<PlannedFile> plan_server(const ServerSite& site, const ServerSecrets& secrets) {
  const ServerLayout at{site.dir};
  const bool prosody = site.kind == ServerKind::prosody;
  std::vector<PlannedFile> files;
  files.push_back({at.config(site.kind), prosody ? prosody_config(site, secrets) : ejabberd_config(site, secrets)});
  if (!prosody) {
    files.push_back({at.start(), std::string(kEjabberdStart), true});
    // As Erlang reads it; our passwords have nothing that needs escaping (check in server_init).
    files.push_back({at.accounts(), fmt::format("{{<<\"{}\">>, <<\"{}\">>}}.\n{{<<\"worker\">>, <<\"{}\">>}}.\n", site.admin, secrets.admin, secrets.worker)});
  }
  files.push_back({at.profile("manager"), profile(site, "The manager of " + site.domain, "grid." + site.domain, "manager", true)});
  files.push_back({at.password("manager"), secrets.component + "\n"});
  files.push_back({at.policy(), policy(site)});
  files.push_back({at.profile("worker"), profile(site, "A worker of " + site.domain, "worker@" + site.domain, "worker", false)});
  files.push_back({at.password("worker"), secrets.worker + "\n"});
  files.push_back({at.profile("admin"), profile(site, "Who runs " + site.domain, site.admin + "@" + site.domain, "admin", false)});
  files.push_back({at.password("admin"), secrets.admin + "\n"});

  // Debian's packages start a server at 5222, beside which Prosody would run on with no port at all. At another port the two get along.
  const std::string alone = site.clients == ServerSite{}.clients ? "Conflicts=prosody.service ejabberd.service\nAfter=prosody.service ejabberd.service\n" : "";
  // What neither needs wherever its folder is. Not of the worker: a sandbox is made of namespaces, a /proc of its own and control groups.
  const std::string closed =
      "CapabilityBoundingSet=\nLockPersonality=true\nPrivateDevices=true\nProtectClock=true\nProtectControlGroups=true\nProtectHostname=true\nProtectKernelLogs=true\nProtectKernelModules=true\n"
      "ProtectKernelTunables=true\nRestrictNamespaces=true\nRestrictRealtime=true\nRestrictSUIDSGID=true\nSystemCallArchitectures=native\n";
  const std::vector<std::string> server = prosody ? std::vector<std::string>{site.server.string(), "-F", "--config", at.config(site.kind).string()}
                                                  : std::vector<std::string>{at.start().string(), at.server().string()};
  files.push_back({at.unit("server"), unit(site, "", "XMPP server of the grid " + site.domain, server, alone, certificate_lines(site) + "LimitNOFILE=65536\nRestartSec=2\n" + closed, site.run_as)});
  files.push_back({at.unit("manager"),
                   unit(site, "", "Manager of the grid " + site.domain,
                        {site.manager.string(), "--profile", at.profile("manager").string(), "--state", (site.dir / "manager" / "state").string(), "--policy", at.policy().string(), "--admin",
                         site.admin + "@" + site.domain},
                        "After=souk-server.service\nWants=souk-server.service\n", "LimitNOFILE=65536\nRestartSec=2\n" + closed, site.run_as)});
  // For workers' machines: where the programs and the user are there is not known here, so it names the program without a folder, which systemd looks for in the usual ones, and tells how
  // the rest is made. Its first process hands back what runs. Their owner is who runs the grid, not the account that they share: whoever reads its password on one machine would run bare tasks on all.
  files.push_back({at.unit("worker"),
                   unit(site,
                        "# For machines of your own. On each of them, with the programs of Souk in /usr/local/bin, and this file and the folder `worker` copied there:\n"
                        "#   sudo useradd --system souk\n"
                        "#   sudo install -d -m 700 -o souk -g souk /etc/souk\n"
                        "#   sudo install -m 600 -o souk -g souk worker/* /etc/souk\n"
                        "#   sudo install -m 644 souk-worker.service /etc/systemd/system\n"
                        "#   sudo systemctl enable --now souk-worker\n",
                        "Worker of the grid " + site.domain, {"souk-worker", "--profile", "/etc/souk/worker.toml", "--work", "/var/lib/souk/work", "--owner", site.admin + "@" + site.domain}, "",
                        // Banned it comes back by itself when it may; many of them should not log in every other second until then.
                        "StateDirectory=souk\nDelegate=yes\nKillMode=mixed\nTimeoutStopSec=30\nRestartSec=10\n", "souk")});
  return files;
}

std::vector<std::string> remaining_commands(const ServerSite& site) {
  const ServerLayout at{site.dir};
  // The admin's files are of the user that the units run as.
  const std::string admin = (site.for_another ? "sudo -u " + shell_word(site.run_as) + " " : "") + shell_word(site.souk) + " --profile " + shell_word(at.profile("admin").string());
  // Copies: systemd takes units as root, and whoever may change one of a folder of theirs would be root.
  return {"sudo install -m 644 " + shell_word(at.unit("server").string()) + " " + shell_word(at.unit("manager").string()) + " /etc/systemd/system && sudo systemctl enable --now souk-server souk-manager", admin + " server check", admin + " invite worker --expires 7d --uses 30"};
}

}  // namespace souk
