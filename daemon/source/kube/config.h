// SPDX-License-Identifier: Apache-2.0
// Where the Kubernetes API is and how to prove who we are.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "common/result.h"

namespace sluice::source {

// Something secret or trusted that is given as it is or lies in a file, which is read anew for every
// connection: tokens and certificates rotate.
struct Material {
  std::string data;
  std::string file;  // counts if `data` is empty
  [[nodiscard]] bool given() const { return !data.empty() || !file.empty(); }
  [[nodiscard]] Result<std::string> load(const char* what) const;
};

struct KubeConfig {
  bool tls = true;
  std::string host;  // an IPv6 address without brackets
  std::uint16_t port = 443;
  std::string base_path;  // "" or "/k8s/clusters/x", for an API server behind a proxy
  Material ca;            // PEM; not given: the system's
  Material certificate;   // PEM, the client's, with its chain
  Material key;           // PEM
  Material token;
  bool insecure_skip_tls_verify = false;

  // As a pod: the service account. `api_server` ("host:port" or a URL) replaces the address in the
  // environment, which is a Service's and does not work until something serves Services.
  [[nodiscard]] static Result<KubeConfig> in_cluster(
      const std::string& api_server,
      const std::string& service_account = "/var/run/secrets/kubernetes.io/serviceaccount");
  // A kubeconfig, its current-context.
  [[nodiscard]] static Result<KubeConfig> from_file(const std::string& path);

  // "https://10.0.0.1:6443", "http://[::1]:8080/base", "10.0.0.1:6443" (https); sets tls, host, port,
  // base_path.
  [[nodiscard]] Result<void> set_server(std::string_view url);
  // That the parts go together.
  [[nodiscard]] Result<void> check() const;
  [[nodiscard]] std::string authority() const;  // "host:port", IPv6 in brackets
  [[nodiscard]] std::string url() const;
};

}  // namespace sluice::source
