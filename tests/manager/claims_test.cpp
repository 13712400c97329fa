// What workers may say that they were given.
#include "manager/claims.h"

#include <gtest/gtest.h>

namespace souk {
namespace {

const std::string kAnt = "ada@grid/ant-1-x7k2p", kBee = "bob@grid/bee-q1w2e";
constexpr SipKey kKey{11, 12};

struct Told : testing::Test {
  /// As a worker names it later.
  static Held named(const Claims& claims, const std::string& jid, Held what) {
    what.attempt.number = claims.sealed(jid, what);
    return what;
  }
  Held given{{{3}, 41}, {{7}, {2}}};
  Claims before{{kKey, {1}}, {3}}, now{{kKey, {1}}, {5}};
};

TEST_F(Told, AnAttemptOfAnEarlierLifeIsBelievedOfWhomItWasGiven) {
  const Held said = named(before, kAnt, given);
  EXPECT_EQ(now.proven(kAnt, said), given);
  EXPECT_EQ(now.proven("ada@grid/ant-1-99999", said), given) << "the same worker, whose address has another end in this life";
  EXPECT_EQ(before.proven(kAnt, said), given);
}

TEST_F(Told, NobodyClaimsWhatAnotherWorkerGotOrAnotherTaskOrLife) {
  const Held said = named(before, kAnt, given);
  EXPECT_FALSE(now.proven(kBee, said));
  EXPECT_FALSE(now.proven("ada@grid/ant-2-x7k2p", said));
  for (const auto& change : {+[](Held& held) { ++held.attempt.epoch.value; }, +[](Held& held) { held.attempt.number += 1ull << Claims::kSealBits; }, +[](Held& held) { ++held.task.job.value; },
                             +[](Held& held) { ++held.task.task.value; }, +[](Held& held) { ++held.attempt.number; }}) {
    Held other = said;
    change(other);
    EXPECT_FALSE(now.proven(kAnt, other));
  }
  EXPECT_FALSE(Claims({SipKey{11, 13}, {1}}, {5}).proven(kAnt, said)) << "of another store";
}

TEST_F(Told, LaterAttemptsHaveGreaterNumbers) {
  std::uint64_t last = 0;
  for (std::uint64_t number = 1; number < 1000; ++number) {
    const std::uint64_t sealed = before.sealed(kAnt, {{{3}, number}, {{1 + number % 3}, {number}}});
    EXPECT_GT(sealed, last);
    last = sealed;
  }
  EXPECT_LT(before.sealed(kAnt, {{{3}, (1ull << 39) - 1}, {{1}, {1}}}), 1ull << 63) << "workers keep it as a signed number";
}

TEST_F(Told, AWorkerThatGuessesIsSoonNotBelievedOfEarlierLivesButOfThisOne) {
  const Held good = named(before, kAnt, given), of_now = named(now, kAnt, {{{5}, 1}, {{7}, {3}}});
  Held guess = good;
  for (unsigned i = 0; i < Claims::kFalseMax; ++i) {
    EXPECT_TRUE(now.proven(kAnt, good));
    guess.attempt.number = good.attempt.number ^ (i + 1);
    EXPECT_FALSE(now.proven("ada@grid/ant-1-" + std::to_string(i), guess)) << "lives of it cost nothing";
  }
  EXPECT_FALSE(now.proven(kAnt, good));
  EXPECT_TRUE(now.proven(kAnt, of_now));
  EXPECT_TRUE(now.proven("ada@grid/cow-1", named(before, "ada@grid/cow-1", given))) << "another machine of the same owner";
  EXPECT_TRUE(now.proven(kBee, named(before, kBee, given))) << "that is nobody else's fault";
}

TEST_F(Told, AnAccountThatGuessesUnderManyNamesIsBelievedInNone) {
  const Held good = named(before, kAnt, given);
  Held guess = good;
  for (unsigned i = 0; i < Claims::kFalseOfAccount; ++i) {
    EXPECT_TRUE(now.proven(kAnt, good));
    guess.attempt.number = good.attempt.number ^ (i + 1);
    EXPECT_FALSE(now.proven("ada@grid/another" + std::to_string(i) + "-x", guess)) << "names of workers cost nothing";
  }
  EXPECT_FALSE(now.proven(kAnt, good));
  EXPECT_TRUE(now.proven(kBee, named(before, kBee, given)));
}

TEST_F(Told, WhoHasAnotherNameNowIsNotTakenForAGuesser) {
  const Held good = named(before, kAnt, given);
  for (int lease = 0; lease < 1000; ++lease)
    for (std::uint64_t number = 1; number < Claims::kFalseMax; ++number) EXPECT_FALSE(now.proven("ada@grid/renamed-1", named(before, kBee, {{{3}, number}, {{7}, {number}}})));
  EXPECT_TRUE(now.proven("ada@grid/renamed-1", named(before, "ada@grid/renamed-1", given))) << "said again, it is the same mistake";
  EXPECT_TRUE(now.proven(kAnt, good));
}

TEST_F(Told, WhatRanBeforeTheKeyBeganIsBelievedAsItStood) {
  Claims first{{kKey, {5}}, {5}}, second{{kKey, {5}}, {6}};
  EXPECT_EQ(first.proven(kAnt, given), given) << "the upgrade";
  EXPECT_EQ(first.sealed(kAnt, given), given.attempt.number) << "and told to stop it understands that";
  EXPECT_EQ(second.proven(kAnt, given, true), given) << "the manager was started once more before that ended";
  for (std::uint64_t number = 1; number < 1000; ++number) EXPECT_FALSE(second.proven(kBee, {{{3}, number}, {{7}, {2}}})) << "who came later was given nothing then";
  const Held since{{{5}, 1}, {{7}, {3}}};
  EXPECT_FALSE(first.proven(kAnt, since));
  EXPECT_FALSE(second.proven(kAnt, since, true)) << "from then on it is proven or not at all";
  EXPECT_EQ(second.proven(kBee, named(first, kBee, since)), since) << "what nobody can guess is counted against nobody";
}

}  // namespace
}  // namespace souk
