#include "submit/server_check.h"

#include <gloox/tag.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <ctime>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "protocol/certificate_names.h"
#include "protocol/stanza.h"
#include "submit/conversation.h"
#include "submit/stranger.h"

namespace souk {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Level = Finding::Level;

constexpr auto kAccountMax = 60s;  // for all that is looked at with one account; a server as it should be takes a second
constexpr std::size_t kNeeded = 140'000, kRoomy = 400'000, kLarge = 50'000;  // bytes of a stanza: 96 KiB as base64 and some; what leaves room; what one batch has

std::vector<std::string> mechanisms_in(const gloox::Tag& features) {
  std::vector<std::string> all;
  if (const auto* list = features.findChild("mechanisms"))
    for (const auto* one : list->children())
      if (one->name() == "mechanism" && all.size() < 50) all.push_back(printable(shortened(one->cdata(), 60)));
  return all;
}

std::string joined(const std::vector<std::string>& words) {
  std::string all;
  for (const auto& word : words) all += (all.empty() ? "" : ", ") + word;
  return all;
}

void look_at_certificate(const ServerToCheck& server, SSL* tls, std::vector<Finding>& all) {
  X509* const certificate = SSL_get0_peer_certificate(tls);
  if (certificate == nullptr) return all.push_back({Level::wrong, "tls-chain", "the server shows no certificate", "give it one for " + server.domain});
  const long verified = SSL_get_verify_result(tls);
  if (verified == X509_V_OK) all.push_back({Level::ok, "tls-chain", fmt::format("trusted, by {}", server.ca_file.empty() ? "an authority of this system" : server.ca_file), ""});
  else
    all.push_back({Level::wrong, "tls-chain", std::string("not trusted: ") + X509_verify_cert_error_string(verified),
                   server.ca_file.empty() ? "an authority of your own? name it: --ca-file FILE. A public one? the server's file must have all certificates between its own and the authority"
                                          : "does " + server.ca_file + " have the authority that issued it? the server's file must have all certificates between the two"});
  if (X509_check_host(certificate, server.domain.c_str(), server.domain.size(), kCertificateNameFlags, nullptr) == 1) all.push_back({Level::ok, "tls-name", "the certificate is for " + server.domain, ""});
  else all.push_back({Level::wrong, "tls-name", "the certificate is not for " + server.domain, "get one that names it in subjectAltName; the name of the domain counts, not that of the machine"});
  int days = 0, seconds = 0;
  if (ASN1_TIME_diff(&days, &seconds, nullptr, X509_get0_notAfter(certificate)) == 1) all.push_back(judge_days(seconds < 0 && days == 0 ? -1 : days));
}

/// What a server can do: whatever is busy between here and there only adds to it.
double fastest(const std::vector<double>& values) { return values.empty() ? 0 : *std::min_element(values.begin(), values.end()); }

/// Seconds that `jid`'s clock is ahead of ours; nothing: it tells no time (XEP-0202).
std::optional<std::pair<double, double>> clock_of(Conversation& server, const std::string& jid) {
  auto iq = element("iq", {}, {{"type", "get"}, {"to", jid}});
  child(*iq, "time", "urn:xmpp:time");
  const double before = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  const auto heard = server.ask(std::move(iq), 5s);
  const auto* time = heard ? heard.iq->findChild("time") : nullptr;
  const auto* utc = time ? time->findChild("utc") : nullptr;
  tm parts{};
  if (!utc || ::strptime(utc->cdata().c_str(), "%Y-%m-%dT%H:%M:%S", &parts) == nullptr) return std::nullopt;
  const double trip = heard.took.count() / 1000;
  // It is told in whole seconds by most: between that second and the next, somewhere within the round trip.
  return std::pair{static_cast<double>(::timegm(&parts)) + 0.5 - (before + trip / 2), 0.5 + trip / 2};
}

/// A message of so many bytes to ourselves; how long it took in ms, or nothing.
std::optional<double> there_and_back(Conversation& server, std::size_t bytes, std::chrono::milliseconds most) {
  static int number = 0;
  const std::string id = "check" + std::to_string(++number);
  bool back = false;
  const auto listening = server.link().on_message([&](const gloox::Tag& message) { back = back || message.findAttribute("id") == id; });
  auto message = element("message", {}, {{"to", server.link().jid()}, {"id", id}});
  // Letters that a compressing line cannot make small, and XML not larger.
  std::string text(bytes, 'a');
  std::uint32_t state = 2463534242u;
  for (char& c : text) {
    state ^= state << 13, state ^= state >> 17, state ^= state << 5;
    c = static_cast<char>('a' + state % 26);
  }
  child(*message, "check", "urn:souk:check:1", {}, text);
  const auto began = Clock::now();
  server.link().send(std::move(message));
  if (!server.wait([&] { return back || !server.up(); }, most) || !back) return std::nullopt;
  return std::chrono::duration<double, std::milli>(Clock::now() - began).count();
}

void look_inside(const ServerToCheck& server, const Account& account, bool first, std::vector<Finding>& all) {
  Conversation inside(account);
  const auto end = Clock::now() + kAccountMax;
  const auto at_most = [&](std::chrono::milliseconds most) { return std::clamp(std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()), 0ms, most); };
  const auto over = [&] {
    if (Clock::now() < end) return false;
    all.push_back({Level::wrong, "time", fmt::format("after {} s not all had been looked at: what is missing here", std::chrono::seconds(kAccountMax).count()), "the line, or the server, is too slow for a grid: try it from another place; its log may tell more"});
    return true;
  };
  if (const auto done = inside.open(); !done) return all.push_back({Level::wrong, "login", bare(account.jid) + ": " + done.error().why, done.error().remedy});
  all.push_back({Level::ok, "login", bare(account.jid) + " logged in", ""});
  if (!first) return;

