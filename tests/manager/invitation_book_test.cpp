#include "manager/invitation_book.h"

#include <gtest/gtest.h>

#include "tests/protocol/mutate.h"

namespace souk {
namespace {

constexpr std::int64_t kDay = 24 * 3600 * 1000;

Invitation for_workers(int uses = 2) {
  Invitation one;
  one.by = "admin@grid.test";
  one.made_ms = 0, one.expires_ms = 7 * kDay, one.uses = uses;
  return one;
}

struct Invited : testing::Test {
  InvitationBook book;
  std::string use(const std::string& account, std::int64_t now = kDay, const std::string& id = "invite-a") {
    const auto used = book.use(id, account, now);
    if (used) book.made(id, account);
    return used ? "in" : used.error().why;
  }
  void SetUp() override { ASSERT_TRUE(book.add("invite-a", for_workers())); }
};

TEST_F(Invited, IsGoodForAsManyAsItSays) {
  EXPECT_EQ(use("w-1"), "in");
  EXPECT_EQ(use("w-2"), "in");
  EXPECT_EQ(use("w-3"), "it was used as often as it may be");
  EXPECT_EQ(book.to_remove(kDay), std::vector<std::string>{"invite-a"});
}

TEST_F(Invited, AUseThatCameToNothingIsGivenBack) {
  use("w-1"), use("w-2");
  book.give_back("invite-a", "w-2");
  EXPECT_EQ(book.maker("w-2"), "");
  EXPECT_EQ(use("w-3"), "in");
}

TEST_F(Invited, EndsWhenItExpiresAndAtOnceWhenRevoked) {
  EXPECT_EQ(use("w-1", 7 * kDay - 1), "in");
  EXPECT_EQ(use("w-2", 7 * kDay), "it has expired");
  EXPECT_TRUE(book.revoke("invite-a"));
  EXPECT_EQ(use("w-2"), "it was revoked");
  EXPECT_FALSE(book.revoke("invite-b"));
  EXPECT_EQ(use("w-2", kDay, "invite-b"), "this grid does not know it");
}

TEST_F(Invited, KnowsWhichAccountsItMadeAlsoAfterItEnded) {
  auto person = for_workers();
  person.role = Invitation::Role::user;
  ASSERT_TRUE(book.add("invite-p", person));
  use("w-1"), use("ada", kDay, "invite-p");
  (void)!book.revoke("invite-a");
  book.removed("invite-a");
  book.forget(1000 * kDay);
  EXPECT_EQ(book.maker("w-1"), "invite-a");
  EXPECT_EQ(book.maker("ada"), "invite-p");
  EXPECT_TRUE(book.stands_for_one("invite-a"));
}

TEST_F(Invited, IsTheSameWhenItIsReadAgain) {
  use("w-1");
  (void)!book.revoke("invite-a");
  const auto again = InvitationBook::read(book.text());
  ASSERT_TRUE(again);
  EXPECT_EQ(again.value().text(), book.text());
  EXPECT_EQ(again.value().maker("w-1"), "invite-a");
  EXPECT_FALSE(again.value().open("invite-a", kDay));
}

TEST_F(Invited, AnAccountThatIsBeingMadeIsNotItsOwnYet) {
  auto person = for_workers(3);
  person.role = Invitation::Role::user;
  ASSERT_TRUE(book.add("invite-p", person));
  ASSERT_TRUE(book.use("invite-p", "ada", kDay));  // ada may have been there for years: the server was not asked yet
  ASSERT_TRUE(book.use("invite-p", "bob", kDay));
  ASSERT_TRUE(book.use("invite-a", "w-1", kDay));
  book.made("invite-p", "bob");
  EXPECT_EQ(book.all().at("invite-p").accounts, std::vector<std::string>{"bob"}) << "a revocation with accounts takes away no other";
  EXPECT_EQ(book.maker("ada"), "");
  EXPECT_EQ(book.maker("bob"), "invite-p");
  EXPECT_EQ(use("carl", kDay, "invite-p"), "in");
  EXPECT_EQ(use("dora", kDay, "invite-p"), "it was used as often as it may be") << "what is being made counts";
  // The manager dies: nobody will ever know of ada. A worker's name was drawn by lot.
  const auto again = InvitationBook::read(book.text());
  ASSERT_TRUE(again);
  EXPECT_EQ(again.value().all().at("invite-p").accounts, (std::vector<std::string>{"bob", "carl"}));
  EXPECT_TRUE(again.value().open("invite-p", kDay));
  EXPECT_EQ(again.value().maker("w-1"), "invite-a");
}

TEST_F(Invited, HasBounds) {
  auto one = for_workers(InvitationBook::kUsesMax + 1);
  EXPECT_FALSE(book.add("b", one));
  one = for_workers(0);
  EXPECT_FALSE(book.add("b", one));
  one = for_workers();
  one.expires_ms = 366 * kDay;
  EXPECT_FALSE(book.add("b", one));
  one.expires_ms = 0;
  EXPECT_FALSE(book.add("b", one));
  for (std::size_t i = 1; i < InvitationBook::kOpenMax; ++i) ASSERT_TRUE(book.add("x" + std::to_string(i), for_workers()));
  EXPECT_FALSE(book.add("b", for_workers()));
}

TEST_F(Invited, ADamagedFileIsAnErrorAndNoCrash) {
  use("w-1");
  test::Mutator mutator(3);
  for (int i = 0; i < 3000; ++i) {
    const auto read = InvitationBook::read(mutator.damaged(book.text(), "{}[]\"null-1,"));
    EXPECT_FALSE(read ? read.value().text().empty() : read.error().why.empty() && read.error().what.empty());
  }
  EXPECT_FALSE(InvitationBook::read("[]"));
  EXPECT_FALSE(InvitationBook::read(""));
}

}  // namespace
}  // namespace souk
