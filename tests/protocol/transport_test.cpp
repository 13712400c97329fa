// The link against a scripted server: what an honest one never sends, and what happens at the worst moment.
#include <gloox/gloox.h>

#include <algorithm>
#include <set>
#include <stdexcept>

#include "protocol/asio_connection.h"
#include "protocol/connect_error.h"
#include "tests/protocol/fake_server.h"
#include "tests/system/certificates.h"
#include "tests/system/prosody.h"

namespace souk::test {
namespace {
using namespace std::chrono_literals;
using Connection = FakeServer::Connection;

const XmppLink::Limits kQuick{.retry_min = 10ms, .retry_max = 40ms};
const XmppLink::Limits kOnce{.attempts_max = 1};

/// The id of the last iq that came over this connection.
std::string last_id(const Connection& connection) {
  const auto at = connection.received.rfind(" id='");
  return at == std::string::npos ? "" : connection.received.substr(at + 5, connection.received.find('\'', at + 5) - at - 5);
}

struct ComponentUp : testing::Test {
  Loop loop;
  FakeServer server{loop, component_login()};
  Party grid{loop, server.component(), kQuick};
  void SetUp() override {
    grid.link->start();
    ASSERT_TRUE(loop.until([&] { return grid.ups == 1; })) << grid.why();
  }
  /// Waits until the server has heard that.
  bool told(const std::string& text) {
    return loop.until([&] { return server.last().received.find(text) != std::string::npos; }, 5s);
  }
};

TEST(Loopback, IsCertainOrNot) {
  for (const char* const host : {"127.0.0.1", "127.8.9.1", "::1", "localhost", "souk.localhost"}) EXPECT_TRUE(is_loopback(host)) << host;
  for (const char* const host : {"", "0.0.0.0", "192.0.2.1", "localhost.example", "notlocalhost", ".localhost", "127.0.0.1.example", "::2", "10.0.0.1"})
    EXPECT_FALSE(is_loopback(host)) << host;
}

TEST(Verdicts, SayWhatWhyAndWhatToDo) {
  Downfall fall;
  fall.user = "ada@souk.example", fall.domain = "souk.example", fall.host = "souk.example", fall.port = 5222;
  fall.reason = gloox::ConnDnsError, fall.socket_problem = "Host not found";
  EXPECT_EQ(judge(fall).error.text(),
            "cannot connect to souk.example:5222 as ada@souk.example: the address of 'souk.example' cannot be found (Host not found); "
            "correct `host`, or the domain of `jid` if there is none");
  EXPECT_FALSE(judge(fall).final);
  fall.reason = gloox::ConnAuthenticationFailed;
  fall.condition = "temporary-auth-failure";
  EXPECT_FALSE(judge(fall).final);
  fall.condition = "not-authorized", fall.text = std::string("no\x01\xFF") + std::string(5000, 'x');
  EXPECT_TRUE(judge(fall).final);
  EXPECT_LT(judge(fall).error.text().size(), 600u) << "the server's words are bounded";
  for (int reason = gloox::ConnNoError; reason <= gloox::ConnNotConnected; ++reason)
    for (const char* const condition : {"", "conflict", "host-unknown", "policy-violation", "system-shutdown", "not-authorized", "strange"})
      for (const bool up : {false, true}) {
        fall.reason = static_cast<gloox::ConnectionError>(reason), fall.condition = condition, fall.was_up = up;
        const auto verdict = judge(fall);
        EXPECT_FALSE(verdict.error.what.empty() || verdict.error.why.empty() || verdict.error.remedy.empty()) << reason << condition;
      }
}

TEST(Transport, RefusedConnectionIsTriedAgainAndGivenUpWhenAsked) {
  Loop loop;
  const auto port = free_ports(1)[0];
  Party ada(loop, {"ada@test", "pw", false, "127.0.0.1", port, ""}, {.retry_min = 5ms, .retry_max = 20ms, .attempts_max = 3});
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); }));
  ASSERT_EQ(ada.downs.size(), 3u);
  EXPECT_FALSE(ada.downs[0].final);
  EXPECT_NE(ada.downs[0].error.text().find("127.0.0.1:" + std::to_string(port)), std::string::npos) << ada.why();
  EXPECT_NE(ada.why().find("attempt 3 of 3"), std::string::npos) << ada.why();
}

