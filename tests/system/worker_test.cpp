// The program souk-worker against a real server and a manager that a script plays.
#include <gloox/tag.h>
#include <gtest/gtest.h>

#include <fstream>
#include <utility>

#include "protocol/offer.h"
#include "tests/system/scripted_manager.h"

namespace souk::test {
namespace {

TEST(Worker, JoinsTheMarketAndTellsWhatItOffers) {
  Market market;
  market.manager.open();
  const auto began = std::chrono::steady_clock::now();
  auto worker = market.worker("anvil", 3, {"--tag", "room=2.14", "--tag", "gpu=none at all", "--resource", "fpga=[a,b]", "--resource", "license.matlab=2", "--speed", "1.5"});
  const std::string jid = market.manager.worker();
  const auto took = std::chrono::steady_clock::now() - began;
  RecordProperty("in_market_ms", static_cast<int>(took / 1ms));
  EXPECT_LT(took, 2s);
  ASSERT_TRUE(market.manager.occupants.contains("anvil"));
  const auto& occupant = market.manager.occupants["anvil"];
  EXPECT_EQ(occupant.show, "");
  EXPECT_EQ(occupant.status, "free: 3 slots");
  EXPECT_EQ(bare(jid), "worker@souk.localhost");

  auto iq = element("iq", {}, {{"type", "get"}, {"from", kManager}, {"to", jid}});
  child(*iq, "query", ns::info, {{"node", std::string(kCapsNode) + "#" + occupant.hash}});
  bool answered = false;
  market.manager.link.request(std::move(iq), 5s, [&](const Answer& answer) {
    answered = true;
    ASSERT_TRUE(answer) << answer.error.condition;
    const DiscoInfo info = info_in(*answer.iq->findChild("query"));
    EXPECT_EQ(caps_hash(info), occupant.hash);
    EXPECT_NE(std::find(info.features.begin(), info.features.end(), ns::task), info.features.end());
    ASSERT_EQ(info.forms.size(), 1u);
    const auto offer = offer_from(info.forms[0]);
    ASSERT_TRUE(offer) << offer.error().text();
    EXPECT_EQ(offer.value().slots, 3);
    EXPECT_EQ(offer.value().version, SOUK_VERSION);
    EXPECT_EQ(offer.value().tags.at("room"), "2.14");
    EXPECT_EQ(offer.value().tags.at("gpu"), "none at all");
    EXPECT_EQ(offer.value().resources, (std::map<std::string, OfferedResource>{{"fpga", {2, {"a", "b"}}}, {"license.matlab", {2, {}}}}));
    EXPECT_EQ(offer.value().speed, 1.5);
  });
  EXPECT_TRUE(market.manager.until([&] { return answered; }));
}

TEST(Worker, KeepsTheCommandsAndNeedsOfAJobsGroupsApart) {
  Market market;
  market.manager.open();
  auto worker = market.worker("anvil", 2, {"--resource", "fpga=[left,right]", "--speed", "1.5"});
  market.manager.hello();
  const std::string jid = market.manager.worker();
  // The command of group 1 goes ahead; that of group 0 rides along, and needs of both are told with the assignments.
  wire::Command ahead;
  ahead.add_argv("echo one $SOUK_TASK");
  ahead.set_shell(true);
  wire::CommandPart part;
  part.set_job(7);
  part.set_group(1);
  part.set_data(ahead.SerializeAsString());
  part.set_size(part.data().size());
  ASSERT_EQ(market.manager.ask(ScriptedManager::iq(jid, "command", part)).error, "");
  wire::Assign assign;
  assign.set_epoch(1);
  auto& first = *assign.add_commands();
  first.set_job(7);
  first.mutable_command()->add_argv("echo zero $SOUK_TASK");
  first.mutable_command()->set_shell(true);
  auto& second = *assign.add_commands();
  second.set_job(7);
  second.set_group(1);
  second.mutable_needs()->set_cpus(2);
  auto& third = *assign.add_commands();
  third.set_job(7);
  third.set_group(2);
  third.mutable_command()->add_argv("true");
  third.mutable_needs()->set_gpus(99);
  for (std::uint64_t number = 1; number <= 4; ++number) {
    auto& one = *assign.add_assignments();
    one.set_number(number);
    one.set_job(7);
    one.set_task(number);
    one.set_group(static_cast<std::uint32_t>(number - 1));
  }
  const Said took = market.manager.ask(ScriptedManager::iq(jid, "assign", assign));
  EXPECT_EQ(took.error, "");
  ASSERT_EQ(took.assign.refused_size(), 2);  // 3: no such GPUs; 4: no such command
  EXPECT_EQ(took.assign.refused(0), 3u);
  EXPECT_EQ(took.assign.refused(1), 4u);
  EXPECT_EQ(took.assign.why(), "asks 99 gpus, this worker has 0");
  ASSERT_EQ(took.assign.missing_size(), 1);
  EXPECT_EQ(took.assign.missing(0), 7u);
  ASSERT_TRUE(market.manager.results_are(2)) << worker->log();
  EXPECT_EQ(market.manager.results[1].outcome().out(), "zero 1\n");
  EXPECT_EQ(market.manager.results[2].outcome().out(), "one 2\n");
}

TEST(Worker, WaitsForAManagerThatComesLater) {
  Market market;
  auto worker = market.worker();
  ASSERT_TRUE(market.manager.until([&] { return worker->log().find("the room is not there yet") != std::string::npos; }));
  const auto began = std::chrono::steady_clock::now();
  market.manager.open();
  market.manager.worker();
  EXPECT_LT(std::chrono::steady_clock::now() - began, 1s);
}

TEST(Worker, NeverMakesTheMarketItself) {
  Market market(Prosody::Options{});  // here anybody may make rooms
  auto worker = market.worker();
  ASSERT_TRUE(market.manager.until([&] { return worker->log().find("destroying a room made by accident") != std::string::npos; }));
  // The room is gone again most of the time; the manager that comes owns it.
  ASSERT_TRUE(market.manager.until([&] { return worker->log().find("the room is not there yet") != std::string::npos; }));
  market.manager.open();
  market.manager.worker();
}

TEST(Worker, SaysWhenNobodyGreetsIt) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  EXPECT_TRUE(market.manager.until([&] { return worker->log().find("does it allow this account (--allow-worker)?") != std::string::npos; }, 15s)) << worker->log();
}

TEST(Worker, RunsWhatItIsGiven) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  const Said hello = market.manager.hello();
  EXPECT_EQ(hello.error, "");
  EXPECT_EQ(hello.hello.slots(), 2u);
  EXPECT_EQ(hello.hello.version(), SOUK_VERSION);
  EXPECT_EQ(hello.hello.held_size(), 0);
  const Said took = market.manager.assign("echo $SOUK_JOB.$SOUK_TASK {}; echo oops >&2; exit $SOUK_TASK", 1, 3);
  EXPECT_EQ(took.error, "");
  EXPECT_EQ(took.assign.refused_size(), 0);
  ASSERT_TRUE(market.manager.results_are(3)) << worker->log();
  for (std::uint64_t n = 1; n <= 3; ++n) {
    const auto& result = market.manager.results[n];
    EXPECT_EQ(result.attempt().epoch(), 1u);
    EXPECT_EQ(result.attempt().job(), 7u);
    EXPECT_EQ(result.attempt().task(), n);
    EXPECT_EQ(result.outcome().cause(), wire::Outcome::EXITED) << result.outcome().why();
    EXPECT_EQ(result.outcome().exit_code(), n);
    EXPECT_EQ(result.outcome().out(), "7." + std::to_string(n) + " item " + std::to_string(n) + "\n");
    EXPECT_EQ(result.outcome().err(), "oops\n");
  }
}

