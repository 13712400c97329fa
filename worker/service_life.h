// One service in one slot: a process that is started on demand, answers calls, is kept warm, and is started again when it dies. Pure: no pipe, no clock.
//
//   absent ──call──► starting ──first answer──► ready ──idle──► ending ──► absent
//     ▲                 │  ▲                      │ hung, malformed, a call over its time: killed
//     │               died │ pause over           ▼
//     └── nothing waits ── resting ◄───────────── ending / died
//
// Calls are written ahead, many at a time, and answered in any order; a process that goes on is taken to be at the oldest unanswered one, the head. It alone
// pays when the process dies; those behind it go to the next process. A service that dies again and again without an answer is started again after pauses only,
// and from the third start in a row that did not come to its first answer on, what waits for it, or is called while it rests, ends as not started; the first
// call after each rest tries once more.
#pragma once
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "protocol/ids.h"

namespace souk::worker {

constexpr std::chrono::milliseconds kServiceStartMax{60'000};   // until the first ping is answered: models take a while to load
constexpr std::chrono::milliseconds kServicePingEvery{30'000};  // while it has nothing to do
constexpr std::chrono::milliseconds kServicePingWithin{10'000};
constexpr std::chrono::milliseconds kServiceIdleMax{300'000};   // without a call: it is stopped
constexpr std::chrono::milliseconds kServiceLeaveMax{2'000};    // after its stdin was closed
constexpr std::chrono::milliseconds kServiceRestMin{100}, kServiceRestMax{10'000};
constexpr int kServiceStartsMax = 3;

class ServiceLife {
 public:
  /// Numbers of calls go up by one, from 1, over all of this object's life.
  struct Call {
    std::uint64_t call = 0;
    Duration time_limit{0}, grace{0};  // 0: none; how long a head that nobody wants any more may still take
  };
  // ---- Events
  struct Called { std::vector<Call> calls; };
  struct Answered { std::vector<std::uint64_t> ids; };  // as they came
  struct Spoiled { std::string why; };                  // it wrote what is no answer, or closed its stdout
  struct Died { std::string how; };                     // it is gone, with all it had; also when it could not be started at all
  struct Unwanted { std::uint64_t call; };              // it was stopped. Its end is told when nothing of it runs any more
  struct Forsaken { std::uint64_t call; };              // somebody else does it. Its end is not told
  struct Paused {};                                     // the process was stopped for now: its time limits stand still
  struct Resumed {};
  struct Tick {};
  using Event = std::variant<Called, Answered, Spoiled, Died, Unwanted, Forsaken, Paused, Resumed, Tick>;
  // ---- Actions
  struct Start {};
  struct Ping {};
  struct Send { std::uint64_t call, id; };
  struct Hang {};  // close its stdin: it may end by itself
  struct Kill {};
  enum class End : std::uint8_t { answered, lost, broken, timed_out, canceled, not_started };
  struct Over { std::uint64_t call; End end; Duration wall; std::string why; std::size_t answer = 0; };  // answered: by which of `ids`
  struct Note { bool bad; std::string text; };  // for the log
  using Action = std::variant<Start, Ping, Send, Hang, Kill, Over, Note>;

  explicit ServiceLife(std::string name) : name_(std::move(name)) {}
  std::vector<Action> step(Instant now, Event event);
  std::optional<Instant> wake_at() const;
  /// Calls that have not ended.
  std::size_t calls() const { return sent_open_ + queued_.size(); }
  bool runs() const { return state_ == State::starting || state_ == State::ready || state_ == State::ending; }
  std::optional<std::string> broken_invariant() const;

 private:
  enum class State : std::uint8_t { absent, starting, ready, ending, resting };
  enum class Doom : std::uint8_t { none, done, unwanted, dropped, late, broken };  // done, dropped: nothing is to be told any more
  struct Sent {
    Call call;
    Doom doom = Doom::none;
    bool open() const { return doom != Doom::done && doom != Doom::dropped; }
  };

  void on(Called& event);
  void on(Answered& event);
  void on(Spoiled& event);
  void on(Died& event);
  void on(Unwanted& event);
  void on(Forsaken& event);
  void on(Paused&);
  void on(Resumed&);
  void on(Tick&);
  void start();
  void send_queued();
  void pop_done();
  void kill(std::string why);
  void spoil(std::string why);
  void not_started();
  void over(const Call& call, End end, Duration wall, std::string why = {}, std::size_t answer = 0);
  std::deque<Sent>::iterator head();
  std::optional<Instant> head_due() const;
  void act_in_time();

  const std::string name_;
  State state_ = State::absent;
  Instant now_{};
  std::vector<Action> actions_;
  std::deque<Call> queued_;      // for the next process, or for this one when it is ready
  std::deque<Sent> sent_;        // in the order they were written; the front is the head, unless it is done
  std::size_t sent_open_ = 0;
  std::uint64_t front_id_ = 1;   // of sent_.front(), in this life of the process
  Instant head_since_{};
  std::optional<Instant> unwanted_due_;  // of the head
  Instant since_{};              // of the state, or of the last call or sign of life
  Instant idle_since_{};
  bool pinged_ = false, came_up_ = false, answered_ = false, hung_ = false;  // in this life: the first ping was answered; a call was; its stdin was closed
  std::string killed_for_, not_started_for_;
  int failures_ = 0;             // lives in a row without the answer to a call
  int bad_starts_ = 0;           // starts in a row without a first answer
  Instant rest_until_{};
  std::optional<Instant> paused_at_;
};

}  // namespace souk::worker
