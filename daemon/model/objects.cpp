// SPDX-License-Identifier: Apache-2.0
#include "daemon/model/objects.h"

#include <fmt/format.h>

#include <algorithm>

namespace sluice::model {

namespace {

bool satisfied(const Requirement& requirement, const Labels& labels) {
  const auto label = labels.find(requirement.key);
  const bool present = label != labels.end();
  const bool listed =
      present && std::ranges::find(requirement.values, label->second) != requirement.values.end();
  switch (requirement.op) {
    case Requirement::Operator::kIn:
      return listed;
    case Requirement::Operator::kNotIn:
      return !listed;  // a label that is absent is in no list: the object matches
    case Requirement::Operator::kExists:
      return present;
    case Requirement::Operator::kDoesNotExist:
      return !present;
  }
  return false;
}

std::string text_of(const Requirement& requirement) {
  const auto list = [&] { return fmt::format("({})", fmt::join(requirement.values, ",")); };
  switch (requirement.op) {
    case Requirement::Operator::kIn:
      return requirement.key + " in " + list();
    case Requirement::Operator::kNotIn:
      return requirement.key + " notin " + list();
    case Requirement::Operator::kExists:
      return requirement.key;
    case Requirement::Operator::kDoesNotExist:
      return "!" + requirement.key;
  }
  return requirement.key;
}

}  // namespace

bool LabelSelector::matches(const Labels& labels) const {
  const auto equal = [&](const Labels::value_type& wanted) {
    const auto label = labels.find(wanted.first);
    return label != labels.end() && label->second == wanted.second;
  };
  return std::ranges::all_of(match_labels, equal) &&
         std::ranges::all_of(match_expressions,
                             [&](const auto& wanted) { return satisfied(wanted, labels); });
}

std::string LabelSelector::to_string() const {
  std::vector<std::string> parts;
  for (const auto& [key, value] : match_labels) parts.push_back(fmt::format("{}={}", key, value));
  for (const auto& requirement : match_expressions) parts.push_back(text_of(requirement));
  return parts.empty() ? "<all>" : fmt::format("{}", fmt::join(parts, ","));
}

const char* to_string(Protocol protocol) {
  switch (protocol) {
    case Protocol::kTcp:
      return "TCP";
    case Protocol::kUdp:
      return "UDP";
    case Protocol::kSctp:
      break;
  }
  return "SCTP";
}

const char* to_string(Kind kind) {
  switch (kind) {
    case Kind::kNode:
      return "Node";
    case Kind::kNamespace:
      return "Namespace";
    case Kind::kPod:
      return "Pod";
    case Kind::kNetworkPolicy:
      return "NetworkPolicy";
    case Kind::kService:
      return "Service";
    case Kind::kEndpointSlice:
      return "EndpointSlice";
    case Kind::kServiceCidr:
      return "ServiceCIDR";
  }
  return "?";
}

bool is_namespaced(Kind kind) {
  return kind != Kind::kNode && kind != Kind::kNamespace && kind != Kind::kServiceCidr;
}

ObjectKey key_of(const Object& object) {
  struct Visitor {
    ObjectKey operator()(const Node& node) const { return {Kind::kNode, "", node.name}; }
    ObjectKey operator()(const Namespace& ns) const { return {Kind::kNamespace, "", ns.name}; }
    ObjectKey operator()(const Pod& pod) const { return {Kind::kPod, pod.ns, pod.name}; }
    ObjectKey operator()(const NetworkPolicy& policy) const {
      return {Kind::kNetworkPolicy, policy.ns, policy.name};
    }
    ObjectKey operator()(const Service& service) const { return {Kind::kService, service.ns, service.name}; }
    ObjectKey operator()(const EndpointSlice& slice) const {
      return {Kind::kEndpointSlice, slice.ns, slice.name};
    }
    ObjectKey operator()(const ServiceCidr& range) const { return {Kind::kServiceCidr, "", range.name}; }
  };
  return std::visit(Visitor(), object);
}

std::string to_string(const ObjectKey& key) {
  return key.ns.empty() ? fmt::format("{} {}", to_string(key.kind), key.name)
                        : fmt::format("{} {}/{}", to_string(key.kind), key.ns, key.name);
}

}  // namespace sluice::model
