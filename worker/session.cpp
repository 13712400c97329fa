#include "worker/session.h"

#include <boost/asio/post.hpp>
#include <gloox/tag.h>
#include <google/protobuf/arena.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <csignal>
#include <map>
#include <memory>
#include <set>

#include "grid.pb.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"

namespace souk::worker {

using namespace std::chrono_literals;

namespace {

constexpr auto kReportWithin = 20s;  // the manager writes to its disk before it answers
constexpr auto kLeaseWithin = 10s;
constexpr auto kTermTogether = 20ms;  // between a TERM that ended a task and the one to us, if somebody sent both
constexpr int kTakenOverMax = 3;     // times that who shares our name, and seems to be the copy, is given to notice
constexpr auto kTakenOverWithin = 5min;
constexpr std::size_t kHeldInJoin = 500;  // attempts: with more it joins without a word, and is asked by an iq, which no room copies
constexpr auto kHelloLate = 5s;  // in the market so long without a hello: the owner should hear of it

AttemptId attempt_of(const wire::Attempt& message) { return {Epoch{message.epoch()}, message.number()}; }

void write(const AttemptId& attempt, const TaskId& task, wire::Attempt& message) {
  message.set_epoch(attempt.epoch.value);
  message.set_number(attempt.number);
  message.set_job(task.job.value);
  message.set_task(task.task.value);
}

std::vector<AttemptId> attempts_of(const google::protobuf::RepeatedPtrField<wire::Attempt>& messages) {
  std::vector<AttemptId> attempts;
  attempts.reserve(static_cast<std::size_t>(messages.size()));
  for (const auto& message : messages) attempts.push_back(attempt_of(message));
  return attempts;
}

wire::WorkerState state_of(Availability state) {
  switch (state) {
    case Availability::free: return wire::FREE;
    case Availability::busy: return wire::BUSY;
    case Availability::draining: return wire::DRAINING;
    case Availability::paused: return wire::PAUSED;
  }
  return wire::FREE;
}

wire::HelloAnswer message_of(const AnswerHello& what, int slots, bool joining) {
  wire::HelloAnswer message;
  message.set_version(SOUK_VERSION);
  message.set_slots(static_cast<std::uint32_t>(slots));
  message.set_state(state_of(what.state));
  message.set_rule(what.rule);
  message.set_until_ms(what.until_ms);
  message.set_jobs_seen(what.jobs_seen.value);
  if (joining) message.set_epoch_seen(what.epoch.value);
  for (const Held& held : what.held) write(held.attempt, held.task, *message.add_held());
  return message;
}

std::string_view major(std::string_view version) { return version.substr(0, version.find('.')); }

/// Node and domain of a JID know no upper case (RFC 7622); servers write them in lower case, people may not.
std::string canonical(std::string jid) {
  const auto end = std::find(jid.begin(), jid.end(), '/');
  std::transform(jid.begin(), end, jid.begin(), [](unsigned char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : static_cast<char>(c); });
  return jid;
}

DiscoInfo info_of(const Offer& offer) {
  DiscoInfo info;
  info.identities.push_back({"client", "bot", "", "Souk worker"});
  info.features = {ns::task, ns::muc, ns::commands};
  info.forms.push_back(to_form(offer));
  return info;
}

std::string written(const TaskId& task) { return std::to_string(task.job.value) + '.' + std::to_string(task.task.value); }
std::string written(const AttemptId& attempt) { return std::to_string(attempt.epoch.value) + '.' + std::to_string(attempt.number); }

Limits limits_of(const Session::Setup& setup) {
  Limits limits = setup.limits;
  limits.slots = setup.offer.slots;
  limits.capacity = {setup.offer.memory_bytes, setup.offer.disk_bytes, static_cast<int>(setup.offer.gpus.size()), setup.offer.resources, setup.processors};
  limits.held_max = std::max(limits.held_max, static_cast<std::size_t>(limits.slots) * 2);
  return limits;
}

}  // namespace

Session::Session(boost::asio::io_context& loop, Setup setup, Slots slots, Spool* spool, Restored found)
    : loop_(loop), manager_(canonical(setup.profile.manager)), accept_(setup.offer.accept), slots_(std::move(slots)), slot_count_(setup.offer.slots), nick_(setup.nick), spool_(spool), refuses_(std::move(setup.refuses)),
      agent_(limits_of(setup)), link_(loop, setup.profile.account, setup.link), disco_(link_), remote_(link_, disco_, setup.owner, setup.offer.slots),
      room_(loop, link_, disco_, {canonical(setup.profile.room), setup.nick, manager_, setup.ping_every}), wake_(loop), hello_late_(loop), enters_(setup.enters), state_is_copied_(setup.state_is_copied) {
  disco_.set_info("", info_of(setup.offer));
  room_.show(agent_.state(), agent_.status());
  registrations_.push_back(link_.on_iq("", ns::task, [this](const gloox::Tag& iq, const gloox::Tag& payload) { take(iq, payload); }));
  link_.on_up = [this] {
    spdlog::info("logged in jid={}", link_.jid());
    trouble_.clear();
    if (enters_) room_.enter();
  };
  link_.on_down = [this](const Error& why, bool final) {
    if (stopped_) return;
    if (final) return on_end(why);
    if (trouble_ != why.text()) spdlog::warn("no connection why=\"{}\" trying=again", printable(why.text()));
    trouble_ = why.text();
    if (link_.stream_error() == "conflict") give_way();
    room_.lost();
    tell(ManagerGone{});
  };
  room_.on_inside = [this] {
    spdlog::info("in the marketplace room={} nick=\"{}\" state={}", room_.name(), room_.nick(), name_of(agent_.state()));
    expect_hello();
  };
  room_.on_join = [this](gloox::Tag& presence) { say_hello(presence); };
  room_.on_hello = [this](const gloox::Tag& payload) { take_hello_here(payload); };
  room_.on_outside = [this](const Error& why) {
    spdlog::warn("not in the marketplace why=\"{}\"", printable(why.text()));
    tell(ManagerGone{});
  };
  room_.on_manager_gone = [this] {
    spdlog::warn("manager gone held={} waiting={} running={} owed={}", agent_.waiting() + agent_.running() + agent_.owed(), agent_.waiting(), agent_.running(), agent_.owed());
    tell(ManagerGone{});
  };
  room_.on_banned = [this](const Error& why) { on_end(why); };
  tell(std::move(found));
  // Within the handling of an event, this waits for its end: tell() queues it.
  if (spool_ != nullptr) spool_->on_trouble = [this](const std::string& why) { tell(DiskRefuses{why}); };
}

/// Two with one name would throw each other out for ever. The one whose state folder is a copy takes another; else, in the end, whoever is thrown out
/// again. What it holds is handed over under the new name as far as the manager takes it; the other one has the same results, and its own.
void Session::give_way() {
  const auto now = std::chrono::steady_clock::now();
  if (now - std::exchange(taken_over_at_, now) > kTakenOverWithin) taken_over_ = 0;
  if (++taken_over_ < kTakenOverMax && !state_is_copied_) {
    spdlog::warn("thrown out jid={} why=\"another worker logged in under the same name: a copy of this one's state folder?\" next=\"coming back; it should take another name\"", link_.jid());
    return;
  }
  const std::string suffix = spool_ != nullptr ? spool_->rename() : random_suffix();
  spdlog::warn("thrown out jid={} why=\"another worker has the same name{}\" next=\"a name of its own: {}-{}\"", link_.jid(),
               state_is_copied_ ? ", since this one's state folder is a copy" : "", nick_, suffix);
  link_.set_resource(nick_ + '-' + suffix);
  state_is_copied_ = false;
  taken_over_ = 0;
}

void Session::start() { link_.start(); }

void Session::enter() {
  enters_ = true;
  if (link_.up()) room_.enter();
}

void Session::expect_hello() {
  hello_late_.expires_after(kHelloLate);
  hello_late_.async_wait([this](auto error) {
    if (error || !room_.inside()) return;
    if (room_.sees_manager()) spdlog::warn("not greeted yet manager={} why=\"it is in the room but does not greet us; does it allow this account (--allow-worker)?\"", manager_);
    else spdlog::warn("not greeted yet manager={} why=\"it is not in the room; is it running, and is `manager` in the profile right?\"", manager_);
  });
}

void Session::stop(std::function<void()> done) {
  stopped_ = true;
  wake_.cancel();
  late_.clear();
  hello_late_.cancel();
  room_.leave();
  link_.stop(std::move(done));
}

Instant Session::now() const { return Instant(std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now() - began_)); }

