#include "manager/journal.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sqlite3.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <condition_variable>
#include <iterator>
#include <mutex>
#include <thread>

#include "manager/schema.h"
#include "manager/store_rows.h"

namespace souk {

namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kAgain = 1s;          // between two tries to write what the disk refused
constexpr auto kLater = 500ms;       // what is in no hurry waits so long for something to ride along with
constexpr int kLogPages = 4000;      // of the log, above which they are brought to their places: what was written is on disk already, so nobody waits for that
constexpr auto kSweep = 2000us;      // of one transaction that takes old rows away: what a commit may have to wait for
constexpr auto kSweepPause = 4ms;    // between two of them, at least; twice the time that the last one took

/// For people, as trouble() has it.
std::string trouble_of(const SQLite::Exception& e) {
  if (e.getErrorCode() == SQLITE_FULL) return "the manager's disk is full";
  if (e.getErrorCode() == SQLITE_READONLY) return "the manager's disk is read-only";
  return std::string("the manager cannot write its store (") + e.what() + ")";
}

class SqliteJournal final : public Journal {
 public:
  SqliteJournal(const std::filesystem::path& file, boost::asio::io_context& loop, Restored& restored)
      : loop_(loop), folder_(file.has_parent_path() ? file.parent_path() : "."), lock_(file), db_(open_store(file)) {
    reader_.restore(restored);
    sqlite3_wal_hook(  // in place of SQLite's own, which does that within the commit
        db_->getHandle(), [](void* pages, sqlite3*, const char*, int now) { return *static_cast<int*>(pages) = now, SQLITE_OK; }, &log_pages_);
    forgetting_ = sweeper_.jobs();
    thread_ = std::thread([this] { run(); });
  }
  ~SqliteJournal() override {
    {
      std::lock_guard lock(mutex_);
      queue_.append(std::exchange(gathered_, {}));
      closing_ = true;
    }
    wake_.notify_one();
    thread_.join();
  }

  void add(JobRow job) override { gather(std::move(job)); }
  void cancel(JobId job) override { gather(CancelRow{job}); }
  void add(OutcomeRow outcome) override { gather(std::move(outcome)); }
  void add(AttemptRow attempt) override { gather(std::move(attempt)); }
  void forget_votes(std::string account) override { gather(VotesRow{std::move(account)}); }
  void hold(JobId job, bool held) override { gather(HoldRow{job, held}); }
  void set(std::string fact, std::uint64_t value) override { gather(FactRow{std::move(fact), value}); }
  void reopen(JobRow job) override { gather(ReopenRow{std::move(job)}); }
  void end(JobRow job) override { gather(EndRow{std::move(job)}); }
  void told(JobId job) override {
    gather(ToldRow{job});
    hand_over_later();
  }
  void forget(JobId job) override { gather(ForgetRow{job}), ++forgetting_, hand_over_soon(); }
  std::size_t forgetting() const override { return forgetting_; }
  void commit(std::function<void()> then) override {
    gathered_.thens.push_back(std::move(then));
    hand_over_soon();
  }
  std::size_t pending_bytes() const override { return pending_; }

