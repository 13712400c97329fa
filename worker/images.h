// Images that this worker's owner offers: each unpacked once into a folder, which sandboxes then have as their system (sandbox.h).
//
// podman is asked where they are and hands out their files; it runs nothing. A task's word never reaches it: what a task names is only compared with what the owner named.
// The folder is shared by all workers of this user on this host: one unpacks at a time, and what nobody uses any more goes.
#pragma once
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "protocol/result.h"
#include "worker/cgroup.h"

namespace souk {

struct Image {
  std::string name;
  std::filesystem::path root;                             // its files, ready for Sandbox::add_image()
  std::vector<std::pair<std::string, std::string>> env;  // as its configuration has it; its entry point and command are not used
  std::shared_ptr<const Fd> held;                         // while it lives, nobody removes these files
};

struct ImageOptions {
  std::vector<std::string> names;  // as check_image_name() wants them
  std::filesystem::path folder;    // of this user, and not to be entered by others; made if missing
  bool pull = false;               // fetch those that are not on this host
  bool for_all = false;            // a worker of root: its sandboxes have another user, who must be able to read them
};

/// Finds, and where needed fetches and unpacks, all of these; may take minutes. note: one line for the log
/// fails: with what podman said, and what to do
Result<std::vector<Image>> get_images(const ImageOptions& options, const std::function<void(const std::string&)>& note);

/// What `podman image inspect` says of one image. yields: its id, 64 hexadecimal digits, and its environment: at most 256 variables and 64 KiB, the rest is left out
Result<std::pair<std::string, std::vector<std::pair<std::string, std::string>>>> read_inspection(const std::string& json);

/// Makes what was unpacked the system of a sandbox: only folders, files and links, all of them readable and nothing set-user-id; with what a sandbox puts its own into.
/// Follows no link.
Result<Done> make_system(const std::filesystem::path& root);

}  // namespace souk
