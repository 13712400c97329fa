#include "examples/ant-colony/tsp.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <fstream>
#include <optional>
#include <sstream>

namespace souk::ants {
namespace {

std::string_view trimmed(std::string_view text) {
  const auto blank = " \t\r\f\v";
  const auto first = text.find_first_not_of(blank);
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(blank) - first + 1);
}

/// For an error message: bounded, and without control characters.
std::string shown(std::string_view text) {
  std::string out(text.substr(0, 40));
  for (char& c : out)
    if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
  if (text.size() > 40) out += "...";
  return "'" + out + "'";
}

template <class T>
std::optional<T> number(std::string_view word) {
  if (!word.empty() && word.front() == '+') word.remove_prefix(1);
  T value{};
  const auto [end, failure] = std::from_chars(word.data(), word.data() + word.size(), value);
  if (failure != std::errc{} || end != word.data() + word.size()) return std::nullopt;
  return value;
}

std::vector<std::string_view> words(std::string_view line) {
  std::vector<std::string_view> found;
  while (!(line = trimmed(line)).empty()) {
    const auto end = std::min(line.find_first_of(" \t"), line.size());
    found.push_back(line.substr(0, end));
    line.remove_prefix(end);
  }
  return found;
}

std::string safe_name(std::string_view name) {
  std::string out(name.substr(0, 64));
  for (char& c : out) {
    const bool fine = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '.' || c == '-';
    if (!fine) c = '-';
  }
  return out.empty() ? "unnamed" : out;
}

}  // namespace

int Instance::distance(int a, int b) const {
  const auto& p = cities[static_cast<std::size_t>(a)];
  const auto& q = cities[static_cast<std::size_t>(b)];
  const double dx = p.x - q.x, dy = p.y - q.y;
  return static_cast<int>(std::sqrt(dx * dx + dy * dy) + 0.5);
}

std::int64_t Instance::length(const Tour& tour) const {
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < tour.size(); ++i) sum += distance(tour[i], tour[i + 1 == tour.size() ? 0 : i + 1]);
  return sum;
}

bool Instance::visits_all(const Tour& tour) const {
  if (tour.size() != cities.size()) return false;
  std::vector<bool> seen(cities.size());
  for (const int city : tour) {
    if (city < 0 || city >= size() || seen[static_cast<std::size_t>(city)]) return false;
    seen[static_cast<std::size_t>(city)] = true;
  }
  return true;
}

