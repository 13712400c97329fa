#include "manager/aside.h"

#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <set>
#include <thread>


namespace souk {
namespace {

using namespace std::chrono_literals;

TEST(Aside, TheLoopGoesOnMeanwhile) {
  boost::asio::io_context loop;
  const auto guard = boost::asio::make_work_guard(loop);
  std::promise<void> went_on;
  std::future_status seen{};
  bool answered = false;
  const auto loops = std::this_thread::get_id();
  {
    Aside aside(loop);
    aside.run([&] { return seen = went_on.get_future().wait_for(30s), std::this_thread::get_id(); },
              [&](std::thread::id worked) {
                EXPECT_NE(worked, loops);
                EXPECT_EQ(std::this_thread::get_id(), loops);
                answered = true;
                loop.stop();
              });
    boost::asio::post(loop, [&] { went_on.set_value(); });  // what work waits for is the loop's to do
    loop.run_for(60s);
  }
  EXPECT_EQ(seen, std::future_status::ready);
  EXPECT_TRUE(answered);
}

TEST(Aside, OneAtATimeAndNoneForgotten) {
  boost::asio::io_context loop;
  const auto guard = boost::asio::make_work_guard(loop);
  std::set<int> answered;
  std::atomic<int> at_once = 0, most = 0;
  Aside aside(loop);
  for (int i = 0; i < 100; ++i)
    aside.run(
        [&, i] {
          most = std::max(most.load(), ++at_once);
          std::this_thread::yield();
          --at_once;
          return i;
        },
        [&](int from) {
          answered.insert(from);
          if (answered.size() == 100) loop.stop();
        });
  loop.run_for(60s);
  EXPECT_EQ(most, 1);
  EXPECT_EQ(answered.size(), 100u);
}

TEST(Aside, EndsOnlyWhenItsWorkDid) {
  boost::asio::io_context loop;
  std::atomic<bool> ended = false, answered = false;
  std::promise<void> begun;
  {
    Aside aside(loop);
    aside.run([&] { return begun.set_value(), std::this_thread::sleep_for(50ms), ended = true; }, [&](bool) { answered = true; });
    begun.get_future().wait();
  }
  EXPECT_TRUE(ended);
  EXPECT_FALSE(answered);  // that is the loop's, which does not run
}

}  // namespace
}  // namespace souk
