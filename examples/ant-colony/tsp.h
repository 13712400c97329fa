// A travelling salesman problem: cities in the plane and the whole-number distances TSPLIB defines between them.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"

namespace souk::ants {

constexpr int kCitiesMin = 5;
constexpr int kCitiesMax = 2000;                     // the trail matrix then takes 32 MB; a larger instance is refused
constexpr std::size_t kInstanceBytesMax = 4u << 20;  // of a .tsp file
constexpr double kCoordinateMax = 1e7;               // either sign; tours of kCitiesMax cities stay far below 2^53

struct City {
  double x = 0, y = 0;
};

/// A closed walk through all cities, as their numbers from 0.
using Tour = std::vector<int>;

struct Instance {
  std::string name;  // as the file gives it, at most 64 bytes of [A-Za-z0-9_.-], others replaced by '-'
  std::vector<City> cities;
  int size() const { return static_cast<int>(cities.size()); }
  /// EUC_2D: the Euclidean distance rounded to the nearest whole number (TSPLIB 95 §2.1).
  int distance(int a, int b) const;
  std::int64_t length(const Tour& tour) const;
  /// Whether each city comes exactly once.
  bool visits_all(const Tour& tour) const;
};

/// Reads TSPLIB 95: TYPE TSP, EDGE_WEIGHT_TYPE EUC_2D, NODE_COORD_SECTION with cities 1 to DIMENSION in any order.
/// Fails on anything else, naming the line.
Result<Instance> parse_tsplib(std::string_view text);
Result<Instance> load_tsplib(const std::filesystem::path& file);

/// The tour in TSPLIB's TOUR format, starting at city 1 towards the smaller of its neighbours, so that equal tours give equal files.
std::string tour_file(const Instance& instance, const Tour& tour);

}  // namespace souk::ants