  std::string refused() const override {
    std::lock_guard lock(mutex_);
    return trouble_;
  }
  std::string trouble(std::uint64_t more) const override {
    if (std::string why = refused(); !why.empty()) return why;
    struct statvfs disk {};
    if (::statvfs(folder_.c_str(), &disk) != 0) return {};
    if (disk.f_flag & ST_RDONLY) return "the manager's disk is read-only";
    const std::uint64_t left = std::uint64_t{disk.f_bavail} * disk.f_frsize;
    const auto mib = [](std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
    if (left < kSpaceMin) return fmt::format("the manager's disk has only {:.1f} MiB left, which it keeps for results", mib(left));
    if (more < kSpaceMin || left >= kSpaceMin + 2 * more) return {};
    return fmt::format("the manager's disk has only {:.0f} MiB left, and this takes {:.0f}, with {:.0f} for results", mib(left), mib(2 * more), mib(kSpaceMin));
  }

  void read(Page page, std::function<void(Result<std::vector<OutcomeRow>>)> then) override {
    answer_with(std::move(then), [this, page] { return reader_.outcomes(page); });
  }
  void read_history(TaskId task, std::function<void(Result<History>)> then) override {
    answer_with(std::move(then), [this, task] { return reader_.history(task); });
  }
  void read_sizes(std::function<void(Result<std::vector<std::pair<JobId, std::uint64_t>>>)> then) override {
    answer_with(std::move(then), [this] { return reader_.sizes(); });
  }
  void read_kept(JobId job, std::function<void(Result<Kept>)> then) override {
    answer_with(std::move(then), [this, job] { return reader_.kept(job); });
  }
  void read_stream(TaskId task, bool err, std::uint64_t offset, std::size_t bytes, std::function<void(Result<Slice>)> then) override {
    answer_with(std::move(then), [=, this] { return reader_.stream(task, err, offset, bytes); });
  }

 private:
  struct Batch {
    std::vector<Write> writes;
    std::vector<std::function<void()>> thens;  // after the writes are on disk
    std::vector<std::function<void()>> reads;  // after the writes were tried, on the journal's thread
    std::size_t bytes = 0;                     // of the writes
    bool empty() const { return writes.empty() && thens.empty() && reads.empty(); }
    void append(Batch&& more) {
      std::move(more.writes.begin(), more.writes.end(), std::back_inserter(writes));
      std::move(more.thens.begin(), more.thens.end(), std::back_inserter(thens));
      std::move(more.reads.begin(), more.reads.end(), std::back_inserter(reads));
      bytes += more.bytes;
    }
  };

  void gather(Write write) {
    const std::size_t bytes = bytes_of(write);
    pending_ += bytes, gathered_.bytes += bytes;
    gathered_.writes.push_back(std::move(write));
  }

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
        queue_.append(std::exchange(gathered_, {}));
      }
      wake_.notify_one();
    });
  }

  /// What nobody waits for, and does no harm if it is said again after a crash, rides along with what comes next.
  void hand_over_later() {
    if (posted_ || std::exchange(later_due_, true)) return;
    later_.expires_after(kLater);
    later_.async_wait([this](auto error) {
      if (error) return;
      later_due_ = false;
      hand_over_soon();
    });
  }

  // ---- On the journal's thread

  /// What the disk refuses waits in `unwritten`, with all that comes after it; questions are answered meanwhile.
  void run() {
    Batch unwritten;
    for (;;) {
      std::vector<std::function<void()>> reads;
      bool closing = false;
      {
        std::unique_lock lock(mutex_);
        const auto woken = [this] { return closing_ || !queue_.empty(); };
        if (!unwritten.empty()) wake_.wait_until(lock, again_, woken);
        else if (!sweeper_.idle()) wake_.wait_until(lock, sweep_at_, woken);
        else wake_.wait(lock, woken);
        closing = closing_;
        unwritten.append(std::exchange(queue_, {}));
      }
      reads.swap(unwritten.reads);
      if (!unwritten.empty() && (Clock::now() >= again_ || closing) && write(unwritten)) {
        pending_ -= unwritten.bytes;
        if (!unwritten.thens.empty())
          boost::asio::post(loop_, [thens = std::move(unwritten.thens)] {
            for (const auto& then : thens) then();
          });
        unwritten = {};
      }
      for (const auto& read : reads) read();
      if (closing) return;  // all is written, or the disk refuses it
      if (log_pages_ >= kLogPages) tidy_log();
      if (unwritten.empty() && !sweeper_.idle() && Clock::now() >= sweep_at_) sweep();
    }
  }

  bool write(const Batch& batch) {
    std::string trouble;
    try {
      if (!batch.writes.empty()) {
        SQLite::Transaction transaction(*db_);
        for (const Write& row : batch.writes) writer_.put(row);
        transaction.commit();
        for (const Write& row : batch.writes)
          if (const auto* gone = std::get_if<ForgetRow>(&row)) sweeper_.forgotten(gone->job);
      }
    } catch (const SQLite::Exception& e) {
      trouble = trouble_of(e);
    } catch (const std::exception& e) {
      trouble = std::string("the manager cannot write its store (") + e.what() + ")";
    }
    const bool good = trouble.empty();
    again_ = good ? Clock::time_point{} : Clock::now() + kAgain;
    std::lock_guard lock(mutex_);
    if (trouble_ != trouble && !good) spdlog::error("cannot write the store why=\"{}\" bytes={} next=\"tried again every second; new jobs are refused meanwhile\"", trouble, batch.bytes);
    if (good && !trouble_.empty()) spdlog::info("store written again");
    trouble_ = std::move(trouble);
    return good;
  }

  /// What it cannot move now, since it is being read or the disk is full, the next commit tries again.
  void tidy_log() {
    log_pages_ = 0;
    sqlite3_wal_checkpoint_v2(db_->getHandle(), nullptr, SQLITE_CHECKPOINT_PASSIVE, nullptr, nullptr);
  }

  void sweep() {
    try {
      const auto began = Clock::now();
      sweeper_.sweep(kSweep);
      const auto ended = Clock::now();
      sweep_at_ = ended + std::max<Clock::duration>(kSweepPause, 2 * (ended - began));
    } catch (const std::exception& e) {
      spdlog::warn("cannot take old rows from the store why=\"{}\" again_s=60", e.what());
      sweep_at_ = Clock::now() + 60s;
    }
    forgetting_ = sweeper_.jobs();
  }

  boost::asio::io_context& loop_;
  const std::filesystem::path folder_;
  StoreLock lock_;  // two managers on one store would commit tasks twice
  std::unique_ptr<SQLite::Database> db_;
  Statements statements_{*db_};
  StoreWriter writer_{statements_};
  StoreReader reader_{statements_};
  StoreSweeper sweeper_{statements_};
  Clock::time_point again_{}, sweep_at_{};  // the thread's
  int log_pages_ = 0;                       // the thread's: at the last commit
  std::atomic<std::size_t> pending_ = 0, forgetting_ = 0;
  Batch gathered_;       // the loop's
  boost::asio::steady_timer later_{loop_};
  bool later_due_ = false;  // the loop's
  bool posted_ = false;  // the loop's
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  Batch queue_;          // under mutex_
  std::string trouble_;  // under mutex_
  bool closing_ = false;
  std::thread thread_;
};

}  // namespace

static bool is_full(const std::filesystem::path& file) {
  struct statvfs disk {};
  return ::statvfs(file.parent_path().c_str(), &disk) == 0 && disk.f_bavail * disk.f_frsize < 1u << 20;
}

Result<std::unique_ptr<Journal>> Journal::open(const std::filesystem::path& file, boost::asio::io_context& loop, Restored& restored) {
  sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);  // before the first use; later it does nothing. Else each allocation counts under a lock
  const mode_t mask = ::umask(0077);
  try {
    std::unique_ptr<Journal> journal = std::make_unique<SqliteJournal>(file, loop, restored);
    ::umask(mask);
    return journal;
  } catch (const std::exception& e) {
    ::umask(mask);
    const std::string why = e.what();
    const auto says = [&](const char* word) { return why.find(word) != std::string::npos; };
    return Error{"cannot open the store " + file.string(), why,
                 says("locked")  ? "stop the other manager that uses it"
                 : says("newer") ? "use that version"
                 : is_full(file) ? "its disk is full: make room"
                 : says("not a database") || says("malformed") || says("not a store")
                     ? "`souk-manager --check` tells what is wrong with it; an older copy of the folder goes on with --restored"
                     : "check the folder's rights and the disk"};
  }
}

}  // namespace souk
