// What the manager says, as submit shows it: lines and tables for people, JSON for programs, forms for chat clients.
// Input: a letter for the message, its bytes.
#include <nlohmann/json.hpp>

#include "manager/forms.h"
#include "protocol/grid.pb.h"
#include "protocol/payload.h"
#include "submit/render.h"
#include "submit/render_why.h"
#include "tests/fuzz/fuzz.h"

namespace souk {
namespace {

using fuzz::must;
const WallTime kNow{std::chrono::milliseconds(1'800'000'000'000)};

void people(const std::string& text) { must(fuzz::is_safe_for_a_terminal(text), "what people read is safe for a terminal", text); }
void programs(const std::string& text) {
  must(nlohmann::json::accept(text), "what programs read is JSON", text);
  must(text.find('\n') == std::string::npos, "JSON is one line", text);
}

template <class Message, class Show>
void with(std::string_view bytes, Show&& show) {
  Message message;
  if (parse(bytes, message)) show(message);
}

}  // namespace
}  // namespace souk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  if (size > fuzz::kInputMax) return 0;
  auto rest = fuzz::text_of(bytes, size);
  switch (fuzz::byte_off(rest)) {
    case 'j':
      with<wire::StatusAnswer>(rest, [](const auto& answer) {
        JobColumns columns;
        for (const auto& job : answer.jobs()) columns.see(job);
        Table table = jobs_table(columns);
        for (const auto& job : answer.jobs()) {
          add_row(table, job, columns, kNow);
          people(job_details(job, kNow)), people(job_verdict(job)), people(tasks_text(job)), programs(json_of(job));
        }
        people(table.text()), people(grid_details(answer.grid())), programs(json_of(answer.grid()));
        shown(answer);
      });
      break;
    case 'w':
      with<wire::WorkersAnswer>(rest, [](const auto& answer) {
        WorkerColumns columns;
        for (const auto& worker : answer.workers()) columns.see(worker);
        Table table = workers_table(columns);
        for (const auto& worker : answer.workers()) add_row(table, worker, columns, kNow), people(worker_note(worker)), programs(json_of(worker));
        people(table.text());
        shown(answer);
      });
      break;
    case 'r':
      with<wire::ResultsAnswer>(rest, [](const auto& answer) {
        Table table = tasks_table(true);
        for (const auto& result : answer.results()) {
          add_row(table, result, true);
          people(ending(result.outcome())), people(failure_note(answer.job().job(), result)), programs(json_of(answer.job().job(), result, true)), programs(json_of(answer.job().job(), result, false));
          const int code = exit_code_of(result);
          must(code >= 0 && code <= 255, "an exit code is one");
        }
        people(table.text());
        shown(answer);
      });
      break;
    case 'y':
      with<wire::WhyAnswer>(rest, [](const auto& answer) {
        people(why_text(answer, kNow)), programs(json_of(answer));
        shown(answer);
      });
      break;
    case 's':
      with<wire::SubmitAnswer>(rest, [](const auto& answer) {
        people(matches_text(answer)), programs(matches_json(answer));
        all_fit(answer);
        shown(answer);
      });
      break;
    default: break;
  }
  return 0;
}
