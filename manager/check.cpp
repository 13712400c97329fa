#include "manager/check.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <fcntl.h>
#include <spdlog/fmt/fmt.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "manager/event.h"
#include "manager/schema.h"
#include "manager/statements.h"
#include "protocol/grid.pb.h"

namespace souk {

namespace {

constexpr int kOfOneKind = 10;

class Check {
 public:
  Check(SQLite::Database& db, StoreReport& report) : db_(db), sql_(db), report_(report) {}

  void all() {
    // What SQLite finds is said first: the rest may follow from it. Each rule is tried, also when another could not be.
    attempt("pages and indexes", [&] { pages(); });
    attempt("counts", [&] { facts(); });
    attempt("jobs", [&] { jobs(); });
    attempt("outcomes", [&] { outcomes(); });
    attempt("specifications", [&] { specifications(); });
  }

 private:
  template <class Rule>
  void attempt(const char* of_what, Rule rule) {
    try {
      rule();
    } catch (const std::exception& e) {
      find(fmt::format("its {} cannot be read: {}", of_what, e.what()));
    }
  }
  void find(std::string what) {
    if (report_.findings.size() < kFindingsMax) report_.findings.push_back(std::move(what));
  }
  /// A finding for each row, the first of them; `words` gets its numbers.
  template <class Words>
  void rows(const char* sql, Words words) {
    Query row(sql_[sql]);
    int found = 0;
    for (; row.next(); ++found)
      if (found < kOfOneKind) find(words(row));
    if (found > kOfOneKind) find(fmt::format("... and {} more like this", found - kOfOneKind));
  }
  std::int64_t ask(const char* sql) {
    Query row(sql_[sql]);
    return row.next() ? row.signed_number(0) : 0;
  }

  void pages() {
    Query row(sql_["PRAGMA integrity_check(10)"]);
    while (row.next())
      if (const std::string line = row.bytes(0); line != "ok") find("SQLite: " + line);
  }

  void facts() {
    report_.free_bytes = static_cast<std::uint64_t>(ask("PRAGMA freelist_count") * ask("PRAGMA page_size"));
    report_.epoch = ask("SELECT value FROM meta WHERE name='epoch'");
    report_.jobs_open = ask("SELECT count(*) FROM jobs WHERE ended_ms=0");
    report_.jobs_ended = ask("SELECT count(*) FROM jobs WHERE ended_ms<>0");
    report_.last_job = std::max(ask("SELECT coalesce(max(id),0) FROM jobs"), ask("SELECT coalesce(max(value),0) FROM meta WHERE name='last_job'"));
    report_.outcomes = ask("SELECT count(*) FROM outcomes");
    const std::int64_t ended = ask("SELECT count(*) FROM outcomes WHERE job IN (SELECT id FROM jobs WHERE ended_ms=0)");
    const std::int64_t tasks = ask("SELECT coalesce(sum(tasks),0) FROM jobs WHERE ended_ms=0");
    report_.tasks_open = tasks - std::min(tasks, ended);
    if (report_.version >= 2) report_.attempts = ask("SELECT count(*) FROM attempts");
    if (report_.version >= 3) report_.forgetting = ask("SELECT count(*) FROM forgotten"), report_.untold = ask("SELECT count(*) FROM untold");
    report_.counted = true;
    if (report_.epoch < 0) find(fmt::format("the number of lives of a manager that it has seen (epoch) is {}: no manager wrote that", report_.epoch));
    if (report_.epoch == 0) find("it does not say how many lives of a manager it has seen (epoch): results of old attempts could be taken for new ones");
  }

