// The way through a proxy: HTTP CONNECT (RFC 9110 §9.3.6) or SOCKS5 (RFC 1928). Pure: bytes in, bytes out, every answer bounded.
// The proxy is told the server's name, not its address: behind some firewalls only the proxy can look names up. TLS runs inside, so a proxy sees and changes nothing.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

#include "protocol/result.h"

namespace souk {

struct Proxy {
  enum class Kind { http, socks5 } kind = Kind::http;
  std::string host;
  std::uint16_t port = 0;
  std::string text() const;  // as parse_proxy() reads it
};

/// Reads `http://HOST:PORT` or `socks5://HOST:PORT`; an IPv6 address stands in brackets. Without a port: 3128 and 1080.
/// fails: on other schemes, on names and passwords (a command line is for everybody to see), on anything behind the port
Result<Proxy> parse_proxy(std::string_view text);

/// The handshake for one connection.
///   SOCKS5: greeting -> method -> request -> reply;  HTTP: request -> status and header
class ProxyHandshake {
 public:
  enum class State { more, open, failed };
  static constexpr std::size_t kAnswerMax = 8192;  // bytes of a proxy's answers, all headers together; more: failed

  /// host: of the server beyond, a name of at most 255 bytes or an address
  ProxyHandshake(Proxy proxy, std::string host, std::uint16_t port);

  /// What to send first; empty when it has failed already (a name that no proxy takes).
  std::string start();
  /// Takes what came. `reply` is then what to send next, if anything. After `open`, rest() is what came behind the answer and belongs to the server.
  State feed(std::string_view bytes, std::string& reply);
  const std::string& rest() const { return unread_; }
  /// Why it failed, for people.
  const std::string& problem() const { return problem_; }

 private:
  State fail(std::string why);
  State feed_http();
  State feed_socks(std::string& reply);

  const Proxy proxy_;
  const std::string host_;
  const std::uint16_t port_;
  std::string unread_, problem_;
  std::size_t taken_ = 0;
  enum class Stage { method, reply } stage_ = Stage::method;
  State state_ = State::more;
};

}  // namespace souk
