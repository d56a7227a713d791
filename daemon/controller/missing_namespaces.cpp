// SPDX-License-Identifier: Apache-2.0
#include "daemon/controller/missing_namespaces.h"

#include <fmt/format.h>

#include <utility>

namespace sluice::controller {

namespace {

std::string sentence(const std::string& policy) {
  return fmt::format("NetworkPolicy {}: Namespace {} does not exist; is its name misspelt?", policy,
                     policy.substr(0, policy.find('/')));
}

}  // namespace

std::vector<std::string> MissingNamespaces::look(const policy::Cluster& cluster) {
  std::set<std::string> missing;
  for (const auto& [key, policy] : cluster.policies)
    if (!cluster.namespaces.contains(policy->ns)) missing.insert(key);
  std::vector<std::string> news;
  std::set<std::string> told;
  for (const auto& key : missing) {
    if (!seen_.contains(key)) continue;
    if (!told_.contains(key)) news.push_back(sentence(key));
    told.insert(key);
  }
  seen_ = std::move(missing);
  told_ = std::move(told);
  return news;
}

std::vector<std::string> MissingNamespaces::told() const {
  std::vector<std::string> all;
  for (const auto& key : told_) all.push_back(sentence(key));
  return all;
}

}  // namespace sluice::controller
