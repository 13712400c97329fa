// Which tasks run in a sandbox, which bare, and which not at all.
#include <gtest/gtest.h>

#include "worker/confine.h"

namespace souk::worker {
namespace {

using namespace std::chrono_literals;

Confining of(SandboxMode mode, bool can = true, bool network = false) { return {mode, can, can ? "" : "bwrap is not installed", network, "ada@grid.example", {}}; }

std::string told(const Confining& with, const std::string& submitter, Sandboxing asks = Sandboxing::by_owner, bool network = false, const std::string& service = "") {
  Command command;
  command.argv = {"true"};
  command.sandbox = asks, command.network = network, command.service = service;
  const Confinement c = confine(with, submitter, command);
  if (!c.refusal.empty()) return "refused: " + c.refusal;
  return std::string(c.boxed ? "boxed" : "bare") + (c.network ? " with network" : "");
}

constexpr const char* kAda = "ada@grid.example";
constexpr const char* kEve = "eve@grid.example";

TEST(Confine, KeepsOthersInASandboxAndItsOwnBare) {
  EXPECT_EQ(told(of(SandboxMode::automatic), kAda), "bare");
  EXPECT_EQ(told(of(SandboxMode::automatic), kEve), "boxed");
  EXPECT_EQ(told(of(SandboxMode::automatic), ""), "boxed") << "an older manager does not say whose it is";
  EXPECT_EQ(told(of(SandboxMode::bwrap), kAda), "boxed");
  EXPECT_EQ(told(of(SandboxMode::none), kEve), "bare");
  Confining nobody = of(SandboxMode::automatic);
  nobody.owner.clear();
  EXPECT_EQ(told(nobody, ""), "boxed") << "no owner is nobody's friend";
}

TEST(Confine, LetsNobodyElseStayLongAfterAStop) {
  Command command;
  command.argv = {"true"};
  command.grace = 1h;
  for (const SandboxMode mode : {SandboxMode::automatic, SandboxMode::none, SandboxMode::bwrap}) EXPECT_EQ(confine(of(mode), kEve, command).grace, 10s);
  EXPECT_EQ(confine(of(SandboxMode::bwrap), kAda, command).grace, 10s);
  EXPECT_EQ(confine(of(SandboxMode::none), kAda, command).grace, 1h);
  command.grace = 2s;
  EXPECT_EQ(confine(of(SandboxMode::none), kEve, command).grace, 2s);
}

TEST(Confine, NeverRunsOthersBareWhereNoSandboxWorks) {
  EXPECT_EQ(told(of(SandboxMode::automatic, false), kEve), "refused: a task of eve@grid.example would need a sandbox here, and none works: bwrap is not installed");
  EXPECT_EQ(told(of(SandboxMode::automatic, false), kAda), "bare");
  EXPECT_EQ(told(of(SandboxMode::automatic, false), kAda, Sandboxing::required), "refused: asks for a sandbox, and none works: bwrap is not installed");
}

TEST(Confine, GivesOnlyImagesThatItsOwnerOffers) {
  Confining with = of(SandboxMode::automatic);
  with.images = {"debian:12"};
  Command command;
  command.argv = {"true"};
  command.image = "debian:12";
  EXPECT_TRUE(confine(with, kAda, command).boxed) << "an own task as well: an image is the system of a sandbox";
  EXPECT_EQ(confine(with, kAda, command).refusal, "");
  EXPECT_EQ(confine(with, kEve, command).refusal, "");
  command.image = "debian:13";
  EXPECT_EQ(confine(with, kAda, command).refusal, "asks for image debian:13, which is not offered here");
  with.mode = SandboxMode::none;
  command.image = "debian:12";
  EXPECT_TRUE(confine(with, kAda, command).boxed);
}

TEST(Confine, HearsTheJob) {
  EXPECT_EQ(told(of(SandboxMode::automatic), kAda, Sandboxing::required), "boxed");
  EXPECT_EQ(told(of(SandboxMode::automatic), kAda, Sandboxing::none), "bare");
  EXPECT_EQ(told(of(SandboxMode::automatic), kEve, Sandboxing::none), "refused: asks to run without a sandbox, which only tasks of ada@grid.example do here");
  EXPECT_EQ(told(of(SandboxMode::bwrap), kAda, Sandboxing::none), "refused: asks to run without a sandbox, which no task does here");
  EXPECT_EQ(told(of(SandboxMode::none), kEve, Sandboxing::none), "bare");
}

TEST(Confine, GivesTheNetworkAsTheOwnerAllows) {
  EXPECT_EQ(told(of(SandboxMode::automatic), kEve, Sandboxing::by_owner, true), "refused: asks for the network, which its owner does not allow to tasks of others (--allow-network)");
  EXPECT_EQ(told(of(SandboxMode::automatic, true, true), kEve, Sandboxing::by_owner, true), "boxed with network");
  EXPECT_EQ(told(of(SandboxMode::automatic, true, true), kEve), "boxed") << "not unless it asks";
  EXPECT_EQ(told(of(SandboxMode::bwrap), kAda, Sandboxing::by_owner, true), "boxed with network");
}

TEST(Confine, LetsServicesAnswer) { EXPECT_EQ(told(of(SandboxMode::automatic, false), kEve, Sandboxing::by_owner, false, "sum"), "bare"); }

TEST(Bounds, AreWhatWasAskedElseAShareAndNeverMoreThanTheOwners) {
  Command command;
  Needs needs;
  needs.cpus = 2;
  Bounds owners;
  Bounds b = bounds_for(owners, command, needs, 1 << 30, 10ull << 30);
  EXPECT_EQ(b.memory, 2ull << 30);
  EXPECT_EQ(b.disk, 20ull << 30);
  EXPECT_EQ(b.file, b.disk);
  EXPECT_EQ(b.processes, 512u);
  EXPECT_EQ(b.time, 0ms);
  needs.memory_bytes = 100 << 20, needs.disk_bytes = 1 << 30;
  command.time_limit = 1h;
  b = bounds_for(owners, command, needs, 1 << 30, 10ull << 30);
  EXPECT_EQ(b.memory, 100ull << 20);
  EXPECT_EQ(b.tmp, 50ull << 20) << "/tmp is memory";
  EXPECT_EQ(b.disk, 1ull << 30);
  EXPECT_EQ(b.time, 1h);
  for (const char* bound : {"memory=64MiB", "disk=2GiB", "time=30m", "cpu=10s", "processes=9", "file=1MiB"}) ASSERT_TRUE(read_bound(bound, owners)) << bound;
  b = bounds_for(owners, command, needs, 1 << 30, 10ull << 30);
  EXPECT_EQ(b.memory, 64ull << 20);
  EXPECT_EQ(b.disk, 1ull << 30);
  EXPECT_EQ(b.file, 1ull << 20);
  EXPECT_EQ(b.time, 30min);
  EXPECT_EQ(b.cpu, 10s);
  EXPECT_EQ(b.processes, 9u);
}

TEST(Bounds, RefuseWhatTheyCannotRead) {
  Bounds into;
  for (const char* bound : {"", "memory", "memory=", "memory=lots", "memory=1KiB", "processes=0", "processes=x", "processes=10000000", "time=0", "time=5", "cpu=10ms", "space=1GiB", "=1GiB"}) {
    const auto read = read_bound(bound, into);
    EXPECT_FALSE(read) << bound;
  }
  EXPECT_EQ(into, Bounds{});
}

}  // namespace
}  // namespace souk::worker
