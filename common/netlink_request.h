// SPDX-License-Identifier: Apache-2.0
// How netlink.cpp and netlink_qdisc.cpp ask the kernel: one request, and what comes back for it. For them
// alone.
#pragma once

#include <linux/netlink.h>
#include <netlink/attr.h>
#include <netlink/handlers.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <netlink/socket.h>

#include <cerrno>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/address.h"
#include "common/result.h"

namespace sluice::netlink {

// libnl has codes of its own for what did not come from the kernel (send, receive, parse).
inline tl::unexpected<Error> failure_nl(int code, const std::string& what) {
  return failure("{}: {}", what, nl_geterror(code));
}

// One request under construction. A put that finds no room is remembered and reported when it is sent.
class Request {
 public:
  Request(int type, int flags) : message_(nlmsg_alloc_simple(type, NLM_F_REQUEST | flags)) {}

  template <typename T>
  void header(const T& value) {
    if (message_) note(nlmsg_append(message_.get(), const_cast<T*>(&value), sizeof value, NLMSG_ALIGNTO));
  }
  void put(int type, std::span<const std::uint8_t> bytes) {
    if (message_) note(nla_put(message_.get(), type, static_cast<int>(bytes.size()), bytes.data()));
  }
  template <typename T>
    requires std::is_integral_v<T>
  void put(int type, T value) {
    if (message_) note(nla_put(message_.get(), type, sizeof value, &value));
  }
  void put(int type, const std::string& text) {
    if (message_) note(nla_put_string(message_.get(), type, text.c_str()));
  }
  void put(int type, const Address& address) {
    const std::span<const std::uint8_t> bytes(address.bytes());
    put(type, address.is_v4() ? bytes.subspan(12) : bytes);
  }
  template <typename Fill>
  void nest(int type, const Fill& fill) {
    nlattr* start = message_ ? nla_nest_start(message_.get(), type) : nullptr;
    if (start == nullptr) return note(-NLE_NOMEM);
    fill();
    nla_nest_end(message_.get(), start);
  }

  [[nodiscard]] nl_msg* message() const { return message_.get(); }
  [[nodiscard]] int error() const { return message_ ? error_ : -NLE_NOMEM; }

 private:
  struct Free {
    void operator()(nl_msg* message) const { nlmsg_free(message); }
  };
  void note(int code) {
    if (code < 0 && error_ == 0) error_ = code;
  }
  std::unique_ptr<nl_msg, Free> message_;
  int error_ = 0;
};

// What came back for one request.
struct Reply {
  std::function<void(nlmsghdr*)> on_message;
  int error = 0;       // errno of the kernel's answer
  std::string detail;  // its words for it (NLMSGERR_ATTR_MSG)
};

inline int on_valid(nl_msg* message, void* arg) {
  auto& reply = *static_cast<Reply*>(arg);
  if (reply.on_message) reply.on_message(nlmsg_hdr(message));
  return NL_OK;
}

inline int on_error(sockaddr_nl*, nlmsgerr* answer, void* arg) {
  auto& reply = *static_cast<Reply*>(arg);
  reply.error = -answer->error;
  // The socket has NETLINK_CAP_ACK: the attributes follow the fixed part at once, without the request's copy.
  auto* header = reinterpret_cast<nlmsghdr*>(reinterpret_cast<char*>(answer) - NLMSG_HDRLEN);
  if (header->nlmsg_type == NLMSG_ERROR && (header->nlmsg_flags & NLM_F_ACK_TLVS) != 0) {
    if (const nlattr* text = nlmsg_find_attr(header, sizeof(nlmsgerr), NLMSGERR_ATTR_MSG))
      reply.detail.assign(static_cast<const char*>(nla_data(text)),
                          strnlen(static_cast<const char*>(nla_data(text)), nla_len(text)));
  }
  return NL_STOP;
}

inline Result<void> exchange_once(nl_sock* socket, const Request& request, Reply& reply,
                                  const std::string& what) {
  struct Free {
    void operator()(nl_cb* callbacks) const { nl_cb_put(callbacks); }
  };
  if (request.error() < 0) return failure_nl(request.error(), what);
  const std::unique_ptr<nl_cb, Free> callbacks(nl_cb_alloc(NL_CB_DEFAULT));
  if (!callbacks) return failure_errno(ENOMEM, what);
  nl_cb_set(callbacks.get(), NL_CB_VALID, NL_CB_CUSTOM, on_valid, &reply);
  nl_cb_err(callbacks.get(), NL_CB_CUSTOM, on_error, &reply);
  nlmsg_hdr(request.message())->nlmsg_seq = 0;  // a number of its own on every try
  if (const int sent = nl_send_auto(socket, request.message()); sent < 0) return failure_nl(sent, what);
  const int received = nl_recvmsgs(socket, callbacks.get());
  if (reply.error != 0)
    return failure_errno(reply.error, reply.detail.empty() ? what : what + " (" + reply.detail + ")");
  if (received == -NLE_DUMP_INTR) return tl::unexpected<Error>(Error{what, EINTR});
  if (received < 0) return failure_nl(received, what);
  return {};
}

// Sends and waits for the answer: the acknowledgement, the one message, or the end of the dump.
inline Result<void> exchange(nl_sock* socket, const Request& request, const std::string& what) {
  Reply reply;
  return exchange_once(socket, request, reply, what);
}

// All that `parse` makes of the answers. A dump that the kernel marks as interrupted by a change is asked for
// again.
template <typename T, typename Parse>
Result<std::vector<T>> collect(nl_sock* socket, const Request& request, const Parse& parse,
                               const std::string& what) {
  constexpr int kTries = 10;
  for (int tries = 0; tries < kTries; ++tries) {
    std::vector<T> found;
    Reply reply;
    reply.on_message = [&](nlmsghdr* header) {
      if (auto value = parse(header)) found.push_back(std::move(*value));
    };
    auto done = exchange_once(socket, request, reply, what);
    if (done) return found;
    if (done.error().code != EINTR) return tl::unexpected(done.error());
  }
  return failure("{}: the kernel's list kept changing; try again", what);
}

}  // namespace sluice::netlink