TEST(Worker, ReportsManyInFewStanzas) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello();
  for (std::uint64_t first = 1; first <= 300; first += 100) EXPECT_EQ(market.manager.assign("true", first, 100).assign.refused_size(), 0);
  ASSERT_TRUE(market.manager.results_are(300, 60s));
  EXPECT_LE(market.manager.reports, 300);
  EXPECT_EQ(market.manager.returned.size(), 0u);
  RecordProperty("reports", market.manager.reports);
}

TEST(Worker, TakesALargeCommandAhead) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello();
  const std::string jid = market.manager.worker();
  wire::Command command;
  command.add_argv("cat");
  command.set_output_max(1 << 20);
  command.set_input(std::string(400'000, 'i'));
  const std::string bytes = command.SerializeAsString();
  wire::Assign assign;
  assign.set_epoch(1);
  assign.add_assignments()->set_number(1);
  assign.mutable_assignments(0)->set_job(3);
  assign.mutable_assignments(0)->set_task(1);
  Said said = market.manager.ask(ScriptedManager::iq(jid, "assign", assign));
  ASSERT_EQ(said.assign.refused_size(), 1);
  ASSERT_EQ(said.assign.missing_size(), 1);
  EXPECT_EQ(said.assign.missing(0), 3u);
  for (std::size_t at = 0; at < bytes.size(); at += kStanzaMax) {
    wire::CommandPart part;
    part.set_job(3);
    part.set_offset(at);
    part.set_size(bytes.size());
    part.set_data(bytes.substr(at, kStanzaMax));
    EXPECT_EQ(market.manager.ask(ScriptedManager::iq(jid, "command", part)).error, "");
  }
  said = market.manager.ask(ScriptedManager::iq(jid, "assign", assign));
  EXPECT_EQ(said.assign.refused_size(), 0);
  ASSERT_TRUE(market.manager.results_are(1));
  EXPECT_EQ(market.manager.results[1].outcome().out(), command.input());
  wire::CommandPart gap;
  gap.set_job(4);
  gap.set_offset(5);
  gap.set_size(10);
  gap.set_data("x");
  EXPECT_EQ(market.manager.ask(ScriptedManager::iq(jid, "command", gap)).error.substr(0, 12), "bad-request:");
}

TEST(Worker, ShowsWhetherItIsFree) {
  Market market;
  market.manager.open();
  auto worker = market.worker("anvil", 1);
  market.manager.hello();
  market.manager.assign("sleep 30");
  EXPECT_TRUE(market.manager.until([&] { return market.manager.occupants["anvil"].show == "dnd"; }));
  EXPECT_EQ(market.manager.occupants["anvil"].status, "busy: 1 of 1 slot");
  market.manager.stop({1});
  EXPECT_TRUE(market.manager.until([&] { return market.manager.occupants["anvil"].show.empty(); }));
  worker->signal(SIGUSR2);
  EXPECT_TRUE(market.manager.until([&] { return market.manager.occupants["anvil"].show == "away"; }));
  EXPECT_EQ(market.manager.assign("true", 2).assign.why(), "paused by its owner");
  worker->signal(SIGUSR2);
  EXPECT_TRUE(market.manager.until([&] { return market.manager.occupants["anvil"].show.empty(); }));
}

TEST(Worker, StopsRunningAndWaitingAttempts) {
  Market market;
  market.manager.open();
  auto worker = market.worker("anvil", 1);
  market.manager.hello();
  market.manager.assign("sleep 30 & wait", 1, 2);
  EXPECT_EQ(market.manager.stop({1, 2, 3}).error, "");
  ASSERT_TRUE(market.manager.results_are(2));
  EXPECT_EQ(market.manager.results[1].outcome().cause(), wire::Outcome::CANCELED);
  EXPECT_EQ(market.manager.results[2].outcome().cause(), wire::Outcome::CANCELED);
}

TEST(Worker, TakesMoreFromTheAnswerToItsReport) {
  Market market;
  market.manager.open();
  auto worker = market.worker("anvil", 1);
  market.manager.hello();
  market.manager.answer_report = [&, number = 1u]() mutable {
    wire::ReportAnswer answer;
    if (++number <= 5) *answer.mutable_assign() = ScriptedManager::assigned("echo of {}", number);
    return answer;
  };
  market.manager.assign("echo of {}", 1);
  ASSERT_TRUE(market.manager.results_are(5));
  EXPECT_TRUE(market.manager.last_report.takes_more());
  EXPECT_EQ(market.manager.results[5].outcome().out(), "of item 5\n");
  EXPECT_EQ(market.manager.reports, 5);
}

TEST(Worker, SaysInAReportWhatItDoesNotTakeOfMore) {
  Market market;
  market.manager.open();
  auto worker = market.worker("anvil", 1);
  market.manager.hello();
  std::vector<wire::AssignAnswer> said;
  market.manager.answer_report = [&] {
    wire::ReportAnswer answer;
    if (market.manager.last_report.has_assigned()) said.push_back(market.manager.last_report.assigned());
    if (market.manager.last_report.results_size() == 0) return answer;
    *answer.mutable_assign() = ScriptedManager::assigned("true", 2, 2);
    answer.mutable_assign()->clear_commands();
    return answer;
  };
  market.manager.assign("true", 1);
  ASSERT_TRUE(market.manager.until([&] { return !said.empty(); }));
  EXPECT_EQ(said[0].refused_size(), 2);
  EXPECT_EQ(said[0].missing_size(), 1);
  EXPECT_EQ(said[0].why(), "no command for its job came with it");
  EXPECT_EQ(said[0].epoch(), 1u);
  EXPECT_EQ(market.manager.results.size(), 1u);
  // Of another epoch it takes nothing and says nothing: whoever leads now asks what it holds.
  market.manager.answer_report = [&] {
    wire::ReportAnswer answer;
    if (market.manager.last_report.has_assigned()) said.push_back(market.manager.last_report.assigned());
    if (market.manager.last_report.results_size() > 0 && market.manager.last_report.results(0).attempt().number() == 4) *answer.mutable_assign() = ScriptedManager::assigned("true", 5, 1, 9);
    return answer;
  };
  market.manager.assign("true", 4);
  ASSERT_TRUE(market.manager.results_are(2));
  market.manager.assign("true", 6);
  ASSERT_TRUE(market.manager.results_are(3));
  EXPECT_FALSE(market.manager.results.contains(5));
  EXPECT_EQ(said.size(), 1u);
}

TEST(Worker, HandsBackWhatWaitsBehindALongTask) {
  Market market;
  market.manager.open();
  auto worker = market.worker("anvil", 1);
  market.manager.hello();
  market.manager.assign("sleep 30", 1, 3);
  ASSERT_TRUE(market.manager.until([&] { return market.manager.returned.size() == 2; }));
  EXPECT_EQ(market.manager.returned, (std::vector<std::uint64_t>{2, 3}));
}

TEST(Worker, RenewsItsLeases) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello(1, 600);
  market.manager.assign("sleep 30");
  ASSERT_TRUE(market.manager.until([&] { return market.manager.leases.size() >= 3; }));
  ASSERT_EQ(market.manager.leases.back().held_size(), 1);
  EXPECT_EQ(market.manager.leases.back().held(0).number(), 1u);
}

