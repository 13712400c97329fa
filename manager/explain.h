// Why a task waits, or what a request would find, counted over workers. Plain values for people and programs.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "manager/event.h"

namespace souk {

struct Reason {
  std::uint32_t workers = 0;  // how many it holds back; 0: it is not about workers
  std::string why;            // `memory 8 GiB < 64 GiB asked; largest seen 32 GiB`
};
struct Explanation {
  TaskState state = TaskState::waiting;
  TaskNumber next{};                 // asked of a job: the task that the summary tells of, its next; 0: it tells of the job
  std::string summary;               // one sentence
  std::vector<Reason> reasons;       // most workers first
  std::vector<std::string> changes;  // smallest that would make it run, first
  std::vector<std::uint32_t> waits_for_groups;  // positions in the job; a few
  std::uint64_t tasks_ahead = 0;     // of the same owner's, that go first
  std::uint32_t owner_place = 0, owners_waiting = 0;  // its owner's turn, from 1; 0: does not wait
};
/// What a request finds in the market now.
struct Fit {
  std::uint32_t fitting = 0;         // workers that could run it, busy or not
  std::uint64_t room = 0;            // tasks of it that could start now
  bool seen = false;                 // some worker, here now or gone since, could
  std::vector<WorkerId> best;        // at most 5, best first
  std::vector<Reason> reasons;       // of the others
  std::vector<std::string> changes;
};

}  // namespace souk
