#include "manager/grid.h"

#include <gloox/tag.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <random>
#include <tuple>

#include "manager/history.h"
#include "protocol/expression.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"

namespace souk {

using namespace std::chrono_literals;

namespace {

constexpr std::string_view kLifeFact = "life.";  // + epoch: the last job number that was given before
constexpr std::size_t kEarlyMax = 1024;         // requests that wait for that
constexpr auto kEarlyLasts = 6s;                 // and then are refused: the room cannot be opened
constexpr auto kGreetMax = 3s;                  // for everybody in the market to answer before tasks are given out
constexpr std::size_t kUnsentMax = 1000;        // messages kept while there is no link; the oldest are dropped

constexpr std::size_t kNewsMax = 1u << 20;      // bytes waiting for the server to read, above which watchers hear of no progress
constexpr auto kWakeMin = 20ms;                  // between two ticks: each looks at what runs
constexpr std::size_t kOnlyMax = 1000;          // results that wait for the disk to go with the news of their jobs' ends; others are asked for
constexpr std::size_t kOnlyBytes = 16u << 10;   // of such a result's streams
constexpr std::size_t kNoteMax = 500;           // bytes
constexpr std::size_t kForgetAtOnce = 200;      // old jobs a tick
constexpr std::size_t kForgettingMax = 1000;    // jobs whose rows are still to go; above it the store comes first

constexpr std::string_view kWorkerFact = "worker ";  // its JID follows: it was at work

constexpr std::size_t kOwnersMax = 1000;         // of workers, remembered for whose word counts
constexpr std::string_view kOwnerFact = "owner ";  // its bare JID follows: the life in which a worker of it was first at work
constexpr std::string_view kKeyFact = "claims-key-", kKeySinceFact = "claims-since";  // 1 and 2; the life in which they began
constexpr std::string_view kTrustFact = "trust ";  // a voter follows: its record, agreed << 32 | found
constexpr auto kToldWrong = 10min;               // between two messages to an owner whose results are wrong

/// Who draws by it cannot be foretold.
std::array<std::uint64_t, 2> secret() {
  std::random_device device;
  const auto word = [&device] { return static_cast<std::uint64_t>(device()) << 32 | device(); };
  return {word(), word()};
}

/// What a result says, as it is kept: whether it is a success, and what is compared. Numbers are compared as they stand, and nothing less would do.
std::string vote_of(const Outcome& outcome, const Quorum& quorum) {
  if (quorum.on.what == AgreeOn::What::numbers) return {};
  return (outcome.succeeded() ? '+' : '-') + digest_of(outcome, quorum.on.what);
}

/// By which the manager knows what it gave out, in all lives of its store. Beside what it protects, so that a copy of the store has both.
ClaimsKey claims_key(Journal& journal, Journal::Restored& restored) {
  auto& facts = restored.facts;
  SipKey key = secret();
  for (std::size_t half = 0; half < key.size(); ++half) {
    const std::string name = std::string(kKeyFact) + std::to_string(half + 1);
    const auto known = facts.find(name);
    key[half] = known == facts.end() ? key[half] >> 1 | 1 : known->second;  // a fact is a positive number
    if (known != facts.end()) continue;
    journal.set(name, key[half]);
    journal.set(std::string(kKeySinceFact), facts[std::string(kKeySinceFact)] = restored.epoch.value);
  }
  journal.commit([] {});
  const auto since = facts.find(std::string(kKeySinceFact));
  return {key, {since == facts.end() ? 0 : since->second}};
}

std::uint64_t now_ms() { return Clocks::read().now_ms; }
Instant now() { return Clocks::read().now; }

}  // namespace

Grid::Grid(boost::asio::io_context& loop, XmppLink& link, std::unique_ptr<Journal> journal, Journal::Restored restored, Scheduler::Rules rules, const Rulebook& rulebook, Audit& audit, Limits limits)
    : loop_(loop), link_(link), rulebook_(rulebook), audit_(audit), journal_(std::move(journal)), epoch_(restored.epoch), scheduler_(restored.epoch, rules),
      jury_({.seed = secret(), .bytes_max = MemoryShares(limits.memory_max()).outputs / 2}),
      claims_key_(claims_key(*journal_, restored)), pool_(loop, link, book_, restored.epoch, claims_key_, rules.lease, [&rulebook](const std::string& jid) { return rulebook.now().decide(bare(jid), Role::worker).allowed; }, MemoryShares(limits.memory_max()).outputs), limits_(std::move(limits)),
      memory_(MemoryShares(limits_.memory_max()).jobs), started_ms_(now_ms()), lacks_(restored.facts), lease_(rules.lease), tick_(loop), wake_(loop), push_(loop), opening_ends_(loop) {
  pool_.tell = [this](const Event& event) {
    const auto* joined = std::get_if<WorkerJoined>(&event);
    if (!joined) return handle(event);
    WorkerJoined known = *joined;
    for (const std::string& voter : {known.owner, known.stem})
      if (const auto until = jury_.aside(voter, now())) known.aside = std::max(known.aside.value_or(Instant{}), *until);
    handle(known);
  };
  pool_.finished = [this](Pool::Finished result) { finished(std::move(result)); };
  pool_.commit = [this](std::function<void()> then) { journal_->commit(std::move(then)); };
  pool_.crowded = [this] { return journal_->pending_bytes() > Journal::kPendingMax; };
  pool_.from_before = [this](const std::string& account) {
    const auto known = owners_.find(account);
    return known != owners_.end() && known->second <= claims_key_.since;
  };
  pool_.on_answered = [this] { open_when_settled(); };
  pool_.on_stale = [this](const Pool::Stale& said) { stale(said); };
  pool_.on_job_seen = [this](const std::string& jid, const std::string& nick, JobId job) { job_seen(jid, nick, job); };
  handle(MarketClosed{});
  for (const OwnerSet& event : limits_.events()) handle(event);
  policy_changed();
  book_.given(restored.last_job);
  JobId last = restored.last_job;
  for (const JobRow& row : restored.jobs) last = std::max(last, row.id);
  for (const auto& [fact, value] : restored.facts)
    if (fact.starts_with(kOwnerFact)) owners_[fact.substr(kOwnerFact.size())] = {value};
  for (const auto& [fact, value] : restored.facts)
    if (fact.starts_with(kTrustFact)) {
      jury_.recall(fact.substr(kTrustFact.size()), {static_cast<std::uint32_t>(value >> 32), static_cast<std::uint32_t>(value)});
      worked(bare(fact.substr(kTrustFact.size())));
    }
    else if (fact.starts_with(kLifeFact)) lives_[{std::stoull("0" + fact.substr(kLifeFact.size()))}] = {value};
  lives_[epoch_] = last;
  journal_->set(std::string(kLifeFact) + std::to_string(epoch_.value), last.value);
  untold_ = {restored.untold.begin(), restored.untold.end()};
  auto ended = restored.ended.begin();
  auto past = restored.past.begin();
  const Clocks clocks = Clocks::read();
  for (JobRow& row : restored.jobs) {
    wire::Job job;
    const bool open = row.ended_ms == 0, readable = !open || (job.ParseFromString(row.spec) && (job.has_command() || job.groups_size() > 0));
    if (!readable) spdlog::error("stored job cannot be read job={}", row.id.value);
    JobRestored event;
    if (open) event.job = event_of(row.id, row.owner, job, clocks), event.canceled = row.canceled;  // the book packs its lines
    const std::uint64_t memory = open ? memory_of(job, row.tasks) : 0;
    JobEntry& entry = book_.add(std::move(row), std::move(job));
    if (!open) continue;
    opened(entry, memory);
    if (!readable) event.job.groups.front().tasks = entry.row.tasks;
    event.job.terms.hold = entry.row.held;
    event.born = born(event.job.job);
    for (; ended != restored.ended.end() && ended->first.job == event.job.job; ++ended) event.ended.emplace_back(ended->first.task, ended->second);
    open_jury(event.job.job, entry.job);
    const Quorum* quorum = jury_.quorum(event.job.job);
    std::vector<std::pair<TaskId, Jury::Vote>> votes;
    for (; past != restored.past.end() && past->task.job == event.job.job; ++past) {
      event.past.push_back({past->task.task, past->runs, past->failures, past->losses, past->again_ms > 0 ? std::optional(clocks.at(past->again_ms)) : std::nullopt, past->over, {}});
      for (const auto& [attempt, voter, vote] : past->votes) {
        if (!quorum || vote.size() < 2) continue;
        event.past.back().voted.push_back(voter);
        votes.push_back({past->task, {attempt, voter, vote.substr(1), vote.front() == '+'}});
      }
    }
    know(entry.row.owner);
    for (const JobKnown& known : book_.ended_before(entry.job)) handle(known);
    handle(event);
    for (const auto& [task, vote] : votes)
      if (scheduler_.state(task) == TaskState::waiting) jury_.recall(task, vote);
  }
  for (const auto& [fact, value] : restored.facts)
    if (fact.starts_with(kWorkerFact)) {
      const std::string jid = fact.substr(kWorkerFact.size());
      roster_.remember(jid, now());
      pool_.await(jid);
      worked(bare(jid));
    }
  spdlog::info("store read epoch={} jobs={} open={}", epoch_.value, book_.all().size(), book_.open().size());
  tick();
}

Grid::~Grid() = default;

void Grid::policy_changed() {
  const Policy& policy = rulebook_.now();
  pool_.set_groups(policy.groups());
  handle(GroupsSet{policy.groups()});
  for (const std::string& owner : std::exchange(known_, {})) know(owner);
  pool_.recheck();
  if (policy.limits_bytes() && !counts_bytes_) count_bytes();
  counts_bytes_ = policy.limits_bytes();
}

/// The scheduler is told what the policy leaves somebody before their first task comes. Without a file the options said it already.
void Grid::know(const std::string& owner) {
  if (!rulebook_.now().from_file() || !known_.insert(owner).second) return;
  const Entitlement terms = rulebook_.now().terms(owner);
  handle(OwnerSet{owner, terms.weight.value_or(1), terms.running.value_or(0)});
}

/// What was kept before anybody counted; what comes meanwhile is counted as it comes.
void Grid::count_bytes() {
  kept_.clear();
  journal_->read_sizes([this](Result<std::vector<std::pair<JobId, std::uint64_t>>> read) {
    if (!read) return spdlog::warn("cannot count what is kept why=\"{}\"", read.error().text());
    for (const auto& [job, bytes] : read.value())
      if (const JobEntry* entry = book_.find(job)) kept_.add(job, entry->row.owner, bytes);
  });
}

void Grid::set_me(std::string me) {
  me_ = std::move(me);
  pool_.set_me(me_);
}

void Grid::market_closed() {
  if (!std::exchange(linked_, false)) return;
  opening_ = deaf_ = false;
  opening_ends_.cancel();
  handle(MarketClosed{});
  pool_.closed();
}

void Grid::market_opened() {
  linked_ = true;
  roster_.reopened(now());
  for (Stanza& message : std::exchange(unsent_, {})) link_.send(std::move(message));
  tell_untold();
  opening_ = true;
  greet_until_ = now() + kGreetMax;
  pool_.opened(now());
  open_in_time();
  open_when_settled();
}

/// Looks again when those who are greeted had their time, and then when those who are not back had theirs.
void Grid::open_in_time() {
  opening_ends_.expires_after(std::max<Duration>(Duration(0), (now() < greet_until_ ? greet_until_ : pool_.awaits_until().value_or(now())) - now()));
  opening_ends_.async_wait([this](auto error) {
    if (error || !opening_) return;
    take_early();
    open_when_settled();
    if (opening_) open_in_time();
  });
}

void Grid::open_when_settled() {
  if (!opening_) return;
  const auto until = pool_.awaits_until();
  const bool all_back = !until || now() >= *until;
  if (!pool_.settled() && (!all_back || now() < greet_until_)) return;
  opening_ = false;
  opening_ends_.cancel();
  pool_.await_nobody();
  asked_all_ = true;
  handle(MarketOpened{});
  take_early();
}

/// Who is here was asked, or does not answer: jobs are taken, though none may be given out yet.
void Grid::take_early() {
  asked_all_ = true;
  for (const auto& request : std::exchange(early_, {})) request();
}

// ---- Stale worlds ----------------------------------------------------------------------------------------------------------------

void Grid::stale(const Pool::Stale& said) {
  hear(said.jid, fmt::format("worker {} ({}) has obeyed a manager of epoch {}, and this one is of epoch {}", printable(said.nick), said.jid, said.epoch.value, epoch_.value), said.epoch, said.jobs);
}

/// Numbers that the lost world gave to its jobs are not given again, as far as workers know them.
void Grid::job_seen(const std::string& jid, const std::string& nick, JobId job) {
  if (job.value == 0 || book_.was_given(job)) return;
  hear(jid, fmt::format("worker {} ({}) was given job {}, and this store has none above {}", printable(nick), jid, job.value, book_.last_id().value), {}, job);
}

/// A worker of that account is or was at work here.
void Grid::worked(const std::string& owner) {
  if (owners_.size() < kOwnersMax && owners_.try_emplace(owner, epoch_).second) keep_fact(std::string(kOwnerFact) + owner, epoch_.value);
}

/// Whoever stops the manager stops the grid: the word of one is not enough, unless it is one of those whose grid it is, or the only one who ever worked here.
/// Of a store that knows of nobody that is no one: a stranger who comes first is not believed for that.
void Grid::hear(const std::string& jid, const std::string& what, Epoch epoch, JobId jobs) {
  if (!fenced_.empty()) return;
  const std::string owner = bare(jid);
  const bool only = owners_.size() == 1 && owners_.contains(owner);
  const bool fresh = !hearsay_.heard(owner);
  hearsay_.said(owner, epoch, jobs, only || rulebook_.now().vouches(owner));
  weigh(what);
  if (fenced_.empty() && fresh && (hearsay_.epoch() < epoch || hearsay_.jobs() < jobs))
    spdlog::warn("not believed what=\"{}\" why=\"no other owner says so\" next=\"souk-manager --restored if the store is a copy, else souk workers ban {}\"", what, owner);
}

/// What is believed of what workers say, and what follows.
void Grid::weigh(const std::string& what) {
  const Epoch epoch = hearsay_.epoch();
  const JobId jobs = hearsay_.jobs();
  const bool older = epoch > epoch_, fewer = jobs.value > 0 && !book_.was_given(jobs);
  if (!older && !fewer) return;
  if (!put_back_) return fence(what + ": another manager took over, or this store was put back from a copy, or the grid was begun anew; or workers lie, whom `souk workers ban` puts out");
  if (fewer) {
    const JobId last{(jobs.value / kEpochLeap + 1) * kEpochLeap};
    book_.given(last);
    journal_->set("last_job", last.value);
  }
  if (!older) return;
  spdlog::warn("leaping over lost epochs what=\"{}\" epoch={} own={} jobs={}", what, epoch.value, epoch_.value, jobs.value);
  // What this short life gave out cannot be told from what the other manager gave out in the epoch of that number.
  keep(lacks_.lost(epoch_, epoch));
  keep(lacks_.named(epoch));
  journal_->set("epoch", epoch.value);
  // A copy from before the key has another one than the world that is lost. What that gave out cannot be proven, and is looked at all the same.
  if (claims_key_.since == epoch_) journal_->set(std::string(kKeySinceFact), epoch.value + 1);
  fence(what);
  journal_->commit([this] { on_leap(); });
}

/// Nothing that it said counts where it is not decided yet: its results that wait for others, and that this store is out of date. That is on disk too where the
/// manager was stopped by that word: its next life reads what was said from there.
void Grid::banned(const std::string& jid) {
  const std::string account = bare(jid);
  Jury::Actions said;
  journal_->forget_votes(account);
  jury_.discard(account, said);
  perform(std::move(said), nullptr);
  if (owners_.erase(account) > 0) keep_fact(std::string(kOwnerFact) + account, 0, true);
  journal_->commit([] {});
  hearsay_.forget(account);
  on_banned(account);
  const bool counts = hearsay_.epoch() > epoch_ || (hearsay_.jobs().value > 0 && !book_.was_given(hearsay_.jobs()));
  if (fenced_.empty() || put_back_ || counts) return;
  spdlog::warn("fenced no longer why=\"{} is banned, who said so\" next=\"it begins anew\"", account);
  journal_->commit([this] { on_leap(); });
}

bool Grid::owns_jobs(const std::string& jid) const {
  return std::any_of(book_.all().begin(), book_.all().end(), [&](const auto& entry) { return entry.second.row.owner == jid; });
}

void Grid::fence(std::string why) {
  handle(MarketClosed{});
  fenced_ = std::move(why);
  pool_.fence();
  wake_.cancel();
  if (put_back_) return;
  spdlog::error("fenced why=\"{}\" next=\"nothing is given out or taken any more\"", fenced_);
  for (const auto& request : std::exchange(early_, {})) request();
  on_fenced(fenced_);
}

/// Until the workers here were asked, nobody knows whether this store is the newest: a job that an older one took would be lost with it. `again` is called then.
bool Grid::too_early(std::function<void()> again) {
  if (!too_early()) return false;
  early_.push_back(std::move(again));
  return true;
}

bool Grid::too_early() {
  if (asked_all_ || !fenced_.empty()) return false;
  if (!early_since_) early_since_ = now();
  return now() - *early_since_ <= kEarlyLasts && early_.size() < kEarlyMax;
}

/// The life in which that number was given, or one before it.
Epoch Grid::born(JobId job) const {
  Epoch in;
  for (const auto& [epoch, last] : lives_)
    if (last < job) in = epoch;
  return in;
}

void Grid::keep(const Lacks::Facts& facts) {
  for (const auto& [name, value] : facts) journal_->set(name, value);
}

/// Why nothing can be changed in this life, or not yet.
std::optional<Refusal> Grid::sealed() const {
  if (!fenced_.empty()) return Refusal{"not-acceptable", "this manager is out of date and takes nothing: " + fenced_};
  if (!asked_all_) return Refusal{"resource-constraint", "the manager's market is not open yet, in which it asks the workers what they have seen"};
  return std::nullopt;
}

// ---- Events in, actions out ------------------------------------------------------------------------------------------------------

void Grid::handle(const Event& event, Pool::Finished* finished) {
  if (!fenced_.empty()) return;
  std::vector<Action> actions;
  scheduler_.step(now(), event, actions);
  for (const Action& action : actions) perform(action, finished);
  wake_in_time();
  if (const auto* joined = std::get_if<WorkerJoined>(&event)) {
    const std::string jid = pool_.jid(joined->worker);
    worked(joined->owner);
    if (roster_.remember(jid, now())) keep_fact(std::string(kWorkerFact) + jid, 1);  // in the turn in which it can first be given anything
    if (joined->worker > met_) met_ = joined->worker, on_worker();
  }
}

/// The scheduler may want to be woken before the next tick: a retry is due, a deadline passes.
void Grid::wake_in_time() {
  const auto at = scheduler_.wake_at();
  if (at == wake_at_) return;
  wake_at_ = at;
  wake_.cancel();
  if (!at) return;
  wake_.expires_after(std::max<Duration>(*at - now(), kWakeMin));
  wake_.async_wait([this](auto error) {
    if (error) return;
    wake_at_.reset();
    handle(Tick{});
  });
}

void Grid::perform(const Action& action, Pool::Finished* finished) {
  if (const auto* a = std::get_if<Assign>(&action)) {
    if (JobEntry* entry = book_.find(a->task.job); entry && entry->row.started_ms == 0) entry->row.started_ms = now_ms();
    pool_.assign(a->worker, a->task, a->attempt, scheduler_.attempts(a->task));
    touch(a->task.job);
  } else if (const auto* s = std::get_if<Stop>(&action)) {
    pool_.stop(s->worker, s->what);
  } else if (const auto* c = std::get_if<Commit>(&action)) {
    JobEntry* entry = book_.find(c->what.task.job);
    OutcomeRow row{c->what.task, c->state, c->attempts, pool_.nick(c->worker), entry ? item_of(*entry, c->what.task.task) : "", {}, {}, {}};
    if (c->state != TaskState::succeeded) remember(c->worker, attempt_row(c->what.task, c->attempts, finished->outcome));
    if (entry && entry->row.tasks == 1 && only_results_.size() < kOnlyMax && finished->outcome.out.size() + finished->outcome.err.size() <= kOnlyBytes) {
      wire::TaskResult& only = only_results_[entry->row.id];
      only.Clear();
      only.set_task(row.task.task.value), only.set_state(static_cast<wire::State>(row.state)), only.set_attempts(row.attempts), only.set_worker(row.worker), only.set_item(row.item);
      only.set_group(entry->group_name(row.task.task));
      write(finished->outcome, *only.mutable_outcome());
    }
    row.out = std::move(finished->outcome.out), row.err = std::move(finished->outcome.err);
    finished->outcome.out.clear(), finished->outcome.err.clear();
    wire::Outcome outcome;
    write(finished->outcome, outcome);
    row.outcome = outcome.SerializeAsString();
    if (counts_bytes_ && entry) kept_.add(entry->row.id, entry->row.owner, 64 + row.item.size() + row.out.size() + row.err.size() + row.outcome.size());
    journal_->add(std::move(row));
    touch(c->what.task.job);
  } else if (const auto* f = std::get_if<Failed>(&action)) {
    AttemptRow row;
    if (finished && finished->what == f->what) {
      row = attempt_row(f->what.task, f->run, finished->outcome);
      row.over = f->what.attempt;
    } else {
      row.task = f->what.task, row.run = f->run, row.ending = f->why;
      std::replace(row.ending.begin(), row.ending.end(), '-', ' ');
    }
    if (f->why == kVote) {
      row.ending = "vote: " + row.ending;
      if (const Quorum* quorum = jury_.quorum(f->what.task.job); quorum && finished && finished->what == f->what)
        row.voter = scheduler_.voter(f->worker, quorum->of), row.vote = vote_of(finished->outcome, *quorum);
    }
    row.failures = f->failures, row.losses = f->losses;
    if (f->delay > Duration(0)) row.again_ms = now_ms() + static_cast<std::uint64_t>(std::chrono::ceil<std::chrono::milliseconds>(f->delay).count());
    remember(f->worker, std::move(row));
  } else if (const auto* g = std::get_if<GiveUp>(&action)) {
    given_up(*g);
  } else if (const auto* d = std::get_if<Drop>(&action)) {
    pool_.dropped(finished ? finished->worker : WorkerId{}, d->what, d->why);
    if (d->why == kOfLostEpoch && finished && finished->outcome.cause != Cause::canceled) {
      keep(lacks_.set_aside(d->what.task));
      keep(lacks_.named(d->what.attempt.epoch));
    }
  } else if (const auto* r = std::get_if<Requeued>(&action)) {
    spdlog::info("requeued task={}.{} attempt={} worker={} why={}", r->task.job.value, r->task.task.value, r->attempt.number, r->worker.value, r->why);
    touch(r->task.job);
  } else if (const auto* e = std::get_if<JobEnded>(&action)) {
    job_ended(e->job, e->state, e->why);
  } else if (const auto* w = std::get_if<SetAside>(&action)) {
    set_aside(*w);
  } else if (const auto* p = std::get_if<OnlyParked>(&action)) {
    Jury::Actions said;
    jury_.idle(p->job, said);
    perform(std::move(said), nullptr);
  }
}

// ---- Results that count only with others -------------------------------------------------------------------------------------------

void Grid::open_jury(JobId job, const wire::Job& spec) {
  if (auto quorum = quorum_of(spec)) jury_.open(job, std::move(*quorum));
}

void Grid::finished(Pool::Finished result) {
  const Outcome& o = result.outcome;
  const Quorum* quorum = jury_.quorum(result.what.task.job);
  if (!fenced_.empty() || !quorum || !Jury::says_something(o) || !scheduler_.runs(result.worker, result.what))
    return handle(AttemptFinished{result.worker, result.what, o.cause, o.succeeded(), o.wall, o.exit_code}, &result);
  Jury::Actions said;
  jury_.vote(now(), {scheduler_.voter(result.worker, quorum->of), result.worker, result.what}, result.outcome, said);
  perform(std::move(said), &result);
}

void Grid::perform(Jury::Actions said, Pool::Finished* in_hand) {
  for (Jury::Action& action : said) {
    if (auto* told = std::get_if<Jury::Tell>(&action)) {
      const auto* settled = std::get_if<TaskSettled>(&told->event);
      if (!settled || !told->outcome) {
        handle(told->event, in_hand);
        continue;
      }
      Pool::Finished kept{settled->worker, settled->what, std::move(*told->outcome)};
      handle(told->event, &kept);
    } else if (const auto* wrong = std::get_if<Jury::Caught>(&action)) {
      caught(*wrong);
    } else if (const auto* recorded = std::get_if<Jury::Recorded>(&action)) {
      journal_->set(std::string(kTrustFact) + recorded->voter, static_cast<std::uint64_t>(recorded->record.agreed) << 32 | recorded->record.found);
    }
  }
}

/// All workers that vote as this one did are distrusted; whose they are hears of it, not for each of many results.
void Grid::caught(const Jury::Caught& caught) {
  const std::string nick = pool_.nick(caught.worker), jid = pool_.jid(caught.worker);
  spdlog::warn("result was wrong voter={} worker={} nick=\"{}\" jid={} task={}.{} found={} taken_back={}", caught.voter, caught.worker.value, printable(nick), jid, caught.task.job.value,
               caught.task.task.value, caught.record.found, caught.taken_back);
  std::vector<WorkerId> same;
  for (const auto& [id, member] : pool_.members())
    if (caught.voter == scheduler_.voter(id, VotesOf::owners) || caught.voter == scheduler_.voter(id, VotesOf::workers)) same.push_back(id);
  for (const WorkerId id : same) handle(WorkerDistrusted{id, caught.aside});
  std::erase_if(told_wrong_, [](const auto& one) { return one.second <= now(); });
  if (jid.empty() || !told_wrong_.try_emplace(caught.voter, now() + kToldWrong).second) return;
  tell_person(bare(jid), fmt::format("worker-{}-{}-wrong-{}", epoch_.value, caught.worker.value, now_ms()),
              fmt::format("Your worker {} gave a result (task {}.{}) that is not what others found; it has happened {} time{}. Its results are checked more closely from now on. Please look at its "
                          "machine: memory, disk and the programs the task uses. `souk workers` shows its record.",
                          nick, caught.task.job.value, caught.task.task.value, caught.record.found, caught.record.found == 1 ? "" : "s"));
}

/// One more line in the history of a task. Losses answer nobody, whose answer would bring them to the disk.
void Grid::remember(WorkerId worker, AttemptRow row) {
  row.worker = pool_.nick(worker), row.host = pool_.host(worker), row.ended_ms = now_ms();
  journal_->add(std::move(row));
  journal_->commit([] {});
}

void Grid::given_up(const GiveUp& given) {
  JobEntry* entry = book_.find(given.task.job);
  OutcomeRow row{given.task, TaskState::failed, given.attempts, "", entry ? item_of(*entry, given.task.task) : "", {}, {}, {}};
  Outcome end;
  const bool late = given.why.find("deadline") != given.why.npos;
  jury_.given_up(given.task);
  end.cause = late ? Cause::not_started : Cause::lost;
  std::string lost = "its worker was lost";
  if (entry != nullptr)
    if (const auto at = static_cast<int>(entry->group_of(given.task.task)); at < entry->job.groups_size() && !entry->job.groups(at).command().service().empty())
      lost = "service " + entry->job.groups(at).command().service() + " or its worker was gone before it answered,";
  end.why = !given.note.empty() ? given.note : late ? std::string(given.why) : fmt::format("{} {} times; the task may be what kills it", lost, given.losses);
  wire::Outcome outcome;
  write(end, outcome);
  row.outcome = outcome.SerializeAsString();
  journal_->add(std::move(row));
  journal_->commit([] {});
  spdlog::warn("gave up task={}.{} attempts={} why=\"{}\"", given.task.job.value, given.task.task.value, given.attempts, given.why);
  touch(given.task.job);
}

void Grid::set_aside(const SetAside& action) {
  const auto minutes = std::max<std::int64_t>(1, std::chrono::duration_cast<std::chrono::minutes>(action.until - now() + 30s).count());
  const std::string nick = pool_.nick(action.worker), jid = pool_.jid(action.worker);
  spdlog::warn("set aside worker={} nick=\"{}\" jid={} minutes={} why=\"{}\"", action.worker.value, printable(nick), jid, minutes, action.why);
  tell_person(bare(jid), fmt::format("worker-{}-{}-aside-{}", epoch_.value, action.worker.value, now_ms()),
              fmt::format("Your worker {} is given no tasks for {} minutes: {}. Please look at its machine; `souk workers` shows when it is back.", nick, minutes, action.why));
}

void Grid::job_ended(JobId job, TaskState state, const std::string& why) {
  JobEntry* entry = book_.find(job);
  const auto* counts = scheduler_.counts(job);
  if (!entry || !counts) return;
  JobRow& row = entry->row;
  row.ended_ms = now_ms();
  if (row.started_ms == 0) row.started_ms = row.ended_ms;
  row.state = state;
  row.succeeded = counts->succeeded, row.failed = counts->failed, row.canceled_tasks = counts->canceled, row.requeued = counts->requeued, row.retried = counts->retried;
  row.note = shortened(printable(why), kNoteMax);
  entry->end_saved = false;
  jury_.close(job);
  book_.ended(*entry);
  memory_.give_back(row.owner, std::exchange(entry->memory, 0));
  spdlog::info("job ended job={} state={} tasks={} succeeded={} failed={} canceled={} requeued={} ms={} why=\"{}\"", job.value, name_of(state), row.tasks, row.succeeded, row.failed, row.canceled_tasks,
               row.requeued, row.ended_ms - row.submitted_ms, row.note);
  journal_->end(row);
  journal_->commit([this, job] {
    auto only = only_results_.extract(job);
    JobEntry* over = book_.find(job);
    if (!over) return;
    over->end_saved = true;
    const auto watchers = watches_.ended(now(), job);
    push(watchers, *over, only.empty() ? nullptr : &only.mapped());
    tell_owner(*over, std::any_of(watchers.begin(), watchers.end(), [&](const std::string& jid) { return bare(jid) == over->row.owner; }));
  });
}

/// Owners who were not told how their jobs ended: there was no link, or this manager's last life ended just then.
void Grid::tell_untold() {
  for (const JobId job : std::exchange(untold_, {}))
    if (const JobEntry* entry = book_.find(job); entry && entry->over()) tell_owner(*entry, false);
}

/// Jobs that ended too long ago go, a few at a time, while the store has time for it.
void Grid::forget_old() {
  if (keep_.count() == 0 || !fenced_.empty() || journal_->forgetting() > kForgettingMax || !journal_->refused().empty()) return;
  const std::uint64_t now = now_ms(), age = static_cast<std::uint64_t>(keep_.count());
  std::size_t gone = 0;
  for (const JobId job : book_.forgettable(now - std::min(now, age), kForgetAtOnce)) {
    if (reopening_.contains(job) || !book_.find(job)->over()) continue;
    journal_->forget(job);
    book_.forget(job);
    kept_.forget(job);
    untold_.erase(job);
    handle(JobForgotten{job});
    ++gone;
  }
  if (gone > 0) spdlog::info("no longer kept jobs={} ended_before={} keep={}", gone, now - age, keep_shown_);
}

std::string Grid::trouble() const {
  if (!fenced_.empty()) return fenced_;
  const std::string why = journal_->trouble();
  return why.empty() ? why : why + ": no new jobs for now; what the manager has is kept";
}

void Grid::watch_trouble() {
  std::string why = trouble();
  if (why == trouble_) return;
  // How much is left changes all the time; that there is trouble is said once.
  const bool changes = why.empty() != trouble_.empty();
  trouble_ = std::move(why);
  if (!changes) return;
  if (trouble_.empty()) spdlog::info("trouble over");
  else spdlog::warn("trouble why=\"{}\"", trouble_);
  on_trouble(trouble_);
}

/// A chat message that waits for owners who are offline (XEP-0160). Nothing when the owner's own program sees the end anyway, unless asked for.
void Grid::tell_owner(const JobEntry& entry, bool watched) {
  const JobRow& row = entry.row;
  if (watched && !row.notify) return journal_->told(row.id);
  if (!linked_) return void(untold_.insert(row.id));
  std::string text = fmt::format("Job {}{} {}: {} of {} task{} succeeded", row.id.value, row.name.empty() ? "" : " \"" + row.name + "\"", name_of(row.state), row.succeeded, row.tasks, row.tasks == 1 ? "" : "s");
  if (row.failed > 0) text += fmt::format(", {} failed", row.failed);
  if (row.canceled_tasks > 0) text += fmt::format(", {} canceled", row.canceled_tasks);
  text += fmt::format(", in {:.1f} s", static_cast<double>(row.ended_ms - row.submitted_ms) / 1000);
  if (!row.note.empty()) text += fmt::format(": {}", row.note);
  text += fmt::format(". Its output: command `results` here, or `souk cat {}`.", row.id.value);
  // The same id if it is said again, by a life that does not know that the last one did.
  tell_person(row.owner, fmt::format("job-{}-{}-ended", row.id.value, row.ended_ms), text);
  journal_->told(row.id);
}

void Grid::tell_person(const std::string& jid, const std::string& id, const std::string& text) {
  auto message = element("message", {}, {{"type", "chat"}, {"to", jid}, {"from", bare(me_)}, {"id", id}});
  child(*message, "body", {}, {}, printable(text));
  if (linked_) return link_.send(std::move(message));
  if (unsent_.size() >= kUnsentMax) unsent_.pop_front();
  unsent_.push_back(std::move(message));
}

/// only: the result of a job of one task, which spares who waits for it a question.
void Grid::push(const std::vector<std::string>& jids, const JobEntry& entry, const wire::TaskResult* only) {
  if (jids.empty()) return;
  wire::Event event;
  *event.mutable_job() = book_.status(entry, scheduler_);
  wire::ResultsAnswer results;
  if (only) *results.add_results() = *only;
  for (const std::string& jid : jids) {
    auto message = element("message", {}, {{"type", "headline"}, {"to", jid}, {"from", me_}});
    add_payload(*message, "event", ns::job, event, {{"job", std::to_string(entry.row.id.value)}});
    if (only) add_payload(*message, "results", ns::job, results);
    link_.send(std::move(message));
  }
}

void Grid::touch(JobId job) {
  watches_.changed(job);
  if (!watches_.pending() || std::exchange(push_due_, true)) return;
  push_.expires_after(std::chrono::duration_cast<std::chrono::steady_clock::duration>(Watches::kGap));
  push_.async_wait([this](auto error) {
    push_due_ = false;
    if (error) return;
    // News of what goes on can wait for a server that is slow to read; those of an end cannot.
    if (link_.queued() > kNewsMax) return touch({});
    for (const auto& [id, jids] : watches_.due(now()))
      if (const JobEntry* entry = book_.find(id); entry && !entry->over()) push(jids, *entry);
    if (watches_.pending()) touch({});
  });
}

void Grid::tick() {
  tick_.expires_after(1s);
  tick_.async_wait([this](auto error) {
    if (error) return;
    listen();
    handle(Tick{});
    if (early_since_ && now() - *early_since_ > kEarlyLasts)
      for (const auto& request : std::exchange(early_, {})) request();
    if (linked_) pool_.tick(), keep_roster(Roster::kForgetAfter);
    watch_trouble();
    forget_old();
    audit_.tick();
    tick();
  });
}

/// A server that says nothing, not even to a ping, may be cut off, and all workers with it: until it is heard again, their silence is not their fault.
void Grid::listen() {
  const auto quiet = link_.quiet();
  if (!linked_ || opening_ || !quiet) return;
  if (*quiet > std::max<Duration>(1s, lease_ / 6)) link_.ping();
  const bool deaf = *quiet > std::max<Duration>(2s, lease_ / 3);
  if (std::exchange(deaf_, deaf) == deaf) return;
  if (deaf) spdlog::warn("nothing heard from the server quiet_ms={} next=\"no lease ends and nothing is given out until it is\"", quiet->count());
  else spdlog::info("the server is heard again");
  handle(deaf ? Event(MarketClosed{}) : Event(MarketOpened{}));
}

void Grid::keep_fact(const std::string& fact, std::uint64_t value, bool always) {
  if (!fenced_.empty() && !always) return;
  journal_->set(fact, value);
  if (std::exchange(facts_due_, true)) return;
  boost::asio::post(loop_, [this] {  // all that come in one turn of the loop are one transaction
    facts_due_ = false;
    journal_->commit([] {});
  });
}

void Grid::keep_roster(Duration patience) {
  std::set<std::string> present;
  for (const auto& [id, member] : pool_.members()) present.insert(member.jid);
  const auto changes = roster_.update(now(), present, patience);
  for (const auto& [jid, here] : changes) journal_->set(std::string(kWorkerFact) + jid, here ? 1 : 0);
  if (!changes.empty()) journal_->commit([] {});
}

}  // namespace souk
