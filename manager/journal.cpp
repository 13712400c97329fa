#include "manager/journal.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <sqlite3.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <boost/asio/post.hpp>
#include <condition_variable>
#include <deque>
#include <iterator>
#include <mutex>
#include <thread>
#include <variant>

namespace souk {

namespace {

// Each step makes the next version of the schema of the one before; a new store takes them all. PRAGMA user_version says how many were taken.
constexpr const char* kSteps[] = {R"(
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
)"};
constexpr int kVersion = std::size(kSteps);

std::int64_t number(std::uint64_t value) { return static_cast<std::int64_t>(value); }
void bind(SQLite::Statement& statement, int at, const std::string& bytes) { statement.bind(at, bytes.data(), static_cast<int>(bytes.size())); }
std::string bytes_of(const SQLite::Column& column) {
  const void* data = column.getBlob();
  return data ? std::string(static_cast<const char*>(data), static_cast<std::size_t>(column.getBytes())) : std::string();
}

struct CancelRow { JobId job; };
struct HoldRow { JobId job; bool held; };
struct EndRow { JobRow job; };
struct ReopenRow { JobRow job; };
using Write = std::variant<JobRow, OutcomeRow, AttemptRow, CancelRow, HoldRow, EndRow, ReopenRow>;

class SqliteJournal final : public Journal {
 public:
  SqliteJournal(const std::filesystem::path& file, boost::asio::io_context& loop, Restored& restored)
      : loop_(loop), db_(file.string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE) {
    ::chmod(file.c_str(), 0600);
    db_.setBusyTimeout(0);
    db_.exec("PRAGMA locking_mode=EXCLUSIVE");  // a second manager on one store would commit tasks twice
    db_.exec("PRAGMA journal_mode=WAL");
    db_.exec("PRAGMA synchronous=FULL");
    db_.exec("PRAGMA wal_autocheckpoint=4000");
    db_.exec("BEGIN IMMEDIATE");
    const int version = db_.execAndGet("PRAGMA user_version").getInt();
    if (version > kVersion) throw std::runtime_error("it was written by a newer version of Souk (schema " + std::to_string(version) + ", known here " + std::to_string(kVersion) + ")");
    for (int step = version; step < kVersion; ++step) db_.exec(kSteps[step]);
    db_.exec("PRAGMA user_version=" + std::to_string(kVersion));
    if (version > 0 && version < kVersion) spdlog::info("store brought up to date file={} from={} to={}", file.string(), version, kVersion);
    db_.exec("INSERT INTO meta VALUES('epoch',1) ON CONFLICT(name) DO UPDATE SET value=value+1");
    db_.exec("COMMIT");
    restored.epoch = {static_cast<std::uint64_t>(db_.execAndGet("SELECT value FROM meta WHERE name='epoch'").getInt64())};
    restore(restored);
    thread_ = std::thread([this] { run(); });
  }
  ~SqliteJournal() override {
    {
      std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void add(JobRow job) override { gathered_.writes.emplace_back(std::move(job)); }
  void cancel(JobId job) override { gathered_.writes.emplace_back(CancelRow{job}); }
  void add(OutcomeRow outcome) override { gathered_.writes.emplace_back(std::move(outcome)); }
  void add(AttemptRow attempt) override { gathered_.writes.emplace_back(std::move(attempt)); }
  void hold(JobId job, bool held) override { gathered_.writes.emplace_back(HoldRow{job, held}); }
  void reopen(JobRow job) override { gathered_.writes.emplace_back(ReopenRow{std::move(job)}); }
  void end(JobRow job) override { gathered_.writes.emplace_back(EndRow{std::move(job)}); }
  void commit(std::function<void()> then) override {
    gathered_.thens.push_back(std::move(then));
    hand_over_soon();
  }
  std::string trouble() const override {
    std::lock_guard lock(mutex_);
    return trouble_;
  }
  void read(Page page, std::function<void(Result<std::vector<OutcomeRow>>)> then) override {
    answer_with(std::move(then), [this, page] { return select(page); });
  }
  void read_history(TaskId task, std::function<void(Result<History>)> then) override {
    answer_with(std::move(then), [this, task] { return history(task); });
  }
  void read_kept(JobId job, std::function<void(Result<Kept>)> then) override {
    answer_with(std::move(then), [this, job] { return kept(job); });
  }
  void read_stream(TaskId task, bool err, std::uint64_t offset, std::size_t bytes, std::function<void(Result<Slice>)> then) override {
    answer_with(std::move(then), [=, this] {
      const std::string column = err ? "err" : "out";
      SQLite::Statement query(db_, "SELECT substr(" + column + ",?3,?4), length(" + column + ") FROM outcomes WHERE job=?1 AND task=?2");
      query.bind(1, number(task.job.value)), query.bind(2, number(task.task.value));
      query.bind(3, number(offset + 1)), query.bind(4, number(bytes));
      Slice slice;
      if (query.executeStep()) slice = {bytes_of(query.getColumn(0)), static_cast<std::uint64_t>(query.getColumn(1).getInt64())};
      return slice;
    });
  }

 private:
  struct Batch {
    std::vector<Write> writes;
    std::vector<std::function<void()>> thens;  // after the writes are on disk
    std::vector<std::function<void()>> reads;  // after the writes, on the journal's thread
    bool empty() const { return writes.empty() && thens.empty() && reads.empty(); }
  };

  /// Runs `question` on the journal's thread and `then` with its answer on the loop.
  template <class T, class Question>
  void answer_with(std::function<void(Result<T>)> then, Question question) {
    gathered_.reads.push_back([this, then = std::move(then), question = std::move(question)] {
      auto answer = std::make_shared<Result<T>>(Error{"cannot read the store", "", ""});
      try {
        *answer = question();
      } catch (const std::exception& e) {
        spdlog::error("cannot read the store why=\"{}\"", e.what());
        *answer = Error{"cannot read the store", e.what(), "ask again; the manager's log has more"};
      }
      boost::asio::post(loop_, [answer, then] { then(std::move(*answer)); });
    });
    hand_over_soon();
  }

  // One hand-over a turn of the loop: what was gathered meanwhile shares a transaction.
  void hand_over_soon() {
    if (std::exchange(posted_, true)) return;
    boost::asio::post(loop_, [this] {
      posted_ = false;
      {
        std::lock_guard lock(mutex_);
        for (auto& write : gathered_.writes) queue_.writes.push_back(std::move(write));
        for (auto& then : gathered_.thens) queue_.thens.push_back(std::move(then));
        for (auto& read : gathered_.reads) queue_.reads.push_back(std::move(read));
      }
      gathered_ = {};
      wake_.notify_one();
    });
  }

  void run() {
    for (;;) {
      Batch batch;
      {
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [this] { return closing_ || !queue_.empty(); });
        if (queue_.empty()) return;  // closing, and all is written
        batch = std::exchange(queue_, {});
      }
      if (!write(batch)) return;
      if (!batch.thens.empty())
        boost::asio::post(loop_, [thens = std::move(batch.thens)] {
          for (const auto& then : thens) then();
        });
      for (const auto& read : batch.reads) read();
    }
  }

  /// Tries until it is on disk; false only when closing while the disk refuses.
  bool write(const Batch& batch) {
    while (!batch.writes.empty()) {
      try {
        SQLite::Transaction transaction(db_);
        for (const auto& row : batch.writes) std::visit([this](const auto& r) { put(r); }, row);
        transaction.commit();
        std::lock_guard lock(mutex_);
        trouble_.clear();
        return true;
      } catch (const std::exception& e) {
        std::unique_lock lock(mutex_);
        if (trouble_ != e.what()) spdlog::error("cannot write the store why=\"{}\" next=\"tried again every second; new jobs are refused meanwhile\"", e.what());
        trouble_ = e.what();
        if (wake_.wait_for(lock, std::chrono::seconds(1), [this] { return closing_; })) return false;
      }
    }
    return true;
  }

  /// A statement for thousands of rows is compiled once.
  SQLite::Statement& prepared(std::unique_ptr<SQLite::Statement>& kept, const char* text) {
    if (!kept) kept = std::make_unique<SQLite::Statement>(db_, text);
    kept->tryReset();  // the last try may have failed half-way
    return *kept;
  }

  void put(const JobRow& r) {
    SQLite::Statement s(db_, "INSERT OR IGNORE INTO jobs(id,owner,key,name,command,tasks,retries,notify,canceled,submitted_ms,started_ms,ended_ms,state,"
                             "succeeded,failed,canceled_tasks,requeued,retried,spec,priority,held,deadline_ms,note,layout) "
                             "VALUES(?,?,?,?,?,?,?,?,0,?,0,0,0,0,0,0,0,0,?,?,?,?,'',?)");
    s.bind(1, number(r.id.value)), s.bind(2, r.owner), s.bind(3, r.key), s.bind(4, r.name), s.bind(5, r.command);
    s.bind(6, number(r.tasks)), s.bind(7, r.retries), s.bind(8, r.notify ? 1 : 0), s.bind(9, number(r.submitted_ms)), bind(s, 10, r.spec);
    s.bind(11, r.priority), s.bind(12, r.held ? 1 : 0), s.bind(13, number(r.deadline_ms)), s.bind(14, r.layout);
    s.exec();
  }
  void put(const CancelRow& r) {
    SQLite::Statement s(db_, "UPDATE jobs SET canceled=1 WHERE id=?");
    s.bind(1, number(r.job.value));
    s.exec();
  }
  void put(const HoldRow& r) {
    SQLite::Statement s(db_, "UPDATE jobs SET held=? WHERE id=?");
    s.bind(1, r.held ? 1 : 0), s.bind(2, number(r.job.value));
    s.exec();
  }
  void put(const AttemptRow& r) {
    SQLite::Statement& s = prepared(attempt_, "INSERT INTO attempts(job,task,run,failures,losses,again_ms,epoch,number,worker,host,ending,ended_ms,wall_us,last_lines) VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?)");
    s.bind(1, number(r.task.job.value)), s.bind(2, number(r.task.task.value)), s.bind(3, r.run), s.bind(4, r.failures), s.bind(5, r.losses);
    s.bind(6, number(r.again_ms)), s.bind(7, number(r.over.epoch.value)), s.bind(8, number(r.over.number));
    s.bind(9, r.worker), s.bind(10, r.host), s.bind(11, r.ending), s.bind(12, number(r.ended_ms)), s.bind(13, number(r.wall_us)), bind(s, 14, r.last_lines);
    s.exec();
    s.reset();
    SQLite::Statement& old = prepared(forget_, "DELETE FROM attempts WHERE rowid IN (SELECT rowid FROM attempts WHERE job=? AND task=? ORDER BY rowid DESC LIMIT -1 OFFSET ?)");
    old.bind(1, number(r.task.job.value)), old.bind(2, number(r.task.task.value)), old.bind(3, kAttemptsKept);
    old.exec();
    old.reset();
  }
  void put(const ReopenRow& reopened) {
    const JobRow& r = reopened.job;
    SQLite::Statement gone(db_, "DELETE FROM outcomes WHERE job=? AND state<>?");
    gone.bind(1, number(r.id.value)), gone.bind(2, static_cast<int>(TaskState::succeeded));
    gone.exec();
    SQLite::Statement anew(db_, "UPDATE attempts SET failures=0,losses=0,again_ms=0 WHERE job=?");
    anew.bind(1, number(r.id.value));
    anew.exec();
    SQLite::Statement s(db_, "UPDATE jobs SET key=?,spec=?,deadline_ms=?,held=0,canceled=0,note='',started_ms=0,ended_ms=0,state=0,succeeded=0,failed=0,canceled_tasks=0,"
                             "requeued=0,retried=0 WHERE id=?");
    s.bind(1, r.key), bind(s, 2, r.spec), s.bind(3, number(r.deadline_ms)), s.bind(4, number(r.id.value));
    s.exec();
  }
  void put(const OutcomeRow& r) {
    SQLite::Statement& s = prepared(insert_, "INSERT OR IGNORE INTO outcomes VALUES(?,?,?,?,?,?,?,?,?)");
    s.bind(1, number(r.task.job.value)), s.bind(2, number(r.task.task.value)), s.bind(3, static_cast<int>(r.state)), s.bind(4, r.attempts);
    s.bind(5, r.worker), bind(s, 6, r.item), bind(s, 7, r.outcome), bind(s, 8, r.out), bind(s, 9, r.err);
    s.exec();
    s.reset();
  }
  void put(const EndRow& e) {
    const JobRow& r = e.job;
    SQLite::Statement s(db_, "UPDATE jobs SET started_ms=?,ended_ms=?,state=?,succeeded=?,failed=?,canceled_tasks=?,requeued=?,retried=?,note=? WHERE id=?");
    s.bind(1, number(r.started_ms)), s.bind(2, number(r.ended_ms)), s.bind(3, static_cast<int>(r.state)), s.bind(4, number(r.succeeded));
    s.bind(5, number(r.failed)), s.bind(6, number(r.canceled_tasks)), s.bind(7, number(r.requeued)), s.bind(8, number(r.retried)), s.bind(9, r.note), s.bind(10, number(r.id.value));
    s.exec();
  }

  void restore(Restored& restored) {
    SQLite::Statement jobs(db_, "SELECT id,owner,key,name,command,tasks,retries,notify,canceled,submitted_ms,started_ms,ended_ms,state,succeeded,failed,"
                                "canceled_tasks,requeued,retried,CASE WHEN ended_ms=0 THEN spec ELSE NULL END,priority,held,deadline_ms,note,layout FROM jobs ORDER BY id");
    while (jobs.executeStep()) {
      auto n = [&](int at) { return static_cast<std::uint64_t>(jobs.getColumn(at).getInt64()); };
      JobRow r;
      r.id = {n(0)}, r.owner = jobs.getColumn(1).getString(), r.key = jobs.getColumn(2).getString(), r.name = jobs.getColumn(3).getString();
      r.command = jobs.getColumn(4).getString(), r.tasks = n(5), r.retries = static_cast<unsigned>(n(6)), r.notify = n(7) != 0, r.canceled = n(8) != 0;
      r.submitted_ms = n(9), r.started_ms = n(10), r.ended_ms = n(11), r.state = static_cast<TaskState>(n(12)), r.succeeded = n(13), r.failed = n(14);
      r.canceled_tasks = n(15), r.requeued = n(16), r.retried = n(17), r.spec = bytes_of(jobs.getColumn(18));
      r.priority = jobs.getColumn(19).getInt(), r.held = n(20) != 0, r.deadline_ms = n(21), r.note = jobs.getColumn(22).getString(), r.layout = jobs.getColumn(23).getString();
      restored.jobs.push_back(std::move(r));
    }
    SQLite::Statement ended(db_, "SELECT job,task,state FROM outcomes WHERE job IN (SELECT id FROM jobs WHERE ended_ms=0) ORDER BY job,task");
    while (ended.executeStep())
      restored.ended.push_back({{{static_cast<std::uint64_t>(ended.getColumn(0).getInt64())}, {static_cast<std::uint64_t>(ended.getColumn(1).getInt64())}},
                                static_cast<TaskState>(ended.getColumn(2).getInt())});
    // The last row of a task has its counts.
    SQLite::Statement past(db_, "SELECT job,task,run,failures,losses,again_ms,epoch,number FROM attempts WHERE job IN (SELECT id FROM jobs WHERE ended_ms=0) ORDER BY job,task,rowid");
    while (past.executeStep()) {
      auto n = [&](int at) { return static_cast<std::uint64_t>(past.getColumn(at).getInt64()); };
      const TaskId task{{n(0)}, {n(1)}};
      if (restored.past.empty() || restored.past.back().task != task) restored.past.push_back({task, 0, 0, 0, 0, {}});
      Past& p = restored.past.back();
      p.runs = std::max(p.runs, static_cast<unsigned>(n(2))), p.failures = static_cast<unsigned>(n(3)), p.losses = static_cast<unsigned>(n(4)), p.again_ms = n(5);
      if (const AttemptId over{{n(6)}, n(7)}; over != AttemptId{}) p.over = over;
    }
  }

  std::vector<OutcomeRow> select(const Page& page) {
    // Streams are read one by one, so that what does not fit is never loaded.
    SQLite::Statement query(db_, std::string("SELECT task,state,attempts,worker,item,outcome,length(out),length(err),rowid FROM outcomes WHERE job=?1 AND task>=?2 AND task<=?3") +
                                     (page.failed_only ? " AND state=3" : "") + " ORDER BY task LIMIT ?4");
    query.bind(1, number(page.job.value)), query.bind(2, number(page.from)), query.bind(3, page.to == 0 ? INT64_MAX : number(page.to)), query.bind(4, page.limit);
    SQLite::Statement streams(db_, "SELECT out,err FROM outcomes WHERE rowid=?");
    std::vector<OutcomeRow> rows;
    std::size_t room = page.bytes_max;
    while (query.executeStep()) {
      OutcomeRow& r = rows.emplace_back();
      r.task = {page.job, {static_cast<std::uint64_t>(query.getColumn(0).getInt64())}};
      r.state = static_cast<TaskState>(query.getColumn(1).getInt()), r.attempts = query.getColumn(2).getUInt(), r.worker = query.getColumn(3).getString();
      r.item = bytes_of(query.getColumn(4)), r.outcome = bytes_of(query.getColumn(5));
      r.out_kept = static_cast<std::uint64_t>(query.getColumn(6).getInt64()), r.err_kept = static_cast<std::uint64_t>(query.getColumn(7).getInt64());
      if (!page.streams || r.out_kept + r.err_kept == 0 || r.out_kept + r.err_kept > room) continue;
      streams.bind(1, query.getColumn(8).getInt64());
      if (streams.executeStep()) r.out = bytes_of(streams.getColumn(0)), r.err = bytes_of(streams.getColumn(1));
      streams.reset();
      room -= r.out_kept + r.err_kept;
    }
    return rows;
  }

  History history(TaskId task) {
    History found;
    if (auto rows = select({task.job, task.task.value, task.task.value, 1, 0, false, false}); !rows.empty()) found.outcome = std::move(rows.front());
    SQLite::Statement query(db_, "SELECT run,worker,host,ending,last_lines,ended_ms,wall_us FROM attempts WHERE job=? AND task=? ORDER BY rowid");
    query.bind(1, number(task.job.value)), query.bind(2, number(task.task.value));
    while (query.executeStep()) {
      AttemptRow& r = found.attempts.emplace_back();
      r.task = task, r.run = query.getColumn(0).getUInt(), r.worker = query.getColumn(1).getString(), r.host = query.getColumn(2).getString();
      r.ending = query.getColumn(3).getString(), r.last_lines = bytes_of(query.getColumn(4));
      r.ended_ms = static_cast<std::uint64_t>(query.getColumn(5).getInt64()), r.wall_us = static_cast<std::uint64_t>(query.getColumn(6).getInt64());
    }
    return found;
  }

  Kept kept(JobId job) {
    Kept found;
    SQLite::Statement spec(db_, "SELECT spec FROM jobs WHERE id=?");
    spec.bind(1, number(job.value));
    if (spec.executeStep()) found.spec = bytes_of(spec.getColumn(0));
    SQLite::Statement succeeded(db_, "SELECT task FROM outcomes WHERE job=? AND state=? ORDER BY task");
    succeeded.bind(1, number(job.value)), succeeded.bind(2, static_cast<int>(TaskState::succeeded));
    while (succeeded.executeStep()) found.succeeded.emplace_back(TaskNumber{static_cast<std::uint64_t>(succeeded.getColumn(0).getInt64())}, TaskState::succeeded);
    SQLite::Statement runs(db_, "SELECT task,MAX(run) FROM attempts WHERE job=? GROUP BY task ORDER BY task");
    runs.bind(1, number(job.value));
    while (runs.executeStep()) found.runs.emplace_back(TaskNumber{static_cast<std::uint64_t>(runs.getColumn(0).getInt64())}, runs.getColumn(1).getUInt());
    return found;
  }

  boost::asio::io_context& loop_;
  SQLite::Database db_;
  std::unique_ptr<SQLite::Statement> insert_, attempt_, forget_;
  Batch gathered_;       // the loop's
  bool posted_ = false;  // the loop's
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  Batch queue_;          // under mutex_
  std::string trouble_;  // under mutex_
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace

Result<std::unique_ptr<Journal>> Journal::open(const std::filesystem::path& file, boost::asio::io_context& loop, Restored& restored) {
  const mode_t mask = ::umask(0077);
  try {
    std::unique_ptr<Journal> journal = std::make_unique<SqliteJournal>(file, loop, restored);
    ::umask(mask);
    return journal;
  } catch (const std::exception& e) {
    ::umask(mask);
    const std::string why = e.what();
    return Error{"cannot open the store " + file.string(), why,
                 why.find("locked") != std::string::npos ? "stop the other manager that uses it" : why.find("newer") != std::string::npos ? "use that version" : "check the folder's rights and the disk"};
  }
}

}  // namespace souk
