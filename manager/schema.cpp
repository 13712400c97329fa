#include "manager/schema.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <iterator>
#include <stdexcept>
#include <string>

namespace souk {

namespace {

constexpr const char* kSteps[] = {
    R"(
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE TABLE jobs(id INTEGER PRIMARY KEY, owner TEXT, key TEXT, name TEXT, command TEXT, tasks INTEGER, retries INTEGER, notify INTEGER, canceled INTEGER,
  submitted_ms INTEGER, started_ms INTEGER, ended_ms INTEGER, state INTEGER, succeeded INTEGER, failed INTEGER, canceled_tasks INTEGER,
  requeued INTEGER, retried INTEGER, spec BLOB);
CREATE TABLE outcomes(job INTEGER, task INTEGER, state INTEGER, attempts INTEGER, worker TEXT, item BLOB, outcome BLOB, out BLOB, err BLOB);
CREATE UNIQUE INDEX outcome_of_task ON outcomes(job, task, state);
)",
    R"(
ALTER TABLE jobs ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN held INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN deadline_ms INTEGER NOT NULL DEFAULT 0;
ALTER TABLE jobs ADD COLUMN note TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN layout TEXT NOT NULL DEFAULT '';
CREATE TABLE attempts(job INTEGER, task INTEGER, run INTEGER, failures INTEGER, losses INTEGER, again_ms INTEGER, epoch INTEGER, number INTEGER,
  worker TEXT, host TEXT, ending TEXT, ended_ms INTEGER, wall_us INTEGER, last_lines BLOB);
CREATE INDEX attempt_of_task ON attempts(job, task);
)",
    // Specifications of megabytes lay in the way of every look through the jobs. Jobs are found by when they ended: 0, not yet.
    // untold: ended, and the owner was not told so. forgotten: no longer kept, and some of their rows are still there.
    R"(
CREATE TABLE specs(job INTEGER PRIMARY KEY, spec BLOB);
INSERT INTO specs SELECT id, spec FROM jobs;
ALTER TABLE jobs DROP COLUMN spec;
CREATE INDEX job_by_end ON jobs(ended_ms);
CREATE TABLE untold(job INTEGER PRIMARY KEY);
CREATE TABLE forgotten(job INTEGER PRIMARY KEY);
)",
    // Of a result that counts with others: who gave it, and what is compared of it.
    R"(
ALTER TABLE attempts ADD COLUMN voter TEXT;
ALTER TABLE attempts ADD COLUMN vote BLOB;
)"};
static_assert(std::size(kSteps) == kSchemaVersion);

int version_of(SQLite::Database& db) { return db.execAndGet("PRAGMA user_version").getInt(); }

}  // namespace

const char* schema_step(int to) { return kSteps[to - 1]; }

StoreLock::StoreLock(const std::filesystem::path& store) {
  const std::string name = store.string() + ".lock";
  file_ = ::open(name.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file_ < 0) throw std::runtime_error("cannot write " + name + ": " + std::strerror(errno));
  if (::flock(file_, LOCK_EX | LOCK_NB) == 0) return;
  ::close(file_);
  throw std::runtime_error("it is locked by another process");
}
StoreLock::~StoreLock() { ::close(file_); }

std::unique_ptr<SQLite::Database> open_store(const std::filesystem::path& file) {
  // Looked at before anything is written: opening a store for writing empties the log of one that was not closed, and a newer version may have made that.
  std::error_code none;
  if (std::filesystem::file_size(file, none) > 0 && !none) {
    SQLite::Database seen(file.string(), SQLite::OPEN_READONLY, 1000);
    const int version = version_of(seen);
    if (version == 0 && seen.execAndGet("SELECT count(*) FROM sqlite_master").getInt() > 0) throw std::runtime_error("it is a database, but not a store of Souk's");
    if (version > kSchemaVersion)
      throw std::runtime_error("it was written by a newer version of Souk (schema " + std::to_string(version) + ", known here " + std::to_string(kSchemaVersion) + ")");
  } else if (!none) spdlog::warn("the store is empty, and begun anew file={}", file.string());  // a first start that was killed; or all of it was lost
  auto db = std::make_unique<SQLite::Database>(file.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE | SQLite::OPEN_NOMUTEX, 1000);  // one thread at a time uses it
  ::chmod(file.c_str(), 0600);
  // Free pages can go back to the disk. Counts for a new store only: an older one would have to be written anew as a whole, which needs its size again and a
  // pause of its manager; there free pages are reused.
  db->exec("PRAGMA auto_vacuum=INCREMENTAL");
  if (const std::string mode = db->execAndGet("PRAGMA journal_mode=WAL").getString(); mode != "wal") throw std::runtime_error("its disk cannot do SQLite's WAL mode (" + mode + ")");
  db->exec("PRAGMA synchronous=FULL");
  db->exec("PRAGMA wal_autocheckpoint=4000");
  db->exec("PRAGMA journal_size_limit=25165824");  // a log that was long once gives its room back; above its usual size, since a file that grows again takes longer to sync
  db->exec("BEGIN IMMEDIATE");
  const int version = version_of(*db);
  for (int step = version; step < kSchemaVersion; ++step) db->exec(kSteps[step]);
  db->exec("PRAGMA user_version=" + std::to_string(kSchemaVersion));
  db->exec("INSERT INTO meta VALUES('epoch',1) ON CONFLICT(name) DO UPDATE SET value=value+1");
  db->exec("COMMIT");
  if (version > 0 && version < kSchemaVersion) spdlog::info("store brought up to date file={} from={} to={}", file.string(), version, kSchemaVersion);
  return db;
}

}  // namespace souk
