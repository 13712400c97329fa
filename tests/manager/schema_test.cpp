// Stores as older versions wrote them, in their own words: what is in them is in them afterwards.
#include "manager/schema.h"

#include <sys/wait.h>

#include <fstream>
#include <sstream>

#include "journal_stage.h"
#include "weak_disk.h"

namespace souk {
namespace {

std::string bytes_of(const std::filesystem::path& file) {
  std::ostringstream bytes;
  bytes << std::ifstream(file, std::ios::binary).rdbuf();
  return bytes.str();
}

class SchemaTest : public JournalTest {
 protected:
  void write(const char* sql) const { SQLite::Database(file().string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE).exec(sql); }
};

constexpr const char* kFirst = R"(
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE TABLE jobs(id INTEGER PRIMARY KEY, owner TEXT, key TEXT, name TEXT, command TEXT, tasks INTEGER, retries INTEGER, notify INTEGER, canceled INTEGER,
  submitted_ms INTEGER, started_ms INTEGER, ended_ms INTEGER, state INTEGER, succeeded INTEGER, failed INTEGER, canceled_tasks INTEGER,
  requeued INTEGER, retried INTEGER, spec BLOB);
CREATE TABLE outcomes(job INTEGER, task INTEGER, state INTEGER, attempts INTEGER, worker TEXT, item BLOB, outcome BLOB, out BLOB, err BLOB);
CREATE UNIQUE INDEX outcome_of_task ON outcomes(job, task, state);
INSERT INTO meta VALUES('epoch', 41);
INSERT INTO jobs VALUES(1,'ada@x','k1','open one','true',3,2,1,0,5,6,0,0,0,0,0,0,0,x'00737065');
INSERT INTO jobs VALUES(2,'bob@x','','ended one','false',1,0,0,0,7,8,9,3,0,1,0,0,0,x'73');
INSERT INTO outcomes VALUES(1,2,2,1,'w1',x'',x'',x'6f7574',x'');
INSERT INTO outcomes VALUES(2,1,3,4,'w2',x'',x'',x'',x'657272');
PRAGMA user_version=1;)";

TEST_F(SchemaTest, TheFirstVersionIsBroughtUpToDate) {
  write(kFirst);
  for (const std::uint64_t life : {42u, 43u}) {  // brought up to date once, and then opened like any other
    auto journal = open();
    EXPECT_EQ(restored_.epoch, Epoch{life});
    ASSERT_EQ(restored_.jobs.size(), 2u);
    EXPECT_EQ(restored_.jobs[0].name, "open one");
    EXPECT_EQ(restored_.jobs[0].spec, std::string("\0spe", 4));
    EXPECT_FALSE(restored_.jobs[0].held);
    EXPECT_EQ(restored_.jobs[1].state, TaskState::failed);
    EXPECT_EQ(restored_.jobs[1].note, "");
    EXPECT_TRUE(restored_.untold.empty());
    ASSERT_EQ(restored_.ended.size(), 1u);
    const auto history = history_of(*journal, {{2}, {1}});
    ASSERT_TRUE(history.outcome);
    EXPECT_EQ(history.outcome->attempts, 4u);
    EXPECT_TRUE(history.attempts.empty());
  }
}

constexpr const char* kSecond = R"(
CREATE TABLE meta(name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE TABLE jobs(id INTEGER PRIMARY KEY, owner TEXT, key TEXT, name TEXT, command TEXT, tasks INTEGER, retries INTEGER, notify INTEGER, canceled INTEGER,
  submitted_ms INTEGER, started_ms INTEGER, ended_ms INTEGER, state INTEGER, succeeded INTEGER, failed INTEGER, canceled_tasks INTEGER,
  requeued INTEGER, retried INTEGER, spec BLOB, priority INTEGER NOT NULL DEFAULT 0, held INTEGER NOT NULL DEFAULT 0, deadline_ms INTEGER NOT NULL DEFAULT 0,
  note TEXT NOT NULL DEFAULT '', layout TEXT NOT NULL DEFAULT '');
CREATE TABLE outcomes(job INTEGER, task INTEGER, state INTEGER, attempts INTEGER, worker TEXT, item BLOB, outcome BLOB, out BLOB, err BLOB);
CREATE UNIQUE INDEX outcome_of_task ON outcomes(job, task, state);
CREATE TABLE attempts(job INTEGER, task INTEGER, run INTEGER, failures INTEGER, losses INTEGER, again_ms INTEGER, epoch INTEGER, number INTEGER,
  worker TEXT, host TEXT, ending TEXT, ended_ms INTEGER, wall_us INTEGER, last_lines BLOB);
CREATE INDEX attempt_of_task ON attempts(job, task);
INSERT INTO meta VALUES('epoch', 7);
INSERT INTO jobs VALUES(3,'ada@x','k3','open one','true',3,2,1,0,5,6,0,0,0,0,0,0,0,x'00737065',-4,1,12345,'','2 a'||char(10)||'1 b'||char(10));
INSERT INTO jobs VALUES(4,'bob@x','k4','ended one','false',2,0,0,1,7,8,9,3,1,1,0,2,1,x'ff73',0,0,0,'a task failed','');
INSERT INTO outcomes VALUES(3,2,2,1,'w1',x'69',x'',x'6f7574',x'');
INSERT INTO outcomes VALUES(4,1,3,4,'w2',x'',x'',x'',x'657272');
INSERT INTO outcomes VALUES(4,2,2,1,'w2',x'',x'',x'6f6b',x'');
INSERT INTO attempts VALUES(3,1,2,1,1,99,6,1234,'w1','lab7','exit code 3',77,1000,x'626164');
PRAGMA journal_mode=WAL;
PRAGMA user_version=2;)";

TEST_F(SchemaTest, TheSecondVersionIsBroughtUpToDate) {
  write(kSecond);
  for (const std::uint64_t life : {8u, 9u}) {
    auto journal = open();
    EXPECT_EQ(restored_.epoch, Epoch{life});
    ASSERT_EQ(restored_.jobs.size(), 2u);
    const JobRow &waits = restored_.jobs[0], &ended = restored_.jobs[1];
    EXPECT_EQ(waits.spec, std::string("\0spe", 4));
    EXPECT_EQ(waits.layout, "2 a\n1 b\n");
    EXPECT_TRUE(waits.held);
    EXPECT_EQ(waits.priority, -4);
    EXPECT_EQ(waits.deadline_ms, 12345u);
    EXPECT_EQ(ended.note, "a task failed");
    EXPECT_EQ(ended.spec, "");
    EXPECT_EQ(ended.requeued, 2u);
    ASSERT_EQ(restored_.past.size(), 1u);
    EXPECT_EQ(restored_.past[0].over, (AttemptId{{6}, 1234}));
    EXPECT_TRUE(restored_.untold.empty());  // who was told then is not known; nobody is told twice
    EXPECT_EQ(answer<Journal::Kept>([&](auto then) { journal->read_kept({4}, then); }).spec, "\xffs");
    EXPECT_EQ(outcomes_of(*journal, 4).at(1).out, "ok");
    EXPECT_EQ(history_of(*journal, {{3}, {1}}).attempts.at(0).last_lines, "bad");
  }
}

TEST_F(SchemaTest, AStepThatFailsLeavesTheOlderVersionAsItWas) {
  write(kSecond);
  write("CREATE TABLE forgotten(of_somebody_else TEXT)");  // so that the last statement of the step fails
  const auto refused = Journal::open(file(), loop_, restored_);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().why.find("forgotten"), std::string::npos) << refused.error().text();
  EXPECT_EQ(ask("PRAGMA user_version"), 2);
  EXPECT_EQ(ask("SELECT value FROM meta WHERE name='epoch'"), 7);
  EXPECT_EQ(ask("SELECT length(spec) FROM jobs WHERE id=3"), 4);
  write("DROP TABLE forgotten");
  open();
  EXPECT_EQ(restored_.jobs.at(0).spec.size(), 4u);
}

