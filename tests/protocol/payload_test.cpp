#include "protocol/payload.h"

#include <gtest/gtest.h>
#include <zlib.h>

#include "protocol/form.h"
#include "protocol/grid.pb.h"
#include "tests/protocol/mutate.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

std::string deflated(const std::string& bytes, int level = 1) {
  uLongf size = compressBound(bytes.size());
  std::string packed(size, '\0');
  EXPECT_EQ(compress2(reinterpret_cast<Bytef*>(packed.data()), &size, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size(), level), Z_OK);
  packed.resize(size);
  return packed;
}

Command full_command() {
  Command command;
  command.argv = {"convert", "\xFF{}.png", "", "-"};
  command.env = {{"LANG", "C"}, {"EMPTY", ""}};
  command.input = std::string("in\0put", 6);
  command.time_limit = 90s;
  command.grace = 500ms;
  command.output_max = 4096;
  command.fill = true;
  return command;
}

Outcome full_outcome() {
  Outcome outcome;
  outcome.cause = Cause::timed_out;
  outcome.exit_code = 0;
  outcome.signal = 9;
  outcome.why = "stopped at 90 s";
  outcome.wall = 90s;
  outcome.cpu = 1234us;
  outcome.peak_memory_kib = 20480;
  outcome.out = std::string("a\0b\xFF", 4);
  outcome.err = "oops";
  outcome.out_size = 1 << 30;
  outcome.err_size = 4;
  return outcome;
}

wire::Assign many_assignments(int count) {
  wire::Assign assign;
  assign.set_epoch(7);
  auto* command = assign.add_commands();
  command->set_job(3);
  write(full_command(), *command->mutable_command());
  for (int i = 1; i <= count; ++i) {
    auto* assignment = assign.add_assignments();
    assignment->set_number(static_cast<std::uint64_t>(i));
    assignment->set_job(3);
    assignment->set_task(static_cast<std::uint64_t>(i));
    assignment->set_item("photos/2026/" + std::to_string(i) + ".jpg");
  }
  return assign;
}

TEST(Base64, VectorsOfRfc4648) {  // §10
  const std::pair<const char*, const char*> vectors[] = {{"", ""}, {"f", "Zg=="}, {"fo", "Zm8="}, {"foo", "Zm9v"}, {"foob", "Zm9vYg=="}, {"fooba", "Zm9vYmE="}, {"foobar", "Zm9vYmFy"}};
  for (const auto& [bytes, text] : vectors) {
    EXPECT_EQ(base64(bytes), text);
    const auto back = from_base64(text);
    ASSERT_TRUE(back) << text;
    EXPECT_EQ(back.value(), bytes);
  }
}

