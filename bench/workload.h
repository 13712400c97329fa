// Workloads: traces in the Standard Workload Format of the Parallel Workloads Archive, a generator of a small sample, and their replay on simulated workers.
#pragma once
#include <cstdint>
#include <iosfwd>
#include <string>
#include <vector>

#include "manager/event.h"

namespace souk::bench {

/// One line of a trace: a job of `processors` tasks, or one task of so many processors when that fits one worker.
struct TraceJob {
  std::uint64_t number = 0;
  Duration submitted{0};      // since the first
  Duration run{0};            // on a worker of speed 1
  Duration asked{0};          // its user's limit; 0: unknown
  std::uint32_t processors = 1;
  std::uint64_t memory_kib = 0;  // per processor; 0: unknown
  std::uint32_t user = 0;
};

/// Reads the format: `;` comments, then 18 numbers a line, -1 for unknown. Jobs that never ran (no run time or no processors) are left out and counted.
/// Fails on a line that is none, with its number.
Result<std::vector<TraceJob>> read_swf(std::istream& from, std::uint64_t& left_out);
void write_swf(std::ostream& to, const std::vector<TraceJob>& jobs, const std::string& note);
/// A few thousand jobs of a day at an institute: some users with huge sweeps, many with short jobs, a quiet night. The same for the same seed.
std::vector<TraceJob> make_sample(std::uint64_t seed, std::size_t jobs);

struct Grid {
  std::uint32_t workers = 10'000;
  bool mixed = true;          // sizes of 1 to 16 slots and speeds of 0.5 to 2; else 4 slots at speed 1
  std::uint64_t seed = 1;
  double scale = 1;           // of the jobs' processors
};

struct Replay {
  std::string policy;
  std::uint64_t tasks = 0, jobs = 0, users = 0;
  std::uint64_t slots = 0;
  double makespan_s = 0;
  double utilization = 0;           // slot time in use over slot time there was, until the last task ended
  double utilization_arriving = 0;  // until the last job came: what queues of a grid that never stops would see
  double wait_mean_s = 0, wait_median_s = 0, wait_p95_s = 0;  // of jobs: until the first of its tasks starts
  double slowdown_mean = 0, slowdown_median = 0, slowdown_p95 = 0;  // of jobs, bounded: from submission to the end, over its run time, at least 10 s
  double fairness = 0;              // Jain's index over the users' mean slowdowns: 1 all alike, 1/users one alone has it all
  double worst_user = 0;            // the highest of these means
  double decisions_per_s = 0;       // tasks placed, over CPU seconds inside the policy; the only figure that is not the same each time
  std::vector<double> waits;        // sorted
  std::vector<std::pair<double, std::uint64_t>> queue;  // seconds, tasks waiting
};

/// First come, first served, strictly: who is first and does not fit keeps all behind waiting. On the first worker with room, or on the fastest.
Replay replay_fifo(const std::vector<TraceJob>& trace, const Grid& grid, bool fastest);
/// The manager's own core.
Replay replay_souk(const std::vector<TraceJob>& trace, const Grid& grid);

std::string as_table(const std::vector<Replay>& replays);
std::string as_json(const std::vector<Replay>& replays);
/// Share of jobs that waited at most so long, for each policy, and tasks waiting over time.
std::string as_svg(const std::vector<Replay>& replays);

}  // namespace souk::bench
