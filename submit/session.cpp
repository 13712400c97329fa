#include "submit/session.h"

#include <gloox/tag.h>
#include <sys/random.h>

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <system_error>

#include "protocol/payload.h"
#include "protocol/stanza.h"
#include "submit/page_plan.h"
#include "submit/render.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

constexpr auto kTick = 100ms;
constexpr int kRestartsMax = 2;  // of a submission in parts whose session the manager has forgotten
constexpr std::size_t kEarlyMax = 64;  // jobs whose news are kept before somebody watches them
constexpr std::size_t kPartMax = kStanzaMax - 1024;  // of the job in one SubmitRequest, which adds key and framing

/// Conditions that say nobody is there to answer, or not yet (RFC 6120 §8.3.3): worth asking again.
bool is_absence(const StanzaError& error) {
  static constexpr std::array<std::string_view, 6> absent{"service-unavailable", "remote-server-not-found", "remote-server-timeout", "recipient-unavailable", "timeout", "disconnected"};
  if (std::find(absent.begin(), absent.end(), error.condition) != absent.end()) return true;
  // Prosody without federation says this of a domain that no component serves, as while the manager starts again.
  return error.condition == "not-allowed" && error.text.find("remote domains") != std::string::npos;
}

const char* deed(const std::string& node) {
  if (node == "submit") return "cannot submit";
  if (node == "status") return "cannot ask for the status";
  if (node == "results") return "cannot get results";
  if (node == "cancel") return "cannot cancel";
  if (node == "why") return "cannot tell why";
  if (node == "hold") return "cannot hold";
  if (node == "release") return "cannot release";
  if (node == "rerun") return "cannot run again";
  return "cannot list workers";
}

const char* remedy(const std::string& condition) {
  if (condition == "item-not-found") return "`souk jobs` lists yours, with how many tasks each has";
  if (condition == "forbidden" || condition == "not-allowed" || condition == "not-authorized") return "ask whoever runs the grid to let you in";
  if (condition == "feature-not-implemented") return "the manager may be older than this program: compare `souk --version` and `souk status`";
  if (condition == "resource-constraint") return "try again later";
  return "";
}

}  // namespace

Session::Session(Profile profile) : Session(std::move(profile), Limits{}) {}

Session::Session(Profile profile, Limits limits)
    : profile_(std::move(profile)),
      limits_(limits),
      work_(boost::asio::make_work_guard(loop_)),
      tick_(loop_),
      link_(loop_,
            [this] {
              Account account = profile_.account;
              account.jid = bare(account.jid);  // several commands of one user run at a time: the server names each
              return account;
            }(),
            XmppLink::Limits{.retry_min = 50ms, .retry_max = 2s}) {
  link_.on_up = [this] {
    if (std::exchange(told_lost_, false)) on_note("connected again");
    was_up_ = true;
  };
  link_.on_down = [this](const Error& why, bool final) {
    down_ = why;
    if (final) final_ = why;
    if (was_up_ && staying_ && !closed_ && !final && !std::exchange(told_lost_, true)) on_note("connection lost: " + (why.why.empty() ? why.what : why.why) + "; trying again");
    lost_ = true;
  };
  messages_ = link_.on_message([this](const gloox::Tag& message) { heard(message); });
}

Session::~Session() {
  close();
  // What the link says from now on nobody may hear: the members it would be written to go first.
  link_.on_up = [] {};
  link_.on_down = [](const Error&, bool) {};
}

void Session::catch_interrupts() {
  if (!interrupts_) interrupts_ = std::make_unique<Interrupts>(loop_);
}

void Session::fail(Error error, bool unreachable) {
  error_ = std::move(error);
  unreachable_ = unreachable;
}

bool Session::pump(const std::function<bool()>& ready, Clock::time_point until) {
  if (hurry_) until = std::min(until, *hurry_);
  if (on_tick && !ticking_) tick();
  while (!ready()) {
    if (interrupted()) return false;
    // run_one_until() cannot wait for the end of time.
    const auto now = Clock::now();
    if (now >= until) return false;
    loop_.run_one_until(std::min(until, now + 1h));
  }
  return true;
}

void Session::tick() {
  ticking_ = true;
  tick_.expires_after(kTick);
  tick_.async_wait([this](const boost::system::error_code& error) {
    if (error || !on_tick) return;
    on_tick();
    tick();
  });
}

