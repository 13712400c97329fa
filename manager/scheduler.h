// Decides who runs what. A pure state machine: the same events at the same times give the same actions.
//
//   a task:  waiting ──assign──▶ running ──success──▶ succeeded
//               ▲                  │  │ └──failure, no retries left──▶ failed
//               │   retry, worker  │  └──(job canceled) its result, or its worker gone──▶ canceled
//               └──lost, refused───┘
//            waiting ──(job canceled, what it waits for failed, deadline)──▶ canceled
//
// First result to commit wins (DESIGN: attempts are fenced): a late success of a lost attempt is taken while its task has not ended, and
// a newer attempt is then stopped; every other late result is dropped. A task may have two attempts at a time when it is late (Terms::speculate).
//
// Tables hold plain structs that name each other by their index (Ix): a decision costs a few memory accesses, whatever the number of queued tasks,
// jobs and workers. docs/ARCHITECTURE.md, "Choice of worker", has the rules; market.h the classes; shares.h whose turn it is.
//   scheduler.cpp  jobs: their life, dependencies, queues         dispatch.cpp  which task next, on which worker
//   workers.cpp    who is there, and has room                     explain.cpp   why a task waits
//   attempts.cpp   results, losses, leases, what they teach       invariants.cpp  what must always hold
//   votes.cpp      results that wait for others (jury.h)
#pragma once
#include <boost/unordered/unordered_flat_map.hpp>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "manager/event.h"
#include "manager/explain.h"
#include "manager/market.h"
#include "manager/shares.h"
#include "manager/task_states.h"

namespace souk {

class Scheduler {
 public:
  struct Rules {
    Duration lease = std::chrono::seconds(30);          // silence for this long and the attempt is requeued
    Duration prefetch = std::chrono::milliseconds(100);  // work a slot may hold beyond what it runs, by estimate
    unsigned prefetch_max = 1024, prefetch_all = 2048;   // attempts a slot, and a worker, whatever the estimate
    unsigned crash_limit = 5;                           // workers a task may take with it before it is given up
    Duration half_life = std::chrono::hours(1);         // of use, in the order of owners
    double credit = 60;                                 // seconds of all slots that an owner can save up by being away
    Duration reserve_after = std::chrono::seconds(5);   // a task that needs more than one free slot waits so long before a worker is kept for it
    unsigned strikes_max = 5;                           // failures in a row, at least, of what does well elsewhere, and a worker is set aside
    Duration set_aside = std::chrono::minutes(5);       // the first time; doubles up to an hour
    Duration elsewhere = std::chrono::seconds(30);      // a retry waits so long at most for a worker where it did not fail
    std::vector<std::pair<Epoch, Epoch>> lost{};        // from the first to the second: epochs that the store knows nothing of, as it is an old copy
  };
  struct Counts {
    std::uint64_t tasks = 0, waiting = 0, running = 0, succeeded = 0, failed = 0, canceled = 0;
    std::uint64_t requeued = 0, retried = 0;
  };
  struct Load {
    int slots = 0;                 // offered now
    int slots_taken = 0;
    WorkerState state = WorkerState::free;
    std::size_t held = 0;          // attempts, running or to run next
    std::uint64_t succeeded = 0, failed = 0;
    std::string set_aside;         // why it is given nothing for now; empty: it is not
  };
  struct Totals {
    std::uint64_t waiting = 0, running = 0;
  };

  Scheduler(Epoch epoch, Rules rules);

  /// Applies one event that happened at `now`; appends what the shell must do, in order.
  void step(Instant now, const Event& event, std::vector<Action>& actions);
  /// When to tell Tick at the latest, if nothing else happens before. Ticks come once a second besides.
  std::optional<Instant> wake_at() const;

