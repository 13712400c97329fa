#include "protocol/capability.h"

#include <gtest/gtest.h>

#include <algorithm>

namespace souk {
namespace {

const std::vector<std::string> kExodusFeatures = {"http://jabber.org/protocol/muc", "http://jabber.org/protocol/disco#items", "http://jabber.org/protocol/caps",
                                                  "http://jabber.org/protocol/disco#info"};

DiscoInfo psi() {
  Form software;
  software.type = "result";
  software.add("FORM_TYPE", "hidden", "", {"urn:xmpp:dataforms:softwareinfo"})
      .add("software_version", "", "", {"0.11"})
      .add("ip_version", "text-multi", "", {"ipv6", "ipv4"})
      .add("os_version", "", "", {"10.5.1"})
      .add("os", "", "", {"Mac"})
      .add("software", "", "", {"Psi"});
  return {{{"client", "pc", "en", "Psi 0.11"}, {"client", "pc", "el", "\xCE\xA8 0.11"}}, kExodusFeatures, {software}};
}

TEST(Capability, SimpleExampleOfXep0115) {  // §5.2
  EXPECT_EQ(caps_hash({{{"client", "pc", "", "Exodus 0.9.1"}}, kExodusFeatures, {}}), "QgayPKawpkPSDYmwT/WM94uAlu0=");
}

TEST(Capability, ComplexExampleOfXep0115) { EXPECT_EQ(caps_hash(psi()), "q07IKJEyjvHSyhy//CH0CxmKi8w="); }  // §5.3

TEST(Capability, OrderDoesNotMatter) {
  DiscoInfo info = psi();
  std::reverse(info.identities.begin(), info.identities.end());
  std::reverse(info.features.begin(), info.features.end());
  std::reverse(info.forms[0].fields.begin(), info.forms[0].fields.end());
  EXPECT_EQ(caps_hash(info), caps_hash(psi()));
}

TEST(Capability, FormsAreSortedByTheirType) {
  Form other;
  other.add("FORM_TYPE", "hidden", "", {"a:first"}).add("x", "", "", {"1"});
  DiscoInfo one = psi(), two = psi();
  one.forms.push_back(other);
  two.forms.insert(two.forms.begin(), other);
  EXPECT_EQ(caps_hash(one), caps_hash(two));
  EXPECT_NE(caps_hash(one), caps_hash(psi()));
}

TEST(Capability, FormsWithoutAHiddenTypeAreNotHashed) {  // §5.4, step 3.6
  DiscoInfo info = psi();
  info.forms.push_back(Form{}.add("x", "", "", {"1"}));
  info.forms.push_back(Form{}.add("FORM_TYPE", "text-single", "", {"a:b"}).add("x", "", "", {"1"}));
  info.forms.push_back(Form{}.add("FORM_TYPE", "hidden", ""));
  EXPECT_EQ(caps_hash(info), caps_hash(psi()));
}

TEST(Capability, EveryValueCounts) {
  DiscoInfo info = psi();
  info.forms[0].fields.back().values[0] = "psi";
  EXPECT_NE(caps_hash(info), caps_hash(psi()));
}

TEST(Capability, WhatCouldStandForSomethingElseHasNoHash) {
  // The same text S as the simple example, made of other parts: it must not pass for it.
  EXPECT_EQ(caps_hash({{{"client", "pc", "", "Exodus 0.9.1<http://jabber.org/protocol/caps"}}, {"http://jabber.org/protocol/disco#info", "http://jabber.org/protocol/disco#items", "http://jabber.org/protocol/muc"}, {}}), "");
  EXPECT_EQ(caps_hash({{{"client/pc", "", "", "x"}}, {}, {}}), "");
  DiscoInfo info = psi();
  info.features.push_back("a<b");
  EXPECT_EQ(caps_hash(info), "");
  info = psi();
  info.forms[0].add("x", "", "", {"1<y"});
  EXPECT_EQ(caps_hash(info), "");
}

TEST(Capability, IllFormedInfoHasNoHash) {  // §5.4, steps 3.3 to 3.5
  DiscoInfo info = psi();
  info.identities.push_back(info.identities[0]);
  EXPECT_EQ(caps_hash(info), "");
  info = psi();
  info.features.push_back(info.features[0]);
  EXPECT_EQ(caps_hash(info), "");
  info = psi();
  info.forms.push_back(info.forms[0]);
  EXPECT_EQ(caps_hash(info), "");
}

}  // namespace
}  // namespace souk