  std::vector<double> small, large;
  for (int i = 0; i < 15 && inside.up(); ++i)
    if (const auto took = there_and_back(inside, 200, at_most(10s))) small.push_back(*took);
  for (int i = 0; i < 15 && inside.up(); ++i) {
    const auto took = there_and_back(inside, kLarge, at_most(20s));
    if (!took) break;
    large.push_back(*took);
    if (*took > 2000) break;
  }
  if (large.empty())
    all.push_back({Level::wrong, "round-trip", fmt::format("{} bytes do not come back within 20 s{}", kLarge, inside.up() ? "" : ": the server closed the stream (" + inside.stream_error() + ")"),
                   "raise its limits: stanza size (1048576 bytes) and rate (none for the grid's accounts)"});
  else all.push_back(judge_round_trip(fastest(small), fastest(large), kLarge));

  std::size_t passed = large.empty() ? 0 : kLarge, refused = 0;
  for (const std::size_t bytes : {kNeeded, kRoomy}) {
    if (large.empty() || fastest(large) > 2000) break;  // a rate limit would be measured, not a size
    if (!inside.up() || !there_and_back(inside, bytes, at_most(20s))) {
      refused = bytes;
      break;
    }
    passed = bytes;
  }
  if (passed > 0) all.push_back(judge_stanza(passed, refused));
  if (!inside.up()) {
    inside.wait([] { return false; }, 1500ms);
    if (!inside.up() && !inside.open()) return all.push_back({Level::wrong, "login", "the server lets " + bare(account.jid) + " in no more after that", "see its log"});
  }

  if (over()) return;
  std::string rooms, uploads;
  std::uint64_t upload_max = 0;
  for (const auto& [jid, info] : inside.infos(inside.items(server.domain, at_most(10s)), at_most(3s))) {
    if (!info) continue;
    if (std::find(info->features.begin(), info->features.end(), ns::grid) != info->features.end()) continue;  // a manager's own market
    for (const auto& identity : info->identities)
      if (identity.category == "conference" && identity.type == "text" && (rooms.empty() || jid == "rooms." + server.domain)) rooms = jid;
    for (const auto& feature : info->features)
      if (feature == "urn:xmpp:http:upload:0") uploads = jid;
    for (const auto& form : info->forms)
      if (const auto size = form.text("max-file-size"); !size.empty()) upload_max = std::strtoull(std::string(size).c_str(), nullptr, 10);
  }
  if (!rooms.empty()) all.push_back({Level::ok, "rooms", rooms + " has rooms", ""});
  else all.push_back({Level::warning, "rooms", "the server lists no room service (XEP-0045)", "only a hosted marketplace needs one: add a MUC component. A served one (souk server init) does not"});
  if (!uploads.empty()) all.push_back({Level::ok, "uploads", fmt::format("{} takes files{}", uploads, upload_max > 0 ? fmt::format(" up to {} MiB", upload_max >> 20) : std::string()), ""});
  else all.push_back({Level::warning, "uploads", "the server lists no HTTP upload (XEP-0363)", "nothing of a grid needs it yet; chat clients do for pictures"});

