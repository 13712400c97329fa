#include "worker/agent.h"

#include <algorithm>
#include <csignal>
#include <utility>

#include "protocol/payload.h"  // kWhyMax

namespace souk::worker {

namespace {

std::string slots_text(int slots) { return std::to_string(slots) + (slots == 1 ? " slot" : " slots"); }

}  // namespace

Agent::Agent(Limits limits) : limits_(limits), slots_(static_cast<std::size_t>(limits.slots)), packing_(limits.slots, limits.capacity), allowed_{limits.slots, limits.slots, limits.slots, "", 0} {
  for (int slot = 0; slot < limits.slots; ++slot) idle_.insert(slot);
}

std::vector<Action> Agent::step(Instant now, Event event) {
  now_ = std::max(now_, now);
  actions_.clear();
  std::visit([this](auto& what) { on(what); }, event);
  obey_owner();
  if ((shuts_out() && greeted_) || leaving_) hand_back_waiting();
  start_waiting();
  recall_some();
  if (const auto at = hand_back_at(); at && now_ >= *at) hand_back_waiting();
  hand_back_calls();
  report();
  renew_leases();
  show();
  if (((draining_ && held_.empty()) || (leaving_ && running_count_ == 0 && !greeted_)) && !std::exchange(emptied_, true)) actions_.emplace_back(Emptied{});
  return std::exchange(actions_, {});
}

// ---- What the manager says ------------------------------------------------------------------------------------------------------

void Agent::on(Greeted& event) {
  if (event.epoch < obeyed_) {  // obeying it could run again what a newer one has taken already
    actions_.emplace_back(RefuseStale{obeyed_, jobs_seen_});
    return;
  }
  epoch_ = event.epoch;
  if (event.epoch > obeyed_) {
    obeyed_ = event.epoch;
    actions_.emplace_back(Remember{obeyed_, jobs_seen_});
  }
  greeted_ = true;
  lease_ = std::clamp<Duration>(event.lease, kLeaseMin, kLeaseMax);
  lease_due_ = now_ + lease_ / 6;  // the answer itself renews all
  lease_now_ = event.outdated;
  lease_before_hello_ = last_lease_;
  lease_again_.reset();
  lease_failures_ = 0;
  actions_.emplace_back(hello());
  std::get<AnswerHello>(actions_.back()).lease = std::chrono::duration_cast<std::chrono::milliseconds>(event.lease);
  if (allowed_.offered > 0 && allowed_.offered < limits_.slots) lease_now_ = true;  // a hello's answer tells of all slots
  // What was on its way may have reached an earlier life of the manager. The same result twice is harmless.
  flights_.clear();
  whole_.clear();
  large_.clear();
  whole_bytes_ = 0;
  retries_ = 0;
  retry_at_ = now_;
  for (auto entry = held_.begin(); entry != held_.end(); ++entry) {
    if (entry->second.phase == Phase::queued || entry->second.phase == Phase::sent) queue(entry);
  }
}

AnswerHello Agent::hello() const {
  return {state(), all_held(), rule(), allowed_.until_ms, jobs_seen_, obeyed_, std::chrono::duration_cast<std::chrono::milliseconds>(lease_)};
}

void Agent::on(Restored& event) {
  obeyed_ = std::max(obeyed_, event.epoch);
  jobs_seen_ = std::max(jobs_seen_, event.jobs_seen);
  for (auto& result : event.results) {
    const auto [entry, is_new] = held_.try_emplace(result.held.attempt);
    if (!is_new) continue;
    obeyed_ = std::max(obeyed_, result.held.attempt.epoch);
    entry->second.task = result.held.task;
    entry->second.kept = true;
    owe(entry, std::move(result.outcome));
    ++restored_;
  }
}

void Agent::on(Assigned& event) {
  if (!greeted_ || event.epoch != epoch_) {
    actions_.emplace_back(RefuseEpoch{!epoch_     ? "this worker has not been greeted yet; send hello first"
                                      : !greeted_ ? "this worker saw its manager go; send hello first"
                                                  : "this worker was last greeted in epoch " + std::to_string(epoch_->value) + "; send hello first"});
    return;
  }
  AnswerAssign answer;
  std::string closed;
  if (draining_) {
    closed = "draining";
  } else if (paused_) {
    closed = "paused by its owner";
  } else if (allowed_.offered == 0) {
    closed = "held back by its owner: " + allowed_.rule;
  } else if (blocked()) {
    closed = "holds " + std::to_string(owed_bytes_ >> 20) + " MiB of results that the manager has not taken yet";
  }
  if (held_.empty()) lease_due_ = now_ + lease_ / 6;
  JobId newest = jobs_seen_;
  for (const Assignment& assignment : event.assignments) newest = std::max(newest, assignment.task.job);
  if (newest > jobs_seen_) {
    jobs_seen_ = newest;
    actions_.emplace_back(Remember{obeyed_, jobs_seen_});
  }
  for (Assignment& assignment : event.assignments) {
    const AttemptId attempt = assignment.attempt;
    if (held_.contains(attempt)) continue;  // a repeated message; it is ours already
    if (closed.empty() && held_.size() >= limits_.held_max) closed = "holds " + std::to_string(held_.size()) + " attempts, its bound";
    if (!closed.empty()) {
      answer.refused.push_back(attempt.number);
      answer.why = closed;
      continue;
    }
    if (!assignment.refusal.empty()) {
      answer.refused.push_back(attempt.number);
      answer.why = assignment.refusal;
      continue;
    }
    if (assignment.command == nullptr && assignment.problem.empty()) {
      answer.refused.push_back(attempt.number);
      answer.missing.insert(assignment.task.job);
      continue;
    }
    auto never = assignment.command != nullptr ? packing_.never(assignment.needs) : std::nullopt;
    if (!never && assignment.command != nullptr && assignment.needs.cpus > allowed_.offered)
      never = "asks " + std::to_string(assignment.needs.cpus) + " cpus, its owner leaves " + std::to_string(allowed_.offered) + " now: " + allowed_.rule;
    if (never) {
      answer.refused.push_back(attempt.number);
      answer.why = *never;
      continue;
    }
    const auto entry = held_.try_emplace(attempt).first;
    entry->second.task = assignment.task;
    if (assignment.command == nullptr) {  // no later try of the same bytes ends better, so it is a result and no refusal
      auto outcome = std::make_shared<Outcome>();
      outcome->cause = Cause::not_started;
      outcome->why = assignment.problem.substr(0, kWhyMax);
      owe(entry, std::move(outcome));
      continue;
    }
    entry->second.assignment = std::move(assignment);
    if (waiting_count_++ == 0) moved_at_ = now_;
    waiting_.push_back(attempt);
  }
  if (answer.why.empty() && !answer.missing.empty()) answer.why = "no command for its job came with it";
  actions_.emplace_back(std::move(answer));
}

void Agent::on(StopAsked& event) {
  for (const AttemptId attempt : event.attempts) {
    const auto entry = held_.find(attempt);
    if (entry == held_.end()) continue;
    if (entry->second.phase == Phase::waiting) {
      --waiting_count_;
      auto outcome = std::make_shared<Outcome>();
      outcome->cause = Cause::canceled;
      owe(entry, std::move(outcome));
      gather_until_ = now_;  // somebody waits for it
    } else if (entry->second.phase == Phase::running) {
      Slot& slot = slots_[static_cast<std::size_t>(entry->second.slot)];
      if (slot.next == attempt) slot.next_stopped = true;  // recall_some()
      else if (slot.calls > 0) actions_.emplace_back(StopCall{entry->second.slot, attempt});
      else if (!std::exchange(slot.stopping, true)) actions_.emplace_back(StopSlot{entry->second.slot});
    }
  }
}

void Agent::on(LeaseTaken& event) {
  if (event.lease > lease_before_hello_) lease_failures_ = 0;
}

/// A new manager refuses a lease that left before its hello came here, although it knows us since.
void Agent::on(LeaseFailed& event) {
  if (event.lease <= lease_before_hello_) return;
  if (event.unknown) greeted_ = false;
  if (event.lease == last_lease_) lease_again_ = now_ + pause_after(lease_failures_++);  // else a later one told more
}

void Agent::on(ManagerGone&) { greeted_ = false; }

// ---- What the host and its owner say --------------------------------------------------------------------------------------------

void Agent::on(Finished& event) {
  if (event.slot < 0 || event.slot >= limits_.slots) return;
  Slot& slot = slots_[static_cast<std::size_t>(event.slot)];
  if (!slot.attempt) return;
  const auto entry = held_.find(*slot.attempt);
  // A service manager may tell TERM to all of a service's processes at once: so this was meant for the worker, and is no failure of the task.
  if (leaving_ && !slot.stopping && event.outcome.cause == Cause::signaled && event.outcome.signal == SIGTERM) {
    slot.handing_back = true;
    event.outcome.cause = Cause::canceled;
  }
  if (slot.handing_back && !slot.stopping && event.outcome.cause == Cause::canceled) {  // the manager runs it again; nobody reads what it wrote here
    event.outcome.out.clear();
    event.outcome.err.clear();
    event.outcome.why = leaving_ ? "handed back: its worker was stopped" : "handed back by its owner" + (rule().empty() ? "" : ": " + rule());
  }
  if (event.outcome.cause == Cause::exited) {
    const auto took = static_cast<double>(event.outcome.wall.count());
    process_us_ = process_us_ < 0 ? took : process_us_ + (took - process_us_) / 8;
  }
  if (slot.next) promote(event.slot);
  else free(event.slot);
  --running_count_;
  moved_at_ = now_;
  if (event.outcome.why.size() > kWhyMax) event.outcome.why.resize(kWhyMax);
  owe(entry, std::make_shared<const Outcome>(std::move(event.outcome)));
}

/// The slot is never free in between, and what was lined up has what the one before had.
void Agent::promote(int number) {
  Slot& slot = slots_[static_cast<std::size_t>(number)];
  Slot then;
  then.attempt = slot.next;
  then.needs = std::move(slot.needs);
  then.answered = now_;
  then.began = ++starts_;
  then.stopping = slot.next_stopped;
  slot = std::move(then);
  lines_.erase(number);
  if (slot.stopping) actions_.emplace_back(StopSlot{number});  // it began before it could be recalled
}

void Agent::on(Recalled& event) {
  if (event.slot < 0 || event.slot >= limits_.slots) return;
  Slot& slot = slots_[static_cast<std::size_t>(event.slot)];
  if (!slot.next) return;
  const AttemptId attempt = *std::exchange(slot.next, std::nullopt);
  const auto entry = held_.find(attempt);
  lines_.erase(event.slot);
  --running_count_;
  slot.recalling = false;
  if (std::exchange(slot.next_stopped, false)) {
    auto outcome = std::make_shared<Outcome>();
    outcome->cause = Cause::canceled;
    owe(entry, std::move(outcome));
    gather_until_ = now_;  // somebody waits for it
    return;
  }
  entry->second.phase = Phase::waiting;
  entry->second.slot = -1;
  entry->second.assignment = std::exchange(slot.next_assignment, {});
  entry->second.recalled = true;
  waiting_.push_front(attempt);
  ++waiting_count_;
}

/// What is lined up waits for one slot only. It comes back when that one stands, or takes long, or another has nothing to do.
void Agent::recall_some() {
  const bool room = waiting_count_ == 0 && !idle_.empty() && slots_used() < allowed_.offered;
  for (const int number : lines_) {
    Slot& slot = slots_[static_cast<std::size_t>(number)];
    const bool comes_back = slot.next_stopped || slot.paused || slot.stopping || slot.handing_back || shuts_out() || leaving_ || blocked() || slots_used() > allowed_.offered || room || now_ >= slot.lined_up + kHandBackAfter;
    if (!comes_back || std::exchange(slot.recalling, true)) continue;
    actions_.emplace_back(Recall{number});
  }
}

/// A slot behind whose process this one can stand, or -1: the one whose process began first. Only where processes are short: then nobody waits long for a slot
/// while another one is free, and what it saves, the way from the runner here and back, is worth something.
int Agent::slot_to_line_up(const Assignment& assignment) const {
  if (process_us_ < 0 || process_us_ >= std::chrono::duration<double, std::micro>(kLineUpBelow).count()) return -1;
  if (!assignment.command->service.empty() || assignment.command->pin || slots_used() > allowed_.offered || leaving_) return -1;
  int found = -1;
  for (int number = 0; number < limits_.slots; ++number) {
    const Slot& slot = slots_[static_cast<std::size_t>(number)];
    const bool takes = slot.attempt && !slot.next && !slot.paused && !slot.stopping && !slot.handing_back && slot.granted == Granted{} && slot.needs == assignment.needs;
    if (takes && (found < 0 || slot.began < slots_[static_cast<std::size_t>(found)].began)) found = number;
  }
  return found;
}

void Agent::free(int number) {
  Slot& slot = slots_[static_cast<std::size_t>(number)];
  packing_.give_back(slot.needs, slot.granted);
  slot = Slot{};
  idle_.insert(number);
}

void Agent::on(CallsEnded& event) {
  if (event.slot < 0 || event.slot >= limits_.slots) return;
  Slot& slot = slots_[static_cast<std::size_t>(event.slot)];
  for (CallsEnded::Ended& call : event.calls) {
    const auto entry = held_.find(call.attempt);
    if (entry == held_.end() || entry->second.phase != Phase::running || entry->second.slot != event.slot || slot.calls == 0) continue;
    if (call.outcome.cause == Cause::exited) {
      const auto took = static_cast<double>(call.outcome.wall.count());
      double& mean = slot.service->call_us;
      mean = mean < 0 ? took : mean + (took - mean) / 8;
    }
    if (slot.handing_back && !slot.stopping && call.outcome.cause == Cause::canceled) call.outcome.why = leaving_ ? "handed back: its worker was stopped" : "handed back by its owner" + (rule().empty() ? "" : ": " + rule());
    if (call.outcome.why.size() > kWhyMax) call.outcome.why.resize(kWhyMax);
    if (--slot.calls == 1) --queues_;
    --running_count_;
    entry->second.quick = call.outcome.wall < kKeptFrom;
    owe(entry, std::make_shared<const Outcome>(std::move(call.outcome)));
  }
  moved_at_ = slot.answered = now_;
  if (slot.calls == 0 && slot.service != nullptr) free(event.slot);
}

/// A call that takes long keeps those behind it waiting, whatever the others took: they go back, and may find another slot or worker.
void Agent::hand_back_calls() {
  if (queues_ == 0 || !greeted_) return;
  for (int number = 0; number < limits_.slots; ++number) {
    Slot& slot = slots_[static_cast<std::size_t>(number)];
    if (slot.calls < 2 || slot.paused || now_ < slot.answered + kHandBackAfter) continue;
    slot.service->call_us = std::max(slot.service->call_us, static_cast<double>(Duration(kHandBackAfter).count()));
    bool first = true;  // the oldest of its calls has the lowest number, but for a repeated epoch, where any one may stay
    for (auto entry = held_.begin(); entry != held_.end(); ++entry) {
      if (entry->second.phase != Phase::running || entry->second.slot != number || std::exchange(first, false)) continue;
      actions_.emplace_back(ForsakeCall{number, entry->first});
      --running_count_;
      owe(entry, nullptr);
    }
    slot.calls = 1;
    --queues_;
  }
}

void Agent::on(Drain&) { lease_now_ |= !std::exchange(draining_, true); }
void Agent::on(Leave& event) {
  leaving_ = true;
  let_end_ = event.let_end;
  lease_now_ |= !std::exchange(draining_, true);
}
void Agent::on(DiskRefuses& event) {
  const std::string before = rule();
  disk_trouble_ = std::move(event.why);
  lease_now_ |= rule() != before;
}
void Agent::on(Pause&) { lease_now_ |= !std::exchange(paused_, true); }
void Agent::on(Resume&) { lease_now_ |= std::exchange(paused_, false); }
void Agent::on(Allowance& event) {
  event.offered = std::clamp(event.offered, 0, std::min({limits_.slots, event.running, event.kept}));  // what starts must be able to go on
  lease_now_ |= event.offered != allowed_.offered || event.rule != allowed_.rule || event.until_ms != allowed_.until_ms;
  allowed_ = std::move(event);
}

/// The oldest keep what they have as far as it goes.
void Agent::obey_owner() {
  const bool all_back = leaving_ && !let_end_;
  const bool all_may = allowed_.running >= limits_.slots && allowed_.kept >= limits_.slots && !all_back;
  if (running_count_ == 0 || (all_may && !some_paused_)) return;
  std::vector<std::pair<std::uint64_t, int>> by_age;
  for (int number = 0; number < limits_.slots; ++number)
    if (const Slot& slot = slots_[static_cast<std::size_t>(number)]; slot.busy()) by_age.emplace_back(slot.began, number);
  std::sort(by_age.begin(), by_age.end());
  int running = all_back ? 0 : allowed_.running, kept = all_back ? 0 : allowed_.kept;
  some_paused_ = false;
  for (const auto& [began, number] : by_age) {
    Slot& slot = slots_[static_cast<std::size_t>(number)];
    const bool ending = slot.stopping || slot.handing_back;
    const bool keeps = slot.needs.cpus <= kept, runs = slot.needs.cpus <= running;
    if (keeps) kept -= slot.needs.cpus;
    if (runs) running -= slot.needs.cpus;
    if (!keeps && !ending) {
      slot.handing_back = true;
      actions_.emplace_back(StopSlot{number});
    } else if (!ending && slot.paused == runs) {
      slot.paused = !runs;
      slot.answered = now_;  // the time it stood does not count
      runs ? actions_.emplace_back(ResumeSlot{number}) : actions_.emplace_back(PauseSlot{number});
    }
    some_paused_ |= slot.paused && !slot.handing_back;
  }
}

// ---- Running ---------------------------------------------------------------------------------------------------------------------

/// A slot whose service can take this call ahead, or -1. In turn, so that they fill alike.
int Agent::slot_behind_calls(const Assignment& assignment) {
  if (slots_used() > allowed_.offered) return -1;  // what is there may end, and no more: else a slot that is always called is never given back
  const auto service = services_.find(assignment.command->service);
  if (service == services_.end()) return -1;
  const int ahead = service->second.ahead();
  for (int tried = 0; tried < limits_.slots; ++tried) {
    if (next_call_ >= limits_.slots) next_call_ = 0;
    const Slot& slot = slots_[static_cast<std::size_t>(next_call_)];
    const bool takes = slot.calls > 0 && slot.service == &service->second && slot.calls < ahead && !slot.stopping && !slot.handing_back && !slot.paused && slot.needs == assignment.needs;
    // A few in a row: what is written at once costs one wake-up.
    if (takes) return slot.calls % 16 == 15 ? next_call_++ : next_call_;
    ++next_call_;
  }
  return -1;
}

void Agent::start_waiting() {
  while (waiting_count_ > 0 && !blocked() && !shuts_out()) {
    const AttemptId attempt = waiting_.front();
    const auto entry = held_.find(attempt);
    if (entry == held_.end() || entry->second.phase != Phase::waiting) {  // stopped meanwhile
      waiting_.pop_front();
      continue;
    }
    const Assignment& assignment = entry->second.assignment;
    const bool is_call = !assignment.command->service.empty();
    if (idle_.empty() || !has_room(assignment.needs)) {
      if (const int line = entry->second.recalled ? -1 : slot_to_line_up(assignment); line >= 0) {
        waiting_.pop_front();
        Slot& slot = slots_[static_cast<std::size_t>(line)];
        slot.next = attempt;
        slot.next_assignment = std::exchange(entry->second.assignment, {});
        slot.lined_up = now_;
        lines_.insert(line);
        entry->second.phase = Phase::running;
        entry->second.slot = line;
        --waiting_count_;
        ++running_count_;
        actions_.emplace_back(LineUp{line, slot.next_assignment});
        continue;
      }
      const int behind = is_call ? slot_behind_calls(assignment) : -1;
      if (behind < 0) break;
      waiting_.pop_front();
      Slot& slot = slots_[static_cast<std::size_t>(behind)];
      if (++slot.calls == 2) ++queues_;
      entry->second.phase = Phase::running;
      entry->second.slot = behind;
      --waiting_count_;
      ++running_count_;
      moved_at_ = now_;
      actions_.emplace_back(Call{behind, std::move(entry->second.assignment)});
      continue;
    }
    waiting_.pop_front();
    const int slot = *idle_.begin();
    idle_.erase(idle_.begin());
    Granted granted = packing_.take(assignment.needs, assignment.command->pin);
    Slot& taken = slots_[static_cast<std::size_t>(slot)];
    taken.needs = assignment.needs;
    taken.granted = granted;
    taken.began = ++starts_;
    taken.answered = now_;
    if (is_call) taken.calls = 1, taken.service = &services_[assignment.command->service];
    else taken.attempt = attempt;
    entry->second.phase = Phase::running;
    entry->second.slot = slot;
    --waiting_count_;
    ++running_count_;
    moved_at_ = now_;
    if (is_call) actions_.emplace_back(Call{slot, std::move(entry->second.assignment)});
    else actions_.emplace_back(Start{slot, std::move(entry->second.assignment), std::move(granted)});
  }
  if (waiting_count_ == 0) waiting_.clear();
}

/// What waits does not fit beside what runs, and that did not change since the last start or end.
std::optional<Instant> Agent::hand_back_at() const {
  if (!greeted_ || waiting_count_ == 0) return std::nullopt;
  return moved_at_ + kHandBackAfter;
}

void Agent::hand_back_waiting() {
  for (const AttemptId attempt : std::exchange(waiting_, {})) {
    const auto entry = held_.find(attempt);
    if (entry == held_.end() || entry->second.phase != Phase::waiting) continue;
    --waiting_count_;
    owe(entry, nullptr);
  }
}

// ---- Leases, presence, time -----------------------------------------------------------------------------------------------------

/// Who holds nothing speaks too, once a lease: the manager may have missed what changed, and it gives nothing to whom it thinks silent.
Instant Agent::lease_at() const {
  const Instant due = held_.empty() ? lease_due_ + (lease_ - lease_ / 6) : lease_due_;
  return lease_again_ ? std::min(due, *lease_again_) : due;
}

void Agent::renew_leases() {
  const bool now = std::exchange(lease_now_, false);
  if (!greeted_ || (!now && now_ < lease_at())) return;
  lease_due_ = now_ + lease_ / 6;
  lease_again_.reset();
  actions_.emplace_back(SendLease{++last_lease_, all_held(), state(), allowed_.offered, rule(), allowed_.until_ms});
}

/// When what is shown must change; nothing while it is true.
std::optional<Instant> Agent::show_at() const {
  if (shown_is_true()) return std::nullopt;
  Instant at = shown_at_ ? *shown_at_ + kShowEvery : now_;
  if (free_since_ && shown_ == Availability::busy) at = std::max(at, *free_since_ + kShowFreeAfter);
  return at;
}

void Agent::show() {
  if (const bool free = state() == Availability::free; free != free_since_.has_value()) free_since_ = free ? std::optional(now_) : std::nullopt;
  if (const auto at = show_at(); !at || now_ < *at) return;
  shown_ = state();
  shown_rule_ = rule();
  shown_at_ = now_;
  actions_.emplace_back(Show{shown_, status()});
}

Availability Agent::state() const {
  if (draining_) return Availability::draining;
  if (shuts_out()) return Availability::paused;
  return slots_used() >= allowed_.offered || blocked() ? Availability::busy : Availability::free;
}

std::string Agent::status() const {
  const bool less = allowed_.offered < limits_.slots;
  const std::string of = less ? std::to_string(allowed_.offered) + " of " + slots_text(limits_.slots) + ", " + allowed_.rule : slots_text(limits_.slots);
  switch (state()) {
    case Availability::free: return "free: " + of;
    case Availability::busy:
      if (slots_used() < allowed_.offered) return "busy: holds " + std::to_string(owed_bytes_ >> 20) + " MiB of results for the manager";
      return "busy: " + std::to_string(slots_used()) + " of " + slots_text(limits_.slots) + (less ? ", " + allowed_.rule : "");
    case Availability::draining: return "draining: " + std::to_string(running_count_) + " running";
    case Availability::paused: return paused_ ? "paused: by its owner" : "paused: " + allowed_.rule;
  }
  return {};
}

std::optional<Instant> Agent::wake_at() const {
  std::optional<Instant> first;
  const auto at = [&first](Instant when) { first = first ? std::min(*first, when) : when; };
  if (greeted_) at(lease_at());
  if (const auto when = hand_back_at()) at(*when);
  for (const Slot& slot : slots_) {
    if (queues_ == 0 || !greeted_) break;
    if (slot.calls > 1 && !slot.paused) at(slot.answered + kHandBackAfter);
  }
  for (const int number : lines_)
    if (const Slot& slot = slots_[static_cast<std::size_t>(number)]; !slot.recalling) at(slot.lined_up + kHandBackAfter);
  if (greeted_ && retry_at_ > now_ && something_queued()) at(retry_at_);
  if (greeted_ && gathering()) at(gather_until_);
  if (const auto when = show_at()) at(*when);
  return first;
}

std::vector<Held> Agent::all_held() const {
  std::vector<Held> all;
  all.reserve(held_.size());
  for (const auto& [attempt, entry] : held_) all.push_back(Held{attempt, entry.task});
  return all;
}

std::optional<std::string> Agent::broken_invariant() const {
  std::size_t waiting = 0, running = 0, bytes = 0, whole = 0, in_flight = 0;
  for (const auto& [attempt, entry] : held_) {
    const bool owed = entry.phase == Phase::queued || entry.phase == Phase::sent;
    waiting += entry.phase == Phase::waiting;
    running += entry.phase == Phase::running;
    if (owed) bytes += kept_bytes(entry.outcome.get());
    if (entry.phase == Phase::queued && entry.whole()) whole += entry.cost();
    if (entry.phase == Phase::waiting && entry.assignment.command == nullptr) return "a waiting attempt has no command";
    if (entry.phase == Phase::waiting && std::find(waiting_.begin(), waiting_.end(), attempt) == waiting_.end()) return "a waiting attempt is in no queue";
    if (entry.phase == Phase::running && slots_[static_cast<std::size_t>(entry.slot)].attempt != attempt && slots_[static_cast<std::size_t>(entry.slot)].next != attempt && slots_[static_cast<std::size_t>(entry.slot)].calls == 0) return "a running attempt is not in its slot";
    if (!owed && entry.outcome != nullptr) return "an attempt has a result before it ended";
    if (entry.kept != (entry.outcome != nullptr && !entry.quick)) return entry.kept ? "something is kept that is no result" : "a result is not kept";
    if (attempt.epoch > obeyed_) return "an attempt is of an epoch that was never obeyed";
    if (entry.phase == Phase::queued) {
      const bool there = entry.whole() ? std::find(whole_.begin(), whole_.end(), attempt) != whole_.end()
                                       : std::any_of(large_.begin(), large_.end(), [&a = attempt](const Large& large) { return large.attempt == a; });
      if (!there) return "a result to report is in no queue";
    }
    if (entry.phase == Phase::sent) {
      const bool there = std::any_of(flights_.begin(), flights_.end(), [&a = attempt](const auto& flight) {
        return (flight.second.large == a && flight.second.large_ended) || std::find(flight.second.whole.begin(), flight.second.whole.end(), a) != flight.second.whole.end();
      });
      if (!there) return "a sent result is in no report";
    }
  }
  std::size_t busy = 0, running_there = 0;
  int queues = 0;
  for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
    const Slot& one = slots_[slot];
    if (one.attempt && one.calls > 0) return "a slot has a process and calls";
    if ((one.calls > 0) != (one.service != nullptr)) return "a slot has calls of no service, or a service without calls";
    if (one.next && (!one.attempt || !one.next_assignment.command)) return "something is lined up behind nothing, or has no command";
    if (one.next.has_value() != lines_.contains(static_cast<int>(slot))) return "slots with something lined up are miscounted";
    busy += one.busy(), queues += one.calls > 1, running_there += one.next ? 1 : 0, running_there += one.attempt ? 1 : static_cast<std::size_t>(one.calls);
    if (one.busy() == idle_.contains(static_cast<int>(slot))) return "a slot is both idle and busy, or neither";
  }
  Packing packed(limits_.slots, limits_.capacity);
  for (const Slot& slot : slots_)
    if (slot.busy() && !packed.take_these(slot.needs, slot.granted)) return "what runs takes more than there is, or the same twice";
  if (!(packed == packing_)) return "what is free is miscounted";
  in_flight = flights_.size();
  if (waiting != waiting_count_) return "waiting attempts are miscounted";
  if (running != running_count_ || running != running_there || busy + idle_.size() != slots_.size() || queues != queues_) return "running attempts are miscounted";
  if (bytes != owed_bytes_) return "owed bytes are miscounted";
  if (whole != whole_bytes_) return "bytes to report are miscounted";
  if (held_.size() > std::max(limits_.held_max, restored_)) return "more attempts are held than the bound allows";
  if (in_flight > static_cast<std::size_t>(kReportsInFlightMax)) return "too many reports are in flight";
  int goes_on = 0;
  for (const Slot& slot : slots_)
    if (slot.busy() && !slot.paused && !slot.stopping && !slot.handing_back) goes_on += slot.needs.cpus;
  if (goes_on > std::min(allowed_.running, allowed_.kept)) return "more runs than its owner allows";
  if (waiting > 0 && leaving_) return "something waits although the worker leaves";
  if (waiting > 0 && !blocked() && !shuts_out()) {
    const auto first = std::find_if(waiting_.begin(), waiting_.end(), [this](AttemptId id) { return held_.contains(id) && held_.at(id).phase == Phase::waiting; });
    if (!idle_.empty() && has_room(held_.at(*first).assignment.needs)) return "the first in line waits although all it needs is free";
  }
  if (const auto at = wake_at(); at && *at <= now_) return "something is due and was not done";
  return std::nullopt;
}

}  // namespace souk::worker
