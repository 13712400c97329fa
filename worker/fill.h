// From what a job says to what a slot runs: placeholders, quoting, environment.
#pragma once
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "protocol/command.h"
#include "protocol/ids.h"
#include "protocol/needs.h"
#include "worker/launch.h"
#include "worker/packing.h"

namespace souk {

constexpr std::size_t kItemVariableMax = 64 << 10;  // bytes; a longer item gets no SOUK_ITEM, which the kernel would refuse from 128 KiB on

constexpr int kItemDepthMax = 100;            // of an item, as many as submit takes; a deeper one has no fields
constexpr std::size_t kParamsMax = 1024;      // fields that get a variable, in order of their names

/// Top-level fields of an item that is a JSON object: texts as they are, numbers just as they were written, true, false and null so, lists and objects as
/// compact JSON. Of a name that is there twice, the last counts. What is no JSON object has none.
using Fields = std::map<std::string, std::string>;
Fields fields_of(std::string_view item);

/// Replaces what GNU parallel replaces, with the same answers: {} item, {.} without extension, {/} basename, {//} folder, {/.} basename without
/// extension, {#} the task's number; and {name} by the field of that name, if there is one. Other braces stay. With `for_sh`, what is put in is quoted for sh,
/// so write {} and not "{}".
std::string fill_in(std::string_view text, std::string_view item, TaskNumber task, bool for_sh, const Fields& fields = {});

/// What every attempt on this host starts with.
struct Surroundings {
  std::vector<std::pair<std::string, std::string>> env;  // PATH, HOME, LANG, ...; see task_environment() in probe.h
  std::string work;                                      // absolute path of the executor's working folder
  std::string worker;                                    // its name in the market
  bool has_gpus = false;
};

/// The attempt's own folder below the working folder: `JOB.TASK-EPOCH.NUMBER`, like `12.7-3.41`.
std::string folder_of(TaskId task, AttemptId attempt);

/// What an attempt asked for, and what it got of what is handed out one by one.
struct Share {
  Needs needs;
  worker::Granted granted;
};

/// Everything an Executor needs to run this attempt. Its environment is, each winning over what stands before it:
///  - what the host gives, and TMPDIR: the attempt's own folder
///  - SOUK_WORKER, SOUK_JOB, SOUK_TASK, SOUK_ATTEMPT (`run`: which run of the task this is, from 1), SOUK_ITEM
///  - SOUK_CPUS, and OMP_NUM_THREADS like it: libraries would else start a thread for each processor of the host in every slot
///  - if asked for: SOUK_MEMORY in bytes; SOUK_GPUS, `0,2`, and CUDA_VISIBLE_DEVICES like it; SOUK_RESOURCE_NAME: names of units, `a,b`, or how many.
///    On a host with GPUs CUDA_VISIBLE_DEVICES is empty for who asked for none.
///  - SOUK_PARAM_NAME for each field of a JSON item, if the command says its items are. Names in upper case, with _ for all but letters and digits
///  - the job's own
Launch launch_of(const Command& command, std::string_view item, TaskId task, AttemptId attempt, const Surroundings& host, unsigned run = 1, const Share& share = {});

}  // namespace souk