  if (over()) return;
  const auto manager = find_manager(inside, server.domain, server.manager);
  if (manager) all.push_back({Level::ok, "manager", manager.value().manager + " answers; its market is " + manager.value().room, ""});
  else
    all.push_back({Level::wrong, "manager", manager.error().why,
                   "start it: systemctl start souk-manager. It runs? its log tells whether the server takes it: the component's name and secret, its port (5347) on the server's loopback"});

  if (const auto clock = clock_of(inside, server.domain)) all.push_back(judge_clock(clock->first, clock->second));
  else all.push_back({Level::warning, "clock", "the server does not tell its time (XEP-0202)", "add its `time` module, to have the clocks compared here"});
}

}  // namespace

Finding judge_days(long days) {
  if (days < 0) return {Level::wrong, "tls-days", "the certificate has expired", "renew it, and have the server read it again"};
  const std::string what = fmt::format("the certificate is good for {} more day{}", days, days == 1 ? "" : "s");
  if (days < 14) return {Level::warning, "tls-days", what, "renew it in time, and have the server read it again: after that no worker gets in"};
  return {Level::ok, "tls-days", what, ""};
}

Finding judge_mechanisms(const std::vector<std::string>& before_tls, const std::vector<std::string>& offered) {
  const auto has = [](const std::vector<std::string>& all, const char* name) { return std::find(all.begin(), all.end(), name) != all.end(); };
  if (has(before_tls, "PLAIN"))
    return {Level::wrong, "mechanisms", "passwords are taken without encryption (PLAIN before TLS)", "Prosody: c2s_require_encryption = true; ejabberd: starttls_required: true"};
  if (has(offered, "SCRAM-SHA-1") || has(offered, "SCRAM-SHA-1-PLUS")) return {Level::ok, "mechanisms", joined(offered), ""};
  if (has(offered, "PLAIN")) return {Level::warning, "mechanisms", joined(offered) + ": the server sees every password", "offer SCRAM-SHA-1; Prosody: authentication = \"internal_hashed\""};
  return {Level::wrong, "mechanisms", offered.empty() ? "the server offers no way to log in" : joined(offered) + ": none that a worker knows", "offer SCRAM-SHA-1"};
}

Finding judge_round_trip(double small_ms, double large_ms, std::size_t large_bytes) {
  const std::string what = fmt::format("{} kB there and back in {:.1f} ms, {:.1f} ms for a small stanza", large_bytes / 1000, large_ms, small_ms);
  if (large_ms - small_ms > 2000)
    return {Level::wrong, "round-trip", what, "the server limits the rate: Prosody: leave out the `limits` module; ejabberd: shaper: none on the listener. Or the line is very slow"};
  // Untuned: a pause of 1 ms after each 8 KB that is read, at least, and waiting for acknowledgements. Far away: TCP takes some round trips to begin.
  if (large_ms - small_ms > 6 + 4 * small_ms)
    return {Level::warning, "round-trip", what,
            fmt::format("Prosody's sockets are not tuned: network_settings = {{ min_wait = 0; read_retry_delay = 0; nagle = false; tcp_backlog = 1024 }}. Or the line carries no more than {:.0f} Mbit/s",
                        static_cast<double>(large_bytes) * 16 / 1000 / (large_ms - small_ms))};
  return {Level::ok, "round-trip", what, ""};
}

Finding judge_clock(double off_s, double uncertain_s) {
  const double least = std::max(0.0, std::abs(off_s) - uncertain_s);
  if (least < 2) return {Level::ok, "clock", "the server's clock and this one agree within 2 s", ""};
  const std::string what = fmt::format("the server's clock is {:.0f} s {} of this one", std::abs(off_s), off_s > 0 ? "ahead" : "behind");
  return {least < 60 ? Level::warning : Level::wrong, "clock", what, "let both follow a time server (timedatectl set-ntp true): deadlines, times of day and certificates go by them"};
}

Finding judge_stanza(std::size_t passed_bytes, std::size_t refused_bytes) {
  if (refused_bytes == 0) return {Level::ok, "stanza-size", fmt::format("stanzas of {} kB pass", passed_bytes / 1000), ""};
  const std::string what = fmt::format("stanzas of {} kB do not pass, of {} kB do", refused_bytes / 1000, passed_bytes / 1000);
  const char* const remedy = "Prosody: c2s_stanza_size_limit = 1048576; ejabberd: max_stanza_size: 1048576 on the listener";
  return refused_bytes <= kNeeded ? Finding{Level::wrong, "stanza-size", what + ": batches of a grid have up to 140 kB", remedy} : Finding{Level::warning, "stanza-size", what + ": enough, with little room", remedy};
}

