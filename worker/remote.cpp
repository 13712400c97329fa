#include "worker/remote.h"

#include <gloox/tag.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <random>

#include "protocol/stanza.h"

namespace souk::worker {

namespace {

struct Node {
  const char *name, *title;
};
constexpr Node kNodes[] = {{"status", "1. How it is"}, {"pause", "2. Pause: the machine is mine"}, {"resume", "3. Go on"}, {"limits", "4. Limits"}, {"log", "5. The last lines of its log"}, {"drain", "6. Finish what runs, and end"}};

struct Rule {
  const char *key, *label;
};
constexpr Rule kRules[] = {{"slots", "Slots in use at most"},
                           {"slots-in-use", "Slots while somebody uses the machine"},
                           {"only-idle", "Only when nobody typed for (10m)"},
                           {"max-load", "Only while others use at most so many processors (1.5)"},
                           {"hours", "Only then (Mon-Fri 18:00-08:00, Sat-Sun)"},
                           {"leave-memory", "Leave so much memory (2GiB)"},
                           {"nice", "Nice level of tasks (0 to 19)"},
                           {"grace", "How long tasks stay when a rule is broken (30s)"},
                           {"when-back", "What becomes of them then (pause, hand-back, finish)"}};

std::string new_session() {
  static std::random_device random;
  return std::to_string(random()) + std::to_string(random());
}

gloox::Tag& command_in(Stanza& answer, const std::string& node, const std::string& session, const char* status) {
  return child(*answer, "command", ns::commands, {{"node", node}, {"sessionid", session}, {"status", status}});
}

}  // namespace

Form limits_form(const LimitTexts& now, int slots, const std::string& problem) {
  Form form;
  form.title = "Limits of this worker";
  form.instructions = (problem.empty() ? std::string() : "Not done: " + problem + "\n") + "An empty field: as it was started. What is set here lasts until the worker ends. It has " + std::to_string(slots) + (slots == 1 ? " slot." : " slots.");
  for (const Rule& rule : kRules) {
    const auto at = now.find(rule.key);
    form.add(rule.key, "text-single", rule.label, {at == now.end() ? std::string() : at->second});
  }
  return form;
}

Result<LimitTexts> limits_in(const Form& form) {
  LimitTexts texts;
  for (const Rule& rule : kRules) {
    const Field* field = form.find(rule.key);
    if (!field) continue;  // a client may leave out what is empty
    if (field->values.size() > 1 || form.text(rule.key).size() > 1024) return Error{std::string("limit ") + rule.key + " refused", "it is no short line", "write one value"};
    texts[rule.key] = std::string(form.text(rule.key));
  }
  return texts;
}

Remote::Remote(XmppLink& link, Disco& disco, std::string owner, int slots)
    : link_(link), owner_(std::move(owner)), slots_(slots), registration_(link.on_iq("command", ns::commands, [this](const auto& iq, const auto& command) { take(iq, command); })) {
  std::vector<Disco::Item> items;
  for (const Node& node : kNodes) {
    items.push_back({"", node.name, node.title});
    disco.set_info(node.name, {{{"automation", "command-node", "", node.title}}, {ns::commands, ns::form}, {}});
  }
  disco.set_items(ns::commands, std::move(items));
  disco.set_info(ns::commands, {{{"automation", "command-list", "", "Commands of this worker's owner"}}, {ns::commands}, {}});
}

void Remote::done(const gloox::Tag& iq, const std::string& node, const std::string& session, const std::string& note, const Form* form, const char* kind) {
  auto answer = result_of(iq);
  gloox::Tag& tag = command_in(answer, node, session, "completed");
  if (!note.empty()) child(tag, "note", {}, {{"type", kind}}, note);
  if (form) add_form(tag, *form);
  link_.send(std::move(answer));
}

void Remote::take(const gloox::Tag& iq, const gloox::Tag& command) {
  const std::string from = iq.findAttribute("from"), node = command.findAttribute("node"), action = command.findAttribute("action");
  // A server leaves out who asks when that is the worker's own account.
  if (!from.empty() && bare(from) != owner_) {
    if (const auto left_out = strangers_.take(Instant(std::chrono::duration_cast<Duration>(std::chrono::steady_clock::now().time_since_epoch()))))
      spdlog::warn("refused command={} from=\"{}\" why=\"not its owner\"{}", printable(shortened(node, 32)), printable(shortened(from, 200)), also(*left_out));
    return link_.send(error_of(iq, "auth", "forbidden", "this worker takes commands of its owner only"));
  }
  if (iq.findAttribute("type") != "set") return link_.send(error_of(iq, "modify", "bad-request", "commands are executed by iq set"));
  if (std::none_of(std::begin(kNodes), std::end(kNodes), [&](const Node& one) { return one.name == node; }))
    return link_.send(error_of(iq, "cancel", "item-not-found", "there is no such command; there are status, pause, resume, limits, log and drain"));
  if (!hooks_.pause) return link_.send(error_of(iq, "wait", "resource-constraint", "the worker is still starting"));
  std::string session = command.findAttribute("sessionid");
  if (session.empty()) session = new_session();
  if (action == "cancel") {
    auto answer = result_of(iq);
    command_in(answer, node, session, "canceled");
    return link_.send(std::move(answer));
  }
  if (node != "status" && node != "log") spdlog::info("told by its owner command={} from=\"{}\"", node, printable(from));
  if (node == "limits") return limits(iq, session, action, command);
  if (node == "log") {
    Form form;
    form.type = "result";
    form.title = "The last lines of its log";
    std::vector<std::string> lines = hooks_.log();
    if (lines.size() > kLinesMax) lines.erase(lines.begin(), lines.end() - kLinesMax);
    for (std::string& line : lines) {
      while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.pop_back();
      line = shortened(printable(line), kLineMax);
    }
    form.add("log", "text-multi", "Log", std::move(lines));
    return done(iq, node, session, {}, &form);
  }
  if (node == "pause") hooks_.pause();
  if (node == "resume") hooks_.resume();
  if (node == "drain") hooks_.drain();
  Form form;
  form.type = "result";
  form.title = "How it is";
  std::size_t number = 0;
  for (auto& [label, text] : hooks_.status()) form.add("line" + std::to_string(++number), "text-single", label, {text});
  done(iq, node, session, node == "pause" ? "Paused" : node == "resume" ? "Goes on" : node == "drain" ? "Drains: it finishes what runs, then ends" : "", &form);
}

void Remote::limits(const gloox::Tag& iq, const std::string& session, const std::string& action, const gloox::Tag& command) {
  const auto ask = [&](const LimitTexts& texts, const std::string& problem) {
    auto answer = result_of(iq);
    gloox::Tag& tag = command_in(answer, "limits", session, "executing");
    child(child(tag, "actions", {}, {{"execute", "complete"}}), "complete");
    if (!problem.empty()) child(tag, "note", {}, {{"type", "error"}}, "Not done: " + problem);
    add_form(tag, limits_form(texts, slots_, problem));
    link_.send(std::move(answer));
  };
  const auto form = form_in(command);
  if (form && (form.value().fields.empty() || action == "prev")) return ask(hooks_.limits(), {});
  if (!form) return ask(hooks_.limits(), form.error().text());
  const auto texts = limits_in(form.value());
  if (!texts) return ask(hooks_.limits(), texts.error().text());
  if (const auto set = hooks_.set_limits(texts.value()); !set) return ask(texts.value(), set.error().text());
  Form now = limits_form(hooks_.limits(), slots_, {});
  now.type = "result";
  done(iq, "limits", session, "Set", &now);
}

}  // namespace souk::worker
