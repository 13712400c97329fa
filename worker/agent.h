// The worker's own state machine: what waits, what runs, what is owed to the manager. Pure: no wire, no clock, no process.
//
//   assigned ──► waiting ──► running ──► owed ──► taken by the manager: forgotten
//                  │ │                    ▲
//                  │ └─ stopped ──────────┤ (as `canceled`)
//                  └─── handed back ──────┘ (nothing ran: `returned`; its owner took the machine back: `canceled`, and the manager asked for no stop)
//
// Short processes are lined up, one behind each that runs, with what that one has (LineUp): they count as running, begin without a word from here, and come back
// while they have not (Recall).
// Waiting attempts start strictly in order of arrival, each when all it needs is free here: a small one that came later overtakes nobody, so nothing
// wide starves. An attempt of four cpus takes four slots, but one runner.
// Attempts that call a service (worker/services.h) share a slot with others that call the same with the same needs: its process answers one after another, and
// the next ones are in its pipe already, as many as take about kAheadTime. While slots are free each gets its own.
// An attempt leaves only when the manager said it has it. Losing the manager changes nothing for what runs; only hello changes the epoch.
// A result is told to be kept before it is first reported, and to be forgotten when it leaves: the shell has it on disk in between (worker/spool.h). That of a
// call that took no time is not: whoever lost it makes it again sooner than a disk has it.
#pragma once
#include <algorithm>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "protocol/command.h"
#include "protocol/ids.h"
#include "protocol/needs.h"
#include "worker/packing.h"

