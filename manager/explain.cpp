// Why a task waits, counted over workers, and the smallest change that would make it run. Asked by people: may look at every worker.
#include <algorithm>
#include <array>
#include <cstdio>
#include <set>

#include "manager/scheduler.h"

namespace souk {

namespace {

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 7> units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  for (; value >= 1024 && unit + 1 < units.size(); ++unit) value /= 1024;
  char text[48];
  std::snprintf(text, sizeof text, value < 10 && value != static_cast<double>(static_cast<int>(value)) ? "%.1f %s" : "%.0f %s", value, units[unit]);
  return text;
}
std::string count_text(std::uint64_t count, const char* noun) { return std::to_string(count) + " " + noun + (count == 1 ? "" : "s"); }
std::string seconds_text(Duration time) {
  const auto s = std::chrono::duration_cast<std::chrono::seconds>(time).count();
  if (s >= 7200) return std::to_string(s / 3600) + " h";
  if (s >= 120) return std::to_string(s / 60) + " min";
  if (s >= 10 || (s > 0 && time == std::chrono::seconds(s))) return std::to_string(s) + " s";
  char text[32];
  std::snprintf(text, sizeof text, time < std::chrono::milliseconds(100) ? "%.3g ms" : "%.1f s",
                time < std::chrono::milliseconds(100) ? static_cast<double>(time.count()) / 1e3 : static_cast<double>(time.count()) / 1e6);
  return text;
}

/// One thing that is asked for and that a worker has too little of.
struct Shortage {
  std::string name;
  std::uint64_t asked, has;
  bool bytes;
  std::string text(std::uint64_t amount) const { return bytes ? bytes_text(amount) : std::to_string(amount); }
};

std::vector<Shortage> shortages(const Market& market, const Room& need, const Room& room) {
  std::vector<Shortage> found;
  const auto compare = [&](std::string name, std::uint64_t asked, std::uint64_t has, bool bytes) {
    if (asked > has) found.push_back({std::move(name), asked, has, bytes});
  };
  compare("slots", static_cast<std::uint64_t>(need.slots), static_cast<std::uint64_t>(std::max(0, room.slots)), false);
  compare("memory", need.memory, room.memory, true);
  compare("disk", need.disk, room.disk, true);
  compare("gpus", static_cast<std::uint64_t>(need.gpus), static_cast<std::uint64_t>(room.gpus), false);
  for (const auto& [resource, amount] : need.named) compare(market.resource(resource), amount, room.amount_of(resource), false);
  return found;
}

/// The same reason with the same amounts, of some workers.
struct Tally {
  std::uint32_t workers = 0;
  std::uint64_t least = ~0ull, most = 0;
};

/// What a request would have to do without so that workers could run it which lack the same things; the least of it over these workers.
struct Change {
  std::uint32_t workers = 0;
  double loss = 0;
  std::string text;
};

/// `ask for 2 slots instead of 4 and for 8 GiB of memory instead of 64 GiB, and do without gpus`
Change change_for(const std::vector<Shortage>& lacking, const std::vector<std::string>& unmet) {
  Change change;
  std::string less, without;
  for (const Shortage& shortage : lacking) {
    if (shortage.has == 0) {
      change.loss += 1, without += (without.empty() ? "" : " and ") + shortage.name;
      continue;
    }
    change.loss += 1 - static_cast<double>(shortage.has) / static_cast<double>(shortage.asked);
    const std::string name = shortage.has == 1 && shortage.name == "slots" ? "slot" : shortage.has == 1 && shortage.name == "gpus" ? "gpu" : shortage.name;
    less += (less.empty() ? "ask for " : " and for ") + shortage.text(shortage.has) + (shortage.bytes ? " of " : " ") + name + " instead of " + shortage.text(shortage.asked);
  }
  for (const std::string& part : unmet) change.loss += 0.5, without += (without.empty() ? "" : " and ") + part;
  change.text = less + (less.empty() || without.empty() ? "" : ", and ") + (without.empty() ? "" : "do without " + without);
  return change;
}
constexpr std::size_t kChangesMax = 5;

/// Something that owners offer by name, and a requirement that asks for that alone: `service.word_count`.
struct Asked {
  std::string kind, name;  // empty: it is none
};
Asked asked_in(const Expression& part) {
  if (part.names().size() != 1) return {};
  for (const std::string kind : {"service", "image"}) {
    const std::string prefix = kind + '.';
    if (!part.names().begin()->starts_with(prefix)) continue;
    std::string name = part.names().begin()->substr(prefix.size());
    const auto whole = Expression::parse(kind == "image" ? offers_image(name) : offers_service(name));
    if (whole && part.text() == whole.value().text()) return {kind, std::move(name)};
  }
  return {};
}

}  // namespace

