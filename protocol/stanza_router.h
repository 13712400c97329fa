// Which handler gets which stanza, and what is answered when there is none. Knows no connection.
#pragma once
#include <spdlog/spdlog.h>

#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "protocol/xmpp_link.h"

namespace souk {

/// Calls what belongs to others: nothing they throw gets further than here. False if they threw.
template <class Call>
bool call_guarded(const char* kind, Call&& call) {
  try {
    call();
    return true;
  } catch (const std::exception& error) {
    spdlog::error("handler failed kind={} why={}", kind, error.what());
  } catch (...) {
    spdlog::error("handler failed kind={} why=unknown", kind);
  }
  return false;
}

class StanzaRouter {
 public:
  using IqHandler = std::function<void(const gloox::Tag& iq, const gloox::Tag& payload)>;
  using TagHandler = std::function<void(const gloox::Tag&)>;

  explicit StanzaRouter(std::function<void(Stanza)> send);

  /// The newest registration for an element gets it; `name` "" is asked after the exact name.
  Registration on_iq(std::string name, std::string xmlns, IqHandler handler);
  Registration on_presence(TagHandler handler) { return add(&State::presence, std::move(handler)); }
  Registration on_message(TagHandler handler) { return add(&State::message, std::move(handler)); }

  /// A presence, a message or an iq get or set. Handlers may come and go meanwhile, and this may be cleared.
  /// `cut`: it was too large to be read whole, so that it can only be refused.
  void route(const gloox::Tag& stanza, bool cut);
  /// To be told of every stanza sent, so that a handler that answers and then throws does not answer twice.
  void sent(const gloox::Tag& stanza);
  /// Forgets all handlers; also for a round of calls that is under way.
  void clear();

 private:
  struct Entry {
    TagHandler call;
    bool ended = false;
  };
  using Entries = std::vector<std::shared_ptr<Entry>>;
  struct State {
    std::map<std::pair<std::string, std::string>, std::vector<std::shared_ptr<IqHandler>>> iq;
    Entries presence, message;
  };
  Registration add(Entries State::*list, TagHandler handler);
  void route_iq(const gloox::Tag& iq, bool cut);
  void refuse(const gloox::Tag& iq, const std::string& type, const std::string& condition, const std::string& text);

  const std::function<void(Stanza)> send_;
  const std::shared_ptr<State> state_ = std::make_shared<State>();  // registrations may outlive the router
  struct Asked {
    const gloox::Tag& iq;
    bool answered = false;
  };
  Asked* asked_ = nullptr;  // the iq whose handler is running
};

}  // namespace souk
