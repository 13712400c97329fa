// Why a link is down, for people: what happened, why, and what to do about it. No state, no sockets.
#pragma once
#include <gloox/gloox.h>

#include <cstdint>
#include <string>

#include "protocol/result.h"

namespace souk {

/// What is known about the end of one connection.
struct Downfall {
  gloox::ConnectionError reason = gloox::ConnNoError;
  bool component = false, was_up = false, tls = false;  // tls: it was required
  bool untrusted = false;                               // the server's certificate was refused
  std::string domain, user, host;                       // user: who logs in
  std::uint16_t port = 0;
  std::string socket_problem, tls_problem;
  std::string condition, text;  // of the stream error (RFC 6120 §4.9.3) or of the SASL failure (§6.5)
};

struct Verdict {
  Error error;
  bool final = false;  // trying again would not help
};

Verdict judge(const Downfall& fall);

}  // namespace souk
