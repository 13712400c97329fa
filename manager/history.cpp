#include "manager/history.h"

#include "protocol/form.h"

namespace souk {

std::string tasks_shown(std::uint64_t tasks) { return std::to_string(tasks) + (tasks == 1 ? " task" : " tasks"); }

void write(const Reason& reason, wire::Reason& message) { message.set_workers(reason.workers), message.set_why(printable(reason.why)); }

std::string ending_of(const Outcome& outcome) {
  const auto because = [&](std::string what) { return outcome.why.empty() ? what : what + ": " + outcome.why; };
  switch (outcome.cause) {
    case Cause::exited: return outcome.exit_code == 0 ? "succeeded" : "exit code " + std::to_string(outcome.exit_code);
    case Cause::signaled: return "signal " + std::to_string(outcome.signal);
    case Cause::timed_out: return "over its time limit";
    case Cause::canceled: return "stopped";
    case Cause::not_started: return because("not started");
    case Cause::lost: return because("lost");
  }
  return "?";
}

std::string last_lines(std::string_view stream, std::size_t bytes_max) {
  if (stream.size() <= bytes_max) return std::string(stream);
  // A line that begins right at the cut is whole.
  std::string_view end = stream.substr(stream.size() - bytes_max - 1);
  const auto line = end.find('\n');
  if (line < end.size() - 1) return std::string(end.substr(line + 1));
  end.remove_prefix(1);
  while (!end.empty() && (static_cast<unsigned char>(end.front()) & 0xC0) == 0x80) end.remove_prefix(1);  // not from inside a character
  return std::string(end);
}

AttemptRow attempt_row(TaskId task, unsigned run, const Outcome& outcome) {
  AttemptRow row;
  row.task = task, row.run = run, row.ending = printable(ending_of(outcome));
  row.last_lines = last_lines(outcome.err.empty() ? outcome.out : outcome.err);
  row.wall_us = static_cast<std::uint64_t>(std::max<std::int64_t>(0, outcome.wall.count()));
  return row;
}

void write(const AttemptRow& row, wire::PastAttempt& message) {
  message.set_run(row.run), message.set_worker(printable(row.worker)), message.set_host(printable(row.host)), message.set_ended_ms(row.ended_ms);
  message.set_ending(printable(row.ending)), message.set_last_lines(row.last_lines), message.set_wall_us(row.wall_us);
}

}  // namespace souk