namespace souk::worker {

/// What people in the room and the manager are told (docs/PROTOCOL.md, marketplace).
enum class Availability : std::uint8_t { free, busy, draining, paused };
constexpr std::string_view name_of(Availability state) {
  switch (state) {
    case Availability::free: return "free";
    case Availability::busy: return "busy";
    case Availability::draining: return "draining";
    case Availability::paused: return "paused";
  }
  return "?";
}

struct Held {
  AttemptId attempt;
  TaskId task;
  friend bool operator==(const Held&, const Held&) = default;
};
struct Assignment {
  AttemptId attempt;
  TaskId task;
  std::string item;
  std::shared_ptr<const Command> command;  // shared by the tasks of a job; null: `problem` says why it cannot run,
  std::string problem;                     // and when that is empty too, no command came at all
  unsigned run = 1;                        // which run of the task this is
  std::uint32_t group = 0;                 // of its job
  Needs needs{};
  std::string submitter{};  // bare JID; empty: an older manager does not say
  std::string refusal{};    // why this worker will not run it: its owner takes none of that submitter, or worker/confine.h; empty: it will
};

// ---- Events ---------------------------------------------------------------------------------------------------------------------
/// What an earlier life left on disk: told once, before anything else.
struct Restored {
  struct Result { Held held; std::shared_ptr<const Outcome> outcome; };
  std::vector<Result> results;
  Epoch epoch;      // the highest obeyed
  JobId jobs_seen;  // the highest that came
};
/// outdated: what the manager has of us is what we said before, and not so any more.
struct Greeted { Epoch epoch; Duration lease; bool outdated = false; };
struct Assigned { Epoch epoch; std::vector<Assignment> assignments; };
struct StopAsked { std::vector<AttemptId> attempts; };
/// What was lined up there, if anything was, runs now.
struct Finished { int slot; Outcome outcome; };
/// What was lined up there has not begun and will not.
struct Recalled { int slot; };
/// Calls of a slot's service that ended, in any order; what was handed back meanwhile is not looked at.
struct CallsEnded {
  struct Ended { AttemptId attempt; Outcome outcome; };
  int slot;
  std::vector<Ended> calls;
};
/// The manager has what that report brought, but for the attempts in `resend`, whose pieces did not add up.
struct ReportTaken { std::uint64_t report; std::vector<AttemptId> resend; };
enum class ReportLoss : std::uint8_t {
  unanswered,  // lost on the way, or the manager cannot take it now: again after a pause
  unknown,     // the manager does not know this worker: again after the next hello
  refused,     // the manager will never take this content
};
struct ReportFailed { std::uint64_t report; ReportLoss loss; std::string why; };
/// The manager has what that lease told.
struct LeaseTaken { std::uint64_t lease; };
/// Lost, or refused: said again after a pause. `unknown`: the manager does not know this worker, and the next hello says all.
struct LeaseFailed { std::uint64_t lease; bool unknown; };
struct ManagerGone {};
struct Drain {};   // finish, accept nothing new; for good
/// It is being stopped: what waits goes back, and what runs too, unless that may end first.
struct Leave { bool let_end = false; };
/// Why results cannot be kept on disk now; empty: they can.
struct DiskRefuses { std::string why; };
struct Pause {};   // the owner wants the machine: what waits goes back, what runs may end
struct Resume {};
/// What its owner's rules leave it now (worker/policy.h); at first, all its slots.
struct Allowance {
  int offered = 1;  // slots for what starts from now on; 0: nothing new
  int running = 1;  // what the youngest take beyond these is paused
  int kept = 1;     // and beyond these handed back
  std::string rule;            // that holds it back; empty: none
  std::uint64_t until_ms = 0;  // since 1970: when its owner will want it back; 0: not known
};
struct Tick {};    // time passed
using Event = std::variant<Restored, Greeted, Assigned, StopAsked, Finished, Recalled, CallsEnded, ReportTaken, ReportFailed, LeaseTaken, LeaseFailed, ManagerGone, Drain, Leave, DiskRefuses, Pause, Resume, Allowance, Tick>;

// ---- Actions --------------------------------------------------------------------------------------------------------------------
/// Answers to the event just told; at most one of them, and first but for what is to be kept or remembered.
struct AnswerHello { Availability state; std::vector<Held> held; std::string rule; std::uint64_t until_ms; JobId jobs_seen; Epoch epoch; std::chrono::milliseconds lease; };
struct AnswerAssign { std::vector<std::uint64_t> refused; std::string why; std::set<JobId> missing; };  // missing: jobs whose command we lack
struct RefuseEpoch { std::string why; };
/// To a hello of an older epoch: a manager that has been replaced, or whose store is an old copy. It is told what it missed.
struct RefuseStale { Epoch epoch; JobId jobs; };  // the highest obeyed; the highest job number ever given

struct Start { int slot; Assignment assignment; Granted granted; };  // its command is never null
/// To begin there by itself when what runs there ends: with the same needs and grants.
struct LineUp { int slot; Assignment assignment; };
/// Take back what was lined up there, unless it has begun: Recalled, or Finished of the one before, will tell.
struct Recall { int slot; };
struct Call { int slot; Assignment assignment; };     // of a service, behind those that the slot was given before
struct StopCall { int slot; AttemptId attempt; };
struct ForsakeCall { int slot; AttemptId attempt; };  // it was handed back: its answer is of no interest any more
struct StopSlot { int slot; };    // all that runs in it
struct PauseSlot { int slot; };   // its attempt keeps all it has, but gets no processor
struct ResumeSlot { int slot; };
struct Piece { AttemptId attempt; TaskId task; bool err; std::uint64_t offset; std::size_t size; std::shared_ptr<const Outcome> of; };
struct Ended { AttemptId attempt; TaskId task; std::shared_ptr<const Outcome> outcome; bool out_in_pieces = false, err_in_pieces = false; };
struct SendReport {
  std::uint64_t report;  // ours, for the answer
  std::vector<Piece> pieces;
  std::vector<Ended> results;
  std::vector<Held> returned;
};
struct SendLease {
  std::uint64_t lease;  // ours, for the answer
  std::vector<Held> held;
  Availability state;
  int offered;
  std::string rule;
  std::uint64_t until_ms;
};
struct Show { Availability state; std::string status; };
/// A result that the manager will not take, whatever we do: it is replaced by a smaller one, or dropped. For the log.
struct GiveUp { Held held; std::string why; };
/// Draining, and nothing is held any more; or leaving, nothing runs, and nobody is there to hand the rest to.
struct Emptied {};
/// A result to have on disk before the next report leaves, in place of what was kept of that attempt before; until it is to be forgotten.
struct Keep { Held held; std::shared_ptr<const Outcome> outcome; };
struct Forget { AttemptId attempt; };
/// To have on disk before the answer leaves: the highest epoch obeyed and the highest job that came.
struct Remember { Epoch epoch; JobId jobs_seen; };
using Action = std::variant<AnswerHello, AnswerAssign, RefuseEpoch, RefuseStale, Start, LineUp, Recall, Call, StopCall, ForsakeCall, StopSlot, PauseSlot, ResumeSlot, SendReport, SendLease, Show, GiveUp, Emptied, Keep, Forget, Remember>;

struct Limits {
  int slots = 1;
  std::size_t held_max = 8192;               // attempts held at once, as one hello answer names them all; more are refused
  std::size_t owed_bytes_max = 64u << 20;    // results not yet taken; reached: nothing new is accepted or started
  Capacity capacity{};                       // beside slots
};
constexpr std::size_t kPieceMax = 64u << 10;             // of one stream in one report
constexpr int kFailuresMax = 4;                          // then a result goes without its streams, then not at all
constexpr int kReportsInFlightMax = 2;
constexpr std::chrono::milliseconds kGatherMax{50};  // how long a result may wait for others, and only while more attempts wait here than results
constexpr std::chrono::milliseconds kHandBackAfter{250};  // nothing began or ended here for so long while something waits: others may be faster
constexpr std::chrono::microseconds kAheadTime{2000};  // of calls in a service's pipe, by what they took so far; before anything is known, one
constexpr int kAheadMax = 256;
constexpr std::chrono::milliseconds kLineUpBelow{100};  // processes that take less, by what they took so far, are lined up behind others
constexpr std::chrono::microseconds kKeptFrom{1000};  // a call that took less is not kept on disk
constexpr std::chrono::milliseconds kShowEvery{1000};
// A worker is free for a blink between two tasks. To tell of that, and that it is over, costs two stanzas a task, which was a third of what a server did for
// thousands of workers with tasks of two seconds. The manager goes by what it gave out, never by this.
constexpr std::chrono::milliseconds kShowFreeAfter{500};
constexpr std::chrono::milliseconds kRetryMin{500}, kRetryMax{15000};  // after a report or lease that failed; doubling
constexpr std::chrono::milliseconds kLeaseMin{100}, kLeaseMax{24 * 3600 * 1000};  // a hello's lease is brought into this range

class Agent {
 public:
  explicit Agent(Limits limits);

