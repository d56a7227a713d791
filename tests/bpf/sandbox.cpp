// SPDX-License-Identifier: Apache-2.0
#include "tests/bpf/sandbox.h"

#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <numeric>
#include <set>
#include <stdexcept>
#include <utility>

#include "arrival.skel.h"
#include "bridge.skel.h"
#include "common/netlink.h"
#include "deliver.skel.h"
#include "entry.skel.h"
#include "nat.skel.h"
#include "probe.skel.h"
#include "refuse.skel.h"
#include "router.skel.h"

namespace sluice::bpftest {
namespace {

Interfaces made;
std::string folder;  // a bpffs
std::vector<Object> loaded;

template <typename T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

// One network namespace, mount namespace and bpffs for the whole run; they end with the process.
class Sandbox : public ::testing::Environment {
 public:
  void SetUp() override {
    libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
    need(unshare(CLONE_NEWNET | CLONE_NEWNS) == 0, "these tests need root: unshare");
    need(mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0, "mount --make-private");
    char name[] = "/tmp/sluice-bpf-tests-XXXXXX";
    need(mkdtemp(name) != nullptr, "mkdtemp");
    folder = name;
    need(mount("bpf", name, "bpf", 0, nullptr) == 0, "mount bpffs");
    auto netlink = must(NetlinkSocket::make());
    made.pod_a = add(netlink, "podA");
    made.pod_b = add(netlink, "podB");
    made.stranger = add(netlink, "stranger");
    made.uplink = add(netlink, "uplink");
    made.host = add(netlink, "host");
    made.net = must(netlink.link("host-peer")).index;
    LinkChange forwarding;
    forwarding.ipv4_forwarding = true;
    must(netlink.change_link(made.host, forwarding));
    must(netlink.add_address({made.uplink, must(Address::parse("192.0.2.1")), 24}));
    Route world;
    world.destination = must(Prefix::parse("0.0.0.0/0"));
    world.gateway = must(Address::parse("192.0.2.254"));
    world.link_index = made.uplink;
    must(netlink.replace_route(world));
    const auto mac = must(netlink.link(made.uplink)).mac.bytes();
    name_mac("uplink", Bytes(mac.begin(), mac.end()));
  }
  void TearDown() override {
    loaded.clear();
    umount2(folder.c_str(), MNT_DETACH);
    rmdir(folder.c_str());
  }

 private:
  static int add(NetlinkSocket& netlink, const std::string& name) {
    must(netlink.add_veth(name, name + "-peer", -1));
    LinkChange up;
    up.up = true;
    must(netlink.change_link(must(netlink.link(name + "-peer")).index, up));
    const int index = must(netlink.link(name)).index;
    must(netlink.change_link(index, up));
    return index;
  }
};

[[maybe_unused]] const auto* const kSandbox = ::testing::AddGlobalTestEnvironment(new Sandbox);

// Writes all elements in one call, which Linux 5.10 can do for plain arrays only.
void zero_plain_array(int map, const bpf_map_info& about) {
  std::vector<std::uint32_t> keys(about.max_entries);
  std::iota(keys.begin(), keys.end(), 0U);
  const std::vector<char> zeros(std::size_t{about.max_entries} * about.value_size);
  std::uint32_t count = about.max_entries;
  need(bpf_map_update_batch(map, keys.data(), zeros.data(), &count, nullptr) == 0, about.name);
}

void zero_per_cpu_array(int map, const bpf_map_info& about) {
  const auto copies = static_cast<std::size_t>(libbpf_num_possible_cpus());
  const std::vector<char> zeros((about.value_size + 7) / 8 * 8 * copies);
  for (std::uint32_t key = 0; key < about.max_entries; ++key)
    need(bpf_map_update_elem(map, &key, zeros.data(), BPF_ANY) == 0, about.name);
}

void erase_all(int map, const bpf_map_info& about) {
  std::vector<char> key(about.key_size);
  while (bpf_map_get_next_key(map, nullptr, key.data()) == 0)
    need(bpf_map_delete_elem(map, key.data()) == 0, about.name);
}

// As it was when it was made.
void empty(int map) {
  // Of larger arrays (slots of Services, backends) only what another map refers to is read, and tests write
  // that first.
  constexpr std::uint32_t kEmptied = 1 << 16;
  bpf_map_info about{};
  std::uint32_t length = sizeof about;
  need(bpf_obj_get_info_by_fd(map, &about, &length) == 0, "bpf_obj_get_info_by_fd");
  switch (about.type) {
    case BPF_MAP_TYPE_RINGBUF: {
      ring_buffer* ring = ring_buffer__new(
          map, [](void*, void*, std::size_t) { return 0; }, nullptr, nullptr);
      need(ring != nullptr, "ring_buffer__new");
      ring_buffer__consume(ring);
      ring_buffer__free(ring);
      break;
    }
    case BPF_MAP_TYPE_PROG_ARRAY:
      for (std::uint32_t key = 0; key < about.max_entries; ++key) bpf_map_delete_elem(map, &key);
      break;
    case BPF_MAP_TYPE_ARRAY:
      if (about.max_entries <= kEmptied) zero_plain_array(map, about);
      break;
    case BPF_MAP_TYPE_PERCPU_ARRAY:
      zero_per_cpu_array(map, about);
      break;
    default:
      erase_all(map, about);
  }
}

void load_modules() {
  for (const auto& module :
       {entry_bpf__elf_bytes, nat_bpf__elf_bytes, bridge_bpf__elf_bytes, router_bpf__elf_bytes,
        refuse_bpf__elf_bytes, deliver_bpf__elf_bytes, probe_bpf__elf_bytes, arrival_bpf__elf_bytes}) {
    Object object = open_object(module);
    need(bpf_object__load(object.get()) == 0, "bpf_object__load");
    loaded.push_back(std::move(object));
  }
}

void empty_maps() {
  std::set<std::string> done;
  for (const Object& object : loaded) {
    const bpf_map* map = nullptr;
    bpf_object__for_each_map(
        map, object.get()) if (!bpf_map__is_internal(map) && done.insert(bpf_map__name(map)).second)
        empty(bpf_map__fd(map));
  }
}

}  // namespace

void need(bool done, const char* what) {
  if (!done) throw std::runtime_error(std::string(what) + ": " + strerror(errno));
}

const Interfaces& interfaces() { return made; }

const std::string& pins() { return folder; }

const std::vector<Object>& modules() { return loaded; }

void size_conntrack(const bpf_object* object) {
  for (const char* name : {"conntrack_groups", "conntrack"})
    if (bpf_map* map = bpf_object__find_map_by_name(object, name))
      bpf_map__set_max_entries(map, kConntrackGroups);
}

Object open_object(const void* (*elf_bytes)(std::size_t*)) {
  bpf_object_open_opts options{};
  options.sz = sizeof options;
  options.pin_root_path = folder.c_str();
  std::size_t size = 0;
  const void* bytes = elf_bytes(&size);
  Object object(bpf_object__open_mem(bytes, size, &options));
  need(object != nullptr, "bpf_object__open_mem");
  size_conntrack(object.get());
  return object;
}

void fresh_modules() {
  if (loaded.empty())
    load_modules();
  else
    empty_maps();
}

}  // namespace sluice::bpftest
