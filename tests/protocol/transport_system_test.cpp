// The link against a real Prosody.
#include <signal.h>

#include <cstdio>
#include <fstream>
#include <thread>

#include "tests/protocol/transport_stage.h"
#include "tests/system/prosody.h"

namespace souk::test {
namespace {
using namespace std::chrono_literals;

Prosody::Options with_tls() {
  Prosody::Options options;
  options.tls = true;
  return options;
}

/// One server for all tests that do not stop it.
Prosody& plain_server() {
  static Prosody server;
  return server;
}
Prosody& tls_server() {
  static Prosody server(with_tls());
  return server;
}

long resident_kib() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("VmRSS:")) return std::stol(line.substr(6));
  return 0;
}

TEST(TransportSystem, ClientLogsInBindsItsResourceAndIsReached) {
  Loop loop;
  Party ada(loop, plain_server().account("ada", "desk")), bob(loop, plain_server().account("bob"));
  ada.link->start();
  bob.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.ups == 1 && bob.ups == 1; })) << ada.why() << bob.why();
  EXPECT_EQ(ada.link->jid(), "ada@souk.localhost/desk");
  EXPECT_TRUE(bob.link->jid().starts_with("bob@souk.localhost/")) << bob.link->jid();
  bob.say("ada@souk.localhost/desk", "a < b & \"c\" 'd' \xF0\x9F\x90\x9C");
  ASSERT_TRUE(loop.until([&] { return !ada.messages.empty(); }));
  EXPECT_NE(ada.messages[0].find("a &lt; b &amp; &quot;c&quot; &apos;d&apos; \xF0\x9F\x90\x9C"), std::string::npos) << ada.messages[0];
  EXPECT_TRUE(stopped(loop, *ada.link));
  EXPECT_TRUE(stopped(loop, *bob.link));
  EXPECT_TRUE(ada.downs.empty());
}

TEST(TransportSystem, SendsNoPresenceByItself) {
  Loop loop;
  Party ada(loop, plain_server().account("ada", "one")), again(loop, plain_server().account("ada", "two"));
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.ups == 1; }));
  auto available = element("presence");
  ada.link->send(std::move(available));
  ASSERT_TRUE(loop.until([&] { return !ada.presences.empty(); }));  // its own, from the server
  again.link->start();
  ASSERT_TRUE(loop.until([&] { return again.ups == 1; }));
  again.say("ada@souk.localhost/one", "done");  // in order behind any presence
  ASSERT_TRUE(loop.until([&] { return !ada.messages.empty(); }));
  EXPECT_EQ(ada.presences.size(), 1u) << ada.presences.back();
}

TEST(TransportSystem, ComponentLogsInAndItsStanzasHaveFrom) {
  Loop loop;
  Party grid(loop, plain_server().component_account()), ada(loop, plain_server().account("ada", "desk"));
  grid.link->start();
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return grid.ups == 1 && ada.ups == 1; })) << grid.why() << ada.why();
  EXPECT_EQ(grid.link->jid(), "grid.souk.localhost");
  grid.say("ada@souk.localhost/desk", "hello");
  auto named = element("message", {}, {{"to", "ada@souk.localhost/desk"}, {"from", "manager@grid.souk.localhost/souk"}});
  grid.link->send(std::move(named));
  ASSERT_TRUE(loop.until([&] { return ada.messages.size() == 2; }));
  EXPECT_NE(ada.messages[0].find("from='grid.souk.localhost'"), std::string::npos) << ada.messages[0];
  EXPECT_NE(ada.messages[1].find("from='manager@grid.souk.localhost/souk'"), std::string::npos) << ada.messages[1];
}

