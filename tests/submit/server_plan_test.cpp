#include "submit/server_plan.h"

#include <gtest/gtest.h>

#include <fstream>
#include <sstream>

#include "submit/ejabberd_start.h"

namespace souk {
namespace {

ServerSite some_site(ServerKind kind) {
  ServerSite site;
  site.domain = "grid.example.edu";
  site.kind = kind;
  site.dir = "/srv/my grid";
  site.certificate = "/etc/ssl/grid.crt";
  site.key = "/etc/ssl/grid.key";
  site.server = "/usr/bin/prosody", site.manager = "/opt/souk-manager";
  return site;
}
const ServerSecrets kSecrets{"component-secret", "admin-secret", "worker-secret"};

std::string text_of(const ServerSite& site, const std::string& end) {
  for (const auto& file : plan_server(site, kSecrets))
    if (file.path.string().ends_with(end)) return file.text;
  ADD_FAILURE() << "no file " << end;
  return {};
}
bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(ServerPlan, WritesTheSettingsWithoutWhichAGridCrawls) {
  const std::string prosody = text_of(some_site(ServerKind::prosody), "prosody.cfg.lua");
  EXPECT_TRUE(has(prosody, "network_settings = { min_wait = 0; read_retry_delay = 0; nagle = false; tcp_backlog = 1024 }"));
  EXPECT_TRUE(has(prosody, "c2s_stanza_size_limit = 1048576; component_stanza_size_limit = 1048576"));
  EXPECT_TRUE(has(prosody, "c2s_timeout = 60"));
  EXPECT_TRUE(has(prosody, R"(modules_disabled = { "s2s", "s2s_auth_certs", "limits" })"));
  const std::string ejabberd = text_of(some_site(ServerKind::ejabberd), "ejabberd.yml");
  for (const char* line : {"shaper: none", "max_stanza_size: 1048576", "backlog: 1024", "max_user_sessions: 100000", "starttls_required: true"}) EXPECT_TRUE(has(ejabberd, line)) << line;
}

TEST(ServerPlan, HasProsodysSettingsFromOnePlace) {
  EmbeddedGrid grid;
  grid.dir = "/srv/my grid", grid.ports = {5222, 5347};
  const std::string own = render_server_config(grid, "x"), others = text_of(some_site(ServerKind::prosody), "prosody.cfg.lua");
  std::istringstream lines(own);
  int shared = 0;
  for (std::string line; std::getline(lines, line);) shared += !line.starts_with("--") && has(others, "\n" + line + "\n");
  EXPECT_GE(shared, 9) << own;
  std::ifstream file(SOUK_SOURCE_DIR "/docker/setup");
  std::stringstream setup;
  setup << file.rdbuf();
  EXPECT_TRUE(has(setup.str(), "souk server init"));
  EXPECT_FALSE(has(setup.str(), "c2s_ports"));
}

TEST(ServerPlan, TakesTheManagerOnLoopbackOnlyAndLetsNobodyInWithoutEncryption) {
  const std::string prosody = text_of(some_site(ServerKind::prosody), "prosody.cfg.lua");
  EXPECT_TRUE(has(prosody, R"(component_interfaces = { "127.0.0.1" })"));
  EXPECT_TRUE(has(prosody, "c2s_require_encryption = true; allow_unencrypted_plain_auth = false"));
  const std::string ejabberd = text_of(some_site(ServerKind::ejabberd), "ejabberd.yml");
  EXPECT_TRUE(has(ejabberd, "  - port: 5347\n    ip: \"127.0.0.1\"\n    module: ejabberd_service"));
}

TEST(ServerPlan, LetsTheAccountThatAllMachinesShareWorkAndDoNothingElse) {
  const ServerSite site = some_site(ServerKind::prosody);
  const std::string policy = text_of(site, "manager/policy.toml");
  EXPECT_LT(policy.find("who = \"worker@grid.example.edu\"\nroles = [\"worker\"]"), policy.find("who = \"@grid.example.edu\"\nroles = [\"submitter\", \"worker\"]")) << policy;
  EXPECT_FALSE(has(text_of(site, "souk-manager.service"), "\"--allow")) << "else the policy could take nothing away";
  EXPECT_TRUE(has(text_of(site, "souk-worker.service"), R"("--owner" "admin@grid.example.edu")"));
}

TEST(ServerPlan, GivesEachPartItsOwnSecretAndNoOther) {
  for (const auto kind : {ServerKind::prosody, ServerKind::ejabberd})
    for (const auto& file : plan_server(some_site(kind), kSecrets)) {
      const std::string path = file.path.string().substr(std::string("/srv/my grid/").size());
      EXPECT_EQ(has(file.text, "component-secret"), path == "manager/manager.password" || path.starts_with("server/prosody") || path.starts_with("server/ejabberd")) << path;
      EXPECT_EQ(has(file.text, "admin-secret"), path == "admin/admin.password" || path == "server/accounts") << path;
      EXPECT_EQ(has(file.text, "worker-secret"), path == "worker/worker.password" || path == "server/accounts") << path;
    }
}

TEST(ServerPlan, UnitsQuoteWhatSystemdWouldRead) {
  auto site = some_site(ServerKind::prosody);
  site.dir = "/srv/50% $off \"x\"";
  const std::string unit = text_of(site, "souk-manager.service");
  EXPECT_TRUE(has(unit, R"("/srv/50%% $$off \"x\"/manager/manager.toml")")) << unit;
  EXPECT_TRUE(has(unit, "User=souk\n"));
  EXPECT_TRUE(has(unit, "Wants=souk-server.service"));
  EXPECT_TRUE(has(text_of(site, "souk-worker.service"), "KillMode=mixed"));
}

TEST(ServerPlan, GivesTheServersUserCopiesOfWhatOnlyRootReads) {
  auto site = some_site(ServerKind::prosody);
  EXPECT_FALSE(has(text_of(site, "souk-server.service"), "Credential"));
  site.for_another = true;
  site.certificate_source = "/etc/letsencrypt/live/100%/fullchain.pem", site.key_source = "/etc/letsencrypt/live/100%/privkey.pem";
  const std::string unit = text_of(site, "souk-server.service");
  EXPECT_TRUE(has(unit, "LoadCredential=tls.key:/etc/letsencrypt/live/100%%/privkey.pem\nExecStartPre=/usr/bin/install -m 0600 ${CREDENTIALS_DIRECTORY}/tls.key \"/etc/ssl/grid.key\"\n")) << unit;
  EXPECT_TRUE(remaining_commands(site)[1].starts_with("sudo -u souk souk --profile '/srv/my grid/admin/admin.toml'")) << remaining_commands(site)[1];
}

TEST(ServerPlan, DoesNotRunBesideTheServerThatAPackageStarted) {
  auto site = some_site(ServerKind::prosody);
  EXPECT_TRUE(has(text_of(site, "souk-server.service"), "\nConflicts=prosody.service ejabberd.service\nAfter=prosody.service ejabberd.service\n"));
  EXPECT_FALSE(has(text_of(site, "souk-manager.service"), "Conflicts="));
  site.clients = 15222;
  EXPECT_FALSE(has(text_of(site, "souk-server.service"), "Conflicts=")) << "somebody wants both";
}

TEST(ServerPlan, KnowsNothingOfTheMachinesOnWhichWorkersRun) {
  const std::string unit = text_of(some_site(ServerKind::prosody), "souk-worker.service");
  EXPECT_TRUE(has(unit, "\nExecStart=\"souk-worker\" \"--profile\" \"/etc/souk/worker.toml\"")) << unit;
  EXPECT_FALSE(has(unit, "/opt/")) << unit;
}

TEST(ServerPlan, ShutsServerAndManagerInAndLeavesAWorkerWhatItsSandboxIsMadeOf) {
  const auto site = some_site(ServerKind::prosody);
  for (const char* line : {"ProtectControlGroups=true", "ProtectKernelTunables=true", "RestrictNamespaces=true", "PrivateDevices=true", "CapabilityBoundingSet=", "RestartSec=2"}) {
    for (const char* name : {"souk-server.service", "souk-manager.service"}) EXPECT_TRUE(has(text_of(site, name), "\n" + std::string(line) + "\n")) << name << ' ' << line;
    EXPECT_FALSE(has(text_of(site, "souk-worker.service"), "\n" + std::string(line) + "\n")) << line;
  }
  EXPECT_TRUE(has(text_of(site, "souk-worker.service"), "\nDelegate=yes\n"));
  EXPECT_TRUE(has(text_of(site, "souk-worker.service"), "\nRestartSec=10\n"));
  for (const char* line : {"ProtectSystem", "ProtectHome", "PrivateTmp"}) EXPECT_FALSE(has(text_of(site, "souk-server.service"), line)) << "its folder may be anywhere";
}

TEST(ServerPlan, LeavesThreeCommands) {
  const auto commands = remaining_commands(some_site(ServerKind::prosody));
  ASSERT_EQ(commands.size(), 3u);
  EXPECT_EQ(commands[0], "sudo install -m 644 '/srv/my grid/souk-server.service' '/srv/my grid/souk-manager.service' /etc/systemd/system && sudo systemctl enable --now souk-server souk-manager");
  EXPECT_TRUE(has(commands[1], "server check"));
  EXPECT_TRUE(has(commands[2], "invite worker"));
}

TEST(ServerPlan, TakesOnlyDomainsThatNothingCanBeHiddenIn) {
  EXPECT_EQ(check_domain("Grid.Example.EDU").value(), "grid.example.edu");
  EXPECT_TRUE(check_domain("xn--bcher-kva.example"));
  for (const std::string bad : {"", "grid", ".", "a..b", "-a.b", "a-.b", "a.b/c", "a b.c", "a.b\nc", "a.\"b", "bücher.de", "a.b.", "a@b.c"}) EXPECT_FALSE(check_domain(bad)) << bad;
  EXPECT_FALSE(check_domain(std::string(64, 'a') + ".b"));
  EXPECT_FALSE(check_domain(std::string(300, 'a')));
}

TEST(ServerPlan, StartsEjabberdAsTheContainersDo) {
  std::ifstream file(SOUK_SOURCE_DIR "/docker/ejabberd");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_EQ(text.str(), kEjabberdStart);
}

}  // namespace
}  // namespace souk
