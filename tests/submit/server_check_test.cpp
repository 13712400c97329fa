#include "submit/server_check.h"

#include <gtest/gtest.h>
#include <sys/socket.h>

#include <atomic>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <thread>

namespace souk {
namespace {

using Level = Finding::Level;

TEST(ServerCheck, WarnsBeforeACertificateEnds) {
  EXPECT_EQ(judge_days(90).level, Level::ok);
  EXPECT_EQ(judge_days(13).level, Level::warning);
  EXPECT_EQ(judge_days(-1).level, Level::wrong);
}

TEST(ServerCheck, PasswordsInTheClearAreWrong) {
  EXPECT_EQ(judge_mechanisms({}, {"SCRAM-SHA-1", "PLAIN"}).level, Level::ok);
  EXPECT_EQ(judge_mechanisms({"SCRAM-SHA-1"}, {"SCRAM-SHA-1"}).level, Level::ok);
  EXPECT_EQ(judge_mechanisms({"PLAIN"}, {"SCRAM-SHA-1"}).level, Level::wrong);
  EXPECT_EQ(judge_mechanisms({}, {"PLAIN"}).level, Level::warning);
  EXPECT_EQ(judge_mechanisms({}, {"SCRAM-SHA-512", "EXTERNAL"}).level, Level::wrong);
  EXPECT_EQ(judge_mechanisms({}, {}).level, Level::wrong);
}

TEST(ServerCheck, TellsUntunedSocketsFromAFarServer) {
  EXPECT_EQ(judge_round_trip(0.5, 4, 50'000).level, Level::ok);
  EXPECT_EQ(judge_round_trip(80, 200, 50'000).level, Level::ok) << "far away, but steady";
  const auto untuned = judge_round_trip(0.2, 9, 50'000);
  EXPECT_EQ(untuned.level, Level::warning);
  EXPECT_EQ(judge_round_trip(0.2, 1.9, 50'000).level, Level::ok) << "a tuned one";
  EXPECT_NE(untuned.remedy.find("network_settings"), std::string::npos);
  EXPECT_EQ(judge_round_trip(0.7, 5100, 50'000).level, Level::wrong) << "a limit of 10 KiB a second";
}

TEST(ServerCheck, StanzasOfAGridMustPass) {
  EXPECT_EQ(judge_stanza(400'000, 0).level, Level::ok);
  EXPECT_EQ(judge_stanza(140'000, 400'000).level, Level::warning);
  EXPECT_EQ(judge_stanza(50'000, 140'000).level, Level::wrong);
}

TEST(ServerCheck, AClockIsJudgedByWhatIsCertain) {
  EXPECT_EQ(judge_clock(1.9, 0.5).level, Level::ok);
  EXPECT_EQ(judge_clock(-30, 0.5).level, Level::warning);
  EXPECT_NE(judge_clock(-30, 0.5).what.find("behind"), std::string::npos);
  EXPECT_EQ(judge_clock(3600, 0.5).level, Level::wrong);
  EXPECT_EQ(judge_clock(4, 3).level, Level::ok) << "a slow answer proves nothing";
}

/// Takes one connection, says `first`, says to go on when it is asked for TLS, and then sends a byte of `text` every few milliseconds, again and again, as long as it lives.
class Dripping {
 public:
  Dripping(const std::string& first, std::string text)
      : text_(std::move(text)), listener_(loop_, {boost::asio::ip::address_v4::loopback(), 0}), thread_([this, first] {
          boost::system::error_code failed;
          auto socket = listener_.accept(failed);
          ::send(socket.native_handle(), first.data(), first.size(), MSG_NOSIGNAL);
          if (first.ends_with("</stream:features>")) {
            char byte = 0;
            for (std::string asked; !asked.ends_with("<starttls") && ::recv(socket.native_handle(), &byte, 1, 0) == 1;) asked += byte;
            const std::string go = "<proceed xmlns='urn:ietf:params:xml:ns:xmpp-tls'/>";
            ::send(socket.native_handle(), go.data(), go.size(), MSG_NOSIGNAL);
          }
          for (std::size_t at = 0; !over_ && !failed; at = (at + 1) % text_.size()) {
            ::send(socket.native_handle(), &text_[at], 1, MSG_NOSIGNAL);
            std::this_thread::sleep_for(std::chrono::milliseconds(5));
          }
        }) {}
  ~Dripping() {
    over_ = true;
    ::shutdown(listener_.native_handle(), SHUT_RDWR);
    thread_.join();
  }
  std::uint16_t port() const { return listener_.local_endpoint().port(); }

 private:
  const std::string text_;
  std::atomic<bool> over_ = false;
  boost::asio::io_context loop_;
  boost::asio::ip::tcp::acceptor listener_;
  std::thread thread_;
};

TEST(ServerCheck, WhoeverAnswersByDropsIsGivenUp) {
  const auto checked = [](const std::string& first, const std::string& text, bool proxy = false) {
    const Dripping server(first, text);
    ServerToCheck wanted{.domain = "grid.test", .host = "127.0.0.1", .port = server.port(), .ca_file = "", .proxy = "", .manager = "", .accounts = {}};
    wanted.step = std::chrono::milliseconds(200);
    if (proxy) wanted.proxy = "http://127.0.0.1:" + std::to_string(server.port());
    const auto began = std::chrono::steady_clock::now();
    const auto found = check_server(wanted);
    EXPECT_LT(std::chrono::steady_clock::now() - began, std::chrono::seconds(10)) << "far more than its steps take";
    return found.back().about + ": " + found.back().what;
  };
  EXPECT_EQ(checked("HTTP/1.1 200 yes\r\n", "X: y\r\n", true).substr(0, 11), "connection:");
  EXPECT_EQ(checked("", " "), "encryption: what answers opens no XMPP stream for grid.test");
  EXPECT_EQ(checked("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><stream:features><starttls xmlns='urn:ietf:params:xml:ns:xmpp-tls'/></stream:features>",
                    std::string("\x16\x03\x03\x40", 4) + std::string(20'000, 'x')), "encryption: the handshake failed: no answer in time");
}

TEST(ServerCheck, JsonIsOneObjectALineWhateverTheServerSaid) {
  const std::string text = render_findings({{Level::wrong, "login", "bad \xff \"x\"\n", "do"}, {Level::ok, "clock", "fine", ""}}, true);
  EXPECT_EQ(std::count(text.begin(), text.end(), '\n'), 2);
  EXPECT_NE(text.find(R"("level":"wrong")"), std::string::npos);
}

}  // namespace
}  // namespace souk