// ---- Stanzas to events ----------------------------------------------------------------------------------------------------------

void Session::refuse(const gloox::Tag& iq, const char* type, const char* condition, const std::string& text) {
  // What the manager sent is few and matters; anybody else could fill the disk.
  const auto left_out = iq.findAttribute("from") == manager_ ? std::optional<std::uint64_t>(0) : strangers_.take(now());
  if (left_out)
    spdlog::warn("refused from=\"{}\" condition={} why=\"{}\"{}", shortened(printable(iq.findAttribute("from")), 200), condition, printable(text), also(*left_out));
  link_.send(error_of(iq, type, condition, text));
}

void Session::take(const gloox::Tag& iq, const gloox::Tag& payload) {
  if (stopped_) return;
  // Whoever else knows our address has nothing to say here: a worker runs what its manager sends.
  if (iq.findAttribute("from") != manager_) return refuse(iq, "auth", "forbidden", "this worker obeys " + manager_ + " only");
  if (iq.findAttribute("type") != "set") return refuse(iq, "modify", "bad-request", "send an iq of type set");
  const std::string& name = payload.name();
  if (name == "hello") return take_hello(iq, payload);
  if (name == "assign") return take_assign(iq, payload);
  if (name == "command") return take_command(iq, payload);
  if (name == "stop") return take_stop(iq, payload);
  refuse(iq, "cancel", "feature-not-implemented", "a worker knows hello, assign, command and stop");
}

