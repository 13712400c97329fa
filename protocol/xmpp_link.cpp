// The life of a link:
//
//   idle --start()--> connecting --logged in--> up --lost--> waiting --after a pause--> connecting ...
//     ^                   |                                     |
//     |                   +--failed--> waiting, or idle if another try would not help
//     +--stop(), from any state
//
// `deaf_` is set as soon as a connection is given up: what is left of it in buffers reaches nobody. Connecting, disconnecting and
// deleting the gloox object are posted, never done inside one of its callbacks.
#include "protocol/xmpp_link.h"

#include <gloox/connectionlistener.h>
#include <gloox/error.h>
#include <gloox/tag.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cstdlib>
#include <optional>
#include <random>
#include <utility>
#include <vector>

#include "protocol/asio_connection.h"
#include "protocol/connect_error.h"
#include "protocol/gloox_engine.h"
#include "protocol/payload.h"
#include "protocol/pending_requests.h"
#include "protocol/stanza.h"
#include "protocol/stanza_router.h"
#include "protocol/tls_session.h"
#include "protocol/xml_stream.h"

namespace souk {
namespace asio = boost::asio;
using std::chrono::milliseconds;
using Clock = std::chrono::steady_clock;
namespace {

const std::string kStreams = "http://etherx.jabber.org/streams";
const std::string kTls = "urn:ietf:params:xml:ns:xmpp-tls";
const std::string kSasl = "urn:ietf:params:xml:ns:xmpp-sasl";
constexpr std::size_t kHeldMax = 256;  // stanzas that came between binding and the end of the login; more are dropped

/// gloox's JID after stringprep; the text itself where that is none.
std::string normalized(const std::string& text) {
  const gloox::JID jid(text);
  return jid ? jid.full() : text;
}

/// A SCRAM challenge names how many hashes we are to compute (RFC 5802 §5.1, `i=`): gloox would do any number of them at once.
bool costs_too_much(const std::string& challenge) {
  constexpr long kIterationsMax = 1'000'000;
  const auto text = from_base64(challenge);
  if (!text) return false;
  const std::string& all = text.value();
  for (auto at = all.find("i="); at != all.npos; at = all.find("i=", at + 1))  // gloox takes the first, wherever it stands
    if (std::strtol(all.c_str() + at + 2, nullptr, 10) > kIterationsMax) return true;
  return false;
}

std::string text_in(const gloox::Tag& tag) {
  const auto* const text = tag.findChild("text");
  return text ? text->cdata() : std::string();
}

}  // namespace

class XmppLink::Impl : public std::enable_shared_from_this<Impl>, private gloox::ConnectionListener, private StreamSink {
 public:
  Impl(XmppLink& api, asio::io_context& io, Account account, Limits limits);
  ~Impl() override { engine_.reset(); }

  void start();
  void stop(std::function<void()> done);
  void abandon();
  bool up() const { return state_ == State::up; }
  const std::string& jid() const { return jid_; }
  std::size_t queued() const { return connection_ ? connection_->queued() : 0; }
  void set_resource(const std::string& resource);
  const std::string& stream_error() const { return condition_; }
  std::optional<milliseconds> quiet() const {
    if (state_ != State::up) return std::nullopt;
    return std::chrono::duration_cast<milliseconds>(Clock::now() - last_heard_);
  }
  void ping();
  void send(Stanza stanza);
  void request(Stanza iq, milliseconds deadline, PendingRequests::Reply reply);

  StanzaRouter& router() { return router_; }

 private:
  enum class State { idle, connecting, up, waiting };

  // From the gloox object:
  void opened() override { xml_.restart(); }
  void heard() override { last_heard_ = Clock::now(); }
  void feed(const std::string& bytes) override;
  void broken(const std::string& why) override;

  std::optional<Error> make_engine();
  void connect();
  void fall(Error error, bool final = false);
  void hang_up_later();
  void tell_down(Error error, bool final);
  void end_requests();
  void watch_silence();
  template <class Call>
  void later(Call call);
  std::string where() const { return host_ + ":" + std::to_string(account_.port); }
  std::string doing() const { return (was_up_ ? "lost the connection to " : "cannot connect to ") + where() + " as " + account_.jid; }

