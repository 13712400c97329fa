// What happens to the scheduler, and what it decides. Plain facts: no gloox, no clock, no disk.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocol/command.h"
#include "protocol/ids.h"
#include "protocol/needs.h"
#include "protocol/offer.h"
#include "protocol/quorum.h"

namespace souk {

enum class WorkerState : std::uint8_t { free, busy, draining, paused };
enum class TaskState : std::uint8_t { waiting, running, succeeded, failed, canceled };

constexpr bool ended(TaskState state) { return state >= TaskState::succeeded; }
constexpr std::string_view name_of(TaskState state) {
  constexpr std::string_view names[] = {"waiting", "running", "succeeded", "failed", "canceled"};
  return names[static_cast<int>(state)];
}
constexpr std::string_view name_of(WorkerState state) {
  constexpr std::string_view names[] = {"free", "busy", "draining", "paused"};
  return names[static_cast<int>(state)];
}

/// What a worker says it has: running, waiting to run, or finished and not yet taken.
struct Held {
  AttemptId attempt;
  TaskId task;
  friend bool operator==(const Held&, const Held&) = default;
};

// ---- Jobs ----------------------------------------------------------------------------------------------------------------------
struct ExitCodes {
  int first = 0, last = 0;  // inclusive
  friend bool operator==(const ExitCodes&, const ExitCodes&) = default;
};
/// When a failed task runs again.
struct Retry {
  unsigned times = 0;
  Duration delay{0};                           // before the first retry; doubles each time, less or more by up to a quarter
  Duration delay_max = std::chrono::minutes(10);
  std::vector<ExitCodes> codes;                // only after these exit codes; none: after any failure
};
/// Tasks of a job with the same command, needs and terms.
struct Group {
  std::uint64_t tasks = 1;
  Needs needs;
  std::string require, rank;  // expressions that parse; empty: none
  Retry retry;
  Duration time_limit{0};     // 0: none. With one, an attempt is surely over by then
  struct After {
    std::uint32_t group = 0;  // position in the job
    bool any = false;         // however its tasks end; else all must succeed
  };
  std::vector<After> after;   // no cycles
};
struct JobAfter {
  JobId job;
  bool any = false;
};
/// What a submitter can say of a job beside its tasks.
struct Terms {
  int priority = 0;                       // among the owner's own: higher first
  std::vector<JobAfter> after;            // jobs of lower number
  std::optional<std::uint64_t> max_fails;  // more failed tasks than this, and the rest is canceled
  std::optional<Instant> deadline;        // what cannot end by then is not started
  bool hold = false;
  bool speculate = false;
  unsigned crash_limit = 0;               // workers a task may take with it; 0: as the rules say
  std::optional<VotesOf> votes_of;        // a task may take several results, each of another one of these: the jury says which counts
};

// ---- Events --------------------------------------------------------------------------------------------------------------------
struct JobSubmitted {
  JobId job;
  std::string owner;  // bare JID
  std::vector<Group> groups{Group{}};  // tasks are numbered through them, from 1
  Terms terms{};
  std::string name{};                  // for expressions
};
/// What a task went through before: it goes on from there.
struct Past {
  TaskNumber task;
  unsigned runs = 0, failures = 0, losses = 0;  // runs that ended; of these its own failures, and those whose worker went away
  std::optional<Instant> not_before{};          // a retry waits for that time
  AttemptId over{};                             // the last one whose end is on disk: who brings it again was not told so yet
  std::vector<std::string> voted{};             // who gave a result of it that is not decided yet
};
/// A job of an earlier life of the manager, or one that runs again. In a restart it comes before any worker joins.
struct JobRestored {
  JobSubmitted job;
  std::vector<std::pair<TaskNumber, TaskState>> ended;  // outcomes that stay, in task order
  bool canceled = false;
  std::vector<Past> past{};
  Epoch born{};  // it was submitted in that life, or a later one: attempts of earlier ones are of another job that had its number in a world that is lost
};
/// How a job of an earlier life ended that others may wait for.
struct JobKnown { JobId job; TaskState state; };
/// An ended job that is no longer kept: nothing of it is known from now on.
struct JobForgotten { JobId job; };
struct JobCanceled { JobId job; };
struct JobHeld { JobId job; };      // nothing more of it is started
struct JobReleased { JobId job; };
/// A worker was greeted and told what it holds. Said again of a known worker, it replaces what was known.
struct WorkerJoined {
  WorkerId worker;
  std::shared_ptr<const Offer> offer;  // never null
  std::string name, owner;             // its nick, and the bare JID whose worker it is
  int slots = 1;                       // offered now; at most those of the offer
  WorkerState state = WorkerState::free;
  std::vector<Held> held;
  std::optional<Instant> until{};      // when its owner wants the machine back
  std::optional<Instant> aside{};      // what it said before was found wrong: it is given nothing until then
  std::string stem{};                  // its address, but for what each life of it adds; empty: its owner's and its name
};
struct WorkerChanged {
  WorkerId worker;
  WorkerState state;
  int slots = 0;  // 0: as before
  std::optional<std::optional<Instant>> until{};
};
struct WorkerLost { WorkerId worker; };
struct AttemptRefused { WorkerId worker; AttemptId attempt; };   // did not take it
struct AttemptReturned { WorkerId worker; AttemptId attempt; };  // handed it back unstarted
struct AttemptFinished {
  WorkerId worker;
  Held what;
  Cause cause = Cause::exited;
  bool succeeded = true;
  Duration wall{0};
  int exit_code = 0;  // for `exited`
};
/// Of a job with votes_of: what this attempt found is not the task's outcome, or not yet. Nobody who gave a result of a task is given it again.
struct AttemptSetBy {
  WorkerId worker;
  Held what;
  enum class Then : std::uint8_t { again, park, fail } then = Then::again;  // it runs elsewhere; it waits for TaskReopened or TaskSettled; it ends as failed
  bool succeeded = true;
  Duration wall{0};
  std::string why{};  // for people, of `fail`
};
struct TaskReopened { TaskId task; };                // parked: it runs elsewhere as well
struct TaskSettled { WorkerId worker; Held what; };  // parked: what that attempt found is its outcome, a success
/// What the worker says was found wrong. It is given nothing for that time; 0: it still is.
struct WorkerDistrusted {
  WorkerId worker;
  Duration aside{0};
};
struct LeaseRenewed {
  WorkerId worker;
  WorkerState state = WorkerState::free;
  std::vector<Held> held;
  int slots = 0;  // 0: as before
  std::optional<std::optional<Instant>> until{};
};
struct Tick {};  // time passed, nothing else happened
/// The market cannot be reached: nothing is given out, and silence counts against nobody.
struct MarketClosed {};
/// It can, and every worker seen in it was heard, or had its chance.
struct MarketOpened {};
/// What this owner gets of the grid; also before any job of theirs.
struct OwnerSet {
  std::string owner;            // empty: everybody not named
  double weight = 1;            // twice the weight, twice the slots
  std::uint64_t running_max = 0;  // tasks at a time; 0: no limit
};
/// Who is in which group, for workers that take tasks of some people only; in place of what was said before.
struct GroupsSet { Groups groups; };
using Event = std::variant<MarketClosed, MarketOpened, JobSubmitted, JobRestored, JobKnown, JobForgotten, JobCanceled, JobHeld, JobReleased, OwnerSet, GroupsSet, WorkerJoined, WorkerChanged, WorkerLost,
                           AttemptRefused, AttemptReturned, AttemptFinished, AttemptSetBy, TaskReopened, TaskSettled, WorkerDistrusted, LeaseRenewed, Tick>;

// ---- Actions -------------------------------------------------------------------------------------------------------------------
/// speculative: a second attempt of a task that runs already.
struct Assign { WorkerId worker; TaskId task; AttemptId attempt; bool speculative = false; };
/// That worker is to stop the attempt, or to forget it.
struct Stop { WorkerId worker; Held what; };
/// The finished attempt is the task's outcome: journal it. `attempts`: how many runs the task took in all.
struct Commit { Held what; WorkerId worker; TaskState state; unsigned attempts; };
/// The finished attempt failed or was lost, and the task goes on without it: for its history, and for a later life, which goes on from these counts of the task.
struct Failed {
  Held what;
  WorkerId worker;
  unsigned run;
  std::string_view why;
  unsigned failures = 0, losses = 0;  // as in Past, this one included
  Duration delay{0};                  // before it runs again
};
/// Why an attempt that ended well goes into its task's history.
inline constexpr std::string_view kVote = "vote";
inline constexpr std::string_view kDistrusted = "what it said was not what others found";
inline constexpr std::string_view kNoQuorum = "no-quorum";  // its results do not agree
/// The task ends as failed without an attempt's result: its workers were lost too often, its deadline passed, or nobody knows what is right.
/// note: for people; empty: `why` says it all
struct GiveUp { TaskId task; unsigned attempts; std::string_view why; unsigned losses = 0; std::string note{}; };
/// Why a result is dropped whose attempt was given out in an epoch that the store lacks.
inline constexpr std::string_view kOfLostEpoch = "given out in an epoch that this store lacks";
/// The result is acknowledged and forgotten.
struct Drop { Held what; std::string_view why; };
struct Requeued { TaskId task; AttemptId attempt; WorkerId worker; std::string_view why; };
/// Of the job nothing runs and nothing can be started, but parked tasks wait. Said once, until something of it runs again.
struct OnlyParked { JobId job; };
/// why: empty, or for people: `more than 3 tasks failed`
struct JobEnded { JobId job; TaskState state; std::string why; };
/// The worker fails what others do well: it is given nothing until then, and its owner should know.
struct SetAside { WorkerId worker; Instant until; std::string why; };
using Action = std::variant<Assign, Stop, Commit, Failed, GiveUp, Drop, Requeued, OnlyParked, JobEnded, SetAside>;

}  // namespace souk
