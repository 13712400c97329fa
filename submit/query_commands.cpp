// jobs, job, tasks, cat, cancel, workers, and the grid's figures for status: questions with one answer.
#include <spdlog/fmt/fmt.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include "protocol/grid.pb.h"
#include "submit/connect.h"
#include "submit/job_options.h"
#include "submit/output.h"
#include "submit/progress.h"
#include "submit/query.h"
#include "submit/render.h"
#include "submit/results.h"
#include "submit/session.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

constexpr std::uint32_t kPage = 1000;  // tasks asked for at a time, so that a table of a million begins at once

Result<std::vector<Target>> targets_of(const std::vector<std::string>& texts) {
  std::vector<Target> targets;
  for (const auto& text : texts) {
    const auto target = parse_target(text);
    if (!target) return target.error();
    targets.push_back(target.value());
  }
  return targets;
}

/// Every task of a target, page by page. `take` returns false to stop.
/// yields: the job as it was at the last page
Result<wire::JobStatus> each_task(Session& session, const Target& target, wire::ResultsRequest request, const std::function<Result<Done>(const wire::ResultsAnswer&)>& take,
                                  const std::function<bool()>& stop) {
  request.set_job(target.job);
  request.set_from_task(std::max<std::uint64_t>(1, target.first));
  request.set_to_task(target.last);
  request.set_limit(kPage);
  ResultPages pages(session, request);
  std::uint64_t tasks = 0;
  while (true) {
    const auto page = pages.next(tasks);
    if (!page) return page.error();
    if (const auto taken = take(page.value()); !taken) return taken.error();
    tasks = page.value().job().tasks();
    if (pages.done() || stop()) return page.value().job();
  }
}

constexpr std::size_t kJobsAtOnce = 500;  // that a manager takes and tells at a time

/// All jobs of the asker that the manager keeps, newest first, page by page.
Result<std::vector<wire::JobStatus>> all_jobs(Session& session) {
  std::vector<wire::JobStatus> all;
  wire::StatusRequest request;
  request.set_limit(kJobsAtOnce);
  while (true) {
    const auto page = session.status(request);
    if (!page) return page.error();
    std::uint64_t lowest = 0;
    for (const auto& job : page.value().jobs()) {
      if (!all.empty() && job.job() >= all.back().job()) break;  // a manager that tells one job again
      all.push_back(job);
      lowest = job.job();
    }
    if (lowest <= 1 || page.value().jobs_size() < static_cast<int>(kJobsAtOnce)) return all;
    request.set_below(lowest);
  }
}

Result<std::vector<wire::JobStatus>> jobs_named(Session& session, const std::vector<std::uint64_t>& numbers) {
  wire::StatusRequest request;
  request.mutable_jobs()->Add(numbers.begin(), numbers.end());
  const auto answer = session.status(request);
  if (!answer) return answer.error();
  return std::vector<wire::JobStatus>(answer.value().jobs().begin(), answer.value().jobs().end());
}

}  // namespace

int jobs_command(const Common& common, const ListOptions& options) {
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Query query(common, std::move(profile.value()));
  wire::StatusRequest request;
  request.set_limit(options.limit);
  request.set_everybody(options.all);
  const auto answer = query.session.status(request);
  if (!answer) return query.failed(answer.error());
  if (const auto& trouble = answer.value().grid().trouble(); !trouble.empty()) query.output.note(plain(trouble, 500));
  if (common.json) {
    for (const auto& job : answer.value().jobs()) query.output.out(json_of(job) + "\n");
    return query.finish();
  }
  if (answer.value().jobs().empty()) {
    query.output.note("no jobs yet; `souk submit` and `souk run` make some");
    return query.finish();
  }
  JobColumns columns{.owner = options.all};
  for (const auto& job : answer.value().jobs()) columns.see(job);
  auto table = jobs_table(columns);
  for (const auto& job : answer.value().jobs()) add_row(table, job, columns, wall_now());
  query.output.out(table.text());
  return query.finish();
}

