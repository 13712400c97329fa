#include "protocol/stanza.h"

#include "protocol/payload.h"

#include <gloox/tag.h>

#include <algorithm>

namespace souk {
namespace {

constexpr std::size_t kFieldsMax = 256;       // of one form, and columns of its table
constexpr std::size_t kValuesMax = 100'000;   // values, options and cells of one form
constexpr std::size_t kFormMax = 4 << 20;     // bytes of all its texts
constexpr std::size_t kIdentitiesMax = 64, kFeaturesMax = 1024, kFormsMax = 16;  // of one disco#info answer; the rest is passed over

void set_text(gloox::Tag& tag, const std::string& text) {
  if (text.empty()) return;
  if (is_printable(text)) tag.setCData(text);
  else tag.setCData(printable(text));
}

void set_attribute(gloox::Tag& tag, const std::string& name, const std::string& value) {
  if (is_printable(value)) tag.addAttribute(name, value);
  else tag.addAttribute(name, printable(value));
}

void fill_in(gloox::Tag& tag, const std::string& xmlns, TagAttributes attributes) {
  if (!xmlns.empty()) tag.setXmlns(xmlns);
  for (const auto& [name, value] : attributes) set_attribute(tag, name, value);
}

/// <value/>s of a field. A line break inside a text-multi is the border of two values (XEP-0004 §3.3).
void add_values(gloox::Tag& field, const std::string& type, const std::vector<std::string>& values) {
  for (const auto& value : values) {
    std::size_t from = 0, to = std::string::npos;
    do {
      to = type == "text-multi" ? value.find('\n', from) : std::string::npos;
      child(field, "value", {}, {}, value.substr(from, to - from));
      from = to + 1;
    } while (to != std::string::npos);
  }
}

/// gloox splits a prefix off the attributes it has parsed, but not off those that it was told.
std::string lang_of(const gloox::Tag& tag) {
  for (const auto* attribute : tag.attributes())
    if ((attribute->prefix() == "xml" && attribute->name() == "lang") || attribute->name() == "xml:lang") return attribute->value();
  return {};
}

/// Counts what a form holds against its bounds.
class Budget {
 public:
  /// The text of a value, or false once the form is too large.
  bool take(const std::string& text, std::string& into) {
    bytes_ += text.size();
    if (++values_ > kValuesMax || bytes_ > kFormMax) return false;
    into = text;
    return true;
  }
  bool take_text(const std::string& text, std::string& into) {
    bytes_ += text.size();
    into = text;
    return bytes_ <= kFormMax;
  }

