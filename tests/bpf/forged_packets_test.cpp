// SPDX-License-Identifier: Apache-2.0
// Resets, SYNs and ICMP errors that somebody forges change no connection that lives: not its backend, its
// masquerade port or its lifetime. Whose they seem to be, the state of the connection and their numbers are
// drawn by lot.
//   SLUICE_FORGED: how many, default 20,000   SLUICE_SEED: to repeat a run
#include <arpa/inet.h>
#include <fmt/format.h>

#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "tests/bpf/service_fixture.h"

namespace sluice::bpftest {
namespace {

constexpr const char* kWorld = "198.51.100.7";
constexpr const char* kFarPod = "10.2.0.9";
constexpr unsigned kForgedAtOnce = 40;  // at one connection
enum : std::uint8_t { kParameter = 12, kRedirect = 5 };

std::uint64_t number(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text ? std::strtoull(text, nullptr, 10) : otherwise;
}

struct Sort {  // of connection
  const char* name;
  sluice_hook client_hook;
  Frame call;               // as the client sends it
  sluice_hook server_hook;  // where answers come from
  bool client_outside = false;
  bool server_outside = false;
};

enum class State {
  kSent,
  kAnswered,
  kOpen,
  kClientClosed,
  kServerClosed,
  kClientClosedIdle,
  kIdle,
  kResetIdle,
  kCount
};
constexpr const char* kStates[] = {"SYN sent",
                                   "answered",
                                   "open",
                                   "closed by the client",
                                   "closed by the server",
                                   "closed by the client and idle",
                                   "idle",
                                   "reset by a forger and idle"};

// A frame of TCP, from the wire's numbers.
Frame from_wire(const Bytes& bytes, bool turned) {
  const auto address = [&](std::size_t at) {
    return fmt::format("{}.{}.{}.{}", bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
  };
  const auto port = [&](std::size_t at) {
    return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]);
  };
  Frame frame{
      .src = address(26), .dst = address(30), .proto = bytes[23], .sport = port(34), .dport = port(36)};
  if (turned) std::swap(frame.src, frame.dst), std::swap(frame.sport, frame.dport);
  return frame;
}

class ForgedPackets : public Service {
 protected:
  // Each Service has one backend, and later another one.
  void SetUp() override {
    Service::SetUp();
    for (const bool later : {false, true}) {
      const std::string near = later ? "10.2.0.77" : "10.1.0.3", far = later ? "10.1.0.3" : kFarPod;
      serve(kService, 80, {{near}});
      serve(kService, 81, {{far}});
      serve("192.0.2.1", 30080, {{near}}, 0, SLUICE_SCOPE_OUTSIDE);
      serve("192.0.2.1", 30081, {{near}}, SLUICE_SERVICE_MASQUERADE, SLUICE_SCOPE_OUTSIDE);
      serve("192.0.2.1", 30082, {{far}}, SLUICE_SERVICE_MASQUERADE, SLUICE_SCOPE_OUTSIDE);
      sluice_service_key key{}, next{};
      for (const sluice_service_key* from = nullptr; bpf_map_get_next_key(map("services"), from, &next) == 0;
           key = next, from = &key)
        served_[later].emplace_back(next, *get<sluice_service>("services", next));
    }
  }
  void change_backends(bool later) {
    for (const auto& [key, service] : served_[later]) put("services", key, service);
  }

  static std::vector<Sort> sorts() {
    const auto pod = [](const char* dst, std::uint16_t port, std::uint8_t proto = IPPROTO_TCP) {
      return Frame{.src = "10.1.0.2", .dst = dst, .proto = proto, .dport = port};
    };
    const auto world = [](std::uint16_t port) {
      return Frame{.from = "02:00:00:00:00:99",
                   .to = "uplink",
                   .src = kWorld,
                   .dst = "192.0.2.1",
                   .proto = IPPROTO_TCP,
                   .dport = port};
    };
    const Frame beside = but(pod("10.1.0.3", 8080), [](Frame& f) { f.to = "podB"; });
    return {{"to the world", SLUICE_HOOK_POD, pod(kWorld, 443), SLUICE_HOOK_UPLINK, false, true},
            {"to the world by UDP", SLUICE_HOOK_POD, pod(kWorld, 53, IPPROTO_UDP), SLUICE_HOOK_UPLINK, false,
             true},
            {"to a pod of the node", SLUICE_HOOK_POD, beside, SLUICE_HOOK_POD},
            {"to a pod of another node", SLUICE_HOOK_POD, pod(kFarPod, 8080), SLUICE_HOOK_OVERLAY},
            {"to a Service", SLUICE_HOOK_POD, pod(kService.c_str(), 80), SLUICE_HOOK_POD},
            {"to a Service by UDP", SLUICE_HOOK_POD, pod(kService.c_str(), 80, IPPROTO_UDP), SLUICE_HOOK_POD},
            {"to a Service on another node", SLUICE_HOOK_POD, pod(kService.c_str(), 81), SLUICE_HOOK_OVERLAY},
            {"from the world by a node port", SLUICE_HOOK_UPLINK, world(30080), SLUICE_HOOK_POD, true},
            {"from the world, masqueraded", SLUICE_HOOK_UPLINK, world(30081), SLUICE_HOOK_POD, true},
            {"from the world to another node", SLUICE_HOOK_UPLINK, world(30082), SLUICE_HOOK_OVERLAY, true}};
  }

