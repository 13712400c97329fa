// The commands as people see them in a chat client: requests read from data forms, answers written as forms. Pure.
// Rules learned from clients: no `reported` table, one aligned line a row in a text-multi field; a refusal goes into the instructions, since
// notes are not shown everywhere; fields are checked here, since clients check nothing.
#pragma once
#include <string>
#include <vector>

#include "protocol/form.h"
#include "protocol/grid.pb.h"
#include "protocol/result.h"

namespace souk {

/// The form of a command's first stage, with the values of `given` kept and `problem` as first line of its instructions.
Form submit_form(const Form& given = {}, const std::string& problem = {});
Form results_form(const std::vector<wire::JobStatus>& jobs, const Form& given = {}, const std::string& problem = {});
Form why_form(const std::vector<wire::JobStatus>& jobs, const Form& given = {}, const std::string& problem = {});
/// For what needs but the number of a job: cancel, hold, release, rerun.
Form job_form(const std::string& node, const std::vector<wire::JobStatus>& jobs, const Form& given = {}, const std::string& problem = {});

/// now_ms: for a deadline, which counts from now.
Result<wire::Job> job_in(const Form& form, std::uint64_t now_ms);
Result<wire::ResultsRequest> results_in(const Form& form);
Result<wire::CancelRequest> cancel_in(const Form& form);
Result<wire::JobsRequest> jobs_in(const Form& form);
Result<wire::RerunRequest> rerun_in(const Form& form);
Result<wire::WhyRequest> why_in(const Form& form);

Form shown(const wire::SubmitAnswer& answer);
Form shown(const wire::StatusAnswer& answer);
Form shown(const wire::ResultsAnswer& answer);
Form shown(const wire::CancelAnswer& answer);
Form shown(const wire::JobsAnswer& answer);
Form shown(const wire::WhyAnswer& answer);
Form shown(const wire::WorkersAnswer& answer);

/// `12 "render" running: 40 of 100 done, 2 failed`.
std::string line_of(const wire::JobStatus& job);

}  // namespace souk
