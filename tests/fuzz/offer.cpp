// What a worker says of itself: its disco#info answer, with the capability hash and the offer in a form. Input: the children of <query/>.
#include "protocol/offer.h"

#include <gloox/tag.h>

#include "manager/market.h"
#include "protocol/capability.h"
#include "protocol/stanza.h"
#include "protocol/xml_stream.h"
#include "tests/fuzz/fuzz.h"

namespace souk {
namespace {

using fuzz::must;

std::optional<DiscoInfo> heard(const std::string& children) {
  std::optional<DiscoInfo> info;
  XmlStream::Handlers handlers;
  handlers.opened = [](gloox::Tag&) {};
  handlers.closed = [] {};
  handlers.stanza = [&](gloox::Tag& stanza, bool cut) {
    if (!cut && !info) info = info_in(stanza);
  };
  XmlStream stream("jabber:client", handlers);
  if (stream.feed("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><query xmlns='http://jabber.org/protocol/disco#info'>")) stream.feed(children + "</query>");
  return info;
}

}  // namespace
}  // namespace souk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  if (size > fuzz::kInputMax) return 0;
  const auto info = heard(std::string(fuzz::text_of(bytes, size)));
  if (!info) return 0;
  // What one party says, another hashes to the same: or the market would ask a thousand workers one by one. The first journey may split a value at its
  // line ends (XEP-0004 §3.3); from then on it is as it is.
  const auto told_on = [](const DiscoInfo& what) {
    const Stanza query = element("query");
    add_info(*query, what);
    const std::string xml = query->xml();
    const auto again = heard(xml.ends_with("</query>") ? xml.substr(7, xml.size() - 7 - 8) : std::string());
    must(again.has_value(), "what is written can be read", xml);
    return *again;
  };
  const DiscoInfo once = told_on(*info), twice = told_on(once);
  must(caps_hash(once) == caps_hash(twice), "the hash is the same for all");
  for (const Form& form : info->forms) {
    const auto offer = offer_from(form);
    if (!offer) {
      must(!offer.error().why.empty(), "a refusal says why");
      continue;
    }
    const Offer& one = offer.value();
    must(one.slots >= 1 && one.slots <= kSlotsMax && one.speed >= 0 && one.speed <= kSpeedMax && one.gpus.size() <= 64 && one.tags.size() <= 64, "an offer is in range");
    const auto again = offer_from(to_form(one));
    must(bool(again), "an offer that was read can be told on", again ? std::string() : again.error().text());
    const auto third = offer_from(to_form(again.value()));
    must(third && third.value() == again.value(), "an offer is the same after a journey");
  }
  return 0;
}
