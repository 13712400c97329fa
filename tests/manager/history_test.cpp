#include "manager/history.h"

#include <gtest/gtest.h>

namespace souk {
namespace {

Outcome ended(Cause cause, int exit_code = 0, int signal = 0, std::string why = "") {
  Outcome outcome;
  outcome.cause = cause, outcome.exit_code = exit_code, outcome.signal = signal, outcome.why = std::move(why);
  return outcome;
}

TEST(History, TellsHowAnAttemptEnded) {
  EXPECT_EQ(ending_of(ended(Cause::exited)), "succeeded");
  EXPECT_EQ(ending_of(ended(Cause::exited, 3)), "exit code 3");
  EXPECT_EQ(ending_of(ended(Cause::signaled, 0, 9)), "signal 9");
  EXPECT_EQ(ending_of(ended(Cause::timed_out, 0, 15)), "over its time limit");
  EXPECT_EQ(ending_of(ended(Cause::not_started, 0, 0, "no such program: foo")), "not started: no such program: foo");
  EXPECT_EQ(ending_of(ended(Cause::lost)), "lost");
}

TEST(History, KeepsWholeLastLinesWithinItsBound) {
  EXPECT_EQ(last_lines("one\ntwo\n", 100), "one\ntwo\n");
  EXPECT_EQ(last_lines("one\ntwo\nthree\n", 10), "two\nthree\n");
  EXPECT_EQ(last_lines("one\ntwo\nthree\n", 9), "three\n");
  EXPECT_EQ(last_lines(std::string(5000, 'x')).size(), kLastLinesMax);
  EXPECT_EQ(last_lines("a\xC3\xA4\xC3\xA4", 3), "\xC3\xA4");  // never half a character
}

TEST(History, PrefersWhatWasSaidOnStandardError) {
  Outcome outcome = ended(Cause::exited, 1);
  outcome.out = "result\n", outcome.wall = std::chrono::milliseconds(5);
  EXPECT_EQ(attempt_row({{1}, {2}}, 3, outcome).last_lines, "result\n");
  outcome.err = "cannot open\n";
  const AttemptRow row = attempt_row({{1}, {2}}, 3, outcome);
  EXPECT_EQ(row.last_lines, "cannot open\n");
  EXPECT_EQ(row.run, 3u);
  EXPECT_EQ(row.wall_us, 5000u);
}

}  // namespace
}  // namespace souk
