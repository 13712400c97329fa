// up, down, status, user: the grid that `souk up` starts on this machine.
#pragma once
#include <functional>
#include <string>

#include "protocol/result.h"
#include "submit/common.h"

namespace CLI {
class App;
}

namespace souk {

/// The grid's own figures (workers, slots, tasks), for `souk status`: asked only when a manager should be there.
/// Yields text for people (whole lines), or, with common.json, one JSON object. Must answer within about 2 s.
using GridFigures = std::function<Result<std::string>(const Common& common)>;

/// Registers the commands. `common` outlives `app`. Without `figures`, status tells of this machine only.
void add_grid_commands(CLI::App& app, Common& common, GridFigures figures = {});

}  // namespace souk
