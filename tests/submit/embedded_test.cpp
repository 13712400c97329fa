#include "submit/embedded.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string>

#include "submit/grid_state.h"
#include "submit/prosody_config.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

EmbeddedGrid some_grid() {
  EmbeddedGrid grid;
  grid.dir = "/home/ada/.souk";
  grid.user = "ada";
  grid.ports = {20001, 20002};
  return grid;
}

const ProgramPaths kPrograms{"/usr/bin/prosody", "/opt/souk-manager", "/opt/souk-worker"};

bool has_pair(const std::vector<std::string>& argv, const std::string& option, const std::string& value) {
  for (std::size_t i = 0; i + 1 < argv.size(); ++i) {
    if (argv[i] == option && argv[i + 1] == value) return true;
  }
  return false;
}

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

TEST(Embedded, PlansTheServerFirstThenTheManagerThenEachWorker) {
  auto grid = some_grid();
  grid.workers = 2;
  grid.slots = 3;
  const auto programs = plan(grid, kPrograms);
  ASSERT_EQ(programs.size(), 4u);
  EXPECT_EQ(programs[0].name, "server");
  EXPECT_TRUE(has_pair(programs[0].argv, "--config", "/home/ada/.souk/server/prosody.cfg.lua"));
  EXPECT_EQ(programs[1].name, "manager");
  EXPECT_TRUE(programs[1].notifies);
  EXPECT_TRUE(has_pair(programs[1].argv, "--profile", "/home/ada/.souk/manager.toml"));
  EXPECT_EQ(programs[3].name, "worker-2");
  EXPECT_TRUE(has_pair(programs[3].argv, "--slots", "3"));
  EXPECT_TRUE(has_pair(programs[3].argv, "--name", "worker-2"));
  EXPECT_TRUE(has_pair(programs[3].argv, "--work", "/home/ada/.souk/work/worker-2"));
  EXPECT_TRUE(has_pair(programs[3].argv, "--state", "/home/ada/.souk/results/worker-2"));
  EXPECT_TRUE(has_pair(programs[3].argv, "--sandbox", "none"));
  EXPECT_EQ(programs[3].log, "/home/ada/.souk/log/worker-2.log");
}

TEST(Embedded, LetsEverybodyWithAnAccountSubmitUnlessToldWhoMay) {
  auto grid = some_grid();
  EXPECT_TRUE(has_pair(plan(grid, kPrograms)[1].argv, "--allow", "souk.localhost"));
  grid.allowed = {"bob@souk.localhost"};
  grid.admins = {"eve@souk.localhost"};
  const auto argv = plan(grid, kPrograms)[1].argv;
  EXPECT_FALSE(has_pair(argv, "--allow", "souk.localhost"));
  EXPECT_TRUE(has_pair(argv, "--allow", "bob@souk.localhost"));
  EXPECT_TRUE(has_pair(argv, "--allow", "ada@souk.localhost")) << "the owner may always";
  EXPECT_TRUE(has_pair(argv, "--admin", "eve@souk.localhost"));
}

TEST(Embedded, TellsTheManagerHowLongJobsAreKeptIfAsked) {
  auto grid = some_grid();
  const auto usual = plan(grid, kPrograms)[1].argv;
  EXPECT_EQ(std::count(usual.begin(), usual.end(), "--keep"), 0);
  grid.keep = "12h";
  EXPECT_TRUE(has_pair(plan(grid, kPrograms)[1].argv, "--keep", "12h"));
}

TEST(Embedded, ConfiguresAServerThatIsPrivateAndFast) {
  const std::string config = render_server_config(some_grid(), "secret");
  EXPECT_TRUE(contains(config, "interfaces = { \"127.0.0.1\" }"));
  EXPECT_FALSE(contains(config, "\"*\""));
  EXPECT_TRUE(contains(config, "c2s_ports = { 20001 }; component_ports = { 20002 }"));
  EXPECT_TRUE(contains(config, "network_settings = { min_wait = 0; read_retry_delay = 0; nagle = false; tcp_backlog = 1024 }"));
  EXPECT_TRUE(contains(config, "gc = { mode = \"incremental\"; threshold = 200; speed = 500 }"));  // a third of its work was to collect
  EXPECT_TRUE(contains(config, "\nc2s_timeout = 60\n"));  // it remembers connections that long
  EXPECT_TRUE(contains(config, "modules_disabled = { \"s2s\", \"s2s_auth_certs\", \"limits\" }"));
  EXPECT_TRUE(contains(config, "component_secret = \"secret\""));
  EXPECT_FALSE(contains(config, "run_as_root"));
  auto root = some_grid();
  root.root = true;
  EXPECT_TRUE(contains(render_server_config(root, "secret"), "run_as_root = true"));
}

