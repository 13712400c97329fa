// A link that leads nowhere: what stands on XmppLink runs in one process, without a server. What would arrive is handed in, what is sent is kept.
// It defines XmppLink's members itself, so the real ones are not linked.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "protocol/xmpp_link.h"

namespace souk::fuzz {

/// The links alive, oldest first. Requests end only by arrives() and lose().
struct StillLinks {
  static std::size_t count();
  /// As if its server had sent it.
  static void arrives(std::size_t link, const gloox::Tag& stanza);
  static void rises(std::size_t link);
  static void falls(std::size_t link);
  /// The ids of requests that wait for an answer, oldest first.
  static std::vector<std::string> waiting(std::size_t link);
  /// What it sent since the last call.
  static std::vector<Stanza> sent(std::size_t link);
};

}  // namespace souk::fuzz
