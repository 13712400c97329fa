#include "manager/market.h"

#include <algorithm>
#include <array>

namespace souk {

namespace {

constexpr std::array<std::string_view, 3> kIdentity{"name", "hostname", "owner"};
constexpr std::array<std::string_view, 3> kMeasured{"load", "reliability", "running"};

template <class Names>
bool asks_for(const std::optional<Expression>& expression, const Names& wanted) {
  return expression && std::any_of(wanted.begin(), wanted.end(), [&](std::string_view name) { return expression->names().contains(std::string(name)); });
}
bool asks_of_job(const std::optional<Expression>& expression) {
  return expression && std::any_of(expression->names().begin(), expression->names().end(), [](const std::string& name) { return name.starts_with("job."); });
}

std::optional<Expression> parsed(const std::string& text) {
  if (text.empty()) return std::nullopt;
  auto expression = Expression::parse(text);
  if (!expression) return std::nullopt;  // the shell refuses such a job; a store may hold what an older version understood
  return std::move(expression.value());
}

/// Free disk differs by a few blocks from one machine to the next: rounded down to a sixteenth of its size, alike machines are one class.
std::uint64_t rounded(std::uint64_t bytes) {
  std::uint64_t step = 1;
  while (bytes / step >= 32) step *= 2;
  return bytes / step * step;
}

/// Names in expressions are in lower case; owners may have written them otherwise.
template <class T>
const T* named(const std::map<std::string, T>& things, std::string_view name) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  for (const auto& [key, value] : things)
    if (key.size() == name.size() && std::equal(key.begin(), key.end(), name.begin(), [&](char a, char b) { return lower(a) == lower(b); })) return &value;
  return nullptr;
}

void add(std::string& key, std::string_view part) {
  key += part;
  key += '\0';
}
void add(std::string& key, std::uint64_t number) { add(key, std::to_string(number)); }

}  // namespace

std::string offers_service(std::string_view name) { return "attribute(\"service." + std::string(name) + "\")"; }
std::string offers_image(std::string_view name) { return "attribute(\"image." + std::string(name) + "\")"; }

Value OfferAttributes::attribute(std::string_view name) const {
  const auto number = [](auto value) { return Value(static_cast<double>(value)); };
  const auto text = [](std::string_view value) { return value.empty() ? Value(Undefined{}) : Value(std::string(value)); };
  const auto size = [](std::uint64_t bytes) { return bytes == 0 ? Value(Undefined{}) : Value(static_cast<double>(bytes)); };
  if (name == "slots") return number(offer_.slots);
  if (name == "cpus") return number(offer_.cpus);
  if (name == "memory") return size(offer_.memory_bytes);
  if (name == "disk") return size(rounded(offer_.disk_bytes));
  if (name == "gpus") return number(offer_.gpus.size());
  if (name == "speed") return offer_.speed > 0 ? number(offer_.speed) : Value(Undefined{});
  if (name == "os") return text(offer_.os);
  if (name == "arch") return text(offer_.arch);
  if (name == "cpu_model") return text(offer_.cpu_model);
  if (name == "version") return text(offer_.version);
  if (name == "gpu") return offer_.gpus.empty() ? Value(Undefined{}) : text(offer_.gpus.front());
  if (name == "hostname") return text(offer_.hostname);
  if (name == "network") return Value(offer_.network);
  if (name == "sandbox") return number(static_cast<int>(offer_.sandbox));
  if (name == "bwrap") return number(static_cast<int>(SandboxLevel::bwrap));
  if (name == "cgroup") return number(static_cast<int>(SandboxLevel::cgroup));
  if (name.starts_with("software.")) {
    const std::string* version = named(offer_.software, name.substr(9));
    return version ? Value(Version{*version}) : Value(Undefined{});
  }
  if (name.starts_with("tag.")) {
    const std::string* value = named(offer_.tags, name.substr(4));
    return value ? Value(*value) : Value(Undefined{});
  }
  if (name.starts_with("resource.")) {
    const OfferedResource* resource = named(offer_.resources, name.substr(9));
    return number(resource ? resource->amount : 0);
  }
  if (name.starts_with("service.")) return Value(offer_.services.contains(std::string(name.substr(8))));
  if (name.starts_with("image.")) return Value(offer_.images.contains(std::string(name.substr(6))));
  if (facts_) {
    if (name == "name") return text(facts_->name);
    if (name == "owner") return text(facts_->owner);
    if (name == "load") return number(facts_->load);
    if (name == "reliability") return number(facts_->reliability);
    if (name == "running") return number(facts_->running);
  }
  if (job_) {
    if (name == "job.owner") return text(job_->owner);
    if (name == "job.name") return text(job_->name);
    if (name == "job.priority") return number(job_->priority);
    if (name == "job.tasks") return number(job_->tasks);
  }
  if (needs_) {
    if (name == "job.cpus") return number(needs_->cpus);
    if (name == "job.memory") return number(needs_->memory_bytes);
    if (name == "job.disk") return number(needs_->disk_bytes);
    if (name == "job.gpus") return number(needs_->gpus);
  }
  return Undefined{};
}

