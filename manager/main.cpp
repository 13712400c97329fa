// souk-manager: options in, parts connected, one thread of XMPP.
#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <optional>

#include "manager/audit.h"
#include "manager/check.h"
#include "manager/commands.h"
#include "manager/grid.h"
#include "manager/hosted_room.h"
#include "manager/invitations.h"
#include "manager/journal.h"
#include "manager/restoration.h"
#include "manager/served_room.h"
#include "protocol/disco.h"
#include "protocol/heap.h"
#include "protocol/log_format.h"
#include "protocol/notation.h"
#include "protocol/profile.h"
#include "protocol/standard_streams.h"
#include "protocol/stanza.h"
#include "protocol/xmpp_link.h"

namespace {

constexpr auto kConflictMax = std::chrono::seconds(30);  // another program is connected as this component: longer than any that is being restarted
constexpr auto kLookEvery = std::chrono::seconds(1);      // at the policy file
constexpr int kUsage = 2, kUnreachable = 3, kReplaced = 4, kAgain = -1;  // exit codes (README); the last: serve once more

int fail(const souk::Error& error, int code) {
  std::cerr << "souk-manager: " << error.text() << '\n';
  return code;
}

/// 0: nothing wrong, 1: something is, 2: it could not be looked at.
int check(const std::filesystem::path& folder, bool json) {
  const auto report = souk::check_store(folder / "grid.sqlite");
  if (!report) return fail(report.error(), kUsage);
  std::cout << (json ? json_of(report.value()) + "\n" : text_of(report.value())) << std::flush;
  return report.value().findings.empty() ? 0 : 1;
}

/// The room lies on the component's own domain, so the manager is the room. Else somebody's room service has it.
bool serves_room(const souk::Profile& profile) { return profile.account.component && souk::domain_of(profile.room) == souk::domain_of(profile.account.jid); }

/// One line for whoever started us and waits (souk up).
void notify(int fd, const char* line) {
  if (fd >= 0 && ::write(fd, line, std::char_traits<char>::length(line)) < 0) spdlog::debug("nobody reads our notices");
}

/// Who may do what, as the command line says it.
struct Granted {
  std::string policy;  // file; empty: none
  std::vector<std::string> admins, users, workers;
};

/// The file as it is now, with what the command line grants; `own` are people and workers where neither names any.
souk::Result<souk::Policy> policy_of(const Granted& granted, const std::string& own) {
  souk::Policy policy;
  if (!granted.policy.empty()) {
    std::ifstream file(granted.policy, std::ios::binary);
    std::string text;
    for (char block[65536]; text.size() <= souk::Policy::kFileMax && (file.read(block, sizeof block) || file.gcount() > 0);) text.append(block, static_cast<std::size_t>(file.gcount()));
    if (!file.eof() && text.size() <= souk::Policy::kFileMax) return souk::Error{"cannot read the policy " + granted.policy, std::strerror(errno), "check the path given to --policy"};
    auto read = souk::Policy::parse(text, granted.policy);
    if (!read) return read;
    policy = std::move(read.value());
  }
  const auto grant = [&](souk::Role role, std::vector<std::string> who, const std::string& option) -> souk::Result<souk::Done> {
    if (who.empty() && !own.empty() && role != souk::Role::admin && granted.policy.empty()) who = {own};
    for (const std::string& one : who)
      if (const auto good = policy.grant(role, one, option); !good) return good;
    return souk::Done{};
  };
  for (const auto& done : {grant(souk::Role::admin, granted.admins, "--admin"), grant(souk::Role::submitter, granted.users, "--allow"), grant(souk::Role::worker, granted.workers, "--allow-worker")})
    if (!done) return done.error();
  return policy;
}

/// When the policy file was written last, and how large it is.
using Version = std::pair<std::filesystem::file_time_type, std::uintmax_t>;
Version version_of(const std::string& file) {
  std::error_code failed;
  const auto written = std::filesystem::last_write_time(file, failed);
  return {written, std::filesystem::file_size(file, failed)};
}

int serve(const souk::Profile& profile, const std::filesystem::path& state, const Granted& granted, souk::Limits limits, souk::Scheduler::Rules rules, const std::string& keep, bool put_back, int notify_fd) {
  boost::asio::io_context loop(1);
  std::error_code failed;
  std::filesystem::create_directories(state, failed);
  souk::Journal::Restored restored;
  auto journal = souk::Journal::open(state / "grid.sqlite", loop, restored);
  if (!journal) return fail(journal.error(), 1);

  rules.lost = souk::Lacks(restored.facts).epochs();

  const std::string domain = souk::domain_of(profile.account.jid);
  // A component's people live on its parent domain: grid.example.edu serves example.edu.
  const std::string own = profile.account.component && domain.find('.') != domain.npos ? domain.substr(domain.find('.') + 1) : domain;
  Version policy_version = version_of(granted.policy);
  auto first = policy_of(granted, own);
  if (!first) return fail(first.error(), kUsage);
  souk::Rulebook rulebook(std::move(first.value()));
  souk::Audit audit(state);
  audit.did("start", profile.manager, {{"version", SOUK_VERSION}, {"epoch", std::to_string(restored.epoch.value)}, {"policy", granted.policy}});

  // All wait for the one manager, so it does not hang back.
  souk::XmppLink link(loop, profile.account, {.retry_min = std::chrono::milliseconds(100), .retry_max = std::chrono::milliseconds(2000)});
  souk::Disco disco(link);
  // Whoever has an account and nothing else finds the grid by this (docs/PROTOCOL.md §4.2).
  souk::Form where;
  where.type = "result";
  where.add("FORM_TYPE", "hidden", "", {souk::ns::grid}).add("manager", "jid-single", "", {profile.manager}).add("room", "jid-single", "", {profile.room});
  disco.set_info("", {{{"automation", "command-list", "", "Souk grid"}, {"client", "bot", "", "souk-manager"}}, {souk::ns::commands, souk::ns::form, souk::ns::job, souk::ns::grid}, {where}});
  const souk::MemoryShares memory(limits.memory_max());
  const std::map<std::string, std::uint64_t> facts = restored.facts;
  souk::Grid grid(loop, link, std::move(journal.value()), std::move(restored), rules, rulebook, audit, std::move(limits));
  if (keep != "forever" && keep != "0") grid.set_keep(souk::parse_duration(keep).value(), keep);
  souk::Commands commands(loop, link, disco, grid, {rulebook, audit, profile.room, memory.requests});
  const auto invitations = souk::Invitations::open(loop, link, audit, {state / "invitations.json", own, profile.manager, profile.room, profile.account.component, [&](const std::string& jid) -> std::string {
    if (const std::string by = rulebook.now().named_by(jid); !by.empty()) return "named by " + by;
    return grid.owns_jobs(jid) ? "the owner of jobs" : "";
  }});
  if (!invitations) return fail(invitations.error(), 1);
  commands.elsewhere = [&](const auto& iq, const auto& command, const auto& asker) { return invitations.value()->command(iq, command, asker); };
  if (put_back) grid.set_put_back();
  // A room on the component's own domain is nobody else's to serve.
  std::unique_ptr<souk::Marketplace> market;
  souk::HostedRoom* hosted = nullptr;
  const auto is_admin = [&rulebook](const std::string& jid) { return rulebook.now().decide(souk::bare(jid), souk::Role::admin).allowed; };
  if (serves_room(profile)) {
    auto served = std::make_unique<souk::ServedRoom>(
        loop, link, disco, souk::ServedRoom::Setup{profile.room, profile.manager, is_admin,
                                                    [&rulebook](const std::string& jid) { return rulebook.now().decide(souk::bare(jid), souk::Role::worker).allowed; }, facts});
    served->on_fact = [&grid](const std::string& fact, std::uint64_t value, bool always) { grid.keep_fact(fact, value, always); };
    served->commit = [&grid](std::function<void()> then) { grid.commit(std::move(then)); };
    served->on_drain = [&grid](const std::string& jid, bool drained) { grid.pool().drain(jid, drained); };
    served->on_admin = [&audit, &grid](const std::string& by, const std::string& what, const std::string& whom, bool done) {
      done ? audit.did(what, by, {{"whom", whom}, {"where", "room"}}) : audit.refused(what, by, "of " + whom + ", in the room");
      if (done && what == "ban") grid.banned(whom);
    };
    market = std::move(served);
  } else {
    auto room = std::make_unique<souk::HostedRoom>(loop, link, disco, profile.room, profile.manager, is_admin);
    hosted = room.get();
    market = std::move(room);
  }
  souk::Marketplace& room = *market;
  grid.ban_account = [&room](const std::string& by, const std::string& jid, const std::string& reason, bool lift, auto then) { room.ban(by, jid, reason, lift, std::move(then)); };
  grid.banned_accounts = [&room](auto then) { room.bans(std::move(then)); };
  grid.on_banned = [&invitations](const std::string& jid) { invitations.value()->banned(jid); };

  // The policy file: read again when it changed, or on HUP. One that cannot be used changes nothing.
  const auto read_policy = [&] {
    policy_version = version_of(granted.policy);
    auto read = policy_of(granted, own);
    if (!read) {
      spdlog::error("policy unchanged why=\"{}\"", read.error().text());
      return audit.refused("policy", profile.manager, read.error().text());
    }
    rulebook.replace(std::move(read.value()));
    spdlog::info("policy read file=\"{}\" rules={}", granted.policy, rulebook.now().rules());
    audit.did("policy", profile.manager, {{"file", granted.policy}, {"rules", std::to_string(rulebook.now().rules())}});
    grid.policy_changed();
  };
  boost::asio::steady_timer look(loop);
  std::function<void()> look_later = [&] {
    look.expires_after(kLookEvery);
    look.async_wait([&](auto error) {
      if (error) return;
      if (version_of(granted.policy) != policy_version) read_policy();
      look_later();
    });
  };
  boost::asio::signal_set hang_up(loop);
  std::function<void()> await_hang_up = [&] {
    hang_up.async_wait([&](auto error, int) {
      if (error) return;
      read_policy();
      await_hang_up();
    });
  };
  if (!granted.policy.empty()) {
    hang_up.add(SIGHUP);
    await_hang_up();
    look_later();
  }

  int code = 0;
  bool leaving = false;
  boost::asio::steady_timer patience(loop);
  const auto leave = [&] {
    if (std::exchange(leaving, true)) return loop.stop();
    grid.leaving();
    look.cancel();
    hang_up.cancel();
    room.close();
    grid.commit([&] { link.stop([&] { loop.stop(); }); });
    patience.expires_after(std::chrono::seconds(5));  // a full disk commits nothing; workers keep what was not answered
    patience.async_wait([&](auto error) {
      if (!error) loop.stop();
    });
  };
  room.on_hello = [&](const souk::Occupant& occupant, const gloox::Tag& said, gloox::Tag& answer) { return grid.pool().hello(occupant, said, answer); };
  room.on_present = [&](const souk::Occupant& occupant) { grid.pool().present(occupant); };
  room.on_gone = [&](const std::string& jid) { grid.pool().gone(jid); };
  room.on_open = [&] {
    spdlog::info("market open room={} manager={}", profile.room, profile.manager);
    grid.market_opened();
    notify(notify_fd, "ready\n");
  };
  room.on_trouble = [](const souk::Error& error) { spdlog::warn("market trouble why=\"{}\"", error.text()); };
  // A manager that is out of date ends when another one is in its place; it stays when it is alone, so that people hear from it what to do.
  std::string fenced;
  bool displaced = false;
  std::optional<std::chrono::steady_clock::time_point> conflict_since;
  const auto end_if_replaced = [&] {
    if (leaving || fenced.empty() || !displaced) return;
    code = fail({"another manager took over as " + profile.manager, fenced, "nothing of it is lost: what that one knows counts"}, kReplaced);
    leave();
  };
  grid.on_fenced = [&](const std::string& why) {
    fenced = why;
    notify(notify_fd, "stale\n");
    end_if_replaced();
  };
  grid.on_leap = [&] {
    code = kAgain;
    leave();
  };
  grid.on_trouble = [&](const std::string& why) { room.set_trouble(why); };
  grid.on_worker = [&] { notify(notify_fd, "worker\n"); };
  grid.set_me(profile.manager);
  link.on_up = [&] {
    if (!profile.account.component) {
      grid.set_me(link.jid());
      hosted->set_me(link.jid());
    }
    spdlog::info("connected as={}", link.jid());
    conflict_since.reset();
    invitations.value()->opened();
    room.open();
  };
  link.on_down = [&](const souk::Error& why, bool final) {
    spdlog::warn("disconnected why=\"{}\" final={}", why.text(), final);
    grid.market_closed();
    room.lost();
    if (link.stream_error() == "conflict") {
      displaced = true;
      end_if_replaced();
      const auto now = std::chrono::steady_clock::now();
      if (!conflict_since) conflict_since = now;
      if (!leaving && profile.account.component && now - *conflict_since > kConflictMax) {
        code = fail({"another program is connected as " + profile.account.jid, "it has been for " + std::to_string(kConflictMax.count()) + " s", "stop one of the two: they cannot share a grid"}, kReplaced);
        return leave();
      }
    } else {
      conflict_since.reset();
    }
    if (!final) return;
    code = fail(why, kUnreachable);
    leave();
  };
  boost::asio::signal_set signals(loop, SIGTERM, SIGINT);
  std::function<void()> await_signal = [&] {
    signals.async_wait([&](auto error, int) {
      if (error) return;
      leave();
      await_signal();  // a second one ends it at once
    });
  };
  await_signal();
  link.start();
  loop.run();
  spdlog::info("manager ended");
  return code;
}

}  // namespace

