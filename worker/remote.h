// The owner's remote control: Ad-Hoc Commands (XEP-0050) of the worker itself, for any chat client of its owner, and nobody else's.
#pragma once
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "protocol/disco.h"
#include "protocol/form.h"
#include "protocol/result.h"
#include "protocol/sparing.h"
#include "protocol/xmpp_link.h"

namespace souk::worker {

/// What its owner may change while it runs, as `limits` shows it: key -> text, as a policy file has them (worker/policy.h). Empty: as it was started.
using LimitTexts = std::map<std::string, std::string>;

/// The form of `limits`; what is in force stands in its fields.
Form limits_form(const LimitTexts& now, int slots, const std::string& problem);
/// What somebody filled in. Fails on more than one line in a field.
Result<LimitTexts> limits_in(const Form& form);

class Remote {
 public:
  static constexpr std::size_t kLinesMax = 50, kLineMax = 300;  // of the log, and bytes of each
  struct Hooks {
    std::function<void()> pause, resume, drain;
    std::function<std::vector<std::pair<std::string, std::string>>()> status;  // label, text
    std::function<LimitTexts()> limits;
    std::function<Result<Done>(const LimitTexts&)> set_limits;
    std::function<std::vector<std::string>()> log;
  };
  /// owner: a bare JID. All outlive this.
  Remote(XmppLink& link, Disco& disco, std::string owner, int slots);
  /// Until they are set, every command is refused.
  void set_hooks(Hooks hooks) { hooks_ = std::move(hooks); }

 private:
  void take(const gloox::Tag& iq, const gloox::Tag& command);
  void limits(const gloox::Tag& iq, const std::string& session, const std::string& action, const gloox::Tag& command);
  void done(const gloox::Tag& iq, const std::string& node, const std::string& session, const std::string& note, const Form* form = nullptr, const char* kind = "info");

  XmppLink& link_;
  const std::string owner_;
  const int slots_;
  Hooks hooks_;
  Sparing strangers_;  // what they are refused
  Registration registration_;
};

}  // namespace souk::worker