TEST_F(SchemaTest, KilledAtAnyWriteOfAStepThereIsTheOlderVersionOrTheNewOne) {
  const auto original = folder_ / "original";
  write(kSecond);
  std::filesystem::copy_file(file(), original);
  int kills = 0, olds = 0;
  for (bool finished = false; !finished; ++kills) {
    ASSERT_LT(kills, 500);
    for (const char* end : {"", "-wal", "-shm"}) std::filesystem::remove(file().string() + end);
    std::filesystem::copy_file(original, file());
    const pid_t child = ::fork();
    if (child == 0) {
      const WeakDisk disk;
      WeakDisk::writes_left = kills;
      const auto store = open_store(file());
      ::_exit(0);  // not closed in order, too
    }
    int status = 0;
    ASSERT_EQ(::waitpid(child, &status, 0), child);
    finished = WEXITSTATUS(status) == 0;
    const auto version = ask("PRAGMA user_version");
    olds += version == 2;
    ASSERT_TRUE(finished ? version == kSchemaVersion : version == 2 || version == kSchemaVersion) << version;
    EXPECT_EQ(ask("SELECT value FROM meta WHERE name='epoch'"), version == 2 ? 7 : 8);
    const auto journal = open();
    ASSERT_EQ(restored_.jobs.size(), 2u);
    EXPECT_EQ(restored_.jobs[0].spec.size(), 4u);
    EXPECT_EQ(outcomes_of(*journal, 4).size(), 2u);
  }
  EXPECT_GT(olds, 3);
}

