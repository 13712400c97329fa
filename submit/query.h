// What every command has that asks the manager something and prints the answer.
#pragma once
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <string>
#include <vector>

#include "submit/common.h"
#include "submit/connect.h"
#include "submit/output.h"
#include "submit/progress.h"
#include "submit/render.h"
#include "submit/request.h"
#include "submit/session.h"

namespace souk {

inline WallTime wall_now() { return std::chrono::time_point_cast<std::chrono::milliseconds>(std::chrono::system_clock::now()); }

struct Query {
  Query(const Common& common_options, Profile profile)
      : common(common_options), session(std::move(profile)), progress(STDERR_FILENO, false, now_instant()), output(progress) {
    std::signal(SIGPIPE, SIG_IGN);
    session.on_note = [this](const std::string& text) { output.note(text); };
  }
  int failed(const Error& error) {
    output.flush();
    return fail(common, session, error);
  }
  /// The last word of every command that prints.
  int finish(int code = exit_code::good) {
    output.flush();
    if (output.closed()) return kExitPipe;
    if (output.broken()) return failed(output.failure());
    return code;
  }
  bool over() const { return output.closed() || output.broken(); }

  const Common& common;
  Session session;
  Progress progress;
  Output output;
};

/// Each once, in their order.
inline Result<std::vector<std::uint64_t>> job_numbers(const std::vector<std::string>& texts) {
  std::vector<std::uint64_t> numbers;
  for (const auto& text : texts) {
    const auto number = parse_job(text);
    if (!number) return number.error();
    if (std::find(numbers.begin(), numbers.end(), number.value()) == numbers.end()) numbers.push_back(number.value());
  }
  return numbers;
}

}  // namespace souk
