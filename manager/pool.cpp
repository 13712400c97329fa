#include "manager/pool.h"

#include <gloox/tag.h>
#include <google/protobuf/arena.h>
#include <spdlog/spdlog.h>

#include <boost/asio/post.hpp>
#include <algorithm>
#include <charconv>
#include <unordered_set>

#include "manager/roster.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"
#include "protocol/stanza_router.h"

namespace souk {

using namespace std::chrono_literals;

namespace {

constexpr auto kDeadline = 20s;          // for an answer of a worker
constexpr std::size_t kOffersMax = 10000;  // capability hashes remembered
constexpr int kHeldMax = 100000;         // attempts one stanza may name
constexpr int kReportedMax = 16384;      // results, and attempts handed back, of one report: a worker's has 96 KiB, and it holds 8,192 attempts
constexpr std::chrono::milliseconds kDebtMax{50};  // of our time that a worker took lately,
constexpr int kDebtPaidIn = 4;                     // of which it has a quarter at any time: beyond that its stanzas wait for their turn,
constexpr unsigned kWaitingMax = 16;               // so many of them
constexpr std::size_t kToStopMax = 16384;          // attempts that a worker is still to be told of that it shall stop
constexpr std::size_t kPiecesEntriesMax = 10000;  // attempts with unfinished streams, per worker
constexpr auto kLeftTogether = 3s;       // before our link fell: a server that is stopped in good order sends everybody's leave first
constexpr auto kAgainMax = 60s;          // between two tries to greet somebody

constexpr std::uint64_t kNumberMax = 1'000'000'000'000;  // of epochs and jobs that workers tell of
constexpr std::size_t kRuleMax = 256;    // bytes of an owner's rule in words

std::optional<Instant> until_of(std::uint64_t until_ms) {
  if (until_ms == 0) return std::nullopt;
  return Clocks::read().at(until_ms);
}
std::string rule_of(const std::string& text) { return shortened(printable(text), kRuleMax); }
Held held_of(const wire::Attempt& a) { return {{{a.epoch()}, a.number()}, {{a.job()}, {a.task()}}}; }
void write(const Held& held, wire::Attempt& a) {
  a.set_epoch(held.attempt.epoch.value), a.set_number(held.attempt.number), a.set_job(held.task.job.value), a.set_task(held.task.task.value);
}
std::string_view major(std::string_view version) { return version.substr(0, version.find('.')); }
WorkerState state_of(wire::WorkerState state) {
  switch (state) {
    case wire::DRAINING: return WorkerState::draining;
    case wire::PAUSED: return WorkerState::paused;
    case wire::BUSY: return WorkerState::busy;
    default: return WorkerState::free;
  }
}
/// What `<stale/>` tells in the answer to a hello. Numbers that no manager reaches are no answer.
std::optional<std::pair<Epoch, JobId>> stale_in(const gloox::Tag& answer) {
  const gloox::Tag* error = answer.findChild("error");
  const gloox::Tag* stale = error ? error->findChild("stale", "xmlns", ns::task) : nullptr;
  if (!stale) return std::nullopt;
  const auto number = [&](const char* name) -> std::uint64_t {
    const std::string text = stale->findAttribute(name);
    std::uint64_t value = 0;
    const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
    return failure == std::errc{} && end == text.data() + text.size() && value <= kNumberMax ? value : 0;
  };
  return std::pair{Epoch{number("epoch")}, JobId{number("jobs")}};
}
}  // namespace

Pool::Pool(boost::asio::io_context& loop, XmppLink& link, JobBook& book, Epoch epoch, ClaimsKey claims_key, Duration lease, std::function<bool(const std::string& jid)> may_work,
           std::uint64_t outputs_max)
    : loop_(loop), link_(link), book_(book), epoch_(epoch), claims_(claims_key, epoch), lease_(lease), may_work_(std::move(may_work)), outputs_(outputs_max), drained_(loop), together_late_(loop) {
  registrations_.push_back(link.on_iq("report", ns::task, [this](const auto& iq, const auto&) { hear(iq); }));
  registrations_.push_back(link.on_iq("lease", ns::task, [this](const auto& iq, const auto&) { hear(iq); }));
}

// ---- Who is there --------------------------------------------------------------------------------------------------------------

void Pool::Debt::pay(std::chrono::steady_clock::time_point now) {
  owed = std::max<std::chrono::nanoseconds>(std::chrono::nanoseconds(0), owed - (now - std::exchange(at, now)) / kDebtPaidIn);
}

/// Beyond what everybody may.
std::chrono::nanoseconds Pool::owed_by(const std::string& jid) {
  const auto debt = debts_.find(jid);
  if (debt == debts_.end()) return 0ns;
  debt->second.pay(std::chrono::steady_clock::now());
  return std::max<std::chrono::nanoseconds>(0ns, debt->second.owed - kDebtMax);
}

void Pool::took(const std::string& jid, std::chrono::steady_clock::time_point begin) {
  const auto now = std::chrono::steady_clock::now();
  Debt& debt = debts_[jid];
  debt.pay(now);
  debt.owed += now - begin;
}

void Pool::present(const Occupant& occupant) {
  if (peers_.size() >= kPeersMax && !peers_.contains(occupant.jid)) return spdlog::warn("ignored occupant jid={} why=\"over {} are in the market\"", printable(occupant.jid), kPeersMax);
  Peer& peer = peers_[occupant.jid];
  const bool changed = peer.occupant.caps_hash != occupant.caps_hash || peer.occupant.nick != occupant.nick;
  peer.occupant = occupant;
  if (peer.joined && changed) nicks_[peer.id] = members_[peer.id].nick = occupant.nick;
  if (peer.asking || peer.queued || (peer.joined && !occupant.entered)) return;
  meet(occupant.jid);
}

/// Greets a worker, maybe not for the first time: its stream or ours was new, so neither is sure what the other has.
void Pool::meet(const std::string& jid) {
  Peer& peer = peers_[jid];
  // Nothing more is given to it until it said what it holds.
  if (peer.joined) tell(WorkerChanged{peer.id, WorkerState::paused});
  peer.owed = may_work_(jid) && !fenced_;
  if (!peer.owed) return no_worker(jid);
  if (const auto owed = owed_by(jid); owed > 0ns) {  // its answer may name a hundred thousand attempts, each time it comes: tick() greets it later
    peer.again = std::chrono::steady_clock::now() + owed * kDebtPaidIn;
    return;
  }
  if (std::exchange(peer.queued, true)) return;
  to_greet_.push_back(jid);
  next();
}

/// A thousand workers that come back at once are greeted as fast as they answer, and neither the server nor we hold a thousand questions.
void Pool::next() {
  while (asking_ < asking_max_ && !to_greet_.empty()) {
    const std::string jid = std::move(to_greet_.front());
    to_greet_.pop_front();
    const auto at = peers_.find(jid);
    if (at == peers_.end() || !std::exchange(at->second.queued, false)) continue;
    learn(jid);
  }
}

void Pool::ask(Peer& peer, bool asking) {
  if (std::exchange(peer.asking, asking) == asking) return;
  asking ? ++asking_ : --asking_;
}

/// It will not be greeted, so nobody waits for what it has.
void Pool::no_worker(const std::string& jid) {
  Peer& peer = peers_[jid];
  peer.owed = false;
  ask(peer, false);
  is_back(jid);
  on_answered();
}

/// Nobody waits for it any more, nor for the life before its present one.
void Pool::is_back(const std::string& jid) {
  const Instant now = Clocks::read().now;
  if (awaited_.awaits(jid)) return awaited_.back(jid, now);
  if (const auto earlier = awaited_.find_if([&](const std::string& one) { return Roster::stem(one) == Roster::stem(jid); })) awaited_.back(*earlier, now);
}

void Pool::fence() {
  fenced_ = true;
  to_greet_.clear();
  for (auto& [jid, peer] : peers_) {
    peer.owed = peer.queued = false;
    peer.to_assign.clear();
    peer.answering = 0;
  }
}

/// It could not be greeted now; tick() tries again, after longer and longer pauses.
void Pool::later(const std::string& jid, const std::string& why) {
  const auto at = peers_.find(jid);
  if (at == peers_.end()) return;
  Peer& peer = at->second;
  ask(peer, false);
  next();
  const auto pause = std::min<std::chrono::steady_clock::duration>(kAgainMax, 1s * (1 << std::min(6, peer.failures++)));
  peer.again = std::chrono::steady_clock::now() + pause;
  spdlog::warn("cannot greet jid={} why=\"{}\" again_s={}", jid, printable(why), std::chrono::duration_cast<std::chrono::seconds>(pause).count());
  on_answered();
}

void Pool::tick() {
  const auto now = std::chrono::steady_clock::now();
  std::vector<std::string> due;
  for (const auto& [jid, peer] : peers_)
    if (peer.owed && !peer.asking && !peer.queued && peer.again <= now) due.push_back(jid);
  for (const auto& jid : due) meet(jid);
  asking_max_ = asking_ + kGreetingsMax;  // who does not answer, as behind a cut, holds up nobody
  next();
  for (auto& [jid, peer] : peers_)
    for (auto at = peer.pieces.begin(); at != peer.pieces.end();) {
      const auto here = at++;
      if (here->second.last + kPiecesLast < now) drop_pieces(peer, here);
    }
  for (auto at = debts_.begin(); at != debts_.end();) {
    at->second.pay(now);
    at = at->second.owed == 0ns ? debts_.erase(at) : std::next(at);
  }
}

void Pool::closed() {
  // What those ran was given up, and is theirs again if they come back before somebody else got it.
  const auto now = std::chrono::steady_clock::now();
  for (const auto& [jid, when] : std::exchange(left_, {}))
    if (now - when <= kLeftTogether) await(jid);
  std::vector<WorkerId> workers;
  for (auto& [jid, peer] : peers_) {
    peer.cut = true;
    peer.to_assign.clear();  // never left: what it says that it holds when it is back is without them
    ask(peer, peer.queued = false);  // what was asked gets no answer
    if (peer.joined) workers.push_back(peer.id);  // what these hold is known, and nobody else gets it
  }
  awaited_.closed();
  to_greet_.clear();
  for (const WorkerId id : workers) tell(WorkerChanged{id, WorkerState::paused});
}

bool Pool::settled() const { return asking_ == 0 && to_greet_.empty() && !awaited_.due(); }

/// disco#info once per capability hash (XEP-0115 §5.4), or once per JID when the hash does not hold what it says.
void Pool::learn(const std::string& jid) {
  Peer& peer = peers_[jid];
  const Occupant& who = peer.occupant;
  if (const auto known = offers_.find(who.caps_hash); !who.caps_hash.empty() && known != offers_.end()) {
    return known->second ? greet(jid, *known->second) : no_worker(jid);
  }
  ask(peer, true);
  auto get = element("iq", {}, {{"type", "get"}, {"to", jid}, {"from", me_}});
  gloox::Tag& asked = child(*get, "query", ns::info);
  if (!who.caps_node.empty() && !who.caps_hash.empty()) asked.addAttribute("node", who.caps_node + '#' + who.caps_hash);
  link_.request(std::move(get), kDeadline, [this, jid, hash = who.caps_hash](const Answer& answer) {
    const auto at = peers_.find(jid);
    if (at == peers_.end()) return;
    const gloox::Tag* query = answer ? answer.iq->findChild("query", "xmlns", ns::info) : nullptr;
    if (!query) {
      // Clients of people may not answer such questions; who may be a worker is asked again.
      if (answer || (answer.error.condition != "service-unavailable" && answer.error.condition != "feature-not-implemented"))
        return later(jid, answer ? "malformed answer" : answer.error.condition);
      no_worker(jid);
      return next();
    }
    ask(at->second, false);
    const DiscoInfo info = info_in(*query);
    std::optional<Offer> offer;
    if (std::find(info.features.begin(), info.features.end(), ns::task) != info.features.end()) {
      for (const Form& form : info.forms) {
        if (form.text("FORM_TYPE") != kOfferForm) continue;
        if (auto read = offer_from(form)) offer = read.value();
        else spdlog::warn("refused offer jid={} why=\"{}\"", jid, read.error().text());
      }
    }
    if (offers_.size() >= kOffersMax)  // of who is gone: those here are few beside them
      std::erase_if(offers_, [this](const auto& known) { return std::none_of(peers_.begin(), peers_.end(), [&](const auto& here) { return here.second.occupant.caps_hash == known.first; }); });
    if (!hash.empty() && caps_hash(info) == hash && offers_.size() < kOffersMax) offers_[hash] = offer;
    if (offer) return greet(jid, *offer);
    no_worker(jid);
    next();
  });
}

void Pool::greet(const std::string& jid, const Offer& offer) {
  Peer& greeted = peers_[jid];
  ask(greeted, true);
  flush(greeted);  // what it was given before must come before the hello, or it would say that it does not have it
  auto iq = iq_to(greeted);
  add_payload(*iq, "hello", ns::task, greeting());
  link_.request(std::move(iq), kDeadline, [this, jid, offer](const Answer& answer) {
    const auto at = peers_.find(jid);
    if (at == peers_.end()) return;
    Peer& peer = at->second;
    if (!may_work_(jid)) {  // any more
      no_worker(jid);
      return next();
    }
    if (const auto said = answer.refusal ? stale_in(*answer.refusal) : std::nullopt; said && said->first > epoch_) {
      later(jid, "it has obeyed epoch " + std::to_string(said->first.value));
      return on_stale({jid, peer.occupant.nick, said->first, said->second});
    }
    const auto begin = std::chrono::steady_clock::now();
    const gloox::Tag* payload = answer ? answer.iq->findChild("hello", "xmlns", ns::task) : nullptr;
    wire::HelloAnswer hello;
    if (!payload || !payload_in(*payload, hello) || hello.held_size() > kHeldMax)
      return later(jid, answer ? "malformed answer" : answer.error.condition + " " + answer.error.text);
    if (major(hello.version()) != major(SOUK_VERSION)) return later(jid, "it is version " + printable(hello.version()));
    ask(peer, false);
    next();
    joins(jid, offer, hello);
    took(jid, begin);
  });
}

wire::Hello Pool::greeting() const {
  wire::Hello greeting;
  greeting.set_epoch(epoch_.value), greeting.set_version(SOUK_VERSION);
  greeting.set_lease_ms(static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(lease_).count()));
  return greeting;
}

