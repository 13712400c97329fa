// The manager's end of what goes to and from workers, without a server: what arrives is handed in, what is sent is looked at.
#include "manager/pool.h"

#include <gloox/tag.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <deque>
#include <map>
#include <sstream>
#include <thread>

#include "protocol/disco.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"
#include "tests/fuzz/still_link.h"

namespace souk {
namespace {

using namespace std::chrono_literals;
using fuzz::StillLinks;

const std::string kAnt = "worker@grid/ant";

/// One worker of one slot, that was greeted and has attempt 1 of job 1; for each result it is given the next one.
class Stage {
 public:
  Stage() {
    wire::Job job;
    job.mutable_command()->add_argv("/bin/true");
    job.mutable_range()->set_first(1), job.mutable_range()->set_last(100);
    make_grouped(job);
    JobRow row;
    row.id = {1}, row.owner = "ada@grid", row.tasks = 100;
    book.add(std::move(row), std::move(job));
    pool.set_me("manager@grid/souk");
    pool.commit = [this](std::function<void()> then) { commits.push_back(std::move(then)); };
    pool.tell = [this](const Event& event) {
      if (const auto* joined = std::get_if<WorkerJoined>(&event)) worker = joined->worker;
      if (const auto* refused = std::get_if<AttemptRefused>(&event)) told += "refused " + std::to_string(refused->attempt.number) + "; ";
    };
    pool.finished = [this](Pool::Finished result) {
      told += "finished " + std::to_string(result.what.attempt.number) + "; ";
      give();
    };
    StillLinks::rises(0);
    pool.present({"ant", kAnt, "", "", true});
    learnt();
    auto hello = answer();
    wire::HelloAnswer holds;
    holds.set_version(SOUK_VERSION), holds.set_slots(1);
    add_payload(*hello, "hello", ns::task, holds);
    StillLinks::arrives(0, *hello);
    give();
    EXPECT_EQ(sent(), "query; hello; assign 1");
  }

  /// Its answer to what it was asked last.
  Stanza answer() { return element("iq", {}, {{"type", "result"}, {"id", StillLinks::waiting(0).back()}, {"from", kAnt}}); }
  /// It answers what it is, if it is asked.
  void learnt() {
    if (StillLinks::waiting(0).empty()) return;
    Offer offer;
    offer.slots = 1, offer.cpus = 1, offer.os = "linux", offer.arch = "x86_64", offer.hostname = "anthill", offer.version = SOUK_VERSION;
    auto info = answer();
    DiscoInfo said;
    said.identities.push_back({"client", "bot", "", "Souk worker"});
    said.features = {ns::task};
    said.forms.push_back(to_form(offer));
    add_info(child(*info, "query", ns::info), said);
    StillLinks::arrives(0, *info);
  }

  /// The next attempt is for that worker, as the scheduler says.
  void give() {
    ++given;
    pool.assign(worker, {JobId{1}, TaskNumber{given}}, {Epoch{3}, given}, 1);
  }
  std::string report(std::uint64_t number, std::chrono::milliseconds took, bool takes_more = true) {
    wire::Report report;
    auto& result = *report.add_results();
    result.mutable_attempt()->set_epoch(3), result.mutable_attempt()->set_number(sealed.at(number)), result.mutable_attempt()->set_job(1), result.mutable_attempt()->set_task(number);
    result.mutable_outcome()->set_wall_us(static_cast<std::uint64_t>(took.count()) * 1000);
    report.set_takes_more(takes_more);
    return bring(report);
  }
  std::string bring(const wire::Report& report) {
    auto iq = element("iq", {}, {{"type", "set"}, {"id", "w" + std::to_string(++reports)}, {"from", kAnt}, {"to", "manager@grid/souk"}});
    add_payload(*iq, "report", ns::task, report);
    StillLinks::arrives(0, *iq);
    return sent();
  }
  /// The disk has all that was to be on it.
  std::string commit() {
    for (auto& then : std::exchange(commits, {})) then();
    return sent();
  }
  std::string after(std::chrono::milliseconds time) {
    loop.restart();
    loop.run_for(time);
    return sent();
  }
  /// What left, in words.
  std::string sent() {
    loop.restart();
    loop.poll();
    std::string text;
    const auto numbers = [this](const wire::Assign& assign) {
      std::string list;
      for (const auto& one : assign.assignments()) {
        const std::uint64_t number = Claims::number_of(one.number());
        sealed[number] = one.number();
        list += ' ' + std::to_string(number);
      }
      return list;
    };
    for (const auto& stanza : StillLinks::sent(0)) {
      text += text.empty() ? "" : "; ";
      const gloox::Tag& payload = *stanza->children().front();
      if (stanza->findAttribute("type") == "error") {
        text += "error";
      } else if (payload.name() == "assign") {
        wire::Assign assign;
        EXPECT_TRUE(payload_in(payload, assign));
        text += "assign" + numbers(assign);
      } else if (payload.name() == "report") {
        wire::ReportAnswer said;
        EXPECT_TRUE(payload_in(payload, said));
        text += "taken" + (said.has_assign() ? ", assign" + numbers(said.assign()) : "");
      } else {
        text += payload.name();
      }
    }
    return text;
  }

