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
  Claims before{kKey, {3}}, now{kKey, {5}};
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
  EXPECT_FALSE(Claims(SipKey{11, 13}, {5}).proven(kAnt, said)) << "of another store";
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

TEST_F(Told, WhoGuessesIsSoonNotBelievedOfEarlierLivesButOfThisOne) {
  const Held good = named(before, kAnt, given), of_now = named(now, kAnt, {{{5}, 1}, {{7}, {3}}});
  Held guess = good;
  for (unsigned i = 0; i < Claims::kFalseMax; ++i) {
    EXPECT_TRUE(now.proven(kAnt, good));
    guess.attempt.number = good.attempt.number ^ (i + 1);
    EXPECT_FALSE(now.proven("ada@grid/another-" + std::to_string(i), guess)) << "the account counts, since names of workers cost nothing";
  }
  EXPECT_FALSE(now.proven(kAnt, good));
  EXPECT_TRUE(now.proven(kAnt, of_now));
  EXPECT_TRUE(now.proven(kBee, named(before, kBee, given))) << "that is nobody else's fault";
}

}  // namespace
}  // namespace souk
