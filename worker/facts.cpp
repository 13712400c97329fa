#include "worker/facts.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <sstream>
#include <toml++/toml.h>

#include "protocol/notation.h"
#include "protocol/stanza.h"

namespace souk::worker {

namespace {

namespace fs = std::filesystem;
using std::chrono::steady_clock;
using std::chrono::system_clock;

constexpr int kDepthMax = 64;                       // of processes below us
constexpr std::uintmax_t kPolicyBytesMax = 64 << 10;

std::string text_of(const fs::path& file, std::size_t most) {
  std::ifstream in(file, std::ios::binary);
  std::string text(most, '\0');
  in.read(text.data(), static_cast<std::streamsize>(most));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(in.gcount(), 0)));
  return text;
}

std::string word_of(const fs::path& file) {
  std::istringstream in(text_of(file, 64));
  std::string word;
  in >> word;
  return word;
}

bool is_number(std::string_view text) {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](unsigned char c) { return std::isdigit(c) != 0; });
}

std::vector<fs::path> entries(const fs::path& folder) {
  std::vector<fs::path> found;
  std::error_code failure;
  for (fs::directory_iterator at(folder, failure), end; !failure && at != end; at.increment(failure)) found.push_back(at->path());
  return found;
}

}  // namespace

FactReader::FactReader(fs::path root, pid_t self) : root_(std::move(root)), self_(self != 0 ? self : ::getpid()) {}

Facts FactReader::read(const Rules& rules, steady_clock::time_point now, system_clock::time_point wall) {
  Facts facts;
  facts.now_ms = static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(wall.time_since_epoch()).count());
  facts.week_minute = week_minute(wall);
  if (rules.needs_input()) facts.since_input = since_input(now, wall);
  if (rules.needs_load()) facts.others_load = others_load(now);
  if (rules.on_mains) facts.on_mains = on_mains();
  if (rules.leave_memory > 0) facts.memory_available = memory_available();
  return facts;
}

std::optional<Duration> FactReader::since_input(steady_clock::time_point now, system_clock::time_point wall) {
  std::optional<Duration> since;
  const auto seen = [&since](Duration ago) {
    ago = std::max(ago, Duration{0});  // a clock was set back: not long ago in any case
    since = since ? std::min(*since, ago) : ago;
  };
  const auto look_at = [&](const fs::path& terminal) {
    struct stat status {};
    if (::stat(terminal.c_str(), &status) != 0) return;
    const auto touched = std::chrono::seconds(status.st_atim.tv_sec) + std::chrono::nanoseconds(status.st_atim.tv_nsec);
    seen(std::chrono::duration_cast<Duration>(wall.time_since_epoch() - touched));
  };
  for (const auto& terminal : entries(root_ / "dev/pts"))
    if (is_number(terminal.filename().string())) look_at(terminal);
  for (int number = 1; number <= 63; ++number) look_at(root_ / ("dev/tty" + std::to_string(number)));
  std::istringstream lines(text_of(root_ / "proc/interrupts", 1 << 20));
  std::optional<std::uint64_t> keys;
  for (std::string line; std::getline(lines, line);) {
    if (line.find("i8042") == std::string::npos) continue;
    std::istringstream words(line.substr(std::min(line.find(':'), line.size() - 1) + 1));
    for (std::string word; words >> word && is_number(word);) keys = keys.value_or(0) + std::strtoull(word.c_str(), nullptr, 10);
  }
  if (keys_ && keys && *keys != *keys_) last_key_ = now;
  keys_ = keys;
  if (last_key_) seen(std::chrono::duration_cast<Duration>(now - *last_key_));
  return since;
}

/// Ended children count for those that waited for them, so that the sum over all that live loses nothing.
double FactReader::ours(pid_t pid, int depth) const {
  const fs::path folder = root_ / "proc" / std::to_string(pid);
  const std::string stat = text_of(folder / "stat", 1024);
  const auto name_ends = stat.rfind(')');
  if (name_ends == std::string::npos) return 0;
  std::istringstream fields(stat.substr(name_ends + 1));
  double ticks = 0;
  std::string field;
  for (int number = 3; number <= 17 && fields >> field; ++number)  // proc(5): 14 to 17 are utime, stime, cutime, cstime
    if (number >= 14) ticks += std::strtod(field.c_str(), nullptr);
  if (depth >= kDepthMax) return ticks;
  for (const auto& thread : entries(folder / "task")) {
    std::istringstream children(text_of(thread / "children", 64 << 10));
    for (pid_t child; children >> child;) ticks += ours(child, depth + 1);
  }
  return ticks;
}

