// souk: the one program people use. Parses options and connects the parts; each family of commands registers itself.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "protocol/standard_streams.h"
#include "submit/common.h"
#include "submit/grids.h"
#include "submit/words.h"

namespace {

/// Help that shows a command's own usage and ends with its examples; the options of every command are told once.
class Help : public CLI::Formatter {
 public:
  Help() { column_width(30); }
  std::string make_usage(const CLI::App* app, std::string name) const override {
    // CLI11 does not know of the words after the options.
    if (app->get_name() == "map")
      return "Usage: souk map [OPTIONS] COMMAND... ::: ARGUMENT...    one task for each argument\n"
             "       souk map [OPTIONS] COMMAND... :::: FILE...       one task for each line of these files\n"
             "       souk map [OPTIONS] COMMAND...                    one task for each line of standard input\n";
    if (souk::takes_command(app->get_name())) return "Usage: souk " + app->get_name() + " [OPTIONS] COMMAND [ARGUMENT...]\n";
    return CLI::Formatter::make_usage(app, std::move(name));
  }
  std::string make_option_name(const CLI::Option* option, bool is_positional) const override {
    if (is_positional) return option->get_name(true);
    std::string name;
    for (const auto& letter : option->get_snames()) name += (name.empty() ? "-" : ", -") + letter;
    for (const auto& word : option->get_lnames()) name += (name.empty() ? "--" : ", --") + word;
    return name;
  }
  std::string make_option_opts(const CLI::Option* option) const override {
    return option->get_type_size() == 0 || option->get_type_name().empty() ? "" : " " + option->get_type_name();
  }
  std::string make_footer(const CLI::App* app) const override {
    std::string text = CLI::Formatter::make_footer(app);
    if (app->get_parent() != nullptr) text += "\nOptions of every command: --dir FOLDER, --profile FILE, --grid NAME, --json (see `souk --help`)\n";
    return text;
  }
};

constexpr const char* kExamples =
    "Examples:\n"
    "  souk up                                  start a grid of your own on this machine\n"
    "  souk run hostname                        run one task and print what it wrote\n"
    "  souk map 'wc -l {}' ::: *.txt            one task a file\n"
    "  souk submit --array 1-1000 ./sim {}      a thousand tasks; prints the job's number\n"
    "  souk wait 12 --progress; souk cat 12     see it through and read its output\n"
    "\nExit codes: 0 all good, 1 some task failed, 2 wrong usage, 3 no grid; `souk run` of one task passes the task's own through.";

int parse_and_run(CLI::App& app, souk::Common& common, std::vector<std::string> words) {
  auto cut = souk::cut_words(app, words);
  if (!cut) return souk::fail(common, cut.error(), souk::exit_code::usage);
  common.words = std::move(cut.value().words);
  auto ours = std::move(cut.value().ours);
  if (ours.empty()) ours.emplace_back("--help");
  try {
    std::reverse(ours.begin(), ours.end());  // CLI11 takes them from the back
    app.parse(ours);
  } catch (const CLI::ParseError& stop) {
    if (stop.get_exit_code() == 0) {
      app.exit(stop);
      return words.empty() ? souk::exit_code::usage : souk::exit_code::good;
    }
    std::string help = "souk ";
    for (const auto* command : app.get_subcommands()) help += command->get_name() + " ";
    return souk::fail(common, souk::Error{stop.what(), "", "see `" + help + "--help`"}, souk::exit_code::usage);
  }
  const char* const folder = std::getenv("SOUK_DIR");
  const bool folder_given = !common.dir.empty() || (folder != nullptr && *folder != 0);
  // `login` names a grid that is not there yet; the others of these are not about one.
  const std::string command = app.get_subcommands().empty() ? "" : app.get_subcommands().front()->get_name();
  if (command != "login" && command != "join" && command != "logout" && command != "grids")
    if (const auto chosen = souk::choose_grid(common, folder_given); !chosen) return souk::fail(common, chosen.error(), souk::exit_code::usage);
  const auto dir = souk::state_dir(common.dir);
  if (!dir) return souk::fail(common, dir.error(), souk::exit_code::usage);
  common.dir = dir.value();
  return common.action ? common.action() : souk::exit_code::usage;
}

}  // namespace

int main(int argc, char** argv) {
  souk::keep_standard_streams();
  std::signal(SIGPIPE, SIG_IGN);  // a reader that went away is a failed write, not our death
  souk::Common common;
  try {
    CLI::App app{"Souk: run batches of tasks on a grid of machines over XMPP", "souk"};
    app.formatter(std::make_shared<Help>());  // before the commands are added, which inherit it
    app.set_version_flag("--version", std::string("souk ") + SOUK_VERSION);
    app.require_subcommand(1);
    app.fallthrough();  // so that `souk up --dir D` is `souk --dir D up`
    app.footer(kExamples);
    app.add_option("--dir", common.dir, "State folder (default: $SOUK_DIR, else ~/.souk)")->type_name("FOLDER");
    app.add_option("--profile", common.profile, "Who you are and which grid (default: user.toml of the state folder)")->type_name("FILE");
    app.add_option("--grid", common.grid, "A grid you are logged in to (`souk grids`); local: the one of `souk up`")->type_name("NAME");
    app.add_flag("--json", common.json, "Print JSON, one object a line");
    souk::add_grid_commands(app, common);
    for (auto* command : app.get_subcommands([](CLI::App*) { return true; }))
      if (command->get_group() == "Subcommands") command->group("The grid");  // CLI11's name for those without a group
    souk::add_job_commands(app, common);
    souk::add_login_commands(app, common);
    souk::add_invite_commands(app, common);
    souk::add_server_commands(app, common);
    std::vector<std::string> words(argv + 1, argv + argc);
    if (!words.empty() && words.front() == "--complete") {  // from the shell's completion script
      words.erase(words.begin());
      for (const auto& candidate : souk::complete(app, words)) std::puts(candidate.c_str());
      return souk::exit_code::good;
    }
    return parse_and_run(app, common, std::move(words));
  } catch (const std::exception& failure) {
    return souk::fail(common, souk::Error{"stopped by an unexpected failure", failure.what(), ""}, souk::exit_code::failed);
  }
}