TEST(Worker, SaysAgainThatItWasResumedUntilItIsHeard) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello();
  worker->signal(SIGUSR2);
  ASSERT_TRUE(market.manager.until([&] { return market.manager.leases.size() == 1; })) << worker->log();
  EXPECT_EQ(market.manager.leases[0].state(), wire::PAUSED);
  int refused = 0;
  market.manager.refuse_lease = [&] { return std::string(++refused == 1 ? "internal-server-error" : ""); };
  worker->signal(SIGUSR2);
  ASSERT_TRUE(market.manager.until([&] { return market.manager.leases.size() == 3; })) << worker->log();
  for (const auto& lease : {market.manager.leases[1], market.manager.leases[2]}) {
    EXPECT_EQ(lease.state(), wire::FREE);
    EXPECT_EQ(lease.held_size(), 0);
  }
}

TEST(Worker, SpeaksOnceALeaseThoughItHoldsNothing) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello(1, 300);
  ASSERT_TRUE(market.manager.until([&] { return market.manager.leases.size() >= 3; })) << worker->log();
  EXPECT_EQ(market.manager.leases.back().held_size(), 0);
}

/// The manager is started anew while a lease is on its way: it says hello, and then answers the lease as one that knows nobody yet.
TEST(Worker, StaysGreetedWhenALeaseCrossesAHello) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello(1, 600);
  bool restarted = false, answered = false;
  market.manager.refuse_lease = [&] {
    if (std::exchange(restarted, true)) return std::string();
    wire::Hello hello;
    hello.set_epoch(2);
    hello.set_lease_ms(30000);
    hello.set_version(SOUK_VERSION);
    market.manager.link.request(ScriptedManager::iq(market.manager.worker(), "hello", hello), 10s, [&](const Answer& answer) { answered = static_cast<bool>(answer); });
    return std::string("item-not-found");
  };
  ASSERT_TRUE(market.manager.until([&] { return answered && worker->log().find("lease not renewed why=\"item-not-found") != std::string::npos; })) << worker->log();
  EXPECT_EQ(market.manager.assign("echo done", 1, 1, 2).error, "");
  ASSERT_TRUE(market.manager.results_are(1)) << worker->log();
}

