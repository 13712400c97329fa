#include "manager/hosted_room.h"

#include <gloox/tag.h>
#include <spdlog/spdlog.h>

#include "manager/clocks.h"
#include "protocol/stanza.h"

namespace souk {

using namespace std::chrono_literals;

namespace {

constexpr auto kAnswered = 20s;  // by the room service, to what an admin asks
constexpr std::size_t kCapsMax = 256;  // bytes of a capability's node or hash; longer ones are none

bool has_status(const gloox::Tag& x, const std::string& code) {
  for (const auto* status : x.findChildren("status"))
    if (status->findAttribute("code") == code) return true;
  return false;
}
}  // namespace

HostedRoom::HostedRoom(boost::asio::io_context& loop, XmppLink& link, Disco& disco, std::string room, std::string me, std::function<bool(const std::string& jid)> admin)
    : loop_(loop), link_(link), disco_(disco), admin_(std::move(admin)), room_(std::move(room)), me_(std::move(me)), retry_(loop), self_ping_(loop), grace_(loop),
      registration_(link.on_presence([this](const gloox::Tag& presence) { take(presence); })) {}

void HostedRoom::open() {
  closed_ = opened_ = inside_ = false;
  lost();
  auto join = presence();
  child(child(*join, "x", ns::muc), "history", {}, {{"maxstanzas", "0"}});
  link_.send(std::move(join));
  // A room service that says nothing is asked again.
  retry_.expires_after(10s);
  retry_.async_wait([this](auto error) {
    if (!error && !inside_ && !closed_) again({"cannot open the marketplace " + room_, "its server does not answer", ""});
  });
}

void HostedRoom::lost() {
  for (const auto& [nick, jid] : occupants_) returning_.lost(jid);
  occupants_.clear();
  returning_.closed();
  grace_.cancel();
}

Stanza HostedRoom::presence() const {
  auto presence = element("presence", {}, {{"to", room_ + '/' + nick_}, {"from", me_}});
  if (!trouble_.empty()) child(*presence, "show", {}, {}, "dnd"), child(*presence, "status", {}, {}, printable(trouble_));
  disco_.add_caps(*presence);
  return presence;
}

void HostedRoom::say_subject() {
  auto subject = element("message", {}, {{"type", "groupchat"}, {"to", room_}, {"from", me_}});
  child(*subject, "subject", {}, {},
        trouble_.empty() ? "Souk marketplace: free workers have no mark, busy ones are marked so. Commands: " + bare(me_) : "Souk marketplace: " + printable(trouble_));
  link_.send(std::move(subject));
}

/// The manager owns the room, so its service does it (XEP-0045 §9.1).
void HostedRoom::ban(const std::string&, const std::string& jid, const std::string& reason, bool lift, std::function<void(Result<Done>)> then) {
  const auto bad = [&](std::string why, std::string remedy) { then(Error{"cannot ban " + printable(jid), std::move(why), std::move(remedy)}); };
  if (!inside_) return bad("the manager is not in the room just now", "try again in a moment");
  if (!lift && (jid == bare(me_) || admin_(jid))) return bad("that one stays", "");
  auto iq = element("iq", {}, {{"type", "set"}, {"to", room_}, {"from", me_}});
  gloox::Tag& item = child(child(*iq, "query", ns::muc_admin), "item", {}, {{"affiliation", lift ? "none" : "outcast"}, {"jid", jid}});
  if (!reason.empty()) child(item, "reason", {}, {}, reason);
  link_.request(std::move(iq), kAnswered, [this, jid, lift, then = std::move(then)](const Answer& answer) {
    if (answer) return then(Done{});
    spdlog::warn("the room service refuses a ban jid={} why={}", printable(jid), answer.error.condition);
    then(Error{std::string("cannot ") + (lift ? "lift the ban of " : "ban ") + printable(jid), domain_of(room_) + " says " + answer.error.condition + (answer.error.text.empty() ? "" : ": " + printable(answer.error.text)),
               answer.error.condition == "timeout" || answer.error.condition == "disconnected" ? "it may be done: look at `souk workers bans`" : ""});
  });
}

/// The room keeps them (XEP-0045 §9.2).
void HostedRoom::bans(std::function<void(Result<std::vector<std::string>>)> then) {
  if (!inside_) return then(Error{"cannot tell who is banned", "the manager is not in the room just now", "try again in a moment"});
  auto iq = element("iq", {}, {{"type", "get"}, {"to", room_}, {"from", me_}});
  child(child(*iq, "query", ns::muc_admin), "item", {}, {{"affiliation", "outcast"}});
  link_.request(std::move(iq), kAnswered, [this, then = std::move(then)](const Answer& answer) {
    const gloox::Tag* list = answer ? answer.iq->findChild("query", "xmlns", ns::muc_admin) : nullptr;
    if (!list) return then(Error{"cannot tell who is banned", domain_of(room_) + " says " + (answer ? "nothing of it" : answer.error.condition), "try again in a moment"});
    std::vector<std::string> all;
    for (const gloox::Tag* item : list->findChildren("item"))
      if (item->findAttribute("affiliation") == "outcast") all.push_back(item->findAttribute("jid"));
    then(std::move(all));
  });
}

void HostedRoom::set_trouble(const std::string& why) {
  trouble_ = why;
  if (!inside_) return;  // said on entering
  link_.send(presence());
  say_subject();
}

void HostedRoom::close() {
  closed_ = true;
  retry_.cancel(), self_ping_.cancel(), grace_.cancel();
  if (inside_) link_.send(element("presence", {}, {{"to", room_ + '/' + nick_}, {"from", me_}, {"type", "unavailable"}}));
  inside_ = false;
}

void HostedRoom::again(Error why) {
  if (closed_) return;
  on_trouble(why);
  retry_.expires_after(std::min(5000ms, 100ms * (1 << std::min(6, tries_++))));
  retry_.async_wait([this](auto error) {
    if (!error && !closed_ && link_.up()) open();
  });
}

void HostedRoom::take(const gloox::Tag& presence) {
  const std::string from = presence.findAttribute("from");
  if (bare(from) != room_ || closed_) return;
  const std::string nick = resource_of(from);
  const std::string type = presence.findAttribute("type");
  if (type == "error") {
    const StanzaError error = error_in(presence);
    if (inside_) return;
    if (error.condition == "conflict" && nick == nick_) nick_ = "manager-" + std::to_string(++tries_ + 1);
    return again({"cannot enter the marketplace " + room_, error.condition + (error.text.empty() ? "" : ": " + error.text),
                  error.condition == "item-not-found" || error.condition == "not-allowed" ? "let the room service allow " + bare(me_) + " to make rooms" : ""});
  }
  const gloox::Tag* x = presence.findChild("x", "xmlns", ns::muc_user);
  const gloox::Tag* item = x ? x->findChild("item") : nullptr;
  const bool self = x && (has_status(*x, "110") || nick == nick_);
  if (type == "unavailable") {
    if (self) {
      if (!inside_) return;
      inside_ = false;
      return again({"out of the marketplace " + room_, x && has_status(*x, "307") ? "kicked" : x && has_status(*x, "301") ? "banned" : "the room ended", ""});
    }
    const auto at = occupants_.find(nick);
    if (at == occupants_.end()) return;
    const std::string jid = at->second;
    // A change of nick (303) is followed by a presence under the new one; the real JID stays in.
    occupants_.erase(at);
    if (!(x && has_status(*x, "303"))) on_gone(jid);
    return;
  }
  if (!type.empty() || !x || !item) return;
  if (self) {
    if (!inside_) entered(has_status(*x, "201"), item->findAttribute("affiliation"));
    return;
  }
  const std::string jid = item->findAttribute("jid");
  if (jid.empty() || resource_of(jid).empty()) {
    spdlog::warn("occupant without a real jid room={} nick=\"{}\" why=\"the room is anonymous\"", room_, printable(nick));
    return;
  }
  const bool entered = std::exchange(occupants_[nick], jid) != jid;
  returning_.back(jid, Clocks::read().now);
  Occupant occupant{nick, jid, {}, {}, entered};
  if (const auto* caps = presence.findChild("c", "xmlns", ns::caps)) occupant.caps_node = caps->findAttribute("node"), occupant.caps_hash = caps->findAttribute("ver");
  if (occupant.caps_node.size() > kCapsMax || occupant.caps_hash.size() > kCapsMax) occupant.caps_node.clear(), occupant.caps_hash.clear();
  on_present(occupant);
}

void HostedRoom::entered(bool created, const std::string& affiliation) {
  inside_ = true;
  retry_.cancel();
  if (affiliation != "owner") {
    inside_ = false;
    link_.send(element("presence", {}, {{"to", room_ + '/' + nick_}, {"from", me_}, {"type", "unavailable"}}));
    return again({"cannot open the marketplace " + room_, "the room belongs to somebody else (our affiliation: " + (affiliation.empty() ? "none" : affiliation) + ")",
                  "choose another room, or have its owner make " + bare(me_) + " an owner"});
  }
  spdlog::info("in the marketplace room={} created={}", room_, created);
  configure();
}

/// The owner's settings (XEP-0045 §10.2); said every time, since they may have been changed meanwhile.
void HostedRoom::configure() {
  auto set = element("iq", {}, {{"type", "set"}, {"to", room_}, {"from", me_}});
  Form form;
  form.type = "submit";
  form.add("FORM_TYPE", "hidden", "", {"http://jabber.org/protocol/muc#roomconfig"});
  const std::pair<const char*, const char*> settings[] = {
      {"muc#roomconfig_roomname", "Souk marketplace"}, {"muc#roomconfig_roomdesc", "Workers and what they offer. Visitors may look."},
      {"muc#roomconfig_persistentroom", "1"}, {"muc#roomconfig_publicroom", "1"}, {"muc#roomconfig_moderatedroom", "1"},
      {"muc#roomconfig_membersonly", "0"}, {"muc#roomconfig_passwordprotectedroom", "0"}, {"muc#roomconfig_whois", "anyone"},
      {"muc#roomconfig_changesubject", "0"}, {"muc#roomconfig_allowinvites", "0"}};
  for (const auto& [var, value] : settings) form.add(var, "", "", {value});
  add_form(child(*set, "query", ns::muc_owner), form);
  link_.request(std::move(set), 10s, [this](const Answer& answer) {
    if (closed_ || !inside_) return;
    if (!answer) return again({"cannot set up the marketplace " + room_, answer.error.condition + " " + answer.error.text, ""});
    say_subject();
    tries_ = 0;
    if (std::exchange(opened_, true)) return;
    returning_.opened(Clocks::read().now);
    await_return();
    on_open();
    ping();
  });
}

void HostedRoom::await_return() {
  const auto due = returning_.due();
  if (!due) return;
  grace_.expires_after(std::max<Duration>(Duration(1000), *due - Clocks::read().now));
  grace_.async_wait([this](auto error) {
    if (error || closed_) return;
    for (const std::string& jid : returning_.given_up(Clocks::read().now)) on_gone(jid);
    await_return();
  });
}

/// XEP-0410: a room service that was restarted forgets its occupants without telling them.
void HostedRoom::ping() {
  self_ping_.expires_after(30s);
  self_ping_.async_wait([this](auto error) {
    if (error || !inside_ || closed_) return;
    auto ping = element("iq", {}, {{"type", "get"}, {"to", room_ + '/' + nick_}, {"from", me_}});
    child(*ping, "ping", ns::ping);
    link_.request(std::move(ping), 20s, [this](const Answer& answer) {
      if (!inside_ || closed_) return;
      const std::string& why = answer.error.condition;
      if (!answer && why != "timeout" && why != "disconnected" && why != "service-unavailable" && why != "feature-not-implemented") {
        inside_ = false;
        return again({"out of the marketplace " + room_, why, ""});
      }
      this->ping();
    });
  });
}

}  // namespace souk
