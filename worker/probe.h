// Finds out what this host offers.
#pragma once
#include <chrono>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "protocol/offer.h"

namespace souk {

struct ProbeOptions {
  std::filesystem::path work;               // where free disk space is measured; must exist
  int slots = 0;                            // 0: one for each processor
  std::map<std::string, std::string> tags;  // as given by --tag
  std::map<std::string, OfferedResource> resources;  // as given by --resource
  double speed = 0;                         // as given by --speed; 0: measured
  std::string path;                         // where software is looked for; empty: PATH of this process
  std::chrono::milliseconds patience{600};  // for programs to tell their version; those that do not are offered with version ""
  std::filesystem::path root = "/";         // where /proc and /sys are
};

/// What this host offers. Takes a few milliseconds and at most `patience` for software; up to 2 s where only nvidia-smi can tell GPUs.
/// What cannot be found out stays empty or 0. Starts programs: call it from the main thread before the loop runs.
Offer probe(const ProbeOptions& options);

/// How much of a disk is offered: what is free but 2 GiB, or a twentieth of a large one, which stay for its owner; of little, half.
std::uint64_t offered_disk(std::uint64_t free, std::uint64_t size);

/// The small clean environment that attempts start with: PATH, HOME, USER, LOGNAME, SHELL, LANG, LC_*, TZ as this process has them.
std::vector<std::pair<std::string, std::string>> task_environment();

}  // namespace souk