/// Looks at every worker here once: what keeps it from such a task?
Fit Scheduler::fit_of(TaskClassId task_class, const Job* job, std::uint32_t group) const {
  const Market::TaskClass& task = market_.task(task_class);
  Fit fit;
  std::map<std::string, std::uint32_t> plain;             // reason -> workers
  std::map<std::string, std::pair<Shortage, Tally>> few;  // by resource: never enough there
  std::map<std::vector<std::string>, Change> would;       // by what workers lack
  const std::vector<Expression> parts = task.require ? task.require->conjuncts() : std::vector<Expression>{};
  std::vector<std::pair<Score, Ix>> good;
  std::vector<Asked> asked;  // by part
  for (const Expression& part : parts) asked.push_back(asked_in(part));
  std::set<std::string> services, images;  // that some lack
  bool strangers = false;          // to some workers
  for (const auto& [id, ix] : worker_ix_) {
    const Worker& worker = workers_[ix];
    const WorkerFacts facts = facts_of(worker);
    if (!Market::accepts(market_.worker(worker.worker_class), task)) {
      ++plain["their owners take tasks of others, not these"];
      strangers = true;
      continue;
    }
    const OfferAttributes attributes(*worker.offer, &facts, &task.job, &task.needs);
    std::vector<std::string> unmet, parts_unmet;
    for (std::size_t n = 0; n < parts.size(); ++n)
      if (const Value value = parts[n].evaluate(attributes); !holds(value)) {
        if (const auto& [kind, name] = asked[n]; !name.empty()) {
          parts_unmet.push_back(kind + " " + name);
          unmet.push_back("no " + parts_unmet.back() + " there");
          (kind == "image" ? images : services).insert(name);
          continue;
        }
        parts_unmet.push_back("`" + parts[n].text() + "`");
        unmet.push_back("requirement " + parts_unmet.back() + (std::holds_alternative<Undefined>(value) ? " is undefined there" : " does not hold"));
      }
    const auto lacking = shortages(market_, task.need, market_.worker(worker.worker_class).capacity);
    if (!unmet.empty() || !lacking.empty() || task.impossible) {
      if (task.impossible) ++plain["its requirement cannot be read by this version"];
      else if (!unmet.empty()) ++plain[unmet.front()];
      else {
        auto& [shortage, tally] = few.try_emplace(lacking.front().name, lacking.front(), Tally{}).first->second;
        ++tally.workers;
        tally.least = std::min(tally.least, lacking.front().has), tally.most = std::max(tally.most, lacking.front().has);
      }
      if (!task.impossible) {
        Change change = change_for(lacking, parts_unmet);
        for (const Shortage& shortage : lacking) parts_unmet.push_back(shortage.name);
        Change& best = would[std::move(parts_unmet)];
        change.workers = best.workers + 1;
        if (best.workers == 0 || change.loss < best.loss) best = std::move(change);
        else best.workers = change.workers;
      }
      continue;
    }
    ++fit.fitting;
    if (worker.state == WorkerState::paused) ++plain["paused by their owners"];
    else if (worker.state == WorkerState::draining) ++plain["draining: they finish and leave"];
    else if (!worker.aside.empty()) ++plain["set aside: they fail what others do well"];
    else if (worker.silent) ++plain["silent for longer than a lease"];
    else if (worker.resting) ++plain["refused work a moment ago"];
    else if (task.need.slots > worker.slots) ++plain["their owners offer too few slots for now"];
    else if (const Duration time = job ? bound(*job, group, worker) : task.time_limit; worker.until && now_ + time > *worker.until) ++plain["their owners want them back before it could end"];
    else if (job && job->deadline && now_ + time > *job->deadline) ++plain["it could not end there before its deadline"];
    else if (worker.reserved != kNone && worker.reserved != task_class) ++plain["kept for a task that needs more"];
    else if (!worker.ahead.empty() || !fits(task.need, worker.room)) {
      const auto now_short = shortages(market_, task.need, worker.room);
      ++plain[now_short.empty() || now_short.front().name == "slots" ? "busy" : "too little " + now_short.front().name + " left beside what runs there"];
    } else {
      Room room = worker.room;
      for (; fits(task.need, room) && fit.room < 1'000'000; ++fit.room) take(room, task.need);
      Score made{0, key_of(worker) + (static_cast<std::uint64_t>(pace_of(task_class, worker.worker_class) + 128) << 40)};
      if (task.rank) made.rank = market_.judge(task, *worker.offer, facts).rank;
      good.emplace_back(made, ix);
    }
  }
  std::sort(good.begin(), good.end(), [this](const auto& a, const auto& b) {
    return a.first.better_than(b.first) || (!b.first.better_than(a.first) && workers_[a.second].id < workers_[b.second].id);
  });
  for (std::size_t i = 0; i < std::min<std::size_t>(5, good.size()); ++i) fit.best.push_back(workers_[good[i].second].id);

  // Of the workers that were here once: the classes remember them.
  Room largest;
  for (WorkerClassId id = 0; id < market_.worker_classes(); ++id) {
    const Market::WorkerClass& seen = market_.worker(id);
    largest.slots = std::max(largest.slots, seen.capacity.slots), largest.gpus = std::max(largest.gpus, seen.capacity.gpus);
    largest.memory = std::max(largest.memory, seen.capacity.memory), largest.disk = std::max(largest.disk, seen.capacity.disk);
    const OfferAttributes attributes(*seen.offer, nullptr, &task.job, &task.needs);
    if (!fits(task.need, seen.capacity) || task.impossible || !Market::accepts(seen, task)) continue;
    fit.seen = fit.seen || task.of_each_worker || !task.require || holds(task.require->evaluate(attributes));
  }
  for (const auto& [why, workers] : plain) fit.reasons.push_back({workers, why});
  for (const auto& [name, entry] : few) {
    const auto& [shortage, tally] = entry;
    std::string has = shortage.text(tally.least);
    if (tally.most != tally.least) has += " to " + shortage.text(tally.most);
    std::string why = name + " " + has + " < " + shortage.text(shortage.asked) + " asked";
    const std::uint64_t best = name == "memory" ? largest.memory : name == "disk" ? largest.disk : name == "slots" ? static_cast<std::uint64_t>(largest.slots) : 0;
    if (best > tally.most) why += "; largest seen " + shortage.text(best);
    fit.reasons.push_back({tally.workers, why});
  }
  std::stable_sort(fit.reasons.begin(), fit.reasons.end(), [](const Reason& a, const Reason& b) { return a.workers > b.workers; });
  if (fit.fitting > 0) return fit;
  for (const std::string& name : services) fit.changes.push_back("start a worker with --service " + name + "=COMMAND");
  for (const std::string& name : images) fit.changes.push_back("start a worker with --image " + name);
  if (strangers) fit.changes.push_back("let an owner of a worker accept you: souk-worker --accept; `souk workers NAME` tells whom it takes");
  // The smallest first; of equal ones that which more workers could run then.
  std::vector<const Change*> changes;
  for (const auto& [lacks, change] : would) changes.push_back(&change);
  std::stable_sort(changes.begin(), changes.end(), [](const Change* a, const Change* b) { return a->loss < b->loss || (a->loss == b->loss && a->workers > b->workers); });
  for (std::size_t i = 0; i < std::min(kChangesMax, changes.size()); ++i) {
    // Of less of something, the best of these workers may be the only one.
    const bool all_could = changes[i]->text.starts_with("do without");
    fit.changes.push_back(changes[i]->text + (all_could ? ": " + count_text(changes[i]->workers, "worker") + " could run it then" : ""));
  }
  return fit;
}

