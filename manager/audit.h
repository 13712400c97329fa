// The audit log: who did what, and what was refused to whom, in `audit.log` of the manager's state folder.
#pragma once
#include <filesystem>
#include <string>
#include <string_view>

#include "manager/audit_lines.h"

namespace souk {

class Audit {
 public:
  static constexpr std::uint64_t kFileMax = 8u << 20;  // bytes; then it becomes audit.log.1, and so on
  static constexpr int kFilesKept = 4;                 // beside the newest

  explicit Audit(std::filesystem::path folder) : folder_(std::move(folder)) {}
  ~Audit();
  Audit(const Audit&) = delete;
  /// `by` comes first of the fields. What cannot be written is in the manager's log.
  void did(std::string_view verb, const std::string& by, audit::Fields fields);
  /// The same of what anybody may do as often as they like: bounded for each person and in all, but for admins; what is left out is counted.
  void asked(std::string_view verb, const std::string& by, bool admin, audit::Fields fields);
  /// Bounded in the same way.
  void refused(std::string_view what, const std::string& by, const std::string& why);
  /// Now and then.
  void tick();

 private:
  void write(const std::string& line);
  bool open();

  const std::filesystem::path folder_;
  audit::Flood refusals_, acts_{120, 1200};
  int file_ = -1;
  std::uint64_t size_ = 0;
  bool failed_ = false;
};

/// Prints what is in the folder, the oldest first: as lines, or one JSON object each. since_ms: 1970; 0: all.
/// yields: the exit code
int print_audit(const std::filesystem::path& folder, bool json, std::uint64_t since_ms);

}  // namespace souk
