#include "protocol/stanza.h"

#include <gtest/gtest.h>

#include "protocol/offer.h"
#include "tests/protocol/mutate.h"
#include "tests/protocol/xml.h"

namespace souk {
namespace {

using test::XmlReader;

/// As it looks to the peer: written, read again.
std::unique_ptr<gloox::Tag> over_the_wire(const gloox::Tag& tag) {
  auto received = XmlReader::one(tag.xml());
  EXPECT_TRUE(received) << tag.xml();
  return received;
}

Form full_form() {
  Form form;
  form.title = "Submit a job (1 of 2)";
  form.instructions = "Say what to run <here> & \"now\"";
  form.add("FORM_TYPE", "hidden", "", {"urn:souk:job:1"}).add("command", "text-single", "Command", {"echo 'a' > b"}).add("lines", "text-multi", "One task a line", {"a", "", "c"});
  form.fields[1].required = true;
  form.add("", "fixed", "", {"About the task"}).add("kind", "list-single", "Kind", {"fast"});
  form.fields.back().options = {{"Fast", "fast"}, {"Cheap & slow", "slow"}};
  return form;
}

void expect_same(const Form& a, const Form& b) {
  EXPECT_EQ(a.type, b.type);
  EXPECT_EQ(a.title, b.title);
  EXPECT_EQ(a.instructions, b.instructions);
  EXPECT_EQ(a.columns, b.columns);
  EXPECT_EQ(a.rows, b.rows);
  ASSERT_EQ(a.fields.size(), b.fields.size());
  for (std::size_t i = 0; i < a.fields.size(); ++i) {
    EXPECT_EQ(a.fields[i].var, b.fields[i].var);
    EXPECT_EQ(a.fields[i].type, b.fields[i].type);
    EXPECT_EQ(a.fields[i].label, b.fields[i].label);
    EXPECT_EQ(a.fields[i].values, b.fields[i].values);
    EXPECT_EQ(a.fields[i].required, b.fields[i].required);
    EXPECT_EQ(a.fields[i].options, b.fields[i].options);
  }
}

TEST(Stanza, ElementsAndChildrenEscapeWhatTheyCarry) {
  const auto iq = element("iq", {}, {{"type", "set"}, {"to", "a'b@c/<d>"}});
  child(*iq, "assign", ns::task, {{"tasks", "3"}}, "A&B<C");
  const auto received = over_the_wire(*iq);
  EXPECT_EQ(received->findAttribute("to"), "a'b@c/<d>");
  const auto* assign = received->findChild("assign");
  ASSERT_NE(assign, nullptr);
  EXPECT_EQ(assign->xmlns(), ns::task);
  EXPECT_EQ(assign->findAttribute("tasks"), "3");
  EXPECT_EQ(assign->cdata(), "A&B<C");
}

TEST(Stanza, WhatXmlCannotCarryIsMarkedNotLost) {
  const auto message = element("message", {}, {{"id", "x\x01y"}});
  child(*message, "body", {}, {{"note", "\xFF"}}, "done\x02\xEF\xBF\xBF");  // U+FFFF: gloox would send it, and the server close the stream
  const auto received = over_the_wire(*message);
  EXPECT_EQ(received->findAttribute("id"), "x\xEF\xBF\xBDy");
  EXPECT_EQ(received->findChild("body")->findAttribute("note"), "\xEF\xBF\xBD");
  EXPECT_EQ(received->findChild("body")->cdata(), "done\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(Stanza, AnswersGoBackWhereTheQuestionCameFrom) {
  const auto iq = XmlReader::one("<iq type='get' id='q7' from='ada@souk.localhost/cli' to='grid.souk.localhost'/>");
  const auto result = result_of(*iq);
  EXPECT_EQ(result->name(), "iq");
  EXPECT_EQ(result->findAttribute("type"), "result");
  EXPECT_EQ(result->findAttribute("id"), "q7");
  EXPECT_EQ(result->findAttribute("to"), "ada@souk.localhost/cli");
  EXPECT_EQ(result->findAttribute("from"), "grid.souk.localhost");
  EXPECT_FALSE(result_of(*XmlReader::one("<iq type='get' id='q8'/>"))->hasAttribute("to"));
}

TEST(Stanza, ErrorsCarryConditionAndText) {
  const auto iq = XmlReader::one("<iq type='set' id='q7' from='a@b/c' to='d'><submit xmlns='urn:souk:job:1'>AAAA</submit></iq>");
  const auto refusal = over_the_wire(*error_of(*iq, "modify", "bad-request", "payload refused: it is no base64"));
  EXPECT_EQ(refusal->findAttribute("type"), "error");
  EXPECT_EQ(refusal->findAttribute("id"), "q7");
  EXPECT_EQ(refusal->findAttribute("to"), "a@b/c");
  const StanzaError error = error_in(*refusal);
  EXPECT_EQ(error.type, "modify");
  EXPECT_EQ(error.condition, "bad-request");
  EXPECT_EQ(error.text, "payload refused: it is no base64");
  EXPECT_EQ(error_of(*XmlReader::one("<message to='x'/>"), "cancel", "gone")->name(), "message");
}

TEST(Stanza, ErrorsOfOthersAreRead) {
  const char* foreign = "<iq type='error'><submit xmlns='urn:souk:job:1'/><error type='wait' by='x'><app xmlns='urn:x'/>"
                        "<text xmlns='urn:ietf:params:xml:ns:xmpp-stanzas' xml:lang='en'>Component unavailable</text>"
                        "<remote-server-timeout xmlns='urn:ietf:params:xml:ns:xmpp-stanzas'/></error></iq>";
  EXPECT_EQ(error_in(*XmlReader::one(foreign)).condition, "remote-server-timeout");
  EXPECT_EQ(error_in(*XmlReader::one(foreign)).text, "Component unavailable");
  EXPECT_EQ(error_in(*XmlReader::one("<iq type='error'/>")).condition, "undefined-condition");
  EXPECT_EQ(error_in(*XmlReader::one("<iq type='error'><error type='cancel'><x xmlns='y'/></error></iq>")).condition, "undefined-condition");
  EXPECT_EQ(error_in(*XmlReader::one("<iq type='error'><error/></iq>")).condition, "undefined-condition");
}

TEST(StanzaForm, ComesBackAsItWas) {
  const auto command = element("command", ns::commands);
  add_form(*command, full_form());
  const auto form = form_in(*over_the_wire(*command));
  ASSERT_TRUE(form) << form.error().text();
  expect_same(form.value(), full_form());
}

TEST(StanzaForm, TablesComeBackInTheOrderOfTheirColumns) {
  Form table;
  table.type = "result";
  table.columns = {"task", "state"};
  table.rows = {{"1", "succeeded"}, {"2", "failed"}};
  const auto command = element("command", ns::commands);
  add_form(*command, table);
  expect_same(form_in(*over_the_wire(*command)).value(), table);

  const auto shuffled = XmlReader::one("<c><x xmlns='jabber:x:data' type='result'><reported><field var='a'/><field var='b'/></reported>"
                                       "<item><field var='b'><value>2</value></field><field var='z'><value>9</value></field></item></x></c>");
  const auto form = form_in(*shuffled);
  ASSERT_TRUE(form);
  EXPECT_EQ(form.value().rows, (std::vector<std::vector<std::string>>{{"", "2"}}));
}

TEST(StanzaForm, ALineOfTextMultiIsAValue) {
  Form form;
  form.add("lines", "text-multi", "", {"a\nb", "", "c\n"}).add("one", "text-single", "", {"x\ny"});
  const auto command = element("command", ns::commands);
  add_form(*command, form);
  const auto back = form_in(*over_the_wire(*command));
  ASSERT_TRUE(back);
  EXPECT_EQ(back.value().find("lines")->values, (std::vector<std::string>{"a", "b", "", "c", ""}));
  EXPECT_EQ(back.value().find("one")->values, (std::vector<std::string>{"x\ny"}));
}

TEST(StanzaForm, NoneIsNoForm) {
  EXPECT_TRUE(form_in(*XmlReader::one("<command xmlns='http://jabber.org/protocol/commands'/>")).value().fields.empty());
  EXPECT_TRUE(form_in(*XmlReader::one("<presence><x xmlns='http://jabber.org/protocol/muc'><field var='a'/></x></presence>")).value().fields.empty());
}

TEST(StanzaForm, TakesWhatClientsSend) {  // fixed sent back with no var, no types, unknown elements, a prefix
  const auto sent = XmlReader::one("<command xmlns='http://jabber.org/protocol/commands'><d:x xmlns:d='jabber:x:data' type='submit'><field type='fixed'><value>x</value></field>"
                                   "<field var='shell'><value>1</value></field><field var='none'/><media xmlns='urn:xmpp:media-element'/></d:x></command>");
  const auto form = form_in(*sent);
  ASSERT_TRUE(form);
  EXPECT_TRUE(is_true(form.value().text("shell")));
  EXPECT_EQ(form.value().fields.size(), 3u);
}

TEST(StanzaForm, RefusesOtherTypes) {
  EXPECT_FALSE(form_in(*XmlReader::one("<c><x xmlns='jabber:x:data' type='evil'/></c>")));
  EXPECT_FALSE(form_in(*XmlReader::one("<c><x xmlns='jabber:x:data'/></c>")));
}

TEST(StanzaForm, RefusesHugeForms) {
  const auto refused = [](const std::string& inside) { return !form_in(*XmlReader::one("<c><x xmlns='jabber:x:data' type='submit'>" + inside + "</x></c>")); };
  const auto times = [](int count, const std::string& text) {
    std::string all;
    for (int i = 0; i < count; ++i) all += text;
    return all;
  };
  EXPECT_FALSE(refused(times(256, "<field var='a'/>")));
  EXPECT_TRUE(refused(times(257, "<field var='a'/>")));
  EXPECT_FALSE(refused("<field var='a'>" + times(100'000, "<value/>") + "</field>"));
  EXPECT_TRUE(refused("<field var='a'>" + times(100'001, "<value/>") + "</field>"));
  EXPECT_TRUE(refused("<field var='a'>" + times(100'001, "<option/>") + "</field>"));
  EXPECT_TRUE(refused("<field var='a'><value>" + std::string((4 << 20) + 1, 'x') + "</value></field>"));
  EXPECT_TRUE(refused("<field var='" + std::string((4 << 20) + 1, 'x') + "'/>"));
  EXPECT_TRUE(refused("<instructions>" + std::string((4 << 20) + 1, 'x') + "</instructions>"));
  EXPECT_TRUE(refused(times(100'001, "<title/>")));
  EXPECT_TRUE(refused("<reported>" + times(257, "<field var='a'/>") + "</reported>"));
  // Few bytes on the wire, many cells: an empty row of a wide table.
  EXPECT_TRUE(refused("<reported>" + times(256, "<field var='a'/>") + "</reported>" + times(400, "<item/>")));
}

TEST(StanzaForm, DamagedXmlIsRefusedOrRead) {
  const auto command = element("command", ns::commands);
  add_form(*command, full_form());
  const std::string original = command->xml();
  test::Mutator mutator(8);
  int read = 0;
  for (int i = 0; i < test::kRounds; ++i) {
    const auto damaged = XmlReader::all(mutator.damaged(original, "<field var='x'><value></value></field><option/><reported><item/>"));
    for (const auto& tag : damaged) {
      const auto form = form_in(*tag);
      if (!form) continue;
      ++read;
      const auto again = element("again");
      add_form(*again, form.value());
      if (const auto received = XmlReader::one(again->xml())) ASSERT_TRUE(form_in(*received));
      else FAIL() << again->xml();
    }
  }
  EXPECT_GT(read, test::kRounds / 20) << "else this tries nothing";
}

TEST(StanzaInfo, ComesBackWithTheSameHash) {
  Offer offer;
  offer.slots = 4;
  offer.cpu_model = "Æ & 'co'";
  offer.software = {{"python", "3.11.2"}};
  const DiscoInfo info{{{"client", "pc", "en", "Souk worker"}, {"client", "pc", "el", "\xCE\xA8"}}, {ns::info, ns::task}, {to_form(offer)}};
  const auto query = element("query", ns::info);
  add_info(*query, info);
  const DiscoInfo back = info_in(*over_the_wire(*query));
  EXPECT_EQ(caps_hash(back), caps_hash(info));
  ASSERT_EQ(back.identities.size(), 2u);
  EXPECT_EQ(back.identities[1].lang, "el");
  ASSERT_EQ(back.forms.size(), 1u);
  EXPECT_EQ(offer_from(back.forms[0]).value(), offer);
}

TEST(StanzaInfo, ReadsTheComplexExampleOfXep0115) {  // §5.3, as it travels
  const auto query = XmlReader::one(
      "<query xmlns='http://jabber.org/protocol/disco#info'><identity xml:lang='en' category='client' name='Psi 0.11' type='pc'/>"
      "<identity xml:lang='el' category='client' name='&#936; 0.11' type='pc'/><feature var='http://jabber.org/protocol/caps'/>"
      "<feature var='http://jabber.org/protocol/disco#info'/><feature var='http://jabber.org/protocol/disco#items'/><feature var='http://jabber.org/protocol/muc'/>"
      "<x xmlns='jabber:x:data' type='result'><field var='FORM_TYPE' type='hidden'><value>urn:xmpp:dataforms:softwareinfo</value></field>"
      "<field var='ip_version' type='text-multi'><value>ipv4</value><value>ipv6</value></field><field var='os'><value>Mac</value></field>"
      "<field var='os_version'><value>10.5.1</value></field><field var='software'><value>Psi</value></field><field var='software_version'><value>0.11</value></field></x></query>");
  EXPECT_EQ(caps_hash(info_in(*query)), "q07IKJEyjvHSyhy//CH0CxmKi8w=");
}

TEST(StanzaInfo, TakesOnlySoMuch) {
  std::string inside;
  for (int i = 0; i < 2000; ++i) inside += "<identity category='a' type='b'/><feature var='x'/><x xmlns='jabber:x:data' type='result'/>";
  const DiscoInfo info = info_in(*XmlReader::one("<query xmlns='http://jabber.org/protocol/disco#info'>" + inside + "</query>"));
  EXPECT_EQ(info.identities.size(), 64u);
  EXPECT_EQ(info.features.size(), 1024u);
  EXPECT_EQ(info.forms.size(), 16u);
}

TEST(StanzaInfo, DamagedXmlIsRead) {
  Offer offer;
  const auto query = element("query", ns::info);
  add_info(*query, {{{"client", "pc", "en", "Souk worker"}}, {ns::info, ns::task}, {to_form(offer)}});
  const std::string original = query->xml();
  test::Mutator mutator(9);
  for (int i = 0; i < test::kRounds; ++i)
    for (const auto& tag : XmlReader::all(mutator.damaged(original, "<identity category='' type='' name=''/><feature var=''/><x type='result'>"))) {
      const DiscoInfo info = info_in(*tag);
      (void)caps_hash(info);
      for (const auto& form : info.forms) (void)offer_from(form);
    }
}

TEST(Jid, FallsIntoItsParts) {
  const struct {
    const char *jid, *bare, *domain, *resource;
  } cases[] = {{"ada@souk.localhost/cli", "ada@souk.localhost", "souk.localhost", "cli"},
               {"ada@souk.localhost", "ada@souk.localhost", "souk.localhost", ""},
               {"grid.souk.localhost", "grid.souk.localhost", "grid.souk.localhost", ""},
               {"grid.souk.localhost/a/b@c", "grid.souk.localhost", "grid.souk.localhost", "a/b@c"},  // the first '/' ends the bare JID (RFC 7622 §3.1)
               {"", "", "", ""}};
  for (const auto& [jid, address, domain, resource] : cases) {
    EXPECT_EQ(bare(jid), address);
    EXPECT_EQ(domain_of(jid), domain);
    EXPECT_EQ(resource_of(jid), resource);
  }
}

}  // namespace
}  // namespace souk
