#include "manager/invitations.h"

#include <fcntl.h>
#include <gloox/tag.h>
#include <spdlog/fmt/fmt.h>
#include <spdlog/spdlog.h>
#include <sys/random.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "protocol/invitation.h"
#include "protocol/notation.h"
#include "protocol/stanza.h"

namespace souk {
namespace {

using namespace std::chrono_literals;

constexpr auto kServerMax = 20s;  // for one stage of an administration command
constexpr auto kClean = 60s;
const std::string kAdministration = "http://jabber.org/protocol/admin";

std::int64_t now_ms() { return static_cast<std::int64_t>(Clocks::read().now_ms); }

/// So many letters and digits, each of 32, from the kernel.
std::string random_letters(std::size_t count) {
  constexpr std::string_view letters = "abcdefghijkmnpqrstuvwxyz23456789";
  std::string bytes(count, '\0');
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) throw std::system_error(errno, std::generic_category(), "getrandom");
  for (char& c : bytes) c = letters[static_cast<unsigned char>(c) & 31];
  return bytes;
}

std::string day_and_time(std::int64_t ms) {
  const std::time_t seconds = ms / 1000;
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  char text[32];
  return {text, std::strftime(text, sizeof text, "%Y-%m-%d %H:%M UTC", &parts)};
}

std::string local_part(const std::string& jid) { return jid.substr(0, jid.find('@')); }

bool account_name(std::string_view name) {
  const auto good = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-'; };
  return !name.empty() && name.size() <= 64 && std::all_of(name.begin(), name.end(), good) && name[0] != '.' && name[0] != '-' && name[0] != '_' && !name.starts_with(kInvitedPrefix) && !name.starts_with(kWorkerPrefix) &&
         name != "manager" && name != "worker" && name != "admin";
}

const char* state_of(const InvitationBook& book, const std::string& id, const Invitation& one) {
  if (book.open(id, now_ms())) return "open";
  return one.revoked ? "revoked" : now_ms() >= one.expires_ms ? "expired" : "used up";
}

}  // namespace

Result<std::unique_ptr<Invitations>> Invitations::open(boost::asio::io_context& loop, XmppLink& link, Audit& audit, Setup setup) {
  InvitationBook book;
  std::error_code failure;
  if (std::filesystem::exists(setup.file, failure)) {
    std::ifstream in(setup.file, std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    auto read = InvitationBook::read(text.str());
    if (!read) return Error{read.error().what + " in " + setup.file.string(), read.error().why, read.error().remedy};
    book = std::move(read.value());
  }
  return std::make_unique<Invitations>(loop, link, audit, std::move(setup), std::move(book));
}

Invitations::Invitations(boost::asio::io_context& loop, XmppLink& link, Audit& audit, Setup setup, InvitationBook book)
    : loop_(loop), link_(link), audit_(audit), setup_(std::move(setup)), book_(std::move(book)), timer_(loop) {
  tick();
}

void Invitations::tick() {
  timer_.expires_after(kClean);
  timer_.async_wait([this](auto error) {
    if (error) return;
    clean();
    tick();
  });
}

/// On disk when it returns: what was said to somebody is known after a crash too.
Result<Done> Invitations::save() {
  const std::string fresh = setup_.file.string() + ".new", text = book_.text();
  const auto failed = [&](int fd) {
    const Error error{"cannot keep the invitation", std::strerror(errno), "the manager's disk may be full"};
    if (fd >= 0) ::close(fd);
    ::unlink(fresh.c_str());
    return error;
  };
  const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (fd < 0) return failed(fd);
  for (std::size_t at = 0; at < text.size();) {
    const auto wrote = ::write(fd, text.data() + at, text.size() - at);
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote <= 0) return failed(fd);
    at += static_cast<std::size_t>(wrote);
  }
  if (::fsync(fd) != 0) return failed(fd);
  ::close(fd);
  if (::rename(fresh.c_str(), setup_.file.c_str()) != 0) return failed(-1);
  return Done{};
}

