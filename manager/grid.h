// The manager itself: the scheduler's shell. Events in from the pool and the users, actions out to the pool, the journal and whoever watches.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <variant>

#include "protocol/grid.pb.h"
#include "manager/book.h"
#include "manager/hearsay.h"
#include "manager/journal.h"
#include "manager/jury.h"
#include "manager/lacks.h"
#include "manager/limits.h"
#include "manager/audit.h"
#include "manager/policy.h"
#include "manager/pool.h"
#include "manager/roster.h"
#include "manager/scheduler.h"
#include "manager/watch.h"
#include "protocol/xmpp_link.h"

namespace souk {

/// Who asks.
struct Asker {
  std::string jid;     // full, real
  std::string owner;   // bare
  bool admin = false;  // sees and cancels everybody's jobs
  bool sees = false;   // how everybody's jobs get on, and nothing of what they wrote
};
/// A no, with its XMPP condition (RFC 6120 §8.3.3) and words for people.
struct Refusal {
  std::string condition, text;
};
template <class T>
using Reply = std::function<void(std::variant<T, Refusal>)>;

class Grid {
 public:
  Grid(boost::asio::io_context& loop, XmppLink& link, std::unique_ptr<Journal> journal, Journal::Restored restored, Scheduler::Rules rules, const Rulebook& rulebook, Audit& audit, Limits limits);
  ~Grid();
  void set_me(std::string me);
  /// Another policy is in the rulebook.
  void policy_changed();
  /// Of the market, for its next life; 0: forget it. always: also if this one was stopped, whose store stays as it is but for that.
  void keep_fact(const std::string& fact, std::uint64_t value, bool always = false);
  /// How long ended jobs are kept; 0: for ever. `shown`: as its user wrote it.
  void set_keep(std::chrono::milliseconds keep, std::string shown) { keep_ = keep, keep_shown_ = std::move(shown); }
  Pool& pool() { return pool_; }
  /// The link is down: workers go on, nothing is given out, and no lease ends.
  void market_closed();
  /// The room is ours; a hosted one has told who is in it. Tasks are given out when all in it were greeted, or had kGreetMax for it, and all who were at work
  /// before are back, or had their time (Returning).
  void market_opened();
  /// We are about to end in good order: only workers that are there now are to be awaited by the next life.
  void leaving() { if (linked_) keep_roster(Duration(0)); }

  // What users can do; each answers exactly once, maybe later.
  struct Submission {
    wire::Job job;
    std::string key;
    bool watch = false, dry_run = false;
    std::shared_ptr<PackedItems> items{};  // of a large job, packed elsewhere; whoever did that frees what they were made of
  };
  void submit(const Asker& asker, Submission submission, Reply<wire::SubmitAnswer> reply);
  void status(const Asker& asker, const wire::StatusRequest& request, Reply<wire::StatusAnswer> reply);
  void results(const Asker& asker, const wire::ResultsRequest& request, Reply<wire::ResultsAnswer> reply);
  void cancel(const Asker& asker, const wire::CancelRequest& request, Reply<wire::CancelAnswer> reply);
  void hold(const Asker& asker, const wire::JobsRequest& request, Reply<wire::JobsAnswer> reply) { set_held(asker, request, true, std::move(reply)); }
  void release(const Asker& asker, const wire::JobsRequest& request, Reply<wire::JobsAnswer> reply) { set_held(asker, request, false, std::move(reply)); }
  void rerun(const Asker& asker, const wire::RerunRequest& request, Reply<wire::SubmitAnswer> reply);
  void why(const Asker& asker, const wire::WhyRequest& request, Reply<wire::WhyAnswer> reply);
  void workers(const Asker& asker, Reply<wire::WorkersAnswer> reply);
  void ban(const Asker& asker, const wire::BanRequest& request, Reply<wire::BanAnswer> reply);
  /// Set by who has the room: Marketplace::ban and bans.
  std::function<void(const std::string& by, const std::string& jid, const std::string& reason, bool lift, std::function<void(Result<Done>)> then)> ban_account;
  std::function<void(std::function<void(Result<std::vector<std::string>>)> then)> banned_accounts;
  /// That account was banned just now, by whichever way: what it said counts no more where it is not decided.
  void banned(const std::string& jid);
  /// Told beside.
  std::function<void(const std::string& jid)> on_banned = [](const std::string&) {};
  /// Whether jobs are kept of that account.
  bool owns_jobs(const std::string& jid) const;

  /// The store was put back from a copy, and this life may go on above whatever epoch workers have obeyed. It takes jobs once everybody was asked.
  void set_put_back() { put_back_ = true; }
  /// A worker has obeyed a later epoch. Nothing is given out or taken any more in this life, and its store stays as it is.
  std::function<void(const std::string& why)> on_fenced = [](const std::string&) {};
  /// After set_put_back(): the store now begins its next epoch above the one that was named; start again.
  std::function<void()> on_leap = [] {};  // also where it was fenced by what does not count any more
  /// A worker joined that had not been here in this life.
  std::function<void()> on_worker = [] {};
  /// Why nothing new is accepted, for people; told again with nothing when it is over.
  std::function<void(const std::string& why)> on_trouble = [](const std::string&) {};
  /// All that was taken so far is on disk.
  void commit(std::function<void()> then) { journal_->commit(std::move(then)); }

