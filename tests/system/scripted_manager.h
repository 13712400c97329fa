// A manager that does what a test tells it, and a worker program to do it to.
#pragma once
#include <gloox/tag.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <chrono>
#include <fstream>
#include <functional>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "grid.pb.h"
#include "protocol/disco.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"
#include "protocol/xmpp_link.h"
#include "tests/system/prosody.h"

namespace souk::test {

using namespace std::chrono_literals;

inline const std::string kManager = "manager@grid.souk.localhost/souk";
inline const std::string kRoom = "market@rooms.souk.localhost";

/// Runs the loop until `done` or the time is over; says whether it is done. Looks now and then even when nothing happens on the loop, since
/// some of what tests wait for, like a line in a program's log, brings no event.
inline bool run_until(boost::asio::io_context& loop, const std::function<bool()>& done, std::chrono::milliseconds patience = 10s) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!done()) {
    const auto left = end - std::chrono::steady_clock::now();
    if (left <= 0s) return false;
    loop.restart();
    loop.run_one_for(std::min<std::chrono::steady_clock::duration>(left, 10ms));
  }
  return true;
}

/// What a worker's answers carry, if they are what the test waits for.
struct Said {
  bool done = false;
  std::string error;  // condition and text
  wire::AssignAnswer assign;
  wire::HelloAnswer hello;
  std::string xml;
};

class ScriptedManager {
 public:
  struct Occupant {
    std::string jid, show, status, hash;
  };

  ScriptedManager(boost::asio::io_context& loop, const Account& account) : loop_(loop), link(loop, account) {
    link.on_up = [this] { up_ = true; };
    link.on_down = [this](const Error&, bool) { up_ = inside_ = false; };
    seats_.push_back(link.on_presence([this](const gloox::Tag& presence) { take_presence(presence); }));
    seats_.push_back(link.on_iq("report", ns::task, [this](const gloox::Tag& iq, const gloox::Tag& payload) { take_report(iq, payload); }));
    seats_.push_back(link.on_iq("lease", ns::task, [this](const gloox::Tag& iq, const gloox::Tag& payload) {
      leases.emplace_back();
      EXPECT_TRUE(decode(payload.cdata(), payload.findAttribute("encoding") == "zlib", leases.back()));
      if (const std::string condition = refuse_lease(); !condition.empty()) return link.send(error_of(iq, "cancel", condition, "as the test says"));
      auto answer = result_of(iq);
      child(*answer, "lease", ns::task);
      link.send(std::move(answer));
    }));
    link.start();
  }

  bool until(const std::function<bool()>& done, std::chrono::milliseconds patience = 10s) { return run_until(loop_, done, patience); }

  /// Makes the room and enters it.
  void open() {
    ASSERT_TRUE(until([this] { return up_; }));
    auto join = element("presence", {}, {{"from", kManager}, {"to", kRoom + "/manager"}});
    child(child(*join, "x", ns::muc), "history", {}, {{"maxstanzas", "0"}});
    link.send(std::move(join));
    ASSERT_TRUE(until([this] { return inside_; }));
    Form form;
    form.type = "submit";
    form.add("FORM_TYPE", "hidden", "", {"http://jabber.org/protocol/muc#roomconfig"});
    form.add("muc#roomconfig_whois", "", "", {"anyone"});
    form.add("muc#roomconfig_persistentroom", "", "", {"1"});
    form.add("muc#roomconfig_moderatedroom", "", "", {"1"});
    EXPECT_EQ(owner(form), "");
  }
  /// The owner's settings; returns the error.
  std::string owner(const Form& form) {
    auto iq = element("iq", {}, {{"type", "set"}, {"from", kManager}, {"to", kRoom}});
    add_form(child(*iq, "query", ns::muc_owner), form);
    return ask(std::move(iq)).error;
  }
  /// role none = kick, affiliation outcast = ban, ...
  std::string admin(const std::string& what, const std::string& value, const std::string& who_key, const std::string& who) {
    auto iq = element("iq", {}, {{"type", "set"}, {"from", kManager}, {"to", kRoom}});
    child(child(*iq, "query", ns::muc_admin), "item", {}, {{who_key, who}, {what, value}});
    return ask(std::move(iq)).error;
  }
  void leave() {
    link.send(element("presence", {}, {{"from", kManager}, {"to", kRoom + "/manager"}, {"type", "unavailable"}}));
    EXPECT_TRUE(until([this] { return !inside_; }));
  }