 private:
  std::size_t values_ = 0, bytes_ = 0;
};

Error form_refused(std::string why) { return Error{"form refused", std::move(why), "send a data form as in XEP-0004, of at most 256 fields, 100,000 values and 4 MiB"}; }

bool read_field(const gloox::Tag& tag, Budget& budget, Field& field) {
  bool fits = budget.take_text(tag.findAttribute("var"), field.var) && budget.take_text(tag.findAttribute("type"), field.type) &&
              budget.take_text(tag.findAttribute("label"), field.label);
  for (const gloox::Tag* part : tag.children()) {
    if (!fits) return false;
    if (part->name() == "value") fits = budget.take(part->cdata(), field.values.emplace_back());
    else if (part->name() == "required") field.required = true;
    else if (part->name() == "option") {
      auto& [label, value] = field.options.emplace_back();
      const gloox::Tag* chosen = part->findChild("value");
      fits = budget.take(chosen ? chosen->cdata() : std::string(), value) && budget.take_text(part->findAttribute("label"), label);
    }
  }
  return fits;
}

/// One row of a table: the first value of each column, by the column's name.
bool read_row(const gloox::Tag& tag, const std::vector<std::string>& columns, Budget& budget, std::vector<std::string>& row) {
  row.resize(columns.size());
  std::string unused;
  for (std::size_t i = 0; i < row.size(); ++i)
    if (!budget.take_text({}, unused) || !budget.take({}, unused)) return false;  // a missing cell counts too
  for (const gloox::Tag* part : tag.children()) {
    if (part->name() != "field") continue;
    const auto column = std::find(columns.begin(), columns.end(), part->findAttribute("var"));
    const gloox::Tag* value = part->findChild("value");
    if (column == columns.end() || !value) continue;
    if (!budget.take(value->cdata(), row[static_cast<std::size_t>(column - columns.begin())])) return false;
  }
  return true;
}

Result<Form> read_form(const gloox::Tag& x) {
  Form form;
  form.type = x.findAttribute("type");
  if (form.type != "form" && form.type != "submit" && form.type != "result" && form.type != "cancel")
    return form_refused("its type is '" + printable(shortened(form.type, 32)) + "'");
  Budget budget;
  const Error too_large = form_refused("it is too large");
  const auto add_text = [&](std::string& into, const std::string& text) {
    if (!into.empty()) into += '\n';  // several <instructions/> are lines of one text
    std::string line;
    if (!budget.take(text, line)) return false;
    into += line;
    return true;
  };
  for (const gloox::Tag* part : x.children()) {
    bool fits = true;
    if (part->name() == "title") fits = add_text(form.title, part->cdata());
    else if (part->name() == "instructions") fits = add_text(form.instructions, part->cdata());
    else if (part->name() == "field") fits = form.fields.size() < kFieldsMax && read_field(*part, budget, form.fields.emplace_back());
    else if (part->name() == "reported") {
      for (const gloox::Tag* column : part->children())
        if (column->name() == "field") fits = fits && form.columns.size() < kFieldsMax && budget.take(column->findAttribute("var"), form.columns.emplace_back());
    } else if (part->name() == "item") fits = read_row(*part, form.columns, budget, form.rows.emplace_back());
    if (!fits) return too_large;
  }
  return form;
}

}  // namespace

Stanza element(const std::string& name, const std::string& xmlns, TagAttributes attributes) {
  auto tag = std::make_unique<gloox::Tag>(name);
  fill_in(*tag, xmlns, attributes);
  return tag;
}

gloox::Tag& child(gloox::Tag& parent, const std::string& name, const std::string& xmlns, TagAttributes attributes, const std::string& text) {
  auto* tag = new gloox::Tag(&parent, name);  // the parent deletes it
  fill_in(*tag, xmlns, attributes);
  set_text(*tag, text);
  return *tag;
}

Stanza result_of(const gloox::Tag& iq) {
  auto answer = element("iq", {}, {{"type", "result"}});
  for (const auto& [here, there] : {std::pair{"to", "from"}, std::pair{"from", "to"}, std::pair{"id", "id"}})
    if (const std::string& value = iq.findAttribute(there); !value.empty()) answer->addAttribute(here, value);
  return answer;
}

Stanza error_of(const gloox::Tag& stanza, const std::string& type, const std::string& condition, const std::string& text) {
  auto answer = element(stanza.name(), {}, {{"type", "error"}});
  for (const auto& [here, there] : {std::pair{"to", "from"}, std::pair{"from", "to"}, std::pair{"id", "id"}})
    if (const std::string& value = stanza.findAttribute(there); !value.empty()) answer->addAttribute(here, value);
  auto& error = child(*answer, "error", {}, {{"type", type}});
  child(error, condition, ns::stanzas);
  if (!text.empty()) child(error, "text", ns::stanzas, {}, text);
  return answer;
}

StanzaError error_in(const gloox::Tag& stanza) {
  StanzaError found;
  const gloox::Tag* error = stanza.findChild("error");
  if (!error) return {"cancel", "undefined-condition", ""};
  found.type = error->findAttribute("type");
  for (const gloox::Tag* part : error->children()) {
    if (part->xmlns() != ns::stanzas) continue;
    if (part->name() == "text") found.text = shortened(part->cdata(), 4096);
    else found.condition = part->name();
  }
  if (found.condition.empty()) found.condition = "undefined-condition";
  return found;
}

gloox::Tag& add_payload(gloox::Tag& parent, const std::string& name, const std::string& xmlns, const google::protobuf::MessageLite& message, TagAttributes attributes) {
  const Encoded encoded = encode(message);
  gloox::Tag& element = child(parent, name, xmlns, attributes, encoded.text);
  if (encoded.zlib) element.addAttribute("encoding", "zlib");
  return element;
}

Result<Done> payload_in(const gloox::Tag& element, google::protobuf::MessageLite& message) {
  const std::string& encoding = element.findAttribute("encoding");
  if (!encoding.empty() && encoding != "zlib") return Error{"payload refused", "its encoding is '" + shortened(encoding, 32) + "'", "send zlib or none"};
  return decode(element.cdata(), encoding == "zlib", message);
}

void add_form(gloox::Tag& parent, const Form& form) {
  auto& x = child(parent, "x", ns::form, {{"type", form.type}});
  if (!form.title.empty()) child(x, "title", {}, {}, form.title);
  if (!form.instructions.empty()) child(x, "instructions", {}, {}, form.instructions);
  for (const auto& field : form.fields) {
    auto& tag = child(x, "field");
    if (!field.var.empty()) set_attribute(tag, "var", field.var);
    if (!field.type.empty()) set_attribute(tag, "type", field.type);
    if (!field.label.empty()) set_attribute(tag, "label", field.label);
    if (field.required) child(tag, "required");
    add_values(tag, field.type, field.values);
    for (const auto& [label, value] : field.options) child(child(tag, "option", {}, {{"label", label}}), "value", {}, {}, value);
  }
  if (form.columns.empty()) return;
  auto& reported = child(x, "reported");
  for (const auto& column : form.columns) child(reported, "field", {}, {{"var", column}, {"type", "text-single"}, {"label", column}});
  for (const auto& row : form.rows) {
    auto& item = child(x, "item");
    // In the order of `reported`: Converse goes by position.
    for (std::size_t i = 0; i < form.columns.size(); ++i)
      child(child(item, "field", {}, {{"var", form.columns[i]}}), "value", {}, {}, i < row.size() ? row[i] : std::string());
  }
}

Result<Form> form_in(const gloox::Tag& parent) {
  for (const gloox::Tag* part : parent.children())
    if (part->name() == "x" && part->xmlns() == ns::form) return read_form(*part);
  return Form{};
}

void add_info(gloox::Tag& query, const DiscoInfo& info) {
  for (const auto& identity : info.identities) {
    auto& tag = child(query, "identity", {}, {{"category", identity.category}, {"type", identity.type}});
    if (!identity.lang.empty()) set_attribute(tag, "xml:lang", identity.lang);
    if (!identity.name.empty()) set_attribute(tag, "name", identity.name);
  }
  for (const auto& feature : info.features) child(query, "feature", {}, {{"var", feature}});
  for (const auto& form : info.forms) add_form(query, form);
}

DiscoInfo info_in(const gloox::Tag& query) {
  DiscoInfo info;
  for (const gloox::Tag* part : query.children()) {
    if (part->name() == "identity" && info.identities.size() < kIdentitiesMax) {
      info.identities.push_back({part->findAttribute("category"), part->findAttribute("type"), lang_of(*part), part->findAttribute("name")});
    } else if (part->name() == "feature" && info.features.size() < kFeaturesMax) {
      info.features.push_back(part->findAttribute("var"));
    } else if (part->name() == "x" && part->xmlns() == ns::form && info.forms.size() < kFormsMax) {
      if (auto form = read_form(*part)) info.forms.push_back(std::move(form.value()));
    }
  }
  return info;
}

std::string bare(const std::string& jid) { return jid.substr(0, jid.find('/')); }

std::string domain_of(const std::string& jid) {
  const std::string address = bare(jid);
  const auto at = address.find('@');
  return at == std::string::npos ? address : address.substr(at + 1);
}

std::string resource_of(const std::string& jid) {
  const auto slash = jid.find('/');
  return slash == std::string::npos ? std::string() : jid.substr(slash + 1);
}

}  // namespace souk
