#include "worker/process.h"

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>
#include <climits>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <optional>
#include <poll.h>
#include <stdexcept>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

#include "protocol/offer.h"
#include "worker/folder.h"
#include "worker/leftovers.h"
#include "worker/runner_clock.h"
#include "worker/runner_start.h"
#include "worker/runner_wire.h"
#include "worker/sandbox.h"

namespace souk {
namespace {

namespace asio = boost::asio;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr const char* kLockFile = ".souk-work";     // marks a folder as made by an executor; locked while one, or any runner of it, lives
constexpr const char* kStateFolder = ".souk-state";  // of the worker's results, by default (main.cpp); not ours to sweep
constexpr milliseconds kReadyMax{10000};            // for runners to start
constexpr milliseconds kLockedMax{5000};            // for an executor that was killed to be gone
constexpr milliseconds kLeftMax{1500};              // for its runners to go by themselves, which they do at once unless something keeps them
constexpr milliseconds kLeaveMax{4000};             // for runners to end; longer than they take to give up themselves
constexpr milliseconds kLookEvery{1000};            // at runners that have work, whether they are stopped
constexpr int kStoppedMax = 5;                      // looks more that find one stopped, after it was woken, than find it at work
constexpr milliseconds kStopSlack{5000};            // after the grace of an attempt that is told to stop: more than the runner needs for what does not die
constexpr milliseconds kTidyMax{1000};              // for files that were left, at the start and at the end; there may be millions, or it may be a slow disk
constexpr const char* kLeftFolder = ".souk-left-";  // and a number: what there was no time for
constexpr int kSweepRounds = 20;                    // of 5 ms, on the loop
constexpr std::size_t kOutputKeptMapped = 1 << 20;  // pages of the shared output that stay allocated from attempt to attempt

[[noreturn]] void refuse(const std::string& what, const std::string& why, const std::string& remedy = "") {
  throw std::runtime_error(Error{what, why, remedy}.text());
}

/// Locks it, waiting so long: 0 or an errno. No event tells that somebody let go: so look.
int lock_within(milliseconds most, int file) {
  for (const auto until = steady_clock::now() + most; flock(file, LOCK_EX | LOCK_NB) != 0; usleep(5000))
    if (errno != EWOULDBLOCK || steady_clock::now() > until) return errno;
  return 0;
}

/// For people, in messages that must be UTF-8: other bytes and control characters become '?'.
std::string readable(std::string_view text) {
  constexpr std::size_t kShown = 200;
  std::string shown;
  for (std::size_t i = 0; i < text.size();) {
    if (shown.size() >= kShown) return shown + "...";
    const auto byte = static_cast<unsigned char>(text[i]);
    const std::size_t length = byte < 0x80 ? 1 : byte >= 0xc2 && byte < 0xe0 ? 2 : byte >= 0xe0 && byte < 0xf0 ? 3 : byte >= 0xf0 && byte < 0xf5 ? 4 : 0;
    bool whole = length != 0 && i + length <= text.size() && byte != 0x7f && byte >= 0x20;
    for (std::size_t k = 1; whole && k < length; ++k) whole = (static_cast<unsigned char>(text[i + k]) & 0xc0) == 0x80;
    if (whole && length > 2) {  // no other spelling of a shorter one, no surrogate, nothing past U+10FFFF
      const auto second = static_cast<unsigned char>(text[i + 1]);
      whole = !((byte == 0xe0 && second < 0xa0) || (byte == 0xed && second > 0x9f) || (byte == 0xf0 && second < 0x90) || (byte == 0xf4 && second > 0x8f));
    }
    shown.append(whole ? text.substr(i, length) : std::string_view("?"));
    i += whole ? length : 1;
  }
  return shown;
}

std::string in_quotes(std::string_view text) { return "'" + readable(text) + "'"; }

/// What is wrong with a launch, or nothing.
std::string objection(const Launch& launch) {
  if (launch.argv.empty()) return "there is no program to run: the list of arguments is empty";
  if (launch.folder.empty() || launch.folder == "." || launch.folder == ".." || launch.folder.front() == '.' || launch.folder.size() > NAME_MAX ||
      launch.folder.find_first_of(std::string_view("/\0", 2)) != std::string::npos)
    return "the name of its working folder, " + in_quotes(launch.folder) + ", is not a plain file name";
  for (std::size_t i = 0; i < launch.argv.size(); ++i)
    if (launch.argv[i].find('\0') != std::string::npos) return "argument " + std::to_string(i) + " holds a NUL byte, which no program can be given; hand such data over as input";
  for (const auto& [name, value] : launch.env)
    if (name.empty() || name.find_first_of(std::string_view("=\0", 2)) != std::string::npos || value.find('\0') != std::string::npos)
      return "environment variable " + in_quotes(name.c_str()) + " has no name, or holds '=' in its name or a NUL byte";
  return "";
}

std::string why_not_started(const Launch& launch, std::size_t bytes, const runner::Report& report, const std::string& work) {
  const std::string program = in_quotes(launch.argv.front()), reason = text_of(report.error);
  const std::string where = launch.box && !launch.box->image.empty() ? "in image " + in_quotes(launch.box->image) : "on the worker";
  switch (report.failed) {
    case runner::Failed::nothing: return "";
    case runner::Failed::message: return "its launch did not reach the runner: " + reason;
    case runner::Failed::folder: return "cannot make its working folder " + in_quotes(work + "/" + launch.folder) + ": " + reason;
    case runner::Failed::pipes: return "cannot make pipes for its output: " + reason;
    case runner::Failed::clone: return "the worker may start no more processes: " + reason;
    case runner::Failed::descriptors: return "cannot connect its input and output: " + reason;
    case runner::Failed::chdir: return "cannot enter its working folder " + in_quotes(work + "/" + launch.folder) + ": " + reason;
    case runner::Failed::interpreter:
      return "program " + program + " is " + where + ", but not what it names to run it: the interpreter in its '#!' line, or the loader of its libraries";
    case runner::Failed::not_found: {
      if (launch.argv.front().find('/') != std::string::npos)
        return "program " + program + " not found " + where + (launch.argv.front().front() == '/' ? "" : "; its path was looked up in the empty working folder of the attempt");
      std::string path = "/usr/local/bin:/usr/bin:/bin";
      for (const auto& [name, value] : launch.env)
        if (name == "PATH") path = value;
      return "program " + program + " not found in PATH " + (where.starts_with("in ") ? where : "of the worker") + " (" + readable(path) + ")";
    }
    case runner::Failed::exec: break;
  }
  switch (report.error) {
    case EACCES: return "permission denied: program " + program + " is not executable for the user of the worker";
    case E2BIG:
      return "argument list too long: arguments and environment take " + std::to_string(bytes) +
             " bytes; a system takes about 2 MiB in all and 128 KiB in one; hand large data over as input";
    case ENOEXEC: return "program " + program + " is not made for this machine: " + reason;
    case ETXTBSY: return "program " + program + " is being written by somebody: " + reason;
    default: return "program " + program + " cannot be run: " + reason;
  }
}

}  // namespace

// ---- The executor -----------------------------------------------------------------------------------------------------------
//
// Slot:    idle --start--> busy --report--> idle, or busy with what was lined up: its runner began that by itself when it had sent the report
// Runner:  none --start--> alive --report--> alive
//                          alive --socket closed, or a report that says `unclean`--> leaving --ended--> none
// While a runner leaves with an attempt, its slot stays busy: the attempt ends when all of it is gone, or after kLeaveMax.
//
// A runner can be stopped (SIGSTOP) like any process: by its task, without namespaces, or from the host. It is woken, since its attempt has a time limit and
// its worker something to say; one that is found stopped again and again is killed, and its attempt is lost.

class Executor::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(asio::io_context& loop, int slots, std::filesystem::path work, std::filesystem::path program, int locked, int spare)
      : loop_(loop), look_(loop), work_(std::filesystem::absolute(std::move(work))), program_(std::filesystem::absolute(std::move(program)).string()), folder_(locked) {
    if (slots < 1 || slots > kSlotsMax) refuse("cannot run attempts", "slots is " + std::to_string(slots), "give a number from 1 to " + std::to_string(kSlotsMax));
    take_folder();
    const char* wanted = std::getenv("SOUK_NAMESPACES");
    namespaces_ = wanted == nullptr || std::string_view(wanted) != "0";
    slots_.resize(static_cast<std::size_t>(slots + std::max(0, spare)));
    ready_ = static_cast<std::size_t>(slots);
    for (std::size_t i = 0; i < ready_; ++i)
      if (!make_output(slots_[i])) refuse("cannot make slot " + std::to_string(i), text_of(errno), "raise the limit of open files (ulimit -n)");
  }

