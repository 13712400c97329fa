// What a task's attempts came to, in words for people. Pure.
#pragma once
#include <string>
#include <string_view>

#include "manager/explain.h"
#include "manager/journal.h"
#include "protocol/command.h"
#include "protocol/grid.pb.h"

namespace souk {

constexpr std::size_t kLastLinesMax = 2 << 10;  // bytes of an attempt's output kept in its history

/// `exit code 3`, `signal 9`, `not started: no such program`.
std::string ending_of(const Outcome& outcome);
/// The end of a stream: at most `bytes_max` bytes, whole lines if there is a line end among them.
std::string last_lines(std::string_view stream, std::size_t bytes_max = kLastLinesMax);
/// A row without worker, host and time, which the caller knows. Of stderr if it wrote any, else of stdout.
AttemptRow attempt_row(TaskId task, unsigned run, const Outcome& outcome);
void write(const AttemptRow& row, wire::PastAttempt& message);
void write(const Reason& reason, wire::Reason& message);
/// `1 task`, `7 tasks`.
std::string tasks_shown(std::uint64_t tasks);

}  // namespace souk
