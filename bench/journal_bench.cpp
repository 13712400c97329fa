// What the manager's store takes: results and jobs a second by how many share a commit, with synchronous=FULL as always, and pages of results read back.
//   build/release/bin/journal_bench                          in $TMPDIR or /tmp
//   SOUK_BENCH_DIR=/srv build/release/bin/journal_bench      on another disk: that of a commit says more than anything here
// Real time, since most of it is waiting for the disk; CPU is that of the calling thread alone.
#include <benchmark/benchmark.h>

#include <boost/asio/executor_work_guard.hpp>
#include <cstdlib>
#include <filesystem>
#include <stdexcept>
#include <string>

#include "manager/journal.h"

namespace souk {
namespace {

class Store {
 public:
  Store() {
    const char* wanted = std::getenv("SOUK_BENCH_DIR");
    std::string name = ((wanted ? std::filesystem::path(wanted) : std::filesystem::temp_directory_path()) / "souk-journal-XXXXXX").string();
    if (!mkdtemp(name.data())) throw std::runtime_error("cannot make a folder like " + name);
    folder_ = name;
    Journal::Restored restored;
    auto opened = Journal::open(folder_ / "grid.sqlite", loop_, restored);
    if (!opened) throw std::runtime_error(opened.error().text());
    journal_ = std::move(opened.value());
  }
  ~Store() {
    journal_.reset();
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  Journal* operator->() { return journal_.get(); }
  void commit() {
    await([&](auto done) { journal_->commit(done); });
  }
  template <class Start>
  void await(Start start) {
    bool called = false;
    start([&] { called = true; });
    loop_.restart();
    const auto work = boost::asio::make_work_guard(loop_);
    while (!called) loop_.run_one();
  }

 private:
  boost::asio::io_context loop_;
  std::filesystem::path folder_;
  std::unique_ptr<Journal> journal_;
};

JobRow job_of(std::uint64_t number, std::uint64_t tasks) {
  JobRow row;
  row.id = {number}, row.owner = "ada@souk.localhost", row.key = "key-" + std::to_string(number), row.name = "sweep", row.command = "simulate --seed {}", row.tasks = tasks;
  row.spec = std::string(120, 's'), row.submitted_ms = 1;
  return row;
}

OutcomeRow outcome_of(std::uint64_t task, std::size_t bytes) {
  return {{{1}, {task}}, TaskState::succeeded, 1, "worker-1", std::to_string(task), std::string(30, 'o'), std::string(bytes, 'x'), {}, bytes, 0};
}

/// range(0) results in a commit, each with range(1) bytes of output.
void Results(benchmark::State& state) {
  Store store;
  store->add(job_of(1, 1'000'000'000));
  store.commit();
  std::uint64_t task = 0;
  for (auto _ : state) {
    for (std::int64_t i = 0; i < state.range(0); ++i) store->add(outcome_of(++task, static_cast<std::size_t>(state.range(1))));
    store.commit();
  }
  state.counters["results/s"] = benchmark::Counter(static_cast<double>(task), benchmark::Counter::kIsRate);
}
BENCHMARK(Results)->ArgNames({"commit of", "bytes"})->ArgsProduct({{1, 10, 100, 1000}, {20}})->Args({100, 4096})->UseRealTime()->Unit(benchmark::kMicrosecond);

/// Jobs of one task, range(0) in a commit.
void Jobs(benchmark::State& state) {
  Store store;
  std::uint64_t number = 0;
  for (auto _ : state) {
    for (std::int64_t i = 0; i < state.range(0); ++i) store->add(job_of(++number, 1));
    store.commit();
  }
  state.counters["jobs/s"] = benchmark::Counter(static_cast<double>(number), benchmark::Counter::kIsRate);
}
BENCHMARK(Jobs)->ArgName("commit of")->Arg(1)->Arg(100)->UseRealTime()->Unit(benchmark::kMicrosecond);

/// Pages of 256 results with their output, one after the other through 20,000.
void Pages(benchmark::State& state) {
  constexpr std::uint64_t kTasks = 20'000;
  Store store;
  store->add(job_of(1, kTasks));
  for (std::uint64_t task = 1; task <= kTasks; ++task) store->add(outcome_of(task, 20));
  store.commit();
  std::uint64_t from = 1, read = 0;
  for (auto _ : state) {
    Journal::Page page;
    page.job = {1}, page.from = from, page.streams = true;
    std::size_t rows = 0;
    store.await([&](auto done) {
      store->read(page, [&rows, done](Result<std::vector<OutcomeRow>> got) { rows = got ? got.value().size() : 0, done(); });
    });
    if (rows == 0) state.SkipWithError("an empty page");
    read += rows, from += rows;
    if (from > kTasks) from = 1;
  }
  state.counters["results/s"] = benchmark::Counter(static_cast<double>(read), benchmark::Counter::kIsRate);
}
BENCHMARK(Pages)->UseRealTime()->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace souk

BENCHMARK_MAIN();
