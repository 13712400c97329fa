#include "examples/ant-colony/message.h"

#include <algorithm>
#include <charconv>
#include <optional>

namespace souk::ants {
namespace {

template <class T>
void put(std::string& out, T value) {
  char digits[64];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  out.append(digits, end);
}
template <class T>
void put(std::string& out, std::string_view name, T value) {
  out.append(name);
  out += ' ';
  put(out, value);
  out += '\n';
}

/// Reads words one after the other and remembers the first that was wrong.
class Reader {
 public:
  explicit Reader(std::string_view text) : rest_(text) {}

  std::string_view word() {
    const auto begin = rest_.find_first_not_of(" \t\r\n");
    if (begin == std::string_view::npos) return rest_ = {};
    rest_.remove_prefix(begin);
    const auto found = rest_.substr(0, std::min(rest_.find_first_of(" \t\r\n"), rest_.size()));
    rest_.remove_prefix(found.size());
    return found;
  }
  void expect(std::string_view name) {
    if (const auto found = word(); found != name) fail("'" + std::string(name) + "'", found);
  }
  template <class T>
  T number(std::string_view name, T min, T max) {
    const auto found = word();
    T value{};
    const auto [end, failure] = std::from_chars(found.data(), found.data() + found.size(), value);
    if (failure != std::errc{} || end != found.data() + found.size() || !(value >= min && value <= max)) {
      std::string range = "a number for " + std::string(name) + " from ";
      put(range, min);
      range += " to ";
      put(range, max);
      fail(range, found);
      return min;
    }
    return value;
  }
  template <class T>
  T named(std::string_view name, T min, T max) {
    expect(name);
    return number(name, min, max);
  }
  bool good() const { return why_.empty(); }
  const std::string& why() const { return why_; }
  bool at_end() const { return rest_.find_first_not_of(" \t\r\n") == std::string_view::npos; }

