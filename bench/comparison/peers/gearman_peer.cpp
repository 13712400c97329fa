// A client of Gearman, and a worker whose function does nothing, for bench/compare.
//   gearman_peer worker PORT                  until it is killed
//   gearman_peer foreground PORT TASKS        1,000 at a time on one connection; prints the seconds until the last has answered, and how many did
//   gearman_peer background PORT TASKS        all at once, nobody waits for their answers; prints the seconds until all are accepted, and how many were
//   gearman_peer latency PORT TASKS           one at a time, 20 ms apart; prints the seconds of each
#include <libgearman/gearman.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

namespace {

constexpr char kFunction[] = "task";
constexpr long kBatch = 1000;  // libgearman looks through all tasks of a run at every answer: 100,000 in one would measure that
using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) { return std::chrono::duration<double>(Clock::now() - start).count(); }

int work(int port) {
  gearman_worker_st* worker = gearman_worker_create(nullptr);
  gearman_worker_add_server(worker, "127.0.0.1", static_cast<in_port_t>(port));
  const auto nothing = [](gearman_job_st*, void*) -> gearman_return_t { return GEARMAN_SUCCESS; };
  gearman_worker_define_function(worker, kFunction, sizeof kFunction - 1, gearman_function_create(nothing), 0, nullptr);
  for (;;) gearman_worker_work(worker);
}

long answered = 0;

}  // namespace

int main(int argc, char** argv) {
  const std::string what = argc > 2 ? argv[1] : "";
  if (what == "worker") return work(std::atoi(argv[2]));
  if (argc < 4) return std::fprintf(stderr, "usage: gearman_peer worker PORT | foreground|background|latency PORT TASKS\n"), 2;
  gearman_client_st* client = gearman_client_create(nullptr);
  gearman_client_add_server(client, "127.0.0.1", static_cast<in_port_t>(std::atoi(argv[2])));
  const long tasks = std::atol(argv[3]);
  // A key of its own for each, or Gearman takes them for one and the same.
  const auto key = [](long number) { return "task-" + std::to_string(number); };
  const auto start = Clock::now();
  if (what == "foreground") {
    gearman_client_set_complete_fn(client, [](gearman_task_st*) -> gearman_return_t { return ++answered, GEARMAN_SUCCESS; });
    gearman_client_add_options(client, GEARMAN_CLIENT_FREE_TASKS);
    for (long i = 0; i < tasks;) {
      gearman_return_t error = GEARMAN_SUCCESS;
      for (const long end = std::min(tasks, i + kBatch); i < end; ++i) gearman_client_add_task(client, nullptr, nullptr, kFunction, key(i).c_str(), "x", 1, &error);
      gearman_client_run_tasks(client);
    }
    std::printf("%.6f %ld\n", seconds_since(start), answered);
  } else if (what == "background") {
    gearman_client_set_created_fn(client, [](gearman_task_st*) -> gearman_return_t { return ++answered, GEARMAN_SUCCESS; });
    gearman_client_add_options(client, GEARMAN_CLIENT_FREE_TASKS);
    for (long i = 0; i < tasks; ++i) {
      gearman_return_t error = GEARMAN_SUCCESS;
      gearman_client_add_task_background(client, nullptr, nullptr, kFunction, key(i).c_str(), "x", 1, &error);
    }
    gearman_client_run_tasks(client);
    std::printf("%.6f %ld\n", seconds_since(start), answered);
  } else if (what == "latency") {
    for (long i = 0; i < tasks; ++i) {
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
      const auto asked = Clock::now();
      std::size_t size = 0;
      gearman_return_t error = GEARMAN_SUCCESS;
      std::free(gearman_client_do(client, kFunction, key(i).c_str(), "x", 1, &size, &error));
      if (error != GEARMAN_SUCCESS) return 1;
      std::printf("%.6f\n", seconds_since(asked));
    }
  }
  return 0;
}
