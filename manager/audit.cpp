#include "manager/audit.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>

#include "manager/clocks.h"
#include "protocol/stanza.h"

namespace souk {

static std::filesystem::path audit_file(const std::filesystem::path& folder, int number) { return folder / (number == 0 ? "audit.log" : "audit.log." + std::to_string(number)); }

Audit::~Audit() {
  if (file_ >= 0) ::close(file_);
}

bool Audit::open() {
  if (file_ >= 0 && size_ < kFileMax) return true;
  if (file_ >= 0) {
    ::close(file_);
    file_ = -1;
    std::error_code ignored;
    for (int number = kFilesKept; number > 0; --number) std::filesystem::rename(audit_file(folder_, number - 1), audit_file(folder_, number), ignored);
  }
  file_ = ::open(audit_file(folder_, 0).c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
  struct stat status{};
  size_ = file_ >= 0 && ::fstat(file_, &status) == 0 ? static_cast<std::uint64_t>(status.st_size) : 0;
  return file_ >= 0;
}

void Audit::write(const std::string& line) {
  const std::string text = line + '\n';
  const bool good = open() && ::write(file_, text.data(), text.size()) == static_cast<ssize_t>(text.size());
  if (good) size_ += text.size();
  if (failed_ == good) {
    if (good) spdlog::info("audit log written again");
    else spdlog::error("cannot write the audit log why=\"{}\" file=\"{}\"", std::strerror(errno), audit_file(folder_, 0).string());
  }
  failed_ = !good;
}

void Audit::did(std::string_view verb, const std::string& by, audit::Fields fields) {
  fields.insert(fields.begin(), {"by", by});
  write(audit::line_of(Clocks::read().now_ms, verb, fields));
}

void Audit::refused(std::string_view what, const std::string& by, const std::string& why) {
  tick();
  if (refusals_.tells(bare(by), Clocks::read().now)) did("refused", by, {{"what", std::string(what)}, {"why", why}});
}

void Audit::asked(std::string_view verb, const std::string& by, bool admin, audit::Fields fields) {
  tick();
  if (admin || acts_.tells(bare(by), Clocks::read().now)) did(verb, by, std::move(fields));
}

void Audit::tick() {
  const Instant now = Clocks::read().now;
  for (const auto& [who, times] : refusals_.left_out(now)) did("refused", who, {{"more", std::to_string(times)}});
  for (const auto& [who, times] : acts_.left_out(now)) did("did", who, {{"more", std::to_string(times)}});
}

int print_audit(const std::filesystem::path& folder, bool json, std::uint64_t since_ms) {
  const std::string since = since_ms == 0 ? std::string() : audit::time_of(since_ms);
  bool any = false;
  for (int number = Audit::kFilesKept; number >= 0; --number) {
    std::ifstream file(audit_file(folder, number));
    if (!file) {
      if (number == 0 && !any && ::access(audit_file(folder, 0).c_str(), F_OK) == 0) {
        std::cerr << "souk-manager: cannot read " << audit_file(folder, 0).string() << ": " << std::strerror(errno) << "; only who runs the manager may\n";
        return 2;
      }
      continue;
    }
    any = true;
    for (std::string line; std::getline(file, line);) {
      const auto entry = audit::entry_of(line);
      if (!entry || entry->time < since) continue;  // a line that was cut off by a full disk
      std::cout << (json ? audit::json_of(*entry) : line) << '\n';
    }
  }
  if (!any && !json) std::cerr << "souk-manager: there is no audit log in " << folder.string() << " yet\n";
  return std::cout.flush() ? 0 : 1;
}

}  // namespace souk
