#include "worker/owner.h"

#include <spdlog/spdlog.h>

#include "protocol/form.h"

namespace souk::worker {

using std::chrono::steady_clock;
using std::chrono::system_clock;

Result<Rules> Owner::rules_of(const Setup& setup, system_clock::time_point began) {
  std::map<std::string, std::string> texts = setup.texts;
  if (!setup.file.empty()) {
    auto in_file = rule_texts_in(setup.file);
    if (!in_file) return in_file.error();
    texts.merge(in_file.value());  // what is there already stays
  }
  auto rules = rules_from(texts);
  if (rules && !rules.value().until.empty()) {
    Rules with_time = rules.value();
    with_time.until_ms = until_ms(with_time.until, began);
    return with_time;
  }
  return rules;
}

Owner::Owner(boost::asio::io_context& loop, Setup setup, Rules rules, system_clock::time_point began)
    : setup_(std::move(setup)), began_(began), policy_(std::move(rules), setup_.slots), version_(version()), timer_(loop) {}

Owner::Version Owner::version() const {
  std::error_code failure;
  Version seen;
  if (!has_file()) return seen;
  seen.written = std::filesystem::last_write_time(setup_.file, failure);
  seen.size = std::filesystem::file_size(setup_.file, failure);
  return seen;
}

void Owner::start() {
  look();
  look_later();
}

void Owner::look_later() {
  looking_ = has_file() || rules().any();
  if (!looking_) return;
  timer_.expires_after(kLookEvery);
  timer_.async_wait([this](auto error) {
    if (error) return;
    if (version() != version_) read_again();
    else look();
    look_later();
  });
}

void Owner::read_again() {
  version_ = version();
  const auto rules = rules_of(setup_with(told_), began_);
  if (rules) {
    spdlog::info("policy read file=\"{}\"", setup_.file.string());
    policy_.change(rules.value());
    warned_ = false;
  } else {
    spdlog::error("policy unchanged why=\"{}\"", printable(rules.error().text()));
  }
  look();
}

Owner::Setup Owner::setup_with(const std::map<std::string, std::string>& told) const {
  Setup setup = setup_;
  for (const auto& [key, text] : told) setup.texts[key] = text;
  return setup;
}

Result<Done> Owner::change(const std::map<std::string, std::string>& texts) {
  auto told = told_;
  for (const auto& [key, text] : texts) {
    // What a form shows and comes back as it was is no wish: a policy file may still change it.
    if (const auto now = this->texts(); now.contains(key) && now.at(key) == text) continue;
    if (text.empty()) told.erase(key);
    else told[key] = text;
  }
  const auto rules = rules_of(setup_with(told), began_);
  if (!rules) return rules.error();
  told_ = std::move(told);
  policy_.change(rules.value());
  look();
  if (!looking_) look_later();
  return Done{};
}

std::map<std::string, std::string> Owner::texts() const {
  auto texts = setup_with(told_).texts;
  if (has_file())
    if (auto in_file = rule_texts_in(setup_.file)) texts.merge(in_file.value());
  return texts;
}

void Owner::look() {
  const auto now = steady_clock::now();
  Facts facts = reader_.read(rules(), now, system_clock::now());
  facts.slots_used = slots_used();
  if (rules().needs_input() && !facts.since_input && !std::exchange(warned_, true))
    spdlog::warn("input cannot be seen here; only load tells whether the host is in use");
  const Decision decision = policy_.step(Instant(std::chrono::duration_cast<Duration>(now.time_since_epoch())), facts);
  if (last_ == decision) return;
  if (!last_ || last_->rule != decision.rule || last_->offered != decision.offered || last_->kept != decision.kept) {
    const auto level = last_ || !decision.rule.empty() ? spdlog::level::info : spdlog::level::debug;
    spdlog::log(level, "owner rule=\"{}\" slots_offered={} slots_running={} slots_kept={}", decision.rule, decision.offered, decision.running, decision.kept);
  }
  last_ = decision;
  decided(decision);
}

}  // namespace souk::worker
