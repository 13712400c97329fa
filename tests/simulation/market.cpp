#include "tests/simulation/market.h"

#include <algorithm>
#include <array>

#include "tests/simulation/simulation.h"

namespace souk::simulation {

using namespace std::chrono_literals;

namespace {
constexpr auto kDeadline = 20s;        // for an answer of a worker
constexpr auto kGreetMax = 3s;         // for everybody in the market to answer before tasks are given out
constexpr auto kReturnGrace = 10s;     // for those who were in the market before it closed
constexpr std::size_t kAssignmentsMax = 256;
}  // namespace

Market::Market(Simulation& simulation, Journal& journal)
    : simulation_(simulation), journal_(&journal), epoch_{++journal.epoch.value}, scheduler_(epoch_, simulation.rules()) {
  simulation_.world.note("manager starts, epoch {}", {epoch_.value});
  simulation_.laws.new_life();
  handle(MarketClosed{});
  for (const OwnerSet& owner : simulation_.plan.owners) handle(owner);
  last_job_ = journal_->last_job;
  for (const auto& [id, job] : journal_->jobs) {
    book_[id] = job.spec;
    keys_[job.key] = id;
    if (job.over) {
      over_.insert(id);
      handle(JobKnown{id, job.state});
      continue;
    }
    JobRestored event{job.spec, {}, job.canceled};
    event.job.terms.hold = job.held;
    event.ended.assign(job.outcomes.begin(), job.outcomes.end());
    for (const auto& [task, past] : job.past) event.past.push_back(past);
    handle(event);
  }
  tick();
}

void Market::die() {
  simulation_.world.note("manager dies", {});
  const std::size_t written = to_save_.empty() ? 0 : simulation_.world.dice.pick(to_save_.size() + 1);
  for (std::size_t i = 0; i < written; ++i) to_save_[i]();
  alive_.reset();
}

void Market::left_behind() { own_ = std::make_unique<Journal>(*journal_), journal_ = own_.get(); }

void Market::later(Duration pause, std::function<void()> what) {
  simulation_.world.after(pause, [this, alive = std::weak_ptr(alive_), what = std::move(what)] {
    if (alive.expired()) return;
    if (stalled()) timers_while_stalled_.push_back(what);
    else what();
  });
}

bool Market::stalled() const { return stalled_until_ && simulation_.world.now() < *stalled_until_; }

void Market::run(std::function<void()> what) {
  if (stalled()) while_stalled_.push_back(std::move(what));
  else what();
}

void Market::stall(Duration how_long) {
  if (stalled()) return;
  simulation_.world.note("manager stands still for {} ms", {static_cast<std::uint64_t>(how_long / 1ms)});
  stalled_until_ = simulation_.world.now() + how_long;
  simulation_.world.at(*stalled_until_, [this, how_long, alive = std::weak_ptr(alive_)] {
    if (alive.expired()) return;
    simulation_.world.note("manager goes on", {});
    stalled_until_.reset();
    if (!is_left_behind()) simulation_.laws.stood_still(how_long);
    // A loop that wakes up may see its timers first, or what came meanwhile.
    const bool timers_first = simulation_.world.dice.chance(0.5);
    auto timers = std::exchange(timers_while_stalled_, {}), came = std::exchange(while_stalled_, {});
    for (auto* all : timers_first ? std::array{&timers, &came} : std::array{&came, &timers})
      for (const auto& what : *all)
        if (!alive.expired()) run(what);
  });
}

// ---- Events in, actions out -----------------------------------------------------------------------------------------------------

void Market::handle(const Event& event) {
  std::vector<Action> actions;
  scheduler_.step(simulation_.world.now(), event, actions);
  if (!is_left_behind()) simulation_.laws.told(event, actions, *this);
  for (const Action& action : actions) perform(action);
  wake_in_time();
}

void Market::perform(const Action& action) {
  if (const auto* a = std::get_if<Assign>(&action)) {
    const auto host = host_of(a->worker);
    if (host) {
      auto& given = simulation_.given[a->attempt];
      given.task = a->task, given.hosts.insert(*host);
    }
    if (const auto peer = host ? peers_.find(*host) : peers_.end(); peer != peers_.end() && peer->second.joined) {
      peer->second.to_assign.push_back({a->attempt, a->task, scheduler_.attempts(a->task)});
      flush_soon(*host);
    } else {
      later(Duration(0), [this, worker = a->worker, attempt = a->attempt] { refused(worker, {attempt}); });
    }
  } else if (const auto* s = std::get_if<Stop>(&action)) {
    const auto host = host_of(s->worker);
    const auto peer = host ? peers_.find(*host) : peers_.end();
    if (peer == peers_.end() || !peer->second.joined) return;
    peer->second.to_stop.push_back(s->what.attempt);
    flush_soon(*host);
  } else if (const auto* c = std::get_if<Commit>(&action)) {
    save([this, task = c->what.task, state = c->state] { simulation_.laws.on_disk(*journal_, task, state); });
  } else if (const auto* f = std::get_if<Failed>(&action)) {
    save([this, failed = *f, now = simulation_.world.now()] {
      Past& past = journal_->jobs.at(failed.what.task.job).past[failed.what.task.task];
      past.task = failed.what.task.task;
      past.runs = std::max(past.runs, failed.run), past.failures = failed.failures, past.losses = failed.losses;
      past.not_before.reset();
      if (failed.delay > Duration(0)) past.not_before = now + failed.delay;
      if (failed.why == "failed" || failed.why == "stopped-by-worker") past.over = failed.what.attempt;
    });
  } else if (const auto* g = std::get_if<GiveUp>(&action)) {
    save([this, task = g->task] { simulation_.laws.on_disk(*journal_, task, TaskState::failed); });
    commit([] {});
  } else if (const auto* e = std::get_if<JobEnded>(&action)) {
    over_.insert(e->job);
    save([this, id = e->job, state = e->state] {
      journal_->jobs.at(id).over = true;
      journal_->jobs.at(id).state = state;
      journal_->jobs.at(id).ended = simulation_.world.now();
    });
    commit([] {});
  }
}

void Market::commit(std::function<void()> then) {
  to_answer_.push_back(std::move(then));
  flush_to_disk();
}

/// One transaction at a time; what comes meanwhile goes into the next.
void Market::flush_to_disk() {
  if (saving_ || to_answer_.empty() || is_left_behind()) return;  // the store is another's by then
  saving_ = true;
  if (const Instant takes = simulation_.disk_takes_at(); takes > simulation_.world.now()) {  // tried again until there is space
    later(takes - simulation_.world.now(), [this] {
      saving_ = false;
      flush_to_disk();
    });
    return;
  }
  const Duration pause = simulation_.world.dice.chance(0.02) ? simulation_.world.dice.between(50ms, 2s) : simulation_.world.dice.between(100us, 5ms);
  later(pause, [this, facts = to_save_.size(), answers = to_answer_.size()] {
    saving_ = false;
    for (std::size_t i = 0; i < facts; ++i) to_save_[i]();
    to_save_.erase(to_save_.begin(), to_save_.begin() + static_cast<long>(facts));
    std::vector<std::function<void()>> then(std::make_move_iterator(to_answer_.begin()), std::make_move_iterator(to_answer_.begin() + static_cast<long>(answers)));
    to_answer_.erase(to_answer_.begin(), to_answer_.begin() + static_cast<long>(answers));
    for (const auto& answer : then) answer();
    flush_to_disk();
  });
}

void Market::tick() {
  later(1s, [this] {
    handle(Tick{});
    if (linked_)
      for (auto& [host, peer] : peers_)
        if (peer.owed && !peer.asking && peer.again <= simulation_.world.now()) meet(host);
    forget_old();
    tick();
  });
}

/// Jobs that ended long ago and that nobody waits for (JobBook::forgettable). What their submitters may still ask for is asked long before.
void Market::forget_old() {
  const Duration keep = simulation_.plan.keep;
  if (keep == Duration(0) || is_left_behind() || simulation_.disk_takes_at() > simulation_.world.now()) return;
  for (const auto& [id, job] : journal_->jobs) {
    if (!job.over || !over_.contains(id) || reopening_.contains(id) || !book_.contains(id) || simulation_.world.now() < job.ended + keep || !simulation_.is_done_with(id)) continue;
    if (std::any_of(book_.begin(), book_.end(), [&, number = id](const auto& other) {
          const auto& after = other.second.terms.after;
          return !over_.contains(other.first) && std::any_of(after.begin(), after.end(), [&](const JobAfter& one) { return one.job == number; });
        })) continue;
    simulation_.world.note("job {} is no longer kept", {id.value});
    save([this, number = id] { simulation_.forgets(journal_->jobs.extract(number)); });
    commit([] {});
    keys_.erase(job.key);
    over_.erase(id);
    book_.erase(id);
    handle(JobForgotten{id});
    return;  // one a tick
  }
}

void Market::wake_in_time() {
  const auto at = scheduler_.wake_at();
  if (!at || (wakes_at_ && *wakes_at_ <= *at && *wakes_at_ > simulation_.world.now())) return;
  wakes_at_ = std::max(*at, simulation_.world.now() + 1ms);  // as a timer of the loop would
  later(*wakes_at_ - simulation_.world.now(), [this] {
    wakes_at_.reset();
    handle(Tick{});
  });
}

// ---- Who is there ---------------------------------------------------------------------------------------------------------------

void Market::opened(const std::set<std::size_t>& occupants) {
  simulation_.world.note("market opens", {});
  for (const std::size_t host : occupants) present(host, true);
  later(kReturnGrace, [this, number = openings_ + 1] {
    if (number != openings_ || !linked_) return;
    for (const auto& [host, peer] : std::map(peers_))
      if (!simulation_.in_room(host)) gone(host);
  });
  linked_ = is_opening_ = true;
  ++openings_;
  later(kGreetMax, [this, number = openings_] {
    if (number == openings_) open_when_settled(true);
  });
  open_when_settled(false);
}

void Market::open_when_settled(bool at_once) {
  const bool settled = std::none_of(peers_.begin(), peers_.end(), [](const auto& entry) { return entry.second.asking; });
  if (!is_opening_ || (!at_once && !settled)) return;
  is_opening_ = false;
  handle(MarketOpened{});
}

void Market::closed() {
  if (!std::exchange(linked_, false)) return;
  simulation_.world.note("market closes", {});
  is_opening_ = false;
  handle(MarketClosed{});
  for (const auto& [number, request] : std::exchange(requests_, {})) request.then(nullptr);
  std::vector<WorkerId> workers;
  for (auto& [host, peer] : peers_) {
    peer.asking = false;
    if (peer.joined) workers.push_back(peer.id);
  }
  for (const WorkerId id : workers) handle(WorkerChanged{id, WorkerState::paused});
}

void Market::present(std::size_t host, bool entered) {
  Peer& peer = peers_[host];
  if (peer.asking || (peer.joined && !entered)) return;
  meet(host);
}

void Market::meet(std::size_t host) {
  Peer& peer = peers_[host];
  if (peer.joined) handle(WorkerChanged{peer.id, WorkerState::paused});
  peer.owed = true;
  greet(host);
}

void Market::greet(std::size_t host) {
  peers_[host].asking = true;
  flush(host);  // what it was given before must come before the hello
  const std::uint64_t request = ask(host, [this, host](const auto* answer) {
    const auto at = peers_.find(host);
    if (at == peers_.end()) return;
    const auto* hello = answer ? std::get_if<HelloAnswer>(answer) : nullptr;
    if (!hello) return greet_later(host);
    Peer& peer = at->second;
    peer.asking = peer.owed = false;
    peer.failures = 0;
    const auto [id, fresh] = ids_.try_emplace(host, WorkerId{ids_.size() + 1});
    peer.id = id->second;
    peer.joined = true;
    peer.has_command.clear();
    hosts_[peer.id] = host;
    Offer offer = simulation_.claimed(host);
    offer.slots = hello->slots;
    simulation_.world.note("worker {} is greeted, holds {}", {host, hello->held.size()});
    handle(WorkerJoined{peer.id, std::make_shared<const Offer>(std::move(offer)), "w" + std::to_string(host), "owner@w" + std::to_string(host), hello->slots, hello->state, hello->held, hello->until});
    open_when_settled(false);
  });
  simulation_.to_host(host, [request, epoch = epoch_, lease = simulation_.plan.lease](Host& to) { to.hello(request, epoch, lease); }, request);
}

void Market::greet_later(std::size_t host) {
  Peer& peer = peers_.at(host);
  peer.asking = false;
  peer.again = simulation_.world.now() + std::min<Duration>(60s, 1s * (1 << std::min(6, peer.failures++)));
  open_when_settled(false);
}

void Market::gone(std::size_t host) {
  const auto at = peers_.find(host);
  if (at == peers_.end()) return;
  const bool joined = at->second.joined;
  const WorkerId id = at->second.id;
  peers_.erase(at);
  if (!joined) return;
  simulation_.world.note("worker {} has left", {host});
  dirty_.erase(host);
  handle(WorkerLost{id});
}

void Market::bounced(std::size_t host) {
  const auto at = peers_.find(host);
  if (at == peers_.end() || !at->second.joined) return;
  at->second.joined = at->second.asking = false;
  at->second.owed = true;
  at->second.again = simulation_.world.now() + 1s;
  dirty_.erase(host);
  handle(WorkerLost{at->second.id});
}

std::optional<std::size_t> Market::host_of(WorkerId worker) const {
  const auto at = hosts_.find(worker);
  return at == hosts_.end() ? std::nullopt : std::optional(at->second);
}

// ---- To the workers -------------------------------------------------------------------------------------------------------------

std::uint64_t Market::ask(std::size_t host, std::function<void(const std::variant<HelloAnswer, AssignAnswer>*)> then) {
  const std::uint64_t number = ++simulation_.requests;
  requests_[number] = {host, std::move(then)};
  later(kDeadline, [this, number] {
    const auto at = requests_.find(number);
    if (at == requests_.end()) return;
    const auto what = std::move(at->second.then);
    requests_.erase(at);
    what(nullptr);
  });
  return number;
}

void Market::answered(std::uint64_t request, const std::variant<HelloAnswer, AssignAnswer>& answer) {
  const auto at = requests_.find(request);
  if (at == requests_.end()) {
    if (!is_left_behind()) simulation_.old_market_hears(request, answer);  // an answer goes to who asked
    return;
  }
  if (const auto* refusal = std::get_if<AssignAnswer>(&answer); refusal && refusal->what == AssignAnswer::stale) {
    if (!is_left_behind()) return simulation_.world.blame("a worker takes the only manager for an old one");
    return simulation_.old_market_is_fenced();
  }
  const auto then = std::move(at->second.then);
  requests_.erase(at);
  then(&answer);
}

void Market::flush_soon(std::size_t host) {
  dirty_.insert(host);
  if (std::exchange(posted_, true)) return;
  later(Duration(0), [this] {
    posted_ = false;
    for (const std::size_t one : std::exchange(dirty_, {}))
      if (const auto at = peers_.find(one); at != peers_.end() && at->second.joined) flush(one);
  });
}

void Market::flush(std::size_t host) {
  Peer& peer = peers_.at(host);
  const auto all = std::exchange(peer.to_assign, {});
  const auto stops = std::exchange(peer.to_stop, {});
  const WorkerId id = peer.id;
  std::vector<AttemptId> stale;
  for (std::size_t next = 0; next < all.size();) {
    std::vector<Given> given;
    std::vector<AttemptId> attempts;
    for (; next < all.size() && given.size() < kAssignmentsMax; ++next) {
      Given one = all[next];
      const JobId job = one.task.job;
      if (over_.contains(job) || !book_.contains(job)) {
        stale.push_back(one.attempt);
        continue;
      }
      one.command_inside = !simulation_.plan_of(job).large_command;
      if (!one.command_inside && peer.has_command.insert(job).second) {
        const unsigned parts = simulation_.plan_of(job).command_parts;
        for (unsigned part = 0; part < parts; ++part) simulation_.to_host(host, [job, part, parts](Host& to) { to.command(job, part, parts); });
      }
      given.push_back(one);
      attempts.push_back(one.attempt);
    }
    if (given.empty()) continue;
    const std::uint64_t request = ask(host, [this, host, id, attempts](const auto* got) {
      const auto* answer = got ? std::get_if<AssignAnswer>(got) : nullptr;
      const auto at = peers_.find(host);
      if (!answer || answer->what == AssignAnswer::timeout) return;  // its lease decides
      if (answer->what == AssignAnswer::nobody_there) {
        if (at != peers_.end() && at->second.joined) bounced(host);
        return;
      }
      if (answer->what == AssignAnswer::conflict) {
        if (at != peers_.end() && at->second.joined) meet(host);
        return refused(id, attempts);
      }
      if (at != peers_.end())
        for (const JobId job : answer->missing) at->second.has_command.erase(job);
      std::vector<AttemptId> back;
      for (const std::uint64_t number : answer->refused)
        if (const AttemptId attempt{epoch_, number}; std::find(attempts.begin(), attempts.end(), attempt) != attempts.end()) back.push_back(attempt);
      refused(id, back);
    });
    simulation_.to_host(host, [request, epoch = epoch_, given](Host& to) { to.assign(request, epoch, given); }, request);
  }
  if (!stops.empty()) simulation_.to_host(host, [stops](Host& to) { to.stop(stops); });
  if (!stale.empty()) refused(id, stale);
}

void Market::refused(WorkerId worker, const std::vector<AttemptId>& attempts) {
  refused_.insert(attempts.begin(), attempts.end());
  for (const AttemptId attempt : attempts) handle(AttemptRefused{worker, attempt});
}

// ---- From the workers -----------------------------------------------------------------------------------------------------------

void Market::report(std::size_t host, std::uint64_t, std::uint64_t number, const Report& report) {
  const auto reply = [this, host, number](Reply what) { simulation_.to_host(host, [number, what](Host& to) { to.answer_report(number, what); }); };
  const auto at = peers_.find(host);
  if (at == peers_.end() || !at->second.joined) return reply(Reply::unknown_worker);
  const WorkerId worker = at->second.id;
  if (to_save_.size() > kFactsMax && simulation_.disk_takes_at() > simulation_.world.now()) return reply(Reply::unanswered);  // they keep it, and say it again
  std::vector<Report::Result> wanted;
  for (const auto& result : report.results)
    if (result.succeeded && is_wanted(result.what)) wanted.push_back(result);
  for (const auto& result : report.results) handle(AttemptFinished{worker, result.what, result.cause, result.succeeded, result.wall, result.exit_code});
  for (const AttemptId attempt : report.returned) handle(AttemptReturned{worker, attempt});
  if (report.results.empty()) return reply(Reply::taken);
  commit([this, host, wanted, reply] {
    keep_promises(host, wanted);
    reply(Reply::taken);
  });
}

/// Whether the scheduler has no reason to drop a success of that attempt.
bool Market::is_wanted(const Held& what) const {
  const auto job = book_.find(what.task.job);
  const auto kept = journal_->jobs.find(what.task.job);
  if (job == book_.end() || over_.contains(what.task.job) || kept == journal_->jobs.end() || kept->second.again) return false;
  const TaskState state = scheduler_.state(what.task);
  if (refused_.contains(what.attempt) || state == TaskState::failed || state == TaskState::canceled) return false;
  // What it needs may have been on its way to the disk when the last life ended.
  const Group* group = simulation_.group_of(what.task);
  return what.attempt.epoch == epoch_ || (group && group->after.empty() && job->second.terms.after.empty());
}

/// Who is told that its results were taken forgets them: so they are on disk, or nobody wants them.
void Market::keep_promises(std::size_t host, const std::vector<Report::Result>& wanted) {
  for (const auto& result : wanted) {
    if (is_left_behind()) return;
    const auto truth = simulation_.truths.find(result.what.attempt);
    const auto job = journal_->jobs.find(result.what.task.job);
    if (truth == simulation_.truths.end() || truth->second.host != host || truth->second.task != result.what.task || !truth->second.succeeded) continue;
    if (job == journal_->jobs.end() || job->second.over || job->second.canceled || over_.contains(job->first) || job->second.outcomes.contains(result.what.task.task) || !is_wanted(result.what)) continue;
    simulation_.world.blame("a worker is told to forget a result that is not on disk: " + std::to_string(result.what.task.job.value) + "." + std::to_string(result.what.task.task.value));
  }
}

void Market::lease(std::size_t host, std::uint64_t number, const std::vector<Held>& held, WorkerState state, int slots, std::optional<Instant> until) {
  const auto at = peers_.find(host);
  const bool known = at != peers_.end() && at->second.joined;
  simulation_.to_host(host, [known, number](Host& to) { to.answer_lease(known ? Reply::taken : Reply::unknown_worker, number); });
  if (known) handle(LeaseRenewed{at->second.id, state, held, slots, until});
}

// ---- From submitters ------------------------------------------------------------------------------------------------------------

void Market::submit(const std::string& key, JobSubmitted job, std::function<void(JobId)> reply) {
  if (simulation_.is_forgotten(key)) return;  // a message that is older than what is kept
  if (is_left_behind() || (simulation_.disk_takes_at() > simulation_.world.now() && !keys_.contains(key))) return;  // refused, to be said again
  if (const auto known = keys_.find(key); known != keys_.end()) return commit([reply, id = known->second] { reply(id); });
  job.job = JobId{++last_job_};
  keys_[key] = job.job;
  book_[job.job] = job;
  save([this, job, key] {
    journal_->jobs[job.job].spec = job;
    journal_->jobs[job.job].key = key;
    journal_->jobs[job.job].held = job.terms.hold;
    journal_->last_job = job.job.value;
  });
  simulation_.names_job(job.job, key);
  commit([this, job, reply] {
    if (!journal_->jobs.contains(job.job)) simulation_.world.blame("a job is promised that is not on disk");
    reply(job.job);
    handle(job);
  });
}

void Market::order(JobId job, Order order, std::function<void()> reply) {
  if (is_left_behind() || !book_.contains(job)) return;  // of a life whose disk never had it; cannot be, since it was answered
  if (order == Order::rerun) return run_again(job, std::move(reply));
  if (over_.contains(job)) return commit(reply);
  save([this, job, order] {
    Journal::Job& entry = journal_->jobs.at(job);
    if (order == Order::cancel) entry.canceled = true;
    else entry.held = order == Order::hold;
  });
  commit([this, job, order, reply] {
    if (order == Order::cancel) handle(JobCanceled{job});
    else if (order == Order::hold) handle(JobHeld{job});
    else handle(JobReleased{job});
    reply();
  });
}

/// Of a job that ended without success, all but what succeeded.
void Market::run_again(JobId job, std::function<void()> reply) {
  if (!over_.contains(job)) return commit(reply);                               // it runs again already, by an order whose answer was lost
  if (simulation_.disk_takes_at() > simulation_.world.now() || saving_ || !to_save_.empty()) return;  // refused, to be said again; it is read from what is on disk
  const Journal::Job& entry = journal_->jobs.at(job);
  if (!entry.over || entry.state == TaskState::succeeded || entry.again) return commit(reply);
  if (!reopening_.insert(job).second) return;  // the first such order is on its way
  JobRestored event{book_.at(job), {}, false};
  event.job.terms.hold = false;
  if (event.job.terms.deadline && *event.job.terms.deadline <= simulation_.world.now()) event.job.terms.deadline.reset();
  for (const auto& [task, state] : entry.outcomes)
    if (state == TaskState::succeeded) event.ended.emplace_back(task, state);
  for (const auto& [task, past] : entry.past)
    if (!entry.outcomes.contains(task) || entry.outcomes.at(task) != TaskState::succeeded) event.past.push_back({task, past.runs, 0, 0, {}, {}});
  book_[job] = event.job;
  simulation_.world.note("job {} is to run again", {job.value});
  save([this, event] {
    Journal::Job& kept = journal_->jobs.at(event.job.job);
    kept.spec = event.job;
    kept.canceled = kept.held = kept.over = false;
    kept.again = true;
    kept.state = TaskState::waiting;
    kept.outcomes.clear();
    kept.outcomes.insert(event.ended.begin(), event.ended.end());
    kept.past.clear();
    for (const Past& past : event.past) kept.past[past.task] = past;
  });
  commit([this, event, reply] {
    over_.erase(event.job.job), reopening_.erase(event.job.job);
    reply();
    for (const JobAfter& after : event.job.terms.after)
      if (over_.contains(after.job)) handle(JobKnown{after.job, journal_->jobs.at(after.job).state});
    handle(event);
  });
}

}  // namespace souk::simulation