  std::uint32_t any() { return static_cast<std::uint32_t>(chance_()); }
  std::uint32_t below(std::size_t end) { return any() % static_cast<std::uint32_t>(end); }

  // With the TCP sequence and acknowledgement numbers; the checksum stays right.
  static Bytes numbered(Bytes bytes, std::uint32_t seq, std::uint32_t ack) {
    if (bytes[23] != IPPROTO_TCP) return bytes;
    std::uint32_t sum = (~(bytes[50] << 8 | bytes[51]) & 0xffffU) + (seq >> 16) + (seq & 0xffff) +
                        (ack >> 16) + (ack & 0xffff);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    const std::uint32_t words[] = {htonl(seq), htonl(ack)};
    std::memcpy(&bytes[38], words, sizeof words);
    bytes[50] = static_cast<std::uint8_t>(~sum >> 8);
    bytes[51] = static_cast<std::uint8_t>(~sum);
    return bytes;
  }

  // ---- one connection
  Seen by_client(const std::string& flags) {
    const Seen seen = send(sort_.client_hook, numbered(build(but(call_, [&](Frame& f) { f.flags = flags; })),
                                                       client_seq_, server_seq_));
    client_seq_ += flags.find_first_of("SF") == std::string::npos ? 9 : 10;
    return seen;
  }
  Seen by_server(const std::string& flags) {
    const Seen seen =
        send(sort_.server_hook,
             numbered(build(but(answer_, [&](Frame& f) { f.flags = flags; })), server_seq_, client_seq_));
    server_seq_ += flags.find_first_of("SF") == std::string::npos ? 9 : 10;
    return seen;
  }
  bool udp() const { return call_.proto == IPPROTO_UDP; }

  void open(const Sort& sort, State state) {
    sort_ = sort, state_ = state;
    call_ = sort.call;
    call_.sport = next_port_++;
    if (next_port_ > 30000) next_port_ = 1024;
    client_seq_ = any(), server_seq_ = any();
    const Seen seen = by_client("S");
    sent_as_ = ends_of(seen.out);
    answer_ = from_wire(seen.bytes, true);
    main_ = {call_.src, call_.sport, answer_.src, answer_.sport, call_.proto};
    answer_.from = sort.server_outside         ? "02:00:00:00:00:99"
                   : answer_.src == "10.1.0.3" ? "podB"
                                               : "02:00:00:00:00:02";
    answer_.to = sort.server_outside ? "uplink" : sort.call.to == "podB" ? "podA" : "gateway";
    if (state == State::kSent) return;
    by_server("SA");
    if (state == State::kAnswered) return;
    by_client("A");
    if (state == State::kClientClosed || state == State::kClientClosedIdle) by_client("FA");
    if (state == State::kServerClosed) by_server("FA");
    if (state == State::kResetIdle && !udp() && (sort.client_outside || sort.server_outside))
      send(SLUICE_HOOK_UPLINK, but(sort.client_outside ? call_ : answer_, [](Frame& f) { f.flags = "R"; }));
    if (state == State::kIdle || state == State::kResetIdle || state == State::kClientClosedIdle)
      pass(udp() ? 20 : 3600);
  }
  void pass(unsigned seconds) {
    for (const Tuple& tuple : views())
      change_connection(tuple, [&](Connection& c) { c.last_seen_ns -= seconds * SLUICE_NS_PER_S; });
  }

  // The tuples under which conntrack has the connection.
  std::vector<Tuple> views() {
    const auto found = connection(main_);
    EXPECT_TRUE(found) << sort_.name;
    std::vector<Tuple> all{main_};
    if (!found) return all;
    if (found->nat.flags & SLUICE_CT_MASQUERADE)
      all.push_back({found->nat.flags >> SLUICE_CT_NUMBER_SHIFT == kLocalNumber ? "10.1.0.0" : "192.0.2.1",
                     ntohs(found->nat.snat_port_be), main_.dst, main_.dport, main_.proto});
    if (found->nat.flags & SLUICE_CT_SERVICE)
      all.push_back({call_.src, call_.sport, call_.dst, call_.dport, main_.proto});
    return all;
  }

