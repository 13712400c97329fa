// What travels between the colony and its tasks, as text a person can read: the request on a task's stdin, the answer on its stdout.
// Numbers are decimal in the shortest form that reads back to the same bits, so both ends compute with the same values.
#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "examples/ant-colony/acs.h"

namespace souk::ants {

constexpr std::size_t kRequestBytesMax = 8u << 20;  // what the grid carries as a task's stdin
constexpr std::size_t kAnswerBytesMax = 1u << 20;   // of one task; kCitiesMax cities take 10 KB

/// All a task needs to know: it shares no disk with the colony.
struct Request {
  Instance instance;
  Parameters parameters;
  Snapshot snapshot;
};
std::string text_of(const Request& request);
/// Fails on anything malformed or out of bounds, naming what was expected and what came.
Result<Request> parse_request(std::string_view text);

/// Which parties task `task` of `tasks` takes, from 1, inclusive; near equal shares. tasks is at most the number of parties.
struct Share {
  int first = 0, last = 0;
};
Share share_of(int task, int tasks, int party_count);

struct Reply {
  int first_ant = 0, last_ant = 0;  // who walked
  std::chrono::microseconds wall{0};  // from the start of its main() to its answer
  std::chrono::microseconds cpu{0};   // that the process had used by then, its loading included
  Find best;
};
/// One line.
std::string text_of(const Reply& reply);
/// Reads the replies of all tasks in any order. What a task says is not believed: every ant must have walked exactly once, the finds must be
/// tours of the instance, and their lengths are measured again.
Result<std::vector<Reply>> parse_replies(std::string_view text, const Instance& instance, const Parameters& parameters);

}  // namespace souk::ants
