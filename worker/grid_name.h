// Which grid a worker's results belong to.
#pragma once
#include <filesystem>
#include <string>

#include "protocol/profile.h"
#include "protocol/stanza.h"
#include "worker/spool.h"

namespace souk::worker {

/// Whose results they are. The embedded grid has the same addresses everywhere, so that its profile tells one from another.
inline std::string grid_of(const Profile& profile, const std::filesystem::path& file) {
  const std::string account = bare(profile.account.jid);
  std::error_code failure;
  const bool everywhere = account.ends_with(".localhost");
  if (!everywhere) return profile.manager + ' ' + profile.room + ' ' + account;
  // A private grid that was begun anew in the same folder is another one; its passwords, which were made with it, tell.
  return profile.manager + ' ' + profile.room + ' ' + account + ' ' + std::filesystem::weakly_canonical(file, failure).string() + ' ' + std::to_string(mark_of(profile.account.password));
}

}  // namespace souk::worker
