#include "manager/audit_lines.h"

#include <algorithm>
#include <cstdio>
#include <ctime>

#include "protocol/form.h"
#include "protocol/one_line.h"
#include "protocol/quoting.h"

namespace souk::audit {

namespace {

/// A word needs no quotes.
bool is_word(std::string_view text) { return !text.empty() && text.find_first_of(" \t\"=\\") == text.npos; }

std::string clean(std::string_view text) {
  const std::string good = shortened(printable(text), kValueMax);
  std::string made;
  for (std::string_view left = good; !left.empty();) {
    const std::string_view character = left.substr(0, std::max<std::size_t>(1, utf8_length(left)));
    if (is_control(character)) made.append(character.size(), ' ');
    else made += character;
    left.remove_prefix(character.size());
  }
  return made;
}

std::string quoted_json(std::string_view text) {
  std::string made = "\"";
  for (const char c : text) {
    if (c == '"' || c == '\\') made += '\\', made += c;
    else if (static_cast<unsigned char>(c) < 0x20) {
      char escaped[8];
      std::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      made += escaped;
    } else made += c;
  }
  return made + '"';
}

}  // namespace

std::string time_of(std::uint64_t ms) {
  const auto seconds = static_cast<std::time_t>(ms / 1000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char day[32], text[48];
  std::strftime(day, sizeof day, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text, sizeof text, "%s.%03uZ", day, static_cast<unsigned>(ms % 1000));
  return text;
}

std::string line_of(std::uint64_t now_ms, std::string_view verb, const Fields& fields) {
  std::string line = time_of(now_ms) + ' ' + std::string(verb);
  for (const auto& [name, value] : fields) {
    const std::string text = clean(value);
    line += ' ' + name + '=';
    if (is_word(text)) {
      line += text;
      continue;
    }
    line += '"';
    for (const char c : text) line += c == '"' || c == '\\' ? std::string{'\\', c} : std::string{c};
    line += '"';
  }
  return line;
}

std::optional<Entry> entry_of(std::string_view line) {
  Entry entry;
  const auto word = [&] {
    const auto end = std::min(line.find(' '), line.size());
    std::string text(line.substr(0, end));
    line.remove_prefix(std::min(line.size(), end + 1));
    return text;
  };
  entry.time = word(), entry.verb = word();
  if (entry.time.size() != 24 || entry.time.back() != 'Z' || entry.time[10] != 'T' || entry.verb.empty() || entry.verb.find('=') != entry.verb.npos) return std::nullopt;
  while (!line.empty()) {
    const auto equals = line.find('=');
    if (equals == line.npos || equals == 0 || line.substr(0, equals).find(' ') != line.npos) return std::nullopt;
    std::string name(line.substr(0, equals)), value;
    line.remove_prefix(equals + 1);
    if (line.starts_with('"')) {
      std::size_t at = 1;
      for (; at < line.size() && line[at] != '"'; ++at) {
        if (line[at] == '\\' && ++at == line.size()) return std::nullopt;
        value += line[at];
      }
      if (at >= line.size()) return std::nullopt;
      line.remove_prefix(at + 1);
      if (!line.empty() && line.front() != ' ') return std::nullopt;
      line.remove_prefix(std::min<std::size_t>(1, line.size()));
    } else {
      value = word();
    }
    entry.fields.emplace_back(std::move(name), std::move(value));
  }
  return entry;
}

std::string json_of(const Entry& entry) {
  std::string text = "{\"time\":" + quoted_json(entry.time) + ",\"did\":" + quoted_json(entry.verb);
  for (const auto& [name, value] : entry.fields) text += ',' + quoted_json(name) + ':' + quoted_json(value);
  return text + '}';
}

std::string numbers_text(const std::set<std::uint64_t>& numbers) {
  std::string text;
  for (auto at = numbers.begin(); at != numbers.end();) {
    const std::uint64_t first = *at;
    std::uint64_t last = first;
    for (++at; at != numbers.end() && *at == last + 1; ++at) last = *at;
    if (!text.empty()) text += ',';
    if (text.size() > 200) return text + "...";
    text += std::to_string(first);
    if (last > first) text += '-' + std::to_string(last);
  }
  return text;
}

bool Flood::tells(const std::string& who, Instant now) {
  if (all_ == 0 && told_.empty()) since_ = now;
  if (now - since_ >= std::chrono::minutes(1) && left_.empty()) since_ = now, all_ = 0, told_.clear();
  const bool room = all_ < all_max_ && (told_.size() < kPeople || told_.contains(who));
  if (room && told_[who] < each_) {
    ++told_[who], ++all_;
    return true;
  }
  ++left_[left_.size() < kPeople || left_.contains(who) ? who : std::string("others")];
  return false;
}

std::map<std::string, std::uint64_t> Flood::left_out(Instant now) {
  if (left_.empty() || now - since_ < std::chrono::minutes(1)) return {};
  since_ = now, all_ = 0, told_.clear();
  return std::exchange(left_, {});
}

}  // namespace souk::audit
