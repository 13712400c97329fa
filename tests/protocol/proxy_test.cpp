#include "protocol/proxy.h"

#include <gtest/gtest.h>

#include "tests/protocol/mutate.h"

namespace souk {
namespace {

using State = ProxyHandshake::State;
using namespace std::string_literals;

Proxy proxy(const std::string& text) { return parse_proxy(text).value(); }

/// What a proxy that answers `bytes`, in one piece or byte by byte, is found to have said.
struct Met {
  State state = State::more;
  std::string sent, rest, problem;
};
Met meet(const std::string& url, const std::string& bytes, std::size_t piece = 65536, const std::string& host = "grid.example.edu") {
  ProxyHandshake handshake(proxy(url), host, 5222);
  Met met;
  met.sent = handshake.start();
  for (std::size_t at = 0; at < bytes.size() && met.state == State::more; at += piece) {
    std::string reply;
    met.state = handshake.feed(std::string_view(bytes).substr(at, piece), reply);
    met.sent += reply;
    met.rest = handshake.rest();
    if (met.state == State::open && at + piece < bytes.size()) met.rest += bytes.substr(at + piece);  // the server's, from now on
  }
  met.problem = handshake.problem();
  return met;
}

TEST(Proxy, IsReadAsPeopleWriteIt) {
  EXPECT_EQ(proxy("http://proxy.example.edu:3129").text(), "http://proxy.example.edu:3129");
  EXPECT_EQ(proxy("http://proxy").text(), "http://proxy:3128");
  EXPECT_EQ(proxy("socks5://10.0.0.1").text(), "socks5://10.0.0.1:1080");
  EXPECT_EQ(proxy("socks5h://proxy:9/").text(), "socks5://proxy:9");
  EXPECT_EQ(proxy("socks5://[::1]:1081").text(), "socks5://[::1]:1081");
  for (const char* bad : {"", "proxy:3128", "https://proxy:1", "http://", "http://:80", "http://p:0", "http://p:65536", "http://p:8a", "http://p:80/path", "http://[::1", "http://[p]:1",
                          "http://[::1]x", "http://a b:1", "ftp://p:1", "socks4://p:1"})
    EXPECT_FALSE(parse_proxy(bad)) << bad;
}

TEST(Proxy, TakesNoPasswordFromACommandLineAndShowsNone) {
  const auto read = parse_proxy("http://ada:s3cret@proxy:3128");
  ASSERT_FALSE(read);
  EXPECT_EQ(read.error().text().find("s3cret"), std::string::npos) << read.error().text();
}

TEST(Proxy, HttpIsAskedForATunnelAndTheRestIsTheServers) {
  const std::string answer = "HTTP/1.1 200 Connection established\r\nVia: 1.1 x\r\n\r\n<?xml";
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{65536}}) {
    const auto met = meet("http://p:1", answer, piece);
    EXPECT_EQ(met.state, State::open) << piece;
    EXPECT_EQ(met.rest, "<?xml") << piece;
    EXPECT_EQ(met.sent, "CONNECT grid.example.edu:5222 HTTP/1.1\r\nHost: grid.example.edu:5222\r\n\r\n");
  }
  EXPECT_EQ(meet("http://p:1", "HTTP/1.0 200\r\n\r\n").state, State::open);
  EXPECT_EQ(meet("http://p:1", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\n\nx").rest, "x");
  EXPECT_EQ(meet("http://p:1", "HTTP/1.1 200 OK\r\n", 1).state, State::more);
  EXPECT_EQ(meet("http://p:1", "", 1, "2001:db8::1").sent.substr(0, 27), "CONNECT [2001:db8::1]:5222 ");
}

TEST(Proxy, HttpThatRefusesSaysWhy) {
  const auto refused = meet("http://p:1", "HTTP/1.1 403 Forbidden\r\nX: y\r\n\r\n");
  EXPECT_EQ(refused.state, State::failed);
  EXPECT_NE(refused.problem.find("403 Forbidden"), std::string::npos) << refused.problem;
  EXPECT_NE(meet("http://p:1", "HTTP/1.1 407 Proxy Authentication Required\r\n\r\n").problem.find("name and password"), std::string::npos);
  EXPECT_EQ(meet("http://p:1", "HTTP/1.1 302 Found\r\nLocation: x\r\n\r\n").state, State::failed);
}

TEST(Proxy, HttpAnswersAreBoundedAndMustBeHttp) {
  for (const char* bad : {"SSH-2.0-OpenSSH_9\r\n", "HTTP/2 200\r\n\r\n", "HTTP/1.1 2x0 OK\r\n\r\n", "HTTP/1.1 20\r\n\r\n", "HTTP/1.12 200 OK\r\n\r\n", "HTTP/1.1\r\n\r\n", "\r\n\r\n", "\x05\xff"})
    EXPECT_EQ(meet("http://p:1", bad).state, State::failed) << bad;
  const std::string endless = "HTTP/1.1 200 OK\r\nX: ";
  EXPECT_EQ(meet("http://p:1", endless + std::string(2 * ProxyHandshake::kAnswerMax, 'x')).state, State::failed);
  EXPECT_EQ(meet("http://p:1", endless + std::string(2 * ProxyHandshake::kAnswerMax, 'x') + "\r\n\r\n").state, State::failed) << "also when it ends at last";
  std::string interim;
  for (int i = 0; i < 1000; ++i) interim += "HTTP/1.1 100 Continue\r\n\r\n";
  EXPECT_EQ(meet("http://p:1", interim).state, State::failed) << "nor in many small ones";
}

TEST(Proxy, SocksIsToldTheNameAndTheRestIsTheServers) {
  const std::string answer = "\x05\x00"s + "\x05\x00\x00\x03\x04"s + "host" + "\x14\x66"s + "<stream";
  for (const std::size_t piece : {std::size_t{1}, std::size_t{3}, std::size_t{65536}}) {
    const auto met = meet("socks5://p", answer, piece);
    EXPECT_EQ(met.state, State::open) << piece;
    EXPECT_EQ(met.rest, "<stream") << piece;
    EXPECT_EQ(met.sent, "\x05\x01\x00"s + "\x05\x01\x00\x03\x10"s + "grid.example.edu" + "\x14\x66"s) << piece;
  }
  EXPECT_EQ(meet("socks5://p", "\x05\x00"s, 9, "10.1.2.3").sent, "\x05\x01\x00\x05\x01\x00\x01\x0a\x01\x02\x03\x14\x66"s);
  EXPECT_EQ(meet("socks5://p", "\x05\x00"s, 9, "::1").sent.size(), 3u + 4 + 16 + 2);
  EXPECT_EQ(meet("socks5://p", "\x05\x00\x05\x00\x00\x01\x01\x02\x03\x04\x00\x50"s).state, State::open);
  EXPECT_EQ(meet("socks5://p", "\x05\x00\x05\x00\x00\x04"s + std::string(18, 'a')).state, State::open);
  EXPECT_EQ(meet("socks5://p", "\x05\x00\x05\x00\x00\x04"s + std::string(17, 'a')).state, State::more);
}

TEST(Proxy, SocksThatRefusesSaysWhy) {
  EXPECT_NE(meet("socks5://p", "\x05\xff"s).problem.find("name and password"), std::string::npos);
  EXPECT_NE(meet("socks5://p", "\x05\x00\x05\x05"s).problem.find("connection refused"), std::string::npos);
  EXPECT_EQ(meet("socks5://p", "\x05\x02"s).state, State::failed) << "a way that was not offered";
  for (const auto& bad : {"\x04\x00"s, "HTTP/1.1 400 Bad\r\n\r\n"s, "\x05\x00\x04\x00"s, "\x05\x00\x05\x00\x00\x02\x01\x01"s, "\x05\x00\x05\x2a\x00"s})
    EXPECT_EQ(meet("socks5://p", bad).state, State::failed) << bad;
}

TEST(Proxy, ANameThatCouldSayMoreThanANameIsNotSent) {
  for (const auto& host : {"a\r\nX: y"s, ""s, std::string(256, 'a'), "a b"s, "a/b"s, "x\0y"s}) {
    const auto met = meet("http://p", "", 1, host);
    EXPECT_EQ(met.sent, "");
    EXPECT_NE(met.problem, "");
  }
}

TEST(Proxy, DamagedAnswersEndInAnAnswerAndHoldLittle) {
  test::Mutator mutator(7);
  const std::string http = "HTTP/1.1 200 Connection established\r\nVia: 1.1 x\r\n\r\n<?xml", socks = "\x05\x00"s + "\x05\x00\x00\x03\x04"s + "host" + "\x14\x66"s;
  for (int i = 0; i < test::kRounds; ++i) {
    const bool is_http = i % 2 == 0;
    const std::string bytes = mutator.damaged(is_http ? http : socks);
    const auto whole = meet(is_http ? "http://p" : "socks5://p", bytes), pieces = meet(is_http ? "http://p" : "socks5://p", bytes, 1);
    EXPECT_EQ(whole.state, pieces.state) << testing::PrintToString(bytes);
    if (whole.state == State::open) {
      EXPECT_EQ(whole.rest, pieces.rest);
    }
    EXPECT_EQ(whole.state == State::failed, !whole.problem.empty());
  }
}

}  // namespace
}  // namespace souk
