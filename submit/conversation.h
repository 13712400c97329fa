// A short conversation with a server, before there is a grid to speak of: log in, ask, leave. Every call runs the loop until its answer is there.
#pragma once
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "protocol/capability.h"
#include "protocol/form.h"
#include "protocol/result.h"
#include "protocol/xmpp_link.h"

namespace souk {

class Conversation {
 public:
  using Clock = std::chrono::steady_clock;
  struct Heard {
    Stanza iq;          // the answer; null: none, or an error
    StanzaError error;  // then
    std::chrono::duration<double, std::milli> took{};
    explicit operator bool() const { return iq != nullptr; }
  };

  explicit Conversation(Account account);
  ~Conversation();
  Conversation(const Conversation&) = delete;

  /// Logs in: one try. Again after it was lost.
  Result<Done> open(std::chrono::milliseconds most = std::chrono::seconds(15));
  bool up() const { return link_->up(); }
  XmppLink& link() { return *link_; }
  const std::string& stream_error() const { return link_->stream_error(); }
  Heard ask(Stanza iq, std::chrono::milliseconds most = std::chrono::seconds(10));
  /// Runs the loop until `ready` or the time is up; says which.
  bool wait(const std::function<bool()>& ready, std::chrono::milliseconds most);
  void close();

  // What one asks often.
  std::optional<DiscoInfo> info(const std::string& jid, std::chrono::milliseconds most = std::chrono::seconds(5));
  /// Of many, asked at once; in the order of `jids`, without what did not come in that time.
  std::vector<std::pair<std::string, std::optional<DiscoInfo>>> infos(const std::vector<std::string>& jids, std::chrono::milliseconds most);
  std::vector<std::string> items(const std::string& jid, std::chrono::milliseconds most = std::chrono::seconds(10));  // addresses; at most 100

 private:
  boost::asio::io_context loop_{1};
  std::unique_ptr<XmppLink> link_;
  std::optional<Error> down_;
};

/// Where a grid is found.
struct GridAddress {
  std::string manager, room;  // as in Profile
};
/// What a manager says of itself in service discovery (docs/PROTOCOL.md §4.2); nothing if it is none.
std::optional<GridAddress> grid_in(const DiscoInfo& info, const std::string& asked);
/// Looks for a manager: at `hint` (a JID), else among what the domain lists.
Result<GridAddress> find_manager(Conversation& server, const std::string& domain, const std::string& hint);

/// One stage of an Ad-Hoc command with a form. Yields the form that came back, or what the answer's note says.
struct Commanded {
  Form form;
  std::string note, note_type, session, status;
};
Result<Commanded> command(Conversation& server, const std::string& to, const std::string& node, const std::optional<Form>& form = std::nullopt, const std::string& session = {});

}  // namespace souk
