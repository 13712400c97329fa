#include "manager/served_market.h"

#include <algorithm>

#include "protocol/form.h"

namespace souk::served {

namespace {

std::string bare_of(const std::string& jid) { return jid.substr(0, jid.find('/')); }

/// With commas, as people read numbers.
std::string grouped(std::size_t number) {
  std::string text = std::to_string(number);
  for (auto at = text.size(); at > 3;) text.insert(at -= 3, ",");
  return text;
}

/// Whether people would take this name for the manager's.
bool looks_like_the_manager(std::string_view nick) {
  std::string plain;
  for (const char c : nick)
    if (c != ' ') plain += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  return plain == kManagerNick;
}

/// Of what somebody says of itself only what XEP-0045 and XEP-0115 know, in sizes that they have.
Came bounded(Came event) {
  if (event.show != "away" && event.show != "chat" && event.show != "dnd" && event.show != "xa") event.show.clear();
  if (event.caps_node.size() > kCapsMax || event.caps_hash.size() > kCapsMax) event.caps_node.clear(), event.caps_hash.clear();
  return event;
}

}  // namespace

std::vector<Action> Market::step(Instant now, const Event& event) {
  now_ = now;
  out_.clear();
  std::visit([this](const auto& what) { take(what); }, event);
  return std::exchange(out_, {});
}

std::optional<Instant> Market::wake_at() const {
  std::optional<Instant> at = returning_.due();
  const auto sooner = [&](Instant when) {
    if (!at || when < *at) at = when;
  };
  if (!open_) return std::nullopt;
  if (!recall_.empty()) sooner(slice_at_ + kRecallEvery);
  if (!people_.empty() && (!changed_.empty() || (shown_.size() < kShownMax && !hidden_.empty()) || manager_status() != counted_)) sooner(count_at_ + kChangeEvery);
  return at;
}

// ---- Who comes and goes ----------------------------------------------------------------------------------------------------------

void Market::take(const Came& came) {
  const Came event = bounded(came);
  const auto known = occupants_.find(event.jid);
  if (!event.joins && known == occupants_.end()) return refuse("cancel", "not-acceptable", "you are not in this room: join it");
  if (event.nick.empty()) return refuse("modify", "jid-malformed", "join with a name of your own: room@service/name");
  if (bans_.contains(bare_of(event.jid))) return refuse("auth", "forbidden", "you are banned from this market");
  if (event.worker && !rules_.worker(event.jid)) return refuse("auth", "registration-required", "this grid takes no workers of that account (--allow-worker)");
  const auto holder = nicks_.find(event.nick);
  if (looks_like_the_manager(event.nick) || (holder != nicks_.end() && holder->second != event.jid)) return refuse("cancel", "conflict", "that name is taken");
  // People put out by name and by address, and read lists of both.
  if (event.nick.find('@') != event.nick.npos && event.nick != bare_of(event.jid)) return refuse("cancel", "not-acceptable", "a name is no address but one's own");
  if (event.nick.size() > kNickMax) return refuse("modify", "not-acceptable", "a name has at most " + std::to_string(kNickMax) + " bytes");
  if (known != occupants_.end()) {
    Occupant& who = known->second;
    if (who.kind == Kind::person && !spend(event.jid, event.joins ? 5 : 1)) return refuse("wait", "resource-constraint", "too much at once: wait a few seconds");
    if (who.nick != event.nick && who.kind == Kind::worker) return refuse("cancel", "not-acceptable", "a worker keeps its name while it is in");
    if (who.nick != event.nick) rename(event.jid, who, event.nick);
    return event.joins ? enter(event, who) : change(event, who);
  }
  const bool full = event.worker ? workers_ >= kWorkersMax : people_.size() >= kPeopleMax;
  if (full) return refuse("wait", "service-unavailable", event.worker ? "the market is full of workers" : "the room is full of people");
  if (!event.worker && seats_of(event.jid) >= kSeatsEach) return refuse("wait", "resource-constraint", "so many of your programs are here already");
  if (!event.worker && !spend(event.jid, 5)) return refuse("wait", "resource-constraint", "too much at once: wait a few seconds");
  Occupant& who = occupants_[event.jid];
  who.nick = event.nick;
  who.kind = event.worker ? Kind::worker : Kind::person;
  who.order = ++orders_;
  nicks_[event.nick] = event.jid;
  if (event.worker) {
    ++workers_;
    who.drained = drained_.contains(event.jid);
    if (shown_.size() < kShownMax) shown_.insert(event.jid), who.shown = true;
    else hidden_.emplace(who.order, event.jid);
  } else {
    people_.insert(event.jid);
  }
  out_.push_back(Remember{event.jid, event.nick});
  enter(event, who);
}

/// Everything that one needs to know who is in, last itself (XEP-0045 §7.2.2); so often as it asks, since it asks when it lost track.
void Market::enter(const Came& event, Occupant& who) {
  away_.erase(event.jid), recall_.erase(event.jid);
  on_their_way_.erase(event.jid);
  returning_.back(event.jid, now_);
  who.caps_node = event.caps_node, who.caps_hash = event.caps_hash, who.show = event.show, who.status = shortened(event.status, kStatusMax);
  const bool person = who.kind == Kind::person;
  out_.push_back(manager_for(event.jid, person));
  std::get<Show>(out_.back()).unless_greeted = !person && event.says_hello;
  if (person) {
    for (const auto* list : {&people_, &shown_})
      for (const std::string& jid : *list)
        if (jid != event.jid) out_.push_back(show_of(event.jid, jid, occupants_.at(jid)));
  }
  Show self = show_of(event.jid, event.jid, who);
  self.codes = person ? std::vector<int>{100, 110} : std::vector<int>{110};
  out_.push_back(std::move(self));
  // A worker reads no subject: two stanzas for each are two thirds of three.
  if (person) out_.push_back(Subject{event.jid, subject()});
  if (person) tell_people(event.jid, who, event.jid);
  else if (who.shown) tell_in_time(event.jid, who);
  out_.push_back(Present{event.jid, who.nick, who.caps_node, who.caps_hash, true});
}

void Market::change(const Came& event, Occupant& who) {
  const bool caps = who.caps_hash != event.caps_hash || who.caps_node != event.caps_node;
  const std::string status = shortened(event.status, kStatusMax);
  if (!caps && who.show == event.show && who.status == status) return;
  who.caps_node = event.caps_node, who.caps_hash = event.caps_hash, who.show = event.show, who.status = status;
  if (who.kind == Kind::person) {
    tell_people(event.jid, who);
  } else if (who.shown) {
    tell_in_time(event.jid, who);
  }
  out_.push_back(Present{event.jid, who.nick, who.caps_node, who.caps_hash, false});
}

/// Once a second, whatever that worker does.
void Market::tell_in_time(const std::string& jid, Occupant& who) {
  if (people_.empty()) return;
  if (now_ - who.told < kChangeEvery) return void(changed_.insert(jid));
  changed_.erase(jid);
  who.told = now_;
  tell_people(jid, who);
}

void Market::rename(const std::string& jid, Occupant& who, const std::string& nick) {
  const auto tell = [&](const std::string& to) {
    Show show = show_of(to, jid, who);
    show.gone = true, show.new_nick = nick, show.codes = {303};
    if (to == jid) show.codes.push_back(110);
    out_.push_back(std::move(show));
  };
  for (const std::string& person : people_)
    if (person != jid) tell(person);
  tell(jid);
  nicks_.erase(who.nick);
  out_.push_back(Remember{jid, who.nick, false});
  who.nick = nick;
  nicks_[nick] = jid;
  out_.push_back(Remember{jid, nick});
  // Under the new name, to everybody as well (XEP-0045 §7.6).
  Show self = show_of(jid, jid, who);
  self.codes = {110};
  tell_people(jid, who, jid);
  out_.push_back(std::move(self));
  out_.push_back(Present{jid, nick, who.caps_node, who.caps_hash, false});
}

void Market::take(const Left& event) {
  const auto known = occupants_.find(event.jid);
  if (known != occupants_.end()) return remove(known);
  if (event.nick.empty()) return;
  // Who thinks that it is in a room that forgot it wants to hear that it left.
  Show echo{event.jid, event.nick, event.jid, "none", "none", {}, {}, {}, {}, true, {110}, {}, {}, {}};
  out_.push_back(std::move(echo));
  away_.erase(event.jid), recall_.erase(event.jid);
  if (!returning_.awaits(event.jid)) return;
  returning_.back(event.jid, now_);
  out_.push_back(Remember{event.jid, {}, false});
  out_.push_back(Gone{event.jid});
}

void Market::take(const Bounced& event) {
  const auto known = occupants_.find(event.jid);
  if (known != occupants_.end()) remove(known, {333}, {}, {}, false);
}

void Market::remove(Occupants::iterator at, std::vector<int> codes, const std::string& reason, const std::string& by, bool tells_it) {
  const std::string jid = at->first;
  const Occupant who = std::move(at->second);
  nicks_.erase(who.nick);
  people_.erase(jid), shown_.erase(jid), changed_.erase(jid), hidden_.erase(who.order);
  if (who.kind == Kind::worker) --workers_;
  occupants_.erase(at);
  Show gone{"", who.nick, jid, codes == std::vector<int>{301} ? "outcast" : "none", "none", {}, {}, {}, {}, true, codes, {}, reason, by};
  if (who.kind == Kind::person || who.shown)
    for (const std::string& person : people_) {
      gone.to = person;
      out_.push_back(gone);
    }
  // A worker that leaves reads nothing any more.
  if (tells_it && (who.kind == Kind::person || !codes.empty())) {
    gone.to = jid;
    gone.codes.push_back(110);
    out_.push_back(std::move(gone));
  }
  out_.push_back(Remember{jid, who.nick, false});
  out_.push_back(Gone{jid});
}

// ---- The market itself -------------------------------------------------------------------------------------------------------------

void Market::take(const Opened&) {
  open_ = true;
  returning_.opened(now_);
  slice_at_ = now_ - kRecallEvery;
  count_at_ = now_;
}

/// The server may have forgotten all sessions, or kept them: whoever is still there is told to come in again.
void Market::take(const Lost&) {
  if (!std::exchange(open_, false)) return;
  for (auto& [jid, who] : occupants_) {
    away_[jid] = who.nick;
    returning_.lost(jid);
  }
  for (const auto& [jid, nick] : away_) recall_.insert(jid);  // also those whose call may have been lost with the link
  returning_.closed();
  recalled_.clear(), on_their_way_.clear();
  occupants_.clear(), nicks_.clear(), people_.clear(), shown_.clear(), hidden_.clear(), changed_.clear();
  workers_ = 0;
}

void Market::take(const Closing&) {
  if (!std::exchange(open_, false)) return;
  for (const auto& [jid, who] : occupants_) {
    if (who.kind == Kind::person) {
      out_.push_back(Show{jid, who.nick, jid, "none", "none", {}, {}, {}, {}, true, {110, 332}, {}, {}, {}});
    } else {
      Show manager = manager_for(jid, false);
      manager.gone = true;
      out_.push_back(std::move(manager));
    }
  }
}

void Market::take(const Troubled& event) {
  trouble_ = event.why;
  for (const std::string& person : people_) {
    out_.push_back(manager_for(person, true));
    out_.push_back(Subject{person, subject()});
  }
  counted_ = manager_status();
}

void Market::take(const Tick&) {
  if (!open_) return;
  if (now_ >= slice_at_ + kRecallEvery && !recall_.empty()) {
    slice_at_ = now_;
    for (; !recalled_.empty() && now_ - recalled_.front().first >= kRecallPatience; recalled_.pop_front()) on_their_way_.erase(recalled_.front().second);
    for (std::size_t n = 0; n < kRecallSlice && on_their_way_.size() < kRecallWindow && !recall_.empty(); ++n) {
      const auto one = away_.find(*recall_.begin());
      // 332: out, for the system shuts down. Workers and stock clients alike come in again.
      out_.push_back(Show{one->first, one->second, one->first, "none", "none", {}, {}, {}, {}, true, {110, 332}, {}, {}, {}});
      recalled_.emplace_back(now_, one->first);
      on_their_way_.insert(one->first);
      recall_.erase(recall_.begin());
    }
  }
  for (const std::string& jid : returning_.given_up(now_)) {
    away_.erase(jid), recall_.erase(jid);
    out_.push_back(Remember{jid, "", false});
    out_.push_back(Gone{jid});
  }
  if (now_ < count_at_ + kChangeEvery || people_.empty()) return;
  count_at_ = now_;
  for (const std::string& jid : std::exchange(changed_, {})) {
    Occupant& who = occupants_.at(jid);
    who.told = now_;
    tell_people(jid, who);
  }
  fill_shown();
  if (const std::string status = manager_status(); status != counted_) {
    counted_ = status;
    for (const std::string& person : people_) out_.push_back(manager_for(person, true));
  }
}

/// Of those that nobody sees some are shown when others left. Once a second, so that thousands that leave are not shown first.
void Market::fill_shown() {
  while (shown_.size() < kShownMax && !hidden_.empty()) {
    const std::string jid = hidden_.begin()->second;
    hidden_.erase(hidden_.begin());
    shown_.insert(jid);
    Occupant& who = occupants_.at(jid);
    who.shown = true, who.told = now_;
    tell_people(jid, who);
  }
}

// ---- People ----------------------------------------------------------------------------------------------------------------------

void Market::take(const Said& event) {
  const auto known = occupants_.find(event.jid);
  if (known == occupants_.end()) return refuse("modify", "not-acceptable", "you are not in this room: join it");
  if (known->second.kind == Kind::worker) return refuse("auth", "forbidden", "workers do not talk here");
  if (event.type != "groupchat" || !event.nick.empty()) return refuse("cancel", "feature-not-implemented", "no private messages in this room: write to their own address");
  if (event.subject && event.body.empty()) return refuse("auth", "forbidden", "the manager sets the subject");
  if (event.body.empty()) return;  // that somebody is typing is no news here
  if (event.body.size() > kBodyMax) return refuse("modify", "policy-violation", "a message has at most " + std::to_string(kBodyMax) + " bytes here");
  if (!spend(event.jid, 1)) return refuse("wait", "resource-constraint", "too many messages at once: wait a few seconds");
  for (const std::string& person : people_) out_.push_back(Relay{person, known->second.nick, event.id.size() > kIdMax ? std::string() : event.id, event.body});
}

std::size_t Market::seats_of(const std::string& jid) const {
  const std::string prefix = bare_of(jid) + '/';
  std::size_t seats = 0;
  for (auto at = people_.lower_bound(prefix); at != people_.end() && at->starts_with(prefix); ++at) ++seats;
  return seats;
}

bool Market::spend(const std::string& jid, double tokens) {
  if (now_ - pruned_at_ > std::chrono::seconds(1)) {  // whoever's budget is full again needs none
    pruned_at_ = now_;
    std::erase_if(budgets_, [this](const auto& one) { return now_ - one.second.at > std::chrono::seconds(static_cast<int>(kBurst / kPerSecond) + 1); });
  }
  const auto [at, fresh] = budgets_.try_emplace(bare_of(jid), Budget{kBurst, now_});
  Budget& budget = at->second;
  budget.left = std::min(kBurst, budget.left + std::chrono::duration<double>(now_ - budget.at).count() * kPerSecond);
  budget.at = now_;
  if (budget.left < tokens) return false;
  budget.left -= tokens;
  return true;
}

void Market::take(const Kicked& event) {
  if (!admin(event.by)) return refuse("auth", "forbidden", "only admins of the grid (--admin) may do that");
  const auto at = by_nick(event.nick);
  if (event.nick == kManagerNick || (at != occupants_.end() && admin(at->first))) return refuse("cancel", "not-allowed", "that one stays");
  if (at == occupants_.end()) return refuse("cancel", "item-not-found", "nobody here has that name");
  if (at->second.kind == Kind::person) return remove(at, {307}, event.reason, event.by);
  // A worker that were put out now would take its tasks with it, and be back in a moment.
  at->second.drained = true;
  drained_.insert(at->first);
  out_.push_back(Drain{at->first, true});
  if (at->second.shown) tell_people(at->first, at->second);
}

void Market::take(const Readmitted& event) {
  if (!admin(event.by)) return refuse("auth", "forbidden", "only admins of the grid (--admin) may do that");
  const auto at = by_nick(event.nick);
  if (at == occupants_.end() || at->second.kind != Kind::worker) return refuse("cancel", "item-not-found", "no worker here has that name");
  at->second.drained = false;
  drained_.erase(at->first);
  out_.push_back(Drain{at->first, false});
  if (at->second.shown) tell_people(at->first, at->second);
}

void Market::take(const Banned& event) {
  const std::string jid = bare_of(event.jid);
  if (!admin(event.by)) return refuse("auth", "forbidden", "only admins of the grid (--admin) may do that");
  if (jid == bare_of(rules_.manager) || admin(jid)) return refuse("cancel", "not-allowed", "that one stays");
  if (bans_.size() >= kBansMax && !bans_.contains(jid)) return refuse("wait", "resource-constraint", "too many are banned");
  if (bans_.insert(jid).second) out_.push_back(KeepBan{jid, true});
  std::vector<std::string> out;
  for (auto at = occupants_.lower_bound(jid); at != occupants_.end() && at->first.starts_with(jid); ++at)
    if (bare_of(at->first) == jid) out.push_back(at->first);
  for (const std::string& one : out) remove(occupants_.find(one), {301}, event.reason, event.by);
}

void Market::take(const BanLifted& event) {
  const std::string jid = bare_of(event.jid);
  if (!admin(event.by)) return refuse("auth", "forbidden", "only admins of the grid (--admin) may do that");
  if (bans_.erase(jid) > 0) out_.push_back(KeepBan{jid, false});
}

// ---- What they see -----------------------------------------------------------------------------------------------------------------

void Market::tell_people(const std::string& jid, const Occupant& who, const std::string& except) {
  for (const std::string& person : people_) {
    if (person == except) continue;
    Show show = show_of(person, jid, who);
    if (person == jid) show.codes = {110};
    out_.push_back(std::move(show));
  }
}

Show Market::show_of(const std::string& to, const std::string& jid, const Occupant& who) const {
  Show show{to, who.nick, jid, "none", who.kind == Kind::worker ? "visitor" : "participant", who.caps_node, who.caps_hash, who.show, who.status, false, {}, {}, {}, {}};
  if (who.kind == Kind::person && admin(jid)) show.affiliation = "admin", show.role = "moderator";
  if (who.drained) show.show = "xa", show.status = "draining: an admin wants it so" + (who.status.empty() ? "" : "; " + who.status);
  return show;
}

Show Market::manager_for(const std::string& to, bool person) const {
  Show show{to, kManagerNick, rules_.manager, "owner", "moderator", {}, {}, {}, {}, false, {}, {}, {}, {}};
  if (!person) return show;  // all that a worker looks at
  show.caps_node = rules_.caps_node, show.caps_hash = rules_.caps_hash;
  show.show = trouble_.empty() ? "" : "dnd";
  show.status = manager_status();
  return show;
}

std::string Market::manager_status() const {
  if (!trouble_.empty()) return trouble_;
  std::string text = grouped(workers_) + (workers_ == 1 ? " worker" : " workers");
  if (shown_.size() < workers_) text += ", " + std::to_string(shown_.size()) + " of them shown";
  return text;
}

std::string Market::subject() const { return trouble_.empty() ? rules_.greeting : "Souk marketplace: " + trouble_; }

Market::Occupants::iterator Market::by_nick(const std::string& nick) {
  const auto at = nicks_.find(nick);
  return at == nicks_.end() ? occupants_.end() : occupants_.find(at->second);
}

const std::string* Market::nick_of(const std::string& jid) const {
  const auto at = occupants_.find(jid);
  return at == occupants_.end() ? nullptr : &at->second.nick;
}

std::vector<Market::Seen> Market::occupants(std::size_t most) const {
  std::vector<Seen> all{{kManagerNick, rules_.manager, "owner", "moderator"}};
  for (const auto* list : {&people_, &shown_})
    for (const std::string& jid : *list) {
      if (all.size() >= most) return all;
      const Show show = show_of({}, jid, occupants_.at(jid));
      all.push_back({show.nick, jid, show.affiliation, show.role});
    }
  return all;
}

}  // namespace souk::served
