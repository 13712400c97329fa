// A submitter's session against a manager that a script plays: orders of events that no real one gives at will.
#include "submit/session.h"

#include <gloox/tag.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <thread>

#include "protocol/payload.h"
#include "protocol/stanza.h"
#include "tests/system/prosody.h"

namespace souk::test {
namespace {

using namespace std::chrono_literals;

/// Answers each submission with job 7, which ends with one result; says so before it says the number.
class HastyManager {
 public:
  explicit HastyManager(const Account& account) : link_(loop_, account), seat_(link_.on_iq("command", ns::commands, [this](const gloox::Tag& iq, const gloox::Tag& command) { take(iq, command); })) {
    link_.on_up = [this] { up = true; };
    link_.start();
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~HastyManager() {
    boost::asio::post(loop_, [this] { loop_.stop(); });
    thread_.join();
  }
  std::atomic<bool> up = false;
  std::atomic<int> asked = 0;

 private:
  void take(const gloox::Tag& iq, const gloox::Tag& command) {
    ++asked;
    for (const auto state : {wire::RUNNING, wire::SUCCEEDED, wire::RUNNING}) {  // the last one was overtaken by the end
      wire::Event event;
      event.mutable_job()->set_job(7), event.mutable_job()->set_tasks(1), event.mutable_job()->set_state(state), event.mutable_job()->set_submitted_ms(1);
      wire::ResultsAnswer results;
      auto message = element("message", {}, {{"type", "headline"}, {"to", iq.findAttribute("from")}});
      if (state == wire::SUCCEEDED) event.mutable_job()->set_ended_ms(2), event.mutable_job()->set_succeeded(1), results.add_results()->set_task(1);
      add_payload(*message, "event", ns::job, event);
      if (state == wire::SUCCEEDED) add_payload(*message, "results", ns::job, results);
      link_.send(std::move(message));
    }
    wire::SubmitAnswer answer;
    answer.set_job(7), answer.set_tasks(1);
    auto reply = result_of(iq);
    auto& done = child(*reply, "command", ns::commands, {{"node", command.findAttribute("node")}, {"status", "completed"}, {"sessionid", "1"}});
    add_payload(done, "submit", ns::job, answer);
    link_.send(std::move(reply));
  }

  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_ = boost::asio::make_work_guard(loop_);
  XmppLink link_;
  Registration seat_;
  std::thread thread_;
};

TEST(Session, NewsThatComeBeforeTheNumberOfTheJobAreNotLost) {
  Prosody prosody;
  HastyManager manager(prosody.component_account());
  while (!manager.up) std::this_thread::yield();
  Profile profile;
  profile.account = prosody.account("ada");
  profile.manager = prosody.options().component;
  Session session(profile);
  wire::Job job;
  job.mutable_command()->add_argv("true");
  const auto answer = session.submit(job, new_key(), true);
  ASSERT_TRUE(answer) << answer.error().text();
  ASSERT_EQ(answer.value().job(), 7u);
  session.watching(7);
  const auto* news = session.news(7);
  ASSERT_NE(news, nullptr) << "the next news would be those it asks for after two seconds";
  EXPECT_EQ(news->ended_ms(), 2u);
  wire::ResultsRequest request;
  request.set_job(7), request.set_outputs(true);
  const auto results = session.results(request);
  ASSERT_TRUE(results) << results.error().text();
  EXPECT_EQ(results.value().results_size(), 1);
  EXPECT_EQ(manager.asked, 1) << "the result came with the news";
}

}  // namespace
}  // namespace souk::test
