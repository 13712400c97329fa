#include "protocol/disco.h"

#include <gloox/tag.h>

#include <algorithm>

#include "protocol/stanza.h"

namespace souk {

Disco::Disco(XmppLink& link) : link_(link) {
  registrations_.push_back(link_.on_iq("query", ns::info, [this](const gloox::Tag& iq, const gloox::Tag& query) { link_.send(info_answer(iq, query)); }));
  registrations_.push_back(link_.on_iq("query", ns::items, [this](const gloox::Tag& iq, const gloox::Tag& query) { link_.send(items_answer(iq, query)); }));
  set_info("", {});
}

void Disco::set_info(const std::string& node, DiscoInfo info) {
  if (node.empty()) info.features.insert(info.features.end(), {ns::info, ns::items, ns::caps, ns::ping});  // caps: XEP-0115 §7
  std::sort(info.features.begin(), info.features.end());
  info.features.erase(std::unique(info.features.begin(), info.features.end()), info.features.end());  // one twice is ill-formed (XEP-0115 §5.4)
  if (node.empty()) hash_ = caps_hash(info);
  infos_[node] = std::move(info);
}

void Disco::set_items(const std::string& node, std::vector<Item> items) { items_[node] = std::move(items); }

void Disco::add_caps(gloox::Tag& presence) const {
  child(presence, "c", ns::caps, {{"hash", "sha-1"}, {"node", kCapsNode}, {"ver", hash_}});
}

Stanza Disco::info_answer(const gloox::Tag& iq, const gloox::Tag& query) const {
  const std::string& node = query.findAttribute("node");
  // Asked for the hash that we last told, we tell of ourselves; an older hash is no node of ours any more.
  const auto info = infos_.find(node == std::string(kCapsNode) + "#" + hash_ ? std::string() : node);
  if (iq.findAttribute("type") != "get") return error_of(iq, "modify", "bad-request", "service discovery is asked by an iq of type get");
  if (info == infos_.end()) return error_of(iq, "cancel", "item-not-found", "there is no node '" + shortened(node, 128) + "' here");
  auto answer = result_of(iq);
  auto& told = child(*answer, "query", ns::info);
  if (!node.empty()) told.addAttribute("node", node);
  add_info(told, info->second);
  return answer;
}

Stanza Disco::items_answer(const gloox::Tag& iq, const gloox::Tag& query) const {
  const std::string& node = query.findAttribute("node");
  const auto items = items_.find(node);
  if (iq.findAttribute("type") != "get") return error_of(iq, "modify", "bad-request", "service discovery is asked by an iq of type get");
  if (items == items_.end() && !infos_.contains(node))
    return error_of(iq, "cancel", "item-not-found", "there is no node '" + shortened(node, 128) + "' here");
  auto answer = result_of(iq);
  auto& told = child(*answer, "query", ns::items);
  if (!node.empty()) told.addAttribute("node", node);
  if (items != items_.end()) {
    for (const auto& item : items->second) {
      auto& tag = child(told, "item", {}, {{"jid", item.jid.empty() ? iq.findAttribute("to") : item.jid}});
      if (!item.node.empty()) tag.addAttribute("node", printable(item.node));
      if (!item.name.empty()) tag.addAttribute("name", printable(item.name));
    }
  }
  return answer;
}

}  // namespace souk
