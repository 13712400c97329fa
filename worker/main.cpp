// souk-worker: offers this host's slots in a marketplace and runs what the manager sends.
#include <fcntl.h>
#include <sched.h>
#include <spdlog/sinks/ringbuffer_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <map>
#include <optional>
#include <set>

#include "protocol/heap.h"
#include "protocol/log_format.h"
#include "protocol/notation.h"
#include "protocol/profile.h"
#include "protocol/standard_streams.h"
#include "protocol/stanza.h"
#include "worker/confine.h"
#include "worker/fill.h"
#include "worker/grid_name.h"
#include "worker/home.h"
#include "worker/images.h"
#include "worker/join.h"
#include "worker/owner.h"
#include "worker/probe.h"
#include "worker/process.h"
#include "worker/running.h"
#include "worker/sandbox.h"
#include "worker/services.h"
#include "worker/session.h"

namespace souk::worker {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

constexpr int kUsage = 2, kFailed = 3;      // exit codes (README)
constexpr auto kGoodbyeMax = 700ms;         // for the server to take our leave, when asked to stop
constexpr auto kStopMax = 3500ms;           // for tasks to be stopped and handed back, and for results to be taken, when asked to stop; `souk down` waits 5 s

int failed(const Error& error, int code = kFailed) {
  std::fprintf(stderr, "souk-worker: %s\n", printable(error.text()).c_str());
  return code;
}

/// The last lines of the log, for its owner from afar.
const std::shared_ptr<spdlog::sinks::ringbuffer_sink_st>& last_lines() {
  static const auto lines = std::make_shared<spdlog::sinks::ringbuffer_sink_st>(Remote::kLinesMax);
  return lines;
}

struct Options {
  std::string profile, work, state, name, log_level = "info";
  int slots = 0;
  std::vector<std::string> tags, resources, services;
  double speed = 0;
  std::chrono::milliseconds finish_on_term{0};
  bool no_namespace = false, drain = false, wait = false, only_options = false;
  std::string policy, owner;
  std::vector<std::string> accept;
  std::map<std::string, std::string> rules;
  SandboxMode sandbox = SandboxMode::automatic;
  bool allow_network = false;
  std::vector<std::string> bounds, shown, images;
  bool pull = false;
};

Result<std::map<std::string, std::string>> tags_of(const std::vector<std::string>& words) {
  std::map<std::string, std::string> tags;
  const auto bad = [](const std::string& word, std::string why) { return Error{"tag '" + word + "' refused", std::move(why), "write --tag key=value"}; };
  for (const std::string& word : words) {
    const auto equals = word.find('=');
    if (equals == std::string::npos || equals == 0) return bad(word, "it has no key and value");
    if (word.size() > 256) return bad(word.substr(0, 32) + "...", "it is over 256 bytes");
    if (!is_printable(word)) return bad(printable(word), "it is no plain text");
    if (!tags.emplace(word.substr(0, equals), word.substr(equals + 1)).second) return bad(word, "its key is there twice");
  }
  if (tags.size() > 64) return Error{"tags refused", std::to_string(tags.size()) + " of them", "at most 64 fit into an offer"};
  return tags;
}

Result<std::map<std::string, OfferedResource>> resources_of(const std::vector<std::string>& words) {
  std::map<std::string, OfferedResource> resources;
  for (const std::string& word : words) {
    const auto read = parse_resource(word);
    if (!read) return read.error();
    if (!resources.insert(read.value()).second) return Error{"resource '" + read.value().first + "' refused", "it is there twice", "name each once"};
  }
  if (resources.size() > kResourcesMax) return Error{"resources refused", std::to_string(resources.size()) + " of them", "at most " + std::to_string(kResourcesMax) + " fit into an offer"};
  return resources;
}

Result<std::vector<ServicePlan>> services_of(const std::vector<std::string>& words) {
  std::vector<ServicePlan> plans;
  for (const std::string& word : words) {
    auto plan = parse_service(word);
    if (!plan) return plan.error();
    if (std::any_of(plans.begin(), plans.end(), [&](const ServicePlan& one) { return one.name == plan.value().name; }))
      return Error{"service '" + plan.value().name + "' refused", "it is there twice", "name each once"};
    plans.push_back(std::move(plan.value()));
  }
  if (plans.size() > kServicesMax) return Error{"services refused", std::to_string(plans.size()) + " of them", "at most " + std::to_string(kServicesMax) + " fit into an offer"};
  return plans;
}

/// Whose tasks it takes; nobody named: anyone's. `mine` is its owner.
Result<std::vector<Who>> accept_of(const std::vector<std::string>& words, const std::string& owner) {
  std::vector<Who> list;
  for (const std::string& word : words) {
    auto who = Who::parse(word == "mine" ? owner : word);
    if (!who) return Error{"--accept: " + who.error().what, who.error().why, "write mine, ada@example.edu, @example.edu for all of a domain, group:NAME of the grid's policy, or anyone"};
    if (who.value().kind == Who::Kind::anyone) {
      if (words.size() > 1) return Error{"--accept anyone refused", "others are named too", "leave them out, or `anyone`"};
      return std::vector<Who>{};
    }
    list.push_back(std::move(who.value()));
  }
  if (list.size() > kAcceptMax) return Error{"--accept refused", std::to_string(list.size()) + " of them", "at most " + std::to_string(kAcceptMax) + " fit into an offer; make a group in the grid's policy"};
  return list;
}

/// Those that this process may use.
std::vector<int> processors() {
  constexpr int kMost = 8192;  // the fixed cpu_set_t fails on larger machines
  std::vector<int> numbers;
  cpu_set_t* set = CPU_ALLOC(kMost);
  if (set != nullptr && ::sched_getaffinity(0, CPU_ALLOC_SIZE(kMost), set) == 0) {
    for (int number = 0; number < kMost; ++number)
      if (CPU_ISSET_S(static_cast<std::size_t>(number), CPU_ALLOC_SIZE(kMost), set)) numbers.push_back(number);
  }
  if (set != nullptr) CPU_FREE(set);
  return numbers;
}

/// Surroundings of a task in a sandbox: nothing of the owner's but the time and the language.
Surroundings in_sandbox(const Surroundings& host) {
  Surroundings boxed{{{"PATH", "/usr/local/bin:/usr/bin:/bin"}, {"HOME", kBoxWork}, {"USER", "souk"}, {"LOGNAME", "souk"}, {"SHELL", "/bin/sh"}}, kBoxWork, host.worker, host.has_gpus};
  for (const auto& [name, value] : host.env)
    if (name == "LANG" || name == "TZ" || name.starts_with("LC_")) boxed.env.emplace_back(name, value);
  return boxed;
}

/// In an image: its own environment over that, but for what the sandbox itself is.
Surroundings in_image(Surroundings boxed, const Image& image) {
  for (const auto& [name, value] : image.env) {
    if (name == "HOME" || name == "USER" || name == "LOGNAME" || name == "TMPDIR" || name.starts_with("SOUK_")) continue;
    const auto same = std::find_if(boxed.env.begin(), boxed.env.end(), [&, &name = name](const auto& one) { return one.first == name; });
    if (same != boxed.env.end()) same->second = value;
    else boxed.env.emplace_back(name, value);
  }
  return boxed;
}

/// The folder that programs of one build share.
fs::path beside_us(const char* program) {
  std::error_code error;
  return fs::read_symlink("/proc/self/exe", error).parent_path() / program;
}

/// A folder that only this user can use. Somebody else may have made one of that name in /tmp before us.
Result<Done> private_folder(const fs::path& path) {
  const auto bad = [&](std::string why) { return Error{"cannot use " + path.string() + " for work", std::move(why), "choose another with --work"}; };
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) return bad(std::strerror(errno));
  struct stat status{};
  if (::lstat(path.c_str(), &status) != 0) return bad(std::strerror(errno));
  if (!S_ISDIR(status.st_mode)) return bad("it is no folder");
  if (status.st_uid != ::geteuid()) return bad("it belongs to somebody else");
  if ((status.st_mode & 077) != 0 && ::chmod(path.c_str(), 0700) != 0) return bad(std::strerror(errno));
  return Done{};
}

