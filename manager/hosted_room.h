// The hosted marketplace: a room of a stock MUC service (XEP-0045), made, owned and moderated by the manager.
#pragma once
#include <boost/asio/steady_timer.hpp>
#include <map>

#include "manager/marketplace.h"
#include "manager/returning.h"
#include "protocol/disco.h"
#include "protocol/stanza.h"
#include "protocol/xmpp_link.h"

namespace souk {

class HostedRoom final : public Marketplace {
 public:
  /// me: the full JID the manager speaks from. `link` and `disco` outlive this.
  /// admin: who is not banned, whoever asks for it.
  HostedRoom(boost::asio::io_context& loop, XmppLink& link, Disco& disco, std::string room, std::string me, std::function<bool(const std::string& jid)> admin);
  void open() override;
  void close() override;
  void lost() override;
  void set_trouble(const std::string& why) override;
  void ban(const std::string& by, const std::string& jid, const std::string& reason, bool lift, std::function<void(Result<Done>)> then) override;
  void bans(std::function<void(Result<std::vector<std::string>>)> then) override;
  void set_me(std::string me) { me_ = std::move(me); }  // an ordinary account learns its full JID at login

 private:
  Stanza presence() const;
  void say_subject();
  void take(const gloox::Tag& presence);
  void entered(bool created, const std::string& affiliation);
  void configure();
  void again(Error why);
  void ping();
  void await_return();

  boost::asio::io_context& loop_;
  XmppLink& link_;
  Disco& disco_;
  const std::function<bool(const std::string& jid)> admin_;
  std::string room_, me_, nick_ = "manager", trouble_;
  bool inside_ = false, opened_ = false, closed_ = false;
  std::map<std::string, std::string> occupants_;  // nick -> real JID
  Returning returning_;
  boost::asio::steady_timer retry_, self_ping_, grace_;
  int tries_ = 0;
  Registration registration_;
};

}  // namespace souk
