// submit, run, map, wait: jobs are made and followed.
#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>
#include <iterator>
#include <set>

#include "protocol/command.h"
#include "protocol/grid.pb.h"
#include "protocol/notation.h"
#include "submit/connect.h"
#include "submit/job_file.h"
#include "submit/job_options.h"
#include "submit/json_items.h"
#include "submit/output.h"
#include "submit/progress.h"
#include "submit/query.h"
#include "submit/render.h"
#include "submit/render_why.h"
#include "submit/results.h"
#include "submit/session.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

/// A whole file, or standard input for `-`.
/// bytes_max: a longer one is refused, with `what` saying what it was to be
Result<std::string> read_whole(const std::string& name, std::size_t bytes_max, const char* what) {
  const bool own = name == "-";
  const std::string shown = own ? "standard input" : souk::quoted(name);
  const int file = own ? STDIN_FILENO : ::open(name.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return Error{"cannot read " + shown, std::strerror(errno), std::string("name a readable file as ") + what};
  std::string text;
  struct stat status {};
  if (::fstat(file, &status) == 0 && S_ISREG(status.st_mode) && status.st_size > 0) text.reserve(std::min(static_cast<std::size_t>(status.st_size), bytes_max) + 1);
  Error failure;
  std::string block(1 << 16, '\0');
  while (failure.what.empty()) {
    const auto count = ::read(file, block.data(), block.size());
    if (count == 0) break;
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) failure = {"cannot read " + shown, std::strerror(errno), std::string("name a readable file as ") + what};
    else if (text.size() + static_cast<std::size_t>(count) > bytes_max)
      failure = {"cannot submit", fmt::format("{} is over {}, too much for {}", shown, size_text(bytes_max), what), "split it, or put it where the workers can read it"};
    else
      text.append(block, 0, static_cast<std::size_t>(count));
  }
  if (!own) ::close(file);
  if (!failure.what.empty()) return failure;
  return text;
}

std::optional<std::string> own_environment(const std::string& name) {
  const char* value = std::getenv(name.c_str());
  return value ? std::optional<std::string>(value) : std::nullopt;
}

Result<std::string> read_input(const MakeOptions& options) {
  if (options.input_file.empty()) return std::string();
  return read_whole(options.input_file, kInputMax, "--stdin");
}

Result<Items> read_items(const std::string& file, bool null_separated, const char* what) {
  if (file == "-" && ::isatty(STDIN_FILENO) == 1) ::dprintf(STDERR_FILENO, "souk: reading lines from the terminal; end them with Ctrl-D\n");
  const auto text = read_whole(file, kSubmitMax, what);
  if (!text) return text.error();
  return split_items(text.value(), null_separated ? '\0' : '\n', file == "-" ? "standard input" : file);
}

Result<Items> read_json(const std::string& file) {
  if (file == "-" && ::isatty(STDIN_FILENO) == 1) ::dprintf(STDERR_FILENO, "souk: reading JSON from the terminal; end it with Ctrl-D\n");
  const auto text = read_whole(file, kSubmitMax, "--each-json");
  if (!text) return text.error();
  return split_json(text.value(), file == "-" ? "standard input" : file);
}

/// Of this machine: its time zone is whoever's who types.
Calendar own_calendar() {
  Calendar calendar;
  calendar.now_ms = static_cast<std::uint64_t>(wall_now().time_since_epoch().count());
  calendar.local = [](std::time_t at) {
    std::tm parts{};
    ::localtime_r(&at, &parts);
    return parts;
  };
  calendar.instant = [](std::tm parts) { return ::mktime(&parts); };
  return calendar;
}

/// Its file of known answers, read.
Result<TermOptions> with_known(TermOptions terms) {
  if (terms.known.empty()) return terms;
  auto text = read_whole(terms.known, kKnownBytesMax, "--known");
  if (!text) return text.error();
  terms.known_text = std::move(text.value());
  return terms;
}

