// A process that holds an Executor, for a test to kill: executor_host WORK SLOTS SHELL-LINE. Every slot runs the line; `finished` is said for each.
// Given to an Executor as its runner, it is one that cannot mount /proc in its namespace, as in some containers.
#include <boost/asio/io_context.hpp>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <sys/socket.h>
#include <unistd.h>

#include "worker/process.h"
#include "worker/runner_wire.h"

int main(int argc, char** argv) try {
  if (argc == 2 && std::strcmp(argv[1], "namespaces") == 0) {
    souk::runner::Hello hello;
    hello.failure = EPERM;
    return send(souk::runner::kSocket, &hello, sizeof hello, 0) < 0;
  }
  if (argc == 2) return execv(SOUK_RUNNER, argv);
  if (argc != 4) return 2;
  boost::asio::io_context loop(1);
  const int slots = std::atoi(argv[2]);
  souk::Executor executor(loop, slots, argv[1], SOUK_RUNNER);
  std::puts("ready");
  std::fflush(stdout);
  for (int slot = 0; slot < slots; ++slot) {
    souk::Launch launch;
    launch.argv = {"/bin/sh", "-c", argv[3]};
    launch.env = {{"PATH", "/usr/bin:/bin"}};
    launch.folder = "slot-" + std::to_string(slot);
    executor.start(slot, std::move(launch), [](const souk::Outcome& outcome) {
      std::printf("finished %s\n", std::string(souk::name_of(outcome.cause)).c_str());
      std::fflush(stdout);
    });
  }
  loop.run();
} catch (const std::exception& failure) {
  std::fprintf(stderr, "%s\n", failure.what());
  return 1;
}
