// The worker's place in the room, against a room service that a script plays: answers no stock service gives at will.
#include "worker/room.h"

#include <gloox/tag.h>
#include <gtest/gtest.h>

#include <optional>

#include "tests/system/scripted_manager.h"

namespace souk::test {
namespace {

const std::string kScripted = "market@grid.souk.localhost";

/// The component is the room service; the worker's side is the real Room.
class RoomStage : public ::testing::Test {
 protected:
  RoomStage() : service(loop, prosody.component_account()), link(loop, prosody.account("worker", "one")), disco(link) {
    seats.push_back(service.on_presence([this](const gloox::Tag& presence) {
      if (bare(presence.findAttribute("to")) != kScripted) return;
      const std::string nick = resource_of(presence.findAttribute("to"));
      if (presence.findAttribute("type") == "unavailable") {
        ++left;
        return;
      }
      if (!presence.findChild("x", "xmlns", ns::muc)) {
        ++updates;
        return;
      }
      ++joins;
      joined_at.push_back(std::chrono::steady_clock::now());
      last_nick = nick;
      if (const gloox::Tag* hello = presence.findChild("hello", "xmlns", ns::task)) said.push_back(hello->cdata());
      if (!refusal.empty()) service.send(error_of(presence, "cancel", refusal, "because"));
      else if (answers) welcome(nick, {"110"});
    }));
    seats.push_back(service.on_iq("ping", ns::ping, [this](const gloox::Tag& iq, const gloox::Tag&) {
      ++pings;
      if (ping_refusal.empty()) service.send(result_of(iq));
      else service.send(error_of(iq, "cancel", ping_refusal));
    }));
    seats.push_back(service.on_iq("query", ns::muc_owner, [this](const gloox::Tag& iq, const gloox::Tag& query) {
      destroyed += query.hasChild("destroy");
      service.send(result_of(iq));
    }));
    service.start();
    EXPECT_TRUE(until([this] { return service.up(); }));
  }
  worker::Room& enter(const std::string& nick = "anvil", std::chrono::milliseconds ping_every = 60s) {
    room.emplace(loop, link, disco, worker::Room::Place{kScripted, nick, kManager, ping_every});
    room->on_inside = [this] { ++inside; };
    room->on_outside = [this](const Error& why) { outside.push_back(why.text()); };
    room->on_manager_gone = [this] { ++manager_gone; };
    room->on_banned = [this](const Error& why) { banned = why.text(); };
    room->on_join = [](gloox::Tag& join) { child(join, "hello", ns::task, {}, "of mine"); };
    room->on_hello = [this](const gloox::Tag& hello) { hellos.push_back(hello.cdata()); };
    link.on_up = [this] { room->enter(); };
    link.start();
    return *room;
  }
  bool until(const std::function<bool()>& done, std::chrono::milliseconds patience = 10s) { return run_until(loop, done, patience); }
  Stanza occupant(const std::string& nick, const std::string& jid, const std::vector<std::string>& codes, const char* type = nullptr) {
    auto presence = element("presence", {}, {{"from", kScripted + "/" + nick}, {"to", link.jid()}});
    if (type != nullptr) presence->addAttribute("type", type);
    auto& x = child(*presence, "x", ns::muc_user);
    child(x, "item", {}, {{"jid", jid}, {"role", "participant"}, {"affiliation", "none"}});
    for (const auto& code : codes) child(x, "status", {}, {{"code", code}});
    return presence;
  }
  void welcome(const std::string& nick, const std::vector<std::string>& codes) { service.send(occupant(nick, link.jid(), codes)); }

