// SPDX-License-Identifier: Apache-2.0
// A BPF_F_MMAPABLE ARRAY of 64-bit words in memory that is shared with the programs.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <memory>

#include "common/result.h"
#include "daemon/datapath/map.h"

namespace sluice::datapath {

template <typename Word>
class SharedArray {
  static_assert(sizeof(Word) == 8, "the kernel rounds elements up to 8 bytes");

 public:
  [[nodiscard]] static Result<SharedArray> map(const RawMap& array) {
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t bytes = (array.max_entries() * sizeof(Word) + page - 1) / page * page;
    void* memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, array.fd(), 0);
    if (memory == MAP_FAILED) return failure_errno(errno, "map '" + array.name() + "' into memory");
    return SharedArray(static_cast<Word*>(memory), bytes);
  }
  [[nodiscard]] std::atomic_ref<Word> operator[](std::size_t index) const {
    return std::atomic_ref<Word>(words_.get()[index]);
  }

 private:
  struct Unmap {
    std::size_t bytes = 0;
    void operator()(Word* words) const { munmap(words, bytes); }
  };
  SharedArray(Word* words, std::size_t bytes) : words_(words, Unmap{bytes}) {}

  std::unique_ptr<Word, Unmap> words_;
};

}  // namespace sluice::datapath
