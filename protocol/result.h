// Expected failure is a value.
#pragma once
#include <string>
#include <utility>
#include <variant>

namespace souk {

/// What failed, why, and what to do about it; each a phrase without a full stop. `remedy` may be empty.
struct Error {
  std::string what, why, remedy;
  /// One line for people: `what: why; remedy`.
  std::string text() const {
    std::string line = what;
    if (!why.empty()) line += ": " + why;
    if (!remedy.empty()) line += "; " + remedy;
    return line;
  }
};

template <class T>
class [[nodiscard]] Result {
 public:  // implicit on purpose: a function just returns its value or its Error
  Result(T value) : held_(std::in_place_index<0>, std::move(value)) {}
  Result(Error error) : held_(std::in_place_index<1>, std::move(error)) {}
  explicit operator bool() const { return held_.index() == 0; }
  T& value() { return std::get<0>(held_); }
  const T& value() const { return std::get<0>(held_); }
  const Error& error() const { return std::get<1>(held_); }

 private:
  std::variant<T, Error> held_;
};

struct Done {};  // the value of a Result that has none

}  // namespace souk
