// ant-colony: the travelling salesman by an Ant Colony System, one generation of ants after the other, each walked as tasks of a grid.
#include <CLI/CLI.hpp>
#include <spdlog/fmt/fmt.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <optional>

#include "examples/ant-colony/grid.h"
#include "examples/ant-colony/message.h"
#include "examples/ant-colony/plot.h"

namespace {

using namespace souk;
using namespace souk::ants;
using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::duration<double, std::milli>;

struct Options {
  std::string instance, souk = "souk", program, svg, tour;
  bool serial = false, quiet = false;
  int generations = 20, tasks = 0, slots = 0, threads = 1, evaluate = 0, of = 0;
  Parameters parameters{.ants = 20000, .party = 100, .q0 = 0.8, .local_search = false};
};

/// What one generation cost.
struct Cost {
  Milliseconds wall{0}, cpu{0}, in_tasks{0}, ideal{0};
  int tasks = 0;
};

int fail(const Error& error, int code) {
  std::cerr << "ant-colony: " << error.text() << '\n';
  return code;
}

std::chrono::microseconds cpu_used() {
  timespec used{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::seconds(used.tv_sec) + std::chrono::nanoseconds(used.tv_nsec));
}

/// The task: a share of one generation's ants. The machine it runs on knows nothing but this program and what comes on stdin.
int evaluate(int task, int tasks) {
  const auto start = Clock::now();
  std::string text;
  char block[65536];
  for (ssize_t got = 0; text.size() <= kRequestBytesMax && (got = read(0, block, sizeof block)) > 0;) text.append(block, static_cast<std::size_t>(got));
  const auto request = parse_request(text);
  if (!request) return fail(request.error(), 2);
  const auto& [instance, parameters, snapshot] = request.value();
  const int count = parties(parameters);
  if (tasks < 1 || tasks > count || task < 1 || task > tasks)
    return fail({"no such share", fmt::format("task {} of {} for {} parties", task, tasks, count), "tasks are numbered from 1, and at most as many as parties"}, 2);
  const auto share = share_of(task, tasks, count);
  Reply reply;
  reply.first_ant = (share.first - 1) * parameters.party + 1;
  reply.last_ant = std::min(share.last * parameters.party, parameters.ants);
  reply.best = walk(Terrain(instance, parameters.candidates, parameters.beta), parameters, snapshot, share.first, share.last);
  reply.wall = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start);
  reply.cpu = cpu_used();
  std::cout << text_of(reply) << std::flush;
  return std::cout ? 0 : 1;
}