  void jobs() {
    rows("SELECT id,state FROM jobs WHERE ended_ms<>0 AND state NOT IN (2,3,4)", [](const Query& row) { return fmt::format("job {} has ended, but its state is {}", row.signed_number(0), row.small(1)); });
    rows("SELECT id,tasks FROM jobs WHERE tasks<0 OR typeof(tasks)<>'integer' OR typeof(ended_ms)<>'integer' OR ended_ms<0",
         [](const Query& row) { return fmt::format("job {} has numbers that cannot be", row.signed_number(0)); });
    rows("SELECT id,succeeded,failed,canceled_tasks,tasks FROM jobs WHERE ended_ms<>0 AND succeeded+failed+canceled_tasks<>tasks", [](const Query& row) {
      return fmt::format("job {} has ended with {} succeeded, {} failed and {} canceled of {} tasks", row.signed_number(0), row.signed_number(1), row.signed_number(2), row.signed_number(3), row.signed_number(4));
    });
  }

  void outcomes() {
    rows("SELECT job,task,state FROM outcomes WHERE state NOT IN (2,3,4)",
         [](const Query& row) { return fmt::format("the outcome of task {}.{} has state {}", row.signed_number(0), row.signed_number(1), row.small(2)); });
    rows("SELECT job,task,count(*) FROM outcomes GROUP BY job,task HAVING count(*)>1", [](const Query& row) { return fmt::format("task {}.{} has {} outcomes", row.signed_number(0), row.signed_number(1), row.signed_number(2)); });
    rows("SELECT o.job,o.task,j.tasks FROM jobs j JOIN outcomes o ON o.job=j.id WHERE o.task<1 OR o.task>j.tasks",
         [](const Query& row) { return fmt::format("there is an outcome of task {}.{}, but that job has {} tasks", row.signed_number(0), row.signed_number(1), row.signed_number(2)); });
    const bool forgets = report_.version >= 3;
    const auto strange = [](const char* what) { return [what](const Query& row) { return fmt::format("there are {} {} of job {}, which is not in the store", row.signed_number(1), what, row.signed_number(0)); }; };
    rows(forgets ? "SELECT job,count(*) FROM outcomes WHERE job NOT IN (SELECT id FROM jobs) AND job NOT IN (SELECT job FROM forgotten) GROUP BY job"
                 : "SELECT job,count(*) FROM outcomes WHERE job NOT IN (SELECT id FROM jobs) GROUP BY job", strange("outcomes"));
    if (report_.version >= 2)
      rows(forgets ? "SELECT job,count(*) FROM attempts WHERE job NOT IN (SELECT id FROM jobs) AND job NOT IN (SELECT job FROM forgotten) GROUP BY job"
                   : "SELECT job,count(*) FROM attempts WHERE job NOT IN (SELECT id FROM jobs) GROUP BY job", strange("attempts"));
    if (forgets) {
      rows("SELECT job,1 FROM specs WHERE job NOT IN (SELECT id FROM jobs)", strange("specifications"));
      rows("SELECT id FROM jobs WHERE id IN (SELECT job FROM forgotten)", [](const Query& row) { return fmt::format("job {} is kept and forgotten at the same time", row.signed_number(0)); });
    }
    // Tasks that were canceled before they ran have no outcome of their own.
    rows("SELECT j.id,j.succeeded,j.failed,coalesce(c.s,0),coalesce(c.f,0) FROM jobs j LEFT JOIN (SELECT job,sum(state=2) s,sum(state=3) f FROM outcomes GROUP BY job) c ON c.job=j.id "
         "WHERE j.ended_ms<>0 AND (coalesce(c.s,0)<>j.succeeded OR coalesce(c.f,0)<>j.failed)",
         [](const Query& row) {
           return fmt::format("job {} ended with {} succeeded and {} failed, but there are outcomes of {} and {}", row.signed_number(0), row.signed_number(1), row.signed_number(2), row.signed_number(3), row.signed_number(4));
         });
  }