Session::Next Session::reach(Clock::time_point until) {
  if (!started_) {
    started_ = true;
    link_.start();
  }
  if (pump([this] { return link_.up() || final_; }, until) && !final_) return Next::done;
  if (interrupted()) {
    fail({"interrupted", "", ""}, false);
  } else if (final_) {
    fail(*final_, true);
  } else {
    const Account& account = profile_.account;
    const std::string server = (account.host.empty() ? domain_of(account.jid) : account.host) + ":" + std::to_string(account.port);
    fail({"cannot reach the grid at " + server, down_.what.empty() ? "no answer" : down_.why.empty() ? down_.what : down_.why,
          "see whether it runs: `souk status`; the address comes from " + profile_.file.string()},
         true);
  }
  return Next::failed;
}

Session::Next Session::refuse(const std::string& node, const StanzaError& error) {
  if (is_absence(error)) {
    // `disconnected` says nothing new; why the link went down does.
    const std::string why = error.condition == "timeout"        ? "it did not answer in time"
                            : error.condition == "disconnected" ? "the connection was lost: " + down_.text()
                                                                : "the server says " + error.condition + (error.text.empty() ? "" : " (" + plain(error.text) + ")");
    fail({"the manager " + profile_.manager + " cannot be reached", why, "see what runs: `souk status`; its address comes from " + profile_.file.string()}, true);
    return Next::again;
  }
  // A manager that knows the command but not the job speaks of the job.
  if (error.condition == "item-not-found" && (error.text.empty() || error.text.find("no command") != std::string::npos)) {
    fail({deed(node), fmt::format("the manager {} does not know the command '{}'", profile_.manager, node), "it is older than this program: compare `souk --version` and `souk status`"}, false);
    condition_ = error.condition;
    return Next::failed;
  }
  fail({deed(node), plain(error.text.empty() ? error.condition : error.text, 1000), remedy(error.condition)}, false);
  condition_ = error.condition;
  return error.condition == "resource-constraint" ? Next::full : Next::failed;
}

std::shared_ptr<Session::Heard> Session::send(const std::string& node, const google::protobuf::MessageLite& request, const Stage& stage, std::chrono::milliseconds deadline) {
  auto iq = element("iq", {}, {{"type", "set"}, {"to", profile_.manager}});
  auto& command = child(*iq, "command", ns::commands, {{"node", node}, {"action", stage.sessionid.empty() ? "execute" : "next"}});
  if (!stage.sessionid.empty()) command.addAttribute("sessionid", stage.sessionid);
  const Encoded encoded = encode(request);
  auto& payload = child(command, node, ns::job, {{"version", SOUK_VERSION}}, encoded.text);
  if (encoded.zlib) payload.addAttribute("encoding", "zlib");

  // The reply may come after we stopped waiting for it, so it owns what it writes to.
  auto heard = std::make_shared<Heard>();
  link_.request(std::move(iq), deadline, [heard, node](const Answer& reply) {
    heard->done = true;
    if (!reply) {
      heard->error = reply.error;
      return;
    }
    const gloox::Tag* done = reply.iq->findChild("command");
    if (!done) return;
    heard->status = done->findAttribute("status");
    heard->sessionid = done->findAttribute("sessionid");
    const gloox::Tag* content = done->findChild(node);
    if (!content || content->xmlns() != ns::job) return;
    heard->payload = true;
    heard->text = content->cdata();
    heard->zlib = content->findAttribute("encoding") == "zlib";
    heard->version = content->findAttribute("version");
  });
  return heard;
}

Session::Next Session::attempt(const std::string& node, const google::protobuf::MessageLite& request, Stage& stage, std::chrono::milliseconds deadline,
                               google::protobuf::MessageLite& answer) {
  const auto heard = send(node, request, stage, deadline);
  return read(node, *heard, stage, deadline, answer);
}

Session::Next Session::read(const std::string& node, const Heard& heard, Stage& stage, std::chrono::milliseconds deadline, google::protobuf::MessageLite& answer) {
  // The link answers within the deadline itself; the margin is for a loop that was kept busy.
  if (!pump([&] { return heard.done; }, Clock::now() + deadline + 1s)) {
    if (interrupted()) {
      fail({"interrupted", "", ""}, false);
      return Next::failed;
    }
    return refuse(node, {"wait", "timeout", ""});
  }
  if (heard.error) return refuse(node, *heard.error);
  if (stage.more && heard.status == "executing") {
    stage.sessionid = heard.sessionid;
    return Next::done;
  }
  Error bad{deed(node), "the manager's answer cannot be read", "is it of another version? compare `souk --version` and `souk status`"};
  if (!heard.version.empty() && heard.version != SOUK_VERSION) bad.why += fmt::format(": it is version {}, this is {}", plain(heard.version, 40), SOUK_VERSION);
  if (heard.status != "completed" || !heard.payload) {
    fail(std::move(bad), false);
    return Next::failed;
  }
  if (const auto read = decode(heard.text, heard.zlib, answer); !read) {
    bad.why += ": " + read.error().text();
    fail(std::move(bad), false);
    return Next::failed;
  }
  return Next::done;
}

