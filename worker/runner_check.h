// Whether a sandbox holds what it promises, seen from inside. A part of souk-runner.
#pragma once

namespace souk::runner {

/// For the worker, once at its start: 0, or the number of what does not hold, with its words on stderr.
int check_sandbox();

}  // namespace souk::runner
