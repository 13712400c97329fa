// What can be read about a host, from files that a test wrote.
#include "worker/facts.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

namespace souk::worker {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

class FactsTest : public ::testing::Test {
 protected:
  FactsTest() {
    std::string name = (fs::temp_directory_path() / "souk-facts-XXXXXX").string();
    root_ = mkdtemp(name.data());
  }
  ~FactsTest() override { fs::remove_all(root_); }
  void file(const fs::path& path, const std::string& text) {
    fs::create_directories((root_ / path).parent_path());
    std::ofstream(root_ / path) << text;
  }
  void touched(const fs::path& path, std::chrono::seconds ago) {
    file(path, "");
    const auto at = std::chrono::duration_cast<std::chrono::seconds>(wall_.time_since_epoch()) - ago;
    const timespec times[2] = {{at.count(), 0}, {0, UTIME_OMIT}};
    ASSERT_EQ(utimensat(AT_FDCWD, (root_ / path).c_str(), times, 0), 0);
  }
  /// `after`: since the first look.
  Facts read(std::chrono::seconds after = 0s) { return reader_->read(rules_, now_ + after, wall_ + after); }
  /// A process with its processor time in ticks, and its children.
  void process(int pid, int ticks, const std::string& children) {
    const std::string folder = "proc/" + std::to_string(pid);
    file(folder + "/stat", std::to_string(pid) + " (a ) b) S 1 1 1 0 -1 4194560 1 1 1 1 " + std::to_string(ticks - 30) + " 10 15 5 20 0 1 0 1 1 1");
    file(folder + "/task/" + std::to_string(pid) + "/children", children);
  }