  /// Of jobs that have not ended: without them they cannot go on. Of the others: they cannot run again.
  void specifications() {
    Query row(sql_[report_.version >= 3 ? "SELECT id,ended_ms,(SELECT spec FROM specs WHERE job=id) FROM jobs ORDER BY id" : "SELECT id,ended_ms,spec FROM jobs ORDER BY id"]);
    int found = 0;
    wire::Job job;
    while (row.next()) {
      if (job.ParseFromString(row.bytes(2)) && (job.has_command() || job.groups_size() > 0)) continue;
      if (++found <= kOfOneKind) find(fmt::format("the specification of job {} cannot be read, so that it cannot {}", row.signed_number(0), row.signed_number(1) == 0 ? "go on" : "run again"));
    }
    if (found > kOfOneKind) find(fmt::format("... and {} more like this", found - kOfOneKind));
  }

  SQLite::Database& db_;
  Statements sql_;
  StoreReport& report_;
};

bool in_use(const std::filesystem::path& store) {
  const int lock = ::open((store.string() + ".lock").c_str(), O_RDONLY | O_CLOEXEC);
  if (lock < 0) return false;
  const bool taken = ::flock(lock, LOCK_SH | LOCK_NB) != 0;
  ::close(lock);
  return taken;
}

std::string time_shown(std::uint64_t ms) {
  const auto at = static_cast<std::time_t>(ms / 1000);
  std::tm parts{};
  char text[64];
  return ::gmtime_r(&at, &parts) && std::strftime(text, sizeof text, "%Y-%m-%d %H:%M:%S UTC", &parts) > 0 ? text : "?";
}

/// A string of JSON (RFC 8259 §7). What SQLite says may quote what is in a damaged file.
std::string json_string(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\', out += c;
    else if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) >= 0x7f) out += '?';
    else out += c;
  }
  return out + '"';
}

std::string frozen_uri(const std::string& file) {
  std::string uri = "file:";
  for (const char c : file) uri += c == '%' || c == '?' || c == '#' ? fmt::format("%{:02X}", static_cast<unsigned char>(c)) : std::string(1, c);
  return uri + "?immutable=1";
}

std::string size_shown(std::uint64_t bytes) { return bytes < 10u << 20 ? fmt::format("{:.1f} KiB", static_cast<double>(bytes) / 1024) : fmt::format("{:.0f} MiB", static_cast<double>(bytes) / (1 << 20)); }

}  // namespace

Result<StoreReport> check_store(const std::filesystem::path& file) {
  StoreReport report;
  report.file = file.string();
  for (const char* end : {"", "-wal"}) {
    struct stat facts {};
    if (::stat((report.file + end).c_str(), &facts) != 0) {
      if (*end == '\0') return Error{"cannot look at the store " + report.file, std::strerror(errno), "name the folder of the manager's store: --state DIR"};
      continue;
    }
    if (!S_ISREG(facts.st_mode)) return Error{"cannot look at the store " + report.file, "it is not a file", "name the folder of the manager's store: --state DIR"};
    (*end == '\0' ? report.bytes : report.log_bytes) = static_cast<std::uint64_t>(facts.st_size);
    report.written_ms = std::max(report.written_ms, static_cast<std::uint64_t>(facts.st_mtim.tv_sec) * 1000);
  }
  if (::access(report.file.c_str(), R_OK) != 0) return Error{"cannot look at the store " + report.file, std::strerror(errno), "ask as its manager's user"};
  report.in_use = in_use(file);
  if (report.bytes == 0 && report.log_bytes == 0) {
    report.findings.push_back("it is empty: no manager has written it, or all of it was lost");
    return report;
  }
  try {
    // Of a file system without writing SQLite needs to be told that nobody writes; else it wants to make files beside the store.
    struct statvfs disk {};
    const bool frozen = report.log_bytes == 0 && ::statvfs(report.file.c_str(), &disk) == 0 && (disk.f_flag & ST_RDONLY) != 0;
    SQLite::Database db(frozen ? frozen_uri(report.file) : report.file, SQLite::OPEN_READONLY | (frozen ? SQLite::OPEN_URI : 0), 5000);
    report.version = db.execAndGet("PRAGMA user_version").getInt();
    if (report.version > kSchemaVersion)
      return Error{"cannot look at the store " + report.file, fmt::format("it was written by a newer version of Souk (schema {}, known here {})", report.version, kSchemaVersion), "use that version"};
    if (report.version < 1) {
      report.findings.push_back("it is a database, but not a store of Souk's");
      return report;
    }
    db.exec("BEGIN");  // one picture of it, whatever a manager writes meanwhile
    Check(db, report).all();
    report.read = true;
  } catch (const std::exception& e) {
    report.findings.push_back(std::string("it cannot be opened: ") + e.what());
  }
  return report;
}