struct LockedFolder {
  fs::path path;
  int lock = -1;  // a descriptor of it
};

/// The first working folder of this user that no other worker uses.
Result<LockedFolder> default_work() {
  const fs::path base = default_base();
  std::error_code ignored;
  fs::create_directories(base.parent_path(), ignored);
  if (const auto made = private_folder(base); !made) return made.error();
  for (int number = 1; number <= kFoldersMax; ++number) {
    const fs::path path = base / ("worker-" + std::to_string(number));
    if (const auto made = private_folder(path); !made) return made.error();
    const int folder = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
    if (folder >= 0 && ::flock(folder, LOCK_EX | LOCK_NB) == 0) return LockedFolder{path, folder};
    if (folder >= 0) ::close(folder);
  }
  return Error{"no working folder", "all of " + base.string() + "/worker-1 to " + std::to_string(kFoldersMax) + " are in use", "choose one with --work"};
}

/// Where results wait that the manager has not taken: below the working folder that somebody chose, else where this user's programs keep what must outlive
/// a restart, by host, since home folders may be shared.
fs::path default_state(const Options& options, const fs::path& work) {
  const auto base = below_home("XDG_STATE_HOME", ".local/state");
  if (!options.work.empty() || !base) return work / ".souk-state";
  // Default working folders are numbered in two places, below ~/.cache and in /var/tmp: `souk-worker-1`, `souk-1000-worker-1`.
  const std::string base_name = work.parent_path().filename().string();
  const std::string name = (base_name.starts_with("souk-") && work.parent_path().parent_path() == "/var/tmp" ? base_name : "souk") + '-' + work.filename().string();
  return *base / "souk" / host_name() / name;
}

