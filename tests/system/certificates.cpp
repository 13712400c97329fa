#include "tests/system/certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <utility>

namespace souk::test {
namespace {

using Key = std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)>;
using Certificate = std::unique_ptr<X509, void (*)(X509*)>;

void check(bool fine, const char* what) {
  if (!fine) throw std::runtime_error(std::string("cannot make a certificate: ") + what);
}

Key new_key() {
  Key key(EVP_EC_gen("P-256"), EVP_PKEY_free);
  check(key != nullptr, "key");
  return key;
}

void add_extension(X509* certificate, X509* issuer, int kind, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* const extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value.c_str());
  check(extension && X509_add_ext(certificate, extension, -1) == 1, value.c_str());
  X509_EXTENSION_free(extension);
}

Certificate new_certificate(EVP_PKEY* key, const std::string& name, long from, long until) {
  Certificate made(X509_new(), X509_free);
  check(made && X509_set_version(made.get(), 2) == 1, "X.509");
  std::uint64_t serial = 0;
  check(RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) == 1, "serial number");
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(made.get()), serial >> 1);
  X509_gmtime_adj(X509_getm_notBefore(made.get()), from);
  X509_gmtime_adj(X509_getm_notAfter(made.get()), until);
  X509_set_pubkey(made.get(), key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(made.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1, 0);
  return made;
}

template <class Write>
void write(const std::filesystem::path& path, Write&& write) {
  std::FILE* const file = std::fopen(path.c_str(), "w");
  check(file != nullptr, path.c_str());
  const bool fine = write(file) == 1;
  check(std::fclose(file) == 0 && fine, path.c_str());
}

}  // namespace

struct Authority::Keys {
  Key key = new_key();
  Certificate certificate{nullptr, X509_free};
};

Authority::Authority(std::filesystem::path folder, std::string name)
    : folder_(std::move(folder)), name_(std::move(name)), keys_(std::make_unique<Keys>()) {
  keys_->certificate = new_certificate(keys_->key.get(), name_, -3600, 24 * 3600);
  X509* const own = keys_->certificate.get();
  X509_set_issuer_name(own, X509_get_subject_name(own));
  add_extension(own, own, NID_basic_constraints, "critical,CA:TRUE");
  add_extension(own, own, NID_key_usage, "critical,keyCertSign,cRLSign");
  add_extension(own, own, NID_subject_key_identifier, "hash");
  check(X509_sign(own, keys_->key.get(), EVP_sha256()) > 0, "signature");
  write(ca_file(), [&](std::FILE* file) { return PEM_write_X509(file, own); });
}
Authority::~Authority() = default;

std::filesystem::path Authority::ca_file() const { return folder_ / (name_ + ".pem"); }

CertificateFiles Authority::issue(const std::string& domain, std::chrono::seconds valid_for) const {
  const auto key = new_key();
  X509* const issuer = keys_->certificate.get();
  const auto made = new_certificate(key.get(), domain, std::min<long>(-3600, valid_for.count() - 3600), valid_for.count());
  X509_set_issuer_name(made.get(), X509_get_subject_name(issuer));
  add_extension(made.get(), issuer, NID_basic_constraints, "critical,CA:FALSE");
  add_extension(made.get(), issuer, NID_ext_key_usage, "serverAuth");
  add_extension(made.get(), issuer, NID_subject_alt_name, "DNS:" + domain);
  check(X509_sign(made.get(), keys_->key.get(), EVP_sha256()) > 0, "signature");
  CertificateFiles files{folder_ / (domain + ".crt"), folder_ / (domain + ".key")};
  write(files.certificate, [&](std::FILE* file) { return PEM_write_X509(file, made.get()); });
  write(files.key, [&](std::FILE* file) { return PEM_write_PrivateKey(file, key.get(), nullptr, nullptr, 0, nullptr, nullptr); });
  return files;
}

}  // namespace souk::test
