#include "manager/served_room.h"

#include <gloox/tag.h>
#include <spdlog/spdlog.h>

#include "manager/clocks.h"
#include "protocol/stanza.h"

namespace souk {

using namespace std::chrono_literals;

namespace {

constexpr std::size_t kItemsMax = 100;    // of one change by an admin
constexpr std::size_t kListedMax = 400;   // occupants that service discovery names

const std::string kOccupantFact = "occupant ";  // + JID, a line end, and the nick
const std::string kBanFact = "ban ";            // + bare JID
const std::string kRoomInfo = "http://jabber.org/protocol/muc#roominfo", kRoomConfig = "http://jabber.org/protocol/muc#roomconfig";
const std::string kSelfPing = "http://jabber.org/protocol/muc#self-ping-optimization";

/// Errors that say that nobody is at an address any more (XEP-0045 §14.7, RFC 6120 §8.3.3).
bool nobody_there(const std::string& condition) {
  for (const char* one : {"gone", "item-not-found", "recipient-unavailable", "redirect", "remote-server-not-found", "remote-server-timeout", "service-unavailable", "jid-malformed"})
    if (condition == one) return true;
  return false;
}

std::string text_in(const gloox::Tag& stanza, const char* name) {
  const gloox::Tag* found = stanza.findChild(name);
  return found ? found->cdata() : std::string();
}

served::Market::Rules rules_of(const ServedRoom::Setup& setup, const Disco& disco) {
  return {setup.manager, "Souk marketplace: free workers have no mark, busy ones are marked so. Commands: " + bare(setup.manager), setup.admin, setup.worker, kCapsNode, disco.hash()};
}

}  // namespace

ServedRoom::ServedRoom(boost::asio::io_context& loop, XmppLink& link, Disco& disco, Setup setup)
    : link_(link), disco_(disco), room_(setup.room), domain_(domain_of(setup.room)), market_(rules_of(setup, disco)), wake_(loop) {
  for (const auto& [fact, value] : setup.facts) {
    if (fact.starts_with(kBanFact)) market_.banned(fact.substr(kBanFact.size()));
    if (!fact.starts_with(kOccupantFact)) continue;
    const auto end = fact.find('\n');
    if (end == fact.npos) continue;
    const std::string jid = fact.substr(kOccupantFact.size(), end - kOccupantFact.size()), nick = fact.substr(end + 1);
    kept_[jid] = nick;
    market_.remembered(jid, nick);
  }
  registrations_.push_back(link.on_presence([this](const gloox::Tag& presence) { take_presence(presence); }));
  registrations_.push_back(link.on_message([this](const gloox::Tag& message) { take_message(message); }));
  registrations_.push_back(link.on_iq("ping", ns::ping, [this](const auto& iq, const auto&) { take_ping(iq); }));
  registrations_.push_back(link.on_iq("query", ns::info, [this](const auto& iq, const auto& query) { take_info(iq, query); }));
  registrations_.push_back(link.on_iq("query", ns::items, [this](const auto& iq, const auto& query) { take_items(iq, query); }));
  registrations_.push_back(link.on_iq("query", ns::muc_admin, [this](const auto& iq, const auto& query) { take_admin(iq, query); }));
  registrations_.push_back(link.on_iq("query", ns::muc_owner, [this](const auto& iq, const auto& query) { take_owner(iq, query); }));
}

void ServedRoom::open() {
  tell(served::Opened{});
  on_open();
}
void ServedRoom::lost() { tell(served::Lost{}); }
void ServedRoom::close() {
  tell(served::Closing{});
  wake_.cancel();
}
void ServedRoom::set_trouble(const std::string& why) { tell(served::Troubled{why}); }

void ServedRoom::ban(const std::string& by, const std::string& jid, const std::string& reason, bool lift, std::function<void(Result<Done>)> then) {
  refused_.clear();
  if (tell(lift ? served::Event(served::BanLifted{by, jid}) : served::Event(served::Banned{by, jid, reason}))) return then(Done{});
  then(Error{"cannot ban " + printable(jid), refused_, ""});
}

// ---- What the room says ------------------------------------------------------------------------------------------------------------

bool ServedRoom::tell(const served::Event& event, const gloox::Tag* stanza) {
  bool fine = true, greeted = false;
  const served::Show* waits = nullptr;  // of the manager, that is not needed if the next one tells of it
  const auto actions = market_.step(Clocks::read().now, event);
  for (const served::Action& action : actions) {
    if (const auto* show = std::get_if<served::Show>(&action)) {
      if (show->unless_greeted) {
        waits = show;
        continue;
      }
      if (const auto* manager = std::exchange(waits, nullptr)) {
        greeted = greet(*show, stanza);
        if (greeted) continue;
        link_.send(stanza_of(*manager));
      }
      link_.send(stanza_of(*show));
    } else if (const auto* refused = std::get_if<served::Refuse>(&action)) {
      fine = false;
      refused_ = refused->text;
      if (!stanza) continue;
      auto error = error_of(*stanza, refused->type, refused->condition, refused->text);
      if (stanza->findChild("x", "xmlns", ns::muc)) child(*error, "x", ns::muc);  // by which clients know what was refused (XEP-0045 §7.2)
      link_.send(std::move(error));
    } else if (const auto* subject = std::get_if<served::Subject>(&action)) {
      auto message = element("message", {}, {{"type", "groupchat"}, {"from", room_ + '/' + served::kManagerNick}, {"to", subject->to}});
      child(*message, "subject", {}, {}, subject->text);
      link_.send(std::move(message));
    } else if (const auto* relay = std::get_if<served::Relay>(&action)) {
      auto message = element("message", {}, {{"type", "groupchat"}, {"from", room_ + '/' + relay->nick}, {"to", relay->to}});
      if (!relay->id.empty()) message->addAttribute("id", printable(relay->id));
      child(*message, "body", {}, {}, relay->body);
      link_.send(std::move(message));
    } else if (const auto* present = std::get_if<served::Present>(&action)) {
      if (!std::exchange(greeted, false)) on_present({present->nick, present->jid, present->caps_node, present->caps_hash, present->entered});
    } else if (const auto* gone = std::get_if<served::Gone>(&action)) {
      on_gone(gone->jid);
    } else if (const auto* drain = std::get_if<served::Drain>(&action)) {
      spdlog::info("drained by an admin jid={} drained={}", drain->jid, drain->drained);
      on_drain(drain->jid, drain->drained);
    } else if (const auto* ban = std::get_if<served::KeepBan>(&action)) {
      spdlog::info("ban jid={} banned={}", ban->jid, ban->banned);
      on_fact(kBanFact + ban->jid, ban->banned ? 1 : 0, true);  // who stopped the manager by a lie is to be kept out of its next life
    } else if (const auto* who = std::get_if<served::Remember>(&action)) {
      const auto known = kept_.find(who->jid);
      if (known != kept_.end() && (!who->here || known->second != who->nick)) {
        on_fact(kOccupantFact + who->jid + '\n' + known->second, 0, false);
        kept_.erase(known);
      }
      if (who->here && kept_.emplace(who->jid, who->nick).second) on_fact(kOccupantFact + who->jid + '\n' + who->nick, 1, false);
    }
  }
  wake();
  return fine;
}

bool ServedRoom::greet(const served::Show& show, const gloox::Tag* said) {
  const gloox::Tag* hello = said ? said->findChild("hello", "xmlns", ns::task) : nullptr;
  if (!hello) return false;
  auto presence = stanza_of(show);
  if (!on_hello({show.nick, show.jid, show.caps_node, show.caps_hash, true}, *hello, *presence)) return false;
  if (gloox::Tag* answer = presence->findChild("hello", "xmlns", ns::task)) answer->addAttribute("nick", served::kManagerNick);
  link_.send(std::move(presence));
  return true;
}

souk::Stanza ServedRoom::stanza_of(const served::Show& show) const {
  auto presence = element("presence", {}, {{"from", room_ + '/' + show.nick}, {"to", show.to}});
  if (show.gone) presence->addAttribute("type", "unavailable");
  if (!show.gone) {
    if (!show.show.empty()) child(*presence, "show", {}, {}, show.show);
    if (!show.status.empty()) child(*presence, "status", {}, {}, show.status);
    if (!show.caps_hash.empty()) child(*presence, "c", ns::caps, {{"hash", "sha-1"}, {"node", show.caps_node}, {"ver", show.caps_hash}});
  }
  auto& x = child(*presence, "x", ns::muc_user);
  auto& item = child(x, "item", {}, {{"affiliation", show.affiliation}, {"role", show.role}, {"jid", show.jid}});
  if (!show.new_nick.empty()) item.addAttribute("nick", printable(show.new_nick));
  if (!show.by.empty()) child(item, "actor", {}, {{"jid", bare(show.by)}});
  if (!show.reason.empty()) child(item, "reason", {}, {}, show.reason);
  for (const int code : show.codes) child(x, "status", {}, {{"code", std::to_string(code)}});
  return presence;
}

void ServedRoom::wake() {
  const auto at = market_.wake_at();
  if (!at) return void(wake_.cancel());
  wake_.expires_after(std::max<Duration>(Duration(1000), *at - Clocks::read().now));
  wake_.async_wait([this](auto error) {
    if (!error) tell(served::Tick{});
  });
}

// ---- What comes in -----------------------------------------------------------------------------------------------------------------

bool ServedRoom::is_room(const gloox::Tag& stanza) const { return bare(stanza.findAttribute("to")) == room_; }

void ServedRoom::take_presence(const gloox::Tag& presence) {
  const std::string from = presence.findAttribute("from"), type = presence.findAttribute("type"), to = presence.findAttribute("to");
  const bool joins = presence.findChild("x", "xmlns", ns::muc) != nullptr;
  if (!is_room(presence)) {
    if (!type.empty() || !joins) return;
    auto error = error_of(presence, "cancel", "item-not-found", "there is one room here: " + room_);
    child(*error, "x", ns::muc);
    return link_.send(std::move(error));
  }
  if (type == "error") return void(tell(served::Bounced{from}));
  if (type == "unavailable") return void(tell(served::Left{from, resource_of(to)}));
  if (!type.empty()) return;  // subscriptions and probes are nothing to a room
  served::Came came{from, resource_of(to), joins, false, {}, {}, text_in(presence, "show"), text_in(presence, "status")};
  if (const gloox::Tag* caps = presence.findChild("c", "xmlns", ns::caps)) came.caps_node = caps->findAttribute("node"), came.caps_hash = caps->findAttribute("ver");
  came.worker = came.caps_node == kCapsNode;
  came.says_hello = joins && came.worker && presence.findChild("hello", "xmlns", ns::task) != nullptr;
  tell(came, &presence);
}

void ServedRoom::take_message(const gloox::Tag& message) {
  if (!is_room(message)) return;
  const std::string from = message.findAttribute("from"), type = message.findAttribute("type");
  if (type == "error") {
    if (nobody_there(error_in(message).condition)) tell(served::Bounced{from});
    return;
  }
  tell(served::Said{from, resource_of(message.findAttribute("to")), type, message.findAttribute("id"), text_in(message, "body"), message.findChild("subject") != nullptr}, &message);
}

/// To a name in the room it asks `am I still in, under that name?` (XEP-0410); to anything else, whether we are alive.
void ServedRoom::take_ping(const gloox::Tag& iq) {
  if (iq.findAttribute("type") != "get") return link_.send(error_of(iq, "modify", "bad-request", "a ping is an iq of type get"));
  const std::string nick = resource_of(iq.findAttribute("to"));
  if (is_room(iq) && !nick.empty()) {
    const std::string* own = market_.nick_of(iq.findAttribute("from"));
    if (!own) return link_.send(error_of(iq, "cancel", "not-acceptable", "you are not in this room: join it"));
    if (nick != *own && !market_.has_nick(nick)) return link_.send(error_of(iq, "cancel", "item-not-found", "nobody here has that name"));
  }
  link_.send(result_of(iq));
}

void ServedRoom::take_info(const gloox::Tag& iq, const gloox::Tag& query) {
  const std::string to = iq.findAttribute("to"), nick = resource_of(to);
  if (iq.findAttribute("type") != "get" || (to != domain_ && !is_room(iq)) || nick == served::kManagerNick) return link_.send(disco_.info_answer(iq, query));
  if (to == domain_) {
    auto answer = disco_.info_answer(iq, query);
    if (gloox::Tag* told = query.findAttribute("node").empty() ? answer->findChild("query") : nullptr) {
      child(*told, "identity", {}, {{"category", "conference"}, {"type", "text"}, {"name", "Souk marketplace"}});
      child(*told, "feature", {}, {{"var", ns::muc}});
    }
    return link_.send(std::move(answer));
  }
  if (!nick.empty()) return link_.send(error_of(iq, "cancel", "service-unavailable", "ask its own address"));
  if (const std::string node = query.findAttribute("node"); !node.empty()) return link_.send(error_of(iq, "cancel", "item-not-found", "there is no node '" + shortened(node, 128) + "' here"));
  auto answer = result_of(iq);
  DiscoInfo info;
  info.identities.push_back({"conference", "text", "", "Souk marketplace"});
  info.features = {ns::info, ns::items, ns::ping, ns::muc, kSelfPing, "muc_public", "muc_moderated", "muc_nonanonymous", "muc_open", "muc_persistent", "muc_unsecured"};
  Form form;
  form.type = "result";
  form.add("FORM_TYPE", "hidden", "", {kRoomInfo});
  form.add("muc#roominfo_description", "text-single", "", {"Workers and what they offer. People may look and talk."});
  form.add("muc#roominfo_occupants", "text-single", "", {std::to_string(1 + market_.workers() + market_.people())});
  form.add("muc#roominfo_subject", "text-single", "", {market_.subject()});
  form.add("muc#roominfo_subjectmod", "boolean", "", {"0"});
  info.forms.push_back(std::move(form));
  add_info(child(*answer, "query", ns::info), info);
  link_.send(std::move(answer));
}

void ServedRoom::take_items(const gloox::Tag& iq, const gloox::Tag& query) {
  const std::string to = iq.findAttribute("to");
  const bool service = to == domain_ && query.findAttribute("node").empty();
  if (iq.findAttribute("type") != "get" || (!service && !is_room(iq)) || resource_of(to) == served::kManagerNick) return link_.send(disco_.items_answer(iq, query));
  if (!resource_of(to).empty()) return link_.send(error_of(iq, "cancel", "service-unavailable", "ask its own address"));
  auto answer = result_of(iq);
  auto& items = child(*answer, "query", ns::items);
  if (const std::string node = query.findAttribute("node"); !node.empty()) items.addAttribute("node", printable(node));  // of no node there is anything
  else if (service) child(items, "item", {}, {{"jid", room_}, {"name", "Souk marketplace"}});
  else
    for (const auto& who : market_.occupants(kListedMax)) child(items, "item", {}, {{"jid", room_ + '/' + who.nick}});
  link_.send(std::move(answer));
}

/// Lists for those who may change them (XEP-0045 §9), and what an admin of the grid can do to an occupant.
void ServedRoom::take_admin(const gloox::Tag& iq, const gloox::Tag& query) {
  const std::string by = iq.findAttribute("from");
  if (iq.findAttribute("to") != room_) return link_.send(error_of(iq, "cancel", "service-unavailable", "ask the room: " + room_));
  const auto items = query.findChildren("item");
  if (items.empty() || items.size() > kItemsMax) return link_.send(error_of(iq, "modify", "bad-request", "1 to " + std::to_string(kItemsMax) + " items"));
  if (!market_.admin(by)) {
    on_admin(by, "administer the room", room_, false);
    return link_.send(error_of(iq, "auth", "forbidden", "only admins of the grid (--admin, or its policy) may do that"));
  }
  if (iq.findAttribute("type") == "get") return list(iq, *items.front());
  for (const gloox::Tag* item : items) {
    const std::string role = item->findAttribute("role"), affiliation = item->findAttribute("affiliation"), nick = item->findAttribute("nick"), reason = shortened(text_in(*item, "reason"), 500);
    std::string jid = item->findAttribute("jid");
    if (jid.empty()) jid = market_.jid_of(nick);
    bool fine = true;
    const std::string what = role == "none" ? "out" : role == "participant" ? "readmit" : affiliation == "outcast" ? "ban" : "unban";
    if (!role.empty() && role == "none") fine = tell(served::Kicked{by, nick, reason}, &iq);
    else if (role == "participant") fine = tell(served::Readmitted{by, nick}, &iq);
    else if (affiliation == "outcast" && !jid.empty()) fine = tell(served::Banned{by, jid, reason}, &iq);
    else if (affiliation == "none" && !jid.empty()) fine = tell(served::BanLifted{by, jid}, &iq);
    else {
      fine = false;
      link_.send(error_of(iq, "cancel", "not-allowed", "here an admin can put out (role none), give a drained worker tasks again (role participant), ban (outcast) and lift a ban (none); admins are named by --admin"));
    }
    on_admin(by, what, jid.empty() ? nick : jid, fine);
    if (!fine) return;
  }
  commit([&link = link_, answer = std::make_shared<Stanza>(result_of(iq))] { link.send(std::move(*answer)); });  // a ban that was confirmed outlives us
}

void ServedRoom::list(const gloox::Tag& iq, const gloox::Tag& item) {
  const std::string role = item.findAttribute("role"), affiliation = item.findAttribute("affiliation");
  auto answer = result_of(iq);
  auto& told = child(*answer, "query", ns::muc_admin);
  if (affiliation == "outcast") {
    for (const std::string& jid : market_.bans()) child(told, "item", {}, {{"affiliation", "outcast"}, {"jid", jid}});
  } else {
    for (const auto& who : market_.occupants(kListedMax))
      if (who.role == role || who.affiliation == affiliation)
        child(told, "item", {}, {{"affiliation", who.affiliation}, {"role", who.role}, {"nick", who.nick}, {"jid", affiliation.empty() ? who.jid : bare(who.jid)}});
  }
  link_.send(std::move(answer));
}

/// The settings are what they are; who wants others runs a hosted room.
void ServedRoom::take_owner(const gloox::Tag& iq, const gloox::Tag& query) {
  if (iq.findAttribute("to") != room_) return link_.send(error_of(iq, "cancel", "service-unavailable", "ask the room: " + room_));
  if (iq.findAttribute("type") == "set") {
    const gloox::Tag* form = query.findChild("x", "xmlns", ns::form);
    if (form && form->findAttribute("type") == "cancel") return link_.send(result_of(iq));
    return link_.send(error_of(iq, "cancel", "not-allowed", "the manager serves this room itself, and its settings cannot be changed; a hosted room has settings (souk up --hosted)"));
  }
  Form form;
  form.title = "Settings of the marketplace";
  form.instructions = "To be read only: the manager serves this room itself.";
  form.add("FORM_TYPE", "hidden", "", {kRoomConfig});
  const auto flag = [&](const char* var, const char* label, bool set) { form.add(var, "boolean", label, {set ? "1" : "0"}); };
  form.add("muc#roomconfig_roomname", "text-single", "Name", {"Souk marketplace"});
  form.add("muc#roomconfig_roomdesc", "text-single", "Description", {"Workers and what they offer. People may look and talk."});
  flag("muc#roomconfig_persistentroom", "It stays when nobody is in", true);
  flag("muc#roomconfig_publicroom", "It can be found", true);
  flag("muc#roomconfig_membersonly", "Only members may come in", false);
  flag("muc#roomconfig_passwordprotectedroom", "It needs a password", false);
  flag("muc#roomconfig_moderatedroom", "Workers do not talk", true);
  flag("muc#roomconfig_changesubject", "People may change the subject", false);
  flag("muc#roomconfig_allowinvites", "People may invite others", false);
  flag("muc#roomconfig_enablelogging", "What is said is kept", false);
  form.add("muc#roomconfig_whois", "list-single", "Who sees real addresses", {"anyone"});
  form.fields.back().options.emplace_back("Everybody", "anyone");
  form.add("muc#roomconfig_maxusers", "text-single", "People at most", {std::to_string(served::kPeopleMax)});
  form.add("muc#roomconfig_allowpm", "list-single", "Who may send private messages", {"none"});
  form.fields.back().options.emplace_back("Nobody", "none");
  auto answer = result_of(iq);
  add_form(child(*answer, "query", ns::muc_owner), form);
  link_.send(std::move(answer));
}

}  // namespace souk
