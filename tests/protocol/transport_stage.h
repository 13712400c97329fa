// One loop, one thread, and links that note what happens to them.
#pragma once
#include <gloox/tag.h>
#include <gtest/gtest.h>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "protocol/stanza.h"
#include "protocol/xmpp_link.h"

namespace souk::test {

class Loop {
 public:
  boost::asio::io_context io{1};

  /// Runs the loop until `done` or the time is up; tells which.
  bool until(const std::function<bool()>& done, std::chrono::milliseconds max = std::chrono::seconds(15)) {
    const auto end = std::chrono::steady_clock::now() + max;
    io.restart();
    const auto work = boost::asio::make_work_guard(io);
    while (!done() && std::chrono::steady_clock::now() < end) io.run_one_until(end);
    return done();
  }
  /// Runs it until nothing is due right now.
  void settle() {
    io.restart();
    io.poll();
  }
};

struct Party {
  struct Down {
    Error error;
    bool final;
  };
  std::unique_ptr<XmppLink> link;
  int ups = 0;
  std::vector<Down> downs;
  std::vector<std::string> messages, presences;  // as XML

  Party(Loop& loop, Account account, XmppLink::Limits limits = {}) : link(std::make_unique<XmppLink>(loop.io, std::move(account), limits)) {
    link->on_up = [this] { ++ups; };
    link->on_down = [this](const Error& error, bool final) { downs.push_back({error, final}); };
    registrations_.push_back(link->on_message([this](const gloox::Tag& tag) { messages.push_back(tag.xml()); }));
    registrations_.push_back(link->on_presence([this](const gloox::Tag& tag) { presences.push_back(tag.xml()); }));
  }
  bool gave_up() const { return !downs.empty() && downs.back().final; }
  std::string why() const { return downs.empty() ? "" : downs.back().error.text(); }
  void say(const std::string& to, const std::string& text) {
    auto message = element("message", {}, {{"to", to}, {"type", "chat"}});
    child(*message, "body", {}, {}, text);
    link->send(std::move(message));
  }

 private:
  std::vector<Registration> registrations_;
};

/// Stops the link and waits for it.
inline bool stopped(Loop& loop, XmppLink& link) {
  bool done = false;
  link.stop([&] { done = true; });
  return loop.until([&] { return done; });
}

/// What became of one request.
struct Outcome {
  int calls = 0;
  bool fine = false;
  StanzaError error;
  std::string xml;
  std::function<void(const Answer&)> reply() {
    return [this](const Answer& answer) {
      ++calls;
      fine = static_cast<bool>(answer);
      error = answer.error;
      if (answer.iq) xml = answer.iq->xml();
    };
  }
};

inline Stanza iq(const std::string& type, const std::string& to, const std::string& payload, const std::string& xmlns) {
  auto made = element("iq", {}, {{"type", type}});
  if (!to.empty()) made->addAttribute("to", to);
  child(*made, payload, xmlns);
  return made;
}

}  // namespace souk::test
