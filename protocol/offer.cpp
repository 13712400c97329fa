#include "protocol/offer.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <set>

namespace souk {
namespace {

constexpr std::size_t kEntriesMax = 64;    // software entries, GPUs, tags, services, each
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

constexpr std::size_t kUnitNameMax = 64;  // bytes

bool is_unit_name(std::string_view name) {
  const auto good = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || std::string_view("_-.:/").find(c) != std::string_view::npos;
  };
  return !name.empty() && name.size() <= kUnitNameMax && std::all_of(name.begin(), name.end(), good);
}

Result<Done> resources(const Form& form, std::map<std::string, OfferedResource>& into) {
  const Field* field = form.find("resource");
  if (field == nullptr) return Done{};
  if (field->values.size() > kResourcesMax)
    return refused("field 'resource' has " + std::to_string(field->values.size()) + " entries", "send at most " + std::to_string(kResourcesMax));
  for (const std::string& text : field->values) {
    auto read = parse_resource(text);
    if (!read) return refused(read.error().what + ": " + read.error().why, read.error().remedy);
    if (!into.insert(read.value()).second) return refused("resource '" + read.value().first + "' stands twice", "send each name once");
  }
  return Done{};
}

Result<double> speed(const Form& form) {
  const Field* field = form.find("speed");
  if (field == nullptr) return 0.0;
  const std::string text = field->values.size() == 1 ? field->values.front() : "";
  double value = -1;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value, std::chars_format::fixed);
  if (failure == std::errc{} && end == text.data() + text.size() && value >= 0 && value <= kSpeedMax) return std::round(value * 10) / 10;  // no NaN is in range
  return refused("field 'speed' is '" + printable(shortened(text, 32)) + "'", "send a number from 0 to 1000, such as 1.3");
}

/// One line and at most kValueMax bytes: what to_form() emits, offer_from() accepts.
std::string entry(std::string value) {
  value = shortened(printable(value), kValueMax);
  for (char& c : value)
    if (c == '\n' || c == '\r' || c == '<') c = ' ';  // a list field carries one entry a line; caps_hash() takes no '<'
  return value;
}

}  // namespace

Result<std::pair<std::string, OfferedResource>> parse_resource(std::string_view text) {
  const auto bad = [&](std::string why) {
    return Error{"resource '" + printable(shortened(text, 64)) + "' refused", std::move(why), "write name=2 or name=[a,b], such as license.matlab=2 or fpga=[left,right]"};
  };
  if (text.size() > kResourceTextMax) return bad("it is over " + std::to_string(kResourceTextMax) + " bytes");
  const auto equals = text.find('=');
  if (equals == std::string_view::npos) return bad("it has no name and amount");
  const std::string_view name = text.substr(0, equals);
  std::string_view value = text.substr(equals + 1);
  if (const auto good = check_resource_name(name); !good) return bad(good.error().why);
  OfferedResource resource;
  if (value.starts_with('[')) {
    if (!value.ends_with(']')) return bad("its list has no end");
    value = value.substr(1, value.size() - 2);
    std::set<std::string_view> seen;
    for (;;) {
      const auto comma = std::min(value.find(','), value.size());
      const std::string_view unit = value.substr(0, comma);
      if (!is_unit_name(unit)) return bad("'" + printable(shortened(unit, 32)) + "' is no name for one of them");
      if (!seen.insert(unit).second) return bad("'" + std::string(unit) + "' is there twice");
      if (resource.names.size() == kResourceUnitsMax) return bad("it has over " + std::to_string(kResourceUnitsMax) + " names");
      resource.names.emplace_back(unit);
      if (comma == value.size()) break;
      value.remove_prefix(comma + 1);
    }
    resource.amount = resource.names.size();
  } else {
    const auto [end, failure] = std::from_chars(value.data(), value.data() + value.size(), resource.amount);
    if (failure != std::errc{} || end != value.data() + value.size() || resource.amount < 1 || resource.amount > kAmountMax)
      return bad("its amount is no whole number from 1 to " + std::to_string(kAmountMax));
  }
  return std::pair{std::string(name), std::move(resource)};
}

std::string written(const OfferedResource& resource) {
  if (resource.names.empty()) return std::to_string(resource.amount);
  std::string text = "[";
  for (const auto& name : resource.names) text += (text.size() > 1 ? "," : "") + name;
  return text + "]";
}

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
  std::vector<std::string> resources;
  for (const auto& [name, resource] : offer.resources) resources.push_back(name + '=' + written(resource));
  if (!resources.empty()) form.add("resource", "text-multi", "", std::move(resources));
  if (!offer.services.empty()) form.add("service", "text-multi", "", {offer.services.begin(), offer.services.end()});
  if (!offer.accept.empty()) {
    std::vector<std::string> accept;
    for (const Who& who : offer.accept) accept.push_back(who.text());
    form.add("accept", "text-multi", "", std::move(accept));  // never shortened: an empty list would let in anyone
  }
  if (const auto tenths = std::lround(std::clamp(offer.speed, 0.0, kSpeedMax) * 10); tenths > 0) add("speed", std::to_string(tenths / 10) + '.' + std::to_string(tenths % 10));
  if (offer.sandbox != SandboxLevel::none) add("sandbox", std::string(name_of(offer.sandbox)));
  if (!offer.sandbox_note.empty()) add("sandbox-note", entry(offer.sandbox_note));
  if (offer.network) add("network", "true");
  if (!offer.images.empty()) form.add("image", "text-multi", "", {offer.images.begin(), offer.images.end()});
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
  if (const auto read = resources(form, offer.resources); !read) return read.error();
  const auto services = list(form, "service");
  if (!services) return services.error();
  for (const std::string& name : services.value()) {
    if (const auto good = check_service_name(name); !good) return refused(good.error().what + ": " + good.error().why, good.error().remedy);
    if (!offer.services.insert(name).second) return refused("service '" + name + "' stands twice", "send each name once");
  }
  const auto images = list(form, "image");
  if (!images) return images.error();
  if (images.value().size() > kImagesMax) return refused("it has " + std::to_string(images.value().size()) + " images", "send at most " + std::to_string(kImagesMax));
  for (const std::string& name : images.value()) {
    if (const auto good = check_image_name(name); !good) return refused(good.error().what + ": " + good.error().why, good.error().remedy);
    if (!offer.images.insert(name).second) return refused("image '" + name + "' stands twice", "send each name once");
  }
  const auto tempo = speed(form);
  if (!tempo) return tempo.error();
  offer.speed = tempo.value();
  const std::string_view sandbox = form.text("sandbox");
  for (const SandboxLevel level : {SandboxLevel::bwrap, SandboxLevel::cgroup})
    if (sandbox == name_of(level)) offer.sandbox = level;  // a level that we do not know is none: nobody relies on it
  if (form.find("sandbox-note") != nullptr)
    if (const auto read = text(form, "sandbox-note", offer.sandbox_note); !read) return read.error();
  offer.network = form.text("network") == "true";
  const auto accept = list(form, "accept");
  if (!accept) return accept.error();
  for (const std::string& text : accept.value()) {
    auto who = Who::parse(text);
    if (!who) return refused(who.error().what + ": " + who.error().why, who.error().remedy);
    if (std::find(offer.accept.begin(), offer.accept.end(), who.value()) == offer.accept.end()) offer.accept.push_back(std::move(who.value()));
  }
  return offer;
}

}  // namespace souk