/// A job of many commands. What is said of the job on the command line goes before what the file says.
Result<Done> make_from_file(const MakeOptions& options, wire::Job& job) {
  if (!options.job.words.empty()) return Error{"cannot submit", "there are a command and --file too", "write the command into the job file: run = \"...\""};
  const auto& own = options.job;
  const auto task = !task_term(options.terms).empty() ? task_term(options.terms)
                    : !own.time_limit.empty()        ? "--time-limit"
                    : !own.grace.empty()             ? "--grace"
                    : own.retries != 0               ? "--retries"
                    : !own.output_max.empty()        ? "--output-max"
                    : !options.input_file.empty()    ? "--stdin"
                    : !own.service.empty()           ? "--service"
                    : own.shell                      ? "--shell"
                    : own.no_fill                    ? "--no-fill"
                    : options.null_separated         ? "--null"
                                                     : std::string_view();
  if (!task.empty()) return Error{"cannot submit", fmt::format("{} is said of tasks, and those of --file have their own", task), "write it into the job file, under [defaults] for all of them"};
  if (options.file == "-" && ::isatty(STDIN_FILENO) == 1) ::dprintf(STDERR_FILENO, "souk: reading a job file from the terminal; end it with Ctrl-D\n");
  const auto text = read_whole(options.file, kJobFileMax, "--file");
  if (!text) return text.error();
  Surroundings around;
  around.environment = own_environment;
  around.env = own.env;
  around.calendar = own_calendar();
  const auto folder = options.file == "-" ? std::filesystem::path() : std::filesystem::path(options.file).parent_path();
  around.read = [folder](const std::string& name, std::size_t bytes_max) { return read_whole((folder / name).string(), bytes_max, "a file of the job"); };
  if (auto done = job_file_of(text.value(), options.file == "-" ? "standard input" : options.file, around, job); !done) return done;
  if (!own.name.empty()) {
    if (plain(own.name, own.name.size()) != own.name) return Error{"cannot submit", "the name " + souk::quoted(own.name) + " holds control characters or is no UTF-8", "choose another one"};
    job.set_name(own.name);
  }
  if (own.notify) job.set_notify(true);
  const auto terms = with_known(options.terms);
  return terms ? fill_job_terms(terms.value(), around.calendar, job) : Result<Done>(terms.error());
}

/// The job of submit and run.
Result<Done> make_job(const MakeOptions& options, wire::Job& job) {
  if (!options.file.empty()) return make_from_file(options, job);
  if (options.input_file == "-" && (options.each_line == "-" || options.each_json == "-"))
    return Error{"cannot submit", std::string("standard input cannot be both ") + (options.each_json.empty() ? "--each-line" : "--each-json") + " and --stdin", "put one of them into a file"};
  std::optional<Items> items;
  if (!options.each_json.empty()) {
    auto read = read_json(options.each_json);
    if (!read) return read.error();
    items = std::move(read.value());
  }
  if (!options.each_line.empty()) {
    auto read = read_items(options.each_line, options.null_separated, "--each-line");
    if (!read) return read.error();
    items = std::move(read.value());
  }
  auto input = read_input(options);
  if (!input) return input.error();
  if (auto done = job_of(options.job, items, std::move(input.value()), own_environment, job); !done) return done;
  const auto terms = with_known(options.terms);
  return terms ? fill_terms(terms.value(), own_calendar(), job) : Result<Done>(terms.error());
}