void Session::take_hello(const gloox::Tag& iq, const gloox::Tag& payload) {
  wire::Hello hello;
  if (const auto read = payload_in(payload, hello); !read) return refuse(iq, "modify", "bad-request", read.error().text());
  if (major(hello.version()) != major(SOUK_VERSION))
    return refuse(iq, "modify", "not-acceptable", "this worker is of version " SOUK_VERSION ", the manager of '" + shortened(printable(hello.version()), 32) + "'; run the same major version");
  const auto ms = std::min<std::uint64_t>(hello.lease_ms(), static_cast<std::uint64_t>(kLeaseMax.count()));
  hello_late_.cancel();
  asked_ = &iq;
  tell(Greeted{Epoch{hello.epoch()}, std::chrono::milliseconds(ms)});
}

/// What the manager would ask for, so that it need not: half of the stanzas of a worker that comes in.
void Session::say_hello(gloox::Tag& join) {
  said_.clear();
  if (agent_.waiting() + agent_.running() + agent_.owed() > kHeldInJoin) return;
  const wire::HelloAnswer message = message_of(agent_.hello(), slot_count_, true);
  said_ = message.SerializeAsString();
  add_payload(join, "hello", ns::task, message);
}

/// It was heard. Should this not be a hello to obey, the manager learns of that with the first tasks it gives, and greets us by an iq.
void Session::take_hello_here(const gloox::Tag& payload) {
  wire::Hello hello;
  const auto read = payload_in(payload, hello);
  if (said_.empty() || !read || major(hello.version()) != major(SOUK_VERSION) || Epoch{hello.epoch()} < agent_.epoch())
    return spdlog::warn("hello of the market not taken manager={} why=\"{}\"", manager_, !read ? printable(read.error().text()) : "of another version or an older epoch");
  const auto ms = std::min<std::uint64_t>(hello.lease_ms(), static_cast<std::uint64_t>(kLeaseMax.count()));
  hello_late_.cancel();
  const bool outdated = std::exchange(said_, {}) != message_of(agent_.hello(), slot_count_, true).SerializeAsString();
  tell(Greeted{Epoch{hello.epoch()}, std::chrono::milliseconds(ms), outdated});
}

void Session::take_assign(const gloox::Tag& iq, const gloox::Tag& payload) {
  google::protobuf::Arena arena;
  wire::Assign& assign = *google::protobuf::Arena::CreateMessage<wire::Assign>(&arena);
  if (const auto read = payload_in(payload, assign); !read) return refuse(iq, "modify", "bad-request", read.error().text());
  Assigned event = read(assign);
  asked_ = &iq;
  tell(std::move(event));
}