  /// The one worker that is in the room; waits for it.
  std::string worker() {
    EXPECT_TRUE(until([this] { return !occupants.empty(); })) << "no worker came";
    return occupants.empty() ? "" : occupants.begin()->second.jid;
  }

  Said ask(Stanza iq) {
    auto said = std::make_shared<Said>();
    link.request(std::move(iq), 10s, [said](const Answer& answer) {
      said->done = true;
      if (!answer) {
        said->error = answer.error.condition + ": " + answer.error.text;
        return;
      }
      said->xml = answer.iq->xml();
      if (const auto* tag = answer.iq->findChild("hello", "xmlns", ns::task)) {
        EXPECT_TRUE(decode(tag->cdata(), tag->findAttribute("encoding") == "zlib", said->hello));
      }
      if (const auto* tag = answer.iq->findChild("assign", "xmlns", ns::task)) {
        EXPECT_TRUE(decode(tag->cdata(), tag->findAttribute("encoding") == "zlib", said->assign));
      }
    });
    EXPECT_TRUE(until([&] { return said->done; }, 15s));
    return *said;
  }
  static Stanza iq(const std::string& to, const std::string& name, const std::string& text, const std::string& xmlns = ns::task, const std::string& from = kManager) {
    auto iq = element("iq", {}, {{"type", "set"}, {"from", from}, {"to", to}});
    child(*iq, name, xmlns, {}, text);
    return iq;
  }
  static Stanza iq(const std::string& to, const std::string& name, const google::protobuf::MessageLite& message, const std::string& from = kManager) {
    const Encoded encoded = encode(message);
    auto iq = element("iq", {}, {{"type", "set"}, {"from", from}, {"to", to}});
    auto& tag = child(*iq, name, ns::task, {}, encoded.text);
    if (encoded.zlib) tag.addAttribute("encoding", "zlib");
    return iq;
  }
  Said hello(std::uint64_t epoch = 1, std::uint64_t lease_ms = 30000, const std::string& version = SOUK_VERSION) {
    wire::Hello message;
    message.set_epoch(epoch);
    message.set_lease_ms(lease_ms);
    message.set_version(version);
    return ask(iq(worker(), "hello", message));
  }
  /// `count` attempts of one shell line, numbered from `first`.
  Said assign(const std::string& line, std::uint64_t first = 1, std::uint64_t count = 1, std::uint64_t epoch = 1) { return ask(iq(worker(), "assign", assigned(line, first, count, epoch))); }
  static wire::Assign assigned(const std::string& line, std::uint64_t first = 1, std::uint64_t count = 1, std::uint64_t epoch = 1) {
    wire::Assign message;
    message.set_epoch(epoch);
    auto& job = *message.add_commands();
    job.set_job(7);
    job.mutable_command()->add_argv(line);
    job.mutable_command()->set_shell(true);
    job.mutable_command()->set_grace_ms(200);
    job.mutable_command()->set_output_max(4 << 20);
    job.mutable_command()->set_fill(true);
    for (std::uint64_t number = first; number < first + count; ++number) {
      auto& one = *message.add_assignments();
      one.set_number(number);
      one.set_job(7);
      one.set_task(number);
      one.set_item("item " + std::to_string(number));
    }
    return message;
  }
  Said stop(std::vector<std::uint64_t> numbers, std::uint64_t epoch = 1) {
    wire::Stop message;
    for (const auto number : numbers) {
      message.add_attempts()->set_epoch(epoch);
      message.mutable_attempts(message.attempts_size() - 1)->set_number(number);
    }
    return ask(iq(worker(), "stop", message));
  }
  bool results_are(std::size_t count, std::chrono::milliseconds patience = 10s) {
    return until([&] { return results.size() >= count; }, patience);
  }

