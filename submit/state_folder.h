// The state folder of an embedded grid: files only their owner can read, passwords, ports, and the lock of the one supervisor.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"
#include "submit/embedded.h"

namespace souk {

/// Replaces a file in one step (0600): a reader sees the old or the new text, also across a crash of ours.
Result<Done> write_file(const std::filesystem::path& file, std::string_view text);
Result<std::string> read_file(const std::filesystem::path& file);
/// The last non-empty lines of a log, at most `lines` of the last 8 KiB, without control characters.
std::vector<std::string> last_lines(const std::filesystem::path& log, std::size_t lines);

/// Held by the supervisor for as long as it lives, and told by the kernel to whoever asks. It belongs to the open file, so it
/// survives fork and exec, and ends with the last copy of the descriptor.
class FolderLock {
 public:
  FolderLock() = default;
  explicit FolderLock(int descriptor) : descriptor_(descriptor) {}  // one that was handed down, already locked
  FolderLock(FolderLock&& other) noexcept : descriptor_(std::exchange(other.descriptor_, -1)) {}
  FolderLock& operator=(FolderLock&& other) noexcept {
    std::swap(descriptor_, other.descriptor_);
    return *this;
  }
  ~FolderLock();
  /// Takes the lock, with an empty file; not holds() if somebody else has it.
  static Result<FolderLock> take(const Layout& at);
  static bool held(const Layout& at);  // by anybody; takes nothing
  bool holds() const { return descriptor_ >= 0; }
  int descriptor() const { return descriptor_; }
  void write_pid(int pid);
  static int read_pid(const Layout& at);  // 0: none written yet

 private:
  int descriptor_ = -1;
};

/// Makes the folder (0700), or checks that it is ours: a directory of this user, empty or a state folder already.
Result<Done> open_state_folder(const Layout& at);

/// What the next start should find as it was.
struct Settings {
  std::string user;
  Ports ports;
  bool hosted = false;  // as it was started last
};
/// Those of the folder, or new ones: the account name of this unix user, no ports.
Result<Settings> load_settings(const Layout& at);

/// Two free ports of the loopback address: those of `wished` that are free, others otherwise.
/// fails: if 200 tries found none
Result<Ports> choose_ports(Ports wished);

/// Makes all that is missing and writes all that depends on `grid`: folders, passwords, accounts, profiles, Prosody's configuration, settings.
Result<Done> write_grid(const EmbeddedGrid& grid);

/// 192 random bits from the kernel, as 32 letters of base64url.
Result<std::string> new_password();
/// password: printable ASCII, so that SASLprep (RFC 4013) leaves it as it is
Result<ScramKeys> scram_keys(std::string_view password, int iterations);

struct Person {
  std::string name;
  std::filesystem::path profile, password;
  bool owner = false;
};
/// Makes an account on the embedded server, and a profile for it; valid at once, also while the server runs.
/// password: empty for a new random one
Result<Person> add_person(const Layout& at, const Settings& settings, std::string_view name, std::string password);
Result<Done> remove_person(const Layout& at, const Settings& settings, std::string_view name);
std::vector<Person> people(const Layout& at, const Settings& settings);

/// The program of that name in the first folder of `path`, as $PATH has them, that has it; empty if none.
std::string search_path(const std::string& name, std::string_view path);
/// Finds what `souk up` starts: our programs in $SOUK_PROGRAMS, else beside this program, else in $PATH; Prosody as $SOUK_PROSODY says, else in $PATH.
Result<ProgramPaths> find_programs();

}  // namespace souk
