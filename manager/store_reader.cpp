#include <sqlite3.h>

#include <algorithm>
#include <stdexcept>

#include "manager/store_rows.h"

namespace souk {

void StoreReader::restore(Journal::Restored& restored) {
  SQLite::Database& db = sql_.database();
  restored.epoch = {static_cast<std::uint64_t>(db.execAndGet("SELECT value FROM meta WHERE name='epoch'").getInt64())};
  restored.last_job = {static_cast<std::uint64_t>(db.execAndGet("SELECT coalesce(max(value),0) FROM meta WHERE name='last_job'").getInt64())};
  SQLite::Statement facts_text(db, "SELECT name,value FROM meta");
  for (Query row(facts_text); row.next();) restored.facts[row.bytes(0)] = row.number(1);
  SQLite::Statement jobs_text(db, "SELECT id,owner,key,name,command,tasks,retries,notify,canceled,submitted_ms,started_ms,ended_ms,state,succeeded,failed,"
                                  "canceled_tasks,requeued,retried,priority,held,deadline_ms,note,layout FROM jobs ORDER BY id");
  SQLite::Statement spec_text(db, "SELECT spec FROM specs WHERE job=?");
  for (Query row(jobs_text); row.next();) {
    JobRow& r = restored.jobs.emplace_back();
    r.id = {row.number(0)}, r.owner = row.bytes(1), r.key = row.bytes(2), r.name = row.bytes(3), r.command = row.bytes(4), r.tasks = row.number(5);
    r.retries = static_cast<unsigned>(row.number(6)), r.notify = row.number(7) != 0, r.canceled = row.number(8) != 0;
    r.submitted_ms = row.number(9), r.started_ms = row.number(10), r.ended_ms = row.number(11), r.state = static_cast<TaskState>(row.number(12));
    r.succeeded = row.number(13), r.failed = row.number(14), r.canceled_tasks = row.number(15), r.requeued = row.number(16), r.retried = row.number(17);
    r.priority = row.small(18), r.held = row.number(19) != 0, r.deadline_ms = row.number(20), r.note = row.bytes(21), r.layout = row.bytes(22);
    if (r.ended_ms > 0) continue;
    if (Query spec(spec_text, r.id.value); spec.next()) r.spec = spec.bytes(0);
  }
  SQLite::Statement ended_text(db, "SELECT job,task,state FROM outcomes WHERE job IN (SELECT id FROM jobs WHERE ended_ms=0) ORDER BY job,task");
  for (Query row(ended_text); row.next();) restored.ended.push_back({{{row.number(0)}, {row.number(1)}}, static_cast<TaskState>(row.number(2))});
  // The last row of a task has its counts.
  SQLite::Statement past_text(db, "SELECT job,task,run,failures,losses,again_ms,epoch,number,voter,vote FROM attempts WHERE job IN (SELECT id FROM jobs WHERE ended_ms=0) ORDER BY job,task,rowid");
  for (Query row(past_text); row.next();) {
    const TaskId task{{row.number(0)}, {row.number(1)}};
    if (restored.past.empty() || restored.past.back().task != task) restored.past.push_back({task, 0, 0, 0, 0, {}});
    Journal::Past& p = restored.past.back();
    if (row.number(3) > p.failures) p.votes.clear();  // they agreed that it failed, and what came then began anew
    p.runs = std::max(p.runs, static_cast<unsigned>(row.number(2))), p.failures = static_cast<unsigned>(row.number(3)), p.losses = static_cast<unsigned>(row.number(4)), p.again_ms = row.number(5);
    if (const AttemptId over{{row.number(6)}, row.number(7)}; over != AttemptId{}) p.over = over;
    if (std::string voter = row.bytes(8); !voter.empty()) p.votes.push_back({{{row.number(6)}, row.number(7)}, std::move(voter), row.bytes(9)});
  }
  SQLite::Statement untold_text(db, "SELECT job FROM untold ORDER BY job");
  for (Query row(untold_text); row.next();) restored.untold.push_back({row.number(0)});
}

std::vector<std::pair<JobId, std::uint64_t>> StoreReader::sizes() {
  std::map<JobId, std::uint64_t> of;
  for (Query row(sql_["SELECT job,ifnull(length(spec),0) FROM specs"]); row.next();) of[{static_cast<std::uint64_t>(row.number(0))}] += static_cast<std::uint64_t>(row.number(1));
  for (Query row(sql_["SELECT job,sum(64+ifnull(length(item),0)+ifnull(length(outcome),0)+ifnull(length(out),0)+ifnull(length(err),0)) FROM outcomes GROUP BY job"]); row.next();)
    of[{static_cast<std::uint64_t>(row.number(0))}] += static_cast<std::uint64_t>(row.number(1));
  return {of.begin(), of.end()};
}

std::vector<OutcomeRow> StoreReader::outcomes(const Journal::Page& page) {
  // Streams are read one by one, so that what does not fit is never loaded.
  constexpr const char* all = "SELECT task,state,attempts,worker,item,outcome,length(out),length(err),rowid FROM outcomes WHERE job=?1 AND task>=?2 AND task<=?3 ORDER BY task LIMIT ?4";
  constexpr const char* failed = "SELECT task,state,attempts,worker,item,outcome,length(out),length(err),rowid FROM outcomes WHERE job=?1 AND task>=?2 AND task<=?3 AND state=3 ORDER BY task LIMIT ?4";
  std::vector<OutcomeRow> rows;
  std::size_t room = page.bytes_max;
  for (Query row(sql_[page.failed_only ? failed : all], page.job.value, page.from, page.to == 0 ? std::uint64_t{INT64_MAX} : page.to, page.limit); row.next();) {
    OutcomeRow& r = rows.emplace_back();
    r.task = {page.job, {row.number(0)}};
    r.state = static_cast<TaskState>(row.small(1)), r.attempts = static_cast<unsigned>(row.number(2)), r.worker = row.bytes(3), r.item = row.bytes(4), r.outcome = row.bytes(5);
    r.out_kept = row.number(6), r.err_kept = row.number(7);
    if (!page.streams || r.out_kept + r.err_kept == 0 || r.out_kept + r.err_kept > room) continue;
    if (Query streams(sql_["SELECT out,err FROM outcomes WHERE rowid=?"], row.number(8)); streams.next()) r.out = streams.bytes(0), r.err = streams.bytes(1);
    room -= r.out_kept + r.err_kept;
  }
  return rows;
}

Journal::History StoreReader::history(TaskId task) {
  Journal::History found;
  if (auto rows = outcomes({task.job, task.task.value, task.task.value, 1, 0, false, false}); !rows.empty()) found.outcome = std::move(rows.front());
  for (Query row(sql_["SELECT run,worker,host,ending,last_lines,ended_ms,wall_us FROM attempts WHERE job=? AND task=? ORDER BY rowid"], task.job.value, task.task.value); row.next();) {
    AttemptRow& r = found.attempts.emplace_back();
    r.task = task, r.run = static_cast<unsigned>(row.number(0)), r.worker = row.bytes(1), r.host = row.bytes(2), r.ending = row.bytes(3), r.last_lines = row.bytes(4);
    r.ended_ms = row.number(5), r.wall_us = row.number(6);
  }
  return found;
}

Journal::Kept StoreReader::kept(JobId job) {
  Journal::Kept found;
  if (Query spec(sql_["SELECT spec FROM specs WHERE job=?"], job.value); spec.next()) found.spec = spec.bytes(0);
  for (Query row(sql_["SELECT task FROM outcomes WHERE job=? AND state=? ORDER BY task"], job.value, static_cast<int>(TaskState::succeeded)); row.next();)
    found.succeeded.emplace_back(TaskNumber{row.number(0)}, TaskState::succeeded);
  for (Query row(sql_["SELECT task,MAX(run) FROM attempts WHERE job=? GROUP BY task ORDER BY task"], job.value); row.next();)
    found.runs.emplace_back(TaskNumber{row.number(0)}, static_cast<unsigned>(row.number(1)));
  return found;
}

/// Reads the slice alone, not the whole stream for every slice of it.
Journal::Slice StoreReader::stream(TaskId task, bool err, std::uint64_t offset, std::size_t bytes) {
  Journal::Slice slice;
  std::uint64_t row = 0;
  {
    constexpr const char* out_text = "SELECT rowid,length(out) FROM outcomes WHERE job=? AND task=?";
    constexpr const char* err_text = "SELECT rowid,length(err) FROM outcomes WHERE job=? AND task=?";
    Query found(sql_[err ? err_text : out_text], task.job.value, task.task.value);
    if (!found.next()) return slice;
    row = found.number(0), slice.size = found.number(1);
  }
  if (offset >= slice.size) return slice;
  slice.data.resize(std::min<std::uint64_t>(bytes, slice.size - offset));
  sqlite3* db = sql_.database().getHandle();
  sqlite3_blob* stream = nullptr;
  int code = sqlite3_blob_open(db, "main", "outcomes", err ? "err" : "out", static_cast<sqlite3_int64>(row), 0, &stream);
  if (code == SQLITE_OK) code = sqlite3_blob_read(stream, slice.data.data(), static_cast<int>(slice.data.size()), static_cast<int>(offset));
  sqlite3_blob_close(stream);
  if (code != SQLITE_OK) throw std::runtime_error(sqlite3_errstr(code));
  return slice;
}

}  // namespace souk
