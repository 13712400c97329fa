// What somebody typed, turned into a job. Pure: files, standard input and the environment are handed in.
#pragma once
#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/command.h"
#include "protocol/result.h"

namespace souk::wire {
class Job;
}

namespace souk {

constexpr std::size_t kWordsMax = 64u << 10;        // bytes of the command and its environment together

/// Which tasks of which job: `12`, `12.7`, `12.3-9`. first = 0 means all.
struct Target {
  std::uint64_t job = 0, first = 0, last = 0;
  bool all() const { return first == 0; }
};
Result<Target> parse_target(std::string_view text);

/// A job number alone.
Result<std::uint64_t> parse_job(std::string_view text);

/// The options of submit, run and map, as typed.
struct JobOptions {
  std::vector<std::string> words{};  // the command
  std::string service{};             // not empty: it is called with the words, which there need not be
  bool shell = false;              // words are joined to one line for /bin/sh -c
  bool no_fill = false;            // leave {} as it is
  bool notify = false;
  std::string name{}, array{}, time_limit{}, grace{}, output_max{};
  std::vector<std::string> env{};
  int retries = 0;
};

/// fails: when there is no command, which is worth telling before anything is read
Result<Done> check_words(const JobOptions& options);

/// The items of a job, one a task, as the shell read them.
struct Items {
  std::vector<std::string> values;
  std::string from;  // for messages: `list.txt`, `standard input`, `the command line`
  bool json = false;  // each is a JSON value: {name} stands for a field of it
};

/// Splits at every separator. A last line without its newline counts; an empty one in the middle counts too, so that task N is line N.
/// fails: on a line over kItemMax or with a NUL byte
Result<Items> split_items(std::string_view text, char separator, std::string from);

using Environment = std::function<std::optional<std::string>(const std::string& name)>;

/// The job of `submit` and `run`. Without items and without `array`: one task.
/// fails: when there is nothing to run, on unreadable options, on an empty array, and above the bounds
Result<Done> job_of(const JobOptions& options, const std::optional<Items>& items, std::string input, const Environment& environment, wire::Job& job);

/// `map`'s words: the command before `:::`, the arguments after it, or the files after `::::`.
struct MapWords {
  std::vector<std::string> command;
  std::optional<std::vector<std::string>> arguments;
  std::vector<std::string> files;
};
Result<MapWords> split_map(const std::vector<std::string>& words);

/// The job of `map`: placeholders are filled, and one is appended where there is none. A command of one word that is more than a program's
/// name is a line for the shell, as GNU parallel has it. No items give a job of no tasks, which need not be sent.
Result<Done> map_job_of(JobOptions options, const Items& items, std::string input, const Environment& environment, wire::Job& job);

/// True when the word holds one of {} {#} {.} {/} {//} {/.}.
bool has_placeholder(std::string_view word);
/// True when it holds {name} with any name, which stands for a field of a JSON item.
bool has_field(std::string_view word);

/// Variables that the worker sets for each task.
bool is_own_variable(std::string_view name);

}  // namespace souk
