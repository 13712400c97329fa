// Why a task waits or ended so, and what a dry run found, as text and as JSON. Pure.
#pragma once
#include <string>

#include "submit/render.h"

namespace souk::wire {
class GroupMatch;
class SubmitAnswer;
class WhyAnswer;
}  // namespace souk::wire

namespace souk {

std::string why_text(const wire::WhyAnswer& answer, WallTime now);
std::string json_of(const wire::WhyAnswer& answer);

/// What each group of tasks finds in the market now.
std::string matches_text(const wire::SubmitAnswer& answer);
std::string matches_json(const wire::SubmitAnswer& answer);
/// Whether some worker could run each of them.
bool all_fit(const wire::SubmitAnswer& answer);

}  // namespace souk
