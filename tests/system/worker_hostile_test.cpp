// What a worker must not obey, and what must not stop it.
#include <gloox/tag.h>
#include <gtest/gtest.h>

#include <random>

#include "tests/system/scripted_manager.h"

namespace souk::test {
namespace {

TEST(Worker, ObeysNobodyButItsManager) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  const std::string jid = market.manager.worker();
  market.manager.hello();
  wire::Hello hello;
  hello.set_epoch(9);
  hello.set_version(SOUK_VERSION);
  for (const std::string other : {"manager@grid.souk.localhost/other", "manager@grid.souk.localhost", "grid.souk.localhost", "eve@grid.souk.localhost/souk"}) {
    SCOPED_TRACE(other);
    EXPECT_EQ(market.manager.ask(ScriptedManager::iq(jid, "hello", hello, other)).error, "forbidden: this worker obeys " + kManager + " only");
  }
  XmppLink ada(market.loop, market.prosody.account("ada"));
  ada.start();
  ASSERT_TRUE(market.manager.until([&] { return ada.up(); }));
  std::string error;
  auto iq = element("iq", {}, {{"type", "set"}, {"to", jid}});
  child(*iq, "stop", ns::task);
  ada.request(std::move(iq), 5s, [&](const Answer& answer) { error = answer.error.condition; });
  ASSERT_TRUE(market.manager.until([&] { return !error.empty(); }));
  EXPECT_EQ(error, "forbidden");
  EXPECT_EQ(market.manager.assign("true").error, "");  // still in epoch 1
}

TEST(Worker, NothingOnTheWireStopsIt) {
  Market market;
  market.manager.open();
  auto worker = market.worker();
  const std::string jid = market.manager.worker();
  auto& manager = market.manager;
  EXPECT_EQ(manager.assign("true").error, "conflict: this worker has not been greeted yet; send hello first");
  for (const std::string other : {"99.1", ""})
    EXPECT_EQ(manager.hello(1, 30000, other).error, "not-acceptable: this worker is of version " SOUK_VERSION ", the manager of '" + other + "'; run the same major version");
  EXPECT_EQ(manager.hello(5, ~0ull).error, "");
  EXPECT_EQ(manager.hello(5, 0).error, "");
  EXPECT_EQ(manager.hello(5).error, "");
  EXPECT_EQ(manager.assign("true", 1, 1, 4).error, "conflict: this worker was last greeted in epoch 5; send hello first");

  for (const std::string name : {"hello", "assign", "command", "stop"}) {
    SCOPED_TRACE(name);
    EXPECT_EQ(manager.ask(ScriptedManager::iq(jid, name, "%%% no base64 %%%")).error.substr(0, 12), "bad-request:");
    EXPECT_EQ(manager.ask(ScriptedManager::iq(jid, name, base64(std::string(2000, '\xff')))).error.substr(0, 12), "bad-request:");
    auto zlib = ScriptedManager::iq(jid, name, base64("this is no zlib"));
    zlib->findChild(name)->addAttribute("encoding", "zlib");
    EXPECT_EQ(manager.ask(std::move(zlib)).error.substr(0, 12), "bad-request:");
    auto brotli = ScriptedManager::iq(jid, name, "");
    brotli->findChild(name)->addAttribute("encoding", "brotli");
    EXPECT_EQ(manager.ask(std::move(brotli)).error.substr(0, 12), "bad-request:");
    auto get = ScriptedManager::iq(jid, name, "");
    get->addAttribute("type", "get");
    EXPECT_EQ(manager.ask(std::move(get)).error.substr(0, 12), "bad-request:");
    EXPECT_EQ(manager.ask(ScriptedManager::iq(jid, name, "", "urn:souk:task:2")).error.substr(0, 20), "service-unavailable:");
  }
  EXPECT_EQ(manager.ask(ScriptedManager::iq(jid, "dance", "")).error.substr(0, 24), "feature-not-implemented:");
  // What only a worker sends, and answers to questions never asked.
  EXPECT_NE(manager.ask(ScriptedManager::iq(jid, "report", "")).error, "");
  manager.link.send(element("iq", {}, {{"type", "result"}, {"from", kManager}, {"to", jid}, {"id", "nobody-asked"}}));
  manager.link.send(element("iq", {}, {{"type", "error"}, {"from", kManager}, {"to", jid}, {"id", "1"}}));
  auto room_lie = element("presence", {}, {{"from", kManager}, {"to", jid}, {"type", "unavailable"}});
  child(child(*room_lie, "x", ns::muc_user), "status", {}, {{"code", "301"}});
  manager.link.send(std::move(room_lie));
  EXPECT_EQ(manager.stop({1, 2, ~0ull, 0}).error, "");

  // Random damage to a good assign.
  wire::Assign good;
  good.set_epoch(5);
  auto& job = *good.add_commands();
  job.set_job(1);
  job.mutable_command()->add_argv("true");
  good.add_assignments()->set_number(1);
  std::mt19937 dice(17);
  int answered = 0;
  for (int turn = 0; turn < 300; ++turn) {
    std::string bytes = good.SerializeAsString();
    for (int hits = 1 + static_cast<int>(dice() % 4); hits > 0; --hits) bytes[dice() % bytes.size()] = static_cast<char>(dice());
    manager.link.request(ScriptedManager::iq(jid, "assign", base64(bytes)), 10s, [&](const Answer&) { ++answered; });
  }
  ASSERT_TRUE(manager.until([&] { return answered == 300; }));

  // Huge counts: what is over the bound is refused, the rest is taken.
  EXPECT_EQ(manager.hello(6).error, "");
  wire::Assign many;
  many.set_epoch(6);
  many.add_commands()->mutable_command();  // one that cannot be: no argv
  for (std::uint64_t n = 1; n <= 20000; ++n) many.add_assignments()->set_number(n);
  const Said said = manager.ask(ScriptedManager::iq(jid, "assign", many));
  EXPECT_EQ(said.error, "");
  EXPECT_GE(said.assign.refused_size(), 20000 - 8192);
  EXPECT_NE(said.assign.why().find("its bound"), std::string::npos);
  ASSERT_TRUE(manager.until([&] { return manager.results.size() > 8000; }, 30s));
  EXPECT_EQ(manager.results[1].outcome().cause(), wire::Outcome::NOT_STARTED);
  manager.results.clear();

  // Commands that cannot be.
  wire::Assign bad;
  bad.set_epoch(6);
  auto& empty = *bad.add_commands();
  empty.set_job(1);
  empty.mutable_command();
  auto& nul = *bad.add_commands();
  nul.set_job(2);
  nul.mutable_command()->add_argv(std::string("ls\0-l", 5));
  for (std::uint64_t n = 30001; n <= 30002; ++n) {
    bad.add_assignments()->set_number(n);
    bad.mutable_assignments(bad.assignments_size() - 1)->set_job(n - 30000);
  }
  EXPECT_EQ(manager.ask(ScriptedManager::iq(jid, "assign", bad)).assign.refused_size(), 0);
  ASSERT_TRUE(manager.until([&] { return manager.results.contains(30001) && manager.results.contains(30002); }));
  EXPECT_EQ(manager.results[30001].outcome().cause(), wire::Outcome::NOT_STARTED);
  EXPECT_NE(manager.results[30002].outcome().why(), "");

  EXPECT_EQ(manager.assign("echo alive", 40000, 1, 6).error, "");
  ASSERT_TRUE(manager.until([&] { return manager.results.contains(40000); })) << worker->log();
  EXPECT_EQ(manager.results[40000].outcome().out(), "alive\n");
  EXPECT_TRUE(worker->alive());
}

}  // namespace
}  // namespace souk::test
