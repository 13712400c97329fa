// Which grid a worker's results belong to.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>

#include "protocol/profile.h"
#include "protocol/stanza.h"

namespace souk::worker {

/// Whose results they are. The embedded grid has the same addresses everywhere, so that its profile tells one from another.
inline std::string grid_of(const Profile& profile, const std::filesystem::path& file) {
  const std::string account = bare(profile.account.jid);
  std::error_code failure;
  const bool everywhere = account.ends_with(".localhost");
  if (!everywhere) return profile.manager + ' ' + profile.room + ' ' + account;
  // A private grid that was begun anew in the same folder is another one; its passwords, which were made with it, tell.
  std::uint64_t mark = 0xcbf29ce484222325u;  // FNV-1a
  for (const char c : profile.account.password) mark = (mark ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return profile.manager + ' ' + profile.room + ' ' + account + ' ' + std::filesystem::weakly_canonical(file, failure).string() + ' ' + std::to_string(mark);
}

}  // namespace souk::worker
