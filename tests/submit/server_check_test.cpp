#include "submit/server_check.h"

#include <gtest/gtest.h>

namespace souk {
namespace {

using Level = Finding::Level;

TEST(ServerCheck, WarnsBeforeACertificateEnds) {
  EXPECT_EQ(judge_days(90).level, Level::ok);
  EXPECT_EQ(judge_days(13).level, Level::warning);
  EXPECT_EQ(judge_days(-1).level, Level::wrong);
}

TEST(ServerCheck, PasswordsInTheClearAreWrong) {
  EXPECT_EQ(judge_mechanisms({}, {"SCRAM-SHA-1", "PLAIN"}).level, Level::ok);
  EXPECT_EQ(judge_mechanisms({"SCRAM-SHA-1"}, {"SCRAM-SHA-1"}).level, Level::ok);
  EXPECT_EQ(judge_mechanisms({"PLAIN"}, {"SCRAM-SHA-1"}).level, Level::wrong);
  EXPECT_EQ(judge_mechanisms({}, {"PLAIN"}).level, Level::warning);
  EXPECT_EQ(judge_mechanisms({}, {"SCRAM-SHA-512", "EXTERNAL"}).level, Level::wrong);
  EXPECT_EQ(judge_mechanisms({}, {}).level, Level::wrong);
}

TEST(ServerCheck, TellsUntunedSocketsFromAFarServer) {
  EXPECT_EQ(judge_round_trip(0.5, 4, 50'000).level, Level::ok);
  EXPECT_EQ(judge_round_trip(80, 200, 50'000).level, Level::ok) << "far away, but steady";
  const auto untuned = judge_round_trip(0.2, 9, 50'000);
  EXPECT_EQ(untuned.level, Level::warning);
  EXPECT_EQ(judge_round_trip(0.2, 1.9, 50'000).level, Level::ok) << "a tuned one";
  EXPECT_NE(untuned.remedy.find("network_settings"), std::string::npos);
  EXPECT_EQ(judge_round_trip(0.7, 5100, 50'000).level, Level::wrong) << "a limit of 10 KiB a second";
}

TEST(ServerCheck, StanzasOfAGridMustPass) {
  EXPECT_EQ(judge_stanza(400'000, 0).level, Level::ok);
  EXPECT_EQ(judge_stanza(140'000, 400'000).level, Level::warning);
  EXPECT_EQ(judge_stanza(50'000, 140'000).level, Level::wrong);
}

TEST(ServerCheck, AClockIsJudgedByWhatIsCertain) {
  EXPECT_EQ(judge_clock(1.9, 0.5).level, Level::ok);
  EXPECT_EQ(judge_clock(-30, 0.5).level, Level::warning);
  EXPECT_NE(judge_clock(-30, 0.5).what.find("behind"), std::string::npos);
  EXPECT_EQ(judge_clock(3600, 0.5).level, Level::wrong);
  EXPECT_EQ(judge_clock(4, 3).level, Level::ok) << "a slow answer proves nothing";
}

TEST(ServerCheck, JsonIsOneObjectALineWhateverTheServerSaid) {
  const std::string text = render_findings({{Level::wrong, "login", "bad \xff \"x\"\n", "do"}, {Level::ok, "clock", "fine", ""}}, true);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_NE(text.find(R"("level":"wrong")"), std::string::npos);
}

}  // namespace
}  // namespace souk
