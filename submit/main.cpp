// souk: the one program people use. Parses options and connects the parts; each family of commands registers itself.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "submit/common.h"
#include "submit/grid_commands.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is a failed write, not our death
  souk::Common common;
  CLI::App app{"Souk: run batches of tasks on a grid of machines over XMPP", "souk"};
  app.set_version_flag("--version", std::string("souk ") + SOUK_VERSION);
  app.require_subcommand(1);
  app.fallthrough();  // so that `souk up --dir D` is `souk --dir D up`
  app.add_option("--dir", common.dir, "State folder (default: $SOUK_DIR, else ~/.souk)");
  app.add_option("--profile", common.profile, "Profile file: who you are and which grid (default: user.toml of the state folder)");
  app.add_flag("--json", common.json, "Print JSON, one object per line");
  souk::add_grid_commands(app, common);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& stop) {
    const int code = app.exit(stop);
    return code == 0 ? 0 : 2;
  } catch (const std::exception& failure) {
    std::fprintf(stderr, "souk: %s\n", failure.what());
    return 1;
  }
  return common.exit_code;
}
