#include "submit/connect.h"

#include <cstdlib>

#include "submit/state_folder.h"

namespace souk {
namespace {

/// `~/.souk` rather than the whole path.
std::string shown(const std::filesystem::path& path) {
  const char* home = std::getenv("HOME");
  const std::string text = path.string();
  if (home && *home && text.starts_with(std::string(home) + "/")) return "~" + text.substr(std::string(home).size());
  return text;
}

}  // namespace

Result<Profile> find_grid(const Common& common) {
  const auto file = user_profile(common);
  if (!common.profile.empty()) return load_profile(file);
  const auto usual = state_dir({});
  const std::string up = usual && usual.value() == common.dir ? "`souk up`" : "`souk --dir " + common.dir.string() + " up`";
  std::error_code failure;
  if (!std::filesystem::exists(file, failure))
    return Error{"no grid in " + shown(common.dir), "", "start one with " + up + ", or name the profile of another one: --profile FILE"};
  const Layout at{common.dir};
  if (std::filesystem::exists(at.settings(), failure) && !FolderLock::held(at)) return Error{"the grid in " + shown(common.dir) + " does not run", "", "start it with " + up};
  return load_profile(file);
}

int fail(const Common& common, const Session& session, const Error& error) {
  return fail(common, error, session.unreachable() ? exit_code::unreachable : exit_code::usage);
}

}  // namespace souk
