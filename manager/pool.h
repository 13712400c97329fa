// The workers in the market: what they offer, what they were greeted with, what is on its way to and from them.
// Turns stanzas into events of the scheduler and its assignments into stanzas.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "protocol/grid.pb.h"
#include "manager/book.h"
#include "manager/claims.h"
#include "manager/event.h"
#include "manager/limits.h"
#include "manager/marketplace.h"
#include "manager/returning.h"
#include "protocol/offer.h"
#include "protocol/sparing.h"
#include "protocol/xmpp_link.h"

namespace souk {

constexpr std::size_t kPiecesMax = 64u << 20;     // bytes of unfinished streams kept per worker; beyond: they start again
constexpr std::size_t kGreetingsMax = 64;         // workers that are being greeted at a time, but for those that owe an answer for over a second; the others wait for their turn
constexpr std::chrono::seconds kPiecesLast{60};   // without another piece; then the stream starts again
constexpr std::size_t kQueueHigh = 16u << 20;     // bytes waiting for the server to read; above it nothing is given out and no large command sent
constexpr std::uint32_t kNoiseMax = 100;          // entries of the log in a minute, of what a worker says and does not count: one report may name ten thousand
constexpr std::size_t kPeersMax = 50000;          // occupants of the room that are looked at
constexpr std::size_t kPastMax = 10000;           // workers remembered that left
constexpr std::size_t kAssignmentsMax = 1024;     // attempts in one stanza
// Where tasks take so long, what a worker gets next may wait for the answer to its report, and leave in that: two stanzas a task instead of four. It is then on its
// way a commit later, which is little beside the task, and leaves alone if the disk takes longer than this.
constexpr std::chrono::milliseconds kTogetherFrom{200}, kTogetherMax{50};
constexpr std::size_t kCommandInline = 16 << 10;  // larger commands travel ahead, in parts, once per worker, job and group

class Pool {
 public:
  struct Member {
    WorkerId id;
    std::string nick, jid;
    Offer offer;
    std::uint64_t since_ms = 0;
    std::string rule{};          // of its owner, that holds it back now; empty: none
    std::uint64_t until_ms = 0;  // when its owner wants it back; 0: not known
  };
  /// What a worker said that has obeyed a later epoch than ours.
  struct Stale {
    std::string jid, nick;
    Epoch epoch;
    JobId jobs;
  };
  struct Finished {
    WorkerId worker;
    Held what;
    Outcome outcome;
  };

  Pool(boost::asio::io_context& loop, XmppLink& link, JobBook& book, Epoch epoch, ClaimsKey claims_key, Duration lease, std::function<bool(const std::string& jid)> may_work, std::uint64_t outputs_max);
  void set_me(std::string me) { me_ = std::move(me); }

  // From the marketplace.
  void present(const Occupant& occupant);
  /// One that comes in says what a hello asks for. True: it is in the grid, and `answer` got our hello; false: tell present() of it.
  bool hello(const Occupant& occupant, const gloox::Tag& said, gloox::Tag& answer);
  void gone(const std::string& jid);
  /// An admin of the grid wants that worker to get nothing more, until it is said otherwise or this life ends; what it has it finishes.
  void drain(const std::string& jid, bool drained);

  // To the workers; what is asked for within one turn of the loop leaves together.
  /// run: which run of the task it is, from 1.
  void assign(WorkerId worker, TaskId task, AttemptId attempt, unsigned run);
  void stop(WorkerId worker, const Held& what);
  /// A result of that worker's does not count: the log has it, if there were not too many lately.
  void dropped(WorkerId worker, const Held& what, std::string_view why);

