// Ctrl-C and TERM as events of the loop. The second one ends the program at once, wherever it is, even inside a blocked write.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <csignal>
#include <string>

namespace souk {

/// At most one at a time. Writes that a signal meets end with EINTR, so that a full pipe cannot hide it.
class Interrupts {
 public:
  explicit Interrupts(boost::asio::io_context& loop);
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;

  bool any() const { return count() > 0; }
  int count() const;
  /// 130 after Ctrl-C, 143 after TERM: what the shell expects of a program that the signal ended.
  int exit_code() const;
  /// What the second one says before it ends the program: a line of 200 bytes at most, or nothing.
  void leave_saying(const std::string& words);

 private:
  void read();
  boost::asio::posix::stream_descriptor wake_;
  struct sigaction before_int_ {}, before_term_ {};
  std::uint64_t read_ = 0;
};

}  // namespace souk
