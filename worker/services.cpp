#include "worker/services.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <deque>
#include <filesystem>
#include <optional>
#include <utility>

#include "protocol/form.h"
#include "protocol/quoting.h"
#include "worker/runner_start.h"
#include "worker/service_life.h"

namespace souk::worker {

namespace {

namespace asio = boost::asio;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr std::size_t kWriteAhead = 256 << 10;  // bytes of requests made ready; the others are written when there is room
constexpr std::size_t kReadMax = 256 << 10;     // bytes of answers looked at together
constexpr auto kLastWords = 1000ms;             // between the end of its stdout and its own
constexpr auto kKillGrace = 500ms;              // between TERM and KILL
constexpr int kLinesMax = 100;                  // of its stderr in kLinesWithin; the rest is counted
constexpr auto kLinesWithin = 10s;
constexpr std::size_t kLineMax = 500;

std::string how_it_ended(const Outcome& outcome) {
  if (!outcome.why.empty()) return "ended: " + outcome.why;
  if (outcome.cause == Cause::signaled || outcome.signal != 0) return "was killed by signal " + std::to_string(outcome.signal);
  return "ended with exit code " + std::to_string(outcome.exit_code);
}

/// What a call says: its words filled in, else the item.
std::string_view words_of(const Assignment& call, std::string& made) {
  const Command& command = *call.command;
  if (command.argv.empty()) return call.item;
  if (command.argv.size() == 1 && !command.fill) return command.argv.front();
  const Fields fields = command.fill && command.json ? fields_of(call.item) : Fields{};
  for (const std::string& word : command.argv) {
    if (!made.empty()) made += ' ';
    made += command.fill ? fill_in(word, call.item, call.task.task, false, fields) : word;
  }
  return made;
}

}  // namespace

Result<ServicePlan> parse_service(std::string_view text) {
  const auto bad = [&](std::string why) { return Error{"service '" + printable(shortened(text, 64)) + "' refused", std::move(why), "write NAME=COMMAND, or NAME=json:COMMAND where it speaks JSON lines"}; };
  const auto equals = text.find('=');
  if (equals == text.npos) return bad("it has no name and command");
  ServicePlan plan;
  plan.name = text.substr(0, equals);
  std::string_view command = text.substr(equals + 1);
  if (const auto good = check_service_name(plan.name); !good) return good.error();
  if (command.starts_with("json:")) {
    plan.framing = Framing::json;
    command.remove_prefix(5);
  }
  plan.command = command;
  if (plan.command.find_first_not_of(" \t\n") == std::string::npos) return bad("its command is empty");
  if (plan.command.find('\0') != std::string::npos || plan.command.size() > 64u << 10) return bad("its command is over 64 KiB or holds a NUL byte");
  return plan;
}

class Services::Impl : public std::enable_shared_from_this<Impl> {
 public:
  Impl(Services& owner, asio::io_context& loop, Executor& executor, int slots, std::vector<ServicePlan> plans, const Surroundings& host)
      : owner_(&owner), loop_(loop), executor_(executor), slots_(slots), plans_(std::move(plans)), host_(host), processes_(static_cast<std::size_t>(slots) * plans_.size()) {
    std::error_code failure;
    here_ = std::filesystem::current_path(failure).string();
  }

  void close() {
    owner_ = nullptr;
    for (auto& process : processes_)
      if (process) process->close();
  }

  void call(int slot, Assignment assignment) {
    Process* process = process_of(slot, assignment.command->service);
    if (process == nullptr) {
      asio::post(loop_, [weak = weak_from_this(), slot, attempt = assignment.attempt, name = assignment.command->service] {
        const auto self = weak.lock();
        if (!self || self->owner_ == nullptr) return;
        CallsEnded ended{slot, {}};
        ended.calls.push_back({attempt, {}});
        ended.calls.back().outcome.cause = Cause::not_started;
        ended.calls.back().outcome.why = "this worker has no service " + name;
        self->owner_->on_ended(std::move(ended));
      });
      return;
    }
    process->called.push_back({process->first_call + process->calls.size(), assignment.command->time_limit, assignment.command->grace});
    process->calls.push_back({std::move(assignment)});
    ++process->open;
    make_dirty(*process);
  }