  /// Null for a job never submitted. An ended job keeps its counts until it is forgotten.
  const Counts* counts(JobId job) const;
  /// `waiting` for an unknown or ended job: ask the journal then.
  TaskState state(TaskId task) const;
  /// The worker that runs the task now.
  std::optional<WorkerId> runner(TaskId task) const;
  unsigned attempts(TaskId task) const;  // runs so far, the current ones included
  std::optional<Load> load(WorkerId worker) const;
  Totals totals() const;
  /// Whether that worker runs the attempt of that task now, as far as we know.
  bool runs(WorkerId worker, const Held& what) const;
  /// Who that worker is among those whose results count side by side; empty: it is not here.
  std::string voter(WorkerId worker, VotesOf of) const;
  /// How many such are here.
  std::size_t voters(VotesOf of) const;
  /// Tasks of an owner that have not ended.
  std::uint64_t open_tasks(const std::string& owner) const;
  /// For people, why a job that has not ended does not run: `held`, `waits for job 12`; may be empty.
  std::string note(JobId job) const;

  /// Why a task of a job that has not ended waits; task 0: the next of the job's.
  Explanation why(TaskId task) const;
  /// What a group of such a job would find, without submitting it.
  Fit fit(const Group& group, const JobFacts& job);

  const Market& market() const { return market_; }
  /// Names the first broken invariant, or nothing. Tests ask after every step.
  std::optional<std::string> broken_invariant() const;

 private:
  using Ix = std::uint32_t;
  static constexpr Ix kNone = ~Ix{0}, kSeveral = kNone - 1;
  static constexpr Instant kParked = Instant::max(), kUnvoted = kParked - Duration(1);
  using Actions = std::vector<Action>;

  // ---- Jobs
  struct History {  // of a task with attempts that ended without an outcome
    std::uint16_t past = 0, failures = 0, losses = 0;
    std::uint8_t avoided = 0;
    bool failed_there[3]{};      // else it was refused there
    WorkerId avoid[3];           // where it failed last
    Instant anywhere{};          // from then on it may run there again
    Instant not_before{};        // it waits for this time, in delayed_; kParked: until it is reopened or settled; kUnvoted: in unvoted_
    AttemptId over{};            // of an earlier life, whose end is known
  };
  struct GroupState {
    std::uint32_t first = 0, tasks = 0;  // task numbers first+1 to first+tasks
    std::uint32_t cursor = 0;            // of `tasks`, the first never started
    std::uint32_t ended = 0, unmet = 0;  // tasks that ended; groups it still waits for
    std::uint32_t lane = 0;
    std::uint16_t terms = 0;             // index of Job::terms
    bool queued = false;                 // in its lane
    bool failed = false;                 // a task of it did not succeed
    std::uint32_t seen = 0;              // results that made the mean
    float mean_us = 0;                   // of wall time
    std::unique_ptr<std::set<std::uint32_t>> again;  // requeued ones that may start; they go first. Offsets, as cursor
  };
  struct Lane {  // groups of one job and class that have something to start
    TaskClassId task_class = 0;
    std::vector<std::uint32_t> groups;  // heap, lowest first
    std::uint64_t turn = 0;             // when it was served last
    bool queued = false;                // in its class's queue
    bool deferred = false;              // in deferred_: the workers with room do not suit, for its deadline or their time
    Ix unsuited = kNone;                // as in PassedOver
  };
  struct GroupTerms {
    Retry retry;
    Duration time_limit{0};
  };
  struct Edge {
    std::uint32_t from, to;  // groups: `to` waits for `from`
    bool any;
    friend bool operator<(const Edge& a, const Edge& b) { return std::tie(a.from, a.to) < std::tie(b.from, b.to); }
  };
  struct Streak {
    std::uint32_t failures;
    std::uint64_t succeeded_before;  // of the job, anywhere, when it began
  };
  struct Job {
    JobId id;
    OwnerId owner = 0;
    int priority = 0;
    bool open = false;                  // this entry is in use
    Epoch born;  // of a restored one
    bool canceled = false, held = false, restored = false, speculate = false, dropped = false;  // dropped: nothing more starts, the job ends as failed
    unsigned crash_limit = 0;
    std::optional<std::uint64_t> max_fails;
    std::optional<Instant> deadline;
    Counts counts;
    TaskStates states;
    std::vector<GroupState> groups;
    std::vector<Lane> lanes;
    std::vector<GroupTerms> terms;
    std::vector<Edge> edges;
    std::vector<JobId> waits_for;       // jobs that have not ended yet
    std::vector<std::pair<JobId, bool>> dependents;  // jobs that wait for this one; any
    boost::unordered_flat_map<std::uint32_t, Ix> running;  // task offset -> run; a second attempt hangs on the first
    std::map<std::uint32_t, History> history;
    std::unordered_map<WorkerId, Streak> failed_on;  // since its last success there
    std::optional<VotesOf> votes_of;    // results count as votes of these; the jury says what comes of them
    std::map<std::uint32_t, std::vector<std::string>> voted;  // who gave a result of a task: it is not given to them again
    std::uint64_t parked = 0;           // tasks
    bool told_parked = false;           // that nothing else is left to do
    std::string why;                    // it ends so, for people
    bool startable() const { return open && !canceled && !dropped && !held && waits_for.empty(); }
  };
  struct Ended {
    Counts counts;
    TaskState state;
  };

