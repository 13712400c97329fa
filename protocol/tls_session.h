// TLS for gloox on OpenSSL, as a client only: the chain and the XMPP domain are verified, or there is no connection.
// gloox's own TLSDefault is not used: it leaks 3.75 MB per connection, verifies nothing by itself and has no TLS 1.3.
// One TlsSession serves its client for all connects; the SSL_CTX is shared by all sessions with the same authorities.
// Single-threaded like gloox. Replace or delete it (setEncryptionImpl, Client) only outside of gloox's callbacks.
#pragma once
#include <gloox/tlsbase.h>
#include <openssl/types.h>

#include <memory>
#include <string>

#include "protocol/result.h"

namespace souk {

class TlsSession final : public gloox::TLSBase {
 public:
  using Context = std::shared_ptr<SSL_CTX>;

  /// TLS 1.2 or newer. Trusts the authorities of that PEM file and no others; the system's if it is empty.
  /// The same object for the same file as long as somebody holds it. May be called from any thread.
  static Result<Context> context(const std::string& ca_file);

  /// `domain` is the XMPP domain (in its ASCII form), not the host that is dialled (RFC 6120 §13.7.2.1).
  TlsSession(gloox::TLSHandler* handler, const std::string& domain, Context context);
  TlsSession(const TlsSession&) = delete;
  ~TlsSession() override;

  /// Why the last session failed or ended, for people; survives cleanup(), so onDisconnect can show it. Empty: no fault.
  const std::string& problem() const { return problem_; }
  /// The last session failed because the peer's certificate is not valid for us; another try would not change that.
  bool untrusted() const { return untrusted_; }

  bool init(const std::string& = {}, const std::string& = {}, const gloox::StringList& = {}) override { return true; }
  void setCACerts(const gloox::StringList&) override {}
  void setClientCert(const std::string&, const std::string&) override {}

  /// Called once per connection, after <proceed/>.
  bool handshake() override;
  int decrypt(const std::string& bytes) override;
  /// Refuses, and does not queue, what comes before the peer is verified.
  bool encrypt(const std::string& plain) override;
  void cleanup() override;
  /// tls-unique, the only binding gloox can name, has no meaning under TLS 1.3: SCRAM-SHA-1 is used there.
  bool hasChannelBinding() const override;
  const std::string channelBinding() const override;

 private:
  bool shake_hands();
  bool fail(const std::string& why);
  bool flush();

  Context context_;
  std::shared_ptr<SSL> ssl_;
  std::string problem_;
  bool untrusted_ = false;
};

}  // namespace souk
