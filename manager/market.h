// Offers meet requirements: tasks with the same needs form a class, workers with the same offer form a class, and each pair is judged once.
// Pure; knows no job, no attempt and no time.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "manager/event.h"
#include "manager/room.h"
#include "protocol/expression.h"

namespace souk {

using TaskClassId = std::uint32_t;
using WorkerClassId = std::uint32_t;
using AcceptanceId = std::uint32_t;  // of workers that take tasks of some people only, those that take them of the same; 0: they take anyone's

constexpr AcceptanceId kAcceptancesMax = 10'000;  // different ones; who comes with another then gets nothing

/// What expressions may ask of the job (`job.owner`, ...).
struct JobFacts {
  std::string owner, name;
  int priority = 0;
  std::uint64_t tasks = 1;
};
/// What they may ask of one worker beside its offer.
struct WorkerFacts {
  std::string_view name, owner;  // nick, and bare JID of whose it is
  double load = 0;               // slots taken of those offered
  double reliability = 1;
  int running = 0;
};

class Market {
 public:
  struct Judgement {
    bool fits = false;
    double rank = 0;
  };
  struct Fitting {
    WorkerClassId worker_class;
    double rank;
  };
  struct TaskClass {
    Needs needs;
    Room need;
    std::optional<Expression> require, rank;
    JobFacts job;                  // those that the expressions ask for; else as default
    Duration time_limit{0};
    bool impossible = false;       // a requirement that this version cannot read: nobody fits
    bool of_each_worker = false;   // asks for what differs within a worker class: judged worker by worker
    bool measured = false;         // even asks for what changes all the time
    std::uint64_t users = 0;       // groups of jobs that have not ended
    std::vector<Fitting> fitting;  // of the worker classes known when fitting() was asked last
    WorkerClassId judged = 0;      // how many those were
    std::vector<AcceptanceId> accepted;  // by which workers its owner is, of those that are not anyone's; ordered
    std::string key;
    std::size_t key_of_task = 0;   // of the key; the rest is `accepted`
  };
  struct WorkerClass {
    std::shared_ptr<const Offer> offer;  // of one of them: what differs within the class must not be asked of it
    Room capacity;
    AcceptanceId acceptance = 0;
    std::string key;
  };

  /// The class of a group's tasks; give_up() it when its job has ended. Ids are used again.
  TaskClassId task_class(const Group& group, const JobFacts& job);
  void give_up(TaskClassId id);
  WorkerClassId worker_class(const Offer& offer);
  /// How many different acceptances were seen. When there are more, or the groups changed, tasks of some owners belong to other classes: reclassed().
  std::size_t acceptances() const { return acceptances_.size(); }
  void set_groups(Groups groups) { groups_ = std::move(groups); }
  /// By which of the workers that are not anyone's this owner is accepted, ordered.
  std::vector<AcceptanceId> accepted(const std::string& owner) const;
  /// The class of the same tasks, of an owner who is accepted by these; counts as a user of it. The old class keeps the users it has.
  TaskClassId reclassed(TaskClassId id, const std::vector<AcceptanceId>& accepted);
  static bool accepts(const WorkerClass& worker, const TaskClass& task);

  const TaskClass& task(TaskClassId id) const { return tasks_[id]; }
  const WorkerClass& worker(WorkerClassId id) const { return workers_[id]; }
  std::size_t task_classes() const { return tasks_.size(); }
  std::size_t worker_classes() const { return workers_.size(); }

  /// The worker classes whose capacity and attributes satisfy it, of all ever seen; for classes judged worker by worker, by capacity alone.
  const std::vector<Fitting>& fitting(TaskClassId id);
  /// Of one worker: what fitting() does not know when `of_each_worker`.
  Judgement judge(const TaskClass& task, const Offer& offer, const WorkerFacts& facts) const;
  /// How often expressions were evaluated for a pair of classes. For tests and the curious.
  std::uint64_t judgements() const { return judgements_; }

  Room room_of(const Needs& needs);
  Room room_of(const Offer& offer);
  const std::string& resource(std::uint32_t number) const { return resources_[number]; }

 private:
  std::uint32_t resource_number(const std::string& name);
  AcceptanceId acceptance_of(const std::vector<Who>& accept);
  std::pair<TaskClassId, bool> class_of(const std::string& key);

  std::vector<TaskClass> tasks_;
  std::vector<TaskClassId> unused_;
  std::unordered_map<std::string, TaskClassId> by_task_key_;
  std::vector<WorkerClass> workers_;
  std::unordered_map<std::string, WorkerClassId> by_worker_key_;
  std::vector<std::string> resources_;
  std::unordered_map<std::string, std::uint32_t> by_resource_;
  std::vector<std::vector<Who>> acceptances_;  // from number 1 on
  std::map<std::string, AcceptanceId> by_acceptance_;
  Groups groups_;
  std::uint64_t judgements_ = 0;
};

/// The requirement of tasks that call this service.
std::string offers_service(std::string_view name);
/// And of tasks that run in this image.
std::string offers_image(std::string_view name);

/// An offer, and what is known of one worker, as attributes; docs/EXPRESSIONS.md lists them.
class OfferAttributes : public Attributes {
 public:
  OfferAttributes(const Offer& offer, const WorkerFacts* facts, const JobFacts* job, const Needs* needs) : offer_(offer), facts_(facts), job_(job), needs_(needs) {}
  Value attribute(std::string_view name) const override;

 private:
  const Offer& offer_;
  const WorkerFacts* facts_;
  const JobFacts* job_;
  const Needs* needs_;
};

}  // namespace souk
