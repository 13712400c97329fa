// Writes the seeds of those targets whose inputs are messages: fuzz_seeds tests/fuzz/corpus. The same each time. Text seeds are files that people wrote.
#include <gloox/tag.h>

#include <filesystem>
#include <fstream>

#include "protocol/capability.h"
#include "protocol/grid.pb.h"
#include "protocol/offer.h"
#include "protocol/payload.h"
#include "protocol/stanza.h"

namespace souk {
namespace {

std::filesystem::path corpus;

void write(const std::string& target, const std::string& name, const std::string& bytes) {
  std::filesystem::create_directories(corpus / target);
  std::ofstream(corpus / target / ("seed-" + name), std::ios::binary) << bytes;
}
void payload(char what, const std::string& name, const google::protobuf::MessageLite& message) {
  write("payload", name, std::string(1, what) + 'r' + message.SerializeAsString());
  const Encoded encoded = encode(message);
  write("payload", name + "-text", std::string(1, what) + (encoded.zlib ? 'z' : 'b') + encoded.text);
}
/// A record of the target worker_stanzas.
std::string record(char what, const google::protobuf::MessageLite& message) {
  const std::string bytes = message.SerializeAsString();
  return std::string(1, what) + static_cast<char>(bytes.size()) + bytes;
}

void attempt(wire::Attempt& one, std::uint64_t number) { one.set_epoch(3), one.set_number(number), one.set_job(7), one.set_task(number); }

wire::Command command() {
  wire::Command command;
  command.add_argv("convert"), command.add_argv("{}");
  auto& variable = *command.add_env();
  variable.set_name("LANG"), variable.set_value("C");
  command.set_input("one\n"), command.set_time_limit_ms(90'000), command.set_output_max(1 << 16), command.set_grace_ms(500), command.set_fill(true), command.set_pin(true);
  return command;
}
wire::Needs needs() {
  wire::Needs needs;
  needs.set_cpus(2), needs.set_memory_bytes(1ull << 30), needs.set_gpus(1);
  auto& license = *needs.add_resources();
  license.set_name("license"), license.set_amount(1);
  return needs;
}
wire::Outcome outcome() {
  wire::Outcome outcome;
  outcome.set_exit_code(3), outcome.set_wall_us(1500), outcome.set_cpu_us(1200), outcome.set_peak_memory_kib(900), outcome.set_out("out\n"), outcome.set_err("no\xff"), outcome.set_out_size(4), outcome.set_err_size(99);
  return outcome;
}
wire::Job simple_job() {
  wire::Job job;
  job.set_name("render"), *job.mutable_command() = command(), *job.mutable_needs() = needs();
  job.mutable_range()->set_first(1), job.mutable_range()->set_last(40), job.mutable_range()->set_step(3);
  job.set_require("os == \"linux\" && memory >= 1GiB"), job.set_rank("speed - load"), job.set_priority(-5), job.set_max_fails(3), job.set_deadline_ms(1'800'000'900'000), job.set_speculate(true);
  job.set_retries(2), job.mutable_retry()->set_delay_ms(100);
  auto& codes = *job.mutable_retry()->add_codes();
  codes.set_first(1), codes.set_last(75);
  job.add_after()->set_job(3);
  return job;
}
wire::Job graph() {
  wire::Job job;
  job.set_name("graph"), job.set_hold(true), job.set_crash_limit(2), job.set_notify(true);
  auto& quorum = *job.mutable_quorum();
  quorum.set_agree(2), quorum.set_most(3), quorum.set_adaptive(true), quorum.set_agree_on("all");
  quorum.add_known()->set_task(2), quorum.mutable_known(0)->set_sha256(std::string(32, 'x'));
  for (const char* name : {"prepare", "work", "join"}) {
    auto& group = *job.add_groups();
    group.set_name(name), *group.mutable_command() = command();
    if (job.groups_size() > 1) group.add_after()->set_group(static_cast<std::uint32_t>(job.groups_size() - 2));
    if (job.groups_size() > 2) group.mutable_after(0)->set_any(true);
  }
  for (const char* line : {"a.png", "b c.png", "{\"n\":1}"}) job.mutable_groups(1)->mutable_lines()->add_line(line);
  job.mutable_groups(1)->set_retries(1), *job.mutable_groups(1)->mutable_needs() = needs();
  return job;
}
wire::JobStatus status() {
  wire::JobStatus status;
  status.set_job(12), status.set_name("render \x1b[2J"), status.set_owner("ada@grid"), status.set_state(wire::RUNNING), status.set_tasks(100), status.set_waiting(40), status.set_running(10);
  status.set_succeeded(48), status.set_failed(2), status.set_requeued(1), status.set_submitted_ms(1'799'999'000'000), status.set_started_ms(1'799'999'001'000), status.set_command("convert {}");
  status.set_priority(3), status.set_note("waits for job 11"), status.set_deadline_ms(1'800'001'000'000), status.set_retried(2);
  return status;
}

void messages() {
  wire::Hello hello;
  hello.set_epoch(3), hello.set_version("0.1.0"), hello.set_lease_ms(30'000);
  payload('h', "hello", hello);
  wire::HelloAnswer answer;
  answer.set_version("0.1.0"), answer.set_slots(4), answer.set_state(wire::BUSY), answer.set_rule("in use"), answer.set_until_ms(1'800'000'000'000), answer.set_jobs_seen(23);
  attempt(*answer.add_held(), 1), attempt(*answer.add_held(), 2);
  payload('H', "hello-answer", answer);
  wire::Assign assign;
  assign.set_epoch(3);
  auto& with = *assign.add_commands();
  with.set_job(7), *with.mutable_command() = command();
  for (std::uint64_t n = 1; n <= 5; ++n) {
    auto& one = *assign.add_assignments();
    one.set_number(n), one.set_job(7), one.set_task(n), one.set_item("item " + std::to_string(n)), one.set_run(1);
  }
  payload('a', "assign", assign);
  wire::AssignAnswer refused;
  refused.add_refused(2), refused.set_why("holds 4096 attempts, its bound"), refused.add_missing(7);
  payload('A', "assign-answer", refused);
  wire::CommandPart part;
  part.set_job(7), part.set_data(command().SerializeAsString()), part.set_size(part.data().size());
  payload('p', "command-part", part);
  wire::ReportAnswer more;
  *more.mutable_assign() = assign;
  wire::Stop stop;
  attempt(*stop.add_attempts(), 2), attempt(*stop.add_attempts(), 4);
  payload('s', "stop", stop);
  wire::Report report;
  attempt(*report.add_results()->mutable_attempt(), 1), *report.mutable_results(0)->mutable_outcome() = outcome();
  attempt(*report.add_returned(), 3);
  auto& piece = *report.add_pieces();
  attempt(*piece.mutable_attempt(), 5), piece.set_data("piece"), piece.set_offset(65536);
  payload('r', "report", report);
  wire::ReportAnswer resend;
  attempt(*resend.add_resend(), 5);
  payload('R', "report-answer", resend);
  wire::Lease lease;
  attempt(*lease.add_held(), 1), lease.set_state(wire::PAUSED), lease.set_slots(2);
  payload('l', "lease", lease);
  payload('c', "command", command()), payload('n', "needs", needs()), payload('o', "outcome", outcome());
  wire::SubmitRequest submit;
  *submit.mutable_job() = simple_job(), submit.set_key("k1"), submit.set_watch(true);
  payload('j', "submit", submit);
  wire::StatusAnswer statuses;
  *statuses.add_jobs() = status();
  auto& grid = *statuses.mutable_grid();
  grid.set_version("0.1.0"), grid.set_epoch(3), grid.set_up_ms(99'000), grid.set_workers(4), grid.set_slots(16), grid.set_slots_busy(3), grid.set_trouble("disk full"), grid.set_lacks("2 epochs");
  payload('Q', "status-answer", statuses), write("answers", "jobs", 'j' + statuses.SerializeAsString());
  wire::ResultsAnswer results;
  for (const auto state : {wire::SUCCEEDED, wire::FAILED, wire::RUNNING}) {
    auto& one = *results.add_results();
    one.set_task(static_cast<std::uint64_t>(results.results_size())), one.set_state(state), one.set_attempts(2), one.set_worker("w\x07"), one.set_item("b c.png"), *one.mutable_outcome() = outcome();
  }
  results.set_next_task(4), *results.mutable_job() = status();
  payload('T', "results-answer", results), write("answers", "results", 'r' + results.SerializeAsString());
  wire::WhyAnswer why;
  *why.mutable_job() = status(), why.set_task(3), why.set_state(wire::WAITING), why.set_summary("no worker has room"), why.add_changes("ask 1 cpu");
  why.add_reasons()->set_why("memory < 1 GiB"), why.mutable_reasons(0)->set_workers(2), why.set_tasks_ahead(4), why.set_owner_place(2), why.set_owners_waiting(3);
  auto& past = *why.add_attempts();
  past.set_run(1), past.set_worker("w1"), past.set_ending("exit code 3"), past.set_last_lines("oops\n"), past.set_wall_us(10), past.set_ended_ms(1'799'999'999'000);
  payload('y', "why-answer", why), write("answers", "why", 'y' + why.SerializeAsString());
  wire::WorkersAnswer workers;
  auto& worker = *workers.add_workers();
  worker.set_nick("w1"), worker.set_jid("w1@grid/souk"), worker.set_slots(4), worker.set_running(2), worker.set_set_aside("fails"), worker.set_rule("in use");
  auto& offered = *worker.mutable_offer();
  offered.set_cpus(4), offered.set_memory_bytes(1ull << 34), offered.set_os("linux"), offered.set_speed(1.2), (*offered.mutable_software())["python"] = "3.11", offered.add_gpus("Model T");
  (*offered.mutable_resources())["license"] = "[a,b]";
  payload('w', "workers-answer", workers), write("answers", "workers", 'w' + workers.SerializeAsString());
  wire::SubmitAnswer taken;
  taken.set_job(12), taken.set_tasks(3), taken.add_warnings("nobody has gpus");
  auto& match = *taken.add_matches();
  match.set_group("work"), match.set_tasks(3), match.set_fitting(2), match.set_room(1), match.add_best("w1"), match.add_changes("ask 1 cpu"), match.add_reasons()->set_why("no gpu");
  write("answers", "submit", 's' + taken.SerializeAsString());
  wire::Event event;
  *event.mutable_job() = status();
  payload('e', "event", event);
  payload('q', "status", wire::StatusRequest()), payload('t', "results", wire::ResultsRequest());

  write("job", "simple", simple_job().SerializeAsString()), write("job", "graph", graph().SerializeAsString());
  wire::Job large = simple_job();
  large.mutable_range()->set_last(10'000'000), large.mutable_range()->set_step(1);
  write("job", "large", large.SerializeAsString());

  wire::Assign held_back = assign;
  *held_back.mutable_commands(0)->mutable_needs() = needs();
  wire::Assign ahead = assign;
  ahead.mutable_commands(0)->clear_command();
  write("worker_stanzas", "a-task", record('h', hello) + record('a', assign) + std::string("f\0f\1f\2", 6) + record('r', wire::ReportAnswer()) + record('s', stop));
  write("worker_stanzas", "more", record('h', hello) + record('a', assign) + std::string("f\0f\1f\2", 6) + record('r', more) + std::string("f\0f\1", 4) + record('r', more) + "d" + std::string("f\0", 2) + record('r', more) + record('s', stop));
  write("worker_stanzas", "needs", record('h', hello) + record('a', held_back) + "pP" + std::string("w\1f\0", 4) + record('r', resend) + record('h', hello));
  write("worker_stanzas", "command-ahead", record('h', hello) + record('a', ahead) + record('c', part) + record('a', ahead) + std::string("f\0e\0", 4) + "l" + record('h', hello));
  hello.set_epoch(2);
  write("worker_stanzas", "old-manager", record('a', assign) + record('h', hello) + record('a', assign) + "d");
}

void offers() {
  Offer offer;
  offer.slots = offer.cpus = 4, offer.memory_bytes = 1ull << 34, offer.disk_bytes = 1ull << 36, offer.os = "linux", offer.arch = "x86_64", offer.hostname = "node1", offer.cpu_model = "Model C";
  offer.version = "0.1.0", offer.software = {{"python", "3.11.2"}, {"gcc", "12.2"}}, offer.gpus = {"Model T", "Model T"}, offer.tags = {{"zone", "north"}}, offer.resources = {{"license", {2, {}}}, {"fpga", {2, {"a", "b"}}}};
  offer.speed = 1.2;
  DiscoInfo info{{{"client", "bot", "", "souk-worker"}, {"client", "pc", "en", "Psi"}}, {ns::info, ns::task, ns::ping}, {to_form(offer)}};
  const Stanza query = element("query");
  add_info(*query, info);
  std::string xml = query->xml();
  write("offer", "worker", xml.substr(7, xml.size() - 7 - 8));
  const Stanza asked = element("iq");
  Form form;
  form.type = "submit";
  form.add("command", "text-multi", "1. Command", {"convert {}", "more"}), form.add("items", "text-multi", "Items", {"a.png", "b.png"}), form.add("hold", "boolean", "", {"1"});
  form.fields[0].required = true, form.fields[1].options = {{"One", "1"}, {"Two", "2"}}, form.title = "Submit", form.instructions = "Fill in <this> & that";
  add_form(*asked, form);
  xml = asked->xml();
  write("form", "xml", xml.substr(4, xml.size() - 4 - 5));
}

}  // namespace
}  // namespace souk

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  souk::corpus = argv[1];
  souk::messages();
  souk::offers();
  return 0;
}
