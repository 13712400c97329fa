// A message server alone, under the traffic of a grid: a component sends requests to an account, which answers each, as manager and worker do.
//   server_bench --folder FOLDER                        20,000 requests, 64 in flight
//   server_bench --folder FOLDER --window 1             one at a time: how long one takes
//   server_bench --folder FOLDER --batch 64             64 tasks in each request
// FOLDER is one of `souk up`, of which only the server runs: its component and its worker's account are used. Prints one line of JSON.
// bench/compare uses it for case S.
#include <CLI/CLI.hpp>
#include <gloox/tag.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/post.hpp>
#include <chrono>
#include <cstdio>
#include <future>
#include <random>
#include <stdexcept>
#include <thread>
#include <vector>

#include "protocol/grid.pb.h"
#include "protocol/profile.h"
#include "protocol/stanza.h"

namespace souk {
namespace {

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr auto kPatience = 60s;  // for logging in, and for all answers

/// One link and the thread that runs its loop.
class Party {
 public:
  explicit Party(const std::filesystem::path& profile) : work_(boost::asio::make_work_guard(loop_)) {
    const auto loaded = load_profile(profile);
    if (!loaded) throw std::runtime_error(loaded.error().text());
    link_ = std::make_unique<XmppLink>(loop_, loaded.value().account, XmppLink::Limits{.retry_min = 50ms, .retry_max = 500ms});
    thread_ = std::thread([this] { loop_.run(); });
  }
  ~Party() {
    boost::asio::post(loop_, [this] { link_.reset(), work_.reset(), loop_.stop(); });
    thread_.join();
  }
  void start() {
    std::promise<void> up;
    auto is_up = up.get_future();
    bool told = false;
    call([&] {
      link_->on_up = [&up, &told] { if (!std::exchange(told, true)) up.set_value(); };
      link_->start();
    });
    const bool came = is_up.wait_for(kPatience) == std::future_status::ready;
    call([this] { link_->on_up = [] {}; });  // what it refers to goes with this frame
    if (!came) throw std::runtime_error("the server lets nobody in");
  }
  /// On the thread that owns the link; returns when it is done.
  template <class Work>
  void call(Work work) {
    std::promise<void> done;
    boost::asio::post(loop_, [&] { work(), done.set_value(); });
    done.get_future().wait();
  }
  XmppLink& link() { return *link_; }

 private:
  boost::asio::io_context loop_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::unique_ptr<XmppLink> link_;
  std::thread thread_;
};

/// As many tasks as a request has; distinct items, as lists have.
wire::Assign tasks_of(int batch) {
  wire::Assign message;
  message.set_epoch(1);
  std::minstd_rand random(1);
  for (int i = 0; i < batch; ++i) {
    auto& one = *message.add_assignments();
    one.set_number(static_cast<std::uint64_t>(i + 1)), one.set_job(1), one.set_task(static_cast<std::uint64_t>(i + 1));
    one.set_item("/srv/in/" + std::to_string(random()) + "/" + std::to_string(random()) + ".dat");
  }
  return message;
}

/// All of it happens on the asking party's loop.
class Asking {
 public:
  Asking(XmppLink& link, std::string to, int requests, int window, int batch) : link_(link), to_(std::move(to)), left_(requests), window_(window), message_(tasks_of(batch)) {
    seconds_.reserve(static_cast<std::size_t>(requests));
  }
  void begin() {
    began_ = Clock::now();
    for (int i = 0; i < window_ && left_ > 0; ++i) ask();
  }
  std::future<double> done() { return done_.get_future(); }
  std::vector<double>& seconds() { return seconds_; }

 private:
  void ask() {
    --left_, ++open_;
    auto iq = element("iq", {}, {{"type", "set"}, {"to", to_}});
    add_payload(*iq, "assign", ns::task, message_);
    link_.request(std::move(iq), kPatience, [this, asked = Clock::now()](const Answer& answer) {
      if (!answer) failed_ = answer.error.condition;
      seconds_.push_back(std::chrono::duration<double>(Clock::now() - asked).count());
      --open_;
      if (left_ > 0 && failed_.empty()) return ask();
      if (open_ > 0) return;
      if (failed_.empty()) done_.set_value(std::chrono::duration<double>(Clock::now() - began_).count());
      else done_.set_exception(std::make_exception_ptr(std::runtime_error("a request ended with " + failed_)));
    });
  }

  XmppLink& link_;
  const std::string to_;
  int left_, open_ = 0;
  const int window_;
  const wire::Assign message_;
  std::string failed_;
  Clock::time_point began_;
  std::vector<double> seconds_;
  std::promise<double> done_;
};

}  // namespace
}  // namespace souk

int main(int argc, char** argv) {
  using namespace souk;
  CLI::App app("Requests through a message server: a component asks, an account answers.");
  std::string folder;
  int requests = 20'000, window = 64, batch = 1;
  app.add_option("--folder", folder, "Folder of a grid whose server runs, and nothing else of it")->required();
  app.add_option("--requests", requests, "default: 20000")->check(CLI::Range(1, 10'000'000));
  app.add_option("--window", window, "Requests in flight (default: 64)")->check(CLI::Range(1, 100'000));
  app.add_option("--batch", batch, "Tasks in each (default: 1)")->check(CLI::Range(1, 10'000));
  CLI11_PARSE(app, argc, argv);
  try {
    Party manager(std::filesystem::path(folder) / "manager.toml"), worker(std::filesystem::path(folder) / "worker.toml");
    struct Answering {  // ends on the link's own thread
      Party& party;
      Registration registration{};
      explicit Answering(Party& who) : party(who) {
        party.call([this] { registration = party.link().on_iq("assign", ns::task, [this](const gloox::Tag& iq, const gloox::Tag&) { party.link().send(result_of(iq)); }); });
      }
      ~Answering() {
        party.call([this] { registration = Registration(); });
      }
    };
    const Answering answering(worker);
    worker.start();
    manager.start();
    const auto run = [&](int count) {
      Asking asking(manager.link(), worker.link().jid(), count, window, batch);
      auto done = asking.done();
      manager.call([&] { asking.begin(); });
      const double took = done.get();
      return std::make_pair(took, std::move(asking.seconds()));
    };
    run(std::min(requests, 500));  // warm
    auto [took, seconds] = run(requests);
    std::sort(seconds.begin(), seconds.end());
    std::printf("{\"requests\": %d, \"window\": %d, \"batch\": %d, \"seconds\": %.6f, \"requests_per_s\": %.1f, \"p50_us\": %.1f, \"p99_us\": %.1f}\n", requests, window, batch, took, requests / took,
                seconds[seconds.size() / 2] * 1e6, seconds[seconds.size() * 99 / 100] * 1e6);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "server_bench: %s\n", error.what());
    return 1;
  }
  return 0;
}
