// Which pages of a job's tasks to ask for, a few ahead of the one that is read, so that nobody waits for the way there and back of each. Pure.
#pragma once
#include <cstddef>
#include <cstdint>
#include <deque>
#include <vector>

namespace souk {

/// How many tasks fit into a page only the manager knows, so the first page is asked for alone, and later ones are as large as the last that came.
class PagePlan {
 public:
  static constexpr std::size_t kAskedMax = 4;  // pages at a time, with the one that is awaited
  /// Tasks from `first` to `last`; 0: to the job's last.
  struct Span {
    std::uint64_t first = 1, last = 0;
    bool operator==(const Span&) const = default;
  };

  explicit PagePlan(Span whole) : next_(whole.first), last_(whole.last) {}

  /// What the job's last task is, once the first page tells it: the whole may have been meant to go further, or without an end.
  void bound(std::uint64_t last) {
    if (last > 0 && (last_ == 0 || last < last_)) last_ = last;
  }
  bool done() const { return asked_.empty() && next_ == 0; }
  /// What to ask for now, before awaited(), and not again for it.
  /// until: the last task that is worth it, at most the job's last
  std::vector<Span> ahead(std::uint64_t until);
  /// The page to read now. Not once done().
  Span awaited();
  /// The awaited page came, with so many tasks and ResultsAnswer::next_task.
  void came(std::size_t tasks, std::uint64_t next_task);
  /// It ended before a task that is not over: what lies behind it is asked for again later.
  void wait_at(std::uint64_t task);

 private:
  std::deque<Span> asked_;     // in the order of tasks, without gaps
  std::uint64_t next_, last_;  // the first task not asked for, 0: none is left
  std::uint64_t each_ = 0;     // tasks a page; 0: not known
  unsigned whole_ = 0;         // pages in a row of which nothing was missing
};

}  // namespace souk
