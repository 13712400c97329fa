// Text of foreign origin where a person reads it: what a terminal or an editor would obey is not passed on. Pure.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace souk {

/// Whether this one character (UTF-8) does something rather than being shown: C0 and C1 controls, DEL, line and paragraph separators, and those that turn the direction of the
/// text behind them (Unicode's Bidi_Control but for the marks, which right-to-left text needs and which turn nothing else).
bool is_control(std::string_view character);

/// One line that shows `text`: line ends and tabs as `\n`, `\r`, `\t`; other controls, and bytes that are no UTF-8, as `?`. At most `bytes_max`; then it says how much is missing.
std::string one_line(std::string_view text, std::size_t bytes_max);

}  // namespace souk
