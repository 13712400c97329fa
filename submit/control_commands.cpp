// why, hold, release, rerun: how jobs that are there already get on.
#include <spdlog/fmt/fmt.h>

#include "protocol/grid.pb.h"
#include "submit/job_options.h"
#include "submit/query.h"
#include "submit/render_why.h"

namespace souk {

int why_command(const Common& common, const std::vector<std::string>& targets) {
  std::vector<Target> asked;
  for (const auto& text : targets) {
    const auto target = parse_target(text);
    if (!target) return fail(common, target.error(), exit_code::usage);
    if (target.value().first != target.value().last)
      return fail(common, Error{"cannot tell why", souk::plain(text, 60) + " is more than one task", "name a job or one task: 12, 12.7"}, exit_code::usage);
    asked.push_back(target.value());
  }
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Query query(common, std::move(profile.value()));
  bool first = true;
  for (const auto& target : asked) {
    wire::WhyRequest request;
    request.set_job(target.job);
    request.set_task(target.first);
    const auto answer = query.session.why(request);
    if (!answer) return query.failed(answer.error());
    query.output.out(common.json ? json_of(answer.value()) + "\n" : (first ? "" : "\n") + why_text(answer.value(), wall_now()));
    first = false;
    if (query.over()) break;
  }
  return query.finish();
}

int hold_command(const Common& common, const std::vector<std::string>& jobs, bool hold) {
  const auto numbers = job_numbers(jobs);
  if (!numbers) return fail(common, numbers.error(), exit_code::usage);
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Query query(common, std::move(profile.value()));
  const auto answer = query.session.hold(numbers.value(), hold);
  if (!answer) return query.failed(answer.error());
  for (const auto& job : answer.value().jobs()) {
    if (common.json)
      query.output.out(json_of(job) + "\n");
    else if (ended(job))
      query.output.out(fmt::format("job {} had ended already: {}\n", job.job(), name_of_state(job)));
    else if (hold)
      query.output.out(fmt::format("job {} held{}\n", job.job(), job.running() == 0 ? "" : fmt::format("; {} on", count_text(job.running(), "running task") + (job.running() == 1 ? " goes" : " go"))));
    else
      query.output.out(fmt::format("job {} released\n", job.job()));
  }
  return query.finish();
}

int rerun_command(const Common& common, const RerunOptions& options) {
  const auto number = parse_job(options.job);
  if (!number) return fail(common, number.error(), exit_code::usage);
  const auto room_wait = submit_wait_of(options.submit_wait);
  if (!room_wait) return fail(common, room_wait.error(), exit_code::usage);
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  std::uint64_t job = 0;
  {
    Query query(common, std::move(profile.value()));
    wire::RerunRequest request;
    request.set_job(number.value());
    request.set_all(options.all);
    request.set_key(new_key());
    query.session.catch_interrupts();
    query.session.wait_for_room(room_wait.value());
    const auto answer = query.session.rerun(request);
    if (!answer && query.session.interrupted()) {
      query.failed({"interrupted", query.session.turned_away() ? fmt::format("job {} does not run again", number.value()) : fmt::format("job {} may run again", number.value()), "`souk jobs` tells"});
      return query.session.interrupt_exit_code();
    }
    if (!answer) return query.failed(answer.error());
    for (const auto& warning : answer.value().warnings()) query.output.note(plain(warning));
    job = answer.value().job();
    if (!options.wait) {
      query.output.out(common.json ? fmt::format("{{\"job\":{},\"tasks\":{}}}\n", job, answer.value().tasks()) : fmt::format("{}\n", job));
      return query.finish();
    }
  }
  WaitOptions wait;
  wait.jobs = {std::to_string(job)};
  wait.progress = options.progress;
  return wait_command(common, wait);
}

int ban_command(const Common& common, const BanOptions& options) {
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Query query(common, std::move(profile.value()));
  wire::BanRequest request;
  for (const auto& who : options.who) request.add_who(who);
  request.set_lift(options.lift), request.set_reason(options.reason);
  const auto answer = query.session.ban(request);
  if (!answer) return query.failed(answer.error());
  for (const auto& jid : answer.value().jids()) query.output.out(common.json ? fmt::format("{{\"jid\":\"{}\"}}\n", plain(jid, 1000)) : plain(jid, 1000) + "\n");
  if (common.json) return query.finish();
  if (options.who.empty()) {
    if (answer.value().jids().empty()) query.output.note("nobody is banned");
  } else if (options.lift) {
    query.output.note("may come in again");
  } else {
    query.output.note(fmt::format("banned; {} put out, what they ran goes to others", count_text(answer.value().workers(), "worker")));
  }
  return query.finish();
}

}  // namespace souk