Fit Scheduler::fit(const Group& group, const JobFacts& job) {
  const TaskClassId task_class = market_.task_class(group, job);
  if (task_class >= queues_.size()) queues_.resize(task_class + 1);
  Fit made = fit_of(task_class, nullptr, 0);
  if (market_.task(task_class).users == 1) queues_[task_class] = {};
  market_.give_up(task_class);
  return made;
}

/// Tasks of the same owner that go first, about: those of higher priority, and of equal ones their turns.
std::uint64_t Scheduler::tasks_ahead(const Job& job, std::uint32_t task, std::uint32_t number) const {
  const GroupState& group = job.groups[number];
  std::uint64_t before = task - group.first >= group.cursor ? task - group.first - group.cursor + (group.again ? group.again->size() : 0) : 0;
  std::uint64_t equals = 0, higher = 0;
  for (const TaskClassId task_class : queued_) {
    const auto turns = queues_[task_class].turns.find(job.owner);
    if (turns == queues_[task_class].turns.end()) continue;
    for (const Turn& turn : turns->second) {
      if (turn.job_id == job.id) continue;
      if (-turn.priority > job.priority) higher += jobs_[turn.job].counts.waiting;
      else if (-turn.priority == job.priority) equals += std::min(before + 1, jobs_[turn.job].counts.waiting);
    }
  }
  return higher + equals + before;
}

