// How the help of submit, run and map tells what a job can ask for.
#include <CLI/CLI.hpp>

#include "submit/job_options.h"

namespace souk {

void add_term_options(CLI::App& command, TermOptions& terms) {
  const char* group = "What each task needs of its worker";
  const auto text = [&](const char* name, std::string& target, const char* description, const char* type) {
    auto* option = command.add_option(name, target, description);
    option->type_name(type)->group(group);
    // An unset variable in a script would otherwise ask for nothing.
    option->check(CLI::Validator([](const std::string& value) { return value.empty() ? std::string("is empty") : std::string(); }, "", "filled"));
  };
  command.add_option("--cpus", terms.cpus, "Processors; a task takes as many of the worker's slots (default 1)")->type_name("N")->group(group);
  text("--memory", terms.memory, "Main memory, with its unit: 512MiB, 1.5GiB", "SIZE");
  text("--disk", terms.disk, "Space on disk, with its unit: 10GiB", "SIZE");
  command.add_option("--gpus", terms.gpus, "GPUs, which it finds in SOUK_GPUS and CUDA_VISIBLE_DEVICES")->type_name("N")->group(group);
  command.add_option("--resource", terms.resources, "What workers offer under a name of their owners' choice. Repeatable")->type_name("NAME=N")->allow_extra_args(false)->group(group);
  text("--require", terms.require, "Only workers for which this holds: 'os == \"linux\" && has(python)'", "EXPR");
  text("--rank", terms.rank, "Rather those for which this is higher: 'speed * 2 - load'", "EXPR");
  command.add_flag("--pin", terms.pin, "Bind each task to as many processors as it asks, to no other's")->group(group);
  command.add_flag("--network", terms.network, "Workers that keep tasks in a sandbox let these use the network, or do not take them")->group(group);
  command.add_option("--sandbox", terms.sandbox, "required: always in a sandbox, also on own workers; none: only where they run without one (default: as each worker's owner has it)")
      ->check(CLI::IsMember({"none", "required"}))->type_name("none|required")->group(group);
  text("--image", terms.image, "In a sandbox whose programs and libraries are those of this image, on workers whose owners offer it under this name", "NAME");

  group = "When, and how often";
  command.add_option("--priority", terms.priority, "Among my own jobs, from -1000 to 1000: higher goes first")->type_name("N")->group(group);
  command.add_option("--after", terms.after, "Wait until this job has succeeded, or with :any has ended. Repeatable, or 12,13:any")->type_name("JOB[:any]")->allow_extra_args(false)->group(group);
  text("--deadline", terms.deadline, "Start nothing that cannot end by then: 2h (from now), 18:30, 2026-12-24T18:30", "TIME");
  command.add_flag("--hold", terms.hold, "Start nothing before `souk release`")->group(group);
  command.add_option("--max-fails", terms.max_fails, "Cancel what is left when more than N tasks have failed")->type_name("N")->group(group);
  text("--retry-delay", terms.retry_delay, "Before the first retry; doubles with each (see --retries)", "TIME");
  text("--retry-delay-max", terms.retry_delay_max, "But not beyond this; default 10m", "TIME");
  text("--retry-on", terms.retry_on, "Retry only after these exit codes: 1,75-99", "CODES");
  command.add_flag("--speculate", terms.speculate, "Give late tasks at the end a second try elsewhere; the first to end counts")->group(group);
  command.add_option("--crash-limit", terms.crash_limit, "Give a task up when it took N workers with it; default 5")->type_name("N")->group(group);

  group = "Whose results count (docs/TRUST.md)";
  text("--quorum", terms.quorum, "M of at most N results of a task must agree, each from a worker of another owner: 2/3", "M/N");
  command.add_flag("--adaptive", terms.adaptive, "Whose results agreed again and again is checked now and then only")->group(group);
  text("--quorum-by", terms.quorum_by, "owner (default), or worker: where all workers have one account, this finds broken machines, not liars", "WHO");
  text("--agree-on", terms.agree_on, "all (default): exit code and stdout; exit: the code alone; numbers:TOL: stdout, its numbers within a relative TOL", "WHAT");
  text("--known", terms.known, "Answers I know: lines of a task's number and the SHA-256 of its right stdout", "FILE");
}

}  // namespace souk