TEST(Embedded, KeepsTheMarketWhereItIsAskedTo) {
  auto grid = some_grid();
  EXPECT_FALSE(contains(render_server_config(grid, "secret"), "muc")) << "the manager is the room";
  for (const auto& profile : {render_manager_profile(grid), render_worker_profile(grid)}) EXPECT_TRUE(contains(profile, "room = \"market@grid.souk.localhost\"\n")) << profile;
  grid.hosted = true;
  const std::string config = render_server_config(grid, "secret");
  EXPECT_TRUE(contains(config, "Component \"rooms.souk.localhost\" \"muc\""));
  EXPECT_TRUE(contains(config, "restrict_room_creation = true\n  admins = { \"manager@grid.souk.localhost\" }"));
  for (const auto& profile : {render_manager_profile(grid), render_worker_profile(grid)}) EXPECT_TRUE(contains(profile, "room = \"market@rooms.souk.localhost\"\n")) << profile;
}

TEST(Embedded, WritesProfilesWithoutPasswords) {
  const std::string person = render_person_profile(some_grid(), "bob", "bob.password");
  EXPECT_TRUE(contains(person, "jid = \"bob@souk.localhost\"\n"));
  EXPECT_TRUE(contains(person, "password_file = \"bob.password\"\n"));
  EXPECT_TRUE(contains(person, "port = 20001\n"));
  EXPECT_FALSE(contains(person, "component"));
  const std::string manager = render_manager_profile(some_grid());
  EXPECT_TRUE(contains(manager, "jid = \"grid.souk.localhost\"\n"));
  EXPECT_TRUE(contains(manager, "component = true\n"));
  EXPECT_TRUE(contains(manager, "port = 20002\n"));
  EXPECT_TRUE(contains(render_worker_profile(some_grid()), "jid = \"worker@souk.localhost\"\n"));
}

TEST(Embedded, QuotesStringsSoThatNothingInThemEndsThem) {
  EXPECT_EQ(lua_string("/tmp/it's \"x\" \\ \n1 \xC3\xA9"), "\"/tmp/it's \\\"x\\\" \\\\ \\0101 \xC3\xA9\"");
  EXPECT_EQ(lua_string(std::string("a\0b", 3)), "\"a\\000b\"");
}

TEST(Embedded, NamesFilesAsTheServersStorageDoes) {
  EXPECT_EQ(server_file_name("souk.localhost"), "souk%2elocalhost");
  EXPECT_EQ(server_file_name("a_b-\xC3\xA9"), "a%5fb%2d%c3%a9");
  EXPECT_EQ((Layout{"/g"}.account("j.doe")), "/g/server/data/souk%2elocalhost/accounts/j%2edoe.dat");
}

TEST(Embedded, KeepsOnlyKeysOfAPassword) {
  const std::string account = render_account({.salt = "so", .stored_key = std::string("\x01\xFF", 2), .server_key = "A", .iterations = 4096});
  EXPECT_TRUE(contains(account, "[\"stored_key\"] = \"01ff\";"));
  EXPECT_TRUE(contains(account, "[\"server_key\"] = \"41\";"));
  EXPECT_TRUE(contains(account, "[\"iteration_count\"] = 4096;"));
}

TEST(Embedded, MakesAnAccountNameOfAnyUnixUser) {
  EXPECT_EQ(account_name("ada"), "ada");
  EXPECT_EQ(account_name("Ada.Lovelace"), "ada.lovelace");
  EXPECT_EQ(account_name("CORP\\j doe"), "corpjdoe");
  EXPECT_EQ(account_name("_apt"), "apt");
  EXPECT_EQ(account_name(""), "owner");
  EXPECT_EQ(account_name("\xD0\x98"), "owner");
  EXPECT_EQ(account_name("worker"), "owner") << "the workers' account is not the user's";
  EXPECT_EQ(account_name(std::string(200, 'a')).size(), 64u);
}

TEST(Embedded, RefusesAccountNamesWithAReason) {
  EXPECT_TRUE(check_account_name("bob-2"));
  for (const char* bad : {"", "Bob", "a b", "a/b", "../x", ".x", "a@b", "worker", "manager", "b\xC3\xB6"}) {
    const auto checked = check_account_name(bad);
    ASSERT_FALSE(checked) << bad;
    EXPECT_FALSE(checked.error().why.empty()) << bad;
    EXPECT_FALSE(checked.error().remedy.empty()) << bad;
  }
  EXPECT_TRUE(contains(check_account_name("Bob Doe").error().remedy, "'bobdoe'"));
  EXPECT_FALSE(check_account_name(std::string(65, 'a')));
}

TEST(BackOff, DoublesUpToTenSecondsAndStartsAnewAfterHealth) {
  BackOff back_off;
  EXPECT_EQ(back_off.next(0ms), 100ms);
  EXPECT_EQ(back_off.next(5ms), 200ms);
  for (int i = 0; i < 5; ++i) (void)back_off.next(29999ms);
  EXPECT_EQ(back_off.next(0ms), 10000ms);
  EXPECT_EQ(back_off.next(0ms), 10000ms);
  EXPECT_EQ(back_off.next(30000ms), 100ms);
  EXPECT_EQ(back_off.next(0ms), 200ms);
}