std::uint32_t Market::resource_number(const std::string& name) {
  const auto [at, fresh] = by_resource_.try_emplace(name, static_cast<std::uint32_t>(resources_.size()));
  if (fresh) resources_.push_back(name);
  return at->second;
}

Room Market::room_of(const Needs& needs) {
  Room room{needs.cpus, needs.gpus, needs.memory_bytes, needs.disk_bytes, {}};
  for (const auto& [name, amount] : needs.resources) room.named.emplace_back(resource_number(name), amount);
  std::sort(room.named.begin(), room.named.end());
  return room;
}

Room Market::room_of(const Offer& offer) {
  Room room{offer.slots, static_cast<int>(offer.gpus.size()), offer.memory_bytes, rounded(offer.disk_bytes), {}};
  for (const auto& [name, resource] : offer.resources) room.named.emplace_back(resource_number(name), resource.amount);
  std::sort(room.named.begin(), room.named.end());
  return room;
}

TaskClassId Market::task_class(const Group& group, const JobFacts& job) {
  std::string key;
  key.reserve(64 + group.require.size() + group.rank.size());
  const Needs& n = group.needs;
  add(key, static_cast<std::uint64_t>(n.cpus)), add(key, n.memory_bytes), add(key, n.disk_bytes), add(key, static_cast<std::uint64_t>(n.gpus));
  for (const auto& [name, amount] : n.resources) add(key, name), add(key, amount);
  add(key, "|");
  add(key, group.require), add(key, group.rank), add(key, static_cast<std::uint64_t>(group.time_limit.count()));
  // Expressions over the job itself make one class for each such job.
  const bool may_ask_of_job = group.require.find("job.") != std::string::npos || group.rank.find("job.") != std::string::npos;
  if (may_ask_of_job) add(key, job.owner), add(key, job.name), add(key, std::to_string(job.priority)), add(key, job.tasks);
  const std::size_t key_of_task = key.size();
  auto accepted = acceptances_.empty() ? std::vector<AcceptanceId>{} : this->accepted(job.owner);
  for (const AcceptanceId one : accepted) add(key, one);
  const auto [id, fresh] = class_of(key);
  if (!fresh) return id;
  TaskClass& made = tasks_[id];
  made.key_of_task = key_of_task, made.accepted = std::move(accepted);
  made.needs = n;
  made.need = room_of(n);
  made.require = parsed(group.require), made.rank = parsed(group.rank);
  made.impossible = !made.require && !group.require.empty();
  if (asks_of_job(made.require) || asks_of_job(made.rank)) made.job = job;
  made.time_limit = group.time_limit;
  made.measured = asks_for(made.require, kMeasured) || asks_for(made.rank, kMeasured);
  made.of_each_worker = made.measured || asks_for(made.require, kIdentity) || asks_for(made.rank, kIdentity);
  return id;
}

/// The class of that key, with one more user; true: it is new and has nothing but its key.
std::pair<TaskClassId, bool> Market::class_of(const std::string& key) {
  const auto [at, fresh] = by_task_key_.try_emplace(key, 0);
  if (!fresh) {
    ++tasks_[at->second].users;
    return {at->second, false};
  }
  if (unused_.empty()) {
    at->second = static_cast<TaskClassId>(tasks_.size());
    tasks_.emplace_back();
  } else {
    at->second = unused_.back();
    unused_.pop_back();
  }
  tasks_[at->second] = {};
  tasks_[at->second].key = key;
  tasks_[at->second].users = 1;
  return {at->second, true};
}

std::vector<AcceptanceId> Market::accepted(const std::string& owner) const {
  const std::vector<std::string> groups = groups_.of(owner);
  std::vector<AcceptanceId> by;
  for (std::size_t i = 0; i < acceptances_.size(); ++i)
    if (any_means(acceptances_[i], owner, groups)) by.push_back(static_cast<AcceptanceId>(i + 1));
  return by;
}