  boost::asio::io_context loop;
  XmppLink link{loop, Account{.jid = "grid", .password = "secret", .component = true, .host = {}, .ca_file = {}}};
  JobBook book;
  Pool pool{loop, link, book, Epoch{3}, ClaimsKey{}, 30s, [](const std::string& jid) { return jid == kAnt; }, 1 << 20};
  WorkerId worker{};
  std::uint64_t given = 0;
  int reports = 0;
  std::map<std::uint64_t, std::uint64_t> sealed;  // under which number an attempt left
  std::string told;
  std::deque<std::function<void()>> commits;

 private:
};

TEST(Pool, WhatALongTaskIsFollowedByLeavesWithTheAnswerToItsReport) {
  Stage stage;
  EXPECT_EQ(stage.report(1, 2s), "");  // nothing is answered before it is on disk
  EXPECT_EQ(stage.commit(), "taken, assign 2");
  EXPECT_EQ(stage.report(2, 2s), "");
  EXPECT_EQ(stage.commit(), "taken, assign 3");
  EXPECT_EQ(stage.after(kTogetherMax + 10ms), "");  // and not once more
}

TEST(Pool, WhatAShortTaskIsFollowedByWaitsForNoDisk) {
  Stage stage;
  EXPECT_EQ(stage.report(1, 20ms), "assign 2");
  EXPECT_EQ(stage.commit(), "taken");
}

TEST(Pool, AWorkerThatDoesNotSayThatItTakesMoreIsAskedAsEver) {
  Stage stage;
  EXPECT_EQ(stage.report(1, 2s, false), "assign 2");
  EXPECT_EQ(stage.commit(), "taken");
}

TEST(Pool, ADiskThatTakesItsTimeKeepsNobodyFromWorking) {
  Stage stage;
  EXPECT_EQ(stage.report(1, 2s), "");
  EXPECT_EQ(stage.after(kTogetherMax + 10ms), "assign 2");
  EXPECT_EQ(stage.commit(), "taken");
}

TEST(Pool, AStopWaitsForNothingAndComesBehindWhatItStops) {
  Stage stage;
  EXPECT_EQ(stage.report(1, 2s), "");
  stage.pool.stop(stage.worker, {{Epoch{3}, 2}, {JobId{1}, TaskNumber{2}}});
  EXPECT_EQ(stage.sent(), "assign 2; stop");
  EXPECT_EQ(stage.commit(), "taken");
}

TEST(Pool, WhatWaitedWhenTheLinkBrokeIsGivenToNobody) {
  Stage stage;
  EXPECT_EQ(stage.report(1, 2s), "");
  StillLinks::falls(0);
  stage.pool.closed();
  StillLinks::rises(0);
  EXPECT_EQ(stage.commit(), "taken");  // what it holds it says when it is back, and this is not among it
  EXPECT_EQ(stage.after(kTogetherMax + 10ms), "");
}

TEST(Pool, AManagerThatIsStoppedGivesOutNothingThatWaited) {
  Stage stage;
  EXPECT_EQ(stage.report(1, 2s), "");
  stage.pool.fence();
  EXPECT_EQ(stage.commit(), "taken");
  EXPECT_EQ(stage.after(kTogetherMax + 10ms), "");
}

TEST(Pool, WhatIsToBeGivenComesBeforeAnotherGreeting) {
  Stage stage;
  EXPECT_EQ(stage.report(1, 2s), "");
  stage.pool.present({"ant", kAnt, "", "", true});  // a new stream of the same
  EXPECT_EQ(stage.sent(), "query");
  EXPECT_EQ(stage.commit(), "taken, assign 2");
}

TEST(Pool, WhatWasNotTakenComesBackInAReport) {
  Stage stage;
  stage.report(1, 2s);
  EXPECT_EQ(stage.commit(), "taken, assign 2");
  wire::Report report;
  report.mutable_assigned()->add_refused(stage.sealed.at(2));
  report.mutable_assigned()->set_epoch(2);
  EXPECT_EQ(stage.bring(report), "taken");
  EXPECT_EQ(stage.told, "finished 1; ");  // it speaks of another life of the manager, where number 2 was something else
  report.mutable_assigned()->set_epoch(3);
  EXPECT_EQ(stage.bring(report), "taken");
  EXPECT_EQ(stage.told, "finished 1; refused 2; ");
}

TEST(Pool, OfTwoReportsTheFirstAnswerTakesWhatWaits) {
  Stage stage;
  stage.give();
  EXPECT_EQ(stage.sent(), "assign 2");
  EXPECT_EQ(stage.report(1, 2s), "");
  EXPECT_EQ(stage.report(2, 2s), "");
  EXPECT_EQ(stage.commit(), "taken, assign 3 4; taken");
  EXPECT_EQ(stage.after(kTogetherMax + 10ms), "");
}

TEST(Pool, AFullDiskRefusesResultsButHearsWhatWasNotTaken) {
  Stage stage;
  stage.report(1, 2s);
  EXPECT_EQ(stage.commit(), "taken, assign 2");
  stage.pool.crowded = [] { return true; };
  wire::Report report;
  report.mutable_assigned()->add_refused(stage.sealed.at(2));
  report.mutable_assigned()->set_epoch(3);
  EXPECT_EQ(stage.bring(report), "taken");
  EXPECT_EQ(stage.report(2, 2s), "error");
  EXPECT_EQ(stage.told, "finished 1; refused 2; ");
}

TEST(Pool, WhoNamesMassesEachTimeItComesIsGreetedLater) {
  Stage stage;
  wire::HelloAnswer masses;
  masses.set_version(SOUK_VERSION), masses.set_slots(1);
  for (std::uint64_t n = 1; n <= 100'000; ++n) {
    auto& held = *masses.add_held();
    held.set_epoch(2), held.set_number(n), held.set_job(1), held.set_task(1);
  }
  int greeted = 0;
  const auto asked = [&] { return stage.sent().find("hello") != std::string::npos; };
  const auto comes = [&] { return stage.pool.gone(kAnt), stage.sent(), stage.pool.present({"ant", kAnt, "", "", true}), stage.learnt(), asked(); };
  for (; greeted < 100 && comes(); ++greeted) {
    auto hello = stage.answer();
    add_payload(*hello, "hello", ns::task, masses);
    StillLinks::arrives(0, *hello);
  }
  RecordProperty("greeted", greeted);
  EXPECT_GE(greeted, 1);
  EXPECT_LT(greeted, 100) << "also after it left";
  bool later = false;
  for (const auto until = std::chrono::steady_clock::now() + 60s; !later && std::chrono::steady_clock::now() < until;) stage.pool.tick(), stage.learnt(), later = asked() || (stage.after(20ms), false);
  EXPECT_TRUE(later);
}

TEST(Pool, WhatAWorkerDidNotTakeItSaysOnceAndInNoMasses) {
  Stage stage;
  stage.report(1, 2s);
  EXPECT_EQ(stage.commit(), "taken, assign 2");
  wire::Report report;
  report.mutable_assigned()->set_epoch(3);
  for (int i = 0; i < 16384; ++i) report.mutable_assigned()->add_refused(stage.sealed.at(2));
  EXPECT_EQ(stage.bring(report), "taken");
  EXPECT_EQ(stage.told, "finished 1; refused 2; ") << "however often it is named";
  report.mutable_assigned()->add_refused(stage.sealed.at(2));
  EXPECT_EQ(stage.bring(report), "error");
  report.mutable_assigned()->clear_refused();
  for (std::uint64_t job = 0; job <= 16384; ++job) report.mutable_assigned()->add_missing(job);
  EXPECT_EQ(stage.bring(report), "error");
  EXPECT_EQ(stage.told, "finished 1; refused 2; ");
}

}  // namespace
}  // namespace souk
