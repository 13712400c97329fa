#include "examples/ant-colony/acs.h"

#include <algorithm>
#include <numeric>
#include <thread>

namespace souk::ants {
namespace {

/// splitmix64 (Steele, Lea, Flood 2014): one addition and three shifts a number, and any start value is a good one.
class Dice {
 public:
  Dice(std::uint64_t seed, std::uint64_t generation, std::uint64_t ant) : state_(seed) {
    state_ = next() + generation;
    state_ = next() + ant;
    state_ = next();
  }
  double uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }  // [0, 1)
  int below(int bound) { return static_cast<int>(uniform() * bound); }

 private:
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9E3779B97F4A7C15u);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  std::uint64_t state_;
};

Edge edge(int a, int b) { return a < b ? Edge{a, b} : Edge{b, a}; }

/// One party: its own copy of the trails, worn down by its ants and restored for the next party.
class Party {
 public:
  Party(const Terrain& terrain, const Parameters& parameters, const Snapshot& snapshot)
      : terrain_(terrain), parameters_(parameters), generation_(snapshot.generation), tau0_(snapshot.tau0) {
    const auto n = static_cast<std::size_t>(terrain.size());
    trails_.assign(n * n, snapshot.tau0);
    for (const auto& [ends, tau] : snapshot.trails) trails_[terrain.at(ends.first, ends.second)] = trails_[terrain.at(ends.second, ends.first)] = tau;
    visited_.resize(n);
    weights_.resize(static_cast<std::size_t>(terrain.candidates()));
  }

  Find walk(int first_ant, int last_ant) {
    Find best;
    for (int ant = first_ant; ant <= last_ant; ++ant) {
      Find find{ant, 0, construct(ant)};
      if (parameters_.local_search) improve(terrain_, find.tour);
      find.length = terrain_.length(find.tour);
      if (find.better_than(best)) best = std::move(find);
    }
    for (auto undo = worn_.rbegin(); undo != worn_.rend(); ++undo) trails_[undo->first] = undo->second;
    worn_.clear();
    return best;
  }

 private:
  Tour construct(int ant) {
    Dice dice(parameters_.seed, generation_, static_cast<std::uint64_t>(ant));
    const int n = terrain_.size();
    std::fill(visited_.begin(), visited_.end(), false);
    Tour tour;
    tour.reserve(static_cast<std::size_t>(n));
    int at = dice.below(n);
    visited_[static_cast<std::size_t>(at)] = true;
    tour.push_back(at);
    for (int step = 1; step < n; ++step) {
      const int to = next_city(at, dice);
      visited_[static_cast<std::size_t>(to)] = true;
      tour.push_back(to);
      wear(at, to);
      at = to;
    }
    wear(at, tour.front());
    return tour;
  }

  /// The state transition rule, equations (1) and (3) of the paper, within the candidate list; beyond it the most attractive city left.
  int next_city(int at, Dice& dice) {
    const int* near = terrain_.neighbours(at);
    int best = -1;
    double best_weight = -1, sum = 0;
    for (int k = 0; k < terrain_.candidates(); ++k) {
      const int city = near[k];
      double weight = 0;
      if (!visited_[static_cast<std::size_t>(city)]) {
        weight = trails_[terrain_.at(at, city)] * terrain_.nearness(at, city);
        if (weight > best_weight) best = city, best_weight = weight;
      }
      sum += weight;
      weights_[static_cast<std::size_t>(k)] = weight;
    }
    if (best < 0) {
      for (int city = 0; city < terrain_.size(); ++city) {
        if (visited_[static_cast<std::size_t>(city)]) continue;
        const double weight = trails_[terrain_.at(at, city)] * terrain_.nearness(at, city);
        if (weight > best_weight) best = city, best_weight = weight;
      }
      return best;
    }
    if (dice.uniform() <= parameters_.q0) return best;
    double left = dice.uniform() * sum;
    for (int k = 0; k < terrain_.candidates(); ++k) {
      left -= weights_[static_cast<std::size_t>(k)];
      if (left < 0) return near[k];  // of weight 0 never: left would have been below 0 before
    }
    return best;  // rounding used up the sum
  }

