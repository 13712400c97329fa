// From the common options to a conversation with the grid they mean.
#pragma once
#include "protocol/result.h"
#include "submit/common.h"
#include "submit/session.h"

namespace souk {

/// The profile of the grid that is meant.
/// fails: with `no grid in ~/.souk; start one ...` when there is none, or when its embedded grid does not run, which nobody need wait for
Result<Profile> find_grid(const Common& common);

/// Prints why a call failed and yields the exit code that says so.
int fail(const Common& common, const Session& session, const Error& error);

}  // namespace souk