  boost::asio::io_context loop;
  Prosody prosody;
  XmppLink service, link;
  Disco disco;
  std::optional<worker::Room> room;
  std::vector<Registration> seats;
  std::string refusal, ping_refusal, last_nick, banned;
  bool answers = true;
  int joins = 0, left = 0, updates = 0, pings = 0, destroyed = 0, inside = 0, manager_gone = 0;
  std::vector<std::string> outside, hellos, said;
  std::vector<std::chrono::steady_clock::time_point> joined_at;
};

TEST_F(RoomStage, JoinsAgainWhenTheSelfPingFindsItselfOutside) {
  enter("anvil", 50ms);
  ASSERT_TRUE(until([&] { return pings >= 2; }));
  EXPECT_EQ(joins, 1);
  ping_refusal = "not-acceptable";
  ASSERT_TRUE(until([&] { return joins == 2; }));
  EXPECT_NE(outside.at(0).find("does not know us any more"), std::string::npos);
  ping_refusal = "";
  ASSERT_TRUE(until([&] { return inside == 2; }));
}

TEST_F(RoomStage, AnswersThatProveNothingLeaveItInside) {
  enter("anvil", 20ms);
  for (const std::string what : {"service-unavailable", "feature-not-implemented"}) {
    ping_refusal = what;
    const int before = pings;
    ASSERT_TRUE(until([&] { return pings > before + 1; }));
  }
  EXPECT_EQ(joins, 1);
}

TEST_F(RoomStage, TriesQuicklyAtFirstThenPatiently) {
  refusal = "not-allowed";
  enter();
  ASSERT_TRUE(until([&] { return joins >= 8; }));
  EXPECT_LT(joined_at[7] - joined_at[0], 1s);
  EXPECT_EQ(outside.size(), 1u) << "one and the same trouble is told once";
  EXPECT_NE(outside[0].find("the room is not there yet"), std::string::npos);
  refusal = "";
  ASSERT_TRUE(until([&] { return inside == 1; }));
}

TEST_F(RoomStage, SaysWhyItCannotJoin) {
  const std::pair<const char*, const char*> cases[] = {{"registration-required", "room is members-only"},
                                                       {"not-authorized", "room wants a password"},
                                                       {"jid-malformed", "choose another --name"},
                                                       {"remote-server-not-found", "no such service: grid.souk.localhost"},
                                                       {"service-unavailable", "room is full, or its service is not running"},
                                                       {"undefined-condition", "the room service refused (undefined-condition, because)"}};
  link.start();
  for (const auto& [condition, text] : cases) {
    SCOPED_TRACE(condition);
    refusal = condition;
    outside.clear();
    ASSERT_TRUE(until([&] { return link.up(); }));
    enter();
    room->enter();
    ASSERT_TRUE(until([&] { return !outside.empty(); }));
    EXPECT_NE(outside[0].find(text), std::string::npos) << outside[0];
    EXPECT_EQ(outside[0].substr(0, 23), "cannot join marketplace");
  }
  refusal = "forbidden";
  room->enter();
  ASSERT_TRUE(until([&] { return !banned.empty(); }));
  EXPECT_NE(banned.find("ask its owner to lift the ban on worker@souk.localhost"), std::string::npos) << banned;
}

TEST_F(RoomStage, TakesAnotherNameOnConflict) {
  refusal = "conflict";
  enter();
  ASSERT_TRUE(until([&] { return joins == 3; }));
  EXPECT_EQ(last_nick, "anvil-3");
  refusal = "";
  ASSERT_TRUE(until([&] { return inside == 1; }));
  EXPECT_EQ(room->nick(), last_nick);
}

TEST_F(RoomStage, LeavesANameThatItSharesWithAnotherSession) {
  answers = false;
  enter();
  ASSERT_TRUE(until([&] { return joins == 1; }));
  auto shared = occupant("anvil", link.jid(), {"110"});
  child(*shared->findChild("x"), "item", {}, {{"jid", "worker@souk.localhost/other"}, {"role", "participant"}});
  service.send(std::move(shared));
  ASSERT_TRUE(until([&] { return joins == 2; }));
  EXPECT_EQ(left, 1);
  EXPECT_EQ(last_nick, "anvil-2");
}

TEST_F(RoomStage, DestroysARoomItMadeByAccident) {
  answers = false;
  enter();
  ASSERT_TRUE(until([&] { return joins == 1; }));
  welcome("anvil", {"110", "201"});
  ASSERT_TRUE(until([&] { return destroyed == 1 && joins == 2; }));
  EXPECT_EQ(inside, 0);
}

TEST_F(RoomStage, SeesItsManagerGoAndNobodyElse) {
  enter();
  ASSERT_TRUE(until([&] { return inside == 1; }));
  service.send(occupant("manager", "eve@souk.localhost/souk", {}));
  service.send(occupant("manager", "eve@souk.localhost/souk", {}, "unavailable"));
  service.send(occupant("boss", kManager, {}));
  auto renamed = occupant("boss", kManager, {"303"}, "unavailable");
  renamed->findChild("x")->findChild("item")->addAttribute("nick", "chief");
  service.send(std::move(renamed));
  service.send(occupant("chief", kManager, {}));
  service.send(occupant("boss", "ada@souk.localhost/phone", {}, "unavailable"));
  room->show(worker::Availability::busy, "busy: 1 of 1 slot");
  ASSERT_TRUE(until([&] { return updates == 1; }));  // all before has been seen by then
  EXPECT_EQ(manager_gone, 0);
  service.send(occupant("chief", kManager, {}, "unavailable"));
  ASSERT_TRUE(until([&] { return manager_gone == 1; }));
}

TEST_F(RoomStage, SaysHelloOnJoiningAndTakesTheManagersForSeeingIt) {
  answers = false;
  enter();
  ASSERT_TRUE(until([&] { return joins == 1; }));
  EXPECT_EQ(said, std::vector<std::string>{"of mine"});
  auto own = occupant("anvil", link.jid(), {"110"});
  child(*own, "hello", ns::task, {{"nick", "boss"}}, "of its");
  service.send(std::move(own));
  ASSERT_TRUE(until([&] { return inside == 1; }));
  EXPECT_EQ(hellos, std::vector<std::string>{"of its"});
  EXPECT_TRUE(room->sees_manager()) << "though no stanza showed it";
  service.send(occupant("boss", kManager, {}, "unavailable"));
  ASSERT_TRUE(until([&] { return manager_gone == 1; }));
}

TEST_F(RoomStage, SaysAndTakesNoHelloInARoomThatOthersServe) {
  room.emplace(loop, link, disco, worker::Room::Place{kScripted, "anvil", "manager@elsewhere.souk.localhost/souk", 60s});
  room->on_join = [](gloox::Tag& join) { child(join, "hello", ns::task, {}, "of mine"); };
  room->on_hello = [this](const gloox::Tag& hello) { hellos.push_back(hello.cdata()); };
  room->on_inside = [this] { ++inside; };
  link.on_up = [this] { room->enter(); };
  link.start();
  answers = false;
  ASSERT_TRUE(until([&] { return joins == 1; }));
  EXPECT_TRUE(said.empty()) << "everybody in it would be shown that";
  auto own = occupant("anvil", link.jid(), {"110"});
  child(*own, "hello", ns::task, {{"nick", "manager"}}, "of somebody");
  service.send(std::move(own));
  ASSERT_TRUE(until([&] { return inside == 1; }));
  EXPECT_TRUE(hellos.empty());
  EXPECT_FALSE(room->sees_manager());
}

TEST_F(RoomStage, ComesBackWhenTheRoomEnds) {
  enter();
  ASSERT_TRUE(until([&] { return inside == 1; }));
  auto end = occupant("anvil", link.jid(), {"110", "332"}, "unavailable");
  service.send(std::move(end));
  ASSERT_TRUE(until([&] { return inside == 2; }));
  EXPECT_EQ(outside.size(), 1u);
}

TEST_F(RoomStage, LeavesOnlyOnce) {
  enter();
  ASSERT_TRUE(until([&] { return inside == 1; }));
  room->leave();
  service.send(occupant("anvil", link.jid(), {"110"}, "unavailable"));
  room->leave();
  bool asked = false;
  link.request(element("iq", {}, {{"type", "get"}, {"to", "grid.souk.localhost"}}), 5s, [&](const Answer&) { asked = true; });
  ASSERT_TRUE(until([&] { return asked; }));
  EXPECT_EQ(left, 1);
  EXPECT_EQ(joins, 1);
}

}  // namespace
}  // namespace souk::test
