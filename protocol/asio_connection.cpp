#include "protocol/asio_connection.h"

#include <netinet/tcp.h>

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/connect.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <utility>
#include <vector>

namespace souk {
namespace asio = boost::asio;
using tcp = asio::ip::tcp;
using Failure = boost::system::error_code;
namespace {

constexpr std::chrono::seconds kCloseMax{2};  // for the last bytes and the peer's goodbye
// A peer that vanished without a word is noticed after 10 + 3 * 5 s when we are idle, and after 25 s when it acknowledges nothing.
constexpr int kKeepIdleS = 10, kKeepIntervalS = 5, kKeepCount = 3, kUnacknowledgedMaxMs = 25'000;

bool is_local_name(const std::string& host) {
  return host == "localhost" || (host.size() > 10 && host.ends_with(".localhost"));
}

}  // namespace

bool is_loopback(const std::string& host) {
  Failure failure;
  const auto address = asio::ip::make_address(host, failure);
  return failure ? is_local_name(host) : address.is_loopback();
}

// The socket outlives its AsioConnection by as long as the last bytes need. Completion handlers hold the Wire, never the
// connection, so gloox may delete the connection whenever it likes.
//   resolving -> connecting -> (asking the proxy) -> open -> (released: flushing -> half closed) -> closed
struct AsioConnection::Wire : std::enable_shared_from_this<Wire> {
  Wire(asio::io_context& io, AsioConnection& connection)
      : owner(&connection), queue_max(connection.queue_max_), resolver(io), socket(io), deadline(io) {}

  void open(const std::string& host, std::uint16_t port, const std::optional<Proxy>& proxy) {
    if (!proxy) return find(host, port);
    handshake.emplace(*proxy, host, port);
    find(proxy->host, proxy->port);
  }

  void find(const std::string& host, std::uint16_t port) {
    Failure failure;
    const auto address = asio::ip::make_address(host, failure);
    if (!failure) return dial({tcp::endpoint(address, port)});
    if (is_local_name(host))
      return dial({tcp::endpoint(asio::ip::address_v4::loopback(), port), tcp::endpoint(asio::ip::address_v6::loopback(), port)});
    resolver.async_resolve(host, std::to_string(port), [self = shared_from_this()](Failure error, tcp::resolver::results_type found) {
      if (self->closed) return;
      if (error && self->handshake) return self->fail(gloox::ConnConnectionRefused, "the address of the proxy cannot be found: " + error.message());
      if (error) return self->fail(gloox::ConnDnsError, error.message());
      self->dial({found.begin(), found.end()});
    });
  }

  void send(const std::string& bytes) {
    if (closed || overrun) return;
    if (queued() + bytes.size() > queue_max) {
      overrun = true;  // gloox is in the middle of something: tell it later
      asio::post(socket.get_executor(), [self = shared_from_this()] {
        self->fail(gloox::ConnIoError, "the server does not read: over " + std::to_string(self->queue_max >> 10) + " KiB wait for it");
      });
      return;
    }
    pending += bytes;
    if (!std::exchange(write_due, true)) asio::post(socket.get_executor(), [self = shared_from_this()] { self->write(); });
  }
  std::size_t queued() const { return pending.size() + flying.size() - flown; }

  /// Forgets the owner, sends what is queued and hangs up.
  void release() {
    owner = nullptr;
    if (closed) return;
    if (!connected || overrun) return close();
    deadline.expires_after(kCloseMax);
    deadline.async_wait([weak = weak_from_this()](Failure error) {
      if (auto self = weak.lock(); self && !error) self->close();
    });
    if (!write_due) hang_up();
  }

  AsioConnection* owner;
  std::function<void()> on_closed;
  bool closed = false;