void Invitations::answer(const gloox::Tag& iq, const Form& form, const std::string& status) {
  auto result = result_of(iq);
  const std::string& node = iq.findChild("command")->findAttribute("node");
  auto& command = child(*result, "command", ns::commands, {{"node", node}, {"sessionid", node}, {"status", status}});
  if (status == "executing") {
    auto& actions = child(command, "actions", {}, {{"execute", "complete"}});
    child(actions, "complete");
  }
  add_form(command, form);
  link_.send(std::move(result));
}

void Invitations::refuse(const gloox::Tag& iq, const std::string& why) {
  const std::string& node = iq.findChild("command")->findAttribute("node");
  if (iq.findChild("command")->findChild(node, "xmlns", ns::job)) return link_.send(error_of(iq, "auth", "forbidden", why));  // a program reads no notes
  auto result = result_of(iq);
  auto& command = child(*result, "command", ns::commands, {{"node", node}, {"sessionid", node}, {"status", "completed"}});
  child(command, "note", {}, {{"type", "error"}}, why);
  link_.send(std::move(result));
}

/// And the audit log has it.
void Invitations::refuse(const gloox::Tag& iq, const Asker& asker, const std::string& why) {
  audit_.refused(iq.findChild("command")->findAttribute("node"), asker.jid, why);
  refuse(iq, why);
}

bool Invitations::command(const gloox::Tag& iq, const gloox::Tag& command, const Asker& asker) {
  const std::string& node = command.findAttribute("node");
  const bool ours = domain_of(asker.owner) == setup_.domain;
  const std::string name = local_part(asker.owner);
  const bool invited = ours && book_.stands_for_one(name);
  if (node == "join") {
    if (!invited) return refuse(iq, asker, "only who comes with an invitation joins; you have an account already"), true;
  } else if (ours && name.starts_with(kInvitedPrefix)) {
    return refuse(iq, asker, "this account is an invitation: it can do nothing but join"), true;
  } else if (ours && name.starts_with(kWorkerPrefix)) {
    return refuse(iq, asker, "this account was made for a worker: it runs tasks and may ask for nothing"), true;
  }
  if (node != "join" && node != "invite" && node != "invitations" && node != "revoke") return false;
  if (node != "join" && !asker.admin) return refuse(iq, asker, "only admins invite (souk-manager --admin)"), true;
  const auto read = form_in(command);
  if (!read) return refuse(iq, read.error().text()), true;
  const Form& form = read.value();
  if (node == "join") join(iq, form, asker, name);
  else if (node == "invite") invite(iq, form, asker);
  else if (node == "revoke") revoke(iq, form, asker);
  else list(iq, form, asker);
  return true;
}

void Invitations::invite(const gloox::Tag& iq, const Form& given, const Asker& asker) {
  if (given.fields.empty()) {
    Form form;
    form.title = "Invite a worker or a user";
    form.instructions = "Makes a link that lets somebody in who has no account";
    form.add("role", "list-single", "For a worker or a user", {"worker"});
    form.fields.back().options = {{"a machine that works", "worker"}, {"a person who submits", "user"}};
    form.add("expires", "text-single", "Good for how long (12h, 7d)", {"7d"}).add("uses", "text-single", "For how many accounts", {"1"});
    return answer(iq, form, "executing");
  }
  Invitation one;
  const std::string role(given.text("role"));
  if (role != "worker" && role != "user") return refuse(iq, "`role` is '" + printable(shortened(role, 40)) + "'; it can be worker or user");
  one.role = role == "worker" ? Invitation::Role::worker : Invitation::Role::user;
  const std::string lasts(given.text("expires").empty() ? "7d" : given.text("expires")), uses(given.text("uses").empty() ? "1" : given.text("uses"));
  const auto duration = parse_duration(lasts);
  if (!duration) return refuse(iq, "`expires`: " + duration.error().text());
  const auto [end, failure] = std::from_chars(uses.data(), uses.data() + uses.size(), one.uses);
  if (failure != std::errc{} || end != uses.data() + uses.size()) return refuse(iq, "`uses` is no whole number");
  one.by = asker.owner;
  one.made_ms = now_ms();
  one.expires_ms = one.made_ms + duration.value().count();
  const std::string id = std::string(kInvitedPrefix) + random_letters(8), secret = random_letters(32);
  if (const auto added = book_.add(id, one); !added) return refuse(iq, added.error().text());
  if (const auto saved = save(); !saved) {
    (void)!book_.revoke(id);
    book_.removed(id);
    return refuse(iq, saved.error().text());
  }
  auto kept = std::shared_ptr<gloox::Tag>(iq.clone());
  add_account(id, secret, [this, kept, asker, id, secret, one](const std::optional<Error>& why) {
    if (why) {
      (void)!book_.revoke(id);
      book_.removed(id);
      (void)!save();
      return refuse(*kept, asker, why->text());
    }
    audit_.did("invite", asker.jid, {{"id", id}, {"role", role_name(one.role)}, {"uses", std::to_string(one.uses)}, {"expires", day_and_time(one.expires_ms)}});
    spdlog::info("invited id={} role={} by={} uses={} expires=\"{}\"", id, role_name(one.role), one.by, one.uses, day_and_time(one.expires_ms));
    const InvitationLink link{setup_.domain, id, secret, setup_.manager};
    Form form;
    form.type = "result";
    form.title = "Invitation " + id;
    form.add("id", "text-single", "Its name, to revoke it", {id}).add("link", "text-single", "Link", {link.text()});
    form.add("command", "text-single", "To paste on the machine", {std::string(one.role == Invitation::Role::worker ? "souk-worker join" : "souk join") + " '" + link.text() + "'"});
    form.add("expires", "text-single", "Good until", {day_and_time(one.expires_ms)}).add("uses", "text-single", "For so many accounts", {std::to_string(one.uses)});
    answer(*kept, form);
  });
}

