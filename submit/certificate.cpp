#include "submit/certificate.h"

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <memory>

namespace souk {
namespace {

template <auto end>
struct Free {
  template <class T>
  void operator()(T* object) const {
    end(object);
  }
};
using Key = std::unique_ptr<EVP_PKEY, Free<EVP_PKEY_free>>;
using X509Pointer = std::unique_ptr<X509, Free<X509_free>>;
using Extension = std::unique_ptr<X509_EXTENSION, Free<X509_EXTENSION_free>>;
using Bio = std::unique_ptr<BIO, Free<BIO_free>>;

constexpr long kDay = 24 * 3600;

std::string text_of(BIO* memory) {
  char* bytes = nullptr;
  const long length = BIO_get_mem_data(memory, &bytes);
  return length > 0 ? std::string(bytes, static_cast<std::size_t>(length)) : std::string();
}

bool add_extension(X509* certificate, int kind, const std::string& value) {
  const Extension extension(X509V3_EXT_conf_nid(nullptr, nullptr, kind, value.c_str()));
  return extension && X509_add_ext(certificate, extension.get(), -1) == 1;
}

}  // namespace

Result<Certificate> self_signed(const std::vector<std::string>& names) {
  const Error refused{"cannot make a certificate for the embedded server", "OpenSSL refused", ""};
  const Key key(EVP_EC_gen("P-256"));
  const X509Pointer certificate(X509_new());
  const Bio key_text(BIO_new(BIO_s_mem())), certificate_text(BIO_new(BIO_s_mem()));
  std::uint64_t serial = 0;
  if (names.empty() || !key || !certificate || !key_text || !certificate_text) return refused;
  if (RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) != 1) return refused;

  std::string alternatives;
  for (const auto& name : names) alternatives += (alternatives.empty() ? "DNS:" : ",DNS:") + name;
  X509_NAME* const subject = X509_get_subject_name(certificate.get());
  const bool filled = X509_set_version(certificate.get(), X509_VERSION_3) == 1 && ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), serial >> 1) == 1 &&
                      X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -kDay) != nullptr &&  // clocks of other programs may be a little behind
                      X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 3650 * kDay) != nullptr &&
                      X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_UTF8, reinterpret_cast<const unsigned char*>(names.front().c_str()), -1, -1, 0) == 1 &&
                      X509_set_issuer_name(certificate.get(), subject) == 1 && X509_set_pubkey(certificate.get(), key.get()) == 1 &&
                      add_extension(certificate.get(), NID_basic_constraints, "critical,CA:FALSE") &&
                      add_extension(certificate.get(), NID_subject_alt_name, alternatives) &&
                      X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0;
  if (!filled) return refused;
  if (PEM_write_bio_X509(certificate_text.get(), certificate.get()) != 1) return refused;
  if (PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr) != 1) return refused;
  return Certificate{text_of(certificate_text.get()), text_of(key_text.get())};
}

}  // namespace souk
