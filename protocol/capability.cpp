#include "protocol/capability.h"

#include <openssl/evp.h>

#include <algorithm>
#include <array>
#include <set>
#include <stdexcept>

namespace souk {
namespace {

/// Whether the hash covers this form: those without a hidden FORM_TYPE are passed over (XEP-0115 §5.4, step 3.6).
bool is_hashed(const Form& form) {
  const Field* type = form.find("FORM_TYPE");
  return type && type->type == "hidden" && !type->values.empty();
}

/// Whether another info could make the same text. Then its sender could have the cache of honest ones filled with what it made up
/// (XEP-0115 §9.3), since '<' and '/' are not escaped in it; duplicates make an info ill-formed (§5.4, steps 3.3 to 3.5).
bool is_ambiguous(const DiscoInfo& info) {
  const auto has = [](const std::string& text, const char* signs) { return text.find_first_of(signs) != std::string::npos; };
  std::set<std::array<std::string_view, 4>> identities;
  for (const auto& [category, type, lang, name] : info.identities)
    if (has(category, "</") || has(type, "</") || has(lang, "</") || has(name, "<") || !identities.insert({category, type, lang, name}).second) return true;
  std::set<std::string_view> features, forms;
  for (const auto& feature : info.features)
    if (has(feature, "<") || !features.insert(feature).second) return true;
  for (const auto& form : info.forms) {
    if (!is_hashed(form)) continue;
    if (!forms.insert(form.text("FORM_TYPE")).second) return true;
    std::set<std::string_view> vars;
    for (const auto& field : form.fields) {
      if (has(field.var, "<") || !vars.insert(field.var).second) return true;
      if (std::any_of(field.values.begin(), field.values.end(), [&](const std::string& value) { return has(value, "<"); })) return true;
    }
  }
  return false;
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
  if (is_ambiguous(info)) return {};
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