 private:
  void dial(std::vector<tcp::endpoint> found) {
    auto endpoints = std::make_shared<std::vector<tcp::endpoint>>(std::move(found));
    asio::async_connect(socket, *endpoints, [self = shared_from_this(), endpoints](Failure error, const tcp::endpoint&) {
      if (self->closed) return;
      if (error) return self->fail(gloox::ConnConnectionRefused, (self->handshake ? "the proxy does not answer: " : "") + error.message());
      self->connected = true;
      self->set_options();
      self->read();
      if (!self->handshake) return self->owner->opened();
      const std::string first = self->handshake->start();
      if (first.empty()) return self->fail(gloox::ConnConnectionRefused, self->handshake->problem());
      self->send(first);
    });
  }
  void received(std::string bytes) {
    if (!handshake) return owner->received(bytes);
    std::string reply;
    const auto state = handshake->feed(bytes, reply);
    if (state == ProxyHandshake::State::failed) return fail(gloox::ConnConnectionRefused, handshake->problem());
    if (!reply.empty()) send(reply);
    if (state != ProxyHandshake::State::open) return;
    bytes = handshake->rest();
    handshake.reset();
    owner->opened();
    if (!bytes.empty() && owner && !closed) owner->received(bytes);
  }
  void set_options() {
    using Level = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPIDLE>;
    using Interval = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPINTVL>;
    using Count = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_KEEPCNT>;
    using Unacknowledged = asio::detail::socket_option::integer<IPPROTO_TCP, TCP_USER_TIMEOUT>;
    Failure ignored;  // a connection without one of these still works
    socket.set_option(tcp::no_delay(true), ignored);
    socket.set_option(asio::socket_base::keep_alive(true), ignored);
    socket.set_option(Level(kKeepIdleS), ignored);
    socket.set_option(Interval(kKeepIntervalS), ignored);
    socket.set_option(Count(kKeepCount), ignored);
    socket.set_option(Unacknowledged(kUnacknowledgedMaxMs), ignored);
    socket.non_blocking(true, ignored);
  }
  // Everything queued in one turn of the loop leaves in one system call.
  void write() {
    if (closed) return;
    if (flown == flying.size()) {
      flying.clear();
      flown = 0;
      flying.swap(pending);
    }
    socket.async_write_some(asio::buffer(flying) + flown, [self = shared_from_this()](Failure error, std::size_t taken) {
      if (self->closed) return;
      if (error) return self->fail(gloox::ConnIoError, error.message());
      self->flown += taken;
      if (self->queued() > 0) return self->write();
      self->flying.clear();
      self->flown = 0;
      self->write_due = false;
      constexpr std::size_t kept = 256 << 10;  // a burst's memory is not held for ever
      if (self->flying.capacity() > kept) self->flying.shrink_to_fit();
      if (self->pending.capacity() > kept) self->pending.shrink_to_fit();
      if (!self->owner) self->hang_up();
    });
  }
  // Waiting first and reading into one buffer per thread spares 64 KiB per connection.
  void read() {
    socket.async_wait(tcp::socket::wait_read, [self = shared_from_this()](Failure error) {
      static thread_local std::array<char, 65536> buffer;
      if (self->closed) return;
      if (error) return self->fail(gloox::ConnIoError, error.message());
      const std::size_t got = self->socket.read_some(asio::buffer(buffer), error);
      if (error == asio::error::eof) return self->fail(gloox::ConnStreamClosed, "the server closed the connection");
      if (error && error != asio::error::would_block) return self->fail(gloox::ConnIoError, error.message());
      if (self->owner && got > 0) self->received(std::string(buffer.data(), got));
      if (!self->closed) self->read();  // `owner` may be gone by now; the rest is then read and thrown away
    });
  }
  void hang_up() {
    Failure ignored;
    socket.shutdown(tcp::socket::shutdown_send, ignored);
  }
  void close() {
    if (std::exchange(closed, true)) return;
    Failure ignored;
    deadline.cancel();
    resolver.cancel();
    socket.close(ignored);
    if (on_closed) asio::post(socket.get_executor(), std::exchange(on_closed, nullptr));
  }
  void fail(gloox::ConnectionError reason, const std::string& why) {
    if (closed) return;
    close();
    if (auto* const lost = std::exchange(owner, nullptr)) lost->lost(reason, why);
  }

  const std::size_t queue_max;
  tcp::resolver resolver;
  tcp::socket socket;
  asio::steady_timer deadline;
  std::optional<ProxyHandshake> handshake;  // while a proxy is asked
  std::string pending, flying;
  std::size_t flown = 0;  // bytes of `flying` that the kernel has
  bool write_due = false, connected = false, overrun = false;
};

AsioConnection::AsioConnection(asio::io_context& io, gloox::ConnectionDataHandler* handler, std::string host, std::uint16_t port,
                               std::size_t queue_max, std::optional<Proxy> proxy)
    : ConnectionBase(handler), io_(io), host_(std::move(host)), port_(port), queue_max_(queue_max), proxy_(std::move(proxy)) {}
AsioConnection::~AsioConnection() { release(); }

std::size_t AsioConnection::queued() const { return wire_ ? wire_->queued() : 0; }

void AsioConnection::when_closed(std::function<void()> done) {
  if (!wire_ || wire_->closed) return asio::post(io_, std::move(done));
  wire_->on_closed = [before = std::exchange(wire_->on_closed, nullptr), done = std::move(done)] {
    if (before) before();
    done();
  };
}

gloox::ConnectionError AsioConnection::connect() {
  if (m_state != gloox::StateDisconnected) return gloox::ConnNoError;
  m_state = gloox::StateConnecting;
  problem_.clear();
  wire_ = std::make_shared<Wire>(io_, *this);
  wire_->open(host_, port_, proxy_);
  return gloox::ConnNoError;
}

bool AsioConnection::send(const std::string& bytes) {
  if (m_state != gloox::StateConnected) return false;
  bytes_out_ += static_cast<long>(bytes.size());
  wire_->send(bytes);
  return true;
}

void AsioConnection::disconnect() { release(); }
void AsioConnection::cleanup() { release(); }
gloox::ConnectionBase* AsioConnection::newInstance() const { return new AsioConnection(io_, m_handler, host_, port_, queue_max_, proxy_); }

void AsioConnection::opened() {
  m_state = gloox::StateConnected;
  m_handler->handleConnect(this);
}
void AsioConnection::received(const std::string& bytes) {
  bytes_in_ += static_cast<long>(bytes.size());
  m_handler->handleReceivedData(this, bytes);
}
void AsioConnection::lost(gloox::ConnectionError reason, const std::string& why) {
  problem_ = why;
  release();
  m_handler->handleDisconnect(this, reason);
}
void AsioConnection::release() {
  m_state = gloox::StateDisconnected;
  if (const auto wire = std::exchange(wire_, nullptr)) wire->release();
}

}  // namespace souk