  void on_stanza(gloox::Tag& tag, bool cut);
  void log_in_with(gloox::Tag& tag, bool cut);
  void route(const gloox::Tag& tag, bool cut);
  void settle(const gloox::Tag& answer, bool cut);
  bool answers(const std::string& from, const std::string& to) const;

  void onConnect() override;
  void onDisconnect(gloox::ConnectionError reason) override;
  void onResourceBindError(const gloox::Error* error) override;
  void onSessionCreateError(const gloox::Error* error) override;
  bool onTLSConnect(const gloox::CertInfo& info) override { return info.status == gloox::CertOk; }

  XmppLink* api_;  // null once the link is gone
  asio::io_context& io_;
  Account account_;
  const Limits limits_;
  std::string domain_, host_, jid_, own_jid_, own_bare_;  // own_: normalized
  bool tls_ = false;

  std::unique_ptr<GlooxEngine> engine_;
  AsioConnection* connection_ = nullptr;  // the engine owns these two
  TlsSession* session_ = nullptr;
  XmlStream xml_;
  State state_ = State::idle;
  bool deaf_ = true, was_up_ = false, ever_up_ = false, removed_ = false, warned_ = false;
  std::uint64_t generation_ = 0;  // counts connections; what was posted for an older one does nothing
  std::optional<std::pair<Error, bool>> cause_;  // why we gave the connection up, and whether for good
  std::string condition_, condition_text_;       // of the stream error or SASL failure
  std::vector<Stanza> held_;
  int attempts_ = 0;  // connects since the link was last stable
  Clock::time_point up_since_{}, last_heard_{};
  std::minstd_rand random_;
  asio::steady_timer timer_;  // ends the login, the pause or the silence, whichever the state asks for

