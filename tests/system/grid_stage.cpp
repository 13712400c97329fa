#include "tests/system/grid_stage.h"

#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <thread>

extern char** environ;

namespace souk::test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

std::string text_of(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  std::ostringstream text;
  text << in.rdbuf();
  return text.str();
}

}  // namespace

GridStage::GridStage(fs::path programs, const std::string& name) : name_(name) {
  std::string pattern = (fs::temp_directory_path() / "souk-test-XXXXXX").string();
  if (!::mkdtemp(pattern.data())) throw std::runtime_error("cannot make a temporary folder");
  folder_ = pattern;
  fs::create_directory(folder_ / "orders");
  mark_ = "SOUK_TEST_STAGE=" + folder_.string();
  environment["SOUK_TEST_STAGE"] = folder_.string();
  environment["FAKE_DIR"] = (folder_ / "orders").string();
  if (!programs.empty()) environment["SOUK_PROGRAMS"] = programs.string();

  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("cannot make a pipe");
  guard_ = ::fork();
  if (guard_ == 0) {
    ::setsid();  // what kills the test's process group leaves the guard
    ::close(ends[1]);
    char none;
    while (::read(ends[0], &none, 1) < 0 && errno == EINTR) {}
    kill_all();
    std::error_code ignored;
    fs::remove_all(folder_, ignored);
    ::_exit(0);
  }
  ::close(ends[0]);
  guard_pipe_ = ends[1];
}

void GridStage::kill_all() const {
  for (int round = 0; round < 100; ++round) {
    const auto left = processes();
    if (left.empty()) return;
    for (const pid_t pid : left) ::kill(pid, SIGKILL);
    std::this_thread::sleep_for(10ms);
  }
}

GridStage::~GridStage() {
  if (!processes().empty() && fs::exists(dir())) (void)souk({"down"});
  ::close(guard_pipe_);
  if (guard_ > 0) ::waitpid(guard_, nullptr, 0);  // it kills what is left, and removes the folder
}

pid_t GridStage::start(std::vector<std::string> arguments, const fs::path& output) {
  std::vector<std::string> words{SOUK_PROGRAM, "--dir", dir().string()};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<std::string> variables;
  for (char** entry = environ; *entry; ++entry) {
    const std::string variable = *entry;
    const std::string key = variable.substr(0, variable.find('='));
    if (!environment.contains(key) && !key.starts_with("SOUK_")) variables.push_back(variable);
  }
  for (const auto& [key, value] : environment) variables.push_back(key + "=" + value);
  std::vector<char*> argv, envp;
  for (auto& word : words) argv.push_back(word.data());
  for (auto& variable : variables) envp.push_back(variable.data());
  argv.push_back(nullptr);
  envp.push_back(nullptr);
  const std::string out = output.string() + ".out", err = output.string() + ".err";
  const pid_t pid = ::fork();
  if (pid < 0) throw std::runtime_error("cannot fork");
  if (pid == 0) {
    ::dup2(::open("/dev/null", O_RDONLY), 0);
    ::dup2(::open(out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 1);
    ::dup2(::open(err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600), 2);
    ::syscall(SYS_close_range, 3u, ~0u, 0u);
    ::execve(argv[0], argv.data(), envp.data());
    ::_exit(127);
  }
  return pid;
}

Ended GridStage::wait(pid_t pid) {
  const auto begin = Clock::now();
  int status = 0;
  while (::waitpid(pid, &status, WNOHANG) == 0) {
    if (Clock::now() - begin > 60s) ::kill(pid, SIGKILL);
    std::this_thread::sleep_for(1ms);
  }
  Ended ended;
  ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  ended.took = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now() - begin);
  return ended;
}

Ended GridStage::souk(std::vector<std::string> arguments) {
  const fs::path output = folder_ / ("output-" + std::to_string(::getpid()));
  Ended ended = wait(start(std::move(arguments), output));
  ended.out = text_of(output.string() + ".out");
  ended.err = text_of(output.string() + ".err");
  return ended;
}

nlohmann::json GridStage::status() { return nlohmann::json::parse(souk({"status", "--local", "--json"}).out, nullptr, false); }

int GridStage::pid_of(const std::string& program) {
  const auto answer = status();
  if (!answer.is_object()) return 0;
  if (program == "supervisor") return answer.value("supervisor", 0);
  for (const auto& entry : answer["programs"]) {
    if (entry["name"] == program && entry["alive"] == true) return entry["pid"];
  }
  return 0;
}

bool GridStage::signal(const std::string& program, int number) {
  const int pid = pid_of(program);
  return pid > 0 && ::kill(pid, number) == 0;  // 0 would be this process and all that started it
}

std::vector<pid_t> GridStage::processes() const {
  std::vector<pid_t> all;
  std::error_code ignored;
  for (auto entry = fs::directory_iterator("/proc", ignored); !ignored && entry != fs::directory_iterator(); entry.increment(ignored)) {
    const std::string name = entry->path().filename().string();
    pid_t pid = 0;
    if (std::from_chars(name.data(), name.data() + name.size(), pid).ptr != name.data() + name.size()) continue;
    std::string variables = text_of(entry->path() / "environ");
    if (('\0' + variables).find('\0' + mark_ + '\0') != std::string::npos) all.push_back(pid);
  }
  return all;
}

std::string GridStage::command_line(pid_t pid) {
  std::string words = text_of("/proc/" + std::to_string(pid) + "/cmdline");
  for (char& c : words) c = c == '\0' ? ' ' : c;
  return words;
}

bool GridStage::eventually(const std::function<bool()>& holds) {
  const auto deadline = Clock::now() + 10s;
  while (!holds()) {
    if (Clock::now() > deadline) return false;
    std::this_thread::sleep_for(5ms);
  }
  return true;
}

std::string GridStage::file(const fs::path& relative) const { return text_of(dir() / relative); }

void GridStage::order(const std::string& name, const std::string& text) const { std::ofstream(folder_ / "orders" / name) << text; }

void GridStage::recall(const std::string& name) const { fs::remove(folder_ / "orders" / name); }

}  // namespace souk::test
