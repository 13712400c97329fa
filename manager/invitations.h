// Invitations: the commands `invite`, `invitations`, `revoke` and `join` (docs/PROTOCOL.md §6.16). An invitation is an account on the server that the
// manager answers one command only; the accounts are made and taken away by the server's own administration commands (XEP-0133).
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "manager/audit.h"
#include "manager/grid.h"
#include "manager/invitation_book.h"
#include "protocol/form.h"
#include "protocol/xmpp_link.h"

namespace souk {

class Invitations {
 public:
  static constexpr std::size_t kJoiningMax = 200;  // accounts being made at a time; more are told to try again

  struct Setup {
    std::filesystem::path file;          // what the book is kept in, 0600
    std::string domain, manager, room;   // where accounts are made; what those who come are told
    bool component = false;              // then everything is sent from `manager`
    std::function<std::string(const std::string& jid)> taken;  // why that account is somebody's, though the server may not have it; empty: it is nobody's
  };
  /// Reads the book. fails: if it is there and cannot be read
  static Result<std::unique_ptr<Invitations>> open(boost::asio::io_context& loop, XmppLink& link, Audit& audit, Setup setup);
  Invitations(boost::asio::io_context& loop, XmppLink& link, Audit& audit, Setup setup, InvitationBook book);

  /// Answers the command if it is one of these, or if who asks may ask for nothing else. Else false.
  bool command(const gloox::Tag& iq, const gloox::Tag& command, const Asker& asker);
  /// The link is up: what ended meanwhile is removed.
  void opened() { clean(); }
  /// Whoever is banned comes in no more by the invitation that made its account.
  void banned(const std::string& jid);

 private:
  using Told = std::function<void(const std::optional<Error>&)>;
  void invite(const gloox::Tag& iq, const Form& form, const Asker& asker);
  void list(const gloox::Tag& iq, const Form& form, const Asker& asker);
  void revoke(const gloox::Tag& iq, const Form& form, const Asker& asker);
  void join(const gloox::Tag& iq, const Form& form, const Asker& asker, const std::string& id);
  void clean();
  void tick();

  /// One of the server's administration commands, both its stages.
  void administrate(const std::string& what, Form form, Told told);
  void add_account(const std::string& name, const std::string& password, Told told);
  void delete_accounts(std::vector<std::string> names, Told told);

  void answer(const gloox::Tag& iq, const Form& form, const std::string& status = "completed");
  void refuse(const gloox::Tag& iq, const std::string& why);
  void refuse(const gloox::Tag& iq, const Asker& asker, const std::string& why);
  void remove(const std::string& id);
  Result<Done> save();

  boost::asio::io_context& loop_;
  XmppLink& link_;
  Audit& audit_;
  const Setup setup_;
  InvitationBook book_;
  boost::asio::steady_timer timer_;
  std::set<std::string> removing_;
  std::size_t joining_ = 0;
  Paces paces_;  // of invitations
};

}  // namespace souk
