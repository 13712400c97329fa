#include "protocol/expression.h"

#include <algorithm>
#include <utility>

#include "protocol/expression_tree.h"
#include "protocol/form.h"
#include "protocol/nearest.h"
#include "protocol/notation.h"

namespace souk {
namespace {

void collect(const expression::Node& node, std::set<std::string>& names) {
  if (!node.text.empty() && node.kind != expression::Kind::number) names.insert(node.text);
  for (const expression::Tree& part : node.parts) collect(*part, names);
}

const std::vector<std::string>& attribute_names() {
  static const std::vector<std::string> names{"arch", "bwrap", "cgroup", "cpu_model", "cpus", "disk", "gpu", "gpus", "hostname", "load", "memory", "name", "network", "os", "owner", "reliability", "running", "sandbox", "slots",
      "speed", "version", "job.cpus", "job.gpus", "job.memory", "job.name", "job.owner", "job.priority", "job.tasks"};
  return names;
}
const std::vector<std::string>& attribute_families() {
  static const std::vector<std::string> names{"image", "resource", "service", "software", "tag"};
  return names;
}
bool is_known(const std::string& name) {
  const auto in = [](const std::vector<std::string>& names, const std::string& wanted) { return std::find(names.begin(), names.end(), wanted) != names.end(); };
  const auto dot = name.find('.');
  return in(attribute_names(), name) || (dot != name.npos && dot + 1 < name.size() && in(attribute_families(), name.substr(0, dot)));
}

}  // namespace

Expression::Expression(std::shared_ptr<const Node> root) : root_(std::move(root)) { collect(*root_, names_); }

Result<Expression> Expression::parse(std::string_view text) {
  const auto refuse = [](std::string why, std::string remedy) { return Error{"cannot read the expression", std::move(why), std::move(remedy)}; };
  if (text.size() > kExpressionMax)
    return refuse("it has " + std::to_string(text.size()) + " bytes and is not read past column " + std::to_string(kExpressionMax), "write it shorter");
  if (text.find_first_not_of(" \t\r\n") == text.npos) return refuse("column 1: it is empty", "write a condition such as memory >= 8GiB");
  if (!is_printable(text)) {
    const std::string clean = printable(text);
    const auto at = std::mismatch(text.begin(), text.end(), clean.begin(), clean.end()).first;
    const auto column = 1 + std::count_if(text.begin(), at, [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; });
    return refuse("column " + std::to_string(column) + ": a byte that is no text", "write it in UTF-8, without control characters");
  }
  auto tree = expression::parse(text);
  if (!tree) return tree.error();
  return Expression(std::move(tree.value()));
}

Value Expression::evaluate(const Attributes& attributes) const { return expression::value_of(*root_, attributes); }

std::string Expression::text() const {
  std::string text = expression::print(*root_, true);
  // What was written without a space may not fit with them.
  return text.size() <= kExpressionMax ? text : expression::print(*root_, false);
}

std::vector<Expression> Expression::conjuncts() const {
  if (root_->kind != expression::Kind::both) return {*this};
  std::vector<Expression> all;
  for (const expression::Tree& part : root_->parts) all.push_back(Expression(part));
  return all;
}

std::vector<std::string> unknown_names(const Expression& expression) {
  std::vector<std::string> unknown;
  for (const std::string& name : expression.names())
    if (!is_known(name)) unknown.push_back(name);
  return unknown;
}

std::string nearest_name(std::string_view name) {
  const auto dot = name.find('.');
  if (dot != name.npos) {
    const std::string family = nearest(name.substr(0, dot), attribute_families());
    if (!family.empty() && dot + 1 < name.size() && name.substr(0, dot) != "job") return family + std::string(name.substr(dot));
  }
  return nearest(name, attribute_names());
}

}  // namespace souk