TEST(TransportSystem, IqsReachTheirHandlersAndTheRestIsRefusedInTheNameAsked) {
  Loop loop;
  Party grid(loop, plain_server().component_account()), ada(loop, plain_server().account("ada", "desk"));
  const auto registration = grid.link->on_iq("assign", "urn:souk:task:1", [&](const gloox::Tag& asked, const gloox::Tag& payload) {
    auto answer = result_of(asked);
    child(*answer, "got", "urn:souk:task:1", {}, payload.cdata());
    grid.link->send(std::move(answer));
  });
  const auto throws = grid.link->on_iq("throw", "urn:souk:task:1", [](const gloox::Tag&, const gloox::Tag&) { throw std::runtime_error("oops"); });
  grid.link->start();
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return grid.ups == 1 && ada.ups == 1; }));
  const std::string manager = "manager@grid.souk.localhost/souk";
  Outcome taken, thrown, unknown, pinged, server;
  auto assign = iq("set", manager, "assign", "urn:souk:task:1");
  assign->findChild("assign")->setCData("abc");
  ada.link->request(std::move(assign), 5s, taken.reply());
  ada.link->request(iq("set", manager, "throw", "urn:souk:task:1"), 5s, thrown.reply());
  ada.link->request(iq("get", manager, "nothing", "urn:souk:none"), 5s, unknown.reply());
  ada.link->request(iq("get", manager, "ping", "urn:xmpp:ping"), 5s, pinged.reply());
  ada.link->request(iq("get", "", "ping", "urn:xmpp:ping"), 5s, server.reply());
  EXPECT_EQ(taken.calls + thrown.calls + unknown.calls + pinged.calls, 0) << "a reply from inside request()";
  ASSERT_TRUE(loop.until([&] { return taken.calls && thrown.calls && unknown.calls && pinged.calls && server.calls; }));
  EXPECT_TRUE(taken.fine);
  EXPECT_NE(taken.xml.find("<got xmlns='urn:souk:task:1'>abc</got>"), std::string::npos) << taken.xml;
  EXPECT_EQ(thrown.error.condition, "internal-server-error");
  EXPECT_EQ(unknown.error.condition, "service-unavailable");
  EXPECT_TRUE(pinged.fine);
  EXPECT_NE(pinged.xml.find("from='" + manager + "'"), std::string::npos) << pinged.xml;
  EXPECT_TRUE(server.fine) << server.error.condition;
}

TEST(TransportSystem, WrongPasswordIsFinalAndSaysWhatToDo) {
  Loop loop;
  auto account = plain_server().account("ada");
  account.password = "guess";
  Party ada(loop, account);
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); }));
  EXPECT_EQ(ada.downs.size(), 1u);
  EXPECT_NE(ada.why().find("wrong user name or password"), std::string::npos) << ada.why();
  EXPECT_NE(ada.why().find("password file"), std::string::npos) << ada.why();
  EXPECT_EQ(ada.why().find("guess"), std::string::npos) << "never show a password";
}

TEST(TransportSystem, WrongComponentSecretIsFinal) {
  Loop loop;
  auto account = plain_server().component_account();
  account.password = "guess";
  Party grid(loop, account);
  grid.link->start();
  ASSERT_TRUE(loop.until([&] { return grid.gave_up(); })) << grid.why();
  EXPECT_NE(grid.why().find("refused the secret"), std::string::npos) << grid.why();
}

TEST(TransportSystem, UnknownHostsAreNamed) {
  Loop loop;
  auto account = plain_server().account("ada");
  account.jid = "ada@elsewhere.localhost";
  auto component = plain_server().component_account();
  component.jid = "nobody.souk.localhost";
  Party ada(loop, account, {.attempts_max = 1}), grid(loop, component, {.attempts_max = 1});
  ada.link->start();
  grid.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up() && grid.gave_up(); })) << ada.why() << grid.why();
  EXPECT_NE(ada.why().find("does not serve elsewhere.localhost"), std::string::npos) << ada.why();
  EXPECT_NE(grid.why().find("does not serve nobody.souk.localhost"), std::string::npos) << grid.why();
}

TEST(TransportSystem, TlsLoginIsVerified) {
  Loop loop;
  Party ada(loop, tls_server().account("ada", "desk"));
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.ups == 1; })) << ada.why();
  ada.say("ada@souk.localhost/desk", "to myself");
  EXPECT_TRUE(loop.until([&] { return !ada.messages.empty(); }));
  EXPECT_TRUE(stopped(loop, *ada.link));
  EXPECT_EQ(tls_server().log().find("unexpected eof"), std::string::npos) << "TLS was not closed politely";
}

