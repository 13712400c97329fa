#include "submit/interrupts.h"

#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <cerrno>
#include <system_error>

namespace souk {
namespace {

// What a signal handler may touch. The descriptor outlives the handler: see ~Interrupts.
volatile std::sig_atomic_t signals_seen = 0, last_signal = 0;
volatile int wake_descriptor = -1;
char last_words[200];
volatile std::sig_atomic_t last_words_size = 0;

void on_signal(int number) {
  const int saved = errno;
  last_signal = number;
  signals_seen = signals_seen + 1;
  if (signals_seen >= 2) {
    [[maybe_unused]] auto ignored = ::write(STDERR_FILENO, "\n", 1);  // leaves a half-drawn bar's line
    ignored = ::write(STDERR_FILENO, last_words, static_cast<std::size_t>(last_words_size));
    ::_exit(128 + number);
  }
  const std::uint64_t one = 1;
  [[maybe_unused]] const auto ignored = ::write(wake_descriptor, &one, sizeof one);
  errno = saved;
}

}  // namespace

Interrupts::Interrupts(boost::asio::io_context& loop) : wake_(loop) {
  const int descriptor = ::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (descriptor < 0) throw std::system_error(errno, std::generic_category(), "eventfd");
  wake_.assign(descriptor);
  signals_seen = 0;
  wake_descriptor = descriptor;
  struct sigaction action {};
  action.sa_handler = on_signal;  // without SA_RESTART
  ::sigaction(SIGINT, nullptr, &before_int_);
  ::sigaction(SIGTERM, nullptr, &before_term_);
  // What is ignored stays ignored: the shell gives background jobs of a script an ignored SIGINT.
  if (before_int_.sa_handler != SIG_IGN) ::sigaction(SIGINT, &action, nullptr);
  if (before_term_.sa_handler != SIG_IGN) ::sigaction(SIGTERM, &action, nullptr);
  read();
}

Interrupts::~Interrupts() {
  ::sigaction(SIGINT, &before_int_, nullptr);
  ::sigaction(SIGTERM, &before_term_, nullptr);
  wake_descriptor = -1;
  last_words_size = 0;
}

void Interrupts::leave_saying(const std::string& words) {
  last_words_size = 0;
  const auto size = std::min(words.size(), sizeof last_words);
  std::copy_n(words.begin(), size, last_words);
  last_words_size = static_cast<std::sig_atomic_t>(size);
}

int Interrupts::count() const { return signals_seen; }
int Interrupts::exit_code() const { return 128 + last_signal; }

void Interrupts::read() {
  // Its only work is to end a run_one() of the loop; who waits looks at count() then.
  wake_.async_read_some(boost::asio::buffer(&read_, sizeof read_), [this](const boost::system::error_code& error, std::size_t) {
    if (!error) read();
  });
}

}  // namespace souk
