// One user's conversation with the manager: the payload commands of docs/PROTOCOL.md and the events of watched jobs.
// A command-line program does one thing at a time, so every call runs the loop until its answer is there.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "protocol/grid.pb.h"
#include "protocol/profile.h"
#include "protocol/result.h"
#include "protocol/xmpp_link.h"
#include "submit/interrupts.h"

namespace google::protobuf {
class MessageLite;
}

namespace souk {

class Session {
 public:
  using Clock = std::chrono::steady_clock;
  struct Limits {
    std::chrono::milliseconds reach{5000};    // from the first try until a server and a manager must have been found
    std::chrono::milliseconds answer{10000};  // to one request; the last part of a submission gets six times as long
    std::chrono::milliseconds renew{20000};   // of a watch, which lasts 60 s
    std::chrono::milliseconds quiet{2000};    // without an event until the watch is renewed early, doubling up to `renew`: a manager that was
                                              // started again knows no watches, and the event of a job's end may be lost like any message
    std::chrono::milliseconds retry{200};     // between asking for a manager that is away
    std::chrono::milliseconds absence{60000}; // of a manager, while something is being submitted and the server is there
    std::chrono::milliseconds question{30000};              // how long a question is repeated that the manager has no room for
    std::chrono::milliseconds full_min{500}, full_max{15000};  // pauses between asking a manager that has no room: doubling, with jitter
    std::chrono::milliseconds close{10};      // for the server's goodbye
  };
  explicit Session(Profile profile);
  Session(Profile profile, Limits limits);
  ~Session();
  Session(const Session&) = delete;

  /// Words about the connection for whoever waits: it was lost, it is back.
  std::function<void(const std::string&)> on_note = [](const std::string&) {};
  /// Called about every 100 ms while something is waited for, so that time passes on a progress bar.
  std::function<void()> on_tick;

  /// From now on Ctrl-C and TERM end what is waited for, with interrupted(); the second one ends the program.
  void catch_interrupts();
  bool interrupted() const { return interrupts_ && interrupts_->count() > forgiven_; }
  /// Lets calls go on after the first interrupt, to cancel and clean up.
  void forgive_interrupt() { forgiven_ = interrupts_ ? interrupts_->count() : 0; }
  /// What a second interrupt says when it ends the program, whatever that waits for.
  void leave_saying(const std::string& words) {
    if (interrupts_) interrupts_->leave_saying(words);
  }
  int interrupt_exit_code() const { return interrupts_ ? interrupts_->exit_code() : 130; }

  /// How long submit() and rerun() go on asking a manager that has no room for more work now; ten minutes if not said.
  void wait_for_room(std::chrono::milliseconds most) { room_wait_ = most; }
  /// Whether the last submission ended with the manager saying that it took nothing.
  bool turned_away() const { return turned_away_; }

  /// From now on a lost connection, server or manager is waited for without end.
  void stay() { staying_ = true; }
  /// Bounds all that follows, also what stay() made endless: nothing takes longer than until then.
  void hurry(Clock::time_point until) { hurry_ = until; }
  bool hurried() const { return hurry_ && Clock::now() >= *hurry_; }

  /// Whether there ever was a connection.
  bool reached() const { return was_up_; }
  /// Whether the last failure was one of reaching the grid rather than a refusal by it.
  bool unreachable() const { return unreachable_; }

  /// Sends the job, in parts if it is large, again after a lost connection, and while the manager has no room: `key` makes a repetition harmless.
  /// on_sent: bytes sent and to send, after each part
  /// dry_run: nothing is made of it; a manager too old for that makes a job all the same, and says its number
  Result<wire::SubmitAnswer> submit(const wire::Job& job, const std::string& key, bool watch, const std::function<void(std::uint64_t, std::uint64_t)>& on_sent = {}, bool dry_run = false);
  Result<wire::StatusAnswer> status(const wire::StatusRequest& request);
  Result<wire::ResultsAnswer> results(const wire::ResultsRequest& request);
  /// Sends what results() will be called with later, which then has less to wait for. Nothing is lost if it never is, or nobody is there.
  void ask_ahead(const wire::ResultsRequest& request);
  void forget_ahead() { ahead_.clear(); }
  Result<wire::CancelAnswer> cancel(const std::vector<std::uint64_t>& jobs);
  Result<wire::WorkersAnswer> workers();
  Result<wire::BanAnswer> ban(const wire::BanRequest& request);
  Result<wire::WhyAnswer> why(const wire::WhyRequest& request);
  /// Holds the jobs, or releases them.
  Result<wire::JobsAnswer> hold(const std::vector<std::uint64_t>& jobs, bool hold);
  Result<wire::SubmitAnswer> rerun(const wire::RerunRequest& request);

