// The manager itself: the scheduler's shell. Events in from the pool and the users, actions out to the pool, the journal and whoever watches.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <variant>

#include "protocol/grid.pb.h"
#include "manager/book.h"
#include "manager/journal.h"
#include "manager/pool.h"
#include "manager/scheduler.h"
#include "manager/watch.h"
#include "protocol/xmpp_link.h"

namespace souk {

/// Who asks.
struct Asker {
  std::string jid;     // full, real
  std::string owner;   // bare
  bool admin = false;  // sees and cancels everybody's jobs
};
/// A no, with its XMPP condition (RFC 6120 §8.3.3) and words for people.
struct Refusal {
  std::string condition, text;
};
template <class T>
using Reply = std::function<void(std::variant<T, Refusal>)>;

class Grid {
 public:
  Grid(boost::asio::io_context& loop, XmppLink& link, std::unique_ptr<Journal> journal, Journal::Restored restored, Scheduler::Rules rules, AllowList workers);
  ~Grid();
  void set_me(std::string me);
  Pool& pool() { return pool_; }
  /// The link is down: workers go on, nothing is given out, and no lease ends.
  void market_closed();
  /// The room is ours and told who is in it. Tasks are given out when all of those were greeted, or after kGreetMax.
  void market_opened();

  // What users can do; each answers exactly once, maybe later.
  void submit(const Asker& asker, wire::Job job, const std::string& key, bool watch, Reply<wire::SubmitAnswer> reply);
  void status(const Asker& asker, const wire::StatusRequest& request, Reply<wire::StatusAnswer> reply);
  void results(const Asker& asker, const wire::ResultsRequest& request, Reply<wire::ResultsAnswer> reply);
  void cancel(const Asker& asker, const wire::CancelRequest& request, Reply<wire::CancelAnswer> reply);
  void workers(const Asker& asker, Reply<wire::WorkersAnswer> reply);

  /// The first worker joined.
  std::function<void()> on_worker = [] {};
  /// All that was taken so far is on disk.
  void commit(std::function<void()> then) { journal_->commit(std::move(then)); }

 private:
  void handle(const Event& event, Pool::Finished* finished = nullptr);
  void perform(const Action& action, Pool::Finished* finished);
  void job_ended(JobId job, TaskState state);
  void tell_owner(const JobEntry& entry, bool watched);
  void push(const std::vector<std::string>& jids, const JobEntry& entry);
  void touch(JobId job);
  void tick();
  void open_when_settled(bool at_once);
  JobEntry* visible(const Asker& asker, std::uint64_t job);
  wire::GridStatus grid_status() const;

  boost::asio::io_context& loop_;
  XmppLink& link_;
  std::unique_ptr<Journal> journal_;
  Epoch epoch_;
  JobBook book_;
  Scheduler scheduler_;
  Pool pool_;
  Watches watches_;
  std::string me_;
  std::uint64_t started_ms_;
  bool push_due_ = false, had_worker_ = false;
  bool linked_ = false, opening_ = false;
  std::deque<Stanza> unsent_;  // messages for owners while there is no link
  boost::asio::steady_timer tick_, push_, opening_ends_;
};

}  // namespace souk
