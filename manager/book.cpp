#include "manager/book.h"

#include <algorithm>
#include <charconv>

#include "manager/market.h"
#include "protocol/expression.h"
#include "protocol/form.h"
#include "protocol/notation.h"
#include "protocol/payload.h"

namespace souk {

namespace {

Error bad(std::string why, std::string remedy) { return Error{"job refused", std::move(why), std::move(remedy)}; }

using Parsed = std::set<std::string_view>;  // expressions of one job that are fine; thousands of groups may have the same

Result<Done> check_expression(const std::string& text, const char* what, Parsed& parsed) {
  if (text.empty() || parsed.contains(text)) return Done{};
  const auto expression = Expression::parse(text);
  if (!expression) return bad(std::string("its ") + what + ": " + expression.error().why, expression.error().remedy);
  parsed.insert(text);
  return Done{};
}

Result<Done> check(const wire::Retry& retry) {
  const auto delay_max = static_cast<std::uint64_t>(kRetryDelayMax.count());
  if (retry.delay_ms() > delay_max || retry.delay_max_ms() > delay_max) return bad("it waits more than 30 days before a retry", "use a shorter delay");
  if (retry.codes_size() > kCodesMax) return bad("it names " + std::to_string(retry.codes_size()) + " ranges of exit codes for retries", "use at most " + std::to_string(kCodesMax));
  for (const auto& codes : retry.codes())
    if (codes.first() > codes.last() || codes.last() > 255)
      return bad("it retries after exit codes " + std::to_string(codes.first()) + "-" + std::to_string(codes.last()), "name codes from 0 to 255, the smaller one first");
  return Done{};
}

/// Who calls a service, or names an image, needs a worker that offers it; who asks for a sandbox, or in one for the network, one that can give it.
template <class Tasks>
std::string requirement_of(const Tasks& group) {
  const wire::Command& command = group.command();
  std::string all;
  const auto add = [&](const std::string& part) { all += (all.empty() ? "" : " && ") + part; };
  if (!command.service().empty()) add(offers_service(command.service()));
  if (!command.image().empty()) add(offers_image(command.image()));
  if (command.sandbox() == wire::BOXED) add("sandbox >= bwrap");
  if (command.network()) add("network");
  if (all.empty()) return group.require();
  if (!group.require().empty()) add("(" + group.require() + ")");
  return all;
}

/// What a job and a group have in common, by the same names. Yields the number of tasks.
template <class Tasks>
Result<std::uint64_t> check_tasks(const Tasks& group, Parsed& parsed) {
  if (auto command = read(group.command()); !command) return command.error();
  if (auto needs = read(group.needs()); !needs) return needs.error();
  if (auto good = check_expression(group.require(), "requirement", parsed); !good) return good.error();
  if (!group.require().empty() && !Expression::parse(requirement_of(group))) return bad("its requirement is too long to be one beside its service, image, sandbox or network", "write it shorter");
  if (auto good = check_expression(group.rank(), "rank", parsed); !good) return good.error();
  if (group.retries() > static_cast<std::uint32_t>(kRetriesMax)) return bad("it asks for " + std::to_string(group.retries()) + " retries", "use at most " + std::to_string(kRetriesMax));
  if (auto good = check(group.retry()); !good) return good.error();
  std::uint64_t tasks = 1;
  if (group.has_range()) {
    const auto& range = group.range();
    if (range.last() < range.first()) return bad("its range " + std::to_string(range.first()) + "-" + std::to_string(range.last()) + " is empty", "give the smaller number first");
    tasks = Span{range.first(), range.last(), std::max<std::uint64_t>(1, range.step())}.count();
  } else if (group.has_lines()) {
    tasks = static_cast<std::uint64_t>(group.lines().line_size());
    if (tasks == 0) return bad("it has no items", "give at least one line");
    for (const auto& line : group.lines().line()) {
      if (line.size() > kItemMax) return bad("an item has " + std::to_string(line.size()) + " bytes", "keep items below " + std::to_string(kItemMax) + " bytes, or put them into files");
      if (line.find('\0') != std::string::npos) return bad("an item has a NUL byte", "items are arguments of programs: leave NUL bytes out");
    }
  }
  if (tasks > kTasksMax) return too_many_tasks("job refused");
  return tasks;
}

/// For messages: `group 3 'train'`.
std::string title_of(const wire::Job& job, int at) { return "group " + std::to_string(at + 1) + (job.groups(at).name().empty() ? "" : " " + souk::quoted(job.groups(at).name())); }

/// Groups only wait for others of the job, and not for each other in a circle (Kahn: what never becomes free is in one or behind one).
Result<Done> check_order(const wire::Job& job) {
  const int groups = job.groups_size();
  std::vector<std::vector<std::uint32_t>> next(static_cast<std::size_t>(groups));
  std::vector<std::size_t> waits(static_cast<std::size_t>(groups));
  for (int at = 0; at < groups; ++at)
    for (const auto& after : job.groups(at).after()) {
      if (after.group() >= static_cast<std::uint32_t>(groups))
        return bad(title_of(job, at) + " waits for group " + std::to_string(std::uint64_t{after.group()} + 1) + " of " + std::to_string(groups), "name groups of the job");
      next[after.group()].push_back(static_cast<std::uint32_t>(at));
      ++waits[static_cast<std::size_t>(at)];
    }
  std::vector<std::uint32_t> free;
  for (std::uint32_t at = 0; at < waits.size(); ++at)
    if (waits[at] == 0) free.push_back(at);
  for (std::size_t i = 0; i < free.size(); ++i)
    for (const std::uint32_t then : next[free[i]])
      if (--waits[then] == 0) free.push_back(then);
  if (free.size() == waits.size()) return Done{};
  // From any that is left, going back along what is left ends in the circle itself.
  std::size_t at = 0;
  while (waits[at] == 0) ++at;
  std::vector<bool> seen(waits.size());
  const auto before = [&](std::size_t group) {
    for (const auto& after : job.groups(static_cast<int>(group)).after())
      if (waits[after.group()] > 0) return static_cast<std::size_t>(after.group());
    return group;
  };
  while (!seen[at]) seen[at] = true, at = before(at);
  return bad(title_of(job, static_cast<int>(at)) + " waits for itself, by way of " + title_of(job, static_cast<int>(before(at))), "break the circle");
}

Result<Done> check(const wire::Quorum& quorum, bool speculate, std::uint64_t tasks) {
  if (const auto good = check_quorum(quorum.agree(), quorum.most()); !good) return bad("its quorum: " + good.error().why, good.error().remedy);
  const auto on = parse_agree_on(quorum.agree_on());
  if (!on) return bad(on.error().why, on.error().remedy);
  if (speculate) return bad("it asks for a quorum, and to speculate", "leave one out: copies of a task for a quorum are made one after the other");
  if (static_cast<std::size_t>(quorum.known_size()) > kKnownMax) return bad("it has " + std::to_string(quorum.known_size()) + " known answers", "give at most " + std::to_string(kKnownMax));
  if (quorum.known_size() > 0 && on.value().what != AgreeOn::What::all) return bad("known answers are compared byte by byte, and its results are not", "leave agree-on out, or the known answers");
  std::set<std::uint64_t> known;
  for (const auto& one : quorum.known()) {
    const std::string task = "task " + std::to_string(one.task());
    if (one.task() < 1 || one.task() > tasks) return bad("the answer of " + task + " is known, and it has " + std::to_string(tasks), "number the tasks from 1");
    if (one.sha256().size() != 32) return bad("the known answer of " + task + " is no SHA-256", "give 32 bytes");
    if (!known.insert(one.task()).second) return bad("it has two known answers of " + task, "give one");
  }
  return Done{};
}

Needs needs_of(const wire::Needs& message) {
  auto needs = read(message);
  return needs ? std::move(needs.value()) : Needs{};  // of a checked job
}

template <class Tasks>
std::uint64_t tasks_of(const Tasks& group) {
  if (group.has_range()) return Span{group.range().first(), group.range().last(), std::max<std::uint64_t>(1, group.range().step())}.count();
  return group.has_lines() ? static_cast<std::uint64_t>(group.lines().line_size()) : 1;
}

template <class Tasks>
Group core_group(const Tasks& from) {
  Group group;
  group.tasks = tasks_of(from);
  group.needs = needs_of(from.needs());
  group.require = requirement_of(from), group.rank = from.rank();
  group.time_limit = std::chrono::milliseconds(from.command().time_limit_ms());
  Retry& retry = group.retry;
  retry.times = from.retries();
  retry.delay = std::chrono::milliseconds(from.retry().delay_ms());
  if (from.retry().delay_max_ms() > 0) retry.delay_max = std::chrono::milliseconds(from.retry().delay_max_ms());
  else retry.delay_max = std::max(retry.delay_max, retry.delay);  // who says 20 minutes means them
  for (const auto& codes : from.retry().codes()) retry.codes.push_back({static_cast<int>(codes.first()), static_cast<int>(codes.last())});
  return group;
}

std::string one_line(std::string line, std::size_t most) {
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return line.size() > most ? shortened(printable(line), most - 3) + "..." : printable(line);
}
constexpr std::size_t kShownMax = 120;

}  // namespace

Result<std::uint64_t> check(const wire::Job& job, std::uint64_t now_ms) {
  if (job.name().size() > kNameMax) return bad("its name has " + std::to_string(job.name().size()) + " bytes", "use at most " + std::to_string(kNameMax));
  if (job.priority() < -kPriorityMax || job.priority() > kPriorityMax)
    return bad("its priority is " + std::to_string(job.priority()), "use -" + std::to_string(kPriorityMax) + " to " + std::to_string(kPriorityMax));
  if (job.crash_limit() > kCrashLimitMax) return bad("its crash limit is " + std::to_string(job.crash_limit()), "use at most " + std::to_string(kCrashLimitMax));
  if (job.after_size() > kAfterMax) return bad("it waits for " + std::to_string(job.after_size()) + " jobs", "name at most " + std::to_string(kAfterMax));
  if (job.deadline_ms() > 0 && job.deadline_ms() <= now_ms) return bad("its deadline has passed", "name a later one; the manager's clock counts");
  if (job.deadline_ms() > 0 && job.deadline_ms() - now_ms > static_cast<std::uint64_t>(kDeadlineMax.count())) return bad("its deadline is over ten years from now", "name an earlier one, or none");
  Parsed parsed;
  const auto with_quorum = [&](Result<std::uint64_t> counted) -> Result<std::uint64_t> {
    if (!counted || !job.has_quorum()) return counted;
    if (const auto good = check(job.quorum(), job.speculate(), counted.value()); !good) return good.error();
    return counted;
  };
  if (job.groups_size() == 0) return with_quorum(check_tasks(job, parsed));
  if (job.groups_size() > kGroupsMax) return bad("it has " + std::to_string(job.groups_size()) + " groups of tasks", "use at most " + std::to_string(kGroupsMax));
  std::uint64_t tasks = 0;
  for (int at = 0; at < job.groups_size(); ++at) {
    const auto& group = job.groups(at);
    if (group.name().size() > kNameMax) return bad("the name of group " + std::to_string(at + 1) + " has " + std::to_string(group.name().size()) + " bytes", "use at most " + std::to_string(kNameMax));
    // The store keeps them one a line.
    if (!is_printable(group.name()) || group.name().find('\n') != std::string::npos) return bad("the name of group " + std::to_string(at + 1) + " is not one printable line", "leave control characters out");
    const auto here = check_tasks(group, parsed);
    if (!here) return Error{here.error().what, title_of(job, at) + ": " + here.error().why, here.error().remedy};
    tasks += here.value();  // each at most kTasksMax, so it cannot overflow
    if (tasks > kTasksMax) return too_many_tasks("job refused");
  }
  if (const auto good = check_order(job); !good) return good.error();
  return with_quorum(tasks);
}

std::uint64_t memory_of(const wire::Job& job, std::uint64_t tasks) {
  constexpr std::uint64_t each_job = 4096, each_group = 1024, each_string = 64, each_voted = 512;  // with what the allocator adds
  const auto strings = [](const auto& of) { return static_cast<std::uint64_t>(of.lines().line_size() + of.command().argv_size() + 2 * of.command().env_size()); };
  std::uint64_t bytes = each_job + job.ByteSizeLong() + tasks / 2 + each_string * (strings(job) + static_cast<std::uint64_t>(job.after_size()));
  if (job.has_quorum()) bytes += each_voted * tasks + each_string * static_cast<std::uint64_t>(job.quorum().known_size());  // who gave what result of which task
  for (const auto& group : job.groups()) bytes += each_group + each_string * (strings(group) + static_cast<std::uint64_t>(group.after_size()));
  return bytes;
}

void make_grouped(wire::Job& job) {
  if (job.groups_size() > 0) return;
  auto& one = *job.add_groups();
  if (job.has_command()) one.set_allocated_command(job.release_command());
  if (job.has_range()) one.set_allocated_range(job.release_range());
  if (job.has_lines()) one.set_allocated_lines(job.release_lines());
  if (job.has_needs()) one.set_allocated_needs(job.release_needs());
  if (job.has_retry()) one.set_allocated_retry(job.release_retry());
  one.set_require(job.require()), one.set_rank(job.rank()), one.set_retries(job.retries());
}

PackedLines::PackedLines(const wire::Lines& lines) {
  std::size_t bytes = 0;
  for (const auto& line : lines.line()) bytes += line.size();
  text_.reserve(bytes);
  ends_.reserve(static_cast<std::size_t>(lines.line_size()));
  for (const auto& line : lines.line()) ends_.push_back(static_cast<std::uint32_t>((text_ += line).size()));
}

PackedItems::PackedItems(const wire::Job& job) {
  if (job.groups_size() == 0) of_groups.emplace_back(job.lines());
  for (const auto& group : job.groups()) of_groups.emplace_back(group.lines());
}

std::uint32_t JobEntry::group_of(TaskNumber task) const {
  const auto after = std::upper_bound(places.begin(), places.end(), task.value, [](std::uint64_t number, const Place& place) { return number < place.first; });
  return after == places.begin() ? 0 : static_cast<std::uint32_t>(after - places.begin() - 1);
}

std::string item_of(const JobEntry& entry, TaskNumber task) {
  const std::uint32_t at = entry.group_of(task);
  if (at >= static_cast<std::uint32_t>(entry.job.groups_size()) || task.value < 1) return {};
  const wire::Group& group = entry.job.groups(static_cast<int>(at));
  const std::uint64_t position = task.value - entry.places[at].first;
  if (group.has_range()) {
    const std::uint64_t step = std::max<std::uint64_t>(1, group.range().step());
    return std::to_string(static_cast<std::int64_t>(static_cast<std::uint64_t>(group.range().first()) + position * step));
  }
  const PackedLines& lines = entry.places[at].lines;
  return position < lines.size() ? lines[static_cast<std::size_t>(position)] : std::string();
}

std::string shown(const wire::Command& command) {
  std::string line = command.service().empty() ? "" : "service " + command.service();
  for (const auto& word : command.argv()) {
    if (!line.empty()) line += ' ';
    line += word.substr(0, kShownMax + 1);
    if (line.size() > kShownMax) break;
  }
  return one_line(std::move(line), kShownMax);
}

std::string shown(const wire::Job& job) {
  if (job.groups_size() == 0) return shown(job.command());
  if (job.groups_size() == 1 && job.groups(0).name().empty()) return shown(job.groups(0).command());
  std::string line;
  for (const auto& group : job.groups()) {
    line += (line.empty() ? "" : ", ") + (group.name().empty() ? shown(group.command()) : group.name());
    if (line.size() > kShownMax) break;
  }
  return one_line(std::move(line), kShownMax);
}

std::string layout_of(const wire::Job& job) {
  std::string layout;
  if (job.groups_size() > 1 || (job.groups_size() == 1 && !job.groups(0).name().empty()))
    for (const auto& group : job.groups()) layout += std::to_string(tasks_of(group)) + ' ' + group.name() + '\n';
  return layout;
}

std::optional<Quorum> quorum_of(const wire::Job& job) {
  if (!job.has_quorum()) return std::nullopt;
  const wire::Quorum& from = job.quorum();
  Quorum quorum{from.agree(), from.most(), from.adaptive(), from.by_worker() ? VotesOf::workers : VotesOf::owners, {}, {}};
  if (const auto on = parse_agree_on(from.agree_on())) quorum.on = on.value();
  for (const auto& known : from.known()) quorum.known[{known.task()}] = known.sha256();
  return quorum;
}

JobSubmitted event_of(JobId id, const std::string& owner, const wire::Job& job, Clocks clocks) {
  JobSubmitted event{id, owner, {}, {}, job.name()};
  if (job.groups_size() == 0) event.groups.push_back(core_group(job));
  for (const auto& from : job.groups()) {
    event.groups.push_back(core_group(from));
    for (const auto& after : from.after()) event.groups.back().after.push_back({after.group(), after.any()});
  }
  Terms& terms = event.terms;
  terms.priority = job.priority();
  for (const auto& after : job.after()) terms.after.push_back({{after.job()}, after.any()});
  if (job.has_max_fails()) terms.max_fails = job.max_fails();
  if (job.deadline_ms() > 0) terms.deadline = clocks.at(job.deadline_ms());
  terms.hold = job.hold(), terms.speculate = job.speculate(), terms.crash_limit = job.crash_limit();
  if (job.has_quorum()) terms.votes_of = job.quorum().by_worker() ? VotesOf::workers : VotesOf::owners;
  return event;
}

namespace {

std::vector<JobEntry::Place> places_of(const wire::Job& job, const std::string& layout) {
  std::vector<JobEntry::Place> places;
  std::uint64_t first = 1;
  for (const auto& group : job.groups()) {
    places.push_back({first, group.command().ByteSizeLong(), group.name(), {}});
    first += tasks_of(group);
  }
  if (places.empty())
    for (std::string_view rest = layout; !rest.empty();) {
      const std::string_view line = rest.substr(0, rest.find('\n'));
      rest.remove_prefix(std::min(rest.size(), line.size() + 1));
      std::uint64_t tasks = 0;
      const auto [end, failure] = std::from_chars(line.data(), line.data() + line.size(), tasks);
      if (failure != std::errc{} || end == line.data() + line.size()) break;
      places.push_back({first, 0, std::string(end + 1, line.data() + line.size()), {}});
      first += tasks;
    }
  if (places.empty()) places.emplace_back();
  return places;
}

}  // namespace

JobEntry& JobBook::add(JobRow row, wire::Job job, PackedItems* items) {
  last_ = std::max(last_, row.id.value);
  remember_key(row.owner, row.key, row.id);
  JobEntry& entry = entries_[row.id];
  entry.row = std::move(row);
  if (entry.row.ended_ms == 0) reopened(entry, std::move(job), items);
  else ended(entry), entry.places = places_of(entry.job, entry.row.layout);
  return entry;
}

void JobBook::ended(JobEntry& entry) {
  for (const auto& after : entry.job.after())
    if (const auto at = waited_for_.find({after.job()}); at != waited_for_.end() && --at->second == 0) waited_for_.erase(at);
  by_end_.insert({entry.listed_ms = entry.row.ended_ms, entry.row.id});
  entry.row.spec.clear();
  entry.job.Clear();
  for (auto& place : entry.places) place.lines = {};
  open_.erase(entry.row.id);
}

void JobBook::reopened(JobEntry& entry, wire::Job job, PackedItems* items) {
  entry.row.spec.clear();  // the message holds it parsed
  entry.job = std::move(job);
  make_grouped(entry.job);
  entry.places = places_of(entry.job, entry.row.layout);
  for (int at = 0; at < entry.job.groups_size(); ++at)
    if (wire::Group& group = *entry.job.mutable_groups(at); group.has_lines()) {
      PackedLines& lines = entry.places[static_cast<std::size_t>(at)].lines;
      std::unique_ptr<wire::Lines> unpacked(group.release_lines());
      if (!items) lines = PackedLines(*unpacked);
      else lines = std::move(items->of_groups.at(static_cast<std::size_t>(at))), items->unpacked.push_back(std::move(unpacked));
    }
  by_end_.erase({entry.listed_ms, entry.row.id});
  open_.insert(entry.row.id);
  for (const auto& after : entry.job.after()) ++waited_for_[{after.job()}];
}

std::vector<JobId> JobBook::forgettable(std::uint64_t before_ms, std::size_t most) const {
  std::vector<JobId> jobs;
  for (auto at = by_end_.begin(); at != by_end_.end() && at->first < before_ms && jobs.size() < most; ++at)
    if (!waited_for_.contains(at->second)) jobs.push_back(at->second);
  return jobs;
}

void JobBook::forget(JobId job) {
  const auto at = entries_.find(job);
  if (at == entries_.end() || at->second.row.ended_ms == 0) return;
  const JobRow& row = at->second.row;
  if (const auto key = keys_.find({row.owner, row.key}); key != keys_.end() && key->second == job) keys_.erase(key);
  by_end_.erase({at->second.listed_ms, job});
  entries_.erase(at);
}

JobEntry* JobBook::find(JobId job) {
  const auto at = entries_.find(job);
  return at == entries_.end() ? nullptr : &at->second;
}
const JobEntry* JobBook::find(JobId job) const { return const_cast<JobBook*>(this)->find(job); }

std::optional<JobId> JobBook::by_key(const std::string& owner, const std::string& key) const {
  const auto at = keys_.find({owner, key});
  if (key.empty() || at == keys_.end() || !find(at->second)) return std::nullopt;  // a job that ran again had other keys before
  return at->second;
}

void JobBook::remember_key(const std::string& owner, const std::string& key, JobId job) {
  if (!key.empty()) keys_[{owner, key}] = job;
}

Result<Done> JobBook::check_after(const wire::Job& job, const std::string& owner, bool admin, JobId before) const {
  for (const auto& after : job.after()) {
    const JobEntry* entry = find({after.job()});
    if (!entry || (!admin && entry->row.owner != owner)) return bad("it waits for job " + std::to_string(after.job()) + ", and there is no such job of yours, or it is no longer kept", "`souk jobs` lists yours");
    if (before.value > 0 && after.job() >= before.value) return bad("it waits for job " + std::to_string(after.job()) + ", which came after it", "name earlier jobs");
  }
  return Done{};
}

std::vector<JobKnown> JobBook::ended_before(const wire::Job& job) const {
  std::vector<JobKnown> known;
  for (const auto& after : job.after())
    if (const JobEntry* entry = find({after.job()}); entry && entry->row.ended_ms > 0) known.push_back({entry->row.id, entry->row.state});
  return known;
}

wire::JobStatus JobBook::status(const JobEntry& entry, const Scheduler& scheduler) const {
  const JobRow& row = entry.row;
  wire::JobStatus s;
  s.set_job(row.id.value), s.set_name(row.name), s.set_owner(row.owner), s.set_command(row.command);
  s.set_tasks(row.tasks), s.set_submitted_ms(row.submitted_ms), s.set_started_ms(row.started_ms);
  s.set_priority(row.priority), s.set_deadline_ms(row.deadline_ms), s.set_note(row.note);
  s.set_ended_ms(entry.over() ? row.ended_ms : 0);
  if (entry.over()) {
    s.set_succeeded(row.succeeded), s.set_failed(row.failed), s.set_canceled(row.canceled_tasks), s.set_requeued(row.requeued), s.set_retried(row.retried);
    s.set_state(static_cast<wire::State>(row.state));
    return s;
  }
  s.set_held(row.held);
  if (const auto* counts = scheduler.counts(row.id)) {
    s.set_waiting(counts->waiting), s.set_running(counts->running), s.set_succeeded(counts->succeeded), s.set_failed(counts->failed);
    s.set_canceled(counts->canceled), s.set_requeued(counts->requeued), s.set_retried(counts->retried);
    s.set_state(row.started_ms > 0 || counts->running + counts->succeeded + counts->failed > 0 ? wire::RUNNING : wire::WAITING);  // after a restart what runs was adopted
  } else {
    s.set_waiting(row.tasks);
  }
  if (const std::string note = scheduler.note(row.id); !row.held) s.set_note(printable(note));  // `held` is told already
  return s;
}

std::uint64_t JobBook::queued(const std::string& owner, const Scheduler& scheduler) const {
  std::uint64_t tasks = 0;
  for (const JobId id : open_) {
    const JobEntry& entry = *find(id);
    if (entry.row.owner != owner) continue;
    const auto* counts = scheduler.counts(id);
    tasks += counts ? counts->waiting : entry.row.tasks;
  }
  return tasks;
}

}  // namespace souk
