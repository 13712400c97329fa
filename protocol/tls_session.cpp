#include "protocol/tls_session.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <ctime>
#include <map>
#include <mutex>
#include <utility>

#include "protocol/certificate_names.h"

namespace souk {
namespace {

std::string last_error() {
  const auto code = ERR_get_error();
  if (code == 0) return "the peer broke off";
  if (const char* const reason = ERR_reason_error_string(code)) return reason;
  std::array<char, 256> text{};
  ERR_error_string_n(code, text.data(), text.size());
  return text.data();
}

int status_of(long verdict) {
  using namespace gloox;
  switch (verdict) {
    case X509_V_OK: return CertOk;
    case X509_V_ERR_HOSTNAME_MISMATCH: return CertWrongPeer;
    case X509_V_ERR_CERT_HAS_EXPIRED: return CertInvalid | CertExpired;
    case X509_V_ERR_CERT_NOT_YET_VALID: return CertInvalid | CertNotActive;
    case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN: return CertInvalid | CertSignerUnknown;
    default: return CertInvalid;
  }
}

}  // namespace

Result<TlsSession::Context> TlsSession::context(const std::string& ca_file) {
  static std::mutex mutex;
  static std::map<std::string, std::weak_ptr<SSL_CTX>> shared;
  const std::lock_guard lock(mutex);
  if (auto known = shared[ca_file].lock()) return known;
  ERR_clear_error();
  Context made(SSL_CTX_new(TLS_client_method()), SSL_CTX_free);
  if (!made || SSL_CTX_set_min_proto_version(made.get(), TLS1_2_VERSION) != 1)
    return Error{"TLS cannot be set up", last_error(), "check the installation of OpenSSL"};
  const int loaded = ca_file.empty() ? SSL_CTX_set_default_verify_paths(made.get())
                                     : SSL_CTX_load_verify_file(made.get(), ca_file.c_str());
  if (loaded != 1)
    return Error{"cannot read the trusted authorities in '" + ca_file + "'", last_error(),
                 "ca_file must name a readable PEM file with the certificate of the authority"};
  SSL_CTX_set_verify(made.get(), SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_options(made.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_session_cache_mode(made.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(made.get(), SSL_MODE_RELEASE_BUFFERS);  // idle connections hold no record buffers
  shared[ca_file] = made;
  return made;
}

TlsSession::TlsSession(gloox::TLSHandler* handler, const std::string& domain, Context context)
    : TLSBase(handler, domain), context_(std::move(context)) {}
TlsSession::~TlsSession() = default;

bool TlsSession::handshake() {
  cleanup();
  problem_.clear();
  untrusted_ = false;
  m_certInfo = {gloox::CertInvalid, false, {}, m_server, 0, 0, {}, {}, {}, {}};  // until proved otherwise
  ERR_clear_error();
  ssl_.reset(SSL_new(context_.get()), SSL_free);
  BIO* const in = BIO_new(BIO_s_mem());
  BIO* const out = BIO_new(BIO_s_mem());
  if (!ssl_ || !in || !out) {
    BIO_free(in), BIO_free(out);
    ssl_.reset();
    return fail(last_error());
  }
  SSL_set_bio(ssl_.get(), in, out);
  SSL_set_connect_state(ssl_.get());
  SSL_set_hostflags(ssl_.get(), kCertificateNameFlags);
  const char* const domain = m_server.c_str();
  if (m_server.empty() || !SSL_set1_host(ssl_.get(), domain) || !SSL_set_tlsext_host_name(ssl_.get(), domain))
    return fail("no usable domain to verify");
  return shake_hands();
}

int TlsSession::decrypt(const std::string& bytes) {
  const auto ssl = ssl_;  // the handler may hang up meanwhile
  const int size = static_cast<int>(bytes.size());
  if (!ssl) return 0;
  BIO_write(SSL_get_rbio(ssl.get()), bytes.data(), size);
  if (!m_secure) shake_hands();
  if (!m_secure || ssl != ssl_) return size;
  static thread_local std::array<char, 16384> record;
  std::string plain;
  std::size_t got = 0;
  ERR_clear_error();
  while (SSL_read_ex(ssl.get(), record.data(), record.size(), &got) == 1) plain.append(record.data(), got);
  const int end = SSL_get_error(ssl.get(), 0);
  const bool closed = end == SSL_ERROR_ZERO_RETURN && SSL_shutdown(ssl.get()) >= 0;
  const std::string why = closed ? "closed by the peer" : last_error();
  if (!plain.empty()) m_handler->handleDecryptedData(this, plain);
  if (ssl == ssl_ && end == SSL_ERROR_WANT_READ) flush();
  else if (ssl == ssl_) fail(why);  // else a close_notify without FIN would leave gloox waiting for ever
  return size;
}

bool TlsSession::encrypt(const std::string& plain) {
  if (!m_secure) return false;
  ERR_clear_error();
  const bool written = SSL_write(ssl_.get(), plain.data(), static_cast<int>(plain.size())) > 0;
  if (plain == "</stream:stream>") SSL_shutdown(ssl_.get());  // later is too late: gloox closes the socket next
  return flush() && written;
}

void TlsSession::cleanup() {
  m_secure = false;
  ssl_.reset();
}

bool TlsSession::hasChannelBinding() const {
  return m_secure && SSL_version(ssl_.get()) == TLS1_2_VERSION && SSL_get_extms_support(ssl_.get()) == 1;
}

const std::string TlsSession::channelBinding() const {
  if (!hasChannelBinding()) return {};
  std::array<char, EVP_MAX_MD_SIZE> finished{};  // of whoever finished first: the client, unless a session is resumed
  auto* const get = SSL_session_reused(ssl_.get()) ? SSL_get_peer_finished : SSL_get_finished;
  return std::string(finished.data(), get(ssl_.get(), finished.data(), finished.size()));
}

bool TlsSession::shake_hands() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    m_certInfo.status = gloox::CertOk;  // else SSL_VERIFY_PEER would have stopped the handshake
    m_certInfo.chain = true;
    m_certInfo.protocol = SSL_get_version(ssl_.get());
    m_certInfo.cipher = SSL_get_cipher_name(ssl_.get());
    std::tm end{};
    ASN1_TIME_to_tm(X509_get0_notAfter(SSL_get0_peer_certificate(ssl_.get())), &end);
    m_certInfo.date_to = static_cast<int>(timegm(&end));
    m_secure = flush();
    m_handler->handleHandshakeResult(this, true, m_certInfo);
    return m_secure;
  }
  if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ) return flush();
  const long verdict = SSL_get_verify_result(ssl_.get());
  if (verdict == X509_V_OK) return fail(last_error());
  m_certInfo.status = status_of(verdict);
  untrusted_ = true;
  return fail(X509_verify_cert_error_string(verdict));
}

// Sends the alert and makes gloox hang up with ConnTlsFailed; TLSHandler has no other way to say so.
bool TlsSession::fail(const std::string& why) {
  problem_ = why;
  m_secure = false;
  if (ssl_) flush();
  m_handler->handleHandshakeResult(this, false, m_certInfo);
  return false;
}

bool TlsSession::flush() {
  char* bytes = nullptr;
  BIO* const out = SSL_get_wbio(ssl_.get());
  const auto size = BIO_get_mem_data(out, &bytes);
  const std::string sealed(bytes, static_cast<std::size_t>(size));
  BIO_reset(out);
  if (!sealed.empty()) m_handler->handleEncryptedData(this, sealed);
  return true;
}

}  // namespace souk
