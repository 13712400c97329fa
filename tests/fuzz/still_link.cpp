#include "tests/fuzz/still_link.h"

#include <gloox/tag.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <deque>

#include "protocol/stanza.h"
#include "protocol/stanza_router.h"

namespace souk {
namespace fuzz {
namespace {

struct Still {
  struct Request {
    std::string id;
    std::function<void(const Answer&)> reply;
  };
  Still(XmppLink& its, boost::asio::io_context& io, Account account) : api(its), loop(io), jid(std::move(account.jid)) { all.push_back(this); }
  ~Still() { std::erase(all, this); }
  void send(Stanza stanza) {
    if (up) sent.push_back(std::move(stanza));
  }

  static inline std::vector<Still*> all;
  XmppLink& api;
  boost::asio::io_context& loop;
  std::string jid;
  bool up = false;
  std::uint64_t ids = 0;
  std::deque<Request> requests;
  std::vector<Stanza> sent;
  StanzaRouter router{[this](Stanza stanza) { send(std::move(stanza)); }};
};

}  // namespace

std::size_t StillLinks::count() { return Still::all.size(); }

void StillLinks::arrives(std::size_t link, const gloox::Tag& stanza) {
  Still& still = *Still::all.at(link);
  const std::string& type = stanza.findAttribute("type");
  if (stanza.name() != "iq" || (type != "result" && type != "error")) return still.router.route(stanza, false);
  const auto request = std::find_if(still.requests.begin(), still.requests.end(), [&](const auto& one) { return one.id == stanza.findAttribute("id"); });
  if (request == still.requests.end()) return;
  const auto reply = std::move(request->reply);
  still.requests.erase(request);
  reply(type == "result" ? Answer{&stanza, {}} : Answer{nullptr, error_in(stanza)});
}

void StillLinks::rises(std::size_t link) {
  Still& still = *Still::all.at(link);
  if (!std::exchange(still.up, true)) still.api.on_up();
}

void StillLinks::falls(std::size_t link) {
  Still& still = *Still::all.at(link);
  if (!std::exchange(still.up, false)) return;
  for (auto& request : std::exchange(still.requests, {})) request.reply(Answer{nullptr, {"wait", "disconnected", ""}});
  still.api.on_down({"the link is down", "so it goes", ""}, false);
}

std::vector<std::string> StillLinks::waiting(std::size_t link) {
  std::vector<std::string> ids;
  for (const auto& request : Still::all.at(link)->requests) ids.push_back(request.id);
  return ids;
}

std::vector<Stanza> StillLinks::sent(std::size_t link) { return std::exchange(Still::all.at(link)->sent, {}); }

}  // namespace fuzz

class XmppLink::Impl : public fuzz::Still {
 public:
  using Still::Still;
};

XmppLink::XmppLink(boost::asio::io_context& loop, Account account) : XmppLink(loop, std::move(account), Limits{}) {}
XmppLink::XmppLink(boost::asio::io_context& loop, Account account, Limits) : impl_(std::make_shared<Impl>(*this, loop, std::move(account))) {}
XmppLink::~XmppLink() = default;
void XmppLink::start() {}
void XmppLink::stop(std::function<void()> done) {
  impl_->up = false;
  boost::asio::post(impl_->loop, std::move(done));
}
bool XmppLink::up() const { return impl_->up; }
const std::string& XmppLink::jid() const { return impl_->jid; }
std::size_t XmppLink::queued() const { return 0; }
void XmppLink::set_resource(const std::string&) {}
const std::string& XmppLink::stream_error() const {
  static const std::string none;
  return none;
}
void XmppLink::send(Stanza stanza) { impl_->send(std::move(stanza)); }
void XmppLink::request(Stanza iq, std::chrono::milliseconds, std::function<void(const Answer&)> reply) {
  const std::string id = "r" + std::to_string(++impl_->ids);
  iq->addAttribute("id", id);
  if (!impl_->up) return boost::asio::post(impl_->loop, [reply = std::move(reply)] { reply(Answer{nullptr, {"wait", "disconnected", ""}}); });
  impl_->requests.push_back({id, std::move(reply)});
  impl_->send(std::move(iq));
}
Registration XmppLink::on_iq(std::string name, std::string xmlns, std::function<void(const gloox::Tag&, const gloox::Tag&)> handler) {
  return impl_->router.on_iq(std::move(name), std::move(xmlns), std::move(handler));
}
Registration XmppLink::on_presence(std::function<void(const gloox::Tag&)> handler) { return impl_->router.on_presence(std::move(handler)); }
Registration XmppLink::on_message(std::function<void(const gloox::Tag&)> handler) { return impl_->router.on_message(std::move(handler)); }

}  // namespace souk
