// SPDX-License-Identifier: Apache-2.0
// Loads every program of BPF objects alone and prints how many instructions this kernel's verifier processed
// for it.
//   sluice-verifier OBJECT...
// Fails where a program is refused, is not compiled by this kernel's JIT, or takes more than half of what the
// verifier processes at most: a change of the program, or a kernel that is worse at it, must find room.
#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>
#include <sys/mount.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace {

constexpr unsigned long kLimit = 1'000'000;  // BPF_COMPLEXITY_LIMIT_INSNS
constexpr unsigned long kMost = kLimit / 2;
constexpr unsigned kStatistics = 4, kInstructions = 1;  // the verifier's log levels

struct Closer {
  void operator()(bpf_object* object) const { bpf_object__close(object); }
};
using Object = std::unique_ptr<bpf_object, Closer>;

// Shared by all objects, as in the daemon; gone with the process.
std::string pins;

std::string warnings;
int collect(enum libbpf_print_level level, const char* format, va_list arguments) {
  if (level == LIBBPF_DEBUG) return 0;
  char line[4096];
  const int length = vsnprintf(line, sizeof line, format, arguments);
  warnings += line;
  return length;
}

// The firewall is made without what no rule uses; here with everything.
void switch_everything_on(const bpf_object* object) {
  const btf* types = bpf_object__btf(object);
  bpf_map* constants = bpf_object__find_map_by_name(object, ".rodata");
  const int id = types == nullptr ? -1 : btf__find_by_name_kind(types, ".rodata", BTF_KIND_DATASEC);
  if (constants == nullptr || id < 0) return;
  std::size_t size = 0;
  const auto* initial = static_cast<const char*>(bpf_map__initial_value(constants, &size));
  std::vector<char> values(initial, initial + size);
  const btf_type* section = btf__type_by_id(types, static_cast<unsigned>(id));
  const btf_var_secinfo* variable = btf_var_secinfos(section);
  for (int i = 0; i < btf_vlen(section); ++i, ++variable) {
    const std::string name = btf__name_by_offset(types, btf__type_by_id(types, variable->type)->name_off);
    if (name.starts_with("uses_")) values[variable->offset] = 1;
  }
  bpf_map__set_initial_value(constants, values.data(), values.size());
}

Object open(const std::string& file) {
  LIBBPF_OPTS(bpf_object_open_opts, options, .pin_root_path = pins.c_str());
  Object object(bpf_object__open_file(file.c_str(), &options));
  if (!object) std::fprintf(stderr, "sluice-verifier: %s: %s\n", file.c_str(), strerror(errno));
  return object;
}

struct Outcome {
  int error = 0;
  std::string log;
  std::uint32_t machine_code = 0;  // bytes of it
};

std::uint32_t machine_code_of(const bpf_program* program) {
  bpf_prog_info info{};
  std::uint32_t size = sizeof info;
  return bpf_obj_get_info_by_fd(bpf_program__fd(program), &info, &size) == 0 ? info.jited_prog_len : 0;
}

Outcome load(const std::string& file, const std::string& name, unsigned level, std::vector<char>& buffer) {
  const Object object = open(file);
  if (!object) return {errno, ""};
  switch_everything_on(object.get());
  const bpf_program* loaded = nullptr;
  bpf_program* each = nullptr;
  bpf_object__for_each_program(each, object.get()) {
    const bool wanted = name == bpf_program__name(each);
    bpf_program__set_autoload(each, wanted);
    if (!wanted) continue;
    loaded = each;
    bpf_program__set_log_level(each, level);
    bpf_program__set_log_buf(each, buffer.data(), buffer.size());
  }
  buffer[0] = '\0';
  const int error = bpf_object__load(object.get());
  return {error, buffer.data(), error == 0 ? machine_code_of(loaded) : 0};
}

std::optional<unsigned long> processed(const std::string& log) {
  const auto at = log.rfind("processed ");
  if (at == std::string::npos) return std::nullopt;
  return std::strtoul(log.c_str() + at + std::strlen("processed "), nullptr, 10);
}

bool verify(const std::string& file, const std::string& name) {
  std::vector<char> buffer(1 << 16);
  warnings.clear();
  const auto first = load(file, name, kStatistics, buffer);
  if (first.error != 0) {
    buffer.resize(128 << 20);  // old kernels give up where the log has no room
    const auto again = load(file, name, kInstructions, buffer);
    constexpr std::size_t kShown = 2000;
    const auto& log = again.log;
    std::printf("FAILED  %-24s refused: %s\n%s\n%s\n", name.c_str(), strerror(-first.error),
                log.substr(log.size() > kShown ? log.size() - kShown : 0).c_str(), warnings.c_str());
    return false;
  }
  const auto count = processed(first.log);
  const bool good = count && *count <= kMost && warnings.empty() && first.machine_code > 0;
  std::printf("%s  %-24s %7lu instructions processed, %.1f%% of the limit; %u bytes of machine code\n",
              good ? "passed" : "FAILED", name.c_str(), count.value_or(0),
              100.0 * static_cast<double>(count.value_or(0)) / kLimit, first.machine_code);
  if (!warnings.empty()) std::printf("libbpf warns: %s\n", warnings.c_str());
  if (!count) std::printf("the verifier did not tell: %s\n", first.log.c_str());
  return good;
}

std::vector<std::string> programs_of(const std::string& file) {
  std::vector<std::string> names;
  const Object object = open(file);
  if (!object) return names;
  bpf_program* each = nullptr;
  bpf_object__for_each_program(each, object.get()) names.emplace_back(bpf_program__name(each));
  return names;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    std::fputs("usage: sluice-verifier OBJECT...\n", stderr);
    return 2;
  }
  libbpf_set_strict_mode(LIBBPF_STRICT_ALL);
  libbpf_set_print(collect);
  char folder[] = "/tmp/sluice-verifier-XXXXXX";
  if (mkdtemp(folder) == nullptr || mount("bpf", folder, "bpf", 0, nullptr) != 0) {
    std::perror("sluice-verifier: mount a bpffs");
    return 2;
  }
  pins = folder;
  int passed = 0, failed = 0;
  for (int i = 1; i < argc; ++i) {
    const auto names = programs_of(argv[i]);
    if (names.empty()) ++failed;  // told by open()
    for (const auto& name : names) ++(verify(argv[i], name) ? passed : failed);
  }
  umount2(folder, MNT_DETACH);
  rmdir(folder);
  std::printf("%d passed, %d failed\n", passed, failed);
  return failed == 0 ? 0 : 1;
}
