#include "protocol/profile.h"

#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "tests/protocol/mutate.h"

namespace souk {
namespace {

namespace fs = std::filesystem;

class ProfileTest : public testing::Test {
 protected:
  ProfileTest() {
    std::string pattern = (fs::temp_directory_path() / "souk-profile-XXXXXX").string();
    folder_ = ::mkdtemp(pattern.data());
    put("user.password", "s3cret\n", 0600);
    put("ca.pem", "", 0644);
  }
  ~ProfileTest() override { fs::remove_all(folder_); }

  void put(const std::string& name, const std::string& text, mode_t mode = 0644) {
    fs::remove(folder_ / name);  // ext4 syncs a file that is cut and written again, which makes the last test take half a minute
    std::ofstream(folder_ / name, std::ios::binary) << text;
    ASSERT_EQ(::chmod((folder_ / name).c_str(), mode), 0);
  }
  Result<Profile> load(const std::string& text) {
    put("user.toml", text);
    return load_profile(folder_ / "user.toml");
  }
  /// The message of a refusal.
  std::string why(const std::string& text) {
    const auto profile = load(text);
    EXPECT_FALSE(profile) << text;
    return profile ? std::string() : profile.error().text();
  }

  fs::path folder_;
};

const std::string kUser = R"(jid = "ada@souk.localhost"
password_file = "user.password"
host = "127.0.0.1"
port = 15222
ca_file = "ca.pem"
manager = "manager@grid.souk.localhost/souk"
room = "market@rooms.souk.localhost"
)";

std::string with(std::string text, const std::string& from, const std::string& to) {
  const auto at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

/// kUser without the line of that key.
std::string without(const std::string& key) {
  std::string text = kUser;
  const auto at = text.find(key + " =");
  EXPECT_NE(at, std::string::npos) << key;
  return text.erase(at, text.find('\n', at) + 1 - at);
}

TEST_F(ProfileTest, MayNameAProxy) {
  EXPECT_EQ(load(kUser + "proxy = \"socks5://proxy.example.edu:1080\"\n").value().account.proxy, "socks5://proxy.example.edu:1080");
  EXPECT_EQ(load(kUser).value().account.proxy, "");
  EXPECT_NE(why(kUser + "proxy = \"proxy:3128\"\n").find("socks5://HOST:PORT"), std::string::npos);
}

TEST_F(ProfileTest, ReadsAUser) {
  const auto profile = load(kUser);
  ASSERT_TRUE(profile) << profile.error().text();
  const Account& account = profile.value().account;
  EXPECT_EQ(account.jid, "ada@souk.localhost");
  EXPECT_EQ(account.password, "s3cret");
  EXPECT_FALSE(account.component);
  EXPECT_EQ(account.host, "127.0.0.1");
  EXPECT_EQ(account.port, 15222);
  EXPECT_EQ(account.ca_file, (folder_ / "ca.pem").string());
  EXPECT_EQ(profile.value().manager, "manager@grid.souk.localhost/souk");
  EXPECT_EQ(profile.value().room, "market@rooms.souk.localhost");
  EXPECT_EQ(profile.value().file, folder_ / "user.toml");
}

TEST_F(ProfileTest, ReadsAComponent) {
  const auto profile = load("component = true\n" + with(kUser, "ada@souk.localhost", "grid.souk.localhost"));
  ASSERT_TRUE(profile) << profile.error().text();
  EXPECT_TRUE(profile.value().account.component);
  EXPECT_EQ(profile.value().account.jid, "grid.souk.localhost");
}

TEST_F(ProfileTest, HasDefaults) {
  std::string text = "jid = 'ada@souk.localhost/desk'\npassword_file = 'user.password'\nmanager = 'm@grid/souk'\nroom = 'market@rooms'\n";
  auto profile = load(text);
  ASSERT_TRUE(profile) << profile.error().text();
  EXPECT_EQ(profile.value().account.port, 5222);
  EXPECT_EQ(profile.value().account.host, "");
  EXPECT_EQ(profile.value().account.ca_file, "");
  profile = load("component = true\n" + with(text, "ada@souk.localhost/desk", "grid"));
  ASSERT_TRUE(profile) << profile.error().text();
  EXPECT_EQ(profile.value().account.port, 5347);
}

TEST_F(ProfileTest, TakesAbsolutePathsAsTheyAre) {
  EXPECT_TRUE(load(with(kUser, "\"user.password\"", '"' + (folder_ / "user.password").string() + '"')));
}

TEST_F(ProfileTest, NamesTheMissingKey) {
  for (const char* key : {"jid", "password_file", "manager", "room"}) EXPECT_NE(why(without(key)).find(std::string("'") + key + "' is missing"), std::string::npos) << key;
}

TEST_F(ProfileTest, NamesTheUnknownKey) { EXPECT_NE(why("pasword_file = 'x'\n" + kUser).find("unknown key 'pasword_file'"), std::string::npos); }

TEST_F(ProfileTest, NamesTheWrongValue) {
  const std::pair<std::string, const char*> cases[] = {
      {with(kUser, "15222", "0"), "port"},
      {with(kUser, "15222", "65536"), "port"},
      {with(kUser, "15222", "\"15222\""), "port"},
      {with(kUser, "\"127.0.0.1\"", "127"), "host"},
      {with(kUser, "\"ada@souk.localhost\"", "\"\""), "jid"},
      {with(kUser, "ada@souk.localhost", "souk.localhost"), "jid"},
      {with(kUser, "ada@souk.localhost", "@souk.localhost"), "jid"},
      {with(kUser, "ada@souk.localhost", "ada@"), "jid"},
      {with(kUser, "ada@souk.localhost", "a@b@c"), "jid"},
      {with(kUser, "ada@souk.localhost", "ada lovelace@souk.localhost"), "jid"},
      {with(kUser, "ada@souk.localhost", "ada@souk.localhost/"), "jid"},
      {with(kUser, "grid.souk.localhost/souk", "grid.souk.localhost"), "manager"},
      {with(kUser, "market@rooms.souk.localhost", "market@rooms.souk.localhost/nick"), "room"},
      {with(kUser, "market@rooms.souk.localhost", "rooms.souk.localhost"), "room"},
      {with(kUser, "ca.pem", "absent.pem"), "absent.pem"},
      {"component = 1\n" + kUser, "component"},
      {"component = true\n" + kUser, "a component has a domain only"},
      {with(kUser, "ada@", "a\\u0001a@"), "jid"},
  };
  for (const auto& [text, named] : cases) EXPECT_NE(why(text).find(named), std::string::npos) << text << why(text);
}

TEST_F(ProfileTest, NamesTheLineThatIsNoToml) {
  EXPECT_NE(why("jid = \"ada@souk.localhost\"\nroom = \n").find("line 2"), std::string::npos);
  EXPECT_NE(why(kUser + "jid = 'twice@x'\n").find("line 8"), std::string::npos);
  EXPECT_FALSE(load(kUser + "\xFF\xFE"));
}

TEST_F(ProfileTest, OutlivesTextsThatTheParserAssertsOn) {
  // toml++ asserts on these before it refuses them: with its assertions on, the program ends here.
  for (const char* text : {"[=", "[=]", "[[=", "[ =x]\n", "\n\n[=\n"}) {
    const std::string said = why(kUser + text);
    EXPECT_NE(said.find("line "), std::string::npos) << text << ": " << said;
  }
}

TEST_F(ProfileTest, RefusesAPasswordThatOthersCanRead) {
  for (const mode_t mode : {0640, 0604, 0660, 0620, 0601}) {
    put("user.password", "s3cret\n", mode);
    const std::string said = why(kUser);
    EXPECT_NE(said.find("chmod 600"), std::string::npos) << said;
    EXPECT_EQ(said.find("s3cret"), std::string::npos);
  }
  put("user.password", "s3cret", 0400);
  EXPECT_TRUE(load(kUser));
}

TEST_F(ProfileTest, RefusesWhatIsNoPassword) {
  for (const std::string& text : {std::string(), std::string("\n"), std::string("two\nlines\n"), std::string("nul\0byte", 8), std::string("\xFF"), std::string(2000, 'x')}) {
    put("user.password", text, 0600);
    EXPECT_NE(why(kUser).find("user.password"), std::string::npos);
  }
  put("user.password", " spaces stay \r\n", 0600);
  ASSERT_TRUE(load(kUser));
  EXPECT_EQ(load(kUser).value().account.password, " spaces stay ");
  fs::remove(folder_ / "user.password");
  EXPECT_NE(why(kUser).find("user.password"), std::string::npos);
}

TEST_F(ProfileTest, RefusesWhatIsNoFile) {
  EXPECT_NE(load_profile(folder_ / "absent.toml").error().text().find("absent.toml"), std::string::npos);
  EXPECT_FALSE(load_profile(folder_));
  EXPECT_FALSE(load(kUser + std::string(65 << 10, '#')));
  fs::remove(folder_ / "user.password");
  ASSERT_EQ(::mkfifo((folder_ / "user.password").c_str(), 0600), 0);
  EXPECT_NE(why(kUser).find("no regular file"), std::string::npos);  // and does not wait for a writer
}

TEST_F(ProfileTest, DamagedFilesAreRefusedOrRead) {
  test::Mutator mutator(10);
  int read = 0;
  for (int i = 0; i < test::kRounds; ++i) {
    const auto profile = load(mutator.damaged(kUser, "[a]=\"'''\\u{}#\n1e9_0x,."));
    if (!profile) {
      ASSERT_FALSE(profile.error().why.empty());
      continue;
    }
    ++read;
    ASSERT_EQ(profile.value().account.password, "s3cret");
    ASSERT_NE(profile.value().manager.find('/'), std::string::npos);
  }
  EXPECT_GT(read, test::kRounds / 100) << "else this tries nothing";
}

}  // namespace
}  // namespace souk
