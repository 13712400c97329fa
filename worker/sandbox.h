// What keeps a task from its host: bubblewrap's namespaces, a filter of system calls and limits. docs/SECURITY.md has what that holds and what not.
//
// A slot's runner is started in one (runner_start.h), serves tasks of one job, and is replaced when the next task is of another, or when a task left anything in it.
#pragma once
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "protocol/offer.h"
#include "protocol/result.h"
#include "worker/cgroup.h"
#include "worker/launch.h"

namespace souk {

inline constexpr const char* kBoxWork = "/work";  // where a sandbox has its folder
inline constexpr int kFilterFd = 6;               // of bwrap

/// Of a worker that is root: what it starts in a sandbox is root no more. Else the files of /proc and whatever of the system is root's would be its own, and no limit
/// of processes would hold. Since that user cannot reach the worker's folders, what it needs of them is mounted where it can, for it alone.
struct Gate {
  std::string from, to, runner, runner_at;  // mounted onto each other; empty: no gate
  std::string images, images_at;            // so too; empty: none
  unsigned user = 0;
  bool closed() const { return !from.empty(); }
};
/// In the child, before bwrap: system calls only. yields: 0 or an errno
int pass(const Gate& gate);

class Sandbox {
 public:
  struct Setup {
    std::filesystem::path runner;              // the program souk-runner
    std::filesystem::path work;                // of the executor, which must exist already: it clears that folder
    std::vector<std::filesystem::path> shown;  // folders of this host that tasks may read besides the system's own
    std::string path;                          // where bwrap is looked for; empty: PATH of this process
    std::filesystem::path images{};            // the folder that holds those of add_image(), which must exist already; empty: none will come
  };
  /// Writes its files into `work` and runs a sandbox once, with all that it is made of.
  /// fails: with the reason why none works here, for people
  static Result<Sandbox> find(Setup setup);

  /// Tasks can have it as their system from now on, in place of this host's. root: a folder in Setup::images, as make_system() leaves it (images.h); it must stay as it is
  /// fails: where no sandbox works with it, or it has no room for what is shown
  Result<Done> add_image(const std::string& name, const std::filesystem::path& root);
  bool has_image(const std::string& name) const { return images_.contains(name); }

  SandboxLevel level() const { return groups_.kind() == ControlGroups::Kind::none ? SandboxLevel::bwrap : SandboxLevel::cgroup; }
  /// What is in force, for people: `bwrap 0.8.0, seccomp, memory and processes by control groups (v1)`.
  std::string note() const;
  const ControlGroups& groups() const { return groups_; }

  /// bwrap and its arguments, up to the runner's. It expects the filter at kFilterFd.
  /// folder: its name in kSandboxFolder, to be at kBoxWork
  std::vector<std::string> command(const std::string& folder, const Boxed& box) const;
  const Gate& gate() const { return gate_; }
  /// The filter, to be given away; its place in the file is its own.
  Fd filter() const;

 private:
  Result<Done> write_files();
  Result<Done> try_out(const std::string& image = "");
  void add_host(std::vector<std::string>& words) const;
  struct ImageRoot {
    std::string folder;                                      // its name in Setup::images
    std::vector<std::string> names;                          // of what lies in it, and is mounted
    std::vector<std::pair<std::string, std::string>> links;  // where they lead, and their names
  };

  Setup setup_;
  std::string bwrap_, version_;
  std::filesystem::path files_;
  Gate gate_;
  ControlGroups groups_;
  std::map<std::string, ImageRoot> images_;
};

}  // namespace souk