std::string text_of(const StoreReport& r) {
  std::string text = fmt::format("Store: {}, {}{}, {} free for what is to come\n", r.file, size_shown(r.bytes), r.log_bytes > 0 ? fmt::format(" and {} in its log", size_shown(r.log_bytes)) : "", size_shown(r.free_bytes));
  text += fmt::format("Written: {}{}\n", time_shown(r.written_ms), r.in_use ? "; a manager has it open" : "");
  if (!r.read) {
    for (const std::string& finding : r.findings) text += "Problem: " + finding + "\n";
    return text + "What jobs it has cannot be told. Keep a copy of the folder before anything else is done; an older copy of it goes on with --restored.\n";
  }
  text += fmt::format("Version: {} of {}{}\n", r.version, kSchemaVersion, r.version > 0 && r.version < kSchemaVersion ? "; a manager that opens it brings it up to date" : "");
  if (r.counted) text += fmt::format("Lives: {} (epoch)\n", r.epoch);
  if (!r.counted) text += "Jobs: what it has could not be counted\n";
  else text += fmt::format("Jobs: {} open with {} tasks to do, {} ended; the last number given is {}\n", r.jobs_open, r.tasks_open, r.jobs_ended, r.last_job);
  if (r.counted) text += fmt::format("Rows: {} outcomes, {} attempts that did not succeed\n", r.outcomes, r.attempts);
  if (r.forgetting > 0) text += fmt::format("Going: rows of {} jobs that are no longer kept\n", r.forgetting);
  if (r.untold > 0) text += fmt::format("Untold: {} ended jobs whose owners are told at the next start\n", r.untold);
  for (const std::string& finding : r.findings) text += "Problem: " + finding + "\n";
  text += r.findings.empty() ? "Good: nothing wrong was found\n" : "Keep a copy of the folder before anything else is done; tasks of jobs that are not named above go on as they should.\n";
  return text;
}

std::string json_of(const StoreReport& r) {
  std::string findings;
  for (const std::string& finding : r.findings) findings += (findings.empty() ? "" : ",") + json_string(finding);
  const auto count = [&r](std::int64_t number) { return r.counted ? std::to_string(number) : std::string("null"); };  // 0 would be a number
  const auto known = [&r](auto number) { return r.read ? std::to_string(number) : std::string("null"); };
  return fmt::format("{{\"file\":{},\"good\":{},\"read\":{},\"in_use\":{},\"version\":{},\"bytes\":{},\"log_bytes\":{},\"free_bytes\":{},\"written_ms\":{},\"epoch\":{},\"jobs_open\":{},\"jobs_ended\":{},\"last_job\":{},"
                     "\"tasks_open\":{},\"outcomes\":{},\"attempts\":{},\"forgetting\":{},\"untold\":{},\"findings\":[{}]}}",
                     json_string(r.file), r.findings.empty(), r.read, r.in_use, known(r.version), r.bytes, r.log_bytes, count(static_cast<std::int64_t>(r.free_bytes)), r.written_ms, count(r.epoch), count(r.jobs_open),
                     count(r.jobs_ended), count(r.last_job), count(r.tasks_open), count(r.outcomes), count(r.attempts), count(r.forgetting), count(r.untold), findings);
}

}  // namespace souk