  /// Applies one event that happened at `now`; returns what the shell must do, in order. Deterministic.
  std::vector<Action> step(Instant now, Event event);
  /// When to tell Tick at the latest, if nothing else happens before.
  std::optional<Instant> wake_at() const;

  Availability state() const;
  std::string status() const;  // for people: "busy: 2 of 2 slots"
  int slots_used() const { return limits_.slots - packing_.slots_free(); }
  std::size_t waiting() const { return waiting_count_; }
  std::size_t running() const { return running_count_; }
  std::size_t owed() const { return held_.size() - waiting_count_ - running_count_; }
  std::size_t owed_bytes() const { return owed_bytes_; }
  bool greeted() const { return greeted_; }
  /// What the answer to a hello would be now.
  AnswerHello hello() const;
  Epoch epoch() const { return obeyed_; }          // the highest obeyed, also in earlier lives; 0: none
  JobId jobs_seen() const { return jobs_seen_; }  // the highest that came, also in earlier lives

  /// Names the first broken invariant, or nothing. Tests ask after every step.
  std::optional<std::string> broken_invariant() const;

 private:
  enum class Phase : std::uint8_t { waiting, running, queued, sent };  // the last two: owed, not yet or already in a report
  struct Entry {
    TaskId task;
    Phase phase = Phase::waiting;
    int slot = -1;
    Assignment assignment;                   // while waiting
    std::shared_ptr<const Outcome> outcome;  // while owed; null: handed back
    bool kept = false;                       // the shell was told to keep that outcome
    bool quick = false;                      // a call that took no time: it never is
    bool recalled = false;                   // it was lined up once, for too long: not again
    bool alone = false;                      // refused in company: from now on it travels by itself and harms no other
    int failures = 0;                        // weight of its own refusals and resends; at kFailuresMax it is given up
    unsigned generation = 0;                 // of its pieces; grows when they start again
    std::size_t cost() const;                // bytes it adds to a report when it goes whole
    bool out_in_pieces() const;
    bool err_in_pieces() const;
    bool whole() const { return !out_in_pieces() && !err_in_pieces(); }
  };
  using Table = std::map<AttemptId, Entry>;  // ordered: hello and leases name them in this order
  struct Service {
    double call_us = -1;  // what one takes, a running mean; below 0: not known
    int ahead() const { return call_us < 0 ? 1 : static_cast<int>(std::clamp<double>(static_cast<double>(kAheadTime.count()) / std::max(call_us, 1.0), 1, kAheadMax)); }
  };
  struct Slot {
    std::optional<AttemptId> attempt;  // a process
    int calls = 0;                     // of the service below; never both
    Service* service = nullptr;
    Instant answered{};                // or when the first of these calls was made
    bool stopping = false;
    Needs needs;
    Granted granted;
    std::uint64_t began = 0;  // counts starts: the highest is the youngest
    bool paused = false, handing_back = false;
    std::optional<AttemptId> next;  // lined up behind the process
    Assignment next_assignment;     // should it be recalled
    Instant lined_up{};
    bool recalling = false, next_stopped = false;  // the second: somebody asked that it stops
    bool busy() const { return attempt || calls > 0; }
  };
  struct Large {  // a result that travels in pieces; the first in large_ is on its way
    AttemptId attempt;
    std::size_t out_at = 0, err_at = 0;
  };
  struct Flight {
    std::vector<AttemptId> whole;
    std::optional<AttemptId> large;
    unsigned generation = 0;
    bool large_ended = false;  // the report also carried its result
  };