void Invitations::list(const gloox::Tag& iq, const Form& given, const Asker&) {
  const bool json = given.text("format") == "json";
  Form form;
  form.type = "result";
  form.title = "Invitations";
  std::vector<std::string> lines;
  for (auto at = book_.all().rbegin(); at != book_.all().rend() && lines.size() < 500; ++at) {
    const auto& [id, one] = *at;
    if (json) {
      const nlohmann::json line = {{"id", id}, {"role", role_name(one.role)}, {"by", one.by}, {"state", state_of(book_, id, one)}, {"made_ms", one.made_ms}, {"expires_ms", one.expires_ms}, {"uses", one.uses}, {"accounts", one.accounts}};
      lines.push_back(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
    } else {
      std::string accounts;
      for (const auto& account : one.accounts) accounts += (accounts.empty() ? "" : " ") + account;
      lines.push_back(fmt::format("{}  {:6}  {:7}  {}/{} used  until {}  by {}{}", id, role_name(one.role), state_of(book_, id, one), one.accounts.size() + one.pending.size(), one.uses, day_and_time(one.expires_ms), one.by, accounts.empty() ? "" : ": " + accounts));
    }
  }
  if (lines.empty() && !json) lines.push_back("none yet");
  form.add("invitations", "text-multi", "Invitations", std::move(lines));
  answer(iq, form);
}

void Invitations::revoke(const gloox::Tag& iq, const Form& given, const Asker& asker) {
  if (given.fields.empty()) {
    Form form;
    form.title = "Revoke an invitation";
    form.add("id", "text-single", "Its name").add("accounts", "boolean", "Take away the accounts that it made, too", {"0"});
    return answer(iq, form, "executing");
  }
  const std::string id(given.text("id"));
  if (const auto revoked = book_.revoke(id); !revoked) return refuse(iq, asker, printable(revoked.error().text()));
  std::vector<std::string> names{id};
  const bool all = is_true(given.text("accounts"));
  if (all) names.insert(names.end(), book_.all().at(id).accounts.begin(), book_.all().at(id).accounts.end());
  if (const auto saved = save(); !saved) return refuse(iq, saved.error().text());
  std::string taken_away;
  for (std::size_t at = 1; at < names.size(); ++at) taken_away += (at > 1 ? " " : "") + names[at];
  audit_.did("revoke", asker.jid, {{"id", id}, {"accounts", taken_away}});
  spdlog::info("invitation revoked id={} by={} accounts={}", id, asker.owner, all ? names.size() - 1 : 0);
  // From here on nobody comes in by it, whatever becomes of its account: use() refuses.
  auto kept = std::shared_ptr<gloox::Tag>(iq.clone());
  delete_accounts(names, [this, kept, id, names](const std::optional<Error>& why) {
    if (why) return refuse(*kept, "it is revoked, but " + why->text());
    book_.removed(id);
    (void)!save();
    Form form;
    form.type = "result";
    form.title = "Revoked " + id;
    form.add("id", "text-single", "Revoked", {id}).add("accounts", "text-single", "Accounts taken away", {std::to_string(names.size() - 1)});
    answer(*kept, form);
  });
}

/// Whoever has the link can ask as often as they like, so what an account costs is looked at first: is it good, is the name free, is it not too much at once?
void Invitations::join(const gloox::Tag& iq, const Form& given, const Asker& asker, const std::string& id) {
  const auto role = book_.check(id, now_ms());
  if (!role) return refuse(iq, asker, role.error().text());
  const bool worker = role.value() == Invitation::Role::worker;
  const auto tries = static_cast<std::uint64_t>(book_.all().at(id).uses) * 2 + 10;  // a minute: a class may come at once, and mistype
  if (joining_ >= kJoiningMax || paces_.take(id, tries, Clocks::read().now) > Duration(0)) return refuse(iq, asker, "too many come with this invitation at once: try again in a minute");
  const std::string name = worker ? std::string(kWorkerPrefix) + random_letters(10) : std::string(given.text("name"));
  if (!worker && !account_name(name))
    return refuse(iq, asker, "'" + printable(shortened(name, 64)) + "' is no name for an account here: 1 to 64 of a-z 0-9 . _ -, beginning with a letter or digit, and none that the grid uses");
  const std::string jid = name + '@' + setup_.domain;
  if (const std::string why = setup_.taken(jid); !why.empty()) {
    audit_.refused("join", asker.jid, "as " + name + ", which is " + why);
    return refuse(iq, "the account cannot be made: the name is taken; choose another name");  // by what is nobody's business who is not in
  }
  if (const auto used = book_.use(id, name, now_ms()); !used) return refuse(iq, asker, used.error().text());
  if (const auto saved = save(); !saved) {
    book_.give_back(id, name);
    return refuse(iq, saved.error().text());
  }
  const std::string password = random_letters(32);
  auto kept = std::shared_ptr<gloox::Tag>(iq.clone());
  ++joining_;
  add_account(name, password, [this, kept, asker, id, name, jid, password](const std::optional<Error>& why) {
    --joining_;
    if (why) {
      book_.give_back(id, name);
      (void)!save();
      return refuse(*kept, asker, why->text());
    }
    if (!book_.all().contains(id) || book_.all().at(id).revoked) {  // meanwhile
      delete_accounts({name}, [this, id, name](const auto& failure) {
        if (failure) return spdlog::warn("an account that a revoked invitation made is still there account={} why=\"{}\"", name, failure->text());
        book_.give_back(id, name);
        (void)!save();
      });
      return refuse(*kept, asker, "the invitation was revoked just now");
    }
    book_.made(id, name);
    (void)!save();  // not on disk, it counts as one that may not be its own
    audit_.did("join", asker.jid, {{"id", id}, {"account", jid}, {"role", role_name(book_.all().at(id).role)}});
    spdlog::info("invitation used id={} account={}", id, jid);
    Form form;
    form.type = "result";
    form.add("jid", "jid-single", "", {jid}).add("password", "text-private", "", {password});
    form.add("manager", "jid-single", "", {setup_.manager}).add("room", "jid-single", "", {setup_.room}).add("role", "text-single", "", {role_name(book_.all().at(id).role)});
    answer(*kept, form);
  });
}

void Invitations::banned(const std::string& jid) {
  if (domain_of(jid) != setup_.domain) return;
  const std::string id = book_.maker(local_part(jid));
  if (id.empty() || !book_.open(id, now_ms())) return;
  (void)!book_.revoke(id);
  (void)!save();
  audit_.did("revoke", setup_.manager, {{"id", id}, {"why", jid + " is banned, who came by it"}});
  spdlog::info("invitation revoked id={} why=\"{} is banned, who came by it\"", id, jid);
  remove(id);
}

/// Its own account; what it made stays.
void Invitations::remove(const std::string& id) {
  if (!link_.up() || !removing_.insert(id).second) return;
  delete_accounts({id}, [this, id](const std::optional<Error>& why) {
    removing_.erase(id);
    if (why) return spdlog::warn("an invitation that ended has still its account id={} why=\"{}\"", id, why->text());
    book_.removed(id);
    (void)!save();
  });
}

void Invitations::clean() {
  if (!link_.up()) return;
  book_.forget(now_ms());
  for (const auto& id : book_.to_remove(now_ms())) remove(id);
}

void Invitations::administrate(const std::string& what, Form form, Told told) {
  const std::string node = kAdministration + "#" + what;
  const auto request = [this, node](const std::string& session, const Form* submitted) {
    auto iq = element("iq", {}, {{"type", "set"}, {"to", setup_.domain}});
    if (setup_.component) iq->addAttribute("from", setup_.manager);
    auto& command = child(*iq, "command", ns::commands, {{"node", node}});
    if (session.empty()) command.addAttribute("action", "execute");
    else command.addAttribute("sessionid", session);
    if (submitted) add_form(command, *submitted);
    return iq;
  };
  const auto refused = [what](const StanzaError& error) {
    if (error.condition == "conflict") return Error{"the account cannot be made", "there is one of that name", "choose another name"};
    if (error.condition == "forbidden" || error.condition == "not-allowed" || error.condition == "item-not-found" || error.condition == "service-unavailable" || error.condition == "feature-not-implemented")
      return Error{"the server does not let the manager make or remove accounts (" + error.condition + ")", "",
                   "`souk server init` sets it: Prosody: admin_adhoc, and the manager among `admins` of the host; ejabberd: mod_configure, and access `configure`. Elsewhere make accounts by hand, for `souk login`"};
    return Error{"the server failed at " + what, error.text.empty() ? error.condition : printable(error.text), "its log may tell why"};
  };
  link_.request(request("", nullptr), kServerMax, [this, request, refused, what, form = std::move(form), told = std::move(told)](const Answer& first) {
    if (!first) return told(refused(first.error));
    const gloox::Tag* command = first.iq->findChild("command");
    const std::string session = command ? command->findAttribute("sessionid") : "";
    if (session.empty()) return told(Error{"the server failed", "it did not begin the command", "its log may tell why"});
    link_.request(request(session, &form), kServerMax, [refused, told, what](const Answer& second) {
      // It let us begin, so this is about the account: there is none of that name (any more).
      if (!second && what == "delete-user" && second.error.condition == "item-not-found") return told(std::nullopt);
      if (!second) return told(refused(second.error));
      const gloox::Tag* done = second.iq->findChild("command");
      const gloox::Tag* note = done ? done->findChild("note") : nullptr;
      if (!done || done->findAttribute("status") != "completed") return told(Error{"the server failed", "it did not end the command", "its log may tell why"});
      if (note && note->findAttribute("type") == "error") return told(Error{"the server refused", printable(shortened(note->cdata(), 200)), ""});
      told(std::nullopt);
    });
  });
}

void Invitations::add_account(const std::string& name, const std::string& password, Told told) {
  Form form;
  form.type = "submit";
  form.add("FORM_TYPE", "hidden", "", {kAdministration}).add("accountjid", "jid-single", "", {name + "@" + setup_.domain});
  form.add("password", "text-private", "", {password}).add("password-verify", "text-private", "", {password});
  administrate("add-user", std::move(form), std::move(told));
}

/// One after the other, since ejabberd 23.01 deletes none of several when one is gone already.
void Invitations::delete_accounts(std::vector<std::string> names, Told told) {
  if (names.empty()) return told(std::nullopt);
  Form form;
  form.type = "submit";
  form.add("FORM_TYPE", "hidden", "", {kAdministration}).add("accountjids", "jid-multi", "", {names.front() + "@" + setup_.domain});
  names.erase(names.begin());
  administrate("delete-user", std::move(form), [this, names = std::move(names), told = std::move(told)](const std::optional<Error>& why) mutable {
    if (why) return told(why);
    delete_accounts(std::move(names), std::move(told));
  });
}

}  // namespace souk
