#include "manager/policy.h"

#include <gtest/gtest.h>

namespace souk {
namespace {
using namespace std::chrono_literals;

constexpr const char* kCampus = R"(
[groups]
staff = ["ada@cs.edu", "@physics.edu"]
cheats = "mallory@cs.edu"

[[rule]]
name = "shut out"
who = "group:cheats"
roles = []

[[rule]]
name = "staff"
who = "group:staff"
roles = ["admin", "worker"]

[[rule]]
name = "students"
who = ["@cs.edu", "@math.edu"]
roles = "submitter"
queued = 1000
running = 50
bytes = "2GiB"
per-minute = 6
weight = 0.5

[[rule]]
who = "anyone"
roles = ["watcher"]
)";

Policy campus() {
  auto policy = Policy::parse(kCampus, "/etc/souk/policy.toml");
  EXPECT_TRUE(policy) << (policy ? "" : policy.error().text());
  return policy ? policy.value() : Policy{};
}
std::string says(const Policy& policy, std::string_view jid, Role role) {
  const Verdict verdict = policy.decide(jid, role);
  return (verdict.allowed ? "yes: " : "no: ") + verdict.rule;
}
std::string why_not(std::string_view text) {
  const auto policy = Policy::parse(text, "p.toml");
  return policy ? "fine" : policy.error().why;
}

TEST(Policy, TheFirstRuleThatNamesSomebodyIsTheirs) {
  const Policy policy = campus();
  EXPECT_EQ(says(policy, "bob@cs.edu", Role::submitter), "yes: rule 'students' (policy.toml line 16)");
  EXPECT_EQ(says(policy, "bob@cs.edu", Role::admin), "no: rule 'students' (policy.toml line 16) does not make bob@cs.edu an admin");
  EXPECT_EQ(says(policy, "bob@cs.edu", Role::watcher), "no: rule 'students' (policy.toml line 16) does not make bob@cs.edu a watcher");  // though a later rule makes anyone one
  EXPECT_EQ(says(policy, "mallory@cs.edu", Role::submitter), "no: rule 'shut out' (policy.toml line 6) gives no role at all");
  EXPECT_EQ(says(policy, "eve@x.org", Role::watcher), "yes: the rule in policy.toml line 26");
  EXPECT_EQ(says(policy, "eve@x.org", Role::submitter), "no: the rule in policy.toml line 26 does not make eve@x.org a submitter");
}

TEST(Policy, AnAdminMayDoWhatSubmittersAndWatchersDoButIsNoWorker) {
  const auto policy = Policy::parse("[[rule]]\nwho = 'ada@cs.edu'\nroles = 'admin'\n", "p.toml").value();
  for (const Role role : {Role::admin, Role::submitter, Role::watcher}) EXPECT_TRUE(policy.decide("ada@cs.edu", role).allowed);
  EXPECT_FALSE(policy.decide("ada@cs.edu", Role::worker).allowed);
  EXPECT_EQ(says(policy, "bob@cs.edu", Role::watcher), "no: no rule of 'p.toml' names bob@cs.edu");
}

TEST(Policy, AnAccountThatStandsForAnInvitationWorksForNobody) {
  Policy open;
  ASSERT_TRUE(open.grant(Role::worker, "home.org", "--allow-worker"));
  ASSERT_TRUE(open.grant(Role::submitter, "home.org", "--allow"));
  for (const Role role : {Role::worker, Role::submitter}) EXPECT_FALSE(open.decide("invite-k3x9@home.org", role).allowed);
  EXPECT_TRUE(open.decide("w-k3x9@home.org", Role::worker).allowed);
}

TEST(Policy, WhatTheCommandLineGrantsNoFileTakes) {
  Policy policy = campus();
  ASSERT_TRUE(policy.grant(Role::admin, "mallory@cs.edu", "--admin"));
  ASSERT_TRUE(policy.grant(Role::worker, "home.org", "--allow-worker"));
  EXPECT_EQ(says(policy, "mallory@cs.edu", Role::submitter), "yes: --admin");
  EXPECT_EQ(says(policy, "w@home.org", Role::worker), "yes: --allow-worker");
  EXPECT_FALSE(policy.decide("w@home.org", Role::submitter).allowed);
  for (const char* bad : {"", "group:staff", "a@b/c", "@@", "a b"}) EXPECT_FALSE(policy.grant(Role::admin, bad, "--admin")) << bad;
}

TEST(Policy, WithoutAFileOnlyTheCommandLineCounts) {
  Policy policy;
  EXPECT_EQ(says(policy, "bob@cs.edu", Role::submitter), "no: its owner can start the manager with --allow bob@cs.edu");
  ASSERT_TRUE(policy.grant(Role::submitter, "cs.edu", "--allow"));
  EXPECT_EQ(says(policy, "bob@cs.edu", Role::submitter), "yes: --allow");
  EXPECT_FALSE(policy.decide("bob@cs.edu", Role::admin).allowed);
  EXPECT_FALSE(policy.terms("bob@cs.edu").queued);
}

TEST(Policy, KnowsWhomItNamesAndWhoseGridItIs) {
  Policy policy = campus();
  ASSERT_TRUE(policy.grant(Role::admin, "root@home.org", "--admin"));
  ASSERT_TRUE(policy.grant(Role::worker, "lab@home.org", "--allow-worker"));
  ASSERT_TRUE(policy.grant(Role::worker, "volunteers.org", "--allow-worker"));
  EXPECT_EQ(policy.named_by("root@home.org"), "--admin");
  EXPECT_EQ(policy.named_by("lab@home.org"), "--allow-worker");
  EXPECT_EQ(policy.named_by("x@volunteers.org"), "") << "all of a domain are nobody in particular";
  EXPECT_EQ(policy.named_by("ada@cs.edu"), "group 'staff'");
  EXPECT_TRUE(policy.vouches("ada@cs.edu")) << "an admin by a rule";
  EXPECT_TRUE(policy.vouches("root@home.org"));
  EXPECT_TRUE(policy.vouches("lab@home.org"));
  EXPECT_FALSE(policy.vouches("x@volunteers.org"));
}

TEST(Policy, LimitsAreThoseOfTheSameRule) {
  const Policy policy = campus();
  const Entitlement terms = policy.terms("bob@math.edu");
  EXPECT_EQ(terms.queued, 1000u);
  EXPECT_EQ(terms.running, 50u);
  EXPECT_EQ(terms.bytes, 2ull << 30);
  EXPECT_EQ(terms.per_minute, 6u);
  EXPECT_EQ(terms.weight, 0.5);
  EXPECT_EQ(terms.rule, "rule 'students' (policy.toml line 16)");
  EXPECT_FALSE(policy.terms("ada@cs.edu").queued);
  EXPECT_TRUE(policy.limits_bytes());
}

TEST(Policy, ABrokenFileIsRefusedWithItsLine) {
  const std::string good = "[[rule]]\nwho = '@a.b'\nroles = 'worker'\n";
  EXPECT_EQ(why_not(good), "fine");
  EXPECT_EQ(why_not(""), "it has no rule, so nobody could do anything");
  EXPECT_TRUE(why_not("[[rule]\n").starts_with("line 1: "));
  EXPECT_EQ(why_not("rule = 3\n"), "line 1: rule is no list of tables");
  EXPECT_EQ(why_not("rules = []\n"), "line 1: 'rules' is no key of a policy");
  EXPECT_EQ(why_not("[[rule]]\nwho = '@a.b'\n"), "line 1: the rule gives no roles");
  EXPECT_EQ(why_not("[[rule]]\nroles = 'admin'\n"), "line 1: the rule names nobody");
  EXPECT_EQ(why_not("[[rule]]\nwho = '@a.b'\nroles = ['admin', 'king']\n"), "line 3: 'king' is no role");
  EXPECT_EQ(why_not("[[rule]]\nwho = '@a.b'\nroles = [1]\n"), "line 3: roles is neither a text nor a list of texts");
  EXPECT_EQ(why_not("[[rule]]\nwho = 'ada'\nroles = []\n"), "line 2: 'ada' names nobody: it is no address");
  EXPECT_EQ(why_not("[[rule]]\nwho = 'group:stuff'\nroles = []\n"), "line 2: there is no group 'stuff'");
  EXPECT_EQ(why_not("[groups]\na = ['group:b']\n" + good), "line 2: members of a group are people and domains, not 'group:b'");
  EXPECT_EQ(why_not(good + "queued = -1\n"), "line 4: queued is no whole number from 0 to 1000000000000");
  EXPECT_EQ(why_not(good + "queued = 1.5\n"), "line 4: queued is no whole number from 0 to 1000000000000");
  EXPECT_TRUE(why_not(good + "bytes = 5\n").starts_with("line 4: bytes: "));
  EXPECT_EQ(why_not(good + "weight = nan\n"), "line 4: weight is no number from 0.001 to 1000");
  EXPECT_EQ(why_not(good + "queue = 5\n"), "line 4: 'queue' is no key of a rule");
  EXPECT_EQ(why_not(std::string(Policy::kFileMax + 1, '#')), "it is over 1 MiB");
  EXPECT_NE(why_not(std::string("\0\xff\x01", 3)), "fine");
}

TEST(Policy, AnyDamageIsRefusedOrRead) {
  const std::string whole = kCampus;
  for (std::size_t at = 0; at < whole.size(); ++at) {
    (void)why_not(std::string_view(whole).substr(0, at));
    for (const char c : {'\0', '"', '[', ']', '=', '\n', '\xff', '9'}) {
      std::string damaged = whole;
      damaged[at] = c;
      (void)why_not(damaged);
    }
  }
}

TEST(Paces, SoManyInARowAndThenEvenly) {
  Paces paces;
  Instant now{};
  for (int i = 0; i < 6; ++i) EXPECT_EQ(paces.take("bob", 6, now), Duration(0));
  EXPECT_NEAR(std::chrono::duration<double>(paces.take("bob", 6, now)).count(), 10, 0.01);
  EXPECT_EQ(paces.take("ada", 6, now), Duration(0));
  now += 4s;
  EXPECT_NEAR(std::chrono::duration<double>(paces.take("bob", 6, now)).count(), 6, 0.01);
  now += 6s + 10us;
  EXPECT_EQ(paces.take("bob", 6, now), Duration(0));
  EXPECT_GT(paces.take("bob", 6, now), Duration(0));
  EXPECT_EQ(paces.take("eve", 0, now), 1min);
}

TEST(KeptBytes, AreThoseOfJobsThatAreKept) {
  KeptBytes kept;
  kept.add({1}, "bob", 100), kept.add({2}, "bob", 10), kept.add({1}, "bob", 1), kept.add({3}, "ada", 5);
  EXPECT_EQ(kept.of("bob"), 111u);
  kept.forget({1});
  kept.forget({1});
  EXPECT_EQ(kept.of("bob"), 10u);
  kept.forget({2});
  EXPECT_EQ(kept.of("bob"), 0u);
  EXPECT_EQ(kept.of("ada"), 5u);
}

}  // namespace
}  // namespace souk