Result<Done> make_map(MakeOptions options, wire::Job& job) {
  auto words = split_map(options.job.words);
  if (!words) return words.error();
  auto& [command, arguments, files] = words.value();
  if (!options.each_line.empty()) files.push_back(options.each_line);
  if (!options.each_json.empty() && (arguments || !files.empty())) return Error{"cannot map", "there are --each-json and other arguments too", "give one of them"};
  if (arguments && !files.empty()) return Error{"cannot map", "there are arguments after ::: and a file too", "give one of them"};
  Items items{{}, "the command line"};
  if (!options.each_json.empty()) {
    if (options.each_json == "-" && options.input_file == "-") return Error{"cannot map", "standard input cannot be both --each-json and --stdin", "put one of them into a file"};
    auto read = read_json(options.each_json);
    if (!read) return read.error();
    items = std::move(read.value());
  } else if (arguments) {
    items.values = std::move(*arguments);
  } else {
    if (files.empty()) files.emplace_back("-");
    for (const auto& file : files) {
      if (file == "-" && options.input_file == "-") return Error{"cannot map", "standard input cannot be both the list and --stdin", "write the list after :::"};
      auto read = read_items(file, options.null_separated, "a list");
      if (!read) return read.error();
      items.from = read.value().from;
      std::move(read.value().values.begin(), read.value().values.end(), std::back_inserter(items.values));
    }
  }
  auto input = read_input(options);
  if (!input) return input.error();
  options.job.words = std::move(command);
  if (auto done = map_job_of(std::move(options.job), items, std::move(input.value()), own_environment, job); !done) return done;
  const auto terms = with_known(options.terms);
  return terms ? fill_terms(terms.value(), own_calendar(), job) : Result<Done>(terms.error());
}

/// What submit, run and wait have in common: a conversation, a bar and the ways out.
struct Follow {
  Follow(const Common& common_options, Profile profile, bool progress_wanted)
      : common(common_options), session(std::move(profile)), progress(STDERR_FILENO, progress_wanted, now_instant()), output(progress, [this] { return session.interrupted(); }) {
    std::signal(SIGPIPE, SIG_IGN);
    session.on_tick = [this] { progress.tick(now_instant()); };
    session.on_note = [this](const std::string& text) { output.note(text); };
    session.catch_interrupts();
  }
  int failed(const Error& error) {
    output.flush();
    progress.hide();
    return fail(common, session, error);
  }

  const Common& common;
  Session session;
  Progress progress;
  Output output;
};

/// Hands the job over. An interrupt on the way leaves no job behind.
Result<wire::SubmitAnswer> hand_over(Follow& follow, const wire::Job& job, bool watch, std::chrono::milliseconds room_wait) {
  const auto key = new_key();
  follow.session.wait_for_room(room_wait);
  auto answer = follow.session.submit(job, key, watch, [&follow](std::uint64_t sent, std::uint64_t size) { follow.progress.upload(sent, size, now_instant()); });
  follow.progress.hide();
  const Error not_taken{"interrupted", "the job was not submitted", ""};
  if (!answer && follow.session.interrupted() && follow.session.turned_away()) return not_taken;
  if (!answer && follow.session.interrupted() && follow.session.reached()) {
    // It may have arrived all the same. The key finds it again, or makes it now, to be canceled at once.
    follow.session.forgive_interrupt();
    follow.session.hurry(Session::Clock::now() + 3s);
    follow.session.wait_for_room({});
    follow.session.leave_saying("the job may have been accepted; `souk jobs` tells\n");
    const auto again = follow.session.submit(job, key, false);
    if (!again && follow.session.turned_away()) return not_taken;
    if (again) {
      if (follow.session.cancel({again.value().job()})) return Error{"interrupted", fmt::format("job {} is canceled", again.value().job()), ""};
      return Error{"interrupted", fmt::format("job {} may go on", again.value().job()), fmt::format("souk cancel {}", again.value().job())};
    }
    return Error{"interrupted", "the job may have been accepted", "`souk jobs` tells"};
  }
  if (answer)
    for (const auto& warning : answer.value().warnings()) follow.output.note(plain(warning));
  return answer;
}

/// What a second Ctrl-C leaves behind while nobody has answered the first one.
void say_it_may_go_on(Follow& follow, std::uint64_t number) {
  follow.session.leave_saying(fmt::format("job {} may go on, since no manager has said that it is canceled; `souk cancel {}` does it\n", number, number));
}

