#include "tests/simulation/plan.h"

namespace souk::simulation {

using namespace std::chrono_literals;

namespace {

constexpr std::uint64_t kGiB = 1ull << 30;
const char* const kOwners[] = {"ada@grid", "bob@grid", "eve@grid"};
const char* const kZones[] = {"north", "south"};

Weather draw_weather(Dice& dice) {
  Weather w;
  // A third of the runs has one kind of fault alone: what it breaks is easier to understand.
  const bool alone = dice.chance(0.33);
  const std::uint64_t which = dice.pick(7);
  const auto has = [&](std::uint64_t kind, double p) { return alone ? kind == which : dice.chance(p); };
  if (has(0, 0.5)) w.loss = 0.002 + 0.1 * dice.share() * dice.share(), w.repeat = 0.1 * dice.share();
  if (has(1, 0.5)) w.reorder = 0.3 * dice.share(), w.delay_max = dice.skewed(10ms, 8);
  if (has(2, 0.5)) w.crash_every = dice.skewed(20s, 5);
  if (has(3, 0.4)) w.freeze_every = dice.skewed(30s, 5);
  if (has(4, 0.4)) w.restart_every = dice.skewed(20s, 5);
  if (has(5, 0.3)) w.close_every = dice.skewed(20s, 5), w.cut_every = dice.skewed(60s, 4);
  if (has(6, 0.3)) w.liars = 0.2, w.owner_every = dice.skewed(20s, 4);
  return w;
}

HostPlan draw_host(Dice& dice, const Weather& weather, bool first) {
  HostPlan host;
  const int slots = first ? 8 : static_cast<int>(dice.between(1, 6));
  Offer& o = host.offer;
  o.slots = o.cpus = slots;
  o.memory_bytes = first ? 16 * kGiB : dice.between(1, 16) * kGiB;
  o.disk_bytes = 100 * kGiB;
  o.os = "linux", o.arch = "x86_64", o.version = "0.1.0";
  if (first || dice.chance(0.4)) o.gpus.assign(first ? 2 : dice.between(1, 4), "Model T");
  if (first || dice.chance(0.3)) o.resources["license"] = dice.chance(0.5) ? OfferedResource{2, {}} : OfferedResource{3, {"a", "b", "c"}};
  o.tags["zone"] = first ? kZones[0] : kZones[dice.pick(2)];
  host.speed_percent = first ? 100 : static_cast<int>(10 * (std::uint64_t{1} << dice.pick(7)));  // 10 to 640; with the skew of tasks, far more than 100 times
  if (dice.chance(0.1)) host.speed_percent = 1000;
  o.speed = host.speed_percent / 100.0;
  host.liar = !first && dice.chance(weather.liars);
  host.enters = first ? Duration(0) : dice.between(0s, 20s);
  return host;
}

Group draw_group(Dice& dice, std::uint64_t tasks_max) {
  Group group;
  group.tasks = dice.chance(0.2) ? 1 : dice.between(1, tasks_max);
  if (dice.chance(0.4)) {
    group.needs.cpus = static_cast<int>(dice.between(1, 8));
    if (dice.chance(0.5)) group.needs.memory_bytes = dice.between(1, 32) * kGiB / 2;
    if (dice.chance(0.2)) group.needs.gpus = static_cast<int>(dice.between(1, 2));
    if (dice.chance(0.2)) group.needs.resources["license"] = 1;
  }
  if (dice.chance(0.15)) group.require = "tag.zone == \"north\"";
  if (dice.chance(0.15)) group.rank = dice.chance(0.5) ? "speed" : "-load";
  if (dice.chance(0.5)) {
    group.retry.times = static_cast<unsigned>(dice.between(1, 4));
    if (dice.chance(0.5)) group.retry.delay = dice.skewed(100ms, 6), group.retry.delay_max = 20s;
    if (dice.chance(0.2)) group.retry.codes = {{1, 1}};
  }
  if (dice.chance(0.2)) group.time_limit = dice.skewed(2s, 5);
  return group;
}

JobPlan draw_job(Dice& dice, std::size_t number) {
  JobPlan job;
  job.owner = kOwners[dice.pick(3)];
  job.submitted = dice.between(0s, 60s);
  job.task_low = dice.skewed(2ms, 13);
  job.task_doublings = static_cast<unsigned>(dice.between(1, 4));
  job.large_command = dice.chance(0.2);
  const std::size_t groups = dice.chance(0.5) ? 1 : dice.between(2, 5);
  for (std::size_t g = 0; g < groups; ++g) {
    Group group = draw_group(dice, groups == 1 ? 150 : 40);
    for (std::uint32_t earlier = 0; earlier < g; ++earlier)
      if (dice.chance(0.4)) group.after.push_back({earlier, dice.chance(0.3)});
    job.groups.push_back(std::move(group));
  }
  if (dice.chance(0.2)) {  // the file of a graph may name its groups in any order
    const auto last = static_cast<std::uint32_t>(job.groups.size() - 1);
    for (Group& group : job.groups)
      for (Group::After& after : group.after) after.group = last - after.group;
    std::vector<Group> turned(job.groups.rbegin(), job.groups.rend());
    job.groups = std::move(turned);
  }
  for (std::size_t earlier = 0; earlier < number; ++earlier)
    if (dice.chance(0.15)) job.after.emplace_back(earlier, dice.chance(0.5));
  if (dice.chance(0.4)) job.fail = 0.4 * dice.share();
  if (dice.chance(0.1)) job.kill = 0.1 * dice.share();
  job.terms.priority = static_cast<int>(dice.pick(5)) - 2;
  if (dice.chance(0.2)) job.terms.max_fails = dice.pick(6);
  if (dice.chance(0.15)) job.deadline = dice.skewed(10s, 6);
  if (dice.chance(0.15)) job.terms.hold = true, job.released = job.submitted + dice.skewed(1s, 7);
  if (dice.chance(0.2)) job.terms.speculate = true;
  if (dice.chance(0.3)) job.terms.crash_limit = static_cast<unsigned>(dice.between(1, 4));
  if (dice.chance(0.1)) job.canceled = job.submitted + dice.skewed(100ms, 10);
  if (!job.terms.hold && dice.chance(0.1)) job.held = job.submitted + dice.skewed(100ms, 9), job.released = job.held + dice.skewed(1s, 6);
  return job;
}

/// From dice of their own, so that they change nothing of what was drawn before them.
void draw_more(Dice dice, Plan& plan) {
  if (dice.chance(0.25)) return;
  Weather& w = plan.weather;
  if (plan.calm()) {
    if (dice.chance(0.5)) return;
    plan.clears = dice.skewed(60s, 3);
  }
  const bool alone = dice.chance(0.4);
  if (alone) w = Weather{};  // of these there is one alone, with nothing else
  const std::uint64_t which = dice.pick(5);
  const auto has = [&](std::uint64_t kind, double p) { return alone ? kind == which : dice.chance(p); };
  if (has(0, 0.3)) w.server_every = dice.skewed(20s, 4);
  if (has(1, 0.4)) w.deaf_every = dice.skewed(30s, 5);
  if (has(2, 0.4)) w.stall_every = dice.skewed(20s, 4);
  if (has(3, 0.3)) w.disk_every = dice.skewed(20s, 4);
  if (has(4, 0.4)) w.term_every = dice.skewed(20s, 5);
  w.spool_kept = dice.chance(0.7) ? 1 : dice.share();
  if (!alone && dice.chance(0.3) && w.crash_every == 0s) w.crash_every = dice.skewed(20s, 5);
  for (JobPlan& job : plan.jobs) job.rerun = dice.chance(0.3);
}

void draw_yet_more(Dice dice, Plan& plan) {
  if (dice.chance(0.4)) plan.keep = dice.skewed(1s, 7);
  for (JobPlan& job : plan.jobs)
    if (job.large_command) job.command_parts = static_cast<unsigned>(dice.between(1, 5));
  if (!plan.calm() && dice.chance(0.4)) plan.weather.until_every = dice.skewed(20s, 4);
}

}  // namespace

Plan Plan::draw(std::uint64_t seed, int kinds) {
  Dice dice(seed * 0x2545F4914F6CDD1Du + 1);
  Plan plan;
  plan.lease = dice.chance(0.5) ? Duration(30s) : dice.between(5s, 60s);
  if (dice.chance(0.85)) {
    plan.weather = draw_weather(dice);
    plan.clears = dice.skewed(60s, 3);
  }
  const std::size_t hosts = dice.between(1, 10), jobs = dice.between(1, 6);
  for (std::size_t i = 0; i < hosts; ++i) plan.hosts.push_back(draw_host(dice, plan.weather, i == 0));  // the first can run anything
  for (std::size_t i = 0; i < jobs; ++i) plan.jobs.push_back(draw_job(dice, i));
  if (dice.chance(0.3)) plan.owners.push_back({"", 1, dice.between(1, 20)});
  if (dice.chance(0.4)) plan.owners.push_back({kOwners[0], static_cast<double>(dice.between(1, 4)), dice.chance(0.3) ? dice.between(1, 6) : 0});
  if (kinds >= 3)
    if (Dice more(seed * 0xD1342543DE82EF95u + 3); !plan.calm() && more.chance(0.25)) plan.weather.takeover_every = more.skewed(20s, 4);
  if (kinds >= 2) draw_more(Dice(seed * 0x9E6C63D0876A9A47u + 2), plan);
  if (kinds >= 4) draw_yet_more(Dice(seed * 0xA24BAED4963EE407u + 4), plan);
  return plan;
}

Fate Plan::fate(std::uint64_t seed, std::size_t job, std::uint64_t task) const {
  Dice dice(seed ^ (job * 1'000'003 + task) * 0x9E3779B97F4A7C15u);
  dice.next();
  const JobPlan& of = jobs[job];
  Fate fate;
  fate.work = dice.skewed(of.task_low, of.task_doublings);
  if (dice.chance(of.fail)) fate.fails = dice.chance(0.3) ? 1'000'000 : static_cast<unsigned>(dice.between(1, 3)), fate.exit_code = static_cast<int>(dice.between(1, 2));
  fate.kills_worker = dice.chance(of.kill);
  return fate;
}

std::string Plan::in_words() const {
  std::string text = std::to_string(hosts.size()) + " workers, " + std::to_string(jobs.size()) + " jobs, lease " + std::to_string(lease / 1s) + " s; ";
  if (calm()) return text + "calm";
  const auto add = [&](const char* what, bool has) { text += has ? std::string(what) + ' ' : ""; };
  const Weather& w = weather;
  add("loss", w.loss > 0), add("reorder", w.reorder > 0), add("crashes", w.crash_every > 0s), add("freezes", w.freeze_every > 0s), add("restarts", w.restart_every > 0s);
  add("closings", w.close_every > 0s), add("cuts", w.cut_every > 0s), add("liars", w.liars > 0), add("owners", w.owner_every > 0s);
  add("server-restarts", w.server_every > 0s), add("one-way-cuts", w.deaf_every > 0s), add("stalls", w.stall_every > 0s), add("disk", w.disk_every > 0s), add("takeovers", w.takeover_every > 0s), add("terms", w.term_every > 0s), add("untils", w.until_every > 0s), add("forgetting", keep > 0s);
  return text + "until " + std::to_string(clears / 1s) + " s";
}

bool could_run(const Offer& offer, const Group& group) {
  const Needs& n = group.needs;
  if (n.cpus > offer.slots || n.memory_bytes > offer.memory_bytes || n.disk_bytes > offer.disk_bytes || n.gpus > static_cast<int>(offer.gpus.size())) return false;
  for (const auto& [name, amount] : n.resources) {
    const auto has = offer.resources.find(name);
    if (has == offer.resources.end() || has->second.amount < amount) return false;
  }
  return group.require.empty() || offer.tags.at("zone") == "north";
}

}  // namespace souk::simulation