  PendingRequests requests_;
  StanzaRouter router_;
};

XmppLink::Impl::Impl(XmppLink& api, asio::io_context& io, Account account, Limits limits)
    : api_(&api),
      io_(io),
      account_(std::move(account)),
      limits_(limits),
      jid_(account_.jid),
      xml_(account_.component ? "jabber:component:accept" : "jabber:client",
           {[this](gloox::Tag& header) {
              if (!deaf_) engine_->pass(&header);
            },
            [this](gloox::Tag& tag, bool cut) { on_stanza(tag, cut); },
            [this] {
              if (!deaf_) engine_->pass(nullptr);
            }}),
      random_(limits.seed != 0 ? limits.seed * 2654435761u : std::random_device{}()),  // small numbers as they are begin alike
      timer_(io),
      requests_(io, [this](PendingRequests::Reply reply) {
        call_guarded("reply", [&] { reply({nullptr, {"wait", "timeout", "no answer in time"}}); });
      }),
      router_([this](Stanza stanza) { send(std::move(stanza)); }) {
  const gloox::JID parsed(account_.jid);
  domain_ = parsed.server();
  host_ = account_.host.empty() ? domain_ : account_.host;
  own_jid_ = parsed.full();
  own_bare_ = parsed.bare();
}

void XmppLink::Impl::set_resource(const std::string& resource) {
  gloox::JID jid(account_.jid);
  jid.setResource(resource);
  jid_ = account_.jid = jid.full();
  own_jid_ = jid.full();
  if (engine_) engine_->set_resource(resource);
}

/// Runs `call` from the loop, unless the link is gone by then.
template <class Call>
void XmppLink::Impl::later(Call call) {
  asio::post(io_, [self = shared_from_this(), call = std::move(call)]() mutable {
    if (self->api_) call();
  });
}

std::optional<Error> XmppLink::Impl::make_engine() {
  const std::string what = "cannot log in as '" + account_.jid + "'";
  const gloox::JID jid(account_.jid);
  if (!jid || domain_.empty()) return Error{what, "that is no JID", "write user@domain, or domain for a component"};
  if (account_.port == 0) return Error{what, "port 0", "`port` is usually 5222, for a component 5347"};
  if (account_.component) {
    if (!jid.username().empty()) return Error{what, "a component has no user", "`jid` of a component is its domain"};
    if (account_.password.empty()) return Error{what, "no secret", "set the password file to the component_secret of the server"};
    if (!is_loopback(host_))
      return Error{what, "a component's stream has no TLS (XEP-0114), and " + host_ + " is not this machine",
                   "run the component on the server's machine and set `host` to 127.0.0.1, or use an ordinary account"};
  } else if (!jid.username().empty() && account_.password.empty()) {
    return Error{what, "no password", "set the password file"};
  }
  std::optional<Proxy> proxy;
  if (!account_.proxy.empty()) {
    if (account_.component) return Error{what, "a component is on its server's machine and goes through no proxy", "remove `proxy`"};
    auto read = parse_proxy(account_.proxy);
    if (!read) return read.error();
    proxy = std::move(read.value());
  }
  // What is loopback here is another machine for a proxy.
  tls_ = !account_.component && (!is_loopback(host_) || !account_.ca_file.empty() || proxy);
  TlsSession::Context context;
  if (tls_) {
    auto made = TlsSession::context(account_.ca_file);
    if (!made) return made.error();
    context = std::move(made.value());
  }
  engine_ = account_.component ? GlooxEngine::component(*this, domain_, account_.password) : GlooxEngine::client(*this, jid, account_.password);
  auto& base = engine_->base();
  base.registerConnectionListener(this);
  base.setTls(tls_ ? gloox::TLSRequired : gloox::TLSDisabled);
  // A password is never sent readable. PLUS stays in the list always: without it the channel-binding header would contradict itself.
  base.setSASLMechanisms(gloox::SaslMechScramSha1 | gloox::SaslMechScramSha1Plus | gloox::SaslMechAnonymous |
                         (tls_ ? gloox::SaslMechPlain : 0));
  connection_ = new AsioConnection(io_, &base, host_, account_.port, limits_.queue_max, std::move(proxy));
  base.setConnectionImpl(connection_);
  if (tls_) {
    session_ = new TlsSession(&base, domain_, std::move(context));
    base.setEncryptionImpl(session_);
  }
  return std::nullopt;
}

void XmppLink::Impl::start() {
  if (state_ != State::idle) return;
  state_ = State::waiting;
  attempts_ = 0;
  later([this, generation = ++generation_] {
    if (generation != generation_) return;
    auto error = engine_ ? std::nullopt : make_engine();
    if (!error) return connect();
    engine_.reset();
    state_ = State::idle;
    tell_down(std::move(*error), true);
  });
}

void XmppLink::Impl::connect() {
  state_ = State::connecting;
  const auto generation = ++generation_;
  ++attempts_;
  was_up_ = warned_ = deaf_ = false;
  cause_.reset();
  condition_.clear();
  condition_text_.clear();
  held_.clear();
  timer_.expires_after(limits_.login_max);
  timer_.async_wait([this, generation, weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (!self || error || generation != generation_ || state_ != State::connecting) return;
    fall({doing(), "no login within " + std::to_string(limits_.login_max.count()) + " ms",
          "is it an XMPP server, and does no firewall swallow the packets? check `host` and `port`"});
  });
  engine_->base().connect(false);
}

void XmppLink::Impl::feed(const std::string& bytes) {
  if (deaf_ || xml_.feed(bytes) || deaf_) return;
  broken(xml_.problem());
}

void XmppLink::Impl::broken(const std::string& why) {
  fall({doing(), "what the server sent cannot be used: " + why, "is it an XMPP server? check `host` and `port`; trying again"});
}

/// Gives the present connection up. The rest happens in onDisconnect.
void XmppLink::Impl::fall(Error error, bool final) {
  if (cause_ || state_ == State::idle || state_ == State::waiting) return;
  cause_.emplace(std::move(error), final);
  deaf_ = true;
  hang_up_later();
}

void XmppLink::Impl::hang_up_later() {
  later([this, generation = generation_] {
    if (generation == generation_) engine_->hang_up();
  });
}

void XmppLink::Impl::onDisconnect(gloox::ConnectionError reason) {
  deaf_ = true;
  if (!api_ || (state_ != State::connecting && state_ != State::up)) return;
  if (!cause_) {
    Downfall fall{reason, account_.component, was_up_, tls_, session_ && session_->untrusted(), domain_, account_.jid, host_,
                  account_.port, connection_->problem(), session_ ? session_->problem() : "", condition_, condition_text_};
    auto [error, final] = judge(fall);
    if (ever_up_ && limits_.refused_again && !removed_ && (reason == gloox::ConnAuthenticationFailed || condition_ == "not-authorized")) final = false;
    cause_.emplace(std::move(error), final);
  }
  // What a server says to the sessions of an account that was deleted: Prosody the one, ejabberd the other.
  if (was_up_) removed_ = condition_ == "not-authorized" || (condition_ == "conflict" && condition_text_ == "User removed");
  if (was_up_ && Clock::now() - up_since_ >= limits_.retry_max) attempts_ = 0;
  auto [error, final] = std::move(*cause_);
  if (!final && limits_.attempts_max > 0 && attempts_ >= limits_.attempts_max) {
    final = true;
    error.why += " (attempt " + std::to_string(attempts_) + " of " + std::to_string(limits_.attempts_max) + ")";
  }
  timer_.cancel();
  const auto generation = ++generation_;
  state_ = final ? State::idle : State::waiting;
  if (!final) {
    // All of the pause is random: with part of it fixed a thousand workers would still come in waves.
    const auto doubled = limits_.retry_min * (1LL << std::clamp(attempts_ - 1, 0, 20));
    const auto pause = std::min<milliseconds>(doubled, limits_.retry_max).count();
    timer_.expires_after(milliseconds(std::uniform_int_distribution<long>(0, pause)(random_)));
    timer_.async_wait([this, generation, weak = weak_from_this()](const boost::system::error_code& failed) {
      const auto self = weak.lock();
      if (self && !failed && generation == generation_ && state_ == State::waiting) connect();
    });
  }
  tell_down(std::move(error), final);
  end_requests();
}

void XmppLink::Impl::tell_down(Error error, bool final) {
  later([this, error = std::move(error), final] {
    const auto call = api_->on_down;  // a copy: it may delete the link
    call_guarded("on_down", [&] { call(error, final); });
  });
}

void XmppLink::Impl::end_requests() {
  auto owed = requests_.take_all();
  if (owed.empty()) return;
  later([this, owed = std::move(owed)] {
    for (const auto& reply : owed)
      if (api_) call_guarded("reply", [&] { reply({nullptr, {"wait", "disconnected", "the connection to the server is down"}}); });
  });
}

void XmppLink::Impl::onConnect() {
  const bool secured = !tls_ || (session_ && session_->isSecure());
  if (!engine_->base().authed() || !secured || (!account_.component && !engine_->bound()))
    return fall({doing(), "the server ended the login without " + std::string(secured ? "checking who we are" : "TLS"),
                 "this may be an impostor: check `host` and `port`"}, true);
  state_ = State::up;
  was_up_ = ever_up_ = true;
  up_since_ = last_heard_ = Clock::now();
  if (!account_.component) jid_ = engine_->base().jid().full();
  own_jid_ = normalized(jid_);
  own_bare_ = gloox::JID(jid_).bare();
  timer_.cancel();
  watch_silence();
  const auto call = api_->on_up;  // a copy: it may delete the link
  call_guarded("on_up", [&] { call(); });
  for (const auto& stanza : std::exchange(held_, {}))
    if (!deaf_) route(*stanza, false);
}

/// Wakes when two thirds of the silence are over, to ask for a sign of life, and when all of it is.
void XmppLink::Impl::watch_silence() {
  const auto quiet = Clock::now() - last_heard_;
  if (quiet >= limits_.silence_max)
    return fall({doing(), "nothing heard from the server for " + std::to_string(limits_.silence_max.count()) + " ms", "trying again"});
  const auto ask = limits_.silence_max * 2 / 3;
  if (quiet >= ask) {
    ping();
  }
  timer_.expires_at(last_heard_ + (quiet >= ask ? limits_.silence_max : ask));
  timer_.async_wait([this, generation = generation_, weak = weak_from_this()](const boost::system::error_code& error) {
    const auto self = weak.lock();
    if (self && !error && generation == generation_ && state_ == State::up && !deaf_) watch_silence();
  });
}

/// To a component its own domain, as the server would have to route it back: any byte is a sign of life.
void XmppLink::Impl::ping() {
  auto ping = element("iq", {}, {{"type", "get"}, {"to", domain_}});
  child(*ping, "ping", ns::ping);
  request(std::move(ping), limits_.silence_max, [](const Answer&) {});
}

void XmppLink::Impl::onResourceBindError(const gloox::Error* error) {
  const std::string why = error && !error->text().empty() ? ": " + printable(error->text()).substr(0, 200) : "";
  fall({doing(), "the server refused the resource" + why, "give each program its own resource; trying again"});
}

void XmppLink::Impl::onSessionCreateError(const gloox::Error*) {
  fall({doing(), "the server refused the session", "its log may tell why; trying again"});
}

void XmppLink::Impl::stop(std::function<void()> done) {
  const bool open = state_ == State::connecting || state_ == State::up;
  state_ = State::idle;
  deaf_ = true;
  timer_.cancel();
  ++generation_;
  end_requests();
  later([this, open, done = std::move(done)]() mutable {
    auto finish = [weak = weak_from_this(), done = std::move(done)] {
      if (const auto self = weak.lock(); self && self->api_) call_guarded("done", done);
    };
    if (!connection_) return finish();
    connection_->when_closed(std::move(finish));
    if (open) engine_->hang_up();
  });
}

/// The link is gone; only what gloox still does on the stack keeps this alive.
void XmppLink::Impl::abandon() {
  api_ = nullptr;
  deaf_ = true;
  state_ = State::idle;
  ++generation_;
  timer_.cancel();
  requests_.stop();
  router_.clear();
  asio::post(io_, [self = shared_from_this()] {
    if (self->engine_) self->engine_->hang_up();
    self->engine_.reset();
  });
}

void XmppLink::Impl::on_stanza(gloox::Tag& tag, bool cut) {
  if (deaf_) return;
  const std::string space = tag.xmlns();
  if (space == kStreams && tag.name() == "error") {
    for (const auto* part : tag.children())
      if (part->name() != "text" && condition_.empty()) condition_ = part->name();
    condition_text_ = text_in(tag);
    deaf_ = true;
    return engine_->pass(&tag);
  }
  if (state_ != State::up) return log_in_with(tag, cut);
  if (space.empty()) route(tag, cut);  // all else we never negotiated
}

/// Before the login is complete, gloox gets what the login is made of, and nobody gets anything else: until TLS is verified
/// it may come from anyone.
void XmppLink::Impl::log_in_with(gloox::Tag& tag, bool cut) {
  const std::string& name = tag.name();
  const std::string space = tag.xmlns();
  if (cut) return broken("an excessive <" + printable(name).substr(0, 40) + "/> before the login was complete");
  const bool secured = !tls_ || session_->isSecure();
  const auto restart_after = [&] {  // RFC 6120 §5.4.3.3, §6.4.6: nothing may follow until our next stream header
    engine_->pass(&tag);
    xml_.restart();
  };
  if (account_.component) {
    if (name == "handshake" && space.empty()) return engine_->pass(&tag);
  } else if (space == kTls && !secured) {
    if (name == "proceed") return restart_after();
    if (name == "failure") return engine_->pass(&tag);
  } else if (space == kStreams && name == "features") {
    return engine_->pass(&tag);
  } else if (space == kSasl && secured) {
    if (name == "success") return restart_after();
    if (name == "failure")
      for (const auto* part : tag.children())
        if (part->name() != "text" && condition_.empty()) condition_ = part->name(), condition_text_ = text_in(tag);
    if (name == "challenge" && costs_too_much(tag.cdata())) return broken("a password check that would take too long");
    if (name == "failure" || name == "challenge") return engine_->pass(&tag);
  } else if (space.empty() && secured && engine_->base().authed()) {
    const std::string& type = tag.findAttribute("type");
    const std::string& from = tag.findAttribute("from");
    const bool from_server = from.empty() || bare(from) == own_bare_ || from == domain_;
    if (name == "iq" && (type == "result" || type == "error") && from_server) return engine_->pass(&tag);
    if (engine_->bound() && held_.size() < kHeldMax) {
      held_.emplace_back(tag.clone());
      return;
    }
  }
  if (!std::exchange(warned_, true)) spdlog::warn("ignored before login element={} jid={}", printable(name).substr(0, 40), account_.jid);
}

void XmppLink::Impl::route(const gloox::Tag& tag, bool cut) {
  const std::string& type = tag.findAttribute("type");
  if (tag.name() == "iq" && (type == "result" || type == "error")) return settle(tag, cut);
  router_.route(tag, cut);
}

void XmppLink::Impl::settle(const gloox::Tag& answer, bool cut) {
  const std::string& from = answer.findAttribute("from");
  const std::string& id = answer.findAttribute("id");
  const auto reply = requests_.take(id, [&](const std::string& to) { return answers(from, to); });
  if (!reply) return spdlog::debug("ignored answer id={} from={}", printable(id), printable(from));
  call_guarded("reply", [&] {
    if (cut) reply({nullptr, {"cancel", "policy-violation", "the answer exceeds what one stanza may hold"}});
    else if (answer.findAttribute("type") == "result") reply({&answer, {}});
    else reply({nullptr, error_in(answer), &answer});
  });
}

/// Whether an answer `from` there may settle what was asked `to` there: that very address; the server may leave its own name, or
/// that of the account it speaks for, out (RFC 6120 §8.1.2.1, §10.3.3).
bool XmppLink::Impl::answers(const std::string& from, const std::string& to) const {
  if (from == to) return true;
  const std::string asked = to.empty() ? to : normalized(to);
  const std::string speaker = from.empty() ? from : normalized(from);
  if (asked == speaker) return true;
  if (account_.component) return asked.empty() && speaker == domain_;
  if (speaker.empty()) return asked == own_bare_ || asked == domain_;
  return asked.empty() && (speaker == own_bare_ || speaker == own_jid_ || speaker == domain_);
}

void XmppLink::Impl::send(Stanza stanza) {
  if (!stanza || state_ != State::up || cause_) return;
  if (account_.component && !stanza->hasAttribute("from")) stanza->addAttribute("from", domain_);
  router_.sent(*stanza);
  engine_->base().send(stanza.release());  // gloox takes it
}

void XmppLink::Impl::request(Stanza iq, milliseconds deadline, PendingRequests::Reply reply) {
  if (!iq || state_ != State::up || cause_)
    return later([this, reply = std::move(reply)] {
      call_guarded("reply", [&] { reply({nullptr, {"wait", "disconnected", "the connection to the server is down"}}); });
    });
  const std::string id = requests_.add(iq->findAttribute("to"), deadline, std::move(reply));
  iq->removeAttribute("id");
  iq->addAttribute("id", id);
  send(std::move(iq));
}

XmppLink::XmppLink(asio::io_context& loop, Account account) : XmppLink(loop, std::move(account), Limits{}) {}
XmppLink::XmppLink(asio::io_context& loop, Account account, Limits limits)
    : impl_(std::make_shared<Impl>(*this, loop, std::move(account), limits)) {}
XmppLink::~XmppLink() { impl_->abandon(); }

void XmppLink::start() { impl_->start(); }
void XmppLink::stop(std::function<void()> done) { impl_->stop(std::move(done)); }
bool XmppLink::up() const { return impl_->up(); }
std::optional<std::chrono::milliseconds> XmppLink::quiet() const { return impl_->quiet(); }
void XmppLink::ping() { impl_->ping(); }
void XmppLink::set_resource(const std::string& resource) { impl_->set_resource(resource); }
const std::string& XmppLink::stream_error() const { return impl_->stream_error(); }
const std::string& XmppLink::jid() const { return impl_->jid(); }
std::size_t XmppLink::queued() const { return impl_->queued(); }
void XmppLink::send(Stanza stanza) { impl_->send(std::move(stanza)); }
void XmppLink::request(Stanza iq, milliseconds deadline, std::function<void(const Answer&)> reply) {
  impl_->request(std::move(iq), deadline, std::move(reply));
}
Registration XmppLink::on_iq(std::string name, std::string xmlns, std::function<void(const gloox::Tag&, const gloox::Tag&)> handler) {
  return impl_->router().on_iq(std::move(name), std::move(xmlns), std::move(handler));
}
Registration XmppLink::on_presence(std::function<void(const gloox::Tag&)> handler) { return impl_->router().on_presence(std::move(handler)); }
Registration XmppLink::on_message(std::function<void(const gloox::Tag&)> handler) { return impl_->router().on_message(std::move(handler)); }

}  // namespace souk
