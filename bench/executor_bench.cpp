// What running a task through the executor costs, against the bare loop that nobody can beat by much: posix_spawn, two pipes, one thread a slot.
// Rounds alternate, so that a busy machine slows both. Prints medians, and the median of the ratios of rounds.
// With `sandbox` the same in sandboxes, in the same rounds, and what that costs against without.
//   executor_bench [SLOTS [TASKS_A_ROUND [ROUNDS [sandbox]]]]        SOUK_NAMESPACES=0: without PID namespaces
#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <fstream>
#include <functional>
#include <poll.h>
#include <spawn.h>
#include <string>
#include <sys/resource.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>
#include <vector>

#include "worker/process.h"

namespace {

double seconds(timeval t) { return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6; }
double own_cpu() {
  rusage used;
  getrusage(RUSAGE_SELF, &used);
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

void bare_loop(int tasks) {
  char program[] = "/bin/true", path[] = "PATH=/usr/bin:/bin";
  char* argv[] = {program, nullptr};
  char* env[] = {path, nullptr};
  for (int i = 0; i < tasks; ++i) {
    int out[2], err[2];
    if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0) std::abort();
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    posix_spawn_file_actions_adddup2(&actions, err[1], 2);
    pid_t pid = -1;
    if (posix_spawn(&pid, program, &actions, nullptr, argv, env) != 0) std::abort();
    posix_spawn_file_actions_destroy(&actions);
    close(out[1]);
    close(err[1]);
    pollfd open[2] = {{out[0], POLLIN, 0}, {err[0], POLLIN, 0}};
    for (int left = 2; left > 0;) {
      poll(open, 2, -1);
      for (auto& one : open)
        if (one.revents != 0) {
          char text[4096];
          if (read(one.fd, text, sizeof text) <= 0) close(one.fd), one.fd = -1, --left;
        }
    }
    int status;
    waitpid(pid, &status, 0);
  }
}

/// CPU of the runners themselves, all below this process: nanoseconds on a processor, from schedstat.
double runners_cpu() {
  double sum = 0;
  const std::function<void(const std::string&, int)> add = [&](const std::string& pid, int depth) {
    std::ifstream children("/proc/" + pid + "/task/" + pid + "/children");
    for (std::string child; children >> child;) {
      double ns = 0;
      std::ifstream("/proc/" + child + "/schedstat") >> ns;
      sum += ns / 1e9;
      if (depth < 2) add(child, depth + 1);
    }
  };
  add(std::to_string(getpid()), 0);
  return sum;
}

}  // namespace

