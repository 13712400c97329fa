// A whole grid on a seed: the real cores of manager and worker, a network that is a throw of dice, and laws that are asked after every step.
#pragma once
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/simulation/host.h"
#include "tests/simulation/laws.h"
#include "tests/simulation/market.h"
#include "tests/simulation/plan.h"
#include "tests/simulation/world.h"

namespace souk::simulation {

/// What may not happen to a message.
enum class Care : std::uint8_t {
  none,
  in_order,  // overtakes nothing
  fence,     // nor is it overtaken: the answer to a hello, which what comes behind it relies on
  surely,    // in order, and never lost
};

class Simulation {
 public:
  explicit Simulation(std::uint64_t seed) : Simulation(seed, Plan::draw(seed)) {}
  Simulation(std::uint64_t seed, Plan plan);

  /// Runs until every job ended, or a law is broken, which is returned in words with the last events and how to repeat it.
  std::optional<std::string> run();
  /// The parts of run(), for tests that look on the way.
  void begin();
  /// Until all jobs have ended, or `now() >= end`.
  void run_until(Instant end);
  std::string report() const;

  // ---- For the parties ----
  /// Over the network. request: when nobody is there, its answer says so.
  void to_host(std::size_t host, std::function<void(Host&)> what, std::uint64_t request = 0);
  void to_market(std::size_t host, std::function<void(Market&)> what, Care care = Care::none);
  void enters_room(std::size_t host);
  void leaves_room(std::size_t host, bool quiet);
  bool in_room(std::size_t host) const { return room_.contains(host); }
  void boots_later(std::size_t host);
  Offer claimed(std::size_t host) const;
  Scheduler::Rules rules() const;
  void old_market_hears(std::uint64_t request, const std::variant<HelloAnswer, AssignAnswer>& answer);
  void old_market_is_fenced();
  Instant disk_takes_at() const { return disk_takes_at_; }  // past: it takes what is written
  void names_job(JobId job, const std::string& key);
  /// Nobody will say anything more of it: its orders were carried out, and what may wait for it was accepted, and will not run again.
  bool is_done_with(JobId job) const;
  void forgets(std::map<JobId, Journal::Job>::node_type job);
  bool is_forgotten(const std::string& key) const;
  std::optional<JobId> id_of(std::size_t job) const;
  const JobPlan& plan_of(JobId job) const { return plan.jobs[plans_.at(job)]; }
  const Group* group_of(TaskId task) const;
  Fate fate_of(TaskId task) const { return plan.fate(seed_, plans_.at(task.job), task.task.value); }

  struct Truth {
    TaskId task;
    std::size_t host;
    bool succeeded;
  };
  struct To {
    TaskId task;
    std::set<std::size_t> hosts;
  };
  World world;
  const Plan plan;
  Laws laws;
  std::map<AttemptId, Truth> truths;  // how attempts really ended
  std::map<AttemptId, To> given;      // what the manager gave out
  std::map<std::string, Duration> used;  // slot time of attempts that ended, by owner
  std::uint64_t requests = 0, starts = 0;
  const Scheduler& scheduler() const { return market_->scheduler(); }

 private:
  struct Stream {
    Instant last{}, fence{};
    Instant deaf_until{};  // carries nothing until then
    bool holds = false;    // and then all of it, late; else nothing of it ever
  };
  struct Link {
    Stream to, from;
    Instant last_presence{};
    bool away = false;  // its stream broke, and it has not come back
  };
  Duration patience() const;
  bool stormy() const { return world.now() < Instant(plan.clears); }
  void carry(Stream& stream, std::function<void()> deliver, Care care = Care::none);
  void carry_presence(std::size_t host, std::function<void()> deliver);
  void start_faults();
  void every(Duration mean, std::function<void()> fault);
  void start_submitters();
  void submit(std::size_t job);
  void order(std::size_t job, Order order);
  void sees_manager_go(Host& host);
  void manager_dies();
  void manager_starts();
  void link_breaks();
  void market_returns(Duration pause);
  void ask_again(std::size_t job);
  void taken_over();
  void with_market(std::function<void(Market&)> what);
  void server_dies();
  void server_starts();
  void goes_deaf(std::size_t host);
  /// The stream of a worker breaks, and it comes back by itself.
  void link_of_breaks(std::size_t host, Duration away);
  void disk_refuses(Duration how_long);
  void clear_up();
  bool all_over() const;

  const std::uint64_t seed_;
  std::vector<std::unique_ptr<Host>> hosts_;
  std::vector<Link> links_;
  bool server_up_ = true;
  std::uint64_t server_life_ = 0;
  Instant disk_takes_at_{};
  Journal journal_;
  std::unique_ptr<Market> market_;
  std::unique_ptr<Market> old_;  // beside the one that took over
  std::vector<std::unique_ptr<Market>> dead_;
  std::set<std::size_t> room_;
  std::map<JobId, std::size_t> plans_;
  std::set<JobId> forgotten_;
  std::map<std::size_t, JobId> answered_;                        // to the submitter
  std::set<std::pair<std::size_t, Order>> orders_done_;
};

}  // namespace souk::simulation
