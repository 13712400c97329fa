// Answers of the grid as text: tables and plain lines for people, JSON for programs. Pure; what others wrote is made safe for a terminal.
#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace souk::wire {
enum State : int;
class GridStatus;
class JobStatus;
class Outcome;
class TaskResult;
class WorkerStatus;
}  // namespace souk::wire

namespace souk {

/// Milliseconds since 1970, UTC.
using WallTime = std::chrono::time_point<std::chrono::system_clock, std::chrono::milliseconds>;

/// Text of foreign origin for a terminal: control bytes and what is no UTF-8 become `?`, so that a job's name cannot move the cursor.
/// width_max: code points kept; longer text ends in `...`
std::string plain(std::string_view text, std::size_t width_max = 200);

std::string duration_text(std::chrono::microseconds duration);  // 350us, 12ms, 1.2s, 2m03s, 1h02m, 3d04h
std::string seconds_text(std::chrono::microseconds duration);   // whole seconds: 5s, 2m03s; for what grows before one's eyes
std::string size_text(std::uint64_t bytes);                     // 812 B, 1.5 KiB, 12 MiB
std::string time_text(std::uint64_t ms);                        // 2026-11-23 01:22:10 UTC; 0: -
std::string ago_text(std::uint64_t ms, WallTime now);           // 3m05s ago, just now; 0: -
std::string count_text(std::uint64_t number, std::string_view noun);  // 1 task, 2 tasks

/// Rows under a header, columns as wide as the widest cell. A list that comes in pages keeps one Table: columns then only grow.
class Table {
 public:
  enum class Align { left, right };
  struct Column {
    std::string name;
    Align align = Align::left;
  };
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)), widths_(columns_.size(), 0) {}
  void add(std::vector<std::string> cells);
  /// The rows added since the last call, under the header the first time; each line without spaces at its end.
  std::string text();

 private:
  std::vector<Column> columns_;
  std::vector<std::size_t> widths_;
  std::vector<std::vector<std::string>> rows_;
  bool headed_ = false;
};

/// Columns that a list has only where there is something to put into them.
struct JobColumns {
  bool owner = false, priority = false, note = false;
  /// Adds what this job needs.
  void see(const wire::JobStatus& job);
};
Table jobs_table(JobColumns columns);
void add_row(Table& table, const wire::JobStatus& job, JobColumns columns, WallTime now);
/// with_group: the tasks have names of a job file
Table tasks_table(bool with_group);
void add_row(Table& table, const wire::TaskResult& result, bool with_group);
struct WorkerColumns {
  bool speed = false, resources = false, note = false;
  void see(const wire::WorkerStatus& worker);
};
Table workers_table(WorkerColumns columns);
void add_row(Table& table, const wire::WorkerStatus& worker, WorkerColumns columns, WallTime now);
/// All about one worker, a line each.
std::string worker_details(const wire::WorkerStatus& worker, WallTime now);
/// What holds a worker back, or will: its owner's rule, whose tasks it takes, the manager's distrust, when its owner wants it back; may be empty.
std::string worker_note(const wire::WorkerStatus& worker);

std::string_view name_of_state(wire::State state);
std::string_view name_of_state(const wire::JobStatus& job);
std::string_view name_of_state(const wire::TaskResult& result);
bool ended(const wire::JobStatus& job);
bool ended(const wire::TaskResult& result);
std::uint64_t ended_tasks(const wire::JobStatus& job);

/// Everything about one job, a line a fact.
/// `10: 3 succeeded, 0 failed, 2 running, 5 waiting`
std::string tasks_text(const wire::JobStatus& job);
std::string job_details(const wire::JobStatus& job, WallTime now);
/// One line when a job has ended: `job 12: 997 of 1000 tasks succeeded, 3 failed, in 4.2s`.
std::string job_verdict(const wire::JobStatus& job);
/// How an attempt ended: `exit 3`, `signal 9 (KILL)`, `time limit`, `no such program`.
std::string ending(const wire::Outcome& outcome);
/// What to say on stderr beside a failed task's own words; empty for a plain non-zero exit, which is the task's own business.
std::string failure_note(std::uint64_t job, const wire::TaskResult& result);
/// What is missing of a stream, or nothing: `stdout was cut: 1.0 MiB of 5.2 MiB kept`.
std::string truncation_note(std::string_view stream, std::uint64_t kept, std::uint64_t size);

/// Workers, slots and tasks of the manager, a line a fact.
std::string grid_details(const wire::GridStatus& grid);

/// One JSON object each, without a newline. Bytes that are no UTF-8 go as base64 under NAME_base64.
std::string json_of(const wire::JobStatus& job);
std::string json_of(const wire::WorkerStatus& worker);
std::string json_of(const wire::GridStatus& grid);
/// `streams`: with stdout and stderr
std::string json_of(std::uint64_t job, const wire::TaskResult& result, bool streams);

/// What a `run` of one task exits with: its own code, 128 + signal, 124 time limit, 127 not started, 130 canceled, 125 lost with its workers.
int exit_code_of(const wire::TaskResult& result);

}  // namespace souk
