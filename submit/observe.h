// Looks at the grid of a state folder from outside: what its supervisor wrote, and what this machine says to that.
#pragma once
#include "protocol/result.h"
#include "submit/embedded.h"
#include "submit/grid_state.h"

namespace souk {

Result<GridState> read_state(const Layout& at);
Observed observe(const Layout& at, const GridState& state);
UnixMs unix_ms_now();

}  // namespace souk
