#include <algorithm>

#include "manager/store_rows.h"

namespace souk {

namespace {

using Clock = std::chrono::steady_clock;
constexpr int kRowsMin = 1, kRowsMax = 1024;  // deleted by one statement
constexpr unsigned kCheckpointEvery = 8;      // sweeps
constexpr std::uint64_t kFreeMin = 2048;      // pages, 8 MiB, that stay free for what is to come; and a quarter of the file

/// Nobody was promised that old rows are gone: a sweep need not wait for the disk. The next commit brings it there, as all that was before it in the log.
class Unhurried {
 public:
  explicit Unhurried(SQLite::Database& db) : db_(db) { db_.exec("PRAGMA synchronous=NORMAL"); }
  ~Unhurried() { db_.exec("PRAGMA synchronous=FULL"); }  // should this ever fail, the program had better end
  Unhurried(const Unhurried&) = delete;

 private:
  SQLite::Database& db_;
};

}  // namespace

StoreSweeper::StoreSweeper(Statements& statements) : sql_(statements) {
  for (Query row(sql_["SELECT job FROM forgotten ORDER BY job"]); row.next();) jobs_.push_back({row.number(0)});
}

void StoreSweeper::sweep(std::chrono::microseconds most) {
  const auto until = Clock::now() + most;
  const Unhurried unhurried(sql_.database());
  SQLite::Transaction transaction(sql_.database());
  done_ = 0;
  while ((done_ < jobs_.size() || vacuum_) && Clock::now() < until)
    if (done_ < jobs_.size()) delete_some();
    else vacuum_some();
  transaction.commit();
  jobs_.erase(jobs_.begin(), jobs_.begin() + static_cast<std::ptrdiff_t>(done_));
  // Little and often: else a commit now and then would have to bring thousands of these pages from the log to their places.
  if (++sweeps_ % kCheckpointEvery != 0) return;
  Query checkpoint(sql_["PRAGMA wal_checkpoint(PASSIVE)"]);
  checkpoint.next();
}

void StoreSweeper::delete_some() {
  const JobId job = jobs_[done_];
  const auto began = Clock::now();
  Query outcomes(sql_["DELETE FROM outcomes WHERE rowid IN (SELECT rowid FROM outcomes WHERE job=? LIMIT ?)"], job.value, rows_);
  outcomes.run();
  int deleted = sql_.database().getChanges();
  if (deleted == 0) {
    Query attempts(sql_["DELETE FROM attempts WHERE rowid IN (SELECT rowid FROM attempts WHERE job=? LIMIT ?)"], job.value, rows_);
    attempts.run();
    deleted = sql_.database().getChanges();
  }
  if (deleted == 0) {
    Query(sql_["DELETE FROM forgotten WHERE job=?"], job.value).run();
    ++done_;
    vacuum_ = true;
    return;
  }
  // A row may have a few bytes or megabytes.
  const auto took = Clock::now() - began;
  if (took > std::chrono::microseconds(1000)) rows_ = std::max(kRowsMin, rows_ / 2);
  else if (took < std::chrono::microseconds(300) && deleted == rows_) rows_ = std::min(kRowsMax, rows_ * 2);
}

/// Free pages are used again first; those that are more than a quarter of the file go back to the disk. Does nothing to a store made before that was possible.
void StoreSweeper::vacuum_some() {
  const auto ask = [this](const char* text) {
    Query answer(sql_[text]);
    return answer.next() ? answer.number(0) : 0;
  };
  const std::uint64_t free = ask("PRAGMA freelist_count"), pages = ask("PRAGMA page_count");
  vacuum_ = ask("PRAGMA auto_vacuum") == 2 && free > std::max(kFreeMin, pages / 4);
  if (!vacuum_) return;
  for (Query step(sql_["PRAGMA incremental_vacuum(64)"]); step.next();) {
  }
}

}  // namespace souk
