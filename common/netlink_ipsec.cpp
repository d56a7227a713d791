// SPDX-License-Identifier: Apache-2.0
#include <linux/xfrm.h>

#include "common/ipsec.h"
#include "common/netlink_request.h"

namespace sluice {

namespace {

std::optional<bool> of_the_namespace(nlmsghdr* header) {
  if (header->nlmsg_type != XFRM_MSG_NEWPOLICY ||
      header->nlmsg_len < NLMSG_LENGTH(sizeof(xfrm_userpolicy_info)))
    return std::nullopt;
  // Sockets' policies have directions of their own, above these.
  if (static_cast<const xfrm_userpolicy_info*>(nlmsg_data(header))->dir >= XFRM_POLICY_MAX)
    return std::nullopt;
  return true;
}

}  // namespace

Result<bool> has_ipsec_policies() {
  constexpr const char* kWhat = "list the IPsec policies";
  struct Free {
    void operator()(nl_sock* socket) const { nl_socket_free(socket); }
  };
  const std::unique_ptr<nl_sock, Free> socket(nl_socket_alloc());
  if (!socket) return failure_errno(ENOMEM, kWhat);
  if (const int code = nl_connect(socket.get(), NETLINK_XFRM); code < 0) {
    if (code == -NLE_PROTO_MISMATCH) return false;  // EPROTONOSUPPORT
    return netlink::failure_nl(code, kWhat);
  }
  netlink::Request request(XFRM_MSG_GETPOLICY, NLM_F_DUMP);
  request.header(xfrm_userpolicy_id{});
  return netlink::collect<bool>(socket.get(), request, of_the_namespace, kWhat)
      .map([](const std::vector<bool>& found) { return !found.empty(); });
}

}  // namespace sluice
