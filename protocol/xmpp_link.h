// The one owner of a gloox client or component. Lives on one io_context, which exactly one thread runs.
#pragma once
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "protocol/result.h"

namespace gloox {
class Tag;
}

namespace souk {

using Stanza = std::unique_ptr<gloox::Tag>;

struct Account {
  std::string jid;       // `user@domain` or `user@domain/resource`; a component: its domain
  std::string password;  // a component: its secret. Never logged
  bool component = false;
  std::string host;  // to dial; empty: the domain
  std::uint16_t port = 5222;
  std::string ca_file;  // PEM; empty: the system's authorities
  std::string proxy = {};  // http://host:port or socks5://host:port; empty: none. Through one all is encrypted, loopback or not
};

/// A stanza error (RFC 6120 §8.3), or one of our own conditions: `timeout` (no answer in time), `disconnected`.
struct StanzaError {
  std::string type, condition, text;
};

/// What came back for a request: the answer stanza, or an error. The tag lives for the length of the call.
struct Answer {
  const gloox::Tag* iq = nullptr;  // type='result'; null on error
  StanzaError error;
  const gloox::Tag* refusal = nullptr;  // the stanza that brought the error, if one did
  explicit operator bool() const { return iq != nullptr; }
};

/// Ends the registration it stands for when destroyed.
class [[nodiscard]] Registration {
 public:
  Registration() = default;
  explicit Registration(std::function<void()> end) : end_(std::move(end)) {}
  Registration(Registration&& other) noexcept : end_(std::exchange(other.end_, nullptr)) {}
  Registration& operator=(Registration&& other) noexcept {
    if (this != &other) { if (end_) end_(); end_ = std::exchange(other.end_, nullptr); }
    return *this;
  }
  ~Registration() { if (end_) end_(); }

 private:
  std::function<void()> end_;
};

class XmppLink {
 public:
  struct Limits {
    std::size_t queue_max = 64u << 20;  // bytes waiting for the server to read; reached: the link is dropped and connects again
    // The pause before connect number n is a random time from 0 to retry_min * 2^n, or to retry_max if that is less ("full jitter"): a thousand
    // workers whose server is started again come back spread over it. n begins anew once a link was up for retry_max.
    std::chrono::milliseconds retry_min{1000}, retry_max{30000};
    bool refused_again = false;         // who was logged in before tries again also when the login is refused: a server that was put back may lack its accounts for a while
    std::uint32_t seed = 0;             // of that randomness; 0: a random one
    int attempts_max = 0;               // connects in a row before giving up for good; 0: never give up
    std::chrono::milliseconds login_max{15000};    // from dialling to logged in; longer: the attempt has failed
    std::chrono::milliseconds silence_max{30000};  // nothing heard for that long, not even the answer to a ping: the link is lost
  };

  /// `loop` outlives the link. Every call, and the destructor, comes from the thread that runs it, or while nobody does.
  XmppLink(boost::asio::io_context& loop, Account account);
  XmppLink(boost::asio::io_context& loop, Account account, Limits limits);
  /// At any time, also from inside a handler. Replies and `done`s that are still owed are dropped.
  ~XmppLink();
  XmppLink(const XmppLink&) = delete;

  /// Logged in; stanzas may be sent.
  std::function<void()> on_up = [] {};
  /// The stream ended or could not be opened. `final`: there will be no other try (wrong password, untrusted certificate, attempts used up).
  std::function<void(const Error& why, bool final)> on_down = [](const Error&, bool) {};

  /// Connects, and again after every loss, until stop(). After a final on_down or stop() it may be called again.
  void start();
  /// Closes the stream politely, after what is queued has left (two seconds at most); `done` is called once, from the loop.
  /// Nothing is delivered any more, requests end as `disconnected`, and on_down is not called for it.
  void stop(std::function<void()> done = [] {});

  /// Another resource of its account, from the next connect on; good to call in on_down.
  void set_resource(const std::string& resource);

  bool up() const;
  /// The stream error (RFC 6120 §4.9.3) that ended the last connection; empty: none did. Good to ask for in on_down.
  const std::string& stream_error() const;
  /// The full JID this link has on the server; a component: as in Account, with no node.
  const std::string& jid() const;
  std::size_t queued() const;  // bytes not yet taken by the kernel
  /// How long ago anything was heard from the server; nothing while the link is down.
  std::optional<std::chrono::milliseconds> quiet() const;
  /// Asks the server for a sign of life. The link does so by itself too, but patiently.
  void ping();

  /// Sends a stanza, or drops it when the link is down. A component's stanza gets `from` when it has none.
  /// What is sent within one turn of the loop leaves in one write.
  void send(Stanza stanza);

  /// Sends an iq get or set under an id of our own. `reply` is called exactly once, from the loop, never from inside request():
  /// with the answer of exactly that peer, or `timeout`, or `disconnected`.
  void request(Stanza iq, std::chrono::milliseconds deadline, std::function<void(const Answer&)> reply);

  /// Every iq get/set whose first child is <name xmlns='xmlns'/> (name "" for any of that namespace). The handler must answer with send().
  /// An iq that nobody takes is answered with service-unavailable, with the right `from`; urn:xmpp:ping is answered by the link.
  Registration on_iq(std::string name, std::string xmlns, std::function<void(const gloox::Tag& iq, const gloox::Tag& payload)> handler);
  Registration on_presence(std::function<void(const gloox::Tag&)> handler);
  Registration on_message(std::function<void(const gloox::Tag&)> handler);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace souk