Session::Patience Session::patience(bool makes_work) const {
  Patience patience;
  patience.makes_work = makes_work;
  patience.absent = limits_.reach;
  patience.full = makes_work ? room_wait_ : limits_.question;
  // Work that nobody took yet outlasts a manager that is being started again, but not one that is gone for good.
  if (makes_work && was_up_) patience.absent = std::max(patience.absent, std::min(limits_.absence, room_wait_));
  return patience;
}

/// Whether to try again; waits a little first.
bool Session::try_again(Next after, Patience& patience) {
  if (interrupted() || hurried()) return false;
  if (after == Next::again) {
    if (!staying_ && Clock::now() >= patience.began + patience.absent) return false;
    if (staying_ ? link_.up() && !std::exchange(told_absent_, true) : Clock::now() >= patience.began + limits_.reach && !std::exchange(patience.told, true))
      on_note(error_.what + ": " + error_.why + "; trying again");
    patience.full_since.reset();
    pump([] { return false; }, Clock::now() + limits_.retry);
    return !interrupted();
  }
  const auto now = Clock::now();
  if (!patience.full_since) patience.full_since = now;
  const auto until = *patience.full_since + patience.full;
  if (now >= until) {
    if (patience.full.count() > 0)
      fail({error_.what, error_.why + fmt::format("; it was asked for {}", seconds_text(patience.full)), patience.makes_work ? "try again later, or let it wait longer: --submit-wait 1h" : "try again later"}, true);
    return false;
  }
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(until - now);
  if (!std::exchange(patience.told, true)) on_note(fmt::format("{} yet: {}; trying again for {} (Ctrl-C ends it)", error_.what, error_.why, seconds_text(left)));
  patience.pause = patience.pause.count() == 0 ? limits_.full_min : std::min(patience.pause * 2, limits_.full_max);
  // Half of it is random: those that were turned away together do not come back together.
  const auto half = patience.pause.count() / 2;
  const std::chrono::milliseconds pause(half + std::uniform_int_distribution<long>(0, half)(random_));
  pump([] { return false; }, now + std::min(pause, left));
  return !interrupted() && !hurried();
}

Result<Done> Session::ask(const std::string& node, const google::protobuf::MessageLite& request, google::protobuf::MessageLite& answer, Patience waits) {
  turned_away_ = false;
  while (true) {
    if (reach(staying_ && was_up_ ? Clock::time_point::max() : waits.began + waits.absent) != Next::done) return error_;
    waits.absent = patience(waits.makes_work).absent;  // there is a server
    Stage stage;
    const auto next = attempt(node, request, stage, limits_.answer, answer);
    turned_away_ = next == Next::full;
    if (next == Next::done) {
      if (std::exchange(told_absent_, false)) on_note("the manager answers again");
      return Done{};
    }
    if (next == Next::full) waits.began = Clock::now();  // it is there
    if (next == Next::failed || !try_again(next, waits)) return error_;
  }
}

