// Services of a worker: programs that answer calls for as long as there are any, one process a slot. Pipes, clocks and the executor around worker/service_life.
// Everything here belongs to the thread that runs `loop`.
#pragma once
#include <boost/asio/io_context.hpp>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"
#include "worker/agent.h"
#include "worker/fill.h"
#include "worker/process.h"
#include "worker/service_frames.h"

namespace souk::worker {

/// What an owner says with --service.
struct ServicePlan {
  std::string name;
  std::string command;  // a line for /bin/sh -c, run in the worker's own working directory
  Framing framing = Framing::binary;
};
/// Reads `word-count=COMMAND`, and `word-count=json:COMMAND` for JSON lines.
Result<ServicePlan> parse_service(std::string_view text);

class Services {
 public:
  /// executor: with a spare slot for each service in each slot, from number `slots` on; it outlives this
  Services(boost::asio::io_context& loop, Executor& executor, int slots, std::vector<ServicePlan> plans, const Surroundings& host);
  ~Services();  // no callback comes any more; the executor ends what runs
  Services(const Services&) = delete;
  Services& operator=(const Services&) = delete;

  std::function<void(CallsEnded)> on_ended = [](CallsEnded) {};
  std::function<void(bool bad, const std::string& text)> on_note = [](bool, const std::string&) {};  // for the log, in bounds
  std::function<int()> nice = [] { return 0; };

  void call(int slot, Assignment assignment);
  /// An end of it comes, at the latest after its command's grace.
  void stop_call(int slot, AttemptId attempt);
  /// No end of it comes.
  void forsake_call(int slot, AttemptId attempt);
  /// To be said after any of these three: then the services hear of them.
  void calls_made();

  /// Whether calls are under way there: then stop, pause and resume are for these.
  bool busy(int slot) const;
  void stop(int slot);
  void pause(int slot);
  void resume(int slot);

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace souk::worker