 private:
  boost::asio::io_context& loop_;

 public:
  XmppLink link;
  std::map<std::string, Occupant> occupants;             // by nick; without ourselves
  std::map<std::uint64_t, wire::AttemptResult> results;  // by attempt number; streams put together
  std::vector<std::uint64_t> returned;
  std::vector<wire::Lease> leases;
  int reports = 0;
  bool answers = true;  // to reports
  wire::Report last_report;
  std::function<wire::ReportAnswer()> answer_report = [] { return wire::ReportAnswer(); };
  std::function<std::string()> refuse_lease = [] { return std::string(); };  // with which condition; empty: it is taken
  std::function<void(const gloox::Tag&)> on_presence = [](const gloox::Tag&) {};

 private:
  void take_presence(const gloox::Tag& presence) {
    on_presence(presence);
    const std::string from = presence.findAttribute("from");
    if (bare(from) != kRoom || presence.findAttribute("to") != kManager) return;
    const std::string nick = resource_of(from), type = presence.findAttribute("type");
    EXPECT_NE(type, "error") << presence.xml();
    if (nick == "manager") {
      inside_ = type.empty();
      return;
    }
    if (type == "unavailable") {
      occupants.erase(nick);
      return;
    }
    Occupant& occupant = occupants[nick];
    if (const auto* x = presence.findChild("x", "xmlns", ns::muc_user))
      if (const auto* item = x->findChild("item")) occupant.jid = item->findAttribute("jid");
    const auto* show = presence.findChild("show");
    const auto* status = presence.findChild("status");
    const auto* caps = presence.findChild("c", "xmlns", ns::caps);
    occupant.show = show ? show->cdata() : "";
    occupant.status = status ? status->cdata() : "";
    occupant.hash = caps ? caps->findAttribute("ver") : "";
  }
  void take_report(const gloox::Tag& iq, const gloox::Tag& payload) {
    ++reports;
    wire::Report report;
    ASSERT_TRUE(decode(payload.cdata(), payload.findAttribute("encoding") == "zlib", report));
    EXPECT_LE(report.ByteSizeLong(), kStanzaMax);
    if (!answers) return;
    for (const auto& piece : report.pieces()) {
      std::string& stream = pieces_[{piece.attempt().number(), piece.err()}];
      if (piece.offset() == 0) stream.clear();
      EXPECT_EQ(piece.offset(), stream.size());
      stream += piece.data();
    }
    for (const auto& result : report.results()) {
      auto& kept = results[result.attempt().number()] = result;
      if (result.out_in_pieces()) kept.mutable_outcome()->set_out(pieces_[{result.attempt().number(), false}]);
      if (result.err_in_pieces()) kept.mutable_outcome()->set_err(pieces_[{result.attempt().number(), true}]);
    }
    for (const auto& attempt : report.returned()) returned.push_back(attempt.number());
    last_report = report;
    auto answer = result_of(iq);
    add_payload(*answer, "report", ns::task, answer_report());
    link.send(std::move(answer));
  }

  bool up_ = false, inside_ = false;
  std::map<std::pair<std::uint64_t, bool>, std::string> pieces_;
  std::vector<Registration> seats_;
};