  void end_call(int slot, AttemptId attempt, bool forsaken) {
    for (std::size_t service = 0; service < plans_.size(); ++service) {
      Process* process = processes_[index(slot, service)].get();
      if (process == nullptr || process->open == 0) continue;
      for (std::size_t i = 0; i < process->calls.size(); ++i) {
        Call& call = process->calls[i];
        if (call.over || call.of.attempt != attempt) continue;
        if (forsaken) call.over = true, --process->open;
        process->ended.push_back({process->first_call + i, forsaken});
        return make_dirty(*process);
      }
    }
  }

  void calls_made() {
    for (std::size_t i = 0; i < dirty_.size(); ++i) {  // telling may make more
      Process& process = *dirty_[i];
      process.dirty = false;
      if (!process.called.empty()) tell(process, ServiceLife::Called{std::exchange(process.called, {})});
      for (const auto& [call, forsaken] : std::exchange(process.ended, {})) {
        if (forsaken) tell(process, ServiceLife::Forsaken{call});
        else tell(process, ServiceLife::Unwanted{call});
      }
    }
    dirty_.clear();
  }

  bool busy(int slot) const {
    for (std::size_t service = 0; service < plans_.size(); ++service)
      if (const auto& process = processes_[index(slot, service)]; process && process->open > 0) return true;
    return false;
  }

  void stop(int slot) {
    for (std::size_t service = 0; service < plans_.size(); ++service) {
      Process* process = processes_[index(slot, service)].get();
      if (process == nullptr || process->open == 0) continue;
      for (std::size_t i = process->calls.size(); i-- > 0;)  // the head last: what is behind it needs no wait
        if (!process->calls[i].over) process->ended.push_back({process->first_call + i, false});
      make_dirty(*process);
    }
    // Not from within: who says stop is at work with the answer to something else.
    asio::post(loop_, [weak = weak_from_this()] {
      if (const auto self = weak.lock(); self && self->owner_ != nullptr) self->calls_made();
    });
  }

  void pause(int slot, bool paused) {
    for (std::size_t service = 0; service < plans_.size(); ++service) {
      Process* process = processes_[index(slot, service)].get();
      if (process == nullptr || process->open == 0 || process->paused == paused) continue;
      process->paused = paused;
      if (paused) {
        executor_.pause(process->runs_in);
        tell(*process, ServiceLife::Paused{});
      } else {
        executor_.resume(process->runs_in);
        tell(*process, ServiceLife::Resumed{});
      }
    }
  }

 private:
  struct Call {
    Assignment of;
    bool over = false;
  };
  struct Process {
    Process(asio::io_context& loop, const ServicePlan& its_plan, int its_slot, int its_place)
        : plan(its_plan), slot(its_slot), runs_in(its_place), life(its_plan.name), reader(its_plan.framing), in(loop), out(loop), err(loop), wake(loop), last_words(loop) {}
    void close() {
      boost::system::error_code ignored;
      for (auto* end : {&in, &out, &err}) end->close(ignored);
      wake.cancel();
      last_words.cancel();
    }
    const ServicePlan& plan;
    const int slot, runs_in;
    ServiceLife life;
    AnswerReader reader;
    asio::posix::stream_descriptor in, out, err;  // ours: we write its stdin
    asio::steady_timer wake, last_words;
    std::optional<Instant> wakes_at;
    std::uint64_t serial = 0;    // of the life of the process
    std::string to_write, line;  // line: of its stderr, not whole yet
    std::size_t written = 0;
    bool writing = false, dirty = false, paused = false;
    std::deque<Call> calls;      // the first is number first_call; goes when it is over and all before it
    std::uint64_t first_call = 1;
    std::size_t open = 0;
    std::deque<ServiceLife::Send> unsent;
    std::vector<ServiceLife::Call> called;                   // to be told with calls_made()
    std::vector<std::pair<std::uint64_t, bool>> ended;       // the same, and whether forsaken
    steady_clock::time_point lines_since{};
    int lines = 0;
  };