/// Cancels a job that nobody waits for any more, and sees its end, in bounded time.
int abandon(Follow& follow, const wire::Job& job, std::uint64_t number, int code) {
  const auto grace = std::chrono::milliseconds(job.command().grace_ms() == 0 ? static_cast<std::uint64_t>(kGraceDefault.count()) : job.command().grace_ms());
  follow.session.forgive_interrupt();
  follow.session.hurry(Session::Clock::now() + std::min<std::chrono::milliseconds>(grace, 10s) + 3s);
  say_it_may_go_on(follow, number);
  const auto canceled = follow.session.cancel({number});
  follow.session.leave_saying("");
  if (!canceled) {
    follow.output.note(fmt::format("cannot cancel job {}: {}; `souk cancel {}` does it later", number, canceled.error().text(), number));
    return code;
  }
  while (true) {
    const auto* known = follow.session.news(number);
    if (known && ended(*known)) break;
    const auto before = Session::Clock::now();
    const auto done = follow.session.await_news(before + 1s);
    if (!done || follow.session.hurried()) break;
  }
  if (const auto* known = follow.session.news(number); known && ended(*known) && code != kExitPipe) follow.output.note(job_verdict(*known));
  return code;
}

/// What the job would find, which is not made.
int try_dry(const Common& common, const MakeOptions& options, const wire::Job& job, Profile profile) {
  Follow follow(common, std::move(profile), options.progress > 0 || (options.progress == 0 && ::isatty(STDERR_FILENO) == 1));
  const auto answer = follow.session.submit(job, new_key(), false, [&follow](std::uint64_t sent, std::uint64_t size) { follow.progress.upload(sent, size, now_instant()); }, true);
  follow.progress.hide();
  if (!answer) {
    const int code = follow.failed(answer.error());
    return follow.session.interrupted() ? follow.session.interrupt_exit_code() : code;
  }
  const auto& found = answer.value();
  if (found.job() != 0) {  // a manager that does not know the word has made it
    const auto canceled = follow.session.cancel({found.job()});
    return follow.failed({"no dry run", fmt::format("the manager is older than this program and made job {} of it, which {}", found.job(), canceled ? "is canceled now" : "could not be canceled: " + canceled.error().text()),
                          "compare `souk --version` and `souk status`"});
  }
  if (common.json) {
    follow.output.out(matches_json(found) + "\n");
  } else {
    for (const auto& warning : found.warnings()) follow.output.note(plain(warning, 500));
    follow.output.out(matches_text(found));
  }
  follow.output.flush();
  if (follow.output.closed()) return kExitPipe;
  if (follow.output.broken()) return follow.failed(follow.output.failure());
  return all_fit(found) ? exit_code::good : exit_code::failed;
}