std::string shown(const std::vector<Who>& accept) {
  std::string list;
  for (const Who& who : accept) list += (list.empty() ? "" : ", ") + who.text();
  return list.empty() ? "anyone" : list;
}

class Program {
 public:
  Program(boost::asio::io_context& loop, Executor& executor, Session::Setup setup, Surroundings host, Owner& owner, Spool* spool, Restored found,
          std::vector<ServicePlan> services, std::chrono::milliseconds finish_on_term, Confining confining,
          const std::vector<Image>& images)
      : loop_(loop), signals_(loop, SIGTERM, SIGINT, SIGHUP), settings_(loop, SIGUSR1, SIGUSR2), goodbye_(loop), finish_on_term_(finish_on_term), accept_(shown(setup.offer.accept)), confining_(std::move(confining)), memory_of_slot_(setup.offer.memory_bytes / static_cast<std::uint64_t>(setup.offer.slots)),
        disk_of_slot_(setup.offer.disk_bytes / static_cast<std::uint64_t>(setup.offer.slots)), host_(std::move(host)), boxed_(in_sandbox(host_)), owner_(owner),
        services_(loop, executor, setup.offer.slots, std::move(services), host_),
        session_(loop, std::move(setup),
                 {[this, &executor](int slot, Assignment a, Granted granted, std::function<void(Outcome)> finished) {
                    Launch launch = launch_of_this(std::move(a), std::move(granted));
                    launch.nice = owner_.rules().nice;
                    executor.start(slot, std::move(launch), std::move(finished));
                  },
                  [this, &executor](int slot) { services_.busy(slot) ? services_.stop(slot) : executor.stop(slot); },
                  [this, &executor](int slot) { services_.busy(slot) ? services_.pause(slot) : executor.pause(slot); },
                  [this, &executor](int slot) { services_.busy(slot) ? services_.resume(slot) : executor.resume(slot); },
                  [this, &executor](int slot, Assignment a, std::function<void(Outcome)> finished, std::function<void()> recalled) {
                    Launch launch = launch_of_this(std::move(a), {});
                    launch.nice = owner_.rules().nice;
                    executor.line_up(slot, std::move(launch), std::move(finished), std::move(recalled));
                  },
                  [&executor](int slot) { executor.recall(slot); },
                  [this](int slot, Assignment call) {
                    host_.worker = session_.room().nick();
                    services_.call(slot, std::move(call));
                  },
                  [this](int slot, AttemptId attempt) { services_.stop_call(slot, attempt); }, [this](int slot, AttemptId attempt) { services_.forsake_call(slot, attempt); },
                  [this] { services_.calls_made(); }},
                 spool, std::move(found)) {
    for (const Image& image : images) in_images_.emplace(image.name, in_image(boxed_, image));
    services_.on_ended = [this](CallsEnded ended) { session_.calls_ended(std::move(ended)); };
    services_.on_note = [](bool bad, const std::string& text) { bad ? spdlog::warn("{}", text) : spdlog::info("{}", text); };
    services_.nice = [this] { return owner_.rules().nice; };
    session_.on_end = [this](const Error& why) { end(failed(why)); };
    session_.on_empty = [this] { stop(!leaving_ ? "drained" : session_.agent().owed() > 0 ? "told to; nobody is there to take what is owed" : "handed over"); };
    owner_.slots_used = [this] { return session_.agent().slots_used(); };
    owner_.decided = [this](const Decision& d) {
      session_.allow(Allowance{d.offered, d.running, d.kept, d.rule, d.until_ms});
      if (d.over) session_.drain();
    };
    session_.remote().set_hooks({[this] { set_paused(true); }, [this] { set_paused(false); }, [this] { drain(); }, [this] { return status(); }, [this] { return owner_.texts(); },
                                 [this](const LimitTexts& texts) { return owner_.change(texts); }, [] { return last_lines()->last_formatted(); }});
    wait_for_signal();
    wait_for_setting();
  }

  void start() {
    owner_.start();
    session_.start();
  }
  int code() const { return code_; }

 private:
  Launch launch_of_this(Assignment a, Granted granted) {
    host_.worker = session_.room().nick();
    const Confinement confined = confine(confining_, a.submitter, *a.command);
    if (!confined.boxed) {
      Launch launch = launch_of(*a.command, a.item, a.task, a.attempt, host_, a.run, {std::move(a.needs), std::move(granted)});
      launch.grace = confined.grace;
      return launch;
    }
    Boxed box{"job " + std::to_string(a.attempt.epoch.value) + "." + std::to_string(a.task.job.value), confined.network, a.needs.gpus > 0, bounds_for(confining_.bounds, *a.command, a.needs, memory_of_slot_, disk_of_slot_), a.command->image};
    const auto in_image = in_images_.find(a.command->image);
    Launch launch = launch_of(*a.command, a.item, a.task, a.attempt, in_image != in_images_.end() ? in_image->second : boxed_, a.run, {std::move(a.needs), std::move(granted)});
    launch.grace = confined.grace;
    launch.box = std::move(box);
    for (auto& [name, value] : launch.env)
      if (name == "HOME" && value == kBoxWork) value = kBoxWork + ("/" + launch.folder);  // goes with the attempt
    return launch;
  }

