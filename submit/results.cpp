#include "submit/results.h"

#include <spdlog/fmt/fmt.h>

#include "submit/render.h"

namespace souk {
namespace {

constexpr std::uint32_t kLookahead = 256;  // tasks asked for at a time where some of them may still wait

/// The whole of a stream that was too large for its page, handed over part by part.
Result<Done> stream(Session& session, std::uint64_t job, std::uint64_t task, bool err, const std::function<void(const std::string&)>& take) {
  wire::ResultsRequest request;
  request.set_job(job);
  request.set_from_task(task);
  request.set_stream(true);
  request.set_err(err);
  for (std::uint64_t offset = 0;;) {
    request.set_offset(offset);
    const auto answer = session.results(request);
    if (!answer) return answer.error();
    const auto& bytes = answer.value().data();
    take(bytes);
    offset += bytes.size();
    if (bytes.empty() || offset >= answer.value().size()) return Done{};
  }
}

}  // namespace

Result<Done> print_task(Session& session, Output& output, std::uint64_t job, const wire::TaskResult& result, const PrintOptions& options) {
  if (options.json) {
    wire::TaskResult whole = result;
    for (const bool err : {false, true}) {
      if (!(err ? result.err_elided() : result.out_elided())) continue;
      std::string& target = err ? *whole.mutable_outcome()->mutable_err() : *whole.mutable_outcome()->mutable_out();
      target.clear();
      if (auto done = stream(session, job, result.task(), err, [&](const std::string& bytes) { target += bytes; }); !done) return done;
    }
    output.out(json_of(job, whole, true) + "\n");
    return Done{};
  }
  const auto& outcome = result.outcome();
  for (const bool err : {false, true}) {
    if (!(err ? options.err : options.out)) continue;
    const auto put = [&](const std::string& bytes) { err && !options.err_to_stdout ? output.err(bytes) : output.out(bytes); };
    std::uint64_t kept = 0;
    const auto count_and_put = [&](const std::string& bytes) {
      kept += bytes.size();
      if (!bytes.empty()) put(bytes);
    };
    if (err ? result.err_elided() : result.out_elided()) {
      if (auto done = stream(session, job, result.task(), err, count_and_put); !done) return done;
    } else {
      count_and_put(err ? outcome.err() : outcome.out());
    }
    const auto cut = truncation_note(err ? "stderr" : "stdout", kept, err ? outcome.err_size() : outcome.out_size());
    if (!cut.empty() && options.notes) output.note(fmt::format("task {}.{}: {}", job, result.task(), cut));
  }
  if (options.notes)
    if (const auto note = failure_note(job, result); !note.empty()) output.note(note);
  return Done{};
}

ResultPages::ResultPages(Session& session, wire::ResultsRequest first) : session_(session), first_(std::move(first)), plan_({std::max<std::uint64_t>(1, first_.from_task()), first_.to_task()}) {}

wire::ResultsRequest ResultPages::request(PagePlan::Span span) const {
  wire::ResultsRequest request = first_;
  request.set_from_task(span.first);
  request.set_to_task(span.last);
  return request;
}

Result<wire::ResultsAnswer> ResultPages::next(std::uint64_t until) {
  // Of failed tasks alone nobody knows how far a page goes.
  if (!first_.failed_only())
    for (const auto span : plan_.ahead(until)) session_.ask_ahead(request(span));
  auto page = session_.results(request(plan_.awaited()));
  if (!page) return page;
  plan_.bound(page.value().job().tasks());
  if (first_.ended_only() && page.value().next_waits()) {
    session_.forget_ahead();
    plan_.wait_at(page.value().next_task());
  } else {
    plan_.came(static_cast<std::size_t>(page.value().results_size()), page.value().next_task());
  }
  return page;
}

ResultPrinter::ResultPrinter(Session& session, Output& output, std::uint64_t job, std::uint64_t tasks, bool ordered, PrintOptions options)
    : session_(session), output_(output), job_(job), tasks_(tasks), ordered_(ordered), options_(options) {
  if (tasks > 0) left_[1] = tasks;
}

Result<Done> ResultPrinter::print(std::uint64_t ended) {
  if (done() || printed_ >= ended) return Done{};
  auto result = ordered_ ? print_prefix(ended) : print_any();
  output_.flush();
  return result;
}

Result<Done> ResultPrinter::print_page(const wire::ResultsAnswer& page) {
  for (const auto& result : page.results()) {
    if (!ended(result)) continue;
    auto stretch = left_.upper_bound(result.task());
    if (stretch == left_.begin() || (--stretch)->second < result.task()) continue;  // has been printed, or is no task of this job
    const auto [first, last] = *stretch;
    if (auto done = print_task(session_, output_, job_, result, options_); !done) return done;
    if (tasks_ == 1) only_ = result;
    left_.erase(stretch);
    if (first < result.task()) left_[first] = result.task() - 1;
    if (result.task() < last) left_[result.task() + 1] = last;
    ++printed_;
    if (output_.closed() || output_.broken() || session_.interrupted()) break;
  }
  return Done{};
}

Result<Done> ResultPrinter::print_prefix(std::uint64_t ended) {
  wire::ResultsRequest request;
  request.set_job(job_);
  request.set_from_task(left_.begin()->first);
  request.set_to_task(tasks_);
  request.set_outputs(true);
  request.set_ended_only(true);
  ResultPages pages(session_, request);
  while (!pages.done() && !output_.closed() && !output_.broken() && !session_.interrupted()) {
    const auto page = pages.next(ended);
    if (!page) return page.error();
    ended = std::max(ended, ended_tasks(page.value().job()));
    const auto before = printed_;
    if (auto done = print_page(page.value()); !done) return done;
    if (page.value().next_waits() || printed_ == before) break;  // it comes with the next news
  }
  return Done{};
}

Result<Done> ResultPrinter::print_any() {
  std::uint64_t next = 1;
  while (!output_.closed() && !output_.broken() && !session_.interrupted()) {
    auto stretch = left_.lower_bound(next);
    if (stretch != left_.begin() && std::prev(stretch)->second >= next) --stretch;
    if (stretch == left_.end()) break;
    wire::ResultsRequest request;
    request.set_job(job_);
    request.set_from_task(std::max(next, stretch->first));
    request.set_to_task(stretch->second);
    request.set_outputs(true);
    request.set_limit(kLookahead);
    const auto page = session_.results(request);
    if (!page) return page.error();
    bool any = false, waiting = true;
    for (const auto& result : page.value().results()) {
      any = true;
      waiting = waiting && result.state() == wire::WAITING;
      next = std::max(next, result.task() + 1);
    }
    // Tasks start in order: behind a page of waiting ones, at the end of the last stretch, nothing has ended.
    const bool last = request.to_task() == tasks_;
    if (auto done = print_page(page.value()); !done) return done;
    if (!any || (last && waiting)) break;
  }
  return Done{};
}

}  // namespace souk