TEST(Base64, ComesBackAtEverySize) {
  test::Mutator mutator(3);
  for (const std::size_t size : {1u, 2u, 3u, 95u, 96u, 97u, 98'304u, (3u << 20) - 1, 3u << 20, (3u << 20) + 1, 7'000'001u}) {
    const std::string bytes = mutator.bytes(size), text = base64(bytes);
    EXPECT_EQ(text.size(), (size + 2) / 3 * 4);
    const auto back = from_base64(text);
    ASSERT_TRUE(back) << size;
    EXPECT_EQ(back.value(), bytes);
  }
}

TEST(Base64, RefusesEverySecondSpelling) {
  for (const char* text : {"Zg", "Zg=", "Zm9", "Zm9vY", "Z===", "====", "=", "Zg==Zg==", "Zg=a", "Z=9v", " Zm9v", "Zm9v ", "Zm9v\n", "Zm 9vYm", "Zm9vYm\nFy", "Zm-v", "Zm_v", "Zm9\x80",
                           "Zh==", "Zm9=", "Zg==\n\n\n\n", "\n\n\n\n", "\xC3\xA9\xC3\xA9"})
    EXPECT_FALSE(from_base64(text)) << text;
  EXPECT_FALSE(from_base64(std::string_view("Zm9\0", 4)));
}

TEST(Base64, WhatItAcceptsHasOneSpelling) {
  test::Mutator mutator(4);
  for (int i = 0; i < test::kRounds; ++i) {
    const std::string text = mutator.damaged(base64(mutator.bytes(mutator.below(40))), "ABCabc019+/==");
    const auto bytes = from_base64(text);
    ASSERT_TRUE(!bytes || base64(bytes.value()) == text) << text;
  }
}

TEST(Payload, SmallMessagesStayPlain) {
  wire::Lease lease;
  lease.add_held()->set_number(5);
  const Encoded encoded = encode(lease);
  EXPECT_FALSE(encoded.zlib);
  wire::Lease back;
  ASSERT_TRUE(decode(encoded.text, encoded.zlib, back));
  EXPECT_EQ(back.SerializeAsString(), lease.SerializeAsString());
}

TEST(Payload, LargeOnesAreCompressedWhenItHelps) {
  const wire::Assign assign = many_assignments(64);
  const Encoded encoded = encode(assign);
  EXPECT_TRUE(encoded.zlib);
  EXPECT_LT(encoded.text.size(), assign.SerializeAsString().size() / 2);
  wire::Assign back;
  ASSERT_TRUE(decode(encoded.text, encoded.zlib, back));
  EXPECT_EQ(back.SerializeAsString(), assign.SerializeAsString());

  wire::Piece noise;
  noise.set_data(test::Mutator(5).bytes(64 << 10));
  EXPECT_FALSE(encode(noise).zlib);
  EXPECT_EQ(encode(assign).text, encoded.text) << "also after something else was tried";
  wire::Piece noise_back;
  ASSERT_TRUE(decode(encode(noise).text, false, noise_back));
  EXPECT_EQ(noise_back.data(), noise.data());
}

TEST(Payload, AnEmptyTextIsAMessageOfDefaults) {
  wire::WorkersRequest request;
  EXPECT_TRUE(decode("", false, request));
  EXPECT_EQ(encode(request).text, "");
  EXPECT_FALSE(decode("", true, request));
}

TEST(Payload, RefusesWhatIsNoMessage) {
  wire::Assign assign;
  EXPECT_FALSE(decode("not base64", false, assign));
  EXPECT_FALSE(decode(base64("\x0A\xFF\xFF\xFF\xFF\x0F"), false, assign));  // a length of 4 GiB
  EXPECT_FALSE(decode(base64("\x0A\x05" "abc"), false, assign));            // cut off
  EXPECT_FALSE(decode(base64(std::string(64, '\xFF')), false, assign));
  wire::Hello hello;
  const auto bad_text = decode(base64("\x12\x02\xC3\x28"), false, hello);  // `version` is no UTF-8
  ASSERT_FALSE(bad_text);
  EXPECT_NE(bad_text.error().why.find("souk.wire.Hello"), std::string::npos) << bad_text.error().text();
}

TEST(Payload, RefusesDeepNesting) {
  std::string groups(4000, '\x7B');  // an unknown field 15 opened as a group inside a group inside ...
  wire::Hello hello;
  EXPECT_FALSE(decode(base64(groups), false, hello));
}

TEST(Payload, RefusesBrokenZlib) {
  const std::string packed = deflated(many_assignments(64).SerializeAsString());
  wire::Assign assign;
  ASSERT_TRUE(decode(base64(packed), true, assign));
  EXPECT_FALSE(decode(base64(packed), false, assign));
  EXPECT_FALSE(decode(base64(packed + "x"), true, assign)) << "something follows";
  for (std::size_t size = 0; size < packed.size(); ++size) ASSERT_FALSE(decode(base64(packed.substr(0, size)), true, assign)) << size;
  std::string wrong = packed;
  wrong.back() = static_cast<char>(wrong.back() ^ 1);
  EXPECT_FALSE(decode(base64(wrong), true, assign)) << "checksum";
  EXPECT_FALSE(decode(base64(many_assignments(1).SerializeAsString()), true, assign));
}

TEST(Payload, StopsAZlibBombAtItsBound) {
  wire::Piece piece;
  piece.set_data(std::string(kInflatedMax - 64, 'a'));
  EXPECT_TRUE(decode(base64(deflated(piece.SerializeAsString())), true, piece));
  const std::string bomb = base64(deflated(std::string(64 << 20, '\0')));
  ASSERT_LT(bomb.size(), kTextMax);
  const auto refused = decode(bomb, true, piece);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().why.find("8 MiB"), std::string::npos) << refused.error().text();
  EXPECT_FALSE(decode(base64(deflated(std::string(kInflatedMax + 1, '\0'))), true, piece));
}

