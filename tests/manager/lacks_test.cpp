// A store that was put back from a copy: what it leaps over, what it holds, and what it says of that.
#include "manager/lacks.h"

#include <gtest/gtest.h>

#include "journal_stage.h"
#include "manager/restoration.h"

namespace souk {
namespace {

constexpr std::uint64_t kNow = 1'795'000'000'000;

TEST(Lacks, SaysNothingOfAStoreThatIsWhole) {
  const Lacks whole({{"epoch", 7}, {"last_job", 12}});
  EXPECT_EQ(whole.text(kNow), "");
  EXPECT_TRUE(whole.epochs().empty());
}

TEST(Lacks, CountsWhatComesBackFromLostEpochs) {
  Lacks lacks({});
  lacks.put_back(kNow, 1'795'000'000'000 - 3'600'000, {6});
  lacks.lost({6}, {1000});
  EXPECT_EQ(lacks.text(kNow), "the store was put back from a copy and lacks what happened after 2026-11-18 10:06:40 UTC; jobs that were open then are held until `souk release`");
  lacks.named({7});
  EXPECT_TRUE(lacks.named({5}).empty()) << "an epoch that the copy knows";
  lacks.set_aside({{23}, {1}}), lacks.set_aside({{17}, {4}});
  const auto kept = lacks.set_aside({{17}, {5}});
  EXPECT_EQ(kept.at("lacks-results"), 3u);
  EXPECT_EQ(lacks.text(kNow), "the store was put back from a copy and lacks what happened after 2026-11-18 10:06:40 UTC: 2 lives of the manager; 3 results of jobs 17 to 23 came back and were "
                              "set aside; jobs that were open then are held until `souk release`");
  EXPECT_EQ(lacks.text(kNow + 31ull * 24 * 3600 * 1000), "") << "for ever would be noise";
}

TEST(Lacks, KnowsEveryRangeOfLostEpochsInOrder) {
  const Lacks lacks({{"lost-from-6", 1000}, {"lost-from-20000", 30000}, {"lost-from-3000", 3000}, {"lost-from-", 1}, {"lost-from-x", 1}, {"lost-gone", 1}});
  const std::vector<std::pair<Epoch, Epoch>> ranges{{{6}, {1000}}, {{3000}, {3000}}, {{20000}, {30000}}};
  EXPECT_EQ(lacks.epochs(), ranges);
}

class PutBack : public JournalTest {};

TEST_F(PutBack, LeapsOverEpochsAndNumbersAndHoldsWhatIsOpen) {
  {
    auto journal = open();
    journal->add(row(7, 3)), journal->add(row(8, 1)), journal->add(row(9, 1));
    JobRow ended = row(8, 1);
    ended.ended_ms = 9, ended.state = TaskState::succeeded;
    journal->end(ended);
    commit(*journal);
  }
  ASSERT_TRUE(mark_put_back(file(), kNow));
  auto journal = open();
  const std::uint64_t leap = 1000 + kNow / 10 % 100'000'000;
  EXPECT_EQ(restored_.epoch, Epoch{leap + 1});
  EXPECT_EQ(restored_.last_job, JobId{1000});
  const std::vector<std::pair<Epoch, Epoch>> lost{{{2}, {leap}}};  // 1 is the copy's; what marked it took 2
  EXPECT_EQ(Lacks(restored_.facts).epochs(), lost);
  ASSERT_EQ(restored_.jobs.size(), 3u);
  EXPECT_TRUE(restored_.jobs[0].held && !restored_.jobs[1].held && restored_.jobs[2].held);
  EXPECT_NE(restored_.jobs[0].note.find("put back from a copy"), std::string::npos);
  journal->hold({7}, false);
  commit(*journal);
  journal.reset();
  journal = open();
  EXPECT_FALSE(restored_.jobs[0].held);
  EXPECT_EQ(restored_.jobs[0].note, "");
}

TEST_F(PutBack, NeedsAStoreThatNobodyUses) {
  const auto none = mark_put_back(file(), kNow);
  ASSERT_FALSE(none);
  EXPECT_NE(none.error().text().find("it is not there"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(file())) << "none is made by mistake";
  const auto journal = open();
  EXPECT_FALSE(mark_put_back(file(), kNow));
}

}  // namespace
}  // namespace souk
