// The manager's core alone: decisions a second, memory a queued task, what a worker costs that comes or goes. No network, no disk.
//   build/release/bin/scheduler_bench            all of it, and at the end which targets are met
//   build/release/bin/scheduler_bench --benchmark_filter=Memory
// One decision is one Assign together with the AttemptFinished that it ends in: a grid in steady state, where each result makes room for one task.
// Times are CPU times of this thread, so that other work on the machine says little.
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <deque>
#include <map>
#include <new>
#include <string>
#include <vector>

#include "manager/scheduler.h"

// ---- Memory in use, as the allocator counts it -----------------------------------------------------------------------------------

namespace {
/// Small blocks with their headers, and large ones that the allocator maps by themselves.
std::size_t in_use() {
  const auto info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
}
}  // namespace

namespace souk {
namespace {

using namespace std::chrono_literals;

constexpr int kWorkers = 10'000, kClasses = 200, kSlots = 4;
constexpr int kOwners = 3;

double cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::map<std::string, std::vector<double>> figures;  // name -> of each repetition
double median(const std::string& name) {
  auto all = figures[name];
  if (all.empty()) return 0;
  std::sort(all.begin(), all.end());
  return all[all.size() / 2];
}

std::shared_ptr<const Offer> offer_of(int worker_class) {
  static std::vector<std::shared_ptr<const Offer>> offers;
  if (offers.empty())
    for (int i = 0; i < kClasses; ++i) {
      Offer offer;
      offer.slots = offer.cpus = kSlots;
      offer.memory_bytes = static_cast<std::uint64_t>(8 + i) << 30;
      offer.os = i % 4 == 0 ? "freebsd" : "linux", offer.arch = "x86_64";
      offer.speed = 1 + i % 10 / 10.0;
      offers.push_back(std::make_shared<const Offer>(offer));
    }
  return offers[static_cast<std::size_t>(worker_class)];
}

/// A scheduler with workers that take a second for every task.
class Grid {
 public:
  explicit Grid(int workers) {
    for (int i = 0; i < workers; ++i) join(static_cast<std::uint64_t>(i + 1));
  }
  void join(std::uint64_t worker) {
    tell(WorkerJoined{{worker}, offer_of(static_cast<int>(worker) % kClasses), "w" + std::to_string(worker), "owner", kSlots, WorkerState::free, {}});
  }
  void submit(std::vector<Group> groups) {
    const std::uint64_t job = ++jobs_;
    tell(JobSubmitted{{job}, "user" + std::to_string(job % kOwners), std::move(groups), {}});
  }
  void submit_array(std::uint64_t tasks, Needs needs = {}, const std::string& require = {}) {
    Group group;
    group.tasks = tasks, group.needs = std::move(needs), group.require = require;
    submit({std::move(group)});
  }
  /// The attempt that has run for longest ends; what comes of it.
  void turn() {
    now_ += Duration(1'000'000 / std::max<std::size_t>(1, running_.size()));
    if (now_ >= next_tick_) next_tick_ = now_ + 1s, tell(Tick{});
    const auto [worker, held] = running_.front();
    running_.pop_front();
    tell(AttemptFinished{worker, held, Cause::exited, true, 1s, 0});
  }
  void tell(const Event& event) {
    actions_.clear();
    core_.step(now_, event, actions_);
    for (const Action& action : actions_)
      if (const auto* a = std::get_if<Assign>(&action)) running_.emplace_back(a->worker, Held{a->attempt, a->task}), ++assigned_;
  }
  void forget_lost(WorkerId worker) {
    std::erase_if(running_, [&](const auto& one) { return one.first == worker; });
  }
  std::uint64_t assigned() const { return assigned_; }
  std::uint64_t waiting() const { return core_.totals().waiting; }

