// Makes a service for Souk out of a function: it is called for each task, in one process that stays.
//
//   #include <souk/service.h>
//   int main() {
//     return souk::service::serve([](const souk::service::Request& request) { return "you asked " + std::string(request.body) + "\n"; });
//   }
//
// The function returns the task's stdout. An exception makes the task fail with exit code 1; its what() is the task's stderr. What is printed goes to the
// worker's log, not into the answer; its stdin, and that of programs it starts, is empty. One header of C++17, no library; docs/SERVICES.md has the rules.
#pragma once
#include <cerrno>
#include <chrono>
#include <cstdint>
#include <cstring>
#include <exception>
#include <fcntl.h>
#include <string>
#include <string_view>
#include <unistd.h>

namespace souk::service {

/// One call. Its views hold until the function returns.
struct Request {
  std::uint64_t id = 0;
  std::string_view body;
  std::string_view item;  // the task's words or item, where the body is the job's input
  std::uint64_t job = 0, task = 0;
  unsigned run = 1;       // which run of the task this is
};

namespace detail {

/// A varint off the front; false if it is not whole.
inline bool take(std::string_view& bytes, std::uint64_t& value) {
  value = 0;
  for (std::size_t i = 0; i < bytes.size() && i < 10; ++i) {
    value |= static_cast<std::uint64_t>(static_cast<unsigned char>(bytes[i]) & 0x7f) << (7 * i);
    if (static_cast<unsigned char>(bytes[i]) < 0x80) return bytes.remove_prefix(i + 1), true;
  }
  return false;
}
inline void put(std::string& to, std::uint64_t value) {
  for (; value >= 0x80; value >>= 7) to.push_back(static_cast<char>(value | 0x80));
  to.push_back(static_cast<char>(value));
}
inline std::size_t size_of(std::uint64_t value) {
  std::size_t size = 1;
  for (; value >= 0x80; value >>= 7) ++size;
  return size;
}
inline Request read(std::string_view message) {
  Request request;
  std::uint64_t tag = 0, value = 0;
  while (take(message, tag)) {
    std::string_view part;
    switch (tag & 7) {
      case 0: take(message, value); break;
      case 2:
        take(message, value);
        part = message.substr(0, value);
        message.remove_prefix(part.size());
        break;
      default: message.remove_prefix(message.size() < 8 ? message.size() : (tag & 7) == 1 ? 8 : 4);
    }
    switch (tag >> 3) {
      case 1: request.id = value; break;
      case 2: request.body = part; break;
      case 3: request.job = value; break;
      case 4: request.task = value; break;
      case 5: request.run = static_cast<unsigned>(value); break;
      case 6: request.item = part; break;
      default: break;
    }
  }
  return request;
}
/// field: 2 for a body, 3 for an error
inline void write(std::string& to, std::uint64_t id, unsigned field, std::string_view part) {
  const bool has_part = field == 3 || !part.empty();
  put(to, (id == 0 ? 0 : 1 + size_of(id)) + (has_part ? 1 + size_of(part.size()) + part.size() : 0));
  if (id != 0) to.push_back('\x08'), put(to, id);
  if (!has_part) return;
  to.push_back(static_cast<char>(field << 3 | 2));
  put(to, part.size());
  to.append(part);
}
inline bool write_all(int file, std::string& bytes) {
  for (std::string_view rest = bytes; !rest.empty();) {
    const ssize_t n = ::write(file, rest.data(), rest.size());
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return false;
    rest.remove_prefix(static_cast<std::size_t>(n));
  }
  bytes.clear();
  return true;
}

}  // namespace detail

/// Answers until the worker closes stdin; yields the exit code of main. Answers leave together while more requests are there, but no later than after a millisecond.
template <class Function>
int serve(Function&& function) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t kRead = 64 << 10, kFlush = 256 << 10;
  // Neither a stray print nor a program that the function starts gets at the pipes: it would stand between two answers, or eat requests.
  const int in = ::fcntl(0, F_DUPFD_CLOEXEC, 3), out = ::fcntl(1, F_DUPFD_CLOEXEC, 3), null = ::open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (in < 0 || out < 0 || null < 0 || ::dup2(null, 0) < 0 || ::dup2(2, 1) < 0) return 1;
  ::close(null);
  std::string buffer, answers;
  std::size_t used = 0, have = 0;  // of the buffer
  for (;;) {
    auto flushed = Clock::now();
    for (;;) {
      std::string_view rest(buffer.data() + used, have - used);
      std::uint64_t size = 0;
      if (!detail::take(rest, size) || rest.size() < size) break;
      const Request request = detail::read(rest.substr(0, size));
      used = static_cast<std::size_t>(rest.data() - buffer.data()) + size;
      if (request.id == 0) {
        detail::write(answers, 0, 2, {});
      } else {
        try {
          detail::write(answers, request.id, 2, function(request));
        } catch (const std::exception& failure) {
          detail::write(answers, request.id, 3, failure.what());
        } catch (...) {
          detail::write(answers, request.id, 3, "an exception that is no std::exception");
        }
      }
      const auto now = Clock::now();
      if (answers.size() < kFlush && now - flushed < std::chrono::milliseconds(1)) continue;
      if (!detail::write_all(out, answers)) return 1;
      flushed = now;
    }
    if (!detail::write_all(out, answers)) return 1;
    if (used > 0) {
      std::memmove(buffer.data(), buffer.data() + used, have - used);
      have -= used;
      used = 0;
    }
    if (buffer.size() - have < kRead) buffer.resize(have < kRead ? 2 * kRead : 2 * have + kRead);
    const ssize_t n = ::read(in, buffer.data() + have, buffer.size() - have);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return n < 0;
    have += static_cast<std::size_t>(n);
  }
}

}  // namespace souk::service
