// The worker on the wire: stanzas to events of the agent, its actions to stanzas.
#pragma once
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <map>
#include <string>

#include "protocol/disco.h"
#include "protocol/offer.h"
#include "protocol/profile.h"
#include "protocol/sparing.h"
#include "protocol/xmpp_link.h"
#include "worker/agent.h"
#include "worker/command_store.h"
#include "worker/remote.h"
#include "worker/room.h"
#include "worker/spool.h"

namespace souk::wire {
class Assign;
class AssignAnswer;
class JobCommand;
}

namespace souk::worker {

class Session {
 public:
  struct Setup {
    Profile profile;    // its account with the full JID wished for
    XmppLink::Limits link{.retry_max = std::chrono::seconds(8), .refused_again = true};  // of the pause: a manager waits 10 s for who was at work before it gives that to others
    std::string nick;   // in the room
    Offer offer;        // also says how many slots
    Limits limits;      // slots and capacity are taken from the offer
    std::vector<int> processors;  // that pinned attempts are bound to
    std::chrono::milliseconds ping_every{60'000};
    std::string owner;            // bare JID: whose commands it takes
    bool enters = true;           // the market, as soon as it is logged in; false: when enter() says so
    std::function<std::string(const Assignment&)> refuses = nullptr;  // why this worker does not run that; empty: it does
    bool state_is_copied = false;  // as far as can be seen: another worker may have the same name (Spool::Found)
  };
  /// How attempts run; all are called from the loop, and so must be what start() is given. The calls of one turn end with calls_made().
  struct Slots {
    std::function<void(int slot, Assignment assignment, Granted granted, std::function<void(Outcome)> finished)> start;
    std::function<void(int slot)> stop, pause, resume;
    std::function<void(int slot, Assignment assignment, std::function<void(Outcome)> finished, std::function<void()> recalled)> line_up;  // as Executor has it
    std::function<void(int slot)> recall;
    std::function<void(int slot, Assignment assignment)> call = nullptr;  // these four: only where the offer has services
    std::function<void(int slot, AttemptId attempt)> stop_call = nullptr, forsake_call = nullptr;
    std::function<void()> calls_made = nullptr;
  };
  /// `spool` outlives this; null: results are kept in memory only. `found` is what it held.
  Session(boost::asio::io_context& loop, Setup setup, Slots slots, Spool* spool = nullptr, Restored found = {});

  std::function<void()> on_empty = [] {};                               // after drain(): nothing is held any more; after leave(): or nobody takes it
  std::function<void(const Error& why)> on_end = [](const Error&) {};   // for good: login refused, banned, ...

  void start();
  bool up() const { return link_.up(); }
  /// Into the market, and from now on after each login.
  void enter();
  /// Leaves the room and closes the stream; `done` is called once, from the loop.
  void stop(std::function<void()> done);
  void drain() { tell(Drain{}); }
  void leave(bool let_end) { tell(Leave{let_end}); }
  void pause() { tell(Pause{}); }
  void resume() { tell(Resume{}); }
  void allow(Allowance allowance) { tell(std::move(allowance)); }
  void calls_ended(CallsEnded event);

  Remote& remote() { return remote_; }
  const std::string& jid() const { return link_.jid(); }
  const Agent& agent() const { return agent_; }
  const Room& room() const { return room_; }

 private:
  void take(const gloox::Tag& iq, const gloox::Tag& payload);
  void take_hello(const gloox::Tag& iq, const gloox::Tag& payload);
  void say_hello(gloox::Tag& join);
  void take_hello_here(const gloox::Tag& payload);
  void take_assign(const gloox::Tag& iq, const gloox::Tag& payload);
  Assigned read(wire::Assign& assign);
  void take_more(wire::Assign& assign);
  void refuse_more(wire::AssignAnswer answer);
  void take_command(const gloox::Tag& iq, const gloox::Tag& payload);
  std::string why_foreign(const wire::JobCommand& command) const;
  void take_stop(const gloox::Tag& iq, const gloox::Tag& payload);
  void refuse(const gloox::Tag& iq, const char* type, const char* condition, const std::string& text);

  void tell(Event event);
  void perform(AnswerHello& action);
  void perform(AnswerAssign& action);
  void perform(RefuseEpoch& action);
  void perform(RefuseStale& action);
  void perform(Start& action);
  void perform(LineUp& action);
  void perform(Recall& action);
  void perform(Call& action);
  void perform(StopCall& action);
  void perform(ForsakeCall& action);
  void perform(StopSlot& action);
  void perform(PauseSlot& action);
  void perform(ResumeSlot& action);
  void perform(SendReport& action);
  void perform(SendLease& action);
  void perform(Show& action);
  void perform(GiveUp& action);
  void perform(Emptied& action);
  void perform(Keep& action);
  void perform(Forget& action);
  void perform(Remember& action);
  std::function<void(Outcome)> when_ended(int slot, const Held& held);
  void ended(int slot, Outcome outcome);
  void ended_late(int slot);
  void give_way();
  void wake_in_time();
  void expect_hello();
  Instant now() const;

  boost::asio::io_context& loop_;
  const std::string manager_;
  const std::vector<Who> accept_;  // empty: anyone's tasks
  const Slots slots_;
  const int slot_count_;
  const std::string nick_;
  Spool* const spool_;
  const std::function<std::string(const Assignment&)> refuses_;
  Sparing strangers_;  // what they are refused
  Agent agent_;
  CommandStore commands_;
  XmppLink link_;
  Disco disco_;
  Remote remote_;
  Room room_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  boost::asio::steady_timer wake_, hello_late_;
  struct Late {
    boost::asio::steady_timer timer;
    Outcome outcome;
  };
  std::map<int, Late> late_;  // by slot: ends that the agent does not know yet
  std::optional<Instant> wakes_at_;
  std::deque<Event> events_;  // told while one is being handled
  bool enters_, handling_ = false, stopped_ = false, calls_made_ = false;
  const gloox::Tag* asked_ = nullptr;  // the iq that the event being told came from, until it is answered
  std::chrono::milliseconds lease_{30'000};
  std::string trouble_, said_;  // said_: on joining
  bool state_is_copied_;
  int taken_over_ = 0;  // times in a row that another session took our name
  std::chrono::steady_clock::time_point taken_over_at_{};
  std::vector<Registration> registrations_;
};

}  // namespace souk::worker