  std::size_t index(int slot, std::size_t service) const { return service * static_cast<std::size_t>(slots_) + static_cast<std::size_t>(slot); }
  Instant now() const { return Instant(std::chrono::duration_cast<Duration>(steady_clock::now() - began_)); }

  Process* process_of(int slot, const std::string& name) {
    for (std::size_t service = 0; service < plans_.size(); ++service) {
      if (plans_[service].name != name) continue;
      auto& process = processes_[index(slot, service)];
      if (!process) process = std::make_unique<Process>(loop_, plans_[service], slot, slots_ + static_cast<int>(index(slot, service)));
      return process.get();
    }
    return nullptr;
  }

  void make_dirty(Process& process) {
    if (!std::exchange(process.dirty, true)) dirty_.push_back(&process);
  }

  void note(const Process& process, bool bad, const std::string& text) {
    if (owner_ != nullptr) owner_->on_note(bad, "service=" + process.plan.name + " slot=" + std::to_string(process.slot) + " " + text);
  }

  // ---- Decisions, and what becomes of them
  void tell(Process& process, ServiceLife::Event event, std::vector<ServiceAnswer>* answers = nullptr) {
    CallsEnded ended{process.slot, {}};
    for (auto& action : process.life.step(now(), std::move(event)))
      std::visit([&](auto& what) { perform(process, what, answers, ended); }, action);
    while (!process.calls.empty() && process.calls.front().over) process.calls.pop_front(), ++process.first_call;
    write(process);
    wake_in_time(process);
    if (process.paused && process.open == 0) {  // nobody will say resume: its slot is free
      process.paused = false;
      executor_.resume(process.runs_in);
      tell(process, ServiceLife::Resumed{});
    }
    if (!ended.calls.empty() && owner_ != nullptr) owner_->on_ended(std::move(ended));
  }

  static void forget_requests(Process& process) {
    process.unsent.clear();
    process.to_write.clear();
    process.written = 0;
  }