TEST(Transport, UnknownHostSaysSo) {
  Loop loop;
  Party ada(loop, {"ada@nowhere.invalid", "pw", false, "", 5222, ""}, kOnce);
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); }, 30s));
  EXPECT_NE(ada.why().find("nowhere.invalid"), std::string::npos) << ada.why();
}

TEST(Transport, SilentHostTimesOut) {
  Loop loop;
  boost::asio::ip::tcp::acceptor silent(loop.io, {boost::asio::ip::address_v4::loopback(), 0});  // the kernel connects; nobody speaks
  XmppLink::Limits limits = kOnce;
  limits.login_max = 200ms;
  Party ada(loop, {"ada@test", "pw", false, "127.0.0.1", silent.local_endpoint().port(), ""}, limits);
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); }, 3s));
  EXPECT_NE(ada.why().find("no login within 200 ms"), std::string::npos) << ada.why();
}

TEST(Transport, WhatCannotWorkIsRefusedBeforeDialling) {
  const std::vector<std::pair<Account, std::string>> wrong{
      {{"grid.example", "secret", true, "192.0.2.1", 5347, ""}, "no TLS"},
      {{"grid.example", "secret", true, "", 5347, ""}, "no TLS"},
      {{"u@grid.localhost", "secret", true, "127.0.0.1", 5347, ""}, "component has no user"},
      {{"grid.localhost", "", true, "127.0.0.1", 5347, ""}, "no secret"},
      {{"ada@test", "", false, "127.0.0.1", 5222, ""}, "no password"},
      {{"", "pw", false, "127.0.0.1", 5222, ""}, "no JID"},
      {{"ada@test", "pw", false, "127.0.0.1", 0, ""}, "port"},
      {{"ada@test", "pw", false, "127.0.0.1", 5222, "/nowhere/ca.pem"}, "/nowhere/ca.pem"},
  };
  for (const auto& [account, why] : wrong) {
    Loop loop;
    Party party(loop, account);
    party.link->start();
    EXPECT_TRUE(party.downs.empty()) << "never from inside start()";
    ASSERT_TRUE(loop.until([&] { return party.gave_up(); }, 1s)) << why;
    EXPECT_NE(party.why().find(why), std::string::npos) << party.why();
  }
}

TEST(Transport, NothingSaidBeforeTlsReachesAHandler) {
  Loop loop;
  TemporaryFolder folder;
  const Authority authority(folder.path(), "ca");
  const std::string injected = "<message from='manager@test'><body>evil</body></message><presence from='evil@test'/>"
                               "<iq type='get' id='1' from='evil@test'><ping xmlns='urn:xmpp:ping'/></iq>";
  const std::string plain = "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>PLAIN</mechanism></mechanisms></stream:features>";
  FakeServer server(loop, [&](Connection& connection) {
    if (connection.step == 0 && connection.heard("<stream:stream")) {
      connection.say(header("jabber:client") + injected +
                     "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'><required/></starttls></stream:features>" + injected);
      connection.step = 1;
    }
    if (connection.step == 1 && connection.heard("<starttls")) {
      connection.say(injected + "<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/><proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>" + injected +
                     plain + "<message from='manager@test'><body>");  // an open element would swallow what TLS brings
      connection.step = 2;
      connection.unread.clear();
    }
    if (connection.step == 2 && connection.unread.size() > 100) connection.step = 3;  // the ClientHello
  });
  Party ada(loop, server.client(authority.ca_file().string()), kOnce);
  int asked = 0;
  const auto registration = ada.link->on_iq("ping", "urn:xmpp:ping", [&](const gloox::Tag&, const gloox::Tag&) { ++asked; });
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return !server.connections.empty() && server.last().step == 3; })) << ada.why();
  loop.settle();
  server.last().hang_up();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); }));
  EXPECT_EQ(ada.messages.size() + ada.presences.size() + static_cast<std::size_t>(asked + ada.ups), 0u);
  EXPECT_EQ(server.last().received.find("<auth"), std::string::npos) << "a password would have gone out readable";
  EXPECT_EQ(server.last().received.find("<iq"), std::string::npos) << "answered a stranger";
}

TEST(Transport, ServerWithoutTlsIsRefusedForGood) {
  Loop loop;
  TemporaryFolder folder;
  const Authority authority(folder.path(), "ca");
  FakeServer server(loop, [&](Connection& connection) {
    if (connection.heard("<stream:stream"))
      connection.say(header("jabber:client") + "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
                                               "<mechanism>PLAIN</mechanism></mechanisms></stream:features>");
  });
  Party ada(loop, server.client(authority.ca_file().string()));
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); }));
  EXPECT_NE(ada.why().find("offers no TLS"), std::string::npos) << ada.why();
  EXPECT_EQ(server.last().received.find("<auth"), std::string::npos);
}