/// One live line on a terminal, a line a generation elsewhere.
class Progress {
 public:
  Progress(int generations, bool quiet) : generations_(generations), quiet_(quiet), live_(!quiet && isatty(2) != 0) {}
  ~Progress() { clear(); }
  void show(int generation, std::int64_t best, Milliseconds wall) const {
    if (quiet_) return;
    if (!live_) {
      std::fputs(fmt::format("generation {}/{}: best {}, {:.0f} ms\n", generation, generations_, best, wall.count()).c_str(), stderr);
      return;
    }
    winsize size{};
    const int columns = ioctl(2, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
    const std::string head = fmt::format("generation {}/{} ", generation, generations_), tail = fmt::format(" best {} ", best);
    const int room = std::clamp(columns - static_cast<int>(head.size() + tail.size()) - 3, 0, 40);
    const int done = room * generation / generations_;
    std::fputs(fmt::format("\r\033[K{}[{:#<{}}{:.<{}}]{}", head, "", done, "", room - done, tail).c_str(), stderr);
  }
  void clear() const {
    if (live_) std::fputs("\r\033[K", stderr);
  }

 private:
  int generations_;
  bool quiet_, live_;
};

void print_costs(const std::vector<Cost>& costs, const std::vector<std::int64_t>& lengths, int slots) {
  const auto row = [](const auto& name, std::int64_t best, const Cost& c) {
    std::cout << fmt::format("{:>10} {:>7} {:>6} {:>9.1f} {:>9.1f} {:>13.1f} {:>10.1f} {:>13.1f}\n", name, best, c.tasks, c.wall.count(), c.cpu.count(), c.in_tasks.count(),
                             c.ideal.count(), (c.wall - c.ideal).count());
  };
  std::cout << fmt::format("\n{:>10} {:>7} {:>6} {:>9} {:>9} {:>13} {:>10} {:>13}\n", "generation", "best", "tasks", "wall ms", "CPU ms", "in tasks ms", "ideal ms", "overhead ms");
  Cost sum;
  std::vector<double> overheads;
  for (std::size_t i = 0; i < costs.size(); ++i) {
    const auto& c = costs[i];
    row(i + 1, lengths[i], c);
    overheads.push_back((c.wall - c.ideal).count());
    sum.tasks += c.tasks, sum.wall += c.wall, sum.cpu += c.cpu, sum.in_tasks += c.in_tasks, sum.ideal += c.ideal;
  }
  row("all", lengths.back(), sum);
  std::sort(overheads.begin(), overheads.end());
  std::cout << fmt::format("overhead per generation: median {:.1f} ms (wall time beyond that in the tasks, shared evenly by {} slot{})\n", overheads[overheads.size() / 2], slots,
                           slots == 1 ? "" : "s");
}

Result<Done> write(const std::string& file, const std::string& text) {
  std::ofstream out(file, std::ios::binary | std::ios::trunc);
  out << text;
  if (!out.flush()) return Error{"cannot write '" + file + "'", std::strerror(errno), "name another file"};
  return Done{};
}

int search(const Options& options) {
  auto loaded = load_tsplib(options.instance);
  if (!loaded) return fail(loaded.error(), 2);
  const auto& instance = loaded.value();
  auto parameters = options.parameters;
  parameters.candidates = std::min(parameters.candidates, instance.size() - 1);
  if (auto checked = check(parameters, instance); !checked) return fail(checked.error(), 2);

  for (const auto& file : {options.tour, options.svg}) {  // now, not after all the work
    if (file.empty()) continue;
    const auto folder = std::filesystem::absolute(file).parent_path();
    if (access(folder.c_str(), W_OK | X_OK) != 0) return fail({"cannot write '" + file + "'", std::strerror(errno), "name a file in a folder that can be written to"}, 2);
  }
  catch_interrupts();
  std::optional<Grid> grid;
  int slots = options.slots, tasks = 1;
  if (!options.serial) {
    grid.emplace(options.souk, options.program);
    if (slots == 0) {
      const auto found = grid->slots();
      if (!found) return fail(found.error(), 3);
      slots = found.value();
    }
    // Two tasks a slot: few enough to be worth their way, enough that a slow one does not keep all others waiting.
    tasks = std::min(options.tasks > 0 ? options.tasks : 2 * slots, parties(parameters));
  }

  std::cout << fmt::format("{}: {} cities, {} generations of {} ants, seed {}, {}\n", instance.name, instance.size(), options.generations, parameters.ants, parameters.seed,
                           options.serial ? std::string("in this process") : fmt::format("as {} tasks on {} slot{}", tasks, slots, slots == 1 ? "" : "s"))
            << std::flush;
  const Terrain terrain(instance, parameters.candidates, parameters.beta);
  Colony colony(terrain, parameters);
  Progress progress(options.generations, options.quiet);
  std::vector<Cost> costs;
  std::vector<std::int64_t> lengths;
  const auto begin = Clock::now();
  for (int generation = 1; generation <= options.generations; ++generation) {
    const auto start = Clock::now();
    Find best;
    Cost cost{.tasks = tasks};
    if (options.serial) {
      best = walk(terrain, parameters, colony.snapshot(), 1, parties(parameters), options.threads);
    } else {
      const auto text = grid->run(text_of(Request{instance, parameters, colony.snapshot()}), tasks, fmt::format("{}-{}", instance.name, generation));
      if (!text) return progress.clear(), fail(text.error(), interrupted() ? 130 : 1);
      const auto replies = parse_replies(text.value(), instance, parameters);
      if (!replies) return progress.clear(), fail(replies.error(), 1);
      Milliseconds longest{0};
      for (const auto& reply : replies.value()) {
        if (reply.best.better_than(best)) best = reply.best;
        cost.cpu += reply.cpu;
        cost.in_tasks += reply.wall;
        longest = std::max(longest, Milliseconds(reply.wall));
      }
      cost.ideal = std::max(longest, cost.in_tasks / std::min(slots, tasks));
    }
    if (interrupted()) return progress.clear(), fail({"stopped", "interrupted", ""}, 130);
    colony.learn(best);
    cost.wall = Clock::now() - start;
    costs.push_back(cost);
    lengths.push_back(colony.best().length);
    progress.show(generation, colony.best().length, cost.wall);
  }
  progress.clear();

  const auto& best = colony.best();
  if (!options.serial) print_costs(costs, lengths, std::min(slots, tasks));
  std::cout << fmt::format("\nbest tour of {}: {} (generation {}, ant {}), after {:.2f} s\n", instance.name, best.length, colony.found_in(), best.ant,
                           std::chrono::duration<double>(Clock::now() - begin).count());
  if (!options.tour.empty()) {
    if (auto written = write(options.tour, tour_file(instance, best.tour)); !written) return fail(written.error(), 2);
    std::cout << "tour: " << options.tour << '\n';
  }
  if (!options.svg.empty()) {
    const auto caption = fmt::format("{}: a tour of {} cities, length {}", instance.name, instance.size(), best.length);
    if (auto written = write(options.svg, plot(instance, best.tour, caption)); !written) return fail(written.error(), 2);
    std::cout << "plot: " << options.svg << '\n';
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    Options options;
    if (const char* named = std::getenv("SOUK")) options.souk = named;
    auto& p = options.parameters;
    CLI::App app("Searches a short round trip through all cities by an Ant Colony System whose ants walk as tasks of a grid.");
    app.add_option("instance", options.instance, "A TSPLIB file (EUC_2D), such as examples/ant-colony/instances/berlin52.tsp");
    app.add_flag("--serial", options.serial, "Walk in this process instead of on the grid; finds the same tour");
    app.add_option("--threads", options.threads, "With --serial: threads; does not change the tour")->check(CLI::Range(1, 1024))->capture_default_str();
    app.add_option("--generations", options.generations, "How often the colony learns")->check(CLI::Range(1, 1000000))->capture_default_str();
    app.add_option("--seed", p.seed, "Same seed, same tour")->capture_default_str();
    app.add_option("--ants", p.ants, "Ants in a generation")->check(CLI::Range(1, kAntsMax))->capture_default_str();
    app.add_option("--party", p.party, "Ants that walk one after the other and see each other's wear of the trails")->check(CLI::Range(1, kAntsMax))->capture_default_str();
    app.add_flag("--local-search", p.local_search, "Shorten each ant's tour by 2-opt and Or-opt; needs far fewer ants");
    app.add_option("--q0", p.q0, "How often an ant takes the best next city instead of drawing one")->check(CLI::Range(0.0, 1.0))->capture_default_str();
    app.add_option("--beta", p.beta, "Weight of nearness")->check(CLI::Range(1, 10))->capture_default_str();
    app.add_option("--rho", p.rho, "Wear of a walked edge")->check(CLI::Range(0.0, 1.0))->capture_default_str();
    app.add_option("--alpha", p.alpha, "Growth of the best tour's trail")->check(CLI::Range(0.0, 1.0))->capture_default_str();
    app.add_option("--candidates", p.candidates, "Nearest neighbours an ant looks at first")->check(CLI::Range(1, kCitiesMax))->capture_default_str();
    app.add_option("--tasks", options.tasks, "Tasks in a generation; default: two a slot. Does not change the tour")->check(CLI::Range(1, 100000));
    app.add_option("--slots", options.slots, "Slots to reckon with; default: asked of the grid")->check(CLI::Range(1, 1000000));
    app.add_option("--souk", options.souk, "The souk program; default: $SOUK, else souk in PATH");
    app.add_option("--program", options.program, "This program on the workers; default: its path here");
    app.add_option("--svg", options.svg, "Write a plot of the tour to this file");
    app.add_option("--tour", options.tour, "Write the tour to this file, in TSPLIB's format");
    app.add_flag("--quiet", options.quiet, "No progress on stderr");
    auto* task = app.add_option("--evaluate", options.evaluate, "Be task N of --of M: walk a share of the ants described on stdin (used by the tasks)");
    app.add_option("--of", options.of, "See --evaluate")->needs(task);
    app.footer("Example: ant-colony examples/ant-colony/instances/berlin52.tsp --svg tour.svg\nWithout a grid: ant-colony berlin52.tsp --serial --threads 2");
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app.exit(error) == 0 ? 0 : 2;
    }
    if (*task) return evaluate(options.evaluate, options.of);
    if (options.instance.empty()) return fail({"no instance", "nothing to search", "name a TSPLIB file; --help tells more"}, 2);
    if (p.party > p.ants) p.party = p.ants;
    if (options.program.empty()) options.program = std::filesystem::read_symlink("/proc/self/exe").string();
    return search(options);
  } catch (const std::exception& error) {
    return fail({"cannot go on", error.what(), ""}, 1);
  }
}
