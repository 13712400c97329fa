// What the job commands are called, what they take and how their help reads. What they do is in run_commands.cpp, query_commands.cpp
// and control_commands.cpp.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <memory>

#include "submit/common.h"
#include "submit/job_options.h"
#include "submit/output.h"
#include "submit/words.h"

namespace souk {
namespace {

constexpr const char* kMake = "Make jobs";
constexpr const char* kFollow = "Follow jobs";

void add_submit_wait(CLI::App& command, std::string& target) {
  command.add_option("--submit-wait", target, "While the grid has no room for the job, try again for so long; default 10m, 0s: not at all")->type_name("TIME");
}

/// Options that submit, run and map share.
void add_make_options(CLI::App& command, MakeOptions& options) {
  const auto text = [&](const char* name, std::string& target, const char* description, const char* type) { command.add_option(name, target, description)->type_name(type); };
  text("--service", options.job.service, "Call this service of the workers instead of starting a program: it is asked the command's words, or without any the task's item", "NAME");
  text("--name", options.job.name, "Name of the job, for lists and the progress bar", "NAME");
  command.add_option("--env", options.job.env, "Set a variable for the tasks; NAME alone copies yours. Repeatable")->type_name("NAME=VALUE")->allow_extra_args(false);
  text("--time-limit", options.job.time_limit, "Stop a task that runs longer: 250ms, 90s, 5m, 2h", "TIME");
  text("--grace", options.job.grace, "Between asking a task to stop (TERM) and ending it (KILL); default 2s", "TIME");
  command.add_option("--retries", options.job.retries, "Run a failed task up to N more times")->type_name("N");
  text("--stdin", options.input_file, "Give each task this file as standard input (- is yours; up to 8 MiB)", "FILE");
  text("--output-max", options.job.output_max, "Keep this much of stdout and of stderr of each task; default 1MiB, at most 16MiB", "SIZE");
  command.add_flag("--shell", options.job.shell, "The command is a line for /bin/sh -c");
  command.add_flag("--no-fill", options.job.no_fill, "Leave {} and its kin in the command as they are");
  command.add_flag("--notify", options.job.notify, "Tell me by a chat message when the job ends, even while I wait for it");
  command.add_flag("-0,--null", options.null_separated, "Items read from a file end with a NUL byte, as find -print0 writes them");
  command.add_flag("--dry-run", options.dry_run, "Only say which workers would fit, and why the others do not");
  add_submit_wait(command, options.submit_wait);
  add_term_options(command, options.terms);
}

CLI::Option* add_each_json(CLI::App& command, MakeOptions& options) {
  return command.add_option("--each-json", options.each_json, "One task for each JSON value: of an array, or one a line; {name} stands for a field (- is standard input)")->type_name("FILE");
}

void add_task_options(CLI::App& command, MakeOptions& options) {
  auto* array = command.add_option("--array", options.job.array, "One task for each number: 1-1000, 1-1000:2 (every second), 1,5,9-12");
  auto* lines = command.add_option("--each-line", options.each_line, "One task for each line of a file (- is standard input)");
  auto* json = add_each_json(command, options);
  auto* file = command.add_option("--file", options.file, "A job file: named tasks that need each other, in TOML (- is standard input)")->type_name("JOB.toml");
  array->type_name("NUMBERS")->excludes(lines)->excludes(json)->excludes(file);
  lines->excludes(json)->excludes(file);
  json->excludes(file);
  // An unset variable in a script would otherwise make one task out of many.
  array->check(CLI::Validator([](const std::string& text) { return text.empty() ? std::string("is empty: write 1-1000, 1-1000:2 or 1,5,9-12") : std::string(); }, "", "filled"));
  lines->type_name("FILE");
}

void add_follow_options(CLI::App& command, MakeOptions& options) {
  command.add_flag("--progress,!--no-progress", options.progress, "Show a progress bar on stderr; default: when stderr is a terminal");
  command.add_flag("--unordered", options.unordered, "Print what tasks wrote as they finish, not in their order");
}

constexpr const char* kMakeNotes =
    "Each task starts in an empty folder of its own, on whichever worker: name programs and files by absolute paths, or send by --stdin.\n"
    "Each task finds SOUK_JOB, SOUK_TASK, SOUK_ATTEMPT and, of an array or list, SOUK_ITEM in its environment.\n"
    "With --array or --each-line, these stand in the command for the task's item: {} all of it, {.} without its extension,\n"
    "{/} without its folders, {//} its folder, {/.} its name without folder and extension; {#} is the task's number. With --each-json,\n"
    "{name} stands for a field of the task's object, which is in SOUK_PARAM_NAME too.\n";

}  // namespace

void add_job_commands(CLI::App& app, Common& common) {
  const auto command = [&app](const char* name, const char* description, const char* group) {
    auto* added = app.add_subcommand(name, description);
    added->group(group);
    return added;
  };
  // CLI11 keeps references to what it fills in; each callback shares ownership of it.
  {
    auto* submit = command("submit", "Submit a job and print its number", kMake);
    auto options = std::make_shared<MakeOptions>();
    add_task_options(*submit, *options);
    add_make_options(*submit, *options);
    submit->add_flag("--progress,!--no-progress", options->progress, "Show how much of a large job has been sent; default: when stderr is a terminal");
    submit->footer(std::string("The number goes to stdout, alone. Nothing after COMMAND is taken for an option of souk.\n"
                               "Exit code: 0 it was accepted, 2 it was refused, 3 no grid, or no room for it in all the time of --submit-wait.\n") + kMakeNotes +
                   "\nExamples:\n"
                   "  souk submit --array 1-1000 --name sweep simulate --seed {}\n"
                   "  souk submit --each-line files.txt --time-limit 10m --retries 2 -- /srv/bin/convert {} {.}.png\n"
                   "  souk submit --cpus 4 --memory 2GiB --require 'os == \"linux\" && has(python)' --rank speed -- python3 train.py\n"
                   "  souk submit --after 12 --deadline 18:30 --max-fails 10 --array 1-500 -- step {}\n"
                   "  souk submit --dry-run --gpus 2 --memory 64GiB -- train\n"
                   "  souk submit --service word-count --each-line files.txt\n"
                   "  souk submit --file job.toml\n"
                   "  JOB=$(souk submit --shell 'make test 2>&1 | tail -1') && souk wait $JOB && souk cat $JOB");
    submit->callback([&common, options] { common.action = [&common, options] { return submit_command(common, std::move(*options)); }; });
  }
  {
    auto* run = command("run", "Run a job: submit it, wait for it and print what it wrote", kMake);
    auto options = std::make_shared<MakeOptions>();
    add_task_options(*run, *options);
    add_make_options(*run, *options);
    add_follow_options(*run, *options);
    run->footer(std::string("What the tasks write to stdout and stderr goes to stdout and stderr, in the order of the tasks; with --json, one object a task.\n"
                            "Exit code of one task: its own; 128 + n when signal n ended it, 124 at its time limit, 127 when it could not start, 125 when it was\n"
                            "lost with its workers. Of several: 0 all succeeded, 1 some failed. Always: 2 wrong usage, 3 no grid, or no room.\n"
                            "Ctrl-C cancels the job; a second one leaves at once. So does a reader that goes away (souk run ... | head).\n") +
                kMakeNotes +
                "\nExamples:\n"
                "  souk run hostname -f\n"
                "  souk run --array 1-100 --stdin pi.py python3 - --seed {} > samples.txt\n"
                "  souk run --each-json runs.json --memory 1GiB -- train --lr {lr} --layers {layers}\n"
                "  souk run --file job.toml\n"
                "  souk run --shell --env LANG --time-limit 1m --stdin words.txt 'sort -u | wc -l'");
    run->callback([&common, options] { common.action = [&common, options] { return run_command(common, std::move(*options)); }; });
  }
  {
    auto* map = command("map", "Run a command for each argument, as GNU parallel does", kMake);
    auto options = std::make_shared<MakeOptions>();
    add_make_options(*map, *options);
    auto* lines = map->add_option("--each-line", options->each_line, "Take the arguments from the lines of a file, as :::: does")->type_name("FILE");
    add_each_json(*map, *options)->excludes(lines);
    add_follow_options(*map, *options);
    map->footer(
                "{} stands for the argument, {.} for it without its extension, {/} without its folders, {//} for its folder, {/.} for its name without\n"
                "folder and extension, {#} for the task's number. Where the command has none of them, {} is added at its end.\n"
                "A command of one word with spaces or shell characters in it is a line for /bin/sh -c, and what is filled in is quoted for it;\n"
                "several words run without a shell. No argument at all: nothing is run, and that is a success. Exit codes: as `souk run`.\n"
                "\nExamples:\n"
                "  souk map --cpus 2 --retries 3 --retry-delay 10s 'make -C {}' ::: /srv/src/*\n"
                "  souk map --service word-count ::: /srv/texts/*\n"
                "  souk map gzip -9 -c {} ::: \"$PWD\"/*.log > all.gz\n"
                "  souk map 'convert {} -resize 50% /srv/small/{/}' ::: /srv/photos/*.jpg\n"
                "  find \"$PWD\" -name '*.c' -print0 | souk map -0 sha256sum");
    map->callback([&common, options] { common.action = [&common, options] { return map_command(common, std::move(*options)); }; });
  }
  {
    auto* wait = command("wait", "Wait until jobs have ended", kFollow);
    auto options = std::make_shared<WaitOptions>();
    wait->add_option("JOB", options->jobs, "Numbers of jobs")->required()->type_name("");
    wait->add_flag("--progress", options->progress, "Show a progress bar on stderr, or a line now and then where stderr is no terminal");
    wait->footer("Prints a line when a job has ended. Exit code: 0 all tasks of all jobs succeeded, 1 some failed, 2 no such job, 3 no grid.\n"
                 "Ctrl-C stops the waiting, not the job.\n\nExamples:\n  souk wait 12 --progress\n  souk wait 12 13 14 && echo all good");
    wait->callback([&common, options] { common.action = [&common, options] { return wait_command(common, *options); }; });
  }
  {
    auto* jobs = command("jobs", "List my jobs, the newest first", kFollow);
    auto options = std::make_shared<ListOptions>();
    jobs->add_option("--limit", options->limit, "At most N jobs; default 100")->type_name("N");
    jobs->add_flag("--all", options->all, "Jobs of everybody (for admins of the grid)");
    jobs->footer("Examples:\n  souk jobs --limit 5\n  souk jobs --json | jq -r 'select(.state == \"failed\") | .job'");
    jobs->callback([&common, options] { common.action = [&common, options] { return jobs_command(common, *options); }; });
  }
  {
    auto* job = command("job", "Tell all about a job", kFollow);
    auto numbers = std::make_shared<std::vector<std::string>>();
    job->add_option("JOB", *numbers, "Numbers of jobs")->required()->type_name("");
    job->footer("Examples:\n  souk job 12\n  souk job 12 --json | jq .failed");
    job->callback([&common, numbers] { common.action = [&common, numbers] { return job_command(common, *numbers); }; });
  }
  {
    auto* tasks = command("tasks", "List the tasks of a job: how each ended, how long it took, where it ran", kFollow);
    auto options = std::make_shared<TasksOptions>();
    tasks->add_option("JOB", options->targets, "Jobs or tasks: 12, 12.7, 12.3-9")->required()->type_name("");
    tasks->add_flag("--failed", options->failed, "Only tasks that failed");
    tasks->footer("Examples:\n  souk tasks 12 --failed\n  souk tasks 12 --json | jq -s 'map(.wall_us) | add / length'");
    tasks->callback([&common, options] { common.action = [&common, options] { return tasks_command(common, *options); }; });
  }
  {
    auto* cat = command("cat", "Print what tasks wrote, byte for byte", kFollow);
    auto options = std::make_shared<CatOptions>();
    cat->add_option("JOB", options->targets, "Jobs or tasks: 12, 12.7, 12.3-9")->required()->type_name("");
    auto* err = cat->add_flag("--stderr", options->err, "Their standard error instead of their standard output");
    cat->add_flag("--all", options->both, "Both: stdout to stdout, stderr to stderr")->excludes(err);
    cat->footer("Tasks come in their order. Those that have not ended are passed over, with a note and exit code 1.\n\n"
                "Examples:\n  souk cat 12 | sort -n\n  souk cat 12.7 --stderr\n  souk cat 12 --json | jq -r .stdout");
    cat->callback([&common, options] { common.action = [&common, options] { return cat_command(common, *options); }; });
  }
  {
    auto* cancel = command("cancel", "Cancel jobs: stop what runs, drop what waits", kFollow);
    auto options = std::make_shared<CancelOptions>();
    cancel->add_option("JOB", options->jobs, "Numbers of jobs")->type_name("");
    cancel->add_flag("--all", options->all, "All my jobs");
    cancel->footer("Running tasks get TERM and, after the job's grace time, KILL. What has ended stays and can be read.\n\n"
                   "Examples:\n  souk cancel 12 13\n  souk cancel --all");
    cancel->callback([&common, options] { common.action = [&common, options] { return cancel_command(common, *options); }; });
  }
  {
    auto* why = command("why", "Tell why a job or task waits, or how its attempts ended", kFollow);
    auto targets = std::make_shared<std::vector<std::string>>();
    why->add_option("JOB", *targets, "Jobs or tasks: 12, 12.7")->required()->type_name("");
    why->footer("Of what waits: the reasons, each with how many workers it holds back, what would make it run, and its place in the queue.\n"
                "Of what has run: each attempt with its host, how it ended, and the last lines it wrote.\n\n"
                "Examples:\n  souk why 12\n  souk why 12.7\n  souk why 12 --json | jq -r '.reasons[].why'");
    why->callback([&common, targets] { common.action = [&common, targets] { return why_command(common, *targets); }; });
  }
  for (const bool hold : {true, false}) {
    auto* held = command(hold ? "hold" : "release", hold ? "Start nothing more of these jobs until they are released" : "Let held jobs go on", kFollow);
    auto numbers = std::make_shared<std::vector<std::string>>();
    held->add_option("JOB", *numbers, "Numbers of jobs")->required()->type_name("");
    held->footer(hold ? "What runs goes on. `souk submit --hold` makes a job that is held from the start.\n\nExamples:\n  souk hold 12\n  souk hold 12 13"
                      : "Examples:\n  souk release 12\n  souk release 12 13");
    held->callback([&common, numbers, hold] { common.action = [&common, numbers, hold] { return hold_command(common, *numbers, hold); }; });
  }
  {
    auto* rerun = command("rerun", "Run again what failed or was canceled of a job", kFollow);
    auto options = std::make_shared<RerunOptions>();
    rerun->add_option("JOB", options->job, "Number of a job")->required()->type_name("");
    auto* failed = rerun->add_flag("--failed", options->failed, "What failed or was canceled, under the same number; what succeeded is kept (default)");
    rerun->add_flag("--all", options->all, "All of it, as a new job with a number of its own")->excludes(failed);
    rerun->add_flag("--wait", options->wait, "Wait until it has ended, as `souk wait` does");
    add_submit_wait(*rerun, options->submit_wait);
    rerun->add_flag("--progress", options->progress, "With --wait: show a progress bar on stderr");
    rerun->footer("The job's number goes to stdout, alone; with --wait, how it ended.\n\nExamples:\n  souk rerun 12\n  souk rerun 12 --failed --wait\n  JOB=$(souk rerun 12 --all)");
    rerun->callback([&common, options] { common.action = [&common, options] { return rerun_command(common, *options); }; });
  }
  {
    auto* workers = command("workers", "List the workers in the market and what they offer", "The grid");
    auto names = std::make_shared<std::vector<std::string>>();
    workers->add_option("WORKER", *names, "Names of workers, to see all about each")->type_name("");
    workers->footer("Examples:\n  souk workers\n  souk workers ant-7      whose it is, whose tasks it takes, what holds it back\n  souk workers --json | jq -s 'map(.slots) | add'\n"
                    "  souk workers ban ant-7 --reason \"wrong results\"      for admins of the grid");
    workers->callback([&common, names] { if (!common.action) common.action = [&common, names] { return workers_command(common, *names); }; });
    for (const char* verb : {"ban", "unban", "bans"}) {
      const std::string what = verb;
      auto* sub = workers->add_subcommand(what, what == "ban"     ? "Put an account's workers and people out of the market, now and for good; what they run goes to others"
                                                : what == "unban" ? "Let an account in again"
                                                                  : "List the accounts that are banned");
      auto options = std::make_shared<BanOptions>();
      options->lift = what == "unban";
      if (what != "bans") sub->add_option("WHO", options->who, "JIDs, or names of workers: all of the same account are meant")->required()->type_name("");
      if (what == "ban") sub->add_option("--reason", options->reason, "Why; they are told")->type_name("TEXT");
      sub->footer(what == "bans" ? "For admins of the grid.\n\nExamples:\n  souk workers bans" : "For admins of the grid.\n\nExamples:\n  souk workers " + what + " ant-7\n  souk workers " + what + " mallory@example.edu");
      sub->callback([&common, options] { common.action = [&common, options] { return ban_command(common, *options); }; });
    }
  }
  {
    auto* completion = command("completion", "Print a script that completes commands and options on Tab", "The grid");
    auto shell = std::make_shared<std::string>();
    completion->add_option("SHELL", *shell, "bash, zsh or fish")->required()->type_name("");
    completion->footer("Examples:\n  source <(souk completion bash)\n  souk completion fish > ~/.config/fish/completions/souk.fish");
    completion->callback([&common, shell] {
      common.action = [&common, shell] {
        const auto script = completion_script(*shell);
        if (!script) return fail(common, script.error(), exit_code::usage);
        [[maybe_unused]] const auto sent = ::write(STDOUT_FILENO, script.value().data(), script.value().size());
        return exit_code::good;
      };
    });
  }
  common.grid_figures = [&common] { return grid_figures(common); };
}

}  // namespace souk
