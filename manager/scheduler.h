// Decides who runs what. A pure state machine: the same events at the same times give the same actions.
//
//   a task:  waiting ──assign──▶ running ──success──▶ succeeded
//               ▲                  │  │ └──failure, no retries left──▶ failed
//               │   retry, worker  │  └──(job canceled) its result, or its worker gone──▶ canceled
//               └──lost, refused───┘
//            waiting ──(job canceled)──▶ canceled
//
// First result to commit wins (DESIGN: attempts are fenced): a late success of a lost attempt is taken while its task has not ended, and
// a newer attempt is then stopped; every other late result is dropped.
#pragma once
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "manager/event.h"
#include "manager/explain.h"

namespace souk {

class Scheduler {
 public:
  struct Rules {
    Duration lease = std::chrono::seconds(30);        // silence for this long and the attempt is requeued
    Duration prefetch = std::chrono::milliseconds(50);  // work a slot may hold beyond what it runs, by estimate
    unsigned prefetch_max = 64;                       // attempts a slot, whatever the estimate
    unsigned losses_max = 10;                         // workers a task may take with it before it is given up
  };
  struct Counts {
    std::uint64_t tasks = 0, waiting = 0, running = 0, succeeded = 0, failed = 0, canceled = 0;
    std::uint64_t requeued = 0, retried = 0;
  };
  struct Load {
    int slots = 0;
    WorkerState state = WorkerState::free;
    std::size_t held = 0;
    std::uint64_t succeeded = 0, failed = 0;
  };
  struct Totals {
    std::uint64_t waiting = 0, running = 0;
  };

  Scheduler(Epoch epoch, Rules rules);

  /// Applies one event that happened at `now`; appends what the shell must do, in order.
  void step(Instant now, const Event& event, std::vector<Action>& actions);

  /// Null for a job never submitted. An ended job keeps its counts.
  const Counts* counts(JobId job) const;
  /// `waiting` for an unknown or ended job: ask the journal then.
  TaskState state(TaskId task) const;
  /// The worker that runs the task now.
  std::optional<WorkerId> runner(TaskId task) const;
  unsigned attempts(TaskId task) const;  // runs so far, the current one included
  const Load* load(WorkerId worker) const;
  Totals totals() const;

  /// When to tell Tick at the latest, if nothing else happens before.
  std::optional<Instant> wake_at() const { return std::nullopt; }

  /// Why a task of a job that has not ended waits; task 0: the next of the job's.
  Explanation why(TaskId) const { return {}; }
  /// What a group of this owner would find, without submitting it.
  Fit fit(const Group&, const std::string& owner) const { (void)owner; return {}; }

  /// Names the first broken invariant, or nothing. Tests ask after every step.
  std::optional<std::string> broken_invariant() const;

 private:
  struct Job {
    std::string owner;
    unsigned retries = 0;
    bool canceled = false;
    bool restored = false;              // of an earlier life: attempts of older epochs may be claimed
    Counts counts;
    std::vector<TaskState> states;      // [task - 1]; empty once the job ended
    std::uint64_t cursor = 1;           // first task never assigned
    std::set<std::uint64_t> again;      // requeued ones, below the cursor; they go first
    std::map<std::uint64_t, unsigned> failures, losses, past;  // of tasks with attempts that ended without an outcome: `past` counts those
  };
  struct Run {
    TaskId task;
    WorkerId worker;
    Instant lease_ends;
    bool stopping = false;
  };
  struct Worker {
    Load load;
    std::set<AttemptId> held;
    std::map<JobId, double> mean_us;  // running estimate of a task's wall time here
    int free_indexed = 0;             // its key in idle_; 0: not there
    bool resting = false;             // refused something: gets nothing until it is heard of again, or a tick
  };
  using Actions = std::vector<Action>;

  void on(const JobSubmitted&, Actions&);
  void on(const JobRestored&, Actions&);
  void on(const JobCanceled&, Actions&);
  void on(const JobKnown&, Actions&) {}
  void on(const JobHeld&, Actions&) {}
  void on(const JobReleased&, Actions&) {}
  void on(const OwnerSet&, Actions&) {}
  void on(const WorkerJoined&, Actions&);
  void on(const WorkerChanged&, Actions&);
  void on(const WorkerLost&, Actions&);
  void on(const AttemptRefused&, Actions&);
  void on(const AttemptReturned&, Actions&);
  void on(const AttemptFinished&, Actions&);
  void on(const LeaseRenewed&, Actions&);
  void on(const Tick&, Actions&);
  void on(const MarketClosed&, Actions&);
  void on(const MarketOpened&, Actions&);

  void dispatch(Actions&);
  std::optional<TaskId> next_task();
  std::optional<JobId> next_job() const;
  void assign(WorkerId, Worker&, TaskId, Actions&);
  int depth(const Worker&, JobId) const;
  void index(WorkerId, Worker&);
  void adopt(WorkerId, Worker&, const Held&, bool greeted, Actions&);
  void rested(WorkerId, Worker&);
  void requeue(AttemptId, std::string_view why, bool counts_as_loss, Actions&);
  void release(AttemptId);
  void set_waiting(JobId, Job&, std::uint64_t task);
  void end_task(JobId, Job&, std::uint64_t task, TaskState);
  void settle(JobId, Job&, Actions&);
  bool has_waiting(const Job&) const;
  void index_job(JobId, const Job&);
  Job* live(TaskId);

  Epoch epoch_;
  Rules rules_;
  Instant now_{};
  std::uint64_t last_attempt_ = 0;
  std::map<JobId, Job> jobs_;
  std::map<WorkerId, Worker> workers_;
  std::map<AttemptId, Run> runs_;
  std::map<TaskId, AttemptId> running_;                // a task's current attempt
  std::map<AttemptId, std::pair<WorkerId, TaskId>> lost_;  // given to somebody else since; their late success still counts
  std::map<TaskId, std::vector<AttemptId>> lost_of_;   // to forget them with their task
  std::map<std::string, std::set<JobId>> ready_;       // owner -> jobs with waiting tasks
  std::string last_owner_;                             // who was served last
  std::map<std::string, JobId> last_job_;              // of each owner with waiting tasks
  std::set<WorkerId> resting_;
  bool open_ = true;
  Instant last_tick_{};
  std::set<std::pair<int, WorkerId>> idle_;            // (-free slots, worker) of those that take work and have a free slot
  std::set<WorkerId> hungry_;                          // gave something back in this step: may hold work ahead of their slots
};

}  // namespace souk
