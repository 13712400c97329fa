#include "submit/job_file_items.h"

#include <spdlog/fmt/fmt.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>

#include "protocol/command.h"
#include "protocol/notation.h"
#include "submit/job_file.h"
#include "submit/json_items.h"
#include "submit/render.h"

namespace souk {

using Json = nlohmann::json;

Result<Done> ItemsReader::json(const toml::node& node, std::string& out, std::size_t depth) const {
  if (depth > kJsonDepthMax) return at(node, fmt::format("values are more than {} deep inside each other", kJsonDepthMax), "make it flatter");
  if (out.size() > kItemMax) return at(node, fmt::format("an item of over {} bytes", kItemMax), "put it into a file, and its name here");
  if (const auto* table = node.as_table()) {
    out += '{';
    bool first = true;
    for (const auto& [key, value] : in_order(*table)) {
      out += (first ? "" : ",") + Json(std::string(key->str())).dump() + ":";
      first = false;
      if (auto done = json(*value, out, depth + 1); !done) return done;
    }
    out += '}';
  } else if (const auto* array = node.as_array()) {
    out += '[';
    bool first = true;
    for (const auto& value : *array) {
      if (!first) out += ',';
      first = false;
      if (auto done = json(value, out, depth + 1); !done) return done;
    }
    out += ']';
  } else if (const auto* word = node.as_string()) {
    out += Json(word->get()).dump();
  } else if (const auto* number = node.as_integer()) {
    out += std::to_string(number->get());
  } else if (const auto* fraction = node.as_floating_point()) {
    if (!std::isfinite(fraction->get())) return at(node, "infinities and NaN cannot stand in JSON", "write it as text");
    out += Json(fraction->get()).dump();
  } else if (const auto* yes = node.as_boolean()) {
    out += yes->get() ? "true" : "false";
  } else {
    std::ostringstream shown;
    if (const auto* day = node.as_date()) shown << day->get();
    if (const auto* hour = node.as_time()) shown << hour->get();
    if (const auto* both = node.as_date_time()) shown << both->get();
    out += Json(shown.str()).dump();
  }
  if (out.size() > kItemMax) return at(node, fmt::format("an item of over {} bytes", kItemMax), "put it into a file, and its name here");
  return Done{};
}

Result<Items> ItemsReader::listed(const toml::node& node) const {
  const auto* array = node.as_array();
  if (!array) return wrong(node, "items", "a list: items = [\"a\", \"b\"]");
  if (array->empty()) return at(node, "items is empty", "give it one item a task");
  Items items{{}, "items"};
  items.json = array->front().is_table();
  for (const auto& value : *array) {
    if (value.is_table() != items.json) return at(value, "items mixes tables with other values", "let all be tables, or none");
    if (const auto* word = value.as_string()) {
      if (word->get().find('\0') != std::string::npos) return at(value, "an item holds a NUL byte", "no command can be given one");
      if (word->get().size() > kItemMax) return at(value, fmt::format("an item of over {} bytes", kItemMax), "put it into a file, and its name here");
      items.values.push_back(word->get());
      continue;
    }
    if (auto done = json(value, items.values.emplace_back()); !done) return done.error();
  }
  return items;
}

Error ItemsReader::too_many(const toml::node& node, double count) const {
  const auto shown = count < 1e15 ? fmt::format("{:.0f}", count) : fmt::format("{:.3g}", count);
  return at(node, fmt::format("the matrix has {} combinations, at most {} are allowed", shown, kMatrixMax), "split it into several jobs, or let each task work through a part");
}

Result<Done> ItemsReader::sweep(const toml::table& table, const std::string& name, Axis& axis) const {
  static const std::vector<std::string> known{"from", "to", "step"};
  const toml::node* bound[3] = {table.get("from"), table.get("to"), table.get("step")};
  for (const auto& [key, value] : in_order(table)) {
    if (!is_one_of(key->str(), known)) return unknown(*key, known, "of a sweep");
    if (!value->is_number()) return wrong(*value, std::string(key->str()), "a number");
  }
  if (!bound[0] || !bound[1]) return at(table, fmt::format("{} is a table without from and to", name), fmt::format("write {} = [1, 2, 3], or {} = {{ from = 1, to = 10, step = 3 }}", name, name));
  if (bound[0]->is_integer() && bound[1]->is_integer() && (!bound[2] || bound[2]->is_integer())) {
    const auto from = bound[0]->as_integer()->get(), to = bound[1]->as_integer()->get(), step = bound[2] ? bound[2]->as_integer()->get() : 1;
    if (step <= 0) return at(*bound[2], fmt::format("step is {}", step), "give a number above 0");
    if (to < from) return at(*bound[1], fmt::format("{} ends before it begins", name), "let to be at least from");
    const Span span{from, to, static_cast<std::uint64_t>(step)};
    if (span.count() > kMatrixMax) return too_many(table, static_cast<double>(span.count()));
    auto value = static_cast<std::uint64_t>(from);
    for (std::uint64_t i = 0; i < span.count(); ++i, value += span.step) axis.values.push_back(std::to_string(static_cast<std::int64_t>(value)));
    return Done{};
  }
  const double from = bound[0]->value<double>().value_or(0), to = bound[1]->value<double>().value_or(0), step = bound[2] ? bound[2]->value<double>().value_or(0) : 1;
  if (!(step > 0) || !std::isfinite(step)) return at(*bound[2], fmt::format("step is {}", step), "give a number above 0");
  if (!std::isfinite(from) || !std::isfinite(to) || to < from) return at(*bound[1], fmt::format("{} ends before it begins", name), "let to be at least from");
  const double count = std::floor((to - from) / step * (1 + 1e-12) + 1e-9) + 1;
  if (count > static_cast<double>(kMatrixMax)) return too_many(table, count);
  for (std::uint64_t i = 0; i < static_cast<std::uint64_t>(count); ++i)  // 12 digits: 0.3 rather than 0.30000000000000004
    axis.values.push_back(Json(std::stod(fmt::format("{:.12g}", from + static_cast<double>(i) * step))).dump());
  return Done{};
}

Result<std::vector<std::int64_t>> ItemsReader::pick(const toml::node& node, const std::vector<Axis>& axes, std::string_view key) const {
  const auto* table = node.as_table();
  if (!table) return wrong(node, fmt::format("an entry of {}", key), "a table: { lr = 0.1 }");
  if (table->empty()) return at(node, fmt::format("an entry of {} is empty", key), "write { lr = 0.1 }");
  std::vector<std::int64_t> picked(axes.size(), -1);
  for (const auto& [name, value] : in_order(*table)) {
    const auto axis = std::find_if(axes.begin(), axes.end(), [&, text = Json(std::string(name->str())).dump()](const Axis& one) { return one.key == text; });
    if (axis == axes.end()) return unknown(*name, names_of(axes), "of this matrix");
    std::string text;
    if (auto done = json(*value, text); !done) return done.error();
    const auto found = std::find(axis->values.begin(), axis->values.end(), text);
    if (found == axis->values.end()) return at(*value, fmt::format("{} = {} is not in the matrix", name->str(), plain(text, 60)), "write a value as the matrix has it");
    picked[static_cast<std::size_t>(axis - axes.begin())] = found - axis->values.begin();
  }
  return picked;
}

std::vector<std::string> ItemsReader::names_of(const std::vector<Axis>& axes) {
  std::vector<std::string> names;
  for (const auto& axis : axes) names.push_back(axis.key.substr(1, axis.key.size() - 2));
  return names;
}

Result<Items> ItemsReader::combined(const toml::node& node, const toml::node* include, const toml::node* exclude) {
  const auto* table = node.as_table();
  if (!table) return wrong(node, "matrix", "a table: matrix = { lr = [0.1, 0.01], layers = [2, 4] }");
  if (table->empty()) return at(node, "the matrix is empty", "write matrix = { lr = [0.1, 0.01], layers = [2, 4] }");
  std::vector<Axis> axes;
  double combinations = 1;
  for (const auto& [key, value] : in_order(*table)) {
    const std::string name(key->str());
    if (!is_name(name, kTaskNameMax)) return at(key->source().begin, fmt::format("{} is no name for a parameter", souk::quoted(name)), "use letters, digits, _, - and dots");
    Axis axis{Json(name).dump(), {}};
    if (const auto* sweep_table = value->as_table()) {
      if (auto done = sweep(*sweep_table, name, axis); !done) return done.error();
    } else if (const auto* values = value->as_array()) {
      if (values->empty()) return at(*value, fmt::format("{} has no value", name), "give it at least one");
      for (const auto& one : *values)
        if (auto done = json(one, axis.values.emplace_back()); !done) return done.error();
    } else {
      return wrong(*value, name, fmt::format("a list: {} = [1, 2, 3]; or {} = {{ from = 1, to = 10, step = 3 }}", name, name));
    }
    combinations *= static_cast<double>(axis.values.size());
    axes.push_back(std::move(axis));
  }
  if (combinations > static_cast<double>(kMatrixMax)) return too_many(node, combinations);
  const auto count = static_cast<std::uint64_t>(combinations);

  // How many bytes all of them will be is known before there is one.
  std::uint64_t bytes = count * 4, longest = 2;
  for (const auto& axis : axes) {
    std::uint64_t sum = 0, most = 0;
    for (const auto& value : axis.values) sum += value.size(), most = std::max<std::uint64_t>(most, value.size());
    bytes += count * (axis.key.size() + 2) + count / axis.values.size() * sum;
    longest += axis.key.size() + 2 + most;
  }
  if (bytes > kSubmitMax) return at(node, fmt::format("the matrix makes items of {} in all, at most {} MiB are allowed", size_text(bytes), kSubmitMax >> 20), "split it into several jobs");
  if (longest > kItemMax) return at(node, fmt::format("a combination is over {} bytes", kItemMax), "put long values into files, and their names here");

  std::vector<std::vector<std::int64_t>> excluded;
  if (exclude) {
    const auto* list = exclude->as_array();
    if (!list) return wrong(*exclude, "matrix-exclude", "a list: matrix-exclude = [{ lr = 0.1, layers = 8 }]");
    work_ += count * list->size() + count;
    if (work_ > kMatrixWorkMax) return at(*exclude, fmt::format("{} combinations and {} exclusions are too many to compare", count, list->size()), "exclude less, or write the items themselves");
    for (const auto& one : *list) {
      auto picked = pick(one, axes, "matrix-exclude");
      if (!picked) return picked.error();
      excluded.push_back(std::move(picked.value()));
    }
  }
  Items items{{}, "the matrix"};
  items.json = true;
  std::vector<std::size_t> at_value(axes.size(), 0);
  for (std::uint64_t i = 0; i < count; ++i) {
    const auto matches = [&](const std::vector<std::int64_t>& picked) {
      for (std::size_t a = 0; a < axes.size(); ++a)
        if (picked[a] >= 0 && static_cast<std::size_t>(picked[a]) != at_value[a]) return false;
      return true;
    };
    if (std::none_of(excluded.begin(), excluded.end(), matches)) {
      std::string text = "{";
      for (std::size_t a = 0; a < axes.size(); ++a) text += (a == 0 ? "" : ",") + axes[a].key + ":" + axes[a].values[at_value[a]];
      items.values.push_back(text + "}");
    }
    for (std::size_t a = axes.size(); a-- > 0;) {  // the last one turns fastest
      if (++at_value[a] < axes[a].values.size()) break;
      at_value[a] = 0;
    }
  }
  if (include) {
    const auto names = names_of(axes);
    const auto* list = include->as_array();
    if (!list) return wrong(*include, "matrix-include", "a list: matrix-include = [{ lr = 1.0, layers = 1 }]");
    for (const auto& one : *list) {
      const auto* more = one.as_table();
      if (!more) return wrong(one, "an entry of matrix-include", "a table: { lr = 1.0, layers = 1 }");
      for (const auto& [name, value] : in_order(*more))
        if (!table->contains(name->str())) return unknown(*name, names, "of this matrix");
      for (const auto& axis : names)
        if (!more->contains(axis)) return at(one, fmt::format("an entry of matrix-include lacks {}", axis), "name each parameter of the matrix");
      std::string text = "{";
      for (std::size_t a = 0; a < axes.size(); ++a) {
        text += (a == 0 ? "" : ",") + axes[a].key + ":";
        if (auto done = json(*more->get(names[a]), text); !done) return done.error();
      }
      items.values.push_back(text + "}");
    }
  }
  if (items.values.empty()) return at(node, "every combination of the matrix is excluded", "leave at least one");
  return items;
}

}  // namespace souk
