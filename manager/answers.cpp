// What users can ask: status, results, why, workers.
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>

#include <algorithm>

#include "manager/grid.h"
#include "manager/history.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"

namespace souk {

namespace {

constexpr std::uint32_t kPageMax = 500;         // tasks in one results answer
constexpr std::size_t kPageBytes = 72 << 10;    // of streams in one results answer; the rest of kStanzaMax is for the other fields
constexpr std::uint32_t kJobsMax = 500;         // jobs in one status answer
constexpr std::uint32_t kFailedShown = 5;       // tasks named as the reason why a job failed

std::uint64_t now_ms() { return Clocks::read().now_ms; }
Instant now() { return Clocks::read().now; }

}  // namespace

void Grid::status(const Asker& asker, const wire::StatusRequest& request, Reply<wire::StatusAnswer> reply) {
  wire::StatusAnswer answer;
  *answer.mutable_grid() = grid_status();
  if (request.jobs_size() > 0) {
    for (const std::uint64_t id : request.jobs()) {
      const JobEntry* entry = asker.sees ? book_.find({id}) : visible(asker, id);
      if (!entry) return reply(no_such(id));
      if (request.unwatch()) watches_.remove({id}, asker.jid);
      else if (request.watch() && !entry->over() && !watches_.add(now(), {id}, asker.jid))
        return reply(Refusal{"resource-constraint", "too many watchers for now: ask again without watch"});
      *answer.add_jobs() = book_.status(*entry, scheduler_);
      if (static_cast<std::uint32_t>(answer.jobs_size()) >= kJobsMax) break;
    }
    return reply(std::move(answer));
  }
  const std::uint32_t limit = request.limit() == 0 ? 100 : std::min(request.limit(), kJobsMax);
  const auto newest = request.below() == 0 ? book_.all().end() : book_.all().lower_bound({request.below()});
  for (auto entry = std::make_reverse_iterator(newest); entry != book_.all().rend() && static_cast<std::uint32_t>(answer.jobs_size()) < limit; ++entry)
    if (entry->second.row.owner == asker.owner || ((asker.admin || asker.sees) && request.everybody())) *answer.add_jobs() = book_.status(entry->second, scheduler_);
  reply(std::move(answer));
}

void Grid::results(const Asker& asker, const wire::ResultsRequest& request, Reply<wire::ResultsAnswer> reply) {
  const JobEntry* asked = visible(asker, request.job());
  if (!asked) return reply(no_such(request.job()));
  const std::uint64_t from = std::max<std::uint64_t>(1, request.from_task());
  if (from > asked->row.tasks) return reply(Refusal{"item-not-found", fmt::format("job {} has {} tasks, not {}", request.job(), asked->row.tasks, from)});
  const JobId job{request.job()};
  if (request.stream())
    return journal_->read_stream({job, {from}}, request.err(), request.offset(), kPageBytes, [this, job, reply](Result<Journal::Slice> slice) {
      if (!slice) return reply(Refusal{"resource-constraint", slice.error().text()});
      const JobEntry* entry = book_.find(job);
      if (!entry) return reply(no_such(job.value));
      wire::ResultsAnswer answer;
      answer.set_data(std::move(slice.value().data)), answer.set_size(slice.value().size);
      *answer.mutable_job() = book_.status(*entry, scheduler_);
      reply(std::move(answer));
    });
  const std::uint64_t to = request.to_task() == 0 ? asked->row.tasks : std::min(request.to_task(), asked->row.tasks);
  const std::uint32_t limit = request.limit() == 0 ? kPageMax : std::min(request.limit(), kPageMax);
  Journal::Page page{job, from, to, limit, kPageBytes, request.outputs(), request.failed_only()};
  // Asked now and not when the rows are here: a job that ended in between has outcomes that they lack.
  const bool over = asked->over();
  journal_->read(page, [this, job, from, to, limit, over, request, reply](Result<std::vector<OutcomeRow>> read) {
    if (!read) return reply(Refusal{"resource-constraint", read.error().text()});
    std::vector<OutcomeRow>& rows = read.value();
    const JobEntry* entry = book_.find(job);
    if (!entry) return reply(no_such(job.value));
    wire::ResultsAnswer answer;
    *answer.mutable_job() = book_.status(*entry, scheduler_);
    std::size_t bytes = 0;
    std::size_t next_row = 0;
    std::uint64_t task = from;
    for (; task <= to && static_cast<std::uint32_t>(answer.results_size()) < limit && bytes < kPageBytes; ++task) {
      if (request.failed_only()) {
        if (next_row == rows.size()) {
          task = rows.size() < limit ? to + 1 : task;  // else there may be more of them behind the last row
          break;
        }
        task = rows[next_row].task.task.value;
      }
      const bool has_row = next_row < rows.size() && rows[next_row].task.task.value == task;
      // Behind a full page of rows nothing is known.
      if (!has_row && next_row == rows.size() && rows.size() >= limit) break;
      answer.set_next_waits(request.ended_only() && !has_row && !over);
      if (answer.next_waits()) break;
      const TaskState state = has_row ? rows[next_row].state : over ? TaskState::canceled : entry->row.ended_ms > 0 ? TaskState::running : scheduler_.state({job, {task}});
      if (has_row) {
        const OutcomeRow& row = rows[next_row];
        const std::size_t adds = row.out.size() + row.err.size() + row.outcome.size() + row.item.size() + 64;
        if (bytes > 0 && bytes + adds > kPageBytes + 8192) break;
        bytes += adds;
      }
      wire::TaskResult& result = *answer.add_results();
      result.set_task(task);
      if (has_row) {
        OutcomeRow& row = rows[next_row++];
        result.set_attempts(row.attempts), result.set_worker(std::move(row.worker));
        // An empty string that is set takes memory of its own, one that is not takes none.
        if (!row.item.empty()) result.set_item(std::move(row.item));
        result.mutable_outcome()->ParseFromString(row.outcome);
        if (request.outputs()) {
          const bool whole = row.out.size() == row.out_kept && row.err.size() == row.err_kept;
          result.set_out_elided(!whole && row.out_kept > 0), result.set_err_elided(!whole && row.err_kept > 0);
          if (whole && !row.out.empty()) result.mutable_outcome()->set_out(std::move(row.out));
          if (whole && !row.err.empty()) result.mutable_outcome()->set_err(std::move(row.err));
        }
        result.set_state(static_cast<wire::State>(row.state));
      } else {
        // Committed in this very moment and not on disk yet: it is as good as running.
        result.set_state(static_cast<wire::State>(!over && ended(state) && state != TaskState::canceled ? TaskState::running : state));
        result.set_attempts(scheduler_.attempts({job, {task}}));
        if (const auto worker = scheduler_.runner({job, {task}})) result.set_worker(pool_.nick(*worker));
        result.set_item(item_of(*entry, {task}));
        bytes += result.item().size() + 32;
      }
      if (std::string group = entry->group_name({task}); !group.empty()) bytes += group.size(), result.set_group(std::move(group));
    }
    if (task <= to) answer.set_next_task(task);
    reply(std::move(answer));
  });
}

void Grid::why(const Asker& asker, const wire::WhyRequest& request, Reply<wire::WhyAnswer> reply) {
  const JobEntry* asked = visible(asker, request.job());
  if (!asked) return reply(no_such(request.job()));
  const TaskId task{{request.job()}, {request.task()}};
  if (task.task.value > asked->row.tasks) return reply(Refusal{"item-not-found", fmt::format("job {} has {}, not {}", request.job(), tasks_shown(asked->row.tasks), request.task())});
  if (task.task.value == 0 && asked->over()) return why_job_ended(*asked, reply);
  journal_->read_history(task, [this, task, reply](Result<Journal::History> read) {
    if (!read) return reply(Refusal{"resource-constraint", read.error().text()});
    const JobEntry* found = book_.find(task.job);
    if (!found) return reply(no_such(task.job.value));
    const JobEntry& entry = *found;
    Journal::History& history = read.value();
    wire::WhyAnswer answer;
    *answer.mutable_job() = book_.status(entry, scheduler_);
    answer.set_task(task.task.value);
    if (task.task.value > 0) answer.set_group(entry.group_name(task.task));
    for (const AttemptRow& row : history.attempts) write(row, *answer.add_attempts());
    if (history.outcome && task.task.value > 0) {
      const OutcomeRow& row = *history.outcome;
      wire::Outcome message;
      message.ParseFromString(row.outcome);
      message.set_out_size(std::max<std::uint64_t>(message.out_size(), message.out().size()));
      const auto outcome = souk::read(message);
      const std::string ending = outcome ? ending_of(outcome.value()) : "";
      answer.set_state(static_cast<wire::State>(row.state));
      // One that did not succeed has its row already, unless it never ran, or was stored by an earlier version.
      const bool told = row.state != TaskState::succeeded && answer.attempts_size() > 0 && answer.attempts(answer.attempts_size() - 1).run() >= row.attempts;
      if (!told && row.attempts > 0 && !row.worker.empty()) {
        auto& last = *answer.add_attempts();
        last.set_run(row.attempts), last.set_worker(printable(row.worker)), last.set_ending(ending), last.set_wall_us(message.wall_us());
      }
      const std::string where = row.worker.empty() ? "" : " on " + row.worker;
      answer.set_summary(printable(row.state == TaskState::succeeded ? fmt::format("it succeeded{} in {:.2f} s, run {}", where, static_cast<double>(message.wall_us()) / 1e6, row.attempts)
                                   : row.state == TaskState::failed  ? fmt::format("it failed{}: {}", where, ending)
                                                                     : "it was canceled" + where));
      return reply(std::move(answer));
    }
    if (entry.over()) {
      answer.set_state(wire::JOB_CANCELED);
      answer.set_summary(entry.row.note.empty() ? "it was canceled before it ran" : "it was canceled before it ran: " + entry.row.note);
      return reply(std::move(answer));
    }
    const Explanation why = scheduler_.why(task);
    answer.set_state(task.task.value == 0 ? answer.job().state() : static_cast<wire::State>(why.state));
    std::string summary = why.summary;
    if (why.next.value > 0) {
      const std::string& group = entry.group_name(why.next);
      summary = fmt::format("task {}.{}{} is next: {}", task.job.value, why.next.value, group.empty() ? "" : " (" + group + ")", why.summary);
    }
    std::string waits_for;
    for (const std::uint32_t at : why.waits_for_groups)
      if (at < entry.places.size() && !entry.places[at].name.empty()) waits_for += (waits_for.empty() ? ": " : ", ") + entry.places[at].name;
    answer.set_summary(printable(summary + waits_for));
    for (const Reason& reason : why.reasons) write(reason, *answer.add_reasons());
    for (const std::string& change : why.changes) answer.add_changes(printable(change));
    answer.set_tasks_ahead(why.tasks_ahead), answer.set_owner_place(why.owner_place), answer.set_owners_waiting(why.owners_waiting);
    if (const auto worker = task.task.value > 0 ? scheduler_.runner(task) : std::nullopt) {
      answer.set_state(wire::RUNNING);
      auto& running = *answer.add_attempts();
      running.set_run(scheduler_.attempts(task)), running.set_worker(printable(pool_.nick(*worker))), running.set_host(printable(pool_.host(*worker))), running.set_ending("running");
    }
    if (answer.summary().empty()) answer.set_summary(answer.state() == wire::RUNNING ? "it runs" : entry.row.held ? "its job is held" : answer.job().note().empty() ? "it waits" : "it " + answer.job().note());
    reply(std::move(answer));
  });
}

/// How a job ended, and the first of its tasks that failed.
void Grid::why_job_ended(const JobEntry& ended, Reply<wire::WhyAnswer> reply) {
  journal_->read({ended.row.id, 1, 0, kFailedShown, 0, false, true}, [this, id = ended.row.id, reply](Result<std::vector<OutcomeRow>> read) {
    if (!read) return reply(Refusal{"resource-constraint", read.error().text()});
    const JobEntry* found = book_.find(id);
    if (!found) return reply(no_such(id.value));
    const JobEntry& entry = *found;
    const JobRow& row = entry.row;
    wire::WhyAnswer answer;
    *answer.mutable_job() = book_.status(entry, scheduler_);
    answer.set_state(static_cast<wire::State>(row.state));
    std::string summary = fmt::format("job {} {}: {} of {} succeeded", id.value, name_of(row.state), row.succeeded, tasks_shown(row.tasks));
    if (row.failed > 0) summary += fmt::format(", {} failed", row.failed);
    if (row.canceled_tasks > 0) summary += fmt::format(", {} canceled", row.canceled_tasks);
    if (!row.note.empty()) summary += "; " + row.note;
    answer.set_summary(printable(summary));
    for (const OutcomeRow& failed : read.value()) {
      wire::Outcome message;
      message.ParseFromString(failed.outcome);
      const auto outcome = souk::read(message);
      const std::string& group = entry.group_name(failed.task.task);
      answer.add_reasons()->set_why(printable(fmt::format("task {}.{}{}{}: {}", id.value, failed.task.task.value, group.empty() ? "" : " (" + group + ")",
                                                         failed.worker.empty() ? "" : " on " + failed.worker, outcome ? ending_of(outcome.value()) : "failed")));
    }
    reply(std::move(answer));
  });
}

void Grid::workers(const Asker&, Reply<wire::WorkersAnswer> reply) {
  wire::WorkersAnswer answer;
  for (const auto& [id, member] : pool_.members()) {
    const auto load = scheduler_.load(id);
    if (!load) continue;
    auto& w = *answer.add_workers();
    w.set_nick(printable(member.nick)), w.set_jid(printable(member.jid)), w.set_since_ms(member.since_ms);
    w.set_slots(static_cast<std::uint32_t>(load->slots)), w.set_running(static_cast<std::uint32_t>(load->held));
    w.set_succeeded(load->succeeded), w.set_failed(load->failed);
    const bool open = load->state == WorkerState::free || load->state == WorkerState::busy;
    w.set_state(static_cast<wire::WorkerState>(open ? (load->held > 0 ? WorkerState::busy : WorkerState::free) : load->state));
    auto& o = *w.mutable_offer();
    const Offer& offer = member.offer;
    o.set_cpus(static_cast<std::uint32_t>(offer.cpus)), o.set_memory_bytes(offer.memory_bytes), o.set_disk_bytes(offer.disk_bytes);
    o.set_os(offer.os), o.set_arch(offer.arch), o.set_hostname(offer.hostname), o.set_cpu_model(offer.cpu_model), o.set_version(offer.version);
    for (const auto& [name, version] : offer.software) (*o.mutable_software())[name] = version;
    for (const auto& gpu : offer.gpus) o.add_gpus(gpu);
    for (const auto& [name, value] : offer.tags) (*o.mutable_tags())[name] = value;
    for (const auto& [name, resource] : offer.resources) (*o.mutable_resources())[name] = written(resource);
    for (const auto& name : offer.services) o.add_services(name);
    for (const auto& name : offer.images) o.add_images(name);
    o.set_speed(offer.speed);
    o.set_sandbox(std::string(name_of(offer.sandbox))), o.set_sandbox_note(printable(offer.sandbox_note)), o.set_network(offer.network);
    for (const Who& who : offer.accept) o.add_accept(printable(who.text()));
    w.set_rule(member.rule), w.set_until_ms(member.until_ms);
    w.set_set_aside(printable(load->set_aside));
    const TrustRecord of_owner = jury_.record(scheduler_.voter(id, VotesOf::owners)), alone = jury_.record(scheduler_.voter(id, VotesOf::workers));
    w.set_trust_agreed(std::max(of_owner.agreed, alone.agreed)), w.set_trust_found(of_owner.found + alone.found);
  }
  reply(std::move(answer));
}

wire::GridStatus Grid::grid_status() const {
  wire::GridStatus status;
  status.set_version(SOUK_VERSION), status.set_epoch(epoch_.value), status.set_up_ms(now_ms() - started_ms_);
  std::uint32_t slots = 0, busy = 0;
  for (const auto& [id, member] : pool_.members())
    if (const auto load = scheduler_.load(id)) {
      slots += static_cast<std::uint32_t>(load->slots);
      busy += static_cast<std::uint32_t>(std::min(load->slots_taken, load->slots));
    }
  status.set_workers(static_cast<std::uint32_t>(pool_.members().size())), status.set_slots(slots), status.set_slots_busy(busy);
  std::string lacks = lacks_.text(now_ms());
  if (const std::string doubted = fenced_.empty() ? hearsay_.doubted() : std::string(); !doubted.empty())
    lacks += (lacks.empty() ? "" : "; ") + fmt::format("workers of {} say that the store is out of date, and no others do: was it put back from a copy (--restored), or do they lie (`souk workers ban`)?", printable(doubted));
  status.set_lacks(lacks);
  const auto totals = scheduler_.totals();
  status.set_trouble(trouble());
  status.set_tasks_waiting(totals.waiting), status.set_tasks_running(totals.running);
  return status;
}

}  // namespace souk
