// What the manager knows of every job beside its tasks' states: owner, name, commands, items. Pure but for the messages it stores.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "manager/clocks.h"
#include "manager/journal.h"
#include "manager/scheduler.h"
#include "protocol/grid.pb.h"
#include "protocol/job_bounds.h"

namespace souk {

// Beside those of protocol/job_bounds.h:
constexpr std::size_t kNameMax = 200;  // bytes of the name of a job or group
constexpr std::chrono::milliseconds kRetryDelayMax = std::chrono::hours(24 * 30);
constexpr std::chrono::milliseconds kDeadlineMax = std::chrono::hours(24 * 366 * 10);  // from now

/// The lines of a group, one behind the other: their message keeps each as a string of its own, which takes up to 80 bytes more.
class PackedLines {
 public:
  PackedLines() = default;
  explicit PackedLines(const wire::Lines& lines);
  std::size_t size() const { return ends_.size(); }
  std::string operator[](std::size_t at) const { return text_.substr(at == 0 ? 0 : ends_[at - 1], ends_[at] - (at == 0 ? 0 : ends_[at - 1])); }

 private:
  std::string text_;
  std::vector<std::uint32_t> ends_;  // of a message, which is below 2 GiB
};

/// The items of a job's groups, in order: packing them takes longest of taking a large job, and needs nothing but the job.
struct PackedItems {
  PackedItems() = default;
  explicit PackedItems(const wire::Job& job);
  std::vector<PackedLines> of_groups;                    // one, if it has no groups
  std::vector<std::unique_ptr<wire::Lines>> unpacked{};  // what they were made of, once a book has the job
};

struct JobEntry {
  struct Place {
    std::uint64_t first = 1;         // task of this group
    std::uint64_t command_size = 0;  // serialized
    std::string name;
    PackedLines lines{};
  };
  JobRow row;
  wire::Job job;              // always in groups, as make_grouped() has it, and without their lines, which the places have; cleared when the job ended
  std::vector<Place> places;  // of the groups, in order; kept when the job ended
  std::uint64_t memory = 0;   // as memory_of() has it; 0 once it ended
  bool end_saved = true;      // once it ended: that is on disk
  std::uint64_t listed_ms = 0;  // the book's: where it is among the ended ones

  /// It ended, and that may be told.
  bool over() const { return row.ended_ms > 0 && end_saved; }

  /// The group of a task, by position.
  std::uint32_t group_of(TaskNumber task) const;
  const std::string& group_name(TaskNumber task) const { return places[group_of(task)].name; }
  const wire::Command& command_of(std::uint32_t group) const { return job.groups(static_cast<int>(group)).command(); }
};

/// How many tasks a job has. Fails on what no job may be: no command, bad ranges, too many or too large items, too long a name, needs that
/// nothing can have, expressions that do not parse, groups that wait for each other in a circle, a deadline that passed. In bounded time whatever comes.
Result<std::uint64_t> check(const wire::Job& job, std::uint64_t now_ms);
/// Bytes of memory that a job takes until it ends, here and in the scheduler: an estimate from above.
std::uint64_t memory_of(const wire::Job& job, std::uint64_t tasks);
/// The same job with its one group written out, if it had none.
void make_grouped(wire::Job& job);
/// The item of a task: a line, or a number of the range; empty when its group has neither, and when the job ended.
std::string item_of(const JobEntry& entry, TaskNumber task);
/// The command for people: one line, at most 120 characters.
std::string shown(const wire::Command& command);
/// What a job runs, in the same way: its command, or the names of its groups.
std::string shown(const wire::Job& job);
/// A job's groups for the store, so that those of an ended one have names: `TASKS NAME` lines; empty for an ordinary job.
std::string layout_of(const wire::Job& job);
/// How many results of each task a checked job asks for; nothing: one is enough.
std::optional<Quorum> quorum_of(const wire::Job& job);
/// A checked job as the scheduler takes it.
JobSubmitted event_of(JobId id, const std::string& owner, const wire::Job& job, Clocks clocks);

class JobBook {
 public:
  /// `items`: of this very job, packed already; nullptr: they are not.
  JobEntry& add(JobRow row, wire::Job job, PackedItems* items = nullptr);
  JobEntry* find(JobId job);
  const JobEntry* find(JobId job) const;
  const std::map<JobId, JobEntry>& all() const { return entries_; }
  /// Those that have not ended.
  const std::set<JobId>& open() const { return open_; }
  void ended(JobEntry& entry);
  void reopened(JobEntry& entry, wire::Job job, PackedItems* items = nullptr);
  JobId next_id() { return {++last_}; }
  /// Numbers up to this one were given, also those of jobs that are no longer kept.
  void given(JobId last) { last_ = std::max(last_, last.value); }
  JobId last_id() const { return {last_}; }
  bool was_given(JobId job) const { return job.value >= 1 && job.value <= last_; }
  /// Jobs that ended before, the oldest first; none that an open one waits for, which would not know how it ended after a restart.
  std::vector<JobId> forgettable(std::uint64_t before_ms, std::size_t most) const;
  /// Of an ended job nothing stays, and its key can be used again.
  void forget(JobId job);
  /// The job that this owner submitted under that key before, if any.
  std::optional<JobId> by_key(const std::string& owner, const std::string& key) const;
  void remember_key(const std::string& owner, const std::string& key, JobId job);
  /// The jobs it waits for exist, come before it, and are the owner's own. `before`: its own number; 0: it has none yet, so it will be the newest.
  Result<Done> check_after(const wire::Job& job, const std::string& owner, bool admin, JobId before = {}) const;
  /// What the scheduler may not know of the jobs it waits for: how those ended.
  std::vector<JobKnown> ended_before(const wire::Job& job) const;
  wire::JobStatus status(const JobEntry& entry, const Scheduler& scheduler) const;
  /// Tasks of the owner's that wait, those included of which the scheduler was not told yet.
  std::uint64_t queued(const std::string& owner, const Scheduler& scheduler) const;

 private:
  std::map<JobId, JobEntry> entries_;
  std::map<std::pair<std::string, std::string>, JobId> keys_;
  std::set<JobId> open_;
  std::set<std::pair<std::uint64_t, JobId>> by_end_;  // ended jobs
  std::unordered_map<JobId, unsigned> waited_for_;  // by how many open jobs
  std::uint64_t last_ = 0;
};

}  // namespace souk
