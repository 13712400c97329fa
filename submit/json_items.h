// Items of a job from JSON: one array of them, or one value a line. Pure.
#pragma once
#include <string>
#include <string_view>

#include "protocol/result.h"
#include "submit/request.h"

namespace souk {

constexpr std::size_t kJsonDepthMax = 100;  // arrays and objects inside each other, in one item

/// Each item as compact JSON text; numbers keep the digits they were written with. A text that is one array gives its elements; any other
/// is read line by line, blank lines left out. from: for messages
/// fails: on what is no JSON, with line and column; on items over kItemMax or deeper than kJsonDepthMax
Result<Items> split_json(std::string_view text, std::string from);

}  // namespace souk