GridState some_state() {
  GridState state;
  state.phase = Phase::running;
  state.version = "1.0";
  state.supervisor = 10;
  state.since_ms = 1000;
  state.dir = "/g \"é\xFF";
  state.user = "ada";
  state.ports = {20001, 20002};
  state.workers = 1;
  state.slots = 2;
  state.market = true;
  state.programs.push_back({.name = "server", .pid = 11, .since_ms = 1100, .log = "/g/log/server.log"});
  state.programs.push_back({.name = "manager", .pid = 12, .since_ms = 1200, .log = "/g/log/manager.log"});
  state.programs.push_back({.name = "worker-1", .pid = 13, .since_ms = 1300, .log = "/g/log/worker-1.log"});
  return state;
}

Observed all_well() {
  Observed seen;
  seen.now_ms = 600000;
  seen.supervised = true;
  for (const int pid : {10, 11, 12, 13}) seen.rss_bytes[pid] = 5u << 20;
  seen.version = "1.0";
  return seen;
}

TEST(GridState, SurvivesBeingWrittenAndRead) {
  auto state = some_state();
  state.dir = "/g \"é";
  state.programs[2].restarts = 4;
  state.programs[2].last_exit = "signal 9 (Killed)";
  state.problem = "it\nburns";
  const auto back = parse_state(to_json(state));
  ASSERT_TRUE(back);
  EXPECT_EQ(to_json(back.value()), to_json(state));
  EXPECT_EQ(back.value().dir, state.dir);
  EXPECT_EQ(back.value().ports, state.ports);
  EXPECT_EQ(back.value().programs[2].last_exit, "signal 9 (Killed)");
}

TEST(GridState, AnswersDamagedTextWithAnError) {
  for (const char* bad : {"", "{", "[]", "{}", R"({"phase":"dancing"})", R"({"phase":3})", R"({"phase":"running","port":"x"})", R"({"phase":"running","programs":[{}]})",
                          R"({"phase":"running","programs":7})"}) {
    const auto parsed = parse_state(bad);
    ASSERT_FALSE(parsed) << bad;
    EXPECT_FALSE(parsed.error().remedy.empty());
  }
  EXPECT_EQ(parse_state(R"({"phase":"running","port":123456})").value().ports.clients, 0) << "not what is left of it in 16 bits";
}

TEST(GridState, FindsNothingWrongWithAHealthyGrid) {
  EXPECT_TRUE(problems(some_state(), all_well()).empty());
  const std::string text = render_status(some_state(), all_well());
  EXPECT_TRUE(contains(text, "Nothing is wrong."));
  EXPECT_TRUE(contains(text, "ada@souk.localhost at 127.0.0.1:20001"));
}

TEST(GridState, NamesWhatIsWrongAndShowsTheLogsLastLines) {
  auto state = some_state();
  state.programs[2].last_exit = "exit code 1";
  state.programs[2].next_start_ms = 602500;
  state.programs[2].restarts = 3;
  auto seen = all_well();
  seen.rss_bytes.erase(13);
  seen.last_lines["worker-1"] = {"cannot log in"};
  seen.disk_free_bytes = 1 << 20;
  seen.version = "2.0";
  const std::string text = render_status(state, seen);
  EXPECT_TRUE(contains(text, "worker-1 is down: it ended with exit code 1; starts again in 2.5 s")) << text;
  EXPECT_TRUE(contains(text, "| cannot log in")) << text;
  EXPECT_TRUE(contains(text, "disk is nearly full: 1 MiB free")) << text;
  EXPECT_TRUE(contains(text, "started by version 1.0, this program is 2.0")) << text;
  EXPECT_FALSE(contains(text, "Nothing is wrong"));
}

TEST(GridState, TellsASupervisorThatWasKilledFromAGridThatWasStopped) {
  auto seen = all_well();
  seen.supervised = false;
  seen.rss_bytes.clear();
  EXPECT_TRUE(contains(render_status(some_state(), seen), "supervisor (pid 10) ended without stopping the grid"));
  auto stopped = some_state();
  stopped.phase = Phase::stopped;
  EXPECT_TRUE(problems(stopped, seen).empty());
  EXPECT_TRUE(contains(render_status(stopped, seen), "No grid runs"));
}

TEST(GridState, PrintsJsonEvenOfAFolderThatIsNoUtf8) {
  const std::string json = render_status_json(some_state(), all_well(), R"({"slots":2})");
  EXPECT_TRUE(contains(json, R"("slots":2)"));
  EXPECT_TRUE(contains(json, R"("rss_bytes":5242880)"));
  EXPECT_TRUE(contains(json, R"("problems":[])"));
}

TEST(GridState, SaysAfterUpHowToUseTheGrid) {
  const std::string text = render_up(some_state(), all_well(), "souk --dir /g", false);
  EXPECT_TRUE(contains(text, "souk --dir /g map"));
  EXPECT_TRUE(contains(text, "ada@souk.localhost, server 127.0.0.1 port 20001"));
  EXPECT_TRUE(contains(text, "user.password"));
}

}  // namespace
}  // namespace souk