  /// The market is out of reach: nobody is given anything until greeted again.
  void closed();
  /// Once a second: greets again whom it could not greet.
  void tick();
  /// Nobody in the market waits for a first answer to our questions, and nobody is awaited.
  bool settled() const;
  /// This one was at work when we last knew, and may come back with what it runs; its next life will do as well.
  void await(const std::string& jid) { awaited_.lost(jid); }
  void await_nobody() { awaited_ = {}; }
  /// The market is open: until when those who are not back are waited for; nothing: nobody is.
  void opened(Instant now) { awaited_.opened(now); }
  std::optional<Instant> awaits_until() const { return awaited_.due(); }
  /// Who is in which group, for workers that take tasks of groups.
  void set_groups(Groups groups) { groups_ = std::move(groups); }
  /// Others may work than before: who may not any more is given nothing and listened to no longer, and who may now is greeted.
  void recheck();
  /// From now on nobody is greeted, given anything or listened to.
  void fence();
  std::function<void(const Stale&)> on_stale = [](const Stale&) {};
  std::function<void(const std::string& jid, const std::string& nick, JobId)> on_job_seen = [](const std::string&, const std::string&, JobId) {};  // the highest number that a worker ever was given
  /// Somebody answered, or did not in time.
  std::function<void()> on_answered = [] {};

  /// Every event but results.
  std::function<void(const Event&)> tell = [](const Event&) {};
  std::function<void(Finished)> finished = [](Finished) {};
  /// Calls back once all that was said before is on disk.
  std::function<void(std::function<void()>)> commit = [](std::function<void()> then) { then(); };

  /// Whether that account worked here when the key of claims began, or before.
  std::function<bool(const std::string& account)> from_before = [](const std::string&) { return false; };

  /// So much waits for the disk that results are better kept where they are.
  std::function<bool()> crowded = [] { return false; };

  const Member* member(WorkerId worker) const;
  const std::map<WorkerId, Member>& members() const { return members_; }
  /// The nick a worker has or had, and its host's name, for people.
  std::string nick(WorkerId worker) const;
  std::string host(WorkerId worker) const;
  /// The full JID of who is in the market under that nick, whether it is at work or not; empty: nobody.
  std::string jid_of(const std::string& nick) const;
  /// The full JID of a worker that is or was here; empty: never.
  std::string jid(WorkerId worker) const;

 private:
  struct Pieces {
    std::string out, err;
    std::uint64_t stream_max = 0;  // of each of them; room for both is kept
    std::chrono::steady_clock::time_point last{};
  };
  struct Peer {  // one full JID, worker or not
    Occupant occupant;
    WorkerId id;
    bool joined = false, asking = false, queued = false;  // asking: a question of ours is on its way; queued: it waits for its turn
    bool cut = false;   // our link was lost since it was greeted: nothing that we gave it can still be on its way
    bool owed = false;  // a greeting, of one that may be a worker; tried again by tick()
    WorkerState said = WorkerState::free;  // by itself, last
    int failures = 0;
    std::chrono::steady_clock::time_point again{};
    struct Given {
      TaskId task;
      AttemptId attempt;
      unsigned run;
    };
    std::vector<Given> to_assign;
    std::uint64_t answering = 0;  // the report whose answer what is to assign waits for; 0: none
    std::vector<Held> to_stop;  // as the worker knows them
    std::set<std::pair<JobId, std::uint32_t>> has_command;  // large ones: job and group
    std::map<AttemptId, Pieces> pieces;
    std::size_t pieces_bytes = 0;
    Sparing noise{kNoiseMax};  // what it says and does not count, in the log
    unsigned waiting = 0;              // its stanzas in turns_
  };

  struct Debt {
    std::chrono::nanoseconds owed{0};  // our time that its greetings, reports and leases took, less what passed since
    std::chrono::steady_clock::time_point at{};
    void pay(std::chrono::steady_clock::time_point now);
  };

