#include "manager/book.h"

#include <algorithm>

#include "protocol/form.h"
#include "protocol/payload.h"

namespace souk {

Result<std::uint64_t> check(const wire::Job& job) {
  const auto bad = [](std::string why, std::string remedy) { return Error{"job refused", std::move(why), std::move(remedy)}; };
  if (auto command = read(job.command()); !command) return command.error();
  if (job.name().size() > kNameMax) return bad("its name has " + std::to_string(job.name().size()) + " bytes", "use at most " + std::to_string(kNameMax));
  if (job.retries() > static_cast<std::uint32_t>(kRetriesMax)) return bad("it asks for " + std::to_string(job.retries()) + " retries", "use at most " + std::to_string(kRetriesMax));
  std::uint64_t tasks = 1;
  if (job.has_range()) {
    const auto& range = job.range();
    const std::uint64_t step = std::max<std::uint64_t>(1, range.step());
    if (range.last() < range.first()) return bad("its range " + std::to_string(range.first()) + "-" + std::to_string(range.last()) + " is empty", "give the smaller number first");
    tasks = (static_cast<std::uint64_t>(range.last()) - static_cast<std::uint64_t>(range.first())) / step + 1;
    if (tasks == 0) tasks = kTasksMax + 1;  // the whole of 64 bits
  } else if (job.has_lines()) {
    tasks = static_cast<std::uint64_t>(job.lines().line_size());
    if (tasks == 0) return bad("it has no items", "give at least one line");
    for (const auto& line : job.lines().line()) {
      if (line.size() > kItemMax) return bad("an item has " + std::to_string(line.size()) + " bytes", "keep items below " + std::to_string(kItemMax) + " bytes, or put them into files");
      if (line.find('\0') != std::string::npos) return bad("an item has a NUL byte", "items are arguments of programs: leave NUL bytes out");
    }
  }
  if (tasks > kTasksMax) return bad("it has more than " + std::to_string(kTasksMax) + " tasks", "submit it as several jobs");
  return tasks;
}

std::string item_of(const wire::Job& job, TaskNumber task) {
  if (job.has_range()) {
    const std::uint64_t step = std::max<std::uint64_t>(1, job.range().step());
    return std::to_string(static_cast<std::int64_t>(static_cast<std::uint64_t>(job.range().first()) + (task.value - 1) * step));
  }
  if (job.has_lines() && task.value >= 1 && task.value <= static_cast<std::uint64_t>(job.lines().line_size())) return job.lines().line(static_cast<int>(task.value - 1));
  return {};
}

std::string shown(const wire::Command& command) {
  constexpr std::size_t most = 120;
  std::string line;
  for (const auto& word : command.argv()) {
    if (!line.empty()) line += ' ';
    line += word.substr(0, most + 1);
    if (line.size() > most) break;
  }
  for (char& c : line)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return line.size() > most ? shortened(printable(line), most - 3) + "..." : printable(line);
}

JobEntry& JobBook::add(JobRow row, wire::Job job) {
  last_ = std::max(last_, row.id.value);
  if (!row.key.empty()) keys_[{row.owner, row.key}] = row.id;
  JobEntry& entry = entries_[row.id];
  entry.command_size = job.command().ByteSizeLong();
  entry.row = std::move(row);
  entry.job = std::move(job);
  return entry;
}

JobEntry* JobBook::find(JobId job) {
  const auto at = entries_.find(job);
  return at == entries_.end() ? nullptr : &at->second;
}
const JobEntry* JobBook::find(JobId job) const { return const_cast<JobBook*>(this)->find(job); }

std::optional<JobId> JobBook::by_key(const std::string& owner, const std::string& key) const {
  const auto at = keys_.find({owner, key});
  if (key.empty() || at == keys_.end()) return std::nullopt;
  return at->second;
}

wire::JobStatus JobBook::status(const JobEntry& entry, const Scheduler& scheduler) const {
  const JobRow& row = entry.row;
  wire::JobStatus s;
  s.set_job(row.id.value), s.set_name(row.name), s.set_owner(row.owner), s.set_command(row.command);
  s.set_tasks(row.tasks), s.set_submitted_ms(row.submitted_ms), s.set_started_ms(row.started_ms), s.set_ended_ms(row.ended_ms);
  if (row.ended_ms > 0) {
    s.set_succeeded(row.succeeded), s.set_failed(row.failed), s.set_canceled(row.canceled_tasks), s.set_requeued(row.requeued), s.set_retried(row.retried);
    s.set_state(static_cast<wire::State>(row.state));
  } else if (const auto* counts = scheduler.counts(row.id)) {
    s.set_waiting(counts->waiting), s.set_running(counts->running), s.set_succeeded(counts->succeeded), s.set_failed(counts->failed);
    s.set_canceled(counts->canceled), s.set_requeued(counts->requeued), s.set_retried(counts->retried);
    s.set_state(row.started_ms > 0 ? wire::RUNNING : wire::WAITING);
  } else {
    s.set_waiting(row.tasks);
  }
  return s;
}

}  // namespace souk
