// SPDX-License-Identifier: Apache-2.0
// A kubeconfig: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/. What would change who we are
// or whom we trust and is not supported is an error, not skipped.
#include <openssl/evp.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <filesystem>

#include "daemon/source/files.h"
#include "daemon/source/kube/config.h"

namespace sluice::source {

namespace {

constexpr std::size_t kKubeconfigMost = 4 << 20;

Result<std::string> from_base64(std::string text) {
  std::erase_if(text, [](char c) { return c == '\n' || c == '\r' || c == ' ' || c == '\t'; });
  std::string out(text.size() / 4 * 3 + 3, '\0');
  const int length =
      EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                      reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  if (length < 0 || text.size() % 4 != 0) return failure("is not base64");
  // EVP_DecodeBlock() counts the padding in.
  const auto padding = std::count(text.begin(), text.end(), '=');
  if (padding > 2) return failure("is not base64");
  out.resize(static_cast<std::size_t>(length - padding));
  return out;
}

std::string scalar(const YAML::Node& map, const char* key) {
  const auto node = map[key];
  return node && node.IsScalar() ? node.Scalar() : std::string();
}

// The entry of that name in one of the three lists of named things.
Result<YAML::Node> named(const YAML::Node& root, const char* list, const char* kind,
                         const std::string& name) {
  for (const auto& entry : root[list]) {
    if (!entry.IsMap() || scalar(entry, "name") != name) continue;
    if (!entry[kind] || !entry[kind].IsMap()) return failure("{} '{}' is empty", kind, name);
    return entry[kind];
  }
  return failure("there is no {} '{}' in {}", kind, name, list);
}

Result<void> refuse(const YAML::Node& map, const char* key, const char* instead) {
  if (!map[key] || map[key].IsNull()) return {};
  return failure("{} is not supported; {}", key, instead);
}

class Reader {
 public:
  explicit Reader(const std::string& path) : folder_(std::filesystem::path(path).parent_path()) {}

  Result<KubeConfig> read(const YAML::Node& root) {
    if (!root.IsMap()) return failure("is not a map");
    const auto current = scalar(root, "current-context");
    if (current.empty()) return failure("current-context is not set; run kubectl config use-context");
    const auto context = named(root, "contexts", "context", current);
    if (!context) return tl::unexpected(context.error());
    const auto cluster = named(root, "clusters", "cluster", scalar(*context, "cluster"));
    if (!cluster) return tl::unexpected(cluster.error());
    if (auto done = read_cluster(*cluster); !done) return tl::unexpected(done.error());
    if (const auto user_name = scalar(*context, "user"); !user_name.empty()) {
      const auto user = named(root, "users", "user", user_name);
      if (!user) return tl::unexpected(user.error());
      if (auto done = read_user(*user); !done) return tl::unexpected(done.error());
    }
    if (auto good = config_.check(); !good) return tl::unexpected(good.error());
    return config_;
  }

 private:
  Result<void> read_cluster(const YAML::Node& cluster) {
    if (auto none = refuse(cluster, "proxy-url", "use an address that the node reaches without a proxy");
        !none)
      return none;
    if (auto none = refuse(cluster, "tls-server-name",
                           "use as `server` an address that the API server's certificate names");
        !none)
      return none;
    if (auto set = config_.set_server(scalar(cluster, "server")); !set) return set;
    config_.insecure_skip_tls_verify = scalar(cluster, "insecure-skip-tls-verify") == "true";
    return material(cluster, "certificate-authority", config_.ca);
  }

  Result<void> read_user(const YAML::Node& user) {
    for (const char* key : {"exec", "auth-provider", "username", "password", "as"}) {
      if (auto none = refuse(user, key, "use a token, a tokenFile or a client certificate"); !none)
        return none;
    }
    if (auto done = material(user, "client-certificate", config_.certificate); !done) return done;
    if (auto done = material(user, "client-key", config_.key); !done) return done;
    config_.token.file = resolve(scalar(user, "tokenFile"));
    // As client-go: a tokenFile wins over a token.
    if (config_.token.file.empty()) config_.token.data = scalar(user, "token");
    return {};
  }

  // "<key>-data" in base64 wins over the file "<key>".
  Result<void> material(const YAML::Node& map, const std::string& key, Material& out) const {
    const auto data_key = key + "-data";
    if (const auto text = scalar(map, data_key.c_str()); !text.empty()) {
      auto data = from_base64(text);
      if (!data) return with_context(data.error(), data_key);
      out.data = std::move(*data);
      return {};
    }
    out.file = resolve(scalar(map, key.c_str()));
    return {};
  }

  // Relative to the kubeconfig.
  std::string resolve(const std::string& path) const {
    return path.empty() ? path : (folder_ / path).string();
  }

  std::filesystem::path folder_;
  KubeConfig config_;
};

}  // namespace

Result<KubeConfig> KubeConfig::from_file(const std::string& path) try {
  const auto content = read_file(path, kKubeconfigMost);
  if (!content) return with_context(content.error(), "kubeconfig");
  auto config = Reader(path).read(YAML::Load(*content));
  if (!config) return with_context(config.error(), "kubeconfig " + path);
  return config;
} catch (const std::exception& error) {
  return failure("kubeconfig {}: {}", path, error.what());
}

}  // namespace sluice::source
