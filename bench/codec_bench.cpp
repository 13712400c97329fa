// What each stage of the wire costs for a batch of tasks on its way out and of results on their way back: message, bytes, base64, XML tree, text, and back.
//   build/release/bin/codec_bench                             all of it; `each` is the time a task
//   build/release/bin/codec_bench --benchmark_filter=Encode
// The argument is the number of tasks in a batch. One thread; times are CPU times, so that other work on the machine says little.
#include <benchmark/benchmark.h>
#include <gloox/tag.h>

#include <random>
#include <string>

#include "protocol/grid.pb.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"
#include "protocol/xml_stream.h"

namespace souk {
namespace {

/// One command with so many of its tasks, as a manager sends it to a worker.
wire::Assign assign_of(std::int64_t tasks) {
  wire::Assign message;
  message.set_epoch(7);
  auto& command = *message.add_commands();
  command.set_job(12);
  for (const char* word : {"/usr/bin/convert", "{}", "-resize", "50%", "/srv/small/{/}"}) command.mutable_command()->add_argv(word);
  command.mutable_command()->set_fill(true);
  for (std::int64_t i = 0; i < tasks; ++i) {
    auto& one = *message.add_assignments();
    one.set_number(static_cast<std::uint64_t>(100'000 + i)), one.set_job(12), one.set_task(static_cast<std::uint64_t>(i + 1));
    one.set_item("/srv/photos/2026/" + std::to_string(1'000'000 + i * 7919 % 900'000) + ".jpg");
    one.set_run(1);
  }
  return message;
}

/// Results with some words of output, as a worker reports them.
wire::Report report_of(std::int64_t tasks) {
  wire::Report message;
  for (std::int64_t i = 0; i < tasks; ++i) {
    auto& one = *message.add_results();
    auto& attempt = *one.mutable_attempt();
    attempt.set_epoch(7), attempt.set_number(static_cast<std::uint64_t>(100'000 + i)), attempt.set_job(12), attempt.set_task(static_cast<std::uint64_t>(i + 1));
    auto& outcome = *one.mutable_outcome();
    outcome.set_wall_us(static_cast<std::uint64_t>(900 + i % 100)), outcome.set_cpu_us(500), outcome.set_peak_memory_kib(1800);
    outcome.set_out("3.14" + std::to_string(100'000 + i * 7919 % 900'000) + "\n"), outcome.set_out_size(outcome.out().size());
  }
  return message;
}

Stanza stanza_of(const wire::Assign& message) {
  auto iq = element("iq", {}, {{"type", "set"}, {"to", "worker@souk.localhost/worker-1"}, {"id", "m-12345"}});
  add_payload(*iq, "assign", ns::task, message);
  return iq;
}

void each(benchmark::State& state, std::size_t bytes) {
  state.counters["each"] = benchmark::Counter(static_cast<double>(state.range(0)), benchmark::Counter::kIsIterationInvariantRate | benchmark::Counter::kInvert);
  state.counters["bytes/task"] = static_cast<double>(bytes) / static_cast<double>(state.range(0));
}

template <auto make>
void Encode(benchmark::State& state) {
  const auto message = make(state.range(0));
  std::size_t bytes = 0;
  for (auto _ : state) {
    const Encoded encoded = encode(message);
    bytes = encoded.text.size();
    benchmark::DoNotOptimize(encoded.text.data());
  }
  each(state, bytes);
}

template <auto make>
void Decode(benchmark::State& state) {
  const Encoded encoded = encode(make(state.range(0)));
  for (auto _ : state) {
    decltype(make(1)) message;
    if (!decode(encoded.text, encoded.zlib, message)) state.SkipWithError("it cannot be read");
    benchmark::DoNotOptimize(message);
  }
  each(state, encoded.text.size());
}

/// The tree that gloox sends, to text.
void StanzaToText(benchmark::State& state) {
  const Stanza stanza = stanza_of(assign_of(state.range(0)));
  std::size_t bytes = 0;
  for (auto _ : state) {
    const std::string text = stanza->xml();
    bytes = text.size();
    benchmark::DoNotOptimize(text.data());
  }
  each(state, bytes);
}

void TextToStanza(benchmark::State& state) {
  const std::string text = stanza_of(assign_of(state.range(0)))->xml();
  std::size_t seen = 0;
  XmlStream stream("jabber:client", {[](gloox::Tag&) {}, [&](gloox::Tag&, bool) { ++seen; }, [] {}});
  stream.feed("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>");
  for (auto _ : state) stream.feed(text);
  if (seen != static_cast<std::size_t>(state.iterations())) state.SkipWithError("not every stanza came through");
  each(state, text.size());
}

/// All that a manager does for a batch between its decision and the socket.
void WholeWayOut(benchmark::State& state) {
  const auto message = assign_of(state.range(0));
  std::size_t bytes = 0;
  for (auto _ : state) {
    const std::string text = stanza_of(message)->xml();
    bytes = text.size();
    benchmark::DoNotOptimize(text.data());
  }
  each(state, bytes);
}

constexpr auto sizes = [](auto* bench) { bench->Arg(1)->Arg(16)->Arg(64)->Arg(256)->Arg(1024)->Unit(benchmark::kMicrosecond); };
BENCHMARK(Encode<assign_of>)->Name("EncodeAssign")->Apply(sizes);
BENCHMARK(Decode<assign_of>)->Name("DecodeAssign")->Apply(sizes);
BENCHMARK(Encode<report_of>)->Name("EncodeReport")->Apply(sizes);
BENCHMARK(Decode<report_of>)->Name("DecodeReport")->Apply(sizes);
BENCHMARK(StanzaToText)->Apply(sizes);
BENCHMARK(TextToStanza)->Apply(sizes);
BENCHMARK(WholeWayOut)->Apply(sizes);

/// 0: text that compresses well, 1: random bytes, which do not compress; so many KiB of it as a task's output.
void Output(benchmark::State& state) {
  wire::Outcome outcome;
  std::string bytes;
  std::mt19937 random(1);
  while (bytes.size() < static_cast<std::size_t>(state.range(1)) << 10)
    state.range(0) == 0 ? bytes += "step " + std::to_string(bytes.size()) + ": residual 1.0e-" + std::to_string(bytes.size() % 9) + "\n" : bytes += static_cast<char>(random());
  outcome.set_out(bytes);
  double size = 0;
  for (auto _ : state) size = static_cast<double>(encode(outcome).text.size());
  state.SetBytesProcessed(state.iterations() * static_cast<std::int64_t>(bytes.size()));
  state.counters["size on the wire"] = size / static_cast<double>(bytes.size());
}
BENCHMARK(Output)->ArgNames({"random", "KiB"})->ArgsProduct({{0, 1}, {1, 16, 64}})->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace souk

BENCHMARK_MAIN();