TEST(TransportSystem, UnknownAuthorityIsRefusedForGood) {
  Loop loop;
  TemporaryFolder folder;
  const Authority other(folder.path(), "other");
  auto account = tls_server().account("ada");
  account.ca_file = other.ca_file().string();
  Party ada(loop, account);
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); })) << ada.why();
  EXPECT_EQ(ada.ups, 0);
  EXPECT_NE(ada.why().find("certificate is not valid for souk.localhost"), std::string::npos) << ada.why();
  EXPECT_NE(ada.why().find("ca_file"), std::string::npos) << ada.why();
}

TEST(TransportSystem, CertificateOfAnotherDomainIsRefusedForGood) {
  Loop loop;
  auto options = with_tls();
  options.certified = "evil.example";
  const Prosody server(options);
  Party ada(loop, server.account("ada"));
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); })) << ada.why();
  EXPECT_EQ(ada.ups, 0);
  EXPECT_NE(ada.why().find("hostname mismatch"), std::string::npos) << ada.why();
}

TEST(TransportSystem, ExpiredCertificateIsRefusedForGood) {
  Loop loop;
  auto options = with_tls();
  options.certificate_valid_for = -60s;
  const Prosody server(options);
  Party ada(loop, server.account("ada"));
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); })) << ada.why();
  EXPECT_NE(ada.why().find("certificate has expired"), std::string::npos) << ada.why();
}

TEST(TransportSystem, ServerThatWantsTlsIsNamedToAClientWithout) {
  Loop loop;
  auto account = tls_server().account("ada");
  account.ca_file.clear();  // plaintext, as on loopback
  Party ada(loop, account);
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); })) << ada.why();
  EXPECT_NE(ada.why().find("ca_file"), std::string::npos) << ada.why();
}

TEST(TransportSystem, TwoHundredTlsReconnectsInFlatMemory) {
  Loop loop;
  Party ada(loop, tls_server().account("ada", "again"));
  long warm = 0, after_105 = 0, last = 0;
  const auto start = std::chrono::steady_clock::now();
  for (int i = 1; i <= 205; ++i) {
    ada.link->start();
    ASSERT_TRUE(loop.until([&] { return ada.ups == i; })) << i << ": " << ada.why();
    ASSERT_TRUE(stopped(loop, *ada.link)) << i;
    if (i == 5) warm = resident_kib();
    if (i == 105) after_105 = resident_kib();
  }
  last = resident_kib();
  const auto took = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  std::printf("  resident after 5, 105, 205 TLS reconnects: %.1f, %.1f, %.1f MiB; %.1f ms each\n", static_cast<double>(warm) / 1024, static_cast<double>(after_105) / 1024,
              static_cast<double>(last) / 1024, 1000 * took / 205);
  EXPECT_TRUE(ada.downs.empty()) << ada.why();
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)  // they keep freed memory on purpose
  EXPECT_LT(last - warm, 3 * 1024) << "KiB grown";
#endif
}

TEST(TransportSystem, ComesBackAfterTheServerWasKilled) {
  Loop loop;
  for (const bool tls : {false, true}) {
    SCOPED_TRACE(tls ? "TLS" : "plain");
    Prosody server(tls ? with_tls() : Prosody::Options{});
    const XmppLink::Limits quick{.retry_min = 20ms, .retry_max = 100ms};
    Party ada(loop, server.account("ada", "desk"), quick), grid(loop, server.component_account(), quick);
    ada.link->start();
    grid.link->start();
    ASSERT_TRUE(loop.until([&] { return ada.ups == 1 && grid.ups == 1; })) << ada.why() << grid.why();
    Outcome pending;
    ada.link->request(iq("get", "grid.souk.localhost", "slow", "urn:none"), 60s, pending.reply());
    server.kill();
    ASSERT_TRUE(loop.until([&] { return ada.downs.size() >= 3 && grid.downs.size() >= 3; }));  // lost, and refused at least twice
    EXPECT_EQ(pending.calls, 1);
    EXPECT_FALSE(ada.link->up());
    EXPECT_NE(ada.why().find("refused"), std::string::npos) << ada.why();
    server.start();
    ASSERT_TRUE(loop.until([&] { return ada.ups == 2 && grid.ups == 2; })) << ada.why() << grid.why();
    EXPECT_EQ(ada.link->jid(), "ada@souk.localhost/desk");
    ada.say("ada@souk.localhost/desk", "still me");
    EXPECT_TRUE(loop.until([&] { return ada.messages.size() == 1; }));
    for (const auto& down : ada.downs) EXPECT_FALSE(down.final);
  }
}

