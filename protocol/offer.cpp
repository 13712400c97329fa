#include "protocol/offer.h"

#include <charconv>

namespace souk {
namespace {

constexpr std::size_t kEntriesMax = 64;    // software entries, GPUs, tags, each
constexpr std::size_t kValueMax = 256;     // bytes in one value
constexpr int kCpusEach = 65536;            // far above any machine; keeps sums over a grid within range

Error refused(std::string why, std::string remedy) { return Error{"offer refused", std::move(why), std::move(remedy)}; }

/// A whole decimal number from low to high of a field with one value.
template <class Number>
Result<Number> number(const Form& form, std::string_view var, Number low, Number high) {
  const std::string range = "send a whole number from " + std::to_string(low) + " to " + std::to_string(high);
  const Field* field = form.find(var);
  if (!field || field->values.size() != 1) return refused("field '" + std::string(var) + "' is missing or has not one value", range);
  const std::string& text = field->values.front();
  Number value{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure == std::errc{} && end == text.data() + text.size() && value >= low && value <= high) return value;
  return refused("field '" + std::string(var) + "' is '" + printable(shortened(text, 32)) + "'", range);
}

Result<Done> text(const Form& form, std::string_view var, std::string& into) {
  const std::string_view value = form.text(var);
  if (value.size() > kValueMax) return refused("field '" + std::string(var) + "' is over 256 bytes", "send a shorter value");
  into = value;
  return Done{};
}

Result<std::vector<std::string>> list(const Form& form, std::string_view var) {
  std::vector<std::string> values;
  if (const Field* field = form.find(var)) values = field->values;
  if (values.size() > kEntriesMax) return refused("field '" + std::string(var) + "' has " + std::to_string(values.size()) + " entries", "send at most 64");
  for (const auto& value : values)
    if (value.size() > kValueMax) return refused("an entry of '" + std::string(var) + "' is over 256 bytes", "send shorter ones");
  return values;
}

/// Entries `name=value`; a name stands once.
Result<Done> pairs(const Form& form, std::string_view var, std::map<std::string, std::string>& into) {
  const auto values = list(form, var);
  if (!values) return values.error();
  for (const auto& entry : values.value()) {
    const auto equals = entry.find('=');
    if (equals == std::string::npos || equals == 0)
      return refused("an entry of '" + std::string(var) + "' is '" + printable(shortened(entry, 64)) + "'", "send name=value");
    if (!into.emplace(entry.substr(0, equals), entry.substr(equals + 1)).second)
      return refused("'" + printable(shortened(entry.substr(0, equals), 64)) + "' stands twice in '" + std::string(var) + "'", "send each name once");
  }
  return Done{};
}

/// One line and at most kValueMax bytes: what to_form() emits, offer_from() accepts.
std::string entry(std::string value) {
  value = shortened(printable(value), kValueMax);
  for (char& c : value)
    if (c == '\n' || c == '\r' || c == '<') c = ' ';  // a list field carries one entry a line; caps_hash() takes no '<'
  return value;
}

}  // namespace

Form to_form(const Offer& offer) {
  Form form;
  form.type = "result";
  const auto add = [&](const char* var, std::string value) { form.add(var, "text-single", "", {std::move(value)}); };
  const auto add_list = [&](const char* var, std::vector<std::string> values) {
    if (values.size() > kEntriesMax) values.resize(kEntriesMax);
    if (!values.empty()) form.add(var, "text-multi", "", std::move(values));
  };
  const auto joined = [](const std::map<std::string, std::string>& map) {
    std::map<std::string, std::string> entries;  // cleaning may make two names one, and cutting may cost the '='
    for (const auto& [name, value] : map) {
      if (name.find('=') != std::string::npos) continue;
      std::string text = entry(name + '=' + value);
      const auto equals = text.find('=');
      if (equals != std::string::npos && equals > 0) entries.emplace(text.substr(0, equals), std::move(text));
    }
    std::vector<std::string> values;
    for (auto& [name, text] : entries) values.push_back(std::move(text));
    return values;
  };
  form.add("FORM_TYPE", "hidden", "", {kOfferForm});
  add("slots", std::to_string(offer.slots));
  add("cpus", std::to_string(offer.cpus));
  add("memory-bytes", std::to_string(offer.memory_bytes));
  add("disk-bytes", std::to_string(offer.disk_bytes));
  add("os", entry(offer.os));
  add("arch", entry(offer.arch));
  add("hostname", entry(offer.hostname));
  add("cpu-model", entry(offer.cpu_model));
  add("version", entry(offer.version));
  add_list("software", joined(offer.software));
  std::vector<std::string> gpus;
  for (const auto& gpu : offer.gpus) gpus.push_back(entry(gpu));
  add_list("gpus", std::move(gpus));
  add_list("tags", joined(offer.tags));
  return form;
}

Result<Offer> offer_from(const Form& form) {
  if (form.text("FORM_TYPE") != kOfferForm)
    return refused("FORM_TYPE is '" + printable(shortened(form.text("FORM_TYPE"), 64)) + "'", std::string("send ") + kOfferForm);
  Offer offer;
  const auto slots = number<int>(form, "slots", 1, kSlotsMax);
  if (!slots) return slots.error();
  const auto cpus = number<int>(form, "cpus", 0, kCpusEach);
  if (!cpus) return cpus.error();
  const auto memory = number<std::uint64_t>(form, "memory-bytes", 0, kBytesMax);
  if (!memory) return memory.error();
  const auto disk = number<std::uint64_t>(form, "disk-bytes", 0, kBytesMax);
  if (!disk) return disk.error();
  offer.slots = slots.value();
  offer.cpus = cpus.value();
  offer.memory_bytes = memory.value();
  offer.disk_bytes = disk.value();
  const std::pair<const char*, std::string*> texts[] = {{"os", &offer.os}, {"arch", &offer.arch}, {"hostname", &offer.hostname},
                                                        {"cpu-model", &offer.cpu_model}, {"version", &offer.version}};
  for (const auto& [var, into] : texts)
    if (const auto read = text(form, var, *into); !read) return read.error();
  if (const auto read = pairs(form, "software", offer.software); !read) return read.error();
  if (const auto read = pairs(form, "tags", offer.tags); !read) return read.error();
  auto gpus = list(form, "gpus");
  if (!gpus) return gpus.error();
  offer.gpus = std::move(gpus.value());
  return offer;
}

}  // namespace souk
