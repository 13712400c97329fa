// Seeds that once broke a law, by what went wrong. A seed means another run when plans are drawn differently; then it is only one more seed.
#pragma once
#include <cstdint>
#include <vector>

namespace souk::simulation {

struct Regression {
  const char* name;  // as a test is named
  std::uint64_t seed;
  int kinds = 1;  // of faults that there were to draw when it was found
};
inline const std::vector<Regression> kRegressions = {
    {"WhatSteppedAsideFindsItsWorkerAgain", 97},
    {"SpeculationLeavesNoStaleHints", 23},
    {"TheOnlyWorkerIsNotSetAside", 25},
    {"ARetryDelayIsKeptBehindTheCursor", 281},
    {"RoomAfterAHandBackIsSeen", 581},
    {"RoomKeptForAClassThatEmptiedIsSeen", 400},
    {"ASpeculatedTaskThatAlwaysFailsEnds", 948},
    {"ASilentWorkerThatHoldsNothingIsHeardAgain", 123},
    {"ALeaseThatCrossesAHelloUngreetsNobody", 3749},
};

}  // namespace souk::simulation
