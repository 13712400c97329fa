#include "examples/ant-colony/plot.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>

namespace souk::ants {
namespace {

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&': out += "&amp;"; break;
      case '<': out += "&lt;"; break;
      case '>': out += "&gt;"; break;
      default: out += c;
    }
  }
  return out;
}

}  // namespace

std::string plot(const Instance& instance, const Tour& tour, const std::string& caption) {
  double left = instance.cities[0].x, right = left, low = instance.cities[0].y, high = low;
  for (const auto& city : instance.cities) {
    left = std::min(left, city.x), right = std::max(right, city.x);
    low = std::min(low, city.y), high = std::max(high, city.y);
  }
  constexpr double kSide = 820, kMargin = 40, kTitle = 36;
  const double span = std::max({right - left, high - low, 1e-9}), scale = kSide / span;
  const double width = (right - left) * scale + 2 * kMargin, height = (high - low) * scale + 2 * kMargin + kTitle;
  const auto x = [&](int city) { return kMargin + (instance.cities[static_cast<std::size_t>(city)].x - left) * scale; };
  const auto y = [&](int city) { return kTitle + kMargin + (high - instance.cities[static_cast<std::size_t>(city)].y) * scale; };  // north is up

  std::string points;
  for (const int city : tour) points += fmt::format("{:.1f},{:.1f} ", x(city), y(city));
  if (!points.empty()) points.pop_back();
  const double radius = std::clamp(60.0 / static_cast<double>(tour.size()) + 2.0, 2.0, 5.0);
  std::string out = fmt::format(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" height=\"{1:.0f}\" role=\"img\">\n"
      "<title>{2}</title>\n"
      "<rect width=\"100%\" height=\"100%\" fill=\"#fdfcf8\"/>\n"
      "<text x=\"{3}\" y=\"34\" font-family=\"sans-serif\" font-size=\"18\" fill=\"#333\">{2}</text>\n"
      "<polygon points=\"{4}\" fill=\"#e8a33d\" fill-opacity=\"0.10\" stroke=\"#b5541c\" stroke-width=\"2\" stroke-linejoin=\"round\"/>\n"
      "<g fill=\"#1f3a5f\">\n",
      width, height, escaped(caption), kMargin, points);
  for (const int city : tour) out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\"><title>{}</title></circle>\n", x(city), y(city), radius, city + 1);
  return out + "</g>\n</svg>\n";
}

}  // namespace souk::ants
