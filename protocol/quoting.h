// Texts as files and shells take them, so that they read back as they are. Pure.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace souk {

/// Length of the UTF-8 sequence at the front of `text`, which is not empty, or 0 if there is none (RFC 3629, no overlong forms, no surrogates).
std::size_t utf8_length(std::string_view text);

/// A TOML string, quotes included; bytes that are no UTF-8 become `?`.
std::string toml_string(std::string_view text);

/// One word of a POSIX shell: in single quotes unless it is plain. (`a=b` is not: at the front it would be no word but an assignment.) Digits are plain, so that they count in `$((...))` and
/// between double quotes; whoever writes a redirection right behind a word, as in `echo {}>out`, makes a descriptor of them, as anywhere in a shell.
std::string shell_word(std::string_view text);

/// One word of an ExecStart= line (systemd.service(5)): quoted, and `%` and `$` are no specifiers or variables.
std::string unit_word(std::string_view word);

}  // namespace souk
