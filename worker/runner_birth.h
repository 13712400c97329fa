// The first moments of an attempt's process. A part of souk-runner.
#pragma once
#include <cstddef>
#include <sched.h>
#include <sys/types.h>

#include "worker/runner_wire.h"

namespace souk::runner {

/// What the child needs, in memory that it shares with its parent, which sleeps until the child has called exec or ended.
struct Birth {
  char** argv;  // argv[-1] is ours to use
  char** env;
  int input, out, err;   // become 0, 1, 2
  int folder;            // becomes its working directory
  pid_t die_with;        // the runner, without namespaces; 0: a namespace does better
  const cpu_set_t* processors;  // null: the runner's own
  std::size_t processors_size;
  const Request* bounds; // null: none
  int nice;              // above the runner's own
  char* candidate;       // room for a path
  std::size_t candidate_size;
  volatile Failed failed;  // why it did not come to run
  volatile int error;
};

/// Function of the child, for clone(2): its argument is a Birth. System calls only.
int be_born(void* birth);

}  // namespace souk::runner
