// What somebody may have meant.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace souk {

/// Letters to insert, drop, change or swap with the next one to turn one word into the other (optimal string alignment).
std::size_t edit_distance(std::string_view a, std::string_view b);

/// The known word closest to `word`: one that begins with it, or differs in at most a third of its letters; empty if there is none.
std::string nearest(std::string_view word, const std::vector<std::string>& known);

}  // namespace souk
