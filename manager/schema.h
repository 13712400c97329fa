// The tables of the store, version by version, and how a store is opened: one user at a time, safe against power loss.
#pragma once
#include <filesystem>
#include <memory>

namespace SQLite {
class Database;
}

namespace souk {

/// `PRAGMA user_version` of a store says how many steps made its tables; a new one takes them all.
constexpr int kSchemaVersion = 4;
/// The statements that make version `to` of the version before; 1 to kSchemaVersion.
const char* schema_step(int to);

/// The right to write a store; ends with this object, and with the process however that ends.
class StoreLock {
 public:
  /// Throws when another process has it.
  explicit StoreLock(const std::filesystem::path& store);
  ~StoreLock();
  StoreLock(const StoreLock&) = delete;
  StoreLock& operator=(const StoreLock&) = delete;

 private:
  int file_ = -1;
};

/// Opens or makes a store and brings that of an older version up to date, in one transaction: whatever interrupts it, there is the old version or the new one.
/// Throws: std::runtime_error when it is of a newer version, before anything is written, and what SQLite throws. The caller has the lock.
std::unique_ptr<SQLite::Database> open_store(const std::filesystem::path& file);

}  // namespace souk
