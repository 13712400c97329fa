// Runs attempts: one small runner process per slot. Everything here belongs to the thread that runs `loop`.
#pragma once
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <functional>
#include <memory>

#include "protocol/command.h"
#include "worker/launch.h"
#include "worker/sandbox.h"

namespace souk {

class Executor {
 public:
  /// Starts `slots` runners, at most kSlotsMax, and waits until they are ready (milliseconds).
  /// work:   made if missing (0700) and swept of what earlier lives left. It must be empty or have been made by an executor, and belongs to one
  ///         executor at a time: one that was killed a moment ago is waited for until the last of its processes is gone.
  /// runner: the program `souk-runner` of the same build
  /// locked: a descriptor of `work` that holds the lock of that folder, or -1: it is locked here. The executor has it from now on
  /// SOUK_NAMESPACES=0 in the environment: runners get no PID namespace even where that is allowed.
  /// spare:  more slots, from number `slots` on, whose runners are started with their first attempt
  /// fails:  throws std::runtime_error with text for people
  Executor(boost::asio::io_context& loop, int slots, std::filesystem::path work, std::filesystem::path runner_program, int locked = -1, int spare = 0);
  ~Executor();  // kills all that runs and waits until it is gone, but not for what the kernel cannot kill; no callback comes any more
  Executor(const Executor&) = delete;
  Executor& operator=(const Executor&) = delete;

  /// Runs it in an idle slot (0 to slots + spare - 1); `finished` is called once, from the loop. Never fails otherwise: what cannot start ends as `not_started`.
  /// The slot is idle again when `finished` is called, so that may start the next.
  void start(int slot, Launch launch, std::function<void(Outcome)> finished);
  /// Begins as soon as what runs in that slot has ended, without asking anybody; in an idle one at once. One a slot. `finished` is as with start(), and called after
  /// that of the one before. From then on it is what runs in the slot. What is to be in another sandbox waits here and not at the runner.
  /// recalled: called once, from the loop, instead, if recall() came in time.
  void line_up(int slot, Launch launch, std::function<void(Outcome)> finished, std::function<void()> recalled);
  /// Takes back what was lined up, if it has not begun: else nothing comes of it.
  void recall(int slot);
  /// TERM to the attempt's process group, KILL to all of it after its grace; it then finishes as `canceled`. Nothing if the slot is idle.
  void stop(int slot);

  /// SIGSTOP to the attempt's process group, with namespaces to all of it, and SIGCONT. Meanwhile its time limit does not count; stop() works as ever.
  /// Nothing if the slot is idle.
  void pause(int slot);
  void resume(int slot);

  /// For attempts that ask for a sandbox: without one they end as `not_started`. A slot keeps one as long as its attempts are of the same (Boxed), in the same image, and leave nothing in it.
  void use(Sandbox sandbox);

  /// Whether runners are the first process of a PID namespace of their own, so that the kernel itself kills what a task leaves.
  bool has_namespaces() const;

 private:
  class Impl;
  std::shared_ptr<Impl> impl_;
};

}  // namespace souk