/// Of a worker whose offer is known that saves two stanzas of five. Not of one that we may have given something after it said what it holds; nor of one
/// that has to refuse us: an iq brings that back.
bool Pool::hello(const Occupant& occupant, const gloox::Tag& said, gloox::Tag& answer) {
  if (fenced_ || !may_work_(occupant.jid)) return false;
  const auto known = offers_.find(occupant.caps_hash);
  if (occupant.caps_hash.empty() || known == offers_.end() || !known->second) return false;
  const auto at = peers_.find(occupant.jid);
  if (at == peers_.end() ? peers_.size() >= kPeersMax : at->second.asking || at->second.queued || (at->second.joined && !at->second.cut)) return false;
  if (owed_by(occupant.jid) > 0ns) return false;
  const auto begin = std::chrono::steady_clock::now();
  wire::HelloAnswer hello;
  if (!payload_in(said, hello) || hello.held_size() > kHeldMax || hello.epoch_seen() > epoch_.value) return false;
  if (major(hello.version()) != major(SOUK_VERSION)) return false;
  peers_[occupant.jid].occupant = occupant;
  add_payload(answer, "hello", ns::task, greeting());
  joins(occupant.jid, *known->second, hello);
  took(occupant.jid, begin);
  return true;
}

/// It is greeted, and said what it holds.
void Pool::joins(const std::string& jid, const Offer& offer, const wire::HelloAnswer& hello) {
  Peer& peer = peers_.at(jid);
  peer.owed = peer.cut = false;
  peer.answering = 0;  // a report of before may wait for its commit yet: what it is given now does not
  peer.failures = 0;
  if (!fenced_ && hello.jobs_seen() > 0 && hello.jobs_seen() <= kNumberMax) on_job_seen(jid, peer.occupant.nick, {hello.jobs_seen()});
  if (fenced_) return;
  auto [id, fresh] = ids_.try_emplace(jid, WorkerId{last_id_.value + 1});
  if (fresh) last_id_ = id->second;
  peer.id = id->second;
  peer.joined = true;
  is_back(jid);
  peer.said = state_of(hello.state());
  peer.has_command.clear();
  jids_[peer.id] = jid;
  nicks_[peer.id] = peer.occupant.nick;
  Member& member = members_[peer.id];
  member = {peer.id, peer.occupant.nick, jid, offer, member.since_ms ? member.since_ms : Clocks::read().now_ms, rule_of(hello.rule()), hello.until_ms()};
  hosts_[peer.id] = offer.hostname;
  // What it offers now may be less than its machine has, by its owner's rules, but never more.
  const int slots = hello.slots() == 0 ? 1 : static_cast<int>(std::min<std::uint32_t>(hello.slots(), static_cast<std::uint32_t>(offer.slots)));
  WorkerJoined joined{peer.id, std::make_shared<const Offer>(offer), member.nick, bare(jid), slots, state_for(jid, peer.said), {}, until_of(hello.until_ms()), {}, Roster::stem(jid)};
  joined.held = believed(peer, hello.held());
  spdlog::info("worker joined worker={} nick=\"{}\" jid={} slots={} state={} held={} version={} rule=\"{}\"", peer.id.value, peer.occupant.nick, jid, joined.slots, name_of(joined.state),
               joined.held.size(), printable(hello.version()), member.rule);
  tell(joined);
  on_answered();
}

