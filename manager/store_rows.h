// What the journal writes and reads, as SQL. Every function throws what SQLite throws.
#pragma once
#include <chrono>
#include <deque>
#include <variant>

#include "manager/journal.h"
#include "manager/statements.h"

namespace souk {

struct CancelRow { JobId job; };
struct HoldRow { JobId job; bool held; };
struct FactRow { std::string name; std::uint64_t value; };
struct EndRow { JobRow job; };
struct ReopenRow { JobRow job; };
struct ForgetRow { JobId job; };
struct ToldRow { JobId job; };
struct VotesRow { std::string account; };  // to be forgotten
using Write = std::variant<JobRow, OutcomeRow, AttemptRow, CancelRow, HoldRow, FactRow, EndRow, ReopenRow, ForgetRow, ToldRow, VotesRow>;

/// What a write takes in memory until it is on disk, about.
std::size_t bytes_of(const Write& write);

class StoreWriter {
 public:
  explicit StoreWriter(Statements& statements) : sql_(statements) {}
  void put(const Write& write) {
    std::visit([this](const auto& row) { put_row(row); }, write);
  }

 private:
  void put_row(const JobRow&);
  void put_row(const OutcomeRow&);
  void put_row(const AttemptRow&);
  void put_row(const CancelRow&);
  void put_row(const HoldRow&);
  void put_row(const FactRow&);
  void put_row(const EndRow&);
  void put_row(const ReopenRow&);
  void put_row(const ForgetRow&);
  void put_row(const ToldRow&);
  void put_row(const VotesRow&);

  Statements& sql_;
};

class StoreReader {
 public:
  explicit StoreReader(Statements& statements) : sql_(statements) {}
  void restore(Journal::Restored& restored);
  std::vector<OutcomeRow> outcomes(const Journal::Page& page);
  std::vector<std::pair<JobId, std::uint64_t>> sizes();
  Journal::History history(TaskId task);
  Journal::Kept kept(JobId job);
  Journal::Slice stream(TaskId task, bool err, std::uint64_t offset, std::size_t bytes);

 private:
  Statements& sql_;
};

/// Takes away the rows of forgotten jobs, oldest first, a little at a time, and gives the disk back what is free.
class StoreSweeper {
 public:
  explicit StoreSweeper(Statements& statements);
  void forgotten(JobId job) { jobs_.push_back(job); }
  std::size_t jobs() const { return jobs_.size(); }
  bool idle() const { return jobs_.empty() && !vacuum_; }
  /// One transaction of about `most`.
  void sweep(std::chrono::microseconds most);

 private:
  void delete_some();
  void vacuum_some();

  Statements& sql_;
  std::deque<JobId> jobs_;
  std::size_t done_ = 0;  // of them, in this transaction
  bool vacuum_ = true;  // there may be pages to give back
  unsigned sweeps_ = 0;
  int rows_ = 8;        // deleted at once; as many as take a part of the time
};

}  // namespace souk