TEST(Payload, RefusesLongTexts) {
  wire::Piece piece;
  piece.set_data(std::string(kTextMax, 'a'));
  const auto refused = decode(base64(piece.SerializeAsString()), false, piece);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().why.find("512 KiB"), std::string::npos);
}

// Two bytes on the wire are an empty line; in memory it is a string. A few KiB of zlib must not become a GiB.
TEST(Payload, BoundsElementsAtEveryLevel) {
  const auto lines = [](std::size_t count) {
    std::string bytes;
    for (std::size_t i = 0; i < count; ++i) bytes += std::string("\x0A\x00", 2);
    return bytes;
  };
  const auto nested = [](char tag, const std::string& inside) {
    std::string bytes(1, tag);
    for (std::size_t size = inside.size(); ; size >>= 7) {
      bytes += static_cast<char>((size & 0x7F) | (size > 0x7F ? 0x80 : 0));
      if (size <= 0x7F) break;
    }
    return bytes + inside;
  };
  const std::string over = lines(kElementsMax + 1), under = lines(kElementsMax - 8);
  wire::Lines flat;
  EXPECT_TRUE(parse(under, flat));
  EXPECT_EQ(flat.line_size(), static_cast<int>(kElementsMax - 8));
  const auto refused = parse(over, flat);
  ASSERT_FALSE(refused);
  EXPECT_NE(refused.error().why.find("elements"), std::string::npos) << refused.error().text();
  wire::Job job;
  EXPECT_TRUE(parse(nested('\x22', under), job));
  EXPECT_FALSE(parse(nested('\x22', over), job)) << "lines";
  EXPECT_FALSE(parse(nested('\x12', over), job)) << "argv";
  EXPECT_FALSE(parse(nested('\x22', under) + nested('\x22', lines(16)), job)) << "lines in two goes";
  wire::SubmitRequest submit;
  EXPECT_TRUE(parse(nested('\x0A', nested('\x22', under)), submit));
  EXPECT_FALSE(parse(nested('\x0A', nested('\x22', over)), submit));
  EXPECT_FALSE(decode(base64(deflated(nested('\x0A', nested('\x22', over)))), true, submit));
  wire::Assign assign;
  EXPECT_FALSE(parse(nested('\x12', nested('\x12', over)), assign));
}

TEST(Payload, DamagedMessagesAreRefusedOrRead) {
  test::Mutator mutator(6);
  wire::Report report;
  auto* result = report.add_results();
  result->mutable_attempt()->set_number(9);
  write(full_outcome(), *result->mutable_outcome());
  report.add_pieces()->set_data("piece");
  wire::SubmitRequest submit;
  submit.mutable_job()->set_name("thumbnails");
  write(full_command(), *submit.mutable_job()->mutable_command());
  submit.mutable_job()->mutable_lines()->add_line("one");
  const std::string originals[] = {many_assignments(3).SerializeAsString(), report.SerializeAsString(), submit.SerializeAsString()};
  for (int i = 0; i < test::kRounds; ++i) {
    const std::string bytes = mutator.damaged(originals[static_cast<std::size_t>(i) % 3]);
    const bool zlib = mutator.below(4) == 0;
    std::string text = base64(zlib ? mutator.damaged(deflated(bytes)) : bytes);
    if (mutator.below(8) == 0) text = mutator.damaged(text);
    wire::Assign a;
    if (decode(text, zlib, a))
      for (const auto& entry : a.commands())
        if (const auto command = read(entry.command()); command && !check(command.value())) FAIL() << "read() let through what check() refuses";
    wire::Report r;
    if (decode(text, zlib, r))
      for (const auto& entry : r.results())
        if (const auto outcome = read(entry.outcome()); outcome && outcome.value().out.size() > outcome.value().out_size) FAIL() << "longer than it says";
    wire::SubmitRequest s;
    if (decode(text, zlib, s) && s.has_job()) (void)read(s.job().command());
  }
}

TEST(Payload, NoiseIsRefusedOrRead) {
  test::Mutator mutator(7);
  for (int i = 0; i < test::kRounds; ++i) {
    const std::string noise = mutator.bytes(mutator.below(200));
    wire::Job job;
    (void)decode(base64(noise), false, job);
    (void)decode(noise, true, job);
    (void)decode(base64("\x78\x01" + noise), true, job);  // past zlib's header
  }
}

