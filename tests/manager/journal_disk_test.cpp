// What the journal does on a disk that refuses.
#include <fcntl.h>

#include "journal_stage.h"
#include "weak_disk.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

class JournalDiskTest : public JournalTest {
 protected:
  /// Runs the loop until `what` holds, which something that is under way must bring about.
  template <class What>
  bool until(What what, std::chrono::milliseconds most = 10s) {
    const auto end = std::chrono::steady_clock::now() + most;
    loop_.restart();
    auto work = boost::asio::make_work_guard(loop_);
    while (!what() && std::chrono::steady_clock::now() < end) loop_.run_one_for(1ms);
    return what();
  }
  WeakDisk disk_;
};

TEST_F(JournalDiskTest, KeepsWhatAFullDiskRefusesAnswersQuestionsAndGoesOnByItself) {
  auto journal = open();
  journal->add(row(1, 4)), journal->add(outcome(1, 1, "first"));
  commit(*journal);
  EXPECT_EQ(journal->pending_bytes(), 0u);
  EXPECT_EQ(journal->trouble(), "");
  EXPECT_EQ(journal->trouble(1 << 20), "") << "there is room for it";
  EXPECT_NE(journal->trouble(1ull << 50).find(", and this takes "), std::string::npos) << "what is larger than the disk is not begun";

  disk_.refuses = ENOSPC;
  bool promised = false, later = false;
  journal->add(outcome(1, 2, std::string(100'000, 'x')));
  journal->commit([&] { promised = true; });
  ASSERT_TRUE(until([&] { return !journal->trouble().empty(); }));
  EXPECT_EQ(journal->trouble(), "the manager's disk is full");
  journal->add(outcome(1, 3, "third"));
  journal->commit([&] { later = true; });
  EXPECT_EQ(outcomes_of(*journal, 1).size(), 1u);  // of what is on disk, without waiting for the rest
  EXPECT_GT(journal->pending_bytes(), 100'000u);
  EXPECT_FALSE(promised || later);

  disk_.refuses = 0;
  const auto freed = std::chrono::steady_clock::now();
  ASSERT_TRUE(until([&] { return promised && later; }));
  EXPECT_LT(std::chrono::steady_clock::now() - freed, 3s);
  EXPECT_EQ(journal->trouble(), "");
  EXPECT_EQ(journal->pending_bytes(), 0u);
  const auto rows = outcomes_of(*journal, 1);
  ASSERT_EQ(rows.size(), 3u);
  EXPECT_EQ(rows[2].out, "third");
}

TEST_F(JournalDiskTest, TellsAFullDiskFromOneThatOnlyReadsAndOneThatIsBroken) {
  auto journal = open();
  journal->add(row(1, 4));
  commit(*journal);
  bool promised = false;
  disk_.refuses = EIO;
  journal->add(outcome(1, 2));
  journal->commit([&] { promised = true; });
  ASSERT_TRUE(until([&] { return !journal->trouble().empty(); }));
  EXPECT_EQ(journal->trouble(), "the manager cannot write its store (disk I/O error)");
  disk_.refuses = ENOSPC;
  EXPECT_TRUE(until([&] { return journal->trouble() == "the manager's disk is full"; })) << journal->trouble();
  disk_.refuses = 0;
  ASSERT_TRUE(until([&] { return promised; }));
}

TEST_F(JournalDiskTest, EndsAlsoWhileTheDiskRefusesAndKeepsWhatWasPromised) {
  {
    auto journal = open();
    journal->add(row(1, 4)), journal->add(outcome(1, 1));
    commit(*journal);
    disk_.refuses = ENOSPC;
    journal->add(outcome(1, 2));
    journal->commit([] { ADD_FAILURE() << "promised what is not on disk"; });
    ASSERT_TRUE(until([&] { return !journal->trouble().empty(); }));
  }
  disk_.refuses = 0;
  open();
  EXPECT_EQ(restored_.ended.size(), 1u);
}

TEST_F(JournalDiskTest, ReadsASliceOfAStreamWithoutReadingAllOfIt) {
  auto journal = open();
  std::string stream;
  for (int at = 0; at < 100'000; ++at) stream += std::to_string(at) + '\n';
  journal->add(row(1, 2)), journal->add(outcome(1, 1, stream));
  OutcomeRow silent = outcome(1, 2, "");
  journal->add(silent);
  commit(*journal);
  const auto slice = [&](std::uint64_t task, std::uint64_t offset, std::size_t bytes) {
    return answer<Journal::Slice>([&](auto then) { journal->read_stream({{1}, {task}}, false, offset, bytes, then); });
  };
  EXPECT_EQ(slice(1, 70'000, 5000).data, stream.substr(70'000, 5000));
  EXPECT_EQ(slice(1, 70'000, 5000).size, stream.size());
  EXPECT_EQ(slice(1, stream.size() - 3, 5000).data, stream.substr(stream.size() - 3));
  EXPECT_EQ(slice(1, stream.size() + 10, 5000).data, "");
  EXPECT_EQ(slice(2, 0, 10).size, 0u);
  EXPECT_EQ(slice(9, 0, 10).size, 0u);
}

}  // namespace
}  // namespace souk
