#include "manager/commands.h"

#include <gloox/tag.h>
#include <malloc.h>
#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <random>

#include "manager/forms.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"
#include "protocol/stanza_router.h"

namespace souk {

namespace {

struct Node {
  const char *name, *title;
};
constexpr Node kNodes[] = {{"submit", "1. Submit a job"}, {"status", "2. Status of your jobs"}, {"results", "3. Results of a job"},
                           {"cancel", "4. Cancel a job"}, {"workers", "5. Workers in the market"}, {"why", "6. Why a job or task waits or failed"},
                           {"hold", "7. Hold a job back"}, {"release", "8. Release a held job"}, {"rerun", "9. Run again what failed of a job"}};

std::string node_names() {
  std::string names;
  for (const Node& node : kNodes) names += (names.empty() ? "" : ", ") + std::string(node.name);
  return names;
}

/// For programs only: chat clients ban in the room.
const std::string kBan = "ban";

bool known(const std::string& node) {
  return node == kBan || std::any_of(std::begin(kNodes), std::end(kNodes), [&](const Node& n) { return n.name == node; });
}

constexpr std::size_t kKeyMax = 100;
const Error kKeyTooLong{"key", "over 100 bytes", ""};

std::string new_id() {
  static std::random_device random;
  return fmt::format("{:08x}{:08x}", random(), random());
}

/// A <command/> answer; XEP-0050 §4.1. The iq is answered by exactly one of these or an error.
struct Reported {
  Stanza iq;
  gloox::Tag* command;
};
Reported answer_to(const gloox::Tag& iq, const std::string& node, const std::string& session, const std::string& status) {
  auto result = result_of(iq);
  gloox::Tag& command = child(*result, "command", ns::commands, {{"node", node}, {"sessionid", session}, {"status", status}});
  return {std::move(result), &command};
}

/// Bytes of text in an element and below; how deep it is the stream's parser bounds.
std::size_t weight(const gloox::Tag& tag) {
  std::size_t bytes = 64 + tag.cdata().size();
  for (const gloox::Tag* part : tag.children()) bytes += weight(*part);
  return bytes;
}

std::string type_of(const std::string& condition) {
  if (condition == "forbidden" || condition == "not-allowed") return "auth";
  if (condition == "resource-constraint") return "wait";
  if (condition == "bad-request" || condition == "not-acceptable") return "modify";
  return "cancel";
}

}  // namespace

class Commands::Ticket {
 public:
  Ticket(std::shared_ptr<Unanswered> of, std::string owner, std::uint64_t bytes) : of_(std::move(of)), owner_(std::move(owner)) {
    of_->requests.take(owner_, 1);
    add(bytes);
  }
  ~Ticket() {
    of_->requests.give_back(owner_, 1);
    of_->bytes.give_back(owner_, bytes_);
  }
  Ticket(const Ticket&) = delete;
  void add(std::uint64_t bytes) {
    of_->bytes.take(owner_, bytes);
    bytes_ += bytes;
  }

