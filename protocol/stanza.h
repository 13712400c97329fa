// Small builders and readers of XML stanzas on gloox::Tag. No state.
#pragma once
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "protocol/capability.h"
#include "protocol/form.h"
#include "protocol/xmpp_link.h"

namespace gloox {
class Tag;
}
namespace google::protobuf {
class MessageLite;
}

namespace souk {

namespace ns {
inline const std::string task = "urn:souk:task:1", job = "urn:souk:job:1", grid = "urn:souk:grid:1", form = "jabber:x:data",
                         commands = "http://jabber.org/protocol/commands", info = "http://jabber.org/protocol/disco#info",
                         items = "http://jabber.org/protocol/disco#items", muc = "http://jabber.org/protocol/muc",
                         muc_user = "http://jabber.org/protocol/muc#user", muc_owner = "http://jabber.org/protocol/muc#owner",
                         muc_admin = "http://jabber.org/protocol/muc#admin", caps = "http://jabber.org/protocol/caps", ping = "urn:xmpp:ping",
                         stanzas = "urn:ietf:params:xml:ns:xmpp-stanzas";
}

using TagAttributes = std::initializer_list<std::pair<std::string, std::string>>;

/// A stanza or an element of its own.
Stanza element(const std::string& name, const std::string& xmlns = {}, TagAttributes attributes = {});
/// A child of `parent`, which owns it.
gloox::Tag& child(gloox::Tag& parent, const std::string& name, const std::string& xmlns = {}, TagAttributes attributes = {}, const std::string& text = {});

/// The answer to an iq: to/from swapped, same id.
Stanza result_of(const gloox::Tag& iq);
/// A refusal: error type (cancel, modify, auth, wait), condition (RFC 6120 §8.3.3) and a text for people.
Stanza error_of(const gloox::Tag& stanza, const std::string& type, const std::string& condition, const std::string& text = {});
StanzaError error_in(const gloox::Tag& stanza);

// printable() for text of foreign origin is in form.h. The builders here pass every text and attribute value through it, since gloox
// silently leaves out what XML cannot carry.

/// An element that carries a message (docs/PROTOCOL.md §7).
gloox::Tag& add_payload(gloox::Tag& parent, const std::string& name, const std::string& xmlns, const google::protobuf::MessageLite& message, TagAttributes attributes = {});
/// Reads one; fails as decode() does, and on an encoding other than zlib.
Result<Done> payload_in(const gloox::Tag& element, google::protobuf::MessageLite& message);

void add_form(gloox::Tag& parent, const Form& form);
/// The first form in `parent`; bounded: 256 fields, 100,000 values, 4 MiB in all. Null form (no fields) when there is none.
Result<Form> form_in(const gloox::Tag& parent);

void add_info(gloox::Tag& query, const DiscoInfo& info);
DiscoInfo info_in(const gloox::Tag& query);

std::string bare(const std::string& jid);
std::string domain_of(const std::string& jid);
std::string resource_of(const std::string& jid);

}  // namespace souk
