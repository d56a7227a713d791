// SPDX-License-Identifier: Apache-2.0
// Values that are read without a lock (bpf/lib/sealed.h): what stands in a key's element is believed only if
// all of it is the key's.
#include <cstddef>
#include <functional>

#include "sealed.skel.h"
#include "tests/bpf/lacking.h"
#include "tests/bpf/world.h"

namespace sluice::bpftest {
namespace {

struct Question {  // as in sealed.bpf.c
  union {
    sluice_ct_key conntrack;
    sluice_fragment_key fragment;
    sluice_service_key service;
    sluice_affinity_key affinity;
    sluice_socket_peer_key socket_peer;
    sluice_addr peer;
  } held;
  sluice_service_key heir;
  sluice_service heirloom;
};

using Words = std::vector<std::uint32_t>;

template <typename T>
Words words_of(const T& value) {
  static_assert(sizeof(T) % sizeof(std::uint32_t) == 0);
  Words words(sizeof(T) / sizeof(std::uint32_t));
  std::memcpy(words.data(), &value, sizeof value);
  return words;
}

// A kind of value, and two keys' whole values.
struct Kind {
  const char* program;
  Words key, held, heir;
  std::function<void(const Words& value)> put;  // under the key
  std::vector<std::size_t> words;               // that are bound to it, each with its neighbour if `pairs`
  bool pairs = false;
};

template <typename T>
std::vector<std::size_t> words_between(std::size_t first, std::size_t end = sizeof(T)) {
  std::vector<std::size_t> words;
  for (auto at = first; at < end; at += sizeof(std::uint32_t)) words.push_back(at / sizeof(std::uint32_t));
  return words;
}

class Sealed : public World {
 protected:
  void SetUp() override {
    World::SetUp();
    load(sealed_bpf__elf_bytes);
  }

  template <typename Key>
  void ask_for(const Key& key) {
    Question question{};
    static_assert(sizeof key <= sizeof question.held);
    std::memcpy(&question.held, &key, sizeof key);
    put("question", std::uint32_t{0}, question);
  }

  // Of a map of the kernel's, by name.
  template <typename Key, typename Value>
  Kind kind(const char* map, const char* program, const Key& key, const Value& held, const Value& heir,
            std::size_t first_bound = 0) {
    return {program,
            words_of(key),
            words_of(held),
            words_of(heir),
            [this, map, key](const Words& value) {
              Value whole;
              std::memcpy(&whole, value.data(), sizeof whole);
              put(map, key, whole);
            },
            words_between<Value>(first_bound)};
  }

