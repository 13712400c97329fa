// The served marketplace: the manager's component answers as the room (XEP-0045) itself. What the room does is served_market's; this speaks for it.
#pragma once
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <string>
#include <vector>

#include "manager/marketplace.h"
#include "manager/served_market.h"
#include "protocol/disco.h"
#include "protocol/xmpp_link.h"

namespace souk {

class ServedRoom final : public Marketplace {
 public:
  struct Setup {
    std::string room;     // bare JID, on the component's domain
    std::string manager;  // full JID
    std::function<bool(const std::string& jid)> admin, worker;  // who may be one
    std::map<std::string, std::uint64_t> facts;  // out of the store: on_fact of earlier lives
  };
  /// `link` and `disco` outlive this. What `disco` knew before is still answered, but for the room.
  ServedRoom(boost::asio::io_context& loop, XmppLink& link, Disco& disco, Setup setup);
  void open() override;
  void close() override;
  void lost() override;
  void set_trouble(const std::string& why) override;
  void ban(const std::string& by, const std::string& jid, const std::string& reason, bool lift, std::function<void(Result<Done>)> then) override;
  void bans(std::function<void(Result<std::vector<std::string>>)> then) override { then(std::vector<std::string>(market_.bans().begin(), market_.bans().end())); }
  /// What an admin did in the room itself: `ban`, `unban`, `kick`, `drain`, `undrain`; to whom.
  std::function<void(const std::string& by, const std::string& what, const std::string& whom, bool done)> on_admin = [](const auto&, const auto&, const auto&, bool) {};
  /// Who is in and who is banned, to be kept beyond this life; value 0: to be forgotten. always: also by a manager that was stopped.
  std::function<void(const std::string& fact, std::uint64_t value, bool always)> on_fact = [](const std::string&, std::uint64_t, bool) {};
  /// Calls back once that is on disk.
  std::function<void(std::function<void()>)> commit = [](std::function<void()> then) { then(); };
  /// An admin wants that worker to get nothing more, or wants it back.
  std::function<void(const std::string& jid, bool drained)> on_drain = [](const std::string&, bool) {};

 private:
  using Stanza = souk::Stanza;
  /// Says what came of it; the stanza in hand is refused if need be. False: it was.
  bool tell(const served::Event& event, const gloox::Tag* stanza = nullptr);
  souk::Stanza stanza_of(const served::Show& show) const;
  /// It comes in, and in the same two stanzas both sides say who they are. False: not so.
  bool greet(const served::Show& show, const gloox::Tag* said);
  void take_presence(const gloox::Tag& presence);
  void take_message(const gloox::Tag& message);
  void take_ping(const gloox::Tag& iq);
  void take_info(const gloox::Tag& iq, const gloox::Tag& query);
  void take_items(const gloox::Tag& iq, const gloox::Tag& query);
  void take_admin(const gloox::Tag& iq, const gloox::Tag& query);
  void take_owner(const gloox::Tag& iq, const gloox::Tag& query);
  void list(const gloox::Tag& iq, const gloox::Tag& item);
  bool is_room(const gloox::Tag& stanza) const;
  void wake();

  XmppLink& link_;
  Disco& disco_;
  const std::string room_, domain_;
  std::string refused_;  // why, when tell() last said no
  served::Market market_;
  std::map<std::string, std::string> kept_;  // JID -> nick, of the facts that the store has
  boost::asio::steady_timer wake_;
  std::vector<Registration> registrations_;
};

}  // namespace souk
