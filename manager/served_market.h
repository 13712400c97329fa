// The marketplace that the manager serves itself, as a multi-user chat room (XEP-0045) without the network: what came in, what must go out.
//
//   nobody ──joins──► occupant ──leaves, bounces, is kicked or banned──► nobody
//                        │ ▲
//     the link is lost,  ▼ │ joins
//     or a new life:   away, recalled at a pace ──not back in time──► gone
//
// Three kinds of occupants. The manager owns the room. People see each other, the manager and some workers, and talk. Workers see the manager only
// and hear nobody, so that a market of n workers costs n and not n². They are told apart by their capabilities: a worker has our caps node (XEP-0115).
#pragma once
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "manager/returning.h"
#include "protocol/ids.h"

namespace souk::served {

// Bounds of what others can put in. Over one: the answer is an error, and nothing changes.
inline constexpr std::size_t kWorkersMax = 50'000;    // service-unavailable
inline constexpr std::size_t kPeopleMax = 200;        // service-unavailable; each sees all others
inline constexpr std::size_t kShownMax = 100;         // workers that people see; of the others the manager's status tells how many they are
inline constexpr std::size_t kNickMax = 160;          // bytes; a worker's own name has at most 128, and a suffix
inline constexpr std::size_t kSeatsEach = 10;         // programs of one person; more are resource-constraint, so that nobody takes all of kPeopleMax
inline constexpr std::size_t kCapsMax = 256;          // bytes of a capability's node or hash; longer ones are none. All that one says of itself is said on to all people
inline constexpr std::size_t kIdMax = 256;            // bytes of a message's id; a longer one is left out
inline constexpr std::size_t kBodyMax = 8192;         // bytes of a message
inline constexpr std::size_t kStatusMax = 512;        // bytes of a status; the rest is cut off
inline constexpr std::size_t kBansMax = 10'000;
inline constexpr double kBurst = 40, kPerSecond = 2;  // messages and changes of one person, whatever its clients are; coming in counts five
inline constexpr std::chrono::seconds kChangeEvery{1};  // so often people are shown what changed in a worker, and how many there are
inline constexpr std::size_t kRecallSlice = 100;      // remembered occupants that are told to come back, in
inline constexpr std::chrono::milliseconds kRecallEvery{50};  // each of these: 2,000 a second, which is what a server can take at best
// So many at most are on their way back. A server reads as much from the component as from one client in each round through all that have something to say, so that
// thousands who come at once keep each other from being answered; they ask again, and it takes minutes. Who is not back in a second counts no more: it may not be there.
inline constexpr std::size_t kRecallWindow = 400;
inline constexpr std::chrono::seconds kRecallPatience{1};

inline const std::string kManagerNick = "manager";

enum class Kind { worker, person };

// What happened.
struct Came {  // an available presence
  std::string jid, nick;
  bool joins = false;  // says that it enters; else it is a change of somebody who thinks it is in
  bool worker = false;
  std::string caps_node, caps_hash, show, status;
  bool says_hello = false;  // of itself, what the manager would ask
};
struct Left { std::string jid, nick; };                 // an unavailable presence
struct Bounced { std::string jid; };                    // what we sent came back
struct Said { std::string jid, nick, type, id, body; bool subject = false; };  // nick: to whom; empty: to all
struct Opened {};                                       // the link is up
struct Lost {};                                         // and down
struct Closing {};                                      // the manager is about to end
struct Troubled { std::string why; };                   // what people should know of the manager; empty: all is well
struct Kicked { std::string by, nick, reason; };
struct Readmitted { std::string by, nick; };            // a worker gets tasks again
struct Banned { std::string by, jid, reason; };         // a bare JID
struct BanLifted { std::string by, jid; };
struct Tick {};
using Event = std::variant<Came, Left, Bounced, Said, Opened, Lost, Closing, Troubled, Kicked, Readmitted, Banned, BanLifted, Tick>;

// What to do about it, in order.
struct Show {  // a presence from the room
  std::string to, nick, jid;  // nick, jid: whose
  std::string affiliation, role, caps_node, caps_hash, show, status;
  bool gone = false;
  std::vector<int> codes;  // XEP-0045 §15.6
  std::string new_nick, reason, by;
  bool unless_greeted = false;  // not needed if the next one brings the manager's hello
};
struct Subject { std::string to, text; };
struct Relay { std::string to, nick, id, body; };
struct Refuse { std::string type, condition, text; };  // of the stanza in hand (RFC 6120 §8.3)
struct Present { std::string jid, nick, caps_node, caps_hash; bool entered = false; };  // for the manager
struct Gone { std::string jid; };
struct Drain { std::string jid; bool drained = true; };       // give it nothing more; or again
struct Remember { std::string jid, nick; bool here = true; };  // for the next life; or forget
struct KeepBan { std::string jid; bool banned = true; };
using Action = std::variant<Show, Subject, Relay, Refuse, Present, Gone, Drain, Remember, KeepBan>;

class Market {
 public:
  struct Rules {
    std::string manager;  // full JID
    std::string greeting;  // the subject while all is well
    std::function<bool(const std::string& jid)> admin = [](const std::string&) { return false; };
    std::function<bool(const std::string& jid)> worker = [](const std::string&) { return true; };  // it may be one
    std::string caps_node, caps_hash;  // the manager's own
  };
  explicit Market(Rules rules) : rules_(std::move(rules)) {}

