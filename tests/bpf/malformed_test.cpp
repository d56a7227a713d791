// SPDX-License-Identifier: Apache-2.0
// Packets that are short, or lie about themselves: the corpus in tests/corpus/packets, and every kind of
// packet cut at every length on every hook. The counters are held against each other after each test
// (World::TearDown).
#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tests/bpf/world.h"
#include "tests/source_folder.h"

namespace sluice::bpftest {
namespace {

namespace fs = std::filesystem;

// ---- the corpus: rows of "# what", "hook:", "expect:" and the frame in hexadecimal ----------------------
struct Row {
  std::string what, hook, expect;
  Bytes frame;
};

std::vector<Row> read_rows(const fs::path& file) {
  std::vector<Row> rows;
  std::ifstream in(file);
  for (std::string line; std::getline(in, line);) {
    const auto value = [&] { return line.substr(line.find(' ') + 1); };
    if (line.starts_with('#')) {
      rows.push_back({value(), {}, {}, {}});
    } else if (line.starts_with("hook: ")) {
      rows.back().hook = value();
    } else if (line.starts_with("expect: ")) {
      rows.back().expect = value();
    } else {
      std::istringstream bytes(line);
      for (std::string byte; bytes >> byte;)
        rows.back().frame.push_back(static_cast<std::uint8_t>(std::stoul(byte, nullptr, 16)));
    }
  }
  return rows;
}

sluice_hook hook_of(const std::string& name) {
  const char* const names[] = {"pod", "host", "overlay", "uplink"};
  const auto found = std::find(std::begin(names), std::end(names), name);
  if (found == std::end(names)) throw std::runtime_error("no hook " + name);
  return static_cast<sluice_hook>(found - std::begin(names));
}

class Corpus : public World {};

TEST_F(Corpus, EveryPacketFaresAsItsRowSays) {
  change_config([](sluice_config& config) { config.tunnel_port_be = htons(4789); });
  std::size_t sent = 0;
  for (const auto& entry : fs::directory_iterator(fs::path(kSourceFolder) / "tests/corpus/packets")) {
    for (auto& row : read_rows(entry.path())) {
      SCOPED_TRACE(entry.path().filename().string() + ": " + row.what);
      // The corpus cannot know the MAC address that the test's uplink has.
      if (std::equal(row.frame.begin(), row.frame.begin() + 6, mac_of("02:53:c0:00:02:01").begin()))
        std::ranges::copy(mac_of("uplink"), row.frame.begin());
      // "wire": at the uplink, and perhaps of the tunnel.
      const auto seen = row.hook == "wire" ? send_from_wire(row.frame) : send(hook_of(row.hook), row.frame);
      EXPECT_EQ(seen.outcome, row.expect);
      // The node's own packets to the stack go through the modules; what the uplink leaves to it does not.
      if (row.expect == "to_stack") {
        EXPECT_EQ(seen.bytes, row.frame) << "untouched";
      }
      ++sent;
    }
  }
  EXPECT_GT(sent, 160U);
}

// ---- cut at every length ------------------------------------------------------------------------------
struct Kind {
  const char* name;
  Bytes frame;
  std::size_t l4_needed;  // bytes behind the IPv4 header without which nothing can be judged
};

constexpr std::size_t kEthernet = 14, kIpv4Header = 20;

void set_total_length(Bytes& frame) {
  const auto total = frame.size() - kEthernet;
  frame[16] = static_cast<std::uint8_t>(total >> 8);
  frame[17] = static_cast<std::uint8_t>(total);
}

std::vector<Kind> kinds(const Frame& base) {
  const auto of = [&](const std::function<void(Frame&)>& change) { return build(but(base, change)); };
  return {{"UDP", of([](Frame&) {}), 8},
          {"TCP", of([](Frame& f) { f.proto = IPPROTO_TCP, f.flags = "S"; }), 20},
          {"SCTP", of([](Frame& f) { f.proto = IPPROTO_SCTP; }), 12},
          {"an echo", of([](Frame& f) { f.proto = IPPROTO_ICMP; }), 8},
          {"a first fragment", of([](Frame& f) { f.more = true, f.id = 9, f.payload = 24; }), 8},
          {"GRE", of([](Frame& f) { f.proto = IPPROTO_GRE; }), 0}};
}

struct Entrance {
  sluice_hook hook;
  Frame base;
};
const Entrance kEntrances[] = {
    {SLUICE_HOOK_POD, {.to = "podB", .src = "10.1.0.2", .dst = "10.1.0.3", .sport = 4000, .dport = 53}},
    {SLUICE_HOOK_HOST, {.from = "gateway", .src = "10.1.0.1", .dst = "10.1.0.2", .sport = 4000, .dport = 53}},
    {SLUICE_HOOK_OVERLAY,
     {.from = "gateway", .src = "10.2.0.9", .dst = "10.1.0.2", .sport = 4000, .dport = 53}},
    {SLUICE_HOOK_UPLINK,
     {.from = "02:00:00:00:00:99",
      .to = "uplink",
      .src = "198.51.100.7",
      .dst = "10.1.0.2",
      .sport = 4000,
      .dport = 53}}};

class Truncated : public World {
 protected:
  // The stack keeps what the uplink receives and is not whole; every other hook drops it.
  void expect_refused(const Seen& seen, sluice_hook hook, const std::string& reason) {
    EXPECT_EQ(seen.outcome, hook == SLUICE_HOOK_UPLINK ? "to_stack" : "dropped " + reason);
  }
};

TEST_F(Truncated, AFrameThatEndsBeforeItsPacketDoes) {
  for (const auto& [hook, base] : kEntrances) {
    for (const auto& [name, frame, needed] : kinds(base)) {
      EXPECT_EQ(send(hook, frame).outcome, "delivered") << name << " as a whole, hook " << hook;
      for (std::size_t length = kEthernet; length < frame.size(); ++length) {
        SCOPED_TRACE(std::string(name) + " of " + std::to_string(length) + " bytes, hook " +
                     std::to_string(hook));
        expect_refused(send_cut(hook, frame, length), hook,
                       length < kEthernet + kIpv4Header ? "SHORT_PACKET" : "BAD_HEADER");
      }
    }
  }
}

TEST_F(Truncated, APacketThatEndsInsideItsOwnHeaders) {
  for (const auto& [hook, base] : kEntrances) {
    for (const auto& [name, whole, needed] : kinds(base)) {
      for (std::size_t behind = 0; kEthernet + kIpv4Header + behind <= whole.size(); ++behind) {
        SCOPED_TRACE(std::string(name) + " with " + std::to_string(behind) + " bytes, hook " +
                     std::to_string(hook));
        Bytes frame(whole.begin(),
                    whole.begin() + static_cast<std::ptrdiff_t>(kEthernet + kIpv4Header + behind));
        set_total_length(frame);
        if (behind < needed) {
          expect_refused(send(hook, frame), hook, "SHORT_PACKET");
        } else {
          EXPECT_EQ(send(hook, frame).outcome, "delivered");
        }
        // Padded by Ethernet to its least length, it is as short as before.
        frame.resize(std::max<std::size_t>(frame.size(), 60));
        if (behind < needed) {
          expect_refused(send(hook, frame), hook, "SHORT_PACKET");
        }
      }
    }
  }
}

TEST_F(Truncated, TcpWithOptionsThatAreNotThere) {
  for (const auto& [hook, base] : kEntrances) {
    for (std::uint8_t words = 0; words < 16; ++words) {
      SCOPED_TRACE("a header of " + std::to_string(words) + " words, hook " + std::to_string(hook));
      auto frame = build(but(base, [](Frame& f) { f.proto = IPPROTO_TCP, f.flags = "S", f.payload = 20; }));
      frame[kEthernet + kIpv4Header + 12] = static_cast<std::uint8_t>(words << 4);
      const bool good = words >= 5 && words <= 10;  // 20 bytes of header, 20 behind it
      if (good) {
        EXPECT_EQ(send(hook, frame).outcome, "delivered");
      } else {
        expect_refused(send(hook, frame), hook, "BAD_HEADER");
      }
    }
  }
}

TEST_F(Truncated, Arp) {
  const auto whole = build(Arp{.sender_ip = "10.1.0.2", .target_ip = "10.1.0.1"});
  for (std::size_t length = kEthernet; length < whole.size(); ++length) {
    SCOPED_TRACE(length);
    EXPECT_EQ(send(SLUICE_HOOK_POD, Bytes(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(length)))
                  .outcome,
              "dropped SHORT_PACKET");
  }
  EXPECT_EQ(send(SLUICE_HOOK_POD, whole).outcome, "answered");
}

// An error about a connection that is there, quoting less and less of it.
TEST_F(Truncated, IcmpErrors) {
  for (const std::uint8_t proto : {IPPROTO_UDP, IPPROTO_TCP, IPPROTO_ICMP}) {
    SCOPED_TRACE(static_cast<unsigned>(proto));
    forget_connections();
    const Frame opening{.to = "podB",
                        .src = "10.1.0.2",
                        .dst = "10.1.0.3",
                        .proto = proto,
                        .sport = 4000,
                        .dport = 53,
                        .flags = "S"};
    ASSERT_EQ(send(SLUICE_HOOK_POD, opening).outcome, "delivered");
    const auto quoted = packet(opening);
    for (std::size_t length = 0; length <= quoted.size(); ++length) {
      SCOPED_TRACE(length);
      const Frame error{.from = "podB",
                        .to = "podA",
                        .src = "10.1.0.3",
                        .dst = "10.1.0.2",
                        .proto = IPPROTO_ICMP,
                        .icmp = kUnreachable,
                        .quoted = Bytes(quoted.begin(), quoted.begin() + static_cast<std::ptrdiff_t>(length)),
                        .payload = 0};
      EXPECT_EQ(send(SLUICE_HOOK_POD, build(error)).outcome,
                length < kIpv4Header + 8 ? "dropped CT_INVALID" : "delivered");
    }
  }
}

// Neither a reply that is cut short nor a garbled error may reach into a masqueraded connection.
TEST_F(Truncated, RepliesToMasqueradedConnections) {
  const Frame out{.src = "10.1.0.2",
                  .dst = "198.51.100.7",
                  .proto = IPPROTO_TCP,
                  .sport = 4000,
                  .dport = 80,
                  .flags = "S"};
  const auto left = send(SLUICE_HOOK_POD, out);
  ASSERT_EQ(left.outcome, "out_uplink");
  const auto port = static_cast<std::uint16_t>(left.bytes[34] << 8 | left.bytes[35]);
  const auto reply = build(Frame{.from = "02:00:00:00:00:99",
                                 .to = "uplink",
                                 .src = "198.51.100.7",
                                 .dst = "192.0.2.1",
                                 .proto = IPPROTO_TCP,
                                 .sport = 80,
                                 .dport = port,
                                 .flags = "SA"});
  for (std::size_t behind = 0; kEthernet + kIpv4Header + behind < reply.size(); ++behind) {
    SCOPED_TRACE(behind);
    Bytes frame(reply.begin(), reply.begin() + static_cast<std::ptrdiff_t>(kEthernet + kIpv4Header + behind));
    const auto cut = send(SLUICE_HOOK_UPLINK, frame);
    EXPECT_EQ(cut.outcome, "to_stack");
    EXPECT_EQ(cut.bytes, frame) << "untouched";
    set_total_length(frame);
    if (behind >= 20) {
      continue;
    }
    const auto short_one = send(SLUICE_HOOK_UPLINK, frame);
    EXPECT_EQ(short_one.outcome, "to_stack");
    EXPECT_EQ(short_one.bytes, frame) << "untouched";
  }
  EXPECT_EQ(send(SLUICE_HOOK_UPLINK, reply).outcome, "delivered");
}

}  // namespace
}  // namespace sluice::bpftest
