// The rules of a worker's owner, as the room, the manager and the tasks feel them.
#include <gloox/tag.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <fstream>

#include "tests/system/scripted_manager.h"

namespace souk::test {
namespace {

/// A file of rules that holds a worker back today, or does not.
class OwnerTest : public ::testing::Test {
 protected:
  OwnerTest() { market.manager.open(); }
  void rules(const std::string& text) {
    std::ofstream(policy.string() + ".new") << text;
    std::filesystem::rename(policy.string() + ".new", policy);
  }
  /// All days but this one and the next, in case it is about midnight.
  static std::string closed_today() {
    static const char* days[] = {"Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"};
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    ::localtime_r(&now, &local);
    const int today = (local.tm_wday + 6) % 7;
    return std::string("hours = \"") + days[(today + 2) % 7] + "-" + days[(today + 6) % 7] + "\"\n";
  }
  std::string status(const std::string& nick = "anvil") { return market.manager.occupants[nick].status; }

  Market market;
  const std::filesystem::path policy = market.folder.path() / "policy.toml";
};

TEST_F(OwnerTest, TheRuleThatHoldsItBackIsSeenByAll) {
  rules(closed_today());
  auto worker = market.worker("anvil", 2, {"--policy", policy.string()});
  market.manager.worker();
  ASSERT_TRUE(market.manager.until([&] { return status().starts_with("paused: outside its hours ("); })) << status();
  EXPECT_EQ(market.manager.occupants["anvil"].show, "away");
  const Said hello = market.manager.hello();
  EXPECT_EQ(hello.hello.state(), wire::PAUSED);
  EXPECT_TRUE(hello.hello.rule().starts_with("outside its hours (")) << hello.hello.rule();
  const Said refused = market.manager.assign("true");
  ASSERT_EQ(refused.assign.refused_size(), 1);
  EXPECT_TRUE(refused.assign.why().starts_with("held back by its owner: outside its hours (")) << refused.assign.why();
  EXPECT_NE(worker->log().find("owner rule=\"outside its hours ("), std::string::npos);
}

TEST_F(OwnerTest, WhatRunsIsPausedThenHandedBackAndTheFileIsReadAgain) {
  rules("grace = \"1s\"\n");
  auto worker = market.worker("anvil", 2, {"--policy", policy.string()});
  market.manager.hello();
  const auto marks = market.folder.path() / "marks";
  market.manager.assign("while :; do echo >> " + marks.string() + "; sleep 0.02; done");
  ASSERT_TRUE(market.manager.until([&] { return std::filesystem::exists(marks); }));
  rules(closed_today() + "grace = \"1s\"\n");
  worker->signal(SIGHUP);
  ASSERT_TRUE(market.manager.until([&] { return !market.manager.leases.empty() && market.manager.leases.back().state() == wire::PAUSED; })) << worker->log();
  EXPECT_TRUE(market.manager.leases.back().rule().starts_with("outside its hours ("));
  EXPECT_EQ(market.manager.leases.back().held_size(), 1);  // paused, and its lease is kept
  ASSERT_TRUE(market.manager.until([&] { return worker->log().find("paused slot=0") != std::string::npos; }));
  ASSERT_TRUE(market.manager.results_are(1)) << worker->log();
  EXPECT_EQ(market.manager.results[1].outcome().cause(), wire::Outcome::CANCELED);
  EXPECT_TRUE(market.manager.results[1].outcome().why().starts_with("handed back by its owner: outside its hours (")) << market.manager.results[1].outcome().why();
  rules("nice = 3\n");
  worker->signal(SIGHUP);
  ASSERT_TRUE(market.manager.until([&] { return market.manager.leases.back().state() == wire::FREE; })) << worker->log();
  EXPECT_EQ(market.manager.leases.back().slots(), 2u);
  EXPECT_EQ(market.manager.leases.back().rule(), "");
  ASSERT_TRUE(market.manager.until([&] { return status() == "free: 2 slots"; })) << status();
  market.manager.assign("nice", 2);
  ASSERT_TRUE(market.manager.results_are(2));
  EXPECT_EQ(market.manager.results[2].outcome().out(), std::to_string(getpriority(PRIO_PROCESS, 0) + 3) + "\n");
}

TEST_F(OwnerTest, AChangedFileIsSeenWithoutASignalAndABadOneChangesNothing) {
  rules("");
  auto worker = market.worker("anvil", 2, {"--policy", policy.string()});
  market.manager.hello();
  rules("only-idel = 3\n");
  ASSERT_TRUE(market.manager.until([&] { return worker->log().find("policy unchanged") != std::string::npos; })) << worker->log();
  EXPECT_NE(worker->log().find("known are: only-idle"), std::string::npos);
  EXPECT_EQ(status(), "free: 2 slots");
  rules(closed_today());
  ASSERT_TRUE(market.manager.until([&] { return status().starts_with("paused: outside"); })) << worker->log();
}

TEST_F(OwnerTest, ItTellsWhenItsOwnerWantsItBackAndLeavesThen) {
  auto worker = market.worker("anvil", 1, {"--until", "3s", "--grace", "100ms"});
  const auto now_ms = [] { return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count()); };
  const Said hello = market.manager.hello();
  EXPECT_NEAR(static_cast<double>(hello.hello.until_ms()), static_cast<double>(now_ms()) + 1500, 2000);
  market.manager.assign("sleep 60");
  ASSERT_TRUE(market.manager.results_are(1)) << worker->log();
  EXPECT_EQ(market.manager.results[1].outcome().cause(), wire::Outcome::CANCELED);
  EXPECT_EQ(worker->exit_code(), 0) << worker->log();
}

TEST_F(OwnerTest, DrainsTheWorkerThatIsMeant) {
  const auto work = market.folder.path() / "drained";
  auto worker = market.worker("anvil", 1, {"--work", work.string()});
  market.manager.hello();
  market.manager.assign("sleep 0.3; echo done");
  const auto say = [&](std::vector<std::string> words) { return std::make_unique<WorkerProgram>(market.loop, words, market.folder.path() / "drain.log"); };
  EXPECT_EQ(say({"--drain", "--work", (market.folder.path() / "elsewhere").string()})->exit_code(), 3);
  EXPECT_EQ(say({"--drain", "--work", work.string(), "--name", "hammer"})->exit_code(), 3);
  EXPECT_TRUE(worker->alive());
  auto drain = say({"--drain", "--work", work.string(), "--name", "anvil", "--profile", (market.folder.path() / "worker.toml").string(), "--wait"});
  ASSERT_TRUE(market.manager.results_are(1));
  EXPECT_EQ(market.manager.results[1].outcome().out(), "done\n");
  EXPECT_EQ(worker->exit_code(), 0);
  EXPECT_EQ(drain->exit_code(), 0);
  EXPECT_EQ(say({"--drain", "--work", work.string()})->exit_code(), 3);  // it runs no more, though its file is there
}

TEST_F(OwnerTest, BadRulesAreRefusedAtTheStart) {
  for (const std::vector<std::string>& words : {std::vector<std::string>{"--hours", "Moon"}, {"--nice", "99"}, {"--leave-memory", "2"}, {"--until", "soon"}, {"--wait"}})
    EXPECT_EQ(market.worker("anvil", 1, words)->exit_code(), 2) << words.front();
  rules("nice = 99\n");
  EXPECT_EQ(market.worker("anvil", 1, {"--policy", policy.string()})->exit_code(), 3);
  EXPECT_EQ(market.worker("anvil", 1, {"--policy", policy.string() + ".none"})->exit_code(), 3);
}

}  // namespace
}  // namespace souk::test
