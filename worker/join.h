// souk-worker join LINK: from an invitation to a worker, in one command.
#pragma once

namespace souk::worker {

/// argv[0] is `join`. Yields the exit code; when it goes on as the worker itself, it does not come back.
int join_main(int argc, char** argv);

}  // namespace souk::worker