void Pool::gone(const std::string& jid) {
  if (awaited_.awaits(jid)) {
    awaited_.back(jid, Clocks::read().now);  // to say that it left
    boost::asio::post(loop_, [this] { on_answered(); });
  }
  const auto at = peers_.find(jid);
  if (at == peers_.end()) return;
  const bool joined = at->second.joined;
  const WorkerId id = at->second.id;
  while (!at->second.pieces.empty()) drop_pieces(at->second, at->second.pieces.begin());
  ask(at->second, false);
  peers_.erase(at);
  next();
  if (id != WorkerId{}) past_.emplace_back(id, jid);
  if (joined) {
    members_.erase(id);
    dirty_.erase(id);
    const auto now = std::chrono::steady_clock::now();
    std::erase_if(left_, [now](const auto& one) { return now - one.second > kLeftTogether; });
    left_[jid] = now;
    spdlog::info("worker left worker={} jid={}", id.value, jid);
    tell(WorkerLost{id});
  }
  forget_past();
}

void Pool::drain(const std::string& jid, bool drained) {
  if (!(drained ? retired_.insert(jid).second : retired_.erase(jid) > 0)) return;
  const auto at = peers_.find(jid);
  if (at == peers_.end() || !at->second.joined || at->second.asking || at->second.queued) return;  // it is asked what it is, and that answer counts
  tell(WorkerChanged{at->second.id, state_for(jid, at->second.said)});
}

