// Runs attempts: one small runner process per slot. Everything here belongs to the thread that runs `loop`.
#pragma once
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "protocol/command.h"
#include "protocol/result.h"

namespace souk {

/// One attempt, ready to run: argv is filled in, `env` is all of its environment.
struct Launch {
  std::vector<std::string> argv;
  std::vector<std::pair<std::string, std::string>> env;
  std::string input;
  std::string folder;  // name of its own working folder below the executor's; made before, removed with all in it after
  std::chrono::milliseconds time_limit{0}, grace{2000};
  std::size_t output_max = kOutputDefault;
};

class Executor {
 public:
  /// Starts `slots` runners. `work` is made if missing and swept of what earlier lives left. Construct on the main thread.
  Executor(boost::asio::io_context& loop, int slots, std::filesystem::path work, std::filesystem::path runner_program);
  ~Executor();  // kills all that runs and waits until it is gone
  Executor(const Executor&) = delete;

  /// Runs it in an idle slot (0 to slots-1); `finished` is called once, from the loop. Never fails otherwise: what cannot start ends as `not_started`.
  void start(int slot, Launch launch, std::function<void(Outcome)> finished);
  /// TERM to the attempt's process group, KILL to all of it after its grace; it then finishes as `canceled`. Nothing if the slot is idle.
  void stop(int slot);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace souk
