// What the manager knows of every job beside its tasks' states: owner, name, command, items. Pure but for the messages it stores.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/grid.pb.h"
#include "manager/journal.h"
#include "manager/scheduler.h"

namespace souk {

constexpr std::uint64_t kTasksMax = 10'000'000;  // of one job
constexpr std::size_t kNameMax = 200;            // bytes of a job's name

struct JobEntry {
  JobRow row;
  wire::Job job;  // command and items; cleared when the job ended
  std::uint64_t command_size = 0;  // serialized
};

/// How many tasks a job has. Fails on what no job may be: no command, bad ranges, too many or too large items, too long a name.
Result<std::uint64_t> check(const wire::Job& job);
/// The item of a task: a line, or a number of the range; empty when the job has neither.
std::string item_of(const wire::Job& job, TaskNumber task);
/// The command for people: one line, at most 120 characters.
std::string shown(const wire::Command& command);

class JobBook {
 public:
  JobEntry& add(JobRow row, wire::Job job);
  JobEntry* find(JobId job);
  const JobEntry* find(JobId job) const;
  const std::map<JobId, JobEntry>& all() const { return entries_; }
  JobId next_id() { return {++last_}; }
  /// The job that this owner submitted under that key before, if any.
  std::optional<JobId> by_key(const std::string& owner, const std::string& key) const;
  wire::JobStatus status(const JobEntry& entry, const Scheduler& scheduler) const;

 private:
  std::map<JobId, JobEntry> entries_;
  std::map<std::pair<std::string, std::string>, JobId> keys_;
  std::uint64_t last_ = 0;
};

}  // namespace souk
