// A self-signed certificate for the embedded server, so that chat clients that insist on encryption can have it.
#pragma once
#include <string>
#include <vector>

#include "protocol/result.h"

namespace souk {

struct Certificate {
  std::string certificate, key;  // PEM
};

/// names: DNS names it stands for, the first of them as its subject
/// yields: an ECDSA P-256 certificate, valid from yesterday for ten years; no authority vouches for it
Result<Certificate> self_signed(const std::vector<std::string>& names);

}  // namespace souk