/// What is known of those that left long ago, and many others since, goes: each worker that starts has a JID of its own.
void Pool::forget_past() {
  while (past_.size() > kPastMax) {
    const auto [id, jid] = std::move(past_.front());
    past_.pop_front();
    if (peers_.contains(jid)) continue;  // back, or it left once more since
    if (const auto known = ids_.find(jid); known == ids_.end() || known->second != id || std::any_of(past_.begin(), past_.end(), [&](const auto& later) { return later.second == jid; })) continue;
    ids_.erase(jid);
    jids_.erase(id), nicks_.erase(id), hosts_.erase(id);
  }
}

/// Its stanzas come back although the room has it: it left, and we are about to hear of that, or it lives behind a broken stream.
void Pool::bounced(const std::string& jid) {
  const auto at = peers_.find(jid);
  if (at == peers_.end() || !at->second.joined) return;
  const WorkerId id = at->second.id;
  at->second.joined = false;
  at->second.to_assign.clear();
  ask(at->second, false);
  at->second.owed = true;
  at->second.again = std::chrono::steady_clock::now() + 1s;
  members_.erase(id);
  dirty_.erase(id);
  tell(WorkerLost{id});
}

void Pool::recheck() {
  std::vector<std::string> out, in;
  for (const auto& [jid, peer] : peers_) {
    const bool known = peer.joined || peer.owed || peer.asking || peer.queued, may = may_work_(jid);
    if (known && !may) out.push_back(jid);
    if (!known && may) in.push_back(jid);
  }
  for (const std::string& jid : out) dismiss(jid);
  for (const std::string& jid : in) meet(jid);
}

/// It is still in the room, but no worker of ours any more.
void Pool::dismiss(const std::string& jid) {
  Peer& peer = peers_[jid];
  spdlog::info("worker may work no longer worker={} jid={}", peer.id.value, jid);
  while (!peer.pieces.empty()) drop_pieces(peer, peer.pieces.begin());
  const bool joined = std::exchange(peer.joined, false);
  const WorkerId id = peer.id;
  peer.to_assign.clear();
  peer.queued = false;  // in to_greet_ it is passed over
  no_worker(jid);
  if (!joined) return;
  members_.erase(id);
  dirty_.erase(id);
  tell(WorkerLost{id});
}

// ---- To the workers ------------------------------------------------------------------------------------------------------------

void Pool::assign(WorkerId worker, TaskId task, AttemptId attempt, unsigned run) {
  if (Peer* to = peer(worker)) return to->to_assign.push_back({task, attempt, run}), flush_soon(worker);
  boost::asio::post(loop_, [this, worker, attempt] { refused(worker, {attempt}); });
}

void Pool::stop(WorkerId worker, const Held& what) {
  Peer* to = peer(worker);
  if (!to) return;
  if (to->to_stop.size() >= kToStopMax) return;  // it says that it holds what nobody gave it; it hears the rest at its next lease
  // Assigned in this very turn: it never leaves, but the worker must still report it as canceled for the books; so both go, in order.
  to->to_stop.push_back({{what.attempt.epoch, claims_.sealed(to->occupant.jid, what)}, what.task});
  flush_soon(worker);
}

void Pool::dropped(WorkerId worker, const Held& what, std::string_view why) {
  Peer* by = peer(worker);
  const auto left_out = (by ? by->noise : noise_).take(Clocks::read().now);
  if (!left_out) return;
  spdlog::info("dropped result task={}.{} attempt={} epoch={} worker={} why=\"{}\"{}", what.task.job.value, what.task.task.value, what.attempt.number, what.attempt.epoch.value, worker.value, why, also(*left_out));
}

void Pool::flush_soon(WorkerId worker) {
  dirty_.insert(worker);
  if (std::exchange(posted_, true)) return;
  boost::asio::post(loop_, [this] { flush_dirty(); });
}