  // ---- what somebody sends
  struct Forged {
    std::string what;
    sluice_hook hook;
    Bytes bytes;
  };

  // As one of the two ends that is outside, or as the other end inside, to whom that could reach; else from
  // anywhere.
  Forged forge() {
    const bool error = udp() || below(2);
    std::vector<std::pair<std::string, Frame>> ends;
    // The ends as they are on the wire outside, where anybody may forge them, and as they are inside.
    if (sort_.client_outside) ends.emplace_back("as the client", call_);
    if (sort_.server_outside) ends.emplace_back("as the server", answer_);
    ends.emplace_back("by inner addresses", Frame{.from = "02:00:00:00:00:99",
                                                  .to = "uplink",
                                                  .src = main_.dst,
                                                  .dst = main_.src,
                                                  .proto = main_.proto,
                                                  .sport = main_.dport,
                                                  .dport = main_.sport});
    ends.emplace_back("by inner addresses of the client", Frame{.from = "02:00:00:00:00:99",
                                                                .to = "uplink",
                                                                .src = main_.src,
                                                                .dst = main_.dst,
                                                                .proto = main_.proto,
                                                                .sport = main_.sport,
                                                                .dport = main_.dport});
    auto [who, frame] = ends[below(ends.size())];
    if (error) return forge_error(who, frame);
    static constexpr const char* kFlags[] = {"R", "RA", "S", "SA"};
    // Who asked last gets the tuple, until there is an answer.
    frame.flags = kFlags[below(state_ == State::kSent ? 2 : 4)];
    const bool client = who == "as the client" || who.ends_with("of the client");
    std::uint32_t seq = client ? client_seq_ : server_seq_, ack = client ? server_seq_ : client_seq_;
    const std::uint32_t lot = below(3);
    if (lot == 0) seq = any(), ack = any();
    if (lot == 1) seq += 1 + below(60000);  // in the window, but not the next one
    if (lot == 2) seq -= 1 + below(60000);
    // What a pod of another node sends under its own address is not forged.
    const bool by_tunnel = frame.src != kFarPod && below(4) == 0;
    return {fmt::format("{} {}, {}", frame.flags, who, lot == 1 ? "in the window" : "out of the window"),
            by_tunnel ? SLUICE_HOOK_OVERLAY : SLUICE_HOOK_UPLINK, numbered(build(frame), seq, ack)};
  }

  // Of a router outside about what that end was sent, or of a pod that has no part in it.
  Forged forge_error(const std::string& who, const Frame& end) {
    static constexpr std::uint8_t kTypes[] = {kUnreachable, kUnreachable, kTimeExceeded, kParameter,
                                              kRedirect};
    Frame about = end;
    std::swap(about.src, about.dst), std::swap(about.sport, about.dport);
    about.flags = "A";
    Bytes quoted = numbered(build(about), any(), any());
    Frame error{.from = "02:00:00:00:00:99",
                .to = "uplink",
                .src = below(2) ? "203.0.113.1" : end.src,
                .dst = about.src,
                .proto = IPPROTO_ICMP,
                .icmp = kTypes[below(std::size(kTypes))],
                .quoted = Bytes(quoted.begin() + 14, quoted.end())};
    sluice_hook hook = SLUICE_HOOK_UPLINK;
    std::string by = "a router";
    if (below(3) == 0 && main_.dst != "10.1.0.3") {
      error.from = "podB", error.to = "gateway", error.src = "10.1.0.3";
      hook = SLUICE_HOOK_POD, by = "a pod that has no part in it";
    }
    Bytes bytes = build(error);
    // Code and MTU: the sum stays right by what is taken from the sequence of the unused word.
    const auto code = static_cast<std::uint8_t>(below(16));
    const std::uint16_t mtu = code == 4 ? static_cast<std::uint16_t>(68 + below(1400)) : std::uint16_t{0};
    std::uint32_t sum = (~(bytes[36] << 8 | bytes[37]) & 0xffffU) + code + mtu;
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    bytes[35] = code;
    bytes[36] = static_cast<std::uint8_t>(~sum >> 8), bytes[37] = static_cast<std::uint8_t>(~sum);
    bytes[40] = static_cast<std::uint8_t>(mtu >> 8), bytes[41] = static_cast<std::uint8_t>(mtu);
    return {fmt::format("ICMP {}/{} of {}, {}", error.icmp, code == 4 ? 4 : 0, by, who), hook,
            std::move(bytes)};
  }

