// Looks at this host now and then, and tells what its owner's rules make of it.
#pragma once
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "worker/facts.h"
#include "worker/policy.h"

namespace souk::worker {

constexpr std::chrono::seconds kLookEvery{2};

class Owner {
 public:
  struct Setup {
    std::map<std::string, std::string> texts;  // rules of the command line; they win over the file's
    std::filesystem::path file;                // empty: none
    int slots = 1;
  };
  /// fails: on a policy file that cannot be used, or rules that cannot be
  static Result<Rules> rules_of(const Setup& setup, std::chrono::system_clock::time_point began);

  /// `rules`: as rules_of() read them. `decided` is called from the loop, once from start() and then with each decision that is new.
  Owner(boost::asio::io_context& loop, Setup setup, Rules rules, std::chrono::system_clock::time_point began);
  std::function<void(const Decision&)> decided = [](const Decision&) {};
  std::function<int()> slots_used = [] { return 0; };

  void start();
  void stop() { timer_.cancel(); }
  /// Reads the policy file again; one that cannot be used changes nothing.
  void read_again();
  bool has_file() const { return !setup_.file.empty(); }
  const Rules& rules() const { return policy_.rules(); }
  /// Rules that its owner said from afar, in force until this ends; key -> text. An empty text: as it was started. Fails on rules that cannot be, and then changes nothing.
  Result<Done> change(const std::map<std::string, std::string>& texts);
  /// Those in force, as people write them.
  std::map<std::string, std::string> texts() const;

 private:
  struct Version {
    std::filesystem::file_time_type written{};
    std::uintmax_t size = 0;
    friend bool operator==(const Version&, const Version&) = default;
  };
  Version version() const;
  void look();
  void look_later();
  Setup setup_with(const std::map<std::string, std::string>& told) const;

  std::map<std::string, std::string> told_;  // from afar; they win
  const Setup setup_;
  const std::chrono::system_clock::time_point began_;
  Policy policy_;
  FactReader reader_;
  Version version_;
  std::optional<Decision> last_;
  boost::asio::steady_timer timer_;
  bool warned_ = false, looking_ = false;
};

}  // namespace souk::worker
