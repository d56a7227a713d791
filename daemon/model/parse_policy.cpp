// SPDX-License-Identifier: Apache-2.0
// spec of a NetworkPolicy. Checks what the API server checks, because the YAML folder has none to do it.
//
// Every field can narrow what it stands in, so one that is not known here must never be skipped over: a
// selector or peer with one matches nothing, a port or rule with one is left out, and a spec with one keeps
// no rule at all. The policy still isolates the pods that it selects.
#include <algorithm>

#include "daemon/model/field.h"

namespace sluice::model {

namespace {

// none: it has a field that is not known.
std::optional<Requirement> parse_requirement(const Field& field) {
  const bool unknown = field.has_unknown({"key", "operator", "values"});
  Requirement requirement;
  requirement.key = field.at("key").required_text();
  if (!is_label_key(requirement.key))
    field.at("key").fail("is not a label key such as app or example.com/app");

  const auto op = field.at("operator").required_text();
  if (op == "In") {
    requirement.op = Requirement::Operator::kIn;
  } else if (op == "NotIn") {
    requirement.op = Requirement::Operator::kNotIn;
  } else if (op == "Exists") {
    requirement.op = Requirement::Operator::kExists;
  } else if (op == "DoesNotExist") {
    requirement.op = Requirement::Operator::kDoesNotExist;
  } else {
    field.at("operator").fail(fmt::format("'{}' is not In, NotIn, Exists or DoesNotExist", printable(op)));
  }

  const auto values = field.at("values");
  for (const auto& value : values.items()) {
    auto text = value.text();
    // The API server lets objects that are older than its check keep such values, and they do no harm.
    if (!is_label_value(text))
      value.warn(fmt::format("'{}' is not a label value; no label has it", printable(text)));
    requirement.values.push_back(std::move(text));
  }
  const bool needs_values = op == "In" || op == "NotIn";
  if (needs_values && requirement.values.empty())
    values.fail(fmt::format("operator {} needs at least one", op));
  if (!needs_values && !requirement.values.empty()) values.fail(fmt::format("operator {} takes none", op));
  std::sort(requirement.values.begin(), requirement.values.end());
  requirement.values.erase(std::unique(requirement.values.begin(), requirement.values.end()),
                           requirement.values.end());
  if (unknown) return std::nullopt;
  return requirement;
}

struct ParsedSelector {
  LabelSelector selector;
  bool understood = true;
};

ParsedSelector parse_selector(const Field& field) {
  ParsedSelector parsed;
  parsed.understood = !field.has_unknown({"matchLabels", "matchExpressions"});
  parsed.selector.match_labels = field.at("matchLabels").labels();
  for (const auto& item : field.at("matchExpressions").items()) {
    if (auto requirement = parse_requirement(item)) {
      parsed.selector.match_expressions.push_back(std::move(*requirement));
    } else {
      parsed.understood = false;
    }
  }
  auto& expressions = parsed.selector.match_expressions;
  std::sort(expressions.begin(), expressions.end());
  return parsed;
}

IpBlock parse_ip_block(const Field& field) {
  IpBlock block;
  const auto cidr = field.at("cidr").cidr();
  if (!cidr) return block;
  block.cidr = *cidr;
  for (const auto& item : field.at("except").items()) {
    const auto except = item.cidr();
    if (!except) return block;
    if (!cidr->contains(*except) || except->bits() == cidr->bits())
      item.fail(fmt::format("{} is not a part of cidr {}", except->to_string(), cidr->to_string()));
    block.except.push_back(*except);
  }
  std::sort(block.except.begin(), block.except.end());
  return block;
}

PolicyPeer parse_peer(const Field& field) {
  PolicyPeer peer;
  bool understood = !field.has_unknown({"podSelector", "namespaceSelector", "ipBlock"});
  const auto pods = field.at("podSelector");
  const auto namespaces = field.at("namespaceSelector");
  const auto block = field.at("ipBlock");
  if (pods.present()) {
    auto parsed = parse_selector(pods);
    understood = understood && parsed.understood;
    peer.pod_selector = std::move(parsed.selector);
  }
  if (namespaces.present()) {
    auto parsed = parse_selector(namespaces);
    understood = understood && parsed.understood;
    peer.namespace_selector = std::move(parsed.selector);
  }
  if (block.present()) {
    understood = !block.has_unknown({"cidr", "except"}) && understood;
    peer.ip_block = parse_ip_block(block);
    if (pods.present() || namespaces.present())
      field.fail("ipBlock excludes podSelector and namespaceSelector; make it a peer of its own");
  }
  if (understood && !pods.present() && !namespaces.present() && !block.present())
    field.fail("a peer needs podSelector, namespaceSelector or ipBlock");
  if (!understood) return {};
  return peer;
}

// none: it has a field that is not known.
std::optional<PolicyPort> parse_port(const Field& field) {
  const bool unknown = field.has_unknown({"protocol", "port", "endPort"});
  PolicyPort result;
  result.protocol = field.at("protocol").protocol().value_or(Protocol::kTcp);

  const auto port = field.at("port");
  if (port.is_text()) {
    result.port = port.port_name();
  } else if (port.present()) {
    result.port = port.port_number();
  }

  const auto end = field.at("endPort");
  if (end.present()) {
    const auto* first = std::get_if<std::uint16_t>(&result.port);
    result.end_port = end.port_number();
    if (first == nullptr) {
      end.fail("needs port to be a number");
    } else if (*result.end_port < *first) {
      end.fail(fmt::format("{} is less than port {}", *result.end_port, *first));
    }
  }
  if (unknown) return std::nullopt;
  return result;
}

// none: the rule would admit more than it says once what is not understood is left out.
std::optional<PolicyRule> parse_rule(const Field& field, const char* peers_name) {
  const bool unknown = field.has_unknown({peers_name, "ports"});
  PolicyRule rule;
  const auto peers = field.at(peers_name).items();
  rule.peers.reserve(peers.size());
  for (const auto& item : peers) rule.peers.push_back(parse_peer(item));
  const auto ports = field.at("ports").items();
  for (const auto& item : ports) {
    if (auto port = parse_port(item)) rule.ports.push_back(std::move(*port));
  }
  // An empty list is every port: it must not become empty by leaving ports out.
  if (unknown || (rule.ports.empty() && !ports.empty())) return std::nullopt;
  return rule;
}

std::vector<PolicyRule> parse_rules(const Field& field, const char* peers_name) {
  std::vector<PolicyRule> rules;
  for (const auto& item : field.items()) {
    if (auto rule = parse_rule(item, peers_name)) rules.push_back(std::move(*rule));
  }
  return rules;
}

void parse_policy_types(const Field& spec, NetworkPolicy& policy) {
  const auto types = spec.at("policyTypes").items();
  for (const auto& item : types) {
    const auto type = item.text();
    if (type == "Ingress") {
      policy.isolates_ingress = true;
    } else if (type == "Egress") {
      policy.isolates_egress = true;
    } else {
      item.fail(fmt::format("'{}' is not Ingress or Egress", printable(type)));
    }
  }
  if (types.empty()) {
    policy.isolates_ingress = true;
    policy.isolates_egress = !spec.at("egress").items().empty();
  }
}

}  // namespace

void parse_policy_spec(const Field& spec, NetworkPolicy& policy) {
  bool understood = !spec.has_unknown({"podSelector", "policyTypes", "ingress", "egress"});
  auto selector = parse_selector(spec.at("podSelector"));
  understood = understood && selector.understood;
  policy.pod_selector = std::move(selector.selector);
  parse_policy_types(spec, policy);
  policy.ingress = parse_rules(spec.at("ingress"), "from");
  policy.egress = parse_rules(spec.at("egress"), "to");

  // Rules of a direction that policyTypes leaves out have no effect.
  if (!policy.isolates_ingress && !policy.ingress.empty()) {
    spec.at("ingress").warn("has no effect: policyTypes does not name Ingress");
    policy.ingress.clear();
  }
  if (!policy.isolates_egress && !policy.egress.empty()) {
    spec.at("egress").warn("has no effect: policyTypes does not name Egress");
    policy.egress.clear();
  }
  if (!understood) {
    policy.ingress.clear();
    policy.egress.clear();
  }
}

void close_policy_spec(const Value* spec, NetworkPolicy& policy) {
  Context selector_context;
  auto selector = parse_selector(Field(selector_context, spec, "spec").at("podSelector"));
  policy.pod_selector = selector_context.failed() ? LabelSelector() : std::move(selector.selector);
  Context types_context;
  parse_policy_types(Field(types_context, spec, "spec"), policy);
  if (types_context.failed()) policy.isolates_ingress = policy.isolates_egress = true;
}

}  // namespace sluice::model