  void wait_for_signal() {
    signals_.async_wait([this](auto error, int signal) {
      if (error) return;
      if (signal == SIGHUP && owner_.has_file() && !stopping_ && !leaving_) {
        owner_.read_again();
        return wait_for_signal();
      }
      if (stopping_ || leaving_) std::_Exit(1);  // asked twice: at once. Runners die with us, and their tasks with them; the spool is as it was
      wait_for_signal();
      leave(::strsignal(signal));
    });
  }
  void wait_for_setting() {
    settings_.async_wait([this](auto error, int signal) {
      if (error) return;
      if (signal == SIGUSR1) {
        drain();
      } else {
        set_paused(!paused_);
      }
      wait_for_setting();
    });
  }
  void drain() {
    spdlog::info("draining held={}", session_.agent().waiting() + session_.agent().running() + session_.agent().owed());
    session_.drain();
  }
  void set_paused(bool paused) {
    if (std::exchange(paused_, paused) == paused) return;
    spdlog::info(paused ? "paused" : "resumed");
    paused ? session_.pause() : session_.resume();
  }
  /// For its owner from afar.
  std::vector<std::pair<std::string, std::string>> status() const {
    const Agent& agent = session_.agent();
    std::string limits;
    for (const auto& [key, text] : owner_.texts()) limits += (limits.empty() ? "" : ", ") + key + " " + text;
    return {{"Worker", host_.worker}, {"Address", session_.jid()}, {"State", agent.status()}, {"Tasks", std::to_string(agent.running()) + " running, " + std::to_string(agent.waiting()) + " waiting"},
            {"Results not handed over", std::to_string(agent.owed())}, {"Takes tasks of", accept_}, {"Limits", limits.empty() ? "none" : limits}};
  }
  /// Hands back what did not end, and over what did. What nobody takes in time stays on disk for the next life, if it was kept there; quick calls are made again.
  void leave(const char* why) {
    leaving_ = true;
    owner_.stop();
    const Agent& agent = session_.agent();
    spdlog::info("leaving why=\"{}\" running={} waiting={} owed={}", why, agent.running(), agent.waiting(), agent.owed());
    const bool let_end = finish_on_term_ > 0ms && agent.running() > 0;
    goodbye_.expires_after(let_end ? finish_on_term_ : kStopMax);
    goodbye_.async_wait([this, let_end](auto error) {
      if (error) return;
      if (!let_end) return stop("nobody took the rest in time");
      finish_on_term_ = 0ms;
      leave("they had their time to finish");
    });
    session_.leave(let_end);
  }
  void stop(const char* why) {
    if (std::exchange(stopping_, true)) return;
    owner_.stop();
    spdlog::info("stopping why=\"{}\" running={} owed={}", why, session_.agent().running(), session_.agent().owed());
    goodbye_.expires_after(kGoodbyeMax);
    goodbye_.async_wait([this](auto error) {
      if (!error) end(code_);
    });
    session_.stop([this] { end(code_); });
  }
  void end(int code) {
    code_ = code;
    loop_.stop();
  }

  boost::asio::io_context& loop_;
  boost::asio::signal_set signals_, settings_;
  boost::asio::steady_timer goodbye_;
  std::chrono::milliseconds finish_on_term_;
  std::string accept_;
  const Confining confining_;
  const std::uint64_t memory_of_slot_, disk_of_slot_;
  Surroundings host_, boxed_;
  std::map<std::string, Surroundings> in_images_;
  Owner& owner_;
  Services services_;
  Session session_;
  bool leaving_ = false, stopping_ = false, paused_ = false;
  int code_ = 0;
};

int tell_to_drain(const Options& options) {
  const auto found = find_running(options.work, options.name, options.profile);
  if (!found) return failed(found.error());
  const std::string who = "worker " + printable(found.value().name) + " in " + found.value().work.string();
  if (!options.wait) std::printf("%s drains\n", who.c_str());
  if (const auto done = drain(found.value(), options.wait); !done) return failed(done.error());
  if (options.wait) std::printf("%s has drained\n", who.c_str());
  return 0;
}