TEST_F(SchemaTest, ANewerVersionIsRefusedAndNotAByteOfItChanges) {
  open().reset();
  // Its manager was killed: part of it is in the log alone, which whoever opens the store for writing would empty.
  const pid_t child = ::fork();
  if (child == 0) {
    SQLite::Database newer(file().string(), SQLite::OPEN_READWRITE);
    newer.exec("PRAGMA user_version=99; CREATE TABLE news(x)");
    ::_exit(0);
  }
  ::waitpid(child, nullptr, 0);
  const auto store = bytes_of(file()), log = bytes_of(file().string() + "-wal");
  ASSERT_GT(log.size(), 0u);
  for (int again = 0; again < 2; ++again) {
    const auto newer = Journal::open(file(), loop_, restored_);
    ASSERT_FALSE(newer);
    EXPECT_NE(newer.error().why.find("newer version of Souk (schema 99, known here " + std::to_string(kSchemaVersion) + ")"), std::string::npos) << newer.error().text();
    EXPECT_EQ(newer.error().remedy, "use that version");
  }
  EXPECT_TRUE(bytes_of(file()) == store);
  EXPECT_TRUE(bytes_of(file().string() + "-wal") == log);
}

TEST_F(SchemaTest, WhatIsNoStoreIsRefusedAndLeftAlone) {
  std::ofstream(file()) << std::string(5000, 'x');
  const auto refused = Journal::open(file(), loop_, restored_);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().why.find("not a database"), std::string::npos) << refused.error().text();
  EXPECT_TRUE(bytes_of(file()) == std::string(5000, 'x'));
}

TEST_F(SchemaTest, ADatabaseOfAnotherProgramIsRefusedAndLeftAlone) {
  SQLite::Database(file().string(), SQLite::OPEN_READWRITE | SQLite::OPEN_CREATE).exec("CREATE TABLE letters(x)");
  const auto before = bytes_of(file());
  const auto refused = Journal::open(file(), loop_, restored_);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().why.find("not a store of Souk's"), std::string::npos) << refused.error().text();
  EXPECT_TRUE(bytes_of(file()) == before);
}

TEST_F(SchemaTest, AsksForALogThatIsOnDiskWithEveryCommit) {
  const auto store = open_store(file());
  EXPECT_EQ(store->execAndGet("PRAGMA journal_mode").getString(), "wal");
  EXPECT_EQ(store->execAndGet("PRAGMA synchronous").getInt(), 2) << "2: FULL";
  EXPECT_EQ(store->execAndGet("PRAGMA auto_vacuum").getInt(), 2) << "2: incremental, so that the disk gets back what is no longer kept";
}

}  // namespace
}  // namespace souk
