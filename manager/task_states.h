// The state of every task of a job in half a byte, and of long stretches that were never touched or are all alike in none.
#pragma once
#include <algorithm>
#include <array>
#include <cstdint>
#include <memory>
#include <vector>

#include "manager/event.h"

namespace souk {

class TaskStates {
 public:
  /// All waiting.
  TaskStates() = default;
  explicit TaskStates(std::uint64_t tasks) : tasks_(tasks), pages_((tasks + kPage - 1) / kPage) {}

  std::uint64_t size() const { return tasks_; }
  /// task: from 0
  TaskState get(std::uint64_t task) const {
    const Page& page = pages_[task / kPage];
    if (!page.states) return page.all;
    const std::uint8_t both = (*page.states)[task % kPage / 2];
    return static_cast<TaskState>(task % 2 == 0 ? both & 15 : both >> 4);
  }
  void set(std::uint64_t task, TaskState state) {
    Page& page = pages_[task / kPage];
    const TaskState before = get(task);
    if (before == state) return;
    if (!page.states) {
      const auto fill = static_cast<std::uint8_t>(page.all) * 17;
      page.states = std::make_unique<std::array<std::uint8_t, kPage / 2>>();
      page.states->fill(static_cast<std::uint8_t>(fill));
      page.counts = {};
      page.counts[static_cast<std::size_t>(page.all)] = static_cast<std::uint16_t>(page_size(task / kPage));
    }
    std::uint8_t& both = (*page.states)[task % kPage / 2];
    both = static_cast<std::uint8_t>(task % 2 == 0 ? (both & 0xF0) | static_cast<int>(state) : (both & 0x0F) | static_cast<int>(state) << 4);
    --page.counts[static_cast<std::size_t>(before)];
    if (++page.counts[static_cast<std::size_t>(state)] == page_size(task / kPage) && ended(state)) page.all = state, page.states.reset();
  }

  /// Ends every waiting task of [first, last): stretches that were never touched at once. yields: how many those were
  std::uint64_t end_waiting(std::uint64_t first, std::uint64_t last, TaskState state) {
    std::uint64_t ended = 0;
    for (std::uint64_t task = first; task < last;) {
      Page& page = pages_[task / kPage];
      const std::uint64_t size = page_size(task / kPage);
      if (task % kPage == 0 && task + size <= last && !page.states) {
        if (page.all == TaskState::waiting) page.all = state, ended += size;
        task += size;
        continue;
      }
      if (get(task) == TaskState::waiting) set(task, state), ++ended;
      ++task;
    }
    return ended;
  }

 private:
  static constexpr std::uint64_t kPage = 2048;
  struct Page {
    TaskState all = TaskState::waiting;  // while there are no states
    std::array<std::uint16_t, 5> counts{};
    std::unique_ptr<std::array<std::uint8_t, kPage / 2>> states;
  };
  std::uint64_t page_size(std::uint64_t page) const { return std::min(kPage, tasks_ - page * kPage); }

  std::uint64_t tasks_ = 0;
  std::vector<Page> pages_;
};

}  // namespace souk