std::optional<double> FactReader::others_load(steady_clock::time_point now) {
  std::istringstream line(text_of(root_ / "proc/stat", 512));
  std::string name;
  double user = 0, nice = 0, system = 0, idle = 0, waiting = 0, irq = 0, soft_irq = 0;
  if (!(line >> name >> user >> nice >> system >> idle >> waiting >> irq >> soft_irq) || name != "cpu") return std::nullopt;
  const Ticks next{now, user + nice + system + irq + soft_irq, ours(self_, 0)};
  const auto last = std::exchange(ticks_, next);
  if (!last || next.at <= last->at) return std::nullopt;
  const double seconds = std::chrono::duration<double>(next.at - last->at).count();
  const double all = std::max(0.0, next.all - last->all), own = std::max(0.0, next.ours - last->ours);
  return std::max(0.0, all - own) / static_cast<double>(::sysconf(_SC_CLK_TCK)) / seconds;
}

std::optional<bool> FactReader::on_mains() const {
  bool unplugged = false, discharges = false;
  for (const auto& supply : entries(root_ / "sys/class/power_supply")) {
    const std::string type = word_of(supply / "type");
    if (type == "Mains" || type == "USB") {
      if (word_of(supply / "online") != "0") return true;
      unplugged = unplugged || type == "Mains";  // an empty USB socket says nothing
    } else if (type == "Battery" && word_of(supply / "scope") != "Device") {  // not that of a mouse
      discharges = discharges || word_of(supply / "status") == "Discharging";
    }
  }
  return unplugged || discharges ? std::optional(false) : std::nullopt;
}

std::optional<std::uint64_t> FactReader::memory_available() const {
  std::istringstream lines(text_of(root_ / "proc/meminfo", 4096));
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with("MemAvailable:")) return std::strtoull(line.c_str() + 13, nullptr, 10) * 1024;
  return std::nullopt;
}

int week_minute(system_clock::time_point wall) {
  const std::time_t seconds = system_clock::to_time_t(wall);
  std::tm local{};
  ::localtime_r(&seconds, &local);
  return ((local.tm_wday + 6) % 7 * 24 + local.tm_hour) * 60 + local.tm_min;
}

std::uint64_t until_ms(const std::string& text, system_clock::time_point began) {
  if (const auto colon = text.find(':'); colon != std::string::npos) {
    const std::time_t seconds = system_clock::to_time_t(began);
    std::tm local{};
    ::localtime_r(&seconds, &local);
    local.tm_hour = std::atoi(text.c_str());
    local.tm_min = std::atoi(text.c_str() + colon + 1);
    local.tm_sec = 0;
    local.tm_isdst = -1;  // as it is at that time
    std::tm tomorrow = local;
    ++tomorrow.tm_mday;
    std::time_t at = std::mktime(&local);
    if (at <= seconds) at = std::mktime(&tomorrow);
    return at > 0 ? static_cast<std::uint64_t>(at) * 1000 : 0;
  }
  const auto span = parse_duration(text);
  if (!span || span.value().count() == 0) return 0;
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(began.time_since_epoch() + span.value()).count());
}

Result<std::map<std::string, std::string>> rule_texts_in(const fs::path& file) {
  const auto bad = [&](std::string why, std::string remedy) { return Error{"policy file " + file.string() + " cannot be used", std::move(why), std::move(remedy)}; };
  std::error_code failure;
  const auto size = fs::file_size(file, failure);
  if (failure) return bad(failure.message(), "check the path given to --policy");
  if (size > kPolicyBytesMax) return bad("it is over 64 KiB", "it holds a few lines such as only-idle = \"10m\"");
  std::map<std::string, std::string> texts;
  try {
    const auto table = toml::parse(text_of(file, kPolicyBytesMax), file.string());
    for (const auto& [key, value] : table) {
      std::string& text = texts[std::string(key.str())];
      if (const auto* word = value.as_string()) text = word->get();
      else if (const auto* flag = value.as_boolean()) text = flag->get() ? "true" : "false";
      else if (const auto* whole = value.as_integer()) text = std::to_string(whole->get());
      else if (const auto* real = value.as_floating_point()) {
        char digits[32];
        std::snprintf(digits, sizeof digits, "%.6g", real->get());
        text = digits;
      } else {
        return bad("'" + printable(shortened(key.str(), 64)) + "' is neither text, number nor true or false", "write for example only-idle = \"10m\"");
      }
    }
  } catch (const toml::parse_error& fault) {
    return bad("line " + std::to_string(fault.source().begin.line) + ": " + std::string(fault.description()), "it is TOML: one name = value a line");
  }
  if (const auto rules = rules_from(texts); !rules) return bad(rules.error().what + ": " + rules.error().why, rules.error().remedy);
  return texts;
}

}  // namespace souk::worker