TEST(Transport, BrokenTlsIsTriedAgain) {
  Loop loop;
  TemporaryFolder folder;
  const Authority authority(folder.path(), "ca");
  FakeServer server(loop, [&](Connection& connection) {
    if (connection.heard("<stream:stream"))
      connection.say(header("jabber:client") + "<stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>");
    if (connection.heard("<starttls")) connection.say("<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>"), connection.step = 1;
    else if (connection.step == 1) connection.say("this is no TLS record"), connection.step = 2;
  });
  Party ada(loop, server.client(authority.ca_file().string()), kQuick);
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.downs.size() >= 2; }));
  EXPECT_FALSE(ada.gave_up());
  EXPECT_NE(ada.why().find("TLS failed"), std::string::npos) << ada.why();
}

TEST(Transport, APasswordIsNeverSentReadable) {
  Loop loop;
  FakeServer server(loop, [&](Connection& connection) {
    if (connection.heard("<stream:stream"))
      connection.say(header("jabber:client") + "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
                                               "<mechanism>PLAIN</mechanism><mechanism>DIGEST-MD5</mechanism></mechanisms></stream:features>");
  });
  Party ada(loop, server.client());
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); }));
  EXPECT_EQ(server.last().received.find("<auth"), std::string::npos);
}

TEST(Transport, AnEndlessPasswordCheckIsRefused) {
  Loop loop;
  FakeServer server(loop, [&](Connection& connection) {
    if (connection.heard("<stream:stream"))
      connection.say(header("jabber:client") + "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>"
                                               "<mechanism>SCRAM-SHA-1</mechanism></mechanisms></stream:features>");
    if (connection.heard("</auth>"))  // r=x,s=QUJD,i=2000000000
      connection.say("<challenge xmlns='urn:ietf:params:xml:ns:xmpp-sasl'>cj14LHM9UVVKRCxpPTIwMDAwMDAwMDA=</challenge>");
  });
  Party ada(loop, server.client(), kOnce);
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); }, 5s));
  EXPECT_NE(ada.why().find("would take too long"), std::string::npos) << ada.why();
}

TEST(Transport, NobodyIsLetInUnchecked) {
  Loop loop;
  FakeServer server(loop, [&](Connection& connection) {  // no way to log in, and yet a welcome
    if (connection.heard("<stream:stream")) connection.say(header("jabber:client") + "<stream:features/>");
  });
  Party ada(loop, server.anonymous(), kOnce);
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.gave_up(); })) << ada.ups;
  EXPECT_EQ(ada.ups, 0);
}

TEST(Transport, WhatComesBetweenBindingAndLoginIsHandedOverAfterIt) {
  Loop loop;
  FakeServer server(loop, anonymous_login("<message from='manager@test/souk'><body>early</body></message>"));
  Party ada(loop, server.anonymous());
  bool up_first = false;
  ada.link->on_up = [&] {
    ++ada.ups;
    up_first = ada.messages.empty();
  };
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.messages.size() == 1; }, 5s)) << ada.why();
  EXPECT_TRUE(up_first);
  EXPECT_EQ(ada.link->jid(), "ada@test/desk");
}

TEST(Transport, AClientTakesItsOwnServersAnswers) {
  Loop loop;
  FakeServer server(loop, anonymous_login());
  Party ada(loop, server.anonymous());
  ada.link->start();
  ASSERT_TRUE(loop.until([&] { return ada.ups == 1; }, 5s)) << ada.why();
  const auto ask = [&](const std::string& to, const std::string& answered_from) {
    Outcome outcome;
    ada.link->request(iq("get", to, "query", "urn:q"), 60s, outcome.reply());
    const auto before = server.last().received.size();
    EXPECT_TRUE(loop.until([&] { return server.last().received.size() > before && server.last().received.ends_with("</iq>"); }, 5s));
    const std::string from = answered_from.empty() ? "" : " from='" + answered_from + "'";
    server.last().say("<iq type='result' id='" + last_id(server.last()) + "'" + from + "/><message><body>next</body></message>");
    const auto messages = ada.messages.size();
    EXPECT_TRUE(loop.until([&] { return ada.messages.size() > messages; }, 5s));
    return outcome.calls == 1 && outcome.fine;
  };
  EXPECT_TRUE(ask("", ""));
  EXPECT_TRUE(ask("", "ada@test"));
  EXPECT_TRUE(ask("", "ada@test/desk"));
  EXPECT_TRUE(ask("", "test"));
  EXPECT_TRUE(ask("ada@test", ""));
  EXPECT_TRUE(ask("test", "test"));
  EXPECT_TRUE(ask("Bob@Test/Desk", "bob@test/Desk")) << "the server writes JIDs in their normal form";
  EXPECT_FALSE(ask("", "bob@test"));
  EXPECT_FALSE(ask("bob@test/desk", ""));
  EXPECT_FALSE(ask("bob@test/desk", "bob@test"));
  EXPECT_FALSE(ask("bob@test/desk", "test"));
}

