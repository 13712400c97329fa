#include "protocol/needs.h"

#include <algorithm>
#include <array>

#include "protocol/notation.h"

namespace souk {

namespace {
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_name_part(char c) { return is_letter(c) || (c >= '0' && c <= '9') || c == '_' || c == '-'; }
bool is_name(std::string_view name) {
  bool good = !name.empty() && is_letter(name.front()) && name.back() != '.';
  for (std::size_t i = 0; good && i < name.size(); ++i) good = is_name_part(name[i]) || (name[i] == '.' && name[i - 1] != '.');
  return good;
}
}  // namespace

Result<Done> check_resource_name(std::string_view name) {
  static constexpr std::array<std::string_view, 5> ours{"cpus", "memory", "disk", "gpus", "slots"};
  const auto bad = [&](std::string why, std::string remedy) {
    return Error{"resource " + quoted(name) + " refused", std::move(why), std::move(remedy)};
  };
  if (std::find(ours.begin(), ours.end(), name) != ours.end()) return bad("that one has an option of its own", "write --" + std::string(name));
  if (name.size() > kResourceNameMax) return bad("its name is over " + std::to_string(kResourceNameMax) + " bytes", "use a shorter one");
  if (!is_name(name)) return bad("that is no name for one", "use letters, digits, _ and -, with single dots between, such as license.matlab");
  return Done{};
}

Result<Done> check_service_name(std::string_view name) {
  const bool lower = std::none_of(name.begin(), name.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
  if (lower && is_name(name) && name.size() <= kResourceNameMax) return Done{};
  return Error{"service " + quoted(name.substr(0, 2 * kResourceNameMax)) + " refused", "that is no name for one", "use up to " + std::to_string(kResourceNameMax) + " lower-case letters, digits, _ and -, with single dots between, such as word-count"};
}

Result<Done> check_image_name(std::string_view name) {
  const auto is_start = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };  // no capitals: names in expressions have none
  const auto is_part = [&](char c) { return is_start(c) || c == '.' || c == '_' || c == '-' || c == '/' || c == ':' || c == '@'; };
  if (!name.empty() && name.size() <= kImageNameMax && is_start(name.front()) && std::all_of(name.begin(), name.end(), is_part)) return Done{};
  return Error{"image " + quoted(name.substr(0, 64)) + " refused", name.size() > kImageNameMax ? "its name is over " + std::to_string(kImageNameMax) + " bytes" : "that is no name for one",
               "write it as podman shows it, in lower case, such as debian:12 or localhost/lab:3 (`podman tag` gives an image another name)"};
}

Result<Done> check(const Needs& needs) {
  const auto bad = [](std::string why, std::string remedy) { return Error{"needs refused", std::move(why), std::move(remedy)}; };
  if (needs.cpus < 1 || needs.cpus > kCpusMax) return bad(std::to_string(needs.cpus) + " cpus", "ask for 1 to " + std::to_string(kCpusMax));
  if (needs.gpus < 0 || needs.gpus > kGpusMax) return bad(std::to_string(needs.gpus) + " gpus", "ask for 0 to " + std::to_string(kGpusMax));
  if (needs.memory_bytes > kBytesMax) return bad("more memory than any machine has", "ask for less");
  if (needs.disk_bytes > kBytesMax) return bad("more disk than any machine has", "ask for less");
  if (needs.resources.size() > kResourcesMax) return bad("over " + std::to_string(kResourcesMax) + " kinds of resources", "ask for fewer");
  for (const auto& [name, amount] : needs.resources) {
    if (auto good = check_resource_name(name); !good) return good;
    if (amount < 1 || amount > kAmountMax) return bad(std::to_string(amount) + " of resource " + name, "ask for 1 to " + std::to_string(kAmountMax));
  }
  return Done{};
}

}  // namespace souk
