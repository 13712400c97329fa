// souk_trust: what quorums, records and known answers cost, and what they let pass, with workers that lie. The real scheduler and jury; only workers and time
// are made up.   souk_trust --svg docs/trust.svg > table.md
#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>
#include <memory>
#include <queue>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "manager/jury.h"
#include "manager/scheduler.h"

namespace souk::bench {
namespace {

struct Strategy {
  std::string name;
  std::optional<Quorum> quorum;
  double known = 0;  // share of tasks whose answers are planted
};
/// How a dishonest worker behaves.
struct Kind {
  std::string name, text;
  double share = 1;        // of its results that are lies
  bool together = false;   // all of them tell the same lie, about the same tasks
  bool sleeper = false;    // right until it is trusted
};
struct Sizes {
  unsigned workers = 100;
  std::uint64_t tasks = 10'000;
  std::uint64_t seed = 1;
};
struct Run {
  std::string strategy, kind;
  double liars = 0;
  double wrong = 0;        // share of accepted results
  double failed = 0;       // share of tasks that ended without a result
  double extra = 0;        // runs a task beyond the first
  double found = 0;        // share of the liars that were found
  double blamed = 0;       // share of the honest that were
};

std::uint64_t mixed(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9u;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBu;
  return x ^ (x >> 31);
}

class Simulation {
 public:
  Simulation(const Strategy& strategy, const Kind& kind, double liars, const Sizes& sizes)
      : strategy_(strategy), kind_(kind), sizes_(sizes), random_(sizes.seed), jury_({.seed = {sizes.seed, 42}}), scheduler_({1}, {}) {
    liars_ = static_cast<unsigned>(liars * sizes.workers + 0.5);
    liar_.assign(sizes.workers, false);
    std::fill_n(liar_.begin(), liars_, true);
    std::shuffle(liar_.begin(), liar_.end(), random_);
    made_.strategy = strategy.name, made_.kind = kind.name, made_.liars = liars;
  }
  Run run() {
    Offer offer;
    offer.slots = offer.cpus = 1;
    const auto shared = std::make_shared<const Offer>(offer);
    for (std::uint64_t id = 1; id <= sizes_.workers; ++id) tell(WorkerJoined{{id}, shared, "w" + std::to_string(id), owner(id), 1, WorkerState::free, {}}, nullptr);
    Group group;
    group.tasks = sizes_.tasks;
    JobSubmitted job{{1}, "ada", {group}};
    if (strategy_.quorum) {
      Quorum quorum = *strategy_.quorum;
      for (std::uint64_t task = 1; task <= sizes_.tasks; ++task)
        if (strategy_.known > 0 && std::bernoulli_distribution(strategy_.known)(random_)) quorum.known[{task}] = sha256(truth(task));
      job.terms.votes_of = quorum.of;
      jury_.open({1}, quorum);
    }
    tell(job, nullptr);
    Instant tick{};
    while (!ended_ && now_ < Instant(std::chrono::hours(24 * 30))) {
      if (!due_.empty() && due_.top().at <= tick) {
        const Due due = due_.top();
        due_.pop();
        now_ = due.at;
        finish(due);
      } else {
        now_ = tick;
        tell(Tick{}, nullptr);
        tick += std::chrono::seconds(1);
      }
      if (!due_.empty() || ended_) continue;
      if (++idle_ > 7200) break;  // nobody is left who may do it
    }
    const auto* counts = scheduler_.counts({1});
    made_.wrong = committed_ == 0 ? 0 : static_cast<double>(wrong_) / static_cast<double>(committed_);
    made_.failed = static_cast<double>(sizes_.tasks - counts->succeeded) / static_cast<double>(sizes_.tasks);
    made_.extra = static_cast<double>(runs_) / static_cast<double>(sizes_.tasks) - 1;
    unsigned found = 0, blamed = 0;
    for (std::uint64_t id = 1; id <= sizes_.workers; ++id)
      if (jury_.record(owner(id)).found > 0) ++(is_liar(id) ? found : blamed);
    made_.found = liars_ == 0 ? 0 : static_cast<double>(found) / liars_;
    made_.blamed = liars_ == sizes_.workers ? 0 : static_cast<double>(blamed) / (sizes_.workers - liars_);
    return made_;
  }

