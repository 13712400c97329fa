// A job file: named tasks that need each other, in TOML. Pure: text in, job out; examples/job-file/README.md documents the format.
#pragma once
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"
#include "submit/request.h"
#include "submit/terms.h"

namespace souk {

constexpr std::size_t kJobFileMax = 8u << 20;         // bytes
constexpr std::size_t kNeedsMax = 1'000'000;          // all `needs` of a file together
constexpr std::uint64_t kMatrixMax = 1'000'000;       // combinations of one matrix, counted before any is made
constexpr std::uint64_t kMatrixWorkMax = 100'000'000; // comparisons with what is excluded, of a whole file
constexpr std::size_t kTaskNameMax = 64;              // bytes
constexpr int kKeyPartsMax = 16;                      // of `a.b.c = 1`: the parser nests a table a part

/// What the file leads to outside itself.
struct Surroundings {
  Environment environment{};
  Calendar calendar{};
  std::vector<std::string> env{};  // NAME=VALUE, for every task, before what the file says; NAME alone copies
  /// Reads a file that it names, relative to its own folder. bytes_max: a longer one is refused
  std::function<Result<std::string>(const std::string& name, std::size_t bytes_max)> read{};
};

/// Reads a job file. Tasks of it come in an order in which each stands behind what it needs, else as in the file.
/// name: for messages. fails: with line and column, before anything large is made of a small text
Result<Done> job_file_of(std::string_view text, const std::string& name, const Surroundings& surroundings, wire::Job& job);

}  // namespace souk
