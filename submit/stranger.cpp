#include "submit/stranger.h"

#include <gloox/tag.h>
#include <netdb.h>
#include <openssl/err.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <optional>

#include "protocol/asio_connection.h"
#include "protocol/proxy.h"

namespace souk {
namespace {

constexpr std::chrono::milliseconds kAddressMax{5000};  // for one of several addresses: the first may be one that nobody reaches from here

}  // namespace

Stranger::Stranger(Where where, std::chrono::milliseconds step)
    : where_(std::move(where)), step_(step), context_(nullptr, SSL_CTX_free), session_(nullptr, SSL_free),
      parser_("jabber:client", {[](gloox::Tag&) {}, [this](gloox::Tag& tag, bool) { take(tag); }, [this] { ended_ = true; }}) {}

Stranger::~Stranger() {
  session_.reset();
  if (fd_ >= 0) ::close(fd_);
}

std::string Stranger::connect() {
  begin();
  return where_.proxy.empty() ? dial(where_.host.empty() ? where_.domain : where_.host, where_.port) : through_proxy();
}

std::string Stranger::through_proxy() {
  const auto proxy = parse_proxy(where_.proxy);
  if (!proxy) return proxy.error().text();
  if (const std::string why = dial(proxy.value().host, proxy.value().port); !why.empty()) return "the proxy: " + why;
  begin();
  ProxyHandshake handshake(proxy.value(), where_.host.empty() ? where_.domain : where_.host, where_.port);
  std::string bytes = handshake.start(), reply;
  if (bytes.empty() || !write(bytes)) return handshake.problem();
  while (true) {
    char buffer[1024];
    const auto got = read(buffer, sizeof buffer);
    if (got <= 0) return "the proxy: " + broken("it closed the connection");
    const auto state = handshake.feed({buffer, static_cast<std::size_t>(got)}, reply);
    if (state == ProxyHandshake::State::failed) return handshake.problem();
    if (state == ProxyHandshake::State::open) return {};
    if (!reply.empty() && !write(reply)) return "the proxy: " + broken("it closed the connection");
  }
}

std::string Stranger::dial(const std::string& host, std::uint16_t port) {
  addrinfo hints{}, *found = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  const std::string address = is_loopback(host) && host.find_first_not_of("0123456789.:") != host.npos ? "127.0.0.1" : host;
  if (const int failure = ::getaddrinfo(address.c_str(), std::to_string(port).c_str(), &hints, &found); failure != 0) return "the address of " + host + " cannot be found: " + ::gai_strerror(failure);
  const std::unique_ptr<addrinfo, void (*)(addrinfo*)> all(found, ::freeaddrinfo);
  begin();  // not while names are looked up, which has limits of its own
  const auto last = end_;
  std::string why = "no address";
  for (const addrinfo* at = found; at != nullptr && Clock::now() < last; at = at->ai_next) {
    fd_ = ::socket(at->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd_ < 0) continue;
    int error = ::connect(fd_, at->ai_addr, at->ai_addrlen) == 0 ? 0 : errno;
    if (error == EINPROGRESS) {
      end_ = at->ai_next != nullptr ? std::min(last, Clock::now() + kAddressMax) : last;
      socklen_t length = sizeof error;
      if (!ready(POLLOUT)) error = ETIMEDOUT;
      else ::getsockopt(fd_, SOL_SOCKET, SO_ERROR, &error, &length);
      end_ = last;
    }
    if (error == 0) return {};
    why = std::strerror(error);
    ::close(fd_);
    fd_ = -1;
  }
  return why;
}

const gloox::Tag* Stranger::features() {
  begin();
  parser_.restart();
  features_.reset();
  ended_ = false;
  if (!write("<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='" + where_.domain + "' version='1.0'>")) return nullptr;
  until([this] { return features_ != nullptr; });
  return features_.get();
}

std::string Stranger::secure() {
  begin();
  proceeded_ = refused_ = false;
  if (!write("<starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>")) return "the server closed the connection";
  until([this] { return proceeded_ || refused_; });
  if (!proceeded_) return "the server did not go on after STARTTLS";
  context_.reset(SSL_CTX_new(TLS_client_method()));
  SSL_CTX_set_min_proto_version(context_.get(), TLS1_2_VERSION);
  const bool loaded = where_.ca_file.empty() ? SSL_CTX_set_default_verify_paths(context_.get()) == 1 : SSL_CTX_load_verify_locations(context_.get(), where_.ca_file.c_str(), nullptr) == 1;
  if (!loaded) return "the authorities in " + where_.ca_file + " cannot be read";
  SSL_CTX_set_verify(context_.get(), SSL_VERIFY_NONE, nullptr);
  session_.reset(SSL_new(context_.get()));
  SSL_set_tlsext_host_name(session_.get(), where_.domain.c_str());
  SSL_set_fd(session_.get(), fd_);
  if (repeat([this] { return SSL_connect(session_.get()); }) != 1) {
    const char* const reason = ERR_reason_error_string(ERR_get_error());
    return "the handshake failed: " + broken(reason ? reason : "the server broke off");
  }
  secured_ = true;
  return {};
}

bool Stranger::ready(short events) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end_ - Clock::now()).count();
  pollfd one{fd_, events, 0};
  return left > 0 && ::poll(&one, 1, static_cast<int>(left)) == 1;
}

int Stranger::repeat(const std::function<int()>& call) {
  while (true) {
    ERR_clear_error();
    const int done = call();
    if (done > 0) return done;
    const int why = SSL_get_error(session_.get(), done);
    if (!(why == SSL_ERROR_WANT_READ && ready(POLLIN)) && !(why == SSL_ERROR_WANT_WRITE && ready(POLLOUT))) return done;
  }
}

bool Stranger::write(std::string_view bytes) {
  if (secured_) return repeat([&] { return SSL_write(session_.get(), bytes.data(), static_cast<int>(bytes.size())); }) == static_cast<int>(bytes.size());
  while (!bytes.empty()) {
    const auto count = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (count > 0) bytes.remove_prefix(static_cast<std::size_t>(count));
    else if (errno != EAGAIN || !ready(POLLOUT)) return false;
  }
  return true;
}

/// What is there, waiting for something to come; not above 0: the end, or that of the step.
long Stranger::read(char* buffer, std::size_t size) {
  if (secured_) return repeat([&] { return SSL_read(session_.get(), buffer, static_cast<int>(size)); });
  return ready(POLLIN) ? ::recv(fd_, buffer, size, 0) : -1;
}

void Stranger::until(const std::function<bool()>& done) {
  char buffer[8192];
  while (!done() && !ended_ && Clock::now() < end_) {
    const auto got = read(buffer, sizeof buffer);
    if (got <= 0 || !parser_.feed({buffer, static_cast<std::size_t>(got)})) return;
  }
}

void Stranger::take(gloox::Tag& tag) {
  if (tag.name() == "features") features_.reset(tag.clone());
  if (tag.name() == "proceed") proceeded_ = true;
  if (tag.name() == "failure") refused_ = true;
}

}  // namespace souk
