#include "worker/spool.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sqlite3.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <map>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "grid.pb.h"
#include "protocol/form.h"
#include "protocol/payload.h"
#include "worker/home.h"

namespace souk::worker {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

namespace {

// Each step makes the next version of the one before; a new file takes them all. PRAGMA user_version says how many were taken.
constexpr const char* kSteps[] = {R"(
CREATE TABLE meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE results(id INTEGER PRIMARY KEY, epoch INTEGER, number INTEGER, job INTEGER, task INTEGER, outcome BLOB, out BLOB, err BLOB);
)"};
constexpr int kVersion = std::size(kSteps);
constexpr int kCheckpointPages = 8192;  // 32 MiB: who is never idle syncs now and then; the fewer the better, since the loop waits for it
constexpr std::int64_t kSlackPages = 1024;  // of an empty file that are given back to the disk
constexpr auto kLockedMax = std::chrono::milliseconds(500);  // a process that a killed worker was about to start has its lock until it does

std::int64_t number(std::uint64_t value) { return static_cast<std::int64_t>(value); }
std::uint64_t number(const SQLite::Column& column) { return static_cast<std::uint64_t>(column.getInt64()); }
std::string bytes_of(const SQLite::Column& column) {
  const void* data = column.getBlob();
  return data != nullptr ? std::string(static_cast<const char*>(data), static_cast<std::size_t>(column.getBytes())) : std::string();
}

/// The same for the same grid, whatever it is called.
std::string file_of(const std::string& grid) {
  char name[48];
  std::snprintf(name, sizeof name, "results-%016llx.sqlite", static_cast<unsigned long long>(mark_of(grid)));
  return name;
}

/// Everything but its streams, which may be large.
std::string head_of(const Outcome& outcome) {
  Outcome head;
  head.cause = outcome.cause;
  head.exit_code = outcome.exit_code;
  head.signal = outcome.signal;
  head.why = outcome.why;
  head.wall = outcome.wall;
  head.cpu = outcome.cpu;
  head.peak_memory_kib = outcome.peak_memory_kib;
  head.out_size = outcome.out_size;
  head.err_size = outcome.err_size;
  wire::Outcome message;
  souk::write(head, message);
  return message.SerializeAsString();
}

/// What is in the file cannot be used: it is to be moved aside.
struct Unusable : std::runtime_error {
  using std::runtime_error::runtime_error;
};

bool says_damaged(const SQLite::Exception& fault) { return fault.getErrorCode() == SQLITE_CORRUPT || fault.getErrorCode() == SQLITE_NOTADB; }

class SqliteSpool final : public Spool {
 public:
  SqliteSpool(boost::asio::io_context& loop, fs::path folder, std::string grid, int lock)
      : timer_(loop), folder_(std::move(folder)), file_(folder_ / file_of(grid)), grid_(std::move(grid)), lock_(lock) {}
  ~SqliteSpool() override {
    on_trouble = [](const std::string&) {};  // whom it told may be gone
    again_ = {};
    if (statements_) write_all();
    statements_.reset();
    db_.reset();
    ::close(lock_);
  }

  void open(Found& found) {
    try {
      connect(&found);
    } catch (const Unusable& why) {
      start_anew(why.what(), &found);
    } catch (const SQLite::Exception& fault) {
      if (!says_damaged(fault) && fault.getErrorCode() != SQLITE_ERROR) throw;  // the latter: it has no such table
      start_anew("it is damaged: " + std::string(fault.what()), &found);
    }
    for (const Restored::Result& result : found.restored.results) {
      Row& row = rows_.at(result.held.attempt);
      row.since = Clock::now();
      unsynced_[row.id] = row.since;
    }
    if (!rows_.empty()) spdlog::info("results found on disk results={} folder=\"{}\"", rows_.size(), folder_.string());
    look_at(Clock::now() + kSyncAfter);
  }

  void keep(const Held& held, std::shared_ptr<const Outcome> outcome) override {
    Row& row = rows_[held.attempt];
    if (row.id != 0) bury(row.id);
    row = Row{0, held.task, std::move(outcome), Clock::now()};
    unwritten_.push_back(held.attempt);
    look_at(row.since + kWriteWithin);
  }

