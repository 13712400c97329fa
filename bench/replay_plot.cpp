// The report of a replay: a table for people, JSON for programs, and a plot.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <nlohmann/json.hpp>

#include "bench/workload.h"

namespace souk::bench {

namespace {

const char* const kColors[] = {"#888888", "#d08a2e", "#1f6fb2", "#2a9d5c"};

std::string text(const char* format, double value) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, format, value);
  return buffer;
}

struct Panel {
  double left, top, width, height;
  double x_max, y_max;
  double x(double value) const { return left + width * std::min(1.0, value / x_max); }
  double y(double value) const { return top + height * (1 - std::min(1.0, value / y_max)); }
};

std::string axes(const Panel& p, const std::string& title, const std::string& x_name, const std::string& y_name, const std::function<std::string(double)>& x_text,
                 const std::function<std::string(double)>& y_text) {
  std::string svg = "<text x=\"" + text("%.1f", p.left) + "\" y=\"" + text("%.1f", p.top - 12) + "\" class=\"t\">" + title + "</text>\n";
  for (int i = 0; i <= 4; ++i) {
    const double x = p.left + p.width * i / 4, y = p.top + p.height * (4 - i) / 4;
    svg += "<line x1=\"" + text("%.1f", p.left) + "\" x2=\"" + text("%.1f", p.left + p.width) + "\" y1=\"" + text("%.1f", y) + "\" y2=\"" + text("%.1f", y) + "\" class=\"g\"/>";
    svg += "<text x=\"" + text("%.1f", p.left - 6) + "\" y=\"" + text("%.1f", y + 4) + "\" class=\"r\">" + y_text(p.y_max * i / 4) + "</text>";
    svg += "<text x=\"" + text("%.1f", x) + "\" y=\"" + text("%.1f", p.top + p.height + 16) + "\" class=\"m\">" + x_text(p.x_max * i / 4) + "</text>\n";
  }
  svg += "<text x=\"" + text("%.1f", p.left + p.width / 2) + "\" y=\"" + text("%.1f", p.top + p.height + 34) + "\" class=\"m\">" + x_name + "</text>";
  svg += "<text x=\"" + text("%.1f", p.left - 6) + "\" y=\"" + text("%.1f", p.top - 12) + "\" class=\"r\">" + y_name + "</text>\n";
  return svg;
}

}  // namespace

std::string as_table(const std::vector<Replay>& replays) {
  std::string out;
  char line[256];
  std::snprintf(line, sizeof line, "%-22s", "");
  out += line;
  for (const Replay& r : replays) std::snprintf(line, sizeof line, " %20s", r.policy.c_str()), out += line;
  out += '\n';
  const auto row = [&](const char* name, const char* format, auto&& of) {
    std::snprintf(line, sizeof line, "%-22s", name);
    out += line;
    for (const Replay& r : replays) std::snprintf(line, sizeof line, " %20s", text(format, of(r)).c_str()), out += line;
    out += '\n';
  };
  row("utilization, arriving", "%.3f", [](const Replay& r) { return r.utilization_arriving; });
  row("utilization, in all", "%.3f", [](const Replay& r) { return r.utilization; });
  row("makespan s", "%.0f", [](const Replay& r) { return r.makespan_s; });
  row("wait mean s", "%.1f", [](const Replay& r) { return r.wait_mean_s; });
  row("wait median s", "%.1f", [](const Replay& r) { return r.wait_median_s; });
  row("wait p95 s", "%.1f", [](const Replay& r) { return r.wait_p95_s; });
  row("slowdown mean", "%.2f", [](const Replay& r) { return r.slowdown_mean; });
  row("slowdown median", "%.2f", [](const Replay& r) { return r.slowdown_median; });
  row("slowdown p95", "%.2f", [](const Replay& r) { return r.slowdown_p95; });
  row("slowdown, worst user", "%.2f", [](const Replay& r) { return r.worst_user; });
  row("fairness (Jain)", "%.3f", [](const Replay& r) { return r.fairness; });
  row("decisions/s", "%.0f", [](const Replay& r) { return r.decisions_per_s; });
  return out;
}