 private:
  struct Due {
    Instant at;
    std::uint64_t order;
    WorkerId worker;
    Held what;
    friend bool operator<(const Due& a, const Due& b) { return a.at > b.at || (a.at == b.at && a.order > b.order); }
  };
  static std::string owner(std::uint64_t id) { return "owner" + std::to_string(id); }
  static std::string truth(std::uint64_t task) { return "t" + std::to_string(task); }
  bool is_liar(std::uint64_t id) const { return liar_.at(id - 1); }

  void finish(const Due& due) {
    const std::uint64_t task = due.what.task.task.value;
    bool lie = is_liar(due.worker.value);
    if (lie && kind_.sleeper && !jury_.trusted(owner(due.worker.value))) lie = false;
    // Together, they lie about the same tasks.
    if (lie && kind_.share < 1) lie = kind_.together ? static_cast<double>(mixed(task * 31 + sizes_.seed) % 1000) < kind_.share * 1000 : std::bernoulli_distribution(kind_.share)(random_);
    Outcome said;
    said.out = !lie ? truth(task) : kind_.together ? "l" + std::to_string(task) : "l" + std::to_string(task) + " " + std::to_string(due.worker.value);
    said.out_size = said.out.size();
    said.wall = std::chrono::seconds(5);
    ++runs_;
    idle_ = 0;
    if (!strategy_.quorum || !scheduler_.runs(due.worker, due.what)) return tell(AttemptFinished{due.worker, due.what, Cause::exited, true, said.wall}, &said);
    Jury::Actions actions;
    jury_.vote(now_, {scheduler_.voter(due.worker, VotesOf::owners), due.worker, due.what}, said, actions);
    perform(actions, &said);
  }
  void perform(Jury::Actions& said, const Outcome* in_hand) {
    for (Jury::Action& action : said) {
      if (const auto* told = std::get_if<Jury::Tell>(&action)) tell(told->event, told->outcome ? &*told->outcome : in_hand);
      else if (const auto* caught = std::get_if<Jury::Caught>(&action)) tell(WorkerDistrusted{caught->worker, caught->aside}, nullptr);
    }
  }
  void tell(const Event& event, const Outcome* in_hand) {
    std::vector<Action> actions;
    scheduler_.step(now_, event, actions);
    for (const Action& action : actions) {
      if (const auto* a = std::get_if<Assign>(&action)) {
        const double seconds = std::lognormal_distribution<>(1.6, 0.5)(random_);
        due_.push({now_ + Duration(static_cast<std::int64_t>(seconds * 1e6)), ++order_, a->worker, {a->attempt, a->task}});
      } else if (const auto* c = std::get_if<Commit>(&action)) {
        ++committed_;
        if (in_hand->out != truth(c->what.task.task.value)) ++wrong_;
      } else if (const auto* g = std::get_if<GiveUp>(&action)) {
        jury_.given_up(g->task);
      } else if (const auto* p = std::get_if<OnlyParked>(&action)) {
        Jury::Actions said;
        jury_.idle(p->job, said);
        perform(said, nullptr);
      } else if (std::get_if<JobEnded>(&action)) {
        ended_ = true;
        jury_.close({1});
      }
    }
  }