/// Worker by worker, while the server takes it: the rest, and large commands above all, waits until it has read some, so that the queue of the link
/// never comes near its end. A slice at a time: to encode large commands for many workers takes seconds, in which leases arrive.
void Pool::flush_dirty() {
  constexpr std::chrono::milliseconds slice{10};
  posted_ = false;
  const auto until = std::chrono::steady_clock::now() + slice;
  for (auto& left = dirty_; !left.empty();) {
    if (link_.queued() > kQueueHigh) {
      posted_ = true;
      drained_.expires_after(20ms);
      drained_.async_wait([this](auto error) {
        if (!error) flush_dirty();
      });
      return;
    }
    const WorkerId id = *left.begin();
    left.erase(left.begin());
    if (Peer* to = peer(id); to && (to->answering == 0 || !to->to_stop.empty())) flush(*to);
    if (std::chrono::steady_clock::now() >= until) break;
  }
  if (!dirty_.empty() && !std::exchange(posted_, true)) boost::asio::post(loop_, [this] { flush_dirty(); });
}

void Pool::send_command(Peer& peer, JobId job, std::uint32_t group, const wire::Command& command) {
  const std::string bytes = command.SerializeAsString();
  for (std::size_t at = 0; at < bytes.size(); at += kStanzaMax) {
    wire::CommandPart part;
    part.set_job(job.value), part.set_group(group), part.set_offset(at), part.set_size(bytes.size());
    part.set_data(bytes.substr(at, kStanzaMax));
    auto iq = iq_to(peer);
    add_payload(*iq, "command", ns::task, part);
    link_.request(std::move(iq), kDeadline, [](const Answer&) {});  // a failure shows as `missing` at the next assignment
  }
  peer.has_command.insert({job, group});
}

/// So that the worker can see for itself whether it takes the tasks of that job: those of the groups it names that the job's owner is in.
std::vector<std::string> Pool::groups_told(const JobEntry& entry, const std::vector<Who>& accept) const {
  std::vector<std::string> told = groups_.of(entry.row.owner);
  std::erase_if(told, [&](const std::string& group) { return std::none_of(accept.begin(), accept.end(), [&](const Who& who) { return who.kind == Who::Kind::group && who.name == group; }); });
  return told;
}

/// Takes as many as one stanza holds from what it is to be given, and writes them down. None, if a large command has to wait: they go later.
std::vector<AttemptId> Pool::take_given(Peer& peer, wire::Assign& assign) {
  const Member* of = peer.to_assign.empty() ? nullptr : member(peer.id);
  const std::vector<Who>* const picky = of && !of->offer.accept.empty() ? &of->offer.accept : nullptr;  // it does not take anyone's tasks
  assign.set_epoch(epoch_.value);
  std::set<std::pair<JobId, std::uint32_t>> named;
  std::vector<AttemptId> attempts;
  std::vector<AttemptId> stale;
  std::size_t bytes = 0, next = 0;
  bool later = false;
  for (; next < peer.to_assign.size() && attempts.size() < kAssignmentsMax; ++next) {
    const auto [task, attempt, run] = peer.to_assign[next];
    const JobEntry* entry = book_.find(task.job);
    const std::uint32_t group = entry ? entry->group_of(task.task) : 0;
    if (!entry || group >= static_cast<std::uint32_t>(entry->job.groups_size())) {  // it ended
      stale.push_back(attempt);
      continue;
    }
    const std::pair key{task.job, group};
    const wire::Command& command = entry->command_of(group);
    const wire::Needs& needs = entry->job.groups(static_cast<int>(group)).needs();
    const std::uint64_t size = entry->places[group].command_size;
    const bool large = size > kCommandInline;
    const bool introduces = !named.contains(key);
    const std::string item = item_of(*entry, task.task);
    const std::vector<std::string> groups = introduces && picky ? groups_told(*entry, *picky) : std::vector<std::string>{};
    std::size_t adds = item.size() + 48 + (introduces ? needs.ByteSizeLong() + entry->row.owner.size() + (large ? 0 : size) + 16 : 0);
    for (const std::string& one : groups) adds += one.size() + 2;
    if (!attempts.empty() && bytes + adds > kStanzaMax) break;
    if (large && !peer.has_command.contains(key) && link_.queued() > kQueueHigh) {
      later = true;
      break;
    }
    bytes += adds;
    if (large && !peer.has_command.contains(key)) send_command(peer, task.job, group, command);
    if (introduces) {
      named.insert(key);
      auto& with = *assign.add_commands();
      with.set_job(task.job.value), with.set_group(group), with.set_owner(entry->row.owner);
      if (needs.ByteSizeLong() > 0) *with.mutable_needs() = needs;
      if (!large) *with.mutable_command() = command;
      for (const std::string& one : groups) with.add_groups(one);
    }
    auto& one = *assign.add_assignments();
    one.set_number(claims_.sealed(peer.occupant.jid, {attempt, task})), one.set_job(task.job.value), one.set_task(task.task.value), one.set_item(item), one.set_group(group);
    if (run > 1) one.set_run(run);
    attempts.push_back(attempt);
  }
  peer.to_assign.erase(peer.to_assign.begin(), peer.to_assign.begin() + static_cast<std::ptrdiff_t>(next));
  if (later) flush_soon(peer.id);
  if (!stale.empty()) boost::asio::post(loop_, [this, worker = peer.id, stale] { refused(worker, stale); });
  return attempts;
}