TEST(CommandMessage, ComesBackAsItWas) {
  wire::Command message;
  write(full_command(), message);
  const auto back = read(message);
  ASSERT_TRUE(back) << back.error().text();
  const Command &a = back.value(), b = full_command();
  EXPECT_EQ(a.argv, b.argv);
  EXPECT_EQ(a.shell, b.shell);
  EXPECT_EQ(a.env, b.env);
  EXPECT_EQ(a.input, b.input);
  EXPECT_EQ(a.time_limit, b.time_limit);
  EXPECT_EQ(a.grace, b.grace);
  EXPECT_EQ(a.output_max, b.output_max);
  EXPECT_EQ(a.fill, b.fill);
}

TEST(CommandMessage, ZeroOnTheWireIsTheDefault) {
  wire::Command message;
  message.add_argv("true");
  const auto command = read(message);
  ASSERT_TRUE(command);
  EXPECT_EQ(command.value().output_max, kOutputDefault);
  EXPECT_EQ(command.value().grace, kGraceDefault);
  EXPECT_EQ(command.value().time_limit, 0ms);

  Command none;
  none.argv = {"true"};
  none.output_max = 0;
  none.grace = 0ms;
  write(none, message);
  const auto least = read(message);
  ASSERT_TRUE(least);
  EXPECT_EQ(least.value().output_max, 1u) << "nearly nothing must not turn into the default";
  EXPECT_EQ(least.value().grace, 1ms);
}

TEST(CommandMessage, RefusesEveryBrokenPromise) {
  const std::pair<const char*, void (*)(wire::Command&)> cases[] = {
      {"program", [](wire::Command& m) { m.clear_argv(); }},
      {"program", [](wire::Command& m) { m.set_argv(0, ""); }},
      {"NUL", [](wire::Command& m) { m.add_argv(std::string("a\0b", 3)); }},
      {"4096", [](wire::Command& m) { for (int i = 0; i < 4096; ++i) m.add_argv("x"); }},
      {"1 MiB", [](wire::Command& m) { m.add_argv(std::string(1 << 20, 'x')); }},
      {"shell", [](wire::Command& m) { m.set_shell(true); m.add_argv("second"); }},
      {"'='", [](wire::Command& m) { m.add_env()->set_value("nameless"); }},
      {"'='", [](wire::Command& m) { m.add_env()->set_name("A=B"); }},
      {"NUL", [](wire::Command& m) { m.add_env()->set_name(std::string("A\0", 2)); }},
      {"NUL", [](wire::Command& m) { auto* v = m.add_env(); v->set_name("A"); v->set_value(std::string("\0", 1)); }},
      {"4096", [](wire::Command& m) { for (int i = 0; i < 4097; ++i) m.add_env()->set_name("A"); }},
      {"1 MiB", [](wire::Command& m) { auto* v = m.add_env(); v->set_name("A"); v->set_value(std::string(1 << 20, 'x')); }},
      {"8 MiB", [](wire::Command& m) { m.set_input(std::string(kInputMax + 1, 'x')); }},
      {"16 MiB", [](wire::Command& m) { m.set_output_max(kOutputMax + 1); }},
      {"16 MiB", [](wire::Command& m) { m.set_output_max(~0ull); }},
      {"366 days", [](wire::Command& m) { m.set_time_limit_ms(366ull * 86'400'000 + 1); }},
      {"366 days", [](wire::Command& m) { m.set_time_limit_ms(~0ull); }},
      {"one hour", [](wire::Command& m) { m.set_grace_ms(3'600'001); }},
      {"one hour", [](wire::Command& m) { m.set_grace_ms(~0ull); }},
  };
  int number = 0;
  for (const auto& [said, breaks] : cases) {
    SCOPED_TRACE("case " + std::to_string(++number));
    wire::Command message;
    message.add_argv("true");
    ASSERT_TRUE(read(message));
    breaks(message);
    const auto refused = read(message);
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text().find(said), std::string::npos) << refused.error().text();
  }
}

TEST(CommandMessage, OfAServiceNeedsNoProgramAndTakesNothingOfAProcess) {
  wire::Command message;
  message.set_service("word-count");
  const auto command = read(message);
  ASSERT_TRUE(command) << command.error().text();
  EXPECT_EQ(command.value().service, "word-count");
  wire::Command again;
  write(command.value(), again);
  EXPECT_EQ(again.service(), "word-count");
  message.add_argv("");
  EXPECT_TRUE(read(message)) << "an empty word is a word";
  message.set_shell(true);
  EXPECT_FALSE(read(message));
  message.set_shell(false), message.set_pin(true);
  EXPECT_FALSE(read(message));
  message.set_pin(false), message.add_env()->set_name("A");
  EXPECT_FALSE(read(message));
  message.clear_env(), message.set_service("Word Count");
  EXPECT_FALSE(read(message));
}

