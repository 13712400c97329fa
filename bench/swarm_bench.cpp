// Many workers come back after their server died. Each is a whole worker but for its runners: the session, room and agent of souk-worker, in one process
// and on one loop, against a real server and a real manager.
//   swarm_bench 300              prints how long they take to come, and to come back after kill -9 of the server, and of the manager
//   swarm_bench 300 hosted       the same with a room of the server's room service; else the manager serves it
//   swarm_bench 300 served gc    with Prosody's generational collection of garbage
#include <fcntl.h>
#include <signal.h>
#include <spdlog/sinks/ostream_sink.h>
#include <spdlog/spdlog.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/io_context.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <sstream>

#include "tests/system/prosody.h"
#include "worker/session.h"

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

namespace {

double cpu_seconds(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/stat");
  std::string word;
  double ticks = 0;
  for (int field = 1; field <= 15 && file >> word; ++field)
    if (field >= 14) ticks += std::atof(word.c_str());
  return ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

std::string peak_memory(pid_t pid) {
  std::ifstream file("/proc/" + std::to_string(pid) + "/status");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("VmHWM")) return line.substr(line.find_first_of("0123456789"));
  return "?";
}

int count(const std::string& text, const std::string& what) {
  int found = 0;
  for (auto at = text.find(what); at != text.npos; at = text.find(what, at + what.size())) ++found;
  return found;
}

/// The most lines with `what` in one second of the log; its lines begin `Nov 23 08:47:01 `.
int peak(const std::string& log, const std::string& what) {
  std::map<std::string, int> seconds;
  std::istringstream lines(log);
  for (std::string line; std::getline(lines, line);)
    if (line.find(what) != line.npos) ++seconds[line.substr(0, 15)];
  int most = 0;
  for (const auto& [second, times] : seconds) most = std::max(most, times);
  return most;
}

pid_t start_manager(const souk::test::Prosody& server, const std::filesystem::path& folder, const std::string& room) {
  std::ofstream(folder / "secret") << server.options().secret;
  ::chmod((folder / "secret").c_str(), 0600);
  std::ofstream(folder / "manager.toml") << "jid = \"grid.souk.localhost\"\npassword_file = \"secret\"\ncomponent = true\nhost = \"127.0.0.1\"\nport = " << server.component_port()
                                         << "\nmanager = \"manager@grid.souk.localhost/souk\"\nroom = \"" << room << "\"\n";
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int log = ::open((folder / "manager.log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  ::dup2(log, 2);
  const std::string profile = (folder / "manager.toml").string(), state = (folder / "store").string();
  ::execl(SOUK_MANAGER, "souk-manager", "--profile", profile.c_str(), "--state", state.c_str(), "--allow-worker", "swarm.localhost", static_cast<char*>(nullptr));
  ::_exit(127);
}

}  // namespace

int main(int argc, char** argv) {
  const int workers = argc > 1 ? std::atoi(argv[1]) : 300;
  const bool hosted = argc > 2 && std::string(argv[2]) == "hosted", generational = argc > 3 && std::string(argv[3]) == "gc";
  const std::string room = hosted ? "market@rooms.souk.localhost" : "market@grid.souk.localhost";
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &files);
  auto log = std::make_shared<std::ostringstream>();
  spdlog::set_default_logger(std::make_shared<spdlog::logger>("swarm", std::make_shared<spdlog::sinks::ostream_sink_st>(*log)));

  souk::test::Prosody::Options options;
  options.more = "c2s_stanza_size_limit = 1048576; component_stanza_size_limit = 1048576";
  if (generational) options.more += "; gc = { mode = \"generational\" }";
  // A thousand password checks in this one process would be what is measured; a server that keeps hashed passwords does little for each.
  options.more_hosts = "VirtualHost 'swarm.localhost'\n  authentication = 'anonymous'\n";
  souk::test::Prosody server(options);
  souk::test::TemporaryFolder folder;
  pid_t manager = start_manager(server, folder.path(), room);
  boost::asio::io_context loop(1);
  std::vector<std::unique_ptr<souk::worker::Session>> swarm;
  for (int i = 1; i <= workers; ++i) {
    souk::worker::Session::Setup setup;
    setup.profile.account = server.account("worker");
    setup.profile.account.jid = "swarm.localhost", setup.profile.account.password.clear();
    setup.profile.manager = "manager@grid.souk.localhost/souk", setup.profile.room = room;
    setup.nick = "w" + std::to_string(i);
    setup.offer.slots = setup.offer.cpus = 1, setup.offer.hostname = "bench";
    souk::worker::Session::Slots slots;
    slots.start = [](int, souk::worker::Assignment, souk::worker::Granted, std::function<void(souk::Outcome)>) {};
    slots.stop = slots.pause = slots.resume = [](int) {};
    swarm.push_back(std::make_unique<souk::worker::Session>(loop, std::move(setup), std::move(slots)));
  }
  const auto until = [&](const std::function<bool(const souk::worker::Session&)>& holds, const char* what) {
    const auto began = Clock::now();
    int last = -1;
    for (auto told = began;;) {
      loop.restart();
      loop.run_for(20ms);
      const int there = static_cast<int>(std::count_if(swarm.begin(), swarm.end(), [&](const auto& one) { return holds(*one); }));
      const auto now = Clock::now();
      if (there != last && now - told > 5s) std::fprintf(stderr, "  %d of %d %s\n", last = there, workers, what), told = now;
      if (there == workers) return std::chrono::duration<double>(now - began).count();
      if (now - began > 15min) {
        std::printf("gave up: %d of %d %s after 15 min\n", there, workers, what);
        std::exit(1);
      }
    }
  };
  const auto greeted = [](const souk::worker::Session& one) { return one.room().inside() && one.agent().greeted(); };
  for (auto& one : swarm) {
    one->start();
    loop.restart();
    loop.run_for(5ms);
  }
  const double come = until(greeted, "greeted");
  std::printf("%d workers: all greeted %.1f s after the last was started; server %.1f s of cpu, manager %.1f s, %s\n", workers, come, cpu_seconds(server.pid()), cpu_seconds(manager), peak_memory(manager).c_str());
  std::fflush(stdout);
  const double manager_before = cpu_seconds(manager);
  const auto log_before = server.log().size();
  log->str("");
  server.kill();
  until([](const souk::worker::Session& one) { return !one.room().inside(); }, "lost");
  server.start();
  const auto restarted = Clock::now();
  until([](const souk::worker::Session& one) { return one.room().inside(); }, "in the room");
  const double inside = std::chrono::duration<double>(Clock::now() - restarted).count();
  until(greeted, "greeted");
  const double back = std::chrono::duration<double>(Clock::now() - restarted).count();
  const std::string said = server.log().substr(std::min(log_before, server.log().size()));
  std::printf("after kill -9 of the server: all in the room %.1f s after it was started again, all greeted %.1f s; server %.1f s of cpu, manager %.1f s, %s\n", inside, back, cpu_seconds(server.pid()),
              cpu_seconds(manager) - manager_before, peak_memory(manager).c_str());
  const int connects = count(said, "Client connected");
  std::printf("connects: %d, at most %d in a second; logins not done in time: %d; joins asked again: %d\n", connects, peak(said, "Client connected"), count(log->str(), "no login within"),
              count(log->str(), "its server does not answer"));
  std::fflush(stdout);

  // The manager alone: nobody has to log in, so this is what it costs to come in and be greeted.
  const auto joined = [&] {
    std::ifstream file(folder.path() / "manager.log");
    return count({std::istreambuf_iterator<char>(file), {}}, "worker joined");
  };
  const double server_before = cpu_seconds(server.pid());
  const int joined_before = joined();
  ::kill(manager, SIGKILL);
  ::waitpid(manager, nullptr, 0);
  manager = start_manager(server, folder.path(), room);
  const auto again = Clock::now();
  while (joined() < joined_before + workers && Clock::now() - again < 3min) {
    loop.restart();
    loop.run_for(50ms);
  }
  std::printf("after kill -9 of the manager: %d greeted %.1f s after it was started again; server %.2f s of cpu, manager %.2f s; server %s\n", joined() - joined_before,
              std::chrono::duration<double>(Clock::now() - again).count(), cpu_seconds(server.pid()) - server_before, cpu_seconds(manager), peak_memory(server.pid()).c_str());
  ::kill(manager, SIGTERM);
  ::waitpid(manager, nullptr, 0);
  return connects <= workers * 3 ? 0 : 1;  // 1: they come again and again
}
