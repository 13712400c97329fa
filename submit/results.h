// Prints what tasks wrote, page by page as the manager gives it: for run, map and cat.
#pragma once
#include <cstdint>
#include <map>
#include <optional>

#include "protocol/grid.pb.h"
#include "submit/output.h"
#include "submit/page_plan.h"
#include "submit/session.h"

namespace souk {

struct PrintOptions {
  bool out = true, err = true;       // which streams of each task
  bool err_to_stdout = false;        // `cat --stderr`: it is what was asked for
  bool json = false;                 // one object a task instead
  bool notes = true;                 // how a task ended, where it could not say so itself
};

/// Prints one ended task; asks for streams too large for a page.
Result<Done> print_task(Session& session, Output& output, std::uint64_t job, const wire::TaskResult& result, const PrintOptions& options);

/// Pages of a job's tasks, of which some are asked for before they are read.
class ResultPages {
 public:
  /// first: `from_task` and `to_task` say which tasks there are; no stream
  ResultPages(Session& session, wire::ResultsRequest first);
  ~ResultPages() { session_.forget_ahead(); }
  ResultPages(const ResultPages&) = delete;
  bool done() const { return plan_.done(); }
  /// The next page. One that ends before a task that is not over, as `ended_only` has it, is begun again from there.
  /// until: the last task that is worth asking for ahead, as far as is known
  Result<wire::ResultsAnswer> next(std::uint64_t until);

 private:
  wire::ResultsRequest request(PagePlan::Span span) const;

  Session& session_;
  wire::ResultsRequest first_;
  PagePlan plan_;
};

/// Prints every task of a job once, while it goes on: in task order as the finished prefix grows, or as they finish.
class ResultPrinter {
 public:
  ResultPrinter(Session& session, Output& output, std::uint64_t job, std::uint64_t tasks, bool ordered, PrintOptions options);
  /// Prints what can be printed by now; `ended`: how many tasks have ended, as far as is known.
  Result<Done> print(std::uint64_t ended);
  bool done() const { return printed_ == tasks_; }
  /// The only task of a job of one, once printed.
  const std::optional<wire::TaskResult>& only() const { return only_; }

 private:
  Result<Done> print_prefix(std::uint64_t ended);
  Result<Done> print_any();
  Result<Done> print_page(const wire::ResultsAnswer& page);

  Session& session_;
  Output& output_;
  std::uint64_t job_, tasks_, printed_ = 0;
  bool ordered_;
  PrintOptions options_;
  // Tasks not printed yet, as first -> last. At most one more than there are attempts running at a time, for what is waiting is one stretch.
  std::map<std::uint64_t, std::uint64_t> left_;
  std::optional<wire::TaskResult> only_;
};

}  // namespace souk
