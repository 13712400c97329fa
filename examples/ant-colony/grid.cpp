#include "examples/ant-colony/grid.h"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

extern char** environ;

namespace souk::ants {
namespace {

std::string content_of(const std::filesystem::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

/// The last line that says something, for an error message.
std::string last_line(const std::string& text) {
  const auto end = text.find_last_not_of("\n\r ");
  if (end == std::string::npos) return "it said nothing";
  const auto before = text.find_last_of("\n\r", end);
  return text.substr(before == std::string::npos ? 0 : before + 1, end - (before == std::string::npos ? 0 : before + 1) + 1).substr(0, 500);
}

volatile sig_atomic_t caught = 0;

}  // namespace

void catch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int number) { caught = number; };  // no SA_RESTART: waiting ends
  for (const int number : {SIGINT, SIGTERM}) sigaction(number, &action, nullptr);
}

bool interrupted() { return caught != 0; }

Grid::Grid(std::string souk, std::string program) : souk_(std::move(souk)), program_(std::move(program)) {
  std::string pattern = (std::filesystem::temp_directory_path() / "ant-colony-XXXXXX").string();
  if (mkdtemp(pattern.data()) == nullptr) throw std::filesystem::filesystem_error("cannot make a temporary folder", pattern, {errno, std::generic_category()});
  folder_ = pattern;
}

Grid::~Grid() {
  std::error_code ignored;  // a folder that stays behind in /tmp is no reason to fail
  std::filesystem::remove_all(folder_, ignored);
}

Result<Grid::Ended> Grid::call(const std::vector<std::string>& arguments) const {
  const auto out = folder_ / "stdout", err = folder_ / "stderr";
  std::vector<char*> argv{const_cast<char*>(souk_.c_str())};
  for (const auto& word : arguments) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  // Files instead of pipes: whatever the size of the answer, nobody waits for a reader.
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&actions, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  pid_t child = 0;
  const int failure = posix_spawnp(&child, souk_.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (failure != 0) return Error{"cannot start '" + souk_ + "'", std::strerror(failure), "put souk into PATH, or name it with --souk or $SOUK"};
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return Error{"lost '" + souk_ + "'", std::strerror(errno), ""};
    if (interrupted()) kill(child, caught);  // souk cancels the job; from a terminal it has the signal already
  }
  if (interrupted()) return Error{"stopped", "interrupted", ""};
  return Ended{WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), content_of(out), content_of(err)};
}

Result<int> Grid::slots() const {
  const auto ended = call({"workers", "--json"});
  if (!ended) return ended.error();
  if (ended.value().code != 0) return Error{"cannot ask the grid for its workers", last_line(ended.value().err + ended.value().out), "start a grid with `souk up`"};
  int slots = 0;
  std::istringstream lines(ended.value().out);
  for (std::string line; std::getline(lines, line);) {
    const auto worker = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (worker.is_object() && worker.contains("slots") && worker["slots"].is_number_integer()) slots += worker["slots"].get<int>();
  }
  if (slots < 1) return Error{"the grid has no workers", "`souk workers` lists none", "wait for one, or start one"};
  return slots;
}

Result<std::string> Grid::run(const std::string& request, int tasks, const std::string& name) const {
  const auto input = folder_ / "request";
  {
    std::ofstream file(input, std::ios::binary | std::ios::trunc);
    file << request;
    if (!file.flush()) return Error{"cannot write '" + input.string() + "'", std::strerror(errno), "make room in the temporary folder"};
  }
  // A lost or failed task is worth a second try: it gives the same answer wherever it runs.
  auto ended = call({"run", "--name", name, "--array", "1-" + std::to_string(tasks), "--stdin", input.string(), "--retries", "2", "--", program_, "--evaluate", "{#}",
                     "--of", std::to_string(tasks)});
  if (!ended) return ended.error();
  if (ended.value().code != 0)
    return Error{"the grid did not finish " + name, last_line(ended.value().err), "`souk jobs` and `souk status` tell more (souk exited with " + std::to_string(ended.value().code) + ")"};
  return std::move(ended.value().out);
}

}  // namespace souk::ants