/// The program souk-worker, as a child of the test.
class WorkerProgram {
 public:
  WorkerProgram(boost::asio::io_context& loop, std::vector<std::string> arguments, const std::filesystem::path& log, const std::string& program = SOUK_WORKER)
      : loop_(loop), log_(log), end_(loop) {
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, (log.string() + ".out").c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    posix_spawn_file_actions_addopen(&actions, 2, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
    arguments.insert(arguments.begin(), "souk-worker");
    std::vector<char*> argv;
    for (auto& argument : arguments) argv.push_back(argument.data());
    argv.push_back(nullptr);
    EXPECT_EQ(posix_spawn(&pid_, program.c_str(), &actions, nullptr, argv.data(), environ), 0);
    posix_spawn_file_actions_destroy(&actions);
    end_.assign(static_cast<int>(::syscall(SYS_pidfd_open, pid_, 0)));
    end_.async_wait(boost::asio::posix::stream_descriptor::wait_read, [this](auto error) { ended_ = !error; });
  }
  ~WorkerProgram() {
    if (reaped_) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  WorkerProgram(const WorkerProgram&) = delete;

  void signal(int number) { ::kill(pid_, number); }
  /// Its exit code, or 128 + signal; -1 when it does not end.
  int exit_code(std::chrono::milliseconds patience = 10s) {
    if (!run_until(loop_, [this] { return ended_; }, patience)) return -1;
    int status = 0;
    ::waitpid(pid_, &status, 0);
    reaped_ = true;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }
  bool alive() const { return !ended_; }
  std::string log() const {
    std::ifstream file(log_);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
  }
  pid_t pid() const { return pid_; }

 private:
  boost::asio::io_context& loop_;
  std::filesystem::path log_;
  boost::asio::posix::stream_descriptor end_;
  pid_t pid_ = -1;
  bool ended_ = false, reaped_ = false;
};

/// Server, manager and a folder with a worker's profile.
class Market {
 public:
  /// As the embedded grid has it: only the manager makes rooms.
  static Prosody::Options managed() {
    Prosody::Options options;
    options.muc = "";
    options.more_hosts = "Component 'rooms.souk.localhost' 'muc'\n  restrict_room_creation = true\n  admins = { 'manager@grid.souk.localhost' }\n";
    return options;
  }
  explicit Market(Prosody::Options options = managed()) : prosody(std::move(options)), manager(loop, prosody.component_account()) {
    write_profile();
  }
  void write_profile(const std::string& password = "worker-pw", const std::string& more = "") {
    std::ofstream(folder.path() / "worker.password") << password << "\n";
    std::filesystem::permissions(folder.path() / "worker.password", std::filesystem::perms::owner_read | std::filesystem::perms::owner_write);
    std::ofstream(folder.path() / "worker.toml") << "jid = \"worker@souk.localhost\"\npassword_file = \"worker.password\"\nhost = \"127.0.0.1\"\nport = " << prosody.c2s_port()
                                                 << "\nmanager = \"" << kManager << "\"\nroom = \"" << kRoom << "\"\n" << more;
  }
  /// Starts a worker with a folder and a log of its own.
  std::unique_ptr<WorkerProgram> worker(const std::string& name = "anvil", int slots = 2, std::vector<std::string> more = {}, const std::string& program = SOUK_WORKER) {
    const std::string life = name + "-" + std::to_string(++lives_);
    std::vector<std::string> arguments = {"--profile", (folder.path() / "worker.toml").string(), "--slots", std::to_string(slots), "--name", name, "--log-level", "debug"};
    if (std::find(more.begin(), more.end(), "--work") == more.end()) arguments.insert(arguments.end(), {"--work", (folder.path() / life).string()});
    if (std::find(more.begin(), more.end(), "--sandbox") == more.end()) arguments.insert(arguments.end(), {"--sandbox", "none"});  // this manager says of no job whose it is
    arguments.insert(arguments.end(), more.begin(), more.end());
    return std::make_unique<WorkerProgram>(loop, arguments, folder.path() / (life + ".log"), program);
  }

  boost::asio::io_context loop;
  Prosody prosody;
  TemporaryFolder folder;
  ScriptedManager manager;

 private:
  int lives_ = 0;
};

}  // namespace souk::test