int main(int argc, char** argv) {
  souk::keep_standard_streams();
  souk::keep_freed_memory();
  CLI::App app("Souk's manager: keeps the marketplace, takes jobs, hands tasks to workers.", "souk-manager");
  app.footer("Examples:\n  souk-manager --profile ~/.souk/manager.toml\n  souk-manager --profile manager.toml --allow example.edu --admin ada@example.edu\n"
             "  souk-manager --profile manager.toml --policy policy.toml\n"
             "  souk-manager --audit --since 2h --profile manager.toml    who did what, and what was refused\n"
             "  souk-manager --check --state ~/.souk/manager    is the store whole? (exit code 0: yes, 1: no, 2: it cannot be looked at)\n\n"
             "`souk up` starts one for you, with a private server.\n"
             "Exit codes: 0 stopped, 1 its store fails, 2 wrong usage, 3 the server refuses it, 4 another manager is in its place.");
  app.set_version_flag("--version", "souk-manager " SOUK_VERSION);
  std::string profile_file, state, level = "info", keep = "30d";
  Granted granted;
  std::vector<std::string> shares, most;
  std::string since;
  std::string memory_max;
  souk::Scheduler::Rules rules;
  double lease_s = 30, half_life_s = 3600;
  int notify_fd = -1;
  bool put_back = false;
  app.add_option("--profile", profile_file, "Profile file: account, server, room (docs/ARCHITECTURE.md)");
  app.add_option("--state", state, "Folder of the store (default: `manager` beside the profile)");
  app.add_option("--admin", granted.admins, "JID that sees and cancels everybody's jobs")->allow_extra_args(false);
  app.add_option("--allow", granted.users, "JID or domain that may submit jobs (default: the own domain)")->allow_extra_args(false);
  app.add_option("--allow-worker", granted.workers, "JID or domain whose workers get tasks (default: the own domain)")->allow_extra_args(false);
  auto* policy_option = app.add_option("--policy", granted.policy, "TOML file that says who may do what, and how much of it (docs/OPERATIONS.md); read again on HUP and when it changes. What the options above allow is allowed whatever it says")
      ->type_name("FILE");
  app.add_option("--share", shares, "OWNER=WEIGHT: that JID gets WEIGHT times the share of others (`*`: everybody not named)")->allow_extra_args(false);
  app.add_option("--limit", most, "OWNER:running=N,queued=N: tasks that JID may have at a time, and waiting (`*`: everybody not named; 0: no limit)")->allow_extra_args(false);
  app.add_option("--memory-max", memory_max, "Memory for what others send: jobs not ended, outputs on their way, requests (default: a quarter of the machine's, at most 2GiB)")->type_name("SIZE");
  app.add_option("--lease-s", lease_s, "Seconds of silence after which a worker's tasks go to others")->check(CLI::Range(1.0, 86400.0))->capture_default_str();
  app.add_option("--half-life-s", half_life_s, "Seconds after which what an owner used of the grid counts half, in whose turn it is")->check(CLI::Range(1.0, 86400.0 * 366))->capture_default_str();
  app.add_option("--crash-limit", rules.crash_limit, "Workers a task may take with it before it is given up; a job may ask for another number")->check(CLI::Range(1, 1000))->capture_default_str();
  app.add_flag("--restored", put_back, "The store was put back from a copy: go on above all that workers have seen since. Jobs that were open are held. Say it once");
  app.add_option("--keep", keep, "How long jobs are kept after their end: 12h, 30d; `forever`: all of them")->capture_default_str();
  bool checks = false, json = false;
  auto* check_option = app.add_flag("--check", checks, "Look through the store, also while a manager uses it, say what is in it and what is wrong, and end");
  bool audits = false;
  auto* audit_option = app.add_flag("--audit", audits, "Print the audit log: who did what, and what was refused to whom; and end")->excludes(check_option);
  app.add_flag("--json", json, "With --check: as one JSON object. With --audit: as one for each line");
  app.add_option("--since", since, "With --audit: only of so long ago, 2h or 7d")->type_name("TIME")->needs(audit_option);
  app.add_option("--log-level", level, "debug, info, warn or error")->check(CLI::IsMember({"debug", "info", "warn", "error"}))->capture_default_str();
  app.add_option("--notify-fd", notify_fd, "Descriptor that gets a line `ready` and a line `worker`")->group("");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kUsage;
  }
  const auto folder = [&] { return state.empty() ? std::filesystem::absolute(profile_file).parent_path() / "manager" : std::filesystem::path(state); };
  if (json && !checks && !audits) return fail({"--json has no use here", "it goes with --check and --audit", "leave it out"}, kUsage);
  if (profile_file.empty() && !((checks || audits) && !state.empty())) return fail({"no --profile is given", "", checks || audits ? "name it, or the store's folder: --state DIR" : "name its file: --profile FILE"}, kUsage);
  if (checks) return check(folder(), json);
  if (audits) {
    std::uint64_t since_ms = 0;
    if (!since.empty()) {
      const auto span = souk::parse_duration(since);
      if (!span) return fail({"bad option --since", span.error().why, "write 2h or 7d"}, kUsage);
      const std::uint64_t now_ms = souk::Clocks::read().now_ms;
      since_ms = now_ms - std::min<std::uint64_t>(now_ms, static_cast<std::uint64_t>(span.value().count()));
    }
    return souk::print_audit(folder(), json, since_ms);
  }
  if (policy_option->count() > 0 && (!shares.empty() || !most.empty())) return fail({"--share and --limit have no use beside --policy", "the policy file says what each may have", "write weight, running and queued into its rules"}, kUsage);
  if (policy_option->count() > 0) {
    if (granted.policy.empty()) return fail({"--policy names no file", "", "name one"}, kUsage);
    granted.policy = std::filesystem::absolute(granted.policy).string();
  }
  spdlog::set_default_logger(spdlog::stderr_color_mt("manager"));
  spdlog::set_level(spdlog::level::from_str(level));
  souk::set_log_format();
  spdlog::flush_on(spdlog::level::info);
  std::signal(SIGPIPE, SIG_IGN);

  const auto seconds = [](double s) { return std::chrono::duration_cast<souk::Duration>(std::chrono::duration<double>(s)); };
  rules.lease = seconds(lease_s), rules.half_life = seconds(half_life_s);
  souk::Limits limits;
  for (const auto& share : shares)
    if (const auto added = limits.add_share(share); !added) return fail(added.error(), kUsage);
  for (const auto& limit : most)
    if (const auto added = limits.add_limit(limit); !added) return fail(added.error(), kUsage);
  if (const auto read = souk::parse_duration(keep); !read && keep != "forever") return fail({"bad option --keep", read.error().why, "write 12h or 30d, or `forever`"}, kUsage);
  limits.set_machine_memory(static_cast<std::uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE)));
  if (!memory_max.empty())
    if (const auto set = limits.set_memory_max(memory_max); !set) return fail(set.error(), kUsage);
  const auto profile = souk::load_profile(profile_file);
  if (!profile) return fail(profile.error(), kUsage);
  if (serves_room(profile.value()) && profile.value().room == souk::bare(profile.value().manager))
    return fail({"bad profile " + profile_file, "'room' and 'manager' have the same address", "give the room a name of its own: market@" + souk::domain_of(profile.value().room)}, kUsage);
  try {
    if (put_back)
      if (const auto marked = souk::mark_put_back(folder() / "grid.sqlite", souk::Clocks::read().now_ms); !marked) return fail(marked.error(), 1);
    int code = kAgain;
    while (code == kAgain)
      code = serve(profile.value(), folder(), granted, limits, rules, keep, put_back, notify_fd);
    return code;
  } catch (const std::exception& error) {
    return fail({"ended by an error", error.what(), "please report it"}, 1);
  }
}
