// Bytes to trees: what a stream may hold, and what it may not.
#include <gloox/tag.h>
#include <gtest/gtest.h>

#include <functional>
#include <random>
#include <stdexcept>
#include <string>
#include <vector>

#include "protocol/xml_stream.h"

namespace souk {
namespace {

const std::string kHeader =
    "<?xml version='1.0'?><stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' id='7' version='1.0'>";

struct Reader {
  std::vector<std::string> stanzas;  // as gloox writes them; `cut:` before one that was too much
  std::string header;
  int closed = 0;
  std::function<void(gloox::Tag&)> on_stanza = [](gloox::Tag&) {};
  XmlStream stream{"jabber:client",
                   {[this](gloox::Tag& tag) { header = tag.findAttribute("id"); },
                    [this](gloox::Tag& tag, bool cut) {
                      stanzas.push_back((cut ? "cut:" : "") + tag.xml());
                      on_stanza(tag);
                    },
                    [this] { ++closed; }}};
  bool feed(const std::string& bytes) { return stream.feed(bytes); }
};

TEST(XmlStream, BuildsEachStanzaHoweverTheBytesAreSplit) {
  const std::string text = kHeader + " \n<message from='a@b/c'><body>x &amp; y &#x1F41C;\n</body><x xmlns='urn:x'><y/></x></message> <presence/></stream:stream>";
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, text.size()}) {
    Reader reader;
    for (std::size_t at = 0; at < text.size(); at += piece) ASSERT_TRUE(reader.feed(text.substr(at, piece))) << reader.stream.problem();
    EXPECT_EQ(reader.header, "7");
    ASSERT_EQ(reader.stanzas.size(), 2u);
    EXPECT_EQ(reader.stanzas[0], "<message from='a@b/c'><body>x &amp; y \xF0\x9F\x90\x9C\n</body><x xmlns='urn:x'><y/></x></message>");
    EXPECT_EQ(reader.stanzas[1], "<presence/>");
    EXPECT_EQ(reader.closed, 1);
  }
}

TEST(XmlStream, NamespacesCountAndPrefixesDoNot) {
  Reader reader;
  std::string seen;
  reader.on_stanza = [&](gloox::Tag& tag) {
    seen = tag.xmlns() + "|" + tag.children().front()->name() + "|" + tag.children().front()->xmlns() + "|" +
           tag.children().front()->children().front()->xmlns();
  };
  ASSERT_TRUE(reader.feed(kHeader + "<iq type='set' xmlns='jabber:client'><t:assign xmlns:t='urn:souk:task:1'><body xmlns='jabber:client'/></t:assign></iq>"));
  EXPECT_EQ(seen, "|assign|urn:souk:task:1|jabber:client");
}

TEST(XmlStream, AnAttributeWithAPrefixCannotPassForOneWithout) {
  Reader reader;
  std::string from = "?";
  reader.on_stanza = [&](gloox::Tag& tag) { from = tag.findAttribute("from"); };
  ASSERT_TRUE(reader.feed(kHeader + "<message xmlns:e='urn:e' e:from='manager@grid' xml:from='manager@grid' xml:lang='en'/>"));
  EXPECT_EQ(from, "");
  EXPECT_EQ(reader.stanzas[0], "<message xml:lang='en'/>");
}

TEST(XmlStream, AQuotationMarkInApostrophesEndsNothing) {
  Reader reader;
  ASSERT_TRUE(reader.feed(kHeader + "<message a='x\" from=\"evil' b=\"y'z\"/>"));
  EXPECT_EQ(reader.stanzas[0], "<message a='x&quot; from=&quot;evil' b='y&apos;z'/>");
}

TEST(XmlStream, WhatIsNoXmlBreaksIt) {
  const std::vector<std::string> broken{
      "HTTP/1.1 400 Bad Request\r\n\r\n", "\x16\x03\x01", "<html>", "<stream:stream>", "<stream:stream xmlns:stream='urn:other'>",
      kHeader + "<a></b>", kHeader + "<a <b", kHeader + "<message>\xFF</message>", kHeader + "<message>\x01</message>",
      kHeader + "<a b='1' b='2'/>", kHeader + "<message>&unknown;</message>", kHeader + "</stream:stream><message/>",
      "<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'><!ENTITY b '&a;&a;&a;&a;&a;'>]>" + kHeader,
      "<?xml version='1.0'?><!DOCTYPE stream SYSTEM 'file:///etc/passwd'>" + kHeader};
  for (const auto& text : broken) {
    Reader reader;
    const bool fine = reader.feed(text) && reader.feed("> ") && reader.feed("<message/>");
    EXPECT_FALSE(fine) << text;
    EXPECT_FALSE(reader.stream.problem().empty()) << text;
    EXPECT_FALSE(reader.feed("<message/>")) << "for good: " << text;
    EXPECT_TRUE(reader.stanzas.empty()) << text;
  }
}

TEST(XmlStream, AnotherEncodingThanUtf8IsRefused) {
  std::string utf16;
  for (const char c : kHeader + "<presence/>") utf16 += std::string{c, '\0'};
  for (const std::string& text : {utf16, "\xff\xfe" + utf16}) {
    Reader reader;
    EXPECT_FALSE(reader.feed(text));
    EXPECT_TRUE(reader.stanzas.empty());
    EXPECT_FALSE(reader.stream.problem().empty());
  }
}