/// What came with the answer to a report is not answered itself: what is not taken goes back in a report, and what is lost on the way, its lease brings back.
void Session::take_more(wire::Assign& assign) {
  if (assign.assignments_size() > 0) tell(read(assign));
}

void Session::refuse_more(wire::AssignAnswer answer) {
  wire::Report message;
  *message.mutable_assigned() = std::move(answer);
  auto iq = element("iq", {}, {{"type", "set"}, {"to", manager_}});
  add_payload(*iq, "report", ns::task, message, {{"results", "0"}});
  link_.request(std::move(iq), kReportWithin, [](const Answer&) {});
}

Assigned Session::read(wire::Assign& assign) {
  std::map<CommandId, Received> commands;
  std::map<CommandId, std::string> foreign;
  for (const auto& message : assign.commands()) {
    const CommandId id{JobId{message.job()}, message.group()};
    if (std::string why = why_foreign(message); !why.empty()) foreign[id] = std::move(why);
    else if (!accept_.empty()) foreign[id];  // so that it is known to be no stranger's
    const auto needs = souk::read(message.needs());
    if (!message.has_command() && needs) {  // it was sent ahead, and this tells what its tasks need
      commands_.tell_needs(id, needs.value(), message.owner());
      continue;
    }
    Received& came = commands[id];
    if (!needs) {
      came.problem = needs.error().text();
      continue;
    }
    came.needs = needs.value();
    came.owner = message.owner();
    auto command = souk::read(message.command());
    if (command) came.command = std::make_shared<const Command>(std::move(command.value()));
    else came.problem = command.error().text();
  }
  Assigned event{Epoch{assign.epoch()}, {}};
  event.assignments.reserve(static_cast<std::size_t>(assign.assignments_size()));
  for (auto& message : *assign.mutable_assignments()) {
    const CommandId id{JobId{message.job()}, message.group()};
    const auto found = commands.find(id);
    const Received* with = found != commands.end() ? &found->second : commands_.find(id);
    Assignment& assignment = event.assignments.emplace_back();
    assignment.attempt = {event.epoch, message.number()};
    assignment.task = {id.job, TaskNumber{message.task()}};
    assignment.group = id.group;
    assignment.item = std::move(*message.mutable_item());
    assignment.run = std::max(1u, message.run());
    if (!accept_.empty()) {
      const auto whose = foreign.find(id);
      assignment.refusal = whose == foreign.end() ? "the assignment does not say whose it is" : whose->second;
    }
    if (with == nullptr) continue;
    assignment.command = with->command;
    assignment.problem = with->problem;
    assignment.needs = with->needs;
    assignment.submitter = with->owner;
    if (refuses_ && assignment.command && assignment.refusal.empty()) assignment.refusal = refuses_(assignment);
  }
  spdlog::debug("assigned attempts={} epoch={}", event.assignments.size(), assign.epoch());
  return event;
}

/// Whatever the manager believes, this worker's owner says whose tasks run here. Empty: those of that job do.
std::string Session::why_foreign(const wire::JobCommand& command) const {
  if (accept_.empty()) return {};
  std::vector<std::string> groups(command.groups().begin(), command.groups().end());
  std::sort(groups.begin(), groups.end());
  if (any_means(accept_, command.owner(), groups)) return {};
  std::string list;
  for (const Who& who : accept_) list += (list.empty() ? "" : ", ") + who.text();
  return "its owner takes tasks of " + shortened(list, 100) + " only, not of " + shortened(printable(command.owner()), 100);
}

void Session::take_command(const gloox::Tag& iq, const gloox::Tag& payload) {
  wire::CommandPart part;
  if (const auto read = payload_in(payload, part); !read) return refuse(iq, "modify", "bad-request", read.error().text());
  if (const auto taken = commands_.take({JobId{part.job()}, part.group()}, part.offset(), part.size(), part.data()); !taken) return refuse(iq, "modify", "bad-request", taken.error().text());
  link_.send(result_of(iq));
}

void Session::take_stop(const gloox::Tag& iq, const gloox::Tag& payload) {
  wire::Stop stop;
  if (const auto read = payload_in(payload, stop); !read) return refuse(iq, "modify", "bad-request", read.error().text());
  spdlog::debug("asked to stop attempts={}", stop.attempts_size());
  link_.send(result_of(iq));
  tell(StopAsked{attempts_of(stop.attempts())});
}

