// A set of so many numbers at most. Used by souk-runner, and so without the C++ library.
#pragma once
#include <cstdint>
#include <sys/mman.h>

namespace souk {

/// To be static: then it takes no memory but that of pages which it used since it was cleared.
template <unsigned bits, unsigned most>
class NumberSet {
  static_assert(most < 1u << bits, "a look for what it lacks ends at an empty place");

 public:
  bool has(std::uint64_t number) const { return keys_[place_of(number)] != 0; }
  /// yields: false if it has `most` others
  bool add(std::uint64_t number) {
    std::uint64_t& key = keys_[place_of(number)];
    if (key != 0) return true;
    if (known_ == most) return false;
    ++known_;
    key = number + 1;
    return true;
  }
  void clear() {
    if (known_ != 0) madvise(keys_, sizeof keys_, MADV_DONTNEED);
    known_ = 0;
  }

 private:
  /// Where it is, or an empty place.
  unsigned place_of(std::uint64_t number) const {
    unsigned at = static_cast<unsigned>(number * 0x9E3779B97F4A7C15u >> (64 - bits));
    while (keys_[at] != 0 && keys_[at] != number + 1) at = (at + 1) % (1u << bits);
    return at;
  }

  alignas(4096) std::uint64_t keys_[1u << bits] = {};  // 0: empty, else a number and 1
  unsigned known_ = 0;
};

}  // namespace souk
