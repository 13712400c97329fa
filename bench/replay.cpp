// souk_replay: a workload trace on thousands of simulated workers, policy against policy.
//   souk_replay bench/workloads/sample.swf --workers 10000 --svg replay.svg
//   souk_replay --make-sample 2000 --seed 1 > sample.swf
#include <CLI/CLI.hpp>
#include <fstream>
#include <iostream>

#include "bench/workload.h"

int main(int argc, char** argv) {
  using namespace souk::bench;
  CLI::App app{"Replays a workload trace (Standard Workload Format) on simulated workers: first come, first served, against Souk's scheduler"};
  std::string trace_file, svg_file;
  Grid grid;
  bool json = false, same = false;
  std::size_t sample = 0;
  app.add_option("trace", trace_file, "trace in the Standard Workload Format");
  app.add_option("--workers", grid.workers, "simulated workers")->check(CLI::Range(1, 1'000'000))->capture_default_str();
  app.add_flag("--same", same, "workers of 4 slots and speed 1, all the same; else of 1 to 16 slots and half to twice the speed");
  app.add_option("--scale", grid.scale, "times as many processors a job")->check(CLI::Range(0.0001, 10000.0))->capture_default_str();
  app.add_option("--seed", grid.seed, "of the workers' sizes and speeds, and of a sample")->capture_default_str();
  app.add_flag("--json", json, "one object a policy and line");
  app.add_option("--svg", svg_file, "writes a plot: waits, and the queue over time");
  app.add_option("--make-sample", sample, "writes a trace of so many jobs to stdout, and ends")->check(CLI::Range(1, 1'000'000));
  CLI11_PARSE(app, argc, argv);
  grid.mixed = !same;
  if (sample > 0) {
    write_swf(std::cout, make_sample(grid.seed, sample), "made by souk_replay --make-sample " + std::to_string(sample) + " --seed " + std::to_string(grid.seed));
    return std::cout.flush() ? 0 : 1;
  }
  std::ifstream file(trace_file);
  if (!file) {
    std::cerr << "souk_replay: cannot read the trace '" << trace_file << "'; name a file, such as bench/workloads/sample.swf\n";
    return 2;
  }
  std::uint64_t left_out = 0;
  const auto trace = read_swf(file, left_out);
  if (!trace) {
    std::cerr << "souk_replay: " << trace_file << ": " << trace.error().text() << '\n';
    return 2;
  }
  const std::vector<Replay> replays = {replay_fifo(trace.value(), grid, false), replay_fifo(trace.value(), grid, true), replay_souk(trace.value(), grid)};
  if (json) {
    std::cout << as_json(replays);
  } else {
    const Replay& one = replays.front();
    std::cout << trace_file << ": " << one.jobs << " jobs, " << one.tasks << " tasks, " << one.users << " users" << (left_out > 0 ? ", " + std::to_string(left_out) + " that never ran left out" : "")
              << "; " << grid.workers << " workers, " << one.slots << " slots\n"
              << as_table(replays);
  }
  if (!svg_file.empty()) {
    std::ofstream svg(svg_file);
    svg << as_svg(replays);
    if (!svg.flush()) {
      std::cerr << "souk_replay: cannot write '" << svg_file << "'\n";
      return 1;
    }
  }
  return 0;
}