  /// After the constructor, since handlers hold weak pointers to this.
  void start_runners() {
    if (!namespaces_ && !std::exchange(adopts_, true)) adopt_orphans(true);  // a task can kill its runner and the guard above that
    for (std::size_t i = 0; i < ready_; ++i)
      if (const std::string why = revive(slots_[i]); !why.empty()) refuse("cannot start runner '" + program_ + "'", why, "build and install souk-runner beside souk-worker");
    const auto until = steady_clock::now() + kReadyMax;
    for (std::size_t i = 0; i < ready_; ++i) {
      Slot& slot = slots_[i];
      pollfd ready{slot.runner->socket.native_handle(), POLLIN, 0};
      runner::Hello hello;
      ssize_t n = -1;
      for (;;) {
        const auto left = std::chrono::ceil<milliseconds>(until - steady_clock::now()).count();
        if (poll(&ready, 1, static_cast<int>(std::max<long>(left, 0))) == 0) refuse("cannot start runners", "one was not ready after " + std::to_string(kReadyMax.count()) + " ms");
        n = recv(ready.fd, &hello, sizeof hello, MSG_DONTWAIT);
        if (n >= 0 || (errno != EINTR && errno != EAGAIN)) break;
      }
      if (n == 0) refuse("cannot start runner '" + program_ + "'", "it ended at once");
      if (n != sizeof hello || hello.build != runner::kBuild) refuse("cannot start runner '" + program_ + "'", "it is of another build than this worker", "install both together");
      if (hello.failure != 0) {  // a namespace, but without a /proc of its own: programs in it would be lost
        namespaces_ = false;
        end_runners();
        return start_runners();
      }
      slot.runner->greeted(hello.pid);
    }
    for (std::size_t i = 0; i < ready_; ++i) listen(slots_[i], slots_[i].runner);
    clear_away();
  }

  ~Impl() { end_runners(); }

  void shut() {
    for (Slot& slot : slots_) slot.finished = nullptr, slot.next.reset();
    end_runners();
  }

  void start(int number, Launch launch, std::function<void(Outcome)> finished) {
    if (number < 0 || static_cast<std::size_t>(number) >= slots_.size()) return refuse_launch("there is no slot " + std::to_string(number), std::move(finished));
    Slot& slot = slots_[static_cast<std::size_t>(number)];
    if (slot.finished) return refuse_launch("slot " + std::to_string(number) + " runs another attempt", std::move(finished));
    slot.finished = std::move(finished);
    slot.serial = ++serial_;
    slot.launch = std::move(launch);
    slot.output_at = 0;
    begin(slot);
  }

  void line_up(int number, Launch launch, std::function<void(Outcome)> finished, std::function<void()> recalled) {
    if (number < 0 || static_cast<std::size_t>(number) >= slots_.size()) return refuse_launch("there is no slot " + std::to_string(number), std::move(finished));
    Slot& slot = slots_[static_cast<std::size_t>(number)];
    if (!slot.finished) return start(number, std::move(launch), std::move(finished));
    if (slot.next) return refuse_launch("something is lined up in slot " + std::to_string(number) + " already", std::move(finished));
    Next& next = slot.next.emplace(Next{std::move(finished), std::move(recalled), ++serial_, std::move(launch), 0, slot.output_at == 0 ? 2 * kOutputMax : 0, nullptr});
    next.launch.output_max = std::min(next.launch.output_max, kOutputMax);
    if (!slot.runner || !can_follow(slot, next.launch) || next.launch.streams.in >= 0 || !objection(next.launch).empty()) return;
    if (send_launch(slot, next.launch, next.serial, next.output_at, next.bytes, true).empty()) next.sent_to = slot.runner;
  }