TEST(Worker, LargeStreamsArriveWhole) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello();
  market.manager.assign("head -c 1500000 /dev/zero | tr '\\0' x; head -c 300000 /dev/urandom >&2", 1, 2);
  ASSERT_TRUE(market.manager.results_are(2, 30s)) << worker->log();
  for (std::uint64_t n = 1; n <= 2; ++n) {
    const auto& outcome = market.manager.results[n].outcome();
    EXPECT_EQ(outcome.out(), std::string(1'500'000, 'x'));
    EXPECT_EQ(outcome.err().size(), 300'000u);
    EXPECT_EQ(outcome.out_size(), 1'500'000u);
  }
}

TEST(Worker, KeepsRunningWithoutAManagerAndHandsOverToTheNext) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello(1);
  const auto go = market.folder.path() / "go";
  market.manager.assign("while ! [ -e " + go.string() + " ]; do sleep 0.02; done; echo done", 1);
  market.manager.leave();
  ASSERT_TRUE(market.manager.until([&] { return worker->log().find("manager gone") != std::string::npos; }));
  std::ofstream(go).close();
  ASSERT_TRUE(market.manager.until([&] { return worker->log().find("finished task=7.1") != std::string::npos; }));
  EXPECT_EQ(market.manager.results.size(), 0u);
  market.manager.open();
  const Said hello = market.manager.hello(2);
  ASSERT_EQ(hello.hello.held_size(), 1);
  EXPECT_EQ(hello.hello.held(0).epoch(), 1u);
  ASSERT_TRUE(market.manager.results_are(1));
  EXPECT_EQ(market.manager.results[1].outcome().out(), "done\n");
}

