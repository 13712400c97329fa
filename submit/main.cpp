// souk: the one program people use. Parses options and connects the parts; each family of commands registers itself.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>

#include "submit/common.h"

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
    const auto dir = souk::state_dir(common.dir);
    if (!dir) return souk::fail(common, dir.error(), souk::exit_code::usage);
    common.dir = dir.value();
    return common.action ? common.action() : souk::exit_code::usage;
  } catch (const CLI::ParseError& stop) {
    return app.exit(stop) == 0 ? souk::exit_code::good : souk::exit_code::usage;
  } catch (const std::exception& failure) {
    return souk::fail(common, souk::Error{"stopped by an unexpected failure", failure.what(), ""}, souk::exit_code::failed);
  }
}
