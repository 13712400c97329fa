#include "worker/join.h"

#include <fcntl.h>
#include <gloox/tag.h>
#include <spawn.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <cctype>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>
#include <thread>

#include "protocol/invitation.h"
#include "protocol/proxy.h"
#include "protocol/quoting.h"
#include "protocol/stanza.h"
#include "protocol/xmpp_link.h"
#include "worker/home.h"
#include "worker/probe.h"
#include "worker/sandbox.h"

extern char** environ;

namespace souk::worker {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;

constexpr int kUsage = 2, kFailed = 3;  // as souk-worker's
constexpr auto kSettles = 1s;               // after which a service that cannot start has ended
constexpr const char* kUnitHead = "# Written by `souk-worker join`.\n";

struct Options {
  std::string link, folder, host, ca_file, proxy;
  std::uint16_t port = 5222;
  bool install = false, no_start = false;
  std::vector<std::string> words;  // for the worker
};

int failed(const Error& error, int code = kFailed) {
  std::fprintf(stderr, "souk-worker join: %s\n", printable(error.text()).c_str());
  return code;
}

/// A file only its owner reads, in one step.
Result<Done> write_private(const fs::path& file, const std::string& text) {
  const std::string fresh = file.string() + ".new";
  const auto bad = [&] {
    const Error error{"cannot write " + file.string(), std::strerror(errno), "choose another folder: --dir FOLDER"};
    ::unlink(fresh.c_str());
    return error;
  };
  const int out = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (out < 0) return bad();
  std::size_t at = 0;
  while (at < text.size()) {
    const auto wrote = ::write(out, text.data() + at, text.size() - at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) break;
    at += static_cast<std::size_t>(wrote);
  }
  const bool whole = at == text.size() && ::fchmod(out, 0600) == 0 && ::fsync(out) == 0;
  if (::close(out) != 0 || !whole || ::rename(fresh.c_str(), file.c_str()) != 0) return bad();
  return Done{};
}

/// Made for its owner alone. One that was there stays as it is: what is written into it is private by itself, as long as nobody else can take it away.
Result<Done> private_folder(const fs::path& folder) {
  std::error_code ignored;
  fs::create_directories(folder.parent_path(), ignored);
  if (::mkdir(folder.c_str(), 0700) != 0 && errno != EEXIST) return Error{"cannot make the folder " + folder.string(), std::strerror(errno), "choose another one: --dir FOLDER"};
  struct stat status{};
  if (::lstat(folder.c_str(), &status) != 0 || !S_ISDIR(status.st_mode) || status.st_uid != ::geteuid()) return Error{"cannot use " + folder.string(), "it is no folder of yours", "choose another one: --dir FOLDER"};
  if ((status.st_mode & 022) != 0) return Error{"cannot use " + folder.string(), "others may write into it", "choose another one: --dir FOLDER; or chmod go-w " + folder.string()};
  if (::access(folder.c_str(), W_OK) != 0) return Error{"cannot use " + folder.string(), std::strerror(errno), "choose another one: --dir FOLDER"};
  return Done{};
}

Result<fs::path> config_folder() {
  if (auto folder = below_home("XDG_CONFIG_HOME", ".config")) return *folder;
  return Error{"no folder for the account", "HOME names none", "choose one: --dir FOLDER"};
}

Result<Credentials> redeem(const InvitationLink& link, const Options& options) {
  Account account;
  account.jid = link.account();
  account.password = link.secret;
  account.host = options.host, account.port = options.port, account.ca_file = options.ca_file, account.proxy = options.proxy;
  boost::asio::io_context loop(1);
  XmppLink xmpp(loop, account, XmppLink::Limits{.attempts_max = 1});
  std::optional<Error> down;
  std::optional<Result<Credentials>> made;
  xmpp.on_down = [&](const Error& why, bool) {
    down = why.why.starts_with("wrong user name or password") ? Error{"the invitation is not good", "the server does not know it (any more): it was used up, revoked, or has expired", "ask whoever sent it for another one"} : why;
  };
  const auto answered = [&](const Answer& answer) -> Result<Credentials> {
    const Error bad{"cannot join", "", ""};
    if (!answer) return Error{bad.what, "the manager does not answer (" + answer.error.condition + ")", "it may be away just now: try again; the invitation is still good"};
    const gloox::Tag* command = answer.iq->findChild("command");
    if (command == nullptr) return Error{bad.what, "the manager's answer cannot be read", "is it of another version?"};
    if (const gloox::Tag* note = command->findChild("note"); note != nullptr && note->findAttribute("type") == "error") return Error{bad.what, note->cdata(), ""};
    const auto form = form_in(*command);
    if (!form) return form.error();
    return credentials_in(form.value(), link, "worker");
  };
  xmpp.on_up = [&] {
    auto iq = element("iq", {}, {{"type", "set"}, {"to", link.manager}});
    auto& command = child(*iq, "command", ns::commands, {{"node", "join"}, {"action", "execute"}});
    Form form;
    form.type = "submit";
    form.add("name", "text-single", "", {"worker"});
    add_form(command, form);
    xmpp.request(std::move(iq), 30s, [&](const Answer& answer) { made = answered(answer); });
  };
  xmpp.start();
  const auto work = boost::asio::make_work_guard(loop);
  const auto until = Clock::now() + 60s;
  while (!made && !down && Clock::now() < until) loop.run_one_until(until);
  xmpp.on_up = [] {};
  xmpp.on_down = [](const Error&, bool) {};
  if (!made) return down ? *down : Error{"cannot join", "no answer within a minute", "try again; the invitation is still good"};
  bool gone = false;
  xmpp.stop([&] { gone = true; });
  const auto goodbye = Clock::now() + 200ms;
  while (!gone && Clock::now() < goodbye) loop.run_one_until(goodbye);
  return *made;
}

bool run(const std::vector<std::string>& words) {
  std::vector<char*> argv;
  for (const auto& word : words) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  pid_t pid = 0;
  if (::posix_spawnp(&pid, argv[0], nullptr, nullptr, argv.data(), environ) != 0) return false;
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {}
  return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

fs::path self() {
  std::error_code ignored;
  return fs::read_symlink("/proc/self/exe", ignored);
}

/// Tries one, as the worker will at each start. What it needs for that goes into `folder` and is removed.
void tell_sandbox(const fs::path& folder) {
  const fs::path trial = folder / "sandbox-trial";
  std::error_code ignored;
  fs::create_directory(trial, ignored);
  if (const auto found = Sandbox::find({self().parent_path() / "souk-runner", trial, {}, ""}))
    std::printf("Sandbox: %s. Tasks of others run in it (docs/VOLUNTEERS.md)\n", found.value().note().c_str());
  else
    std::printf("No sandbox works here, so tasks of others are refused: %s%s%s\n", printable(found.error().why).c_str(), found.error().remedy.empty() ? "" : "; ", found.error().remedy.c_str());
  fs::remove_all(trial, ignored);
}

/// One for each grid. domain: as the folder of its account is called, which is a name of a file
std::string unit_name(const std::string& domain) {
  std::string name = "souk-worker-";
  for (const char c : domain) name += std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '-' || c == '_' ? c : '_';
  return name + ".service";
}

/// Why that unit is not ours to write over: it is another worker's, or somebody wrote it.
std::optional<Error> in_the_way(const fs::path& unit, const fs::path& profile) {
  std::ifstream in(unit);
  if (!in) return std::nullopt;
  const std::string text{std::istreambuf_iterator<char>(in), {}};
  if (text.starts_with(kUnitHead) && text.find(unit_word("--profile") + " " + unit_word(profile.string())) != text.npos) return std::nullopt;
  return Error{"nothing was installed", unit.string() + " is there already, and starts something else", "move it away, or join without --install and start the worker in another way"};
}

Result<fs::path> unit_of(const std::string& domain) {
  const auto base = config_folder();
  if (!base) return base.error();
  return base.value() / "systemd" / "user" / unit_name(domain);
}

int install(const std::vector<std::string>& command, const fs::path& unit, const std::string& domain, const fs::path& profile) {
  const std::string name = unit.filename().string();
  if (const auto other = in_the_way(unit, profile)) return failed(*other);
  std::string line;
  for (const auto& word : command) line += (line.empty() ? "" : " ") + unit_word(word);
  std::error_code ignored;
  fs::create_directories(unit.parent_path(), ignored);
  // Folders and files that the options name are meant from here. One that is gone by then is no error of its own.
  std::string where = command.size() > 3 ? fs::current_path(ignored).string() : std::string();
  if (std::any_of(where.begin(), where.end(), [](unsigned char c) { return c < ' '; })) where.clear();
  for (std::size_t at = 0; (at = where.find('%', at)) != where.npos; at += 2) where.insert(at, "%");
  if (!where.empty()) where = "\nWorkingDirectory=-" + where;
  // An account that was taken away does not come back by trying (exit code 3), nor does a wrong option (2).
  if (const auto done = write_private(unit, std::string(kUnitHead) + "[Unit]\nDescription=Works for the Souk grid " + printable(domain) + "\n\n[Service]\nExecStart=" + line +
                                                where + "\nRestart=on-failure\nRestartSec=5\nRestartPreventExitStatus=2 3\nDelegate=yes\nKillMode=mixed\nTimeoutStopSec=30\n\n[Install]\nWantedBy=default.target\n"); !done)
    return failed(done.error());
  std::printf("Wrote %s\n", unit.c_str());
  std::fflush(stdout);
  // Not `enable --now`: one of an earlier time that runs would go on as it was.
  if (!run({"systemctl", "--user", "daemon-reload"}) || !run({"systemctl", "--user", "enable", name}) || !run({"systemctl", "--user", "restart", name})) {
    // After su or sudo there is no session; whom systemd starts things for without one, root says.
    std::printf("systemd did not start it. Where you did not log in yourself (su, sudo), first: sudo loginctl enable-linger %u; export XDG_RUNTIME_DIR=/run/user/%u\n"
                "Then: systemctl --user daemon-reload; systemctl --user enable --now %s\n",
                ::getuid(), ::getuid(), name.c_str());
    return kFailed;
  }
  std::this_thread::sleep_for(kSettles);
  if (!run({"systemctl", "--user", "--quiet", "is-active", name})) {
    std::printf("systemd started it, and it does not run: journalctl --user -u %s says why. Later: systemctl --user restart %s\n", name.c_str(), name.c_str());
    return kFailed;
  }
  std::printf("It works now, and whenever you are logged in; also when you are not: sudo loginctl enable-linger %u\nTo stop it: systemctl --user disable --now %s\n", ::getuid(), name.c_str());
  return 0;
}

int join(const Options& options) {
  const auto link = parse_invitation(options.link);
  if (!link) return failed(link.error(), kUsage);
  if (!options.proxy.empty())
    if (const auto proxy = parse_proxy(options.proxy); !proxy) return failed(proxy.error(), kUsage);
  fs::path folder = options.folder;
  if (folder.empty()) {
    const auto base = config_folder();
    if (!base) return failed(base.error());
    if (const auto made = private_folder(base.value() / "souk"); !made) return failed(made.error());
    folder = base.value() / "souk" / ("worker-" + link.value().domain);
  }
  folder = fs::absolute(folder);
  std::error_code ignored;
  const fs::path profile = folder / "worker.toml";
  const bool joined = fs::exists(profile, ignored);
  if (joined && !options.install)
    return failed({"nothing was done", "this machine joined " + link.value().domain + " already",
                   "start it: souk-worker --profile " + shell_word(profile.string()) + "; as a service of yours: this command with --install; or join anew after removing " + folder.string()},
                  kUsage);
  // Before a use of the invitation is spent.
  const auto unit = unit_of(link.value().domain);
  if (options.install) {
    if (!unit) return failed(unit.error());
    if (const auto other = in_the_way(unit.value(), profile)) return failed(*other);
  }
  if (!options.words.empty()) {
    std::vector<std::string> trial{self().string(), "--profile", profile.string(), "--only-options"};
    trial.insert(trial.end(), options.words.begin(), options.words.end());
    if (!run(trial)) return failed({"nothing was done", "the worker's options behind -- are not good, as it says above", "souk-worker --help has them; the invitation is still good"}, kUsage);
  }
  std::vector<std::string> command{self().string(), "--profile", profile.string()};
  command.insert(command.end(), options.words.begin(), options.words.end());
  // Who said no to the service, or had no session for one, needs no other invitation for it.
  if (joined) return install(command, unit.value(), link.value().domain, profile);
  if (const auto made = private_folder(folder); !made) return failed(made.error());

  ProbeOptions probing;
  probing.work = folder;
  const Offer offer = probe(probing);
  std::printf("This machine: %d processors (%s), %.1f GiB memory, speed %.1f (1.0: a cloud processor of 2022)\n", offer.cpus, printable(offer.cpu_model).c_str(), static_cast<double>(offer.memory_bytes) / (1ull << 30), offer.speed);
  tell_sandbox(folder);
  std::fflush(stdout);

  if (!options.ca_file.empty()) {
    std::error_code failure;
    fs::copy_file(options.ca_file, folder / "ca.pem", fs::copy_options::overwrite_existing, failure);
    if (failure) return failed({"cannot copy " + options.ca_file, failure.message(), ""});
  }
  const auto credentials = redeem(link.value(), options);
  if (!credentials) return failed(credentials.error());
  std::string text = "# A worker, written by `souk-worker join`.\njid = " + toml_string(credentials.value().jid) + "\npassword_file = \"worker.password\"\n";
  if (!options.host.empty()) text += "host = " + toml_string(options.host) + "\n";
  text += "port = " + std::to_string(options.port) + "\n";
  if (!options.ca_file.empty()) text += "ca_file = \"ca.pem\"\n";
  if (!options.proxy.empty()) text += "proxy = " + toml_string(options.proxy) + "\n";
  text += "manager = " + toml_string(credentials.value().manager) + "\nroom = " + toml_string(credentials.value().room) + "\n";
  if (const auto done = write_private(folder / "worker.password", credentials.value().password + "\n"); !done) return failed(done.error());
  if (const auto done = write_private(profile, text); !done) return failed(done.error());
  std::printf("Joined %s as %s; the account is in %s\n", link.value().domain.c_str(), credentials.value().jid.c_str(), folder.c_str());

  bool installs = options.install;
  if (!installs && !options.no_start && ::isatty(STDIN_FILENO) == 1 && ::isatty(STDOUT_FILENO) == 1) {
    std::printf("Start it whenever you log in, as a service of yours? [y/N] ");
    std::fflush(stdout);
    std::string answer;
    std::getline(std::cin, answer);
    installs = answer == "y" || answer == "Y" || answer == "yes";
  }
  if (installs) return unit ? install(command, unit.value(), link.value().domain, profile) : failed(unit.error());
  std::string shown;
  for (const auto& word : command) shown += (shown.empty() ? "" : " ") + shell_word(word);
  std::printf("%s: %s\n", options.no_start ? "Start it" : "Working now (Ctrl-C stops it); the next time", shown.c_str());
  std::fflush(stdout);
  if (options.no_start) return 0;
  std::vector<char*> argv;
  for (const auto& word : command) argv.push_back(const_cast<char*>(word.c_str()));
  argv.push_back(nullptr);
  ::execv(argv[0], argv.data());
  return failed({"cannot start " + command[0], std::strerror(errno), ""});
}

}  // namespace

int join_main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  spdlog::set_level(spdlog::level::off);
  Options options;
  CLI::App app{"Joins a grid by an invitation: makes an account, keeps it, and works.", "souk-worker join"};
  app.add_option("link", options.link, "The invitation, in quotes: 'xmpp:DOMAIN?register;preauth=...'")->required()->type_name("");
  app.add_option("--dir", options.folder, "Where the account is kept (default: ~/.config/souk/worker-DOMAIN)")->type_name("FOLDER");
  app.add_option("--host", options.host, "Where the server is (default: the domain)")->type_name("HOST")->check([](const std::string& text) {
    return text.find_first_of("\"\\\r\n\t ") == std::string::npos ? std::string() : std::string("that is no name of a host");
  });
  app.add_option("--port", options.port, "And its port")->check(CLI::Range(1, 65535))->capture_default_str();
  app.add_option("--ca-file", options.ca_file, "Authorities to trust instead of the system's, PEM; a copy is kept")->check(CLI::ExistingFile)->type_name("FILE");
  app.add_option("--proxy", options.proxy, "Go through a proxy: http://HOST:PORT or socks5://HOST:PORT")->type_name("URL");
  app.add_flag("--install", options.install, "Start it as a service of yours (systemd --user), now and whenever you log in; asked for on a terminal");
  app.add_flag("--no-start", options.no_start, "Only make the account");
  app.add_option("words", options.words, "Options of the worker, behind --")->type_name("");
  app.footer(
      "Examples:\n  souk-worker join 'xmpp:grid.example.edu?register;preauth=...'\n  souk-worker join 'xmpp:...' --install -- --slots 2 --only-idle 10m\n"
      "Measures the machine (15 ms), tries the sandbox, and says what it found; `speed` goes into the worker's offer. To leave: stop the worker and remove the folder.\nExit code: 0 joined, 2 usage, 3 it did not work.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  try {
    return join(options);
  } catch (const std::exception& error) {
    return failed({"cannot join", error.what(), ""});
  }
}

}  // namespace souk::worker
