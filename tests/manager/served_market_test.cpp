#include "manager/served_market.h"

#include <gtest/gtest.h>

#include <algorithm>

using namespace souk;
using namespace souk::served;
using namespace std::chrono_literals;

namespace {

const std::string kOurs = "caps";

std::string local(const std::string& jid) { return jid.substr(0, jid.find('@')); }

/// What one action says, seen from the outside: `ada<w1` is ada being shown w1.
std::string in_words(const Action& action) {
  if (const auto* a = std::get_if<Show>(&action)) {
    std::string text = local(a->to) + (a->gone ? "<-" : "<") + a->nick;
    if (!a->show.empty()) text += '(' + a->show + ')';
    for (const int code : a->codes) text += ' ' + std::to_string(code);
    return text;
  }
  if (const auto* a = std::get_if<Subject>(&action)) return local(a->to) + "<subject";
  if (const auto* a = std::get_if<Relay>(&action)) return local(a->to) + '<' + a->nick + ": " + a->body;
  if (const auto* a = std::get_if<Refuse>(&action)) return "no: " + a->condition;
  if (const auto* a = std::get_if<Present>(&action)) return (a->entered ? "present " : "changed ") + a->nick;
  if (const auto* a = std::get_if<Gone>(&action)) return "gone " + local(a->jid);
  if (const auto* a = std::get_if<Drain>(&action)) return (a->drained ? "drain " : "undrain ") + local(a->jid);
  if (const auto* a = std::get_if<KeepBan>(&action)) return (a->banned ? "keep ban " : "lift ban ") + a->jid;
  return {};  // what is kept for the next life has a test of its own
}

class Stage {
 public:
  Stage() { tell(Opened{}); }
  std::string tell(const Event& event) {
    actions = market.step(now, event);
    std::string words;
    for (const Action& action : actions)
      if (const std::string said = in_words(action); !said.empty()) words += (words.empty() ? "" : "; ") + said;
    return words;
  }
  static Came worker(const std::string& name) { return {name + "@grid/w", name, true, true, kOurs, "hash", "", "free"}; }
  static Came person(const std::string& name) { return {name + "@grid/desk", name, true, false, "gajim", "hash", "", ""}; }
  std::string joins(const Came& who) { return tell(who); }
  std::string leaves(const std::string& name, const std::string& resource = "desk") { return tell(Left{name + "@grid/" + resource, name}); }
  std::string says(const std::string& name, const std::string& body, const std::string& resource = "desk") { return tell(Said{name + "@grid/" + resource, "", "groupchat", "id", body}); }
  /// Ticks whenever one is due, for so long; what they said.
  std::string after(Duration pause) {
    const Instant end = now + pause;
    std::string words;
    while (const auto at = market.wake_at()) {
      if (*at > end) break;
      now = std::max(now, *at) + 1ms;
      if (const std::string said = tell(Tick{}); !said.empty()) words += (words.empty() ? "" : "; ") + said;
    }
    now = std::max(now, end);
    return words;
  }
  template <class A>
  int count() const {
    return static_cast<int>(std::count_if(actions.begin(), actions.end(), [](const Action& a) { return std::holds_alternative<A>(a); }));
  }

