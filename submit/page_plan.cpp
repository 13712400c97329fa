#include "submit/page_plan.h"

#include <algorithm>

namespace souk {
namespace {

constexpr std::uint64_t kEachMax = 500;  // tasks a page: no manager puts more into one
constexpr unsigned kGrowAfter = 8;       // pages in a row that were whole: what is too much costs one page that was not asked for ahead

}  // namespace

PagePlan::Span PagePlan::awaited() {
  if (asked_.empty()) {
    asked_.push_back({next_, last_});
    next_ = 0;
  }
  return asked_.front();
}

std::vector<PagePlan::Span> PagePlan::ahead(std::uint64_t until) {
  std::vector<Span> more;
  if (last_ > 0) until = std::min(until, last_);
  while (next_ > 0 && each_ > 0 && asked_.size() < kAskedMax && next_ + each_ - 1 <= until) {
    const Span span{next_, next_ + each_ - 1};
    asked_.push_back(span);
    more.push_back(span);
    next_ = span.last == last_ ? 0 : span.last + 1;
  }
  return more;
}

void PagePlan::came(std::size_t tasks, std::uint64_t next_task) {
  const Span span = awaited();
  asked_.pop_front();
  const bool open = asked_.empty() && next_ == 0;  // it was asked up to the end
  if (next_task != 0 && next_task <= span.first) {  // a manager that does not move on
    asked_.clear(), next_ = 0;
  } else if (open) {
    next_ = next_task;
    each_ = std::clamp<std::uint64_t>(tasks, 1, kEachMax);
  } else if (next_task != 0) {
    asked_.push_front({next_task, span.last});
    each_ = std::clamp<std::uint64_t>(tasks, 1, kEachMax);
    whole_ = 0;
  } else if (++whole_ % kGrowAfter == 0) {
    each_ = std::min(each_ + each_ / 4 + 1, kEachMax);
  }
}

void PagePlan::wait_at(std::uint64_t task) {
  asked_.clear();
  next_ = task;
}

}  // namespace souk
