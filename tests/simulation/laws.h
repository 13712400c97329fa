// What must hold after every step of a simulated grid, kept by a second, simple set of books.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/simulation/market.h"

namespace souk::simulation {

class Simulation;

class Laws {
 public:
  explicit Laws(Simulation& simulation) : simulation_(simulation) {}

  /// The manager starts with empty books.
  void new_life();
  /// One step of the scheduler.
  void told(const Event& event, const std::vector<Action>& actions, const Market& market);
  /// An outcome reaches the disk.
  void on_disk(Journal& journal, TaskId task, TaskState state);
  /// The manager stood still: silence of that time counts against nobody.
  void stood_still(Duration how_long);
  /// When all is over.
  void at_the_end(const Journal& journal);
  /// When a job is no longer kept, or all is over.
  void at_its_end(const JobPlan& plan, JobId id, const Journal::Job& job);

 private:
  struct Failure {
    unsigned times = 0;
    Instant earliest{};  // of the next run
  };
  struct Job {
    JobSubmitted spec;
    std::vector<std::uint64_t> first;               // task of each group
    std::vector<std::uint64_t> succeeded;           // by group
    std::map<std::uint64_t, TaskState> outcomes;    // committed or given up
    std::map<std::uint64_t, Failure> failures;
    std::uint64_t failed = 0;
    bool canceled = false, held = false;
    std::size_t group_of(std::uint64_t task) const;
  };
  void learn(const JobSubmitted& job);
  void ended(Job& job, std::uint64_t task, TaskState state);
  void on(const Assign& action, const Scheduler& scheduler);
  void on(const Commit& action, const Market& market);
  void check_leases(const Market& market);
  void check_deadlines(const Scheduler& scheduler);
  void blame(const std::string& what) const;

  Simulation& simulation_;
  std::map<JobId, Job> jobs_;
  std::map<JobId, TaskState> over_, ever_over_;  // the second: also of those that run again
  std::map<std::string, OwnerSet> owners_;
  std::map<WorkerId, WorkerJoined> workers_;
  std::map<std::pair<TaskId, WorkerId>, Instant> leases_;  // until when it is his, by what was said
  std::map<WorkerId, Instant> aside_, until_;  // the second: when their owners want them back
  Instant forgives_until_{};  // it catches up with what it missed
  bool open_ = false;
};

}  // namespace souk::simulation
