// Numbers that mean different things have different types.
#pragma once
#include <chrono>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <functional>

namespace souk {

template <class Kind>
struct Id {
  std::uint64_t value = 0;
  friend auto operator<=>(Id, Id) = default;
};
using JobId = Id<struct JobKind>;        // counts up from 1 in one manager's store
using WorkerId = Id<struct WorkerKind>;  // counts up from 1 in one life of a manager; never on the wire
using TaskNumber = Id<struct TaskKind>;  // 1 to the number of tasks in the job
using Epoch = Id<struct EpochKind>;      // one life of a manager; only growing

/// A task, written JOB.TASK for people (`12.7`).
struct TaskId {
  JobId job;
  TaskNumber task;
  friend auto operator<=>(TaskId, TaskId) = default;
};

/// One run of a task. Fenced: a later one is always greater, also across restarts of the manager.
struct AttemptId {
  Epoch epoch;
  std::uint64_t number = 0;
  friend auto operator<=>(AttemptId, AttemptId) = default;
};

/// Time inside the cores: a number that the shell hands in, with no clock behind it.
struct CoreClock {
  using duration = std::chrono::microseconds;
  using rep = duration::rep;
  using period = duration::period;
  using time_point = std::chrono::time_point<CoreClock>;
  static constexpr bool is_steady = true;
};
using Instant = CoreClock::time_point;
using Duration = CoreClock::duration;

}  // namespace souk

template <class Kind>
struct std::hash<souk::Id<Kind>> {
  std::size_t operator()(souk::Id<Kind> id) const noexcept { return std::hash<std::uint64_t>{}(id.value); }
};
template <>
struct std::hash<souk::AttemptId> {
  std::size_t operator()(souk::AttemptId a) const noexcept { return std::hash<std::uint64_t>{}(a.epoch.value * 0x9E3779B97F4A7C15u + a.number); }
};
template <>
struct std::hash<souk::TaskId> {
  std::size_t operator()(souk::TaskId t) const noexcept { return std::hash<std::uint64_t>{}(t.job.value * 0x9E3779B97F4A7C15u + t.task.value); }
};
