#include "worker/service_life.h"

#include <algorithm>
#include <utility>

namespace souk::worker {

namespace {
Duration pause_after(int failures) {
  if (failures <= 1) return Duration{0};  // once is an accident: at once
  return std::min<Duration>(kServiceRestMax, Duration(kServiceRestMin) * (1 << std::min(failures - 2, 7)));
}
}  // namespace

std::vector<ServiceLife::Action> ServiceLife::step(Instant now, Event event) {
  now_ = std::max(now_, now);
  actions_.clear();
  std::visit([this](auto& what) { on(what); }, event);
  act_in_time();
  return std::exchange(actions_, {});
}

void ServiceLife::on(Called& event) {
  queued_.insert(queued_.end(), event.calls.begin(), event.calls.end());
  idle_since_ = now_;
  if (state_ == State::resting && bad_starts_ >= kServiceStartsMax && now_ < rest_until_) return not_started();  // one try a rest, not a rest a call
  if (state_ == State::absent && !paused_at_) start();
  else if (state_ == State::ready) send_queued();
}

void ServiceLife::start() {
  state_ = State::starting;
  since_ = now_;
  came_up_ = answered_ = hung_ = false;
  killed_for_.clear();
  front_id_ = 1;
  pinged_ = true;
  actions_.emplace_back(Start{});
  actions_.emplace_back(Ping{});
}

void ServiceLife::send_queued() {
  if (queued_.empty() || paused_at_) return;
  if (sent_.empty()) head_since_ = now_, unwanted_due_.reset();
  for (const Call& call : queued_) {
    const std::uint64_t id = front_id_ + sent_.size();
    sent_.push_back({call});
    actions_.emplace_back(Send{call.call, id});
  }
  sent_open_ += queued_.size();
  queued_.clear();
}

void ServiceLife::over(const Call& call, End end, Duration wall, std::string why, std::size_t answer) { actions_.emplace_back(Over{call.call, end, wall, std::move(why), answer}); }

void ServiceLife::not_started() {
  for (const Call& call : std::exchange(queued_, {})) over(call, End::not_started, Duration{0}, "service " + name_ + " does not start: " + not_started_for_);
}

std::deque<ServiceLife::Sent>::iterator ServiceLife::head() {
  return std::find_if(sent_.begin(), sent_.end(), [](const Sent& one) { return one.doom != Doom::done; });
}

/// What is done at the front goes; then another one is the head.
void ServiceLife::pop_done() {
  bool popped = false;
  while (!sent_.empty() && sent_.front().doom == Doom::done) sent_.pop_front(), ++front_id_, popped = true;
  if (!popped) return;
  head_since_ = now_;
  unwanted_due_.reset();
}

void ServiceLife::on(Answered& event) {
  if (state_ != State::starting && state_ != State::ready) return;  // it is being ended: too late
  std::size_t calls = 0;
  for (const std::uint64_t id : event.ids)
    if (id != 0) ++calls;
  const Duration wall = calls == 0 || sent_.empty() ? Duration{0} : (now_ - head_since_) / static_cast<std::int64_t>(calls);
  since_ = now_;
  for (std::size_t at = 0; at < event.ids.size(); ++at) {
    const std::uint64_t id = event.ids[at];
    if (id == 0) {
      if (!pinged_) return spoil("it answered a ping, which it was not sent");
      pinged_ = false;
      if (state_ == State::starting) {
        state_ = State::ready;
        came_up_ = true;
        bad_starts_ = 0;
        idle_since_ = now_;
        actions_.emplace_back(Note{false, "ready"});
      }
      continue;
    }
    if (id < front_id_ || id - front_id_ >= sent_.size() || sent_[id - front_id_].doom == Doom::done) return spoil("it answered request " + std::to_string(id) + ", which it was not asked");
    Sent& sent = sent_[id - front_id_];
    answered_ = true;
    failures_ = 0;
    if (sent.open()) {
      --sent_open_;
      if (sent.doom == Doom::unwanted) over(sent.call, End::canceled, wall);
      else over(sent.call, End::answered, wall, {}, at);
    }
    sent.doom = Doom::done;
    if (id == front_id_) pop_done();
  }
  if (calls > 0) idle_since_ = now_;
  if (state_ == State::ready) send_queued();
}

/// It must go now; the head is what it was at.
void ServiceLife::kill(std::string why) {
  if (state_ == State::ending && !hung_) return;
  state_ = State::ending;
  hung_ = false;
  since_ = now_;
  killed_for_ = std::move(why);
  actions_.emplace_back(Note{true, "killed: " + killed_for_});
  actions_.emplace_back(Kill{});
}

/// What it writes cannot be trusted any more; the head pays, or the next process would do the same at it, and the next.
void ServiceLife::spoil(std::string why) {
  if (state_ != State::starting && state_ != State::ready) return;
  if (const auto first = head(); first != sent_.end() && first->doom == Doom::none) first->doom = Doom::broken;
  kill(std::move(why));
}

void ServiceLife::on(Spoiled& event) { spoil(std::move(event.why)); }

void ServiceLife::on(Died& event) {
  if (!runs()) return;
  const bool by_itself = state_ != State::ending, left = state_ == State::ending && (hung_ || killed_for_.empty());
  const std::string how = killed_for_.empty() ? "it " + event.how : killed_for_;
  if (by_itself) actions_.emplace_back(Note{true, "gone: " + how});
  std::deque<Call> again;
  bool head = true;
  for (Sent& sent : sent_) {
    if (sent.doom == Doom::done) continue;
    const bool is_head = std::exchange(head, false);
    const Duration wall = is_head ? now_ - head_since_ : Duration{0};
    if (sent.doom == Doom::unwanted) over(sent.call, End::canceled, wall);
    else if (sent.doom == Doom::late) over(sent.call, End::timed_out, wall);
    else if (sent.doom == Doom::broken) over(sent.call, End::broken, wall, "service " + name_ + " was stopped at it: " + how);
    else if (sent.doom == Doom::none && is_head && by_itself) over(sent.call, End::lost, wall, "service " + name_ + " was gone before it answered: " + how);
    else if (sent.doom == Doom::none) again.push_back(sent.call);
  }
  queued_.insert(queued_.begin(), again.begin(), again.end());
  sent_.clear();
  sent_open_ = 0;
  unwanted_due_.reset();
  if (!left && !answered_) ++failures_;
  if (!came_up_ && !left && ++bad_starts_ >= kServiceStartsMax) {
    not_started_for_ = how;
    not_started();
  }
  rest_until_ = now_ + (left ? Duration{0} : pause_after(failures_));
  state_ = rest_until_ > now_ ? State::resting : State::absent;
  if (state_ == State::absent && !queued_.empty() && !paused_at_) start();
}

void ServiceLife::on(Unwanted& event) {
  const auto queued = std::find_if(queued_.begin(), queued_.end(), [&](const Call& call) { return call.call == event.call; });
  if (queued != queued_.end()) {
    over(*queued, End::canceled, Duration{0});
    queued_.erase(queued);
    return;
  }
  const auto sent = std::find_if(sent_.begin(), sent_.end(), [&](const Sent& one) { return one.call.call == event.call; });
  if (sent == sent_.end() || sent->doom != Doom::none) return;
  if (sent != head()) {
    sent->doom = Doom::dropped;  // it will be answered all the same; until then its place in the pipe is taken
    --sent_open_;
    return over(sent->call, End::canceled, Duration{0});
  }
  sent->doom = Doom::unwanted;
  if (paused_at_) {  // it could not use its grace
    answered_ = true;
    return kill("its call was stopped while it was paused");
  }
  unwanted_due_ = now_ + sent->call.grace;
}

void ServiceLife::on(Forsaken& event) {
  std::erase_if(queued_, [&](const Call& call) { return call.call == event.call; });
  const auto sent = std::find_if(sent_.begin(), sent_.end(), [&](const Sent& one) { return one.call.call == event.call; });
  if (sent == sent_.end() || !sent->open()) return;
  sent->doom = Doom::dropped;
  --sent_open_;
}

void ServiceLife::on(Paused&) {
  if (!paused_at_) paused_at_ = now_;
  if (state_ != State::ready || !unwanted_due_) return;
  answered_ = true;
  kill("its call was stopped, and it is paused");  // what is left of its grace would last as long as the pause
}

void ServiceLife::on(Resumed&) {
  if (!paused_at_) return;
  const Duration stood = now_ - *std::exchange(paused_at_, std::nullopt);
  head_since_ += stood, since_ += stood, idle_since_ += stood;
  if (unwanted_due_) *unwanted_due_ += stood;
  if (state_ == State::ready) send_queued();
  if (state_ == State::absent && !queued_.empty()) start();
}

void ServiceLife::on(Tick&) {}

std::optional<Instant> ServiceLife::head_due() const {
  const auto head = std::find_if(sent_.begin(), sent_.end(), [](const Sent& one) { return one.doom != Doom::done; });
  if (head == sent_.end()) return std::nullopt;
  if (head->doom == Doom::unwanted) return unwanted_due_;
  if (head->doom == Doom::dropped) return head_since_ + head->call.grace;  // nobody waits for it but those behind it
  if (head->doom == Doom::none && head->call.time_limit > Duration{0}) return head_since_ + head->call.time_limit;
  return std::nullopt;
}

void ServiceLife::act_in_time() {
  switch (state_) {
    case State::absent: return;
    case State::starting:
      if (!paused_at_ && now_ >= since_ + kServiceStartMax) kill("no answer to its first ping within " + std::to_string(kServiceStartMax.count() / 1000) + " s");
      return;
    case State::ready: {
      if (paused_at_) return;
      if (const auto due = head_due(); due && now_ >= *due) {
        const auto first = head();
        const bool late = first->doom == Doom::none;
        if (late) first->doom = Doom::late;
        answered_ = true;  // slow is not broken: no pause before the next
        return kill(late ? "a call took longer than its time limit" : "it did not end a call that nobody wants any more");
      }
      if (!sent_.empty()) return;
      if (pinged_ && now_ >= since_ + kServicePingWithin) return kill("no answer to a ping within " + std::to_string(kServicePingWithin.count() / 1000) + " s");
      if (now_ >= idle_since_ + kServiceIdleMax) {
        state_ = State::ending;
        hung_ = true;
        since_ = now_;
        actions_.emplace_back(Note{false, "idle: stopped"});
        actions_.emplace_back(Hang{});
        return;
      }
      if (!pinged_ && now_ >= since_ + kServicePingEvery) {
        pinged_ = true;
        since_ = now_;
        actions_.emplace_back(Ping{});
      }
      return;
    }
    case State::ending:
      if (hung_ && !paused_at_ && now_ >= since_ + kServiceLeaveMax) {
        hung_ = false;
        actions_.emplace_back(Kill{});
      }
      return;
    case State::resting:
      if (now_ < rest_until_) return;
      state_ = State::absent;
      if (!queued_.empty() && !paused_at_) start();
      return;
  }
}

std::optional<Instant> ServiceLife::wake_at() const {
  switch (state_) {
    case State::absent: return std::nullopt;
    case State::resting: return rest_until_;
    default: break;
  }
  if (paused_at_) return std::nullopt;
  if (state_ == State::starting) return since_ + kServiceStartMax;
  if (state_ == State::ending) return hung_ ? std::optional(since_ + kServiceLeaveMax) : std::nullopt;
  if (!sent_.empty()) return head_due();
  const Instant idle = idle_since_ + kServiceIdleMax;
  return std::min(idle, since_ + (pinged_ ? kServicePingWithin : kServicePingEvery));
}

std::optional<std::string> ServiceLife::broken_invariant() const {
  std::size_t open = 0;
  for (const Sent& sent : sent_) open += sent.open();
  if (open != sent_open_) return "open calls are miscounted";
  if (!sent_.empty() && state_ != State::ready && state_ != State::ending) return "calls are with a process that is not there";
  if (!sent_.empty() && sent_.front().doom == Doom::done) return "the head is done";
  if (!queued_.empty() && state_ == State::absent && !paused_at_) return "calls wait and nothing is started";
  if (!queued_.empty() && state_ == State::ready && !paused_at_) return "calls wait although it is ready";
  if (const auto at = wake_at(); at && *at <= now_) return "something is due and was not done";
  return std::nullopt;
}

}  // namespace souk::worker
