// SQL statements, compiled once and used often.
#pragma once
#include <SQLiteCpp/SQLiteCpp.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>

namespace souk {

/// Bytes that are not copied: they must outlive the Query. What a temporary string holds is text.
struct Blob {
  const std::string& bytes;
};

/// One use of a compiled statement; it is ready for the next when this ends. One left in the middle would hold back what the log may forget.
class Query {
 public:
  template <class... Values>
  Query(SQLite::Statement& statement, const Values&... values) : statement_(statement) {
    statement_.tryReset();  // the last use may have failed half-way
    int at = 0;
    (put(++at, values), ...);
  }
  ~Query() { statement_.tryReset(); }
  Query(const Query&) = delete;
  Query& operator=(const Query&) = delete;

  bool next() { return statement_.executeStep(); }
  void run() { statement_.exec(); }
  std::uint64_t number(int at) const { return static_cast<std::uint64_t>(statement_.getColumn(at).getInt64()); }
  std::int64_t signed_number(int at) const { return statement_.getColumn(at).getInt64(); }  // of rows that may hold anything
  int small(int at) const { return statement_.getColumn(at).getInt(); }
  std::string bytes(int at) const {
    const auto column = statement_.getColumn(at);
    const void* found = column.getBlob();
    return found ? std::string(static_cast<const char*>(found), static_cast<std::size_t>(column.getBytes())) : std::string();
  }

 private:
  void put(int at, std::uint64_t value) { statement_.bind(at, static_cast<std::int64_t>(value)); }
  void put(int at, unsigned value) { statement_.bind(at, static_cast<std::int64_t>(value)); }
  void put(int at, int value) { statement_.bind(at, value); }
  void put(int at, bool value) { statement_.bind(at, value ? 1 : 0); }
  void put(int at, const std::string& text) { statement_.bind(at, text); }
  void put(int at, Blob blob) { statement_.bindNoCopy(at, blob.bytes.data(), static_cast<int>(blob.bytes.size())); }

  SQLite::Statement& statement_;
};

class Statements {
 public:
  explicit Statements(SQLite::Database& db) : db_(db) {}
  SQLite::Database& database() { return db_; }
  /// text: a literal; it is the key
  SQLite::Statement& operator[](const char* text) {
    const auto at = kept_.find(text);
    return at != kept_.end() ? at->second : kept_.emplace(std::piecewise_construct, std::forward_as_tuple(text), std::forward_as_tuple(db_, text)).first->second;
  }

 private:
  SQLite::Database& db_;
  std::unordered_map<std::string_view, SQLite::Statement> kept_;
};

}  // namespace souk
