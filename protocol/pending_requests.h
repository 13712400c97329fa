// Requests of one link that wait for their answers: ids nobody can guess, deadlines on one timer, each reply called exactly once.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "protocol/xmpp_link.h"

namespace souk {

class PendingRequests {
 public:
  using Reply = std::function<void(const Answer&)>;

  /// `expire` is called from the loop with every reply whose time is up. Never after stop().
  PendingRequests(boost::asio::io_context& loop, std::function<void(Reply)> expire);
  PendingRequests(const PendingRequests&) = delete;
  ~PendingRequests() { stop(); }

  /// The id to send the request under.
  std::string add(std::string to, std::chrono::milliseconds deadline, Reply reply);
  /// The reply that waits for `id`, if `answers(to)` confirms that the sender is whom we asked. Taken out; empty if there is none.
  Reply take(const std::string& id, const std::function<bool(const std::string& to)>& answers);
  /// All that wait, in the order they were asked.
  std::vector<Reply> take_all();
  std::size_t size() const { return waiting_.size(); }
  /// Cancels the timer; nothing is called any more.
  void stop();

 private:
  using Clock = std::chrono::steady_clock;
  struct Waiting {
    std::string to;
    Clock::time_point until;
    Reply reply;
  };
  void arm();

  const std::string prefix_;
  std::uint64_t last_ = 0;
  std::unordered_map<std::uint64_t, Waiting> waiting_;
  std::set<std::pair<Clock::time_point, std::uint64_t>> deadlines_;
  boost::asio::steady_timer timer_;
  Clock::time_point armed_ = Clock::time_point::max();  // when the timer fires
  std::function<void(Reply)> expire_;
  std::shared_ptr<bool> alive_ = std::make_shared<bool>(true);
};

/// 32 hexadecimal digits from the system's source of randomness.
std::string unguessable();

}  // namespace souk
