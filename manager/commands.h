// Ad-Hoc Commands (XEP-0050): submit, status, results, cancel, workers, why, hold, release, rerun, ban. One handler each, asked either with data forms
// by people's chat clients or with one payload element by programs (docs/PROTOCOL.md).
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <map>
#include <string>
#include <vector>

#include "manager/aside.h"
#include "manager/grid.h"
#include "protocol/disco.h"
#include "protocol/form.h"
#include "protocol/xmpp_link.h"

namespace souk {

class Commands {
 public:
  static constexpr std::chrono::minutes kSessionLasts{10};   // between two stages; clients often just go away
  static constexpr std::size_t kSessionsMax = 1000;          // in all; the oldest makes room
  static constexpr std::size_t kSessionsEach = 30;           // of one person, whose oldest makes room
  static constexpr std::chrono::seconds kUploadLasts{60};    // between two parts of a job; then it is forgotten
  static constexpr std::size_t kAsideFrom = 256u << 10;      // bytes of a job that is read and packed beside the loop
  static constexpr std::uint64_t kRequestsMax = 1024;        // without an answer yet, in all; one owner's: as Space has it
  static constexpr std::size_t kAnswersMax = 16u << 20;      // bytes waiting for the server to read; more, and questions are refused

  struct Rules {
    const Rulebook& rulebook;  // outlives this
    Audit& audit;              // so does this
    std::string room;          // the marketplace, whose names stand for nobody
    std::uint64_t requests_max = MemoryShares(kMemoryMaxDefault).requests;  // bytes that users sent and have no answer for
  };
  /// Lists the commands with `disco` and answers them. All outlive this.
  Commands(boost::asio::io_context& loop, XmppLink& link, Disco& disco, Grid& grid, Rules rules);

  /// Asked first: true if it has answered the command.
  std::function<bool(const gloox::Tag& iq, const gloox::Tag& command, const Asker& asker)> elsewhere = [](const gloox::Tag&, const gloox::Tag&, const Asker&) { return false; };

 private:
  struct Session {
    std::string jid, node;
    std::uint64_t order = 0;
    std::chrono::steady_clock::time_point until;
  };
  class Ticket;  // what a request takes of the spaces below until it is answered
  struct Asked {
    std::shared_ptr<gloox::Tag> iq;
    Asker asker;
    std::shared_ptr<Ticket> ticket;
  };
  struct Upload {  // a job that comes in parts
    std::string jid, part;
    std::shared_ptr<Ticket> ticket;
    std::chrono::steady_clock::time_point until;
  };

  void on_command(const gloox::Tag& iq, const gloox::Tag& command);
  void work_soon();
  void work();
  void perform(const gloox::Tag& iq, const Asker& asker);
  bool may(Asker& asker, const std::string& node, std::string& why) const;
  void refused(const std::string& node, const Asker& asker, const Refusal& refusal);
  std::shared_ptr<gloox::Tag> keep(const gloox::Tag& iq) const;
  void on_payload(const gloox::Tag& iq, const gloox::Tag& command, const gloox::Tag& payload, const Asker& asker);
  void no_room(const gloox::Tag& iq, const Asker& asker, bool never);
  void on_upload(const gloox::Tag& iq, const gloox::Tag& command, wire::SubmitRequest& request, const Asker& asker);
  void on_whole(const gloox::Tag& iq, std::string session, const Asker& asker, const wire::SubmitRequest& request, std::shared_ptr<Ticket> ticket, std::size_t size,
                std::function<Result<Done>(wire::Job&)> read);
  void on_form(const gloox::Tag& iq, const gloox::Tag& command, const Asker& asker);
  void run_form(const gloox::Tag& iq, const std::string& node, const std::string& session, const Form& form, const Asker& asker);
  void ask(const gloox::Tag& iq, const std::string& node, std::string session, const Asker& asker, const Form& given = {}, const std::string& problem = {});

  Session* session(const std::string& id, const std::string& jid, const std::string& node);
  std::string new_session(const std::string& jid, const std::string& node);
  void forget(const std::string& id);
  void expire();

  boost::asio::io_context& loop_;
  XmppLink& link_;
  Grid& grid_;
  Rules rules_;
  std::map<std::string, Session> sessions_;
  std::uint64_t order_ = 0;
  std::map<std::string, Upload> uploads_;
  struct Unanswered {
    Space requests, bytes;
  };
  const std::shared_ptr<Unanswered> open_;  // answers, which give back to it, may outlive this
  Turns<Asked> turns_;
  bool working_ = false;
  std::shared_ptr<Ticket> ticket_;  // of what is being performed
  Registration registration_;
  Aside aside_;  // destroyed first
};

}  // namespace souk
