// The small languages of options, fields and files: times, sizes, arrays, targets, hours, shares. Input: a letter for the language, the text.
#include "submit/terms.h"

#include <map>

#include "manager/limits.h"
#include "protocol/grid.pb.h"
#include "protocol/needs.h"
#include "protocol/notation.h"
#include "protocol/offer.h"
#include "submit/render.h"
#include "submit/request.h"
#include "tests/fuzz/fuzz.h"
#include "worker/fill.h"
#include "worker/policy.h"

namespace souk {
namespace {

using fuzz::must;

template <class T>
bool fine(const Result<T>& result) {
  if (!result) must(!result.error().why.empty(), "a refusal says why");
  return bool(result);
}

void hours(std::string_view text) {
  const auto hours = worker::Hours::parse(text);
  if (!fine(hours)) return;
  for (int minute = 0; minute < worker::kWeekMinutes; minute += 97) {
    const int left = hours.value().minutes_left(minute);
    must(left >= 0 && left <= worker::kWeekMinutes, "hours end within a week", text);
    if (hours.value().open(minute) && left < worker::kWeekMinutes) must(!hours.value().open((minute + left) % worker::kWeekMinutes), "hours end when they say", text);
  }
  const auto again = worker::Hours::parse(hours.value().text());
  must(bool(again), "hours can be read again", text);
}

void rules(std::string_view text) {
  std::map<std::string, std::string> texts;
  while (!text.empty()) {
    const auto line = fuzz::line_off(text);
    const auto equals = line.find('=');
    texts[std::string(line.substr(0, equals))] = equals == std::string_view::npos ? "" : std::string(line.substr(equals + 1));
  }
  const auto rules = worker::rules_from(texts);
  if (!fine(rules)) return;
  worker::Policy policy(rules.value(), 8);
  for (int second = 0; second < 300; second += 2) {
    worker::Facts facts;
    facts.now_ms = 1'800'000'000'000u + static_cast<std::uint64_t>(second) * 1000, facts.week_minute = (second * 37) % worker::kWeekMinutes;
    facts.since_input = Duration(std::chrono::seconds(second)), facts.others_load = second % 60 / 10.0, facts.on_mains = second % 100 < 50;
    facts.memory_available = static_cast<std::uint64_t>(second) << 25, facts.slots_used = second % 9;
    const auto decision = policy.step(Instant(std::chrono::seconds(second)), facts);
    must(decision.offered >= 0 && decision.offered <= 8 && decision.running >= 0 && decision.running <= 8 && decision.kept >= 0 && decision.kept <= 8, "a decision is in range");
    must((decision.offered < 8) <= !decision.rule.empty() || decision.over, "who is held back is told why");
  }
}

}  // namespace
}  // namespace souk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  if (size > fuzz::kInputMax) return 0;
  auto text = fuzz::text_of(bytes, size);
  const Calendar calendar{.now_ms = 1'795'424'400'000,
                          .local = [](std::time_t at) {
                            std::tm parts{};
                            gmtime_r(&at, &parts);
                            return parts;
                          },
                          .instant = [](std::tm parts) { return timegm(&parts); }};
  switch (fuzz::byte_off(text)) {
    case 'd':
      if (const auto got = parse_duration(text); fine(got)) must(got.value().count() >= 0 && got.value() <= std::chrono::hours(24 * 365), "a duration is in range", text);
      break;
    case 's':
      if (fine(parse_size(text))) must(!text.empty(), "a size has digits");
      fine(parse_needed_size(text));
      break;
    case 'a':
      if (const auto got = parse_array(text); fine(got)) {
        std::uint64_t all = 0;
        must(!got.value().empty() && got.value().size() <= size, "an array has spans, no more than text");
        for (const Span& span : got.value()) must(span.last >= span.first && span.step > 0, "a span goes upwards", text), all += span.count();
        must(all >= 1 && all <= kRangeMax, "an array is bounded", text);
      }
      break;
    case 't':
      if (const auto got = parse_target(text); fine(got)) must(got.value().job > 0 && got.value().first <= got.value().last, "a target is a range of tasks", text);
      fine(parse_job(text));
      break;
    case 'f':
      if (const auto got = parse_after(text); fine(got)) must(!got.value().empty() && got.value().size() <= size, "it waits for something", text);
      break;
    case 'c':
      if (const auto got = parse_codes(text); fine(got))
        for (const auto& codes : got.value()) must(codes.first() >= 1 && codes.first() <= codes.last() && codes.last() <= 255, "exit codes are in range", text);
      break;
    case 'D':
      if (const auto got = parse_deadline(text, calendar); fine(got)) must(got.value() >= calendar.now_ms, "a deadline is to come", text);
      break;
    case 'r':
      if (const auto got = parse_resource(text); fine(got)) {
        must(bool(check_resource_name(got.value().first)), "a resource has a name");
        const auto again = parse_resource(got.value().first + '=' + written(got.value().second));
        must(again && again.value() == got.value(), "a resource is the same when written", text);
      }
      if (const auto got = parse_needed_resource(text); fine(got)) must(got.value().second > 0, "some of it is needed");
      break;
    case 'e':
      fine(check_expression("--require", text));
      break;
    case 'h': hours(text); break;
    case 'p': rules(text); break;
    case 'l': {
      Limits limits;
      while (!text.empty()) {
        const auto line = fuzz::line_off(text);
        if (!line.empty() && line.front() == 's') fine(limits.add_share(line.substr(1)));
        else fine(limits.add_limit(line));
      }
      for (const OwnerSet& owner : limits.events()) must(owner.weight >= 0.001 && owner.weight <= 1000, "weights are in range");
      break;
    }
    case 'm': {
      std::vector<std::string> words;
      while (!text.empty()) words.emplace_back(fuzz::line_off(text));
      if (const auto map = split_map(words); fine(map)) {
        wire::Job job;
        JobOptions options;
        options.words = map.value().command;
        const auto done = map_job_of(options, {map.value().arguments.value_or(std::vector<std::string>{"x"}), "the command line", false}, "", [](const std::string&) { return std::nullopt; }, job);
        fine(done);
      }
      break;
    }
    case 'x':
      must(fuzz::is_safe_for_a_terminal(plain(text)), "foreign text is made safe", plain(text));
      must(fuzz::is_safe_for_a_terminal(quoted(text)), "quoted text is safe", quoted(text));
      must(printable(printable(text)) == printable(text) && is_printable(printable(text)) && shortened(printable(text), 7).size() <= 7, "printable is printable");
      must(is_printable(shortened(printable(text), size / 2)), "shortening cuts between characters");
      break;
    default: break;
  }
  return 0;
}