  // ---- Workers and attempts
  struct Run {
    AttemptId attempt;
    Ix job = kNone, worker = kNone;
    std::uint32_t task = 0, group = 0;  // task: offset in the job
    Instant lease_ends, placed;
    Duration charged{0};
    float slots = 1;                    // what it counts in fair share
    std::uint16_t run = 1;              // which run of the task
    bool ahead = false;                 // waits on the worker for room
    bool stopping = false, speculative = false;
    std::uint32_t position = 0;         // in Worker::held
    Ix other = kNone;                   // the other attempt of the same task
  };
  struct Estimate {
    std::uint64_t group;  // key
    float mean_us;
  };
  struct Worker {
    WorkerId id;
    bool here = false;
    std::string name, owner, stem;
    std::shared_ptr<const Offer> offer;
    WorkerClassId worker_class = 0;
    Room room;                    // free; below zero slots when its owner took some back
    int slots = 1;                // offered now
    WorkerState state = WorkerState::free;
    std::optional<Instant> until;
    std::uint64_t succeeded = 0, failed = 0;
    std::vector<Ix> held;
    std::deque<Ix> ahead;
    std::vector<Estimate> estimates;
    float pace = 1;               // its wall times over those of its class for the same tasks
    std::int8_t pace_bucket = 0;
    float faults = 0;             // running mean of lost and failed where others do well, 0 to 1
    unsigned strikes = 0, times_aside = 0;
    Instant aside_until{};
    std::string aside;
    bool resting = false;         // refused something: gets nothing until it is heard of again, or a tick
    bool silent = false;          // a lease of its ended: gets nothing until it is heard of again, and a tick does not count
    bool hungry = false, roomy = false;  // in the lists of these names
    unsigned times_silent = 0, times_refused = 0;
    Instant resting_until{};
    Instant silent_until{};       // then it is tried once more
    TaskClassId reserved = kNone; // it is in kept_
    Instant reserved_at{};        // when there should be room
    std::uint64_t key = 0;        // its place in the class's open list; 0: not there
  };
  struct ClassIndex {             // of a worker class
    std::set<std::pair<std::uint64_t, Ix>> open;  // workers with a free slot, best first
  };
  struct Awaiting {               // tasks that can be given to the same workers
    TaskClassId task_class = 0;
    VotesOf of = VotesOf::owners;
    std::vector<std::string> voted{};  // ordered
    friend auto operator<=>(const Awaiting&, const Awaiting&) = default;
  };
  struct Unvoted {
    std::set<std::pair<JobId, std::uint32_t>> tasks;
    Instant since{};              // as Queue::since
  };
  struct Turn {                   // a lane in its owner's queue: by priority, then who was served longest ago
    int priority;                 // negated
    std::uint64_t turn;
    JobId job_id;
    Ix job;
    std::uint32_t lane;
    friend auto operator<=>(const Turn&, const Turn&) = default;
  };
  struct Head {                   // what comes first: of the owner who used least
    double used = 0;
    OwnerId owner = 0;
    Turn turn{};
    friend auto operator<=>(const Head&, const Head&) = default;
  };
  struct Queue {                  // of a task class
    Head head;
    bool head_known = false;
    std::set<std::pair<double, OwnerId>> owners;       // by what they used when they were put here; those at their limit are not
    std::map<OwnerId, std::set<Turn>> turns;
    bool listed = false;          // in queued_
    bool stuck = false;           // no worker has room, but maybe those in `hints`
    bool narrow = false;          // only `hints` may have room
    std::vector<Ix> hints;
    std::vector<Ix> shortlist;    // of classes judged worker by worker
    std::vector<float> ratio;       // by position in fitting(): how long tasks take there, against the average
    std::vector<std::int8_t> pace;  // the same in steps of a quarter
    std::vector<std::uint32_t> position;  // by WorkerClassId: in fitting(), or kNone
    Instant since{};              // it waits, and nothing of it was started since
  };
  struct Pick {
    TaskClassId task_class;
    Ix job;
    std::uint32_t lane, group, task;  // task: offset in the job
  };
  struct PassedOver {  // workers that have room for a task, but not for its own wishes
    Ix worker = kNone;   // which; kSeveral
    bool voters = true;  // none but such as gave a result of it
  };
  struct Found {
    Ix worker = kNone;
    PassedOver passed_over;  // if there is none
  };

