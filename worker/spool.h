// What a worker keeps on disk: finished results until the manager has them, and what it obeyed. SQLite in WAL mode, on the loop: no thread may exist
// beside it (worker/process.h), and a write that syncs nothing takes some tens of microseconds.
//
// What is written survives the end of this process, however it comes, at once: the kernel has it. A power cut it survives after a sync, which costs
// milliseconds; so only results that have waited for over kSyncAfter are synced. Who is taken within that, and nearly all are, costs no sync at all.
#pragma once
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "protocol/result.h"
#include "worker/agent.h"

namespace souk::worker {

/// A short mark of a text, the same in every life (FNV-1a).
std::uint64_t mark_of(std::string_view text);

/// What makes a worker's resource its own: 8 random digits.
std::string random_suffix();

class Spool {
 public:
  static constexpr std::chrono::milliseconds kSyncAfter{2000};  // a result that waited so long is synced
  static constexpr std::chrono::milliseconds kWriteWithin{kGatherMax};  // what was told to be kept: a report, which is not later, asks for it before
  static constexpr std::chrono::milliseconds kTidyWithin{200};  // what was told to be forgotten: rides along with the next write, or goes then
  static constexpr std::chrono::milliseconds kTryAgain{1000};   // after the disk refused

  struct Found {
    Restored restored;
    std::string suffix;  // of this folder's worker, in its resource: made once, so that each life is known as the same worker
    bool copied = false;  // the file is not where that was made: somebody copied the folder, or moved it to another disk
  };
  /// Opens or makes what is kept in `folder` (made if missing, 0700) of that grid, and locks the folder for as long as this lives.
  /// grid:   names the manager, room and account that results are for; other grids have files of their own in the same folder
  /// fails:  if the folder cannot be written to, or another worker uses it
  /// A file that is damaged, or of a newer version, is moved aside, never written to, and a new one is made; the log says so.
  static Result<std::unique_ptr<Spool>> open(boost::asio::io_context& loop, const std::filesystem::path& folder, const std::string& grid, Found& found);
  /// Writes what was told so far, if the disk takes it.
  virtual ~Spool() = default;

  /// Why nothing can be written now, for people; empty: it can. While it is so, nothing is lost but what is lost with this process, and it is tried again
  /// every kTryAgain.
  std::function<void(const std::string& why)> on_trouble = [](const std::string&) {};

  virtual void keep(const Held& held, std::shared_ptr<const Outcome> outcome) = 0;
  virtual void forget(AttemptId attempt) = 0;
  virtual void remember(Epoch epoch, JobId jobs_seen) = 0;
  /// Another suffix, since another worker has the same, by a copy of this folder: for this life, and for the next ones if the disk takes it.
  virtual std::string rename() = 0;
  /// Writes all that is to be kept, in one transaction; nothing if nothing is. False if the disk refuses.
  virtual bool write() = 0;
};

}  // namespace souk::worker