  std::chrono::nanoseconds owed_by(const std::string& jid);
  void took(const std::string& jid, std::chrono::steady_clock::time_point begin);
  void meet(const std::string& jid);
  void ask(Peer& peer, bool asking);
  void next();
  void learn(const std::string& jid);
  void greet(const std::string& jid, const Offer& offer);
  wire::Hello greeting() const;
  void joins(const std::string& jid, const Offer& offer, const wire::HelloAnswer& said);
  void later(const std::string& jid, const std::string& why);
  void no_worker(const std::string& jid);
  void is_back(const std::string& jid);
  void bounced(const std::string& jid);
  void dismiss(const std::string& jid);
  void flush_soon(WorkerId worker);
  void flush(Peer& peer);
  std::vector<AttemptId> take_given(Peer& peer, wire::Assign& assign);
  void taken(const std::string& jid, WorkerId worker, const std::vector<AttemptId>& attempts, const wire::AssignAnswer& answer);
  void send_answer(const std::string& jid, std::uint64_t report, Stanza& reply, wire::ReportAnswer& answer);
  void answer_in_time(const std::string& jid, std::uint64_t report);
  void answer_late();
  std::vector<std::string> groups_told(const JobEntry& entry, const std::vector<Who>& accept) const;
  void send_command(Peer& peer, JobId job, std::uint32_t group, const wire::Command& command);
  void refused(WorkerId worker, const std::vector<AttemptId>& attempts);
  std::optional<Held> proven(const Peer& peer, const Held& said);
  std::vector<Held> believed(Peer& peer, const google::protobuf::RepeatedPtrField<wire::Attempt>& said);
  void hear(const gloox::Tag& iq);
  void hear_soon();
  void take(const gloox::Tag& iq);
  void on_report(const gloox::Tag& iq, const gloox::Tag& payload);
  void on_lease(const gloox::Tag& iq, const gloox::Tag& payload);
  std::string take_pieces(Peer& peer, const wire::Report& report, std::set<AttemptId>& broken);
  bool room_for_pieces(Peer& peer, const wire::Report& report);
  void drop_pieces(Peer& peer, std::map<AttemptId, Pieces>::iterator at);
  void flush_dirty();
  void forget_past();
  Peer* worker_of(const gloox::Tag& iq, bool must_be_joined = true);
  Peer* peer(WorkerId worker);
  /// What it says of itself, or draining if an admin wants that.
  WorkerState state_for(const std::string& jid, WorkerState said) const { return said == WorkerState::paused || !retired_.contains(jid) ? said : WorkerState::draining; }
  Stanza iq_to(const Peer& peer) const;

  boost::asio::io_context& loop_;
  XmppLink& link_;
  JobBook& book_;
  Epoch epoch_;
  Claims claims_;
  Duration lease_;
  const std::function<bool(const std::string& jid)> may_work_;
  Groups groups_;
  std::string me_;
  std::map<std::string, Peer> peers_;            // by real JID
  std::map<std::string, Debt> debts_;            // the same; who leaves and comes back still owes
  std::map<std::string, std::chrono::steady_clock::time_point> left_;  // workers that left a moment ago, and when
  Returning awaited_;
  std::set<std::string> retired_;
  std::map<std::string, WorkerId> ids_;          // real JID -> id, of who is here and the last that left
  WorkerId last_id_;
  std::deque<std::pair<WorkerId, std::string>> past_;  // who left, in that order; some are back
  std::map<WorkerId, std::string> jids_, nicks_, hosts_;
  std::map<WorkerId, Member> members_;
  std::map<std::string, std::optional<Offer>> offers_;  // by caps hash; nothing: no worker
  Space outputs_;  // room kept for unfinished streams
  std::set<WorkerId> dirty_;
  bool posted_ = false, fenced_ = false;
  Sparing noise_{kNoiseMax};  // of workers that are gone
  Turns<std::shared_ptr<const gloox::Tag>> turns_;  // reports and leases of workers that say much
  bool hearing_ = false;
  std::deque<std::string> to_greet_;  // may name some that went
  std::size_t asking_ = 0, asking_max_ = kGreetingsMax;
  boost::asio::steady_timer drained_;  // until the server has read some of what waits for it
  std::uint64_t reports_ = 0;
  struct Together {
    std::chrono::steady_clock::time_point until;
    std::string jid;
    std::uint64_t report;
  };
  std::deque<Together> together_;  // who waits for the answer to a report, in the order of their time
  boost::asio::steady_timer together_late_;
  std::vector<Registration> registrations_;
};

}  // namespace souk