  void on(const JobSubmitted&, Actions&);
  void on(const JobRestored&, Actions&);
  void on(const JobKnown&, Actions&);
  void on(const JobForgotten&, Actions&);
  void on(const JobCanceled&, Actions&);
  void on(const JobHeld&, Actions&);
  void on(const JobReleased&, Actions&);
  void on(const OwnerSet&, Actions&);
  void on(const GroupsSet&, Actions&);
  void on(const WorkerJoined&, Actions&);
  void on(const WorkerChanged&, Actions&);
  void on(const WorkerLost&, Actions&);
  void on(const AttemptRefused&, Actions&);
  void on(const AttemptReturned&, Actions&);
  void on(const AttemptFinished&, Actions&);
  void on(const AttemptSetBy&, Actions&);
  void on(const TaskReopened&, Actions&);
  void on(const TaskSettled&, Actions&);
  void on(const WorkerDistrusted&, Actions&);
  void on(const LeaseRenewed&, Actions&);
  void on(const Tick&, Actions&);
  void on(const MarketClosed&, Actions&);
  void on(const MarketOpened&, Actions&);

  // scheduler.cpp
  Ix add_job(const JobSubmitted&);
  void begin(Ix job, Actions&);
  void recall(Ix job, const Past&);
  void drop_waiting(Ix job);
  void stop_running(Ix job, Actions&);
  void cancel_group(Job&, std::uint32_t group);
  void end_task(Ix job, std::uint32_t task, TaskState);
  void group_ended(Ix job, std::uint32_t group);
  void set_waiting(Ix job, std::uint32_t task, std::uint32_t group, Duration delay);
  void settle(Ix job, Actions&);
  void close(Ix job);
  void reclass();
  void give_up(TaskClassId task_class);
  std::uint32_t group_of(const Job&, std::uint32_t task) const;
  bool front(Job&, GroupState&);
  void queue_group(Ix job, std::uint32_t group);
  void sync_lane(Ix job, std::uint32_t lane);
  void sync_lanes(Ix job);
  void enqueue(Ix job, std::uint32_t lane);
  void dequeue(Ix job, std::uint32_t lane);
  void list_owner(TaskClassId, OwnerId);
  void limit_changed(OwnerId);
  void release_delayed();
  const Job* live(JobId) const;
  Job* live(JobId);
  Ix job_ix(JobId) const;
  void task_failed_for_good(Ix job, Actions&);

