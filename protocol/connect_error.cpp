#include "protocol/connect_error.h"

#include <utility>

#include "protocol/form.h"

namespace souk {
namespace {

// The server's own words, made fit for one line.
std::string said(const Downfall& fall) {
  std::string words = fall.condition.empty() ? "no reason given" : printable(fall.condition).substr(0, 80);
  if (!fall.text.empty()) words += ", '" + printable(fall.text).substr(0, 200) + "'";
  return words;
}

Verdict stream_error(const Downfall& fall, const std::string& what, const std::string& where) {
  const bool before = !fall.was_up;
  if (fall.condition == "not-authorized" && fall.component && before)
    return {{what, "the server refused the secret of component " + fall.domain,
             "the password must be the component_secret that the server's configuration gives to " + fall.domain}, true};
  if (fall.condition == "conflict" && fall.component)
    return {{what, "the server has a connection as component " + fall.domain + " already: of another program, or this one's own last one, which it has not given up yet",
             "stop the other program if there is one; trying again"}, false};
  if (fall.condition == "conflict")
    return {{what, "another session logged in as " + fall.user + " and took over", "give each program its own resource; trying again"}, false};
  if (fall.condition == "host-unknown" || fall.condition == "host-gone")
    return {{what, "the server at " + where + " does not serve " + fall.domain + " (" + said(fall) + ")",
             fall.component ? "add a Component of that name with its secret to the server's configuration, or correct `jid`"
                            : "correct the domain of `jid`, or `host`"},
            false};
  if (fall.condition == "policy-violation")
    return {{what, "the server closed the stream: " + said(fall), "its limits for stanza size or rate may be too low; trying again"}, false};
  if (fall.condition == "system-shutdown") return {{what, "the server is shutting down", "trying again"}, false};
  return {{what, "the server closed the stream: " + said(fall), "the server's log may tell more; trying again"}, false};
}

}  // namespace

Verdict judge(const Downfall& fall) {
  const std::string where = fall.host + ":" + std::to_string(fall.port);
  const std::string what = fall.was_up ? "lost the connection to " + where + " as " + fall.user
                                       : "cannot connect to " + where + " as " + fall.user;
  const auto or_else = [](const std::string& text, const char* other) { return text.empty() ? std::string(other) : text; };
  switch (fall.reason) {
    case gloox::ConnDnsError:
      return {{what, "the address of '" + fall.host + "' cannot be found (" + fall.socket_problem + ")",
               "correct `host`, or the domain of `jid` if there is none"}, false};
    case gloox::ConnConnectionRefused:
      return {{what, or_else(fall.socket_problem, "connection refused"), "is the server running there? check `host` and `port`"}, false};
    case gloox::ConnTlsFailed:
      if (fall.untrusted)
        return {{what, "the server's certificate is not valid for " + fall.domain + ": " + fall.tls_problem,
                 "`ca_file` must name the authority that issued it, and it must name " + fall.domain}, true};
      return {{what, "TLS failed: " + or_else(fall.tls_problem, "the server broke off"), "trying again"}, false};
    case gloox::ConnTlsNotAvailable:
      return {{what, "the server offers no TLS", "enable TLS in the server; without it only loopback addresses are allowed"}, true};
    case gloox::ConnNoSupportedAuth:
      return {{what, fall.tls ? "the server offers no way to log in that we know (SCRAM-SHA-1, PLAIN)"
                              : "the server offers no way to log in without TLS that we use (SCRAM-SHA-1)",
               fall.tls ? "enable SCRAM-SHA-1 for " + fall.domain + " in the server"
                        : "if it requires TLS, set `ca_file` to the authority that issued its certificate"}, true};
    case gloox::ConnAuthenticationFailed:
      if (fall.condition == "temporary-auth-failure" || fall.condition == "aborted")
        return {{what, "the server could not check the password just now (" + said(fall) + ")", "trying again"}, false};
      if (fall.condition == "account-disabled" || fall.condition == "credentials-expired")
        return {{what, "the account cannot be used (" + said(fall) + ")", "ask whoever runs " + fall.domain}, true};
      if (fall.condition.empty())
        return {{what, "the server could not prove that it knows the password", "this may be an impostor: check `host` and `port`"}, true};
      return {{what, "wrong user name or password (" + said(fall) + ")", "correct `jid` or the password file"}, true};
    case gloox::ConnStreamError: return stream_error(fall, what, where);
    case gloox::ConnStreamVersionError:
      return {{what, "what answers there is no XMPP 1.0 server", "check `host` and `port`"}, false};
    case gloox::ConnStreamClosed:
      return {{what, or_else(fall.socket_problem, "the server closed the stream"),
               fall.was_up ? "trying again" : "is it an XMPP server? check `host` and `port`; trying again"}, false};
    default: return {{what, or_else(fall.socket_problem, "the connection broke"), "trying again"}, false};
  }
}

}  // namespace souk
