#include "worker/room.h"

#include <gloox/tag.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "protocol/stanza.h"

namespace souk::worker {

using namespace std::chrono_literals;

namespace {

constexpr auto kAnswerWithin = 10s;           // of the room service, to a join or an iq
constexpr auto kSoonMin = 50ms, kSoonMax = 5000ms;
constexpr int kQuickTries = 20;
constexpr auto kPatientTry = 30s;             // when only a person can change the answer
constexpr auto kKickMin = 2000ms, kKickMax = 60000ms;
constexpr auto kNewcomerGone = 300ms;         // it needs a round trip to leave a nick that it found shared
constexpr auto kTellAgain = 60s;              // the same trouble in the log
constexpr int kSuffixMax = 32;                // then a random one
constexpr std::size_t kNickMax = 128;         // bytes, of at most 1023 (RFC 7622)

bool has_status(const gloox::Tag& x, const char* code) {
  for (const gloox::Tag* status : x.findChildren("status")) {
    if (status->findAttribute("code") == code) return true;
  }
  return false;
}

const char* show_of(Availability state) {
  switch (state) {
    case Availability::free: return nullptr;
    case Availability::busy: return "dnd";
    case Availability::draining: return "xa";
    case Availability::paused: return "away";
  }
  return nullptr;
}

}  // namespace

Room::Room(boost::asio::io_context& loop, XmppLink& link, Disco& disco, Place place)
    : link_(link), disco_(disco), place_(std::move(place)), served_(domain_of(place_.room) == domain_of(place_.manager)), retry_(loop), ping_timer_(loop),
      registration_(link.on_presence([this](const gloox::Tag& presence) { take(presence); })) {
  wish_ = printable(place_.nick).substr(0, kNickMax);
  wish_.erase(std::remove_if(wish_.begin(), wish_.end(), [](unsigned char c) { return c < ' ' || c == 0x7f; }), wish_.end());
  if (wish_.empty()) wish_ = "worker";
  nick_ = wish_;
}

void Room::enter() {
  wanted_ = true;
  tries_ = stay_ == 0 ? 0 : kQuickTries + 2;  // quick ones are for grids that begin; a server that was started again has enough to do
  unanswered_ = 0;
  suffix_ = 1;
  nick_ = wish_;
  join();
}

void Room::lost() {
  state_ = State::outside;
  manager_nick_.reset();
  retry_.cancel();
  ping_timer_.cancel();
}

void Room::leave() {
  wanted_ = false;
  if (state_ != State::outside && link_.up()) link_.send(presence_here("unavailable"));
  lost();
}

void Room::show(Availability state, std::string status) {
  shown_ = state;
  status_ = std::move(status);
  if (inside()) link_.send(presence_here());
}

Stanza Room::presence_here(const char* type) const {
  auto presence = element("presence", {}, {{"to", place_.room + '/' + nick_}});
  if (type != nullptr) {
    presence->addAttribute("type", type);
    return presence;
  }
  if (const char* show = show_of(shown_)) child(*presence, "show", {}, {}, show);
  if (!status_.empty()) child(*presence, "status", {}, {}, status_);
  disco_.add_caps(*presence);
  return presence;
}

void Room::join() {
  if (!wanted_ || !link_.up()) return;
  state_ = State::joining;
  manager_nick_.reset();
  auto presence = presence_here();
  child(child(*presence, "x", ns::muc), "history", {}, {{"maxstanzas", "0"}});
  if (served_) on_join(*presence);
  link_.send(std::move(presence));
  await_answer();
}

/// A room that a thousand workers enter at once takes minutes to answer all. To ask again meanwhile would only add to its work.
void Room::await_answer() {
  heard_at_ = std::chrono::steady_clock::now();
  retry_.expires_after(kAnswerWithin * (1 << std::min(unanswered_, 3)));
  retry_.async_wait([this](auto error) {
    if (error || state_ != State::joining) return;
    ++unanswered_;
    again({"cannot join marketplace '" + place_.room + "'", "its server does not answer", ""}, soon());
  });
}

/// The next try after a trouble that ends by itself: at once at first, since grid and worker often start together, then ever more patiently.
std::chrono::milliseconds Room::soon() {
  const int step = std::max(0, tries_++ - kQuickTries);  // a second of quick ones
  const auto pause = std::min<std::chrono::milliseconds>(kSoonMax, kSoonMin * (1 << std::min(step, 7)));
  return pause * (75 + static_cast<int>(dice_() % 51)) / 100;
}

void Room::again(const Error& why, std::chrono::milliseconds pause) {
  const bool was_inside = inside();
  state_ = State::outside;
  manager_nick_.reset();
  ping_timer_.cancel();
  const auto now = std::chrono::steady_clock::now();
  if (was_inside || trouble_ != why.text() || now - told_at_ > kTellAgain) {
    trouble_ = why.text();
    told_at_ = now;
    on_outside(why);
  }
  again_in(pause);
}

void Room::again_in(std::chrono::milliseconds pause) {
  if (!wanted_) return;
  retry_.expires_after(pause);
  retry_.async_wait([this](auto error) {
    if (!error && state_ == State::outside) join();
  });
}

void Room::take(const gloox::Tag& presence) {
  const std::string& from = presence.findAttribute("from");
  if (bare(from) != place_.room || state_ == State::outside) return;
  if (state_ == State::joining && std::chrono::steady_clock::now() - heard_at_ > 1s) await_answer();  // it tells us who is there
  const std::string nick = resource_of(from), type = presence.findAttribute("type");
  if (type == "error") return take_error(error_in(presence), nick);
  if (nick.empty()) return;  // of the room itself: nobody is in it without a name
  const gloox::Tag* x = presence.findChild("x", "xmlns", ns::muc_user);
  if (x == nullptr || (!type.empty() && type != "unavailable")) return;
  if (has_status(*x, "110") || nick == nick_) {
    if (type.empty()) take_own(presence, *x);
    else take_own_end(*x);
    return;
  }
  if (type.empty()) {
    const gloox::Tag* item = x->findChild("item");
    if (item != nullptr && item->findAttribute("jid") == place_.manager) manager_nick_ = nick;
  } else if (manager_nick_ == nick) {
    const gloox::Tag* item = x->findChild("item");
    if (has_status(*x, "303") && item != nullptr && !item->findAttribute("nick").empty()) {
      manager_nick_ = item->findAttribute("nick");  // the same manager under another nick
      return;
    }
    manager_nick_.reset();
    on_manager_gone();
  }
}

void Room::take_error(const StanzaError& error, const std::string& nick) {
  if (state_ == State::undoing || (!nick.empty() && nick != nick_)) return;
  Error why{"cannot join marketplace '" + place_.room + "'", "", ""};
  const std::string said = error.condition + (error.text.empty() ? "" : ", " + error.text);
  if (inside()) {
    why.what = "out of marketplace '" + place_.room + "'";
    why.why = "the room service said so (" + said + ")";
    return again(why, soon());
  }
  const std::string& what = error.condition;
  if (what == "conflict") return nick_taken("another account");
  if (what == "forbidden") {
    state_ = State::outside;
    wanted_ = false;
    retry_.cancel();
    why.why = "this account is banned from the room (" + said + ")";
    why.remedy = "ask its owner to lift the ban on " + bare(link_.jid());
    return on_banned(why);
  }
  if (what == "registration-required") {
    why.why = "room is members-only (" + said + ")";
    why.remedy = "ask its owner to add " + bare(link_.jid());
    return again(why, kPatientTry);
  }
  if (what == "not-authorized") {
    why.why = "room wants a password (" + said + ")";
    why.remedy = "a marketplace has none; is `room` in the profile right?";
    return again(why, kPatientTry);
  }
  if (what == "jid-malformed") {
    why.why = "the room service refuses the name or the address (" + said + ")";
    why.remedy = "choose another --name, or correct `room` in the profile";
    return again(why, kPatientTry);
  }
  if (what == "not-allowed" || what == "item-not-found") {
    why.why = "the room is not there yet (" + said + ")";
    why.remedy = "waiting for the manager to open it";
  } else if (what == "remote-server-not-found") {
    why.why = "no such service: " + domain_of(place_.room) + " (" + said + ")";
    why.remedy = "is `room` in the profile right? Trying again, as the service may be starting";
  } else if (what == "service-unavailable" || what == "resource-constraint") {
    why.why = "room is full, or its service is not running (" + said + ")";
    why.remedy = "trying again";
  } else {
    why.why = "the room service refused (" + said + ")";
    why.remedy = "trying again";
  }
  again(why, soon());
}

void Room::take_own(const gloox::Tag& presence, const gloox::Tag& x) {
  if (state_ == State::undoing) return;
  const std::string nick = resource_of(presence.findAttribute("from"));
  // Some services let sessions of one account share a nick (Prosody does). Two workers behind one name would hide each other. So the newcomer
  // takes another one; and who was there first shows itself again, since others may have taken the newcomer's address for its own.
  std::string other;
  for (const gloox::Tag* item : x.findChildren("item")) {
    if (const std::string& jid = item->findAttribute("jid"); !jid.empty() && jid != link_.jid()) other = printable(jid);
  }
  if (inside()) {
    nick_ = nick;
    if (other.empty()) return;
    retry_.expires_after(kNewcomerGone);
    retry_.async_wait([this](auto error) {
      if (!error && inside()) link_.send(presence_here());
    });
    return;
  }
  if (has_status(x, "201")) return undo();
  if (!other.empty()) {
    link_.send(presence_here("unavailable"));
    return nick_taken(other);
  }
  nick_ = nick;  // the service may have changed it (status 210)
  state_ = State::inside;
  ++stay_;
  retry_.cancel();
  tries_ = unanswered_ = 0;
  trouble_.clear();
  ping();
  const gloox::Tag* hello = served_ ? presence.findChild("hello", "xmlns", ns::task) : nullptr;
  if (hello != nullptr) manager_nick_ = hello->findAttribute("nick");  // it is not shown to us by a stanza of its own
  on_inside();
  if (hello != nullptr) on_hello(*hello);
}

void Room::take_own_end(const gloox::Tag& x) {
  if (!inside()) return;  // the echo of leaving, or of an earlier stay
  const gloox::Tag* item = x.findChild("item");
  Error why{"out of marketplace '" + place_.room + "'", "", "joining again"};
  if (has_status(x, "303") && item != nullptr && !item->findAttribute("nick").empty()) {
    nick_ = item->findAttribute("nick");
    return;
  }
  const gloox::Tag* reason = item != nullptr ? item->findChild("reason") : nullptr;
  const std::string said = reason != nullptr && !reason->cdata().empty() ? ": " + shortened(printable(reason->cdata()), 200) : "";
  if (has_status(x, "301")) {
    lost();
    wanted_ = false;
    return on_banned({why.what, "this account was banned" + said, "ask its owner to lift the ban on " + bare(link_.jid())});
  }
  if (has_status(x, "307")) {
    why.why = "kicked" + said;
    const auto pause = std::min<std::chrono::milliseconds>(kKickMax, kKickMin * (1 << std::min(kicks_++, 5)));
    return again(why, pause);
  }
  if (has_status(x, "321") || has_status(x, "322")) {
    why.why = "it is for members only now" + said;
    why.remedy = "ask its owner to add " + bare(link_.jid());
    return again(why, kSoonMax);
  }
  why.why = x.findChild("destroy") != nullptr ? "the room was destroyed" : "the room service ended our stay";
  again(why, soon());
}

void Room::undo() {
  state_ = State::undoing;
  retry_.cancel();
  spdlog::info("destroying a room made by accident room={} why=\"only the manager makes the market\"", place_.room);
  auto iq = element("iq", {}, {{"type", "set"}, {"to", place_.room}});
  child(child(*iq, "query", ns::muc_owner), "destroy");
  link_.request(std::move(iq), kAnswerWithin, [this](const Answer& answer) {
    if (state_ != State::undoing) return;
    if (!answer && link_.up()) link_.send(presence_here("unavailable"));  // an empty room that is not persistent ends too
    again({"cannot join marketplace '" + place_.room + "'", "the room is not there yet", "waiting for the manager to open it"}, soon());
  });
}

/// A room service that was restarted forgets its occupants without telling them; XEP-0410 is how to find out.
void Room::ping() {
  ping_timer_.expires_after(place_.ping_every);
  ping_timer_.async_wait([this](auto error) {
    if (error || !inside()) return;
    auto iq = element("iq", {}, {{"type", "get"}, {"to", place_.room + '/' + nick_}});
    child(*iq, "ping", ns::ping);
    link_.request(std::move(iq), kAnswerWithin * 2, [this, nick = nick_, stay = stay_](const Answer& answer) {
      if (!inside() || stay != stay_) return;
      const std::string& what = answer.error.condition;
      // XEP-0410 §3.4: these say that the question arrived at a place we are in, or nothing at all.
      const bool in = answer || what == "service-unavailable" || what == "feature-not-implemented" || what == "timeout" || what == "disconnected" ||
                      (what == "item-not-found" && nick != nick_);
      if (in) {
        kicks_ = 0;
        return this->ping();
      }
      again({"out of marketplace '" + place_.room + "'", "the room service does not know us any more (" + what + ")", "joining again"}, 1ms);
    });
  });
}

void Room::nick_taken(const std::string& by) {
  spdlog::info("nick taken nick=\"{}\" by=\"{}\" room={}", nick_, by, place_.room);
  ++suffix_;
  nick_ = wish_ + '-' + (suffix_ <= kSuffixMax ? std::to_string(suffix_) : std::to_string(1000 + dice_() % 1'000'000));
  state_ = State::outside;
  again_in(suffix_ <= kSuffixMax ? 1ms : soon());
}

}  // namespace souk::worker