int main(int argc, char** argv) {
  const int slots = argc > 1 ? std::atoi(argv[1]) : 2, tasks = argc > 2 ? std::atoi(argv[2]) : 1000, rounds = argc > 3 ? std::atoi(argv[3]) : 3;
  if (slots < 1 || tasks < slots || rounds < 1) return std::fprintf(stderr, "usage: executor_bench [SLOTS [TASKS_A_ROUND [ROUNDS [sandbox]]]]\n"), 2;
  char folder[] = "/tmp/souk-bench-XXXXXX";
  if (mkdtemp(folder) == nullptr) return 1;
  boost::asio::io_context loop(1);
  const bool with_sandbox = argc > 4;
  std::vector<double> bare_rates, rates, ratios, boxed_rates, boxed_ratios, boxed_cpu_ratios, ahead_rates, ahead_ratios, ahead_gains;
  double ahead_worker_cpu = 0, ahead_helper_cpu = 0;
  double bare_cpu = 0, worker_cpu = 0, helper_cpu = 0, boxed_worker_cpu = 0, boxed_helper_cpu = 0, task_cpu[2] = {0, 0};
  int failed = 0;
  bool namespaces = false;
  {
    souk::Executor executor(loop, slots, folder, SOUK_RUNNER);
    namespaces = executor.has_namespaces();
    if (with_sandbox) {
      auto sandbox = souk::Sandbox::find({SOUK_RUNNER, folder, {}, ""});
      if (!sandbox) return std::fprintf(stderr, "%s\n", sandbox.error().text().c_str()), 1;
      std::printf("sandbox    %s\n", sandbox.value().note().c_str());
      executor.use(std::move(sandbox.value()));
    }
    bool boxed = false;
    int left = 0, running = 0, number = 0;
    bool ahead = false;
    std::function<void(int)> next = [&](int slot) {
      if (left == 0) return running == 0 ? loop.stop() : void();
      --left;
      ++running;
      souk::Launch launch;
      launch.argv = {"/bin/true"};
      launch.env = {{"PATH", "/usr/bin:/bin"}};
      launch.folder = std::to_string(++number);
      launch.time_limit = std::chrono::minutes(1);
      if (boxed) {
        launch.box = souk::Boxed{"job", false, false, {}};
        launch.box->bounds.memory = 1 << 30, launch.box->bounds.disk = launch.box->bounds.file = 1 << 30;
      }
      auto finished = [&, slot](souk::Outcome outcome) {
        --running;
        task_cpu[boxed] += std::chrono::duration<double>(outcome.cpu).count();
        failed += !outcome.succeeded();
        next(slot);
      };
      if (ahead) executor.line_up(slot, std::move(launch), finished, [] {});
      else executor.start(slot, std::move(launch), finished);
    };
    for (int round = 0; round < rounds; ++round) {
      const auto timed = [&](const auto& work) {
        const auto from = std::chrono::steady_clock::now();
        work();
        return tasks / std::chrono::duration<double>(std::chrono::steady_clock::now() - from).count();
      };
      double from = own_cpu();
      const double bare = timed([&] {
        std::vector<std::thread> threads;
        for (int i = 0; i < slots; ++i) threads.emplace_back(bare_loop, tasks / slots + (i < tasks % slots));
        for (auto& thread : threads) thread.join();
      });
      bare_cpu += own_cpu() - from;
      const auto through = [&](int number_of) {
        return timed([&] {
          left = number_of;
          for (int slot = 0; slot < slots; ++slot) {
            next(slot);
            if (ahead) next(slot);
          }
          loop.restart();
          loop.run();
        });
      };
      if (with_sandbox) through(slots);  // runners are replaced outside of the measurement
      from = own_cpu();
      double helpers = runners_cpu();
      const double tasks_before = task_cpu[0];
      const double rate = through(tasks);
      const double used = own_cpu() - from + runners_cpu() - helpers + task_cpu[0] - tasks_before;
      worker_cpu += own_cpu() - from;
      helper_cpu += runners_cpu() - helpers;
      ahead = true;
      from = own_cpu();
      helpers = runners_cpu();
      ahead_rates.push_back(through(tasks));
      ahead_worker_cpu += own_cpu() - from;
      ahead_helper_cpu += runners_cpu() - helpers;
      ahead_ratios.push_back(ahead_rates.back() / bare);
      ahead_gains.push_back(ahead_rates.back() / rate);
      ahead = false;
      if (with_sandbox) {
        boxed = true;
        through(slots);
        from = own_cpu();
        helpers = runners_cpu();
        const double boxed_tasks_before = task_cpu[1];
        boxed_rates.push_back(through(tasks));
        boxed_ratios.push_back(boxed_rates.back() / rate);
        boxed_cpu_ratios.push_back((own_cpu() - from + runners_cpu() - helpers + task_cpu[1] - boxed_tasks_before) / used);
        boxed_worker_cpu += own_cpu() - from;
        boxed_helper_cpu += runners_cpu() - helpers;
        boxed = false;
      }
      bare_rates.push_back(bare);
      rates.push_back(rate);
      ratios.push_back(rate / bare);
    }
  }
  const double all = static_cast<double>(tasks) * rounds / 1e6;
  std::printf("slots=%d tasks=%d rounds=%d namespaces=%s failed=%d\n", slots, tasks, rounds, namespaces ? "yes" : "no", failed);
  std::printf("bare loop  %7.0f tasks/s (%.0f to %.0f), own CPU %.1f us a task\n", median(bare_rates), *std::min_element(bare_rates.begin(), bare_rates.end()),
              *std::max_element(bare_rates.begin(), bare_rates.end()), bare_cpu / all);
  std::printf("executor   %7.0f tasks/s (%.0f to %.0f), worker %.1f us, runners %.1f us a task\n", median(rates), *std::min_element(rates.begin(), rates.end()),
              *std::max_element(rates.begin(), rates.end()), worker_cpu / all, helper_cpu / all);
  std::printf("ratio      %7.2f (%.2f to %.2f)\n", median(ratios), *std::min_element(ratios.begin(), ratios.end()), *std::max_element(ratios.begin(), ratios.end()));
  std::printf("one ahead  %7.0f tasks/s, worker %.1f us, runners %.1f us a task; ratio to the bare loop %.2f, to without %.2f (%.2f to %.2f)\n", median(ahead_rates), ahead_worker_cpu / all,
              ahead_helper_cpu / all, median(ahead_ratios), median(ahead_gains), *std::min_element(ahead_gains.begin(), ahead_gains.end()), *std::max_element(ahead_gains.begin(), ahead_gains.end()));
  if (with_sandbox) {
    std::printf("tasks      %.1f us of CPU each, %.1f us in a sandbox\n", task_cpu[0] / all, task_cpu[1] / all);
    std::printf("sandboxed  %7.0f tasks/s (%.0f to %.0f), worker %.1f us, runners %.1f us a task\n", median(boxed_rates), *std::min_element(boxed_rates.begin(), boxed_rates.end()),
                *std::max_element(boxed_rates.begin(), boxed_rates.end()), boxed_worker_cpu / all, boxed_helper_cpu / all);
    std::printf("to bare    %7.2f (%.2f to %.2f) of the tasks/s, %.2f (%.2f to %.2f) of the CPU\n", median(boxed_ratios), *std::min_element(boxed_ratios.begin(), boxed_ratios.end()),
                *std::max_element(boxed_ratios.begin(), boxed_ratios.end()), median(boxed_cpu_ratios), *std::min_element(boxed_cpu_ratios.begin(), boxed_cpu_ratios.end()),
                *std::max_element(boxed_cpu_ratios.begin(), boxed_cpu_ratios.end()));
  }
  std::filesystem::remove_all(folder);
  return failed != 0;
}