TEST(CommandMessage, AcceptsTheLargestThatIsAllowed) {
  wire::Command message;
  for (int i = 0; i < 4096; ++i) message.add_argv(std::string(255, 'x'));  // 1 MiB with the NULs
  message.set_input(std::string(kInputMax, '\0'));
  message.set_output_max(kOutputMax);
  message.set_time_limit_ms(366ull * 86'400'000);
  message.set_grace_ms(3'600'000);
  const auto command = read(message);
  EXPECT_TRUE(command) << command.error().text();
}

TEST(OutcomeMessage, ComesBackAsItWas) {
  wire::Outcome message;
  write(full_outcome(), message);
  const auto back = read(message);
  ASSERT_TRUE(back) << back.error().text();
  const Outcome &a = back.value(), b = full_outcome();
  EXPECT_EQ(a.cause, b.cause);
  EXPECT_EQ(a.exit_code, b.exit_code);
  EXPECT_EQ(a.signal, b.signal);
  EXPECT_EQ(a.why, b.why);
  EXPECT_EQ(a.wall, b.wall);
  EXPECT_EQ(a.cpu, b.cpu);
  EXPECT_EQ(a.peak_memory_kib, b.peak_memory_kib);
  EXPECT_EQ(a.out, b.out);
  EXPECT_EQ(a.err, b.err);
  EXPECT_EQ(a.out_size, b.out_size);
  EXPECT_EQ(a.err_size, b.err_size);
}

TEST(OutcomeMessage, EveryCauseComesBack) {
  for (const Cause cause : {Cause::exited, Cause::signaled, Cause::timed_out, Cause::canceled, Cause::not_started, Cause::lost}) {
    Outcome outcome;
    outcome.cause = cause;
    wire::Outcome message;
    write(outcome, message);
    ASSERT_TRUE(read(message));
    EXPECT_EQ(read(message).value().cause, cause);
  }
}

TEST(OutcomeMessage, AnyReasonCanBeSent) {
  Outcome outcome;
  outcome.cause = Cause::not_started;
  outcome.why = "cannot run \xFF\x01: " + std::string(3000, 'x');
  wire::Outcome message;
  write(outcome, message);
  EXPECT_LE(message.why().size(), kWhyMax);
  EXPECT_TRUE(is_printable(message.why()));
  wire::Outcome back;
  ASSERT_TRUE(decode(encode(message).text, encode(message).zlib, back));
  EXPECT_EQ(read(back).value().why.substr(0, 11), "cannot run ");
}

TEST(OutcomeMessage, RefusesWhatCannotBe) {
  const std::pair<const char*, void (*)(wire::Outcome&)> cases[] = {
      {"cause", [](wire::Outcome& m) { m.set_cause(static_cast<wire::Outcome::Cause>(6)); }},
      {"cause", [](wire::Outcome& m) { m.set_cause(static_cast<wire::Outcome::Cause>(-1)); }},
      {"exit code", [](wire::Outcome& m) { m.set_exit_code(0x80000000u); }},
      {"signal", [](wire::Outcome& m) { m.set_signal(256); }},
      {"stated size", [](wire::Outcome& m) { m.set_out("abc"); m.set_out_size(2); }},
      {"stated size", [](wire::Outcome& m) { m.set_err("abc"); }},
      {"16 MiB", [](wire::Outcome& m) { m.set_out(std::string(kOutputMax + 1, 'x')); m.set_out_size(kOutputMax + 1); }},
      {"century", [](wire::Outcome& m) { m.set_wall_us(~0ull); }},
      {"century", [](wire::Outcome& m) { m.set_cpu_us(1ull << 62); }},
  };
  for (const auto& [said, breaks] : cases) {
    wire::Outcome message;
    ASSERT_TRUE(read(message));
    breaks(message);
    const auto refused = read(message);
    ASSERT_FALSE(refused) << said;
    EXPECT_NE(refused.error().text().find(said), std::string::npos) << refused.error().text();
  }
}

}  // namespace
}  // namespace souk
