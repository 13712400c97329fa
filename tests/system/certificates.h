// A certificate authority that lives as long as a test, and the certificates it issues.
#pragma once
#include <chrono>
#include <filesystem>
#include <memory>
#include <string>

namespace souk::test {

struct CertificateFiles {
  std::filesystem::path certificate, key;  // PEM
};

class Authority {
 public:
  /// Writes its certificate as FOLDER/NAME.pem. Throws std::runtime_error when OpenSSL cannot.
  Authority(std::filesystem::path folder, std::string name);
  ~Authority();
  Authority(const Authority&) = delete;
  std::filesystem::path ca_file() const;
  /// A server certificate for that domain (DNS name in subjectAltName), valid from an hour before now until `valid_for` after it;
  /// a negative time makes one that has expired.
  CertificateFiles issue(const std::string& domain, std::chrono::seconds valid_for = std::chrono::hours(24)) const;

 private:
  struct Keys;
  std::filesystem::path folder_;
  std::string name_;
  std::unique_ptr<Keys> keys_;
};

}  // namespace souk::test
