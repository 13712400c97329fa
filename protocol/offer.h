// What a worker offers, as a struct and as the XEP-0128 form that its disco#info carries.
#pragma once
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/form.h"
#include "protocol/needs.h"
#include "protocol/result.h"
#include "protocol/who.h"

namespace souk {

constexpr int kSlotsMax = 4096;

/// A resource of the owner's naming: a count, or things with names of their own that are handed out one by one.
struct OfferedResource {
  std::uint64_t amount = 0;          // 1 to kAmountMax
  std::vector<std::string> names;    // none, or `amount` of them
  friend bool operator==(const OfferedResource&, const OfferedResource&) = default;
};

/// How well a worker can keep tasks from its host, the better the higher. In expressions `sandbox >= bwrap`.
enum class SandboxLevel : std::uint8_t {
  none,
  bwrap,   // own namespaces, read-only system, filtered system calls; memory limited for each process
  cgroup,  // and memory and processes of the whole attempt limited by the kernel
};
constexpr std::string_view name_of(SandboxLevel level) { return level == SandboxLevel::cgroup ? "cgroup" : level == SandboxLevel::bwrap ? "bwrap" : "none"; }

struct Offer {
  int slots = 1;  // 1 to kSlotsMax
  int cpus = 0;   // logical processors this worker may use
  std::uint64_t memory_bytes = 0, disk_bytes = 0;  // disk: free in the working folder at start
  std::string os, arch;        // `linux`, `x86_64` as uname prints them, lower case
  std::string hostname, cpu_model, version;
  std::map<std::string, std::string> software;  // name -> version: `python` -> `3.11.2`
  std::vector<std::string> gpus;                // one name a GPU, index = position
  std::map<std::string, std::string> tags;      // --tag key=value
  std::map<std::string, OfferedResource> resources;  // --resource name=2 or name=[a,b]
  std::set<std::string> services;  // names: --service name=COMMAND
  double speed = 0;  // of one processor, 1.0: the reference machine, in steps of a tenth; 0: not measured
  SandboxLevel sandbox = SandboxLevel::none;  // the most it can keep a task in
  std::string sandbox_note;                   // for people: what is in force, or why there is none
  bool network = false;                       // its owner lets tasks in a sandbox have the network, or it keeps none in one
  std::set<std::string> images;               // names: --image; a task in a sandbox can have one as its system
  std::vector<Who> accept;  // whose tasks it takes: --accept; empty: anyone's
  friend bool operator==(const Offer&, const Offer&) = default;
};

constexpr std::size_t kServicesMax = 64;
constexpr std::size_t kAcceptMax = 64;
constexpr std::size_t kImagesMax = 16;
constexpr double kSpeedMax = 1000;
constexpr std::size_t kResourceUnitsMax = 256;      // named units of one resource
constexpr std::size_t kResourceTextMax = 2048;      // bytes of `name=[a,b]`

/// Reads `license.matlab=2` or `fpga=[a,b]`: a name as check_resource_name() wants it, and a number from 1 to kAmountMax or 1 to kResourceUnitsMax
/// different names of 1 to 64 letters, digits, `_`, `-`, `.`, `:` and `/`.
Result<std::pair<std::string, OfferedResource>> parse_resource(std::string_view text);
/// What stands behind the name: `2`, or `[a,b]`.
std::string written(const OfferedResource& resource);

inline constexpr const char* kOfferForm = "urn:souk:offer:1";

/// A worker's offer as a `result` form with FORM_TYPE kOfferForm, which offer_from() accepts: texts are made printable, lose '<' and
/// line breaks, and are cut to 256 bytes; what is past the 64th entry of a list is left out, as are names with '='.
/// `slots`, `resources`, `services` and `images` must be in range; a speed is brought into 0 to kSpeedMax and rounded to tenths.
Form to_form(const Offer& offer);
/// Reads an offer; fails on missing or out-of-range numbers, on more than 64 software entries, GPUs or tags, on values over 256 bytes,
/// and on resources as parse_resource() does, or more than kResourcesMax, on more than kImagesMax images, and on names that check_service_name() or check_image_name() refuses. `resource`, `service`, `image`, `speed`, `accept`, `sandbox`,
/// `sandbox-note` and `network` may be missing.
Result<Offer> offer_from(const Form& form);

}  // namespace souk
