// Whose turn it is: owners, weights, priorities, limits.
#include <gtest/gtest.h>

#include <map>

#include "stage.h"

namespace souk {
namespace {
using namespace std::chrono_literals;

/// Runs every task for a second, and counts whose tasks were started.
class Town : public Stage {
 public:
  using Stage::Stage;
  void take() {
    for (const Action& action : actions)
      if (const auto* a = std::get_if<Assign>(&action)) running_[now + 1s].push_back({a->worker.value, {a->attempt, a->task}}), ++started[a->task.job.value];
  }
  std::string say(const Event& event) {
    const std::string words = tell(event);
    take();
    return words;
  }
  void live(int seconds) {
    for (int i = 0; i < seconds; ++i) {
      now += 1s;
      say(Tick{});
      while (!running_.empty() && running_.begin()->first <= now) {
        const auto ended = running_.extract(running_.begin());
        for (const auto& [worker, what] : ended.mapped()) done(worker, what, 1s), take();
      }
    }
  }
  std::map<std::uint64_t, int> started;

 private:
  std::map<Instant, std::vector<std::pair<std::uint64_t, Held>>> running_;
};

TEST(Shares, AMinuteOfWorkDoesNotWaitBehindAMillionTasksOfAnother) {
  Town town;
  town.say(Stage::simple_worker(1, 4));
  town.say(Stage::simple_job(1, 1'000'000 / 1000, 0, "ada"));
  town.live(20);
  town.say(Stage::simple_job(2, 4, 0, "bob"));
  town.live(1);
  EXPECT_EQ(town.started[2], 4);  // all slots that came free, within the length of one task
}

TEST(Shares, WeightsDivideTheSlots) {
  Town town({.credit = 0});
  town.say(OwnerSet{"ada", 3, 0});
  town.say(Stage::simple_worker(1, 4));
  town.say(Stage::simple_job(1, 1000, 0, "ada"));
  town.say(Stage::simple_job(2, 1000, 0, "bob"));
  town.live(100);
  EXPECT_NEAR(town.started[1], 300, 12);
  EXPECT_NEAR(town.started[2], 100, 12);
}

TEST(Shares, LongTasksCountForAsLongAsTheyRun) {
  // Ada's tasks never end in this story, Bob's take a second: by turns of starting, Ada would soon hold all slots.
  Town town({.lease = 10h, .credit = 0});
  town.say(Stage::simple_worker(1, 8));
  town.tell(Stage::simple_job(1, 100, 0, "ada"));
  const int ada = static_cast<int>(town.actions.size());
  town.say(Stage::simple_job(2, 1000, 0, "bob"));
  EXPECT_EQ(ada, 8);
  for (std::uint64_t n = 1; n <= 4; ++n) town.done(1, town.held(n, 1, n)), town.take();
  town.live(60);
  EXPECT_EQ(town.core.counts({1})->running, 4u);
  EXPECT_EQ(town.core.counts({2})->running, 4u);
}

TEST(Shares, WhoWasAwayIsAheadByACreditAndNoMore) {
  Town town({.credit = 2});
  town.say(Stage::simple_worker(1, 4));
  town.say(Stage::simple_job(1, 2000, 0, "ada"));
  town.live(100);  // Ada used 400 slot-seconds, Bob nothing
  town.say(Stage::simple_job(2, 2000, 0, "bob"));
  const int before = town.started[1];
  town.live(100);
  EXPECT_NEAR(town.started[1] - before, 196, 12);  // of 400: half, but for a credit of two seconds of four slots
}

TEST(Shares, OldUseIsForgottenByHalves) {
  Town town({.half_life = 60s, .credit = 1e9});
  town.say(Stage::simple_worker(1, 2));
  town.say(Stage::simple_job(1, 120, 0, "ada"));
  town.live(61);
  town.live(600);  // ten half-lives: a thousandth of it counts
  town.say(Stage::simple_job(2, 1000, 0, "ada"));
  town.say(Stage::simple_job(3, 1000, 0, "bob"));
  town.live(60);
  EXPECT_NEAR(town.started[2], town.started[3], 8);
}

TEST(Shares, PriorityGoesFirstAmongTheOwnersOwnJobsOnly) {
  Stage stage;
  stage.submit(1, 2);
  auto urgent = Stage::simple_job(2, 2);
  urgent.terms.priority = 10;
  stage.tell(urgent);
  stage.submit(3, 1, 0, "bob");
  EXPECT_EQ(stage.join(1, 3), "assign 2.1 as 1 to 1; assign 3.1 as 2 to 1; assign 2.2 as 3 to 1");
}

TEST(Shares, JobsOfOneOwnerTakeTurns) {
  Stage stage;
  stage.submit(1, 10), stage.submit(2, 2);
  EXPECT_EQ(stage.join(1, 4), "assign 1.1 as 1 to 1; assign 2.1 as 2 to 1; assign 1.2 as 3 to 1; assign 2.2 as 4 to 1");
}

TEST(Shares, LimitsHoldBackOneOwnerAndNobodyElse) {
  Stage stage;
  stage.tell(OwnerSet{"", 1, 2});
  stage.tell(OwnerSet{"bob", 1, 0});
  stage.join(1, 6);
  EXPECT_EQ(stage.submit(1, 5), "assign 1.1 as 1 to 1; assign 1.2 as 2 to 1");
  EXPECT_EQ(stage.submit(2, 3, 0, "bob"), "assign 2.1 as 3 to 1; assign 2.2 as 4 to 1; assign 2.3 as 5 to 1");
  EXPECT_EQ(stage.core.why({{1}, {3}}).summary, "its owner runs as many tasks at a time as allowed: 2");
  EXPECT_EQ(stage.done(1, stage.held(2, 1, 2)), "commit 1.2 succeeded; assign 1.3 as 6 to 1");
  EXPECT_EQ(stage.tell(OwnerSet{"ada", 1, 3}), "assign 1.4 as 7 to 1");
}

}  // namespace
}  // namespace souk
