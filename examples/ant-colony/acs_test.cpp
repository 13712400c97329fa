#include "examples/ant-colony/acs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>

namespace souk::ants {
namespace {

Instance instance(const std::string& name) {
  auto loaded = load_tsplib(std::string(INSTANCES) + "/" + name + ".tsp");
  if (!loaded) throw std::runtime_error(loaded.error().text());
  return loaded.value();
}

/// The whole search in this process, as `ant-colony --serial` does it.
Find search(const Instance& in, const Parameters& parameters, int generations) {
  const Terrain terrain(in, parameters.candidates, parameters.beta);
  Colony colony(terrain, parameters);
  for (int i = 0; i < generations; ++i) colony.learn(walk(terrain, parameters, colony.snapshot(), 1, parties(parameters), 2));
  return colony.best();
}

// ---- The instances -------------------------------------------------------------------------------------------------------------

TEST(Tsplib, ReadsTheInstancesOfTheExample) {
  for (const auto& [name, cities] : {std::pair{"berlin52", 52}, {"eil51", 51}, {"st70", 70}, {"kroA100", 100}, {"a280", 280}}) {
    const auto in = instance(name);
    EXPECT_EQ(in.name, name);
    EXPECT_EQ(in.size(), cities) << name;
  }
}

TEST(Tsplib, RoundsDistancesAsTsplibDefines) {
  // berlin52.opt.tour of TSPLIB, whose length is known to be 7542.
  Tour tour{1,  49, 32, 45, 19, 41, 8,  9,  10, 43, 33, 51, 11, 52, 14, 13, 47, 26, 27, 28, 12, 25, 4,  6,  15, 5,
            24, 48, 38, 37, 40, 39, 36, 35, 34, 44, 46, 16, 29, 50, 20, 23, 30, 2,  7,  42, 21, 17, 3,  18, 31, 22};
  for (int& city : tour) --city;
  const auto in = instance("berlin52");
  ASSERT_TRUE(in.visits_all(tour));
  EXPECT_EQ(in.length(tour), 7542);
}

TEST(Tsplib, TakesSpacesOrNoneAroundColonsAnyOrderAndNoEof) {
  const auto in = parse_tsplib("EDGE_WEIGHT_TYPE:EUC_2D\r\nDIMENSION : 5\r\nTYPE :TSP (small)\r\nNODE_COORD_SECTION\r\n5 0 4\n 1 0.5 1e1\n2 +3 -4\n3 1 1\n4 2 2");
  ASSERT_TRUE(in) << in.error().text();
  EXPECT_EQ(in.value().cities[0].x, 0.5);
  EXPECT_EQ(in.value().cities[0].y, 10);
  EXPECT_EQ(in.value().cities[4].y, 4);
  EXPECT_EQ(in.value().name, "unnamed");
}

TEST(Tsplib, NamesWhatIsWrong) {
  const std::string head = "TYPE: TSP\nEDGE_WEIGHT_TYPE: EUC_2D\n", cities = "NODE_COORD_SECTION\n1 0 0\n2 1 0\n3 2 0\n4 3 0\n5 4 0\n";
  const std::vector<std::pair<std::string, std::string>> wrong = {
      {"", "no EDGE_WEIGHT_TYPE"},
      {std::string(10, '\0'), "is not understood"},
      {"\x1b[31mRED: 1\n", "'?[31mRED' is not understood"},
      {head, "no NODE_COORD_SECTION"},
      {"TYPE: ATSP\n", "line 1: TYPE is 'ATSP', not TSP"},
      {"EDGE_WEIGHT_TYPE: GEO\n", "only EUC_2D"},
      {head + cities, "comes before DIMENSION"},
      {head + "DIMENSION: 4\n" + cities, "DIMENSION is '4', not a whole number from 5 to 2000"},
      {head + "DIMENSION: 2001\n", "DIMENSION is '2001'"},
      {head + "DIMENSION: -7\n", "DIMENSION is '-7'"},
      {head + "DIMENSION: 99999999999999999999\n", "DIMENSION is '99999999999999999999'"},
      {head + "DIMENSION: 5x\n", "DIMENSION is '5x'"},
      {head + "DIMENSION: 5\nDIMENSION: 6\n", "DIMENSION comes twice"},
      {head + "DIMENSION: 6\n" + cities, "DIMENSION is 6, but there are 5 cities: is the file cut off?"},
      {head + "DIMENSION: 5\n" + cities + cities, "a second NODE_COORD_SECTION"},
      {head + "DIMENSION: 5\n" + cities + "6 1 1\n", "line 10: city number '6' is not between 1 and 5"},
      {head + "DIMENSION: 5\n" + cities + "5 1 1\n", "city 5 comes twice"},
      {head + "DIMENSION: 5\n" + cities + "0 1 1\n", "city number '0'"},
      {head + "DIMENSION: 5\n" + cities + "1 1\n", "this has 2 words"},
      {head + "DIMENSION: 5\nNODE_COORD_SECTION\n1 nan 0\n", "coordinates 'nan' '0' are not numbers"},
      {head + "DIMENSION: 5\nNODE_COORD_SECTION\n1 inf 0\n", "are not numbers"},
      {head + "DIMENSION: 5\nNODE_COORD_SECTION\n1 1e300 0\n", "are not numbers"},
      {head + "DIMENSION: 5\n1 0 0\n", "numbers outside of NODE_COORD_SECTION"},
      {head + "DIMENSION: 5\nEDGE_WEIGHT_SECTION\n", "keyword 'EDGE_WEIGHT_SECTION' is not understood"},
      {std::string(kInstanceBytesMax + 1, ' '), "more than 4194304"},
  };
  for (const auto& [text, why] : wrong) {
    const auto in = parse_tsplib(text);
    ASSERT_FALSE(in) << text.substr(0, 100);
    EXPECT_NE(in.error().why.find(why), std::string::npos) << in.error().why << "\n  does not say: " << why;
  }
}

TEST(Tsplib, NoPartOfAFileCrashesTheReader) {
  const std::string whole = "NAME: five\nTYPE: TSP\nDIMENSION: 5\nEDGE_WEIGHT_TYPE: EUC_2D\nNODE_COORD_SECTION\n1 0 0\n2 1 0\n3 2 0\n4 3 0\n5 4 0\nEOF\n";
  ASSERT_TRUE(parse_tsplib(whole));
  for (std::size_t size = 0; size < whole.size(); ++size) (void)parse_tsplib(std::string_view(whole).substr(0, size));
  for (std::size_t at = 0; at < whole.size(); ++at) {
    for (const char c : {'\0', '\n', '-', '9', '\xff'}) {
      auto changed = whole;
      changed[at] = c;
      (void)parse_tsplib(changed);
    }
  }
}

TEST(Tsplib, RefusesFilesItCannotRead) {
  EXPECT_NE(load_tsplib("/no/such/file.tsp").error().text().find("there is no such file"), std::string::npos);
  EXPECT_FALSE(load_tsplib("/"));
  EXPECT_FALSE(load_tsplib("/dev/zero"));
}

TEST(Tsplib, WritesEqualToursAsEqualFiles) {
  const auto in = parse_tsplib("TYPE:TSP\nDIMENSION:5\nEDGE_WEIGHT_TYPE:EUC_2D\nNODE_COORD_SECTION\n1 0 0\n2 9 0\n3 9 9\n4 5 5\n5 0 9\n");
  ASSERT_TRUE(in);
  const auto text = tour_file(in.value(), {0, 1, 2, 3, 4});
  EXPECT_NE(text.find("TOUR_SECTION\n1\n2\n3\n4\n5\n-1\nEOF\n"), std::string::npos) << text;
  EXPECT_EQ(tour_file(in.value(), {2, 3, 4, 0, 1}), text);
  EXPECT_EQ(tour_file(in.value(), {1, 0, 4, 3, 2}), text);
}

// ---- The search ----------------------------------------------------------------------------------------------------------------

TEST(AntColony, FindsTheOptimumOfBerlin52) {
  const auto in = instance("berlin52");
  const auto best = search(in, {.seed = 5, .ants = 20000, .party = 100, .q0 = 0.8, .local_search = false}, 6);
  EXPECT_EQ(best.length, 7542);
  EXPECT_TRUE(in.visits_all(best.tour));
  EXPECT_EQ(in.length(best.tour), 7542);
}

TEST(AntColony, ComesWithinOnePercentOfEil51) {
  const auto best = search(instance("eil51"), {.seed = 1, .ants = 20000, .party = 100, .q0 = 0.8, .local_search = false}, 5);
  EXPECT_LE(best.length, 430);
  EXPECT_GE(best.length, 426) << "shorter than the proven optimum: the distances are wrong";
}

TEST(AntColony, FindsTheKnownOptimaWithLocalSearch) {
  for (const auto& [name, optimum] : {std::pair{"berlin52", 7542}, {"eil51", 426}, {"st70", 675}, {"kroA100", 21282}, {"a280", 2579}}) {
    EXPECT_EQ(search(instance(name), {.seed = 1, .ants = 300, .party = 10, .local_search = true}, 3).length, optimum) << name;
  }
}

TEST(AntColony, LearnsFromGenerationToGeneration) {
  const auto in = instance("kroA100");
  const Parameters parameters{.seed = 3, .ants = 2000, .party = 100, .q0 = 0.8, .local_search = false};
  auto blind = parameters;
  blind.alpha = 0;  // trails never grow
  EXPECT_LT(search(in, parameters, 10).length, search(in, blind, 10).length);
}

TEST(AntColony, TheTourDoesNotDependOnThreadsOrOnWhoWalksWithWhom) {
  const auto in = instance("st70");
  for (const bool local_search : {false, true}) {
    const Parameters parameters{.seed = 42, .ants = 530, .party = 25, .local_search = local_search};
    const Terrain terrain(in, parameters.candidates, parameters.beta);
    ASSERT_EQ(parties(parameters), 22) << "the last party is a small one";
    // tasks 0: one call with that many threads; else that many calls, the last share first.
    const auto run = [&](int tasks, int threads) {
      Colony colony(terrain, parameters);
      for (int generation = 0; generation < 4; ++generation) {
        Find best;
        for (int task = std::max(tasks, 1); task >= 1; --task) {
          const int count = std::max(tasks, 1), all = parties(parameters);
          Find find = walk(terrain, parameters, colony.snapshot(), all * (task - 1) / count + 1, all * task / count, threads);
          if (find.better_than(best)) best = std::move(find);
        }
        colony.learn(best);
      }
      return std::tuple{colony.best().length, colony.best().ant, colony.best().tour, colony.snapshot().trails};
    };
    const auto serial = run(0, 1);
    for (const auto& [tasks, threads] : {std::pair{0, 2}, {0, 5}, {2, 1}, {7, 1}, {22, 1}, {3, 3}}) {
      EXPECT_EQ(run(tasks, threads), serial) << tasks << " tasks, " << threads << " threads";
    }
  }
}

TEST(AntColony, AnotherSeedOrGenerationIsAnotherWalk) {
  const auto in = instance("kroA100");
  const Parameters parameters{.seed = 1, .ants = 20, .party = 1, .local_search = false};
  auto other = parameters;
  other.seed = 2;
  const Terrain terrain(in, parameters.candidates, parameters.beta);
  Snapshot snapshot = Colony(terrain, parameters).snapshot();
  const auto first = walk(terrain, parameters, snapshot, 1, 20);
  EXPECT_NE(walk(terrain, other, snapshot, 1, 20).tour, first.tour);
  ++snapshot.generation;
  EXPECT_NE(walk(terrain, parameters, snapshot, 1, 20).tour, first.tour);
}

TEST(AntColony, OfEqualToursTheLowerAntWins) {
  EXPECT_TRUE((Find{1, 100, {}}).better_than(Find{2, 100, {}}));
  EXPECT_FALSE((Find{2, 100, {}}).better_than(Find{1, 100, {}}));
  EXPECT_TRUE((Find{9, 99, {}}).better_than(Find{1, 100, {}}));
  EXPECT_TRUE((Find{9, 99, {}}).better_than(Find{}));
  EXPECT_FALSE(Find{}.better_than(Find{9, 99, {}}));
}

TEST(AntColony, LocalSearchShortensAndKeepsEveryCity) {
  const auto in = instance("a280");
  const Terrain terrain(in, 15, 2);
  std::uint64_t state = 7;
  for (int round = 0; round < 20; ++round) {
    Tour tour(in.cities.size());
    std::iota(tour.begin(), tour.end(), 0);
    for (std::size_t i = tour.size() - 1; i > 0; --i) std::swap(tour[i], tour[(state = state * 6364136223846793005u + 1) % (i + 1)]);
    const auto before = in.length(tour);
    improve(terrain, tour);
    ASSERT_TRUE(in.visits_all(tour));
    ASSERT_LT(in.length(tour), before);
    EXPECT_LT(in.length(tour), 2579 * 12 / 10) << "2-opt with Or-opt stays within 20 % of the optimum here";
    const auto local_optimum = tour;
    improve(terrain, tour);
    EXPECT_EQ(tour, local_optimum);
  }
}

TEST(AntColony, WalksWhereCitiesCoincideOrAreFew) {
  const auto in = parse_tsplib("TYPE:TSP\nDIMENSION:6\nEDGE_WEIGHT_TYPE:EUC_2D\nNODE_COORD_SECTION\n1 3 3\n2 3 3\n3 3 3\n4 3 3\n5 3 3\n6 3 3\n");
  ASSERT_TRUE(in);
  for (const int candidates : {1, 5}) {
    for (const bool local_search : {false, true}) {
      const auto best = search(in.value(), {.ants = 10, .party = 3, .candidates = candidates, .local_search = local_search}, 3);
      EXPECT_EQ(best.length, 0);
      EXPECT_TRUE(in.value().visits_all(best.tour));
    }
  }
}

TEST(AntColony, ASnapshotStaysSmall) {
  const auto in = instance("a280");
  const Parameters parameters{.ants = 40, .party = 10, .local_search = false};
  const Terrain terrain(in, parameters.candidates, parameters.beta);
  Colony colony(terrain, parameters);
  for (int i = 0; i < 100; ++i) colony.learn(walk(terrain, parameters, colony.snapshot(), 1, parties(parameters)));
  EXPECT_LT(colony.snapshot().trails.size(), 5 * in.cities.size()) << "edges that lost their place on the best tour are forgotten in time";
}

}  // namespace
}  // namespace souk::ants
