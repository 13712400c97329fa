#include "bench/workload.h"

#include <algorithm>
#include <cmath>
#include <ctime>
#include <deque>
#include <istream>
#include <map>
#include <ostream>
#include <queue>
#include <set>
#include <sstream>

#include "manager/scheduler.h"

namespace souk::bench {

using namespace std::chrono_literals;

namespace {

constexpr std::uint32_t kOneTaskMax = 8;  // processors of a job that is one task; wider ones are arrays of tasks of one processor
constexpr std::uint64_t kMemoryPerSlot = 4ull << 30;
constexpr double kShort = 10;             // seconds; the bound of the bounded slowdown
constexpr Duration kTick = 2s;
constexpr Duration kSample = 60s;         // of the queue's length

/// The same numbers with every library.
class Dice {
 public:
  explicit Dice(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t x = state_ += 0x9E3779B97F4A7C15u;
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
    x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
    return x ^ (x >> 31);
  }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + next() % (high - low + 1); }
  double share() { return static_cast<double>(next() >> 11) * 0x1p-53; }
  bool chance(double p) { return share() < p; }
  std::uint64_t skewed(std::uint64_t low, std::uint64_t high) {  // as likely in each doubling
    const double bits = std::log2(static_cast<double>(high) / static_cast<double>(low));
    return static_cast<std::uint64_t>(static_cast<double>(low) * std::exp2(bits * share()));
  }

 private:
  std::uint64_t state_;
};

double seconds(Duration time) { return static_cast<double>(time.count()) / 1e6; }
double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

}  // namespace

// ---- Traces ----------------------------------------------------------------------------------------------------------------------

Result<std::vector<TraceJob>> read_swf(std::istream& from, std::uint64_t& left_out) {
  std::vector<TraceJob> jobs;
  std::string line;
  left_out = 0;
  for (std::uint64_t number = 1; std::getline(from, line); ++number) {
    const auto first = line.find_first_not_of(" \t\r");
    if (first == std::string::npos || line[first] == ';') continue;
    std::istringstream fields(line);
    double field[18];
    for (double& one : field)
      if (!(fields >> one) || !(std::abs(one) < 1e15))
        return Error{"the trace cannot be read", "line " + std::to_string(number) + " has not 18 numbers", "the Standard Workload Format is described at the Parallel Workloads Archive"};
    // 1 number, 2 submitted, 4 run time, 5 processors, 7 memory, 8 processors asked, 9 time asked, 10 memory asked, 12 user
    const double run = field[3], processors = field[4] > 0 ? field[4] : field[7], memory = field[6] > 0 ? field[6] : field[9];
    if (run <= 0 || processors <= 0 || processors > 1e7 || run > 1e9) {
      ++left_out;
      continue;
    }
    TraceJob job;
    job.number = static_cast<std::uint64_t>(std::max(0.0, field[0]));
    job.submitted = Duration(static_cast<std::int64_t>(std::max(0.0, field[1]) * 1e6));
    job.run = Duration(static_cast<std::int64_t>(run * 1e6));
    job.asked = field[8] > 0 ? Duration(static_cast<std::int64_t>(std::min(field[8], 1e9) * 1e6)) : Duration(0);
    job.processors = static_cast<std::uint32_t>(processors);
    job.memory_kib = memory > 0 ? static_cast<std::uint64_t>(memory) : 0;
    job.user = field[11] > 0 ? static_cast<std::uint32_t>(field[11]) : 0;
    jobs.push_back(job);
  }
  std::stable_sort(jobs.begin(), jobs.end(), [](const TraceJob& a, const TraceJob& b) { return a.submitted < b.submitted; });
  if (!jobs.empty())
    for (const Duration start = jobs.front().submitted; TraceJob& job : jobs) job.submitted -= start;
  return jobs;
}

