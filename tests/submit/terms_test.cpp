#include "submit/terms.h"

#include <gtest/gtest.h>

#include "protocol/grid.pb.h"

namespace souk {
namespace {

// 2026-11-23 10:00:00 where it is one hour later than UTC.
constexpr std::uint64_t kNow = 1'795'424'400'000;
Calendar calendar() {
  return {.now_ms = kNow,
          .local = [](std::time_t at) {
            at += 3600;
            std::tm parts{};
            gmtime_r(&at, &parts);
            return parts;
          },
          .instant = [](std::tm parts) { return timegm(&parts) - 3600; }};
}

wire::Job job_with(const TermOptions& options, std::uint32_t retries = 0) {
  wire::Job job;
  job.set_retries(retries);
  const auto done = fill_terms(options, calendar(), job);
  EXPECT_TRUE(done) << done.error().text();
  return job;
}
std::string refusal(const TermOptions& options, std::uint32_t retries = 0) {
  wire::Job job;
  job.set_retries(retries);
  const auto done = fill_terms(options, calendar(), job);
  return done ? "" : done.error().text();
}

TEST(Terms, OfNothingAskedAreNone) {
  EXPECT_EQ(job_with({}).ByteSizeLong(), 0u);
}

TEST(Terms, NeedsTravel) {
  const auto needs = job_with({.cpus = 4, .gpus = 2, .memory = "1.5GiB", .disk = "2TiB", .resources = {"license.matlab=3", "scanner"}, .pin = true});
  EXPECT_EQ(needs.needs().cpus(), 4u);
  EXPECT_EQ(needs.needs().gpus(), 2u);
  EXPECT_EQ(needs.needs().memory_bytes(), 3ull << 29);
  EXPECT_EQ(needs.needs().disk_bytes(), 2ull << 40);
  ASSERT_EQ(needs.needs().resources_size(), 2);
  EXPECT_EQ(needs.needs().resources(0).name(), "license.matlab");
  EXPECT_EQ(needs.needs().resources(0).amount(), 3u);
  EXPECT_EQ(needs.needs().resources(1).amount(), 1u) << "one, where no number is said";
  EXPECT_TRUE(needs.command().pin());
  EXPECT_EQ(needs.command().image(), "");
  EXPECT_EQ(job_with({.image = "localhost/lab:3"}).command().image(), "localhost/lab:3");
  EXPECT_EQ(task_term({.image = "a"}), "--image");
}

TEST(Terms, OfTheJobTravel) {
  const auto job = job_with({.require = "memory >= 8GiB", .rank = "speed", .retry_delay = "10s", .retry_delay_max = "5m", .retry_on = "1,75-99", .priority = -7, .crash_limit = 2,
                             .max_fails = 0, .after = {"12", "13:any,14:ok"}, .deadline = "2h", .hold = true, .speculate = true},
                            /*retries=*/3);
  EXPECT_EQ(job.require(), "memory >= 8GiB");
  EXPECT_EQ(job.rank(), "speed");
  EXPECT_EQ(job.retry().delay_ms(), 10'000u);
  EXPECT_EQ(job.retry().delay_max_ms(), 300'000u);
  ASSERT_EQ(job.retry().codes_size(), 2);
  EXPECT_EQ(job.retry().codes(0).last(), 1u);
  EXPECT_EQ(job.retry().codes(1).first(), 75u);
  EXPECT_EQ(job.retry().codes(1).last(), 99u);
  EXPECT_EQ(job.priority(), -7);
  EXPECT_EQ(job.crash_limit(), 2u);
  EXPECT_TRUE(job.has_max_fails()) << "0 is not the same as not said";
  EXPECT_EQ(job.max_fails(), 0u);
  std::string after;
  for (const auto& one : job.after()) after += std::to_string(one.job()) + (one.any() ? ":any " : " ");
  EXPECT_EQ(after, "12 13:any 14 ");
  EXPECT_EQ(job.deadline_ms(), kNow + 7'200'000);
  EXPECT_TRUE(job.hold());
  EXPECT_TRUE(job.speculate());
}

TEST(Terms, DeadlinesAreDurationsOrLocalTimes) {
  const auto hours = [](const char* text) { return (static_cast<double>(parse_deadline(text, calendar()).value()) - static_cast<double>(kNow)) / 3'600'000; };
  EXPECT_EQ(hours("90m"), 1.5);
  EXPECT_EQ(hours("11:30"), 1.5);
  EXPECT_EQ(hours("09:00"), 23) << "that of tomorrow";
  EXPECT_EQ(hours("10:00"), 24) << "now is not in the future";
  EXPECT_EQ(hours("10:00:36"), 0.01);
  EXPECT_EQ(hours("2026-11-24T10:00"), 24);
  EXPECT_EQ(hours("2026-11-24 10:00:00"), 24);
  EXPECT_EQ(hours("2026-12-01T00:00"), 24 * 7 + 14) << "into the next month";
  EXPECT_EQ(parse_deadline("0", calendar()).error().text(), "cannot read the deadline '0': it is not in the future; write a time from now, such as 2h, or a local time: 18:30, 2026-12-24T18:30");
  EXPECT_EQ(parse_deadline("2026-11-23T09:59", calendar()).error().why, "it is not in the future");
  EXPECT_EQ(parse_deadline("2026-02-30T10:00", calendar()).error().why, "there is no such day");
  EXPECT_EQ(parse_deadline("tomorrow", calendar()).error().why, "there is no number where one should be");
  for (const char* wrong : {"", "24:00", "10:60", "1:30", "10:30:61", "2026-13-01T10:00", "2026-11-24T", "2026-11-24", "10:3x", "2026-1-1T10:00", "10:30 ", "+1:30", "2026-11-24T10:00Z", ":", "99999999999999:00"})
    EXPECT_FALSE(parse_deadline(wrong, calendar())) << wrong;
}

TEST(Terms, AQuorumTravels) {
  const std::string sum(64, 'a');
  const auto job = job_with({.quorum = "2/3", .quorum_by = "worker", .agree_on = "all", .known = "answers", .adaptive = true, .known_text = "# planted\n17\t" + sum + "\r\n\n3   " + sum + "  # the third"});
  EXPECT_EQ(job.quorum().agree(), 2u);
  EXPECT_EQ(job.quorum().most(), 3u);
  EXPECT_TRUE(job.quorum().adaptive() && job.quorum().by_worker());
  ASSERT_EQ(job.quorum().known_size(), 2);
  EXPECT_EQ(job.quorum().known(0).task(), 17u);
  EXPECT_EQ(job.quorum().known(1).sha256(), std::string(32, '\xaa'));
  EXPECT_FALSE(job_with({.quorum = "3"}).quorum().by_worker());
  EXPECT_EQ(refusal({.adaptive = true}), "cannot submit: --adaptive says how results are checked, and they are not; add --quorum 2/3");
  EXPECT_EQ(refusal({.quorum = "1/3"}), "quorum refused: it is 1/3; ask for 2 to 9 results that agree, and for no fewer in all: 2/3");
  EXPECT_EQ(refusal({.quorum = "2/3", .agree_on = "stdout"}), "cannot read on what results must agree: 'stdout' is none of all, exit and numbers:TOLERANCE; write all, exit, or numbers:1e-6");
  EXPECT_NE(refusal({.quorum = "2/3", .quorum_by = "nobody"}), "");
  for (const std::string& text : std::vector<std::string>{"", "x " + sum, "0 " + sum, "1 " + sum.substr(1), "1", "1 " + sum + " 2"}) EXPECT_NE(refusal({.quorum = "2/3", .known = "answers", .known_text = text}), "") << text;
}

TEST(Terms, RefusalsSayWhatToWrite) {
  const std::vector<std::pair<TermOptions, std::string>> wrong{
      {{.memory = "512"}, "cannot read --memory '512': it has no unit; write a unit, such as 512MiB"},
      {{.image = "--privileged"}, "image '--privileged' refused: that is no name for one; write it as podman shows it, in lower case, such as debian:12 or localhost/lab:3 (`podman tag` gives an image another name)"},
      {{.sandbox = "none", .image = "debian:12"}, "cannot submit: an image is the system of a sandbox, and --sandbox none asks for none; leave one of them out"},
      {{.disk = "1.5"}, "cannot read --disk '1.5': it has no unit; write a unit, such as 1.5MiB"},
      {{.memory = "much"}, "cannot read --memory 'much': it is no number of bytes; write a number and its unit: 512MiB, 1.5GiB, 2TiB"},
      {{.memory = "1e30GiB"}, "cannot read --memory '1e30GiB': it is no number of bytes; write a number and its unit: 512MiB, 1.5GiB, 2TiB"},
      {{.cpus = 0}, "needs refused: 0 cpus; ask for 1 to 4096"},
      {{.cpus = 4097}, "needs refused: 4097 cpus; ask for 1 to 4096"},
      {{.gpus = -1}, "needs refused: -1 gpus; ask for 0 to 1024"},
      {{.resources = {"memory=2"}}, "resource 'memory' refused: that one has an option of its own; write --memory"},
      {{.resources = {"a..b=2"}}, "resource 'a..b' refused: that is no name for one; use letters, digits, _ and -, with single dots between, such as license.matlab"},
      {{.resources = {"a=0"}}, "cannot read the resource 'a=0': its amount is no whole number from 1 to 1000000000; write a=2"},
      {{.resources = {"a=1", "a=2"}}, "cannot submit: resource a is asked for twice; ask once, for as many as a task takes"},
      {{.priority = 1001}, "cannot submit: priority 1001; give one from -1000 to 1000; higher goes first"},
      {{.crash_limit = 0}, "cannot submit: crash limit 0; give a number of workers from 1 to 1000"},
      {{.max_fails = -1}, "cannot submit: --max-fails -1; give how many tasks may fail: 0 or more"},
      {{.after = {"12,x"}}, "cannot read after which job: 'x' is none; write the number of a job, and :any if it may fail: 12, 12:any, 12,13:any"},
      {{.after = {"12:maybe"}}, "cannot read after which job: '12:maybe' is none; write the number of a job, and :any if it may fail: 12, 12:any, 12,13:any"},
      {{.retry_delay = "10s"}, "cannot submit: it is said how to run failed tasks again, but not how often; add --retries N"},
  };
  for (const auto& [options, text] : wrong) EXPECT_EQ(refusal(options), text);
  EXPECT_EQ(refusal({.retry_delay = "10s", .retry_delay_max = "5s"}, 1), "cannot submit: --retry-delay-max 5s is less than --retry-delay 10s; give the longer one as the most");
  EXPECT_EQ(refusal({.retry_on = "0"}, 1), "cannot read the exit codes: '0' is none from 1 to 255, and no span of them; write 1 or 75-99 or 1,75-99");
  for (const char* codes : {"", "256", "9-1", "1,,2", "1-", "-1", "x", "1-2-3"}) EXPECT_FALSE(parse_codes(codes)) << codes;
  for (const char* after : {"", "0", "1:", "1,", "-1", "1:any:ok", "99999999999999999999"}) EXPECT_FALSE(parse_after(after)) << after;
}

TEST(Terms, AMarkStandsUnderTheColumnOfAnExpression) {
  const auto text = refusal({.require = "os == \"linux\" && && gpus"});
  const auto lines = [&text] {
    std::vector<std::string> all;
    std::string_view rest = text;
    for (auto end = rest.find('\n'); end != std::string_view::npos; end = rest.find('\n')) all.emplace_back(rest.substr(0, end)), rest.remove_prefix(end + 1);
    all.emplace_back(rest);
    return all;
  }();
  ASSERT_EQ(lines.size(), 3u) << text;
  EXPECT_EQ(lines[0].substr(0, 31), "cannot read --require: column 1") << text;
  EXPECT_EQ(lines[1], "  os == \"linux\" && && gpus");
  EXPECT_EQ(lines[2], "                   ^");
  EXPECT_EQ(refusal({.rank = "speed *"}).substr(0, 20), "cannot read --rank: ");
}

TEST(Terms, LongExpressionsShowWhatSurroundsTheMark) {
  EXPECT_EQ(pointed_at("a + b", 3), "  a + b\n    ^");
  EXPECT_EQ(pointed_at("a +", 4), "  a +\n     ^") << "past its end";
  EXPECT_EQ(pointed_at("a", 99), "  a\n   ^");
  EXPECT_EQ(pointed_at("", 1), "  \n  ^");
  EXPECT_EQ(pointed_at("\xc3\xa4\xc3\xb6 ?", 4), "  \xc3\xa4\xc3\xb6 ?\n     ^") << "columns are characters";
  const auto cut = pointed_at(std::string(100, 'x') + "!" + std::string(100, 'y'), 101);
  EXPECT_EQ(cut, "  ..." + std::string(50, 'x') + "!" + std::string(19, 'y') + "...\n     " + std::string(50, ' ') + "^");
  EXPECT_NE(refusal({.require = std::string(1'000'000, '(')}), "");
  EXPECT_LT(refusal({.require = std::string(1'000'000, '(')}).size(), 500u);
}

}  // namespace
}  // namespace souk