TEST(Worker, SendsAReportAgainUntilItIsAnswered) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello();
  market.manager.answers = false;
  market.manager.assign("echo once");
  ASSERT_TRUE(market.manager.until([&] { return market.manager.reports == 1; }));
  market.manager.answers = true;
  EXPECT_EQ(market.manager.hello().hello.held_size(), 1);
  ASSERT_TRUE(market.manager.results_are(1));
  EXPECT_EQ(market.manager.hello().hello.held_size(), 0);
}

TEST(Worker, ComesBackAfterTheServerWasKilled) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello();
  market.manager.assign("sleep 0.3; echo survived");
  market.prosody.kill();
  market.manager.occupants.clear();
  ASSERT_TRUE(market.manager.until([&] { return worker->log().find("finished task=7.1") != std::string::npos; }));
  market.prosody.start();
  ASSERT_TRUE(market.manager.until([&] { return market.manager.link.up(); }, 20s));
  market.manager.open();
  EXPECT_EQ(market.manager.hello(2).hello.held_size(), 1);
  ASSERT_TRUE(market.manager.results_are(1));
  EXPECT_EQ(market.manager.results[1].outcome().out(), "survived\n");
}

TEST(Worker, TwoOfOneNameAndAccountDoNotHideEachOther) {
  Market market;
  market.manager.open();
  auto one = market.worker("anvil");
  const std::string first = market.manager.worker();
  auto two = market.worker("anvil");
  ASSERT_TRUE(market.manager.until([&] { return market.manager.occupants.contains("anvil-2"); })) << two->log();
  EXPECT_TRUE(market.manager.until([&] { return market.manager.occupants["anvil"].jid == first; }));
  EXPECT_NE(market.manager.occupants["anvil-2"].jid, first);
  EXPECT_TRUE(one->alive());
  EXPECT_EQ(one->log().find("not in the marketplace"), std::string::npos);
}

TEST(Worker, ComesBackWhenKickedAndGoesWhenBanned) {
  Market market;
  market.manager.open();
  auto worker = market.worker("anvil");
  market.manager.worker();
  EXPECT_EQ(market.manager.admin("role", "none", "nick", "anvil"), "");
  ASSERT_TRUE(market.manager.until([&] { return market.manager.occupants.empty(); }));
  EXPECT_TRUE(market.manager.until([&] { return market.manager.occupants.contains("anvil"); })) << worker->log();
  EXPECT_EQ(market.manager.admin("affiliation", "outcast", "jid", "worker@souk.localhost"), "");
  EXPECT_EQ(worker->exit_code(), 3);
  EXPECT_NE(worker->log().find("this account was banned; ask its owner to lift the ban on worker@souk.localhost"), std::string::npos) << worker->log();
  auto again = market.worker("anvil");
  EXPECT_EQ(again->exit_code(), 3);
  EXPECT_NE(again->log().find("this account is banned from the room"), std::string::npos) << again->log();
}