std::vector<Finding> check_server(const ServerToCheck& server) {
  std::vector<Finding> all;
  Stranger stranger({server.domain, server.host, server.port, server.ca_file, server.proxy}, server.step);
  const std::string where = fmt::format("{}:{}", server.host.empty() ? server.domain : server.host, server.port);
  const auto began = Clock::now();
  if (const std::string why = stranger.connect(); !why.empty()) {
    all.push_back({Level::wrong, "connection", where + ": " + printable(why), "does the server run, and do firewalls let port " + std::to_string(server.port) + " through? another machine: --host NAME"});
    return all;
  }
  all.push_back({Level::ok, "connection", fmt::format("{} answers in {:.1f} ms{}", where, std::chrono::duration<double, std::milli>(Clock::now() - began).count(), server.proxy.empty() ? "" : " through " + server.proxy), ""});
  const gloox::Tag* features = stranger.features();
  if (features == nullptr) {
    all.push_back({Level::wrong, "encryption", "what answers opens no XMPP stream for " + server.domain, "is it an XMPP server, and does it serve that domain? (Prosody: VirtualHost, ejabberd: hosts)"});
    return all;
  }
  const auto before = mechanisms_in(*features);
  const auto* starttls = features->findChild("starttls");
  if (starttls == nullptr) {
    all.push_back({Level::wrong, "encryption", "the server offers no TLS", "give it a certificate; Prosody: ssl = { certificate, key } and the module tls; ejabberd: certfiles and starttls_required: true"});
    return all;
  }
  const bool required = starttls->findChild("required") != nullptr;
  if (const std::string why = stranger.secure(); !why.empty()) {
    all.push_back({Level::wrong, "encryption", why, "see the server's log: key and certificate must be readable for it and belong together"});
    return all;
  }
  if (required) all.push_back({Level::ok, "encryption", std::string(SSL_get_version(stranger.tls())) + ", required", ""});
  else all.push_back({Level::warning, "encryption", std::string(SSL_get_version(stranger.tls())) + ", but not required", "Prosody: c2s_require_encryption = true; ejabberd: starttls_required: true"});
  look_at_certificate(server, stranger.tls(), all);
  features = stranger.features();
  all.push_back(judge_mechanisms(before, features ? mechanisms_in(*features) : std::vector<std::string>{}));
  if (features && features->findChild("register", "xmlns", "http://jabber.org/features/iq-register") != nullptr)
    all.push_back({Level::warning, "registration", "anybody may make an account", "leave out in-band registration (Prosody: register_ibr; ejabberd: mod_register): `souk invite` makes accounts for whom you ask"});
  if (std::any_of(all.begin(), all.end(), [](const Finding& f) { return f.level == Level::wrong && f.about.starts_with("tls-"); })) {
    if (!server.accounts.empty()) all.push_back({Level::warning, "login", "not tried: no password goes to a server that is not trusted", "repair the certificate first"});
    return all;
  }
  bool first = true;
  for (Account account : server.accounts) {
    if (account.host.empty()) account.host = server.host;
    account.port = server.port;
    if (account.ca_file.empty()) account.ca_file = server.ca_file;
    if (account.proxy.empty()) account.proxy = server.proxy;
    look_inside(server, account, std::exchange(first, false), all);
  }
  if (server.accounts.empty()) all.push_back({Level::warning, "login", "not tried: no account is given", "with one, limits, rooms, manager and clock are looked at too: --as USER@" + server.domain + " --password-file FILE"});
  return all;
}

std::string render_findings(const std::vector<Finding>& findings, bool json) {
  constexpr const char* names[] = {"ok", "warning", "wrong"};
  std::string text;
  for (const auto& finding : findings) {
    const char* const level = names[static_cast<int>(finding.level)];
    if (json) {
      const nlohmann::json line = {{"level", level}, {"about", finding.about}, {"what", finding.what}, {"remedy", finding.remedy}};
      text += line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
    } else {
      text += fmt::format("{:8} {:13} {}\n", level, finding.about, finding.what);
      if (!finding.remedy.empty()) text += fmt::format("{:22} {}\n", "", finding.remedy);
    }
  }
  return text;
}

}  // namespace souk