TaskClassId Market::reclassed(TaskClassId id, const std::vector<AcceptanceId>& accepted) {
  std::string key = tasks_[id].key.substr(0, tasks_[id].key_of_task);
  for (const AcceptanceId one : accepted) add(key, one);
  const auto [other, fresh] = class_of(key);
  if (!fresh) return other;
  const TaskClass& old = tasks_[id];
  TaskClass& made = tasks_[other];
  made.needs = old.needs, made.need = old.need, made.require = old.require, made.rank = old.rank, made.job = old.job, made.time_limit = old.time_limit;
  made.impossible = old.impossible, made.of_each_worker = old.of_each_worker, made.measured = old.measured;
  made.key_of_task = old.key_of_task, made.accepted = accepted;
  return other;
}

bool Market::accepts(const WorkerClass& worker, const TaskClass& task) {
  return worker.acceptance == 0 || std::binary_search(task.accepted.begin(), task.accepted.end(), worker.acceptance);
}

AcceptanceId Market::acceptance_of(const std::vector<Who>& accept) {
  if (accept.empty() || std::any_of(accept.begin(), accept.end(), [](const Who& who) { return who.kind == Who::Kind::anyone; })) return 0;
  std::vector<std::string> texts;
  for (const Who& who : accept) texts.push_back(who.text());
  std::sort(texts.begin(), texts.end());
  std::string key;
  for (const std::string& text : texts) add(key, text);
  if (const auto known = by_acceptance_.find(key); known != by_acceptance_.end()) return known->second;
  if (acceptances_.size() >= kAcceptancesMax) return ~AcceptanceId{0};  // of which nobody is accepted
  acceptances_.push_back(accept);
  return by_acceptance_[key] = static_cast<AcceptanceId>(acceptances_.size());
}

void Market::give_up(TaskClassId id) {
  TaskClass& task = tasks_[id];
  if (--task.users > 0) return;
  by_task_key_.erase(task.key);
  task = {};
  unused_.push_back(id);
}

WorkerClassId Market::worker_class(const Offer& offer) {
  std::string key;
  add(key, static_cast<std::uint64_t>(offer.slots)), add(key, static_cast<std::uint64_t>(offer.cpus)), add(key, offer.memory_bytes), add(key, rounded(offer.disk_bytes));
  add(key, offer.os), add(key, offer.arch), add(key, offer.cpu_model), add(key, offer.version);
  add(key, static_cast<std::uint64_t>(offer.speed * 10 + 0.5));
  for (const auto& [name, version] : offer.software) add(key, name), add(key, version);
  add(key, "|");
  for (const auto& gpu : offer.gpus) add(key, gpu);
  add(key, "|");
  for (const auto& [name, value] : offer.tags) add(key, name), add(key, value);
  add(key, "|");
  for (const auto& [name, resource] : offer.resources) add(key, name), add(key, resource.amount);
  add(key, "|");
  for (const auto& name : offer.services) add(key, name);
  add(key, "|");
  for (const auto& name : offer.images) add(key, name);
  add(key, "|");
  add(key, static_cast<std::uint64_t>(offer.sandbox)), add(key, static_cast<std::uint64_t>(offer.network));
  const AcceptanceId acceptance = acceptance_of(offer.accept);
  if (acceptance != 0) add(key, "accept"), add(key, acceptance);
  const auto [at, fresh] = by_worker_key_.try_emplace(key, static_cast<WorkerClassId>(workers_.size()));
  if (fresh) workers_.push_back({std::make_shared<const Offer>(offer), room_of(offer), acceptance, key});
  return at->second;
}

const std::vector<Market::Fitting>& Market::fitting(TaskClassId id) {
  TaskClass& task = tasks_[id];
  for (; task.judged < workers_.size(); ++task.judged) {
    const WorkerClass& worker = workers_[task.judged];
    if (task.impossible || !fits(task.need, worker.capacity) || !accepts(worker, task)) continue;
    if (task.of_each_worker) {
      task.fitting.push_back({task.judged, 0});
      continue;
    }
    ++judgements_;
    const OfferAttributes attributes(*worker.offer, nullptr, &task.job, &task.needs);
    if (task.require && !holds(task.require->evaluate(attributes))) continue;
    task.fitting.push_back({task.judged, task.rank ? rank_of(task.rank->evaluate(attributes)) : 0});
  }
  return task.fitting;
}

Market::Judgement Market::judge(const TaskClass& task, const Offer& offer, const WorkerFacts& facts) const {
  const OfferAttributes attributes(offer, &facts, &task.job, &task.needs);
  if (task.require && !holds(task.require->evaluate(attributes))) return {};
  return {true, task.rank ? rank_of(task.rank->evaluate(attributes)) : 0};
}

}  // namespace souk