int follow_to_the_end(const Common& common, const MakeOptions& options, const wire::Job& job, Profile profile, std::chrono::milliseconds room_wait) {
  const bool progress = options.progress > 0 || (options.progress == 0 && ::isatty(STDERR_FILENO) == 1);
  Follow follow(common, std::move(profile), progress);
  const auto answer = hand_over(follow, job, true, room_wait);
  if (!answer) {
    const int code = follow.failed(answer.error());
    return answer.error().what == "interrupted" ? follow.session.interrupt_exit_code() : code;
  }
  const auto number = answer.value().job();
  if (job.hold()) follow.output.note(fmt::format("job {} is held; `souk release {}` lets it start", number, number));
  follow.session.stay();
  follow.session.watching(number);
  PrintOptions print;
  print.json = common.json;
  ResultPrinter printer(follow.session, follow.output, number, answer.value().tasks(), !options.unordered, print);
  const auto interrupted = [&] {
    follow.progress.hide();
    say_it_may_go_on(follow, number);  // before we ask for it
    follow.output.note(fmt::format("canceling job {}; Ctrl-C again leaves at once", number));
    return abandon(follow, job, number, follow.session.interrupt_exit_code());
  };
  bool over = false;
  while (!over || !printer.done()) {
    if (const auto* known = follow.session.news(number)) {
      over = ended(*known);
      if (!over) follow.progress.job(*known, now_instant());
      const auto printed = printer.print(ended_tasks(*known));
      if (follow.session.interrupted()) return interrupted();
      if (!printed) return follow.failed(printed.error());
      if (follow.output.closed()) return abandon(follow, job, number, kExitPipe);
      if (follow.output.broken()) {
        follow.failed(follow.output.failure());
        return abandon(follow, job, number, exit_code::usage);
      }
      if (over && printer.done()) break;
    }
    // An ended job whose last results are not there yet gives no more news: ask again soon.
    const auto news = follow.session.await_news(over ? Session::Clock::now() + 20ms : Session::Clock::time_point::max());
    if (follow.session.interrupted()) return interrupted();
    if (!news) return follow.failed(news.error());
  }
  const wire::JobStatus end = *follow.session.news(number);
  const bool single = answer.value().tasks() == 1;
  follow.progress.finish(end, now_instant());
  if (single && printer.only()) return exit_code_of(*printer.only());
  const bool good = end.state() == wire::SUCCEEDED;
  if (!good && !(progress && !follow.progress.on_terminal()))
    follow.output.note(job_verdict(end) + fmt::format("; `souk tasks {} --failed` lists {}", number, end.failed() == 1 ? "it" : "them"));
  return good ? exit_code::good : exit_code::failed;
}

}  // namespace

Result<std::chrono::milliseconds> submit_wait_of(const std::string& text) {
  if (text.empty()) return std::chrono::milliseconds(10min);
  const auto time = parse_duration(text);
  if (!time) return Error{"cannot use --submit-wait " + souk::quoted(text), time.error().why, time.error().remedy};
  return time.value();
}

int submit_command(const Common& common, MakeOptions options) {
  options.job.words = common.words;
  if (const auto something = check_words(options.job); !something && options.file.empty()) return fail(common, something.error(), exit_code::usage);
  const auto room_wait = submit_wait_of(options.submit_wait);
  if (!room_wait) return fail(common, room_wait.error(), exit_code::usage);
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  wire::Job job;
  if (const auto made = make_job(options, job); !made) return fail(common, made.error(), exit_code::usage);
  if (options.dry_run) return try_dry(common, options, job, std::move(profile.value()));
  const bool terminal = ::isatty(STDERR_FILENO) == 1;
  Follow follow(common, std::move(profile.value()), options.progress > 0 || (options.progress == 0 && terminal));
  const auto answer = hand_over(follow, job, false, room_wait.value());
  if (!answer) {
    const int code = follow.failed(answer.error());
    return answer.error().what == "interrupted" ? follow.session.interrupt_exit_code() : code;
  }
  const auto number = answer.value().job();
  if (common.json) {
    follow.output.out(fmt::format("{{\"job\":{},\"tasks\":{}}}\n", number, answer.value().tasks()));
  } else {
    // The number alone, for scripts: J=$(souk submit ...). What a person may want to know goes beside it.
    follow.output.out(fmt::format("{}\n", number));
    if (terminal && ::isatty(STDOUT_FILENO) == 1)
      follow.output.note(fmt::format("job {} of {}; `souk wait {} --progress` follows it, `souk cat {}` shows what it wrote", number, count_text(answer.value().tasks(), "task"), number, number));
  }
  follow.output.flush();
  return exit_code::good;
}

