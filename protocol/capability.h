// XEP-0115 entity capabilities: the verification string of a disco#info answer.
#pragma once
#include <string>
#include <vector>

#include "protocol/form.h"

namespace souk {

struct Identity {
  std::string category, type, lang, name;
};
struct DiscoInfo {
  std::vector<Identity> identities;
  std::vector<std::string> features;
  std::vector<Form> forms;
};

inline constexpr const char* kCapsNode = "https://souk.invalid/caps";

/// The `ver` of that info with SHA-1 (XEP-0115 §5.1), in base64. Empty, so that it equals no other, when the info is ill-formed (§5.4) or
/// holds a '<' where another info could give the same hash.
std::string caps_hash(const DiscoInfo& info);

}  // namespace souk