  void recall(int number) {
    if (number < 0 || static_cast<std::size_t>(number) >= slots_.size()) return;
    Slot& slot = slots_[static_cast<std::size_t>(number)];
    if (!slot.next) return;
    if (slot.next->sent_to && slot.next->sent_to == slot.runner) return tell(slot, runner::Kind::recall, slot.next->serial);
    asio::post(loop_, [weak = weak_from_this(), &slot, serial = slot.next->serial] {
      if (const auto self = weak.lock()) recalled(slot, serial);
    });
  }

 private:
  struct Slot;

  static void recalled(Slot& slot, std::uint64_t serial) {
    if (!slot.next || slot.next->serial != serial) return;  // it has begun meanwhile
    const auto tell = std::move(slot.next->recalled);
    slot.next.reset();
    tell();
  }

  /// What the slot has is new.
  void renew(Slot& slot, bool came_ahead) {
    slot.stopping = slot.sent_again = slot.paused = slot.late = false;
    slot.only_launched = !came_ahead;
    slot.stopped = 0;
    slot.lost_why.clear();
    slot.started = steady_clock::now();
    slot.ends_by = ends_by(slot.launch, slot.started);
    watch();
  }

  void begin(Slot& slot) {
    slot.launch.output_max = std::min(slot.launch.output_max, kOutputMax);
    renew(slot, false);
    if (std::string why = objection(slot.launch); !why.empty()) return not_started_later(slot, std::move(why));
    if (std::string why = send_launch(slot); !why.empty()) not_started_later(slot, std::move(why));
  }

  /// The one before has ended, and been read.
  void promote(Slot& slot) {
    if (!slot.next) return;
    Next next = std::move(*slot.next);
    slot.next.reset();
    slot.finished = std::move(next.finished);
    slot.serial = next.serial;
    slot.launch = std::move(next.launch);
    slot.bytes = next.bytes;
    slot.output_at = next.output_at;
    if (next.sent_to && next.sent_to == slot.runner) renew(slot, true);
    else begin(slot);
  }

 public:
  void stop(int number) {
    if (number < 0 || static_cast<std::size_t>(number) >= slots_.size()) return;
    Slot& slot = slots_[static_cast<std::size_t>(number)];
    if (!slot.finished || slot.stopping) return;
    slot.stopping = true;
    slot.ends_by = steady_clock::now() + std::chrono::microseconds(in_us(slot.launch.grace)) + kStopSlack;
    tell(slot, runner::Kind::stop);
    if (slot.runner) slot.runner->wake();
  }

  void pause(int number, bool paused) {
    if (number < 0 || static_cast<std::size_t>(number) >= slots_.size()) return;
    Slot& slot = slots_[static_cast<std::size_t>(number)];
    if (!slot.finished || std::exchange(slot.paused, paused) == paused) return;
    const auto now = steady_clock::now();
    if (paused) slot.paused_at = now;
    else if (!slot.stopping && slot.ends_by != steady_clock::time_point::max()) slot.ends_by += now - slot.paused_at;  // a limit counts the time it could run
    tell(slot, paused ? runner::Kind::pause : runner::Kind::resume);
  }

  bool has_namespaces() const { return namespaces_; }

  void use(std::shared_ptr<const Sandbox> sandbox) { sandbox_ = std::move(sandbox); }

 private:
  struct Next {  // lined up
    std::function<void(Outcome)> finished;
    std::function<void()> recalled;
    std::uint64_t serial = 0;
    Launch launch;
    std::size_t bytes = 0;
    std::uint64_t output_at = 0;
    std::shared_ptr<Runner> sent_to;  // has it already; null: it is sent when its turn comes
  };
  struct Slot {
    std::shared_ptr<Runner> runner;  // null: started with the next attempt
    std::string box;                 // what its sandbox is for; empty: it has none
    ControlGroups::Group group;
    std::uint64_t killed_for_memory = 0;
    bool doubtful = false;  // the kernel killed for memory when what runs may have begun already, or the one before it had not ended
    Fd output;
    std::function<void(Outcome)> finished;  // of the attempt that runs; empty: idle
    std::uint64_t serial = 0;
    Launch launch;
    std::size_t bytes = 0;  // of its strings
    std::uint64_t output_at = 0;  // in `output`, of what runs; what is lined up has the other half
    std::optional<Next> next;
    bool stopping = false, sent_again = false, paused = false;
    bool only_launched = true;  // since its runner said something it was told of this launch alone, so if it has not read all, this has not begun
    int stopped = 0;         // looks that found its runner stopped
    std::string lost_why;    // why we killed its runner
    steady_clock::time_point started, paused_at;
    steady_clock::time_point ends_by;  // by itself, its limit or a stop, as its runner sees to; later, the runner is killed
    bool late = false;                 // that was at its limit
    std::string to_clean;  // folder that a runner left when it died
  };

