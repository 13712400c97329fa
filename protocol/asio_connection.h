// A gloox transport on Boost.Asio: one io_context thread drives any number of gloox clients and components.
// Every call must come from that thread; other threads use asio::post. gloox's own connection blocks in send and connect, and
// aborts above file descriptor 1023.
#pragma once
#include <gloox/connectionbase.h>
#include <gloox/connectiondatahandler.h>

#include <boost/asio/io_context.hpp>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "protocol/proxy.h"

namespace souk {

/// Whether that host is this machine for certain: 127.0.0.0/8, ::1, `localhost` and names below it (RFC 6761 §6.3).
/// Such names are dialled as 127.0.0.1 and ::1 without asking any name server.
bool is_loopback(const std::string& host);

class AsioConnection final : public gloox::ConnectionBase {
 public:
  /// queue_max: bytes that may wait for the kernel to take them; one more and the connection is lost.
  /// The address is kept here and not in ConnectionBase: ClientBase::setServer() would reset its port to -1.
  /// proxy: dialled instead, and asked for a way to host and port before the handler hears of a connection
  AsioConnection(boost::asio::io_context& io, gloox::ConnectionDataHandler* handler, std::string host, std::uint16_t port,
                 std::size_t queue_max, std::optional<Proxy> proxy = std::nullopt);
  ~AsioConnection() override;
  AsioConnection(const AsioConnection&) = delete;

  /// Bytes not yet taken by the kernel.
  std::size_t queued() const;
  /// Why the last connection was lost or could not be made, for people.
  const std::string& problem() const { return problem_; }
  /// Calls `done`, from the loop, when the connection that is open now has sent its last byte and is closed; soon, if none is open.
  void when_closed(std::function<void()> done);

  /// Starts resolving; success and failure both arrive later, from the loop. There is no time limit here: disconnect() ends it.
  gloox::ConnectionError connect() override;
  bool send(const std::string& bytes) override;
  /// Silent by contract: gloox itself tells the listeners after calling this. What is queued still leaves, for at most two seconds.
  void disconnect() override;
  void cleanup() override;
  gloox::ConnectionError recv(int) override { return gloox::ConnNoError; }  // the loop reads
  gloox::ConnectionError receive() override { return gloox::ConnNoError; }
  void getStatistics(long& in, long& out) override { in = bytes_in_, out = bytes_out_; }
  gloox::ConnectionBase* newInstance() const override;

 private:
  struct Wire;
  void opened();
  void received(const std::string& bytes);
  void lost(gloox::ConnectionError reason, const std::string& why);
  void release();

  boost::asio::io_context& io_;
  const std::string host_;
  const std::uint16_t port_;
  const std::size_t queue_max_;
  const std::optional<Proxy> proxy_;
  std::shared_ptr<Wire> wire_;
  std::string problem_;
  long bytes_in_ = 0, bytes_out_ = 0;
};

}  // namespace souk
