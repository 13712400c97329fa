#include "submit/words.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>

#include "protocol/nearest.h"
#include "protocol/notation.h"

namespace souk {
namespace {

std::vector<const CLI::App*> visible_commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_name().empty() && !command->get_group().empty(); });
}

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
  const auto found = app.get_subcommands([&name](const CLI::App* command) { return command->check_name(name); });
  return found.empty() ? nullptr : found.front();
}

bool takes_value(const CLI::Option& option) { return option.get_expected_max() > 0 && option.get_type_size_max() > 0; }

const CLI::Option* find_option(const CLI::App& app, const CLI::App* command, const std::string& name) {
  if (command)
    if (const auto* option = command->get_option_no_throw(name)) return option;
  return app.get_option_no_throw(name);
}

std::vector<const CLI::Option*> visible_options(const CLI::App& app, const CLI::App* command) {
  const auto shown = [](const CLI::Option* option) { return option->nonpositional() && !option->get_group().empty(); };
  std::vector<const CLI::Option*> options;
  if (command) options = command->get_options(shown);
  for (const auto* option : app.get_options(shown))
    if (!command || !command->get_option_no_throw("--" + (option->get_lnames().empty() ? std::string() : option->get_lnames().front()))) options.push_back(option);
  return options;
}

/// What an option word is: whether it is known, and whether the next word is its value.
struct Read {
  bool known = false, eats_next = false;
};
Read read_option(const CLI::App& app, const CLI::App* command, const std::string& word) {
  if (word.starts_with("--")) {
    const auto equals = word.find('=');
    const auto* option = find_option(app, command, word.substr(0, equals));
    return {option != nullptr, option && equals == std::string::npos && takes_value(*option)};
  }
  for (std::size_t i = 1; i < word.size(); ++i) {  // -0k: several letters in one word
    const auto* option = find_option(app, command, std::string("-") + word[i]);
    if (!option) return {};
    if (takes_value(*option)) return {true, i + 1 == word.size()};
  }
  return {true, false};
}

Error unknown_option(const CLI::App& app, const CLI::App* command, const std::string& word) {
  const std::string name = word.substr(0, word.find('='));
  std::vector<std::string> known;
  for (const auto* option : visible_options(app, command))
    for (const auto& lname : option->get_lnames()) known.push_back("--" + lname);
  const std::string best = nearest(name, known);
  const std::string help = "souk " + (command ? command->get_name() + " " : std::string()) + "--help";
  return {"unknown option " + souk::quoted(name), "", (best.empty() ? "" : "did you mean " + best + "? ") + "`" + help + "` lists them"};
}

}  // namespace

bool takes_command(std::string_view subcommand) { return subcommand == "submit" || subcommand == "run" || subcommand == "map"; }

Result<Cut> cut_words(const CLI::App& app, const std::vector<std::string>& words) {
  Cut cut;
  const CLI::App* command = nullptr;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    const bool option = word.size() > 1 && word[0] == '-';
    if (word == "--" && command && takes_command(command->get_name())) {
      cut.words.assign(words.begin() + static_cast<std::ptrdiff_t>(i) + 1, words.end());
      return cut;
    }
    if (option && word != "--") {
      const auto read = read_option(app, command, word);
      if (!read.known) return unknown_option(app, command, word);
      cut.ours.push_back(word);
      if (read.eats_next && i + 1 < words.size()) cut.ours.push_back(words[++i]);
      continue;
    }
    if (!command) {
      if (word == "help") {  // with or without a command after it
        if (i + 1 < words.size() && find_command(app, words[i + 1])) cut.ours.push_back(words[i + 1]);
        cut.ours.push_back("--help");
        return cut;
      }
      command = find_command(app, word);
      if (!command) {
        std::vector<std::string> known;
        for (const auto* each : visible_commands(app)) known.push_back(each->get_name());
        const auto best = nearest(word, known);
        return Error{"unknown command " + souk::quoted(word), "", (best.empty() ? "" : "did you mean `souk " + best + "`? ") + "`souk --help` lists them"};
      }
      cut.ours.push_back(word);
      continue;
    }
    if (takes_command(command->get_name())) {
      cut.words.assign(words.begin() + static_cast<std::ptrdiff_t>(i), words.end());
      return cut;
    }
    if (const auto* inner = find_command(*command, word)) command = inner;  // `user add`
    cut.ours.push_back(word);
  }
  return cut;
}