  Instant now{1h};
  Market market{{"manager@grid/souk", "welcome", [](const std::string& jid) { return jid.starts_with("root@"); }, [](const std::string& jid) { return !jid.starts_with("stranger@"); }, kOurs, "mine"}};
  std::vector<Action> actions;
};

TEST(ServedMarket, AWorkerSeesTheManagerAndItselfWhoeverElseIsThere) {
  Stage stage;
  EXPECT_EQ(stage.joins(Stage::worker("w1")), "w1<manager; w1<w1 110; present w1");
  EXPECT_EQ(stage.joins(Stage::worker("w2")), "w2<manager; w2<w2 110; present w2") << "and w1 hears nothing";
  EXPECT_EQ(stage.tell(Left{"w1@grid/w", "w1"}), "gone w1") << "it reads nothing any more, and w2 never knew it";
}

TEST(ServedMarket, AWorkerThatSaysHelloNeedNotBeShownTheManagerIfItIsGreeted) {
  Stage stage;
  const auto unneeded = [&] {
    std::vector<std::string> nicks;
    for (const Action& action : stage.actions)
      if (const auto* show = std::get_if<Show>(&action); show && show->unless_greeted) nicks.push_back(show->nick);
    return nicks;
  };
  Came w1 = Stage::worker("w1"), ada = Stage::person("ada");
  w1.says_hello = ada.says_hello = true;
  EXPECT_EQ(stage.joins(w1), "w1<manager; w1<w1 110; present w1") << "what greets rides in the one behind";
  EXPECT_EQ(unneeded(), std::vector<std::string>{"manager"});
  stage.joins(Stage::worker("w2"));
  EXPECT_TRUE(unneeded().empty());
  stage.joins(ada);
  EXPECT_TRUE(unneeded().empty()) << "a person looks for the manager whatever it says";
}

TEST(ServedMarket, PeopleSeeManagerPeopleAndWorkers) {
  Stage stage;
  stage.joins(Stage::worker("w1"));
  EXPECT_EQ(stage.joins(Stage::person("ada")), "ada<manager; ada<w1; ada<ada 100 110; ada<subject; present ada");
  EXPECT_EQ(stage.joins(Stage::person("bob")), "bob<manager; bob<ada; bob<w1; bob<bob 100 110; bob<subject; ada<bob; present bob");
  EXPECT_EQ(stage.joins(Stage::worker("w2")), "w2<manager; w2<w2 110; ada<w2; bob<w2; present w2");
  EXPECT_EQ(stage.leaves("bob"), "ada<-bob; bob<-bob 110; gone bob");
  EXPECT_EQ(stage.tell(Bounced{"ada@grid/desk"}), "gone ada") << "who is not there is told nothing";
}

TEST(ServedMarket, RolesTellWhoMayTalk) {
  Stage stage;
  stage.joins(Stage::worker("w1")), stage.joins(Stage::person("ada")), stage.joins(Stage::person("root"));
  std::string roles;
  for (const auto& who : stage.market.occupants(10)) roles += who.nick + ' ' + who.affiliation + ' ' + who.role + "; ";
  EXPECT_EQ(roles, "manager owner moderator; ada none participant; root admin moderator; w1 none visitor; ");
}

TEST(ServedMarket, OneNameOneOccupant) {
  Stage stage;
  stage.joins(Stage::person("ada"));
  Came other = Stage::person("ada");
  other.jid = "eve@grid/desk";
  EXPECT_EQ(stage.joins(other), "no: conflict");
  other.nick = "manager";
  EXPECT_EQ(stage.joins(other), "no: conflict");
  other.nick = "";
  EXPECT_EQ(stage.joins(other), "no: jid-malformed");
  other.nick = std::string(kNickMax + 1, 'x');
  EXPECT_EQ(stage.joins(other), "no: not-acceptable");
  other.nick = "ada@grid";
  EXPECT_EQ(stage.joins(other), "no: not-acceptable") << "it is somebody else's address";
  other.nick = std::string(kNickMax, 'x');
  EXPECT_TRUE(stage.joins(other).starts_with("eve<manager"));
  other.nick = "ada@grid";
  EXPECT_EQ(stage.joins(other), "no: not-acceptable") << "nor later";
  other.nick = "eve@grid";
  EXPECT_FALSE(stage.joins(other).starts_with("no:")) << "some programs take one's own";
  stage.leaves("ada");
  other = Stage::person("ada"), other.jid = "eve2@grid/desk";
  EXPECT_TRUE(stage.joins(other).starts_with("eve2<manager")) << "the name is free again";
}

TEST(ServedMarket, WhoLostTrackComesInAgainAndIsMetAgain) {
  Stage stage;
  stage.joins(Stage::worker("w1"));
  EXPECT_EQ(stage.joins(Stage::worker("w1")), "w1<manager; w1<w1 110; present w1");
  EXPECT_EQ(stage.market.workers(), 1u);
  Came change = Stage::worker("w2");
  change.joins = false;
  EXPECT_EQ(stage.tell(change), "no: not-acceptable") << "so that it knows that it must come in";
  EXPECT_EQ(stage.leaves("w2", "w"), "w2<-w2 110") << "the echo of leaving, also from a room that forgot it";
}

TEST(ServedMarket, PeopleSeeChangesOfAWorkerOnceASecondAtMost) {
  Stage stage;
  stage.joins(Stage::person("ada")), stage.joins(Stage::worker("w1"));
  stage.after(5s);
  Came change = Stage::worker("w1");
  change.joins = false, change.show = "dnd";
  EXPECT_EQ(stage.tell(change), "ada<w1(dnd); changed w1");
  EXPECT_EQ(stage.tell(change), "") << "that is no change";
  change.show = "";
  EXPECT_EQ(stage.tell(change), "changed w1");
  change.show = "xa";
  EXPECT_EQ(stage.tell(change), "changed w1");
  EXPECT_EQ(stage.after(2s), "ada<w1(xa)");
}

TEST(ServedMarket, OfManyWorkersPeopleSeeSomeAndACount) {
  Stage stage;
  stage.joins(Stage::person("ada"));
  const int many = static_cast<int>(kShownMax) + 2;
  for (int i = 1; i <= many; ++i) stage.joins(Stage::worker("w" + std::to_string(i)));
  EXPECT_EQ(stage.count<Show>(), 2) << "the last one is not shown to ada";
  EXPECT_EQ(stage.after(2s), "ada<manager");
  EXPECT_EQ(std::get<Show>(stage.actions.back()).status, "102 workers, 100 of them shown");
  stage.joins(Stage::person("bob"));
  EXPECT_EQ(stage.count<Show>(), 1 + 1 + 100 + 1 + 1) << "manager, ada, workers, bob himself, and bob for ada";
  EXPECT_EQ(stage.leaves("w1", "w"), "ada<-w1; bob<-w1; gone w1");
  EXPECT_EQ(stage.after(2s), "ada<w101; bob<w101; ada<manager; bob<manager");
  EXPECT_EQ(stage.leaves("w102", "w"), "gone w102") << "nobody saw it";
}

TEST(ServedMarket, PeopleTalkAndWorkersDoNot) {
  Stage stage;
  stage.joins(Stage::worker("w1")), stage.joins(Stage::person("ada")), stage.joins(Stage::person("bob"));
  EXPECT_EQ(stage.says("ada", "hello"), "ada<ada: hello; bob<ada: hello");
  EXPECT_EQ(stage.says("w1", "hello", "w"), "no: forbidden");
  EXPECT_EQ(stage.says("eve", "hello"), "no: not-acceptable");
  EXPECT_EQ(stage.tell(Said{"ada@grid/desk", "bob", "chat", "", "psst"}), "no: feature-not-implemented");
  EXPECT_EQ(stage.tell(Said{"ada@grid/desk", "", "groupchat", "", "", true}), "no: forbidden") << "a subject";
  EXPECT_EQ(stage.says("ada", std::string(kBodyMax + 1, 'x')), "no: policy-violation");
  EXPECT_EQ(stage.says("ada", ""), "") << "that she types";
}

TEST(ServedMarket, WhoTalksTooMuchWaits) {
  Stage stage;
  stage.joins(Stage::person("ada")), stage.joins(Stage::person("bob"));
  int taken = 0;
  while (stage.says("ada", "x") != "no: resource-constraint" && taken < 1000) ++taken;
  EXPECT_EQ(taken, static_cast<int>(kBurst) - 5) << "coming in counts five";
  EXPECT_NE(stage.says("bob", "x"), "no: resource-constraint");
  stage.now += 1s;
  EXPECT_EQ(stage.says("ada", "x"), "ada<ada: x; bob<ada: x");
}

TEST(ServedMarket, PeopleChangeTheirNames) {
  Stage stage;
  stage.joins(Stage::person("ada")), stage.joins(Stage::person("bob"));
  Came change = Stage::person("ada");
  change.joins = false, change.nick = "countess";
  EXPECT_EQ(stage.tell(change), "bob<-ada 303; ada<-ada 303 110; bob<countess; ada<countess 110; changed countess");
  change.nick = "bob";
  EXPECT_EQ(stage.tell(change), "no: conflict");
  EXPECT_TRUE(stage.market.has_nick("countess"));
  EXPECT_FALSE(stage.market.has_nick("ada"));
}

TEST(ServedMarket, AnAdminDrainsAWorkerAndPutsOutAPerson) {
  Stage stage;
  stage.joins(Stage::worker("w1")), stage.joins(Stage::person("root")), stage.joins(Stage::person("ada"));
  EXPECT_EQ(stage.tell(Kicked{"ada@grid/desk", "w1", ""}), "no: forbidden");
  EXPECT_EQ(stage.tell(Kicked{"root@grid/desk", "manager", ""}), "no: not-allowed");
  EXPECT_EQ(stage.tell(Kicked{"root@grid/desk", "nobody", ""}), "no: item-not-found");
  EXPECT_EQ(stage.tell(Kicked{"root@grid/desk", "w1", ""}), "drain w1; ada<w1(xa); root<w1(xa)");
  stage.leaves("w1", "w");
  stage.joins(Stage::worker("w1"));
  EXPECT_EQ(std::get<Show>(stage.actions[2]).show, "xa") << "coming in again changes nothing";
  EXPECT_EQ(stage.tell(Readmitted{"root@grid/desk", "w1"}), "undrain w1; ada<w1; root<w1");
  EXPECT_EQ(stage.tell(Kicked{"root@grid/desk", "ada", "bye"}), "root<-ada 307; ada<-ada 307 110; gone ada");
  EXPECT_TRUE(stage.joins(Stage::person("ada")).starts_with("ada<manager")) << "and may come back";
}

TEST(ServedMarket, WhoIsBannedGoesAndStaysOut) {
  Stage stage;
  stage.joins(Stage::worker("w1")), stage.joins(Stage::person("root"));
  EXPECT_EQ(stage.tell(Banned{"w1@grid/w", "root@grid", ""}), "no: forbidden");
  EXPECT_EQ(stage.tell(Banned{"root@grid/desk", "manager@grid", ""}), "no: not-allowed");
  EXPECT_EQ(stage.tell(Banned{"root@grid/desk", "w1@grid/w", ""}), "keep ban w1@grid; root<-w1 301; w1<-w1 301 110; gone w1");
  EXPECT_EQ(stage.joins(Stage::worker("w1")), "no: forbidden");
  EXPECT_EQ(stage.tell(BanLifted{"root@grid/desk", "w1@grid"}), "lift ban w1@grid");
  EXPECT_TRUE(stage.joins(Stage::worker("w1")).starts_with("w1<manager"));
  Stage next;
  next.market.banned("w1@grid");
  EXPECT_EQ(next.joins(Stage::worker("w1")), "no: forbidden") << "kept by the store";
}

TEST(ServedMarket, AfterALostLinkEverybodyIsToldToComeInAgain) {
  Stage stage;
  stage.joins(Stage::worker("w1")), stage.joins(Stage::worker("w2")), stage.joins(Stage::person("ada"));
  EXPECT_EQ(stage.tell(Lost{}), "") << "there is no link to say anything on, and they may come back";
  EXPECT_EQ(stage.market.workers(), 0u);
  stage.now += 1min;
  stage.tell(Opened{});
  EXPECT_TRUE(stage.joins(Stage::worker("w1")).ends_with("present w1"));
  EXPECT_EQ(stage.after(5s), "ada<-ada 110 332; w2<-w2 110 332") << "w1 is in";
  stage.joins(Stage::person("ada"));
  EXPECT_EQ(stage.after(4s), "ada<manager");
  EXPECT_EQ(stage.after(2s), "gone w2") << "ten seconds are over";
}

TEST(ServedMarket, WhoWasCalledWhenTheLinkWasLostAgainIsCalledAgain) {
  Stage stage;
  stage.joins(Stage::worker("w1")), stage.joins(Stage::worker("w2"));
  stage.tell(Lost{});
  stage.tell(Opened{});
  EXPECT_EQ(stage.after(100ms), "w1<-w1 110 332; w2<-w2 110 332");
  stage.joins(Stage::worker("w2"));
  stage.tell(Lost{});
  stage.now += 1min;
  stage.tell(Opened{});
  EXPECT_EQ(stage.after(100ms), "w1<-w1 110 332; w2<-w2 110 332") << "the server may never have read the first call";
  stage.joins(Stage::worker("w1")), stage.joins(Stage::worker("w2"));
  EXPECT_EQ(stage.after(1min), "");
}

TEST(ServedMarket, WhatCallsItselfAWorkerMustBeAllowedAndIsHeldToItsName) {
  Stage stage;
  stage.joins(Stage::person("ada"));
  EXPECT_EQ(stage.joins(Stage::worker("stranger")), "no: registration-required");
  EXPECT_EQ(stage.market.workers(), 0u);
  stage.joins(Stage::worker("w1"));
  Came other = Stage::worker("w1");
  other.nick = "w1-b";
  EXPECT_EQ(stage.joins(other), "no: not-acceptable");
  for (int n = 0; n < 50; ++n) EXPECT_EQ(stage.joins(Stage::worker("w1")), "w1<manager; w1<w1 110; present w1") << "people do not hear of each time";
  EXPECT_EQ(stage.after(3s), "ada<w1; ada<manager") << "nor of its count more than once";
}

TEST(ServedMarket, ANewLifeRecallsThoseItRemembersAtAPace) {
  Stage stage;
  stage.tell(Lost{});
  const int many = static_cast<int>(kRecallSlice) * 3;
  for (int i = 0; i < many; ++i) stage.market.remembered("w" + std::to_string(i) + "@grid/w", "w");
  stage.tell(Opened{});
  stage.now += 1ms;
  stage.tell(Tick{});
  EXPECT_EQ(stage.count<Show>(), static_cast<int>(kRecallSlice));
  stage.tell(Tick{});
  EXPECT_EQ(stage.count<Show>(), 0) << "not before its time";
  stage.after(1s);
  // Those who come back late keep it waiting for the others.
  for (int i = 0; i < many - 1; ++i) {
    stage.after(50ms);
    stage.joins(Stage::worker("w" + std::to_string(i)));
  }
  EXPECT_EQ(stage.after(1900ms), "");
  EXPECT_EQ(stage.after(200ms), "gone w" + std::to_string(many - 1));
}

TEST(ServedMarket, NoMoreAreCalledBackThanTheServerAnswers) {
  Stage stage;
  stage.tell(Lost{});
  std::vector<std::string> names;
  for (int i = 0; i < 2000; ++i) names.push_back("w" + std::to_string(10000 + i));  // in their order
  for (const std::string& name : names) stage.market.remembered(name + "@grid/w", name);
  stage.tell(Opened{});
  const auto called = [&stage](Duration pause) {
    int shown = 0;
    for (const Instant end = stage.now + pause; stage.now < end;) {
      stage.now += kRecallEvery;
      stage.tell(Tick{});
      shown += stage.count<Show>();
    }
    return shown;
  };
  EXPECT_EQ(called(900ms), static_cast<int>(kRecallWindow)) << "nobody came back yet";
  for (int i = 0; i < 150; ++i) stage.joins(Stage::worker(names[static_cast<std::size_t>(i)]));
  EXPECT_EQ(called(100ms), 150) << "as many as came";
  EXPECT_EQ(called(200ms), 250) << "those who did not come in a second are not waited for";
}

TEST(ServedMarket, TellsTheStoreWhoIsIn) {
  Stage stage;
  const auto kept = [&stage](const Event& event) {
    std::string words;
    for (const Action& action : stage.market.step(stage.now, event))
      if (const auto* a = std::get_if<Remember>(&action)) words += (a->here ? "+" : "-") + a->nick;
    return words;
  };
  EXPECT_EQ(kept(Stage::worker("w1")), "+w1");
  EXPECT_EQ(kept(Stage::worker("w1")), "") << "it knows";
  EXPECT_EQ(kept(Stage::person("ada")), "+ada");
  Came renamed = Stage::person("ada");
  renamed.nick = "ada-2";
  EXPECT_EQ(kept(renamed), "-ada+ada-2");
  EXPECT_EQ(kept(Closing{}), "") << "those are whom the next life calls";
}

TEST(ServedMarket, AnOrderlyEndTellsWorkersThatTheManagerGoes) {
  Stage stage;
  stage.joins(Stage::worker("w1")), stage.joins(Stage::person("ada"));
  EXPECT_EQ(stage.tell(Closing{}), "ada<-ada 110 332; w1<-manager");
}

TEST(ServedMarket, TroubleIsToldToPeople) {
  Stage stage;
  stage.joins(Stage::worker("w1")), stage.joins(Stage::person("ada"));
  EXPECT_EQ(stage.tell(Troubled{"the disk is full"}), "ada<manager(dnd); ada<subject");
  EXPECT_EQ(std::get<Subject>(stage.actions.back()).text, "Souk marketplace: the disk is full");
  EXPECT_EQ(stage.tell(Troubled{""}), "ada<manager; ada<subject");
  EXPECT_EQ(std::get<Subject>(stage.actions.back()).text, "welcome");
}

TEST(ServedMarket, IsFullAtItsBounds) {
  Stage stage;
  for (std::size_t i = 0; i < kPeopleMax; ++i) stage.joins(Stage::person("p" + std::to_string(i)));
  EXPECT_EQ(stage.joins(Stage::person("ada")), "no: service-unavailable");
  EXPECT_TRUE(stage.joins(Stage::worker("w1")).starts_with("w1<manager"));
  stage.leaves("p0");
  EXPECT_TRUE(stage.joins(Stage::person("ada")).starts_with("ada<manager"));
}

TEST(ServedMarket, OnePersonTakesAFewSeatsOnly) {
  Stage stage;
  const auto program = [](std::size_t number) {
    Came came = Stage::person("eve");
    came.jid = "eve@grid/" + std::to_string(number), came.nick = "eve-" + std::to_string(number);
    return came;
  };
  for (std::size_t n = 0; n < kSeatsEach; ++n) {
    EXPECT_TRUE(stage.joins(program(n)).starts_with("eve<manager")) << n;
    stage.now += 10s;  // within what she may do
  }
  EXPECT_EQ(stage.joins(program(kSeatsEach)), "no: resource-constraint");
  EXPECT_TRUE(stage.joins(program(0)).starts_with("eve<manager")) << "who is in may lose track and join again";
  stage.now += 10s;
  Came neighbour = Stage::person("eve");
  neighbour.jid = "eve@grid.example/desk", neighbour.nick = "other";
  EXPECT_TRUE(stage.joins(neighbour).starts_with("eve<manager")) << "of another address";
  stage.tell(Left{"eve@grid/3", "eve-3"});
  EXPECT_TRUE(stage.joins(program(kSeatsEach)).starts_with("eve<manager"));
}

TEST(ServedMarket, NobodyLooksLikeTheManager) {
  Stage stage;
  for (const std::string nick : {"manager", "Manager", "MANAGER", " manager", "man ager "}) {
    Came eve = Stage::person("eve");
    eve.nick = nick;
    EXPECT_EQ(stage.joins(eve), "no: conflict") << nick;
  }
}

// What one says of itself goes to all people: of a stanza's mebibyte nothing may be multiplied by two hundred.
TEST(ServedMarket, WhatIsSaidOnIsShort) {
  Stage stage;
  stage.joins(Stage::person("ada"));
  Came eve = Stage::person("eve");
  eve.caps_node = eve.caps_hash = eve.show = eve.status = std::string(900'000, 'x');
  stage.joins(eve);
  const auto longest = [&] {
    std::size_t most = 0;
    for (const Action& action : stage.actions) {
      if (const auto* show = std::get_if<Show>(&action)) most = std::max({most, show->show.size(), show->status.size(), show->caps_node.size(), show->caps_hash.size()});
      if (const auto* present = std::get_if<Present>(&action)) most = std::max({most, present->caps_node.size(), present->caps_hash.size()});
      if (const auto* relay = std::get_if<Relay>(&action)) most = std::max(most, relay->id.size());
    }
    return most;
  };
  EXPECT_LE(longest(), kStatusMax);
  EXPECT_GE(stage.count<Show>(), 3);
  stage.tell(Said{"eve@grid/desk", "", "groupchat", std::string(900'000, 'i'), "hello"});
  EXPECT_EQ(stage.count<Relay>(), 2);
  EXPECT_LE(longest(), kIdMax);
  eve.show = "dnd", eve.caps_node = "gajim", eve.caps_hash = "hash", eve.joins = false;
  EXPECT_EQ(stage.tell(eve), "ada<eve(dnd); eve<eve(dnd) 110; changed eve");
}

// Costs of a large market: what goes out for a worker does not depend on how many there are.
TEST(ServedMarket, TenThousandWorkersCostWhatTheyCostAlone) {
  Stage stage;
  stage.joins(Stage::person("ada"));
  std::size_t most = 0;
  for (int i = 0; i < 10'000; ++i) {
    stage.joins(Stage::worker("w" + std::to_string(i)));
    most = std::max(most, stage.actions.size());
  }
  EXPECT_EQ(most, 5u) << "remembered, manager, itself, ada told of it, present";
  stage.tell(Lost{});
  EXPECT_EQ(stage.actions.size(), 0u);
}

}  // namespace
