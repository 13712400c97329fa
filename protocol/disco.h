// Answers service discovery (XEP-0030) for one link.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "protocol/capability.h"
#include "protocol/xmpp_link.h"

namespace souk {

class Disco {
 public:
  struct Item {
    std::string jid, node, name;  // jid empty: the address that was asked
  };
  /// `link` outlives this.
  explicit Disco(XmppLink& link);

  /// What disco#info says for a node; "" is the entity itself. The features disco#info, disco#items and ping are added.
  void set_info(const std::string& node, DiscoInfo info);
  void set_items(const std::string& node, std::vector<Item> items);
  /// The XEP-0115 hash of the entity itself; its node is kCapsNode#hash and is answered too.
  const std::string& hash() const { return hash_; }
  void add_caps(gloox::Tag& presence) const;

  /// What the link is given to send for a question: a result, item-not-found (XEP-0030 §7) or bad-request.
  Stanza info_answer(const gloox::Tag& iq, const gloox::Tag& query) const;
  Stanza items_answer(const gloox::Tag& iq, const gloox::Tag& query) const;

 private:

  XmppLink& link_;
  std::map<std::string, DiscoInfo> infos_;
  std::map<std::string, std::vector<Item>> items_;
  std::string hash_;
  std::vector<Registration> registrations_;
};

}  // namespace souk
