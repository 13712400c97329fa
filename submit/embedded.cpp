#include "submit/embedded.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cctype>

#include "protocol/quoting.h"
#include "submit/prosody_config.h"

namespace souk {
namespace {

bool plain(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'); }

bool allowed_in_name(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'; }

/// Names with a meaning of their own in the state folder or on the grid.
bool reserved(std::string_view name) { return name == kWorkerAccount || name == "manager"; }

constexpr std::size_t kNameMax = 64;

std::string render_profile(const EmbeddedGrid& grid, std::string_view comment, std::string_view jid, std::string_view password_file, bool component) {
  std::string text = fmt::format("# {}. Written by `souk up`, again at every start.\n", comment);
  text += fmt::format("jid = {}\n", toml_string(jid));
  text += fmt::format("password_file = {}\n", toml_string(password_file));
  if (component) text += "component = true\n";
  text += fmt::format("host = {}\n", toml_string(kLoopback));
  text += fmt::format("port = {}\n", component ? grid.ports.component : grid.ports.clients);
  text += fmt::format("manager = {}\n", toml_string(kManagerJid));
  text += fmt::format("room = {}\n", toml_string(grid.hosted ? kHostedRoom : kRoom));
  return text;
}

std::string at_domain(std::string_view user) { return fmt::format("{}@{}", user, kDomain); }

}  // namespace

std::filesystem::path Layout::account(std::string_view user) const {
  return server_data() / server_file_name(kDomain) / "accounts" / (server_file_name(user) + ".dat");
}

std::vector<ProgramPlan> plan(const EmbeddedGrid& grid, const ProgramPaths& programs) {
  const Layout at{grid.dir};
  std::vector<ProgramPlan> all;

  ProgramPlan server{.name = "server", .argv = {programs.server.string(), "-F", "--config", at.server_config().string()}, .log = at.log("server")};
  server.many_connections = true;
  all.push_back(std::move(server));

  ProgramPlan manager{.name = "manager", .argv = {programs.manager.string(), "--profile", at.profile("manager").string()}, .log = at.log("manager")};
  manager.argv.insert(manager.argv.end(), {"--state", (grid.dir / "manager").string()});
  for (const auto& jid : grid.admins) manager.argv.insert(manager.argv.end(), {"--admin", jid});
  // People live on the server's domain, the manager on its own below it, so its own default would let nobody in.
  if (!grid.policy.empty()) {
    // Its rules count; but the grid's own workers work, and who runs it may submit.
    manager.argv.insert(manager.argv.end(), {"--policy", grid.policy, "--allow-worker", at_domain(kWorkerAccount), "--allow", at_domain(grid.user)});
    for (const auto& who : grid.allowed) manager.argv.insert(manager.argv.end(), {"--allow", who});
  } else if (grid.allowed.empty()) {
    // Named, they are known for those of who runs the grid.
    manager.argv.insert(manager.argv.end(), {"--allow-worker", at_domain(kWorkerAccount), "--allow-worker", std::string(kDomain)});
    manager.argv.insert(manager.argv.end(), {"--allow", std::string(kDomain)});
  } else {
    manager.argv.insert(manager.argv.end(), {"--allow-worker", at_domain(kWorkerAccount), "--allow-worker", std::string(kDomain)});
    manager.argv.insert(manager.argv.end(), {"--allow", at_domain(grid.user)});
    for (const auto& who : grid.allowed) manager.argv.insert(manager.argv.end(), {"--allow", who});
  }
  for (const auto& share : grid.shares) manager.argv.insert(manager.argv.end(), {"--share", share});
  for (const auto& limit : grid.limits) manager.argv.insert(manager.argv.end(), {"--limit", limit});
  if (!grid.keep.empty()) manager.argv.insert(manager.argv.end(), {"--keep", grid.keep});
  if (!grid.memory_max.empty()) manager.argv.insert(manager.argv.end(), {"--memory-max", grid.memory_max});
  if (grid.lease_s > 0) manager.argv.insert(manager.argv.end(), {"--lease-s", fmt::format("{}", grid.lease_s)});
  if (grid.restored) manager.argv.push_back(std::string(kRestored));  // the last one: it is said once
  manager.notifies = true;
  manager.many_connections = true;
  all.push_back(std::move(manager));

  for (int number = 1; number <= grid.workers; ++number) {
    const std::string name = "worker-" + std::to_string(number);
    ProgramPlan worker{.name = name, .argv = {programs.worker.string(), "--profile", at.profile("worker").string()}, .log = at.log(name)};
    worker.argv.insert(worker.argv.end(), {"--slots", std::to_string(grid.slots), "--work", (grid.dir / "work" / name).string(), "--state",
                                                (grid.dir / "results" / name).string(), "--name", name, "--sandbox", grid.sandbox});
    if (grid.sandbox != "none") worker.argv.insert(worker.argv.end(), {"--owner", at_domain(grid.user)});
    for (const auto& service : grid.services) worker.argv.insert(worker.argv.end(), {"--service", service});
    all.push_back(std::move(worker));
  }
  return all;
}

std::string render_server_config(const EmbeddedGrid& grid, std::string_view component_secret) {
  const Layout at{grid.dir};
  ProsodySettings settings;
  settings.about = "Prosody as `souk up` runs it: private to this machine and to one grid. Written again at every start.";
  settings.data = at.server_data(), settings.certificates = at.certificate().parent_path(), settings.certificate = at.certificate(), settings.key = at.certificate_key();
  settings.domain = kDomain, settings.component_domain = kGridDomain, settings.component_secret = component_secret;
  settings.manager = kManagerJid.substr(0, kManagerJid.find('/'));
  settings.clients = grid.ports.clients, settings.component = grid.ports.component;
  settings.loopback = true, settings.rooms = grid.hosted, settings.root = grid.root;
  return render_prosody(settings);
}

std::string render_person_profile(const EmbeddedGrid& grid, std::string_view user, std::string_view password_file) {
  return render_profile(grid, fmt::format("{} on the grid of this machine", user), at_domain(user), password_file, false);
}

std::string render_worker_profile(const EmbeddedGrid& grid) {
  return render_profile(grid, "The workers of this grid", at_domain(kWorkerAccount), "worker.password", false);
}

std::string render_manager_profile(const EmbeddedGrid& grid) { return render_profile(grid, "The manager of this grid", kGridDomain, "manager.password", true); }

std::string render_account(const ScramKeys& keys) {
  const auto hex = [](std::string_view bytes) {
    std::string text;
    for (const char c : bytes) text += fmt::format("{:02x}", static_cast<unsigned char>(c));
    return text;
  };
  return fmt::format("return {{\n\t[\"stored_key\"] = {};\n\t[\"server_key\"] = {};\n\t[\"salt\"] = {};\n\t[\"iteration_count\"] = {};\n}};\n",
                     lua_string(hex(keys.stored_key)), lua_string(hex(keys.server_key)), lua_string(keys.salt), keys.iterations);
}

std::string server_file_name(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (plain(c)) out += c;
    else out += fmt::format("%{:02x}", static_cast<unsigned char>(c));
  }
  return out;
}

std::string account_name(std::string_view unix_user) {
  std::string name;
  for (const char c : unix_user) {
    const char lower = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    if (allowed_in_name(lower)) name += lower;
  }
  while (!name.empty() && !plain(name.front())) name.erase(0, 1);
  if (name.size() > kNameMax) name.resize(kNameMax);
  if (name.empty() || reserved(name)) name = "owner";
  return name;
}

Result<std::string> check_account_name(std::string_view name) {
  const auto refuse = [&](const std::string& why) -> Result<std::string> {
    const std::string near = account_name(name);
    const std::string rule = "use 1 to 64 of a-z, 0-9, '.', '_' and '-', beginning with a letter or digit";
    return Error{fmt::format("cannot use '{}' as an account name", name), why, near == "owner" || near == name ? rule : fmt::format("{}: for example '{}'", rule, near)};
  };
  if (name.empty()) return refuse("it is empty");
  if (name.size() > kNameMax) return refuse(fmt::format("it has {} characters", name.size()));
  if (!std::all_of(name.begin(), name.end(), allowed_in_name)) return refuse("it has characters an address cannot hold");
  if (!plain(name.front())) return refuse(fmt::format("it begins with '{}'", name.front()));
  if (reserved(name)) return Error{fmt::format("cannot use '{}' as an account name", name), "the grid itself uses it", "choose another name"};
  return std::string(name);
}

}  // namespace souk
