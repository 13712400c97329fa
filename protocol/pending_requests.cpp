#include "protocol/pending_requests.h"

#include <algorithm>
#include <charconv>
#include <random>

#include <spdlog/fmt/fmt.h>

namespace souk {

std::string unguessable() {
  std::random_device device;
  std::string text;
  for (int i = 0; i < 4; ++i) text += fmt::format("{:08x}", device());
  return text;
}

PendingRequests::PendingRequests(boost::asio::io_context& loop, std::function<void(Reply)> expire)
    : prefix_(unguessable() + "-"), timer_(loop), expire_(std::move(expire)) {}

std::string PendingRequests::add(std::string to, std::chrono::milliseconds deadline, Reply reply) {
  const auto number = ++last_;
  // A day is as good as for ever, and keeps the sum in range.
  const auto until = Clock::now() + std::clamp(deadline, std::chrono::milliseconds(0), std::chrono::milliseconds(86'400'000));
  waiting_.emplace(number, Waiting{std::move(to), until, std::move(reply)});
  deadlines_.emplace(until, number);
  arm();
  return prefix_ + std::to_string(number);
}

PendingRequests::Reply PendingRequests::take(const std::string& id, const std::function<bool(const std::string&)>& answers) {
  if (!id.starts_with(prefix_)) return nullptr;
  std::uint64_t number = 0;
  const char* const last = id.data() + id.size();
  const auto [end, failure] = std::from_chars(id.data() + prefix_.size(), last, number);
  if (failure != std::errc{} || end != last) return nullptr;
  const auto found = waiting_.find(number);
  if (found == waiting_.end() || !answers(found->second.to)) return nullptr;
  auto reply = std::move(found->second.reply);
  deadlines_.erase({found->second.until, number});
  waiting_.erase(found);
  return reply;  // the timer may fire for nothing once; cheaper than setting it for every answer
}

std::vector<PendingRequests::Reply> PendingRequests::take_all() {
  std::vector<std::pair<std::uint64_t, Reply>> all;
  for (auto& [number, waiting] : waiting_) all.emplace_back(number, std::move(waiting.reply));
  waiting_.clear();
  deadlines_.clear();
  timer_.cancel();  // else it would keep the loop running for nothing
  armed_ = Clock::time_point::max();
  std::sort(all.begin(), all.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Reply> replies;
  for (auto& [number, reply] : all) replies.push_back(std::move(reply));
  return replies;
}

void PendingRequests::stop() {
  *alive_ = false;
  timer_.cancel();
}

void PendingRequests::arm() {
  if (deadlines_.empty() || deadlines_.begin()->first >= armed_ || !*alive_) return;
  armed_ = deadlines_.begin()->first;
  timer_.expires_at(armed_);
  timer_.async_wait([this, alive = alive_](const boost::system::error_code& error) {
    if (!*alive || error) return;  // an error: armed anew for an earlier time
    const auto now = Clock::now();
    std::vector<Reply> due;
    while (!deadlines_.empty() && deadlines_.begin()->first <= now) {
      const auto found = waiting_.find(deadlines_.begin()->second);
      due.push_back(std::move(found->second.reply));
      waiting_.erase(found);
      deadlines_.erase(deadlines_.begin());
    }
    armed_ = Clock::time_point::max();
    arm();
    for (auto& reply : due)
      if (*alive) expire_(std::move(reply));
  });
}

}  // namespace souk