TEST_F(ComponentUp, OnlyThePeerThatWasAskedAnswersAndOnlyOnce) {
  Outcome outcome;
  grid.link->request(iq("get", "worker@test/a", "query", "urn:q"), 60s, outcome.reply());
  ASSERT_TRUE(told("urn:q"));
  const std::string id = last_id(server.last());
  const auto answer = [&](const std::string& from, const std::string& as) { return "<iq type='result' id='" + as + "' from='" + from + "'/>"; };
  server.last().say(answer("worker@test/b", id) + answer("worker@test", id) + answer("test", id) + answer("worker@test/a", id + "0") +
                    answer("worker@test/a", "") + "<message from='x@test'/>");
  ASSERT_TRUE(loop.until([&] { return grid.messages.size() == 1; }));
  EXPECT_EQ(outcome.calls, 0);
  server.last().say(answer("worker@test/a", id) + answer("worker@test/a", id) + "<message from='x@test'/>");
  ASSERT_TRUE(loop.until([&] { return grid.messages.size() == 2; }));
  EXPECT_EQ(outcome.calls, 1);
  EXPECT_TRUE(outcome.fine);
}

TEST_F(ComponentUp, IdsCannotBeGuessedFromOneAnother) {
  Party other(loop, server.component());
  other.link->start();
  ASSERT_TRUE(loop.until([&] { return other.ups == 1; }));
  Outcome ignored;
  std::set<std::string> prefixes;
  for (auto* link : {grid.link.get(), other.link.get()}) link->request(iq("get", "worker@test/a", "query", "urn:q"), 60s, ignored.reply());
  ASSERT_TRUE(loop.until([&] { return !last_id(*server.connections[0]).empty() && !last_id(*server.connections[1]).empty(); }));
  for (const auto& connection : server.connections) prefixes.insert(last_id(*connection).substr(0, 32));
  EXPECT_EQ(prefixes.size(), 2u);
}

TEST_F(ComponentUp, ErrorsAndTimeoutsAreAnswers) {
  Outcome refused, late, later_still;
  grid.link->request(iq("get", "worker@test/a", "query", "urn:q"), 60s, refused.reply());
  ASSERT_TRUE(told("urn:q"));
  server.last().say("<iq type='error' id='" + last_id(server.last()) + "' from='worker@test/a'><error type='cancel'>"
                    "<service-unavailable xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>");
  ASSERT_TRUE(loop.until([&] { return refused.calls == 1; }));
  EXPECT_EQ(refused.error.condition, "service-unavailable");
  const auto start = std::chrono::steady_clock::now();
  grid.link->request(iq("get", "worker@test/a", "query", "urn:q2"), 300ms, later_still.reply());
  grid.link->request(iq("get", "worker@test/a", "query", "urn:q3"), 100ms, late.reply());
  ASSERT_TRUE(loop.until([&] { return late.calls == 1; }, 2s));
  EXPECT_EQ(later_still.calls, 0);
  EXPECT_EQ(late.error.condition, "timeout");
  EXPECT_GE(std::chrono::steady_clock::now() - start, 100ms);
  ASSERT_TRUE(loop.until([&] { return later_still.calls == 1; }, 2s));
  server.last().say("<iq type='result' id='" + last_id(server.last()) + "' from='worker@test/a'/><message/>");
  ASSERT_TRUE(loop.until([&] { return grid.messages.size() == 1; }));
  EXPECT_EQ(late.calls, 1) << "an answer after the time is up is no second one";
}

