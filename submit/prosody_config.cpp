#include "submit/prosody_config.h"

#include <spdlog/fmt/fmt.h>

namespace souk {

std::string render_prosody(const ProsodySettings& s) {
  const auto text = [](const auto& value) { return lua_string(std::string_view(value)); };
  std::string out = fmt::format("-- {}\n", s.about);
  out += fmt::format("data_path = {}\numask = \"077\"\n", text(s.data.string()));
  if (!s.pidfile.empty()) out += fmt::format("pidfile = {}\n", text(s.pidfile.string()));
  if (s.root) out += "run_as_root = true\n";
  const std::string certificate = fmt::format("{{ certificate = {}; key = {} }}", text(s.certificate.string()), text(s.key.string()));
  out += fmt::format("certificates = {}\nssl = {}\n", text(s.certificates.string()), certificate);
  if (s.loopback) out += "interfaces = { \"127.0.0.1\" }; local_interfaces = { \"127.0.0.1\" }\n";
  out += fmt::format("c2s_ports = {{ {} }}; component_ports = {{ {} }}\n", s.clients, s.component);
  out += "-- A component's stream knows no encryption (XEP-0114), so it is taken from this machine alone.\ncomponent_interfaces = { \"127.0.0.1\" }\n";
  out += s.uploads == 0 ? "https_ports = {}\n" : fmt::format("https_ports = {{ {} }}; https_ssl = {}\n", s.uploads, certificate);
  out += "c2s_direct_tls_ports = {}; legacy_ssl_ports = {}; s2s_ports = {}; s2s_direct_tls_ports = {}; http_ports = {}\n";
  // On loopback our own programs go without: nothing leaves this machine, and passwords do not cross it (SCRAM). Chat clients may want it.
  out += fmt::format("c2s_require_encryption = {}; allow_unencrypted_plain_auth = false\n", !s.loopback);
  out +=
      "-- Without these, batches of 64 tasks fall from 80,000 to 5,000 tasks a second, and one task takes 80 ms instead of 24.\n"
      "network_settings = { min_wait = 0; read_retry_delay = 0; nagle = false; tcp_backlog = 1024 }\n"
      "-- By default a collection begins as soon as the last one ends (threshold 105), which is a third of what a busy server does; this lets its memory double between two.\n"
      "gc = { mode = \"incremental\"; threshold = 200; speed = 500 }\n"
      "-- It keeps what it knows of a connection that long, also of one that has ended: with 300 s, 300 workers that come and go all the time held 30 MiB.\n"
      "c2s_timeout = 60\n"
      "-- Four times what one stanza of a grid holds, so that no batch ever costs a stream. No `limits` module: it allows 22 stanzas a second.\n"
      "c2s_stanza_size_limit = 1048576; component_stanza_size_limit = 1048576\n";
  // `offline` and `roster` for people's chat clients: the outcome of a job reaches an owner who is away.
  out += fmt::format("modules_enabled = {{ \"saslauth\", \"tls\", \"disco\", \"ping\", \"time\", \"roster\", \"offline\", \"presence\", \"message\", \"iq\"{} }}\n", s.accounts ? ", \"admin_adhoc\"" : "");
  out +=
      "modules_disabled = { \"s2s\", \"s2s_auth_certs\", \"limits\" }\n"
      "authentication = \"internal_hashed\"; storage = \"internal\"\n"
      "log = { { levels = { min = \"info\" }, to = \"console\", timestamps = true } }\n";
  out += fmt::format("\nVirtualHost {}\n", text(s.domain));
  if (s.accounts) out += fmt::format("  -- The manager makes the accounts of those who come with an invitation, and takes them away (XEP-0133).\n  admins = {{ {} }}\n", text(s.manager));
  if (s.rooms)
    out += fmt::format("\n-- Only the manager makes rooms, or somebody else could own the marketplace before it does.\nComponent {} \"muc\"\n  name = \"Rooms\"\n  restrict_room_creation = true\n  admins = {{ {} }}\n",
                       text("rooms." + s.domain), text(s.manager));
  if (s.uploads != 0) {
    out += fmt::format("\nComponent {} \"http_file_share\"\n  http_host = {}\n  http_external_url = {}\n", text("upload." + s.domain), text(s.domain), text(fmt::format("https://{}:{}/", s.domain, s.uploads)));
    out += fmt::format("  http_file_share_size_limit = {}; http_file_share_daily_quota = {}; http_file_share_expires_after = 7 * 86400\n  http_file_share_global_quota = {}\n", kUploadMax, kUploadMax * 4, kUploadMax * 16);
    out += fmt::format("  http_file_share_access = {{ {} }}\n", text(s.domain));
  }
  return out + fmt::format("\nComponent {}\n  component_secret = {}\n", text(s.component_domain), text(s.component_secret));
}

std::string lua_string(std::string_view bytes) {
  std::string text = "\"";
  for (const char c : bytes) {
    if (c == '"' || c == '\\') {
      text += '\\';
      text += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      text += fmt::format("\\{:03}", static_cast<unsigned char>(c));  // three digits, so that a digit may follow (Lua §3.1)
    } else {
      text += c;  // bytes above ASCII stand for themselves
    }
  }
  return text + '"';
}

}  // namespace souk
