// How long a manager needs after kill -9 until it has its store back: real process, full stores, no server.
// restart_bench [NAME]: only what has NAME in its name
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include "manager/journal.h"
#include "protocol/grid.pb.h"

namespace {

using namespace souk;
using Clock = std::chrono::steady_clock;

constexpr std::uint64_t kEnded = 10'000, kEndedTasks = 10;

struct Filler {
  boost::asio::io_context loop{};
  Journal::Restored restored{};
  std::unique_ptr<Journal> journal{};
  std::uint64_t last = 0;

  void commit() {
    bool done = false;
    journal->commit([&] { done = true; });
    auto work = boost::asio::make_work_guard(loop);
    for (loop.restart(); !done;) loop.run_one();
  }
  std::uint64_t add(const wire::Job& job, std::uint64_t tasks) {
    JobRow row;
    row.id = {++last}, row.owner = "ada@souk.localhost", row.key = "key-" + std::to_string(last), row.command = "/usr/bin/simulate {}", row.tasks = tasks;
    row.submitted_ms = 1'800'000'000'000, row.spec = job.SerializeAsString();
    journal->add(std::move(row));
    return last;
  }
  static wire::Job job() {
    wire::Job job;
    auto& group = *job.add_groups();
    for (const char* word : {"/usr/bin/simulate", "--out", "/data/{}.dat", "{}"}) group.mutable_command()->add_argv(word);
    return job;
  }
  void range(std::uint64_t tasks) {
    wire::Job array = job();
    array.mutable_groups(0)->mutable_range()->set_first(1), array.mutable_groups(0)->mutable_range()->set_last(static_cast<std::int64_t>(tasks));
    add(array, tasks);
  }
  void list(std::uint64_t tasks) {
    wire::Job list = job();
    for (std::uint64_t task = 1; task <= tasks; ++task) list.mutable_groups(0)->mutable_lines()->add_line("/data/measured/run-" + std::to_string(task) + ".csv");
    add(list, tasks);
  }
  void outcomes(std::uint64_t job, std::uint64_t tasks) {
    for (std::uint64_t task = 1; task <= tasks; ++task) {
      journal->add({{{job}, {task}}, TaskState::succeeded, 1, "worker-7", std::to_string(task), std::string(40, 'm'), std::string(60, 'o'), ""});
      if (task % 20'000 == 0) commit();
    }
    commit();
  }
  void ended() {
    for (std::uint64_t at = 0; at < kEnded; ++at) {
      list(kEndedTasks);
      outcomes(last, kEndedTasks);
      JobRow row;
      row.id = {last}, row.started_ms = row.ended_ms = 1'800'000'000'001, row.state = TaskState::succeeded, row.succeeded = kEndedTasks;
      journal->end(row), journal->told({last});
    }
    commit();
  }
};

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

std::uint64_t rss_kib(pid_t pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  for (std::string word; status >> word;)
    if (word == "VmRSS:") {
      std::uint64_t kib = 0;
      status >> kib;
      return kib;
    }
  return 0;
}

struct Restart {
  double ms, cpu_ms;
  std::uint64_t memory_kib;
};
/// From fork to the log line that says that the store is read, on the wall's clock and of the processor.
Restart restart(const std::string& folder) {
  int ends[2];
  if (::pipe(ends) != 0) std::abort();
  const auto began = Clock::now();
  const pid_t child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], STDERR_FILENO);
    const std::string profile = folder + "/manager.toml", state = folder + "/manager";
    ::execl(SOUK_MANAGER, SOUK_MANAGER, "--profile", profile.c_str(), "--state", state.c_str(), "--keep", "forever", nullptr);
    ::_exit(127);
  }
  ::close(ends[1]);
  std::string log;
  char block[4096];
  while (log.find("store read") == log.npos) {
    const ssize_t got = ::read(ends[0], block, sizeof block);
    if (got <= 0) {
      std::fprintf(stderr, "the manager ended: %s\n", log.c_str());
      std::exit(1);
    }
    log.append(block, static_cast<std::size_t>(got));
  }
  const double ms = std::chrono::duration<double, std::milli>(Clock::now() - began).count();
  const std::uint64_t memory = rss_kib(child);
  ::kill(child, SIGKILL);
  struct rusage used {};
  ::wait4(child, nullptr, 0, &used);
  ::close(ends[0]);
  const auto of = [](const timeval& time) { return static_cast<double>(time.tv_sec) * 1e3 + static_cast<double>(time.tv_usec) / 1e3; };
  return {ms, of(used.ru_utime) + of(used.ru_stime), memory};
}

std::string only;  // names that have this

void measure(const char* name, bool with_ended, const std::function<void(Filler&)>& fill) {
  if (std::string(name).find(only) == std::string::npos) return;
  std::string folder = "/tmp/souk-restart-XXXXXX";
  if (!::mkdtemp(folder.data())) std::abort();
  std::filesystem::create_directories(folder + "/manager");
  std::ofstream(folder + "/secret") << "secret";
  std::ofstream(folder + "/manager.toml") << "jid = \"grid.souk.localhost\"\npassword_file = \"secret\"\ncomponent = true\nhost = \"127.0.0.1\"\nport = 1\n"
                                            "manager = \"manager@grid.souk.localhost/souk\"\nroom = \"market@rooms.souk.localhost\"\n";
  ::chmod((folder + "/secret").c_str(), 0600);
  const pid_t child = ::fork();
  if (child == 0) {
    Filler filler;
    auto journal = Journal::open(folder + "/manager/grid.sqlite", filler.loop, filler.restored);
    if (!journal) ::_exit(1);
    filler.journal = std::move(journal.value());
    if (with_ended) filler.ended();
    fill(filler);
    filler.commit();
    ::kill(::getpid(), SIGKILL);
  }
  int status = 0;
  ::waitpid(child, &status, 0);
  if (!WIFSIGNALED(status)) std::abort();
  std::vector<double> times, cpu;
  std::uint64_t memory = 0;
  for (int again = 0; again < 5; ++again) {
    const auto [ms, cpu_ms, kib] = restart(folder);
    times.push_back(ms), cpu.push_back(cpu_ms), memory = kib;
  }
  std::printf("%-58s first %6.0f ms, median of 5 %6.0f ms, processor %6.0f ms, memory %5.0f MiB\n", name, times.front(), median(times), median(cpu), static_cast<double>(memory) / 1024);
  std::fflush(stdout);
  std::filesystem::remove_all(folder);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1) only = argv[1];
  measure("an empty store", false, [](Filler&) {});
  measure("10,000 ended jobs", true, [](Filler&) {});
  measure("... and one array of 1,000,000", true, [](Filler& f) { f.range(1'000'000); });
  measure("... and 10 lists of 100,000", true, [](Filler& f) {
    for (int at = 0; at < 10; ++at) f.list(100'000);
  });
  measure("... and 1,000 arrays of 1,000", true, [](Filler& f) {
    for (int at = 0; at < 1000; ++at) f.range(1000);
  });
  measure("... and one array of 1,000,000 with 500,000 outcomes", true, [](Filler& f) {
    f.range(1'000'000);
    f.outcomes(f.last, 500'000);
  });
}
