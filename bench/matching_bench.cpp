// Offers meeting requirements: what reading and evaluating an expression costs, and what a new class of tasks or of workers costs the market.
//   build/release/bin/matching_bench
// What the scheduler makes of it, decisions a second with many classes waiting, is in scheduler_bench. CPU times of one thread.
#include <benchmark/benchmark.h>

#include <string>

#include "manager/market.h"

namespace souk {
namespace {

const char* const kRequirements[] = {"os == \"linux\"", "os == \"linux\" && memory >= 8GiB && has(python)",
                                     "os == \"linux\" && memory >= 8GiB && version(python) >= \"3.10\" && (tag.room == \"2.14\" || speed > 1.5)"};

Offer offer_of(int kind) {
  Offer offer;
  offer.slots = offer.cpus = 4;
  offer.memory_bytes = static_cast<std::uint64_t>(4 + kind % 60) << 30;
  offer.os = kind % 4 == 0 ? "freebsd" : "linux", offer.arch = "x86_64";
  offer.software = {{"python", "3." + std::to_string(8 + kind % 6) + ".2"}, {"gcc", "12.2"}};
  offer.tags = {{"room", "2." + std::to_string(kind % 20)}, {"kind", std::to_string(kind)}};
  offer.speed = 1 + kind % 10 / 10.0;
  return offer;
}

Group group_of(int kind, const std::string& require) {
  Group group;
  group.require = require, group.rank = "speed * 2 - memory / 64GiB";
  group.needs.memory_bytes = static_cast<std::uint64_t>(kind + 1) << 20;  // a class of its own
  return group;
}

void Parse(benchmark::State& state) {
  const std::string text = kRequirements[state.range(0)];
  for (auto _ : state) benchmark::DoNotOptimize(Expression::parse(text));
}
BENCHMARK(Parse)->ArgName("expression")->DenseRange(0, 2);

void Evaluate(benchmark::State& state) {
  const auto expression = Expression::parse(kRequirements[state.range(0)]).value();
  const Offer offer = offer_of(30);
  const OfferAttributes attributes(offer, nullptr, nullptr, nullptr);
  for (auto _ : state) benchmark::DoNotOptimize(expression.evaluate(attributes));
}
BENCHMARK(Evaluate)->ArgName("expression")->DenseRange(0, 2);

/// A class of tasks that the market has not seen, against range(0) classes of workers.
void NewTaskClass(benchmark::State& state) {
  Market market;
  for (int i = 0; i < state.range(0); ++i) market.worker_class(offer_of(i));
  int kind = 0;
  for (auto _ : state) {
    const auto id = market.task_class(group_of(++kind % 4000, kRequirements[1]), {});
    benchmark::DoNotOptimize(market.fitting(id).size());
    market.give_up(id);
  }
  state.counters["a worker class"] = benchmark::Counter(static_cast<double>(state.range(0)), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
}
BENCHMARK(NewTaskClass)->ArgName("worker classes")->Arg(1)->Arg(200)->Arg(2000)->Unit(benchmark::kMicrosecond);

/// A job like those before it: its class is known, and judged.
void KnownTaskClass(benchmark::State& state) {
  Market market;
  for (int i = 0; i < 200; ++i) market.worker_class(offer_of(i));
  const Group group = group_of(1, kRequirements[1]);
  market.fitting(market.task_class(group, {}));
  for (auto _ : state) {
    const auto id = market.task_class(group, {});
    benchmark::DoNotOptimize(market.fitting(id).size());
    market.give_up(id);
  }
}
BENCHMARK(KnownTaskClass);

/// A worker comes: one like others, and one of a kind never seen while range(0) classes of tasks wait for one.
void WorkerComes(benchmark::State& state) {
  Market market;
  std::vector<TaskClassId> waiting;
  for (int i = 0; i < state.range(0); ++i) waiting.push_back(market.task_class(group_of(i, kRequirements[i % 3]), {}));
  int kind = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(market.worker_class(offer_of(state.range(1) == 0 ? 1 : ++kind)));
    for (const auto id : waiting) benchmark::DoNotOptimize(market.fitting(id).size());
  }
}
BENCHMARK(WorkerComes)->ArgNames({"task classes", "new"})->ArgsProduct({{1, 100}, {0, 1}})->Iterations(2000)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace souk

BENCHMARK_MAIN();
