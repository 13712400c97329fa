#include "submit/progress.h"

#include <spdlog/fmt/fmt.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "protocol/grid.pb.h"
#include "submit/render.h"

namespace souk {
namespace {

constexpr std::string_view kGreen = "\x1b[32m", kRed = "\x1b[31m", kPlain = "\x1b[0m";

std::string rate_text(double per_second) {
  if (per_second >= 9.95) return fmt::format("{:.0f}/s", per_second);
  if (per_second >= 0.095) return fmt::format("{:.1f}/s", per_second);
  return fmt::format("{:.1f}/min", per_second * 60);
}

std::string left_text(Duration left) { return seconds_text(std::max(std::chrono::ceil<std::chrono::seconds>(left), std::chrono::seconds{1})); }

/// A bar of `width` columns, `share` of it full; eighths of a column where the terminal can show them.
std::string bar(double share, int width, const Look& look, bool failed) {
  share = std::clamp(share, 0.0, 1.0);
  std::string text;
  if (!look.unicode) {
    const auto full = static_cast<int>(share * width);
    text = std::string(static_cast<std::size_t>(full), '#') + std::string(static_cast<std::size_t>(width - full), '-');
    return "[" + text + "]";
  }
  static constexpr std::array<const char*, 8> eighths{"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  const auto parts = static_cast<int>(share * width * 8);
  for (int i = 0; i < parts / 8; ++i) text += "█";
  int used = parts / 8;
  if (parts % 8 != 0) text += eighths[static_cast<std::size_t>(parts % 8)], ++used;
  if (look.color) text = std::string(failed ? kRed : kGreen) + text + std::string(kPlain);
  return "▕" + text + std::string(static_cast<std::size_t>(width - used), ' ') + "▏";
}

std::size_t columns(std::string_view text) {
  return static_cast<std::size_t>(std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

double share_of(std::uint64_t part, std::uint64_t whole) { return whole == 0 ? 1.0 : static_cast<double>(part) / static_cast<double>(whole); }

/// Why nothing of it runs, if that is known.
std::string idle_text(const wire::JobStatus& job) { return job.held() ? "held" : job.note().empty() ? "waiting" : plain(job.note(), 40); }

void write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto sent = ::write(fd, text.data(), text.size());
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return;  // nobody to tell
    text.remove_prefix(static_cast<std::size_t>(sent));
  }
}

}  // namespace

void Rate::note(Instant now, std::uint64_t ended) {
  if (!samples_.empty() && samples_.back().ended == ended && samples_.size() > 1) return;  // the end of the window is `now` anyway
  if (!samples_.empty() && ended < samples_.back().ended) samples_.clear();
  samples_.push_back({now, ended});
  // One sample before the window stays: without it a slow job would have no rate.
  while (samples_.size() > kSamplesMax || (samples_.size() > 2 && now - samples_[1].at > kWindow)) samples_.pop_front();
}

double Rate::per_second(Instant now) const {
  if (samples_.size() < 2) return 0;
  const auto span = std::chrono::duration<double>(std::max(now, samples_.back().at) - samples_.front().at).count();
  return span > 0 ? static_cast<double>(samples_.back().ended - samples_.front().ended) / span : 0;
}

std::optional<Duration> Rate::until(std::uint64_t left, Instant now) const {
  const double rate = per_second(now);
  if (rate <= 0) return std::nullopt;
  const double seconds = static_cast<double>(left) / rate;
  if (seconds > 365.0 * 86400) return std::nullopt;
  return Duration{static_cast<Duration::rep>(seconds * 1e6)};
}

std::string progress_bar(const wire::JobStatus& job, const Rate& rate, Instant now, Duration elapsed, Look look) {
  const auto width = static_cast<std::size_t>(std::max(look.width - 1, 1));
  const std::uint64_t done = ended_tasks(job);
  const std::string title = job.name().empty() ? fmt::format("job {}", job.job()) : plain(job.name(), 20);
  // Of one task there is no share to show.
  if (job.tasks() == 1 && !ended(job)) return plain(title + " " + (job.running() == 0 ? idle_text(job) : "running") + ", " + seconds_text(elapsed), width);
  const std::string percent = fmt::format("{:3.0f}%", std::floor(100 * share_of(done, job.tasks())));

  // From most to least important; what comes later is dropped first.
  std::vector<std::string> facts{fmt::format("{}/{}", done, job.tasks())};
  if (job.failed() != 0) facts.push_back(fmt::format("{} failed", job.failed()));
  if (!ended(job)) {
    facts.push_back(job.running() == 0 && done < job.tasks() ? idle_text(job) : fmt::format("{} running", job.running()));
    if (const auto left = rate.until(job.tasks() - std::min(done, job.tasks()), now)) {
      facts.push_back(left_text(*left) + " left");
      facts.push_back(rate_text(rate.per_second(now)));
    } else {
      facts.push_back(seconds_text(elapsed));
    }
  } else {
    facts.push_back(duration_text(elapsed));
  }
  for (std::size_t keep = facts.size(); keep > 0; --keep) {
    std::string tail;
    for (std::size_t i = 0; i < keep; ++i) tail += (i == 0 ? " " : ", ") + facts[i];
    const std::size_t words = columns(title) + 1 + columns(percent) + columns(tail);
    if (words + 1 + 2 + 8 > width && keep > 1) continue;  // at least a bar of 8
    if (words + 1 + 2 + 4 > width) {  // too narrow for any bar
      const std::string text = percent + tail;
      return columns(text) <= width ? text : percent.substr(0, width);
    }
    const auto room = std::min<std::size_t>(width - words - 3, 40);
    return title + " " + bar(share_of(done, job.tasks()), static_cast<int>(room), look, job.failed() != 0) + percent + tail;
  }
  return percent;
}

std::string progress_words(const wire::JobStatus& job, const Rate& rate, Instant now) {
  const std::uint64_t done = ended_tasks(job);
  std::string text = fmt::format("job {}: {} of {} done", job.job(), done, job.tasks());
  if (job.failed() != 0) text += fmt::format(", {} failed", job.failed());
  if (ended(job)) return text;
  text += job.running() == 0 && idle_text(job) != "waiting" ? ", " + idle_text(job) : fmt::format(", {} running", job.running());
  if (const auto left = rate.until(job.tasks() - std::min(done, job.tasks()), now))
    text += fmt::format(", {}, about {} left", rate_text(rate.per_second(now)), left_text(*left));
  return text;
}

std::string upload_bar(std::uint64_t sent, std::uint64_t size, Look look) {
  const std::string tail = fmt::format("{:3.0f}% {} of {}", std::floor(100 * share_of(sent, size)), size_text(sent), size_text(size));
  const std::string title = "sending ";
  const auto width = static_cast<std::size_t>(std::max(look.width - 1, 1));
  if (title.size() + tail.size() + 2 + 8 > width) return tail.substr(0, width);
  const auto room = std::min<std::size_t>(width - title.size() - tail.size() - 2, 40);
  return title + bar(share_of(sent, size), static_cast<int>(room), look, false) + tail;
}

Progress::Progress(int fd, bool wanted, Instant now) : fd_(fd), wanted_(wanted), terminal_(::isatty(fd) == 1), began_(now) {
  const auto variable = [](const char* name) { const char* value = std::getenv(name); return std::string_view(value ? value : ""); };
  auto locale = variable("LC_ALL");
  if (locale.empty()) locale = variable("LC_CTYPE");
  if (locale.empty()) locale = variable("LANG");
  unicode_ = locale.find("UTF-8") != std::string_view::npos || locale.find("utf8") != std::string_view::npos;
  color_ = terminal_ && variable("NO_COLOR").empty() && variable("TERM") != "dumb";
  if (variable("TERM") == "dumb") terminal_ = false;  // knows no way back to the start of the line
}

Look Progress::look() const {
  Look look{80, unicode_, color_};
  winsize size{};
  if (::ioctl(fd_, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) look.width = size.ws_col;
  return look;
}

void Progress::job(const wire::JobStatus& status, Instant now) {
  rate_.note(now, ended_tasks(status));
  status.SerializeToString(&status_);
  tick(now);
}

void Progress::upload(std::uint64_t sent, std::uint64_t size, Instant now) {
  if (!wanted_ || now - began_ < kFirst || now - drawn_ < (terminal_ ? kRedraw : kLine)) return;
  show(terminal_ ? upload_bar(sent, size, look()) : fmt::format("sent {} of {}", size_text(sent), size_text(size)), now);
}

void Progress::tick(Instant now) {
  if (!wanted_ || status_.empty() || now - began_ < (terminal_ ? kFirst : kLine) || now - drawn_ < (terminal_ ? kRedraw : kLine)) return;
  wire::JobStatus status;
  if (!status.ParseFromString(status_)) return;
  if (terminal_) return show(progress_bar(status, rate_, now, now - began_, look()), now);
  const auto done = ended_tasks(status);
  if (done == lined_) return;  // a log need not hear that nothing happened
  lined_ = done;
  show(progress_words(status, rate_, now), now);
}

void Progress::show(const std::string& line, Instant now) {
  drawn_ = now;
  ever_ = true;
  if (!terminal_) return write_all(fd_, "souk: " + line + "\n");
  std::string text;
  if (mid_line_) text += "\n";
  mid_line_ = false;
  write_all(fd_, text + "\r" + line + "\x1b[K");
  shown_ = true;
}

void Progress::hide() {
  if (!shown_) return;
  write_all(fd_, "\r\x1b[K");
  shown_ = false;
}

void Progress::finish(const wire::JobStatus& status, Instant now) {
  if (!wanted_) return;
  rate_.note(now, ended_tasks(status));
  if (terminal_) {
    hide();
    if (ever_ && status.tasks() != 1) {  // a single task has spoken for itself
      show(progress_bar(status, rate_, now, now - began_, look()), now);
      write_all(fd_, "\n");
      shown_ = false;
    }
  } else {
    show(job_verdict(status), now);
  }
  status_.clear();
}

}  // namespace souk
