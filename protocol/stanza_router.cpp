#include "protocol/stanza_router.h"

#include <gloox/tag.h>

#include "protocol/stanza.h"

namespace souk {

StanzaRouter::StanzaRouter(std::function<void(Stanza)> send) : send_(std::move(send)) {}

Registration StanzaRouter::on_iq(std::string name, std::string xmlns, IqHandler handler) {
  const auto key = std::make_pair(std::move(name), std::move(xmlns));
  const auto entry = std::make_shared<IqHandler>(std::move(handler));
  state_->iq[key].push_back(entry);
  return Registration([weak = std::weak_ptr(state_), key, entry] {
    const auto state = weak.lock();
    if (!state) return;
    const auto found = state->iq.find(key);
    if (found == state->iq.end()) return;
    std::erase(found->second, entry);
    if (found->second.empty()) state->iq.erase(found);
  });
}

Registration StanzaRouter::add(Entries State::*list, TagHandler handler) {
  const auto entry = std::make_shared<Entry>(Entry{std::move(handler)});
  ((*state_).*list).push_back(entry);
  return Registration([weak = std::weak_ptr(state_), list, entry] {
    entry->ended = true;
    if (const auto state = weak.lock()) std::erase((*state).*list, entry);
  });
}

void StanzaRouter::clear() {
  for (auto* list : {&state_->presence, &state_->message}) {
    for (const auto& entry : *list) entry->ended = true;
    list->clear();
  }
  state_->iq.clear();
}

void StanzaRouter::route(const gloox::Tag& stanza, bool cut) {
  const std::string& name = stanza.name();
  if (name == "iq") return route_iq(stanza, cut);
  if (name != "presence" && name != "message") return;
  if (cut) return spdlog::debug("dropped {} from={} why=excessive", name, printable(stanza.findAttribute("from")));
  const auto entries = name == "presence" ? state_->presence : state_->message;  // a copy: they may come and go meanwhile
  for (const auto& entry : entries)
    if (!entry->ended) call_guarded(name.c_str(), [&] { entry->call(stanza); });
}

void StanzaRouter::route_iq(const gloox::Tag& iq, bool cut) {
  const std::string& type = iq.findAttribute("type");
  if (type == "result" || type == "error") return;
  if (type != "get" && type != "set") return refuse(iq, "modify", "bad-request", "an iq is get, set, result or error");
  if (cut) return refuse(iq, "modify", "policy-violation", "too deep, too many elements or too large");
  if (iq.children().empty()) return refuse(iq, "modify", "bad-request", "an iq of that type holds one element");
  const gloox::Tag& payload = *iq.children().front();
  const std::string space = payload.xmlns();
  auto found = state_->iq.find({payload.name(), space});
  if (found == state_->iq.end()) found = state_->iq.find({std::string(), space});
  if (found != state_->iq.end()) {
    const auto handler = found->second.back();  // held: it may end itself
    Asked asked{iq};
    auto* const outer = std::exchange(asked_, &asked);
    const bool fine = call_guarded("iq", [&] { (*handler)(iq, payload); });
    asked_ = outer;
    if (!fine && !asked.answered) refuse(iq, "wait", "internal-server-error", "it could not be handled");
    return;
  }
  if (space == ns::ping && payload.name() == "ping" && type == "get") return send_(result_of(iq));
  refuse(iq, "cancel", "service-unavailable",
         "nothing here answers <" + shortened(payload.name(), 60) + " xmlns='" + shortened(space, 120) + "'/>");
}

void StanzaRouter::refuse(const gloox::Tag& iq, const std::string& type, const std::string& condition, const std::string& text) {
  send_(error_of(iq, type, condition, text));
}

void StanzaRouter::sent(const gloox::Tag& stanza) {
  if (asked_ && stanza.name() == "iq" && stanza.findAttribute("id") == asked_->iq.findAttribute("id") &&
      stanza.findAttribute("to") == asked_->iq.findAttribute("from"))
    asked_->answered = true;
}

}  // namespace souk
