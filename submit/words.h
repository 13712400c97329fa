// The words somebody typed, before CLI11 reads them: where our options end and a task's command begins, what an unknown word may have
// meant, and what could come next when Tab is pressed. Pure; knows the commands by walking CLI11's own tables.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "protocol/result.h"

namespace CLI {
class App;
}

namespace souk {

/// Whether the words after this command's options are a command of the user's own.
bool takes_command(std::string_view subcommand);

struct Cut {
  std::vector<std::string> ours;   // for CLI11, which never sees the rest: it would take `souk run cat` for its own `cat`
  std::vector<std::string> words;  // the command of submit, run or map
};
/// words: without the program's name. `help X` becomes `X --help`.
/// fails: on an unknown command or option, naming the nearest known one
Result<Cut> cut_words(const CLI::App& app, const std::vector<std::string>& words);

/// What may stand where the last word stands, which is what was typed of it so far; one candidate each, `word` or `word\tdescription`.
/// Empty where a file or a program is meant: the shell knows those better.
std::vector<std::string> complete(const CLI::App& app, const std::vector<std::string>& words);

/// The script that makes a shell call `souk --complete`; fails for a shell we do not know.
Result<std::string> completion_script(std::string_view shell);

}  // namespace souk
