// What a worker owes its manager: results and attempts that it hands back, from their end until the manager has them. The events of it, and reports.
#include <algorithm>
#include <utility>

#include "protocol/payload.h"  // kStanzaMax
#include "worker/agent.h"

namespace souk::worker {

namespace {

// Bytes that a report needs beside streams and reasons, at most: every number of an attempt and of an outcome at its longest.
constexpr std::size_t kResultCost = 160, kReturnCost = 52, kPieceCost = 72;
constexpr std::size_t kReportRoom = kStanzaMax - 64;

}  // namespace

std::size_t Agent::kept_bytes(const Outcome* outcome) {
  return kResultCost + (outcome == nullptr ? 0 : outcome->out.size() + outcome->err.size() + outcome->why.size());
}

bool Agent::Entry::out_in_pieces() const {
  if (outcome == nullptr) return false;
  const std::size_t out = outcome->out.size(), err = outcome->err.size();
  return out > kPieceMax || (err <= kPieceMax && out + err > kPieceMax && out >= err);
}
bool Agent::Entry::err_in_pieces() const {
  if (outcome == nullptr) return false;
  const std::size_t out = outcome->out.size(), err = outcome->err.size();
  return err > kPieceMax || (out <= kPieceMax && out + err > kPieceMax && err > out);
}
std::size_t Agent::Entry::cost() const {
  if (outcome == nullptr) return kReturnCost;
  return kResultCost + outcome->why.size() + (out_in_pieces() ? 0 : outcome->out.size()) + (err_in_pieces() ? 0 : outcome->err.size());
}

void Agent::on(ReportTaken& event) {
  const auto found = flights_.find(event.report);
  if (found == flights_.end()) return;  // from before the last hello: all of it was queued again
  const Flight flight = std::move(found->second);
  flights_.erase(found);
  retries_ = 0;
  retry_at_ = now_;  // it answers again
  const auto resend = [&](AttemptId attempt) { return std::find(event.resend.begin(), event.resend.end(), attempt) != event.resend.end(); };
  const auto taken = [&](AttemptId attempt) {
    const auto entry = held_.find(attempt);
    if (entry == held_.end() || (entry->second.phase != Phase::sent && entry->second.phase != Phase::queued)) return;
    if (!resend(attempt)) return forget(entry);
    if (entry->second.phase == Phase::sent) count_failure(entry, 1, "the manager asked for it again and again");
  };
  for (const AttemptId attempt : flight.whole) taken(attempt);
  if (flight.large && flight.large_ended) taken(*flight.large);
}

void Agent::on(ReportFailed& event) {
  const auto found = flights_.find(event.report);
  if (found == flights_.end()) return;
  const Flight flight = std::move(found->second);
  flights_.erase(found);
  const bool refused = event.loss == ReportLoss::refused;
  send_again(flight, refused, event.why);
  if (event.loss == ReportLoss::unknown) greeted_ = false;
  if (event.loss == ReportLoss::unanswered) {
    retry_at_ = std::max(retry_at_, now_ + pause_after(retries_++));
  }
}

void Agent::owe(Table::iterator entry, std::shared_ptr<const Outcome> outcome) {
  entry->second.assignment = {};
  entry->second.slot = -1;
  entry->second.outcome = std::move(outcome);
  owed_bytes_ += kept_bytes(entry->second.outcome.get());
  keep(entry);
  queue(entry);
}

void Agent::keep(Table::iterator entry) {
  if (entry->second.outcome == nullptr || entry->second.quick || std::exchange(entry->second.kept, true)) return;  // who brings back nothing loses nothing
  actions_.emplace_back(Keep{Held{entry->first, entry->second.task}, entry->second.outcome});
}

void Agent::queue(Table::iterator entry) {
  entry->second.phase = Phase::queued;
  if (entry->second.whole()) {
    if (whole_.empty()) gather_until_ = now_ + kGatherMax;
    whole_.push_back(entry->first);
    whole_bytes_ += entry->second.cost();
  } else {
    ++entry->second.generation;
    large_.push_back(Large{entry->first});
  }
}

void Agent::forget(Table::iterator entry) {
  if (entry->second.phase == Phase::queued && entry->second.whole()) whole_bytes_ -= entry->second.cost();
  owed_bytes_ -= kept_bytes(entry->second.outcome.get());
  if (entry->second.kept) actions_.emplace_back(Forget{entry->first});
  held_.erase(entry);
}

/// Of a result that was sent: queues it again, or, after too many failures of its own, what can be saved of it: how it ended, without its streams.
void Agent::count_failure(Table::iterator entry, int weight, const std::string& why) {
  entry->second.failures += weight;
  if (entry->second.failures < kFailuresMax) return queue(entry);
  actions_.emplace_back(GiveUp{Held{entry->first, entry->second.task}, why});
  const Outcome* old = entry->second.outcome.get();
  if (old == nullptr || (old->out.empty() && old->err.empty() && old->why.empty())) return forget(entry);
  auto rest = std::make_shared<Outcome>();
  rest->cause = old->cause;
  rest->exit_code = old->exit_code;
  rest->signal = old->signal;
  rest->wall = old->wall;
  rest->cpu = old->cpu;
  rest->peak_memory_kib = old->peak_memory_kib;
  rest->out_size = old->out_size;  // larger than what is kept: truncated
  rest->err_size = old->err_size;
  owed_bytes_ -= kept_bytes(old);
  owed_bytes_ += kept_bytes(rest.get());
  entry->second.outcome = std::move(rest);
  entry->second.failures = 0;
  entry->second.kept = false;
  keep(entry);
  queue(entry);
}

void Agent::send_again(const Flight& flight, bool refused, const std::string& why) {
  const bool company = flight.whole.size() + (flight.large ? 1 : 0) > 1;
  const auto again = [&](Table::iterator entry) {
    if (refused && !company) return count_failure(entry, kFailuresMax, "the manager refused it: " + why);
    entry->second.alone |= refused;
    queue(entry);
  };
  for (const AttemptId attempt : flight.whole) {
    const auto entry = held_.find(attempt);
    if (entry != held_.end() && entry->second.phase == Phase::sent) again(entry);
  }
  if (!flight.large) return;
  const auto entry = held_.find(*flight.large);
  if (entry == held_.end() || entry->second.generation != flight.generation) return;  // its pieces started again already
  if (entry->second.phase == Phase::queued && !large_.empty() && large_.front().attempt == *flight.large) {
    large_.pop_front();
    again(entry);
  } else if (flight.large_ended && entry->second.phase == Phase::sent) {
    again(entry);
  }  // else its result is in the other report in flight, whose answer will tell what the manager has
}

/// While the slots have enough to do, nobody needs a result this very moment, and a server pays per stanza: 2,000 tasks of `true` cost it 0.65 s
/// one by one. Half of what is here goes on while the other half is handed in and more is sent; so the more there is ahead, the fewer stanzas, and no slot
/// waits for one. The last results of what is here never wait.
bool Agent::gathering() const {
  return now_ < gather_until_ && waiting_count_ + lines_.size() > whole_.size() && !blocked() && large_.empty() && !whole_.empty() && whole_bytes_ < kReportRoom;
}

/// One report is under way at a time, and what ends meanwhile leaves together in the next; a second one only when there is a stanza full.
void Agent::report() {
  if (gathering()) return;
  while (greeted_ && now_ >= retry_at_ && flights_.size() < static_cast<std::size_t>(kReportsInFlightMax)) {
    if (!flights_.empty() && large_.empty() && whole_bytes_ < kReportRoom) return;
    SendReport report;
    Flight flight;
    if (!fill_report(report, flight)) return;
    report.report = ++last_report_;
    flights_.emplace(report.report, std::move(flight));
    actions_.emplace_back(std::move(report));
  }
}

bool Agent::fill_report(SendReport& report, Flight& flight) {
  std::size_t room = kReportRoom;
  const auto add_result = [&](Table::iterator entry) {
    Entry& e = entry->second;
    room -= e.cost();
    if (e.outcome == nullptr) {
      report.returned.push_back(Held{entry->first, e.task});
    } else {
      report.results.push_back(Ended{entry->first, e.task, e.outcome, e.out_in_pieces(), e.err_in_pieces()});
    }
    e.phase = Phase::sent;
  };
  const auto next_whole = [&] {
    for (; !whole_.empty(); whole_.pop_front()) {
      const auto entry = held_.find(whole_.front());
      if (entry != held_.end() && entry->second.phase == Phase::queued && entry->second.whole()) return entry;
    }
    return held_.end();
  };
  const auto take_whole = [&](Table::iterator entry) {
    whole_.pop_front();
    whole_bytes_ -= entry->second.cost();
    flight.whole.push_back(entry->first);
    add_result(entry);
  };

  if (const auto entry = next_whole(); entry != held_.end() && entry->second.alone) {
    take_whole(entry);
    return true;
  }
  while (!large_.empty() && !held_.contains(large_.front().attempt)) large_.pop_front();
  bool alone = false;
  if (!large_.empty()) {
    Large& large = large_.front();
    const auto entry = held_.find(large.attempt);
    const Outcome& outcome = *entry->second.outcome;
    const auto cut = [&](bool err, const std::string& stream, std::size_t& at) {  // false: no room for the next piece
      while (at < stream.size()) {
        const std::size_t size = std::min(kPieceMax, stream.size() - at);
        if (size + kPieceCost > room) return false;
        report.pieces.push_back(Piece{entry->first, entry->second.task, err, at, size, entry->second.outcome});
        room -= size + kPieceCost;
        at += size;
      }
      return true;
    };
    alone = entry->second.alone;
    flight.large = entry->first;
    flight.generation = entry->second.generation;
    if ((!entry->second.out_in_pieces() || cut(false, outcome.out, large.out_at)) &&
        (!entry->second.err_in_pieces() || cut(true, outcome.err, large.err_at)) && entry->second.cost() <= room) {
      add_result(entry);
      flight.large_ended = true;
      large_.pop_front();
    }
  }
  for (auto entry = next_whole(); !alone && entry != held_.end(); entry = next_whole()) {
    if (entry->second.alone || entry->second.cost() > room) break;
    take_whole(entry);
  }
  return flight.large || !flight.whole.empty();
}

}  // namespace souk::worker