 private:
  std::shared_ptr<Unanswered> of_;
  std::string owner_;
  std::uint64_t bytes_ = 0;
};

Commands::Commands(boost::asio::io_context& loop, XmppLink& link, Disco& disco, Grid& grid, Rules rules)
    : loop_(loop), link_(link), grid_(grid), rules_(std::move(rules)), open_(std::make_shared<Unanswered>(Unanswered{Space(kRequestsMax), Space(rules_.requests_max)})),
      registration_(link.on_iq("command", ns::commands, [this](const auto& iq, const auto& command) { on_command(iq, command); })),
      aside_(loop) {
  std::vector<Disco::Item> items;
  for (const Node& node : kNodes) {
    items.push_back({"", node.name, node.title});
    disco.set_info(node.name, {{{"automation", "command-node", "", node.title}}, {ns::commands, ns::form}, {}});
  }
  for (const Node& node : {Node{"invite", "10. Invite a worker or a user"}, {"invitations", "11. Invitations"}, {"revoke", "12. Revoke an invitation"}}) {  // manager/invitations; for admins
    items.push_back({"", node.name, node.title});
    disco.set_info(node.name, {{{"automation", "command-node", "", node.title}}, {ns::commands, ns::form}, {}});
  }
  disco.set_items(ns::commands, std::move(items));
  disco.set_info(ns::commands, {{{"automation", "command-list", "", "Commands of the grid"}}, {ns::commands}, {}});
}

void Commands::on_command(const gloox::Tag& iq, const gloox::Tag& command) {
  Asker asker;
  asker.jid = iq.findAttribute("from");
  asker.owner = bare(asker.jid);
  const std::string node = command.findAttribute("node");
  // A room service hands on what one occupant asks another, in the name that the asker has there: who that is, and what they may, nobody can know.
  if (asker.owner == rules_.room) return link_.send(error_of(iq, "auth", "forbidden", "a name in the room stands for nobody here: ask the manager's own address, from yours"));
  if (iq.findAttribute("type") != "set") return link_.send(error_of(iq, "modify", "bad-request", "commands are executed by iq set"));
  asker.admin = rules_.rulebook.now().decide(asker.owner, Role::admin).allowed;
  if (elsewhere(iq, command, asker)) return;
  if (!known(node)) return link_.send(error_of(iq, "cancel", "item-not-found", "there is no command '" + node + "'; there are " + node_names()));
  const gloox::Tag* payload = command.findChild(node, "xmlns", ns::job);
  if (std::string why; !may(asker, node, why)) {
    rules_.audit.refused(node, asker.jid, why);
    if (payload) return link_.send(error_of(iq, "auth", "forbidden", why));
    auto [result, tag] = answer_to(iq, node, "refused", "completed");  // <forbidden/> would hide the reason in some clients
    child(*tag, "note", {}, {{"type", "error"}}, why);
    return link_.send(std::move(result));
  }
  expire();
  const std::uint64_t bytes = 2 * weight(command);  // as it came, and as what it says
  if (open_->requests.room(asker.owner, 1) != Space::Room::yes || open_->bytes.room(asker.owner, bytes) != Space::Room::yes)
    return link_.send(error_of(iq, "wait", "resource-constraint",
                               fmt::format("the manager has {} requests of yours to answer, {} in all: wait for answers before you send more", open_->requests.used_by(asker.owner), open_->requests.used())));
  if (node != "submit" && link_.queued() > kAnswersMax)
    return link_.send(error_of(iq, "wait", "resource-constraint", "the server is slow to take the manager's answers: ask again in a moment"));
  auto ticket = std::make_shared<Ticket>(open_, asker.owner, bytes);
  const std::string owner = asker.owner;
  turns_.push(owner, {std::shared_ptr<gloox::Tag>(iq.clone()), std::move(asker), std::move(ticket)});
  work_soon();
}

/// What each command asks of whoever gives it; fills in what else they may.
bool Commands::may(Asker& asker, const std::string& node, std::string& why) const {
  const Policy& policy = rules_.rulebook.now();
  const Verdict admin = policy.decide(asker.owner, Role::admin);
  asker.admin = admin.allowed;
  asker.sees = admin.allowed || policy.decide(asker.owner, Role::watcher).allowed;
  if (node == kBan) {
    if (!admin.allowed) why = "only admins of the grid may do that: " + admin.rule;
    return admin.allowed;
  }
  if ((node == "status" || node == "workers") && asker.sees) return true;
  const Verdict verdict = policy.decide(asker.owner, Role::submitter);
  if (!verdict.allowed) why = "this grid takes no jobs of " + asker.owner + (policy.from_file() ? ": " : "; ") + verdict.rule;
  return verdict.allowed;
}

/// What somebody was not allowed, or had no room for; that a job does not exist, or waits for the disk, is no matter for the audit log.
void Commands::refused(const std::string& node, const Asker& asker, const Refusal& refusal) {
  if (refusal.condition == "forbidden" || refusal.condition == "not-allowed" || refusal.condition == "not-acceptable" || refusal.condition == "resource-constraint") rules_.audit.refused(node, asker.jid, refusal.text);
}

// Requests are answered owner by owner in turn, a slice of them in each turn of the loop: whoever sends a thousand at once keeps neither others
// nor the workers waiting.
void Commands::work_soon() {
  if (std::exchange(working_, true)) return;
  boost::asio::post(loop_, [this] { work(); });
}

void Commands::work() {
  constexpr std::chrono::milliseconds slice{2};
  const auto until = std::chrono::steady_clock::now() + slice;
  do {
    const Asked asked = turns_.pop();
    ticket_ = asked.ticket;
    if (!call_guarded("command", [&] { perform(*asked.iq, asked.asker); })) link_.send(error_of(*asked.iq, "wait", "internal-server-error", "the manager failed at it; its log has more"));
    ticket_.reset();
  } while (!turns_.empty() && std::chrono::steady_clock::now() < until);
  working_ = false;
  if (!turns_.empty()) work_soon();
}

void Commands::perform(const gloox::Tag& iq, const Asker& asker) {
  const gloox::Tag& command = *iq.findChild("command", "xmlns", ns::commands);
  const std::string node = command.findAttribute("node"), id = command.findAttribute("sessionid");
  if (command.findAttribute("action") == "cancel")
    if (const auto upload = uploads_.find(id); upload != uploads_.end() && upload->second.jid == asker.jid) {
      uploads_.erase(upload);
      return link_.send(std::move(answer_to(iq, node, id, "canceled").iq));
    }
  if (const gloox::Tag* payload = command.findChild(node, "xmlns", ns::job)) return on_payload(iq, command, *payload, asker);
  on_form(iq, command, asker);
}

/// What an answer needs of a request, which is gone when the answer comes; the request counts as unanswered for as long as it lives.
std::shared_ptr<gloox::Tag> Commands::keep(const gloox::Tag& iq) const {
  struct Kept {
    gloox::Tag tag{"iq"};
    std::shared_ptr<Ticket> ticket;
  };
  auto kept = std::make_shared<Kept>();
  kept->ticket = ticket_;
  for (const char* name : {"to", "from", "id", "type"}) kept->tag.addAttribute(name, iq.findAttribute(name));
  return {kept, &kept->tag};
}

// ---- Programs --------------------------------------------------------------------------------------------------------------------

void Commands::on_payload(const gloox::Tag& iq, const gloox::Tag& command, const gloox::Tag& payload, const Asker& asker) {
  const std::string node = command.findAttribute("node");
  const auto malformed = [&](const Error& error) { link_.send(error_of(iq, "modify", "bad-request", error.text())); };
  const auto reply = [this, kept = keep(iq), node, asker](const auto& answer) {
    if (const auto* refusal = std::get_if<Refusal>(&answer)) refused(node, asker, *refusal);
    if (const auto* refusal = std::get_if<Refusal>(&answer)) return link_.send(error_of(*kept, type_of(refusal->condition), refusal->condition, refusal->text));
    auto [result, tag] = answer_to(*kept, node, "", "completed");
    add_payload(*tag, node, ns::job, std::get<0>(answer), {{"version", SOUK_VERSION}});
    link_.send(std::move(result));
  };
  if (node == "submit") {
    wire::SubmitRequest request;
    if (const auto read = payload_in(payload, request); !read) return malformed(read.error());
    if (request.key().size() > kKeyMax) return malformed(kKeyTooLong);
    if (request.more() || !request.part().empty()) return on_upload(iq, command, request, asker);
    const auto job = std::make_shared<wire::Job>(std::move(*request.mutable_job()));
    const std::size_t size = job->ByteSizeLong();
    std::shared_ptr<Ticket> ticket;  // of what it became when it was inflated, where that waits beside the loop
    if (size >= kAsideFrom) {
      if (const auto room = open_->bytes.room(asker.owner, size); room != Space::Room::yes) return no_room(iq, asker, room == Space::Room::never);
      ticket = std::make_shared<Ticket>(open_, asker.owner, size);
    }
    return on_whole(iq, "", asker, request, std::move(ticket), size, [job](wire::Job& whole) { return whole.Swap(job.get()), Done{}; });
  }
  if (node == "status") {
    wire::StatusRequest request;
    if (const auto read = payload_in(payload, request); !read) return malformed(read.error());
    return grid_.status(asker, request, reply);
  }
  if (node == kBan) {
    wire::BanRequest request;
    if (const auto read = payload_in(payload, request); !read) return malformed(read.error());
    return grid_.ban(asker, request, reply);
  }
  if (node == "results") {
    wire::ResultsRequest request;
    if (const auto read = payload_in(payload, request); !read) return malformed(read.error());
    return grid_.results(asker, request, reply);
  }
  if (node == "cancel") {
    wire::CancelRequest request;
    if (const auto read = payload_in(payload, request); !read) return malformed(read.error());
    return grid_.cancel(asker, request, reply);
  }
  if (node == "hold" || node == "release") {
    wire::JobsRequest request;
    if (const auto read = payload_in(payload, request); !read) return malformed(read.error());
    return node == "hold" ? grid_.hold(asker, request, reply) : grid_.release(asker, request, reply);
  }
  if (node == "rerun") {
    wire::RerunRequest request;
    if (const auto read = payload_in(payload, request); !read) return malformed(read.error());
    if (request.key().size() > kKeyMax) return malformed(kKeyTooLong);
    return grid_.rerun(asker, request, reply);
  }
  if (node == "why") {
    wire::WhyRequest request;
    if (const auto read = payload_in(payload, request); !read) return malformed(read.error());
    return grid_.why(asker, request, reply);
  }
  wire::WorkersRequest request;
  if (const auto read = payload_in(payload, request); !read) return malformed(read.error());
  grid_.workers(asker, reply);
}

/// never: not when others gave back what they have either.
void Commands::no_room(const gloox::Tag& iq, const Asker& asker, bool never) {
  const auto mib = [](std::uint64_t bytes) { return static_cast<double>(bytes) / (1 << 20); };
  if (never)
    return link_.send(error_of(iq, "modify", "not-acceptable", fmt::format("the job is larger than the {:.1f} MiB of requests that the manager takes of one person at a time (by its --memory-max): submit it in several, or put its data "
                                                                           "where the workers can read it", mib(open_->bytes.most_each()))));
  link_.send(error_of(iq, "wait", "resource-constraint", fmt::format("too many large jobs are being submitted at once ({:.0f} MiB so far, {:.0f} MiB of yours): wait until they were taken", mib(open_->bytes.used()),
                                                                     mib(open_->bytes.used_by(asker.owner)))));
}

/// A job in parts: one part a stage.
void Commands::on_upload(const gloox::Tag& iq, const gloox::Tag& command, wire::SubmitRequest& request, const Asker& asker) {
  std::string id = command.findAttribute("sessionid");
  const bool first = id.empty();
  if (first) id = new_id();
  else if (const auto known = uploads_.find(id); known == uploads_.end() || known->second.jid != asker.jid)
    return link_.send(error_of(iq, "modify", "bad-request", "no such session: it expired, or the manager was restarted; submit again"));
  const std::size_t size = (first ? 0 : uploads_[id].part.size()) + request.part().size();
  if (size > std::min<std::uint64_t>(kSubmitMax, open_->bytes.most_each())) {
    uploads_.erase(id);
    return link_.send(error_of(iq, "modify", "not-acceptable", fmt::format("the job is over {} MiB; submit it in several", std::min<std::uint64_t>(kSubmitMax, open_->bytes.most_each()) >> 20)));
  }
  // Of one that begins more room is asked than its first part takes, so that those under way can be ended.
  if (open_->bytes.room(asker.owner, first ? std::max<std::uint64_t>(request.part().size(), open_->bytes.most() / 8) : request.part().size()) != Space::Room::yes) {
    const bool alone = open_->bytes.used() <= size + request.part().size() + (64u << 10);  // nothing else is there that could make room
    uploads_.erase(id);
    return no_room(iq, asker, alone);
  }
  Upload& upload = uploads_[id];
  if (first) upload.jid = asker.jid, upload.ticket = std::make_shared<Ticket>(open_, asker.owner, 0);
  upload.part += request.part();
  upload.ticket->add(request.part().size());
  upload.until = std::chrono::steady_clock::now() + kUploadLasts;
  if (request.more()) {
    auto [result, tag] = answer_to(iq, "submit", id, "executing");
    child(*tag, "actions", {}, {{"execute", "next"}}), child(*tag->findChild("actions"), "next");
    return link_.send(std::move(result));
  }
  auto ticket = upload.ticket;  // the bytes live on in the job, until it is answered
  auto part = std::make_shared<const std::string>(std::move(upload.part));
  uploads_.erase(id);
  on_whole(iq, std::move(id), asker, request, std::move(ticket), size, [part = std::move(part)](wire::Job& job) { return parse(*part, job); });
}

/// A job that came whole, of `size` bytes, in one stanza or in parts. What is large is read and packed beside the loop, and what it was made of is freed there.
void Commands::on_whole(const gloox::Tag& iq, std::string session, const Asker& asker, const wire::SubmitRequest& request, std::shared_ptr<Ticket> ticket, std::size_t size,
                        std::function<Result<Done>(wire::Job&)> read) {
  struct Whole {
    wire::Job job;
    Result<Done> read = Done{};
    std::shared_ptr<PackedItems> items;
  };
  auto made = [read = std::move(read), large = size >= kAsideFrom]() mutable {
    auto whole = std::make_shared<Whole>();
    whole->read = read(whole->job);
    read = nullptr;
    if (large && whole->read) whole->items = std::make_shared<PackedItems>(whole->job);
    return whole;
  };
  const auto submit = [this, kept = keep(iq), session = std::move(session), asker, ticket = std::move(ticket), key = request.key(), watch = request.watch(), dry_run = request.dry_run()](const std::shared_ptr<Whole>& whole) {
    if (!whole->read) return link_.send(error_of(*kept, "modify", "bad-request", whole->read.error().text()));
    grid_.submit(asker, {std::move(whole->job), key, watch, dry_run, whole->items}, [this, kept, session, asker, ticket, items = whole->items](const auto& answer) {
      // What came as hundreds of thousands of strings is kept as one; to free them takes its time.
      if (items && !items->unpacked.empty())
        aside_.run([unpacked = std::make_shared<decltype(items->unpacked)>(std::move(items->unpacked))]() { return unpacked->clear(), ::malloc_trim(0); }, [](int) {});
      if (const auto* refusal = std::get_if<Refusal>(&answer)) {
        refused("submit", asker, *refusal);
        return link_.send(error_of(*kept, type_of(refusal->condition), refusal->condition, refusal->text));
      }
      auto [result, tag] = answer_to(*kept, "submit", session, "completed");
      add_payload(*tag, "submit", ns::job, std::get<0>(answer), {{"version", SOUK_VERSION}});
      link_.send(std::move(result));
    });
  };
  if (size >= kAsideFrom) aside_.run(std::move(made), submit);
  else submit(made());
}

// ---- People ----------------------------------------------------------------------------------------------------------------------

void Commands::on_form(const gloox::Tag& iq, const gloox::Tag& command, const Asker& asker) {
  const std::string node = command.findAttribute("node"), action = command.findAttribute("action"), id = command.findAttribute("sessionid");
  auto form = form_in(command);
  if (id.empty()) {
    // Some clients and scripts fill the form at once, without asking for it.
    if (form && form.value().type == "submit" && !form.value().fields.empty()) return run_form(iq, node, new_session(asker.jid, node), form.value(), asker);
    if (!form && node != "status" && node != "workers") return ask(iq, node, new_session(asker.jid, node), asker, {}, form.error().text());
    if (node == "status" || node == "workers") return run_form(iq, node, new_session(asker.jid, node), {}, asker);
    return ask(iq, node, new_session(asker.jid, node), asker);
  }
  if (!session(id, asker.jid, node)) {
    auto [result, tag] = answer_to(iq, node, id, "completed");  // an error here would look like success in some clients
    child(*tag, "note", {}, {{"type", "error"}}, "Not done: this form is too old, or the manager was restarted. Start the command again.");
    return link_.send(std::move(result));
  }
  if (action == "cancel") {
    forget(id);
    return link_.send(std::move(answer_to(iq, node, id, "canceled").iq));
  }
  if (action == "prev" && node != "status" && node != "workers") return ask(iq, node, id, asker);
  if (!form) return ask(iq, node, id, asker, {}, form.error().text());
  run_form(iq, node, id, form.value(), asker);
}

/// Shows a command's form, again if need be, with the reason on top.
void Commands::ask(const gloox::Tag& iq, const std::string& node, std::string session, const Asker& asker, const Form& given, const std::string& problem) {
  const auto show = [this, kept = keep(iq), node, session, problem](const Form& form) {
    auto [result, tag] = answer_to(*kept, node, session, "executing");
    // Without <actions/> some clients show no button at all.
    auto& actions = child(*tag, "actions", {}, {{"execute", "complete"}});
    child(actions, "complete");
    if (!problem.empty()) child(*tag, "note", {}, {{"type", "error"}}, "Not done: " + problem);
    add_form(*tag, form);
    link_.send(std::move(result));
  };
  if (node == "submit") return show(submit_form(given, problem));
  wire::StatusRequest newest;
  newest.set_limit(8);
  grid_.status(asker, newest, [show, node, given, problem](const auto& answer) {
    const auto& status = std::get<0>(answer);
    const std::vector<wire::JobStatus> jobs(status.jobs().begin(), status.jobs().end());
    show(node == "results" ? results_form(jobs, given, problem) : node == "why" ? why_form(jobs, given, problem) : job_form(node, jobs, given, problem));
  });
}

void Commands::run_form(const gloox::Tag& iq, const std::string& node, const std::string& id, const Form& form, const Asker& asker) {
  const auto reply = [this, kept = keep(iq), node, id, form, asker](const auto& answer) {
    if (const auto* refusal = std::get_if<Refusal>(&answer)) {
      refused(node, asker, *refusal);
      return ask(*kept, node, id, asker, form, refusal->text);
    }
    forget(id);
    Form result_form = shown(std::get<0>(answer));
    if (node == "hold") result_form.title = "Held";
    if (node == "release") result_form.title = "Released";
    if (node == "rerun") result_form.title = "Runs again";
    auto [result, tag] = answer_to(*kept, node, id, "completed");
    child(*tag, "note", {}, {{"type", "info"}}, result_form.title + (result_form.fields.empty() || result_form.fields[0].values.empty() ? "" : ": " + result_form.fields[0].values[0]));
    add_form(*tag, result_form);
    link_.send(std::move(result));
  };
  if (node == "submit") {
    auto job = job_in(form, Clocks::read().now_ms);
    if (!job) return ask(iq, node, id, asker, form, job.error().text());
    return grid_.submit(asker, {std::move(job.value()), id, false, is_true(form.text("dry_run"))}, reply);  // a form sent twice is one job
  }
  if (node == "results") {
    const auto request = results_in(form);
    if (!request) return ask(iq, node, id, asker, form, request.error().text());
    return grid_.results(asker, request.value(), reply);
  }
  if (node == "cancel") {
    const auto request = cancel_in(form);
    if (!request) return ask(iq, node, id, asker, form, request.error().text());
    return grid_.cancel(asker, request.value(), reply);
  }
  if (node == "hold" || node == "release") {
    const auto request = jobs_in(form);
    if (!request) return ask(iq, node, id, asker, form, request.error().text());
    return node == "hold" ? grid_.hold(asker, request.value(), reply) : grid_.release(asker, request.value(), reply);
  }
  if (node == "rerun") {
    auto request = rerun_in(form);
    if (!request) return ask(iq, node, id, asker, form, request.error().text());
    request.value().set_key(id);
    return grid_.rerun(asker, request.value(), reply);
  }
  if (node == "why") {
    const auto request = why_in(form);
    if (!request) return ask(iq, node, id, asker, form, request.error().text());
    return grid_.why(asker, request.value(), reply);
  }
  if (node == "workers") return grid_.workers(asker, reply);
  wire::StatusRequest newest;
  newest.set_limit(30);
  newest.set_everybody(asker.admin);
  grid_.status(asker, newest, reply);
}

// ---- Sessions --------------------------------------------------------------------------------------------------------------------

Commands::Session* Commands::session(const std::string& id, const std::string& jid, const std::string& node) {
  const auto at = sessions_.find(id);
  if (at == sessions_.end() || at->second.jid != jid || at->second.node != node) return nullptr;
  at->second.until = std::chrono::steady_clock::now() + kSessionLasts;
  return &at->second;
}

std::string Commands::new_session(const std::string& jid, const std::string& node) {
  const std::string person = bare(jid);
  const auto oldest_of_person = [&] {
    auto oldest = sessions_.end();
    std::size_t count = 0;
    for (auto at = sessions_.begin(); at != sessions_.end(); ++at)
      if (bare(at->second.jid) == person && (++count, oldest == sessions_.end() || at->second.order < oldest->second.order)) oldest = at;
    return count >= kSessionsEach ? oldest : sessions_.end();
  };
  if (const auto oldest = oldest_of_person(); oldest != sessions_.end()) forget(std::string(oldest->first));
  if (sessions_.size() >= kSessionsMax)
    forget(std::min_element(sessions_.begin(), sessions_.end(), [](const auto& a, const auto& b) { return a.second.order < b.second.order; })->first);
  const std::string id = new_id();
  sessions_[id] = {jid, node, ++order_, std::chrono::steady_clock::now() + kSessionLasts};
  return id;
}

void Commands::forget(const std::string& id) { sessions_.erase(id); }

void Commands::expire() {
  const auto now = std::chrono::steady_clock::now();
  for (auto at = sessions_.begin(); at != sessions_.end();) {
    const auto here = at++;
    if (here->second.until < now) sessions_.erase(here);
  }
  std::erase_if(uploads_, [now](const auto& upload) { return upload.second.until < now; });
}

}  // namespace souk
