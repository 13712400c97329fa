// What happens to the scheduler, and what it decides. Plain facts: no gloox, no clock, no disk.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocol/command.h"
#include "protocol/ids.h"

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

// ---- Events --------------------------------------------------------------------------------------------------------------------
struct JobSubmitted {
  JobId job;
  std::string owner;  // bare JID
  std::uint64_t tasks = 1;
  unsigned retries = 0;
};
/// A job of an earlier life of the manager. Comes before any worker joins.
struct JobRestored {
  JobSubmitted job;
  std::vector<std::pair<TaskNumber, TaskState>> ended;  // outcomes in the journal
  bool canceled = false;
};
struct JobCanceled { JobId job; };
/// A worker was greeted and told what it holds. Said again of a known worker, it replaces what was known.
struct WorkerJoined {
  WorkerId worker;
  int slots = 1;
  WorkerState state = WorkerState::free;
  std::vector<Held> held;
};
struct WorkerChanged { WorkerId worker; WorkerState state; };
struct WorkerLost { WorkerId worker; };
struct AttemptRefused { WorkerId worker; AttemptId attempt; };   // did not take it
struct AttemptReturned { WorkerId worker; AttemptId attempt; };  // handed it back unstarted
struct AttemptFinished {
  WorkerId worker;
  Held what;
  Cause cause = Cause::exited;
  bool succeeded = true;
  Duration wall{0};
};
struct LeaseRenewed {
  WorkerId worker;
  WorkerState state = WorkerState::free;
  std::vector<Held> held;
};
struct Tick {};  // time passed, nothing else happened
/// The market cannot be reached: nothing is given out, and silence counts against nobody.
struct MarketClosed {};
/// It can, and every worker seen in it was heard, or had its chance.
struct MarketOpened {};
using Event = std::variant<MarketClosed, MarketOpened, JobSubmitted, JobRestored, JobCanceled, WorkerJoined, WorkerChanged, WorkerLost, AttemptRefused, AttemptReturned,
                           AttemptFinished, LeaseRenewed, Tick>;

// ---- Actions -------------------------------------------------------------------------------------------------------------------
struct Assign { WorkerId worker; TaskId task; AttemptId attempt; };
/// That worker is to stop the attempt, or to forget it.
struct Stop { WorkerId worker; Held what; };
/// The finished attempt is the task's outcome: journal it. `attempts`: how many runs the task took in all.
struct Commit { Held what; WorkerId worker; TaskState state; unsigned attempts; };
/// The task ends without an attempt's result: its workers were lost too often.
struct GiveUp { TaskId task; unsigned attempts; };
/// The result is acknowledged and forgotten.
struct Drop { Held what; std::string_view why; };
struct Requeued { TaskId task; AttemptId attempt; WorkerId worker; std::string_view why; };
struct JobEnded { JobId job; TaskState state; };
using Action = std::variant<Assign, Stop, Commit, GiveUp, Drop, Requeued, JobEnded>;

}  // namespace souk
