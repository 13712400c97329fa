// A job as submitted, and as read back from the store: checked, entered into the book, scheduled, run to its end, restored after a restart.
// Input: the bytes of a wire::Job.
#include "manager/book.h"
#include "manager/scheduler.h"
#include "protocol/form.h"
#include "protocol/grid.pb.h"
#include "protocol/payload.h"
#include "tests/fuzz/fuzz.h"

namespace souk {
namespace {

using namespace std::chrono_literals;
using fuzz::must;

constexpr std::uint64_t kNow = 1'800'000'000'000;
constexpr std::uint64_t kTasksRun = 200;  // jobs of more are looked at, but not run to their end

Offer large_worker() {
  Offer offer;
  offer.slots = offer.cpus = 64;
  offer.memory_bytes = offer.disk_bytes = 1ull << 40;
  offer.os = "linux", offer.arch = "x86_64", offer.hostname = "host", offer.version = "0.1.0", offer.speed = 1;
  offer.gpus.assign(4, "Model T");
  offer.software["python"] = "3.11.2";
  offer.tags["zone"] = "north";
  offer.resources["license"] = {4, {}};
  return offer;
}

/// Runs it on one worker, each attempt as `succeeds` says, for at most a year; returns the state it ended with.
void run(const JobSubmitted& job, std::uint64_t tasks) {
  Scheduler scheduler(Epoch{1}, {});
  std::vector<Action> actions;
  std::vector<Assign> given;
  std::uint64_t committed = 0;
  bool over = false;
  Instant now{};
  const auto tell = [&](const Event& event) {
    actions.clear();
    scheduler.step(now, event, actions);
    for (const Action& action : actions) {
      if (const auto* assign = std::get_if<Assign>(&action)) given.push_back(*assign);
      if (std::holds_alternative<Commit>(action) || std::holds_alternative<GiveUp>(action)) ++committed;
      if (std::holds_alternative<JobEnded>(action)) must(!std::exchange(over, true), "a job ends once");
    }
    if (const auto broken = scheduler.broken_invariant()) must(false, "an invariant of the scheduler", *broken);
  };
  tell(JobSubmitted(job));
  tell(WorkerJoined{WorkerId{1}, std::make_shared<const Offer>(large_worker()), "w1", "owner@grid", 64, WorkerState::free, {}});
  tell(MarketOpened{});
  if (job.terms.hold) tell(JobReleased{job.job});
  for (int round = 0; round < 2000 && !over; ++round) {
    if (given.empty()) {
      now += 60s;
      tell(LeaseRenewed{WorkerId{1}, WorkerState::free, {}, 0, {}});
      tell(Tick{});
      if (given.empty() && round > 50) break;  // nothing of it fits here, or a retry waits for weeks
      continue;
    }
    const Assign one = given.back();
    given.pop_back();
    now += 10ms;
    const bool succeeds = one.task.task.value % 7 != 0;
    tell(AttemptFinished{WorkerId{1}, {one.attempt, one.task}, Cause::exited, succeeds, 10ms, succeeds ? 0 : 1});
  }
  must(committed <= tasks, "a task has one outcome");
  if (const auto* counts = scheduler.counts(job.job))
    must(counts->waiting + counts->running + counts->succeeded + counts->failed + counts->canceled == tasks, "no task is lost");
}

}  // namespace
}  // namespace souk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  using fuzz::must;
  if (size > fuzz::kInputMax) return 0;
  wire::Job job;
  if (!parse(fuzz::text_of(bytes, size), job)) return 0;
  const auto tasks = check(job, kNow);
  must(fuzz::is_safe_for_a_terminal(shown(job)) && is_printable(shown(job)), "what a job runs is shown safely", shown(job));
  if (!tasks) return must(!tasks.error().why.empty(), "a refusal says why"), 0;
  must(tasks.value() >= 1 && tasks.value() <= kTasksMax, "a job has a bounded number of tasks");

  // As the manager takes it, writes it, and reads it back.
  JobRow row;
  row.id = JobId{7}, row.owner = "ada@grid", row.tasks = tasks.value(), row.layout = layout_of(job);
  const std::string spec = job.SerializeAsString();
  JobBook book;
  const JobEntry& entry = book.add(row, job);
  wire::Job stored;
  must(stored.ParseFromString(spec), "a store gives back what it was given");
  JobRow ended = row;
  ended.id = JobId{8}, ended.ended_ms = kNow, ended.tasks = tasks.value();
  const JobEntry& old = book.add(ended, {});
  must(entry.job.groups_size() > 0 && entry.places.size() == static_cast<std::size_t>(entry.job.groups_size()), "every group has its place");
  for (const std::uint64_t number : {std::uint64_t{1}, tasks.value() / 2 + 1, tasks.value()}) {
    if (number > tasks.value()) continue;
    const TaskNumber task{number};
    must(entry.group_of(task) < entry.places.size(), "every task is of a group");
    must(item_of(entry, task).size() <= kItemMax, "items are bounded");
    if (!job.groups().empty()) must(old.group_name(task) == entry.group_name(task), "an ended job keeps the names of its groups", row.layout);
  }
  JobSubmitted event = event_of(row.id, row.owner, job, Clocks{Instant(std::chrono::hours(1)), kNow});
  event.terms.after.clear();  // of other jobs, which are not here
  std::uint64_t sum = 0;
  for (const Group& group : event.groups) sum += group.tasks;
  must(sum == tasks.value(), "groups have all tasks");
  if (tasks.value() <= kTasksRun) run(event, tasks.value());
  return 0;
}