  // workers.cpp, attempts.cpp
  Ix place(Ix job, std::uint32_t task, std::uint32_t group, Ix worker, AttemptId, bool ahead);
  void release(Ix run);
  void promote(Ix worker);
  void reroom(Ix worker);
  void index(Ix worker, bool more_room);
  void rested(Ix worker);
  void adopt(Ix worker, const Held&, bool greeted, Actions&);
  bool make_way(Ix job, std::uint32_t task, std::uint32_t group, Ix worker, const Held&, Actions&);
  bool is_lost(Epoch epoch) const;
  void give_up(AttemptId attempt, WorkerId worker, TaskId task);
  void requeue(Ix run, std::string_view why, bool counts_as_loss, Actions&);
  void learn(Ix worker, Ix run, Duration wall);
  void failed_there(Ix worker, Ix job, TaskClassId, Actions&);
  void set_aside(Ix worker, TaskClassId, std::string why, Actions&);
  void heard(Ix worker);
  void avoid(History&, WorkerId, bool failed);
  void charge(Run&, Duration whole);
  void speculate(Actions&);
  bool takes_work(const Worker&) const;
  static std::uint64_t estimate_key(const Job& job, std::uint32_t group) { return job.id.value << 20 ^ group; }
  /// Small groups share what is known for work ahead, in their lane: each of them alone is over before anything is known of it.
  static std::uint64_t ahead_key(const Job& job, std::uint32_t group) {
    return job.groups[group].tasks >= 16 ? estimate_key(job, group) : job.id.value << 20 ^ 0x8000'0000'0000'0000u ^ job.groups[group].lane;
  }
  bool by_chance(const Job&, const Streak&) const;
  std::optional<float> estimate(const Job&, std::uint32_t group, const Worker&) const;
  Duration bound(const Job&, std::uint32_t group, const Worker&) const;
  TaskId task_id(const Run& run) const { return {jobs_[run.job].id, {run.task + 1ull}}; }

  // votes.cpp
  static const std::string& voter_of(const Worker&, VotesOf);
  bool has_voted(const Job&, std::uint32_t task, const Worker&) const;
  Awaiting awaiting(const Job&, std::uint32_t task) const;
  void put_aside(Job&, std::uint32_t task);
  void drop_unvoted(Job&, std::uint32_t task);
  void release_unvoted(Ix job, std::uint32_t lane);
  bool wake_unvoted(Ix worker, bool ahead);
  void tell_parked(Actions&);

  // dispatch.cpp
  void dispatch(Actions&);
  std::optional<Pick> next(TaskClassId);
  std::optional<Pick> next_pick();
  const Head* head(TaskClassId);
  Pick pick_of(TaskClassId, const Head&);
  void serve(Ix worker, Actions&);
  Found find(const Pick&);
  bool suits(const Pick&, const Worker&) const;
  bool has_room(const Pick&, const Worker&) const;
  bool fits_elsewhere(const Pick&, const History&) const;
  struct Score {
    double rank = 0;
    std::uint64_t cost = ~0ull;
    bool better_than(const Score& other) const { return rank != other.rank ? rank > other.rank : cost < other.cost; }
  };
  std::optional<Score> score(TaskClassId, Ix worker) const;
  bool fits_class(TaskClassId, WorkerClassId) const;
  int pace_of(TaskClassId, WorkerClassId) const;
  static std::int8_t bucket_of(float ratio);
  float offered_ratio(WorkerClassId) const;
  void defer(const Pick&, PassedOver);
  void undefer(const std::vector<Ix>& roomy);
  void assign(const Pick&, Ix worker, bool ahead, bool speculative, Actions&);
  void prefetch(Ix worker, Actions&);
  std::size_t ahead_max(const Pick&, const Worker&) const;
  void more_room(Ix worker);
  void hint(Ix worker);
  void reserve();
  void unreserve(Ix worker);
  void unreserve(TaskClassId, bool all);
  std::optional<std::pair<Ix, std::uint32_t>> first_of(const Awaiting&);
  Instant room_at(TaskClassId, const Worker&, bool& known) const;
  double weight_of(TaskClassId) const;
  std::uint64_t key_of(const Worker&) const;
  void refresh(TaskClassId);
  WorkerFacts facts_of(const Worker&) const;