 private:
  void handle(const Event& event, Pool::Finished* finished = nullptr);
  void perform(const Action& action, Pool::Finished* finished);
  void job_ended(JobId job, TaskState state, const std::string& why);
  void tell_owner(const JobEntry& entry, bool watched);
  void tell_untold();
  void forget_old();
  void watch_trouble();
  std::string trouble() const;
  Refusal no_such(std::uint64_t job) const;
  /// A chat message from the manager's bare JID; kept for later while there is no link.
  void tell_person(const std::string& jid, const std::string& id, const std::string& text);
  void set_aside(const SetAside& action);
  void finished(Pool::Finished finished);
  void perform(Jury::Actions said, Pool::Finished* finished);
  void caught(const Jury::Caught& caught);
  void open_jury(JobId job, const wire::Job& spec);
  void given_up(const GiveUp& action);
  void remember(WorkerId worker, AttemptRow row);
  void stale(const Pool::Stale& said);
  void fence(std::string why);
  void job_seen(const std::string& jid, const std::string& nick, JobId job);
  void worked(const std::string& owner);
  void hear(const std::string& jid, const std::string& what, Epoch epoch, JobId jobs);
  void weigh(const std::string& who);
  void keep(const Lacks::Facts& facts);
  std::optional<Refusal> sealed() const;
  std::optional<Refusal> unchangeable(const Asker& asker, const google::protobuf::RepeatedField<std::uint64_t>& jobs, const char* verb) const;
  Epoch born(JobId job) const;
  bool too_early();
  bool too_early(std::function<void()> again);
  bool wait_for_opening(std::function<void()> then);
  void set_held(const Asker& asker, const wire::JobsRequest& request, bool held, Reply<wire::JobsAnswer> reply);
  void again(const Asker& asker, const wire::RerunRequest& request, Journal::Kept kept, Reply<wire::SubmitAnswer> reply);
  void why_job_ended(const JobEntry& entry, Reply<wire::WhyAnswer> reply);
  void ban_next(const Asker& asker, const std::string& reason, bool lift, const std::shared_ptr<std::set<std::string>>& left, wire::BanAnswer answer, Reply<wire::BanAnswer> reply);
  void audit_jobs(const char* verb, const Asker& asker, const std::vector<JobId>& jobs);
  std::optional<Refusal> no_room(const std::string& owner, std::uint64_t tasks, std::uint64_t memory) const;
  std::optional<Refusal> too_fast(const std::string& owner);
  std::optional<Refusal> over_bytes(const std::string& owner, std::uint64_t more) const;
  void know(const std::string& owner);
  void count_bytes();
  void opened(JobEntry& entry, std::uint64_t memory);
  void match(const wire::Job& job, const JobSubmitted& event, bool in_full, wire::SubmitAnswer& answer);
  void wake_in_time();
  void push(const std::vector<std::string>& jids, const JobEntry& entry, const wire::TaskResult* only = nullptr);
  void touch(JobId job);
  void tick();
  void listen();
  void keep_roster(Duration patience);
  void take_early();
  void open_in_time();
  void open_when_settled();
  const JobEntry* visible(const Asker& asker, std::uint64_t job) const;
  wire::GridStatus grid_status() const;

  boost::asio::io_context& loop_;
  XmppLink& link_;
  const Rulebook& rulebook_;
  Audit& audit_;
  std::unique_ptr<Journal> journal_;
  Epoch epoch_;
  JobBook book_;
  Scheduler scheduler_;
  Jury jury_;
  std::map<std::string, Instant> told_wrong_;  // voters whose owners heard that they were, and until when they hear of no other time
  const ClaimsKey claims_key_;
  Pool pool_;
  Watches watches_;
  Limits limits_;
  Roster roster_;
  std::set<std::string> known_;  // owners whose terms the scheduler was told
  Paces paces_;
  KeptBytes kept_;
  bool counts_bytes_ = false;
  Space memory_;  // of jobs that have not ended
  std::set<JobId> reopening_;  // being read to run again
  std::string me_;
  std::uint64_t started_ms_;
  bool push_due_ = false;
  WorkerId met_;  // the last that came for the first time
  bool linked_ = false, opening_ = false, facts_due_ = false;
  Lacks lacks_;
  std::string fenced_;         // why; empty: it is not
  Hearsay hearsay_;
  std::map<std::string, Epoch> owners_;  // of workers, ever, and the life in which each was first at work; bounded
  bool put_back_ = false, asked_all_ = false;
  std::optional<Instant> early_since_;  // the first request came
  std::map<Epoch, JobId> lives_;  // and the last job number that was given before each
  std::deque<std::function<void()>> early_;  // requests that came before everybody here was asked
  bool deaf_ = false;  // to the server
  const Duration lease_;
  std::deque<Stanza> unsent_;  // messages for owners while there is no link
  std::map<JobId, wire::TaskResult> only_results_;  // of jobs of one task that have just ended, until that is on disk: they go with the news
  std::set<JobId> untold_;     // ended jobs whose owners wait to hear of it
  std::chrono::milliseconds keep_{0};
  std::string keep_shown_, trouble_;
  std::optional<Instant> wake_at_;
  Instant greet_until_{};
  boost::asio::steady_timer tick_, wake_, push_, opening_ends_;
};

}  // namespace souk