  void perform(Process& process, ServiceLife::Start&, std::vector<ServiceAnswer>*, CallsEnded&) {
    ++process.serial;
    process.reader = AnswerReader(process.plan.framing);
    forget_requests(process);
    int ends[3][2];
    for (int i = 0; i < 3; ++i) {
      if (::pipe2(ends[i], O_CLOEXEC) == 0) continue;
      const std::string why = text_of(errno);
      while (i-- > 0) ::close(ends[i][0]), ::close(ends[i][1]);
      return asio::post(loop_, [weak = weak_from_this(), &process, serial = process.serial, why] {
        if (const auto self = weak.lock(); self && process.serial == serial) self->tell(process, ServiceLife::Died{"could not be started: " + why});
      });
    }
    Fd in(ends[0][0]), out(ends[1][1]), err(ends[2][1]);
    process.in.assign(ends[0][1]), process.out.assign(ends[1][0]), process.err.assign(ends[2][0]);
    for (auto* end : {&process.in, &process.out, &process.err}) end->non_blocking(true);
    Launch launch;
    launch.folder = "service-" + process.plan.name + "-" + std::to_string(process.slot);
    launch.argv = {"/bin/sh", "-c", "cd " + shell_word(here_) + " || exit 126\n" + process.plan.command};
    launch.env = host_.env;
    launch.env.emplace_back("TMPDIR", host_.work + "/" + launch.folder);
    launch.env.emplace_back("SOUK_WORKER", host_.worker);
    launch.env.emplace_back("SOUK_SERVICE", process.plan.name);
    launch.grace = kKillGrace;
    launch.nice = owner_ != nullptr ? owner_->nice() : 0;
    launch.streams = {in.get(), out.get(), err.get()};
    executor_.start(process.runs_in, std::move(launch), [weak = weak_from_this(), &process, serial = process.serial](const Outcome& outcome) {
      const auto self = weak.lock();
      if (self && self->owner_ != nullptr && process.serial == serial) self->died(process, outcome);
    });
    read_answers(process);
    read_lines(process);
  }
  void perform(Process& process, ServiceLife::Ping&, std::vector<ServiceAnswer>*, CallsEnded&) { append(process.to_write, process.plan.framing, {}); }
  void perform(Process& process, ServiceLife::Send& send, std::vector<ServiceAnswer>*, CallsEnded&) { process.unsent.push_back(send); }
  void perform(Process& process, ServiceLife::Hang&, std::vector<ServiceAnswer>*, CallsEnded&) {
    boost::system::error_code ignored;
    process.in.close(ignored);
  }
  void perform(Process& process, ServiceLife::Kill&, std::vector<ServiceAnswer>*, CallsEnded&) {
    executor_.stop(process.runs_in);
    forget_requests(process);
    boost::system::error_code ignored;
    process.out.close(ignored);  // nothing that it says counts any more: it may take its grace, but not our time
  }
  void perform(Process& process, ServiceLife::Note& what, std::vector<ServiceAnswer>*, CallsEnded&) { note(process, what.bad, what.text); }
  void perform(Process& process, ServiceLife::Over& over, std::vector<ServiceAnswer>* answers, CallsEnded& ended) {
    if (over.call < process.first_call) return;
    Call& call = process.calls[over.call - process.first_call];
    if (std::exchange(call.over, true)) return;
    --process.open;
    CallsEnded::Ended& told = ended.calls.emplace_back();
    told.attempt = call.of.attempt;
    Outcome& outcome = told.outcome;
    outcome.wall = over.wall;
    outcome.why = std::move(over.why);
    switch (over.end) {
      case ServiceLife::End::answered: {
        ServiceAnswer& answer = (*answers)[over.answer];
        std::string& stream = answer.failed ? outcome.err : outcome.out;
        (answer.failed ? outcome.err_size : outcome.out_size) = answer.body.size();
        outcome.exit_code = answer.failed ? 1 : 0;
        stream = std::move(answer.body);
        if (const std::size_t most = std::min(call.of.command->output_max, kOutputMax); stream.size() > most) stream.resize(most), stream.shrink_to_fit();
        break;
      }
      case ServiceLife::End::broken:
        outcome.exit_code = 1;
        outcome.err = printable(std::exchange(outcome.why, {})) + "\n";
        outcome.err_size = outcome.err.size();
        break;
      case ServiceLife::End::lost: outcome.cause = Cause::lost; break;
      case ServiceLife::End::timed_out: outcome.cause = Cause::timed_out; break;
      case ServiceLife::End::canceled: outcome.cause = Cause::canceled; break;
      case ServiceLife::End::not_started: outcome.cause = Cause::not_started; break;
    }
    call.of = Assignment{call.of.attempt, {}, {}, nullptr, {}};  // its item and command may be large
  }

  void wake_in_time(Process& process) {
    const auto at = process.life.wake_at();
    if (!at || (process.wakes_at && *process.wakes_at <= *at)) return;  // too early does no harm, and arms again
    process.wakes_at = at;
    process.wake.expires_at(began_ + at->time_since_epoch());
    process.wake.async_wait([weak = weak_from_this(), &process](auto error) {
      const auto self = weak.lock();
      if (error || !self || self->owner_ == nullptr) return;
      process.wakes_at.reset();
      self->tell(process, ServiceLife::Tick{});
    });
  }

  // ---- Pipes
  void write(Process& process) {
    ServiceLife::Answered skipped;
    write_some(process, skipped);
    if (!skipped.ids.empty()) tell(process, std::move(skipped));
  }

