// What a program that stays connected sees of a grid: no start of a program, no login, one command after the other on one stream.
//   latency_bench --profile FILE                   200 tasks, one at a time and 20 ms apart: seconds from submit to the result, one a line
//   latency_bench --profile FILE --service NAME    the same without a process, by a service of the workers
//   latency_bench --profile FILE --array 1000000   seconds until an array of so many tasks is accepted, that is on disk; --runs of them, canceled again each
//   latency_bench --profile FILE --lines 100000    the same of a job of so many distinct lines
// The profile is that of a person: user.toml of the folder of `souk up`. bench/compare uses this for cases D and E.
#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <thread>

#include "submit/request.h"
#include "submit/session.h"

namespace souk {
namespace {

using namespace std::chrono_literals;
using Clock = Session::Clock;

constexpr auto kApart = 20ms;  // so that the grid is idle when a task comes

template <class T>
const T& good(const Result<T>& result) {
  if (!result) throw std::runtime_error(result.error().text());
  return result.value();
}

wire::Job job_of_words(const std::string& array, const std::optional<Items>& items, const std::string& service = {}) {
  JobOptions options;
  options.words = {"/bin/true"};
  options.array = array;
  options.service = service;
  wire::Job job;
  good(job_of(options, items, {}, [](const std::string&) { return std::nullopt; }, job));
  return job;
}

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

/// Submits, waits for the end, fetches the result: what `souk run` does once it is connected.
double one_task(Session& session, const wire::Job& job) {
  const auto start = Clock::now();
  const auto number = good(session.submit(job, new_key(), true)).job();
  session.watching(number);
  const wire::JobStatus* news = nullptr;
  while ((news = session.news(number)) == nullptr || news->ended_ms() == 0) good(session.await_news(start + 30s));
  wire::ResultsRequest request;
  request.set_job(number);
  request.set_outputs(true);
  const auto results = session.results(request);
  if (good(results).results_size() != 1 || news->succeeded() != 1) throw std::runtime_error("task " + std::to_string(number) + ".1 did not succeed");
  return seconds_since(start);
}

double accepted(Session& session, const wire::Job& job) {
  const auto start = Clock::now();
  const auto number = good(session.submit(job, new_key(), false)).job();
  const double took = seconds_since(start);
  good(session.cancel({number}));
  return took;
}

}  // namespace
}  // namespace souk

int main(int argc, char** argv) {
  using namespace souk;
  CLI::App app("Latency of one task, and of submitting many, for a program that stays connected.");
  std::string profile, service;
  int tasks = 200, runs = 5;
  std::uint64_t array = 0, lines = 0;
  app.add_option("--profile", profile, "Profile of a person: user.toml of a grid's folder")->required();
  app.add_option("--tasks", tasks, "Tasks, one at a time (default: 200)");
  app.add_option("--service", service, "Let this service of the workers answer, instead of /bin/true");
  app.add_option("--array", array, "Instead: how long it takes to submit an array of so many tasks");
  app.add_option("--lines", lines, "Instead: how long it takes to submit so many distinct tasks");
  app.add_option("--runs", runs, "Of --array and --lines (default: 5)");
  CLI11_PARSE(app, argc, argv);
  try {
    auto loaded = load_profile(profile);
    Session session(good(loaded));
    good(session.status({}));  // connected
    if (array > 0 || lines > 0) {
      std::optional<Items> items;
      if (lines > 0) items = Items{{}, "lines"};
      for (std::uint64_t i = 0; i < lines; ++i) items->values.push_back("item-" + std::to_string(i));
      const wire::Job job = job_of_words(array > 0 ? "1-" + std::to_string(array) : "", items);
      for (int run = 0; run < runs; ++run) std::printf("%.6f\n", accepted(session, job));
      return 0;
    }
    const wire::Job job = job_of_words("", std::nullopt, service);
    for (int i = 0; i < tasks; ++i) {
      std::this_thread::sleep_for(kApart);
      std::printf("%.6f\n", one_task(session, job));
      std::fflush(stdout);
    }
  } catch (const std::exception& error) {
    std::fprintf(stderr, "latency_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