TEST_F(ComponentUp, ALossAnswersEveryRequestOnce) {
  std::vector<std::unique_ptr<Outcome>> outcomes;
  std::vector<int> order;
  for (int i = 0; i < 50; ++i) {
    outcomes.push_back(std::make_unique<Outcome>());
    grid.link->request(iq("get", "worker@test/a", "query", "urn:q"), 60s, [&, i](const Answer& answer) {
      outcomes[static_cast<std::size_t>(i)]->reply()(answer);
      order.push_back(i);
    });
  }
  Outcome while_down;
  grid.link->on_down = [&](const Error&, bool) {
    EXPECT_TRUE(order.empty()) << "on_down comes first";
    grid.link->request(iq("get", "worker@test/a", "query", "urn:q"), 60s, while_down.reply());
    EXPECT_EQ(while_down.calls, 0) << "never from inside request()";
  };
  server.last().hang_up();
  for (int i = 0; i < 10; ++i) {  // into a socket whose peer is gone: no SIGPIPE
    grid.say("a@test", std::string(100'000, 'x'));
    loop.settle();
  }
  ASSERT_TRUE(loop.until([&] { return order.size() == 50; }));
  EXPECT_TRUE(std::is_sorted(order.begin(), order.end()));
  for (const auto& outcome : outcomes) EXPECT_TRUE(outcome->calls == 1 && outcome->error.condition == "disconnected");
  ASSERT_TRUE(loop.until([&] { return while_down.calls == 1; }));
  EXPECT_EQ(while_down.error.condition, "disconnected");
  EXPECT_TRUE(loop.until([&] { return grid.ups == 2; })) << grid.why();
}

TEST_F(ComponentUp, EveryQuestionGetsAnAnswerInTheNameThatWasAsked) {
  const auto ask = [&](const std::string& type, const std::string& content) {
    const auto before = server.last().received.size();
    server.last().say("<iq type='" + type + "' id='q' from='x@test/a' to='market@grid.test'>" + content + "</iq>");
    EXPECT_TRUE(loop.until([&] { return server.last().received.size() > before; }, 5s)) << content;
    return server.last().received.substr(before);
  };
  const auto has = [](const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; };
  const auto pong = ask("get", "<ping xmlns='urn:xmpp:ping'/>");
  EXPECT_TRUE(has(pong, "type='result'") && has(pong, "from='market@grid.test'") && has(pong, "to='x@test/a'") && has(pong, "id='q'")) << pong;
  EXPECT_TRUE(has(ask("set", "<what xmlns='urn:none'/>"), "service-unavailable"));
  EXPECT_TRUE(has(ask("get", ""), "bad-request"));
  EXPECT_TRUE(has(ask("strange", "<a xmlns='urn:a'/>"), "bad-request"));
  std::string deep;
  for (int i = 0; i < 100'000; ++i) deep += "<a>";
  for (int i = 0; i < 100'000; ++i) deep += "</a>";
  EXPECT_TRUE(has(ask("set", deep), "policy-violation"));
  auto any = grid.link->on_iq("", "urn:any", [&](const gloox::Tag& asked, const gloox::Tag& payload) {
    auto answer = result_of(asked);
    child(*answer, "any-" + payload.name(), "urn:any");
    grid.link->send(std::move(answer));
  });
  auto one = grid.link->on_iq("one", "urn:any", [&](const gloox::Tag& asked, const gloox::Tag&) {
    grid.link->send(result_of(asked));
    throw std::runtime_error("after the answer");
  });
  EXPECT_TRUE(has(ask("get", "<two xmlns='urn:any'/>"), "any-two"));
  const auto once = ask("get", "<one xmlns='urn:any'/>");
  EXPECT_TRUE(has(once, "type='result'") && !has(once, "error")) << once;
  any = {};
  EXPECT_TRUE(has(ask("get", "<two xmlns='urn:any'/>"), "service-unavailable"));
  EXPECT_EQ(grid.downs.size(), 0u);
}

TEST_F(ComponentUp, RegistrationsMayEndAndBeginInsideAHandler) {
  int first = 0, second = 0, added = 0, asked = 0;
  std::vector<Registration> more;
  Registration ended, own, question;
  own = grid.link->on_message([&](const gloox::Tag&) {
    ++first;
    ended = {};
    more.push_back(grid.link->on_message([&](const gloox::Tag&) { ++added; }));
    own = {};
  });
  ended = grid.link->on_message([&](const gloox::Tag&) { ++second; });
  question = grid.link->on_iq("once", "urn:q", [&, kept = std::string(100, 'x')](const gloox::Tag& iq, const gloox::Tag&) {
    question = {};
    asked += static_cast<int>(kept.size());  // what the handler holds lives until it returns
    grid.link->send(result_of(iq));
  });
  server.last().say("<message/><message/><iq type='get' id='1' from='a@test'><once xmlns='urn:q'/></iq><iq type='get' id='2' from='a@test'><once xmlns='urn:q'/></iq>");
  ASSERT_TRUE(told("service-unavailable"));
  EXPECT_EQ(first, 1);
  EXPECT_EQ(second, 0) << "it had ended before its turn";
  EXPECT_EQ(added, 1) << "from the next message on";
  EXPECT_EQ(asked, 100);
}

TEST(Transport, RegistrationsMayOutliveTheLink) {
  Loop loop;
  FakeServer server(loop, component_login());
  Registration message, question;
  {
    Party grid(loop, server.component());
    message = grid.link->on_message([](const gloox::Tag&) {});
    question = grid.link->on_iq("a", "b", [](const gloox::Tag&, const gloox::Tag&) {});
  }
  message = {};
  question = {};
}

TEST(Transport, TheLinkMayBeDeletedFromInsideAnyHandler) {
  for (const std::string where : {"on_up", "message", "iq", "reply", "on_down", "timeout", "disconnected", "done"}) {
    SCOPED_TRACE(where);
    Loop loop;
    bool gone = false;
    FakeServer server(loop, component_login([&](Connection& connection) {
      if (connection.step == 2 && where == "message") connection.say("<message/><message/><presence/>"), connection.step = 3;
      if (connection.step == 2 && where == "iq") connection.say("<iq type='get' id='1' from='a@test'><a xmlns='urn:a'/></iq><message/>"), connection.step = 3;
      if (connection.step == 2 && where == "reply" && connection.heard("urn:q"))
        connection.say("<iq type='result' id='" + last_id(connection) + "' from='a@test'/><message/>"), connection.step = 3;
      if (connection.step == 2 && (where == "disconnected" || where == "on_down")) connection.hang_up();
    }));
    auto grid = std::make_unique<Party>(loop, server.component(), kQuick);
    std::vector<Registration> registrations;
    const auto drop = [&] {
      EXPECT_FALSE(gone) << "called after it was deleted";
      gone = true;
      grid->link.reset();
    };
    auto& link = *grid->link;
    const auto ask = [&](std::chrono::milliseconds deadline) {
      for (int i = 0; i < 3; ++i) link.request(iq("get", "a@test", "q", "urn:q"), deadline, [&](const Answer&) { drop(); });
    };
    link.on_up = [&] {
      if (where == "on_up") drop();
      if (where == "reply" || where == "disconnected") ask(60s);
      if (where == "timeout") ask(10ms);
      if (where == "done") link.stop(drop);
    };
    if (where == "on_down") link.on_down = [&](const Error&, bool) { drop(); };
    if (where == "message") {
      registrations.push_back(link.on_message([&](const gloox::Tag&) { drop(); }));
      registrations.push_back(link.on_message([&](const gloox::Tag&) { drop(); }));
    }
    if (where == "iq") registrations.push_back(link.on_iq("a", "urn:a", [&](const gloox::Tag&, const gloox::Tag&) { drop(); }));
    link.start();
    EXPECT_TRUE(loop.until([&] { return gone; }, 5s));
    loop.until([] { return false; }, 30ms);  // nothing may follow
  }
}

TEST(Transport, StopAndStartInAnyOrder) {
  Loop loop;
  FakeServer server(loop, component_login());
  Party grid(loop, server.component(), kQuick);
  int done = 0;
  grid.link->stop([&] { ++done; });  // not started yet
  grid.link->start();
  grid.link->start();
  grid.link->stop([&] { ++done; });  // not connected yet
  grid.link->start();
  ASSERT_TRUE(loop.until([&] { return grid.ups == 1 && done == 2; }, 5s)) << done << grid.why();
  EXPECT_EQ(server.connections.size(), 1u);
  Outcome pending;
  grid.link->request(iq("get", "a@test", "q", "urn:q"), 60s, pending.reply());
  grid.link->stop([&] { ++done; });
  EXPECT_FALSE(grid.link->up());
  grid.link->stop([&] { ++done; });
  grid.link->start();  // at once: the old stream is still closing
  EXPECT_EQ(pending.calls, 0);
  ASSERT_TRUE(loop.until([&] { return grid.ups == 2 && done == 4; }, 5s)) << done;
  EXPECT_EQ(pending.error.condition, "disconnected");
  EXPECT_TRUE(server.connections[0]->received.ends_with("</stream:stream>"));
  EXPECT_TRUE(grid.downs.empty()) << "what we ended ourselves is no news";
}

TEST(Transport, AStoppedLinkLeavesNothingToWaitFor) {
  Loop loop;
  auto server = std::make_unique<FakeServer>(loop, component_login());
  Party grid(loop, server->component());
  grid.link->on_up = [&] {
    grid.link->request(iq("get", "a@test", "q", "urn:q"), 60s, [&](const Answer&) {});
    grid.link->stop([&] { server.reset(); });
  };
  grid.link->start();
  loop.io.restart();
  const auto start = std::chrono::steady_clock::now();
  loop.io.run();  // returns by itself
  EXPECT_LT(std::chrono::steady_clock::now() - start, 5s);
}

TEST_F(ComponentUp, APeerThatStopsReadingMeetsTheLimit) {
  Party other(loop, server.component(), {.queue_max = 1 << 20, .retry_min = 60s, .retry_max = 60s});
  server.set_script(component_login([](Connection& connection) { connection.deaf = true; }));
  other.link->start();
  ASSERT_TRUE(loop.until([&] { return other.ups == 1; }));
  Outcome pending;
  other.link->request(iq("get", "a@test", "q", "urn:q"), 60s, pending.reply());
  const std::string text(60'000, 'x');
  std::size_t most = 0;
  for (int i = 0; i < 1000 && other.downs.empty(); ++i) {
    other.say("a@test", text);
    most = std::max(most, other.link->queued());
    loop.settle();
  }
  ASSERT_TRUE(loop.until([&] { return !other.downs.empty(); }, 5s));
  EXPECT_LE(most, 1u << 20);
  EXPECT_NE(other.why().find("does not read"), std::string::npos) << other.why();
  ASSERT_TRUE(loop.until([&] { return pending.calls == 1; }, 5s));
  EXPECT_EQ(pending.error.condition, "disconnected");
  EXPECT_TRUE(stopped(loop, *other.link));
}

TEST(Transport, WhatAServerSaysCannotBreakMoreThanItsConnection) {
  const std::string up = header("jabber:component:accept");
  std::string nested = "<message>";
  for (int i = 0; i < 300'000; ++i) nested += "<a>";
  const std::vector<std::pair<std::string, std::string>> sayings{
      {"HTTP", "HTTP/1.1 400 Bad Request\r\n\r\n<html></html>"}, {"binary", std::string("\x16\x03\x03\0\0\xFF\xFE", 7)},
      {"doctype", "<!DOCTYPE x [<!ENTITY a 'b'>]>" + up}, {"wrong nesting", up + "<message><a></message>"},
      {"no UTF-8", up + "<message>\xC3\x28</message>"}, {"endless", up + "<message>" + std::string((17 << 20), 'x')},
      {"deep and endless", up + nested + std::string((17 << 20), 'x')}, {"stream in a stream", up + up}, {"closed", up + "</stream:stream>"},
      {"error", up + "<stream:error><strange-thing/></stream:error>"}, {"error without cause", up + "<stream:error/>"},
      {"no stream id", "<stream:stream xmlns='jabber:component:accept' xmlns:stream='http://etherx.jabber.org/streams'>"}};
  for (const auto& [name, saying] : sayings) {
    SCOPED_TRACE(name);
    Loop loop;
    FakeServer server(loop, [](Connection&) {});
    XmppLink::Limits limits = kQuick;
    limits.login_max = 300ms;
    Party grid(loop, server.component(), limits);
    server.set_script([&](Connection& connection) {
      if (server.connections.size() > 1) return component_login()(connection);
      if (connection.step++ == 1) boost::asio::async_write(connection.socket, boost::asio::buffer(saying), [](auto, auto) {});
    });
    grid.link->start();
    ASSERT_TRUE(loop.until([&] { return grid.ups == 1; })) << grid.why();  // the second time
    EXPECT_EQ(grid.downs.size(), 1u);
    EXPECT_TRUE(grid.messages.empty());
    EXPECT_FALSE(grid.downs.at(0).error.why.empty());
  }
}

TEST(Transport, HalfAStanzaDoesNotSurviveItsConnection) {
  Loop loop;
  FakeServer server(loop, component_login());
  Party grid(loop, server.component(), kQuick);
  grid.link->start();
  ASSERT_TRUE(loop.until([&] { return grid.ups == 1; }));
  server.last().say("<message from='a@test'><body a='half of <it");
  loop.until([] { return false; }, 20ms);
  server.last().hang_up();
  ASSERT_TRUE(loop.until([&] { return grid.ups == 2; })) << grid.why();
  server.last().say("<message from='b@test'/>");
  ASSERT_TRUE(loop.until([&] { return grid.messages.size() == 1; }));
  EXPECT_EQ(grid.messages[0], "<message from='b@test'/>");
}

TEST(Transport, NothingIsDeliveredOnceTheConnectionWasGivenUp) {
  Loop loop;
  FakeServer server(loop, component_login());
  Party grid(loop, server.component(), {.retry_min = 60s, .retry_max = 60s});
  int calls = 0;
  const auto registration = grid.link->on_message([&](const gloox::Tag&) {
    ++calls;
    grid.link->stop();
  });
  grid.link->start();
  ASSERT_TRUE(loop.until([&] { return grid.ups == 1; }));
  server.last().say("<message/><message/><message/>");
  ASSERT_TRUE(loop.until([&] { return calls > 0; }));
  loop.until([] { return false; }, 20ms);
  EXPECT_EQ(calls, 1);
}

TEST(Transport, WhoWasLoggedInOutlastsAServerThatRefusesItForAWhile) {
  for (const bool again : {true, false}) {
    Loop loop;
    int lives = 0;
    FakeServer server(loop, [&](Connection& connection) {
      if (connection.step == 0 && connection.unread.empty()) ++lives;
      if (lives == 2 && connection.heard("</handshake>"))
        return connection.say("<stream:error><not-authorized xmlns='urn:ietf:params:xml:ns:xmpp-streams'/></stream:error></stream:stream>"), connection.hang_up();
      component_login()(connection);
    });
    Party grid(loop, server.component(), {.retry_min = 5ms, .retry_max = 20ms, .refused_again = again});
    grid.link->start();
    ASSERT_TRUE(loop.until([&] { return grid.ups == 1; }));
    server.last().hang_up();
    ASSERT_TRUE(loop.until([&] { return grid.ups == 2 || grid.gave_up(); }));
    EXPECT_EQ(grid.gave_up(), !again) << grid.why();
  }
}

TEST(Transport, PausesBetweenConnectsDoubleUpToTheLimit) {
  Loop loop;
  FakeServer server(loop, [](Connection& connection) { connection.hang_up(); });
  Party grid(loop, server.component(), {.retry_min = 20ms, .retry_max = 160ms});
  grid.link->start();
  ASSERT_TRUE(loop.until([&] { return server.opened.size() >= 7; }));
  const auto pause = [&](std::size_t i) { return server.opened[i + 1] - server.opened[i]; };
  EXPECT_LT(pause(0), 100ms);  // 20 at most, and some for a busy machine
  EXPECT_LT(pause(5), 400ms);
  EXPECT_GT(server.opened.back() - server.opened.front(), 100ms) << "without growing, 60 on the average and 120 at most";
  EXPECT_FALSE(grid.gave_up());
}

TEST(Transport, ManyComeBackSpreadOverTheWholePause) {
  Loop loop;
  FakeServer server(loop, [](Connection& connection) { connection.hang_up(); });
  std::vector<std::unique_ptr<Party>> parties;
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    parties.push_back(std::make_unique<Party>(loop, server.component(), XmppLink::Limits{.retry_min = 600ms, .retry_max = 600ms, .seed = seed}));
    parties.back()->link->start();
  }
  ASSERT_TRUE(loop.until([&] { return server.opened.size() >= 60; }));
  const auto lost = server.opened[59];
  ASSERT_TRUE(loop.until([&] { return std::chrono::steady_clock::now() > lost + 600ms; }));
  std::map<int, int> in_slot;  // of 100 ms
  for (std::size_t i = 60; i < server.opened.size(); ++i) ++in_slot[static_cast<int>((server.opened[i] - lost) / 100ms)];
  for (int slot = 0; slot < 6; ++slot) {
    EXPECT_GE(in_slot[slot], 3) << "nobody between " << slot * 100 << " and " << slot * 100 + 100 << " ms: they come in waves";
    EXPECT_LE(in_slot[slot], 40) << "a wave at " << slot * 100 << " ms";
  }
}

}  // namespace
}  // namespace souk::test
