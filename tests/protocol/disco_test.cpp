#include "protocol/disco.h"

#include <gloox/tag.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>

#include "protocol/stanza.h"
#include "tests/protocol/xml.h"

namespace souk {
namespace {

class DiscoTest : public testing::Test {
 protected:
  /// Asks, and reads the answer as the asker does.
  std::unique_ptr<gloox::Tag> ask(const std::string& xmlns, const std::string& node = {}, const std::string& type = "get") {
    const auto iq = element("iq", {}, {{"type", type}, {"id", "d1"}, {"from", "ada@souk.localhost/cli"}, {"to", "manager@grid.souk.localhost/souk"}});
    auto& query = child(*iq, "query", xmlns);
    if (!node.empty()) query.addAttribute("node", node);
    return test::XmlReader::one((xmlns == ns::info ? disco_.info_answer(*iq, query) : disco_.items_answer(*iq, query))->xml());
  }
  DiscoInfo info_of(const std::string& node = {}) { return info_in(*ask(ns::info, node)->findChild("query")); }

  boost::asio::io_context loop_;
  XmppLink link_{loop_, Account{"grid.souk.localhost", "secret", true, {}, 5347, {}}};  // never started
  Disco disco_{link_};
};

TEST_F(DiscoTest, TellsWhatItAlwaysCan) {
  const auto features = info_of().features;
  for (const std::string& feature : {ns::info, ns::items, ns::caps, ns::ping}) EXPECT_EQ(std::count(features.begin(), features.end(), feature), 1) << feature;
}

TEST_F(DiscoTest, AnswersFromTheAddressThatWasAsked) {
  const auto answer = ask(ns::info);
  EXPECT_EQ(answer->findAttribute("from"), "manager@grid.souk.localhost/souk");
  EXPECT_EQ(answer->findAttribute("to"), "ada@souk.localhost/cli");
  EXPECT_EQ(answer->findAttribute("type"), "result");
}

TEST_F(DiscoTest, ItsHashIsThatOfItsAnswer) {
  disco_.set_info("", {{{"client", "pc", "", "Souk worker"}}, {ns::task, ns::task, ns::ping}, {}});
  const DiscoInfo info = info_of();
  EXPECT_EQ(caps_hash(info), disco_.hash());
  EXPECT_EQ(std::count(info.features.begin(), info.features.end(), ns::task), 1) << "one twice makes the whole answer ill-formed (XEP-0115 §5.4)";
  EXPECT_EQ(std::count(info.features.begin(), info.features.end(), ns::ping), 1);
}

TEST_F(DiscoTest, AnswersTheNodeOfItsHashAndNoOlderOne) {
  const std::string old = std::string(kCapsNode) + "#" + disco_.hash();
  EXPECT_EQ(ask(ns::info, old)->findChild("query")->findAttribute("node"), old);
  EXPECT_EQ(caps_hash(info_of(old)), disco_.hash());
  disco_.set_info("", {{{"client", "pc", "", "Souk worker"}}, {ns::task}, {}});
  EXPECT_EQ(error_in(*ask(ns::info, old)).condition, "item-not-found");
}

TEST_F(DiscoTest, PutsItsCapsIntoPresence) {
  const auto presence = element("presence");
  disco_.add_caps(*presence);
  const auto* caps = presence->findChild("c");
  ASSERT_NE(caps, nullptr);
  EXPECT_EQ(caps->xmlns(), ns::caps);
  EXPECT_EQ(caps->findAttribute("hash"), "sha-1");
  EXPECT_EQ(caps->findAttribute("node"), kCapsNode);
  EXPECT_EQ(caps->findAttribute("ver"), disco_.hash());
}

TEST_F(DiscoTest, ListsTheItemsOfANode) {
  disco_.set_items(ns::commands, {{"grid.souk.localhost", "submit", "1. Submit a job"}, {"", "status", "2. Status"}});
  const auto answer = ask(ns::items, ns::commands);
  const auto items = answer->findChild("query")->findChildren("item");
  ASSERT_EQ(items.size(), 2u);
  EXPECT_EQ(items.front()->findAttribute("node"), "submit");
  EXPECT_EQ(items.front()->findAttribute("name"), "1. Submit a job");
  EXPECT_EQ(items.front()->findAttribute("jid"), "grid.souk.localhost");
  EXPECT_EQ(items.back()->findAttribute("jid"), "manager@grid.souk.localhost/souk") << "none given: the address that was asked";
  EXPECT_EQ(answer->findChild("query")->findAttribute("node"), ns::commands);
  EXPECT_TRUE(ask(ns::items)->findChild("query")->children().empty());
}

TEST_F(DiscoTest, OtherNodesTellOfThemselvesOnly) {
  disco_.set_info("submit", {{{"automation", "command-node", "", "Submit a job"}}, {ns::commands, ns::form}, {}});
  const DiscoInfo info = info_of("submit");
  ASSERT_EQ(info.identities.size(), 1u);
  EXPECT_EQ(info.identities[0].type, "command-node");
  EXPECT_EQ(info.features.size(), 2u);
  EXPECT_EQ(ask(ns::items, "submit")->findAttribute("type"), "result");
}

TEST_F(DiscoTest, RefusesUnknownNodesAndSets) {
  EXPECT_EQ(error_in(*ask(ns::info, "nowhere")).condition, "item-not-found");
  EXPECT_EQ(error_in(*ask(ns::items, "nowhere")).condition, "item-not-found");
  EXPECT_EQ(error_in(*ask(ns::info, "", "set")).condition, "bad-request");
  EXPECT_EQ(error_in(*ask(ns::items, "", "set")).condition, "bad-request");
}

}  // namespace
}  // namespace souk