  void tell(Slot& slot, runner::Kind what) { tell(slot, what, slot.serial); }
  static void tell(Slot& slot, runner::Kind what, std::uint64_t serial) {
    if (!slot.runner) return;  // it could not start, or its runner died: its end is on the way
    slot.only_launched = false;
    runner::Request request;
    request.kind = what;
    request.serial = serial;
    (void)!send(slot.runner->socket.native_handle(), &request, sizeof request, MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  void take_folder() {
    const std::string what = "cannot use '" + work_.string() + "' as working folder";
    std::error_code failure;
    const bool was_there = std::filesystem::exists(work_, failure);
    if (!was_there) {
      std::filesystem::create_directories(work_, failure);
      if (failure) refuse(what, failure.message());
      chmod(work_.c_str(), 0700);
    }
    if (folder_.get() < 0) folder_.reset(open(work_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder_.get() < 0) refuse(what, text_of(errno));
    const bool is_ours = faccessat(folder_.get(), kLockFile, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
    // Whoever names his home by mistake must not lose it.
    if (!is_ours && std::filesystem::directory_iterator(work_, failure) != std::filesystem::directory_iterator())
      refuse(what, "it holds files that no worker made", "give an empty or a new folder: what is in it gets removed");
    lock_.reset(openat(folder_.get(), kLockFile, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600));
    if (lock_.get() < 0) refuse(what, text_of(errno));
    // The folder is locked by an executor, the file in it by that and its runners and guards: until the last of all is gone.
    const int shared = lock_within(kLockedMax, folder_.get());  // another failure than this: no locks of folders here
    if (shared == EWOULDBLOCK) refuse(what, "another worker uses it", "give each worker its own");
    int held = lock_within(shared == 0 ? kLeftMax : kLockedMax, lock_.get());
    // Nobody living has the folder, and so nobody living has what carries its mark: runners that cannot go by themselves, or tasks of runners and guards that were
    // killed with their worker and could sweep no more.
    mark_ = mark_of(lock_.get());
    if (shared == 0 || held == 0) {
      const std::vector<pid_t> living = kill_marked(mark_);
      if (held == EWOULDBLOCK) held = lock_within(kLeftMax, lock_.get());
      if (held == EWOULDBLOCK) {
        std::string who;
        for (const pid_t pid : living) who.append(who.empty() ? "" : ", ").append(std::to_string(pid));
        if (living.empty()) refuse(what, "no worker uses it, but some process holds its lock, " + (work_ / kLockFile).string(), "end that process (fuser shows it), or give another folder");
        refuse(what, "a worker that was killed left processes that cannot be killed: " + who, "they wait for a device or a server, or run as another user: end them, or give another folder");
      }
    }
    if (held != 0) refuse(what, held == EWOULDBLOCK ? "another worker uses it, or one that was killed left processes" : text_of(held), "give each worker its own");
    std::vector<std::string> names;
    for (const auto& entry : std::filesystem::directory_iterator(work_, failure))
      if (entry.path().filename() != kLockFile && entry.path().filename() != kStateFolder) names.push_back(entry.path().filename().string());
    const std::int64_t until = runner::now_us() + in_us(kTidyMax);
    for (const auto& name : names) {
      if (remove_tree(folder_.get(), name.c_str(), until) == 0) continue;
      std::string aside = kLeftFolder + std::to_string(left_.size()) + "-" + std::to_string(getpid());  // its name may be needed
      if (name.size() < aside.size() && name.starts_with(kLeftFolder)) aside = name;
      if (renameat(folder_.get(), name.c_str(), folder_.get(), aside.c_str()) == 0) left_.push_back(std::move(aside));  // what stays is in nobody's way
    }
  }

  /// What there was no time for, beside all else.
  void clear_away() {
    Slot aside;
    if (left_.empty() || !revive(aside).empty()) return;
    for (const auto& name : std::exchange(left_, {})) clean(*aside.runner, name);
    aside.runner->only_cleans = true;
    leave(aside.runner, nullptr, false);
  }

  // ---- Runners that are stopped, or do not answer

  void watch() {
    if (std::exchange(watching_, true)) return;
    look_.expires_after(kLookEvery);
    look_.async_wait([weak = weak_from_this()](const boost::system::error_code& failure) {
      if (const auto self = weak.lock(); self && !failure) self->look();
    });
  }

  void look() {
    watching_ = false;
    if (unreaped_) sweep_adopted();
    for (Slot& slot : slots_) {
      if (!slot.finished) continue;
      watch();
      if (!slot.runner) continue;  // one that leaves
      if (slot.runner->is_stopped()) {
        slot.runner->wake();
        if (++slot.stopped > kStoppedMax) dismiss(slot, "its runner was stopped (SIGSTOP) again and again, by the attempt itself or from outside");
      } else if (slot.stopped > 0) {
        --slot.stopped;
      }
      if (!slot.runner || steady_clock::now() <= slot.ends_by || (slot.paused && !slot.stopping)) continue;
      slot.late = !slot.stopping;
      dismiss(slot, slot.stopping ? "its runner did not end it when it was told to" : "its runner did not end it at its time limit");
    }
  }

  void dismiss(Slot& slot, const char* why) {
    slot.lost_why = why;
    slot.runner->kill_runner();
    lose(slot);
  }

  /// When its runner has ended it for certain, as long as nothing keeps that from its work, as a task in the same sandbox may. Without a limit, or bare: no such time.
  static steady_clock::time_point ends_by(const Launch& launch, steady_clock::time_point started) {
    const std::int64_t limit = limit_us(launch);
    if (!launch.box || limit == 0) return steady_clock::time_point::max();
    return started + std::chrono::microseconds(limit + in_us(launch.grace)) + kStopSlack;
  }

  static std::int64_t limit_us(const Launch& launch) { return in_us(launch.box && launch.box->bounds.time.count() > 0 ? launch.box->bounds.time : launch.time_limit); }

  /// The last part of a path.
  static std::string fs_name(const std::string& path) { return std::filesystem::path(path).filename().string(); }

  /// Attempts of the same may have one sandbox after another. Bounds that each has for itself are no matter.
  static std::string use_of(const Launch& launch) {
    if (!launch.box) return "";
    return launch.box->key + (launch.box->network ? " network " : " ") + (launch.box->gpus ? "gpus " : "") + std::to_string(launch.box->bounds.tmp) + ' ' + launch.box->image;
  }

  /// Whether that runner may run it when it has what it has now: bare after bare, or in the same sandbox, whose control group bounds both alike. Should the first
  /// leave something in there, the runner takes no other, and the next goes to a new one.
  static bool can_follow(const Slot& slot, const Launch& next) {
    if (slot.box != use_of(next)) return false;
    if (!next.box || !slot.group.exists()) return true;
    return slot.launch.box && slot.launch.box->bounds.memory == next.box->bounds.memory && slot.launch.box->bounds.processes == next.box->bounds.processes;
  }

  /// Makes ready what limits the sandbox of the next attempt; answers why not.
  std::string limit(Slot& slot, int number) {
    const Bounds& bounds = slot.launch.box->bounds;
    if (!sandbox_) return "this worker has no sandbox";
    if (const std::string& image = slot.launch.box->image; !image.empty() && !sandbox_->has_image(image)) return "this worker does not offer image " + in_quotes(image);
    if (sandbox_->groups().kind() == ControlGroups::Kind::none) return "";
    if (!slot.group.exists()) slot.group = sandbox_->groups().make(number);
    if (!slot.group.exists() || !slot.group.limit(bounds.memory, bounds.processes)) return "cannot limit its memory and processes by a control group: " + text_of(errno);
    slot.killed_for_memory = slot.group.killed_for_memory();
    slot.doubtful = false;
    return "";
  }

  static bool make_output(Slot& slot) {
    slot.output.reset(memfd_create("souk-output", MFD_CLOEXEC));
    return slot.output.get() >= 0 && ftruncate(slot.output.get(), 4 * kOutputMax) == 0;
  }

  /// Starts the slot's runner; answers why not.
  std::string revive(Slot& slot) {
    if (slot.output.get() < 0 && !make_output(slot)) return text_of(errno);
    RunnerPlace place{program_, work_.string(), slot.output.get(), lock_.get()};
    place.mark = mark_of_runner(mark_, ++runners_);
    std::string folder;
    std::vector<std::string> words;
    Fd filter;
    if (slot.launch.box) {
      folder = runner::kBoxFolder + std::to_string(runners_);
      if (mkdirat(folder_.get(), folder.c_str(), 0700) != 0) return "cannot make its folder: " + text_of(errno);
      const Gate& gate = sandbox_->gate();
      if (gate.closed() && fchownat(folder_.get(), folder.c_str(), gate.user, gate.user, AT_SYMLINK_NOFOLLOW) != 0) return "cannot give away its folder: " + text_of(errno);
      place.gate = &gate;
      words = sandbox_->command(fs_name(folder), *slot.launch.box);
      filter = sandbox_->filter();
      if (filter.get() < 0) return "cannot read the filter of its sandbox: " + text_of(errno);
      place.box = &words;
      place.filter = filter.get();
      for (const Fd& door : slot.group.doors()) place.doors.push_back(door.get());
    }
    auto started = start_runner(loop_, place, namespaces_);
    if (!started) {
      if (!folder.empty()) unlinkat(folder_.get(), folder.c_str(), AT_REMOVEDIR);
      return started.error().text();
    }
    slot.runner = started.value();
    slot.runner->folder = std::move(folder);
    slot.box = use_of(slot.launch);
    return "";
  }

  /// Sends the launch to the slot's runner, which is started if it is not there; answers why not.
  std::string send_launch(Slot& slot) {
    if (slot.launch.box)
      if (std::string why = limit(slot, static_cast<int>(&slot - slots_.data())); !why.empty()) return why;
    return send_launch(slot, slot.launch, slot.serial, slot.output_at, slot.bytes, false);
  }
  /// ahead: only to the runner that is there.
  std::string send_launch(Slot& slot, const Launch& launch, std::uint64_t serial, std::uint64_t output_at, std::size_t& bytes, bool ahead) {
    runner::Request request;
    request.argc = static_cast<std::uint32_t>(launch.argv.size());
    request.envc = static_cast<std::uint32_t>(launch.env.size());
    request.serial = serial;
    request.output_at = output_at;
    request.limit_us = limit_us(launch);
    if (launch.box) {
      const Bounds& bounds = launch.box->bounds;
      if (!slot.group.exists()) request.memory = bounds.memory, request.processes = bounds.processes;  // RLIMIT_NPROC counts all of that user's
      request.file = bounds.file, request.disk = bounds.disk;
      request.cpu_s = static_cast<std::uint64_t>(bounds.cpu.count() + 999) / 1000;
    }
    request.grace_us = in_us(launch.grace);
    request.output_max = launch.output_max;
    request.nice = launch.nice;
    request.streams = launch.streams.in >= 0;
    request.input = !launch.input.empty() && !request.streams;
    message_.assign(sizeof request, '\0');
    const auto add = [this](std::string_view text) { message_.append(text).push_back('\0'); };
    add(launch.folder);
    std::string processors;
    for (const int processor : launch.processors) processors.append(processors.empty() ? "" : ",").append(std::to_string(processor));
    add(processors);
    for (const auto& argument : launch.argv) add(argument);
    for (const auto& [name, value] : launch.env) message_.append(name).push_back('='), add(value);
    request.size = bytes = message_.size() - sizeof request;
    request.large = message_.size() > runner::kMessageMax;
    runner::Report too_long;
    too_long.failed = runner::Failed::exec;
    too_long.error = E2BIG;
    if (request.size > runner::kLaunchMax) return why_not_started(launch, bytes, too_long, work_.string());
    memcpy(message_.data(), &request, sizeof request);

    Fd large, input;  // input as a memfd needs no feeder, no SIGPIPE and no wake-ups
    int given[runner::kGivenMax], count = 0;
    if (request.large) {
      large = memory_file("souk-launch", std::string_view(message_).substr(sizeof request));
      if (large.get() < 0) return "cannot hand over its arguments: " + text_of(errno);
      given[count++] = large.get();
    }
    if (request.input) {
      input = memory_file("souk-input", launch.input);
      if (input.get() < 0) return "cannot hand over its input: " + text_of(errno);
      given[count++] = input.get();
    }
    if (request.streams)
      for (const int stream : {launch.streams.in, launch.streams.out, launch.streams.err}) given[count++] = stream;
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof given)] = {};
    iovec part{message_.data(), request.large ? sizeof request : message_.size()};
    msghdr m{};
    m.msg_iov = &part;
    m.msg_iovlen = 1;
    if (count != 0) {
      m.msg_control = control;
      m.msg_controllen = CMSG_SPACE(sizeof(int) * static_cast<std::size_t>(count));
      cmsghdr* c = CMSG_FIRSTHDR(&m);
      c->cmsg_level = SOL_SOCKET;
      c->cmsg_type = SCM_RIGHTS;
      c->cmsg_len = CMSG_LEN(sizeof(int) * static_cast<std::size_t>(count));
      memcpy(CMSG_DATA(c), given, sizeof(int) * static_cast<std::size_t>(count));
    }
    if (ahead) return sendmsg(slot.runner->socket.native_handle(), &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0 ? "" : text_of(errno);
    if (slot.runner && slot.box != use_of(slot.launch)) leave(slot.runner, nullptr, false);
    for (int tries = 0;; ++tries) {
      const bool is_new = !slot.runner;
      if (is_new)
        if (std::string why = revive(slot); !why.empty()) return "cannot start runner '" + program_ + "': " + why;
      if (is_new && !slot.to_clean.empty() && !slot.runner->boxed) clean(*slot.runner, std::exchange(slot.to_clean, ""));
      if (sendmsg(slot.runner->socket.native_handle(), &m, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0) {
        if (is_new) listen(slot, slot.runner);
        if (slot.paused) tell(slot, runner::Kind::pause);
        return "";
      }
      if (tries != 0) return "its runner takes no messages: " + text_of(errno);
      leave(slot.runner);  // it died since the last attempt
    }
  }

  /// What a sandbox left. Nearly always that is empty; else a runner without one removes it, which may take long, and ends.
  void remove_box(const std::string& folder) {
    if (unlinkat(folder_.get(), folder.c_str(), AT_REMOVEDIR) == 0 || errno == ENOENT) return;
    Slot aside;
    if (!revive(aside).empty()) return;  // the next worker of the folder removes it
    clean(*aside.runner, folder);
    aside.runner->only_cleans = true;
    leave(aside.runner, nullptr, false);
  }

  static void clean(Runner& runner, const std::string& folder) {
    runner::Request request;
    request.kind = runner::Kind::clean;
    std::string message(reinterpret_cast<const char*>(&request), sizeof request);
    message += folder;
    (void)!send(runner.socket.native_handle(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
  }

  static std::int64_t in_us(milliseconds time) {
    constexpr milliseconds kTimeMax = std::chrono::hours(24 * 365 * 100);
    return std::chrono::microseconds(std::clamp(time, milliseconds(0), kTimeMax)).count();
  }

  void listen(Slot& slot, const std::shared_ptr<Runner>& runner) {
    runner->socket.async_wait(asio::posix::stream_descriptor::wait_read, [weak = weak_from_this(), &slot, runner](const boost::system::error_code& failure) {
      const auto self = weak.lock();
      if (failure || !self || slot.runner != runner) return;
      self->receive(slot, runner);
    });
  }

  void receive(Slot& slot, const std::shared_ptr<Runner>& runner) {
    union {
      runner::Kind kind;
      runner::Hello hello;
      runner::Report report;
    } message{};
    const ssize_t n = recv(runner->socket.native_handle(), &message, sizeof message, MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) return listen(slot, runner);
    // Reset, not closed: it ended with messages unread (unix(7)). If only the launch was sent, that has not begun, and goes to a new runner,
    // but for streams that were given: who gave them has closed them since, and their numbers may be those of other files.
    // With one lined up it is not known which of both it did not read; its last reports, if any, come behind this.
    if (n < 0 && errno == ECONNRESET && slot.finished && slot.next) return listen(slot, runner);
    if (n < 0 && errno == ECONNRESET && slot.finished && slot.only_launched && runner->ready && !slot.sent_again && slot.launch.streams.in < 0) {
      slot.sent_again = true;
      leave(slot.runner);
      if (std::string why = send_launch(slot); !why.empty()) not_started_later(slot, std::move(why));
      return;
    }
    if (n == sizeof message.hello && message.kind == runner::Kind::hello && message.hello.build == runner::kBuild) {
      if (message.hello.failure == 0) runner->greeted(message.hello.pid);
      return listen(slot, runner);
    }
    if (n != sizeof message.report || message.kind != runner::Kind::report) return lose(slot);
    const runner::Report& report = message.report;
    if (report.recalled) {
      listen(slot, runner);
      return recalled(slot, report.serial);
    }
    if (!slot.finished || report.serial != slot.serial) return listen(slot, runner);
    Outcome outcome = outcome_of(slot, report);
    if (report.unclean) leave(slot.runner);
    else if (report.touched) leave(slot.runner, nullptr, false);
    else listen(slot, runner);
    finish(slot, std::move(outcome));
  }

  Outcome outcome_of(Slot& slot, const runner::Report& report) {
    Outcome outcome;
    outcome.wall = std::chrono::microseconds(report.wall_us);
    outcome.cpu = std::chrono::microseconds(report.cpu_us);
    outcome.peak_memory_kib = static_cast<std::uint64_t>(std::max<std::int64_t>(report.peak_kib, 0));
    std::size_t kept = 0;
    for (int i : {0, 1}) {
      if (report.kept[i] == 0) continue;
      std::string& to = i != 0 ? outcome.err : outcome.out;
      to.resize(std::min<std::size_t>(report.kept[i], slot.launch.output_max));
      const ssize_t n = pread(slot.output.get(), to.data(), to.size(), static_cast<off_t>(slot.output_at + (i != 0 ? slot.launch.output_max : 0)));
      to.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
      kept += to.size();
    }
    // Give back what a large output took, or it stays allocated for as long as the slot lives.
    if (kept > kOutputKeptMapped) fallocate(slot.output.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, static_cast<off_t>(slot.output_at), 2 * kOutputMax);
    outcome.out_size = report.seen[0];
    outcome.err_size = report.seen[1];
    if (report.failed != runner::Failed::nothing) {
      outcome = Outcome{};
      outcome.cause = Cause::not_started;
      outcome.why = why_not_started(slot.launch, slot.bytes, report, slot.launch.box ? kBoxWork : work_.string());
      return outcome;
    }
    outcome.exit_code = report.signal != 0 ? 0 : report.exit_code;
    outcome.signal = report.signal;
    if (report.unclean) outcome.why = "some of its processes cannot be killed: they wait for a device or a server, or run as another user";
    outcome.cause = report.canceled ? Cause::canceled : report.timed_out ? Cause::timed_out : report.signal != 0 ? Cause::signaled : Cause::exited;
    if (slot.launch.box) tell_bound(slot, report, outcome);
    return outcome;
  }

  /// Which bound of its sandbox ended it, where that can be known.
  void tell_bound(Slot& slot, const runner::Report& report, Outcome& outcome) {
    const Bounds& bounds = slot.launch.box->bounds;
    const std::uint64_t killed = slot.group.exists() ? slot.group.killed_for_memory() : 0;
    const bool struck = killed > slot.killed_for_memory, not_alone = struck && slot.next && slot.next->sent_to == slot.runner;  // that may have begun before we looked
    const bool doubtful = std::exchange(slot.doubtful, not_alone) || not_alone;
    slot.killed_for_memory = killed;
    const auto mib = [](std::uint64_t bytes) { return std::to_string((bytes + (1 << 20) - 1) >> 20) + " MiB"; };
    if (report.over_disk) {
      outcome.why = "killed: it took more than " + mib(bounds.disk) + " on disk, or a million files; ask for more with --disk";
    } else if (report.over_memory) {
      outcome.why = "killed: its processes and files in memory took more than " + mib(bounds.memory) + " of memory; ask for more with --memory";
    } else if (report.signal == SIGXFSZ) {
      outcome.why = "killed: it wrote a file of more than " + mib(bounds.file) + "; ask for more with --disk";
    } else if (report.signal == SIGXCPU) {
      outcome.why = "killed: it took more processor time than this worker's owner allows";
    } else if (doubtful && outcome.succeeded()) {
      outcome.cause = Cause::lost;
      outcome.why = "the kernel killed a process for memory in its sandbox, and it cannot be told whether it was its own or of the attempt beside it";
    } else if (struck) {
      outcome.why = "killed by the kernel, or some of its processes were: it took more than " + mib(bounds.memory) + " of memory; ask for more with --memory";
      if (outcome.succeeded()) outcome.cause = Cause::signaled, outcome.signal = SIGKILL;  // what is missing in its result, nobody can tell
    }
  }

  /// The slot's runner is gone, or talks nonsense.
  void lose(Slot& slot) {
    const std::shared_ptr<Runner> runner = slot.runner;
    if (!slot.finished) return leave(slot.runner);
    if (!runner->boxed) slot.to_clean = slot.launch.folder;
    const std::uint64_t serial = slot.serial;
    leave(slot.runner, [this, &slot, serial, ready = runner->ready](int status) {
      if (!slot.finished || slot.serial != serial) return;
      Outcome outcome;
      const std::string how = WIFSIGNALED(status) ? "killed by signal " + std::to_string(WTERMSIG(status)) : "ended with exit code " + std::to_string(WEXITSTATUS(status));
      if (!ready) {
        outcome.cause = Cause::not_started;
        outcome.why = "its runner could not start: " + how;
      } else {
        outcome.cause = slot.stopping ? Cause::canceled : slot.late ? Cause::timed_out : Cause::lost;  // the last is no failure of the task: it runs again
        outcome.why = (slot.lost_why.empty() ? "its runner died under it (" + how + ")" : slot.lost_why) + ", and everything of the attempt was killed; its output is lost";
        outcome.wall = std::chrono::duration_cast<std::chrono::microseconds>(steady_clock::now() - slot.started);
      }
      finish(slot, std::move(outcome));
    });
  }

  /// Lets a runner go. When it is reaped, or after kLeaveMax, `gone` is called with its wait status.
  /// at_once: without, it runs nothing and ends by itself.
  void leave(std::shared_ptr<Runner>& held, std::function<void(int)> gone = nullptr, bool at_once = true) {
    const std::shared_ptr<Runner> runner = std::exchange(held, nullptr);
    // One that is to remove something must find us there when it greets, and what it was sent.
    if (runner->only_cleans) ::shutdown(runner->socket.native_handle(), SHUT_WR);
    else runner->socket.close();
    if (at_once && runner->boxed) runner->kill_runner();  // as process 1 it takes all in there with it, and bwrap ends after that
    if (at_once && runner->namespaces) kill(runner->pid, SIGKILL);  // all below it goes with it; without namespaces it kills that itself, and must live for it
    runner->wake();
    leaving_.push_back(runner);
    auto once = std::make_shared<std::function<void(int)>>(std::move(gone));
    const auto call = [once](int status) {
      if (const auto f = std::exchange(*once, nullptr)) f(status);
    };
    runner->patience.expires_after(kLeaveMax);
    runner->patience.async_wait([weak = weak_from_this(), runner, call](const boost::system::error_code& failure) {
      const auto self = weak.lock();
      if (!self || failure) return;
      if (runner->boxed || runner->is_stopped()) {  // again: it, or its guard, will not sweep
        runner->kill_runner();
        if (runner->pid > 0) kill(runner->pid, SIGKILL);
      }
      call(SIGKILL);
    });
    runner->ended.async_wait(asio::posix::stream_descriptor::wait_read, [weak = weak_from_this(), runner, call](const boost::system::error_code& failure) {
      const auto self = weak.lock();
      if (failure || !self) return;
      int status = 0;
      if (waitpid(runner->pid, &status, WNOHANG | __WALL) <= 0) status = SIGKILL;  // reaped by somebody else in this process
      runner->pid = -1;
      runner->patience.cancel();
      std::erase(self->leaving_, runner);
      if (!runner->namespaces && WIFSIGNALED(status)) {  // guard and runner were killed: what they had is nobody's, or ours
        kill_marked(runner->mark, kSweepRounds);
        self->sweep_adopted();
      }
      if (!runner->folder.empty()) self->remove_box(std::exchange(runner->folder, ""));
      call(status);
    });
  }

  void finish(Slot& slot, Outcome outcome) {
    const auto finished = std::exchange(slot.finished, nullptr);
    std::string().swap(slot.launch.input);
    promote(slot);
    finished(std::move(outcome));  // may start the next, or line up one more
  }

  void not_started_later(Slot& slot, std::string why) {
    asio::post(loop_, [weak = weak_from_this(), &slot, serial = slot.serial, why = std::move(why)]() mutable {
      const auto self = weak.lock();
      if (!self || !slot.finished || slot.serial != serial) return;
      Outcome outcome;
      outcome.cause = slot.stopping ? Cause::canceled : Cause::not_started;
      outcome.why = std::move(why);
      self->finish(slot, std::move(outcome));
    });
  }

  void refuse_launch(std::string why, std::function<void(Outcome)> finished) {
    asio::post(loop_, [weak = weak_from_this(), why = std::move(why), finished = std::move(finished)]() mutable {
      if (!weak.lock()) return;
      Outcome outcome;
      outcome.cause = Cause::not_started;
      outcome.why = std::move(why);
      finished(std::move(outcome));
    });
  }

  void sweep_adopted() {
    if (!adopts_) return;
    std::vector<pid_t> ours;
    for (const auto& runner : leaving_) ours.push_back(runner->pid);
    for (const Slot& slot : slots_)
      if (slot.runner) ours.push_back(slot.runner->pid);
    unreaped_ = !kill_adopted(ours, kSweepRounds);
    if (unreaped_) watch();
  }

  /// Closing a socket makes its runner kill all it has. Waits for the end of each.
  void end_runners() {
    std::vector<std::shared_ptr<Runner>> runners = std::exchange(leaving_, {});
    for (Slot& slot : slots_)
      if (slot.runner) runners.push_back(std::exchange(slot.runner, nullptr));
    boost::system::error_code ignored;
    for (const auto& runner : runners) {
      runner->socket.close(ignored);
      runner->wake();
      if (runner->only_cleans) {  // the next worker of the folder goes on with that
        runner->kill_runner();
        kill(runner->pid, SIGKILL);
      }
    }
    bool unswept = false;
    const auto until = steady_clock::now() + kLeaveMax;
    for (const bool last_word : {false, true}) {
      for (const auto& runner : runners) {
        if (runner->pid <= 0) continue;
        if (last_word) {
          runner->kill_runner();
          kill(runner->pid, SIGKILL);
          unswept = true;
        }
        pollfd ended{runner->ended.native_handle(), POLLIN, 0};
        const auto left = last_word ? milliseconds(100) : std::chrono::ceil<milliseconds>(until - steady_clock::now());
        while (poll(&ended, 1, static_cast<int>(std::max<long>(left.count(), 0))) < 0 && errno == EINTR) {}
        if (ended.revents != 0) {
          int status = 0;
          if (waitpid(runner->pid, &status, WNOHANG | __WALL) <= 0 || WIFSIGNALED(status)) unswept = true;
          runner->pid = -1;
        }
      }
    }
    if (unswept) {
      kill_marked(mark_, kSweepRounds);
      sweep_adopted();
    }
    if (std::exchange(adopts_, false)) adopt_orphans(false);
    const std::int64_t tidied = runner::now_us() + in_us(kTidyMax);
    for (const auto& runner : runners)
      if (!runner->folder.empty()) remove_tree(folder_.get(), runner->folder.c_str(), tidied);
    if (sandbox_) {
      for (Slot& slot : slots_) slot.group = {};
      sandbox_->groups().remove_all(static_cast<int>(slots_.size()));
    }
    for (const auto& runner : runners) {
      runner->ended.close(ignored);
      runner->patience.cancel();
    }
  }

  asio::io_context& loop_;
  asio::steady_timer look_;
  bool watching_ = false;
  std::filesystem::path work_;
  std::string program_;
  bool namespaces_ = true, adopts_ = false, unreaped_ = false;
  std::shared_ptr<const Sandbox> sandbox_;
  Fd folder_, lock_;
  std::vector<std::string> left_;  // of earlier lives
  std::uint64_t mark_ = 0;
  std::size_t ready_ = 0;    // the first so many slots have runners from the start
  std::vector<Slot> slots_;  // never grows after the constructor: handlers refer into it
  std::vector<std::shared_ptr<Runner>> leaving_;
  std::uint64_t serial_ = 0, runners_ = 0;
  std::string message_;  // kept for its capacity
};

Executor::Executor(asio::io_context& loop, int slots, std::filesystem::path work, std::filesystem::path runner_program, int locked, int spare)
    : impl_(std::make_shared<Impl>(loop, slots, std::move(work), std::move(runner_program), locked, spare)) {
  impl_->start_runners();
}
Executor::~Executor() { impl_->shut(); }

void Executor::start(int slot, Launch launch, std::function<void(Outcome)> finished) { impl_->start(slot, std::move(launch), std::move(finished)); }
void Executor::line_up(int slot, Launch launch, std::function<void(Outcome)> finished, std::function<void()> recalled) {
  impl_->line_up(slot, std::move(launch), std::move(finished), std::move(recalled));
}
void Executor::recall(int slot) { impl_->recall(slot); }
void Executor::stop(int slot) { impl_->stop(slot); }
void Executor::pause(int slot) { impl_->pause(slot, true); }
void Executor::resume(int slot) { impl_->pause(slot, false); }
void Executor::use(Sandbox sandbox) { impl_->use(std::make_shared<const Sandbox>(std::move(sandbox))); }
bool Executor::has_namespaces() const { return impl_->has_namespaces(); }

}  // namespace souk
