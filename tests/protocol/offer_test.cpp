#include "protocol/offer.h"

#include <gtest/gtest.h>

#include "tests/protocol/mutate.h"

namespace souk {
namespace {

Offer full() {
  Offer offer;
  offer.slots = 8;
  offer.cpus = 16;
  offer.memory_bytes = 64ull << 30;
  offer.disk_bytes = 123456789;
  offer.os = "linux";
  offer.arch = "x86_64";
  offer.hostname = "ant-7";
  offer.cpu_model = "Æ Processor (tm)";
  offer.version = "0.1.0";
  offer.software = {{"python", "3.11.2"}, {"gcc", ""}, {"r", "a=b"}};
  offer.gpus = {"A100", "A100", "T4"};
  offer.tags = {{"site", "campus"}, {"rack", "12"}};
  offer.resources = {{"license.matlab", {2, {}}}, {"fpga", {2, {"left", "pcie/0:1"}}}};
  offer.services = {"fft", "word-count"};
  offer.images = {"debian:12", "localhost/lab:3"};
  offer.sandbox = SandboxLevel::cgroup, offer.sandbox_note = "bwrap 0.8.0, seccomp", offer.network = true;
  offer.speed = 1.3;
  return offer;
}

Form& set(Form& form, const std::string& var, std::vector<std::string> values) {
  for (auto& field : form.fields)
    if (field.var == var) field.values = values;
  if (!form.find(var)) form.add(var, "text-multi", "", std::move(values));
  return form;
}

TEST(Offer, ComesBackAsItWas) {
  const auto back = offer_from(to_form(full()));
  ASSERT_TRUE(back) << back.error().text();
  EXPECT_EQ(back.value(), full());
  const auto small = offer_from(to_form(Offer{}));
  ASSERT_TRUE(small) << small.error().text();
  EXPECT_EQ(small.value(), Offer{});
}

TEST(Offer, IsAResultFormOfItsOwnType) {
  const Form form = to_form(full());
  EXPECT_EQ(form.type, "result");
  ASSERT_NE(form.find("FORM_TYPE"), nullptr);
  EXPECT_EQ(form.find("FORM_TYPE")->type, "hidden");  // else XEP-0115 does not hash it
  EXPECT_EQ(form.text("FORM_TYPE"), "urn:souk:offer:1");
  EXPECT_EQ(form.text("slots"), "8");
}

TEST(Offer, RefusesNumbersOutOfRangeAndSaysWhich) {
  const struct {
    const char *var, *text;
  } cases[] = {{"slots", "0"},  {"slots", "4097"}, {"slots", "-1"},   {"slots", "2 "},  {"slots", "two"},     {"slots", ""},  {"slots", "99999999999999999999"},
               {"slots", "+4"}, {"cpus", "-1"},    {"cpus", "65537"}, {"cpus", "0x10"}, {"memory-bytes", "-5"}, {"memory-bytes", "1152921504606846977"},
               {"disk-bytes", "18446744073709551616"}, {"disk-bytes", "1e9"}};
  for (const auto& [var, text] : cases) {
    Form form = to_form(full());
    const auto offer = offer_from(set(form, var, {text}));
    ASSERT_FALSE(offer) << var << '=' << text;
    EXPECT_NE(offer.error().why.find(var), std::string::npos) << offer.error().text();
    EXPECT_NE(offer.error().remedy.find("whole number"), std::string::npos);
  }
  for (const char* var : {"slots", "cpus", "memory-bytes", "disk-bytes"}) {
    Form form = to_form(full());
    std::erase_if(form.fields, [&](const Field& field) { return field.var == var; });
    EXPECT_FALSE(offer_from(form)) << var << " is missing";
    EXPECT_FALSE(offer_from(set(form, var, {"1", "2"}))) << var << " twice";
  }
}

TEST(Offer, WritesResourcesAsPeopleDoAndSpeedInTenths) {
  Offer offer = full();
  offer.speed = 0.96;
  const Form form = to_form(offer);
  ASSERT_NE(form.find("resource"), nullptr);
  EXPECT_EQ(form.find("resource")->values, (std::vector<std::string>{"fpga=[left,pcie/0:1]", "license.matlab=2"}));
  EXPECT_EQ(form.text("speed"), "1.0");
  EXPECT_EQ(to_form(Offer{}).find("speed"), nullptr);
  EXPECT_EQ(to_form(Offer{}).find("resource"), nullptr);
}

TEST(Offer, RefusesResourcesThatAreNone) {
  const std::string long_list = "x=[" + std::string(kResourceTextMax, 'a') + "]";
  std::string many_units = "x=[";
  for (std::size_t n = 0; n <= kResourceUnitsMax; ++n) many_units += "u" + std::to_string(n) + (n < kResourceUnitsMax ? "," : "]");
  for (const std::string& text : {std::string("fpga"), std::string("=1"), std::string("fpga="), std::string("fpga=0"), std::string("fpga=-1"), std::string("fpga=1.5"), std::string("fpga=2 "),
                                  std::string("fpga=1000000001"), std::string("fpga=99999999999999999999"), std::string("fpga=[]"), std::string("fpga=[a"), std::string("fpga=[a,]"),
                                  std::string("fpga=[a,a]"), std::string("fpga=[a b]"), std::string("fpga=[a\nb]"), std::string("memory=2"), std::string("1fpga=2"), std::string("f..p=2"), long_list, many_units}) {
    EXPECT_FALSE(parse_resource(text)) << text;
    Form form = to_form(full());
    EXPECT_FALSE(offer_from(set(form, "resource", {text}))) << text;
  }
  Form form = to_form(full());
  EXPECT_FALSE(offer_from(set(form, "resource", {"a=1", "a=2"}))) << "twice";
  std::vector<std::string> many;
  for (std::size_t n = 0; n <= kResourcesMax; ++n) many.push_back("r" + std::to_string(n) + "=1");
  EXPECT_FALSE(offer_from(set(form, "resource", many)));
  many.pop_back();
  EXPECT_TRUE(offer_from(set(form, "resource", many)));
}

TEST(Offer, RefusesServicesThatAreNone) {
  for (const std::string text : {"", "Word", "two words", "9x", "a..b", "a.", "x=1"}) {
    Form form = to_form(full());
    EXPECT_FALSE(offer_from(set(form, "service", {text}))) << text;
  }
  Form form = to_form(full());
  EXPECT_FALSE(offer_from(set(form, "service", {std::string(kResourceNameMax + 1, 'a')}))) << "too long";
  EXPECT_FALSE(offer_from(set(form, "service", {"a", "a"}))) << "twice";
  EXPECT_FALSE(offer_from(set(form, "service", std::vector<std::string>(kServicesMax + 1, "a")))) << "too many";
  EXPECT_TRUE(offer_from(set(form, "service", {"a", "b-c.d_e"})));
  EXPECT_EQ(to_form(Offer{}).find("service"), nullptr);
  for (const char* text : {"", "-v", "/etc", "a b", "a\"b", "a;b", "a\tb", ".hidden", "debian:LTS", "ä"}) EXPECT_FALSE(offer_from(set(form, "image", {text}))) << text;
  EXPECT_FALSE(offer_from(set(form, "image", {std::string(kImageNameMax + 1, 'a')}))) << "too long";
  EXPECT_FALSE(offer_from(set(form, "image", {"a", "a"}))) << "twice";
  std::vector<std::string> many;
  for (std::size_t i = 0; i <= kImagesMax; ++i) many.push_back(std::to_string(i));
  EXPECT_FALSE(offer_from(set(form, "image", many))) << "too many";
  EXPECT_TRUE(offer_from(set(form, "image", {"debian:12", "quay.io/lab/tools_x-1.2@sha256:0123", std::string(kImageNameMax, 'a')})));
  EXPECT_EQ(to_form(Offer{}).find("image"), nullptr);
}

TEST(Offer, RefusesSpeedsOutOfRange) {
  for (const char* text : {"-1", "1000.1", "nan", "inf", "1e2", "", "fast", "1,5"}) {
    Form form = to_form(full());
    EXPECT_FALSE(offer_from(set(form, "speed", {text}))) << text;
    EXPECT_FALSE(offer_from(set(form, "speed", {"1", "2"})));
  }
  Form form = to_form(full());
  EXPECT_EQ(offer_from(set(form, "speed", {"2.349"})).value().speed, 2.3);
}

TEST(Offer, OfASandboxThatIsNotKnownPromisesNothing) {
  for (const char* level : {"", "vm", "BWRAP", "none"}) {
    Form form = to_form(Offer{});
    form.add("sandbox", "text-single", "", {level});
    form.add("network", "text-single", "", {"maybe"});
    const auto offer = offer_from(form);
    ASSERT_TRUE(offer) << level;
    EXPECT_EQ(offer.value().sandbox, SandboxLevel::none) << level;
    EXPECT_FALSE(offer.value().network);
  }
}

TEST(Offer, RefusesOtherForms) {
  EXPECT_FALSE(offer_from(Form{}));
  Form form = to_form(full());
  EXPECT_FALSE(offer_from(set(form, "FORM_TYPE", {"urn:xmpp:dataforms:softwareinfo"})));
}

TEST(Offer, BoundsItsListsAndTexts) {
  const std::vector<std::string> many(65, "x=1");
  for (const char* var : {"software", "gpus", "tags"}) {
    Form form = to_form(full());
    EXPECT_FALSE(offer_from(set(form, var, many))) << var;
    EXPECT_FALSE(offer_from(set(form, var, {"x=" + std::string(256, 'y')}))) << var;
  }
  for (const char* var : {"software", "tags"}) {
    Form form = to_form(full());
    EXPECT_FALSE(offer_from(set(form, var, {"no sign"}))) << var;
    EXPECT_FALSE(offer_from(set(form, var, {"=nameless"}))) << var;
    EXPECT_FALSE(offer_from(set(form, var, {"a=1", "a=2"}))) << var;
  }
  for (const char* var : {"os", "arch", "hostname", "cpu-model", "version"}) {
    Form form = to_form(full());
    EXPECT_FALSE(offer_from(set(form, var, {std::string(257, 'x')}))) << var;
    EXPECT_TRUE(offer_from(set(form, var, {std::string(256, 'x')}))) << var;
  }
}

TEST(Offer, IgnoresFieldsItDoesNotKnow) {
  Form form = to_form(full());
  EXPECT_TRUE(offer_from(form.add("price", "text-single", "", {"9"})));
}

TEST(Offer, WhatAHostSaysOfItselfIsAlwaysAccepted) {
  Offer odd = full();
  odd.hostname = std::string(1000, 'h');
  odd.cpu_model = "bad \x01 \xFF bytes <>";
  odd.gpus = std::vector<std::string>(100, "two\nlines");
  odd.tags = {{"", "nameless"}, {"a=b", "c"}, {"x\ny", "1"}, {"x y", "2"}, {std::string(300, 'k'), "v"}};
  for (int i = 0; i < 100; ++i) odd.software["s" + std::to_string(i)] = std::string(300, '\xC3');
  const auto offer = offer_from(to_form(odd));
  ASSERT_TRUE(offer) << offer.error().text();
  EXPECT_EQ(offer.value().software.size(), 64u);
  EXPECT_EQ(offer.value().gpus.size(), 64u);
  EXPECT_EQ(offer.value().gpus[0], "two lines");
  EXPECT_EQ(offer.value().tags.size(), 1u);
}

TEST(Offer, DamagedFormsAreRefusedOrStayInBounds) {
  test::Mutator mutator(2);
  for (int i = 0; i < test::kRounds; ++i) {
    Form form = to_form(full());
    for (std::size_t changes = 1 + mutator.below(3); changes > 0; --changes) {
      Field& field = form.fields[mutator.below(form.fields.size())];
      switch (mutator.below(6)) {
        case 0: field.var = mutator.damaged(field.var); break;
        case 1: field.values.clear(); break;
        case 2: field.values.insert(field.values.end(), mutator.below(70), mutator.bytes(mutator.below(300))); break;
        default: if (!field.values.empty()) field.values.front() = mutator.damaged(field.values.front(), "0123456789=-"); break;
      }
    }
    const auto offer = offer_from(form);
    if (!offer) continue;
    ASSERT_TRUE(offer.value().slots >= 1 && offer.value().slots <= kSlotsMax);
    ASSERT_TRUE(offer.value().cpus >= 0 && offer.value().software.size() <= 64 && offer.value().gpus.size() <= 64 && offer.value().tags.size() <= 64);
    ASSERT_TRUE(offer_from(to_form(offer.value())));
  }
}

}  // namespace
}  // namespace souk
