// Job files. Input: the TOML text.
#include "submit/job_file.h"

#include "manager/book.h"
#include "protocol/grid.pb.h"
#include "protocol/payload.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  using fuzz::must;
  if (size > fuzz::kInputMax) return 0;
  Surroundings all;
  all.environment = [](const std::string& name) { return name.size() < 4 ? std::optional<std::string>("from here") : std::nullopt; };
  constexpr std::uint64_t now = 1'795'424'400'000;
  all.calendar = {.now_ms = now,
                  .local = [](std::time_t at) {
                    std::tm parts{};
                    gmtime_r(&at, &parts);
                    return parts;
                  },
                  .instant = [](std::tm parts) { return timegm(&parts); }};
  all.read = [](const std::string& name, std::size_t bytes_max) -> Result<std::string> {
    if (name.size() > 12) return Error{"cannot read '" + name + "'", "No such file or directory", "name a readable file"};
    return std::string("one\n{\"a\":1}\n").substr(0, bytes_max);
  };
  wire::Job job;
  const auto text = fuzz::text_of(bytes, size);
  const auto done = job_file_of(text, "job.toml", all, job);
  if (!done) {
    must(!done.error().why.empty(), "a refusal says why");
    must(fuzz::is_safe_for_a_terminal(done.error().text()), "a refusal is safe for a terminal", done.error().text());
    return 0;
  }
  must(job.groups_size() > 0, "a file that is fine makes a job");
  // Who was told that the file is fine is not refused by the manager for what is in it; only its size is judged elsewhere.
  wire::Job sent;
  if (job.ByteSizeLong() > (1u << 20)) return 0;
  must(bool(parse(job.SerializeAsString(), sent)), "a job from a file can be sent");
  const auto tasks = check(sent, now);
  must(tasks || tasks.error().text().find("too many") != std::string::npos || tasks.error().text().find("more than") != std::string::npos, "the manager takes a job from a file",
       tasks ? std::string() : tasks.error().text());
  return 0;
}