  void write_some(Process& process, ServiceLife::Answered& skipped) {
    if (process.writing || !process.in.is_open()) return;
    std::string made;
    for (;;) {
      while (!process.unsent.empty() && process.to_write.size() - process.written < kWriteAhead) {
        const ServiceLife::Send next = process.unsent.front();
        process.unsent.pop_front();
        ServiceRequest request;
        request.id = next.id;
        made.clear();
        const Call* call = next.call >= process.first_call ? &process.calls[next.call - process.first_call] : nullptr;
        if (call == nullptr || call->over) {  // it was stopped before it was written
          skipped.ids.push_back(next.id);
          continue;
        }
        request.body = words_of(call->of, made);
        if (const std::string& input = call->of.command->input; !input.empty()) request.item = std::exchange(request.body, input);
        request.job = call->of.task.job.value, request.task = call->of.task.task.value, request.run = call->of.run;
        append(process.to_write, process.plan.framing, request);
      }
      if (process.to_write.empty()) {
        if (process.to_write.capacity() > 4 * kWriteAhead) std::string().swap(process.to_write);
        return;
      }
      const ssize_t n = ::write(process.in.native_handle(), process.to_write.data() + process.written, process.to_write.size() - process.written);
      if (n > 0) {
        process.written += static_cast<std::size_t>(n);
        if (process.written > process.to_write.size() / 2) process.to_write.erase(0, std::exchange(process.written, 0));  // under steady load it is never written to its end
        continue;
      }
      if (n < 0 && errno == EINTR) continue;
      if (n < 0 && errno == EAGAIN) {
        process.writing = true;
        process.in.async_wait(asio::posix::stream_descriptor::wait_write, [weak = weak_from_this(), &process, serial = process.serial](auto error) {
          const auto self = weak.lock();
          if (!self || self->owner_ == nullptr || process.serial != serial) return;
          process.writing = false;
          if (!error) self->write(process);
        });
      }
      return;  // EPIPE: its end is on the way
    }
  }

  void read_answers(Process& process) {
    process.out.async_wait(asio::posix::stream_descriptor::wait_read, [weak = weak_from_this(), &process, serial = process.serial](auto error) {
      const auto self = weak.lock();
      if (error || !self || self->owner_ == nullptr || process.serial != serial) return;
      const bool open = self->take_answers(process);
      if (process.serial != serial || !process.out.is_open()) return;
      if (open) return self->read_answers(process);
      process.last_words.expires_after(kLastWords);
      process.last_words.async_wait([weak, &process, serial](auto canceled) {
        const auto still = weak.lock();
        if (!canceled && still && still->owner_ != nullptr && process.serial == serial) still->tell(process, ServiceLife::Spoiled{"it closed its stdout"});
      });
    });
  }

  /// Takes what has come; false at the end of the stream.
  bool take_answers(Process& process) {
    answers_.clear();
    std::string spoiled;
    bool open = true;
    for (std::size_t got = 0; got < kReadMax && spoiled.empty();) {
      const ssize_t n = ::read(process.out.native_handle(), buffer_.data(), buffer_.size());
      if (n < 0 && errno == EINTR) continue;
      open = n > 0 || (n < 0 && errno == EAGAIN);
      if (n <= 0) break;
      got += static_cast<std::size_t>(n);
      if (const auto taken = process.reader.take(std::string_view(buffer_.data(), static_cast<std::size_t>(n)), answers_); !taken) spoiled = taken.error().why;
      if (static_cast<std::size_t>(n) < buffer_.size()) break;
    }
    if (!answers_.empty()) {
      ServiceLife::Answered event;
      event.ids.reserve(answers_.size());
      for (const ServiceAnswer& answer : answers_) event.ids.push_back(answer.id);
      auto answers = std::exchange(answers_, {});  // telling may come back here for another process
      tell(process, std::move(event), &answers);
      answers.clear();
      if (answers_.empty()) answers_.swap(answers);
    }
    if (!spoiled.empty()) {
      boost::system::error_code ignored;
      process.out.close(ignored);  // what follows cannot be read
      tell(process, ServiceLife::Spoiled{"it answered what is no answer: " + spoiled});
    }
    return open;
  }