  /// Watches these jobs until they end, and what watch() knew before; renewed by itself, also after a lost connection.
  /// fails: as status() does; the first answer is the first news
  Result<Done> watch(const std::vector<std::uint64_t>& jobs);
  /// submit() with `watch` did it already.
  void watching(std::uint64_t job);
  /// The newest that is known of a watched job; null: nothing yet.
  const wire::JobStatus* news(std::uint64_t job) const;
  /// Runs until there is news of any watched job since the last call, or an interrupt, or `until`. Renews watches on the way.
  /// fails: when the grid cannot be reached and stay() was not called, or is lost for good
  Result<Done> await_news(Clock::time_point until = Clock::time_point::max());

  /// Says goodbye and waits for the answer, at most limits.close.
  void close();

 private:
  struct Stage {  // of a command in several
    std::string sessionid;
    bool more = false;
  };
  enum class Next { done, again, full, failed };  // again: nobody is there; full: there is no room for it now
  struct Patience {  // of one call
    bool makes_work = false;
    std::chrono::milliseconds absent{}, full{};
    Clock::time_point began = Clock::now();
    std::chrono::milliseconds pause{};  // the last one, of those for a manager without room
    bool told = false;
    std::optional<Clock::time_point> full_since{};
  };

  Result<Done> ask(const std::string& node, const google::protobuf::MessageLite& request, google::protobuf::MessageLite& answer) { return ask(node, request, answer, patience(false)); }
  Result<Done> ask(const std::string& node, const google::protobuf::MessageLite& request, google::protobuf::MessageLite& answer, Patience waits);
  Patience patience(bool makes_work) const;
  struct Heard {  // an answer, once it is there
    bool done = false;
    std::optional<StanzaError> error;
    std::string status, sessionid, text, version;
    bool zlib = false, payload = false;
  };
  std::shared_ptr<Heard> send(const std::string& node, const google::protobuf::MessageLite& request, const Stage& stage, std::chrono::milliseconds deadline);
  Next read(const std::string& node, const Heard& heard, Stage& stage, std::chrono::milliseconds deadline, google::protobuf::MessageLite& answer);
  Next attempt(const std::string& node, const google::protobuf::MessageLite& request, Stage& stage, std::chrono::milliseconds deadline, google::protobuf::MessageLite& answer);
  Next reach(Clock::time_point until);
  Next refuse(const std::string& node, const StanzaError& error);
  /// Whether to try again; waits a little first.
  bool try_again(Next after, Patience& patience);
  bool pump(const std::function<bool()>& ready, Clock::time_point until);
  void heard(const gloox::Tag& message);
  Clock::time_point due() const;  // when the watches are asked for again
  void note_status(const wire::JobStatus& job);
  void tick();
  void fail(Error error, bool unreachable);

  Profile profile_;
  Limits limits_;
  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  boost::asio::steady_timer tick_;
  std::unique_ptr<Interrupts> interrupts_;
  XmppLink link_;
  Registration messages_;

  bool started_ = false, staying_ = false, closed_ = false, ticking_ = false;
  bool was_up_ = false, lost_ = false;      // lost_: since the watches were last renewed
  int forgiven_ = 0;
  std::optional<Clock::time_point> hurry_;
  std::optional<Error> final_;              // the link gave up
  Error down_;                              // why it was down the last time
  Error error_;                             // of the last failure
  bool unreachable_ = false;
  bool turned_away_ = false;
  std::chrono::milliseconds room_wait_{600'000};
  std::minstd_rand random_{std::random_device{}()};
  std::string condition_;                   // of the last refusal

  std::set<std::uint64_t> watched_;
  std::map<std::uint64_t, wire::JobStatus> news_;
  std::map<std::uint64_t, wire::ResultsAnswer> brought_;  // results that came with the end of a watched job, until asked for
  std::map<std::string, std::shared_ptr<Heard>> ahead_;   // by the bytes of the request
  struct Early {
    wire::JobStatus status;
    std::optional<wire::ResultsAnswer> results;
  };
  std::map<std::uint64_t, Early> early_;  // newest news of jobs that nobody watches yet: that of a short one comes with its number
  bool fresh_ = false;
  std::uint64_t stranger_ = 0;  // a watched job whose number is another job's now
  Clock::time_point renewed_{};             // when the watches were last asked for
  Clock::time_point sign_{};                // when the manager was last heard to watch
  std::chrono::milliseconds quiet_{};       // how long it may say nothing
  bool told_absent_ = false, told_lost_ = false;  // notes of a kind come once, until all is well again
};

/// 128 random bits in hex, for SubmitRequest::key.
std::string new_key();

}  // namespace souk
