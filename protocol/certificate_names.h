// How the name in a certificate is looked for, by whoever believes one and by whoever says whether it will be believed (RFC 6125 §6.4).
#pragma once
#include <openssl/x509v3.h>

namespace souk {
/// subjectAltName only, and `*` is a whole label.
constexpr unsigned kCertificateNameFlags = X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT;
}  // namespace souk
