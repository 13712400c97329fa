// A submitter's session against a manager that a script plays: orders of events that no real one gives at will.
#include "submit/results.h"

#include <gloox/tag.h>
#include <gtest/gtest.h>

#include <atomic>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <functional>
#include <future>
#include <thread>
#include <vector>

#include "protocol/payload.h"
#include "protocol/stanza.h"
#include "submit/session.h"
#include "tests/system/prosody.h"

namespace souk::test {
namespace {

using namespace std::chrono_literals;

/// Takes commands as a test says, on a thread of its own. There once it is made.
class PlayedManager {
 public:
  using Take = std::function<void(PlayedManager&, const gloox::Tag& iq, const gloox::Tag& command)>;
  PlayedManager(const Account& account, Take take)
      : link_(loop_, account), seat_(link_.on_iq("command", ns::commands, [this, take](const gloox::Tag& iq, const gloox::Tag& command) { ++asked, take(*this, iq, command); })) {
    std::promise<void> up;
    link_.on_up = [&] { up.set_value(); };
    link_.start();
    thread_ = std::thread([this] { loop_.run(); });
    up.get_future().wait();
  }
  ~PlayedManager() {
    boost::asio::post(loop_, [this] { loop_.stop(); });
    thread_.join();
  }
  void send(Stanza stanza) { link_.send(std::move(stanza)); }
  void answer(const gloox::Tag& iq, const std::string& node, const google::protobuf::MessageLite& message) {
    auto reply = result_of(iq);
    auto& done = child(*reply, "command", ns::commands, {{"node", node}, {"status", "completed"}, {"sessionid", "1"}});
    add_payload(done, node, ns::job, message);
    send(std::move(reply));
  }
  std::atomic<int> asked = 0;

 private:
  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_ = boost::asio::make_work_guard(loop_);
  XmppLink link_;
  Registration seat_;
  std::thread thread_;
};

Profile ada(const Prosody& prosody) {
  Profile profile;
  profile.account = prosody.account("ada");
  profile.manager = prosody.options().component;
  return profile;
}

/// Answers each submission with job 7, which ends with one result; says so before it says the number.
void hasty(PlayedManager& manager, const gloox::Tag& iq, const gloox::Tag&) {
  for (const auto state : {wire::RUNNING, wire::SUCCEEDED, wire::RUNNING}) {  // the last one was overtaken by the end
    wire::Event event;
    event.mutable_job()->set_job(7), event.mutable_job()->set_tasks(1), event.mutable_job()->set_state(state), event.mutable_job()->set_submitted_ms(1);
    wire::ResultsAnswer results;
    auto message = element("message", {}, {{"type", "headline"}, {"to", iq.findAttribute("from")}});
    if (state == wire::SUCCEEDED) event.mutable_job()->set_ended_ms(2), event.mutable_job()->set_succeeded(1), results.add_results()->set_task(1);
    add_payload(*message, "event", ns::job, event);
    if (state == wire::SUCCEEDED) add_payload(*message, "results", ns::job, results);
    manager.send(std::move(message));
  }
  wire::SubmitAnswer answer;
  answer.set_job(7), answer.set_tasks(1);
  manager.answer(iq, "submit", answer);
}

TEST(Session, NewsThatComeBeforeTheNumberOfTheJobAreNotLost) {
  Prosody prosody;
  PlayedManager manager(prosody.component_account(), hasty);
  Session session(ada(prosody));
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

/// A job of 2,000 tasks in pages of 500. After the first it waits until three pages are asked for: who asks for one at a time gets none.
TEST(Session, PagesOfResultsAreAskedForBeforeTheyAreRead) {
  Prosody prosody;
  std::vector<std::pair<Stanza, wire::ResultsAnswer>> kept;
  PlayedManager manager(prosody.component_account(), [&](PlayedManager& self, const gloox::Tag& iq, const gloox::Tag& command) {
    wire::ResultsRequest request;
    ASSERT_TRUE(payload_in(*command.findChild("results"), request));
    const auto first = std::max<std::uint64_t>(1, request.from_task()), last = std::min<std::uint64_t>(2'000, first + 499);
    wire::ResultsAnswer answer;
    answer.mutable_job()->set_job(7), answer.mutable_job()->set_tasks(2'000);
    for (auto task = first; task <= last; ++task) answer.add_results()->set_task(task);
    if (request.to_task() == 0) answer.set_next_task(last + 1);
    if (first == 1) return self.answer(iq, "results", answer);
    kept.emplace_back(Stanza(iq.clone()), std::move(answer));
    if (kept.size() == 3)
      for (const auto& [asked, page] : kept) self.answer(*asked, "results", page);
  });
  Session session(ada(prosody), {.reach = 500ms, .answer = 2s});
  wire::ResultsRequest request;
  request.set_job(7);
  ResultPages pages(session, request);
  std::uint64_t next = 1;
  while (!pages.done()) {
    const auto page = pages.next(2'000);
    ASSERT_TRUE(page) << page.error().text();
    for (const auto& result : page.value().results()) ASSERT_EQ(result.task(), next++);
  }
  EXPECT_EQ(next, 2'001u);
  EXPECT_EQ(manager.asked, 4);
}

}  // namespace
}  // namespace souk::test
