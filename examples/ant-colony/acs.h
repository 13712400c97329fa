// Ant Colony System for the travelling salesman (M. Dorigo, L. M. Gambardella: Ant Colony System, IEEE Trans. Evol. Comp. 1(1), 1997),
// cut so that one generation of ants can walk on machines that share nothing.
//
//   colony --- snapshot ---> party of ants 1..p     |
//          --- snapshot ---> party of ants p+1..2p  |--- the best find of each ---> learn() --> colony of the next generation
//          --- snapshot ---> ...                    |
//
// In the paper every ant's local update is seen by all others at once. Here the ants of one *party* walk one after the other and wear down
// the trails of their own copy; parties know nothing of each other until the generation ends. So a generation's outcome depends on the
// snapshot, the parameters and the ants' numbers only: not on how many parties share a task, on threads, on the order of answers, or on
// whether there is a grid at all. Each ant draws from its own random stream, made from (seed, generation, ant).
// All arithmetic is IEEE basic operations and sqrt, without contraction (see CMakeLists.txt), so machines agree to the last bit.
#pragma once
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "examples/ant-colony/tsp.h"

namespace souk::ants {

/// Names as in the paper, where it has them.
struct Parameters {
  std::uint64_t seed = 1;
  int ants = 1000;      // in a generation, 1 to kAntsMax
  int party = 10;       // ants that walk one after the other in one copy of the trails; 1 to ants
  int beta = 2;         // weight of nearness, a whole power so that no libm has a say; 1 to 10
  double q0 = 0.9;      // how often an ant takes the best next city instead of drawing one; 0 to 1
  double rho = 0.1;     // wear of an edge that an ant walks; 0 to 1
  double alpha = 0.1;   // how fast the best tour's trail grows; 0 to 1
  int candidates = 15;  // nearest neighbours an ant looks at first; 1 to cities - 1
  bool local_search = true;  // 2-opt and Or-opt on each ant's tour
};
constexpr int kAntsMax = 10'000'000;

/// Fails naming the parameter that is out of its range.
Result<Done> check(const Parameters& parameters, const Instance& instance);

using Edge = std::pair<int, int>;  // the smaller city first

/// What the ants of a generation start from. Edges that are not named carry tau0, so a snapshot stays a few kilobytes.
struct Snapshot {
  std::uint64_t generation = 1;
  double tau0 = 0;
  std::map<Edge, double> trails;
};

struct Find {
  int ant = 0;  // from 1; 0: none yet
  std::int64_t length = 0;
  Tour tour;
  /// Shorter is better, of equals the lower ant: an order that does not depend on who answers first.
  bool better_than(const Find& other) const {
    return other.ant == 0 || (ant != 0 && std::pair{length, ant} < std::pair{other.length, other.ant});
  }
};

/// What many ants need to know and none changes: distances, candidate lists, nearness. 16 bytes per pair of cities.
class Terrain {
 public:
  Terrain(const Instance& instance, int candidates, int beta);
  int size() const { return n_; }
  int candidates() const { return candidates_; }
  int distance(int a, int b) const { return distances_[at(a, b)]; }
  double nearness(int a, int b) const { return nearness_[at(a, b)]; }  // (1 / distance)^beta
  const int* neighbours(int city) const { return neighbours_.data() + static_cast<std::size_t>(city) * static_cast<std::size_t>(candidates_); }
  std::size_t at(int a, int b) const { return static_cast<std::size_t>(a) * static_cast<std::size_t>(n_) + static_cast<std::size_t>(b); }
  std::int64_t length(const Tour& tour) const;

 private:
  int n_, candidates_;
  std::vector<int> distances_, neighbours_;
  std::vector<double> nearness_;
};

/// Shortens a tour by 2-opt and Or-opt moves within the candidate lists until none helps. Deterministic.
void improve(const Terrain& terrain, Tour& tour);

/// From city 1 always on to the nearest city not yet visited.
Tour nearest_neighbour_tour(const Terrain& terrain);

/// How many parties the ants of a generation form; the last may be smaller.
int parties(const Parameters& parameters);

/// Lets parties `first` to `last` (from 1, inclusive) walk from the snapshot, on `threads` threads; yields their best find.
/// The answer does not depend on `threads`, and the best over any division of the parties is the same.
Find walk(const Terrain& terrain, const Parameters& parameters, const Snapshot& snapshot, int first, int last, int threads = 1);

/// The state between generations.
class Colony {
 public:
  Colony(const Terrain& terrain, const Parameters& parameters);
  const Snapshot& snapshot() const { return snapshot_; }
  const Find& best() const { return best_; }
  std::uint64_t found_in() const { return found_in_; }  // generation of the best
  /// Takes in the best find of the generation: the trail of the best tour so far grows (global update), and the next generation begins.
  /// What the ants wore off in their own copies is lost with these; in its place raised edges that are not on the best tour fade by one local update.
  void learn(const Find& find);

 private:
  Parameters parameters_;
  Snapshot snapshot_;
  Find best_;
  std::uint64_t found_in_ = 0;
};

}  // namespace souk::ants