int run(const Options& options) {
  if (options.drain && options.only_options) return failed({"--drain has no use here", "it speaks to another worker", "leave it out"}, kUsage);
  if (options.drain) return tell_to_drain(options);
  if (options.profile.empty()) return failed({"no profile", "a worker must know who it is and which grid it serves", "give --profile FILE, such as ~/.souk/worker.toml"}, kUsage);
  if (options.wait) return failed({"--wait has no use here", "it goes with --drain", "leave it out"}, kUsage);
  const auto began = std::chrono::system_clock::now();
  const auto tags = tags_of(options.tags);
  if (!tags) return failed(tags.error(), kUsage);
  const auto resources = resources_of(options.resources);
  if (!resources) return failed(resources.error(), kUsage);
  auto services = services_of(options.services);
  if (!services) return failed(services.error(), kUsage);
  Bounds bounds;
  for (const std::string& bound : options.bounds)
    if (const auto read = read_bound(bound, bounds); !read) return failed(read.error(), kUsage);
  for (const std::string& folder : options.shown)
    if (std::error_code ignored; !fs::path(folder).is_absolute() || !fs::is_directory(folder, ignored))
      return failed({"cannot show " + folder + " to tasks", "it is no folder with an absolute path", "name one, or leave --sandbox-show out"}, kUsage);
  for (const std::string& name : options.images)
    if (const auto good = check_image_name(name); !good) return failed(good.error(), kUsage);
  if (std::set<std::string>(options.images.begin(), options.images.end()).size() != options.images.size()) return failed({"--image refused", "one is there twice", "name each once"}, kUsage);
  if (options.images.size() > kImagesMax) return failed({"images refused", std::to_string(options.images.size()) + " of them", "at most " + std::to_string(kImagesMax) + " fit into an offer"}, kUsage);
  if (!options.images.empty() && options.sandbox == SandboxMode::none) return failed({"--image has no use here", "an image is the system of a sandbox, and --sandbox none has none", "leave one of them out"}, kUsage);
  if (options.pull && options.images.empty()) return failed({"--image-pull has no use here", "no image is named", "name those that tasks may use: --image NAME"}, kUsage);
  if (const auto rules = rules_from(options.rules); !rules) return failed(rules.error(), kUsage);
  Owner::Setup owning{options.rules, options.policy, 1};
  const auto rules = Owner::rules_of(owning, began);
  if (!rules) return failed(rules.error());
  if (options.only_options) {
    const std::string whose = options.owner.empty() ? "ada@example.edu" : options.owner;
    if (const auto who = Who::parse(whose); !who || who.value().kind != Who::Kind::person) return failed({"--owner " + souk::quoted(whose) + " refused", "it is no account", "write a bare JID, such as ada@example.edu"}, kUsage);
    if (const auto accept = accept_of(options.accept, whose); !accept) return failed(accept.error(), kUsage);
    return 0;
  }
  auto profile = load_profile(options.profile);
  if (!profile) return failed(profile.error());
  if (profile.value().account.component) return failed({"profile " + options.profile + " cannot be used", "it is of a component", "a worker logs in as an account: give it a profile of its own"});
  if (profile.value().manager.empty() || profile.value().room.empty())
    return failed({"profile " + options.profile + " cannot be used", "it does not say `manager` and `room`", "add both, as the manager's profile has them"});

  const auto owner_jid = Who::parse(options.owner.empty() ? bare(profile.value().account.jid) : options.owner);
  if (!owner_jid || owner_jid.value().kind != Who::Kind::person)
    return failed({"--owner " + souk::quoted(options.owner) + " refused", "it is no account", "write a bare JID, such as ada@example.edu"}, kUsage);
  const std::string whose = owner_jid.value().name;
  const auto accept = accept_of(options.accept, whose);
  if (!accept) return failed(accept.error(), kUsage);

  fs::path work = options.work;
  int lock = -1;
  if (work.empty()) {
    const auto chosen = default_work();
    if (!chosen) return failed(chosen.error());
    work = chosen.value().path;
    lock = chosen.value().lock;
  }
  const fs::path runner = beside_us("souk-runner");
  if (::access(runner.c_str(), X_OK) != 0) return failed({"cannot run " + runner.string(), std::strerror(errno), "install souk-runner beside souk-worker"});
  if (options.no_namespace) ::setenv("SOUK_NAMESPACES", "0", 1);

  const std::vector<int> cpus = processors();
  const int slots = options.slots > 0 ? options.slots : std::clamp(static_cast<int>(cpus.size()), 1, kSlotsMax);
  boost::asio::io_context loop(1);
  std::signal(SIGPIPE, SIG_IGN);
  std::vector<Image> images;
  const fs::path images_folder = options.images.empty() ? fs::path() : default_base() / "images";
  if (!options.images.empty()) {  // before there are runners, who would keep what podman may leave
    std::error_code ignored;
    fs::create_directories(default_base().parent_path(), ignored);
    if (const auto made = private_folder(default_base()); !made) return failed(made.error());
    auto found = get_images({options.images, images_folder, options.pull, ::geteuid() == 0}, [](const std::string& note) { spdlog::info("{}", printable(note)); });
    if (!found) return failed(found.error());
    images = std::move(found.value());
  }
  Executor executor(loop, slots, work, runner, lock, slots * static_cast<int>(services.value().size()));  // runners first, while this process is small and has one thread
  Confining confining{options.sandbox, false, "", options.allow_network, "", bounds};
  std::string note;
  SandboxLevel level = SandboxLevel::none;
  if (options.sandbox == SandboxMode::none) {
    confining.why_not = "its owner runs all tasks without (--sandbox none)";
  } else {
    std::vector<fs::path> shown(options.shown.begin(), options.shown.end());
    auto found = Sandbox::find({runner, work, std::move(shown), "", images_folder});
    if (found) {
      level = found.value().level();
      note = found.value().note();
      confining.can = true;
      for (const Image& image : images) {
        if (const auto added = found.value().add_image(image.name, image.root); !added) return failed(added.error());
        confining.images.insert(image.name);
      }
      executor.use(std::move(found.value()));
    } else if (options.sandbox == SandboxMode::bwrap || !images.empty()) {
      return failed(found.error());
    } else {
      confining.why_not = found.error().why + (found.error().remedy.empty() ? "" : "; " + found.error().remedy);
    }
  }
  ProbeOptions probing;
  probing.work = work;
  probing.slots = slots;
  probing.tags = tags.value();
  probing.resources = resources.value();
  probing.speed = options.speed;
  Session::Setup setup;
  setup.offer = probe(probing);
  setup.offer.version = SOUK_VERSION;
  setup.offer.sandbox = level;
  setup.offer.sandbox_note = confining.can ? note : confining.why_not;
  setup.offer.network = options.allow_network || options.sandbox == SandboxMode::none;
  setup.offer.accept = accept.value();
  setup.offer.images = confining.images;
  // Tasks of others would be refused one by one. Calls of its services need no sandbox, so with those anyone's tasks still come.
  if (options.sandbox == SandboxMode::automatic && !confining.can && services.value().empty() && (accept.value().empty() || any_means(accept.value(), whose, {})))
    setup.offer.accept = {Who{Who::Kind::person, whose}};
  setup.owner = confining.owner = whose;
  for (const ServicePlan& service : services.value()) setup.offer.services.insert(service.name);
  setup.processors = cpus;
  setup.offer.memory_bytes -= std::min(setup.offer.memory_bytes, rules.value().leave_memory);
  setup.nick = options.name.empty() ? host_name() : options.name;
  setup.profile = std::move(profile.value());
  setup.refuses = [confining](const Assignment& a) { return confine(confining, a.submitter, *a.command).refusal; };
  std::unique_ptr<Spool> spool;
  Spool::Found found;
  if (options.state != "none") {
    const fs::path state = options.state.empty() ? default_state(options, work) : fs::path(options.state);
    auto opened = Spool::open(loop, state, grid_of(setup.profile, options.profile), found);
    if (!opened) return failed(opened.error());
    spool = std::move(opened.value());
  }
  // A resource of its own: two workers of one account would else throw each other out, again and again. It stays the same from life to life, since the
  // manager takes results only from whom it gave the attempt to.
  setup.state_is_copied = found.copied;
  setup.profile.account.jid = bare(setup.profile.account.jid) + '/' + setup.nick + '-' + (spool ? found.suffix : random_suffix());
  std::error_code error;
  Surroundings host{task_environment(), fs::absolute(work, error).string(), setup.nick, !setup.offer.gpus.empty()};
  spdlog::info("worker name=\"{}\" version={} slots={} work=\"{}\" namespaces={} manager={} room={}", setup.nick, SOUK_VERSION, slots, host.work,
               executor.has_namespaces(), setup.profile.manager, setup.profile.room);

  if (confining.can) spdlog::info("sandbox level={} mode={} owner={} network={} what=\"{}\"", name_of(level), options.sandbox == SandboxMode::bwrap ? "bwrap" : "auto", confining.owner, options.allow_network, note);
  else if (options.sandbox == SandboxMode::automatic) spdlog::warn("no sandbox: tasks of {} only are run; why=\"{}\"", confining.owner, printable(confining.why_not));
  if (const auto announced = announce(work, setup.nick, options.profile); !announced) spdlog::warn("not announced why=\"{}\"", printable(announced.error().text()));
  owning.slots = slots;
  Owner owner(loop, std::move(owning), rules.value(), began);
  Program program(loop, executor, std::move(setup), std::move(host), owner, spool.get(), std::move(found.restored), std::move(services.value()), options.finish_on_term, confining, images);
  program.start();
  for (;;) {
    try {
      loop.run();
      break;
    } catch (const std::exception& fault) {  // of one handler; the loop goes on with the next
      spdlog::error("fault why=\"{}\"", printable(fault.what()));
    }
  }
  return program.code();
}

}  // namespace
}  // namespace souk::worker