// ---- Actions to stanzas ---------------------------------------------------------------------------------------------------------

void Session::tell(Event event) {
  events_.push_back(std::move(event));
  if (std::exchange(handling_, true)) return;
  struct Handled {
    Session& session;
    ~Handled() {  // also when a library threw
      session.handling_ = false;
      session.asked_ = nullptr;
    }
  } handled{*this};
  while (!events_.empty() && !stopped_) {
    Event next = std::move(events_.front());
    events_.pop_front();
    std::vector<Action> actions = agent_.step(now(), std::move(next));
    // What is to begin begins first: the rest writes to the disk and the wire, which takes as long as a short task does.
    const auto rest = std::stable_partition(actions.begin(), actions.end(), [](const Action& action) { return std::holds_alternative<Start>(action) || std::holds_alternative<LineUp>(action) || std::holds_alternative<Call>(action); });
    for (auto action = actions.begin(); action != rest; ++action) std::visit([this](auto& what) { perform(what); }, *action);
    if (rest != actions.end() && std::exchange(calls_made_, false)) slots_.calls_made();
    for (auto action = rest; action != actions.end(); ++action) std::visit([this](auto& what) { perform(what); }, *action);
    if (events_.empty() && std::exchange(calls_made_, false)) slots_.calls_made();  // which may tell more
  }
  wake_in_time();
}

void Session::wake_in_time() {
  const auto at = agent_.wake_at();
  if (stopped_ || !at || (wakes_at_ && *wakes_at_ <= *at)) return;  // waking too early does no harm, and arms again
  wakes_at_ = at;
  wake_.expires_at(began_ + at->time_since_epoch());
  wake_.async_wait([this](auto error) {
    if (error || stopped_) return;
    wakes_at_.reset();
    tell(Tick{});
  });
}

void Session::perform(AnswerHello& action) {
  if (asked_ != nullptr) {  // else it was said on joining
    auto answer = result_of(*asked_);
    add_payload(*answer, "hello", ns::task, message_of(action, slot_count_, false));
    link_.send(std::move(answer));
  }
  lease_ = action.lease;
  spdlog::info("greeted manager={} epoch={} lease_ms={} held={}", manager_, action.epoch.value, lease_.count(), action.held.size());
}

void Session::perform(AnswerAssign& action) {
  wire::AssignAnswer message;
  for (const auto number : action.refused) message.add_refused(number);
  message.set_why(action.why);
  for (const JobId job : action.missing) message.add_missing(job.value);
  if (!action.refused.empty()) spdlog::info("refused attempts={} why=\"{}\"", action.refused.size(), action.why);
  if (asked_ == nullptr) {  // they came with the answer to a report
    message.set_epoch(agent_.epoch().value);
    if (!action.refused.empty()) refuse_more(std::move(message));
    return;
  }
  auto answer = result_of(*asked_);
  add_payload(*answer, "assign", ns::task, message);
  link_.send(std::move(answer));
}

void Session::perform(RefuseEpoch& action) {
  if (asked_ != nullptr) refuse(*asked_, "cancel", "conflict", action.why);  // else a hello is on its way, and the answer to that says what is held
}

void Session::perform(RefuseStale& action) {
  const std::string why = "this worker has obeyed a manager of epoch " + std::to_string(action.epoch.value) + ": an older one may not know what was done since";
  spdlog::warn("refused from=\"{}\" condition=stale epoch={} why=\"{}\" next=\"if that grid was begun anew on purpose, stop this worker and remove its state folder\"", printable(asked_->findAttribute("from")), action.epoch.value, why);
  auto answer = error_of(*asked_, "cancel", "conflict", why);
  child(*answer->findChild("error"), "stale", ns::task, {{"epoch", std::to_string(action.epoch.value)}, {"jobs", std::to_string(action.jobs.value)}});
  link_.send(std::move(answer));
}

void Session::perform(Start& action) {
  const Held held{action.assignment.attempt, action.assignment.task};
  if (spdlog::should_log(spdlog::level::debug))  // two lines a task: not even their texts are made for nobody
    spdlog::debug("started task={} attempt={} slot={}", written(held.task), written(held.attempt), action.slot);
  slots_.start(action.slot, std::move(action.assignment), std::move(action.granted), when_ended(action.slot, held));
}

