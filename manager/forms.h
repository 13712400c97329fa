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
Form cancel_form(const std::vector<wire::JobStatus>& jobs, const Form& given = {}, const std::string& problem = {});

Result<wire::Job> job_in(const Form& form);
Result<wire::ResultsRequest> results_in(const Form& form);
Result<wire::CancelRequest> cancel_in(const Form& form);

Form shown(const wire::SubmitAnswer& answer);
Form shown(const wire::StatusAnswer& answer);
Form shown(const wire::ResultsAnswer& answer);
Form shown(const wire::CancelAnswer& answer);
Form shown(const wire::WorkersAnswer& answer);

/// `12 "render" running: 40 of 100 done, 2 failed`.
std::string line_of(const wire::JobStatus& job);

}  // namespace souk