  // explain.cpp
  Fit fit_of(TaskClassId, const Job*, std::uint32_t group) const;
  std::optional<std::uint32_t> next_waiting(const Job&) const;
  std::uint64_t tasks_ahead(const Job&, std::uint32_t task, std::uint32_t group) const;
  std::string votes_text(const Job&, std::uint32_t task) const;

  Epoch epoch_;
  Rules rules_;
  Instant now_{};
  std::uint64_t last_attempt_ = 0, last_turn_ = 0;
  Market market_;
  Shares shares_;

  std::deque<Job> jobs_;
  std::vector<Ix> free_jobs_;
  boost::unordered_flat_map<JobId, Ix, std::hash<JobId>> job_ix_;
  std::unordered_map<JobId, Ended> ended_;
  std::vector<std::uint32_t> ended_groups_;  // being gone through
  bool ending_groups_ = false;

  std::vector<Worker> workers_;
  std::map<WorkerId, Ix> worker_ix_;
  std::vector<Ix> free_workers_;
  std::vector<ClassIndex> class_index_;  // by WorkerClassId
  int slots_ = 0, gpus_ = 0;             // of all workers here
  std::uint64_t memory_ = 0;

  std::vector<Run> runs_;
  std::vector<Ix> free_runs_;
  boost::unordered_flat_map<AttemptId, Ix, std::hash<AttemptId>> run_ix_;
  struct Lost {
    WorkerId worker;
    TaskId task;
    bool counted = false;  // its worker went without a word, and with it this: one loss, however often that worker does so
  };
  std::map<AttemptId, Lost> lost_;  // given to somebody else since; their late success still counts
  std::map<TaskId, std::vector<AttemptId>> lost_of_;       // to forget them with their task

  std::vector<Queue> queues_;            // by TaskClassId
  std::vector<TaskClassId> queued_;      // those that have waiting tasks
  std::set<std::tuple<Instant, JobId, std::uint32_t>> delayed_;   // tasks that wait for a time
  std::set<std::tuple<Instant, JobId, std::uint32_t>> deferred_;  // lanes that do
  std::set<std::pair<Instant, JobId>> deadlines_;
  std::set<Ix> speculative_;             // jobs
  std::set<Ix> parking_;                 // jobs with parked tasks
  std::map<Awaiting, Unvoted> unvoted_;  // tasks that all who had room gave a result of already: they wait for a worker of somebody else, for no time
  Awaiting unvoted_turn_;                // those of it that were looked at last
  std::map<Awaiting, Ix> kept_;          // workers kept for what needs much, waiting in a queue or in unvoted_; of nobody's vote: for what has none yet
  std::set<WorkerId> resting_, aside_, silent_;
  std::vector<Ix> roomy_;                // workers that may have room for what waits
  std::vector<Ix> hungry_;               // workers that gave something back in this step: may hold work ahead of their slots
  std::uint64_t waiting_ = 0, running_ = 0;  // tasks of all jobs
  bool circling_ = false;                // the last dispatch() was stopped, since it did not come to an end
  bool open_ = true;
  Instant last_tick_{};
};

}  // namespace souk
