#include "protocol/invitation.h"

#include <gtest/gtest.h>

#include "tests/protocol/mutate.h"

namespace souk {
namespace {

const InvitationLink kLink{"grid.example.edu", "invite-k3x9m2ab", "abcdefgh23456789", "manager@grid.grid.example.edu/so;é"};

TEST(Invitation, HasTheShapeOfALinkForNewAccounts) {
  EXPECT_EQ(kLink.text(), "xmpp:grid.example.edu?register;preauth=invite-k3x9m2ab.abcdefgh23456789;manager=manager%40grid.grid.example.edu%2Fso%3B%C3%A9");
}

TEST(Invitation, ReadsBackAsItWas) {
  auto link = kLink;
  link.manager = "manager@grid.grid.example.edu/souk";
  const auto read = parse_invitation(link.text() + ";later=x;y");
  ASSERT_TRUE(read) << read.error().text();
  EXPECT_EQ(read.value().text(), link.text());
  EXPECT_EQ(read.value().account(), "invite-k3x9m2ab@grid.example.edu");
}

TEST(Invitation, ALinkThatTheShellCutSaysSo) {
  const auto read = parse_invitation("xmpp:grid.example.edu?register");
  ASSERT_FALSE(read);
  EXPECT_NE(read.error().text().find("quotes"), std::string::npos);
}

TEST(Invitation, OtherLinksAreRefused) {
  for (const std::string bad : {"", "xmpp:", "https://x", "xmpp:d?preauth=invite-a.b;manager=m@d/r", "xmpp:d?register;preauth=tokenofaserver;manager=m@d", "xmpp:d?register;preauth=ada.pw;manager=m@d",
                                "xmpp:d?register;preauth=invite-a.;manager=m", "xmpp:d e?register;preauth=invite-a.b;manager=m", "xmpp:d?register;preauth=invite-a.b;manager=%4",
                                "xmpp:d?register;preauth=invite-a.b;manager=%0a", "xmpp:d?register;preauth=invite-a.b", "xmpp:a@d?register;preauth=invite-a.b;manager=m", "xmpp:d/r?register;preauth=invite-a.b;manager=m"})
    EXPECT_FALSE(parse_invitation(bad)) << bad;
  EXPECT_FALSE(parse_invitation(kLink.text() + std::string(3000, 'x')));
}

TEST(Invitation, DamagedLinksGiveNoNamesThatCouldSayMore) {
  test::Mutator mutator(5);
  for (int i = 0; i < test::kRounds; ++i) {
    const auto read = parse_invitation(mutator.damaged(kLink.text(), ";=%?\"\n@/"));
    if (!read) continue;
    for (const auto& text : {read.value().domain, read.value().name, read.value().secret, read.value().manager}) {
      EXPECT_FALSE(text.empty());
      EXPECT_EQ(text.find_first_of("\n\r\t "), std::string::npos) << text;
    }
    EXPECT_EQ(read.value().name.find_first_of("@/\"\\"), std::string::npos);
  }
}

}  // namespace
}  // namespace souk
