#include "manager/jury.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "manager/siphash.h"

namespace souk {

namespace {

AttemptFinished as_finished(const Jury::Ballot& ballot, const Outcome& outcome) {
  return {ballot.worker, ballot.what, outcome.cause, outcome.succeeded(), outcome.wall, outcome.exit_code};
}
AttemptSetBy set_by(const Jury::Ballot& ballot, const Outcome& outcome, AttemptSetBy::Then then, std::string why = {}) {
  return {ballot.worker, ballot.what, then, outcome.succeeded(), outcome.wall, std::move(why)};
}

}  // namespace

// ---- Records ---------------------------------------------------------------------------------------------------------------------

TrustRecord Jury::record(const std::string& voter) const {
  const auto at = voters_.find(voter);
  return at == voters_.end() ? TrustRecord{} : at->second.record;
}

bool Jury::trusted(const std::string& voter) const {
  const TrustRecord known = record(voter);
  return known.agreed >= static_cast<std::uint64_t>(rules_.trusted_after) << std::min(known.found, 16u);
}

std::optional<Instant> Jury::aside(const std::string& voter, Instant now) const {
  const auto at = voters_.find(voter);
  return at == voters_.end() || at->second.aside <= now ? std::nullopt : std::optional(at->second.aside);
}

/// The one of that name, who may be new. Names of workers cost nothing, so records are bounded: a tenth of them goes at a time, those of whom nothing is known but
/// a short time of being right.
Jury::Voter& Jury::known(const std::string& voter, Actions& actions) {
  if (voters_.size() >= rules_.voters_max && !voters_.contains(voter)) {
    std::vector<std::tuple<std::uint32_t, std::uint32_t, std::string>> all;
    for (const auto& [name, who] : voters_) all.emplace_back(who.record.found, who.record.agreed, name);
    std::sort(all.begin(), all.end());
    all.resize(std::min(all.size(), rules_.voters_max / 10 + 1));
    for (const auto& [found, agreed, name] : all) {
      voters_.erase(name);
      actions.push_back(Recorded{name, {}});
    }
  }
  return voters_[voter];
}

/// It was checked, and was right.
void Jury::confirmed(const std::string& voter, Actions& actions) {
  Voter& who = known(voter, actions);
  if (who.record.agreed < 0x7FFF'FFFF) ++who.record.agreed;
  actions.push_back(Recorded{voter, who.record});
}

void Jury::caught(Instant now, const Ballot& ballot, Actions& actions) {
  Voter& who = known(ballot.voter, actions);
  who.record.agreed = 0;
  if (who.record.found < 0x7FFF'FFFF) ++who.record.found;
  Caught said{ballot.voter, ballot.worker, ballot.what.task, who.record};
  if (who.record.found >= rules_.aside_after) {
    said.aside = std::min<Duration>(rules_.aside_max, rules_.aside * (1 << std::min(who.record.found - rules_.aside_after, 16u)));
    who.aside = now + said.aside;
  }
  // None of it is committed yet: it runs again, and not there.
  std::vector<TaskId> back;
  for (auto& [job, of] : cases_)
    if (const auto batch = of.batches.find(ballot.voter); batch != of.batches.end()) {
      for (const auto& [task, parked] : batch->second.waiting) {
        bytes_ -= size_of(parked.outcome);
        back.push_back({job, task});
      }
      of.batches.erase(batch);
    }
  said.taken_back = back.size();
  actions.push_back(std::move(said));
  actions.push_back(Recorded{ballot.voter, who.record});
  for (const TaskId task : back) actions.push_back(Tell{TaskReopened{task}, {}});
}

// ---- Jobs ------------------------------------------------------------------------------------------------------------------------

void Jury::open(JobId job, Quorum quorum) {
  close(job);
  cases_[job].quorum = std::move(quorum);
}

void Jury::close(JobId job) {
  const auto at = cases_.find(job);
  if (at == cases_.end()) return;
  for (auto& [voter, batch] : at->second.batches)
    for (const auto& [task, parked] : batch.waiting) bytes_ -= size_of(parked.outcome);
  while (!at->second.votes.empty()) forget_votes(at->second, at->second.votes.begin()->first);
  cases_.erase(at);
}

void Jury::recall(TaskId task, const Vote& vote) {
  const auto at = cases_.find(task.job);
  if (at == cases_.end()) return;
  auto& casts = at->second.votes[task.task];
  const bool twice = std::any_of(casts.begin(), casts.end(), [&](const Cast& other) { return other.ballot.voter == vote.voter; });
  if (!twice && casts.size() + 1 < at->second.quorum.most) casts.push_back({{vote.voter, {}, {vote.attempt, task}}, vote.digest, {}, vote.succeeded});
}

const Quorum* Jury::quorum(JobId job) const {
  const auto at = cases_.find(job);
  return at == cases_.end() ? nullptr : &at->second.quorum;
}

Jury::Standing Jury::standing(TaskId task) const {
  Standing found;
  const auto at = cases_.find(task.job);
  if (at == cases_.end()) return found;
  if (const auto votes = at->second.votes.find(task.task); votes != at->second.votes.end()) found.votes = votes->second.size();
  for (const auto& [voter, batch] : at->second.batches) found.parked = found.parked || batch.waiting.contains(task.task);
  return found;
}

std::size_t Jury::parked(JobId job) const {
  const auto at = cases_.find(job);
  std::size_t all = 0;
  if (at != cases_.end())
    for (const auto& [voter, batch] : at->second.batches) all += batch.waiting.size();
  return all;
}

// ---- Votes -----------------------------------------------------------------------------------------------------------------------

bool Jury::agree(const Quorum& quorum, const Cast& a, const Cast& b) const {
  if (a.digest == b.digest) return true;
  return quorum.on.what == AgreeOn::What::numbers && a.succeeded && b.succeeded && !a.out.empty() && !b.out.empty() && same_numbers(a.out, b.out, quorum.on.tolerance);
}

/// yields: all votes on the task, this one last
std::vector<Jury::Cast>& Jury::add_vote(Case& of, Ballot ballot, std::string digest, const Outcome& outcome) {
  auto& casts = of.votes[ballot.what.task.task];
  Cast& cast = casts.emplace_back(Cast{std::move(ballot), std::move(digest), {}, outcome.succeeded()});
  const bool whole = outcome.out.size() == outcome.out_size && outcome.out.size() <= kComparedMax;
  if (of.quorum.on.what == AgreeOn::What::numbers && cast.succeeded && whole && bytes_ + outcome.out.size() <= rules_.bytes_max) cast.out = outcome.out;
  bytes_ += cast.out.size();
  return casts;
}

void Jury::forget_votes(Case& of, TaskNumber task) {
  const auto at = of.votes.find(task);
  if (at == of.votes.end()) return;
  for (const Cast& cast : at->second) bytes_ -= cast.out.size();
  of.votes.erase(at);
}

void Jury::vote(Instant now, const Ballot& ballot, Outcome& outcome, Actions& actions) {
  const auto open = cases_.find(ballot.what.task.job);
  if (open == cases_.end()) return;
  Case& of = open->second;
  const Quorum& quorum = of.quorum;
  const TaskNumber task = ballot.what.task.task;
  std::string digest = digest_of(outcome, quorum.on.what);
  const auto standing = of.votes.find(task);
  const std::size_t before = standing == of.votes.end() ? 0 : standing->second.size();
  // One of the same voter came back from a run that was thought lost.
  if (before > 0 && std::any_of(standing->second.begin(), standing->second.end(), [&](const Cast& other) { return other.ballot.voter == ballot.voter; })) {
    actions.push_back(Tell{set_by(ballot, outcome, AttemptSetBy::Then::again), {}});
    return;
  }
  const auto known = quorum.known.find(task);
  const bool answer = known != quorum.known.end() && outcome.succeeded();
  if (answer && outcome.out.size() == outcome.out_size && sha256(outcome.out) == known->second) {
    actions.push_back(Tell{as_finished(ballot, outcome), {}});
    confirmed(ballot.voter, actions);
    std::set<TaskNumber> passed;
    if (const auto batch = of.batches.find(ballot.voter); batch != of.batches.end())
      for (const auto& [number, parked] : batch->second.waiting)
        if (!batch->second.covered.contains(number)) passed.insert(number);
    pass(ballot.what.task.job, of, ballot.voter, passed, actions);
    if (before == 0) return;
    return decided(now, ballot.what.task, of, &add_vote(of, ballot, std::move(digest), outcome).back(), actions);
  }
  if (quorum.adaptive && !answer && before == 0 && outcome.succeeded() && trusted(ballot.voter)) {
    Batch& batch = of.batches[ballot.voter];
    if (batch.waiting.size() < rules_.waiting_max && !batch.waiting.contains(task) && bytes_ + size_of(outcome) <= rules_.bytes_max) {
      actions.push_back(Tell{set_by(ballot, outcome, AttemptSetBy::Then::park), {}});
      bytes_ += size_of(outcome);
      batch.waiting.emplace(task, Parked{ballot, std::move(digest), std::move(outcome)});
      outcome = {};
      return enough(ballot.what.task.job, of, ballot.voter, actions);
    }
  }
  const auto& casts = add_vote(of, ballot, std::move(digest), outcome);
  const Cast& last = casts.back();
  const auto same = static_cast<std::size_t>(std::count_if(casts.begin(), casts.end(), [&](const Cast& other) { return agree(quorum, last, other); }));
  if (answer && same >= quorum.agree) {
    actions.push_back(Tell{set_by(ballot, outcome, AttemptSetBy::Then::fail, std::to_string(same) + " results agree and are not the known answer"), {}});
    return decided(now, ballot.what.task, of, nullptr, actions);
  }
  if (!answer && same >= quorum.agree) {
    actions.push_back(Tell{as_finished(ballot, outcome), {}});
    return decided(now, ballot.what.task, of, &last, actions);
  }
  if (casts.size() >= quorum.most) {
    const std::string why = "no quorum: " + std::to_string(casts.size()) + " results, no " + std::to_string(quorum.agree) + (answer ? " agree, none is the known answer" : " agree");
    actions.push_back(Tell{set_by(ballot, outcome, AttemptSetBy::Then::fail, why), {}});
    return decided(now, ballot.what.task, of, nullptr, actions);
  }
  actions.push_back(Tell{set_by(ballot, outcome, AttemptSetBy::Then::again), {}});
}

/// All is said about the task. accepted: among its votes; null: nobody knows who is right. Failures that agree say little of who gave them: a task may
/// fail by chance, and then those that say so agree, whoever they are.
void Jury::decided(Instant now, TaskId task, Case& of, const Cast* accepted, Actions& actions) {
  std::vector<std::string> passed, unchecked;
  std::vector<Ballot> wrong;
  const bool known = accepted && accepted->succeeded;
  for (const Cast& cast : of.votes[task.task]) {
    const bool right = known && agree(of.quorum, *accepted, cast);
    if (right && !(of.quorum.known.contains(task.task) && &cast == accepted)) confirmed(cast.ballot.voter, actions);  // who knew was counted already
    if (known && !right) {
      if (cast.succeeded) wrong.push_back(cast.ballot);
      else if (const auto who = voters_.find(cast.ballot.voter); who != voters_.end() && who->second.record.agreed > 0) who->second.record.agreed = 0, actions.push_back(Recorded{who->first, who->second.record});
    }
    const auto batch = of.batches.find(cast.ballot.voter);
    if (batch == of.batches.end() || batch->second.checked != task.task) continue;
    batch->second.checked.reset();
    (right ? passed : unchecked).push_back(cast.ballot.voter);
  }
  forget_votes(of, task.task);
  for (const Ballot& ballot : wrong) caught(now, ballot, actions);
  for (const std::string& voter : passed) {
    const auto covered = std::exchange(of.batches[voter].covered, {});
    pass(task.job, of, voter, covered, actions);
    enough(task.job, of, voter, actions);
  }
  // Its check told nothing: each of what it covered is a vote like any other.
  for (const std::string& voter : unchecked) {
    const auto batch = of.batches.find(voter);
    if (batch == of.batches.end()) continue;
    for (const TaskNumber number : std::exchange(batch->second.covered, {}))
      if (auto parked = batch->second.waiting.extract(number); !parked.empty()) {
        bytes_ -= size_of(parked.mapped().outcome);
        add_vote(of, std::move(parked.mapped().ballot), std::move(parked.mapped().digest), parked.mapped().outcome);
        actions.push_back(Tell{TaskReopened{{task.job, number}}, {}});
      }
    enough(task.job, of, voter, actions);
  }
}

void Jury::pass(JobId job, Case& of, const std::string& voter, const std::set<TaskNumber>& tasks, Actions& actions) {
  const auto batch = of.batches.find(voter);
  if (batch == of.batches.end()) return;
  for (const TaskNumber task : tasks)
    if (auto parked = batch->second.waiting.extract(task); !parked.empty()) {
      bytes_ -= size_of(parked.mapped().outcome);
      actions.push_back(Tell{TaskSettled{parked.mapped().ballot.worker, {parked.mapped().ballot.what.attempt, {job, task}}}, std::move(parked.mapped().outcome)});
    }
}

// ---- Draws -----------------------------------------------------------------------------------------------------------------------

std::size_t Jury::draw_after(const std::string& voter) const { return std::clamp<std::uint32_t>(record(voter).agreed / 5, rules_.parked_min, rules_.parked_max); }

void Jury::enough(JobId job, Case& of, const std::string& voter, Actions& actions) {
  const auto batch = of.batches.find(voter);
  if (batch != of.batches.end() && !batch->second.checked && batch->second.waiting.size() >= draw_after(voter)) draw(job, of, voter, actions);
}

std::uint64_t Jury::lot(JobId job, const std::string& voter) {
  return siphash(rules_.seed, std::to_string(job.value) + ' ' + std::to_string(++draws_) + ' ' + voter);
}

/// One of those that wait is done once more by somebody else. What comes after the draw is of the next: its voter might know by then what was drawn.
void Jury::draw(JobId job, Case& of, const std::string& voter, Actions& actions) {
  Batch& batch = of.batches.at(voter);
  const auto drawn = std::next(batch.waiting.begin(), static_cast<std::ptrdiff_t>(lot(job, voter) % batch.waiting.size()));
  const TaskNumber task = drawn->first;
  bytes_ -= size_of(drawn->second.outcome);
  add_vote(of, std::move(drawn->second.ballot), std::move(drawn->second.digest), drawn->second.outcome);
  batch.waiting.erase(drawn);
  batch.checked = task;
  for (const auto& [number, parked] : batch.waiting) batch.covered.insert(number);
  actions.push_back(Tell{TaskReopened{{job, task}}, {}});
}

void Jury::idle(JobId job, Actions& actions) {
  const auto at = cases_.find(job);
  if (at == cases_.end()) return;
  for (auto& [voter, batch] : at->second.batches)
    if (!batch.checked && !batch.waiting.empty()) draw(job, at->second, voter, actions);
}

void Jury::discard(const std::string& account, Actions& actions) {
  const auto its = [&](const std::string& voter) { return voter == account || (voter.size() > account.size() && voter.starts_with(account) && voter[account.size()] == '/'); };
  std::vector<TaskId> back;
  for (auto& [job, of] : cases_) {
    for (auto at = of.batches.begin(); at != of.batches.end();) {
      if (!its(at->first)) {
        ++at;
        continue;
      }
      for (const auto& [task, parked] : at->second.waiting) {
        bytes_ -= size_of(parked.outcome);
        back.push_back({job, task});
      }
      at = of.batches.erase(at);
    }
    for (auto at = of.votes.begin(); at != of.votes.end();) {
      std::erase_if(at->second, [&](const Cast& cast) {
        const bool out = its(cast.ballot.voter);
        if (out) bytes_ -= cast.out.size();
        return out;
      });
      at = at->second.empty() ? of.votes.erase(at) : std::next(at);
    }
  }
  for (auto& [voter, who] : voters_)
    if (its(voter) && std::exchange(who.record.agreed, 0) > 0) actions.push_back(Recorded{voter, who.record});
  for (const TaskId task : back) actions.push_back(Tell{TaskReopened{task}, {}});
}

void Jury::given_up(TaskId task) {
  const auto at = cases_.find(task.job);
  if (at == cases_.end()) return;
  forget_votes(at->second, task.task);
  for (auto& [voter, batch] : at->second.batches) {
    if (batch.checked != task.task) continue;
    batch.checked.reset();
    batch.covered.clear();  // another draw decides
  }
}

std::optional<std::string> Jury::broken_invariant() const {
  std::uint64_t bytes = 0;
  for (const auto& [job, of] : cases_) {
    const std::string where = " in job " + std::to_string(job.value);
    std::set<TaskNumber> parked;
    for (const auto& [task, casts] : of.votes) {
      if (casts.empty()) return "no votes are kept" + where;
      if (casts.size() >= of.quorum.most) return "undecided after all votes" + where;
      std::set<std::string> voters;
      for (const Cast& cast : casts) {
        bytes += cast.out.size();
        if (!voters.insert(cast.ballot.voter).second) return "two votes of one voter" + where;
      }
    }
    for (const auto& [voter, batch] : of.batches) {
      if (batch.waiting.size() > rules_.waiting_max) return "too much is parked" + where;
      if (!batch.checked && !batch.covered.empty()) return "covered by no check" + where;
      if (batch.checked && !of.votes.contains(*batch.checked)) return "drawn, and not voted on" + where;
      for (const TaskNumber task : batch.covered)
        if (!batch.waiting.contains(task)) return "covered, and not parked" + where;
      for (const auto& [task, kept] : batch.waiting) {
        bytes += size_of(kept.outcome);
        if (!parked.insert(task).second || of.votes.contains(task)) return "parked and voted on" + where;
      }
    }
  }
  return bytes == bytes_ ? std::nullopt : std::optional<std::string>("bytes are miscounted");
}

}  // namespace souk
