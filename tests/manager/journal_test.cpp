#include "manager/journal.h"

#include <sys/stat.h>

#include "journal_stage.h"

namespace souk {
namespace {

TEST_F(JournalTest, GivesBackOpenJobsAndTheirOutcomesAndGrowsItsEpoch) {
  {
    auto journal = open();
    EXPECT_EQ(restored_.epoch, Epoch{1});
    journal->add(row(1, 3)), journal->add(row(2, 1));
    journal->add(outcome(1, 2)), journal->add(outcome(1, 2, "again"));
    journal->cancel({1});
    JobRow ended = row(2, 1);
    ended.ended_ms = 9, ended.state = TaskState::failed, ended.failed = 1;
    journal->add(outcome(2, 1)), journal->end(ended);
    commit(*journal);
  }
  auto journal = open();
  EXPECT_EQ(restored_.epoch, Epoch{2});
  ASSERT_EQ(restored_.jobs.size(), 2u);
  EXPECT_EQ(restored_.jobs[0].spec, std::string("\0spec", 5));
  EXPECT_EQ(restored_.jobs[0].name, "na\"me");
  EXPECT_TRUE(restored_.jobs[0].canceled);
  EXPECT_EQ(restored_.jobs[1].state, TaskState::failed);
  EXPECT_EQ(restored_.jobs[1].spec, "");
  ASSERT_EQ(restored_.ended.size(), 1u);  // of the open job only, and once
  EXPECT_EQ(restored_.ended[0].first, (TaskId{{1}, {2}}));
}

TEST_F(JournalTest, KeepsFactsAboutItself) {
  {
    auto journal = open();
    journal->set("jobs-floor", 1000), journal->set("jobs-floor", 2000), journal->set("epoch", 7);
    journal->set("worker a", 1), journal->set("worker a", 0);
    commit(*journal);
  }
  auto journal = open();
  EXPECT_EQ(restored_.facts["jobs-floor"], 2000);
  EXPECT_FALSE(restored_.facts.contains("worker a"));
  EXPECT_EQ(restored_.facts["epoch"], 8);  // this life's
  EXPECT_EQ(restored_.epoch, Epoch{8});
}

TEST_F(JournalTest, ReadsPagesAndStreamsWithBinaryContent) {
  auto journal = open();
  journal->add(row(1, 10));
  for (std::uint64_t task = 1; task <= 10; ++task) journal->add(outcome(1, task, std::string(1000, static_cast<char>('a' + task))));
  std::vector<OutcomeRow> rows;
  await([&](auto done) {
    journal->read({{1}, 3, 9, 5, 2100, true, false}, [&, done](Result<std::vector<OutcomeRow>> got) { rows = std::move(got.value()), done(); });
  });
  ASSERT_EQ(rows.size(), 5u);
  EXPECT_EQ(rows[0].task.task, TaskNumber{3});
  EXPECT_EQ(rows[0].out, std::string(1000, 'd'));
  EXPECT_EQ(rows[0].err, std::string("e\0r", 3));
  EXPECT_EQ(rows[2].out, "");  // did not fit any more
  EXPECT_EQ(rows[2].out_kept, 1000u);
  std::string data;
  std::uint64_t size = 0;
  await([&](auto done) {
    journal->read_stream({{1}, {4}}, false, 990, 100, [&, done](Result<Journal::Slice> got) { data = got.value().data, size = got.value().size, done(); });
  });
  EXPECT_EQ(data, std::string(10, 'e'));
  EXPECT_EQ(size, 1000u);
}

TEST_F(JournalTest, IsPrivateAndHasOneUser) {
  auto journal = open();
  struct stat facts {};
  ASSERT_EQ(::stat(file().c_str(), &facts), 0);
  EXPECT_EQ(facts.st_mode & 0777, 0600u);
  Journal::Restored other;
  const auto second = Journal::open(file(), loop_, other);
  ASSERT_FALSE(second);
  EXPECT_NE(second.error().remedy.find("other manager"), std::string::npos) << second.error().text();
}

TEST_F(JournalTest, KeepsTheTermsOfAJobAndWhetherItIsHeld) {
  {
    auto journal = open();
    JobRow held = row(1, 3), note = row(2, 1), released = row(3, 1);
    held.priority = -7, held.held = true, held.deadline_ms = 12345, held.layout = "3 train\n";
    released.held = true;
    journal->add(held), journal->add(note), journal->add(released);
    journal->hold({3}, false), journal->hold({2}, true);
    note.ended_ms = 9, note.note = "more than 3 tasks failed", note.state = TaskState::failed;
    journal->end(note);
    commit(*journal);
  }
  auto journal = open();
  const auto& jobs = restored_.jobs;
  ASSERT_EQ(jobs.size(), 3u);
  EXPECT_EQ(jobs[0].priority, -7);
  EXPECT_TRUE(jobs[0].held && !jobs[2].held);
  EXPECT_EQ(jobs[0].deadline_ms, 12345u);
  EXPECT_EQ(jobs[0].layout, "3 train\n");
  EXPECT_EQ(jobs[1].note, "more than 3 tasks failed");
}

TEST_F(JournalTest, RemembersTheLastAttemptsOfATask) {
  auto journal = open();
  journal->add(row(1, 2));
  for (unsigned run = 1; run <= Journal::kAttemptsKept + 5; ++run) journal->add(attempt(1, 1, run));
  journal->add(attempt(1, 2, 1));
  const auto history = history_of(*journal, {{1}, {1}});
  ASSERT_EQ(history.attempts.size(), static_cast<std::size_t>(Journal::kAttemptsKept));
  EXPECT_EQ(history.attempts.front().run, 6u);
  EXPECT_EQ(history.attempts.back().run, 25u);
  EXPECT_EQ(history.attempts.back().ending, "exit code 3");
  EXPECT_EQ(history.attempts.back().last_lines, std::string("b\0ad\n", 5));
  EXPECT_EQ(history.attempts.back().host, "lab7");
  EXPECT_EQ(history_of(*journal, {{1}, {2}}).attempts.size(), 1u);
  EXPECT_FALSE(history.outcome);
}

TEST_F(JournalTest, TellsHowTasksOfOpenJobsGoOnAlsoAfterMoreAttemptsThanItKeeps) {
  {
    auto journal = open();
    JobRow ended = row(2, 1);
    journal->add(row(1, 9)), journal->add(ended);
    for (unsigned run = 1; run <= Journal::kAttemptsKept + 5; ++run) {
      AttemptRow failed = attempt(1, 7, run);
      failed.failures = run, failed.again_ms = 1000 + run, failed.over = {{1}, 100 + run};
      journal->add(std::move(failed));
    }
    AttemptRow lost = attempt(1, 7, 3);  // the late end of a second attempt
    lost.failures = 25, lost.losses = 2;
    journal->add(lost), journal->add(attempt(1, 3, 1)), journal->add(attempt(2, 1, 1));
    ended.ended_ms = 9;
    journal->end(ended);
    commit(*journal);
  }
  auto journal = open();
  ASSERT_EQ(restored_.past.size(), 2u);  // none of the ended job
  EXPECT_EQ(restored_.past[0].task, (TaskId{{1}, {3}}));
  const Journal::Past& past = restored_.past[1];
  EXPECT_EQ(past.task, (TaskId{{1}, {7}}));
  EXPECT_EQ(past.runs, 25u);
  EXPECT_EQ(past.failures, 25u);
  EXPECT_EQ(past.losses, 2u);
  EXPECT_EQ(past.again_ms, 0u);  // it waits for nothing since
  EXPECT_EQ(past.over, (AttemptId{{1}, 125}));
}

TEST_F(JournalTest, VotesOnATaskAreThereInTheNextLifeUntilTheyBeginAnewOrAreForgotten) {
  const auto vote = [](std::uint64_t task, unsigned run, const char* voter, unsigned failures = 0) {
    AttemptRow made = attempt(1, task, run);
    made.over = {{1}, run}, made.voter = voter, made.vote = std::string("+\0x", 3), made.failures = failures;
    return made;
  };
  {
    auto journal = open();
    journal->add(row(1, 9));
    journal->add(vote(1, 1, "ada@x")), journal->add(vote(1, 2, "bob@x/ant"));
    journal->add(vote(2, 1, "ada@x")), journal->add(vote(2, 2, "")), journal->add(vote(2, 3, "", 1)), journal->add(vote(2, 4, "eve@x", 1));
    journal->add(vote(3, 1, "bob@x")), journal->add(vote(3, 2, "bobby@x"));
    commit(*journal);
  }
  {
    auto journal = open();
    ASSERT_EQ(restored_.past.size(), 3u);
    const auto& first = restored_.past[0].votes;
    ASSERT_EQ(first.size(), 2u);
    EXPECT_EQ(first[1].voter, "bob@x/ant");
    EXPECT_EQ(first[1].vote, std::string("+\0x", 3));
    EXPECT_EQ(first[1].attempt, (AttemptId{{1}, 2}));
    ASSERT_EQ(restored_.past[1].votes.size(), 1u) << "it failed, and the votes began anew";
    EXPECT_EQ(restored_.past[1].votes[0].voter, "eve@x");
    journal->forget_votes("bob@x");
    commit(*journal);
  }
  auto journal = open();
  ASSERT_EQ(restored_.past[0].votes.size(), 1u);
  EXPECT_EQ(restored_.past[0].votes[0].voter, "ada@x");
  ASSERT_EQ(restored_.past[2].votes.size(), 1u);
  EXPECT_EQ(restored_.past[2].votes[0].voter, "bobby@x") << "somebody else";
  JobRow again = row(1, 9);
  journal->reopen(again);
  commit(*journal);
  journal.reset();
  journal = open();
  for (const auto& past : restored_.past) EXPECT_TRUE(past.votes.empty()) << "a rerun is another matter";
}

TEST_F(JournalTest, AJobThatRunsAgainKeepsItsSuccessesAndItsHistory) {
  {
    auto journal = open();
    JobRow ended = row(1, 4);
    journal->add(ended);
    journal->add(outcome(1, 2)), journal->add(outcome(1, 4));
    OutcomeRow failed = outcome(1, 1), canceled = outcome(1, 3);
    failed.state = TaskState::failed, canceled.state = TaskState::canceled;
    journal->add(failed), journal->add(canceled), journal->cancel({1});
    AttemptRow third = attempt(1, 1, 3);
    third.failures = 3, third.losses = 1, third.again_ms = 99;
    journal->add(attempt(1, 1, 2)), journal->add(third);
    ended.ended_ms = 9, ended.state = TaskState::failed, ended.note = "too many", ended.succeeded = 2, ended.failed = 1;
    journal->end(ended);
    Journal::Kept kept;
    await([&](auto done) {
      journal->read_kept({1}, [&, done](Result<Journal::Kept> got) { kept = std::move(got.value()), done(); });
    });
    EXPECT_EQ(kept.spec, std::string("\0spec", 5));  // also of an ended job
    EXPECT_EQ(kept.succeeded, (std::vector<std::pair<TaskNumber, TaskState>>{{{2}, TaskState::succeeded}, {{4}, TaskState::succeeded}}));
    EXPECT_EQ(kept.runs, (std::vector<std::pair<TaskNumber, unsigned>>{{{1}, 3}}));
    ended.spec = "new", ended.key = "again", ended.deadline_ms = 0;
    journal->reopen(ended);
    journal->add(outcome(1, 1));
    commit(*journal);
  }
  auto journal = open();
  const JobRow& again = restored_.jobs.at(0);
  EXPECT_EQ(again.ended_ms, 0u);
  EXPECT_FALSE(again.canceled);
  EXPECT_EQ(again.spec + again.key + again.note, "newagain");
  EXPECT_EQ(again.succeeded + again.failed, 0u);  // counted anew when it ends
  ASSERT_EQ(restored_.ended.size(), 3u);
  EXPECT_EQ(restored_.ended[0].first.task, TaskNumber{1});
  EXPECT_EQ(restored_.ended[0].second, TaskState::succeeded);
  EXPECT_EQ(history_of(*journal, {{1}, {1}}).attempts.size(), 2u);
  ASSERT_EQ(restored_.past.size(), 1u);
  EXPECT_EQ(restored_.past[0].runs, 3u);
  EXPECT_EQ(restored_.past[0].failures + restored_.past[0].losses + restored_.past[0].again_ms, 0u);  // it may fail as often as at first
}

}  // namespace
}  // namespace souk
