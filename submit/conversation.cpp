#include "submit/conversation.h"

#include <gloox/tag.h>

#include <boost/asio/executor_work_guard.hpp>

#include "protocol/stanza.h"
#include "submit/render.h"

namespace souk {

using namespace std::chrono_literals;

Conversation::Conversation(Account account) {
  account.jid = account.component ? account.jid : bare(account.jid);
  link_ = std::make_unique<XmppLink>(loop_, std::move(account), XmppLink::Limits{.attempts_max = 1});
  link_->on_down = [this](const Error& why, bool) { down_ = why; };
}

Conversation::~Conversation() {
  close();
  link_->on_down = [](const Error&, bool) {};
}

bool Conversation::wait(const std::function<bool()>& ready, std::chrono::milliseconds most) {
  const auto until = Clock::now() + most;
  const auto work = boost::asio::make_work_guard(loop_);
  loop_.restart();
  while (!ready() && Clock::now() < until) loop_.run_one_until(until);
  return ready();
}

Result<Done> Conversation::open(std::chrono::milliseconds most) {
  down_.reset();
  link_->start();
  wait([this] { return link_->up() || down_; }, most);
  if (link_->up()) return Done{};
  if (down_) return *down_;
  return Error{"cannot log in", "no answer in time", "is it an XMPP server?"};
}

Conversation::Heard Conversation::ask(Stanza iq, std::chrono::milliseconds most) {
  struct Kept {
    bool done = false;
    Heard heard;
  };
  auto kept = std::make_shared<Kept>();
  const auto began = Clock::now();
  link_->request(std::move(iq), most, [kept, began](const Answer& answer) {
    kept->done = true;
    kept->heard.took = Clock::now() - began;
    if (answer) kept->heard.iq.reset(answer.iq->clone());
    else kept->heard.error = answer.error;
  });
  if (!wait([&] { return kept->done; }, most + 1s)) kept->heard.error = {"wait", "timeout", "no answer in time"};
  return std::move(kept->heard);
}

void Conversation::close() {
  if (!link_->up()) return;
  auto gone = std::make_shared<bool>(false);
  link_->stop([gone] { *gone = true; });
  wait([&] { return *gone; }, 200ms);
}

std::optional<DiscoInfo> Conversation::info(const std::string& jid, std::chrono::milliseconds most) {
  auto iq = element("iq", {}, {{"type", "get"}, {"to", jid}});
  child(*iq, "query", ns::info);
  const auto heard = ask(std::move(iq), most);
  const auto* query = heard ? heard.iq->findChild("query") : nullptr;
  if (!query) return std::nullopt;
  return info_in(*query);
}

std::vector<std::pair<std::string, std::optional<DiscoInfo>>> Conversation::infos(const std::vector<std::string>& jids, std::chrono::milliseconds most) {
  struct Kept {
    std::size_t waiting = 0;
    std::vector<std::pair<std::string, std::optional<DiscoInfo>>> all;
  };
  auto kept = std::make_shared<Kept>();
  kept->waiting = jids.size();
  for (const auto& jid : jids) kept->all.emplace_back(jid, std::nullopt);
  for (std::size_t i = 0; i < jids.size(); ++i) {
    auto iq = element("iq", {}, {{"type", "get"}, {"to", jids[i]}});
    child(*iq, "query", ns::info);
    link_->request(std::move(iq), most, [kept, i](const Answer& answer) {
      --kept->waiting;
      if (const auto* query = answer ? answer.iq->findChild("query") : nullptr) kept->all[i].second = info_in(*query);
    });
  }
  wait([&] { return kept->waiting == 0; }, most + 1s);
  return kept->all;  // a late answer may still write
}

std::vector<std::string> Conversation::items(const std::string& jid, std::chrono::milliseconds most) {
  auto iq = element("iq", {}, {{"type", "get"}, {"to", jid}});
  child(*iq, "query", ns::items);
  const auto heard = ask(std::move(iq), most);
  std::vector<std::string> all;
  if (const auto* query = heard ? heard.iq->findChild("query") : nullptr)
    for (const auto* item : query->children())
      if (item->name() == "item" && all.size() < 100) all.push_back(item->findAttribute("jid"));
  return all;
}

std::optional<GridAddress> grid_in(const DiscoInfo& info, const std::string&) {
  for (const Form& form : info.forms) {
    if (form.text("FORM_TYPE") != ns::grid) continue;
    GridAddress found{std::string(form.text("manager")), std::string(form.text("room"))};
    if (!found.manager.empty() && !found.room.empty()) return found;
  }
  return std::nullopt;
}

Result<GridAddress> find_manager(Conversation& server, const std::string& domain, const std::string& hint) {
  const std::string what = "cannot find the manager of a grid at " + (hint.empty() ? domain : hint);
  if (!hint.empty()) {
    const auto info = server.info(hint);
    if (!info) return Error{what, "nobody answers there", "is it running? Its address is `manager` in the profile it was started with"};
    const auto grid = grid_in(*info, hint);
    if (!grid) return Error{what, "what answers is no manager of a grid", "its address is `manager` in the profile it was started with"};
    return *grid;
  }
  const std::string first = "grid." + domain;  // where `souk server init` puts it; an older server may not list it
  if (const auto info = server.info(first, 3s))
    if (const auto grid = grid_in(*info, first)) return *grid;
  std::vector<std::string> asked = server.items(domain);
  std::erase_if(asked, [&](const std::string& jid) { return jid.find('@') != std::string::npos || jid == first; });
  for (const auto& [jid, info] : server.infos(asked, 3s))
    if (info)
      if (const auto grid = grid_in(*info, jid)) return *grid;
  return Error{what, "no service that the server lists is one", "is the manager running? One with an ordinary account is not listed: --manager JID"};
}

Result<Commanded> command(Conversation& server, const std::string& to, const std::string& node, const std::optional<Form>& form, const std::string& session) {
  auto iq = element("iq", {}, {{"type", "set"}, {"to", to}});
  auto& tag = child(*iq, "command", ns::commands, {{"node", node}, {"action", "execute"}});
  if (!session.empty()) tag.addAttribute("sessionid", session);
  if (form) add_form(tag, *form);
  const auto heard = server.ask(std::move(iq), 30s);
  if (!heard) return Error{"the command `" + node + "` failed", printable(heard.error.text.empty() ? heard.error.condition : heard.error.text), ""};
  const auto* done = heard.iq->findChild("command");
  if (!done) return Error{"the command `" + node + "` failed", "its answer cannot be read", ""};
  Commanded answer;
  answer.session = done->findAttribute("sessionid");
  answer.status = done->findAttribute("status");
  if (const auto* note = done->findChild("note")) answer.note = printable(note->cdata()), answer.note_type = note->findAttribute("type");
  auto read = form_in(*done);
  if (!read) return read.error();
  answer.form = std::move(read.value());
  return answer;
}

}  // namespace souk
