// Drives a fuzz target without libFuzzer: every file of the kept corpus first, then damage to them by a seed, until the time is over.
//   fuzz_NAME FOLDER|FILE... [--seconds N] [--seed S]      SOUK_FUZZ_SECONDS and SOUK_FUZZ_SEED say the same
// An input that breaks a law, crashes, takes more than kSlowest or more memory than kMemoryMax is written to crash-NAME, and the exit code is 1.
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/fuzz/fuzz.h"
#include "tests/protocol/mutate.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SOUK_SANITIZED 1  // their shadow memory counts as ours, and all is many times slower
#else
#define SOUK_SANITIZED 0
#endif

namespace {

using Clock = std::chrono::steady_clock;
constexpr unsigned kSlowest = SOUK_SANITIZED ? 60 : 10;  // seconds for one input: a bound that is none is seen, a busy machine is not
constexpr std::uint64_t kRounds = 3000;                  // unless a time is asked for: the same inputs on every machine that is fast enough
constexpr rlim_t kMemoryMax = 512u << 20;                // bytes, of the whole process

std::string input;       // of the run under way
std::string crash_file;

/// Only what may be called in a signal handler.
void keep_input(int signal) {
  const int file = open(crash_file.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0644);
  const auto say = [](const char* text) { [[maybe_unused]] const auto written = write(2, text, std::strlen(text)); };
  if (file >= 0) {
    [[maybe_unused]] const auto written = write(file, input.data(), input.size());
    close(file);
  }
  say(signal == SIGALRM ? "takes far too long" : signal == SIGABRT ? "aborted" : "crashed");
  say("; the input is kept in ");
  say(crash_file.c_str());
  say("\n");
  _exit(1);
}

void run(std::string bytes) {
  input = std::move(bytes);
  input.resize(std::min(input.size(), souk::fuzz::kInputMax));
  alarm(kSlowest);
  LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

std::string content_of(const std::filesystem::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), {}};
}

std::uint64_t number(const char* text, std::uint64_t otherwise) { return text ? std::strtoull(text, nullptr, 10) : otherwise; }

}  // namespace

int main(int argc, char** argv) {
  std::uint64_t seconds = number(std::getenv("SOUK_FUZZ_SECONDS"), 10), seed = number(std::getenv("SOUK_FUZZ_SEED"), 1);
  bool timed = std::getenv("SOUK_FUZZ_SECONDS") != nullptr;
  crash_file = "crash-" + std::filesystem::path(argv[0]).filename().string();
  std::vector<std::string> corpus;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--seconds" && i + 1 < argc) seconds = number(argv[++i], 0), timed = true;
    else if (word == "--seed" && i + 1 < argc) seed = number(argv[++i], 1);
    else if (std::filesystem::is_directory(word)) {
      std::vector<std::filesystem::path> files;
      for (const auto& entry : std::filesystem::directory_iterator(word))
        if (entry.is_regular_file()) files.push_back(entry.path());
      std::sort(files.begin(), files.end());  // a folder has no order of its own, and a seed must mean the same everywhere
      for (const auto& file : files) corpus.push_back(content_of(file));
    } else if (std::filesystem::is_regular_file(word)) {
      corpus.push_back(content_of(word));
    } else {
      std::fprintf(stderr, "%s: there is no file or folder '%s'\n", argv[0], word.c_str());
      return 2;
    }
  }
  if (corpus.empty()) return std::fprintf(stderr, "usage: %s FOLDER|FILE... [--seconds N] [--seed S]\n", argv[0]), 2;

  for (const int what : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGALRM}) signal(what, keep_input);
  if (!SOUK_SANITIZED) {
    const rlimit memory{kMemoryMax, kMemoryMax};
    setrlimit(RLIMIT_AS, &memory);
  }

  const auto began = Clock::now();
  run("");
  for (const auto& one : corpus) run(one);
  souk::test::Mutator mutator(seed);
  std::uint64_t rounds = 0;
  while (Clock::now() - began < std::chrono::seconds(seconds) && (timed || rounds < kRounds)) {
    std::string next = corpus[mutator.below(corpus.size())];
    const std::string& other = corpus[mutator.below(corpus.size())];
    if (mutator.below(8) == 0 && !other.empty()) {  // the head of one, the tail of another
      next.resize(mutator.below(next.size() + 1));
      next += other.substr(mutator.below(other.size()));
    }
    run(mutator.damaged(std::move(next), mutator.below(2) == 0 ? std::string_view(other) : std::string_view()));
    ++rounds;
  }
  std::printf("%s: %zu kept inputs, %llu damaged ones (seed %llu), none broke a law\n", argv[0], corpus.size(), static_cast<unsigned long long>(rounds), static_cast<unsigned long long>(seed));
  return 0;
}
