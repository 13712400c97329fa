// What no job may be above: the manager refuses it, and whoever submits can say so before anything is sent. Pure.
#pragma once
#include <cstdint>
#include <string>

#include "protocol/result.h"

namespace souk {

constexpr std::uint64_t kTasksMax = 10'000'000;  // of one job
constexpr int kGroupsMax = 100'000;              // of one job; named tasks of a job file, each one or many
constexpr int kPriorityMax = 1000;               // and as far below zero
constexpr int kAfterMax = 1000;                  // jobs that one job waits for
constexpr int kCodesMax = 64;                    // ranges of exit codes after which a task runs again
constexpr int kCrashLimitMax = 1000;             // workers that a task may take with it

/// The refusal of more than kTasksMax, in the same words everywhere.
inline Error too_many_tasks(std::string what) { return {std::move(what), "it has more than " + std::to_string(kTasksMax) + " tasks", "submit it as several jobs"}; }

}  // namespace souk
