#include "submit/render_why.h"

#include <spdlog/fmt/fmt.h>

#include <nlohmann/json.hpp>
#include <string_view>

#include "protocol/grid.pb.h"
#include "protocol/payload.h"

namespace souk {
namespace {

using Json = nlohmann::ordered_json;

std::string dumped(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

std::string reason_text(const wire::Reason& reason) {
  const std::string why = plain(reason.why(), 500);
  return reason.workers() == 0 ? why : count_text(reason.workers(), "worker") + ": " + why;
}

template <class Texts>
Json plain_list(const Texts& texts) {
  auto list = Json::array();
  for (const auto& text : texts) list.push_back(plain(text, 1000));
  return list;
}

template <class Reasons>
Json reasons_json(const Reasons& reasons) {
  auto list = Json::array();
  for (const auto& reason : reasons) list.push_back({{"workers", reason.workers()}, {"why", plain(reason.why(), 1000)}});
  return list;
}

/// Lines under a name, which stands before the first alone.
class Facts {
 public:
  void line(std::string_view name, const std::string& value) {
    text_ += fmt::format("{:<11}{}\n", name == last_ ? "" : name, value);
    last_ = name;
  }
  std::string take() { return std::move(text_); }

 private:
  std::string text_, last_;
};

void add_attempt(Facts& facts, const wire::PastAttempt& attempt, WallTime now) {
  std::string where = attempt.worker().empty() ? "" : " on " + plain(attempt.worker(), 60);
  if (!attempt.host().empty() && attempt.host() != attempt.worker()) where += fmt::format(" ({})", plain(attempt.host(), 60));
  std::string text = fmt::format("{}: {}{}", attempt.run(), attempt.ending().empty() ? "running" : plain(attempt.ending(), 200), where);
  if (attempt.wall_us() != 0) text += ", took " + duration_text(std::chrono::microseconds(attempt.wall_us()));
  if (attempt.ended_ms() != 0) text += ", " + ago_text(attempt.ended_ms(), now);
  facts.line("attempts", text);
  std::string_view rest = attempt.last_lines();
  while (!rest.empty()) {
    const auto end = rest.find('\n');
    facts.line("attempts", "   | " + plain(rest.substr(0, end), 200));
    if (end == std::string_view::npos) break;
    rest.remove_prefix(end + 1);
  }
}

}  // namespace

std::string why_text(const wire::WhyAnswer& answer, WallTime now) {
  const auto& job = answer.job();
  Facts facts;
  const std::string name = job.name().empty() ? "" : " " + plain(job.name(), 60);
  if (answer.task() == 0)
    facts.line("job", fmt::format("{}{}", job.job(), name));
  else
    facts.line("task", fmt::format("{}.{}{}{}", job.job(), answer.task(), name, answer.group().empty() ? "" : ", of " + plain(answer.group(), 60)));
  facts.line("state", fmt::format("{}{}", name_of_state(answer.state()), job.held() && !ended(job) ? ", held" : ""));
  if (answer.task() == 0 && !ended(job)) facts.line("tasks", tasks_text(job));
  if (!answer.summary().empty()) facts.line("why", plain(answer.summary(), 1000));
  for (const auto& reason : answer.reasons()) facts.line("why", reason_text(reason));
  for (const auto& change : answer.changes()) facts.line("to run it", plain(change, 500));
  if (answer.owner_place() != 0 || answer.tasks_ahead() != 0) {
    std::string place;
    if (answer.owner_place() != 0)
      place = answer.owners_waiting() <= 1 ? "nobody else waits" : fmt::format("turn {} of {} users who wait", answer.owner_place(), answer.owners_waiting());
    if (answer.tasks_ahead() != 0) place += fmt::format("{}{} of the same owner {} first", place.empty() ? "" : "; ", count_text(answer.tasks_ahead(), "task"), answer.tasks_ahead() == 1 ? "goes" : "go");
    facts.line("place", place);
  }
  for (const auto& attempt : answer.attempts()) add_attempt(facts, attempt, now);
  return facts.take();
}

std::string json_of(const wire::WhyAnswer& answer) {
  Json json;
  json["job"] = answer.job().job();
  json["task"] = answer.task() == 0 ? Json(nullptr) : Json(answer.task());
  if (!answer.group().empty()) json["group"] = plain(answer.group(), 1000);
  json["state"] = name_of_state(answer.state());
  json["held"] = answer.job().held();
  if (answer.task() == 0) {
    const auto& job = answer.job();
    json["tasks"] = job.tasks(), json["waiting"] = job.waiting(), json["running"] = job.running();
    json["succeeded"] = job.succeeded(), json["failed"] = job.failed(), json["canceled"] = job.canceled();
  }
  json["summary"] = plain(answer.summary(), 2000);
  json["reasons"] = reasons_json(answer.reasons());
  json["changes"] = plain_list(answer.changes());
  json["tasks_ahead"] = answer.tasks_ahead();
  json["owner_place"] = answer.owner_place() == 0 ? Json(nullptr) : Json(answer.owner_place());
  json["owners_waiting"] = answer.owners_waiting();
  auto attempts = Json::array();
  for (const auto& attempt : answer.attempts()) {
    Json one;
    one["run"] = attempt.run();
    one["worker"] = plain(attempt.worker(), 1000);
    one["host"] = plain(attempt.host(), 1000);
    one["ending"] = attempt.ending().empty() ? Json(nullptr) : Json(plain(attempt.ending(), 1000));
    one["ended_ms"] = attempt.ended_ms() == 0 ? Json(nullptr) : Json(attempt.ended_ms());
    one["wall_us"] = attempt.wall_us();
    // Bytes that are no UTF-8 go as base64, as those of streams do.
    try {
      one["last_lines"] = attempt.last_lines();
      [[maybe_unused]] const auto strict = one.dump();  // throws on what is no UTF-8
    } catch (const Json::type_error&) {
      one.erase("last_lines");
      one["last_lines_base64"] = base64(attempt.last_lines());
    }
    attempts.push_back(std::move(one));
  }
  json["attempts"] = std::move(attempts);
  return dumped(json);
}

std::string matches_text(const wire::SubmitAnswer& answer) {
  std::string text;
  for (const auto& match : answer.matches()) {
    text += match.group().empty() ? "" : plain(match.group(), 60) + ": ";
    text += fmt::format("{}; ", count_text(match.tasks(), "task"));
    if (match.fitting() == 0)
      text += "no worker fits\n";
    else
      text += fmt::format("{} {}, {} could start now\n", count_text(match.fitting(), "worker"), match.fitting() == 1 ? "fits" : "fit", match.room() == 0 ? "none" : std::to_string(match.room()));
    if (!match.best().empty()) {
      std::string best;
      for (const auto& nick : match.best()) best += (best.empty() ? "" : ", ") + plain(nick, 60);
      text += fmt::format("  {:<11}{}\n", "best", best);
    }
    bool first = true;
    for (const auto& reason : match.reasons()) text += fmt::format("  {:<11}{}\n", std::exchange(first, false) ? "others" : "", reason_text(reason));
    first = true;
    for (const auto& change : match.changes()) text += fmt::format("  {:<11}{}\n", std::exchange(first, false) ? "to run it" : "", plain(change, 500));
  }
  return text;
}

std::string matches_json(const wire::SubmitAnswer& answer) {
  Json json;
  json["tasks"] = answer.tasks();
  json["warnings"] = plain_list(answer.warnings());
  auto matches = Json::array();
  for (const auto& match : answer.matches()) {
    Json one;
    one["group"] = match.group().empty() ? Json(nullptr) : Json(plain(match.group(), 1000));
    one["tasks"] = match.tasks();
    one["fitting"] = match.fitting();
    one["room"] = match.room();
    one["best"] = plain_list(match.best());
    one["reasons"] = reasons_json(match.reasons());
    one["changes"] = plain_list(match.changes());
    matches.push_back(std::move(one));
  }
  json["matches"] = std::move(matches);
  return dumped(json);
}

bool all_fit(const wire::SubmitAnswer& answer) {
  for (const auto& match : answer.matches())
    if (match.fitting() == 0) return false;
  return true;
}

}  // namespace souk
