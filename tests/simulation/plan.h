// What a seed means: which weather, which workers, which jobs, and how each task would end.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "manager/event.h"
#include "tests/simulation/world.h"

namespace souk::simulation {

/// Faults before the weather clears.
struct Weather {
  double loss = 0, repeat = 0, reorder = 0;  // of one message
  Duration delay_min{500}, delay_max{5000};
  Duration crash_every{0}, freeze_every{0}, cut_every{0};        // means, per worker; 0: never
  Duration restart_every{0}, close_every{0};                     // of the manager, of its market
  double liars = 0;                                              // share of the workers
  Duration owner_every{0};                                       // an owner pauses or resumes a worker
  Duration server_every{0};                                      // the server ends and starts again: all links break at once
  Duration deaf_every{0};                                        // mean, per worker: one direction of its link carries nothing for a while
  Duration stall_every{0};                                       // the manager stands still, and goes on as if nothing had been
  Duration takeover_every{0};                                    // another manager is started while the old one stands still
  Duration disk_every{0};                                        // the manager's disk refuses for a while
  double spool_kept = 0;                                         // of a worker that ends or dies, how likely its disk is there again
  Duration term_every{0};                                        // mean, per worker: it is told to end
  Duration until_every{0};                                       // mean, per worker: its owner says when the machine is wanted back, and takes it then
};

struct HostPlan {
  Offer offer;
  int speed_percent = 100;  // of the reference machine; 10 to 1000
  bool liar = false;        // says it has more slots than it has, and reports what it was never given
  Duration enters{0};
};

/// How one task would end, whoever runs it.
struct Fate {
  Duration work{0};         // at speed 100
  unsigned fails = 0;       // runs that fail before one succeeds
  bool kills_worker = false;
  int exit_code = 1;        // of a failing run
};

struct JobPlan {
  std::string owner;
  std::vector<Group> groups;
  Terms terms;                             // `after` is filled in when it is submitted
  std::vector<std::pair<std::size_t, bool>> after;  // earlier jobs of the plan; any
  Duration deadline{0};                    // from its submission; 0: none
  bool large_command = false;              // travels ahead, in messages of its own
  unsigned command_parts = 1;              // of these; one that lacks a part is no command
  Duration submitted{0}, canceled{0}, held{0}, released{0};  // 0: never
  bool rerun = false;                      // once it has ended without success, what did not succeed runs again, once
  Duration task_low{0};
  unsigned task_doublings = 1;
  double fail = 0, kill = 0;               // share of the tasks
  std::uint64_t tasks() const {
    std::uint64_t all = 0;
    for (const Group& group : groups) all += group.tasks;
    return all;
  }
};

// Generations of them: 1: of workers, links and the manager; 2: server, one-way cuts, stalls, disk, stops, reruns; 3: a second manager; 4: jobs that are no longer
// kept, owners who say until when, commands in parts.
constexpr int kFaultKinds = 4;

struct Plan {
  Weather weather;
  Duration clears{0};  // from then on nothing more goes wrong
  Duration lease{0};
  Duration keep{0};    // ended jobs are forgotten after that; 0: never
  std::vector<HostPlan> hosts;
  std::vector<JobPlan> jobs;
  std::vector<OwnerSet> owners;

  /// Everything drawn from the seed alone. kinds: of faults there are to draw; a seed that once found something keeps its run when new ones come.
  static Plan draw(std::uint64_t seed, int kinds = kFaultKinds);
  bool calm() const { return clears == Duration(0); }
  Fate fate(std::uint64_t seed, std::size_t job, std::uint64_t task) const;
  std::string in_words() const;
};

/// Whether the worker could ever run a task of the group; `require` only in the few forms that plans use.
bool could_run(const Offer& offer, const Group& group);

}  // namespace souk::simulation