TEST(TransportSystem, ASessionTakenOverIsSaidSoAndTriedAgain) {
  Loop loop;
  const XmppLink::Limits patient{.retry_min = 60s, .retry_max = 60s};
  Party first(loop, plain_server().account("ada", "desk"), patient), second(loop, plain_server().account("ada", "desk"), patient);
  first.link->start();
  ASSERT_TRUE(loop.until([&] { return first.ups == 1; }));
  second.link->start();
  ASSERT_TRUE(loop.until([&] { return second.ups == 1 && !first.downs.empty(); }));
  EXPECT_FALSE(first.gave_up());
  EXPECT_NE(first.why().find("another session logged in"), std::string::npos) << first.why();
}

TEST(TransportSystem, FourThreadsPostEightThousandStanzasOverTls) {
  Loop loop;
  Party ada(loop, tls_server().account("ada", "busy"));
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.ups == 1; })) << ada.why();
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 2000; ++i)
        boost::asio::post(loop.io, [&] { ada.say("ada@souk.localhost/busy", std::string(300, 'x')); });
    });
  EXPECT_TRUE(loop.until([&] { return ada.messages.size() == 8000; }, 30s)) << ada.messages.size() << ada.why();
}

TEST(TransportSystem, StopSendsWhatIsQueuedFirst) {
  Loop loop;
  Party ada(loop, plain_server().account("ada", "out")), bob(loop, plain_server().account("bob", "in"));
  ada.link->start();
  bob.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.ups == 1 && bob.ups == 1; }));
  for (int i = 0; i < 500; ++i) ada.say("bob@souk.localhost/in", std::string(2000, 'x'));
  EXPECT_GT(ada.link->queued(), 1'000'000u);
  EXPECT_TRUE(stopped(loop, *ada.link));
  EXPECT_TRUE(loop.until([&] { return bob.messages.size() == 500; })) << bob.messages.size();
}

TEST(TransportSystem, APeerCannotBreakTheLinkWithADeepStanza) {
  Loop loop;
  Party ada(loop, plain_server().account("ada", "deep")), bob(loop, plain_server().account("bob", "victim"));
  ada.link->start();
  bob.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.ups == 1 && bob.ups == 1; }));
  auto deep = iq("set", "bob@souk.localhost/victim", "a", "urn:deep");
  auto* innermost = deep->findChild("a");
  for (int i = 0; i < 150; ++i) innermost = new gloox::Tag(innermost, "a");
  Outcome refused;
  ada.link->request(std::move(deep), 10s, refused.reply());
  ASSERT_TRUE(loop.until([&] { return refused.calls == 1; }));
  EXPECT_EQ(refused.error.condition, "policy-violation");
  EXPECT_EQ(bob.ups, 1);
  EXPECT_TRUE(bob.downs.empty());
}

TEST(TransportSystem, AFrozenServerIsNoticed) {
  Loop loop;
  Prosody server;
  const XmppLink::Limits sharp{.retry_min = 60s, .retry_max = 60s, .silence_max = 900ms};
  Party ada(loop, server.account("ada"), sharp), grid(loop, server.component_account(), sharp);
  ada.link->start();
  grid.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.ups == 1 && grid.ups == 1; }));
  EXPECT_FALSE(loop.until([&] { return !ada.downs.empty() || !grid.downs.empty(); }, 2500ms)) << "the server answers pings: " << ada.why() << grid.why();
  ::kill(server.pid(), SIGSTOP);
  EXPECT_TRUE(loop.until([&] { return !ada.downs.empty() && !grid.downs.empty(); }, 5s));
  EXPECT_NE(ada.why().find("nothing heard"), std::string::npos) << ada.why();
  ::kill(server.pid(), SIGCONT);
}

}  // namespace
}  // namespace souk::test