  const Strategy& strategy_;
  const Kind& kind_;
  const Sizes sizes_;
  std::mt19937_64 random_;
  Jury jury_;
  Scheduler scheduler_;
  unsigned liars_ = 0;
  std::vector<bool> liar_;
  std::priority_queue<Due> due_;
  Instant now_{};
  std::uint64_t order_ = 0, runs_ = 0, committed_ = 0, wrong_ = 0;
  unsigned idle_ = 0;
  bool ended_ = false;
  Run made_;
};

const char* const kColors[] = {"#888888", "#b23a48", "#1f6fb2", "#7a4fb0", "#2a9d5c", "#d08a2e"};

std::string number(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}
/// 0, 0.02, 1.3, 27
std::string percent(double share) {
  if (share == 0) return "0";
  return number(share < 0.001 ? "%.3f" : share < 0.01 ? "%.2f" : share < 0.1 ? "%.1f" : "%.0f", share * 100);
}

std::string plot(const std::vector<Run>& runs, const std::vector<Strategy>& strategies, const std::vector<Kind>& kinds, const std::vector<double>& shares) {
  constexpr double width = 300, height = 170, left = 60, top = 70, gap_x = 70, gap_y = 80;
  const double all = left + static_cast<double>(kinds.size()) * (width + gap_x), tall = top + 2 * (height + gap_y) + 10;
  std::string svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + number("%.0f", all) + " " + number("%.0f", tall) +
                    "\" font-family=\"sans-serif\" font-size=\"12\">\n<style>.g{stroke:#ddd}.t{font-weight:bold}.m{text-anchor:middle}.r{text-anchor:end}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  for (std::size_t s = 0; s < strategies.size(); ++s)
    svg += "<rect x=\"" + number("%.0f", left + 170.0 * static_cast<double>(s)) + "\" y=\"14\" width=\"14\" height=\"4\" fill=\"" + kColors[s % 6] + "\"/><text x=\"" + number("%.0f", left + 20 + 170.0 * static_cast<double>(s)) + "\" y=\"20\">" +
           strategies[s].name + "</text>\n";
  for (std::size_t k = 0; k < kinds.size(); ++k)
    for (int row = 0; row < 2; ++row) {
      const double x0 = left + static_cast<double>(k) * (width + gap_x), y0 = top + row * (height + gap_y);
      double most = 0.001;
      for (const Run& run : runs)
        if (run.kind == kinds[k].name) most = std::max(most, row == 0 ? (run.strategy == strategies[0].name ? 0 : run.wrong * 100) : run.extra);
      svg += "<text x=\"" + number("%.1f", x0) + "\" y=\"" + number("%.1f", y0 - 12) + "\" class=\"t\">" + kinds[k].name + (row == 0 ? ": wrong results accepted, %" : ": extra runs a task") + "</text>\n";
      for (int i = 0; i <= 4; ++i) {
        const double y = y0 + height * (4 - i) / 4;
        svg += "<line x1=\"" + number("%.1f", x0) + "\" x2=\"" + number("%.1f", x0 + width) + "\" y1=\"" + number("%.1f", y) + "\" y2=\"" + number("%.1f", y) + "\" class=\"g\"/><text class=\"r\" x=\"" + number("%.1f", x0 - 5) + "\" y=\"" +
               number("%.1f", y + 4) + "\">" + number(most < 1 ? "%.2f" : "%.1f", most * i / 4) + "</text>\n";
      }
      for (const double share : shares)
        svg += "<text class=\"m\" x=\"" + number("%.1f", x0 + width * share / shares.back()) + "\" y=\"" + number("%.1f", y0 + height + 16) + "\">" + number("%.0f", share * 100) + "</text>\n";
      svg += "<text class=\"m\" x=\"" + number("%.1f", x0 + width / 2) + "\" y=\"" + number("%.1f", y0 + height + 32) + "\">% of the workers lie</text>\n";
      for (std::size_t s = 0; s < strategies.size(); ++s) {
        if (s == 0 && row == 0) continue;  // without checks it is what they lie: off the scale of the others
        std::string points;
        for (const Run& run : runs)
          if (run.kind == kinds[k].name && run.strategy == strategies[s].name)
            points += number("%.1f", x0 + width * run.liars / shares.back()) + "," + number("%.1f", y0 + height * (1 - std::min(1.0, (row == 0 ? run.wrong * 100 : run.extra) / most))) + " ";
        svg += "<polyline fill=\"none\" stroke-width=\"2\" stroke=\"" + std::string(kColors[s % 6]) + "\" points=\"" + points + "\"/>\n";
      }
    }
  return svg + "</svg>\n";
}

}  // namespace
}  // namespace souk::bench

