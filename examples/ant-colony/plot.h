// A tour as a picture.
#pragma once
#include <string>

#include "examples/ant-colony/tsp.h"

namespace souk::ants {

/// An SVG of its own, at most 900 by 900 units: the closed tour, the cities, and a caption of one line.
std::string plot(const Instance& instance, const Tour& tour, const std::string& caption);

}  // namespace souk::ants
