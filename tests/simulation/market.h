// A model of the manager's shell (manager/pool, manager/grid, manager/journal) around the real scheduler: small, but with the same order of events.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <variant>
#include <vector>

#include "manager/scheduler.h"
#include "tests/simulation/host.h"

namespace souk::simulation {

/// What is on disk: all that a restart of the manager leaves.
struct Journal {
  struct Job {
    JobSubmitted spec;
    std::string key;
    bool canceled = false, held = false, over = false, again = false;
    TaskState state = TaskState::waiting;  // once over
    Instant ended{};
    std::map<TaskNumber, TaskState> outcomes;
    std::map<TaskNumber, Past> past;
  };
  Epoch epoch{0};
  std::uint64_t last_job = 0;  // also of those that are no longer kept
  std::map<JobId, Job> jobs;
};

struct HelloAnswer {
  int slots = 1;
  WorkerState state = WorkerState::free;
  std::vector<Held> held;
  std::optional<Instant> until{};
};
struct AssignAnswer {
  enum What : std::uint8_t { taken, conflict, nobody_there, timeout, stale } what = taken;
  std::vector<std::uint64_t> refused;
  std::set<JobId> missing;
};
enum class Order : std::uint8_t { cancel, hold, release, rerun };

constexpr std::size_t kFactsMax = 60;  // facts that wait for the disk; beyond, results are left with their workers

/// One life of the manager.
class Market {
 public:
  Market(Simulation& simulation, Journal& journal);
  /// The process dies. What was on its way to the disk is there in part, in order.
  void die();
  /// Another one has taken over its place while it stood still: from now on it writes to a store that nobody reads, and knows nothing of it.
  void left_behind();
  bool is_left_behind() const { return own_ != nullptr; }
  /// Its process stands still: what comes waits, and time passes without it.
  void stall(Duration how_long);
  /// Runs it now, or when it goes on.
  void run(std::function<void()> what);

  // From the room.
  void opened(const std::set<std::size_t>& occupants);
  void closed();
  bool open() const { return linked_; }
  void present(std::size_t host, bool entered);
  void gone(std::size_t host);

  // From workers.
  void answered(std::uint64_t request, const std::variant<HelloAnswer, AssignAnswer>& answer);
  void report(std::size_t host, std::uint64_t life, std::uint64_t number, const Report& report);
  void lease(std::size_t host, std::uint64_t number, const std::vector<Held>& held, WorkerState state, int slots, std::optional<Instant> until = {});

  // From submitters; each is answered once it is on disk.
  void submit(const std::string& key, JobSubmitted job, std::function<void(JobId)> reply);
  void order(JobId job, Order order, std::function<void()> reply);

  const Scheduler& scheduler() const { return scheduler_; }
  std::optional<std::size_t> host_of(WorkerId worker) const;
  const std::set<JobId>& over() const { return over_; }

 private:
  struct Peer {
    bool joined = false, asking = false, owed = false;
    WorkerId id;
    int failures = 0;
    Instant again{};
    std::vector<Given> to_assign;
    std::vector<AttemptId> to_stop;
    std::set<JobId> has_command;
  };
  struct Request {
    std::size_t host;
    std::function<void(const std::variant<HelloAnswer, AssignAnswer>*)> then;  // null: it ran out of time, or the link broke
  };
  void handle(const Event& event);
  void perform(const Action& action);
  void save(std::function<void()> fact) { to_save_.push_back(std::move(fact)); }
  void commit(std::function<void()> then);
  void flush_to_disk();
  void later(Duration pause, std::function<void()> what);
  bool stalled() const;
  void keep_promises(std::size_t host, const std::vector<Report::Result>& wanted);
  bool is_wanted(const Held& what) const;
  void forget_old();
  void run_again(JobId job, std::function<void()> reply);
  void meet(std::size_t host);
  void greet(std::size_t host);
  void greet_later(std::size_t host);
  void bounced(std::size_t host);
  void flush(std::size_t host);
  void flush_soon(std::size_t host);
  void refused(WorkerId worker, const std::vector<AttemptId>& attempts);
  void open_when_settled(bool at_once);
  void tick();
  void wake_in_time();
  std::uint64_t ask(std::size_t host, std::function<void(const std::variant<HelloAnswer, AssignAnswer>*)> then);

  Simulation& simulation_;
  std::unique_ptr<Journal> own_;  // once it is left behind
  Journal* journal_;
  Epoch epoch_;
  Scheduler scheduler_;
  std::map<JobId, JobSubmitted> book_;
  std::map<std::string, JobId> keys_;
  std::uint64_t last_job_ = 0;
  std::set<JobId> over_, reopening_;
  std::set<AttemptId> refused_;
  std::map<std::size_t, Peer> peers_;
  std::map<std::size_t, WorkerId> ids_;
  std::map<WorkerId, std::size_t> hosts_;
  std::map<std::uint64_t, Request> requests_;
  std::set<std::size_t> dirty_;
  bool posted_ = false, linked_ = false, is_opening_ = false;
  std::uint64_t openings_ = 0;
  std::vector<std::function<void()>> to_save_;
  std::vector<std::function<void()>> to_answer_;
  bool saving_ = false;
  std::optional<Instant> stalled_until_, stalled_since_;
  std::vector<std::function<void()>> while_stalled_, timers_while_stalled_;
  std::optional<Instant> wakes_at_;
  std::shared_ptr<int> alive_ = std::make_shared<int>(0);  // ends what was to happen later
};

}  // namespace souk::simulation
