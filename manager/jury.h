// Which results count, where a job does not believe every worker: copies that agree, records of those who gave them, known answers.
// A pure state machine beside the scheduler: it is told every result of such a job that came from whom it was asked of, and answers with what the
// scheduler is to be told. It keeps no clock and no dice: choices are drawn from a secret seed that it is given, so that nobody can foretell them.
//
//   a result ── of a known answer ──▶ right: taken ╎ wrong: caught; the task runs elsewhere
//     ├─ the first of its task, adaptive, of a voter with a record ──▶ parked ──(enough of them, or nothing else to do: one is drawn)──▶ a copy elsewhere
//     │        └──▶ the copy agrees: all that was parked before the draw is taken ╎ it does not: all that this voter has parked, of all jobs, runs elsewhere
//     └─ a vote ──▶ `agree` agree: taken ╎ `most` and they do not: the task fails ╎ else it runs elsewhere as well
//
// So nothing is committed that was not checked, by itself or by a draw it could not foresee. docs/TRUST.md tells it to users, with figures.
#pragma once
#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "manager/event.h"
#include "protocol/quorum.h"

namespace souk {

/// What is known of whoever gives results: of an owner's account, or of one worker (Quorum::of).
struct TrustRecord {
  std::uint32_t agreed = 0;  // checks in a row in which it was right
  std::uint32_t found = 0;   // how often what it said was outvoted, or not the known answer
  friend bool operator==(const TrustRecord&, const TrustRecord&) = default;
};

class Jury {
 public:
  struct Rules {
    std::array<std::uint64_t, 2> seed{};    // secret
    std::uint32_t trusted_after = 10;       // checks in a row; twice as many each time it was found
    std::uint32_t parked_min = 2, parked_max = 20;  // results on one check, by record / 5
    std::size_t waiting_max = 64;           // parked results of one voter in one job; what comes on top is voted on
    std::uint64_t bytes_max = 256u << 20;   // of results kept; above it nothing is parked, and numbers are compared as they stand
    std::size_t voters_max = 10'000;        // records kept; those that say least make room
    std::uint32_t aside_after = 3;          // times found, and its workers are set aside
    Duration aside = std::chrono::minutes(5), aside_max = std::chrono::hours(1);  // doubles each time
  };

  // ---- What it decides
  /// For the scheduler. outcome: of TaskSettled, else the one in hand is meant.
  struct Tell { Event event; std::optional<Outcome> outcome; };
  /// It said what others did not find. Its owner should know.
  struct Caught { std::string voter; WorkerId worker; TaskId task; TrustRecord record; Duration aside{0}; std::size_t taken_back = 0; };
  /// To be kept across restarts.
  struct Recorded { std::string voter; TrustRecord record; };
  using Action = std::variant<Tell, Caught, Recorded>;
  using Actions = std::vector<Action>;

  explicit Jury(Rules rules) : rules_(rules) {}
  /// Of an earlier life.
  void recall(const std::string& voter, TrustRecord record) { voters_[voter].record = record; }
  TrustRecord record(const std::string& voter) const;
  bool trusted(const std::string& voter) const;
  /// Until when its workers are given nothing.
  std::optional<Instant> aside(const std::string& voter, Instant now) const;

  void open(JobId job, Quorum quorum);
  void close(JobId job);
  /// As it is kept: what a task's results say, in as many bytes as are compared.
  struct Vote {
    AttemptId attempt;
    std::string voter, digest;
    bool succeeded = false;
  };
  /// Of an earlier life, for a job that is open here.
  void recall(TaskId task, const Vote& vote);
  const Quorum* quorum(JobId job) const;
  /// Whether how it ended is a statement about the task, and not about the worker.
  static bool says_something(const Outcome& outcome) { return outcome.cause != Cause::lost && outcome.cause != Cause::canceled; }

  struct Ballot {
    std::string voter;
    WorkerId worker;
    Held what;
  };
  /// A result that says something, of an attempt that runs, of a job that is open here. `outcome` is taken if the result is parked.
  void vote(Instant now, const Ballot& ballot, Outcome& outcome, Actions& actions);
  /// Nothing of the job runs or could start, but parked results wait: each voter's is checked now.
  void idle(JobId job, Actions& actions);
  /// Nothing counts any more that an account said, as an owner or by one of its workers, where it is not decided yet: it is banned, and has to earn its record anew.
  void discard(const std::string& account, Actions& actions);
  /// The task ended without its results: its workers were lost too often.
  void given_up(TaskId task);

  /// Results that were given for it so far and wait for others, and whether one is parked.
  struct Standing { std::size_t votes = 0; bool parked = false; };
  Standing standing(TaskId task) const;
  std::size_t parked(JobId job) const;
  std::uint64_t bytes() const { return bytes_; }
  std::optional<std::string> broken_invariant() const;

 private:
  struct Voter {
    TrustRecord record;
    Instant aside{};  // until then
  };
  struct Cast {
    Ballot ballot;
    std::string digest, out;  // out: where numbers are compared
    bool succeeded = false;
  };
  struct Parked {
    Ballot ballot;
    std::string digest;
    Outcome outcome;
  };
  struct Batch {  // of one voter in one job
    std::map<TaskNumber, Parked> waiting;
    std::optional<TaskNumber> checked;  // drawn: its copy decides about `covered`
    std::set<TaskNumber> covered;       // of `waiting`
  };
  struct Case {
    Quorum quorum;
    std::map<TaskNumber, std::vector<Cast>> votes;
    std::map<std::string, Batch> batches;
  };

  bool agree(const Quorum& quorum, const Cast& a, const Cast& b) const;
  std::vector<Cast>& add_vote(Case& of, Ballot ballot, std::string digest, const Outcome& outcome);
  void confirmed(const std::string& voter, Actions& actions);
  Voter& known(const std::string& voter, Actions& actions);
  void caught(Instant now, const Ballot& ballot, Actions& actions);
  void pass(JobId job, Case& of, const std::string& voter, const std::set<TaskNumber>& tasks, Actions& actions);
  void decided(Instant now, TaskId task, Case& of, const Cast* accepted, Actions& actions);
  void draw(JobId job, Case& of, const std::string& voter, Actions& actions);
  void enough(JobId job, Case& of, const std::string& voter, Actions& actions);
  void forget_votes(Case& of, TaskNumber task);
  std::size_t draw_after(const std::string& voter) const;
  std::uint64_t lot(JobId job, const std::string& voter);
  static std::uint64_t size_of(const Outcome& outcome) { return outcome.out.size() + outcome.err.size() + outcome.why.size() + 512; }

  Rules rules_;
  std::map<std::string, Voter> voters_;
  std::map<JobId, Case> cases_;
  std::uint64_t bytes_ = 0, draws_ = 0;
};

}  // namespace souk
