// A stream to a server as a stranger opens it, step by step and without gloox, which would give up where we want to look on. Each step has a time of its own, however slowly bytes drip in.
#pragma once
#include <openssl/ssl.h>

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "protocol/xml_stream.h"
#include "protocol/xmpp_link.h"

namespace souk {

class Stranger {
 public:
  struct Where {
    std::string domain, host;  // host: to dial; empty: the domain
    std::uint16_t port = 5222;
    std::string ca_file, proxy;
  };
  /// step: for each of the functions below; the look-up of names comes on top
  Stranger(Where where, std::chrono::milliseconds step);
  ~Stranger();
  Stranger(const Stranger&) = delete;

  /// Dials, through the proxy if there is one. Empty: connected. Else why not.
  std::string connect();
  /// Opens a stream and waits for its features; null: none came.
  const gloox::Tag* features();
  /// STARTTLS and a handshake that looks at everything and refuses nothing. Empty: done.
  std::string secure();
  SSL* tls() { return session_.get(); }

 private:
  using Clock = std::chrono::steady_clock;
  std::string dial(const std::string& host, std::uint16_t port);
  std::string through_proxy();
  void begin() { end_ = Clock::now() + step_; }
  /// Waits until the socket can do that, to the end of the step.
  bool ready(short events);
  /// One of OpenSSL's functions, again until it is done; not above 0: it failed, or the step is over.
  int repeat(const std::function<int()>& call);
  bool write(std::string_view bytes);
  long read(char* buffer, std::size_t size);
  void until(const std::function<bool()>& done);
  void take(gloox::Tag& tag);
  std::string broken(const std::string& otherwise) const { return Clock::now() >= end_ ? "no answer in time" : otherwise; }

  const Where where_;
  const std::chrono::milliseconds step_;
  Clock::time_point end_;
  int fd_ = -1;
  bool secured_ = false, ended_ = false, proceeded_ = false, refused_ = false;
  std::unique_ptr<SSL_CTX, void (*)(SSL_CTX*)> context_;
  std::unique_ptr<SSL, void (*)(SSL*)> session_;
  XmlStream parser_;
  Stanza features_;
};

}  // namespace souk