  // ---- what must not change
  struct Kept {
    std::vector<Tuple> views;
    std::vector<sluice_ct_entry> entries;
    std::vector<std::uint64_t> ends_ns;
  };
  std::uint64_t ends_ns(const Connection& c) {
    return c.last_seen_ns + sluice_ct_lifetime_ns(main_.proto, c.progress);
  }
  Kept keep() {
    Kept kept{views(), {}, {}};
    for (const Tuple& tuple : kept.views) {
      kept.entries.push_back(entry(tuple).value_or(sluice_ct_entry{}));
      kept.ends_ns.push_back(ends_ns(connection(tuple).value_or(Connection{})));
    }
    return kept;
  }
  // What changed, in words; put back.
  std::string harm(const Kept& kept) {
    std::string found;
    for (std::size_t i = 0; i < kept.views.size(); ++i) {
      const auto now = entry(kept.views[i]);
      if (now && std::memcmp(&*now, &kept.entries[i], sizeof *now) == 0) continue;
      const auto left = now ? connection(kept.views[i]) : std::nullopt;
      if (!left) {
        found = "is gone";
      } else if (now->seal != kept.entries[i].seal) {
        found = "is translated otherwise";
      } else if (state_ > State::kAnswered && ends_ns(*left) < kept.ends_ns[i]) {
        // Before, its client or its server goes on at once.
        found = "ends earlier";
      } else {
        continue;
      }
      put_entry(key_of(kept.views[i]), kept.entries[i]);
    }
    return found;
  }

  void attack(std::uint64_t& left) {
    Kept before = keep();
    for (unsigned i = 0; i < kForgedAtOnce && left; ++i, --left) {
      // Neither end says anything for longer than a SYN is repeated after, or a reset is doubted for.
      if (state_ > State::kAnswered && !udp() && below(4) == 0) pass(below(2) ? 1 : 15), before = keep();
      const Forged forged = forge();
      const Seen seen = send(forged.hook, forged.bytes);
      // A SYN that reaches an end of a connection draws a challenge ACK (RFC 5961, 4).
      if (state_ > State::kAnswered && forged.what.starts_with("S ") && ends_of(seen.out) == sent_as_)
        by_server("A");
      const std::string found = harm(before);
      if (!found.empty()) note(fmt::format("{}: it {}", forged.what, found));
      if (forged.hook == SLUICE_HOOK_POD && !seen.outcome.starts_with("dropped"))
        note(fmt::format("{}: {}", forged.what, seen.outcome));
      ++outcomes_[seen.outcome];
    }
  }

  // The next packets of both ends go where those before went.
  void goes_on() {
    const bool sent = state_ == State::kSent;
    if (ends_of(by_client(sent ? "S" : "A").out) != sent_as_) note("the client's next packet goes otherwise");
    const Seen seen = by_server(sent ? "SA" : "A");
    if (seen.outcome != (sort_.client_outside ? "out_uplink" : "delivered"))
      note("the server's next packet: " + seen.outcome);
  }
  void note(const std::string& what) {
    auto& harm = harms_[what];
    ++harm.count;
    harm.connections.insert(fmt::format("{} ({})", sort_.name, kStates[static_cast<int>(state_)]));
  }
  // "podA>gateway 192.0.2.1:12000>198.51.100.7:443"
  static std::string ends_of(const std::string& described) {
    return described.substr(0, described.find(' ', described.find(' ') + 1));
  }

  std::array<std::vector<std::pair<sluice_service_key, sluice_service>>, 2> served_;
  std::mt19937_64 chance_;
  struct Harm {
    unsigned count = 0;
    std::set<std::string> connections;
  };
  std::map<std::string, Harm> harms_;
  std::map<std::string, unsigned> outcomes_;
  Sort sort_{};
  State state_{};
  std::string sent_as_;
  Frame call_, answer_;
  Tuple main_;
  std::uint16_t next_port_ = 1024;
  std::uint32_t client_seq_ = 0, server_seq_ = 0;
};

TEST_F(ForgedPackets, ChangeNoConnectionThatLives) {
  const std::uint64_t seed = number("SLUICE_SEED", std::random_device{}());
  chance_.seed(seed);
  const auto all = sorts();
  std::uint64_t left = number("SLUICE_FORGED", 20'000), connections_attacked = 0;
  while (left) {
    if (++connections_attacked % 500 == 0) forget_connections();
    change_backends(false);
    open(all[below(all.size())], static_cast<State>(below(static_cast<std::size_t>(State::kCount))));
    // Until there was an answer, a SYN that is repeated may go to another backend.
    change_backends(state_ != State::kSent);
    attack(left);
    goes_on();
  }
  fmt::print("seed {}: {} connections\n", seed, connections_attacked);
  for (const auto& [outcome, count] : outcomes_) fmt::print("  {} {}\n", count, outcome);
  for (const auto& [what, harm] : harms_)
    ADD_FAILURE() << harm.count << " × " << what << " (seed " << seed << "), connections "
                  << fmt::format("{}", fmt::join(harm.connections, "; "));
}

}  // namespace
}  // namespace sluice::bpftest