  void forget(AttemptId attempt) override {
    const auto row = rows_.find(attempt);
    if (row == rows_.end()) return;
    if (row->second.id != 0) bury(row->second.id);
    rows_.erase(row);
  }

  void remember(Epoch epoch, JobId jobs_seen) override {
    epoch_ = epoch;
    jobs_seen_ = jobs_seen;
    remembered_ = false;
    write();
  }

  std::string rename() override {
    suffix_ = random_suffix();
    try {
      sign();
    } catch (const std::exception& fault) {
      spdlog::warn("new name not kept on disk why=\"{}\" next=\"the next life will try the old one again\"", printable(fault.what()));
    }
    return suffix_;
  }

  bool write() override {
    if (unwritten_.empty() && remembered_) return true;
    return write_all();
  }

 private:
  struct Row {
    std::int64_t id = 0;  // 0: not on disk
    TaskId task;
    std::shared_ptr<const Outcome> outcome;
    Clock::time_point since;
  };
  struct Statements {
    explicit Statements(SQLite::Database& db)
        : begin(db, "BEGIN IMMEDIATE"), commit(db, "COMMIT"), put(db, "INSERT INTO results(epoch,number,job,task,outcome,out,err) VALUES(?,?,?,?,?,?,?)"),
          drop(db, "DELETE FROM results WHERE id=?"), remember(db, "INSERT OR REPLACE INTO meta VALUES(?,?)") {}
    SQLite::Statement begin, commit, put, drop, remember;
  };

  // ---- The file

  void connect(Found* found) {
    const int made = ::open(file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);  // else SQLite makes it readable to all
    if (made < 0) throw std::runtime_error(std::strerror(errno));
    ::close(made);
    db_ = std::make_unique<SQLite::Database>(file_.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_NOMUTEX);  // one thread
    // What turns out to be of a newer version must stay as it is, byte by byte.
    sqlite3_db_config(db_->getHandle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, nullptr);
    db_->exec("PRAGMA locking_mode=EXCLUSIVE");
    const int version = db_->execAndGet("PRAGMA user_version").getInt();
    if (version > kVersion) throw Unusable("it was written by a newer version of Souk (format " + std::to_string(version) + ", known here " + std::to_string(kVersion) + ")");
    if (std::string check = db_->execAndGet("PRAGMA quick_check(1)").getString(); check != "ok") {
      std::replace(check.begin(), check.end(), '\n', ' ');
      throw Unusable("it is damaged: " + check);
    }
    db_->exec("PRAGMA auto_vacuum=INCREMENTAL");  // of a file with nothing in it
    db_->exec("PRAGMA journal_mode=WAL");
    db_->exec("PRAGMA synchronous=NORMAL");
    db_->exec("PRAGMA wal_autocheckpoint=" + std::to_string(kCheckpointPages));
    db_->exec("PRAGMA journal_size_limit=" + std::to_string(4 << 20));
    db_->exec("BEGIN IMMEDIATE");
    for (int step = version; step < kVersion; ++step) db_->exec(kSteps[step]);
    db_->exec("PRAGMA user_version=" + std::to_string(kVersion));
    db_->exec("COMMIT");
    struct stat status {};
    inode_ = ::stat(file_.c_str(), &status) == 0 ? status.st_ino : 0;
    if (found != nullptr) restore(*found);
    statements_.emplace(*db_);
    sqlite3_db_config(db_->getHandle(), SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, nullptr);
  }

