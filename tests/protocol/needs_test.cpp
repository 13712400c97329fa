#include "protocol/needs.h"

#include <gtest/gtest.h>

#include <functional>

#include "protocol/grid.pb.h"
#include "protocol/notation.h"
#include "protocol/payload.h"
#include "tests/protocol/mutate.h"

namespace souk {
namespace {

Needs much() {
  Needs needs;
  needs.cpus = 4;
  needs.memory_bytes = 3ull << 29;
  needs.disk_bytes = 10ull << 30;
  needs.gpus = 2;
  needs.resources = {{"license.matlab", 1}, {"tape-drive_2", 3}};
  return needs;
}

std::string refusal(const Needs& needs) {
  const auto checked = check(needs);
  return checked ? "" : checked.error().text();
}

TEST(Needs, OneProcessorIsTheLeast) {
  EXPECT_EQ(refusal(Needs{}), "");
  EXPECT_EQ(Needs{}.cpus, 1);
  EXPECT_EQ(refusal(much()), "");
}

TEST(Needs, GoUpToTheirBoundsAndNotBeyond) {
  const struct {
    const char* why;
    std::function<void(Needs&, int)> set;  // to the bound, plus that
  } cases[] = {{"4097 cpus", [](Needs& needs, int more) { needs.cpus = kCpusMax + more; }},
      {"1025 gpus", [](Needs& needs, int more) { needs.gpus = kGpusMax + more; }},
      {"more memory than any machine has", [](Needs& needs, int more) { needs.memory_bytes = kBytesMax + static_cast<std::uint64_t>(more); }},
      {"more disk than any machine has", [](Needs& needs, int more) { needs.disk_bytes = kBytesMax + static_cast<std::uint64_t>(more); }},
      {"1000000001 of resource tape", [](Needs& needs, int more) { needs.resources["tape"] = kAmountMax + static_cast<std::uint64_t>(more); }},
      {"over 32 kinds of resources", [](Needs& needs, int more) {
         for (std::size_t i = 0; i < kResourcesMax + static_cast<std::size_t>(more); ++i) needs.resources["kind" + std::to_string(i)] = 1;
       }}};
  for (const auto& [why, set] : cases) {
    Needs most, over;
    set(most, 0), set(over, 1);
    EXPECT_EQ(refusal(most), "") << why;
    EXPECT_NE(refusal(over).find(why), std::string::npos) << refusal(over);
  }
  for (const int cpus : {0, -1, -2147483647 - 1}) {
    Needs needs;
    needs.cpus = cpus;
    EXPECT_EQ(refusal(needs), "needs refused: " + std::to_string(cpus) + " cpus; ask for 1 to 4096");
  }
  Needs needs;
  needs.gpus = -1;
  EXPECT_EQ(refusal(needs), "needs refused: -1 gpus; ask for 0 to 1024");
  needs = Needs{};
  needs.resources["tape"] = 0;
  EXPECT_EQ(refusal(needs), "needs refused: 0 of resource tape; ask for 1 to 1000000000");
}

TEST(Needs, ResourcesHaveNamesThatReadWell) {
  for (const char* name : {"a", "license.matlab", "tape-drive_2", "A.b.C", "x9", "x.9", "gpu", "cpu", "slots2"}) EXPECT_TRUE(check_resource_name(name)) << name;
  for (const char* name : {"", ".", "a.", ".a", "a..b", "9a", "_a", "-a", "a b", "a=b", "a/b", "a,b", "é", "a\n", "a\"b"}) {
    const auto checked = check_resource_name(name);
    ASSERT_FALSE(checked) << name;
    EXPECT_NE(checked.error().text().find("that is no name for one; use letters"), std::string::npos) << checked.error().text();
  }
  EXPECT_FALSE(check_resource_name(std::string_view("a\0b", 3)));
  for (const char* name : {"cpus", "memory", "disk", "gpus", "slots"}) EXPECT_NE(check_resource_name(name).error().text().find("has an option of its own; write --" + std::string(name)), std::string::npos);
  EXPECT_TRUE(check_resource_name(std::string(kResourceNameMax, 'a')));
  const auto longer = check_resource_name(std::string(1'000'000, 'a'));
  ASSERT_FALSE(longer);
  EXPECT_LT(longer.error().text().size(), 200u) << "the name is not repeated whole";
}

TEST(Needs, ABadNameMakesBadNeeds) {
  Needs needs;
  needs.resources["memory"] = 5;
  EXPECT_NE(refusal(needs).find("write --memory"), std::string::npos);
}

// ---- On the wire

TEST(NeedsOnTheWire, ComeBackAsTheyWere) {
  for (const Needs& needs : {Needs{}, much()}) {
    wire::Needs message;
    write(needs, message);
    wire::Needs received;
    ASSERT_TRUE(parse(message.SerializeAsString(), received));
    const auto back = read(received);
    ASSERT_TRUE(back) << back.error().text();
    EXPECT_EQ(back.value(), needs);
  }
}

TEST(NeedsOnTheWire, AnEmptyMessageAsksForOneProcessor) {
  const auto back = read(wire::Needs());
  ASSERT_TRUE(back);
  EXPECT_EQ(back.value(), Needs{});
}

TEST(NeedsOnTheWire, RefuseWhatIsOutOfRange) {
  const auto amount = [](wire::Needs& message, std::string name, std::uint64_t count) {
    auto& one = *message.add_resources();
    one.set_name(std::move(name)), one.set_amount(count);
  };
  const struct {
    const char* why;
    std::function<void(wire::Needs&)> set;
  } cases[] = {{"4097 cpus, at most 4096", [](auto& message) { message.set_cpus(4097); }},
      {"4294967295 cpus", [](auto& message) { message.set_cpus(~0u); }},
      {"4294967295 gpus", [](auto& message) { message.set_gpus(~0u); }},
      {"1025 gpus", [](auto& message) { message.set_gpus(1025); }},
      {"more memory than any machine has", [](auto& message) { message.set_memory_bytes(~std::uint64_t{0}); }},
      {"more disk than any machine has", [](auto& message) { message.set_disk_bytes(kBytesMax + 1); }},
      {"0 of resource tape", [&](auto& message) { amount(message, "tape", 0); }},
      {"18446744073709551615 of resource tape", [&](auto& message) { amount(message, "tape", ~std::uint64_t{0}); }},
      {"resource tape is there twice", [&](auto& message) { amount(message, "tape", 1), amount(message, "tape", 1); }},
      {"that is no name for one", [&](auto& message) { amount(message, "a b", 1); }},
      {"that is no name for one", [&](auto& message) { amount(message, "", 1); }},
      {"has an option of its own", [&](auto& message) { amount(message, "cpus", 1); }},
      {"its name is over 64 bytes", [&](auto& message) { amount(message, std::string(65, 'a'), 1); }},
      {"over 32 kinds", [&](auto& message) {
         for (int i = 0; i < 100'000; ++i) amount(message, "kind" + std::to_string(i), 1);
       }}};
  for (const auto& [why, set] : cases) {
    wire::Needs message;
    set(message);
    const auto needs = read(message);
    ASSERT_FALSE(needs) << why;
    EXPECT_NE(needs.error().text().find(why), std::string::npos) << needs.error().text();
    EXPECT_LT(needs.error().text().size(), 300u);
  }
}

TEST(NeedsOnTheWire, DamageIsRefusedOrIsInRange) {
  wire::Needs message;
  write(much(), message);
  const std::string bytes = message.SerializeAsString();
  test::Mutator mutator(41);
  int read_well = 0;
  for (int round = 0; round < test::kRounds; ++round) {
    wire::Needs received;
    if (!parse(mutator.damaged(bytes, bytes), received)) continue;
    const auto needs = read(received);
    if (!needs) continue;
    ++read_well;
    ASSERT_TRUE(check(needs.value())) << round;
    wire::Needs again;
    write(needs.value(), again);
    const auto back = read(again);
    ASSERT_TRUE(back) << round;
    ASSERT_EQ(back.value(), needs.value()) << round;
  }
  EXPECT_GT(read_well, test::kRounds / 50);
}

TEST(Needs, ARefusedNameIsQuotedAsNoTerminalObeysIt) {
  const auto refused = check_resource_name("li\x1b[2J\xc2\x9b" "31m\xe2\x80\xae");
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().what, "resource 'li?[2J?31m?' refused");
  EXPECT_EQ(quoted("caf\xc3\xa9"), "'caf\xc3\xa9'");
}

}  // namespace
}  // namespace souk
