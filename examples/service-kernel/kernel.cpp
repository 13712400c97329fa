// A numeric kernel as a service: integrates 4 / (1 + x^2) over one of N parts of [0, 1]; the sum over all parts is pi.
// A process of its own would take a thousand times longer to start than this takes to compute.
#include <souk/service.h>

#include <cstdio>
#include <stdexcept>

int main() {
  return souk::service::serve([](const souk::service::Request& request) {
    unsigned long part = 0, parts = 0, steps = 0;
    const std::string words(request.body);
    if (std::sscanf(words.c_str(), "%lu %lu %lu", &part, &parts, &steps) != 3 || part < 1 || part > parts || steps < 1)
      throw std::invalid_argument("write PART PARTS STEPS, such as 3 100 1000, not '" + words + "'");
    const double width = 1.0 / static_cast<double>(parts) / static_cast<double>(steps), from = static_cast<double>(part - 1) / static_cast<double>(parts);
    double sum = 0;
    for (unsigned long i = 0; i < steps; ++i) {
      const double x = from + (static_cast<double>(i) + 0.5) * width;
      sum += 4 / (1 + x * x);
    }
    char text[32];
    return std::string(text, static_cast<std::size_t>(std::snprintf(text, sizeof text, "%.17g\n", sum * width)));
  });
}