  /// The local updating rule, equation (5).
  void wear(int a, int b) {
    auto& there = trails_[terrain_.at(a, b)];
    auto& back = trails_[terrain_.at(b, a)];
    worn_.emplace_back(terrain_.at(a, b), there);
    worn_.emplace_back(terrain_.at(b, a), back);
    there = back = (1 - parameters_.rho) * there + parameters_.rho * tau0_;
  }

  const Terrain& terrain_;
  const Parameters& parameters_;
  std::uint64_t generation_;
  double tau0_;
  std::vector<double> trails_, weights_;
  std::vector<bool> visited_;
  std::vector<std::pair<std::size_t, double>> worn_;  // to undo, newest last: 2 entries for each step of the party
};

/// A tour as an array with each city's place in it.
class Shortener {
 public:
  Shortener(const Terrain& terrain, Tour& tour) : terrain_(terrain), tour_(tour), n_(terrain.size()), place_(tour.size()), queued_(tour.size(), true) {
    for (int i = 0; i < n_; ++i) place_[index(tour_[index(i)])] = i;
    queue_ = tour;
  }

  void run() {
    // A city is tried again when its own edges change (don't-look bits). That misses moves into gaps that opened elsewhere, 1 to 2 % of a
    // tour's length, so the whole is repeated until a round finds nothing.
    for (bool changed = true; changed;) {
      changed = false;
      for (std::size_t next = 0; next < queue_.size(); ++next) {
        const int city = queue_[next];
        queued_[index(city)] = false;
        while (two_opt(city) || or_opt(city)) changed = true;
      }
      queue_ = tour_;
      std::fill(queued_.begin(), queued_.end(), true);
    }
  }

 private:
  static std::size_t index(int i) { return static_cast<std::size_t>(i); }
  int after(int city) const { const int i = place_[index(city)] + 1; return tour_[index(i == n_ ? 0 : i)]; }
  int before(int city) const { const int i = place_[index(city)]; return tour_[index(i == 0 ? n_ - 1 : i - 1)]; }
  int d(int a, int b) const { return terrain_.distance(a, b); }
  void again(int city) {
    if (queued_[index(city)]) return;
    queued_[index(city)] = true;
    queue_.push_back(city);
  }

  /// Turns round the stretch from city `from` to city `to`, or, which gives the same tour, the rest.
  void reverse(int from, int to) {
    int i = place_[index(from)], j = place_[index(to)];
    int inside = j - i + 1;
    if (inside <= 0) inside += n_;
    if (2 * inside > n_) {
      const int first = j + 1 == n_ ? 0 : j + 1, last = i == 0 ? n_ - 1 : i - 1;
      i = first, j = last, inside = n_ - inside;
    }
    for (int swaps = inside / 2; swaps > 0; --swaps) {
      std::swap(tour_[index(i)], tour_[index(j)]);
      place_[index(tour_[index(i)])] = i;
      place_[index(tour_[index(j)])] = j;
      i = i + 1 == n_ ? 0 : i + 1;
      j = j == 0 ? n_ - 1 : j - 1;
    }
  }

  bool two_opt(int a) {
    const int* near = terrain_.neighbours(a);
    for (const bool forward : {true, false}) {
      const int b = forward ? after(a) : before(a);
      for (int k = 0; k < terrain_.candidates(); ++k) {
        const int c = near[k];
        if (d(a, c) >= d(a, b)) break;
        const int e = forward ? after(c) : before(c);
        if (d(a, c) + d(b, e) >= d(a, b) + d(c, e)) continue;
        forward ? reverse(b, c) : reverse(a, e);
        for (const int city : {a, b, c, e}) again(city);
        return true;
      }
    }
    return false;
  }

