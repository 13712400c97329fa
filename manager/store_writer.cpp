#include "manager/store_rows.h"

namespace souk {

namespace {

std::size_t texts(const JobRow& r) { return sizeof(Write) + r.owner.size() + r.key.size() + r.name.size() + r.command.size() + r.spec.size() + r.note.size() + r.layout.size(); }

struct Bytes {
  std::size_t operator()(const JobRow& r) const { return texts(r); }
  std::size_t operator()(const EndRow& r) const { return texts(r.job); }
  std::size_t operator()(const ReopenRow& r) const { return texts(r.job); }
  std::size_t operator()(const OutcomeRow& r) const { return sizeof(Write) + r.worker.size() + r.item.size() + r.outcome.size() + r.out.size() + r.err.size(); }
  std::size_t operator()(const AttemptRow& r) const { return sizeof(Write) + r.worker.size() + r.host.size() + r.ending.size() + r.last_lines.size() + r.voter.size() + r.vote.size(); }
  template <class Small>
  std::size_t operator()(const Small&) const { return sizeof(Write); }
};

}  // namespace

std::size_t bytes_of(const Write& write) { return std::visit(Bytes{}, write); }

void StoreWriter::put_row(const JobRow& r) {
  Query(sql_["INSERT OR IGNORE INTO jobs(id,owner,key,name,command,tasks,retries,notify,canceled,submitted_ms,started_ms,ended_ms,state,"
             "succeeded,failed,canceled_tasks,requeued,retried,priority,held,deadline_ms,note,layout) "
             "VALUES(?,?,?,?,?,?,?,?,0,?,0,0,0,0,0,0,0,0,?,?,?,'',?)"],
        r.id.value, r.owner, r.key, r.name, r.command, r.tasks, r.retries, r.notify, r.submitted_ms, r.priority, r.held, r.deadline_ms, r.layout)
      .run();
  Query(sql_["INSERT OR IGNORE INTO specs VALUES(?,?)"], r.id.value, Blob{r.spec}).run();
}
void StoreWriter::put_row(const CancelRow& r) { Query(sql_["UPDATE jobs SET canceled=1 WHERE id=?"], r.job.value).run(); }
void StoreWriter::put_row(const HoldRow& r) { Query(sql_["UPDATE jobs SET held=?, note='' WHERE id=?"], r.held, r.job.value).run(); }
void StoreWriter::put_row(const FactRow& r) {
  if (r.value == 0) return Query(sql_["DELETE FROM meta WHERE name=?"], r.name).run();
  Query(sql_["INSERT INTO meta VALUES(?,?) ON CONFLICT(name) DO UPDATE SET value=excluded.value"], r.name, r.value).run();
}

void StoreWriter::put_row(const AttemptRow& r) {
  Query(sql_["INSERT INTO attempts(job,task,run,failures,losses,again_ms,epoch,number,worker,host,ending,ended_ms,wall_us,last_lines,voter,vote) "
             "VALUES(?,?,?,?,?,?,?,?,?,?,?,?,?,?,nullif(?,''),nullif(?,x''))"],
        r.task.job.value, r.task.task.value, r.run, r.failures, r.losses, r.again_ms, r.over.epoch.value, r.over.number, r.worker, r.host, r.ending, r.ended_ms, r.wall_us, Blob{r.last_lines}, r.voter, Blob{r.vote})
      .run();
  Query(sql_["DELETE FROM attempts WHERE rowid IN (SELECT rowid FROM attempts WHERE job=? AND task=? ORDER BY rowid DESC LIMIT -1 OFFSET ?)"], r.task.job.value, r.task.task.value,
        Journal::kAttemptsKept)
      .run();
}

void StoreWriter::put_row(const ReopenRow& reopened) {
  const JobRow& r = reopened.job;
  Query(sql_["DELETE FROM outcomes WHERE job=? AND state<>?"], r.id.value, static_cast<int>(TaskState::succeeded)).run();
  Query(sql_["UPDATE attempts SET failures=0,losses=0,again_ms=0,voter=NULL,vote=NULL WHERE job=?"], r.id.value).run();
  Query(sql_["UPDATE jobs SET key=?,deadline_ms=?,held=0,canceled=0,note='',started_ms=0,ended_ms=0,state=0,succeeded=0,failed=0,canceled_tasks=0,requeued=0,retried=0 WHERE id=?"], r.key,
        r.deadline_ms, r.id.value)
      .run();
  Query(sql_["UPDATE specs SET spec=? WHERE job=?"], Blob{r.spec}, r.id.value).run();
  Query(sql_["DELETE FROM untold WHERE job=?"], r.id.value).run();
}

void StoreWriter::put_row(const OutcomeRow& r) {
  Query(sql_["INSERT OR IGNORE INTO outcomes VALUES(?,?,?,?,?,?,?,?,?)"], r.task.job.value, r.task.task.value, static_cast<int>(r.state), r.attempts, r.worker, Blob{r.item}, Blob{r.outcome},
        Blob{r.out}, Blob{r.err})
      .run();
}

void StoreWriter::put_row(const EndRow& e) {
  const JobRow& r = e.job;
  Query(sql_["UPDATE jobs SET started_ms=?,ended_ms=?,state=?,succeeded=?,failed=?,canceled_tasks=?,requeued=?,retried=?,note=? WHERE id=?"], r.started_ms, r.ended_ms, static_cast<int>(r.state),
        r.succeeded, r.failed, r.canceled_tasks, r.requeued, r.retried, r.note, r.id.value)
      .run();
  Query(sql_["INSERT OR IGNORE INTO untold VALUES(?)"], r.id.value).run();
}

void StoreWriter::put_row(const ToldRow& r) { Query(sql_["DELETE FROM untold WHERE job=?"], r.job.value).run(); }

void StoreWriter::put_row(const VotesRow& r) {
  Query(sql_["UPDATE attempts SET voter=NULL,vote=NULL WHERE voter=?1 OR substr(voter,1,length(?1)+1)=?1||'/'"], r.account).run();
}

/// The job is gone with this; its rows follow bit by bit, and after a crash as well. Its number is never given again.
void StoreWriter::put_row(const ForgetRow& r) {
  Query(sql_["INSERT OR IGNORE INTO forgotten VALUES(?)"], r.job.value).run();
  Query(sql_["INSERT INTO meta VALUES('last_job',?) ON CONFLICT(name) DO UPDATE SET value=max(value,excluded.value)"], r.job.value).run();
  Query(sql_["DELETE FROM jobs WHERE id=?"], r.job.value).run();
  Query(sql_["DELETE FROM specs WHERE job=?"], r.job.value).run();
  Query(sql_["DELETE FROM untold WHERE job=?"], r.job.value).run();
}

}  // namespace souk