  void on(Restored& event);
  void on(Greeted& event);
  void on(Assigned& event);
  void on(StopAsked& event);
  void on(Finished& event);
  void on(Recalled& event);
  void on(CallsEnded& event);
  void on(ReportTaken& event);
  void on(ReportFailed& event);
  void on(LeaseTaken& event);
  void on(LeaseFailed& event);
  void on(ManagerGone&);
  void on(Drain&);
  void on(Leave& event);
  void on(DiskRefuses& event);
  void on(Pause&);
  void on(Resume&);
  void on(Allowance& event);
  void on(Tick&) {}

  static std::size_t kept_bytes(const Outcome* outcome);  // what counts as owed for it
  static Duration pause_after(int failures) { return std::min<Duration>(kRetryMax, Duration(kRetryMin) * (1 << std::min(failures, 5))); }
  void owe(Table::iterator entry, std::shared_ptr<const Outcome> outcome);
  void keep(Table::iterator entry);
  void queue(Table::iterator entry);
  void forget(Table::iterator entry);
  void count_failure(Table::iterator entry, int weight, const std::string& why);
  void send_again(const Flight& flight, bool refused, const std::string& why);
  void hand_back_waiting();
  void hand_back_calls();
  int slot_behind_calls(const Assignment& assignment);
  int slot_to_line_up(const Assignment& assignment) const;
  void promote(int slot);
  void recall_some();
  void free(int slot);
  void obey_owner();
  void start_waiting();
  void report();
  bool fill_report(SendReport& report, Flight& flight);
  Instant lease_at() const;
  void renew_leases();
  void show();
  bool has_room(const Needs& needs) const { return needs.cpus <= allowed_.offered - slots_used() && packing_.fits(needs); }
  bool shuts_out() const { return paused_ || allowed_.offered == 0; }
  std::string rule() const { return paused_ ? "paused by its owner" : allowed_.rule.empty() ? disk_trouble_ : allowed_.rule; }
  bool shown_is_true() const { return state() == shown_ && rule() == shown_rule_; }
  bool blocked() const { return owed_bytes_ >= limits_.owed_bytes_max; }
  bool gathering() const;
  bool something_queued() const { return !whole_.empty() || !large_.empty(); }
  std::optional<Instant> hand_back_at() const;
  std::optional<Instant> show_at() const;
  std::vector<Held> all_held() const;

  const Limits limits_;
  Instant now_{};
  std::vector<Action> actions_;

  Epoch obeyed_{};
  JobId jobs_seen_{};
  std::size_t restored_ = 0;  // results of earlier lives, which may be more than held_max

  std::optional<Epoch> epoch_;  // of the last hello
  bool greeted_ = false;        // by a manager that is still there
  Duration lease_{};
  Instant lease_due_{};  // while something is held
  bool lease_now_ = false;
  std::uint64_t last_lease_ = 0, lease_before_hello_ = 0;  // those up to the second say nothing about the manager that greeted last
  std::optional<Instant> lease_again_;                     // the last one failed
  int lease_failures_ = 0;                                 // in a row

  Table held_;
  std::vector<Slot> slots_;
  std::set<int> idle_;  // runners; at least as many as slots are free
  std::map<std::string, Service, std::less<>> services_;  // by name; never shrinks, a worker offers few
  int next_call_ = 0;                                     // the slot that is looked at first for the next call
  int queues_ = 0;                                        // slots with more than one call
  std::set<int> lines_;                                   // slots with something lined up
  double process_us_ = -1;                                // what a process takes, a running mean; below 0: not known
  Packing packing_;
  std::deque<AttemptId> waiting_;  // in order of arrival; may name some that wait no more
  std::size_t waiting_count_ = 0, running_count_ = 0;
  Instant moved_at_{};             // the last start or end, or when something began to wait

  std::deque<AttemptId> whole_;  // results and returns to report, each in one stanza; may name some that are gone
  std::deque<Large> large_;
  std::size_t whole_bytes_ = 0;  // of those in whole_ that are queued
  std::size_t owed_bytes_ = 0;
  std::map<std::uint64_t, Flight> flights_;
  std::uint64_t last_report_ = 0;
  Instant gather_until_{};
  Instant retry_at_{};
  int retries_ = 0;

  bool draining_ = false, paused_ = false, emptied_ = false;
  bool leaving_ = false, let_end_ = false;
  std::string disk_trouble_;
  Allowance allowed_;
  std::uint64_t starts_ = 0;
  bool some_paused_ = false;
  std::string shown_rule_;
  Availability shown_ = Availability::free;
  std::optional<Instant> shown_at_;
  std::optional<Instant> free_since_ = Instant{};  // nothing: it is not free
};

}  // namespace souk::worker