 private:
  Scheduler core_{Epoch{1}, Scheduler::Rules{}};
  std::vector<Action> actions_;
  Instant now_{1s}, next_tick_{2s};
  std::deque<std::pair<WorkerId, Held>> running_;
  std::uint64_t jobs_ = 0, assigned_ = 0;
};

// ---- Decisions -------------------------------------------------------------------------------------------------------------------

/// range(0): tasks that wait. Kept at that by submitting more, outside of the time that is measured.
void Decisions(benchmark::State& state) {
  const auto queued = static_cast<std::uint64_t>(state.range(0));
  constexpr std::uint64_t kBatch = 500;
  const std::uint64_t chunk = std::max<std::uint64_t>(1000, queued / 10);
  Grid grid(kWorkers);
  grid.submit_array(kWorkers * kSlots);
  while (grid.waiting() < queued) grid.submit_array(chunk);
  for (int i = 0; i < 2 * kWorkers * kSlots; ++i) {  // until running estimates stand
    if (grid.waiting() < queued) grid.submit_array(chunk);
    grid.turn();
  }
  double seconds = 0;
  std::uint64_t decisions = 0;
  for (auto _ : state) {
    while (grid.waiting() < queued) grid.submit_array(chunk);
    const std::uint64_t before = grid.assigned();
    const double start = cpu_seconds();
    for (std::uint64_t i = 0; i < kBatch; ++i) grid.turn();
    const double took = cpu_seconds() - start;
    state.SetIterationTime(took);
    seconds += took, decisions += grid.assigned() - before;
  }
  const double rate = static_cast<double>(decisions) / seconds;
  state.counters["decisions/s"] = rate;
  figures["decisions at " + std::to_string(queued)].push_back(rate);
}
BENCHMARK(Decisions)->Arg(1'000)->Arg(10'000'000)->UseManualTime()->Iterations(2'000)->Repetitions(5)->ReportAggregatesOnly(true)->Unit(benchmark::kMicrosecond);

/// Many kinds of tasks at once: range(0) classes by memory, a third of them with a requirement, in as many jobs.
void DecisionsOfClasses(benchmark::State& state) {
  const int classes = static_cast<int>(state.range(0));
  Grid grid(kWorkers);
  for (int i = 0; i < classes; ++i) {
    Needs needs;
    needs.memory_bytes = static_cast<std::uint64_t>(i + 1) << 26;
    grid.submit_array(2'000'000 / static_cast<unsigned>(classes), needs, i % 3 == 0 ? "os == \"linux\"" : "");
  }
  for (int i = 0; i < 5'000; ++i) grid.turn();
  double seconds = 0;
  std::uint64_t decisions = 0;
  for (auto _ : state) {
    const std::uint64_t before = grid.assigned();
    const double start = cpu_seconds();
    for (int i = 0; i < 500; ++i) grid.turn();
    const double took = cpu_seconds() - start;
    state.SetIterationTime(took);
    seconds += took, decisions += grid.assigned() - before;
  }
  state.counters["decisions/s"] = static_cast<double>(decisions) / seconds;
  figures["decisions of " + std::to_string(classes) + " classes"].push_back(static_cast<double>(decisions) / seconds);
}
BENCHMARK(DecisionsOfClasses)->Arg(10)->Arg(100)->UseManualTime()->Iterations(40)->Repetitions(3)->ReportAggregatesOnly(true)->Unit(benchmark::kMicrosecond);

/// The same with a million tasks that are all jobs, or groups, of their own.
void DecisionsDistinct(benchmark::State& state) {
  const bool jobs = state.range(0) == 1;
  Grid grid(kWorkers);
  constexpr std::uint64_t kTasks = 1'000'000;
  if (jobs) {
    for (std::uint64_t i = 0; i < kTasks; ++i) grid.submit_array(1);
  } else {
    grid.submit(std::vector<Group>(kTasks));
  }
  double seconds = 0;
  std::uint64_t decisions = 0;
  for (auto _ : state) {
    const std::uint64_t before = grid.assigned();
    const double start = cpu_seconds();
    for (int i = 0; i < 500; ++i) grid.turn();
    const double took = cpu_seconds() - start;
    state.SetIterationTime(took);
    seconds += took, decisions += grid.assigned() - before;
  }
  state.counters["decisions/s"] = static_cast<double>(decisions) / seconds;
  figures[jobs ? "decisions of 1-task jobs" : "decisions of groups"].push_back(static_cast<double>(decisions) / seconds);
}
BENCHMARK(DecisionsDistinct)->Arg(0)->Arg(1)->ArgName("jobs")->UseManualTime()->Iterations(400)->Repetitions(3)->ReportAggregatesOnly(true)->Unit(benchmark::kMicrosecond);

// ---- Memory ----------------------------------------------------------------------------------------------------------------------

enum Shape { range_of_one_job, lines_of_one_job, groups_of_one_job, jobs_of_one_task };
const char* const kShapes[] = {"a range", "lines of one job", "groups of one job", "1-task jobs"};

/// What the scheduler keeps of tasks that wait, without the words of their commands, which it never sees.
void Memory(benchmark::State& state) {
  const auto shape = static_cast<Shape>(state.range(0));
  const std::uint64_t tasks = shape == range_of_one_job ? 10'000'000 : 1'000'000;
  for (auto _ : state) {
    Grid grid(0);
    grid.submit_array(1);  // what is there once
    const std::size_t before = in_use();
    const double start = cpu_seconds();
    if (shape == jobs_of_one_task) {
      for (std::uint64_t i = 0; i < tasks; ++i) grid.submit_array(1);
    } else if (shape == groups_of_one_job) {
      grid.submit(std::vector<Group>(tasks));
    } else {
      grid.submit_array(tasks);
    }
    state.SetIterationTime(cpu_seconds() - start);
    const double each = static_cast<double>(in_use() - before) / static_cast<double>(tasks);
    state.counters["bytes/task"] = each;
    figures[std::string("memory as ") + kShapes[shape]].push_back(each);
  }
  state.SetLabel(kShapes[shape]);
}
BENCHMARK(Memory)->DenseRange(range_of_one_job, jobs_of_one_task)->UseManualTime()->Iterations(1)->Unit(benchmark::kMillisecond);

// ---- Workers that come and go ----------------------------------------------------------------------------------------------------

/// With 10,000 others there, all busy, and a million tasks waiting: a worker comes, gets its tasks, and is lost with them.
void JoinAndLeave(benchmark::State& state) {
  Grid grid(kWorkers);
  for (int i = 0; i < kOwners; ++i) grid.submit_array(1'000'000);
  double joining = 0, leaving = 0;
  std::uint64_t next = kWorkers, times = 0;
  for (auto _ : state) {
    constexpr int kBatch = 20;
    double start = cpu_seconds();
    for (int i = 0; i < kBatch; ++i) grid.join(++next);
    const double joined = cpu_seconds() - start;
    start = cpu_seconds();
    for (int i = 0; i < kBatch; ++i) grid.tell(WorkerLost{{next - static_cast<std::uint64_t>(i)}});
    const double left = cpu_seconds() - start;
    for (int i = 0; i < kBatch; ++i) grid.forget_lost({next - static_cast<std::uint64_t>(i)});
    joining += joined, leaving += left, times += kBatch;
    state.SetIterationTime(joined + left);
  }
  state.counters["join_us"] = joining / static_cast<double>(times) * 1e6;
  state.counters["leave_us"] = leaving / static_cast<double>(times) * 1e6;
  figures["join"].push_back(joining / static_cast<double>(times) * 1e6);
  figures["leave"].push_back(leaving / static_cast<double>(times) * 1e6);
}
BENCHMARK(JoinAndLeave)->UseManualTime()->Iterations(50)->Repetitions(3)->ReportAggregatesOnly(true)->Unit(benchmark::kMicrosecond);

// ---- Targets ---------------------------------------------------------------------------------------------------------------------

void target(const char* what, bool measured, bool met, const char* format, double value, double bound) {
  if (!measured) return;
  char text[64];
  std::snprintf(text, sizeof text, format, value, bound);
  std::printf("%-8s %-66s %s\n", met ? "met" : "NOT MET", what, text);
}

void summary() {
  std::printf("\nTargets, medians of this run:\n");
  const double many = median("decisions at 10000000"), few = median("decisions at 1000");
  target("decisions/s on one core, 10,000,000 queued, 10,000 workers", many > 0, many >= 1e6, "%.0f (at least %.0f)", many, 1e6);
  target("cost of a decision, 10,000,000 queued against 1,000", many > 0 && few > 0, few / many <= 1.2, "%.2f (at most %.1f)", few / std::max(1.0, many), 1.2);
  for (const char* shape : kShapes) {
    const std::string name = std::string("memory as ") + shape;
    const double bound = shape == kShapes[range_of_one_job] ? 1 : 64;
    target(("bytes a queued task, as " + std::string(shape)).c_str(), !figures[name].empty(), median(name) <= bound, "%.2f (at most %.0f)", median(name), bound);
  }
  target("a worker joins, microseconds", !figures["join"].empty(), median("join") < 50, "%.1f (under %.0f)", median("join"), 50);
  target("a worker leaves with what it runs, microseconds", !figures["leave"].empty(), median("leave") < 50, "%.1f (under %.0f)", median("leave"), 50);
}

}  // namespace
}  // namespace souk

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  souk::summary();
  return 0;
}
