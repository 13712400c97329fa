#include "submit/terms.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <vector>

#include "protocol/expression.h"
#include "protocol/grid.pb.h"
#include "protocol/job_bounds.h"
#include "protocol/notation.h"
#include "protocol/payload.h"
#include "protocol/quorum.h"
#include "submit/render.h"

namespace souk {
namespace {

/// Digits alone.
std::optional<std::uint64_t> whole_number(std::string_view text) {
  std::uint64_t number{};
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (text.empty() || failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return number;
}

/// Exactly so many digits at the front, which are taken off.
std::optional<int> take_digits(std::string_view& text, std::size_t count) {
  if (text.size() < count || !std::all_of(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(count), [](char c) { return c >= '0' && c <= '9'; })) return std::nullopt;
  int number = 0;
  std::from_chars(text.data(), text.data() + count, number);
  text.remove_prefix(count);
  return number;
}
bool take(std::string_view& text, char c) {
  if (text.empty() || text.front() != c) return false;
  text.remove_prefix(1);
  return true;
}

/// Each part between commas, an empty one too.
std::vector<std::string_view> parts_of(std::string_view text) {
  std::vector<std::string_view> parts;
  while (true) {
    const auto comma = text.find(',');
    parts.push_back(text.substr(0, comma));
    if (comma == std::string_view::npos) return parts;
    text.remove_prefix(comma + 1);
  }
}

constexpr const char* kDeadlineForms = "write a time from now, such as 2h, or a local time: 18:30, 2026-12-24T18:30";

/// Local date and time as typed; the date may be missing.
struct Written {
  std::optional<std::tm> date;  // year, month and day alone
  int hour = 0, minute = 0, second = 0;
};
std::optional<Written> read_local(std::string_view text) {
  Written written;
  if (text.size() >= 10 && text[4] == '-') {
    const auto year = take_digits(text, 4);
    if (!year || !take(text, '-')) return std::nullopt;
    const auto month = take_digits(text, 2);
    if (!month || !take(text, '-')) return std::nullopt;
    const auto day = take_digits(text, 2);
    if (!day || (!take(text, 'T') && !take(text, ' ')) || *month < 1 || *month > 12 || *day < 1 || *day > 31) return std::nullopt;
    std::tm date{};
    date.tm_year = *year - 1900;
    date.tm_mon = *month - 1;
    date.tm_mday = *day;
    written.date = date;
  }
  const auto hour = take_digits(text, 2);
  if (!hour || !take(text, ':')) return std::nullopt;
  const auto minute = take_digits(text, 2);
  if (!minute) return std::nullopt;
  if (!text.empty()) {
    if (!take(text, ':')) return std::nullopt;
    const auto second = take_digits(text, 2);
    if (!second || !text.empty()) return std::nullopt;
    written.second = *second;
  }
  written.hour = *hour;
  written.minute = *minute;
  if (written.hour > 23 || written.minute > 59 || written.second > 59) return std::nullopt;
  return written;
}

}  // namespace

Result<std::uint64_t> parse_needed_size(std::string_view text) {
  const auto size = parse_size(text);
  if (!text.empty() && text.find_first_not_of("0123456789.") == std::string_view::npos)
    return Error{"cannot read the size " + souk::quoted(text), "it has no unit", "write a unit, such as " + std::string(text.substr(0, 20)) + "MiB"};
  if (!size) return Error{size.error().what, size.error().why, "write a number and its unit: 512MiB, 1.5GiB, 2TiB"};
  return size;
}

Result<std::pair<std::string, std::uint64_t>> parse_needed_resource(std::string_view text) {
  const auto equals = text.find('=');
  const std::string name(text.substr(0, equals));
  if (const auto good = check_resource_name(name); !good) return good.error();
  const auto amount = equals == std::string_view::npos ? std::optional<std::uint64_t>(1) : whole_number(text.substr(equals + 1));
  if (!amount || *amount < 1 || *amount > kAmountMax)
    return Error{"cannot read the resource " + souk::quoted(text), fmt::format("its amount is no whole number from 1 to {}", kAmountMax), "write " + name + "=2"};
  return std::pair{name, *amount};
}

Result<std::vector<wire::After>> parse_after(std::string_view text) {
  std::vector<wire::After> all;
  for (const auto part : parts_of(text)) {
    const Error refusal{"cannot read after which job", souk::quoted(part) + " is none", "write the number of a job, and :any if it may fail: 12, 12:any, 12,13:any"};
    const auto colon = part.find(':');
    const auto job = whole_number(part.substr(0, colon));
    const auto how = colon == std::string_view::npos ? std::string_view("ok") : part.substr(colon + 1);
    if (!job || *job == 0 || (how != "ok" && how != "any")) return refusal;
    wire::After after;
    after.set_job(*job);
    after.set_any(how == "any");
    all.push_back(after);
  }
  return all;
}

Result<std::vector<wire::Codes>> parse_codes(std::string_view text) {
  std::vector<wire::Codes> all;
  for (const auto part : parts_of(text)) {
    const auto dash = part.find('-');
    const auto first = whole_number(part.substr(0, dash));
    const auto last = dash == std::string_view::npos ? first : whole_number(part.substr(dash + 1));
    if (!first || !last || *first < 1 || *last > 255 || *last < *first)
      return Error{"cannot read the exit codes", souk::quoted(part) + " is none from 1 to 255, and no span of them", "write 1 or 75-99 or 1,75-99"};
    wire::Codes codes;
    codes.set_first(static_cast<std::uint32_t>(*first));
    codes.set_last(static_cast<std::uint32_t>(*last));
    all.push_back(codes);
  }
  if (all.size() > kCodesMax) return Error{"cannot read the exit codes", fmt::format("there are {} of them", all.size()), "write spans, such as 75-99"};
  return all;
}

Result<std::uint64_t> parse_deadline(std::string_view text, const Calendar& calendar) {
  const std::string what = "cannot read the deadline " + souk::quoted(text);
  const Error past{what, "it is not in the future", kDeadlineForms};
  if (text.find(':') == std::string_view::npos) {
    const auto from_now = parse_duration(text);
    if (!from_now) return Error{what, from_now.error().why, kDeadlineForms};
    if (from_now.value().count() == 0) return past;
    return calendar.now_ms + static_cast<std::uint64_t>(from_now.value().count());
  }
  const auto written = read_local(text);
  if (!written) return Error{what, "it is no time of day, nor a date and one", kDeadlineForms};
  const auto now = static_cast<std::time_t>(calendar.now_ms / 1000);
  std::tm when = written->date ? *written->date : calendar.local(now);
  when.tm_hour = written->hour;
  when.tm_min = written->minute;
  when.tm_sec = written->second;
  when.tm_isdst = -1;  // the calendar knows
  const int day = when.tm_mday;
  auto instant = calendar.instant(when);
  if (written->date && calendar.local(instant).tm_mday != day) return Error{what, "there is no such day", kDeadlineForms};
  if (!written->date && instant <= now) {  // that of tomorrow, which need not be 24 hours away
    when.tm_mday += 1;
    instant = calendar.instant(when);
  }
  if (instant <= now) return past;
  return static_cast<std::uint64_t>(instant) * 1000;
}

std::string pointed_at(std::string_view text, std::size_t column) {
  constexpr std::size_t before_max = 50, after_max = 20;
  const auto begins = [&text](std::size_t i) { return (static_cast<unsigned char>(text[i]) & 0xC0) != 0x80; };
  std::vector<std::size_t> places;  // where each character begins: columns count those
  for (std::size_t i = 0; i < text.size(); ++i)
    if (begins(i)) places.push_back(i);
  places.push_back(text.size());
  const auto place = [&places](std::size_t character) { return places[std::min(character, places.size() - 1)]; };
  const std::size_t mark = std::clamp<std::size_t>(column, 1, places.size()) - 1;
  const std::size_t first = mark > before_max ? mark - before_max : 0;
  const auto part = [&](std::size_t from, std::size_t to) { return plain(text.substr(place(from), place(to) - place(from)), before_max + after_max); };
  std::string shown = (first == 0 ? "" : "...") + part(first, mark) + part(mark, mark + after_max);
  if (mark + after_max < places.size() - 1) shown += "...";
  return "  " + shown + "\n  " + std::string((first == 0 ? 0 : 3) + mark - first, ' ') + "^";
}

Result<Done> check_expression(std::string_view what, std::string_view text) {
  const auto parsed = Expression::parse(text);
  if (parsed) return Done{};
  Error error = parsed.error();
  // The parser says `column N`; who reads it wants to see where that is.
  const std::string said = error.text();
  std::string picture;
  if (const auto at = said.find("column "); at != std::string::npos) {
    std::size_t column = 0;
    std::from_chars(said.data() + at + std::strlen("column "), said.data() + said.size(), column);
    if (column != 0) picture = "\n" + pointed_at(text, column);
  }
  const std::string remedy = error.remedy.empty() ? "docs/EXPRESSIONS.md tells how to write one" : error.remedy;
  return Error{fmt::format("cannot read {}", what), error.why.empty() ? error.what : error.why, remedy + picture};
}

Result<Done> fill_needs(const Needs& needs, wire::Needs& target) {
  if (auto good = check(needs); !good) return good;
  write(needs, target);
  return Done{};
}

Result<Done> fill_job_terms(const TermOptions& options, const Calendar& calendar, wire::Job& job) {
  if (options.priority) {
    if (*options.priority < -kPriorityMax || *options.priority > kPriorityMax)
      return Error{"cannot submit", fmt::format("priority {}", *options.priority), fmt::format("give one from -{} to {}; higher goes first", kPriorityMax, kPriorityMax)};
    job.set_priority(*options.priority);
  }
  for (const auto& text : options.after) {
    const auto all = parse_after(text);
    if (!all) return all.error();
    for (const auto& after : all.value()) *job.add_after() = after;
    if (job.after_size() > kAfterMax) return Error{"cannot submit", fmt::format("it waits for more than {} jobs", kAfterMax), "wait for fewer"};
  }
  if (options.max_fails) {
    if (*options.max_fails < 0) return Error{"cannot submit", fmt::format("--max-fails {}", *options.max_fails), "give how many tasks may fail: 0 or more"};
    job.set_max_fails(static_cast<std::uint64_t>(*options.max_fails));
  }
  if (!options.deadline.empty()) {
    const auto deadline = parse_deadline(options.deadline, calendar);
    if (!deadline) return deadline.error();
    job.set_deadline_ms(deadline.value());
  }
  if (options.crash_limit) {
    if (*options.crash_limit < 1 || *options.crash_limit > kCrashLimitMax)
      return Error{"cannot submit", fmt::format("crash limit {}", *options.crash_limit), fmt::format("give a number of workers from 1 to {}", kCrashLimitMax)};
    job.set_crash_limit(static_cast<std::uint32_t>(*options.crash_limit));
  }
  if (options.hold) job.set_hold(true);
  if (options.speculate) job.set_speculate(true);
  return fill_quorum(options, job);
}

Result<Done> fill_quorum(const TermOptions& options, wire::Job& job) {
  if (options.quorum.empty() && !job.has_quorum()) {
    const char* alone = options.adaptive ? "--adaptive" : !options.quorum_by.empty() ? "--quorum-by" : !options.agree_on.empty() ? "--agree-on" : !options.known.empty() ? "--known" : nullptr;
    if (alone) return Error{"cannot submit", fmt::format("{} says how results are checked, and they are not", alone), "add --quorum 2/3"};
    return Done{};
  }
  auto& quorum = *job.mutable_quorum();
  if (!options.quorum.empty()) {
    const auto asked = parse_quorum(options.quorum);
    if (!asked) return asked.error();
    if (auto good = check_quorum(asked.value().first, asked.value().second); !good) return good;
    quorum.set_agree(asked.value().first), quorum.set_most(asked.value().second);
  }
  if (options.adaptive) quorum.set_adaptive(true);
  if (!options.quorum_by.empty()) {
    if (options.quorum_by != "owner" && options.quorum_by != "worker")
      return Error{"cannot submit", "results cannot be compared by " + souk::quoted(options.quorum_by), "write owner, for results of different owners, or worker, where all workers have one account"};
    quorum.set_by_worker(options.quorum_by == "worker");
  }
  if (!options.agree_on.empty()) {
    if (const auto on = parse_agree_on(options.agree_on); !on) return on.error();
    quorum.set_agree_on(options.agree_on);
  }
  if (options.known.empty()) return Done{};
  std::size_t line = 0;
  for (std::string_view rest = options.known_text; !rest.empty();) {
    std::string_view words = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(rest.size(), words.size() + 1));
    ++line;
    words = words.substr(0, words.find('#'));
    const auto trimmed = [](std::string_view text) {
      const auto first = text.find_first_not_of(" \t\r");
      return first == text.npos ? std::string_view() : text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
    };
    words = trimmed(words);
    if (words.empty()) continue;
    const auto gap = words.find_first_of(" \t");
    const auto task = whole_number(words.substr(0, gap));
    const auto sum = gap == words.npos ? std::nullopt : parse_sha256(trimmed(words.substr(gap)));
    if (!task || *task == 0 || !sum)
      return Error{"cannot read --known " + souk::quoted(options.known), fmt::format("its line {} is no number of a task and SHA-256 of its stdout", line), "write lines such as `17 9f86d081...`: the number, then what sha256sum prints for the right output"};
    if (static_cast<std::size_t>(quorum.known_size()) >= kKnownMax) return Error{"cannot read --known " + souk::quoted(options.known), fmt::format("it has over {} answers", kKnownMax), "give fewer"};
    auto& known = *quorum.add_known();
    known.set_task(*task), known.set_sha256(*sum);
  }
  if (quorum.known_size() == 0) return Error{"cannot read --known " + souk::quoted(options.known), "it has no answers", "write lines such as `17 9f86d081...`"};
  return Done{};
}

Result<Done> fill_terms(const TermOptions& options, const Calendar& calendar, wire::Job& job) {
  Needs needs;
  needs.cpus = options.cpus.value_or(1);
  needs.gpus = options.gpus.value_or(0);
  const auto size = [](const char* option, const std::string& text, std::uint64_t& target) -> Result<Done> {
    if (text.empty()) return Done{};
    const auto read = parse_needed_size(text);
    if (!read) return Error{fmt::format("cannot read {} {}", option, souk::quoted(text)), read.error().why, read.error().remedy};
    target = read.value();
    return Done{};
  };
  if (auto done = size("--memory", options.memory, needs.memory_bytes); !done) return done;
  if (auto done = size("--disk", options.disk, needs.disk_bytes); !done) return done;
  for (const auto& text : options.resources) {
    const auto one = parse_needed_resource(text);
    if (!one) return one.error();
    if (!needs.resources.insert(one.value()).second) return Error{"cannot submit", "resource " + one.value().first + " is asked for twice", "ask once, for as many as a task takes"};
  }
  // Asked for nothing, said nothing: the manager's own default.
  if (needs != Needs{} || options.cpus)
    if (auto done = fill_needs(needs, *job.mutable_needs()); !done) return done;
  if (!options.require.empty()) {
    if (auto done = check_expression("--require", options.require); !done) return done;
    job.set_require(options.require);
  }
  if (!options.rank.empty()) {
    if (auto done = check_expression("--rank", options.rank); !done) return done;
    job.set_rank(options.rank);
  }
  if (options.pin) job.mutable_command()->set_pin(true);
  if (options.network) job.mutable_command()->set_network(true);
  if (!options.sandbox.empty()) job.mutable_command()->set_sandbox(options.sandbox == "none" ? wire::UNBOXED : wire::BOXED);
  if (!options.image.empty()) {
    if (const auto good = check_image_name(options.image); !good) return good.error();
    if (options.sandbox == "none") return Error{"cannot submit", "an image is the system of a sandbox, and --sandbox none asks for none", "leave one of them out"};
    job.mutable_command()->set_image(options.image);
  }

  if (!options.retry_delay.empty() || !options.retry_delay_max.empty() || !options.retry_on.empty()) {
    if (job.retries() == 0) return Error{"cannot submit", "it is said how to run failed tasks again, but not how often", "add --retries N"};
    auto& retry = *job.mutable_retry();
    const auto delay = [](const std::string& text) { return text.empty() ? Result<std::chrono::milliseconds>(std::chrono::milliseconds{0}) : parse_duration(text); };
    const auto first = delay(options.retry_delay), most = delay(options.retry_delay_max);
    if (!first) return first.error();
    if (!most) return most.error();
    if (!options.retry_delay_max.empty() && most.value() < first.value())
      return Error{"cannot submit", fmt::format("--retry-delay-max {} is less than --retry-delay {}", options.retry_delay_max, options.retry_delay), "give the longer one as the most"};
    retry.set_delay_ms(static_cast<std::uint64_t>(first.value().count()));
    retry.set_delay_max_ms(static_cast<std::uint64_t>(most.value().count()));
    if (!options.retry_on.empty()) {
      const auto codes = parse_codes(options.retry_on);
      if (!codes) return codes.error();
      for (const auto& span : codes.value()) *retry.add_codes() = span;
    }
  }
  return fill_job_terms(options, calendar, job);
}

std::string_view task_term(const TermOptions& options) {
  if (options.cpus) return "--cpus";
  if (options.gpus) return "--gpus";
  if (!options.memory.empty()) return "--memory";
  if (!options.disk.empty()) return "--disk";
  if (!options.resources.empty()) return "--resource";
  if (!options.require.empty()) return "--require";
  if (!options.rank.empty()) return "--rank";
  if (options.pin) return "--pin";
  if (options.network) return "--network";
  if (!options.sandbox.empty()) return "--sandbox";
  if (!options.image.empty()) return "--image";
  if (!options.retry_delay.empty()) return "--retry-delay";
  if (!options.retry_delay_max.empty()) return "--retry-delay-max";
  if (!options.retry_on.empty()) return "--retry-on";
  return {};
}

}  // namespace souk