  void restore(Found& found) {
    std::string host, place;
    SQLite::Statement meta(*db_, "SELECT name, value FROM meta");
    while (meta.executeStep()) {
      const std::string name = meta.getColumn(0).getString();
      if (name == "epoch") found.restored.epoch = {number(meta.getColumn(1))};
      if (name == "jobs_seen") found.restored.jobs_seen = {number(meta.getColumn(1))};
      if (name == "suffix") found.suffix = meta.getColumn(1).getString();
      if (name == "host") host = meta.getColumn(1).getString();
      if (name == "place") place = meta.getColumn(1).getString();
    }
    meta.reset();
    epoch_ = found.restored.epoch;
    jobs_seen_ = found.restored.jobs_seen;
    SQLite::Statement results(*db_, "SELECT id, epoch, number, job, task, outcome, out, err FROM results ORDER BY id");
    while (results.executeStep()) {
      const Held held{{{number(results.getColumn(1))}, number(results.getColumn(2))}, {{number(results.getColumn(3))}, {number(results.getColumn(4))}}};
      wire::Outcome message;
      if (!message.ParseFromString(bytes_of(results.getColumn(5)))) throw Unusable("it is damaged: a result cannot be read");
      message.set_out(bytes_of(results.getColumn(6)));
      message.set_err(bytes_of(results.getColumn(7)));
      auto outcome = read(message);
      if (!outcome) throw Unusable("it is damaged: " + outcome.error().text());
      auto shared = std::make_shared<const Outcome>(std::move(outcome.value()));
      rows_[held.attempt] = Row{results.getColumn(0).getInt64(), held.task, shared, {}};
      found.restored.results.push_back({held, std::move(shared)});
    }
    // A copy of the folder on another host must not throw this one out of the room.
    const bool is_new = found.suffix.empty() || host != host_name();
    suffix_ = is_new ? random_suffix() : found.suffix;
    if (is_new || place.empty()) sign();
    found.suffix = suffix_;
    found.copied = !is_new && !place.empty() && place != std::to_string(inode_);
  }

  /// Writes down whose file this is. A copy is a file of its own; the number of the device changes with every start of the host, on some file systems.
  void sign() {
    SQLite::Statement put(*db_, "INSERT OR REPLACE INTO meta VALUES('suffix',?),('host',?),('grid',?),('place',?)");
    put.bind(1, suffix_), put.bind(2, host_name()), put.bind(3, grid_), put.bind(4, std::to_string(inode_));
    put.exec();
  }

  /// Moves the file aside and makes a new one, with all that is still known.
  void start_anew(const std::string& why, Found* found) {
    statements_.reset();
    db_.reset();
    char when[32];
    const std::time_t now = std::time(nullptr);
    std::tm utc{};
    ::gmtime_r(&now, &utc);
    std::strftime(when, sizeof when, "%Y%m%dT%H%M%SZ", &utc);
    fs::path aside;
    for (int tries = 0; aside.empty() || fs::exists(aside); ++tries) aside = file_.string() + ".aside-" + when + (tries == 0 ? "" : "-" + std::to_string(tries));
    std::error_code failure;
    if (fs::exists(file_, failure)) {
      fs::rename(file_, aside);
      for (const char* part : {"-wal", "-shm"}) fs::rename(file_.string() + part, aside.string() + part, failure);
      spdlog::error("results on disk moved aside file=\"{}\" to=\"{}\" why=\"{}\" next=\"a new file; what was in the old one is not handed over\"", file_.string(), aside.string(),
                    printable(why));
    } else {
      spdlog::error("results on disk are gone file=\"{}\" why=\"{}\" next=\"a new file\"", file_.string(), printable(why));
      fs::create_directories(folder_);
      fs::permissions(folder_, fs::perms::owner_all);
    }
    if (found != nullptr) {
      *found = {};
      rows_.clear();
      return connect(found);
    }
    connect(nullptr);
    unwritten_.clear();
    dead_.clear();
    unsynced_.clear();
    for (auto& [attempt, row] : rows_) {
      row.id = 0;
      unwritten_.push_back(attempt);
    }
    remembered_ = false;
    sign();
  }

  // ---- Writing

  void bury(std::int64_t id) {
    dead_.push_back(id);
    unsynced_.erase(id);
    look_at(Clock::now() + kTidyWithin);
  }

