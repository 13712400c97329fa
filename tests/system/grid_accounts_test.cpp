// Who may log in to the embedded server, and what they may do there: the accounts and profiles that `souk up` and `souk user` write,
// used as our own programs use them.
#include <gtest/gtest.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <fstream>
#include <gloox/tag.h>

#include "protocol/profile.h"
#include "protocol/stanza.h"
#include "tests/system/grid_stage.h"

namespace souk::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

const fs::path kFakes = SOUK_FAKES;

/// One login. Runs its loop until what it waits for has happened, for at most ten seconds.
class Login {
 public:
  explicit Login(const fs::path& profile) : profile_(load_profile(profile)) {
    if (!profile_) {
      ADD_FAILURE() << profile_.error().text();
      return;
    }
    link_ = std::make_unique<XmppLink>(loop_, profile_.value().account);
    link_->on_up = [this] { up_ = true; };
    link_->on_down = [this](const Error& why, bool final) {
      refused_ = refused_ || final;
      why_ = why.text();
    };
    presences_ = link_->on_presence([this](const gloox::Tag& presence) { last_presence_ = presence.xml(); });
    link_->start();
    until([this] { return up_ || refused_; });
  }
  ~Login() {
    if (!link_) return;
    bool stopped = false;
    link_->stop([&] { stopped = true; });
    until([&] { return stopped; });
  }
  bool up() const { return up_; }
  bool refused() const { return refused_; }
  const std::string& why() const { return why_; }
  /// Joins a room; yields the first presence that comes back.
  std::string join(const std::string& room, const std::string& from = {}) {
    auto presence = element("presence", {}, {{"to", room + "/nick"}});
    if (!from.empty()) presence->addAttribute("from", from);
    child(*presence, "x", ns::muc);
    last_presence_.clear();
    link_->send(std::move(presence));
    until([this] { return !last_presence_.empty(); });
    return last_presence_;
  }

 private:
  void until(const std::function<bool()>& holds) {
    loop_.restart();  // it stops whenever nothing is left to wait for
    boost::asio::steady_timer deadline(loop_, 10s);
    bool late = false;
    deadline.async_wait([&](const boost::system::error_code& stopped) { late = late || !stopped; });
    while (!holds() && !late) loop_.run_one();
    deadline.cancel();
    loop_.poll();
    if (late) ADD_FAILURE() << "nothing came in ten seconds; last: " << why_;
  }

  boost::asio::io_context loop_{1};
  Result<Profile> profile_;
  std::unique_ptr<XmppLink> link_;
  Registration presences_;
  bool up_ = false, refused_ = false;
  std::string why_, last_presence_;
};

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(GridAccounts, OnlyTheManagerMakesTheMarket) {
  GridStage stage(kFakes, "a \"folder\" it's");
  ASSERT_EQ(stage.souk({"up", "--hosted"}).code, 0);
  Login owner(stage.dir() / "user.toml"), worker(stage.dir() / "worker.toml");
  ASSERT_TRUE(owner.up() && worker.up());
  EXPECT_TRUE(contains(owner.join("market@rooms.souk.localhost"), "not-allowed"));
  EXPECT_TRUE(contains(worker.join("market@rooms.souk.localhost"), "not-allowed"));
  EXPECT_TRUE(contains(owner.join("mine@rooms.souk.localhost"), "not-allowed"));
  Login manager(stage.dir() / "manager.toml");
  ASSERT_TRUE(manager.up());
  const std::string created = manager.join("market@rooms.souk.localhost", "manager@grid.souk.localhost/souk");
  EXPECT_TRUE(contains(created, "201")) << created;
  EXPECT_TRUE(contains(created, "owner")) << created;
  EXPECT_TRUE(contains(manager.join("other@rooms.souk.localhost", "somebody@grid.souk.localhost/x"), "not-allowed"));
}

TEST(GridAccounts, PeopleAreAddedWhileTheGridRuns) {
  GridStage stage(kFakes);
  EXPECT_EQ(stage.souk({"user", "add", "bob"}).code, 2) << "there is no grid yet";
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  const auto added = stage.souk({"user", "add", "bob"});
  ASSERT_EQ(added.code, 0) << added.err;
  EXPECT_TRUE(contains(added.out, "users/bob.toml")) << added.out;
  EXPECT_TRUE(Login(stage.dir() / "users/bob.toml").up());
  EXPECT_EQ(stage.souk({"user", "add", "bob"}).code, 2);

  std::ofstream(stage.folder() / "secret") << "correct horse battery staple\n";
  ASSERT_EQ(stage.souk({"user", "add", "eve", "--password-file", (stage.folder() / "secret").string()}).code, 0);
  EXPECT_TRUE(Login(stage.dir() / "users/eve.toml").up());
  EXPECT_EQ(stage.file("users/eve.password"), "correct horse battery staple\n");

  const auto list = stage.souk({"user", "list"});
  EXPECT_TRUE(contains(list.out, "bob@souk.localhost") && contains(list.out, "eve@souk.localhost") && contains(list.out, "(owner)")) << list.out;

  ASSERT_EQ(stage.souk({"down"}).code, 0);
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  EXPECT_TRUE(Login(stage.dir() / "users/bob.toml").up()) << "accounts stay";

  const std::string profile = stage.file("users/bob.toml");
  const std::string password = stage.file("users/bob.password");
  ASSERT_EQ(stage.souk({"user", "remove", "bob"}).code, 0);
  std::ofstream(stage.dir() / "users/bob.toml") << profile;
  std::ofstream(stage.dir() / "users/bob.password") << password;
  fs::permissions(stage.dir() / "users/bob.password", fs::perms(0600));
  EXPECT_TRUE(Login(stage.dir() / "users/bob.toml").refused());
}

TEST(GridAccounts, RefusesNamesAndPasswordsThatWouldNotDo) {
  GridStage stage(kFakes);
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  for (const std::string name : {"Bob", "../x", "a@b", "worker", "manager", "a b"}) {
    const auto refused = stage.souk({"user", "add", name});
    EXPECT_EQ(refused.code, 2) << name;
    EXPECT_TRUE(contains(refused.err, name)) << refused.err;
  }
  std::ofstream(stage.folder() / "empty") << "\n";
  std::ofstream(stage.folder() / "foreign") << "p\xC3\xA4sswort\n";
  for (const std::string file : {"empty", "foreign", "absent"}) {
    EXPECT_EQ(stage.souk({"user", "add", "bob", "--password-file", (stage.folder() / file).string()}).code, 2) << file;
  }
  EXPECT_FALSE(fs::exists(stage.dir() / "users/bob.toml"));
  EXPECT_EQ(stage.souk({"user", "remove", "bob"}).code, 2);
}

TEST(GridAccounts, AWrongPasswordIsRefused) {
  GridStage stage(kFakes);
  ASSERT_EQ(stage.souk({"up"}).code, 0);
  std::ofstream(stage.dir() / "user.password") << "wrong\n";
  const Login login(stage.dir() / "user.toml");
  EXPECT_FALSE(login.up());
  EXPECT_TRUE(login.refused()) << login.why();
}

}  // namespace
}  // namespace souk::test