int job_command(const Common& common, const std::vector<std::string>& jobs) {
  const auto numbers = job_numbers(jobs);
  if (!numbers) return fail(common, numbers.error(), exit_code::usage);
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Query query(common, std::move(profile.value()));
  wire::StatusRequest request;
  request.mutable_jobs()->Add(numbers.value().begin(), numbers.value().end());
  const auto answer = query.session.status(request);
  if (!answer) return query.failed(answer.error());
  if (const auto& trouble = answer.value().grid().trouble(); !trouble.empty()) query.output.note(plain(trouble, 500));
  bool first = true;
  for (const auto& job : answer.value().jobs()) {
    if (common.json) {
      query.output.out(json_of(job) + "\n");
      continue;
    }
    query.output.out((first ? "" : "\n") + job_details(job, wall_now()));
    if (job.held() && !ended(job)) query.output.out(fmt::format("see        souk release {}\n", job.job()));
    if (job.failed() != 0) query.output.out(fmt::format("see        souk tasks {} --failed\n", job.job()));
    first = false;
  }
  return query.finish();
}

int tasks_command(const Common& common, const TasksOptions& options) {
  const auto targets = targets_of(options.targets);
  if (!targets) return fail(common, targets.error(), exit_code::usage);
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Query query(common, std::move(profile.value()));
  wire::ResultsRequest request;
  request.set_failed_only(options.failed);
  for (const auto& target : targets.value()) {
    std::optional<Table> table;
    bool groups = false;
    std::uint64_t rows = 0;
    if (targets.value().size() > 1 && !common.json) query.output.out(fmt::format("{}job {}\n", &target == &targets.value().front() ? "" : "\n", target.job));
    const auto take = [&](const wire::ResultsAnswer& page) -> Result<Done> {
      if (!table) {  // all tasks of a job are of groups, or none
        groups = std::any_of(page.results().begin(), page.results().end(), [](const auto& result) { return !result.group().empty(); });
        table = tasks_table(groups);
      }
      for (const auto& result : page.results()) {
        ++rows;
        if (common.json)
          query.output.out(json_of(target.job, result, false) + "\n");
        else
          add_row(*table, result, groups);
      }
      // A page without a row still has its header, but an empty list has none: the note below says more.
      if (!common.json && rows > 0) query.output.out(table->text());
      query.output.flush();
      return Done{};
    };
    const auto job = each_task(query.session, target, request, take, [&] { return query.over(); });
    if (!job) return query.failed(job.error());
    if (query.over()) break;
    if (rows == 0 && !common.json) query.output.note(options.failed ? fmt::format("no task of job {} has failed", target.job) : fmt::format("job {} has no such tasks", target.job));
  }
  return query.finish();
}

int cat_command(const Common& common, const CatOptions& options) {
  const auto targets = targets_of(options.targets);
  if (!targets) return fail(common, targets.error(), exit_code::usage);
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Query query(common, std::move(profile.value()));
  PrintOptions print;
  print.out = options.both || !options.err;
  print.err = options.both || options.err;
  print.err_to_stdout = options.err && !options.both;
  print.json = common.json;
  int code = exit_code::good;
  for (const auto& target : targets.value()) {
    wire::ResultsRequest request;
    request.set_outputs(true);
    std::uint64_t open = 0;
    const auto take = [&](const wire::ResultsAnswer& page) -> Result<Done> {
      for (const auto& result : page.results()) {
        if (!ended(result)) {
          ++open;
          continue;
        }
        if (auto done = print_task(query.session, query.output, target.job, result, print); !done) return done;
        if (query.over()) break;
      }
      query.output.flush();
      return Done{};
    };
    const auto job = each_task(query.session, target, request, take, [&] { return query.over(); });
    if (!job) return query.failed(job.error());
    if (query.over()) break;
    if (open != 0) {
      query.output.note(fmt::format("{} of job {} {} not ended yet; `souk wait {}` waits for {}", count_text(open, "task"), target.job, open == 1 ? "has" : "have", target.job,
                                    open == 1 ? "it" : "them"));
      code = exit_code::failed;
    }
  }
  return query.finish(code);
}

