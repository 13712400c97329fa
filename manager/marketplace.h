// The room where offers meet tasks, whatever serves it.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "protocol/result.h"

namespace gloox {
class Tag;
}

namespace souk {

struct Occupant {
  std::string nick, jid;                // jid: the real, full one; the only thing that identifies anybody
  std::string caps_node, caps_hash;     // XEP-0115; empty when it sent none
  bool entered = true;                  // came in with this; false: was in and changed
};

class Marketplace {
 public:
  virtual ~Marketplace() = default;
  virtual void open() = 0;   // the link is up: make the room, or find it again
  virtual void lost() = 0;   // the link is down
  virtual void close() = 0;  // leave it; before the link stops
  /// What everybody who reads the room should know of the manager; empty: all is well.
  virtual void set_trouble(const std::string& why) = 0;
  /// Puts out everybody with that bare JID and lets them in no more, or lifts that; `then` once it is so. `by`: the admin's JID. Fails on who cannot be banned, and
  /// where the room refuses.
  virtual void ban(const std::string& by, const std::string& jid, const std::string& reason, bool lift, std::function<void(Result<Done>)> then) = 0;
  /// All that are.
  virtual void bans(std::function<void(Result<std::vector<std::string>>)> then) = 0;
  /// The room is there, is ours, and everybody in it has been told of.
  std::function<void()> on_open = [] {};
  std::function<void(const Occupant&)> on_present = [](const Occupant&) {};  // joined, or changed
  /// In place of on_present, in a room that the manager serves itself: who comes in said what a hello asks for. True: that was taken, and a hello put into `answer`,
  /// the presence by which it hears that it is in. False: it comes in like others.
  std::function<bool(const Occupant&, const gloox::Tag& said, gloox::Tag& answer)> on_hello = [](const Occupant&, const gloox::Tag&, gloox::Tag&) { return false; };
  std::function<void(const std::string& jid)> on_gone = [](const std::string&) {};
  std::function<void(const Error&)> on_trouble = [](const Error&) {};  // tried again by itself
};

}  // namespace souk