Result<Instance> parse_tsplib(std::string_view text) {
  const std::string what = "cannot read the instance";
  const std::string remedy = "give a symmetric TSPLIB file with EDGE_WEIGHT_TYPE EUC_2D and a NODE_COORD_SECTION";
  if (text.size() > kInstanceBytesMax)
    return Error{what, "it has " + std::to_string(text.size()) + " bytes, more than " + std::to_string(kInstanceBytesMax), remedy};

  Instance instance;
  std::optional<int> dimension;
  std::vector<bool> given;
  bool plane = false, in_cities = false, had_cities = false, ended = false;
  int line_number = 0, count = 0;
  const auto wrong = [&](const std::string& why) { return Error{what, "line " + std::to_string(line_number) + ": " + why, remedy}; };

  while (!text.empty() && !ended) {
    const auto end = std::min(text.find('\n'), text.size());
    const auto line = trimmed(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
    ++line_number;
    if (line.empty()) continue;

    const char first = line.front();
    const bool digits = (first >= '0' && first <= '9') || first == '-' || first == '+' || first == '.';
    if (digits) {
      if (!in_cities) return wrong("numbers outside of NODE_COORD_SECTION");
      const auto row = words(line);
      if (row.size() != 3) return wrong("a city is 'NUMBER X Y', this has " + std::to_string(row.size()) + " words");
      const auto id = number<int>(row[0]);
      const auto x = number<double>(row[1]), y = number<double>(row[2]);
      if (!id || *id < 1 || *id > *dimension) return wrong("city number " + shown(row[0]) + " is not between 1 and " + std::to_string(*dimension));
      // The comparison is written so that a NaN fails it.
      if (!x || !y || !(std::abs(*x) <= kCoordinateMax) || !(std::abs(*y) <= kCoordinateMax))
        return wrong("coordinates " + shown(row[1]) + " " + shown(row[2]) + " are not numbers between -1e7 and 1e7");
      const auto index = static_cast<std::size_t>(*id - 1);
      if (given[index]) return wrong("city " + std::to_string(*id) + " comes twice");
      given[index] = true;
      instance.cities[index] = City{*x, *y};
      ++count;
      continue;
    }

    in_cities = false;
    const auto colon = line.find(':');
    const auto key = trimmed(line.substr(0, colon));
    const auto value = colon == std::string_view::npos ? std::string_view{} : trimmed(line.substr(colon + 1));
    if (key == "EOF") {
      ended = true;
    } else if (key == "NAME") {
      instance.name = safe_name(value);
    } else if (key == "TYPE") {
      if (words(value).empty() || words(value).front() != "TSP") return wrong("TYPE is " + shown(value) + ", not TSP");
    } else if (key == "DIMENSION") {
      if (dimension) return wrong("DIMENSION comes twice");
      const auto cities = number<int>(value);
      if (!cities || *cities < kCitiesMin || *cities > kCitiesMax)
        return wrong("DIMENSION is " + shown(value) + ", not a whole number from " + std::to_string(kCitiesMin) + " to " + std::to_string(kCitiesMax));
      dimension = *cities;
    } else if (key == "EDGE_WEIGHT_TYPE") {
      if (value != "EUC_2D") return wrong("EDGE_WEIGHT_TYPE is " + shown(value) + ", and only EUC_2D is understood");
      plane = true;
    } else if (key == "NODE_COORD_SECTION") {
      if (!dimension) return wrong("NODE_COORD_SECTION comes before DIMENSION");
      if (had_cities) return wrong("a second NODE_COORD_SECTION");
      instance.cities.resize(static_cast<std::size_t>(*dimension));
      given.resize(static_cast<std::size_t>(*dimension));
      in_cities = had_cities = true;
    } else if (key == "COMMENT" || key == "DISPLAY_DATA_TYPE" || key == "NODE_COORD_TYPE") {
      // says nothing that distances depend on
    } else {
      return wrong("keyword " + shown(key) + " is not understood");
    }
  }
  if (!plane) return Error{what, "no EDGE_WEIGHT_TYPE", remedy};
  if (!had_cities) return Error{what, "no NODE_COORD_SECTION", remedy};
  if (count != *dimension)
    return Error{what, "DIMENSION is " + std::to_string(*dimension) + ", but there are " + std::to_string(count) + " cities: is the file cut off?", remedy};
  if (instance.name.empty()) instance.name = "unnamed";
  return instance;
}

Result<Instance> load_tsplib(const std::filesystem::path& file) {
  std::error_code failure;
  if (!std::filesystem::is_regular_file(file, failure))
    return Error{"cannot read '" + file.string() + "'", "there is no such file", "name a .tsp file, such as examples/ant-colony/instances/berlin52.tsp"};
  const auto size = std::filesystem::file_size(file, failure);
  if (failure || size > kInstanceBytesMax)
    return Error{"cannot read '" + file.string() + "'", "it has more than " + std::to_string(kInstanceBytesMax) + " bytes", "name a TSPLIB file"};
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  if (!in) return Error{"cannot read '" + file.string() + "'", "it cannot be opened", "check who may read it"};
  auto instance = parse_tsplib(text.str());
  if (!instance) return Error{"cannot read '" + file.string() + "'", instance.error().why, instance.error().remedy};
  return instance;
}

std::string tour_file(const Instance& instance, const Tour& tour) {
  const auto n = tour.size();
  const auto start = static_cast<std::size_t>(std::find(tour.begin(), tour.end(), 0) - tour.begin());
  const bool forward = tour[(start + 1) % n] < tour[(start + n - 1) % n];
  std::string out = "NAME : " + instance.name + "\nCOMMENT : length " + std::to_string(instance.length(tour)) +
                    "\nTYPE : TOUR\nDIMENSION : " + std::to_string(n) + "\nTOUR_SECTION\n";
  for (std::size_t i = 0; i < n; ++i) out += std::to_string(tour[(forward ? start + i : start + n - i) % n] + 1) + "\n";
  return out + "-1\nEOF\n";
}

}  // namespace souk::ants