void Session::perform(LineUp& action) {
  const Held held{action.assignment.attempt, action.assignment.task};
  if (spdlog::should_log(spdlog::level::debug)) spdlog::debug("lined up task={} attempt={} slot={}", written(held.task), written(held.attempt), action.slot);
  slots_.line_up(action.slot, std::move(action.assignment), when_ended(action.slot, held), [this, slot = action.slot] {
    if (!stopped_) tell(Recalled{slot});
  });
}
void Session::perform(Recall& action) {
  spdlog::debug("recalled slot={}", action.slot);
  slots_.recall(action.slot);
}

std::function<void(Outcome)> Session::when_ended(int slot, const Held& held) {
  return [this, slot, held](Outcome outcome) {
    if (stopped_) return;
    const auto level = outcome.cause == Cause::not_started ? spdlog::level::warn : spdlog::level::debug;
    if (spdlog::should_log(level))
      spdlog::log(level, "finished task={} attempt={} slot={} cause={} exit_code={} signal={} wall_us={} why=\"{}\"", written(held.task), written(held.attempt), slot,
                  name_of(outcome.cause), outcome.exit_code, outcome.signal, outcome.wall.count(), printable(outcome.why));
    ended(slot, std::move(outcome));
  };
}

/// A service manager that ends all processes of a service at once tells us too: we must hear of that before we call what it did to a task a failure.
void Session::ended(int slot, Outcome outcome) {
  ended_late(slot);  // the one before, in order
  if (outcome.cause != Cause::signaled || outcome.signal != SIGTERM) return tell(Finished{slot, std::move(outcome)});
  Late& late = late_.emplace(slot, Late{boost::asio::steady_timer(loop_, kTermTogether), std::move(outcome)}).first->second;
  late.timer.async_wait([this, slot](auto error) {
    if (!error) ended_late(slot);
  });
}

void Session::ended_late(int slot) {
  const auto late = late_.extract(slot);
  if (!late.empty() && !stopped_) tell(Finished{slot, std::move(late.mapped().outcome)});
}

void Session::calls_ended(CallsEnded event) {
  if (!stopped_) tell(std::move(event));
}

void Session::perform(Call& action) {
  if (!slots_.call) {  // no manager sends this to who offers none
    Outcome outcome;
    outcome.cause = Cause::not_started;
    outcome.why = "this worker has no services";
    CallsEnded ended{action.slot, {}};
    ended.calls.push_back({action.assignment.attempt, std::move(outcome)});
    return tell(std::move(ended));
  }
  calls_made_ = true;
  slots_.call(action.slot, std::move(action.assignment));
}
void Session::perform(StopCall& action) {
  calls_made_ = true;
  slots_.stop_call(action.slot, action.attempt);
}
void Session::perform(ForsakeCall& action) {
  calls_made_ = true;
  slots_.forsake_call(action.slot, action.attempt);
}
// Where an end is not told yet, the agent speaks of that one, and what runs there now is another.
void Session::perform(StopSlot& action) {
  if (!late_.contains(action.slot)) slots_.stop(action.slot);
}
void Session::perform(PauseSlot& action) {
  if (late_.contains(action.slot)) return;
  spdlog::debug("paused slot={}", action.slot);
  slots_.pause(action.slot);
}
void Session::perform(ResumeSlot& action) {
  if (late_.contains(action.slot)) return;
  spdlog::debug("resumed slot={}", action.slot);
  slots_.resume(action.slot);
}