  /// Moves a stretch of one to three cities that begins or ends at `a` next to a near city, either way round.
  bool or_opt(int a) {
    const int* near = terrain_.neighbours(a);
    for (const bool forward : {true, false}) {
      int stretch[3] = {a, 0, 0};
      for (int size = 1; size <= 3 && size + 2 < n_; ++size) {
        if (size > 1) stretch[size - 1] = forward ? after(stretch[size - 2]) : before(stretch[size - 2]);
        const int end = stretch[size - 1];
        const int left = forward ? before(a) : after(a), right = forward ? after(end) : before(end);
        const int gain = d(left, a) + d(end, right) - d(left, right);
        const auto inside = [&](int city) { return std::find(stretch, stretch + size, city) != stretch + size; };
        for (int k = 0; k < terrain_.candidates(); ++k) {
          const int c = near[k];
          if (d(a, c) >= gain) break;
          if (inside(c)) continue;
          for (const int e : {after(c), before(c)}) {
            if (inside(e) || d(a, c) + d(end, e) - d(c, e) >= gain) continue;
            move(stretch, size, c, e);
            for (const int city : {a, end, left, right, c, e}) again(city);
            return true;
          }
        }
      }
    }
    return false;
  }

  /// Takes the stretch out and puts it between the neighbours c and e, its first city beside c. O(cities), once for each improvement found.
  void move(const int* stretch, int size, int c, int e) {
    const bool c_first = after(c) == e;
    scratch_.clear();
    for (const int city : tour_) {
      if (std::find(stretch, stretch + size, city) != stretch + size) continue;
      if (!c_first && city == c) scratch_.insert(scratch_.end(), std::make_reverse_iterator(stretch + size), std::make_reverse_iterator(stretch));
      scratch_.push_back(city);
      if (c_first && city == c) scratch_.insert(scratch_.end(), stretch, stretch + size);
    }
    tour_.swap(scratch_);
    for (int i = 0; i < n_; ++i) place_[index(tour_[index(i)])] = i;
  }

  const Terrain& terrain_;
  Tour& tour_;
  int n_;
  std::vector<int> place_, scratch_, queue_;
  std::vector<bool> queued_;
};

}  // namespace

Result<Done> check(const Parameters& p, const Instance& instance) {
  const auto wrong = [](const std::string& name, const std::string& range) { return Error{"parameter refused", name + " is out of range", "give " + range}; };
  if (p.ants < 1 || p.ants > kAntsMax) return wrong("ants", "1 to " + std::to_string(kAntsMax));
  if (p.party < 1 || p.party > p.ants) return wrong("party", "1 to the number of ants (" + std::to_string(p.ants) + ")");
  if (p.beta < 1 || p.beta > 10) return wrong("beta", "a whole number from 1 to 10");
  if (!(p.q0 >= 0 && p.q0 <= 1)) return wrong("q0", "0 to 1");
  if (!(p.rho >= 0 && p.rho <= 1)) return wrong("rho", "0 to 1");
  if (!(p.alpha >= 0 && p.alpha <= 1)) return wrong("alpha", "0 to 1");
  if (p.candidates < 1 || p.candidates >= instance.size()) return wrong("candidates", "1 to " + std::to_string(instance.size() - 1));
  return Done{};
}

Terrain::Terrain(const Instance& instance, int candidates, int beta) : n_(instance.size()), candidates_(std::min(candidates, n_ - 1)) {
  const auto n = static_cast<std::size_t>(n_);
  distances_.resize(n * n);
  nearness_.resize(n * n);
  for (int a = 0; a < n_; ++a) {
    for (int b = 0; b < n_; ++b) {
      const int length = distances_[at(a, b)] = instance.distance(a, b);
      const double near = 1.0 / std::max(length, 1);  // cities may coincide
      double power = near;
      for (int i = 1; i < beta; ++i) power *= near;
      nearness_[at(a, b)] = power;
    }
  }
  std::vector<int> others;
  for (int a = 0; a < n_; ++a) {
    others.resize(n);
    std::iota(others.begin(), others.end(), 0);
    others.erase(others.begin() + a);
    std::partial_sort(others.begin(), others.begin() + candidates_, others.end(),
                      [&](int b, int c) { return std::pair{distance(a, b), b} < std::pair{distance(a, c), c}; });
    neighbours_.insert(neighbours_.end(), others.begin(), others.begin() + candidates_);
  }
}

