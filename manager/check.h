// Looks through a store without changing a byte of it, also while a manager uses it, and explains what it finds.
#pragma once
#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "protocol/result.h"

namespace souk {

struct StoreReport {
  std::string file;
  bool in_use = false;  // a manager has it open
  bool read = false;    // to its end; else nothing below is known
  int version = 0;      // of its tables
  std::uint64_t bytes = 0, log_bytes = 0, free_bytes = 0;  // log: what is not in the file itself yet; free: pages to be used again
  std::uint64_t written_ms = 0;                            // when the file or its log changed last
  bool counted = false;  // else nothing of the next line is known
  std::int64_t epoch = 0, jobs_open = 0, jobs_ended = 0, tasks_open = 0, outcomes = 0, attempts = 0, forgetting = 0, untold = 0, last_job = 0;  // as they are in the store
  std::vector<std::string> findings;  // what is wrong; empty: nothing found
};
constexpr std::size_t kFindingsMax = 100;  // of one kind 10

/// Fails when there is nothing to look at: no file, no right to read it, or a newer version. A damaged store is a report with findings.
Result<StoreReport> check_store(const std::filesystem::path& file);

std::string text_of(const StoreReport& report);
/// One object, one line.
std::string json_of(const StoreReport& report);

}  // namespace souk