  fs::path root_;
  Rules rules_ = rules_from({{"only-idle", "10m"}, {"max-load", "1"}, {"on-mains", "true"}, {"leave-memory", "1GiB"}}).value();
  std::optional<FactReader> reader_ = std::nullopt;
  const std::chrono::steady_clock::time_point now_ = std::chrono::steady_clock::now();
  const std::chrono::system_clock::time_point wall_ = std::chrono::system_clock::now();
};

TEST_F(FactsTest, OnAnEmptyHostNothingIsKnown) {
  reader_.emplace(root_);
  const Facts facts = read();
  EXPECT_FALSE(facts.since_input || facts.others_load || facts.on_mains || facts.memory_available);
  EXPECT_GT(facts.now_ms, 0u);
}

TEST_F(FactsTest, TheTerminalUsedLastTells) {
  touched("dev/pts/0", 500s);
  touched("dev/pts/12", 40s);
  touched("dev/pts/ptmx", 1s);
  touched("dev/tty2", 90s);
  touched("dev/tty", 1s);
  reader_.emplace(root_);
  EXPECT_NEAR(std::chrono::duration<double>(read().since_input.value()).count(), 40, 1.1);
  touched("dev/pts/3", -100s);  // the clock was set back
  EXPECT_EQ(read().since_input, Duration{0});
}

TEST_F(FactsTest, KeysOfABuiltInKeyboardAreInput) {
  const auto interrupts = [&](int keys) {
    file("proc/interrupts", "            CPU0       CPU1\n   1:         5   " + std::to_string(keys) + "  IR-IO-APIC    1-edge      i8042\n   9:    1 2  IR-IO-APIC 9-fasteoi acpi\n");
  };
  interrupts(7);
  reader_.emplace(root_);
  EXPECT_FALSE(read().since_input);  // how long ago is not known
  EXPECT_FALSE(read(2s).since_input);
  interrupts(8);
  EXPECT_EQ(read(4s).since_input, Duration{0});
  EXPECT_EQ(read(9s).since_input, Duration{5s});
}

TEST_F(FactsTest, LoadOfOthersIsAllButOurs) {
  const auto ticks = sysconf(_SC_CLK_TCK);
  const auto stat = [&](long busy) { file("proc/stat", "cpu  " + std::to_string(busy - 40) + " 10 20 99999 50 7 3 0 0 0\ncpu0 1 1 1 1\n"); };
  stat(1000);
  process(100, 50, "101 102 ");
  process(101, 500, "103");
  process(102, 60, "");
  process(103, 70, "");
  reader_.emplace(root_, 100);
  EXPECT_FALSE(read().others_load);  // there is nothing to compare with yet
  stat(1000 + 30 * ticks);           // 3 processors for 10 s
  process(103, 70 + static_cast<int>(10 * ticks), "");
  EXPECT_NEAR(read(10s).others_load.value(), 2, 0.01);
  stat(1000 + 40 * ticks);
  process(103, 70 + static_cast<int>(30 * ticks), "");  // counted at another moment: never below zero
  EXPECT_EQ(read(20s).others_load, 0.0);
}

TEST_F(FactsTest, ABatteryThatDischargesIsNoMains) {
  reader_.emplace(root_);
  file("sys/class/power_supply/hid-1/type", "Battery\n");  // of a mouse
  file("sys/class/power_supply/hid-1/scope", "Device\n");
  file("sys/class/power_supply/hid-1/status", "Discharging\n");
  EXPECT_EQ(read().on_mains, std::nullopt);
  file("sys/class/power_supply/BAT0/type", "Battery\n");
  file("sys/class/power_supply/BAT0/status", "Discharging\n");
  EXPECT_EQ(read().on_mains, false);
  file("sys/class/power_supply/AC/type", "Mains\n");
  file("sys/class/power_supply/AC/online", "1\n");
  EXPECT_EQ(read().on_mains, true);
  file("sys/class/power_supply/AC/online", "0\n");
  EXPECT_EQ(read().on_mains, false);
}

TEST_F(FactsTest, ReadsTheMemoryThatIsAvailable) {
  file("proc/meminfo", "MemTotal:       16000 kB\nMemFree:         1 kB\nMemAvailable:    2048 kB\n");
  reader_.emplace(root_);
  EXPECT_EQ(read().memory_available, 2u << 20);
}

TEST_F(FactsTest, ReadsOnlyWhatTheRulesNeed) {
  file("proc/meminfo", "MemAvailable:    2048 kB\n");
  touched("dev/pts/0", 5s);
  rules_ = rules_from({{"nice", "5"}}).value();
  reader_.emplace(root_);
  const Facts facts = read();
  EXPECT_FALSE(facts.since_input || facts.memory_available);
}

TEST_F(FactsTest, ReadsThisHostToo) {
  reader_.emplace();
  EXPECT_GT(read().memory_available.value_or(0), 1u << 20);
  EXPECT_TRUE(read(2s).others_load);
}

TEST(Until, IsTheNextSuchTimeOrALaterMoment) {
  setenv("TZ", "UTC", 1);
  tzset();
  const auto noon = std::chrono::system_clock::from_time_t(1'700'049'600);  // 2023-11-15, a Wednesday, 12:00 UTC
  EXPECT_EQ(week_minute(noon), (2 * 24 + 12) * 60);
  EXPECT_EQ(until_ms("18:00", noon), 1'700'071'200'000u);
  EXPECT_EQ(until_ms("12:00", noon), 1'700'136'000'000u);
  EXPECT_EQ(until_ms("07:30", noon), 1'700'119'800'000u);
  EXPECT_EQ(until_ms("90m", noon), 1'700'055'000'000u);
  EXPECT_EQ(until_ms("soon", noon), 0u);
}

class PolicyFile : public FactsTest {};

TEST_F(PolicyFile, HoldsRulesAsToml) {
  file("policy.toml", "only-idle = \"10m\"  # nobody there\nmax-load = 1.5\non-mains = true\nnice = 10\n");
  const auto texts = rule_texts_in(root_ / "policy.toml");
  ASSERT_TRUE(texts) << texts.error().text();
  EXPECT_EQ(texts.value(), (std::map<std::string, std::string>{{"only-idle", "10m"}, {"max-load", "1.5"}, {"on-mains", "true"}, {"nice", "10"}}));
}

TEST_F(PolicyFile, IsRefusedWithItsPlace) {
  const auto why = [&](const std::string& text) {
    file("policy.toml", text);
    const auto texts = rule_texts_in(root_ / "policy.toml");
    return texts ? "fine" : texts.error().text();
  };
  EXPECT_NE(why("nice = 10\nonly-idle = ten\n").find("line 2"), std::string::npos);
  EXPECT_NE(why("nice = 99\n").find("nice"), std::string::npos);
  EXPECT_NE(why("only-idel = \"10m\"\n").find("known are: only-idle"), std::string::npos);
  EXPECT_NE(why("hours = [\"Mon\"]\n").find("'hours' is neither"), std::string::npos);
  EXPECT_NE(why(std::string(70'000, '#')).find("64 KiB"), std::string::npos);
  EXPECT_FALSE(rule_texts_in(root_ / "none.toml"));
}

}  // namespace
}  // namespace souk::worker