 private:
  void fail(const std::string& expected, std::string_view found) {
    if (!good()) return;
    std::string shown(found.substr(0, 40));
    for (char& c : shown)
      if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
    why_ = "expected " + expected + ", got " + (found.empty() ? "the end" : "'" + shown + "'");
  }
  std::string_view rest_;
  std::string why_;
};

constexpr std::int64_t kMicrosecondsMax = 10'000'000'000'000;  // some months; sums of these do not overflow
constexpr std::string_view kMagic = "souk-ant-colony-1";

}  // namespace

std::string text_of(const Request& request) {
  const auto& p = request.parameters;
  std::string out(kMagic);
  out += '\n';
  put(out, "seed", p.seed);
  put(out, "ants", p.ants);
  put(out, "party", p.party);
  put(out, "beta", p.beta);
  put(out, "q0", p.q0);
  put(out, "rho", p.rho);
  put(out, "alpha", p.alpha);
  put(out, "candidates", p.candidates);
  put(out, "local-search", p.local_search ? 1 : 0);
  out += "name " + request.instance.name + "\n";
  put(out, "cities", request.instance.size());
  for (const auto& city : request.instance.cities) {
    put(out, city.x);
    out += ' ';
    put(out, city.y);
    out += '\n';
  }
  put(out, "generation", request.snapshot.generation);
  put(out, "tau0", request.snapshot.tau0);
  put(out, "trails", request.snapshot.trails.size());
  for (const auto& [ends, tau] : request.snapshot.trails) {
    put(out, ends.first + 1);
    out += ' ';
    put(out, ends.second + 1);
    out += ' ';
    put(out, tau);
    out += '\n';
  }
  return out + "end\n";
}

Result<Request> parse_request(std::string_view text) {
  const std::string what = "cannot read the colony's request on stdin", remedy = "this mode is for tasks that `ant-colony` itself starts; run it without --evaluate";
  if (text.size() > kRequestBytesMax) return Error{what, "it has more than " + std::to_string(kRequestBytesMax) + " bytes", remedy};
  Reader in(text);
  Request request;
  auto& p = request.parameters;
  in.expect(kMagic);
  p.seed = in.named<std::uint64_t>("seed", 0, UINT64_MAX);
  p.ants = in.named("ants", 1, kAntsMax);
  p.party = in.named("party", 1, kAntsMax);
  p.beta = in.named("beta", 1, 10);
  p.q0 = in.named("q0", 0.0, 1.0);
  p.rho = in.named("rho", 0.0, 1.0);
  p.alpha = in.named("alpha", 0.0, 1.0);
  p.candidates = in.named("candidates", 1, kCitiesMax);
  p.local_search = in.named("local-search", 0, 1) == 1;
  in.expect("name");
  request.instance.name = std::string(in.word().substr(0, 64));
  const int cities = in.named("cities", kCitiesMin, kCitiesMax);
  for (int i = 0; i < cities && in.good(); ++i) {
    City city;
    city.x = in.number("x", -kCoordinateMax, kCoordinateMax);
    city.y = in.number("y", -kCoordinateMax, kCoordinateMax);
    request.instance.cities.push_back(city);
  }
  request.snapshot.generation = in.named<std::uint64_t>("generation", 1, UINT64_MAX);
  request.snapshot.tau0 = in.named("tau0", 0.0, 1.0);
  const int trails = in.named("trails", 0, cities * (cities - 1) / 2);
  for (int i = 0; i < trails && in.good(); ++i) {
    const int a = in.number("city", 1, cities - 1);
    const int b = in.number("city", a + 1, cities);
    request.snapshot.trails[{a - 1, b - 1}] = in.number("trail", 0.0, 1.0);
  }
  in.expect("end");
  if (!in.good()) return Error{what, in.why(), remedy};
  if (!in.at_end()) return Error{what, "text after the end", remedy};
  if (auto checked = check(p, request.instance); !checked) return checked.error();
  return request;
}

Share share_of(int task, int tasks, int party_count) {
  const auto before = [&](int t) { return static_cast<int>(static_cast<std::int64_t>(party_count) * t / tasks); };
  return {before(task - 1) + 1, before(task)};
}

std::string text_of(const Reply& reply) {
  std::string out = "ants ";
  put(out, reply.first_ant);
  out += ' ';
  put(out, reply.last_ant);
  out += " wall-us ";
  put(out, reply.wall.count());
  out += " cpu-us ";
  put(out, reply.cpu.count());
  out += " best ";
  put(out, reply.best.ant);
  out += " length ";
  put(out, reply.best.length);
  out += " tour";
  for (const int city : reply.best.tour) {
    out += ' ';
    put(out, city + 1);
  }
  return out + "\n";
}

Result<std::vector<Reply>> parse_replies(std::string_view text, const Instance& instance, const Parameters& parameters) {
  const std::string what = "cannot use what the tasks answered", remedy = "check that the workers have the same version of ant-colony";
  std::vector<Reply> replies;
  Reader in(text);
  while (!in.at_end() && in.good()) {
    Reply reply;
    in.expect("ants");
    reply.first_ant = in.number("the first ant", 1, parameters.ants);
    reply.last_ant = in.number("the last ant", reply.first_ant, parameters.ants);
    reply.wall = std::chrono::microseconds(in.named<std::int64_t>("wall-us", 0, kMicrosecondsMax));
    reply.cpu = std::chrono::microseconds(in.named<std::int64_t>("cpu-us", 0, kMicrosecondsMax));
    reply.best.ant = in.named("best", reply.first_ant, reply.last_ant);
    reply.best.length = in.named<std::int64_t>("length", 0, INT64_MAX);
    in.expect("tour");
    for (int i = 0; i < instance.size() && in.good(); ++i) reply.best.tour.push_back(in.number("a city", 1, instance.size()) - 1);
    if (!in.good()) break;
    if (!instance.visits_all(reply.best.tour)) return Error{what, "ant " + std::to_string(reply.best.ant) + " does not visit every city once", remedy};
    if (instance.length(reply.best.tour) != reply.best.length)
      return Error{what,
                   "ant " + std::to_string(reply.best.ant) + " claims a length of " + std::to_string(reply.best.length) + ", but it is " +
                       std::to_string(instance.length(reply.best.tour)),
                   remedy};
    replies.push_back(std::move(reply));
  }
  if (!in.good()) return Error{what, in.why(), remedy};
  std::sort(replies.begin(), replies.end(), [](const Reply& a, const Reply& b) { return a.first_ant < b.first_ant; });
  int next = 1;
  for (const auto& reply : replies) {
    if (reply.first_ant != next) return Error{what, "ant " + std::to_string(next) + " walked not once but more often or never", remedy};
    next = reply.last_ant + 1;
  }
  if (next != parameters.ants + 1) return Error{what, "the ants from " + std::to_string(next) + " on did not walk", remedy};
  return replies;
}

}  // namespace souk::ants
