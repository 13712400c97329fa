#include "tests/simulation/simulation.h"

#include <algorithm>

namespace souk::simulation {

using namespace std::chrono_literals;

namespace {
}

Simulation::Simulation(std::uint64_t seed, Plan drawn) : world(seed), plan(std::move(drawn)), laws(*this), seed_(seed) {
  for (std::size_t i = 0; i < plan.hosts.size(); ++i) hosts_.push_back(std::make_unique<Host>(*this, i));
  links_.resize(hosts_.size());
}

Scheduler::Rules Simulation::rules() const {
  Scheduler::Rules rules;
  rules.lease = plan.lease;
  return rules;
}

void Simulation::begin() {
  manager_starts();
  for (std::size_t i = 0; i < hosts_.size(); ++i) world.after(plan.hosts[i].enters, [this, i] { hosts_[i]->boot(); });
  start_submitters();
  start_faults();
  world.at(Instant(plan.clears), [this] { clear_up(); });
}

std::optional<std::string> Simulation::run() {
  begin();
  Duration submitted{0};
  for (const JobPlan& job : plan.jobs) submitted = std::max({submitted, job.submitted, job.released, job.canceled});
  // After the weather cleared there is time for all of it to run one by one, and again, on the slowest worker.
  const Instant end = Instant(std::max(plan.clears, submitted)) + 2h + patience();
  run_until(end);
  if (!world.broken() && !all_over()) world.blame("after " + std::to_string((2h + patience()) / 1h) + " h of good weather tasks have not ended");
  if (!world.broken()) laws.at_the_end(journal_);
  if (!world.broken()) return std::nullopt;
  return report();
}

Duration Simulation::patience() const {
  Duration all{0};
  for (std::size_t job = 0; job < plan.jobs.size(); ++job) {
    std::uint64_t task = 1;
    for (const Group& group : plan.jobs[job].groups)
      for (std::uint64_t n = 0; n < group.tasks; ++n, ++task) all += plan.fate(seed_, job, task).work * (1 + group.retry.times);
  }
  int slowest = 100;
  for (const HostPlan& host : plan.hosts) slowest = std::min(slowest, host.speed_percent);
  return all * 100 / slowest;
}

void Simulation::run_until(Instant end) {
  while (world.now() < end && !all_over() && world.step()) {}
}

std::string Simulation::report() const {
  return world.broken().value_or("nothing is broken") + "\n" + plan.in_words() + "\nThe last events:\n" + world.last_lines() + "Again: GRID_SEED=" + std::to_string(seed_) +
         " build/dev/bin/grid_simulation_test (GRID_ALOUD=1: with all its events)\n";
}

bool Simulation::all_over() const {
  if (answered_.size() < plan.jobs.size() || !market_ || (stormy() && plan.weather.restart_every > 0s)) return false;
  return std::all_of(answered_.begin(), answered_.end(), [this](const auto& job) {
    const auto at = journal_.jobs.find(job.second);
    return at != journal_.jobs.end() && at->second.over;
  });
}

// ---- The network ----------------------------------------------------------------------------------------------------------------

/// A stream keeps the order of what it carries; streams that break and messages that take other ways do not.
void Simulation::carry(Stream& stream, std::function<void()> deliver, Care care) {
  Dice& dice = world.dice;
  const Weather& w = plan.weather;
  const bool storm = stormy();
  if (storm && care != Care::surely && dice.chance(w.loss)) return world.note("  (a message is lost)", {});
  const int times = storm && dice.chance(w.repeat) ? 2 : 1;
  for (int i = 0; i < times; ++i) {
    Instant when = world.now() + (storm ? dice.between(w.delay_min, w.delay_max) : dice.between(500us, 5ms));
    if (!storm || care != Care::none || !dice.chance(w.reorder)) when = stream.last = std::max(stream.last, when);
    when = std::max(when, stream.fence);
    if (care == Care::fence) stream.fence = when;
    world.at(when, deliver);
  }
}

void Simulation::to_host(std::size_t host, std::function<void(Host&)> what, std::uint64_t request) {
  carry(links_[host].to, [this, host, what = std::move(what), request] {
    Host& to = *hosts_[host];
    if (to.up()) return to.run([&to, what] { what(to); });
    if (request == 0 || world.dice.chance(0.3)) return;
    world.after(1ms, [this, request] {  // the server's answer for one who is not there
      if (market_ && market_->open()) market_->answered(request, AssignAnswer{AssignAnswer::nobody_there, {}, {}});
    });
  });
}

void Simulation::to_market(std::size_t host, std::function<void(Market&)> what, Care care) {
  carry(links_[host].from, [this, what = std::move(what)] {
    if (market_ && market_->open()) what(*market_);
  }, care);
}

/// Presence is never lost while its stream lives, but it may be late.
void Simulation::carry_presence(std::size_t host, std::function<void()> deliver) {
  Instant& last = links_[host].last_presence;
  last = std::max(last, world.now() + (stormy() && world.dice.chance(0.1) ? world.dice.between(1s, 40s) : world.dice.between(500us, 5ms)));
  world.at(last, std::move(deliver));
}

void Simulation::enters_room(std::size_t host) {
  carry_presence(host, [this, host] {
    if (!hosts_[host]->up()) return;
    // Who comes again was there before, as far as the room knows: its old stream is closed first.
    if (room_.contains(host) && market_ && market_->open()) market_->gone(host);
    room_.insert(host);
    if (market_ && market_->open()) market_->present(host, true);
  });
}

void Simulation::leaves_room(std::size_t host, bool quiet) {
  // A server notices a cut cable by itself only much later.
  world.after(quiet ? world.dice.between(60s, 600s) : world.dice.between(500us, 5ms), [this, host] {
    if (hosts_[host]->up() || !room_.contains(host)) return;
    carry_presence(host, [this, host] {
      if (hosts_[host]->up() || room_.erase(host) == 0) return;
      if (market_ && market_->open()) market_->gone(host);
    });
  });
}

Offer Simulation::claimed(std::size_t host) const {
  Offer offer = plan.hosts[host].offer;
  if (plan.hosts[host].liar) offer.slots = std::min(kSlotsMax, offer.slots * 4);
  return offer;
}

// ---- Jobs -----------------------------------------------------------------------------------------------------------------------

void Simulation::names_job(JobId job, const std::string& key) { plans_[job] = std::stoul(key); }

std::optional<JobId> Simulation::id_of(std::size_t job) const {
  const auto at = answered_.find(job);
  return at == answered_.end() ? std::nullopt : std::optional(at->second);
}

const Group* Simulation::group_of(TaskId task) const {
  const auto at = plans_.find(task.job);
  if (at == plans_.end()) return nullptr;
  std::uint64_t last = 0;
  for (const Group& group : plan.jobs[at->second].groups)
    if (task.task.value <= (last += group.tasks)) return &group;
  return nullptr;
}

void Simulation::start_submitters() {
  for (std::size_t job = 0; job < plan.jobs.size(); ++job) {
    const JobPlan& p = plan.jobs[job];
    world.after(p.submitted, [this, job] { submit(job); });
    if (p.canceled > 0s) world.after(p.canceled, [this, job] { order(job, Order::cancel); });
    if (p.held > 0s) world.after(p.held, [this, job] { order(job, Order::hold); });
    if (p.released > 0s) world.after(p.released, [this, job] { order(job, Order::release); });
  }
}

/// Says it until it is answered, with one key: a submit whose answer was lost makes no second job.
void Simulation::submit(std::size_t job) {
  if (answered_.contains(job)) return;
  const JobPlan& p = plan.jobs[job];
  JobSubmitted spec{{}, p.owner, p.groups, p.terms};
  bool ready = true;
  for (const auto& [earlier, any] : p.after) {
    if (const auto id = id_of(earlier)) spec.terms.after.push_back({*id, any});
    else ready = false;
  }
  if (p.deadline > 0s) spec.terms.deadline = Instant(p.submitted) + p.deadline;
  Stream line{};  // its own stream each time
  if (ready)
    carry(line, [this, job, spec] {
      if (!market_ || !market_->open()) return;
      market_->submit(std::to_string(job), spec, [this, job](JobId id) {
        Stream back{};
        carry(back, [this, job, id] { answered_[job] = id; });
      });
    });
  world.after(ready ? world.dice.between(2s, 20s) : Duration(1s), [this, job] { submit(job); });
}

void Simulation::order(std::size_t job, Order what) {
  // Who released or canceled does not hold it again.
  if (orders_done_.contains({job, what}) || (what == Order::hold && (orders_done_.contains({job, Order::release}) || plan.jobs[job].released <= world.now() - Instant{}))) return;
  Stream line{};
  if (const auto id = id_of(job))
    carry(line, [this, job, what, id] {
      if (!market_ || !market_->open() || orders_done_.contains({job, what})) return;
      if (what == Order::hold && plan.jobs[job].released <= world.now() - Instant{}) return;
      market_->order(*id, what, [this, job, what] { orders_done_.insert({job, what}); });
    });
  world.after(world.dice.between(1s, 10s), [this, job, what] { order(job, what); });
}

// ---- What goes wrong ------------------------------------------------------------------------------------------------------------

void Simulation::every(Duration mean, std::function<void()> fault) {
  if (mean <= 0s) return;
  world.after(world.dice.between(Duration(1ms), mean * 2), [this, mean, fault] {
    if (!stormy()) return;
    fault();
    every(mean, fault);
  });
}

void Simulation::start_faults() {
  const Weather& w = plan.weather;
  for (std::size_t host = 0; host < hosts_.size(); ++host) {
    Host& it = *hosts_[host];
    every(w.crash_every, [this, &it, host] { it.crash(false), boots_later(host); });
    every(w.cut_every, [this, &it, host] { it.crash(true), boots_later(host); });
    every(w.freeze_every, [this, &it] { it.freeze(world.dice.skewed(100ms, 11)); });
    every(w.owner_every, [this, &it] { it.run([this, &it] { it.owner_wants(world.dice.chance(0.5)); }); });
    if (plan.hosts[host].liar) every(5s, [&it] { it.run([&it] { it.lie(); }); });
  }
  every(w.restart_every, [this] { manager_dies(); });
  every(w.close_every, [this] { link_breaks(); });
}

void Simulation::boots_later(std::size_t host) {
  world.after(world.dice.skewed(10ms, 12), [this, host] { hosts_[host]->boot(); });
}

/// The room says so, or its server; never later than the greeting of the manager that comes back.
void Simulation::sees_manager_go(Host& host) {
  if (!host.up()) return;
  world.after(world.dice.between(1ms, 3s), [&host, hellos = host.hellos()] {
    host.run([&host, hellos] {
      if (host.hellos() == hellos) host.manager_gone();
    });
  });
}

void Simulation::manager_dies() {
  if (!market_) return;
  market_->die();
  dead_.push_back(std::move(market_));  // its pending lambdas may still name it, and do nothing
  for (const auto& host : hosts_)
    if (world.dice.chance(0.8)) sees_manager_go(*host);
  world.after(world.dice.skewed(20ms, 11), [this] { manager_starts(); });
}

void Simulation::manager_starts() {
  if (market_) return;
  market_ = std::make_unique<Market>(*this, journal_);
  world.after(world.dice.between(1ms, 300ms), [this, market = market_.get()] {
    if (market_.get() == market && !market->open()) market->opened(room_);
  });
}

void Simulation::link_breaks() {
  if (!market_ || !market_->open()) return;
  market_->closed();
  for (const auto& host : hosts_)
    if (world.dice.chance(0.5)) sees_manager_go(*host);
  world.after(world.dice.skewed(20ms, 11), [this, market = market_.get()] {
    if (market_.get() == market && !market->open()) market->opened(room_);
  });
}

/// Everybody comes back, and nothing more goes wrong but what the tasks do themselves.
void Simulation::clear_up() {
  world.note("the weather clears", {});
  for (const auto& host : hosts_) {
    if (!host->up()) boots_later(host->index());
    host->run([this, &to = *host] { to.owner_wants(false); });
  }
  world.after(Duration(60s), [this] {
    for (const auto& host : hosts_) host->boot();
  });
}

}  // namespace souk::simulation
