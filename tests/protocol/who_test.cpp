#include "protocol/who.h"

#include <gtest/gtest.h>

namespace souk {
namespace {

std::string read(std::string_view text) {
  const auto who = Who::parse(text);
  return who ? who.value().text() : "no: " + who.error().why;
}

TEST(Who, IsAPersonADomainAGroupOrAnyone) {
  EXPECT_EQ(read("Ada@Example.edu"), "ada@example.edu");
  EXPECT_EQ(read("@Example.edu"), "@example.edu");
  EXPECT_EQ(read("group:Staff"), "group:Staff");
  EXPECT_EQ(read("anyone"), "anyone");
  EXPECT_EQ(read("ada@[::1]"), "ada@[::1]");
}

TEST(Who, NamesNobodyElse) {
  for (const char* bad : {"", "ada", "@", "ada@", "a@b@c", "group:", "group:a b", "group:a/b", "ada@example.edu/phone", "a da@example.edu", "ada@exa mple", "<a@b", "a@b>", "a@\n", "Anyone", "\xff@b", "a@[::1"})
    EXPECT_TRUE(read(bad).starts_with("no: ")) << bad << " is " << read(bad);
  EXPECT_EQ(read(std::string(300, 'a') + "@b"), "no: it is over 256 bytes");
}

TEST(Who, MeansNobodyWhoOnlyLooksAlike) {
  const auto means = [](std::string_view text, std::string_view jid, std::vector<std::string> groups = {}) { return Who::parse(text).value().means(jid, groups); };
  EXPECT_TRUE(means("ada@example.edu", "ada@example.edu"));
  EXPECT_FALSE(means("ada@example.edu", "ada@example.edu.evil.org"));
  EXPECT_FALSE(means("@example.edu", "example.edu@evil.org"));
  EXPECT_FALSE(means("@example.edu", "ada@notexample.edu"));
  EXPECT_FALSE(means("@example.edu", "ada@cs.example.edu"));  // a domain is not those below it
  EXPECT_TRUE(means("@example.edu", "example.edu"));          // the server itself
  EXPECT_TRUE(means("group:b", "x@y", {"a", "b"}));
  EXPECT_FALSE(means("group:b", "x@y", {"a", "bb"}));
  EXPECT_FALSE(any_means({}, "x@y", {}));
}

TEST(Who, IsInTheGroupsThatNameIt) {
  const Groups groups{{{"cs", {Who::parse("@cs.edu").value()}}, {"staff", {Who::parse("ada@cs.edu").value()}}, {"none", {}}}};
  EXPECT_EQ(groups.of("ada@cs.edu"), (std::vector<std::string>{"cs", "staff"}));
  EXPECT_EQ(groups.of("bob@cs.edu"), (std::vector<std::string>{"cs"}));
  EXPECT_TRUE(groups.of("eve@x.org").empty());
}

}  // namespace
}  // namespace souk