int cancel_command(const Common& common, const CancelOptions& options) {
  auto numbers = job_numbers(options.jobs);
  if (!numbers) return fail(common, numbers.error(), exit_code::usage);
  if (numbers.value().empty() == !options.all)
    return fail(common, Error{"cannot cancel", options.all ? "both --all and job numbers are given" : "no job is named", "name jobs, or give --all for all of yours"}, exit_code::usage);
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Query query(common, std::move(profile.value()));
  const auto before = options.all ? all_jobs(query.session) : jobs_named(query.session, numbers.value());  // to tell what was canceled from what had ended before
  if (!before) return query.failed(before.error());
  std::vector<std::uint64_t> open;
  for (const auto& job : before.value()) {
    if (!ended(job))
      open.push_back(job.job());
    else if (common.json && !options.all)
      query.output.out(json_of(job) + "\n");
    else if (!options.all)
      query.output.out(fmt::format("job {} had ended already: {}\n", job.job(), name_of_state(job)));
  }
  if (open.empty()) {
    if (options.all && !common.json) query.output.note("none of your jobs is going on");
    return query.finish();
  }
  for (std::size_t next = 0; next < open.size() && !query.over();) {
    const auto some = std::min<std::size_t>(open.size() - next, kJobsAtOnce);
    const auto answer = query.session.cancel({open.begin() + static_cast<std::ptrdiff_t>(next), open.begin() + static_cast<std::ptrdiff_t>(next + some)});
    if (!answer) return query.failed(answer.error());
    next += some;
    for (const auto& job : answer.value().jobs()) {
      if (common.json)
        query.output.out(json_of(job) + "\n");
      else
        query.output.out(fmt::format("job {} canceled{}\n", job.job(), job.running() == 0 ? "" : "; " + count_text(job.running(), "running task") + " being stopped"));
    }
  }
  return query.finish();
}

int workers_command(const Common& common, const std::vector<std::string>& names) {
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Query query(common, std::move(profile.value()));
  const auto answer = query.session.workers();
  if (!answer) return query.failed(answer.error());
  if (!names.empty()) {
    bool first = true;
    for (const std::string& name : names) {
      const auto& all = answer.value().workers();
      const auto worker = std::find_if(all.begin(), all.end(), [&](const auto& one) { return one.nick() == name || one.jid() == name; });
      if (worker == all.end()) return query.failed({"no worker '" + plain(name, 100) + "' is in the market", "", "`souk workers` lists those that are"});
      query.output.out(common.json ? json_of(*worker) + "\n" : (first ? "" : "\n") + worker_details(*worker, wall_now()));
      first = false;
    }
    return query.finish();
  }
  if (answer.value().workers().empty() && !common.json) query.output.note("no worker is in the market; jobs wait for one");
  WorkerColumns columns;
  for (const auto& worker : answer.value().workers()) columns.see(worker);
  auto table = workers_table(columns);
  for (const auto& worker : answer.value().workers()) {
    if (common.json)
      query.output.out(json_of(worker) + "\n");
    else
      add_row(table, worker, columns, wall_now());
  }
  if (!common.json && !answer.value().workers().empty()) query.output.out(table.text());
  return query.finish();
}

Result<std::string> grid_figures(const Common& common) {
  const auto profile = find_grid(common);
  if (!profile) return profile.error();
  Session::Limits limits;
  limits.reach = limits.answer = 2s;
  Session session(profile.value(), limits);
  session.hurry(Session::Clock::now() + 2s);
  wire::StatusRequest request;
  request.set_limit(1);
  const auto answer = session.status(request);
  if (!answer) return answer.error();
  const auto& grid = answer.value().grid();
  if (common.json) return json_of(grid);
  std::string text = grid_details(grid);
  if (!grid.version().empty() && grid.version() != SOUK_VERSION)
    text += fmt::format("Problem: the manager is version {}, this program {}; use the same on both sides\n", plain(grid.version(), 40), SOUK_VERSION);
  return text;
}

}  // namespace souk
