// The manager's memory on disk: SQLite in WAL mode, synchronous=FULL, on a thread of its own. What promises something is sent after commit().
#pragma once
#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "manager/event.h"
#include "protocol/result.h"

namespace souk {

/// A job as stored. Times are ms since 1970, UTC; 0: not yet.
struct JobRow {
  JobId id;
  std::string owner, key, name, command;  // command: for people
  std::string spec;                       // serialized wire::Job; not loaded for ended jobs
  std::uint64_t tasks = 0;
  unsigned retries = 0;
  bool notify = false, canceled = false;
  std::uint64_t submitted_ms = 0, started_ms = 0, ended_ms = 0;
  TaskState state = TaskState::waiting;  // final once ended_ms is set
  std::uint64_t succeeded = 0, failed = 0, canceled_tasks = 0, requeued = 0, retried = 0;
  int priority = 0;
  bool held = false;
  std::uint64_t deadline_ms = 0;
  std::string note;    // why it ended so, for people; may be empty
  std::string layout;  // its groups, as layout_of() of the book writes them
};

struct OutcomeRow {
  TaskId task;
  TaskState state = TaskState::succeeded;
  unsigned attempts = 1;
  std::string worker, item;
  std::string outcome;   // serialized wire::Outcome without its streams
  std::string out, err;  // what was kept
  std::uint64_t out_kept = 0, err_kept = 0;  // bytes kept; out and err may be left unread
};

/// An attempt that did not succeed, for the history of its task; the last one says how the task goes on.
struct AttemptRow {
  TaskId task;
  unsigned run = 1;
  std::string worker, host, ending;  // nick, host name, for people: `exit code 3`
  std::string last_lines;            // of stderr, else of stdout
  std::uint64_t ended_ms = 0, wall_us = 0;
  unsigned failures = 0, losses = 0;  // of the task so far, this one included
  std::uint64_t again_ms = 0;         // it runs again not before; 0: at once
  AttemptId over;                     // the attempt, if its worker told how it ended; of none else
  std::string voter{}, vote{};        // if it is a vote: whose, and what it says
};

class Journal {
 public:
  static constexpr int kAttemptsKept = 20;  // of one task; older ones are forgotten
  static constexpr std::size_t kPendingMax = 64u << 20;  // of pending_bytes(); above it no results should be taken: workers keep them
  static constexpr std::uint64_t kSpaceMin = 8u << 20;   // bytes of its disk; below it there is trouble

  struct Past {
    TaskId task;
    unsigned runs = 0, failures = 0, losses = 0;
    std::uint64_t again_ms = 0;
    AttemptId over;
    struct Vote { AttemptId attempt; std::string voter, vote; };
    std::vector<Vote> votes{};  // since it failed last
  };
  struct Restored {
    Epoch epoch;  // of the life that begins now, already stored
    JobId last_job;  // no lower number is free, also where jobs are no longer kept
    std::vector<JobRow> jobs;
    std::vector<std::pair<TaskId, TaskState>> ended;  // outcomes of jobs that have not ended
    std::vector<Past> past;                            // of tasks of such jobs, in their order
    std::vector<JobId> untold;                         // jobs that ended, and their owners were not told so
    std::map<std::string, std::uint64_t> facts;        // what set() kept, and more of the store's own
  };
  struct Page {
    JobId job;
    std::uint64_t from = 1, to = 0;  // tasks, inclusive; to 0: no end
    std::uint32_t limit = 256;       // rows
    std::size_t bytes_max = 64 << 10;  // of streams in all; a stream that no longer fits is left unread
    bool streams = false, failed_only = false;
  };
  struct Slice {
    std::string data;
    std::uint64_t size = 0;
  };
  /// What a task went through, oldest attempt first.
  struct History {
    std::optional<OutcomeRow> outcome;  // without its streams
    std::vector<AttemptRow> attempts;
  };
  /// What of an ended job stays when it runs again.
  struct Kept {
    std::string spec;
    std::vector<std::pair<TaskNumber, TaskState>> succeeded;  // in task order
    std::vector<std::pair<TaskNumber, unsigned>> runs;             // how often tasks ran, as far as remembered
  };
  /// Opens or makes the store, and brings that of an older version up to date. Fails if it is of a newer version, damaged, or in use by another manager.
  static Result<std::unique_ptr<Journal>> open(const std::filesystem::path& file, boost::asio::io_context& loop, Restored& restored);
  virtual ~Journal() = default;

  virtual void add(JobRow job) = 0;
  virtual void cancel(JobId job) = 0;
  virtual void hold(JobId job, bool held) = 0;
  virtual void add(OutcomeRow outcome) = 0;
  virtual void add(AttemptRow attempt) = 0;
  virtual void end(JobRow job) = 0;     // its times, state, note and counts; its owner is to be told
  virtual void told(JobId job) = 0;     // its owner was; on disk with what comes next, or half a second later
  virtual void set(std::string fact, std::uint64_t value) = 0;  // of the store itself, by name; 0: there is no such fact
  virtual void reopen(JobRow job) = 0;  // it runs again, with this spec and key: outcomes that are no success are forgotten, and failures no longer count
  /// `then` is called from the loop once all that was added before is on disk. Calls of one turn of the loop share a transaction.
  /// While the disk is full nothing is called, nothing is lost, and `trouble` says why; it is tried again every second.
  virtual void commit(std::function<void()> then) = 0;
  /// Why nothing new should be promised, as part of a sentence: `the manager's disk is full`; empty: healthy. Already so when little space is left:
  /// that is for the results of what was promised.
  /// more: bytes that are to be added; they need twice their room, in the log and in the table
  virtual std::string trouble(std::uint64_t more = 0) const = 0;
  virtual std::string refused() const = 0;  // why the last try to write failed, in the same way; empty: it did not
  /// What was added and is not on disk yet, about.
  virtual std::size_t pending_bytes() const = 0;
  /// The job is no longer kept: it is gone with the next commit, its rows follow bit by bit between other work.
  virtual void forget(JobId job) = 0;
  /// No vote of this account, or of a worker of it, counts any more.
  virtual void forget_votes(std::string account) = 0;
  /// Jobs whose rows are still to go.
  virtual std::size_t forgetting() const = 0;

  /// Outcomes in task order, of what was committed before the call.
  /// Fails when the store cannot be read.
  virtual void read(Page page, std::function<void(Result<std::vector<OutcomeRow>>)> then) = 0;
  virtual void read_history(TaskId task, std::function<void(Result<History>)> then) = 0;
  /// Bytes of each job and its outcomes, about: of rows, and of what they hold.
  virtual void read_sizes(std::function<void(Result<std::vector<std::pair<JobId, std::uint64_t>>>)> then) = 0;
  virtual void read_kept(JobId job, std::function<void(Result<Kept>)> then) = 0;
  /// A slice of one stream; `size` is what is kept in all.
  virtual void read_stream(TaskId task, bool err, std::uint64_t offset, std::size_t bytes, std::function<void(Result<Slice>)> then) = 0;
};

}  // namespace souk