  /// Out of the store, before the first event.
  void remembered(const std::string& jid, const std::string& nick) { away_[jid] = nick, recall_.insert(jid), returning_.lost(jid); }
  void banned(const std::string& jid) { bans_.insert(jid); }

  std::vector<Action> step(Instant now, const Event& event);
  /// When to tick next; nothing: nothing is due.
  std::optional<Instant> wake_at() const;

  struct Seen {
    std::string nick, jid, affiliation, role;
  };
  /// The nick of an occupant; nothing: it is not in (XEP-0410 asks).
  const std::string* nick_of(const std::string& jid) const;
  bool has_nick(const std::string& nick) const { return nick == kManagerNick || nicks_.contains(nick); }
  /// The real JID of the worker or person of that name; empty: nobody has it.
  std::string jid_of(const std::string& nick) const {
    const auto at = nicks_.find(nick);
    return at == nicks_.end() ? "" : at->second;
  }
  bool admin(const std::string& jid) const { return rules_.admin(jid); }
  std::size_t workers() const { return workers_; }
  std::size_t people() const { return people_.size(); }
  const std::set<std::string>& bans() const { return bans_; }
  /// Whom `jid` may see, at most `most`.
  std::vector<Seen> occupants(std::size_t most) const;
  std::string subject() const;

 private:
  struct Occupant {
    std::string nick;
    Kind kind = Kind::person;
    std::string caps_node, caps_hash, show, status;
    std::uint64_t order = 0;
    bool shown = false, drained = false;
    Instant told{};  // people, of a worker
  };
  struct Budget {
    double left = kBurst;
    Instant at{};
  };
  using Occupants = std::map<std::string, Occupant>;

  void take(const Came& event);
  void take(const Left& event);
  void take(const Bounced& event);
  void take(const Said& event);
  void take(const Opened&);
  void take(const Lost&);
  void take(const Closing&);
  void take(const Troubled& event);
  void take(const Kicked& event);
  void take(const Readmitted& event);
  void take(const Banned& event);
  void take(const BanLifted& event);
  void take(const Tick&);

  void enter(const Came& event, Occupant& who);
  void change(const Came& event, Occupant& who);
  void tell_in_time(const std::string& jid, Occupant& who);
  void rename(const std::string& jid, Occupant& who, const std::string& nick);
  /// Takes it out and tells whoever saw it.
  void remove(Occupants::iterator who, std::vector<int> codes = {}, const std::string& reason = {}, const std::string& by = {}, bool tells_it = true);
  void tell_people(const std::string& jid, const Occupant& who, const std::string& except = {});
  void fill_shown();
  void refuse(const char* type, const char* condition, std::string text) { out_.push_back(Refuse{type, condition, std::move(text)}); }
  bool spend(const std::string& jid, double tokens);
  std::size_t seats_of(const std::string& jid) const;  // of the same person
  Show show_of(const std::string& to, const std::string& jid, const Occupant& who) const;
  Show manager_for(const std::string& to, bool person) const;
  std::string manager_status() const;
  Occupants::iterator by_nick(const std::string& nick);

  const Rules rules_;
  Instant now_{};
  std::vector<Action> out_;
  Occupants occupants_;                       // by real full JID
  std::map<std::string, std::string> nicks_;  // nick -> JID
  std::set<std::string> people_, shown_, changed_;
  std::map<std::uint64_t, std::string> hidden_;  // workers that people do not see, in the order they came
  std::set<std::string> drained_;                // workers' full JIDs; also of those that are away
  std::set<std::string> bans_;                   // bare JIDs
  std::map<std::string, Budget> budgets_;        // bare JID -> what it may still say
  std::map<std::string, std::string> away_;      // JID -> nick, of whom we wait for
  std::set<std::string> recall_;                 // those of them that are still to be called back
  std::deque<std::pair<Instant, std::string>> recalled_;  // and who was, in the last kRecallPatience
  std::set<std::string> on_their_way_;                    // those of them that are not back
  Returning returning_;
  std::uint64_t orders_ = 0;
  std::size_t workers_ = 0;
  bool open_ = false;
  std::string trouble_, counted_;  // counted_: the status that people saw last
  Instant slice_at_{}, count_at_{}, pruned_at_{};
};

}  // namespace souk::served
