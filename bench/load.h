// SPDX-License-Identifier: Apache-2.0
// What client and server of the load generator agree on.
#pragma once

#include <netinet/in.h>

#include <array>
#include <cstdint>
#include <string>

#include "common/fd.h"
#include "common/result.h"

namespace sluice::bench {

inline constexpr std::uint16_t kEchoPort = 9000;    // TCP: each byte is answered by a byte
inline constexpr std::uint16_t kSinkPort = 9001;    // TCP: reads to the end, then answers how much it was
inline constexpr std::uint16_t kShortPort = 9002;   // TCP: one byte is answered by one byte, then it closes
inline constexpr std::uint16_t kWindowPort = 9003;  // UDP: the last of a window is answered by how many came

inline constexpr std::size_t kDatagram = 64;  // bytes
inline constexpr std::uint32_t kWindow = 64;  // datagrams before the client waits
using Datagram =
    std::array<std::uint32_t, kDatagram / sizeof(std::uint32_t)>;  // [0]: window, [1]: 1 if it is the last

[[nodiscard]] std::uint64_t now_ns();
[[nodiscard]] sockaddr_in address_of(const std::string& host, std::uint16_t port);
[[nodiscard]] Result<Fd> listen_on(int type, std::uint16_t port);

[[nodiscard]] Result<void> serve();
// Reads commands from standard input, a line each ("rr 0.25"), and answers with a line of JSON.
[[nodiscard]] Result<void> drive(const std::string& host);
// Opens a new connection to the echo port every `interval_us` until standard input ends; then prints when
// each was asked for and whether it came about.
[[nodiscard]] Result<void> attempts(const std::string& host, unsigned interval_us);

}  // namespace sluice::bench
