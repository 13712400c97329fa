// When, and how much, its owner lets a worker work.
#include "worker/policy.h"

#include <gtest/gtest.h>

namespace souk::worker {
namespace {

using namespace std::chrono_literals;

using Texts = std::map<std::string, std::string>;

/// Owns a policy, a clock and the facts; says in one line what was decided.
class Stage {
 public:
  explicit Stage(const Texts& rules, int slots = 4) : policy(rules_from(rules).value(), slots) {}
  std::string look() {
    const Decision d = policy.step(now, facts);
    std::string text = std::to_string(d.offered) + "/" + std::to_string(d.running) + "/" + std::to_string(d.kept);
    if (d.over) text += " over";
    return d.rule.empty() ? text : text + " " + d.rule;
  }
  std::string after(Duration span) {
    now += span;
    facts.now_ms += static_cast<std::uint64_t>(span / 1ms);
    if (facts.since_input) *facts.since_input += span;
    return look();
  }
  Policy policy;
  Facts facts;
  Instant now{};
};

constexpr int at(int day, int hour, int minute = 0) { return (day * 24 + hour) * 60 + minute; }
enum { kMon, kTue, kWed, kThu, kFri, kSat, kSun };

// ---- Hours ----------------------------------------------------------------------------------------------------------------------

TEST(Hours, ReachAcrossMidnightIntoTheNextDay) {
  const Hours hours = Hours::parse("Mon-Fri 18:00-08:00, Sat-Sun").value();
  EXPECT_FALSE(hours.open(at(kMon, 7, 59)));  // Sunday's span is the whole day, and no more
  EXPECT_FALSE(hours.open(at(kMon, 12)));
  EXPECT_TRUE(hours.open(at(kMon, 18)));
  EXPECT_TRUE(hours.open(at(kTue, 7, 59)));
  EXPECT_FALSE(hours.open(at(kTue, 8)));
  EXPECT_TRUE(hours.open(at(kSat, 12)));
  EXPECT_TRUE(hours.open(at(kSun, 23, 59)));
  EXPECT_EQ(hours.minutes_left(at(kMon, 18)), 14 * 60);
  EXPECT_EQ(hours.minutes_left(at(kFri, 18)), (6 + 48) * 60);
  EXPECT_EQ(hours.minutes_left(at(kMon, 12)), 0);
}

TEST(Hours, ReachAcrossTheEndOfTheWeek) {
  const Hours hours = Hours::parse("sun 22:00-06:00").value();
  EXPECT_TRUE(hours.open(at(kSun, 23)));
  EXPECT_TRUE(hours.open(at(kMon, 5, 59)));
  EXPECT_FALSE(hours.open(at(kMon, 6)));
  EXPECT_EQ(hours.minutes_left(at(kSun, 23)), 7 * 60);
  const Hours days = Hours::parse("Sat-Mon 09:00-17:00").value();
  EXPECT_TRUE(days.open(at(kMon, 9)));
  EXPECT_FALSE(days.open(at(kTue, 9)));
}

TEST(Hours, KnowWhenTheyNeverEnd) {
  EXPECT_EQ(Hours::parse("Mon-Sun").value().minutes_left(5), kWeekMinutes);
  EXPECT_EQ(Hours::parse("00:00-24:00").value().minutes_left(5), kWeekMinutes);
}

TEST(Hours, RefuseWhatIsNone) {
  for (const char* text : {"", " ", "Mon,", "Mon-", "Moon", "Mon 8-10", "Mon 08:00", "Mon 08:00-08:00", "Mon 25:00-26:00", "Mon 08:60-09:00", "Mon 24:00-08:00", "08:00-09:00 Mon", "Mon 08:00-24:01", ",,"})
    EXPECT_FALSE(Hours::parse(text)) << text;
  EXPECT_FALSE(Hours::parse(std::string(2000, ' ') + "Mon"));
}

// ---- Rules ----------------------------------------------------------------------------------------------------------------------

TEST(Rules, AreReadAsPeopleWriteThem) {
  const auto read = rules_from({{"only-idle", "10m"}, {"max-load", "1.5"}, {"hours", "Sat-Sun"}, {"on-mains", "true"}, {"slots-in-use", "2"}, {"nice", "10"}, {"leave-memory", "2GiB"},
                                {"until", "18:00"}, {"grace", "5s"}, {"when-back", "hand-back"}});
  ASSERT_TRUE(read) << read.error().text();
  const Rules& rules = read.value();
  EXPECT_EQ(rules.only_idle, 10min);
  EXPECT_EQ(rules.load_max, 1.5);
  EXPECT_TRUE(rules.hours && rules.on_mains);
  EXPECT_EQ(rules.slots_in_use, 2);
  EXPECT_EQ(rules.nice, 10);
  EXPECT_EQ(rules.leave_memory, 2ull << 30);
  EXPECT_EQ(rules.grace, 5s);
  EXPECT_EQ(rules.when_back, WhenBack::hand_back);
  EXPECT_FALSE(rules_from({}).value().any());
}

TEST(Rules, AreRefusedWithTheirNameAndARemedy) {
  const std::pair<const char*, const char*> cases[] = {{"only-idle", "ten"}, {"max-load", "-1"}, {"max-load", "nan"}, {"hours", "Moon"}, {"on-mains", "yes"}, {"slots-in-use", "-1"}, {"nice", "20"},
                                                       {"leave-memory", "2"}, {"until", "25:00"}, {"until", "0"}, {"grace", ""}, {"when-back", "stop"}, {"only-idel", "10m"}};
  for (const auto& [key, value] : cases) {
    const auto read = rules_from({{key, value}});
    ASSERT_FALSE(read) << key << '=' << value;
    EXPECT_FALSE(read.error().remedy.empty()) << read.error().text();
  }
}

// ---- Policy ---------------------------------------------------------------------------------------------------------------------

TEST(Policy, WithoutRulesItAlwaysWorks) {
  Stage stage(Texts{});
  stage.facts = {.on_mains = false, .memory_available = 0};
  stage.facts.since_input = 0s;
  stage.facts.others_load = 99;
  EXPECT_EQ(stage.look(), "4/4/4");
}

TEST(Policy, WhatIsNotKnownBreaksNoRule) {
  Stage stage(Texts{{"only-idle", "10m"}, {"max-load", "1"}, {"on-mains", "true"}, {"leave-memory", "1GiB"}});
  EXPECT_EQ(stage.look(), "4/4/4");
}

TEST(Policy, InUseItPausesAtOnceAndHandsBackAfterTheGrace) {
  Stage stage(Texts{{"only-idle", "10m"}, {"grace", "30s"}});
  stage.facts.since_input = 1h;
  EXPECT_EQ(stage.look(), "4/4/4");
  stage.facts.since_input = 12s;
  EXPECT_EQ(stage.look(), "0/0/4 in use: input 12 s ago");
  EXPECT_EQ(stage.after(29s), "0/0/4 in use: input 12 s ago");  // the text stays: nobody is told every few seconds
  EXPECT_EQ(stage.after(1s), "0/0/0 in use: input 12 s ago");
  EXPECT_EQ(stage.after(8min), "0/0/0 in use: input 12 s ago");
  EXPECT_EQ(stage.after(2min), "4/4/4");
}

TEST(Policy, HandBackGivesWhatRunsTheGraceAndFinishAllItsTime) {
  for (const auto& [when_back, later] : {std::pair{"hand-back", "0/4/0"}, std::pair{"finish", "0/4/4"}}) {
    Stage stage(Texts{{"only-idle", "10m"}, {"grace", "30s"}, {"when-back", when_back}});
    stage.facts.since_input = 1h;
    stage.look();
    stage.facts.since_input = 0s;
    EXPECT_EQ(stage.look().substr(0, 5), "0/4/4");
    EXPECT_EQ(stage.after(31s).substr(0, 5), later);
  }
}

TEST(Policy, LeavesSomeSlotsWhileSomebodyUsesIt) {
  Stage stage(Texts{{"slots-in-use", "1"}});
  stage.facts.since_input = 3s;
  EXPECT_EQ(stage.look(), "1/1/4 in use: input 3 s ago");
  EXPECT_EQ(stage.after(1min).substr(0, 5), "1/1/1");
  EXPECT_EQ(stage.after(10min), "4/4/4");
}

TEST(Policy, ItsOwnerMayLeaveFewerSlotsAndTheOtherRulesHoldBeside) {
  Stage stage(Texts{{"slots", "1"}, {"only-idle", "10m"}});
  stage.facts.since_input = 1h;
  EXPECT_EQ(stage.look(), "1/1/4 its owner leaves 1 slot");
  EXPECT_EQ(stage.after(1min), "1/1/1 its owner leaves 1 slot");
  stage.facts.since_input = 3s;
  EXPECT_EQ(stage.look().substr(0, 12), "0/0/4 in use");  // another grace for what ran
  EXPECT_FALSE(rules_from({{"slots", "-1"}}));
  EXPECT_FALSE(rules_from({{"slots", "many"}}));
}

TEST(Policy, OneBurstOfLoadIsNoReasonAndALoadNearTheBoundDoesNotFlap) {
  Stage stage(Texts{{"max-load", "1"}});
  stage.facts.others_load = 0.2;
  EXPECT_EQ(stage.look(), "4/4/4");
  stage.facts.others_load = 3;
  EXPECT_EQ(stage.after(2s), "4/4/4");
  for (int n = 0; n < 4; ++n) stage.after(2s);
  EXPECT_EQ(stage.look().substr(0, 25), "0/0/4 load of others 1.1 ");
  stage.facts.others_load = 0.9;
  for (int n = 0; n < 100; ++n) stage.after(2s);
  EXPECT_EQ(stage.look().substr(0, 5), "0/0/0");  // over 0.8 of it: not yet
  stage.facts.others_load = 0;
  stage.after(5s);
  EXPECT_EQ(stage.look().substr(0, 5), "0/0/0");  // low, but not for long
  EXPECT_EQ(stage.after(10s), "4/4/4");
  int changes = 0;
  std::string last = stage.look();
  for (int n = 0; n < 300; ++n) {
    stage.facts.others_load = n % 2 == 0 ? 0.85 : 1.1;
    const std::string next = stage.after(2s).substr(0, 1);
    changes += next != last.substr(0, 1);
    last = next;
  }
  EXPECT_LE(changes, 1);
}

TEST(Policy, LoadOfOthersCountsAsUse) {
  Stage stage(Texts{{"only-idle", "5m"}});
  stage.facts.others_load = 2;
  EXPECT_EQ(stage.look(), "0/0/4 in use: load of others 2.0 > 0.5");
  stage.facts.others_load = 0;
  stage.after(20s);  // the average is low from here on
  EXPECT_EQ(stage.after(4min).substr(0, 5), "0/0/0");
  EXPECT_EQ(stage.after(1min), "4/4/4");
}

TEST(Policy, WorksOnMainsOnlyAndWaitsAMomentWhenItIsBack) {
  Stage stage(Texts{{"on-mains", "true"}, {"when-back", "finish"}});
  stage.facts.on_mains = true;
  EXPECT_EQ(stage.look(), "4/4/4");
  stage.facts.on_mains = false;
  EXPECT_EQ(stage.look(), "0/4/4 on battery");
  stage.facts.on_mains = true;
  EXPECT_EQ(stage.after(5s), "0/4/4 on battery");
  EXPECT_EQ(stage.after(9s), "0/4/4 on battery");
  EXPECT_EQ(stage.after(1s), "4/4/4");
}

TEST(Policy, KeepsItsHoursAndTellsWhenTheyEnd) {
  Stage stage(Texts{{"hours", "18:00-08:00"}});
  stage.facts.now_ms = 1'000'000'000'000 / 60'000 * 60'000 + 12'345;
  stage.facts.week_minute = at(kWed, 12);
  EXPECT_EQ(stage.look(), "0/0/4 outside its hours (18:00-08:00)");
  stage.facts.week_minute = at(kWed, 20);
  EXPECT_EQ(stage.look(), "4/4/4");
  EXPECT_EQ(stage.policy.step(stage.now, stage.facts).until_ms, stage.facts.now_ms - 12'345 + 12 * 3600 * 1000);
}

TEST(Policy, EndsWhenItsTimeIsOver) {
  Rules rules = rules_from({{"until", "18:00"}, {"grace", "30s"}}).value();
  rules.until_ms = 5'000;
  Policy policy(rules, 2);
  EXPECT_EQ(policy.step(Instant{}, {.now_ms = 4'999}), (Decision{2, 2, 2, false, "", 5'000}));
  EXPECT_EQ(policy.step(Instant{} + 1s, {.now_ms = 5'000}), (Decision{0, 0, 2, true, "its time is over (18:00)", 5'000}));
  EXPECT_EQ(policy.step(Instant{} + 31s, {.now_ms = 35'000}).kept, 0);
}

TEST(Policy, ShortOfMemoryItHandsBackTheYoungestOneByOne) {
  Stage stage(Texts{{"leave-memory", "2GiB"}, {"grace", "30s"}});
  stage.facts.memory_available = 3ull << 30;
  stage.facts.slots_used = 3;
  EXPECT_EQ(stage.look(), "4/4/4");
  stage.facts.memory_available = 1ull << 30;
  EXPECT_EQ(stage.look(), "0/4/4 memory available 1.0 GiB < 2.0 GiB to leave");
  EXPECT_EQ(stage.after(30s).substr(0, 5), "0/4/2");
  stage.facts.slots_used = 2;
  EXPECT_EQ(stage.after(2s).substr(0, 5), "0/4/4");
  EXPECT_EQ(stage.after(28s).substr(0, 5), "0/4/1");
  stage.facts.memory_available = (2ull << 30) + 1;  // a little over it would be short again at once
  EXPECT_EQ(stage.after(2s).substr(0, 5), "0/4/4");
  stage.facts.memory_available = 5ull << 29;
  EXPECT_EQ(stage.after(2s), "4/4/4");
}

TEST(Policy, TheStricterRuleCountsAndEachGetsAGraceOfItsOwn) {
  Stage stage(Texts{{"slots-in-use", "2"}, {"on-mains", "true"}, {"grace", "30s"}});
  stage.facts.since_input = 0s;
  stage.facts.on_mains = true;
  EXPECT_EQ(stage.look(), "2/2/4 in use: input 0 s ago");
  EXPECT_EQ(stage.after(60s).substr(0, 5), "2/2/2");
  stage.facts.on_mains = false;
  EXPECT_EQ(stage.look(), "0/0/4 on battery");
  EXPECT_EQ(stage.after(30s), "0/0/0 on battery");
}

}  // namespace
}  // namespace souk::worker
