// From what a job says to what a slot runs: placeholders, quoting, environment.
#pragma once
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/command.h"
#include "protocol/ids.h"
#include "worker/launch.h"

namespace souk {

constexpr std::size_t kItemVariableMax = 64 << 10;  // bytes; a longer item gets no SOUK_ITEM, which the kernel would refuse from 128 KiB on

/// One word for sh: in single quotes unless it is plain.
std::string quote_for_sh(std::string_view text);

/// Replaces what GNU parallel replaces, with the same answers: {} item, {.} without extension, {/} basename, {//} folder, {/.} basename without
/// extension, {#} the task's number. Other braces stay. With `for_sh`, what is put in is quoted for sh, so write {} and not "{}".
std::string fill_in(std::string_view text, std::string_view item, TaskNumber task, bool for_sh);

/// What every attempt on this host starts with.
struct Surroundings {
  std::vector<std::pair<std::string, std::string>> env;  // PATH, HOME, LANG, ...; see task_environment() in probe.h
  std::string work;                                      // absolute path of the executor's working folder
};

/// The attempt's own folder below the working folder: `JOB.TASK-EPOCH.NUMBER`, like `12.7-3.41`.
std::string folder_of(TaskId task, AttemptId attempt);

/// Everything an Executor needs to run this attempt. The environment is: what the host gives, TMPDIR (the attempt's own folder), SOUK_JOB, SOUK_TASK,
/// SOUK_ATTEMPT (`run`: which run of the task this is, from 1), SOUK_ITEM, then the job's own, which win.
Launch launch_of(const Command& command, std::string_view item, TaskId task, AttemptId attempt, const Surroundings& host, unsigned run = 1);

}  // namespace souk
