// A target with faults, to try the driver on.
#include <vector>

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  const auto text = souk::fuzz::text_of(bytes, size);
  souk::fuzz::must(text != "law", "the law of this target", text);
  if (text == "memory") {
    std::vector<std::string> all;
    while (all.size() < 4096) all.emplace_back(1u << 20, 'x');
  }
  if (text == "crash") *reinterpret_cast<volatile char*>(size) = 1;  // NOLINT: on purpose
  return 0;
}
