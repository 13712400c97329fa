// The grids somebody has an account on: a folder for each below the configuration folder, with profile, password and authority, all 0600.
#pragma once
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "protocol/result.h"
#include "protocol/xmpp_link.h"
#include "submit/common.h"
#include "submit/conversation.h"

namespace souk {

inline constexpr const char* kLocalGrid = "local";  // the one of `souk up`, which is in the state folder

struct KnownGrid {
  std::string name;
  std::filesystem::path profile;
  bool usual = false;  // what commands mean when nothing is said
};

class Grids {
 public:
  /// In $SOUK_CONFIG, else $XDG_CONFIG_HOME/souk, else ~/.config/souk. Reads and makes nothing yet.
  static Result<Grids> open();
  explicit Grids(std::filesystem::path folder) : folder_(std::move(folder)) {}

  std::vector<KnownGrid> all() const;  // by name
  /// The profile of that grid. fails: naming those there are
  Result<std::filesystem::path> profile(const std::string& name) const;
  /// What commands mean when nothing is said; empty: the grid of `souk up`.
  std::string usual() const;
  Result<Done> set_usual(const std::string& name);
  /// Where the account on that grid will be kept; says early that it cannot be.
  Result<Done> make_folder(const std::string& name) const;
  /// Writes profile, password and authority anew, each file in one step.
  Result<std::filesystem::path> save(const std::string& name, const Account& account, const GridAddress& grid);
  Result<Done> forget(const std::string& name);

 private:
  std::filesystem::path folder_;
};

/// A name for a grid: 1 to 64 of `a-z 0-9 . _ -`, beginning with a letter or digit, and not `local`.
Result<std::string> check_grid_name(const std::string& name);

/// The text of a profile for an account; files beside it: `password`, and `ca.pem` if the account has an authority.
std::string render_grid_profile(const Account& account, const GridAddress& grid);

/// invite, join
void add_invite_commands(CLI::App& app, Common& common);

/// Settles which grid a command means: --profile, else --grid or $SOUK_GRID, else the folder of --dir or $SOUK_DIR if one is given, else the usual one.
Result<Done> choose_grid(Common& common, bool folder_given);

/// The first line of a file, - for stdin; empty name: asked for on the terminal, without showing it.
Result<std::string> get_password(const std::string& file, const std::string& whose);

}  // namespace souk