  bool write_all() {
    if (Clock::now() < again_) {
      look_at(again_);
      return false;
    }
    try {
      struct stat status {};
      if (::stat(file_.c_str(), &status) != 0 || status.st_ino != inode_) start_anew("somebody removed it", nullptr);
      transact();
    } catch (const SQLite::Exception& fault) {
      if (!says_damaged(fault)) return refused(fault.getErrorCode() == SQLITE_FULL ? "the disk is full" : fault.what());
      try {
        start_anew("it is damaged: " + std::string(fault.what()), nullptr);
        transact();
      } catch (const std::exception& again) {
        return refused(again.what());
      }
    } catch (const std::exception& fault) {
      return refused(fault.what());
    }
    if (!trouble_.empty()) {
      spdlog::info("results are kept on disk again results={}", rows_.size());
      trouble_.clear();
      on_trouble("");
    }
    return true;
  }

  bool refused(const std::string& why) {
    try {
      if (db_ && sqlite3_get_autocommit(db_->getHandle()) == 0) db_->exec("ROLLBACK");
    } catch (const std::exception&) {  // SQLite did it already
    }
    again_ = Clock::now() + kTryAgain;
    look_at(again_);
    if (trouble_ == why) return false;
    trouble_ = why;
    spdlog::error("results cannot be kept on disk why=\"{}\" folder=\"{}\" next=\"they are kept in memory and handed over all the same; tried again every second\"", printable(why),
                  folder_.string());
    on_trouble("results cannot be kept on disk: " + why);
    return false;
  }

  void transact() {
    Statements& run = statements_.value();
    const auto once = [](SQLite::Statement& statement) {
      struct Reset {  // also when it threw: a statement that is busy would hold the transaction
        SQLite::Statement& statement;
        ~Reset() { statement.tryReset(); }
      } reset{statement};
      statement.exec();
    };
    once(run.begin);
    for (const std::int64_t id : dead_) {
      run.drop.bind(1, id);
      once(run.drop);
    }
    std::vector<std::pair<AttemptId, std::int64_t>> ids;
    ids.reserve(unwritten_.size());
    for (const AttemptId attempt : unwritten_) {
      const auto row = rows_.find(attempt);
      if (row == rows_.end() || row->second.id != 0) continue;  // taken meanwhile, or here twice
      const Outcome& outcome = *row->second.outcome;
      const std::string head = head_of(outcome);
      const TaskId task = row->second.task;
      run.put.bind(1, number(attempt.epoch.value)), run.put.bind(2, number(attempt.number)), run.put.bind(3, number(task.job.value)), run.put.bind(4, number(task.task.value));
      run.put.bindNoCopy(5, head.data(), static_cast<int>(head.size()));
      run.put.bindNoCopy(6, outcome.out.data(), static_cast<int>(outcome.out.size()));
      run.put.bindNoCopy(7, outcome.err.data(), static_cast<int>(outcome.err.size()));
      once(run.put);
      ids.emplace_back(attempt, db_->getLastInsertRowid());
    }
    if (!remembered_) {
      for (const auto& [name, value] : {std::pair{"epoch", epoch_.value}, std::pair{"jobs_seen", jobs_seen_.value}}) {
        run.remember.bind(1, name), run.remember.bind(2, number(value));
        once(run.remember);
      }
    }
    once(run.commit);
    for (const auto& [attempt, id] : ids) {
      Row& row = rows_.at(attempt);
      row.id = id;
      unsynced_[id] = row.since;
    }
    dead_.clear();
    unwritten_.clear();
    remembered_ = true;
    if (!unsynced_.empty()) look_at(unsynced_.begin()->second + kSyncAfter);
  }

  /// A checkpoint syncs the log, copies it into the file, and syncs that: a power cut leaves what was written before.
  void sync() {
    try {
      db_->exec("PRAGMA wal_checkpoint(PASSIVE)");
      unsynced_.clear();
      sync_trouble_.clear();
    } catch (const std::exception& fault) {
      if (std::exchange(sync_trouble_, fault.what()) != fault.what()) spdlog::warn("results cannot be synced to disk why=\"{}\" next=\"they outlive this process all the same\"", fault.what());
      for (auto& [id, since] : unsynced_) since = Clock::now();  // not again at once
    }
  }

