// What a submitter asks for a job beside its tasks: what each takes of its worker, which workers may run it, when, after what, how often.
// Texts as typed or as a job file has them, turned into the wire's words. Pure: the time and the calendar are handed in.
#pragma once
#include <cstdint>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/needs.h"
#include "protocol/result.h"

namespace souk::wire {
class After;
class Codes;
class Job;
class Needs;
}  // namespace souk::wire

namespace souk {

/// The options of submit, run and map that say it, as typed; empty: not given.
struct TermOptions {
  // of each task
  std::optional<int> cpus{}, gpus{};
  std::string memory{}, disk{}, require{}, rank{}, retry_delay{}, retry_delay_max{}, retry_on{};
  std::vector<std::string> resources{};  // NAME=N
  bool pin = false, network = false;
  std::string sandbox{};  // none or required
  std::string image{};
  // of the job
  std::optional<int> priority{}, crash_limit{};
  std::optional<std::int64_t> max_fails{};
  std::vector<std::string> after{};
  std::string deadline{};
  bool hold = false, speculate = false;
  // whose results count
  std::string quorum{}, quorum_by{}, agree_on{}, known{};
  bool adaptive = false;
  std::string known_text{};  // what the file `known` holds
};
constexpr std::size_t kKnownBytesMax = 16 << 20;  // of that file

/// The present, and the calendar of whoever asks: local times are read in their time zone.
struct Calendar {
  std::uint64_t now_ms = 0;                           // since 1970, UTC
  std::function<std::tm(std::time_t)> local{};        // as localtime_r
  std::function<std::time_t(std::tm)> instant{};      // as mktime: the reverse
};

/// Reads a size with its unit, which must be there: `512MiB`, `1.5GiB`. A bare number could mean anything.
Result<std::uint64_t> parse_needed_size(std::string_view text);
/// Reads `license.matlab=2`.
Result<std::pair<std::string, std::uint64_t>> parse_needed_resource(std::string_view text);
/// Reads `12`, `12:ok`, `12:any`, several separated by commas. yields: at least one
Result<std::vector<wire::After>> parse_after(std::string_view text);
/// Reads `1,75-99`: exit codes from 1 to 255.
Result<std::vector<wire::Codes>> parse_codes(std::string_view text);
/// Reads a time to come: a duration from now (`2h`), `HH:MM` (the next), `YYYY-MM-DDTHH:MM` or `...:SS`, local. yields: ms since 1970
Result<std::uint64_t> parse_deadline(std::string_view text, const Calendar& calendar);
/// what: for the message: `--require`. fails: with the column, and the expression with a mark under it on lines of their own
Result<Done> check_expression(std::string_view what, std::string_view text);
/// The expression, cut to what surrounds the column (from 1), and a line with a caret under that.
std::string pointed_at(std::string_view text, std::size_t column);

/// In range, and onto the wire.
Result<Done> fill_needs(const Needs& needs, wire::Needs& target);

/// What concerns the job as a whole: priority, after, max-fails, deadline, hold, speculate, crash-limit. What is not given stays as it is.
Result<Done> fill_job_terms(const TermOptions& options, const Calendar& calendar, wire::Job& job);
/// Copies and checks of results. How many tasks there are is the manager's business: it refuses known answers of others.
Result<Done> fill_quorum(const TermOptions& options, wire::Job& job);
/// All of it, for a job of one command whose `retries` are set already.
Result<Done> fill_terms(const TermOptions& options, const Calendar& calendar, wire::Job& job);
/// The first option that says something of tasks, not of the job: `--memory`; empty: none.
std::string_view task_term(const TermOptions& options);

}  // namespace souk