  Kind service() {
    const auto value = [&](const sluice_service_key& key, std::uint32_t first) {
      sluice_service made{0, first, first + 1, first + 2, first + 3, first + 4ULL, first + 5ULL};
      made.seal = sluice_service_seal(&key, &made);
      return made;
    };
    return kind("services", "ask_service", service_key(80), value(service_key(80), 100),
                value(service_key(81), 200));
  }
  static sluice_service_key service_key(std::uint16_t port) {
    return {address("10.96.0.1"), htons(port), IPPROTO_TCP, SLUICE_SCOPE_INSIDE, 0};
  }
  Kind fragment() {
    const auto key = [](std::uint16_t id) {
      sluice_fragment_key made{};
      made.src = address("10.1.0.2");
      made.dst = address("10.1.0.3");
      made.id = id;
      made.proto = IPPROTO_UDP;
      return made;
    };
    const auto value = [&](const sluice_fragment_key& of, std::uint16_t port) {
      sluice_fragment made{now_ns(), {htons(port), htons(53), port, 0}, 0};
      made.seal = sluice_fragment_seal(&of, &made.first);
      return made;
    };
    return kind("fragments", "ask_fragment", key(1), value(key(1), 4000), value(key(2), 5000),
                offsetof(sluice_fragment, first));
  }
  Kind affinity() {
    const auto value = [&](const sluice_affinity_key& key, std::uint32_t backend) {
      put("affine", sluice_affine_key{key.service, backend, 0}, std::uint32_t{1});
      return sluice_affinity{now_ns(), backend, sluice_affinity_seal(&key, backend)};
    };
    const sluice_affinity_key held{address("10.1.0.2"), 7}, heir{address("10.1.0.3"), 7};
    return kind("affinities", "ask_affinity", held, value(held, 1), value(heir, 2),
                offsetof(sluice_affinity, backend));
  }
  Kind socket_peer() {
    const auto value = [](const sluice_socket_peer_key& key, const char* cluster_ip, std::uint16_t port) {
      const sluice_addr service = address(cluster_ip);
      sluice_socket_peer made{};
      std::memcpy(&made.service_be, service.bytes + 12, sizeof made.service_be);
      made.port_be = htons(port);
      made.seal = sluice_socket_peer_seal(&key, made.service_be, made.port_be);
      return made;
    };
    const sluice_socket_peer_key held{1, htonl(0x0a010002), htons(8080), IPPROTO_TCP},
        heir{2, htonl(0x0a010002), htons(8080), IPPROTO_TCP};
    return kind("socket_peers", "ask_socket_peer", held, value(held, "10.96.0.1", 80),
                value(heir, "10.96.0.2", 81));
  }
  // Each slot's word is read, and written, at once.
  Kind peer() {
    const auto value = [](const sluice_addr& key, std::uint32_t peer_class) {
      sluice_peer made{};
      for (auto& word : made.bound_class) word = sluice_peer_bind(&key, peer_class);
      return made;
    };
    const auto held = address("10.1.0.2"), heir = address("10.1.0.3");
    auto made = kind("peers", "ask_peer", held, value(held, 1), value(heir, 2));
    made.words = {2};
    made.pairs = true;
    return made;
  }
  Kind conntrack() {
    const Tuple held{"10.1.0.2", 4000, "10.1.0.3", 80, IPPROTO_TCP}, heir{"10.1.0.2", 4000, "10.1.0.3", 81};
    Connection connection;
    put_connection(held, connection);
    connection.nat.flags = SLUICE_CT_SERVICE;
    connection.nat.addr = address("10.96.0.1");
    connection.nat.port_be = htons(80);
    put_connection(heir, connection);
    return {
        "ask_conntrack",
        words_of(key_of(held)),
        words_of(*entry(held)),
        words_of(*entry(heir)),
        [this, key = key_of(held)](const Words& value) {
          sluice_ct_entry whole;
          std::memcpy(&whole, value.data(), sizeof whole);
          put_entry(key, whole);
        },
        words_between<sluice_ct_entry>(offsetof(sluice_ct_entry, seal), offsetof(sluice_ct_entry, progress))};
  }

  void ask_for(const Kind& kind) {
    std::array<std::byte, sizeof(sluice_ct_key)> key{};
    std::memcpy(key.data(), kind.key.data(), kind.key.size() * sizeof(std::uint32_t));
    ask_for(key);
  }
};

TEST_F(Sealed, WhatIsNotWhollyTheKeysIsNotBelieved) {
  for (const Kind& kind : {conntrack(), fragment(), service(), affinity(), socket_peer(), peer()}) {
    SCOPED_TRACE(kind.program);
    ask_for(kind);
    kind.put(kind.held);
    EXPECT_EQ(run_program(kind.program), 1) << "its own";
    kind.put(kind.heir);
    EXPECT_EQ(run_program(kind.program), 0) << "another key's";
    std::size_t tried = 0;
    for (const auto at : kind.words) {
      const std::size_t last = at + (kind.pairs ? 1 : 0);
      if (std::equal(kind.held.begin() + at, kind.held.begin() + last + 1, kind.heir.begin() + at)) continue;
      for (const bool most_is_held : {true, false}) {
        Words mixed = most_is_held ? kind.held : kind.heir;
        const Words& other = most_is_held ? kind.heir : kind.held;
        std::copy(other.begin() + at, other.begin() + last + 1, mixed.begin() + at);
        kind.put(mixed);
        EXPECT_EQ(run_program(kind.program), kind.pairs && !most_is_held ? 1 : 0) << "with word " << at;
        ++tried;
      }
    }
    EXPECT_GE(tried, 2U);
    kind.put(kind.held);
    EXPECT_EQ(run_program(kind.program), 1) << "its own again";
  }
}

// Not a thought experiment: the kernel gives a deleted element to the next key at once.
TEST_F(Sealed, AnElementThatTheKernelGaveToAnotherKeyIsNotBelieved) {
  need_elements_given_at_once();
  const Kind held = service();
  held.put(held.held);
  Question question{};
  question.held.service = service_key(80);
  question.heir = service_key(81);
  std::memcpy(&question.heirloom, held.heir.data(), sizeof question.heirloom);
  put("question", std::uint32_t{0}, question);
  EXPECT_EQ(run_program("inherit"), 2);
}

}  // namespace
}  // namespace sluice::bpftest
