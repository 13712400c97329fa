// What a worker keeps when it is killed, and what it does when it is told to stop.
#include <gtest/gtest.h>
#include <sqlite3.h>
#include <sys/mount.h>

#include <fstream>

#include "tests/system/scripted_manager.h"
#include "worker/grid_name.h"
#include "worker/spool.h"

namespace souk::test {
namespace {

std::string line_of(const std::filesystem::path& path) {
  std::string line;
  std::getline(std::ifstream(path), line);
  return line;
}

/// A market and what the lives of one worker share.
struct Keeping : Market {
  Keeping() { manager.open(); }
  std::unique_ptr<WorkerProgram> life(int slots = 1, std::vector<std::string> more = {}) {
    more.insert(more.end(), {"--work", (folder.path() / "work").string()});
    return worker("anvil", slots, more);
  }
  bool says(const WorkerProgram& worker, const std::string& what) {
    return manager.until([&] { return worker.log().find(what) != std::string::npos; });
  }
  /// Kills it and waits until the room has seen it leave.
  void kill(WorkerProgram& worker) {
    worker.signal(SIGKILL);
    EXPECT_EQ(worker.exit_code(), 128 + SIGKILL);
    EXPECT_TRUE(manager.until([&] { return manager.occupants.empty(); }));
  }
  /// Results on its disk, as its next life would find them if it were killed now.
  std::size_t on_disk() const {
    const auto copy = path("copy"), state = path("work/.souk-state");
    std::error_code failure;
    std::filesystem::remove_all(copy, failure);
    std::filesystem::copy(state, copy, failure);
    boost::asio::io_context aside;
    worker::Spool::Found found;
    const auto profile = load_profile(path("worker.toml"));
    return profile && worker::Spool::open(aside, copy, worker::grid_of(profile.value(), path("worker.toml")), found) ? found.restored.results.size() : 0;
  }
  std::filesystem::path path(const std::string& name) const { return folder.path() / name; }
  std::string waits_for(const std::string& name) const { return "while ! [ -e " + path(name).string() + " ]; do sleep 0.02; done; "; }
};

// ---- Killed ----------------------------------------------------------------------------------------------------------------------

TEST(WorkerKeeps, AResultThatNobodyTookBeforeItWasKilled) {
  Keeping market;
  auto first = market.life(2);
  const std::string jid = market.manager.worker();
  market.manager.hello(3);
  market.manager.answers = false;
  market.manager.assign("echo run {} >> " + market.path("runs").string() + "; echo done; echo oops >&2; exit 5", 1, 1, 3);
  ASSERT_TRUE(market.manager.until([&] { return market.manager.reports == 1; }));
  market.manager.assign("sleep 300", 2, 1, 3);
  market.kill(*first);
  market.manager.answers = true;
  auto second = market.life(2);
  EXPECT_EQ(market.manager.worker(), jid) << "known as the same worker";
  const Said hello = market.manager.hello(4);
  ASSERT_EQ(hello.hello.held_size(), 1) << "what had not ended is gone";
  EXPECT_EQ(hello.hello.held(0).epoch(), 3u);
  EXPECT_EQ(hello.hello.held(0).number(), 1u);
  EXPECT_EQ(hello.hello.jobs_seen(), 7u);
  ASSERT_TRUE(market.manager.results_are(1)) << second->log();
  const auto& result = market.manager.results[1];
  EXPECT_EQ(result.attempt().epoch(), 3u);
  EXPECT_EQ(result.outcome().exit_code(), 5u);
  EXPECT_EQ(result.outcome().out(), "done\n");
  EXPECT_EQ(result.outcome().err(), "oops\n");
  EXPECT_EQ(market.manager.hello(4).hello.held_size(), 0);
  EXPECT_EQ(line_of(market.path("runs")), "run item 1") << "and once only";
  // Taken is taken: the third life has nothing to hand over.
  ASSERT_TRUE(market.manager.until([&] { return market.manager.hello(4).hello.held_size() == 0; }));
  second->signal(SIGTERM);
  EXPECT_EQ(second->exit_code(), 0);
  ASSERT_TRUE(market.manager.until([&] { return market.manager.occupants.empty(); }));
  auto third = market.life(2);
  EXPECT_EQ(market.manager.hello(4).hello.held_size(), 0);
}

TEST(WorkerKeeps, AResultOfManyPiecesOfWhichSomeHadBeenSent) {
  Keeping market;
  auto first = market.life();
  market.manager.hello();
  market.manager.answers = false;
  market.manager.assign("head -c 3000000 /dev/zero | tr '\\0' x; head -c 100000 /dev/zero | tr '\\0' y >&2");
  ASSERT_TRUE(market.manager.until([&] { return market.manager.reports == 2; }));
  market.kill(*first);
  market.manager.answers = true;
  auto second = market.life();
  market.manager.hello(2);
  ASSERT_TRUE(market.manager.results_are(1, 30s)) << second->log();
  EXPECT_EQ(market.manager.results[1].outcome().out(), std::string(3'000'000, 'x'));
  EXPECT_EQ(market.manager.results[1].outcome().err(), std::string(100'000, 'y'));
}

TEST(WorkerKeeps, ResultsOverMoreThanOneLifeWithoutAManager) {
  Keeping market;
  auto worker = market.life();
  for (std::uint64_t life = 1; life <= 3; ++life) {
    market.manager.hello(life);
    market.manager.answers = false;
    market.manager.assign("echo $SOUK_TASK", life, 1, life);
    ASSERT_TRUE(market.manager.until([&] { return market.on_disk() == life; }));
    market.kill(*worker);
    worker = market.life();
  }
  market.manager.answers = true;
  EXPECT_EQ(market.manager.hello(4).hello.held_size(), 3);
  ASSERT_TRUE(market.manager.results_are(3));
  for (std::uint64_t n = 1; n <= 3; ++n) EXPECT_EQ(market.manager.results[n].outcome().out(), std::to_string(n) + "\n");
}

TEST(WorkerKeeps, NothingWhenTold) {
  Keeping market;
  auto first = market.life(1, {"--state", "none"});
  market.manager.hello();
  market.manager.answers = false;
  market.manager.assign("echo done");
  ASSERT_TRUE(market.manager.until([&] { return market.manager.reports == 1; }));
  market.kill(*first);
  auto second = market.life(1, {"--state", "none"});
  EXPECT_EQ(market.manager.hello(2).hello.held_size(), 0);
}

/// Both say the same name to the server, which throws out whoever had it before.
struct Twins : Keeping {
  std::unique_ptr<WorkerProgram> original, copy;
  std::string jid;
  std::filesystem::path copied_state() const { return path("copy-of-state"); }
  void run_original() {
    original = worker("anvil", 1, {"--state", path("state").string()});
    jid = manager.worker();
    manager.hello();
    manager.answers = false;
    manager.assign("echo mine");
    ASSERT_TRUE(manager.until([&] { return manager.reports == 1; }));
    std::filesystem::copy(path("state"), copied_state());
  }
  void run_copy() { copy = worker("anvil", 1, {"--state", copied_state().string()}); }
  static int thrown_out(const WorkerProgram& worker) {
    int times = 0;
    const std::string log = worker.log();
    for (auto at = log.find("thrown out"); at != log.npos; at = log.find("thrown out", at + 1)) ++times;
    return times;
  }
  bool both_are_in() {
    return manager.until([&] { return manager.occupants.size() == 2 && manager.occupants.begin()->second.jid != manager.occupants.rbegin()->second.jid; }, 30s);
  }
  std::string other() const {
    for (const auto& [nick, occupant] : manager.occupants)
      if (occupant.jid != jid) return occupant.jid;
    return "";
  }
};

TEST(WorkerKeeps, ItsNameWhenSomebodyRunsACopyOfItsFolder) {
  Twins market;
  market.run_original();
  market.run_copy();
  ASSERT_TRUE(market.both_are_in()) << market.original->log() << market.copy->log();
  const std::string other = market.other();
  EXPECT_NE(market.copy->log().find("since this one's state folder is a copy"), std::string::npos) << market.copy->log();
  EXPECT_EQ(market.original->log().find("a name of its own"), std::string::npos) << market.original->log();
  EXPECT_EQ(market.thrown_out(*market.original), 1);
  EXPECT_EQ(market.thrown_out(*market.copy), 1);
  market.manager.answers = true;
  wire::Hello again;
  again.set_epoch(2);
  again.set_lease_ms(30000);
  again.set_version(SOUK_VERSION);
  EXPECT_EQ(market.manager.ask(ScriptedManager::iq(market.jid, "hello", again)).hello.held_size(), 1) << "what it owes is still its own to hand over";
  ASSERT_TRUE(market.manager.results_are(1)) << market.original->log();
  EXPECT_EQ(market.manager.results[1].outcome().out(), "mine\n");
  market.original.reset();
  market.kill(*market.copy);
  market.run_copy();
  EXPECT_EQ(market.manager.worker(), other) << "the name it took is its own from now on";
}

TEST(WorkerKeeps, ApartFromACopyThatCannotBeKnownAsOne) {
  Twins market;
  market.run_original();
  for (const auto& entry : std::filesystem::directory_iterator(market.copied_state())) {  // as by a copy made file system and all
    if (entry.path().extension() != ".sqlite") continue;
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(entry.path().c_str(), &db), SQLITE_OK);
    EXPECT_EQ(sqlite3_exec(db, "DELETE FROM meta WHERE name='place'", nullptr, nullptr, nullptr), SQLITE_OK);
    sqlite3_close(db);
  }
  market.run_copy();
  EXPECT_TRUE(market.manager.until([&] { return market.original->log().find("a name of its own") != std::string::npos || market.copy->log().find("a name of its own") != std::string::npos; }, 40s));
  ASSERT_TRUE(market.both_are_in()) << market.original->log() << market.copy->log();
}

TEST(WorkerKeeps, ItsFolderToItselfAndSaysWhoseItIs) {
  Keeping market;
  const std::string state = market.path("state").string();
  auto one = market.worker("anvil", 1, {"--state", state});
  market.manager.worker();
  auto two = market.worker("hammer", 1, {"--state", state});
  EXPECT_EQ(two->exit_code(), 3);
  EXPECT_NE(two->log().find("cannot keep results in '" + state + "': another worker uses it; give each worker a folder of its own with --state"), std::string::npos) << two->log();
  std::ofstream(market.path("file")) << "x";
  auto three = market.worker("tongs", 1, {"--state", market.path("file").string()});
  EXPECT_EQ(three->exit_code(), 3);
  EXPECT_NE(three->log().find("or --state none to keep results in memory only"), std::string::npos) << three->log();
}

TEST(WorkerKeeps, WorkingWhenItsDiskIsFullAndSaysSo) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root mounts";
  Keeping market;
  const auto state = market.path("state");
  std::filesystem::create_directories(state);
  if (::mount("none", state.c_str(), "tmpfs", 0, "size=256k,mode=700") != 0) GTEST_SKIP() << "mounting is not allowed";
  struct Unmount {
    std::filesystem::path at;
    ~Unmount() { ::umount2(at.c_str(), MNT_DETACH); }
  } unmount{state};
  auto worker = market.worker("anvil", 1, {"--state", state.string()});
  market.manager.hello();
  market.manager.answers = false;
  market.manager.assign("head -c 2000000 /dev/zero", 1);
  ASSERT_TRUE(market.says(*worker, "results cannot be kept on disk why=\"the disk is full\"")) << worker->log();
  ASSERT_TRUE(market.manager.until([&] { return !market.manager.leases.empty() && market.manager.leases.back().rule() == "results cannot be kept on disk: the disk is full"; }));
  market.manager.answers = true;
  market.manager.hello();
  ASSERT_TRUE(market.manager.results_are(1)) << worker->log();
  EXPECT_EQ(market.manager.results[1].outcome().out().size(), 2'000'000u);
  ASSERT_TRUE(market.says(*worker, "results are kept on disk again")) << worker->log();
  ASSERT_TRUE(market.manager.until([&] { return market.manager.leases.back().rule().empty(); }));
  market.manager.assign("echo small", 2);
  ASSERT_TRUE(market.manager.results_are(2));
}

// ---- Told to stop ----------------------------------------------------------------------------------------------------------------

TEST(WorkerStops, HandingBackWhatRunsAndWhatWaitsAtOnce) {
  Keeping market;
  auto worker = market.life();
  market.manager.hello();
  market.manager.assign("echo $$ > " + market.path("pid").string() + "; sleep 300", 1, 2);
  ASSERT_TRUE(market.manager.until([&] { return !line_of(market.path("pid")).empty(); }));
  const auto began = std::chrono::steady_clock::now();
  worker->signal(SIGTERM);
  EXPECT_EQ(worker->exit_code(), 0) << worker->log();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 1500ms);
  EXPECT_TRUE(market.manager.until([&] { return market.manager.occupants.empty(); }));
  ASSERT_EQ(market.manager.results.size(), 1u);
  EXPECT_EQ(market.manager.results[1].outcome().cause(), wire::Outcome::CANCELED);
  EXPECT_EQ(market.manager.results[1].outcome().why(), "handed back: its worker was stopped");
  EXPECT_EQ(market.manager.returned, (std::vector<std::uint64_t>{2}));
}

TEST(WorkerStops, AfterItHandedOverWhatHadEnded) {
  Keeping market;
  auto worker = market.life();
  market.manager.hello();
  market.manager.answers = false;
  market.manager.assign("echo done");
  ASSERT_TRUE(market.manager.until([&] { return market.manager.reports == 1; }));
  worker->signal(SIGTERM);
  ASSERT_TRUE(market.says(*worker, "leaving why=\"Terminated\" running=0 waiting=0 owed=1")) << worker->log();
  market.manager.answers = true;
  EXPECT_EQ(market.manager.hello(2).hello.held_size(), 1);  // a manager that came back just then
  EXPECT_EQ(worker->exit_code(), 0) << worker->log();
  ASSERT_EQ(market.manager.results.size(), 1u);
  EXPECT_EQ(market.manager.results[1].outcome().out(), "done\n");
}

TEST(WorkerStops, AtOnceWithoutAManagerAndItsNextLifeHandsOver) {
  Keeping market;
  auto first = market.life();
  market.manager.hello();
  market.manager.assign(market.waits_for("go") + "echo done");
  market.manager.leave();
  ASSERT_TRUE(market.says(*first, "manager gone"));
  std::ofstream(market.path("go")).close();
  ASSERT_TRUE(market.says(*first, "finished task=7.1"));
  const auto began = std::chrono::steady_clock::now();
  first->signal(SIGTERM);
  EXPECT_EQ(first->exit_code(), 0) << first->log();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 1500ms);
  market.manager.occupants.clear();
  market.manager.open();
  auto second = market.life();
  EXPECT_EQ(market.manager.hello(2).hello.held_size(), 1);
  ASSERT_TRUE(market.manager.results_are(1));
  EXPECT_EQ(market.manager.results[1].outcome().out(), "done\n");
}