TEST(XmlStream, TooDeepIsHandedOverAsCutAndTheNextIsFine) {
  Reader reader;
  const auto deep = [](int levels) {
    std::string text = "<iq type='get' id='1'>";
    for (int i = 1; i < levels; ++i) text += "<a>";
    for (int i = 1; i < levels; ++i) text += "</a>";
    return text + "</iq>";
  };
  ASSERT_TRUE(reader.feed(kHeader + deep(kXmlDepthMax) + deep(kXmlDepthMax + 1)));
  ASSERT_TRUE(reader.feed(deep(200'000) + "<presence/>")) << reader.stream.problem();
  ASSERT_EQ(reader.stanzas.size(), 4u);
  EXPECT_TRUE(reader.stanzas[0].starts_with("<iq"));
  EXPECT_TRUE(reader.stanzas[1].starts_with("cut:<iq type='get' id='1'"));
  EXPECT_TRUE(reader.stanzas[2].starts_with("cut:<iq type='get' id='1'"));
  EXPECT_EQ(reader.stanzas[3], "<presence/>");
}

TEST(XmlStream, TooManyElementsAndTooManyBytesAreCut) {
  Reader reader;
  std::string many = "<message from='x'>";
  for (int i = 0; i <= kXmlElementsMax; ++i) many += "<a/>";
  ASSERT_TRUE(reader.feed(kHeader + many + "</message>"));
  ASSERT_TRUE(reader.feed("<message from='y'><body>" + std::string(kXmlBytesMax, 'x') + "</body></message>"));
  ASSERT_TRUE(reader.feed("<message from='z'><body>" + std::string(kXmlBytesMax / 2, 'x') + "</body></message>"));
  ASSERT_EQ(reader.stanzas.size(), 3u);
  EXPECT_TRUE(reader.stanzas[0].starts_with("cut:<message from='x'"));
  EXPECT_TRUE(reader.stanzas[1].starts_with("cut:<message from='y'"));
  EXPECT_TRUE(reader.stanzas[2].starts_with("<message from='z'"));
}

TEST(XmlStream, AStanzaWithoutEndIsGivenUp) {
  Reader reader;
  ASSERT_TRUE(reader.feed(kHeader + "<message>"));
  const std::string piece(1 << 20, 'x');
  int pieces = 0;
  while (pieces < 100 && reader.feed(piece)) ++pieces;
  EXPECT_LT(pieces, 20);
  EXPECT_NE(reader.stream.problem().find("MiB"), std::string::npos);
}

TEST(XmlStream, KeepalivesNeverAddUp) {
  Reader reader;
  ASSERT_TRUE(reader.feed(kHeader));
  const std::string spaces(1 << 20, ' ');
  for (int i = 0; i < 40; ++i) ASSERT_TRUE(reader.feed(spaces));
  ASSERT_TRUE(reader.feed("<presence/>"));
  EXPECT_EQ(reader.stanzas.size(), 1u);
}

TEST(XmlStream, ARestartThrowsTheRestAway) {
  Reader reader;
  reader.on_stanza = [&](gloox::Tag& tag) {
    if (tag.name() == "proceed") reader.stream.restart();
  };
  ASSERT_TRUE(reader.feed(kHeader + "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/><message/><message><body>half"));
  EXPECT_EQ(reader.stanzas.size(), 1u);
  ASSERT_TRUE(reader.feed(kHeader + "<presence/>")) << reader.stream.problem();
  EXPECT_EQ(reader.stanzas.back(), "<presence/>");
}

TEST(XmlStream, WhatAHandlerThrowsBreaksItAndGoesNoFurther) {
  Reader reader;
  reader.on_stanza = [](gloox::Tag&) { throw std::runtime_error("oops"); };
  EXPECT_FALSE(reader.feed(kHeader + "<message/><message/>"));
  EXPECT_EQ(reader.stanzas.size(), 1u);
  EXPECT_NE(reader.stream.problem().find("oops"), std::string::npos);
}

TEST(XmlStream, SurvivesDamage) {
  const std::string text = kHeader + "<iq type='set' id='a' from='x@y/z'><assign xmlns='urn:souk:task:1' tasks='3'>QUJD</assign></iq>"
                                     "<message><body>a &lt; b &#x41; <![CDATA[<c>]]></body></message></stream:stream>";
  std::mt19937 random(17);
  for (int round = 0; round < 3000; ++round) {
    std::string damaged = text;
    for (int hits = 1 + static_cast<int>(random() % 4); hits > 0; --hits) {
      const auto at = random() % damaged.size();
      switch (random() % 3) {
        case 0: damaged[at] = static_cast<char>(random()); break;
        case 1: damaged.erase(at, random() % 9); break;
        default: damaged.insert(at, damaged.substr(random() % damaged.size(), random() % 30));
      }
    }
    Reader reader;
    for (std::size_t at = 0; at < damaged.size(); at += 11)
      if (!reader.feed(damaged.substr(at, 11))) break;
    EXPECT_LE(reader.stanzas.size(), 40u);
  }
}

}  // namespace
}  // namespace souk