/// Of a job's tasks that wait: the next that may start, else that whose retry is soonest, else one of a group that waits for others.
std::optional<std::uint32_t> Scheduler::next_waiting(const Job& job) const {
  if (job.counts.waiting == 0) return std::nullopt;
  const auto waits = [&](std::uint32_t task) { return job.states.get(task) == TaskState::waiting; };
  const auto retried = [&](std::uint32_t task) {
    const auto past = job.history.find(task);
    return past != job.history.end() && past->second.not_before != Instant{};
  };
  std::optional<std::uint32_t> behind;
  for (const GroupState& group : job.groups) {
    if (group.unmet == 0 && group.again && !group.again->empty()) return group.first + *group.again->begin();
    if (group.unmet > 0 && behind) continue;
    for (std::uint32_t at = group.cursor; at < group.tasks; ++at) {
      if (!waits(group.first + at) || retried(group.first + at)) continue;
      if (group.unmet == 0) return group.first + at;
      behind = group.first + at;
      break;
    }
  }
  std::optional<std::uint32_t> soonest;
  for (const auto& [task, past] : job.history)
    if (waits(task) && past.not_before != Instant{} && (!soonest || past.not_before < job.history.at(*soonest).not_before)) soonest = task;
  return soonest ? soonest : behind;
}

/// Of a task that has some results and waits for one more.
std::string Scheduler::votes_text(const Job& job, std::uint32_t task) const {
  const auto& who = job.voted.at(task);
  const bool owners = *job.votes_of == VotesOf::owners;
  const bool others = std::any_of(worker_ix_.begin(), worker_ix_.end(), [&](const auto& entry) { return !has_voted(job, task, workers_[entry.second]); });
  std::string text = count_text(who.size(), "result") + " of it " + (who.size() == 1 ? "is" : "are") + " in, and the next is to come from a worker ";
  text += owners ? "of another owner" : "that gave none";
  if (!others) text += std::string(", of which there is none in the market");
  return text;
}