TEST(WorkerStops, WhenWhatRunsHadTimeToEnd) {
  Keeping market;
  auto worker = market.life(1, {"--finish-on-term", "1m"});
  market.manager.hello();
  market.manager.assign("touch " + market.path("runs").string() + "; " + market.waits_for("go") + "echo done", 1, 2);
  ASSERT_TRUE(market.manager.until([&] { return std::filesystem::exists(market.path("runs")); }));
  worker->signal(SIGTERM);
  ASSERT_TRUE(market.manager.until([&] { return market.manager.returned.size() == 1; })) << worker->log();
  EXPECT_EQ(market.manager.assign("true", 3).assign.why(), "draining");
  std::ofstream(market.path("go")).close();
  EXPECT_EQ(worker->exit_code(), 0) << worker->log();
  ASSERT_EQ(market.manager.results.size(), 1u);
  EXPECT_EQ(market.manager.results[1].outcome().out(), "done\n");
}

TEST(WorkerStops, WhenTheTimeToEndIsOver) {
  Keeping market;
  auto worker = market.life(1, {"--finish-on-term", "300ms"});
  market.manager.hello();
  market.manager.assign("touch " + market.path("runs").string() + "; sleep 300");
  ASSERT_TRUE(market.manager.until([&] { return std::filesystem::exists(market.path("runs")); }));
  worker->signal(SIGTERM);
  EXPECT_EQ(worker->exit_code(), 0) << worker->log();
  ASSERT_EQ(market.manager.results.size(), 1u);
  EXPECT_EQ(market.manager.results[1].outcome().cause(), wire::Outcome::CANCELED);
}