  void read_lines(Process& process) {
    process.err.async_wait(asio::posix::stream_descriptor::wait_read, [weak = weak_from_this(), &process, serial = process.serial](auto error) {
      const auto self = weak.lock();
      if (error || !self || self->owner_ == nullptr || process.serial != serial) return;
      if (self->take_lines(process)) self->read_lines(process);
    });
  }

  bool take_lines(Process& process) {
    const ssize_t n = ::read(process.err.native_handle(), buffer_.data(), buffer_.size());
    if (n <= 0) return n < 0 && (errno == EAGAIN || errno == EINTR);
    for (std::string_view text(buffer_.data(), static_cast<std::size_t>(n)); !text.empty();) {
      const auto end = std::min(text.find('\n'), text.size());
      if (process.line.size() < kLineMax) process.line += text.substr(0, std::min(end, kLineMax - process.line.size()));
      const bool whole = end < text.size();
      text.remove_prefix(std::min(text.size(), end + 1));
      if (whole) say_line(process);
    }
    return true;
  }

  void say_line(Process& process) {
    const std::string line = std::exchange(process.line, {});
    const auto at = steady_clock::now();
    if (at - process.lines_since > kLinesWithin) {
      if (process.lines > kLinesMax) note(process, false, "lines_dropped=" + std::to_string(process.lines - kLinesMax));
      process.lines_since = at;
      process.lines = 0;
    }
    if (++process.lines <= kLinesMax) note(process, false, "stderr=\"" + printable(line) + "\"");
  }

  /// What it had answered before it was gone counts.
  void died(Process& process, const Outcome& outcome) {
    int waiting = 0;
    for (const std::uint64_t serial = process.serial; process.out.is_open() && process.serial == serial;)
      if (::ioctl(process.out.native_handle(), FIONREAD, &waiting) != 0 || waiting <= 0 || !take_answers(process)) break;
    if (process.err.is_open()) take_lines(process);
    if (!process.line.empty()) say_line(process);
    boost::system::error_code ignored;
    for (auto* end : {&process.in, &process.out, &process.err}) end->close(ignored);
    process.last_words.cancel();
    ++process.serial;  // what is still on its way was for that life
    process.writing = false;
    forget_requests(process);
    tell(process, ServiceLife::Died{how_it_ended(outcome)});
  }

  Services* owner_;  // null: gone
  asio::io_context& loop_;
  Executor& executor_;
  const int slots_;
  const std::vector<ServicePlan> plans_;
  const Surroundings& host_;
  std::string here_;
  std::vector<std::unique_ptr<Process>> processes_;
  std::vector<Process*> dirty_;
  std::vector<ServiceAnswer> answers_;  // kept for its capacity
  std::vector<char> buffer_ = std::vector<char>(64 << 10);
  const steady_clock::time_point began_ = steady_clock::now();
};

Services::Services(asio::io_context& loop, Executor& executor, int slots, std::vector<ServicePlan> plans, const Surroundings& host)
    : impl_(std::make_shared<Impl>(*this, loop, executor, slots, std::move(plans), host)) {}
Services::~Services() { impl_->close(); }
void Services::call(int slot, Assignment assignment) { impl_->call(slot, std::move(assignment)); }
void Services::stop_call(int slot, AttemptId attempt) { impl_->end_call(slot, attempt, false); }
void Services::forsake_call(int slot, AttemptId attempt) { impl_->end_call(slot, attempt, true); }
void Services::calls_made() { impl_->calls_made(); }
bool Services::busy(int slot) const { return impl_->busy(slot); }
void Services::stop(int slot) { impl_->stop(slot); }
void Services::pause(int slot) { impl_->pause(slot, true); }
void Services::resume(int slot) { impl_->pause(slot, false); }

}  // namespace souk::worker
