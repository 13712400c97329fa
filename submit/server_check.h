// Looks at an XMPP server from outside, as a worker or a user would meet it, and explains what it finds.
#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "protocol/result.h"
#include "protocol/xmpp_link.h"

namespace souk {

struct Finding {
  enum class Level { ok, warning, wrong } level = Level::ok;
  std::string about;   // one word, for scripts: connection, tls-chain, tls-name, tls-days, encryption, mechanisms, registration, login, stanza-size, round-trip, rooms, uploads, manager, clock, time
  std::string what;    // a fact, with its figure
  std::string remedy;  // what to do; empty when all is well
};

struct ServerToCheck {
  std::string domain, host;  // host: to dial; empty: the domain
  std::uint16_t port = 5222;
  std::string ca_file, proxy;
  std::string manager;            // to look for; empty: what the server lists
  std::vector<Account> accounts;  // to log in with; none: only what a stranger sees
  std::chrono::milliseconds step{10'000};  // for each thing that a stranger asks
};

std::vector<Finding> check_server(const ServerToCheck& server);

/// Thresholds, pure. Times in ms.
Finding judge_days(long days);
Finding judge_mechanisms(const std::vector<std::string>& before_tls, const std::vector<std::string>& offered);
Finding judge_round_trip(double small_ms, double large_ms, std::size_t large_bytes);
Finding judge_clock(double off_s, double uncertain_s);
Finding judge_stanza(std::size_t passed_bytes, std::size_t refused_bytes);

/// For people, or a line of JSON for each.
std::string render_findings(const std::vector<Finding>& findings, bool json);

}  // namespace souk