TEST(Worker, SaysThatTheRoomIsForMembersAndComesInAsOne) {
  Market market;
  market.manager.open();
  Form form;
  form.type = "submit";
  form.add("FORM_TYPE", "hidden", "", {"http://jabber.org/protocol/muc#roomconfig"});
  form.add("muc#roomconfig_membersonly", "", "", {"1"});
  ASSERT_EQ(market.manager.owner(form), "");
  auto worker = market.worker("anvil");
  EXPECT_TRUE(market.manager.until([&] { return worker->log().find("cannot join marketplace '" + kRoom + "': room is members-only") != std::string::npos; })) << worker->log();
  EXPECT_NE(worker->log().find("ask its owner to add worker@souk.localhost"), std::string::npos);
  EXPECT_TRUE(worker->alive());
}

TEST(Worker, StopsWhileItHasNoServer) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.worker();
  market.prosody.kill();
  ASSERT_TRUE(market.manager.until([&] { return worker->log().find("no connection") != std::string::npos; }));
  worker->signal(SIGTERM);
  EXPECT_EQ(worker->exit_code(3s), 0);
}

TEST(Worker, DrainsAndLeaves) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  market.manager.hello();
  const auto go = market.folder.path() / "go";
  market.manager.assign("while ! [ -e " + go.string() + " ]; do sleep 0.02; done; echo last words", 1);
  worker->signal(SIGUSR1);
  ASSERT_TRUE(market.manager.until([&] { return !market.manager.leases.empty(); }));
  EXPECT_EQ(market.manager.leases.back().state(), wire::DRAINING);
  ASSERT_TRUE(market.manager.until([&] { return market.manager.occupants["anvil"].show == "xa"; }));
  const Said said = market.manager.assign("true", 2);
  EXPECT_EQ(said.assign.refused_size(), 1);
  EXPECT_EQ(said.assign.why(), "draining");
  std::ofstream(go).close();
  EXPECT_EQ(worker->exit_code(), 0);
  ASSERT_EQ(market.manager.results.size(), 1u);
  EXPECT_EQ(market.manager.results[1].outcome().out(), "last words\n");
}

TEST(Worker, SaysWhatIsWrongAndEnds) {
  Market market;
  {
    market.write_profile("not the password");
    auto worker = market.worker();
    EXPECT_EQ(worker->exit_code(), 3);
    EXPECT_NE(worker->log().find("souk-worker: "), std::string::npos) << worker->log();
    EXPECT_EQ(worker->log().find("not the password"), std::string::npos);
    market.write_profile();
  }
  {
    WorkerProgram worker(market.loop, {"--profile", "/nowhere/worker.toml"}, market.folder.path() / "a.log");
    EXPECT_EQ(worker.exit_code(), 3);
    EXPECT_NE(worker.log().find("/nowhere/worker.toml"), std::string::npos);
  }
  {
    WorkerProgram worker(market.loop, {"--slots", "none"}, market.folder.path() / "b.log");
    EXPECT_EQ(worker.exit_code(), 2);
  }
  {
    auto worker = market.worker("anvil", 1, {"--tag", "novalue"});
    EXPECT_EQ(worker->exit_code(), 2);
    EXPECT_NE(worker->log().find("write --tag key=value"), std::string::npos);
  }
  {
    auto worker = market.worker("anvil", 100000);
    EXPECT_EQ(worker->exit_code(), 2);
  }
  {
    const auto copy = market.folder.path() / "souk-worker";
    std::filesystem::copy_file(SOUK_WORKER, copy);
    auto worker = market.worker("anvil", 1, {}, copy.string());
    EXPECT_EQ(worker->exit_code(), 3);
    EXPECT_NE(worker->log().find("install souk-runner beside souk-worker"), std::string::npos) << worker->log();
  }
  {
    const auto shared = (market.folder.path() / "shared").string();
    auto one = market.worker("anvil", 1, {"--work", shared});
    EXPECT_TRUE(market.manager.until([&] { return one->log().find("logged in") != std::string::npos; }));
    auto two = market.worker("anvil", 1, {"--work", shared});
    EXPECT_EQ(two->exit_code(), 3);
    EXPECT_NE(two->log().find(shared), std::string::npos) << two->log();
  }
  {
    WorkerProgram worker(market.loop, {"--version"}, market.folder.path() / "c.log");
    EXPECT_EQ(worker.exit_code(), 0);
  }
}

}  // namespace
}  // namespace souk::test