Result<wire::SubmitAnswer> Session::submit(const wire::Job& job, const std::string& key, bool watch, const std::function<void(std::uint64_t, std::uint64_t)>& on_sent,
                                           bool dry_run) {
  wire::SubmitAnswer answer;
  wire::SubmitRequest whole;
  whole.set_key(key);
  whole.set_watch(watch);
  whole.set_dry_run(dry_run);
  const std::size_t size = job.ByteSizeLong();
  if (size <= kPartMax) {
    *whole.mutable_job() = job;
    const auto done = ask("submit", whole, answer, patience(!dry_run));
    if (!done) return done.error();
    return answer;
  }
  std::string bytes;
  job.SerializeToString(&bytes);
  Patience waits = patience(!dry_run);
  turned_away_ = false;
  int restarts = 0;
  while (true) {
    if (reach(staying_ && was_up_ ? Clock::time_point::max() : waits.began + waits.absent) != Next::done) return error_;
    waits.absent = patience(!dry_run).absent;
    Stage stage;
    Next next = Next::done;
    condition_.clear();
    for (std::size_t offset = 0; offset < bytes.size() && next == Next::done; offset += kPartMax) {
      wire::SubmitRequest part;
      part.set_key(key);
      part.set_watch(watch);
      part.set_dry_run(dry_run);
      part.set_part(bytes.substr(offset, kPartMax));
      stage.more = offset + kPartMax < bytes.size();
      part.set_more(stage.more);
      next = attempt("submit", part, stage, stage.more ? limits_.answer : limits_.answer * 6, answer);
      if (next != Next::done) break;
      waits.began = Clock::now();  // it moves: patience starts anew
      if (on_sent) on_sent(std::min(offset + kPartMax, bytes.size()), bytes.size());
    }
    turned_away_ = next == Next::full;
    if (next == Next::done) return answer;
    if (next == Next::full) waits.began = Clock::now();
    // A manager that was started again in between does not know our session any more (XEP-0050 §4.4): from the start, but not for ever.
    const bool forgotten = next == Next::failed && !stage.sessionid.empty() && restarts < kRestartsMax &&
                           (condition_ == "bad-request" || condition_ == "item-not-found" || condition_ == "not-allowed");
    if (forgotten) ++restarts;
    if ((next == Next::failed && !forgotten) || !try_again(forgotten ? Next::again : next, waits)) return error_;
  }
}

Result<wire::StatusAnswer> Session::status(const wire::StatusRequest& request) {
  wire::StatusAnswer answer;
  Patience waits = patience(false);
  if (request.watch()) waits.full = {};  // without a watch there is room
  const auto done = ask("status", request, answer, waits);
  if (!done) return done.error();
  return answer;
}

Result<wire::ResultsAnswer> Session::results(const wire::ResultsRequest& request) {
  // Only what is all there is comes with the news, so it answers whatever page of it is asked for.
  if (auto brought = brought_.extract(request.job()); !brought.empty() && request.outputs() && !request.stream() && !request.failed_only() && request.from_task() <= 1)
    return std::move(brought.mapped());
  wire::ResultsAnswer answer;
  if (const auto asked = ahead_.extract(request.SerializeAsString()); !asked.empty()) {
    Stage stage;
    if (read("results", *asked.mapped(), stage, limits_.answer, answer) == Next::done) return answer;
    answer.Clear();
  }
  const auto done = ask("results", request, answer);
  if (!done) return done.error();
  return answer;
}

void Session::ask_ahead(const wire::ResultsRequest& request) {
  // On a slow way it comes behind the others; results() waits no longer for it than for any.
  if (link_.up()) ahead_[request.SerializeAsString()] = send("results", request, {}, limits_.answer * static_cast<int>(PagePlan::kAskedMax));
}

Result<wire::CancelAnswer> Session::cancel(const std::vector<std::uint64_t>& jobs) {
  wire::CancelRequest request;
  for (const auto job : jobs) request.add_jobs(job);
  wire::CancelAnswer answer;
  const auto done = ask("cancel", request, answer);
  if (!done) return done.error();
  return answer;
}

Result<wire::WorkersAnswer> Session::workers() {
  wire::WorkersAnswer answer;
  const auto done = ask("workers", wire::WorkersRequest{}, answer);
  if (!done) return done.error();
  return answer;
}

Result<wire::WhyAnswer> Session::why(const wire::WhyRequest& request) {
  wire::WhyAnswer answer;
  const auto done = ask("why", request, answer);
  if (!done) return done.error();
  return answer;
}

Result<wire::BanAnswer> Session::ban(const wire::BanRequest& request) {
  wire::BanAnswer answer;
  const auto done = ask("ban", request, answer);
  if (!done) return done.error();
  return answer;
}

Result<wire::JobsAnswer> Session::hold(const std::vector<std::uint64_t>& jobs, bool hold) {
  wire::JobsRequest request;
  for (const auto job : jobs) request.add_jobs(job);
  wire::JobsAnswer answer;
  const auto done = ask(hold ? "hold" : "release", request, answer);
  if (!done) return done.error();
  return answer;
}

Result<wire::SubmitAnswer> Session::rerun(const wire::RerunRequest& request) {
  wire::SubmitAnswer answer;
  const auto done = ask("rerun", request, answer, patience(true));
  if (!done) return done.error();
  return answer;
}

void Session::note_status(const wire::JobStatus& job) {
  if (!watched_.contains(job.job())) return;
  auto& known = news_[job.job()];
  if (known.job() != 0 && known.submitted_ms() != job.submitted_ms()) {  // the manager has another store now, where the number is somebody else's
    stranger_ = job.job();
    return;
  }
  if (known.job() != 0 && ended(known)) return;  // an event that was overtaken by the end
  known = job;
  fresh_ = true;
}