void Pool::flush(Peer& peer) {
  peer.answering = 0;
  while (!peer.to_assign.empty()) {
    google::protobuf::Arena arena;
    wire::Assign& assign = *google::protobuf::Arena::CreateMessage<wire::Assign>(&arena);
    const std::vector<AttemptId> attempts = take_given(peer, assign);
    if (attempts.empty()) break;  // what is left waits for the server
    auto iq = iq_to(peer);
    add_payload(*iq, "assign", ns::task, assign, {{"tasks", std::to_string(attempts.size())}});
    link_.request(std::move(iq), kDeadline, [this, id = peer.id, jid = peer.occupant.jid, attempts](const Answer& answer) {
      if (!answer) {
        const auto at = peers_.find(jid);
        const bool here = at != peers_.end() && at->second.joined;
        spdlog::warn("assignment not taken worker={} attempts={} why={} text=\"{}\"", id.value, attempts.size(), answer.error.condition, printable(answer.error.text));
        if (!here || answer.error.condition == "disconnected" || answer.error.condition == "timeout") return;  // its lease decides
        // Nobody is there (RFC 6120 §8.3.3.19), or it does not know us any more: meet it again, or see it leave.
        if (answer.error.condition == "service-unavailable" || answer.error.condition == "recipient-unavailable" || answer.error.condition == "remote-server-not-found" ||
            answer.error.condition == "remote-server-timeout") return bounced(jid);
        if (answer.error.condition == "conflict") meet(jid);
        return refused(id, attempts);
      }
      const gloox::Tag* payload = answer.iq->findChild("assign", "xmlns", ns::task);
      wire::AssignAnswer said;
      if (payload && payload_in(*payload, said)) taken(jid, id, attempts, said);  // else: what it did not take, its lease brings back
    });
  }
  if (const auto stops = std::exchange(peer.to_stop, {}); !stops.empty()) {
    for (std::size_t next = 0; next < stops.size();) {
      wire::Stop stop;
      for (; next < stops.size() && stop.attempts_size() < 2000; ++next) write(stops[next], *stop.add_attempts());
      auto iq = iq_to(peer);
      add_payload(*iq, "stop", ns::task, stop);
      link_.request(std::move(iq), kDeadline, [](const Answer&) {});  // said again by the next lease of what it holds
    }
  }
}

/// What a worker says of assignments that it got: of these, or, when it says so in a report, of any.
void Pool::taken(const std::string& jid, WorkerId worker, const std::vector<AttemptId>& attempts, const wire::AssignAnswer& answer) {
  // It may name millions, and each many times: what it names is looked up in what was given to it, which we bound, and none of it is kept.
  if (const auto at = peers_.find(jid); at != peers_.end() && at->second.joined && !at->second.has_command.empty() && answer.missing_size() > 0) {
    std::unordered_set<std::uint64_t> gone;
    for (const std::uint64_t job : answer.missing())
      if (const auto first = at->second.has_command.lower_bound({{job}, 0}); first != at->second.has_command.end() && first->first.value == job) gone.insert(job);
    std::erase_if(at->second.has_command, [&](const auto& has) { return gone.contains(has.first.value); });
  }
  if (answer.refused_size() == 0) return;
  std::unordered_set<std::uint64_t> given;
  for (const AttemptId attempt : attempts) given.insert(attempt.number);
  std::vector<AttemptId> back;
  for (const std::uint64_t number : answer.refused())
    if (given.erase(Claims::number_of(number)) > 0) back.push_back({epoch_, Claims::number_of(number)});
  if (!back.empty()) spdlog::info("refused worker={} attempts={} why=\"{}\"", worker.value, back.size(), printable(answer.why()));
  refused(worker, back);
}

void Pool::refused(WorkerId worker, const std::vector<AttemptId>& attempts) {
  for (const AttemptId attempt : attempts) tell(AttemptRefused{worker, attempt});
}

// ---- From the workers ----------------------------------------------------------------------------------------------------------

std::optional<Held> Pool::proven(const Peer& peer, const Held& said) { return claims_.proven(peer.occupant.jid, said, from_before(bare(peer.occupant.jid))); }

/// Of the attempts that it names those that it was given. The others it is told to forget.
std::vector<Held> Pool::believed(Peer& peer, const google::protobuf::RepeatedPtrField<wire::Attempt>& said) {
  std::vector<Held> all;
  std::size_t invented = 0;
  const std::string& jid = peer.occupant.jid;
  const bool before = from_before(bare(jid));
  for (const auto& attempt : said) {
    const Held named = held_of(attempt);
    if (const auto proven = claims_.proven(jid, named, before)) {
      all.push_back(*proven);
    } else {
      if (peer.to_stop.size() < kToStopMax) peer.to_stop.push_back(named);
      ++invented;
    }
  }
  if (invented > 0) {
    if (const auto left_out = peer.noise.take(Clocks::read().now))
      spdlog::warn("claims of what it was never given worker={} jid={} attempts={}{}", peer.id.value, peer.occupant.jid, invented, also(*left_out));
    flush_soon(peer.id);
  }
  return all;
}

Pool::Peer* Pool::worker_of(const gloox::Tag& iq, bool must_be_joined) {
  const auto at = peers_.find(iq.findAttribute("from"));
  if (at != peers_.end() && !fenced_ && (at->second.joined || !must_be_joined)) return &at->second;
  // Not greeted in this life: its hello is on the way, or it is nobody.
  link_.send(error_of(iq, "cancel", "item-not-found", "not greeted yet in this market: wait for a hello"));
  return nullptr;
}

void Pool::drop_pieces(Peer& peer, std::map<AttemptId, Pieces>::iterator at) {
  peer.pieces_bytes -= at->second.out.size() + at->second.err.size();
  outputs_.give_back(peer.occupant.jid, 2 * at->second.stream_max);
  peer.pieces.erase(at);
}

/// Whether all streams that begin in this report find room; then it is kept for them, as much as their job may write. So who began can always end.
bool Pool::room_for_pieces(Peer& peer, const wire::Report& report) {
  for (const auto& piece : report.pieces()) {
    const Held what = held_of(piece.attempt());
    if (peer.pieces.contains(what.attempt) || peer.pieces.size() >= kPiecesEntriesMax) continue;
    const JobEntry* entry = book_.find(what.task.job);
    std::uint64_t most = kOutputMax;  // of a job that ended
    if (entry)
      if (const std::uint32_t group = entry->group_of(what.task.task); group < static_cast<std::uint32_t>(entry->job.groups_size()))
        most = entry->command_of(group).output_max() == 0 ? kOutputDefault : std::min<std::uint64_t>(entry->command_of(group).output_max(), kOutputMax);
    const auto room = outputs_.room(peer.occupant.jid, 2 * most);
    if (room == Space::Room::later || (room == Space::Room::never && outputs_.used() > 0)) return false;  // what is over the bound comes alone
    outputs_.take(peer.occupant.jid, 2 * most);
    auto& pieces = peer.pieces[what.attempt];
    pieces.stream_max = most, pieces.last = std::chrono::steady_clock::now();
  }
  return true;
}

