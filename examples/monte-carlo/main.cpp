// monte-carlo: the price of an Asian call option by simulation, in independent tasks.
//
//   monte-carlo --task 7 --paths 50000   simulates one share of the paths; prints one line of sums
//   monte-carlo --merge < lines          adds the sums up; prints the price with its confidence interval
//   monte-carlo --local 64               prints the lines of 64 tasks without a grid, for comparison
//
// The payoff is on the average of the weekly prices of one year, for which no closed formula exists. On the same paths the plain European call
// is priced too: its true price is known (Black and Scholes 1973), so it both checks the simulation and serves as control variate.
#include <CLI/CLI.hpp>
#include <spdlog/fmt/fmt.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <iostream>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

namespace {

constexpr double kSpot = 100, kStrike = 100, kRate = 0.05, kVolatility = 0.2;
constexpr int kWeeks = 52;
constexpr std::uint64_t kPathsMax = 1'000'000'000'000;

/// Standard normal numbers by Marsaglia's polar method over splitmix64; the stream depends on (seed, task) only.
class Dice {
 public:
  Dice(std::uint64_t seed, std::uint64_t task) : state_(seed) {
    state_ = next() + task;
    state_ = next();
  }
  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    for (;;) {
      const double u = uniform(), v = uniform(), s = u * u + v * v;
      if (s >= 1 || s == 0) continue;
      const double factor = std::sqrt(-2 * std::log(s) / s);
      spare_ = v * factor;
      has_spare_ = true;
      return u * factor;
    }
  }

 private:
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-52 - 1; }  // [-1, 1)
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
  double spare_ = 0;
  bool has_spare_ = false;
};

/// Sums over paths, from which means and variances follow: they add up over tasks.
struct Sums {
  std::uint64_t paths = 0;
  double asian = 0, asian2 = 0, european = 0, european2 = 0, product = 0;
};

Sums simulate(std::uint64_t seed, std::uint64_t task, std::uint64_t paths) {
  Dice dice(seed, task);
  const double week = 1.0 / kWeeks, drift = (kRate - kVolatility * kVolatility / 2) * week, swing = kVolatility * std::sqrt(week), discount = std::exp(-kRate);
  Sums sums{.paths = paths};
  for (std::uint64_t path = 0; path < paths; ++path) {
    double price = kSpot, total = 0;
    for (int i = 0; i < kWeeks; ++i) {
      price *= std::exp(drift + swing * dice.normal());
      total += price;
    }
    const double asian = discount * std::max(total / kWeeks - kStrike, 0.0), european = discount * std::max(price - kStrike, 0.0);
    sums.asian += asian, sums.asian2 += asian * asian;
    sums.european += european, sums.european2 += european * european;
    sums.product += asian * european;
  }
  return sums;
}

/// `paths N asian S S2 european S S2 product P`; fmt's shortest form reads back to the same bits.
std::string line_of(const Sums& s) {
  return fmt::format("paths {} asian {} {} european {} {} product {}\n", s.paths, s.asian, s.asian2, s.european, s.european2, s.product);
}

std::optional<Sums> read_line(const std::string& line) {
  std::istringstream in(line);
  std::array<std::string, 10> word;
  for (auto& w : word)
    if (!(in >> w)) return std::nullopt;
  std::string rest;
  if (in >> rest || word[0] != "paths" || word[2] != "asian" || word[5] != "european" || word[8] != "product") return std::nullopt;
  Sums s;
  const auto number = [](const std::string& w, auto& value) {
    const auto [end, failure] = std::from_chars(w.data(), w.data() + w.size(), value);
    return failure == std::errc{} && end == w.data() + w.size();
  };
  const bool read = number(word[1], s.paths) && number(word[3], s.asian) && number(word[4], s.asian2) && number(word[6], s.european) && number(word[7], s.european2) &&
                    number(word[9], s.product);
  const bool finite = std::isfinite(s.asian) && std::isfinite(s.asian2) && std::isfinite(s.european) && std::isfinite(s.european2) && std::isfinite(s.product);
  if (!read || !finite || s.paths < 1 || s.paths > kPathsMax) return std::nullopt;
  return s;
}

double european_call() {
  const auto below = [](double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; };
  const double d1 = (std::log(kSpot / kStrike) + kRate + kVolatility * kVolatility / 2) / kVolatility;
  return kSpot * below(d1) - kStrike * std::exp(-kRate) * below(d1 - kVolatility);
}

int merge() {
  Sums all;
  int tasks = 0;
  for (std::string line; std::getline(std::cin, line);) {
    const auto sums = read_line(line);
    if (!sums) {
      std::cerr << "monte-carlo: cannot add up: line " << tasks + 1 << " is not what a task prints: '" << line.substr(0, 60) << "'\n";
      return 1;
    }
    ++tasks;
    all.paths += sums->paths;  // in task order, so that rounding is the same each time
    all.asian += sums->asian, all.asian2 += sums->asian2;
    all.european += sums->european, all.european2 += sums->european2;
    all.product += sums->product;
  }
  if (all.paths < 2) {
    std::cerr << "monte-carlo: cannot add up: no results on standard input; pipe the tasks' lines in\n";
    return 1;
  }
  const double n = static_cast<double>(all.paths);
  const double asian = all.asian / n, european = all.european / n;
  const double var_a = all.asian2 / n - asian * asian, var_e = all.european2 / n - european * european, cov = all.product / n - asian * european;
  const double beta = var_e > 0 ? cov / var_e : 0, controlled = asian - beta * (european - european_call());
  const auto half = [&](double variance) { return 1.959964 * std::sqrt(std::max(variance, 0.0) / n); };
  std::cout << fmt::format("tasks                   {}\n", tasks) << fmt::format("paths                   {}\n", all.paths)
            << fmt::format("asian call, plain       {:.5f} +- {:.5f}  (95 % confidence)\n", asian, half(var_a))
            << fmt::format("asian call, controlled  {:.5f} +- {:.5f}\n", controlled, half(var_a - beta * cov))
            << fmt::format("european call           {:.5f} +- {:.5f}, true price {:.5f}: {}\n", european, half(var_e), european_call(),
                           // 4 standard errors: a sound simulation misses that once in 16,000 runs
                           std::abs(european - european_call()) <= 4 / 1.959964 * half(var_e) ? "agrees" : "DISAGREES");
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    std::uint64_t seed = 1, task = 0, paths = 50000, local = 0;
    bool add_up = false;
    CLI::App app("Prices an Asian call option by simulation, in independent tasks.");
    auto* group = app.add_option_group("mode")->require_option(1);
    group->add_option("--task", task, "Simulate the share of this task, counted from 1")->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}));
    group->add_option("--local", local, "Simulate tasks 1 to this number, one after the other")->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}));
    group->add_flag("--merge", add_up, "Add up the lines of all tasks on standard input");
    app.add_option("--paths", paths, "Paths in a task")->check(CLI::Range(std::uint64_t{1}, kPathsMax))->capture_default_str();
    app.add_option("--seed", seed, "Same seed, same result")->capture_default_str();
    try {
      app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
      return app.exit(error) == 0 ? 0 : 2;
    }
    if (add_up) return merge();
    if (task > 0) std::cout << line_of(simulate(seed, task, paths));
    for (std::uint64_t t = 1; t <= local; ++t) std::cout << line_of(simulate(seed, t, paths));
    std::cout.flush();
    return std::cout ? 0 : 1;
  } catch (const std::exception& error) {
    std::cerr << "monte-carlo: " << error.what() << '\n';
    return 1;
  }
}
