#include "protocol/proxy.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

#include "protocol/form.h"

namespace souk {
namespace {

constexpr std::size_t kNameMax = 255;  // RFC 1928 §5: its length is one octet

bool plain_name(std::string_view name) {
  return !name.empty() && name.size() <= kNameMax &&
         std::all_of(name.begin(), name.end(), [](unsigned char c) { return c > ' ' && c < 0x7f && c != '/' && c != '@' && c != '[' && c != ']' && c != '"' && c != '\\'; });
}

bool digit(char c) { return c >= '0' && c <= '9'; }

/// HOST, with brackets where a colon would be taken for that before a port.
std::string bracketed(const std::string& host) { return host.find(':') == std::string::npos ? host : "[" + host + "]"; }

const char* socks_failure(unsigned char code) {  // RFC 1928 §6
  switch (code) {
    case 1: return "general failure";
    case 2: return "its rules do not allow it";
    case 3: return "network unreachable";
    case 4: return "host unreachable";
    case 5: return "connection refused";
    case 6: return "it took too long";
    case 7: return "it makes no connections";
    case 8: return "it does not know that kind of address";
    default: return "a reason that no standard has";
  }
}

}  // namespace

std::string Proxy::text() const { return (kind == Kind::http ? "http://" : "socks5://") + bracketed(host) + ":" + std::to_string(port); }

Result<Proxy> parse_proxy(std::string_view text) {
  const auto bad = [&](std::string why) {
    const auto at = text.rfind('@');  // nothing of a password is shown again
    return Error{"cannot use the proxy '" + printable(shortened(at == text.npos ? text : text.substr(at + 1), 100)) + "'", std::move(why), "write http://HOST:PORT or socks5://HOST:PORT"};
  };
  Proxy proxy;
  std::string_view rest = text;
  if (rest.starts_with("http://")) rest.remove_prefix(7), proxy.port = 3128;
  else if (rest.starts_with("socks5://")) rest.remove_prefix(9), proxy.kind = Proxy::Kind::socks5, proxy.port = 1080;
  else if (rest.starts_with("socks5h://")) rest.remove_prefix(10), proxy.kind = Proxy::Kind::socks5, proxy.port = 1080;  // curl's word for what we always do
  else return bad("it begins with neither http:// nor socks5://");
  if (rest.find('@') != rest.npos) return bad("a proxy that asks for a name and password cannot be used");
  if (rest.ends_with('/')) rest.remove_suffix(1);
  std::string_view port;
  if (rest.starts_with('[')) {
    const auto end = rest.find(']');
    if (end == rest.npos) return bad("a bracket is not closed");
    proxy.host = rest.substr(1, end - 1);
    in6_addr ignored{};
    if (::inet_pton(AF_INET6, proxy.host.c_str(), &ignored) != 1) return bad("what stands in brackets is no IPv6 address");
    port = rest.substr(end + 1);
    if (!port.empty() && port.front() != ':') return bad("something else than a port follows the address");
  } else {
    const auto colon = rest.find(':');
    proxy.host = rest.substr(0, colon);
    if (colon != rest.npos) port = rest.substr(colon);
    if (!plain_name(proxy.host)) return bad(proxy.host.empty() ? "it names no host" : "its host is no name");
  }
  if (!port.empty()) {
    port.remove_prefix(1);
    const auto [end, failure] = std::from_chars(port.data(), port.data() + port.size(), proxy.port);
    if (failure != std::errc{} || end != port.data() + port.size() || proxy.port == 0) return bad("its port is no whole number from 1 to 65535");
  }
  return proxy;
}

ProxyHandshake::ProxyHandshake(Proxy proxy, std::string host, std::uint16_t port) : proxy_(std::move(proxy)), host_(std::move(host)), port_(port) {}

ProxyHandshake::State ProxyHandshake::fail(std::string why) {
  problem_ = "proxy " + proxy_.text() + ": " + std::move(why);
  return state_ = State::failed;
}

std::string ProxyHandshake::start() {
  if (!plain_name(host_)) {
    fail("no proxy takes the name of that server");
    return {};
  }
  if (proxy_.kind == Proxy::Kind::socks5) return {"\x05\x01\x00", 3};  // one method: no authentication
  const std::string where = bracketed(host_) + ":" + std::to_string(port_);
  return "CONNECT " + where + " HTTP/1.1\r\nHost: " + where + "\r\n\r\n";
}

ProxyHandshake::State ProxyHandshake::feed(std::string_view bytes, std::string& reply) {
  reply.clear();
  if (state_ != State::more) return state_;
  unread_ += bytes;
  return proxy_.kind == Proxy::Kind::http ? feed_http() : feed_socks(reply);
}

ProxyHandshake::State ProxyHandshake::feed_http() {
  while (true) {
    const auto newline = unread_.find("\n\n"), both = unread_.find("\r\n\r\n");  // a recipient may take a lone LF for a line's end (RFC 9112 §2.2)
    const bool lone = newline < both;
    const auto end = lone ? newline : both;
    const std::string_view shown(unread_.data(), std::min(unread_.size(), std::size_t{9}));
    if (!std::string_view("HTTP/1.").starts_with(shown.substr(0, 7))) return fail("what answers is no HTTP proxy");
    if (end == std::string::npos ? taken_ + unread_.size() > kAnswerMax : taken_ + end > kAnswerMax) return fail("its answer is over " + std::to_string(kAnswerMax) + " bytes");
    if (end == std::string::npos) return State::more;
    const std::string line = unread_.substr(0, unread_.find_first_of("\r\n"));
    if (line.size() < 12 || !digit(line[7]) || line[8] != ' ' || !digit(line[9]) || !digit(line[10]) || !digit(line[11]) || (line.size() > 12 && line[12] != ' '))
      return fail("its answer has no status: '" + printable(shortened(line, 60)) + "'");
    const std::size_t length = end + (lone ? 2 : 4);
    taken_ += length;
    unread_.erase(0, length);
    if (line[9] == '1') continue;  // interim (RFC 9110 §15.2)
    if (line[9] == '2') return state_ = State::open;
    const std::string status = line.substr(9, 3), said = printable(shortened(line.substr(9), 100));
    if (status == "407") return fail("it asks for a name and password (" + said + "), which are not supported");
    return fail("it refuses to connect to " + bracketed(host_) + ":" + std::to_string(port_) + " (" + said + ")");
  }
}

ProxyHandshake::State ProxyHandshake::feed_socks(std::string& reply) {
  const auto at = [&](std::size_t i) { return static_cast<unsigned char>(unread_[i]); };
  if (!unread_.empty() && at(0) != 5) return fail("what answers is no SOCKS5 proxy");
  if (stage_ == Stage::method) {
    if (unread_.size() < 2) return State::more;
    if (at(1) != 0) return fail(at(1) == 0xff ? "it asks for a name and password, which are not supported" : "it chose a way to log in that was not offered");
    unread_.erase(0, 2);
    stage_ = Stage::reply;
    reply = std::string("\x05\x01\x00", 3);  // version, CONNECT, reserved
    in_addr four{};
    in6_addr six{};
    if (::inet_pton(AF_INET, host_.c_str(), &four) == 1) reply += '\x01' + std::string(reinterpret_cast<const char*>(&four), sizeof four);
    else if (::inet_pton(AF_INET6, host_.c_str(), &six) == 1) reply += '\x04' + std::string(reinterpret_cast<const char*>(&six), sizeof six);
    else reply += '\x03' + std::string(1, static_cast<char>(host_.size())) + host_;
    reply += {static_cast<char>(port_ >> 8), static_cast<char>(port_ & 0xff)};
    if (!unread_.empty() && at(0) != 5) return fail("what answers is no SOCKS5 proxy");
  }
  if (unread_.size() >= 2 && at(1) != 0) return fail("it cannot connect to " + bracketed(host_) + ":" + std::to_string(port_) + ": " + socks_failure(at(1)));
  if (unread_.size() < 5) return State::more;
  const unsigned kind = at(3);
  if (kind != 1 && kind != 3 && kind != 4) return fail("its answer has an address of no known kind");
  const std::size_t length = 4 + (kind == 1 ? 4u : kind == 4 ? 16u : 1u + at(4)) + 2;  // at most 262
  if (unread_.size() < length) return State::more;
  unread_.erase(0, length);
  return state_ = State::open;
}

}  // namespace souk
