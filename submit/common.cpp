#include "submit/common.h"

#include <pwd.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <nlohmann/json.hpp>

namespace souk {

Result<std::filesystem::path> state_dir(const std::filesystem::path& given) {
  std::filesystem::path dir = given;
  if (dir.empty()) {
    if (const char* set = std::getenv("SOUK_DIR"); set && *set) dir = set;
  }
  if (dir.empty()) {
    const char* home = std::getenv("HOME");
    if (!home || !*home) {
      const passwd* entry = getpwuid(getuid());
      home = entry ? entry->pw_dir : nullptr;
    }
    if (!home || !*home) return Error{"no state folder", "neither --dir nor SOUK_DIR nor HOME is set", "say where: --dir FOLDER"};
    dir = std::filesystem::path(home) / ".souk";
  }
  std::error_code failure;
  const auto absolute = std::filesystem::absolute(dir, failure);
  if (failure) return Error{"cannot use the state folder '" + dir.string() + "'", failure.message(), "give an absolute path: --dir /FOLDER"};
  auto normal = absolute.lexically_normal();
  if (!normal.has_filename() && normal.has_parent_path()) normal = normal.parent_path();  // `grid/` is `grid`
  return normal;
}

int fail(const Common& common, const Error& error, int code) {
  if (common.json) {
    const nlohmann::json answer = {{"error", {{"what", error.what}, {"why", error.why}, {"remedy", error.remedy}}}};
    std::puts(answer.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
  } else {
    std::fflush(stdout);
    std::string text = error.text();  // it may quote what others wrote: nothing of it moves the cursor
    std::replace_if(text.begin(), text.end(), [](unsigned char c) { return (c < ' ' && c != '\n' && c != '\t') || c == 0x7f; }, '?');
    std::fprintf(stderr, "souk: %s\n", text.c_str());
  }
  return code;
}

}  // namespace souk
