// A simulated machine with a worker on it: the worker's real core, in a model of its shell (worker/session) whose processes are only ends in time.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "manager/event.h"
#include "tests/simulation/plan.h"
#include "worker/agent.h"

namespace souk::simulation {

class Simulation;

/// One attempt on the wire.
struct Given {
  AttemptId attempt;
  TaskId task;
  unsigned run = 1;
  bool command_inside = true;
};
struct Report {
  struct Result {
    Held what;
    Cause cause;
    bool succeeded;
    Duration wall;
    int exit_code;
  };
  std::vector<Result> results;
  std::vector<AttemptId> returned;
};
/// How the market answers a report or a lease.
enum class Reply : std::uint8_t { taken, unknown_worker, unanswered };

class Host {
 public:
  Host(Simulation& simulation, std::size_t index);

  void boot();
  /// Everything on it is gone at once. `quiet`: nobody is told, as when the cable is cut with it.
  void crash(bool quiet);
  /// It is told to end: what waits goes back, what runs may end for a while, and then it goes.
  void end();
  /// Stands still with all it has, and goes on later as if nothing had been.
  void freeze(Duration how_long);
  /// Its owner pauses it, or leaves it fewer slots; not `away`: gives all back.
  void owner_wants(bool away);
  /// Its owner says when the machine is wanted back, and takes it then.
  void owner_wants_back_in(Duration time);
  bool up() const { return agent_ != nullptr; }
  bool frozen() const;
  /// Runs it now, or when it wakes; never if it has crashed by then.
  void run(std::function<void()> what);

  // From the market.
  void hello(std::uint64_t request, Epoch epoch, Duration lease);
  void assign(std::uint64_t request, Epoch epoch, const std::vector<Given>& given);
  /// One part of a command that travels ahead. A first one begins anew; one out of turn ends it (worker/command_store).
  void command(JobId job, unsigned part, unsigned parts);
  void stop(std::vector<AttemptId> attempts);
  void manager_gone();
  void answer_report(std::uint64_t report, Reply reply);
  void answer_lease(Reply reply, std::uint64_t lease);

  /// Says what was never so: results and leases of attempts that others have, or nobody.
  void lie();

  std::uint64_t hellos() const { return hellos_; }  // seen so far, in all its lives
  std::size_t index() const { return index_; }
  const worker::Agent* agent() const { return agent_.get(); }

 private:
  struct Running {
    worker::Assignment assignment;
    worker::Granted granted;
    std::uint64_t serial = 0;
    Instant started{}, ends{};
    Outcome outcome;
    bool stopping = false, paused = false;
    Duration left{0};  // while paused
    std::optional<worker::Assignment> next;  // lined up
  };
  /// What is on its disk, and outlives it.
  struct Spool {
    std::map<AttemptId, worker::Restored::Result> results;
    Epoch epoch;
    JobId jobs_seen;
  };
  void later(Duration pause, std::function<void()> what);
  void tell(worker::Event event, std::uint64_t request = 0);
  void wake_in_time();
  void perform(worker::AnswerHello& action);
  void perform(worker::AnswerAssign& action);
  void perform(worker::RefuseEpoch& action);
  void perform(worker::RefuseStale& action);
  void perform(worker::Start& action);
  void perform(worker::LineUp& action);
  void perform(worker::Recall& action);
  void perform(worker::Call&) {}  // no worker here offers a service
  void perform(worker::StopCall&) {}
  void perform(worker::ForsakeCall&) {}
  void perform(worker::StopSlot& action);
  void perform(worker::PauseSlot& action);
  void perform(worker::ResumeSlot& action);
  void perform(worker::SendReport& action);
  void perform(worker::SendLease& action);
  void perform(worker::Show&) {}
  void perform(worker::GiveUp& action);
  void perform(worker::Emptied&);
  void perform(worker::Keep& action) { spool_.results[action.held.attempt] = {action.held, action.outcome}; }
  void perform(worker::Forget& action) { spool_.results.erase(action.attempt); }
  void perform(worker::Remember& action) { spool_.epoch = action.epoch, spool_.jobs_seen = action.jobs_seen; }
  void begin(int slot, worker::Assignment assignment, worker::Granted granted);
  void finish(int slot, std::uint64_t serial);
  void end_later(int slot, Duration pause, const Outcome& outcome);
  void check_room() const;
  std::uint64_t until_ms() const;
  WorkerState state(worker::Availability state) const { return static_cast<WorkerState>(state); }

  Simulation& simulation_;
  const std::size_t index_;
  std::unique_ptr<worker::Agent> agent_;
  std::uint64_t life_ = 0, serial_ = 0, hellos_ = 0;
  bool ending_ = false;
  Spool spool_;
  Epoch obeyed_{};  // the highest, as far as its disk remembers
  std::optional<Instant> frozen_until_, wakes_at_;
  std::vector<std::function<void()>> while_frozen_;
  std::map<int, Running> running_;
  std::set<std::uint64_t> reports_, leases_;  // not answered yet
  std::set<JobId> commands_;         // those that travel ahead
  std::map<JobId, unsigned> parts_;  // of these, as far as they came
  std::optional<Instant> until_;
  worker::Allowance allowance_;
  std::uint64_t request_ = 0;        // what the agent answers now
  Epoch of_{};                       // of the manager that asks
};

}  // namespace souk::simulation
