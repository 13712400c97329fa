// docs/PROTOCOL.md is part of the contract: its examples are parsed here as the product parses what it receives, their payloads decoded by
// the message that §7 assigns to them, and compared with the text that stands beside them.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "protocol/capability.h"
#include "protocol/expression.h"
#include "protocol/grid.pb.h"
#include "protocol/offer.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"
#include "protocol/xml_stream.h"
#include "tests/protocol/xml.h"

namespace souk {
namespace {

namespace fs = std::filesystem;
using Message = google::protobuf::MessageLite;

struct Block {
  std::string language, text;
  int line = 0;  // of its first line in the document
};

std::string whole_file(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  EXPECT_TRUE(file) << path;
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::vector<Block> blocks_of(const std::string& document) {
  std::vector<Block> blocks;
  std::istringstream lines(document);
  bool inside = false;
  int number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    if (line.starts_with("```")) {
      if (!inside) blocks.push_back({line.substr(3), "", number + 1});
      inside = !inside;
    } else if (inside) {
      blocks.back().text += line + '\n';
    }
  }
  EXPECT_FALSE(inside) << "a block is not closed";
  return blocks;
}

const std::string& document() {
  static const std::string text = whole_file(fs::path(SOUK_SOURCE_DIR) / "docs/PROTOCOL.md");
  return text;
}

std::vector<Block> blocks(const std::string& language) {
  auto all = blocks_of(document());
  std::erase_if(all, [&](const Block& block) { return block.language != language; });
  return all;
}

template <class M>
std::unique_ptr<Message> make() {
  return std::make_unique<M>();
}
using Maker = std::unique_ptr<Message> (*)();

/// The table of §7: element and type of iq (or `message`) to message; in presences, `join` is to the room and `presence` from it. Null: it carries none.
const std::map<std::pair<std::string, std::string>, Maker> kMessages = {
    {{"hello", "set"}, make<wire::Hello>},          {{"hello", "result"}, make<wire::HelloAnswer>},
    {{"hello", "presence"}, make<wire::Hello>},     {{"hello", "join"}, make<wire::HelloAnswer>},
    {{"assign", "set"}, make<wire::Assign>},        {{"assign", "result"}, make<wire::AssignAnswer>},
    {{"command", "set"}, make<wire::CommandPart>},  {{"stop", "set"}, make<wire::Stop>},
    {{"report", "set"}, make<wire::Report>},        {{"report", "result"}, make<wire::ReportAnswer>},
    {{"lease", "set"}, make<wire::Lease>},          {{"lease", "result"}, make<wire::LeaseAnswer>},
    {{"submit", "set"}, make<wire::SubmitRequest>}, {{"submit", "result"}, make<wire::SubmitAnswer>},
    {{"status", "set"}, make<wire::StatusRequest>}, {{"status", "result"}, make<wire::StatusAnswer>},
    {{"results", "set"}, make<wire::ResultsRequest>}, {{"results", "result"}, make<wire::ResultsAnswer>},
    {{"cancel", "set"}, make<wire::CancelRequest>}, {{"cancel", "result"}, make<wire::CancelAnswer>},
    {{"workers", "set"}, make<wire::WorkersRequest>}, {{"workers", "result"}, make<wire::WorkersAnswer>},
    {{"why", "set"}, make<wire::WhyRequest>},       {{"why", "result"}, make<wire::WhyAnswer>},
    {{"hold", "set"}, make<wire::JobsRequest>},     {{"hold", "result"}, make<wire::JobsAnswer>},
    {{"release", "set"}, make<wire::JobsRequest>},  {{"release", "result"}, make<wire::JobsAnswer>},
    {{"rerun", "set"}, make<wire::RerunRequest>},   {{"rerun", "result"}, make<wire::SubmitAnswer>},
    {{"ban", "set"}, make<wire::BanRequest>},       {{"ban", "result"}, make<wire::BanAnswer>},
    {{"event", "headline"}, make<wire::Event>},
};

struct Payload {
  std::string name, type, text;  // of the element, of the stanza
  bool zlib;
  int line;
  std::map<std::string, std::string> attributes;
};

bool is_ours(const std::string& xmlns) { return xmlns == ns::task || xmlns == ns::job; }

void collect(const gloox::Tag& tag, const std::string& type, int line, std::vector<Payload>& into) {
  if (is_ours(tag.xmlns()) && tag.name() == "stale") {  // no message in it
    EXPECT_TRUE(!tag.findAttribute("epoch").empty() && !tag.findAttribute("jobs").empty()) << "line " << line;
  } else if (is_ours(tag.xmlns())) {
    Payload payload{tag.name(), type, tag.cdata(), tag.findAttribute("encoding") == "zlib", line, {}};
    for (const auto* attribute : tag.attributes()) payload.attributes[attribute->name()] = attribute->value();
    into.push_back(std::move(payload));
  }
  for (const auto* part : tag.children()) collect(*part, type, line, into);
}

std::unique_ptr<gloox::Tag> example(const Block& block) {
  bool well_formed = false;
  auto tags = test::XmlReader::all(block.text, &well_formed);
  EXPECT_TRUE(well_formed && tags.size() == 1) << "docs/PROTOCOL.md, line " << block.line << ": one well-formed stanza is expected";
  return tags.empty() ? nullptr : std::move(tags.front());
}

/// By the parser of our streams, which refuses what gloox's forgives.
int stanzas_in(const std::string& text, std::string& problem) {
  int stanzas = 0;
  XmlStream stream("jabber:client", {[](gloox::Tag&) {}, [&](gloox::Tag&, bool cut) { stanzas += !cut; }, [] {}});
  stream.feed("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' version='1.0'>" + text + "</stream:stream>");
  problem = stream.problem();
  return stanzas;
}

std::vector<Payload> payloads() {
  std::vector<Payload> all;
  for (const auto& block : blocks("xml"))
    if (const auto stanza = example(block)) {
      const bool room = stanza->findAttribute("from").starts_with("market@");
      collect(*stanza, stanza->name() != "presence" ? stanza->findAttribute("type") : room ? "presence" : "join", block.line, all);
    }
  return all;
}

/// The bytes that protoc makes of a message's text, with the name of the message in its first line.
std::string encoded_by_protoc(const Block& block, std::string& name) {
  EXPECT_TRUE(block.text.starts_with("# ")) << "line " << block.line << ": the name of the message is expected";
  name = block.text.substr(2, block.text.find('\n') - 2);
  std::string pattern = (fs::temp_directory_path() / "souk-document-XXXXXX").string();
  const int fd = ::mkstemp(pattern.data());
  EXPECT_GE(fd, 0);
  EXPECT_EQ(::write(fd, block.text.data(), block.text.size()), static_cast<ssize_t>(block.text.size()));
  ::close(fd);
  const std::string schema = (fs::path(SOUK_SOURCE_DIR) / "protocol").string();
  const std::string command = "'" SOUK_PROTOC "' --encode=souk.wire." + name + " -I '" + schema + "' grid.proto < " + pattern;
  std::string bytes;
  if (FILE* pipe = ::popen(command.c_str(), "r")) {
    for (int c; (c = std::fgetc(pipe)) != EOF;) bytes += static_cast<char>(c);
    EXPECT_EQ(::pclose(pipe), 0) << "line " << block.line << ": protoc refuses this text as souk.wire." << name;
  }
  fs::remove(pattern);
  return bytes;
}

TEST(Document, IsInTheFormOfAXep) {
  for (const char* heading : {"## 1. Introduction", "## 2. Requirements", "## 3. Glossary", "## 5. Use cases", "## 7. Payload encoding", "## 8. Business rules", "## 9. Errors",
                              "## 10. Security considerations", "## 11. Namespaces and schema", "## 13. Revision history"})
    EXPECT_NE(document().find(heading), std::string::npos) << heading;
}

TEST(Document, EveryExampleIsAStanza) {
  const auto examples = blocks("xml");
  ASSERT_GT(examples.size(), 40u);
  std::map<std::string, std::pair<std::string, std::string>> asked;  // id -> from, to
  for (const auto& block : examples) {
    SCOPED_TRACE("docs/PROTOCOL.md, line " + std::to_string(block.line));
    const auto stanza = example(block);
    ASSERT_TRUE(stanza);
    std::string problem;
    EXPECT_EQ(stanzas_in(block.text, problem), 1) << problem;
    EXPECT_EQ(problem, "");
    const std::string &type = stanza->findAttribute("type"), &id = stanza->findAttribute("id"), &from = stanza->findAttribute("from"), &to = stanza->findAttribute("to");
    EXPECT_FALSE(from.empty());
    EXPECT_FALSE(to.empty());
    if (stanza->name() != "iq") {
      EXPECT_TRUE(stanza->name() == "presence" || stanza->name() == "message");
      continue;
    }
    EXPECT_FALSE(id.empty());
    if (type == "get" || type == "set") {
      asked[id] = {from, to};
      EXPECT_EQ(stanza->children().size(), 1u) << "RFC 6120 §8.2.3";
    } else {
      EXPECT_TRUE(type == "result" || type == "error") << type;
      if (const auto at = asked.find(id); at != asked.end() && at->second.first == to) {
        EXPECT_EQ(from, at->second.second) << "the answer comes from the address that was asked";
      }
    }
    const auto* command = stanza->findChild("command", "xmlns", ns::commands);
    const gloox::Tag& holder = command ? *command : *stanza;
    const auto form = form_in(holder);
    EXPECT_TRUE(form) << form.error().text();
    if (command && type == "result" && form && !form.value().fields.empty()) {
      EXPECT_TRUE(command->hasAttribute("sessionid"));
      EXPECT_EQ(command->findAttribute("status") == "executing", command->hasChild("actions"));
      EXPECT_TRUE(form.value().columns.empty()) << "no tables for people";
    }
  }
}

TEST(Document, EveryPayloadIsTheMessageBesideIt) {
  const auto found = payloads();
  const auto texts = blocks("txtpb");
  ASSERT_EQ(found.size(), texts.size()) << "each payload has its text";
  std::set<std::string> shown;
  for (std::size_t i = 0; i < found.size(); ++i) {
    const Payload& payload = found[i];
    SCOPED_TRACE("docs/PROTOCOL.md, line " + std::to_string(payload.line) + ": <" + payload.name + "/>");
    const auto maker = kMessages.find({payload.name, payload.type});
    ASSERT_NE(maker, kMessages.end()) << "no message for it in §7";
    const auto message = maker->second(), expected = maker->second();
    std::string name;
    const std::string bytes = encoded_by_protoc(texts[i], name);
    ASSERT_EQ(message->GetTypeName(), "souk.wire." + name);
    shown.insert(name);
    ASSERT_TRUE(parse(bytes, *expected));
    const auto decoded = decode(payload.text, payload.zlib, *message);
    const Encoded ours = encode(*expected);
    ASSERT_TRUE(decoded) << decoded.error().text() << "; it should be" << (ours.zlib ? " encoding='zlib' " : " ") << ours.text;
    EXPECT_EQ(message->SerializeAsString(), expected->SerializeAsString()) << "it should be" << (ours.zlib ? " encoding='zlib' " : " ") << ours.text;
    EXPECT_EQ(payload.zlib, ours.zlib) << "compressed when we would, and only then";
  }
  for (const auto& [key, maker] : kMessages) EXPECT_TRUE(shown.contains(maker()->GetTypeName().substr(10))) << maker()->GetTypeName() << " has no example";
}

TEST(Document, WhatThePayloadsSayHolds) {
  std::map<std::string, int> seen;
  std::string parts;
  for (const auto& payload : payloads()) {
    SCOPED_TRACE("docs/PROTOCOL.md, line " + std::to_string(payload.line) + ": <" + payload.name + "/>");
    const auto message = kMessages.at({payload.name, payload.type})();
    ASSERT_TRUE(decode(payload.text, payload.zlib, *message));
    ++seen[message->GetTypeName().substr(10)];
    const auto attribute = [&](const char* name) { return payload.attributes.contains(name) ? payload.attributes.at(name) : ""; };
    if (const auto* assign = dynamic_cast<const wire::Assign*>(message.get())) {
      EXPECT_EQ(attribute("tasks"), std::to_string(assign->assignments_size()));
      std::set<std::pair<std::uint64_t, std::uint32_t>> groups;
      for (const auto& command : assign->commands()) {
        EXPECT_TRUE(read(command.command()));
        EXPECT_TRUE(read(command.needs()));
        EXPECT_TRUE(groups.insert({command.job(), command.group()}).second);
      }
      for (const auto& assignment : assign->assignments()) EXPECT_TRUE(groups.contains({assignment.job(), assignment.group()}));
    } else if (const auto* report = dynamic_cast<const wire::Report*>(message.get())) {
      EXPECT_EQ(attribute("results"), std::to_string(report->results_size()));
      for (const auto& result : report->results()) EXPECT_TRUE(read(result.outcome()));
    } else if (const auto* lease = dynamic_cast<const wire::Lease*>(message.get())) {
      EXPECT_EQ(attribute("held"), std::to_string(lease->held_size()));
    } else if (const auto* submit = dynamic_cast<const wire::SubmitRequest*>(message.get())) {
      EXPECT_NE(submit->has_job(), !submit->part().empty());
      EXPECT_TRUE(!submit->has_job() || submit->job().groups_size() > 0 || read(submit->job().command()));
      for (const auto& group : submit->job().groups()) {
        EXPECT_TRUE(read(group.command()));
        EXPECT_TRUE(read(group.needs()));
        EXPECT_TRUE(group.require().empty() || Expression::parse(group.require()));
        EXPECT_TRUE(group.rank().empty() || Expression::parse(group.rank()));
      }
      parts += submit->part();
    } else if (const auto* part = dynamic_cast<const wire::CommandPart*>(message.get())) {
      wire::Command command;
      EXPECT_EQ(part->size(), part->data().size());
      EXPECT_TRUE(parse(part->data(), command));
      EXPECT_TRUE(read(command));
    } else if (const auto* event = dynamic_cast<const wire::Event*>(message.get())) {
      EXPECT_EQ(attribute("job"), std::to_string(event->job().job()));
    } else if (const auto* results = dynamic_cast<const wire::ResultsAnswer*>(message.get())) {
      for (const auto& result : results->results()) EXPECT_TRUE(read(result.outcome()));
    }
  }
  wire::Job job;
  ASSERT_TRUE(parse(parts, job)) << "the parts make one job";
  EXPECT_EQ(job.range().last(), 1000);
  EXPECT_TRUE(read(job.command()));
}

TEST(Document, TheCapabilitiesAreThoseOfTheOffer) {
  std::set<std::string> told;
  int offers = 0;
  for (const auto& block : blocks("xml")) {
    const auto stanza = example(block);
    ASSERT_TRUE(stanza);
    if (const auto* caps = stanza->findChild("c"); caps && stanza->findAttribute("from") != "manager@grid.souk.localhost/souk") told.insert(caps->findAttribute("ver"));
    const auto* query = stanza->findChild("query", "xmlns", ns::info);
    if (!query || stanza->findAttribute("type") != "result") continue;
    const DiscoInfo info = info_in(*query);
    ASSERT_EQ(info.forms.size(), 1u);
    const auto offer = offer_from(info.forms[0]);
    ASSERT_TRUE(offer) << offer.error().text();
    EXPECT_EQ(to_form(offer.value()).fields.size(), info.forms[0].fields.size()) << "every field that we send is shown";
    EXPECT_EQ(query->findAttribute("node"), std::string(kCapsNode) + "#" + caps_hash(info));
    told.insert(caps_hash(info));
    ++offers;
  }
  EXPECT_EQ(offers, 1);
  EXPECT_EQ(told.size(), 1u) << "the hash in presence is that of the offer";
}

TEST(Document, EveryErrorShownIsInTheTable) {
  const auto from = document().find("## 9. Errors");
  const std::string table = document().substr(from, document().find("## 10.") - from);
  int errors = 0;
  for (const auto& block : blocks("xml")) {
    const auto stanza = example(block);
    if (!stanza || stanza->findAttribute("type") != "error") continue;
    const StanzaError error = error_in(*stanza);
    EXPECT_NE(table.find("| `" + error.condition + "` | " + error.type + " |"), std::string::npos) << "line " << block.line;
    EXPECT_FALSE(error.text.empty());
    ++errors;
  }
  EXPECT_GE(errors, 4);
}

TEST(Document, TheSchemaKnowsEveryElementAndAttribute) {
  std::map<std::string, std::string> schemas;
  for (const auto& block : blocks("xsd")) {
    const auto schema = example(block);
    ASSERT_TRUE(schema);
    schemas[schema->findAttribute("targetNamespace")] = block.text;
  }
  ASSERT_EQ(schemas.size(), 2u);
  for (const auto& block : blocks("xml")) {
    std::vector<const gloox::Tag*> open;
    const auto stanza = example(block);
    ASSERT_TRUE(stanza);
    open.push_back(stanza.get());
    while (!open.empty()) {
      const gloox::Tag* tag = open.back();
      open.pop_back();
      for (const auto* part : tag->children()) open.push_back(part);
      if (!is_ours(tag->xmlns())) continue;
      const std::string& schema = schemas[tag->xmlns()];
      EXPECT_NE(schema.find("<xs:element name='" + tag->name() + "'"), std::string::npos) << tag->name();
      for (const auto* attribute : tag->attributes())
        EXPECT_TRUE(attribute->name() == "xmlns" || schema.find("<xs:attribute name='" + attribute->name() + "'") != std::string::npos) << tag->name() << '/' << attribute->name();
    }
  }
}

}  // namespace
}  // namespace souk