std::vector<std::string> complete(const CLI::App& app, const std::vector<std::string>& words) {
  if (words.empty()) return {};
  const CLI::App* command = nullptr;
  for (std::size_t i = 0; i + 1 < words.size(); ++i) {
    const std::string& word = words[i];
    if (word.size() > 1 && word[0] == '-') {
      if (word == "--") return {};
      if (read_option(app, command, word).eats_next && ++i + 1 == words.size()) return {};  // the word asked for is its value
      continue;
    }
    if (!command) {
      command = find_command(app, word);
      if (!command) return {};
    } else if (takes_command(command->get_name())) {
      return {};  // inside the user's own command
    } else if (const auto* inner = find_command(*command, word)) {
      command = inner;
    }
  }
  const std::string& typed = words.back();
  std::vector<std::string> candidates;
  const auto offer = [&](const std::string& word, const std::string& description) {
    if (!word.starts_with(typed)) return;
    const std::string line = description.substr(0, description.find('\n'));
    candidates.push_back(line.empty() ? word : word + "\t" + line);
  };
  if (typed.starts_with("-")) {
    for (const auto* option : visible_options(app, command))
      for (const auto& name : option->get_lnames()) offer("--" + name, option->get_description());
  } else if (!command) {
    for (const auto* each : visible_commands(app)) offer(each->get_name(), each->get_description());
  } else if (command->get_name() == "completion") {
    for (const char* shell : {"bash", "zsh", "fish"}) offer(shell, "");
  } else {
    for (const auto* each : visible_commands(*command)) offer(each->get_name(), each->get_description());
  }
  return candidates;
}

Result<std::string> completion_script(std::string_view shell) {
  if (shell == "bash")
    return std::string(R"(# souk: completion for bash. To have it always: souk completion bash > ~/.local/share/bash-completion/completions/souk
_souk() {
  local line word="${COMP_WORDS[COMP_CWORD]}"
  COMPREPLY=()
  while IFS= read -r line; do
    COMPREPLY+=("${line%%$'\t'*}")
  done < <("${COMP_WORDS[0]}" --complete "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
  if [ ${#COMPREPLY[@]} -eq 0 ]; then
    compopt -o default 2>/dev/null
    case " ${COMP_WORDS[*]:1:COMP_CWORD-1} " in
      *" run "|*" submit "|*" map ") mapfile -t COMPREPLY < <(compgen -c -- "$word") ;;
    esac
  fi
}
complete -F _souk souk
)");
  if (shell == "zsh")
    return std::string(R"(#compdef souk
# souk: completion for zsh. To have it always: souk completion zsh > a folder of $fpath, as _souk
_souk() {
  local -a found
  local line
  for line in "${(@f)$("${words[1]}" --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
    [[ -z $line ]] && continue
    if [[ $line == *$'\t'* ]]; then
      found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}")
    else
      found+=("${line//:/\\:}")
    fi
  done
  if (( ${#found} )); then
    _describe 'souk' found
  elif [[ ${words[CURRENT-1]} == (run|submit|map) ]]; then
    _command_names
  else
    _files
  fi
}
if [ "$funcstack[1]" = "_souk" ]; then _souk "$@"; else compdef _souk souk; fi
)");
  if (shell == "fish")
    return std::string(R"(# souk: completion for fish. To have it always: souk completion fish > ~/.config/fish/completions/souk.fish
function __souk_complete
  set -l words (commandline -opc) (commandline -ct)
  $words[1] --complete $words[2..-1] 2>/dev/null
end
complete -c souk -f -n 'test (count (__souk_complete)) -gt 0' -a '(__souk_complete)'
complete -c souk -F -n 'test (count (__souk_complete)) -eq 0'
)");
  return Error{"no completion for " + souk::quoted(shell), "known shells are bash, zsh and fish", "add this to ~/.bashrc: source <(souk completion bash)"};
}

}  // namespace souk