  /// Nothing is kept: what large results took goes back to the disk.
  void give_back() {
    try {
      if (db_->execAndGet("PRAGMA freelist_count").getInt64() < kSlackPages) return;
      SQLite::Statement vacuum(*db_, "PRAGMA incremental_vacuum");
      while (vacuum.executeStep()) {}
      db_->exec("PRAGMA wal_checkpoint(TRUNCATE)");
    } catch (const std::exception&) {  // another time
    }
  }

  // ---- Time

  void look_at(Clock::time_point when) {
    if (looks_at_ && *looks_at_ <= when) return;
    looks_at_ = when;
    timer_.expires_at(when);
    timer_.async_wait([this](auto error) {
      if (error) return;
      looks_at_.reset();
      look();
    });
  }

  void look() {
    const auto now = Clock::now();
    if (!unwritten_.empty() || !dead_.empty() || !remembered_) {
      write_all();
      if (rows_.empty() && dead_.empty()) give_back();
    }
    if (!unsynced_.empty() && unsynced_.begin()->second + kSyncAfter <= now) sync();
    if (!unsynced_.empty()) look_at(unsynced_.begin()->second + kSyncAfter);
  }

  boost::asio::steady_timer timer_;
  const fs::path folder_, file_;
  const std::string grid_;
  const int lock_;
  std::string suffix_;
  ino_t inode_ = 0;
  std::unique_ptr<SQLite::Database> db_;
  std::optional<Statements> statements_;  // goes before db_
  std::map<AttemptId, Row> rows_;
  std::vector<AttemptId> unwritten_;                     // may name some that are gone
  std::vector<std::int64_t> dead_;                       // to delete
  std::map<std::int64_t, Clock::time_point> unsynced_;  // written, since then; ids grow with time
  Epoch epoch_{};
  JobId jobs_seen_{};
  bool remembered_ = true;
  std::string trouble_, sync_trouble_;
  Clock::time_point again_{};
  std::optional<Clock::time_point> looks_at_;
};

}  // namespace

std::string random_suffix() {
  std::random_device random;
  char text[9];
  std::snprintf(text, sizeof text, "%08x", static_cast<unsigned>(random()));
  return text;
}

std::uint64_t mark_of(std::string_view text) {
  std::uint64_t mark = 0xcbf29ce484222325u;
  for (const char c : text) mark = (mark ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  return mark;
}

Result<std::unique_ptr<Spool>> Spool::open(boost::asio::io_context& loop, const fs::path& folder, const std::string& grid, Found& found) {
  const auto bad = [&](const std::string& why, const std::string& remedy = "choose another folder with --state, or --state none to keep results in memory only") {
    return Error{"cannot keep results in '" + folder.string() + "'", why, remedy};
  };
  sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);  // before the first use; later it does nothing. Else each allocation counts under a lock
  std::error_code failure;
  const bool made = fs::create_directories(folder, failure);
  if (failure) return bad(failure.message());
  if (made) ::chmod(folder.c_str(), 0700);
  const int lock = ::open((folder / "lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock < 0) return bad(std::strerror(errno));
  for (const auto until = Clock::now() + kLockedMax; ::flock(lock, LOCK_EX | LOCK_NB) != 0; ::usleep(5000)) {
    if (errno == EWOULDBLOCK && Clock::now() < until) continue;
    const int error = errno;
    ::close(lock);
    return error == EWOULDBLOCK ? bad("another worker uses it", "give each worker a folder of its own with --state") : bad(std::strerror(error));
  }
  auto spool = std::make_unique<SqliteSpool>(loop, folder, grid, lock);
  try {
    spool->open(found);
  } catch (const SQLite::Exception& fault) {
    return fault.getErrorCode() == SQLITE_BUSY ? bad("another worker uses it", "give each worker a folder of its own with --state") : bad(fault.what());
  } catch (const std::exception& fault) {
    return bad(fault.what());
  }
  return std::unique_ptr<Spool>(std::move(spool));
}

}  // namespace souk::worker