/// Puts pieces to their streams. Returns why the report is malformed, or nothing.
std::string Pool::take_pieces(Peer& peer, const wire::Report& report, std::set<AttemptId>& broken) {
  for (const auto& piece : report.pieces()) {
    const AttemptId attempt = held_of(piece.attempt()).attempt;
    const auto at = peer.pieces.find(attempt);
    if (at == peer.pieces.end()) {
      if (broken.contains(attempt)) continue;
      return "too many unfinished streams";
    }
    Pieces& pieces = at->second;
    pieces.last = std::chrono::steady_clock::now();
    std::string& stream = piece.err() ? pieces.err : pieces.out;
    if (piece.offset() == 0 && !stream.empty()) peer.pieces_bytes -= stream.size(), stream.clear();  // it starts again
    if (stream.size() + piece.data().size() > pieces.stream_max) return "a stream of more than " + std::to_string(pieces.stream_max) + " bytes";
    if (piece.offset() != stream.size() || peer.pieces_bytes + piece.data().size() > kPiecesMax) {
      // A repeat of what we have is harmless; a gap is not.
      if (piece.offset() + piece.data().size() <= stream.size()) continue;
      drop_pieces(peer, at);
      broken.insert(attempt);
      continue;
    }
    stream += piece.data();
    peer.pieces_bytes += piece.data().size();
  }
  return {};
}

/// At once, unless the worker has kept us busy for long: a few kilobytes may name a hundred thousand attempts. Then it waits for its turn, one stanza in each turn of the loop,
/// so that nobody else waits for more than one of them.
void Pool::hear(const gloox::Tag& iq) {
  Peer* from = worker_of(iq);
  if (!from) return;
  if (from->waiting == 0 && owed_by(from->occupant.jid) == 0ns) return take(iq);
  if (from->waiting >= kWaitingMax) return link_.send(error_of(iq, "wait", "resource-constraint", "too much of this worker waits to be read: say it again later"));
  ++from->waiting;
  turns_.push(from->occupant.jid, std::shared_ptr<const gloox::Tag>(iq.clone()));
  hear_soon();
}

void Pool::hear_soon() {
  if (std::exchange(hearing_, true)) return;
  boost::asio::post(loop_, [this] {
    hearing_ = false;
    const auto iq = turns_.pop();
    if (const auto at = peers_.find(iq->findAttribute("from")); at != peers_.end() && at->second.waiting > 0) --at->second.waiting;
    if (!call_guarded("worker", [&] { take(*iq); })) link_.send(error_of(*iq, "wait", "internal-server-error", "it could not be handled"));
    if (!turns_.empty()) hear_soon();
  });
}

void Pool::take(const gloox::Tag& iq) {
  const std::string from = iq.findAttribute("from");
  const auto begin = std::chrono::steady_clock::now();
  if (const gloox::Tag* report = iq.findChild("report", "xmlns", ns::task)) on_report(iq, *report);
  else if (const gloox::Tag* lease = iq.findChild("lease", "xmlns", ns::task)) on_lease(iq, *lease);
  took(from, begin);
}

void Pool::on_report(const gloox::Tag& iq, const gloox::Tag& payload) {
  Peer* from = worker_of(iq);
  if (!from) return;
  google::protobuf::Arena arena;
  wire::Report& report = *google::protobuf::Arena::CreateMessage<wire::Report>(&arena);
  if (const auto read = payload_in(payload, report); !read) return link_.send(error_of(iq, "modify", "bad-request", read.error().text()));
  if (report.results_size() > kReportedMax || report.returned_size() > kReportedMax || report.assigned().refused_size() > kReportedMax ||
      report.assigned().missing_size() > kReportedMax)
    return link_.send(error_of(iq, "modify", "bad-request", "too many results in one report"));
  // The worker keeps results and says them again; what it says without any is said once.
  if (report.results_size() > 0 && crowded())
    return link_.send(error_of(iq, "wait", "resource-constraint", "too much waits for the manager's disk: keep the results and report them again later"));
  if (!room_for_pieces(*from, report)) return link_.send(error_of(iq, "wait", "resource-constraint", "too many large outputs are on their way to the manager: send it again"));
  std::set<AttemptId> broken;
  if (const std::string why = take_pieces(*from, report, broken); !why.empty()) return link_.send(error_of(iq, "modify", "bad-request", why));
  const WorkerId worker = from->id;
  const std::string jid = from->occupant.jid;
  std::vector<Finished> results;
  for (const auto& result : report.results()) {
    const Held what = held_of(result.attempt());
    auto outcome = read(result.outcome());
    if (!outcome) return link_.send(error_of(iq, "modify", "bad-request", outcome.error().text()));
    const auto pieces = from->pieces.find(what.attempt);
    if (result.out_in_pieces() || result.err_in_pieces()) {
      if (pieces == from->pieces.end() || broken.contains(what.attempt)) {
        broken.insert(what.attempt);
        continue;
      }
      from->pieces_bytes -= pieces->second.out.size() + pieces->second.err.size();
      if (result.out_in_pieces()) outcome.value().out = std::exchange(pieces->second.out, {});
      else pieces->second.out.clear();
      if (result.err_in_pieces()) outcome.value().err = std::exchange(pieces->second.err, {});
      else pieces->second.err.clear();
      drop_pieces(*from, pieces);
    } else if (pieces != from->pieces.end()) {  // given up on the way; they must not pin the worker's share
      drop_pieces(*from, pieces);
    }
    if (const auto given = proven(*from, what)) results.push_back({worker, *given, std::move(outcome.value())});
    else dropped(worker, what, "never given to this worker");
  }
  wire::ReportAnswer answer;
  for (const AttemptId attempt : broken) write({attempt, {}}, *answer.add_resend());
  std::uint64_t number = 0;
  if (report.takes_more() && !results.empty() && std::all_of(results.begin(), results.end(), [](const Finished& one) { return one.outcome.wall >= kTogetherFrom; })) {
    if (from->answering == 0) answer_in_time(from->occupant.jid, from->answering = ++reports_);
    number = from->answering;  // of reports close to each other the first answer takes all, so that what waits does not wait anew for each
  }
  std::vector<Held> returned;
  for (const auto& attempt : report.returned())
    if (const auto given = proven(*from, held_of(attempt))) returned.push_back(*given);
  // `from` is not used below: telling the scheduler may change the peers.
  if (report.assigned().epoch() == epoch_.value) {
    std::vector<AttemptId> named;  // the scheduler knows which of them it has
    for (const std::uint64_t one : report.assigned().refused()) named.push_back({epoch_, Claims::number_of(one)});
    taken(jid, worker, named, report.assigned());
  }
  for (Finished& result : results) finished(std::move(result));
  for (const Held& what : returned) tell(AttemptReturned{worker, what.attempt});
  auto reply = std::make_shared<Stanza>(result_of(iq));
  if (results.empty()) return send_answer(jid, number, *reply, answer);
  commit([this, jid, number, reply, answer = std::move(answer)]() mutable { send_answer(jid, number, *reply, answer); });  // the worker forgets them when it reads this
}

