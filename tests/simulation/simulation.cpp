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
    if (forgotten_.contains(job.second)) return true;
    const auto at = journal_.jobs.find(job.second);
    return at != journal_.jobs.end() && at->second.over && (!plan.jobs[job.first].rerun || orders_done_.contains({job.first, Order::rerun}));
  });
}

// ---- The network ----------------------------------------------------------------------------------------------------------------

/// A stream keeps the order of what it carries; streams that break and messages that take other ways do not.
void Simulation::carry(Stream& stream, std::function<void()> deliver, Care care) {
  Dice& dice = world.dice;
  const Weather& w = plan.weather;
  const bool storm = stormy();
  if (!server_up_) return;
  if (storm && care != Care::surely && dice.chance(w.loss)) return world.note("  (a message is lost)", {});
  const bool deaf = world.now() < stream.deaf_until;
  if (deaf && !stream.holds) return;
  if (deaf) stream.last = std::max(stream.last, stream.deaf_until);  // the kernel sends it again, in order, when it can
  const int times = storm && dice.chance(w.repeat) ? 2 : 1;
  for (int i = 0; i < times; ++i) {
    Instant when = world.now() + (storm ? dice.between(w.delay_min, w.delay_max) : dice.between(500us, 5ms));
    if (!storm || care != Care::none || !dice.chance(w.reorder)) when = stream.last = std::max(stream.last, when);
    when = std::max(when, stream.fence);
    if (deaf) when = std::max(when, stream.deaf_until);
    if (care == Care::fence) stream.fence = when;
    world.at(when, [this, deliver, life = server_life_] {
      if (life == server_life_) deliver();  // else it was in a server that died
    });
  }
}

void Simulation::to_host(std::size_t host, std::function<void(Host&)> what, std::uint64_t request) {
  carry(links_[host].to, [this, host, what = std::move(what), request] {
    Host& to = *hosts_[host];
    if (to.up() && !links_[host].away) return to.run([&to, what] { what(to); });
    if (!server_up_ || request == 0 || world.dice.chance(0.3)) return;
    world.after(1ms, [this, request] {  // the server's answer for one who is not there
      with_market([request](Market& market) { market.answered(request, AssignAnswer{AssignAnswer::nobody_there, {}, {}}); });
    });
  });
}

void Simulation::to_market(std::size_t host, std::function<void(Market&)> what, Care care) {
  carry(links_[host].from, [this, what = std::move(what)] { with_market(what); }, care);
}

/// What comes to the manager while its link is up; later, if it stands still.
void Simulation::with_market(std::function<void(Market&)> what) {
  if (!market_) return;
  market_->run([&to = *market_, what = std::move(what)] {
    if (to.open()) what(to);
  });
}

/// Presence is never lost while its stream lives, but it may be late.
void Simulation::carry_presence(std::size_t host, std::function<void()> deliver) {
  if (!server_up_) return;
  Instant& last = links_[host].last_presence;
  if (links_[host].from.deaf_until > world.now()) last = std::max(last, links_[host].from.deaf_until);
  last = std::max(last, world.now() + (stormy() && world.dice.chance(0.1) ? world.dice.between(1s, 40s) : world.dice.between(500us, 5ms)));
  world.at(last, [this, deliver = std::move(deliver), life = server_life_] {
    if (life == server_life_) deliver();
  });
}

void Simulation::enters_room(std::size_t host) {
  links_[host].away = false;
  carry_presence(host, [this, host] {
    if (!hosts_[host]->up()) return;
    // Who comes again was there before, as far as the room knows: its old stream is closed first.
    if (room_.contains(host)) with_market([host](Market& market) { market.gone(host); });
    room_.insert(host);
    with_market([host](Market& market) { market.present(host, true); });
  });
}

