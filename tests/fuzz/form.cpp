// XEP-0004 forms, as people's clients send them: to requests in the manager, and through XML and back.
// Input: `var=value` lines (the same var again: another value), or, if it begins with '<', the XML of the form.
#include "protocol/form.h"

#include <gloox/tag.h>

#include "manager/book.h"
#include "manager/forms.h"
#include "protocol/stanza.h"
#include "protocol/xml_stream.h"
#include "tests/fuzz/fuzz.h"

namespace souk {
namespace {

using fuzz::must;
constexpr std::uint64_t kNow = 1'800'000'000'000;

bool same(const Form& a, const Form& b) {
  if (a.type != b.type || a.title != b.title || a.instructions != b.instructions || a.fields.size() != b.fields.size() || a.columns != b.columns || a.rows != b.rows) return false;
  for (std::size_t i = 0; i < a.fields.size(); ++i) {
    const Field &x = a.fields[i], &y = b.fields[i];
    if (x.var != y.var || x.type != y.type || x.label != y.label || x.values != y.values || x.required != y.required || x.options != y.options) return false;
  }
  return true;
}

/// What the other side reads of it.
std::optional<Form> sent(const Form& form) {
  const Stanza iq = element("iq");
  add_form(*iq, form);
  std::optional<Form> got;
  XmlStream::Handlers handlers;
  handlers.opened = [](gloox::Tag&) {};
  handlers.closed = [] {};
  handlers.stanza = [&](gloox::Tag& stanza, bool) {
    if (auto read = form_in(stanza)) got = std::move(read.value());
  };
  XmlStream stream("jabber:client", handlers);
  must(stream.feed("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'>" + iq->xml()), "what is written is XML", stream.problem());
  return got;
}

void travel(const Form& form) {
  auto once = sent(form);
  must(once.has_value(), "a form that is written can be read");
  once = sent(*once);  // XML makes line feeds of carriage returns, at which values are then split: the second journey settles it
  must(once.has_value(), "a form that is written can be read");
  const auto twice = sent(*once);
  must(twice && same(*once, *twice), "a form is the same after a journey");
}

void ask_all(const Form& form) {
  const auto job = job_in(form, kNow);
  if (job) {
    const auto checked = check(job.value(), kNow);
    if (checked) must(checked.value() <= 10'000'000, "a job has a bounded number of tasks");
  } else {
    must(!job.error().why.empty(), "a refusal says why");
    travel(submit_form(form, job.error().text()));
  }
  // What is refused is asked again with what was given, and the reason on top.
  std::vector<wire::JobStatus> jobs(1);
  jobs[0].set_job(12), jobs[0].set_name(std::string(form.text("name"))), jobs[0].set_tasks(3);
  const auto again = [&](const auto& request, auto&& make) {
    if (!request && (form.fields.size() + form.text("job").size()) % 4 == 0) travel(make(request.error().text()));  // XML is slow: now and then
  };
  again(results_in(form), [&](const std::string& why) { return results_form(jobs, form, why); });
  again(cancel_in(form), [&](const std::string& why) { return job_form("cancel", jobs, form, why); });
  again(jobs_in(form), [&](const std::string& why) { return job_form("hold", jobs, form, why); });
  again(rerun_in(form), [&](const std::string& why) { return job_form("rerun", jobs, form, why); });
  again(why_in(form), [&](const std::string& why) { return why_form(jobs, form, why); });
}

}  // namespace
}  // namespace souk

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size) {
  using namespace souk;
  if (size > fuzz::kInputMax) return 0;
  auto rest = fuzz::text_of(bytes, size);
  if (!rest.empty() && rest.front() == '<') {
    XmlStream::Handlers handlers;
    handlers.opened = [](gloox::Tag&) {};
    handlers.closed = [] {};
    handlers.stanza = [](gloox::Tag& stanza, bool cut) {
      if (cut) return;
      const auto form = form_in(stanza);
      if (!form) return;
      must(form.value().fields.size() <= 256, "a form is bounded");
      travel(form.value());
      ask_all(form.value());
    };
    XmlStream stream("jabber:client", handlers);
    if (stream.feed("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams'><iq>")) stream.feed(std::string(rest) + "</iq>");
    return 0;
  }
  Form form;
  form.type = "submit";
  while (!rest.empty() && form.fields.size() < 256) {
    const auto line = fuzz::line_off(rest);
    const auto equals = line.find('=');
    const std::string var = printable(line.substr(0, equals)), value = equals == std::string_view::npos ? std::string() : printable(line.substr(equals + 1));
    const auto known = std::find_if(form.fields.begin(), form.fields.end(), [&](const Field& field) { return field.var == var; });
    if (known != form.fields.end()) known->values.push_back(value);
    else form.add(var, "", "", {value});
  }
  ask_all(form);
  return 0;
}
