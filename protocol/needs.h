// What one task asks of a worker, and what a worker has of it. Plain values, for all parties.
#pragma once
#include <compare>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"

namespace souk {

constexpr int kCpusMax = 4096;                       // of one task; as many slots as a worker can have
constexpr int kGpusMax = 1024;
constexpr std::uint64_t kBytesMax = 1ull << 60;      // of memory or disk
constexpr std::uint64_t kAmountMax = 1'000'000'000;  // of a resource of the owner's naming
constexpr std::size_t kResourcesMax = 32;            // kinds of them in one request or offer
constexpr std::size_t kResourceNameMax = 64;         // bytes
constexpr std::size_t kImageNameMax = 200;           // bytes

/// What a task takes of its worker while it runs. A task takes as many of the worker's slots as it asks cpus.
struct Needs {
  int cpus = 1;                                   // 1 to kCpusMax
  std::uint64_t memory_bytes = 0, disk_bytes = 0;  // 0: not said, takes none
  int gpus = 0;                                   // 0 to kGpusMax; handed out by index
  std::map<std::string, std::uint64_t> resources{};  // of the owners' naming: license.matlab -> 1
  friend auto operator<=>(const Needs&, const Needs&) = default;
};

/// A name for a resource: letters, digits, `_`, `-` and single dots inside, beginning with a letter, at most kResourceNameMax bytes;
/// not cpus, memory, disk, gpus or slots, which have options of their own.
Result<Done> check_resource_name(std::string_view name);

/// A name for a service: 1 to kResourceNameMax lower-case letters, digits, `_` and `-`, with single dots inside, beginning with a letter.
Result<Done> check_service_name(std::string_view name);

/// The name of an image, as podman takes it: 1 to kImageNameMax lower-case letters, digits, `.`, `_`, `-`, `/`, `:` and `@`, beginning with a letter or a digit: `debian:12`, `localhost/lab:3`.
Result<Done> check_image_name(std::string_view name);

/// In range, with names as check_resource_name() wants them, at most kResourcesMax.
Result<Done> check(const Needs& needs);

}  // namespace souk