void Session::perform(SendReport& action) {
  if (spool_ != nullptr) spool_->write();  // what it refuses goes all the same: here it is safe only in memory, there it may be safer
  google::protobuf::Arena arena;
  wire::Report& message = *google::protobuf::Arena::CreateMessage<wire::Report>(&arena);
  for (const Piece& piece : action.pieces) {
    wire::Piece& part = *message.add_pieces();
    write(piece.attempt, piece.task, *part.mutable_attempt());
    part.set_err(piece.err);
    part.set_offset(piece.offset);
    part.set_data((piece.err ? piece.of->err : piece.of->out).substr(piece.offset, piece.size));
  }
  for (const Ended& ended : action.results) {
    wire::AttemptResult& result = *message.add_results();
    write(ended.attempt, ended.task, *result.mutable_attempt());
    souk::write(*ended.outcome, *result.mutable_outcome());
    if (ended.out_in_pieces) result.mutable_outcome()->clear_out();
    if (ended.err_in_pieces) result.mutable_outcome()->clear_err();
    result.set_out_in_pieces(ended.out_in_pieces);
    result.set_err_in_pieces(ended.err_in_pieces);
  }
  for (const Held& held : action.returned) write(held.attempt, held.task, *message.add_returned());
  message.set_takes_more(true);
  spdlog::debug("report={} results={} returned={} pieces={}", action.report, action.results.size(), action.returned.size(), action.pieces.size());
  auto iq = element("iq", {}, {{"type", "set"}, {"to", manager_}});
  add_payload(*iq, "report", ns::task, message, {{"results", std::to_string(action.results.size())}});
  link_.request(std::move(iq), kReportWithin, [this, report = action.report](const Answer& answer) {
    if (stopped_) return;
    if (answer) {
      wire::ReportAnswer said;
      const gloox::Tag* payload = answer.iq->findChild("report", "xmlns", ns::task);
      const auto read = payload != nullptr ? payload_in(*payload, said) : Result<Done>(Done{});
      if (read) {
        tell(ReportTaken{report, attempts_of(said.resend())});
        return take_more(*said.mutable_assign());
      }
      spdlog::warn("report not taken report={} why=\"{}\"", report, printable(read.error().text()));
      return tell(ReportFailed{report, ReportLoss::unanswered, read.error().text()});
    }
    const std::string& what = answer.error.condition;
    static const std::set<std::string> never = {"bad-request", "not-acceptable", "policy-violation", "feature-not-implemented"};
    const ReportLoss loss = what == "item-not-found" || what == "forbidden" ? ReportLoss::unknown : never.contains(what) ? ReportLoss::refused : ReportLoss::unanswered;
    const std::string why = printable(what + (answer.error.text.empty() ? "" : ": " + answer.error.text));
    spdlog::warn("report not taken report={} why=\"{}\"", report, why);
    tell(ReportFailed{report, loss, why});
  });
}

void Session::perform(SendLease& action) {
  wire::Lease message;
  for (const Held& held : action.held) write(held.attempt, held.task, *message.add_held());
  message.set_state(state_of(action.state));
  message.set_slots(static_cast<std::uint32_t>(action.offered));
  message.set_rule(action.rule);
  message.set_until_ms(action.until_ms);
  auto iq = element("iq", {}, {{"type", "set"}, {"to", manager_}});
  add_payload(*iq, "lease", ns::task, message, {{"held", std::to_string(action.held.size())}});
  link_.request(std::move(iq), std::min<std::chrono::milliseconds>(kLeaseWithin, std::max(lease_, 1000ms)), [this, lease = action.lease](const Answer& answer) {
    if (stopped_) return;
    if (!answer) {
      spdlog::warn("lease not renewed why=\"{}\"", printable(answer.error.condition + (answer.error.text.empty() ? "" : ": " + answer.error.text)));
      return tell(LeaseFailed{lease, answer.error.condition == "item-not-found" || answer.error.condition == "forbidden"});
    }
    tell(LeaseTaken{lease});
    wire::LeaseAnswer said;
    const gloox::Tag* payload = answer.iq->findChild("lease", "xmlns", ns::task);
    if (payload != nullptr && payload_in(*payload, said) && said.stop_size() > 0) tell(StopAsked{attempts_of(said.stop())});
  });
}

void Session::perform(Show& action) {
  spdlog::debug("state={} status=\"{}\"", name_of(action.state), action.status);
  room_.show(action.state, std::move(action.status));
}

void Session::perform(GiveUp& action) {
  spdlog::error("result given up task={} attempt={} why=\"{}\"", written(action.held.task), written(action.held.attempt), printable(action.why));
}

void Session::perform(Keep& action) {
  if (spool_ != nullptr) spool_->keep(action.held, std::move(action.outcome));
}
void Session::perform(Forget& action) {
  if (spool_ != nullptr) spool_->forget(action.attempt);
}
void Session::perform(Remember& action) {
  if (spool_ != nullptr) spool_->remember(action.epoch, action.jobs_seen);
}

void Session::perform(Emptied&) {
  boost::asio::post(loop_, [this] {
    if (!stopped_) on_empty();
  });
}

}  // namespace souk::worker