/// To a report, and with it what its worker is to do next, if that waited for it.
void Pool::send_answer(const std::string& jid, std::uint64_t report, Stanza& reply, wire::ReportAnswer& answer) {
  if (const auto at = peers_.find(jid); report != 0 && at != peers_.end() && at->second.answering == report) {
    Peer& peer = at->second;
    peer.answering = 0;
    if (peer.joined && link_.queued() <= kQueueHigh && take_given(peer, *answer.mutable_assign()).empty()) answer.clear_assign();
    if (!peer.to_assign.empty()) flush_soon(peer.id);
  }
  add_payload(*reply, "report", ns::task, answer);
  link_.send(std::move(reply));
}

/// A disk that takes its time keeps nobody from working.
void Pool::answer_in_time(const std::string& jid, std::uint64_t report) {
  together_.push_back({std::chrono::steady_clock::now() + kTogetherMax, jid, report});
  if (together_.size() == 1) answer_late();
}

void Pool::answer_late() {
  together_late_.expires_at(together_.front().until);
  together_late_.async_wait([this](auto error) {
    if (error) return;
    for (const auto now = std::chrono::steady_clock::now(); !together_.empty() && together_.front().until <= now; together_.pop_front())
      if (const auto at = peers_.find(together_.front().jid); at != peers_.end() && at->second.joined && at->second.answering == together_.front().report) flush(at->second);
    if (!together_.empty()) answer_late();
  });
}

void Pool::on_lease(const gloox::Tag& iq, const gloox::Tag& payload) {
  Peer* from = worker_of(iq);
  if (!from) return;
  wire::Lease lease;
  if (const auto read = payload_in(payload, lease); !read) return link_.send(error_of(iq, "modify", "bad-request", read.error().text()));
  if (lease.held_size() > kHeldMax) return link_.send(error_of(iq, "modify", "bad-request", "too many attempts in one lease"));
  Member& member = members_.at(from->id);  // of everybody joined
  member.rule = rule_of(lease.rule()), member.until_ms = lease.until_ms();
  const int slots = static_cast<int>(std::min<std::uint32_t>(lease.slots(), static_cast<std::uint32_t>(member.offer.slots)));
  from->said = state_of(lease.state());
  LeaseRenewed renewed{from->id, state_for(from->occupant.jid, from->said), {}, slots, until_of(lease.until_ms())};
  renewed.held = believed(*from, lease.held());
  auto reply = result_of(iq);
  add_payload(*reply, "lease", ns::task, wire::LeaseAnswer());  // what is to stop follows as a stop of its own
  link_.send(std::move(reply));
  tell(renewed);
}

// ---- Questions -----------------------------------------------------------------------------------------------------------------

Pool::Peer* Pool::peer(WorkerId worker) {
  const auto jid = jids_.find(worker);
  if (jid == jids_.end()) return nullptr;
  const auto at = peers_.find(jid->second);
  return at == peers_.end() || !at->second.joined ? nullptr : &at->second;
}
const Pool::Member* Pool::member(WorkerId worker) const {
  const auto at = members_.find(worker);
  return at == members_.end() ? nullptr : &at->second;
}
std::string Pool::nick(WorkerId worker) const {
  const auto at = nicks_.find(worker);
  return at == nicks_.end() ? "" : at->second;
}
std::string Pool::host(WorkerId worker) const {
  const auto at = hosts_.find(worker);
  return at == hosts_.end() ? "" : at->second;
}
std::string Pool::jid_of(const std::string& nick) const {
  const auto at = std::find_if(peers_.begin(), peers_.end(), [&](const auto& one) { return one.second.occupant.nick == nick; });
  return at == peers_.end() ? "" : at->first;
}
std::string Pool::jid(WorkerId worker) const {
  const auto at = jids_.find(worker);
  return at == jids_.end() ? "" : at->second;
}
Stanza Pool::iq_to(const Peer& peer) const { return element("iq", {}, {{"type", "set"}, {"to", peer.occupant.jid}, {"from", me_}}); }

}  // namespace souk
