// SPDX-License-Identifier: Apache-2.0
#include "daemon/model/parse.h"

#include <algorithm>
#include <ctime>
#include <exception>
#include <map>
#include <utility>

#include "daemon/model/field.h"

namespace sluice::model {

namespace {

struct Metadata {
  std::string ns;
  std::string name;
  std::string uid;
  Labels labels;
};

// A node has a few. Each of them is a route on every other node, and a kubelet may write as many as fit into
// a Node.
constexpr std::size_t kMostNodeAddresses = 16;

constexpr const char* kMasquerade = "sluice.dev/masquerade";
// What runtimes make the CNI capability `bandwidth` of; its value is theirs to check.
constexpr const char* kEgressBandwidth = "kubernetes.io/egress-bandwidth";
// On a mirror pod, which stands for a static pod: the UID of that one.
constexpr const char* kMirror = "kubernetes.io/config.mirror";
constexpr const char* kServiceProxyName = "service.kubernetes.io/service-proxy-name";
constexpr const char* kHeadless = "service.kubernetes.io/headless";
constexpr const char* kServiceName = "kubernetes.io/service-name";

Metadata parse_metadata(const Field& root, Kind kind) {
  const auto field = root.at("metadata");
  Metadata metadata;
  const auto name = field.at("name");
  metadata.name = name.required_text();
  const bool is_label = kind == Kind::kNamespace || kind == Kind::kService;
  if (!(is_label ? is_dns_label(metadata.name) : is_dns_subdomain(metadata.name)))
    name.fail(fmt::format("'{}' is not a name: use a-z, 0-9, '-' and '.'", printable(metadata.name)));
  if (is_namespaced(kind)) {
    const auto ns = field.at("namespace");
    metadata.ns = ns.required_text();
    if (!is_dns_label(metadata.ns))
      ns.fail(fmt::format("'{}' is not the name of a namespace", printable(metadata.ns)));
  }
  metadata.uid = field.at("uid").text();
  if (printable(metadata.uid) != metadata.uid) field.at("uid").fail("is not a UID");
  if (kind != Kind::kNetworkPolicy) metadata.labels = field.at("labels").labels();
  return metadata;
}

void parse_node_addresses(const Field& addresses, const char* type, std::vector<Address>& of_type) {
  std::size_t count = 0;
  for (const auto& item : addresses.items()) {
    if (item.at("type").text() != type) continue;
    if (++count > kMostNodeAddresses) {
      addresses.warn(fmt::format("has more than {} {}s; the first {} are used", kMostNodeAddresses, type,
                                 kMostNodeAddresses));
      break;
    }
    const auto value = item.at("address").text();
    // The API server does not check it, and one that is none must not take the node's other addresses away.
    if (auto address = Address::parse(value); address && value.find('\0') == std::string::npos) {
      of_type.push_back(*address);
    } else {
      item.at("address").warn(fmt::format("'{}' is not an IP address", printable(value)));
    }
  }
}

Node parse_node(const Field& root, Metadata metadata) {
  Node node;
  node.name = std::move(metadata.name);
  node.labels = std::move(metadata.labels);
  const auto spec = root.at("spec");
  for (const auto& item : spec.at("podCIDRs").items()) {
    if (const auto cidr = item.cidr()) node.pod_cidrs.push_back(*cidr);
  }
  if (node.pod_cidrs.empty() && spec.at("podCIDR").present()) {
    if (const auto cidr = spec.at("podCIDR").cidr()) node.pod_cidrs.push_back(*cidr);
  }
  const auto addresses = root.at("status").at("addresses");
  parse_node_addresses(addresses, "InternalIP", node.addresses);
  parse_node_addresses(addresses, "ExternalIP", node.external_addresses);
  return node;
}

Namespace parse_namespace(Metadata metadata) {
  return {std::move(metadata.name), std::move(metadata.labels)};
}

using NumbersByName = std::map<std::pair<std::string, Protocol>, std::uint16_t>;

// Kubernetes wants port names to be unique within a pod, but rejects a duplicate only within a container. A
// Service's targetPort then means the first container's number, and so do rules here: otherwise whoever
// writes a pod could make a name of others' rules stand for thousands of numbers.
void parse_container_ports(const Field& container, NumbersByName& ports) {
  for (const auto& item : container.at("ports").items()) {
    const auto protocol = item.at("protocol").protocol().value_or(Protocol::kTcp);
    const auto number = item.at("containerPort").port_number();
    if (item.at("name").text().empty()) continue;
    ports.try_emplace({item.at("name").port_name(), protocol}, number);
  }
}

// Anybody may write it: a word that is not known must not take the pod's labels and addresses away.
std::optional<bool> parse_masquerade(const Field& field) {
  if (!field.present()) return std::nullopt;
  const auto text = field.text();
  if (text == "true") return true;
  if (text == "false") return false;
  field.warn(fmt::format("'{}' is not true or false; not heeded", printable(text)));
  return std::nullopt;
}

// "2026-01-31T12:00:00Z", as the API server writes it; 0: absent or something else, which counts as old.
std::int64_t parse_time(const Field& field) {
  std::tm time{};
  const auto text = field.text();
  if (text.empty()) return 0;
  const char* end = ::strptime(text.c_str(), "%Y-%m-%dT%H:%M:%SZ", &time);
  if (end != nullptr && *end == '\0') return ::timegm(&time);
  field.warn(fmt::format("'{}' is not a time such as 2026-01-31T12:00:00Z; not heeded", printable(text)));
  return 0;
}

Pod parse_pod(const Field& root, Metadata metadata) {
  Pod pod;
  pod.ns = std::move(metadata.ns);
  pod.name = std::move(metadata.name);
  pod.uid = std::move(metadata.uid);
  pod.labels = std::move(metadata.labels);
  const auto annotations = root.at("metadata").at("annotations");
  pod.egress_limited = annotations.at(kEgressBandwidth).present();
  pod.masquerade = parse_masquerade(annotations.at(kMasquerade));
  if (auto uid = annotations.at(kMirror).text(); !uid.empty()) pod.static_uid = std::move(uid);
  pod.created = parse_time(root.at("metadata").at("creationTimestamp"));
  pod.terminating = root.at("metadata").at("deletionTimestamp").present();

  const auto spec = root.at("spec");
  pod.node_name = spec.at("nodeName").text();
  if (!pod.node_name.empty() && !is_dns_subdomain(pod.node_name))
    spec.at("nodeName").fail(fmt::format("'{}' is not the name of a node", printable(pod.node_name)));
  pod.host_network = spec.at("hostNetwork").boolean();
  NumbersByName numbers;
  for (const auto& container : spec.at("containers").items()) parse_container_ports(container, numbers);
  for (const auto& container : spec.at("initContainers").items()) {
    // A sidecar: it runs as long as the pod does.
    if (container.at("restartPolicy").text() == "Always") parse_container_ports(container, numbers);
  }
  ContainerPorts::List ports;
  for (const auto& [name, number] : numbers) ports.push_back({name.first, name.second, number});
  pod.ports = std::move(ports);

  const auto status = root.at("status");
  for (const auto& item : status.at("podIPs").items()) {
    if (!item.at("ip").present()) continue;
    if (const auto address = item.at("ip").address()) pod.ips.push_back(*address);
  }
  if (pod.ips.empty() && !status.at("podIP").text().empty()) {
    if (const auto address = status.at("podIP").address()) pod.ips.push_back(*address);
  }
  const auto phase = status.at("phase").text();
  pod.finished = phase == "Succeeded" || phase == "Failed";
  return pod;
}

NetworkPolicy parse_network_policy(const Field& root, Metadata metadata) {
  NetworkPolicy policy;
  policy.ns = std::move(metadata.ns);
  policy.name = std::move(metadata.name);
  policy.uid = std::move(metadata.uid);
  parse_policy_spec(root.at("spec"), policy);
  return policy;
}

// kube-proxy does not even watch Services and EndpointSlices that have one of the two labels.
bool left_alone(const Metadata& metadata) {
  return metadata.labels.contains(kServiceProxyName) || metadata.labels.contains(kHeadless);
}

Service parse_service(const Field& root, Metadata metadata) {
  Service service;
  service.ns = std::move(metadata.ns);
  service.name = std::move(metadata.name);
  service.left_alone = left_alone(metadata);
  parse_service_body(root, service);
  return service;
}

EndpointSlice parse_endpoint_slice(const Field& root, Metadata metadata) {
  EndpointSlice slice;
  slice.ns = std::move(metadata.ns);
  slice.name = std::move(metadata.name);
  const auto label = metadata.labels.find(kServiceName);
  if (label != metadata.labels.end() && !left_alone(metadata)) slice.service = label->second;
  parse_endpoint_slice_body(root, slice);
  return slice;
}

ServiceCidr parse_service_cidr(const Field& root, Metadata metadata) {
  ServiceCidr range;
  range.name = std::move(metadata.name);
  for (const auto& item : root.at("spec").at("cidrs").items())
    if (const auto cidr = item.cidr()) range.cidrs.push_back(*cidr);
  return range;
}

Object parse_body(const Field& root, Kind kind) {
  auto metadata = parse_metadata(root, kind);
  switch (kind) {
    case Kind::kNode:
      return parse_node(root, std::move(metadata));
    case Kind::kNamespace:
      return parse_namespace(std::move(metadata));
    case Kind::kPod:
      return parse_pod(root, std::move(metadata));
    case Kind::kService:
      return parse_service(root, std::move(metadata));
    case Kind::kEndpointSlice:
      return parse_endpoint_slice(root, std::move(metadata));
    case Kind::kServiceCidr:
      return parse_service_cidr(root, std::move(metadata));
    case Kind::kNetworkPolicy:
      break;
  }
  return parse_network_policy(root, std::move(metadata));
}

// "NetworkPolicy shop/x", as far as that can be told.
std::string title(const Value& json, Kind kind) {
  Context unheeded;
  const auto metadata = Field(unheeded, &json).at("metadata");
  const auto ns = printable(metadata.at("namespace").text());
  const auto name = printable(metadata.at("name").text());
  if (name.empty()) return fmt::format("{} without a name", to_string(kind));
  return ns.empty() ? fmt::format("{} {}", to_string(kind), name)
                    : fmt::format("{} {}/{}", to_string(kind), ns, name);
}

Result<Parsed> parse_checked(const Value& json, Kind kind) {
  Context context;
  const Field root(context, &json);
  if (!json.is_map()) return failure("{}: is not a map", to_string(kind));
  if (const auto own = root.at("kind").text(); !own.empty() && own != to_string(kind))
    root.at("kind").fail(fmt::format("'{}' is not {}", printable(own), to_string(kind)));
  auto object = parse_body(root, kind);
  const auto name = title(json, kind);
  if (context.failed()) return failure("{}: {}", name, context.error);
  for (auto& warning : context.warnings) warning.insert(0, name + ": ");
  return Parsed{std::move(object), std::move(context.warnings)};
}

struct KnownKind {
  Kind kind;
  std::string_view api_version;
  std::string_view group;  // without the version
};
constexpr KnownKind kKnown[] = {{Kind::kNode, "v1", ""},
                                {Kind::kNamespace, "v1", ""},
                                {Kind::kPod, "v1", ""},
                                {Kind::kNetworkPolicy, "networking.k8s.io/v1", "networking.k8s.io"},
                                {Kind::kService, "v1", ""},
                                {Kind::kEndpointSlice, "discovery.k8s.io/v1", "discovery.k8s.io"},
                                {Kind::kServiceCidr, "networking.k8s.io/v1", "networking.k8s.io"}};

Result<std::optional<Parsed>> parse_any(const Value& json) {
  if (!json.is_map()) return failure("the object is not a map");
  Context context;
  const Field root(context, &json);
  const auto kind = root.at("kind").required_text();
  const auto api_version = root.at("apiVersion").required_text();
  if (context.failed())
    return failure("{}; a Kubernetes object names its apiVersion and kind", context.error);

  for (const auto& known : kKnown) {
    if (kind != to_string(known.kind)) continue;
    const auto slash = api_version.find('/');
    const auto group = slash == std::string::npos ? std::string() : api_version.substr(0, slash);
    // Other groups have kinds of the same name (Calico's NetworkPolicy); "extensions" had this one.
    if (group != known.group && group != "extensions") return std::nullopt;
    if (api_version != known.api_version)
      return failure("{}: apiVersion: '{}' is not {}", title(json, known.kind), printable(api_version),
                     known.api_version);
    auto parsed = parse_checked(json, known.kind);
    if (!parsed) return tl::unexpected(parsed.error());
    return std::optional<Parsed>(std::move(*parsed));
  }
  return std::nullopt;
}

}  // namespace

// The checks leave nothing that throws but memory; the handlers make that a promise.
Result<std::optional<Parsed>> parse_object(const Value& json) try {
  return parse_any(json);
} catch (const std::exception& error) {
  return failure("the object cannot be read: {}", error.what());
}

Result<Parsed> parse_object(const Value& json, Kind kind) try {
  return parse_checked(json, kind);
} catch (const std::exception& error) {
  return failure("{}: cannot be read: {}", title(json, kind), error.what());
}

std::optional<Object> closed_policy(const Value& json) try {
  if (!json.is_map()) return std::nullopt;
  Context context;
  const Field root(context, &json);
  auto metadata = parse_metadata(root, Kind::kNetworkPolicy);
  if (context.failed()) return std::nullopt;
  NetworkPolicy policy;
  policy.ns = std::move(metadata.ns);
  policy.name = std::move(metadata.name);
  policy.uid = std::move(metadata.uid);
  close_policy_spec(json.find("spec"), policy);
  return policy;
} catch (const std::exception&) {
  return std::nullopt;  // out of memory
}

}  // namespace sluice::model