Explanation Scheduler::why(TaskId id) const {
  Explanation told;
  const Job* job = live(id.job);
  if (!job || id.task.value > job->states.size()) {
    told.summary = "it has ended, or never was";
    return told;
  }
  const bool whole = id.task.value == 0 && job->states.size() > 1;  // of one task, the job is that task
  std::uint32_t task = id.task.value > 0 ? static_cast<std::uint32_t>(id.task.value - 1) : 0;
  if (whole) {
    const auto waits = next_waiting(*job);
    told.state = job->counts.running > 0 ? TaskState::running : TaskState::waiting;
    if (!waits) {
      told.summary = count_text(job->counts.running, "task") + (job->counts.running == 1 ? " of it runs" : " of it run") + ", none waits";
      if (job->canceled) told.summary += "; it is being canceled";
      else if (job->dropped && !job->why.empty()) told.summary += "; it fails: " + job->why;
      return told;
    }
    task = *waits;
  }
  const std::uint32_t number = group_of(*job, task);
  const GroupState& group = job->groups[number];
  if (!whole) told.state = job->states.get(task);
  if (!whole && told.state == TaskState::running) {
    const Run& run = runs_[job->running.at(task)];
    const Worker& worker = workers_[run.worker];
    told.summary = run.ahead ? "it is on " + worker.name + " and starts there next" : "it runs on " + worker.name + " since " + seconds_text(now_ - run.placed);
    if (run.stopping) told.summary += "; it is being stopped";
    if (const auto mean = estimate(*job, number, worker); mean && !run.ahead) told.summary += "; such tasks take about " + seconds_text(Duration(static_cast<std::int64_t>(*mean)));
    if (run.other != kNone) told.summary += "; a second attempt runs on " + workers_[runs_[run.other].worker].name;
    return told;
  }
  if (!whole && souk::ended(told.state)) {
    told.summary = "it " + std::string(told.state == TaskState::canceled ? "was canceled" : name_of(told.state));
    if (told.state == TaskState::canceled && !job->why.empty()) told.summary += ": " + job->why;
    return told;
  }
  const auto past = job->history.find(task);
  const Shares::Owner& owner = shares_[job->owner];
  const auto kept_text = [&] {
    const auto kept = kept_.find(job->voted.contains(task) ? awaiting(*job, task) : Awaiting{job->lanes[group.lane].task_class});
    return kept == kept_.end() ? std::string() : "; " + workers_[kept->second].name + " is kept for it";
  };
  if (!job->waits_for.empty()) {
    told.summary = "it waits for job " + std::to_string(job->waits_for.front().value) + " to end";
    if (job->waits_for.size() > 1) told.summary += ", and " + count_text(job->waits_for.size() - 1, "other");
  } else if (job->held) {
    told.summary = whole ? "it is held" : "its job is held";
    told.changes.push_back("release the job");
  } else if (group.unmet > 0) {
    if (whole) told.next = {task + 1ull};
    told.summary = "it waits for " + count_text(group.unmet, "group") + " of its job to end";
    for (const Edge& edge : job->edges)
      if (edge.to == number && job->groups[edge.from].ended < job->groups[edge.from].tasks) {
        told.waits_for_groups.push_back(edge.from);
        if (told.waits_for_groups.size() == 5) break;
      }
  } else if (!open_) {
    told.summary = "the manager cannot reach the market just now";
  } else if (past != job->history.end() && past->second.not_before > now_) {
    if (whole) told.next = {task + 1ull};
    const bool failed_there = job->terms[group.terms].retry.delay == Duration(0);
    if (past->second.not_before == kParked) told.summary = "its result is in, and waits until one like it has been checked";
    else if (job->voted.contains(task)) told.summary = votes_text(*job, task) + kept_text();
    else told.summary = failed_there ? "it failed where there is room now, and waits a little for another worker" : "it failed and runs again in " + seconds_text(past->second.not_before - now_);
  } else if (owner.limited()) {
    told.summary = "its owner runs as many tasks at a time as allowed: " + std::to_string(owner.running_max);
  }
  const Fit found = fit_of(job->lanes[group.lane].task_class, job, number);
  told.reasons = found.reasons;
  told.changes.insert(told.changes.end(), found.changes.begin(), found.changes.end());
  std::vector<std::pair<double, OwnerId>> waiting;
  for (OwnerId other = 0; other < shares_.size(); ++other)
    if (shares_[other].queues > 0) waiting.emplace_back(shares_[other].used, other);
  std::sort(waiting.begin(), waiting.end());
  told.owners_waiting = static_cast<std::uint32_t>(waiting.size());
  for (std::size_t i = 0; i < waiting.size(); ++i)
    if (waiting[i].second == job->owner) told.owner_place = static_cast<std::uint32_t>(i + 1);
  told.tasks_ahead = tasks_ahead(*job, task, number);
  if (!told.summary.empty()) return told;
  if (whole) told.next = {task + 1ull};
  if (worker_ix_.empty()) told.summary = "no worker is in the market";
  else if (found.fitting == 0) told.summary = "none of the " + count_text(worker_ix_.size(), "worker") + " here could run it";
  else {
    const auto busy = std::any_of(found.reasons.begin(), found.reasons.end(), [](const Reason& r) { return r.why == "busy" || r.why.starts_with("too little") || r.why.starts_with("kept for"); });
    const std::string those = std::to_string(found.fitting) + " of " + count_text(worker_ix_.size(), "worker") + " could run it";
    if (found.room > 0) told.summary = "it is about to start: " + those;
    else if (busy) told.summary = "it waits for room: " + those;
    else told.summary = those + ", and none of them takes it now";
  }
  if (job->voted.contains(task)) told.summary += "; " + votes_text(*job, task);
  told.summary += kept_text();
  return told;
}

}  // namespace souk
