// What every command of `souk` shares: the options that stand before or after any of them.
#pragma once
#include <filesystem>
#include <string>

#include "protocol/result.h"

namespace souk {

struct Common {
  std::filesystem::path dir;  // --dir as given; empty: see state_dir()
  std::string profile;        // --profile FILE; empty: `user.toml` in the state folder
  bool json = false;          // one JSON object per line instead of text for people
  int exit_code = 0;          // a command's callback sets it; main returns it. 0 all well, 1 some failed, 2 usage, 3 grid unreachable
};

/// The state folder, absolute: --dir, else $SOUK_DIR, else ~/.souk. Fails if there is no home to put it in.
Result<std::filesystem::path> state_dir(const Common& common);

/// Prints an error for people (stderr), or as {"error":{"what","why","remedy"}} with --json (stdout), and sets the exit code.
void fail(Common& common, const Error& error, int exit_code);

}  // namespace souk