void Simulation::leaves_room(std::size_t host, bool quiet) {
  // A server notices a cut cable by itself only much later.
  world.after(quiet ? world.dice.between(60s, 600s) : world.dice.between(500us, 5ms), [this, host] {
    if (hosts_[host]->up() || !room_.contains(host)) return;
    carry_presence(host, [this, host] {
      if (hosts_[host]->up() || room_.erase(host) == 0) return;
      with_market([host](Market& market) { market.gone(host); });
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

bool Simulation::is_done_with(JobId job) const {
  const std::size_t number = plans_.at(job);
  const auto settled = [this](std::size_t one) {
    return answered_.contains(one) && (!plan.jobs[one].rerun || orders_done_.contains({one, Order::rerun}));
  };
  if (!settled(number)) return false;
  for (std::size_t other = 0; other < plan.jobs.size(); ++other)
    for (const auto& [earlier, any] : plan.jobs[other].after)
      if (earlier == number && !settled(other)) return false;
  return true;
}

void Simulation::forgets(std::map<JobId, Journal::Job>::node_type job) {
  if (job.empty()) return world.blame("a job is forgotten twice");
  forgotten_.insert(job.key());
  laws.at_its_end(plan_of(job.key()), job.key(), job.mapped());
}

bool Simulation::is_forgotten(const std::string& key) const {
  const auto id = id_of(std::stoul(key));
  return id && forgotten_.contains(*id);
}

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
    if (p.rerun) world.after(p.submitted, [this, job] { ask_again(job); });
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
      with_market([this, job, spec](Market& market) {
        market.submit(std::to_string(job), spec, [this, job](JobId id) {
          Stream back{};
          carry(back, [this, job, id] { answered_[job] = id; });
        });
      });
    });
  world.after(ready ? world.dice.between(2s, 20s) : Duration(1s), [this, job] { submit(job); });
}

/// Looks until the job is over, and has it run again if not all of it succeeded and no other order of its plan is to come.
void Simulation::ask_again(std::size_t job) {
  const JobPlan& p = plan.jobs[job];
  const auto id = id_of(job);
  const auto entry = id ? journal_.jobs.find(*id) : journal_.jobs.end();
  if (entry == journal_.jobs.end() || !entry->second.over || world.now() - Instant{} < std::max({p.canceled, p.held, p.released}) || (p.canceled > 0s && !orders_done_.contains({job, Order::cancel})) ||
      (p.held > 0s && !orders_done_.contains({job, Order::release}))) {
    world.after(3s, [this, job] { ask_again(job); });
    return;
  }
  if (entry->second.state == TaskState::succeeded || entry->second.again) orders_done_.insert({job, Order::rerun});
  else order(job, Order::rerun);
}

void Simulation::order(std::size_t job, Order what) {
  // Who released or canceled does not hold it again.
  if (orders_done_.contains({job, what}) || (what == Order::hold && (orders_done_.contains({job, Order::release}) || plan.jobs[job].released <= world.now() - Instant{}))) return;
  Stream line{};
  if (const auto id = id_of(job))
    carry(line, [this, job, what, id] {
      with_market([this, job, what, id](Market& market) {
        if (orders_done_.contains({job, what})) return;
        if (what == Order::hold && plan.jobs[job].released <= world.now() - Instant{}) return;
        market.order(*id, what, [this, job, what] { orders_done_.insert({job, what}); });
      });
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
    every(w.term_every, [&it] { it.end(); });
    every(w.until_every, [this, &it] { it.run([this, &it] { it.owner_wants_back_in(world.dice.skewed(1s, 7)); }); });
    every(w.deaf_every, [this, host] { goes_deaf(host); });
    every(w.owner_every, [this, &it] { it.run([this, &it] { it.owner_wants(world.dice.chance(0.5)); }); });
    if (plan.hosts[host].liar) every(5s, [&it] { it.run([&it] { it.lie(); }); });
  }
  every(w.restart_every, [this] { manager_dies(); });
  every(w.close_every, [this] { link_breaks(); });
  every(w.takeover_every, [this] { taken_over(); });
  every(w.server_every, [this] { server_dies(); });
  every(w.stall_every, [this] {
    if (market_) market_->stall(world.dice.skewed(100ms, 10));
  });
  every(w.disk_every, [this] { disk_refuses(world.dice.skewed(100ms, 9)); });
}

void Simulation::disk_refuses(Duration how_long) {
  world.note("the manager's disk refuses for {} ms", {static_cast<std::uint64_t>(how_long / 1ms)});
  disk_takes_at_ = std::max(disk_takes_at_, world.now() + how_long);
}

/// Packets of one direction are dropped. If that lasts, one side gives the stream up; else its kernel brings all of it, late.
void Simulation::goes_deaf(std::size_t host) {
  if (!hosts_[host]->up() || !server_up_) return;
  Stream& stream = world.dice.chance(0.5) ? links_[host].to : links_[host].from;
  if (stream.deaf_until > world.now()) return;
  const Duration how_long = world.dice.skewed(500ms, 8);
  stream.holds = world.dice.chance(0.5);
  stream.deaf_until = world.now() + how_long;
  world.note(&stream == &links_[host].to ? "worker {} hears nothing for {} ms" : "worker {} is not heard for {} ms", {host, static_cast<std::uint64_t>(how_long / 1ms)});
  if (!stream.holds)
    world.after(how_long, [this, host, life = server_life_] {
      if (life == server_life_) link_of_breaks(host, world.dice.skewed(20ms, 9));
    });
}

void Simulation::link_of_breaks(std::size_t host, Duration away) {
  Host& it = *hosts_[host];
  if (!it.up()) return;
  world.note("the stream of worker {} breaks", {host});
  links_[host].away = true;
  it.run([&it] { it.manager_gone(); });
  if (room_.contains(host) && world.dice.chance(0.7))  // else its server sees only the new one
    carry_presence(host, [this, host] {
      if (room_.erase(host) == 1) with_market([host](Market& market) { market.gone(host); });
    });
  world.after(away, [this, host, &it] {
    it.run([this, host] {
      if (links_[host].away) enters_room(host);
    });
  });
}

/// All streams end at once, and nobody is told by anybody.
void Simulation::server_dies() {
  if (!server_up_) return;
  world.note("the server dies", {});
  server_up_ = false;
  ++server_life_;
  room_.clear();
  for (Link& link : links_) link = Link{};
  if (market_)
    market_->run([&market = *market_] { market.closed(); });
  if (old_) old_market_is_fenced();  // its place is taken when it tries to come back
  for (const auto& host : hosts_) host->run([&to = *host] { to.manager_gone(); });
  world.after(world.dice.skewed(100ms, 7), [this] { server_starts(); });
}

/// Who comes back first is chance: each tries again by its own back-off.
void Simulation::server_starts() {
  world.note("the server is back", {});
  server_up_ = true;
  market_returns(world.dice.skewed(5ms, 11));
  for (std::size_t host = 0; host < hosts_.size(); ++host)
    world.after(world.dice.skewed(5ms, 11), [this, host, life = server_life_] {
      if (life == server_life_ && hosts_[host]->up()) hosts_[host]->run([this, host] { enters_room(host); });
    });
}

/// The manager stands still, another one is started in its place, and then the old one goes on beside it. What workers say by themselves reaches the new one,
/// answers whoever asked.
void Simulation::taken_over() {
  if (!market_ || !market_->open() || old_ || disk_takes_at_ > world.now()) return;
  world.note("another manager takes over", {});
  market_->stall(world.dice.skewed(200ms, 9));
  old_ = std::move(market_);
  old_->left_behind();
  for (const auto& host : hosts_)
    if (world.dice.chance(0.5)) sees_manager_go(*host);
  world.after(world.dice.skewed(20ms, 8), [this] { manager_starts(); });
}

void Simulation::old_market_hears(std::uint64_t request, const std::variant<HelloAnswer, AssignAnswer>& answer) {
  if (old_) old_->run([this, to = old_.get(), request, answer] {
    if (old_.get() == to) to->answered(request, answer);
  });
}

/// It learned from a worker that it is not the newest: it gives out nothing more, and ends.
void Simulation::old_market_is_fenced() {
  if (!old_) return;
  world.note("the old manager is fenced", {});
  world.after(Duration(0), [this, old = old_.get()] {
    if (old_.get() != old) return;
    old_->die();
    dead_.push_back(std::move(old_));
  });
}

void Simulation::market_returns(Duration pause) {
  world.after(pause, [this, market = market_.get(), life = server_life_] {
    if (market_.get() != market || !market || life != server_life_) return;
    market->run([this, market] {
      if (market_.get() == market && server_up_ && !market->open()) market->opened(room_);
    });
  });
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
  if (disk_takes_at_ > world.now()) {  // its epoch must be on disk before it speaks
    world.at(disk_takes_at_, [this] { manager_starts(); });
    return;
  }
  market_ = std::make_unique<Market>(*this, journal_);
  market_returns(world.dice.between(1ms, 300ms));
}

void Simulation::link_breaks() {
  if (!market_ || !market_->open()) return;
  market_->run([&market = *market_] { market.closed(); });
  for (const auto& host : hosts_)
    if (world.dice.chance(0.5)) sees_manager_go(*host);
  market_returns(world.dice.skewed(20ms, 11));
}

/// Everybody comes back, and nothing more goes wrong but what the tasks do themselves.
void Simulation::clear_up() {
  world.note("the weather clears", {});
  old_market_is_fenced();
  for (const auto& host : hosts_) {
    if (!host->up()) boots_later(host->index());
    host->run([this, &to = *host] { to.owner_wants(false); });
  }
  world.after(Duration(60s), [this] {
    for (const auto& host : hosts_) host->boot();
  });
}

}  // namespace souk::simulation
