// A stage with a jury: results come with what they say, and the words tell what the jury and then the scheduler made of them.
#pragma once
#include <deque>
#include <map>

#include "manager/jury.h"
#include "stage.h"

namespace souk {

class Court : public Stage {
 public:
  explicit Court(Jury::Rules rules = {.seed = {1, 2}}, Scheduler::Rules scheduling = {}) : Stage(scheduling), jury(rules) {}

  std::string open(std::uint64_t job, std::uint64_t tasks, Quorum quorum, unsigned retries = 0) {
    JobSubmitted submitted = simple_job(job, tasks, retries);
    submitted.terms.votes_of = quorum.of;
    jury.open({job}, std::move(quorum));
    return hear(submitted);
  }
  /// Each task needs so much of its worker.
  std::string open_needing(std::uint64_t job, std::uint64_t tasks, Quorum quorum, int cpus, std::uint64_t memory = 0, unsigned retries = 0) {
    JobSubmitted submitted = simple_job(job, tasks, retries);
    submitted.groups[0].needs.cpus = cpus, submitted.groups[0].needs.memory_bytes = memory;
    submitted.terms.votes_of = quorum.of;
    jury.open({job}, std::move(quorum));
    return hear(submitted);
  }
  /// A worker of that owner.
  std::string join(std::uint64_t worker, const std::string& owner, int slots = 1) {
    WorkerJoined joined = simple_worker(worker, slots);
    joined.owner = owner;
    return hear(joined);
  }
  static Outcome outcome(const std::string& out, int code = 0) {
    Outcome made;
    made.out = out, made.out_size = out.size(), made.exit_code = code, made.wall = std::chrono::seconds(1);
    return made;
  }
  /// What it runs of that task, as its result.
  std::string says(std::uint64_t worker, std::uint64_t job, std::uint64_t task, const std::string& out, int code = 0) { return says(worker, held_by(worker, {{job}, {task}}), outcome(out, code)); }
  std::string says(std::uint64_t worker, const Held& what, Outcome made) {
    forget(what.attempt);
    if (!jury.quorum(what.task.job) || !Jury::says_something(made) || !core.runs({worker}, what))
      return hear(AttemptFinished{{worker}, what, made.cause, made.succeeded(), made.wall, made.exit_code});
    Jury::Actions said;
    jury.vote(now, {core.voter({worker}, jury.quorum(what.task.job)->of), {worker}, what}, made, said);
    return perform(said, &made);
  }
  std::string hear(const Event& event) { return perform({Jury::Tell{event, {}}}, nullptr); }
  std::string wait(Duration pause) {
    std::string words;
    for (const Instant end = now + pause; now < end;) now = std::min(end, now + std::chrono::seconds(1)), append(words, hear(Tick{}));
    return words;
  }

  /// Attempt of a task that runs there.
  Held held_by(std::uint64_t worker, TaskId task) const {
    for (const auto& [attempt, at] : running)
      if (at.first.value == worker && at.second == task) return {attempt, task};
    ADD_FAILURE() << worker << " does not run " << name(task);
    return {};
  }
  std::optional<TaskId> task_of(std::uint64_t worker) const {
    for (const auto& [attempt, at] : running)
      if (at.first.value == worker) return at.second;
    return std::nullopt;
  }
  /// Votes of these two make a record for `owner`: both answer the same, task by task.
  void earn(std::uint64_t job, unsigned agreements, std::uint64_t one, std::uint64_t other) {
    open(job, agreements, {});
    for (const Instant late = now + std::chrono::hours(1); !ended.contains({job});) {
      for (const std::uint64_t worker : {one, other})
        if (const auto task = task_of(worker)) says(worker, task->job.value, task->task.value, "right");
      wait(std::chrono::seconds(1));
      if (now > late) return void(ADD_FAILURE() << "nothing is earned");
    }
  }

  Jury jury;
  std::map<AttemptId, std::pair<WorkerId, TaskId>> running;
  std::map<TaskId, std::string> committed;  // what was taken
  std::set<JobId> ended;
  std::vector<Jury::Recorded> records;

 private:
  static void append(std::string& words, const std::string& more) {
    if (!more.empty()) words += (words.empty() ? "" : "; ") + more;
  }
  void forget(AttemptId attempt) { running.erase(attempt); }
  std::string perform(Jury::Actions first, const Outcome* in_hand) {
    std::string words;
    std::deque<Jury::Action> left(first.begin(), first.end());
    while (!left.empty()) {
      const Jury::Action action = std::move(left.front());
      left.pop_front();
      if (const auto* told = std::get_if<Jury::Tell>(&action)) {
        append(words, Stage::tell(told->event));
        if (const auto* by = std::get_if<AttemptSetBy>(&told->event); by && by->then == AttemptSetBy::Then::park) append(words, "parked");
        for (const auto& done : actions) {
          Jury::Actions more;
          if (const auto* a = std::get_if<Assign>(&done)) running[a->attempt] = {a->worker, a->task};
          if (const auto* s = std::get_if<Stop>(&done)) running.erase(s->what.attempt);
          if (const auto* c = std::get_if<Commit>(&done)) {
            EXPECT_TRUE(committed.try_emplace(c->what.task, told->outcome ? told->outcome->out : in_hand ? in_hand->out : "?").second) << "twice: " << name(c->what.task);
          }
          if (const auto* g = std::get_if<GiveUp>(&done)) {
            if (!g->note.empty()) append(words, "(" + g->note + ")");
            jury.given_up(g->task);
          }
          if (const auto* e = std::get_if<JobEnded>(&done)) jury.close(e->job), ended.insert(e->job);
          if (const auto* p = std::get_if<OnlyParked>(&done)) jury.idle(p->job, more);
          if (!more.empty()) append(words, "nothing else to do");
          left.insert(left.end(), more.begin(), more.end());
        }
      } else if (const auto* caught = std::get_if<Jury::Caught>(&action)) {
        append(words, "caught " + caught->voter + " (" + std::to_string(caught->record.found) + ")");
        left.push_front(Jury::Tell{WorkerDistrusted{caught->worker, caught->aside}, {}});
      } else {
        records.push_back(std::get<Jury::Recorded>(action));
      }
      const auto broken = jury.broken_invariant();
      EXPECT_FALSE(broken) << *broken;
    }
    return words;
  }
};

}  // namespace souk