int main(int argc, char** argv) {
  souk::keep_standard_streams();
  souk::keep_freed_memory();
  if (argc > 1 && std::strcmp(argv[1], "join") == 0) return souk::worker::join_main(argc - 1, argv + 1);
  souk::worker::Options options;
  CLI::App app{"Offers this host's slots in a Souk marketplace and runs what the manager sends.", "souk-worker"};
  app.set_version_flag("--version", "souk-worker " SOUK_VERSION);
  app.add_option("--profile", options.profile, "Profile file: who this worker is and which grid (required, but for --drain)")->type_name("FILE");
  app.add_option("--slots", options.slots, "Tasks run at a time (default: one for each processor)")->check(CLI::Range(1, souk::kSlotsMax))->type_name("K");
  app.add_option("--work", options.work, "Working folder, used by this worker alone (default: a private one below $XDG_CACHE_HOME or ~/.cache, or in /var/tmp where that is no disk of this host)")->type_name("DIR");
  app.add_option("--state", options.state, "Folder, of this worker alone, where results are kept until the manager has taken them; none: in memory only (default: with --work, a folder in that; "
                 "else below $XDG_STATE_HOME or ~/.local/state)")->type_name("DIR|none");
  app.add_option("--name", options.name, "Name in the marketplace (default: the host's name)")->check(CLI::Validator(
      [](std::string& name) { return name.empty() || name.size() > 128 || !souk::is_printable(name) || name.find_first_of("\t\r\n") != name.npos ? std::string("1 to 128 bytes of plain text") : std::string(); }, ""))
      ->type_name("NAME");
  app.add_option("--tag", options.tags, "Says something more about this host; jobs can ask for it. May be repeated")->type_name("KEY=VALUE")->take_all()->allow_extra_args(false);
  app.add_option("--resource", options.resources, "Something else that tasks can ask for: so many of it, or things with names, handed out one by one. May be repeated")
      ->type_name("NAME=N|NAME=[A,B]")->take_all()->allow_extra_args(false)->delimiter('\0');
  app.add_option("--service", options.services, "A program that answers tasks' calls and stays: it reads requests from stdin and writes answers to stdout, binary or, behind json:, as JSON lines. COMMAND is a line "
                 "for /bin/sh -c, run in this directory. One process for each slot in use. May be repeated")->type_name("NAME=[json:]COMMAND")->take_all()->allow_extra_args(false)->delimiter('\0');
  app.add_option("--owner", options.owner, "JID of its owner: who can command it from any chat client, and whose tasks are its own (--accept, --sandbox). Default: the account of the profile")->type_name("JID");
  app.add_option("--accept", options.accept, "Whose tasks it runs: mine (its owner's), a person, all of a @domain, a group of the grid's policy, or anyone (default). May be repeated")
      ->type_name("mine|USER@DOMAIN|@DOMAIN|group:NAME|anyone")->take_all()->allow_extra_args(false);
  app.add_option("--speed", options.speed, "Speed of one processor, 1.0 as the reference (default: measured, 15 ms)")->check(CLI::Range(0.1, souk::kSpeedMax))->type_name("X");
  app.add_option_function<std::string>("--finish-on-term", [&options](const std::string& text) {
       const auto time = souk::parse_duration(text);
       if (!time) throw CLI::ValidationError("--finish-on-term", time.error().text());
       options.finish_on_term = time.value();
     }, "When told to stop (TERM, INT), let running tasks end for so long before they are stopped and handed back (default: 0s)")->type_name("TIME");
  app.add_flag("--no-namespace", options.no_namespace, "Run tasks without PID namespaces even where they are allowed");
  const auto rule = [&options](CLI::Option* option) { return option->group("Owner's rules"); };
  const auto text_rule = [&](const std::string& key, const std::string& about, const char* type) {
    rule(app.add_option_function<std::string>("--" + key, [&options, key](const std::string& text) { options.rules[key] = text; }, about)->type_name(type));
  };
  text_rule("only-idle", "Work only when for so long nobody typed anything and others used next to no processor", "10m");
  text_rule("max-load", "Work only while others use at most so many processors", "X");
  text_rule("hours", "Work only then, by this host's clock: \"Mon-Fri 18:00-08:00, Sat-Sun\"", "TIMES");
  rule(app.add_flag_callback("--on-mains", [&options] { options.rules["on-mains"] = "true"; }, "Work only with mains power, not on battery"));
  text_rule("slots-in-use", "While somebody uses this host, go on in so many slots instead of in none", "N");
  text_rule("nice", "Nice level of tasks above the worker's own, 0 to 19", "N");
  text_rule("leave-memory", "Offer so much less memory; start nothing while less than this is available, then hand back", "2GiB");
  text_rule("until", "Leave at that time, or after so long; what cannot end by then is not begun here", "18:00|8h");
  text_rule("grace", "How long tasks stay when a rule is broken, for --when-back (default: 30s)", "TIME");
  text_rule("when-back", "What becomes of tasks when a rule is broken: pause: stopped at once, handed back after the grace (default); hand-back: they run for the grace, then are handed back; finish: they run to their end",
            "pause|hand-back|finish");
  rule(app.add_option("--policy", options.policy, "TOML file of these rules: only-idle = \"10m\". Read again on SIGHUP and when it changes; what is said here wins over it")->type_name("FILE"));
  const char* const sandboxes = "Sandbox (docs/SECURITY.md)";
  app.add_option_function<std::string>("--sandbox", [&options](const std::string& mode) {
       options.sandbox = mode == "none" ? souk::worker::SandboxMode::none : mode == "bwrap" ? souk::worker::SandboxMode::bwrap : souk::worker::SandboxMode::automatic;
     }, "auto: the owner's tasks run as this user, those of others in a sandbox, or not at all where none works (default); bwrap: all in one; none: all as this user")
      ->check(CLI::IsMember({"auto", "none", "bwrap"}))->type_name("auto|none|bwrap")->group(sandboxes);
  app.add_flag("--allow-network", options.allow_network, "Let tasks of others that ask for it use this host's network: all that it reaches, this host's own services too")->group(sandboxes);
  app.add_option("--sandbox-limit", options.bounds, "Most that a task in a sandbox may take: memory, processes (512), file, disk, tmp (256MiB), cpu (time of a process), time. What is not said: as the task asked, or "
                 "its slots' share of this host. May be repeated")->type_name("NAME=AMOUNT")->take_all()->allow_extra_args(false)->group(sandboxes);
  app.add_option("--sandbox-show", options.shown, "A folder that tasks in a sandbox may read besides /usr. May be repeated")->type_name("DIR")->take_all()->allow_extra_args(false)->group(sandboxes);
  app.add_option("--image", options.images, "An image of this user's podman: tasks that name it have its programs and libraries in their sandbox, in place of this host's. Unpacked once, below $XDG_CACHE_HOME "
                 "or ~/.cache; podman runs nothing. May be repeated")->type_name("NAME")->take_all()->allow_extra_args(false)->group(sandboxes);
  app.add_flag("--image-pull", options.pull, "Fetch what podman does not have of these (podman pull); else that is an error")->group(sandboxes);
  app.add_flag("--drain", options.drain, "Tell the running worker of this --work, --name or --profile to drain: finish, accept nothing new, then exit")->group("Another worker");
  app.add_flag("--wait", options.wait, "With --drain: wait until it has ended")->group("Another worker");
  app.add_flag("--only-options", options.only_options)->group("");  // for `join`: whether they are good, before an invitation is spent
  app.add_option("--log-level", options.log_level, "trace, debug, info, warn, error or off (default: info)")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))->type_name("LEVEL");
  app.footer(
      "Signals: TERM and INT hand back what waits and what runs, hand over what has ended, and stop, within 4 s; --finish-on-term lets tasks end first. So does\n"
      "HUP without --policy. A second one stops at once. USR1 drains: finish, accept nothing new, then exit. USR2 pauses and resumes.\n"
      "As a service of systemd: KillMode=mixed, and TimeoutStopSec above --finish-on-term.\n"
      "Results are on disk (--state) before they are handed over, until the manager has them: whatever kills this worker, its next life hands them over; those of service\n"
      "calls that took under a millisecond are made again instead.\n"
      "What cannot be found out about a host breaks no rule. Tasks that are handed back run again elsewhere, and it counts as no failure of theirs.\n"
      "Exit code: 0 stopped or drained, 2 usage, 3 cannot work (profile, login, folder).\n"
      "Examples:\n"
      "  souk-worker join 'xmpp:grid.example.edu?register;preauth=...'      by an invitation, in one command: souk-worker join --help\n"
      "  souk-worker --profile ~/.souk/worker.toml\n"
      "  souk-worker --profile lab.toml --slots 4 --name lab-7 --tag gpu=a100 --tag room=2.14\n"
      "  souk-worker --profile lab.toml --resource license.matlab=2 --resource fpga=[left,right]\n"
      "  souk-worker --profile lab.toml --service word-count=/srv/souk/wordcount.py --service model=json:/srv/model/serve\n"
      "  souk-worker --profile desk.toml --only-idle 10m --nice 10 --leave-memory 2GiB      only when nobody needs this desk\n"
      "  souk-worker --profile desk.toml --slots-in-use 1 --hours \"Mon-Fri 18:00-08:00, Sat-Sun\" --on-mains\n"
      "  souk-worker --profile night.toml --until 07:30 --when-back hand-back --grace 5m\n"
      "  souk-worker --profile desk.toml --owner ada@grid.example --sandbox-limit memory=2GiB --sandbox-limit time=8h      strangers' tasks in a sandbox\n"
      "  souk-worker --profile lab.toml --image debian:12 --image localhost/lab:3      what jobs with --image need, whatever this host has\n"
      "  souk-worker --profile home.toml --owner ada@example.edu --accept mine --accept group:friends\n"
      "  souk-worker --drain --name lab-7 --wait      leave when what runs has ended");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : souk::worker::kUsage;
  }
  try {
    spdlog::set_default_logger(spdlog::stderr_logger_st("souk-worker"));
    spdlog::default_logger()->sinks().push_back(souk::worker::last_lines());
    souk::set_log_format();
    spdlog::set_level(spdlog::level::from_str(options.log_level));
    return souk::worker::run(options);
  } catch (const std::exception& error) {  // its text is for people already: Executor
    return souk::worker::failed({"cannot start", error.what(), ""});
  }
}
