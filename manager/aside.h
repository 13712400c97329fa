// Pure work on something large, on oneTBB's threads: a loop that many wait for goes on meanwhile.
#pragma once
#include <tbb/task_arena.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>

namespace souk {

class Aside {
 public:
  explicit Aside(boost::asio::io_context& loop) : loop_(loop) {}
  Aside(const Aside&) = delete;
  Aside& operator=(const Aside&) = delete;
  /// Waits for what is being worked on. Its `then` may still come, when the loop runs on.
  ~Aside() {
    std::unique_lock lock(mutex_);
    idle_.wait(lock, [this] { return working_ == 0; });
  }

  /// Calls `work` on another thread, which must touch nothing that anybody else does, and `then` on the loop with what it returned. Neither throws.
  /// One `work` is done at a time.
  template <class Work, class Then>
  void run(Work work, Then then) {
    using Made = decltype(work());
    {
      const std::lock_guard lock(mutex_);
      ++working_;
    }
    // oneTBB's tasks are copied.
    arena_.enqueue([this, job = std::make_shared<std::pair<Work, Then>>(std::move(work), std::move(then))] {
      auto made = std::make_shared<Made>(job->first());
      boost::asio::post(loop_, [job, made] { job->second(std::move(*made)); });
      const std::lock_guard lock(mutex_);
      if (--working_ == 0) idle_.notify_all();
    });
  }

 private:
  boost::asio::io_context& loop_;
  tbb::task_arena arena_{1, 0};  // one thread, and that is not the loop's
  std::mutex mutex_;
  std::condition_variable idle_;
  std::size_t working_ = 0;
};

}  // namespace souk
