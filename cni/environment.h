// SPDX-License-Identifier: Apache-2.0
// The parameters of one invocation, CNI_* (CNI spec 1.1, section 2, "Parameters").
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "cni/failure.h"

namespace sluice::cni {

enum class Command { kAdd, kDel, kCheck, kGc, kStatus, kVersion };

struct AttachmentKey {  // identifies an attachment (CNI spec 1.1, section 3)
  std::string container_id;
  std::string ifname;
};

struct Environment {
  Command command = Command::kVersion;
  AttachmentKey key;                             // ADD, DEL, CHECK
  std::string netns;                             // ADD, CHECK; may be empty for DEL
  std::string pod_namespace, pod_name, pod_uid;  // ADD: K8S_POD_* of CNI_ARGS; empty without Kubernetes
};

using Variables = std::function<std::optional<std::string>(const char* name)>;

[[nodiscard]] Outcome<Environment> read_environment(const Variables& variables);

// Container IDs and network names: an alphanumeric character, then also '_', '.' and '-'.
[[nodiscard]] bool is_cni_name(std::string_view text);

}  // namespace sluice::cni