void write_swf(std::ostream& to, const std::vector<TraceJob>& jobs, const std::string& note) {
  to << "; Version: 2.2\n; Note: " << note << "\n; MaxJobs: " << jobs.size() << "\n; UnixStartTime: 0\n";
  for (const TraceJob& job : jobs)
    to << job.number << ' ' << job.submitted / 1s << " -1 " << job.run / 1s << ' ' << job.processors << " -1 " << (job.memory_kib > 0 ? std::to_string(job.memory_kib) : "-1") << ' ' << job.processors
       << ' ' << (job.asked > 0s ? std::to_string(job.asked / 1s) : "-1") << " -1 1 " << job.user << " -1 -1 -1 -1 -1 -1\n";
}

std::vector<TraceJob> make_sample(std::uint64_t seed, std::size_t count) {
  Dice dice(seed);
  std::vector<TraceJob> jobs;
  constexpr std::uint64_t kSpan = 6 * 3600;
  for (std::size_t i = 0; i < count; ++i) {
    TraceJob job;
    // Most come in the first two thirds.
    job.submitted = std::chrono::seconds(dice.chance(0.8) ? dice.between(0, kSpan * 2 / 3) : dice.between(0, kSpan));
    if (dice.chance(0.06)) {  // a sweep, of one of four users
      job.user = static_cast<std::uint32_t>(1 + dice.between(0, 3));
      job.processors = static_cast<std::uint32_t>(dice.skewed(2'000, 40'000));
      job.run = std::chrono::seconds(dice.skewed(120, 1'800));
    } else if (dice.chance(0.25)) {  // wide: one task of several processors
      job.user = static_cast<std::uint32_t>(5 + dice.between(0, 14));
      job.processors = static_cast<std::uint32_t>(dice.between(2, kOneTaskMax));
      job.run = std::chrono::seconds(dice.skewed(60, 7'200));
    } else {  // what most people do
      job.user = static_cast<std::uint32_t>(20 + dice.between(0, 59));
      job.processors = static_cast<std::uint32_t>(dice.chance(0.5) ? 1 : dice.skewed(10, 200));
      job.run = std::chrono::seconds(dice.skewed(10, 1'800));
    }
    if (dice.chance(0.5)) job.memory_kib = dice.skewed(256 << 10, 4 << 20);
    if (dice.chance(0.7))
      for (const std::int64_t limit : {600, 3'600, 14'400, 86'400})
        if (job.run <= std::chrono::seconds(limit)) {
          job.asked = std::chrono::seconds(limit);
          break;
        }
    jobs.push_back(job);
  }
  std::stable_sort(jobs.begin(), jobs.end(), [](const TraceJob& a, const TraceJob& b) { return a.submitted < b.submitted; });
  for (std::size_t i = 0; i < jobs.size(); ++i) jobs[i].number = i + 1;
  return jobs;
}

// ---- Replay ----------------------------------------------------------------------------------------------------------------------

namespace {

struct Machine {
  int slots = 4;
  double speed = 1;
};
std::vector<Machine> machines_of(const Grid& grid) {
  Dice dice(grid.seed);
  std::vector<Machine> machines(grid.workers);
  if (grid.mixed)
    for (Machine& machine : machines) {
      machine.slots = 1 << dice.between(0, 4);
      machine.speed = static_cast<double>(dice.between(5, 20)) / 10;
    }
  if (!machines.empty()) machines.front().slots = std::max<int>(machines.front().slots, kOneTaskMax);  // somebody can run the widest
  return machines;
}

struct Shape {
  std::uint64_t tasks = 1;
  int cpus = 1;
};
Shape shape_of(const TraceJob& job, const Grid& grid) {
  const auto processors = std::max<std::uint64_t>(1, static_cast<std::uint64_t>(std::llround(job.processors * grid.scale)));
  if (processors <= kOneTaskMax) return {1, static_cast<int>(processors)};
  return {processors, 1};
}

/// Time, machines and measures; what is placed where is the policy's.
class Stage {
 public:
  Stage(const std::vector<TraceJob>& trace, const Grid& grid) : trace_(trace), grid_(grid), machines(machines_of(grid)), first_start_(trace.size(), Instant::max()), left_(trace.size()), ends_(trace.size()) {
    for (std::size_t job = 0; job < trace.size(); ++job) left_[job] = shape_of(trace[job], grid).tasks;
  }

  struct End {
    Instant at;
    std::uint64_t number;
    std::uint32_t machine, job;
    std::uint64_t task, tag;
    bool operator<(const End& other) const { return std::pair(other.at, other.number) < std::pair(at, number); }
  };

  /// policy: submit(job), finish(end), tick(), waiting(); it calls start().
  template <class Policy>
  Replay run(Policy& policy, std::string name) {
    const double began = cpu_seconds();
    std::size_t next = 0;
    Instant tick = Instant::max(), sample{};
    while (next < trace_.size() || !running_.empty() || policy.waiting() > 0) {
      Instant when = Instant::max();
      if (next < trace_.size()) when = Instant(trace_[next].submitted);
      if (!running_.empty()) when = std::min(when, running_.top().at);
      when = std::min(when, tick);
      if (when == Instant::max()) break;  // something waits that nobody can run
      advance(when);
      for (; sample <= when; sample += kSample) queue_.emplace_back(seconds(sample - Instant{}), policy.waiting());
      if (!running_.empty() && running_.top().at == when) {
        const End end = running_.top();
        running_.pop();
        ended(end);
        policy.finish(end);
      } else if (next < trace_.size() && Instant(trace_[next].submitted) == when) {
        policy.submit(static_cast<std::uint32_t>(next++));
        if (next == trace_.size()) last_arrival_ = when, used_arriving_ = used_;
      } else {
        policy.tick();
      }
      if (policy.waiting() == 0) tick = Instant::max();
      else if (tick <= when || tick == Instant::max()) tick = when + kTick;
    }
    return measure(std::move(name), cpu_seconds() - began);
  }
  void start(std::uint32_t machine, std::uint32_t job, std::uint64_t task, std::uint64_t tag) {
    const Shape shape = shape_of(trace_[job], grid_);
    first_start_[job] = std::min(first_start_[job], now);
    busy_ += shape.cpus;
    ++started_;
    running_.push({now + run_time(machine, job), ++number_, machine, job, task, tag});
  }
  Duration run_time(std::uint32_t machine, std::uint32_t job) const {
    return std::max(Duration(1), Duration(static_cast<std::int64_t>(static_cast<double>(trace_[job].run.count()) / machines[machine].speed)));
  }
  const TraceJob& job(std::uint32_t job) const { return trace_[job]; }
  Shape shape(std::uint32_t job) const { return shape_of(trace_[job], grid_); }

  Instant now{};

 private:
  void advance(Instant when) {
    used_ += static_cast<double>(busy_) * seconds(when - now);
    now = when;
  }
  void ended(const End& end) {
    busy_ -= shape(end.job).cpus;
    if (--left_[end.job] == 0) ends_[end.job] = now;
  }
  Replay measure(std::string name, double cpu) {
    Replay r;
    r.policy = std::move(name);
    r.jobs = trace_.size(), r.tasks = started_;
    for (const Machine& machine : machines) r.slots += static_cast<std::uint64_t>(machine.slots);
    r.makespan_s = seconds(now - Instant{});
    const double slots = static_cast<double>(r.slots);
    if (r.makespan_s > 0) r.utilization = used_ / (slots * r.makespan_s);
    if (last_arrival_ > Instant{}) r.utilization_arriving = used_arriving_ / (slots * seconds(last_arrival_ - Instant{}));
    std::vector<double> slowdowns;
    std::map<std::uint32_t, std::pair<double, double>> users;  // sum, count
    for (std::size_t j = 0; j < trace_.size(); ++j) {
      if (left_[j] > 0) continue;
      const Instant submitted(trace_[j].submitted);
      r.waits.push_back(seconds(first_start_[j] - submitted));
      slowdowns.push_back(std::max(1.0, seconds(ends_[j] - submitted) / std::max(kShort, seconds(trace_[j].run))));
      auto& [sum, count] = users[trace_[j].user];
      sum += slowdowns.back(), count += 1;
    }
    std::sort(r.waits.begin(), r.waits.end());
    std::sort(slowdowns.begin(), slowdowns.end());
    const auto mean = [](const std::vector<double>& all) {
      double sum = 0;
      for (const double one : all) sum += one;
      return all.empty() ? 0 : sum / static_cast<double>(all.size());
    };
    const auto at = [](const std::vector<double>& all, double share) { return all.empty() ? 0 : all[std::min(all.size() - 1, static_cast<std::size_t>(share * static_cast<double>(all.size())))]; };
    r.wait_mean_s = mean(r.waits), r.wait_median_s = at(r.waits, 0.5), r.wait_p95_s = at(r.waits, 0.95);
    r.slowdown_mean = mean(slowdowns), r.slowdown_median = at(slowdowns, 0.5), r.slowdown_p95 = at(slowdowns, 0.95);
    double sum = 0, squares = 0;
    for (const auto& [user, all] : users) {
      const double one = all.first / all.second;
      sum += one, squares += one * one;
      r.worst_user = std::max(r.worst_user, one);
    }
    r.users = users.size();
    if (squares > 0) r.fairness = sum * sum / (static_cast<double>(users.size()) * squares);
    r.decisions_per_s = static_cast<double>(started_) / std::max(1e-9, cpu);
    r.queue = std::move(queue_);
    return r;
  }

  const std::vector<TraceJob>& trace_;
  const Grid& grid_;

 public:
  const std::vector<Machine> machines;

 private:
  std::priority_queue<End> running_;
  std::vector<Instant> first_start_;
  std::vector<std::uint64_t> left_;
  std::vector<Instant> ends_;
  std::vector<std::pair<double, std::uint64_t>> queue_;
  std::uint64_t number_ = 0, started_ = 0;
  std::int64_t busy_ = 0;
  double used_ = 0, used_arriving_ = 0;
  Instant last_arrival_{};
};

class Fifo {
 public:
  Fifo(Stage& stage, bool fastest) : stage_(stage), fastest_(fastest) {
    for (std::uint32_t m = 0; m < stage.machines.size(); ++m) free_.push_back(stage.machines[m].slots), with_free(free_[m]).insert(key(m));
  }
  void submit(std::uint32_t job) {
    queue_.emplace_back(job, 0);
    waiting_ += stage_.shape(job).tasks;
    place();
  }
  void finish(const Stage::End& end) {
    const int cpus = stage_.shape(end.job).cpus;
    with_free(free_[end.machine]).erase(key(end.machine));
    free_[end.machine] += cpus;
    with_free(free_[end.machine]).insert(key(end.machine));
    place();
  }
  void tick() {}
  std::uint64_t waiting() const { return waiting_; }

 private:
  using Key = std::pair<double, std::uint32_t>;
  Key key(std::uint32_t machine) const { return {fastest_ ? -stage_.machines[machine].speed : 0, machine}; }
  std::set<Key>& with_free(int slots) {
    if (static_cast<std::size_t>(slots) >= by_free_.size()) by_free_.resize(static_cast<std::size_t>(slots) + 1);
    return by_free_[static_cast<std::size_t>(slots)];
  }
  void place() {
    while (!queue_.empty()) {
      auto& [job, started] = queue_.front();
      const Shape shape = stage_.shape(job);
      std::optional<Key> best;
      for (std::size_t slots = static_cast<std::size_t>(shape.cpus); slots < by_free_.size(); ++slots)
        if (!by_free_[slots].empty() && (!best || *by_free_[slots].begin() < *best)) best = *by_free_[slots].begin();
      if (!best) return;
      const std::uint32_t machine = best->second;
      with_free(free_[machine]).erase(*best);
      free_[machine] -= shape.cpus;
      with_free(free_[machine]).insert(*best);
      --waiting_;
      stage_.start(machine, job, ++started, 0);
      if (started == shape.tasks) queue_.pop_front();
    }
  }

  Stage& stage_;
  const bool fastest_;
  std::deque<std::pair<std::uint32_t, std::uint64_t>> queue_;  // job, tasks started
  std::vector<int> free_;
  std::vector<std::set<Key>> by_free_;
  std::uint64_t waiting_ = 0;
};

/// The real core; workers start what they were given in order, as soon as it fits, as worker/agent does.
class Souk {
 public:
  explicit Souk(Stage& stage) : stage_(stage), core_(Epoch{1}, rules()), workers_(stage.machines.size()) {
    std::map<std::pair<int, double>, std::shared_ptr<const Offer>> offers;
    for (std::uint32_t m = 0; m < stage.machines.size(); ++m) {
      const Machine& machine = stage.machines[m];
      auto& offer = offers[{machine.slots, machine.speed}];
      if (!offer) {
        Offer made;
        made.slots = made.cpus = machine.slots;
        made.memory_bytes = kMemoryPerSlot * static_cast<std::uint64_t>(machine.slots);
        made.os = "linux", made.arch = "x86_64";
        made.speed = machine.speed;
        offer = std::make_shared<const Offer>(made);
      }
      workers_[m].free = machine.slots;
      tell(WorkerJoined{{m + 1ull}, offer, "w" + std::to_string(m + 1), "owner", machine.slots, WorkerState::free, {}});
    }
  }
  void submit(std::uint32_t at) {
    const TraceJob& job = stage_.job(at);
    const Shape shape = stage_.shape(at);
    Group group;
    group.tasks = shape.tasks;
    group.needs.cpus = shape.cpus;
    group.needs.memory_bytes = std::min(job.memory_kib << 10, kMemoryPerSlot) * static_cast<std::uint64_t>(shape.cpus);
    group.time_limit = job.asked * 2;  // users know their own machine; the slowest here has half its speed
    tell(JobSubmitted{{at + 1ull}, "user" + std::to_string(job.user), {group}, {}});
  }
  void finish(const Stage::End& end) {
    Worker& worker = workers_[end.machine];
    worker.free += stage_.shape(end.job).cpus;
    start_waiting(end.machine);
    tell(AttemptFinished{{end.machine + 1ull}, {{Epoch{1}, end.tag}, {{end.job + 1ull}, {end.task}}}, Cause::exited, true, stage_.run_time(end.machine, end.job), 0});
  }
  void tick() { tell(Tick{}); }
  std::uint64_t waiting() const { return core_.totals().waiting; }

 private:
  struct Worker {
    int free = 0;
    std::deque<Assign> given;
  };
  static Scheduler::Rules rules() {
    Scheduler::Rules rules;
    rules.lease = 24h * 3650;  // nobody is silent here
    return rules;
  }
  void tell(const Event& event) {
    actions_.clear();
    core_.step(stage_.now, event, actions_);
    for (const Action& action : actions_)
      if (const auto* a = std::get_if<Assign>(&action)) {
        const auto machine = static_cast<std::uint32_t>(a->worker.value - 1);
        workers_[machine].given.push_back(*a);
        start_waiting(machine);
      }
  }
  void start_waiting(std::uint32_t machine) {
    Worker& worker = workers_[machine];
    while (!worker.given.empty()) {
      const Assign& next = worker.given.front();
      const auto job = static_cast<std::uint32_t>(next.task.job.value - 1);
      if (const int cpus = stage_.shape(job).cpus; cpus > worker.free) return;
      else worker.free -= cpus;
      stage_.start(machine, job, next.task.task.value, next.attempt.number);
      worker.given.pop_front();
    }
  }

  Stage& stage_;
  Scheduler core_;
  std::vector<Action> actions_;
  std::vector<Worker> workers_;
};

}  // namespace

Replay replay_fifo(const std::vector<TraceJob>& trace, const Grid& grid, bool fastest) {
  Stage stage(trace, grid);
  Fifo fifo(stage, fastest);
  return stage.run(fifo, fastest ? "fifo, fastest worker" : "fifo");
}

Replay replay_souk(const std::vector<TraceJob>& trace, const Grid& grid) {
  Stage stage(trace, grid);
  Souk souk(stage);
  return stage.run(souk, "souk");
}

}  // namespace souk::bench
