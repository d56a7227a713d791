// SPDX-License-Identifier: Apache-2.0
// What the daemon answers over its Unix socket (mode 0600, HTTP/1.1, JSON) to the CNI binary and to
// sluicectl, and over TCP to probes and Prometheus. The server knows only this interface; the controller
// implements it.
// clang-format off
//
//   POST /v1/cni/add    {"containerID","ifname","netns","hostIfname","network","podNamespace","podName","podUID",
//                        "hostPorts":[{"hostPort","containerPort","protocol","hostIP"}]} ->
//                       {"address":"10.244.1.5/24","gateway":"10.244.1.1","mac":"02:53:0a:f4:01:05","mtu":1450,
//                        "hostIfname":…,"hostMac":…} when the pod's rules and host ports are live
//   POST /v1/cni/del    {"containerID","ifname"} -> {} when nothing passes any more, either way. The daemon deletes the
//                       link after that; the address rests until it is gone
//   POST /v1/cni/check  {"containerID","ifname"} -> what add answered, if all is as it should be
//   POST /v1/cni/gc     {"network","attachments":[{"containerID","ifname"}]} ->
//                       {"released":[{"containerID","ifname","hostIfname"}]}; links as with del
//   GET  /v1/cni/status -> {} or an error
//   GET  /v1/status | /v1/endpoints | /v1/endpoints/<id or ns/pod or address>/policy | /v1/firewall | /v1/services |
//        /v1/modules
//   GET  /v1/conntrack?of=<id or ns/pod or address>&protocol=TCP&limit=1000, each of them optional
//   DELETE /v1/conntrack?of=…&protocol=…, or ?all=1 -> {"flushed":…}
//   GET  /v1/monitor?drops=1&verdicts=1   newline-delimited JSON until the client goes
//   GET  /healthz (alive) | /readyz (CNI ADD would work) | /metrics
//
// Errors: HTTP 4xx/5xx with {"code": <CNI error code>, "msg": …, "details": …} (CNI spec 1.1, "Error").
// clang-format on
#pragma once

#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "common/result.h"

namespace sluice::server {

// CNI error codes, CNI spec 1.1 section 5; 100 and above are Sluice's own.
enum CniCode : int {
  kCniIncompatibleVersion = 1,
  kCniUnsupportedField = 2,
  kCniUnknownContainer = 3,
  kCniInvalidEnvironment = 4,
  kCniIoFailure = 5,
  kCniDecodeFailure = 6,
  kCniInvalidConfig = 7,
  kCniTryAgainLater = 11,
  kCniPluginNotAvailable = 50,         // STATUS
  kCniPluginNotAvailableLimited = 51,  // STATUS
  kCniInternal = 100,
  kCniAlreadyExists = 101,
  kCniNoAddress = 102,
  kCniCheckFailed = 103,
  kCniHostPortTaken = 104,
};

struct Answer {
  int http = 200;
  nlohmann::json body = nlohmann::json::object();
};
[[nodiscard]] Answer cni_error(int code, const std::string& msg, const std::string& details = "");

// Which connections of conntrack; empty: whatever.
struct ConnectionQuery {
  std::string of;  // endpoint id, namespace/pod or address: of either end, or of the Service between them
  std::string protocol;  // name or IANA number
  std::size_t most = 1000;
  bool all = false;  // flushing needs one of the three
};

class Api {
 public:
  virtual ~Api() = default;
  // Thread-safe; may block (bounded) until the controller has done it. Bodies are checked by the
  // implementation.
  virtual Answer cni_add(const nlohmann::json& body) = 0;
  virtual Answer cni_del(const nlohmann::json& body) = 0;
  virtual Answer cni_check(const nlohmann::json& body) = 0;
  virtual Answer cni_gc(const nlohmann::json& body) = 0;
  virtual Answer cni_status() = 0;
  virtual Answer status() = 0;
  virtual Answer endpoints() = 0;
  virtual Answer endpoint_policy(const std::string& which) = 0;
  virtual Answer firewall() = 0;
  virtual Answer services() = 0;
  virtual Answer modules() = 0;
  virtual Answer conntrack_list(const ConnectionQuery& query) = 0;
  virtual Answer conntrack_flush(const ConnectionQuery& query) = 0;
  virtual bool alive() = 0;
  virtual bool ready(std::string& why_not) = 0;
  virtual std::string metrics() = 0;  // Prometheus text format
  // Calls `line` with a JSON text without newline for each event until it returns false; returns then, and
  // calls it with an empty text about every second so that it can end.
  virtual void monitor(bool drops, bool verdicts, const std::function<bool(const std::string&)>& line) = 0;
};

}  // namespace sluice::server
