#include "protocol/capability.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace souk {
namespace {

/// Whether the hash covers this form: those without a hidden FORM_TYPE are passed over (XEP-0115 §5.4, step 3.6).
bool is_hashed(const Form& form) {
  const Field* type = form.find("FORM_TYPE");
  return type && type->type == "hidden" && !type->values.empty();
}

std::string sha1_base64(const std::string& text) {
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  if (EVP_Digest(text.data(), text.size(), digest.data(), &size, EVP_sha1(), nullptr) != 1)
    throw std::runtime_error("OpenSSL has no SHA-1, which XEP-0115 needs");
  std::array<unsigned char, 4 * ((EVP_MAX_MD_SIZE + 2) / 3) + 1> base64{};
  const int length = EVP_EncodeBlock(base64.data(), digest.data(), static_cast<int>(size));
  return {reinterpret_cast<const char*>(base64.data()), static_cast<std::size_t>(length)};
}

}  // namespace

// Sorting is by octets (i;octet), which is what std::string compares by: char_traits<char> compares as unsigned char.
std::string caps_hash(const DiscoInfo& info) {
  std::string text;  // S of XEP-0115 §5.1

  std::vector<std::array<std::string_view, 4>> identities;
  for (const auto& identity : info.identities) identities.push_back({identity.category, identity.type, identity.lang, identity.name});
  std::sort(identities.begin(), identities.end());
  for (const auto& [category, type, lang, name] : identities) text.append(category).append("/").append(type).append("/").append(lang).append("/").append(name).append("<");

  auto features = info.features;
  std::sort(features.begin(), features.end());
  for (const auto& feature : features) text.append(feature).append("<");

  std::vector<const Form*> forms;
  for (const auto& form : info.forms)
    if (is_hashed(form)) forms.push_back(&form);
  std::sort(forms.begin(), forms.end(), [](const Form* a, const Form* b) { return a->text("FORM_TYPE") < b->text("FORM_TYPE"); });
  for (const Form* form : forms) {
    text.append(form->text("FORM_TYPE")).append("<");
    std::vector<const Field*> fields;
    for (const auto& field : form->fields)
      if (field.var != "FORM_TYPE") fields.push_back(&field);
    std::sort(fields.begin(), fields.end(), [](const Field* a, const Field* b) { return a->var < b->var; });
    for (const Field* field : fields) {
      text.append(field->var).append("<");
      auto values = field->values;
      std::sort(values.begin(), values.end());
      for (const auto& value : values) text.append(value).append("<");
    }
  }
  return sha1_base64(text);
}

}  // namespace souk
