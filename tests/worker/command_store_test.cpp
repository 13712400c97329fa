#include "worker/command_store.h"

#include <gtest/gtest.h>

#include <random>

#include "grid.pb.h"

namespace souk::worker {
namespace {

std::string bytes_of(const std::string& input) {
  wire::Command message;
  message.add_argv("cat");
  message.set_input(input);
  return message.SerializeAsString();
}

TEST(CommandStore, PutsPartsTogether) {
  CommandStore store;
  const std::string bytes = bytes_of(std::string(250'000, 'x'));
  for (std::size_t at = 0; at < bytes.size(); at += 98304) {
    EXPECT_EQ(store.find({JobId{1}}), nullptr);
    ASSERT_TRUE(store.take({JobId{1}}, at, bytes.size(), std::string_view(bytes).substr(at, 98304)));
  }
  ASSERT_NE(store.find({JobId{1}}), nullptr);
  EXPECT_EQ(store.find({JobId{1}})->command->input.size(), 250'000u);
  EXPECT_EQ(store.find({JobId{2}}), nullptr);
  EXPECT_EQ(store.bytes(), bytes.size());
}

TEST(CommandStore, TwoCommandsMayArriveSideBySideAndOneAgain) {
  CommandStore store;
  const std::string one = bytes_of("one"), two = bytes_of("two");
  EXPECT_TRUE(store.take({JobId{1}}, 0, one.size(), one.substr(0, 3)));
  EXPECT_TRUE(store.take({JobId{2}}, 0, two.size(), two.substr(0, 4)));
  EXPECT_TRUE(store.take({JobId{1}}, 3, one.size(), one.substr(3)));
  EXPECT_TRUE(store.take({JobId{2}}, 4, two.size(), two.substr(4)));
  EXPECT_EQ(store.find({JobId{2}})->command->input, "two");
  const auto running = store.find({JobId{1}})->command;
  EXPECT_TRUE(store.take({JobId{1}}, 0, two.size(), two));
  EXPECT_EQ(store.find({JobId{1}})->command->input, "two");
  EXPECT_EQ(running->input, "one");
  EXPECT_EQ(store.bytes(), 2 * two.size());
}

TEST(CommandStore, KeepsTheCommandsOfAJobsGroupsApart) {
  CommandStore store;
  const std::string one = bytes_of("one"), two = bytes_of("two");
  EXPECT_TRUE(store.take({JobId{1}, 0}, 0, one.size(), one));
  EXPECT_EQ(store.find({JobId{1}, 1}), nullptr);
  EXPECT_TRUE(store.take({JobId{1}, 1}, 0, two.size(), two));
  EXPECT_EQ(store.find({JobId{1}, 0})->command->input, "one");
  EXPECT_EQ(store.find({JobId{1}, 1})->command->input, "two");
}

TEST(CommandStore, RemembersTheNeedsWithTheCommand) {
  CommandStore store;
  const std::string bytes = bytes_of("one");
  Needs needs;
  needs.cpus = 4;
  needs.gpus = 1;
  store.tell_needs({JobId{1}, 2}, needs);  // nothing to remember it with
  EXPECT_EQ(store.find({JobId{1}, 2}), nullptr);
  EXPECT_TRUE(store.take({JobId{1}, 2}, 0, bytes.size(), bytes));
  EXPECT_EQ(store.find({JobId{1}, 2})->needs, Needs{});
  store.tell_needs({JobId{1}, 2}, needs);
  EXPECT_EQ(store.find({JobId{1}, 2})->needs, needs);
  EXPECT_TRUE(store.take({JobId{1}, 2}, 0, bytes.size(), bytes));  // sent again
  EXPECT_EQ(store.find({JobId{1}, 2})->needs, needs);
}

TEST(CommandStore, RefusesWhatDoesNotFit) {
  CommandStore store;
  const std::string bytes = bytes_of("input");
  EXPECT_FALSE(store.take({JobId{1}}, 0, 0, ""));
  EXPECT_FALSE(store.take({JobId{1}}, 0, ~0ull, "x"));
  EXPECT_FALSE(store.take({JobId{1}}, 0, 4, "12345"));
  EXPECT_FALSE(store.take({JobId{1}}, ~0ull, 4, "1"));
  EXPECT_FALSE(store.take({JobId{1}}, 3, bytes.size(), bytes.substr(3)));  // without its beginning
  EXPECT_TRUE(store.take({JobId{1}}, 0, bytes.size(), bytes.substr(0, 3)));
  EXPECT_FALSE(store.take({JobId{1}}, 5, bytes.size(), bytes.substr(5)));  // a gap
  EXPECT_FALSE(store.take({JobId{1}}, 3, bytes.size(), bytes.substr(3)));  // and the beginning is gone with it
  EXPECT_EQ(store.find({JobId{1}}), nullptr);
  EXPECT_EQ(store.bytes(), 0u);
}

TEST(CommandStore, KeepsWhyACommandCannotRun) {
  CommandStore store;
  const std::string bytes = wire::Command().SerializeAsString() + std::string("\x12\x00", 2) + "\x18\x01";
  ASSERT_TRUE(store.take({JobId{1}}, 0, bytes.size(), bytes));
  ASSERT_NE(store.find({JobId{1}}), nullptr);
  EXPECT_EQ(store.find({JobId{1}})->command, nullptr);
  EXPECT_NE(store.find({JobId{1}})->problem, "");
}

TEST(CommandStore, ForgetsTheLeastRecentlyUsed) {
  CommandStore store(25'000);
  for (const std::uint64_t job : {1, 2}) {
    const std::string bytes = bytes_of(std::string(10'000, 'x'));
    EXPECT_TRUE(store.take({JobId{job}}, 0, bytes.size(), bytes));
  }
  EXPECT_NE(store.find({JobId{1}}), nullptr);
  const std::string bytes = bytes_of(std::string(10'000, 'x'));
  EXPECT_TRUE(store.take({JobId{3}}, 0, bytes.size(), bytes));
  EXPECT_EQ(store.find({JobId{2}}), nullptr);
  EXPECT_NE(store.find({JobId{1}}), nullptr);
  EXPECT_NE(store.find({JobId{3}}), nullptr);
  EXPECT_LE(store.bytes(), 25'000u);
}

TEST(CommandStore, CountsRightWhateverComes) {
  std::mt19937 dice(3);
  CommandStore store(1000);
  for (int turn = 0; turn < 20'000; ++turn) {
    const std::uint64_t size = dice() % 600;
    (void)store.take({JobId{dice() % 9}}, dice() % 3 == 0 ? 0 : dice() % 300, size, std::string(dice() % 300, 'a'));
    ASSERT_LE(store.bytes(), 1000u + 600u);
  }
}

}  // namespace
}  // namespace souk::worker