std::string as_json(const std::vector<Replay>& replays) {
  std::string out;
  for (const Replay& r : replays)
    out += nlohmann::json{{"policy", r.policy}, {"jobs", r.jobs}, {"tasks", r.tasks}, {"users", r.users}, {"slots", r.slots}, {"utilization", r.utilization},
                          {"utilization_arriving", r.utilization_arriving}, {"makespan_s", r.makespan_s}, {"wait_mean_s", r.wait_mean_s}, {"wait_median_s", r.wait_median_s},
                          {"wait_p95_s", r.wait_p95_s}, {"slowdown_mean", r.slowdown_mean}, {"slowdown_median", r.slowdown_median}, {"slowdown_p95", r.slowdown_p95},
                          {"slowdown_worst_user", r.worst_user}, {"fairness_jain", r.fairness}, {"decisions_per_s", r.decisions_per_s}}
               .dump() +
           '\n';
  return out;
}

std::string as_svg(const std::vector<Replay>& replays) {
  double wait_max = 1, time_max = 1, queue_max = 1;
  for (const Replay& r : replays) {
    if (!r.waits.empty()) wait_max = std::max(wait_max, r.waits.back());
    for (const auto& [when, tasks] : r.queue) queue_max = std::max(queue_max, static_cast<double>(tasks)), time_max = std::max(time_max, when);
  }
  // Waits from a second to the longest, each step of the same width ten times the one before.
  const double decades = std::max(1.0, std::ceil(std::log10(wait_max)));
  const Panel waits{70, 60, 380, 260, decades, 1}, queue{560, 60, 380, 260, time_max / 3600, queue_max};
  std::string svg =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 980 400\" font-family=\"sans-serif\" font-size=\"12\">\n"
      "<style>.t{font-size:14px;font-weight:bold}.g{stroke:#ddd}.r{text-anchor:end}.m{text-anchor:middle}path{fill:none;stroke-width:2}</style>\n"
      "<rect width=\"980\" height=\"400\" fill=\"white\"/>\n";
  svg += axes(waits, "Jobs that waited at most so long", "seconds until the first task started", "", [](double v) { return text("%.0f", std::pow(10, v)); }, [](double v) { return text("%.2f", v); });
  svg += axes(queue, "Tasks waiting", "hours", "", [](double v) { return text("%.1f", v); }, [](double v) { return text("%.0f", v); });
  for (std::size_t i = 0; i < replays.size(); ++i) {
    const Replay& r = replays[i];
    const std::string color = kColors[i % std::size(kColors)];
    std::string path;
    for (int step = 0; step <= 200; ++step) {
      const double decade = decades * step / 200;
      const auto upto = std::upper_bound(r.waits.begin(), r.waits.end(), std::pow(10, decade));
      const double share = r.waits.empty() ? 0 : static_cast<double>(upto - r.waits.begin()) / static_cast<double>(r.waits.size());
      path += (step == 0 ? "M" : "L") + text("%.1f", waits.x(decade)) + "," + text("%.1f", waits.y(share));
    }
    svg += "<path stroke=\"" + color + "\" d=\"" + path + "\"/>\n";
    path.clear();
    const std::size_t every = std::max<std::size_t>(1, r.queue.size() / 400);
    for (std::size_t s = 0; s < r.queue.size(); s += every)
      path += (s == 0 ? "M" : "L") + text("%.1f", queue.x(r.queue[s].first / 3600)) + "," + text("%.1f", queue.y(static_cast<double>(r.queue[s].second)));
    svg += "<path stroke=\"" + color + "\" d=\"" + path + "\"/>\n";
    const double x = 70 + 240 * static_cast<double>(i);
    svg += "<rect x=\"" + text("%.1f", x) + "\" y=\"376\" width=\"18\" height=\"4\" fill=\"" + color + "\"/><text x=\"" + text("%.1f", x + 24) + "\" y=\"382\">" + r.policy + "</text>\n";
  }
  return svg + "</svg>\n";
}

}  // namespace souk::bench
