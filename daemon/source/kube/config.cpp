// SPDX-License-Identifier: Apache-2.0
#include "daemon/source/kube/config.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>

#include "common/address.h"
#include "daemon/source/files.h"

namespace sluice::source {

namespace {

constexpr std::size_t kMaterialMost = 1 << 20;

bool is_loopback(const std::string& host) {
  if (host == "localhost") return true;
  const auto address = Address::parse(host);
  if (!address) return false;
  return address->is_v4() ? address->v4() >> 24 == 127 : address->to_string() == "::1";
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : value;
}

std::string bracketed(const std::string& host) {
  return host.find(':') == std::string::npos ? host : "[" + host + "]";
}

}  // namespace

Result<std::string> Material::load(const char* what) const {
  if (!data.empty()) return data;
  auto content = read_file(file, kMaterialMost);
  if (!content) return with_context(content.error(), what);
  if (content->empty()) return failure("{}: {} is empty", what, file);
  return content;
}

Result<KubeConfig> KubeConfig::in_cluster(const std::string& api_server, const std::string& service_account) {
  KubeConfig config;
  std::string server = api_server;
  if (server.empty()) {
    const auto host = environment("KUBERNETES_SERVICE_HOST");
    const auto port = environment("KUBERNETES_SERVICE_PORT");
    if (host.empty() || port.empty())
      return failure(
          "no API server: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; outside of a "
          "cluster, give a kubeconfig or the API server's address");
    server = bracketed(host) + ":" + port;
  }
  if (auto set = config.set_server(server); !set) return tl::unexpected(set.error());
  if (config.tls) {
    config.ca.file = service_account + "/ca.crt";
    config.token.file = service_account + "/token";
    if (::access(config.token.file.c_str(), R_OK) != 0)
      return failure_errno(errno, "no service account: " + config.token.file +
                                      " (set automountServiceAccountToken, or give a kubeconfig)");
  }
  if (auto good = config.check(); !good) return tl::unexpected(good.error());
  return config;
}

Result<void> KubeConfig::set_server(std::string_view url) {
  std::string_view rest = url;
  tls = true;
  if (const auto scheme = rest.find("://"); scheme != std::string_view::npos) {
    const auto name = rest.substr(0, scheme);
    if (name != "https" && name != "http")
      return failure("API server '{}': is neither https:// nor http://", url);
    tls = name == "https";
    rest.remove_prefix(scheme + 3);
  }
  const auto slash = std::min(rest.find('/'), rest.size());
  std::string_view where = rest.substr(0, slash);
  base_path = rest.substr(slash);
  while (!base_path.empty() && base_path.back() == '/') base_path.pop_back();

  std::string_view digits;
  if (where.starts_with('[')) {
    const auto close = where.find(']');
    if (close == std::string_view::npos) return failure("API server '{}': '[' without ']'", url);
    host = where.substr(1, close - 1);
    digits = where.substr(close + 1);
    if (auto address = Address::parse(host); !address || address->is_v4())
      return failure("API server '{}': '{}' is not an IPv6 address", url, host);
  } else {
    const auto colon = std::min(where.find(':'), where.size());
    host = where.substr(0, colon);
    digits = where.substr(colon);
    if (digits.find(':', 1) != std::string_view::npos)
      return failure("API server '{}': put an IPv6 address in brackets: [fd00::1]:6443", url);
  }
  if (host.empty() || host.find_first_of(" \t\r\n@?#%\\") != std::string::npos)
    return failure("API server '{}': is not an address such as https://10.0.0.1:6443", url);
  port = tls ? 443 : 80;
  if (digits.empty()) return {};
  if (digits.front() != ':') return failure("API server '{}': '{}' is not a port", url, digits);
  digits.remove_prefix(1);
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (error != std::errc() || end != digits.data() + digits.size() || port == 0)
    return failure("API server '{}': '{}' is not a port", url, digits);
  return {};
}

Result<void> KubeConfig::check() const {
  if (certificate.given() != key.given())
    return failure("API server {}: a client certificate needs its key, and a key its certificate", url());
  if (!tls && token.given() && !is_loopback(host))
    return failure("API server {}: a token would be sent unencrypted; use https", url());
  return {};
}

std::string KubeConfig::authority() const { return fmt::format("{}:{}", bracketed(host), port); }

std::string KubeConfig::url() const {
  return fmt::format("{}://{}{}", tls ? "https" : "http", authority(), base_path);
}

}  // namespace sluice::source
