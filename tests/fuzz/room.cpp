// The marketplace as its server tells of it: presences and answers, to the manager that owns the room and to a worker in it.
// Input: stanzas of a stream. In an id, `r` stands for the oldest question of ours that waits.
#include <gloox/tag.h>
#include <spdlog/spdlog.h>

#include <boost/asio/io_context.hpp>
#include <map>

#include "manager/hosted_room.h"
#include "protocol/disco.h"
#include "protocol/stanza.h"
#include "protocol/xml_stream.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/still_link.h"
#include "worker/room.h"

namespace souk {
namespace {

using fuzz::must;
using fuzz::StillLinks;

void hear(std::string_view bytes, const std::function<void(gloox::Tag&)>& what) {
  XmlStream::Handlers handlers;
  handlers.opened = [](gloox::Tag&) {};
  handlers.closed = [] {};
  handlers.stanza = [&](gloox::Tag& stanza, bool cut) {
    if (!cut) what(stanza);
  };
  XmlStream stream("jabber:client", handlers);
  if (stream.feed("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>")) stream.feed(bytes);
}

void arrives(gloox::Tag& stanza) {
  if (const auto waiting = StillLinks::waiting(0); !waiting.empty() && stanza.name() == "iq" && stanza.findAttribute("id") == "r") {
    stanza.addAttribute("id", waiting.front());
  }
  StillLinks::arrives(0, stanza);
}

/// What a party says is XML that any server reads.
void check_sent() {
  for (const Stanza& stanza : StillLinks::sent(0)) {
    unsigned heard = 0;
    hear(stanza->xml(), [&](gloox::Tag&) { ++heard; });
    must(heard == 1, "what is sent is one stanza", stanza->xml());
  }
}

void in_manager(std::string_view bytes) {
  boost::asio::io_context loop;
  XmppLink link(loop, {"manager@grid", "", false, "", 0, ""});
  Disco disco(link);
  HostedRoom room(loop, link, disco, "market@rooms", "manager@grid/souk", [](const std::string&) { return false; });
  std::map<std::string, int> inside;
  room.on_present = [&](const Occupant& occupant) {
    must(!occupant.jid.empty() && occupant.jid.find('/') != std::string::npos, "who is in the market is known by the full address", occupant.jid);
    inside[occupant.jid] = 1;
  };
  room.on_gone = [&](const std::string& jid) { must(inside.erase(jid) == 1, "only who was in goes", jid); };
  StillLinks::rises(0);
  room.open();
  hear(bytes, [&](gloox::Tag& stanza) {
    if (stanza.name() == "message") StillLinks::falls(0), StillLinks::rises(0), room.open();  // as a break of the link
    else arrives(stanza);
    check_sent();
  });
  room.close();
  check_sent();
}

void in_worker(std::string_view bytes) {
  boost::asio::io_context loop;
  XmppLink link(loop, {"w1@grid/souk", "", false, "", 0, ""});
  Disco disco(link);
  worker::Room room(loop, link, disco, {"market@rooms", "w1", "manager@grid/souk"});
  bool banned = false;
  room.on_banned = [&](const Error& why) {
    must(!why.why.empty(), "who is banned is told why");
    banned = true;
  };
  room.on_manager_gone = [&] { must(room.inside() || !room.sees_manager(), "a manager that went is not seen"); };
  StillLinks::rises(0);
  room.enter();
  hear(bytes, [&](gloox::Tag& stanza) {
    if (stanza.name() == "message") StillLinks::falls(0), room.lost(), StillLinks::rises(0), room.enter();
    else arrives(stanza);
    must(!room.nick().empty(), "a worker has a name");
    must(!banned || !room.inside() || stanza.name() == "message", "who is banned stays outside");
    banned = banned && !room.inside();
    room.show(worker::Availability::busy, "busy: 1 of 1 slot");
    check_sent();
  });
  room.leave();
  check_sent();
}

}  // namespace
}  // namespace souk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  [[maybe_unused]] static const bool quiet = (spdlog::set_level(spdlog::level::off), true);
  if (size > fuzz::kInputMax) return 0;
  in_manager(fuzz::text_of(bytes, size));
  in_worker(fuzz::text_of(bytes, size));
  return 0;
}
