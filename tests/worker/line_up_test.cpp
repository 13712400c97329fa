// Attempts that are sent to their runner while another one runs.
#include <map>

#include "executor_stage.h"

namespace souk {
namespace {

class LineUp : public ExecutorTest {};
INSTANTIATE_TEST_SUITE_P(Executor, LineUp, ::testing::Bool(), mode_name);

/// What became of each attempt, by the name that the test gave it, and in which order.
struct Ends {
  std::map<std::string, Outcome> outcomes;
  std::string order;
  std::function<void(Outcome)> of(const std::string& name) {
    return [this, name](Outcome outcome) {
      EXPECT_FALSE(outcomes.contains(name)) << name << " ended twice";
      outcomes[name] = std::move(outcome);
      order += name + " ";
    };
  }
  std::function<void()> recalled(const std::string& name) {
    return [this, name] { order += "recalled:" + name + " "; };
  }
};

TEST_P(LineUp, EachBeginsWhenTheOneBeforeEndedAndHasItsOwnInputAndOutput) {
  Stage stage(GetParam());
  constexpr int kMany = 60;
  std::map<int, Outcome> outcomes;
  int next = 0, running = 0;
  std::function<void()> give = [&] {
    const int number = next++;
    // Long arguments come in a file, input in another, and outputs past a pipe's size are taken while it runs.
    Launch launch = number % 5 == 4 ? program({"/bin/sh", "-c", "echo ${#1}; cat", "sh", std::string(70'000 + number, 'x')})
                                    : shell("[ -e ../running ] && echo not alone; touch ../running; cat; echo err " + std::to_string(number) + " >&2; rm ../running");
    launch.input = std::string(number % 3 == 0 ? 300'000 : 10, static_cast<char>('a' + number % 26));
    stage.executor->line_up(0, std::move(launch), [&, number](Outcome outcome) {
      EXPECT_EQ(outcomes.size(), static_cast<std::size_t>(number)) << "out of order";
      outcomes[number] = std::move(outcome);
      --running;
      if (next < kMany) ++running, give();
    }, [] { ADD_FAILURE() << "nobody recalled it"; });
  };
  running = 2;
  give();
  give();
  ASSERT_TRUE(stage.until([&] { return outcomes.size() == kMany; }));
  for (const auto& [number, outcome] : outcomes) {
    SCOPED_TRACE(number);
    const std::string input(number % 3 == 0 ? 300'000 : 10, static_cast<char>('a' + number % 26));
    EXPECT_EQ(outcome.cause, Cause::exited) << outcome.why;
    EXPECT_TRUE(outcome.out == (number % 5 == 4 ? std::to_string(70'000 + number) + "\n" + input : input)) << outcome.out.substr(0, 50);
    EXPECT_EQ(outcome.err, number % 5 == 4 ? "" : "err " + std::to_string(number) + "\n");
  }
  EXPECT_EQ(running, 0);
}

TEST_P(LineUp, WhatHasNotBegunCanBeTakenBackAndNeverBegins) {
  Stage stage(GetParam());
  Ends ends;
  stage.start("touch here; while [ ! -e go ]; do sleep 0.01; done", ends.of("first"));
  Launch launch = shell("touch " + (stage.folder / "began").string());
  launch.input = "with a descriptor of its own";
  stage.executor->line_up(0, launch, ends.of("second"), ends.recalled("second"));
  stage.executor->recall(0);
  stage.executor->recall(0);
  ASSERT_TRUE(stage.until([&] { return !ends.order.empty(); }));
  EXPECT_EQ(ends.order, "recalled:second ");
  stage.executor->line_up(0, shell("echo third"), ends.of("third"), ends.recalled("third"));  // there is room again
  std::ofstream(stage.last_folder / "go") << "";
  ASSERT_TRUE(stage.until([&] { return ends.outcomes.contains("third"); }));
  EXPECT_EQ(ends.order, "recalled:second first third ");
  EXPECT_EQ(ends.outcomes["third"].out, "third\n");
  EXPECT_FALSE(fs::exists(stage.folder / "began"));
}

TEST_P(LineUp, WhatBeganCannotBeTakenBack) {
  Stage stage(GetParam());
  Ends ends;
  stage.start("touch here; while [ ! -e go ]; do sleep 0.01; done", ends.of("first"));
  const fs::path began = stage.folder / "began";
  stage.executor->line_up(0, shell("touch " + began.string() + "; sleep 0.05"), ends.of("second"), ends.recalled("second"));
  std::ofstream(stage.last_folder / "go") << "";
  while (!fs::exists(began)) ::usleep(1000);  // the loop stands: nobody here knows of it
  stage.executor->recall(0);
  ASSERT_TRUE(stage.until([&] { return ends.outcomes.size() == 2; }));
  EXPECT_EQ(ends.order, "first second ");
  EXPECT_EQ(ends.outcomes["second"].cause, Cause::exited);
}

TEST_P(LineUp, AStopIsForTheOneThatRuns) {
  Stage stage(GetParam());
  Ends ends;
  stage.start("touch here; sleep 60", ends.of("first"));
  const fs::path began = stage.folder / "began";
  stage.executor->line_up(0, shell("echo still here; touch " + began.string() + "; sleep 60"), ends.of("second"), ends.recalled("second"));
  stage.executor->stop(0);
  ASSERT_TRUE(stage.until([&] { return ends.outcomes.contains("first"); }));
  EXPECT_EQ(ends.outcomes["first"].cause, Cause::canceled);
  ASSERT_TRUE(stage.until([&] { return fs::exists(began); }));
  EXPECT_FALSE(ends.outcomes.contains("second"));
  stage.executor->stop(0);
  ASSERT_TRUE(stage.until([&] { return ends.outcomes.contains("second"); }));
  EXPECT_EQ(ends.outcomes["second"].cause, Cause::canceled);
  EXPECT_EQ(ends.outcomes["second"].out, "still here\n");
}

TEST_P(LineUp, ARunnerThatIsKilledTakesOnlyTheOneThatRunsWithIt) {
  Stage stage(GetParam());
  for (int round = 0; round < 5; ++round) {
    Ends ends;
    stage.start("touch here; sleep 60", ends.of("first"));
    const fs::path begins = stage.folder / ("begins-" + std::to_string(round));
    stage.executor->line_up(0, shell("echo x >> " + begins.string()), ends.of("second"), ends.recalled("second"));
    if (round % 2 == 0) stage.executor->recall(0);  // which may come too late, and then nothing comes of it
    stage.kill_runner();
    ASSERT_TRUE(stage.until([&] { return ends.outcomes.contains("first") && (ends.outcomes.contains("second") || ends.order.find("recalled") != std::string::npos); }));
    EXPECT_EQ(ends.outcomes["first"].cause, Cause::lost);
    if (!ends.outcomes.contains("second")) continue;
    EXPECT_EQ(ends.outcomes["second"].cause, Cause::exited) << ends.outcomes["second"].why;
    EXPECT_EQ(fs::file_size(begins), 2u) << "it began not once";
  }
}

TEST_P(LineUp, WhatCannotStartSaysSoInItsTurn) {
  Stage stage(GetParam());
  Ends ends;
  stage.start("touch here; sleep 0.05", ends.of("first"));
  stage.executor->line_up(0, program({"/no/such/program"}), ends.of("second"), ends.recalled("second"));
  ASSERT_TRUE(stage.until([&] { return ends.outcomes.size() == 2; }));
  EXPECT_EQ(ends.order, "first second ");
  EXPECT_EQ(ends.outcomes["second"].cause, Cause::not_started);
  EXPECT_NE(ends.outcomes["second"].why.find("not found"), std::string::npos);
  EXPECT_EQ(stage.run(shell("echo and on")).out, "and on\n");
}

}  // namespace
}  // namespace souk
