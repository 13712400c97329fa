// Workers come, go, lose and repeat what they say, at random from a seed; every task must be committed exactly once, and the invariants hold
// after every step. GRID_SEED=17 repeats one run.
#include <gtest/gtest.h>
#include <tbb/parallel_for.h>

#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "stage.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

class Chaos {
 public:
  explicit Chaos(std::uint64_t seed) : random_(seed), stage_({.crash_limit = 1000}) {}

  void run() {
    for (std::uint64_t job = 1; job <= 5; ++job) tell(Stage::simple_job(job, 1 + pick(60), static_cast<unsigned>(pick(3)), job % 2 ? "ada" : "bob"));
    for (int step = 0; step < 4000 && !ended(); ++step) act();
    // The weather clears: somebody is there, and whoever is works on what it has.
    join(1);
    for (int step = 0; step < 20000 && !ended(); ++step) {
      stage_.now += 100ms;
      for (auto& [id, has] : std::map(workers_))
        if (!has.empty()) finish(id, *has.begin(), true);
      tell(Tick{});
      if (step % 400 == 399) {
        tell(MarketOpened{});
        for (int second = 0; second < 32; ++second) stage_.now += 1s, tell(Tick{});  // what was lost on the way comes back
      }
    }
    if (!ended())
      for (std::uint64_t job = 1; job <= 5; ++job)
        if (const auto why = stage_.core.why({{job}, {0}}); !jobs_ended_.contains({job})) {
          std::string reasons;
          for (const auto& r : why.reasons) reasons += " / " + std::to_string(r.workers) + " " + r.why;
          ADD_FAILURE() << "job " << job << " goes on: " << why.summary << reasons;
        }
    ASSERT_TRUE(ended()) << "tasks were lost";
    for (std::uint64_t job = 1; job <= 5; ++job) {
      const auto& c = *stage_.core.counts({job});
      EXPECT_EQ(c.succeeded + c.failed + c.canceled, c.tasks);
    }
  }

 private:
  std::uint64_t pick(std::uint64_t n) { return std::uniform_int_distribution<std::uint64_t>(0, n - 1)(random_); }
  bool chance(double p) { return std::bernoulli_distribution(p)(random_); }
  bool ended() const { return jobs_ended_.size() == 5; }

  void tell(const Event& event) {
    stage_.tell(event);
    for (const Action& action : stage_.actions) {
      if (const auto* a = std::get_if<Assign>(&action)) {
        if (!chance(lossy_ ? 0.05 : 0)) workers_[a->worker.value].insert({a->attempt, a->task});  // else the assignment is lost on the way
      } else if (const auto* s = std::get_if<Stop>(&action)) {
        if (chance(0.9)) stopped_.push_back({s->worker.value, s->what});
      } else if (const auto* c = std::get_if<Commit>(&action)) {
        EXPECT_TRUE(committed_.insert(c->what.task).second) << "twice: " << Stage::name(c->what.task);
      } else if (const auto* e = std::get_if<JobEnded>(&action)) {
        EXPECT_TRUE(jobs_ended_.insert(e->job).second) << "job ended twice";
      }
    }
  }
  void join(std::uint64_t id) {
    const auto has = workers_[id];
    std::vector<Held> held;
    for (const auto& [attempt, task] : has) held.push_back({attempt, task});
    tell(Stage::simple_worker(id, static_cast<int>(1 + id % 3), held));
  }
  void finish(std::uint64_t id, std::pair<const AttemptId, TaskId> what, bool good) {
    const Held held{what.first, what.second};
    const int times = chance(lossy_ ? 0.1 : 0) ? 2 : 1;  // reports repeat
    workers_[id].erase(what.first);
    for (int i = 0; i < times; ++i) tell(AttemptFinished{{id}, held, Cause::exited, good, Duration(1000 + pick(200000))});
  }
  void act() {
    stage_.now += Duration(pick(400000));
    const std::uint64_t id = 1 + pick(6);
    switch (pick(12)) {
      case 0: return join(id);
      case 1:  // dies
        workers_.erase(id);
        return tell(WorkerLost{{id}});
      case 2:  // its link breaks; it goes on with what it has
        return tell(WorkerLost{{id}});
      case 3: return tell(WorkerChanged{{id}, static_cast<WorkerState>(pick(4))});
      case 4: stage_.now += 20s; return tell(Tick{});
      case 5: {
        std::vector<Held> held;
        for (const auto& [attempt, task] : workers_[id]) held.push_back({attempt, task});
        return tell(LeaseRenewed{{id}, WorkerState::free, held});
      }
      case 6:
        if (auto& has = workers_[id]; !has.empty()) {
          const auto attempt = has.begin()->first;
          has.erase(has.begin());
          return tell(AttemptReturned{{id}, attempt});
        }
        return;
      case 7:
        if (chance(0.02)) return tell(JobCanceled{{1 + pick(5)}});
        if (chance(0.1)) return tell(MarketClosed{});
        if (chance(0.5)) return tell(MarketOpened{});
        return;
      case 8:  // says something that was never so
        return tell(AttemptFinished{{id}, {{{pick(3)}, pick(300)}, {{pick(7)}, {pick(70)}}}, Cause::exited, true, 1ms});
      case 9:
        for (const auto& [worker, what] : std::exchange(stopped_, {}))
          if (workers_[worker].contains(what.attempt)) {
            workers_[worker].erase(what.attempt);
            tell(AttemptFinished{{worker}, what, Cause::canceled, false, 1ms});
          }
        return;
      default:
        if (auto& has = workers_[id]; !has.empty()) finish(id, *std::next(has.begin(), static_cast<long>(pick(has.size()))), chance(0.8));
    }
  }

  std::mt19937_64 random_;
  Stage stage_;
  const bool lossy_ = true;
  struct Has : std::map<AttemptId, TaskId> {};
  std::map<std::uint64_t, Has> workers_;
  std::vector<std::pair<std::uint64_t, Held>> stopped_;
  std::set<TaskId> committed_;
  std::set<JobId> jobs_ended_;
};

TEST(SchedulerRandom, EveryTaskIsCommittedExactlyOnce) {
  const char* only = std::getenv("GRID_SEED");
  const std::uint64_t first = only ? std::strtoull(only, nullptr, 10) : 1, last = only ? first : 300;
  tbb::parallel_for(first, last + 1, [](std::uint64_t seed) {  // seeds share nothing
    SCOPED_TRACE("GRID_SEED=" + std::to_string(seed));
    Chaos(seed).run();
  });
}

}  // namespace
}  // namespace souk