int run_command(const Common& common, MakeOptions options) {
  options.job.words = common.words;
  if (const auto something = check_words(options.job); !something && options.file.empty()) return fail(common, something.error(), exit_code::usage);
  const auto room_wait = submit_wait_of(options.submit_wait);
  if (!room_wait) return fail(common, room_wait.error(), exit_code::usage);
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  wire::Job job;
  if (const auto made = make_job(options, job); !made) return fail(common, made.error(), exit_code::usage);
  if (options.dry_run) return try_dry(common, options, job, std::move(profile.value()));
  return follow_to_the_end(common, options, job, std::move(profile.value()), room_wait.value());
}

int map_command(const Common& common, MakeOptions options) {
  options.job.words = common.words;
  if (const auto something = check_words(options.job); !something) return fail(common, something.error(), exit_code::usage);
  const auto room_wait = submit_wait_of(options.submit_wait);
  if (!room_wait) return fail(common, room_wait.error(), exit_code::usage);
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  wire::Job job;
  if (const auto made = make_map(options, job); !made) return fail(common, made.error(), exit_code::usage);
  if (job.lines().line_size() == 0) return exit_code::good;  // nothing to do, as GNU parallel has it
  if (options.dry_run) return try_dry(common, options, job, std::move(profile.value()));
  return follow_to_the_end(common, options, job, std::move(profile.value()), room_wait.value());
}

int wait_command(const Common& common, const WaitOptions& options) {
  std::vector<std::uint64_t> jobs;
  for (const auto& text : options.jobs) {
    const auto job = parse_job(text);
    if (!job) return fail(common, job.error(), exit_code::usage);
    if (std::find(jobs.begin(), jobs.end(), job.value()) == jobs.end()) jobs.push_back(job.value());
  }
  auto profile = find_grid(common);
  if (!profile) return fail(common, profile.error(), exit_code::unreachable);
  Follow follow(common, std::move(profile.value()), options.progress);
  const auto left_behind = [&](const std::vector<std::uint64_t>& open) {
    follow.progress.hide();
    const auto names = fmt::format("{}", fmt::join(open, " "));
    follow.output.note(fmt::format("job{} {} {} on; come back with `souk wait {}`", open.size() == 1 ? "" : "s", names, open.size() == 1 ? "goes" : "go", names));
    return follow.session.interrupt_exit_code();
  };
  if (const auto watching = follow.session.watch(jobs); !watching) return follow.session.interrupted() ? left_behind(jobs) : follow.failed(watching.error());
  follow.session.stay();
  bool good = true;
  wire::JobStatus total;  // of all, for one bar
  std::set<std::uint64_t> told;
  while (true) {
    total.Clear();
    std::vector<std::uint64_t> open;
    for (const auto number : jobs) {
      const auto* known = follow.session.news(number);
      if (!known || !ended(*known)) open.push_back(number);
      if (!known) continue;
      total.set_job(number);
      total.set_name(jobs.size() == 1 ? known->name() : fmt::format("{} jobs", jobs.size()));
      total.set_tasks(total.tasks() + known->tasks());
      total.set_running(total.running() + known->running());
      total.set_succeeded(total.succeeded() + known->succeeded());
      total.set_failed(total.failed() + known->failed());
      total.set_canceled(total.canceled() + known->canceled());
      if (!ended(*known)) continue;
      total.set_state(known->state());
      if (!told.insert(number).second) continue;
      good = good && known->state() == wire::SUCCEEDED;
      follow.output.out(common.json ? json_of(*known) + "\n" : job_verdict(*known) + "\n");
      follow.output.flush();
      if (follow.output.closed()) return kExitPipe;
      if (follow.output.broken()) return follow.failed(follow.output.failure());
    }
    if (open.empty()) break;
    total.set_state(wire::RUNNING);
    follow.progress.job(total, now_instant());
    const auto news = follow.session.await_news();
    if (follow.session.interrupted()) return left_behind(open);
    if (!news) return follow.failed(news.error());
  }
  if (follow.progress.on_terminal()) follow.progress.finish(total, now_instant());  // elsewhere the verdicts say it
  return good ? exit_code::good : exit_code::failed;
}

}  // namespace souk