int main(int argc, char** argv) {
  using namespace souk;
  using namespace souk::bench;
  CLI::App app{"What quorums, records and known answers cost, and what they let pass, with workers that lie: the real scheduler and jury on made-up workers"};
  Sizes sizes;
  std::string svg_file;
  bool json = false;
  app.add_option("--workers", sizes.workers, "each of an owner of its own")->check(CLI::Range(4, 10'000))->capture_default_str();
  app.add_option("--tasks", sizes.tasks, "of one job")->check(CLI::Range(10, 1'000'000))->capture_default_str();
  app.add_option("--seed", sizes.seed, "of who lies, when, and how long tasks take")->capture_default_str();
  app.add_option("--svg", svg_file, "writes a plot");
  app.add_flag("--json", json, "one object a run and line; else tables in Markdown");
  CLI11_PARSE(app, argc, argv);
  const std::vector<Strategy> strategies{{"none", {}},
                                         {"2/2", Quorum{.agree = 2, .most = 2}},
                                         {"2/3", Quorum{.agree = 2, .most = 3}},
                                         {"3/5", Quorum{.agree = 3, .most = 5}},
                                         {"adaptive 2/3", Quorum{.agree = 2, .most = 3, .adaptive = true}},
                                         {"adaptive 2/3, 2 % known", Quorum{.agree = 2, .most = 3, .adaptive = true}, 0.02}};
  const std::vector<Kind> kinds{{"each lies always", "Each tells lies of its own, always", 1, false, false},
                                {"each lies at times", "Each tells lies of its own, in a tenth of its results", 0.1, false, false},
                                {"sleepers", "Each is right until it is trusted, and lies always from then on", 1, false, true},
                                {"a band", "They agree on the same lie for every task", 1, true, false},
                                {"a careful band", "They agree on the same lies for a tenth of the tasks", 0.1, true, false}};
  const std::vector<double> shares{0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5};
  std::vector<Run> runs;
  for (const Kind& kind : kinds)
    for (const Strategy& strategy : strategies)
      for (const double share : shares) {
        runs.push_back(Simulation(strategy, kind, share, sizes).run());
        const Run& r = runs.back();
        if (json)
          std::printf("{\"kind\":\"%s\",\"strategy\":\"%s\",\"liars\":%g,\"wrong\":%g,\"failed\":%g,\"extra_runs\":%g,\"found\":%g,\"blamed\":%g,\"workers\":%u,\"tasks\":%llu,\"seed\":%llu}\n", r.kind.c_str(),
                      r.strategy.c_str(), r.liars, r.wrong, r.failed, r.extra, r.found, r.blamed, sizes.workers, static_cast<unsigned long long>(sizes.tasks), static_cast<unsigned long long>(sizes.seed));
      }
  if (!json)
    for (const Kind& kind : kinds) {
      std::printf("### %s\n%s. Wrong results accepted, in %% of the accepted ╎ extra runs a task (%% of tasks that failed for want of agreement; %% of the liars found)\n\n| liars", kind.name.c_str(), kind.text.c_str());
      for (const Strategy& strategy : strategies) std::printf(" | %s", strategy.name.c_str());
      std::printf(" |\n|---:");
      for (std::size_t i = 0; i < strategies.size(); ++i) std::printf("|---:");
      std::printf("|\n");
      for (const double share : shares) {
        std::printf("| %s %%", percent(share).c_str());
        for (const Strategy& strategy : strategies)
          for (const Run& r : runs)
            if (r.kind == kind.name && r.strategy == strategy.name && r.liars == share) {
              std::printf(" | %s ╎ %.2f", percent(r.wrong).c_str(), r.extra);
              if (share > 0 && strategy.quorum) std::printf(" (%s; %s)", percent(r.failed).c_str(), percent(r.found).c_str());
            }
        std::printf(" |\n");
      }
      std::printf("\n");
    }
  if (!svg_file.empty()) {
    std::ofstream svg(svg_file);
    svg << plot(runs, strategies, kinds, shares);
    if (!svg.flush()) {
      std::cerr << "souk_trust: cannot write '" << svg_file << "'\n";
      return 1;
    }
  }
  return std::cout.flush() ? 0 : 1;
}