void Session::heard(const gloox::Tag& message) {
  if (message.findAttribute("type") == "error" || bare(message.findAttribute("from")) != bare(profile_.manager)) return;
  const gloox::Tag* content = message.findChild("event");
  if (!content || content->xmlns() != ns::job) return;
  wire::Event event;
  if (!decode(content->cdata(), content->findAttribute("encoding") == "zlib", event)) return;
  sign_ = Clock::now();
  quiet_ = limits_.quiet;
  std::optional<wire::ResultsAnswer> brought;
  if (const gloox::Tag* results = message.findChild("results"); results && results->xmlns() == ns::job) {
    brought.emplace();
    if (payload_in(*results, *brought)) *brought->mutable_job() = event.job();
    else brought.reset();
  }
  const std::uint64_t job = event.job().job();
  if (!watched_.contains(job)) {
    if (early_.size() >= kEarlyMax && !early_.contains(job)) early_.erase(early_.begin());  // the oldest number
    if (Early& known = early_[job]; !ended(known.status)) known = {event.job(), std::move(brought)};
    return;
  }
  if (brought) brought_[job] = std::move(*brought);
  note_status(event.job());
}

void Session::watching(std::uint64_t job) {
  watched_.insert(job);
  renewed_ = sign_ = Clock::now();
  quiet_ = limits_.quiet;
  lost_ = false;
  auto early = early_.extract(job);  // the answer with the number and the news of the end may come in one piece
  if (early.empty()) return;
  if (early.mapped().results) brought_[job] = std::move(*early.mapped().results);
  note_status(early.mapped().status);
}

Result<Done> Session::watch(const std::vector<std::uint64_t>& jobs) {
  wire::StatusRequest request;
  for (const auto job : jobs) request.add_jobs(job);
  request.set_watch(true);
  auto answer = status(request);
  if (!answer && condition_ == "resource-constraint") {  // too many watch: then we ask from time to time, as after a lost event
    request.set_watch(false);
    answer = status(request);
  }
  if (!answer) return answer.error();
  watched_.insert(jobs.begin(), jobs.end());
  for (const auto& job : answer.value().jobs()) note_status(job);
  renewed_ = sign_ = Clock::now();
  quiet_ = std::min(std::max(quiet_ * 2, limits_.quiet), limits_.renew);
  lost_ = false;
  return Done{};
}

const wire::JobStatus* Session::news(std::uint64_t job) const {
  const auto known = news_.find(job);
  return known == news_.end() ? nullptr : &known->second;
}

Session::Clock::time_point Session::due() const { return std::min(renewed_ + limits_.renew, sign_ + quiet_); }

Result<Done> Session::await_news(Clock::time_point until) {
  while (!std::exchange(fresh_, false)) {
    if (stranger_ != 0) {
      fail({fmt::format("job {} cannot be followed any more", stranger_), "the manager knows another job by that number: its store is not the one that took this job", "ask who runs the grid; submit it again if it is lost"}, false);
      return error_;
    }
    std::vector<std::uint64_t> open;
    for (const auto job : watched_)
      if (const auto* known = news(job); !known || !ended(*known)) open.push_back(job);
    if (open.empty() || interrupted()) return Done{};
    if (lost_ || Clock::now() >= due()) {
      if (const auto done = watch(open); !done) return done;
      continue;
    }
    pump([this] { return fresh_ || lost_ || stranger_ != 0 || final_.has_value(); }, std::min(until, due()));
    if (final_) {
      fail(*final_, true);
      return error_;
    }
    if (interrupted() || Clock::now() >= until || hurried()) {
      fresh_ = false;
      return Done{};
    }
  }
  return Done{};
}

void Session::close() {
  if (closed_ || !started_) return;
  closed_ = true;
  on_tick = nullptr;
  on_note = [](const std::string&) {};
  tick_.cancel();
  if (!link_.up()) return;
  auto gone = std::make_shared<bool>(false);
  link_.stop([gone] { *gone = true; });
  const auto until = Clock::now() + limits_.close;
  while (!*gone && Clock::now() < until) loop_.run_one_until(until);
}

std::string new_key() {
  std::array<unsigned char, 16> bytes{};
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) throw std::system_error(errno, std::generic_category(), "getrandom");
  std::string text;
  for (const auto byte : bytes) text += fmt::format("{:02x}", byte);
  return text;
}

}  // namespace souk