TEST(WorkerStops, AtOnceWhenToldTwice) {
  Keeping market;
  auto worker = market.life(1, {"--finish-on-term", "1m"});
  market.manager.hello();
  market.manager.assign("echo $$ > " + market.path("pid").string() + "; trap '' TERM; while :; do sleep 1; done");
  ASSERT_TRUE(market.manager.until([&] { return !line_of(market.path("pid")).empty(); }));
  worker->signal(SIGTERM);
  ASSERT_TRUE(market.says(*worker, "leaving why"));
  const auto began = std::chrono::steady_clock::now();
  worker->signal(SIGTERM);
  EXPECT_EQ(worker->exit_code(), 1);
  EXPECT_LT(std::chrono::steady_clock::now() - began, 1s);
}

/// As systemd does by default (KillMode=control-group): TERM to the worker and to all below it.
TEST(WorkerStops, AndCallsNoTaskAFailureThatAServiceManagerEndedWithIt) {
  Keeping market;
  auto worker = market.life(2, {"--no-namespace"});
  market.manager.hello();
  market.manager.assign("echo $$ > " + market.path("pid-").string() + "$SOUK_TASK; exec sleep 300", 1, 2);
  ASSERT_TRUE(market.manager.until([&] { return !line_of(market.path("pid-1")).empty() && !line_of(market.path("pid-2")).empty(); }));
  ::kill(std::stoi(line_of(market.path("pid-1"))), SIGTERM);  // even if some hear of it before the worker
  worker->signal(SIGTERM);
  ::kill(std::stoi(line_of(market.path("pid-2"))), SIGTERM);
  EXPECT_EQ(worker->exit_code(), 0) << worker->log();
  ASSERT_EQ(market.manager.results.size(), 2u);
  for (std::uint64_t n : {1, 2}) EXPECT_EQ(market.manager.results[n].outcome().cause(), wire::Outcome::CANCELED) << n;
}

}  // namespace
}  // namespace souk::test
