// Requirements and ranks. Input: the expression.
#include "protocol/expression.h"

#include "tests/fuzz/fuzz.h"
#include "tests/protocol/sample_worker.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  using fuzz::must;
  const auto text = fuzz::text_of(bytes, size);
  const auto expression = Expression::parse(text);
  if (!expression) return must(!expression.error().why.empty(), "a refusal says why"), 0;
  must(size <= kExpressionMax, "longer ones are refused unread");
  const Expression& one = expression.value();
  const std::string printed = one.text();
  const auto again = Expression::parse(printed);
  // Printed it may be longer, since spaces and parentheses are added: then it may be refused, but not be another.
  if (!again) return must(printed.size() > kExpressionMax, "what is printed can be read", printed), 0;
  must(again.value().text() == printed, "reading and printing changes nothing", printed);
  must(again.value().names() == one.names(), "it asks for the same", printed);

  static const test::SampleWorker rich = [] {
    test::SampleWorker worker;
    worker.has = {{"os", Value(std::string("linux"))}, {"memory", Value(17179869184.0)}, {"cpus", Value(8.0)}, {"speed", Value(1.5)}, {"load", Value(0.25)}, {"gpus", Value(2.0)},
                  {"software.python", Value(Version{"3.11.2"})}, {"tag.zone", Value(std::string("north"))}, {"job.owner", Value(std::string("ada@grid"))}, {"running", Value(0.0)}};
    return worker;
  }();
  for (const test::SampleWorker& worker : {rich, test::SampleWorker()}) {
    const Value value = one.evaluate(worker);
    must(test::shown(value) == test::shown(again.value().evaluate(worker)), "what is printed judges the same", printed);
    const double rank = rank_of(value);
    must(rank - rank == 0, "a rank is a number");
    // It holds exactly when all its parts do: `why` tells people which one does not.
    bool all = true;
    const auto parts = one.conjuncts();
    for (const Expression& part : parts) all = all && holds(part.evaluate(worker));
    if (parts.size() > 1) must(holds(value) == all, "it holds when all its parts hold", printed);
  }
  for (const std::string& name : unknown_names(one)) nearest_name(name);
  return 0;
}