std::int64_t Terrain::length(const Tour& tour) const {
  std::int64_t sum = distance(tour.back(), tour.front());
  for (std::size_t i = 1; i < tour.size(); ++i) sum += distance(tour[i - 1], tour[i]);
  return sum;
}

void improve(const Terrain& terrain, Tour& tour) { Shortener(terrain, tour).run(); }

Tour nearest_neighbour_tour(const Terrain& terrain) {
  const int n = terrain.size();
  Tour tour{0};
  std::vector<bool> visited(static_cast<std::size_t>(n));
  visited[0] = true;
  while (static_cast<int>(tour.size()) < n) {
    int nearest = -1;
    for (int city = 0; city < n; ++city) {
      if (visited[static_cast<std::size_t>(city)]) continue;
      if (nearest < 0 || terrain.distance(tour.back(), city) < terrain.distance(tour.back(), nearest)) nearest = city;
    }
    visited[static_cast<std::size_t>(nearest)] = true;
    tour.push_back(nearest);
  }
  return tour;
}

int parties(const Parameters& p) { return p.ants / p.party + (p.ants % p.party != 0 ? 1 : 0); }

Find walk(const Terrain& terrain, const Parameters& parameters, const Snapshot& snapshot, int first, int last, int threads) {
  const auto some = [&](int begin, int end) {
    Party party(terrain, parameters, snapshot);
    Find best;
    for (int number = begin; number < end; ++number) {
      const int first_ant = (number - 1) * parameters.party + 1;
      Find find = party.walk(first_ant, std::min(first_ant + parameters.party - 1, parameters.ants));
      if (find.better_than(best)) best = std::move(find);
    }
    return best;
  };
  const int count = std::clamp(threads, 1, std::max(1, last - first + 1));
  const auto bound = [&](int i) { return first + static_cast<int>(static_cast<std::int64_t>(last + 1 - first) * i / count); };
  std::vector<Find> finds(static_cast<std::size_t>(count));
  {
    std::vector<std::jthread> others;
    for (int i = 1; i < count; ++i) others.emplace_back([&, i] { finds[static_cast<std::size_t>(i)] = some(bound(i), bound(i + 1)); });
    finds[0] = some(bound(0), bound(1));
  }
  Find best;
  for (auto& find : finds)
    if (find.better_than(best)) best = std::move(find);
  return best;
}

Colony::Colony(const Terrain& terrain, const Parameters& parameters) : parameters_(parameters) {
  const auto length = terrain.length(nearest_neighbour_tour(terrain));
  snapshot_.tau0 = 1.0 / (static_cast<double>(terrain.size()) * static_cast<double>(std::max<std::int64_t>(length, 1)));
}

void Colony::learn(const Find& find) {
  if (best_.ant == 0 || find.length < best_.length) {
    best_ = find;
    found_in_ = snapshot_.generation;
  }
  const double tau0 = snapshot_.tau0, full = 1.0 / static_cast<double>(std::max<std::int64_t>(best_.length, 1));
  std::map<Edge, double> next;
  for (std::size_t i = 0; i < best_.tour.size(); ++i) {
    const Edge ends = edge(best_.tour[i], best_.tour[i + 1 == best_.tour.size() ? 0 : i + 1]);
    const auto old = snapshot_.trails.find(ends);
    next[ends] = (1 - parameters_.alpha) * (old == snapshot_.trails.end() ? tau0 : old->second) + parameters_.alpha * full;  // equation (4)
  }
  for (const auto& [ends, tau] : snapshot_.trails) {
    if (next.contains(ends)) continue;
    const double faded = (1 - parameters_.rho) * tau + parameters_.rho * tau0;
    if (faded > 1.001 * tau0) next[ends] = faded;  // below, forgotten: it keeps the snapshot small
  }
  snapshot_.trails = std::move(next);
  ++snapshot_.generation;
}

}  // namespace souk::ants
