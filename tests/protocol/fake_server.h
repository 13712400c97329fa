// A server on loopback that says what its script tells it to, on the loop of the test.
#pragma once
#include <array>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tests/protocol/transport_stage.h"

namespace souk::test {

class FakeServer {
 public:
  using tcp = boost::asio::ip::tcp;
  struct Connection : std::enable_shared_from_this<Connection> {
    explicit Connection(tcp::socket accepted) : socket(std::move(accepted)) {}
    tcp::socket socket;
    std::string received, unread;  // all of it; what the script has not consumed yet
    std::array<char, 65536> buffer{};
    bool open = true, deaf = false;
    int step = 0;  // for the script

    void say(const std::string& bytes) {
      if (!open) return;
      boost::system::error_code ignored;
      boost::asio::write(socket, boost::asio::buffer(bytes), ignored);  // short enough for the kernel to take at once
    }
    void hang_up() {
      boost::system::error_code ignored;
      open = false;
      socket.close(ignored);
    }
    /// Consumes what came up to and with `text`, if it came.
    bool heard(const std::string& text) {
      const auto at = unread.find(text);
      if (at == std::string::npos) return false;
      unread.erase(0, at + text.size());
      return true;
    }
  };
  using Script = std::function<void(Connection&)>;

  /// `script` is called when a connection opens and whenever more came over it.
  FakeServer(Loop& loop, Script script) : loop_(loop), script_(std::move(script)), acceptor_(loop.io, {boost::asio::ip::address_v4::loopback(), 0}) {
    accept();
  }
  ~FakeServer() {
    for (const auto& connection : connections) connection->hang_up();
  }
  std::uint16_t port() const { return acceptor_.local_endpoint().port(); }
  std::vector<std::shared_ptr<Connection>> connections;
  std::vector<std::chrono::steady_clock::time_point> opened;
  Connection& last() { return *connections.back(); }
  void set_script(Script script) { script_ = std::move(script); }

  Account component() const { return {"grid.test", "secret", true, "127.0.0.1", port(), ""}; }
  Account client(const std::string& ca_file = {}) const { return {"ada@test", "pw", false, "127.0.0.1", port(), ca_file}; }
  Account anonymous() const { return {"test", "", false, "127.0.0.1", port(), ""}; }

 private:
  void accept() {
    acceptor_.async_accept([this](const boost::system::error_code& error, tcp::socket socket) {
      if (error) return;
      opened.push_back(std::chrono::steady_clock::now());
      connections.push_back(std::make_shared<Connection>(std::move(socket)));
      const auto connection = connections.back();
      script_(*connection);
      read(connection);
      accept();
    });
  }
  void read(const std::shared_ptr<Connection>& connection) {
    if (!connection->open || connection->deaf) return;
    connection->socket.async_read_some(boost::asio::buffer(connection->buffer), [this, connection](const boost::system::error_code& error, std::size_t got) {
      if (error) return connection->hang_up();
      connection->received.append(connection->buffer.data(), got);
      connection->unread.append(connection->buffer.data(), got);
      script_(*connection);
      read(connection);
    });
  }
  Loop& loop_;
  Script script_;
  tcp::acceptor acceptor_;
};

inline std::string header(const std::string& xmlns) {
  return "<?xml version='1.0'?><stream:stream xmlns='" + xmlns +
         "' xmlns:stream='http://etherx.jabber.org/streams' id='s1' from='test' version='1.0'>";
}

/// Lets any component in, then does as `after` says.
inline FakeServer::Script component_login(FakeServer::Script after = [](FakeServer::Connection&) {}) {
  return [after = std::move(after)](FakeServer::Connection& connection) {
    if (connection.step == 0 && connection.heard("<stream:stream")) connection.say(header("jabber:component:accept")), connection.step = 1;
    if (connection.step == 1 && connection.heard("</handshake>")) connection.say("<handshake/>"), connection.step = 2;
    if (connection.step >= 2) after(connection);
  };
}

/// Lets an anonymous client in as `ada@test/desk`; `between` is said after the resource is bound, before the login is complete.
inline FakeServer::Script anonymous_login(std::string between = {}) {
  return [between](FakeServer::Connection& connection) {
    const std::string client = header("jabber:client");
    const auto id = [&] {
      const auto at = connection.received.rfind("id='");
      return connection.received.substr(at + 4, connection.received.find('\'', at + 4) - at - 4);
    };
    if (connection.step == 0 && connection.heard("<stream:stream"))
      connection.say(client + "<stream:features><mechanisms xmlns='urn:ietf:params:xml:ns:xmpp-sasl'><mechanism>ANONYMOUS</mechanism>"
                              "</mechanisms></stream:features>"), connection.step = 1;
    if (connection.step == 1 && connection.heard("<auth"))
      connection.say("<success xmlns='urn:ietf:params:xml:ns:xmpp-sasl'/>"), connection.step = 2;
    if (connection.step == 2 && connection.heard("<stream:stream"))
      connection.say(client + "<stream:features><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/>"
                              "<session xmlns='urn:ietf:params:xml:ns:xmpp-session'/></stream:features>"), connection.step = 3;
    if (connection.step == 3 && connection.heard("xmpp-bind"))
      connection.say("<iq type='result' id='" + id() + "'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'><jid>ada@test/desk</jid></bind></iq>" + between),
          connection.step = 4;
    if (connection.step == 4 && connection.heard("xmpp-session"))
      connection.say("<iq type='result' id='" + id() + "'/>"), connection.step = 5;
  };
}

}  // namespace souk::test
