// SPDX-License-Identifier: Apache-2.0
// Typed access to pinned BPF maps. Opening compares the sizes of key and value with the kernel's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "common/fd.h"
#include "common/result.h"

namespace sluice::datapath {

// Keys in the order of their bytes.
struct KeyLess {
  template <typename K>
  bool operator()(const K& a, const K& b) const {
    static_assert(std::has_unique_object_representations_v<K>);
    return std::memcmp(&a, &b, sizeof a) < 0;
  }
};

// What is common to all key and value types. Keys and values are raw bytes here.
class RawMap {
 public:
  struct Shape {
    std::size_t key_size = 0;
    std::size_t value_size = 0;
  };
  RawMap() = default;
  [[nodiscard]] static Result<RawMap> open(const std::string& path, Shape shape);
  // Takes a map that is not pinned (yet), such as one that libbpf has just made.
  [[nodiscard]] static Result<RawMap> adopt(Fd fd, Shape shape);
  // Another one like this, empty, with room for `max_entries`.
  [[nodiscard]] Result<RawMap> make_larger(std::uint32_t max_entries) const;

  [[nodiscard]] int fd() const { return fd_.get(); }
  [[nodiscard]] const std::string& name() const { return name_; }
  [[nodiscard]] std::uint32_t id() const { return id_; }
  [[nodiscard]] std::uint32_t max_entries() const { return max_entries_; }

  // False: no such key.
  [[nodiscard]] Result<bool> lookup(const void* key, void* value) const;
  [[nodiscard]] Result<void> update(const void* key, const void* value, std::uint64_t flags) const;
  [[nodiscard]] Result<bool> erase(const void* key) const;
  [[nodiscard]] Result<void> update_all(const std::byte* keys, const std::byte* values,
                                        std::size_t count) const;
  // Shows all elements of the time, some thousands at once, in arrays of key_size and value_size steps. Of a
  // hash, what is shown may be erased.
  using Visitor =
      std::function<Result<void>(const std::byte* keys, const std::byte* values, std::size_t count)>;
  [[nodiscard]] Result<void> visit(const Visitor& visitor) const;

 private:
  [[nodiscard]] Result<bool> visit_batches(const Visitor& visitor) const;
  [[nodiscard]] Result<void> visit_singly(const Visitor& visitor) const;
  [[nodiscard]] tl::unexpected<Error> failed(int code, const char* what) const;

  Fd fd_;
  std::string name_;
  Shape shape_;
  std::uint32_t id_ = 0;
  std::uint32_t max_entries_ = 0;
};

template <typename K, typename V>
class Map {
  // Equal values must be equal bytes: the kernel hashes and compares bytes.
  static_assert(std::has_unique_object_representations_v<K> && std::has_unique_object_representations_v<V>);

 public:
  using Entry = std::pair<K, V>;
  static constexpr RawMap::Shape kShape{sizeof(K), sizeof(V)};

  Map() = default;
  explicit Map(RawMap raw) : raw_(std::move(raw)) {}
  [[nodiscard]] static Result<Map> open(const std::string& path) {
    return RawMap::open(path, kShape).map([](RawMap&& raw) { return Map(std::move(raw)); });
  }
  [[nodiscard]] const RawMap& raw() const { return raw_; }

  [[nodiscard]] Result<std::optional<V>> lookup(const K& key) const {
    V value{};
    return raw_.lookup(&key, &value).map([&](bool found) {
      return found ? std::optional<V>(value) : std::nullopt;
    });
  }
  // `flags`: BPF_ANY (0), BPF_NOEXIST, BPF_EXIST.
  [[nodiscard]] Result<void> update(const K& key, const V& value, std::uint64_t flags = 0) const {
    return raw_.update(&key, &value, flags);
  }
  // False: there was none.
  [[nodiscard]] Result<bool> erase(const K& key) const { return raw_.erase(&key); }
  // One system call where the kernel can, else one for each. Stops at the first failure.
  [[nodiscard]] Result<void> update(const std::vector<K>& keys, const std::vector<V>& values) const {
    return raw_.update_all(std::as_bytes(std::span(keys)).data(), std::as_bytes(std::span(values)).data(),
                           keys.size());
  }
  // `visitor(const K&, const V&)` gives a Result<void>; a failure ends it. Of a hash it may erase what it is
  // shown.
  template <typename Visitor>
  [[nodiscard]] Result<void> visit(Visitor&& visitor) const {
    return raw_.visit([&](const std::byte* keys, const std::byte* values, std::size_t count) -> Result<void> {
      for (std::size_t i = 0; i < count; ++i) {
        K key;
        V value;
        std::memcpy(&key, keys + i * sizeof(K), sizeof(K));
        std::memcpy(&value, values + i * sizeof(V), sizeof(V));
        if (auto done = visitor(key, value); !done) return done;
      }
      return {};
    });
  }
  [[nodiscard]] Result<std::vector<Entry>> entries() const {
    std::vector<Entry> found;
    auto done = visit([&](const K& key, const V& value) -> Result<void> {
      found.emplace_back(key, value);
      return {};
    });
    if (!done) return tl::unexpected(done.error());
    return found;
  }

 private:
  RawMap raw_;
};

// A PERCPU_ARRAY: one value for each possible CPU under each index.
template <typename V>
class PerCpuArray {
 public:
  PerCpuArray() = default;
  [[nodiscard]] static Result<PerCpuArray> open(const std::string& path) {
    return RawMap::open(path, {sizeof(std::uint32_t), sizeof(V)}).map([](RawMap&& raw) {
      PerCpuArray made;
      made.raw_ = std::move(raw);
      return made;
    });
  }
  [[nodiscard]] const RawMap& raw() const { return raw_; }

  [[nodiscard]] Result<std::vector<V>> lookup(std::uint32_t index) const {
    std::vector<V> values(cpus());
    auto found = raw_.lookup(&index, values.data());
    if (!found) return tl::unexpected(found.error());
    return values;
  }
  [[nodiscard]] Result<void> clear(std::uint32_t index) const {
    const std::vector<V> zeros(cpus());
    return raw_.update(&index, zeros.data(), 0);
  }

 private:
  static_assert(sizeof(V) % 8 == 0, "the kernel rounds each CPU's value up to 8 bytes");
  [[nodiscard]] static std::size_t cpus();
  RawMap raw_;
};

[[nodiscard]] std::size_t possible_cpus();

template <typename V>
std::size_t PerCpuArray<V>::cpus() {
  return possible_cpus();
}

// The sum over CPUs of a struct that is nothing but 64-bit counters.
template <typename V>
[[nodiscard]] V sum(const std::vector<V>& per_cpu) {
  static_assert(std::has_unique_object_representations_v<V> && sizeof(V) % sizeof(std::uint64_t) == 0);
  constexpr std::size_t kWords = sizeof(V) / sizeof(std::uint64_t);
  std::uint64_t total[kWords] = {};
  for (const V& one : per_cpu) {
    std::uint64_t words[kWords];
    std::memcpy(words, &one, sizeof words);
    for (std::size_t i = 0; i < kWords; ++i) total[i] += words[i];
  }
  V result;
  std::memcpy(&result, total, sizeof result);
  return result;
}

}  // namespace sluice::datapath
