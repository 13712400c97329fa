// The worker's place in the marketplace: a multi-user chat room (XEP-0045) that the manager opens and the worker joins and stays in.
//
//   outside ──enter──► joining ──self presence──► inside ──kicked, room ended, self-ping says so──► outside, and again
//                        │  ▲
//                        │  └── after a pause, under another nick if that was the trouble
//                        └── created it by accident (201) ──► undoing: destroyed, for only the manager makes the market
#pragma once
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <optional>
#include <random>
#include <string>

#include "protocol/disco.h"
#include "protocol/result.h"
#include "protocol/xmpp_link.h"
#include "worker/agent.h"

namespace souk::worker {

class Room {
 public:
  struct Place {
    std::string room;     // bare JID
    std::string nick;     // wished for; taken by somebody else: with a suffix
    std::string manager;  // full JID; only this occupant counts as the manager
    std::chrono::milliseconds ping_every{60'000};
  };
  /// `link` and `disco` outlive this. Everything happens on `loop`.
  Room(boost::asio::io_context& loop, XmppLink& link, Disco& disco, Place place);

  std::function<void()> on_inside = [] {};
  std::function<void(const Error& why)> on_outside = [](const Error&) {};  // and it tries again
  std::function<void()> on_manager_gone = [] {};                           // seen here before, and now no more
  /// Puts into our join what the manager would ask for, in a room that it serves itself; and what it answered to that, once we are inside.
  std::function<void(gloox::Tag& presence)> on_join = [](gloox::Tag&) {};
  std::function<void(const gloox::Tag& hello)> on_hello = [](const gloox::Tag&) {};
  std::function<void(const Error& why)> on_banned = [](const Error&) {};   // there will be no other try

  /// The link is up: joins, and again whenever it finds itself outside.
  void enter();
  /// The link is down; no on_outside for that.
  void lost();
  /// Says goodbye and stays outside.
  void leave();
  /// What others see; remembered while outside.
  void show(Availability state, std::string status);

  bool inside() const { return state_ == State::inside; }
  bool sees_manager() const { return manager_nick_.has_value(); }
  const std::string& nick() const { return nick_; }
  const std::string& name() const { return place_.room; }

 private:
  enum class State { outside, joining, inside, undoing };
  void join();
  void await_answer();
  void take(const gloox::Tag& presence);
  void take_error(const StanzaError& error, const std::string& nick);
  void take_own(const gloox::Tag& presence, const gloox::Tag& x);
  void take_own_end(const gloox::Tag& x);
  void undo();
  void ping();
  void again(const Error& why, std::chrono::milliseconds pause);
  void again_in(std::chrono::milliseconds pause);
  std::chrono::milliseconds soon();
  void nick_taken(const std::string& by);
  Stanza presence_here(const char* type = nullptr) const;

  XmppLink& link_;
  Disco& disco_;
  const Place place_;
  const bool served_;  // the room is on the manager's own domain, for which nobody else can speak
  State state_ = State::outside;
  bool wanted_ = false;
  std::string nick_, wish_;
  int suffix_ = 1, tries_ = 0, kicks_ = 0, unanswered_ = 0;
  std::chrono::steady_clock::time_point heard_at_{};  // from the room, while joining
  unsigned stay_ = 0;  // counts the times we came in, so that an answer to an earlier ping is known as such
  std::optional<std::string> manager_nick_;
  Availability shown_ = Availability::free;
  std::string status_;
  std::string trouble_;  // told last, so that one and the same is not told at every try
  std::chrono::steady_clock::time_point told_at_{};
  boost::asio::steady_timer retry_, ping_timer_;
  std::minstd_rand dice_{std::random_device{}()};
  Registration registration_;
};

}  // namespace souk::worker
