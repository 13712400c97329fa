#include "manager/restoration.h"

#include <SQLiteCpp/SQLiteCpp.h>
#include <spdlog/spdlog.h>

#include "manager/lacks.h"
#include "manager/schema.h"
#include "manager/statements.h"

namespace souk {

Result<Done> mark_put_back(const std::filesystem::path& store, std::uint64_t now_ms) {
  const auto bad = [&](std::string why) { return Error{"cannot go on with the store " + store.string(), std::move(why), "put a copy of the whole folder there while no manager runs"}; };
  std::error_code none;
  if (!std::filesystem::exists(store, none)) return bad("it is not there");
  try {
    const StoreLock lock(store);
    const auto db = open_store(store);  // which begins an epoch, as any start does
    Statements sql(*db);
    const auto number = [&](const char* text) {
      Query query(sql[text]);
      return query.next() ? query.number(0) : 0;
    };
    SQLite::Transaction transaction(*db);
    const std::uint64_t from = number("SELECT value FROM meta WHERE name='epoch'");
    // One copy may be put back more than once, and the lives that follow must not share epochs: the clock tells them apart.
    const std::uint64_t to = (from / kEpochLeap + 1) * kEpochLeap + now_ms / 10 % 100'000'000;
    const std::uint64_t after_ms = number("SELECT max((SELECT coalesce(max(max(submitted_ms,started_ms,ended_ms)),0) FROM jobs),(SELECT coalesce(max(ended_ms),0) FROM attempts))");
    const std::uint64_t last_job = number("SELECT max((SELECT coalesce(max(value),0) FROM meta WHERE name='last_job'),(SELECT coalesce(max(id),0) FROM jobs))");
    Lacks lacks({});
    Lacks::Facts facts = lacks.put_back(now_ms, after_ms, {from});
    facts.merge(lacks.lost({from}, {to}));
    facts["epoch"] = to, facts["last_job"] = (last_job / kEpochLeap + 1) * kEpochLeap;
    for (const auto& [name, value] : facts) Query(sql["INSERT INTO meta VALUES(?,?) ON CONFLICT(name) DO UPDATE SET value=excluded.value"], name, value).run();
    const std::string note = "the store was put back from a copy: some of its tasks may have been done since";
    Query(sql["UPDATE jobs SET held=1, note=? WHERE ended_ms=0 AND canceled=0"], note).run();
    const int held = db->getChanges();
    transaction.commit();
    spdlog::warn("store put back file={} epochs_lost={}-{} jobs_held={} next_job={}", store.string(), from, to, held, facts["last_job"] + 1);
  } catch (const std::exception& e) {
    return bad(e.what());
  }
  return Done{};
}

}  // namespace souk
